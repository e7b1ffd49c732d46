"""Models that keep more than parameters: batch statistics, from Flax and Equinox."""

import dataclasses

import equinox as eqx
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen, nnx

from logitlab import losses, metrics, train
from logitlab.train import Run
from logitlab.train.mesh import make_mesh

RATE = 0.9  # of the running mean


def data(key):
    x = jax.random.normal(key, (16, 3)) + 2
    return {"train": {"x": x, "y": (x[:, 0] > 2).astype(jnp.int32)}}


def init(key):
    kernel = 0.1 * jax.random.normal(key, (3, 2))
    return {"kernel": kernel, "stats": {"mean": jnp.zeros(3)}}


def loss(params, batch, key):
    del key
    mean = RATE * params["stats"]["mean"] + (1 - RATE) * batch["x"].mean(0)
    logits = (batch["x"] - 2.0) @ params["kernel"]
    return losses.cross_entropy(logits, batch["y"]), {"stats": {"mean": mean}}


def evaluate(params, parts):
    logits = (parts["train"]["x"] - params["stats"]["mean"]) @ params["kernel"]
    return {"loss": metrics.mean_of(losses.cross_entropy(logits, parts["train"]["y"]))}


RUN = Run(
    init=init,
    loss=loss,
    data=data,
    optimizer=optax.chain(optax.add_decayed_weights(0.1), optax.adam(0.1)),
    evaluate=evaluate,
    steps=5,
    untrained=("stats",),
)


SEEDS = 0, 1


def trained(run=RUN, devices=1, **settings):
    mesh = make_mesh({"data": devices}, jax.devices()[:devices])
    built = train.build_program(run, SEEDS, mesh, **settings)
    state, _ = built.advance(built.init(), built.data, [run.steps] * len(SEEDS))
    return jax.device_get(state), built


def rows(seed):
    return data(jax.random.fold_in(jax.random.key(seed), 1))["train"]


@pytest.fixture(scope="module")
def alone():
    return trained()[0]


def test_keeps_what_the_loss_returns(alone):
    want = [(1 - RATE**5) * rows(seed)["x"].mean(0) for seed in SEEDS]
    np.testing.assert_allclose(alone.params["stats"]["mean"], want, rtol=1e-5)
    # The optimizer does not know of it: Adam's count and two moments of the kernel.
    assert len(jax.tree.leaves(alone.opt_state)) == 3


@pytest.mark.parametrize(
    "settings",
    [
        dict(devices=4),
        dict(accumulate=4),
        dict(devices=4, parallel="pmap"),
        dict(seeds_by="vmap"),
    ],
    ids=str,
)
def test_is_the_mean_of_any_split(alone, settings):
    state, _ = trained(**settings)
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5),
        state.params,
        alone.params,
    )


def test_no_precision_and_no_bad_step_reaches_it(alone):
    state, _ = trained(precision="bfloat16")
    mean = state.params["stats"]["mean"]
    assert mean.dtype == np.float32
    # The rows are rounded, the running mean of them is not.
    np.testing.assert_allclose(mean, alone.params["stats"]["mean"], rtol=2**-8)

    def broken(params, batch, key):
        out, new = loss(params, batch, key)
        return out, jax.tree.map(lambda a: a * jnp.nan, new)

    state, _ = trained(dataclasses.replace(RUN, loss=broken), skip_nonfinite=True)
    np.testing.assert_array_equal(state.skipped, RUN.steps)
    np.testing.assert_array_equal(state.params["stats"]["mean"], 0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(untrained=("stat",)), r"untrained names \['stat'\], expected"),
        (
            dict(loss=lambda *args: loss(*args)[0]),
            r"loss returned shape \(16,\), expected a pair: losses, and the new values",
        ),
        (
            dict(loss=lambda *args: (loss(*args)[0], {"other": 1.0})),
            r"entries \['other'\], expected .* untrained entries \['stats'\]",
        ),
        (
            dict(loss=lambda *args: (loss(*args)[0], {"stats": {"mean": 0.0}})),
            r"an untrained entry has shape \(\), expected what it had, \(3,\)",
        ),
    ],
)
def test_bad_input(changes, message):
    with pytest.raises(ValueError, match=message):
        trained(dataclasses.replace(RUN, **changes))


def learns(**changes):
    settings = dict(optimizer=optax.adam(0.1), steps=30)
    state, built = trained(dataclasses.replace(RUN, **settings, **changes))
    found = built.evaluate(state.params)
    assert (found["accuracy"] > 0.9).all()
    return state.params


