"""What a language model as a judge says: scores, comparisons, and how they agree.

A relation is 1 where the first answer is better, -1 where the second is, 0 for a tie.

Source: TrustJudge 2025, arXiv:2509.21117, github.com/TrustJudge/TrustJudge.
"""

from __future__ import annotations

import itertools

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.mean import Mean, mean_of
from logitlab.numerics.arguments import check_range, positive

_METHODS = ("softmax_logits", "log_odds", "g_eval")
_VERDICTS = ("likelihood", "agreement")
_FAULTS = ("any", "circle", "equal")


def expected_score(
    logits_or_probs: ArrayLike,
    *,
    method: str = "softmax_logits",
    temperature: ArrayLike = 1.0,
    eps: float = 1e-8,
    scale_to: float | None = None,
) -> jax.Array:
    r"""Expected score of a judge, from the probabilities of the scores 1 to S.

    Use it in place of the most likely score, which has many ties.

    .. math:: \sum_s s\, w_s, \quad w = \mathrm{softmax}(z / T)

    with logits z of the S rating tokens; ``"log_odds"`` makes them of probabilities,
    :math:`z_s = \log \frac{p_s + \epsilon}{1 - p_s + \epsilon}`, leaving out those that
    are 0 or 1, as the released code does, with a temperature of 0.2; ``"g_eval"``
    takes :math:`w = p` as it is.

    Shapes: logits_or_probs [..., S] -> [...]

    Args:
      logits_or_probs: logits of the rating tokens, or for the other methods their
        probabilities, which need not add up to 1.
      method: ``"softmax_logits"``, ``"log_odds"`` or ``"g_eval"``.
      temperature: T, positive; ``"g_eval"`` has none.
      eps: of ``"log_odds"``, positive.
      scale_to: the largest score of another scale to report on: times ``scale_to / S``.

    Returns:
      float32 (float64 for float64). 0 where ``"log_odds"`` leaves nothing, NaN where
      every logit is ``-inf``.

    Raises:
      TypeError: ``logits_or_probs`` is not floating point.
      ValueError: no ratings, an unknown method, or a number that is not positive.

    Source: TrustJudge 2025, arXiv:2509.21117; TrustJudge/TrustJudge.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import expected_score
    >>> p = jnp.float32([0.1, 0.2, 0.7])
    >>> expected_score(jnp.log(p))
    Array(2.6, dtype=float32)
    >>> print(expected_score(p, method="log_odds", temperature=0.2).round(4))
    3.0
    """
    if method not in _METHODS:
        raise ValueError(f"method is {method!r}, expected one of {_METHODS}")
    positive(temperature=temperature, eps=eps)
    if scale_to is not None:
        positive(scale_to=scale_to)
    z = numerics.prepare_logits(logits_or_probs, name="logits_or_probs")
    temperature, eps = jnp.asarray(temperature, z.dtype), jnp.asarray(eps, z.dtype)
    if method == "softmax_logits":
        weights = numerics.softmax(z / temperature)
        weights = jnp.where((z > -jnp.inf).any(-1, keepdims=True), weights, jnp.nan)
    elif method == "log_odds":
        unsure = (z > 0) & (z < 1)
        p = jnp.where(unsure, z, 0.5)
        odds = jnp.log(p + eps) - jnp.log(1 - p + eps)
        weights = numerics.softmax(odds / temperature, where=unsure)
    else:
        weights = z
    ratings = z.shape[-1]
    scores = jnp.arange(1, ratings + 1, dtype=z.dtype)
    scores = scores.reshape((1,) * (z.ndim - 1) + scores.shape)
    unit = 1 if scale_to is None else jnp.asarray(scale_to, z.dtype) / ratings
    return unit * jnp.sum(scores * weights, -1)


