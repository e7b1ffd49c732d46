import jax
import numpy as np
import pytest
from harness.interpreter import interpreted

from configs.estimation import get_config
from experiments.estimation import feedback


def test_draws():
    config = get_config("feedback-smoke")
    clicks = interpreted(lambda key: feedback.draw(key, config))(jax.random.key(0))
    liked, random, others, wanted = map(np.asarray, clicks)
    assert (liked.shape[1], random.shape[1], wanted.shape[1]) == (10, 3, 4)
    for user in range(config.num_users):
        items = np.concatenate([liked[user], random[user], others[user]])
        assert sorted(items) == list(range(config.num_items))
        assert set(wanted[user]) <= set(others[user])


def test_ndcg():
    scores = np.float32([[5, 4, 3, 2, 1]])
    wanted = np.array([[True, False, True, False, True]])
    hidden = np.array([[True, False, False, False, False]])
    # Shown: items 1, 2, 3, of which the second one is wanted; ideally all are.
    want = (1 / np.log2(3)) / (1 + 1 / np.log2(3) + 1 / 2)
    np.testing.assert_allclose(feedback.ndcg(scores, hidden, wanted, 3), [want])
    np.testing.assert_allclose(feedback.ndcg(scores, ~wanted, wanted, 3), [1], 1e-6)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("liked", 290, "make 385 items of a user"),
        ("pool", 25, "config.pool is 25"),
        ("warm_up", 40, "config.warm_up is 40"),
        ("temperature", 0.2, "config.temperature is 0.2"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("estimation:feedback", key, value, message)


def test_end_to_end(run_study):
    done = run_study("estimation:feedback")
    assert done.figures == ["ndcg", "training"]
    clean = done.results["bpr_clean"]
    np.testing.assert_array_equal(clean.final("clean_share"), 1)
    assert (done.results["bpr_plain"].final("ndcg") > 0).all()
