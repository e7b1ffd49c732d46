"""Sets of classes that hold the label as often as they promise."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics._leads import below_lead
from logitlab.numerics.arguments import (
    check_count,
    check_range,
    check_same_shape,
    hyper,
)

__all__ = ["conformal_scores", "conformal_set", "conformal_threshold"]


def conformal_scores(
    logits: ArrayLike,
    *,
    kind: Literal["lac", "log_odds", "aps", "raps"] = "lac",
    key: jax.Array | None = None,
    lam: ArrayLike = 0.01,
    k_reg: ArrayLike = 5,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Nonconformity score of each class, were it the label, for conformal sets.

    .. math:: 1 - p_c, \quad \log \frac{1 - p_c}{p_c}, \quad
        \sum_{p_j > p_c} p_j + u \, p_c, \quad
        \dots + \lambda (\mathrm{rank}_c - k_{reg})_+

    "lac" makes the smallest sets on average, "aps" sets that are large where the model
    is unsure, "raps" these without their long tails of unlikely classes. "log_odds"
    makes the sets of "lac", also where float32 rounds 1 - p to 1 and classes tie.

    Shapes: logits [..., C], where [..., C] -> [..., C]

    Args:
      logits: scores, not probabilities.
      kind: which score.
      key: draws u, one for each row, for coverage that "aps" and "raps" meet from both
        sides. Without it u is 1, and sets are larger than they need be.
      lam: lambda of "raps", at least 0.
      k_reg: how many classes "raps" does not penalize, at least 0.
      axis: the class axis.
      where: bool, the classes that take part. Hidden ones are in no set.

    Returns:
      Floats, float32 (float64 for float64 logits), ``inf`` at hidden classes.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: ``kind`` is unknown, ``lam`` or ``k_reg`` is negative, or the shapes
        disagree.

    Numerics: 1 - p is the sum of the other classes, so that confident examples keep an
      order: relative error below 1e-5 for margins up to 80.

    Source: LAC, Sadinle et al. 2019, arXiv:1609.00451; APS, Romano et al. 2020,
      arXiv:2006.02544; RAPS, Angelopoulos et al. 2021, arXiv:2009.14193.

    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import conformal_scores
    >>> z = jnp.log(jnp.float32([0.6, 0.3, 0.1]))
    >>> print(*(f"{s:.2f}" for s in conformal_scores(z)))
    0.40 0.70 0.90
    >>> print(*(f"{s:.2f}" for s in conformal_scores(z, kind="aps")))
    0.60 0.90 1.00
    """
    if kind not in ("lac", "log_odds", "aps", "raps"):
        raise ValueError(
            f"kind is {kind!r}, expected 'lac', 'log_odds', 'aps' or 'raps'"
        )
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    lam = hyper("lam", lam, z.dtype, lambda v: v >= 0, "at least 0")
    k_reg = hyper("k_reg", k_reg, z.dtype, lambda v: v >= 0, "at least 0")
    log_p = numerics.log_softmax(z)
    if kind == "lac":
        scores = -jnp.expm1(log_p)
    elif kind == "log_odds":
        below, lead, shown, _ = below_lead(z)
        others = numerics.logsumexp(below, where=shown & ~lead)[..., None]
        rest = numerics.log1mexp(jnp.minimum(log_p, -0.5)) - log_p
        scores = jnp.where(lead, others, rest)
    else:
        above, rank = _above(z, jnp.exp(log_p))
        u = jnp.ones(z.shape[:-1], z.dtype)
        if key is not None:
            u = jax.random.uniform(key, u.shape, u.dtype)
        scores = above + u[..., None] * jnp.exp(log_p)
        if kind == "raps":
            scores += lam * jnp.maximum(rank.astype(z.dtype) - k_reg, 0)
    return jnp.moveaxis(jnp.where(z == -jnp.inf, jnp.inf, scores), -1, axis)


