import jax
import numpy as np
import pytest

from configs.classification import get_config
from experiments.classification import presto


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_rare_events():
    config = get_config("presto")
    with config.unlocked():
        config.samples, config.features, config.penalties = 200, 2, 3
        config.intercepts = ((0.0, 1.5, 3.0),)
    study = presto.build(config)
    key = jax.random.key(0)
    x, y, fresh, rare = presto._draw(config, config.intercepts[0], key)
    assert x.shape == fresh.shape == (200, 2)
    assert set(np.unique(y)) <= {0, 1, 2, 3}
    assert float(rare.mean()) == pytest.approx(1 - 1 / (1 + np.exp(-3)), abs=0.04)
    found = {name: study.arms[f"{name}_0"].values(key) for name in presto.METHODS}
    for numbers in found.values():
        assert 0 < numbers["squared_error"] < 0.01
    assert len({float(n["rare_share"]) for n in found.values()}) == 1  # the same data
    with config.unlocked():
        config.folds = 7
    with pytest.raises(ValueError, match="config.folds is 7"):
        presto.build(config)
    with config.unlocked():
        config.intercepts = ((3.0, 0.0, 1.0),)
    with pytest.raises(ValueError, match="config.intercepts"):
        presto.build(config)
