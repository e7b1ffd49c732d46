"""Whether a model treats groups alike. Groups are ints; intersections are groups too.

A negative group means "not known": the example is in none, and counts for none.
"""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.mean import Mean
from logitlab.numerics._bags import bag_means, check_bag_ids
from logitlab.numerics.arguments import binary, check_count, hyper

__all__ = ["equal_opportunity", "group_jsd", "group_means", "uf_index"]


def group_means(
    values: ArrayLike,
    groups: ArrayLike,
    *,
    num_groups: int,
    mask: ArrayLike | None = None,
) -> Mean:
    r"""Mean of one number per example within each group: losses, or hits as bool.

    Use it for accuracies or losses by group, over batches and devices: the means add.

    .. math:: L_g = \frac{1}{n_g} \sum_{i \in g} \ell_i

    Shapes: values [...], groups [...], mask [...] -> [G], [G]

    Args:
      values: floats, or bool.
      groups: ints in ``[0, num_groups)``; a negative one is in no group.
      num_groups: G, a Python number.
      mask: bool, the examples that count.

    Returns:
      A ``Mean`` of sums and counts; its ``value`` is NaN for a group without examples.

    Raises:
      TypeError: ``groups`` is not integer, or ``mask`` not bool.
      ValueError: the shapes disagree, or a group is G or more (in none under ``jit``).

    Source: the group losses of group DRO, Sagawa et al. 2020, arXiv:1911.08731.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import group_means
    >>> losses, groups = jnp.float32([0.1, 0.3, 0.8]), jnp.array([0, 0, 1])
    >>> group_means(losses, groups, num_groups=2).value
    Array([0.2, 0.8], dtype=float32)
    """
    x = jnp.asarray(values)
    if x.dtype != bool:
        x = numerics.promote_to_float32(x, "values")
    ids, keep = group_ids(groups, x.shape, num_groups, mask)
    counts = jax.ops.segment_sum(keep.astype(jnp.int32), ids, num_groups)
    x = jnp.where(keep, x.ravel(), 0).astype(jnp.int32 if x.dtype == bool else x.dtype)
    return Mean(jax.ops.segment_sum(x, ids, num_groups), counts)


