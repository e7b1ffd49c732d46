import jax
import jax.numpy as jnp
import numpy as np
import pytest

from logitlab.models import MLP, torch_linear_init

KEY = jax.random.key(0)


def one_hot(tokens, vocabulary):
    return jax.nn.one_hot(tokens, vocabulary).reshape(*tokens.shape[:-1], -1)


def draw(model, x):
    """Parameters from NumPy: quicker than to compile their initializers."""
    rng = np.random.default_rng(2)
    shapes = jax.eval_shape(model.init, KEY, x)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape), leaf.dtype), shapes
    )


def reference(params, x):
    """The network in float64 NumPy."""
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    x = np.asarray(x, np.float64)
    for i in range(len(params) - 1):
        x = np.maximum(linear(params[f"hidden_{i}"], x), 0)
    return linear(params["head"], x)


def linear(layer, x):
    return x @ layer["kernel"] + layer.get("bias", 0)


@pytest.mark.parametrize("fan_in", [None, 25])
def test_torch_linear_init(fan_in):
    inputs, bound = 100, 0.1 if fan_in is None else 0.2
    w = np.asarray(torch_linear_init(fan_in)(KEY, (inputs, 2000)), np.float64)
    n = w.size
    assert np.abs(w).max() <= np.float32(bound)
    # Mean, variance and kurtosis of a uniform variable, to four standard deviations.
    assert abs(w.mean()) < 4 * bound / np.sqrt(3 * n)
    assert abs(w.var() / (bound**2 / 3) - 1) < 4 * np.sqrt(0.8 / n)
    assert abs((w**4).mean() / bound**4 - 1 / 5) < 4 * np.sqrt((1 / 9 - 1 / 25) / n)


def test_torch_linear_init_dtypes(x64):
    assert torch_linear_init()(KEY, (3, 2)).dtype == jnp.float32
    assert torch_linear_init()(KEY, (3, 2), jnp.float64).dtype == jnp.float64
    assert torch_linear_init(3)(KEY, (2,), jnp.bfloat16).dtype == jnp.bfloat16


def test_torch_linear_init_errors():
    with pytest.raises(ValueError, match="fan_in is 0, expected at least 1"):
        torch_linear_init(0)
    for shape in [(3,), (0, 3)]:
        with pytest.raises(ValueError, match=r"expected \(inputs, outputs\) or"):
            torch_linear_init()(KEY, shape)


@pytest.mark.parametrize("batch", [(), (3,), (2, 3)], ids=str)
@pytest.mark.parametrize("use_bias", [True, False])
def test_matches_numpy(x64, use_bias, batch):
    model = MLP((7, 6), 4, use_bias=use_bias, param_dtype=jnp.float64)
    x = jax.random.normal(KEY, (*batch, 5))
    params = draw(model, x)["params"]
    got = model.apply({"params": params}, x)
    assert got.shape == (*batch, 4)
    assert got.dtype == jnp.float64
    np.testing.assert_allclose(got, reference(params, x), rtol=1e-12)


@pytest.mark.sampled
@pytest.mark.parametrize("vocabulary", [None, 5])
def test_torch_initialization(vocabulary):
    model = MLP((2000, 2000), 50, vocabulary=vocabulary)
    x = jnp.zeros((1, 10)) if vocabulary is None else jnp.zeros((1, 2), int)
    params = jax.jit(model.init)(KEY, x)["params"]
    for name, fan_in in [("hidden_0", 10), ("hidden_1", 2000), ("head", 2000)]:
        for array in params[name].values():
            rtol = 4 * np.sqrt(0.8 / array.size)
            array = np.asarray(array)
            np.testing.assert_allclose(array.var() * 3 * fan_in, 1, rtol=rtol)
            assert np.abs(array).max() <= np.float32(fan_in**-0.5)


def test_lecun_initialization():
    params = MLP((500,), 400, initialization="lecun").init(KEY, jnp.zeros(300))[
        "params"
    ]
    np.testing.assert_allclose(params["hidden_0"]["kernel"].var() * 300, 1, rtol=0.01)
    np.testing.assert_allclose(params["head"]["kernel"].var() * 500, 1, rtol=0.01)
    assert not any(layer["bias"].any() for layer in params.values())


def test_tokens_start_as_one_hot_features():
    tokens = jnp.array([[0, 4, 2]])
    variables = MLP((8,), 4, vocabulary=5).init(KEY, tokens)
    same = MLP((8,), 4).init(KEY, one_hot(tokens, 5))
    jax.tree.map(np.testing.assert_array_equal, variables, same)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("batch", [(), (40,), (2, 3)], ids=str)
@pytest.mark.parametrize("positions", [1, 2, 3])
@pytest.mark.parametrize("use_bias", [True, False])
def test_tokens_are_one_hot_features(x64, use_bias, positions, batch):
    p = 5
    tokens = jax.random.randint(KEY, (*batch, positions), 0, p)
    fields = {"use_bias": use_bias, "param_dtype": jnp.float64}
    sparse = MLP((8,), 4, vocabulary=p, **fields)
    variables = draw(sparse, tokens)

    def loss(variables, model, x):
        logits = model.apply(variables, x)
        return jnp.sin(logits).sum(), logits

    grad = jax.jit(jax.grad(loss, has_aux=True), static_argnums=1)
    got = grad(variables, sparse, tokens)
    want = grad(variables, MLP((8,), 4, **fields), one_hot(tokens, p))
    for a, b in zip(*map(jax.tree.leaves, (got, want)), strict=True):
        assert a.dtype == jnp.float64
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


