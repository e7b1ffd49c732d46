import numpy as np
import pytest
from harness.goldens import cases
from harness.interpreter import functions

from logitlab import metrics as room

metrics = functions(room)


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("negative_flip_rate"))
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


def test_many_examples_and_narrow_labels(x64):
    rng = np.random.default_rng(0)
    new, old = rng.normal(size=(2, 300, 256))
    y = rng.integers(0, 256, 300)
    old[np.arange(300), y] += 3
    new[np.arange(300), y] += 3
    want = metrics.relative_negative_flip_rate(new, old, y)
    assert want.dtype == np.float64
    got = metrics.relative_negative_flip_rate(new, old, y.astype("u1"))
    np.testing.assert_array_equal(got, want)
    right = [(z.argmax(-1) == y) for z in (old, new)]
    independent = right[0].mean() * (~right[1]).mean()
    flips = (right[0] & ~right[1]).mean()
    np.testing.assert_allclose(want, flips / independent, rtol=1e-14)


def test_a_product_of_counts_does_not_wrap():
    z = np.zeros((70_000, 2), "f4")  # 70,000 right times 70,000 wrong is beyond int32
    z[:, 1] = 1
    y = np.ones(70_000, int)
    np.testing.assert_allclose(metrics.relative_negative_flip_rate(-z, z, y), 1)
