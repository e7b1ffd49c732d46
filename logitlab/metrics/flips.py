"""What a model gets wrong that the model before it got right."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.mean import Mean, accuracy, mean_of


def negative_flip_rate(
    new_logits: ArrayLike,
    old_logits: ArrayLike,
    labels: ArrayLike,
    *,
    mask: ArrayLike | None = None,
) -> Mean:
    r"""Share of examples that the old model has right and the new one wrong.

    Use it to report what an update of a deployed model breaks.

    .. math:: \frac1N \sum_n [\hat y^{old}_n = y_n \wedge \hat y^{new}_n \ne y_n]

    Shapes: new_logits [..., C], old_logits [..., K], labels [...], mask [...]
      -> ([], [])

    Args:
      new_logits: scores; the first of equals is the prediction.
      old_logits: of the same examples, over the same classes or the first K of them.
      labels: ints in ``[0, C)``.
      mask: bool, the examples that count (in the paper, test examples of old classes);
        labels of the others may be any ints.

    Raises:
      TypeError: logits are not floating point, ``labels`` not integer, ``mask`` not
        bool.
      ValueError: the shapes disagree.

    Source: Yan et al. 2021, arXiv:2011.09161; margin-preserving training,
      arXiv:2511.08322.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import negative_flip_rate
    >>> new, old = jnp.float32([[0, 1], [0, 1]]), jnp.float32([[1, 0], [0, 1]])
    >>> float(negative_flip_rate(new, old, jnp.array([0, 1])))
    0.5
    """
    old = _right(old_logits, labels, "old_logits")
    new = _right(new_logits, labels, "new_logits")
    return mean_of(old & ~new, mask)


def relative_negative_flip_rate(
    new_logits: ArrayLike,
    old_logits: ArrayLike,
    labels: ArrayLike,
    *,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Negative flip rate over that of a model with independent errors.

    Use it to compare updates whose new models differ in accuracy.

    .. math:: \frac{NFR}{(1 - e_{old}) \, e_{new}}

    0 where the denominator is 0; 1 for independent errors. A ratio, which is not to be
    averaged over batches: give it all examples at once.

    Shapes: new_logits [..., C], old_logits [..., K], labels [...], mask [...]
      -> []

    Args:
      new_logits: scores; the first of equals is the prediction.
      old_logits: of the same examples, over the same classes or the first K of them.
      labels: ints in ``[0, C)``.
      mask: bool, the examples that count.

    Raises:
      TypeError: logits are not floating point, ``labels`` not integer, ``mask`` not
        bool.
      ValueError: the shapes disagree.

    Source: Yan et al. 2021, arXiv:2011.09161; margin-preserving training,
      arXiv:2511.08322.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import relative_negative_flip_rate
    >>> new, old = jnp.float32([[0, 1], [0, 1]]), jnp.float32([[1, 0], [0, 1]])
    >>> relative_negative_flip_rate(new, old, jnp.array([0, 1]))
    Array(1., dtype=float32)
    """
    flips = negative_flip_rate(new_logits, old_logits, labels, mask=mask)
    old = accuracy(old_logits, labels, mask=mask)
    new = accuracy(new_logits, labels, mask=mask)
    wrong = new.count - new.sum
    expected = old.sum / jnp.maximum(old.count, 1) * wrong  # a product of counts wraps
    return jnp.where(expected > 0, flips.sum / jnp.where(expected > 0, expected, 1), 0)


def _right(logits, labels, name):
    """As ``accuracy`` counts them."""
    z = numerics.prepare_logits(logits, name=name)
    y = numerics.wide_labels(labels)
    if y.shape != z.shape[:-1]:
        raise ValueError(f"labels has shape {y.shape}, expected {z.shape[:-1]}")
    return (jnp.argmax(z, -1) == y) & ~jnp.isnan(z).any(-1)


def prediction_stability(
    logits: ArrayLike,
    other_logits: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cosine between the predicted probabilities of two views of an input.

    Use it as a measure of trust that needs no labels; differentiable.

    .. math:: \frac{\sum_c p_c q_c}{\lVert p \rVert\, \lVert q \rVert}

    Shapes: logits [..., C], other_logits [..., C], where [..., C] -> [...]

    Returns:
      From 0 to 1, float32 (float64 for float64 logits); 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: shapes that differ.

    Source: SADE, Zhang et al. 2022, arXiv:2107.09249.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import prediction_stability
    >>> print(f"{prediction_stability(jnp.zeros(2), jnp.float32([9, 0])):.4f}")
    0.7072
    """
    z, other = (
        numerics.prepare_logits(a, axis=axis, where=where, name=name)
        for a, name in ((logits, "logits"), (other_logits, "other_logits"))
    )
    if other.shape != z.shape:
        raise ValueError(f"other_logits has shape {other.shape}, expected {z.shape}")
    p, q = numerics.softmax(z), numerics.softmax(other)
    squares = jnp.sum(p * p, -1) * jnp.sum(q * q, -1)
    some = squares > 0
    cosine = jnp.sum(p * q, -1) / jnp.sqrt(jnp.where(some, squares, 1))
    return jnp.where(some, cosine, 0)


def false_false_true(
    logits: ArrayLike,
    other_logits: ArrayLike,
    ensemble_logits: ArrayLike,
    labels: ArrayLike,
    *,
    mask: ArrayLike | None = None,
) -> Mean:
    r"""Share of examples that two models get wrong and their ensemble right.

    Use it to see what an average of models, or of their weights, knows that neither
    does.

    .. math:: \frac1N \sum_n
        [\hat y_n \ne y_n \wedge \hat y'_n \ne y_n \wedge \hat y^{ens}_n = y_n]

    Shapes: logits [..., C], other_logits [..., C], ensemble_logits [..., C],
      labels [...], mask [...] -> ([], [])

    Args:
      logits: scores of one model; the first of equals is the prediction.
      other_logits: of the other.
      ensemble_logits: of what was made of both.
      labels: ints in ``[0, C)``.
      mask: bool, the examples that count; labels of the others may be any ints.

    Raises:
      TypeError: logits are not floating point, ``labels`` not integer, ``mask`` not
        bool.
      ValueError: the shapes disagree.

    Source: BANG, Lin et al. 2024, arXiv:2309.17230.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import false_false_true
    >>> one, other = jnp.float32([[0, 2, 3]]), jnp.float32([[3, 2, 0]])
    >>> float(false_false_true(one, other, one + other, jnp.array([1])))
    1.0
    """
    one, other, both = (
        _right(z, labels, name)
        for z, name in (
            (logits, "logits"),
            (other_logits, "other_logits"),
            (ensemble_logits, "ensemble_logits"),
        )
    )
    return mean_of(~one & ~other & both, mask)
