import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from harness.interpreter import interpreted

from logitlab.models import OneLayerTransformer

KEY = jax.random.key(0)
SMALL = {"vocabulary": 7, "classes": 5, "d_model": 8, "heads": 2, "feedforward": 16}


def reference(params, tokens, heads):
    """The whole encoder layer, every position of it, in float64 NumPy."""

    def linear(layer, x):
        return x @ layer["kernel"] + layer["bias"]

    def norm(layer, x):
        x = x - x.mean(-1, keepdims=True)
        x = x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
        return x * layer["scale"] + layer["bias"]

    def attend(q, k, v):
        weights = np.exp(q @ np.swapaxes(k, -1, -2) / np.sqrt(q.shape[-1]))
        return weights / weights.sum(-1, keepdims=True) @ v

    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    x = params["embedding"][tokens]
    packed = linear(params["attention"]["in_proj"], x)
    q, k, v = (np.split(part, heads, -1) for part in np.split(packed, 3, -1))
    attended = np.concatenate([attend(*head) for head in zip(q, k, v, strict=True)], -1)
    x = norm(
        params["attention_norm"], x + linear(params["attention"]["out_proj"], attended)
    )
    hidden = np.maximum(linear(params["feedforward_in"], x), 0)
    x = norm(params["feedforward_norm"], x + linear(params["feedforward_out"], hidden))
    return linear(params["head"], x)[..., -1, :]


def tokens_of(*shape):
    return jax.random.randint(jax.random.key(1), shape, 0, SMALL["vocabulary"])


def draw(model):
    """Parameters none of which is 0 or 1, so that each of them matters."""
    rng = np.random.default_rng(2)
    shapes = jax.eval_shape(model.init, KEY, tokens_of(2))
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape), leaf.dtype), shapes
    )


@pytest.mark.sampled(3)
@pytest.mark.parametrize("shape", [(1,), (2,), (6, 2), (2, 3, 5)], ids=str)
@pytest.mark.parametrize("heads", [1, 2, 8])
def test_matches_numpy(x64, heads, shape):
    model = OneLayerTransformer(**SMALL | {"heads": heads}, param_dtype=jnp.float64)
    tokens = tokens_of(*shape)
    variables = draw(model)
    got = jax.jit(model.apply)(variables, tokens)
    assert got.shape == (*shape[:-1], 5)
    assert got.dtype == jnp.float64
    want = reference(variables["params"], tokens, heads)
    np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12)


def test_rounding():
    """Error below 1e-5 in float32, at the paper's size."""
    model = OneLayerTransformer(vocabulary=113, classes=113)
    tokens = np.random.default_rng(0).integers(0, 113, (50, 2))
    variables = interpreted(model.init)(KEY, tokens)
    want = reference(variables["params"], tokens, 4)
    got = jax.jit(model.apply)(variables, tokens)
    assert np.abs(got - want).max() < 1e-5 * np.abs(want).max()


def test_initialization_is_that_of_torch():
    model = OneLayerTransformer(vocabulary=113, classes=113)
    params = jax.jit(model.init)(KEY, jnp.zeros((1, 2), int))["params"]
    xavier = np.sqrt(6 / (128 + 3 * 128))  # of the packed matrix
    bounds = {
        ("attention", "in_proj", "kernel"): xavier,
        ("attention", "out_proj", "kernel"): 128**-0.5,
        ("feedforward_in", "kernel"): 128**-0.5,
        ("feedforward_in", "bias"): 128**-0.5,
        ("feedforward_out", "kernel"): 2048**-0.5,
        ("feedforward_out", "bias"): 2048**-0.5,
        ("head", "kernel"): 128**-0.5,
        ("head", "bias"): 128**-0.5,
    }
    constants = {
        ("attention", "in_proj", "bias"): 0,
        ("attention", "out_proj", "bias"): 0,
        ("attention_norm", "bias"): 0,
        ("attention_norm", "scale"): 1,
        ("feedforward_norm", "bias"): 0,
        ("feedforward_norm", "scale"): 1,
    }
    leaves = {
        tuple(key.key for key in path): np.asarray(leaf, np.float64)
        for path, leaf in jax.tree.leaves_with_path(params)
    }
    assert set(leaves) == {*bounds, *constants, ("embedding",)}
    for path, bound in bounds.items():
        w = leaves[path]
        assert np.abs(w).max() <= np.float32(bound) * (1 + 1e-6)
        four_deviations = 4 * np.sqrt(0.8 / w.size)
        np.testing.assert_allclose(w.var() / (bound**2 / 3), 1, rtol=four_deviations)
    for path, constant in constants.items():
        np.testing.assert_array_equal(leaves[path], constant)
    w = leaves["embedding",]
    assert abs(w.mean()) < 4 / np.sqrt(w.size)
    assert abs(w.var() - 1) < 4 * np.sqrt(2 / w.size)
    assert np.abs(w).max() > 3.5  # nothing is truncated
    sizes = {"/".join(path): leaf.shape for path, leaf in leaves.items()}
    assert sizes["attention/in_proj/kernel"] == (128, 384)
    assert sizes["feedforward_in/kernel"] == (128, 2048)


