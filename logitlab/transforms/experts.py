"""Logits of several experts as one: which of them to believe, for each example."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.ood_scores import neg_entropy_score
from logitlab.numerics.arguments import hyper
from logitlab.transforms.ensemble_averages import ensemble_logits
from logitlab.transforms.standardization import standardize_logits

__all__ = [
    "drm_predict",
    "gaussian_scoring_integration",
    "logit_bias_fusion",
    "match_scale",
]

Uncertainty = Literal[
    "moment", "entropy", "energy", "max", "max_min", "top5", "deviation", "none"
]


def logit_bias_fusion(
    base_logits: ArrayLike,
    bias_logits: ArrayLike,
    *,
    alpha: ArrayLike = 0.5,
    uncertainty: Uncertainty = "moment",
    power: ArrayLike = 0.4,
    kurtosis_scale: ArrayLike = 250.0,
    eps: ArrayLike = 1e-8,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Zero-shot logits plus a standardized bias, by the base model's uncertainty.

    Use it to add what a few examples teach to a model that has seen none, most where
    that model is unsure.

    .. math:: z + \alpha\, u(q)\, \frac{b - \bar b}{\epsilon + \sigma_b}, \quad
        q = \mathrm{softmax}(z)

    =============  ====================================================================
    uncertainty    u, with ``power`` as r
    =============  ====================================================================
    ``moment``     :math:`(\kappa / \kappa_0)^{-r}`, :math:`\kappa` the kurtosis of q
    ``entropy``    :math:`\exp(r H(q) / \log C)`
    ``energy``     :math:`E^{-r}`, :math:`E = 2 \log \sum_c e^{q_c / 2} + q_{(1)}`
    ``max``        :math:`q_{(1)}^{-r}`
    ``max_min``    :math:`(q_{(1)} - q_{(C)})^{-r}`
    ``top5``       :math:`(q_{(1)} - q_{(5)})^{-r}`, or the last of fewer classes
    ``deviation``  the standard deviation of q to the power of -r
    ``none``       1
    =============  ====================================================================

    Shapes: base_logits [..., C], bias_logits [..., C], where [..., C] -> [..., C]

    Args:
      base_logits: the zero-shot model's; ``-inf``, here or in the bias, is the same as
        ``where=False``.
      bias_logits: those of the few examples.
      alpha: the strength of the bias; 0 returns the base logits. May be traced.
      uncertainty: how the base model's uncertainty is measured. The published command
        of AMU-Tuning leaves it at ``none``; the paper's method is ``moment``.
      power: the exponent r, may be traced.
      kurtosis_scale: :math:`\kappa_0`, which the authors chose for 1000 classes. The
        kurtosis of a sure prediction is about C.
      eps: added to the deviation of the bias. 0 is the authors' code, whose constant
        rows are NaN; here they are 0.
      axis: the class axis.
      where: bool, the classes that take part, in every measure too.

    Returns:
      float32 (float64 for float64 logits), ``-inf`` at hidden classes. A uniform base
      prediction has no kurtosis and no difference to divide by: it counts as if its
      deviation were a rounding error of 1 / C (our choice).

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: shapes that differ, or an ``uncertainty`` that does not exist.

    Source: AMU-Tuning, Tang et al. 2024, arXiv:2404.08958.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import logit_bias_fusion
    >>> base, bias = jnp.float32([2, 1, 0]), jnp.float32([0, 0, 3])
    >>> z = logit_bias_fusion(base, bias, uncertainty="none")
    >>> [f"{x:.4f}" for x in z]
    ['1.7113', '0.7113', '0.5774']
    """
    z, b = both_shown(base_logits, bias_logits, axis, where)
    alpha, power = hyper("alpha", alpha, z.dtype), hyper("power", power, z.dtype)
    shown = z > -jnp.inf
    if uncertainty == "none":
        factor = jnp.ones_like(z[..., :1])
    elif uncertainty == "moment":
        scale = hyper(
            "kurtosis_scale", kurtosis_scale, z.dtype, lambda k: k > 0, "above 0"
        )
        d, deviation, count = _deviations(z, shown)
        kurtosis = jnp.sum((d / deviation) ** 4, -1, keepdims=True) / count
        # The least that there is, of two classes at least.
        least = (1 - 1 / jnp.maximum(count, 2)) ** 2
        factor = (jnp.maximum(kurtosis, least) / scale) ** -power
    elif uncertainty == "entropy":
        classes = jnp.maximum(_count(shown).astype(z.dtype), 2)
        factor = jnp.exp(-power * neg_entropy_score(z)[..., None] / jnp.log(classes))
    elif uncertainty in _SIZES:
        factor = _SIZES[uncertainty](z, shown) ** -power
    else:
        expected = ("moment", "entropy", *_SIZES, "none")
        raise ValueError(f"uncertainty is {uncertainty!r}, expected one of {expected}")
    bias = jnp.where(shown, standardize_logits(b, eps=eps), 0)
    return jnp.moveaxis(z + alpha * factor * bias, -1, axis)


