"""Networks on graphs."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jax import Array


class GCN(nn.Module):
    r"""Two graph convolutions, which embed the nodes, and a linear head.

    .. math:: Z = \hat A\, \mathrm{relu}(\hat A X W_0) W_1, \quad
        \hat A = D^{-1/2} (A + I) D^{-1/2}

    Fields:
      width: of the hidden layer and of the embeddings.
      classes: how many.

    Source: Kipf and Welling 2017, arXiv:1609.02907; embeddings with a head of their own
      as in LeBeD, Zheng et al. 2024, arXiv:2403.09953.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.models import GCN
    >>> model, x, adjacency = GCN(width=8, classes=3), jnp.ones((5, 2)), jnp.eye(5)
    >>> variables = model.init(jax.random.key(0), x, adjacency)
    >>> model.apply(variables, x, adjacency).shape
    (5, 3)
    >>> model.apply(variables, x, adjacency, method="embed").shape
    (5, 8)
    """

    width: int
    classes: int

    def setup(self):
        """Layers, float32."""
        self.hidden = nn.Dense(self.width)
        self.embedding = nn.Dense(self.width)
        self.head = nn.Dense(self.classes)

    def __call__(self, x: Array, adjacency: Array) -> Array:
        """Logits of the nodes [N, C], for features [N, D] and an adjacency [N, N]."""
        return self.classify(self.embed(x, adjacency))

    def embed(self, x: Array, adjacency: Array) -> Array:
        """Embeddings of the nodes, [N, width]."""
        across = normalized_adjacency(adjacency)
        return across @ self.embedding(nn.relu(across @ self.hidden(x)))

    def classify(self, embeddings: Array) -> Array:
        """Logits of embeddings."""
        return self.head(embeddings)


def normalized_adjacency(adjacency: Array) -> Array:
    r"""Adjacency with a loop at each node, divided by the roots of the degrees.

    .. math:: D^{-1/2} (A + I) D^{-1/2}

    Shapes: adjacency [N, N] -> [N, N]

    Args:
      adjacency: of an undirected graph, weights of at least 0 or bool. A node without
        neighbors keeps its own features.

    Raises:
      ValueError: it is not square.

    Source: Kipf and Welling 2017, arXiv:1609.02907.

    >>> import jax.numpy as jnp
    >>> from logitlab.models.graphs import normalized_adjacency
    >>> normalized_adjacency(jnp.array([[0, 1], [1, 0]]))
    Array([[0.5, 0.5],
           [0.5, 0.5]], dtype=float32)
    """
    if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1]:
        raise ValueError(f"adjacency has shape {adjacency.shape}, expected [N, N]")
    a = jnp.asarray(adjacency, jnp.promote_types(adjacency.dtype, jnp.float32))
    a = a + jnp.eye(len(a), dtype=a.dtype)
    degrees = a.sum(-1)
    return a / jnp.sqrt(degrees[:, None] * degrees[None])
