"""Transforms: logits to logits."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.transforms.angles import angle_norm_logits
from logitlab.transforms.angular_margins import (
    arcface_logits,
    cosface_logits,
    label_sines,
    magface_logits,
)
from logitlab.transforms.binary_calibrators import (
    HistogramCalibrator,
    IsotonicCalibrator,
    PlattCalibrator,
    fit_histogram_binning,
    fit_isotonic,
    fit_platt,
)
from logitlab.transforms.calibrators import (
    MatrixCalibrator,
    TemperatureCalibrator,
    VectorCalibrator,
    calibrate,
    fit_matrix_scaling,
    fit_temperature,
    fit_vector_scaling,
)
from logitlab.transforms.decoding import (
    Processor,
    add_bias,
    allow_tokens,
    ban_tokens,
    chain,
    divide_by_temperature,
    process_drafts,
    take_state,
)
from logitlab.transforms.ensemble_averages import ensemble_logits
from logitlab.transforms.experts import (
    drm_predict,
    gaussian_scoring_integration,
    logit_bias_fusion,
    match_scale,
)
from logitlab.transforms.few_shot import prototypes
from logitlab.transforms.fusion import (
    LogitFusion,
    argmax_override,
    dynamic_logit_fusion,
    kl_matched_alpha,
    proxy_logits,
)
from logitlab.transforms.guidance import classifier_free_guidance
from logitlab.transforms.metrics import amplify
from logitlab.transforms.ngrams import (
    NgramPrior,
    fit_ngram_prior,
    ngram_counts,
    ngram_log_probs,
    ngram_prior_logits,
)
from logitlab.transforms.ordinal import cumulative_probs, ordered_thresholds
from logitlab.transforms.penalties import (
    frequency_penalty,
    min_length,
    no_repeat_ngrams,
    presence_penalty,
    repetition_penalty,
    suppress,
)
from logitlab.transforms.similarities import (
    cosine_logits,
    cosine_similarities,
    normalize,
    unpg_negatives,
)
from logitlab.transforms.sorting import SoftSort, diff_sort
from logitlab.transforms.standardization import standardize_logits
from logitlab.transforms.steering import (
    AlphaSchedule,
    alpha_schedule,
    fuse_experts,
    guide,
    guide_classifier_free,
    ngram_prior,
)
from logitlab.transforms.suppression import (
    filter_in_scope,
    label_replace,
    suppress_logits,
    suppression_bias,
    update_counts,
)
from logitlab.transforms.temperatures import optimal_temperature
from logitlab.transforms.truncation import (
    min_p,
    top_k,
    top_p,
    typical_p,
)

__all__ = [
    "AlphaSchedule",
    "HistogramCalibrator",
    "IsotonicCalibrator",
    "LogitFusion",
    "MatrixCalibrator",
    "NgramPrior",
    "PlattCalibrator",
    "Processor",
    "SoftSort",
    "TemperatureCalibrator",
    "VectorCalibrator",
    "add_bias",
    "allow_tokens",
    "alpha_schedule",
    "amplify",
    "angle_norm_logits",
    "arcface_logits",
    "argmax_override",
    "ban_tokens",
    "calibrate",
    "chain",
    "classifier_free_guidance",
    "cosface_logits",
    "cosine_logits",
    "cosine_similarities",
    "cumulative_probs",
    "diff_sort",
    "divide_by_temperature",
    "drm_predict",
    "dynamic_logit_fusion",
    "ensemble_logits",
    "filter_in_scope",
    "fit_histogram_binning",
    "fit_isotonic",
    "fit_matrix_scaling",
    "fit_ngram_prior",
    "fit_platt",
    "fit_temperature",
    "fit_vector_scaling",
    "frequency_penalty",
    "fuse_experts",
    "gaussian_scoring_integration",
    "guide",
    "guide_classifier_free",
    "kl_matched_alpha",
    "label_replace",
    "label_sines",
    "logit_bias_fusion",
    "magface_logits",
    "match_scale",
    "min_length",
    "min_p",
    "ngram_counts",
    "ngram_log_probs",
    "ngram_prior",
    "ngram_prior_logits",
    "no_repeat_ngrams",
    "normalize",
    "optimal_temperature",
    "ordered_thresholds",
    "presence_penalty",
    "process_drafts",
    "prototypes",
    "proxy_logits",
    "repetition_penalty",
    "standardize_logits",
    "suppress",
    "suppress_logits",
    "suppression_bias",
    "take_state",
    "top_k",
    "top_p",
    "typical_p",
    "unpg_negatives",
    "update_counts",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
