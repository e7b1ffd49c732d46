"""Example weights from likelihoods of examples and from losses."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range, hyper

__all__ = ["cluster_likelihood", "dequity_weight", "loss_scores", "loss_weights"]


Strategy = Literal["linupper", "quadratic", "extremes", "upper"]


def dequity_weight(
    likelihood: ArrayLike, *, eta: ArrayLike = 1.0, gamma: ArrayLike = 5.0
) -> jax.Array:
    r"""Weight of a sample by how rare its appearance is (generalized focal weight).

    .. math:: w(p) = \frac{\eta + (1 - p)^\gamma}{\eta + 1}

    Shapes: likelihood [...] -> [...]

    Args:
      likelihood: of the sample's appearance cluster, in [0, 1].
      eta: at least 0; the smallest weight is ``eta / (eta + 1)``.
      gamma: positive.

    Returns:
      Weights in [eta / (eta + 1), 1], float32 (float64 for float64 input).

    Raises:
      ValueError: ``likelihood`` outside [0, 1], ``eta`` negative or ``gamma`` not
        positive.

    Source: DatasetEquity 2023, arXiv:2308.09878.

    >>> import jax.numpy as jnp
    >>> from logitlab.weights import dequity_weight
    >>> dequity_weight(jnp.float32([0, 0.5, 1]))
    Array([1.      , 0.515625, 0.5     ], dtype=float32)
    """
    check_range("likelihood", likelihood, lambda p: (p >= 0) & (p <= 1), "in [0, 1]")
    p = numerics.promote_to_float32(likelihood, "likelihood")
    eta = hyper("eta", eta, p.dtype, lambda e: e >= 0, "at least 0")
    gamma = hyper("gamma", gamma, p.dtype, lambda g: g > 0, "positive")
    rare = p < 1
    power = jnp.where(rare, jnp.where(rare, 1 - p, 1) ** gamma, 0)
    return (eta + power) / (eta + 1)


def cluster_likelihood(cluster_ids: ArrayLike, num_clusters: int) -> jax.Array:
    r"""Likelihood of each sample's appearance: the share of samples in its cluster.

    A sample that belongs to no cluster, with a negative id (DBSCAN's -1), counts as a
    cluster of its own, :math:`1 / N`. The normalisation is inferred from the paper's
    abstract. ``num_clusters`` is a Python int, since it is a shape.

    Shapes: cluster_ids [N] -> [N]

    Raises:
      TypeError: ``cluster_ids`` is not integer.
      ValueError: it is not a vector, or an id is ``num_clusters`` or more (NaN under
        ``jit``).

    Source: DatasetEquity 2023, arXiv:2308.09878.

    >>> import jax.numpy as jnp
    >>> from logitlab.weights import cluster_likelihood
    >>> cluster_likelihood(jnp.array([0, 0, 1, -1]), 2)
    Array([0.5 , 0.5 , 0.25, 0.25], dtype=float32)
    """
    ids = numerics.wide_labels(cluster_ids, "cluster_ids")
    if ids.ndim != 1:
        raise ValueError(f"cluster_ids has shape {ids.shape}, expected [N]")
    bad = ids >= num_clusters
    if numerics.is_concrete(bad) and bad.any():
        raise ValueError(f"cluster_ids outside [0, {num_clusters}): {ids[bad][:5]}")
    inside = (ids >= 0) & ~bad
    safe = jnp.where(inside, ids, 0)
    sizes = jnp.zeros(max(num_clusters, 1), jnp.int32).at[safe].add(inside)
    size = jnp.where(inside, sizes[safe], 1)
    p = size.astype(jnp.result_type(float)) / max(ids.size, 1)
    return jnp.where(bad, jnp.nan, p)


def loss_scores(
    losses: ArrayLike,
    *,
    strategy: Strategy = "linupper",
    delta: ArrayLike = 1.0,
    mask: ArrayLike | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    r"""Scores of a batch's losses, of which ``loss_weights`` is the softmax.

    .. math:: h = 2\delta\,\frac{\ell - (\ell_{max} + \ell_{min})/2}
        {\max(\ell_{max} - \ell_{min}, 10^{-6})}

    ``"linupper"`` is :math:`\min(h + \delta, \delta)`: only the low half loses;
    ``"quadratic"`` is :math:`1 - h^2/\delta^2`, the middle; ``"extremes"`` :math:`|h|`;
    ``"upper"`` :math:`(h + \delta)/2`. Without a gradient.

    Shapes: losses [...], mask [...] -> [...]

    Args:
      losses: of the whole batch.
      strategy: one of the four.
      delta: positive, half of the range of h.
      mask: bool, the losses that take part; the others score 0.
      axis_name: of the mapped axis the batch is split over, if it is.

    Raises:
      ValueError: an unknown ``strategy``, ``delta`` not positive, or ``mask`` of
        another shape.

    Source: Sow et al. 2025, arXiv:2502.06733.

    >>> import jax.numpy as jnp
    >>> from logitlab.weights import loss_scores
    >>> loss_scores(jnp.float32([1, 2, 3]), strategy="upper")
    Array([0. , 0.5, 1. ], dtype=float32)
    """
    x = jax.lax.stop_gradient(numerics.promote_to_float32(losses, "losses"))
    delta = hyper("delta", delta, x.dtype, lambda d: d > 0, "positive")
    keep = numerics.check_mask(mask, x.shape)
    # An infinite loss, that of a hidden label, counts as a very large one.
    far = jnp.finfo(x.dtype).max / 1e6
    x = jnp.clip(jnp.where(keep, x, 0), -far, far)
    low = jnp.min(jnp.where(keep, x, jnp.inf), initial=jnp.inf)
    high = jnp.max(jnp.where(keep, x, -jnp.inf), initial=-jnp.inf)
    if axis_name is not None:
        low, high = jax.lax.pmin(low, axis_name), jax.lax.pmax(high, axis_name)
    some = low <= high
    low, high = jnp.where(some, low, 0), jnp.where(some, high, 0)
    h = 2 * delta * ((x - (low + high) / 2) / jnp.maximum(high - low, 1e-6))
    if strategy == "linupper":
        score = jnp.minimum(h + delta, delta)
    elif strategy == "quadratic":
        score = 1 - (h / delta) ** 2
    elif strategy == "extremes":
        score = jnp.abs(h)
    elif strategy == "upper":
        score = (h + delta) / 2
    else:
        known = "'linupper', 'quadratic', 'extremes' or 'upper'"
        raise ValueError(f"strategy is {strategy!r}, expected {known}")
    return jnp.where(keep, score, 0)


def loss_weights(
    losses: ArrayLike,
    *,
    strategy: Strategy = "linupper",
    r: ArrayLike = 0.4,
    delta: ArrayLike = 1.0,
    mask: ArrayLike | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    r"""Weights of a batch's losses from the losses themselves; they sum to 1.

    .. math:: w = \mathrm{softmax}(\mathrm{score} / r)

    over the whole batch, on all devices; see ``loss_scores``. Without a gradient. Equal
    losses get equal weights. The method takes high losses for informative: with gross
    outliers among the labels it makes things worse.

    Shapes: losses [...], mask [...] -> [...]

    Args:
      losses: one per sequence.
      strategy: as in ``loss_scores``.
      r: temperature, positive, ``inf`` for equal weights (as in the burn-in of the
        first 1000 steps); 0.4 for larger models, 1 for smaller ones. May be traced.
      delta: as in ``loss_scores``.
      mask: bool, the losses that take part; the others weigh 0.
      axis_name: of the mapped axis the batch is split over, if it is; under automatic
        sharding there is nothing to say.

    Raises:
      ValueError: as ``loss_scores``, or ``r`` not positive.

    Source: Sow et al. 2025, arXiv:2502.06733.

    >>> import jax.numpy as jnp
    >>> from logitlab.weights import loss_weights
    >>> loss_weights(jnp.float32([2, 2]))
    Array([0.5, 0.5], dtype=float32)
    """
    check_range("r", r, lambda r: r > 0, "positive")
    score = loss_scores(
        losses, strategy=strategy, delta=delta, mask=mask, axis_name=axis_name
    )
    keep = numerics.check_mask(mask, score.shape)
    score = jnp.where(keep, score / hyper("r", r, score.dtype), -jnp.inf)
    top = jnp.max(score, initial=-jnp.inf)
    if axis_name is not None:
        top = jax.lax.pmax(top, axis_name)
    e = jnp.exp(score - jnp.where(top > -jnp.inf, top, 0))
    total = jnp.sum(e)
    if axis_name is not None:
        total = jax.lax.psum(total, axis_name)
    return e / jnp.where(total > 0, total, 1)
