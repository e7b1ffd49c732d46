"""Losses of pairs by the names that TRL's ``loss_type`` and its forks give them."""

import functools

from logitlab import losses

LOSSES = {
    "sigmoid": losses.dpo_loss,
    "cdpo": functools.partial(losses.dpo_loss, label_smoothing=0.1),
    "robust": functools.partial(losses.robust_dpo_loss, label_smoothing=0.1),
    "hinge": losses.dpo_hinge_loss,
    "ipo": losses.ipo_loss,
    "exo_pair": functools.partial(losses.exo_loss, label_smoothing=1e-3),
    "nca_pair": losses.nca_loss,
    "bco_pair": losses.bco_pair_loss,
    "sppo_hard": losses.sppo_loss,
    "aot": functools.partial(losses.aot_loss, paired=True),
    "aot_unpaired": functools.partial(losses.aot_loss, paired=False),
    "apo_zero": losses.apo_zero_loss,
    "apo_down": losses.apo_down_loss,
    "discopop": losses.discopop_loss,
    "sigmoid_norm": losses.sigmoid_norm_loss,
    "r_dpo": losses.r_dpo_loss,
    "dpop": losses.dpop_loss,
}
OVER_LENGTHS = ("ipo", "sigmoid_norm", "r_dpo")


def of_pairs(name, lengths, **options):
    """A loss of four log-probabilities, which has the lengths if it asks for them."""
    if name in OVER_LENGTHS:
        options |= dict(chosen_lengths=lengths[0], rejected_lengths=lengths[1])
    return functools.partial(LOSSES[name], **options)
