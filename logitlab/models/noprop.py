"""NoProp: blocks that denoise the label, each trained without the others."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from logitlab.numerics.arguments import check_count

__all__ = ["NoPropSchedule", "noprop_forward", "noprop_schedule"]


class NoPropSchedule(NamedTuple):
    """Noise levels of T blocks, and what their updates are made of.

    Attributes:
      alpha_bar: share of the label in the variance of the latents, growing, [T + 1].
      a: weights of the blocks' predictions, [T].
      b: weights of the latents before, [T].
      c: variances of the fresh noise, [T].
      snr_diff: what each block adds to the signal-to-noise ratio, [T].
    """

    alpha_bar: jax.Array
    a: jax.Array
    b: jax.Array
    c: jax.Array
    snr_diff: jax.Array


def noprop_schedule(
    steps: int, *, low: float = 1e-4, high: float = 0.9999
) -> NoPropSchedule:
    r"""The cosine schedule of NoProp with T blocks.

    .. math:: \bar\alpha_t = \cos^2\bigl(\tfrac\pi2 (1 - t / T)\bigr), \quad
        z_t = a_t \hat u_t(z_{t-1}, x) + b_t z_{t-1} + \sqrt{c_t}\, \epsilon

    with weights by which :math:`z_t \sim N(\sqrt{\bar\alpha_t}\, u, 1 - \bar\alpha_t)`
    follows from :math:`z_{t-1}` where the prediction is the label's embedding u:

    .. math:: a_t = \frac{\sqrt{\bar\alpha_t} (1 - \alpha)}{1 - \bar\alpha_{t-1}}, \quad
        b_t = \frac{\sqrt\alpha (1 - \bar\alpha_t)}{1 - \bar\alpha_{t-1}}, \quad
        c_t = \frac{(1 - \bar\alpha_t) (1 - \alpha)}{1 - \bar\alpha_{t-1}}, \quad
        \alpha = \frac{\bar\alpha_{t-1}}{\bar\alpha_t}

    Args:
      steps: T, static, at least 1.
      low: the least level; at 0 the first latent would not know the label at all.
      high: the largest, below 1, where the signal-to-noise ratio is infinite.

    Raises:
      ValueError: ``steps`` is below 1, or not 0 <= ``low`` < ``high`` < 1.

    Source: NoProp, Li, Teh and Pascanu 2025, arXiv:2503.24322.

    >>> from logitlab.models import noprop_schedule
    >>> print(noprop_schedule(2).alpha_bar)
    [1.000e-04 5.000e-01 9.999e-01]
    """
    check_count("steps", steps)
    if not 0 <= low < high < 1:
        raise ValueError(f"low is {low} and high {high}, expected 0 <= low < high < 1")
    t = np.arange(steps + 1) / steps
    bar = np.clip(np.cos(np.pi / 2 * (1 - t)) ** 2, low, high)
    before, after, alpha = bar[:-1], bar[1:], bar[:-1] / bar[1:]
    ratio = bar / (1 - bar)
    return NoPropSchedule(
        *map(
            jnp.asarray,
            (
                bar.astype(float),
                np.sqrt(after) * (1 - alpha) / (1 - before),
                np.sqrt(alpha) * (1 - after) / (1 - before),
                (1 - after) * (1 - alpha) / (1 - before),
                np.diff(ratio),
            ),
        )
    )


def noprop_forward(
    block_fn: Callable[[Any, jax.Array], jax.Array],
    blocks: Any,
    key: jax.Array,
    *,
    schedule: NoPropSchedule,
    shape: tuple[int, ...],
    last_noise: bool = False,
) -> tuple[jax.Array, jax.Array]:
    """Latents that trained blocks make of noise, one after another.

    Args:
      block_fn: (parameters of a block, latents [B, D]) -> predicted embeddings [B, D];
        it holds the inputs x.
      blocks: parameters of all blocks, with T in front of each array.
      key: of ``jax.random``, for the first latents and the noise of each step.
      schedule: of :func:`noprop_schedule`.
      shape: of the latents, [B, D].
      last_noise: whether the last step adds noise too.

    Returns:
      The last latents [B, D], which a linear layer reads, and what each block predicted
      [T, B, D].

    Raises:
      ValueError: ``blocks`` are not as many as the schedule has.

    Source: NoProp, Li, Teh and Pascanu 2025, arXiv:2503.24322.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.models import noprop_forward, noprop_schedule
    >>> z, u_hat = noprop_forward(
    ...     lambda shift, z: shift + 0 * z,
    ...     jnp.ones((5, 1, 3)),
    ...     jax.random.key(0),
    ...     schedule=noprop_schedule(5),
    ...     shape=(2, 3),
    ... )
    >>> z.shape, u_hat.shape
    ((2, 3), (5, 2, 3))
    """
    steps = len(schedule.a)
    lengths = {leaf.shape[:1] for leaf in jax.tree.leaves(blocks)}
    if lengths != {(steps,)}:
        raise ValueError(
            f"blocks have arrays of {sorted(lengths)} in front, expected {(steps,)}"
        )
    dtype = schedule.a.dtype
    first, *keys = jax.random.split(key, steps + 1)
    noise = jnp.sqrt(schedule.c)
    if not last_noise:
        noise = noise.at[-1].set(0)

    def advance(z, block):
        params, key, a, b, deviation = block
        u_hat = block_fn(params, z)
        fresh = jax.random.normal(key, shape, dtype)
        return (a * u_hat + b * z + deviation * fresh).astype(dtype), u_hat

    start = jax.random.normal(first, shape, dtype)
    each = blocks, jnp.stack(keys), schedule.a, schedule.b, noise
    return jax.lax.scan(advance, start, each)
