import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from logitlab import losses, optim


def hard_data(many=1000):
    """One point, and many copies of another one that is harder to separate from it."""
    x = np.full((many, 2), (-0.5, -1.0))
    x[0] = 0.5, -1.0
    return x, np.array([1.0] + [-1.0] * (many - 1))


def steps_of(optimizer, x, y, most=10_000):
    """Steps of gradient descent from 0 until every margin is positive."""
    labels = jnp.asarray(y < 0, int)

    def logits(w):
        z = x @ w
        return jnp.stack([z, jnp.zeros_like(z)], -1)

    def mean(w):
        return losses.cross_entropy(logits(w), labels).mean()

    def going(carry):
        w, _, steps = carry
        return (steps < most) & ((x @ w) * y <= 0).any()

    def step(carry):
        w, state, steps = carry
        updates, state = optimizer.update(
            jax.grad(mean)(w), state, w, error_mass=optim.error_mass(logits(w), labels)
        )
        return optax.apply_updates(w, updates), state, steps + 1

    start = jnp.zeros(2)
    begin = start, optimizer.init(start), 0
    return int(jax.lax.while_loop(going, step, begin)[2])


def descent(size, normalized):
    first = [optim.scale_by_inverse_error_mass()] if normalized else []
    return optax.with_extra_args_support(optax.chain(*first, optax.sgd(size)))


@pytest.mark.parametrize(
    ("normalized", "size", "want"),
    [
        *((True, s, n) for s, n in ((100.0, 2), (10.0, 2), (1.0, 16), (0.1, 157))),
        *((False, s, n) for s, n in ((100.0, 308), (10.0, 729), (1.0, 7313))),
    ],
)
@pytest.mark.usefixtures("x64")
def test_steps_of_the_paper(normalized, size, want):
    assert steps_of(descent(size, normalized), *hard_data()) == want


@pytest.mark.usefixtures("x64")
def test_perceptrons():
    x, y = hard_data()
    for normalized, want in ((True, 3), (False, 301)):
        found = optim.batch_perceptron(x, y, normalized=normalized)
        assert (found.steps, found.separated) == (want, True)
    both = optim.batch_perceptron(np.ones((2, 1)), np.array([1, -1]), max_steps=7)
    assert (both.steps, both.separated) == (7, False)


def test_error_mass_does_not_round_to_zero():
    z, y = jnp.float32([[60, 0], [0, 0]]), jnp.array([0, -100])
    mass = optim.error_mass(z, y, mask=jnp.array([True, False]))
    np.testing.assert_allclose(mass, np.exp(-60.0), rtol=1e-5)
    scaled = optim.scale_by_inverse_error_mass(max_scale=1e3)
    for bad in (np.nan, np.inf):
        got, state = scaled.update(jnp.ones(2), scaled.init(None), error_mass=bad)
        assert (got == 0).all()
        assert state.scale == 0
    got, _ = scaled.update(jnp.ones(2, "bfloat16"), scaled.init(None), error_mass=mass)
    np.testing.assert_array_equal(got, jnp.full(2, 1e3, "bfloat16"))
    got, _ = scaled.update(jnp.ones(2), scaled.init(None), error_mass=0.0)
    np.testing.assert_array_equal(got, [1e3, 1e3])


def test_errors():
    with pytest.raises(ValueError, match="max_scale is 0, expected positive"):
        optim.scale_by_inverse_error_mass(0)
    with pytest.raises(ValueError, match=r"x has shape \(2, 1\) and y \(3,\)"):
        optim.batch_perceptron(np.ones((2, 1)), np.ones(3))
    with pytest.raises(ValueError, match="expected -1 and 1"):
        optim.batch_perceptron(np.ones((2, 1)), np.array([0, 1]))
    with pytest.raises(TypeError, match="error_mass"):
        optim.scale_by_inverse_error_mass().update(jnp.ones(2), None)
