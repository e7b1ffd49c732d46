"""Pairwise losses without a reference model. Their likelihood term is the caller's."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.losses.preference import _pairs as pairs
from logitlab.numerics import _special, arguments
from logitlab.numerics.arguments import hyper, weighted

__all__ = [
    "alphapo_loss",
    "cpo_loss",
    "orpo_odds_ratio_loss",
    "rrhf_loss",
    "simpo_loss",
    "slic_hf_loss",
    "tpo_loss",
]


def cpo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
    label_smoothing: ArrayLike = 0.0,
) -> jax.Array:
    r"""Contrastive preference optimisation: DPO without its reference.

    Use it when you want DPO without its reference.

    .. math:: \ell = (1 - \epsilon)\, \mathrm{sp}(-x) + \epsilon\, \mathrm{sp}(x), \quad
        x = \beta (\log \pi(y_w) - \log \pi(y_l))

    CPO adds the mean loss of the tokens of chosen answers. Its hinge is
    ``slic_hf_loss`` of both log-probabilities times beta; its squared form is
    ``ipo_loss`` with ``average_log_prob=False`` of means over tokens and a reference of
    zeros.

    Shapes: chosen_logps [...], rejected_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      beta: positive.
      label_smoothing: epsilon, in [0, 1].

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or a hyper-parameter is outside its range.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Xu et al. 2024, arXiv:2401.08417.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import cpo_loss
    >>> cpo_loss(jnp.float32([-10]), jnp.float32([-410]))
    Array([4.248354e-18], dtype=float32)
    """
    pairs.smoothing(label_smoothing)
    x = _margin(beta, chosen_logps=chosen_logps, rejected_logps=rejected_logps)
    return pairs.logistic(x, label_smoothing)


def simpo_loss(
    chosen_mean_logps: ArrayLike,
    rejected_mean_logps: ArrayLike,
    *,
    beta: ArrayLike = 2.0,
    margin: ArrayLike = 0.5,
    label_smoothing: ArrayLike = 0.0,
) -> jax.Array:
    r"""SimPO: logistic loss of the margin of mean log-probabilities.

    Use it when a second model does not fit into memory.

    .. math:: \ell = (1 - \epsilon)\, \mathrm{sp}(-x) + \epsilon\, \mathrm{sp}(x), \quad
        x = \beta (m_w - m_l) - \gamma

    Shapes: chosen_mean_logps [...], rejected_mean_logps [...] -> [...]

    Args:
      chosen_mean_logps: log-probabilities of the chosen answers, means over tokens.
      rejected_mean_logps: the same of the rejected ones.
      beta: positive; 2 is typical of the paper, the released default 0.1 is not.
      margin: gamma, in units of x; 0.5 to 1.6.
      label_smoothing: epsilon, in [0, 1].

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or a hyper-parameter is outside its range.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Meng et al. 2024, arXiv:2405.14734.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import simpo_loss
    >>> simpo_loss(jnp.float32([-1]), jnp.float32([-21.25]))
    Array([4.248354e-18], dtype=float32)
    """
    pairs.smoothing(label_smoothing)
    x = _margin(
        beta,
        chosen_mean_logps=chosen_mean_logps,
        rejected_mean_logps=rejected_mean_logps,
    )
    return pairs.logistic(x - hyper("margin", margin, x.dtype), label_smoothing)


def alphapo_loss(
    chosen_mean_logps: ArrayLike,
    rejected_mean_logps: ArrayLike,
    *,
    beta: ArrayLike = 2.0,
    margin: ArrayLike = 0.5,
    alpha: ArrayLike = 0.25,
) -> jax.Array:
    r"""AlphaPO: SimPO with a reward of another shape.

    Use it when SimPO's reward should have another shape.

    .. math:: \ell = \mathrm{sp}(-\beta (r_w - r_l) + \gamma), \quad
        r = \frac{1 - e^{-\alpha m}}{\alpha}

    Shapes: chosen_mean_logps [...], rejected_mean_logps [...] -> [...]

    Args:
      chosen_mean_logps: log-probabilities of the chosen answers, means over tokens.
      rejected_mean_logps: the same of the rejected ones.
      beta: positive.
      margin: gamma, in units of the softplus.
      alpha: the shape; 0 is SimPO.

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``beta`` is not positive.

    Numerics: relative error below 5e-5, value and gradient, for margins and exponents
      up to 80 and 5. The exponential overflows by definition, to inf and never to NaN.
      Gradients come back in the dtype of the log-probabilities: in float16, whose
      steps below 6e-5 are all of 6e-8, a slope of 2e-6 is right to 1.5 %.

    Source: Gupta et al. 2025, arXiv:2501.03884.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import alphapo_loss
    >>> alphapo_loss(jnp.float32([-1]), jnp.float32([-2]), margin=0.0)
    Array([0.05265418], dtype=float32)
    """
    arguments.positive(beta=beta)
    chosen, rejected = arguments.logps_like(
        chosen_mean_logps=chosen_mean_logps, rejected_mean_logps=rejected_mean_logps
    )
    gap = pairs.exponential_gap(chosen, rejected, alpha)
    x = jnp.asarray(beta, gap.dtype) * gap - hyper("margin", margin, gap.dtype)
    return pairs.logistic(x)


def orpo_odds_ratio_loss(
    chosen_mean_logps: ArrayLike,
    rejected_mean_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
) -> jax.Array:
    r"""ORPO's odds-ratio term: log-odds of the chosen against the rejected answer.

    Use it when preference and fine-tuning happen in one stage.

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

    Numerics: relative error below 1e-5, value and gradient, for odds that differ by up
      to a factor of :math:`e^{80}`, however close a mean is to 0: one above -1.5e-36
      counts as that.

    Source: Hong et al. 2024, arXiv:2403.07691.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import orpo_odds_ratio_loss
    >>> orpo_odds_ratio_loss(jnp.float32([-1]), jnp.float32([-1]), beta=1.0)
    Array([0.6931472], dtype=float32)
    """
    arguments.positive(beta=beta)
    chosen, rejected = arguments.logps_like(
        chosen_mean_logps=chosen_mean_logps, rejected_mean_logps=rejected_mean_logps
    )
    chosen, rejected = _special.uncertain(chosen), _special.uncertain(rejected)
    against = _special.log_complement(rejected) - rejected
    # Odds against a likely answer are multiplied as they are: in logarithms the slope
    # would be a product of two factors, and 0 as soon as one of them underflows.
    likely = chosen > -math.log(2)
    m = jnp.where(likely, chosen, -1)
    close = jnp.log1p(jnp.expm1(-m) * jnp.exp(-against))
    m = jnp.where(likely, -1, chosen)
    far = jax.nn.softplus(_special.log_complement(m) - m - against)
    return jnp.asarray(beta, far.dtype) * jnp.where(likely, close, far)


def rrhf_loss(
    chosen_mean_logps: ArrayLike, rejected_mean_logps: ArrayLike
) -> jax.Array:
    r"""RRHF's ranking term: hinge of rejected over chosen log-probability.

    Use it when answers were ranked and likelihoods should follow.

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

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import rrhf_loss
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
    chosen_logps: ArrayLike, rejected_logps: ArrayLike, *, margin: ArrayLike = 1.0
) -> jax.Array:
    r"""The calibration term of SLiC-HF: a hinge of sequence log-probabilities.

    Use it when a hinge on sequence likelihoods suffices.

    .. math:: \ell = \max(0, \delta - \log \pi(y_w) + \log \pi(y_l))

    SLiC-HF adds 0.1 to 1 times the loss of answers to imitate.

    Shapes: chosen_logps [...], rejected_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      margin: delta.

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities). At
      the kink the slope is 0.

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ.

    Numerics: exact to rounding.

    Source: Zhao et al. 2023, arXiv:2305.10425; delta as commonly used.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import slic_hf_loss
    >>> slic_hf_loss(jnp.float32([-1, -3]), jnp.float32([-2.5, -2]))
    Array([0., 2.], dtype=float32)
    """
    x = _margin(1.0, chosen_logps=chosen_logps, rejected_logps=rejected_logps)
    return jax.nn.relu(hyper("margin", margin, x.dtype) - x)


