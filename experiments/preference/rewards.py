"""How should rewards of several properties be added up, if all of them matter?

A sum of raw rewards pays for one property with another. A log-sigmoid of each reward,
centred at what is just good enough (LSC), saturates for good answers, and the sum of
these is the log-probability that an answer is good in every respect. Both tilt the same
base policy, as far from it in KL divergence; and both choose the best of k answers
where one of the rewards can be hacked.

Source: Transforming and Combining Rewards for Aligning Large Language Models, Wang et
al. 2024, arXiv:2402.00742.
"""

import functools

import jax
import jax.numpy as jnp

from experiments.common.references import stated
from logitlab import numerics, report, rl
from logitlab.train import Compute, Study

LABELS = {
    "raw": "sum of raw rewards",
    "lsc": "sum of LSC rewards",
    "late": "LSC of the summed rewards",
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    hack = config.hack
    return Study(
        arms={
            name: Compute(functools.partial(_values, name, config)) for name in LABELS
        },
        figures={
            "both": report.trends(
                {kl: f"both/{kl:g}" for kl in config.divergences},
                label="answers good in both respects",
                across="KL divergence from the base policy (nats)",
            ),
            "hacked": report.trends(
                {k: f"hacked/{k}" for k in hack.best_of},
                label="hacked answers among the chosen",
                across="k, of which the best answer is chosen",
                log_across=True,
                arms=["raw", "lsc"],  # what is monotone in the sum chooses alike
            ),
        },
        claims=_claims(config),
        labels=LABELS,
        title="Rewards that are transformed before they are added up",
        summary=(
            f"{config.samples} answers of a base policy, with two Gaussian rewards of "
            f"standard deviation {config.scale:g} and correlation "
            f"{config.correlation:g}. Good is above the {config.good:.0%} quantile of "
            f"a reward, just good enough for LSC its {config.enough:.0%} quantile."
        ),
        captions={
            "both": "The base policy is tilted until its KL divergence is as given.",
            "hacked": (
                f"Of the answers {hack.share:.0%} have {hack.size:g} added to their "
                "first reward, for nothing that they are worth."
            ),
        },
    )


def _check(config):
    if not config.x64:
        raise ValueError("config.x64 is False, expected True: strengths are bisected")
    most = float(jnp.log(config.samples))
    if not config.divergences or not all(0 < kl < most for kl in config.divergences):
        raise ValueError(
            f"config.divergences is {tuple(config.divergences)}, expected numbers "
            f"between 0 and {most:.3g}, the largest from so many samples"
        )
    if config.claim_at not in config.divergences:
        raise ValueError(
            f"config.claim_at is {config.claim_at}, expected one of "
            f"config.divergences, {tuple(config.divergences)}"
        )
    for name in ("good", "enough"):
        if not 0 < config[name] < 1:
            raise ValueError(
                f"config.{name} is {config[name]}, expected between 0 and 1"
            )
    if not config.hack.best_of or min(config.hack.best_of) < 1:
        raise ValueError(
            f"config.hack.best_of is {tuple(config.hack.best_of)}, expected 1 and more"
        )


def utility(method: str, rewards: jax.Array, ref_rewards: jax.Array) -> jax.Array:
    """One number for each answer, of rewards [2, ...] and what is good enough, [2]."""
    ref = ref_rewards.reshape(-1, *(1,) * (rewards.ndim - 1))
    if method == "lsc":
        return rl.combine_rewards_and(rewards, ref)
    total = rewards.sum(0)
    return total if method == "raw" else rl.lsc_transform(total, ref.sum())


def _utility_at(place, rewards, ref_rewards):
    """That of the method at a place, which may be traced: one program for all."""
    branches = [functools.partial(utility, method) for method in LABELS]
    return jax.lax.switch(place, branches, rewards, ref_rewards)


def tilted(utilities: jax.Array, divergence: jax.Array) -> jax.Array:
    """Log-probabilities of samples, tilted by utilities, at a KL from even weights.

    The strength is bisected on a logarithmic scale.
    """

    def logps(log_strength):
        scale = utilities.std()
        return numerics.log_softmax(jnp.exp(log_strength) * utilities / scale)

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        z = logps(middle)
        kl = jnp.sum(jnp.exp(z) * z) + jnp.log(len(z))
        below = kl < divergence
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    ends = jnp.array(-15.0), jnp.array(15.0)
    return logps(jax.lax.fori_loop(0, 60, halve, ends)[0])


def _values(method, config, key):
    keys = jax.random.split(key)
    hack = config.hack
    place = list(LABELS).index(method)
    both = _tilt(
        config.samples,
        keys[0],
        place,
        jnp.asarray(config.divergences),
        (config.scale, config.correlation, config.good, config.enough),
    )
    values = {
        f"both/{kl:g}": mass for kl, mass in zip(config.divergences, both, strict=True)
    }
    hacked = _choose(
        (hack.prompts, max(hack.best_of)),
        tuple(hack.best_of),
        keys[1],
        place,
        (config.scale, config.correlation, hack.share, hack.size, config.enough),
    )
    values |= {
        f"hacked/{k}": rate for k, rate in zip(hack.best_of, hacked, strict=True)
    }
    if method == "lsc":
        values["identity"] = _identity(keys[0], config.samples, config.enough)
    return values


def draw(key: jax.Array, shape: tuple, scale: float, correlation: float) -> jax.Array:
    """Two Gaussian rewards, [2, ...]."""
    first, second = scale * jax.random.normal(key, (2, *shape))
    return jnp.stack(
        [first, correlation * first + jnp.sqrt(1 - correlation**2) * second]
    )


@functools.partial(jax.jit, static_argnums=0)
def _tilt(samples, key, place, divergences, settings):
    """Mass of the answers that are good in both respects, at each divergence."""
    scale, correlation, good, enough = settings
    rewards = draw(key, (samples,), scale, correlation)
    utilities = _utility_at(place, rewards, rl.reference_quantile(rewards, q=enough))
    bar = rl.reference_quantile(rewards, q=good)
    both = (rewards > bar[:, None]).all(0)

    def mass(divergence):
        return jnp.sum(jnp.exp(tilted(utilities, divergence)), where=both)

    return jax.lax.map(mass, divergences)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _choose(shape, best_of, key, place, settings):
    """Share of the prompts of which the best of k answers is a hacked one."""
    scale, correlation, share, size, enough = settings
    keys = jax.random.split(key)
    rewards = draw(keys[0], shape, scale, correlation)
    hacked = jax.random.bernoulli(keys[1], share, shape)
    ref = rl.reference_quantile(rewards.reshape(2, -1), q=enough)
    utilities = _utility_at(place, rewards.at[0].add(size * hacked), ref)
    chosen = (jnp.argmax(utilities[:, :k], -1) for k in best_of)
    return [jnp.take_along_axis(hacked, best[:, None], 1).mean() for best in chosen]


@functools.partial(jax.jit, static_argnums=1)
def _identity(key, samples, enough):
    """Largest gap between tilting by LSC utilities and by products of chances."""
    rewards = draw(key, (samples,), 1.0, 0.0)
    ref = rl.reference_quantile(rewards, q=enough)[:, None]
    by_utility = jax.nn.softmax(rl.combine_rewards_and(rewards, ref))
    product = jnp.prod(jax.nn.sigmoid(rewards - ref), 0)
    return jnp.abs(by_utility / (product / product.sum()) - 1).max()


def _claims(config):
    bounds, at, hack = config.tolerances, f"both/{config.claim_at:g}", config.hack
    claims = [
        report.Claim(
            text="tilting by summed LSC rewards is tilting by products of chances",
            reference="identity",
            ours=lambda r: r["lsc"].final("identity"),
            at_most=bounds.identity,
            unit="relative error, the largest",
            needs=("lsc",),
        )
    ]
    numbers = dict(raw="0.532 ± 0.029", late="0.507 ± 0.022")
    claims += [
        report.Claim(
            text=(
                f"at {config.claim_at:g} nats the {LABELS['lsc']} has more answers "
                f"good in both respects than the {LABELS[other]}"
            ),
            reference=stated("the LSC sum is a logical AND", f"0.664 against {number}"),
            ours=report.ahead(at, "lsc", other),
            at_least=bounds.gain,
            over="mean",
            unit="of the mass",
            needs=("lsc", other),
        )
        for other, number in numbers.items()
    ]
    most = max(hack.best_of)
    return claims + [
        report.Claim(
            text=f"of {most} answers LSC chooses a hacked one less often than raw sums",
            reference=stated("LSC mitigates reward hacking"),
            ours=report.ahead(f"hacked/{most}", "lsc", "raw", times=bounds.hacked),
            at_most=0.0,
            over="mean",
            unit=f"above {bounds.hacked:g} times the raw sum's rate",
            needs=("lsc", "raw"),
        )
    ]
