"""Networks without norms: LayerNorm with a constant deviation, and its removal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.typing import ArrayLike, DTypeLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, hyper

__all__ = [
    "FakeLayerNorm",
    "LnRemovalSchedule",
    "fixed_std_norm",
    "fold_layer_norm",
]


def fixed_std_norm(
    x: ArrayLike,
    std: ArrayLike,
    *,
    scale: ArrayLike | None = None,
    bias: ArrayLike | None = None,
) -> jax.Array:
    r"""LayerNorm that divides by given deviations: an affine map, if they are constant.

    .. math:: \frac{x - \bar x}{\bar s} \odot \gamma + \beta

    Shapes: x [..., D], std [...] -> [..., D]

    Args:
      x: floats, of any unit.
      std: s, positive: a number, or one for each vector. No gradient goes through it.
      scale: gamma, [D]; by default 1.
      bias: beta, [D]; by default 0.

    Returns:
      float32, or float64 for float64.

    Raises:
      TypeError: ``x`` is not floating point.
      ValueError: a shape is wrong, or ``std`` not positive.

    Source: arXiv:2507.02559.

    >>> import jax.numpy as jnp
    >>> from logitlab.models import fixed_std_norm
    >>> fixed_std_norm(jnp.float32([1, 3]), 2.0)
    Array([-0.5,  0.5], dtype=float32)
    """
    x = numerics.promote_to_float32(x, "x")
    s = hyper("std", jax.lax.stop_gradient(std), x.dtype)
    if s.shape not in ((), x.shape[:-1]):
        raise ValueError(f"std has shape {s.shape}, expected () or {x.shape[:-1]}")
    if numerics.is_concrete(s) and not (s > 0).all():
        raise ValueError(f"std is {s}, expected positive")
    y = _centered(x) / jnp.broadcast_to(s, x.shape[:-1])[..., None]
    for name, array in (("scale", scale), ("bias", bias)):
        if array is not None and jnp.shape(array) != x.shape[-1:]:
            raise ValueError(
                f"{name} has shape {jnp.shape(array)}, expected {x.shape[-1:]}"
            )
    return _affine(y, scale, bias)


class FakeLayerNorm(nn.Module):
    r"""LayerNorm that can be made to divide by a constant, its own running average.

    Use it to fine-tune a network until it needs no norms: start from its weights, make
    one norm fake after another by :class:`LnRemovalSchedule`, and fold what is left by
    :func:`fold_layer_norm`.

    .. math:: \frac{x - \bar x}{s} \odot \gamma + \beta, \quad
        s = \begin{cases} \sqrt{\mathrm{var}(x) + \epsilon} & \text{real} \\
        \bar s & \text{fake} \end{cases}

    What it remembers is the collection "stats":

    - ``running`` and ``running_first``: averages of the deviation over batch and
      positions, and at the first position, which is often far larger. They move at
      every pass in which "stats" is mutable, real or fake;
    - ``frozen`` and ``frozen_first``, one of each reader: what they were when the norm
      was made fake; until then they follow;
    - ``fake``, bool for each reader, and ``first``, whether the first position divides
      by its own: set from outside.

    Fields:
      readers: how many layers read it, each of which turns fake on its own; more than
        one make the result a tuple.
      momentum: weight of the average so far.
      first_token_special: what ``first`` starts as.
      exclude_first: whether a special first position stays out of the other average.
      epsilon: in the root; 1e-5 in GPT-2.
      dtype: of the result; by default that of the parameters and of ``x``.
      param_dtype: of the parameters, also under x64.

    Tokens that end a text, which the released code treats like the first position,
    are ordinary here. Sharded batches have one average under ``jit``.

    Source: arXiv:2507.02559, and its released code.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.models import FakeLayerNorm
    >>> norm, x = FakeLayerNorm(), jnp.float32([[[0, 4], [0, 8]]])
    >>> variables = norm.init(jax.random.key(0), x)
    >>> y, changed = norm.apply(variables, x, mutable="stats")
    >>> print(y.round(3), changed["stats"]["running"].round(3))
    [[[-1.  1.]
      [-1.  1.]]] 1.2
    """

    readers: int = 1
    momentum: float = 0.9
    first_token_special: bool = False
    exclude_first: bool = True
    epsilon: float = 1e-5
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(self, x: ArrayLike, *, mask: ArrayLike | None = None) -> Any:
        """Normed vectors [..., T, D], or a tuple of them.

        Args:
          x: floats [..., T, D].
          mask: bool [..., T], the tokens that count in the averages.

        Raises:
          TypeError: ``x`` is not floating point or ``mask`` is not bool.
          ValueError: ``x`` has no axis of positions, or the shapes disagree.
        """
        given = jnp.asarray(x)
        x = numerics.promote_to_float32(x, "x")
        if x.ndim < 2:
            raise ValueError(f"x has shape {x.shape}, expected [..., T, D]")
        width = x.shape[-1]
        gamma = self.param("scale", nn.initializers.ones, (width,), self.param_dtype)
        beta = self.param("bias", nn.initializers.zeros, (width,), self.param_dtype)
        centered = _centered(x)
        variance = jnp.mean(jnp.square(centered), -1)
        std = jnp.sqrt(variance + self.epsilon)
        stats = self._stats(std, numerics.check_mask(mask, x.shape[:-1]))
        at_first = jnp.arange(x.shape[-2]) == 0
        results = []
        for reader in range(self.readers):
            constant = jnp.where(
                at_first & stats["first"],
                stats["frozen_first"][reader],
                stats["frozen"][reader],
            )
            constant = jnp.broadcast_to(constant.astype(x.dtype), std.shape)
            s = jnp.where(stats["fake"][reader], constant, std)
            y = _affine(centered / s[..., None], gamma, beta)
            kind = jnp.result_type(given, gamma) if self.dtype is None else self.dtype
            results.append(y.astype(kind))
        return results[0] if self.readers == 1 else tuple(results)

    def _stats(self, std, keep):
        """The collection, with averages moved by this pass where that is wanted."""
        starts: dict[str, Any] = dict(
            running=jnp.ones(()),
            running_first=jnp.ones(()),
            frozen=jnp.ones(self.readers),
            frozen_first=jnp.ones(self.readers),
            fake=jnp.zeros(self.readers, bool),
            first=jnp.asarray(self.first_token_special),
        )
        known = {
            name: self.variable("stats", name, lambda value=value: value)
            for name, value in starts.items()
        }
        stats = {name: variable.value for name, variable in known.items()}
        if not self.is_mutable_collection("stats") or self.is_initializing():
            return stats
        std = jax.lax.stop_gradient(std)
        at_first = jnp.broadcast_to(jnp.arange(std.shape[-1]) == 0, std.shape)
        special = at_first & stats["first"]
        others = keep & ~special if self.exclude_first else keep
        every = _mean(std, others)
        first = jnp.where(stats["first"], _mean(std, keep & at_first), every)
        for name, mean in (("running", every), ("running_first", first)):
            before = stats[name]
            after = self.momentum * before + (1 - self.momentum) * mean
            after = jnp.where(jnp.isnan(mean), before, after).astype(before.dtype)
            known[name].value = after
            frozen = name.replace("running", "frozen")
            known[frozen].value = jnp.where(stats["fake"], stats[frozen], after)
        return stats


class LnRemovalSchedule:
    """Which norms of a ``CausalTransformer`` are fake at a step of fine-tuning.

    Use it to take norms from a trained network one after another, each before the
    network has to do without the next: all at once would cost it what it has learned.

    The norms before the units turn fake first, layer by layer; then those before
    attention as queries and keys read them, then as values do, then the last one.
    Finally the first position gives up its own deviation.

    Args:
      layers: how many the model has.
      start: the step at which the first norm turns fake.
      gaps: steps from one norm to the next among those before the units, among those of
        queries and keys, and among those of values.
      last: steps from the last of these to the final norm, and from there to the end
        of the special first position.

    Raises:
      ValueError: ``layers`` is below 1, ``start`` or a gap is negative.

    Source: arXiv:2507.02559; GPT-2 small started at step 20 with gaps of 2, 2 and 3.

    >>> from logitlab.models import LnRemovalSchedule
    >>> schedule = LnRemovalSchedule(2, start=20, gaps=(2, 2, 3))
    >>> schedule.steps["units_norm_1"], schedule.end
    ((22,), 44)
    """

    def __init__(
        self,
        layers: int,
        *,
        start: int = 20,
        gaps: tuple[int, int, int] = (2, 2, 3),
        last: tuple[int, int] = (2, 10),
    ):
        check_count("layers", layers)
        check_count("start", start, 0)
        for name, steps, many in (("gaps", gaps, 3), ("last", last, 2)):
            if len(steps) != many or min(steps) < 0:
                raise ValueError(
                    f"{name} is {steps}, expected {many} numbers of at least 0"
                )
        units, keys, values = (
            [(offset + i) * gap for i in range(layers)]
            for gap, offset in zip(gaps, (0, 1, 1), strict=True)
        )
        at = start
        self.steps: dict[str, tuple[int, ...]] = {}
        for i in range(layers):
            self.steps[f"units_norm_{i}"] = (at + units[i],)
        at += units[-1]
        middle = at + keys[-1]
        for i in range(layers):
            self.steps[f"attention_norm_{i}"] = (at + keys[i], middle + values[i])
        at = middle + values[-1] + last[0]
        self.steps["head_norm"] = (at,)
        self.end = at + last[1]

    def __call__(self, stats: Mapping[str, Any], step: ArrayLike) -> dict[str, Any]:
        """The collection "stats" with the flags of a step, which may be traced.

        Raises:
          ValueError: the norms in ``stats`` are not those of the schedule.
        """
        if set(stats) != set(self.steps):
            raise ValueError(
                f"stats has norms {sorted(stats)}, expected {sorted(self.steps)}"
            )
        step = jnp.asarray(step)
        return {
            name: {
                **own,
                "fake": step >= np.asarray(self.steps[name]),
                "first": step < self.end,
            }
            for name, own in stats.items()
        }


def fold_layer_norm(
    params: Mapping[str, Any], stats: Mapping[str, Any]
) -> dict[str, Any]:
    r"""Parameters of a ``CausalTransformer`` without norms, which computes the same.

    They are those of the model with ``norms="none"``: a norm that divides by a constant
    is affine, and goes into the linear layer that reads it.

    .. math:: W' = (I - \tfrac1D 1 1^T) \, \mathrm{diag}(\gamma / \bar s) \, W, \quad
        b' = b + W^T \beta

    Args:
      params: of the model with ``norms="fake"``.
      stats: its other collection, in which all norms are fake for all readers and no
        first position is special.

    Raises:
      ValueError: a norm is still real or its first position special, or the norms are
        not those of the parameters.

    Numerics: logits agree to 1e-5 of the largest.

    Source: arXiv:2507.02559.
    """
    norms = {name for name in params if name.partition("_norm")[1]}
    if norms != set(stats):
        raise ValueError(
            f"stats has norms {sorted(stats)}, expected {sorted(norms)} of params"
        )
    folded = {name: own for name, own in params.items() if name not in norms}
    for name, own in stats.items():
        for bad, state in (
            (not np.all(own["fake"]), "is real"),
            (np.any(own["first"]), "has a special first position"),
        ):
            if bad:
                raise ValueError(
                    f"norm {name!r} {state}, expected all norms fake and none special, "
                    "as at the end of a LnRemovalSchedule"
                )
        reader = "head" if name == "head_norm" else name.replace("norm", "in")
        folded[reader] = _folded(params[reader], params[name], own["frozen"])
    return folded


def _folded(layer, norm, std):
    kernel, std = jnp.asarray(layer["kernel"]), jnp.asarray(std)
    wide = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))
    if std.size == 2:  # queries and keys, two thirds of the columns; and values
        std = jnp.repeat(std, np.array([2, 1]) * (wide.shape[1] // 3))
    moved = norm["scale"][:, None] * wide / std[None]
    moved = moved - jnp.mean(moved, 0, keepdims=True)
    bias = layer["bias"] + jnp.matmul(norm["bias"], wide, precision="highest")
    return {"kernel": moved.astype(kernel.dtype), "bias": bias.astype(kernel.dtype)}


def _centered(x):
    return x - jnp.mean(x, -1, keepdims=True)


def _affine(y, scale, bias):
    over = tuple(range(y.ndim - 1))
    if scale is not None:
        y = y * jnp.expand_dims(jnp.asarray(scale, y.dtype), over)
    if bias is not None:
        y = y + jnp.expand_dims(jnp.asarray(bias, y.dtype), over)
    return y


def _mean(std, keep):
    """NaN where nothing counts, for the average to stay."""
    total = jnp.sum(jnp.where(keep, std, 0))
    return total / jnp.sum(keep).astype(std.dtype)