def tpo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    gold_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.01,
    margin: ArrayLike = 0.0,
    alpha: ArrayLike = 1.0,
    label_smoothing: ArrayLike = 0.0,
) -> jax.Array:
    r"""Triple preference optimization: a pair's loss plus a gold answer's.

    Use it when there is a gold answer beside the pair.

    .. math:: \ell = (1 - \epsilon)\, \mathrm{sp}(-x) + \epsilon\, \mathrm{sp}(x)
        - \alpha \log \pi(y_{gold}), \quad
        x = \beta (\log \pi(y_w) - \log \pi(y_l)) - \gamma

    One step in place of supervised fine-tuning and then DPO, without a reference model.
    TPO-L is the same of means over tokens with a positive ``margin``.

    Shapes: chosen_logps [...], rejected_logps [...], gold_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens; their
        means for TPO-L.
      rejected_logps: the same of the rejected ones.
      gold_logps: the same of the best answers to the same prompts. Some code has means
        here whatever the others are.
      beta: positive; 0.01 in the paper.
      margin: gamma, in units of x: 0 for TPO, 0.5 for TPO-L.
      alpha: weight of imitation; 0 leaves the gold answer out.
      label_smoothing: epsilon, in [0, 1].

    Returns:
      One number per triple in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or a hyper-parameter is outside its range.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Saeidi et al. 2024, arXiv:2405.16681; github.com/huggingface/trl.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import tpo_loss
    >>> one = jnp.ones(1)
    >>> print(tpo_loss(-one, -41 * one, -one, beta=1.0, alpha=0.0))
    [4.248354e-18]
    """
    arguments.positive(beta=beta)
    pairs.smoothing(label_smoothing)
    chosen, rejected, gold = arguments.logps_like(
        chosen_logps=chosen_logps, rejected_logps=rejected_logps, gold_logps=gold_logps
    )
    x = pairs.margin(chosen, rejected, beta=beta) - hyper(
        "margin", margin, chosen.dtype
    )
    return pairs.logistic(x, label_smoothing) - weighted(alpha, gold, "alpha")


def _margin(beta, **logps):
    arguments.positive(beta=beta)
    return pairs.margin(*arguments.logps_like(**logps), beta=beta)
