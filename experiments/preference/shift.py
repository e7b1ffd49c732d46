"""What if thumbs go up for some prompts and down for others?

Binary classifier optimisation (BCO) learns from single answers that were liked or not,
with the policy's implicit reward as a classifier's logit. If liked answers are mostly
of one prompt and disliked ones of another, the classifier may tell prompts apart
instead of answers. Weights of disliked answers, by how much likelier their prompt is
among liked ones, undo that.

Source: Binary Classifier Optimization for LLM Alignment, Jung et al. 2024,
arXiv:2404.04656.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from experiments.common.curves import drawn, with_finals
from experiments.common.references import stated
from logitlab import estimators, losses, numerics, report, rl, sequences, weights
from logitlab.train import Compute, Study

PROMPTS = 2
LABELS = {
    "none": "no shift",
    "shift": "shift",
    "matched": "shift and weights",
    "unclipped": "shift and unclipped weights",
}
PROTOTYPE = {"none": 1.41, "shift": 1.59, "matched": 2.04}  # expected rewards


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    problem = config.problem
    row = [
        report.Panel("reward", "expected true reward"),
        report.Panel("divergence", "KL from the target (nats)"),
    ]
    return Study(
        arms={
            name: Compute(functools.partial(_values, name, config)) for name in LABELS
        },
        figures={
            "training": drawn(
                report.panels([row], log_steps=False),
                range(0, config.steps + 1, config.evaluate_every),
            ),
            "divergence": report.intervals(
                {"BCO": list(LABELS)},
                ["no shift", "shift", "and weights", "not clipped"],
                "divergence",
                label="KL from the target policy (nats)",
            ),
        },
        claims=_claims(config),
        labels=LABELS,
        title="Thumbs up for some prompts, down for others",
        summary=(
            f"{PROMPTS} prompts with {problem.answers} answers, true rewards "
            f"N(0, {problem.scale:g}²), each answer liked with the probability that is "
            f"their sigmoid; {problem.rows} answers liked, of which "
            f"{problem.share:.0%} of one prompt, and as many disliked, of the other. "
            f"beta = {config.beta:g}, a uniform reference, all rows in every step."
        ),
        captions={
            "training": "Means over both prompts.",
            "divergence": "From the best policy of the true rewards, at the end.",
        },
    )


def _check(config):
    problem = config.problem
    if problem.answers < 2:
        raise ValueError(
            f"config.problem.answers is {problem.answers}, expected at least 2"
        )
    if not 0.5 <= problem.share < 1:
        raise ValueError(
            f"config.problem.share is {problem.share}, expected a number in [0.5, 1)"
        )
    if config.steps % config.evaluate_every:
        raise ValueError(
            f"config.evaluate_every is {config.evaluate_every}, expected a divisor of "
            f"config.steps, {config.steps}"
        )
    low, high = config.clip
    if not 0 < low <= 1 <= high:
        raise ValueError(
            f"config.clip is {tuple(config.clip)}, expected two numbers around 1"
        )


def _values(method, config, key):
    problem = config.problem
    none, unclipped = (1.0, 1.0), (0.0, float("inf"))
    bounds = dict(none=none, shift=none, matched=config.clip, unclipped=unclipped)
    curves = _train(
        (problem.answers, problem.rows),
        (config.steps, config.evaluate_every),
        key,
        method != "none",
        tuple(bounds[method]),
        (problem.scale, problem.share),
        config.beta,
        config.learning_rate,
    )
    return with_finals(curves)


def draw(sizes: tuple, scale: jax.Array, share: jax.Array, key: jax.Array) -> tuple:
    """True rewards [2, K]; prompts, answers and thumbs of 2 N rows, the liked first."""
    answers, rows = sizes
    keys = jax.random.split(key, 3)
    reward = scale * jax.random.normal(keys[0], (PROMPTS, answers))
    liked = jnp.arange(2 * rows) < rows
    other = jax.random.uniform(keys[1], (2 * rows,)) >= share
    prompt = jnp.where(liked, 0, 1) ^ other
    # Among a prompt's answers, all equally likely, those that get this thumb.
    chance = jax.nn.log_sigmoid(jnp.where(liked, 1, -1)[:, None] * reward[prompt])
    return reward, prompt, jax.random.categorical(keys[2], chance), liked


@functools.partial(jax.jit, static_argnums=(0, 1))
def _train(sizes, times, key, shifted, bounds, problem, beta, learning_rate):
    """Expected reward and divergence after every so many steps."""
    (answers, _), (steps, every) = sizes, times
    reward, prompt, answer, liked = draw(sizes, *problem, key)
    features = jax.nn.one_hot(prompt, PROMPTS, dtype=reward.dtype)
    kernel, bias = estimators.fit_density_classifier(features, liked)
    p = jax.nn.sigmoid(features @ kernel + bias)
    ratio = weights.density_ratio_weight(p, min_ratio=bounds[0], max_ratio=bounds[1])
    reference = jnp.full(liked.shape, -jnp.log(answers), reward.dtype)
    target = numerics.log_softmax(reward / beta)
    optimizer = optax.adam(learning_rate)

    def loss(logits, shift):
        logps = numerics.log_softmax(logits)[prompt, answer]
        values = losses.bco_loss(logps, reference, liked, ratio, shift=shift, beta=beta)
        return values.mean()

    def step(carry, _):
        logits, state, mean = carry
        logps = numerics.log_softmax(logits)[prompt, answer]
        implicit = sequences.implicit_reward(logps, reference, beta=beta)
        mean = rl.running_mean_update(mean, implicit)
        slope = jax.grad(loss)(logits, jnp.where(shifted, mean.mean, 0))
        updates, state = optimizer.update(slope, state)
        return (optax.apply_updates(logits, updates), state, mean), None

    def numbers(logits):
        logps = numerics.log_softmax(logits)
        probs = jnp.exp(logps)
        return {
            "reward": jnp.sum(probs * reward, -1).mean(),
            "divergence": jnp.sum(probs * (logps - target), -1).mean(),
        }

    def stretch(carry, _):
        carry, _ = jax.lax.scan(step, carry, None, every)
        return carry, numbers(carry[0])

    logits = jnp.zeros_like(reward)
    nothing = rl.RunningMean(*jnp.zeros((2,), reward.dtype))
    start = logits, optimizer.init(logits), nothing
    _, later = jax.lax.scan(stretch, start, None, steps // every)
    return jax.tree.map(
        lambda first, rest: jnp.append(first, rest), numbers(logits), later
    )


def _claims(config):
    bounds = config.tolerances
    claims = [
        report.Claim(
            text=f"with {LABELS[arm]} rewards are higher than with {LABELS[other]}",
            reference=stated(
                "ahead where prompts differ",
                f"{PROTOTYPE[arm]} against {PROTOTYPE[other]}",
            ),
            ours=report.ahead("reward", arm, other),
            at_least=0.0,
            over="mean",
            unit="of expected reward",
            needs=(arm, other),
        )
        for arm, other in (("shift", "none"), ("matched", "shift"))
    ]
    ratio = bounds.divergence_ratio
    return claims + [
        report.Claim(
            text="unclipped weights bring the policy much nearer to the target",
            reference=stated(
                "matching makes the classifier right", "0.07 against 0.38 nats"
            ),
            ours=report.ahead("divergence", "unclipped", "shift", times=ratio),
            at_most=0.0,
            over="mean",
            unit=f"nats above {ratio:g} times the divergence without weights",
            needs=("unclipped", "shift"),
        )
    ]
