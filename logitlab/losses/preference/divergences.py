"""f-DPO: another divergence between a policy and its reference."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.losses.preference import draws, pairs

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
    clip_exponent: float | None = None,
) -> jax.Array:
    r"""f-DPO: DPO for a policy kept near its reference by another divergence.

    .. math:: \ell = \mathrm{sp}\bigl(-\beta (f'(e^a) - f'(e^b))\bigr), \quad
        a = \log \frac{\pi(y_w)}{\pi_{ref}(y_w)}, \quad
        b = \log \frac{\pi(y_l)}{\pi_{ref}(y_l)}

    with :math:`f'(e^a) = a` for ``reverse_kl``, :math:`-e^{-a}` for ``forward_kl``,
    :math:`\log \sigma(a)` for ``js_divergence`` and
    :math:`e^{(\alpha - 1) a} / (\alpha - 1)` for ``alpha_divergence``, up to constants.

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
      clip_exponent: exponents above it are taken for it. By default 80 for
        ``alpha_divergence``, as in the released code, and none for ``forward_kl``.

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, ``f_divergence`` is no such name, or ``beta`` is
        not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80 and
      exponents up to 5. ``forward_kl`` overflows by definition: to inf, never to NaN.

    Source: Wang et al. 2023, arXiv:2309.16240.

    >>> zero, chosen = jnp.zeros(1), jnp.float32([-1])
    >>> f_dpo_loss(chosen, zero, zero, zero, f_divergence="forward_kl", beta=1.0)
    Array([1.8832656], dtype=float32)
    """
    pairs.positive(beta=beta)
    logps = pairs.referenced(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    gap = divergence_gap(*logps, f_divergence, f_alpha, clip_exponent)
    return pairs.logistic(jnp.asarray(beta, gap.dtype) * gap)


def divergence_gap(
    chosen: jax.Array,
    rejected: jax.Array,
    ref_chosen: jax.Array,
    ref_rejected: jax.Array,
    f_divergence: str,
    f_alpha: ArrayLike,
    clip_exponent: float | None = None,
) -> jax.Array:
    """What f-DPO puts in the place of the difference of two log-ratios."""
    if f_divergence == "reverse_kl":
        return pairs.margin(chosen, rejected, ref_chosen, ref_rejected, beta=1.0)
    a, b = chosen - ref_chosen, rejected - ref_rejected
    if f_divergence == "js_divergence":
        return jax.nn.softplus(-b) - jax.nn.softplus(-a)
    if f_divergence == "forward_kl":
        return pairs.exponential_gap(a, b, 1, clip_exponent)
    if f_divergence == "alpha_divergence":
        clip = 80.0 if clip_exponent is None else clip_exponent
        return pairs.exponential_gap(a, b, 1 - jnp.asarray(f_alpha, a.dtype), clip)
    raise ValueError(
        f"f_divergence is {f_divergence!r}, expected 'reverse_kl', 'forward_kl', "
        "'js_divergence' or 'alpha_divergence'"
    )


ROWS = (
    draws.pair_row(
        f_dpo_loss,
        "Wang et al. 2023, arXiv:2309.16240",
        golden="dpo_family",
        hyper={"f_divergence": "js_divergence"},
        shift_invariant=False,
    ),
)
