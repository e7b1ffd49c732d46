"""Clustering with a softmax head: balanced targets and the loss against them."""

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.comp_sums import cross_entropy
from logitlab.losses.rows import Row, distributions

__all__ = [
    "cluster_targets",
    "clustering_accuracy",
    "depict_loss",
]

NOT_LOSSES = ("cluster_targets", "clustering_accuracy")

_SOURCE = "DEPICT, Ghasedi Dizaji et al. 2017, arXiv:1704.06327"


def cluster_targets(
    probs: ArrayLike,
    *,
    power: float = 1.0,
    balance: float = 0.5,
    axis_name: str | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Targets that favour small clusters, from the probabilities of a whole set.

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

    >>> q = cluster_targets(jnp.float32([[0.9, 0.1], [0.6, 0.4]]))
    >>> [f"{p:.4f}" for p in q[0]]
    ['0.8386', '0.1614']
    """
    p = jax.lax.stop_gradient(numerics.promote(probs, "probs"))
    if p.ndim < 2:
        raise ValueError(f"probs has shape {p.shape}, expected [N, C]")
    counted = p
    if mask is not None:
        keep = numerics.kept(mask, p.shape[:-1])
        counted = jnp.where(keep[..., None], p, 0)
    frequency = counted.sum(tuple(range(p.ndim - 1)), keepdims=True)
    if axis_name is not None:
        frequency = jax.lax.psum(frequency, axis_name)
    q = p**power / jnp.maximum(frequency, 1e-12) ** balance
    total = q.sum(-1, keepdims=True)
    return q / jnp.where(total == 0, 1, total)


def depict_loss(
    noisy_logits: ArrayLike,
    targets: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy of the noisy encoder against the targets, one value per example.

    .. math:: \ell = -\sum_k q_k \log p_k

    The reconstruction errors of the layers, which the paper adds, are the model's.

    Shapes: noisy_logits [..., C], targets [..., C], where [..., C] -> [...]

    Args:
      noisy_logits: of the encoder with dropout.
      targets: of ``cluster_targets``; no gradient.
      axis: the class axis.
      where: bool, the clusters that take part. Mass on a hidden one costs ``inf``.

    Returns:
      Nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``noisy_logits`` or ``targets`` is not floating point, ``where`` not
        bool.
      ValueError: the shapes differ.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Ghasedi Dizaji et al. 2017, arXiv:1704.06327.

    >>> depict_loss(jnp.zeros(2), jnp.float32([0.5, 0.5]))
    Array(0.6931472, dtype=float32)
    """
    q = jax.lax.stop_gradient(numerics.promote(targets, "targets"))
    if q.shape != jnp.shape(noisy_logits):
        raise ValueError(
            f"targets has shape {q.shape}, expected {jnp.shape(noisy_logits)}"
        )
    return cross_entropy(noisy_logits, q, axis=axis, where=where)


def clustering_accuracy(labels: ArrayLike, pred: ArrayLike) -> jax.Array:
    """Accuracy under the best one-to-one renaming of the clusters.

    Runs on the host's values: the numbers of classes and clusters are read off them.

    Shapes: labels [N], pred [N] -> []

    Raises:
      TypeError: an argument is not integer.
      ValueError: the shapes differ, nothing to compare, or a negative integer.

    Source: Hungarian matching, Kuhn 1955; used by arXiv:1704.06327.

    >>> clustering_accuracy(jnp.array([0, 0, 1]), jnp.array([1, 1, 0]))
    Array(1., dtype=float32)
    """
    y, c = jnp.asarray(labels), jnp.asarray(pred)
    for name, a in (("labels", y), ("pred", c)):
        if not jnp.issubdtype(a.dtype, jnp.integer):
            raise TypeError(f"{name} has dtype {a.dtype}, expected integers")
    if y.shape != c.shape or y.ndim != 1 or y.size == 0:
        raise ValueError(f"labels, pred have shapes {y.shape}, {c.shape}, expected [N]")
    if min(y.min(), c.min()) < 0:
        raise ValueError("labels, pred hold negative integers")
    size = int(max(y.max(), c.max())) + 1
    table = jnp.zeros((size, size)).at[c, y].add(1.0)
    rows, columns = optax.assignment.hungarian_algorithm(-table)
    return table[rows, columns].sum() / y.size


ROWS = (
    Row(
        depict_loss,
        "example",
        distributions,
        _SOURCE,
        convex=True,
        calibrated=True,
        proper=True,
    ),
)
