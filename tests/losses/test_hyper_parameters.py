"""Hyper-parameters of every loss may be traced, and never decide the result's dtype."""

import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import cases

from logitlab.losses.catalogue import CATALOGUE

# Numbers that decide shapes, which program runs or how often, as the docstrings say.
STATIC = {"k", "num_steps", "steps", "num_classes", "num_groups", "factor_axis"}
STATIC |= {"negatives", "num_features"}
STATIC |= {("gld_loss", "power"), ("fenchel_young_loss", "alpha")}


def numbers(row):
    """The numeric hyper-parameters of a row's loss, and what the tests give them."""
    found = {}
    for name, parameter in inspect.signature(row.loss).parameters.items():
        if parameter.kind is parameter.KEYWORD_ONLY and name != "axis":
            value = row.hyper.get(name, parameter.default)
            number = isinstance(value, int | float | np.number)
            static = name in STATIC or (row.name, name) in STATIC
            if number and not isinstance(value, bool) and not static:
                found[name] = value
    return found


ROWS = [pytest.param(row, id=name) for name, row in CATALOGUE.items() if numbers(row)]


@pytest.mark.parametrize("row", ROWS)
def test_hyper_parameters(row):
    case = cases.Case(row)

    def run(args, hyper):
        def total(z):
            wanted = {**row.hyper, **hyper}
            out = cases.numbers(row.loss(*_split(case, z), *args[1:], **wanted))
            return out.sum(), out

        (_, values), grad = jax.value_and_grad(total, has_aux=True)(args[0])
        return values, grad

    args = case.args(0)
    with jax.enable_x64(True):
        wide = {name: np.float64(value) for name, value in numbers(row).items()}
        traced = {name: jnp.asarray(value) for name, value in wide.items()}
        values, grad = jax.eval_shape(lambda args: run(args, wide), args)
        assert values.dtype == grad.dtype == np.float32, "a float64 NumPy scalar"
        values, grad = jax.eval_shape(run, args, traced)
        assert values.dtype == grad.dtype == np.float32, "traced in float64"


def _split(case, z):
    return (z[..., 0], z[..., 1]) if case.two else (z,)
