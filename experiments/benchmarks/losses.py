"""What every loss of the catalogue costs, beside optax's cross-entropy.

Value and gradient of the mean, at one shape. The loss and both cross-entropies take
turns in one process, compiled first; memory is what the compiled programs say they need
beyond arguments and results.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.references import BOUND
from experiments.common.timing import compiled, take_turns
from logitlab import report
from logitlab.losses.catalogue import CATALOGUE
from logitlab.train import Compute, Study


def build(config) -> Study:
    """The benchmark over the rows that the config names, or over all that fit."""
    unknown = [name for name in config.losses if name not in CATALOGUE]
    if unknown:
        raise ValueError(
            f"config.losses has {unknown}, expected names in the catalogue"
        )
    rows = [CATALOGUE[name] for name in config.losses or CATALOGUE]
    shape = tuple(config.shape)
    rows = [row for row in rows if len(row.shape) == len(shape)]
    if not config.losses:
        rows = [row for row in rows if row.kind == "example" and not row.gathers]
    bounds = config.tolerances
    label_only = tuple(row.name for row in rows if row.label_only)
    others = tuple(row.name for row in rows if not row.label_only and not row.cost)
    claims = [
        _claim(what, kind, names, bounds[f"{kind}_{what}"])
        for kind, names in (("label", label_only), ("whole", others))
        for what in ("time", "memory")
        if names
    ]
    return Study(
        arms={
            row.name: Compute(lambda key, row=row: _cost(row, config)) for row in rows
        },
        figures={
            "cost": report.ranking(
                {
                    "time_over_label": "time, over optax with integer labels",
                    "time_over_whole": "time, over optax with distributions",
                    "memory": "temporaries, over the logits",
                },
                bounds={"time_over_label": bounds.label_time, "memory": 1.0},
            )
        },
        claims=claims,
        title="What losses cost",
        summary=(
            f"Value and gradient at {' x '.join(map(str, shape))}, float32, side by "
            f"side in one process; median over {config.repeats} turns."
        ),
    )


_OF = {"label": "the label's log-probability", "whole": "the whole distribution"}
_OVER = {
    ("label", "time"): "optax's cross-entropy with integer labels",
    ("whole", "time"): "optax's cross-entropy with distributions",
    ("label", "memory"): "the logits",
    ("whole", "memory"): "the logits",
}


def _claim(what, kind, names, bound):
    metric = {"time": f"time_over_{kind}", "memory": "memory"}[what]
    return report.Claim(
        text=(f"{what} of the costliest loss of {_OF[kind]}, over {_OVER[kind, what]}"),
        reference=BOUND,
        ours=lambda r: np.max([r[name].final(metric) for name in names], 0),
        at_most=bound,
        needs=names,
    )


def _cost(row, config):
    args = row.make(jax.random.key(0), tuple(config.shape), jnp.float32)
    logits = args[0]
    labels = jax.random.randint(
        jax.random.key(1), logits.shape[:-1], 0, logits.shape[-1]
    )
    uniform = jnp.full_like(logits, 1 / logits.shape[-1])
    ours = compiled(lambda *a: _first(row.loss(*a, **row.hyper)), args)
    label = compiled(optax.softmax_cross_entropy_with_integer_labels, (logits, labels))
    whole = compiled(optax.softmax_cross_entropy, (logits, uniform))
    memory = ours[1] / logits.nbytes
    costs = {"memory": memory, "whole_memory": whole[1] / logits.nbytes}
    if memory > config.most_memory:
        return costs | dict(
            seconds=np.nan, time_over_label=np.nan, time_over_whole=np.nan
        )
    times = take_turns([call for call, _ in (ours, label, whole)], config.repeats)
    return costs | dict(
        seconds=times[0],
        time_over_label=times[0] / times[1],
        time_over_whole=times[0] / times[2],
    )


def _first(result):
    return result[0] if isinstance(result, tuple) else result
