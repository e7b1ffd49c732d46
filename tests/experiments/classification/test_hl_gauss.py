import dataclasses

import jax
import numpy as np
import pytest

from configs.classification import get_config
from experiments.classification import hl_gauss


def config_of(folder, scales=None):
    config = get_config("hl_gauss")
    with config.unlocked():
        config.data.data_dir = folder
        config.noise.scales = scales or config.noise.scales
    return config


@pytest.mark.slow
def test_values_are_regressed_and_classified(data_folder, first_step):
    config = config_of(data_folder)
    study = hl_gauss.build(config)
    assert len(study.arms) == 9
    for name in ("mse_1", "hl_gauss_1", "two_hot_1"):
        run = dataclasses.replace(study.arms[name], batch_size=64)
        _, loss, numbers = first_step(run)
        assert np.isfinite(loss)
        assert float(numbers["test/squared_error"].value) < 100
    key = jax.random.key(0)
    clean = study.arms["mse_0"].data(key)["train"]["value"]
    np.testing.assert_array_equal(clean, clean.round())
    with pytest.raises(ValueError, match="config.noise.scales"):
        hl_gauss.build(config_of(data_folder, (-1.0,)))
