"""A learning rate that is searched while training, against a grid of constant ones.

The search is an optimizer: some of its steps try learning rates and return, the others
train. What is counted here are the steps that train.

Source: AutoLRS, Jin et al. 2021 (ICLR), arXiv:2105.10762.
"""

import dataclasses
import functools

import numpy as np
import optax

from experiments.common.datasets import splits
from logitlab import losses, metrics, models, optim, report
from logitlab.train import Run, Study

LOSS, ACCURACY, SEARCH = "train/loss", "test/accuracy", "autolrs"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    searched = config.search_steps * config.candidates
    if searched % config.every:
        raise ValueError(
            f"config.every is {config.every}, expected a divisor of {searched}, the "
            "steps of a stage"
        )
    parts = splits("mnist1d", config.data.data_dir, "standard")
    parts["train"] = {k: a[: config.train] for k, a in parts["train"].items()}
    at = functools.partial(_run, config, parts)
    arms = {SEARCH: at(None)}
    for rate in rates(config):
        values = {"rate": float(rate)}
        arms[arm_name(rate)] = dataclasses.replace(at(values), values=values, at=at)
    grid = [arm_name(rate) for rate in rates(config)]
    labels = {arm_name(rate): f"constant, {rate:.2g}" for rate in rates(config)}
    return Study(
        arms=arms,
        figures={
            "grid": report.curves(LOSS, arms=grid, log_steps=False, log_values=True),
            "search": report.curves(
                LOSS, ACCURACY, arms=[SEARCH], log_steps=False, log_values=False
            ),
        },
        claims=_claims(config, grid),
        labels=labels | {SEARCH: "AutoLRS"},
        title="A search for the learning rate",
        summary=(
            f"MNIST-1D, {config.train} examples, two layers of {config.width} units, "
            f"Adam with batches of {config.batch_size}. AutoLRS tries "
            f"{config.candidates} rates of {config.bounds[0]:g} to "
            f"{config.bounds[1]:g} for {config.search_steps} steps each, trains as "
            f"many steps, and begins again, {config.stages} times."
        ),
        captions={
            "grid": "Constant learning rates.",
            "search": "Steps of the search are counted; they are half of all.",
        },
    )


def rates(config) -> np.ndarray:
    """The grid of constant learning rates."""
    return np.geomspace(*config.bounds, config.grid)


def arm_name(rate: float) -> str:
    """Name of the arm of a constant learning rate."""
    return f"constant_{rate:.3g}"


def points(config, search: bool) -> list[int]:
    """Steps at which the loss is looked at, all of them of training."""
    searched = config.search_steps * config.candidates
    within = range(config.every, searched + 1, config.every)
    if search:
        starts = [(2 * i + 1) * searched for i in range(config.stages)]
    else:
        starts = [i * searched for i in range(config.stages)]
    return [start + more for start in starts for more in within]


def _run(config, parts, values) -> Run:
    model = models.MLP(widths=(config.width,) * 2, classes=10)

    def logits(params, x):
        return model.apply({"params": params}, x)

    def evaluate(params, parts):
        train, test = parts["train"], parts["test"]
        costs = losses.cross_entropy(logits(params, train["x"]), train["y"])
        right = metrics.accuracy(logits(params, test["x"]), test["y"])
        return {LOSS: metrics.mean_of(costs), ACCURACY: right}

    def optimizer(key):
        return optim.autolrs(
            optax.scale_by_adam(),
            tuple(config.bounds),
            key=key,
            search_steps=config.search_steps,
            candidates=config.candidates,
        )

    search = values is None
    at = points(config, search)
    return Run(
        init=lambda key: model.init(key, parts["train"]["x"][:1])["params"],
        loss=lambda params, batch, key: losses.cross_entropy(
            logits(params, batch["x"]), batch["y"]
        ),
        data=parts,
        optimizer=optimizer if search else optax.adam(values["rate"]),
        evaluate=evaluate,
        steps=at[-1],
        batch_size=config.batch_size,
        evaluate_at=at,
        show=(LOSS, ACCURACY),
    )


def training_steps(config, arm, name: str) -> np.ndarray:
    """Steps of training until the target, one more interval than all if never."""
    below = arm[LOSS] <= config.target
    counts = np.asarray(points(config, search=False))
    first = np.where(below.any(0), below.argmax(0), -1)
    return np.where(first < 0, counts[-1] + config.every, counts[first]).astype(float)


def _claims(config, grid):
    def best(results):
        return np.min([training_steps(config, results[n], n) for n in grid], 0)

    return [
        report.Claim(
            text=(
                f"a training loss of {config.target:g} takes no more training steps "
                "than with the best constant learning rate"
            ),
            paper="1.22 to 1.5 times faster, search included (table 1)",
            ours=lambda r: training_steps(config, r[SEARCH], SEARCH) / best(r),
            at_most=config.tolerances.times,
            over="mean",
            unit="times the steps of the best",
            needs=(SEARCH, *grid),
        ),
        report.Claim(
            text="and no more with the steps of the search",
            question=True,
            ours=lambda r: 2 * training_steps(config, r[SEARCH], SEARCH) / best(r),
            at_most=config.tolerances.times,
            over="mean",
            unit="times the steps of the best",
            needs=(SEARCH, *grid),
        ),
        report.Claim(
            text="in the end its loss is no higher than the best constant rate's",
            question=True,
            ours=lambda r: (
                r[SEARCH].final(LOSS) / np.min([r[n].final(LOSS) for n in grid], 0)
            ),
            at_most=1.0,
            over="mean",
            unit="of it, after the same number of training steps",
            needs=(SEARCH, *grid),
        ),
    ]
