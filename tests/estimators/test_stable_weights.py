import jax
import jax.numpy as jnp
import numpy as np
import pytest

from logitlab import estimators, losses, metrics

KEY = jax.random.key(0)


def test_clusters_of_stable_correlation():
    """Correlations within either pair differ between environments in one of them."""
    rng = np.random.default_rng(0)
    signs = np.array([1, -1, 1, -1])[:, None]
    a, b, e = rng.normal(size=(3, 4, 2000))
    steady = np.stack([a, a + 0.5 * e, 2 * a - e], -1)
    moving = np.stack([b, b * signs + 0.1 * e], -1)
    z = np.concatenate([steady, moving], -1).astype("f4")
    found = np.asarray(estimators.cluster_by_correlation_stability(z, 2, KEY))
    assert found.dtype == np.int32
    assert len({*found[:3]}) == 1
    assert found[3] != found[0] or found[4] != found[0]
    z[..., 0] = 7  # constant
    assert estimators.cluster_by_correlation_stability(z, 5, KEY).max() < 5


def test_weights_make_variables_less_dependent():
    x, noise = np.random.default_rng(1).normal(size=(2, 200, 1)).astype("f4")
    z = np.concatenate([x, x + noise], 1)
    there = np.arange(200) < 150
    z[150:] = np.nan
    found = estimators.learn_sample_weights(
        z, jnp.arange(2), KEY, steps=100, learning_rate=0.1, mask=there
    )
    w = np.asarray(found.weights)
    np.testing.assert_allclose(w[:150].mean(), 1, rtol=1e-5)
    np.testing.assert_array_equal(w[150:], 0)
    np.testing.assert_allclose(found.effective_size, 150**2 / (w**2).sum(), rtol=1e-5)
    assert found.losses.shape == (100,)
    other = jax.random.key(7)  # features that were not seen
    before, after = (
        losses.decorrelation_loss(z, a, jnp.arange(2), other, mask=there)
        for a in (np.ones(200, "f4"), w)
    )
    assert after < 0.9 * before
    # Nothing to decorrelate: weights stay even.
    same = estimators.learn_sample_weights(z[:150], jnp.zeros(2, int), KEY, steps=3)
    np.testing.assert_allclose(same.weights, 1, rtol=1e-5)
    assert metrics.rff_cross_covariance(z[:1], w[:1], KEY).max() == 0


def test_errors():
    with pytest.raises(ValueError, match=r"z has shape \(3, 2\), expected \[L, N, P\]"):
        estimators.cluster_by_correlation_stability(np.ones((3, 2)), 2, KEY)
    with pytest.raises(ValueError, match="num_clusters is 3, expected 1 to 2"):
        estimators.cluster_by_correlation_stability(np.ones((2, 3, 2)), 3, KEY)
    z = np.ones((3, 2), "f4")
    with pytest.raises(ValueError, match=r"clusters has shape \(3,\), expected \(2,\)"):
        estimators.learn_sample_weights(z, jnp.arange(3), KEY)
    with pytest.raises(ValueError, match="steps is 0, expected at least 1"):
        estimators.learn_sample_weights(z, jnp.arange(2), KEY, steps=0)
    with pytest.raises(ValueError, match="l2 is -1, expected at least 0"):
        estimators.learn_sample_weights(z, jnp.arange(2), KEY, l2=-1)
