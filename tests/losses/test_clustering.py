import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions

from logitlab import metrics, targets
from logitlab.losses import clustering

clustering = functions(clustering)


def test_hand_check():
    p = np.float32([[0.9, 0.1], [0.6, 0.4]])
    paper = [[0.838610, 0.161390], [0.464102, 0.535898]]
    code = [[0.964286, 0.035714], [0.428571, 0.571429]]
    np.testing.assert_allclose(targets.cluster_targets(p), paper, atol=1e-6)
    got = targets.cluster_targets(p, power=2, balance=1)
    np.testing.assert_allclose(got, code, atol=1e-6)
    split = jax.vmap(lambda p: targets.cluster_targets(p, axis_name="i"), axis_name="i")  # noqa: E501
    np.testing.assert_allclose(split(p[:, None])[:, 0], paper, atol=1e-6)
    empty = targets.cluster_targets(np.float32([[1, 0], [1, 0]]))
    np.testing.assert_allclose(empty, [[1, 0], [1, 0]], rtol=1e-6)
    masked = targets.cluster_targets(
        np.concatenate([p, p[:1]]), mask=np.array([True, True, False])
    )
    np.testing.assert_allclose(masked[:2], paper, atol=1e-6)


def test_loss():
    z, q = jnp.float32([[40, 0]]), jnp.float32([[1, 0]])
    np.testing.assert_allclose(clustering.depict_loss(z, q), [4.248354e-18], rtol=1e-5)
    assert (jax.grad(lambda q: clustering.depict_loss(z, q).sum())(q) == 0).all()
    where = np.array([[True, True, False]])
    z, q = np.float32([[2, 1, np.nan]]), np.float32([[0.5, 0.5, np.nan]])
    got = clustering.depict_loss(z, q, where=where)
    np.testing.assert_allclose(got, clustering.depict_loss(z[:, :2], q[:, :2]))
    grad = jax.grad(lambda z: clustering.depict_loss(z, q, where=where).sum())(z)
    assert np.isfinite(grad).all()
    with pytest.raises(ValueError, match="targets has shape"):
        clustering.depict_loss(z, q[0])


def test_accuracy_ignores_names():
    labels = np.array([0, 0, 1, 1, 2, 2])
    got = metrics.clustering_accuracy(labels, np.array([2, 2, 0, 0, 1, 0]))
    np.testing.assert_allclose(got, 5 / 6, rtol=1e-6)
