import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from logitlab import losses, optim


def loss(params, batch):
    x, y = batch
    logits = jnp.tanh(x @ params["hidden"]) @ params["out"]
    return losses.cross_entropy(logits, y)


def draw(dtype):
    rng = np.random.default_rng(0)
    params = dict(hidden=rng.normal(size=(3, 4)), out=rng.normal(size=(4, 2)))
    batch = rng.normal(size=(6, 3)).astype(dtype), rng.integers(0, 2, 6)
    meta = rng.normal(size=(2, 3)).astype(dtype), np.array([0, 1])
    return {name: a.astype(dtype) for name, a in params.items()}, batch, meta


def test_it_is_the_derivative_through_a_virtual_step(x64):
    params, batch, meta = draw("f8")

    def after(eps):
        def total(p):
            return (eps * loss(p, batch)).sum()

        moved = jax.tree.map(lambda p, g: p - 0.1 * g, params, jax.grad(total)(params))
        return loss(moved, meta).mean()

    want = np.maximum(-jax.grad(after)(np.zeros(6)), 0)
    assert 0 < (want > 0).sum() < 6
    got = optim.meta_reweight(loss, params, batch, meta, inner_lr=0.1)
    np.testing.assert_allclose(got, want / want.sum(), rtol=1e-12)


def test_nothing_helps_or_is_too_small():
    def distance(w, x):
        return (w - x) ** 2

    reweight = interpreted(optim.meta_reweight, static_argnames="loss_fn")
    got = reweight(distance, 0.0, np.float32([-1, -2]), np.ones(1, "f4"), inner_lr=0.1)
    np.testing.assert_array_equal(got, 0)
    x = np.float32([1e-12, 3e-12, -1])
    got = reweight(distance, 0.0, x, np.float32([1e-12]), inner_lr=1e-3)
    np.testing.assert_allclose(got, [0.25, 0.75, 0], rtol=1e-6)


def test_errors():
    params, batch, meta = draw("f4")
    with pytest.raises(ValueError, match=r"returned shape \(\) for meta_batch"):
        optim.meta_reweight(
            lambda p, b: loss(p, b).mean(), params, batch, meta, inner_lr=0.1
        )
    with pytest.raises(ValueError, match="inner_lr is 0, expected positive"):
        optim.meta_reweight(loss, params, batch, meta, inner_lr=0)
