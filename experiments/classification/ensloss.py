"""Is another random loss at each step better than any one of them?

A network with batch norm learns to tell benign from malignant tumors, with some of the
training labels flipped or none, by EnsLoss, by the binary cross-entropy and by the
hinge.

Source: EnsLoss, ICML 2025.
"""

import dataclasses
import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn

from experiments.common.claims import ahead
from experiments.common.datasets import all_rows
from experiments.common.references import prototype, stated
from logitlab import data as library
from logitlab import losses, metrics, report
from logitlab.train import Run, Study

LABELS = {"ensloss": "EnsLoss", "bce": "cross-entropy", "hinge": "hinge"}
TEST, TRAIN = "test/accuracy", "train/accuracy"


class BatchNormMLP(nn.Module):
    """ReLU network with batch norm from features [B, D] to scores [B].

    Attributes:
      widths: of the hidden layers.
      momentum: of the running means and variances.
    """

    widths: Sequence[int]
    momentum: float = 0.9

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        """Scores; in training from the batch's own statistics."""
        for width in self.widths:
            x = nn.Dense(width)(x)
            x = nn.BatchNorm(not train, momentum=self.momentum)(x)
            x = nn.relu(x)
        return nn.Dense(1)(x)[:, 0]


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    for rate in config.rates:
        if not 0 <= rate < 0.5:
            raise ValueError(f"config.rates has {rate}, expected rates in [0, 0.5)")
    rows = all_rows("breast_cancer", config.data.data_dir, 1.0)
    if not 0 < config.train < len(rows[1]):
        raise ValueError(
            f"config.train is {config.train}, expected 1 to {len(rows[1]) - 1}"
        )
    draws = {
        rate: functools.partial(_draw, config, rows, rate) for rate in config.rates
    }
    arms = {}
    for name in LABELS:
        at = functools.partial(_run, config, name)
        for rate, draw in draws.items():
            arms[arm_name(name, rate)] = dataclasses.replace(at({}), data=draw, at=at)
    return Study(
        arms=arms,
        figures={
            "accuracy": report.intervals(
                {
                    label: [arm_name(name, rate) for rate in config.rates]
                    for name, label in LABELS.items()
                },
                [f"{rate:.0%}" for rate in config.rates],
                TEST,
                label="test accuracy",
                across="flipped labels in training",
            ),
            "curves": report.small_multiples(
                (TEST, TRAIN),
                log_steps=False,
                label="accuracy",
                columns=len(LABELS),
                colors={
                    arm_name(name, rate): name
                    for name in LABELS
                    for rate in config.rates
                },
            ),
        },
        claims=_claims(config),
        labels={
            arm_name(name, rate): f"{label}, {rate:.0%} flipped"
            for rate in config.rates
            for name, label in LABELS.items()
        },
        title="A random loss at each step, on flipped labels",
        summary=(
            f"Breast cancer, {config.train} rows to learn from and the others, with "
            f"right labels, to test; an MLP of widths "
            f"{', '.join(map(str, config.widths))} with batch norm, {config.epochs} "
            f"epochs of SGD at {config.learning_rate:g} with momentum "
            f"{config.momentum:g}, batches of {config.batch_size}. {config.seeds} "
            "seeds, each its own division, flips and start."
        ),
        captions={
            "accuracy": "After the last epoch; nothing stops early.",
            "curves": (
                "Accuracy against steps: test labels, which are right, solid; training "
                "labels, of which some are flipped, dashed."
            ),
        },
    )


def arm_name(loss: str, rate: float) -> str:
    """Name of the arm that trains with a loss at a rate of flipped labels."""
    return f"{loss}_{100 * rate:g}"


def _draw(config, rows, rate, key):
    order_key, flip_key = jax.random.split(key)
    x, y = (a[jax.random.permutation(order_key, len(a))] for a in rows)
    mine = x[: config.train]
    x = (x - mine.mean(0, keepdims=True)) / mine.std(0, keepdims=True)
    noisy = library.symmetric_noise(flip_key, y[: config.train], 2, rate)
    return {
        "train": {"x": x[: config.train], "y": noisy},
        "test": {"x": x[config.train :], "y": y[config.train :]},
    }


def loss_values(name: str, scores: jax.Array, labels: jax.Array, key) -> jax.Array:
    """Losses of binary scores, [B]; EnsLoss is one number for all of them."""
    if name == "bce":
        return losses.sigmoid_cross_entropy(scores, labels)
    if name == "hinge":
        return jnp.maximum(1 - (2 * labels - 1) * scores, 0)
    return jnp.full(scores.shape, losses.ensloss(scores, labels, key))


def _run(config, name, values) -> Run:
    del values
    model = BatchNormMLP(config.widths, config.running)
    steps = config.epochs * (config.train // config.batch_size)

    def init(key):
        made = model.init(key, jnp.zeros((2, config.features)), train=True)
        return {"net": made["params"], "stats": made["batch_stats"]}

    def scores(params, x, train):
        tree = {"params": params["net"], "batch_stats": params["stats"]}
        return model.apply(tree, x, train, mutable=["batch_stats"])

    def loss(params, batch, key):
        s, new = scores(params, batch["x"], True)
        return loss_values(name, s, batch["y"], key), {"stats": new["batch_stats"]}

    def evaluate(params, data):
        def accuracy(rows):
            s, _ = scores(params, rows["x"], False)
            return metrics.mean_of((s > 0) == (rows["y"] == 1))

        return {TEST: accuracy(data["test"]), TRAIN: accuracy(data["train"])}

    return Run(
        init=init,
        loss=loss,
        data={},
        optimizer=optax.sgd(config.learning_rate, momentum=config.momentum),
        evaluate=evaluate,
        steps=steps,
        batch_size=config.batch_size,
        evaluate_at=sorted({round(steps * i / 10) for i in range(11)}),
        show=(TRAIN, TEST),
        untrained=("stats",),
    )


def _claims(config):
    bounds, most = config.tolerances, max(config.rates)
    pilots = {"bce": "0.863 against 0.790", "hinge": "0.863 against 0.775"}

    def gap(text, other, rate, **claim):
        return ahead(
            text,
            TEST,
            arm_name("ensloss", rate),
            arm_name(other, rate),
            scale=100,
            over="mean",
            unit="points",
            **claim,
        )

    claims = [
        gap(f"EnsLoss beats the {LABELS[other]} at {most:.0%} flipped labels", other,
            most, at_least=bounds.gains, reference=prototype(f"{pilot}, at 20 %"))
        for other, pilot in pilots.items()
    ]  # fmt: skip
    if min(config.rates) == 0:
        claims += [
            gap(f"without flips EnsLoss and the {LABELS[other]} are a tie", other, 0,
                at_least=-bounds.tie, at_most=bounds.tie,
                reference=stated("never worse on tables"))
            for other in pilots
        ]  # fmt: skip
    return claims
