"""DPO, and DPO with an imitation term."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.losses.preference import _pairs as pairs
from logitlab.numerics import arguments
from logitlab.numerics.arguments import weighted

__all__ = ["dpo_loss", "rpo_loss"]


def dpo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    *,
    beta: ArrayLike = 0.1,
    label_smoothing: ArrayLike = 0.0,
) -> jax.Array:
    r"""Direct preference optimization (DPO): logistic loss of the log-ratio margin.

    Use it when humans preferred one of two answers (DPO); with ``label_smoothing``
    cDPO.

    .. math:: \ell = (1 - \epsilon)\, \mathrm{sp}(-\beta\Delta)
        + \epsilon\, \mathrm{sp}(\beta\Delta), \quad
        \Delta = \log \frac{\pi(y_w)}{\pi_{ref}(y_w)}
        - \log \frac{\pi(y_l)}{\pi_{ref}(y_l)}

    with sp the softplus. With a positive :math:`\epsilon` it is conservative DPO
    (cDPO): the preference is the other way with probability :math:`\epsilon`, and the
    loss is least at :math:`\beta\Delta = \log((1-\epsilon)/\epsilon)`.

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      beta: positive.
      label_smoothing: epsilon, in [0, 1]; 0 is DPO.

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or a hyper-parameter is outside its range.

    Numerics: relative error below 1e-5, value and gradient, for margins
      :math:`\beta\Delta` up to 80 (with smoothing, the slope off the minimum), and
      finite wherever the value is representable. One log-probability of a pair may be
      ``-inf``; of two, the loss is NaN.

    Source: Rafailov et al. 2023, arXiv:2305.18290; cDPO: Mitchell 2023, a note on DPO
      with noisy preferences.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import dpo_loss
    >>> zero = jnp.zeros(1)
    >>> dpo_loss(jnp.float32([400]), zero, zero, zero)
    Array([4.248354e-18], dtype=float32)
    >>> dpo_loss(jnp.float32([400]), zero, zero, zero, label_smoothing=0.1)
    Array([4.], dtype=float32)
    """
    arguments.positive(beta=beta)
    pairs.smoothing(label_smoothing)
    logps = pairs.referenced(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    return pairs.logistic(pairs.margin(*logps, beta=beta), label_smoothing)


def rpo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    chosen_lengths: ArrayLike | None = None,
    *,
    beta: ArrayLike = 0.1,
    eta: ArrayLike = 0.005,
    sft: str = "sum",
) -> jax.Array:
    r"""Regularized preference optimization (RPO): DPO plus imitation of the chosen.

    Use it when DPO leaks mass to answers that nobody has judged.

    .. math:: \ell = \mathrm{sp}(-\beta\Delta) - \eta\beta \log \pi(y_w), \quad
        \text{or} \quad \mathrm{sp}(-\beta\Delta) - \frac{\eta}{n_w} \log \pi(y_w)

    for ``sft="sum"`` and ``"mean"``. Pessimism against over-optimisation.

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...], chosen_lengths [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      chosen_lengths: numbers of tokens, for ``"mean"``; 0 counts as 1.
      beta: positive; the paper's models have 0.01 and 0.05.
      eta: weight of imitation; 0 is DPO, whatever is imitated. 0.005 for sums, 0.2
        for means (with beta 0.5).
      sft: ``"sum"`` or ``"mean"`` over the tokens of an answer.

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, lengths are missing, ``sft`` is no such name, or
        ``beta`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Liu et al. 2024, arXiv:2405.16436.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import rpo_loss
    >>> zero = jnp.zeros(1)
    >>> rpo_loss(jnp.float32([400]), zero, zero, zero, eta=0.0)
    Array([4.248354e-18], dtype=float32)
    """
    if sft not in ("sum", "mean"):
        raise ValueError(f"sft is {sft!r}, expected 'sum' or 'mean'")
    arguments.positive(beta=beta)
    logps = pairs.referenced(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    chosen, weight = logps[0], arguments.hyper("eta", eta, logps[0].dtype)
    if sft == "sum":
        weight *= jnp.asarray(beta, chosen.dtype)
    else:
        (lengths,) = arguments.lengths_like(chosen, chosen_lengths=chosen_lengths)
        chosen = chosen / lengths
    likelihood = weighted(weight, chosen)
    return pairs.logistic(pairs.margin(*logps, beta=beta)) - likelihood
