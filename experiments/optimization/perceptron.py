"""Steps of gradient descent until separable data are separated, as exact integers.

One point, and 999 copies of another one that is hard to separate from it. Gradients
divided by the mean probability of error need a number of steps that does not grow with
the copies; for large step sizes either kind of descent becomes a perceptron.

Source: From Logistic Regression to the Perceptron Algorithm, arXiv:2412.08424.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.references import prototype
from logitlab import losses, optim, report
from logitlab.train import Compute, Study

NORMALIZED, PLAIN = "normalized", "plain"
KINDS = {NORMALIZED: "divided by the error mass", PLAIN: "gradient descent"}
STEPS = "steps"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    for kind in KINDS:
        table = config[kind]
        if len(table.sizes) != len(table.steps):
            raise ValueError(
                f"config.{kind} has {len(table.sizes)} sizes and {len(table.steps)} "
                "numbers of steps, expected as many"
            )
    arms = {
        arm_name(kind, size): Compute(functools.partial(_values, config, kind, size))
        for kind in KINDS
        for size in config[kind].sizes
    }
    for kind in KINDS:
        arms[limit_name(kind)] = Compute(functools.partial(_limit, config, kind))
    sizes = sorted({s for kind in KINDS for s in config[kind].sizes})
    return Study(
        arms=arms,
        figures={
            "steps": report.intervals(
                {
                    label: [arm_name(kind, size) for size in sizes]
                    for kind, label in KINDS.items()
                },
                [f"{size:g}" for size in sizes],
                STEPS,
                label="steps until all margins are positive",
                across="step size",
                log=True,
                joined=True,
            )
        },
        claims=_claims(config),
        labels={
            **{
                arm_name(kind, size): f"{label}, {size:g}"
                for kind, label in KINDS.items()
                for size in config[kind].sizes
            },
            limit_name(NORMALIZED): "normalized perceptron",
            limit_name(PLAIN): "batch perceptron",
        },
        title="From logistic regression to the perceptron",
        summary=(
            f"One point (0.5, -1) of one class, {config.points - 1} points (-0.5, -1) "
            "of the other; full-batch descent on the mean logistic loss, from 0."
        ),
        captions={"steps": "Step sizes of ten times fewer steps, until none is left."},
    )


def arm_name(kind: str, size: float) -> str:
    """Name of the arm of a kind of descent and a step size."""
    return f"{kind}_{size:g}"


def limit_name(kind: str) -> str:
    """Name of the arm of a perceptron."""
    return f"{kind}_perceptron"


def points(many: int) -> tuple[jax.Array, jax.Array]:
    """Features [N, 2] and classes -1 and 1 [N]."""
    x = jnp.tile(jnp.array([[-0.5, -1.0]]), (many, 1)).at[0, 0].set(0.5)
    return x, jnp.ones(many, int).at[1:].set(-1)


def _values(config, kind, size, key):
    del key
    first = [optim.scale_by_inverse_error_mass()] if kind == NORMALIZED else []
    optimizer = optax.chain(*first, optax.sgd(size))
    return {
        STEPS: steps_until_separated(optimizer, *points(config.points), config.most)
    }


def steps_until_separated(optimizer, x, y, most: int) -> int:
    """Steps from 0 until every margin is positive, or the most there are."""
    optimizer = optax.with_extra_args_support(optimizer)
    labels = jnp.where(y > 0, 0, 1)

    def logits(w):
        return jnp.stack([x @ w, jnp.zeros(len(x), x.dtype)], -1)

    def mean_loss(w):
        return losses.cross_entropy(logits(w), labels).mean()

    def going(carry):
        w, _, steps = carry
        return (steps < most) & ((x @ w) * y <= 0).any()

    def step(carry):
        w, state, steps = carry
        mass = optim.error_mass(logits(w), labels)
        updates, state = optimizer.update(
            jax.grad(mean_loss)(w), state, w, error_mass=mass
        )
        return optax.apply_updates(w, updates), state, steps + 1

    @jax.jit
    def run(w):
        return jax.lax.while_loop(going, step, (w, optimizer.init(w), 0))[2]

    return int(run(jnp.zeros(2, x.dtype)))


def _limit(config, kind, key):
    del key
    found = optim.batch_perceptron(
        *points(config.points), normalized=kind == NORMALIZED, max_steps=config.most
    )
    return {STEPS: int(found.steps)}


def _claims(config):
    claims = []
    for kind, label in KINDS.items():
        table = config[kind]
        for size, steps in zip(table.sizes, table.steps, strict=True):
            in_paper = kind == NORMALIZED or size == max(table.sizes)
            source = (
                dict(paper=f"{steps} (table 1)")
                if in_paper
                else dict(reference=prototype(f"{steps} steps"))
            )
            claims.append(
                _exactly(f"{label}, step size {size:g}", arm_name(kind, size), steps,
                         **source)
            )  # fmt: skip
    for kind, steps in zip(KINDS, config.limits, strict=True):
        what = "normalized" if kind == NORMALIZED else "batch"
        source = dict(reference=prototype(f"{steps} steps"))
        claims.append(_exactly(f"{what} perceptron", limit_name(kind), steps, **source))
    return claims


def _exactly(text, arm, steps, **source):
    return report.Claim(
        text=f"{text}: {steps} steps",
        ours=lambda r: np.asarray(r[arm].final(STEPS)),
        equals=float(steps),
        unit="steps",
        needs=(arm,),
        **source,
    )
