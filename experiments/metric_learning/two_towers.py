"""Does contrastive fine-tuning keep a model robust on classes that it has not seen?

Images and captions of eight digits are pre-trained into one space. Then the image tower
is tuned against attacks, by the labels or by the contrastive loss, with two penalties
on what the attack changes or without. Two more digits, told apart by their captions
alone, show what is left of the general model.

Source: AdvFLYP, 2026, arXiv:2604.11576.
"""

import functools
import itertools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import datasets
from experiments.common.claims import ahead
from experiments.common.keys import once_per_key
from experiments.common.references import stated
from experiments.common.solvers import descended
from logitlab import attacks, losses, models, report, transforms
from logitlab.train import Compute, Study

UNTUNED, BY_LABELS = "untuned", "labels"
WEIGHTS = {  # of features and logits
    "contrastive": (0.0, 0.0),
    "features": (1.0, 0.0),
    "logits": (0.0, 1.0),
    "both": (1.0, 1.0),
}
LABELS = {
    UNTUNED: "not tuned",
    BY_LABELS: "labels",
    "contrastive": "contrastive",
    "features": "with features",
    "logits": "with logits",
    "both": "with both (AdvFLYP)",
}
EACH, SEEN, CLASSES, CAPTION = 170, 8, 10, 16  # images, digits, entries of a caption
ROBUST, CLEAN = "robust/unseen", "accuracy/unseen"


class Pairs(NamedTuple):
    """Images with captions and labels: [N, 64], [N, 16], [N]; prompts of all digits."""

    x: jax.Array
    captions: jax.Array
    y: jax.Array
    prompts: jax.Array


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    for name in ("eps", "temperature"):
        if config[name] <= 0:
            raise ValueError(f"config.{name} is {config[name]:g}, expected above 0")
    images = functools.cache(_images)
    tune = jax.jit(functools.partial(_numbers, config))
    made = once_per_key(lambda key: tune(key, images()))
    return Study(
        arms={name: Compute(lambda key, name=name: made(key)[name]) for name in LABELS},
        figures={
            "unseen": report.frontier(
                {words: {name: ""} for name, words in LABELS.items()},
                across=(CLEAN, "accuracy on unseen digits"),
                up=(ROBUST, "robust accuracy on unseen digits"),
            )
        },
        claims=_claims(),
        labels=LABELS,
        title="Adversarial fine-tuning of images and captions",
        summary=(
            f"A caption is the image in {CAPTION} blocks, with noise; a digit's prompt "
            "is the mean caption of its images. Two MLPs learn pairs of eight digits, "
            f"drawn for each seed, for {config.steps} steps of Adam; the image tower "
            f"is tuned for {config.tune_steps} more against {config.attack_steps} "
            f"steps of PGD within {config.eps:g} of each pixel. Robust is what "
            f"{config.test_steps} steps of Auto-PGD leave within the same."
        ),
        captions={
            "unseen": "Two digits by their prompts; a half is chance for clean images."
        },
        table=_table,
    )


def _images():
    """As many images of each digit: [10, EACH, 64]."""
    x, y = datasets.digits(centered=False)
    return jnp.stack([jnp.float32(x[y == c][:EACH]) for c in range(CLASSES)])


def captioned(key: jax.Array, x: jax.Array, noise: float) -> jax.Array:
    """What is said of images [..., 64]: the brightness of 16 blocks, with noise."""
    blocks = x.reshape(*x.shape[:-1], 4, 2, 4, 2).mean((-3, -1))
    blocks = blocks.reshape(*x.shape[:-1], CAPTION)
    return blocks + noise * jax.random.normal(key, blocks.shape)


def pairs(key: jax.Array, images: jax.Array, noise: float) -> Pairs:
    """The digits in a random order, the first of which are seen; images shuffled."""
    keys = jax.random.split(key, 3)
    x = jax.random.permutation(keys[0], images)
    x = jax.random.permutation(keys[1], x, axis=1)
    captions = captioned(keys[2], x, noise)
    y = jnp.repeat(jnp.arange(CLASSES), x.shape[1])
    flat = x.reshape(-1, x.shape[-1]), captions.reshape(-1, CAPTION)
    return Pairs(*flat, y, captions.mean(1))


def embed(model, params, x):
    """Embeddings of length 1."""
    return transforms.normalize(model.apply(params, x))


