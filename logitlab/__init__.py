"""Losses over logits for JAX: exact at any margin, finite for any logits, sharded.

``from logitlab import losses`` and call them inside any training loop. The bare
install holds what composing needs (jax, optax, chex); ``logitlab.train``, ``data``,
``models`` and ``report`` need ``pip install 'logitlab[train]'``.
"""

from logitlab import (
    decisions,
    estimators,
    heads,
    links,
    losses,
    metrics,
    numerics,
    optim,
    transforms,
)

__all__ = [
    "decisions",
    "estimators",
    "heads",
    "links",
    "losses",
    "metrics",
    "numerics",
    "optim",
    "transforms",
]
__version__ = "0.1.0"
