import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted
from sklearn import linear_model

from logitlab import estimators


def drawn(classes, rows=60):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, 5))
    y = (x[:, 0] + rng.normal(size=rows) > 0) + 0
    return x, y + (classes > 2) * rng.integers(0, 3, rows)


@pytest.mark.sampled
@pytest.mark.parametrize("classes", [2, 4])
def test_agrees_with_scikit_learn(x64, classes):
    x, y = drawn(classes)
    keep = np.arange(60) < 50
    theirs = linear_model.LogisticRegression(C=0.5, tol=1e-10, max_iter=1000)
    theirs.fit(x[keep], y[keep])
    fit = estimators.fit_logistic(
        np.where(keep[:, None], x, np.nan),  # what the mask hides
        np.where(keep, y, -100),
        num_classes=classes,
        l2=1 / (0.5 * 50),
        mask=keep,
    )
    assert fit.slope < 1e-9
    kernel, bias = np.asarray(fit.kernel), np.asarray(fit.bias)
    if classes == 2:
        assert (kernel[:, 0] == 0).all()
        assert bias[0] == 0
        kernel, bias = kernel[:, 1:], bias[1:]
    np.testing.assert_allclose(kernel.T, theirs.coef_, atol=1e-6)
    np.testing.assert_allclose(bias, theirs.intercept_, atol=1e-6)
    logits = estimators.linear_logits(fit, x)
    assert (np.asarray(logits).argmax(-1) == theirs.predict(x)).all()


def test_a_probe_does_not_see_units(x64):
    x, y = drawn(3)
    keep = np.arange(60) % 4 > 0
    units, shift = np.array([1e-3, 1, 1e3, 10, 1]), np.array([0, 5, -1e4, 0, 1])
    options = dict(num_classes=4, l2=0.1, mask=keep)
    plain = estimators.linear_probe(x, y, **options)
    other = x * units + shift
    moved = estimators.linear_probe(other, y, **options)
    np.testing.assert_allclose(
        estimators.linear_logits(moved, other),
        estimators.linear_logits(plain, x),
        atol=1e-6,
    )
    rows = x[keep]
    z = (x - rows.mean(0)) / rows.std(0)
    same = estimators.linear_probe(z, y, standardize=False, **options)
    np.testing.assert_allclose(
        estimators.linear_logits(same, z),
        estimators.linear_logits(plain, x),
        atol=1e-6,
    )


def test_features_that_say_nothing():
    x, y = drawn(2)
    x = np.float32(np.concatenate([x, np.full((60, 1), 1e6)], 1))
    fit = estimators.linear_probe(x, y, num_classes=3)
    assert (fit.kernel[-1] == 0).all()
    assert np.isfinite(fit.kernel).all()
    assert fit.kernel.dtype == np.float32
    assert fit.bias[2] < fit.bias[:2].min()  # a class without examples
    half = jnp.asarray(x, jnp.bfloat16)
    assert estimators.linear_logits(fit, half).dtype == np.float32


def test_fits_vmap_over_penalties_and_labels(x64):
    x, y = drawn(2, 20)
    grid = jnp.array([0.1, 1.0])

    def fit(l2):
        return estimators.fit_logistic(x, y, num_classes=2, l2=l2).kernel

    got = jax.lax.map(fit, grid)
    np.testing.assert_allclose(got, [fit(0.1), fit(1.0)], atol=1e-7)

    def bias(y):
        return estimators.fit_logistic(x, y, num_classes=2, l2=1.0).bias[1]

    assert np.isnan(jax.jit(bias)(y + 2))


def test_mean_pool():
    pool = interpreted(estimators.mean_pool)
    states = np.random.default_rng(0).normal(size=(2, 3, 4, 5)).astype("f4")
    np.testing.assert_allclose(pool(states), states.mean(-2), rtol=1e-5)
    mask = np.arange(4) < np.array([[4, 2, 0], [1, 3, 0]])[..., None]
    spoilt = np.where(mask[..., None], states, np.nan)
    got = pool(spoilt, mask)
    np.testing.assert_allclose(got[1, 1], states[1, 1, :3].mean(0), rtol=1e-5)
    np.testing.assert_array_equal(got[:, 2], np.zeros((2, 5)))
    slope = jax.grad(lambda s: estimators.mean_pool(s, mask).sum())
    assert np.isfinite(interpreted(slope)(spoilt)).all()
    half = estimators.mean_pool(jnp.ones((3, 2), jnp.bfloat16))
    assert half.dtype == np.float32


X, Y = np.zeros((3, 2)), np.zeros(3, int)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: estimators.fit_logistic(Y * 1.0, Y, num_classes=2, l2=1.0),
            r"x has shape \(3,\)",
        ),
        (
            lambda: estimators.fit_logistic(X, Y, num_classes=1, l2=1.0),
            "num_classes is 1, expected at least 2",
        ),
        (
            lambda: estimators.fit_logistic(X, Y, num_classes=2, l2=-1.0),
            "l2 is -1.0, expected at least 0",
        ),
        (
            lambda: estimators.linear_probe(X, Y + 2, num_classes=2),
            r"labels outside \[0, 2\)",
        ),
        (
            lambda: estimators.linear_probe(X[:0], Y[:0], num_classes=2),
            "features has shape",
        ),
        (
            lambda: estimators.linear_logits(
                estimators.LinearClassifier(jnp.ones((2, 3)), jnp.ones(3), 0, 0),
                X[:, :1],
            ),
            r"x has shape \(3, 1\)",
        ),
        (lambda: estimators.mean_pool(np.zeros(3)), r"states has shape \(3,\)"),
        (lambda: estimators.mean_pool(X, np.ones(2, bool)), "mask has shape"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
