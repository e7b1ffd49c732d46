"""When are several actions worth one estimate?

Sixty-four actions in eight clusters, each sampled as often as any other with noise. One
learns the means of groups of actions, takes the best group and plays any action of it.
Few groups are soon known, but lose what their actions differ in; with more samples it
pays to tell actions apart.

Source: Action grouping, ICLR 2024, arXiv:2306.12981.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.references import prototype
from logitlab import estimators, report
from logitlab.train import Compute, Study

REGRETS = {  # of the prototype, in 400 runs: (groups, samples) -> regret
    (8, 128): 0.250,
    (64, 128): 0.365,
    (8, 512): 0.215,
    (64, 512): 0.193,
    (8, 8192): 0.213,
    (64, 8192): 0.033,
}


def build(config) -> Study:
    """The study; nothing here plays, writes or prints."""
    _check(config)
    labels = {f"groups_{h}": f"{h} groups" for h in config.groups}
    return Study(
        arms={
            f"groups_{h}": Compute(functools.partial(regrets, config, h))
            for h in config.groups
        },
        figures={
            "regret": report.trends(
                {n: f"regret/{n}" for n in config.samples},
                label="regret",
                across="samples",
                log_across=True,
            )
        },
        claims=_claims(config),
        labels=labels,
        title="One estimate for several actions",
        summary=(
            f"{config.actions} actions in {config.clusters} clusters, whose means are "
            f"standard normal; an action is {config.within:g} (standard deviation) "
            f"away from its cluster's mean, a sample {config.noise:g} from the "
            "action's. Regret is what the best action gives more than the group that "
            f"seems best, on average over {config.runs} problems in each seed. Fewer "
            "groups than clusters are of whole clusters, more are parts of them."
        ),
        captions={"regret": "All groups see the same problems and the same samples."},
    )


def _check(config):
    for name, many in (
        ("clusters", config.clusters),
        *(("groups", h) for h in config.groups),
    ):
        if many < 1 or config.actions % many:
            raise ValueError(
                f"config.{name} has {many}, expected a divisor of config.actions, "
                f"{config.actions}"
            )
    samples = tuple(config.samples)
    if sorted(set(samples)) != list(samples) or any(
        n < 1 or n % config.actions for n in samples
    ):
        raise ValueError(
            f"config.samples is {samples}, expected growing multiples of "
            f"config.actions, {config.actions}"
        )
    if not {*config.between} <= {*samples}:
        raise ValueError(
            f"config.between is {tuple(config.between)}, expected two of "
            f"config.samples, {samples}"
        )
    fine, coarse = config.actions, config.clusters
    if not {fine, coarse} <= {*config.groups}:
        raise ValueError(
            f"config.groups is {tuple(config.groups)}, expected config.clusters, "
            f"{coarse}, and config.actions, {fine}, among them"
        )


def regrets(config, groups: int, key: jax.Array) -> dict:
    """Mean regret by the number of samples; a key draws the same for any grouping."""
    keys = jax.random.split(key, config.runs)
    found = _regrets(
        groups,
        config.actions,
        config.clusters,
        tuple(config.samples),
        keys,
        config.within,
        config.noise,
    )
    return {f"regret/{n}": r for n, r in zip(config.samples, found, strict=True)}


@functools.partial(jax.jit, static_argnums=(0, 1, 2, 3))
def _regrets(groups, actions, clusters, samples, keys, within, noise):
    grouping = jnp.arange(actions) // (actions // groups)

    def one(key):
        means_key, within_key, *noise_keys = jax.random.split(key, 2 + len(samples))
        centers = jax.random.normal(means_key, (clusters,))
        means = jnp.repeat(centers, actions // clusters)
        means += within * jax.random.normal(within_key, (actions,))
        plays = means.reshape(groups, -1).mean(1)  # of any action of a group

        def after(n, key):
            played = jnp.arange(n) % actions
            rewards = means[played] + noise * jax.random.normal(key, (n,))
            alone = jnp.zeros(n, jnp.int32)  # the one state there is
            model = estimators.estimate_grouped_model(
                alone,
                played,
                alone,
                rewards,
                grouping,
                num_states=1,
                num_groups=groups,
            )
            best = model.rewards[0].argmax()
            return means.max() - plays[best]

        return [after(n, key) for n, key in zip(samples, noise_keys, strict=True)]

    return [r.mean() for r in jax.lax.map(one, keys, batch_size=20)]


def crossing(samples: np.ndarray, gaps: np.ndarray) -> np.ndarray:
    """Where gaps [N, S] turn from above 0 to below, on a log axis, for each seed.

    NaN where they never do.
    """
    found = []
    for gap in np.asarray(gaps, float).T:
        (down,) = np.nonzero((gap[:-1] > 0) & (gap[1:] <= 0))
        if not down.size:
            found.append(np.nan)
            continue
        i = down[0]
        part = gap[i] / (gap[i] - gap[i + 1])
        a, b = np.log(samples[i]), np.log(samples[i + 1])
        found.append(np.exp(a + part * (b - a)))
    return np.array(found)


def _claims(config):
    coarse, fine = f"groups_{config.clusters}", f"groups_{config.actions}"
    few, many = config.between

    def gap(results, n, worse, better):
        metric = f"regret/{n}"
        return results[worse].final(metric) - results[better].final(metric)

    def crossed(results):
        gaps = [gap(results, n, fine, coarse) for n in config.samples]
        return crossing(np.array(config.samples), np.stack(gaps))

    claims = [
        report.Claim(
            text="regrets of clusters and of single actions cross between "
            f"{few} and {many} samples",
            reference=prototype(
                "0.250 against 0.365 at 128, 0.215 against 0.193 at 512"
            ),
            ours=crossed,
            at_least=few,
            at_most=many,
            unit="samples",
            needs=(coarse, fine),
        ),
        report.Claim(
            text=f"with {few} samples clusters lose less than single actions",
            reference=prototype("0.250 against 0.365"),
            ours=lambda r: gap(r, few, fine, coarse),
            above=0.0,
            over="mean",
            unit="less",
            needs=(coarse, fine),
        ),
        report.Claim(
            text=f"with {many} samples single actions lose less than clusters",
            reference="a bound falls in the number of groups for enough samples",
            ours=lambda r: gap(r, many, coarse, fine),
            above=0.0,
            over="mean",
            unit="less",
            needs=(coarse, fine),
        ),
    ]
    claims += [
        report.Claim(
            text=f"regret of {h} groups after {n} samples",
            reference=prototype(f"{regret:.3f}"),
            ours=lambda r, h=h, n=n: r[f"groups_{h}"].final(f"regret/{n}"),
            equals=regret,
            within=config.tolerances.prototype,
            over="mean",
            needs=(f"groups_{h}",),
        )
        for (h, n), regret in REGRETS.items()
        if n in config.samples
    ]
    halves = sorted(h for h in config.groups if config.clusters < h < config.actions)
    if halves:
        between = [f"groups_{h}" for h in halves]

        def least(results):
            best = np.min(
                [results[name].final(f"regret/{many}") for name in between], 0
            )
            ends = [results[name].final(f"regret/{many}") for name in (coarse, fine)]
            return np.min(ends, 0) - best

        claims.append(
            report.Claim(
                text=f"with {many} samples parts of clusters lose less than both",
                ours=least,
                above=0.0,
                over="mean",
                unit="less",
                needs=(coarse, fine, *between),
                question=True,
            )
        )
    return claims
