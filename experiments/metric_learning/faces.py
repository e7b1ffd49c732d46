"""Negative pairs of a batch as further classes of a margin head: UNPG.

Digits are cut into many small identities, whose weights are easy to tell apart while
their images are not, as in face recognition. UNPG adds the batch's own negative pairs
to the classes that an example must not be near to.

Source: Unified Negative Pair Generation, Jung et al. 2022, arXiv:2203.11593.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.claims import ahead
from experiments.common.datasets import digits
from experiments.common.references import prototype, stated
from experiments.metric_learning._embeddings import embedding_run, separation
from logitlab import losses, report, transforms
from logitlab.train import Compute, Study
from logitlab.train.config import check_name

HEADS = {
    "cosface": ("CosFace", losses.cosface_loss),
    "arcface": ("ArcFace", losses.arcface_loss),
    "magface": ("MagFace", losses.magface_loss),
}
WITH = "_unpg"  # after a head's name


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    for name in config.heads:
        check_name(name, HEADS, "config.heads")
    classes = 10 * config.clusters
    draw = functools.partial(_data, functools.cache(identities), config)
    names = [
        name
        for head in config.heads
        for name in ((head,) if head == "magface" else (head, head + WITH))
    ]
    arms = {
        name: embedding_run(
            config,
            _objective(name, config),
            data=draw,
            classes=classes,
            evaluate=functools.partial(_evaluate, config.judged),
            show=("test/recall", "test/overlap"),
        )
        for name in names
    }
    labels = {name: _label(name) for name in names}
    return Study(
        arms={**arms, "rows": Compute(functools.partial(_rows, config, classes))},
        figures={
            "pairs": report.ranking(
                {
                    "test/overlap": "pairs in the wrong order, test",
                    "train/overlap": "pairs in the wrong order, training",
                    "test/recall": "recall at 1, test",
                }
            )
        },
        claims=_claims(config),
        labels=labels,
        title="Negative pairs for margin heads",
        summary=(
            f"Each digit in {config.clusters} clusters makes {classes} identities, a "
            f"quarter of whose images are for testing. A network with "
            f"{' and '.join(map(str, config.widths))} hidden units and {config.dim} "
            f"outputs, {config.steps} steps of Adam with {config.batch_size} images; "
            f"margin {config.margin:g}, scale {config.scale:g}."
        ),
        captions={
            "pairs": (
                "A positive pair of images against a negative one: how often the "
                "negative one is more similar. Recall: images whose nearest neighbor "
                "has their identity."
            )
        },
    )


def _label(name):
    head = HEADS[name.removesuffix(WITH)][0]
    return f"{head} with UNPG" if name.endswith(WITH) else head


def identities(clusters: int) -> tuple[np.ndarray, np.ndarray]:
    """The digits, and of each image its digit and cluster as one number."""
    from sklearn.cluster import KMeans

    x, y = digits()
    names = np.empty(len(y), np.int32)
    for digit in range(10):
        means = KMeans(clusters, n_init=4, random_state=0).fit(x[y == digit])
        names[y == digit] = digit * clusters + means.labels_
    return x.astype(np.float32), names


def _data(load, config, key):
    x, y = load(config.clusters)
    order = jax.random.permutation(key, len(y))
    held = len(y) // 4
    parts = {"test": order[:held], "train": order[held:]}
    return {
        name: {"x": jnp.asarray(x)[rows], "y": jnp.asarray(y)[rows]}
        for name, rows in parts.items()
    }


def _objective(name, config):
    """The mean over a batch, with the regularizer where the head has one."""
    settings = dict(scale=config.scale)
    head = name.removesuffix(WITH)
    if name.endswith(WITH):
        loss = functools.partial(
            losses.unpg_loss, head=head, margin=config.margin, whisker=config.whisker
        )
    else:
        loss = HEADS[head][1]
        if head != "magface":
            settings["margin"] = config.margin
    return lambda e, y, kernel: (loss(e, y, kernel, **settings), True)


def _evaluate(count, embed, params, parts):
    """Scores of as many images of either part."""
    found = {}
    for part in ("train", "test"):
        x, y = (parts[part][name][:count] for name in "xy")
        found |= separation(part, embed(params, x), y)
    return found


def _rows(config, classes, key):
    """How far UNPG's losses are above the head's, row by row, on a random batch."""
    e_key, w_key, y_key = jax.random.split(key, 3)
    e = jax.random.normal(e_key, (config.batch_size, config.dim))
    kernel = jax.random.normal(w_key, (config.dim, classes))
    labels = jax.random.randint(y_key, (config.batch_size,), 0, classes)
    settings = dict(margin=config.margin, scale=config.scale)

    def above(labels):
        more = losses.unpg_loss(e, labels, kernel, whisker=config.whisker, **settings)
        return more - losses.cosface_loss(e, labels, kernel, **settings)

    return {
        "least": above(labels).min(),
        "pairs": (transforms.unpg_negatives(e, labels) > -jnp.inf).sum(),
        "alone": jnp.abs(above(jnp.zeros_like(labels))).max(),
    }


def _claims(config):
    claims = [
        report.Claim(
            text="no example costs less with the negative pairs",
            paper="theorem (section 3)",
            ours=lambda results: results["rows"].final("least"),
            at_least=0.0,
            unit="nats above the head's loss, at least",
            needs=("rows",),
        ),
        report.Claim(
            text="and none more in a batch of one identity, which has no such pair",
            paper="theorem (section 3)",
            ours=lambda results: results["rows"].final("alone"),
            at_most=config.tolerances.rounding,
            unit="nats apart, at most",
            needs=("rows",),
        ),
    ]
    for head in config.heads:
        if head == "magface":
            continue
        for part in ("train", "test"):
            claims.append(
                ahead(
                    f"{_label(head + WITH)} has fewer {part} pairs in the wrong order",
                    f"{part}/overlap",
                    head,
                    head + WITH,
                    scale=100,
                    reference=stated("a more discriminative feature space"),
                    above=0.0,
                    over="mean",
                    unit="points fewer",
                )
            )
        claims.append(
            ahead(
                f"{_label(head + WITH)} retrieves more test images of their identity",
                "test/recall",
                head + WITH,
                head,
                scale=100,
                reference=prototype("inconclusive: 0.926 to 0.913, 0.900 to 0.930"),
                above=0.0,
                over="mean",
                unit="points ahead",
            )
        )
    return claims
