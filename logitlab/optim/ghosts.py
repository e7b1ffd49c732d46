"""Trust radii of cross-entropy: how far along an update its Taylor series converges.

Along a line the partition function of a softmax is a sum of exponentials, and has zeros
at complex distances. The nearest of them ("ghost") bounds the radius within which any
Taylor model of the loss, a gradient's among them, says something about the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics import tree_norm
from logitlab.numerics.arguments import check_range

__all__ = [
    "GhostState",
    "cap_by_ghost_radius",
    "exact_binary_radius",
    "ghost_radius",
    "hold_masked",
    "logit_slopes",
    "normalized_step",
]

REDUCTIONS = ("max", "per_example")


def logit_slopes(
    logits_fn: Callable[[Any], jax.Array], params: Any, updates: Any
) -> jax.Array:
    r"""Derivative of the logits along an update, by one forward-mode pass.

    .. math:: a = J_z \, p

    Args:
      logits_fn: params -> logits [..., C], with the batch closed over.
      params: a pytree; leaves that are not floating point do not move.
      updates: what is to be added to the params, laid out as they are.

    Returns:
      Slopes [..., C], float32 (float64 for float64 logits).

    Source: Ghosts of Softmax, 2026, arXiv:2603.13552.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import logit_slopes
    >>> logit_slopes(lambda w: w**2, jnp.float32([1, 3]), jnp.float32([1, -1]))
    Array([ 2., -6.], dtype=float32)
    """

    def tangent(update, param):
        dtype = jnp.result_type(param)
        if not jnp.issubdtype(dtype, jnp.floating):
            return np.zeros(jnp.shape(param), jax.dtypes.float0)
        return jnp.asarray(update).astype(dtype)

    params = jax.tree.map(jnp.asarray, params)
    along = jax.tree.map(tangent, updates, params)
    slopes = jax.jvp(logits_fn, (params,), (along,))[1]
    return numerics.promote_to_float32(slopes, "the logits")


def _spreads(slopes):
    """Largest slope less the smallest, by example."""
    return slopes.max(-1) - slopes.min(-1)


def _check_reduce(reduce):
    if isinstance(reduce, str):
        if reduce not in REDUCTIONS:
            raise ValueError(
                f"reduce is {reduce!r}, expected one of {', '.join(REDUCTIONS)}, or a "
                "quantile in [0, 1]"
            )
        return
    check_range("reduce", reduce, lambda q: (q >= 0) & (q <= 1), "a quantile in [0, 1]")


def _reduced(spreads, reduce):
    """Of all examples; NaN if one is, which the maximum of XLA need not say."""
    if isinstance(reduce, str) and reduce == "per_example":
        return spreads
    finite = jnp.isfinite(spreads).all()
    if isinstance(reduce, str):
        value = jnp.max(spreads, initial=0)
    else:
        value = jnp.quantile(spreads, jnp.asarray(reduce, spreads.dtype))
    return jnp.where(finite, value, jnp.nan)


def normalized_step(
    logits_fn: Callable[[Any], jax.Array],
    params: Any,
    updates: Any,
    *,
    temperature: ArrayLike = 1.0,
    reduce: str | ArrayLike = "max",
) -> jax.Array:
    r"""Length of an update over the ghost radius along it.

    Use it to judge a step before it is taken: below 1 the loss's own series converges.

    .. math:: r = \frac{\lVert p \rVert}{\rho_a}
        = \max_x \frac{\max_c a_c(x) - \min_c a_c(x)}{\pi T}, \qquad a = J_z \, p

    which needs no norm, so an update of any scale is fine.

    Args:
      logits_fn: params -> logits [..., C], before they are divided by a temperature.
      params: a pytree.
      updates: what is to be added to the params.
      temperature: T, which divides the logits in the loss.
      reduce: ``"max"`` over the examples, ``"per_example"``, or a quantile in [0, 1].

    Returns:
      A number without a unit; [...] per example. NaN where a slope is not finite.

    Raises:
      ValueError: ``temperature`` is not positive, or ``reduce`` is no such thing.

    Numerics: the network is taken as linear along the update, which is exact to first
      order; kinks of ReLUs make the radius a heuristic.

    Source: Ghosts of Softmax, 2026, arXiv:2603.13552.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import normalized_step
    >>> w, p = jnp.float32([2, 0, -1]), jnp.float32([1, -2, 0])
    >>> print(f"{normalized_step(lambda w: w[None], w, p):.4f}")  # 3 / pi
    0.9549
    """
    check_range("temperature", temperature, lambda t: t > 0, "positive")
    _check_reduce(reduce)
    spreads = _spreads(logit_slopes(logits_fn, params, updates))
    t = jnp.asarray(temperature, spreads.dtype)
    return _reduced(spreads, reduce) / (jnp.pi * t)


def ghost_radius(
    logits_fn: Callable[[Any], jax.Array],
    params: Any,
    direction: Any,
    *,
    temperature: ArrayLike = 1.0,
    reduce: str | ArrayLike = "max",
) -> jax.Array:
    r"""Distance along a direction within which cross-entropy's series converges.

    Use it as a diagnostic of learning rates and temperatures.

    .. math:: \rho_a = \frac{\pi T}{\max_x (\max_c a_c(x) - \min_c a_c(x))}, \qquad
        a = J_z \frac{v}{\lVert v \rVert}

    A lower bound of the distance of the nearest complex zero of the partition function:
    nearer, all of its terms lie in an open half-plane. It does not depend on the logits
    themselves, as :func:`exact_binary_radius` does.

    Args:
      logits_fn: params -> logits [..., C], before they are divided by a temperature.
      params: a pytree.
      direction: a pytree like the params, of any length.
      temperature: T.
      reduce: ``"max"`` takes the widest spread of all examples, hence the smallest
        radius; ``"per_example"``; or the quantile of the spreads, in [0, 1].

    Returns:
      In the unit of the params; [...] per example. ``inf`` where no logit moves
      against another one, NaN where a slope is not finite.

    Raises:
      ValueError: ``temperature`` is not positive, or ``reduce`` is no such thing.

    Source: Ghosts of Softmax, 2026, arXiv:2603.13552.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import ghost_radius
    >>> w, v = jnp.float32([2, 0, -1]), jnp.float32([1, -2, 0])
    >>> ghost_radius(lambda w: w[None], w, v / jnp.sqrt(5.0)).round(4)  # sqrt(5) pi / 3
    Array(2.3416, dtype=float32)
    """
    step = normalized_step(
        logits_fn, params, direction, temperature=temperature, reduce=reduce
    )
    return tree_norm(direction).astype(step.dtype) / step


def exact_binary_radius(logits: ArrayLike, slopes: ArrayLike) -> jax.Array:
    r"""Distance of the nearest complex zero of a partition function of two classes.

    Use it where the margin matters: a confident example lets a step go further.

    .. math:: \rho^* = \frac{\sqrt{\delta^2 + \pi^2}}{\Delta}, \qquad
        \delta = z_{(1)} - z_{(2)}, \quad \Delta = |a_{(1)} - a_{(2)}|

    with the two classes that have the highest logits. Exact for two classes, an
    estimate for more, which may lie on either side.

    Shapes: logits [..., C], slopes [..., C] -> [...]

    Args:
      logits: z, of at least two classes.
      slopes: a, those of :func:`logit_slopes`.

    Returns:
      In steps along the direction of the slopes; ``inf`` where the two move alike.

    Raises:
      ValueError: the shapes differ, or there is one class only.

    Source: Ghosts of Softmax, 2026, arXiv:2603.13552.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import exact_binary_radius
    >>> exact_binary_radius(jnp.float32([2, 0]), jnp.float32([1, -2])).round(4)
    Array(1.2414, dtype=float32)
    """
    z = numerics.promote_to_float32(logits, "logits")
    a = numerics.promote_to_float32(slopes, "slopes")
    if z.shape != a.shape or z.ndim < 1 or z.shape[-1] < 2:
        raise ValueError(
            f"logits have shape {z.shape} and slopes {a.shape}, expected one shape "
            "[..., C] with at least two classes"
        )
    top, at = jax.lax.top_k(z, 2)
    slopes = jnp.take_along_axis(a, at, -1)
    margin, gap = top[..., 0] - top[..., 1], jnp.abs(slopes[..., 0] - slopes[..., 1])
    return jnp.hypot(margin, jnp.asarray(jnp.pi, z.dtype)) / gap


class GhostState(NamedTuple):
    """State of :func:`cap_by_ghost_radius`.

    Attributes:
      r: normalized length of the last update, before it was scaled.
      scale: what it was multiplied by.
      capped: how many updates were shortened.
      refused: how many became 0, for not being finite.
    """

    r: jax.Array
    scale: jax.Array
    capped: jax.Array
    refused: jax.Array


def cap_by_ghost_radius(
    target_r: ArrayLike = 1.0, *, quantile: ArrayLike | None = None
) -> optax.GradientTransformationExtraArgs:
    r"""Shortens updates to the radius within which cross-entropy's series converges.

    Use it in place of clipping gradients: a learning rate that is 1000 times too large
    costs steps and not the run.

    .. math:: p \leftarrow p \min\Bigl(1, \frac{R}{r}\Bigr), \qquad
        r = \max_x \frac{\max_c a_c(x) - \min_c a_c(x)}{\pi}, \quad a = J_z \, p

    Goes last in a chain, where p is what is added to the params:
    ``optax.chain(optax.adam(1e-3), cap_by_ghost_radius())``. Needs ``params``, and
    ``update(..., logits_fn=)``, params -> logits [..., C] on a batch; a ``Run`` passes
    it by ``extra_args``. Where ``optax.masked`` or ``multi_transform`` hand on a part
    of the params, wrap it by :func:`hold_masked`. An update that is not finite, or
    whose slopes are not, becomes 0 and is counted in ``refused``. Dtypes survive.

    Args:
      target_r: R; 0.5 is cautious, 1 best in the paper, 4 harmful.
      quantile: of the spreads of the examples in place of their maximum, 0.99 say.

    Raises:
      ValueError: ``target_r`` is not positive, ``quantile`` outside [0, 1], or
        ``update`` gets no params.
      TypeError: ``update`` gets no ``logits_fn``.

    Numerics: one forward-mode derivative of the logits, in their dtype, the spread in
      float32. A maximum over fewer examples is larger a radius, and less safe.

    Source: Ghosts of Softmax, 2026, arXiv:2603.13552.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import cap_by_ghost_radius
    >>> transform, w = cap_by_ghost_radius(), jnp.zeros((1, 2))
    >>> p = jnp.float32([[20, 0]])
    >>> capped, state = transform.update(p, transform.init(w), w, logits_fn=lambda w: w)
    >>> capped.round(4), state.r.round(4)
    (Array([[3.1416, 0.    ]], dtype=float32), Array(6.3662, dtype=float32))
    """
    check_range("target_r", target_r, lambda r: r > 0, "positive")
    if quantile is not None:
        _check_reduce(quantile)

    def init(params):
        del params
        zero = jnp.zeros((), jnp.int32)
        return GhostState(
            jnp.zeros((), jnp.float32), jnp.ones((), jnp.float32), zero, zero
        )

    def update(updates, state, params=None, *, logits_fn, **extra):
        del extra
        if params is None:
            raise ValueError(
                "cap_by_ghost_radius needs params: update(grads, state, params, "
                "logits_fn=...)"
            )
        reduce = "max" if quantile is None else quantile
        r = normalized_step(logits_fn, params, updates, reduce=reduce)
        limit = jnp.asarray(target_r, r.dtype)
        leaves = [jnp.isfinite(u).all() for u in jax.tree.leaves(updates)]
        fine = jnp.all(jnp.stack([jnp.isfinite(r), *leaves]))
        capped = fine & (r > limit)
        scale = jnp.where(capped, limit / jnp.where(capped, r, 1), 1)

        def shorten(u):
            wide = jnp.promote_types(u.dtype, jnp.float32)
            short = (scale.astype(wide) * u.astype(wide)).astype(u.dtype)
            return jnp.where(fine, short, jnp.zeros((), u.dtype))

        state = GhostState(
            r=r.astype(jnp.float32),
            scale=jnp.where(fine, scale, 0).astype(jnp.float32),
            capped=state.capped + capped,
            refused=state.refused + ~fine,
        )
        return jax.tree.map(shorten, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


def hold_masked(
    logits_fn: Callable[[Any], jax.Array], params: Any
) -> Callable[[Any], jax.Array]:
    """A function of params that takes those which a mask hides from elsewhere.

    Use it for ``logits_fn`` inside of ``optax.masked`` and ``multi_transform``, which
    put a placeholder in the place of the params that are not theirs.

    Args:
      logits_fn: params -> logits.
      params: all of them, by which placeholders are filled.

    Returns:
      A function of params, some of which may be ``optax.MaskedNode()``.

    >>> import jax.numpy as jnp
    >>> import optax
    >>> from logitlab.optim import hold_masked
    >>> whole = {"a": jnp.ones(2), "b": jnp.zeros(2)}
    >>> part = whole | {"b": optax.MaskedNode()}
    >>> hold_masked(lambda w: w["a"] + w["b"], whole)(part)
    Array([1., 1.], dtype=float32)
    """

    def is_masked(node):
        return isinstance(node, optax.MaskedNode)

    def fill(part, whole):
        return whole if is_masked(part) else part

    def with_all(part):
        return logits_fn(jax.tree.map(fill, part, params, is_leaf=is_masked))

    return with_all
