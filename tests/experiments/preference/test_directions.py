import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.preference import directions


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("kind", ["reverse", "forward"])
def test_slopes_are_those_of_the_divergences(kind):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=6) * 3
    target = jax.nn.log_softmax(rng.normal(size=6) * 3)
    p, q = np.exp(jax.nn.log_softmax(logits)), np.exp(target)
    if kind == "forward":
        p, q = q, p
    found = directions.divergence(kind, logits, target)
    np.testing.assert_allclose(found, p @ np.log(p / q), rtol=1e-12)
    exact = jax.grad(lambda z: directions.divergence(kind, z, target))(logits)
    slope = directions.slope_of(kind, jnp.asarray(logits), target)
    np.testing.assert_allclose(slope, exact, atol=1e-12)


def test_end_to_end(run_study):
    done = run_study("preference:directions", seeds=1)
    assert done.figures == ["apart"]
    first, second, *_ = done.verdicts.values()
    assert first.verdict == second.verdict == "reproduced"
    curve = done.results["forward"].arrays["near_curve"]
    assert (np.diff(curve[0]) < 0).all()


def test_what_cannot_be_run_is_not_built(refused):
    refused("preference:directions", "left", 1.0, "expected it between 0 and 1")
