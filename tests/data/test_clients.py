import jax
import jax.numpy as jnp
import numpy as np
import pytest

from logitlab import data

KEY = jax.random.key(0)
LABELS = np.arange(600) % 10


def shares(found, clients):
    """Of the classes in each client."""
    counts = np.zeros((clients, 10))
    np.add.at(counts, (np.asarray(found), LABELS), 1)
    return counts / counts.sum(1, keepdims=True)


def test_dirichlet():
    skews = {}
    for concentration in (0.1, 1.0, 1e4):
        found = data.dirichlet_clients(
            KEY, LABELS, num_clients=6, concentration=concentration, least=5
        )
        sizes = np.bincount(found, minlength=6)
        assert found.dtype == jnp.int32
        assert sizes.sum() == 600
        assert sizes.min() >= 5
        skews[concentration] = shares(found, 6).max(1).mean()
    assert skews[0.1] > skews[1.0] > skews[1e4]
    np.testing.assert_allclose(skews[1e4], 0.1, atol=0.02)
    again = data.dirichlet_clients(
        KEY, LABELS, num_clients=6, concentration=1e4, least=5
    )
    np.testing.assert_array_equal(again, found)
    other = jax.random.key(1)
    other = data.dirichlet_clients(other, LABELS, num_clients=6, concentration=1e4)
    assert (other != found).any()


@pytest.mark.parametrize(("clients", "each"), [(10, 2), (5, 3), (20, 10), (3, 1)])
def test_pathological(clients, each):
    found = data.pathological_clients(
        KEY, LABELS, num_clients=clients, classes_per_client=each
    )
    found = np.asarray(found)
    for k in range(clients):
        assert len({*LABELS[found == k]}) == each
    dealt = {*LABELS[found >= 0]}
    assert len(dealt) == min(10, clients * each)
    if clients * each == 20:  # two clients for each class, 30 rows each
        np.testing.assert_array_equal(np.bincount(found), 60)


def test_no_label_is_no_client():
    labels = np.where(np.arange(600) < 100, -1, LABELS)
    for found in (
        data.dirichlet_clients(KEY, labels, num_clients=2, concentration=1.0),
        data.pathological_clients(KEY, labels, num_clients=10, classes_per_client=1),
    ):
        np.testing.assert_array_equal(found[:100], -1)
        assert found[100:].min() == 0


def test_stack():
    rng = np.random.default_rng(0)
    x, ids = rng.normal(size=(9, 2)), np.array([2, 0, 2, -1, 1, 2, 0, 2, -1])
    stacked, mask = data.stack_clients({"x": x, "at": np.arange(9)}, ids, 3)
    assert stacked["x"].shape == (3, 4, 2)
    np.testing.assert_array_equal(mask.sum(1), [2, 1, 4])
    for k in range(3):
        np.testing.assert_array_equal(
            stacked["at"][k][mask[k]], np.flatnonzero(ids == k)
        )
        np.testing.assert_allclose(stacked["x"][k][mask[k]], x[ids == k], rtol=1e-6)
        np.testing.assert_array_equal(stacked["x"][k][~mask[k]], 0)


def test_errors():
    split, few = data.dirichlet_clients, dict(num_clients=3, classes_per_client=2)
    with pytest.raises(ValueError, match="concentration is 0, expected a number above"):
        split(KEY, LABELS, num_clients=3, concentration=0)
    with pytest.raises(
        ValueError, match="some of 7 clients had fewer than 1, expected"
    ):
        split(KEY, LABELS[:6], num_clients=7, concentration=1.0)
    with pytest.raises(TypeError, match="labels has dtype float64, expected integers"):
        split(KEY, LABELS * 1.0, num_clients=3, concentration=1.0)
    with pytest.raises(
        ValueError, match=r"labels has shape \(60, 10\), expected \[n\]"
    ):
        data.pathological_clients(KEY, LABELS.reshape(60, 10), **few)
    with pytest.raises(ValueError, match="num_clients is 0, expected at least 1"):
        data.pathological_clients(KEY, LABELS, **few | dict(num_clients=0))
    with pytest.raises(
        ValueError, match="classes_per_client is 11, expected at most 10"
    ):
        data.pathological_clients(KEY, LABELS, **few | dict(classes_per_client=11))
    with pytest.raises(ValueError, match=r"labels leaves clients \[.*\] without a row"):
        data.pathological_clients(
            KEY, LABELS[:10], num_clients=30, classes_per_client=1
        )
    with pytest.raises(ValueError, match=r"clients leaves clients \[1\] without a row"):
        data.stack_clients({}, np.array([0, 2]), 3)
    with pytest.raises(ValueError, match="clients reach 3, expected below 3"):
        data.stack_clients({}, np.array([0, 1, 2, 3]), 3)
    with pytest.raises(ValueError, match=r"arrays\['x'\] has shape \(2,\), expected 3"):
        data.stack_clients({"x": np.ones(2)}, np.arange(3), 3)
