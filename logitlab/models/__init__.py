"""Small Flax models: logits, and what goes with them."""

from logitlab.models.checkered import CheckeredDense
from logitlab.models.cnn import SmallCNN
from logitlab.models.heads import DualHead
from logitlab.models.language import CausalTransformer, WindowMLP
from logitlab.models.mlp import MLP, torch_linear_init
from logitlab.models.quantiles import QuantileAggregator
from logitlab.models.recurrent import GRUClassifier
from logitlab.models.temperature import TempNet
from logitlab.models.transformer import OneLayerTransformer

__all__ = [
    "CausalTransformer",
    "CheckeredDense",
    "DualHead",
    "GRUClassifier",
    "MLP",
    "OneLayerTransformer",
    "QuantileAggregator",
    "SmallCNN",
    "TempNet",
    "WindowMLP",
    "torch_linear_init",
]
