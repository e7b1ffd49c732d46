import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from interpreter import interpreted

from logitlab.losses import segmentation as seg

CASES = json.loads(
    (pathlib.Path(__file__).parents[1] / "golden" / "dice_loss.json").read_text()
)["cases"]


# One program each: called eagerly, every operation compiles on its own.
dice = interpreted(seg.dice_loss, static_argnames=("alpha", "smooth", "square"))
dsc = interpreted(
    seg.dsc_loss, static_argnames=("alpha", "smooth", "square", "denominator")
)
tversky = interpreted(seg.tversky_loss, static_argnames=("alpha", "beta", "smooth"))


def close(a, b, rtol):
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    assert np.abs(a - b).max() <= rtol * np.abs(b).max()


@pytest.mark.parametrize("case", CASES)
def test_golden(x64, case):
    z, y = np.asarray(case["inputs"]["logits"]), np.asarray(case["inputs"]["labels"])
    if z.shape[1] == 1:
        f = lambda z: dice(z[:, 0], y, **case["params"])  # noqa: E731
    else:
        # The quirk of the authors' code: without squares it divides by batch sums.
        quirk = {} if case["params"]["square"] else {"denominator": "batch"}
        f = lambda z: dsc(z, y, **case["params"], **quirk)  # noqa: E731
    value, pull = interpreted(lambda z: (f(z), jax.grad(lambda z: f(z).sum())(z)))(z)
    close(value, case["outputs"]["loss"], 1e-8)
    close(pull, case["outputs"]["grad_logits"], 1e-8)


def oracle(z, y, alpha=1.0, g=1.0, square=True):
    p = np.exp(z - np.logaddexp.reduce(z, -1, keepdims=True))
    w, t = (1 - p) ** alpha * p, np.eye(z.shape[-1])[y]
    size = w**2 + t**2 if square else w + t
    return (1 - (2 * w * t + g) / (size + g)).sum(-1)


def test_float64_oracle():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(6, 4)) * 3, rng.integers(0, 4, 6)
    for hyper in ({}, {"alpha": 0.3, "square": False}, {"alpha": 0.0}):
        close(dsc(z.astype("f4"), y, **hyper), oracle(z, y, **hyper), 1e-5)
    p = 1 / (1 + np.exp(-z))
    t = (z > rng.normal(size=z.shape)).astype(int)
    want = 1 - (2 * (p * t).sum() + 1) / ((p * p).sum() + t.sum() + 1)
    close(dice(z.astype("f4"), t), want, 1e-5)
    hit, fp, fn = (p * t).sum(), (p * (1 - t)).sum(), ((1 - p) * t).sum()
    want = 1 - (hit + 1) / (hit + 0.3 * fp + 0.7 * fn + 1)
    close(tversky(z.astype("f4"), t, alpha=0.3, beta=0.7), want, 1e-5)
    half = tversky(z.astype("f4"), t, smooth=0.5)
    close(half, dice(z.astype("f4"), t, square=False), 1e-6)


@pytest.mark.parametrize("margin", [-80, -20, 20, 80])
def test_exact(x64, margin):
    """A confident answer, right or wrong, float32 against the derivative by hand."""
    sign = np.array([1, -1])
    f = lambda z: dsc(z, 0, alpha=0.0, square=False)  # noqa: E731
    value, grad = jax.jit(jax.value_and_grad(f))(np.float32([margin, 0]))
    miss, p = 1 / (1 + np.exp(float(margin))), 1 / (1 + np.exp(-float(margin)))
    close(value, miss / (p + 2) + miss / (miss + 1), 1e-5)
    slope = -(3 / (p + 2) ** 2 + 1 / (miss + 1) ** 2) * p * miss
    close(grad, slope * sign, 1e-5)
    f = lambda z: dice(z, jnp.array([1]))  # noqa: E731
    value, grad = jax.jit(jax.value_and_grad(f))(np.float32([margin]))
    close(value, miss**2 / (p * p + 2), 1e-5) if margin < 80 else None
    want = -2 * miss * p * miss / (p * p + 2) - 2 * p * p * miss**3 / (p * p + 2) ** 2
    close(grad, np.array([want]), 1e-5) if margin < 80 else None


