import numpy as np
import pytest
from harness.interpreter import interpreted

from logitlab import transforms

V = 6


def feed(processor, *columns):
    """Logits of 0 after each of several calls."""
    state, outs = processor.init(len(columns[0])), []
    step = interpreted(processor.apply)
    for tokens in columns:
        out, state = step(np.zeros((len(tokens), V), "f4"), np.array(tokens), state)
        outs.append(out)
    return np.stack(outs, 1)


def test_penalties_of_what_was_said():
    z = np.float32([[2, -2, 1, -1, 0, 3]])
    tokens = np.array([[0, 1, 1, 5]])
    said, counts = np.float32([1, 1, 0, 0, 0, 1]), np.float32([1, 2, 0, 0, 0, 1])
    for make, want in (
        (transforms.presence_penalty, z - 0.5 * said),
        (transforms.frequency_penalty, z - 0.5 * counts),
        (
            transforms.repetition_penalty,
            np.where(said > 0, np.where(z > 0, z / 0.5, z * 0.5), z),
        ),
    ):
        processor = make(0.5, vocab_size=V)
        got, state = interpreted(processor.apply)(z, tokens, processor.init(1))
        np.testing.assert_array_equal(got, want)
        again, _ = interpreted(processor.apply)(z, np.array([[-1]]), state)
        np.testing.assert_array_equal(again, want)


def test_suppression_with_a_past():
    z = np.zeros((1, V), "f4")
    past = np.float32([0, 4, 0, 0, 0, 0])
    processor = transforms.suppress(4.0, 1, vocab_size=V, counts=past, decay=0.25)
    got, state = interpreted(processor.apply)(z, np.array([[2, 2]]), processor.init(1))
    np.testing.assert_array_equal(got, [[0, 0, -4, 0, 0, 0]])
    np.testing.assert_array_equal(state, [[0, 1, 2, 0, 0, 0]])


@pytest.mark.parametrize("n", [1, 2, 3])
def test_no_ngram_comes_twice(n):
    text = np.random.default_rng(n).integers(0, 3, 12)
    processor = transforms.no_repeat_ngrams(n, max_length=9)
    hidden = feed(processor, [[text[0], -1]], *[[[t, -1]] for t in text[1:]])[0] < 0
    for i in range(len(text)):
        past = list(text[max(0, i - 8) : i + 1])
        grams = {tuple(past[j : j + n]) for j in range(len(past) - n + 1)}
        end = past[len(past) - n + 1 :] if n > 1 else []
        want = [len(end) == n - 1 and (*end, v) in grams for v in range(V)]
        np.testing.assert_array_equal(hidden[i], want)


def test_the_end_comes_late():
    processor = transforms.min_length(np.array([2, 1]), end=[0, 3])
    hidden = feed(
        processor,
        [[1, 1, 1], [2, 2, -1]],  # prompts, which do not count
        [[4], [4]],
        [[4], [-1]],
    )
    marks = (hidden == -np.inf)[..., [0, 3, 1]]
    np.testing.assert_array_equal(marks[..., 2], False)
    np.testing.assert_array_equal(marks[..., 0], [[True, True, False], [True, 0, 0]])
    np.testing.assert_array_equal(marks[..., 0], marks[..., 1])


def test_bad_arguments():
    for call, message in (
        (lambda: transforms.repetition_penalty(0.0, vocab_size=V), "penalty is 0.0"),
        (lambda: transforms.presence_penalty(1.0, vocab_size=0), "vocab_size is 0"),
        (lambda: transforms.suppress(-1.0, vocab_size=V), "strength is -1"),
        (lambda: transforms.suppress(vocab_size=V, decay=2.0), "decay is 2.0"),
        (lambda: transforms.suppress(vocab_size=V, counts=[1.0]), "counts has shape"),
        (lambda: transforms.no_repeat_ngrams(0, max_length=3), "n is 0"),
        (lambda: transforms.no_repeat_ngrams(4, max_length=3), "max_length is 3"),
        (lambda: transforms.min_length(-1, 0), "length is -1"),
        (lambda: feed(transforms.min_length(1, V), [[1]]), r"end outside \[0, 6\)"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
