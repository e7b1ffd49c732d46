import json
import pathlib

import numpy as np
import pytest
from harness.goldens import close
from harness.interpreter import interpreted

from logitlab import estimators, theory

CASES = json.loads(
    (
        pathlib.Path(__file__).parents[1] / "golden" / "shared_var_gaussian_nb.json"
    ).read_text()
)["cases"]

update = interpreted(estimators.gaussian_nb_update)
logits_of = interpreted(estimators.gaussian_nb_logits)


@pytest.mark.parametrize("case", CASES)
def test_golden(x64, case):
    x, y, test = (np.asarray(case["inputs"][k]) for k in ("x", "y", "x_test"))
    eps, out = case["params"]["var_eps"], case["outputs"]
    state = estimators.gaussian_nb_init(case["params"]["num_classes"], x.shape[1])
    start = 0
    for size in case["inputs"]["batch_sizes"]:
        rows = slice(start, start + size)
        state, start = update(state, x[rows], y[rows]), start + size
    close(state.mean, out["means"])
    close(state.count / state.count.sum(), out["prior"])
    v = np.asarray(state.deviation.sum(0) / state.count.sum() + eps)
    close(v, out["shared_var"])
    logits = logits_of(state, test, var_eps=eps)
    close(logits - np.log(2 * np.pi * v).sum() / 2, out["log_joint"])
    np.testing.assert_array_equal(logits.argmax(-1), out["predictions"])
    w, b = interpreted(estimators.gaussian_nb_linear)(state, var_eps=eps)
    gap = logits - (test @ w.T + b[None])
    close(gap, np.broadcast_to(gap[:, :1], gap.shape))


def test_absent_class_and_mask(x64):
    x, y = np.random.default_rng(0).normal(size=(6, 2)), np.array([0, 0, 1, 1, -100, 9])
    keep = np.arange(6) < 4
    start = estimators.gaussian_nb_init(3, 2)
    state = update(start, x, y, mask=keep)
    assert logits_of(state, x)[0, 2] == -np.inf
    again = update(state, x[:2], np.array([2, 2]))
    close(again.mean[:2], state.mean[:2])
    close(again.deviation[:2], state.deviation[:2])
    with pytest.raises(ValueError, match="labels outside"):
        estimators.gaussian_nb_update(start, x, y)
    bad = update(start, x, y)
    assert np.isnan(logits_of(bad, x)).any()


def test_bound():
    np.testing.assert_allclose(
        theory.logistic_excess_bound(0.02, minimizability_gap=0.48), 1, rtol=1e-6
    )


def test_counts_and_narrow_labels():
    x = np.random.default_rng(0).normal(size=(4, 2)).astype("f4")
    y = np.array([0, 65, 255, 255])
    start = estimators.gaussian_nb_init(256, 2)
    want = update(start, x, y)
    got = update(start, x, y.astype("u1"))
    for a, b in zip(got, want, strict=True):
        np.testing.assert_array_equal(a, b)
    count = np.array(want.count)
    count[255] = 2**24
    many = want._replace(count=count)
    for _ in range(2):  # 2^24 + 1 is no float32
        many = update(many, x[2:3], y[2:3])
    assert many.count[255] == 2**24 + 2
    assert np.isnan(update(start, x, np.array([0, 1, 2, -100])).mean).any()
