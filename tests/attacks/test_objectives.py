import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import goldens
from harness.derivatives import value_and_grad
from harness.interpreter import functions, interpreted
from scipy.special import log_softmax, softmax

from logitlab import attacks, losses
from logitlab.attacks import objectives

calls = functions(objectives)
UNTARGETED = ["cw_margin", "label_odds", "log_probability_margin", "probability_margin"]


def draw(seed, *shape, scale=3.0):
    rng = np.random.default_rng(seed)
    return rng.normal(size=shape) * scale, rng.integers(0, shape[-1], shape[:-1])


def oracle(name, z, y):
    p = softmax(z, -1)
    rows = np.arange(len(z))
    label_z, label_p = z[rows, y], p[rows, y]
    others = np.where(np.eye(z.shape[-1], dtype=bool)[y], -np.inf, z)
    best = others.argmax(-1)
    return {
        "cw_margin": others.max(-1) - label_z,
        "label_odds": np.log((1 - label_p) / label_p),
        "log_probability_margin": np.log1p(p[rows, best] - label_p),
        "probability_margin": p[rows, best] - label_p,
    }[name]


def sloped(function, *more):
    """Value and gradient of the sum, of a function of logits alone."""
    return lambda z: value_and_grad(lambda z: function(z, *more), z)


@pytest.mark.parametrize("case", goldens.cases("dlr"))
def test_dlr_golden(x64, case):
    z, labels = goldens.arrays(case, "logits", "labels")
    value, grad = sloped(attacks.dlr_loss, labels)(z)
    goldens.close(value, case["outputs"]["dlr"], 1e-9)
    goldens.close(grad, case["outputs"]["grad_dlr"], 1e-9)
    if "targets" in case["inputs"]:
        targets = np.array(case["inputs"]["targets"])
        value, grad = sloped(attacks.dlr_targeted_loss, labels, targets)(z)
        goldens.close(value, case["outputs"]["dlr_targeted"], 1e-9)
        goldens.close(grad, case["outputs"]["grad_dlr_targeted"], 1e-9)


@pytest.mark.parametrize("case", goldens.cases("pma"))
def test_pma_golden(x64, case):
    z, labels = goldens.arrays(case, "logits", "labels")
    outputs = case["outputs"]
    for loss, name in [
        (attacks.cw_margin, "logit_margin"),
        (attacks.probability_margin, "probability_margin"),
    ]:
        value, grad = sloped(loss, labels)(z)
        goldens.close(value, outputs[name], 1e-9)
        goldens.close(grad, outputs[f"grad_{name}"], 1e-9)
    margin = np.array(outputs["probability_margin"])
    value, grad = sloped(attacks.log_probability_margin, labels)(z)
    goldens.close(value, np.log1p(margin), 1e-9)
    slope = np.array(outputs["grad_probability_margin"])
    goldens.close(grad, slope / (1 + margin)[:, None], 1e-9)


@pytest.mark.parametrize("name", UNTARGETED)
def test_values(x64, name):
    function = getattr(calls, name)
    z, y = draw(0, 6, 4)
    np.testing.assert_allclose(function(z, y), oracle(name, z, y), 1e-12)
    np.testing.assert_allclose(function(z.T, y, axis=0), oracle(name, z, y), 1e-12)
    where = np.array([True, True, False, True])
    y = np.where(y == 2, 3, y)
    got = function(np.where(where, z, np.nan), y, where=where[None])
    want = oracle(name, z[:, where], np.where(y == 3, 2, y))
    np.testing.assert_allclose(got, want, 1e-12)
    z, y = draw(1, 6, 2)
    np.testing.assert_allclose(function(z, y), oracle(name, z, y), 1e-12)


def test_label_odds_is_cross_entropy_before_its_bend(x64):
    z, y = draw(2, 5, 4)
    odds, slope = sloped(attacks.label_odds, y)(z)
    loss, steep = sloped(losses.cross_entropy, y)(z)
    np.testing.assert_allclose(np.logaddexp(0, odds), loss, 1e-12)
    # One factor for all classes of an example, so that steps have the same direction.
    np.testing.assert_allclose(steep, slope / (1 + np.exp(-odds))[:, None], 1e-12)
    t = (y + 1) % 4
    got, slope = sloped(attacks.label_odds, y, t)(z)
    log_p = log_softmax(z, -1)
    rows = np.arange(5)
    np.testing.assert_allclose(got, log_p[rows, t] - log_p[rows, y], 1e-12)
    np.testing.assert_array_equal(slope, np.eye(4)[t] - np.eye(4)[y])


