"""How far do equally good models disagree about one patient, and about whom most?

Logistic regressions predict which tumors are malignant. All of those whose loss is
nearly the best are compared: the range of what they predict for a patient is exact. A
group has few patients to learn from, and to tell its being rare from what it is like,
each half of the patients is that group in turn.

Source: Watson-Daniels et al. 2023, arXiv:2206.01131.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.references import stated
from logitlab import estimators, metrics, report
from logitlab.train import Compute, Study

FEATURES = ("mean radius", "mean texture", "mean smoothness")
GROUP = "mean symmetry"  # above its median or not
HALF = 284  # patients of the smaller half


class Patients(NamedTuple):
    """Rows of both halves, [N, 4] and [N]: the last feature is 1 or -1, the half.

    Attributes:
      x: features, standardized.
      y: 1 if the tumor is malignant, 0 if it is benign.
    """

    x: np.ndarray
    y: np.ndarray


class Found(NamedTuple):
    """Numbers for each limit of the loss, [E].

    Attributes:
      ambiguity: share of patients about whom some model differs from the best one.
      discrepancy: a lower bound of the share about whom one model does.
      rare: mean range of the probabilities of the group that was rare in training.
      common: of the other group.
    """

    ambiguity: jax.Array
    discrepancy: jax.Array
    rare: jax.Array
    common: jax.Array


def build(config) -> Study:
    """The study; nothing here fits, writes or prints."""
    _check(config)
    names = {_arm(share): share for share in config.flipped}
    labels = {name: f"{share:.0%} wrong labels" for name, share in names.items()}

    def trends(metric, label, **more):
        across = "loss above the best, nats"
        named = {epsilon: f"{metric}/{epsilon:g}" for epsilon in config.epsilons}
        return report.trends(named, label=label, across=across, log_across=True, **more)

    return Study(
        arms={
            name: Compute(lambda key, share=share: _values(key, share, config))
            for name, share in names.items()
        },
        figures={
            "ambiguity": trends("ambiguity", "ambiguity"),
            "discrepancy": trends("discrepancy", "discrepancy, lower bound"),
            "groups": trends(
                "gap", "range: rare group - the other", bound=(0, "alike")
            ),
        },
        claims=_claims(config, list(names)),
        labels=labels,
        title="What equally good logistic regressions predict of breast cancer",
        summary=(
            f"Logistic regressions with an intercept on {', '.join(FEATURES)} and a "
            f"group: whether the {GROUP} is above its median. They learn from "
            f"{config.common} patients of one group and {config.rare} of the other, "
            f"and are asked about {config.asked} more of each; then the groups change "
            "places. Two predictions differ if the probabilities are "
            f"{config.delta:g} or more apart."
        ),
        captions={
            "ambiguity": "Patients about whom some nearly optimal model differs.",
            "discrepancy": "Patients about whom one such model differs.",
            "groups": "How much wider the range of probabilities is for a rare group.",
        },
    )


def _check(config):
    if not config.x64:
        raise ValueError("config.x64 is False, expected True: inequalities are exact")
    epsilons = tuple(config.epsilons)
    if len(epsilons) < 2 or list(epsilons) != sorted(set(epsilons)) or epsilons[0] <= 0:
        raise ValueError(
            f"config.epsilons is {epsilons}, expected at least two growing numbers "
            "above 0"
        )
    if config.group_epsilon not in epsilons:
        raise ValueError(
            f"config.group_epsilon is {config.group_epsilon}, expected one of "
            f"config.epsilons, {epsilons}"
        )
    shares = tuple(config.flipped)
    if config.group_flipped not in shares or not 0 <= min(shares) <= max(shares) < 0.5:
        raise ValueError(
            f"config.flipped is {shares} and config.group_flipped is "
            f"{config.group_flipped}, expected one of shares below 0.5"
        )
    if not 1 <= config.rare < config.common or config.common + config.asked > HALF:
        raise ValueError(
            f"config.rare, config.common and config.asked are {config.rare}, "
            f"{config.common} and {config.asked}, expected 1 or more, more than that, "
            f"and {HALF} at most together with it"
        )


def patients() -> tuple[Patients, Patients]:
    """Both halves of the patients, below the median and above it."""
    from sklearn import datasets

    table = datasets.load_breast_cancer()
    columns = {name: table.data[:, i] for i, name in enumerate(table.feature_names)}
    x = np.stack([columns[name] for name in FEATURES], -1)
    x = (x - x.mean(0)) / x.std(0)
    above = columns[GROUP] > np.median(columns[GROUP])
    x = np.concatenate([x, np.where(above, 1.0, -1.0)[:, None]], 1)
    y = (table.target == 0).astype(np.int32)
    return Patients(x[~above], y[~above]), Patients(x[above], y[above])


def _values(key, share, config):
    sizes = {name: config[name] for name in ("rare", "common", "asked")}
    keys = jax.random.split(key)
    halves, epsilons = patients(), jnp.array(config.epsilons)
    turns = [
        _measured(key, *turn, share, epsilons, delta=config.delta, **sizes)
        for key, turn in zip(keys, (halves, halves[::-1]), strict=True)
    ]
    both = jax.tree.map(lambda *a: np.stack(a), *turns)  # [2, E]
    values = {
        "least_rise": np.diff(both.ambiguity).min(),
        "excess": (both.discrepancy - both.ambiguity).max(),
    }
    means = jax.tree.map(lambda a: a.mean(0), both)
    for i, epsilon in enumerate(config.epsilons):
        values |= {f"{k}/{epsilon:g}": v[i] for k, v in means._asdict().items()}
        values[f"gap/{epsilon:g}"] = means.rare[i] - means.common[i]
    return values


@functools.partial(jax.jit, static_argnames=("rare", "common", "asked"))
def _measured(key, few, many, share, epsilons, *, delta, rare, common, asked):
    """``Found``, with the first half as the rare group."""
    *keys, flip_key = jax.random.split(key, 3)
    train, new = [], []
    for key, half, size in zip(keys, (few, many), (rare, common), strict=True):
        order = jax.random.permutation(key, len(half.y))
        train.append(jax.tree.map(lambda a: a[order[:size]], half))  # noqa: B023
        new.append(half.x[order[size : size + asked]])
    x, y = (jnp.concatenate(parts) for parts in zip(*train, strict=True))
    query = jnp.concatenate(new)
    y = jnp.where(jax.random.uniform(flip_key, y.shape) < share, 1 - y, y)

    def within(epsilon):
        found = estimators.viable_prediction_range(x, y, query, epsilon=epsilon)
        ends = found.models.reshape(-1, found.models.shape[-1])
        probs = jax.nn.sigmoid(ends[:, 1:] @ query.T + ends[:, :1])
        bounds = metrics.discrepancy_bounds(
            found.probs, found.ranges, probs, delta=delta
        )
        widths = jnp.diff(found.ranges)[:, 0].reshape(2, asked).mean(-1)
        return Found(bounds.upper, bounds.lower, *widths)

    return jax.lax.map(within, epsilons)


def _claims(config, names):
    bounds, epsilon = config.tolerances, f"{config.group_epsilon:g}"
    base = _arm(config.group_flipped)
    first, last = f"{config.epsilons[0]:g}", f"{config.epsilons[-1]:g}"

    def of_all(pick, metric):
        return lambda r: pick([r[name].final(metric) for name in names], axis=0)

    def rises(results):
        rows = [
            results[name].final(f"ambiguity/{last}")
            - results[name].final(f"ambiguity/{first}")
            for name in names
        ]
        return np.min(rows, axis=0)

    claims = [
        report.Claim(
            text="ambiguity never falls when the loss may be higher",
            reference="theorem: the models of a lower limit are among those",
            ours=of_all(np.min, "least_rise"),
            at_least=0.0,
            needs=tuple(names),
        ),
        report.Claim(
            text=f"and it grows: from {first} to {last} nats",
            reference=stated("ambiguity grows with the limit"),
            ours=rises,
            above=bounds.grows,
            needs=tuple(names),
        ),
        report.Claim(
            text="no discrepancy exceeds the ambiguity",
            reference="theorem: a model that differs is one of all models",
            ours=of_all(np.max, "excess"),
            at_most=0.0,
            needs=tuple(names),
        ),
        report.Claim(
            text=f"predictions range wider for a rare group, at {epsilon} nats: p of "
            "a paired t-test, one-sided",
            reference=stated("a minority is affected more"),
            ours=lambda r: _p_value(r[base].final(f"gap/{epsilon}")),
            at_most=bounds.p_value,
            over="all",
            needs=(base,),
        ),
    ]
    if len(names) > 1:
        least, most = (_arm(pick(config.flipped)) for pick in (min, max))
        claims.append(
            report.Claim(
                text=f"wrong labels raise the ambiguity, at {epsilon} nats",
                reference=stated("less separable classes are more ambiguous"),
                ours=report.ahead(f"ambiguity/{epsilon}", most, least),
                above=bounds.flips,
                over="mean",
                needs=(most, least),
            )
        )
    return claims


def _p_value(gaps):
    import scipy.stats

    return scipy.stats.ttest_1samp(gaps, 0, alternative="greater").pvalue


def _arm(share):
    return f"flipped_{share:g}"