def both_shown(
    base_logits: ArrayLike,
    bias_logits: ArrayLike,
    axis: int,
    where: ArrayLike | None,
) -> tuple[jax.Array, jax.Array]:
    """Both promoted, classes last; a class that one of them hides is hidden in both.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms.experts import both_shown
    >>> both_shown(jnp.zeros(2), jnp.float32([-jnp.inf, 1]), -1, None)[0]
    Array([-inf,   0.], dtype=float32)
    """
    z, b = (
        numerics.prepare_logits(a, axis=axis, where=where, name=name)
        for a, name in ((base_logits, "base_logits"), (bias_logits, "bias_logits"))
    )
    if b.shape != z.shape:
        raise ValueError(f"bias_logits has shape {b.shape}, expected {z.shape}")
    shown = (z > -jnp.inf) & (b > -jnp.inf)
    return jnp.where(shown, z, -jnp.inf), jnp.where(shown, b, -jnp.inf)


def _count(shown):
    return jnp.maximum(jnp.sum(shown, -1, keepdims=True), 1).astype(jnp.float32)


def _deviations(z, shown):
    """Of the probabilities from their mean, their sample deviation, and their number.

    The deviation is at least a rounding error of the mean.
    """
    count = _count(shown).astype(z.dtype)
    d = jnp.where(shown, numerics.softmax(z) - 1 / count, 0)
    square = jnp.sum(d * d, -1, keepdims=True) / jnp.maximum(count - 1, 1)
    least = jnp.finfo(z.dtype).eps / count
    some = square > least**2
    return d, jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), least), count


def _gap(z, shown, rank):
    """Between the largest probability and the one of a rank, or the last."""
    p = jnp.where(shown, numerics.softmax(z), -1)
    top = jax.lax.top_k(p, min(rank or p.shape[-1], p.shape[-1]))[0]
    low = jnp.min(jnp.where(top >= 0, top, 1), -1, keepdims=True)
    return jnp.maximum(top[..., :1] - low, jnp.finfo(z.dtype).eps / _count(shown))


def _energy(z, shown):
    q = numerics.softmax(z)
    top = jnp.max(q, -1, keepdims=True)  # counted twice in the authors' code
    return 2 * numerics.logsumexp(q / 2, where=shown)[..., None] + top


_SIZES = {
    "energy": _energy,
    "max": lambda z, shown: jnp.max(numerics.softmax(z), -1, keepdims=True),
    "max_min": lambda z, shown: _gap(z, shown, None),
    "top5": lambda z, shown: _gap(z, shown, 5),
    "deviation": lambda z, shown: _deviations(z, shown)[1],
}