def test_dropout():
    model, tokens = OneLayerTransformer(**SMALL), tokens_of(20, 3)
    variables = draw(model)

    def sample(model, **rngs):
        apply = functools.partial(model.apply, deterministic=False)
        return interpreted(apply)(variables, tokens, rngs=rngs)

    still = interpreted(model.apply)(variables, tokens)
    first, again, other = (
        sample(model, dropout=jax.random.key(seed)) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert (first != other).any()
    assert (first != still).any()
    without = OneLayerTransformer(**SMALL, dropout=0.0)
    np.testing.assert_array_equal(sample(without), still)


def test_dropout_places_and_rate():
    """Four sites, each with its own mask, each dropping its share of ones."""
    rate, rows = 0.25, 4000
    model = OneLayerTransformer(**SMALL, dropout=rate)
    tokens = jnp.broadcast_to(jnp.array([0, 1, 2]), (rows, 3))
    variables = draw(model)
    seen = []

    def spy(next_call, args, kwargs, context):
        out = next_call(*args, **kwargs)
        if isinstance(context.module, nn.Dropout):
            seen.append((np.asarray(args[0]), np.asarray(out)))
        return out

    rngs = {"dropout": KEY}
    with nn.intercept_methods(spy):
        model.apply(variables, tokens, deterministic=False, rngs=rngs)
    shapes = [before.shape for before, _ in seen]
    assert shapes == [(rows, 2, 3), (rows, 8), (rows, 16), (rows, 8)]
    kept = []
    for before, after in seen:
        np.testing.assert_allclose(
            after, np.where(after == 0, 0, before / (1 - rate)), rtol=1e-6
        )
        mask = (after != 0)[before != 0]
        assert abs(mask.mean() - 0.75) < 4 * np.sqrt(rate * (1 - rate) / mask.size)
        kept.append(after != 0)
    assert (kept[1] != kept[3]).any()


def test_gradients_are_finite_and_reach_every_parameter():
    model, tokens = OneLayerTransformer(**SMALL), tokens_of(50, 2)
    variables = draw(model)

    def loss(variables, key):
        logits = model.apply(
            variables, tokens, deterministic=False, rngs={"dropout": key}
        )
        return jnp.square(logits).mean()

    grads = jax.jit(jax.grad(loss))(variables, KEY)
    for leaf in jax.tree.leaves(grads):
        assert np.isfinite(leaf).all()
        assert leaf.any()


def test_seeds_in_one_program():
    model, tokens = OneLayerTransformer(**SMALL), tokens_of(4, 2)

    def run(key):
        variables = model.init(key, tokens)
        return model.apply(
            variables, tokens, deterministic=False, rngs={"dropout": key}
        )

    keys = jax.random.split(KEY, 3)
    together, one = jax.jit(jax.vmap(run))(keys), interpreted(run)
    in_turn = [one(key) for key in keys]
    np.testing.assert_allclose(together, in_turn, rtol=1e-4, atol=1e-5)
    assert len(np.unique(together[:, 0, 0])) == 3


@pytest.mark.parametrize(
    ("dtype", "param_dtype", "logits"),
    [
        (None, "float32", "float32"),
        ("bfloat16", "float32", "float32"),
        (None, "bfloat16", "float32"),
        ("bfloat16", "float64", "float64"),
    ],
)
def test_dtypes(x64, dtype, param_dtype, logits):
    model = OneLayerTransformer(**SMALL, dtype=dtype, param_dtype=param_dtype)
    tokens = tokens_of(6, 2)  # int64
    variables = draw(model)
    assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype(param_dtype)}
    got = jax.jit(model.apply)(variables, tokens)
    assert got.dtype == logits
    want = reference(variables["params"], tokens, SMALL["heads"])
    assert np.abs(got - want).max() < (0.05 if dtype or "16" in param_dtype else 1e-5)


def test_order_before_the_last_token_does_not_matter():
    model = OneLayerTransformer(**SMALL)
    variables = draw(model)
    one, other, last = (
        model.apply(variables, jnp.array(x)) for x in ([1, 2, 3], [2, 1, 3], [1, 3, 2])
    )
    np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-6)
    assert np.abs(one - last).max() > 1e-2


def test_bad_tokens():
    model, good = OneLayerTransformer(**SMALL), jnp.array([[0, 1], [6, 5]])
    variables = draw(model)
    logits = jax.jit(model.apply)(variables, good)
    for token in (-1, 7):
        bad = good.at[0, 0].set(token)
        got = jax.jit(model.apply)(variables, bad)
        assert np.isnan(got[0]).all()
        np.testing.assert_array_equal(got[1], logits[1])
        with pytest.raises(ValueError, match=r"tokens outside \[0, 7\)"):
            model.apply(variables, bad)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"heads": 3}, "heads is 3, expected a divisor of d_model 8"),
        ({"heads": 0}, "heads is 0, expected a divisor of d_model 8"),
        ({"dropout": 1.0}, r"dropout is 1.0, expected it in \[0, 1\)"),
        ({"vocabulary": 0}, "vocabulary is 0, expected at least 1"),
    ],
)
def test_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        OneLayerTransformer(**SMALL | fields).init(KEY, jnp.zeros(2, int))


def test_tokens_must_be_integers():
    with pytest.raises(TypeError, match="x has dtype float.*, expected integers"):
        OneLayerTransformer(**SMALL).init(KEY, jnp.zeros(2))
