"""Does a spherical head train at a cost without the number of classes in it?

One SGD step of a linear head under the Z-loss, twice: on all rows of the kernel, and by
the factored update, which changes what all rows share and the rows of the labels. Both
see the same batches, in turns, for every number of classes in one process.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.references import BOUND
from experiments.common.timing import take_turns
from logitlab import heads, losses, report
from logitlab.train import ArmResult, Compute, Study

WAYS = {"dense": "all rows of the kernel", "factored": "factored update"}


def build(config) -> Study:
    """The benchmark over ``config.classes``; nothing here runs, writes or prints."""
    bounds, sizes = config.tolerances, tuple(config.classes)
    last, label = sizes[-1], f"{sizes[-1]:,}".replace(",", " ")
    claims = [
        report.Claim(
            text="the longest factored step, over the shortest",
            paper="constant but for the gather (section 3)",
            ours=lambda r: _spread(r["time"], "factored", sizes),
            at_most=bounds.longest_over_shortest,
            needs=("time",),
        ),
        report.Claim(
            text=f"a dense step of {label} classes, over a factored one",
            paper="grows with the classes over the width (section 3)",
            ours=lambda r: (
                r["time"][f"dense/{last}"][0] / r["time"][f"factored/{last}"][0]
            ),
            at_least=bounds.dense_over_factored,
            needs=("time",),
        ),
        report.Claim(
            text="temporary memory of a factored step, over the kernel",
            reference=BOUND,
            ours=lambda r: r["time"]["temporary_over_kernel"][0],
            at_most=bounds.temporary_over_kernel,
            needs=("time",),
        ),
        report.Claim(
            text=f"largest difference to {config.exact.steps} dense steps in float64",
            paper="exact (section 3)",
            ours=lambda r: r["exact"]["difference"][0],
            at_most=bounds.difference,
            needs=("exact",),
        ),
    ]
    return Study(
        arms={
            "time": Compute(lambda key: _times(key, config)),
            "exact": Compute(lambda key: _difference(key, config.exact)),
        },
        figures={"time": functools.partial(_figure, sizes)},
        claims=claims,
        title="A spherical head of any size",
        summary=(
            f"One SGD step under the Z-loss in float32, width {config.width}, batch "
            f"{config.rows}; median over {config.repeats} turns, in which all sizes "
            "and both ways take part. The factored step includes its share of "
            f"stabilize, called every {config.stabilize_every} steps."
        ),
        captions={
            "time": (
                "Milliseconds of a step against the number of classes. The dense step "
                "reads and writes every row; the factored one only those of labels."
            )
        },
        labels=WAYS,
    )


def _spread(arm, way, sizes):
    times = np.stack([arm[f"{way}/{size}"] for size in sizes])
    return (times.max(0) / times.min(0))[0]


def _figure(sizes, results):
    """Times against classes, which take the place of the steps."""
    lines = {}
    if "time" in results:
        for way, label in WAYS.items():
            rows = [
                {
                    "step": size,
                    "seed": seed,
                    "ms": results["time"][f"{way}/{size}"][0, i],
                }
                for size in sizes
                for i, seed in enumerate(results["time"].seeds)
            ]
            lines[way] = ArmResult(label, results["time"].seeds, rows)
    panel = report.Panel("ms", "milliseconds per step", log=True)
    return report.panels([[panel]], across="classes")(lines)


def _times(key, config):
    values, calls, names = {}, [], []
    for size in config.classes:
        for way, make, steps in (
            ("dense", _dense_step, config.dense_steps),
            ("factored", _factored_step, config.steps),
        ):
            state, step = make(key, config, size)
            every = config.stabilize_every if way == "factored" else steps
            loop = _looped(step, every, stabilized=way == "factored")
            batches = _batches(key, config, size, steps)
            program = loop.lower(state, batches).compile()
            calls.append(_caller(program, state, batches))
            names.append((f"{way}/{size}", steps))
            del state
            if way == "factored":
                one = jax.jit(step, donate_argnums=0)
                one = one.lower(
                    make(key, config, size)[0], batches[0][0], batches[1][0]
                )
                temporary = one.compile().memory_analysis().temp_size_in_bytes
                values["temporary_over_kernel"] = temporary / (4 * size * config.width)
    for (name, steps), seconds in zip(
        names, take_turns(calls, config.repeats), strict=True
    ):
        values[name] = 1e3 * seconds / steps
    return values


def _looped(step, every, stabilized):
    """A step per batch in one program, which writes into the state that it is given."""

    def several(state, batches):
        state, losses = jax.lax.scan(
            lambda state, batch: step(state, *batch), state, batches
        )
        return heads.stabilize(state) if stabilized else state, losses

    def loop(state, batches):
        batches = jax.tree.map(lambda a: a.reshape(-1, every, *a.shape[1:]), batches)
        return jax.lax.scan(several, state, batches)

    return jax.jit(loop, donate_argnums=0)


def _caller(program, state, batches):
    kept = [state]

    def call():
        kept[0], value = program(kept[0], batches)
        return value, kept[0]

    return call


def _dense_step(key, config, size):
    def step(w, hidden, labels):
        loss, grad = jax.value_and_grad(
            lambda w: losses.spherical_z_loss(hidden @ w.T, labels).sum()
        )(w)
        return w - config.learning_rate * grad, loss

    return _kernel(key, config, size), step


def _factored_step(key, config, size):
    of_stats = functools.partial(heads.spherical_stats_loss, num_classes=size)

    def step(state, hidden, labels):
        stats = heads.spherical_output_stats(state, hidden, labels)
        loss, grads = jax.value_and_grad(lambda n: of_stats(*n).sum())(stats)
        state, _ = heads.spherical_output_update(
            state, hidden, labels, grads, learning_rate=config.learning_rate
        )
        return state, loss

    init = jax.jit(heads.spherical_output_init)
    return init(_kernel(key, config, size)), step


def _kernel(key, config, size):
    dtype = jnp.dtype(config.get("dtype", "float32"))
    w = jax.random.normal(jax.random.fold_in(key, 0), (size, config.width), dtype)
    return w / config.width**0.5


def _batches(key, config, size, steps):
    dtype = jnp.dtype(config.get("dtype", "float32"))
    keys = [jax.random.fold_in(key, i) for i in (1, 2)]
    hidden = jax.random.normal(keys[0], (steps, config.rows, config.width), dtype)
    return hidden, jax.random.randint(keys[1], (steps, config.rows), 0, size)


def _difference(key, config):
    """Between the two kernels after the same steps."""
    batches = _batches(key, config, config.classes, config.steps)
    ends = []
    for make in (_dense_step, _factored_step):
        state, step = make(key, config, config.classes)
        ends.append(_looped(step, config.steps, stabilized=False)(state, batches)[0])
    return {
        "difference": jnp.abs(heads.spherical_output_dense(ends[1]) - ends[0]).max()
    }