def conformal_threshold(
    scores: ArrayLike,
    labels: ArrayLike | None = None,
    *,
    alpha: float,
    mask: ArrayLike | None = None,
    groups: ArrayLike | None = None,
    num_groups: int | None = None,
) -> jax.Array:
    r"""The score up to which classes go into a set, from held-out examples.

    .. math:: s_{(k)}, \quad k = \lceil (n + 1)(1 - \alpha) \rceil

    the k-th smallest score of the n labels. The set of a new example from the same
    source holds its label with probability at least 1 - alpha and, where scores do not
    tie, at most 1 - alpha + 1 / (n + 1). With ``groups`` this holds within each.

    Shapes: scores [..., N], mask [..., N] -> [...]

    Args:
      scores: of the labels of held-out examples, the examples last; with ``labels``
        those of all classes, [..., N, C], as ``conformal_scores`` returns them. Any
        other score of conformity will do, such as ``estimators.cqr_scores``.
      labels: ints in ``[0, C)``, [..., N]. A negative one counts as the strangest.
      alpha: the miss rate, in [0, 1), a Python number: ranks are worked out before
        anything is traced.
      mask: bool, the examples that count.
      groups: ints in ``[0, num_groups)``, [..., N].
      num_groups: G, a Python number.

    Returns:
      [...], or [..., G] with groups; ``inf``, which makes sets of all classes, where n
      is too small for any other (k > n), as it is without examples and with alpha 0. A
      score of NaN counts as the strangest.

    Raises:
      TypeError: ``scores`` is not floating point, ``labels`` or ``groups`` not integer,
        ``mask`` not bool, or ``alpha`` traced.
      ValueError: ``alpha`` is outside [0, 1), the shapes disagree, a label is C or
        more, or a group is outside its range (left out under ``jit``).

    Source: Vovk et al. 2005, "Algorithmic learning in a random world"; Papadopoulos et
      al. 2002, "Inductive confidence machines for regression".

    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import conformal_scores, conformal_threshold
    >>> z = jnp.log(jnp.float32([[0.6, 0.4], [0.3, 0.7], [0.9, 0.1]]))
    >>> conformal_threshold(conformal_scores(z), jnp.array([0, 0, 0]), alpha=0.5)
    Array(0.39999998, dtype=float32)
    """
    if isinstance(alpha, jax.core.Tracer):
        raise TypeError(f"alpha is {alpha}, expected a Python number in [0, 1)")
    check_range("alpha", alpha, lambda a: (a >= 0) & (a < 1), "a number in [0, 1)")
    s = numerics.promote_to_float32(scores, "scores")
    if s.ndim < (1 if labels is None else 2):
        raise ValueError(f"scores has shape {s.shape}, expected an axis of examples")
    if labels is not None:
        y, known = numerics.check_labels(labels, s.shape[:-1], s.shape[-1])
        s = jnp.where(known, numerics.take_label_logit(s, y), jnp.inf)
    keep = numerics.check_mask(mask, s.shape)
    g, count = jnp.zeros(s.shape, jnp.int32), 1
    if groups is not None:
        if num_groups is None:
            raise ValueError("num_groups is None, expected the number of groups")
        check_count("num_groups", num_groups)
        count = num_groups
        check_same_shape("groups", groups, "the scores of labels", s.shape)
        g = _check_groups(groups, count)
    g = jnp.where(keep & (g >= 0) & (g < count), g, count)  # the last group is no one's
    n = s.shape[-1]
    sizes = np.arange(n + 1)
    # 20 * 0.95 is 19, whatever the last binary digit says.
    exact = (sizes + 1) * (1 - float(alpha)) - 1e-9 * (sizes + 1)
    ranks = jnp.asarray(np.maximum(np.ceil(exact), 1), jnp.int32)

    def one(s, g):
        g, s = jax.lax.sort((g, s), num_keys=2)
        size = jnp.zeros(count + 1, jnp.int32).at[g].add(1)
        k = ranks[size]
        at = jnp.minimum(jnp.cumsum(size) - size + k - 1, n - 1)
        return jnp.where(k > size, jnp.inf, s[at])[:count]

    if n == 0:
        found = jnp.full((*s.shape[:-1], count), jnp.inf, s.dtype)
    else:
        found = jnp.vectorize(one, signature="(n),(n)->(g)")(s, g)
    return found[..., 0] if groups is None else found


