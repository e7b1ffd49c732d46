"""What the tests of heads share: golden cases, drawn heads, and how they compare."""

import jax
import numpy as np

N, D, V = 10, 4, 7


def draw(seed=0, dtype="f4", n=N, d=D, v=V):
    rng = np.random.default_rng(seed)
    make = lambda *shape: rng.normal(size=shape).astype(dtype)  # noqa: E731
    return make(n, d), make(d, v), make(v), rng.integers(0, v, n)


def assert_close(got, want, tolerance=1e-5):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= tolerance * max(np.abs(b).max(), 1e-30), (a, b)
