"""Naive Bayes or logistic regression on trained features, from two examples on?

A network learns some of the digits; its hidden units are the features of the others, of
which few or many examples are labeled. Features are scaled to [0, 1] by the labeled
ones.

Source: Revisiting Discriminative vs. Generative Classifiers, arXiv:2302.02334.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.classification.naive_bayes import BAYES, LOGISTIC, fit
from experiments.common import datasets
from experiments.common.claims import least_ahead
from experiments.common.keys import all_seeds_at_once
from experiments.common.references import stated
from logitlab import estimators, losses, models, report
from logitlab.train import Compute, Study

LABELS = {BAYES: "naive Bayes", LOGISTIC: "logistic regression"}


def build(config) -> Study:
    """The study; nothing here trains, fits, writes or prints."""
    _check(config)
    load = functools.cache(lambda: datasets.digits(centered=False))
    arms = {}
    draw = all_seeds_at_once(
        config,
        lambda key, rows: features(key, rows, config),
        lambda key: divided(key, *load(), config),
    )
    for method in LABELS:
        values = all_seeds_at_once(
            config,
            lambda key, rows, method=method: accuracies(method, rows, config),
            draw,
            by="map",
        )
        arms[method] = Compute(values)
    return Study(
        arms=arms,
        figures={
            "accuracy": report.trends(
                {n: f"accuracy/{n}" for n in config.shots},
                label="test accuracy",
                across="labeled examples of each digit",
                log_across=True,
            )
        },
        claims=_claims(config),
        labels=LABELS,
        title="Naive Bayes and logistic regression on trained features",
        summary=(
            f"{config.width} hidden units of a network that learned the digits "
            f"{', '.join(map(str, config.seen))}; classifiers of the others, "
            f"{config.test} of which test. Logistic regression has L2 (C = "
            f"{config.inverse_penalty:g}); naive Bayes a variance that the classes "
            "share."
        ),
        captions={"accuracy": "Against the number of examples that are labeled."},
    )


def _check(config):
    if not config.shots or min(config.shots) < 2:
        raise ValueError(
            f"config.shots is {tuple(config.shots)}, expected 2 and more: one example "
            "has no variance"
        )
    if not 1 < len({*config.seen}) < 9 or not {*config.seen} <= {*range(10)}:
        raise ValueError(
            f"config.seen is {tuple(config.seen)}, expected 2 to 8 of the ten digits"
        )


def divided(key: jax.Array, x: np.ndarray, y: np.ndarray, config) -> dict:
    """Images of seen digits; of each other digit in turn those to label; and tests."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    place = {digit: i for i, digit in enumerate(config.seen)}
    others = [digit for digit in range(10) if digit not in place]
    seen = np.flatnonzero(np.isin(y, config.seen))
    most, each = max(config.shots), config.test // len(others)
    rows = [rng.permutation(np.flatnonzero(y == digit)) for digit in others]
    if min(map(len, rows)) < most + each:
        raise ValueError(
            f"config.shots has {most} and config.test is {config.test}, but there are "
            f"only {min(map(len, rows))} of a digit"
        )
    train = np.stack([row[:most] for row in rows], 1).ravel()
    test = np.concatenate([row[most : most + each] for row in rows])
    label = np.vectorize({d: i for i, d in enumerate(others)}.get)
    batches = rng.integers(len(seen), size=(config.steps, config.batch_size))
    return {
        "seen_x": x[seen].astype(np.float32),
        "seen_y": np.vectorize(place.get)(y[seen]).astype(np.int32),
        "x": x[train].astype(np.float32),
        "y": label(y[train]).astype(np.int32),
        "test_x": x[test].astype(np.float32),
        "test_y": label(y[test]).astype(np.int32),
        "batches": batches.astype(np.int32),
    }


def features(key: jax.Array, rows, config) -> dict:
    """The rows, with hidden units of a network that learned the seen digits for x."""
    encoder, head = models.MLP((), config.width), models.MLP((), len(config.seen))
    keys = jax.random.split(key)
    params = (
        encoder.init(keys[0], rows["seen_x"][:1]),
        head.init(keys[1], jnp.zeros((1, config.width))),
    )
    optimizer = optax.adam(config.learning_rate)

    def hidden(params, x):
        return jax.nn.relu(encoder.apply(params[0], x))

    def loss(params, chosen):
        z = head.apply(params[1], hidden(params, rows["seen_x"][chosen]))
        return losses.cross_entropy(z, rows["seen_y"][chosen]).mean()

    def step(state, chosen):
        params, inner = state
        change, inner = optimizer.update(jax.grad(loss)(params, chosen), inner)
        return (optax.apply_updates(params, change), inner), None

    state = params, optimizer.init(params)
    (params, _), _ = jax.lax.scan(step, state, rows["batches"])
    return {
        "x": hidden(params, rows["x"]),
        "y": rows["y"],
        "test_x": hidden(params, rows["test_x"]),
        "test_y": rows["test_y"],
    }


def accuracies(method: str, rows, config) -> dict:
    """Test accuracy for each number of labeled examples of a digit."""
    classes = 10 - len(config.seen)

    def one(shot):
        mask = jnp.arange(len(rows["y"])) < classes * shot
        low = rows["x"].min(0, keepdims=True, where=mask[:, None], initial=jnp.inf)
        high = rows["x"].max(0, keepdims=True, where=mask[:, None], initial=-jnp.inf)
        span = jnp.where(high > low, high - low, 1)
        params = fit(
            method,
            (rows["x"] - low) / span,
            rows["y"],
            mask,
            classes=classes,
            inverse_penalty=config.inverse_penalty,
            steps=config.fit_steps,
            var_eps=config.var_eps,
        )
        z = estimators.linear_logits(params, (rows["test_x"] - low) / span)
        return jnp.mean(z.argmax(-1) == rows["test_y"])

    found = jax.lax.map(one, jnp.array(config.shots))
    return {f"accuracy/{n}": found[i] for i, n in enumerate(config.shots)}


def _claims(config):
    bounds, both = config.tolerances, tuple(LABELS)
    few = [n for n in config.shots if n <= bounds.few]
    many = [n for n in config.shots if n >= bounds.many]

    def lead(text, first, second, shots, least):
        gap = least_ahead([f"accuracy/{n}" for n in shots], first, second)
        return report.Claim(
            text=text,
            reference=stated("two regimes"),
            ours=lambda results: 100 * gap(results),
            at_least=least,
            over="mean",
            unit="points",
            needs=both,
        )

    claims = []
    for n in few:
        words = f"with {n} examples of a digit naive Bayes is ahead"
        claims.append(lead(words, BAYES, LOGISTIC, [n], bounds.few_ahead))
    for n in many:
        words = f"with {n} logistic regression is ahead"
        claims.append(lead(words, LOGISTIC, BAYES, [n], bounds.many_ahead))
    return claims
