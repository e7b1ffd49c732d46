"""Which pixels to mark when the Dice or the IoU of the mask is what counts?

Pixels are independent, with probability base^-(i + j), and the probabilities are known:
no threshold, and no training, stands between them and the best mask.

Source: RankSEG-RMA, arXiv:2510.15362; RankSEG, Dai and Li, JMLR 24 (2023).
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.claims import least_ahead
from experiments.common.references import stated
from experiments.common.timing import take_turns
from logitlab import decisions, report
from logitlab.train import Compute, Study

METRICS = {"dice": decisions.dice_score, "iou": decisions.iou_score}
LABELS = {
    "threshold": "probability above 0.5",
    "rma": "RankSEG-RMA",
    "ba": "RankDice, blind approximation",
}
MOST_PIXELS = 12  # whose masks can all be tried


def build(config) -> Study:
    """The study; nothing here draws, times, writes or prints."""
    _check(config)
    arms = {
        name: Compute(lambda key, name=name: _values(name, key, config))
        for name in LABELS
    }
    arms["time"] = Compute(lambda key: _times(config.timing))
    figures = {
        metric: report.trends(
            {base: f"{metric}/{base:g}" for base in config.bases},
            arms=("threshold", "rma"),
            label=f"mean {word}",
            across="base of the probabilities: the larger, the rarer",
        )
        for metric, word in (("dice", "Dice"), ("iou", "IoU"))
    }
    figures["gap"] = report.trends(
        {d: f"worst_gap/{d}" for d in config.small.pixels},
        arms=("rma", "ba"),
        label="expected Dice lost, worst case",
        across="pixels",
        bound=(config.tolerances.worst_gap, "the bound of the claim"),
    )
    height, width = config.image
    return Study(
        arms=arms,
        figures=figures,
        claims=_claims(config),
        labels=LABELS,
        title="Masks of the largest expected Dice",
        summary=(
            f"{config.draws} masks of {height} x {width} pixels a base and seed; "
            "the same ones for all rules, which know the probabilities. No class is "
            "pruned. The blind approximation is for Dice only."
        ),
        captions={
            "dice": (
                "Mean Dice over all drawn masks. The blind approximation, which is in "
                "the table below, is left out."
            ),
            "iou": "Mean IoU over all drawn masks.",
            "gap": (
                f"The worst of {config.small.maps} maps of uniform probabilities for "
                "each size, against the best of all masks that mark a pixel."
            ),
        },
    )


def _check(config):
    if not config.bases or min(config.bases) <= 1:
        raise ValueError(
            f"config.bases is {tuple(config.bases)}, expected numbers above 1"
        )
    missing = set(config.tolerances.gains_at) - set(config.bases)
    if missing:
        raise ValueError(
            f"config.tolerances.gains_at has {sorted(missing)}, expected bases"
        )
    pixels = config.small.pixels
    if not pixels or not 1 <= min(pixels) <= max(pixels) <= MOST_PIXELS:
        raise ValueError(
            f"config.small.pixels is {tuple(pixels)}, expected 1 to {MOST_PIXELS}"
        )
    if len(set(config.timing.pixels)) != 2:
        raise ValueError(
            f"config.timing.pixels is {tuple(config.timing.pixels)}, expected two sizes"
        )
    if len(config.image) != 2 or min(config.image) < 1:
        raise ValueError(
            f"config.image is {tuple(config.image)}, expected height and width"
        )
    if config.draws < 1 or config.small.maps < 1:
        raise ValueError(
            f"config.draws is {config.draws}, config.small.maps {config.small.maps}; "
            "expected at least 1"
        )


@functools.partial(jax.jit, static_argnames=("rule", "metric"))
def masks(rule: str, probs: jax.Array, metric: str) -> jax.Array:
    """What a rule marks, for probabilities [B, C, ...]."""
    if rule == "threshold":
        return probs > 0.5
    if rule == "ba":
        return decisions.dice_optimal_mask(probs, pruning_prob=0.0, solver="ba")
    return decisions.rankseg_rma(
        probs, metric=metric, output_mode="multilabel", pruning_prob=0.0
    )


def _values(rule, key, config):
    draw_key, map_key = jax.random.split(key)
    metrics = ("dice",) if rule == "ba" else tuple(METRICS)
    values = {}
    for number, base in enumerate(config.bases):
        i, j = map(jnp.arange, config.image)
        probs = (float(base) ** -(i[:, None] + j[None]).astype(float))[None, None]
        shape = (config.draws, 1, *config.image)
        fresh = jax.random.fold_in(draw_key, number)
        truth = jax.random.uniform(fresh, shape) < probs
        for metric in metrics:
            marked = jnp.broadcast_to(masks(rule, probs, metric), shape)
            values[f"{metric}/{base:g}"] = METRICS[metric](marked, truth).mean()
    for d in config.small.pixels:
        fresh = jax.random.fold_in(map_key, d)
        probs = jax.random.uniform(fresh, (config.small.maps, 1, d))
        marked = np.asarray(masks(rule, probs, "dice"))[:, 0]
        lost = [
            loss_to_best(p, mask)
            for p, mask in zip(np.asarray(probs, float)[:, 0], marked, strict=True)
        ]
        values |= {f"worst_gap/{d}": max(lost), f"mean_gap/{d}": np.mean(lost)}
    return values


def loss_to_best(probs: np.ndarray, mask: np.ndarray) -> float:
    """Expected Dice lost against the best mask that marks a pixel, all of them tried.

    >>> loss_to_best(np.array([0.9, 0.4, 0.1]), np.array([True, True, False])).round(4)
    np.float64(0.0262)
    """
    sets = np.array(list(itertools.product((0, 1), repeat=len(probs))), float)
    chance = np.where(sets == 1, probs, 1 - probs).prod(-1)
    size = sets.sum(-1)
    dice = 2 * sets @ sets.T / np.maximum(size[:, None] + size, 1)
    expected = dice @ chance  # 0 of the mask that marks nothing
    mine = int("".join(map(str, np.asarray(mask, int))), 2)  # its row of `sets`
    return expected.max() - expected[mine]


def _times(config):
    def call(d):
        probs = jax.random.uniform(jax.random.key(d), (1, 1, d))
        return lambda: masks("rma", probs, "dice")

    small, large = sorted(config.pixels)
    fast, slow = take_turns([call(small), call(large)], config.repeats)
    return {
        "growth": np.log(slow / fast) / np.log(large / small),
        f"ms/{small}": 1e3 * fast,
        f"ms/{large}": 1e3 * slow,
    }


def _claims(config):
    bounds, small = config.tolerances, config.small

    def gain(metric, bases):
        """The least that RMA is ahead of the threshold by, over the bases."""

        return least_ahead([f"{metric}/{base:g}" for base in bases], *rules)

    def gap(arm, kind, reduce):
        return lambda r: reduce([r[arm].final(f"{kind}/{d}") for d in small.pixels], 0)

    rules = ("rma", "threshold")
    claims = [
        report.Claim(
            text=f"RMA is never behind the threshold in mean {word}",
            reference=stated("optimal up to an approximation"),
            ours=gain(metric, config.bases),
            at_least=bounds.behind,
            needs=rules,
        )
        for metric, word in (("dice", "Dice"), ("iou", "IoU"))
    ]
    where = " and ".join(f"{base:g}" for base in bounds.gains_at)
    claims += [
        report.Claim(
            text=f"where most pixels are improbable (base {where}) it gains in {word}",
            reference=stated("optimal up to an approximation"),
            ours=gain(metric, bounds.gains_at),
            at_least=bounds.gains,
            needs=rules,
        )
        for metric, word in (("dice", "mean Dice"), ("iou", "mean IoU"))
        if bounds.gains_at
    ]
    return claims + [
        report.Claim(
            text=(
                f"up to {max(small.pixels)} pixels RMA's expected Dice is near that of "
                "the best mask, in the worst of all maps"
            ),
            reference=stated("an approximation"),
            ours=gap("rma", "worst_gap", np.max),
            at_most=bounds.worst_gap,
            needs=("rma",),
        ),
        report.Claim(
            text="and on average over the maps",
            reference=stated("an approximation"),
            ours=gap("rma", "mean_gap", np.mean),
            at_most=bounds.mean_gap,
            needs=("rma",),
        ),
        report.Claim(
            text="its time grows like the number of pixels, or little faster",
            reference="theorem: O(d log d)",
            ours=lambda r: r["time"].final("growth"),
            at_most=bounds.growth,
            unit="as a power",
            needs=("time",),
        ),
    ]
