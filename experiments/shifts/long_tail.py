"""Do unlabeled test images tell which experts of a long tail to believe?

Three heads on one body learn the same long-tailed digits: for test data with the same
tail, for balanced ones, and for the tail turned around. At test time a mixture is
chosen that predicts alike for two noisy views of an image.

Source: SADE, Zhang et al. 2022, arXiv:2107.09249.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.claims import ahead
from experiments.common.references import prototype
from experiments.shifts import _parts as parts
from logitlab import estimators, losses, metrics, models, report, transforms
from logitlab.train import Run, Study

SADE, PLAIN = "sade", "plain"
HEADS = {
    "expert_1": "head of the data's own tail",
    "expert_2": "head of balanced data",
    "expert_3": "head of the turned tail",
    "average": "mean of the logits",
    "adapted": "mixture chosen at test time",
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    shifts = {ratio: _name(ratio) for ratio in ratios(config)}
    across = "images of the first class over those of the last, in testing"
    return Study(
        arms={name: _run(config, name) for name in (SADE, PLAIN)},
        figures={
            "accuracy": parts.parted(
                report.trends(shifts, label="accuracy", across=across, log_across=True),
                {label: (SADE, head) for head, label in HEADS.items()}
                | {"three heads of cross-entropy": (PLAIN, "average")},
            ),
            "weights": parts.parted(
                report.trends(shifts, label="weight", across=across, log_across=True),
                {HEADS[f"expert_{k}"]: (SADE, f"weight_{k}") for k in (1, 2, 3)},
            ),
        },
        claims=_claims(config),
        labels={SADE: "SADE", PLAIN: "three heads of cross-entropy"},
        title="Experts for a long tail, chosen without labels",
        summary=(
            f"Digits in a random order of classes, {config.largest} images of the "
            f"first, {parts.sizes(config.largest, config.imbalance)[-1]} of the last. "
            f"{len(config.widths)} layers below three cosine heads, {config.steps} "
            f"steps of Adam. Test sets hold up to {config.test} images of a class, in "
            f"the order of training or the reverse. Views have noise of "
            f"{config.noise:g} on pixels from 0 to 1, and the mixture takes "
            f"{config.adaptation} steps."
        ),
        captions={
            "accuracy": "On the right test data have the tail of the training data.",
            "weights": "Of the experts in the mixture that the test images choose.",
        },
    )


def ratios(config) -> list[float]:
    """Of the first class to the last in the test sets, from backward to forward."""
    steep = sorted(config.ratios, reverse=True)
    return [1 / ratio for ratio in steep] + [1.0] + steep[::-1]


def _name(ratio):
    return (
        "uniform"
        if ratio == 1
        else (f"forward_{ratio:g}" if ratio > 1 else f"backward_{1 / ratio:g}")
    )


def _check(config):
    if config.imbalance < 1 or config.largest + config.test > parts.EACH:
        raise ValueError(
            f"config.largest is {config.largest} and config.test {config.test} of "
            f"{parts.EACH} images of a digit, config.imbalance {config.imbalance:g}; "
            "expected no more together, and at least 1"
        )
    if not config.ratios or min(config.ratios) <= 1:
        raise ValueError(
            f"config.ratios is {tuple(config.ratios)}, expected numbers above 1"
        )


def _drawing(config):
    def draw(key):
        data_key, order_key, *noise_keys = jax.random.split(key, 4)
        images = parts.by_class(data_key)
        order = jax.random.permutation(order_key, parts.CLASSES)
        images = images[order]  # classes are called by their rank
        counts = parts.sizes(config.largest, config.imbalance)
        x, y = parts.long_tail(
            images[:, config.test :], jnp.arange(parts.CLASSES), counts
        )
        test = images[:, : config.test]
        views = [
            test + config.noise * jax.random.normal(k, test.shape) for k in noise_keys
        ]
        return {"train": {"x": x, "y": y}, "test": {"x": test, "views": views}}

    return draw


def _run(config, name) -> Run:
    counts = np.array(parts.sizes(config.largest, config.imbalance))
    *below, width = config.widths
    body = models.MLP(widths=tuple(below), classes=width)

    def init(key):
        body_key, head_key = jax.random.split(key)
        return {
            "body": body.init(body_key, jnp.zeros((1, 64)))["params"],
            "heads": jax.random.normal(head_key, (3, width, parts.CLASSES)),
        }

    def logits(params, x):
        """Of the experts, [3, ..., C]."""
        hidden = jax.nn.relu(body.apply({"params": params["body"]}, x))

        def head(kernel):
            return transforms.cosine_logits(hidden, kernel, scale=config.scale)

        return jax.vmap(head)(params["heads"])

    def loss(params, batch, key):
        z = jnp.moveaxis(logits(params, batch["x"]), 0, -2)
        if name == SADE:
            return losses.sade_loss(z, batch["y"], counts, tau=config.tau).sum(-1)
        return losses.cross_entropy(
            z, jnp.broadcast_to(batch["y"][..., None], z.shape[:-1])
        ).sum(-1)

    def evaluate(params, data):
        test = data["test"]
        z = logits(params, test["x"])
        views = [logits(params, x) for x in test["views"]]
        y = jnp.arange(parts.CLASSES)[:, None]
        mean = transforms.ensemble_logits(z, mode="logit")

        def of_set(mask):
            w = estimators.sade_weights(*views, steps=config.adaptation, mask=mask)
            mixed = transforms.ensemble_logits(z, mode="logit", weights=w)
            shown = jnp.stack([*z, mean, mixed])
            hits = jnp.sum((shown.argmax(-1) == y[None]) & mask[None], (1, 2))
            found = {
                head: metrics.Mean(hit, jnp.sum(mask))
                for head, hit in zip(HEADS, hits, strict=True)
            }
            return found | {f"weight_{k + 1}": w[k] for k in range(3)}

        masks = [members(ratio, config.test) for ratio in ratios(config)]
        found = jax.lax.map(of_set, jnp.stack(masks))
        return {
            f"{_name(ratio)}/{part}": jax.tree.map(lambda a, k=place: a[k], value)
            for place, ratio in enumerate(ratios(config))
            for part, value in found.items()
        }

    return Run(
        init=init,
        loss=loss,
        data=_drawing(config),
        optimizer=optax.adam(config.learning_rate),
        evaluate=evaluate,
        steps=config.steps,
        batch_size=config.batch_size,
        evaluate_at=(config.steps,),
        show=("uniform/average",),
    )


def members(ratio: float, each: int) -> jax.Array:
    """Which of the images [10, each] are in a test set of a ratio of classes."""
    counts = parts.sizes(each, max(ratio, 1 / ratio))
    counts = jnp.array(counts if ratio >= 1 else counts[::-1])
    return jnp.arange(each)[None] < counts[:, None]


def _claims(config):
    bounds, steepest = config.tolerances, max(config.ratios)
    forward, backward = f"forward_{steepest:g}", f"backward_{steepest:g}"

    def slope(expert):
        """The smallest step of a weight from forward to backward."""

        def ours(results):
            names = [f"{_name(r)}/weight_{expert}" for r in ratios(config)[::-1]]
            rows = np.array([results[SADE].final(name) for name in names])
            return report.smallest_mean((2 * (expert == 3) - 1) * np.diff(rows, axis=0))

        return ours

    def moves(text, expert, numbers):
        return report.Claim(
            text=text,
            reference=prototype(numbers),
            ours=slope(expert),
            above=0.0,
            over="mean",
            unit="in the smallest step",
            needs=(SADE,),
        )

    def within(text, metric, other, numbers, **bound):
        return report.Claim(
            text=text,
            reference=prototype(numbers),
            ours=parts.lead(SADE, metric, other),
            over="mean",
            unit="points",
            needs=(SADE,),
            **bound,
        )

    return [
        within(
            "where the test has the tail of training, the first expert beats the third",
            f"{forward}/expert_1",
            f"{forward}/expert_3",
            "0.937 against 0.706",
            at_least=bounds.cross,
        ),
        within(
            "where it is turned around, the third beats the first",
            f"{backward}/expert_3",
            f"{backward}/expert_1",
            "0.757 against 0.530",
            at_least=bounds.cross,
        ),
        moves(
            "the third expert's weight rises step by step as the test turns around",
            3,
            "0.307 to 0.356",
        ),
        moves("and the first one's falls", 1, "0.352 to 0.322"),
        within(
            "there the chosen mixture is no worse than the mean of the experts",
            f"{backward}/adapted",
            f"{backward}/average",
            "0.687 against 0.683",
            at_least=0.0,
        ),
        *(
            ahead(
                f"it beats three heads of cross-entropy, {words}",
                f"{name}/adapted",
                SADE,
                PLAIN,
                scale=100,
                reference="a direction of the paper's tables, on images",
                above=0.0,
                over="mean",
                unit="points",
            )
            for name, words in (
                (backward, "where the test is turned around"),
                ("uniform", "where it is balanced"),
            )
        ),
    ]
