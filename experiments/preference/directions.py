"""Which divergence from a target moves the mass of a policy there in fewer steps?

The target weighs the data policy of ``preference.bandits`` by rewards, as the solution
of RLHF does. Descent of the reverse divergence, KL(policy, target), and of the forward
one, KL(target, policy), both with their exact gradients in the logits, start from the
data policy.

Source: Preference Fine-Tuning of LLMs Should Leverage Suboptimal, On-Policy Data,
Tajwar et al. 2024, arXiv:2404.14367.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from experiments.common.curves import drawn, with_finals
from experiments.common.references import stated
from experiments.common.solvers import descended
from experiments.preference import bandits
from logitlab import numerics, report
from logitlab.train import Compute, Study

KINDS = {"reverse": "reverse (mode-seeking)", "forward": "forward"}
PLACES = {"near": "near", "far": "far"}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    if not 0 < config.left < 1:
        raise ValueError(f"config.left is {config.left}, expected it between 0 and 1")
    row = [
        report.Panel(place, f"total variation, {words}")
        for place, words in PLACES.items()
    ]
    return Study(
        arms={
            kind: Compute(functools.partial(_values, kind, config)) for kind in KINDS
        },
        figures={"apart": drawn(report.panels([row]), range(config.steps + 1))},
        claims=_claims(config),
        labels=KINDS,
        title="Two directions of a divergence",
        summary=(
            f"{config.bins} answers, targets that weigh the data policy by "
            f"exp(reward / {config.beta:g}), with the optimum at bin {config.near:g}, "
            f"where the data are, or {config.far:g}. Gradient descent on the logits in "
            f"steps of {config.learning_rate:g}."
        ),
        captions={"apart": "How much of the mass is still in the wrong place."},
    )


def target_of(ref: jax.Array, reward: jax.Array, beta: float) -> jax.Array:
    """Log-probabilities of the best policy under a penalty of beta KL(policy, ref)."""
    return numerics.log_softmax(ref + reward / beta)


def slope_of(kind: str, logits: jax.Array, target: jax.Array) -> jax.Array:
    """Closed form of the gradient of a divergence in the logits."""
    logp = numerics.log_softmax(logits)
    p = jnp.exp(logp)
    if kind == "forward":
        return p - jnp.exp(target)
    return p * (logp - target - jnp.sum(p * (logp - target)))


def divergence(kind: str, logits: jax.Array, target: jax.Array) -> jax.Array:
    """KL(policy, target), or for ``"forward"`` KL(target, policy), in nats."""
    logp = numerics.log_softmax(logits)
    one, other = (logp, target) if kind == "reverse" else (target, logp)
    return jnp.sum(jnp.exp(one) * (one - other))


def _values(kind, config, key):
    data_key, _ = jax.random.split(key)
    ref = bandits.data_policy(data_key, config.bins, config.data_draws)
    values, curves = {}, {}
    for place in PLACES:
        gaps = (jnp.arange(config.bins) - config[place]) / config.width
        target = target_of(ref, jnp.exp(-(gaps**2)), config.beta)
        curve, off = _descend(kind, config.steps, ref, target, config.learning_rate)
        curves[place] = curve
        there = curve <= config.left * curve[0]
        steps = jnp.where(there.any(), there.argmax(), config.steps + 1)
        values |= {f"steps/{place}": steps, f"off/{place}": off}
    return with_finals(curves) | values


@functools.partial(jax.jit, static_argnums=(0, 1))
def _descend(kind, steps, ref, target, rate):
    """Total variation after each step, and the error of the closed form."""
    slope = functools.partial(slope_of, kind, target=target)
    exact = jax.grad(functools.partial(divergence, kind))(ref, target)
    off = jnp.abs(slope(ref) - exact).max() / jnp.abs(exact).max()

    def apart(logits):
        return jnp.abs(jax.nn.softmax(logits) - jnp.exp(target)).sum() / 2

    curve = descended(slope, ref, optax.sgd(rate), steps=steps, measure=apart)[1]
    return curve, off


def _claims(config):
    def fewer(place):
        return lambda r: (
            r["forward"].final(f"steps/{place}") - r["reverse"].final(f"steps/{place}")
        )

    part = f"all but {config.left:.0%} of the mass"
    claims = [
        report.Claim(
            text=f"the gradient of the {kind} divergence is the closed form",
            reference="closed form: p (log p/q - KL) and p - q",
            ours=lambda r, kind=kind: r[kind].final("off/far"),
            at_most=config.tolerances.slope,
            unit="relative error",
            needs=(kind,),
        )
        for kind in KINDS
    ]
    claims += [
        report.Claim(
            text=f"the reverse divergence relocates {part} in fewer steps, {place} "
            "optimum",
            reference=stated("mode-seeking objectives relocate mass faster"),
            ours=fewer(place),
            above=0.0,
            over="mean",
            unit="steps fewer",
            needs=tuple(KINDS),
        )
        for place in PLACES
    ]
    return claims
