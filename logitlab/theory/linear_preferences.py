"""What a preference between two teachers teaches a linear student, in closed form."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = ["linear_margin_preference_grad"]


def linear_margin_preference_grad(
    teacher_chosen: ArrayLike, teacher_rejected: ArrayLike
) -> jax.Array:
    r"""Gradient of a linear student's expected margin between two teachers.

    .. math:: \nabla_\theta\, \mathbb{E}_x \bigl[\log p_\theta(\hat y_c | x)
        - \log p_\theta(\hat y_r | x)\bigr]
        = \mathbb{E}_x \bigl[\tfrac12 (\hat y_c - \hat y_r)\, x\bigr]
        = \frac{1}{\sqrt{2\pi}} \Bigl(\frac{\theta_c}{\|\theta_c\|}
        - \frac{\theta_r}{\|\theta_r\|}\Bigr)

    for :math:`x \sim N(0, I)` and labels :math:`\hat y = \mathrm{sign}(\theta^\top x)`
    of the teachers. It is the same for every student, who ascends it: the difference
    teaches, however weak both teachers are.

    Shapes: teacher_chosen [..., D], teacher_rejected [..., D] -> [..., D]

    Args:
      teacher_chosen: weights of the teacher whose labels are chosen.
      teacher_rejected: weights of the other one.

    Returns:
      The slope, float32 (float64 for float64 ``teacher_chosen``). A teacher with
      weights 0 has no labels, and adds nothing.

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or there is no axis of features.

    Source: after the Delta Learning Hypothesis, Geng et al. 2025, arXiv:2507.06187;
      the closed form is ours.

    >>> import jax.numpy as jnp
    >>> from logitlab.theory import linear_margin_preference_grad
    >>> better, worse = jnp.float32([[2, 0], [0, 3]])
    >>> print(linear_margin_preference_grad(better, worse).round(4))
    [ 0.3989 -0.3989]
    """
    chosen = numerics.promote_to_float32(teacher_chosen, "teacher_chosen")
    rejected = numerics.promote_to_float32(teacher_rejected, "teacher_rejected")
    if rejected.shape != chosen.shape or not chosen.ndim:
        raise ValueError(
            f"teacher_chosen has shape {chosen.shape}, teacher_rejected "
            f"{rejected.shape}; expected [..., D], the same for both"
        )
    difference = _unit(chosen) - _unit(rejected.astype(chosen.dtype))
    return difference / jnp.sqrt(jnp.asarray(2 * jnp.pi, chosen.dtype))


def _unit(weights):
    """Weights of length 1, or 0; scaled, because the squares of 1e30 overflow."""
    top = jnp.max(jnp.abs(weights), -1, keepdims=True)
    scaled = weights / jnp.where(top > 0, top, 1)
    size = jnp.sqrt(jnp.sum(jnp.square(scaled), -1, keepdims=True))
    return scaled / jnp.where(top > 0, size, 1)
