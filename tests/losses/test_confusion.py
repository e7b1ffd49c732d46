import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import cases, close
from harness.interpreter import interpreted

from logitlab import metrics
from logitlab.losses import confusion

CASES = cases("anyloss")
METRICS = {"Fbeta": "fbeta", "Gmean": "gmean", "BAccu": "balanced_accuracy"}


# One program each: called eagerly, every operation compiles on its own.
anyloss = interpreted(
    confusion.anyloss, static_argnames=("metric", "beta", "scale", "sqrt")
)
soft_confusion = interpreted(metrics.soft_confusion)


@pytest.mark.parametrize("case", CASES)
def test_golden(x64, case):
    params = case["params"]
    form, metric = params["metric"].split("_")
    f = lambda z: anyloss(  # noqa: E731
        z,
        np.asarray(case["inputs"]["labels"]),
        metric=METRICS[metric],
        beta=params["beta"],
        scale=None if form == "Pure" else params["amplify"],
        eps=params["eps"],
    )
    value, grad = interpreted(jax.value_and_grad(f))(
        np.asarray(case["inputs"]["logits"])
    )
    close(value, case["outputs"]["loss"], 1e-8)
    close(grad, case["outputs"]["grad_logits"], 1e-8)


def oracle(z, t, metric, b=1.0, eps=1e-5, scale=73.0):
    q = 1 / (1 + np.exp(-scale * (1 / (1 + np.exp(-z)) - 0.5)))
    tp, n1, n0 = (t * q).sum(), t.sum(), (1 - t).sum()
    tn = len(z) - n1 - q.sum() + tp
    return (
        1
        - {
            "accuracy": (tp + tn) / len(z),
            "fbeta": (1 + b * b) * tp / (b * b * n1 + q.sum() + eps),
            "balanced_accuracy": (n0 * tp + n1 * tn) / (2 * n1 * n0 + eps),
            "gmean": tp * tn / (n1 * n0 + eps),
            "root": np.sqrt(tp * tn / (n1 * n0 + eps) + eps),
        }[metric]
    )


def test_every_metric_against_float64():
    rng = np.random.default_rng(0)
    z, t = rng.normal(size=9), np.array([1, 0, 0, 1, 0, 0, 0, 1, 0])
    for name in ("accuracy", "fbeta", "balanced_accuracy", "gmean", "root"):
        hyper = (
            {"metric": name} if name != "root" else {"metric": "gmean", "sqrt": True}
        )
        got = anyloss(z.astype("f4"), t, **hyper)
        close(got, oracle(z, t, name), 1e-5)
    got = anyloss(z.astype("f4"), t, beta=2.0, scale=10.0)
    close(got, oracle(z, t, "fbeta", b=2.0, scale=10.0), 1e-5)
    probs = 1 / (1 + np.exp(-z))
    tn, fp, fn, tp = soft_confusion(probs.astype("f4"), t)
    close(np.array([tn + fp, fn + tp, tp]), np.array([6, 3, (probs * t).sum()]), 1e-6)


@pytest.mark.parametrize("margin", [-80, -20, 20, 80])
def test_exact_without_amplification(x64, margin):
    f = lambda z: anyloss(z, jnp.array([1, 0]), metric="accuracy", scale=None)  # noqa: E731, E501
    z = np.float32([margin, -margin])
    value, grad = jax.jit(jax.value_and_grad(f))(z)
    q = 1 / (1 + np.exp(float(margin)))
    close(value, q, 1e-5)
    close(grad, np.array([-1, 1]) * q / (1 + np.exp(-float(margin))) / 2, 1e-5)


def test_classes_are_one_against_the_rest():
    rng = np.random.default_rng(1)
    z, y = rng.normal(size=(6, 3)).astype("f4"), np.array([0, 1, 2, 0, 1, 1])
    p = np.asarray(jax.nn.softmax(z))
    s = np.log(p) - np.log1p(-p)
    want = np.mean([oracle(s[:, c], (y == c) * 1, "fbeta") for c in range(3)])
    close(anyloss(z, y), want, 1e-4)
    # A class that is hidden everywhere is not averaged.
    z = np.concatenate([z, np.zeros((6, 1), "f4")], 1)
    where = np.array([[1, 1, 1, 0]], bool)
    np.testing.assert_allclose(anyloss(z, y, where=where), want, rtol=1e-4)


