"""How diverse texts are: n-grams, BLEU among themselves, spread of their embeddings."""

from __future__ import annotations

import collections
import math
import zlib
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.mean import Mean, mean_of
from logitlab.numerics._lengths import unit
from logitlab.numerics.arguments import check_count, hyper

__all__ = [
    "compression_ratio",
    "distinct_n",
    "embedding_coverage",
    "remote_clique",
    "self_bleu",
    "unigram_entropy",
    "unique_ratio",
    "vendi_score",
]


def distinct_n(sequences: Sequence[Sequence[int]], n: int) -> float:
    """Share of different n-grams among all n-grams of a set of texts.

    Use it to see texts collapse into repetition; compare sets of equal size only, as it
    falls with the length. It runs on the host.

    Args:
      sequences: token ids of each text.
      n: length of the n-grams.

    Returns:
      In [0, 1]; 0 where there is no n-gram.

    Raises:
      ValueError: ``n`` is below 1.

    Source: Li et al. 2015, arXiv:1510.03055.

    >>> from logitlab.metrics import distinct_n
    >>> distinct_n([[1, 2, 1, 2], [3]], 2)
    0.6666666666666666
    """
    check_count("n", n)
    found = [gram for text in sequences for gram in _grams(text, n)]
    return len(set(found)) / len(found) if found else 0.0


def _grams(text, n):
    text = np.asarray(text)
    if text.ndim != 1:
        raise ValueError(f"sequences has a text of shape {text.shape}, expected [N]")
    tokens = text.tolist()
    return [tuple(tokens[i : i + n]) for i in range(len(tokens) - n + 1)]


def self_bleu(
    sequences: Sequence[Sequence[int]], n: int = 4, *, eps: float = 0.1
) -> float:
    r"""Mean BLEU of each text against all others: high where they are alike.

    .. math:: \frac1M \sum_i b_i \exp\Bigl(\frac1n \sum_{k=1}^n
        \log \frac{m_{ik}}{g_{ik}}\Bigr), \quad
        b_i = \min(1, e^{1 - r_i / \ell_i})

    with m the k-grams of text i that another text has, each at most as often as it
    occurs in one of them, g all its k-grams, and r the other length nearest to its own,
    the shorter one of two. It runs on the host, in time that grows with the texts, not
    their pairs.

    Args:
      sequences: token ids of each text.
      n: longest n-grams.
      eps: what counts in the place of no match, positive (NLTK's method 1).

    Returns:
      In [0, 1]; NaN for fewer than two texts.

    Raises:
      ValueError: ``n`` is below 1 or ``eps`` not positive.

    Source: Zhu et al. 2018, arXiv:1802.01886.

    >>> from logitlab.metrics import self_bleu
    >>> self_bleu([[1, 2, 3, 4], [1, 2, 3, 4]])
    1.0
    """
    check_count("n", n)
    if not eps > 0:
        raise ValueError(f"eps is {eps}, expected positive")
    if len(sequences) < 2:
        return math.nan
    lengths = [len(text) for text in sequences]
    precisions = np.zeros((len(sequences), n))
    for k in range(1, n + 1):
        counts = [collections.Counter(_grams(text, k)) for text in sequences]
        best = _two_largest(counts)
        for i, own in enumerate(counts):
            matches = sum(
                min(count, _of_others(best[gram], i)) for gram, count in own.items()
            )
            total = max(sum(own.values()), 1)
            precisions[i, k - 1] = math.log((matches or eps) / total)
    scores = []
    for i, length in enumerate(lengths):
        others = lengths[:i] + lengths[i + 1 :]
        nearest = min(others, key=lambda r: (abs(r - length), r))
        if length == 0:
            scores.append(0.0)
            continue
        brevity = min(0.0, 1 - nearest / length)
        scores.append(math.exp(brevity + precisions[i].mean()))
    return float(np.mean(scores))


def _two_largest(counts):
    """For each n-gram its two largest counts, and in which text the first one is."""
    best: dict[tuple, tuple] = {}
    for i, own in enumerate(counts):
        for gram, count in own.items():
            first, where, second = best.get(gram, (0, -1, 0))
            if count > first:
                best[gram] = count, i, first
            elif count > second:
                best[gram] = first, where, count
    return best


def _of_others(best, i):
    first, where, second = best
    return second if where == i else first


