import jax
import numpy as np
import pytest
from harness import goldens
from harness.quickly import quick_jit

from logitlab import metrics

norm = quick_jit(metrics.nuclear_norm, static_argnames="center")


@pytest.mark.parametrize("case", goldens.cases("uds"))
def test_golden(x64, case):
    (x,) = goldens.arrays(case, "logits")
    goldens.close(norm(x), case["outputs"]["utility"], 1e-6)  # float32 on their side
    goldens.close(norm(x), np.linalg.norm(x, "nuc", (1, 2)), 1e-12)


def test_gradient_is_the_polar_factor(x64):
    x = np.random.default_rng(0).normal(size=(2, 4, 6))
    left, _, right = np.linalg.svd(x, full_matrices=False)
    got = quick_jit(jax.grad(lambda x: metrics.nuclear_norm(x).sum()))(x)
    np.testing.assert_allclose(got, left @ right, 1e-10, 1e-12)


def test_masks_and_means(x64):
    x = np.random.default_rng(1).normal(size=(2, 5, 3)) + 7
    mask = np.arange(5)[None] < np.array([[5], [3]])
    hidden = np.where(mask[..., None], x, np.nan)
    want = [np.linalg.norm(x[0], "nuc"), np.linalg.norm(x[1, :3], "nuc")]
    np.testing.assert_allclose(norm(hidden, mask=mask), want, 1e-10)
    middle = x - x.mean(-1, keepdims=True)
    want = np.linalg.norm(middle, "nuc", (1, 2))
    np.testing.assert_allclose(norm(x, center=True), want, 1e-10)
    np.testing.assert_allclose(norm(x - 1, center=True), want, 1e-10)
    assert (norm(x, mask=np.zeros((2, 5), bool)) == 0).all()
    assert (metrics.nuclear_norm(x[:, :0]) == 0).all()


def test_rank_one_in_float32():
    """Where the square root of eigenvalues of a Gram matrix is 1.2 % too large."""
    rng = np.random.default_rng(2)
    a, b = rng.normal(size=(256, 1)), rng.normal(size=(1, 300))
    x = (a / np.linalg.norm(a) * b / np.linalg.norm(b)).astype("f4")
    np.testing.assert_allclose(norm(x), 1, 1e-5)
    np.testing.assert_allclose(norm(np.full((6, 4), 3, "f4")), 3 * 24**0.5, 1e-5)


def test_bad_arguments():
    with pytest.raises(ValueError, match=r"logits has shape \(3,\), expected"):
        metrics.nuclear_norm(np.zeros(3, "f4"))
    with pytest.raises(TypeError, match="mask has dtype float32"):
        metrics.nuclear_norm(np.zeros((2, 3), "f4"), mask=np.zeros(2, "f4"))
