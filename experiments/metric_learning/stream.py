"""A stream of new digits, and a small memory of old ones: UER against plain replay.

A network sees two new classes after two others, each example once, and replays as many
examples of a reservoir as there are new ones. It then takes old classes for those of
late. UER learns new examples by cosine logits, replayed ones by linear logits; swapping
the two is the ablation that says whether this is what helps.

Source: UER, Lin et al. 2023, arXiv:2309.04081.
"""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.claims import ahead
from experiments.common.datasets import digits
from experiments.common.references import prototype
from logitlab import data, losses, metrics, models, numerics, report, transforms
from logitlab.train import Run, Study
from logitlab.train.config import check_name

CLASSES, NEW = 10, 2  # in all, and in each task
# For new and for replayed examples: whether their logits have lengths.
METHODS = {
    "replay": (True, True),
    "uer": (False, True),
    "swapped": (True, False),
    "slower": (True, False),
    "cosine": (False, False),
}
LABELS = {
    "replay": "plain replay",
    "uer": "UER",
    "swapped": "UER, swapped",
    "slower": "swapped, slower",
    "cosine": "cosine for both",
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    draw = functools.partial(_data, config, functools.cache(digits))
    at = {size: functools.partial(_run, config, draw, size) for size in config.memories}
    arms = {}
    for size, make in at.items():  # arms of one size share a program
        for method, rate in config.learning_rates.items():
            new, old = METHODS[method]
            values = {"new": float(new), "old": float(old), "learning_rate": rate}
            arms[arm_name(method, size)] = dataclasses.replace(
                make(values), values=values, at=make
            )

    def against_memory(metric, label):
        return report.intervals(
            {
                LABELS[method]: [arm_name(method, size) for size in config.memories]
                for method in config.learning_rates
            },
            [f"{size}" for size in config.memories],
            metric,
            label=label,
            across="examples in the memory",
            joined=True,
        )

    return Study(
        arms=arms,
        figures={
            "bias": against_memory("bias", "old images taken for the last classes"),
            "accuracy": against_memory("accuracy", "test accuracy"),
        },
        claims=_claims(config),
        labels={
            arm_name(method, size): f"{LABELS[method]}, {size}"
            for method in config.learning_rates
            for size in config.memories
        },
        title="Replay beside a stream of new classes",
        summary=(
            f"The ten digits in a random order, two at a time, {config.per_class} "
            f"images of each, {config.batch_size} at a step and each once; a reservoir "
            f"of {', '.join(map(str, config.memories))} images, of which as many are "
            f"replayed. A network with {config.width} hidden units and "
            f"{config.features} features, SGD, a softmax over the classes seen so far. "
            "Learning rates are the best for each method with other seeds, but for the "
            "swapped logits that learn at UER's; the slower ones have their best."
        ),
        captions={
            "bias": (
                "Share of the test images of the first eight classes that are "
                "predicted as one of the last two."
            ),
            "accuracy": "Accuracy on test images of all ten classes.",
        },
    )


def arm_name(method: str, size: int) -> str:
    """Name of the arm of a method and a size of the memory."""
    return f"{method}_{size}"


def _check(config):
    for method in config.learning_rates:
        check_name(method, tuple(METHODS), "config.learning_rates")
    fewest = int(np.bincount(digits()[1]).min())
    if not 1 <= config.per_class < fewest:
        raise ValueError(
            f"config.per_class is {config.per_class}, expected 1 to {fewest - 1}, so "
            "that images are left to test"
        )
    if NEW * config.per_class % config.batch_size:
        raise ValueError(
            f"config.batch_size is {config.batch_size}, expected a divisor of the "
            f"{NEW * config.per_class} images of a task"
        )
    if not config.memories or min(config.memories) < config.batch_size:
        raise ValueError(
            f"config.memories is {tuple(config.memories)}, expected sizes of at least "
            f"config.batch_size, {config.batch_size}"
        )


def divided(key, x, y, *, per_class: int, batch_size: int) -> dict:
    """The stream, x [B, steps, D], its classes numbered as they come; and the rest.

    Row i of the training data holds the i-th example of every step, so that a batch of
    all rows is the whole stream.
    """
    class_key, row_key, task_key = jax.random.split(key, 3)
    come = jax.random.permutation(class_key, CLASSES)
    rows = jnp.lexsort((jax.random.uniform(row_key, y.shape), y))
    of_class = jnp.split(rows, np.cumsum(np.bincount(y))[:-1])
    first = jnp.stack([part[:per_class] for part in of_class])[come]
    tasks = first.reshape(CLASSES // NEW, -1)
    order = jnp.argsort(jax.random.uniform(task_key, tasks.shape), -1)
    tasks = jnp.take_along_axis(tasks, order, -1)
    at = tasks.reshape(-1, batch_size).T
    test = jnp.concatenate([part[per_class:] for part in of_class])
    y = jnp.argsort(come)[jnp.asarray(y)].astype(jnp.int32)
    return {
        "train": {"x": x[at], "y": y[at]},
        "test": {"x": x[test], "y": y[test]},
    }


def _run(config, draw, size, values) -> Run:
    model = models.MLP(widths=(config.width,), classes=config.features)
    batch_size = config.batch_size
    steps = CLASSES * config.per_class // batch_size
    task_steps = NEW * config.per_class // batch_size

    def init(key):
        body_key, head_key = jax.random.split(key)
        x = jnp.zeros((1, 64))
        scale = config.features**-0.5
        return {
            "body": model.init(body_key, x)["params"],
            "head": scale * jax.random.normal(head_key, (config.features, CLASSES)),
            "memory": data.reservoir_init(size, {"x": x[0], "y": jnp.int32(0)}),
        }

    def logits(params, x):
        hidden = jax.nn.relu(model.apply({"params": params["body"]}, x))
        return transforms.angle_norm_logits(hidden, params["head"], scale=config.scale)

    def loss(params, batch, key):
        memory = params["memory"]
        step = memory.seen // batch_size
        new = {name: a[:, step] for name, a in batch.items() if name in ("x", "y")}
        sample_key, update_key = jax.random.split(key)
        chance = jax.random.uniform(sample_key, (size,))
        filled = jnp.arange(size) < memory.seen
        found, at = jax.lax.top_k(jnp.where(filled, chance, -1), batch_size)
        rows = jax.tree.map(lambda a, b: jnp.concatenate([a, b[at]]), new, memory.rows)
        old = jnp.arange(2 * batch_size) >= batch_size
        seen = jnp.arange(CLASSES) < NEW * (step // task_steps + 1)
        by_length = jnp.where(old, values["old"], values["new"]) > 0
        each = losses.uer_loss(
            *logits(params, rows["x"]), rows["y"], by_length, where=seen[None]
        )
        replayed = numerics.masked_mean(each[batch_size:], found >= 0)
        memory = data.reservoir_update(memory, new, update_key)
        return each[:batch_size] + replayed, {"memory": memory}

    def evaluate(params, parts):
        test = parts["test"]
        cosine, linear = logits(params, test["x"])
        by_length = jnp.maximum(values["old"], values["new"]) > 0
        z = jnp.where(by_length, linear, cosine)
        old = test["y"] < CLASSES - NEW
        return {
            "accuracy": metrics.accuracy(z, test["y"]),
            "bias": metrics.mean_of(z.argmax(-1) >= CLASSES - NEW, mask=old),
        }

    return Run(
        init=init,
        loss=loss,
        data=draw,
        optimizer=optax.sgd(values["learning_rate"]),
        evaluate=evaluate,
        steps=steps,
        evaluate_at=(steps,),
        untrained=("memory",),
        show=("accuracy", "bias"),
    )


def _data(config, rows, key):
    sizes = dict(per_class=config.per_class, batch_size=config.batch_size)
    x, y = rows()
    return divided(key, jnp.asarray(x, jnp.float32), y, **sizes)


def _claims(config):
    bounds = config.tolerances
    least, *larger = config.memories
    plain, uer = arm_name("replay", least), arm_name("uer", least)
    numbers = prototype("0.32 to 0.35 with plain replay, 0.10 to 0.15 with UER")
    claims = [
        report.Claim(
            text=f"with {least} images in memory plain replay is biased to the last",
            reference=numbers,
            ours=lambda r: r[plain].final("bias"),
            at_least=bounds.biased,
            over="mean",
            needs=(plain,),
        ),
        report.Claim(
            text="UER leaves less than half of that",
            reference=numbers,
            ours=report.ahead("bias", uer, plain, times=bounds.left),
            at_most=0.0,
            over="mean",
            unit=f"above {bounds.left:g} times plain replay's",
            needs=(uer, plain),
        ),
        ahead(
            "and is more accurate",
            "accuracy",
            uer,
            plain,
            scale=100,
            reference=prototype("0.66 to 0.72 against 0.61"),
            above=0.0,
            over="mean",
            unit="points ahead",
        ),
        *(
            ahead(
                text,
                "bias",
                arm_name(method, least),
                plain,
                at_least=-bounds.swapped,
                over="mean",
                unit="above plain replay's",
                **source,
            )
            for method, text, source in (
                (
                    "swapped",
                    "with the logits swapped it is as biased as plain replay",
                    dict(reference=prototype("0.31")),
                ),
                (
                    "slower",
                    "and also at the learning rate that suits the swapped logits best",
                    dict(question=True),
                ),
            )
        ),
    ]
    for size in larger:
        pair = arm_name("uer", size), arm_name("replay", size)
        claims.append(
            report.Claim(
                text=f"with {size} images it is as accurate as plain replay",
                reference=prototype("0.74 to 0.76 against 0.74 to 0.77"),
                ours=report.ahead("accuracy", *pair, scale=100),
                equals=0.0,
                within=bounds.ties,
                over="mean",
                unit="points ahead",
                needs=pair,
            )
        )
        claims.append(
            ahead(
                f"with {size} images cosine logits for both are more accurate than UER",
                "accuracy",
                arm_name("cosine", size),
                arm_name("uer", size),
                scale=100,
                reference=prototype("0.86 and 0.88 against 0.74 to 0.76"),
                above=0.0,
                over="mean",
                unit="points ahead",
            )
        )
    return claims
