"""DRPO and DisCO: right answers scored against wrong ones, inside a trust region."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.labels import checked
from logitlab.losses.policy_gradient import operands
from logitlab.losses.policy_gradient.divergences import excess
from logitlab.losses.rows import Row

__all__ = ["disco_loss", "drpo_loss", "length_weights"]

NOT_LOSSES = ("length_weights",)

_KINDS = ("k1", "k3")


def length_weights(
    lengths: ArrayLike, correct: ArrayLike, *, lam: ArrayLike, max_length: ArrayLike
) -> jax.Array:
    r"""DRPO's weights of the right answers to a prompt: the shorter, the larger.

    .. math:: w_i = e^{(1 - l_i) / \lambda} \Big/ \sum_{j\ \text{right}}
        e^{(1 - l_j) / \lambda}, \quad l_i = |y_i| / L

    Shapes: lengths [..., G], correct [..., G] -> [..., G]

    Args:
      lengths: tokens of each answer, numbers of any type.
      correct: bool, or numbers above 0 for the right answers.
      lam: lambda, positive; infinity for equal weights.
      max_length: L, positive.

    Returns:
      Weights without gradient that add up to 1 over the right answers, if there are
      any; 0 for the others; float32 (float64 for float64 lengths).

    Raises:
      ValueError: the shapes differ, or ``lam`` or ``max_length`` is not positive.

    Numerics: relative error below 1e-5 for exponents up to 80 below the largest.

    Source: DRPO 2025, arXiv:2510.04474.

    >>> lengths, correct = jnp.array([100, 400, 900]), jnp.array([True, True, False])
    >>> length_weights(lengths, correct, lam=0.1, max_length=1000)
    Array([0.95257413, 0.04742587, 0.        ], dtype=float32)
    """
    checked("lam", lam, lambda v: v > 0, "positive")
    checked("max_length", max_length, lambda n: n > 0, "positive")
    lengths, right = jnp.asarray(lengths), jnp.asarray(correct) > 0
    if right.shape != lengths.shape or not lengths.ndim:
        raise ValueError(
            f"correct has shape {right.shape}, lengths {lengths.shape}, expected "
            "[..., G] of both"
        )
    lengths = operands.counted(lengths)
    least = jnp.min(lengths, -1, keepdims=True, where=right, initial=jnp.inf)
    longer = jnp.where(right, lengths - least, 0)
    weights = numerics.softmax(-longer / max_length / lam, where=right)
    return jax.lax.stop_gradient(weights)


def drpo_loss(
    logps: ArrayLike,
    old_logps: ArrayLike,
    rewards: ArrayLike,
    group_ids: ArrayLike,
    *,
    max_length: ArrayLike,
    lam: ArrayLike = 0.1,
    tau: ArrayLike = 10.0,
    delta: ArrayLike = 1e-4,
    beta: ArrayLike = 1e3,
    kl: str = "k1",
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""DRPO: short right answers above wrong ones, one number for a batch.

    .. math:: -\frac1Q \sum_q \Bigl( \sum_{i \in P_q} w_i s_i - \tau \log
        \frac{1}{|N_q|} \sum_{j \in N_q} e^{s_j / \tau} \Bigr) +
        \mathrm{sg}[\beta (K - \delta)_+]\, K

    with the score :math:`s_i`, the mean log-probability of an answer, and the weights
    :math:`w_i` of ``length_weights`` among the right answers of its prompt. A prompt
    without right or without wrong answers adds nothing, and is one of the Q. The
    divergence K is the mean over all tokens of :math:`\log \pi^{old} - \log \pi`, or of
    :math:`\rho - 1 - \log \rho`. No right answer is ever pushed down.

    The released code prints another value, with 1 in place of the logarithm; its
    gradient is this one's.

    Shapes: logps [B, T], old_logps [B, T], rewards [B], group_ids [B],
      mask [B, T] -> []

    Args:
      logps: log-probabilities of the tokens of B answers under the policy.
      old_logps: those under the policy that sampled them; no gradient.
      rewards: above 0 for a right answer.
      group_ids: integers, equal for answers to one prompt; in any order.
      max_length: L, the longest answer there can be, positive.
      lam: lambda, positive: how little length matters. Infinity is ``disco_loss``.
      tau: positive; near 0 only the most probable wrong answer counts.
      delta: radius of the trust region, at least 0.
      beta: weight of the penalty beyond it, at least 0.
      kl: ``"k1"`` or ``"k3"``.
      mask: bool, the tokens that count. An answer without any is not there.

    Returns:
      One number, float32 (float64 for float64 ``logps``); 0 for no answers. Answers are
      compared in pairs: temporaries are of size B x B.

    Raises:
      TypeError: ``logps``, ``old_logps`` or ``rewards`` is not floating point,
        ``group_ids`` not integer or ``mask`` not bool.
      ValueError: the shapes disagree, a number is out of its range, or ``kl`` unknown.

    Numerics: relative error below 1e-5 of the largest term, value and gradient.

    Source: DRPO 2025, arXiv:2510.04474, github.com/Optimization-AI/DRPO.

    >>> logps = jnp.float32([[-1, -1], [-2, -2]])
    >>> right, same = jnp.float32([1, 0]), jnp.array([0, 0])
    >>> drpo_loss(logps, logps, right, same, max_length=2)
    Array(-1., dtype=float32)
    """
    checked("tau", tau, lambda t: t > 0, "positive")
    checked("delta", delta, lambda d: d >= 0, "at least 0")
    checked("beta", beta, lambda b: b >= 0, "at least 0")
    if kl not in _KINDS:
        raise ValueError(f"kl is {kl!r}, expected one of {_KINDS}")
    lp, keep = operands.tokens(logps, mask, "logps")
    if lp.ndim != 2:
        raise ValueError(f"logps has shape {lp.shape}, expected [B, T]")
    old = operands.constant(old_logps, lp, keep, "old_logps")
    there = keep.any(-1)
    right = operands.per_sequence(rewards, lp, there, "rewards") > 0
    group = _groups(group_ids, there)
    correct, wrong = group & right[None], group & ~right[None]
    scores = operands.token_mean(lp, keep)[None]

    lengths = jnp.broadcast_to(keep.sum(-1, dtype=lp.dtype)[None], group.shape)
    w = length_weights(lengths, correct, lam=lam, max_length=max_length)
    gain = jnp.sum(jnp.where(correct, w * scores, 0), -1)
    gap = gain - _soft_mean(scores, wrong, tau)
    first = there & ~jnp.any(jnp.tril(group, -1), -1)  # of its prompt
    mixed = first & correct.any(-1) & wrong.any(-1)
    prompts = jnp.maximum(first.sum(dtype=lp.dtype), 1)
    objective = jnp.sum(jnp.where(mixed, gap, 0) / prompts)

    size = max(lp.size, 1)  # the largest terms have a mean, no sum
    off = old - lp if kl == "k1" else excess(lp - old)
    divergence = size * numerics.masked_mean(off / size, keep)
    weight = jax.nn.relu(beta * (jax.lax.stop_gradient(divergence) - delta))
    return weight * divergence - objective


