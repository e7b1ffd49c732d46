import jax
import numpy as np

from configs.classification import get_config
from experiments.classification import equity


def test_one_cluster_is_rare_in_training_only():
    config = get_config("equity")
    groups = equity.clusters(config.clusters)
    for seed in range(3):
        drawn = equity._draw(config, jax.random.key(seed))
        p = np.array(drawn["train"]["likelihood"])
        assert len(p) == config.train
        assert np.isclose(p, 16 / 800).sum() == 16  # the others are more common
        assert p.min() == p[0]
        share = float(drawn["test"]["rare"].mean())
        assert np.abs(np.bincount(groups) / 1797 - share).min() < 0.03


def test_bad_configs_are_refused(refused):
    refused("classification:equity", "share", 1.0, "expected a share in")
    refused("classification:equity", "train", 1500, "config.train is 1500")


def test_end_to_end(run_study):
    done = run_study("classification:equity")
    assert done.figures == ["all", "gain", "rare"]
