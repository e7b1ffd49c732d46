import jax
import jax.numpy as jnp
import numpy as np
from harness.interpreter import interpreted

from configs.online import get_config
from experiments.online import drift


def test_gradient_descent_is_that_of_the_text():
    moving = np.random.default_rng(0).normal(size=(5, 2)).astype("f4")
    lost = interpreted(lambda m: drift.played(drift.PLAIN, 1.0, m))(moving)
    x, want = np.zeros(2), []
    for t, center in enumerate(moving):
        want.append(np.sum((x - center) ** 2) / 2)
        x = x - (x - center) / np.sqrt(t + 1)
        x /= max(1, np.linalg.norm(x))
    np.testing.assert_allclose(lost, want, rtol=1e-5)


def test_regret_is_against_the_best_point_of_the_disc():
    still = np.broadcast_to(np.float32([3, 0]), (1, 6, 2))
    got = jax.jit(lambda m: drift._regrets(drift.PLAIN, (6,), 1.0, m))(still)
    lost = interpreted(lambda m: drift.played(drift.PLAIN, 1.0, m))(still[0])
    np.testing.assert_allclose(got[0, 0], lost.sum() - 6 * 2.0, rtol=1e-5)


def test_centers_of_every_kind():
    config = get_config("drift-smoke")
    found = drift.centers(jax.random.key(0), config)
    assert {a.shape for a in found.values()} == {(40, 2)}
    np.testing.assert_allclose(found["jumps"].sum(0), [0, 0])
    np.testing.assert_allclose(jnp.linalg.norm(found["drift/1"], axis=1), 0.8, 1e-5)


def test_bad_configs_are_refused(refused):
    refused("online:drift", "horizons", (100,), "expected two, growing")
    refused("online:drift", "turns", (), "expected growing numbers above 0")


def test_end_to_end(run_study):
    done = run_study("online:drift")
    assert done.figures == ["drift", "noise"]
    assert (done.results["optimistic"].final("fixed/40") > 0).all()