def conformal_set(
    scores: ArrayLike,
    threshold: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    axis: int = -1,
) -> jax.Array:
    r"""The classes whose score is within the threshold, for any ``where``.

    .. math:: \{c : s_c \le q\}

    Every loss, metric and decision takes the result as ``where``. A set may be empty: a
    large alpha spends its misses there.

    Shapes: scores [..., C], threshold [] -> [..., C]

    Args:
      scores: of ``conformal_scores``, of the same kind as those that the threshold is
        from; with a key, of another key.
      threshold: of ``conformal_threshold``: one number, one for each row [...], or with
        groups one for each of these, [G].
      groups: ints in ``[0, G)``, [...].
      axis: the class axis.

    Returns:
      Bool. Hidden classes are in no set; all others are, where the threshold is ``inf``
      or NaN, or their score is NaN.

    Raises:
      TypeError: the scores are not floating point, or ``groups`` is not integer.
      ValueError: the shapes disagree, or a group is outside its range (then, under
        ``jit``, the set holds all classes).

    Source: Vovk et al. 2005, "Algorithmic learning in a random world".

    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import conformal_set
    >>> conformal_set(jnp.float32([[0.4, 0.6], [0.7, jnp.inf]]), jnp.inf)
    Array([[ True,  True],
           [ True, False]], dtype=bool)
    """
    s = numerics.promote_to_float32(scores, "scores")
    if not -s.ndim <= axis < s.ndim:
        raise ValueError(f"axis {axis} is not an axis of scores with shape {s.shape}")
    s = jnp.moveaxis(s, axis, -1)
    q = numerics.promote_to_float32(threshold, "threshold")
    if groups is not None:
        check_same_shape("groups", groups, "the rows of scores", s.shape[:-1])
        if q.ndim != 1:
            raise ValueError(f"threshold has shape {q.shape}, expected one per group")
        g = _check_groups(groups, q.size)
        known = (g >= 0) & (g < q.size)
        q = jnp.where(known, q[jnp.where(known, g, 0)], jnp.inf)
    if q.shape not in ((), s.shape[:-1]):
        raise ValueError(
            f"threshold has shape {q.shape}, expected () or {s.shape[:-1]}"
        )
    q = jnp.broadcast_to(q, s.shape[:-1])[..., None]
    return jnp.moveaxis(~(s > q) & (s != jnp.inf), -1, axis)


def _above(z, p):
    """Probability of the classes that score above each, and its rank, from 1."""
    at = jax.lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1)
    z, order = jax.lax.sort((-z, at), num_keys=1)
    p = jnp.take_along_axis(p, order, -1)
    edge = jnp.ones((*z.shape[:-1], 1), bool)
    new = jnp.concatenate([edge, z[..., 1:] != z[..., :-1]], -1)
    first = jax.lax.cummax(jnp.where(new, at, 0), z.ndim - 1)
    zero = jnp.zeros((*z.shape[:-1], 1), p.dtype)
    before = jnp.concatenate([zero, jnp.cumsum(p, -1)[..., :-1]], -1)
    before = jnp.take_along_axis(before, first, -1)
    back = jnp.argsort(order, -1)
    return (jnp.take_along_axis(a, back, -1) for a in (before, first + 1))


def _check_groups(groups, count):
    """As int32; refuses those outside of their range that can be seen."""
    g = numerics.wide_labels(groups, "groups")
    bad = (g < 0) | (g >= count)
    if numerics.is_concrete(bad) and bad.any():
        raise ValueError(f"groups outside [0, {count}): {g[bad][:5]}")
    return g
