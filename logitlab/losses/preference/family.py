"""The DPO family under one name, and DPO with an imitation term."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab.losses.preference import absolute, divergences, draws, margins, pairs

__all__ = ["dpo_loss", "rpo_loss"]


def dpo_loss(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
    *,
    loss_type: str = "sigmoid",
    beta: ArrayLike = 0.1,
    label_smoothing: ArrayLike = 0.0,
    chosen_lengths: ArrayLike | None = None,
    rejected_lengths: ArrayLike | None = None,
    f_divergence: str = "reverse_kl",
    f_alpha: ArrayLike = 0.5,
    discopop_tau: ArrayLike = 0.05,
) -> jax.Array:
    r"""Direct preference optimisation, and by their names the losses that came of it.

    .. math:: \ell = \mathrm{sp}(-\beta\Delta), \quad
        \Delta = \log \frac{\pi(y_w)}{\pi_{ref}(y_w)}
        - \log \frac{\pi(y_l)}{\pi_{ref}(y_l)}

    ``loss_type`` is ``sigmoid``, ``cdpo`` (the same), ``robust``, ``hinge``, ``ipo``,
    ``exo_pair``, ``nca_pair``, ``bco_pair``, ``sppo_hard``, ``aot``, ``aot_unpaired``,
    ``apo_zero``, ``apo_down``, ``discopop``, ``sigmoid_norm``, ``r_dpo`` or ``dpop``;
    each is a function of its own too (``ipo_loss``), where its formula stands. Another
    ``f_divergence`` replaces the log-ratios of those that see only their difference, as
    in ``f_dpo_loss``.

    Shapes: chosen_logps [...], rejected_logps [...], ref_chosen_logps [...],
      ref_rejected_logps [...], chosen_lengths [...], rejected_lengths [...] -> [...]

    Args:
      chosen_logps: log-probabilities of the chosen answers, summed over tokens.
      rejected_logps: the same of the rejected ones.
      ref_chosen_logps: the same as ``chosen_logps`` under the reference; no gradient.
      ref_rejected_logps: the same as ``rejected_logps`` under it; no gradient.
      loss_type: which loss.
      beta: positive.
      label_smoothing: of ``sigmoid``, ``cdpo``, ``robust``, ``aot``, ``aot_unpaired``
        and ``exo_pair``, where it must be positive (1e-3 is usual).
      chosen_lengths: numbers of tokens, for ``ipo``, ``sigmoid_norm`` and ``r_dpo``.
      rejected_lengths: the same of the rejected answers.
      f_divergence: ``reverse_kl``, ``forward_kl``, ``js_divergence`` or
        ``alpha_divergence``.
      f_alpha: of ``alpha_divergence``.
      discopop_tau: of ``discopop``.

    Returns:
      One number per pair, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, a name is none of those above, a hyper-parameter is
        outside its range, or the loss has no such smoothing or divergence.

    Numerics: relative error below 1e-5, value and gradient, for margins
      :math:`\beta\Delta` up to 80, and finite wherever the value is representable. One
      log-probability of a pair may be ``-inf``; of two, the loss is NaN.

    Source: Rafailov et al. 2023, arXiv:2305.18290; names as in trl.

    >>> zero = jnp.zeros(1)
    >>> dpo_loss(jnp.float32([400]), zero, zero, zero)
    Array([4.248354e-18], dtype=float32)
    """
    if loss_type not in _TYPES:
        raise ValueError(f"loss_type is {loss_type!r}, expected one of {list(_TYPES)}")
    loss, fixed, takes = _TYPES[loss_type]
    given = dict(
        label_smoothing=label_smoothing,
        chosen_lengths=chosen_lengths,
        rejected_lengths=rejected_lengths,
        discopop_tau=discopop_tau,
    )
    options = {takes[name]: value for name, value in given.items() if name in takes}
    smooth = isinstance(label_smoothing, jax.core.Tracer) or label_smoothing != 0
    if smooth and "label_smoothing" not in takes:
        raise ValueError(
            f"label_smoothing is {label_smoothing}, but {loss_type!r} has none"
        )
    logps = chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    if f_divergence != "reverse_kl":
        if loss_type not in _OF_THE_DIFFERENCE:
            raise ValueError(
                f"f_divergence is {f_divergence!r}, but {loss_type!r} has only "
                "'reverse_kl'"
            )
        arrays = pairs.referenced(*logps)
        gap = divergences.divergence_gap(*arrays, f_divergence, f_alpha)
        logps = gap, *(jnp.zeros_like(gap),) * 3
    return loss(*logps, beta=beta, **fixed, **options)


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
    r"""Regularised preference optimisation: DPO that also imitates chosen answers.

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
      eta: weight of imitation; 0 is DPO. 0.005 for sums, 0.2 for means (with beta 0.5).
      sft: ``"sum"`` or ``"mean"`` over the tokens of an answer.

    Returns:
      One number per pair in nats, float32 (float64 for float64 log-probabilities).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, lengths are missing, ``sft`` is no such name, or
        ``beta`` is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Liu et al. 2024, arXiv:2405.16436.

    >>> zero = jnp.zeros(1)
    >>> rpo_loss(jnp.float32([400]), zero, zero, zero, eta=0.0)
    Array([4.248354e-18], dtype=float32)
    """
    if sft not in ("sum", "mean"):
        raise ValueError(f"sft is {sft!r}, expected 'sum' or 'mean'")
    pairs.positive(beta=beta)
    logps = pairs.referenced(
        chosen_logps, rejected_logps, ref_chosen_logps, ref_rejected_logps
    )
    chosen, weight = logps[0], jnp.asarray(eta, logps[0].dtype)
    if sft == "sum":
        weight *= jnp.asarray(beta, chosen.dtype)
    else:
        (lengths,) = pairs.lengths_like(chosen, chosen_lengths=chosen_lengths)
        chosen = chosen / lengths
    return pairs.logistic(pairs.margin(*logps, beta=beta)) - weight * chosen


_SMOOTHING = {"label_smoothing": "label_smoothing"}
_LENGTHS = {n: n for n in ("chosen_lengths", "rejected_lengths")}
_TYPES = {  # the loss, what the name says of it, and which options it takes as what
    "sigmoid": (margins.cdpo_loss, {}, _SMOOTHING),
    "cdpo": (margins.cdpo_loss, {}, _SMOOTHING),
    "robust": (margins.robust_dpo_loss, {}, {"label_smoothing": "flip_rate"}),
    "hinge": (margins.dpo_hinge_loss, {}, {}),
    "ipo": (margins.ipo_loss, {}, _LENGTHS),
    "exo_pair": (margins.exo_loss, {}, _SMOOTHING),
    "nca_pair": (absolute.nca_loss, {}, {}),
    "bco_pair": (absolute.bco_pair_loss, {}, {}),
    "sppo_hard": (absolute.sppo_loss, {}, {}),
    "aot": (absolute.aot_loss, {}, _SMOOTHING),
    "aot_unpaired": (absolute.aot_loss, {"paired": False}, _SMOOTHING),
    "apo_zero": (absolute.apo_zero_loss, {}, {}),
    "apo_down": (absolute.apo_down_loss, {}, {}),
    "discopop": (margins.discopop_loss, {}, {"discopop_tau": "discopop_tau"}),
    "sigmoid_norm": (margins.sigmoid_norm_loss, {}, _LENGTHS),
    "r_dpo": (margins.r_dpo_loss, {}, _LENGTHS),
    "dpop": (absolute.dpop_loss, {}, {}),
}
_OF_THE_DIFFERENCE = (
    *("sigmoid", "cdpo", "robust", "hinge", "exo_pair", "discopop", "r_dpo"),
)

ROWS = (
    draws.pair_row(
        dpo_loss,
        "Rafailov et al. 2023, arXiv:2305.18290",
        golden="dpo_family",
        convex=True,
    ),
    draws.pair_row(
        rpo_loss,
        "Liu et al. 2024, arXiv:2405.16436",
        golden="dpo_family",
        convex=True,
        shift_invariant=False,
        lower=None,
    ),
)
