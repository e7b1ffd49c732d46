"""What things cost, as ratios to something that cannot be avoided.

Everything is compiled first and waited for; the two sides of a ratio take turns in one
process, and the median over the turns counts.
"""

import dataclasses
import math
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

import jax
import numpy as np
import optax

from experiments.common.references import BOUND
from experiments.common.timing import take_turns
from logitlab import data, links, losses, metrics, models, report
from logitlab.train import Compute, Run, Study, build_program, log_points, loop
from logitlab.train.checkpoints import Checkpoints
from logitlab.train.events import Events
from logitlab.train.mesh import make_mesh
from logitlab.train.progress import Progress, Signals
from logitlab.train.writers import Table


def build(config) -> Study:
    """The benchmark that the config's variant names."""
    bounds = config.tolerances
    side_by_side = jax.devices()[0].platform != "cpu"
    against = "one run" if side_by_side else "eight runs in sequence"
    bound = bounds.seeds_over_one if side_by_side else bounds.seeds_over_sequence
    return Study(
        arms={
            "step": Compute(lambda key: _step_cost(config)),
            "seeds": Compute(lambda key: _seeds_cost(config, side_by_side)),
            "upkeep": Compute(lambda key: _upkeep_cost(config)),
            "import": Compute(lambda key: _import_cost(config.repeats)),
        },
        claims=[
            report.Claim(
                text="an optimisation step with StableMax, over its matrix products",
                reference=BOUND,
                ours=lambda r: r["step"]["ratio"][0],
                at_most=bounds.step_over_products,
                needs=("step",),
            ),
            report.Claim(
                text=f"eight seeds in one program, over {against}",
                reference=BOUND,
                ours=lambda r: r["seeds"]["ratio"][0],
                at_most=bound,
                needs=("seeds",),
            ),
            report.Claim(
                text="compilations for all of them and every distance between logs",
                reference=BOUND,
                ours=lambda r: r["seeds"]["compilations"][0],
                equals=1.0,
                needs=("seeds",),
            ),
            report.Claim(
                text="checkpoints every 30 seconds, share of a run",
                reference=BOUND,
                ours=lambda r: r["upkeep"]["checkpoints"][0],
                at_most=bounds.checkpoints,
                needs=("upkeep",),
            ),
            report.Claim(
                text="a log every second, share of a run",
                reference=BOUND,
                ours=lambda r: r["upkeep"]["logs"][0],
                at_most=bounds.logs,
                needs=("upkeep",),
            ),
            report.Claim(
                text="import logitlab, beyond import jax",
                reference=BOUND,
                ours=lambda r: r["import"]["seconds"][0],
                at_most=bounds.import_seconds,
                unit="s",
                needs=("import",),
            ),
        ],
        title="What training costs",
        summary=(
            "Ratios measured side by side in one process, median over "
            f"{config.repeats} turns."
        ),
    )


def _grokking_run(config) -> Run:
    """The grokking study's StableMax arm, without its evaluations."""
    pairs = data.modular_pairs("add", config.p)
    model = models.MLP(config.widths, config.p, use_bias=False, vocabulary=config.p)

    def make_data(key):
        train, test = data.split(key, pairs, config.train_fraction)
        return {"train": train, "test": test}

    def loss(params, batch, key):
        del key
        logits = model.apply({"params": params}, batch["x"])
        return losses.cross_entropy(links.stablemax(logits), batch["y"])

    return Run(
        init=lambda key: model.init(key, pairs["x"][:1])["params"],
        loss=loss,
        data=make_data,
        optimizer=optax.adamw(1e-2, b2=0.999, eps=1e-25, weight_decay=0.0),
        evaluate=lambda params, parts: {"norm": metrics.tree_norm(params)},
        steps=config.steps,
    )


def runner(config, seeds, traces=None):
    """A call that trains all seeds for ``config.steps`` steps, and its program.

    ``traces`` gets an entry whenever the loss is traced, to be compiled.
    """
    run = _grokking_run(config)

    def loss(params, batch, key):
        if traces is not None:
            traces.append(key)
        return run.loss(params, batch, key)

    counted = dataclasses.replace(run, loss=loss)
    program = build_program(counted, seeds, make_mesh({"data": 1}))
    counts = [config.steps] * len(seeds)
    state = [program.init()]

    def call():
        state[0], value = program.advance(state[0], program.data, counts)
        return value

    return call, program


