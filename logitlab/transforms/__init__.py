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
from logitlab.transforms.ensemble_averages import ensemble_logits
from logitlab.transforms.experts import (
    drm_predict,
    gaussian_scoring_integration,
    logit_bias_fusion,
    match_scale,
)
from logitlab.transforms.few_shot import prototypes
from logitlab.transforms.guidance import classifier_free_guidance
from logitlab.transforms.metrics import amplify
from logitlab.transforms.ordinal import cumulative_probs, ordered_thresholds
from logitlab.transforms.similarities import (
    cosine_logits,
    cosine_similarities,
    normalize,
    unpg_negatives,
)
from logitlab.transforms.sorting import SoftSort, diff_sort
from logitlab.transforms.standardization import standardize_logits
from logitlab.transforms.temperatures import optimal_temperature

__all__ = [
    "HistogramCalibrator",
    "IsotonicCalibrator",
    "MatrixCalibrator",
    "PlattCalibrator",
    "SoftSort",
    "TemperatureCalibrator",
    "VectorCalibrator",
    "amplify",
    "angle_norm_logits",
    "arcface_logits",
    "calibrate",
    "classifier_free_guidance",
    "cosface_logits",
    "cosine_logits",
    "cosine_similarities",
    "cumulative_probs",
    "diff_sort",
    "drm_predict",
    "ensemble_logits",
    "fit_histogram_binning",
    "fit_isotonic",
    "fit_matrix_scaling",
    "fit_platt",
    "fit_temperature",
    "fit_vector_scaling",
    "gaussian_scoring_integration",
    "label_sines",
    "logit_bias_fusion",
    "magface_logits",
    "match_scale",
    "normalize",
    "optimal_temperature",
    "ordered_thresholds",
    "prototypes",
    "standardize_logits",
    "unpg_negatives",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
