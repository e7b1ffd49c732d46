"""Small Flax models that produce logits."""

from logitlab.models.cnn import SmallCNN
from logitlab.models.mlp import MLP, torch_linear_init
from logitlab.models.transformer import OneLayerTransformer

__all__ = ["MLP", "OneLayerTransformer", "SmallCNN", "torch_linear_init"]
