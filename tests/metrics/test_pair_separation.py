import jax
import numpy as np
import pytest
from harness.interpreter import functions

from logitlab import metrics
from logitlab.targets import Pairs, label_pairs

eager = functions(metrics)


def test_by_hand(x64):
    rng = np.random.default_rng(0)
    s, y = rng.normal(size=(9, 9)).round(1), rng.integers(0, 3, 9)
    pairs = label_pairs(y, mask=np.arange(9) != 4)
    s[4] = np.nan  # in no pair
    near, far = (s[np.asarray(which)] for which in pairs)
    assert eager.wdfs_gap(s, pairs) == near.min() - far.max()
    gap = near[:, None] - far[None]
    want = ((gap < 0) + 0.5 * (gap == 0)).mean()
    np.testing.assert_allclose(eager.pair_overlap(s, pairs), want, rtol=1e-12)


def test_one_kind_of_pair_is_missing():
    s = np.float32(np.eye(3))
    for labels in ([0, 0, 0], [0, 1, 2]):
        assert eager.wdfs_gap(s, label_pairs(labels)) == np.inf
        assert eager.pair_overlap(s, label_pairs(labels)) == 0


def test_no_overlap_above_a_gap():
    s = np.float32([[1, 0.9, 0.1], [0.9, 1, 0.2], [0.1, 0.2, 1]])
    pairs = label_pairs([0, 0, 1])
    assert jax.jit(metrics.wdfs_gap)(s, pairs) > 0
    assert eager.pair_overlap(s, pairs) == 0
    assert eager.pair_overlap(-s, pairs) == 1


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (label_pairs([0, 1]), r"pairs.positive has shape \(2, 2\), expected \(3, 3\)"),
        (
            Pairs(np.eye(3, dtype=bool), np.eye(3, dtype="f4")),
            "pairs.negative has dtype float32",
        ),
    ],
)
def test_errors(pairs, message):
    for metric in (metrics.wdfs_gap, metrics.pair_overlap):
        with pytest.raises((TypeError, ValueError), match=message):
            metric(np.zeros((3, 3), "f4"), pairs)
