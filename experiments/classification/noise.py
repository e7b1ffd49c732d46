"""Which loss should one train with, when some of the labels are wrong?

Every loss of the config trains the same network from the same starts on the same wrong
labels; the test labels are right. An arm is a loss at a rate of noise.

Sources: comp-sum losses, Mao, Mohri and Zhong 2023, arXiv:2304.07288; generalised
cross-entropy, Zhang and Sabuncu 2018, arXiv:1805.07836.
"""

import optax

from experiments.classification._comparison import named_loss, uniform_noise
from experiments.common.claims import ahead
from experiments.common.datasets import splits
from experiments.common.references import prototype
from logitlab import data, metrics, models, report
from logitlab.train import Run, Study, pick
from logitlab.train.config import check_name

OPTIMIZERS = ("sgd", "adam")


NOISES = {
    "uniform": uniform_noise,
    "symmetric": data.symmetric_noise,
    "pair": data.pair_noise,
}


def build(config) -> Study:
    """The study of one variant; nothing here trains, writes or prints."""
    check_name(config.noise.kind, NOISES, "config.noise.kind")
    check_name(config.optim.name, OPTIMIZERS, "config.optim.name")
    for rate in config.noise.rates:
        if not 0 <= rate < 1:
            raise ValueError(f"config.noise.rates has {rate}, expected rates in [0, 1)")
    parts = splits(**config.data)
    picked = {
        name: config.losses[check_name(name, config.losses, "config.losses")]
        for name in config.pick
    }
    loss_of = {name: _loss(name, entry) for name, entry in picked.items()}
    labels = {name: entry.label for name, entry in picked.items()}
    cells = [(name, rate) for rate in config.noise.rates for name in loss_of]
    series = {
        labels[name]: [arm_name(name, rate) for rate in config.noise.rates]
        for name in loss_of
    }
    ticks = [f"{rate:.0%}" for rate in config.noise.rates]
    return Study(
        arms={
            arm_name(name, rate): _run(config, parts, loss_of[name], rate)
            for name, rate in cells
        },
        figures={
            "accuracy": report.intervals(
                series,
                ticks,
                "test/accuracy",
                label="test accuracy",
                across="wrong labels in training",
            ),
            "curves": report.small_multiples(
                ("test/accuracy", "train/accuracy"),
                log_steps=False,
                columns=len(series),
                colors={arm: name for name, arms in series.items() for arm in arms},
            ),
        },
        claims=[c for c in _claims(config) if set(c.needs) <= set(map(_arm, cells))],
        labels={
            arm_name(name, rate): f"{labels[name]}, {rate:.0%} wrong"
            for name, rate in cells
        },
        title="Losses under label noise",
        summary=(
            f"{config.data.name}, {config.model.name}, {config.epochs} epochs, "
            f"{config.noise.kind} noise, {config.seeds} seeds, each its own start, "
            "noise and batches. No loss has a learning rate of its own, and nothing "
            "stops early."
        ),
        captions={
            "accuracy": "Test accuracy after the last epoch, right labels.",
            "curves": (
                "Accuracy against steps: test labels, which are right, solid; training "
                "labels, of which some are wrong, dashed."
            ),
        },
    )


def arm_name(loss: str, rate: float) -> str:
    """Name of the arm that trains with a loss at a rate of noise."""
    return f"{loss}_{100 * rate:g}"


def _arm(cell):
    return arm_name(*cell)


def _loss(name, entry):
    """(logits, labels, key) -> one number for each row."""
    named = named_loss(name, entry)
    if named.remembers:
        raise ValueError(
            f"config.losses.{name}.name is {entry.name!r}, which keeps a state for "
            "each example: classification:ldr trains it"
        )

    def loss(logits, labels, key):
        return named.values(logits, labels, None, key)[0]

    return loss


def _run(config, parts, loss_of, rate) -> Run:
    train, test = parts["train"], parts["test"]
    classes = int(max(train["y"].max(), test["y"].max())) + 1
    model = pick(models, config.model.name, **config.model[config.model.name])(
        classes=classes
    )
    rows = train["x"].shape[0]
    steps = config.epochs * (rows // config.batch_size)

    def features(x):
        return x if config.model.name == "SmallCNN" else x.reshape(x.shape[0], -1)

    def logits_of(params, x):
        return model.apply({"params": params}, features(x))

    def make_data(key):
        noisy = NOISES[config.noise.kind](key, train["y"], classes, rate)
        return {"train": {"x": train["x"], "y": noisy}}

    def evaluate(params, held):
        noisy = held["train"]["y"]
        logits = logits_of(params, train["x"])
        return {
            "test/accuracy": metrics.accuracy(logits_of(params, test["x"]), test["y"]),
            "train/accuracy": metrics.accuracy(logits, noisy),
            "train/clean_accuracy": metrics.accuracy(logits, train["y"]),
        }

    make = pick(optax, config.optim.name, **config.optim[config.optim.name])
    return Run(
        init=lambda key: model.init(key, features(train["x"][:1]))["params"],
        loss=lambda params, batch, key: loss_of(
            logits_of(params, batch["x"]), batch["y"], key
        ),
        data=make_data,
        optimizer=make(config.optim.learning_rate),
        evaluate=evaluate,
        steps=steps,
        batch_size=config.batch_size,
        evaluate_at=sorted({round(steps * i / 20) for i in range(21)}),
        show=("train/accuracy", "test/accuracy"),
    )


def _claims(config):
    bounds, rates = config.tolerances, config.noise.rates
    clean, worst = arm_name("", min(rates)), arm_name("", max(rates))

    def beats(better, worse, at, by, words, **source):
        return ahead(
            words,
            "test/accuracy",
            better + at,
            worse + at,
            at_least=by,
            unit="test accuracy",
            over="median",
            **source,
        )

    most, least = f"{max(rates):.0%} wrong labels", f"{min(rates):.0%} wrong labels"
    noisy = dict(reference=prototype("0.80 against 0.63 and 0.48, at 80 %"))
    return [
        beats("gce", "ce", worst, bounds.gce_gains,
              f"generalised cross-entropy beats cross-entropy at {most}", **noisy),
        beats("ce", "mae", worst, bounds.ce_gains,
              f"cross-entropy beats the absolute error at {most}", **noisy),
        beats("ce", "mae", clean, bounds.mae_behind,
              f"the absolute error is not ahead of cross-entropy at {least}",
              reference=prototype("0.97 against 0.96")),
        beats("comp_sum_15", "ce", clean, -bounds.clean_within,
              f"tau = 1.5 is close to tau = 1 at {least}",
              paper="tau = 1 best or close (table 1)"),
    ]  # fmt: skip
