import jax
import numpy as np

from configs.classification import get_config
from experiments.classification import depict


def test_every_epoch_sees_each_image_at_most_once():
    rows = depict.drawn(jax.random.key(0), 1797, get_config("depict"))
    assert rows.first.shape == (30, 28, 64)
    assert len(np.unique(rows.third[0])) == 28 * 64


def test_dropped_inputs_are_made_up_for():
    params = depict.initial(jax.random.key(0), 6, 4)
    x = np.ones((2, 6), "f4")
    clean = depict.encoded(params, x, None, 0.5)
    same = depict.encoded(params, x, np.ones((2, 10), "f4"), 0.0)
    np.testing.assert_allclose(same[1], clean[1], rtol=1e-6)
    none = depict.encoded(params, x, np.zeros((2, 10), "f4"), 0.5)
    np.testing.assert_array_equal(none[1], 0)


def test_k_means_finds_what_is_apart():
    rows = np.repeat(np.eye(10), 5, 0) * 10
    found = depict.clustered(jax.random.key(0), rows)
    assert len(np.unique(found)) == 10
    assert (found.reshape(10, 5) == found[::5, None]).all()


def test_epochs_are_checked(refused):
    refused("classification:depict", "epochs.third", 0, "config.epochs is")
