"""Do experts that predict how good they are beat their average on occluded images?

One network sees the left half of a digit and one the right half. Four columns of a test
image are hidden, wherever they fall, so that now the one sees more and now the other. A
small network beside each predicts from the same half whether it will be right.

Source: WiCo, Cheng et al. 2023, arXiv:2306.10750.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import datasets
from experiments.common.solvers import descended
from experiments.shifts import _parts as parts
from logitlab import losses, metrics, models, report, transforms
from logitlab.train import Compute, Study

CLEAR, HIDDEN = "clear", "hidden"
LABELS = {CLEAR: "experts have seen clear halves", HIDDEN: "and halves with gaps"}
WAYS = {
    "left": "left half",
    "right": "right half",
    "average": "mean of probabilities",
    "confident": "the more confident",
    "fused": "by predicted quality",
}
SIDE, HALF = 8, 4


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    if config.train < 1 or config.train + config.scored >= datasets.DIGITS:
        raise ValueError(
            f"config.train is {config.train} and config.scored {config.scored} of "
            f"{datasets.DIGITS} digits, expected some left to test"
        )
    return Study(
        arms={
            name: Compute(functools.partial(_values, config, name)) for name in LABELS
        },
        figures={
            "accuracy": parts.parted(
                report.intervals(
                    {
                        LABELS[arm]: [f"{arm} {way}" for way in WAYS]
                        for arm in (CLEAR, HIDDEN)
                    },
                    [
                        "left\nhalf",
                        "right\nhalf",
                        "mean",
                        "more\nconfident",
                        "predicted\nquality",
                    ],
                    "accuracy",
                    label="accuracy on occluded digits",
                ),
                {f"{arm} {way}": (arm, way) for arm in LABELS for way in WAYS},
            )
        },
        claims=_claims(config),
        labels=LABELS,
        title="Experts for halves of an image, weighed by predicted quality",
        summary=(
            f"Two MLPs learn {config.train} digits, one from each half, and "
            f"{config.scored} others, with four columns of eight hidden, teach a "
            "network beside each whether it is right. Experts are weighed by the "
            f"softmax of predicted qualities over {config.temperature:g} "
            "and tested on the other images, of which four columns are hidden."
        ),
        captions={
            "accuracy": "The experts alone, and ways to put them together.",
        },
    )


def occluded(key: jax.Array, x: jax.Array) -> jax.Array:
    """Images [N, 64] of which four neighboring columns, cyclically, are 0."""
    start = jax.random.randint(key, (len(x), 1), 0, SIDE)
    hidden = (jnp.arange(SIDE)[None] - start) % SIDE < HALF
    images = x.reshape(-1, SIDE, SIDE)
    return jnp.where(hidden[:, None], 0, images).reshape(x.shape)


def halves(x: jax.Array) -> jax.Array:
    """The left and the right half of images [N, 64], [2, N, 32]."""
    images = x.reshape(-1, SIDE, 2, HALF)
    return jnp.moveaxis(images, 2, 0).reshape(2, len(x), SIDE * HALF)


def _values(config, name, key):
    sizes = tuple(config.widths), tuple(config.score_widths)
    return _trained(
        (*sizes, config.train, config.scored, config.steps, config.batch_size),
        key,
        name == HIDDEN,
        config.learning_rate,
        config.temperature,
    )


@functools.partial(jax.jit, static_argnums=0)
def _trained(sizes, key, gaps, learning_rate, temperature):
    widths, score_widths, train, scored, steps, batch = sizes
    split_key, *keys = jax.random.split(key, 4)
    rows = datasets.divide(split_key, *datasets.images(), train + scored)
    expert = models.MLP(widths=widths, classes=parts.CLASSES)
    scorer = models.MLP(widths=score_widths, classes=2)
    optimizer = optax.adam(learning_rate)

    def fitted(model, key, first, count, hide, loss):
        """Parameters of two models, one for each half, [2, ...]."""
        init_key, steps_key = jax.random.split(key)

        def slope(params, key):
            pick_key, hide_key = jax.random.split(key)
            pick = first + jax.random.randint(pick_key, (batch,), 0, count)
            x = rows.x[pick]
            x = jnp.where(hide, occluded(hide_key, x), x)

            def total(params):
                outputs = jax.vmap(model.apply)({"params": params}, halves(x))
                return loss(outputs, x, rows.y[pick]).mean()

            return jax.grad(total)(params)

        start = jax.vmap(lambda k: model.init(k, jnp.zeros((1, 32)))["params"])(
            jax.random.split(init_key)
        )
        batches = jax.random.split(steps_key, steps)
        return descended(slope, start, optimizer, batches=batches)[0]

    def twice(y):
        return jnp.broadcast_to(y, (2, *y.shape))

    experts = fitted(
        expert,
        keys[0],
        0,
        train,
        gaps,
        lambda z, x, y: losses.cross_entropy(z, twice(y)),
    )

    def logits(x):
        return jax.vmap(expert.apply)({"params": experts}, halves(x))

    def score_loss(s, x, y):
        right = jnp.float32(logits(x).argmax(-1) == y[None])
        return losses.gaussian_score_loss(s[..., 0], s[..., 1], right)

    scorers = fitted(scorer, keys[1], train, scored, True, score_loss)
    x, y = occluded(keys[2], rows.test_x), rows.test_y
    z = logits(x)
    s = jax.vmap(scorer.apply)({"params": scorers}, halves(x))
    mean, log_std = s[..., 0], s[..., 1]
    fused = transforms.gaussian_scoring_integration(
        z, mean, log_std, temperature=temperature
    )
    surest = jax.nn.softmax(z).max(-1).argmax(0)
    confident = jnp.take_along_axis(z, surest[None, :, None], 0)[0]
    found = {
        "left": z[0],
        "right": z[1],
        "average": transforms.ensemble_logits(z),
        "confident": confident,
        "fused": fused,
    }
    accuracies = {
        f"accuracy/{way}": metrics.accuracy(p, y).value for way, p in found.items()
    }
    right = z.argmax(-1) == y[None]
    return accuracies | {"score/auroc": _auroc(mean, right)}


def _auroc(mean, right):
    """Of the predicted quality, over both experts' answers."""
    inside = jnp.where(right, mean, jnp.nan).ravel()
    outside = jnp.where(right, jnp.nan, mean).ravel()
    a, b = inside[:, None], outside[None]
    wins = (a > b) + 0.5 * (a == b)
    return jnp.sum(wins) / jnp.maximum(jnp.sum(right) * jnp.sum(~right), 1)


def _claims(config):
    least = config.tolerances.ahead

    def above(arm, others):
        def ours(results):
            rows = [results[arm].final(f"accuracy/{way}") for way in others]
            fused = results[arm].final("accuracy/fused")
            return 100 * (fused - np.max(rows, axis=0))

        return ours

    def claim(text, arm, others, **more):
        return report.Claim(
            text=text,
            ours=above(arm, others),
            at_least=least,
            over="mean",
            unit="points",
            needs=(arm,),
            **more,
        )

    target = "the paper's direction, with a bound of our own"
    return [
        claim(
            "weighing by predicted quality beats the better expert",
            CLEAR,
            ("left", "right"),
            reference=target,
        ),
        claim(
            "it beats the mean of probabilities", CLEAR, ("average",), reference=target
        ),
        claim(
            "it beats taking the more confident expert",
            CLEAR,
            ("confident",),
            question=True,
        ),
        claim(
            "it beats the mean of experts that have seen gaps",
            HIDDEN,
            ("average",),
            question=True,
        ),
    ]
