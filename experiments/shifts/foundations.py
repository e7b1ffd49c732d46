"""What of a foundation model's bias does logit adjustment leave, and averaging remove?

Networks learn long-tailed digits, three of them with tails in different orders, and
their heads then learn a task whose tail has a fourth order. Logit adjustment knows that
one. What pre-training expected of the classes stays, but differs between the three.

Source: Rethinking the Bias of Foundation Model under Long-tailed Distribution, 2025,
arXiv:2501.15955; generalized logit adjustment, Zhu et al. 2023, arXiv:2310.08106.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.claims import ahead
from experiments.common.keys import once_per_key
from experiments.common.solvers import descended
from experiments.shifts import _parts as parts
from logitlab import estimators, losses, metrics, models, report, transforms
from logitlab.train import Compute, Study

CE, LA = "ce", "la"
LABELS = {CE: "cross-entropy", LA: "logit adjustment"}
WAYS = {
    "one": "one network",
    "same": "three seeds of one pre-training",
    "different": "three pre-trainings",
}
MEMBERS = 3


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    total = config.largest + config.task_largest + config.test
    if total > parts.EACH or min(config.imbalance, config.task_imbalance) < 1:
        raise ValueError(
            f"config.largest, config.task_largest and config.test are {total} images "
            f"of {parts.EACH} of a digit, config.imbalance {config.imbalance:g} and "
            f"config.task_imbalance {config.task_imbalance:g}; expected no more "
            "together, and at least 1"
        )
    world = once_per_key(lambda key: _world(config, key))
    return Study(
        arms={
            name: Compute(functools.partial(_values, config, world, name))
            for name in LABELS
        },
        figures={
            name: parts.parted(
                report.intervals(
                    {LABELS[arm]: [f"{arm} {way}" for way in WAYS] for arm in LABELS},
                    ["one\nnetwork", "three seeds", "three\npre-trainings"],
                    name,
                    label=label,
                ),
                {f"{arm} {way}": (arm, way) for arm in LABELS for way in WAYS},
            )
            for name, label in {
                "accuracy": "balanced accuracy",
                "pretraining": "correlation with pre-training's tail",
                "task": "correlation with the task's tail",
            }.items()
        },
        claims=_claims(config),
        labels=LABELS,
        title="Two biases of a fine-tuned foundation model",
        summary=(
            f"MLPs learn digits with {config.largest} images of the most common class "
            f"down to {parts.sizes(config.largest, config.imbalance)[-1]}, and their "
            f"linear heads then others with {config.task_largest} down to "
            f"{parts.sizes(config.task_largest, config.task_imbalance)[-1]}. Orders of "
            f"the classes are random. {config.test} images of each digit test them. "
            "Correlations are those of the classes' accuracies with the logs of their "
            "frequencies; numbers of one network are means over three."
        ),
        captions={
            "accuracy": "Balanced accuracy of one network and of means of three.",
            "pretraining": "What is left of what pre-training expected.",
            "task": "What is left of the task's own tail.",
        },
    )


def _world(config, key):
    sizes = tuple(config.widths), config.steps, config.largest, config.imbalance
    return _pretrained(sizes, key, config.learning_rate)


@functools.partial(jax.jit, static_argnums=0)
def _pretrained(sizes, key, learning_rate):
    """Images, and five networks with their orders: the last three are of one order."""
    widths, steps, largest, imbalance = sizes
    data_key, order_key, init_key = jax.random.split(key, 3)
    images = parts.by_class(data_key)
    orders = jax.vmap(lambda k: jax.random.permutation(k, parts.CLASSES))(
        jax.random.split(order_key, MEMBERS)
    )
    orders = jnp.concatenate([orders, orders[:1], orders[:1]])
    orders = orders[jnp.array([1, 2, 0, 3, 4])]  # the first three differ
    model = models.MLP(widths=widths, classes=parts.CLASSES)
    counts = parts.sizes(largest, imbalance)

    def one(key, order):
        x, y = parts.long_tail(images, order, counts)

        def loss(params):
            return losses.cross_entropy(model.apply({"params": params}, x), y).mean()

        start = model.init(key, x[:1])["params"]
        return descended(jax.grad(loss), start, optax.adam(learning_rate), steps=steps)[
            0
        ]

    keys = jax.random.split(init_key, len(orders))
    return images, orders, jax.vmap(one)(keys, orders)


def _values(config, world, name, key):
    sizes = (
        (tuple(config.widths), config.task_steps, config.largest, config.imbalance),
        (config.task_largest, config.task_imbalance, config.test),
    )
    task_key = jax.random.fold_in(key, 1)
    return _tuned(name, sizes, task_key, *world(key), config.task_learning_rate)


@functools.partial(jax.jit, static_argnums=(0, 1))
def _tuned(name, sizes, key, images, orders, params, learning_rate):
    (widths, steps, largest, imbalance), (task_largest, task_imbalance, each) = sizes
    body = models.MLP(widths=widths[:-1], classes=widths[-1])
    order = jax.random.permutation(key, parts.CLASSES)
    counts = parts.sizes(task_largest, task_imbalance)
    x, y = parts.long_tail(images[:, largest:], order, counts)
    prior = log_frequencies(order, counts)
    test = images[:, -each:]
    labels = jnp.broadcast_to(jnp.arange(parts.CLASSES)[:, None], test.shape[:2])

    def one(params):
        """Logits of the test images, before and after the head has learned."""
        last = f"hidden_{len(widths) - 1}"
        below = {k: v for k, v in params.items() if k not in (last, "head")}
        below = {"params": below | {"head": params[last]}}

        def features(x):
            return jax.nn.relu(body.apply(below, x))

        def logits(head, h):
            return h @ head["kernel"] + head["bias"].reshape(
                (1,) * (h.ndim - 1) + (-1,)
            )

        h = features(x)

        def loss(head):
            z = logits(head, h)
            if name == LA:
                return losses.logit_adjusted_loss(z, y, jnp.exp(prior)).mean()
            return losses.cross_entropy(z, y).mean()

        start = params["head"]
        head, _ = descended(
            jax.grad(loss), start, optax.adam(learning_rate), steps=steps
        )
        h = features(test)
        return logits(start, h), logits(head, h)

    raw, z = jax.vmap(one)(params)
    expected = jax.vmap(lambda o: log_frequencies(o, parts.sizes(largest, imbalance)))(
        orders
    )

    def numbers(z, expected):
        right = metrics.group_means(
            (z.argmax(-1) == labels).ravel(), labels.ravel(), num_groups=parts.CLASSES
        ).value
        return {
            "accuracy": right.mean(),
            "task": correlation(right, prior),
            "pretraining": jnp.mean(
                jax.vmap(lambda q: correlation(right, q))(expected)
            ),
        }

    different, same = slice(MEMBERS), slice(MEMBERS - 1, None)
    singles = jax.vmap(lambda z, q: numbers(z, q[None]))(
        z[different], expected[different]
    )
    found = {
        "one": jax.tree.map(jnp.mean, singles),
        "different": numbers(
            transforms.ensemble_logits(z[different]), expected[different]
        ),
        "same": numbers(transforms.ensemble_logits(z[same]), expected[same]),
    }
    estimates = jnp.log(
        jax.lax.map(
            lambda z: estimators.estimate_label_prior(z, labels), raw[different]
        )
    )
    return {
        f"{name}/{way}": value
        for way, values in found.items()
        for name, value in values.items()
    } | {"estimate": jax.vmap(correlation)(estimates, expected[different]).mean()}


def log_frequencies(order: jax.Array, counts) -> jax.Array:
    """Of the classes, whose order is from the most common to the rarest."""
    share = np.log(np.array(counts) / np.sum(counts)).astype(np.float32)
    return jnp.zeros(len(counts)).at[order].set(share)


def correlation(a: jax.Array, b: jax.Array) -> jax.Array:
    """Pearson's; 0 if one of the two is constant."""
    a, b = a - a.mean(), b - b.mean()
    size = jnp.sqrt(jnp.sum(a * a) * jnp.sum(b * b))
    return jnp.where(size > 0, jnp.sum(a * b) / jnp.where(size > 0, size, 1), 0)


