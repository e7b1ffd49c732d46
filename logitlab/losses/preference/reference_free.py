"""Pairwise losses without a reference model. Their likelihood term is the caller's."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.losses.preference import draws, pairs

__all__ = [
    "alphapo_loss",
    "cpo_loss",
    "orpo_odds_ratio_loss",
    "rrhf_loss",
    "simpo_loss",
    "slic_hf_loss",
]


def cpo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
    loss_type: str = "sigmoid",
    label_smoothing: ArrayLike = 0.0,
) -> jax.Array:
    r"""Contrastive preference optimisation: DPO without its reference.

    .. math:: \ell = (1 - \epsilon)\, \mathrm{sp}(-x) + \epsilon\, \mathrm{sp}(x), \quad
        x = \beta (\log \pi(y_w) - \log \pi(y_l))

    or :math:`\max(0, 1 - x)` for ``hinge``, :math:`(x/\beta - 1/(2\beta))^2` for
    ``ipo``. CPO adds the mean loss of the tokens of chosen answers.

    Shapes: chosen_logps [...], rejected_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens; their
        means for ``ipo``.
      rejected_logps: the same of the rejected ones.
      beta: positive.
      loss_type: ``sigmoid``, ``hinge`` or ``ipo``.
      label_smoothing: epsilon, in [0, 1], of ``sigmoid``.

    Returns:
      One number per pair, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, ``loss_type`` is no such name, or a hyper-parameter
        is outside its range.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Xu et al. 2024, arXiv:2401.08417.

    >>> cpo_loss(jnp.float32([-10]), jnp.float32([-410]))
    Array([4.248354e-18], dtype=float32)
    """
    if loss_type not in ("sigmoid", "hinge", "ipo"):
        raise ValueError(
            f"loss_type is {loss_type!r}, expected 'sigmoid', 'hinge' or 'ipo'"
        )
    pairs.positive(beta=beta)
    pairs.smoothing(label_smoothing)
    logps = pairs.logps_like(chosen_logps=chosen_logps, rejected_logps=rejected_logps)
    if loss_type == "ipo":
        return pairs.squared(pairs.margin(*logps, beta=0.25), beta)
    x = pairs.margin(*logps, beta=beta)
    if loss_type == "hinge":
        return pairs.hinge(x)
    return pairs.logistic(x, label_smoothing)


def simpo_loss(
    chosen_mean_logps: ArrayLike,
    rejected_mean_logps: ArrayLike,
    *,
    beta: ArrayLike = 2.0,
    gamma: ArrayLike = 0.5,
    label_smoothing: ArrayLike = 0.0,
) -> jax.Array:
    r"""Simple preference optimisation: means over tokens, and a margin to exceed.

    .. math:: \ell = (1 - \epsilon)\, \mathrm{sp}(-x) + \epsilon\, \mathrm{sp}(x), \quad
        x = \beta (m_w - m_l) - \gamma

    Shapes: chosen_mean_logps [...], rejected_mean_logps [...] -> [...]

    Args:
      chosen_mean_logps: log-probabilities of the chosen answers, means over tokens.
      rejected_mean_logps: the same of the rejected ones.
      beta: positive; 2 is typical of the paper, the released default 0.1 is not.
      gamma: the margin, in units of x; 0.5 to 1.6.
      label_smoothing: epsilon, in [0, 1].

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or a hyper-parameter is outside its range.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Meng et al. 2024, arXiv:2405.14734.

    >>> simpo_loss(jnp.float32([-1]), jnp.float32([-21.25]))
    Array([4.248354e-18], dtype=float32)
    """
    pairs.smoothing(label_smoothing)
    x = _margin(
        beta,
        chosen_mean_logps=chosen_mean_logps,
        rejected_mean_logps=rejected_mean_logps,
    )
    return pairs.logistic(x - jnp.asarray(gamma, x.dtype), label_smoothing)


def alphapo_loss(
    chosen_mean_logps: ArrayLike,
    rejected_mean_logps: ArrayLike,
    *,
    beta: ArrayLike = 2.0,
    gamma: ArrayLike = 0.5,
    alpha: ArrayLike = 0.25,
) -> jax.Array:
    r"""AlphaPO: SimPO with a reward of another shape.

    .. math:: \ell = \mathrm{sp}(-\beta (r_w - r_l) + \gamma), \quad
        r = \frac{1 - e^{-\alpha m}}{\alpha}

    Shapes: chosen_mean_logps [...], rejected_mean_logps [...] -> [...]

    Args:
      chosen_mean_logps: log-probabilities of the chosen answers, means over tokens.
      rejected_mean_logps: the same of the rejected ones.
      beta: positive.
      gamma: the margin, in units of the softplus.
      alpha: the shape; 0 is SimPO.

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``beta`` is not positive.

    Numerics: relative error below 3e-5, value and gradient, for margins and exponents
      up to 80 and 5. The exponential overflows by definition, to inf and never to NaN.

    Source: Gupta et al. 2025, arXiv:2501.03884.

    >>> alphapo_loss(jnp.float32([-1]), jnp.float32([-2]), gamma=0.0)
    Array([0.05265418], dtype=float32)
    """
    pairs.positive(beta=beta)
    chosen, rejected = pairs.logps_like(
        chosen_mean_logps=chosen_mean_logps, rejected_mean_logps=rejected_mean_logps
    )
    gap = pairs.exponential_gap(chosen, rejected, alpha)
    x = jnp.asarray(beta, gap.dtype) * gap - jnp.asarray(gamma, gap.dtype)
    return pairs.logistic(x)


def orpo_odds_ratio_loss(
    chosen_mean_logps: ArrayLike,
    rejected_mean_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
) -> jax.Array:
    r"""The term of ORPO beside the likelihood: the odds of chosen over rejected.

    .. math:: \ell = \beta\, \mathrm{sp}(-\omega), \quad
        \omega = \log \frac{p_w}{1 - p_w} - \log \frac{p_l}{1 - p_l}, \quad p = e^m

    ORPO adds the mean loss of the tokens of prompts and chosen answers.

    Shapes: chosen_mean_logps [...], rejected_mean_logps [...] -> [...]

    Args:
      chosen_mean_logps: log-probabilities of the chosen answers, means over tokens.
      rejected_mean_logps: the same of the rejected ones.
      beta: positive, the weight of the term.

    Returns:
      One number per pair, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``beta`` is not positive.

    Numerics: relative error below 1e-5, value and gradient. In :math:`1 - p` a mean
      above -1e-7 counts as that; none is above 0.

    Source: Hong et al. 2024, arXiv:2403.07691.

    >>> orpo_odds_ratio_loss(jnp.float32([-1]), jnp.float32([-1]), beta=1.0)
    Array([0.6931472], dtype=float32)
    """
    pairs.positive(beta=beta)
    chosen, rejected = pairs.logps_like(
        chosen_mean_logps=chosen_mean_logps, rejected_mean_logps=rejected_mean_logps
    )
    chosen, rejected = (jnp.where(m > 0, 0, m) for m in (chosen, rejected))
    missed = pairs.log1mexp(chosen) - pairs.log1mexp(rejected)
    odds = pairs.margin(chosen, rejected, beta=1.0) - missed
    return jnp.asarray(beta, odds.dtype) * pairs.logistic(odds)


def rrhf_loss(
    chosen_mean_logps: ArrayLike, rejected_mean_logps: ArrayLike
) -> jax.Array:
    r"""The ranking term of RRHF: by how much the rejected answer is likelier.

    .. math:: \ell = \max(0, m_l - m_w)

    RRHF adds the loss of the chosen answer.

    Shapes: chosen_mean_logps [...], rejected_mean_logps [...] -> [...]

    Args:
      chosen_mean_logps: log-probabilities of the chosen answers, means over tokens.
      rejected_mean_logps: the same of the rejected ones.

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities). At
      the kink the slope is 0.

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ.

    Numerics: exact to rounding.

    Source: Yuan et al. 2023, arXiv:2304.05302.

    >>> rrhf_loss(jnp.float32([-1, -3]), jnp.float32([-2, -2]))
    Array([0., 1.], dtype=float32)
    """
    x = _margin(
        1.0,
        chosen_mean_logps=chosen_mean_logps,
        rejected_mean_logps=rejected_mean_logps,
    )
    return jax.nn.relu(-x)


def slic_hf_loss(
    chosen_logps: ArrayLike, rejected_logps: ArrayLike, *, delta: ArrayLike = 1.0
) -> jax.Array:
    r"""The calibration term of SLiC-HF: a hinge of sequence log-probabilities.

    .. math:: \ell = \max(0, \delta - \log \pi(y_w) + \log \pi(y_l))

    SLiC-HF adds 0.1 to 1 times the loss of answers to imitate.

    Shapes: chosen_logps [...], rejected_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      delta: the margin.

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities). At
      the kink the slope is 0.

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ.

    Numerics: exact to rounding.

    Source: Zhao et al. 2023, arXiv:2305.10425; delta as commonly used.

    >>> slic_hf_loss(jnp.float32([-1, -3]), jnp.float32([-2.5, -2]))
    Array([0., 2.], dtype=float32)
    """
    x = _margin(1.0, chosen_logps=chosen_logps, rejected_logps=rejected_logps)
    return jax.nn.relu(jnp.asarray(delta, x.dtype) - x)


def _margin(beta, **logps):
    pairs.positive(beta=beta)
    return pairs.margin(*pairs.logps_like(**logps), beta=beta)


def _log_probs(key, shape, dtype):
    """Means over tokens, all below 0."""
    return tuple(-abs(a) for a in draws.without_reference(key, shape, dtype))


def _row(loss, source, make=draws.without_reference, **facts):
    facts = dict(golden="reference_free_pairwise") | facts
    return draws.pair_row(loss, source, make, **facts)


ROWS = (
    _row(cpo_loss, "Xu et al. 2024, arXiv:2401.08417", convex=True),
    _row(simpo_loss, "Meng et al. 2024, arXiv:2405.14734", convex=True),
    _row(alphapo_loss, "Gupta et al. 2025, arXiv:2501.03884", shift_invariant=False),
    _row(
        orpo_odds_ratio_loss,
        "Hong et al. 2024, arXiv:2403.07691",
        _log_probs,
        shift_invariant=False,
    ),
    _row(rrhf_loss, "Yuan et al. 2023, arXiv:2304.05302", convex=True),
    _row(slic_hf_loss, "Zhao et al. 2023, arXiv:2305.10425", golden=None, convex=True),
)
