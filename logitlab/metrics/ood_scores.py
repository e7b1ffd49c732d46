"""How sure a model is of an example: scores that are higher for what it knows.

All are computed from what is below the top class, so that confident examples, whose
probability is 1 in float32, keep their order. ``metrics.auroc`` and
``metrics.risk_coverage`` say what a score is worth.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.mean import Mean
from logitlab.numerics._leads import below_lead
from logitlab.numerics.arguments import check_count, hyper

__all__ = [
    "doctor_alpha_score",
    "energy_score",
    "gen_score",
    "kl_matching_score",
    "kl_matching_templates",
    "log_odds_score",
    "logit_margin_score",
    "max_logit_score",
    "msp_score",
    "neg_entropy_score",
    "odin_score",
    "probability_margin_score",
]


def log_odds_score(
    logits: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""Log-odds of the top class against all others.

    Ranks as the maximum softmax probability does, and never ties: the score to take
    where one of ``msp_score`` would do.

    .. math:: z_k - \log \sum_{c \ne k} e^{z_c} = \log \frac{p_k}{1 - p_k}

    Shapes: logits [..., C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits); ``inf`` for a single class.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: no such axis, no classes, or ``where`` does not broadcast.

    Numerics: absolute error of a few rounding errors of the margin, at any margin.

    Source: Hendrycks and Gimpel 2017, arXiv:1610.02136, for the probability.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import log_odds_score
    >>> log_odds_score(jnp.float32([[45, 0], [50, 0]]))
    Array([45., 50.], dtype=float32)
    """
    return _log_odds(numerics.prepare_logits(logits, axis=axis, where=where))


