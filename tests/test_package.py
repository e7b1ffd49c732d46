"""What importing costs, and what the public names promise."""

import importlib
import inspect
import pkgutil
import re
import subprocess
import sys

import jax
import numpy as np
import pytest

import logitlab
from logitlab import links, losses, metrics, numerics, optim

HEAVY = "flax orbax tensorflow matplotlib ml_collections tensorflow_datasets grain"
LIGHT = [numerics, links, losses, metrics, optim]


def test_composing_needs_no_heavy_package():
    code = (
        f"import sys, logitlab; print([m for m in {HEAVY.split()} if m in sys.modules])"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"


@pytest.mark.parametrize("module", LIGHT, ids=lambda m: m.__name__)
def test_public_names_exist_and_are_documented(module):
    assert module.__doc__
    assert len(set(module.__all__)) == len(module.__all__)
    for name in module.__all__:
        assert inspect.getdoc(getattr(module, name)), name


def test_no_file_bears_the_name_of_a_public_function():
    for info in pkgutil.walk_packages(logitlab.__path__, "logitlab."):
        package, _, stem = info.name.rpartition(".")
        public = getattr(importlib.import_module(package), "__all__", ())
        is_function = callable(getattr(importlib.import_module(package), stem, None))
        assert not (stem in public and is_function), info.name


def shapes_line(function):
    """``Shapes: a [..., C], b [...] -> [...]`` as ({name: dims}, result dims)."""
    (line,) = re.findall(r"^Shapes: (.+)$", inspect.getdoc(function), re.MULTILINE)
    before, after = line.split("->")
    arrays = re.findall(r"(\w+) \[([^\]]*)\]", before)
    return {name: _dims(dims) for name, dims in arrays}, _dims(after.strip(" []"))


def _dims(text):
    return [d.strip() for d in text.split(",") if d.strip()]


def resolve(dims, batch, sizes={"C": 5}):  # noqa: B006
    return sum((batch if d == "..." else (sizes[d],) for d in dims), ())


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize(
    "function",
    [
        losses.cross_entropy,
        numerics.label_nll,
        numerics.log_softmax,
        numerics.logsumexp,
        links.stablemax,
    ],
    ids=lambda f: f.__name__,
)
def test_the_shapes_line_runs(function, batch):
    arguments, result = shapes_line(function)
    rng = np.random.default_rng(0)
    kwargs = {}
    for name, dims in arguments.items():
        shape = resolve(dims, batch)
        if name == "labels":
            kwargs[name] = rng.integers(0, 5, shape)
        elif name == "where":
            kwargs[name] = np.ones(shape, bool)
        else:
            kwargs[name] = rng.normal(size=shape).astype("f4")
    assert function(**kwargs).shape == resolve(result, batch)
    out = jax.eval_shape(lambda k: function(**k), kwargs)
    assert out.shape == resolve(result, batch)
