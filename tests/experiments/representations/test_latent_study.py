import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from experiments.representations import latent


def test_least_squares(x64):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(20, 3)), rng.normal(size=20)
    keep = np.arange(20) < 12
    w, offset = interpreted(latent.least_squares)(x, y, keep, 1e-12)
    some = np.concatenate([x, np.ones((20, 1))], 1)[:12]
    want = np.linalg.lstsq(some, y[:12])[0]
    np.testing.assert_allclose([*w, offset], want, rtol=1e-8)


def test_excess_risks_fall_with_examples(x64):
    key = jax.random.key(0)
    sizes = 6, 1, 4000, 2000
    few, some = latent.excess_risks(sizes, key, 4000, 20, 0.7)
    many, most = latent.excess_risks(sizes, key, 4000, 2000, 0.7)
    assert 0 < many < few
    assert 0 < most < some
    assert many < 1e-3


@pytest.mark.slow
def test_errors_of_far_clouds_vanish(x64):
    errors = latent.mixture_errors(
        (2, 3, 60, 20, 50), jax.random.key(0), 30.0, jnp.array([20])
    )
    np.testing.assert_allclose(errors, [[0], [0]])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x64", False, "config.x64 is False"),
        ("factor.rank", 50, "config.factor.rank is 50"),
        ("mixture.labeled", (5,), "config.mixture.labeled is"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("representations:latent", key, value, message)


def test_end_to_end(run_study):
    done = run_study("representations:latent")
    assert done.figures == ["factor", "few", "mixture"]
    for arm in done.results.values():
        assert (arm.final("excess/40/10") > 0).all()
