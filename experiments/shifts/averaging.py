"""Why is a mean of two models right where both are wrong, and what does loudness spoil?

A digit comes with two codes, each that of the right class or, with some probability, of
a random one. Two linear models see half of the image and one code each. In testing the
codes lie more often, and each model falls for its own; their mean does less so, unless
one of them is louder. Networks that were fine-tuned from one code to the other are
averaged in their weights, with losses that keep them quiet or without.

Source: BANG, Lin et al. 2024, arXiv:2309.17230.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import datasets
from experiments.common.claims import ahead
from experiments.common.references import prototype
from experiments.common.solvers import descended
from experiments.shifts import _parts as parts
from logitlab import losses, metrics, models, optim, report, transforms
from logitlab.train import Compute, Study

LINEAR, LOUD = "linear", "loud"
TUNED = {  # -> label, whether labels are smoothed, whether inputs are mixed
    "ce": ("cross-entropy", False, False),
    "smoothing": ("label smoothing", True, False),
    "mixup": ("mixup", False, True),
    "both": ("both (BANG)", True, True),
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    flips = {p: f"{p:g}" for p in config.flips}
    across = "probability that a code is of a random class"
    tuned = {arm: f"weights, {label}" for arm, (label, *_) in TUNED.items()}
    return Study(
        arms={
            LINEAR: Compute(functools.partial(_linear, config, 1.0)),
            LOUD: Compute(functools.partial(_linear, config, config.louder)),
        }
        | {arm: Compute(functools.partial(_tuned, config, arm)) for arm in TUNED},
        figures={
            "members": parts.parted(
                report.trends(flips, label="accuracy", across=across),
                {
                    "first model": (LINEAR, "first"),
                    "second model": (LINEAR, "second"),
                    "mean of logits": (LINEAR, "mean"),
                    "mean with a loud second": (LOUD, "mean"),
                    "the same at one scale": (LOUD, "matched"),
                },
            ),
            "tuned": parts.parted(
                report.trends(flips, label="accuracy", across=across),
                {
                    "before fine-tuning": ("ce", "before"),
                    "fine-tuned, cross-entropy": ("ce", "after"),
                }
                | {label: (arm, "weights") for arm, label in tuned.items()},
            ),
        },
        claims=_claims(config),
        labels={LINEAR: "linear models", LOUD: "one of them louder"}
        | {arm: label for arm, (label, *_) in TUNED.items()},
        title="Means of models whose spurious features differ",
        summary=(
            f"{config.train} digits with two codes of {config.code} numbers, which are "
            f"of a random class with probability {config.flip:g} in training. Linear "
            f"models take {config.steps} steps at a rate of {config.learning_rate:g}, "
            f"the louder one at {config.louder:g} times that. MLPs see the image and "
            f"both codes, first with one of them at random and then with the other; "
            f"their weights are averaged at {config.share:g}. Accuracies are those on "
            "the other digits."
        ),
        captions={
            "members": "Two linear models and the means of their logits.",
            "tuned": "Means of weights before and after fine-tuning.",
        },
    )


def _check(config):
    datasets.check_train(config.train)
    if not config.flips or not all(0 <= p <= 1 for p in (config.flip, *config.flips)):
        raise ValueError(
            f"config.flip is {config.flip:g} and config.flips {tuple(config.flips)}, "
            "expected probabilities"
        )


def codes(key, y: jax.Array, prototypes: jax.Array, flip) -> jax.Array:
    """Two codes for each label, [N, 2, D], of a random class with probability ``flip``.

    Shapes: y [N], prototypes [2, C, D], flip [] or [2] -> [N, 2, D]
    """
    flip_key, class_key = jax.random.split(key)
    shape = (len(y), 2)
    other = jax.random.randint(class_key, shape, 0, prototypes.shape[1])
    lies = jax.random.bernoulli(flip_key, jnp.broadcast_to(flip, shape))
    shown = jnp.where(lies, other, y[:, None])
    return prototypes[jnp.arange(2)[None], shown]


def _setting(key, train, code, strength):
    """Images, prototypes of codes, and keys."""
    split_key, code_key, *keys = jax.random.split(key, 6)
    rows = datasets.divide(split_key, *datasets.images(), train)
    shape = (2, parts.CLASSES, code)
    return rows, strength * jax.random.normal(code_key, shape), keys


def _linear(config, louder, key):
    sizes = config.train, config.code, config.steps, tuple(config.flips)
    rates = np.float32([1, louder]) * config.learning_rate
    return _linear_pair(sizes, key, rates, config.flip, config.strength)


@functools.partial(jax.jit, static_argnums=0)
def _linear_pair(sizes, key, rates, flip, strength):
    train, code, steps, flips = sizes
    rows, prototypes, keys = _setting(key, train, code, strength)

    def inputs(key, x, y, flip):
        """[2, N, 32 + D]: a half of the image and a code for each model."""
        images = x.reshape(-1, 8, 2, 4)
        half = jnp.moveaxis(images, 2, 0).reshape(2, len(x), 32)
        code = jnp.moveaxis(codes(key, y, prototypes, flip), 1, 0)
        return jnp.concatenate([half, code], -1)

    def fitted(x, rate):
        def loss(params):
            z = x @ params["kernel"] + params["bias"][None]
            return losses.cross_entropy(z, rows.y).mean()

        start = {
            "kernel": jnp.zeros((x.shape[-1], parts.CLASSES)),
            "bias": jnp.zeros(parts.CLASSES),
        }
        return descended(jax.grad(loss), start, optax.sgd(rate), steps=steps)[0]

    params = jax.vmap(fitted)(inputs(keys[0], rows.x, rows.y, flip), rates)

    def logits(key, x, y, flip):
        z = inputs(key, x, y, flip) @ params["kernel"]
        return z + params["bias"][:, None]

    # Scales are those of the training images: no label and no test image is used.
    scales = transforms.match_scale(logits(keys[0], rows.x, rows.y, flip))
    found = {}
    for place, p in enumerate(flips):
        z = logits(jax.random.fold_in(keys[1], place), rows.test_x, rows.test_y, p)
        mean = transforms.ensemble_logits(z, mode="logit")
        matched = transforms.ensemble_logits(z, mode="logit", scales=scales)
        shown = {"first": z[0], "second": z[1], "mean": mean, "matched": matched}
        found |= _numbers(f"{p:g}", shown, rows.test_y)
        fft = metrics.false_false_true(z[0], z[1], mean, rows.test_y)
        found[f"{p:g}/false_false_true"] = fft.value
        top = jax.nn.softmax(z).max(-1).mean(-1)
        found |= {f"{p:g}/confidence_{k + 1}": top[k] for k in range(2)}
    return found


def _numbers(name, shown, y):
    return {f"{name}/{way}": metrics.accuracy(z, y).value for way, z in shown.items()}


def _tuned(config, name, key):
    net, (_, smoothed, mixed) = config.net, TUNED[name]
    return _tuned_pair(
        (
            *(config.train, config.code, tuple(net.widths), net.batch_size),
            *(net.steps, net.tuning_steps, tuple(config.flips)),
        ),
        key,
        mixed,
        (net.learning_rate, net.tuning_rate),
        (
            config.flip,
            config.share,
            config.smoothing if smoothed else 0.0,
            config.mixup,
        ),
        net.strength,
    )


@functools.partial(jax.jit, static_argnums=0)
def _tuned_pair(sizes, key, mixed, rates, law, code_strength):
    train, code, widths, batch, steps, tuning_steps, flips = sizes
    rows, prototypes, keys = _setting(key, train, code, code_strength)
    flip, share, smoothing, strength = law
    model = models.MLP(widths=widths, classes=parts.CLASSES)

    def inputs(key, x, y, flip):
        return jnp.concatenate(
            [x, codes(key, y, prototypes, flip).reshape(len(x), -1)], -1
        )

    def fitted(key, start, rate, x, steps, mixed, smoothing):
        def slope(params, key):
            pick_key, share_key = jax.random.split(key)
            pick, other = jax.random.randint(pick_key, (2, batch), 0, len(x))
            lam = jax.random.beta(share_key, strength, strength, (batch,))
            lam = jnp.where(mixed, lam, 1)
            seen = lam[:, None] * x[pick] + (1 - lam)[:, None] * x[other]

            def loss(params):
                z = model.apply(params, seen)
                return losses.mixup_smoothing_loss(
                    z, rows.y[pick], rows.y[other], lam, eps=smoothing
                ).mean()

            return jax.grad(loss)(params)

        batches = jax.random.split(key, steps)
        return descended(slope, start, optax.adam(rate), batches=batches)[0]

    init_key, before_key, after_key, test_key = jax.random.split(keys[2], 4)
    x = [  # one of the codes says nothing
        inputs(k, rows.x, rows.y, jnp.array(f))
        for k, f in zip(keys[:2], ((flip, 1.0), (1.0, flip)), strict=True)
    ]
    start = model.init(init_key, x[0][:1])
    before = fitted(before_key, start, rates[0], x[0], steps, False, 0.0)
    after = fitted(after_key, before, rates[1], x[1], tuning_steps, mixed, smoothing)
    between = optim.interpolate(before, after, share)
    found = {}
    for place, p in enumerate(flips):
        x_test = inputs(
            jax.random.fold_in(test_key, place), rows.test_x, rows.test_y, p
        )
        z = jnp.stack([model.apply(w, x_test) for w in (before, after)])
        mean = transforms.ensemble_logits(z, mode="logit")
        weights = model.apply(between, x_test)
        shown = {"before": z[0], "after": z[1], "mean": mean, "weights": weights}
        found |= _numbers(f"{p:g}", shown, rows.test_y)
        fft = metrics.false_false_true(z[0], z[1], weights, rows.test_y)
        found[f"{p:g}/false_false_true"] = fft.value
    return found


def _claims(config):
    bounds, last = config.tolerances, f"{config.flips[-1]:g}"

    def above_both(arm, members, way):
        def ours(results):
            rows = []
            for p in config.flips:
                best = np.max([results[arm].final(f"{p:g}/{m}") for m in members], 0)
                rows.append(results[arm].final(f"{p:g}/{way}") - best)
            return 100 * report.smallest_mean(rows)

        return ours

    def claim(text, ours, arm, **more):
        return report.Claim(text=text, ours=ours, needs=(arm,), over="mean", **more)

    return [
        claim(
            "the mean of two linear models is more accurate than both, however often "
            "codes lie",
            above_both(LINEAR, ("first", "second"), "mean"),
            LINEAR,
            reference=prototype("0.992, 0.962, 0.880; 0.971, 0.912, 0.798 the better"),
            above=0.0,
            unit="points where it gains least",
        ),
        claim(
            "it is right on some images on which both are wrong",
            lambda results: 100 * results[LINEAR].final(f"{last}/false_false_true"),
            LINEAR,
            reference=prototype("1.5 % of the images"),
            above=0.0,
            unit="% of the images",
        ),
        ahead(
            "a louder second model takes some of that away",
            f"{last}/mean",
            LINEAR,
            LOUD,
            scale=100,
            reference=prototype("0.948 against 0.924"),
            at_least=bounds.loud,
            over="mean",
            unit="points",
        ),
        report.Claim(
            text="logits at one scale bring it back",
            reference=prototype("0.948, as without the loud one"),
            ours=lambda results: (
                100
                * (
                    results[LOUD].final(f"{last}/matched")
                    - results[LINEAR].final(f"{last}/mean")
                )
            ),
            at_least=-bounds.matched,
            over="mean",
            unit="points above the quiet mean",
            needs=(LINEAR, LOUD),
        ),
        claim(
            "the mean of weights before and after fine-tuning is more accurate than "
            "both, however often codes lie",
            above_both("ce", ("before", "after"), "weights"),
            "ce",
            reference="the paper's direction, on images",
            above=0.0,
            unit="points where it gains least",
        ),
        *(
            ahead(
                f"fine-tuning with {words} makes the mean of weights better",
                f"{last}/weights",
                arm,
                "ce",
                scale=100,
                reference="the paper's direction, on images",
                above=0.0,
                over="mean",
                unit="points",
            )
            for arm, words in (
                ("smoothing", "label smoothing"),
                ("mixup", "mixup"),
                ("both", "both"),
            )
        ),
    ]
