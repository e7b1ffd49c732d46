"""Two more terms for prototypes of few examples: a triplet and a neighborhood score.

A network learns from episodes of five of six digits, and classifies the four others by
the means of one or five images of each. To the cross-entropy of squared distances comes
a triplet loss against the prototypes, or the negative logarithm of the ICNN score.

Source: SuSana Distancia, 2023, arXiv:2305.09062.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.claims import ahead
from experiments.common.references import stated
from experiments.metric_learning._embeddings import classes_of_digits
from logitlab import losses, metrics, models, report, transforms
from logitlab.train import Run, Study
from logitlab.train.config import check_name

TERMS = {
    "ce": ("cross-entropy", ()),
    "triplet": ("with the triplet", ("triplet",)),
    "icnn": ("with ICNN", ("icnn",)),
    "both": ("with both", ("triplet", "icnn")),
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    for name in config.objectives:
        check_name(name, TERMS, "config.objectives")
    if not 1 <= config.ways <= len(config.seen):
        raise ValueError(
            f"config.ways is {config.ways}, expected 1 to {len(config.seen)}, the "
            "digits that are seen"
        )
    draw = functools.partial(_data, config)
    arms = {name: _run(config, TERMS[name][1], draw) for name in config.objectives}
    labels = {name: TERMS[name][0] for name in config.objectives}
    return Study(
        arms=arms,
        figures={
            "accuracy": report.ranking(
                {
                    **{
                        _accuracy(shots): f"accuracy, {shots} image(s) a class"
                        for shots in config.shots
                    },
                    "icnn": "ICNN score of unseen digits",
                }
            )
        },
        claims=_claims(config),
        labels=labels,
        title="Losses of few-shot episodes",
        summary=(
            f"Episodes of {config.ways} of the digits "
            f"{', '.join(map(str, config.seen))}: {config.support} images of each make "
            f"a prototype, {config.queries} are classified. {config.steps} steps of "
            f"Adam; then {config.episodes} episodes of the digits "
            f"{', '.join(map(str, config.unseen))} for every seed."
        ),
        captions={
            "accuracy": (
                "Of queries of digits never seen, in episodes of all four; and how far "
                "apart all images of these digits are."
            )
        },
    )


def _accuracy(shots):
    return f"accuracy/{shots}"


def by_rank(x, y, classes, order):
    """One image of each class in a row: [rows, C, D], as many as the fewest."""
    fewest = int(np.bincount(y, minlength=classes).min())
    sets = [x[y == c] for c in range(classes)]
    return jnp.stack(
        [
            jnp.asarray(rows)[jax.random.permutation(key, len(rows))[:fewest]]
            for key, rows in zip(jax.random.split(order, classes), sets, strict=True)
        ],
        1,
    )


def _data(config, key):
    seen, unseen = (classes_of_digits(c) for c in (config.seen, config.unseen))
    return {
        "train": {"x": by_rank(*seen, len(config.seen), key)},
        "unseen": {
            "x": by_rank(*unseen, len(config.unseen), jax.random.fold_in(key, 1))
        },
    }


def episode(embed, support, queries):
    """Kernel of prototypes, embeddings of the queries, and their labels.

    Shapes: support [S, C, D], queries [Q, C, D] -> [E, C], [Q * C, E], [Q * C]
    """
    classes = support.shape[1]
    (e, y), (q, labels) = (
        (embed(x.reshape(-1, x.shape[-1])), jnp.tile(jnp.arange(classes), len(x)))
        for x in (support, queries)
    )
    return transforms.prototypes(e, y, classes), q, labels


def distance_logits(queries, kernel):
    """Minus the squared distances, but for what all classes share."""
    return 2 * queries @ kernel - jnp.sum(kernel**2, 0, keepdims=True)


def _run(config, terms, draw) -> Run:
    model = models.MLP(widths=tuple(config.widths), classes=config.dim)

    def embed_with(params):
        return lambda x: model.apply({"params": params}, x)

    def loss(params, batch, key):
        x = batch["x"]
        chosen = jax.random.permutation(key, len(config.seen))[: config.ways]
        x = x[:, chosen]
        kernel, queries, labels = episode(
            embed_with(params), x[: config.support], x[config.support :]
        )
        parts = [losses.cross_entropy(distance_logits(queries, kernel), labels).mean()]
        if "triplet" in terms:
            parts.append(losses.proto_triplet_loss(queries, labels, kernel).mean())
        if "icnn" in terms:
            parts.append(losses.icnn_loss(queries, labels))
        return jnp.full(len(batch["x"]), sum(parts) / len(parts))

    def evaluate(params, parts):
        x, embed = parts["unseen"]["x"], embed_with(params)

        def right(shots, key):
            order = jax.random.permutation(key, len(x))
            kernel, queries, labels = episode(
                embed,
                x[order[:shots]],
                x[order[shots : shots + config.test_queries]],
            )
            hits = distance_logits(queries, kernel).argmax(-1) == labels
            return jnp.sum(hits, dtype=jnp.int32)

        keys = jax.random.split(jax.random.key(config.seed), config.episodes)
        count = config.episodes * config.test_queries * x.shape[1]
        found = {
            _accuracy(shots): metrics.Mean(
                jax.lax.map(functools.partial(right, shots), keys, batch_size=50).sum(),
                jnp.int32(count),
            )
            for shots in config.shots
        }
        e = embed(x).reshape(-1, config.dim)
        labels = jnp.tile(jnp.arange(x.shape[1]), len(x))
        return {**found, "icnn": metrics.icnn_score(e, labels)}

    def init(key):
        return model.init(key, jnp.zeros((1, 64)))["params"]

    return Run(
        init=init,
        loss=loss,
        data=draw,
        optimizer=optax.adam(config.learning_rate),
        evaluate=evaluate,
        steps=config.steps,
        batch_size=config.support + config.queries,
        evaluate_at=(0, config.steps),
        show=(_accuracy(config.shots[0]), "icnn"),
    )


def _claims(config):
    claims = [
        report.Claim(
            text=f"training on some digits helps with {shots} image(s) of others",
            question=True,
            ours=lambda results, shots=shots: (
                100
                * (
                    results["ce"].final(_accuracy(shots))
                    - results["ce"][_accuracy(shots)][0]
                )
            ),
            above=0.0,
            over="mean",
            unit="points over the untrained network",
            needs=("ce",),
        )
        for shots in config.shots
    ]
    for name in config.objectives:
        if name == "ce":
            continue
        what = TERMS[name][0]
        claims += [
            ahead(
                f"{what} queries of {shots}-shot episodes are classified no worse",
                _accuracy(shots),
                name,
                "ce",
                scale=100,
                reference=stated("more accurate than the cross-entropy alone"),
                at_least=-config.tolerances.worse,
                over="mean",
                unit="points ahead of cross-entropy alone",
            )
            for shots in config.shots
        ]
        if "icnn" in TERMS[name][1]:
            claims.append(
                ahead(
                    f"{what} the embeddings of unseen digits score higher",
                    "icnn",
                    name,
                    "ce",
                    reference=stated("a higher ICNN score"),
                    above=0.0,
                    over="mean",
                    unit="ahead of cross-entropy alone",
                )
            )
    return claims
