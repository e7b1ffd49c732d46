"""Losses of single answers, good or bad; what they remember is an argument."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.labels import checked
from logitlab.losses.preference import pairs
from logitlab.losses.rows import Row

__all__ = [
    "DensityClassifier",
    "RunningMean",
    "bco_loss",
    "density_ratio_weight",
    "fit_density_classifier",
    "kto_kl_estimate",
    "kto_loss",
    "running_mean_update",
]

NOT_LOSSES = (
    "density_ratio_weight",
    "fit_density_classifier",
    "kto_kl_estimate",
    "running_mean_update",
)


class RunningMean(NamedTuple):
    """Mean of all rewards so far and their number; ``RunningMean()`` is the start."""

    mean: ArrayLike = 0.0
    count: ArrayLike = 0.0


class DensityClassifier(NamedTuple):
    """Weights [D] and bias [] of a logistic regression on prompts."""

    kernel: jax.Array
    bias: jax.Array


def kto_loss(
    logps: ArrayLike,
    ref_logps: ArrayLike,
    is_desirable: ArrayLike,
    *,
    kl: ArrayLike,
    beta: ArrayLike = 0.1,
    desirable_weight: ArrayLike = 1.0,
    undesirable_weight: ArrayLike = 1.0,
) -> jax.Array:
    r"""Kahneman-Tversky optimisation: gains and losses beside a reference point.

    .. math:: \ell = \lambda_D\, (1 - \sigma(\beta a - \beta z_0))
        \text{ or } \lambda_U\, (1 - \sigma(\beta z_0 - \beta a)), \quad
        a = \log \frac{\pi(y)}{\pi_{ref}(y)}

    for desirable and undesirable answers. With ``kl=0`` this is unpaired APO-zero. The
    paper advises :math:`\lambda_D n_D / (\lambda_U n_U)` between 1 and 4/3.

    Shapes: logps [...], ref_logps [...], is_desirable [...] -> [...]

    Args:
      logps: log-probabilities of the answers, summed over tokens.
      ref_logps: the same under the reference; no gradient.
      is_desirable: bool.
      kl: z_0, a number without gradient, from :func:`kto_kl_estimate`.
      beta: positive.
      desirable_weight: lambda_D.
      undesirable_weight: lambda_U.

    Returns:
      One number per answer, float32 (float64 for float64 ``logps``).

    Raises:
      TypeError: an array is not floating point, or ``is_desirable`` not bool.
      ValueError: the shapes differ, or ``beta`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for rewards up to 80.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306.

    >>> zero = jnp.zeros(2)
    >>> kto_loss(jnp.float32([400, 0]), zero, jnp.array([True, False]), kl=0.0)
    Array([4.248354e-18, 5.000000e-01], dtype=float32)
    """
    rewards, good = _rewards(logps, ref_logps, is_desirable, beta)
    zero = jnp.asarray(beta, rewards.dtype) * jnp.asarray(kl, rewards.dtype)
    x = rewards - jax.lax.stop_gradient(zero)
    weight = jnp.where(good, desirable_weight, undesirable_weight).astype(x.dtype)
    return weight * pairs.sigmoid(jnp.where(good, -x, x))


def kto_kl_estimate(
    mismatched_logps: ArrayLike,
    mismatched_ref_logps: ArrayLike,
    *,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""KTO's reference point: how far the policy is from its reference, from one batch.

    .. math:: z_0 = \max\Bigl(0, \mathrm{mean}\, \log
        \frac{\pi(y_{i-1} | x_i)}{\pi_{ref}(y_{i-1} | x_i)}\Bigr)

    of prompts with the answers of their neighbours in the batch.

    Shapes: mismatched_logps [B], mismatched_ref_logps [B], mask [B] -> []

    Args:
      mismatched_logps: log-probabilities of these answers, summed over tokens.
      mismatched_ref_logps: the same under the reference.
      mask: bool, the pairs that take part.

    Returns:
      Nats without gradient, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point, or ``mask`` is not bool.
      ValueError: the shapes differ, or the batch is of one, which has no neighbour.

    Source: Ethayarajh et al. 2024, arXiv:2402.01306.

    >>> kto_kl_estimate(jnp.float32([-3, -5]), jnp.float32([-4, -5]))
    Array(0.5, dtype=float32)
    """
    logps, ref = pairs.logps_like(
        mismatched_logps=mismatched_logps, mismatched_ref_logps=mismatched_ref_logps
    )
    if logps.ndim != 1 or logps.size == 1:
        raise ValueError(
            f"mismatched_logps has shape {logps.shape}, expected (B,) with B at least 2"
        )
    mean = numerics.masked_mean(logps - ref, mask)
    return jax.lax.stop_gradient(jax.nn.relu(mean))


def bco_loss(
    logps: ArrayLike,
    ref_logps: ArrayLike,
    is_desirable: ArrayLike,
    density_weight: ArrayLike | None = None,
    *,
    shift: ArrayLike,
    beta: ArrayLike = 0.1,
) -> jax.Array:
    r"""Binary classifier optimisation: the reward is the logit of a thumbs-up.

    .. math:: \ell = \mathrm{sp}(-(r - \delta)) \text{ or } w\, \mathrm{sp}(r - \delta),
        \quad r = \beta \log \frac{\pi(y)}{\pi_{ref}(y)}

    for desirable and undesirable answers.

    Shapes: logps [...], ref_logps [...], is_desirable [...], density_weight [...]
      -> [...]

    Args:
      logps: log-probabilities of the answers, summed over tokens.
      ref_logps: the same under the reference; no gradient.
      is_desirable: bool.
      density_weight: w, by default 1; see :func:`density_ratio_weight`. Desirable
        answers have none; no gradient.
      shift: delta, a number without gradient: the mean of all rewards so far, those of
        this batch included (:func:`running_mean_update`).
      beta: positive.

    Returns:
      One number per answer in nats, float32 (float64 for float64 ``logps``).

    Raises:
      TypeError: an array is not floating point, or ``is_desirable`` not bool.
      ValueError: the shapes differ, or ``beta`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for rewards up to 80.

    Source: Jung et al. 2024, arXiv:2404.04656. Its text has a moving average, its code,
      like :func:`running_mean_update`, the mean of all batches.

    >>> zero = jnp.zeros(2)
    >>> bco_loss(jnp.float32([400, 0]), zero, jnp.array([True, False]), shift=0.0)
    Array([4.248354e-18, 6.931472e-01], dtype=float32)
    """
    rewards, good = _rewards(logps, ref_logps, is_desirable, beta)
    x = rewards - jax.lax.stop_gradient(jnp.asarray(shift, rewards.dtype))
    losses = jax.nn.softplus(jnp.where(good, -x, x))
    if density_weight is None:
        return losses
    weight = jax.lax.stop_gradient(jnp.asarray(density_weight).astype(x.dtype))
    if weight.shape != x.shape:
        raise ValueError(f"density_weight has shape {weight.shape}, expected {x.shape}")
    return jnp.where(good, losses, jnp.where(good, 1, weight) * losses)


def running_mean_update(
    state: RunningMean, rewards: ArrayLike, *, mask: ArrayLike | None = None
) -> RunningMean:
    r"""The mean of all rewards after another batch: BCO's shift.

    .. math:: \mu' = \mu + (\bar r - \mu) \frac{B}{n + B}, \quad n' = n + B

    Update first, then give ``state.mean`` to the loss of the same batch.

    Args:
      state: the last one, :class:`RunningMean` without arguments at the start.
      rewards: [...], of this batch, from :func:`implicit_reward`.
      mask: bool, [...], the rewards that take part.

    Returns:
      The new state, without gradient, in the dtype of the promoted rewards.

    Raises:
      TypeError: ``rewards`` is not floating point, or ``mask`` is not bool.
      ValueError: the shapes differ.

    >>> state = running_mean_update(RunningMean(), jnp.float32([1, 3]))
    >>> running_mean_update(state, jnp.float32([5]))[0]
    Array(3., dtype=float32)
    """
    rewards = jax.lax.stop_gradient(numerics.promote(rewards, "rewards"))
    mean, count = (jnp.asarray(a, rewards.dtype) for a in state)
    batch = numerics.kept(mask, rewards.shape).sum(dtype=rewards.dtype)
    total = count + batch
    share = batch / jnp.maximum(total, 1)
    return RunningMean(
        mean + (numerics.masked_mean(rewards, mask) - mean) * share, total
    )


def density_ratio_weight(
    prob_desirable: ArrayLike, *, min_ratio: float = 0.5, max_ratio: float = 10.0
) -> jax.Array:
    r"""How much likelier a prompt is among desirable answers: BCO's weights.

    .. math:: w = \mathrm{clip}\Bigl(\frac{p}{1 - p + 10^{-8}}, w_{min}, w_{max}\Bigr)

    Shapes: prob_desirable [...] -> [...]

    Args:
      prob_desirable: p, that a prompt has a desirable answer, from
        :func:`fit_density_classifier`.
      min_ratio: the smallest weight.
      max_ratio: the largest weight.

    Returns:
      Weights of undesirable answers, without gradient, float32 (float64 for float64
      probabilities).

    Raises:
      TypeError: ``prob_desirable`` is not floating point.
      ValueError: the bounds are not in order.

    Source: Jung et al. 2024, arXiv:2404.04656.

    >>> density_ratio_weight(jnp.float32([0.02, 0.75, 1]))
    Array([ 0.5,  3. , 10. ], dtype=float32)
    """
    checked("min_ratio", min_ratio, lambda m: m <= max_ratio, f"at most {max_ratio}")
    p = jax.lax.stop_gradient(numerics.promote(prob_desirable, "prob_desirable"))
    return jnp.clip(p / (1 - p + 1e-8), min_ratio, max_ratio)


def fit_density_classifier(
    features: ArrayLike,
    is_desirable: ArrayLike,
    *,
    l2: ArrayLike = 1.0,
    steps: int = 30,
) -> DensityClassifier:
    r"""Logistic regression of thumbs-up on prompts, both classes of one total weight.

    .. math:: \min_{w, b} \tfrac{\lambda}{2} \|w\|^2 + \sum_i \frac{n}{2 n_{y_i}}\,
        \mathrm{sp}(-s_i (w^\top x_i + b)), \quad s_i = \pm 1

    by Newton's method with halved steps. The probability of a prompt is
    ``jax.nn.sigmoid(features @ kernel + bias)``.

    Shapes: features [N, D], is_desirable [N] -> [D], []

    Args:
      features: embeddings of prompts.
      is_desirable: bool.
      l2: lambda, positive.
      steps: of Newton's method; ten are usually plenty.

    Returns:
      A :class:`DensityClassifier`, float32 (float64 for float64 features).

    Raises:
      TypeError: ``features`` is not floating point, or ``is_desirable`` not bool.
      ValueError: the shapes disagree, or ``l2`` is not positive.

    Source: Jung et al. 2024, arXiv:2404.04656; the penalty is scikit-learn's default.

    >>> x = jnp.float32([[-1], [1]])
    >>> fit_density_classifier(x, jnp.array([False, True]))[0].round(3)
    Array([0.675], dtype=float32)
    """
    pairs.positive(l2=l2)
    x = numerics.promote(features, "features")
    if x.ndim != 2:
        raise ValueError(f"features has shape {x.shape}, expected (N, D)")
    good = _desirable(is_desirable, x.shape[:1])
    share = jnp.where(good, good.sum(), (~good).sum()).astype(x.dtype)
    weight = x.shape[0] / 2 / jnp.maximum(share, 1)
    sign = jnp.where(good, 1, -1).astype(x.dtype)
    x = jnp.concatenate([x, jnp.ones_like(x[:, :1])], 1)
    ridge = jnp.full(x.shape[1], l2, x.dtype).at[-1].set(0)

    def cost(theta):
        logistic = weight * jax.nn.softplus(-sign * (x @ theta))
        return logistic.sum() + (ridge * theta**2).sum() / 2

    def step(_, theta):
        slope = jax.grad(cost)(theta)
        p = jax.nn.sigmoid(x @ theta)
        # Without a bias that all prompts agree on, its curvature would be 0.
        tiny = jnp.finfo(x.dtype).eps * x.shape[0]
        bend = x.T @ ((weight * p * (1 - p))[:, None] * x) + jnp.diag(ridge + tiny)
        move = jnp.linalg.solve(bend, slope)
        tries = theta[None] - jnp.outer(0.5 ** jnp.arange(12, dtype=x.dtype), move)
        costs = jax.vmap(cost)(tries)
        best = jnp.argmin(costs)
        return jnp.where(costs[best] < cost(theta), tries[best], theta)

    theta = jax.lax.fori_loop(0, steps, step, jnp.zeros(x.shape[1], x.dtype))
    return DensityClassifier(theta[:-1], theta[-1])


def _rewards(logps, ref_logps, is_desirable, beta):
    """Implicit rewards, and which answers are desirable."""
    pairs.positive(beta=beta)
    logps, ref = pairs.logps_like(logps=logps, ref_logps=ref_logps)
    good = _desirable(is_desirable, logps.shape)
    return pairs.log_ratio(logps, jax.lax.stop_gradient(ref), beta), good


def _desirable(is_desirable, shape):
    return numerics.kept(jnp.asarray(is_desirable), shape, "is_desirable")


def _answers(key, shape, dtype):
    logps, ref = 3 * jax.random.normal(key, (2, *shape), dtype)
    return logps, ref, jax.random.bernoulli(jax.random.fold_in(key, 1), shape=shape)


def _weighted_answers(key, shape, dtype):
    weights = jax.random.uniform(jax.random.fold_in(key, 2), shape, dtype, 0.5, 10)
    return *_answers(key, shape, dtype), weights


_ROW = dict(
    kind="sequence",
    golden="unpaired_binary",
    shift_invariant=False,
    where=False,
    symmetric=False,
    shape=(6,),
)

ROWS = (
    Row(
        kto_loss,
        make=_answers,
        source="Ethayarajh et al. 2024, arXiv:2402.01306",
        hyper={"kl": 0.3},
        upper=1.0,
        **_ROW,
    ),
    Row(
        bco_loss,
        make=_weighted_answers,
        source="Jung et al. 2024, arXiv:2404.04656",
        hyper={"shift": 0.2},
        convex=True,
        **_ROW,
    ),
)
