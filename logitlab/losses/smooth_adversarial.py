"""Smooth adversarial comp-sum loss: a clean loss and the shift of the margins."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses import rows
from logitlab.losses.comp_sums import comp_rho_margin_loss, comp_sum_loss
from logitlab.losses.labels import checked, label_mask

__all__ = [
    "adversarial_comp_rho_margin_loss",
    "margin_shift_norm",
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
    eps: float = 1e-12,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Comp-sum loss of the clean margins plus how far an attack moves them.

    .. math:: \ell = \Phi_\tau\Bigl(\sum_{c \ne y} e^{-(z_y - z_c)/\rho}\Bigr)
        + \nu \|D(x') - D(x)\|_2, \quad D_c(x) = z_y(x) - z_c(x)

    Both sets of logits get gradients; that the clean ones do is our reading of the
    paper, and ``rho = nu = 1`` our recollection of its experiments. From
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
      ValueError: shapes that differ, a label out of range (NaN under ``jit``), or a
        hyper-parameter outside its range.

    Numerics: relative error below 1e-5, value and gradient.

    Source: Mao, Mohri and Zhong 2023, arXiv:2304.07288.

    >>> smooth_adversarial_comp_sum_loss(
    ...     jnp.float32([2, 1, 0]), jnp.float32([1, 1.5, 0]), 0
    ... )
    Array(2.2103815, dtype=float32)
    """
    checked("rho", rho, lambda r: r > 0, "positive")
    checked("nu", nu, lambda n: n >= 0, "at least 0")
    z = numerics.class_axis_last(
        clean_logits, axis=axis, where=where, name="clean_logits"
    )
    shift = margin_shift_norm(
        clean_logits, adv_logits, labels, eps=eps, axis=axis, where=where
    )
    top = jax.lax.stop_gradient(jnp.max(z, -1, keepdims=True))
    z = (z - jnp.where(top == -jnp.inf, 0, top)) / rho
    return comp_sum_loss(z, labels, tau=tau) + nu * shift


def margin_shift_norm(
    clean_logits: ArrayLike,
    adv_logits: ArrayLike,
    labels: ArrayLike,
    *,
    eps: float = 1e-12,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""How far an attack moves the margins of the label: what the attacker maximises.

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
      ValueError: shapes that differ, a label out of range (NaN under ``jit``), or
        ``eps`` negative.

    Numerics: relative error below 1e-5, value and gradient; squares never overflow.

    Source: Mao, Mohri and Zhong 2023, arXiv:2304.07288.

    >>> margin_shift_norm(jnp.float32([2, 1, 0]), jnp.float32([1, 1.5, 0]), 0)
    Array(1.8027756, dtype=float32)
    """
    checked("eps", eps, lambda e: e >= 0, "at least 0")
    if jnp.shape(adv_logits) != jnp.shape(clean_logits):
        raise ValueError(
            f"adv_logits has shape {jnp.shape(adv_logits)}, expected that of "
            f"clean_logits, {jnp.shape(clean_logits)}"
        )
    options = dict(axis=axis, where=where)
    clean = numerics.class_axis_last(clean_logits, name="clean_logits", **options)
    attacked = numerics.class_axis_last(adv_logits, name="adv_logits", **options)
    is_label, known = label_mask(clean, labels)
    visible = (clean > -jnp.inf) & (attacked > -jnp.inf)
    # Sixteenths, so that no difference of finite logits overflows.
    move = jnp.where(visible, attacked, 0) / 16 - jnp.where(visible, clean, 0) / 16
    own = jnp.sum(jnp.where(is_label, move, 0), -1, keepdims=True)
    rivals = visible & ~is_label & jnp.any(visible & is_label, -1, keepdims=True)
    norm = _norm(jnp.where(rivals, own - move, 0), jnp.asarray(eps, move.dtype))
    norm = jnp.where(jnp.any(rivals, -1), norm, 0)
    return jnp.where(known, norm, jnp.nan)


@jax.custom_jvp
def _norm(sixteenths, eps):
    size, scaled = _scaled_norm(sixteenths, eps)
    return 16 * (size * scaled)[..., 0]


@_norm.defjvp
def _norm_jvp(primals, tangents):
    (u, eps), (du, _) = primals, tangents  # eps is a constant
    size, scaled = _scaled_norm(u, eps)
    direction = (u / size) / jnp.where(scaled > 0, scaled, 1)
    return _norm(u, eps), jnp.sum(direction * (16 * du), -1)


def _scaled_norm(u, eps):
    """A size, and the norm of ``u`` and ``sqrt(eps) / 16`` in units of it."""
    least = jnp.maximum(jnp.sqrt(eps) / 16, jnp.finfo(u).tiny / jnp.finfo(u).eps)
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(u), -1, keepdims=True))
    size = jnp.maximum(size, least)
    w, rest = u / size, jnp.sqrt(eps) / 16 / size
    square = jnp.sum(w * w, -1, keepdims=True) + rest * rest
    return size, jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)


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

    >>> adversarial_comp_rho_margin_loss(jnp.float32([2, 1.5, 0]), 0)
    Array(0.4054651, dtype=float32)
    """
    return comp_rho_margin_loss(
        adv_logits, labels, tau=tau, rho=rho, axis=axis, where=where
    )


def _attacked(key, shape, dtype):
    logits_key, adv_key = jax.random.split(key)
    logits, labels = rows.class_labels(logits_key, shape, dtype)
    return logits, logits + jax.random.normal(adv_key, shape, dtype), labels


_PAPER = "Mao, Mohri and Zhong 2023, arXiv:2304.07288"

ROWS = (
    rows.Row(
        smooth_adversarial_comp_sum_loss,
        "example",
        _attacked,
        _PAPER,
        convex=True,
        note="clean and attacked logits; calibrated for robust accuracy",
        cost="clean and moved logits are two arrays from the start",
    ),
    rows.Row(
        margin_shift_norm,
        "example",
        _attacked,
        _PAPER,
        convex=True,
        note="the attacker's objective",
        cost="clean and moved logits are two arrays from the start",
    ),
    rows.Row(
        adversarial_comp_rho_margin_loss,
        "example",
        rows.class_labels,
        _PAPER,
        smooth=False,
        cost="margins to all rivals are kept for the gradient",
    ),
)
