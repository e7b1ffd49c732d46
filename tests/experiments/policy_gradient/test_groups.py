import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.policy_gradient import _answers

TASK = _answers.Addition(base=3, digits=2, width=8, embedding=4)


def test_prompts_and_their_answers():
    prompts = TASK.prompts()
    x, y = np.asarray(prompts["x"]), np.asarray(prompts["y"])
    assert len({tuple(row) for row in x}) == len(x) == 81
    np.testing.assert_array_equal(y @ np.array([3, 1]), x.sum(1) % 9)


def test_what_is_sampled_is_scored_alike():
    params = TASK.init(jax.random.key(0))
    params = jax.tree.map(lambda a: 4 * a, params)  # no longer nearly uniform
    x = TASK.prompts()["x"][:5]

    @jax.jit
    def run(key):
        answers, logps = TASK.sample(params, key, x, 300)
        prompts = jnp.broadcast_to(x[:, None], (5, 300, 2))
        z = TASK.logits(params, prompts, answers)
        first = TASK.logits(params, x, jnp.zeros((5, 2), int))[:, 0]
        return answers, logps, jax.nn.log_softmax(z), jax.nn.softmax(first)

    answers, logps, scored, first = map(np.asarray, run(jax.random.key(1)))
    taken = np.take_along_axis(scored, answers[..., None], -1)[..., 0]
    np.testing.assert_allclose(logps, taken, atol=1e-5)
    shares = (answers[..., :1] == np.arange(3)).mean(1)
    assert np.abs(shares - first).max() < 0.12  # 4 deviations of 300 draws
    assert np.abs(shares - 1 / 3).max() > 0.12


def test_later_tokens_do_not_change_earlier_logits():
    params, x = TASK.init(jax.random.key(0)), jnp.array([[4, 8]])
    z = [TASK.logits(params, x, jnp.array([[1, last]])) for last in (0, 2)]
    np.testing.assert_array_equal(*z)
    other = TASK.logits(params, x, jnp.array([[2, 0]]))
    np.testing.assert_array_equal(other[0, 0], z[0][0, 0])
    assert np.abs(other[0, 1] - z[0][0, 1]).max() > 0


def test_rewards_ask_for_every_token():
    answers = jnp.array([[[1, 2], [1, 1], [0, 2]]])
    assert _answers.rewards(answers, jnp.array([[1, 2]])).tolist() == [[1, 0, 0]]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("task.base", 1, "config.task has base 1"),
        ("rollouts", 1, "config.rollouts is 1"),
        ("prompts", 2000, "config.prompts is 2000, expected 1 to 1296"),
        ("advantages", "gae", "config.advantages has no 'gae'"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("policy_gradient:groups", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("policy_gradient:groups")
    exact = [v for v in done.verdicts.values() if "GRPO" in v.text and not v.question]
    assert [v.verdict for v in exact] == ["reproduced"] * 2
    assert done.figures == ["groups"]
