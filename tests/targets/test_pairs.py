import jax
import numpy as np
import pytest

from logitlab.targets import Pairs, label_pairs, pair_probs


def test_pairs_are_by_label_and_never_with_oneself():
    labels = np.array([0, 1, 0, 2, -100], np.int8)
    positive, negative = jax.jit(label_pairs)(labels)
    known = labels >= 0
    valid = known[:, None] & known & ~np.eye(5, dtype=bool)
    np.testing.assert_array_equal(positive, valid & (labels[:, None] == labels))
    np.testing.assert_array_equal(negative, valid & (labels[:, None] != labels))


def test_a_mask_equals_calling_on_the_kept_examples():
    labels, mask = np.array([0, 0, 1, 1]), np.array([True, False, True, True])
    for got, want in zip(
        label_pairs(labels, mask=mask), label_pairs(labels[mask]), strict=True
    ):
        np.testing.assert_array_equal(got[mask][:, mask], want)
        assert not got[~mask].any()
        assert not got[:, ~mask].any()


def test_references_may_be_of_the_same_class_at_every_place():
    pairs = label_pairs([0, 1], [0, 0, 1, -1], reference_mask=np.arange(4) > 0)
    np.testing.assert_array_equal(pairs.positive, [[0, 1, 0, 0], [0, 0, 1, 0]])
    np.testing.assert_array_equal(pairs.negative, [[0, 0, 1, 0], [0, 1, 0, 0]])


def test_miners_compose():
    a = Pairs(np.array([True, True]), np.array([True, False]))
    b = Pairs(np.array([True, False]), np.array([True, True]))
    assert [*(a & b).positive] == [True, False]
    assert [*(a & b).negative] == [True, False]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: label_pairs([[0, 1]]), r"labels has shape \(1, 2\)"),
        (lambda: label_pairs([0], [[0]]), r"reference_labels has shape \(1, 1\)"),
        (lambda: label_pairs([0], mask=[True, True]), r"mask has shape \(2,\)"),
        (lambda: label_pairs([0], reference_mask=[True]), "needs reference_labels"),
        (lambda: label_pairs([0], positions=[0]), "positions needs reference_labels"),
        (lambda: label_pairs([0], [0], positions=[0, 1]), r"positions has shape"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_gathered_anchors_do_not_meet_themselves():
    labels = np.array([0, 1, 0, 1, 0, 0])
    whole = label_pairs(labels)
    for start in (0, 3):
        positions = np.arange(start, start + 3, dtype=np.int8)
        some = label_pairs(labels[start : start + 3], labels, positions=positions)
        for got, want in zip(some, whole, strict=True):
            np.testing.assert_array_equal(got, want[start : start + 3])
    nowhere = label_pairs(labels, labels, positions=np.full(6, -1))
    assert np.asarray(nowhere.positive).diagonal().all()


def test_pair_probs(x64):
    pairs = label_pairs([0, 0, 0, 1, 2, 2])
    q = np.asarray(pair_probs(pairs))
    np.testing.assert_array_equal(q[0], [0, 0.5, 0.5, 0, 0, 0])
    np.testing.assert_array_equal(q.sum(-1), [1, 1, 1, 0, 1, 1])
    assert q.dtype == np.float64
    three = pair_probs(label_pairs([0] * 4))
    np.testing.assert_array_equal(three[0, 1:], 1 / 3)
