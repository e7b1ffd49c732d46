"""How many classes beat the label, and what cross-entropy is made of.

Source: What Scales in Cross-Entropy Scaling Law?, Yan et al. 2025, arXiv:2510.04067.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import kept_examples


class RankStats(NamedTuple):
    """Mergeable sums by rank of the label, for ``ce_decomposition``.

    A pytree of two arrays, so ``psum``, ``scan`` and ``jax.tree.map(jnp.add, a, b)``
    merge it over batches and devices; whoever reports asks for ``value``, once.

    Attributes:
      counts: examples whose label has rank e, int32 [C], so less than 2^31 of them.
      sum_logp: their summed log-probabilities of the label, [C].
    """

    counts: Any
    sum_logp: Any

    def __add__(self, other):
        """Merges the statistics of two sets of examples."""
        if not isinstance(other, RankStats):
            return NotImplemented
        return RankStats(self.counts + other.counts, self.sum_logp + other.sum_logp)

    @property
    def value(self) -> dict[str, jax.Array]:
        """The terms of ``ce_decomposition``; NaN where nothing was counted."""
        counts, sums = jnp.asarray(self.counts), jnp.asarray(self.sum_logp)
        some = counts > 0
        weight = counts.astype(sums.dtype)
        total = weight.sum()
        p = weight / total
        log_p = jnp.log(jnp.where(some, p, 1))
        mean = sums / jnp.where(some, weight, 1)  # log Q
        confidence = numerics.logsumexp(mean, where=some)
        log_q = jnp.where(some, mean - confidence, 0)
        terms = {
            "ce": -(jnp.where(some, p * mean, 0)).sum(),
            "error_entropy": -(jnp.where(some, p * log_p, 0)).sum(),
            "self_alignment": jnp.where(some, p * (log_p - log_q), 0).sum(),
            "log_confidence": confidence,
        }
        terms = {k: jnp.where(total > 0, v, jnp.nan) for k, v in terms.items()}
        return terms | {"rank_hist": counts}


def rank_error(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Number of classes that score above the label; 0 if none does.

    .. math:: e = \#\{c : z_c > z_y\}

    A tie does not count against the label.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores, compared as they come.
      labels: ints in ``[0, C)``; the rank of any other is -1.
      axis: the class axis.
      where: bool, the classes that take part. All of them beat a label that is hidden.

    Returns:
      Ranks, int32.

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` not integer.
      ValueError: the shapes disagree.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import rank_error
    >>> rank_error(jnp.float32([[2, 1, 0], [0, 1, 2]]), jnp.array([0, 0]))
    Array([0, 2], dtype=int32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    y = numerics.wide_labels(labels)
    if y.shape != z.shape[:-1]:
        raise ValueError(f"labels has shape {y.shape}, expected {z.shape[:-1]}")
    z = jax.lax.stop_gradient(z)
    label = numerics.is_label(z, y)
    score = jnp.sum(jnp.where(label, z, 0), -1, keepdims=True)
    # Nor does the label beat itself, where compilers compute and round it twice.
    rank = jnp.sum((z > score) & ~label, -1, dtype=jnp.int32)
    return jnp.where((y >= 0) & (y < z.shape[-1]), rank, -1)


def rank_stats(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> RankStats:
    """Counts examples and adds up log-probabilities by the rank of the label.

    Shapes: logits [..., C], labels [...], where [..., C], mask [...] -> ([C], [C])

    Args:
      logits: scores.
      labels: ints in ``[0, C)``.
      axis: the class axis.
      where: bool, the classes that take part.
      mask: bool [...], the examples that count; labels of the others may be any ints.

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` not integer, ``where`` or
        ``mask`` not bool.
      ValueError: the shapes disagree, or a label is C or more; under ``jit``, where
        values are unknown, such a label makes the sums NaN.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import rank_stats
    >>> z = jnp.float32([[2, 1, 0], [0, 1, 2]])
    >>> total = rank_stats(z, jnp.array([0, 0])) + rank_stats(z, jnp.array([1, 2]))
    >>> total.counts
    Array([2, 1, 1], dtype=int32)
    """
    z, y, keep = kept_examples(logits, labels, axis=axis, where=where, mask=mask)
    nll = numerics.label_nll(z, y)
    rank = jnp.maximum(rank_error(z, y), 0)  # no class: NaN, and it shows
    iota = jax.lax.broadcasted_iota(rank.dtype, z.shape, z.ndim - 1)
    hit = (iota == rank[..., None]) & keep[..., None]
    examples = tuple(range(nll.ndim))
    sums = jnp.sum(jnp.where(hit, -nll[..., None], 0), examples)
    return RankStats(jnp.sum(hit, examples, dtype=jnp.int32), sums)


def ce_decomposition(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> dict[str, jax.Array]:
    r"""Splits mean cross-entropy into error-entropy, self-alignment and confidence.

    .. math:: CE = EE + SA - \log C, \quad EE = -\sum_e p_e \log p_e, \quad
        SA = \sum_e p_e \log \frac{p_e}{q_e}

    exactly, where :math:`p_e` is the share of examples whose label has rank e,
    :math:`Q_e` the geometric mean of their label's probability, :math:`C` the sum of
    the :math:`Q_e` over ranks that occur and :math:`q_e = Q_e / C`. For more than one
    batch add up ``rank_stats`` and take its ``value``.

    With K ranks in use and N examples EE is about (K - 1) / (2 N) too small: take
    50,000 examples or more. Log C is positive for some models; then EE may exceed CE.

    Shapes: logits [..., C], labels [...], where [..., C] -> [], [], [], [C], []

    Args:
      logits: scores or log-probabilities.
      labels: ints in ``[0, C)``.
      axis: the class axis.
      where: bool, the classes that take part.
      mask: bool [...], the examples that count; labels of the others may be any ints.

    Returns:
      A dict of ``ce``, ``error_entropy``, ``self_alignment``, ``log_confidence``, in
      nats, float32 (float64 for float64 logits), and ``rank_hist``, int32 [C].

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` not integer, ``where`` or
        ``mask`` not bool.
      ValueError: the shapes disagree, or a label is C or more (NaN under ``jit``).

    Source: What Scales in Cross-Entropy Scaling Law?, Yan et al. 2025,
      arXiv:2510.04067; from a description of the paper.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import ce_decomposition
    >>> z = jnp.float32([[2, 1, 0], [0, 3, 1], [1, 0, 2], [0, 1, 2]])
    >>> parts = ce_decomposition(z, jnp.array([0, 1, 0, 0]))
    >>> print(*(f"{name} {parts[name]:.4f}" for name in parts if name != "rank_hist"))
    ce 1.0982 error_entropy 1.0397 self_alignment 0.1391 log_confidence 0.0806
    """
    return rank_stats(logits, labels, axis=axis, where=where, mask=mask).value
