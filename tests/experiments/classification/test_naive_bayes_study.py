import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.classification import naive_bayes
from logitlab.estimators import LinearClassifier

SETTINGS = dict(inverse_penalty=1.0, steps=100, var_eps=1e-9)
MIXTURE = dict(target=0.05, repeats=2, most=60, growth=1.5)


@pytest.mark.usefixtures("x64")
def test_error_of_a_linear_classifier():
    rng = np.random.default_rng(0)
    scale = np.array([2.0, 2.0, 1.0, 1.0])
    w, b = np.array([[0.5, -0.1, 0.3, 0.2]]), np.array([0.4])
    sign = rng.choice([-1, 1], 200_000)
    x = sign[:, None] + scale * rng.normal(size=(200_000, 4))
    measured = np.mean((x @ w[0] + b > 0) != (sign > 0))
    error = naive_bayes.mixture_error(_classifier(w[0], b[0]), jnp.asarray(scale))
    np.testing.assert_allclose(error, measured, atol=3e-3)
    nothing = _classifier(np.zeros(4), 0)
    assert naive_bayes.mixture_error(nothing, jnp.asarray(scale)) == 0.5


def _classifier(w, b):
    kernel, bias = np.stack([0 * w, w], 1), np.array([0, b])
    return LinearClassifier(jnp.asarray(kernel), jnp.asarray(bias), 0.0, 0)


@pytest.mark.sampled
@pytest.mark.parametrize("method", ["naive_bayes", "logistic"])
@pytest.mark.usefixtures("x64")
def test_samples_are_counted_to_the_first_size_that_does(method):
    key, features = jax.random.key(0), 10
    needed = float(
        naive_bayes.samples_needed(method, key, features, **MIXTURE, **SETTINGS)
    )
    sizes = naive_bayes.training_sizes(60, 1.5)
    scale = np.where(np.arange(features) < 5, features**0.5, 1.0)
    y = np.arange(sizes[-1]) % 2
    noise = jax.random.normal(key, (2, sizes[-1], features))
    x = 2 * y[None, :, None] - 1 + scale * np.asarray(noise)

    @jax.jit
    def one(part, size):
        mask = jnp.arange(sizes[-1]) < size
        params = naive_bayes.fit(
            method, part, jnp.asarray(y), mask, classes=2, **SETTINGS
        )
        return naive_bayes.mixture_error(params, jnp.asarray(scale))

    def error(size):
        return np.mean([one(jnp.asarray(part), size) for part in x])

    place = sizes.tolist().index(needed)
    assert place > 0
    assert error(sizes[place]) < 0.05
    assert all(error(size) >= 0.05 for size in sizes[:place])


@pytest.mark.usefixtures("x64")
def test_a_target_that_is_not_reached_gives_no_number():
    key, few = jax.random.key(0), MIXTURE | {"most": 2, "target": 1e-6}
    settings = few | SETTINGS
    assert np.isnan(naive_bayes.samples_needed("naive_bayes", key, 10, **settings))


@pytest.mark.usefixtures("x64")
def test_naive_bayes_of_two_classes():
    rng = np.random.default_rng(0)
    x, y = jnp.asarray(rng.normal(size=(30, 3))), jnp.arange(30) % 2
    mask = jnp.ones(30, bool)
    params = naive_bayes.fit("naive_bayes", x, y, mask, classes=2, **SETTINGS)
    variance = sum(np.asarray(x)[k::2].var(0) for k in (0, 1)) / 2
    means = [np.asarray(x)[k::2].mean(0) for k in (0, 1)]
    kernel, bias = params.kernel, params.bias
    want = (means[1] - means[0]) / variance
    np.testing.assert_allclose(kernel[:, 1] - kernel[:, 0], want)
    want = ((means[0] ** 2 - means[1] ** 2) / (2 * variance)).sum()
    np.testing.assert_allclose(bias[1] - bias[0], want)


def test_slope():
    samples = np.array([[10.0, 5.0], [40.0, 5.0], [90.0, 5.0]])
    got = naive_bayes._slope([20, 50, 100], samples)
    np.testing.assert_allclose(got, [1.0, 0.0])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x64", False, "config.x64 is False"),
        ("mixture.features", (20, 31), "config.mixture.features is"),
        ("mixture.target", 0.5, "config.mixture.target is 0.5"),
        ("mixture.growth", 1.0, "config.mixture.growth is 1.0"),
        ("digits.shots", (0, 1), "config.digits.shots is"),
        ("digits.test", 1797, "config.digits.test is 1797"),
        ("inverse_penalty", -1.0, "config.inverse_penalty is -1"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("classification:naive_bayes", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("classification:naive_bayes")
    verdicts = list(done.verdicts.values())
    assert [len(v.ours) for v in verdicts] == [2] * 5
    assert verdicts[-1].verdict == "reproduced"
    assert done.figures == ["digits", "samples"]


def test_too_many_digits_are_refused(run_study):
    message = "config.digits.shots has 170, but config.digits.test leaves"
    with pytest.raises(ValueError, match=message):
        run_study("classification:naive_bayes", digits__shots=(170,))
