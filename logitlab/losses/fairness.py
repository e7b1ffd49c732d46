"""Objectives of the worst group; penalties of unequal groups and of odd reasons."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.attribution import importance_distribution
from logitlab.metrics.dependence import (
    check_columns,
    pair_distances,
    pair_mean,
    rff_cross_covariance,
    u_centered,
)
from logitlab.metrics.fairness import group_ids
from logitlab.numerics._bags import bag_means
from logitlab.numerics.arguments import (
    check_range,
    check_same_shape,
    hyper,
    weighted,
)

__all__ = [
    "concatenated_distance_covariance_penalty",
    "factor_consistency_loss",
    "decorrelation_loss",
    "fairness_regularized_loss",
    "joint_distance_covariance_penalty",
    "worst_group_loss",
]


def worst_group_loss(
    losses: ArrayLike,
    groups: ArrayLike,
    *,
    num_groups: int,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Mean loss of the group that has the highest: one number for a batch.

    Use it when no group may be left behind, at some cost to the average.

    .. math:: \max_g \frac{1}{n_g} \sum_{i \in g} \ell_i

    The formula is inferred from the abstract.

    Shapes: losses [...], groups [...], mask [...] -> []

    Args:
      losses: one per example, of any loss.
      groups: ints in ``[0, num_groups)``; a negative one is in no group.
      num_groups: a Python number.
      mask: bool, the examples that take part.

    Returns:
      In the unit of the losses, float32 (float64 for float64). A group without examples
      is left out, and no examples cost 0. Of groups that tie the first has the slope.

    Raises:
      TypeError: ``losses`` is not floating point, ``groups`` not integer, or ``mask``
        not bool.
      ValueError: the shapes disagree, or a group is ``num_groups`` or more (in none
        under ``jit``).

    Numerics: relative error below 1e-5, value and gradient.

    Source: Algorithmic bias in depression detection 2025, arXiv:2509.25795.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import worst_group_loss
    >>> losses, groups = jnp.float32([0.1, 0.3, 0.8]), jnp.array([0, 0, 1])
    >>> worst_group_loss(losses, groups, num_groups=2)
    Array(0.8, dtype=float32)
    """
    means, some, _ = _means(losses, groups, num_groups, mask)
    return means[jnp.argmax(jnp.where(some, means, -jnp.inf))]


