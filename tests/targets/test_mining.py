import jax
import numpy as np
import pytest
from harness.goldens import draw

from logitlab.targets import (
    batch_hard_pairs,
    distance_weighted_pairs,
    label_pairs,
    multi_similarity_pairs,
)

LABELS = np.array([0, 0, 1, 0, 1, 2, -1])


def test_multi_similarity_pairs_are_those_of_the_definition():
    s = np.tanh(draw(0, 7, 7)).astype("f4")
    got = jax.jit(lambda s: multi_similarity_pairs(s, LABELS, margin=0.2))(s)
    positive, negative = map(np.asarray, label_pairs(LABELS))
    for i in range(7):
        least = min(s[i][positive[i]], default=np.inf)
        most = max(s[i][negative[i]], default=-np.inf)
        np.testing.assert_array_equal(
            got.negative[i], negative[i] & (s[i] + np.float32(0.2) > least)
        )
        np.testing.assert_array_equal(
            got.positive[i], positive[i] & (s[i] - np.float32(0.2) < most)
        )
        assert got.positive[i].any() == got.negative[i].any()


def test_a_separated_batch_has_nothing_to_mine():
    s = np.where(LABELS[:, None] == LABELS, 1, -1).astype("f4")
    assert not any(a.any() for a in multi_similarity_pairs(s, LABELS))


def test_batch_hard_pairs_are_one_of_each_kind():
    s = np.tanh(draw(1, 7, 7)).astype("f4")
    s[0, [1, 3]] = 0.5  # a tie: the first
    pairs = batch_hard_pairs(s, LABELS)
    positive, negative = map(np.asarray, label_pairs(LABELS))
    for got, among, sign in (
        (pairs.positive, positive, -1),
        (pairs.negative, negative, 1),
    ):
        np.testing.assert_array_equal(got.sum(-1), among.any(-1))
        for i in np.flatnonzero(among.any(-1)):
            best = np.flatnonzero(among[i])[np.argmax(sign * s[i][among[i]])]
            assert got[i, best]


def test_what_is_left_out_may_be_nan():
    s = np.tanh(draw(2, 7, 7)).astype("f4")
    keep = np.arange(7) != 3
    junk = np.where(keep & keep[:, None], s, np.nan)
    for miner in (multi_similarity_pairs, batch_hard_pairs):
        got = miner(junk, LABELS, mask=keep)
        want = miner(s[keep][:, keep], LABELS[keep])
        for a, b in zip(got, want, strict=True):
            np.testing.assert_array_equal(a[keep][:, keep], b)
            assert not a[~keep].any()
            assert not a[:, ~keep].any()


def test_negatives_are_drawn_evenly_over_distances():
    """As often from a distance as the sphere has few points there."""
    count, dim = 4000, 16
    rng = np.random.default_rng(0)
    e = rng.normal(size=(count, dim))
    e /= np.linalg.norm(e, axis=-1, keepdims=True)
    s = np.repeat((e[:1] @ e.T).astype("f4"), 400, 0)
    draws = distance_weighted_pairs(
        jax.random.key(0),
        s,
        np.zeros(400, int),
        reference_labels=np.ones(count, int),
        dim=dim,
        cutoff=0.9,
    )
    assert (np.asarray(draws.negative).sum(-1) == 1).all()
    distance = np.sqrt(2 - 2 * s[0])[np.asarray(draws.negative).argmax(-1)]
    assert distance.max() < 1.4
    low, high = (((distance > a) & (distance < a + 0.2)).mean() for a in (0.95, 1.2))
    assert 0.6 < low / high < 1.6  # uniform negatives: 0.12
    plain = np.sqrt(2 - 2 * s[0])
    low, high = (((plain > a) & (plain < a + 0.2)).mean() for a in (0.95, 1.2))
    assert low / high < 0.3


def test_as_many_negatives_as_there_are():
    s, labels = np.full((4, 4), 0.5, "f4"), np.array([0, 0, 1, 1])
    for number in (1, 2, 3):
        pairs = distance_weighted_pairs(
            jax.random.key(1), s, labels, dim=8, negatives=number
        )
        np.testing.assert_array_equal(pairs.negative.sum(-1), min(number, 2))
        np.testing.assert_array_equal(pairs.positive, label_pairs(labels).positive)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: multi_similarity_pairs(s, [0, 1]), r"shape \(3, 3\), expected \(2"),
        (lambda s: batch_hard_pairs(s, [[0, 1, 2]]), r"labels has shape \(1, 3\)"),
        (
            lambda s: distance_weighted_pairs(jax.random.key(0), s, [0, 1, 2], dim=1),
            "dim is 1, expected at least 2",
        ),
        (
            lambda s: distance_weighted_pairs(
                jax.random.key(0), s, [0, 1, 2], dim=4, cutoff=2.0
            ),
            "cutoff is 2.0",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((3, 3), "f4"))
