import itertools

import numpy as np
import pytest

from experiments.classification import dice

PROBS = np.array([0.9, 0.45, 0.4, 0.2])


def expected_dice(mask):
    total = 0
    for truth in itertools.product((0, 1), repeat=len(PROBS)):
        chance = np.prod([p if t else 1 - p for p, t in zip(PROBS, truth, strict=True)])
        both = sum(m and t for m, t in zip(mask, truth, strict=True))
        total += chance * 2 * both / (sum(mask) + sum(truth))
    return total


def test_loss_to_the_best_mask():
    masks = [m for m in itertools.product((0, 1), repeat=4) if any(m)]
    best = max(map(expected_dice, masks))
    for mask in masks:
        lost = dice.loss_to_best(PROBS, np.array(mask, bool))
        np.testing.assert_allclose(lost, best - expected_dice(mask), atol=1e-12)
    nothing = dice.loss_to_best(PROBS, np.zeros(4, bool))
    np.testing.assert_allclose(nothing, best)


@pytest.mark.parametrize(
    ("rule", "metric", "volume"),
    [
        ("threshold", "dice", 1),
        ("threshold", "iou", 1),
        ("rma", "dice", 3),  # 1.8 / 3.6, 2.6 / 4.6, 3.2 / 5.6
        ("rma", "iou", 2),  # 0.9 / 1.7, 1.3 / 2.3, 1.6 / 3
    ],
)
def test_rules(rule, metric, volume):
    probs = np.float32([[[0.3, 0.9, 0.4]]])
    marked = np.asarray(dice.masks(rule, probs, metric))[0, 0]
    order = np.argsort(-probs[0, 0])
    assert marked[order].tolist() == [True] * volume + [False] * (3 - volume)


def test_the_approximations_choose_the_best_mask_here():
    for rule in ("rma", "ba"):
        marked = dice.masks(rule, np.float32(PROBS)[None, None], "dice")[0, 0]
        assert dice.loss_to_best(PROBS, np.asarray(marked)) < 1e-12


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("bases", (1.0, 1.05, 1.1), "config.bases is"),
        ("tolerances.gains_at", (1.3,), r"config.tolerances.gains_at has \[1.3\]"),
        ("small.pixels", (2, 20), "config.small.pixels is"),
        ("timing.pixels", (2, 2), "config.timing.pixels is"),
        ("image", (28,), "config.image is"),
        ("draws", 0, "config.draws is 0"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("classification:dice", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("classification:dice")
    verdicts = list(done.verdicts.values())
    assert [len(v.ours) for v in verdicts] == [2] * 7
    assert verdicts[0].verdict == "reproduced"
    assert verdicts[2].spread[0] > 0.01  # what RMA gains, smaller in a small image
    assert done.figures == ["dice", "gap", "iou"]
