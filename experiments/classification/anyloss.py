"""Can F1 and balanced accuracy themselves be trained for, when positives are rare?

A linear model learns two Gaussians, of which one is rare, by cross-entropy, weighted or
not, and by one minus F1 or balanced accuracy of counts that are made smooth. How hard
probabilities are pushed to 0 and 1 for that is varied.

Source: AnyLoss, Han, Moniz and Chawla 2024, arXiv:2405.14745.
"""

import dataclasses
import functools

import jax.numpy as jnp
import numpy as np

from experiments.classification import _gaussians as gaussians
from experiments.classification._gaussians import arm_name
from experiments.common.claims import ahead
from experiments.common.references import prototype
from logitlab import losses, report
from logitlab.train import Run, Study

CE, WEIGHTED = "ce", "weighted"
GOALS = {"f1": ("fbeta", "F1"), "balanced": ("balanced_accuracy", "balanced accuracy")}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    gaussians.check(config)
    scales = list(config.scales)
    if config.scale not in scales:
        raise ValueError(
            f"config.scale is {config.scale}, expected one of config.scales, {scales}"
        )
    arms: dict[str, Run] = {}
    for rate in config.rates:
        data = functools.partial(gaussians.draw, config, rate)
        arms[arm_name(CE, rate)] = gaussians.run(
            config, losses.sigmoid_cross_entropy, data
        )
        arms[arm_name(WEIGHTED, rate)] = gaussians.run(
            config, functools.partial(_weighted, rate), data
        )
    for goal, (metric, _) in GOALS.items():
        at = functools.partial(_run, config, metric)
        for rate in config.rates:
            data = functools.partial(gaussians.draw, config, rate)
            for scale in scales:
                values = {"scale": scale}
                arms[arm_name(method(goal, scale), rate)] = dataclasses.replace(
                    at(values), data=data, values=values, at=at
                )
    ticks = [f"{rate:.0%}" for rate in config.rates]
    compared = {CE: "cross-entropy", WEIGHTED: "weighted cross-entropy"} | {
        method(goal, config.scale): f"AnyLoss for {words}"
        for goal, (_, words) in GOALS.items()
    }

    def by_rate(metric, label):
        return report.intervals(
            {
                words: [arm_name(name, rate) for rate in config.rates]
                for name, words in compared.items()
            },
            ticks,
            metric,
            label=label,
            across="positives",
        )

    def by_scale(goal):
        _, words = GOALS[goal]
        return report.intervals(
            {
                f"{rate:.0%} positives": [
                    arm_name(method(goal, scale), rate) for scale in scales
                ]
                for rate in config.rates
            },
            [f"{scale:g}" for scale in scales],
            goal,
            label=f"{words} on the test",
            across="scale L of the amplification",
            joined=True,
        )

    return Study(
        arms=arms,
        figures={
            "f1": by_rate("f1", "F1 on the test"),
            "balanced": by_rate("balanced", "balanced accuracy on the test"),
            "scale_f1": by_scale("f1"),
            "scale_balanced": by_scale("balanced"),
        },
        claims=_claims(config),
        labels={
            arm_name(name, rate): f"{words}, {rate:.0%} positives"
            for rate in config.rates
            for name, words in (
                compared
                | {
                    method(goal, scale): f"AnyLoss for {words}, L = {scale:g}"
                    for goal, (_, words) in GOALS.items()
                    for scale in scales
                }
            ).items()
        },
        title="Training for F1 and for balanced accuracy",
        summary=(
            f"Rows of {config.features} normal features; positives are shifted by 1 "
            f"in {gaussians.SHIFTED} of them. A linear model, {config.steps} steps of "
            f"Adam at {config.learning_rate:g}, batches of {config.batch_size} new "
            f"rows, {config.test} rows to test, {config.tuning} to choose thresholds, "
            f"{config.seeds} seeds. Decisions at a probability of 0.5."
        ),
        captions={
            "f1": f"With L = {config.scale:g}.",
            "balanced": f"With L = {config.scale:g}.",
            "scale_f1": "Trained for F1.",
            "scale_balanced": "Trained for balanced accuracy.",
        },
    )


def method(goal: str, scale: float) -> str:
    """Name of AnyLoss for a goal at a scale, in names of arms."""
    return f"{goal}_{scale:g}"


def _weighted(rate, scores, labels):
    """Both classes count half."""
    weights = jnp.where(labels == 1, 0.5 / rate, 0.5 / (1 - rate))
    return weights * losses.sigmoid_cross_entropy(scores, labels)


def _run(config, metric, values):
    return gaussians.run(
        config,
        functools.partial(losses.anyloss, metric=metric, scale=values["scale"]),
        {},
    )


def _claims(config):
    bounds, rates = config.tolerances, config.rates
    f1, balanced = (method(goal, config.scale) for goal in GOALS)

    def gap(words, metric, one, other, rate, numbers="", **bound):
        return ahead(
            f"{words}, {rate:.0%} positives",
            metric,
            arm_name(one, rate),
            arm_name(other, rate),
            over="mean",
            **({"reference": prototype(numbers)} if numbers else {"question": True}),
            **bound,
        )

    def spread(rate):
        arms = [arm_name(method("f1", scale), rate) for scale in config.flat]

        def ours(results):
            found = [results[arm].final("f1") for arm in arms]
            return np.max(found, 0) - np.min(found, 0)

        return report.Claim(
            text=(
                f"F1 hardly depends on the scale from {min(config.flat):g} to "
                f"{max(config.flat):g}, {rate:.0%} positives"
            ),
            reference=prototype("0.44 at all of them"),
            ours=ours,
            at_most=bounds.spread,
            over="mean",
            unit="from the worst to the best",
            needs=tuple(arms),
        )

    pilots = dict(zip(rates, config.pilots, strict=True))
    return [
        *(
            gap("trained for F1 it has more F1 than cross-entropy", "f1", f1, CE, rate,
                pilots[rate], at_least=bounds.f1, unit="F1")
            for rate in rates
        ),
        *(
            gap("trained for balanced accuracy it has more of it than cross-entropy",
                "balanced", balanced, CE, rate, "0.751 against 0.597",
                at_least=bounds.balanced, unit="balanced accuracy")
            for rate in rates
        ),
        *(
            gap("but weighted cross-entropy is as good there", "balanced", WEIGHTED,
                balanced, rate, "0.761 against 0.751", at_least=-bounds.close,
                unit="balanced accuracy")
            for rate in rates
        ),
        *(spread(rate) for rate in rates),
        *(
            report.Claim(
                text=(
                    "cross-entropy whose threshold is chosen has as much "
                    f"F1, {rate:.0%} positives"
                ),
                ours=functools.partial(gaussians.tuned_lead, CE, rate, f1),
                at_least=-bounds.close,
                over="mean",
                unit="F1",
                needs=(arm_name(CE, rate), arm_name(f1, rate)),
                question=True,
            )
            for rate in rates
        ),
    ]  # fmt: skip
