"""What does an attack on a battery's controller cost, and which one costs most?

A battery buys and sells at prices that are known for some hours ahead. A network learns
the optimal controller, found by dynamic programming; then what it observes is changed
a little in every hour. Its one output becomes two logits, below and above no action
(`bifurcate`), and the attack drives it to the other side (group difference logits),
as far as possible from what it did, or towards the action that costs most.

Source: group difference logits, arXiv:2407.05182.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.keys import once_per_key
from experiments.common.references import stated
from experiments.common.solvers import descended
from logitlab import attacks, models, report
from logitlab.train import Compute, Study

GROUP, AWAY, WORST = "group", "away", "worst"
LABELS = {
    GROUP: "group difference",
    AWAY: "away from the action",
    WORST: "to the worst action",
}
LEVELS, MOST, LOSS = 20, 4, 0.95  # of charge, of an hour's change; kept on the way


class Days(NamedTuple):
    """Prices, what is seen of them, and what each action costs in the end.

    Attributes:
      prices: [B, T], in [0, 1].
      ahead: [B, T, H], the prices of this hour and the next ones.
      costs: [B, T, LEVELS + 1, 2 * MOST + 1], of an action and the best ones after it;
        infinite where it is impossible.
    """

    prices: jax.Array
    ahead: jax.Array
    costs: jax.Array


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    numbers = jax.jit(functools.partial(_numbers, config))
    made = once_per_key(lambda key: _outcomes(config, numbers(key)))
    return Study(
        arms={name: Compute(lambda key, name=name: made(key)[name]) for name in LABELS},
        figures={
            "cost": report.trends(
                {eps: metric("lost", eps) for eps in config.eps},
                label="share of the battery's gain that is lost",
                across="largest change of an observation",
                bound=(1.0, "as good as no battery"),
            ),
        },
        claims=_claims(config),
        labels=LABELS,
        title="Attacks on a controller with one continuous action",
        summary=(
            f"A battery of {LEVELS / MOST:g} hours, {config.hours} hours of prices, of "
            f"which {config.ahead} are seen ahead. An MLP learns the action of a "
            f"dynamic program from {config.train} series; {config.test} others are "
            f"played with observations changed by {config.attack_steps} steps of PGD. "
            "What is lost is the rise of the cost, beside what the network gains over "
            "no battery."
        ),
        captions={
            "cost": "Each attack changes each observed number by no more than that."
        },
    )


def metric(what: str, eps: float) -> str:
    """What a number at one radius is called."""
    return f"{what}/{eps:g}"


def _check(config):
    if list(config.eps) != sorted(set(config.eps)) or min(config.eps) <= 0:
        raise ValueError(
            f"config.eps is {tuple(config.eps)}, expected growing positive radii"
        )
    if not 1 <= config.ahead <= config.hours:
        raise ValueError(
            f"config.ahead is {config.ahead}, expected 1 to config.hours, "
            f"{config.hours}"
        )


def price_series(key: jax.Array, count: int, hours: int) -> jax.Array:
    """Prices [count, hours] in [0, 1]: two peaks a day, and noise that lasts."""
    shift_key, noise_key = jax.random.split(key)
    t = jnp.arange(hours)[None] + 24 * jax.random.uniform(shift_key, (count, 1))
    waves = 0.2 * jnp.sin(2 * jnp.pi * t / 24) + 0.15 * jnp.sin(4 * jnp.pi * t / 24)
    noise = 0.06 * jax.random.normal(noise_key, (hours, count))

    def remember(last, new):
        now = 0.8 * last + new
        return now, now

    noise = jax.lax.scan(remember, jnp.zeros(count), noise)[1].T
    return jnp.clip(0.5 + waves + noise, 0, 1)


def paid(price, change):
    """What a change of the charge, in levels, costs: some is lost both ways."""
    energy = jnp.where(change > 0, change / LOSS, change * LOSS)
    return price * energy / LEVELS


def costs_to_go(prices: jax.Array) -> jax.Array:
    """``Days.costs`` by dynamic programming; what is left is worth the mean price."""
    changes = jnp.arange(-MOST, MOST + 1)
    levels = jnp.arange(LEVELS + 1)
    after = levels[:, None] + changes[None]
    possible = (after >= 0) & (after <= LEVELS)
    after = jnp.clip(after, 0, LEVELS)
    end = -prices.mean(1, keepdims=True) * levels[None] / LEVELS

    def before(later, price):
        now = paid(price[:, None, None], changes[None, None]) + later[:, after]
        now = jnp.where(possible[None], now, jnp.inf)
        return now.min(-1), now

    costs = jax.lax.scan(before, end, prices.T, reverse=True)[1]
    return jnp.moveaxis(costs, 0, 1)


def days(key: jax.Array, count: int, hours: int, ahead: int) -> Days:
    """Random series; beyond the last hour prices are those of the beginning."""
    prices = price_series(key, count, hours)
    at = (np.arange(hours)[:, None] + np.arange(ahead)[None]) % hours
    return Days(prices, prices[:, at], costs_to_go(prices))


def _policy(key, seen: Days, config):
    """A network that does as the dynamic program would: its action before the tanh."""
    model = models.MLP(widths=tuple(config.widths), classes=1)
    best = seen.costs.argmin(-1) - MOST  # [B, T, LEVELS + 1]

    def slope(params, key):
        keys = jax.random.split(key, 3)
        b, t, level = (
            jax.random.randint(k, (config.batch_size,), 0, n)
            for k, n in zip(keys, best.shape, strict=True)
        )
        x = jnp.concatenate([seen.ahead[b, t], level[:, None] / LEVELS], -1)
        wanted = best[b, t, level] / MOST
        return jax.grad(
            lambda p: jnp.mean((jnp.tanh(model.apply(p, x)[:, 0]) - wanted) ** 2)
        )(params)

    start = model.init(key, jnp.zeros((1, config.ahead + 1)))
    keys = jax.random.split(key, config.steps)
    optimizer = optax.adam(config.learning_rate)
    params, _ = descended(slope, start, optimizer, batches=keys)
    return lambda x: model.apply(params, x)[:, 0]


def played(policy, unseen: Days, key, attack=None):
    """Mean cost of a series, l2 norm of the changes, and share of other sides.

    ``attack`` takes observations, clean actions before their tanh, the worst actions,
    and a key; it returns what the policy observes.
    """
    changes = jnp.arange(-MOST, MOST + 1) / MOST

    def hour(charge, at):
        price, ahead, costs, key = at
        x = jnp.concatenate([ahead, charge[:, None] / LEVELS], -1)
        clean = policy(x)
        level = jnp.round(charge).astype(jnp.int32)
        options = jnp.take_along_axis(costs, level[:, None, None], 1)[:, 0]
        worst = changes[jnp.where(jnp.isinf(options), -jnp.inf, options).argmax(-1)]
        seen = x if attack is None else attack(x, clean, worst, key)
        done = policy(seen)
        change = jnp.clip(MOST * jnp.tanh(done), -charge, LEVELS - charge)
        length = jnp.linalg.norm(seen - x, axis=-1)
        other = (done >= 0) != (clean >= 0)
        return charge + change, (paid(price, change), length, other)

    hours = (
        unseen.prices.T,
        jnp.moveaxis(unseen.ahead, 1, 0),
        jnp.moveaxis(unseen.costs, 1, 0),
        jax.random.split(key, unseen.prices.shape[1]),
    )
    start = jnp.full(len(unseen.prices), LEVELS / 2)
    end, (cost, length, other) = jax.lax.scan(hour, start, hours)
    left = unseen.prices.mean(1) * (end - start) / LEVELS
    return (cost.sum(0) - left).mean(), length.mean(), other.mean()


def attack_on(policy, place, eps, steps):
    """The attack of a place in ``LABELS``, as :func:`played` takes it."""

    def attack(x, clean, worst, key):
        side = (clean >= 0).astype(jnp.int32)

        def group(z):
            return attacks.group_difference_logits(z, jnp.array([0, 1]), side)

        def away(z):
            return jnp.abs(jnp.tanh(z[:, 1]) - jnp.tanh(clean))

        def to_worst(z):
            return -jnp.abs(jnp.tanh(z[:, 1]) - worst)

        def logits_fn(x):
            # A third class, the label, always wins: so that the point of the largest
            # loss is kept, rather than any that changed sides.
            z = attacks.bifurcate(policy(x))
            return jnp.concatenate([z, jnp.full_like(z[:, :1], 1e9)], -1)

        return attacks.pgd(
            logits_fn,
            x,
            jnp.full(len(x), 2),
            eps=eps,
            steps=steps,
            key=key,
            loss=lambda z, y: jax.lax.switch(place, [group, away, to_worst], z[:, :2]),
        ).inputs

    return attack


def _numbers(config, key):
    """Cost without an attack, and numbers [attacks, radii] of each, in one program."""
    keys = jax.random.split(key, 4)
    series = functools.partial(days, hours=config.hours, ahead=config.ahead)
    policy = _policy(keys[0], series(keys[1], config.train), config)
    unseen = series(keys[2], config.test)

    def one(at):
        attack = attack_on(policy, *at, config.attack_steps)
        return played(policy, unseen, keys[3], attack)

    eps = jnp.float32(config.eps)
    places = jnp.repeat(jnp.arange(len(LABELS)), len(eps))
    found = jax.lax.map(one, (places, jnp.tile(eps, len(LABELS))))
    clean = played(policy, unseen, keys[3])[0]
    best = unseen.costs[:, 0, LEVELS // 2].min(-1) + unseen.prices.mean(1) / 2
    return clean, best.mean(), [a.reshape(len(LABELS), len(eps)) for a in found]


def _outcomes(config, numbers):
    """Name of an attack -> its numbers by radius; without a battery the cost is 0."""
    clean, best, (cost, length, other) = numbers
    rows = {
        "lost": (cost - clean) / -clean,
        "distortion": length,
        "other_side": other,
    }
    return {
        name: {"cost": clean, "best": best}
        | {
            metric(what, eps): values[i, j]
            for what, values in rows.items()
            for j, eps in enumerate(config.eps)
        }
        for i, name in enumerate(LABELS)
    }


def _margin(config, arm, other, results):
    """By how much of the battery's gain an attack costs more, where that is least."""
    rows = [
        results[arm].final(metric("lost", eps))
        - results[other].final(metric("lost", eps))
        for eps in config.eps
    ]
    return 100 * report.smallest_mean(rows)


