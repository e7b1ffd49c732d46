"""Should a network that predicts a number be trained to classify?

The number is the digit on an image, with heavy-tailed errors in training: Student's t.
One network regresses it by the squared error, two others classify it into bins and are
read by the mean of their bins. The test numbers have no errors.

Source: Stop Regressing, Farebrother et al. 2024, arXiv:2403.03950.
"""

import jax
import jax.numpy as jnp
import optax

from experiments.common.datasets import splits
from experiments.common.references import prototype
from logitlab import losses, metrics, models, report, targets
from logitlab.train import Run, Study

LABELS = {
    "mse": "squared error",
    "hl_gauss": "HL-Gauss",
    "two_hot": "two-hot",
}


def arm_name(method: str, scale: float) -> str:
    """Name of the arm that trains a method on errors of a scale."""
    return f"{method}_{scale:g}"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    if min(config.noise.scales) < 0:
        raise ValueError(
            f"config.noise.scales is {config.noise.scales}, expected numbers from 0 on"
        )
    parts = splits(**config.data)
    scales = config.noise.scales
    return Study(
        arms={
            arm_name(method, scale): _run(config, parts, method, scale)
            for scale in scales
            for method in LABELS
        },
        figures={
            "error": report.intervals(
                {
                    label: [arm_name(method, scale) for scale in scales]
                    for method, label in LABELS.items()
                },
                [f"{scale:g}" for scale in scales],
                "test/squared_error",
                label="squared error on true values",
                across="scale of the errors in training",
            )
        },
        claims=[
            report.Claim(
                text=(
                    f"{LABELS[method]} has less error than regression, labels with "
                    f"errors of scale {scale:g}"
                ),
                reference=prototype("ratio 0.53 to 0.63"),
                ours=_ratio(arm_name(method, scale), arm_name("mse", scale)),
                at_most=config.tolerances.error_over_mse,
                unit="of its error",
                over="median",
                needs=(arm_name(method, scale), arm_name("mse", scale)),
            )
            for scale in scales
            for method in ("hl_gauss", "two_hot")
        ],
        labels={
            arm_name(method, scale): f"{label}, scale {scale:g}"
            for scale in scales
            for method, label in LABELS.items()
        },
        title="Classification against regression of a value",
        summary=(
            f"{config.data.name}: the digit as a number, plus Student-t errors with "
            f"{config.noise.degrees:g} degrees of freedom in training; "
            f"{config.bins.count} bins from {config.bins.vmin:g} to "
            f"{config.bins.vmax:g}, {config.epochs} epochs, {config.seeds} seeds."
        ),
        captions={"error": "Squared error on the test images, after the last epoch."},
    )


def _ratio(one, other):
    metric = "test/squared_error"
    return lambda results: results[one].final(metric) / results[other].final(metric)


def _run(config, parts, method, scale) -> Run:
    train, test = parts["train"], parts["test"]
    bins = dict(vmin=config.bins.vmin, vmax=config.bins.vmax)
    model = models.MLP(config.widths, 1 if method == "mse" else config.bins.count)
    if method == "hl_gauss":  # bins between edges, read at their centres
        half = (config.bins.vmax - config.bins.vmin) / config.bins.count / 2
        support = jnp.linspace(bins["vmin"] + half, bins["vmax"] - half, model.classes)
    else:
        support = jnp.linspace(bins["vmin"], bins["vmax"], model.classes)

    def features(x):
        return x.reshape(x.shape[0], -1)

    def outputs(params, batch):
        return model.apply({"params": params}, features(batch["x"]))

    def value(params, batch):
        out = outputs(params, batch)
        return out[:, 0] if method == "mse" else targets.categorical_value(out, support)

    def loss(params, batch, key):
        del key
        out, target = outputs(params, batch), batch["value"]
        if method == "mse":
            return jnp.square(out[:, 0] - target)
        if method == "two_hot":
            return losses.two_hot_loss(out, target, **bins)
        ratio = config.bins.sigma_ratio
        return losses.hl_gauss_loss(out, target, **bins, sigma_ratio=ratio)

    def make_data(key):
        error = jax.random.t(key, config.noise.degrees, train["y"].shape)
        return {"train": {"x": train["x"], "value": train["y"] + scale * error}}

    def evaluate(params, held):
        error = value(params, test) - test["y"]
        fit = value(params, held["train"]) - train["y"]
        return {
            "test/squared_error": metrics.mean_of(jnp.square(error)),
            "train/squared_error": metrics.mean_of(jnp.square(fit)),
        }

    steps = config.epochs * (train["x"].shape[0] // config.batch_size)
    return Run(
        init=lambda key: model.init(key, features(train["x"][:1]))["params"],
        loss=loss,
        data=make_data,
        optimizer=optax.adam(config.learning_rate),
        evaluate=evaluate,
        steps=steps,
        batch_size=config.batch_size,
        evaluate_at=sorted({round(steps * i / 20) for i in range(21)}),
        show=("train/squared_error", "test/squared_error"),
    )
