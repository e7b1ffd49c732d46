"""What a distillation loss costs, beside a divergence written by hand.

Value and gradient of the mean over tokens, student and teacher logits given. The loss
and the divergence take turns in one process, compiled first; memory is what the
compiled programs say they need beyond arguments and results.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.references import BOUND
from experiments.common.timing import compiled, take_turns
from logitlab import report
from logitlab.losses.catalogue import CATALOGUE
from logitlab.train import Compute, Study

STANDARDIZED = "_standardized"  # after the name of a loss that can


def by_hand(student_logits, teacher_logits):
    """The generalised Kullback-Leibler divergence, as anybody would write it."""
    log_p = jax.nn.log_softmax(jax.lax.stop_gradient(teacher_logits))
    log_q = jax.nn.log_softmax(student_logits)
    p, q = jnp.exp(log_p), jnp.exp(log_q)
    return jnp.sum(p * (log_p - log_q) - p + q, -1)


def build(config) -> Study:
    """The benchmark of the losses that the config names, or of all that fit."""
    names = config.losses or tuple(_fitting())
    for name in names:
        if name.removesuffix(STANDARDIZED) not in _fitting():
            raise ValueError(
                f"config.losses has {name!r}, expected names of distillation losses of "
                f"student and teacher logits: {', '.join(_fitting())}"
            )
    tokens, words = config.shape
    bounds = config.tolerances
    return Study(
        arms={
            name: Compute(lambda key, name=name: _cost(name, config)) for name in names
        },
        figures={
            "cost": report.ranking(
                {
                    "time_over_divergence": "time, over the divergence by hand",
                    "memory_over_divergence": "temporaries, over those of the same",
                },
                bounds={"time_over_divergence": bounds.time},
            )
        },
        claims=[
            report.Claim(
                text=f"time of {name}, over the divergence by hand",
                reference=BOUND,
                ours=lambda r, name=name: r[name].final("time_over_divergence"),
                at_most=bounds.time,
                needs=(name,),
            )
            for name in names
        ],
        title="What distillation losses cost",
        summary=(
            f"Value and gradient at {tokens} tokens x {words} words, float32, side by "
            f"side in one process; median over {config.repeats} turns. By hand: the "
            "generalised Kullback-Leibler divergence of two log-softmaxes."
        ),
    )


def _fitting():
    """Losses of the distillation family that take two arrays of logits, by name."""
    return {
        name: row
        for name, row in CATALOGUE.items()
        if row.loss.__module__.startswith("logitlab.losses.distillation.")
        and not row.gathers
        and len(row.shape) == 2
        and _takes_a_teacher(row)
    }


def _takes_a_teacher(row):
    args = jax.eval_shape(lambda key: row.make(key, (4, 5), jnp.float32), _key())
    return len(args) > 1 and args[0].shape == args[1].shape


def _key():
    return jax.random.key(0)


def _cost(name, config):
    row = CATALOGUE[name.removesuffix(STANDARDIZED)]
    args = row.make(_key(), tuple(config.shape), jnp.float32)
    hyper = dict(row.hyper)
    if name.endswith(STANDARDIZED):
        hyper |= {"standardize": True, "temperature": 2.0}
    ours, memory = compiled(lambda *a: jnp.asarray(row.loss(*a, **hyper)), args)
    theirs, reference = compiled(by_hand, args[:2])
    times = take_turns([ours, theirs], config.repeats)
    return {
        "seconds": times[0],
        "time_over_divergence": times[0] / times[1],
        "memory_over_logits": memory / args[0].nbytes,
        "memory_over_divergence": memory / reference if reference else np.nan,
    }
