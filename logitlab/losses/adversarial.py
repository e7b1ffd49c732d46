"""Losses of adversarial training, of logits with and without an attack."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.comp_sums import cross_entropy
from logitlab.losses.distillation._pairs import prepare_pair, scores, shares
from logitlab.losses.distillation._relative_entropy import kl
from logitlab.numerics.arguments import hyper, one_hot_mask, weighted
from logitlab.weights.kl_penalized import kept_losses, largest_kept, soft_worst_weights

__all__ = [
    "adversarial_cross_entropy",
    "kl_dro_loss",
    "logit_pairing_loss",
    "mart_loss",
    "ramp_pairing_loss",
    "trades_loss",
]


def adversarial_cross_entropy(
    logits: ArrayLike,
    adversarial_logits: ArrayLike,
    labels: ArrayLike,
    *,
    share: ArrayLike = 0.5,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy of an example and of its attacked version, weighted.

    Use it when you train on attacked inputs: with ``share=1`` on nothing else.

    .. math:: (1 - \lambda) \, (-\log p_y) + \lambda \, (-\log q_y)

    with p the softmax of the example and q that of the attacked one, both of which get
    gradients. At 1/2 it is the first term of adversarial logit pairing (ALP), whose
    second is ``logit_pairing_loss``.

    Shapes: logits [..., C], adversarial_logits [..., C], labels [...] -> [...]

    Args:
      logits: scores of the example; ``-inf`` is the same as ``where=False``.
      adversarial_logits: scores of the attacked example, of the same shape.
      labels: ints in ``[0, C)``, or distributions of the logits' shape.
      share: lambda, that of the attacked example, in [0, 1].
      axis: the class axis of both logits and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: shapes that differ, a label of C or more (NaN under ``jit``), or
        ``share`` outside [0, 1].

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Madry et al. 2018, arXiv:1706.06083; mixed with clean examples, Kannan,
      Kurakin and Goodfellow 2018, arXiv:1803.06373.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import adversarial_cross_entropy
    >>> z, attacked = jnp.float32([2, 0]), jnp.float32([0, 0])
    >>> adversarial_cross_entropy(z, attacked, 0, share=1.0)
    Array(0.6931472, dtype=float32)
    """
    natural, attacked = _pair(logits, adversarial_logits, axis, where)
    attacked_share, rest = shares("share", share, natural.dtype)
    labels = _classes_last(labels, axis)
    clean = weighted(rest, cross_entropy(natural, labels))
    return clean + weighted(attacked_share, cross_entropy(attacked, labels))


