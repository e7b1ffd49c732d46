"""How can right answers be made shorter without making them fewer?

A policy thinks, token by token, and answers A or B when it likes; each prompt takes its
own number of thoughts to be seen, and before it an answer is a guess. GRPO with a
length penalty in the reward punishes long right answers; DRPO weighs right answers
among themselves, the shorter ones more, and pushes none of them down. Either every
prompt has its own table of logits, or all share one, over what they know of the prompt.

Sources: DRPO 2025, arXiv:2510.04474; GRPO, Shao et al. 2024, arXiv:2402.03300.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.policy_gradient import _length_claims as shown
from logitlab import losses, metrics, rl, sequences
from logitlab.train import Compute, Run, Study
from logitlab.train.config import check_name

THINK = 0  # the token; A and B come after it
KINDS = {"table": "a table for each prompt", "shared": "one table for all"}
METHODS = {"drpo": "DRPO", "grpo": "GRPO with a penalty"}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    knobs = {"drpo": config.lams, "grpo": config.alphas}
    arms, labels = {}, {}
    prompts = make_prompts(config)
    for kind in config.kinds:
        where = KINDS[check_name(kind, KINDS, "config.kinds")]
        for method, words in METHODS.items():
            at = functools.partial(_run, config, prompts, kind, method)
            symbol = "λ" if method == "drpo" else "α"
            for knob in knobs[method]:
                name = shown.arm(kind, method, knob)
                values = {"knob": float(knob)}
                arms[name] = dataclasses.replace(at(values), values=values, at=at)
                labels[name] = f"{words}, {symbol} = {knob:g}, {where}"
    arms["weights"] = Compute(lambda key: one_group(config.group))
    labels["weights"] = "one group"
    return Study(
        arms=arms,
        figures={"frontier": functools.partial(shown.draw, config)},
        claims=shown.claims(config),
        labels=labels,
        title="Shorter right answers",
        summary=(
            f"{config.prompts} prompts that take 0 to {config.thoughts - 1} thoughts "
            f"to be seen, answers of 1 to {config.thoughts} tokens; "
            f"{config.rollouts} answers to each prompt an update, {config.steps} "
            "updates. Accuracy and the mean length of right answers, as a share of the "
            "longest, are exact."
        ),
        captions={
            "frontier": (
                "Left: prompts that share nothing, where all are accurate. "
                "Right: prompts that share their logits; up is right, left is short."
            )
        },
    )


def _check(config):
    for name, least in (("prompts", 1), ("thoughts", 2), ("rollouts", 2), ("steps", 1)):
        if config[name] < least:
            raise ValueError(
                f"config.{name} is {config[name]}, expected at least {least}"
            )
    if len(config.lams) < 2 or min(config.lams) <= 0:
        raise ValueError(
            f"config.lams is {tuple(config.lams)}, expected two or more above 0"
        )
    if not config.alphas or min(config.alphas) < 0:
        raise ValueError(f"config.alphas is {tuple(config.alphas)}, expected 0 or more")


def make_prompts(config) -> dict[str, jax.Array]:
    """What the policy knows, logits x [N, T, 3], and the right answer, y int32 [N]."""
    at = jnp.arange(config.prompts)
    needed = at * config.thoughts // config.prompts  # thoughts, evenly spread
    y = at % 2
    seen = jnp.arange(config.thoughts)[None] >= needed[:, None]
    lead = jnp.where(seen, config.sure, 0.0) * (1 - 2 * y[:, None]) / 2
    think = jnp.full_like(lead, config.thinks).at[:, -1].set(-jnp.inf)
    return {"x": jnp.stack([think, lead, -lead], -1), "y": y, "row": at}


def answers(z: jax.Array, key: jax.Array, rollouts: int):
    """Tokens [N, G, T] and which of them come before the answer or are it."""
    shape = z.shape[0], rollouts, z.shape[1]
    tokens = jax.random.categorical(key, z[:, None], shape=shape)
    given = jnp.cumsum(tokens != THINK, -1)
    return tokens, (given - (tokens != THINK)) == 0


def outcome(z: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Probability of a right answer of each length: [N, T], and the lengths [T]."""
    p = jax.nn.softmax(z)
    going = jnp.cumprod(p[..., THINK], -1)
    going = jnp.concatenate([jnp.ones_like(going[:, :1]), going[:, :-1]], -1)
    right = jnp.take_along_axis(p, 1 + y[:, None, None], -1)[..., 0]
    return going * right, jnp.arange(1, z.shape[1] + 1)


