"""Losses of ranked lists: softmax, likelihood, pairs of a list, approximate NDCG."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.comp_sums import cross_entropy
from logitlab.numerics.arguments import hyper

__all__ = [
    "approx_ndcg_loss",
    "listwise_mle_loss",
    "listwise_softmax_loss",
    "pairwise_hinge_loss",
    "pairwise_logistic_loss",
]


def listwise_softmax_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None = None,
    segments: ArrayLike | None = None,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Softmax cross-entropy of a list with its relevances, ListNet's loss.

    Use it when a list of documents has graded relevances.

    .. math:: \ell = -\sum_i q_i \log \mathrm{softmax}(z)_i, \quad
        q_i = w_i y_i / \sum_j w_j y_j

    Cheap, and usually the first to try.

    Shapes: logits [..., N], labels [..., N], where [..., N] -> [...]

    Args:
      logits: scores of the items; one at ``-inf`` is not in its list.
      labels: relevances, at least 0, integer or floating point; no gradient.
      weights: [..., N], which multiply the relevances; 1 by default. An item of weight
        0 is only to be ranked below the others.
      segments: int [..., N], which list an item is of; one list by default.
      axis: the axis of the items, of all arrays.
      where: bool, the items that there are.

    Returns:
      Nats; 0 for a list in which nothing is relevant, float32 (float64 for float64
      logits).

    Raises:
      TypeError: ``logits`` is not floating point, ``segments`` not integer or ``where``
        not bool.
      ValueError: the shapes differ.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: ListNet, Cao et al. 2007; Bruch et al. 2019, An Analysis of the Softmax
      Cost Function for Learning to Rank.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import listwise_softmax_loss
    >>> z, relevance = jnp.float32([2, 1, 3]), jnp.array([1, 0, 0])
    >>> print(f"{listwise_softmax_loss(z, relevance):.4f}")
    1.4076
    """
    z, y, w, together = _list(logits, labels, weights, segments, axis, where)
    gain = jnp.where((w == 0) | (y == 0), 0, w * y)
    total = _list_sum(gain, together)
    q = gain / jnp.where(total > 0, total, 1)
    if segments is None:
        return cross_entropy(z, q)
    # A list is a row, that of its first item.
    first = ~jnp.any(jnp.tril(together, -1), -1, keepdims=True)
    lists = jnp.where(together, z[..., None, :], -jnp.inf)
    parts = jnp.where(together & first, q[..., None, :], 0)
    return jnp.sum(cross_entropy(lists, parts), -1)


