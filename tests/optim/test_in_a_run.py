"""What needs more than a gradient trains through ``Run``, whole studies do so too."""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from logitlab import losses, optim, train

X = np.random.default_rng(0).normal(size=(12, 3)).astype("f4")
LABELS = (X[:, 0] > 0).astype("i4")


def run(optimizer, extra_args=None, steps=4):
    def loss(w, batch, key=None):
        del key
        return losses.cross_entropy(batch["x"] @ w, batch["y"])

    return train.Run(
        init=lambda key: jnp.zeros((3, 2)),
        loss=loss,
        data={"train": {"x": jnp.asarray(X), "y": jnp.asarray(LABELS)}},
        optimizer=optimizer,
        evaluate=lambda w, parts: {"loss": loss(w, parts["train"]).mean()},
        extra_args=extra_args,
        steps=steps,
        evaluate_at=(0, steps),
    )


def extra_args(w, batch, key):
    del w, key
    return {
        "logits_fn": lambda w: batch["x"] @ w,
        "logit_loss_fn": lambda z: losses.cross_entropy(z, batch["y"]),
    }


def trained(run):
    step = jax.jit(train.make_step(run.loss, run.optimizer, extra_args=run.extra_args))
    state = train.init_state(run.init, run.optimizer, jax.random.key(0))
    values = []
    for _ in range(run.steps):
        state, value = step(state, run.data["train"])
        values.append(float(value))
    return state, values


def test_a_cap_and_a_surrogate():
    capped = optax.chain(optax.sgd(1e4), optim.cap_by_ghost_radius())
    state, values = trained(run(capped, extra_args))
    assert state.opt_state[-1].capped >= 1
    assert values[-1] < values[0]
    surrogate = optim.surrogate_descent(2.0, inner_steps=5)
    state, values = trained(run(surrogate, extra_args))
    assert state.opt_state.calls == 4
    assert (np.diff(values) < 0).all()


def test_two_phases():
    """The search of a learning rate is an optimizer, and needs nothing of the loop."""
    search = optim.autolrs(
        optax.identity(),
        (1e-3, 10.0),
        key=jax.random.key(0),
        search_steps=3,
        candidates=2,
    )
    state, values = trained(run(search, steps=12))
    np.testing.assert_allclose(values[3], np.log(2), rtol=1e-4)  # it returned
    np.testing.assert_allclose(values[6], np.log(2), rtol=1e-4)
    assert values[-1] < values[6]
    assert state.opt_state.stage == 1
