import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import cases
from harness.interpreter import interpreted

from logitlab import losses, transforms
from logitlab.models import TempNet

CASES = cases("tempnet_module")
KEY = jax.random.key(0)
SMALL = TempNet(tau_min=0.5, tau_max=5.0, hidden=8)


def reference(params, z, low, high):
    """In float64 NumPy."""
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    x = z / np.maximum(np.linalg.norm(z, axis=-1, keepdims=True), 1e-12)
    x = 1 / (1 + np.exp(-(x @ p["hidden"]["kernel"] + p["hidden"]["bias"])))
    h = x @ p["mix"]["kernel"] + p["mix"]["bias"]
    a = np.exp(h / np.exp(p["log_scale"]))
    a = a / a.sum(-1, keepdims=True) - 1 / h.shape[-1]
    u = ((a * h) @ p["head"]["kernel"] + p["head"]["bias"])[..., 0]
    return low + (high - low) / (1 + np.exp(-u))


def draw(model, logits):
    rng = np.random.default_rng(2)
    shapes = jax.eval_shape(model.init, KEY, logits)
    return jax.tree.map(
        lambda leaf: jnp.asarray(0.5 * rng.normal(size=leaf.shape), leaf.dtype), shapes
    )


@pytest.mark.parametrize("case", CASES)
def test_golden(x64, case):
    given = {name: np.asarray(value) for name, value in case["inputs"].items()}
    model = TempNet(**case["params"], param_dtype=jnp.float64)
    params = {
        "hidden": {"kernel": given["w1"].T, "bias": given["b1"]},
        "mix": {"kernel": given["w2"].T, "bias": given["b2"]},
        "head": {"kernel": given["w3"].T, "bias": given["b3"]},
        "log_scale": given["log_scale"],
    }
    tau = jax.jit(model.apply)({"params": params}, given["logits"])
    np.testing.assert_allclose(tau, case["outputs"]["tau"], rtol=1e-8)
    shapes = jax.eval_shape(model.init, KEY, given["logits"])["params"]
    assert jax.tree.map(jnp.shape, params) == jax.tree.map(jnp.shape, shapes)


@pytest.mark.parametrize("shape", [(5,), (3, 5), (2, 3, 5)], ids=str)
def test_matches_numpy(shape):
    z = 3 * np.random.default_rng(0).normal(size=shape).astype("f4")
    variables = draw(SMALL, z)
    got = jax.jit(SMALL.apply)(variables, z)
    assert got.shape == shape[:-1]
    np.testing.assert_allclose(
        got, reference(variables["params"], z, 0.5, 5), rtol=1e-5
    )


def test_start():
    params = interpreted(TempNet(0.01, 2.0).init)(KEY, np.ones(10, "f4"))["params"]
    assert params["hidden"]["kernel"].shape == (10, 256)
    np.testing.assert_array_equal(params["head"]["kernel"], np.ones((256, 1)))
    np.testing.assert_array_equal(params["head"]["bias"], [0])
    assert params["log_scale"] == 0


def test_any_logits():
    biggest = np.finfo("f4").max
    z = np.float32([[1, 2, 0], [2**100, 2**101, 0], [0, 0, 0], [biggest, biggest, 0]])
    tiny = np.float32([[1, 2, 0], [1e-30, 2e-30, 0]])
    hidden = np.float32([[1, 2, -np.inf], [1, 2, 0]])

    @jax.jit
    def run(variables, z, *others):
        grads = jax.grad(lambda p: SMALL.apply(p, z).sum())(variables)
        return [SMALL.apply(variables, a) for a in (z, *others)], grads

    variables = draw(SMALL, z)
    (tau, of_tiny, of_hidden), grads = run(variables, z, tiny, hidden)
    assert np.isfinite(tau).all()
    np.testing.assert_array_equal(tau[0], tau[1])  # only the direction counts
    np.testing.assert_allclose(*of_tiny, rtol=1e-6)
    np.testing.assert_array_equal(*of_hidden)
    assert all(np.isfinite(g).all() for g in jax.tree.leaves(grads))
    low = jax.eval_shape(SMALL.apply, variables, z.astype("bfloat16"))
    assert low.dtype == np.float32


def test_learns_from_the_loss_and_leaves_the_logits_alone():
    z = 3 * np.random.default_rng(0).normal(size=(20, 5)).astype("f4")
    y = np.arange(20) % 5
    variables = draw(SMALL, z)
    inputs = interpreted(jax.grad(lambda z: SMALL.apply(variables, z).sum()))(z)
    np.testing.assert_array_equal(inputs, 0)

    def loss(variables):
        tau = SMALL.apply(variables, z)
        return losses.tempnet_robust_loss(z, y, tau, rho=0.5).mean()

    @interpreted
    def least(z):
        best = transforms.optimal_temperature(z, rho=0.5, tau_min=0.5, tau_max=5.0)
        return losses.tempnet_robust_loss(z, y, best, rho=0.5).mean()

    @jax.jit
    def step(variables):
        value, grads = jax.value_and_grad(loss)(variables)
        return value, grads, jax.tree.map(lambda p, g: p - 0.3 * g, variables, grads)

    bound, (before, *_) = least(z), step(variables)
    for _ in range(100):
        value, grads, variables = step(variables)
    assert bound - 1e-6 <= value < bound + 0.7 * (before - bound)
    assert all(g.any() for g in jax.tree.leaves(grads))


def test_dropout():
    z = np.random.default_rng(0).normal(size=(20, 5)).astype("f4")
    variables = draw(SMALL, z)
    sample = jax.jit(
        lambda seed: SMALL.apply(
            variables, z, deterministic=False, rngs={"dropout": jax.random.key(seed)}
        )
    )
    np.testing.assert_array_equal(sample(0), sample(0))
    assert (sample(0) != sample(1)).any()
    assert (sample(0) != SMALL.apply(variables, z)).any()


@pytest.mark.parametrize(
    ("fields", "logits", "error", "message"),
    [
        (dict(tau_min=0.0), np.ones(3), ValueError, "tau_min is 0.0, expected it"),
        (dict(tau_min=5.0), np.ones(3), ValueError, r"in \(0, tau_max 5.0\)"),
        (dict(hidden=0), np.ones(3), ValueError, "hidden is 0, expected at least 1"),
        (dict(dropout=1.0), np.ones(3), ValueError, r"dropout is 1.0, expected it in"),
        ({}, np.ones(()), ValueError, r"logits has shape \(\), expected \[..., C\]"),
        ({}, np.ones(3, int), TypeError, "logits has dtype int32"),
    ],
)  # fmt: skip
def test_errors(fields, logits, error, message):
    model = TempNet(**dict(tau_min=0.5, tau_max=5.0) | fields)
    with pytest.raises(error, match=message):
        model.init(KEY, jnp.asarray(logits))
