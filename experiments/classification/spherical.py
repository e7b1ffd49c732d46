"""Are losses of sums and squares of the logits as good as the softmax, and where not?

Their output layer can be updated at a cost that does not grow with the classes. They
are held against cross-entropy on ten digits, and on the next of hundreds of words after
a word, where each loss has the learning rate that suits it. How hard the Z-loss pushes
is varied.

Sources: Z-loss, de Brebisson and Vincent 2016, arXiv:1604.08859; the spherical family,
de Brebisson and Vincent 2016, arXiv:1511.05042.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.classification import _words
from experiments.common.claims import ahead
from experiments.common.datasets import check_train, divide, images
from experiments.common.references import stated
from logitlab import losses, metrics, models, report
from logitlab.train import ArmResult, Run, Study

CE, TAYLOR, SPHERICAL, Z = "ce", "taylor", "spherical", "z"
LABELS = {
    CE: "softmax",
    TAYLOR: "Taylor softmax",
    SPHERICAL: "spherical softmax",
    Z: "Z-loss",
}
LOSSES = {
    CE: losses.cross_entropy,
    TAYLOR: losses.taylor_softmax_loss,
    SPHERICAL: losses.spherical_softmax_loss,
}
TOP = 5
PARTS = ("validation", "test")


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    check_train(config.digits.train)
    rates, offsets = list(config.words.learning_rates), list(config.offsets)
    draw = functools.partial(_words.divided, config.words)
    arms = {f"digits_{name}": _digits_run(config, name) for name in LABELS}
    for name in LOSSES:
        at = functools.partial(_words_run, config, name)
        for rate in rates:
            values = {"rate": rate}
            arms[arm_name(name, rate)] = dataclasses.replace(
                at(values), data=draw, values=values, at=at
            )
    at = functools.partial(_words_run, config, Z)
    for b in offsets:
        for rate in rates:
            values = {"rate": rate, "b": b}
            arms[arm_name(offset(b), rate)] = dataclasses.replace(
                at(values), data=draw, values=values, at=at
            )
    names = {name: LABELS[name] for name in LOSSES}
    shifted = {offset(b): f"Z-loss, b = {b:g}" for b in offsets}

    def chosen(draw_figure, wanted, k):
        """A figure of the learning rate of each loss that is best for the first k."""

        def draw_chosen(results):
            return draw_figure(
                {
                    name: _relabeled(results[best], words)
                    for name, words in wanted.items()
                    if (best := _best(config, name, results, k)) is not None
                }
            )

        return draw_chosen

    everything = names | shifted
    return Study(
        arms=arms,
        figures={
            "digits": report.intervals(
                {label: [f"digits_{name}"] for name, label in LABELS.items()},
                ["digits"],
                "test/accuracy",
                label="test accuracy",
            ),
            "words": chosen(
                report.intervals(
                    {"best learning rate": list(everything)},
                    list(_short(everything).values()),
                    "test/top_1",
                    label="error of the first guess",
                ),
                everything,
                1,
            ),
            "words_top_5": chosen(
                report.intervals(
                    {"best learning rate": list(everything)},
                    list(_short(everything).values()),
                    f"test/top_{TOP}",
                    label=f"label not among the first {TOP}",
                ),
                everything,
                TOP,
            ),
        },
        claims=_claims(config),
        labels={f"digits_{name}": f"digits, {label}" for name, label in LABELS.items()}
        | {
            arm_name(name, rate): f"words, {words}, rate {rate:g}"
            for name, words in everything.items()
            for rate in rates
        },
        title="Losses whose output layer costs the same for any number of classes",
        summary=(
            f"{config.digits.train} digits, an MLP, {config.digits.epochs} epochs; and "
            f"pairs of words from {config.words.modules} modules of Python's standard "
            f"library, of which the {config.words.vocabulary} most common words count: "
            f"a vector of {config.words.width} numbers for each word, from which all "
            f"logits are linear, {config.words.steps} steps of Adam. Learning rates "
            "are chosen by the validation error of the number that is compared, in "
            f"the mean of {config.seeds} seeds, and so is b of the Z-loss, with a = 1."
        ),
        captions={
            "digits": "Ten classes, after the last epoch.",
            "words": "The next word, test pairs.",
            "words_top_5": "The same pairs, each with its five best guesses.",
        },
    )


def arm_name(loss: str, rate: float) -> str:
    """Name of the arm of a loss on words at a learning rate."""
    return f"words_{loss}_{rate:g}"


def offset(b: float) -> str:
    """Name of the Z-loss with an offset, in names of arms."""
    return f"{Z}_{b:g}"


def _short(names):
    return {name: words.replace(", ", "\n").replace(" soft", "\nsoft")
            for name, words in names.items()}  # fmt: skip


def _relabeled(result, label):
    return ArmResult(
        label,
        result.seeds,
        [
            {"arm": label, "seed": seed, "step": 0}
            | {name: result.final(name)[i] for name in result}
            for i, seed in enumerate(result.seeds)
        ],
    )


def _digits_run(config, name) -> Run:
    c = config.digits
    model = models.MLP(widths=c.widths, classes=10)
    loss_of = LOSSES.get(name, losses.spherical_z_loss)

    def draw(key):
        found = divide(key, *images(), c.train)
        return {
            "train": {"x": found.x, "y": found.y},
            "test": {"x": found.test_x, "y": found.test_y},
        }

    def logits(params, batch):
        return model.apply({"params": params}, batch["x"])

    steps = c.epochs * (c.train // c.batch_size)
    return Run(
        init=lambda key: model.init(key, jnp.zeros((1, 64)))["params"],
        loss=lambda params, batch, key: loss_of(logits(params, batch), batch["y"]),
        data=draw,
        optimizer=optax.adam(c.learning_rate),
        evaluate=lambda params, data: {
            "test/accuracy": metrics.accuracy(
                ranked(name, logits(params, data["test"])), data["test"]["y"]
            )
        },
        steps=steps,
        batch_size=c.batch_size,
        evaluate_at=(steps,),
        show=("test/accuracy",),
    )


def _words_run(config, name, values) -> Run:
    c = config.words
    loss_of = LOSSES.get(name) or functools.partial(
        losses.spherical_z_loss, b=values["b"]
    )

    def init(key):
        in_key, out_key = jax.random.split(key)
        return {
            "words": jax.random.normal(in_key, (c.vocabulary, c.width)),
            "kernel": jax.random.normal(out_key, (c.width, c.vocabulary))
            / c.width**0.5,
        }

    def logits(params, x):
        return params["words"][x] @ params["kernel"]

    def evaluate(params, data):
        z = ranked(name, logits(params, jnp.arange(c.vocabulary)))
        rank = jnp.argsort(jnp.argsort(-z, -1), -1)  # of each word after each
        return {
            f"{part}/top_{k}": metrics.mean_of(
                rank[data[part]["x"], data[part]["y"]] >= k
            )
            for part in PARTS
            for k in (1, TOP)
        }

    def loss(params, batch, key):  # a row is a batch
        del key
        return loss_of(logits(params, batch["x"]), batch["y"]).mean(-1)

    return Run(
        init=init,
        loss=loss,
        data={},
        optimizer=optax.adam(values["rate"]),
        evaluate=evaluate,
        steps=c.steps,
        batch_size=1,
        evaluate_at=(c.steps,),
        show=("test/top_1",),
    )


def ranked(name: str, logits: jax.Array) -> jax.Array:
    """Numbers in the order of a loss's probabilities."""
    if name == SPHERICAL:  # blind to the sign
        return jnp.abs(logits)
    if name == TAYLOR:  # least at -1
        return jnp.abs(logits + 1)
    return logits


