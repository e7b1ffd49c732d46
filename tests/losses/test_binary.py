import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.interpreter import functions, interpreted

from logitlab.losses import binary

loss = functions(binary).sigmoid_cross_entropy


def oracle(z, t, w=1.0):
    z, t = np.asarray(z, np.float64), np.asarray(t, np.float64)
    return w * t * np.logaddexp(0, -z) + (1 - t) * np.logaddexp(0, z)


def slope(z, t, w=1.0):
    z, t = np.asarray(z, np.float64), np.asarray(t, np.float64)
    return (1 - t) / (1 + np.exp(-z)) - w * t / (1 + np.exp(z))


@pytest.mark.parametrize("label", [0, 1])
def test_exact(label):
    z = np.float32([-80, -46, -30, -17, -5, -1, 0, 0.3, 2, 12, 17, 20, 40, 80])
    t = np.full(z.shape, label)

    def run(z):
        losses = binary.sigmoid_cross_entropy(z, t, positive_weight=3.0)
        return losses.sum(), losses

    (_, values), grad = jax.jit(jax.value_and_grad(run, has_aux=True))(z)
    np.testing.assert_allclose(values, oracle(z, t, 3), rtol=1e-6)
    np.testing.assert_allclose(grad, slope(z, t, 3), rtol=1e-5)


def test_soft_labels_and_weights(x64):
    rng = np.random.default_rng(0)
    z, t, w = (
        rng.normal(size=(4, 3)) * 4,
        rng.uniform(size=(4, 3)),
        np.float64([0, 1, 7]),
    )
    for weight in (w, w[None], 2.5, np.broadcast_to(w, z.shape)):
        values, grad = interpreted(
            jax.value_and_grad(
                lambda z, weight=weight: binary.sigmoid_cross_entropy(
                    z, t, positive_weight=weight
                ).sum()
            )
        )(z)
        np.testing.assert_allclose(values, oracle(z, t, weight).sum(), rtol=1e-12)
        np.testing.assert_allclose(grad, slope(z, t, weight), rtol=1e-12)
    turned = loss(z.T, t.T, positive_weight=w, axis=0)
    np.testing.assert_allclose(turned, oracle(z, t, w).T, rtol=1e-12)


def test_optax_has_the_same(x64):
    rng = np.random.default_rng(0)
    z, t = rng.normal(size=(4, 3)) * 4, rng.uniform(size=(4, 3))
    theirs = optax.losses.sigmoid_binary_cross_entropy(z, t)
    np.testing.assert_allclose(loss(z, t), theirs, rtol=1e-12)


def test_edges():
    z, t = np.float32([1e30, -1e30, -np.inf, 0]), np.array([0, 1, 1, 1])
    np.testing.assert_allclose(loss(z, t), [1e30, 1e30, 0, np.log(2)], rtol=1e-6)
    np.testing.assert_array_equal(loss(z, 1 - t)[:2], 0)
    run = interpreted(jax.grad(lambda z: binary.sigmoid_cross_entropy(z, t).sum()))
    np.testing.assert_allclose(run(z), [1, -1, 0, -0.5])
    assert loss(z.astype("bfloat16"), t).dtype == np.float32
    # A weight of 0 hides the largest of costs.
    free = loss(np.float32([-1e30]), np.array([1]), positive_weight=0.0)
    np.testing.assert_array_equal(free, 0)
    keep = np.array([True, True, False, True])
    got = loss(np.float32([1, 2, np.nan, 3]), np.array([1, 0, -7, 1]), where=keep)
    np.testing.assert_allclose(got[keep], oracle([1, 2, 3], [1, 0, 1]), rtol=1e-6)
    assert got[2] == 0
    one = jax.vmap(lambda z, t: binary.sigmoid_cross_entropy(z, t, where=t > 0))
    got = one(np.float32([1, 2]), np.array([1, 0]))
    np.testing.assert_allclose(got, [np.log1p(np.exp(-1)), 0], rtol=1e-6)
    assert np.isnan(loss(np.float32([np.nan]), np.array([1])))


def test_labels():
    z = np.zeros(3, np.float32)
    for dtype in (np.uint8, np.int8, np.int64, np.uint64, bool, np.float16):
        np.testing.assert_allclose(loss(z, np.array([1, 0, 1], dtype)), np.log(2))
    for wrong in (np.array([2, 0, 0]), np.array([2**32 + 1, 0, 0]), np.full(3, 1.5)):
        with pytest.raises(ValueError, match=r"labels outside \[0, 1\]"):
            binary.sigmoid_cross_entropy(z, wrong)
    for run in (lambda f: f, jax.jit):
        got = run(binary.sigmoid_cross_entropy)(z, jnp.array([-100, 0, 1]))
        np.testing.assert_array_equal(np.isnan(got), [True, False, False])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(positive_weight=-1.0), "positive_weight is -1.0, expected at least 0"),
        (dict(positive_weight=np.ones(2)), r"positive_weight has shape \(2,\)"),
        (dict(where=np.ones(3, bool)), "where has shape"),
        (dict(axis=2), "axis 2 is not an axis"),
    ],
)
def test_errors(options, message):
    with pytest.raises(ValueError, match=message):
        binary.sigmoid_cross_entropy(
            np.zeros((4, 3), np.float32), np.zeros((4, 3), int), **options
        )
    with pytest.raises(ValueError, match="labels has shape"):
        binary.sigmoid_cross_entropy(np.zeros((4, 3)), np.zeros(4, int))