def _run(config, prompts, kind, method, values) -> Run:
    rows = config.prompts if kind == "table" else 1
    longest, group = config.thoughts, np.zeros(config.rollouts, np.int32)

    def init(key):
        del key  # the policy starts from what it knows
        return {"logits": jnp.zeros((rows, longest, 3), jnp.float32)}

    def logits_of(params, batch):
        own = params["logits"][batch["row"] if kind == "table" else 0 * batch["row"]]
        return batch["x"] + own

    def loss(params, batch, key):
        z = logits_of(params, batch)
        tokens, mask = answers(jax.lax.stop_gradient(z), key, config.rollouts)
        many = jnp.broadcast_to(z[:, None], (*tokens.shape, 3))
        logps = sequences.token_log_prob(many, jnp.where(mask, tokens, 1))
        old = jax.lax.stop_gradient(logps)
        last = jnp.max(jnp.where(mask, tokens, THINK), -1)
        right = (last == 1 + batch["y"][:, None]).astype(jnp.float32)
        if method == "drpo":

            def one(lp, old, right, mask):
                return losses.drpo_loss(
                    lp,
                    old,
                    right,
                    group,
                    max_length=longest,
                    lam=values["knob"],
                    tau=config.tau,
                    mask=mask,
                )

            return jax.vmap(one)(logps, old, right, mask)
        a = rl.group_advantages(
            penalised(right, mask.sum(-1) / longest, values["knob"])
        )
        each = losses.ppo_clip_loss(logps, old, a, mask=mask)
        mean = functools.partial(rl.aggregate_tokens, mode="sequence_mean")
        return jax.vmap(mean)(each, mask)

    def evaluate(params, parts):
        train = parts["train"]
        right, lengths = outcome(logits_of(params, train), train["y"])
        share = lengths.astype(right.dtype)[None] / longest
        return {
            "accuracy": metrics.mean_of(right.sum(-1)),
            "length": metrics.Mean((right * share).sum(), right.sum()),
        }

    return Run(
        init=init,
        loss=loss,
        data={"train": prompts},
        optimizer=optax.adam(config.learning_rate),
        evaluate=evaluate,
        steps=config.steps,
        evaluate_at=sorted({round(config.steps * i / 20) for i in range(21)}),
        show=("accuracy", "length"),
    )


def penalised(right: jax.Array, share: jax.Array, alpha) -> jax.Array:
    """Rewards of 1 less the penalty for right answers, 0 for wrong ones."""
    return right * (1 - alpha * share)


def one_group(config) -> dict[str, jax.Array]:
    """Advantages and weights of the right answers of one group, three being wrong."""
    lengths = np.array([*config.lengths, *config.lengths], np.float32)
    right = np.repeat(np.float32([1, 0]), len(config.lengths))
    numbers = {}
    for alpha in config.alphas:
        r = penalised(right, lengths / config.max_length, alpha)
        numbers[f"grpo/{alpha:g}"] = rl.group_advantages(r)
    for lam in config.lams:
        numbers[f"drpo/{lam:g}"] = rl.length_weights(
            lengths, right, lam=lam, max_length=config.max_length
        )
    return {
        f"{name}/{length}": row[i]
        for name, row in numbers.items()
        for i, length in enumerate(config.lengths)
    }
