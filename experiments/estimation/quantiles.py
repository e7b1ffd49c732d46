"""Are five models' quantiles better together, and do calibrated intervals cover?

Five models predict quantiles of how far diabetes has gone a year later. Weights that
are learned on predictions for held-out folds combine them, and conformal corrections
widen or narrow the intervals until they cover as they should: CQR with the scores of
one fold, CV+ with those of all of them.

Source: Fakoor et al. 2023, arXiv:2103.00083; Romano et al. 2019, arXiv:1905.03222;
Barber et al. 2021, arXiv:1905.02928.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.keys import once_per_key
from experiments.common.solvers import descended
from experiments.common.threads import one_blas_thread
from experiments.estimation._quantile_claims import (
    AVERAGE,
    CALIBRATED,
    FINE,
    LOCAL,
    SINGLE,
    WIS,
    claims_of,
)
from logitlab import decisions, estimators, losses, models, numerics, report
from logitlab.train import Compute, Study

PATIENTS = 442
COMBINED = {
    "coarse": "a weight per model",
    "medium": "per model and level",
    FINE: "per model and pair of levels",
    LOCAL: "such weights for each patient",
}
LABELS = SINGLE | {AVERAGE: "average of all"} | COMBINED | {"order": "order of levels"}
MAPS = ("sort", "isotonic", "sweep")
HOW = {"plain": "as predicted", "cqr": "CQR, one fold", "cv": "CV+, all folds"}


_leaf_smoother = jax.jit(estimators.leaf_smoother)


class Fits(NamedTuple):
    """One split of the patients, and what all models predict.

    Attributes:
      x: features [442, 10], those that are learned from first.
      y: outcomes [442], in standard deviations.
      fold: of each of the first rows.
      base: quantiles [folds + 1, 442, models, levels]; the last fit has all folds, the
        others all but theirs.
    """

    x: np.ndarray
    y: np.ndarray
    fold: np.ndarray
    base: np.ndarray


def build(config) -> Study:
    """The study; nothing here fits, writes or prints."""
    _check(config)
    fit = once_per_key(lambda key: fitted(key, config))
    chances = [100 * (high - low) for low, high in _pairs(config)]
    return Study(
        arms={
            **{
                name: Compute(functools.partial(_single, config, fit, name))
                for name in CALIBRATED
            },
            **{
                name: Compute(functools.partial(_combined, config, fit, name))
                for name in COMBINED
            },
            "order": Compute(functools.partial(_ordered, config)),
        },
        figures={
            "score": report.intervals(
                {
                    "one model": (*SINGLE, *[""] * 5),
                    "all": (*[""] * 5, AVERAGE, *COMBINED),
                },
                [
                    *("linear", "forest", "nearest", "boosted", "network", "average"),
                    *("coarse", "medium", "fine", "local"),
                ],
                WIS,
                label="weighted interval score",
                across="model, or how all five are weighed",
                dots="splits",
            ),
            "coverage": functools.partial(_coverage, chances[0]),
        },
        claims=claims_of(config, chances),
        labels=LABELS,
        title="Quantiles of five models, combined and calibrated",
        summary=(
            f"Diabetes: {config.train} of {PATIENTS} patients to learn from in "
            f"{config.folds} folds, another division for each seed. Outcomes are in "
            "standard deviations. Weights are learned on predictions for the fold that "
            "was left out, and used on those of models that have seen all folds."
        ),
        captions={
            "score": "Score on the test patients, the lower the better.",
            "coverage": "Test patients within the widest interval of each model.",
        },
    )


def _check(config):
    levels = np.array(config.levels)
    if (
        len(levels) < 3
        or (np.diff(levels) <= 0).any()
        or not np.allclose(levels + levels[::-1], 1)
        or levels[0] <= 0
    ):
        raise ValueError(
            f"config.levels is {tuple(config.levels)}, expected growing numbers in "
            "(0, 1), symmetric around 0.5"
        )
    if not 2 <= config.folds <= config.train < PATIENTS:
        raise ValueError(
            f"config.folds and config.train are {config.folds} and {config.train}, "
            f"expected 2 or more, not below that, and below {PATIENTS}"
        )


def _pairs(config):
    """Lower and upper levels of the intervals, the widest first."""
    levels = tuple(config.levels)
    return list(zip(levels, levels[::-1], strict=True))[: len(levels) // 2]


def fitted(key: jax.Array, config) -> Fits:
    """All models, fitted to all folds but one, and to all."""
    from sklearn import datasets

    order_key, network_key = jax.random.split(key)
    x, y = datasets.load_diabetes(return_X_y=True)
    order = np.asarray(jax.random.permutation(order_key, PATIENTS))
    x, y = (x / x.std(0))[order], ((y - y.mean()) / y.std())[order]
    fold = np.arange(config.train) % config.folds
    kept = np.arange(config.folds + 1)[:, None] != fold  # [F + 1, train]
    networks = _networks(
        network_key,
        jnp.asarray(x, "f4"),
        jnp.asarray(y, "f4"),
        jnp.asarray(kept),
        tuple(config.levels),
        **config.network,
    )
    seed = int(jax.random.randint(key, (), 0, 2**31 - 1))
    base = [
        np.stack([*_others(config, seed, x, y, np.flatnonzero(rows)), network], 1)
        for rows, network in zip(kept, np.asarray(networks), strict=True)
    ]
    return Fits(x, y, fold, np.sort(np.stack(base), -1))


def _others(config, seed, x, y, rows):
    """Quantiles [442, levels] of the models of scikit-learn."""
    from sklearn import ensemble, linear_model

    levels, mine, own = np.array(config.levels), x[rows], y[rows]

    def each(make):
        return np.stack(
            [make(level).fit(mine, own).predict(x) for level in config.levels], -1
        )

    with one_blas_thread():
        linear = each(lambda q: linear_model.QuantileRegressor(quantile=q, alpha=1e-3))
        forest = ensemble.RandomForestRegressor(
            config.trees, min_samples_leaf=config.leaf, random_state=seed
        ).fit(mine, own)
        weights = _leaf_smoother(
            jnp.asarray(forest.apply(mine)), jnp.asarray(forest.apply(x))
        )
        boosted = each(
            lambda q: ensemble.GradientBoostingRegressor(
                loss="quantile",
                alpha=q,
                n_estimators=config.stages,
                max_depth=2,
                min_samples_leaf=config.leaf,
                random_state=seed,
            )
        )
    apart = np.linalg.norm(x[:, None] - mine, axis=-1)
    near = np.argsort(apart, 1)[:, : min(config.neighbors, len(rows))]
    neighbors = np.quantile(own[near], levels, axis=1).T
    return (
        linear,
        weighted_quantiles(np.asarray(weights), own, levels),
        neighbors,
        (boosted),
    )


def weighted_quantiles(weights, y, levels) -> np.ndarray:
    """Smallest of y [N] up to which weights [M, N] are at least a level's: [M, Q]."""
    order = np.argsort(y)
    total = np.cumsum(weights[:, order], 1)
    share = total / total[:, -1:]
    reached = (share[:, :, None] < levels - 1e-6).sum(1)
    return y[order][np.minimum(reached, len(y) - 1)]


