import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions, interpreted
from jax.test_util import check_grads

from logitlab import transforms

rooms = functions(transforms)
cosine_logits, normalize = rooms.cosine_logits, rooms.normalize
cosine_similarities = rooms.cosine_similarities


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def unit(x, axis=-1):
    return x / np.linalg.norm(x, axis=axis, keepdims=True)


def test_matches_numpy(x64):
    e, r, w = draw(0, 5, 4), draw(1, 3, 4), draw(2, 4, 6)
    np.testing.assert_allclose(normalize(e), unit(e), rtol=1e-15)
    np.testing.assert_allclose(normalize(w, axis=0), unit(w, 0), rtol=1e-15)
    close = dict(rtol=1e-14, atol=1e-15)
    np.testing.assert_allclose(cosine_similarities(e), unit(e) @ unit(e).T, **close)
    np.testing.assert_allclose(cosine_similarities(e, r), unit(e) @ unit(r).T, **close)
    got = cosine_logits(e[None], w, scale=7.0)
    np.testing.assert_allclose(got[0], 7 * unit(e) @ unit(w, 0), **close)
    check_grads(lambda e, w: cosine_logits(e, w, scale=7.0), (e, w), order=2)


@pytest.mark.parametrize("size", [1e-30, 1e-3, 1e4, 1e19, 1e30])
def test_lengths_do_not_matter(size):
    e, size = np.float32(draw(0, 6, 4)), np.float32(size)
    value, vjp = jax.vjp(normalize, e * size)
    np.testing.assert_allclose(value, unit(np.float64(e * size)), rtol=1e-6)
    cotangent = np.float32(draw(1, 6, 4))
    want = (cotangent - unit(e) * (cotangent * unit(e)).sum(-1, keepdims=True)) / (
        np.linalg.norm(e, axis=-1, keepdims=True) * np.float64(size)
    )
    (got,) = vjp(cotangent)
    assert np.abs(got - want).max() < 2e-6 * np.abs(want).max()


def test_edges():
    run = interpreted(jax.value_and_grad(lambda e: (cosine_similarities(e) ** 3).sum()))
    value, grad = run(np.zeros((3, 2), "f4"))
    assert value == 0
    assert (grad == 0).all()
    rows = np.float32([[0, 0], [3, 4]])
    assert (normalize(rows)[0] == 0).all()
    grad = jax.jacobian(normalize)(rows)
    assert np.isfinite(grad).all()
    assert (grad[0] == 0).all()
    assert normalize(np.ones((2, 3), jnp.bfloat16)).dtype == np.float32
    slope = jax.grad(lambda e: normalize(e)[0, 0])(jnp.ones((2, 3), jnp.bfloat16))
    assert slope.dtype == jnp.bfloat16
    assert normalize(np.zeros((0, 3), "f4")).shape == (0, 3)
    big = jax.jit(cosine_logits)(np.float32([[1e30, 0]]), np.eye(2) * 1e19, scale=64.0)
    np.testing.assert_array_equal(big, [[64, 0]])


def test_float64_to_1e300(x64):
    np.testing.assert_allclose(normalize(np.array([3e300, 4e300])), [0.6, 0.8])
    scaled = transforms.standardize_logits(np.array([1e300, 0, -1e300]), eps=0.0)
    np.testing.assert_allclose(scaled, [1, 0, -1])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: normalize(np.ones((2, 3)), axis=2), r"axis 2 is not an axis of emb"),
        (lambda: normalize(np.ones(3, int)), "embeddings has dtype int"),
        (lambda: normalize(np.ones(3), axis=(0,)), "expected one integer"),
        (lambda: cosine_similarities(np.ones(3)), "expected one row per example"),
        (
            lambda: cosine_similarities(np.ones((2, 3)), np.ones((4, 2))),
            r"reference has shape \(4, 2\), expected rows of width 3",
        ),
        (
            lambda: cosine_logits(np.ones((2, 3)), np.ones((4, 3)), scale=1.0),
            r"kernel has shape \(4, 3\), expected \[D, C\]",
        ),
        (
            lambda: cosine_logits(np.ones((2, 3)), np.ones((3, 4)), scale=0.0),
            "scale is 0.0, expected above 0",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
