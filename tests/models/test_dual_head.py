import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from logitlab import losses
from logitlab.models import DualHead


def test_the_heads_learn_apart():
    model, x = DualHead(classes=3), np.ones((2, 4), "f4")
    params = interpreted(model.init)(jax.random.key(0), x)
    t = np.float32([[2, 0, 1], [0, 1, 0]])

    def total(params):
        main, aux = model.apply(params, x)
        ce = losses.cross_entropy(main, np.array([0, 1])).mean()
        return ce, losses.normalized_binary_kl(aux, t).mean()

    slopes = interpreted(jax.jacrev(total))(params)
    ce, kl = (tree["params"] for tree in slopes)
    assert (ce["aux"]["kernel"] == 0).all()
    assert (kl["main"]["kernel"] == 0).all()
    assert (ce["main"]["kernel"] != 0).any()
    assert (kl["aux"]["kernel"] != 0).any()


def test_a_hidden_layer_and_other_features():
    model = DualHead(classes=3, hidden=5, dropout=0.5)
    x, f = np.random.default_rng(0).normal(size=(2, 8, 4)).astype("f4")
    variables = interpreted(model.init)(jax.random.key(0), x, f[:, :2])
    train = functools.partial(model.apply, deterministic=False, mutable=["batch_stats"])
    (main, aux), state = interpreted(train)(
        variables, x, f[:, :2], rngs={"dropout": jax.random.key(1)}
    )
    assert main.shape == aux.shape == (8, 3)
    moved = state["batch_stats"]["aux_norm"]["mean"]
    assert (moved != variables["batch_stats"]["aux_norm"]["mean"]).any()
    again = [interpreted(model.apply)(variables, x, f[:, :2])[1] for _ in range(2)]
    np.testing.assert_array_equal(*again)


@pytest.mark.parametrize(
    ("fields", "message"),
    [(dict(classes=0), "classes is 0"), (dict(classes=2, dropout=1.0), "dropout is")],
)
def test_errors(fields, message):
    with pytest.raises(ValueError, match=message):
        DualHead(**fields).init(jax.random.key(0), jnp.ones((1, 2)))
