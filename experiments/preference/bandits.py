"""When do answers drawn from the policy itself beat those of an old data set?

A bandit with answers on a line. The data policy has its mass in one place and at both
ends; the rewards have their optimum far from it, or where it is. Every algorithm learns
from rewards of drawn answers: all of its steps on answers of the data policy, or in
rounds, each on answers of its own policy.

Source: Preference Fine-Tuning of LLMs Should Leverage Suboptimal, On-Policy Data,
Tajwar et al. 2024, arXiv:2404.14367, github.com/Asap7772/understanding-rlhf.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.curves import drawn, with_finals
from experiments.common.references import stated
from logitlab import losses, numerics, report, rl
from logitlab.train import Compute, Study

OFFLINE, ON_POLICY = "offline", "on_policy"
SAMPLING = {OFFLINE: "offline", ON_POLICY: "on-policy"}
ALGORITHMS = {
    "best_of_n": "best of N",
    "awr": "AWR",
    "dpo": "DPO",
    "ipo": "IPO",
    "reinforce": "REINFORCE",
    "positive": "REINFORCE,\nonly positive",
    "dpo_gap": "DPO,\nclear pairs",
    "ppo": "PPO",
}
PROTOTYPE = {  # the gain of on-policy answers, far and near
    "best_of_n": (0.67, 0.06),
    "dpo": (0.64, 0.18),
    "ipo": (0.85, 0.18),
    "reinforce": (0.54, 0.22),
    "positive": (0.31, 0.25),
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    check(config)
    _check_early(config)
    arms = {
        arm_name(algorithm, sampling): (algorithm, sampling)
        for algorithm in config.pick
        for sampling in SAMPLING
    }
    words = {name: label.replace("\n", " ") for name, label in ALGORITHMS.items()}

    def rewards(optimum):
        return report.intervals(
            {
                label: [arm_name(algorithm, sampling) for algorithm in config.pick]
                for sampling, label in SAMPLING.items()
            },
            [ALGORITHMS[algorithm] for algorithm in config.pick],
            optimum,
            label="expected reward at the end",
        )

    row = [
        report.Panel("far", "reward, far optimum"),
        report.Panel("near", "reward, near optimum"),
    ]

    def training(sampling):
        drawing = report.panels(
            [row],
            log_steps=False,
            arms=[arm_name(algorithm, sampling) for algorithm in config.pick],
        )
        return drawn(drawing, range(0, config.steps + 1, config.evaluate_every))

    return Study(
        arms={
            name: Compute(functools.partial(_values, algorithm, sampling, config))
            for name, (algorithm, sampling) in arms.items()
        },
        figures={
            "far": rewards("far"),
            "near": rewards("near"),
            **{f"training_{sampling}": training(sampling) for sampling in SAMPLING},
        },
        claims=_claims(config),
        labels={
            name: f"{words[algorithm]}, {SAMPLING[sampling]}"
            for name, (algorithm, sampling) in arms.items()
        },
        title="Learning from one's own answers, or from those of a data set",
        summary=(
            f"{config.bins} answers, {config.prompts} prompts with "
            f"{config.answers} drawn answers each, one table of logits for all "
            f"prompts, which starts at the data policy; {config.steps} steps of Adam, "
            f"in {config.rounds} rounds with answers of the policy, or without. The "
            f"optimum is at bin {config.far:g} or {config.near:g}, the data are near "
            "bin 15 and in both end bins. Advantages are rewards, normalised over the "
            "answers of a round."
        ),
        captions={
            "far": "The optimum is where the data policy hardly ever goes.",
            "near": "The optimum is where the data are.",
            "training_offline": "Expected rewards while learning from the data.",
            "training_on_policy": "Expected rewards while learning from own answers.",
        },
    )


def arm_name(algorithm: str, sampling: str) -> str:
    """The arm of an algorithm that learns from answers of one kind."""
    return f"{algorithm}_{sampling}"


def check(config):
    """Refuses what cannot be run."""
    unknown = [name for name in config.pick if name not in ALGORITHMS]
    if unknown or not config.pick:
        raise ValueError(
            f"config.pick is {tuple(config.pick)}, expected some of {tuple(ALGORITHMS)}"
        )
    if config.steps % config.rounds:
        raise ValueError(
            f"config.rounds is {config.rounds}, expected a divisor of config.steps, "
            f"{config.steps}"
        )
    per_round = config.steps // config.rounds
    if per_round % config.evaluate_every:
        raise ValueError(
            f"config.evaluate_every is {config.evaluate_every}, expected a divisor of "
            f"the steps of a round, {per_round}"
        )
    if config.answers < 2:
        raise ValueError(
            f"config.answers is {config.answers}, expected at least 2, for pairs"
        )


def _check_early(config):
    early = config.tolerances.early
    if early % config.evaluate_every or not 0 < early <= config.steps:
        raise ValueError(
            f"config.tolerances.early is {early}, expected a step with an evaluation"
        )


def _values(algorithm, sampling, config, key):
    problems = {"far": (config.far, config.width), "near": (config.near, config.width)}
    curves = train(algorithm, sampling, config, problems, key)
    early = config.tolerances.early // config.evaluate_every
    return with_finals(curves) | {
        f"{optimum}/early": curve[early] for optimum, curve in curves.items()
    }


def train(algorithm: str, sampling: str, config, problems: dict, key) -> dict:
    """Expected rewards after every so many steps, for each (optimum, width)."""
    sizes = (config.bins, config.prompts, config.answers, config.data_draws)
    times = (config.rounds, config.steps // config.rounds, config.evaluate_every)
    curves = _train(
        algorithm,
        sizes,
        times,
        key,
        sampling == ON_POLICY,
        jnp.array([*problems.values()], float),
        dict(config.settings),
    )
    return dict(zip(problems, curves, strict=True))


def data_policy(key: jax.Array, bins: int, draws: int) -> jax.Array:
    """Log-probabilities of a histogram of tanh(Cauchy(-0.7, 0.4)) on [-1, 1]."""
    x = jnp.tanh(-0.7 + 0.4 * jax.random.cauchy(key, (draws,)))
    place = jnp.clip(((x + 1) / 2 * bins).astype(int), 0, bins - 1)
    counts = jnp.zeros(bins).at[place].add(1.0)
    return numerics.log_softmax(jnp.log(counts + 0.5))


def pairs_of(actions: jax.Array, rewards: jax.Array, gap: float = 0.0) -> tuple:
    """The better and the worse answer of all pairs of a prompt, and which count.

    Shapes: actions [..., N], rewards [..., N] -> [..., M], [..., M], [..., M]

    A pair counts if its rewards differ by more than ``gap``.
    """
    first, second = np.triu_indices(actions.shape[-1], 1)
    wins = rewards[..., first] >= rewards[..., second]
    better = jnp.where(wins, actions[..., first], actions[..., second])
    worse = jnp.where(wins, actions[..., second], actions[..., first])
    return better, worse, jnp.abs(rewards[..., first] - rewards[..., second]) > gap


def _pairwise(loss, gap=0.0):
    """Preferences between the answers of each prompt; the data policy is reference."""

    def values(logits, ref, actions, rewards, *_):
        better, worse, count = pairs_of(actions, rewards, gap)
        logps = numerics.log_softmax(logits)
        return numerics.masked_mean(
            loss(logps[better], logps[worse], ref[better], ref[worse]), count
        )

    return values


def _likelihood(loss):
    def values(logits, ref, actions, rewards, *_):
        rows = jnp.broadcast_to(logits, (len(actions), *logits.shape))
        return loss(rows, actions, rewards).mean()

    return values


def _reinforce(shift):
    def values(logits, ref, actions, rewards, advantages, _):
        logps = numerics.log_softmax(logits)[actions.ravel()]
        return losses.reinforce_loss(logps[:, None], shift(advantages.ravel())).mean()

    return values


def _ppo(clip):
    def values(logits, ref, actions, rewards, advantages, drawn):
        at = actions.ravel()
        logps = numerics.log_softmax(logits)[at]
        each = losses.ppo_clip_loss(
            logps[:, None],
            drawn[at][:, None],
            advantages.ravel(),
            clip_low=clip,
            clip_high=clip,
        )
        return each.mean()

    return values


def loss_of(algorithm: str, settings: dict) -> Callable:
    """(logits, reference, answers, rewards, advantages, whence drawn) -> a number."""

    def dpo(*logps):
        return losses.dpo_loss(*logps, beta=settings["dpo_beta"])

    def ipo(*logps):  # whose margin is 1 / (2 beta)
        beta = 0.5 / settings["ipo_margin"]
        return losses.ipo_loss(*logps, beta=beta, average_log_prob=False)

    def awr(*rows):
        return losses.awr_loss(*rows, temperature=settings["awr_temperature"])

    return {
        "best_of_n": lambda: _likelihood(losses.best_of_n_loss),
        "awr": lambda: _likelihood(awr),
        "dpo": lambda: _pairwise(dpo),
        "dpo_gap": lambda: _pairwise(dpo, settings["gap"]),
        "ipo": lambda: _pairwise(ipo),
        "reinforce": lambda: _reinforce(lambda a: a),
        "positive": lambda: _reinforce(lambda a: a - a.min()),
        "ppo": lambda: _ppo(settings["clip"]),
    }[algorithm]()


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _train(algorithm, sizes, times, key, on_policy, problems, settings):
    """Expected rewards after every so many steps, a row for each problem."""
    bins, prompts, answers, draws = sizes
    rounds, steps, every = times
    data_key, key = jax.random.split(key)
    ref = data_policy(data_key, bins, draws)
    loss = loss_of(algorithm, settings)
    optimizer = optax.adam(settings["learning_rate"])

    def train(problem):
        optimum, width = problem
        reward = jnp.exp(-(((jnp.arange(bins) - optimum) / width) ** 2))

        def play(carry, key):
            drawn = jnp.where(on_policy, numerics.log_softmax(carry[0]), ref)
            actions = jax.random.categorical(key, drawn, shape=(prompts, answers))
            rewards = reward[actions]
            advantages = rl.masked_whiten(rewards)

            def step(carry, _):
                logits, state = carry
                slope = jax.grad(loss)(logits, ref, actions, rewards, advantages, drawn)
                updates, state = optimizer.update(slope, state)
                return (optax.apply_updates(logits, updates), state), None

            def stretch(carry, _):
                carry, _ = jax.lax.scan(step, carry, None, every)
                return carry, jnp.exp(numerics.log_softmax(carry[0])) @ reward

            carry, curve = jax.lax.scan(stretch, carry, None, steps // every)
            return carry, curve

        start = ref, optimizer.init(ref)
        keys = jax.random.split(key, rounds)
        # Without answers of its own a policy sees those of the first round again.
        keys = jnp.where(on_policy, keys, keys[:1])
        _, curve = jax.lax.scan(play, start, keys)
        return jnp.append(jnp.exp(ref) @ reward, curve.ravel())

    return jax.lax.map(train, problems)


def _claims(config):
    bounds, claims = config.tolerances, []

    def gain(algorithm, optimum):
        arms = (arm_name(algorithm, sampling) for sampling in (ON_POLICY, OFFLINE))
        return report.ahead(optimum, *arms)

    def compared(text, ours, needs, at_least, **source):
        return report.Claim(
            text=text,
            ours=ours,
            at_least=at_least,
            over="mean",
            unit="of expected reward",
            needs=needs,
            **source,
        )

    for algorithm in config.pick:
        name = ALGORITHMS[algorithm].replace("\n", " ")
        far, near = gain(algorithm, "far"), gain(algorithm, "near")
        both = tuple(arm_name(algorithm, sampling) for sampling in SAMPLING)
        numbers = PROTOTYPE.get(algorithm)
        claims += [
            compared(
                f"{name}: own answers help where the optimum is far from the data",
                far,
                both,
                bounds.gain,
                reference=stated(
                    "on-policy sampling wins there",
                    f"{numbers[0]:g}" if numbers else "",
                ),
            ),
            compared(
                f"{name}: and help more than where it is near",
                lambda r, far=far, near=near: far(r) - near(r),
                both,
                0.0,
                reference=stated(
                    "offline data are enough there",
                    f"{numbers[0]:g} against {numbers[1]:g}" if numbers else "",
                ),
            ),
        ]
    first, second = (arm_name(name, ON_POLICY) for name in ("reinforce", "positive"))
    claims.append(
        compared(
            f"on-policy, REINFORCE is ahead of its positive part after {bounds.early} "
            "steps, far",
            report.ahead("far/early", first, second),
            (first, second),
            bounds.ahead,
            reference=stated("negative gradients are faster", "0.997 and 0.904"),
        )
    )
    for contrast in ("dpo", "ipo"):
        pair = arm_name(contrast, OFFLINE), arm_name("best_of_n", OFFLINE)
        claims.append(
            compared(
                f"offline {ALGORITHMS[contrast]} is ahead of best of N, far",
                report.ahead("far", *pair),
                pair,
                0.0,
                reference=stated(
                    "contrastive losses win offline", "not so with a table of logits"
                ),
            )
        )
    return claims
