"""A regression small enough to run in every test."""

import jax
import jax.numpy as jnp
import optax

from logitlab import metrics
from logitlab.train import Run


def data(key):
    x = jax.random.normal(key, (10, 3), jnp.float32)
    return {"train": {"x": x, "y": x @ jnp.float32([1, -2, 3])}, "test": {"x": x}}


def init(key):
    return {"w": jax.random.normal(key, (3,), jnp.float32)}


def loss(params, batch, key):
    del key
    return (batch["x"] @ params["w"] - batch["y"]) ** 2


def evaluate(params, parts):
    errors = loss(params, parts["train"], None)
    return {"loss": metrics.mean_of(errors), "norm": metrics.tree_norm(params)}


def run(**changes):
    settings = dict(
        init=init,
        loss=loss,
        data=data,
        optimizer=optax.adam(0.05),
        evaluate=evaluate,
        steps=20,
        evaluate_at=(0, 1, 5, 20),
    )
    return Run(**(settings | changes))
