import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from logitlab import links, losses

GOLDEN = pathlib.Path(__file__).parent / "golden/stablemax.json"
CASES = json.loads(GOLDEN.read_text())["cases"]


def relative(got, expected):
    return np.abs(got - expected).max() / np.abs(expected).max()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", CASES)
def test_stablemax_golden(case):
    logits, labels = (np.array(a) for a in case["inputs"].values())
    out = {k: np.array(v) for k, v in case["outputs"].items()}
    linked = links.stablemax(logits)
    assert relative(np.exp(linked), out["s"]) < 1e-9
    assert relative(jax.nn.log_softmax(linked), out["log_stablemax"]) < 1e-9

    def loss(z):
        return losses.cross_entropy(links.stablemax(z), labels)

    assert relative(loss(logits), out["loss"]) < 1e-9
    value, grads = jax.value_and_grad(lambda z: loss(z).mean())(logits)
    assert relative(value, out["mean_loss"]) < 1e-9
    assert relative(grads, out["grad_logits_of_mean"]) < 1e-9


@pytest.mark.usefixtures("x64")
def test_stablemax_derivatives():
    z = jnp.array([-3.0, -0.1, 0.2, 5.0])
    check_grads(links.stablemax, (z,), order=2)


def test_stablemax_slope_at_zero_and_at_one():
    """Slopes of 0, 1/2 or NaN there are what the obvious formulas give."""
    slope = jax.vmap(jax.grad(lambda x: links.stablemax(x[None])[0]))
    x = np.float32([-1, -0.0, 0, 1, 1e30, -1e30])
    np.testing.assert_allclose(slope(x), 1 / (1 + np.abs(np.float64(x))), rtol=1e-6)


def test_stablemax_loss_is_exact_in_float32():
    """The original needs float64: logits of 1e4 are ordinary in its runs."""
    scores = np.float32([[1e6, -1e4, 3, 0.1], [-1e6, 2, 2, 1e30], [1e4, 1e4, -1, 0]])
    labels = np.array([0, 1, 0])
    s = np.where(scores >= 0, np.float64(scores) + 1, 1 / (1 - np.float64(scores)))
    picked = np.take_along_axis(s, labels[:, None], -1)[:, 0]
    rest = s.sum(-1) - picked
    expected = (
        np.log1p(np.delete(s[0], 0).sum() / picked[0]),
        *np.log((picked + rest)[1:] / picked[1:]),
    )
    got = losses.cross_entropy(links.stablemax(scores), labels)
    np.testing.assert_allclose(got, expected, rtol=1e-5)
    grads = jax.grad(lambda z: losses.cross_entropy(links.stablemax(z), labels).sum())(
        scores
    )
    assert np.isfinite(grads).all()


def test_stablemax_hides_classes():
    z = np.float32([[1, np.nan, -2], [3, 0, -np.inf]])
    where = np.array([[True, False, True], [True, True, True]])
    got = links.stablemax(z, where=where)
    np.testing.assert_array_equal(got == -np.inf, [[0, 1, 0], [0, 0, 1]])

    def loss(z):
        linked = links.stablemax(z, where=where)
        return losses.cross_entropy(linked, np.array([0, 0])).sum()

    grads = jax.grad(loss)(z)
    np.testing.assert_array_equal(grads != 0, [[1, 0, 1], [1, 1, 0]])
    kept = losses.cross_entropy(links.stablemax(z[0, ::2]), 0)
    hidden = losses.cross_entropy(got[0], 0)
    np.testing.assert_allclose(kept, hidden)


def test_stablemax_dtypes_axes_and_errors():
    assert links.stablemax(jnp.zeros(3, jnp.bfloat16)).dtype == np.float32
    z = np.random.default_rng(0).normal(size=(3, 4)).astype("f4")
    where = np.arange(3)[:, None] > 0
    np.testing.assert_array_equal(
        links.stablemax(z, axis=0, where=where), links.stablemax(z.T, where=where.T).T
    )
    assert np.isfinite(links.stablemax(np.float32([3e38, -3e38]))).all()
    with pytest.raises(TypeError, match="logits has dtype int"):
        links.stablemax(np.arange(3))
    with pytest.raises(ValueError, match="axis 2 is not an axis of logits"):
        links.stablemax(z, axis=2)
