import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted
from scipy.special import erf, softmax

from logitlab.models import SmallViT

SIZE = dict(classes=3, patch=2, width=8, layers=2, heads=2)


def drawn(model, x):
    """Parameters none of which is 0 or 1, so that each of them matters."""
    rng = np.random.default_rng(2)
    shapes = jax.eval_shape(model.init, jax.random.key(0), x)["params"]
    return jax.tree.map(lambda a: rng.normal(size=a.shape).astype("f4") / 2, shapes)


def reference(params, images):
    """Class tokens and logits of float64 NumPy, patch by patch."""
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)

    def linear(name, x):
        return x @ params[name]["kernel"] + params[name]["bias"]

    def norm(name, x):
        x = x - x.mean(-1, keepdims=True)
        x /= np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6)
        return x * params[name]["scale"] + params[name]["bias"]

    def gelu(x):
        cubic = np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)
        assert np.abs(np.tanh(cubic) - erf(x / np.sqrt(2))).max() < 1e-2
        return x * (1 + np.tanh(cubic)) / 2

    patches = [
        images[:, i : i + 2, j : j + 2].reshape(len(images), -1)
        for i in range(0, images.shape[1], 2)
        for j in range(0, images.shape[2], 2)
    ]
    token = np.repeat(params["class_token"], len(images), 0)
    h = np.concatenate([token, linear("patches", np.stack(patches, 1))], 1)
    h += params["positions"]
    seen = []
    for i in range(2):
        packed = linear(f"attention_in_{i}", norm(f"attention_norm_{i}", h))
        heads = []
        for part in range(2):
            own = slice(4 * part, 4 * part + 4)
            q, k, v = (packed[..., 8 * n : 8 * n + 8][..., own] for n in range(3))
            heads.append(softmax(q @ k.swapaxes(1, 2) / 2, -1) @ v)
        h = h + linear(f"attention_out_{i}", np.concatenate(heads, -1))
        units = gelu(linear(f"units_in_{i}", norm(f"units_norm_{i}", h)))
        h = h + linear(f"units_out_{i}", units)
        seen.append(h[:, 0])
    return seen, linear("head", norm("head_norm", h[:, 0]))


@pytest.mark.sampled
@pytest.mark.parametrize("shape", [(5, 4, 6), (3, 4, 4, 2)], ids=str)
def test_matches_numpy(shape):
    model = SmallViT(**SIZE)
    x = np.random.default_rng(0).normal(size=shape).astype("f4")
    params = drawn(model, x)
    logits, kept = jax.jit(lambda p, x: model.apply(p, x, mutable="intermediates"))(
        {"params": params}, x
    )
    tokens, want = reference(params, x.astype(np.float64))
    np.testing.assert_allclose(logits, want, rtol=1e-4, atol=1e-4)
    for got, token in zip(kept["intermediates"]["class_token"], tokens, strict=True):
        np.testing.assert_allclose(got, token, rtol=1e-4, atol=1e-4)


def test_sixteen_bits_and_starts():
    model = SmallViT(**SIZE, dtype=jnp.bfloat16)
    x = jnp.ones((2, 4, 4))
    logits, variables = interpreted(model.init_with_output)(jax.random.key(0), x)
    assert logits.dtype == np.float32
    assert {a.dtype for a in jax.tree.leaves(variables["params"])} == {
        np.dtype("float32")
    }
    wide = variables["params"]["units_in_0"]["kernel"]
    assert np.std(wide) == pytest.approx(0.02, rel=0.2)


@pytest.mark.parametrize(
    ("size", "shape", "message"),
    [
        ({}, (8, 8), "that patches of 2 divide"),
        ({}, (2, 5, 4), "that patches of 2 divide"),
        ({"patch": 0}, (2, 4, 4), "that patches of 0 divide"),
        ({"heads": 3}, (2, 4, 4), "heads is 3, expected a divisor of width 8"),
    ],
)
def test_refuses(size, shape, message):
    with pytest.raises(ValueError, match=message):
        SmallViT(**SIZE | size).init(jax.random.key(0), jnp.zeros(shape))
