import jax
import numpy as np
import pytest

from experiments.preference import coverage


def test_preferences_are_among_covered_arms():
    sizes = (3, 10, 4, 2000)
    for linear in (False, True):
        phi, reward, chosen, rejected = coverage.draw(
            sizes, 3.0, linear, jax.random.key(0)
        )
        assert phi.shape == (10, 3)
        both = np.stack([chosen, rejected])
        assert both.min() == 0
        assert both.max() == 3
        assert (both[0] != both[1]).all()
        residual = np.linalg.lstsq(phi, reward)[1]
        assert (residual < 1e-6).all() == linear
        # Bradley and Terry, by the frequency of each pair of arms.
        for a in range(4):
            for b in range(a):
                wins, losses = (
                    ((both[0] == i) & (both[1] == j)).sum() for i, j in ((a, b), (b, a))
                )
                chance = 1 / (1 + np.exp(-3 * (reward[a] - reward[b])))
                assert abs(wins / (wins + losses) - chance) < 0.1


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("etas", (0.1, 0.2, 0.3), "config.etas is .* expected 0, which is DPO"),
        ("etas", (0.0, 0.3, 0.2), "in increasing order"),
        ("problem.covered", 60, "config.problem.covered is 60, expected 2 to 59"),
        ("evaluate_every", 7, "config.evaluate_every is 7, expected a divisor"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("preference:coverage", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("preference:coverage")
    assert done.figures == ["reward", "training"]
    assert len(done.verdicts) == 5
    curve = done.results["free_0"].arrays["chosen_curve"]
    np.testing.assert_allclose(curve[:, 0], -np.log(60), rtol=1e-12)
    np.testing.assert_allclose(curve[:, -1], done.results["free_0"].final("chosen"))
    text = "the more imitation, the likelier are chosen answers"
    assert done.verdicts[text].verdict == "reproduced"
