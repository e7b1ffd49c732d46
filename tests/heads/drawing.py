"""What the tests of heads share: golden cases, drawn heads, and how they compare."""

import functools
import json
import pathlib

import jax
import numpy as np

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
# What is compared is arithmetic, not how fast it is: compile quickly.
QUICK = {"xla_backend_optimization_level": 0}
quick_jit = functools.partial(jax.jit, compiler_options=QUICK)
N, D, V = 10, 4, 7


def cases_of(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())["cases"]


def draw(seed=0, dtype="f4", n=N, d=D, v=V):
    rng = np.random.default_rng(seed)
    make = lambda *shape: rng.normal(size=shape).astype(dtype)  # noqa: E731
    return make(n, d), make(d, v), make(v), rng.integers(0, v, n)


def assert_close(got, want, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 1e-30), (a, b)