def disco_loss(
    logps: ArrayLike,
    old_logps: ArrayLike,
    rewards: ArrayLike,
    group_ids: ArrayLike,
    *,
    tau: ArrayLike = 10.0,
    delta: ArrayLike = 1e-4,
    beta: ArrayLike = 1e3,
    kl: str = "k1",
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""DisCO: ``drpo_loss`` whose right answers all weigh the same.

    .. math:: \lambda = \infty, \quad w_i = 1 / |P_q|

    Shapes: logps [B, T], old_logps [B, T], rewards [B], group_ids [B],
      mask [B, T] -> []

    Args:
      logps: log-probabilities of the tokens of B answers under the policy.
      old_logps: those under the policy that sampled them; no gradient.
      rewards: above 0 for a right answer.
      group_ids: integers, equal for answers to one prompt; in any order.
      tau: positive; near 0 only the most probable wrong answer counts.
      delta: radius of the trust region, at least 0.
      beta: weight of the penalty beyond it, at least 0.
      kl: ``"k1"`` or ``"k3"``.
      mask: bool, the tokens that count. An answer without any is not there.

    Returns:
      One number, float32 (float64 for float64 ``logps``); 0 for no answers.

    Raises:
      TypeError: as :func:`drpo_loss`.
      ValueError: as :func:`drpo_loss`.

    Numerics: relative error below 1e-5 of the largest term, value and gradient.

    Source: DisCO, Li et al. 2025, arXiv:2505.12366, github.com/Optimization-AI/DRPO.

    >>> logps = jnp.float32([[-1, -1], [-2, -2]])
    >>> disco_loss(logps, logps, jnp.float32([1, 0]), jnp.array([0, 0]))
    Array(-1., dtype=float32)
    """
    return drpo_loss(
        logps,
        old_logps,
        rewards,
        group_ids,
        max_length=1,
        lam=jnp.inf,
        tau=tau,
        delta=delta,
        beta=beta,
        kl=kl,
        mask=mask,
    )


def _groups(group_ids, there):
    """Which answers are to the same prompt, [B, B]."""
    ids = jnp.asarray(group_ids)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"group_ids has dtype {ids.dtype}, expected integers")
    if ids.shape != there.shape:
        raise ValueError(f"group_ids has shape {ids.shape}, expected {there.shape}")
    return (ids[:, None] == ids[None]) & there[:, None] & there[None]


def _soft_mean(scores, wrong, tau):
    """``tau * log(mean(exp(s / tau)))`` over the wrong answers of each row."""
    top = jnp.max(scores, -1, keepdims=True, where=wrong, initial=-jnp.inf)
    top = jax.lax.stop_gradient(jnp.where(top == -jnp.inf, 0, top))
    count = jnp.maximum(wrong.sum(-1, dtype=scores.dtype), 1)
    less = jnp.expm1(jnp.where(wrong, scores - top, 0) / tau)
    return top[..., 0] + tau * jnp.log1p(less.sum(-1) / count)


def _answers(key, shape, dtype):
    keys = jax.random.split(key)
    logps = -jnp.abs(jax.random.normal(keys[0], shape, dtype))
    old = logps + 0.05 * jax.random.normal(keys[1], shape, dtype)
    at = jnp.arange(shape[0])
    return logps, old, (at % 2).astype(dtype), at // 4


_ROW = dict(
    kind="batch",
    make=_answers,
    golden="drpo",
    shift_invariant=False,
    lower=None,
    where=False,
    tokens=True,
    surrogate="the weight of the penalty carries no gradient",
    gathers="answers are compared with all others",
)

ROWS = (
    Row(
        drpo_loss,
        source="DRPO 2025, arXiv:2510.04474",
        hyper=dict(max_length=8.0),
        **_ROW,
    ),
    Row(disco_loss, source="DisCO, Li et al. 2025, arXiv:2505.12366", **_ROW),
)
