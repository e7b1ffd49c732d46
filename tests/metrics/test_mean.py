import jax
import jax.numpy as jnp
import numpy as np
import pytest

from logitlab import metrics
from logitlab.metrics import Mean


def test_means_merge_before_they_divide():
    values = jnp.array([1.0, 2, 3, 4, 10])
    parts = [metrics.mean_of(values[:2]), metrics.mean_of(values[2:])]
    whole = jax.tree.map(jnp.add, *parts)
    assert float(whole) == float(parts[0] + parts[1]) == 4.0
    np.testing.assert_allclose(np.asarray(whole), 4.0)
    (summed, count) = whole
    assert (summed, count) == (20, 5)


def test_means_merge_across_devices_and_steps():
    values = jnp.arange(16.0).reshape(8, 2)
    over_devices = jax.pmap(
        lambda v: jax.lax.psum(metrics.mean_of(v), "d"), axis_name="d"
    )(values)
    np.testing.assert_allclose(over_devices.value, 7.5)
    zero = Mean(jnp.zeros(()), jnp.zeros(()))
    total, _ = jax.lax.scan(
        lambda acc, v: (acc + metrics.mean_of(v), None), zero, values
    )
    assert float(total) == 7.5


def test_masked_values_do_not_count():
    values = jnp.array([1.0, jnp.nan, 3.0])
    assert float(metrics.mean_of(values, jnp.array([True, False, True]))) == 2
    assert np.isnan(float(metrics.mean_of(values, jnp.zeros(3, bool))))


def test_mean_errors():
    with pytest.raises(TypeError, match="mask has dtype int32, expected bool"):
        metrics.mean_of(jnp.ones(3), jnp.ones(3, int))
    with pytest.raises(ValueError, match=r"mask has shape \(2,\), expected \(3,\)"):
        metrics.mean_of(jnp.ones(3), jnp.ones(2, bool))
    with pytest.raises(TypeError):
        Mean(1, 2) + 3


def test_accuracy():
    z = jnp.array([[1.0, 2, 0], [5, 1, 1], [jnp.nan, 9, 0], [3, 3, 0]])
    y = jnp.array([1, 1, 1, 0])
    assert tuple(metrics.accuracy(z, y)) == (2, 4)  # a NaN is wrong, the first tie wins
    mask = jnp.array([True, False, False, True])
    assert tuple(metrics.accuracy(z, y.at[1].set(-100), mask=mask)) == (2, 2)
    where = jnp.array([False, True, True])
    assert tuple(metrics.accuracy(z, y, where=where, mask=mask)) == (1, 2)
    assert tuple(metrics.accuracy(z.T, y, axis=0)) == (2, 4)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (jnp.zeros(3, int), ValueError, r"labels has shape \(3,\), expected \(2,\)"),
        (jnp.zeros(2), TypeError, "labels has dtype float32, expected integers"),
    ],
)
def test_accuracy_errors(labels, error, message):
    with pytest.raises(error, match=message):
        metrics.accuracy(jnp.zeros((2, 3)), labels)


@pytest.mark.parametrize("scale", [1e-30, 1, 1e25, 1e37])
def test_tree_norm_at_any_scale(scale):
    tree = {"a": np.float32([3, 0]) * np.float32(scale), "b": np.float32(4 * scale)}
    np.testing.assert_allclose(
        metrics.tree_norm(tree), 5 * np.float64(scale), rtol=1e-6
    )


def test_tree_norm_edges():
    assert metrics.tree_norm({}) == 0
    assert metrics.tree_norm({"a": jnp.zeros(3), "empty": jnp.zeros((0, 2))}) == 0
    assert np.isnan(metrics.tree_norm([jnp.array([1.0, jnp.nan])]))
    assert np.isinf(metrics.tree_norm([jnp.array([1.0, -jnp.inf])]))
