"""Attacks on policies: their actions as logits that can be pushed apart."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import hyper

__all__ = ["bifurcate", "group_difference_logits"]


def bifurcate(
    actions: ArrayLike, *, threshold: ArrayLike = 0.0, scale: ArrayLike = 1.0
) -> jax.Array:
    r"""Logits of "below" and "above" a threshold, for each continuous action.

    Makes a two-class problem of a policy, so that the attacks of this room reach it:
    ``logits_fn=lambda states: bifurcate(policy(states))``, and as labels
    ``(policy(states) >= threshold).astype(int)``, which puts a tie above.

    .. math:: \kappa (\theta - a, \; a - \theta)

    Shapes: actions [...] -> [..., 2]

    Args:
      actions: of a policy; if it ends in a tanh, what goes into that, which does not
        saturate.
      threshold: theta, the action in the middle.
      scale: kappa, positive.

    Returns:
      Logits in units of scaled actions, float32 (float64 for float64 actions).

    Raises:
      TypeError: ``actions`` is not floating point.
      ValueError: ``scale`` is not positive.

    Source: group difference logits, arXiv:2407.05182; the form of the layer is inferred
      from its abstract.

    >>> import jax.numpy as jnp
    >>> from logitlab.attacks import bifurcate
    >>> bifurcate(jnp.float32(0.5))
    Array([-0.5,  0.5], dtype=float32)
    """
    a = numerics.promote_to_float32(actions, "actions")
    theta = hyper("threshold", threshold, a.dtype)
    kappa = hyper("scale", scale, a.dtype, lambda k: k > 0, "above 0")
    above = kappa * (a - theta)
    return jnp.stack([-above, above], -1)


def group_difference_logits(
    logits: ArrayLike,
    group_ids: ArrayLike,
    source_group: ArrayLike,
    *,
    aggregate: Literal["max", "logsumexp", "mean"] = "max",
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""How far the classes of all other groups are above those of one group.

    Maximized, it drives a decision out of its group, and on into the opposite: further
    than an untargeted attack, which may stop at the next class, without the detour to
    one class of a targeted one.

    .. math:: \operatorname{agg}_{c \notin G} z_c - \operatorname{agg}_{c \in G} z_c

    As the loss of an attack: ``lambda z, y: group_difference_logits(z, ids, ids[y])``.

    Shapes: logits [..., C], where [..., C] -> [...]

    Args:
      logits: of discrete actions, or of ``bifurcate``.
      group_ids: ints [C], the group of each class.
      source_group: ints [...], the group of the clean decision.
      aggregate: how a group's logits become one.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part.

    Returns:
      Units of the logits; a group without classes has the aggregate ``-inf``.

    Raises:
      TypeError: ``logits`` is not floating point, or groups are not integers.
      ValueError: wrong shapes, or an unknown ``aggregate``.

    Source: group difference logits, arXiv:2407.05182; the aggregates are inferred from
      its abstract.

    >>> import jax.numpy as jnp
    >>> from logitlab.attacks import bifurcate, group_difference_logits
    >>> group_difference_logits(bifurcate(jnp.float32(0.3)), jnp.array([0, 1]), 1)
    Array(-0.6, dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    ids = numerics.wide_labels(group_ids, "group_ids")
    source = numerics.wide_labels(source_group, "source_group")
    for name, array, shape in (
        ("group_ids", ids, z.shape[-1:]),
        ("source_group", source, z.shape[:-1]),
    ):
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    inside = ids.reshape((1,) * source.ndim + ids.shape) == source[..., None]
    outer, inner = (_aggregate(z, members, aggregate) for members in (~inside, inside))
    return outer - inner


def _aggregate(z, members, how):
    members = members & (z > -jnp.inf)
    if how == "max":
        return jnp.max(jnp.where(members, z, -jnp.inf), -1)
    if how == "logsumexp":
        return numerics.logsumexp(z, where=members)
    if how == "mean":
        count = jnp.sum(members, -1, dtype=jnp.int32)
        total = jnp.sum(jnp.where(members, z, 0), -1) / jnp.maximum(count, 1)
        return jnp.where(count > 0, total, -jnp.inf)
    raise ValueError(f"aggregate is {how!r}, expected 'max', 'logsumexp' or 'mean'")
