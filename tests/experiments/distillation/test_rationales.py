import jax
import numpy as np
import pytest
from harness.interpreter import interpreted

from configs.distillation import get_config
from experiments.distillation import rationales


def test_explanations():
    questions = np.array([[4, 7, 3, 5], [9, 0, 0, 1]])  # 47 + 35, 90 + 1
    answers, told = rationales.explained(questions)
    np.testing.assert_array_equal(answers, [[0, 8, 2], [0, 9, 1]])
    np.testing.assert_array_equal(told, [[2, 1, 8, 0], [1, 0, 9, 0]])
    np.testing.assert_array_equal(rationales.answer_of(told), [82, 91])
    places = rationales.trigrams(questions, told)
    np.testing.assert_array_equal(places[0], [752, 1000 + 521, 2438, 3380])


def test_what_most_explanations_end_in():
    right, carry, wrong = [2, 1, 8, 0], [2, 3, 8, 0], [2, 1, 7, 0]
    told = np.array([[right, carry, wrong, wrong, right]])
    found = rationales.shared_by_most(told)
    np.testing.assert_array_equal(found, [[True, True, False, False, True]])


def test_draws():
    config = get_config("rationales-smoke")
    train, test = interpreted(lambda key: rationales.draw(key, config))(
        jax.random.key(0)
    )
    both = np.concatenate([train.questions, test.questions])
    assert len({tuple(q) for q in both}) == len(both) == 30
    changed = (np.asarray(train.told) != train.right[:, None]).sum(-1)
    assert set(changed.ravel()) == {0, 1}
    assert 0.15 < changed.mean() < 0.45


def test_a_digit_sees_those_before_it():
    inputs = interpreted(lambda d: rationales._inputs(np.zeros((1, 4), int), d, 0))
    first, second = inputs(np.array([[1, 2, 3]])), inputs(np.array([[1, 5, 6]]))
    assert first.shape == (1, 3, 40 + 8 + 40)
    np.testing.assert_array_equal(first[0, :2], second[0, :2])
    assert (first[0, 2] != second[0, 2]).any()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train", 9900, "expected 10,000 at most together"),
        ("corrupted", 1.0, "config.corrupted is 1.0"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("distillation:rationales", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("distillation:rationales")
    assert done.figures == ["digits", "unlikely"]
    verdicts = [v.verdict for v in done.verdicts.values() if v.kind == "theorem"]
    assert verdicts == ["reproduced"] * 2