def _best(config, name, results, k):
    """The arm of a loss with the least validation error of the first k."""
    names = [offset(b) for b in config.offsets] if name == Z else [name]
    here = [
        arm
        for one in names
        for rate in config.words.learning_rates
        if (arm := arm_name(one, rate)) in results
    ]
    return min(
        here,
        key=lambda arm: np.mean(results[arm].final(f"validation/top_{k}")),
        default=None,
    )


def _claims(config):
    bounds = config.tolerances

    def gap(text, one, other, k, **claim):
        def ours(results):
            mine, its = (_best(config, name, results, k) for name in (one, other))
            metric = f"test/top_{k}"
            return 100 * (results[mine].final(metric) - results[its].final(metric))

        return report.Claim(
            text=text,
            ours=ours,
            over="mean",
            unit="points of error",
            needs=tuple(_arms_of(config, one) + _arms_of(config, other)),
            **claim,
        )

    few = stated("competitive where classes are few, MNIST and CIFAR-10")
    many = stated("worse where they are many, Penn treebank")
    claims = [
        ahead(
            f"{LABELS[name]} is within a point of the softmax on digits",
            "test/accuracy",
            f"digits_{name}",
            f"digits_{CE}",
            scale=100,
            at_least=-bounds.digits,
            over="mean",
            unit="points",
            reference=few,
        )
        for name in (TAYLOR, SPHERICAL)
    ]
    claims += [
        gap(f"{LABELS[name]} makes more errors on words than the softmax", name, CE, 1,
            at_least=bounds.words, reference=many)
        for name in (TAYLOR, SPHERICAL)
    ]  # fmt: skip
    claims += [
        gap(f"top {TOP}: the Z-loss makes no more errors than the {LABELS[name]}", Z,
            name, TOP, at_most=0.0,
            reference=stated("better than all other spherical losses"))
        for name in (TAYLOR, SPHERICAL)
    ]  # fmt: skip
    claims.append(
        gap(f"top {TOP}: the Z-loss makes fewer errors than the softmax", Z, CE, TOP,
            at_most=-bounds.beats, reference=stated("better for k above 1"))
    )  # fmt: skip
    first = offset(config.offsets[0])
    claims.append(
        gap(f"top {TOP}: with the b that is chosen it makes fewer errors than with "
            f"b = {config.offsets[0]:g}", Z, first, TOP, at_most=-bounds.offset,
            reference=stated("a and b are to be tuned for each number"))
    )  # fmt: skip
    return claims


def _arms_of(config, name):
    names = [offset(b) for b in config.offsets] if name == Z else [name]
    return [
        arm_name(one, rate) for one in names for rate in config.words.learning_rates
    ]
