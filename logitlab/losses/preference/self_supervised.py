"""SPO: a classifier of how much preferred content was taken out of an answer."""

import re
from collections import Counter
from collections.abc import Collection, Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.labels import checked
from logitlab.losses.preference import pairs
from logitlab.losses.rows import Row, class_labels

__all__ = ["degrade", "preference_degree_loss", "rake_phrases", "spo_total"]

NOT_LOSSES = ("degrade", "rake_phrases", "spo_total")


def rake_phrases(text: str, stopwords: Collection[str]) -> list[tuple[str, float]]:
    """Key phrases of a text and their scores by RAKE, the best first.

    Phrases lie between stop-words and punctuation. A word scores its degree, the summed
    lengths of the phrases that it is in, over its frequency; a phrase the sum of its
    words.

    Args:
      text: any; case does not matter.
      stopwords: in lower case.

    Returns:
      Distinct phrases in lower case with their scores; equal scores in order of
      appearance.

    Source: RAKE, Rose et al. 2010; that SPO has it so is inferred from the abstract of
      arXiv:2409.17791.

    >>> rake_phrases("The deep sea is a deep, cold place.", {"the", "is", "a"})
    [('cold place', 4.0), ('deep sea', 3.5), ('deep', 1.5)]
    """
    stopwords, phrases, words = set(stopwords), [], []
    for token in [*re.findall(r"[\w'-]+|[^\w\s]", text.lower()), "."]:
        if re.match(r"\w", token) and token not in stopwords:
            words.append(token)
        elif words:
            phrases.append(tuple(words))
            words = []
    frequency, degree = Counter(), Counter()
    for phrase in phrases:
        for word in phrase:
            frequency[word] += 1
            degree[word] += len(phrase)
    scores = {
        " ".join(phrase): sum(degree[w] / frequency[w] for w in phrase)
        for phrase in dict.fromkeys(phrases)
    }
    return sorted(scores.items(), key=lambda item: -item[1])


def degrade(
    tokens: Sequence, phrases: Sequence[Sequence], level: int, n_levels: int
) -> list:
    """An answer without the best share of its key phrases.

    Args:
      tokens: of the answer, anything that compares.
      phrases: sequences of such tokens, the best first.
      level: 0 leaves the answer as it is, ``n_levels`` takes all phrases out.
      n_levels: K, at least ``level``.

    Returns:
      The tokens that are left. Of ``n`` phrases, the first ``ceil(level * n / K)`` are
      taken out wherever they occur.

    Raises:
      ValueError: ``level`` is not in ``[0, n_levels]``.

    Source: Li et al. 2024, arXiv:2409.17791; the share inferred from the abstract.

    >>> degrade("a cold place in deep sea".split(), [["cold"], ["deep", "sea"]], 1, 2)
    ['a', 'place', 'in', 'deep', 'sea']
    """
    if not 0 <= level <= n_levels:
        raise ValueError(f"level is {level}, expected one of 0 to {n_levels}")
    gone = -(-level * len(phrases) // n_levels) if level else 0
    left = list(tokens)
    for phrase in map(list, phrases[:gone]):
        i = 0
        while phrase and i + len(phrase) <= len(left):
            if left[i : i + len(phrase)] == phrase:
                del left[i : i + len(phrase)]
            else:
                i += 1
    return left


def preference_degree_loss(
    head_logits: ArrayLike,
    labels: ArrayLike,
    *,
    mask: ArrayLike | None = None,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy of the level of degradation: how much content was taken out.

    .. math:: \ell = -\log p_y

    with y the level of :func:`degrade` and p the softmax of a linear head on the mean
    of the last hidden states of the answer's tokens (one head for chosen answers, one
    for rejected ones).

    Shapes: head_logits [..., C], labels [...], mask [...], where [..., C] -> [...]

    Args:
      head_logits: scores of the levels, one more than ``n_levels``.
      labels: ints in ``[0, C)``, what was done to the answer; any integer where
        ``mask`` is False.
      mask: bool, the answers that have key phrases; the others cost 0.
      axis: the axis of levels of ``head_logits`` and ``where``.
      where: bool, the levels that there are.

    Returns:
      The loss in nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``mask`` is not bool.
      ValueError: wrong shapes, or a level out of range (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Li et al. 2024, arXiv:2409.17791; pooling and head inferred from the
      abstract.

    >>> preference_degree_loss(jnp.float32([40, 0]), 0)
    Array(4.248354e-18, dtype=float32)
    """
    z = numerics.class_axis_last(
        head_logits, axis=axis, where=where, name="head_logits"
    )
    kept = numerics.kept(mask, z.shape[:-1])
    if mask is not None:
        z, labels = jnp.where(kept[..., None], z, 0), jnp.where(kept, labels, 0)
    return jnp.where(kept, numerics.label_nll(z, labels), 0)


def spo_total(
    align_loss: ArrayLike, degree_loss: ArrayLike, *, gamma: ArrayLike = 0.1
) -> jax.Array:
    """An alignment loss with SPO's: ``align_loss + gamma * degree_loss``.

    Args:
      align_loss: any, DPO's by default.
      degree_loss: of :func:`preference_degree_loss`, of the same shape.
      gamma: weight, at least 0; 0.1 is inferred from the abstract.

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``gamma`` is negative.

    Source: Li et al. 2024, arXiv:2409.17791.

    >>> spo_total(jnp.float32([1]), jnp.float32([2]))
    Array([1.2], dtype=float32)
    """
    checked("gamma", gamma, lambda g: g >= 0, "at least 0")
    align, degree = pairs.logps_like(align_loss=align_loss, degree_loss=degree_loss)
    return align + jnp.asarray(gamma, align.dtype) * degree


ROWS = (
    Row(
        preference_degree_loss,
        "example",
        class_labels,
        "Li et al. 2024, arXiv:2409.17791",
        convex=True,
        calibrated=True,
        proper=True,
        label_only=True,
    ),
)
