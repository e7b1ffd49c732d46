import functools

import jax
import numpy as np
import pytest
from harness.goldens import cases, error
from harness.interpreter import interpreted

from logitlab.losses import spherical

CASES = cases("z_loss")
Z = np.float32([2, 1, 0])
LOSSES = [getattr(spherical, name) for name in spherical.__all__]


@functools.partial(interpreted, static_argnames=("loss", "a", "b"))
def value_and_grad(loss, z, labels, where=None, **hyper):
    def total(z):
        values = loss(z, labels, where=where, **hyper)
        return values.sum(), values

    (_, values), grad = jax.value_and_grad(total, has_aux=True)(z)
    return values, grad


# As users' programs are, for what rounding decides.
compiled = jax.jit(value_and_grad.__wrapped__, static_argnames=("loss", "a", "b"))


@pytest.mark.parametrize("case", CASES)
def test_golden(case, x64):
    z, y = (np.array(a) for a in case["inputs"].values())
    hyper = {k: case["params"][k] for k in ("a", "b")}
    loss, grad = value_and_grad(spherical.spherical_z_loss, z, y, **hyper)
    assert error(loss, case["outputs"]["loss"]) < 1e-8
    assert error(grad, case["outputs"]["grad_logits"]) < 1e-8


@pytest.mark.parametrize(
    ("loss", "hyper", "want"),
    [
        (spherical.spherical_z_loss, {}, 0.2576089),
        (spherical.spherical_z_loss, dict(a=0.5, b=2.0), 1.8112529),
        (spherical.taylor_softmax_loss, {}, 0.5306283),
        (spherical.spherical_softmax_loss, {}, 0.2231439),
        (spherical.spherical_mse_loss, {}, 2.0),
    ],
)
def test_hand_checks(loss, hyper, want):
    got, _ = value_and_grad(loss, Z, 0, **hyper)
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_closed_forms(x64):
    z, y = np.random.default_rng(0).normal(size=(5, 7)) * 3, np.arange(5)
    taylor, square = 1 + z + z**2 / 2, z**2 + 1e-3
    got, _ = value_and_grad(spherical.taylor_softmax_loss, z, y)
    np.testing.assert_allclose(got, -np.log(taylor[y, y] / taylor.sum(-1)), rtol=1e-10)
    got, _ = value_and_grad(spherical.spherical_softmax_loss, z, y, eps=1e-3)
    np.testing.assert_allclose(got, -np.log(square[y, y] / square.sum(-1)), rtol=1e-10)
    got, _ = value_and_grad(spherical.spherical_mse_loss, z, y)
    np.testing.assert_allclose(got, (z**2).sum(-1) - 2 * z[y, y] + 1, rtol=1e-10)


def test_z_loss_is_invariant(x64):
    z, y = np.random.default_rng(1).normal(size=(4, 6)), np.arange(4)
    hyper = dict(a=2.0, b=1.5, eps=0.0)
    loss, grad = map(
        np.asarray, value_and_grad(spherical.spherical_z_loss, z, y, **hyper)
    )
    again, _ = value_and_grad(spherical.spherical_z_loss, 9 * z - 4, y, **hyper)
    np.testing.assert_allclose(again, loss)
    np.testing.assert_allclose(grad.sum(-1), 0, atol=1e-12)
    np.testing.assert_allclose((grad * z).sum(-1), 0, atol=1e-12)


def test_z_loss_edges():
    big = np.float32(1e30)
    # Extremes and an offset; then equal scores, which cannot be standardised.
    z = np.float32([[big, 0, -big], [100002, 100001, 100000], [7, 7, 7], [0, 0, 0]])
    loss, grad = compiled(spherical.spherical_z_loss, z, np.zeros(4, int))
    np.testing.assert_allclose(loss[:2], 0.2576089, rtol=1e-6)
    np.testing.assert_allclose(loss[2:], np.log(2), rtol=1e-6)
    np.testing.assert_array_equal(grad[2:], 0)
    two = np.float32([5, 1])
    _, grad = compiled(spherical.spherical_z_loss, two, 0)  # nothing to learn from two
    np.testing.assert_allclose(grad, 0, atol=1e-7)
    assert (compiled(spherical.spherical_z_loss, two[:1], 0)[1] == 0).all()


@pytest.mark.sampled
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_edges(loss):
    z = np.float32([1, -1, 0.5]) * np.float32([[1e4], [1e18], [1e30], [1]])
    z[3] = -np.inf, 1, 2  # a hidden label
    z = np.stack([*z, np.full(3, -np.inf, "f4")])
    values, grad = map(np.asarray, compiled(loss, z, np.array([1, 1, 1, 0, 0])))
    assert np.isfinite(values[:2]).all()
    np.testing.assert_array_equal(values[3:], [np.inf, 0])
    assert np.isfinite(grad).all()
    np.testing.assert_array_equal(grad[4], 0)
    where = np.array([True, False, True])
    same, _ = compiled(loss, Z, 0, where)
    fewer, _ = compiled(loss, Z[[0, 2]], 0)
    np.testing.assert_allclose(same, fewer, rtol=1e-6)
    bad, _ = compiled(loss, Z.astype("bfloat16"), 3)
    assert np.isnan(bad)
    assert bad.dtype == np.float32
    with pytest.raises(ValueError, match="outside"):
        loss(Z, 3)


def test_errors():
    for hyper, message in [(dict(a=0.0), "a is 0.0"), (dict(eps=-1.0), "eps is -1.0")]:
        with pytest.raises(ValueError, match=message):
            spherical.spherical_z_loss(Z, 0, **hyper)
    with pytest.raises(ValueError, match="eps is 0.0"):
        spherical.spherical_softmax_loss(Z, 0, eps=0.0)


def test_scalars_decide_no_dtype(x64):
    one, z = np.float64(1), Z
    for loss, hyper in [
        (spherical.spherical_z_loss, dict(a=one, b=one, eps=one)),
        (spherical.spherical_softmax_loss, dict(eps=one)),
    ]:
        assert loss(z, 0, **hyper).dtype == np.float32
        traced = jax.jit(lambda h, loss=loss: loss(z, 0, **h))(hyper)
        assert traced.dtype == np.float32
        np.testing.assert_allclose(traced, loss(z, 0, **hyper), rtol=1e-6)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: loss.__name__)
def test_labels_of_any_integer_dtype(loss):
    z = np.random.default_rng(6).normal(size=(3, 256)).astype("f4")
    want, _ = value_and_grad(loss, z, np.array([0, 65, 255]))
    got, _ = value_and_grad(loss, z, np.uint8([0, 65, 255]))
    np.testing.assert_array_equal(got, want)
    none = loss(z, np.int8([0, -100, 3]))
    np.testing.assert_array_equal(np.isnan(none), [False, True, False])
