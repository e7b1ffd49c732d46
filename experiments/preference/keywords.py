"""Does telling apart how much was taken out of answers help a policy to rank them?

Answers are worth the number of key tokens in them. DPO learns from pairs of answers.
SPO learns at the same time to say how many key tokens were taken out of an answer, from
the mean of a small language model's last hidden states, with a head each for chosen and
for rejected answers. Both are judged by the rank correlation of implicit rewards with
what answers are worth that nobody trained on, degraded ones among them.

Source: Self-supervised Preference Optimization, Li et al. 2024, arXiv:2409.17791.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from experiments.common.keys import once_per_key
from experiments.common.ranks import rank_correlation
from experiments.common.references import BOUND, stated
from experiments.common.solvers import descended
from logitlab import losses, metrics, report, sequences
from logitlab.train import Compute, Study

CONTEXT = 3  # tokens that the next one depends on
HEADS = ("chosen_head", "rejected_head")
SCORE, PAIRS, LEVELS = "rank correlation", "pairs", "levels"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    problem = jax.jit(functools.partial(_problem, config))
    train = jax.jit(functools.partial(_train, config))  # one program for all weights

    def measure(key):
        given = problem(key)
        return {
            arm_name(gamma): train(key, jnp.asarray(gamma, float), *given)
            for gamma in config.gammas
        }

    measured = once_per_key(measure)
    labels = {
        arm_name(gamma): f"SPO, weight {gamma:g}" if gamma else "DPO"
        for gamma in config.gammas
    }
    return Study(
        arms={
            name: Compute(lambda key, name=name: measured(key)[name]) for name in labels
        },
        figures={
            "score": report.intervals(
                {"all": list(labels)},
                [label.replace(", ", ",\n") for label in labels.values()],
                SCORE,
                label="rank correlation with key tokens",
            ),
            "levels": report.intervals(
                {"all": list(labels)},
                [label.replace(", ", ",\n") for label in labels.values()],
                LEVELS,
                label="levels that the heads know",
            ),
        },
        claims=_claims(config),
        labels=labels,
        title="Answers without their key tokens",
        summary=(
            f"Answers of {config.length} tokens, {config.fewest} to {config.most} of "
            f"them key tokens; {config.pairs} pairs whose chosen answer has more. A "
            f"network of tanh units on the last {CONTEXT} tokens, first fitted to all "
            f"answers, then trained for {config.steps} steps of Adam with beta = "
            f"{config.beta:g}; {config.levels} levels take out a part of the key "
            "tokens or all."
        ),
        captions={
            "score": "Of implicit rewards, on answers that were not trained on, whole "
            "and degraded.",
            "levels": "DPO's heads are as they were drawn.",
        },
    )


def arm_name(gamma: float) -> str:
    """The arm of a weight of the self-supervised loss; DPO has none."""
    return f"spo_{gamma:g}" if gamma else "dpo"


def _check(config):
    if config.gammas[0] != 0 or min(config.gammas) < 0 or len(config.gammas) < 2:
        raise ValueError(
            f"config.gammas is {tuple(config.gammas)}, expected 0, which is DPO, and "
            "positive numbers"
        )
    if not 1 <= config.fewest < config.most <= min(config.length, config.key_tokens):
        raise ValueError(
            f"config.fewest is {config.fewest} and config.most {config.most}, expected "
            "growing numbers of key tokens, at most config.length and config.key_tokens"
        )


def draw(key: jax.Array, counts: jax.Array, config) -> dict:
    """Answers [..., T] with different key tokens; those below ``key_tokens`` are."""
    keys = jax.random.split(key, 3)
    shape = (*counts.shape, config.length)
    place = jnp.argsort(jax.random.uniform(keys[0], shape), -1)
    pool = jax.random.uniform(keys[1], (*counts.shape, config.key_tokens))
    chosen = jnp.argsort(pool, -1)
    mine = jnp.take_along_axis(chosen, jnp.minimum(place, config.key_tokens - 1), -1)
    others = jax.random.randint(keys[2], shape, config.key_tokens, config.tokens)
    tokens = jnp.where(place < counts[..., None], mine, others)
    return {"tokens": tokens, "mask": jnp.ones(shape, bool)}


def degraded(answers: dict, level: jax.Array, config) -> dict:
    """Answers without their first key tokens: all of them at the last level.

    Of n key tokens ``ceil(level * n / levels)`` go, as of ``data.degrade``'s phrases in
    the order of appearance.
    """
    tokens, mask = answers["tokens"], answers["mask"]
    is_key = (tokens < config.key_tokens) & mask
    gone = -(-level * is_key.sum(-1) // config.levels)
    taken = is_key & (jnp.cumsum(is_key, -1) <= gone[..., None])
    kept = mask & ~taken
    order = jnp.argsort(~kept, -1, stable=True)
    return {
        "tokens": jnp.take_along_axis(tokens, order, -1),
        "mask": jnp.take_along_axis(kept, order, -1),
    }


def init(key: jax.Array, config) -> dict:
    """Parameters of the language model and of two heads, variance 1 over fan-in."""
    shapes = {
        "embedding": (config.tokens + 1, config.embedding),  # the last one is no token
        "hidden": (CONTEXT * config.embedding, config.hidden),
        "out": (config.hidden, config.tokens),
        "chosen_head": (config.hidden, config.levels + 1),
        "rejected_head": (config.hidden, config.levels + 1),
    }
    keys = jax.random.split(key, len(shapes))
    params = {
        name: jax.random.normal(key, shape) / jnp.sqrt(shape[0])
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }
    return params | {"embedding": params["embedding"] * jnp.sqrt(config.tokens + 1)}


def read(params: dict, answers: dict) -> tuple[jax.Array, jax.Array]:
    """Log-probabilities of answers [N], and means of their hidden states [N, H]."""
    tokens, mask = answers["tokens"], answers["mask"]
    none = len(params["embedding"]) - 1
    padded = jnp.pad(tokens, [(0, 0), (CONTEXT, 0)], constant_values=none)
    length = tokens.shape[1]
    seen = jnp.stack([padded[:, at : at + length + 1] for at in range(CONTEXT)], -1)
    embedded = params["embedding"][seen].reshape(*seen.shape[:2], -1)
    states = jnp.tanh(embedded @ params["hidden"])  # before the first token, and after
    logits = states[:, :-1] @ params["out"]
    pooled = jnp.where(mask[..., None], states[:, 1:], 0).sum(1)
    return (
        sequences.sequence_log_prob(logits, tokens, mask=mask),
        pooled / jnp.maximum(mask.sum(1), 1)[:, None],
    )


def _problem(config, key):
    """Pairs, the policy that all begin with, and answers to judge by."""
    keys = jax.random.split(key, 6)
    counts = jax.random.randint(
        keys[0], (config.pairs + config.judged, 2), config.fewest, config.most + 1
    )
    less = jnp.where(counts[:, 1] < config.most, counts[:, 1] + 1, config.fewest)
    first = jnp.where(counts[:, 0] == counts[:, 1], less, counts[:, 0])
    second = counts[:, 1]
    more, fewer = jnp.maximum(first, second), jnp.minimum(first, second)
    counts = jnp.stack([more, fewer], 1)
    answers = draw(keys[1], counts, config)

    def side(at, some):
        return jax.tree.map(lambda leaf: leaf[some, at], answers)

    some, others = slice(config.pairs), slice(config.pairs, None)
    pairs, judged = (tuple(side(at, rows) for at in (0, 1)) for rows in (some, others))
    params = init(keys[2], config)

    def slope(params, at):
        def loss(params):
            return -sum(
                read(params, jax.tree.map(lambda leaf: leaf[at], part))[0].mean()
                for part in pairs
            )

        return jax.grad(loss)(params)

    batches = _batches(keys[3], config, config.fit_steps)
    adam = optax.adam(config.learning_rate)
    return descended(slope, params, adam, batches=batches)[0], pairs, judged


def _batches(key, config, steps):
    return jax.random.randint(key, (steps, config.batch_size), 0, config.pairs)


def _train(config, key, gamma, start, pairs, judged):
    """Numbers of one arm."""
    reference = [read(start, part)[0] for part in pairs]
    keys = jax.random.split(key, 2)

    def degrees(params, part, head, key):
        level = jax.random.randint(key, (len(part["tokens"]),), 0, config.levels + 1)
        pooled = read(params, degraded(part, level, config))[1]
        return pooled @ params[head], level

    def slope(params, batch):
        at, key = batch
        mine = [jax.tree.map(lambda leaf: leaf[at], part) for part in pairs]

        def loss(params):
            logps = [read(params, part)[0] for part in mine]
            refs = [part[at] for part in reference]
            align = losses.dpo_loss(*logps, *refs, beta=config.beta)
            degree = sum(
                losses.preference_degree_loss(*degrees(params, part, head, key))
                for part, head, key in zip(
                    mine, HEADS, jax.random.split(key), strict=True
                )
            )
            return losses.spo_loss(align, degree, gamma=gamma).mean()

        return jax.grad(loss)(params)

    batches = (
        _batches(keys[0], config, config.steps),
        jax.random.split(keys[1], config.steps),
    )
    adam = optax.adam(config.learning_rate)
    params = descended(slope, start, adam, batches=batches)[0]
    return _numbers(config, params, start, judged)


def _numbers(config, params, start, judged):
    def reward(answers):
        return read(params, answers)[0] - read(start, answers)[0]

    rewards, worth, known = [], [], []
    for part, head in zip(judged, HEADS, strict=True):
        for at in range(config.levels + 1):
            level = jnp.full(len(part["tokens"]), at)
            answers = degraded(part, level, config)
            rewards.append(reward(answers))
            keys = (answers["tokens"] < config.key_tokens) & answers["mask"]
            worth.append(keys.sum(-1))
            logits = read(params, answers)[1] @ params[head]
            known.append(logits.argmax(-1) == level)
    rewards, worth = jnp.concatenate(rewards), jnp.concatenate(worth)
    better, worse = (reward(part) for part in judged)
    return {
        SCORE: rank_correlation(rewards, worth),
        PAIRS: metrics.mean_of(better > worse),
        LEVELS: metrics.mean_of(jnp.concatenate(known)),
    }


def _claims(config):
    first = arm_name(config.gammas[1])
    bounds = config.tolerances

    def ahead(text, metric, unit, **more):
        return report.Claim(
            text=text,
            ours=report.ahead(metric, first, "dpo"),
            over="mean",
            unit=unit,
            needs=(first, "dpo"),
            **more,
        )

    return [
        ahead(
            "SPO's implicit rewards go with key tokens at least as well as DPO's",
            SCORE,
            "of the rank correlation",
            reference=stated("SPO improves DPO"),
            at_least=0.0,
        ),
        report.Claim(
            text="its heads learn how much was taken out",
            reference=f"{BOUND}: twice what chance gives",
            ours=lambda r: r[first].final(LEVELS),
            at_least=bounds.levels,
            over="mean",
            unit="of the levels right",
            needs=(first,),
        ),
        ahead(
            "SPO prefers the answer with more key tokens more often",
            PAIRS,
            "of the pairs",
            above=0.0,
            question=True,
        ),
    ]
