import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import cases, close
from harness.interpreter import functions

from logitlab import estimators

plain, estimators = estimators, functions(estimators)

CASES = cases("deep_kernel")
NAMES = ("erf", "relu", "sine_1", "sine_2.676", "hermite_2", "hermite_3")
NAMES += ("2d_opt", "3d_opt", "5d_opt", "9d_opt")
KERNELS = {"nngp": estimators.deep_nngp, "ntk": estimators.deep_ntk}


def circle(n, seed=0):
    angle = np.sort(np.random.default_rng(seed).uniform(0, np.pi / 2, n))
    return np.stack([np.cos(angle), np.sin(angle)], 1)


@pytest.mark.parametrize("case", CASES, ids=lambda c: c["params"]["activation"])
def test_golden(x64, case):
    x, y, test = (np.asarray(v) for v in case["inputs"].values())
    params = case["params"]
    kernel = functools.partial(
        KERNELS[params["kernel"]],
        activation=params["activation"],
        depth=params["depth"],
    )
    k_train, k_cross = kernel(x), kernel(test, x)
    want = case["outputs"]
    close(k_train, want["k_train"])
    cross = np.asarray(want["k_cross"])
    close(k_cross, cross if cross.shape == k_cross.shape else cross.T)
    close(estimators.kernel_classify(k_train, y, k_cross), want["scores"], 1e-7)


@pytest.mark.parametrize("name", NAMES)
def test_dual_activations(x64, name):
    r = np.linspace(-0.99, 0.99, 23)
    phi = lambda r: estimators.dual_activation(name, r)[0]  # noqa: E731
    value, slope = estimators.dual_activation(name, r)
    steps = (phi(r + 1e-6) - phi(r - 1e-6)) / 2e-6
    np.testing.assert_allclose(slope, steps, rtol=1e-6, atol=1e-8)
    np.testing.assert_allclose(phi(1.0), 1, rtol=1e-14)
    x = circle(6)
    got = estimators.deep_nngp(x, activation=name, depth=3)
    want = phi(phi(phi(np.clip(x @ x.T, -1, 1))))
    np.fill_diagonal(want := np.array(want), 1)
    close(got, want, 1e-12)
    assert np.isfinite(estimators.deep_ntk(x, activation=name, depth=3)).all()


def test_exponents_of_the_released_examples(x64):
    for name, dimension in (("2d_opt", 2), ("3d_opt", 3), ("5d_opt", 5), ("9d_opt", 9)):
        slopes = [estimators.dual_activation(name, r)[1] for r in (0.0, 1.0)]
        close(estimators.singularity_exponent(*slopes), dimension - 1, 1e-12)


def test_powers_become_the_nearest_neighbour(x64):
    """Depth 24: no entry is representable, but for the scaled rows."""
    x, test = circle(60), circle(200, seed=1)
    y = np.where(np.random.default_rng(2).uniform(size=60) < 0.5, 1.0, -1.0)
    power = functools.partial(estimators.deep_nngp, activation="hermite_2", depth=24)
    k_train = power(x)
    scores = estimators.kernel_classify(k_train, y, power(test, x, scale_rows=True))
    nearest = y[(test @ x.T).argmax(1)]
    assert (np.sign(scores) == nearest).mean() >= 0.99
    unscaled = estimators.kernel_classify(k_train, y, power(test, x))
    assert (np.sign(unscaled) != nearest).mean() > 0.1


def test_singular_kernel_is_the_vote_of_hilbert(x64):
    x, test = circle(200), circle(100, seed=1)
    label = np.where(x[:, 0] > 0.7, 1.0, -1.0)
    kernel = functools.partial(estimators.deep_nngp, activation="2d_opt", depth=12)
    scores = estimators.kernel_classify(kernel(x), label, kernel(test, x))
    vote = estimators.hilbert_estimate(x, label, test, power=1)
    assert (np.sign(scores) == np.sign(vote)).mean() >= 0.9


def test_relu_becomes_the_majority(x64):
    x, test = circle(20), circle(50, seed=1)
    y = np.where(np.arange(20) % 3 == 0, 1.0, -1.0)
    ntk = functools.partial(plain.deep_ntk, activation="relu", depth=50_000)
    kernel = jax.jit(ntk)
    scores = estimators.kernel_classify(kernel(x), y, kernel(test, x))
    assert (scores < 0).all()


def test_hilbert_estimate(x64):
    rng = np.random.default_rng(0)
    x, y, test = rng.normal(size=(9, 3)), rng.normal(size=9), rng.normal(size=(5, 3))
    w = np.linalg.norm(test[:, None] - x[None], axis=-1) ** -2.5
    close(
        estimators.hilbert_estimate(x, y, test, power=2.5),
        (w * y).sum(1) / w.sum(1),
        1e-12,
    )
    close(estimators.hilbert_estimate(x, y, x, power=2.5), y, 1e-14)
    twice = np.concatenate([x, x[:1]])
    got = estimators.hilbert_estimate(twice, np.append(y, 3 * y[0]), x[:1], power=300)
    close(got, 2 * y[:1], 1e-14)
    far = estimators.hilbert_estimate(1e-30 * x, y, 1e30 * test, power=50)
    assert np.isfinite(far).all()


def test_depth_zero_and_orthogonal_points():
    x = np.eye(3, dtype="f4")
    for name in NAMES:
        np.testing.assert_array_equal(
            estimators.deep_nngp(x, activation=name, depth=0), x
        )
        k = estimators.deep_nngp(x, activation=name, depth=4)
        assert np.isfinite(k).all()
        assert (k[0, 1] > 0) == (name == "relu")
        scaled = estimators.deep_nngp(x, activation=name, depth=4, scale_rows=True)
        assert np.isfinite(scaled).all()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda e, x: e.dual_activation("tanh", 0.5),
            ValueError,
            "is 'tanh', expected",
        ),
        (
            lambda e, x: e.dual_activation("hermite_x", 0.5),
            ValueError,
            "is 'hermite_x'",
        ),
        (lambda e, x: e.dual_activation("sine_0", 0.5), ValueError, "is 'sine_0'"),
        (lambda e, x: e.dual_activation("erf", 1), TypeError, "r has dtype int32"),
        (lambda e, x: e.deep_nngp(x, activation="x", depth=1), ValueError, "is 'x'"),
        (lambda e, x: e.deep_ntk(x, activation="erf", depth=-1), ValueError, "is -1"),
        (
            lambda e, x: e.deep_ntk(x[0], activation="erf", depth=1),
            ValueError,
            "x1 has",
        ),
        (
            lambda e, x: e.deep_ntk(x, x[:, :1], activation="erf", depth=1),
            ValueError,
            r"x2 has shape \(3, 1\), expected \[M, 3\]",
        ),
        (lambda e, x: e.kernel_classify(x, x[0], x[0]), ValueError, r"k_cross has"),
        (lambda e, x: e.kernel_classify(x, x, x), ValueError, r"y has shape \(3, 3\)"),
        (
            lambda e, x: e.kernel_classify(x[:2], x[0], x),
            ValueError,
            "k_train has shape",
        ),
        (
            lambda e, x: e.hilbert_estimate(x, x[0], x, power=0),
            ValueError,
            "power is 0",
        ),
        (lambda e, x: e.hilbert_estimate(x, x, x, power=1), ValueError, "y has shape"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call(plain, jnp.eye(3))
