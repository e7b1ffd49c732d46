import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.evaluation import sampling


def test_the_basis_is_orthonormal():
    x, phi = sampling.legendre(200, 5)
    np.testing.assert_allclose(phi.T @ phi / 200, np.eye(5), atol=1e-12)
    for power in range(5):  # and spans the polynomials
        np.testing.assert_allclose(phi @ (phi.T @ x**power) / 200, x**power, atol=1e-12)


@pytest.mark.parametrize("name", list(sampling.LABELS))
def test_every_sampler_is_unbiased(x64, name):
    """The weighted Gram matrix of the points is the identity on average."""
    _, phi = sampling.legendre(12, 2)
    draw, weights = sampling.sampler(name, jnp.asarray(phi), 4)
    rows = np.asarray(
        jax.jit(jax.vmap(draw))(jax.random.split(jax.random.key(0), 4000))
    )
    assert rows.shape == (4000, 4)
    p = phi[rows]
    grams = np.einsum("sn,sni,snj->sij", np.asarray(weights)[rows], p, p) / 4
    error = grams.std(0) / 4000**0.5
    assert (np.abs(grams.mean(0) - np.eye(2)) < 4 * error + 1e-12).all()


def test_measures_of_a_draw(x64):
    """No fit beats the projection; the weights make the trace of a Gram matrix 2."""
    _, phi = sampling.legendre(6, 2)
    targets = np.random.default_rng(0).normal(size=(6, 1))
    keys = jax.random.split(jax.random.key(0), 50)
    inverse, near, errors = sampling.measured("optimal", 6, keys, phi, targets)
    assert (np.asarray(errors) >= 1 - 1e-12).all()
    assert (np.asarray(inverse) >= 1 - 1e-12).all()
    assert near.shape == (50,)


def test_identities(x64):
    found = sampling.enumerated(jax.random.key(1))
    assert max(found.values()) < 1e-10


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x64", False, "config.x64 is False"),
        ("functions", ("cosine",), "config.functions"),
        ("points", (), "config.points is"),
        ("points", (15, 20), "config.points is"),
        ("points", (10, 20, 15), "config.points is"),
        ("grid", 9, "config.grid is 9"),
        ("draws", 0, "config.draws is 0"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("evaluation:sampling", key, value, message)


def test_end_to_end(run_study):
    done = run_study("evaluation:sampling")
    assert done.figures == ["error_abs", "inverse"]
    for name in sampling.LABELS:
        assert (done.results[name].final("error/abs/6") >= 1).all()
    identities = [t for t in done.verdicts if t.startswith("volume sampling: ")]
    assert [done.verdicts[t].verdict for t in identities] == ["reproduced"] * 3
