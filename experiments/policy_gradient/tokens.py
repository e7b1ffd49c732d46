"""Do rewards of single tokens, from preferences, speed up learning from one at the end?

Sequences of tokens whose hidden worths add up. DPO learns a policy from preferences
between random sequences; RTO uses what it learned as a reward of each token, beside the
reward of the whole sequence. The policies are tables, their worth is exact.

Source: RTO, Zhong et al. 2024, arXiv:2404.18922.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from experiments.common.claims import ahead
from experiments.common.references import prototype, stated
from experiments.common.solvers import descended
from logitlab import losses, report, rl
from logitlab.train import Compute, Study

SPARSE, RTO, DPO = "sparse", "rto", "dpo"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    settings = dict(
        positions=config.positions,
        tokens=config.tokens,
        pairs=config.pairs,
        dpo_steps=config.dpo.steps,
        updates=config.updates,
        batch=config.batch,
    )
    numbers = dict(
        beta=config.dpo.beta,
        dpo_rate=config.dpo.learning_rate,
        rate=config.learning_rate,
        scale=config.scale,
        kl_coef=config.kl_coef,
    )

    def values(method, key):
        worths = fractions(method, key, **settings, **numbers)
        return {f"worth/{n}": worths[n] for n in config.after}

    return Study(
        arms={
            name: Compute(functools.partial(values, name))
            for name in (SPARSE, RTO, DPO)
        },
        figures={
            "worth": report.trends(
                {n: f"worth/{n}" for n in config.after},
                label="worth of the policy (0: uniform, 1: best)",
                across="policy-gradient updates",
            )
        },
        claims=_claims(config),
        labels={
            SPARSE: "policy gradient, reward at the end",
            RTO: "RTO: a reward for each token too",
            DPO: "DPO alone",
        },
        title="Rewards of tokens from preferences",
        summary=(
            f"{config.positions} positions, {config.tokens} tokens, standard normal "
            f"worths that add up; {config.pairs} preferences (Bradley-Terry) between "
            f"uniform sequences. {config.batch} sequences an update, rewards to go "
            "whitened over the batch."
        ),
        captions={
            "worth": (
                "Expected worth, exactly, as a share of the way from the uniform to "
                "the best policy."
            )
        },
    )


def _check(config):
    for name in ("positions", "tokens", "pairs", "batch", "updates"):
        least = 2 if name in ("tokens", "batch") else 1
        if config[name] < least:
            raise ValueError(
                f"config.{name} is {config[name]}, expected at least {least}"
            )
    t = config.tolerances
    asked = {*t.ahead_after, config.updates}
    if not asked <= set(config.after):
        raise ValueError(
            f"config.after is {tuple(config.after)}, expected "
            f"{', '.join(map(str, sorted(asked)))} among them"
        )
    if not 0 <= min(config.after) <= max(config.after) <= config.updates:
        raise ValueError(
            f"config.after is {tuple(config.after)}, expected 0 to {config.updates}"
        )


@functools.partial(
    jax.jit,
    static_argnums=0,
    static_argnames=("positions", "tokens", "pairs", "dpo_steps", "updates", "batch"),
)
def fractions(
    method: str,
    key: jax.Array,
    *,
    positions: int,
    tokens: int,
    pairs: int,
    dpo_steps: int,
    updates: int,
    batch: int,
    beta: float,
    dpo_rate: float,
    rate: float,
    scale: float,
    kl_coef: float,
) -> jax.Array:
    """Worth of the policy before each update and after the last, [updates + 1]."""
    keys = jax.random.split(key, 3)
    worth = jax.random.normal(keys[0], (positions, tokens))
    dpo = fit_dpo(keys[1], worth, pairs, beta=beta, rate=dpo_rate, steps=dpo_steps)
    if method == DPO:
        return jnp.full(updates + 1, fraction(dpo, worth))
    uniform = jnp.zeros_like(worth)
    dense = scale if method == RTO else 0.0

    def loss(policy, key):
        fixed = jax.lax.stop_gradient(policy)
        sampled = jax.random.categorical(key, fixed, shape=(batch, positions))
        logps = _logps(policy, sampled)
        ref, wanted = _logps(uniform, sampled), _logps(dpo, sampled)
        rewards = rl.rto_token_rewards(
            logps,
            ref,
            wanted,
            standardised(worth, sampled),
            kl_coef=kl_coef,
            scale=dense,
            clip=0.0,
        )
        to_go, _ = rl.gae(rewards, jnp.zeros_like(rewards), gamma=1.0, lam=1.0)
        each = losses.ppo_clip_loss(
            logps, jax.lax.stop_gradient(logps), rl.masked_whiten(to_go)
        )
        return rl.aggregate_tokens(each, mode="constant", constant=1.0)

    return descended(
        jax.grad(loss),
        uniform,
        optax.sgd(rate),
        batches=jax.random.split(keys[2], updates),
        measure=lambda policy: fraction(policy, worth),
    )[1]


def fraction(policy: jax.Array, worth: jax.Array) -> jax.Array:
    """Expected worth between that of the uniform policy, 0, and the best, 1."""
    chance = worth.mean(-1).sum()
    mine = jnp.sum(jax.nn.softmax(policy) * worth)
    return (mine - chance) / (worth.max(-1).sum() - chance)


def standardised(worth: jax.Array, sampled: jax.Array) -> jax.Array:
    """Worth of sequences [B, T] in deviations from the mean of uniform ones, [B]."""
    total = worth[jnp.arange(len(worth))[None], sampled].sum(-1)
    return (total - worth.mean(-1).sum()) / jnp.sqrt(worth.var(-1).sum())


def fit_dpo(
    key: jax.Array,
    worth: jax.Array,
    pairs: int,
    *,
    beta: float,
    rate: float,
    steps: int,
) -> jax.Array:
    """The table that DPO learns from preferences between uniform sequences."""
    draw, choose = jax.random.split(key)
    positions, tokens = worth.shape
    both = jax.random.randint(draw, (2, pairs, positions), 0, tokens)
    first, second = worth[jnp.arange(positions)[None, None], both].sum(-1)
    swap = ~jax.random.bernoulli(choose, jax.nn.sigmoid(first - second))
    chosen, rejected = jnp.where(swap[:, None], both[::-1], both)
    uniform = jnp.zeros_like(worth)
    reference = [_logps(uniform, s).sum(-1) for s in (chosen, rejected)]

    def loss(policy):
        ours = [_logps(policy, s).sum(-1) for s in (chosen, rejected)]
        return losses.dpo_loss(*ours, *reference, beta=beta).mean()

    return descended(jax.grad(loss), uniform, optax.adam(rate), steps=steps)[0]


def _logps(policy, sampled):
    """Log-probabilities of tokens [B, T] under a table [T, C]."""
    logps = jax.nn.log_softmax(policy)
    return logps[jnp.arange(len(policy))[None], sampled]


def _claims(config):
    t, last = config.tolerances, config.updates
    numbers = {30: "0.426 against 0.321", 100: "0.896 against 0.825"}

    def compared(text, arm, other, after, reference, **bounds):
        return ahead(
            text,
            f"worth/{after}",
            arm,
            other,
            reference=reference,
            over="mean",
            unit="of the way",
            **bounds,
        )

    claims = [
        compared(
            f"rewards of tokens are ahead after {after} updates",
            RTO,
            SPARSE,
            after,
            stated("ahead", numbers.get(after, "")),
            at_least=t.ahead,
        )
        for after in t.ahead_after
    ]
    claims.append(
        compared(
            "in the end there is no difference",
            RTO,
            SPARSE,
            last,
            prototype("0.989 against 0.987"),
            equals=0.0,
            within=t.equal_within,
        )
    )
    claims += [
        compared(
            f"{words} ends above DPO alone",
            arm,
            DPO,
            last,
            prototype(f"{number} against 0.726"),
            at_least=t.above_dpo,
        )
        for arm, words, number in (
            (RTO, "RTO", "0.989"),
            (SPARSE, "the reward at the end alone", "0.987"),
        )
    ]
    return claims