def test_one_hot_vectors_are_never_made():
    tokens = jnp.zeros((1009, 2), int)  # primes: no other array has these sizes
    model = MLP((4,), 3, vocabulary=97)
    variables = draw(model, tokens)
    step = jax.grad(lambda variables: model.apply(variables, tokens).sum())
    largest = jax.jit(step).lower(variables).compile().memory_analysis()
    assert largest.temp_size_in_bytes < 4 * 1009 * 97


def test_network_of_tokens_alone():
    model = MLP((), 3, vocabulary=4, use_bias=False, param_dtype=jnp.bfloat16)
    tokens = jnp.array([[0, 3], [1, 1]])
    variables = draw(model, tokens)
    kernel = np.asarray(variables["params"]["head"]["kernel"], np.float32)
    got = model.apply(variables, tokens)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, kernel[[0, 1]] + kernel[[7, 5]], rtol=1e-6)


def test_without_biases_weights_only_scale():
    model = MLP((8, 8), 3, use_bias=False)
    x = jax.random.normal(KEY, (4, 5))
    variables = draw(model, x)
    assert all(list(layer) == ["kernel"] for layer in variables["params"].values())
    twice = jax.tree.map(lambda w: 2 * w, variables)
    np.testing.assert_allclose(
        model.apply(twice, x), 8 * model.apply(variables, x), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("dtype", "param_dtype", "logits"),
    [
        (None, "float32", "float32"),
        ("bfloat16", "float32", "float32"),
        (None, "bfloat16", "float32"),
        (None, "float64", "float64"),
        ("float16", "float64", "float64"),
    ],
)
@pytest.mark.parametrize("vocabulary", [None, 5])
def test_dtypes(x64, vocabulary, dtype, param_dtype, logits):
    model = MLP([8], 4, dtype=dtype, param_dtype=param_dtype, vocabulary=vocabulary)
    x = jnp.ones((3, 2), float if vocabulary is None else int)  # float64 or int64
    variables = draw(model, x)
    assert {a.dtype for a in jax.tree.leaves(variables)} == {jnp.dtype(param_dtype)}
    assert model.apply(variables, x).dtype == logits
    wide = jax.tree.map(lambda a: a.astype("float64"), variables)
    assert model.apply(wide, x).dtype == jnp.float64
    rtol = 0.02 if "16" in f"{dtype}" else 1e-6
    features = x if vocabulary is None else one_hot(x, 5)
    want = reference(wide["params"], features)
    error = np.abs(model.apply(variables, x) - want).max() / np.abs(want).max()
    assert error < rtol


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "uint32", "int64"])
def test_bad_tokens(x64, dtype):
    p = 200  # more than int8 can count
    model = MLP((8,), 4, vocabulary=p)
    good = jnp.array([[0, 1], [100, 99]], dtype)
    variables = draw(model, good)
    logits = jax.jit(model.apply)(variables, good)
    np.testing.assert_allclose(logits, model.apply(variables, good), rtol=1e-6)
    bad = {"int8": [-1], "uint8": [200, 255], "uint32": [200, 2**32 - 1]}
    for token in bad.get(dtype, [-1, 200, -(2**31)]) + [2**32] * (dtype == "int64"):
        for position in (0, 1):
            x = good.at[0, position].set(token)
            got = jax.jit(model.apply)(variables, x)
            assert np.isnan(got[0]).all()
            np.testing.assert_array_equal(got[1], logits[1])
            with pytest.raises(
                ValueError, match=rf"tokens outside \[0, 200\): \[{token}"
            ):
                model.apply(variables, x)


@pytest.mark.sampled
@pytest.mark.parametrize("over_keys", [jax.vmap, lambda f: lambda k: jax.lax.map(f, k)])
@pytest.mark.parametrize("vocabulary", [None, 5])
def test_seeds_in_one_program(vocabulary, over_keys):
    model = MLP((8,), 4, vocabulary=vocabulary)
    x = jnp.ones((3, 2)) if vocabulary is None else jnp.array([[0, 1], [4, 2]])
    keys = jax.random.split(KEY, 3)

    def loss(variables):
        return jnp.square(model.apply(variables, x)).sum()

    def train(key):
        return jax.grad(loss)(model.init(key, x))

    got = jax.jit(over_keys(train))(keys)
    want = [jax.jit(train)(key) for key in keys]
    for a, *b in zip(*map(jax.tree.leaves, [got, *want]), strict=True):
        np.testing.assert_allclose(a, np.stack(b), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("fields", "x", "error", "message"),
    [
        (
            {"initialization": "he"},
            np.zeros(3),
            ValueError,
            "is 'he', expected 'torch'",
        ),
        ({}, np.zeros(()), ValueError, "x is a scalar"),
        (
            {"vocabulary": 5},
            np.zeros(2),
            TypeError,
            "x has dtype float.*, expected int",
        ),
        (
            {"vocabulary": 5},
            np.zeros((), int),
            ValueError,
            r"x has shape \(\), expected",
        ),
        ({"vocabulary": 5}, np.zeros((3, 0), int), ValueError, r"x has shape \(3, 0\)"),
        (
            {"vocabulary": 0},
            np.zeros(2, int),
            ValueError,
            "vocabulary is 0, expected at",
        ),
    ],
)
def test_errors(fields, x, error, message):
    with pytest.raises(error, match=message):
        MLP((8,), 4, **fields).init(KEY, jnp.asarray(x))
