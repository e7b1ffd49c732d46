"""How often the logits of a vocabulary are large together."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.targets.teachers import top_k_logits

__all__ = ["coactivation_degree"]


def coactivation_degree(
    logits: ArrayLike, *, k: int = 10, mask: ArrayLike | None = None
) -> jax.Array:
    r"""Mean coactivation of each token of a vocabulary with all others.

    .. math:: f_i = \frac1V \sum_j A_{ij}, \quad
        A = \frac{1}{|m|} \sum_t m_t \tilde z_t \tilde z_t^\top

    with :math:`\tilde z` of ``top_k_logits``; the graph A of V times V is never made.

    Shapes: logits [..., S, V], mask [..., S] -> [..., V]

    Args:
      logits: of the positions of a sequence. Beyond 2^30 they are clipped: fourth
        powers have to fit.
      k: how many logits of a position are kept; V or more keeps all.
      mask: bool, the positions that count; none at all gives 0.

    Raises:
      TypeError: ``logits`` is not floating point or ``mask`` is not bool.
      ValueError: ``mask`` has another shape, or ``k`` is below 1.

    Source: InfiGFusion, Wang et al. 2025, arXiv:2505.13893; the normalisation is
      inferred from its abstract.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import coactivation_degree
    >>> coactivation_degree(jnp.float32([[1, 0], [0, 2]]), k=1)
    Array([0.25, 1.  ], dtype=float32)
    """
    z = numerics.promote_to_float32(logits)
    if z.ndim < 2:
        raise ValueError(f"logits has shape {z.shape}, expected [..., S, V]")
    mask = numerics.check_mask(mask, z.shape[:-1])
    z = top_k_logits(jnp.where(mask[..., None], z, 0), k)
    z = jnp.clip(z, -(2.0**30), 2.0**30)
    count = jnp.maximum(jnp.sum(mask, -1), 1).astype(z.dtype)[..., None]
    share = jnp.mean(z, -1, keepdims=True)
    return jnp.sum(z * share, -2) / count
