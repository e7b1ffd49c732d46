import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.classification import get_config
from experiments.classification import _gaussians as gaussians


def f1(positive, labels):
    hits = np.sum(positive & (labels == 1))
    return 2 * hits / max(1, positive.sum() + (labels == 1).sum())


def test_numbers_of_decisions():
    positive = np.array([True, True, False, False, False])
    labels = np.array([1, 0, 1, 0, 0])
    found = gaussians.confusion(jnp.array(positive), jnp.array(labels))
    assert float(found["f1"]) == f1(positive, labels) == 0.5
    assert float(found["balanced"]) == pytest.approx((1 / 2 + 2 / 3) / 2)
    assert float(found["accuracy"]) == pytest.approx(0.6)
    assert float(found["recall"]) == float(found["precision"]) == 0.5
    nothing = gaussians.confusion(jnp.zeros(3, bool), jnp.array([0, 0, 1]))
    assert float(nothing["f1"]) == float(nothing["precision"]) == 0


def test_no_threshold_has_more_f1():
    scores = np.float32([0.3, -1, 2, 0.1, 1])
    for labels in itertools.product([0, 1], repeat=5):
        labels = np.array(labels)
        got = f1(scores >= gaussians.best_threshold(scores, labels), labels)
        assert got == max(f1(scores >= cut, labels) for cut in scores)


def test_rows_are_those_of_the_text():
    config = get_config("anyloss")
    rows = gaussians.draw(config, 0.1, jax.random.key(0))["test"]
    x, y = np.array(rows["x"]), np.array(rows["y"])
    assert y.mean() == pytest.approx(0.1, abs=0.01)
    np.testing.assert_allclose(x[y == 1].mean(0), [1, 1], atol=0.1)
    np.testing.assert_allclose(x[y == 0].mean(0), [0, 0], atol=0.05)


def test_bad_configs_are_refused(refused):
    refused("classification:anyloss", "rates", (0.1, 1.0), "expected rates in")
    refused("classification:anyloss", "scale", 3.0, "one of config.scales")
    refused("classification:dsc", "features", 1, "expected 2 or more")


def test_anyloss_end_to_end(run_study):
    done = run_study("classification:anyloss")
    assert done.figures == ["balanced", "f1", "scale_balanced", "scale_f1"]


def test_dsc_end_to_end(run_study):
    done = run_study("classification:dsc")
    assert done.figures == ["accuracy", "alpha", "f1", "prices"]
