import jax
import numpy as np
import pytest

from experiments.preference import shift


def test_rows_are_as_likely_as_they_should_be():
    sizes = (3, 20_000)
    reward, prompt, answer, liked = map(
        np.asarray, shift.draw(sizes, 1.5, 0.9, jax.random.key(0))
    )
    assert liked.sum() == 20_000
    np.testing.assert_allclose((prompt[liked] == 0).mean(), 0.9, atol=0.01)
    np.testing.assert_allclose((prompt[~liked] == 1).mean(), 0.9, atol=0.01)
    for thumb, sign in ((liked, 1), (~liked, -1)):
        for which in (0, 1):
            chance = 1 / (1 + np.exp(-sign * reward[which]))
            rows = answer[thumb & (prompt == which)]
            found = np.bincount(rows, minlength=3) / len(rows)
            np.testing.assert_allclose(found, chance / chance.sum(), atol=0.04)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("problem.answers", 1, "config.problem.answers is 1, expected at least 2"),
        ("problem.share", 1.0, "config.problem.share is 1.0, expected a number"),
        ("evaluate_every", 7, "config.evaluate_every is 7, expected a divisor"),
        ("clip", (2.0, 10.0), "config.clip is .* expected two numbers around 1"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("preference:shift", key, value, message)


def test_end_to_end(run_study):
    done = run_study("preference:shift")
    assert done.figures == ["divergence", "training"]
    nearer = "unclipped weights bring the policy much nearer to the target"
    assert done.verdicts[nearer].verdict == "reproduced"
    starts = [
        done.results[name].arrays["divergence_curve"][:, 0] for name in done.results
    ]
    np.testing.assert_array_equal(starts, np.tile(starts[0], (4, 1)))