def _step_cost(config):
    step, _ = runner(config.step, (0,))
    rows = int(config.step.train_fraction * config.step.p**2)
    first, second = config.step.widths
    keys = jax.random.split(jax.random.key(0), 3)
    hidden = jax.random.normal(keys[0], (rows, first))
    kernels = (
        jax.random.normal(keys[1], (first, second)) / first**0.5,
        jax.random.normal(keys[2], (second, config.step.p)) / second**0.5,
    )

    @jax.jit
    def products(hidden, kernels):
        """The six products of the step: forward, and backward for each factor."""

        def body(kernels, _):
            # The barriers keep every product in the loop, and whole: nothing is hoisted
            # as invariant, nothing dropped as unused, nothing narrowed to what is used.
            x, (inner, head) = jax.lax.optimization_barrier((hidden, kernels))
            a = x @ inner
            z = a @ head
            back = z @ head.T
            grads = a.T @ z, x.T @ back, back @ inner.T
            d_head, d_inner, d_x = jax.lax.optimization_barrier(grads)
            d_inner += d_x[0, 0]
            return (inner + 1e-20 * d_inner, head + 1e-20 * d_head), None

        return jax.lax.scan(body, kernels, length=config.step.steps)[0]

    ours, bare = take_turns([step, lambda: products(hidden, kernels)], config.repeats)
    steps = config.step.steps
    return {
        "ratio": ours / bare,
        "step_ms": 1e3 * ours / steps,
        "products_ms": 1e3 * bare / steps,
    }


def _seeds_cost(config, side_by_side):
    seeds = range(config.many.seeds)
    traces = []
    many, program = runner(config.many, tuple(seeds), traces)
    ones = [runner(config.many, (seed,))[0] for seed in seeds]

    def sequence():
        return [jax.block_until_ready(one()) for one in ones]

    alone = ones[0] if side_by_side else sequence
    ours, others = take_turns([many, alone], config.repeats)
    state = program.init()
    for steps in (1, 3, 10):
        state, _ = program.advance(state, program.data, [steps] * len(seeds))
    return {
        "ratio": ours / others,
        "seconds": ours,
        "other_seconds": others,
        "compilations": float(len(traces)),
    }


def _upkeep_cost(config):
    """A run without checkpoints and logs until its end, beside one with either."""
    run = _grokking_run(config.upkeep)
    points = log_points(run.steps, 25)
    kinds = {
        "bare": (math.inf, run),
        "checkpoints": (config.upkeep.save_every, run),
        "logs": (math.inf, dataclasses.replace(run, evaluate_at=points)),
    }
    program = build_program(run, (0,), make_mesh({"data": 1}))
    program.evaluate(program.init().params)
    program.advance(program.init(), program.data, [1])
    times, saves = {kind: [] for kind in kinds}, []
    for _ in range(config.repeats):
        for kind, (save_every, run) in kinds.items():
            with tempfile.TemporaryDirectory() as folder:
                seconds, saved = _timed(pathlib.Path(folder), run, program, save_every)
            times[kind].append(seconds)
            if kind == "checkpoints":
                saves.append(saved)
    bare, with_saves, with_logs = map(statistics.median, times.values())
    each = (with_saves - bare) / statistics.median(saves)
    return {
        "checkpoints": each / 30,
        "logs": (with_logs - bare) / len(points),
        "save_ms": 1e3 * each,
        "saves": statistics.median(saves),
        "log_share": (with_logs - bare) / bare,  # of this short run
        "seconds": bare,
    }


def _timed(folder, run, program, save_every):
    """Seconds of a whole run, and its checkpoints but the last."""
    events = Events(folder / "log.jsonl")
    logs = loop.Logs(
        [Table(folder / "metrics.csv")], Table(folder / "timing.csv"), events
    )
    start = time.perf_counter()
    with Checkpoints(folder / "checkpoints") as checkpoints:
        loop.train(
            "arm",
            run,
            program,
            (0,),
            checkpoints,
            logs,
            Signals(),
            save_every=save_every,
            progress=Progress({"arm": ("steps", run.steps)}, quiet=True),
        )
    seconds = time.perf_counter() - start
    return seconds, events.path.read_text("utf-8").count('"saved"') - 1


def _import_cost(repeats):
    """Fresh interpreters, in turns."""

    def seconds(module):
        code = (
            "import time; start = time.perf_counter(); "
            f"import {module}; print(time.perf_counter() - start)"
        )
        run = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return float(run.stdout)

    pairs = [(seconds("jax"), seconds("logitlab")) for _ in range(repeats)]
    jax_alone, logitlab = (
        float(np.median(column)) for column in zip(*pairs, strict=True)
    )
    return {"seconds": logitlab - jax_alone, "import_jax": jax_alone}
