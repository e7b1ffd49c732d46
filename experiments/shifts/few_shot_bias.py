"""What does a few-shot bias add to a model that has seen other images?

The base model has learned digits that are turned and noisy, and sees upright ones. A
linear head on principal components learns from one to sixteen of these for each class,
and its standardized logits are added to the base model's, everywhere alike or more
where the base model is unsure.

Source: AMU-Tuning, Tang et al. 2024, arXiv:2404.08958.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.keys import once_per_key
from experiments.common.solvers import descended
from experiments.shifts import _parts as parts
from logitlab import data, losses, metrics, models, report, transforms
from logitlab.train import Compute, Study

ALONE, CONSTANT, MATCHED = "alone", "none", "matched"
LABELS = {
    ALONE: "bias alone",
    CONSTANT: "added everywhere alike",
    MATCHED: "alike, of the mean strength",
    "moment": "by the kurtosis",
    "entropy": "by the entropy",
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    world = once_per_key(lambda key: _world(config, key))
    shots = {k: f"{k}" for k in config.shots}
    return Study(
        arms={
            name: Compute(functools.partial(_values, config, world, name))
            for name in LABELS
        },
        figures={
            "accuracy": parts.parted(
                report.trends(
                    shots,
                    label="accuracy",
                    across="images for each class",
                    log_across=True,
                ),
                {"base model": (ALONE, "base")}
                | {
                    LABELS[arm]: (arm, "accuracy")
                    for arm in (ALONE, CONSTANT, "moment")
                },
            ),
        },
        claims=_claims(config),
        labels=LABELS,
        title="A few-shot bias on the logits of a model from elsewhere",
        summary=(
            f"The base model is an MLP that learned {config.base.each} images of "
            f"each digit, turned and noisy (severities {config.base.rotation} and "
            f"{config.base.noise}). The bias is linear in {config.components} "
            "principal components of other upright images and starts at the classes' "
            f"means. AdamW, {config.steps} steps; {config.test} images of each digit "
            f"test it. The strength is {config.alpha:g} times the uncertainty; the arm "
            "of the mean strength has the mean of the kurtosis' instead."
        ),
        captions={"accuracy": "Of the base model, the bias alone, and both together."},
    )


def _check(config):
    total = config.base.each + max(config.shots) + config.test
    if list(config.shots) != sorted(set(config.shots)) or total > parts.EACH:
        raise ValueError(
            f"config.shots is {tuple(config.shots)}, config.base.each "
            f"{config.base.each} and config.test {config.test}; expected growing "
            f"numbers, and no more than {parts.EACH} images of a digit together"
        )


def _world(config, key):
    base = config.base
    sizes = tuple(base.widths), base.batch_size, base.steps
    counts = base.each, max(config.shots), config.test
    return _made(
        (*sizes, counts, config.components, base.rotation, base.noise),
        key,
        base.learning_rate,
    )


@functools.partial(jax.jit, static_argnums=0)
def _made(sizes, key, learning_rate):
    """Few-shot and test images: features, base logits and labels, by class."""
    widths, batch, steps, counts, components, rotation, noise = sizes
    each, shots, number = counts
    keys = jax.random.split(key, 3)
    images = parts.by_class(keys[0])
    labels = jnp.broadcast_to(jnp.arange(parts.CLASSES)[:, None], images.shape[:2])
    model = models.MLP(widths=widths, classes=parts.CLASSES)
    seen, y = images[:, :each].reshape(-1, 64), labels[:, :each].ravel()

    def slope(params, key):
        pick_key, turn_key, noise_key = jax.random.split(key, 3)
        pick = jax.random.randint(pick_key, (batch,), 0, len(seen))
        x = corrupted(turn_key, seen[pick], "rotation", rotation)
        x = corrupted(noise_key, x, "gaussian_noise", noise)

        def loss(params):
            return losses.cross_entropy(model.apply(params, x), y[pick]).mean()

        return jax.grad(loss)(params)

    start = model.init(keys[1], seen[:1])
    params, _ = descended(
        slope,
        start,
        optax.adam(learning_rate),
        batches=jax.random.split(keys[2], steps),
    )
    # Of images without labels, and not of those in the test.
    middle = seen.mean(0, keepdims=True)
    _, _, axes = jnp.linalg.svd(seen - middle, full_matrices=False)
    upright = images[:, each:]
    features = (upright - middle[None]) @ axes[:components].T
    features /= jnp.linalg.norm(features, axis=-1, keepdims=True)
    rows = {"g": features, "z": model.apply(params, upright), "y": labels[:, each:]}
    return (
        {name: a[:, :shots] for name, a in rows.items()},
        {name: a[:, shots : shots + number] for name, a in rows.items()},
    )


def corrupted(key, x, kind, severity) -> jax.Array:
    """Images [N, 64], with the mean image added and taken off again."""
    from experiments.common import datasets

    mean = jnp.asarray(
        datasets.digits(centered=False)[0].mean(0, keepdims=True), x.dtype
    )
    images = jnp.clip(x + mean, 0, 1).reshape(-1, 8, 8, 1)
    worse = data.corrupt_images(key, images, kind=kind, severity=severity)
    return worse.reshape(x.shape) - mean


def strength(z: jax.Array, **options) -> jax.Array:
    """By how much ``logit_bias_fusion`` multiplies the bias, [...]."""
    bias = jnp.zeros_like(z).at[..., 0].set(1)
    added = transforms.logit_bias_fusion(z, bias, alpha=1.0, **options) - z
    return added[..., 0] / transforms.standardize_logits(bias, eps=1e-8)[..., 0]


def _values(config, world, name, key):
    few, test = world(key)
    kind = CONSTANT if name in (ALONE, MATCHED) else name
    return _fused(
        (kind, tuple(config.shots), config.steps),
        (name == ALONE, name == MATCHED),
        few,
        test,
        dict(learning_rate=config.learning_rate, weight_decay=config.weight_decay),
        dict(power=config.power, kurtosis_scale=config.kurtosis_scale),
        config.alpha,
        config.merge_weight,
    )


@functools.partial(jax.jit, static_argnums=0)
def _fused(sizes, ways, few, test, pace, options, alpha, share):
    (kind, shots, steps), (alone, matched) = sizes, ways
    sure = strength(few["z"], uncertainty="moment", **options)
    alpha = jnp.where(matched, alpha * sure.mean(), alpha)
    options = dict(uncertainty=kind, alpha=alpha, **options)
    share = jnp.where(alone, 0, share)
    some = jnp.arange(few["y"].shape[1])[None] < np.array(shots)[:, None]  # [S, shots]
    counts = jnp.array(shots, jnp.float32)

    def loss(heads):
        """The sum of the means over the images of each number of shots."""
        b = few["g"] @ heads[:, None]  # [S, classes, shots, C]
        z = jnp.broadcast_to(few["z"], b.shape)
        y = jnp.broadcast_to(few["y"], b.shape[:-1])
        each = losses.multi_branch_loss(z, b, y, merge_weight=share, **options)
        kept = jnp.where(some[:, None], each, 0).sum((1, 2))
        return jnp.sum(kept / (parts.CLASSES * counts))

    start = jnp.einsum("sn,cnd->sdc", jnp.float32(some), few["g"])
    start /= counts[:, None, None]
    rate = optax.cosine_decay_schedule(pace["learning_rate"], steps)
    optimizer = optax.adamw(rate, eps=1e-4, weight_decay=pace["weight_decay"])
    heads, _ = descended(jax.grad(loss), start, optimizer, steps=steps)
    b = test["g"] @ heads[:, None]
    z = jnp.broadcast_to(test["z"], b.shape)
    fused = jnp.where(alone, b, transforms.logit_bias_fusion(z, b, **options))
    found = {}
    for place, count in enumerate(shots):
        right = metrics.accuracy(fused[place], test["y"])
        found[f"{count}/accuracy"] = right.value
        found[f"{count}/base"] = metrics.accuracy(test["z"], test["y"]).value
    hits = (test["z"].argmax(-1) == test["y"]).ravel()
    top = jax.nn.softmax(test["z"]).max(-1).ravel()
    found["told"] = jnp.corrcoef(top, jnp.float32(hits))[0, 1]
    found["strength"] = sure.mean()
    return found


def _claims(config):
    least = config.tolerances.ahead

    def final(results, arm, what="accuracy"):
        return np.array([results[arm].final(f"{k}/{what}") for k in config.shots])

    def above_both(arm):
        return lambda results: (
            100
            * report.smallest_mean(
                final(results, arm)
                - np.maximum(final(results, ALONE), final(results, ALONE, "base"))
            )
        )

    def mean_above(arm, other):
        return lambda results: (
            100 * (final(results, arm) - final(results, other)).mean(0)
        )

    better = "the paper's direction, on images"
    return [
        report.Claim(
            text="added by the kurtosis, the bias beats the base model and itself "
            "alone, whatever the number of images",
            reference=better,
            ours=above_both("moment"),
            above=0.0,
            over="mean",
            unit="points where it gains least",
            needs=("moment", ALONE),
        ),
        report.Claim(
            text="so it does if added everywhere alike",
            reference=better,
            ours=above_both(CONSTANT),
            above=0.0,
            over="mean",
            unit="points where it gains least",
            needs=(CONSTANT, ALONE),
        ),
        report.Claim(
            text="the base model's confidence tells where it is right",
            reference="what the uncertainty is for",
            ours=lambda results: results[ALONE].final("told"),
            at_least=config.tolerances.told,
            over="mean",
            unit="of correlation",
            needs=(ALONE,),
        ),
        *(
            report.Claim(
                text=f"adding it {words} is no worse than adding it alike",
                reference=better,
                ours=mean_above(arm, CONSTANT),
                at_least=-least,
                over="mean",
                unit="points, mean over the numbers of images",
                needs=(arm, CONSTANT),
            )
            for arm, words in (
                ("moment", "by the kurtosis"),
                ("entropy", "by the entropy"),
            )
        ),
        report.Claim(
            text="the kurtosis does more than its mean strength",
            question=True,
            ours=mean_above("moment", MATCHED),
            above=0.0,
            over="mean",
            unit="points, mean over the numbers of images",
            needs=("moment", MATCHED),
        ),
    ]
