import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.interpreter import interpreted

from logitlab import losses
from logitlab.models import GRUClassifier

KEY = jax.random.key(0)
SMALL = GRUClassifier(hidden=6, num_classes=3)


def draw(model, x):
    rng = np.random.default_rng(2)
    shapes = jax.eval_shape(model.init, KEY, x)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape), leaf.dtype), shapes
    )


def reference(params, x):
    """Sequences [N, T, D] in float64 NumPy; Cho et al. 2014, as PyTorch has it."""
    params = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    cell = params["gru"]
    into = lambda name, v: v @ cell[name]["kernel"] + cell[name].get("bias", 0)  # noqa: E731
    sigmoid = lambda v: 1 / (1 + np.exp(-v))  # noqa: E731
    h = np.zeros((len(x), 6))
    for t in range(x.shape[1]):
        r = sigmoid(into("ir", x[:, t]) + into("hr", h))
        z = sigmoid(into("iz", x[:, t]) + into("hz", h))
        n = np.tanh(into("in", x[:, t]) + r * into("hn", h))
        h = (1 - z) * n + z * h
    return h @ params["head"]["kernel"] + params["head"]["bias"]


def sequences(*shape):
    return np.random.default_rng(0).normal(size=(*shape, 5)).astype("f4")


def test_matches_numpy():
    x = sequences(4, 7)
    variables = draw(SMALL, x)
    got = jax.jit(SMALL.apply)(variables, x)
    want = reference(variables["params"], x)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    apply = interpreted(SMALL.apply)
    several = apply(variables, x.reshape(2, 2, 7, 5))
    np.testing.assert_allclose(several.reshape(4, 3), got, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(apply(variables, x[0]), got[0], rtol=1e-5, atol=1e-6)


def test_lengths():
    x, lengths = sequences(4, 7), np.array([1, 3, 7, 5])
    variables, alone = draw(SMALL, x), interpreted(SMALL.apply)
    want = [alone(variables, x[i, :n]) for i, n in enumerate(lengths)]
    for i, n in enumerate(lengths):
        x[i, n:] = np.nan
    f = lambda v, x, n: SMALL.apply(v, x, lengths=n)  # noqa: E731
    late = jax.jit(f)
    np.testing.assert_allclose(late(variables, x, lengths), want, rtol=1e-5, atol=1e-6)
    grads = interpreted(jax.grad(lambda v: f(v, x, lengths).sum()))(variables)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    for bad in (0, 8):
        lengths[1] = bad
        with pytest.raises(ValueError, match=rf"lengths outside \[1, 7\]: \[{bad}\]"):
            f(variables, x, lengths)
        got = np.asarray(late(variables, x, lengths))
        assert np.isnan(got).all(-1).tolist() == [False, True, False, False]


def test_gru_svm_learns():
    """The class is where the one large feature of the first step is."""
    y = np.arange(60) % 3
    x = 0.1 * sequences(60, 4)
    x[np.arange(60), 0, y] += 2
    params = interpreted(SMALL.init)(KEY, x)["params"]
    optimizer = optax.adam(0.02)

    def objective(params):
        logits = SMALL.apply({"params": params}, x)
        each = losses.squared_hinge_loss(logits, y)
        return losses.l2_svm_objective(each, params["head"]["kernel"])

    @jax.jit
    def step(params, state):
        updates, state = optimizer.update(jax.grad(objective)(params), state)
        return optax.apply_updates(params, updates), state

    state = optimizer.init(params)
    for _ in range(80):
        params, state = step(params, state)
    right = interpreted(SMALL.apply)({"params": params}, x).argmax(-1) == y
    assert right.mean() > 0.95


def test_dropout_and_dtypes(x64):
    model = GRUClassifier(6, 3, dropout=0.5, param_dtype=jnp.float64)
    x = sequences(4, 7)
    variables = draw(model, x)
    apply = functools.partial(model.apply, deterministic=False)
    samples = [
        interpreted(apply)(variables, x, rngs={"dropout": jax.random.key(seed)})
        for seed in (0, 1)
    ]
    assert samples[0].dtype == jnp.float64
    assert (samples[0] != samples[1]).any()
    assert (samples[0] != interpreted(model.apply)(variables, x)).any()
    low = jax.eval_shape(SMALL.apply, draw(SMALL, x), x.astype("bfloat16"))
    assert low.dtype == jnp.float32


@pytest.mark.parametrize(
    ("fields", "x", "lengths", "error", "message"),
    [
        (dict(hidden=0), np.ones((2, 3)), None, ValueError, "hidden is 0, expected at"),
        (dict(num_classes=0), np.ones((2, 3)), None, ValueError, "num_classes is 0"),
        (dict(dropout=1.0), np.ones((2, 3)), None, ValueError, "dropout is 1.0"),
        ({}, np.ones(3), None, ValueError, r"x has shape \(3,\), expected \[..., T, D"),
        ({}, np.ones((0, 3)), None, ValueError, r"x has shape \(0, 3\)"),
        ({}, np.ones((2, 3), int), None, TypeError, "x has dtype int"),
        ({}, np.ones((2, 3)), np.ones(2, int), ValueError, r"lengths has shape \(2,\)"),
        ({}, np.ones((2, 3)), np.ones(()), TypeError, "lengths has dtype float"),
    ],
)  # fmt: skip
def test_errors(fields, x, lengths, error, message):
    model = GRUClassifier(**dict(hidden=6, num_classes=3) | fields)
    lengths = None if lengths is None else jnp.asarray(lengths)
    with pytest.raises(error, match=message):
        model.init(KEY, jnp.asarray(x), lengths=lengths)
