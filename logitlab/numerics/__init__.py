"""What every loss is made of: exact log-probabilities, special functions, checks."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.numerics._checks import (
    check_devices,
    check_is_array,
    check_labels,
    check_mask,
    is_concrete,
    is_label,
    masked_mean,
    prepare_logits,
    promote_to_float32,
    take_label_logit,
    wide_labels,
)
from logitlab.numerics._divergences import rise, terms
from logitlab.numerics._explicit import look_up, unsharded
from logitlab.numerics._log_softmax import (
    below_top,
    exact_log_sum,
    exponentials,
    is_lead,
    is_likely,
    label_nll,
    log_softmax,
    log_total,
    logsumexp,
    max_and_log_sum,
    rest_of,
    softmax,
)
from logitlab.numerics._special import (
    exp_excess,
    expm1,
    log1mexp,
    sigmoid,
    small_exp_excess,
    small_expm1,
)

__all__ = [
    "below_top",
    "look_up",
    "prepare_logits",
    "exp_excess",
    "expm1",
    "exponentials",
    "is_concrete",
    "is_label",
    "is_lead",
    "is_likely",
    "check_devices",
    "check_is_array",
    "check_mask",
    "check_labels",
    "label_nll",
    "take_label_logit",
    "log1mexp",
    "exact_log_sum",
    "log_softmax",
    "log_total",
    "logsumexp",
    "masked_mean",
    "promote_to_float32",
    "rest_of",
    "rise",
    "sigmoid",
    "small_exp_excess",
    "small_expm1",
    "softmax",
    "terms",
    "max_and_log_sum",
    "wide_labels",
    "unsharded",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
