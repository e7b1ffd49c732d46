import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.derivatives import check_derivatives
from harness.goldens import cases
from harness.interpreter import functions
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from logitlab import links
from logitlab.links import stablemax
from logitlab.numerics import log_softmax

VARIANTS = {"eager": lambda f: f, "jit": jax.jit, "vmap": jax.vmap, "pmap": jax.pmap}
BIG = 1e30


def oracle(x):
    x = np.asarray(x, np.float64)
    return np.sign(x) * np.log1p(np.abs(x))


@pytest.mark.parametrize("variant", VARIANTS)
@given(seed=st.integers(0, 999), log_scale=st.floats(-8, 37))
@settings(max_examples=10, deadline=None)
def test_stablemax_matches_float64(variant, seed, log_scale):
    x = np.random.default_rng(seed).normal(size=(8, 2, 10))
    x = (x * 10**log_scale).astype("f4")
    np.testing.assert_allclose(VARIANTS[variant](stablemax)(x), oracle(x), rtol=1e-6)


@pytest.mark.parametrize("case", cases("stablemax"))
@pytest.mark.usefixtures("x64")
def test_stablemax_golden(case):
    x = np.array(case["inputs"]["logits"])
    link = jax.jit(stablemax)(x)
    np.testing.assert_allclose(jnp.exp(link), case["outputs"]["s"], rtol=1e-9)
    log_p = jax.jit(log_softmax)(link)
    np.testing.assert_allclose(log_p, case["outputs"]["log_stablemax"], rtol=1e-9)


def test_stablemax_slopes():
    x = np.float32([0, -0.0, 1, -1, 1e-30, -1e-30, 1e6, -1e6, BIG, -BIG])
    slope = jax.jit(jax.vmap(jax.grad(lambda x: stablemax(x[None])[0])))(x)
    # 1 from both sides of 0; below 1e-37 XLA may flush to 0
    np.testing.assert_allclose(slope, 1 / (1 + np.abs(x.astype("f8"))), 1e-6, 1e-37)
    assert np.isfinite(stablemax(x)).all()


@pytest.mark.usefixtures("x64")
def test_stablemax_derivatives():
    check_derivatives(stablemax, 3 * np.random.default_rng(0).normal(size=(4, 5)))


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_stablemax_half_precision(dtype):
    x = jnp.asarray(np.random.default_rng(0).normal(size=(3, 5)) * 100, dtype)
    assert stablemax(x).dtype == np.float32
    np.testing.assert_array_equal(stablemax(x), stablemax(x.astype("f4")))
    assert jax.grad(lambda x: stablemax(x).sum())(x).dtype == dtype


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("spec", [P("data"), P("data", "model")], ids=str)
def test_stablemax_sharded(spec, kind):
    mesh = jax.make_mesh((4, 2), ("data", "model"), (kind, kind))
    x = np.random.default_rng(0).normal(size=(8, 10)).astype("f4")
    x_on = jax.device_put(x, NamedSharding(mesh, spec))
    compiled = jax.jit(stablemax).lower(x_on).compile()
    assert "all-gather" not in compiled.as_text()
    np.testing.assert_allclose(compiled(x_on), oracle(x), rtol=1e-6)


def test_stablemax_edges():
    inf, known = np.inf, functions(links).stablemax
    np.testing.assert_array_equal(known([0.0, -inf, 0.0]), [0, -inf, 0])
    np.testing.assert_array_equal(known([-inf, -inf]), [-inf, -inf])
    where = np.array([True, False])
    shown = jax.jit(
        jax.grad(lambda x: jnp.where(where, stablemax(x, where=where), 0).sum())
    )
    for wild in (np.nan, inf, -inf, BIG):
        x = np.array([1, wild], "f4")
        np.testing.assert_array_equal(known(x, where=where)[1], -inf)
        np.testing.assert_array_equal(shown(x), [0.5, 0])
    x = np.random.default_rng(0).normal(size=(3, 5, 2)).astype("f4")
    where = np.arange(5)[None, :, None] < 3
    got = known(x, axis=1, where=where)
    np.testing.assert_allclose(got[:, :3], oracle(x[:, :3]), rtol=1e-6)
    assert (got[:, 3:] == -inf).all()
    assert known(np.zeros((0, 3), "f4")).shape == (0, 3)
    with pytest.raises(TypeError, match="logits has dtype int"):
        stablemax(np.zeros(3, int))
    with pytest.raises(ValueError, match="not an axis"):
        stablemax(x, axis=3)
    with pytest.raises(ValueError, match="at least one class"):
        stablemax(np.zeros((3, 0), "f4"))