def unigram_entropy(sequences: Sequence[Sequence[int]]) -> float:
    r"""Entropy of the tokens of a set of texts, pooled.

    .. math:: -\sum_v p_v \log p_v

    Args:
      sequences: token ids of each text.

    Returns:
      In nats; 0 without tokens.

    >>> from logitlab.metrics import unigram_entropy
    >>> round(unigram_entropy([[1, 2], [1, 2]]), 4)
    0.6931
    """
    counts = collections.Counter(g for text in sequences for g in _grams(text, 1))
    p = np.array(list(counts.values()), float)
    p /= max(p.sum(), 1)
    return float(-(p * np.log(p)).sum())


def compression_ratio(sequences: Sequence[str | bytes]) -> float:
    """How many times smaller a set of texts is once it is compressed.

    High where they repeat themselves and each other. Texts are joined by line feeds
    and compressed by zlib, level 9.

    Args:
      sequences: texts, or their bytes.

    Raises:
      ValueError: there are no characters.

    >>> from logitlab.metrics import compression_ratio
    >>> compression_ratio(["abc"]) < compression_ratio(["abc"] * 100)
    True
    """
    parts = [t.encode() if isinstance(t, str) else bytes(t) for t in sequences]
    whole = b"\n".join(parts)
    if not whole:
        raise ValueError("sequences is empty, expected at least one character")
    return len(whole) / len(zlib.compress(whole, 9))


def unique_ratio(sequences: Sequence[Sequence[int]]) -> float:
    """Share of different texts among all of them.

    Args:
      sequences: token ids of each text, or strings.

    Returns:
      In [0, 1]; 0 without texts.

    >>> from logitlab.metrics import unique_ratio
    >>> unique_ratio([[1, 2], [1, 2], [3], [4]])
    0.75
    """
    if not len(sequences):
        return 0.0
    return len({tuple(text) for text in sequences}) / len(sequences)


def vendi_score(
    kernel: ArrayLike, q: ArrayLike = 1.0, *, mask: ArrayLike | None = None
) -> jax.Array:
    r"""Effective number of different things, from their similarities.

    .. math:: \exp\Bigl(\frac{1}{1 - q} \log \sum_i \lambda_i^q\Bigr)

    with the eigenvalues of K / M; at q = 1 it is the exponential of their entropy, at
    infinity one over the largest.

    Shapes: kernel [..., M, M], mask [..., M] -> [...]

    Args:
      kernel: K, symmetric similarities, 1 on the diagonal.
      q: order, at least 0; a small one counts rare things more.
      mask: bool, the things that count; it is the same as leaving the others out.

    Returns:
      From 1, all are alike, to M, float32 (float64 for a float64 kernel); 0 without
      any.

    Raises:
      TypeError: ``kernel`` is not floating point or ``mask`` is not bool.
      ValueError: ``kernel`` is not square, or ``q`` is negative.

    Numerics: eigenvalues that are rounding errors, below M eps of the largest, count as
      0. At q = 0.5 they matter most: float32 is good to 0.3 %.

    Source: Friedman and Dieng 2022, arXiv:2210.02410; other orders, Pasarkar and Dieng
      2023, arXiv:2310.12952.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import vendi_score
    >>> print(f"{vendi_score(jnp.eye(3)):.4f}")
    3.0000
    """
    k = numerics.promote_to_float32(kernel, "kernel")
    if k.ndim < 2 or k.shape[-1] != k.shape[-2]:
        raise ValueError(f"kernel has shape {k.shape}, expected [..., M, M]")
    q = hyper("q", q, k.dtype, lambda q: q >= 0, "at least 0")
    keep = numerics.check_mask(mask, k.shape[:-1])
    if k.shape[-1] == 0:
        return jnp.zeros(k.shape[:-2], k.dtype)
    k = jnp.where(keep[..., None] & keep[..., None, :], k, 0)
    count = jnp.sum(keep, -1).astype(k.dtype)
    values = jnp.linalg.eigvalsh(k / jnp.maximum(count, 1)[..., None, None])
    largest = values[..., -1:]
    least = k.shape[-1] * jnp.finfo(k.dtype).eps * largest
    some = (values > least) & (values > 0)
    safe = jnp.where(some, values, 1)
    share = jnp.where(some, values, 0)
    entropy = -jnp.sum(share * jnp.log(safe), -1)
    other = (q != 1) & (q < jnp.inf)
    order = jnp.where(other, q, 2)
    power = jnp.sum(jnp.where(some, safe**order, 0), -1)
    power = jnp.where(count > 0, power, 1)
    renyi = jnp.log(power) / (1 - order)
    top = -jnp.log(jnp.where(count > 0, largest[..., 0], 1))
    log_score = jnp.where(other, renyi, jnp.where(q == jnp.inf, top, entropy))
    return jnp.where(count > 0, jnp.exp(log_score), 0)