def _numbers(config, key, images):
    """Name of an arm -> its numbers; one program for all of a seed."""
    keys = jax.random.split(key, 5)
    data = pairs(keys[0], images, config.noise)
    seen = int(config.train_share * images.shape[1])
    rows = jnp.arange(len(data.y)).reshape(CLASSES, -1)
    learned, held = rows[:SEEN, :seen].reshape(-1), rows[:SEEN, seen:].reshape(-1)
    model = models.MLP(widths=tuple(config.widths), classes=config.dim)
    embedded = functools.partial(embed, model)

    def steps_of(key, count):
        return jax.random.split(key, count)

    def batch(key):
        at = jax.random.choice(key, learned, (config.batch_size,), replace=False)
        return data.x[at], data.captions[at], data.y[at]

    def pretraining(params, key):
        x, captions, _ = batch(key)

        def loss(params):
            a, t = embedded(params["image"], x), embedded(params["text"], captions)
            return losses.advflyp_loss(
                a,
                a,
                a,
                t,
                temperature=config.temperature,
                feature_weight=0.0,
                logit_weight=0.0,
            ).mean()

        return jax.grad(loss)(params)

    start = {
        name: model.init(k, jnp.zeros((1, size)))
        for name, k, size in zip(
            ("image", "text"), jax.random.split(keys[1]), (64, CAPTION), strict=True
        )
    }
    adam = optax.adam(config.learning_rate)
    towers, _ = descended(
        pretraining, start, adam, batches=steps_of(keys[2], config.steps)
    )
    frozen, text = towers["image"], functools.partial(embedded, towers["text"])
    prompts = text(data.prompts)

    def attacked(params, x, kernel, labels, key, loss):
        return attacks.pgd(
            lambda x: embedded(params, x) @ kernel / config.temperature,
            x,
            labels,
            eps=config.eps,
            steps=config.attack_steps,
            key=key,
            loss=loss,
        ).inputs

    def by_labels(params, key):
        row_key, attack_key = jax.random.split(key)
        x, _, y = batch(row_key)
        kernel = prompts[:SEEN].T
        x = attacked(params, x, kernel, y, attack_key, attacks.label_odds)

        def loss(params):
            z = embedded(params, x) @ kernel / config.temperature
            return losses.cross_entropy(z, y).mean()

        return jax.grad(loss)(params)

    def contrastive(weights, params, key):
        row_key, attack_key = jax.random.split(key)
        clean, captions, _ = batch(row_key)
        t, own = text(captions), jnp.arange(config.batch_size)
        x = attacked(params, clean, t.T, own, attack_key, both_ways)

        def loss(params):
            return losses.advflyp_loss(
                embedded(params, x),
                embedded(frozen, x),
                embedded(params, clean),
                t,
                temperature=config.temperature,
                feature_weight=weights[0],
                logit_weight=weights[1],
            ).mean()

        return jax.grad(loss)(params)

    def tuned(slope):
        batches = steps_of(keys[3], config.tune_steps)
        tuner = optax.adam(config.tune_rate)
        return descended(slope, frozen, tuner, batches=batches)[0]

    def by_weights(weights):
        return tuned(functools.partial(contrastive, weights))

    ways = jax.lax.map(by_weights, jnp.float32(list(WEIGHTS.values())))
    params = jax.tree.map(
        lambda a, b, c: jnp.concatenate([a[None], b[None], c]),
        frozen,
        tuned(by_labels),
        ways,
    )

    def tested(params):
        found = {}
        parts = {
            "seen": (held, prompts[:SEEN], 0),
            "unseen": (rows[SEEN:].reshape(-1), prompts[SEEN:], SEEN),
        }
        for name, (at, kernel, first) in parts.items():
            x, y = data.x[at], data.y[at] - first

            def logits_fn(x, kernel=kernel):
                return embedded(params, x) @ kernel.T / config.temperature

            found[f"accuracy/{name}"] = (logits_fn(x).argmax(-1) == y).mean()
            broken = attacks.apgd(
                logits_fn, x, y, eps=config.eps, steps=config.test_steps
            ).broken
            found[f"robust/{name}"] = 1 - broken.mean()
        return found

    results = jax.lax.map(tested, params)
    return {
        name: {metric: values[i] for metric, values in results.items()}
        for i, name in enumerate(LABELS)
    }


def both_ways(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Both cross-entropies of a batch, of images [B, B] and of captions."""
    by_image = losses.cross_entropy(logits, labels)
    return (by_image + losses.cross_entropy(logits.T, labels)) / 2


def _effect(place, metric, results):
    """Points that one of the penalties adds, the mean without and with the other."""
    rows = []
    for weights, other in itertools.product(WEIGHTS.items(), WEIGHTS.items()):
        apart = np.subtract(other[1], weights[1])
        if apart[place] == 1 and apart[1 - place] == 0:
            rows.append(
                results[other[0]].final(metric) - results[weights[0]].final(metric)
            )
    return 100 * np.mean(rows, 0)


def _claims():
    points = dict(scale=100, over="mean", unit="points")
    better = "more robust on 14 other sets than tuning by labels"
    terms = "logits help robust accuracy, features clean accuracy"
    return [
        ahead(
            "on unseen digits contrastive tuning is more robust than tuning by labels",
            ROBUST,
            "contrastive",
            BY_LABELS,
            reference=stated(better),
            above=0.0,
            **points,
        ),
        ahead(
            "AdvFLYP is more robust there than tuning by labels",
            ROBUST,
            "both",
            BY_LABELS,
            reference=stated(better),
            above=0.0,
            **points,
        ),
        *(
            report.Claim(
                text=f"the penalty on {what} raises {words} on unseen digits",
                reference=stated(terms),
                ours=functools.partial(_effect, place, metric),
                above=0.0,
                over="mean",
                unit="points",
                needs=tuple(WEIGHTS),
            )
            for what, words, place, metric in (
                ("logits", "robust accuracy", 1, ROBUST),
                ("features", "clean accuracy", 0, CLEAN),
            )
        ),
        ahead(
            "AdvFLYP is more robust there than the model before it was tuned",
            ROBUST,
            "both",
            UNTUNED,
            reference=stated("adversarial fine-tuning makes the model robust"),
            above=0.0,
            **points,
        ),
        ahead(
            "AdvFLYP keeps more clean accuracy there than tuning by labels",
            CLEAN,
            "both",
            BY_LABELS,
            question=True,
            above=0.0,
            **points,
        ),
    ]


def _table(results):
    """One row for each way to tune."""
    columns = {
        "accuracy/seen": "seen, clean",
        "robust/seen": "attacked",
        CLEAN: "unseen, clean",
        ROBUST: "unseen, attacked",
    }
    return [
        {"tuned by": arm.label}
        | {words: f"{arm.final(name).mean():.3f}" for name, words in columns.items()}
        for arm in results.values()
    ]
