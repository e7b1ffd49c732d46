"""Preferences as a game: INPO and its fixed point, Nash-MD, XPO."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.labels import checked
from logitlab.losses.preference import draws, pairs
from logitlab.losses.rows import Row

__all__ = ["duality_gap", "inpo_loss", "nash_md_pg_loss", "omd_target", "xpo_loss"]

NOT_LOSSES = ("duality_gap", "omd_target")


def inpo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    prev_chosen_logps: ArrayLike,
    prev_rejected_logps: ArrayLike,
    *,
    eta: ArrayLike,
    tau: ArrayLike,
) -> jax.Array:
    r"""Iterative Nash policy optimisation: one step of mirror descent by self-play.

    .. math:: \ell = \Bigl(\Delta_\theta - \frac{\tau}{\eta} \Delta_{ref}
        - \frac{\eta - \tau}{\eta} \Delta_t - \frac{1}{2\eta}\Bigr)^2, \quad
        \Delta = \log \pi(y_w) - \log \pi(y_l)

    with :math:`\pi_t` the policy that wrote both answers. Its minimiser over all pairs
    is :func:`omd_target`. For ``tau = eta`` it is IPO of sums.

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...], prev_chosen_logps [...], prev_rejected_logps [...]
      -> [...]

    Args:
      chosen_logps: log-probabilities of the answers that won, summed over tokens.
      rejected_logps: the same of those that lost.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      prev_chosen_logps: the same as ``chosen_logps`` under pi_t; no gradient.
      prev_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      eta: at least tau, the inverse step; 7.5e-3 has been used.
      tau: positive, the game's KL strength; a third of eta has been used.

    Returns:
      One number per pair, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or not 0 < tau <= eta.

    Numerics: relative error below 1e-5 off the minimum.

    Source: Zhang et al. 2024, arXiv:2407.00617; the defaults of a re-implementation.

    >>> arrays = jnp.float32([[1], [0], [0.4], [0], [0.7], [0]])
    >>> print(inpo_loss(*arrays, eta=0.5, tau=0.2).round(4))
    [0.3364]
    """
    _check_strengths(eta, tau)
    chosen, rejected, *fixed = pairs.logps_like(
        chosen_logps=chosen_logps,
        rejected_logps=rejected_logps,
        ref_chosen_logps=ref_chosen_logps,
        ref_rejected_logps=ref_rejected_logps,
        prev_chosen_logps=prev_chosen_logps,
        prev_rejected_logps=prev_rejected_logps,
    )
    share = jnp.asarray(tau, chosen.dtype) / jnp.asarray(eta, chosen.dtype)
    ref_chosen, ref_rejected, *prev = map(jax.lax.stop_gradient, fixed)
    good = share * ref_chosen + (1 - share) * prev[0]
    bad = share * ref_rejected + (1 - share) * prev[1]
    return pairs.squared(pairs.margin(chosen, rejected, good, bad, beta=0.25), eta)


def omd_target(
    pref_matrix: ArrayLike,
    prev_logp: ArrayLike,
    ref_logp: ArrayLike,
    *,
    eta: ArrayLike,
    tau: ArrayLike,
) -> jax.Array:
    r"""The policy after one step of online mirror descent: INPO's minimiser.

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

    >>> omd_target(jnp.full((2, 2), 0.5), jnp.zeros(2), jnp.zeros(2), eta=1.0, tau=0.5)
    Array([-0.6931472, -0.6931472], dtype=float32)
    """
    _check_strengths(eta, tau)
    prev, ref = pairs.logps_like(prev_logp=prev_logp, ref_logp=ref_logp)
    wins = _game(pref_matrix, prev)
    eta, tau = jnp.asarray(eta, prev.dtype), jnp.asarray(tau, prev.dtype)
    z = wins @ jnp.exp(prev) / eta + tau / eta * ref + (1 - tau / eta) * prev
    return numerics.log_softmax(z)


def duality_gap(
    policy: ArrayLike, pref_matrix: ArrayLike, ref: ArrayLike, tau: ArrayLike
) -> jax.Array:
    r"""How much the best responses to a policy win in the KL-regularised game.

    .. math:: \max_p J(p, \pi) - \min_q J(\pi, q), \quad J(p, q) = p^\top P q
        - \tau \mathrm{KL}(p \| \pi_{ref}) + \tau \mathrm{KL}(q \| \pi_{ref})

    0 at the Nash policy only. Best responses are tilted references, in closed form.

    Shapes: policy [K], pref_matrix [K, K], ref [K] -> []

    Args:
      policy: probabilities of the answers.
      pref_matrix: P, the probability that the row's answer beats the column's.
      ref: probabilities of the answers under the reference, positive.
      tau: positive, the game's KL strength.

    Returns:
      A number, at least 0 up to rounding, float32 (float64 for float64 ``policy``).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes disagree, or ``tau`` is not positive.

    Source: Zhang et al. 2024, arXiv:2407.00617.

    >>> half = jnp.full(2, 0.5)
    >>> print(duality_gap(half, jnp.full((2, 2), 0.5), half, 0.1).round(6))
    0.0
    """
    pairs.positive(tau=tau)
    p, ref = pairs.logps_like(policy=policy, ref=ref)
    wins, tau = _game(pref_matrix, p), jnp.asarray(tau, p.dtype)
    log_ref = jnp.log(ref)
    best = numerics.logsumexp(log_ref + wins @ p / tau)
    worst = numerics.logsumexp(log_ref - p @ wins / tau)
    some = p > 0
    kl = jnp.sum(jnp.where(some, p * (jnp.log(jnp.where(some, p, 1)) - log_ref), 0))
    return tau * (best + worst + 2 * kl)


def nash_md_pg_loss(
    logps: ArrayLike,
    ref_logps: ArrayLike,
    win_prob: ArrayLike,
    *,
    beta: ArrayLike,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Nash-MD by policy gradients: an answer against one of a mixture policy.

    .. math:: \ell = \beta \sum_t \mathrm{sg}\Bigl[\log \frac{\pi_t}{\pi_{ref, t}}
        \Bigr] \log \pi_t - \bigl(p - \tfrac12\bigr) \sum_t \log \pi_t

    A surrogate: its gradient matters, not its value.

    Shapes: logps [..., T], ref_logps [..., T], win_prob [...], mask [..., T] -> [...]

    Args:
      logps: log-probabilities of the answer's tokens.
      ref_logps: the same under the reference; no gradient.
      win_prob: p, that the answer beats the mixture's; no gradient.
      beta: positive, weight of the KL divergence.
      mask: bool, the tokens that count; by default all.

    Returns:
      One number per answer, float32 (float64 for float64 ``logps``).

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes disagree, or ``beta`` is not positive.

    Numerics: relative error below 1e-5.

    Source: Munos et al. 2023, arXiv:2312.00886; as in trl.

    >>> logps = jnp.float32([[-1, -2]])
    >>> nash_md_pg_loss(logps, logps, jnp.ones(1), beta=0.1)
    Array([1.5], dtype=float32)
    """
    pairs.positive(beta=beta)
    logps, ref = pairs.logps_like(logps=logps, ref_logps=ref_logps)
    if not logps.ndim:
        raise ValueError("logps has shape (), expected (..., T)")
    kept = numerics.kept(mask, logps.shape)
    logps, ref = jnp.where(kept, logps, 0), jnp.where(kept, ref, 0)
    win = numerics.promote(win_prob, "win_prob").astype(logps.dtype)
    if win.shape != logps.shape[:-1]:
        raise ValueError(f"win_prob has shape {win.shape}, expected {logps.shape[:-1]}")
    # One weight for each token: no difference of two large sums.
    weight = pairs.log_ratio(logps, ref, beta) - (win[..., None] - 0.5)
    return jnp.sum(jax.lax.stop_gradient(weight) * logps, -1)


