"""Constrained bilevel problems in a single loop: a toy, and labels that were flipped.

The toy's optimum is known. Then weights of training examples are learned such that the
model that they train does well on a few clean ones; examples with flipped labels should
get low weights.

Source: Constrained Bi-Level Optimization, LV-HBA, Yao et al. 2024, arXiv:2401.16164.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.references import BOUND, prototype
from logitlab import losses, metrics, optim, report
from logitlab.train import Compute, Study

TOY, CLEANING = "toy", "cleaning"
OPTIMUM = {"x": -0.3, "y1": 0.7, "y2": -0.4}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    cleaning = config.cleaning
    if not 0 < cleaning.flipped < 0.5:
        raise ValueError(
            f"config.cleaning.flipped is {cleaning.flipped}, expected a share in "
            "(0, 1/2)"
        )
    toy_values = functools.cache(functools.partial(_toy, config.toy))
    return Study(
        arms={
            TOY: Compute(lambda _: toy_values()),
            CLEANING: Compute(
                functools.partial(_cleaned, cleaning, _learner(cleaning))
            ),
        },
        figures={
            "weights": report.trends(
                {0.0: "true", 1.0: "flipped"},
                arms=[CLEANING],
                label="mean weight of an example",
                across="share of labels that are flipped",
            )
        },
        claims=_claims(config),
        labels={TOY: "toy", CLEANING: "weights of examples"},
        title="Bilevel problems under constraints",
        summary=(
            f"A quadratic toy in {3 * config.toy.size} dimensions, "
            f"{config.toy.steps} steps; and logistic regression of breast cancer, "
            f"{cleaning.train} examples of which {cleaning.flipped:.0%} have the other "
            f"label, {cleaning.held_out} clean ones above it, {cleaning.steps} steps."
        ),
        captions={"weights": "Of examples with true labels, and with flipped ones."},
    )


def toy(size: int) -> optim.BilevelProblem:
    """A problem whose optimum is x = -0.3, y = (0.7, -0.4) in each coordinate."""

    def center(x, y):
        share = (x.sum() + y[0].sum() + y[1].sum()) / (3 * size)
        return x - share, (y[0] - share, y[1] - share)

    return optim.BilevelProblem(
        upper=lambda x, y: ((x - y[1]) ** 2).sum() / 2 + ((y[0] - 1) ** 2).sum() / 2,
        lower=lambda x, y: (y[0] ** 2).sum() / 2 - x @ y[0] + y[1].sum(),
        constraint=lambda x, y: (x.sum() + y[0].sum() + y[1].sum())[None],
        project=center,
        equality=True,
    )


def _loop(start, problem, steps, **settings):
    def step(_, state):
        return optim.lv_hba_step(state, problem, **settings)

    return jax.lax.fori_loop(0, steps, step, start)


def _toy(config):
    problem, one = toy(config.size), jnp.ones(config.size)
    start = optim.lv_hba_init(one, (one, one), problem)
    state = jax.jit(lambda s: _loop(s, problem, config.steps, c=0.5))(start)
    found = {"x": state.x, "y1": state.y[0], "y2": state.y[1]}
    far = {
        f"distance/{n}": float(
            jnp.linalg.norm(a - OPTIMUM[n]) / (abs(OPTIMUM[n]) * config.size**0.5)
        )
        for n, a in found.items()
    }
    return far | {"multiplier": float(state.multipliers[0])}


def _rows(key, config):
    """Standardized features with a constant, labels, and which are flipped."""
    from sklearn import datasets

    x, y = datasets.load_breast_cancer(return_X_y=True)
    x = (x - x.mean(0)) / x.std(0)
    x = np.concatenate([x, np.ones((len(x), 1))], 1).astype("f4")
    order_key, flip_key = jax.random.split(key)
    order = np.asarray(jax.random.permutation(order_key, len(y)))
    first, second = np.split(order[: config.train + config.held_out], [config.train])
    flipped = np.asarray(jax.random.uniform(flip_key, (config.train,)) < config.flipped)
    labels = np.where(flipped, 1 - y[first], y[first])
    return (x[first], labels), (x[second], y[second]), flipped


def _learner(config):
    """A compiled function: noisy rows, clean rows -> scores of the noisy ones."""

    def costs(w, rows):
        z = rows[0] @ w
        return losses.cross_entropy(jnp.stack([jnp.zeros_like(z), z], -1), rows[1])

    @jax.jit
    def learn(noisy, clean):
        problem = optim.BilevelProblem(
            upper=lambda scores, w: costs(w, clean).mean(),
            lower=lambda scores, w: (
                jnp.mean(jax.nn.sigmoid(scores) * costs(w, noisy))
                + config.decay / 2 * w @ w
            ),
        )
        many, features = noisy[0].shape
        start = optim.lv_hba_init(jnp.zeros(many), jnp.zeros(features), problem)
        rates = dict(alpha=config.alpha, eta=config.alpha)
        return _loop(start, problem, config.steps, c=1.0, **rates).x

    return learn


def _cleaned(config, learn, key):
    noisy, clean, flipped = _rows(key, config)
    scores = np.asarray(learn(noisy, clean))
    weights = 1 / (1 + np.exp(-scores))
    return {
        "auc": metrics.auroc(scores[~flipped], scores[flipped]),
        "flipped": weights[flipped].mean(),
        "true": weights[~flipped].mean(),
    }


def _claims(config):
    bounds = config.tolerances
    return [
        report.Claim(
            text=f"the toy ends within {bounds.distance:.1%} of its optimum, {name}",
            reference=prototype(f"relative error {error}"),
            ours=lambda r, n=name: r[TOY].final(f"distance/{n}"),
            at_most=bounds.distance,
            unit="relative distance",
            needs=(TOY,),
        )
        for name, error in (("x", "3.1 %"), ("y1", "2.0 %"), ("y2", "1.2 %"))
    ] + [
        report.Claim(
            text="weights tell flipped labels from true ones",
            reference=BOUND,
            ours=lambda r: r[CLEANING].final("auc"),
            above=bounds.auc,
            unit="AUC",
            needs=(CLEANING,),
        ),
        report.Claim(
            text="flipped labels have lower weights in the mean",
            reference=BOUND,
            ours=lambda r: r[CLEANING].final("true") - r[CLEANING].final("flipped"),
            above=0.0,
            unit="of weight below true ones",
            needs=(CLEANING,),
        ),
    ]
