import jax
import numpy as np
import pytest

from configs.metric_learning import get_config
from experiments.metric_learning import _embeddings, mining


def test_digits_are_numbered_by_their_place():
    x, y = _embeddings.classes_of_digits((6, 3))
    assert x.shape == (len(y), 64)
    assert x.dtype == np.float32
    assert np.bincount(y).tolist() == [181, 183]  # scikit-learn's counts of 6 and 3


def test_wrong_labels_are_wrong():
    config = get_config("mining")
    clean, noisy = (
        mining._data(config, rate, jax.random.key(0))["train"]["y"]
        for rate in (0.0, 0.1)
    )
    assert 0.07 < (clean != noisy).mean() < 0.13
    assert noisy.max() == 5


@pytest.mark.parametrize("name", mining.OBJECTIVES)
def test_objectives_have_a_loss_for_each_row(name):
    e = jax.random.normal(jax.random.key(0), (6, 4))
    kernel = jax.random.normal(jax.random.key(1), (4, 3))
    losses, counts = mining.OBJECTIVES[name][1](e, np.array([0, 0, 1, 1, 2, 2]), kernel)
    assert losses.shape == (6,)
    assert np.isfinite(losses).all()
    assert np.broadcast_to(counts, (6,)).any()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("objectives", ("mind",), "did you mean mined"),
        ("seen", (0, 6), "config.seen is"),
        ("unseen", (10,), "config.unseen"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("metric_learning:mining", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("metric_learning:mining")
    assert done.figures == ["recall"]
    assert done.results["weights"].final("apart").max() < 1e-5
