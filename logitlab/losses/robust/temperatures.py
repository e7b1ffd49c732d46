"""Losses that are distributionally robust: a temperature decides over whom."""

from __future__ import annotations

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics._leads import tempered_nll
from logitlab.numerics.arguments import check_range, hyper, one_hot_mask
from logitlab.transforms.temperatures import _kl_from_uniform, _log_count

__all__ = ["aldr_kl_loss", "ldr_kl_loss", "tempnet_robust_loss"]


Normalize = Literal["softplus_mean", "l1_mean", "softplus_l1_mean"]


def ldr_kl_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    lam: ArrayLike = 1.0,
    margin: ArrayLike = 0.0,
    normalize: Normalize | None = None,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Label-distributionally robust loss with a KL penalty.

    Use it when labels are doubtful and you accept one temperature for all examples.

    .. math:: \ell = \max_{q} \sum_c q_c d_c - \lambda \mathrm{KL}(q \| u)
        = \lambda \log \frac1C \sum_c e^{d_c / \lambda}, \quad
        d_c = z_c - z_y + m [c \ne y]

    ``lam=1`` is the cross-entropy minus :math:`\log C`; towards 0 the Crammer-Singer
    hinge without its ``max(0, .)``, towards infinity the mean of :math:`d`. The paper
    states it on raw scores; the released code always normalises.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      lam: :math:`\lambda`, positive; a number or one per example, may be traced.
      margin: :math:`m`, the same.
      normalize: what happens to the logits first: nothing, ``"softplus_mean"``
        (softplus divided by its mean over the classes), ``"l1_mean"`` (divided by their
        mean magnitude), ``"softplus_l1_mean"`` (both, and so the same as the first).
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part; C counts them. Hiding the label costs
        ``inf``.

    Returns:
      The loss in units of the (normalised) logits, at least ``-lam * log(C)`` with a
      margin of 0; float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), ``lam``
        not positive, or an unknown ``normalize``.

    Numerics: relative error of the gradient below 1e-5 for margins up to 80; of the
      value, which subtracts a constant, below 1e-5 of ``lam * log(C)``.

    Source: Zhu, Ying and Yang 2023, arXiv:2112.14869.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import ldr_kl_loss
    >>> ldr_kl_loss(jnp.float32([0, 0]), 0)
    Array(0., dtype=float32)
    """
    check_range("lam", lam, lambda x: x > 0, "positive")
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    is_label, known = one_hot_mask(z, labels)
    z, shown = _normalized(z, normalize)
    lam = _per_example("lam", lam, known, z.dtype)
    margin = hyper("margin", margin, z.dtype)
    loss = _ldr(z, shown, is_label, lam, margin)
    return jnp.where(known, loss, jnp.nan)


def aldr_kl_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    lam_state: ArrayLike,
    *,
    lam0: ArrayLike = 1.0,
    margin: ArrayLike = 0.1,
    alpha: ArrayLike = 2.0,
    normalize: Normalize | None = "l1_mean",
    axis: int = -1,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    r"""Adaptive ``ldr_kl_loss``: every example remembers its own temperature.

    Use it when each example may be wrong to another degree: every one keeps its own
    temperature.

    .. math:: \lambda = \lambda_0 \Bigl(1 - \frac{\mathrm{KL}(q \| u)}{\alpha \log C}
        \Bigr), \quad \ell = \lambda \log \frac1C \sum_c e^{d_c/\lambda}
        - \frac{\alpha \log C}{2 \lambda_0} (\lambda - \lambda_0)^2

    with ``q`` the softmax of the normalised scores, without the margin, at the
    temperature of the last visit, raised by 1e-5 and normalised again: the rule of the
    released code. The temperature gets no gradient. It stays above ``1e-3 * lam0``,
    which only ``alpha`` near or below 1 can reach.

    Shapes: logits [..., C], labels [...], lam_state [...], where [..., C]
      -> [...], [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      lam_state: temperatures of these examples, ``lam0`` before the first visit.
      lam0: :math:`\lambda_0`, positive; the released script has 10.
      margin: what is added to every difference but the label's.
      alpha: how much a temperature trusts ``lam0``, positive.
      normalize: as in ``ldr_kl_loss``.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part; C counts them.

    Returns:
      The loss in units of the normalised logits, and the temperatures to keep; both
      float32 (float64 for float64 logits). 0 and ``lam0`` where every class is hidden.

    Raises:
      ValueError: wrong shape of labels or state, a label of C or more (NaN under
        ``jit``), ``lam0`` or ``alpha`` not positive, or an unknown ``normalize``.

    Numerics: relative error below 1e-5 of the largest term, value and gradient.

    Source: Zhu, Ying and Yang 2023, arXiv:2112.14869.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import aldr_kl_loss
    >>> loss, lam = aldr_kl_loss(jnp.float32([1, -1]), 0, jnp.float32(1))
    >>> lam
    Array(0.7635436, dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    lam0 = hyper("lam0", lam0, z.dtype, lambda x: x > 0, "positive")
    alpha = hyper("alpha", alpha, z.dtype, lambda a: a > 0, "positive")
    margin = hyper("margin", margin, z.dtype)
    is_label, known = one_hot_mask(z, labels)
    z, shown = _normalized(z, normalize)
    lam_state = numerics.promote_to_float32(lam_state, "lam_state")
    if lam_state.shape != known.shape:
        raise ValueError(
            f"lam_state has shape {lam_state.shape}, expected {known.shape}"
        )
    old = jax.lax.stop_gradient(lam_state.astype(z.dtype))
    trust = alpha * _log_count(shown, z.dtype)
    kl = _kl_from_uniform(jax.lax.stop_gradient(z), old, smooth=1e-5)
    spent = kl / jnp.where(trust > 0, trust, 1)
    lam = jax.lax.stop_gradient(lam0 * jnp.maximum(1 - spent, 1e-3))
    loss = (
        _ldr(z, shown, is_label, lam, margin) - trust / (2 * lam0) * (lam - lam0) ** 2
    )
    return jnp.where(known, loss, jnp.nan), jnp.where(known, lam, jnp.nan)


def tempnet_robust_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    tau: ArrayLike,
    *,
    rho: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Robust loss with a temperature per example, for a TempNet to learn.

    Use it when a network predicts a temperature for each example (TempNet).

    .. math:: F = -\tau \log \mathrm{softmax}(z / \tau)_y + (\rho - \log C)\,\tau

    Convex in ``tau``, with slope :math:`\rho - \mathrm{KL}(\mathrm{softmax}(z/\tau)
    \| u)`, so the best temperature, ``optimal_temperature``, is where that divergence
    is ``rho``; there F is the worst case of :math:`\sum_c q_c (z_c - z_y)` over
    :math:`\mathrm{KL}(q \| u) \le \rho`. Differentiated in the logits and in ``tau``.

    Shapes: logits [..., C], labels [...], tau [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``.
      tau: positive temperatures, one per example or one for all.
      rho: radius of the ball, at least 0; 8 to 10 for language models.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part; C counts them. Hiding the label costs
        ``inf``.

    Returns:
      The loss in units of the logits, float32 (float64 for float64 logits). 0 where
      every class is hidden.

    Raises:
      ValueError: wrong shape of labels or ``tau``, a label of C or more (NaN under
        ``jit``), or ``tau`` not positive or ``rho`` negative.

    Numerics: relative error below 1e-5 of the larger term, value and gradient, for
      margins up to 80.

    Source: Qiu et al. 2024, arXiv:2404.04575.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import tempnet_robust_loss
    >>> tempnet_robust_loss(jnp.float32([1, 0, -1, 0.5]), 1, 0.744573, rho=0.3)
    Array(0.6452389, dtype=float32)
    """
    check_range("tau", tau, lambda t: t > 0, "positive")
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    rho = hyper("rho", rho, z.dtype, lambda r: r >= 0, "at least 0")
    is_label, known = one_hot_mask(z, labels)
    shown = z > -jnp.inf
    tau = _per_example("tau", tau, known, z.dtype)
    loss = tempered_nll(z, is_label, tau) + (rho - _log_count(shown, z.dtype)) * tau
    loss = jnp.where(jnp.any(shown, -1), loss, 0)
    return jnp.where(known, loss, jnp.nan)


def _per_example(name, value, known, dtype):
    value = jnp.asarray(value, dtype)
    if value.ndim and value.shape != known.shape:
        raise ValueError(f"{name} has shape {value.shape}, expected {known.shape}")
    return jnp.broadcast_to(value, known.shape)


def _ldr(z, shown, is_label, lam, margin):
    # Lowering the label lifts all differences but its own. Alone it stays where it is.
    z = jnp.where(is_label, z - margin, z)
    loss = tempered_nll(z, is_label, lam) - lam * _log_count(shown, z.dtype)
    return jnp.where(jnp.any(shown, -1), loss, 0)


def _normalized(z, normalize):
    """Normalised logits, ``-inf`` at hidden classes, and the classes shown."""
    shown = z > -jnp.inf
    count = jnp.maximum(jnp.sum(shown, -1, keepdims=True), 1).astype(z.dtype)
    if normalize is None:
        return jnp.where(shown, z, -jnp.inf), shown
    z = jnp.where(shown, z, 0)
    if normalize in ("softplus_mean", "softplus_l1_mean"):
        # Shares of a sum are a softmax of logarithms, and no softplus is too small.
        tiny = z < -20
        log_tiny = z - jnp.exp(jnp.minimum(z, 0)) / 2
        log_plus = jnp.log(jax.nn.softplus(jnp.where(tiny, 0, z)))
        shares = numerics.log_softmax(jnp.where(tiny, log_tiny, log_plus), where=shown)
        return jnp.where(shown, count * jnp.exp(shares), -jnp.inf), shown
    if normalize == "l1_mean":
        # Scaled, because the squared reciprocals of 1e30 and 1e-30 are no numbers.
        size = jnp.max(jnp.abs(jax.lax.stop_gradient(z)), -1, keepdims=True)
        tiny = (size > 0) & (size < 1e-20)
        z = z * jnp.where(size > 1e25, 2.0**-50, jnp.where(tiny, 2.0**50, 1))
        mean = jnp.sum(jnp.abs(z), -1, keepdims=True) / count
        return jnp.where(shown, z / jnp.where(mean > 0, mean, 1), -jnp.inf), shown
    known = "None, 'softplus_mean', 'l1_mean' or 'softplus_l1_mean'"
    raise ValueError(f"normalize is {normalize!r}, expected {known}")