def logit_pairing_loss(
    logits: ArrayLike,
    adversarial_logits: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Mean squared difference of the logits with and without an attack.

    Use it when an attack should not move logits; add it, times 1/2, to
    ``adversarial_cross_entropy`` for adversarial logit pairing (ALP).

    .. math:: \frac1C \sum_c (z_c - z'_c)^2

    ``logit_mse_loss`` with a scale of 1, but with gradients on both sides.

    Shapes: logits [..., C], adversarial_logits [..., C], where [..., C] -> [...]

    Args:
      logits: scores of the example; ``-inf`` is the same as ``where=False``.
      adversarial_logits: scores of the attacked example, of the same shape.
      axis: the class axis of both logits and ``where``.
      where: bool, the classes that take part; C counts them.

    Returns:
      In squared units of the logits, float32 (float64 for float64 logits). 0 where
      every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ.

    Numerics: relative error below 1e-5 of a squared difference.

    Source: Kannan, Kurakin and Goodfellow 2018, arXiv:1803.06373.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import logit_pairing_loss
    >>> logit_pairing_loss(jnp.float32([1, 3]), jnp.float32([0, 0]))
    Array(5., dtype=float32)
    """
    natural, attacked = _pair(logits, adversarial_logits, axis, where)
    shown = natural > -jnp.inf
    count = jnp.maximum(jnp.sum(shown, -1, keepdims=True), 1).astype(natural.dtype)
    d = jnp.where(shown, natural, 0) - jnp.where(shown, attacked, 0)
    return jnp.sum(d / count * d, -1)


def trades_loss(
    logits: ArrayLike,
    adversarial_logits: ArrayLike,
    labels: ArrayLike,
    *,
    beta: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""TRADES: cross-entropy, and a divergence of what an attack makes of it.

    Use it when accuracy and robustness are to be traded by one number, ``beta``.

    .. math:: -\log p_y + \beta \, \mathrm{KL}(p \| q)

    with p the softmax of the example and q that of the attacked one. Both get
    gradients: it is ``cross_entropy`` and the value of ``kd_loss``, whose teacher would
    have none. The attack looks for large ``KL(p || q)``, with p fixed.

    Shapes: logits [..., C], adversarial_logits [..., C], labels [...] -> [...]

    Args:
      logits: scores of the example; ``-inf`` is the same as ``where=False``.
      adversarial_logits: scores of the attacked example, of the same shape.
      labels: ints in ``[0, C)``, or distributions of the logits' shape.
      beta: at least 0; 6 is usual for images.
      axis: the class axis of both logits and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: shapes that differ, a label of C or more (NaN under ``jit``), or
        ``beta`` negative.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80, and
      where the attack hardly moves the logits.

    Source: Zhang et al. 2019, arXiv:1901.08573.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import trades_loss
    >>> trades_loss(jnp.float32([0, 0]), jnp.float32([2, 0]), 0, beta=1.0).round(4)
    Array(1.1269, dtype=float32)
    """
    natural, attacked = _pair(logits, adversarial_logits, axis, where)
    beta = hyper("beta", beta, natural.dtype, lambda b: b >= 0, "at least 0")
    clean = cross_entropy(natural, _classes_last(labels, axis))
    return clean + weighted(beta, kl(natural, attacked))


def mart_loss(
    logits: ArrayLike,
    adversarial_logits: ArrayLike,
    labels: ArrayLike,
    *,
    beta: ArrayLike,
    runner_up_eps: ArrayLike = 1e-4,
    log_eps: ArrayLike = 1e-12,
    weight_eps: ArrayLike = 1e-7,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""MART: boosted cross-entropy of the attack, and a divergence where it is unsure.

    Use it when clean mistakes should count more than clean successes in training.

    .. math:: -\log q_y - \log(1 + \epsilon_k + \epsilon - \max_{k \ne y} q_k) +
        \beta (1 + \epsilon_w - p_y) \sum_c p_c \log \frac{p_c}{q_c + \epsilon}

    with p the softmax of the example and q that of the attacked one; both get
    gradients, also through the weight. The defaults of the three epsilons are those of
    the official code: :math:`\epsilon_k` of ``runner_up_eps``, which bounds the second
    term by 9.2, :math:`\epsilon` of ``log_eps``, which bounds the third, and
    :math:`\epsilon_w` of ``weight_eps``. With all of them 0 every term is exact.

    Shapes: logits [..., C], adversarial_logits [..., C], labels [...] -> [...]

    Args:
      logits: scores of the example; ``-inf`` is the same as ``where=False``.
      adversarial_logits: scores of the attacked example, of the same shape.
      labels: ints in ``[0, C)``.
      beta: at least 0; 5 in the paper, 6 in the official code.
      runner_up_eps: at least 0.
      log_eps: at least 0.
      weight_eps: at least 0.
      axis: the class axis of both logits and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``. A row
        without two classes has no second term.

    Returns:
      Nats, float32 (float64 for float64 logits), with the epsilons at least -1.1e-4. 0
      where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: shapes that differ, a label of C or more (NaN under ``jit``), or a
        hyper-parameter that is negative.

    Numerics: relative error below 1e-5, value and gradient in ``logits``, for margins
      up to 80, and where the attack hardly moves the logits; absolute error below 1e-6
      of the gradient in ``adversarial_logits`` where ``log_eps`` flattens it.

    Source: Wang et al. 2020, "Improving adversarial robustness requires revisiting
      misclassified examples".

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import mart_loss
    >>> z, attacked = jnp.float32([2, 0]), jnp.float32([0, 0])
    >>> print(f"{mart_loss(z, attacked, 0, beta=5.0):.4f}")
    1.5815
    """
    natural, attacked = _pair(logits, adversarial_logits, axis, where)
    least = lambda v: v >= 0  # noqa: E731
    beta, runner_up_eps, small, weight_eps = (
        hyper(name, value, natural.dtype, least, "at least 0")
        for name, value in (
            ("beta", beta),
            ("runner_up_eps", runner_up_eps),
            ("log_eps", log_eps),
            ("weight_eps", weight_eps),
        )
    )
    unlikely = _runner_up_cost(attacked, labels, jnp.log(runner_up_eps + small))
    boosted = cross_entropy(attacked, labels) + unlikely
    y, known = numerics.check_labels(labels, natural.shape[:-1], natural.shape[-1])
    sure = numerics.label_nll(natural, jnp.where(known, y, 0))
    doubt = weight_eps - jnp.expm1(-sure)
    return boosted + weighted(beta * doubt, _raised_kl(natural, attacked, small))


def ramp_pairing_loss(
    source_logits: ArrayLike,
    target_logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""RAMP's logit pairing of two attacks of an example, 0 where the first succeeds.

    Use it when a model should withstand attacks of several norms at once.

    .. math:: [\arg\max_c s_c = y] \; \mathrm{KL}(p \| q)

    with p the softmax of the logits under the attack of one norm (the source, usually
    l-infinity) and q under that of another (the target, l1); both get gradients. The
    paper's term is the mean over the examples where the source's attack failed, which
    ``numerics.masked_mean`` takes, see below; its weight is 1.5 for fine-tuning and 2
    to 5 from scratch, beside the cross-entropy of the worse of the two.

    Shapes: source_logits [..., C], target_logits [..., C], labels [...] -> [...]

    Args:
      source_logits: scores under one attack; ``-inf`` is the same as ``where=False``.
      target_logits: scores under another one, of the same shape.
      labels: ints in ``[0, C)``.
      axis: the class axis of both logits and ``where``.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits). The first of equal classes is the top
      one. 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: shapes that differ, or a label of C or more (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80, and
      where the two are nearly the same.

    Source: RAMP, Jiang and Singh 2024, arXiv:2402.06827.

    >>> import jax.numpy as jnp
    >>> from logitlab import losses, numerics
    >>> source, target = jnp.float32([[2, 0], [0, 1]]), jnp.float32([[0, 0], [3, 0]])
    >>> labels = jnp.array([0, 0])
    >>> pairs = losses.ramp_pairing_loss(source, target, labels)
    >>> pairs.round(4)
    Array([0.3278, 0.    ], dtype=float32)
    >>> numerics.masked_mean(pairs, source.argmax(-1) == labels).round(4)
    Array(0.3278, dtype=float32)
    """
    names = "source_logits", "target_logits"
    source, target = _pair(source_logits, target_logits, axis, where, names)
    y, known = numerics.check_labels(labels, source.shape[:-1], source.shape[-1])
    right = jnp.argmax(source, -1) == y
    return jnp.where(known, jnp.where(right, kl(source, target), 0), jnp.nan)


def kl_dro_loss(
    losses: ArrayLike, *, r: ArrayLike, mask: ArrayLike | None = None
) -> jax.Array:
    r"""Worst weighted mean of a batch's losses, penalized by KL: one value for a batch.

    Use it when the worst examples or classes count, but not only the very worst.

    .. math:: \max_w \sum_i w_i \ell_i - r \sum_i w_i \log(n w_i)
        = r \log \frac1n \sum_i e^{\ell_i / r}

    over distributions w, of which the best is ``weights.kl_dro_weights``; these are the
    gradient too. From the mean (r towards infinity) to the maximum (r towards 0) of the
    losses. Of a batch it is smaller on average than of the whole set:
    ``weights.compositional_dro_update`` corrects that. That training takes these
    weights of attacked examples, without a term for how the attack moves with the
    parameters, is inferred from the abstract.

    Shapes: losses [...], mask [...] -> []

    Args:
      losses: one per example, of any loss.
      r: positive; may be traced and gets its gradient.
      mask: bool, the examples that take part.

    Returns:
      In the unit of the losses, float32 (float64 for float64); 0 without examples.

    Raises:
      TypeError: ``losses`` is not floating point, or ``mask`` not bool.
      ValueError: the shapes disagree, or ``r`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for any r: a large one
      costs no digits.

    Source: doubly robust instance-reweighted adversarial training, Sow et al. 2024,
      arXiv:2308.00311.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import kl_dro_loss
    >>> losses = jnp.float32([1, 2, 3])
    >>> print(f"{kl_dro_loss(losses, r=1.0):.4f} {kl_dro_loss(losses, r=1e6):.4f}")
    2.3090 2.0000
    """
    x, keep = kept_losses(losses, mask)
    r = hyper("r", r, x.dtype, lambda r: r > 0, "positive")
    return _soft_worst(x, keep, r)


@jax.custom_jvp  # exact: where a loss is inf, so are no others' slopes NaN
def _soft_worst(x, keep, r):
    top, gap = largest_kept(x, keep)
    n = jnp.maximum(jnp.sum(keep), 1).astype(x.dtype)
    fall = jnp.sum(jnp.where(keep, jnp.expm1(gap / r), 0)) / n
    mean = jnp.sum(jnp.where(keep, jnp.exp(gap / r), 0)) / n
    # The first has the digits near the mean of the losses, the other near the maximum.
    log_mean = jnp.where(fall > -0.5, jnp.log1p(fall), jnp.log(mean))
    return jnp.where(keep.any(), top + r * log_mean, 0)


@_soft_worst.defjvp
def _soft_worst_jvp(primals, tangents):
    x, keep, r = primals
    dx, _, dr = tangents
    worst, w = _soft_worst(x, keep, r), soft_worst_weights(x, keep, r)
    top, gap = largest_kept(x, keep)
    along = jnp.sum(jnp.where(w > 0, w * dx, 0))
    inner = jnp.where(jnp.isfinite(gap), gap, 0)
    by_r = (jnp.where(keep.any(), worst - top, 0) - jnp.sum(w * inner)) / r
    return worst, along + jnp.where(jnp.isinf(top), 0, by_r) * dr


def _pair(logits, adversarial_logits, axis, where, names=("", "")):
    """Both with classes last and gradients; a class that one hides is in neither."""
    names = names if all(names) else ("logits", "adversarial_logits")
    natural, attacked = prepare_pair(
        logits, adversarial_logits, axis=axis, where=where, names=names, constant=False
    )
    return natural + jnp.where(attacked == -jnp.inf, -jnp.inf, 0), attacked


def _classes_last(labels, axis):
    """Distributions follow the logits, whose class axis has become the last one."""
    numerics.check_is_array(labels, "labels")
    if np.issubdtype(jnp.result_type(labels), np.integer):
        return labels
    return jnp.moveaxis(jnp.asarray(labels), axis, -1)


def _runner_up_cost(z, labels, log_eps):
    """``-log(1 + eps - q_k)`` of the most likely wrong class k, 0 without one."""
    label, known = one_hot_mask(z, labels)
    z = scores(z)
    rivals = jnp.where(label, -jnp.inf, z)
    place = jnp.argmax(rivals, -1).astype(jnp.int32)
    runner_up = numerics.is_label(z, place)
    own = jnp.sum(jnp.where(runner_up & (z > -jnp.inf), z, 0), -1)
    others = numerics.logsumexp(jnp.where(runner_up, -jnp.inf, z))
    some = known & (jnp.max(rivals, -1) > -jnp.inf) & (others > -jnp.inf)
    odds = jnp.where(some, own - jnp.where(some, others, 0), 0)
    return jnp.where(some, -jnp.logaddexp(-jax.nn.softplus(odds), log_eps), 0)


def _raised_kl(natural, attacked, eps):
    """``sum(p log(p / (q + eps)))``, by the distribution ``q + eps`` over its sum."""
    z = scores(attacked)
    possible = z > -jnp.inf
    raised = jnp.logaddexp(z, numerics.logsumexp(z)[..., None] + jnp.log(eps))
    raised = jnp.where(possible, raised, -jnp.inf)
    return kl(natural, raised) - jnp.log1p(eps * jnp.sum(possible, -1, dtype=eps.dtype))
