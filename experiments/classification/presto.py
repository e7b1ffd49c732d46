"""Does shrinking towards proportional odds help to estimate rare probabilities?

Four ordered classes of which the last is rare, ten features; most of the classes'
weights are shared. Three fits estimate the probability of the last class: PRESTO, which
shrinks the differences of the weights, proportional odds, which allows none, and a
logistic regression of the last class alone.

Source: Predicting Rare Events by Shrinking Towards Proportional Odds, Faletto and Bien,
ICML 2023.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.references import prototype
from logitlab import estimators, report, transforms
from logitlab.train import Compute, Study

METHODS = {
    "presto": "PRESTO",
    "odds": "proportional odds",
    "logistic": "logistic regression",
}
CLASSES = 4
PROTOTYPE = {
    "odds": "3.8 against 5.0, 1.9 against 2.2, 0.71 against 0.82 e-5",
    "logistic": "5.0 against 9.6, 2.2 against 6.1, 0.82 against 4.8 e-5",
}


def build(config) -> Study:
    """The study; nothing here fits, writes or prints."""
    for intercepts in config.intercepts:
        if len(intercepts) != CLASSES - 1 or sorted(intercepts) != list(intercepts):
            raise ValueError(
                f"config.intercepts has {intercepts}, expected {CLASSES - 1} in "
                "increasing order"
            )
    if config.samples % config.folds:
        raise ValueError(
            f"config.folds is {config.folds}, expected a divisor of config.samples, "
            f"{config.samples}"
        )
    settings = range(len(config.intercepts))

    def name(method, setting):
        return f"{method}_{setting}"

    def less(one, other, setting):
        """How much less error one method makes than another."""
        arms = name(other, setting), name(one, setting)
        return report.ahead("squared_error", *arms)

    claims = []
    for i in settings:
        needs = tuple(name(method, i) for method in METHODS)
        words = f"with intercepts {tuple(config.intercepts[i])}"
        claims += [
            report.Claim(
                text=f"PRESTO has less mean error than proportional odds, {words}",
                reference=prototype(PROTOTYPE["odds"]),
                ours=less("presto", "odds", i),
                at_least=0.0,
                over="mean",
                unit="less squared error",
                needs=needs,
            ),
            report.Claim(
                text=f"which has less than logistic regression, {words}",
                reference=prototype(PROTOTYPE["logistic"]),
                ours=less("odds", "logistic", i),
                at_least=0.0,
                over="mean",
                unit="less squared error",
                needs=needs,
            ),
            report.Claim(
                text=f"PRESTO beats logistic regression in most seeds, {words}",
                reference="an expectation of ours: at least 80 % of them",
                ours=less("presto", "logistic", i),
                above=0.0,
                over="share",
                share=config.tolerances.wins,
                unit="less squared error",
                needs=needs,
            ),
        ]
    return Study(
        arms={
            name(method, i): Compute(
                lambda key, method=method, i=i: _measure(config, method, i, key)
            )
            for i in settings
            for method in METHODS
        },
        figures={
            "error": report.intervals(
                {
                    label: [name(method, i) for i in settings]
                    for method, label in METHODS.items()
                },
                [str(tuple(intercepts)) for intercepts in config.intercepts],
                "squared_error",
                label="squared error of the rare probability",
                across="intercepts: the larger the last, the rarer its class",
                log=True,
            )
        },
        claims=claims,
        labels={
            name(method, i): f"{label}, {tuple(config.intercepts[i])}"
            for i in settings
            for method, label in METHODS.items()
        },
        title="Rare classes and proportional odds",
        summary=(
            f"{config.samples} samples, {config.features} features, of which a third "
            f"matter, {config.seeds} seeds. PRESTO takes the penalty with the best "
            f"Brier score over {config.folds} folds, and is then fitted to all."
        ),
        captions={
            "error": "Squared error of the rare class's probability on new samples."
        },
    )


def _measure(config, method, setting, key):
    data = jax.random.fold_in(key, setting)  # the same for every method
    x, y, fresh, rare = _draw(config, config.intercepts[setting], data)
    if method == "presto":
        scores, grid = _brier(x, y, config.folds, config.penalties)
        fit = _fit(x, y, grid[jnp.argmin(scores)], CLASSES, True)
    elif method == "odds":
        lam = 100 * estimators.presto_lambda_max(x, y, CLASSES)
        fit = _fit(x, y, lam, CLASSES, False)
    else:
        y = (y == CLASSES - 1).astype(jnp.int32)
        fit = _fit(x, y, 0.0, 2, True)
    estimate = transforms.cumulative_probs(estimators.presto_logits(fit, fresh))[:, -1]
    return {
        "squared_error": jnp.mean((estimate - rare) ** 2),
        "rare_share": rare.mean(),
    }


@functools.partial(jax.jit, static_argnums=(3, 4))
def _fit(x, y, lam, classes, penalize_first):
    return estimators.fit_presto(x, y, classes, lam, penalize_first=penalize_first)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _brier(x, y, folds, penalties):
    """Cross-validated Brier score of each penalty, and the penalties, largest first."""
    largest = estimators.presto_lambda_max(x, y, CLASSES)
    grid = largest * jnp.logspace(0, -2, penalties)
    order = np.arange(x.shape[0]) % folds
    others = jnp.stack([np.flatnonzero(order != i) for i in range(folds)])
    held = jnp.stack([np.flatnonzero(order == i) for i in range(folds)])

    def score(cell):
        lam, fold = cell
        fit = estimators.fit_presto(x[others[fold]], y[others[fold]], CLASSES, lam)
        probs = transforms.cumulative_probs(
            estimators.presto_logits(fit, x[held[fold]])
        )
        return jnp.mean((probs - jax.nn.one_hot(y[held[fold]], CLASSES)) ** 2)

    cells = jnp.repeat(grid, folds), jnp.tile(jnp.arange(folds), penalties)
    return jax.lax.map(score, cells).reshape(penalties, folds).mean(1), grid


def _draw(config, intercepts, key):
    """Samples, their classes, new samples and the probability of their rare class."""
    while True:
        key, *keys = jax.random.split(key, 6)
        shape = (CLASSES - 1, config.features)
        kept = jax.random.bernoulli(keys[0], 1 / 3, shape)
        sign = jax.random.rademacher(keys[1], shape, dtype=float).at[0].set(1.0)
        beta = jnp.cumsum(0.5 * kept * sign, 0)
        x = jax.random.uniform(
            keys[2], (2, config.samples, config.features), minval=-1, maxval=1
        )
        eta = jnp.array(intercepts, float).reshape(1, 1, -1) + x @ beta.T
        f = jax.nn.sigmoid(eta)
        edges = jnp.concatenate([0 * f[..., :1], f, 1 + 0 * f[..., :1]], -1)
        probs = jnp.diff(edges)
        if probs.min() > 0:
            break
    y = jax.random.categorical(keys[3], jnp.log(probs[0]))
    return x[0], y, x[1], probs[1][:, -1]
