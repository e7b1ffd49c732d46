"""How much does a forest smooth, where it has learned and where it has not?

A forest predicts with weights of the training labels. Their squares say how many
parameters it has in effect: as many as there are examples for one tree grown to the
end, fewer the more trees are averaged. That number is counted at the training points,
and at test points near to them and far from them.

Source: Curth, Jeffares and van der Schaar 2024, arXiv:2402.01502.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.datasets import digits
from experiments.common.keys import once_per_key
from experiments.common.references import BOUND, stated
from logitlab import estimators, report
from logitlab.train import Compute, Study

DATA = {"diabetes": "diabetes", "digits": "odd digits"}
FOREST, TREES, LEAVES, NEIGHBORS = "forest", "trees", "leaves", "neighbors"
KINDS = {
    FOREST: "bootstrap forest",
    TREES: "all data in each tree",
    LEAVES: "all data, larger leaves",
}
MOST = 500  # test points
POINTS = {"train": "training points", "near": "nearest third", "far": "farthest third"}


_leaf_smoother = jax.jit(estimators.leaf_smoother)


class Rows(NamedTuple):
    """Rows to learn from and others, the nearest to the former first.

    Attributes:
      x: features [N, D].
      y: labels [N].
      test_x: features [M, D].
      test_y: labels [M].
    """

    x: np.ndarray
    y: np.ndarray
    test_x: np.ndarray
    test_y: np.ndarray


def build(config) -> Study:
    """The study; nothing here fits, writes or prints."""
    trees = tuple(config.trees)
    if not trees or trees[0] != 1 or list(trees) != sorted(set(trees)):
        raise ValueError(f"config.trees is {trees}, expected growing numbers from 1 on")
    fit = once_per_key(lambda key: _fitted(config, key))
    arms = {
        f"{kind}_{points}": Compute(
            lambda key, kind=kind, points=points: fit(key)[kind][points]
        )
        for kind in KINDS
        for points in POINTS
    }
    shown = [f"{k}_{p}" for k in (FOREST, TREES) for p in POINTS]
    return Study(
        arms=arms | {NEIGHBORS: Compute(functools.partial(_neighbors, config))},
        figures={
            data: report.trends(
                {t: f"{data}/{t}" for t in trees},
                arms=shown,
                label="effective parameters per example",
                across="trees",
                log_across=True,
                log=True,
            )
            for data in DATA
        }
        | {
            "error": report.trends(
                {t: f"diabetes_error/{t}" for t in trees},
                arms=[f"{kind}_{p}" for kind in KINDS for p in ("near", "far")],
                label="mean squared error, diabetes",
                across="trees",
                log_across=True,
            )
        },
        claims=_claims(config),
        labels={
            f"{kind}_{points}": f"{words}: {where}"
            for kind, words in KINDS.items()
            for points, where in POINTS.items()
        }
        | {NEIGHBORS: "nearest neighbors"},
        title="Effective parameters of forests",
        summary=(
            f"Diabetes, {config.train.diabetes} patients to learn from, and digits, "
            f"odd or even, {config.train.digits} images to learn from. Outcomes are "
            "told apart by noise of 1e-3, so that a tree grows until every example "
            "has a leaf of its own. Splits see a third of the features. Test points "
            "are in thirds by their distance from the nearest training point."
        ),
        captions={
            "diabetes": "Effective parameters over the training examples, diabetes.",
            "digits": "The same for odd and even digits.",
            "error": "Error at test points near and far, against the trees averaged.",
        },
    )


def rows(data: str, train: int, rng: np.random.Generator) -> Rows:
    """A random part of a data set to learn from, and others by their distance."""
    from scipy.spatial import distance

    if data == "diabetes":
        from sklearn import datasets

        x, y = datasets.load_diabetes(return_X_y=True)
        x, y = x / x.std(0), (y - y.mean()) / y.std()
    else:
        x, y = digits()
        y = (y % 2).astype(float)
    order = rng.permutation(len(y))[: train + MOST]
    x, y = x[order], y[order] + 1e-3 * rng.normal(size=len(order))
    apart = distance.cdist(x[train:], x[:train]).min(1)
    test = train + np.argsort(apart)
    return Rows(x[:train], y[:train], x[test], y[test])


@jax.jit
def smoothed(leaves, asked, counts) -> jax.Array:
    """Weights [M, N] of training labels in trees that are grown on bootstrap samples.

    Args:
      leaves: of the training points, int [N, T].
      asked: of the others, [M, T].
      counts: how often each tree has seen each training point, [N, T].
    """

    def tree(total, each):
        own, there, seen = each
        weights = jnp.where(there[:, None] == own[None], seen[None].astype(float), 0)
        return total + weights / weights.sum(1, keepdims=True), None

    start = jnp.zeros((len(asked), len(leaves)))
    total, _ = jax.lax.scan(tree, start, (leaves.T, asked.T, counts.T))
    return total / leaves.shape[1]


def _fitted(config, key):
    """Numbers of every kind at every kind of point."""
    seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
    values = {kind: {points: {} for points in POINTS} for kind in KINDS}
    for data in DATA:
        split = rows(data, config.train[data], np.random.default_rng(seed))
        for kind in KINDS:
            for trees, weights in _weights(config, kind, split, seed).items():
                n, third = len(split.y), len(split.test_y) // 3
                at = {
                    "train": slice(n),
                    "near": slice(n, n + third),
                    "far": slice(-third, None),
                }
                y = np.concatenate([split.y, split.test_y])
                errors = np.square(np.asarray(weights) @ split.y - y)
                for points, part in at.items():
                    found = estimators.effective_parameters(weights[part])
                    values[kind][points][f"{data}/{trees}"] = float(found) / n
                    values[kind][points][f"{data}_error/{trees}"] = errors[part].mean()
    return values


def _weights(config, kind, split, seed):
    """Weights at training points and then at the others, for each number of trees."""
    from sklearn import ensemble

    bootstrap = kind == FOREST
    forest = ensemble.RandomForestRegressor(
        config.trees[-1],
        min_samples_leaf=config.leaf if kind == LEAVES else 1,
        max_features=1 / 3,
        bootstrap=bootstrap,
        random_state=seed,
    ).fit(split.x, split.y)
    leaves, others = forest.apply(split.x), forest.apply(split.test_x)
    asked = np.concatenate([leaves, others])
    if not bootstrap:
        return {t: _leaf_smoother(leaves[:, :t], asked[:, :t]) for t in config.trees}
    n, drawn = len(split.y), forest.estimators_samples_
    counts = np.stack([np.bincount(rows, minlength=n) for rows in drawn], 1)
    return {
        t: smoothed(leaves[:, :t], asked[:, :t], counts[:, :t]) for t in config.trees
    }


def _neighbors(config, key):
    """How far the effective parameters of k neighbors are from n / k, relatively."""
    from scipy.spatial import distance

    seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
    values = {}
    for data in DATA:
        split = rows(data, config.train[data], np.random.default_rng(seed))
        asked = np.concatenate([split.x, split.test_x])
        near = np.argsort(distance.cdist(asked, split.x), 1)
        for k in config.neighbors:
            weights = np.zeros(near.shape)
            np.put_along_axis(weights, near[:, :k], 1 / k, 1)
            found = estimators.effective_parameters(jnp.asarray(weights, "f4"))
            values[f"{data}/{k}"] = abs(float(found) * k / len(split.y) - 1)
    return values


def _claims(config):
    bounds, last = config.tolerances, config.trees[-1]

    def per_example(kind, points, trees, pick):
        """Over the data sets, seed by seed."""
        return lambda r: pick(
            [r[f"{kind}_{points}"].final(f"{data}/{trees}") for data in DATA], 0
        )

    def ratio(kind, points, other):
        def ours(results):
            cases = [
                results[f"{kind}_{points}"].final(f"{data}/{last}")
                / results[f"{kind}_{other}"].final(f"{data}/{last}")
                for data in DATA
            ]
            return -report.smallest_mean(-np.array(cases))  # the largest

        return ours

    claims = [
        report.Claim(
            text="a tree grown to the end has as many parameters as examples",
            reference="closed form: each training label has all of its weight",
            ours=per_example(TREES, "train", 1, np.min),
            equals=1.0,
            within=bounds.exact,
            unit="of them",
            needs=(f"{TREES}_train",),
        ),
        report.Claim(
            text="k nearest neighbors have n / k, everywhere",
            reference="closed form: k weights of 1/k",
            ours=lambda r: np.max(
                [
                    r[NEIGHBORS].final(f"{d}/{k}")
                    for d in DATA
                    for k in config.neighbors
                ],
                0,
            ),
            at_most=bounds.exact,
            unit="the largest relative difference",
            needs=(NEIGHBORS,),
        ),
        report.Claim(
            text=f"{last} bootstrap trees have far fewer than examples at training "
            "points",
            reference=BOUND,
            ours=per_example(FOREST, "train", last, np.max),
            at_most=bounds.forest,
            over="mean",
            unit="of them",
            needs=(f"{FOREST}_train",),
        ),
    ]
    for kind, words in KINDS.items():
        claims += [
            report.Claim(
                text=f"{words}: at the nearest test points the forest has fewer "
                "parameters than at training points",
                reference=stated("forests smooth more at unseen points"),
                ours=ratio(kind, "near", "train"),
                at_most=bounds.unseen,
                over="mean",
                unit="times as many",
                needs=(f"{kind}_near", f"{kind}_train"),
            ),
            report.Claim(
                text=f"{words}: at the farthest ones it has still fewer",
                reference=stated("the more so the less points are like those learned"),
                ours=ratio(kind, "far", "near"),
                at_most=bounds.farther,
                over="mean",
                unit="times as many",
                needs=(f"{kind}_far", f"{kind}_near"),
            ),
        ]
    return claims
