"""Weights of examples: how rare they look, how much they cost."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.labels import checked

__all__ = [
    "cluster_likelihood",
    "dequity_weight",
    "generalized_focal_loss",
    "loss_scores",
    "loss_weights",
    "reweighted_loss",
]

NOT_LOSSES = tuple(__all__)

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

    >>> dequity_weight(jnp.float32([0, 0.5, 1]))
    Array([1.      , 0.515625, 0.5     ], dtype=float32)
    """
    checked("likelihood", likelihood, lambda p: (p >= 0) & (p <= 1), "in [0, 1]")
    checked("eta", eta, lambda e: e >= 0, "at least 0")
    checked("gamma", gamma, lambda g: g > 0, "positive")
    p = numerics.promote(likelihood, "likelihood")
    rare = p < 1
    power = jnp.where(rare, jnp.where(rare, 1 - p, 1) ** gamma, 0)
    return (eta + power) / (eta + 1)


def generalized_focal_loss(
    loss: ArrayLike,
    likelihood: ArrayLike,
    *,
    eta: ArrayLike = 1.0,
    gamma: ArrayLike = 5.0,
) -> jax.Array:
    r"""Losses times ``dequity_weight`` of their samples' appearance.

    .. math:: w(p_i)\, \ell_i

    Shapes: loss [...], likelihood [...] -> [...]

    Raises:
      ValueError: the shapes differ, or as ``dequity_weight``.

    Source: DatasetEquity 2023, arXiv:2308.09878.

    >>> generalized_focal_loss(jnp.float32([2, 2]), jnp.float32([0, 1]))
    Array([2., 1.], dtype=float32)
    """
    loss = numerics.promote(loss, "loss")
    w = dequity_weight(likelihood, eta=eta, gamma=gamma).astype(loss.dtype)
    if w.shape != loss.shape:
        raise ValueError(f"likelihood has shape {w.shape}, expected {loss.shape}")
    out = (w == 0) & ~jnp.isnan(w)
    return jnp.where(out, 0, w * jnp.where(out, 0, loss))


def cluster_likelihood(cluster_ids: ArrayLike, num_clusters: int) -> jax.Array:
    r"""Likelihood of each sample's appearance: the share of samples in its cluster.

    A sample that belongs to no cluster, id -1 as DBSCAN has it, counts as a cluster of
    its own, :math:`1 / N`. The normalisation is inferred from the paper's abstract.

    Shapes: cluster_ids [N] -> [N]

    Raises:
      ValueError: ids not a vector of integers in ``[-1, num_clusters)`` (NaN under
        ``jit``).

    Source: DatasetEquity 2023, arXiv:2308.09878.

    >>> cluster_likelihood(jnp.array([0, 0, 1, -1]), 2)
    Array([0.5 , 0.5 , 0.25, 0.25], dtype=float32)
    """
    ids = jnp.asarray(cluster_ids)
    if ids.ndim != 1 or not jnp.issubdtype(ids.dtype, jnp.integer):
        raise ValueError(
            f"cluster_ids is {ids.dtype} of shape {ids.shape}, expected integers [N]"
        )
    bad = (ids < -1) | (ids >= num_clusters)
    if not isinstance(bad, jax.core.Tracer) and bad.any():
        raise ValueError(f"cluster_ids outside [-1, {num_clusters}): {ids[bad][:5]}")
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
    where: ArrayLike | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    r"""How much each loss of a batch deserves attention.

    .. math:: h = 2\delta\,\frac{\ell - (\ell_{max} + \ell_{min})/2}
        {\max(\ell_{max} - \ell_{min}, 10^{-6})}

    ``"linupper"`` is :math:`\min(h + \delta, \delta)`: only the low half loses;
    ``"quadratic"`` is :math:`1 - h^2/\delta^2`, the middle; ``"extremes"`` :math:`|h|`;
    ``"upper"`` :math:`(h + \delta)/2`. Without a gradient.

    Shapes: losses [...], where [...] -> [...]

    Args:
      losses: of the whole batch, finite where they take part.
      strategy: one of the four.
      delta: positive, half of the range of h.
      where: bool, the losses that take part; the others score 0.
      axis_name: of the mapped axis the batch is split over, if it is.

    Raises:
      ValueError: an unknown ``strategy``, ``delta`` not positive, or ``where`` of
        another shape.

    Source: Sow et al. 2025, arXiv:2502.06733.

    >>> loss_scores(jnp.float32([1, 2, 3]), strategy="upper")
    Array([0. , 0.5, 1. ], dtype=float32)
    """
    checked("delta", delta, lambda d: d > 0, "positive")
    x = jax.lax.stop_gradient(numerics.promote(losses, "losses"))
    keep = _kept(where, x)
    # Halves: the range of the largest numbers fits.
    half = jnp.where(keep, x, 0) / 2
    low = jnp.min(jnp.where(keep, half, jnp.inf), initial=jnp.inf)
    high = jnp.max(jnp.where(keep, half, -jnp.inf), initial=-jnp.inf)
    if axis_name is not None:
        low, high = jax.lax.pmin(low, axis_name), jax.lax.pmax(high, axis_name)
    some = low <= high
    low, high = jnp.where(some, low, 0), jnp.where(some, high, 0)
    # A quotient does not care for the unit, but 1 / 3e38 is no normal number.
    unit = jnp.where(high - low > 1e30, 2.0**-40, 1)
    apart = (half - (low / 2 + high / 2)) * unit
    h = 2 * delta * (apart / jnp.maximum((high - low) * unit, 0.5e-6))
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
    where: ArrayLike | None = None,
    axis_name: str | None = None,
) -> jax.Array:
    r"""Weights of a batch's losses from the losses themselves; they sum to 1.

    .. math:: w = \mathrm{softmax}(\mathrm{score} / r)

    over the whole batch, on all devices; see ``loss_scores``. Without a gradient. Equal
    losses get equal weights. The method takes high losses for informative: with gross
    outliers among the labels it makes things worse.

    Shapes: losses [...], where [...] -> [...]

    Args:
      losses: one per sequence, finite where they take part.
      strategy: as in ``loss_scores``.
      r: temperature, positive, ``inf`` for equal weights (as in the burn-in of the
        first 1000 steps); 0.4 for larger models, 1 for smaller ones. May be traced.
      delta: as in ``loss_scores``.
      where: bool, the losses that take part; the others weigh 0.
      axis_name: of the mapped axis the batch is split over, if it is; under automatic
        sharding there is nothing to say.

    Raises:
      ValueError: as ``loss_scores``, or ``r`` not positive.

    Source: Sow et al. 2025, arXiv:2502.06733.

    >>> loss_weights(jnp.float32([2, 2]))
    Array([0.5, 0.5], dtype=float32)
    """
    checked("r", r, lambda r: r > 0, "positive")
    score = loss_scores(
        losses, strategy=strategy, delta=delta, where=where, axis_name=axis_name
    )
    keep = _kept(where, score)
    score = jnp.where(keep, score / r, -jnp.inf)
    top = jnp.max(score, initial=-jnp.inf)
    if axis_name is not None:
        top = jax.lax.pmax(top, axis_name)
    e = jnp.exp(score - jnp.where(top > -jnp.inf, top, 0))
    total = jnp.sum(e)
    if axis_name is not None:
        total = jax.lax.psum(total, axis_name)
    return e / jnp.where(total > 0, total, 1)