def test_linen():
    class Model(linen.Module):
        @linen.compact
        def __call__(self, x, training):
            x = linen.BatchNorm(use_running_average=not training, momentum=0.5)(x)
            x = linen.Dropout(0.1, deterministic=not training)(x)
            return linen.Dense(2)(x)

    model = Model()

    def loss(params, batch, key):
        options = dict(mutable=["batch_stats"], rngs={"dropout": key})
        logits, new = model.apply(params, batch["x"], True, **options)
        return losses.cross_entropy(logits, batch["y"]), new

    def evaluate(params, parts):
        logits = model.apply(params, parts["train"]["x"], False)
        hits = logits.argmax(-1) == parts["train"]["y"]
        return {"accuracy": metrics.mean_of(hits)}

    def init(key):
        return model.init(key, jnp.zeros((1, 3)), False)

    params = learns(init=init, loss=loss, evaluate=evaluate, untrained=("batch_stats",))
    want = [rows(seed)["x"].mean(0) for seed in SEEDS]
    found = params["batch_stats"]["BatchNorm_0"]["mean"]
    np.testing.assert_allclose(found, want, rtol=1e-4)


def test_nnx():
    class Model(nnx.Module):
        def __init__(self, rngs):
            self.norm = nnx.BatchNorm(3, momentum=0.5, rngs=rngs)
            self.drop = nnx.Dropout(0.1)
            self.dense = nnx.Linear(3, 2, rngs=rngs)

        def __call__(self, x, rngs=None):
            x = self.norm(x, use_running_average=rngs is None)
            return self.dense(self.drop(x, deterministic=rngs is None, rngs=rngs))

    def init(key):
        _, weights, stats = nnx.split(Model(nnx.Rngs(key)), nnx.Param, nnx.BatchStat)
        return {"weights": weights, "stats": stats}

    def model_of(params):
        graph = nnx.graphdef(nnx.eval_shape(lambda: Model(nnx.Rngs(0))))
        return nnx.merge(graph, params["weights"], params["stats"], copy=True)

    def loss(params, batch, key):
        model = model_of(params)
        logits = model(batch["x"], nnx.Rngs(dropout=key))
        stats = nnx.state(model, nnx.BatchStat)
        return losses.cross_entropy(logits, batch["y"]), {"stats": stats}

    def evaluate(params, parts):
        logits = model_of(params)(parts["train"]["x"])
        hits = logits.argmax(-1) == parts["train"]["y"]
        return {"accuracy": metrics.mean_of(hits)}

    params = learns(init=init, loss=loss, evaluate=evaluate)
    want = [rows(seed)["x"].mean(0) for seed in SEEDS]
    found = nnx.to_pure_dict(params["stats"])["norm"]["mean"]
    np.testing.assert_allclose(found, want, rtol=1e-4)


def test_equinox():
    class Model(eqx.Module):
        norm: eqx.nn.BatchNorm
        drop: eqx.nn.Dropout
        dense: eqx.nn.Linear

        def __init__(self, key):
            self.norm = eqx.nn.BatchNorm(3, "rows", momentum=0.5, mode="ema")
            self.drop = eqx.nn.Dropout(0.1)
            self.dense = eqx.nn.Linear(3, 2, key=key)

        def __call__(self, x, state, key=None):
            x, state = self.norm(x, state, inference=key is None)
            x = self.drop(x, key=key, inference=key is None)
            return self.dense(x), state

    # The arrays go into the parameters, what is none stays here.
    model, state = eqx.filter_eval_shape(
        eqx.nn.make_with_state(Model), jax.random.key(0)
    )
    still = eqx.filter(
        (model, state), lambda a: not isinstance(a, jax.ShapeDtypeStruct)
    )

    def init(key):
        made = eqx.nn.make_with_state(Model)(key)
        weights, stats = eqx.filter(made, eqx.is_array)
        return {"weights": weights, "stats": stats}

    def apply(params, x, keys=None):
        model, state = eqx.combine((params["weights"], params["stats"]), still)
        axes = 0, None, None if keys is None else 0
        run = jax.vmap(model, axes, (0, None), axis_name="rows")
        return run(x, state, keys)

    def loss(params, batch, key):
        keys = jax.random.split(key, len(batch["x"]))
        logits, state = apply(params, batch["x"], keys)
        stats = eqx.filter(state, eqx.is_array)
        return losses.cross_entropy(logits, batch["y"]), {"stats": stats}

    def evaluate(params, parts):
        logits, _ = apply(params, parts["train"]["x"])
        hits = logits.argmax(-1) == parts["train"]["y"]
        return {"accuracy": metrics.mean_of(hits)}

    params = learns(init=init, loss=loss, evaluate=evaluate)
    want = [rows(seed)["x"].mean(0) for seed in SEEDS]
    found = [a for a in jax.tree.leaves(params["stats"]) if a.shape == (2, 3)]
    np.testing.assert_allclose(found[0], want, rtol=1e-3)
