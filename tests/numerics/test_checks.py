import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions

from logitlab import numerics
from logitlab.numerics import (
    label_nll,
    log_softmax,
    logsumexp,
    masked_mean,
    prepare_logits,
    promote_to_float32,
    softmax,
    wide_labels,
)


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    "kind",
    ["i1", "u1", "i8", "i2", "u2", "i4", "u4", "u8"],
)
def test_labels_of_every_integer_dtype(kind):
    """No label is read as another class, however narrow or wide its dtype."""
    top, calls = np.iinfo(kind).max, functions(numerics)
    for classes in (3, 200, 256, 40_000, 65_536):
        z = np.zeros((3, classes), "f4")
        known = min(classes - 1, top)
        y = np.array([2, known, 0], kind)
        want = np.log(classes)
        for run in (calls.label_nll, jax.jit(label_nll)):
            np.testing.assert_allclose(run(z, y), want, rtol=1e-6)
        narrowed = jax.jit(lambda y, z=z: label_nll(z, y))
        beyond = (
            {min(v, top) for v in (classes, top, 2**32 + 1)} if top >= classes else ()
        )
        for bad in beyond:
            with pytest.raises(ValueError, match=rf"outside \[0, {classes}\)"):
                label_nll(z, np.array([2, bad, 0], kind))
            with jax.enable_x64(True):
                got = narrowed(np.array([2, bad, 0], kind))
            np.testing.assert_array_equal(np.isnan(got), [False, True, False])
        if np.iinfo(kind).min:
            for run in (calls.label_nll, jax.jit(label_nll)):
                got = run(z, np.array([2, max(-(2**32) - 100, -top), -1], kind))
                np.testing.assert_array_equal(np.isnan(got), [False, True, True])


def test_wide_labels():
    y, least = np.array([-(2**40), -(2**32) - 1, -100, 5, 2**40]), -(2**31)
    want = [least, least, -100, 5, 2**31 - 1]
    np.testing.assert_array_equal(wide_labels(y), want)
    assert wide_labels(np.uint64(2**63)) == 2**31 - 1
    with jax.enable_x64(True):
        got = jax.jit(wide_labels)(jnp.asarray(y))
    assert got.dtype == np.int32
    np.testing.assert_array_equal(got, want)


def test_no_label():
    """A negative label costs NaN in both modes, which a mask selects out."""
    z, y = np.zeros((3, 4), "f4"), np.array([1, -100, 2])
    for run in (label_nll, jax.jit(label_nll)):
        losses = run(z, y)
        np.testing.assert_array_equal(np.isnan(losses), y < 0)
        np.testing.assert_allclose(masked_mean(losses, y != -100), np.log(4), rtol=1e-6)


def test_means_that_fit():
    big, mean = np.float32([3e38, 3e38]), jax.jit(masked_mean)
    value, slope = jax.jit(jax.value_and_grad(masked_mean))(big)
    assert value == np.float32(3e38)
    np.testing.assert_allclose(slope, [0.5, 0.5])
    assert mean(-big, np.array([True, True])) == np.float32(-3e38)
    small = np.full(1000, 1e-37, "f4")  # divided first, they would vanish
    np.testing.assert_allclose(mean(small), 1e-37, rtol=1e-6)
    ones = np.ones(2**24 + 3, "f4")  # more than float32 counts one by one
    assert mean(ones, ones > 0) == 1
    assert mean(np.float32([np.inf, 1])) == np.inf
    assert functions(numerics).masked_mean(np.zeros(0, "f4")) == 0


def test_errors():
    z = np.zeros((2, 3), "f4")
    for f in (log_softmax, softmax, logsumexp, prepare_logits):
        with pytest.raises(TypeError, match="logits has dtype int32, expected float"):
            f(np.zeros((2, 3), "i4"))
        with pytest.raises(TypeError, match="where has dtype float32, expected bool"):
            f(z, where=np.ones((2, 3), "f4"))
        with pytest.raises(ValueError, match=r"where has shape \(2,\), expected.*2, 3"):
            f(z, where=np.ones(2, bool))
        with pytest.raises(ValueError, match="axis 2 is not an axis of logits"):
            f(z, axis=2)
        with pytest.raises(TypeError, match=r"axis is \(0, 1\), expected one integer"):
            f(z, axis=(0, 1))
        with pytest.raises(
            ValueError, match=r"where has shape \(2,\), expected 2 axes"
        ):
            f(z[:, :2], where=np.ones(2, bool))  # B == C: examples or classes?
        with pytest.raises(ValueError, match=r"\(2, 0\), expected at least one class"):
            f(np.zeros((2, 0), "f4"))
        with pytest.raises(ValueError, match="is not an axis"):
            f(np.float32(1))
    with pytest.raises(TypeError, match="labels has dtype float32, expected integers"):
        label_nll(z, np.zeros(2, "f4"))
    for shape in ((2, 1), (3,), ()):
        with pytest.raises(ValueError, match=r"labels has shape .*, expected \(2,\)"):
            label_nll(z, np.zeros(shape, int))
    with pytest.raises(TypeError, match="teacher_logits has dtype"):
        prepare_logits(np.zeros(3, int), name="teacher_logits")
    with pytest.raises(TypeError, match="losses has dtype int32"):
        promote_to_float32(np.zeros(3, "i4"), "losses")


def test_masked_mean():
    mask = np.array([True, False, True])
    for wild in (np.nan, np.inf, -np.inf):
        losses = np.array([1, wild, 2], "f4")
        value, grad = jax.value_and_grad(masked_mean)(losses, mask)
        assert value == 1.5
        np.testing.assert_array_equal(grad, [0.5, 0, 0.5])
    value, grad = jax.value_and_grad(masked_mean)(losses, np.zeros(3, bool))
    assert value == 0
    np.testing.assert_array_equal(grad, [0, 0, 0])
    assert masked_mean(np.float32([1, 2])) == 1.5
    assert masked_mean(np.zeros(3, "bfloat16")).dtype == np.float32
    with pytest.raises(TypeError, match="mask has dtype int"):
        masked_mean(losses, np.ones(3, int))
    with pytest.raises(ValueError, match=r"mask has shape \(2,\), expected \(3,\)"):
        masked_mean(losses, np.ones(2, bool))


def test_ignored_labels_train():
    z, y = np.zeros((4, 4), "f4"), np.array([1, -100, 2, 0])
    z[3, 0] = -np.inf  # an infinite loss behind the mask
    mask = np.array([True, False, True, False])

    @jax.jit
    def step(z, y):
        return jax.value_and_grad(lambda z: masked_mean(label_nll(z, y), mask))(z)

    value, grad = step(z, y)
    np.testing.assert_allclose(value, np.log(4), rtol=1e-6)
    np.testing.assert_allclose(grad[0], [1 / 8, -3 / 8, 1 / 8, 1 / 8], rtol=1e-6)
    assert (grad[1::2] == 0).all()
