"""Targets and correlations made from predictions and labels of a batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics._bags import bag_means, bag_sizes, check_bag_ids
from logitlab.numerics.arguments import hyper

__all__ = [
    "aggregate_labels",
    "cluster_targets",
    "label_correlation",
    "private_aggregate_labels",
]


def cluster_targets(
    probs: ArrayLike,
    *,
    power: ArrayLike = 1.0,
    balance: ArrayLike = 0.5,
    axis_name: str | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""DEPICT's balanced targets, from the probabilities of a whole set.

    .. math:: q_{ik} \propto p_{ik}^a \Big/ \Big(\sum_{i'} p_{i'k}\Big)^b

    The paper's rule is a = 1, b = 1/2; the authors' code uses a = 2, b = 1.

    Shapes: probs [N, C], mask [N] -> [N, C]

    Args:
      probs: of the clean pass over the data; no gradient.
      power: a.
      balance: b; 0 does not balance.
      axis_name: a mapped axis that the frequencies are summed over.
      mask: bool, the examples that count for the frequencies.

    Returns:
      A distribution over clusters for each example, float32 (float64 for float64).

    Raises:
      TypeError: ``probs`` is not floating point or ``mask`` is not bool.
      ValueError: ``probs`` has one axis only, or ``mask`` another shape.

    Numerics: relative error below 1e-5; an empty cluster is divided by 1e-12.

    Source: Ghasedi Dizaji et al. 2017, arXiv:1704.06327; herandy/DEPICT.

    >>> import jax.numpy as jnp
    >>> from logitlab.targets import cluster_targets
    >>> q = cluster_targets(jnp.float32([[0.9, 0.1], [0.6, 0.4]]))
    >>> [f"{p:.4f}" for p in q[0]]
    ['0.8386', '0.1614']
    """
    p = jax.lax.stop_gradient(numerics.promote_to_float32(probs, "probs"))
    if p.ndim < 2:
        raise ValueError(f"probs has shape {p.shape}, expected [N, C]")
    counted = p
    if mask is not None:
        keep = numerics.check_mask(mask, p.shape[:-1])
        counted = jnp.where(keep[..., None], p, 0)
    frequency = counted.sum(tuple(range(p.ndim - 1)), keepdims=True)
    if axis_name is not None:
        frequency = jax.lax.psum(frequency, axis_name)
    power, balance = hyper("power", power, p.dtype), hyper("balance", balance, p.dtype)
    q = p**power / jnp.maximum(frequency, 1e-12) ** balance
    total = q.sum(-1, keepdims=True)
    return q / jnp.where(total == 0, 1, total)


def label_correlation(labels: ArrayLike) -> jax.Array:
    r"""Pearson correlations between the labels of a training set, 0 on the diagonal.

    A label that all examples share, or none has, correlates with nothing.

    Shapes: labels [N, C] -> [C, C]

    Raises:
      ValueError: ``labels`` is not a matrix.

    >>> import jax.numpy as jnp
    >>> from logitlab.targets import label_correlation
    >>> label_correlation(jnp.array([[1, 1], [0, 0], [1, 1]])).round(3)
    Array([[0., 1.],
           [1., 0.]], dtype=float32)
    """
    t = jnp.asarray(labels)
    if t.ndim != 2:
        raise ValueError(f"labels has shape {t.shape}, expected (examples, classes)")
    t = t.astype(jnp.result_type(float))
    t = t - jnp.mean(t, 0, keepdims=True)
    size = jnp.sqrt(jnp.sum(t**2, 0, keepdims=True))
    t = t / jnp.where(size > 0, size, 1)
    corr = jnp.clip(jnp.matmul(t.T, t, precision="highest"), -1, 1)
    return jnp.where(jnp.eye(t.shape[1], dtype=bool), 0, corr)