@functools.partial(
    jax.jit, static_argnames=("levels", "widths", "learning_rate", "steps")
)
def _networks(key, x, y, kept, levels, *, widths, learning_rate, steps):
    """Quantiles [F, 442, levels] of one network for each row of ``kept``."""
    model, taus = models.MLP(widths, len(levels)), jnp.array(levels)

    def one(mask):
        def loss(params):
            found = losses.pinball_loss(model.apply(params, x), y, taus).sum(-1)
            return numerics.masked_mean(found[: len(mask)], mask)

        optimizer = optax.adamw(learning_rate, weight_decay=1e-2)
        start = model.init(key, x[:1])
        params, _ = descended(jax.grad(loss), start, optimizer, steps=steps)
        return model.apply(params, x)

    return jax.vmap(one)(kept)


def _score(config, quantiles, y):
    levels = jnp.array(config.levels)
    found = losses.weighted_interval_score(
        jnp.asarray(quantiles, "f4"), jnp.asarray(y, "f4"), levels
    )
    return float(found.mean())


def _shares(config, quantiles, y):
    """Share of the outcomes within each interval."""
    return {
        f"plain/{place}": np.mean(
            (quantiles[:, place] <= y) & (y <= quantiles[:, -1 - place])
        )
        for place in range(len(_pairs(config)))
    }


def _single(config, fit, name, key):
    split = fit(key)
    if name == AVERAGE:
        quantiles = split.base.mean(2)
    else:
        quantiles = split.base[:, :, list(SINGLE).index(name)]
    train = config.train
    y, test = split.y[train:], quantiles[-1, train:]
    values = {WIS: _score(config, test, y)} | _shares(config, test, y)
    for place, (low, high) in enumerate(_pairs(config)):
        for how, (below, above) in calibrated(
            split, quantiles[..., place], quantiles[..., -1 - place], 1 - high + low
        ).items():
            values[f"{how}/{place}"] = np.mean((below <= y) & (y <= above))
            values[f"{how}_width/{place}"] = np.mean(above - below)
    return values


