"""Losses of several experts: for long tails, few shots, domains and mixtures."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.comp_sums import cross_entropy
from logitlab.losses.regularized import label_smoothing_loss
from logitlab.numerics.arguments import counts_per_class, hyper
from logitlab.transforms import logit_bias_fusion, standardize_logits
from logitlab.transforms.experts import LOG_STD, Uncertainty, both_shown
from logitlab.weights import inverse_prior

__all__ = [
    "drm_loss",
    "gaussian_score_loss",
    "mixup_smoothing_loss",
    "multi_branch_loss",
    "sade_loss",
]


def sade_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    class_counts: ArrayLike,
    *,
    tau: ArrayLike = 2.0,
    eps: ArrayLike = 1e-9,
    axis: int = -1,
) -> jax.Array:
    r"""Cross-entropies of three experts, for the head, for all, and for the tail.

    Use it when classes have a long tail and the test distribution is unknown: the
    experts are good on different ones, and unlabeled test data choose the mixture
    (``estimators.sade_weights``). Add the three up.

    .. math:: \mathrm{CE}(v_1), \quad \mathrm{CE}(v_2 + \log \pi), \quad
        \mathrm{CE}(v_3 + \log \pi - \tau \log \bar\pi)

    with the class frequencies :math:`\pi` and ``weights.inverse_prior`` of them,
    :math:`\bar\pi`, both plus ``eps``. Predict with the plain logits.

    Shapes: logits [..., 3, C], labels [...], class_counts [C] -> [..., 3]

    Args:
      logits: of the three experts, along the axis before the classes (the last one for
        ``axis=-2``). ``-inf`` hides a class, which keeps its rank among the others.
      labels: ints in ``[0, C)``.
      class_counts: examples of each class, at least 0.
      tau: how far the third expert turns the tail around (lambda in the paper), at
        least 0; may be traced.
      eps: added to the frequencies, which keeps the logs of classes without examples
        finite.
      axis: the class axis.

    Returns:
      The experts' losses in nats, float32 (float64 for float64 logits).

    Raises:
      ValueError: not three experts, a wrong label shape, a label of C or more (NaN
        under ``jit``), ``class_counts`` negative or not one per class, or ``tau``
        negative.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: SADE, Zhang et al. 2022, arXiv:2107.09249.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import sade_loss
    >>> costs = sade_loss(jnp.zeros((3, 2)), 1, jnp.array([9, 1]))
    >>> [f"{c:.4f}" for c in costs]
    ['0.6931', '2.3026', '6.5930']
    """
    z = _heads(logits, axis, None)
    if z.shape[-2] != 3:
        raise ValueError(f"logits has shape {z.shape}, expected [..., 3, C]")
    counts = counts_per_class(class_counts, z.shape[-1], "class_counts")
    counts = counts.astype(z.dtype)
    tau = hyper("tau", tau, z.dtype, lambda t: t >= 0, "at least 0")
    eps = hyper("eps", eps, z.dtype, lambda e: e > 0, "above 0")
    prior = counts / jnp.maximum(jnp.sum(counts), 1)
    log, inverse = jnp.log(prior + eps), jnp.log(inverse_prior(prior) + eps)
    shift = jnp.stack([jnp.zeros_like(log), log, log - tau * inverse])
    shift = shift.reshape((1,) * (z.ndim - 2) + shift.shape)
    return cross_entropy(z + shift, _for_each(labels, z))


def _heads(logits, axis, where):
    """Logits with heads and classes last."""
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    if z.ndim < 2:
        raise ValueError(f"logits has shape {z.shape}, expected an axis of heads too")
    return z


def _for_each(labels, z):
    """The labels of the examples, for each of the heads."""
    labels = numerics.wide_labels(labels)
    if labels.shape != z.shape[:-2]:
        raise ValueError(f"labels has shape {labels.shape}, expected {z.shape[:-2]}")
    return jnp.broadcast_to(labels[..., None], z.shape[:-1])


def multi_branch_loss(
    base_logits: ArrayLike,
    bias_logits: ArrayLike,
    labels: ArrayLike,
    *,
    merge_weight: ArrayLike = 0.35,
    alpha: ArrayLike = 0.5,
    uncertainty: Uncertainty = "moment",
    power: ArrayLike = 0.4,
    kurtosis_scale: ArrayLike = 250.0,
    eps: ArrayLike = 1e-8,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropies of a zero-shot model with a learned bias, and of the bias alone.

    Use it when a few examples shall teach a zero-shot model: it trains the bias of
    ``transforms.logit_bias_fusion``.

    .. math:: \lambda\, \mathrm{CE}(z + \alpha\, u\, \tilde b)
        + (1 - \lambda)\, \mathrm{CE}(\tilde b), \quad
        \tilde b = \frac{b - \bar b}{\epsilon + \sigma_b}

    Shapes: base_logits [..., C], bias_logits [..., C], labels [...], where [..., C]
      -> [...]

    Args:
      base_logits: of the zero-shot model.
      bias_logits: of the head that is trained.
      labels: ints in ``[0, C)``.
      merge_weight: lambda, from 0 to 1; may be traced. The released default is 1; the
        paper's is 0.35.
      alpha, uncertainty, power, kurtosis_scale, eps: of ``logit_bias_fusion``.
      axis: the class axis.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits).

    Raises:
      ValueError: shapes that differ, a label of C or more (NaN under ``jit``), or
        ``merge_weight`` outside [0, 1].

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80 of the
      fused logits.

    Source: AMU-Tuning, Tang et al. 2024, arXiv:2404.08958.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import multi_branch_loss
    >>> base, bias = jnp.float32([0, 0, 0]), jnp.float32([0, 0, 3])
    >>> print(f"{multi_branch_loss(base, bias, 2, uncertainty='none'):.4f}")
    0.4106
    """
    z, b = both_shown(base_logits, bias_logits, axis, where)
    share = hyper(
        "merge_weight",
        merge_weight,
        z.dtype,
        lambda w: (w >= 0) & (w <= 1),
        "in [0, 1]",
    )
    fused = logit_bias_fusion(
        z,
        b,
        alpha=alpha,
        uncertainty=uncertainty,
        power=power,
        kurtosis_scale=kurtosis_scale,
        eps=eps,
    )
    alone = standardize_logits(b, eps=eps)
    losses = cross_entropy(fused, labels), cross_entropy(alone, labels)
    return share * losses[0] + (1 - share) * losses[1]