def test_hybrid(x64):
    rng = np.random.default_rng(3)
    z, t = rng.normal(size=9) * 3, np.array([1, 0, 0, 1, 0, 0, 0, 1, 0])
    p = 1 / (1 + np.exp(-z))
    bce = np.mean(-6 / 9 * t * np.log(p) - 3 / 9 * (1 - t) * np.log(1 - p))
    hybrid = interpreted(confusion.anyloss_hybrid, static_argnames="metric")
    for metric in ("fbeta", "gmean"):
        rest = anyloss(z, t, metric=metric, scale=None)
        for ratio in (0.0, 0.3, 1.0):
            want = (1 - ratio) * bce + ratio * rest
            got = hybrid(z, t, metric=metric, ratio=ratio)
            np.testing.assert_allclose(got, want, rtol=1e-12)
    keep = np.arange(12) < 9
    bad = np.pad(z, (0, 3), constant_values=np.nan), np.pad(t, (0, 3)) - 7 * ~keep
    np.testing.assert_allclose(hybrid(*bad, mask=keep), hybrid(z, t), rtol=1e-12)
    assert hybrid(*bad, mask=~keep & keep, metric="accuracy") == 0
    with pytest.raises(ValueError, match="ratio is 2, expected a number from 0 to 1"):
        confusion.anyloss_hybrid(z, t, ratio=2)


def test_splitter():
    z = np.float32([-1e30, -80, -20, -1, 0, 1e-3, 2, 30, 80])
    value, pull = jax.vjp(confusion.splitter_penalty, z)
    x = np.abs(z.astype(np.float64))
    want = np.exp(-x) / (1 + np.exp(-x)) ** 2
    np.testing.assert_allclose(value, want, rtol=1e-5)
    (grad,) = pull(np.ones_like(z))
    slope = -np.sign(z) * want * np.tanh(x / 2)
    np.testing.assert_allclose(grad, slope, rtol=1e-5)


def test_a_mask_of_examples_with_several_labels():
    rng = np.random.default_rng(4)
    z, t = rng.normal(size=(5, 3)).astype("f4"), rng.integers(0, 2, (5, 3))
    keep = np.arange(5) != 2
    spoilt = np.where(keep[:, None], z, np.nan), np.where(keep[:, None], t, -100)
    np.testing.assert_allclose(
        anyloss(*spoilt, mask=keep), anyloss(z[keep], t[keep]), rtol=1e-6
    )


def test_mask_and_edges():
    rng = np.random.default_rng(2)
    z, t = rng.normal(size=8).astype("f4"), np.arange(8) % 2
    keep = np.arange(8) < 5
    bad = np.where(keep, t, -100)
    f = jax.jit(
        jax.value_and_grad(
            lambda z, m: anyloss(z, jnp.asarray(bad), mask=m, scale=10.0)
        )
    )
    value, grad = f(np.where(keep, z, np.nan), keep)
    close(value, anyloss(z[keep], t[keep], scale=10.0), 1e-6)
    assert (grad[5:] == 0).all()
    value, grad = f(z, keep & (t == 0))  # no positives
    assert value == 1
    assert (grad == 0).all()
    value, grad = f(np.float32([1e30, -1e30, 0, 1, 2, 3, 4, 5]), keep)
    assert np.isfinite(value)
    assert np.isfinite(grad).all()
    for metric in ("accuracy", "fbeta", "balanced_accuracy", "gmean"):
        for loss in (anyloss, confusion.anyloss_hybrid):
            assert loss(z, bad, metric=metric, mask=keep & False) == 0
    assert np.isnan(anyloss(z, bad, metric="accuracy"))


def test_errors():
    z, t = np.zeros(2, "f4"), np.array([0, 1])
    with pytest.raises(ValueError, match="metric is 'f1', expected one of"):
        confusion.anyloss(z, t, metric="f1")
    with pytest.raises(ValueError, match="scale is 0"):
        confusion.anyloss(z, t, scale=0)
    with pytest.raises(ValueError, match="labels outside"):
        confusion.anyloss(z, t + 1)
    with pytest.raises(ValueError, match="mask has shape"):
        confusion.anyloss(z, t, mask=np.ones(3, bool))
