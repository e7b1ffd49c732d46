"""What processors of logits cost, beside the plain formula.

One step of each on logits of a large vocabulary, jitted, beside what one would write by
hand: a division or a sum for those that work token by token, a sort with a cumulative
sum for those that cut off a tail. Both take turns in one process.
"""

import functools

import jax
import jax.numpy as jnp

from experiments.common.references import BOUND
from experiments.common.timing import take_turns
from logitlab import report, transforms
from logitlab.train import Compute, Study
from logitlab.train.config import check_name


def build(config) -> Study:
    """The benchmark of the processors that the config names."""
    for name in config.processors:
        check_name(name, tuple(PROCESSORS), "config.processors")
    bounds = config.tolerances
    claims = [
        report.Claim(
            text=f"time of {name}, over the plain formula",
            reference=BOUND,
            ours=lambda r, name=name: r[name].final("time_over_plain"),
            at_most=bounds.sort if name in SORTED else bounds.elementwise,
            needs=(name,),
        )
        for name in config.processors
    ]
    rows, classes = config.shape
    return Study(
        arms={
            name: Compute(functools.partial(_cost, config, name))
            for name in config.processors
        },
        figures={
            "cost": report.ranking(
                {"time_over_plain": "time, over the plain formula"},
                bounds={"time_over_plain": bounds.elementwise},
            )
        },
        claims=claims,
        labels={name: name for name in config.processors},
        title="What processors of logits cost",
        summary=(
            f"One step on {rows} x {classes} logits in float32, side by side in one "
            f"process; median over {config.repeats} turns. The plain formula of those "
            "that cut off a tail is one sort, without what follows it."
        ),
    )


def _cost(config, name, key):
    rows, classes = config.shape
    make, plain = PROCESSORS[name]
    processor = make(classes)
    z = 3 * jax.random.normal(key, (rows, classes))
    tokens = jnp.full((rows, 1), 1, jnp.int32)
    state = processor.init(rows)
    ours = jax.jit(processor.apply).lower(z, tokens, state).compile()
    theirs = jax.jit(plain).lower(z, tokens, state).compile()
    both = (
        functools.partial(ours, z, tokens, state),
        functools.partial(theirs, z, tokens, state),
    )
    times = take_turns(both, config.repeats)
    return {
        "seconds": times[0],
        "plain_seconds": times[1],
        "time_over_plain": times[0] / times[1],
        "memory_over_logits": ours.memory_analysis().temp_size_in_bytes / z.nbytes,
    }


def _counted(z, tokens, counts):
    """Counts after a step, as every penalty keeps them."""
    return counts.at[jnp.arange(len(z)), tokens[:, 0]].add(1)


def _presence(z, tokens, counts):
    counts = _counted(z, tokens, counts)
    return jnp.where(counts > 0, z - 0.5, z), counts


def _repetition(z, tokens, counts):
    counts = _counted(z, tokens, counts)
    return jnp.where(counts > 0, jnp.where(z > 0, z / 1.2, z * 1.2), z), counts


def _min_p(z, tokens, state):
    return jnp.where(z >= z.max(-1, keepdims=True) + jnp.log(0.1), z, -jnp.inf)


def _sorted(z, tokens, state):
    return jnp.sort(z, -1)


SORTED = ("top_k", "top_p", "typical_p")
PROCESSORS = {
    "divide_by_temperature": (
        lambda classes: transforms.divide_by_temperature(0.7),
        lambda z, tokens, state: z / 0.7,
    ),
    "add_bias": (
        lambda classes: transforms.add_bias(jnp.ones(classes)),
        lambda z, tokens, state: z + jnp.ones((1, z.shape[1])),
    ),
    "min_p": (lambda classes: transforms.min_p(0.1), _min_p),
    "presence_penalty": (
        lambda classes: transforms.presence_penalty(0.5, vocab_size=classes),
        _presence,
    ),
    "repetition_penalty": (
        lambda classes: transforms.repetition_penalty(1.2, vocab_size=classes),
        _repetition,
    ),
    "top_k": (lambda classes: transforms.top_k(50), _sorted),
    "top_p": (lambda classes: transforms.top_p(0.9), _sorted),
    "typical_p": (lambda classes: transforms.typical_p(0.9), _sorted),
}
