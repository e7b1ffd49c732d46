"""Which objective breaks most, and what is left of it when all logits are larger?

A network learns digits that PGD attacks at each step. Then Auto-PGD attacks it further
than that, by one objective after the other, with its logits times 1, 20, 100 and 1000:
a factor that changes no prediction, and defends against nothing.

Source: PMA, arXiv:2411.15210; AutoAttack, Croce and Hein 2020, arXiv:2003.01690.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import datasets
from experiments.common.claims import ahead
from experiments.common.keys import once_per_key
from experiments.common.references import prototype, stated
from experiments.common.solvers import descended
from logitlab import attacks, losses, models, report
from logitlab.train import Compute, Study

OBJECTIVES = {
    "odds": attacks.label_odds,
    "ce": optax.softmax_cross_entropy_with_integer_labels,
    "log_margin": attacks.log_probability_margin,
    "margin": attacks.probability_margin,
    "cw": attacks.cw_margin,
    "dlr": attacks.dlr_loss,
}
PMA, DEFAULT, ALL = "pma", "default", "all"
LABELS = {
    "odds": "log-odds",
    "ce": "cross-entropy, float32",
    "log_margin": "probability margin, log space",
    "margin": "probability margin, float32",
    "cw": "CW margin",
    "dlr": "DLR",
    PMA: "PMA, half the steps twice",
    DEFAULT: "robust_accuracy",
    ALL: "all of them",
}
SINGLE = ("log_margin", "cw", "dlr", PMA)  # beside the cross-entropy in log-odds


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    images = functools.cache(lambda: datasets.images(centered=False))
    made = once_per_key(lambda key: _shares(key, images(), config))
    return Study(
        arms={name: Compute(lambda key, name=name: made(key)[name]) for name in LABELS},
        figures={
            "scales": report.trends(
                {scale: metric(scale) for scale in config.scales},
                label="share that no attack broke",
                across="factor of all logits",
                log_across=True,
            ),
        },
        claims=_claims(config),
        labels=LABELS,
        title="Objectives of attacks, and the scale of the logits",
        summary=(
            f"An MLP learns {config.train} digits for {config.steps} steps of Adam, "
            f"attacked by {config.attack.steps} steps of PGD within "
            f"{config.attack.eps:g} of each pixel. Auto-PGD has {config.test_steps} "
            f"steps within {config.eps:g} to break the "
            f"{datasets.DIGITS - config.train} others; all numbers are float32."
        ),
        captions={
            "scales": (
                "The factor changes no prediction: an objective whose line rises has "
                "lost its slopes to rounding. robust_accuracy takes the worst of "
                "log-odds, also of targets, probability margins and Square, at a "
                "temperature that the clean logits set."
            )
        },
        table=functools.partial(_table, config),
    )


def metric(scale: float) -> str:
    """What the share that is left at a scale of the logits is called."""
    return f"robust/{scale:g}"


def _check(config):
    datasets.check_train(config.train)
    scales = list(config.scales)
    if len(scales) < 2 or scales[0] != 1 or scales != sorted(set(scales)):
        raise ValueError(
            f"config.scales is {tuple(scales)}, expected growing numbers from 1 on"
        )


def _shares(key, images, config):
    """Name of an attack -> shares of the test digits that it left, by scale."""
    split_key, train_key = jax.random.split(key)
    attack_key = jax.random.fold_in(key, 1)
    rows = datasets.divide(split_key, *images, config.train)
    widths, attack = tuple(config.widths), config.attack
    params = trained(
        train_key,
        rows.x,
        rows.y,
        config.learning_rate,
        attack.eps,
        attack.step_size,
        widths=widths,
        steps=config.steps,
        batch_size=config.batch_size,
        attack_steps=attack.steps,
    )
    left = survivors(
        params,
        rows.test_x,
        rows.test_y,
        jnp.float32(config.scales),
        config.eps,
        attack_key,
        widths=widths,
        steps=config.test_steps,
        queries=config.queries,
    )
    left[ALL] = np.all(list(left.values()), 0)
    return {
        name: {
            metric(scale): share
            for scale, share in zip(config.scales, flags.mean(-1), strict=True)
        }
        for name, flags in left.items()
    }


@functools.partial(
    jax.jit, static_argnames=("widths", "steps", "batch_size", "attack_steps")
)
def trained(
    key, x, y, learning_rate, eps, step_size, *, widths, steps, batch_size, attack_steps
):
    """Parameters of a network that saw each batch as PGD left it."""
    model = models.MLP(widths=widths, classes=10)

    def slope(params, key):
        row_key, attack_key = jax.random.split(key)
        at = jax.random.randint(row_key, (batch_size,), 0, len(y))
        attacked = attacks.pgd(
            functools.partial(model.apply, params),
            x[at],
            y[at],
            eps=eps,
            steps=attack_steps,
            step_size=step_size,
            key=attack_key,
        ).inputs
        return jax.grad(
            lambda p: losses.cross_entropy(model.apply(p, attacked), y[at]).mean()
        )(params)

    params, _ = descended(
        slope,
        model.init(key, x[:1]),
        optax.adam(learning_rate),
        batches=jax.random.split(key, steps),
    )
    return params


@functools.partial(jax.jit, static_argnames=("widths", "steps", "queries"))
def survivors(params, x, y, scales, eps, key, *, widths, steps, queries):
    """Name of an attack -> bool [scales, N], the inputs that it did not break.

    One program for all objectives and scales.
    """
    model = models.MLP(widths=widths, classes=10)

    def scaled(scale):
        return lambda x: scale * model.apply(params, x)

    def one(at):
        place, scale = at
        return attacks.apgd(
            scaled(scale),
            x,
            y,
            eps=eps,
            steps=steps,
            loss=lambda z, y: jax.lax.switch(place, list(OBJECTIVES.values()), z, y),
        ).broken

    def two_passes(scale):
        return attacks.pma_attack(scaled(scale), x, y, eps=eps, steps=steps // 2).broken

    def default(scale):
        found = attacks.robust_accuracy(
            scaled(scale), x, y, key=key, eps=eps, steps=steps, queries=queries
        )
        return found.attack.broken

    places = jnp.repeat(jnp.arange(len(OBJECTIVES)), len(scales))
    broken = jax.lax.map(one, (places, jnp.tile(scales, len(OBJECTIVES))))
    left = ~broken.reshape(len(OBJECTIVES), len(scales), len(y))
    found = dict(zip(OBJECTIVES, left, strict=True))
    return found | {
        PMA: ~jax.lax.map(two_passes, scales),
        DEFAULT: ~jax.lax.map(default, scales),
    }


def _moved(config, arm, results):
    """Points between the largest and the smallest share over the scales."""
    rows = [results[arm].final(metric(scale)) for scale in config.scales]
    return 100 * (np.max(rows, 0) - np.min(rows, 0))


def _lead(results):
    """Points by which log-odds are ahead of the best other objective, on average."""
    at = metric(1)
    others = [results[name].final(at) - results["odds"].final(at) for name in SINGLE]
    return 100 * report.smallest_mean(others)


def _claims(config):
    bounds, first = config.tolerances, metric(1)
    second, last = metric(config.scales[1]), metric(config.scales[-1])
    found = {"cw": "0.567 against 0.602", "dlr": "0.567 against 0.601"}
    stronger = [
        ahead(
            f"the probability margin breaks more than {LABELS[name]}",
            first,
            name,
            "log_margin",
            scale=100,
            reference=stated("the strongest single attack", found[name]),
            at_least=100 * bounds.margin,
            over="mean",
            unit="points",
        )
        for name in ("cw", "dlr")
    ]
    blind = [
        report.Claim(
            text=f"{LABELS[name]} is blind to the scale",
            reference="theorem: its steps have the same signs at every scale",
            ours=functools.partial(_moved, config, name),
            at_most=100 * bounds.blind,
            unit="points",
            needs=(name,),
        )
        for name in ("cw", "dlr")
    ]
    rises = {"ce": "0.553 to 0.707", "margin": "0.567 to 0.706"}
    collapse = [
        report.Claim(
            text=f"logits times {config.scales[1]:g} seem to defend: {LABELS[name]}",
            reference=prototype(rises[name]),
            ours=lambda results, name=name: (
                100 * (results[name].final(second) - results[name].final(first))
            ),
            at_least=100 * bounds.collapse,
            over="mean",
            unit="points",
            needs=(name,),
        )
        for name in rises
    ]
    still = [
        report.Claim(
            text=f"at no scale does the share move: {LABELS[name]}",
            reference=prototype(beside),
            ours=functools.partial(_moved, config, name),
            at_most=100 * bounds.still,
            over="mean",
            unit="points",
            needs=(name,),
        )
        for name, beside in (
            ("odds", "0.658 at all of 20, 100 and 1000, 0.673 at 1"),
            ("log_margin", "in log space it does not collapse"),
            (DEFAULT, "0.658 at all of 1, 20, 100 and 1000"),
        )
    ]
    return [
        *stronger,
        *blind,
        *collapse,
        *still,
        ahead(
            f"logits times {config.scales[-1]:g} defend entirely against "
            f"{LABELS['ce']}",
            last,
            "ce",
            "odds",
            scale=100,
            reference=prototype("0.963 against 0.658"),
            at_least=100 * bounds.blinded,
            over="mean",
            unit="points more than log-odds leave",
        ),
        report.Claim(
            text="cross-entropy, as log-odds, is the strongest single attack here",
            reference=prototype("0.553 against 0.567 and more"),
            ours=_lead,
            above=0.0,
            over="mean",
            unit="points, ahead of the next",
            needs=("odds", *SINGLE),
        ),
    ]


def _table(config, results):
    """One row for each attack."""
    return [
        {"attack": arm.label}
        | {
            f"times {scale:g}": f"{np.mean(arm.final(metric(scale))):.3f}"
            for scale in config.scales
        }
        for arm in results.values()
    ]
