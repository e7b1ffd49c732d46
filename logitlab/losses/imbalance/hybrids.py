"""The ingredients of a multi-label hybrid loss, and the hybrid."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.imbalance.multilabel import as_binary, mean_bce
from logitlab.numerics.arguments import binary, hyper, weighted

__all__ = [
    "jaccard_contrastive_loss",
    "label_correlation_loss",
    "lca_loss",
    "multilabel_hybrid_loss",
    "weighted_binary_cross_entropy",
]


def weighted_binary_cross_entropy(
    logits: ArrayLike,
    labels: ArrayLike,
    class_weights: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Mean binary cross-entropy with a weight on each class's positives.

    Use it when some labels are rarer than others.

    .. math:: \ell = -\frac1C \sum_c w_c t_c \log \sigma(z_c)
        + (1-t_c) \log \sigma(-z_c)

    The abstract gives no weights; :math:`w_c = N / (2 n_c)`, clipped to [1, 20], is a
    common choice.

    Shapes: logits [..., C], labels [..., C], class_weights [C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: 0 or 1, or probabilities; negative for "no label", which costs NaN.
      class_weights: one per class, at least 0.
      axis: the class axis of ``logits``, ``labels`` and ``where``.
      where: bool, the labels that take part; C counts them.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every label is
      hidden.

    Raises:
      ValueError: labels of another shape or above 1 (NaN under ``jit``), or
        ``class_weights`` not one per class.

    Numerics: relative error below 1e-5, value and gradient.

    Source: inferred from the abstract of arXiv:2410.03979.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import weighted_binary_cross_entropy
    >>> weight = jnp.float32([3, 1])
    >>> weighted_binary_cross_entropy(jnp.float32([0, 0]), jnp.array([1, 0]), weight)
    Array(1.3862944, dtype=float32)
    """
    z, t, shown, bad = as_binary(logits, labels, axis, where)
    w = jnp.asarray(class_weights, z.dtype)
    if w.shape != z.shape[-1:]:
        raise ValueError(f"class_weights has shape {w.shape}, expected {z.shape[-1:]}")
    return mean_bce(z, t, shown, bad, jnp.broadcast_to(w, z.shape))