def fairness_regularized_loss(
    losses: ArrayLike,
    groups: ArrayLike,
    *,
    num_groups: int,
    weight: ArrayLike,
    kind: Literal["gap", "variance", "mean_abs", "group_mean"] = "gap",
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Mean loss plus a penalty of how the groups' mean losses differ, for a batch.

    Use it when groups should be treated alike and the average still counts.

    .. math:: \frac1N \sum_i \ell_i + \lambda \begin{cases}
        \max_g L_g - \min_g L_g & \text{gap} \\
        \frac1G \sum_g (L_g - \bar L)^2 & \text{variance} \\
        \frac1G \sum_g |L_g - \bar L| & \text{mean\_abs} \\
        \frac1G \sum_g L_g & \text{group\_mean} \end{cases}

    with the group means of ``worst_group_loss`` and their mean over the groups. The
    penalties are inferred: the abstract says only that losses of all groups are
    minimized.

    Shapes: losses [...], groups [...], mask [...] -> []

    Args:
      losses: one per example, of any loss.
      groups: ints in ``[0, num_groups)``; an example with a negative one counts in the
        first term alone.
      num_groups: a Python number.
      weight: lambda.
      kind: which penalty.
      mask: bool, the examples that take part.

    Returns:
      In the unit of the losses ("variance": plus its square), float32 (float64 for
      float64). A group without examples is left out of G; no examples cost 0.

    Raises:
      TypeError: ``losses`` is not floating point, ``groups`` not integer, or ``mask``
        not bool.
      ValueError: ``kind`` is unknown, the shapes disagree, or a group is ``num_groups``
        or more (in none under ``jit``).

    Numerics: relative error below 1e-5, value and gradient.

    Source: Algorithmic bias in depression detection 2025, arXiv:2509.25795.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import fairness_regularized_loss
    >>> losses, groups = jnp.float32([0.1, 0.3, 0.8]), jnp.array([0, 0, 1])
    >>> fairness_regularized_loss(losses, groups, num_groups=2, weight=0.5).round(4)
    Array(0.7, dtype=float32)
    """
    if kind not in ("gap", "variance", "mean_abs", "group_mean"):
        raise ValueError(
            f"kind is {kind!r}, expected 'gap', 'variance', 'mean_abs' or 'group_mean'"
        )
    means, some, mean = _means(losses, groups, num_groups, mask)
    if kind == "gap":
        top = means[jnp.argmax(jnp.where(some, means, -jnp.inf))]
        penalty = top - means[jnp.argmin(jnp.where(some, means, jnp.inf))]
    elif kind == "group_mean":
        penalty = numerics.masked_mean(means, some)
    else:
        gaps = means - numerics.masked_mean(means, some)
        gaps = jnp.square(gaps) if kind == "variance" else jnp.abs(gaps)
        penalty = numerics.masked_mean(gaps, some)
    return mean + weighted(weight, penalty)


def joint_distance_covariance_penalty(
    predictions: ArrayLike,
    *attributes: ArrayLike,
    c: ArrayLike = 1.0,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Joint distance covariance (JdCov), squared: one number for a batch.

    Use it when predictions must not depend on protected attributes, nor on any
    combination of them.

    .. math:: \frac{1}{n (n - 3)} \sum_{ij} \prod_{m=0}^{d} (\tilde U^m_{ij} + c) -
        \frac{n}{n - 3} c^{d + 1}

    with the centered distances of ``metrics.u_center``, of predictions and of the d
    attributes. What the attributes share among themselves is a constant in it.

    Shapes: predictions [N, C], attributes [N, D], mask [N] -> []

    Args:
      predictions: probabilities or means, [N] or [N, C].
      *attributes: floats [N], or [N, D] such as one-hot categories.
      c: at least 0: small values weigh the dependence of many at once, large ones that
        of pairs.
      mask: bool, the examples that take part.

    Returns:
      float32 (float64 for float64), 0 on average for independent columns, so that it
      may be negative; 0 below four examples. The slope of the distance between equal
      predictions is 0.

    Raises:
      TypeError: a column is not floating point or ``mask`` is not bool.
      ValueError: there is no attribute, the shapes do not fit, or ``c`` is negative.

    Numerics: relative error below 1e-4 of the largest, value and gradient: terms whose
      sum is 0 are left out of the product.

    Source: Intersectional fairness through regularisation 2025; the estimator:
      Chakraborty and Zhang 2019, arXiv:1711.09179.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import joint_distance_covariance_penalty
    >>> a, b = jnp.tile(jnp.float32([[0, 0, 1, 1], [0, 1, 0, 1]]), 4)
    >>> same = (a == b).astype(float)  # independent of each, not of both
    >>> print(f"{joint_distance_covariance_penalty(same, a):.4f}")
    -0.0205
    >>> print(f"{joint_distance_covariance_penalty(same, a, b):.4f}")
    0.0807
    """
    distances, keep = pair_distances(_named(predictions, attributes), mask)
    columns = [u_centered(a, keep) for a in distances]
    c = hyper("c", c, columns[0].dtype, lambda v: v >= 0, "at least 0")
    # Of the product: what has no U, one, and more. The second sums to 0.
    none, one, more = c, columns[0], jnp.zeros_like(columns[0])
    for u in columns[1:]:
        none, one, more = none * c, one * c + none * u, more * (u + c) + one * u
    return pair_mean(more, keep)


def concatenated_distance_covariance_penalty(
    predictions: ArrayLike, *attributes: ArrayLike, mask: ArrayLike | None = None
) -> jax.Array:
    r"""Distance covariance with all attributes at once (CCdCov), for a batch.

    Use it when protected attributes share one scale, and predictions must not depend
    on any combination of them.

    .. math:: \mathrm{dCov}^2(p, [a_1, \dots, a_d])

    the ``metrics.distance_covariance`` of predictions and one vector of all attributes;
    their units matter: standardize numbers, make categories one-hot.

    Shapes: predictions [N, C], attributes [N, D], mask [N] -> []

    Args and errors are those of ``joint_distance_covariance_penalty``.

    Returns:
      float32 (float64 for float64), 0 on average for independent columns, so that it
      may be negative; 0 below four examples.

    Numerics: relative error below 1e-4 of the largest, value and gradient.

    Source: Intersectional fairness through regularisation 2025.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import concatenated_distance_covariance_penalty
    >>> a, b = jnp.tile(jnp.float32([[0, 0, 1, 1], [0, 1, 0, 1]]), 4)
    >>> same = (a == b).astype(float)
    >>> print(f"{concatenated_distance_covariance_penalty(same, a, b):.4f}")
    0.0551
    """
    p, *columns = check_columns(_named(predictions, attributes))
    vectors = [a[:, None] if a.ndim == 1 else a for a in columns]
    joined = {"predictions": p, "attributes": jnp.concatenate(vectors, -1)}
    (p, a), keep = pair_distances(joined, mask)
    return pair_mean(u_centered(p, keep) * u_centered(a, keep), keep)


def factor_consistency_loss(
    attributions: ArrayLike,
    reference: ArrayLike,
    *,
    direction: Literal["forward", "reverse"] = "forward",
    eps: ArrayLike = 1e-8,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Divergence of what a model looks at from what others do, for a batch.

    Use it when a model with few data should learn which features count, with a weight
    of about 0.1: the reference is the mean of the shares of several good models.

    .. math:: \mathrm{KL}(p \,\|\, q) = \sum_f p_f \log\frac{p_f}{q_f}, \quad
        q_f = \frac{I_f}{\sum_g I_g}, \quad I_f = \frac1N \sum_i |\phi_{if}|

    or KL(q || p) in the reverse direction. Attributions and direction are inferred from
    the abstract.

    Shapes: attributions [N, F], reference [F], mask [N] -> []

    Args:
      attributions: phi of the model, such as the inputs times the gradients of a logit.
      reference: p, shares of the features, at least 0; made to sum to 1. No gradient
        goes through it.
      direction: "forward" asks for all features that the reference uses, "reverse" for
        no others.
      eps: see ``metrics.importance_distribution``; it is also added to the reference,
        in units of its largest share, so that no divergence is infinite.
      mask: bool, the examples that count.

    Returns:
      In nats, at least 0, float32 (float64 for float64). Without examples the model's
      shares are all the same.

    Raises:
      TypeError: an array is not floating point or ``mask`` is not bool.
      ValueError: ``direction`` is unknown, the shapes do not fit, or a share is
        negative.

    Numerics: relative error below 1e-4, value and gradient, also of nearly equal
      shares, with attributions up to 1e30.

    Source: Factor consistency, arXiv:2402.12398.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import factor_consistency_loss
    >>> phi = jnp.float32([[3, 1], [-3, 1]])  # shares of 3/4 and 1/4
    >>> loss = factor_consistency_loss(phi, jnp.float32([0.5, 0.5]))
    >>> print(f"{loss:.4f}")
    0.1438
    """
    if direction not in ("forward", "reverse"):
        raise ValueError(f"direction is {direction!r}, expected 'forward' or 'reverse'")
    q = importance_distribution(attributions, eps=eps, mask=mask)
    p = numerics.promote_to_float32(reference, "reference").astype(q.dtype)
    check_same_shape("reference", p, "one row of attributions", q.shape)
    check_range("reference", p, lambda p: ~(p < 0), "at least 0")
    p = importance_distribution(jax.lax.stop_gradient(p)[None], eps=eps)
    if direction == "reverse":
        p, q = q, p
    # Summed by q - p - p log(q / p), as shares that agree would cancel.
    return jnp.sum(numerics.terms(p, q, jnp.log(q) - jnp.log(p)))


def decorrelation_loss(
    z: ArrayLike,
    weights: ArrayLike,
    clusters: ArrayLike,
    key: jax.Array,
    *,
    num_features: int = 5,
    l2: ArrayLike = 0.0,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""How much variables of different clusters depend on each other, for a batch.

    Use it when a model must not take one variable for another: under the weights of
    examples that lower it (``estimators.learn_sample_weights``) it cannot.

    .. math:: \sum_{i < j, \, c_i \ne c_j} \|\Sigma_{ij}\|_F^2 + \lambda \frac1n
        \sum_s w_s^2

    with :math:`\Sigma` of ``metrics.rff_cross_covariance``. Which pairs count and how
    is inferred from the abstract.

    Shapes: z [N, P], weights [N], clusters [P], mask [N] -> []

    Args:
      z: representations, a column for each variable.
      weights: of the examples, at least 0 with mean 1.
      clusters: ints, one for each variable; those of one cluster may correlate.
      key: a ``jax.random.key``, which draws the features.
      num_features: Q, for each variable.
      l2: lambda, at least 0: large weights of few examples cost more.
      mask: bool, the examples that count.

    Returns:
      float32 (float64 for float64); the covariances' part is 0 below two examples.

    Raises:
      TypeError: ``z`` or ``weights`` is not floating point, ``clusters`` not integer,
        or ``mask`` not bool.
      ValueError: the shapes do not fit, or ``l2`` is negative.

    Numerics: relative error below 1e-4, for the same features.

    Source: L2R-GNN, 2024, arXiv:2312.12475; StableNet, Zhang et al. 2021,
      arXiv:2104.07876.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.losses import decorrelation_loss
    >>> x, key = jax.random.normal(jax.random.key(0), (500, 1)), jax.random.key(1)
    >>> z, ones = jnp.concatenate([x, x**2], 1), jnp.ones(500)
    >>> apart, together = (
    ...     decorrelation_loss(z, ones, jnp.array(clusters), key)
    ...     for clusters in ([0, 1], [0, 0])
    ... )
    >>> print(apart > 0.1, together)
    True 0.0
    """
    x = numerics.promote_to_float32(z, "z")
    ids = numerics.wide_labels(clusters)
    if ids.shape != x.shape[1:]:
        raise ValueError(f"clusters has shape {ids.shape}, expected {x.shape[1:]}")
    sigma = rff_cross_covariance(x, weights, key, num_features=num_features, mask=mask)
    apart = jnp.triu(ids[:, None] != ids[None])
    cost = jnp.sum(jnp.where(apart, jnp.sum(jnp.square(sigma), (2, 3)), 0))
    l2 = hyper("l2", l2, cost.dtype, lambda v: v >= 0, "at least 0")
    w = jnp.square(numerics.promote_to_float32(weights, "weights").astype(cost.dtype))
    return cost + weighted(l2, numerics.masked_mean(w, mask))


def _named(predictions, attributes):
    if not attributes:
        raise ValueError("attributes is empty, expected at least one")
    named = {f"attributes[{at}]": a for at, a in enumerate(attributes)}
    return {"predictions": predictions, **named}


def _means(losses, groups, num_groups, mask):
    """Mean loss of each group, which of them have examples, and that of all."""
    x = numerics.promote_to_float32(losses, "losses")
    ids, keep = group_ids(groups, x.shape, num_groups, mask)
    some = jax.ops.segment_sum(keep.astype(jnp.int32), ids, num_groups) > 0
    means = bag_means(x.ravel(), ids, keep, num_groups)
    return means, some, numerics.masked_mean(x, mask)
