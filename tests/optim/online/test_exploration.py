import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from logitlab.optim import (
    inverse_gap_weighting,
    log_barrier_policy,
    magnitude_reduced,
)

policy = interpreted(log_barrier_policy, static_argnames="axis")
weighting = interpreted(inverse_gap_weighting, static_argnames=("kind", "axis"))


def oracle(cum_losses, eta):
    """Bisection in more digits than float64 has."""
    gaps = np.longdouble(eta) * (cum_losses - cum_losses.min()).astype(np.longdouble)
    low, high = np.longdouble(1), np.longdouble(len(gaps))
    for _ in range(120):
        middle = (low + high) / 2
        if (1 / (gaps + middle)).sum() > 1:
            low = middle
        else:
            high = middle
    return (1 / (gaps + low)).astype(float)


def drawn(rng, kind, arms):
    size = 10 ** rng.uniform(-4, 4)
    if kind == "uniform":
        return rng.uniform(-1e4, 1e4, arms)
    if kind == "one best":
        return np.where(np.arange(arms) == 0, 0, size)
    if kind == "even in logs":
        return 10 ** rng.uniform(-4, 4, arms)
    return np.clip(rng.standard_cauchy(arms) * size, -1e4, 1e4)


@pytest.mark.parametrize("kind", ["uniform", "one best", "even in logs", "heavy tails"])
def test_weights_to_the_last_digits(x64, kind):
    rng = np.random.default_rng(0)
    for arms in (1, 2, 10, 100, 1000):
        rows = np.stack([drawn(rng, kind, arms) for _ in range(20)])
        for eta in (1e-5, 0.01, 1.0, 100.0):
            want = [oracle(row, eta) for row in rows]
            got = np.asarray(policy(rows, eta=eta))
            np.testing.assert_allclose(got, want, rtol=0, atol=1e-12)
            assert (got > 0).all()


def test_worked_example(x64):
    got = policy(np.array([0.0, 1.0, 3.0]), eta=1.0)
    np.testing.assert_allclose(got, [0.4793565, 0.3240304, 0.1966131], atol=5e-8)
    np.testing.assert_allclose(1 / got[0], 2.0861302, atol=5e-8)


def test_the_derivative_is_that_of_the_root(x64):
    losses = np.array([0.3, -1.0, 2.0, 0.5])
    p = policy(losses, eta=0.7)
    want = np.outer(p**2, p**2) / (p**2).sum() - np.diag(p**2)
    got = interpreted(jax.jacobian(lambda x: log_barrier_policy(x, eta=0.7)))(losses)
    np.testing.assert_allclose(got, 0.7 * want, rtol=1e-9)


def test_barrier_at_the_edges():
    nan, inf = np.nan, np.inf
    where = np.array([[True, True, False], [False, False, False]])
    got = policy(np.float32([[0, 1, nan], [nan, nan, nan]]), eta=1.0, where=where)
    both = policy(np.float32([0, 1]), eta=1.0)
    np.testing.assert_allclose(got, [[*both, 0], [0, 0, 0]], rtol=1e-6)
    np.testing.assert_array_equal(got[0], policy(np.float32([0, 1, inf]), eta=1.0))
    far = policy(np.float32([1e30, -1e30, 0]), eta=1.0)
    np.testing.assert_allclose(far, [5e-31, 1, 1e-30], rtol=1e-5)
    assert policy(jnp.zeros(4, jnp.bfloat16), eta=1.0).dtype == np.float32
    turned = policy(np.float32([[0], [1]]), eta=1.0, axis=0)
    np.testing.assert_array_equal(turned[:, 0], both)
    assert np.isnan(policy(np.float32([0, nan]), eta=1.0)).any()

    def slope(dtype):
        def first(x):
            return log_barrier_policy(x, eta=1.0, where=jnp.array([True, True, False]))

        return interpreted(jax.grad(lambda x: first(x)[0]))(
            jnp.array([0, 1, nan], dtype)
        )

    assert np.isfinite(slope(jnp.float32)).all()
    assert slope(jnp.bfloat16).dtype == jnp.bfloat16


