import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.test_util import check_grads

from logitlab.losses import cross_entropy

VARIANTS = {"eager": lambda f: f, "jit": jax.jit, "vmap": jax.vmap, "pmap": jax.pmap}


def oracle(z, y):
    d = np.asarray(z, np.float64) - np.take_along_axis(z, y[..., None], -1)
    np.put_along_axis(d, y[..., None], -np.inf, -1)
    top = d.max(-1, keepdims=True)
    return np.logaddexp(0, np.log(np.exp(d - top).sum(-1)) + top[..., 0])


def one_hot(y, classes=10):
    return np.eye(classes, dtype=np.float32)[y]


@pytest.mark.parametrize("labels", [lambda y: y, one_hot], ids=["ints", "one-hot"])
@pytest.mark.parametrize("variant", VARIANTS)
@given(seed=st.integers(0, 999), log_scale=st.floats(-3, 1.5))
@settings(max_examples=8, deadline=None)
def test_matches_float64(variant, labels, seed, log_scale):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(8, 2, 10)).astype("f4") * np.float32(10**log_scale)
    y = rng.integers(0, 10, (8, 2))
    got = VARIANTS[variant](cross_entropy)(z, labels(y))
    np.testing.assert_allclose(got, oracle(z, y), rtol=1e-5)


@pytest.mark.parametrize("labels", [lambda y: y, lambda y: one_hot(y, 4)])
def test_exact_at_any_margin(labels):
    """Value and gradient against float64, margins from -80 to 80."""
    margins = np.linspace(-80, 80, 321, dtype="f4")
    z = np.stack([margins, 0 * margins, 0 * margins - 0.3, 0 * margins - 7], -1)
    y = np.zeros(len(z), int)
    np.testing.assert_allclose(cross_entropy(z, labels(y)), oracle(z, y), rtol=1e-5)
    grads = jax.grad(lambda z: cross_entropy(z, labels(y)).sum())(z)
    wide = np.exp(np.float64(z) - np.float64(z).max(-1, keepdims=True))
    p = wide / wide.sum(-1, keepdims=True)
    expected = np.concatenate([-p[:, 1:].sum(-1, keepdims=True), p[:, 1:]], -1)
    np.testing.assert_allclose(grads, expected, rtol=1e-5)


def test_distributions():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(5, 6)).astype("f4")
    q = rng.dirichlet(np.ones(6), 5).astype("f4")
    q[0, :3] = 0
    wide = np.float64(z)
    log_p = wide - np.log(np.exp(wide).sum(-1, keepdims=True))
    np.testing.assert_allclose(cross_entropy(z, q), -(q * log_p).sum(-1), rtol=1e-5)
    by_labels = jax.grad(lambda q: cross_entropy(z, q).sum())(q)
    np.testing.assert_allclose(by_labels[1:], -log_p[1:], rtol=1e-5)
    moved = cross_entropy(z.T, q.T, axis=0)
    np.testing.assert_allclose(moved, cross_entropy(z, q), rtol=1e-6)
    half = cross_entropy(z, q / 2)  # taken as it is
    np.testing.assert_allclose(half, cross_entropy(z, q) / 2, rtol=1e-6)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("labels", ["ints", "distribution"])
def test_derivatives(labels):
    z = jax.random.normal(jax.random.key(0), (4, 5))
    y = np.arange(4) if labels == "ints" else jax.nn.softmax(z[::-1])
    check_grads(lambda z: cross_entropy(z, y), (z,), order=2)


@pytest.mark.parametrize("labels", ["ints", "distribution"])
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("spec", [P("data"), P("data", "model")], ids=str)
def test_sharded(spec, kind, labels):
    mesh = jax.make_mesh((4, 2), ("data", "model"), (kind, kind))
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(8, 10)).astype("f4"), np.arange(8)
    z_on = jax.device_put(z, NamedSharding(mesh, spec))
    if labels == "ints":
        y_on = jax.device_put(y, NamedSharding(mesh, P("data")))
    else:
        y_on = jax.device_put(one_hot(y), NamedSharding(mesh, spec))
    both = jax.jit(jax.value_and_grad(lambda z, y: cross_entropy(z, y).sum()))
    compiled = both.lower(z_on, y_on).compile()
    value, grads = compiled(z_on, y_on)
    np.testing.assert_allclose(value, oracle(z, y).sum(), rtol=1e-5)
    expected = np.float64(jax.nn.softmax(z)) - one_hot(y)
    np.testing.assert_allclose(grads, expected, rtol=1e-4, atol=1e-6)
    assert "all-gather" not in compiled.as_text()


@pytest.mark.parametrize("kind", ["ints", "distribution"])
def test_edges(kind):
    def loss(z, y, **kwargs):
        z = jnp.asarray(z)
        labels = y if kind == "ints" else one_hot(y, z.shape[-1])
        return cross_entropy(z, labels, **kwargs)

    big, grad = float(np.finfo("f4").max), jax.grad(loss)
    assert loss([1.0, -np.inf], 0) == 0
    assert loss([-np.inf, -np.inf], 0) == 0  # nothing to choose from
    np.testing.assert_array_equal(grad(np.float32([-np.inf] * 2), 0), [0, 0])
    assert loss([-np.inf, 1.0], 0) == np.inf  # a hidden label, then its limit
    np.testing.assert_array_equal(grad(np.float32([-np.inf, 1]), 0), [0, 1])
    np.testing.assert_allclose(grad(np.float32([big, big]), 0), [-0.5, 0.5])
    np.testing.assert_array_equal(grad(np.float32([big, -big]), 1), [1, -1])
    assert loss(np.float32([3]), 0) == 0
    for offset in (1e4, 1e5):  # a common offset costs nothing
        z = np.float32([0, 1, 2]) + np.float32(offset)
        np.testing.assert_allclose(grad(z, 1), grad(z - z[0], 1), rtol=1e-6)
    for dtype in ("bfloat16", "float16"):
        z = jnp.array([9.0, 0.0], dtype)
        assert loss(z, 0).dtype == np.float32
        assert grad(z, 0).dtype == dtype
        np.testing.assert_allclose(loss(z, 0), np.log1p(np.exp(-9.0)), rtol=1e-5)
    where = np.array([True, True, False])
    hidden = grad(np.array([1, 2, np.nan], "f4"), 0, where=where)
    np.testing.assert_allclose(hidden[:2], grad(np.float32([1, 2]), 0), rtol=1e-6)
    assert hidden[2] == 0
    assert loss(np.zeros((0, 3), "f4"), np.zeros(0, int)).shape == (0,)


def test_bad_input():
    z = np.zeros(3, "f4")
    assert np.isnan(jax.jit(cross_entropy)(z, 3))
    for labels, error, message in [
        (3, ValueError, r"labels outside \[0, 3\)"),
        (-100, ValueError, r"labels outside \[0, 3\)"),
        (
            np.zeros((4, 1), int),
            ValueError,
            r"labels has shape \(4, 1\), expected \(\)",
        ),
        (np.zeros(4, "f4"), ValueError, r"labels has shape \(4,\), expected \(3,\)"),
    ]:
        with pytest.raises(error, match=message):
            cross_entropy(z, labels)
    with pytest.raises(TypeError, match="logits has dtype int"):
        cross_entropy(np.zeros(3, int), 0)
    with pytest.raises(TypeError, match="where has dtype float32, expected bool"):
        cross_entropy(z, 0, where=np.ones(3, "f4"))
