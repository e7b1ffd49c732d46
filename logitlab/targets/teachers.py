"""Targets made from the logits of teachers and reference policies."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics import arguments
from logitlab.numerics.arguments import (
    check_range,
    check_same_shape,
    hyper,
    one_hot_mask,
    weighted,
)

__all__ = [
    "aspect_targets",
    "compose_teacher_logits",
    "omd_target",
    "teacher_optimal_ranking",
    "top_k_logits",
]


def compose_teacher_logits(
    dpo_logits: ArrayLike,
    ref_logits: ArrayLike,
    *,
    weight: ArrayLike,
    contrastive: bool = True,
) -> jax.Array:
    r"""Teacher logits extrapolated along the difference of two models.

    .. math:: z^* = d + w (d - r), \quad \text{or } w d + (1 - w) r

    The second is the optimum of a DPO reward with a KL penalty,
    :math:`w = \beta_0 / \beta`; the first moves the penalty's reference to d, with r
    the model trained on the same preferences reversed.

    Shapes: dpo_logits [..., C], ref_logits [..., C] -> [..., C]

    Args:
      dpo_logits: d, of the model trained by DPO; a class at ``-inf`` stays there.
      ref_logits: r. A class that only r hides stays as d has it.
      weight: w, one for all or one per token, [...].
      contrastive: which of the two.

    Returns:
      float32 (float64 for float64 logits), a constant.

    Raises:
      TypeError: logits are not floating point.
      ValueError: the shapes differ.

    Source: AlignDistil, Zhang et al. 2025, arXiv:2503.02832.

    >>> import jax.numpy as jnp
    >>> from logitlab.targets import compose_teacher_logits
    >>> d, r = jnp.float32([1, 0]), jnp.float32([0, 0])
    >>> print(compose_teacher_logits(d, r, weight=2.0))
    [3. 0.]
    """
    check_same_shape("ref_logits", ref_logits, "dpo_logits", jnp.shape(dpo_logits))
    d = jax.lax.stop_gradient(numerics.promote_to_float32(dpo_logits, "dpo_logits"))
    r = jax.lax.stop_gradient(numerics.promote_to_float32(ref_logits, "ref_logits"))
    w = jax.lax.stop_gradient(jnp.asarray(weight, d.dtype))
    if w.ndim and w.shape != d.shape[:-1]:
        raise ValueError(f"weight has shape {w.shape}, expected () or {d.shape[:-1]}")
    w = w[..., None] if w.ndim else w
    both = (d > -jnp.inf) & (r > -jnp.inf)
    gap = jnp.where(both, d, 0) - jnp.where(both, r.astype(d.dtype), 0)
    return d + (w if contrastive else w - 1) * gap


def aspect_targets(
    yes_logits: ArrayLike, no_logits: ArrayLike, *, temperature: ArrayLike = 1.0
) -> jax.Array:
    r"""Probability of a yes, from the logits of two tokens.

    .. math:: r = \sigma((l_{yes} - l_{no}) / T)

    Shapes: yes_logits [...], no_logits [...] -> [...]

    Raises:
      TypeError: logits are not floating point.
      ValueError: the shapes differ, or ``temperature`` is not positive.

    Source: Multi-Aspect Knowledge Distillation, arXiv:2501.13341.

    >>> import jax.numpy as jnp
    >>> from logitlab.targets import aspect_targets
    >>> aspect_targets(jnp.float32(1), jnp.float32(1))
    Array(0.5, dtype=float32)
    """
    yes = numerics.promote_to_float32(yes_logits, "yes_logits")
    temperature = hyper(
        "temperature", temperature, yes.dtype, lambda t: t > 0, "positive"
    )
    no = numerics.promote_to_float32(no_logits, "no_logits")
    if yes.shape != no.shape:
        raise ValueError(f"no_logits has shape {no.shape}, expected {yes.shape}")
    return jax.nn.sigmoid((yes - no) / temperature)


def teacher_optimal_ranking(
    teacher_logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    """The label, then the other classes by decreasing teacher logit.

    Equals keep the order of their classes; hidden classes come last.

    Shapes: teacher_logits [..., C], labels [...], where [..., C] -> [..., C]

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: wrong label shape, or a label of C or more.

    Source: PLD, arXiv:2506.12542.

    >>> import jax.numpy as jnp
    >>> from logitlab.targets import teacher_optimal_ranking
    >>> teacher_optimal_ranking(jnp.float32([2, 1, 3]), 1)
    Array([1, 2, 0], dtype=int32)
    """
    t = numerics.prepare_logits(
        teacher_logits, axis=axis, where=where, name="teacher_logits"
    )
    label, _ = one_hot_mask(t, labels)
    return jnp.moveaxis(_ranking(t, t, label), -1, axis)


def _ranking(s, t, label):
    """Class indices; those that ``s`` hides last."""
    shown = s > -jnp.inf
    group = jnp.where(shown, jnp.where(label, 0, 1), 2).astype(jnp.int32)
    t = jax.lax.stop_gradient(jnp.where(label, 0, t))
    index = jax.lax.broadcasted_iota(jnp.int32, t.shape, t.ndim - 1)
    return jax.lax.sort((group, -t, index), num_keys=2, is_stable=True)[-1]


def top_k_logits(logits: ArrayLike, k: int) -> jax.Array:
    """The k largest logits of each row where they are, and zeros elsewhere.

    All that equal the k-th are kept; hidden classes, at ``-inf``, become 0 too.

    Shapes: logits [..., C] -> [..., C]

    Raises:
      TypeError: ``logits`` is not floating point.
      ValueError: ``k`` is below 1.

    >>> import jax.numpy as jnp
    >>> from logitlab.targets import top_k_logits
    >>> print(top_k_logits(jnp.float32([3, -1, 2, -2]), 3))
    [ 3. -1.  2.  0.]
    """
    z = numerics.prepare_logits(logits)
    check_range("k", k, lambda k: k >= 1, "at least 1")
    kth = jax.lax.top_k(jax.lax.stop_gradient(z), min(k, z.shape[-1]))[0][..., -1:]
    return jnp.where((z >= kth) & (z > -jnp.inf), z, 0)


def omd_target(
    pref_matrix: ArrayLike,
    prev_logp: ArrayLike,
    ref_logp: ArrayLike,
    *,
    eta: ArrayLike,
    tau: ArrayLike,
) -> jax.Array:
    r"""Policy after one step of online mirror descent: INPO's minimizer.

    .. math:: \pi_{t+1} \propto e^{P \pi_t / \eta}\, \pi_{ref}^{\tau/\eta}\,
        \pi_t^{1 - \tau/\eta}

    Shapes: pref_matrix [K, K], prev_logp [K], ref_logp [K] -> [K]

    Args:
      pref_matrix: P, the probability that the row's answer beats the column's.
      prev_logp: log-probabilities of pi_t.
      ref_logp: log-probabilities of the reference.
      eta: at least tau, the inverse step.
      tau: positive, the game's KL strength.

    Returns:
      Log-probabilities, float32 (float64 for float64 ``prev_logp``).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes disagree, or not 0 < tau <= eta.

    Source: Zhang et al. 2024, arXiv:2407.00617.

    >>> import jax.numpy as jnp
    >>> from logitlab.targets import omd_target
    >>> omd_target(jnp.full((2, 2), 0.5), jnp.zeros(2), jnp.zeros(2), eta=1.0, tau=0.5)
    Array([-0.6931472, -0.6931472], dtype=float32)
    """
    _check_strengths(eta, tau)
    prev, ref = arguments.logps_like(prev_logp=prev_logp, ref_logp=ref_logp)
    wins = _game(pref_matrix, prev)
    eta, tau = jnp.asarray(eta, prev.dtype), jnp.asarray(tau, prev.dtype)
    share = tau / eta
    z = wins @ jnp.exp(prev) / eta + share * ref + weighted(1 - share, prev)
    return numerics.log_softmax(z)


def _check_strengths(eta, tau):
    arguments.positive(tau=tau)
    if not isinstance(tau, jax.core.Tracer):
        check_range("eta", eta, lambda e: e >= np.asarray(tau), f"at least tau, {tau}")


def _game(pref_matrix, policy):
    wins = numerics.promote_to_float32(pref_matrix, "pref_matrix").astype(policy.dtype)
    if policy.ndim != 1 or wins.shape != policy.shape * 2:
        raise ValueError(
            f"pref_matrix has shape {wins.shape}, expected (K, K) for policies (K,), "
            f"which have {policy.shape}"
        )
    return wins