def xpo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    ref_sample_logps: ArrayLike,
    *,
    alpha: ArrayLike,
    beta: ArrayLike = 0.1,
) -> jax.Array:
    r"""Exploratory preference optimisation: DPO that leaves what its reference says.

    .. math:: \ell = \mathrm{sp}(-\beta\Delta) + \alpha \log \pi(y_{ref})

    with :math:`\Delta` as in ``dpo_loss``.

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...], ref_sample_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      ref_sample_logps: log-probabilities, under the policy, of answers that the
        reference wrote; with gradient.
      alpha: the weight of exploration; 0 is DPO.
      beta: positive.

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``beta`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Xie et al. 2024, arXiv:2405.21046; as in trl.

    >>> zero = jnp.zeros(1)
    >>> xpo_loss(jnp.float32([400]), zero, zero, zero, zero, alpha=0.1)
    Array([4.248354e-18], dtype=float32)
    """
    pairs.positive(beta=beta)
    logps = pairs.referenced(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    chosen, sample = pairs.logps_like(
        chosen_logps=logps[0], ref_sample_logps=ref_sample_logps
    )
    loss = pairs.logistic(pairs.margin(*logps, beta=beta))
    return loss + jnp.asarray(alpha, chosen.dtype) * sample


def _check_strengths(eta, tau):
    pairs.positive(tau=tau)
    if not isinstance(tau, jax.core.Tracer):
        checked("eta", eta, lambda e: e >= tau, f"at least tau, {tau}")


def _game(pref_matrix, policy):
    wins = numerics.promote(pref_matrix, "pref_matrix").astype(policy.dtype)
    if policy.ndim != 1 or wins.shape != policy.shape * 2:
        raise ValueError(
            f"pref_matrix has shape {wins.shape}, expected (K, K) for policies (K,), "
            f"which have {policy.shape}"
        )
    return wins


def _three_policies(key, shape, dtype):
    prev = draws.referenced(jax.random.fold_in(key, 3), shape, dtype)[:2]
    return *draws.referenced(key, shape, dtype), *prev


def _explored(key, shape, dtype):
    sample = jax.random.normal(jax.random.fold_in(key, 3), shape, dtype)
    return *draws.referenced(key, shape, dtype), sample


def _tokens(key, shape, dtype):
    logps, ref = -abs(jax.random.normal(key, (2, *shape), dtype))
    return logps, ref, jax.random.uniform(jax.random.fold_in(key, 1), shape[:-1], dtype)


ROWS = (
    draws.pair_row(
        inpo_loss,
        "Zhang et al. 2024, arXiv:2407.00617",
        _three_policies,
        hyper={"eta": 0.5, "tau": 0.2},
        convex=True,
    ),
    draws.pair_row(
        xpo_loss,
        "Xie et al. 2024, arXiv:2405.21046",
        _explored,
        hyper={"alpha": 0.1},
        convex=True,
        lower=None,
    ),
    Row(
        nash_md_pg_loss,
        "sequence",
        _tokens,
        "Munos et al. 2023, arXiv:2312.00886",
        hyper={"beta": 0.1},
        shift_invariant=False,
        lower=None,
        where=False,
        surrogate="the KL divergence is that of a policy gradient",
    ),
)
