import numpy as np
import pytest
from harness.interpreter import functions

from logitlab import transforms

plain = transforms
transforms = functions(transforms)


def test_bias_in_proportion_to_the_counts():
    counts = np.array([[4, 2, 1, 2], [0, 0, 0, 0]])
    got = transforms.suppression_bias(counts, strength=8.0, top_k=2)
    np.testing.assert_array_equal(got, [[-8, -4, 0, 0], [0, 0, 0, 0]])
    every = transforms.suppression_bias(counts, strength=8.0)
    np.testing.assert_array_equal(every[0], [-8, -4, -2, -4])
    for dtype in (np.int8, np.float16, np.float64):
        same = transforms.suppression_bias(counts.astype(dtype), strength=8.0, top_k=2)
        np.testing.assert_array_equal(got, same)


def test_without_counts_or_strength_bits_stay():
    z = np.float32([-0.0, 0.0, 1e30, -np.inf])
    for counts, strength in ((np.zeros(4, int), 7.5), (np.array([9, 1, 0, 4]), 0.0)):
        for top_k in (2, 9):
            got = transforms.suppress_logits(z, counts, strength=strength, top_k=top_k)
            np.testing.assert_array_equal(got, z)
            np.testing.assert_array_equal(np.signbit(got), np.signbit(z))


def test_layout_and_hidden_classes():
    z, counts = np.float32([[1, 2, np.nan]]).T, np.array([[2, 1, 1]]).T
    where = np.array([[True, True, False]]).T
    got = transforms.suppress_logits(z, counts, strength=2.0, axis=0, where=where)
    np.testing.assert_array_equal(got[:, 0], [-1, 1, -np.inf])


def test_counts_of_tokens():
    tokens = np.array([[2, 0, 2, -1], [1, 1, 1, 1]])
    counts = np.ones((2, 3), np.int32)
    got = transforms.update_counts(counts, tokens)
    np.testing.assert_array_equal(got, [[2, 1, 3], [1, 5, 1]])
    assert got.dtype == np.int32
    mask = np.array([[True, False, False, True], [True, True, False, False]])
    tokens[0, 1] = 99  # behind the mask
    got = transforms.update_counts(counts.astype("f4"), tokens, decay=0.5, mask=mask)
    np.testing.assert_array_equal(got, [[0.5, 0.5, 1.5], [0.5, 2.5, 0.5]])


def test_labels_and_scope():
    got = transforms.label_replace(np.uint8([0, 1, 2]), np.int8([1, -1, 2]))
    np.testing.assert_array_equal(got, [1, 1, 2])
    kept = plain.filter_in_scope(
        {"x": np.arange(6).reshape(3, 2), "y": np.arange(3)},
        np.array([True, False, True]),
    )
    np.testing.assert_array_equal(kept["x"], [[0, 1], [4, 5]])
    np.testing.assert_array_equal(kept["y"], [0, 2])


def test_bad_arguments():
    z, counts = np.zeros(3, "f4"), np.zeros(3, int)
    for call, message in (
        (lambda: plain.suppression_bias(counts - 1), "counts reach -1"),
        (lambda: plain.suppression_bias(counts, top_k=0), "top_k is 0"),
        (lambda: plain.suppression_bias(counts, strength=-1.0), "strength is -1"),
        (lambda: plain.suppress_logits(z, counts[:2]), "counts has shape"),
        (lambda: plain.update_counts(counts, np.array([[1]])), "tokens has shape"),
        (lambda: plain.update_counts(counts, np.array([3])), r"labels outside \[0, 3"),
        (lambda: plain.update_counts(z, np.array([1]), decay=0.0), "decay is 0.0"),
        (lambda: plain.label_replace(counts, counts[:1]), "oracle_labels has shape"),
        (
            lambda: plain.filter_in_scope(counts, np.array([True])),
            "in_scope has shape",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    for call, message in (
        (lambda: plain.update_counts(counts, np.array([1]), decay=0.5), "to decay"),
        (lambda: plain.filter_in_scope(counts, counts), "in_scope has dtype"),
    ):
        with pytest.raises(TypeError, match=message):
            call()
