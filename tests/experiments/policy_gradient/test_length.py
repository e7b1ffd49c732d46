import itertools

import jax
import numpy as np
import pytest

from configs.policy_gradient import get_config
from experiments.policy_gradient import length


def small(**changes):
    config = get_config("length")
    with config.unlocked():
        config.update(dict(prompts=4, thoughts=3, seeds=2))
        config.update(changes)
    return config


def test_prompts():
    prompts = length.make_prompts(small(sure=4.0, thinks=3.0))
    x, y = np.asarray(prompts["x"]), np.asarray(prompts["y"])
    assert y.tolist() == [0, 1, 0, 1]
    lead = x[..., 1] - x[..., 2]
    want = [[4, 4, 4], [-4, -4, -4], [0, 4, 4], [0, 0, -4]]  # after 0, 0, 1, 2 thoughts
    np.testing.assert_array_equal(lead, want)
    assert (x[:, :-1, 0] == 3).all()
    assert (x[:, -1, 0] == -np.inf).all()  # an answer has to come


def test_outcome_is_that_of_every_answer():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(2, 3, 3)).astype(np.float32)
    z[:, -1, 0] = -np.inf
    y = np.array([0, 1])
    got, lengths = length.outcome(z, y)
    want = np.zeros((2, 3))
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    for row, tokens in itertools.product(
        range(2), itertools.product(range(3), repeat=3)
    ):
        end = next((t for t in range(3) if tokens[t] != 0), None)
        if end is not None and tokens[end] == 1 + y[row]:
            want[row, end] += np.prod([p[row, t, tokens[t]] for t in range(3)])
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert lengths.tolist() == [1, 2, 3]


def test_answers_end_where_they_are_given():
    z = length.make_prompts(small())["x"]
    tokens, mask = map(np.asarray, length.answers(z, jax.random.key(0), 50))
    for row, kept in zip(tokens.reshape(-1, 3), mask.reshape(-1, 3), strict=True):
        end = next(t for t in range(3) if row[t] != length.THINK)
        assert kept.tolist() == [t <= end for t in range(3)]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("thoughts", 1, "config.thoughts is 1, expected at least 2"),
        ("lams", (0.0, 0.1), "config.lams is .*, expected two or more above 0"),
        ("kinds", ("tree",), "config.kinds has no 'tree'"),
        ("alphas", (), "config.alphas is .*, expected 0 or more"),
    ],
)
def test_what_cannot_be_run_is_not_built(key, value, message):
    with pytest.raises(ValueError, match=message):
        length.build(small(**{key: value}))


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("policy_gradient:length")
    before = done.results["table_drpo_10"]["accuracy"][0]
    for name, arm in done.results.items():
        if name.startswith("table"):
            assert (arm.final("accuracy") > before).all()
    exact = [v.verdict for v in done.verdicts.values()][:7]
    assert exact == ["reproduced"] * 7
    assert done.figures == ["frontier"]
