"""Networks of several sizes in one set of weights: bit-widths, sub-networks."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation._log_ratios import log_probs, log_ratio
from logitlab.losses.distillation._pairs import prepare_pair, shares
from logitlab.losses.distillation._relative_entropy import kl
from logitlab.losses.distillation.divergences import kd_loss
from logitlab.numerics.arguments import hyper, weighted

__all__ = ["adaptive_alpha_divergence", "progressive_guidance_loss"]


def adaptive_alpha_divergence(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    clip: ArrayLike = 5.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""AlphaNet's divergence: the larger of two, so that neither error is cheap.

    Use it when sub-networks learn from the largest one of the same weights.

    .. math:: \ell = \max(\ell_+, \ell_-), \quad \ell_+ = \mathrm{KL}(p \| q), \quad
        \ell_- = \sum_c p_c f(q_c / p_c), \quad
        f(u) = \tfrac12 (u - 1)^2 \text{ for } u \le k

    with the teacher p and the student q; beyond ``clip`` k, f goes on along its slope
    less 1: :math:`f'(u) = \min(u, k) - 1`. The first punishes a student that misses
    what the teacher thinks possible, the second, half of a chi-squared, one that is
    sure of what the teacher doubts. As in the released code the clipped ratio is a
    weight in the gradient, so that f is what has that gradient, and which of the two
    is larger is decided by the clipped values
    :math:`\tfrac12 \sum_c q_c (\min(q_c / p_c, k) - 1)` and the KL.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: of the same classes; they get no gradient. ``-inf`` is a
        probability of 0.
      clip: k, above 1, the largest ratio q / p that counts as a weight.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ or ``clip`` is not above 1.

    Numerics: as ``kd_loss``.

    Source: AlphaNet, Wang et al. 2021, arXiv:2102.07954.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import adaptive_alpha_divergence
    >>> sure, unsure = jnp.float32([99, 0]), jnp.float32([0, 0])
    >>> print(f"{adaptive_alpha_divergence(unsure, sure, clip=2.0):.4f}")
    0.6931
    """
    s, t = prepare_pair(student_logits, teacher_logits, axis=axis, where=where)
    k = hyper("clip", clip, s.dtype, lambda k: k > 1, "above 1")
    one = jnp.ones((), s.dtype)
    p, _, log_u = log_ratio(t, s, one)[:3]
    q = jnp.exp(log_probs(s, one))
    far = log_u > jnp.log(k)
    excess = jnp.expm1(jnp.where(far, 0, log_u))
    near = p * excess * excess / 2
    left = jnp.sum(jnp.where(far, (k - 1) * q - (k * k - 1) / 2 * p, near), -1)
    weighed = jnp.sum(jnp.where(far, ((k - 2) * q + p) / 2, near), -1)
    right = kl(t, s, one)
    return jnp.where(weighed > right, left, right)


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
