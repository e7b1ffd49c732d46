import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.goldens import arrays, cases
from harness.interpreter import interpreted
from harness.quickly import quick_jit

from logitlab import optim


def exponential(a=2.0, b=-0.03, c=0.5, many=100):
    return a * np.exp(b * np.arange(many)) + c


@pytest.mark.parametrize("case", cases("autolrs_forecast"))
@pytest.mark.usefixtures("x64")
def test_golden_behind_the_released_spline(case):
    """The released code fits a spline of what is left of the series (SciPy's)."""
    interpolate = pytest.importorskip("scipy.interpolate")
    (y,) = arrays(case, "losses")
    all_t = t = np.arange(y.size)
    for _ in range(10 if case["params"]["is_training"] else 1):
        off = np.abs(interpolate.UnivariateSpline(t, y, k=2)(t) - y)
        first = np.arange(t.size) < t.size // 2
        worst = off > np.percentile(off, 97)
        if not case["params"]["is_training"]:
            worst = off == off[first].max()
        t, y = t[~(worst & first)], y[~(worst & first)]
    smooth = interpolate.UnivariateSpline(t, y, k=2)(all_t)
    found = interpreted(optim.fit_exponential)(smooth)
    want = case["outputs"]
    for number, name in zip(found, "abc", strict=True):
        np.testing.assert_allclose(number, want[name], rtol=1e-4)
    ahead = found.at(case["params"]["pred_index"])
    np.testing.assert_allclose(ahead, want["forecast"], rtol=1e-4)


def test_an_exact_exponential():
    for many in (30, 100, 1000):
        y = exponential(b=-3 / many, many=many)
        found = interpreted(optim.fit_exponential)(y.astype("f4"))
        np.testing.assert_allclose(found.c, 0.5, atol=1e-3)
        np.testing.assert_allclose(found.a, 2, rtol=1e-3)
        np.testing.assert_allclose(found.b * many, -3, rtol=1e-3)
    with jax.enable_x64(True):
        found = interpreted(optim.fit_exponential)(exponential())
        np.testing.assert_allclose(found, [2, -0.03, 0.5], rtol=1e-6)


def test_rises_constants_short_series_and_outliers():
    rise = interpreted(optim.fit_exponential)(exponential(a=-1.0).astype("f4"))
    np.testing.assert_allclose(rise.at(1000), 0.5, atol=1e-3)
    assert rise.a < 0
    flat = interpreted(optim.fit_exponential)(np.full(20, 0.7, "f4"))
    np.testing.assert_allclose(flat.at(1e6), 0.7, rtol=1e-6)
    assert optim.fit_exponential(jnp.float32([3, 2, 1])).at(100) == 1
    y = exponential()
    y[::25] += 5
    trimmed = interpreted(functools.partial(optim.fit_exponential, median=2))(y)
    np.testing.assert_allclose(trimmed.at(1000), 0.5, atol=1e-2)


def quadratic(rate_of):
    """Gradient descent on 10 x², which diverges from a rate of 0.1 on."""

    def train(state, rate, steps):
        def step(x, _):
            return x - 20 * rate_of(rate) * x, 10 * x**2

        return jax.lax.scan(step, state, None, steps)

    return train


def test_a_stage_finds_a_rate_that_converges():
    stage = quick_jit(
        lambda x: optim.autolrs_stage(
            *(quadratic(lambda r: r), x, (1e-4, 10.0)),
            key=jax.random.key(0),
            steps=40,
            search_steps=10,
            candidates=10,
        )
    )(jnp.ones(()))
    assert 0.01 < stage.learning_rate < 0.1
    assert stage.losses.shape == (40,)
    assert stage.losses[-1] < 1e-3
    assert ((stage.candidates > 0.999e-4) & (stage.candidates < 10.01)).all()
    places = np.sort(np.log(stage.candidates))  # spread over the whole range
    assert np.diff(places).max() < np.log(1e5) / 4
    assert stage.forecasts.max() > 1  # a rate at which it diverges
    np.testing.assert_allclose(stage.state, 0, atol=1e-2)


def test_a_loss_that_is_not_finite_is_the_worst():
    def train(state, rate, steps):
        return state, jnp.where(rate > 0.1, jnp.nan, rate) * jnp.ones(steps)

    def search(key):
        bounds = (1e-3, 10.0)
        return optim.autolrs_stage(train, 0.0, bounds, key=key, steps=20, candidates=5)

    stage = quick_jit(search)(jax.random.key(1))
    assert stage.forecasts.max() == 1e6
    assert stage.learning_rate <= 0.1


def test_the_optimizer_searches_and_trains_in_turn():
    optimizer = optax.chain(
        optim.autolrs(
            optax.trace(0.0),
            (1e-4, 1.0),
            key=jax.random.key(0),
            search_steps=10,
            candidates=4,
        )
    )

    @quick_jit
    def run(x):
        def step(carry, _):
            x, state = carry
            updates, state = optimizer.update(20 * x, state, x, value=10 * x**2)
            x = optax.apply_updates(x, updates)
            return (x, state), (x, state[0].learning_rate, state[0].stage)

        return jax.lax.scan(step, (x, optimizer.init(x)), None, 160)[1]

    xs, rates, stages = run(jnp.ones(()))
    np.testing.assert_allclose(xs[9:40:10], 1, rtol=1e-6)  # each candidate returns
    assert len(set(rates[:40:10].tolist())) == 4
    assert len(set(rates[39:79].tolist())) == 1
    assert xs[79] < 0.1  # by the best of four rates
    np.testing.assert_allclose(xs[119], xs[79], atol=1e-6)
    assert stages.tolist() == [0] * 79 + [1] * 80 + [2]


def test_errors():
    with pytest.raises(ValueError, match=r"lr_bounds is \(0.1, 0.1\), expected a low"):
        optim.autolrs(optax.identity(), (0.1, 0.1), key=jax.random.key(0))
    with pytest.raises(ValueError, match="lr_bounds is 0, expected two positive"):
        optim.autolrs_stage(None, 0.0, (0, 1.0), key=jax.random.key(0))
    with pytest.raises(ValueError, match="candidates is 0"):
        optim.autolrs_stage(None, 0, (0.1, 1.0), key=jax.random.key(0), candidates=0)
    with pytest.raises(ValueError, match="losses has shape"):
        optim.fit_exponential(jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="times has shape"):
        optim.fit_exponential(jnp.ones(9), times=jnp.ones(8))
    with pytest.raises(ValueError, match="median is -1"):
        optim.fit_exponential(jnp.ones(9), median=-1)
    search = optim.autolrs(optax.identity(), (0.1, 1.0), key=jax.random.key(0))
    with pytest.raises(ValueError, match="search_steps is 2"):
        optim.autolrs(
            optax.identity(), (0.1, 1.0), key=jax.random.key(0), search_steps=2
        )
    with pytest.raises(ValueError, match="autolrs needs params"):
        search.update(jnp.ones(2), None, value=1.0)
