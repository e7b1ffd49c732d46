import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions, interpreted

from logitlab import metrics
from logitlab.metrics import kernels

calls = functions(kernels)


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def network(params, x):
    return jnp.tanh(x @ params["w"]) @ params["v"]


def test_ntk_of_a_network_by_hand(x64):
    x, other, w, v = draw(0, 4, 3), draw(1, 2, 3), draw(2, 3, 5), draw(3, 5, 2)
    params = {"w": w, "v": v}

    def features(x):
        h = np.tanh(x @ w)
        outer = np.einsum("ni,nh->nih", x, 1 - h**2)
        hidden = np.einsum("nih,hc->ncih", outer, v).reshape(len(x), 2, -1)
        read = np.einsum("nh,cd->nchd", h, np.eye(2)).reshape(len(x), 2, -1)
        return np.concatenate([hidden, read], -1).reshape(len(x), -1)

    want = features(x) @ features(other).T
    got = metrics.empirical_ntk(network, params, x, other)
    np.testing.assert_allclose(got, want, 1e-12)
    both = metrics.empirical_ntk(network, params, x)
    np.testing.assert_allclose(both, features(x) @ features(x).T, 1e-12)
    one = metrics.empirical_ntk(lambda p, x: network(p, x)[:, 0], params, x)
    two = metrics.empirical_ntk(lambda p, x: network(p, x)[:, 1], params, x)
    np.testing.assert_allclose(one + two, both, 1e-12)


def test_ntk_of_trees_and_16_bits():
    rows = {"x": jnp.ones((3, 2), jnp.bfloat16), "scale": jnp.arange(3.0)}
    got = metrics.empirical_ntk(
        lambda w, r: (r["x"] @ w) * r["scale"].astype(w.dtype),
        jnp.ones(2, jnp.bfloat16),
        rows,
    )
    assert got.dtype == jnp.float32
    np.testing.assert_array_equal(got, 2 * np.outer(range(3), range(3)))
    with pytest.raises(ValueError, match="x has shapes"):
        metrics.empirical_ntk(network, None, {"a": np.ones(2), "b": np.ones(3)})
    with pytest.raises(ValueError, match="other has shapes"):
        metrics.empirical_ntk(network, None, np.ones((2, 1)), np.float32(1))


@pytest.mark.parametrize("center", [False, True])
def test_alignment_is_its_definition(x64, center):
    a, y = draw(4, 6, 9), draw(5, 6, 2)
    k, h = a @ a.T, np.eye(6) - 1 / 6
    left, right = (h @ k @ h, h @ y) if center else (k, y)
    gram = right @ right.T
    want = (left * gram).sum() / np.linalg.norm(left) / np.linalg.norm(gram)
    got = calls.kernel_alignment(k, y, center=center)
    np.testing.assert_allclose(got, want, 1e-12)
    keep = np.array([True, True, False, True, True, False])
    k[~keep], k[:, ~keep], y[~keep] = np.nan, np.nan, np.nan
    np.testing.assert_allclose(
        calls.kernel_alignment(k, y, center=center, mask=keep),
        calls.kernel_alignment(k[keep][:, keep], y[keep], center=center),
        1e-12,
    )


def test_alignment_at_the_ends():
    y = np.float32([1, -1, 2])
    np.testing.assert_allclose(calls.kernel_alignment(np.outer(y, y), y), 1, 1e-6)
    big = calls.kernel_alignment(np.float32(1e30) * np.outer(y, y), 1e30 * y)
    np.testing.assert_allclose(big, 1, 1e-6)
    zero = interpreted(jax.value_and_grad(lambda k: metrics.kernel_alignment(k, y)))
    value, grad = zero(np.zeros((3, 3), "f4"))
    assert value == 0
    assert np.isfinite(grad).all()
    assert calls.kernel_alignment(np.outer(y, y), np.zeros(3, "f4")) == 0
    none = np.zeros(3, bool)
    assert calls.kernel_alignment(np.outer(y, y), y, center=True, mask=none) == 0


def test_alignment_errors():
    for k, y in [((3, 2), 3), ((3, 3), 2), ((3,), 3)]:
        with pytest.raises(ValueError, match="expected \\[N, N\\]"):
            metrics.kernel_alignment(np.zeros(k, "f4"), np.zeros(y, "f4"))
    with pytest.raises(ValueError, match="targets has shape"):
        metrics.kernel_alignment(np.zeros((2, 2), "f4"), np.zeros((2, 1, 1), "f4"))