def pairwise_from_bidirectional(
    p12: ArrayLike,
    p21: ArrayLike,
    *,
    tolerance: ArrayLike = 0.0,
    method: str = "likelihood",
) -> jax.Array:
    r"""Preferred of two answers, from a judge's verdicts in both orders.

    .. math:: \arg\max\; p^{(1)} + \mathrm{swap}(p^{(2)})

    and a tie where half of the difference of the best two is below the tolerance.

    Shapes: p12 [..., 3], p21 [..., 3] -> [...]

    Args:
      p12: probabilities of "A is better", "B is better" and "tie" with the first answer
        shown as A.
      p21: the same with the second answer shown as A.
      tolerance: at least 0; for ``"likelihood"`` alone.
      method: ``"likelihood"``, or ``"agreement"``, the usual baseline: the verdict that
        both orders give, and a tie if they do not.

    Returns:
      Relations of the first answer to the second, int32: 1, 0 or -1. Of equal verdicts
      the first is taken, in the order A, B, tie.

    Raises:
      TypeError: an argument is not floating point.
      ValueError: the shapes disagree, ``tolerance`` is negative, or an unknown method.

    Source: TrustJudge 2025, arXiv:2509.21117; TrustJudge/TrustJudge.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import pairwise_from_bidirectional
    >>> p12, p21 = jnp.float32([0.6, 0.3, 0.1]), jnp.float32([0.5, 0.4, 0.1])
    >>> pairwise_from_bidirectional(p12, p21)
    Array(1, dtype=int32)
    """
    if method not in _VERDICTS:
        raise ValueError(f"method is {method!r}, expected one of {_VERDICTS}")
    _check_tolerance(tolerance)
    p12, p21 = _verdicts(p12, p21)
    if method == "agreement":
        one, other = _relation(p12), -_relation(p21)
        return jnp.where(one == other, one, 0)
    total = p12 + p21[..., jnp.array([1, 0, 2])]
    best, next_ = jnp.moveaxis(jax.lax.top_k(total, 2)[0], -1, 0)
    return jnp.where((best - next_) / 2 < tolerance, 0, _relation(total))


def pairwise_from_perplexity(
    p12: ArrayLike,
    p21: ArrayLike,
    mean_logp12: ArrayLike,
    mean_logp21: ArrayLike,
    *,
    tolerance: ArrayLike = 0.0,
) -> jax.Array:
    r"""Preferred of two answers: the verdict in the order of lower perplexity.

    That of the order whose text has the lower perplexity :math:`e^{-\bar \ell}`; a tie
    where both are equal or no further apart than the tolerance.

    Shapes: p12 [..., 3], p21 [..., 3], mean_logp12 [...], mean_logp21 [...] -> [...]

    Args:
      p12: probabilities of "A is better", "B is better" and "tie" with the first answer
        shown as A.
      p21: the same with the second answer shown as A.
      mean_logp12: mean log-probability of the tokens that the judge wrote for ``p12``.
      mean_logp21: that for ``p21``.
      tolerance: at least 0.

    Returns:
      Relations of the first answer to the second, int32: 1, 0 or -1.

    Raises:
      TypeError: an argument is not floating point.
      ValueError: the shapes disagree, or ``tolerance`` is negative.

    Source: TrustJudge 2025, arXiv:2509.21117; TrustJudge/TrustJudge.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import pairwise_from_perplexity
    >>> sure, unsure = jnp.float32(-0.1), jnp.float32(-2)
    >>> p12, p21 = jnp.float32([0.6, 0.3, 0.1]), jnp.float32([0.5, 0.4, 0.1])
    >>> pairwise_from_perplexity(p12, p21, unsure, sure)
    Array(-1, dtype=int32)
    """
    _check_tolerance(tolerance)
    p12, p21 = _verdicts(p12, p21)
    logps = []
    for name, logp in (("mean_logp12", mean_logp12), ("mean_logp21", mean_logp21)):
        logps.append(numerics.promote_to_float32(logp, name))
        if logps[-1].shape != p12.shape[:-1]:
            raise ValueError(
                f"{name} has shape {logps[-1].shape}, expected {p12.shape[:-1]}"
            )
    one, other = jnp.exp(-logps[0]), jnp.exp(-logps[1])
    surer = jnp.where(one < other, _relation(p12), -_relation(p21))
    # Two that no float can hold are equal.
    same = (one == other) | (jnp.abs(one - other) <= tolerance)
    return jnp.where(same, 0, surer)


