"""Do Dice losses find rare positives better than cross-entropy, and at what price?

A linear model learns two Gaussians, of which one is rare, by cross-entropy and by the
Dice, Tversky and self-adjusting losses: over a whole batch, or for each example. The
exponent that weights easy examples down is varied, and the price of false positives.

Source: Dice Loss for Data-imbalanced NLP Tasks, Li et al. 2020, arXiv:1911.02855.
"""

import dataclasses
import functools

import numpy as np

from experiments.classification import _gaussians as gaussians
from experiments.classification._gaussians import arm_name
from experiments.common.claims import ahead
from experiments.common.references import BOUND, stated
from logitlab import losses, report
from logitlab.train import Run, Study

CE, DICE, DSC, TVERSKY = "ce", "dice", "dsc", "tversky"
WORDS = {
    CE: "cross-entropy",
    DICE: "Dice of a batch",
    TVERSKY: "Tversky, α = β",
    DSC: "self-adjusting, each example",
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    gaussians.check(config)
    draws = {
        rate: functools.partial(gaussians.draw, config, rate) for rate in config.rates
    }
    arms: dict[str, Run] = {
        arm_name(CE, rate): gaussians.run(config, losses.sigmoid_cross_entropy, data)
        for rate, data in draws.items()
    }
    points = {
        DICE: {alpha: {"alpha": alpha} for alpha in config.alphas},
        DSC: {alpha: {"alpha": alpha} for alpha in config.alphas},
        TVERSKY: {a: {"alpha": a, "beta": 1 - a} for a in config.prices},
    }
    for loss, of_loss in points.items():
        at = functools.partial(_run, config, loss)
        for rate, data in draws.items():
            for alpha, values in of_loss.items():
                arms[arm_name(method(loss, alpha), rate)] = dataclasses.replace(
                    at(values), data=data, values=values, at=at
                )
    shown = dict(zip(_compared(config), WORDS.values(), strict=True))

    def by_rate(metric, label):
        return report.intervals(
            {
                words: [arm_name(name, rate) for rate in config.rates]
                for name, words in shown.items()
            },
            [f"{rate:.0%}" for rate in config.rates],
            metric,
            label=label,
            across="positives",
        )

    rarest, most = min(config.rates), max(config.rates)
    return Study(
        arms=arms,
        figures={
            "f1": by_rate("f1", "F1 on the test"),
            "accuracy": by_rate("accuracy", "accuracy on the test"),
            "alpha": report.intervals(
                {
                    f"{words}, {rate:.0%} positives": [
                        arm_name(method(loss, alpha), rate) for alpha in config.alphas
                    ]
                    for rate in (most, rarest)
                    for loss, words in ((DICE, "a batch"), (DSC, "each example"))
                },
                [f"{alpha:g}" for alpha in config.alphas],
                "f1",
                label="F1 on the test",
                across="α, how much an easy example is weighted down",
                joined=True,
            ),
            "prices": report.intervals(
                {
                    f"{rate:.0%} positives": [
                        arm_name(method(TVERSKY, a), rate) for a in config.prices
                    ]
                    for rate in config.rates
                },
                [f"{a:g}" for a in config.prices],
                "recall",
                label="share of positives that are found",
                across="price α of a false positive; a miss costs β = 1 - α",
                joined=True,
            ),
        },
        claims=_claims(config),
        labels={
            arm_name(name, rate): f"{words}, {rate:.0%} positives"
            for rate in config.rates
            for name, words in (
                {
                    method(
                        loss, alpha
                    ): f"{WORDS[loss].partition(',')[0]}, α = {alpha:g}"
                    for loss, of_loss in points.items()
                    for alpha in of_loss
                }
                | shown
            ).items()
        },
        title="Dice, Tversky and self-adjusting losses on rare positives",
        summary=(
            f"Rows of {config.features} normal features; positives are shifted by 1 "
            f"in {gaussians.SHIFTED} of them. A linear model, {config.steps} steps of "
            f"Adam at {config.learning_rate:g}, batches of {config.batch_size} new "
            f"rows, {config.test} rows to test, {config.tuning} to choose thresholds, "
            f"{config.seeds} seeds. Decisions at a probability of 0.5; squares in the "
            f"denominators, smoothing {config.smooth:g}, as in the authors' scripts."
        ),
        captions={
            "f1": f"The self-adjusting loss with α = {config.alpha:g}.",
            "accuracy": "Of the same models.",
            "alpha": "The losses of a batch and of each example, with the same factor.",
            "prices": "The Tversky loss.",
        },
    )


def method(loss: str, alpha: float) -> str:
    """Name of a loss with a value of α, in names of arms."""
    return f"{loss}_{alpha:g}"


def _compared(config):
    return CE, method(DICE, 0), method(TVERSKY, 0.5), method(DSC, config.alpha)


def _run(config, loss, values):
    named = {
        DICE: losses.dice_loss,
        DSC: losses.dsc_loss,
        TVERSKY: losses.tversky_loss,
    }
    loss_of = functools.partial(named[loss], smooth=config.smooth, **values)
    return gaussians.run(config, loss_of, {})


def _claims(config):
    bounds, names = config.tolerances, _compared(config)
    words = dict(zip(names, WORDS.values(), strict=True))
    found = stated("better F1 than cross-entropy", "by 0.05")

    def gap(text, metric, one, other, rate, **claim):
        return ahead(
            f"{text}, {rate:.0%} positives",
            metric,
            arm_name(one, rate),
            arm_name(other, rate),
            over="mean",
            unit={"f1": "F1", "accuracy": "points"}.get(metric, metric),
            scale=100 if metric == "accuracy" else 1,
            **claim,
        )

    claims = [
        gap(f"{words[name]}: more F1 than cross-entropy", "f1", name, CE, rate,
            at_least=bounds.f1, reference=found)
        for name in names[1:]
        for rate in config.rates
    ]  # fmt: skip
    claims += [
        gap(f"{words[name]}: its accuracy is not better", "accuracy", name, CE, rate,
            at_most=0.0, reference=stated("no gain where accuracy is asked for"))
        for name in names[1:]
        for rate in config.rates
    ]  # fmt: skip
    first, middle = config.alphas[0], config.inside
    claims += [
        gap(f"α = {middle:g} has more F1 than α = {first:g}, {scope}", "f1",
            method(loss, middle), method(loss, first), rate, above=0.0,
            reference=stated("the best α lies inside of (0, 1): 0.6 and 0.4"))
        for loss, scope in ((DICE, "over a batch"), (DSC, "for each example"))
        for rate in config.rates
    ]  # fmt: skip
    claims += [
        report.Claim(
            text=(
                "the dearer a false positive is, the fewer positives are found "
                f"(Tversky), {rate:.0%} positives"
            ),
            reference=BOUND,
            ours=functools.partial(_smallest_fall, config, rate),
            above=0.0,
            over="mean",
            unit="recall in the smallest step",
            needs=tuple(arm_name(method(TVERSKY, a), rate) for a in config.prices),
        )
        for rate in config.rates
    ]
    return claims + [
        report.Claim(
            text=(
                "cross-entropy whose threshold is chosen has as much F1 "
                f"as Dice, {rate:.0%} positives"
            ),
            ours=functools.partial(gaussians.tuned_lead, CE, rate, method(DICE, 0)),
            at_least=-bounds.close,
            over="mean",
            unit="F1",
            needs=(arm_name(CE, rate), arm_name(method(DICE, 0), rate)),
            question=True,
        )
        for rate in config.rates
    ]


def _smallest_fall(config, rate, results):
    rows = [
        results[arm_name(method(TVERSKY, a), rate)].final("recall")
        for a in config.prices
    ]
    return report.smallest_mean(-np.diff(np.array(rows), axis=0))
