"""Does guessing that the next gradient is the last one pay, when losses change slowly?

Quadratic losses around a center that stands still, moves at random, runs along a circle
or jumps from side to side. Optimistic mirror descent, whose step shrinks with what its
guesses miss, is held against online gradient descent with a step of one over the root
of the round. Regrets are against the best fixed point in hindsight.

Source: Chen et al. 2023, arXiv:2302.04552.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.references import stated
from logitlab import optim, report
from logitlab.train import Compute, Study

OPTIMISTIC, PLAIN = "optimistic", "plain"
LABELS = {OPTIMISTIC: "optimistic mirror descent", PLAIN: "online gradient descent"}
RADIUS = 1.0  # of the ball that is played in; centers lie in it, but for noise
GRADIENT = 2.0  # the largest, without noise


def build(config) -> Study:
    """The study; nothing here plays, writes or prints."""
    _check(config)
    horizons, middle = config.horizons, config.sigmas[len(config.sigmas) // 2]
    last = horizons[-1]
    return Study(
        arms={
            name: Compute(functools.partial(regrets, name, config)) for name in LABELS
        },
        figures={
            "noise": report.trends(
                {t: f"noise/{middle:g}/{t}" for t in horizons},
                label=f"regret, noise of deviation {middle:g}",
                across="rounds",
                log=True,
                log_across=True,
            ),
            "drift": report.trends(
                {turns: f"drift/{turns}/{last}" for turns in config.turns},
                label=f"regret after {last} rounds",
                across="turns of the center on its circle",
                log_across=True,
            ),
        },
        claims=_claims(config),
        labels=LABELS,
        title="Optimism against losses that stand still, move and jump",
        summary=(
            f"Half squared distances from a center in the plane, played in the unit "
            f"disc; {last} rounds. Regret is what is lost more than by the best fixed "
            "point in hindsight; where the center moves it may be negative. Only noise "
            "differs from seed to seed."
        ),
        captions={
            "noise": "The center is drawn anew each round.",
            "drift": "The center runs on a circle of radius 0.8.",
        },
    )


def _check(config):
    horizons = tuple(config.horizons)
    if sorted(set(horizons)) != list(horizons) or len(horizons) < 2:
        raise ValueError(f"config.horizons is {horizons}, expected two, growing")
    for name in ("sigmas", "turns"):
        values = tuple(config[name])
        if sorted(set(values)) != list(values) or not values or values[0] <= 0:
            raise ValueError(
                f"config.{name} is {values}, expected growing numbers above 0"
            )


def centers(key: jax.Array, config) -> dict[str, jax.Array]:
    """The centers of all rounds, [T, 2], of each kind of change."""
    rounds = config.horizons[-1]
    still = jnp.float32([0.5, 0.5])
    noise = jax.random.normal(key, (rounds, 2))
    found = {"fixed": jnp.broadcast_to(still, (rounds, 2))}
    found |= {f"noise/{s:g}": still[None] + s * noise for s in config.sigmas}
    for turns in config.turns:
        angle = 2 * jnp.pi * turns * jnp.arange(rounds) / rounds
        circle = jnp.stack([jnp.cos(angle), jnp.sin(angle)], -1)
        found[f"drift/{turns}"] = 0.8 * circle
    side = jnp.where(jnp.arange(rounds) % 2 == 0, 1.0, -1.0)
    found["jumps"] = jnp.stack([side, jnp.zeros(rounds)], -1)
    return found


def regrets(name: str, config, key: jax.Array) -> dict:
    """Regret of a learner at every horizon, for every kind of change."""
    found = centers(key, config)
    all_centers = jnp.stack(list(found.values()))
    values = _regrets(name, tuple(config.horizons), float(config.offset), all_centers)
    return {
        f"{kind}/{t}": values[i, j]
        for i, kind in enumerate(found)
        for j, t in enumerate(config.horizons)
    }


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _regrets(name, horizons, offset, all_centers):
    lost = jax.vmap(functools.partial(played, name, offset))(all_centers)
    columns = []
    for t in horizons:
        best = project(all_centers[:, :t].mean(1))
        least = jnp.square(best[:, None] - all_centers[:, :t]).sum(-1).sum(-1) / 2
        columns.append(lost[:, :t].sum(-1) - least)
    return jnp.stack(columns, -1)


def played(name: str, offset: float, moving: jax.Array) -> jax.Array:
    """Losses of a learner that starts in the middle, [T]."""
    if name == OPTIMISTIC:
        transform = optim.optimistic_omd(
            2 * RADIUS, offset=offset, projection=lambda x: project(x[None])[0]
        )
    else:
        transform = _projected(lambda t: 2 * RADIUS / (GRADIENT * jnp.sqrt(t + 1.0)))
    start = jnp.zeros(2, moving.dtype)

    def round_(carry, center):
        x, state = carry
        gap = x - center
        change, state = transform.update(gap, state, x)
        return (x + change, state), jnp.square(gap).sum() / 2

    return jax.lax.scan(round_, (start, transform.init(start)), moving)[1]


def project(x: jax.Array) -> jax.Array:
    """The nearest points of the disc, of rows."""
    length = jnp.linalg.norm(x, axis=-1, keepdims=True)
    return x * jnp.minimum(1, RADIUS / jnp.maximum(length, 1e-9))


def _projected(schedule):
    def init(params):
        del params
        return jnp.zeros((), jnp.int32)

    def update(grads, count, params):
        new = project((params - schedule(count) * grads)[None])[0]
        return new - params, count + 1

    return optax.GradientTransformation(init, update)


def _claims(config):
    bounds, sigmas = config.tolerances, config.sigmas
    first, last = config.horizons[0], config.horizons[-1]
    middle = sigmas[len(sigmas) // 2]

    def final(results, arm, metric):
        return results[arm].final(metric)

    def exponent_in_rounds(r):
        many = final(r, OPTIMISTIC, f"noise/{middle:g}/{last}")
        few = final(r, OPTIMISTIC, f"noise/{middle:g}/{first}")
        return np.log(many / few) / np.log(last / first)

    def exponent_in_noise(r):
        loud = final(r, OPTIMISTIC, f"noise/{sigmas[-1]:g}/{last}")
        quiet = final(r, OPTIMISTIC, f"noise/{sigmas[0]:g}/{last}")
        return np.log(loud / quiet) / np.log(sigmas[-1] / sigmas[0])

    claims = [
        report.Claim(
            text="against a fixed loss the regret stops growing",
            reference="theorem: O(1) without noise and change",
            ours=lambda r: (
                final(r, OPTIMISTIC, f"fixed/{last}")
                / final(r, OPTIMISTIC, f"fixed/{first}")
            )[0],
            at_most=bounds.stops,
            over="all",
            unit=f"times the regret after {first} rounds",
            needs=(OPTIMISTIC,),
        ),
        report.Claim(
            text=f"noise of {middle:g}: the regret grows like the root of the rounds",
            reference="theorem: at most so",
            ours=exponent_in_rounds,
            equals=0.5,
            within=bounds.exponent,
            over="mean",
            unit="is the exponent",
            needs=(OPTIMISTIC,),
        ),
    ]
    if len(sigmas) > 1:
        claims.append(
            report.Claim(
                text=f"after {last} rounds it is in proportion to the noise",
                reference="theorem: at most so",
                ours=exponent_in_noise,
                equals=1.0,
                within=2 * bounds.exponent,
                over="mean",
                unit="is the exponent",
                needs=(OPTIMISTIC,),
            )
        )
    slow = config.turns[0]
    return claims + [
        report.Claim(
            text=f"a slow center ({slow:g} around its circle): optimism loses less",
            reference=stated("the regret falls with the changes of the losses"),
            ours=lambda r: report.ahead(f"drift/{slow}/{last}", PLAIN, OPTIMISTIC)(r)[
                0
            ],
            above=0.0,
            over="all",
            unit="less regret",
            needs=(OPTIMISTIC, PLAIN),
        ),
        report.Claim(
            text="a center that jumps from side to side: it loses up to twice as much",
            reference=stated("never much worse than without a guess"),
            ours=lambda r: (
                final(r, OPTIMISTIC, f"jumps/{last}") / final(r, PLAIN, f"jumps/{last}")
            )[0],
            at_most=bounds.jumps,
            over="all",
            unit="times the regret of gradient descent",
            needs=(OPTIMISTIC, PLAIN),
        ),
    ]
