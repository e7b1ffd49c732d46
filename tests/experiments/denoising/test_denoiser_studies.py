"""What the studies of denoisers and autoencoders refuse, and how claims are judged."""

import numpy as np

from configs.denoising import get_config
from experiments.denoising import autoencoders
from logitlab.train import ArmResult


def test_the_exponent_of_the_error():
    config = get_config("autoencoders")
    row = {"seed": 0, "step": 0} | {
        f"data/{sigma:g}": 3 * sigma**2 for sigma in config.sigmas
    }
    results = {"best": ArmResult("best", (0,), [row])}
    np.testing.assert_allclose(autoencoders._slope(config, results, "best"), [2])


def test_bad_configs_are_refused(refused):
    refused(
        "denoising:autoencoders", "fitted", 0.7, "expected numbers of config.sigmas"
    )
    refused(
        "denoising:autoencoders", "sigmas", (0.1, 0.1), "expected different numbers"
    )
    refused("denoising:denoising", "batch_size", 0, "config.batch_size is 0")
