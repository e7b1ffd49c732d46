"""Speculative decoding: which drafted tokens stay, and what replaces the others."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import positive

__all__ = [
    "Speculation",
    "acceptance_rate",
    "expected_accepted_length",
    "residual_distribution",
    "speculative_sample",
    "speculative_speedup",
]


class Speculation(NamedTuple):
    """Outcome of one round of speculative decoding.

    Attributes:
      tokens: int [..., G + 1]; the accepted draft tokens, then one token of the
        target's own, then -1.
      accepted: int [...], how many draft tokens were accepted, 0 to G.
    """

    tokens: jax.Array
    accepted: jax.Array


def acceptance_rate(
    draft_logits: ArrayLike,
    target_logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Probability that the target model accepts a drafted token.

    Use it to judge a draft model without decoding.

    .. math:: \alpha = \sum_v \min(p_v, q_v) = 1 - \tfrac12 \sum_v |p_v - q_v|

    Shapes: draft_logits [..., C], target_logits [..., C], where [..., C] -> [...]

    Args:
      draft_logits: of q.
      target_logits: of p.
      temperature: of both, positive.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      In [0, 1], float32 (float64 for float64 logits).

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, or the temperature is not positive.

    Source: Leviathan et al. 2023, arXiv:2211.17192.

    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import acceptance_rate
    >>> acceptance_rate(jnp.float32([0, 0]), jnp.float32([99, 0]))
    Array(0.5, dtype=float32)
    """
    q, p = _probabilities(draft_logits, target_logits, temperature, axis, where)
    return jnp.sum(jnp.minimum(p, q), -1)


