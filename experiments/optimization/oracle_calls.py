"""Gradients in the logits that it takes to fit digits: surrogates against descent.

A linear softmax model. Each call of the oracle returns the loss's gradient in the
logits; a surrogate then allows many steps of the parameters before the next call, where
gradient descent makes one.

Source: Target-based Surrogates for Stochastic Optimization, ICML 2023,
arXiv:2302.02607.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.datasets import check_train, digits, divide
from experiments.common.references import prototype, stated
from logitlab import losses, optim, report
from logitlab.train import Run, Study

LOSS = "train/loss"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    check_train(config.train)
    if list(config.inner) != sorted(set(config.inner)) or len(config.inner) < 2:
        raise ValueError(
            f"config.inner is {tuple(config.inner)}, expected two or more growing "
            "numbers of inner steps"
        )
    arms, labels = {}, {}
    for many in config.inner:
        at = functools.partial(_run, config, many)
        for size in config.sizes:
            name = surrogate_name(size, many)
            values = {"size": float(size)}
            arms[name] = dataclasses.replace(at(values), values=values, at=at)
            labels[name] = f"s = {size:g}, {many} inner steps"
    at = functools.partial(_run, config, 0)
    for rate in config.rates:
        name = descent_name(rate)
        values = {"size": float(rate)}
        arms[name] = dataclasses.replace(at(values), values=values, at=at)
        labels[name] = f"gradient descent, rate {rate:g}"
    surrogates = [n for n in arms if n.startswith("surrogate")]
    descents = [n for n in arms if n.startswith("descent")]
    return Study(
        arms=arms,
        figures={
            "surrogates": report.curves(LOSS, arms=surrogates, log_values=True),
            "descent": report.curves(LOSS, arms=descents, log_values=True),
        },
        claims=_claims(config),
        labels=labels,
        title="Calls of an expensive gradient",
        summary=(
            f"A linear softmax model of {config.train} digits (pixels from 0 to 1) "
            "with a bias, full batch, "
            f"until the mean cross-entropy is {config.target:g}: surrogates of step "
            "size η = s / 2 in the logits, minimized by gradient descent with an "
            "Armijo search; and gradient descent. One step is one call of the oracle."
        ),
        captions={
            "surrogates": "A run ends once it has reached the target.",
            "descent": "Gradient descent, one step of the parameters for each call.",
        },
    )


def surrogate_name(size: float, many: int) -> str:
    """Name of the arm of a step size in the logits and a number of inner steps."""
    return f"surrogate_{size:g}_{many}"


def descent_name(rate: float) -> str:
    """Name of the arm of plain gradient descent."""
    return f"descent_{rate:g}"


def pixels() -> tuple[jax.Array, jax.Array]:
    """Images from 0 to 1, not centered, and digits."""
    x, y = digits(centered=False)
    return jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)


def _run(config, many, values) -> Run:
    def logits(w, x):
        return x @ w

    def data(key):
        rows = divide(key, *pixels(), config.train)
        x = jnp.concatenate([rows.x, jnp.ones((config.train, 1))], -1)
        return {"train": {"x": x, "y": rows.y}}

    def extra_args(w, batch, key):
        del w, key
        return {
            "logits_fn": lambda w: logits(w, batch["x"]),
            "logit_loss_fn": lambda z: losses.cross_entropy(z, batch["y"]),
        }

    def loss(w, batch, key=None):
        del key
        return losses.cross_entropy(logits(w, batch["x"]), batch["y"])

    steps = config.calls if many else config.descent
    return Run(
        init=lambda key: jnp.zeros((65, 10)),
        loss=loss,
        data=data,
        optimizer=(
            optim.surrogate_descent(values["size"] / 2, inner_steps=many)
            if many
            else optax.sgd(values["size"])
        ),
        evaluate=lambda w, parts: {LOSS: loss(w, parts["train"]).mean()},
        extra_args=extra_args if many else None,
        steps=steps,
        evaluate_at=tuple(range(steps + 1)),
        stop=lambda numbers: "fitted" if numbers[LOSS] < config.target else "",
        show=(LOSS,),
    )


def calls(arm, target: float, most: int) -> np.ndarray:
    """Steps until the loss is below the target, one more than the most if never."""
    below = arm[LOSS] < target
    return np.where(below.any(0), arm.steps[below.argmax(0)], most + 1).astype(float)


def _claims(config):
    def count(results, name):
        most = config.descent if name.startswith("descent") else config.calls
        return calls(results[name], config.target, most)

    few, many = config.inner[0], config.inner[-1]
    descents = tuple(descent_name(rate) for rate in config.rates)
    all_of = tuple(surrogate_name(s, m) for s in config.sizes for m in config.inner)
    bounds = [surrogate_name(s, m) for s in config.sizes for m in config.inner
              if s <= config.monotone]  # fmt: skip
    claims = [
        report.Claim(
            text=f"s = {size:g}: fewer calls with {many} inner steps than with {few}",
            reference=stated("calls fall with inner steps", PILOT.get(size, "")),
            ours=lambda r, s=size: (
                count(r, surrogate_name(s, few)) - count(r, surrogate_name(s, many))
            ),
            above=0.0,
            unit="calls fewer",
            needs=(surrogate_name(size, few), surrogate_name(size, many)),
        )
        for size in config.sizes
    ]
    return [
        *claims,
        report.Claim(
            text="the best surrogate needs fewer calls than the best gradient descent",
            reference=prototype("3 against 58 at rate 10"),
            ours=lambda r: (
                np.min([count(r, n) for n in descents], 0)
                - np.min([count(r, n) for n in all_of], 0)
            ),
            above=0.0,
            unit="calls fewer",
            needs=(*all_of, *descents),
        ),
        report.Claim(
            text=f"where s is at most {config.monotone:g} the loss never rises",
            reference="theorem: the surrogate is a bound for η up to 2",
            ours=lambda r: np.max(
                [np.nanmax(np.diff(r[n][LOSS], axis=0), 0) for n in bounds], 0
            ),
            at_most=config.tolerances.rise,
            unit="is the largest rise",
            needs=tuple(bounds),
        ),
    ]


PILOT = {
    4.0: "more than 300 calls for 10, 73 for 100",
    10.0: "115 calls for 10, 29 for 100",
    40.0: "20 calls for 10, 4 for 100",
}