def listwise_mle_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None = None,
    segments: ArrayLike | None = None,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""ListMLE: minus the log-likelihood of the order of the relevances.

    Use it when the whole order of the list counts.

    .. math:: \ell = \sum_i w_i \log \sum_{j \text{ not before } i} e^{z_j - z_i}

    under Plackett and Luce, who draw the items one by one. Where the order itself is
    known, ``list_mle_distillation_loss`` takes it; where equals should not be compared,
    ``plackett_luce_loss``.

    Shapes: logits [..., N], labels [..., N], where [..., N] -> [...]

    Args:
      logits: scores of the items; one at ``-inf`` is not in its list.
      labels: relevances, integer or floating point; no gradient. Of equals the
        item that comes first is the better one.
      weights: [..., N], of the terms; 1 by default. An item of weight 0 has no term,
        but others are still ranked above it.
      segments: int [..., N], which list an item is of; one list by default.
      axis: the axis of the items, of all arrays.
      where: bool, the items that there are.

    Returns:
      Nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` is not floating point, ``segments`` not integer or ``where``
        not bool.
      ValueError: the shapes differ.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Xia et al. 2008, Listwise Approach to Learning to Rank.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import listwise_mle_loss
    >>> z, relevance = jnp.float32([0, 0, 0]), jnp.array([0, 2, 1])
    >>> print(f"{listwise_mle_loss(z, relevance):.4f}")
    1.7918
    """
    z, y, w, together = _list(logits, labels, weights, segments, axis, where)
    nll = _nll_among(z, together & ~_better(y))
    counts = (z > -jnp.inf) & (w != 0)
    return jnp.sum(jnp.where(counts, w * jnp.where(counts, nll, 0), 0), -1)


def pairwise_logistic_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None = None,
    segments: ArrayLike | None = None,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""RankNet: logistic loss of all pairs of items with unequal relevance.

    Use it when which of two items is more relevant counts.

    .. math:: \ell = \sum_{i, j : y_i > y_j} w_i \log(1 + e^{z_j - z_i})

    Shapes: logits [..., N], labels [..., N], where [..., N] -> [...]

    Args:
      logits: scores of the items; one at ``-inf`` is not in its list.
      labels: relevances, integer or floating point; no gradient.
      weights: [..., N], of the more relevant item of a pair; 1 by default. An item of
        weight 0 is only to be ranked below the others.
      segments: int [..., N], which list an item is of; one list by default.
      axis: the axis of the items, of all arrays.
      where: bool, the items that there are.

    Returns:
      Nats, a sum: divide by the number of pairs for their mean, float32 (float64 for
      float64 logits).

    Raises:
      TypeError: ``logits`` is not floating point, ``segments`` not integer or ``where``
        not bool.
      ValueError: the shapes differ.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: RankNet, Burges et al. 2005, Learning to Rank using Gradient Descent.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import pairwise_logistic_loss
    >>> z, relevance = jnp.float32([2, 1, 3]), jnp.array([1, 0, 0])
    >>> print(f"{pairwise_logistic_loss(z, relevance):.4f}")
    1.6265
    """
    arrays = _list(logits, labels, weights, segments, axis, where)
    return _pairwise(arrays, lambda margin: jax.nn.softplus(-margin))


def pairwise_hinge_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None = None,
    segments: ArrayLike | None = None,
    *,
    margin: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""RankSVM: hinge loss of all pairs of items with unequal relevance.

    Use it when which of two items is more relevant counts, up to a margin.

    .. math:: \ell = \sum_{i, j : y_i > y_j} w_i \max(0, m - (z_i - z_j))

    Shapes: logits [..., N], labels [..., N], where [..., N] -> [...]

    Args:
      logits: scores of the items; one at ``-inf`` is not in its list.
      labels: relevances, integer or floating point; no gradient.
      weights: [..., N], of the more relevant item of a pair; 1 by default. An item of
        weight 0 is only to be ranked below the others.
      segments: int [..., N], which list an item is of; one list by default.
      margin: m, by how much the more relevant item should lead.
      axis: the axis of the items, of all arrays.
      where: bool, the items that there are.

    Returns:
      A sum: divide by the number of pairs for their mean, float32 (float64 for float64
      logits).

    Raises:
      TypeError: ``logits`` is not floating point, ``segments`` not integer or ``where``
        not bool.
      ValueError: the shapes differ.

    Source: RankSVM, Joachims 2002, Optimizing Search Engines using Clickthrough Data.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import pairwise_hinge_loss
    >>> z, relevance = jnp.float32([2, 1, 3]), jnp.array([1, 0, 0])
    >>> print(pairwise_hinge_loss(z, relevance))
    2.0
    """
    z, *rest = _list(logits, labels, weights, segments, axis, where)
    margin = hyper("margin", margin, z.dtype)
    return _pairwise((z, *rest), lambda lead: jnp.maximum(margin - lead, 0))


def approx_ndcg_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    weights: ArrayLike | None = None,
    segments: ArrayLike | None = None,
    *,
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""ApproxNDCG: one minus the NDCG of smooth ranks.

    Use it when NDCG is what you report.

    .. math:: \ell = 1 - \frac{1}{D} \sum_i \frac{g_i}{\log_2(1 + r_i)}, \quad
        r_i = 1 + \sum_{j \ne i} \sigma\Bigl(\frac{z_j - z_i}{T}\Bigr), \quad
        g_i = w_i (2^{y_i} - 1)

    with the ideal :math:`D`, the same sum for the ranks of the gains :math:`g`. From 0,
    which it reaches as all margins grow, to 1.

    Shapes: logits [..., N], labels [..., N], where [..., N] -> [...]

    Args:
      logits: scores of the items; one at ``-inf`` is not in its list.
      labels: relevances, at least 0, integer or floating point; no gradient.
      weights: [..., N], which multiply the gains; 1 by default. An item of weight 0 is
        only to be ranked below the others.
      segments: int [..., N], which list an item is of; one list by default.
      temperature: T, positive; the smaller, the closer to NDCG and the flatter.
        0.1 in the paper.
      axis: the axis of the items, of all arrays.
      where: bool, the items that there are.

    Returns:
      A number from 0 to 1, for each list; 0 for one in which nothing is relevant,
      float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` is not floating point, ``segments`` not integer or ``where``
        not bool.
      ValueError: the shapes differ, or ``temperature`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins
      :math:`(z_i - z_j) / T` up to 80: ranks are measured from the ideal ones.

    Source: Qin, Liu and Li 2010, A General Approximation Framework for Direct
      Optimization of Information Retrieval Measures.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import approx_ndcg_loss
    >>> z, relevance = jnp.float32([2, 1, 3]), jnp.array([1, 0, 0])
    >>> print(f"{approx_ndcg_loss(z, relevance):.4f}")
    0.3691
    """
    z, y, w, together = _list(logits, labels, weights, segments, axis, where)
    temperature = hyper(
        "temperature", temperature, z.dtype, lambda t: t > 0, "positive"
    )
    gain = jnp.where((w == 0) | (y == 0), 0, w * (jnp.exp2(y) - 1))
    before = together & _better(gain)  # in the ideal order
    ideal = 2 + jnp.sum(before, -1, dtype=z.dtype)  # one more than the rank
    shown = jnp.where(z > -jnp.inf, z, 0)
    lead = (shown[..., None] - shown[..., None, :]) / temperature
    # What pairs in the wrong order add to the rank, and take from it.
    low = jnp.exp(-jax.nn.softplus(jnp.where(before, -lead, lead)))
    behind = jnp.swapaxes(before, -1, -2)
    moved = jnp.sum(jnp.where(behind, low, 0) - jnp.where(before, low, 0), -1)
    log_ideal, log_more = jnp.log(ideal), jnp.log1p(moved / ideal)
    short = log_more / (log_ideal * (log_ideal + log_more))
    best = _list_sum(gain / log_ideal, together)
    return jnp.sum(gain * short / jnp.where(best > 0, best, 1), -1)


def _list(logits, labels, weights, segments, axis, where):
    """Scores, relevances and weights of the items, and which of them share a list.

    Shapes: [..., N] thrice, and bool [..., N, N]
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    shown = z > -jnp.inf

    def given(array, name):
        array = jnp.asarray(array)
        if array.shape != jnp.shape(logits):
            raise ValueError(
                f"{name} has shape {array.shape}, expected {jnp.shape(logits)}"
            )
        return jnp.moveaxis(array, axis, -1)

    y = given(labels, "labels").astype(z.dtype)
    w = jnp.ones_like(z)
    if weights is not None:
        w = numerics.promote_to_float32(given(weights, "weights"), "weights").astype(
            z.dtype
        )
    together = shown[..., None] & shown[..., None, :]
    if segments is not None:
        s = given(segments, "segments")
        if not jnp.issubdtype(s.dtype, jnp.integer):
            raise TypeError(f"segments has dtype {s.dtype}, expected integers")
        together &= s[..., None] == s[..., None, :]
    y, w = (jax.lax.stop_gradient(jnp.where(shown, a, 0)) for a in (y, w))
    return z, y, w, together


def _better(y):
    """Bool [..., i, j]: item j comes before item i; of equals the one in front."""
    i, j = (
        jax.lax.broadcasted_iota(jnp.int32, (*y.shape, y.shape[-1]), y.ndim - k)
        for k in (1, 0)
    )
    mine, other = y[..., None], y[..., None, :]
    return (other > mine) | ((other == mine) & (j < i))


def _list_sum(values, together):
    """Sums over the items of the same list."""
    return jnp.sum(jnp.where(together, values[..., None, :], 0), -1)


def _nll_among(z, among):
    """Minus the log-probability of each item among those of its row of ``among``."""
    item = jax.lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1)
    return numerics.label_nll(jnp.where(among, z[..., None, :], -jnp.inf), item)


def _pairwise(arrays, loss):
    """Sum over pairs of a loss of the lead of the more relevant item."""
    z, y, w, together = arrays
    pairs = together & (y[..., None] > y[..., None, :]) & (w != 0)[..., None]
    z = jnp.where(z > -jnp.inf, z, 0)
    lead = jnp.where(pairs, z[..., None] - z[..., None, :], 0)
    return jnp.sum(jnp.where(pairs, w[..., None] * loss(lead), 0), (-2, -1))
