"""Texts by what they are, and counts as models."""

import numpy as np
from harness.interpreter import interpreted

from experiments.decoding import _text
from logitlab import transforms

SOURCE = '''"""What it is."""
x = "no docstring"  # a comment


def f():
    """One line

    and another."""
    return x  #: more
'''


def test_a_module_is_divided():
    found = _text.divide(SOURCE)
    assert found["docstring"] == "What it is.\nOne line\nand another.\n"
    assert found["comment"] == "a comment\nmore\n"
    assert found["code"] == 'x = "no docstring"\ndef f():\n    return x\n'


def test_counts_are_a_model():
    text = np.array([0, 1, 0, 1, 2, 0, 1])
    prior = transforms.fit_ngram_prior(text, 4, order=3)
    p = np.exp(interpreted(_text.witten_bell)(prior, np.array([[0, 1], [3, 3]])))
    np.testing.assert_allclose(p.sum(-1), 1, rtol=1e-5)
    one = (np.array([3, 3, 1, 0]) + 3 / 4) / 10
    np.testing.assert_allclose(p[1], one, rtol=1e-5)
    two = (np.array([1, 0, 1, 0]) + 2 * one) / 4  # after 1
    np.testing.assert_allclose(p[0], (np.array([1, 0, 1, 0]) + 2 * two) / 4, rtol=1e-5)


def test_windows():
    context, labels = _text.windows(np.arange(5), 2)
    np.testing.assert_array_equal(context, [[0, 1], [1, 2], [2, 3]])
    np.testing.assert_array_equal(labels, [2, 3, 4])