def drm_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    domains: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Mean cross-entropy of an example's domain's head and of the shared head.

    Use it when examples come from several domains: it trains one head for each of them
    beside a shared one. Predict with ``transforms.drm_predict``.

    .. math:: \tfrac12 \left[ \mathrm{CE}(z_{d}, y) + \mathrm{CE}(z_{D + 1}, y) \right]

    The paper takes the mean over domains of the means of their examples: the mean of
    these numbers is that for domains of equal size, and ``weights`` in proportion to
    the inverse size make it so for others.

    Shapes: logits [..., H, C], labels [...], domains [...] -> [...]

    Args:
      logits: of the heads of D domains, then of the shared head, H = D + 1 in all,
        along the axis before the classes (the last one for ``axis=-2``).
      labels: ints in ``[0, C)``.
      domains: ints in ``[0, D)``, the domain of each example.
      axis: the class axis.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits).

    Raises:
      ValueError: fewer than two heads, wrong shapes, or a label or domain too large
        (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Domain-Specific Risk Minimization, Zhang et al. 2023, arXiv:2208.08661.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import drm_loss
    >>> heads = jnp.log(jnp.float32([[0.9, 0.1], [0.5, 0.5], [0.25, 0.75]]))
    >>> drm_loss(heads, 0, 1)
    Array(1.0397208, dtype=float32)
    """
    z = _heads(logits, axis, where)
    count = z.shape[-2] - 1
    if count < 1:
        raise ValueError(f"logits has shape {z.shape}, expected [..., D + 1, C], D > 0")
    d = numerics.wide_labels(domains, "domains")
    if d.shape != z.shape[:-2]:
        raise ValueError(f"domains has shape {d.shape}, expected {z.shape[:-2]}")
    if numerics.is_concrete(d) and (d >= count).any():
        raise ValueError(f"domains has {d.max()}, expected ids below {count}")
    each = cross_entropy(z, _for_each(labels, z))
    # Selected, not gathered, and what is not selected may be infinite or NaN.
    heads = jax.lax.broadcasted_iota(d.dtype, each.shape, each.ndim - 1)
    counts = (heads == d[..., None]) | (heads == count)
    loss = jnp.sum(jnp.where(counts, each, 0), -1) / 2
    return jnp.where((d >= 0) & (d < count), loss, jnp.nan)


def mixup_smoothing_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    other_labels: ArrayLike,
    share: ArrayLike,
    *,
    eps: ArrayLike = 0.1,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Label-smoothed cross-entropy of examples that were mixed from two.

    Use it when a model is fine-tuned that shall not grow louder than the one with which
    it is averaged.

    .. math:: \lambda\, \ell_\epsilon(z, y) + (1 - \lambda)\, \ell_\epsilon(z, y')

    with :math:`\ell_\epsilon` the ``label_smoothing_loss``.

    Shapes: logits [..., C], labels [...], other_labels [...], share [...],
      where [..., C] -> [...]

    Args:
      logits: of the mixed inputs, ``share * x + (1 - share) * other_x``.
      labels: ints in ``[0, C)``.
      other_labels: of the inputs mixed in.
      share: lambda, from 0 to 1, of each example or of all.
      eps: smoothing, from 0 to 1; may be traced.
      axis: the class axis.
      where: bool, the classes that take part. Hiding a label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits).

    Raises:
      ValueError: wrong shapes, a label of C or more (NaN under ``jit``), ``share`` or
        ``eps`` outside [0, 1].

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: BANG, Lin et al. 2024, arXiv:2309.17230; mixup, Zhang et al. 2018,
      arXiv:1710.09412. The strengths used together are inferred from the abstract.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import mixup_smoothing_loss
    >>> mixup_smoothing_loss(jnp.zeros(4), 0, 1, 0.3)
    Array(1.3862944, dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    share = hyper("share", share, z.dtype, lambda s: (s >= 0) & (s <= 1), "in [0, 1]")
    both = (label_smoothing_loss(z, y, eps=eps) for y in (labels, other_labels))
    one, other = both
    return jnp.where(share > 0, share * one, 0) + jnp.where(
        share < 1, (1 - share) * other, 0
    )


def gaussian_score_loss(
    mean: ArrayLike, log_std: ArrayLike, target: ArrayLike
) -> jax.Array:
    r"""Minus the Gaussian log-likelihood of a score, up to a constant.

    Use it when an expert shall predict its own quality, and how well it knows that;
    ``transforms.gaussian_scoring_integration`` weighs experts by it.

    .. math:: \frac12 \left[ \frac{(t - \mu)^2}{\sigma^2} + 2 \log \sigma \right]

    Shapes: mean [...], log_std [...], target [...] -> [...]

    Args:
      mean: the predicted score.
      log_std: log of its standard deviation, cut to [-5, 2], where it gets no gradient.
      target: the score, say the overlap of a mask with the truth; without gradient.

    Returns:
      The loss in nats, float32 (float64 for float64 means); at least -5.

    Raises:
      TypeError: arguments are not floating point.
      ValueError: shapes that differ.

    Source: WiCo, Cheng et al. 2023, arXiv:2306.10750; the loss is inferred from its
      abstract, which names Gaussian distributions of performance.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import gaussian_score_loss
    >>> gaussian_score_loss(jnp.float32([0.5]), jnp.zeros(1), jnp.float32([1.5]))
    Array([0.5], dtype=float32)
    """
    mu = numerics.promote_to_float32(mean, "mean")
    log_std, t = (
        numerics.promote_to_float32(a, name).astype(mu.dtype)
        for a, name in ((log_std, "log_std"), (target, "target"))
    )
    for a, name in ((log_std, "log_std"), (t, "target")):
        if a.shape != mu.shape:
            raise ValueError(f"{name} has shape {a.shape}, expected {mu.shape}")
    log_std = jnp.clip(log_std, *LOG_STD)
    ahead = (jax.lax.stop_gradient(t) - mu) * jnp.exp(-log_std)
    return ahead * ahead / 2 + log_std
