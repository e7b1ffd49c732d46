"""Transformations whose hyper-parameters are in the optimiser's state."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.interpreter import interpreted

from logitlab import optim, targets

PARAMS = {"w": jnp.float32([[1, -2], [0.5, 3]])}
GRADS = {"w": jnp.float32([[0.3, 0.1], [-0.2, 0.4]])}
MAKERS = {
    "ortho_grad": (optim.ortho_grad, dict(eps=1e-30, min_ratio=0.1), ()),
    "fused_soft_threshold": (
        optim.fused_soft_threshold,
        dict(learning_rate=0.1, l1=0.2, l2=0.3),
        ("axis", "increments"),
    ),
    "fused lasso": (
        optim.fused_soft_threshold,
        dict(learning_rate=0.1, l1=0.2, increments=False),
        ("axis", "increments"),
    ),
    "xgd": (
        optim.xgd,
        dict(optimizer=optax.sgd(0.1), reference=PARAMS, refresh_every=2),
        ("reference",),
    ),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", MAKERS)
def test_inject_hyperparams(name):
    make, options, static = MAKERS[name]
    plain = make(**options)
    injected = optax.inject_hyperparams(make, static_args=static)(**options)
    want, _ = plain.update(GRADS, plain.init(PARAMS), PARAMS)
    state = injected.init(PARAMS)
    for update in (injected.update, jax.jit(injected.update)):
        got, after = update(GRADS, state, PARAMS)
        np.testing.assert_allclose(got["w"], want["w"], rtol=1e-6)
        assert jax.tree.structure(after) == jax.tree.structure(state)


def test_a_numpy_scalar_does_not_decide_the_dtype():
    with jax.enable_x64(True):
        eps = np.float64(1e-3)
        for transform in (
            optim.ortho_grad(eps=eps, min_ratio=eps),
            optim.fused_soft_threshold(eps, l1=eps, l2=eps),
            optax.sgd(optim.subgradient_schedule(np.float64(1), np.float64(2))),
        ):
            state = jax.eval_shape(transform.init, PARAMS)
            got, _ = jax.eval_shape(transform.update, GRADS, state, PARAMS)
            assert got["w"].dtype == np.float32
        point = optim.random_point(jax.random.key(0), scale=np.float64(2))
        assert jax.eval_shape(point, PARAMS)["w"].dtype == np.float32
        for shrink in (optim.soft_threshold, optim.tv_prox):
            got = jax.eval_shape(lambda a, f=shrink: f(a, eps), np.float32([1, 2]))
            assert got.dtype == np.float32


def test_concentrations_may_be_traced():
    def draw(alpha):
        labels = jnp.array([0, 200], jnp.uint8)
        return targets.dirichlet_responsibilities(
            jax.random.key(0), labels, factors=2, classes=256, concentration=alpha
        )

    got = jax.jit(draw)(0.5)
    np.testing.assert_allclose(got, interpreted(lambda: draw(0.5))(), rtol=1e-5)
    np.testing.assert_allclose(np.sum(got, -1), np.ones((2, 2)), rtol=1e-5)


def test_a_traced_l2_that_cannot_be_checked_is_no_number():
    def step(l2):
        transform = optim.fused_soft_threshold(0.1, l2=l2, increments=False)
        w = jnp.ones(2)
        return transform.update(w, transform.init(w), w)[0]

    assert np.isfinite(jax.jit(step)(0.0)).all()
    assert np.isnan(jax.jit(step)(1.0)).all()
