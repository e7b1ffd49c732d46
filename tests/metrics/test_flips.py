import json
import pathlib

import numpy as np
import pytest

from logitlab import metrics

GOLDEN = pathlib.Path(__file__).parents[1] / "golden/negative_flip_rate.json"


@pytest.mark.parametrize("case", json.loads(GOLDEN.read_text())["cases"])
def test_golden(case, x64):
    new, old, y = (
        np.array(case["inputs"][k]) for k in ("new_logits", "old_logits", "labels")
    )
    rate = metrics.negative_flip_rate(new, old, y)
    np.testing.assert_allclose(rate, case["outputs"]["nfr"], rtol=1e-6)
    relative = metrics.relative_negative_flip_rate(new, old, y)
    np.testing.assert_allclose(relative, case["outputs"]["relative_nfr"], rtol=1e-6)
    halves = [metrics.negative_flip_rate(new[i], old[i], y[i]) for i in (
        slice(0, 5), slice(5, None))]  # fmt: skip
    np.testing.assert_allclose(halves[0] + halves[1], rate)


def test_masks_fewer_classes_and_no_errors():
    new = np.float32([[0, 1, 2], [5, 1, 0], [np.nan, 0, 0]])
    old = np.float32([[0, 1], [1, 0], [1, 0]])
    y = np.array([1, 0, 0])
    np.testing.assert_allclose(metrics.negative_flip_rate(new, old, y), 2 / 3)
    mask, spoilt = np.array([False, True, True]), np.array([-100, 0, 0])
    np.testing.assert_allclose(
        metrics.negative_flip_rate(new, old, spoilt, mask=mask), 0.5
    )
    np.testing.assert_allclose(
        metrics.relative_negative_flip_rate(new, old, spoilt, mask=mask), 1
    )
    assert metrics.relative_negative_flip_rate(old, old, y) == 0
    with pytest.raises(ValueError, match=r"labels has shape \(2,\), expected \(3,\)"):
        metrics.negative_flip_rate(new, old, y[:2])
    with pytest.raises(TypeError, match="labels has dtype"):
        metrics.negative_flip_rate(new, old, new[:, 0])
