"""Networks of several bit-widths in one set of weights (EQ-Net)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation._pairs import shares
from logitlab.losses.distillation.divergences import kd_loss
from logitlab.numerics.arguments import weighted

__all__ = ["progressive_guidance_loss"]


def progressive_guidance_loss(
    logits_list: Sequence[ArrayLike],
    labels: ArrayLike,
    *,
    weight: ArrayLike = 0.5,
    temperature: ArrayLike = 1.0,
) -> list[jax.Array]:
    r"""Group progressive guidance (GPG): each sub-network learns from the one above.

    .. math:: \ell_0 = -\log p^0_y, \quad \ell_i = \lambda T^2
        \mathrm{KL}(p^{i-1} \| p^i) + (1 - \lambda)(-\log p^i_y)

    with the sub-network before, in the same step, as a constant teacher.

    Args:
      logits_list: [..., C] each, from the most bits to the fewest.
      labels: ints in ``[0, C)``, [...].
      weight: lambda, in [0, 1].
      temperature: T, positive, of the divergence.

    Returns:
      A list of [...], whose gradients are added up.

    Raises:
      ValueError: an empty list, shapes that differ, a label of C or more (NaN under
        ``jit``), ``weight`` outside [0, 1] or a temperature that is not positive.

    Source: EQ-Net, Xu et al. 2023, arXiv:2308.07650.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import progressive_guidance_loss
    >>> high, low = jnp.float32([99, 0]), jnp.float32([0, 0])
    >>> progressive_guidance_loss([high, low], 0)[1]
    Array(0.6931472, dtype=float32)
    """
    if not logits_list:
        raise ValueError("logits_list is empty, expected logits")
    losses = [numerics.label_nll(logits_list[0], labels)]
    share, rest = shares("weight", weight, losses[0].dtype)
    for teacher, student in zip(logits_list, logits_list[1:], strict=False):
        guidance = kd_loss(student, teacher, temperature=temperature)
        own = numerics.label_nll(student, labels)
        losses.append(weighted(share, guidance) + weighted(rest, own))
    return losses
