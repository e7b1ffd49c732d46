import jax
import jax.numpy as jnp
import numpy as np
import pytest

from logitlab import losses
from logitlab.models import DualHead


def test_the_heads_learn_apart():
    model, x = DualHead(classes=3), jnp.ones((2, 4))
    params = model.init(jax.random.key(0), x)
    t = jnp.float32([[2, 0, 1], [0, 1, 0]])

    def total(params):
        main, aux = model.apply(params, x)
        ce = losses.cross_entropy(main, jnp.array([0, 1])).mean()
        return ce, losses.normalized_binary_kl(aux, t).mean()

    ce, kl = (jax.grad(lambda p, i=i: total(p)[i])(params)["params"] for i in (0, 1))
    assert (ce["aux"]["kernel"] == 0).all()
    assert (kl["main"]["kernel"] == 0).all()
    assert (ce["main"]["kernel"] != 0).any()
    assert (kl["aux"]["kernel"] != 0).any()


def test_a_hidden_layer_and_other_features():
    model = DualHead(classes=3, hidden=5, dropout=0.5)
    x, f = np.random.default_rng(0).normal(size=(2, 8, 4)).astype("f4")
    variables = model.init(jax.random.key(0), x, f[:, :2])
    (main, aux), state = model.apply(
        variables,
        x,
        f[:, :2],
        deterministic=False,
        rngs={"dropout": jax.random.key(1)},
        mutable=["batch_stats"],
    )
    assert main.shape == aux.shape == (8, 3)
    moved = state["batch_stats"]["aux_norm"]["mean"]
    assert (moved != variables["batch_stats"]["aux_norm"]["mean"]).any()
    again = [model.apply(variables, x, f[:, :2])[1] for _ in range(2)]
    np.testing.assert_array_equal(*again)


@pytest.mark.parametrize(
    ("fields", "message"),
    [(dict(classes=0), "classes is 0"), (dict(classes=2, dropout=1.0), "dropout is")],
)
def test_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        DualHead(**fields).init(jax.random.key(0), jnp.ones((1, 2)))
