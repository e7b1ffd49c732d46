"""Are digits clustered better by a network that learns from its own balanced targets?

First a denoising autoencoder learns; k-means of its embeddings gives labels that a
softmax head learns; then the head's own probabilities on clean images, balanced over
the clusters, are the targets of its noisy ones. The balance is left out in one arm.

Source: DEPICT, Ghasedi Dizaji et al. 2017, arXiv:1704.06327.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import datasets
from experiments.common.claims import ahead
from experiments.common.keys import all_seeds_at_once, once_per_key
from experiments.common.references import stated
from experiments.common.threads import one_blas_thread
from logitlab import losses, metrics, report, targets
from logitlab.train import Compute, Study

CLUSTERS = 10
PIXELS, EMBEDDING = "pixels", "embedding"
HEAD = "head"
PAPER, CODE, UNBALANCED = "paper", "code", "unbalanced"
RULES = {PAPER: (1.0, 0.5), CODE: (2.0, 1.0), UNBALANCED: (2.0, 0.0)}  # power, balance
LABELS = {
    PIXELS: "k-means of pixels",
    EMBEDDING: "k-means of embeddings",
    HEAD: "a head that learned these",
    PAPER: "targets of the paper",
    CODE: "targets of the authors' code",
    UNBALANCED: "the code's, without balance",
}


class Batches(NamedTuple):
    """Rows of each step of the three stages."""

    first: np.ndarray
    second: np.ndarray
    third: np.ndarray


def build(config) -> Study:
    """The study; nothing here trains, clusters, writes or prints."""
    if min(config.epochs.values()) < 1:
        raise ValueError(
            f"config.epochs is {config.epochs.to_dict()}, expected at least 1 of each"
        )
    load = functools.cache(lambda: datasets.digits(centered=False))

    def batches(key):
        return drawn(key, len(load()[1]), config)

    def pixels():
        return jnp.asarray(load()[0], jnp.float32)

    first = all_seeds_at_once(
        config,
        lambda key, rows: pretrained(key, pixels(), rows.first, config),
        batches,
    )
    k_means = once_per_key(lambda key: clustered(key, first(key)["embedding"]))
    later = all_seeds_at_once(
        config,
        lambda key, rows, start, labels: refined(
            key, pixels(), rows, start, labels, config
        ),
        batches,
        lambda key: first(key)["params"],
        k_means,
    )

    def scores(key, name):
        if name == PIXELS:
            found = clustered(key, load()[0])
        elif name == EMBEDDING:
            found = k_means(key)
        else:
            found = later(key)[name]
        labels = np.asarray(load()[1], np.int32)
        return {
            "accuracy": metrics.clustering_accuracy(labels, found),
            "mutual_information": metrics.normalized_mutual_information(labels, found),
            "clusters": np.float32(len(np.unique(found))),
        }

    return Study(
        arms={
            name: Compute(lambda key, name=name: scores(key, name)) for name in LABELS
        },
        figures={
            "accuracy": report.intervals(
                {label: [name] for name, label in LABELS.items()},
                [""],
                "accuracy",
                label="clustering accuracy of all digits",
            )
        },
        claims=_claims(config.tolerances),
        labels=LABELS,
        title="Clusters that a network learns from its own targets",
        summary=(
            f"All {datasets.DIGITS} digits, an encoder 64-{config.hidden}-{CLUSTERS} "
            f"with dropout {config.dropout:g}; {config.epochs.first}, "
            f"{config.epochs.second} and {config.epochs.third} epochs of the three "
            "stages, targets of the last made anew for each epoch. Accuracies are "
            "those of the best renaming of the clusters."
        ),
        captions={"accuracy": "After the last epoch, and of k-means before."},
    )


def drawn(key: jax.Array, count: int, config) -> Batches:
    """Shuffled rows of whole batches, [epochs, steps, batch]."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    steps, size = count // config.batch_size, config.batch_size

    def stage(epochs):
        rows = [rng.permutation(count)[: steps * size] for _ in range(epochs)]
        return np.stack(rows).reshape(epochs, steps, size).astype(np.int32)

    epochs = config.epochs
    return Batches(*map(stage, (epochs.first, epochs.second, epochs.third)))


def clustered(key: jax.Array, rows: np.ndarray) -> np.ndarray:
    """Clusters [N] by k-means, the best of ten starts."""
    from sklearn import cluster

    seed = int(np.asarray(jax.random.key_data(key))[-1])
    model = cluster.KMeans(CLUSTERS, n_init=10, random_state=seed)
    with one_blas_thread():
        return model.fit_predict(np.asarray(rows, np.float32)).astype(np.int32)