@pytest.mark.parametrize("name", ["label_odds", "log_probability_margin"])
def test_slopes_do_not_round_to_zero(name):
    z = np.float32([[80, 1, -2], [60, 61, -30], [17, 0, 0], [300, 0, 0.5], [3, 80, 0]])
    y = np.array([0, 1, 0, 0, 0])
    if name == "log_probability_margin":
        z, y = z[:3], y[:3]
    got, slope = sloped(getattr(attacks, name), y)(z)
    with jax.enable_x64(True):
        want, steep = sloped(getattr(attacks, name), y)(z.astype("f8"))
    assert goldens.error(got, want) < 1e-6
    np.testing.assert_allclose(got, want, 1e-5)
    np.testing.assert_allclose(slope, steep, 1e-5)
    assert np.abs(slope).max(-1).min() > 0.4


def test_blind_to_scale():
    z, y = (a.astype("f4") if a.dtype == float else a for a in draw(3, 5, 4))
    np.testing.assert_allclose(calls.dlr_loss(1024 * z, y), calls.dlr_loss(z, y), 1e-6)
    _, slope = sloped(attacks.cw_margin, y)(z)
    _, steep = sloped(attacks.cw_margin, y)(1024 * z)
    np.testing.assert_array_equal(slope, steep)


@pytest.mark.parametrize("name", [*UNTARGETED, "dlr_loss"])
def test_extremes(name):
    function = getattr(attacks, name)
    z = np.float32([[1e30, -1e30, 0], [0, 1e30, -1e30], [0, 0, 0]])
    value, slope = sloped(function, np.array([0, 2, 1]))(z)
    assert np.isfinite(value).all()
    assert np.isfinite(slope).all()
    value, slope = sloped(function, np.array([0, 0]))(np.float32([[1, -np.inf, 0]] * 2))
    assert np.isfinite(value).all()
    assert np.isfinite(slope).all()
    assert np.isnan(getattr(calls, name)(np.zeros(3, "f4"), -100))
    assert np.isnan(interpreted(function)(np.zeros(3, "f4"), 3))
    narrow, labels = jnp.zeros((2, 3), "bfloat16"), np.array([0, 1], np.uint8)
    assert jax.eval_shape(function, narrow, labels).dtype == np.float32
    slope = jax.eval_shape(jax.grad(lambda z: function(z, labels).sum()), narrow)
    assert slope.dtype == jnp.bfloat16


def test_hidden_classes_have_no_slope():
    z = np.float32([-np.inf, 1, 2])
    for y, want in ((1, -jnp.inf), (0, jnp.inf)):
        only = np.array([y == 0, True, y == 0])
        value, slope = sloped(attacks.label_odds, y)(np.where(only, z, -np.inf))
        assert value == want
        assert np.isfinite(slope).all()
    assert calls.label_odds(np.float32([-np.inf, -np.inf]), 0) == 0


def test_errors():
    z, y = np.zeros((2, 3), "f4"), np.array([0, 1])
    for call, message in [
        (lambda: attacks.dlr_loss(z[:, :2], y), "has 2 classes, dlr_loss needs at lea"),
        (lambda: attacks.dlr_loss(z[:, :2], y), "label_odds takes two"),
        (
            lambda: attacks.dlr_targeted_loss(z, y, y + 1),
            "dlr_targeted_loss needs at l",
        ),
        (lambda: attacks.label_odds(z[:, :1], y), "label_odds needs at least 2"),
        (lambda: attacks.label_odds(z, y, y), r"targets equal to the labels: \[0 1\]"),
        (lambda: attacks.label_odds(z, y, y + 2), r"targets outside \[0, 3\): \[3\]"),
        (
            lambda: attacks.label_odds(z, y, y[:1]),
            r"targets has shape \(1,\), expected",
        ),
        (lambda: attacks.dlr_loss(z, y, eps=-1), "eps is -1, expected at least 0"),
        (lambda: jax.eval_shape(attacks.dlr_loss, z[:, :2], y), "2 classes"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="targets has dtype float32"):
        attacks.label_odds(z, y, np.zeros(2, "f4"))
    got = interpreted(attacks.label_odds)(z, y, np.array([0, 2]))
    np.testing.assert_array_equal(np.isnan(got), [True, False])