def gaussian_scoring_integration(
    logits: ArrayLike,
    mean: ArrayLike,
    log_std: ArrayLike,
    *,
    key: jax.Array | None = None,
    temperature: ArrayLike = 0.1,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Experts' mean probabilities, weighed by the quality that each predicts.

    Use it where experts know on which inputs they are good, after training their
    predictions of that with ``losses.gaussian_score_loss``.

    .. math:: \log \sum_m \omega_m \mathrm{softmax}(z_m), \quad
        \omega = \mathrm{softmax}(s / T), \quad s_m = \mu_m + \sigma_m \epsilon_m

    Shapes: logits [M, ..., C], mean [M, ...], log_std [M, ...] -> [..., C]

    Args:
      logits: of M experts, along the first axis; ``-inf`` hides a class of one.
      mean: predicted quality, say the accuracy or the overlap of a mask.
      log_std: log of its standard deviation, cut to [-5, 2].
      key: draws the qualities, as in training, with gradients to mean and deviation; by
        default they are the means.
      temperature: T, positive; towards 0 only the best counts. May be traced.
      axis: the class axis.
      where: bool, broadcastable to ``logits``, the classes that take part.

    Returns:
      Log-probabilities, float32 (float64 for float64 logits).

    Raises:
      TypeError: arguments are not floating point or ``where`` is not bool.
      ValueError: ``mean`` or ``log_std`` of another shape, or ``temperature`` not
        positive.

    Source: WiCo, Cheng et al. 2023, arXiv:2306.10750. Its abstract says that scores are
      drawn from Gaussian distributions of the branches' performance; the softmax, its
      temperature and the mean of probabilities are inferred.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import gaussian_scoring_integration
    >>> two = jnp.log(jnp.float32([[0.9, 0.1], [0.5, 0.5]]))
    >>> z = gaussian_scoring_integration(two, jnp.float32([0.9, 0.1]), jnp.zeros(2))
    >>> [f"{p:.4f}" for p in jnp.exp(z)]
    ['0.8999', '0.1001']
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    mu, log_std = (
        numerics.promote_to_float32(a, name).astype(z.dtype)
        for a, name in ((mean, "mean"), (log_std, "log_std"))
    )
    for a, name in ((mu, "mean"), (log_std, "log_std")):
        if a.shape != z.shape[:-1]:
            raise ValueError(f"{name} has shape {a.shape}, expected {z.shape[:-1]}")
    t = hyper("temperature", temperature, z.dtype, lambda t: t > 0, "positive")
    if key is not None:
        noise = jax.random.normal(key, mu.shape, mu.dtype)
        mu = mu + noise * jnp.exp(jnp.clip(log_std, *LOG_STD))
    weights = numerics.softmax(mu / t, axis=0)
    return jnp.moveaxis(ensemble_logits(z, weights=weights), -1, axis)


LOG_STD = -5.0, 2.0


def drm_predict(
    logits: ArrayLike,
    *,
    gamma: ArrayLike = -1.0,
    include_shared: bool = False,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Log of the heads' probabilities, weighed by how sure each head is.

    Use it at test time with heads that ``losses.drm_loss`` has trained, one for each
    source domain and a shared one.

    .. math:: \log \sum_{k \le D} w_k \, \mathrm{softmax}(z_k), \quad
        w_k = \frac{H_k^{-\gamma}}{\sum_{l \le D + 1} H_l^{-\gamma}}

    with :math:`H_k` the entropy of head k for the example. A negative gamma takes the
    head of the least entropy alone, the shared one among them.

    Shapes: logits [..., H, C], where [..., H, C] -> [..., C]

    Args:
      logits: of the heads of D domains, then of the shared head, H = D + 1 in all,
        along the axis before the classes (the last one for ``axis=-2``).
      gamma: 0 for equal weights, larger for those that are sure; may be traced.
      include_shared: adds the shared head to the sum. The authors' code has it in the
        denominator alone: exponentials of what is returned then add up to less than 1,
        which no softmax or argmax sees.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Logits, float32 (float64 for float64 logits), finite however sure a head is.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: fewer than two heads.

    Source: Domain-Specific Risk Minimization, Zhang et al. 2023, arXiv:2208.08661.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import drm_predict
    >>> heads = jnp.log(jnp.float32([[0.9, 0.1], [0.5, 0.5], [0.6, 0.4]]))
    >>> [f"{p:.4f}" for p in jnp.exp(drm_predict(heads))]
    ['0.9000', '0.1000']
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    if z.ndim < 2 or z.shape[-2] < 2:
        raise ValueError(f"logits has shape {z.shape}, expected [..., D + 1, C], D > 0")
    gamma = hyper("gamma", gamma, z.dtype)
    log_p = numerics.log_softmax(z)
    p = jnp.exp(log_p)
    entropy = -neg_entropy_score(z)
    log_h = jnp.log(jnp.maximum(entropy, jnp.finfo(z.dtype).tiny))
    log_w = numerics.log_softmax(-jnp.where(gamma < 0, 0, gamma) * log_h)
    heads = jax.lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 2)
    counts = (p > 0) & (heads < z.shape[-2] - (not include_shared))
    mixed = numerics.logsumexp(log_p + log_w[..., None], axis=-2, where=counts)
    surest = jnp.argmin(entropy, -1)[..., None, None]
    surest = jnp.take_along_axis(log_p, surest, -2)[..., 0, :]
    return jnp.moveaxis(jnp.where(gamma < 0, surest, mixed), -1, axis)


def match_scale(
    logits: ArrayLike,
    *,
    how: Literal["std", "confidence"] = "std",
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Factors for members' logits that make none of them louder than the others.

    Use it before ``ensemble_logits``, whose ``scales`` it returns, if members were
    trained with other losses or for other times: the mean of logits follows the most
    confident one.

    Shapes: logits [M, ..., C], mask [...] -> [M]

    Args:
      logits: of M members on the same examples, along the first axis.
      how: ``std`` makes the root mean squares of the logits about each example's mean
        equal, to their geometric mean; ``confidence`` makes the members' mean largest
        probabilities equal, to their mean.
      axis: the class axis.
      where: bool, broadcastable to ``logits``, the classes that take part.
      mask: bool, the examples that count.

    Returns:
      [M], positive, float32 (float64 for float64 logits), without gradient; 1 for a
      member whose logits are all equal.

    Raises:
      TypeError: ``logits`` is not floating point, ``where`` or ``mask`` not bool.
      ValueError: no members, an unknown ``how``, or ``mask`` of another shape.

    Source: after the analysis of overconfident members in BANG, Lin et al. 2024,
      arXiv:2309.17230, which searches one factor on validation data.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import match_scale
    >>> quiet = jnp.float32([[1, 0], [0, 2]])
    >>> [f"{s:.4f}" for s in match_scale(jnp.stack([quiet, 4 * quiet]))]
    ['2.0000', '0.5000']
    """
    z = jax.lax.stop_gradient(numerics.prepare_logits(logits, axis=axis, where=where))
    if z.ndim < 2 or not z.shape[0]:
        raise ValueError(f"logits has shape {z.shape}, expected [M, ..., C], M above 0")
    keep = numerics.check_mask(mask, z.shape[1:-1])
    rows = z.reshape(z.shape[0], -1, z.shape[-1])
    keep = jnp.broadcast_to(keep.reshape(1, -1), rows.shape[:2])
    if how == "std":
        spread = _spread(rows, keep)
        some = spread > 0
        log = jnp.log(jnp.where(some, spread, 1))
        mean = jnp.sum(jnp.where(some, log, 0)) / jnp.maximum(jnp.sum(some), 1)
        return jnp.where(some, jnp.exp(mean - log), 1)
    if how != "confidence":
        raise ValueError(f"how is {how!r}, expected 'std' or 'confidence'")

    def confidence(scales):
        top = numerics.log_softmax(rows * scales[:, None, None]).max(-1)
        return jax.vmap(numerics.masked_mean)(jnp.exp(top), keep)

    goal = jnp.mean(confidence(jnp.ones(z.shape[:1], z.dtype)))

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        above = confidence(jnp.exp(middle)) > goal
        return jnp.where(above, low, middle), jnp.where(above, middle, high)

    ends = jnp.full(z.shape[:1], -15, z.dtype), jnp.full(z.shape[:1], 15, z.dtype)
    low, high = jax.lax.fori_loop(0, 50, halve, ends)
    return jnp.where(_spread(rows, keep) > 0, jnp.exp((low + high) / 2), 1)


def _spread(rows, keep):
    """Root mean square of each member's logits about their examples' means."""
    shown = (rows > -jnp.inf) & keep[..., None]
    z = jnp.where(shown, rows, 0)
    count = jnp.maximum(jnp.sum(shown, -1, keepdims=True), 1)
    d = jnp.where(shown, z - jnp.sum(z, -1, keepdims=True) / count, 0)
    size = jnp.max(jnp.abs(d), (1, 2), keepdims=True)
    d /= jnp.where(size > 0, size, 1)  # squares of 1e30 do not fit
    mean = jnp.sum(d * d, (1, 2)) / jnp.maximum(jnp.sum(shown, (1, 2)), 1)
    return size[:, 0, 0] * jnp.sqrt(jnp.where(mean > 0, mean, 1)) * (mean > 0)
