"""Is a policy aligned sooner by whole distributions than by the rewards of its tokens?

A language model of tables: at each position the next token depends on the last one. A
reward of transitions is known; what DPO learns of it, with some noise, and what DPO
learns of swapped preferences are closed forms, by recursion from the last position
back. AlignDistil extrapolates the two into a teacher of each token. The policy learns
on its own samples by the divergence from that teacher, or by REINFORCE, whose token
reward has the same expected gradient.

Sources: AlignDistil, Zhang et al. 2025, arXiv:2503.02832; DPO, Rafailov et al. 2023,
arXiv:2305.18290.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.keys import all_seeds_at_once
from experiments.common.references import stated
from experiments.common.solvers import descended
from logitlab import losses, report, targets
from logitlab.train import Compute, Study

WAYS = {"distill": "whole distributions", "reinforce": "REINFORCE, token rewards"}
THEOREM, SWEEP = "theorem", "weights"


class World(NamedTuple):
    """Logits [T, K, K] of three models, and the reward [K, K] of a transition.

    Attributes:
      reference: before any preferences.
      dpo: trained on the preferences.
      reverse: trained on the swapped ones.
      reward: the true one.
    """

    reference: jax.Array
    dpo: jax.Array
    reverse: jax.Array
    reward: jax.Array


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    world = functools.partial(_world, **_sizes(config))
    made = {way: functools.partial(_trained, config, way) for way in WAYS}
    made[SWEEP] = lambda key: _swept(world(key), tuple(config.weights), config.scale)
    made[THEOREM] = lambda key: _theorem(key, world(key), config.beta)
    arms = {
        name: Compute(all_seeds_at_once(config, values))
        for name, values in made.items()
    }
    after = tuple(config.after)
    weights = tuple(config.weights)
    return Study(
        arms=arms,
        figures={
            "reward": report.trends(
                {n: f"reward/{n}" for n in after},
                label="true reward of a sequence",
                across="gradient step",
                arms=tuple(WAYS),
                log_across=True,
            ),
            "weights": report.trends(
                {w: f"weight_reward/{w:g}" for w in weights if w},
                label="true reward of a sequence",
                across="constant weight of the extrapolation",
                arms=(SWEEP,),
                log_across=True,
            ),
            "divergence": report.trends(
                {w: f"weight_kl/{w:g}" for w in weights if w},
                label="nats from the reference",
                across="constant weight of the extrapolation",
                arms=(SWEEP,),
                log_across=True,
            ),
        },
        claims=_claims(config),
        labels={**WAYS, SWEEP: "teachers of constant weight"},
        title="Token-level alignment as distillation",
        summary=(
            f"{config.tokens} tokens, {config.length} positions; rewards of "
            f"transitions from N(0, {config.reward:g}²), which DPO (beta "
            f"{config.beta:g}) sees with noise of deviation {config.noise:g}. Batches "
            f"of {config.batch_size} sequences of the policy, Adam at "
            f"{config.learning_rate:g}, {config.seeds} seeds. Rewards and divergences "
            "are exact expectations."
        ),
        captions={
            "reward": "Expected reward of the policy while it learns.",
            "weights": "Expected reward of the teachers; DPO's model has weight 0.",
            "divergence": "Their divergence from the reference, over a sequence.",
        },
    )


def _check(config):
    after, weights = tuple(config.after), tuple(config.weights)
    if not after or list(after) != sorted(set(after)) or after[0] < 1:
        raise ValueError(f"config.after is {after}, expected growing steps")
    if len(weights) < 3 or list(weights) != sorted(set(weights)) or weights[0] != 0:
        raise ValueError(
            f"config.weights is {weights}, expected 3 or more growing from 0"
        )
    if config.tokens < 2 or config.length < 1:
        raise ValueError(
            f"config.tokens is {config.tokens} and config.length {config.length}, "
            "expected at least 2 and 1"
        )


def _sizes(config):
    names = "tokens", "length", "reward", "noise", "beta"
    return {name: config[name] for name in names}


@functools.partial(jax.jit, static_argnames=("tokens", "length"))
def _world(key, *, tokens, length, reward, noise, beta):
    keys = jax.random.split(key, 3)
    reference = jax.random.normal(keys[0], (length, tokens, tokens))
    true = reward * jax.random.normal(keys[1], (tokens, tokens))
    seen = true + noise * jax.random.normal(keys[2], (tokens, tokens))
    return World(
        reference, tilted(reference, seen, beta), tilted(reference, -seen, beta), true
    )


def tilted(reference: jax.Array, reward: jax.Array, beta: jax.Array) -> jax.Array:
    r"""What DPO ends at with unlimited data: the reference, tilted by the reward.

    .. math:: \pi(x) \propto \pi_r(x) \exp(\sum_t r(x_{t-1}, x_t) / \beta)

    which is a model of the same kind, by the values of what may follow a token.

    Shapes: reference [T, K, K], reward [K, K] -> [T, K, K], log-probabilities
    """

    def back(value, log_probs):
        scores = log_probs + reward / beta + value[None]
        total = jax.nn.logsumexp(scores, -1)
        return total, scores - total[:, None]

    log_probs = jax.nn.log_softmax(reference)
    start = jnp.zeros(reward.shape[0])
    return jax.lax.scan(back, start, log_probs, reverse=True)[1]


def expected(logits: jax.Array, costs: jax.Array) -> jax.Array:
    """The sum over positions of what a model's transitions cost, from token 0 on.

    Shapes: logits [T, K, K], costs [T, K, K] -> []
    """
    probs = jax.nn.softmax(logits)

    def ahead(state, step):
        p, cost = step
        joint = state[:, None] * p
        return joint.sum(0), (joint * cost).sum()

    first = jax.nn.one_hot(0, logits.shape[-1])
    return jax.lax.scan(ahead, first, (probs, costs))[1].sum()


def outcome(logits: jax.Array, world: World) -> jax.Array:
    """True reward of a sequence and nats from the reference, [2]."""
    ratio = jax.nn.log_softmax(logits) - jax.nn.log_softmax(world.reference)
    rewards = jnp.broadcast_to(world.reward[None], logits.shape)
    return jnp.stack([expected(logits, rewards), expected(logits, ratio)])


def _sampled(key, policy, count):
    """Tokens before and after each transition of some sequences, [count, T] each."""

    def step(last, at):
        key, logits = at
        new = jax.random.categorical(key, logits[last])
        return new, (last, new)

    start = jnp.zeros(count, jnp.int32)
    keys = jax.random.split(key, len(policy))
    _, pair = jax.lax.scan(step, start, (keys, policy))
    return tuple(a.T for a in pair)


def token_losses(way, policy, world, last, new, *, beta, scale):
    """What the policy descends, for each token of its samples: [N, T].

    The reward of REINFORCE is what a token adds to the negative divergence.
    """
    at = jnp.arange(last.shape[1])[None], last
    z, d, other = (table[at] for table in (policy, world.dpo, world.reverse))
    if way == "distill":
        return losses.aligndistil_loss(z, d, other, beta=beta, scale=scale)
    weight = losses.adaptive_weight(d, other, scale=scale)
    teacher = targets.compose_teacher_logits(d, other, weight=weight)
    own, aim = (
        jnp.take_along_axis(jax.nn.log_softmax(a), new[..., None], -1)[..., 0]
        for a in (z, teacher)
    )
    return -own * jax.lax.stop_gradient(beta / weight * (aim - own))


@functools.partial(
    jax.jit, static_argnames=("way", "steps", "batch_size", "learning_rate")
)
def _path(key, world, beta, scale, *, way, steps, batch_size, learning_rate):
    """Reward and divergence before each step and after the last, [steps + 1, 2]."""

    def loss(policy, key):
        pair = _sampled(key, jax.lax.stop_gradient(policy), batch_size)
        return token_losses(way, policy, world, *pair, beta=beta, scale=scale).mean()

    return descended(
        jax.grad(loss),
        world.reference,
        optax.adam(learning_rate),
        batches=jax.random.split(key, steps),
        measure=lambda policy: outcome(policy, world),
    )[1]


def _trained(config, way, key):
    world = _world(key, **_sizes(config))
    path = _path(
        jax.random.fold_in(key, 1),
        world,
        config.beta,
        config.scale,
        way=way,
        steps=config.after[-1],
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
    )
    goal = outcome(world.dpo, world)[0]
    there = path[:, 0] >= goal
    arrived = jnp.where(there.any(), jnp.argmax(there) * 1.0, jnp.inf)
    numbers = {"arrived": arrived, "dpo": goal}
    for n in config.after:
        numbers[f"reward/{n}"], numbers[f"kl/{n}"] = path[n]
    return numbers


@functools.partial(jax.jit, static_argnames="weights")
def _swept(world, weights, scale):
    """Outcomes of teachers: of constant weights, and of the adaptive one."""

    def of(weight):
        teacher = targets.compose_teacher_logits(
            world.dpo, world.reverse, weight=weight
        )
        return outcome(teacher, world)

    numbers = {}
    for weight in weights:
        reward, kl = of(weight)
        numbers |= {f"weight_reward/{weight:g}": reward, f"weight_kl/{weight:g}": kl}
    adaptive = losses.adaptive_weight(world.dpo, world.reverse, scale=scale)
    numbers["adaptive_reward"], numbers["adaptive_kl"] = of(adaptive)
    return numbers


@jax.jit
def _theorem(key, world, beta, others=(0.5, 1.0, 2.0)):
    """How far reward less KL is from a constant less KL to the extrapolated model.

    Over random policies of each state; the constant is the first policy's.
    """
    policies = jax.random.normal(key, (8, *world.dpo.shape))
    log_pi, log_dpo, log_ref = (
        jax.nn.log_softmax(z) for z in (policies, world.dpo, world.reference)
    )
    off = []
    for other in others:
        share = beta / (other * beta)
        mixed = targets.compose_teacher_logits(
            world.dpo, world.reference, weight=share, contrastive=False
        )
        gain = beta * (log_dpo - log_ref)[None]
        value = gain - other * beta * (log_pi - log_ref[None])
        best = other * beta * (log_pi - jax.nn.log_softmax(mixed)[None])
        constant = (jnp.exp(log_pi) * (value + best)).sum(-1)
        off.append(jnp.abs(constant - constant[:1]).max())
    return {"off": jnp.stack(off).max()}


def _claims(config):
    t, weights = config.tolerances, tuple(config.weights)
    top = weights[-1]

    def swept(name):
        return lambda r, w: r[SWEEP].final(f"weight_{name}/{w:g}")

    reward, kl = swept("reward"), swept("kl")

    def falls(results):
        """From the weight that is best for the other seeds to the largest one."""
        rewards = np.stack([reward(results, w) for w in weights])
        others = rewards.sum(1, keepdims=True) - rewards
        best = np.take_along_axis(rewards, others.argmax(0)[None], 0)[0]
        return best - rewards[-1]

    def sooner(results):
        late, early = (results[w].final("arrived") for w in ("reinforce", "distill"))
        neither = np.isinf(late) & np.isinf(early)
        late, early = (np.where(neither, 1.0, steps) for steps in (late, early))
        return late / early

    return [
        report.Claim(
            text="reward less KL to the reference is a constant less KL to the "
            "extrapolated model, for any policy",
            reference="theorem 1: exact equality",
            ours=lambda r: r[THEOREM].final("off"),
            at_most=t.theorem,
            unit="off",
            needs=(THEOREM,),
        ),
        report.Claim(
            text="whole distributions reach the reward of DPO's model in fewer steps "
            "than token rewards",
            paper="more than twice as fast as scalar rewards",
            ours=sooner,
            at_least=t.sooner,
            over="median",
            unit="times the steps",
            needs=tuple(WAYS),
        ),
        report.Claim(
            text=f"at step {config.after[0]} their policy has the larger reward",
            reference=stated("faster convergence"),
            ours=lambda r: (
                r["distill"].final(f"reward/{config.after[0]}")
                - r["reinforce"].final(f"reward/{config.after[0]}")
            ),
            at_least=t.reward,
            over="mean",
            unit="more",
            needs=tuple(WAYS),
        ),
        report.Claim(
            text=f"the reward rises with the weight, from 0 to {weights[1]:g}",
            reference=stated("a small constant weight is too little"),
            ours=lambda r: reward(r, weights[1]) - reward(r, 0.0),
            at_least=t.reward,
            over="mean",
            unit="more",
            needs=(SWEEP,),
        ),
        report.Claim(
            text="beyond the best weight the reward falls",
            paper="weight 2.0 is too much: answers of 4434 tokens, not 2332",
            ours=falls,
            at_least=t.falls,
            over="mean",
            unit=f"more than at weight {top:g}",
            needs=(SWEEP,),
        ),
        report.Claim(
            text=f"the divergence at weight {top:g} is a multiple of that at 1",
            reference=stated("large weights over-optimize"),
            ours=lambda r: kl(r, top) / kl(r, 1.0),
            at_least=t.explodes,
            over="mean",
            unit="times",
            needs=(SWEEP,),
        ),
        report.Claim(
            text="at equal divergence the adaptive teacher has more reward than "
            "constant weights",
            question=True,
            ours=_at_equal_divergence(weights, reward, kl),
            at_least=t.reward,
            over="mean",
            unit="more",
            needs=(SWEEP,),
        ),
    ]


def _at_equal_divergence(weights, reward, kl):
    """The adaptive teacher's reward less that of constant weights at its divergence."""

    def ours(results):
        arm = results[SWEEP]
        rewards, spent = (
            np.stack([f(results, w) for w in weights]) for f in (reward, kl)
        )
        at = arm.final("adaptive_kl")
        rows = zip(at, spent.T, rewards.T, strict=True)
        return arm.final("adaptive_reward") - [np.interp(*row) for row in rows]

    return ours
