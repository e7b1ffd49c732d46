import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions, interpreted

from logitlab import links, losses, optim, targets

plain = functions(losses, optim, targets)


def test_cross_loss_is_one_softmax_regression_for_each_factor(x64):
    rng = np.random.default_rng(0)
    z, q = rng.normal(size=(5, 3, 4)), rng.dirichlet(np.ones(4), (5, 3))
    take = jax.vmap(jax.value_and_grad(losses.checkered_cross_loss))
    got, grad = interpreted(take)(z, q)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    np.testing.assert_allclose(got, -(q * np.log(p)).sum((-1, -2)), rtol=1e-9)
    np.testing.assert_allclose(grad, p - q, rtol=1e-9, atol=1e-12)
    turned = plain.checkered_cross_loss(
        np.moveaxis(z, -1, 0), np.moveaxis(q, -1, 0), axis=0, factor_axis=-1
    )
    np.testing.assert_allclose(turned, got, rtol=1e-9)


def test_its_slope_is_that_of_the_loss_where_it_is_seen_from():
    z = np.random.default_rng(0).normal(size=(6, 2, 3)).astype("f4")
    y = np.arange(6) % 3

    def nll(z):
        return -jnp.take_along_axis(links.checkered(z), y[:, None], -1).sum()

    q = functions(links).checkered_responsibilities(z, y)
    cross = lambda z: losses.checkered_cross_loss(z, q).sum()  # noqa: E731
    got, want = (interpreted(jax.grad(f))(z) for f in (cross, nll))
    np.testing.assert_allclose(got, want, atol=1e-6)


def test_a_certain_target_hides_what_is_impossible():
    z, q = np.float32([[0, -np.inf], [1, 2]]), np.float32([[1, 0], [0, 1]])
    value, grad = jax.jit(jax.value_and_grad(losses.checkered_cross_loss))(z, q)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("factors", "classes"), [(1, 3), (2, 2), (3, 4)], ids=str)
def test_dirichlet_responsibilities(factors, classes):
    y = np.arange(2000) % classes
    q = plain.dirichlet_responsibilities(
        jax.random.key(0), y, factors=factors, classes=classes
    )
    assert q.shape == (2000, factors, classes)
    np.testing.assert_allclose(q.sum(-1), 1, rtol=1e-5)
    # Consistent with the label: the mean of the sum of draws, on the circle.
    if factors == 1:
        np.testing.assert_array_equal(q[:, 0], np.eye(classes)[y])
    else:
        np.testing.assert_allclose(q.mean(0), 1 / classes, atol=0.02)
        assert q.std(0).min() > 0.05  # not constant: each example draws its own
    if factors == 2:
        back = q[
            np.arange(2000)[:, None], 0, (y[:, None] - np.arange(classes)) % classes
        ]
        np.testing.assert_allclose(q[:, 1], back, rtol=1e-6)


def test_errors():
    z = np.zeros((2, 3), "f4")
    with pytest.raises(ValueError, match=r"responsibilities has shape \(3,\)"):
        losses.checkered_cross_loss(z, z[0])
    with pytest.raises(
        ValueError, match="responsibilities has a row that adds up to 0"
    ):
        losses.checkered_cross_loss(z, z)
    with pytest.raises(ValueError, match="factor_axis -1 is not another axis"):
        losses.checkered_cross_loss(z, z, factor_axis=-1)
    draw = targets.dirichlet_responsibilities
    for bad, message in (
        (dict(factors=0, classes=3), "factors is 0"),
        (dict(factors=2, classes=1), "classes is 1"),
        (dict(factors=9, classes=9), "ways to draw a label"),
        (dict(factors=2, classes=3, concentration=0.0), "concentration is 0.0"),
        (dict(factors=2, classes=1 + 1), r"labels outside \[0, 2\)"),
    ):
        with pytest.raises(ValueError, match=message):
            draw(jax.random.key(0), np.array([2]), **bad)
