import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import cases

from logitlab.losses import cross_entropy
from logitlab.metrics import (
    Mean,
    nlm_alignment,
    softmax_collapse_fraction,
    softmax_collapse_rows,
    tree_norm,
    zero_loss_fraction,
)

MARGINS = {"float16": 7.62, "bfloat16": 5.55, "float32": 16.64, "float64": 36.74}
jitted = jax.jit(softmax_collapse_rows, static_argnames="dtype")


@pytest.mark.sampled(3)
@pytest.mark.parametrize("bits", [16, 32, 64])
@pytest.mark.parametrize("case", cases("softmax_collapse"))
@pytest.mark.usefixtures("x64")
def test_golden(case, bits):
    z, y = (np.array(case["inputs"][name]) for name in ("logits", "labels"))
    want, dtype = case["outputs"], f"float{bits}"
    rows = want[f"collapsed_rows_f{bits}"]
    np.testing.assert_array_equal(softmax_collapse_rows(z, dtype), rows)
    np.testing.assert_array_equal(jitted(z, dtype=dtype), rows)
    got = float(softmax_collapse_fraction(z, dtype))
    assert got == pytest.approx(want[f"collapse_fraction_f{bits}"])
    got = float(zero_loss_fraction(z, y, dtype))
    assert got == pytest.approx(want[f"zero_loss_fraction_f{bits}"])


@pytest.mark.parametrize("rows", [softmax_collapse_rows, jitted], ids=["eager", "jit"])
@pytest.mark.parametrize("dtype", MARGINS)
@pytest.mark.usefixtures("x64")
def test_thresholds(dtype, rows):
    """A class is absorbed from a margin of (bits of the mantissa + 1) ln 2 on."""
    ulp = float(jnp.finfo(dtype).eps)
    want = MARGINS[dtype]
    step = 8 * want * ulp  # the margin itself is rounded to the dtype
    z = np.array([[want + 0.01 + step, 0], [want - 0.01 - step, 0]])
    np.testing.assert_array_equal(rows(z, dtype=dtype), [True, False])
    np.testing.assert_array_equal(rows(jnp.asarray(z, dtype)), [True, False])
    z -= 1.0  # only differences count, as far as the dtype holds them
    np.testing.assert_array_equal(rows(z[:, ::-1], dtype=dtype), [True, False])


@pytest.mark.sampled(2)
@pytest.mark.optimized
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32"])
def test_jit_rounds_as_eager_does(dtype):
    rng = np.random.default_rng(0)
    z = (rng.normal(size=(4096, 5)) * 4).astype("f4")
    z[:, 0] += 6 if dtype != "float32" else 16
    eager = np.asarray(softmax_collapse_rows(z, dtype))
    np.testing.assert_array_equal(jitted(z, dtype=dtype), eager)
    np.testing.assert_array_equal(jitted(jnp.asarray(z, dtype)), eager)
    assert 0.05 < eager.mean() < 0.95
    if dtype != "bfloat16":  # NumPy has no such type
        narrow = z.astype(dtype)
        e = np.exp(narrow - narrow.max(-1, keepdims=True))
        want = e.astype("f4").sum(-1).astype(dtype) == 1
        assert (want == eager).mean() > 0.99  # its exp may round the other way


def test_collapse_edges():
    nan, inf = np.nan, np.inf
    z = np.float32(
        [
            [50, 50, 0],
            [nan, 50, 0],
            [inf, 0, 0],
            [inf, inf, 0],
            [-inf] * 3,
            [50, -inf, 0],
        ]
    )
    want = [False, False, False, False, False, True]
    np.testing.assert_array_equal(softmax_collapse_rows(z), want)
    np.testing.assert_array_equal(jitted(z), want)
    assert softmax_collapse_rows([3.0]).item()  # one class is all there is
    assert softmax_collapse_rows(np.zeros((0, 3), "f4")).shape == (0,)
    assert softmax_collapse_rows(np.float32([[1e6, 0]]), "float16").shape == (1,)
    mask = np.array([True, False, False, False, False, True])
    assert softmax_collapse_fraction(z, mask=mask) == Mean(1, 2)
    y = np.array([0, 0, 0, 0, 0, 2])
    assert zero_loss_fraction(z, y) == Mean(0, 6)
    assert zero_loss_fraction(z, 0 * y, mask=mask) == Mean(1, 2)
    with pytest.raises(TypeError, match="logits has dtype int"):
        softmax_collapse_rows(np.zeros((2, 3), int))
    with pytest.raises(TypeError, match="dtype is int32"):
        softmax_collapse_rows(z, "int32")
    with pytest.raises(TypeError, match="float64, expected jax_enable_x64"):
        softmax_collapse_rows(z, "float64")
    with pytest.raises(TypeError, match="labels has dtype float"):
        zero_loss_fraction(z, y.astype("f4"))
    with pytest.raises(ValueError, match=r"labels has shape \(2,\), expected \(6,\)"):
        zero_loss_fraction(z, y[:2])


def test_nlm_alignment():
    rng = np.random.default_rng(0)
    params = {"w": rng.normal(size=(3, 4)), "b": rng.normal(size=4)}
    grads = {"w": rng.normal(size=(3, 4)), "b": rng.normal(size=4)}
    cosine = lambda g, p: -(g @ p) / np.linalg.norm(g) / np.linalg.norm(p)  # noqa: E731
    flat = lambda tree: np.concatenate([tree["w"].ravel(), tree["b"]])  # noqa: E731
    want = cosine(flat(grads), flat(params))
    each = {k: cosine(grads[k].ravel(), params[k].ravel()) for k in params}
    align = jax.jit(nlm_alignment, static_argnames="per_leaf")
    for scale_g, scale_p in ((1, 1), (1e-30, 1e25), (1e25, 1e-30), (1e-36, 1)):
        g = jax.tree.map(lambda a, s=scale_g: (a * s).astype("f4"), grads)
        p = jax.tree.map(lambda a, s=scale_p: (a * s).astype("f4"), params)
        np.testing.assert_allclose(align(g, p), want, rtol=1e-5)
        for name, got in align(g, p, per_leaf=True).items():
            np.testing.assert_allclose(got, each[name], rtol=1e-5)
    zeros = jax.tree.map(np.zeros_like, g)
    assert align(zeros, p) == align(g, zeros) == align(zeros, zeros) == 0
    half = jax.tree.map(lambda a: jnp.asarray(a, "bfloat16"), params)
    assert align(half, half).dtype == np.float32
    np.testing.assert_allclose(align(half, half), -1, rtol=1e-6)


def test_nlm_of_a_homogeneous_network():
    """Euler: along its own weights, a bias-free ReLU net of depth 2 grows by 2 f."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(16, 5)).astype("f4"), np.arange(16) % 3
    params = [rng.normal(size=s).astype("f4") for s in ((5, 8), (8, 3))]

    @jax.jit
    def measure(params):
        net = lambda params: jax.nn.relu(x @ params[0]) @ params[1]  # noqa: E731
        loss = lambda z: cross_entropy(z, y).mean()  # noqa: E731
        grads = jax.grad(lambda params: loss(net(params)))(params)
        pull = (jax.grad(loss)(net(params)) * net(params)).sum()
        want = -2 * pull / tree_norm(grads) / tree_norm(params)
        return nlm_alignment(grads, params), want

    np.testing.assert_allclose(*measure(params), rtol=1e-4)
