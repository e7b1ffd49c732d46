"""What every transformation of the room keeps, as those of optax.contrib do.

It works under jit, in a chain, masked, for a part of the parameters, with injected
hyper-parameters and with accumulated gradients; dtypes and shardings of parameters
survive a step; and its state is a NamedTuple of arrays.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.quickly import quick_jit
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from logitlab import losses, optim

X = np.random.default_rng(0).normal(size=(16, 8)).astype("f4")
LABELS = np.random.default_rng(1).integers(0, 4, 16)
KEY = jax.random.key(0)
MAKERS = {
    "cap_by_ghost_radius": (optim.cap_by_ghost_radius, dict(target_r=0.01), ()),
    "cap by a quantile": (
        optim.cap_by_ghost_radius,
        dict(target_r=0.01, quantile=0.5),
        (),
    ),
    "scale_by_inverse_error_mass": (
        optim.scale_by_inverse_error_mass,
        dict(max_scale=1e3),
        (),
    ),
    "surrogate_descent": (
        optim.surrogate_descent,
        dict(eta=2.0, inner_steps=2),
        ("inner_steps", "max_trials"),
    ),
    "record_grad_norm": (
        optim.record_grad_norm,
        dict(length=4, ord=1),
        ("length", "ord"),
    ),
    "scale_by_compositional_momentum": (
        optim.scale_by_compositional_momentum,
        dict(beta=0.25),
        (),
    ),
    "autolrs": (
        optim.autolrs,
        dict(
            optimizer=optax.scale_by_adam(),
            lr_bounds=(1e-3, 1.0),
            key=KEY,
            search_steps=3,
            candidates=2,
        ),
        ("optimizer", "lr_bounds", "key", "search_steps", "candidates"),
    ),
}
every_one = pytest.mark.parametrize("name", MAKERS)


def params(dtype="f4"):
    w = 0.1 * np.random.default_rng(2).normal(size=(8, 4))
    return {"b": jnp.zeros(4, dtype), "w": jnp.asarray(w, dtype)}


def logits(w):
    return X @ w["w"] + w["b"][None]


def grads(w):
    return jax.grad(lambda w: losses.cross_entropy(logits(w), LABELS).mean())(w)


def step(transform, w, state, whole=None):
    """One update with all that any of them takes."""
    logits_fn = logits if whole is None else optim.hold_masked(logits, whole)
    return transform.update(
        grads(w) if whole is None else grads(whole),
        state,
        w if whole is None else whole,
        value=losses.cross_entropy(logits(whole or w), LABELS).mean(),
        logits_fn=logits_fn,
        logit_loss_fn=lambda z: losses.cross_entropy(z, LABELS),
        error_mass=optim.error_mass(logits(whole or w), LABELS),
    )


def make(name):
    maker, options, _ = MAKERS[name]
    return optax.with_extra_args_support(maker(**options))


def trained(transform, w, steps=3, whole=False):
    @quick_jit
    def run(w):
        def body(carry, _):
            w, state = carry
            updates, state = step(transform, w, state, w if whole else None)
            return (optax.apply_updates(w, updates), state), updates

        return jax.lax.scan(body, (w, transform.init(w)), None, steps)

    return run(w)


def is_array(leaf):
    return isinstance(leaf, jax.Array)


@every_one
def test_state_and_dtypes_survive_a_scan(name):
    for dtype in ("f4", "bfloat16"):
        transform, w = make(name), params(dtype)
        state = transform.init(w)
        assert isinstance(state, tuple)
        assert hasattr(state, "_fields")
        assert all(map(is_array, jax.tree.leaves(state)))
        shapes = jax.eval_shape(functools.partial(step, transform), w, state)
        for old, new in zip((w, state), shapes, strict=True):
            assert jax.tree.structure(new) == jax.tree.structure(old)
            for a, b in zip(jax.tree.leaves(old), jax.tree.leaves(new), strict=True):
                assert (a.shape, a.dtype) == (b.shape, b.dtype)


@pytest.mark.sampled(2)
@every_one
def test_wrapped_it_is_what_it_is_alone(name):
    """In a chain, injected, accumulated once, and as all that partitions do."""
    maker, options, static = MAKERS[name]
    w = params()
    (want, _), updates = trained(make(name), w)
    assert all(jnp.isfinite(a).all() for a in jax.tree.leaves(updates))
    everything = jax.tree.map(lambda _: True, w)
    labels = jax.tree.map(lambda _: "all", w)
    wrapped = {
        "chain": optax.chain(make(name), optax.identity()),
        "injected": optax.inject_hyperparams(maker, static_args=static)(**options),
        "masked": optax.masked(make(name), everything),
        "parts": optax.multi_transform({"all": make(name)}, labels),
        "accumulated": optax.MultiSteps(make(name), 1),
    }
    for how, transform in wrapped.items():
        (got, _), _ = trained(transform, w)
        for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6, err_msg=how)


@pytest.mark.sampled(2)
@every_one
def test_a_part_of_the_parameters(name):
    w = params()
    part = {"w": True, "b": False}
    _, updates = trained(optax.masked(make(name), part), w, whole=True)
    both = optax.multi_transform(
        {"this": make(name), "none": optax.set_to_zero()}, {"w": "this", "b": "none"}
    )
    (moved, _), others = trained(both, w, whole=True)
    np.testing.assert_allclose(updates["b"][0], grads(w)["b"], rtol=1e-5)
    np.testing.assert_array_equal(moved["b"], w["b"])
    np.testing.assert_allclose(others["w"][0], updates["w"][0], rtol=1e-5, atol=1e-7)
    assert jnp.isfinite(updates["w"]).all()


@pytest.mark.sampled(2)
@every_one
def test_accumulated_gradients(name):
    """Of two equal ones it sees the mean, and leaves the first step out."""
    w = params()
    (_, state), updates = trained(optax.MultiSteps(make(name), 2), w, steps=2)
    assert all((a[0] == 0).all() for a in jax.tree.leaves(updates))
    want = trained(make(name), w, steps=1)[1]
    for a, b in zip(jax.tree.leaves(updates), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a[1], b[0], rtol=1e-4, atol=1e-6)
    assert state.gradient_step == 1


@pytest.mark.sampled(2)
@every_one
def test_shardings_survive_a_step(name):
    mesh = jax.make_mesh((2, 4), ("data", "model"), (AxisType.Auto,) * 2)
    spec = {"b": P("model"), "w": P(None, "model")}
    place = functools.partial(NamedSharding, mesh)
    w = jax.tree.map(lambda a, s: jax.device_put(a, place(s)), params(), spec)
    transform = make(name)
    state = jax.jit(transform.init)(w)
    run = quick_jit(functools.partial(step, transform))
    updates, after = run(w, state)
    for a, s in zip(updates.values(), spec.values(), strict=True):
        assert a.sharding.is_equivalent_to(place(s), a.ndim)
    want, _ = run(params(), transform.init(params()))
    for a, b in zip(jax.tree.leaves(updates), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    assert jax.tree.structure(after) == jax.tree.structure(state)


def test_hyper_parameters_may_be_traced():
    w = params()

    def updates(target, most, beta):
        found = []
        for transform in (
            optim.cap_by_ghost_radius(target, quantile=beta),
            optim.scale_by_inverse_error_mass(most),
            optim.scale_by_compositional_momentum(beta),
        ):
            transform = optax.with_extra_args_support(transform)
            found.append(step(transform, w, transform.init(w))[0])
        return found

    shapes = jax.eval_shape(updates, 0.5, 10.0, 0.5)
    assert all(a.dtype == np.float32 for a in jax.tree.leaves(shapes))
