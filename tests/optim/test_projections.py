import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from logitlab.optim import ortho_grad

GOLDEN = pathlib.Path(__file__).parents[1] / "golden/ortho_grad.json"
CASES = json.loads(GOLDEN.read_text())["cases"]


def project(params, grads, **kwargs):
    transform = ortho_grad(**kwargs)
    return transform.update(grads, transform.init(params), params)[0]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", [c for c in CASES if "grads" in c["inputs"]])
def test_golden(case):
    params, grads = ([np.array(a) for a in v] for v in case["inputs"].values())
    got = project(params, grads, **case["params"])
    for a, b in zip(got, case["outputs"]["ortho_grads"], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-9 * np.abs(b).max())


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", [c for c in CASES if "w0" in c["inputs"]])
def test_golden_trajectory_with_momentum(case):
    optimizer = optax.chain(
        ortho_grad(renormalize=case["params"]["renormalize"]),
        optax.sgd(case["params"]["lr"], case["params"]["momentum"]),
    )
    params = jnp.array(case["inputs"]["w0"])
    state = optimizer.init(params)
    for grads, after in zip(
        case["inputs"]["grads_sequence"], case["outputs"]["trajectory"], strict=True
    ):
        updates, state = optimizer.update(jnp.array(grads), state, params)
        params = optax.apply_updates(params, updates)
        np.testing.assert_allclose(params, after, rtol=1e-9)


def random(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def oracle(params, grads, renormalize=True):
    """One vector, in float64."""
    w, g = (np.concatenate([np.float64(a).ravel() for a in v]) for v in (params, grads))
    t = g - (w @ g) / (w @ w) * w
    return t * np.linalg.norm(g) / np.linalg.norm(t) if renormalize else t


@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize("scale", [1e-25, 1, 1e25])
@pytest.mark.parametrize("weight", [1e-10, 1, 1e25])
def test_float32_at_any_scale(renormalize, scale, weight):
    params, grads = random(3, 4), random(3, 4, seed=1)
    got = project(weight * params, scale * grads, renormalize=renormalize)
    expected = scale * oracle([params], [grads], renormalize)
    np.testing.assert_allclose(np.ravel(got), expected, rtol=1e-4)


@pytest.mark.parametrize("renormalize", [True, False])
def test_all_leaves_as_one_vector(renormalize):
    params = {"a": random(3), "b": random(2, 2, seed=2)}
    grads = {"a": random(3, seed=3), "b": random(2, 2, seed=4)}
    got = project(params, grads, per_leaf=False, renormalize=renormalize)
    expected = oracle(params.values(), grads.values(), renormalize)
    flat = np.concatenate([np.ravel(got["a"]), np.ravel(got["b"])])
    np.testing.assert_allclose(flat, expected, rtol=1e-5)
    assert not np.allclose(got["a"], project(params, grads)["a"])


def test_zero_weights_pass_the_gradient():
    grads = random(4)
    np.testing.assert_allclose(project(np.zeros(4, "f4"), grads), grads, rtol=1e-6)


def test_zero_gradients_stay_zero():
    got = project(random(4), np.zeros(4, "f4"))
    np.testing.assert_array_equal(got, np.zeros(4))


def test_min_ratio_spares_rounding_noise():
    """A parallel gradient leaves noise, which the default blows up, as the original."""
    w = random(50)
    grads = np.float32(0.7) * w
    noise = project(w, grads, renormalize=False)
    assert np.linalg.norm(noise) < 1e-5
    spared = project(w, grads, min_ratio=1e-3)
    np.testing.assert_allclose(spared, noise, rtol=1e-5)
    honest = random(50, seed=1)
    np.testing.assert_array_equal(
        project(w, honest, min_ratio=1e-3), project(w, honest)
    )


def test_a_scalar_is_parallel_to_any_other():
    assert project(np.float32(2), np.float32(3)) == 0


def test_mask_leaves_biases_alone():
    params = {"kernel": random(3, 2), "bias": random(2)}
    grads = {"kernel": random(3, 2, seed=1), "bias": random(2, seed=1)}
    got = project(params, grads, mask=lambda p: jax.tree.map(lambda a: a.ndim > 1, p))
    np.testing.assert_array_equal(got["bias"], grads["bias"])
    np.testing.assert_allclose(np.vdot(got["kernel"], params["kernel"]), 0, atol=1e-5)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits_are_projected_in_float32(dtype):
    params, grads = random(20), random(20, seed=1)
    got = project(params.astype(dtype), grads.astype(dtype))
    assert got.dtype == dtype
    exact = oracle([params.astype(dtype)], [grads.astype(dtype)])
    np.testing.assert_array_equal(got, exact.astype(np.float32).astype(dtype))


def test_in_a_jitted_chain_weights_keep_their_norm_to_first_order():
    optimizer = optax.chain(ortho_grad(), optax.sgd(1e-3))
    params = {"w": jnp.array(random(10))}
    state = optimizer.init(params)
    grads = {"w": jnp.array(random(10, seed=1))}
    updates, _ = jax.jit(optimizer.update)(grads, state, params)
    np.testing.assert_allclose(jnp.vdot(updates["w"], params["w"]), 0, atol=1e-8)


def test_errors():
    with pytest.raises(ValueError, match="needs params"):
        ortho_grad().update(jnp.ones(3), ortho_grad().init(jnp.ones(3)))
    with pytest.raises(ValueError, match="eps is -1"):
        ortho_grad(eps=-1)
    with pytest.raises(ValueError, match="min_ratio is -0.5"):
        ortho_grad(min_ratio=-0.5)