@pytest.mark.parametrize("alpha", [0.0, 0.01, 1.0])
def test_extremes(alpha):
    f = lambda z, y: dsc(z, y, alpha=alpha).sum()  # noqa: E731
    big = 3e38
    step = jax.jit(jax.value_and_grad(f))
    z = np.float32([[big, -big, 0], [big, big, 0], [-big, 0, 1], [200, 0, 0], [0] * 3])
    for y in (0, 2):
        value, grad = step(z, np.full(5, y))
        assert np.isfinite(value)
        assert np.isfinite(grad).all()
    assert dsc(np.float32([5]), 0, alpha=0.0) == 0  # one class
    hidden = np.float32([[0, -np.inf, 1], [-np.inf] * 3])
    got = dsc(hidden, np.array([0, 1]), alpha=alpha)
    np.testing.assert_allclose(
        got, [float(dsc(np.float32([0, 1]), 0, alpha=alpha)), 0], rtol=1e-6
    )
    assert np.isfinite(jax.grad(f)(hidden, np.array([0, 1]))).all()


def test_small_alpha_far_out(x64):
    # (1 - p) ** alpha does not vanish where 1 - p has underflowed.
    got = dsc(np.float32([200, 0]), 0, alpha=0.01)
    w = np.exp(-0.01 * 200.0)
    np.testing.assert_allclose(got, (1 - w) ** 2 / (w * w + 2), rtol=1e-5)


def test_masks():
    rng = np.random.default_rng(1)
    z, y = rng.normal(size=(5, 4)).astype("f4"), rng.integers(0, 4, 5)
    keep = np.array([1, 1, 0, 1, 0], bool)
    bad = np.where(keep, y, -100)
    for loss in (dice, tversky):
        got = loss(np.where(keep[:, None], z, np.nan), bad, mask=keep)
        np.testing.assert_allclose(got, loss(z[keep], y[keep]), rtol=1e-6)
        assert loss(z, bad * 0 - 100, mask=keep & False) == 0
    where = np.array([[1, 0, 1, 1]], bool)
    y = y * 0
    got = dsc(z, y, where=where)
    np.testing.assert_allclose(got, dsc(z[:, where[0]], y), rtol=1e-6)
    got = dice(z[0], np.array([1, 0, 1, 1]), where=where[0])
    want = dice(z[0, where[0]], np.array([1, 1, 1]))
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_nothing_there():
    f = lambda z: dice(z, jnp.zeros(3, int), smooth=0.0)  # noqa: E731
    value, grad = jax.value_and_grad(f)(np.float32([-3e38] * 3))
    assert value == 0
    assert (grad == 0).all()
    assert dice(np.float32([-40] * 3), np.zeros(3, int)) < 1e-30


def test_errors():
    z = np.zeros((2, 3), "f4")
    with pytest.raises(ValueError, match="labels outside"):
        seg.dice_loss(z, np.array([0, 3]))
    with pytest.raises(ValueError, match="labels outside"):
        seg.dsc_loss(z[0], np.array([0, 2, 1]))
    assert np.isnan(jax.jit(seg.dice_loss)(z, np.array([0, 3])))
    with pytest.raises(ValueError, match="smooth is -1"):
        seg.tversky_loss(z, np.array([0, 1]), smooth=-1)
    with pytest.raises(ValueError, match="denominator is 'all'"):
        seg.dsc_loss(z, np.array([0, 1]), denominator="all")
    with pytest.raises(ValueError, match="labels has shape"):
        seg.dsc_loss(z, np.array([0, 1, 2]))
