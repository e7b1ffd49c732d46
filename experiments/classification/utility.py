"""Do probabilities from utilities choose better than the largest utility?

Answers are strings of six bits. Most of the mass lies on strings that resemble each
other, each of them improbable; a few others, unlike them, stand out. A network learns
from chosen answers; its logits are read as utilities, and as probabilities at the
temperature that suits held-out answers. The largest utility (MAP) is compared with the
largest expected number of right bits (MBR).

Source: Utility-Probability Duality of Neural Networks, arXiv:2305.14859; temperature
and task inferred.
"""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.claims import ahead
from experiments.common.keys import all_seeds_at_once
from experiments.common.references import stated
from logitlab import decisions, losses, models, report, theory, transforms
from logitlab.train import Compute, Study

MAP, RAW, FITTED, TRUE = "map", "mbr", "mbr_fitted", "mbr_true"
RULES = {
    MAP: "largest utility (MAP)",
    RAW: "expected gain, T = 1",
    FITTED: "expected gain, fitted T",
    TRUE: "expected gain, true probabilities",
}
GAIN = "expected_gain"
BITS = 6
ANSWERS = np.array(list(itertools.product((0, 1), repeat=BITS)))
GAINS = (ANSWERS[:, None] == ANSWERS[None]).mean(-1)  # the share of equal bits


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    if min(config.train) < 1 or min(config.held, config.test) < 1:
        raise ValueError(
            f"config.train is {tuple(config.train)}, config.held {config.held}, "
            f"config.test {config.test}; expected at least 1"
        )
    cells = [(rule, count) for count in config.train for rule in RULES]
    found = {
        count: all_seeds_at_once(
            config, lambda key, count=count: learned(key, config, count)
        )
        for count in config.train
    }
    arms = {
        arm_name(rule, count): Compute(
            lambda key, rule=rule, count=count: found[count](key)[rule]
        )
        for rule, count in cells
    }
    arms["update"] = Compute(lambda key: {"difference": step_difference(key)})
    return Study(
        arms=arms,
        figures={
            "gain": report.intervals(
                {
                    words: [arm_name(rule, count) for count in config.train]
                    for rule, words in RULES.items()
                },
                [str(count) for count in config.train],
                GAIN,
                label="expected share of right bits",
                across="answers to learn from",
            )
        },
        claims=_claims(config),
        labels={
            arm_name(rule, count): f"{RULES[rule]}, {count} answers"
            for rule, count in cells
        }
        | {"update": "one step of utilities"},
        title="Utilities and probabilities",
        summary=(
            f"{len(ANSWERS)} answers of {BITS} bits, {config.features} features, "
            f"{config.steps} steps of Adam; the temperature is fitted to {config.held} "
            f"held-out answers. Gains are expected under the true probabilities, for "
            f"{config.test} inputs."
        ),
        captions={
            "gain": "What each rule gains, by how many answers were learned from."
        },
    )


def arm_name(rule: str, count: int) -> str:
    """Name of the arm of a rule and a number of answers to learn from."""
    return f"{rule}_{count}"


def true_utilities(key: jax.Array, x: jax.Array, config) -> jax.Array:
    """Utilities of all answers [N, 64]: by their bits, and those that stand out."""
    bits_key, spike_key = jax.random.split(key)
    a = jnp.tanh(x @ jax.random.normal(bits_key, (x.shape[1], BITS)))
    alike = config.bit_utility * a @ (2.0 * ANSWERS.T - 1)
    out = (
        x @ jax.random.normal(spike_key, (x.shape[1], len(ANSWERS))) / x.shape[1] ** 0.5
    )
    return alike + config.spike * jax.nn.relu(out - config.spike_from)


def learned(key: jax.Array, config, count: int) -> dict:
    """For each rule, its expected gain; and the fitted temperature."""
    keys = jax.random.split(key, 5)
    total = count + config.held + config.test
    x = jax.random.normal(keys[0], (total, config.features))
    utilities = true_utilities(keys[1], x, config)
    y = jax.random.categorical(keys[2], utilities)
    model = models.MLP((config.width,), len(ANSWERS))
    optimizer = optax.adam(config.learning_rate)
    params = model.init(keys[3], x[:1])["params"]

    def loss(params, rows):
        z = model.apply({"params": params}, x[rows])
        return losses.cross_entropy(z, y[rows]).mean()

    def step(state, rows):
        params, inner = state
        change, inner = optimizer.update(jax.grad(loss)(params, rows), inner)
        return (optax.apply_updates(params, change), inner), None

    batches = jax.random.randint(keys[4], (config.steps, config.batch_size), 0, count)
    (params, _), _ = jax.lax.scan(step, (params, optimizer.init(params)), batches)
    z = model.apply({"params": params}, x[count:])
    held, test = z[: config.held], z[config.held :]
    fitted = transforms.fit_temperature(held, y[count : count + config.held])
    truth = jax.nn.softmax(utilities[-config.test :])
    gains = jnp.asarray(GAINS, jnp.float32)

    def mbr(probs):
        return decisions.mbr_decision(probs, gains)

    chosen = {
        MAP: test.argmax(-1),
        RAW: mbr(decisions.candidate_probs(test)),
        FITTED: mbr(decisions.candidate_probs(test, temperature=fitted.temperature)),
        TRUE: mbr(truth),
    }
    return {
        rule: {
            GAIN: jnp.mean(jnp.sum(truth * gains[answers], -1)),
            "temperature": fitted.temperature,
        }
        for rule, answers in chosen.items()
    }


def step_difference(key: jax.Array) -> jax.Array:
    """How far an update of utilities is from a gradient step of the cross-entropy."""
    keys = jax.random.split(key)
    u = jax.random.normal(keys[0], (100, len(ANSWERS)))
    y = jax.random.randint(keys[1], (100,), 0, len(ANSWERS))
    slope = jax.grad(lambda u: losses.cross_entropy(u, y).sum())(u)
    return jnp.abs(
        theory.utility_update(u, y, learning_rate=0.5) - (u - 0.5 * slope)
    ).max()


def _claims(config):
    bounds, claims = config.tolerances, []
    few, many = min(config.train), max(config.train)
    rules = (
        (MAP, "the largest utility", dict(at_least=bounds.over_map)),
        (RAW, "that at temperature 1", dict(above=0.0)),
    )
    for count, (other, words, bound) in itertools.product(config.train, rules):
        claims.append(
            ahead(
                f"with {count} answers, expected gain at the fitted temperature is "
                f"ahead of {words}",
                GAIN,
                arm_name(FITTED, count),
                arm_name(other, count),
                scale=100,
                reference=stated("rules that use probabilities gain"),
                over="mean",
                unit="points",
                **bound,
            )
        )
    return [
        *claims,
        report.Claim(
            text="the fewer the answers, the higher the fitted temperature",
            ours=lambda r: (
                r[arm_name(FITTED, few)].final("temperature")
                - r[arm_name(FITTED, many)].final("temperature")
            ),
            above=0.0,
            over="mean",
            needs=(arm_name(FITTED, few), arm_name(FITTED, many)),
            question=True,
        ),
        report.Claim(
            text="an update of utilities is a gradient step of the cross-entropy",
            reference="identity: u + rate (onehot(y) - softmax(u))",
            ours=lambda r: r["update"].final("difference"),
            at_most=bounds.step,
            unit="largest difference",
            needs=("update",),
        ),
    ]