def remote_clique(embeddings: ArrayLike, *, mask: ArrayLike | None = None) -> jax.Array:
    r"""Mean cosine distance of all pairs of embeddings.

    .. math:: \frac{2}{M (M - 1)} \sum_{i < j} (1 - \cos(x_i, x_j))

    Computed from the sum of the unit vectors, without a matrix of pairs.

    Shapes: embeddings [..., M, D], mask [..., M] -> [...]

    Args:
      embeddings: one for each text; a vector of 0 has cosine 0 with all.
      mask: bool, those that count.

    Returns:
      In [0, 2], float32 (float64 for float64 embeddings); 0 with fewer than two.

    Raises:
      TypeError: ``embeddings`` is not floating point or ``mask`` is not bool.
      ValueError: the shapes disagree.

    Source: Rhys Cox et al. 2021, "Directed diversity".

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import remote_clique
    >>> remote_clique(jnp.float32([[1, 0], [0, 2], [0, 1]])).round(4)
    Array(0.6667, dtype=float32)
    """
    x, keep = _kept_rows(embeddings, mask, "embeddings")
    x = unit(x, -1)
    count = jnp.sum(keep, -1).astype(x.dtype)
    # Sums of squared differences from the mean stay exact where all are alike.
    mean = jnp.sum(x, -2, keepdims=True) / jnp.maximum(count, 1)[..., None, None]
    off = jnp.where(keep[..., None], x - mean, 0)
    zeros = jnp.sum(keep & jnp.all(x == 0, -1), -1).astype(x.dtype)
    spread = jnp.sum(jnp.square(off), (-2, -1))
    # |x_i - x_j|^2 / 2 is 1 - cos, but a vector of 0 lacks half in each of its pairs.
    total = count * spread + zeros * (count - 1)
    pairs = count * (count - 1)
    return jnp.where(pairs > 0, total / jnp.maximum(pairs, 1), 0)


def _kept_rows(rows, mask, name):
    x = numerics.promote_to_float32(rows, name)
    if x.ndim < 2:
        raise ValueError(f"{name} has shape {x.shape}, expected [..., M, D]")
    keep = numerics.check_mask(mask, x.shape[:-1])
    return jnp.where(keep[..., None], x, 0), keep


def embedding_coverage(
    embeddings: ArrayLike,
    reference_embeddings: ArrayLike,
    *,
    radius: ArrayLike,
    mask: ArrayLike | None = None,
    reference_mask: ArrayLike | None = None,
) -> Mean:
    r"""Share of reference embeddings that one of the others is near to.

    Use it to see how much of real data generated ones reach.

    .. math:: \frac1R \sum_j [\min_i \|x_i - r_j\| \le \rho]

    Args:
      embeddings: [M, D], of what was generated.
      reference_embeddings: [R, D].
      radius: rho, at least 0.
      mask: bool [M], those that count.
      reference_mask: bool [R], those that count.

    Returns:
      A ``Mean``, in [0, 1].

    Raises:
      TypeError: embeddings are not floating point.
      ValueError: the shapes disagree, or ``radius`` is negative.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import embedding_coverage
    >>> x, r = jnp.float32([[0, 0]]), jnp.float32([[0, 1], [3, 0]])
    >>> embedding_coverage(x, r, radius=1.0).value
    Array(0.5, dtype=float32)
    """
    x, keep = _kept_rows(embeddings, mask, "embeddings")
    r, kept = _kept_rows(reference_embeddings, reference_mask, "reference_embeddings")
    if x.ndim != 2 or r.ndim != 2 or x.shape[1] != r.shape[1]:
        raise ValueError(
            f"embeddings has shape {x.shape} and reference_embeddings {r.shape}, "
            "expected [M, D] and [R, D]"
        )
    radius = hyper("radius", radius, x.dtype, lambda a: a >= 0, "at least 0")

    def near(row):
        square = jnp.sum(jnp.square(x - row[None]), -1)
        return jnp.any(keep & (square <= radius * radius))

    return mean_of(jax.lax.map(near, r).astype(x.dtype), kept)
