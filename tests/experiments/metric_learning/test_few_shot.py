import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.metric_learning import few_shot


def test_a_row_has_one_image_of_each_class():
    y = np.array([0, 1, 1, 0, 1])
    x = np.arange(5.0)[:, None]
    rows = np.asarray(few_shot.by_rank(x, y, 2, jax.random.key(0)))
    assert rows.shape == (2, 2, 1)
    assert {*rows[:, 0, 0]} == {0.0, 3.0}
    assert {*rows[:, 1, 0]} <= {1.0, 2.0, 4.0}
    assert len({*rows[:, 1, 0]}) == 2


def test_an_episode_is_classified_by_the_nearest_mean():
    rng = np.random.default_rng(0)
    support, queries = rng.normal(size=(3, 4, 2)), rng.normal(size=(5, 4, 2))
    kernel, q, labels = few_shot.episode(jnp.asarray, support, queries)
    np.testing.assert_allclose(kernel, support.mean(0).T, rtol=1e-5)
    np.testing.assert_allclose(q, queries.reshape(20, 2), rtol=1e-6)
    assert labels.tolist() == [0, 1, 2, 3] * 5
    distances = ((queries.reshape(20, 1, 2) - support.mean(0)) ** 2).sum(-1)
    got = few_shot.distance_logits(q, kernel)
    np.testing.assert_array_equal(got.argmax(-1), distances.argmin(-1))
    differences = distances - distances[:, :1]
    np.testing.assert_allclose(got[:, :1] - got, differences, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("objectives", ("icn",), "did you mean icnn"), ("ways", 7, "config.ways is 7")],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("metric_learning:few_shot", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("metric_learning:few_shot")
    assert done.figures == ["accuracy"]
    assert (done.results["ce"].final("accuracy/1") > 0.25).all()
