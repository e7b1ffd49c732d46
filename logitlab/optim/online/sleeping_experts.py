"""Experts of whom only some are awake, and predictions that suit every group."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike, DTypeLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, check_range, hyper

__all__ = [
    "AdaNormalHedgeState",
    "GroupwisePredictions",
    "ada_normal_hedge_init",
    "ada_normal_hedge_probs",
    "ada_normal_hedge_update",
    "groupwise_predictor",
]


class AdaNormalHedgeState(NamedTuple):
    """What AdaNormalHedge remembers of each expert.

    Attributes:
      regrets: R, what the learner lost more than the expert, in rounds that saw it
        awake, [..., K].
      magnitudes: C, the sum of the sizes of these differences, [..., K].
    """

    regrets: jax.Array
    magnitudes: jax.Array


class GroupwisePredictions(NamedTuple):
    """A run of ``groupwise_predictor``.

    Attributes:
      predictions: made before the label is seen, [T].
      probs: weights of the groups' learners in them, [T, G].
      expert_predictions: of each group's learner, in rounds of the group; 0 in others,
        [T, G].
      state: of the weights, after the last round.
      coefficients: of each group's learner, after the last round, [G, D].
    """

    predictions: jax.Array
    probs: jax.Array
    expert_predictions: jax.Array
    state: AdaNormalHedgeState
    coefficients: jax.Array


def ada_normal_hedge_init(
    num_experts: int, *, dtype: DTypeLike | None = None
) -> AdaNormalHedgeState:
    """State before the first round; ``dtype`` is JAX's default float unless given.

    The weights have no learning rate to choose. ``vmap`` over states for several
    learners at once.

    Args:
      num_experts: K, not traced, as it is a shape.
      dtype: of both arrays.

    Raises:
      TypeError: ``num_experts`` is no integer.
      ValueError: there are no experts.

    Source: AdaNormalHedge, Luo and Schapire 2015, arXiv:1502.05934.
    """
    check_count("num_experts", num_experts)
    zeros = jnp.zeros(num_experts, float if dtype is None else dtype)
    return AdaNormalHedgeState(zeros, zeros)


def ada_normal_hedge_probs(
    state: AdaNormalHedgeState, *, where: ArrayLike | None = None
) -> jax.Array:
    r"""Weights of the experts that are awake.

    .. math:: p_k \propto \Phi(R_k + 1, C_k + 1) - \Phi(R_k - 1, C_k + 1), \quad
        \Phi(R, C) = \exp\frac{\max(R, 0)^2}{3 C}

    Shapes: where [..., K] -> [..., K]

    Args:
      state: of ``ada_normal_hedge_init`` or the last update.
      where: bool, the experts that are awake; the others get 0.

    Returns:
      Probabilities in the state's dtype. They are even where no expert that is awake
      has been better than the learner, and 0 where all sleep: let one never do.

    Raises:
      TypeError: ``where`` is not bool.
      ValueError: ``where`` has another shape.

    Numerics: computed from logarithms, finite after any number of rounds.

    Source: AdaNormalHedge, Luo and Schapire 2015, arXiv:1502.05934.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import AdaNormalHedgeState, ada_normal_hedge_probs
    >>> state = AdaNormalHedgeState(jnp.float32([0, 1, -1]), jnp.float32([0, 2, 2]))
    >>> print(ada_normal_hedge_probs(state)[2])  # of 0.19781, 0.27981 and 0
    0.0
    """
    logits = _log_weights(*state)
    awake = _awake(where, logits.shape)
    logits = jnp.where(awake, logits, -jnp.inf)
    none = logits.max(-1, keepdims=True) == -jnp.inf
    logits = jnp.where(none, jnp.where(awake, 0, -jnp.inf), logits)
    return jnp.where(awake, numerics.softmax(logits), 0)


def ada_normal_hedge_update(
    state: AdaNormalHedgeState,
    losses: ArrayLike,
    *,
    learner_loss: ArrayLike | None = None,
    where: ArrayLike | None = None,
) -> AdaNormalHedgeState:
    r"""State after the losses of a round.

    .. math:: r_k = \hat\ell - \ell_k, \quad R_k \leftarrow R_k + r_k, \quad
        C_k \leftarrow C_k + |r_k|

    for the experts that are awake.

    Shapes: losses [..., K], learner_loss [...], where [..., K] -> state

    Args:
      state: of ``ada_normal_hedge_init`` or the last update.
      losses: of the experts, in [0, 1]; of one that sleeps it may be anything.
      learner_loss: :math:`\hat\ell` of what was played, in [0, 1]; the mean of the
        experts' losses by their weights if None.
      where: bool, the experts that are awake.

    Raises:
      TypeError: ``losses`` is not floating point, or ``where`` not bool.
      ValueError: wrong shapes, or a loss outside [0, 1] of an expert that is awake
        (not seen under ``jit``).

    Source: AdaNormalHedge, Luo and Schapire 2015, arXiv:1502.05934.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import ada_normal_hedge_init, ada_normal_hedge_update
    >>> state = ada_normal_hedge_update(ada_normal_hedge_init(2), jnp.float32([0, 1]))
    >>> state.regrets
    Array([ 0.5, -0.5], dtype=float32)
    """
    regrets, magnitudes = state
    x = numerics.promote_to_float32(losses, "losses").astype(regrets.dtype)
    if x.shape != regrets.shape:
        raise ValueError(f"losses has shape {x.shape}, expected {regrets.shape}")
    awake = _awake(where, x.shape)
    x = jnp.where(awake, x, 0)
    within = lambda v: (v >= 0) & (v <= 1)  # noqa: E731
    check_range("losses", x, within, "numbers from 0 to 1")
    if learner_loss is None:
        mine = jnp.sum(ada_normal_hedge_probs(state, where=where) * x, -1)
    else:
        mine = hyper("learner_loss", learner_loss, x.dtype, within, "from 0 to 1")
        if mine.shape != x.shape[:-1]:
            raise ValueError(
                f"learner_loss has shape {mine.shape}, expected {x.shape[:-1]}"
            )
    ahead = jnp.where(awake, mine[..., None] - x, 0)
    return AdaNormalHedgeState(regrets + ahead, magnitudes + jnp.abs(ahead))


def groupwise_predictor(
    x: ArrayLike,
    labels: ArrayLike,
    groups: ArrayLike,
    *,
    ridge: ArrayLike = 1.0,
    loss_scale: ArrayLike = 1.0,
) -> GroupwisePredictions:
    r"""Predicts numbers in turn, nearly as well as each group's own ridge regression.

    Use it where groups overlap and one model for all would be poor for some: every
    group has an online ridge regression, which sees rounds of the group alone, and a
    prediction is their mean by the weights of AdaNormalHedge.

    .. math:: \hat y_t = \sum_{g \ni t} p_{t,g}\, \theta_g \cdot x_t, \quad
        \theta_g = \Bigl(\lambda I + \sum_{s \in g} x_s x_s^T\Bigr)^{-1}
        \sum_{s \in g} x_s y_s

    Shapes: x [T, D], labels [T], groups [T, G]
      -> ([T], [T, G], [T, G], ([G], [G]), [G, D])

    Args:
      x: features, in the order of the rounds.
      labels: the numbers to predict.
      groups: bool, the groups that a round belongs to: at least one. Let one of them
        hold all rounds.
      ridge: :math:`\lambda`, above 0.
      loss_scale: what squared errors are divided by for the weights, which ask for
        losses up to 1; larger ones count as 1.

    Returns:
      ``GroupwisePredictions``, float32 (float64 for float64 features). One program, a
      ``scan`` over the rounds; ``vmap`` it over orders of the rounds.

    Raises:
      TypeError: ``x`` or ``labels`` is not floating point, or ``groups`` not bool.
      ValueError: wrong shapes, a group without rounds, a round without a group, or
        ``ridge`` or ``loss_scale`` not above 0.

    Source: Oracle Efficient Algorithms for Groupwise Regret, Acharya et al. 2023,
      arXiv:2310.04652.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import groupwise_predictor
    >>> x, labels = jnp.ones((3, 1)), jnp.ones(3)
    >>> groupwise_predictor(x, labels, jnp.ones((3, 1), bool)).predictions
    Array([0.       , 0.5      , 0.6666667], dtype=float32)
    """
    x = numerics.promote_to_float32(x, "x")
    if x.ndim != 2:
        raise ValueError(f"x has shape {x.shape}, expected two axes")
    y = numerics.promote_to_float32(labels, "labels").astype(x.dtype)
    if y.shape != x.shape[:1]:
        raise ValueError(f"labels has shape {y.shape}, expected {x.shape[:1]}")
    awake = _groups(groups, x.shape[0])
    ridge = hyper("ridge", ridge, x.dtype, lambda v: v > 0, "above 0")
    scale = hyper("loss_scale", loss_scale, x.dtype, lambda v: v > 0, "above 0")
    many, dim = awake.shape[1], x.shape[1]
    eye = jnp.broadcast_to(jnp.eye(dim, dtype=x.dtype) / ridge, (many, dim, dim))

    def round_(carry, now):
        state, inverse, theta = carry
        x, y, awake = now
        experts = jnp.where(awake, theta @ x, 0)
        probs = ada_normal_hedge_probs(state, where=awake)
        prediction = probs @ experts
        gaps = jnp.stack([*jnp.unstack(experts), prediction]) - y
        costs = jnp.minimum(jnp.square(gaps) / scale, 1)
        state = ada_normal_hedge_update(
            state, costs[:-1], learner_loss=costs[-1], where=awake
        )
        lift = jnp.einsum("gij,j->gi", inverse, x)
        lift = jnp.where(awake[:, None], lift, 0)
        gain = lift / (1 + lift @ x)[:, None]
        inverse = inverse - gain[:, :, None] * lift[:, None, :]
        theta = theta + gain * (y - experts)[:, None]
        return (state, inverse, theta), (prediction, probs, experts)

    start = ada_normal_hedge_init(many, dtype=x.dtype), eye, jnp.zeros_like(eye[:, 0])
    (state, _, theta), (predictions, probs, experts) = jax.lax.scan(
        round_, start, (x, y, awake)
    )
    return GroupwisePredictions(predictions, probs, experts, state, theta)


def _log_weights(regrets, magnitudes):
    """Log of half the difference of the potentials at R + 1 and R - 1."""
    spread = 3 * (magnitudes + 1)
    high = jnp.square(jnp.maximum(regrets + 1, 0)) / spread
    # The difference of the squares, which has no room to cancel.
    apart = jnp.where(regrets > 1, 4 * regrets / spread, high)
    some = apart > 0
    log_share = numerics.log1mexp(-jnp.where(some, apart, 1))
    return jnp.where(some, high + log_share - jnp.log(2.0).astype(high.dtype), -jnp.inf)


def _awake(where, shape):
    if where is None:
        return jnp.ones(shape, bool)
    where = jnp.asarray(where)
    if where.dtype != bool:
        raise TypeError(f"where has dtype {where.dtype}, expected bool")
    if where.shape != tuple(shape):
        raise ValueError(f"where has shape {where.shape}, expected {tuple(shape)}")
    return where


def _groups(groups, rounds):
    groups = jnp.asarray(groups)
    if groups.dtype != bool:
        raise TypeError(f"groups has dtype {groups.dtype}, expected bool")
    if groups.ndim != 2 or groups.shape[0] != rounds or groups.shape[1] == 0:
        raise ValueError(f"groups has shape {groups.shape}, expected [{rounds}, G]")
    if numerics.is_concrete(groups):
        known = np.asarray(groups)
        if not known.any(0).all():
            raise ValueError(
                f"groups has no round in column {int(np.argmin(known.any(0)))}, "
                "expected groups that are not empty"
            )
        if not known.any(1).all():
            raise ValueError(
                f"groups has no group for round {int(np.argmin(known.any(1)))}, "
                "expected at least one; let one group hold all rounds"
            )
    return groups
