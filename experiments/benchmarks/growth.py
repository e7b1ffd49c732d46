"""How time and memory grow with the size of what is worked on.

Each kind of work runs at several sizes, which take turns in one process, compiled
first. The exponent is the slope of the least-squares line through the logarithms: 1 is
growth with the data, 0 none. Memory is what compiled programs say they need beyond
arguments and results, or the bytes of a checkpoint.
"""

import dataclasses
import functools
import pathlib
import tempfile

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.benchmarks.loop import runner
from experiments.common.references import BOUND
from experiments.common.timing import compiled, take_turns
from logitlab import heads, losses, report
from logitlab.losses.catalogue import CATALOGUE
from logitlab.train import Compute, Run, Study, build_program
from logitlab.train.checkpoints import Checkpoints
from logitlab.train.config import check_name
from logitlab.train.mesh import make_mesh

HEADS = {
    "fused_linear_cross_entropy": heads.fused_linear_cross_entropy,
    "linear_loss": functools.partial(heads.linear_loss, losses.cross_entropy),
}


def build(config) -> Study:
    """The benchmark over the sizes that the config lists."""
    for name in config.losses:
        check_name(name, CATALOGUE, "config.losses")
    arms = {
        **{f"{name}, classes": _loss(name, config) for name in config.losses},
        **{f"{name}, classes": _head(name, config) for name in HEADS},
        "training, seeds": _seeds(config),
        "checkpoint, parameters": _checkpoint(config),
        "sweep, points": _sweep(config),
    }
    bounds = config.tolerances
    return Study(
        arms=arms,
        figures={
            "growth": report.ranking(
                {
                    "time_exponent": "exponent of the time",
                    "memory_exponent": "exponent of the memory",
                },
                bounds={
                    "time_exponent": bounds.time,
                    "memory_exponent": bounds.memory,
                },
            )
        },
        claims=[
            report.Claim(
                text=f"the fastest growth of {what} with the size, as an exponent",
                reference=BOUND,
                ours=functools.partial(_worst, f"{what}_exponent"),
                at_most=bound,
                needs=tuple(arms),
            )
            for what, bound in (("time", bounds.time), ("memory", bounds.memory))
        ],
        title="What grows with what",
        summary=(
            "Exponents of time and memory over four sizes each, side by side in one "
            f"process; median over {config.repeats} turns."
        ),
        captions={
            "growth": "1 is growth with the data; the bounds leave room for caches."
        },
    )


def _worst(name, results):
    return np.nanmax([r[name][0] for r in results.values()], 0)


def _growth(sizes, make, repeats):
    """Times and memory of ``make(size)``, which returns a call and bytes, if any."""
    calls, memory = zip(*(make(size) for size in sizes), strict=True)
    seconds = take_turns(calls, repeats)
    found = {"time_exponent": _slope(sizes, seconds), "memory_exponent": np.nan}
    found |= {f"seconds/{n}": s for n, s in zip(sizes, seconds, strict=True)}
    if None not in memory:
        found["memory_exponent"] = _slope(sizes, memory)
        found |= {f"bytes/{n}": float(m) for n, m in zip(sizes, memory, strict=True)}
    return found


def _slope(sizes, values):
    """0 for what needs none."""
    return float(np.polyfit(np.log(sizes), np.log(np.maximum(values, 1e-9)), 1)[0])


def _loss(name, config):
    row = CATALOGUE[name]

    def make(classes):
        args = row.make(jax.random.key(0), (config.rows, classes), jnp.float32)
        call, needed = compiled(lambda *a: row.loss(*a, **row.hyper), args)
        return call, needed + args[0].nbytes  # of gradient and temporaries

    return Compute(lambda key: _growth(config.classes, make, config.repeats))


def _head(name, config):
    loss = HEADS[name]

    def make(classes):
        keys = jax.random.split(jax.random.key(0), 3)
        hidden = jax.random.normal(keys[0], (config.rows, config.width))
        kernel = jax.random.normal(keys[1], (config.width, classes))
        labels = jax.random.randint(keys[2], (config.rows,), 0, classes)
        both = jax.value_and_grad(lambda h, w: loss(h, w, labels).mean(), (0, 1))
        program = jax.jit(both).lower(hidden, kernel).compile()
        needed = program.memory_analysis().temp_size_in_bytes + kernel.nbytes
        return lambda: program(hidden, kernel), needed

    return Compute(lambda key: _growth(config.head_classes, make, config.repeats))


def _seeds(config):
    def make(seeds):
        return runner(config.training, tuple(range(seeds)))[0], None

    return Compute(lambda key: _growth(config.seeds_together, make, config.repeats))


def _checkpoint(config):
    def costs(key):
        with tempfile.TemporaryDirectory() as folder:
            return _growth(
                config.parameters,
                lambda n: _saving(pathlib.Path(folder, str(n)), n),
                config.repeats,
            )

    return Compute(costs)


def _saving(folder, parameters):
    """A call that writes another checkpoint each time, and the bytes of one."""
    state = {"params": jax.random.normal(jax.random.key(0), (parameters,))}
    steps = iter(range(10**6))

    def call():
        with Checkpoints(folder, keep=1) as checkpoints:
            checkpoints.save(next(steps), state, {})

    call()
    return call, sum(path.stat().st_size for path in folder.rglob("*"))


def _sweep(config):
    """Learning rates as traced numbers: all points share one compiled program."""
    x = jax.random.normal(jax.random.key(0), (config.rows, config.width))
    batch = {"x": x, "y": jnp.arange(config.rows) % config.width}

    def loss(params, batch, key):
        del key
        return losses.cross_entropy(batch["x"] @ params, batch["y"])

    def at(values):
        return Run(
            init=lambda key: jnp.zeros((config.width, config.width)),
            loss=loss,
            data={"train": batch},
            optimizer=optax.sgd(values["learning_rate"]),
            evaluate=lambda params, parts: {"norm": optax.tree.norm(params)},
            steps=config.training.steps,
        )

    mesh, shared = make_mesh({"data": 1}), {}

    def make(points):
        programs = []
        for i in range(points):
            values = {"learning_rate": 0.1 / (i + 1)}
            run = dataclasses.replace(at(values), values=values, at=at)
            programs.append(build_program(run, (0,), mesh, shared=shared))

        def call():
            for program in programs:
                state, value = program.advance(
                    program.init(), program.data, [config.training.steps]
                )
                jax.block_until_ready((state, value))

        return call, None

    return Compute(lambda key: _growth(config.points, make, config.repeats))
