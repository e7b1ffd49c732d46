import jax
import numpy as np
import pytest

from logitlab.targets import Pairs, label_pairs


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
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