def reweighted_loss(
    losses: ArrayLike,
    *,
    strategy: Strategy = "linupper",
    r: ArrayLike = 0.4,
    delta: ArrayLike = 1.0,
    where: ArrayLike | None = None,
    axis_name: str | None = None,
    token_share: ArrayLike | None = None,
) -> jax.Array:
    r"""One number per batch: its losses, weighed by ``loss_weights``.

    .. math:: \sum_i w_i \ell_i

    Split over ``axis_name``, each device returns its part times their number, so that
    the data-parallel mean is the sum over all (the README's rule). The released trainer
    multiplies by the batch size and each sequence's share of the active tokens as well:
    pass ``token_share`` for that.

    Shapes: losses [...], where [...], token_share [...] -> []

    Args:
      losses: one per sequence, finite where they take part; they get the gradient.
      strategy: as in ``loss_scores``.
      r: as in ``loss_weights``.
      delta: as in ``loss_scores``.
      where: bool, the losses that take part.
      axis_name: of the mapped axis the batch is split over, if it is.
      token_share: each sequence's share of the whole batch's active tokens.

    Raises:
      ValueError: as ``loss_weights``, or ``token_share`` of another shape.

    Source: Sow et al. 2025, arXiv:2502.06733.

    >>> reweighted_loss(jnp.float32([2, 2]))
    Array(2., dtype=float32)
    """
    x = numerics.promote(losses, "losses")
    keep = _kept(where, x)
    w = loss_weights(
        x, strategy=strategy, r=r, delta=delta, where=where, axis_name=axis_name
    )
    count, devices = jnp.sum(keep), 1
    if axis_name is not None:
        devices = jax.lax.psum(1, axis_name)
        count = jax.lax.psum(count, axis_name)
    if token_share is not None:
        share = jnp.asarray(token_share, x.dtype)
        if share.shape != x.shape:
            raise ValueError(f"token_share has shape {share.shape}, expected {x.shape}")
        w = w * share * count
    return devices * jnp.sum(jnp.where(keep, w * jnp.where(keep, x, 0), 0))


def _kept(where, x):
    keep = jnp.ones(x.shape, bool) if where is None else jnp.asarray(where)
    if keep.dtype != bool:
        raise TypeError(f"where has dtype {keep.dtype}, expected bool")
    if keep.shape != x.shape:
        raise ValueError(f"where has shape {keep.shape}, expected {x.shape}")
    return keep


ROWS = ()
