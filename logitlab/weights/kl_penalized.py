"""Weights of examples in the worst distribution near the uniform one."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import hyper
from logitlab.weights.normalizers import meco_update

__all__ = [
    "CompositionalDRO",
    "compositional_dro_state",
    "compositional_dro_update",
    "kl_dro_weights",
]


class CompositionalDRO(NamedTuple):
    """What ``compositional_dro_update`` remembers.

    Attributes:
      log_u: log of the running mean of ``exp(losses / r)``, []; ``-inf`` before the
        first batch.
    """

    log_u: jax.Array


def kl_dro_weights(
    losses: ArrayLike, *, r: ArrayLike, mask: ArrayLike | None = None
) -> jax.Array:
    r"""Weights of a batch's losses in the worst case, penalized by KL; they sum to 1.

    .. math:: w = \mathrm{softmax}(\ell / r)

    the weights with which ``losses.kl_dro_loss`` takes the mean, without a gradient.

    Shapes: losses [...], mask [...] -> [...]

    Args:
      losses: one per example.
      r: positive: equal weights towards infinity, all on the largest loss towards 0.
      mask: bool, the examples that take part; the others weigh 0.

    Returns:
      float32 (float64 for float64 losses). Infinite losses share all of the weight.

    Raises:
      TypeError: ``losses`` is not floating point, or ``mask`` not bool.
      ValueError: the shapes disagree, or ``r`` is not positive.

    Source: doubly robust instance-reweighted adversarial training, Sow et al. 2024,
      arXiv:2308.00311.

    >>> import jax.numpy as jnp
    >>> from logitlab.weights import kl_dro_weights
    >>> kl_dro_weights(jnp.float32([1, 2, 3]), r=1.0).round(4)
    Array([0.09  , 0.2447, 0.6652], dtype=float32)
    """
    x, keep = kept_losses(losses, mask)
    r = hyper("r", r, x.dtype, lambda r: r > 0, "positive")
    w = jax.lax.stop_gradient(soft_worst_weights(x, keep, r))
    return w.reshape(jnp.shape(losses))


def compositional_dro_state() -> CompositionalDRO:
    """The state before the first batch.

    >>> from logitlab.weights import compositional_dro_state
    >>> compositional_dro_state()
    CompositionalDRO(log_u=Array(-inf, dtype=float32))
    """
    return CompositionalDRO(jnp.full((), -jnp.inf, jnp.float32))


def compositional_dro_update(
    state: CompositionalDRO,
    losses: ArrayLike,
    *,
    r: ArrayLike,
    rate: ArrayLike,
    mask: ArrayLike | None = None,
) -> tuple[jax.Array, CompositionalDRO]:
    r"""Weights of a batch's losses in the worst case over all batches.

    Use it when batches are small: ``kl_dro_weights`` of each compare its examples with
    one another alone, and a batch of easy ones counts as much as one of hard ones.

    .. math:: u \leftarrow (1 - \eta) u + \eta \, \frac1n \sum_i e^{\ell_i / r}, \quad
        w_i = \frac{e^{\ell_i / r}}{n u}

    Descend ``sum(weights * losses)``, without a gradient in the weights. At a ``rate``
    of 1 they are ``kl_dro_weights``.

    Shapes: losses [...], mask [...] -> [...], []

    Args:
      state: that of the step before, or ``compositional_dro_state()``.
      losses: one per example.
      r: positive, as in ``kl_dro_weights``; change it and the state means nothing.
      rate: eta, in (0, 1].
      mask: bool, the examples that take part; the others weigh 0.

    Returns:
      The weights, float32 (float64 for float64 losses), whose sum is 1 on average and
      at most ``1 / rate``; and the new state, the old one without examples.

    Raises:
      TypeError: ``losses`` is not floating point, or ``mask`` not bool.
      ValueError: the shapes disagree, ``r`` is not positive or ``rate`` outside (0, 1].

    Numerics: only the log of the mean is kept: nothing overflows. Relative error of the
      weights below 1e-7 times the largest ``losses / r``.

    Source: doubly robust instance-reweighted adversarial training, Sow et al. 2024,
      arXiv:2308.00311.

    >>> import jax.numpy as jnp
    >>> from logitlab import weights
    >>> state = weights.compositional_dro_state()
    >>> easy, hard = jnp.float32([0, 0]), jnp.float32([2, 2])
    >>> w, state = weights.compositional_dro_update(state, easy, r=1.0, rate=0.1)
    >>> weights.compositional_dro_update(state, hard, r=1.0, rate=0.1)[0].round(2)
    Array([2.25, 2.25], dtype=float32)
    """
    x, keep = kept_losses(losses, mask)
    r = hyper("r", r, x.dtype, lambda r: r > 0, "positive")
    scaled = jax.lax.stop_gradient(x) / r
    options = dict(gamma=rate, noise_mask=keep)
    batch = meco_update(None, scaled, jnp.zeros_like(scaled), **options)
    log_u = meco_update(state.log_u, scaled, jnp.zeros_like(scaled), **options)
    log_u = jnp.where(jnp.isneginf(state.log_u), batch, log_u)
    n = jnp.maximum(jnp.sum(keep), 1).astype(x.dtype)
    none = jnp.isneginf(log_u)  # no example has come yet
    w = jnp.where(keep, jnp.exp(scaled - jnp.where(none, 0, log_u)) / n, 0)
    new = CompositionalDRO(log_u.astype(state.log_u.dtype))
    return w.reshape(jnp.shape(losses)), new


def kept_losses(losses, mask):
    """Losses on one axis, 0 where the mask leaves them out, and that mask.

    Shapes: losses [...], mask [...] -> [N], [N]
    """
    x = numerics.promote_to_float32(losses, "losses")
    keep = numerics.check_mask(mask, x.shape).ravel()
    return jnp.where(keep, x.ravel(), 0), keep


def largest_kept(x, keep):
    """The largest loss, 0 without any, and how far the others are below it.

    Shapes: x [N], keep [N] -> [], [N]
    """
    top = jnp.max(jnp.where(keep, x, -jnp.inf), initial=-jnp.inf)
    top = jnp.where(keep.any(), top, 0)
    return top, jnp.where(x == top, 0, x - top)  # of infinite ones too


def soft_worst_weights(x, keep, r):
    """``softmax(x / r)`` over what is kept, with the gradient of a softmax.

    Shapes: x [N], keep [N], r [] -> [N]
    """
    _, gap = largest_kept(x, keep)
    return numerics.softmax(gap / r, where=keep)
