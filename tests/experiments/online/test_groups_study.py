import jax
import numpy as np
from harness.interpreter import interpreted

from configs.online import get_config
from experiments.online import groups


def test_labels_are_means_of_the_groups_models():
    config = get_config("groups-smoke")
    with config.unlocked():
        config.noise = 0.0
    x, y, member = interpreted(lambda key: groups.draw(key, config))(jax.random.key(0))
    assert member[:, 0].all()
    for pattern in np.unique(member, axis=0):
        rows = (member == pattern).all(1)
        if rows.sum() > 3:  # one linear model for rounds of the same groups
            _, rest, *_ = np.linalg.lstsq(x[rows], y[rows])
            assert rest < 1e-6


def test_a_group_alone_is_one_learner_for_all():
    config = get_config("groups-smoke")
    x, y, member = groups.draw(jax.random.key(1), config)
    lost, least = groups._played(x, y, member[:, :1], 1.0)
    np.testing.assert_allclose(lost["groupwise"], lost["global"])
    gram = x.T @ x + np.eye(x.shape[1])
    theta = np.linalg.solve(gram, x.T @ y)
    np.testing.assert_allclose(least, [np.sum((x @ theta - y) ** 2) / 4], rtol=1e-4)


def test_bad_configs_are_refused(refused):
    refused("online:groups", "share", 1.0, "config.share is 1.0")
    refused("online:groups", "rounds", 5, "config.rounds is 5")


def test_end_to_end(run_study):
    done = run_study("online:groups")
    assert done.figures == ["regret"]
