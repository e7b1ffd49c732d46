"""Small Flax models that produce logits, and layers for them."""

from typing import TYPE_CHECKING

from logitlab import _lazy

with _lazy.train_extra(__name__):
    from logitlab.models.checkered import CheckeredDense
    from logitlab.models.cnn import SmallCNN
    from logitlab.models.decoder import Decoder, HeadKernel
    from logitlab.models.dual_head import DualHead
    from logitlab.models.ghost_norms import GhostBatchNorm
    from logitlab.models.graphs import GCN, normalized_adjacency
    from logitlab.models.language import CausalTransformer, WindowMLP
    from logitlab.models.mlp import MLP, torch_linear_init
    from logitlab.models.noprop import (
        NoPropSchedule,
        noprop_forward,
        noprop_schedule,
    )
    from logitlab.models.norms import (
        FakeLayerNorm,
        LnRemovalSchedule,
        fixed_std_norm,
        fold_layer_norm,
    )
    from logitlab.models.output_scale import output_scaled
    from logitlab.models.quantile_aggregator import QuantileAggregator
    from logitlab.models.quantization import fake_quantize
    from logitlab.models.recurrent import GRUClassifier
    from logitlab.models.samplers import edm_sigma, few_step_sampler
    from logitlab.models.taps import apply_with_taps, residual_parts
    from logitlab.models.tempnet import TempNet
    from logitlab.models.transformer import OneLayerTransformer
    from logitlab.models.vit import SmallViT

__all__ = [
    "GCN",
    "MLP",
    "CausalTransformer",
    "CheckeredDense",
    "Decoder",
    "DualHead",
    "FakeLayerNorm",
    "GRUClassifier",
    "GhostBatchNorm",
    "HeadKernel",
    "LnRemovalSchedule",
    "NoPropSchedule",
    "OneLayerTransformer",
    "QuantileAggregator",
    "SmallCNN",
    "SmallViT",
    "TempNet",
    "WindowMLP",
    "apply_with_taps",
    "edm_sigma",
    "fake_quantize",
    "few_step_sampler",
    "fixed_std_norm",
    "fold_layer_norm",
    "noprop_forward",
    "noprop_schedule",
    "normalized_adjacency",
    "output_scaled",
    "residual_parts",
    "torch_linear_init",
]

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(__name__, __all__)
