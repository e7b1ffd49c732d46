"""Smooth adversarial comp-sum loss: a clean loss and the shift of the margins."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.comp_sums import comp_rho_margin_loss, comp_sum_loss
from logitlab.numerics.arguments import hyper, one_hot_mask, weighted

__all__ = [
    "adversarial_comp_rho_margin_loss",
    "margin_shift_penalty",
    "smooth_adversarial_comp_sum_loss",
]


def smooth_adversarial_comp_sum_loss(
    clean_logits: ArrayLike,
    adv_logits: ArrayLike,
    labels: ArrayLike,
    *,
    tau: ArrayLike = 1.0,
    rho: ArrayLike = 1.0,
    nu: ArrayLike = 1.0,
    eps: ArrayLike = 1e-12,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Comp-sum loss of the clean margins plus how far an attack moves them.

    Use it when you train on clean and attacked inputs together.

    .. math:: \ell = \Phi_\tau\Bigl(\sum_{c \ne y} e^{-(z_y - z_c)/\rho}\Bigr)
        + \nu \|D(x') - D(x)\|_2, \quad D_c(x) = z_y(x) - z_c(x)

    Both sets of logits get gradients; that the clean ones do is inferred, as are the
    defaults ``rho = nu = 1``. From
    :math:`\nu = \sqrt{C-1}/\rho` on, the loss is no less than
    ``adversarial_comp_rho_margin_loss`` at the same ``adv_logits``.

    Shapes: clean_logits [..., C], adv_logits [..., C], labels [...] -> [...]

    Args:
      clean_logits: scores of the example; ``-inf`` is the same as ``where=False``.
      adv_logits: scores of the attacked example, of the same shape.
      labels: ints in ``[0, C)``.
      tau: at least 0, as in ``comp_sum_loss``.
      rho: positive, the temperature of the clean margins.
      nu: at least 0, the weight of the shift.
      eps: at least 0, added to the squared norm, which has no slope at 0.
      axis: the class axis of both logits and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``, or the
        largest comp-sum loss for ``tau > 1``.

    Returns:
      The loss, float32 (float64 for float64 logits).

    Raises:
      ValueError: shapes that differ, a label of C or more (NaN under ``jit``), or a
        hyper-parameter outside its range.

    Numerics: relative error below 1e-5, value and gradient.

    Source: Mao, Mohri and Zhong 2023, arXiv:2304.07288.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import smooth_adversarial_comp_sum_loss
    >>> smooth_adversarial_comp_sum_loss(
    ...     jnp.float32([2, 1, 0]), jnp.float32([1, 1.5, 0]), 0
    ... )
    Array(2.2103815, dtype=float32)
    """
    z = numerics.prepare_logits(
        clean_logits, axis=axis, where=where, name="clean_logits"
    )
    rho = hyper("rho", rho, z.dtype, lambda r: r > 0, "positive")
    nu = hyper("nu", nu, z.dtype, lambda n: n >= 0, "at least 0")
    shift = margin_shift_penalty(
        clean_logits, adv_logits, labels, eps=eps, axis=axis, where=where
    )
    top = jax.lax.stop_gradient(jnp.max(z, -1, keepdims=True))
    z = (z - jnp.where(top == -jnp.inf, 0, top)) / rho
    return comp_sum_loss(z, labels, tau=tau) + weighted(nu, shift)


