"""Do large batches generalize worse, and what helps?

A small network with batch norm learns signals in small batches, and in large ones for
as many epochs. The remedies are added one after another: a learning rate that grows
with the root of the batch, normalization by ghost batches, and as many updates as the
small batches had.

Source: Train longer, generalize better, Hoffer et al. 2017, arXiv:1705.08741.
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.datasets import splits
from experiments.common.references import stated
from logitlab import losses, metrics, models, optim, report
from logitlab.train import Run, Study, log_points

ACCURACY, LOSS, DISTANCE = "test/accuracy", "train/loss", "distance"
SMALL, LARGE, ROOT, GHOST, LONG = "small", "large", "root", "ghost", "long"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    if not config.ghost <= config.small < config.large <= config.train:
        raise ValueError(
            f"config.ghost, small, large and train are {config.ghost}, {config.small}, "
            f"{config.large} and {config.train}, expected them to grow"
        )
    parts = splits("mnist1d", config.data.data_dir, "standard")
    parts["train"] = {k: a[: config.train] for k, a in parts["train"].items()}
    labels = {
        SMALL: f"batches of {config.small}",
        LARGE: f"batches of {config.large}",
        ROOT: "and learning rate times √ratio",
        GHOST: f"and ghost batches of {config.ghost}",
        LONG: "and as many updates",
    }
    return Study(
        arms={name: _run(config, parts, name) for name in labels},
        figures={
            "accuracy": report.intervals(
                {"": list(labels)},
                [SMALL, LARGE, "+ √ rate", "+ ghosts", "+ updates"],
                ACCURACY,
                label="test accuracy",
            ),
            "distance": report.curves(
                DISTANCE, LOSS, labels={DISTANCE: "distance from the start"}
            ),
        },
        claims=_claims(config),
        labels=labels,
        title="Large batches",
        summary=(
            f"MNIST-1D, {config.train} examples, two layers of {config.width} units "
            f"with batch norm, {config.epochs} epochs of SGD with momentum "
            f"{config.momentum:g} and learning rate {config.learning_rate:g}, the "
            f"gradient clipped to {config.clip:g}."
        ),
        captions={
            "accuracy": "Remedies are added from left to right.",
            "distance": "A line on this axis is a logarithm of the number of updates.",
        },
    )


class _Network(nn.Module):
    width: int
    ghost: int

    @nn.compact
    def __call__(self, x, train=False):
        for _ in range(2):
            x = nn.Dense(self.width, use_bias=False)(x)
            x = nn.relu(models.GhostBatchNorm(self.ghost)(x, train=train))
        return nn.Dense(10)(x)


def _run(config, parts, name) -> Run:
    batch = config.small if name == SMALL else config.large
    model = _Network(config.width, config.ghost if name in (GHOST, LONG) else batch)
    rate = config.learning_rate
    if name in (ROOT, GHOST, LONG):
        rate = float(optim.sqrt_batch_scale(rate, config.large, config.small))
    epochs = config.epochs
    if name == LONG:
        (epochs,) = optim.adapt_regime([epochs], config.large, config.small)
    steps = epochs * (config.train // batch)

    def init(key):
        made = model.init(key, parts["train"]["x"][:1])
        copy = jax.tree.map(jnp.copy, made["params"])
        return {"net": made["params"], "stats": made["batch_stats"], "start": copy}

    def loss(params, rows, key):
        del key
        variables = {"params": params["net"], "batch_stats": params["stats"]}
        z, new = model.apply(variables, rows["x"], train=True, mutable=["batch_stats"])
        told = {"stats": new["batch_stats"], "start": params["start"]}
        return losses.cross_entropy(z, rows["y"]), told

    def evaluate(params, parts):
        variables = {"params": params["net"], "batch_stats": params["stats"]}
        train, test = (model.apply(variables, parts[p]["x"]) for p in ("train", "test"))
        return {
            LOSS: metrics.mean_of(losses.cross_entropy(train, parts["train"]["y"])),
            ACCURACY: metrics.accuracy(test, parts["test"]["y"]),
            DISTANCE: optim.distance_from_init(params["net"], params["start"]),
        }

    return Run(
        init=init,
        loss=loss,
        data=parts,
        optimizer=optax.chain(
            optax.clip_by_global_norm(config.clip), optax.sgd(rate, config.momentum)
        ),
        evaluate=evaluate,
        steps=steps,
        batch_size=batch,
        evaluate_at=log_points(steps, per_decade=config.points // 3),
        untrained=("stats", "start"),
        show=(LOSS, ACCURACY),
    )


def fit_of_log(arm, first: float) -> np.ndarray:
    """R² of the distance against the logarithm of the step, until that of an epoch."""
    keep = (arm.steps >= 1) & (arm.steps <= first)
    t = np.log(arm.steps[keep])
    found = []
    for distance in arm[DISTANCE][keep].T:
        fit = np.polyval(np.polyfit(t, distance, 1), t)
        found.append(1 - ((distance - fit) ** 2).sum() / distance.var() / len(t))
    return np.asarray(found)


def _claims(config):
    bounds = config.tolerances

    def gap(results, name):
        ours, other = results[SMALL].final(ACCURACY), results[name].final(ACCURACY)
        return 100 * (ours - other)

    narrower = (
        (ROOT, LARGE, "a larger learning rate narrows"),
        (GHOST, ROOT, "ghost batches narrow"),
        (LONG, GHOST, "as many updates narrow"),
    )
    first = 2 * (config.train // config.small)
    return [
        report.Claim(
            text="large batches generalize worse",
            reference=stated("92.83 % against 86.10 % on CIFAR-10"),
            ours=lambda r: gap(r, LARGE),
            above=0.0,
            over="mean",
            unit="points of accuracy",
            needs=(SMALL, LARGE),
        ),
        *(
            report.Claim(
                text=f"{what} the gap",
                reference=stated("each remedy narrows it"),
                ours=lambda r, a=after, b=before: gap(r, b) - gap(r, a),
                above=0.0,
                over="mean",
                unit="points of accuracy",
                needs=(SMALL, before, after),
            )
            for after, before, what in narrower
        ),
        report.Claim(
            text="all of them close it",
            reference=stated("regime adaptation closes the gap"),
            ours=lambda r: gap(r, LONG),
            at_most=bounds.closed,
            over="mean",
            unit="points of accuracy",
            needs=(SMALL, LONG),
        ),
        report.Claim(
            text="at first the distance from the start grows like log t",
            reference=stated("ultra-slow diffusion"),
            ours=lambda r: fit_of_log(r[SMALL], first),
            at_least=bounds.fit,
            unit=f"R², over {first} updates of small batches",
            needs=(SMALL,),
        ),
    ]
