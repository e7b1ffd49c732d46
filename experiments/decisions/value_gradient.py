"""What should a model learn that is too small for its state?

Four features of the state matter to a value, twelve larger ones do not, and a linear
model of rank two has to predict the next state. The squared error is spent on what is
large, an error weighted by the value's slopes on what matters.

Source: Value Gradient weighted Model-Based Reinforcement Learning, Voelcker et al.
2022, arXiv:2204.01464.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.references import prototype
from logitlab import losses, report
from logitlab.train import Run, Study

MSE, VAGRAM, TAYLOR = "mse", "vagram", "taylor_vaml"
LABELS = {MSE: "squared error", VAGRAM: "VaGraM", TAYLOR: "Taylor-VAML"}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    draw = functools.partial(transitions, config)
    words = {"value_error": "squared error of the value",
             "state_error": "squared error of a feature"}  # fmt: skip
    return Study(
        arms={name: _run(config, name, draw) for name in LABELS},
        figures={
            "errors": report.curves(*words, labels=words, log_steps=False),
        },
        claims=_claims(),
        labels=LABELS,
        title="What a model should learn that is too small for its state",
        summary=(
            f"Linear dynamics of {config.relevant} features that a value depends on "
            f"and {config.distractors} others, {config.distractor_scale:g} times as "
            f"large; a linear model of rank {config.rank}, {config.steps} steps of "
            f"Adam on {config.train} transitions, {config.test} others for testing. "
            "Each seed has dynamics and a value of its own."
        ),
        captions={"errors": "On transitions that were not trained on."},
    )


def _check(config):
    size = config.relevant + config.distractors
    if min(config.relevant, config.distractors) < 1 or not 1 <= config.rank <= size:
        raise ValueError(
            f"config.relevant is {config.relevant}, config.distractors "
            f"{config.distractors}, config.rank {config.rank}; expected at least 1, "
            "and a rank of at most their sum"
        )
    if not 1 <= config.marks <= config.steps:
        raise ValueError(
            f"config.marks is {config.marks}, expected 1 to config.steps, "
            f"{config.steps}"
        )


def value(w: jax.Array, states: jax.Array) -> jax.Array:
    """``2 tanh(w . s)`` of states [..., D]; w [R] is about their first features."""
    return 2 * jnp.tanh(states[..., : w.size] @ w)


def transitions(config, key: jax.Array) -> dict:
    """States, next states and the value's slopes there, for training and testing.

    Both kinds of features evolve by themselves, by Gaussian matrices that keep their
    size on average.
    """
    keys = jax.random.split(key, 4)
    few, many = config.relevant, config.distractors
    step = jax.scipy.linalg.block_diag(
        *(
            jax.random.normal(k, (size, size)) / np.sqrt(size)
            for k, size in zip(keys[:2], (few, many), strict=True)
        )
    )
    w = jax.random.normal(keys[2], (few,))
    scales = jnp.where(jnp.arange(few + many) < few, 1, config.distractor_scale)
    rows = config.train + config.test
    s = scales[None] * jax.random.normal(keys[3], (rows, few + many))
    after = s @ step.T
    slopes = losses.value_gradient(functools.partial(value, w), after)
    batch = {"x": s, "y": after, "slopes": slopes}
    return {
        "train": {name: a[: config.train] for name, a in batch.items()},
        "test": {name: a[config.train :] for name, a in batch.items()} | {"w": w},
    }


def _run(config, name, draw) -> Run:
    size = config.relevant + config.distractors

    def init(key):
        # A feature that a loss teaches nothing about stays predicted as 0, its mean.
        return {
            "down": jax.random.normal(key, (size, config.rank)) / np.sqrt(size),
            "up": jnp.zeros((config.rank, size)),
        }

    def predicted(params, x):
        return x @ params["down"] @ params["up"]

    def loss(params, batch, key):
        del key
        pred, target, slopes = (
            predicted(params, batch["x"]),
            batch["y"],
            batch["slopes"],
        )
        if name == MSE:
            return jnp.square(pred - target).mean(-1)
        of_name = {VAGRAM: losses.vagram_loss, TAYLOR: losses.taylor_vaml_loss}
        return of_name[name](pred, target, slopes)

    def evaluate(params, data):
        test = data["test"]
        pred = predicted(params, test["x"])
        of = functools.partial(value, test["w"])
        return {
            "value_error": jnp.square(of(pred) - of(test["y"])).mean(),
            "state_error": jnp.square(pred - test["y"]).mean(),
        }

    marks = np.linspace(0, config.steps, config.marks + 1).round().astype(int)
    return Run(
        init=init,
        loss=loss,
        data=draw,
        optimizer=optax.adam(config.learning_rate),
        evaluate=evaluate,
        steps=config.steps,
        evaluate_at=[int(step) for step in marks],
    )


def _claims():
    def gap(metric, behind, ahead):
        return lambda r: r[behind].final(metric) - r[ahead].final(metric)

    return [
        report.Claim(
            text="the slopes of the value lower the error of the value",
            reference=prototype("1.50 against 2.23 of the squared error"),
            ours=gap("value_error", MSE, VAGRAM),
            above=0.0,
            over="mean",
            unit="lower",
            needs=(MSE, VAGRAM),
        ),
        report.Claim(
            text="they raise the error of the state",
            reference=prototype("6.87 against 5.71 of the squared error"),
            ours=gap("state_error", VAGRAM, MSE),
            above=0.0,
            over="mean",
            unit="higher",
            needs=(MSE, VAGRAM),
        ),
        report.Claim(
            text="where errors of features may cancel (Taylor-VAML), the value's error "
            "is larger",
            ours=gap("value_error", TAYLOR, VAGRAM),
            above=0.0,
            over="mean",
            unit="larger",
            needs=(VAGRAM, TAYLOR),
            question=True,
        ),
    ]