def initial(key: jax.Array, pixels: int, hidden: int) -> dict:
    """Weights of encoder, head and decoder."""
    shapes = {
        "one": (pixels, hidden),
        "two": (hidden, CLUSTERS),
        "head": (CLUSTERS, CLUSTERS),
        "back_two": (CLUSTERS, hidden),
        "back_one": (hidden, pixels),
    }
    keys = jax.random.split(key, len(shapes))
    return {
        name: {
            "w": jax.random.normal(k, shape) / shape[0] ** 0.5,
            "b": jnp.zeros(shape[1]),
        }
        for k, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def _layer(layer, x):
    return x @ layer["w"] + layer["b"][None]


def encoded(params: dict, x: jax.Array, keep: jax.Array | None, rate: float) -> tuple:
    """Hidden units and embeddings; ``keep`` is uniform noise that drops inputs of both.

    Shapes: x [N, D], keep [N, D + H] -> [N, H], [N, 10]
    """

    def drop(a, noise):
        return a if keep is None else jnp.where(noise >= rate, a / (1 - rate), 0)

    pixels = x.shape[1]
    noise = (None, None) if keep is None else (keep[:, :pixels], keep[:, pixels:])
    h = jax.nn.leaky_relu(_layer(params["one"], drop(x, noise[0])))
    return h, jnp.tanh(_layer(params["two"], drop(h, noise[1])))


def step_of(x: jax.Array, config, rate: float):
    """(optimizer, step): a step takes state, rows and targets, or None, to a state."""
    optimizer = optax.adam(rate)

    def loss(params, rows, key, wanted):
        clean, _ = encoded(params, x[rows], None, config.dropout)
        noise = jax.random.uniform(key, (len(rows), x.shape[1] + config.hidden))
        _, e = encoded(params, x[rows], noise, config.dropout)
        back = jax.nn.leaky_relu(_layer(params["back_two"], e))
        image = _layer(params["back_one"], back)
        cost = jnp.square(image - x[rows]).sum(1).mean()
        cost += config.hidden_weight * jnp.square(back - clean).sum(1).mean()
        if wanted is not None:
            z = _layer(params["head"], e)
            cost += losses.depict_loss(z, wanted[rows]).mean()
        return cost

    def step(state, rows, wanted):
        params, inner, key = state
        key, mine = jax.random.split(key)
        grads = jax.grad(loss)(params, rows, mine, wanted)
        change, inner = optimizer.update(grads, inner)
        return (optax.apply_updates(params, change), inner, key), None

    return optimizer, step


def pretrained(key: jax.Array, x: jax.Array, batches: jax.Array, config) -> dict:
    """Weights after the first stage, and the embeddings of clean images."""
    optimizer, step = step_of(x, config, config.learning_rate)
    params = initial(key, x.shape[1], config.hidden)
    state = params, optimizer.init(params), key
    rows = batches.reshape(-1, batches.shape[-1])
    (params, *_), _ = jax.lax.scan(lambda s, rows: step(s, rows, None), state, rows)
    return {"params": params, "embedding": encoded(params, x, None, 0.0)[1]}


def refined(key, x, batches: Batches, params: dict, labels, config) -> dict:
    """Clusters [N] after the second stage, and after the third for each rule."""
    optimizer, step = step_of(x, config, config.learning_rate)

    def probs(params):
        return jax.nn.softmax(_layer(params["head"], encoded(params, x, None, 0.0)[1]))

    hard = jax.nn.one_hot(labels, CLUSTERS)
    rows = batches.second.reshape(-1, batches.second.shape[-1])
    state = params, optimizer.init(params), key
    (learned, *_), _ = jax.lax.scan(lambda s, rows: step(s, rows, hard), state, rows)
    optimizer, later = step_of(x, config, config.last_rate)

    def train(power, balance):
        def epoch(state, rows):
            wanted = targets.cluster_targets(
                probs(state[0]), power=power, balance=balance
            )
            return jax.lax.scan(lambda s, rows: later(s, rows, wanted), state, rows)

        state = learned, optimizer.init(learned), key
        (params, *_), _ = jax.lax.scan(epoch, state, batches.third)
        return probs(params).argmax(1).astype(jnp.int32)

    powers, balances = map(jnp.array, zip(*RULES.values(), strict=True))
    found = jax.vmap(train)(powers, balances)
    return {HEAD: probs(learned).argmax(1).astype(jnp.int32)} | {
        name: found[i] for i, name in enumerate(RULES)
    }


def _claims(bounds):
    source = stated("joint training improves the clusters")

    def gain(text, arm, other, least, **claim):
        bound = {"above": 0.0} if least is None else {"at_least": least}
        return ahead(
            text,
            "accuracy",
            arm,
            other,
            scale=100,
            over="mean",
            unit="points",
            **bound,
            **claim,
        )

    return [
        gain(
            "with the paper's targets clusters are better than k-means of pixels",
            PAPER,
            PIXELS,
            bounds.over_pixels,
            reference=source,
        ),
        gain(
            "they are better than those of the head they start from",
            PAPER,
            HEAD,
            None,
            reference=source,
        ),
        report.Claim(
            text="without the balance some seeds lose a cluster",
            reference=stated("the balance avoids degenerate clusters"),
            ours=lambda r: r[UNBALANCED].final("clusters"),
            at_most=CLUSTERS - 1.0,
            over="share",
            share=bounds.lose,
            unit="clusters",
            needs=(UNBALANCED,),
        ),
        report.Claim(
            text="with it none does",
            reference=stated("the balance avoids degenerate clusters"),
            ours=lambda r: r[PAPER].final("clusters"),
            at_least=float(CLUSTERS),
            unit="clusters",
            needs=(PAPER,),
        ),
        gain(
            "the targets of the authors' code are better than those of the paper",
            CODE,
            PAPER,
            None,
            question=True,
        ),
    ]
