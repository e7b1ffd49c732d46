"""How much accuracy does it cost to keep what an older model had right?

The old model knows the digits 0 to 4, the new ones know all ten. A negative flip is a
test image that the old model has right and the new one wrong. Margin-preserving
training adds a bias to the new classes' logits while it trains, and distils from the
old model and from a new one that was trained without any of this.

Sources: Margin Preserving Training, arXiv:2511.08322; positive-congruent training, Yan
et al. 2021, arXiv:2011.09161.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.claims import ahead
from experiments.common.datasets import check_train, divide, images
from experiments.common.keys import once_per_key
from experiments.common.references import prototype, stated
from experiments.common.solvers import descended
from experiments.distillation._networks import start
from logitlab import losses, metrics, models, numerics, report
from logitlab.train import Compute, Study
from logitlab.train.config import check_name

CLASSES = 10
KINDS = ("kl", "lm")
PLAIN, MARGIN = "bias", "mpt"  # the methods that the claims are about
PROTOTYPE = "4.83, 3.22, 2.42 and 1.88 %"


def arm_name(method: str, bias: float) -> str:
    """Name of the arm of a method with a bias."""
    return f"{method}_{bias:g}"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    x, y = images()
    settings = dict(
        widths=tuple(config.widths),
        steps=config.steps,
        batch_size=config.batch_size,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        old_classes=config.old_classes,
    )
    sources = once_per_key(
        lambda key: prepare(key, x, y, train=config.train, **settings)
    )

    def values(key, method, bias):
        weights = jnp.array([bias, method.old, method.new])
        focal = tuple(config.focal.items())
        return update(
            jax.random.fold_in(key, 1),
            *sources(key),
            weights,
            kind=method.kind,
            focal=focal,
            **settings,
        )

    cells = [(n, b) for n, biases in config.biases.items() for b in biases]
    label = {name: method.label for name, method in config.methods.items()}
    return Study(
        arms={
            arm_name(name, bias): Compute(
                lambda key, name=name, bias=bias: values(
                    key, config.methods[name], bias
                )
            )
            for name, bias in cells
        },
        figures={
            "frontier": report.frontier(
                {
                    label[name]: {
                        arm_name(name, b): f"{b:g}" if len(biases) > 1 else ""
                        for b in biases
                    }
                    for name, biases in config.biases.items()
                },
                across=("accuracy", "test accuracy, all classes"),
                up=("flips", "negative flips, old classes"),
                marks="numbers: the bias b of the new classes",
            )
        },
        claims=_claims(config),
        labels={arm_name(n, b): f"{label[n]}, b = {b:g}" for n, b in cells},
        title="Negative flips against accuracy",
        summary=(
            f"Digits: {config.train} to train, the others to test; the old model knows "
            f"{config.old_classes} of {CLASSES} classes. Networks with "
            f"{tuple(config.widths)} hidden units, {config.steps} steps. Flips are "
            "over the test images of old classes. The bias alone with b = 0 is no "
            "treatment."
        ),
        captions={
            "frontier": (
                "Share of old-class test images that flip from right to wrong, against "
                "accuracy on all test images; to the right and below is better."
            )
        },
    )


def _check(config):
    check_train(config.train)
    if not 1 <= config.old_classes < CLASSES:
        raise ValueError(
            f"config.old_classes is {config.old_classes}, expected 1 to {CLASSES - 1}"
        )
    for name, biases in config.biases.items():
        biases = tuple(biases)
        method = config.methods[check_name(name, config.methods, "config.methods")]
        check_name(method.kind, KINDS, f"config.methods.{name}.kind")
        if not biases or min(biases) < 0 or list(biases) != sorted(set(biases)):
            raise ValueError(
                f"config.biases.{name} is {biases}, expected growing numbers from 0 on"
            )


_SETTINGS = (
    "widths", "steps", "batch_size", "learning_rate", "weight_decay", "old_classes"
)  # fmt: skip


@functools.partial(jax.jit, static_argnames=("train", *_SETTINGS))
def prepare(key, x, y, *, train, old_classes, widths, **settings):
    """The split of a seed and, of its images, what the two sources say.

    Returns the :class:`Digits`, the old model's logits of training and test images
    [N, K], and the new one's of the training images [N, C].
    """
    split_key, old_key, new_key = jax.random.split(key, 3)
    digits = divide(split_key, x, y, train)
    is_old = digits.y < old_classes
    old, new = (models.MLP(widths, n) for n in (old_classes, CLASSES))

    def old_loss(logits, rows):
        mask = is_old[rows]
        labels = jnp.where(mask, digits.y[rows], 0)
        return numerics.masked_mean(losses.cross_entropy(logits, labels), mask)

    def new_loss(logits, rows):
        return losses.cross_entropy(logits, digits.y[rows]).mean()

    old_params = _fit(old_key, old, old_loss, digits.x, **settings)
    new_params = _fit(new_key, new, new_loss, digits.x, **settings)
    seen, unseen = (old.apply(old_params, x) for x in (digits.x, digits.test_x))
    return digits, seen, unseen, new.apply(new_params, digits.x)


@functools.partial(jax.jit, static_argnames=("kind", "focal", *_SETTINGS))
def update(
    key, digits, old, old_test, new, weights, *, kind, focal, old_classes, widths,
    **settings,
):  # fmt: skip
    """A model trained from the sources, in numbers.

    The weights, of the bias and of the distillation from either source, are traced: one
    program for all arms of a kind.
    """
    model = models.MLP(widths, CLASSES)
    is_new = jnp.arange(CLASSES) >= old_classes
    distil = functools.partial(losses.focal_distillation_loss, kind=kind, **dict(focal))

    def loss(logits, rows):
        labels = digits.y[rows]
        own = losses.margin_calibrated_cross_entropy(
            logits, labels, is_new, bias=weights[0]
        )
        from_old = weights[1] * distil(logits, old[rows], labels)
        return (own + from_old + weights[2] * distil(logits, new[rows], labels)).mean()

    params = _fit(key, model, loss, digits.x, **settings)
    logits, labels = model.apply(params, digits.test_x), digits.test_y
    is_old = labels < old_classes
    compared = logits, old_test, labels
    return {
        "flips": metrics.negative_flip_rate(*compared, mask=is_old).value,
        "relative_flips": metrics.relative_negative_flip_rate(*compared, mask=is_old),
        "accuracy": metrics.accuracy(logits, labels).value,
        "old_classes": metrics.accuracy(logits, labels, mask=is_old).value,
        "new_classes": metrics.accuracy(logits, labels, mask=~is_old).value,
        "old_model": metrics.accuracy(old_test, labels, mask=is_old).value,
    }


def _fit(key, model, loss, x, *, steps, batch_size, learning_rate, weight_decay):
    """Variables after some steps of AdamW on a loss of the logits of some rows."""
    start_key, batch_key = jax.random.split(key)
    rate = optax.cosine_decay_schedule(learning_rate, max(steps, 1))
    optimizer = optax.adamw(rate, weight_decay=weight_decay)

    def of_rows(params, rows):
        return loss(model.apply({"params": params}, x[rows]), rows)

    rows = jax.random.randint(batch_key, (steps, batch_size), 0, len(x))
    params = start(start_key, model, x)
    params, _ = descended(jax.grad(of_rows), params, optimizer, batches=rows)
    return {"params": params}


def _claims(config):
    bounds, biases = config.tolerances, config.biases
    plain = arm_name(PLAIN, 0.0)
    margin = [arm_name(MARGIN, b) for b in biases.get(MARGIN, ())]
    common = [b for b in biases.get(PLAIN, ()) if b and b in biases.get(MARGIN, ())]
    chosen = arm_name(MARGIN, bounds.at)

    def falls(results):
        flips = [results[arm].final("flips") for arm in margin]
        return report.smallest_mean(-np.diff(flips, axis=0))

    def compared(text, one, other, metric, reference, **bounds):
        """How much larger it is; the methods differ, the seeds are the same."""
        return ahead(
            text,
            metric,
            one,
            other,
            reference=reference,
            over="mean",
            unit="more",
            format=".2%",
            **bounds,
        )

    claims = []
    if len(margin) > 1:
        claims.append(
            report.Claim(
                text="the larger the bias, the fewer negative flips",
                reference=stated("falls with b", PROTOTYPE),
                ours=falls,
                at_least=bounds.falls,
                over="mean",
                unit="the least fall",
                format=".2%",
                needs=tuple(margin),
            )
        )
    claims.append(
        compared(
            f"margin-preserving training with b = {bounds.at:g} has fewer flips than "
            "no treatment",
            plain,
            chosen,
            "flips",
            stated("fewer (abstract)", "3.2 against 5.4 %"),
            at_least=bounds.fewer,
        )
    )
    for b in common:
        pair = arm_name(MARGIN, b), arm_name(PLAIN, b)
        claims += [
            compared(
                f"it has no more flips than the bias alone, b = {b:g}",
                *pair,
                "flips",
                prototype("2.42 against 2.54 % at b = 2"),
                at_most=bounds.behind,
            ),
            compared(
                f"and is no less accurate, b = {b:g}",
                *pair,
                "accuracy",
                prototype("87.7 against 86.1 % at b = 2"),
                at_least=bounds.behind,
            ),
        ]
    claims.append(
        compared(
            f"with b = {bounds.at:g} it loses no accuracy to no treatment",
            chosen,
            plain,
            "accuracy",
            stated("without losing accuracy (CIFAR-100)", "90.5 against 92.5 %"),
            at_least=-bounds.accuracy_lost,
        )
    )
    if "pct" in biases:
        claims.append(
            compared(
                "positive-congruent training has fewer flips than no treatment",
                arm_name("pct", biases.pct[0]),
                plain,
                "flips",
                stated("fewer (arXiv:2011.09161)", "4.9 against 5.4 %"),
                at_most=bounds.behind,
            )
        )
    return claims