def aggregate_labels(
    labels: ArrayLike, segment_ids: ArrayLike, num_bags: int
) -> jax.Array:
    r"""Mean of the labels of each bag.

    .. math:: \bar y_a = \frac{1}{k} \sum_{i \in B_a} y_i

    Shapes: labels [N, ...], segment_ids [N] -> [num_bags, ...]

    Args:
      labels: numbers; for classes one-hot or distributions.
      segment_ids: the bag of each example; outside ``[0, num_bags)`` it is in none.
      num_bags: how many bags, a Python int, since it is a shape.

    Returns:
      Float32 (float64 for float64 labels), 0 for a bag without examples.

    Raises:
      TypeError: ``segment_ids`` is not integer.
      ValueError: wrong shapes.

    Source: Javanmard et al. 2024, arXiv:2401.11081.

    >>> import jax.numpy as jnp
    >>> from logitlab.targets import aggregate_labels
    >>> aggregate_labels(jnp.array([0, 1, 1]), jnp.array([0, 0, 1]), 2)
    Array([0.5, 1. ], dtype=float32)
    """
    y = jnp.asarray(labels)
    y = y.astype(jnp.promote_types(y.dtype, jnp.float32))
    ids, keep = check_bag_ids(segment_ids, y.shape[:1], num_bags)
    return bag_means(y, ids, keep, max(num_bags, 1))[:num_bags]


def private_aggregate_labels(
    key: jax.Array,
    labels: ArrayLike,
    segment_ids: ArrayLike,
    num_bags: int,
    *,
    clip: ArrayLike,
    epsilon: ArrayLike,
) -> jax.Array:
    r"""Mean label of each bag, with noise that hides every single label.

    Use it when labels are private: the bag means may be published, and any loss of bags
    trained on them.

    .. math:: \bar y_a = \frac{1}{k_a} \sum_{i \in B_a}
        \mathrm{clip}(y_i, -C, C) + \mathrm{Laplace}\Big(\frac{2C}{k_a\,\epsilon}\Big)

    Another label of one example moves one mean by at most 2C / k, so that all means
    together are :math:`\epsilon`-differentially private with respect to the labels;
    features and the division into bags are taken as public.

    Shapes: labels [N], segment_ids [N] -> [num_bags]

    Args:
      key: of the noise; to be used once, and to be kept secret.
      labels: numbers.
      segment_ids: the bag of each example; outside ``[0, num_bags)`` it is in none.
      num_bags: how many bags, a Python int, since it is a shape.
      clip: C, in the labels' units. What it cuts off is a bias.
      epsilon: the privacy budget; the smaller, the noisier.

    Returns:
      In the labels' units, float32 (float64 for float64 labels), 0 for a bag without
      examples, which has nothing to hide.

    Raises:
      TypeError: ``segment_ids`` is not integer.
      ValueError: wrong shapes, or ``clip`` or ``epsilon`` not positive and finite.

    Numerics: noise of floating-point numbers protects a little less than real noise
      does (Mironov 2012): round the means before an adversary sees them.

    Source: Javanmard et al. 2024, arXiv:2401.11081; clipping and scale inferred.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.targets import private_aggregate_labels
    >>> y, ids = jnp.float32([0, 5, 1]), jnp.array([0, 0, 1])
    >>> private_aggregate_labels(jax.random.key(0), y, ids, 2, clip=1, epsilon=1e6).round(3)
    Array([0.5, 1. ], dtype=float32)
    """  # noqa: E501
    y = jnp.asarray(labels)
    y = y.astype(jnp.promote_types(y.dtype, jnp.float32))
    if y.ndim != 1:
        raise ValueError(f"labels has shape {y.shape}, expected one axis")
    valid = (lambda v: (v > 0) & np.isfinite(v)), "a positive, finite number"
    clip = hyper("clip", clip, y.dtype, *valid)
    epsilon = hyper("epsilon", epsilon, y.dtype, *valid)
    ids, keep = check_bag_ids(segment_ids, y.shape, num_bags)
    bags = max(num_bags, 1)
    mean = bag_means(jnp.clip(y, -clip, clip), ids, keep, bags)
    scale = 2 * clip / (bag_sizes(ids, keep, bags, y.dtype) * epsilon)
    noise = scale * jax.random.laplace(key, (bags,), y.dtype)
    empty = jax.ops.segment_sum(keep.astype(jnp.int32), ids, bags) == 0
    return jnp.where(empty, 0, mean + noise)[:num_bags]
