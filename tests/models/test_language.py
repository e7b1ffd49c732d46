import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from logitlab import models


def mlp(width=8, **more):
    return models.WindowMLP(vocabulary=256, classes=256, width=width, **more)


def transformer(**more):
    settings = dict(vocabulary=11, classes=7, width=16, layers=2, heads=4, context=12)
    return models.CausalTransformer(**{**settings, **more})


def count(params):
    return sum(a.size for a in jax.tree.leaves(params))


SIZES = {8: 8528, 16: 12832, 32: 21824, 64: 41344, 128: 86528, 256: 201472, 512: 529664}


@pytest.mark.parametrize("width", SIZES)
def test_the_mlp_has_the_parameters_of_the_ladder(width):
    tokens = jnp.zeros((1, 16), jnp.uint8)
    params = jax.eval_shape(mlp(width).init, jax.random.key(0), tokens)
    assert count(params) == SIZES[width]


def test_the_mlp_starts_as_it_says():
    tokens = jnp.zeros((1, 16), jnp.int32)
    params = jax.jit(mlp(512).init)(jax.random.key(0), tokens)["params"]
    deviations = {
        "embedding": 0.3,
        "hidden_0": 1 / np.sqrt(256 * 0.09),
        "hidden_1": 1.4 / np.sqrt(512),
        "head": 0.1 / np.sqrt(512),
    }
    for name, want in deviations.items():
        leaf = params[name] if name == "embedding" else params[name]["kernel"]
        np.testing.assert_allclose(leaf.std(), want, rtol=0.05)
        if name != "embedding":
            assert not params[name]["bias"].any()


def test_the_mlp_is_its_formula():
    x = np.random.default_rng(0).integers(0, 256, (5, 16))
    variables = jax.jit(mlp().init)(jax.random.key(1), x)
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), variables["params"])
    e = p["embedding"][x].reshape(5, -1)
    h = np.tanh(e @ p["hidden_0"]["kernel"] + p["hidden_0"]["bias"])
    u = h @ p["hidden_1"]["kernel"] + p["hidden_1"]["bias"]
    h += 0.5 * u * (1 + np.tanh(np.sqrt(2 / np.pi) * (u + 0.044715 * u**3)))
    z = h @ p["head"]["kernel"] + p["head"]["bias"]
    np.testing.assert_allclose(mlp().apply(variables, x), z, rtol=1e-4, atol=1e-5)


def test_the_transformer_sees_no_future():
    x = np.random.default_rng(0).integers(0, 11, (3, 12))
    model = transformer()
    variables = interpreted(model.init)(jax.random.key(0), x)
    # as it starts the residual stream hardly changes: larger weights show more
    variables = jax.tree.map(lambda a: 20 * a if a.ndim > 1 else a, variables)
    apply = jax.jit(model.apply)
    before = apply(variables, x)
    changed = np.where(np.arange(12) == 7, (x + 1) % 11, x)
    after = apply(variables, changed)
    np.testing.assert_allclose(after[:, :7], before[:, :7], rtol=1e-5, atol=1e-5)
    assert (np.abs(after - before)[:, 7:].max((0, 2)) > 1e-3).all()
    prefix = interpreted(model.apply)(variables, x[:, :5])  # shorter inputs
    np.testing.assert_allclose(prefix, before[:, :5], rtol=1e-4, atol=1e-5)


def test_the_transformer_counts_as_it_says():
    d, layers, v, c, t = 16, 2, 11, 7, 12
    x = jnp.zeros((1, t), jnp.int32)
    params = jax.eval_shape(transformer().init, jax.random.key(0), x)
    block = 12 * d * d + 13 * d  # 4 d^2 + 8 d^2, biases, two norms
    assert count(params) == (v + t) * d + layers * block + 2 * d + (d + 1) * c


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("dtype", [None, jnp.bfloat16])
def test_the_dtype_of_logits_is_that_of_the_parameters(dtype):
    x = jnp.zeros((2, 12), jnp.uint8)
    for model in (transformer(dtype=dtype), mlp()):
        variables = jax.eval_shape(model.init, jax.random.key(0), x)
        assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype("float32")}
        assert jax.eval_shape(model.apply, variables, x).dtype == jnp.float32


def test_errors():
    x = jnp.zeros((1, 13), jnp.int32)
    with pytest.raises(ValueError, match="13 tokens, expected at most 12"):
        transformer().init(jax.random.key(0), x)
    with pytest.raises(ValueError, match="heads is 3, expected a divisor of width 16"):
        transformer(heads=3).init(jax.random.key(0), x[:, :4])
    with pytest.raises(TypeError, match="integer"):
        mlp().init(jax.random.key(0), jnp.zeros((1, 16)))
    with pytest.raises(ValueError, match="outside"):
        mlp().init(jax.random.key(0), jnp.full((1, 16), 256))
