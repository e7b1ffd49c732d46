import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import arrays, cases, close, value_and_grad
from harness.interpreter import functions, interpreted

from logitlab import losses
from logitlab.losses import value_models

calls = functions(value_models)
RNG = np.random.default_rng(0)
PRED, TARGET, SLOPES = RNG.normal(size=(3, 20, 4))
REWARDS = RNG.normal(size=(2, 20))
BOTH = (losses.vagram_loss, losses.taylor_vaml_loss)


@pytest.mark.parametrize("case", cases("vagram"))
def test_golden(x64, case):
    pred, target, slopes, *rewards = arrays(
        case, "pred_next", "target_next", "value_grad_at_target", "pred_reward",
        "target_reward",
    )  # fmt: skip
    loss = getattr(losses, f"{case['params']['variant']}_loss")
    rewards = [r[:, 0] for r in rewards]

    def clipped_above(pred, reward):
        return loss(pred, target, slopes, reward, rewards[1], clip_floor=1e5)

    want = case["outputs"]
    values, grad = value_and_grad(clipped_above, pred, rewards[0])
    close(values, np.mean(want["per_element"], -1))
    close(values.mean(), want["mean_loss"])
    close(grad, want["grad_pred_next"])
    _, grad = value_and_grad(lambda r: clipped_above(pred, r), rewards[0])
    close(grad, np.squeeze(want["grad_pred_reward"], -1))


@pytest.mark.parametrize("case", cases("vagram"))
def test_slopes_of_the_golden_value(x64, case):
    target, w, b, want = arrays(
        case, "target_next", "value_quadratic_W", "value_linear_b",
        "value_grad_at_target",
    )  # fmt: skip
    got = interpreted(
        lambda s: losses.value_gradient(
            lambda s: jnp.einsum("...i,ij,...j->...", s, w, s) + s @ b, s
        )
    )(target)
    np.testing.assert_allclose(got, want, atol=2e-6)  # digits of the file


@pytest.mark.parametrize("quantile", [0.0, 0.3, 0.95, 1.0])
def test_steep_states_are_cut_to_the_quantile(x64, quantile):
    norms = np.linalg.norm(SLOPES, axis=-1)
    g = SLOPES * np.minimum(1, np.quantile(norms, quantile) / norms)[:, None]
    got = calls.vagram_loss(PRED, TARGET, SLOPES, clip_quantile=quantile)
    want = ((g * (PRED - TARGET)) ** 2).mean(-1)
    np.testing.assert_allclose(got, want, rtol=1e-10)
    got = calls.taylor_vaml_loss(PRED, TARGET, SLOPES, clip_quantile=quantile)
    want = (g * (PRED - TARGET)).sum(-1) ** 2
    np.testing.assert_allclose(got, want, rtol=1e-10)
    got = calls.vagram_loss(
        PRED, TARGET, SLOPES, clip_quantile=quantile, clip_floor=norms.max()
    )
    want = ((SLOPES * (PRED - TARGET)) ** 2).mean(-1)
    np.testing.assert_allclose(got, want, rtol=1e-10)


def test_rewards_and_the_unweighted_error_are_added(x64):
    error = ((PRED - TARGET) ** 2).mean(-1)
    for loss in BOTH:
        call = getattr(calls, loss.__name__)
        plain = call(PRED, TARGET, SLOPES)
        got = call(PRED, TARGET, SLOPES, *REWARDS, mse_weight=0.5)
        want = plain + 0.5 * error + (REWARDS[0] - REWARDS[1]) ** 2
        np.testing.assert_allclose(got, want, rtol=1e-12)
    flat = calls.vagram_loss(PRED, TARGET, np.ones_like(PRED))
    np.testing.assert_allclose(flat, error, rtol=1e-12)  # slopes of 1: plain MSE


def test_what_a_mask_leaves_out_is_in_no_quantile(x64):
    keep = np.arange(20) % 3 > 0
    for name in ("vagram_loss", "taylor_vaml_loss"):
        want = getattr(calls, name)(*(a[keep] for a in (PRED, TARGET, SLOPES)))
        rows = (np.where(keep[:, None], a, np.nan) for a in (PRED, TARGET, SLOPES))
        got = getattr(calls, name)(*rows, mask=keep)
        np.testing.assert_allclose(got[keep], want, rtol=1e-12)
        assert (got[~keep] == 0).all()


def test_several_value_functions_are_a_vmap(x64):
    many = np.stack([SLOPES, 2 * SLOPES])
    got = interpreted(
        lambda g: jax.vmap(losses.vagram_loss, (None, None, 0))(PRED, TARGET, g).mean(0)
    )(many)
    one = calls.vagram_loss(PRED, TARGET, SLOPES)
    np.testing.assert_allclose(got, 2.5 * one, rtol=1e-12)


def test_slopes_carry_no_gradient():
    for loss in BOTH:
        slope = interpreted(jax.grad(lambda g, f=loss: f(PRED, TARGET, g).sum()))
        np.testing.assert_array_equal(slope(SLOPES), 0)


def test_extremes():
    flat, steep = np.zeros((3, 4), "f4"), np.full((3, 4), 1e30, "f4")
    pred = np.float32(PRED[:3])
    for loss in BOTH:
        cost = interpreted(jax.value_and_grad(lambda p, g, f=loss: f(p, p, g).sum()))
        for slopes in (flat, steep):
            value, grad = cost(pred, slopes)
            assert value == 0
            np.testing.assert_array_equal(grad, 0)
        assert loss(flat[:, :1], pred[:, :1], flat[:, :1]).dtype == np.float32
    one = calls.vagram_loss(pred[0], flat[0], pred[0])  # the quantile of one is its own
    np.testing.assert_allclose(one, (pred[0] ** 4).mean(), rtol=1e-6)


def test_bad_input():
    for loss in BOTH:
        with pytest.raises(ValueError, match=r"target_next has shape \(3,\), expected"):
            loss(PRED, np.zeros(3), SLOPES)
        with pytest.raises(ValueError, match=r"value_grad has shape \(2, 4\), expect"):
            loss(PRED, TARGET, SLOPES[:2])
        with pytest.raises(ValueError, match="target_reward is None, expected both"):
            loss(PRED, TARGET, SLOPES, REWARDS[0])
        with pytest.raises(ValueError, match=r"pred_reward has shape \(3,\), expected"):
            loss(PRED, TARGET, SLOPES, np.zeros(3), REWARDS[0])
        with pytest.raises(ValueError, match=r"clip_quantile is 95, expected in \[0,"):
            loss(PRED, TARGET, SLOPES, clip_quantile=95)
        with pytest.raises(ValueError, match="clip_floor is -1, expected at least 0"):
            loss(PRED, TARGET, SLOPES, clip_floor=-1)
        with pytest.raises(ValueError, match="mse_weight is -1, expected at least 0"):
            loss(PRED, TARGET, SLOPES, mse_weight=-1)
    with pytest.raises(TypeError, match="states has dtype int"):
        losses.value_gradient(lambda s: s.sum(-1), np.arange(3))
    with pytest.raises(ValueError, match="result of value_fn has shape"):
        losses.value_gradient(jnp.sum, np.ones((2, 3)))