def conflict_ratio(
    scores: ArrayLike, relations: ArrayLike, *, tolerance: ArrayLike = 0.0
) -> Mean:
    r"""Share of pairs whose scores disagree with their comparison.

    Shapes: scores [..., N], relations [..., N, N] -> ([], [])

    Args:
      scores: of N answers to one question.
      relations: integers, of answer i to answer j; those of i < j are read.
      tolerance: scores no further apart count as equal; at least 0.

    Returns:
      A :class:`Mean` over all pairs of all questions. Say which relation was used: one
      of forced ties is another matter than one of likelihoods.

    Raises:
      TypeError: ``scores`` is not floating point or ``relations`` not integer.
      ValueError: the shapes disagree, or ``tolerance`` is negative.

    Source: TrustJudge 2025, arXiv:2509.21117; TrustJudge/TrustJudge.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import conflict_ratio
    >>> better = jnp.array([[0, 1, 1], [-1, 0, -1], [-1, 1, 0]])
    >>> float(conflict_ratio(jnp.float32([5, 4, 4]), better))
    0.3333333432674408
    """
    _check_tolerance(tolerance)
    s, r = numerics.promote_to_float32(scores, "scores"), _relations(relations)
    if r.shape[:-1] != s.shape:
        raise ValueError(
            f"relations has shape {r.shape}, expected {s.shape + s.shape[-1:]}"
        )
    off = s[..., :, None] - s[..., None, :]
    by_score = jnp.where(jnp.abs(off) <= tolerance, 0, jnp.sign(off))
    i, j = np.triu_indices(s.shape[-1], 1)
    return mean_of((by_score != jnp.sign(r))[..., i, j])


def non_transitivity_ratio(
    relation_matrix: ArrayLike, *, k: int = 3, fault: str = "any"
) -> Mean:
    r"""Share of sets of k answers whose comparisons contradict each other.

    Use it to judge a judge: 0 for one whose preferences are an order.

    A set is at fault if three of its answers are: the relations of i to j and of j to
    k force that of i to k, and it is another one.

    Shapes: relation_matrix [..., N, N] -> ([], [])

    Args:
      relation_matrix: integers, of answer i to answer j; those of i < j are read.
      k: size of the sets, from 3 to N; not traced, for the sets are listed.
      fault: ``"circle"`` for a strict relation that is reversed, ``"equal"`` for a tie
        that should be strict or the other way round, ``"any"`` for both.

    Returns:
      A :class:`Mean` over all sets of all questions.

    Raises:
      TypeError: ``relation_matrix`` is not integer.
      ValueError: it is not square, ``k`` is out of its range, or an unknown fault.

    Source: TrustJudge 2025, arXiv:2509.21117; TrustJudge/TrustJudge.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import non_transitivity_ratio
    >>> circle = jnp.array([[0, 1, -1], [-1, 0, 1], [1, -1, 0]])
    >>> float(non_transitivity_ratio(circle))
    1.0
    """
    r = _relations(relation_matrix, "relation_matrix")
    size = r.shape[-1]
    if fault not in _FAULTS:
        raise ValueError(f"fault is {fault!r}, expected one of {_FAULTS}")
    if not 3 <= k <= size:
        raise ValueError(f"k is {k}, expected 3 to {size}, the answers")
    r = jnp.sign(r)
    triples = np.array(list(itertools.combinations(range(size), 3)))
    at = {tuple(triple): i for i, triple in enumerate(triples.tolist())}
    a, b, c = triples.T
    first, second, third = r[..., a, b], r[..., b, c], r[..., a, c]
    forced = jnp.sign(first + second)
    free = first * second < 0  # better than one, worse than the other
    wrong = ~free & (third != forced)
    circle = wrong & (forced * third < 0)
    bad = {"any": wrong, "circle": circle, "equal": wrong & ~circle}[fault]
    inside = [
        [at[triple] for triple in itertools.combinations(some, 3)]
        for some in itertools.combinations(range(size), k)
    ]
    return mean_of(bad[..., np.array(inside)].any(-1))


def _verdicts(p12, p21):
    p12, p21 = (
        numerics.promote_to_float32(p12, "p12"),
        numerics.promote_to_float32(p21, "p21"),
    )
    if p12.shape != p21.shape or p12.shape[-1:] != (3,):
        raise ValueError(
            f"p12 has shape {p12.shape}, p21 {p21.shape}, expected [..., 3] of both"
        )
    return p12, p21


def _relation(p):
    """Of the answer shown as A to the one shown as B."""
    return jnp.array([1, -1, 0], jnp.int32)[p.argmax(-1)]


def _relations(relations, name="relations"):
    r = numerics.wide_labels(relations, name)
    if r.ndim < 2 or r.shape[-1] != r.shape[-2]:
        raise ValueError(f"{name} has shape {r.shape}, expected [..., N, N]")
    return r


def _check_tolerance(tolerance):
    check_range("tolerance", tolerance, lambda t: t >= 0, "at least 0")