def calibrated(split: Fits, low, high, alpha: float) -> dict:
    """Ends of calibrated intervals for test patients, by CQR [F, M] and CV+ [M].

    Args:
      split: whose outcomes and folds count.
      low: lower quantiles [folds + 1, 442].
      high: upper ones.
      alpha: share that may miss.
    """
    train = len(split.fold)
    rows, folds = np.arange(train), len(low) - 1
    own_low, own_high = low[split.fold, rows], high[split.fold, rows]
    scores = np.asarray(
        estimators.cqr_scores(
            *(jnp.asarray(a, "f4") for a in (own_low, own_high, split.y[:train]))
        )
    )
    offsets = [
        float(estimators.cqr_calibrate(jnp.asarray(scores[split.fold == f]), alpha))
        for f in range(folds)
    ]
    wider = np.array(offsets)[:, None]
    below = low[:folds, train:][split.fold]
    above = high[:folds, train:][split.fold]  # [train, M]
    threshold = functools.partial(decisions.conformal_threshold, alpha=alpha)
    lowest = -threshold(jnp.asarray((scores[:, None] - below).T, "f4"))
    highest = threshold(jnp.asarray((above + scores[:, None]).T, "f4"))
    return {
        "cqr": (low[:folds, train:] - wider, high[:folds, train:] + wider),
        "cv": (np.asarray(lowest), np.asarray(highest)),
    }


def _combined(config, fit, name, key):
    split, train, local = fit(key), config.train, name == LOCAL
    held_out = split.base[split.fold, np.arange(train)]
    arrays = (held_out, split.y[:train], split.base[-1, train:], split.x)
    quantiles = np.asarray(
        _weighed(
            key,
            *(jnp.asarray(a, "f4") for a in arrays),
            kind=FINE if local else name,
            levels=tuple(config.levels),
            **dict(config.combination) | (dict(config.local) if local else {}),
        )
    )
    y = split.y[train:]
    return {WIS: _score(config, quantiles, y)} | _shares(config, quantiles, y)


@functools.partial(
    jax.jit,
    static_argnames=("kind", "levels", "widths", "steps"),
)
def _weighed(
    key,
    base,
    y,
    test,
    x,
    *,
    kind,
    levels,
    learning_rate,
    steps,
    margin,
    crossing,
    widths=(),
):
    """Quantiles [M, Q] of the test rows by weights that suit the others."""
    model = models.QuantileAggregator(kind, widths)
    taus = jnp.array(levels)
    mine, asked = ((x[: len(y)],), (x[len(y) :],)) if widths else ((), ())

    def loss(params):
        found = model.apply(params, base, *mine)
        crossed = losses.crossing_penalty(found, margin=margin)
        fits = losses.pinball_loss(found, y, taus).sum(-1)
        return (fits + crossing * crossed).mean()

    params, _ = descended(
        jax.grad(loss),
        model.init(key, base, *mine),
        optax.adam(learning_rate),
        steps=steps,
    )
    return estimators.monotone_sort(model.apply(params, test, *asked))


def _ordered(config, key):
    """How much the maps that put quantiles in order add to the pinball loss."""
    levels = jnp.array(config.levels)
    pred_key, target_key = jax.random.split(key)
    pred = jax.random.normal(pred_key, (config.cases, len(levels)))
    target = jax.random.normal(target_key, (config.cases,))

    def summed(pred):
        return losses.pinball_loss(pred, target, levels).sum(-1)

    values = {}
    for name in MAPS:
        more = summed(getattr(estimators, f"monotone_{name}")(pred)) - summed(pred)
        values[f"{name}/most"] = more.max()
        values[f"{name}/share"] = (more > config.tolerances.rises).mean()
    return values


def _coverage(chance, results):
    """Coverage of the widest interval, one series for each kind of correction."""
    import matplotlib

    from logitlab.report import comparisons, figures
    from logitlab.report.legends import add_legends

    with matplotlib.rc_context(figures._LOOK):
        figure = figures._figure((5.4, 3.2), 1, 1, None)
        axes, entries = figure.subplots(), []
        names = [name for name in CALIBRATED if name in results]
        for place, (how, words) in enumerate(HOW.items()):
            color = figures.PALETTE[place]
            numbers = {
                tick + 0.22 * (place - 1): results[name].final(f"{how}/0")
                for tick, name in enumerate(names)
            }
            comparisons._draw_means(axes, numbers, color, 0.06)
            entries.append((axes.plot([], [], "o", color=color)[0], words))
        line = axes.axhline(chance / 100, color=figures._GRAY, linestyle=":")
        entries.append((line, "nominal"))
        axes.set_xticks(range(len(names)), [LABELS[n].split()[0] for n in names])
        axes.grid(False, axis="x")
        axes.set_ylabel(f"share within the {chance:.0f} % interval")
        add_legends(
            figure, [(axes, entries)], "bars: 95 % interval of the mean; dots: splits"
        )
    return figure
