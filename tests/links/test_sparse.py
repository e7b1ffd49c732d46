import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.derivatives import check_derivatives
from harness.goldens import cases, error
from harness.interpreter import interpreted

from logitlab import links
from logitlab.losses import cross_entropy

NAMES = ("entmax", "sparsemax", "spherical_softmax", "taylor_softmax")
Z = np.float32([2, 1, 0])


@functools.cache
def probabilities(alpha):
    return interpreted(lambda z: jnp.exp(links.entmax(z, alpha=alpha)))


@pytest.mark.parametrize("case", cases("sparsemax"))
def test_sparsemax_golden(case, x64):
    @interpreted
    def run(z, probe):
        p, pull = jax.vjp(lambda z: jnp.exp(links.sparsemax(z)), z)
        return p, *pull(probe)

    p, slope = run(*(np.array(a) for a in case["inputs"].values()))
    assert error(p, case["outputs"]["sparsemax"]) < 1e-8
    assert error(slope, case["outputs"]["vjp_probe"]) < 1e-8


@pytest.mark.parametrize("case", cases("entmax"), ids=lambda c: str(c["params"]))
def test_entmax_golden(case, x64):
    p = probabilities(**case["params"])(np.array(case["inputs"]["logits"]))
    assert error(p, case["outputs"]["probs"]) < 1e-8
    np.testing.assert_array_equal(p == 0, np.array(case["outputs"]["probs"]) == 0)


@pytest.mark.parametrize("alpha", [1.01, 1.5, 4.0])
def test_entmax_is_the_solution(alpha, x64):
    z = np.random.default_rng(0).normal(size=(3, 8))
    p = np.asarray(probabilities(alpha)(z))
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-12)
    # Optimality: z - grad Omega(p) is one number on the support, and less off it.
    level = z - p ** (alpha - 1) / (alpha - 1)
    for row, on in zip(level, p > 0, strict=True):
        np.testing.assert_allclose(row[on], row[on][0], rtol=1e-9)
        assert (row[~on] <= row[on][0] + 1e-9).all()
    check_derivatives(probabilities(alpha), z, order=2 if alpha == 1.5 else 1)


def test_entmax_in_float32():
    z = np.random.default_rng(1).normal(size=(16, 500)).astype("f4") * 3
    for alpha in (1.1, 2.0):
        p = jax.jit(probabilities(alpha))(z)
        with jax.enable_x64(True):
            want = probabilities(alpha)(z.astype(float))
        np.testing.assert_allclose(p, want, atol=1e-6)
    # Close to softmax a confident class keeps its distance from 1.
    log_p = jax.jit(lambda z: links.entmax(z, alpha=1.1))(np.float32([9, 0]))
    np.testing.assert_allclose(log_p[0], -1e-10, rtol=1e-4)


def test_polynomials(x64):
    x = np.array([-1e3, -2, -1, -0.5, 0, 0.3, 1, 2, 1e3])
    for link, want, rise in [
        (links.taylor_softmax, 1 + x + x**2 / 2, 1 + x),
        (links.spherical_softmax, x**2 + 1e-6, 2 * x),
    ]:
        g, pull = interpreted(functools.partial(jax.vjp, link))(x)
        np.testing.assert_allclose(np.exp(g), want, rtol=1e-12)
        np.testing.assert_allclose(*pull(np.ones_like(x)), rise / want, atol=1e-14)


@pytest.mark.sampled
@pytest.mark.parametrize("name", NAMES)
def test_contract(name):
    link, inf = getattr(links, name), np.inf

    @jax.jit
    def run(z):
        g, pull = jax.vjp(link, z)
        return g, *pull(jnp.ones_like(z))

    big = np.float32(1e30)
    z = np.float32([[big, -big], [big, big], [-inf, 1], [-inf, -inf], [0, 0], [1e4, 0]])
    g, slope = map(np.asarray, run(z))
    assert not np.isnan(g).any()
    assert np.isfinite(slope).all()
    assert (g[np.isneginf(z)] == -inf).all()
    # One program: hidden as deleted, another axis, 16 bits, and a sparse log loss.
    where = np.array([True, False, True])
    z = np.random.default_rng(2).normal(size=(3, 4)).astype("f4")

    @jax.jit
    def more(z):
        spoilt = jnp.where(where, Z, jnp.nan)
        return dict(
            where=(link(spoilt, where=where), link(Z[[0, 2]])),
            axis=(link(z, axis=0), link(z.T).T),
            wide=link(z.astype("bfloat16")),
            loss=jax.value_and_grad(lambda z: cross_entropy(link(z), 2))(5 * Z),
        )

    got = jax.tree.map(np.asarray, more(z))
    hidden, deleted = got["where"]
    np.testing.assert_allclose(hidden[[0, 2]], deleted, rtol=1e-6)
    assert hidden[1] == -inf
    np.testing.assert_allclose(*got["axis"], rtol=1e-6)
    assert got["wide"].dtype == np.float32
    assert not np.isnan(got["loss"][0])
    assert np.isfinite(got["loss"][1]).all()
    with pytest.raises(ValueError, match="axis"):
        link(Z, axis=1)


@pytest.mark.parametrize("alpha", [0.5, np.inf, np.nan])
def test_alpha_is_checked(alpha):
    with pytest.raises(ValueError, match="alpha is"):
        links.entmax(Z, alpha=alpha)
    with pytest.raises(ValueError, match="eps is 0"):
        links.spherical_softmax(Z, eps=0)


@pytest.mark.sampled
@pytest.mark.parametrize("alpha", [1.5, 2.0])
def test_second_derivatives_in_a_scan(alpha, x64):
    """There JAX differentiates the body of the rule, which may clip nothing."""
    x, v = np.random.default_rng(0).normal(size=(2, 4, 3))
    start, weights = np.arange(3.0), np.array([1.0, 2, 3])

    def step(carry, e):
        return jnp.exp(links.entmax(jnp.sin(carry), alpha=alpha)) * weights + e

    def scanned(x):
        carry, _ = jax.lax.scan(lambda c, e: (step(c, e), None), start, x)
        return (carry * weights).sum()

    def looped(x):
        return (functools.reduce(step, x, start) * weights).sum()

    @interpreted
    def second(x, v):
        return [jax.jvp(jax.grad(f), (x,), (v,))[1] for f in (scanned, looped)]

    got, want = second(x, v)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def test_the_iterations_leave_nothing_for_the_gradient():
    z = np.zeros((64, 200), "f4")
    weights = np.linspace(0, 1, 200, dtype="f4")[None]
    slope = jax.jit(jax.grad(lambda z: (jnp.exp(links.entmax(z)) * weights).sum()))
    memory = slope.lower(z).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 6 * z.nbytes
