import functools

import jax
import numpy as np
import pytest

from experiments.classification import breast_cancer

fold_probabilities = jax.jit(
    functools.partial(breast_cancer.fold_probabilities, inverse_penalty=1.0, steps=100)
)


@pytest.mark.usefixtures("x64")
def test_folds_do_not_see_what_they_hold_out():
    rng = np.random.default_rng(1)
    x, y = rng.normal(size=(40, 3)), rng.integers(0, 2, 40)
    train = np.arange(40)[None] >= np.array([[10], [20]])
    probs = fold_probabilities(x, y, train)
    assert probs.shape == (2, 40)
    other = np.where(np.arange(40) < 10, 1 - y, y)  # labels that the first holds out
    changed = fold_probabilities(x, other, train)
    np.testing.assert_allclose(changed, probs, rtol=1e-6)
    other = np.where(np.arange(40) >= 30, 1 - y, y)
    changed = fold_probabilities(x, other, train)
    assert np.abs(changed - probs).max(1).min() > 0.01


@pytest.mark.usefixtures("x64")
def test_a_constant_feature_does_no_harm():
    x = np.stack([np.arange(20.0), np.ones(20)], 1)
    y, train = (np.arange(20) > 9).astype(int), np.ones((1, 20), bool)
    probs = fold_probabilities(x, y, train)
    np.testing.assert_array_equal(np.asarray(probs[0]) > 0.5, y > 0)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x64", False, "config.x64 is False"),
        ("folds", 1, "config.folds is 1, expected at least 2"),
        ("inverse_penalty", 0.0, "config.inverse_penalty is 0"),
        ("steps", 0, "config.steps is 0"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("classification:breast_cancer", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("classification:breast_cancer")
    text = "our logistic regression gives scikit-learn's probabilities"
    assert done.verdicts[text].verdict == "reproduced"
    assert done.figures == ["accuracy"]
