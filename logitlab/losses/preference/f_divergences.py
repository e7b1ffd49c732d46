"""f-DPO: another divergence between a policy and its reference."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.losses.preference import _pairs as pairs
from logitlab.numerics import arguments

__all__ = ["f_dpo_loss"]


def f_dpo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    *,
    f_divergence: str,
    f_alpha: ArrayLike = 0.5,
    beta: ArrayLike = 0.1,
    label_smoothing: ArrayLike = 0.0,
    clip_exponent: ArrayLike | None = None,
) -> jax.Array:
    r"""f-DPO: DPO for a policy kept near its reference by another divergence.

    Use it when the policy stays near its reference by another divergence.

    .. math:: \ell = (1 - \epsilon)\, \mathrm{sp}(-x) + \epsilon\, \mathrm{sp}(x), \quad
        x = \beta (f'(e^a) - f'(e^b))

    .. math:: a = \log \frac{\pi(y_w)}{\pi_{ref}(y_w)}, \quad
        b = \log \frac{\pi(y_l)}{\pi_{ref}(y_l)}

    with :math:`f'(e^a) = a` for ``reverse_kl``, :math:`-e^{-a}` for ``forward_kl``,
    :math:`\log \sigma(a)` for ``js_divergence`` and
    :math:`e^{(\alpha - 1) a} / (\alpha - 1)` for ``alpha_divergence``, up to constants.

    Other losses of the same difference (``dpo_hinge_loss``, ``robust_dpo_loss``,
    ``exo_loss``, ``discopop_loss``, ``r_dpo_loss``) take :math:`f'(e^a)` and
    :math:`f'(e^b)` in the place of the two log-probabilities, and zeros in the place of
    the reference's. ``ipo_loss`` and ``sigmoid_norm_loss``, which divide by lengths,
    have a keyword.

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      f_divergence: one of the four names.
      f_alpha: alpha of ``alpha_divergence``; 1 is ``reverse_kl``, 0 ``forward_kl``.
        (Older code calls 1 - alpha so.)
      beta: positive.
      label_smoothing: epsilon, in [0, 1].
      clip_exponent: exponents above it are taken for it, and have no slope. By default
        80 for ``alpha_divergence``, as in the released code, and none for
        ``forward_kl``.

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, ``f_divergence`` is no such name, or a
        hyper-parameter is outside its range.

    Numerics: relative error below 5e-5, value and gradient, for margins up to 80 and
      exponents up to 5. ``forward_kl`` overflows by definition: to inf, never to NaN.

    Source: Wang et al. 2023, arXiv:2309.16240.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import f_dpo_loss
    >>> zero, chosen = jnp.zeros(1), jnp.float32([-1])
    >>> f_dpo_loss(chosen, zero, zero, zero, f_divergence="forward_kl", beta=1.0)
    Array([1.8832656], dtype=float32)
    """
    arguments.positive(beta=beta)
    pairs.smoothing(label_smoothing)
    logps = pairs.referenced(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    gap = divergence_gap(*logps, f_divergence, f_alpha, clip_exponent)
    return pairs.logistic(jnp.asarray(beta, gap.dtype) * gap, label_smoothing)


def divergence_gap(
    chosen: jax.Array,
    rejected: jax.Array,
    ref_chosen: jax.Array,
    ref_rejected: jax.Array,
    f_divergence: str,
    f_alpha: ArrayLike,
    clip_exponent: ArrayLike | None = None,
    lengths: tuple[jax.Array, ...] = (),
) -> jax.Array:
    """Margin of f-DPO: the difference of f' at the two likelihood ratios.

    With the lengths of the two answers, each one's share is divided by its own.
    """
    logps = chosen, rejected, ref_chosen, ref_rejected
    if f_divergence == "reverse_kl":
        return pairs.margin(*logps, *lengths, beta=1.0)
    a, b = chosen - ref_chosen, rejected - ref_rejected
    if f_divergence == "js_divergence":
        n_a, n_b = lengths or (1, 1)
        return jax.nn.softplus(-b) / n_b - jax.nn.softplus(-a) / n_a
    if f_divergence == "forward_kl":
        return pairs.exponential_gap(a, b, 1, clip_exponent, lengths)
    if f_divergence == "alpha_divergence":
        clip = 80.0 if clip_exponent is None else clip_exponent
        # Subtracted in the dtype that it comes in: near 1 float32 leaves few digits.
        return pairs.exponential_gap(a, b, 1 - f_alpha, clip, lengths)
    raise ValueError(
        f"f_divergence is {f_divergence!r}, expected 'reverse_kl', 'forward_kl', "
        "'js_divergence' or 'alpha_divergence'"
    )