def equal_opportunity(
    predictions: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    num_groups: int,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Lowest true positive rate of a group over the highest: 1 is equal opportunity.

    Use it to see whether those who deserve a yes get one in every group. Over batches
    and devices add ``group_means(predictions == 1, groups, mask=labels == 1)``, whose
    values are the rates.

    .. math:: \min_g \mathrm{TPR}_g \, / \, \max_g \mathrm{TPR}_g

    Shapes: predictions [...], labels [...], groups [...], mask [...] -> []

    Args:
      predictions: decisions, bool or 0 and 1.
      labels: 0 and 1; negative for an example without a label.
      groups: ints in ``[0, num_groups)``; a negative one is in no group.
      num_groups: a Python number.
      mask: bool, the examples that count.

    Returns:
      Between 0 and 1, float32. A group without positive labels is left out; 1 if there
      is none with any, and if all rates are 0.

    Raises:
      TypeError: ``predictions`` holds floats, such as probabilities, ``groups`` is not
        integer, or ``mask`` not bool.
      ValueError: the shapes disagree, a label is neither 0, 1 nor negative, or a group
        is out of range.

    Source: Hardt, Price and Srebro 2016, arXiv:1610.02413; the ratio: Algorithmic bias
      in depression detection 2025, arXiv:2509.25795.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import equal_opportunity
    >>> yes, groups = jnp.array([1, 1, 1, 0, 0]), jnp.array([0, 0, 1, 1, 1])
    >>> equal_opportunity(yes, jnp.array([1, 1, 1, 1, 0]), groups, num_groups=2)
    Array(0.5, dtype=float32)
    """
    p = jnp.asarray(predictions)
    if jnp.issubdtype(p.dtype, jnp.floating):
        raise TypeError(
            f"predictions has dtype {p.dtype}, expected decisions: bool, or 0 and 1"
        )
    keep = numerics.check_mask(mask, p.shape)
    y, _ = binary(labels, p.shape, jnp.float32, keep, soft=False)
    found = group_means(p == 1, groups, num_groups=num_groups, mask=keep & (y == 1))
    some = found.count > 0
    rates = found.sum / jnp.maximum(found.count, 1).astype(jnp.float32)
    lowest, highest = rates.min(where=some, initial=1), rates.max(initial=0)
    return jnp.where(highest > 0, lowest / jnp.where(highest > 0, highest, 1), 1)


def group_jsd(
    predictions: ArrayLike,
    groups: ArrayLike,
    *,
    num_groups: int,
    bandwidth: ArrayLike = 0.15,
    points: int = 1000,
    weights: Literal["share", "equal"] = "share",
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Jensen-Shannon divergence between the groups' densities of predictions, in bits.

    Use it to choose the weight of a penalty of ``losses.fairness``: 0 where every group
    gets the same predictions, not only the same mean.

    .. math:: H\Bigl(\sum_g \pi_g f_g\Bigr) - \sum_g \pi_g H(f_g)

    with Gaussian kernel densities on a grid from the lowest to the highest prediction,
    each of sum 1.

    Shapes: predictions [...], groups [...], mask [...] -> []

    Args:
      predictions: probabilities, or other numbers.
      groups: ints in ``[0, num_groups)``; a negative one is in no group.
      num_groups: a Python number.
      bandwidth: of the kernel, in the unit of the predictions, above 0.
      points: of the grid, a Python number.
      weights: "share" weighs groups by their sizes, "equal" does not.
      mask: bool, the examples that count.

    Returns:
      From 0 to the entropy of the weights; 0 without examples.

    Raises:
      TypeError: ``predictions`` is not floating point, ``groups`` not integer, or
        ``mask`` not bool.
      ValueError: an option or a group is out of range, or the shapes disagree.

    Source: Lin 1991, "Divergence measures based on the Shannon entropy".

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import group_jsd
    >>> p, groups = jnp.float32([0, 0, 9, 9]), jnp.array([0, 0, 1, 1])
    >>> group_jsd(p, groups, num_groups=2).round(4)
    Array(1., dtype=float32)
    """
    if weights not in ("share", "equal"):
        raise ValueError(f"weights is {weights!r}, expected 'share' or 'equal'")
    check_count("points", points, 2)
    p = numerics.promote_to_float32(predictions, "predictions")
    h = hyper("bandwidth", bandwidth, p.dtype, lambda v: v > 0, "a number above 0")
    ids, keep = group_ids(groups, p.shape, num_groups, mask)
    if not p.size:
        return jnp.zeros((), p.dtype)
    x = jnp.where(keep, p.ravel(), 0)
    low = jnp.min(x, where=keep, initial=jnp.inf)
    high = jnp.max(x, where=keep, initial=-jnp.inf)
    some = keep.any()
    grid = jnp.linspace(jnp.where(some, low, 0), jnp.where(some, high, 0), points)
    sizes = jax.ops.segment_sum(keep.astype(p.dtype), ids, num_groups)
    share = sizes if weights == "share" else (sizes > 0).astype(p.dtype)
    share = share / jnp.maximum(share.sum(), 1)

    def density(group):
        inside = keep & (ids == group)
        far = -jnp.square((grid[:, None] - x[None]) / h) / 2
        mass = numerics.logsumexp(jnp.where(inside[None], far, -jnp.inf))
        return jax.nn.log_softmax(jnp.where(inside.any(), mass, 0))

    log_f = jax.lax.map(
        density, jnp.arange(num_groups)
    )  # logs: far grids do not vanish
    mixture = numerics.logsumexp(log_f + jnp.log(share)[:, None], axis=0)
    gaps = jnp.sum(jnp.exp(log_f) * (log_f - mixture[None]), -1)
    return jnp.where(some, jnp.sum(share * gaps) / jnp.log(2), 0).astype(p.dtype)


def uf_index(
    predictions: ArrayLike,
    groups: ArrayLike,
    *,
    num_groups: int,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Unfairness index: the variance of the groups' means over that of predictions.

    Use it as one number without a unit for how far groups' mean predictions differ.

    .. math:: \frac{\mathrm{Var}_g(\bar p_g)}{\mathrm{Var}(p)}

    with both variances unbiased, and every group counting once.

    Shapes: predictions [...], groups [...], mask [...] -> []

    Args:
      predictions: probabilities, or other numbers.
      groups: ints in ``[0, num_groups)``; a negative one is in no group.
      num_groups: a Python number.
      mask: bool, the examples that count.

    Returns:
      At least 0, float32 (float64 for float64); 0 for predictions that are all equal,
      and for fewer than two groups.

    Raises:
      TypeError: ``predictions`` is not floating point, ``groups`` not integer, or
        ``mask`` not bool.
      ValueError: the shapes disagree, or a group is out of range.

    Source: Intersectional fairness through regularisation 2025.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import uf_index
    >>> p, groups = jnp.float32([0, 1, 2, 3]), jnp.array([0, 0, 1, 1])
    >>> print(f"{uf_index(p, groups, num_groups=2):.4f}")
    1.2000
    """
    p = numerics.promote_to_float32(predictions, "predictions")
    ids, keep = group_ids(groups, p.shape, num_groups, mask)
    p = jnp.where(keep, p.ravel(), 0)
    p = jnp.where(keep, p - numerics.masked_mean(p, keep), 0)
    means = bag_means(p, ids, keep, num_groups)
    some = jax.ops.segment_max(keep.astype(jnp.int32), ids, num_groups) > 0
    between, within = _variance(means, some), _variance(p, keep)
    return jnp.where(within > 0, between / jnp.where(within > 0, within, 1), 0)


def group_ids(
    groups: ArrayLike, shape: tuple[int, ...], num_groups: int, mask: ArrayLike | None
) -> tuple[jax.Array, jax.Array]:
    """The group of each example, flat, and which examples are in one.

    Raises:
      TypeError: ``groups`` is not integer, or ``mask`` not bool.
      ValueError: ``num_groups`` is below 1, the shapes disagree, or a group that can be
        seen is ``num_groups`` or more.
    """
    check_count("num_groups", num_groups)
    ids, keep = check_bag_ids(groups, shape, num_groups, mask, "groups")
    beyond = numerics.wide_labels(groups, "groups") >= num_groups
    beyond = beyond & numerics.check_mask(mask, shape)
    if numerics.is_concrete(beyond) and beyond.any():
        raise ValueError(
            f"groups reach {jnp.max(jnp.asarray(groups), where=beyond, initial=0)}, "
            f"expected below num_groups, {num_groups}"
        )
    return ids.ravel(), keep.ravel()


def _variance(x, keep):
    n = jnp.sum(keep, dtype=x.dtype)
    gaps = jnp.where(keep, x - numerics.masked_mean(x, keep), 0)
    return jnp.sum(jnp.square(gaps)) / jnp.maximum(n - 1, 1)