def test_estimates_far_below_zero_leave_every_arm_a_chance():
    """Where exponential weights with the same rate would have one arm alone."""
    losses = np.float32([-1e4, 0, 0])
    assert policy(losses, eta=0.1).min() > 5e-4
    assert np.exp(-0.1 * (losses - losses.min())).min() == 0


def test_magnitude_reduced_keeps_the_mean():
    z = np.random.default_rng(0).standard_t(3, 1000).astype("f4")
    m = np.minimum(z, 0).mean()
    reduced = np.asarray(magnitude_reduced(z, m))
    np.testing.assert_allclose(reduced.mean(), z.mean(), atol=1e-5)
    assert reduced.min() >= m > z.min()


@pytest.mark.parametrize(
    ("kind", "want"),
    [
        ("square", [0.6333333, 0.1666667, 0.2]),
        ("fast", [0.8675214, 0.0555556, 0.0769231]),
    ],
)
def test_worked_examples_of_inverse_gaps(kind, want):
    y = np.float32([0.2, 0.5, 0.4])
    got = weighting(y, gamma=10.0, kind=kind)
    np.testing.assert_allclose(got, want, atol=1e-6)
    even = weighting(y, gamma=0.0, kind=kind)
    np.testing.assert_allclose(even, [1 / 3] * 3, atol=1e-6)
    hidden = weighting(
        np.float32([0.2, np.nan, 0.5, 0.4]),
        gamma=10.0,
        kind=kind,
        where=np.array([True, False, True, True]),
    )
    np.testing.assert_array_equal(hidden, np.insert(got, 1, 0))
    turned = weighting(y[:, None], gamma=10.0, kind=kind, axis=0)
    np.testing.assert_array_equal(turned[:, 0], got)
    many = np.random.default_rng(0).uniform(size=(50, 7)).astype("f4")
    p = weighting(many, gamma=30.0, kind=kind)
    np.testing.assert_allclose(p.sum(-1), np.ones(50), rtol=1e-6)
    assert (p.argmax(-1) == many.argmin(-1)).all()
    assert (p > 0).all()


def test_inverse_gaps_at_the_edges():
    zero = np.float32([0, 0, 0.4])
    np.testing.assert_array_equal(weighting(zero, gamma=10.0, kind="fast"), [1, 0, 0])
    np.testing.assert_allclose(
        weighting(zero, gamma=10.0), [11 / 21, 1 / 3, 1 / 7], rtol=1e-6
    )
    far = weighting(np.float32([1e30, -1e30, 0]), gamma=1.0)
    np.testing.assert_allclose(far, [5e-31, 1, 1e-30], rtol=1e-5)
    assert weighting(np.float32([3]), gamma=1.0) == 1
    none = np.zeros(2, bool)
    assert (weighting(zero[:2], gamma=1.0, kind="fast", where=none) == 0).all()
    assert weighting(jnp.zeros(4, jnp.bfloat16), gamma=1.0).dtype == np.float32
    slope = jax.jacobian(lambda y: inverse_gap_weighting(y, gamma=10.0)[1])
    p = weighting(np.float32([0.2, 0.5, 0.4]), gamma=10.0)[1]
    got = interpreted(slope)(np.float32([0.2, 0.5, 0.4]))
    np.testing.assert_allclose(got, 10 * p**2 * np.array([1, -1, 0]), rtol=1e-5)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: log_barrier_policy(np.zeros(3), eta=0.0), "eta is 0.0, expected abo"),
        (lambda: log_barrier_policy(np.float32(1), eta=1.0), "not an axis of cum_loss"),
        (lambda: inverse_gap_weighting(np.zeros(3), gamma=-1.0), "gamma is -1.0"),
        (
            lambda: inverse_gap_weighting(np.zeros(3), gamma=1.0, kind="slow"),
            "kind is 'slow', expected 'square' or 'fast'",
        ),
        (
            lambda: log_barrier_policy(np.zeros((0,)), eta=1.0),
            r"cum_losses has shape \(0,\)",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
