import itertools
import json
import pathlib

import jax
import numpy as np
import pytest

from logitlab.decisions import overlap

CASES = json.loads(
    (pathlib.Path(__file__).parents[1] / "golden" / "rankseg.json").read_text()
)["cases"]


dice_optimal_mask = jax.jit(
    overlap.dice_optimal_mask, static_argnames=("pruning_prob", "solver")
)


@pytest.mark.parametrize("case", CASES)
def test_golden(x64, case):
    params = dict(case["params"])
    probs, solver = np.asarray(case["inputs"]["probs"]), params.pop("solver")
    if solver == "ba":
        f = lambda p: overlap.dice_optimal_mask(  # noqa: E731
            p, smooth=params["smooth"], pruning_prob=params["pruning_prob"], solver="ba"
        )
    else:
        params["unassigned"] = params.pop("unassigned_policy")
        f = lambda p: overlap.rankseg_rma(p, **params)  # noqa: E731
    np.testing.assert_array_equal(jax.jit(f)(probs), case["outputs"]["pred"])


def expected_dice(p, mask):
    total = 0.0
    for y in itertools.product((0, 1), repeat=p.size):
        y = np.array(y)
        chance = np.where(y, p, 1 - p).prod()
        total += chance * 2 * (mask * y).sum() / max(mask.sum() + y.sum(), 1)
    return total


def test_close_to_the_best_mask():
    rng = np.random.default_rng(0)
    for _ in range(3):
        p = rng.uniform(size=6)
        best = max(
            expected_dice(p, np.argsort(np.argsort(-p)) < t) for t in range(1, 7)
        )
        for solver in ("rma", "ba"):
            mask = dice_optimal_mask(p[None, None], pruning_prob=0.0, solver=solver)
            assert expected_dice(p, np.asarray(mask)[0, 0]) > best - 0.01


def test_scores_and_shapes():
    a, b = np.zeros((1, 2, 2, 2), int), np.zeros((1, 2, 2, 2), int)
    a[0, 0, 0], b[0, 0, 0, 0] = 1, 1
    np.testing.assert_allclose(overlap.dice_score(a, b), [[2 / 3, 1]])
    np.testing.assert_allclose(overlap.iou_score(a, b), [[0.5, 1]])
    p = np.random.default_rng(1).uniform(size=(2, 3, 4, 5)).astype("f4")
    assert jax.eval_shape(overlap.rankseg_rma, p).shape == (2, 4, 5)
    assert jax.eval_shape(overlap.iou_optimal_mask, p).shape == p.shape
    sure = np.float32([[[1, 0, 1, 0]]])
    for solver in ("rma", "ba"):
        got = dice_optimal_mask(sure, solver=solver)
        np.testing.assert_array_equal(got, sure == 1)
    with pytest.raises(ValueError, match="metric is 'f1'"):
        overlap.rank_volume(p, metric="f1")
    with pytest.raises(ValueError, match="probs has shape"):
        overlap.rankseg_rma(p[0, 0])
