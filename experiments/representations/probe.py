"""What do the layers of a language model know of where a text comes from?

A small transformer learns to predict the bytes of some modules of Python's standard
library. Windows of them are then described by the mean of its last layer, the mean of
its embeddings, or the mean of random vectors, one for each hash of the character
n-grams, and a linear probe says which module they are from. The paper's texts are not
at hand; the question is the same.

Source: BERT or FastText? 2024, arXiv:2411.17661.
"""

import functools
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.references import stated
from logitlab import data, estimators, losses, metrics, models, report
from logitlab.train import Compute, Run, Study

LAST, FIRST, GRAMS = "accuracy/last", "accuracy/first", "accuracy/grams"
MODEL, HASHES = "transformer", "hashes"
BYTES = 256


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    return Study(
        arms={
            MODEL: _run(config),
            HASHES: Compute(functools.partial(hashed_accuracy, config)),
        },
        figures={
            "accuracy": report.panels(
                [[report.Panel(LAST, "test accuracy of the probe", also=FIRST)]],
                log_steps=False,
                arms=(MODEL,),
            )
        },
        claims=_claims(config.tolerances),
        labels={MODEL: "last layer (dashed: embeddings)", HASHES: "n-grams"},
        title="What frozen features know of a text's source",
        summary=(
            f"{config.classes} modules of the standard library; windows of "
            f"{config.length} bytes, {config.windows} of each for the probe and as "
            "many to test, of other parts of the files. The transformer has "
            f"{config.layers} layers of width {config.width} and learns for "
            f"{config.steps} steps of the first parts."
        ),
        captions={
            "accuracy": "A linear probe at every point; features of the step shown."
        },
    )


def _check(config):
    if not 2 <= config.classes <= config.candidates:
        raise ValueError(
            f"config.classes is {config.classes}, expected from 2 to "
            f"config.candidates, {config.candidates}"
        )
    if config.width % config.heads:
        raise ValueError(
            f"config.heads is {config.heads}, expected a divisor of config.width, "
            f"{config.width}"
        )


@functools.cache
def modules(classes: int, candidates: int) -> tuple[bytes, ...]:
    """The longest of the first modules, as bytes."""
    texts, before = [], ""
    for k in range(1, candidates + 1):
        now = data.standard_library_text(k)
        texts.append(now[len(before) :].encode("utf-8"))
        before = now
    return tuple(sorted(texts, key=len)[-classes:])


def windows(config) -> dict[str, dict[str, np.ndarray]]:
    """Windows [N, L] and modules [N] for the probe and to test, and for the model.

    The last three tenths of a file are for the test.
    """
    texts = modules(config.classes, config.candidates)
    found: dict[str, list] = {"probe": [], "test": [], "train": []}
    for text in texts:
        ids = np.frombuffer(text, np.uint8).astype(np.int32)
        cut = len(ids) * 7 // 10
        parts = {"probe": ids[:cut], "test": ids[cut:]}
        for name, part in parts.items():
            starts = np.linspace(0, len(part) - config.length, config.windows)
            found[name].append(_cut(part, starts, config.length))
        starts = np.linspace(0, cut - config.length - 1, config.train // len(texts))
        found["train"].append(_cut(parts["probe"], starts, config.length + 1))
    y = np.repeat(np.arange(len(texts)), config.windows)
    both = {
        name: {"x": np.concatenate(found[name]), "y": y} for name in ("probe", "test")
    }
    return both | {"train": {"x": np.concatenate(found["train"])}}


def _cut(ids, starts, length):
    return ids[starts.astype(int)[:, None] + np.arange(length)]


def probed(features: dict, labels: dict, classes: int) -> metrics.Mean:
    """Accuracy on the test windows of a probe of the others."""
    fit = estimators.linear_probe(
        features["probe"], labels["probe"], num_classes=classes, max_steps=100
    )
    return metrics.accuracy(
        estimators.linear_logits(fit, features["test"]), labels["test"]
    )


def hashed_accuracy(config, key: jax.Array) -> dict:
    """Accuracy of means of random vectors, one for each hash of n-grams."""
    found = windows(config)
    table = jax.random.normal(key, (config.buckets, config.width))
    names = ("probe", "test")
    labels = {name: jnp.asarray(found[name]["y"]) for name in names}
    features = {
        name: estimators.mean_pool(table[hashes(found[name]["x"], config)])
        for name in names
    }
    accuracy = probed(features, labels, config.classes)
    return {GRAMS: accuracy.sum / accuracy.count}


def hashes(ids: np.ndarray, config) -> np.ndarray:
    """Buckets of the n-grams of windows, [N, G]."""
    low, high = config.grams
    rows = [bytes(row.astype(np.uint8)) for row in ids]
    return np.array(
        [
            [
                zlib.crc32(row[i : i + n]) % config.buckets
                for n in range(low, high + 1)
                for i in range(len(row) - n + 1)
            ]
            for row in rows
        ]
    )


def _run(config) -> Run:
    model = models.CausalTransformer(
        vocabulary=BYTES,
        classes=BYTES,
        width=config.width,
        layers=config.layers,
        heads=config.heads,
        context=config.length,
    )

    def init(key):
        return model.init(key, jnp.zeros((1, config.length), jnp.int32))["params"]

    def loss(params, batch, key):
        del key
        logits = model.apply({"params": params}, batch["x"][:, :-1])
        return losses.cross_entropy(logits, batch["x"][:, 1:]).mean(-1)

    def last(params, x):
        _, state = model.apply(
            {"params": params},
            x,
            capture_intermediates=lambda module, _: module.name == "head_norm",
            mutable=["intermediates"],
        )
        return state["intermediates"]["head_norm"]["__call__"][0]

    def evaluate(params, held):
        names = ("probe", "test")
        labels = {name: held[name]["y"] for name in names}
        states = {
            LAST: {name: last(params, held[name]["x"]) for name in names},
            FIRST: {name: params["embedding"][held[name]["x"]] for name in names},
        }
        return {
            metric: probed(
                {name: estimators.mean_pool(h) for name, h in both.items()},
                labels,
                config.classes,
            )
            for metric, both in states.items()
        }

    return Run(
        init=init,
        loss=loss,
        data=jax.tree.map(jnp.asarray, windows(config)),
        optimizer=optax.adam(config.learning_rate),
        evaluate=evaluate,
        steps=config.steps,
        batch_size=config.batch_size,
        evaluate_at=[
            config.steps * i // config.points for i in range(config.points + 1)
        ],
        show=(LAST, FIRST),
    )


def _claims(bounds):
    said = stated("contextual features are ahead of those without context")

    def gap(ahead, behind):
        arms = {LAST: MODEL, FIRST: MODEL, GRAMS: HASHES}
        return lambda r: (
            100 * (r[arms[ahead]].final(ahead) - r[arms[behind]].final(behind))
        )

    return [
        report.Claim(
            text="the last layer knows more than the embeddings",
            reference=said,
            ours=gap(LAST, FIRST),
            at_least=bounds.points,
            over="mean",
            unit="points",
            needs=(MODEL,),
        ),
        report.Claim(
            text="the embeddings know more than random vectors of n-grams",
            reference=said,
            ours=gap(FIRST, GRAMS),
            at_least=bounds.points,
            over="mean",
            unit="points",
            needs=(MODEL, HASHES),
        ),
        report.Claim(
            text="the last layer knows more than random vectors of n-grams",
            reference=said,
            ours=gap(LAST, GRAMS),
            at_least=bounds.points,
            over="mean",
            unit="points",
            needs=(MODEL, HASHES),
        ),
    ]
