"""Numbers of the original authors' code, and how ours are compared with them.

A test with "golden" in its name compares. What it compared is known once it has run:
the losses that it called, with the files whose outputs it read. The session fails if
the catalogue declares a pair that no test has compared, see ``conftest.py``.
"""

import contextlib
import json
import pathlib
import sys

import jax
import numpy as np

from harness import derivatives, interpreter
from logitlab import losses
from logitlab.losses.catalogue import CATALOGUE

TESTS = pathlib.Path(__file__).parents[1]
LIBRARY = pathlib.Path(losses.__file__).parent
COMPARED = set()  # pairs (name of a loss, name of a file)
_read = set()


class Case(dict):
    """A case of a golden file, which notes that its outputs were read."""

    def __init__(self, file, case):
        super().__init__(case)
        self.file = file

    def __getitem__(self, key):
        if key == "outputs":
            _read.add(self.file)
        return super().__getitem__(key)


def cases(name, *kinds):
    """The cases of a golden file, or those of some kinds that it must have."""
    found = json.loads((TESTS / "golden" / f"{name}.json").read_text())["cases"]
    known = {case["params"].get("kind") for case in found}
    if unknown := set(kinds) - known:
        raise ValueError(f"{name}.json has no case of {unknown}, it has {known}")
    keep = [case for case in found if not kinds or case["params"]["kind"] in kinds]
    return [Case(name, case) for case in keep]


@contextlib.contextmanager
def comparing():
    """Registers what is compared inside, unless it raises."""
    _read.clear()
    called, code = set(), {row.loss.__code__: name for name, row in CATALOGUE.items()}

    def watch(frame, event, _):
        if event == "call" and frame.f_code in code and _is_called_by_a_test(frame):
            called.add(code[frame.f_code])

    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        yield
    finally:
        sys.setprofile(before)
    COMPARED.update((loss, file) for loss in called for file in _read)


def _is_called_by_a_test(frame):
    """Whether no other function of the library has called it."""
    while frame := frame.f_back:
        path = pathlib.Path(frame.f_code.co_filename)
        if LIBRARY in path.parents:
            return False
        if TESTS in path.parents and path.name != "interpreter.py":
            return True
    return False


def missing():
    """What rows declare and no test has compared, in words."""
    declared = {(name, row.golden) for name, row in CATALOGUE.items() if row.golden}
    return sorted(f"{name} with {file}.json" for name, file in declared - COMPARED)


def arrays(case, *names):
    """The inputs by name, or some of them as a list."""
    inputs = {name: np.array(value) for name, value in case["inputs"].items()}
    return [inputs[name] for name in names] if names else inputs


def error(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    assert a.shape == b.shape
    return np.abs(a - b).max() / (np.abs(b).max() or 1)


def close(got, want, rtol=1e-8):
    """Asserts one shape, and a difference that is small beside the largest number."""
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= rtol * np.abs(want).max(), (got, want)


def check(loss, case, rtol=1e-8):
    """``loss(logits)`` and the gradient of its sum against a case that has both."""
    value, grad = derivatives.value_and_grad(loss, *arrays(case, "logits"))
    assert error(value, case["outputs"]["loss"]) < rtol
    assert error(grad, case["outputs"]["grad_logits"]) < rtol


def value_and_grad(loss, *args):
    """Unreduced values, and the gradient of their mean in the first argument."""

    @interpreter.interpreted
    def run(*args):
        def total(z):
            values = loss(z, *args[1:])
            return values.mean(), values

        return jax.value_and_grad(total, has_aux=True)(args[0])

    (_, values), grad = run(*args)
    return values, grad


def draw(seed, *shape, scale=2.0):
    return scale * np.random.default_rng(seed).normal(size=shape)