def msp_score(
    logits: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""Log of the maximum softmax probability, the baseline of all scores.

    .. math:: \log \max_c p_c

    Its exponential is the probability itself, which in float32 is exactly 1 from margin
    17 on, so that all confident examples tie; the logarithm does not up to 80.

    Shapes: logits [..., C], where [..., C] -> [...]

    Args and errors are those of ``log_odds_score``.

    Returns:
      Nats, at most 0, float32 (float64 for float64 logits).

    Numerics: relative error below 1e-5 for margins up to 80.

    Source: Hendrycks and Gimpel 2017, arXiv:1610.02136.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import msp_score
    >>> msp_score(jnp.float32([[40, 0], [0, 0]]))
    Array([-4.248354e-18, -6.931472e-01], dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    return -jax.nn.softplus(-_log_odds(z))


def max_logit_score(
    logits: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""The largest logit: for many classes, of which several may be right at once.

    .. math:: \max_c z_c

    In the logits' own units: scores of differently scaled models do not compare.

    Shapes: logits [..., C], where [..., C] -> [...]

    Args and errors are those of ``log_odds_score``.

    Source: Hendrycks et al. 2019, arXiv:1911.11132.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import max_logit_score
    >>> max_logit_score(jnp.float32([1, 3, 2]))
    Array(3., dtype=float32)
    """
    return jnp.max(numerics.prepare_logits(logits, axis=axis, where=where), -1)


def energy_score(
    logits: ArrayLike,
    *,
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Negative free energy: the soft maximum of the logits.

    .. math:: T \log \sum_c e^{z_c / T}

    In the logits' own units, as ``temperature`` is; adding a constant to the logits
    adds it to the score.

    Shapes: logits [..., C], where [..., C] -> [...]

    Args and errors are those of ``log_odds_score``, and:
      ValueError: ``temperature`` is not positive.

    Source: Liu et al. 2020, arXiv:2010.03759.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import energy_score
    >>> energy_score(jnp.float32([[0, 0], [1e4, 0]])).round(4)
    Array([6.931e-01, 1.000e+04], dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    t = _temperature(temperature, z.dtype)
    return t * numerics.logsumexp(z / t)


def neg_entropy_score(
    logits: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""Minus the entropy of the probabilities, between minus log C and 0.

    .. math:: \sum_c p_c \log p_c

    Shapes: logits [..., C], where [..., C] -> [...]

    Args and errors are those of ``log_odds_score``.

    Numerics: relative error below 1e-5 for margins up to 80.

    Source: of predictions as a score, Chan et al. 2020, arXiv:2012.06575.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import neg_entropy_score
    >>> neg_entropy_score(jnp.float32([[0, 0], [40, 0]]))
    Array([-6.9314718e-01, -1.7418252e-16], dtype=float32)
    """
    log_p = numerics.log_softmax(logits, axis=axis, where=where)
    p = jnp.exp(log_p)
    return jnp.sum(p * jnp.where(p > 0, log_p, 0), axis)  # 0 silences even -inf


def logit_margin_score(
    logits: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""The largest logit minus the second largest; 0 where two are equal.

    .. math:: z_{(1)} - z_{(2)}

    Shapes: logits [..., C], where [..., C] -> [...]

    Args and errors are those of ``log_odds_score``; ``inf`` for a single class.

    Source: Scheffer et al. 2001, "Active hidden Markov models for information
      extraction".

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import logit_margin_score
    >>> logit_margin_score(jnp.float32([1, 3, 2]))
    Array(1., dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    below, lead, shown, _ = below_lead(z)
    return -jnp.max(jnp.where(shown & ~lead, below, -jnp.inf), -1)


def probability_margin_score(
    logits: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""The largest probability minus the second largest, between 0 and 1.

    .. math:: p_{(1)} - p_{(2)} = p_{(1)} (1 - e^{-(z_{(1)} - z_{(2)})})

    Rounds to 1 for confident examples; ``logit_margin_score`` keeps their order.

    Shapes: logits [..., C], where [..., C] -> [...]

    Args and errors are those of ``log_odds_score``.

    Source: Scheffer et al. 2001, "Active hidden Markov models for information
      extraction".

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import probability_margin_score
    >>> z = jnp.log(jnp.float32([0.2, 0.5, 0.3]))
    >>> print(f"{probability_margin_score(z):.4f}")
    0.2000
    """
    margin = logit_margin_score(logits, axis=axis, where=where)
    return jnp.exp(msp_score(logits, axis=axis, where=where)) * -jnp.expm1(-margin)


def gen_score(
    logits: ArrayLike,
    *,
    gamma: ArrayLike = 0.1,
    top_m: int = 100,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Generalized entropy, which small departures from certainty change most.

    .. math:: -\sum_{c \in \text{top } M} p_c^\gamma (1 - p_c)^\gamma

    For evaluation only: its slope is infinite at certainty.

    Shapes: logits [..., C], where [..., C] -> [...]

    Args:
      logits: scores.
      gamma: in (0, 1).
      top_m: M, how many of the largest probabilities count; all of fewer classes.
      axis: the class axis.
      where: bool, the classes that take part.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: ``gamma`` is not in (0, 1), ``top_m`` is below 1, or the shapes
        disagree.

    Numerics: relative error below 1e-5 at any margin; with 1 - p rounded, 12 % of the
      value are lost at margin 25 with ten classes.

    Source: GEN, Liu et al. 2023, "GEN: pushing the limits of softmax-based
      out-of-distribution detection".

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import gen_score
    >>> gen_score(jnp.float32([[0, 0], [40, 0]])).round(4)
    Array([-1.7411, -0.0366], dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    gamma = hyper("gamma", gamma, z.dtype, lambda g: (g > 0) & (g < 1), "in (0, 1)")
    check_count("top_m", top_m)
    odds = _log_odds(z)
    top = jax.lax.top_k(numerics.log_softmax(z), min(top_m, z.shape[-1]))[0][..., 1:]
    first = jnp.exp(-gamma * (jax.nn.softplus(-odds) + jax.nn.softplus(odds)))
    # The others are at most one half: their complements need no care.
    others = jnp.exp(gamma * (top + numerics.log1mexp(jnp.minimum(top, -0.5))))
    return -first - jnp.sum(others, -1)


def doctor_alpha_score(
    logits: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""Minus DOCTOR's odds that two draws from the probabilities disagree.

    .. math:: -\frac{g}{1 - g}, \quad g = 1 - \sum_c p_c^2 = \sum_c p_c (1 - p_c)

    To reject what is probably wrong. The paper's D-alpha is minus the score.

    Shapes: logits [..., C], where [..., C] -> [...]

    Args and errors are those of ``log_odds_score``.

    Numerics: relative error below 1e-5 for margins up to 80.

    Source: DOCTOR, Granese et al. 2021, arXiv:2106.02395.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import doctor_alpha_score
    >>> doctor_alpha_score(jnp.float32([[0, 0], [40, 0]]))
    Array([-1.000000e+00, -8.496708e-18], dtype=float32)
    """
    log_p = numerics.log_softmax(logits, axis=axis, where=where)
    p = jnp.exp(log_p)
    square = jnp.sum(p * p, axis)  # 0 without classes
    return jnp.sum(p * jnp.expm1(log_p), axis) / jnp.where(square > 0, square, 1)


def odin_score(
    logits_fn: Callable[[jax.Array], jax.Array],
    inputs: ArrayLike,
    *,
    temperature: ArrayLike = 1000.0,
    eps: ArrayLike = 0.0014,
    scale: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Log of the maximum softmax probability at a high temperature, after a step.

    .. math:: \log \max_c \mathrm{softmax}(f(x') / T)_c, \quad
        x' = x - \epsilon \, \mathrm{sign} \nabla_x \bigl(-\log
        \max_c \mathrm{softmax}(f(x) / T)_c\bigr)

    A step towards the predicted class raises what the model knows more than what it
    does not know. ``eps=0`` leaves the temperature alone.

    Args:
      logits_fn: inputs to logits, one row for each input, from which it must not take
        others into account.
      inputs: what it takes.
      temperature: T, in the logits' units.
      eps: the step, in the units of the inputs.
      scale: what the step is divided by, such as the standard deviation by which each
        channel of the inputs was divided, of a shape that broadcasts to ``inputs``.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      One score for each row of logits, as ``msp_score``.

    Raises:
      TypeError: ``inputs`` or the logits are not floating point.
      ValueError: ``temperature`` is not positive.

    Source: ODIN, Liang et al. 2018, arXiv:1706.02690.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import odin_score
    >>> x, kernel = jnp.float32([[5], [1]]), jnp.float32([[1, 0]])
    >>> print(*(f"{s:.5f}" for s in odin_score(lambda x: x @ kernel, x)))
    -0.69065 -0.69265
    """
    x = numerics.promote_to_float32(inputs, "inputs")

    def tempered(x):
        z = numerics.prepare_logits(logits_fn(x), axis=axis, where=where)
        return z / _temperature(temperature, z.dtype)

    slope = jax.grad(lambda x: -jnp.sum(msp_score(tempered(x))))(x)
    scale = jnp.broadcast_to(jnp.asarray(scale, x.dtype), x.shape)
    step = jnp.asarray(eps, x.dtype) / scale
    return msp_score(tempered(x - step * jnp.sign(slope)))


def kl_matching_templates(
    logits: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Mean:
    r"""Mean probabilities of the examples that are predicted as each class.

    .. math:: d_k = \mathrm{mean}_{i : \hat y_i = k} \, p_i

    The templates of ``kl_matching_score``, from examples that the model knows; those of
    batches add up.

    Shapes: logits [..., C], where [..., C], mask [...] -> ([C, C], [C, 1])

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: the shapes disagree.

    Source: Hendrycks et al. 2019, arXiv:1911.11132.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import kl_matching_templates
    >>> kl_matching_templates(jnp.float32([[0, 0], [-9, 9]])).value.round(4)
    Array([[0.5, 0.5],
           [0. , 1. ]], dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    keep = numerics.check_mask(mask, z.shape[:-1])
    p = numerics.softmax(jnp.where(keep[..., None], z, 0)).reshape(-1, z.shape[-1])
    hot = numerics.is_label(z, jnp.argmax(z, -1)) & keep[..., None]
    hot = hot.reshape(p.shape)
    total = jnp.matmul(hot.T.astype(p.dtype), p, precision="highest")
    return Mean(total, jnp.sum(hot, 0, dtype=jnp.int32)[:, None])


def kl_matching_score(
    logits: ArrayLike,
    templates: Mean,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Minus the divergence from the nearest class's usual probabilities.

    .. math:: -\min_k \mathrm{KL}(p \,\|\, d_k)

    Shapes: logits [..., C], templates Mean of [C, C], where [..., C] -> [...]

    Args:
      logits: scores.
      templates: of ``kl_matching_templates``; classes without examples are not matched,
        and none at all give ``-inf``.
      axis: the class axis.
      where: bool, the classes that take part.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: ``templates`` has another number of classes.

    Source: Hendrycks et al. 2019, arXiv:1911.11132.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import kl_matching_score, kl_matching_templates
    >>> templates = kl_matching_templates(jnp.float32([[2, 0], [0, 2]]))
    >>> print(f"{kl_matching_score(jnp.float32([0, 0]), templates):.4f}")
    -0.4338
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    total, count = (jnp.asarray(a) for a in templates)
    classes = z.shape[-1]
    if total.shape != (classes, classes):
        raise ValueError(
            f"templates has sums of shape {total.shape}, expected {(classes, classes)}"
        )
    log_p = numerics.log_softmax(z)
    p = jnp.exp(log_p)

    def divergence(row):
        # Once more, and the class that a template is sure of is exact again.
        log_d = numerics.log_softmax(jnp.log(row[0] / jnp.maximum(row[1], 1)))
        log_d = log_d.reshape((1,) * (z.ndim - 1) + (-1,))
        terms = numerics.terms(p, jnp.exp(log_d), log_d - log_p)
        return jnp.where(row[1] > 0, jnp.sum(terms, -1), jnp.inf)

    return -jnp.min(jax.lax.map(divergence, (total, count[:, 0])), 0)


def _log_odds(z):
    top = jnp.argmax(z, -1)
    others = jnp.where(numerics.is_label(z, top), -jnp.inf, z)
    second = jax.lax.stop_gradient(jnp.max(others, -1))
    none = second == -jnp.inf  # a single class, or no class at all
    second = jnp.where(none, 0, second)
    total = jnp.sum(jnp.exp(others - second[..., None]), -1)
    odds = numerics.take_label_logit(z, top) - second
    return jnp.where(none, jnp.inf, odds - jnp.log(jnp.where(none, 1, total)))


def _temperature(value, dtype):
    return hyper("temperature", value, dtype, lambda t: t > 0, "positive")
