import jax
import jax.numpy as jnp
import numpy as np

from configs.preference import get_config
from experiments.preference import judges


def test_likeliest_scores_are_of_the_nearest_quality():
    seen = jnp.float32([-9.0, -0.3, 0.5, 9.0])
    logits = judges.score_logits(seen, 5, 0.8)  # -2.4, -1.2, 0, 1.2, 2.4
    np.testing.assert_array_equal(logits.argmax(-1), [0, 2, 2, 4])
    np.testing.assert_allclose(logits[1, 2], -2 * (0.3 / 0.8) ** 2, rtol=1e-5)


def test_verdicts_like_what_comes_first():
    config = get_config("judges")
    config.update(noise=0.0)
    p = judges.verdicts(jax.random.key(0), jnp.float32([0, 0, 2]), config)
    odds = np.log(p[..., 0] / p[..., 1])
    want = 2 * (3 * np.float32([[0, 0, -2], [0, 0, -2], [2, 2, 0]]) + 0.5)
    np.testing.assert_allclose(odds, want, rtol=1e-4)
    np.testing.assert_allclose(np.log(p[0, 0, 2] / p[0, 0, 0]), 0.1, atol=1e-5)


def test_end_to_end(run_study):
    done = run_study("preference:judges", seeds=1)
    assert done.figures == ["conflicts_agreement", "conflicts_likelihood", "sets"]
    assert all(np.isfinite(v.ours).all() for v in done.verdicts.values())


def test_what_cannot_be_run_is_not_built(refused):
    refused("preference:judges", "sets", (2,), "config.sets is .* from 3 to")
    refused("preference:judges", "coarse", 100, "expected growing numbers of levels")
