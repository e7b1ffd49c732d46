import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from logitlab import links, losses, models


def build(x, **fields):
    model = models.CheckeredDense(**fields)
    return model, interpreted(model.init)(jax.random.key(0), x)


def apply(model, variables, x, **options):
    return interpreted(functools.partial(model.apply, **options))(variables, x)


def test_factors_are_linear():
    x = np.random.default_rng(0).normal(size=(2, 7, 4)).astype("f4")
    model, variables = build(x, classes=3, factors=2)
    kernel, bias = variables["params"]["kernel"], variables["params"]["bias"]
    assert kernel.shape == (4, 2, 3)
    z = apply(model, variables, x, method="factor_logits")
    want = np.einsum("abd,dmc->abmc", x.astype("f8"), kernel) + np.asarray(bias)
    np.testing.assert_allclose(z, want, rtol=1e-5, atol=1e-5)
    want = interpreted(links.checkered)(z)
    np.testing.assert_allclose(apply(model, variables, x), want, rtol=1e-6)


def test_one_factor_is_softmax_regression():
    x = np.random.default_rng(0).normal(size=(7, 4)).astype("f4")
    model, variables = build(x, classes=3, factors=1)
    dense = {k: v.squeeze(-2) for k, v in variables["params"].items()}
    z = x @ dense["kernel"] + dense["bias"][None]
    want = interpreted(jax.nn.log_softmax)(z)
    np.testing.assert_allclose(apply(model, variables, x), want, 1e-5)


def test_pinned_is_the_binary_form_of_the_paper():
    x = np.random.default_rng(0).normal(size=(7, 4)).astype("f4")
    model, variables = build(x, classes=2, factors=3, pinned=True)
    assert variables["params"]["kernel"].shape == (4, 3, 1)
    z = apply(model, variables, x, method="factor_logits")
    np.testing.assert_array_equal(z[..., 1], 0)
    p = np.exp(apply(model, variables, x))
    want = interpreted(links.checkoid)(z[..., 0])
    np.testing.assert_allclose(p[:, 0], want, rtol=1e-5)


def test_start():
    x = np.zeros((1, 100), "f4")
    for scale in (0.0, 0.5, 2.0):
        _, variables = build(x, classes=20, factors=3, scale=scale)
        np.testing.assert_allclose(
            variables["params"]["kernel"].std(), scale, rtol=0.05
        )
    assert "bias" not in build(x, classes=2, factors=1, use_bias=False)[1]["params"]


def test_dtypes(x64):
    x = np.ones((3, 4))
    model, variables = build(x, classes=2, factors=2)
    whole = apply(model, variables, x)
    assert whole.dtype == np.float32
    rough = apply(models.CheckeredDense(2, 2, dtype=jnp.bfloat16), variables, x)
    assert rough.dtype == np.float32
    np.testing.assert_allclose(rough, whole, atol=0.05)
    wide, variables = build(x, classes=2, factors=2, param_dtype=jnp.float64)
    assert apply(wide, variables, x).dtype == np.float64


def test_trains_with_any_loss_and_many_seeds():
    x = np.array([[1, 1], [-1, -1], [1, -1], [-1, 1]], "f4")
    y = np.array([0, 0, 1, 1])
    model = models.CheckeredDense(2, 2)

    @jax.vmap
    def train(key):
        def loss(p):
            return losses.generalized_cross_entropy(model.apply(p, x), y, q=0.5).mean()

        def step(p, _):
            grads = jax.grad(loss)(p)
            return jax.tree.map(lambda p, g: p - g, p, grads), None

        params = jax.lax.scan(step, model.init(key, x), None, 300)[0]
        return (model.apply(params, x).argmax(-1) == y).mean()

    assert (jax.jit(train)(jax.random.split(jax.random.key(0), 8)) == 1).mean() >= 0.5


@pytest.mark.parametrize(
    ("fields", "x", "message"),
    [
        (dict(classes=1, factors=2), jnp.zeros(3), "classes is 1, expected at least 2"),
        (dict(classes=2, factors=0), jnp.zeros(3), "factors is 0, expected at least 1"),
        (dict(classes=2, factors=1), jnp.zeros(()), "x is a scalar"),
    ],
)
def test_errors(fields, x, message):
    with pytest.raises(ValueError, match=message):
        build(x, **fields)
