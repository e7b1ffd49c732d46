"""Can one network withstand attacks of several norms, and what does it cost?

Training against one norm leaves others open. RAMP trains on the worse of two attacks
(MAX), pairs the logits of both, and takes of an epoch on clean images what points where
the epoch on attacked ones does.

Source: RAMP, Jiang and Singh 2024, arXiv:2402.06827.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.common.claims import ahead
from experiments.common.references import stated
from experiments.robustness._attacked import attacked_run, drawing, network
from logitlab import attacks, losses, numerics, optim, report
from logitlab.train import Run, Study
from logitlab.train.config import check_name

INF, ONE, MAX, PAIRED, PROJECTED = "inf", "l1", "max", "paired", "projected"
LABELS = {
    INF: "against l∞",
    ONE: "against l1",
    MAX: "the worse of both (MAX)",
    PAIRED: "MAX and pairing",
    PROJECTED: "RAMP: with projection",
}
UNION = "robust/union"
NORMS = {"inf": "inf", "two": 2, "one": 1}  # entries of config.eps


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    for name in config.arms:
        check_name(name, LABELS, "config.arms")
    if config.train < config.batch_size:
        raise ValueError(
            f"config.batch_size is {config.batch_size}, expected at most config.train, "
            f"{config.train}"
        )
    labels = {name: LABELS[name] for name in config.arms}
    draw = drawing(config.train)
    eps = config.eps
    return Study(
        arms={name: _run(config, draw, name) for name in config.arms},
        figures={
            "price": report.frontier(
                {words: {name: ""} for name, words in labels.items()},
                across=("accuracy", "accuracy of clean images"),
                up=(UNION, "accuracy under all attacks"),
            ),
        },
        claims=_claims(config),
        labels=labels,
        title="Robust in several norms at once",
        summary=(
            f"An MLP learns {config.train} digits for {config.steps} steps of Adam, "
            f"attacked by {config.attack_steps} steps of Auto-PGD within {eps.inf:g} "
            f"of each pixel, within {eps.one:g} of all pixels together, or both. The "
            f"others are attacked by {config.test_steps} steps in these norms and "
            f"within {eps.two:g} in l2, which no arm trains against."
        ),
        captions={"price": "Up and to the right is better."},
        table=_table,
    )


class Merging(NamedTuple):
    """State of :func:`merged_every`: steps so far, and parameters at the last merge."""

    count: jax.Array
    start: Any


def merged_every(steps: int, beta: float) -> optax.GradientTransformation:
    """After every so many steps, both branches go on from their merge.

    The last of a chain, for parameters ``{"natural": ..., "adversarial": ...}`` that
    begin alike and train side by side.
    """

    def init(params):
        return Merging(jnp.zeros((), jnp.int32), params["adversarial"])

    def update(updates, state, params):
        ends = optax.apply_updates(params, updates)
        merged = optim.gradient_projection_merge(
            state.start, ends["natural"], ends["adversarial"], beta=beta
        )
        count = state.count + 1
        due = count % steps == 0

        def chosen(new, old):
            return jax.tree.map(lambda a, b: jnp.where(due, a, b), new, old)

        ends = {name: chosen(merged, end) for name, end in ends.items()}
        moves = jax.tree.map(jnp.subtract, ends, params)
        return moves, Merging(count, chosen(merged, state.start))

    return optax.GradientTransformation(init, update)


def _run(config, draw, name) -> Run:
    model = network(config)

    def logits_of(params):
        return lambda x: model.apply({"params": params}, x)

    def attacked(params, batch, norm):
        fixed = logits_of(jax.lax.stop_gradient(params))
        x = attacks.apgd(
            fixed,
            batch["x"],
            batch["y"],
            eps=config.eps[norm],
            norm=NORMS[norm],
            steps=config.attack_steps,
        ).inputs
        return logits_of(params)(jax.lax.stop_gradient(x))

    def against(params, batch):
        """Losses under attack, by row."""
        y = batch["y"]
        if name in (INF, ONE):
            norm = "inf" if name == INF else "one"
            return losses.cross_entropy(attacked(params, batch, norm), y)
        source, target = (attacked(params, batch, norm) for norm in ("inf", "one"))
        worse = attacks.max_of_attacks(
            jnp.stack([losses.cross_entropy(z, y) for z in (source, target)])
        )
        if name == MAX:
            return worse
        right, mask = source.argmax(-1) == y, batch.get("mask")
        pairs = losses.ramp_pairing_loss(source, target, y)
        kept = right if mask is None else right & mask
        return worse + config.pairing * numerics.masked_mean(pairs, kept)

    def loss(params, batch, key):
        del key  # Auto-PGD starts at the inputs
        if name != PROJECTED:
            return against(params, batch)
        natural = logits_of(params["natural"])(batch["x"])
        return against(params["adversarial"], batch) + losses.cross_entropy(
            natural, batch["y"]
        )

    make = functools.partial(
        attacked_run,
        config,
        draw,
        loss,
        tested={key: (norm, config.eps[key]) for key, norm in NORMS.items()},
    )
    if name != PROJECTED:
        return make()
    epoch = config.train // config.batch_size
    return make(
        init=lambda params: {"natural": params, "adversarial": params},
        take=lambda params: params["adversarial"],
        optimizer=optax.chain(
            optax.adam(config.learning_rate), merged_every(epoch, config.beta)
        ),
    )


def _claims(config):
    bounds = config.tolerances
    points = dict(scale=100, over="mean", unit="points")
    claims = [
        *(
            ahead(
                f"MAX withstands the union better than training {LABELS[name]}",
                UNION,
                MAX,
                name,
                reference=stated("training against one norm leaves the others open"),
                above=0.0,
                **points,
            )
            for name in (INF, ONE)
        ),
        ahead(
            "pairing does not cost accuracy under all attacks",
            UNION,
            PAIRED,
            MAX,
            reference=stated("the highest union accuracy, with pairing"),
            at_least=0.0,
            **points,
        ),
        ahead(
            "the projection does not cost clean accuracy",
            "accuracy",
            PROJECTED,
            PAIRED,
            reference=stated("a better trade-off of clean and robust accuracy"),
            at_least=0.0,
            **points,
        ),
        ahead(
            "nor accuracy under all attacks",
            UNION,
            PROJECTED,
            PAIRED,
            question=True,
            at_least=-100 * bounds.union,
            **points,
        ),
        ahead(
            "all of RAMP withstands the union better than MAX",
            UNION,
            PROJECTED,
            MAX,
            reference=stated("the highest union accuracy"),
            above=0.0,
            **points,
        ),
    ]
    return [claim for claim in claims if {*config.arms} >= {*claim.needs}]


def _table(results):
    """One row for each way to train."""
    columns = {
        "accuracy": "clean",
        "robust/inf": "l∞",
        "robust/two": "l2",
        "robust/one": "l1",
        UNION: "all three",
    }
    return [
        {"trained": arm.label}
        | {words: f"{arm.final(name).mean():.3f}" for name, words in columns.items()}
        for arm in results.values()
    ]