def label_correlation_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    corr: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Penalty for correlated labels with unequal probabilities.

    Use it when you know which labels go together.

    .. math:: \ell = \frac{1}{C(C-1)} \sum_{i \ne j} |R_{ij}| (p_i - g_{ij})^2, \quad
        g_{ij} = p_j \text{ if } R_{ij} > 0, \text{ else } 1 - p_j

    The labels are checked and otherwise unused: the signature is that of its family.

    Shapes: logits [..., C], labels [..., C], corr [C, C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: 0 or 1, or negative for "no label", which costs NaN.
      corr: correlations, as from ``label_correlation``; the diagonal is not used.
      axis: the class axis of ``logits``, ``labels`` and ``where``.
      where: bool, the labels that take part; C counts them.

    Returns:
      The loss, float32 (float64 for float64 logits). 0 without a pair.

    Raises:
      ValueError: labels of another shape or above 1 (NaN under ``jit``), or
        ``corr`` not square.

    Numerics: relative error below 1e-5, value and gradient, saturated sigmoids too.

    Source: inferred from the abstract of arXiv:2410.03979.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import label_correlation_loss
    >>> corr = jnp.float32([[0, -1], [-1, 0]])
    >>> label_correlation_loss(jnp.float32([0, 0]), jnp.array([1, 0]), corr)
    Array(0., dtype=float32)
    """
    z, _, shown, bad = as_binary(logits, labels, axis, where)
    classes = z.shape[-1]
    r = jnp.asarray(corr, z.dtype)
    if r.shape != (classes, classes):
        raise ValueError(f"corr has shape {r.shape}, expected {(classes, classes)}")
    r = jnp.broadcast_to(r, (*z.shape, classes))
    shape = r.shape
    same = jnp.broadcast_to(jnp.eye(classes, dtype=bool), shape)
    pair = shown[..., None] & shown[..., None, :] & ~same
    one = jnp.broadcast_to(z[..., None], shape)
    other = jnp.broadcast_to(z[..., None, :], shape)
    other = other * jnp.where(r > 0, 1, -1)
    apart = _apart(one, other)
    cost = jnp.sum(jnp.where(pair, jnp.abs(r) * apart**2, 0), (-2, -1))
    loss = cost / _pairs(jnp.sum(shown, -1), z.dtype)
    return jnp.where(jnp.any(bad, -1), jnp.nan, loss)


@jax.custom_jvp  # exact: the slope of the difference rounds to 0 where it is 1
def _apart(a, b):
    """``sigmoid(a) - sigmoid(b)`` as a product, for digits where both are near 1."""
    more = a > b
    high, low = jnp.where(more, a, b), jnp.where(more, b, a)
    size = jax.nn.sigmoid(high) * jax.nn.sigmoid(-low) * -jnp.expm1(low - high)
    return jnp.where(more, size, -size)


@_apart.defjvp
def _apart_jvp(primals, tangents):
    (a, b), (da, db) = primals, tangents
    return _apart(a, b), _slope(a) * da - _slope(b) * db


def _slope(x):
    """``sigmoid(x) * sigmoid(-x)``."""
    e = jnp.exp(-jnp.abs(x))
    return e / jnp.square(1 + e)


def _pairs(count, dtype):
    """How many ordered pairs, at least 1; int32 ends at 46,340 members."""
    return jnp.maximum(count.astype(dtype) * (count - 1).astype(dtype), 1)


def lca_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Label-correlation-aware loss: present labels more probable than absent ones.

    Use it when present labels should merely be likelier than absent ones.

    .. math:: \ell = \frac{1}{|P||A|} \sum_{i \in P, j \in A} e^{p_j - p_i}, \quad
        p = \sigma(z)

    Shapes: logits [..., C], labels [..., C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: 0 or 1, or negative for "no label", which costs NaN.
      axis: the class axis of ``logits``, ``labels`` and ``where``.
      where: bool, the labels that take part.

    Returns:
      The loss in [1/e, e], or 0 without a present or an absent label; float32 (float64
      for float64 logits).

    Raises:
      ValueError: labels of another shape or above 1 (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient.

    Source: Yeh et al. 2017, arXiv:1707.00418, as named beside arXiv:2410.03979.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import lca_loss
    >>> lca_loss(jnp.float32([0, 0]), jnp.array([1, 0]))
    Array(1., dtype=float32)
    """
    z, t, shown, bad = as_binary(logits, labels, axis, where)
    present, absent = shown & (t > 0.5), shown & (t <= 0.5)
    p = numerics.sigmoid(z)

    def mean(values, kept):
        count = jnp.maximum(jnp.sum(kept, -1), 1).astype(z.dtype)
        return jnp.sum(jnp.where(kept, values, 0), -1) / count

    loss = mean(jnp.exp(p), absent) * mean(jnp.exp(-p), present)
    return jnp.where(jnp.any(bad, -1), jnp.nan, loss)


def jaccard_contrastive_loss(
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    margin: ArrayLike = 0.5,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""One number per batch: contrastive loss by the Jaccard index of label sets.

    Use it when embeddings of examples with equal label sets should be close.

    .. math:: \frac{1}{n(n-1)} \sum_{i \ne j} J_{ij} (1 - e_i \cdot e_j)
        + (1 - J_{ij}) \max(0, e_i \cdot e_j - m)

    with normalised embeddings and :math:`J` the Jaccard index of the label sets, 1 for
    two empty sets.

    Shapes: embeddings [N, D], labels [N, C], mask [N] -> []

    Args:
      embeddings: any scale; a zero vector has no direction and no gradient.
      labels: 0 or 1, or negative for "no label", which costs NaN.
      margin: cosine that strangers may have, in [-1, 1].
      mask: bool, the examples that take part.

    Returns:
      The mean over ordered pairs, float32 (float64 for float64 embeddings); 0 without a
      pair.

    Raises:
      ValueError: wrong shapes, or ``margin`` outside [-1, 1].

    Numerics: absolute error below 1e-6.

    Source: inferred from the abstract of arXiv:2410.03979.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import jaccard_contrastive_loss
    >>> jaccard_contrastive_loss(jnp.eye(2), jnp.array([[1], [1]]))
    Array(1., dtype=float32)
    """
    e = numerics.promote_to_float32(embeddings, "embeddings")
    margin = hyper(
        "margin", margin, e.dtype, lambda m: (m >= -1) & (m <= 1), "in [-1, 1]"
    )
    shape = jnp.shape(labels)
    if e.ndim != 2 or len(shape) != 2 or shape[0] != e.shape[0]:
        raise ValueError(
            f"embeddings has shape {e.shape} and labels {shape}, expected (N, D) and "
            "(N, C)"
        )
    keep = numerics.check_mask(mask, e.shape[:1])
    t, bad = binary(labels, shape, e.dtype, jnp.broadcast_to(keep[:, None], shape))
    e = _directions(jnp.where(keep[:, None], e, 0))
    t = (t > 0).astype(e.dtype)
    both = jnp.matmul(t, t.T, precision="highest")
    sizes = jnp.sum(t, -1)
    either = sizes[:, None] + sizes[None, :] - both
    jaccard = jnp.where(either > 0, both / jnp.where(either > 0, either, 1), 1)
    cosine = jnp.matmul(e, e.T, precision="highest")
    close = jnp.where(cosine > margin, cosine - margin, 0)
    cost = jaccard * (1 - cosine) + (1 - jaccard) * close
    pair = keep[:, None] & keep[None, :] & ~jnp.eye(e.shape[0], dtype=bool)
    loss = jnp.sum(jnp.where(pair, cost, 0)) / _pairs(jnp.sum(keep), e.dtype)
    return jnp.where(jnp.any(bad), jnp.nan, loss)


def multilabel_hybrid_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    embeddings: ArrayLike,
    class_weights: ArrayLike,
    corr: ArrayLike,
    *,
    coefficients: tuple[ArrayLike, ArrayLike, ArrayLike] = (1.0, 0.1, 0.1),
    margin: ArrayLike = 0.5,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""One number per batch: weighted BCE, label correlations and a contrastive term.

    Use it when you want the last three together, as the Arabic emotion classifier has.

    .. math:: \mathrm{mean}_i(l_1\,\mathrm{wBCE}_i + l_2\,\mathrm{corr}_i)
        + l_3\,\mathrm{contrast}

    of ``weighted_binary_cross_entropy``, ``label_correlation_loss`` and
    ``jaccard_contrastive_loss``.
    Only the three ingredients are published; the terms, their weights and the mean are
    our inference.

    Shapes: logits [N, C], labels [N, C], embeddings [N, D], class_weights [C], corr
      [C, C], where [N, C], mask [N] -> []

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: 0 or 1, or negative for "no label", which costs NaN.
      embeddings: what the contrastive term compares.
      class_weights: weights of positives, one per class.
      corr: correlations of the labels in the training data.
      coefficients: :math:`l_1, l_2, l_3`.
      margin: cosine that strangers may have.
      axis: the class axis of ``logits``, ``labels`` and ``where``: 1 or -1.
      where: bool, the labels that take part, in all three terms.
      mask: bool, the examples that take part.

    Returns:
      The loss in nats, float32 (float64 for float64 logits); 0 without examples.

    Raises:
      ValueError: wrong shapes, or labels above 1 (NaN under ``jit``).

    Numerics: relative error below 1e-5 of the largest term.

    Source: inferred from the abstract of arXiv:2410.03979.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import multilabel_hybrid_loss
    >>> ones = jnp.ones((2, 2), jnp.int32)
    >>> multilabel_hybrid_loss(
    ...     jnp.zeros((2, 2)), ones, jnp.eye(2), jnp.ones(2), jnp.zeros((2, 2))
    ... )
    Array(0.7931472, dtype=float32)
    """
    z = numerics.promote_to_float32(logits)
    if z.ndim != 2 or axis not in (1, -1):
        raise ValueError(f"logits has shape {z.shape}, expected (N, C) with axis=-1")
    keep = numerics.check_mask(mask, z.shape[:1])
    t, bad = binary(labels, z.shape, z.dtype, jnp.broadcast_to(keep[:, None], z.shape))
    z, t = jnp.where(keep[:, None], z, 0), jnp.where(bad, -1, t)
    bce = weighted_binary_cross_entropy(z, t, class_weights, where=where)
    shown = numerics.prepare_logits(z, where=where) > -jnp.inf
    pairs = label_correlation_loss(z, t, corr, where=where)
    one, two, three = (hyper("coefficients", c, z.dtype) for c in coefficients)
    contrast = jaccard_contrastive_loss(
        embeddings, jnp.where(shown, t, 0), margin=margin, mask=keep
    )
    each = weighted(one, bce) + weighted(two, pairs)
    return numerics.masked_mean(each, keep) + weighted(three, contrast.astype(z.dtype))


def _directions(e):
    """Rows divided by their norms, whatever their scale; zero rows stay."""
    size = jnp.max(jnp.abs(jax.lax.stop_gradient(e)), -1, keepdims=True)
    e = jnp.where(size > 0, e, 0)  # without a direction, without a slope
    e = e * jnp.where(size > 1e15, 2.0**-80, jnp.where(size < 1e-15, 2.0**80, 1))
    square = jnp.sum(e**2, -1, keepdims=True)
    return e / jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 1)
