import numpy as np
import pytest
from sklearn.datasets import load_diabetes
from sklearn.ensemble import RandomForestRegressor
from sklearn.tree import DecisionTreeRegressor

from logitlab import estimators


def halves():
    x, y = load_diabetes(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    y = y + 1e-3 * np.arange(len(y))  # equal labels would share a leaf
    return x[order[:220]], y[order[:220]], x[order[220:]]


def parameters(model, *points):
    train = model.apply(points[0]).reshape(len(points[0]), -1)
    weights = [
        estimators.leaf_smoother(train, model.apply(x).reshape(len(x), -1))
        for x in points
    ]
    return weights, [float(estimators.effective_parameters(w)) for w in weights]


def test_constants_neighbours_and_interpolation():
    n, k = 12, 3
    rng = np.random.default_rng(0)
    near = np.stack([rng.permutation(n) < k for _ in range(7)]).astype("f4") / k
    for weights, want in (
        (np.full((7, n), 1 / n, "f4"), 1),
        (near, n / k),
        (np.eye(n, dtype="f4"), n),
    ):
        np.testing.assert_allclose(
            estimators.effective_parameters(weights), want, rtol=1e-6
        )


def test_trees_and_forests():
    """A tree to the last leaf interpolates, a forest smooths, and more so off it."""
    x, y, test = halves()
    tree = DecisionTreeRegressor(random_state=0).fit(x, y)
    _, (on_train, _) = parameters(tree, x, test)
    np.testing.assert_allclose(on_train, len(y), rtol=1e-6)
    forest = RandomForestRegressor(
        30, bootstrap=False, max_features=3, random_state=0
    ).fit(x, y)
    (_, weights), (on_train, on_test) = parameters(forest, x, test)
    np.testing.assert_allclose(weights @ y, forest.predict(test), rtol=1e-5)
    np.testing.assert_allclose(on_train, len(y), rtol=1e-6)  # every tree interpolates
    assert on_test < 0.3 * on_train
    shallow = RandomForestRegressor(
        30, bootstrap=False, max_features=3, min_samples_leaf=10, random_state=0
    ).fit(x, y)
    _, (on_train, on_test) = parameters(shallow, x, test)
    assert on_test < on_train < 0.2 * len(y)


def test_ridge(x64):
    rng = np.random.default_rng(0)
    features, query, y = (rng.normal(size=s) for s in [(20, 4), (6, 4), (20,)])
    gram = features.T @ features + 0.7 * np.eye(4)
    want = query @ np.linalg.solve(gram, features.T @ y)
    got = estimators.ridge_smoother(features, query, 0.7)
    np.testing.assert_allclose(got @ y, want, rtol=1e-10)
    # Without a penalty S projects: as many parameters as the trace, which is D.
    s = estimators.ridge_smoother(features, features, 0.0)
    np.testing.assert_allclose(np.trace(s), 4, rtol=1e-10)
    np.testing.assert_allclose(estimators.effective_parameters(s), 4, rtol=1e-10)


def test_a_leaf_without_training_points_has_no_weights():
    got = estimators.leaf_smoother(np.array([[0, 5], [1, 5]]), np.array([[7, 5]]))
    np.testing.assert_allclose(got, [[0.25, 0.25]])


@pytest.mark.parametrize(
    ("name", "arguments", "error", "message"),
    [
        ("effective_parameters", (np.ones(3, "f4"),), ValueError, r"shape \(3,\)"),
        ("effective_parameters", (np.ones((3, 3), int),), TypeError, "weights has"),
        ("leaf_smoother", (np.ones((3, 2)), np.ones((3, 2), int)), TypeError,
         "leaf_train has dtype"),
        ("leaf_smoother", (np.ones((3, 2), int), np.ones((3, 1), int)), ValueError,
         r"leaf_query has shape \(3, 1\)"),
        ("ridge_smoother", (np.ones((3, 2)), np.ones((3, 1)), 1.0), ValueError,
         r"query has shape \(3, 1\), expected \[M, 2\]"),
        ("ridge_smoother", (np.ones((3, 2)), np.ones((3, 2)), -1.0), ValueError,
         "l2 is -1.0"),
    ],
)  # fmt: skip
def test_errors(name, arguments, error, message):
    with pytest.raises(error, match=message):
        getattr(estimators, name)(*arguments)