def residual_distribution(
    draft_logits: ArrayLike,
    target_logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Distribution of the token that replaces a rejected draft.

    .. math:: \frac{\max(p - q, 0)}{\sum_v \max(p_v - q_v, 0)}

    Where the two are equal nothing is ever rejected, and p is returned.

    Shapes: draft_logits [..., C], target_logits [..., C], where [..., C] -> [..., C]

    Returns:
      Probabilities, float32 (float64 for float64 logits).

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, or the temperature is not positive.

    Source: Leviathan et al. 2023, arXiv:2211.17192.

    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import residual_distribution
    >>> residual_distribution(jnp.float32([0, 0]), jnp.float32([99, 0]))
    Array([1., 0.], dtype=float32)
    """
    q, p = _probabilities(draft_logits, target_logits, temperature, axis, where)
    return jnp.moveaxis(_residual(p, q), -1, axis)


def expected_accepted_length(
    alpha: ArrayLike, gamma: int, *, bonus: bool = False
) -> jax.Array:
    r"""Expected number of drafts accepted in a round, if each is independent.

    Use it to choose how many tokens to draft.

    .. math:: \sum_{i=1}^{\gamma} \alpha^i

    Shapes: alpha [...] -> [...]

    Args:
      alpha: acceptance rate of one token, in [0, 1].
      gamma: how many tokens are drafted; not traced, for the terms are written out.
      bonus: count the token that the target adds to every round too.

    Raises:
      TypeError: ``alpha`` is not floating point.
      ValueError: ``gamma`` is negative.

    Source: Leviathan et al. 2023, arXiv:2211.17192; without the bonus, SpecVLM,
      arXiv:2509.11815.

    >>> from logitlab.decisions import expected_accepted_length
    >>> print(f"{expected_accepted_length(0.8, 5):.4f}")
    2.6893
    """
    if gamma < 0:
        raise ValueError(f"gamma is {gamma}, expected at least 0")
    alpha = numerics.promote_to_float32(alpha, "alpha")
    total = jnp.zeros_like(alpha)
    for _ in range(gamma):  # Horner's rule, exact at 1 too
        total = alpha * (1 + total)
    return total + 1 if bonus else total


def speculative_speedup(
    accepted_length: ArrayLike,
    gamma: int,
    *,
    draft_cost: ArrayLike,
    verify_cost: ArrayLike = 1.0,
) -> jax.Array:
    r"""Speedup of speculative decoding over decoding with the target alone.

    .. math:: \frac{\sigma}{\gamma \, T_q / T_p + T_p(\gamma) / T_p(1)}

    Shapes: accepted_length [...] -> [...]

    Args:
      accepted_length: sigma, tokens for each round.
      gamma: how many tokens are drafted.
      draft_cost: time of a draft step over that of a target step.
      verify_cost: time of a target step over all drafted tokens, over that of one.

    Source: SpecVLM, Huang et al. 2025, arXiv:2509.11815.

    >>> from logitlab.decisions import speculative_speedup
    >>> speculative_speedup(3.0, 5, draft_cost=0.1)
    Array(2., dtype=float32)
    """
    sigma = numerics.promote_to_float32(accepted_length, "accepted_length")
    gamma, draft, verify = (
        jnp.asarray(a, sigma.dtype) for a in (gamma, draft_cost, verify_cost)
    )
    return sigma / (gamma * draft + verify)


def speculative_sample(
    key: jax.Array,
    draft_logits: ArrayLike,
    target_logits: ArrayLike,
    draft_tokens: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    greedy: bool = False,
) -> Speculation:
    r"""Accepts or replaces drafted tokens; the output follows the target exactly.

    Token by token, a draft is accepted with probability :math:`\min(1, p / q)`; the
    first that is rejected is replaced by a draw from ``residual_distribution``, and
    what follows is dropped. If all are accepted, a further token is drawn from the
    target.

    Shapes: draft_logits [..., G, C], target_logits [..., G + 1, C], draft_tokens [..., G] -> [..., G + 1], [...]

    Args:
      key: of ``jax.random``.
      draft_logits: that the tokens were drawn from.
      target_logits: at the same positions, and at the one after them.
      draft_tokens: ints in ``[0, C)``; at a negative one nothing was drafted, and the
        target draws the token.
      temperature: of both, positive.
      greedy: accept a token if it is the target's top class, and replace it by that.

    Returns:
      A ``Speculation``.

    Raises:
      TypeError: logits are not floating point or tokens not integer.
      ValueError: shapes that do not fit, a token of C or more (under ``jit``, where
        values are unknown, it counts as not drafted), or a temperature that is not
        positive.

    Source: Leviathan et al. 2023, arXiv:2211.17192.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import speculative_sample
    >>> q, p = jnp.float32([[0, 0]]), jnp.float32([[99, 0], [0, 99]])
    >>> out = jax.jit(speculative_sample)(jax.random.key(0), q, p, jnp.array([0]))
    >>> print(out.tokens, out.accepted)
    [0 1] 1
    """  # noqa: E501 - a test parses the line of shapes
    q = numerics.prepare_logits(draft_logits, name="draft_logits")
    p = numerics.prepare_logits(target_logits, name="target_logits").astype(q.dtype)
    wanted = (*q.shape[:-2], q.shape[-2] + 1, q.shape[-1]) if q.ndim > 1 else "[G, C]"
    if q.ndim < 2 or p.shape != wanted:
        raise ValueError(
            f"target_logits has shape {p.shape}, expected {wanted} for draft_logits of "
            f"{q.shape}"
        )
    x, drafted = numerics.check_labels(draft_tokens, q.shape[:-1], q.shape[-1])
    positive(temperature=temperature)
    accept_key, draw_key = jax.random.split(key)
    if greedy:
        own = jnp.argmax(p, -1).astype(jnp.int32)
        fine = (own[..., :-1] == x) & drafted
    else:
        log_p, log_q = (
            numerics.log_softmax(z / jnp.asarray(temperature, z.dtype)) for z in (p, q)
        )
        ahead = log_p[..., :-1, :]
        ratio = _at(ahead, x) - _at(log_q, x)
        u = jax.random.uniform(accept_key, x.shape, q.dtype)
        fine = (jnp.log(1 - u) <= ratio) & drafted  # 1 - u is above 0
        rest = _residual(jnp.exp(ahead), jnp.exp(log_q))
        rest = jnp.where(rest > 0, jnp.log(jnp.where(rest > 0, rest, 1)), -jnp.inf)
        rest = jnp.where(drafted[..., None], rest, ahead)
        rest = jnp.concatenate([rest, log_p[..., -1:, :]], -2)
        own = jax.random.categorical(draw_key, rest).astype(jnp.int32)
    accepted = jnp.sum(jnp.cumprod(fine.astype(jnp.int32), -1), -1)
    place = jnp.arange(own.shape[-1]).reshape((1,) * (own.ndim - 1) + (-1,))
    at = accepted[..., None]
    tokens = jnp.concatenate([x, x[..., :1] * 0], -1)
    tokens = jnp.where(place < at, tokens, jnp.where(place == at, own, -1))
    return Speculation(tokens, accepted)


def _probabilities(draft_logits, target_logits, temperature, axis, where):
    if jnp.shape(target_logits) != jnp.shape(draft_logits):
        raise ValueError(
            f"target_logits has shape {jnp.shape(target_logits)}, expected that of "
            f"draft_logits, {jnp.shape(draft_logits)}"
        )
    positive(temperature=temperature)
    pairs = (draft_logits, "draft_logits"), (target_logits, "target_logits")
    rows = [
        numerics.prepare_logits(z, axis=axis, where=where, name=name)
        for z, name in pairs
    ]
    return (numerics.softmax(z / jnp.asarray(temperature, z.dtype)) for z in rows)


def _residual(p, q):
    rest = jnp.maximum(p - q, 0)
    total = jnp.sum(rest, -1, keepdims=True)
    return jnp.where(total > 0, rest / jnp.where(total > 0, total, 1), p)


def _at(values, index):
    return jnp.take_along_axis(values, index[..., None], -1)[..., 0]
