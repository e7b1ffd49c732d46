import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.goldens import arrays, cases, close
from harness.interpreter import interpreted

from logitlab import optim


@pytest.mark.parametrize("case", cases("refined_schedule"))
@pytest.mark.usefixtures("x64")
def test_golden(case):
    """The released code divides by the last weight; shapes are the same."""
    norms, want = arrays(case, "grad_norms")[0], case["outputs"]
    refine = interpreted(lambda g: optim.refine_schedule(g, **case["params"]))
    close(refine(norms), want["schedule_normalized"])
    power = {"inverse_square": 2, "inverse": 1}[case["params"]["weights"]]
    w = np.asarray(want["filtered"]) ** -power
    later = np.cumsum(w[::-1])[::-1] - w
    close(w * later / w[-1], want["schedule"])


def refine(norms, **options):
    return interpreted(lambda g: optim.refine_schedule(g, **options))(norms)


def test_units_zeros_and_steps_that_were_not_finite():
    norms = np.float32([4, 3, 2, 2, 1, 1])
    want = refine(norms, smoothing=0)
    for scale in (1e-30, 1e30):
        got = refine(norms * np.float32(scale), smoothing=0)
        np.testing.assert_allclose(got, want, rtol=1e-5)
    holes = np.float32([4, 3, 2, np.nan, 1, np.inf])
    np.testing.assert_allclose(
        refine(holes, smoothing=0),
        refine(np.float32([4, 3, 2, 1.5, 1, 1]), smoothing=0),
        rtol=1e-5,
    )
    some = np.where(norms == 2, 0, norms)
    for odd in (0 * norms, np.nan * norms, norms[:1], some):
        got = refine(odd)
        assert np.isfinite(got).all()
        assert got[-1] == 0
    assert optim.refine_schedule(norms.astype("bfloat16")).dtype == np.float32


def test_a_sweep_over_schedules_is_one_program():
    def end(rates):
        optimizer = optax.sgd(optim.schedule_from_array(rates))

        def step(carry, _):
            w, state = carry
            updates, state = optimizer.update(w, state, w)
            return (optax.apply_updates(w, updates), state), None

        start = jnp.ones(())
        return jax.lax.scan(step, (start, optimizer.init(start)), None, 3)[0][0]

    many = jnp.float32([[0.5, 0.5, 0.5], [0.5, 0, 0], [0, 0, 1]])
    got = interpreted(jax.vmap(end))(many)
    np.testing.assert_allclose(got, [0.125, 0.5, 0])


def test_linear_decay():
    rate = optim.linear_decay(2.0, 10, warmup=4)
    got = [float(rate(k)) for k in range(12)]
    np.testing.assert_allclose(got[:5], [0.4, 0.8, 1.2, 1.6, 2.0], rtol=1e-6)
    np.testing.assert_allclose(np.diff(got[4:11]), -2 / 6, rtol=1e-5)
    assert got[10:] == [0, 0]


@pytest.mark.parametrize("order", [1, 2])
def test_recorded_norms(order):
    recorder = optim.record_grad_norm(3, ord=order)
    g = {"a": jnp.float32([3, -4]), "b": jnp.zeros(2, "bfloat16")}
    state = recorder.init(g)
    for scale in (1, 2, 3, 4):
        scaled = jax.tree.map(lambda a, s=scale: s * a, g)
        same, state = recorder.update(scaled, state)
        assert all(a is b for a, b in zip(same.values(), scaled.values(), strict=True))
    size = {1: 7, 2: 5}[order]
    np.testing.assert_allclose(state.norms, [4 * size, 2 * size, 3 * size], rtol=1e-6)
    assert state.count == 4


def test_large_batches():
    np.testing.assert_allclose(optim.sqrt_batch_scale(0.1, 1024, 32), 0.1 * 32**0.5)
    traced = jax.jit(lambda b: optim.sqrt_batch_scale(0.1, b, 32))(1024)
    np.testing.assert_allclose(traced, 0.1 * 32**0.5, rtol=1e-6)
    assert optim.adapt_regime([10, 20], 100, 64) == (20, 40)
    far = jax.tree.map(lambda a: a * 1e25, {"w": jnp.float32([3, 4])})
    got = optim.distance_from_init(far, {"w": jnp.zeros(2, "bfloat16")})
    np.testing.assert_allclose(got, 5e25, rtol=1e-6)


def test_errors():
    with pytest.raises(ValueError, match="weights is 'square', expected inverse_sq"):
        optim.refine_schedule(jnp.ones(3), weights="square")
    for shape in ((2, 2), (0,)):
        with pytest.raises(ValueError, match="grad_norms has shape"):
            optim.refine_schedule(jnp.ones(shape))
    with pytest.raises(ValueError, match="smoothing is 1, expected in"):
        optim.refine_schedule(jnp.ones(3), smoothing=1)
    with pytest.raises(ValueError, match="values has shape"):
        optim.schedule_from_array(jnp.ones((2, 2)))
    with pytest.raises(ValueError, match="warmup is 5, expected below 5"):
        optim.linear_decay(1.0, 5, warmup=5)
    with pytest.raises(ValueError, match="ord is 3, expected 1 or 2"):
        optim.record_grad_norm(3, ord=3)
    with pytest.raises(ValueError, match="batch is 0, expected positive"):
        optim.sqrt_batch_scale(0.1, 0, 32)
    with pytest.raises(ValueError, match="base_batch is 0"):
        optim.adapt_regime([1], 1, 0)
