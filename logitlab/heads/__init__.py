"""Linear heads with fused losses: no array of all logits is materialized."""

from typing import TYPE_CHECKING

from logitlab import _lazy
from logitlab.heads._operands import Linear
from logitlab.heads._row_stats import LabelStats
from logitlab.heads.adaptive import (
    adaptive_capacity,
    adaptive_full_log_probs,
    adaptive_log_prob,
    adaptive_predict,
    adaptive_softmax,
    adaptive_softmax_init,
)
from logitlab.heads.codes import (
    vq_assign,
    vq_centroids,
    vq_codebook_loss,
    vq_mapping,
)
from logitlab.heads.frames import (
    realign_global,
    realign_local,
    simplex_etf,
    sparse_etf,
)
from logitlab.heads.hierarchical import (
    HuffmanTree,
    TwoLevelLayout,
    build_huffman,
    hierarchical_log_prob,
    hierarchical_softmax,
    two_level_layout,
    two_level_softmax,
)
from logitlab.heads.label_losses import (
    fused_linear_cross_entropy,
    linear_label_loss,
    sequence_log_prob,
)
from logitlab.heads.linear_distillation import fused_linear_distillation
from logitlab.heads.linear_losses import linear_loss
from logitlab.heads.pair_losses import pair_loss
from logitlab.heads.quantized import (
    vq_cluster_log_mass,
    vq_label_log_probs,
    vq_loss,
    vq_scatter_logits,
)
from logitlab.heads.sampled import (
    accidental_hits,
    in_batch_softmax_loss,
    sampled_softmax,
    sampled_softmax_loss,
)
from logitlab.heads.samplers import (
    ClassSample,
    StreamingFrequency,
    log_uniform_log_q,
    log_uniform_sample,
    streaming_frequency_init,
    streaming_frequency_update,
    uniform_sample,
)
from logitlab.heads.spherical_output import (
    SphericalOutputState,
    spherical_output_dense,
    spherical_output_init,
    spherical_output_refresh,
    spherical_output_stats,
    spherical_output_update,
    spherical_stats_loss,
    stabilize,
)
from logitlab.heads.statistics import label_stats, linear_label_stats
from logitlab.heads.vocab_parallel import vocab_parallel_label_stats

__all__ = [
    "ClassSample",
    "HuffmanTree",
    "LabelStats",
    "Linear",
    "SphericalOutputState",
    "StreamingFrequency",
    "TwoLevelLayout",
    "accidental_hits",
    "adaptive_capacity",
    "adaptive_full_log_probs",
    "adaptive_log_prob",
    "adaptive_predict",
    "adaptive_softmax",
    "adaptive_softmax_init",
    "build_huffman",
    "fused_linear_cross_entropy",
    "fused_linear_distillation",
    "hierarchical_log_prob",
    "hierarchical_softmax",
    "in_batch_softmax_loss",
    "label_stats",
    "linear_label_loss",
    "linear_label_stats",
    "linear_loss",
    "pair_loss",
    "realign_global",
    "realign_local",
    "log_uniform_log_q",
    "log_uniform_sample",
    "sampled_softmax",
    "sampled_softmax_loss",
    "sequence_log_prob",
    "simplex_etf",
    "sparse_etf",
    "spherical_output_dense",
    "spherical_output_init",
    "spherical_output_refresh",
    "spherical_output_stats",
    "spherical_output_update",
    "spherical_stats_loss",
    "stabilize",
    "streaming_frequency_init",
    "streaming_frequency_update",
    "two_level_layout",
    "two_level_softmax",
    "uniform_sample",
    "vocab_parallel_label_stats",
    "vq_assign",
    "vq_centroids",
    "vq_cluster_log_mass",
    "vq_codebook_loss",
    "vq_label_log_probs",
    "vq_loss",
    "vq_mapping",
    "vq_scatter_logits",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
