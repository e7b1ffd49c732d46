"""Do good models agree on which features count, and does it help to be told?

Logistic regression, a random forest and boosted trees are fitted to a table, and their
importances are averaged. A small network that has a tenth of the data is then trained
with and without a penalty of how far its own importances are from that average.

Source: Factor consistency, arXiv:2402.12398.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.references import BOUND
from experiments.interpretability import _networks
from logitlab import losses, metrics, report
from logitlab.train import Compute, Study
from logitlab.train.config import check_name

SETS = {"breast_cancer": "breast cancer", "wine": "wine"}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    weights = [w for w in config.weights if not 0 < w < 0.1]  # ticks would touch
    return Study(
        arms={
            name: Compute(functools.partial(_values, config, name))
            for name in config.sets
        },
        figures={
            "divergence": report.trends(
                {w: f"divergence/{w:g}" for w in weights},
                label="KL from the references' shares, nats",
                across="weight of the penalty",
            ),
            "accuracy": report.trends(
                {w: f"accuracy/{w:g}" for w in weights},
                label="test accuracy",
                across="weight of the penalty",
            ),
        },
        claims=_claims(config),
        labels={name: SETS[name] for name in config.sets},
        title="Models that look at the same features",
        summary=(
            f"The references learn from half of the rows, the network (one layer of "
            f"{config.width}) from {config.share:.0%} of all; the other half tests "
            "both. Importances: magnitudes of logistic weights, impurity for trees, "
            "inputs times gradients for the network."
        ),
        captions={
            "divergence": "Of the network's importances on its training rows.",
            "accuracy": "On the half that no model has seen.",
        },
    )


def _check(config):
    for name in config.sets:
        check_name(name, tuple(SETS), "config.sets")
    if 0 not in config.weights or config.weight not in config.weights:
        raise ValueError(
            f"config.weights is {tuple(config.weights)}, expected 0 and config.weight "
            f"({config.weight}) among them"
        )
    if not 0 < config.share <= 0.5:
        raise ValueError(f"config.share is {config.share}, expected in (0, 0.5]")


def table(name: str) -> tuple[np.ndarray, np.ndarray]:
    """Standardized features and labels."""
    from sklearn import datasets

    x, y = getattr(datasets, f"load_{name}")(return_X_y=True)
    return ((x - x.mean(0)) / x.std(0)).astype("f4"), y.astype("i4")


def references(x, y, seed: int, trees: int) -> dict[str, np.ndarray]:
    """Importances [F] of three models of scikit-learn."""
    from sklearn import ensemble, linear_model

    linear = linear_model.LogisticRegression(max_iter=2000).fit(x, y)
    forest = ensemble.RandomForestClassifier(trees, random_state=seed).fit(x, y)
    boosted = ensemble.GradientBoostingClassifier(
        n_estimators=trees, random_state=seed
    ).fit(x, y)
    return {
        "logistic": np.abs(linear.coef_).mean(0),
        "forest": forest.feature_importances_,
        "boosted": boosted.feature_importances_,
    }


def attributions(model, params, x, y):
    """Inputs times gradients of the label's lead over the mean of all logits."""

    def lead(x):
        z = model.apply(params, x)
        label = jnp.take_along_axis(z, y[:, None], -1)[:, 0]
        return jnp.sum(label - z.mean(-1))

    return x * jax.grad(lead)(x)


def _values(config, name, key):
    x, y = table(name)
    split_key, fit_key = jax.random.split(key)
    order = np.asarray(jax.random.permutation(split_key, len(y)))
    half = len(y) // 2
    seen, held = order[:half], order[half:]
    few = seen[: round(config.share * len(y))]
    seed = int(jax.random.randint(split_key, (), 0, 2**30))
    found = references(x[seen], y[seen], seed, config.trees)
    shares = [
        np.asarray(metrics.importance_distribution(jnp.float32(i)[None]))
        for i in found.values()
    ]
    mean = np.mean(shares, 0)
    pairs = itertools.combinations(shares, 2)
    agreements = [float(metrics.pairwise_order_agreement(*pair)) for pair in pairs]
    recipe = _networks.Recipe(
        (config.width,), int(y.max()) + 1, config.steps, config.learning_rate
    )

    values = {"agreement": np.mean(agreements), "shares": np.stack(shares)}
    for weight in config.weights:
        off, right = student(
            fit_key,
            jnp.float32(weight),
            jnp.asarray(x[few]),
            jnp.asarray(y[few]),
            x[held],
            y[held],
            jnp.float32(mean),
            recipe=recipe,
        )
        values |= {f"divergence/{weight:g}": off, f"accuracy/{weight:g}": right}
    return values


@functools.partial(jax.jit, static_argnames="recipe")
def student(key, weight, x, y, test_x, test_y, reference, *, recipe):
    """Divergence from the reference and test accuracy of a network so trained."""

    def divergence(params):
        phi = attributions(recipe.model, params, x, y)
        return losses.factor_consistency_loss(phi, reference)

    params = _networks.fit(
        key,
        x,
        y,
        jnp.ones(len(y), bool),
        recipe=recipe,
        penalty=lambda params: weight * divergence(params),
    )
    right = recipe.model.apply(params, test_x).argmax(-1) == test_y
    return divergence(params), right.mean()


def _claims(config):
    bounds, claims = config.tolerances, []
    for name in config.sets:
        words = SETS[name]

        def gain(r, metric, name=name):
            with_it, without = f"{metric}/{config.weight:g}", f"{metric}/0"
            return r[name].final(with_it) - r[name].final(without)

        claims += [
            report.Claim(
                text=f"the references agree on the order of features, {words}",
                reference=BOUND,
                ours=lambda r, name=name: r[name].final("agreement"),
                at_least=bounds.agreement,
                over="mean",
                unit="of the pairs, 0.5 by chance",
                needs=(name,),
            ),
            report.Claim(
                text=f"the penalty moves the network towards them, {words}",
                reference=BOUND,
                ours=lambda r, gain=gain: -gain(r, "divergence"),
                above=0.0,
                over="mean",
                unit="nats less",
                needs=(name,),
            ),
            report.Claim(
                text=f"and does not cost accuracy, {words}",
                reference=BOUND,
                ours=lambda r, gain=gain: 100 * gain(r, "accuracy"),
                at_least=-bounds.points,
                over="mean",
                unit="points",
                needs=(name,),
            ),
            report.Claim(
                text=f"it adds accuracy, {words}",
                ours=lambda r, gain=gain: 100 * gain(r, "accuracy"),
                above=0.0,
                over="mean",
                unit="points",
                needs=(name,),
                question=True,
            ),
        ]
    return claims
