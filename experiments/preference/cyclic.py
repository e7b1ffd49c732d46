"""Where do self-play updates end if preferences go in a circle?

Each answer of a cycle beats the next one, so that there is no best answer, only a best
mixture: the Nash policy of a game, which the KL divergence from a reference makes
unique. INPO descends a squared loss of pairs that its policy drew and should arrive. A
reward model that is fitted anew to such pairs in every round, followed by the policy
that is best for it, as iterated DPO does it, chases the cycle.

Losses here are exact: expectations over all pairs of answers, minimised to rounding.

Source: Iterative Nash Policy Optimization, Zhang et al. 2024, arXiv:2407.00617.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.curves import drawn
from experiments.common.references import prototype, stated
from logitlab import losses, numerics, report, targets, theory
from logitlab.train import Compute, Study

INPO, REWARD = "inpo", "reward_model"
LABELS = {INPO: "INPO", REWARD: "refitted reward model"}
NEWTON_STEPS = 20  # of the reward model's fit; INPO's loss is quadratic
ROUNDING = 1e-15  # a gap that is not above counts as this one


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    gap = report.Panel("gap", "duality gap of the game", log=True)
    return Study(
        arms={
            name: Compute(functools.partial(_values, name, config)) for name in LABELS
        },
        figures={
            "gap": drawn(
                report.panels([[gap]], log_steps=False, across="round of self-play"),
                range(config.rounds + 1),
            )
        },
        claims=_claims(config),
        labels=LABELS,
        title="Self-play on cyclic preferences",
        summary=(
            f"{config.actions} answers, of which each beats the next with log-odds of "
            f"{config.cycle:g}, plus noise of {config.noise:g}; eta = {config.eta:g}, "
            f"tau = {config.tau:g}, a uniform reference, a random start."
        ),
        captions={
            "gap": (
                "How much the best responses to a policy win: 0 at the Nash policy "
                "only. Numbers below rounding are drawn as 0."
            )
        },
    )


def _check(config):
    if not config.x64:
        raise ValueError("config.x64 is False, expected True: gaps go below float32")
    if config.actions < 3:
        raise ValueError(
            f"config.actions is {config.actions}, expected at least 3, for a cycle"
        )
    if not 0 < config.tau <= config.eta:
        raise ValueError(
            f"config.tau is {config.tau}, config.eta {config.eta}; expected "
            "0 < tau <= eta"
        )
    if config.rounds < max(config.last, *config.tolerances.gap_after):
        raise ValueError(
            f"config.rounds is {config.rounds}, expected at least config.last and the "
            "rounds of config.tolerances.gap_after, "
            f"{(config.last, *config.tolerances.gap_after)}"
        )


def _values(method, config, key):
    curves = _play(
        method,
        (config.actions, config.rounds),
        key,
        (config.cycle, config.noise, config.start),
        config.eta,
        config.tau,
    )
    gap = curves["gap"]
    return {
        "gap_curve": jnp.where(gap < ROUNDING, 0, gap),
        "late": gap[-config.last :].mean(),
        "error": curves["error"].max(),
    } | {f"gap/{n}": gap[n] for n in config.tolerances.gap_after}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _play(method, sizes, key, scales, eta, tau):
    """Duality gaps before and after each round, and how far INPO misses its target."""
    actions, rounds = sizes
    cycle, noise, start = scales
    keys = jax.random.split(key)
    wins = cyclic_preferences(keys[0], actions, cycle, noise)
    ref = jnp.full(actions, -jnp.log(actions))
    first = numerics.log_softmax(start * jax.random.normal(keys[1], (actions,)))
    best, worst = np.indices((actions, actions)).reshape(2, -1)

    def of_pairs(prev, values):
        """The expectation of a loss over pairs that a policy draws."""
        chance = jnp.exp(prev[best] + prev[worst]) * wins[best, worst]
        return jnp.sum(chance * values)

    def gap(logps):
        return theory.duality_gap(jnp.exp(logps), wins, jnp.exp(ref), tau)

    def inpo(prev):
        def loss(logits):
            logps = numerics.log_softmax(logits)
            logps = [a[i] for a in (logps, ref, prev) for i in (best, worst)]
            return of_pairs(prev, losses.inpo_loss(*logps, eta=eta, tau=tau))

        logps = numerics.log_softmax(newton(loss, jnp.zeros(actions), 2))
        target = targets.omd_target(wins, prev, ref, eta=eta, tau=tau)
        return logps, jnp.abs(logps - target).max()

    def reward_model(prev):
        def loss(reward):
            values = losses.bradley_terry_loss(reward[best], reward[worst])
            return of_pairs(prev, values)

        reward = newton(loss, jnp.zeros(actions), NEWTON_STEPS)
        return numerics.log_softmax(ref + reward / tau), jnp.zeros(())

    def play(prev, _):
        logps, error = {INPO: inpo, REWARD: reward_model}[method](prev)
        return logps, {"gap": gap(logps), "error": error}

    _, curves = jax.lax.scan(play, first, None, rounds)
    return curves | {"gap": jnp.append(gap(first), curves["gap"])}


def cyclic_preferences(
    key: jax.Array, actions: int, cycle: jax.Array, noise: jax.Array
) -> jax.Array:
    """Probabilities [K, K] that the row's answer beats the column's.

    >>> wins = cyclic_preferences(jax.random.key(0), 3, 2.0, 0.0)
    >>> print((wins * 100).round())
    [[50. 88. 12.]
     [12. 50. 88.]
     [88. 12. 50.]]
    """
    ahead = jnp.roll(jnp.eye(actions), 1, 1)
    drawn = jnp.triu(jax.random.normal(key, (actions, actions)), 1)
    return jax.nn.sigmoid(cycle * (ahead - ahead.T) + noise * (drawn - drawn.T))


def newton(loss, start: jax.Array, steps: int) -> jax.Array:
    """Where Newton's method ends on a convex loss that ignores a common shift.

    Curvatures differ by many powers of ten if some answers are rare, so that they are
    scaled to 1 before the equations are solved.
    """

    def step(_, x):
        slope, bend = jax.grad(loss)(x), jax.hessian(loss)(x)
        scale = jax.lax.rsqrt(jnp.diagonal(bend))
        scaled = scale[:, None] * bend * scale[None]
        return x - scale * jnp.linalg.lstsq(scaled, scale * slope)[0]

    return jax.lax.fori_loop(0, steps, step, start)


def _claims(config):
    bounds = config.tolerances
    claims = [
        report.Claim(
            text="the minimiser of INPO's loss is the closed form, in every round",
            reference=f"theorem: exactly; {prototype('2e-9 nats')}",
            ours=lambda r: r[INPO].final("error"),
            at_most=bounds.error,
            unit="nats apart, at most",
            needs=(INPO,),
        )
    ]
    claims += [
        report.Claim(
            text=f"INPO's duality gap after {rounds} rounds",
            reference="theorem: converges to the Nash policy; "
            + prototype(f"below {most:g}"),
            ours=lambda r, rounds=rounds: r[INPO].final(f"gap/{rounds}"),
            at_most=most,
            needs=(INPO,),
        )
        for rounds, most in zip(bounds.gap_after, bounds.gap_below, strict=True)
    ]
    return claims + [
        report.Claim(
            text=f"over the last {config.last} rounds iterated reward models are worse",
            reference=stated(
                "no convergence where preferences are not transitive", "a gap of 0.7"
            ),
            ours=lambda r: (
                r[REWARD].final("late") / np.maximum(r[INPO].final("late"), ROUNDING)
            ),
            at_least=bounds.gap_ratio,
            unit="times INPO's gap",
            needs=(INPO, REWARD),
        )
    ]
