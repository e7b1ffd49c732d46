"""Averages of models that were fine-tuned from one checkpoint, and of others.

A network learns a few digits, and is fine-tuned on more of them with different learning
rates, label smoothing and batches. A greedy soup should be at least as good as the best
of them, at the price of one; models of different initializations do not average.

Source: Model soups, Wortsman et al. 2022, arXiv:2203.05482.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.datasets import DIGITS, images
from experiments.common.keys import once_per_key
from experiments.common.references import stated
from experiments.common.solvers import descended
from logitlab import losses, models, optim, report
from logitlab.train import Compute, Study

ACCURACY = "test/accuracy"
KINDS = {
    "best": "best\nsingle",
    "greedy": "greedy\nsoup",
    "lenient": "greedy,\nties stay",
    "uniform": "uniform\nsoup",
    "learned": "learned\nsoup",
    "ensemble": "mean of\nlogits",
    "strangers": "soup of\nstrangers",
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    rows = config.pretrain + config.tune + config.held_out
    if rows >= DIGITS:
        raise ValueError(
            f"config.pretrain, tune and held_out are {rows} in sum, expected fewer "
            f"than {DIGITS} digits: the others are the test set"
        )
    measured = once_per_key(functools.partial(_values, config, _trainer(config)))
    return Study(
        arms={
            name: Compute(lambda key, name=name: measured(key)[name]) for name in KINDS
        },
        figures={
            "accuracy": report.intervals(
                {"": list(KINDS)}, list(KINDS.values()), ACCURACY, label="test accuracy"
            )
        },
        claims=_claims(config),
        labels={name: label.replace("\n", " ") for name, label in KINDS.items()},
        title="Model soups",
        summary=(
            f"{config.width} ReLU units, {config.first_steps} steps of Adam on "
            f"{config.pretrain} digits, then {config.steps} on {config.tune} others "
            f"with {len(config.rates)} learning rates and {len(config.smoothings)} "
            f"degrees of label smoothing; {config.held_out} are held out to choose "
            "by, the rest tests. Strangers are trained alike from different starts."
        ),
        captions={"accuracy": "A dot for each seed."},
    )


def _logits(config, params, x):
    model = models.MLP(widths=(config.width,), classes=10)
    return model.apply({"params": params}, x)


def _trainer(config):
    """A compiled function: key, rows -> fine-tuned models, and strangers, stacked."""
    model = models.MLP(widths=(config.width,), classes=10)
    grid = jnp.asarray(list(itertools.product(config.rates, config.smoothings)))
    many = len(grid)

    def trained(params, key, rows, steps, rate, smoothing):
        at = jax.random.randint(key, (steps, config.batch_size), 0, len(rows.y))

        def loss(params, at):
            soft = optax.smooth_labels(jax.nn.one_hot(rows.y[at], 10), smoothing)
            return losses.cross_entropy(
                _logits(config, params, rows.x[at]), soft
            ).mean()

        return descended(jax.grad(loss), params, optax.adam(rate), batches=at)[0]

    @jax.jit
    def run(key, first, tune):
        def begun(key):
            params = model.init(key, first.x[:1])["params"]
            return trained(
                params, key, first, config.first_steps, config.first_rate, 0.0
            )

        def tuned(params, key, setting):
            return trained(params, key, tune, config.steps, *setting)

        keys = jax.random.split(key, many + 2)
        starts = jax.vmap(begun)(keys[: many + 1])
        orders = jax.random.split(keys[-1], many)
        one, others = (jax.tree.map(lambda a, s=s: a[s], starts) for s in PARTS)
        family = jax.vmap(tuned, (None, 0, 0))(one, orders, grid)
        return family, jax.vmap(tuned)(others, orders, grid)

    return run


PARTS = 0, slice(1, None)  # the checkpoint, and the starts of strangers


class Rows(NamedTuple):
    """Images and digits."""

    x: jax.Array
    y: jax.Array


def _values(config, train, key):
    order_key, train_key = jax.random.split(key)
    x, y = images()
    order = jax.random.permutation(order_key, len(y))
    ends = np.cumsum([config.pretrain, config.tune, config.held_out])
    first, tune, held, test = (Rows(x[at], y[at]) for at in jnp.split(order, ends))
    many = len(config.rates) * len(config.smoothings)
    family, strangers = (
        [jax.tree.map(lambda a, i=i: a[i], stack) for i in range(many)]
        for stack in train(train_key, first, tune)
    )

    def score(params, rows):
        right = _logits(config, params, rows.x).argmax(-1) == rows.y
        return float(jnp.mean(right))

    chosen = [score(p, held) for p in family]
    soups = {
        name: optim.greedy_soup(family, lambda p: score(p, held), strict=strict)
        for name, strict in (("greedy", True), ("lenient", False))
    }
    learned = optim.learned_soup(family, lambda p: _logits(config, p, held.x), held.y)
    models_of = {
        "best": family[int(np.argmax(chosen))],
        "uniform": optim.uniform_soup(family),
        "learned": learned.params,
        "strangers": optim.uniform_soup(strangers),
    } | {name: soup for name, (soup, _) in soups.items()}
    found = {name: {ACCURACY: score(p, test)} for name, p in models_of.items()}
    for name, (_, members) in soups.items():
        found[name]["members"] = len(members)
    mean = jnp.mean(jnp.stack([_logits(config, p, test.x) for p in family]), 0)
    right = float(jnp.mean(mean.argmax(-1) == test.y))
    return found | {"ensemble": {ACCURACY: right}}


def _claims(config):
    bounds = config.tolerances

    def gap(ours, other):
        return report.ahead(ACCURACY, ours, other, scale=100)

    return [
        report.Claim(
            text="the greedy soup is at least as good as the best single model",
            paper="81.03 % against 80.39 % on ImageNet (table 3)",
            ours=gap("greedy", "best"),
            at_least=0.0,
            over="share",
            share=bounds.share,
            unit="points of test accuracy",
            needs=("greedy", "best"),
        ),
        report.Claim(
            text="a soup of models with different starts is far below a single one",
            reference=stated("models of different initializations do not average"),
            ours=gap("best", "strangers"),
            at_least=bounds.below,
            unit="points of test accuracy",
            needs=("best", "strangers"),
        ),
        *(
            report.Claim(
                text=text,
                question=True,
                ours=gap(one, other),
                at_least=0.0,
                over="mean",
                unit="points of test accuracy",
                needs=(one, other),
            )
            for one, other, text in (
                (
                    "lenient",
                    "best",
                    "with ties kept the greedy soup is as good as the best model",
                ),
                ("uniform", "best", "the mean of all is as good as the best model"),
                (
                    "greedy",
                    "ensemble",
                    "the greedy soup is as good as the mean of logits",
                ),
            )
        ),
        report.Claim(
            text="the greedy soup has more than one model",
            question=True,
            ours=lambda r: r["greedy"].final("members"),
            above=1.0,
            over="median",
            unit="models",
            needs=("greedy",),
        ),
    ]
