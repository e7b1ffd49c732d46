import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from logitlab.targets import private_aggregate_labels

IDS = np.array([0, 0, 1, 1, 1, 3, -1, 4])
private = interpreted(private_aggregate_labels, static_argnames=("num_bags",))


def reference(labels, noise, clip, epsilon):
    """Bags of ``IDS`` in float64, with draws of the standard Laplace distribution."""
    y, out = np.clip(np.asarray(labels, float), -clip, clip), np.zeros(4)
    for bag in range(4):
        members = bag == IDS
        if members.any():
            size = members.sum()
            out[bag] = y[members].mean() + 2 * clip / (size * epsilon) * noise[bag]
    return out


@pytest.mark.parametrize("dtype", ["f4", "f8", "bfloat16", "i1"])
def test_means_of_clipped_labels_and_their_noise(x64, dtype):
    labels = np.array([0.5, -7, 2, 3, 9, 1, 5, 5]).astype(dtype)
    kind = jnp.promote_types(labels.dtype, jnp.float32)
    key = jax.random.key(3)
    noise = np.asarray(jax.random.laplace(key, (4,), kind), float)
    got = private(key, labels, IDS, 4, clip=2.5, epsilon=0.5)
    assert got.dtype == kind
    want = reference(labels, noise, 2.5, 0.5)
    np.testing.assert_allclose(got, want, rtol=1e-12 if dtype == "f8" else 2e-6)
    assert got[2] == 0  # no examples, and no noise


def test_noise_is_of_the_scale_that_hides_one_label():
    bags, size = 20_000, 4
    ids = np.arange(bags * size) // size
    zero = np.zeros(ids.shape, "f4")
    got = np.asarray(private(jax.random.key(0), zero, ids, bags, clip=3, epsilon=1.5))
    scale = (
        2 * 3 / (size * 1.5)
    )  # the mean size of Laplace noise, whose deviation it is
    assert abs(np.abs(got).mean() - scale) < 5 * scale / np.sqrt(bags)
    assert abs(got.mean()) < 5 * np.sqrt(2) * scale / np.sqrt(bags)
    tail = (np.abs(got) > 3 * scale).mean()
    assert abs(tail - np.exp(-3)) < 5 * np.sqrt(np.exp(-3) / bags)


def test_one_other_label_changes_densities_by_at_most_epsilon():
    """However extreme the label is, its mean moves by no more than the noise hides."""
    key, clip, epsilon = jax.random.key(1), 2.0, 0.7
    before, after = np.float32([[-1e30, 0, 1, 1, 1, 0, 0, 0]] * 2)
    after[0] = 1e30
    moved = private(key, after, IDS, 4, clip=clip, epsilon=epsilon) - private(
        key, before, IDS, 4, clip=clip, epsilon=epsilon
    )
    scale = 2 * clip / (2 * epsilon)
    np.testing.assert_allclose(moved[0] / scale, epsilon, rtol=1e-5)
    np.testing.assert_array_equal(moved[1:], 0)


def test_settings_may_be_traced_and_what_is_in_no_bag_may_be_nan():
    labels = np.float32([1, 1, 1, 1, 1, 1, np.nan, np.nan])
    key = jax.random.key(2)
    made = jax.jit(jax.vmap(lambda e: private_aggregate_labels(
        key, labels, IDS, 4, clip=1.0, epsilon=e)))  # fmt: skip
    got = made(jnp.float32([0.1, 1e6]))
    assert np.isfinite(got).all()
    np.testing.assert_allclose(got[1], [1, 1, 0, 1], atol=1e-4)
    empty = private_aggregate_labels(key, labels[:0], IDS[:0], 0, clip=1, epsilon=1)
    assert empty.shape == (0,)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(clip=0.0), ValueError, "clip is 0.0, expected a positive"),
        (dict(clip=np.inf), ValueError, "clip is inf, expected a positive"),
        (dict(epsilon=-1), ValueError, "epsilon is -1, expected a positive"),
        (dict(labels=np.zeros((8, 2))), ValueError, r"labels has shape \(8, 2\)"),
        (dict(segment_ids=IDS[:3]), ValueError, r"segment_ids has shape \(3,\)"),
        (dict(segment_ids=np.zeros(8)), TypeError, "segment_ids"),
    ],
)
def test_errors(change, error, message):
    given = dict(labels=np.zeros(8), segment_ids=IDS, clip=1.0, epsilon=1.0) | change
    with pytest.raises(error, match=message):
        private_aggregate_labels(jax.random.key(0), num_bags=4, **given)
