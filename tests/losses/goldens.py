"""Numbers of the original authors' code, and how ours are compared with them."""

import json
import pathlib

import jax
import numpy as np

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def cases(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())["cases"]


def arrays(case, *names):
    """The inputs by name, or some of them as a list."""
    inputs = {name: np.array(value) for name, value in case["inputs"].items()}
    return [inputs[name] for name in names] if names else inputs


def error(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape
    return np.abs(a - b).max() / (np.abs(b).max() or 1)


def value_and_grad(loss, *args):
    """Unreduced values, and the gradient of their mean in the first argument."""

    @jax.jit
    def run(*args):
        def total(z):
            values = loss(z, *args[1:])
            return values.mean(), values

        return jax.value_and_grad(total, has_aux=True)(args[0])

    (_, values), grad = run(*args)
    return values, grad


def draw(seed, *shape, scale=2.0):
    return scale * np.random.default_rng(seed).normal(size=shape)
