"""Does a temperature of its own for every example tell wrong labels from right ones?

The adaptive loss of the LDR family keeps a temperature for each training example and
moves it by how sure the network is. It is held against cross-entropy, the generalized
cross-entropy and its own relative with one temperature, on digits with wrong labels,
with weight decay and without.

Source: Zhu, Ying and Yang 2023, arXiv:2112.14869.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import optax

from experiments.classification._comparison import NOISES, named_loss
from experiments.common.claims import ahead
from experiments.common.datasets import check_train, divide, images
from experiments.common.references import prototype, stated
from logitlab import metrics, models, report
from logitlab.train import Run, Study
from logitlab.train.config import check_name

ACCURACY, WRONG, RIGHT = "test/accuracy", "lambda/wrong", "lambda/right"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    check_train(config.train)
    for name, noise in config.noises.items():
        check_name(noise.kind, NOISES, f"config.noises.{name}.kind")
        if not 0 <= noise.rate < 1:
            raise ValueError(
                f"config.noises.{name}.rate is {noise.rate}, expected it in [0, 1)"
            )
    named = {
        name: named_loss(
            name, config.losses[check_name(name, config.losses, "config.losses")]
        )
        for name in config.pick
    }
    draws = {name: functools.partial(_draw, config, name) for name in config.noises}
    arms = {}
    for name, loss in named.items():
        at = functools.partial(_run, config, loss)
        for noise, draw in draws.items():
            for decay in config.decays:
                values = {"decay": decay}
                arms[arm_name(name, noise, decay)] = dataclasses.replace(
                    at(values), data=draw, values=values, at=at
                )
    noises = list(config.noises)
    ticks = [config.noises[name].label for name in noises]
    first = config.decays[0]

    def accuracy(decay):
        return report.intervals(
            {
                loss.label: [arm_name(name, noise, decay) for noise in noises]
                for name, loss in named.items()
            },
            ticks,
            ACCURACY,
            label="test accuracy",
            across="labels in training",
        )

    figures = {"accuracy": accuracy(first)}
    if len(config.decays) > 1:
        figures["decayed"] = accuracy(config.decays[-1])
    noisy = [name for name in noises if config.noises[name].rate]
    if "aldr" in named and noisy:
        figures["lambda"] = report.small_multiples(
            (RIGHT, WRONG),
            log_steps=False,
            label="mean λ",
            columns=len(noisy),
            arms=[arm_name("aldr", noise, first) for noise in noisy],
        )
    return Study(
        arms=arms,
        figures=figures,
        claims=[c for c in _claims(config) if set(c.needs) <= arms.keys()],
        labels={
            arm_name(name, noise, decay): (
                f"{loss.label}, {config.noises[noise].label}"
                + (f", decay {decay:g}" if decay else "")
            )
            for name, loss in named.items()
            for noise in noises
            for decay in config.decays
        },
        title="A temperature for every example, under wrong labels",
        summary=(
            f"{config.train} digits to learn from and the others, with right labels, "
            f"to test; {config.seeds} seeds, each its own division, noise and start. "
            f"An MLP of widths {', '.join(map(str, config.widths))} with tanh, "
            f"{config.epochs} epochs of SGD with momentum {config.momentum:g}, "
            f"learning rate {config.learning_rate:g}. Uniform noise redraws a label "
            "among all classes; cyclic noise turns a digit into the next one."
        ),
        captions={
            "accuracy": "After the last epoch, without weight decay.",
            "decayed": f"The same with a weight decay of {config.decays[-1]:g}.",
            "lambda": (
                "Mean temperature of the training examples with right labels, solid, "
                "and with wrong ones, dashed; without weight decay."
            ),
        },
    )


def arm_name(loss: str, noise: str, decay: float) -> str:
    """Name of the arm of a loss, a kind of noise and a weight decay."""
    return f"{loss}_{noise}" + (f"_decay_{decay:g}" if decay else "")


def _draw(config, noise, key):
    parts, (divide_key, noise_key) = images(), jax.random.split(key)
    found = divide(divide_key, *parts, config.train)
    kind, rate = config.noises[noise].kind, config.noises[noise].rate
    noisy = NOISES[kind](noise_key, found.y, 10, rate)
    return {
        "train": {"x": found.x, "y": noisy, "row": jnp.arange(config.train)},
        "right": found.y == noisy,
        "test": {"x": found.test_x, "y": found.test_y},
    }


def _run(config, loss_of, values) -> Run:
    model = models.MLP(widths=config.widths, classes=10, activation="tanh")
    steps = config.epochs * (config.train // config.batch_size)

    def init(key):
        params = model.init(key, jnp.zeros((1, 64)))["params"]
        return {"net": params, "state": jnp.full(config.train, loss_of.start)}

    def logits(params, x):
        return model.apply({"params": params["net"]}, x)

    def loss(params, batch, key):
        state, row = params["state"], batch["row"]
        z = logits(params, batch["x"])
        found, new = loss_of.values(z, batch["y"], state[row], key)
        return found, {"state": state.at[row].set(new)}

    def evaluate(params, data):
        test, right, state = data["test"], data["right"], params["state"]
        found = {ACCURACY: metrics.accuracy(logits(params, test["x"]), test["y"])}
        if loss_of.start:  # it remembers
            found |= {
                RIGHT: metrics.mean_of(state, mask=right),
                WRONG: metrics.mean_of(state, mask=~right),
            }
        return found

    return Run(
        init=init,
        loss=loss,
        data={},
        optimizer=optax.chain(
            optax.add_decayed_weights(values["decay"]),
            optax.sgd(config.learning_rate, momentum=config.momentum),
        ),
        evaluate=evaluate,
        steps=steps,
        batch_size=config.batch_size,
        evaluate_at=sorted({round(steps * i / 10) for i in range(11)}),
        show=(ACCURACY,),
        untrained=("state",),
    )


def _claims(config):
    bounds, plain = config.tolerances, config.decays[0]

    def gap(words, one, other, noise, decay, pilot, **bound):
        return ahead(
            words,
            ACCURACY,
            arm_name(one, noise, decay),
            arm_name(other, noise, decay),
            scale=100,
            reference=prototype(pilot),
            over="mean",
            unit="points",
            **bound,
        )

    claims = []
    for name, noise in config.noises.items():
        on = noise.label
        if noise.rate:
            claims.append(
                gap(f"ALDR-KL beats cross-entropy, {on}", "aldr", "ce", name, plain,
                    noise.pilot, at_least=bounds.gains)
            )  # fmt: skip
        else:
            claims.append(
                gap(f"ALDR-KL is not below cross-entropy, {on}", "aldr", "ce", name,
                    plain, noise.pilot, at_least=0.0)
            )  # fmt: skip
    noisy = {name: noise for name, noise in config.noises.items() if noise.rate}
    for name, noise in noisy.items():
        arm = arm_name("aldr", name, plain)
        claims.append(
            report.Claim(
                text=f"wrong labels get the larger temperatures, {noise.label}",
                reference=stated("λ adapts to how doubtful the label is"),
                ours=_apart(arm),
                above=0.0,
                over="mean",
                unit="in the mean λ, of λ₀ = 1",
                needs=(arm,),
            )
        )
    claims += [
        gap(f"one temperature for all is no clear win, {noise.label}", "ldr", "ce",
            name, plain, "near cross-entropy", at_most=bounds.gains)
        for name, noise in noisy.items()
    ]  # fmt: skip
    claims += [
        gap(f"with a weight decay of {decay:g} ALDR-KL is no longer ahead, "
            f"{noise.label}", "aldr", "ce", name, decay,
            "the advantage disappears", at_most=bounds.gains)
        for decay in config.decays[1:]
        for name, noise in noisy.items()
    ]  # fmt: skip
    return claims


def _apart(arm):
    return lambda results: results[arm].final(WRONG) - results[arm].final(RIGHT)
