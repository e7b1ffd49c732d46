"""Small Flax models that produce logits."""

from logitlab.models.mlp import MLP, torch_linear_init
from logitlab.models.transformer import OneLayerTransformer

__all__ = ["MLP", "OneLayerTransformer", "torch_linear_init"]
