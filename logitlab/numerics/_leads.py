"""Rows measured from their top class: what temperatures below are made of."""

from __future__ import annotations

import jax
import jax.numpy as jnp

__all__ = ["below_lead", "tempered_nll"]


def below_lead(z: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """How far each class is below the row's lead, the first of its top classes.

    The lead is below itself by a constant 0, so its gradient is minus the sum of the
    others': no difference of numbers near 1, at any margin and any order.

    Shapes: z [..., C] -> [..., C], [..., C], [..., C], [...]

    Returns:
      Distances (at most 0; 0 at hidden classes), the lead and the classes that take
      part as bool, and the lead's score (0 where every class is hidden).
    """
    shown = z > -jnp.inf
    top = jnp.argmax(jax.lax.stop_gradient(z), -1)[..., None]
    lead = jax.lax.broadcasted_iota(jnp.int32, z.shape, z.ndim - 1) == top
    z = jnp.where(shown, z, 0)
    score = jnp.sum(jnp.where(lead, z, 0), -1)
    other = shown & ~lead
    below = jnp.where(other, z - jnp.where(other, score[..., None], 0), 0)
    return below, lead, shown, score


def tempered_nll(z: jax.Array, is_label: jax.Array, tau: jax.Array) -> jax.Array:
    r"""``tau * label_nll(z / tau)`` without the quotient, which may overflow.

    .. math:: \tau \log \sum_c e^{(z_c - z_k)/\tau} + (z_k - z_y)

    with :math:`k` the lead. Differentiable in ``tau`` as well.

    Shapes: z [..., C], is_label [..., C], tau [...] -> [...]
    """
    below, lead, shown, top = below_lead(z)
    scale = tau[..., None]
    near = shown & ~lead & (below > -1e4 * scale)  # the others are worth exp(-1e4)
    e = jnp.where(near, jnp.exp(jnp.where(near, below, 0) / scale), 0)
    excess = tau * jnp.log1p(jnp.sum(e, -1))
    hit = jnp.any(is_label & lead, -1) | ~jnp.any(shown, -1)
    score = jnp.sum(jnp.where(is_label, jnp.where(shown, z, -jnp.inf), 0), -1)
    return excess + jnp.where(hit, 0, jnp.where(hit, 0, top) - jnp.where(hit, 0, score))
