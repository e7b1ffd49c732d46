import jax
import numpy as np
import pytest

from logitlab.transforms import cosine_logits, prototypes


def test_means_of_classes():
    e = np.random.default_rng(0).normal(size=(6, 3)).astype("f4")
    labels = np.array([0, 2, 2, 0, -1, 2], np.int8)
    got = jax.jit(prototypes, static_argnums=2)(e, labels, 4)
    np.testing.assert_allclose(got[:, 0], e[[0, 3]].mean(0), rtol=1e-6)
    np.testing.assert_allclose(got[:, 2], e[[1, 2, 5]].mean(0), rtol=1e-6)
    assert not np.asarray(got)[:, [1, 3]].any()
    assert cosine_logits(e, got, scale=1.0).shape == (6, 4)


def test_what_a_mask_leaves_out_may_be_anything():
    e = np.float32([[1, 2], [np.nan, np.inf], [3, 4]])
    labels, mask = np.array([0, 99, 0]), np.array([True, False, True])
    kernel, pull = jax.vjp(lambda e: prototypes(e, labels, 2, mask=mask), e)
    np.testing.assert_array_equal(kernel, [[2, 0], [3, 0]])
    (grad,) = pull(np.ones((2, 2), "f4"))
    np.testing.assert_array_equal(grad, [[0.5, 0.5], [0, 0], [0.5, 0.5]])


def test_large_embeddings_do_not_overflow():
    kernel = prototypes(np.full((4, 1), 3e38, "f4"), [0] * 4, 1)
    np.testing.assert_allclose(kernel, 3e38, rtol=1e-6)


def test_errors():
    e = np.zeros((3, 2), "f4")
    with pytest.raises(ValueError, match="outside"):
        prototypes(e, [0, 1, 2], 2)
    with pytest.raises(ValueError, match=r"embeddings has shape \(2,\)"):
        prototypes(e[0], [0, 1], 2)
    with pytest.raises(ValueError, match=r"labels has shape \(2,\)"):
        prototypes(e, [0, 1], 2)