def _claims(config):
    bounds = config.tolerances
    said = "the paper's direction, on images"

    def claim(text, ours, needs=(LA,), **more):
        return report.Claim(text=text, ours=ours, over="mean", needs=needs, **more)

    def of(metric, arm=LA):
        return lambda results: results[arm].final(metric)

    return [
        claim(
            "fine-tuned by cross-entropy, the task's common classes do better",
            of("task/one", CE),
            (CE,),
            reference=said,
            at_least=bounds.biased,
            unit="of correlation",
        ),
        claim(
            "logit adjustment removes that correlation",
            of("task/one"),
            reference=said,
            equals=0.0,
            within=bounds.unbiased,
            unit="of correlation",
        ),
        claim(
            "with it classes that were common in pre-training still do better",
            of("pretraining/one"),
            reference=said,
            at_least=bounds.biased,
            unit="of correlation",
        ),
        claim(
            "the mean of three pre-trainings depends less on the order of each",
            lambda results: (
                results[LA].final("pretraining/one")
                - results[LA].final("pretraining/different")
            ),
            reference=said,
            above=0.0,
            unit="of correlation less",
        ),
        claim(
            "it is more accurate than that of three seeds of one pre-training",
            parts.lead(LA, "accuracy/different", "accuracy/same"),
            reference=said,
            at_least=bounds.ahead,
            unit="points",
        ),
        ahead(
            "three pre-trainings gain by logit adjustment too",
            "accuracy/different",
            LA,
            CE,
            scale=100,
            reference=said,
            above=0.0,
            over="mean",
            unit="points",
        ),
        claim(
            "labeled images tell the tail of pre-training from zero-shot logits",
            of("estimate"),
            reference="what the estimate is for",
            at_least=bounds.estimate,
            unit="of correlation of the logs",
        ),
    ]
