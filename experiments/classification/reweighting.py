"""Do weights by the losses themselves speed up learning, and what if labels are wrong?

Least squares on a stream of rows, by gradient steps in which the rows of a batch weigh
alike, or by their loss. Labels are exact, or some of them are far off. The temperature
of the weights is fixed at several values, or comes down while training.

Source: Sow et al. 2025, arXiv:2502.06733.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.references import BOUND, prototype
from logitlab import report, weights
from logitlab.train import Run, Study

UNIFORM, LINUPPER, SCHEDULE = "uniform", "linupper", "schedule"
LABELS = {
    UNIFORM: "all alike",
    LINUPPER: "low losses less",
    "quadratic": "middle losses more",
    "extremes": "both ends more",
    SCHEDULE: "low losses less, from a large r",
}
EXACT, WRONG = "exact", "wrong"
KINDS = {EXACT: "exact labels", WRONG: "wrong labels"}
ERROR = "error"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    draw = functools.partial(_draw, config)
    ats = {
        name: functools.partial(_run, config, name)
        for name in (LINUPPER, "quadratic", "extremes")
    }
    arms, labels = {}, {}

    def add(name, label, *, strategy=LINUPPER, **values):
        at = ats[strategy]
        plain = dict(r=config.r, first=config.r, rate=config.learning_rate)
        plain["share"] = 0.0 if name.endswith(EXACT) else config.wrong.share
        values = plain | values
        arms[name] = dataclasses.replace(at(values), data=draw, values=values, at=at)
        labels[name] = label

    same = dict(r=np.inf, first=np.inf)
    for kind, words in KINDS.items():
        for name, label in LABELS.items():
            more: dict = same if name == UNIFORM else {}
            if name == SCHEDULE:
                more = dict(first=config.first)
            strategy = name if name in ats else LINUPPER
            add(f"{name}_{kind}", f"{label}, {words}", strategy=strategy, **more)
        for r in config.temperatures:
            add(_cool(r, kind), f"r = {r:g}, {words}", r=r, first=r)
    for rate in config.rates:
        words = f"rate {rate:g}"
        add(_fast(UNIFORM, rate), f"{LABELS[UNIFORM]}, {words}", rate=rate, **same)
        add(_fast(LINUPPER, rate), f"{LABELS[LINUPPER]}, {words}", rate=rate)
    ticks = [f"{r:g}" for r in config.temperatures]

    def curves(kind):
        return report.curves(
            ERROR,
            arms=[f"{name}_{kind}" for name in LABELS],
            labels={ERROR: "error of the coefficients"},
            log_steps=False,
            log_values=True,
        )

    return Study(
        arms=arms,
        figures={
            "exact": curves(EXACT),
            "wrong": curves(WRONG),
            "temperature": report.intervals(
                {
                    words: [_cool(r, kind) for r in config.temperatures]
                    for kind, words in KINDS.items()
                },
                ticks,
                ERROR,
                label="error of the coefficients",
                across="temperature r of the weights",
                log=True,
                joined=True,
            ),
            "rates": report.intervals(
                {
                    LABELS[name]: [_fast(name, rate) for rate in config.rates]
                    for name in (UNIFORM, LINUPPER)
                },
                [f"{rate:g}" for rate in config.rates],
                ERROR,
                label="error of the coefficients",
                across="learning rate",
                log=True,
                joined=True,
            ),
        },
        claims=_claims(config),
        labels=labels,
        title="Weights by the losses of a batch",
        summary=(
            f"Least squares with {config.features} coefficients of length 1, batches "
            f"of {config.batch_size} new rows, {config.steps} gradient steps at "
            f"{config.learning_rate:g}, weights of temperature {config.r:g}; of wrong "
            f"labels {config.wrong.share:.0%}, off by normal errors of deviation "
            f"{config.wrong.deviation:g}. The schedule comes down from "
            f"{config.first:g} in {config.fall} steps. {config.seeds} seeds."
        ),
        captions={
            "exact": "All labels are exact.",
            "wrong": f"{config.wrong.share:.0%} of the labels are far off.",
            "temperature": f"After {config.steps} steps, low losses weighing less.",
            "rates": f"After {config.steps} steps, exact labels.",
        },
    )


def _check(config):
    if not 0 < config.wrong.share < 1:
        raise ValueError(
            f"config.wrong.share is {config.wrong.share}, expected it in (0, 1)"
        )
    for name in ("temperatures", "rates"):
        values = tuple(config[name])
        if len(values) < 2 or sorted(set(values)) != list(values) or values[0] <= 0:
            raise ValueError(
                f"config.{name} is {values}, expected two or more, growing from above 0"
            )


def _cool(r, kind):
    return f"r_{r:g}_{kind}"


def _fast(name, rate):
    return f"{name}_rate_{rate:g}_{EXACT}"


def _draw(config, key):
    theta = jax.random.normal(key, (config.features,))
    theta = theta / jnp.linalg.norm(theta)
    return {"train": {"theta": jnp.tile(theta[None], (config.batch_size, 1))}}


def _run(config, strategy, values) -> Run:
    def init(key):
        del key
        return {"w": jnp.zeros(config.features), "step": jnp.zeros(())}

    def loss(params, batch, key):
        x_key, wrong_key, off_key = jax.random.split(key, 3)
        x = jax.random.normal(x_key, batch["theta"].shape)
        wrong = jax.random.uniform(wrong_key, x.shape[:1]) < values["share"]
        off = config.wrong.deviation * jax.random.normal(off_key, x.shape[:1])
        y = jnp.sum(x * batch["theta"], -1) + jnp.where(wrong, off, 0)
        squares = jnp.square(x @ params["w"] - y)
        r = temperature(values["first"], values["r"], params["step"], config.fall)
        weight = weights.loss_weights(squares, strategy=strategy, r=r)
        return len(squares) * weight * squares, {"step": params["step"] + 1}

    def evaluate(params, data):
        gap = params["w"] - data["train"]["theta"][0]
        return {ERROR: jnp.linalg.norm(gap)}

    return Run(
        init=init,
        loss=loss,
        data={},
        optimizer=optax.sgd(values["rate"]),
        evaluate=evaluate,
        steps=config.steps,
        evaluate_at=sorted({round(config.steps * i / 25) for i in range(26)}),
        show=(ERROR,),
        untrained=("step",),
    )


def temperature(first, last, step, fall):
    """Comes down by a constant factor for each of ``fall`` steps; then it stays.

    Equal ones, infinite ones too, stay as they are.
    """
    left = 1 - jnp.minimum(step / fall, 1)
    even = jnp.asarray(first) == last
    ratio = jnp.where(even, 1.0, first / jnp.where(even, 1.0, last))
    return last * ratio**left


def _claims(config):
    bounds = config.tolerances

    def gap(text, less, more, **claim):
        """How many powers of ten an error is below another."""
        return report.Claim(
            text=text,
            ours=lambda r: _powers(r, more) - _powers(r, less),
            over="mean",
            unit="powers of ten",
            needs=(less, more),
            **claim,
        )

    uniform, exact = f"{UNIFORM}_{EXACT}", f"{LINUPPER}_{EXACT}"
    reversed_ = f"{UNIFORM}_{WRONG}", f"{LINUPPER}_{WRONG}"
    return [
        gap("low losses less: the error is below that of equal weights", exact, uniform,
            at_least=bounds.faster,
            reference=prototype("0.0050 against less than 0.0001")),
        gap("middle losses more: the error is below it too", f"quadratic_{EXACT}",
            uniform, above=0.0, reference=prototype("0.0001 against 0.0050")),
        gap("both ends more: it is above", uniform, f"extremes_{EXACT}", above=0.0,
            reference=prototype("0.0335 against 0.0050")),
        gap("wrong labels: equal weights have less error than low losses less",
            *reversed_, at_least=bounds.reversal,
            reference=prototype("0.023 against 0.54")),
        _steps(config, EXACT, -1, "exact labels: the lower the temperature, the less "
               "error"),
        _steps(config, WRONG, 1, "wrong labels: the higher the temperature, the less "
               "error"),
        gap("exact labels: a temperature that comes down is behind one that is low",
            exact, f"{SCHEDULE}_{EXACT}", above=0.0, reference=BOUND),
        gap("wrong labels: nor does it protect", reversed_[1], f"{SCHEDULE}_{WRONG}",
            at_least=-bounds.reversal, reference=BOUND),
        report.Claim(
            text=(
                "with the learning rate that is best for each, low losses less is "
                "still as far below equal weights"
            ),
            ours=lambda r: _best(config, r, UNIFORM) - _best(config, r, LINUPPER),
            at_least=bounds.faster,
            over="mean",
            unit="powers of ten",
            needs=tuple(
                _fast(name, rate)
                for name in (UNIFORM, LINUPPER)
                for rate in config.rates
            ),
            question=True,
        ),
    ]  # fmt: skip


def _powers(results, arm):
    return np.log10(results[arm].final(ERROR))


def _steps(config, kind, sign, text):
    arms = [_cool(r, kind) for r in config.temperatures]

    def ours(results):
        rows = np.array([_powers(results, arm) for arm in arms])
        return report.smallest_mean(-sign * np.diff(rows, axis=0))

    return report.Claim(
        text=text,
        reference=BOUND,
        ours=ours,
        above=0.0,
        over="mean",
        unit="powers of ten in the smallest step",
        needs=tuple(arms),
    )


def _best(config, results, name):
    rows = [_powers(results, _fast(name, rate)) for rate in config.rates]
    return min(rows, key=np.mean)
