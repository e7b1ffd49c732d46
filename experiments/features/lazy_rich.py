"""Does a network generalize later, the lazier it is trained?

A network learns a function of one direction of its inputs. Scaled up, its output needs
hardly any movement of the parameters: the training set is fitted by a kernel that knows
no direction, and only later, if at all, the direction is found. No weight decay is
involved. Digits of one dimension (MNIST-1D) ask the same of a network of three layers.

Source: Grokking as the Transition from Lazy to Rich Training Dynamics, Kumar et al.
2024, arXiv:2310.06110.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.datasets import splits
from experiments.common.references import prototype, stated
from logitlab import metrics, models, report
from logitlab.train import Run, Study, log_points

FITTED = 0.05  # of the targets' mean square; errors below it count as none
MEAN_SQUARE = 3.0  # of the square of a standard normal number
DIRECTIONS, CLASSES = "directions", 10


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    synthetic = config.task == DIRECTIONS
    at = functools.partial(
        *(
            (_direction_run, config)
            if synthetic
            else (_image_run, config, _parts(config))
        )
    )
    arms = {}
    for alpha in config.alphas:
        values = {"alpha": float(alpha)}
        arms[arm_name(alpha)] = dataclasses.replace(at(values), values=values, at=at)
    measure = "error" if synthetic else "accuracy"
    return Study(
        arms=arms,
        figures={
            "curves": report.curves(
                f"train/{measure}", f"test/{measure}", log_values=synthetic
            ),
            "alignment": report.curves(
                *(["features"] if synthetic else []),
                "alignment",
                labels={
                    "features": "alignment of weights with the direction",
                    "alignment": "alignment of the tangent kernel with targets",
                },
            ),
        },
        claims=(_direction_claims if synthetic else _image_claims)(config),
        labels={arm_name(alpha): f"α = {alpha:g}" for alpha in config.alphas},
        title="From lazy training to rich",
        summary=_summary(config),
        captions={
            "curves": "Training and test set; a run ends once it generalizes."
            if synthetic
            else "Training and test set.",
            "alignment": "What the network has learned of the task.",
        },
    )


def arm_name(alpha: float) -> str:
    """Name of the arm of a scale."""
    return f"alpha_{alpha:g}"


def _check(config):
    alphas = list(config.alphas)
    if len(alphas) < 2 or alphas != sorted(set(alphas)) or alphas[0] <= 0:
        raise ValueError(
            f"config.alphas is {tuple(alphas)}, expected growing positive numbers"
        )
    if config.task not in (DIRECTIONS, "images"):
        raise ValueError(
            f"config.task is {config.task!r}, expected 'directions' or 'images'"
        )


def _summary(config):
    if config.task == DIRECTIONS:
        return (
            f"{config.train} normal inputs of {config.dimension} dimensions, and the "
            "square of one direction for a target. "
            f"{config.width} hidden units with a slightly curved activation, of which "
            "the mean is the output, times α; only their weights are trained, by full "
            f"gradient descent for {config.steps} steps at most. The loss is over α²."
        )
    return (
        f"{config.train} examples of MNIST-1D, a network of three layers with "
        f"{config.width} units, whose output is 0 at the start and scaled by α. Adam "
        f"on the squared error of one-hot labels over α², {config.steps} steps."
    )


def curved(curvature: float):
    """The activation h + curvature h² / 2."""
    return lambda h: h + curvature / 2 * h**2


def _direction_run(config, values) -> Run:
    root = config.dimension**0.5
    activation = curved(config.curvature)
    alpha = values["alpha"]

    def mean_unit(weights, x):
        return activation(x @ weights.T / root).mean(-1)

    network = models.output_scaled(mean_unit, alpha)

    def error(weights, batch):
        return (network(weights, batch["x"]) - batch["y"]) ** 2

    def draw(key):
        direction_key, x_key = jax.random.split(key)
        direction = jax.random.normal(direction_key, (config.dimension,))
        direction = direction / jnp.linalg.norm(direction)
        x = jax.random.normal(x_key, (config.train + config.test, config.dimension))
        rows = {"x": x, "y": (x @ direction) ** 2}
        parts = {
            "train": {k: a[: config.train] for k, a in rows.items()},
            "test": {k: a[config.train :] for k, a in rows.items()},
        }
        return parts | {"direction": {"x": direction[None]}}

    def evaluate(weights, parts):
        some = {k: a[: config.probe] for k, a in parts["test"].items()}
        kernel = metrics.empirical_ntk(network, weights, some["x"])
        along = (weights @ parts["direction"]["x"][0]) ** 2
        return {
            "train/error": error(weights, parts["train"]).mean() / MEAN_SQUARE,
            "test/error": error(weights, parts["test"]).mean() / MEAN_SQUARE,
            "features": along.sum() / jnp.sum(weights**2),
            "alignment": metrics.kernel_alignment(kernel, some["y"], center=True),
        }

    return Run(
        init=lambda key: jax.random.normal(key, (config.width, config.dimension)),
        loss=lambda weights, batch, key: error(weights, batch) / alpha**2,
        data=draw,
        optimizer=optax.sgd(config.width / 2),
        evaluate=evaluate,
        steps=config.steps,
        evaluate_at=log_points(config.steps, config.evaluate_per_decade),
        stop=lambda numbers: "it generalizes" if numbers["test/error"] < FITTED else "",
        show=("train/error", "test/error"),
    )


def _parts(config):
    parts = splits(config.data.name, config.data.data_dir, "standard")
    train = {k: a[: config.train] for k, a in parts["train"].items()}
    return {"train": train, "test": parts["test"]}


def _image_run(config, parts, values) -> Run:
    alpha = values["alpha"]
    model = models.MLP(widths=(config.width,) * 2, classes=CLASSES)

    def apply_fn(params, x):
        return model.apply({"params": params}, x)

    def outputs(params, x):
        return models.output_scaled(apply_fn, alpha, start=params["start"])(
            params["net"], x
        )

    def targets(y):
        return jax.nn.one_hot(y, CLASSES) - 1 / CLASSES

    def init(key):
        params = model.init(key, parts["train"]["x"][:1])["params"]
        return {"net": params, "start": jax.tree.map(jnp.copy, params)}

    def loss(params, batch, key):
        gaps = outputs(params, batch["x"]) - targets(batch["y"])
        return jnp.sum(gaps**2, -1) / alpha**2, {"start": params["start"]}

    def evaluate(params, parts):
        some = {k: a[: config.probe] for k, a in parts["test"].items()}
        kernel = metrics.empirical_ntk(apply_fn, params["net"], some["x"])
        y = targets(some["y"])
        return {
            f"{name}/accuracy": metrics.accuracy(
                outputs(params, parts[name]["x"]), parts[name]["y"]
            )
            for name in ("train", "test")
        } | {"alignment": metrics.kernel_alignment(kernel, y, center=True)}

    return Run(
        init=init,
        loss=loss,
        data=parts,
        optimizer=optax.adam(config.learning_rate),
        evaluate=evaluate,
        steps=config.steps,
        batch_size=config.batch_size,
        evaluate_at=log_points(config.steps, config.evaluate_per_decade),
        untrained=("start",),
        show=("train/accuracy", "test/accuracy"),
    )


def delays(arm, steps: int) -> np.ndarray:
    """Steps between fitting the training set and the test set, for each seed.

    A test set that is not fitted counts as fitted after the last step, which makes the
    delay a lower bound.
    """
    fitted = [
        np.where(
            arm[f"{part}/error"] < FITTED, arm.steps[:, None].astype(float), np.inf
        )
        for part in ("train", "test")
    ]
    train, test = (np.minimum(a.min(0), steps) for a in fitted)
    return test - train


def _smallest_step(numbers, down=False):
    """The smallest rise (fall) from one scale to the next, for each seed."""
    gaps = np.diff(np.stack(numbers), axis=0)
    return (-gaps if down else gaps).min(0)


def _direction_claims(config):
    names = tuple(arm_name(alpha) for alpha in config.alphas)
    lazy, rich = names[-1], names[0]
    return [
        report.Claim(
            text="the lazier, the longer from memorizing to generalizing",
            reference=prototype(
                "500, 1000, 2500, 5400, 12300 and 27400 steps for scales 0.25 to 8, "
                "more than 34100 for 16"
            ),
            ours=lambda r: _smallest_step([delays(r[a], config.steps) for a in names]),
            above=0.0,
            unit="steps more, at the least, with each doubling",
            needs=names,
        ),
        report.Claim(
            text="the lazier, the less weights align with the direction in the end",
            reference=prototype("0.987 to 0.64, after 40000 steps of all"),
            ours=lambda r: _smallest_step(
                [r[a].final("features") for a in names], down=True
            ),
            above=0.0,
            unit="less, at the least, with each doubling",
            needs=names,
        ),
        report.Claim(
            text="the tangent kernel of the laziest suits the task less in the end",
            reference=stated("alignment grows in the rich regime"),
            ours=report.ahead("alignment", rich, lazy),
            above=0.0,
            unit="of alignment below the richest network's",
            needs=(lazy, rich),
        ),
    ]


def _image_claims(config):
    names = tuple(arm_name(alpha) for alpha in config.alphas)
    lazy, rich = names[-1], names[0]
    return [
        report.Claim(
            text="all scales fit the training set",
            question=True,
            ours=lambda r: np.min([r[a].final("train/accuracy") for a in names], 0),
            at_least=config.tolerances.fitted,
            needs=names,
        ),
        report.Claim(
            text="the laziest network is less accurate in the end",
            question=True,
            ours=report.ahead("test/accuracy", rich, lazy, scale=100),
            above=0.0,
            over="mean",
            unit="points behind the richest",
            needs=(lazy, rich),
        ),
        report.Claim(
            text="the lazier, the less its tangent kernel is aligned with the labels",
            question=True,
            ours=lambda r: _smallest_step(
                [r[a].final("alignment") for a in names], down=True
            ),
            above=0.0,
            over="mean",
            unit="less, at the least, from one scale to the next",
            needs=names,
        ),
    ]
