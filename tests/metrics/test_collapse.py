import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from logitlab import metrics

GOLDEN = pathlib.Path(__file__).parents[1] / "golden/softmax_collapse.json"
CASES = json.loads(GOLDEN.read_text())["cases"]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("case", CASES)
def test_golden(case, bits, transform):
    logits, labels = (np.array(a) for a in case["inputs"].values())
    out, dtype = case["outputs"], f"float{bits}"
    rows = transform(lambda z: metrics.softmax_collapse_rows(z, dtype))(logits)
    np.testing.assert_array_equal(rows, out[f"collapsed_rows_f{bits}"])
    fraction = transform(lambda z: metrics.softmax_collapse_fraction(z, dtype))(logits)
    np.testing.assert_allclose(fraction, out[f"collapse_fraction_f{bits}"], rtol=1e-7)
    zeros = transform(lambda z: metrics.zero_loss_fraction(z, labels, dtype))(logits)
    np.testing.assert_allclose(zeros, out[f"zero_loss_fraction_f{bits}"], rtol=1e-7)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("transform", [lambda f: f, jax.jit], ids=["eager", "jit"])
@pytest.mark.parametrize(
    ("dtype", "bits"),
    [("bfloat16", 8), ("float16", 11), ("float32", 24), ("float64", 53)],
)
def test_thresholds_of_two_classes(dtype, bits, transform):
    """The other term is half an ulp of 1 at the margin ``bits * log 2``."""
    step = {"bfloat16": 0.05, "float16": 0.01}.get(dtype, 1e-3)
    margins = bits * np.log(2) + np.array([-step, step])
    rows = transform(lambda z: metrics.softmax_collapse_rows(z, dtype))(
        np.stack([margins, 0 * margins], -1)
    )
    np.testing.assert_array_equal(rows, [False, True])


def test_edges():
    nan, inf = np.nan, np.inf
    z = np.float32([[30, 30, 0], [nan, 0, 0], [inf, 0, 0], [5, 5, 5], [30, -inf, 0]])
    got = metrics.softmax_collapse_rows(z)
    np.testing.assert_array_equal(got, [False, False, False, False, True])
    assert metrics.softmax_collapse_rows(np.zeros((4, 1), "f4")).all()  # one class
    fraction = metrics.softmax_collapse_fraction(z, mask=jnp.arange(5) > 2)
    assert tuple(fraction) == (1, 2)


def test_zero_loss_needs_the_label_on_top():
    z = np.float32([[30, 0], [30, 0], [3, 0]])
    assert tuple(metrics.zero_loss_fraction(z, np.array([0, 1, 0]))) == (1, 3)


def test_errors():
    with pytest.raises(TypeError, match="logits has dtype int"):
        metrics.softmax_collapse_rows(np.zeros((2, 2), int))
    with pytest.raises(TypeError, match="dtype is int32"):
        metrics.softmax_collapse_rows(np.zeros((2, 2), "f4"), "int32")
    with pytest.raises(TypeError, match="jax_enable_x64"):
        metrics.softmax_collapse_rows(np.zeros((2, 2), "f4"), "float64")
    with pytest.raises(ValueError, match=r"labels has shape \(3,\), expected \(2,\)"):
        metrics.zero_loss_fraction(np.zeros((2, 2), "f4"), np.zeros(3, int))


def test_alignment_of_a_homogeneous_network():
    """Euler: <w, grad f(w)> = L f(w) for a bias-free ReLU network of depth L."""
    keys = jax.random.split(jax.random.key(0), 3)
    params = [jax.random.normal(keys[0], (3, 8)), jax.random.normal(keys[1], (8,))]
    x = jax.random.normal(keys[2], (3,))

    def network(params):
        return jax.nn.relu(x @ params[0]) @ params[1]

    grads = jax.grad(lambda p: -network(p))(params)
    norms = metrics.tree_norm(grads) * metrics.tree_norm(params)
    np.testing.assert_allclose(
        metrics.nlm_alignment(grads, params), 2 * network(params) / norms, rtol=1e-5
    )
    per_leaf = metrics.nlm_alignment(grads, params, per_leaf=True)
    for g, p, cosine in zip(grads, params, per_leaf, strict=True):
        expected = -np.vdot(g, p) / np.linalg.norm(g) / np.linalg.norm(p)
        np.testing.assert_allclose(cosine, expected, rtol=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_alignment_at_any_scale(scale):
    w = np.float32([1, 2, -2])
    got = metrics.nlm_alignment([-np.float32(scale) * w], [np.float32(scale) * w])
    np.testing.assert_allclose(got, 1, rtol=1e-6)
    assert metrics.nlm_alignment([0 * w], [w]) == 0
