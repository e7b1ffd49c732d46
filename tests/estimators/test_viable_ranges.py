import functools

import jax
import numpy as np
import pytest
from harness import goldens
from harness.quickly import quick_jit
from scipy.optimize import minimize
from scipy.special import expit

from logitlab import estimators, metrics

fit = quick_jit(estimators.viable_prediction_range)


def loss(w, x, y):
    margins = (w[0] + x @ w[1:]) * (2 * y - 1)
    return np.logaddexp(0, -margins).mean()


def probs(w, x):
    return expit(w[..., :1] + w[..., 1:] @ x.T)


@pytest.mark.parametrize("case", goldens.cases("predictive_multiplicity"))
def test_golden(x64, case):
    x, y = goldens.arrays(case, "X", "y")
    params, want = case["params"], case["outputs"]
    options = dict(epsilon=params["epsilon"], ridge=1 / params["C"])
    y = (y > 0).astype(int)
    got = fit(x, y, relative=False, **options)
    goldens.close(got.coefficients, want["baseline_coefs"], 1e-4)  # an inner point
    goldens.close(got.loss, want["baseline_loss"])
    goldens.close(got.probs, want["baseline_prob"], 1e-4)
    np.testing.assert_allclose(got.ranges, want["viable_range"], 0, 1e-6)
    relative = fit(x, y, relative=True, **options).ranges
    np.testing.assert_allclose(relative, want["viable_range_relative"], 0, 1e-6)
    assert not got.at_bound.any()
    models = np.asarray(got.models)
    for delta, share in want["ambiguity"].items():
        delta = float(delta)
        ambiguity = metrics.predictive_ambiguity(got.probs, got.ranges, delta=delta)
        goldens.close(ambiguity.value, share, 1e-12)
        pool = probs(models.reshape(-1, models.shape[-1]), x)
        bounds = metrics.discrepancy_bounds(got.probs, got.ranges, pool, delta=delta)
        assert bounds.upper == ambiguity.value >= bounds.lower
    # Models at the ends lie on the edge of the level set.
    losses = np.array([loss(w, x, y) for w in models.reshape(-1, models.shape[-1])])
    np.testing.assert_allclose(losses, got.loss + params["epsilon"], 1e-9)
    for i, path in enumerate(want["paths"]):  # a coarser search stays inside
        inside = np.array(path["constrained_loss"]) <= got.loss + params["epsilon"]
        reached = np.array(path["predicted_probability"])[inside]
        low, high = got.ranges[i]
        assert ((reached >= low - 1e-6) & (reached <= high + 1e-6)).all()


@functools.cache
def drawn(n=60, d=3):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, d))
    y = (rng.uniform(size=n) < expit(x @ [1.0, -2.0, 0.0] + 0.3)).astype(int)
    return x, y


def test_ends_match_a_constrained_solver(x64):
    x, y = drawn()
    query, epsilon = np.array([[0.5, 1.0, -1.0]]), 0.02
    got = fit(x, y, query, epsilon=epsilon, ridge=0.0)
    start = np.asarray(got.coefficients)
    for sign, end in ((1, got.ranges[0, 0]), (-1, got.ranges[0, 1])):
        room = {
            "type": "ineq",
            "fun": lambda w: float(got.loss) + epsilon - loss(w, x, y),
        }
        found = minimize(
            lambda w, sign=sign: sign * (w[0] + query[0] @ w[1:]),
            start,
            constraints=[room],
            method="SLSQP",
            options=dict(ftol=1e-12),
        )
        np.testing.assert_allclose(end, expit(sign * found.fun), 0, 1e-6)


@pytest.mark.slow
def test_ranges_grow_with_epsilon_and_collapse_at_zero(x64):
    x, y = drawn()
    epsilons = np.array([0.0, 1e-8, 1e-3, 0.01, 0.1])
    options = dict(ridge=0.0)  # a ridge would move the best model within its level set

    def at(epsilon):
        return estimators.viable_prediction_range(x, y, epsilon=epsilon, **options)

    got = quick_jit(jax.vmap(at))(epsilons)
    np.testing.assert_array_equal(got.ranges[0], np.stack([got.probs[0]] * 2, -1))
    assert (np.diff(got.ranges[..., 0], axis=0) < 0).all()
    assert (np.diff(got.ranges[..., 1], axis=0) > 0).all()
    assert not got.at_bound.any()
    # So small a level set is an ellipsoid, but for terms as large as epsilon.
    one = np.column_stack([np.ones(len(x)), x])
    p = np.asarray(got.probs[0])
    hessian = one.T @ (one * (p * (1 - p))[:, None]) / len(x)
    spread = np.einsum("nd,de,ne->n", one, np.linalg.inv(hessian), one)
    odds = one @ np.asarray(got.coefficients[0])
    want = expit(odds[:, None] + np.sqrt(2e-8 * spread)[:, None] * [-1, 1])
    np.testing.assert_allclose(got.ranges[1], want, 0, 1e-6)
    # Equal examples have equal ranges, and fewer digits give the same to 1e-4.
    twice = fit(x, y, x[[0, 0]], epsilon=0.01).ranges
    np.testing.assert_array_equal(twice[0], twice[1])
    single = fit(x.astype("f4"), y, epsilon=0.01, **options)
    assert single.ranges.dtype == np.float32
    np.testing.assert_allclose(single.ranges, got.ranges[3], 0, 1e-4)


@pytest.mark.slow
def test_dependent_features(x64):
    x, y = drawn()
    want = fit(x, y, epsilon=0.01)
    both = fit(np.concatenate([x, x[:, :1] - x[:, 1:2]], -1), y, epsilon=0.01)
    assert not both.at_bound.any()
    np.testing.assert_allclose(both.ranges, want.ranges, 0, 1e-5)


def test_separable_labels_are_flagged(x64):
    x = np.linspace(-1, 1, 12)[:, None]
    got = fit(x, (x[:, 0] > 0).astype(int), np.array([[-2.0], [2.0]]), epsilon=0.1)
    assert got.at_bound.any()
    for ends, bound in zip(got.ranges, got.at_bound, strict=True):
        for end, limit, flag in zip(ends, (0, 1), bound, strict=True):
            assert end == limit if flag else 0 < end < 1
    one_class = fit(x, np.ones(12, int), epsilon=0.1)
    assert np.isfinite(one_class.ranges).all()
    assert one_class.at_bound[:, 1].all()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(x=np.zeros(3, "f4")), ValueError, r"x has shape \(3,\)"),
        (dict(x=np.zeros((0, 2), "f4")), ValueError, "x has shape"),
        (dict(x=np.zeros((3, 2), int)), TypeError, "x has dtype int"),
        (dict(query=np.zeros((3, 3), "f4")), ValueError, "query has shape"),
        (dict(labels=np.array([0, 1])), ValueError, "labels has shape"),
        (dict(labels=np.array([0, 1, 2])), ValueError, "labels other than 0 and 1"),
        (dict(epsilon=-0.1), ValueError, "epsilon is -0.1, expected at least 0"),
        (dict(ridge=-1.0), ValueError, "ridge is -1.0, expected at least 0"),
    ],
)
def test_bad_arguments(changes, error, message):
    options = dict(x=np.zeros((3, 2), "f4"), labels=np.array([0, 1, 1]), epsilon=0.1)
    with pytest.raises(error, match=message):
        estimators.viable_prediction_range(**(options | changes))
