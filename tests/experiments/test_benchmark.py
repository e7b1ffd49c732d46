import numpy as np

from configs.benchmark import get_config
from experiments import benchmark


def test_upkeep_is_measured_beside_a_bare_run():
    config = get_config("loop")
    with config.unlocked():
        config.repeats, config.upkeep.steps, config.upkeep.save_every = 1, 20, 0.0
    measured = benchmark._upkeep_cost(config)
    assert measured["saves"] >= 1
    assert np.isfinite(list(measured.values())).all()
    texts = [claim.text for claim in benchmark.build(config).claims]
    assert any("checkpoints every 30 seconds" in text for text in texts)
