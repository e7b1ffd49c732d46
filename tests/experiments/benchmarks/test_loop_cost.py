import numpy as np
import pytest

from configs.benchmarks import get_config
from experiments.benchmarks import loop


@pytest.mark.slow
def test_upkeep_is_measured_beside_a_bare_run():
    config = get_config("loop")
    with config.unlocked():
        config.repeats, config.upkeep.steps, config.upkeep.save_every = 1, 20, 0.0
    measured = loop._upkeep_cost(config)
    assert measured["saves"] >= 1
    assert np.isfinite(list(measured.values())).all()
    texts = [claim.text for claim in loop.build(config).claims]
    assert any("checkpoints every 30 seconds" in text for text in texts)
