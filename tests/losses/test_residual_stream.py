import jax
import numpy as np
import pytest
from harness.interpreter import functions, interpreted

from logitlab import losses
from logitlab.losses import residual_stream

calls = functions(residual_stream)
STREAM = (
    np.random.default_rng(0).normal(size=(2, 4, 6)) * np.array([9, 1, 2, 3])[:, None]
)
ORDINARY = np.broadcast_to(np.arange(4) > 0, (2, 4))


def plain(h, keep, target):
    std = np.sqrt(h.var(-1) + 1e-5)
    return ((std - std[target & keep].mean())[keep] ** 2).mean()


def test_it_is_its_formula(x64):
    keep = np.ones((2, 4), bool)
    got = calls.residual_std_loss(STREAM)
    np.testing.assert_allclose(got, plain(STREAM, keep, keep), rtol=1e-10)
    got = calls.residual_std_loss(STREAM, target_mask=ORDINARY)
    np.testing.assert_allclose(got, plain(STREAM, keep, ORDINARY), rtol=1e-10)
    keep[1, 2:] = False
    hidden = np.where(keep[..., None], STREAM, np.nan)
    got = calls.residual_std_loss(hidden, mask=keep, target_mask=ORDINARY)
    np.testing.assert_allclose(got, plain(STREAM, keep, ORDINARY), rtol=1e-10)


def test_the_slope_does_not_go_through_the_mean(x64):
    std = np.sqrt(STREAM.var(-1) + 1e-5)
    centered = STREAM - STREAM.mean(-1, keepdims=True)
    want = 2 / 8 * (std - std[ORDINARY].mean())[..., None] * centered
    want = want / std[..., None] / 6
    slope = interpreted(
        jax.grad(lambda h: losses.residual_std_loss(h, target_mask=ORDINARY))
    )(STREAM)
    np.testing.assert_allclose(slope, want, atol=1e-12)


def test_extremes_and_bad_input():
    for stream in (np.full((3, 4), 1e30, "f4"), np.zeros((3, 4), "f4")):
        value, slope = interpreted(jax.value_and_grad(losses.residual_std_loss))(stream)
        assert value == 0
        np.testing.assert_array_equal(slope, 0)
    nothing = np.zeros((2, 4), bool)
    assert calls.residual_std_loss(np.float32(STREAM), mask=nothing) == 0
    with pytest.raises(ValueError, match=r"target_mask has shape \(4,\), expected"):
        losses.residual_std_loss(STREAM, target_mask=np.ones(4, bool))
    with pytest.raises(ValueError, match="residual is a scalar"):
        losses.residual_std_loss(1.0)
