"""Numbers of the original authors' code, and how ours are compared with them.

A test with "golden" in its name compares. What it compared is known once it has run:
the losses that it called, with the files whose outputs it read. The session fails if
the catalogue declares a pair that no test has compared, see ``conftest.py``.
"""

import contextlib
import functools
import inspect
import json
import pathlib
import sys
import types

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
    called = set()
    with contextlib.ExitStack() as stack:
        for name, row in CATALOGUE.items():
            loss = inspect.unwrap(row.loss)  # a row may fix an argument
            stack.enter_context(_noted(loss, functools.partial(called.add, name)))
        yield
    COMPARED.update((loss, file) for loss in called for file in _read)


@contextlib.contextmanager
def _noted(function, note):
    """Inside, ``note`` is called when a test calls a function, by whatever name.

    A profiler could tell as well, but takes twice the time that JAX needs to trace.
    """
    code, defaults, kwdefaults = (
        function.__code__,
        function.__defaults__,
        function.__kwdefaults__,
    )
    run = types.FunctionType(code, function.__globals__, argdefs=defaults)
    run.__kwdefaults__ = kwdefaults

    def noted(*args, **kwargs):
        if _is_called_by_a_test(sys._getframe(1)):
            note()
        return run(*args, **kwargs)

    function.__signature__ = inspect.signature(function)
    function.__code__, function.__defaults__ = _forward.__code__, None
    function.__kwdefaults__ = {"_to": noted}
    try:
        yield
    finally:
        function.__code__, function.__defaults__ = code, defaults
        function.__kwdefaults__ = kwdefaults
        del function.__signature__


def _forward(*args, _to, **kwargs):
    return _to(*args, **kwargs)


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