def _saved(config, results):
    """Distortion that the attack to the worst action needs more for an equal cost.

    As a share of that of the group difference, at the radius in the middle.
    """

    def row(arm, what):
        values = [results[arm].final(metric(what, eps)) for eps in config.eps]
        return np.concatenate([np.zeros((1, len(values[0]))), values])

    at = 1 + len(config.eps) // 2
    lost, length = (row(WORST, what) for what in ("lost", "distortion"))
    wanted, own = (row(GROUP, what)[at] for what in ("lost", "distortion"))
    needed = [
        np.interp(w, np.maximum.accumulate(a), b)
        for w, a, b in zip(wanted, lost.T, length.T, strict=True)
    ]
    return np.array(needed) / own - 1


def _claims(config):
    more = "larger regret than an untargeted attack"
    less = "far less distortion than optimal targeting"
    return [
        report.Claim(
            text="the group difference costs more than an attack away from the action",
            reference=stated(more),
            ours=functools.partial(_margin, config, GROUP, AWAY),
            above=0.0,
            over="mean",
            unit="points of the gain, at the radius where it is least",
            needs=(GROUP, AWAY),
        ),
        report.Claim(
            text="for an equal cost it changes less than one to the worst action",
            reference=stated(less),
            ours=functools.partial(_saved, config),
            above=0.0,
            over="mean",
            format=".1%",
            needs=(GROUP, WORST),
        ),
        report.Claim(
            text="the attack to the worst action costs more at an equal radius",
            question=True,
            ours=functools.partial(_margin, config, WORST, GROUP),
            above=0.0,
            over="mean",
            unit="points of the gain, at the radius where it is least",
            needs=(GROUP, WORST),
        ),
        report.Claim(
            text="the network gains most of what is possible without an attack",
            question=True,
            ours=lambda r: r[GROUP].final("cost") / r[GROUP].final("best"),
            at_least=config.tolerances.gain,
            over="mean",
            format=".1%",
            needs=(GROUP,),
        ),
    ]
