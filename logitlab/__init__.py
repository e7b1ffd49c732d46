"""Losses over logits for JAX: exact at any margin, finite for any logits, sharded.

``from logitlab import losses`` and call them inside any training loop. The bare
install holds what composing needs (jax and optax); ``logitlab.train``, ``data``,
``models`` and ``report`` need ``pip install 'logitlab[train]'``.
"""

from typing import TYPE_CHECKING

from logitlab import _lazy

if TYPE_CHECKING:
    from logitlab import (
        attacks,
        data,
        decisions,
        estimators,
        heads,
        links,
        losses,
        metrics,
        models,
        numerics,
        optim,
        report,
        rl,
        sequences,
        targets,
        theory,
        train,
        transforms,
        weights,
    )

__all__ = [
    "attacks",
    "decisions",
    "estimators",
    "heads",
    "links",
    "losses",
    "metrics",
    "numerics",
    "optim",
    "rl",
    "sequences",
    "targets",
    "theory",
    "transforms",
    "weights",
]
__version__ = "0.1.0"

if not TYPE_CHECKING:  # to checkers it would make any attribute Any
    __getattr__, __dir__ = _lazy.attach(
        __name__,
        [*__all__, "__version__"],
        modules=[*__all__, "data", "models", "report", "train"],
    )