def margin_shift_penalty(
    clean_logits: ArrayLike,
    adv_logits: ArrayLike,
    labels: ArrayLike,
    *,
    eps: ArrayLike = 1e-12,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Distance that an attack moves the label's margins; its objective.

    Use it when you need the objective of the attack on
    ``smooth_adversarial_comp_sum_loss``.

    .. math:: \sqrt{\|D(x') - D(x)\|_2^2 + \epsilon}, \quad
        D_c(x) = z_y(x) - z_c(x), \quad c \ne y

    Shapes: clean_logits [..., C], adv_logits [..., C], labels [...] -> [...]

    Args:
      clean_logits: scores of the example; while searching, stop its gradient.
      adv_logits: scores of the attacked example, of the same shape.
      labels: ints in ``[0, C)``.
      eps: at least 0, added to the squared norm, which has no slope at 0.
      axis: the class axis of both logits and ``where``.
      where: bool, the classes that take part. A hidden label has no margins to move.

    Returns:
      The norm in the logits' unit, float32 (float64 for float64 logits). A row without
      two classes has none: 0.

    Raises:
      ValueError: shapes that differ, a label of C or more (NaN under ``jit``), or
        ``eps`` negative.

    Numerics: relative error below 1e-5, value and gradient; squares never overflow.

    Source: Mao, Mohri and Zhong 2023, arXiv:2304.07288.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import margin_shift_penalty
    >>> margin_shift_penalty(jnp.float32([2, 1, 0]), jnp.float32([1, 1.5, 0]), 0)
    Array(1.8027756, dtype=float32)
    """
    if jnp.shape(adv_logits) != jnp.shape(clean_logits):
        raise ValueError(
            f"adv_logits has shape {jnp.shape(adv_logits)}, expected that of "
            f"clean_logits, {jnp.shape(clean_logits)}"
        )
    options: dict[str, Any] = dict(axis=axis, where=where)
    clean = numerics.prepare_logits(clean_logits, name="clean_logits", **options)
    attacked = numerics.prepare_logits(adv_logits, name="adv_logits", **options)
    is_label, known = one_hot_mask(clean, labels)
    visible = (clean > -jnp.inf) & (attacked > -jnp.inf)
    move = jnp.where(visible, attacked, 0) - jnp.where(visible, clean, 0)
    own = jnp.sum(jnp.where(is_label, move, 0), -1, keepdims=True)
    rivals = visible & ~is_label & jnp.any(visible & is_label, -1, keepdims=True)
    eps = hyper("eps", eps, move.dtype, lambda e: e >= 0, "at least 0")
    norm = _norm(jnp.where(rivals, own - move, 0), eps)
    norm = jnp.where(jnp.any(rivals, -1), norm, 0)
    return jnp.where(known, norm, jnp.nan)


def _norm(u, eps):
    """Square root of the squared norm of ``u`` plus ``eps``; no slope where it is 0."""
    # Scaled, because the squares of 1e30 overflow. The result does not depend on the
    # scale, so it needs no gradient.
    info, root = jnp.finfo(u.dtype), jnp.sqrt(eps)
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(u), -1, keepdims=True))
    size = jnp.maximum(size, jnp.maximum(root, info.tiny / info.eps))
    square = jnp.sum((u / size) ** 2, -1) + ((root / size) ** 2)[..., 0]
    norm = jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
    return size[..., 0] * norm


def adversarial_comp_rho_margin_loss(
    adv_logits: ArrayLike,
    labels: ArrayLike,
    *,
    tau: ArrayLike = 1.0,
    rho: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Comp-rho-margin loss of an attacked example, which the smooth loss bounds.

    Use it when you evaluate attacked examples alone, by the loss of the theory.

    .. math:: \Phi_\tau\Bigl(\sum_{c \ne y} \min(\max(0, 1 - (z_y - z_c)/\rho), 1)\Bigr)

    Shapes: adv_logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      adv_logits: scores of the attacked example.
      labels: ints in ``[0, C)``.
      tau: at least 0, as in ``comp_sum_loss``.
      rho: positive; a margin of ``rho`` costs nothing.
      axis: the class axis of ``adv_logits`` and ``where``.
      where: bool, the classes that take part. A hidden label loses to all of them.

    Returns:
      The loss, float32 (float64 for float64 logits).

    Raises:
      ValueError: as ``comp_rho_margin_loss``.

    Numerics: relative error below 1e-5, value and gradient.

    Source: Mao, Mohri and Zhong 2023, arXiv:2304.07288.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import adversarial_comp_rho_margin_loss
    >>> adversarial_comp_rho_margin_loss(jnp.float32([2, 1.5, 0]), 0)
    Array(0.4054651, dtype=float32)
    """
    return comp_rho_margin_loss(
        adv_logits, labels, tau=tau, rho=rho, axis=axis, where=where
    )
