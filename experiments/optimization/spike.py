"""A learning rate that is suddenly a thousand times too large, capped or not.

Adam trains a small network on digits; from one step on its learning rate is far too
large. Updates that are shortened to the ghost radius, within which the loss's own
Taylor series converges, should not notice.

Source: Ghosts of Softmax, 2026, arXiv:2603.13552.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.datasets import check_train, digits, divide
from experiments.common.references import prototype
from logitlab import losses, metrics, models, optim, report
from logitlab.train import Run, Study

ACCURACY, LOSS = "test/accuracy", "train/loss"
PLAIN, CAPPED = "plain", "capped"
KINDS = {PLAIN: "Adam", CAPPED: "capped by the ghost radius"}
PILOT = {1e-4: (0.947, 0.964), 1e-3: (0.1, 0.958), 1e-2: (0.1, 0.975)}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    check_train(config.train)
    if not 0 <= config.spike_at < config.steps:
        raise ValueError(
            f"config.spike_at is {config.spike_at}, expected a step of {config.steps}"
        )
    parts = _parts(config)
    at = functools.partial(_run, config, parts)
    arms = {}
    for rate in config.rates:
        for kind, target in ((PLAIN, 1e30), (CAPPED, config.target_r)):
            values = {"rate": float(rate), "target": float(target)}
            run = dataclasses.replace(at(values), values=values, at=at)
            arms[arm_name(kind, rate)] = run
    return Study(
        arms=arms,
        figures={
            "training": report.panels(
                [[report.Panel(LOSS, log=True), report.Panel(ACCURACY)]],
                log_steps=False,
            )
        },
        claims=_claims(config),
        labels={
            arm_name(kind, rate): f"{label}, {rate:g}"
            for kind, label in KINDS.items()
            for rate in config.rates
        },
        title="A spike of the learning rate",
        summary=(
            f"Adam on {config.train} digits, pixels from 0 to 1 and not centered, "
            f"{config.width} ReLU units, batches of "
            f"{config.batch_size}. From step {config.spike_at} on learning rates are "
            f"{config.factor:g} times as large. The radius is that of all training "
            "images, by one derivative of their logits along the update."
        ),
        captions={"training": f"The spike is at step {config.spike_at}."},
    )


def arm_name(kind: str, rate: float) -> str:
    """Name of the arm of a kind of update and a learning rate."""
    return f"{kind}_{rate:g}"


def _parts(config):
    x, y = digits(centered=False)  # as the paper has them: units can die
    rows = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)
    held = divide(jax.random.key(0), *rows, config.train)
    return {
        "train": {"x": held.x, "y": held.y},
        "test": {"x": held.test_x, "y": held.test_y},
    }


def _run(config, parts, values) -> Run:
    model = models.MLP(widths=(config.width,), classes=10)

    def logits(params, x):
        return model.apply({"params": params}, x)

    def rate(count):
        late = count >= config.spike_at
        return values["rate"] * jnp.where(late, config.factor, 1.0)

    def extra_args(params, batch, key):
        del params, batch, key
        return {"logits_fn": lambda params: logits(params, parts["train"]["x"])}

    def evaluate(params, parts):
        train, test = parts["train"], parts["test"]
        costs = losses.cross_entropy(logits(params, train["x"]), train["y"])
        return {
            LOSS: metrics.mean_of(costs),
            ACCURACY: metrics.accuracy(logits(params, test["x"]), test["y"]),
        }

    return Run(
        init=lambda key: model.init(key, parts["train"]["x"][:1])["params"],
        loss=lambda params, batch, key: losses.cross_entropy(
            logits(params, batch["x"]), batch["y"]
        ),
        data=parts,
        optimizer=optax.chain(
            optax.scale_by_adam(),
            optax.scale_by_learning_rate(rate),
            optim.cap_by_ghost_radius(values["target"]),
        ),
        evaluate=evaluate,
        extra_args=extra_args,
        steps=config.steps,
        batch_size=config.batch_size,
        evaluate_at=tuple(config.evaluate_at),
        show=(LOSS, ACCURACY),
    )


def _claims(config):
    bounds = config.tolerances
    claims = []
    for rate in config.rates:
        plain, capped = (arm_name(kind, rate) for kind in KINDS)
        pilot = PILOT.get(rate, (np.nan, np.nan))
        claims.append(
            report.Claim(
                text=f"capped updates survive the spike, learning rate {rate:g}",
                reference=prototype(f"accuracy {pilot[1]}, median of three seeds"),
                ours=lambda r, a=capped: r[a].final(ACCURACY),
                at_least=bounds.capped,
                unit="of the test images",
                needs=(capped,),
            )
        )
        if rate >= 1e-3:
            claims.append(
                report.Claim(
                    text=f"plain Adam does not, learning rate {rate:g}",
                    reference=prototype(f"accuracy {pilot[0]}, median of three seeds"),
                    ours=lambda r, a=plain: r[a].final(ACCURACY),
                    at_most=bounds.plain,
                    over="median",
                    unit="of the test images",
                    needs=(plain,),
                )
            )
    return claims
