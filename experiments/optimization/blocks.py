"""Which block of coordinates should be updated next?

Logistic regression with features whose scales span four orders of magnitude, five
coordinates at a time. Rules that know how curved a block is are compared with the
largest gradient, with chance, and with taking turns.

Source: Nutini et al. 2022 (JMLR), arXiv:1712.08859.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.keys import once_per_key
from experiments.common.references import prototype
from experiments.common.solvers import minimised
from logitlab import optim, report
from logitlab.train import Compute, Study
from logitlab.train.config import check_name

UPDATES = {"gradient": "gradient steps", "matrix": "matrix steps"}
RULES = {
    "random": "at random",
    "cyclic": "in turn",
    "gs": "GS",
    "gsl": "GSL",
    "gsd": "GSD",
    "gsq": "GSQ",
}
GAP, SLACK = "gap", "slack"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    for name in config.rules:
        check_name(name, RULES, "config.rules")
    if config.features % config.block:
        raise ValueError(
            f"config.block is {config.block}, expected a divisor of config.features, "
            f"{config.features}"
        )
    pairs = [(rule, update) for update in UPDATES for rule in config.rules]
    solve = jax.jit(functools.partial(_solved, config, pairs))
    solved = once_per_key(lambda key: jax.tree.map(float, solve(key)))
    return Study(
        arms={
            name: Compute(lambda key, name=name: solved(key)[name])
            for name in (arm_name(*pair) for pair in pairs)
        },
        figures={
            "gaps": report.intervals(
                {
                    label: [arm_name(rule, update) for rule in config.rules]
                    for update, label in UPDATES.items()
                },
                [RULES[rule] for rule in config.rules],
                GAP,
                label="distance from the least value",
                across="rule",
                log=True,
            )
        },
        claims=_claims(config),
        labels={
            arm_name(rule, update): f"{RULES[rule]}, {UPDATES[update]}"
            for rule, update in pairs
        },
        title="Blocks of coordinates",
        summary=(
            f"Logistic regression of {config.rows} rows and {config.features} sparse "
            f"features with scales of {config.scales[0]:g} to {config.scales[1]:g}, "
            f"blocks of {config.block} of like scale, {config.updates} updates from 0."
        ),
        captions={"gaps": "After as many updates each; lower is better."},
    )


def arm_name(rule: str, update: str) -> str:
    """Name of the arm of a rule and a kind of update."""
    return f"{rule}_{update}"


def _problem(config, key):
    """Function, bound of its Hessian, blocks, and the function's least value."""
    keys = jax.random.split(key, 5)
    shape = (config.rows, config.features)
    keep = jax.random.uniform(keys[0], shape) < config.density
    low, high = np.log(config.scales)
    scales = jnp.exp(
        jax.random.uniform(keys[1], (config.features,), minval=low, maxval=high)
    )
    x = jnp.where(keep, jax.random.normal(keys[2], shape), 0) * scales[None]
    w = jax.random.normal(keys[3], (config.features,)) / scales
    y = jnp.sign(x @ w + jax.random.normal(keys[4], (config.rows,)))

    def value(w):
        margins = y * (x @ w)
        return jax.nn.softplus(-margins).sum() + config.decay / 2 * w @ w

    bound = x.T @ x / 4 + config.decay * jnp.eye(config.features)
    order = jnp.argsort(jnp.diagonal(bound))
    start = jnp.zeros(config.features)
    steps, root = 5000, jnp.sqrt(jnp.diagonal(bound))
    best = minimised(lambda v: value(v / root), start, steps=steps, tolerance=1e-9)
    return value, bound, order.reshape(-1, config.block), value(best / root)


def _solved(config, pairs, key):
    """All rules and updates, in one program."""
    value, bound, blocks, least = _problem(config, key)
    found = {}
    for rule, update in pairs:
        end = optim.bcd_minimize(
            *(jax.grad(value), bound, jnp.zeros(config.features)),
            rule=rule,
            update=update,
            blocks=blocks,
            iters=config.updates,
            key=jax.random.fold_in(key, 1),
            value_fn=value,
        )
        falls = -jnp.diff(end.values)
        found[arm_name(rule, update)] = {
            GAP: end.values[-1] - least,
            SLACK: ((falls - end.progress) / end.values[:-1]).min(),
        }
    return found


def _claims(config):
    claims = []
    order = [
        ("gsq", "gsl", 0.0, "GSQ is no worse than GSL"),
        ("gsl", "random", None, "GSL is better than chance"),
        ("random", "gs", None, "chance is better than GS"),
    ]
    for update, label in UPDATES.items():
        for good, bad, least, text in order:
            good, bad = arm_name(good, update), arm_name(bad, update)
            claims.append(
                report.Claim(
                    text=f"{text}, {label}",
                    reference=prototype(PILOT[update]),
                    ours=report.ahead(GAP, bad, good),
                    over="mean",
                    unit="nearer to the least value",
                    needs=(good, bad),
                    **(dict(above=0.0) if least is None else dict(at_least=least)),
                )
            )
    gradient, matrix = (
        [arm_name(rule, update) for rule in config.rules] for update in UPDATES
    )
    return [
        *claims,
        report.Claim(
            text="matrix steps are better than gradient steps, by each rule",
            reference=prototype("random 4.6 and 2.8, GSQ 1.1 and 0.48"),
            ours=lambda r: np.min(
                [
                    r[a].final(GAP) - r[b].final(GAP)
                    for a, b in zip(gradient, matrix, strict=True)
                ],
                0,
            ),  # fmt: skip
            above=0.0,
            over="mean",
            unit="nearer to the least value, at the least",
            needs=(*gradient, *matrix),
        ),
        report.Claim(
            text="every update makes the progress that is guaranteed",
            reference="theorem: H bounds the Hessian everywhere",
            ours=lambda r: np.min([r[a].final(SLACK) for a in gradient + matrix], 0),
            at_least=-config.tolerances.rounding,
            unit="of the value, the least excess",
            needs=(*gradient, *matrix),
        ),
    ]


PILOT = {
    "gradient": "random 4.6, 7.2, 2.6; GS 19, 18, 12; GSL 1.1, 2.3, 0.38; "
    "GSQ 1.1, 2.2, 0.38",
    "matrix": "random 2.8, 4.5, 1.8; GS 13, 14, 8; GSL 0.49, 1.14, 0.156; "
    "GSQ 0.476, 1.11, 0.152",
}
