"""Views of the same signal sorted before those of others: GroCo against NT-Xent.

An encoder learns from two views of each signal, without labels, and is judged by the
vote of the nearest neighbors. One-dimensional digits are chosen because the neighbors
of raw signals are poor, other than those of raw images.

Source: Learning by Sorting, Shvetsova et al. 2023, arXiv:2301.02009.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from experiments.common.claims import ahead
from experiments.common.references import prototype, stated
from experiments.metric_learning._views import neighbor_accuracy, signal_view
from logitlab import data, losses, models, report
from logitlab.train import Run, Study
from logitlab.train.config import check_name

OBJECTIVES = {
    "groco": ("GroCo", lambda a, b: losses.groco_loss(jnp.stack([a, b], 1))),
    "ntxent": (
        "NT-Xent, temperature 0.5",
        lambda a, b: losses.simclr_ntxent_loss(a, b, temperature=0.5),
    ),
    "sharp": (
        "NT-Xent, temperature 0.1",
        lambda a, b: losses.simclr_ntxent_loss(a, b, temperature=0.1),
    ),
}
CLASSES = 10


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    for name in config.objectives:
        check_name(name, OBJECTIVES, "config.objectives")
    draw = functools.partial(_data, config, functools.cache(data.load))
    labels = {name: OBJECTIVES[name][0] for name in config.objectives}
    return Study(
        arms={name: _run(config, OBJECTIVES[name][1], draw) for name in labels},
        figures={
            "neighbors": report.curves(
                *(_vote(k) for k in config.ks),
                labels={_vote(k): f"accuracy, {k} neighbor(s)" for k in config.ks},
                log_steps=False,
            )
        },
        claims=_claims(config),
        labels=labels,
        title="Learning by sorting",
        summary=(
            f"MNIST-1D: {config.train} signals for training, {config.test} others are "
            "classified by the weighted vote of their nearest neighbors among these. "
            f"An encoder with {' and '.join(map(str, config.widths))} units and a "
            f"projector of {config.dim}, {config.steps} steps of Adam, "
            f"{config.batch_size} signals in two views."
        ),
        captions={"neighbors": "Step 0 is the encoder before training."},
    )


def _vote(k):
    return f"neighbors/{k}"


def _data(config, load, key):
    parts = load("mnist1d")
    x, y = (jnp.concatenate([part[n] for part in parts.values()]) for n in "xy")
    order = jax.random.permutation(key, len(y))
    train, test = order[: config.train], order[config.train :][: config.test]
    return {
        "train": {"x": x[train], "y": y[train]},
        "test": {"x": x[test], "y": y[test]},
    }


def _run(config, objective, draw) -> Run:
    encoder = models.MLP(widths=tuple(config.widths[:-1]), classes=config.widths[-1])
    projector = models.MLP(widths=(config.widths[-1],), classes=config.dim)

    def init(key):
        first, second = jax.random.split(key)
        features = jnp.zeros((1, config.widths[-1]))
        return {
            "encoder": encoder.init(first, jnp.zeros((1, 40)))["params"],
            "projector": projector.init(second, features)["params"],
        }

    def features(params, x):
        return encoder.apply({"params": params["encoder"]}, x)

    def loss(params, batch, key):
        views = [
            projector.apply(
                {"params": params["projector"]},
                jax.nn.relu(features(params, signal_view(k, batch["x"]))),
            )
            for k in jax.random.split(key)
        ]
        return objective(*views)

    def evaluate(params, parts):
        (f, y), (r, ry) = (
            (features(params, parts[part]["x"]), parts[part]["y"])
            for part in ("test", "train")
        )
        return neighbor_accuracy(f, y, r, ry, ks=config.ks, classes=CLASSES)

    return Run(
        init=init,
        loss=loss,
        data=draw,
        optimizer=optax.adam(config.learning_rate),
        evaluate=evaluate,
        steps=config.steps,
        batch_size=config.batch_size,
        evaluate_at=tuple(range(0, config.steps + 1, max(config.steps // 5, 1))),
        show=(_vote(config.ks[-1]),),
    )


def _claims(config):
    first = config.objectives[0]
    claims = [
        report.Claim(
            text=f"before training the vote of {k} neighbor(s) is poor",
            reference="what the comparison needs",
            ours=lambda results, k=k: results[first][_vote(k)][0],
            at_most=config.tolerances.poor,
            over="mean",
            needs=(first,),
        )
        for k in config.ks
    ]
    last = _vote(config.ks[-1])
    claims += [
        report.Claim(
            text=f"training by {OBJECTIVES[name][0]} improves on none at all",
            question=True,
            ours=lambda results, name=name: (
                100 * (results[name].final(last) - results[name][last][0])
            ),
            above=0.0,
            over="mean",
            unit="points over the untrained encoder",
            needs=(name,),
        )
        for name in config.objectives
    ]
    sources = {
        "ntxent": dict(reference=stated("better neighbors than contrastive losses")),
        "sharp": dict(reference=prototype("0.982 against 0.980 on images of digits")),
    }
    for other in ("ntxent", "sharp"):
        if not {"groco", other} <= {*config.objectives}:
            continue
        claims += [
            ahead(
                f"GroCo's vote of {k} neighbor(s) is as right as that of "
                f"{OBJECTIVES[other][0]}",
                _vote(k),
                "groco",
                other,
                scale=100,
                at_least=0.0,
                over="mean",
                unit="points ahead",
                **sources[other],
            )
            for k in config.ks
        ]
    return claims
