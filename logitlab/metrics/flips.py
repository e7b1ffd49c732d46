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
    old, new = _right(old_logits, labels, "old"), _right(new_logits, labels, "new")
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
    z = numerics.prepare_logits(logits, name=f"{name}_logits")
    y = numerics.wide_labels(labels)
    if y.shape != z.shape[:-1]:
        raise ValueError(f"labels has shape {y.shape}, expected {z.shape[:-1]}")
    return (jnp.argmax(z, -1) == y) & ~jnp.isnan(z).any(-1)
