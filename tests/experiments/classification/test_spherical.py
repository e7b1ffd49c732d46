import jax
import numpy as np
import pytest

from configs.classification import get_config
from experiments.classification import _words, spherical


def test_pairs_are_words_that_follow_each_other():
    config = get_config("spherical-smoke").words
    pairs = _words.pairs(config.modules, config.vocabulary)
    assert pairs.min() == 0
    assert pairs.max() < config.vocabulary
    first = np.bincount(pairs[:, 0], minlength=config.vocabulary)
    assert first[0] > first[-1]
    parts = _words.divided(config, jax.random.key(0))
    shapes = [part["x"].shape for part in parts.values()]
    assert shapes == [(2, 16), (30,), (30,)]
    seen = {tuple(pair) for pair in pairs.tolist()}
    rows = np.stack([parts["test"]["x"], parts["test"]["y"]], -1)
    assert {tuple(pair) for pair in rows.tolist()} <= seen


def test_guesses_are_in_the_order_of_the_probabilities():
    z = jax.random.normal(jax.random.key(0), (5, 7)) * 3
    for name, p in [
        ("ce", jax.nn.softmax(z)),
        ("taylor", 1 + z + z**2 / 2),
        ("spherical", z**2),
        ("z", z),
    ]:
        np.testing.assert_array_equal(
            np.argsort(spherical.ranked(name, z)), np.argsort(p)
        )


def test_the_best_arm_is_chosen_by_validation():
    config = get_config("spherical-smoke")

    class Result(dict):
        final = dict.__getitem__

    def result(error):
        return Result({"validation/top_5": np.array([error, error])})

    results = {"words_z_0_0.01": result(0.4), "words_z_4_0.01": result(0.3)}
    assert spherical._best(config, "z", results, 5) == "words_z_4_0.01"
    assert spherical._best(config, "z_0", results, 5) == "words_z_0_0.01"
    assert spherical._best(config, "ce", results, 5) is None


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("classification:spherical")
    assert done.figures == ["digits", "words", "words_top_5"]
    for name, result in done.results.items():
        assert all(np.isfinite(result.final(metric)).all() for metric in result), name
