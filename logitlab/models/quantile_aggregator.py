"""Aggregates the quantiles that several models predict."""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from logitlab import estimators, numerics

KINDS = ("coarse", "medium", "fine")
ORDERS = {
    "average": estimators.monotone_average,
    "cummax": estimators.monotone_cummax,
    "isotonic": estimators.monotone_isotonic,
    "sort": estimators.monotone_sort,
    "sweep": estimators.monotone_sweep,
}


class QuantileAggregator(nn.Module):
    """Weighs the quantiles [..., K, Q] of K models into quantiles [..., Q].

    The weights are parameters (global), or, with ``widths``, what a network makes of
    the example's features (local): ``estimators.quantile_aggregation`` in either case.
    It starts as the plain average that the kind has, and is trained by
    ``losses.pinball_loss`` plus, without ``order``, ``losses.crossing_penalty``.

    Fields:
      kind: one weight per model ("coarse"), per model and level ("medium"), or per
        model and pair of levels, so that every output level mixes all ("fine").
      widths: of the network's ELU layers, ``hidden_0``, ...; the paper has 2 or 3 of 64
        or 128. Without any, the weights are the same for all examples.
      order: the monotone map that ends it, "sort", "isotonic", "sweep", "cummax",
        "average", as in ``estimators.monotone_sort``, or None. Sorting and isotonic
        fits never raise the summed pinball loss.
      param_dtype: of the parameters, also under x64.

    Source: Fakoor et al. 2023, arXiv:2103.00083.

    >>> import jax.numpy as jnp
    >>> from logitlab.models.quantile_aggregator import QuantileAggregator
    >>> import jax
    >>> model, base = QuantileAggregator("coarse"), jnp.float32([[0, 1], [2, 3]])
    >>> model.apply(model.init(jax.random.key(0), base), base)
    Array([1., 2.], dtype=float32)
    """

    kind: str = "fine"
    widths: Sequence[int] = ()
    order: str | None = None
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, base: ArrayLike, x: ArrayLike | None = None) -> Array:
        """Returns quantiles, float32 (float64 for float64 ``base``).

        Args:
          base: what the models predict, for the same increasing levels.
          x: features [..., D] for the local weights.

        Raises:
          TypeError: an argument is not floating point.
          ValueError: an unknown kind or order, wrong shapes, or ``x`` without
            ``widths`` or ``widths`` without ``x``.
        """
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}, expected one of {KINDS}")
        if self.order is not None and self.order not in ORDERS:
            raise ValueError(
                f"order is {self.order!r}, expected None or one of {tuple(ORDERS)}"
            )
        if (x is None) != (not self.widths):
            given = "missing" if x is None else "given"
            raise ValueError(f"x is {given} and widths is {tuple(self.widths)}")
        base = numerics.promote_to_float32(base, "base")
        if base.ndim < 2:
            raise ValueError(f"base has shape {base.shape}, expected [..., K, Q]")
        models, levels = base.shape[-2:]
        tail = {"coarse": (models,), "medium": (models, levels)}.get(
            self.kind, (models, levels, levels)
        )
        if x is None:
            weights = self.param(
                "weights", nn.initializers.zeros, tail, self.param_dtype
            )
        else:
            weights = self._local(x, base.shape[:-2], tail)
        combined = estimators.quantile_aggregation(
            base, weights.astype(base.dtype), kind=self.kind
        )
        return combined if self.order is None else ORDERS[self.order](combined)

    def _local(self, x, lead, tail):
        x = numerics.promote_to_float32(x, "x")
        if x.shape[:-1] != lead or not x.ndim:
            raise ValueError(
                f"x has shape {x.shape}, expected {(*lead, 'D')} for this base"
            )
        dtype = jnp.promote_types(self.param_dtype, jnp.float32)
        dtypes = {"dtype": dtype, "param_dtype": self.param_dtype}
        for i, width in enumerate(self.widths):
            x = nn.elu(nn.Dense(width, **dtypes, name=f"hidden_{i}")(x))
        size = 1
        for length in tail:
            size *= length
        zeros = nn.initializers.zeros
        x = nn.Dense(size, kernel_init=zeros, **dtypes, name="head")(x)
        return x.reshape(*lead, *tail)
