"""Statistics of logits that exist, a part of each row on every device."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.heads import _sharding
from logitlab.heads._blocks import is_label
from logitlab.heads._operands import OF_TOKENS, takes_no_mask
from logitlab.heads._row_stats import (
    LabelStats,
    finish,
    merge_devices,
    seen_in,
    slope_rule,
)

__all__ = ["vocab_parallel_label_stats"]


@takes_no_mask(OF_TOKENS)
def vocab_parallel_label_stats(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis_name: str | tuple[str, ...],
    where: ArrayLike | None = None,
    shard_start: ArrayLike | None = None,
) -> LabelStats:
    r"""Label statistics of logits whose classes are sharded over a mesh axis.

    .. math:: \log p_y, \; \log \sum_c e^{z_c}, \; -\sum_c p_c \log p_c, \;
        \sum_c z_c, \; -\sum_c \log p_c

    For models whose last layer leaves each device its own classes' logits, inside a
    ``shard_map``. Devices exchange a few numbers for each row, in the gradient none.

    Args:
      logits: [..., C / P], the device's own classes.
      labels: [...], ints in ``[0, C)``, the same on all devices of the axis.
      axis_name: the mesh axis, or axes, that the classes are spread over.
      where: bool, [..., C / P], the device's own classes that take part: not those that
        only pad C to a multiple of P.
      shard_start: number of the device's first class; by default all devices hold as
        many, in their order.

    Returns:
      A :class:`LabelStats` of shape [...], the same on all devices of the axis, float32
      (float64 for float64 logits), in nats. A label that no device has gives a
      log-probability of NaN.

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` not integer, ``where`` not
        bool.
      ValueError: shapes that do not fit, no ``shard_map`` with such an axis around it,
        or logits that are the same along it.

    Numerics: as :func:`linear_label_stats`.

    Source: Shoeybi et al. 2019, arXiv:1909.08053.
    """
    z = numerics.prepare_logits(logits, where=where)
    place = _sharding.class_mesh(z, z, axis_name, None, transposed=False)
    if place.mesh is not None:
        raise ValueError(
            f"axis_name is {axis_name!r} outside of a shard_map; expected it inside of "
            "one, or losses of the whole logits"
        )
    batch, size = z.shape[:-1], z.shape[-1]
    y = numerics.wide_labels(labels, "labels")
    if y.shape != batch:
        raise ValueError(f"labels has shape {y.shape}, expected {batch}")
    first = shard_start
    if first is None:
        first = jax.lax.axis_index(place.classes) * size
    first = jnp.asarray(first, jnp.int32)
    rows, y = _sharding.vary_alike((z.reshape(-1, size), y.reshape(-1)))

    def see(z, y, first):
        seen = seen_in(z, 1, is_label(y, first, size), first, stored=False)
        return merge_devices(seen, place.classes)

    # Exact: merging devices takes a pmax, which JAX does not differentiate.
    @jax.custom_vjp
    def run(z, y, first):
        return finish(see(z, y, first))

    def forward(*primals):
        operands = [primal.value for primal in primals]
        seen = see(*operands)
        return finish(seen), (*operands, seen)

    def backward(kept, cotangents):
        slopes = [None if isinstance(c, SymbolicZero) else c for c in cotangents[:5]]
        kept, slopes = _sharding.vary_alike((kept, slopes))
        z, y, first, seen = kept
        mine, lead = (is_label(k, first, size) for k in (y, seen.argmax))
        g = slope_rule(slopes, seen)(z, 1, mine, lead)
        return g, None, None

    run.defvjp(forward, backward, symbolic_zeros=True)
    stats = _sharding.compiled_inside(run)(rows, y, first)
    # The weights of the label, 1 on the device that has it, were added up too.
    log_p = jnp.where(stats.label_weight == 1, stats.log_prob, jnp.nan)
    stats = stats._replace(log_prob=log_p)
    return jax.tree.map(lambda a: a.reshape(batch), stats)
