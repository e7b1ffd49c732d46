"""What Auto-PGD costs beside the gradients that it takes.

An attack of 100 steps in three norms, and twice as many gradients of the same network
alone, take turns in one process.
"""

import functools

import jax
import jax.numpy as jnp

from experiments.common import datasets
from experiments.common.references import BOUND
from experiments.common.timing import take_turns
from logitlab import attacks, models, report
from logitlab.train import Compute, Study
from logitlab.train.config import check_name

NORMS = {"inf": "inf", "l2": 2, "l1": 1}
LABELS = {"inf": "l∞", "l2": "l2", "l1": "l1"}


def build(config) -> Study:
    """The benchmark of the norms that the config gives a radius for."""
    for name in config.eps:
        check_name(name, tuple(NORMS), "config.eps")
    if not 1 <= config.rows <= datasets.DIGITS:
        raise ValueError(
            f"config.rows is {config.rows}, expected 1 to {datasets.DIGITS}"
        )
    return Study(
        arms={
            name: Compute(functools.partial(_cost, config, name)) for name in config.eps
        },
        figures={
            "cost": report.ranking(
                {"time_over_gradients": "time, over twice as many gradients"},
                bounds={"time_over_gradients": config.tolerances.time},
            )
        },
        claims=[
            report.Claim(
                text=f"time of Auto-PGD in {LABELS[name]}, over that of "
                f"{2 * config.steps} gradients",
                reference=BOUND,
                ours=lambda r, name=name: r[name].final("time_over_gradients"),
                at_most=config.tolerances.time,
                needs=(name,),
            )
            for name in config.eps
        ],
        labels={name: LABELS[name] for name in config.eps},
        title="What an attack costs",
        summary=(
            f"{config.steps} steps of Auto-PGD on {config.rows} digits, an MLP with "
            f"widths {tuple(config.widths)}, side by side with {2 * config.steps} "
            f"gradients; median over {config.repeats} turns."
        ),
    )


def _cost(config, name, key):
    x, y = datasets.digits(centered=False)
    x, y = jnp.float32(x[: config.rows]), jnp.int32(y[: config.rows])
    model = models.MLP(widths=tuple(config.widths), classes=10)
    logits_fn = functools.partial(model.apply, model.init(key, x[:1]))

    def attack(x):
        return attacks.apgd(
            logits_fn, x, y, eps=config.eps[name], norm=NORMS[name], steps=config.steps
        )

    def gradients(x):
        def one(x, _):
            slope = jax.grad(lambda x: attacks.label_odds(logits_fn(x), y).sum())(x)
            return x + 1e-3 * slope, None

        return jax.lax.scan(one, x, None, 2 * config.steps)[0]

    programs = [jax.jit(f).lower(x).compile() for f in (attack, gradients)]
    times = take_turns([functools.partial(p, x) for p in programs], config.repeats)
    return {
        "seconds": times[0],
        "gradient_seconds": times[1],
        "time_over_gradients": times[0] / times[1],
    }
