import jax
import numpy as np
from harness.interpreter import interpreted

from configs.denoising import get_config
from experiments.common import studies
from experiments.denoising import early_stopping
from logitlab.train import ArmResult


def test_the_network_starts_at_zero_and_its_signs_stay(first_step):
    run = studies.build(get_config("early_stopping-smoke")).arms["rows_20"]
    params = interpreted(run.init)(jax.random.key(0))
    batch = run_data(run)["test"]
    start = interpreted(early_stopping.predict)(
        params["hidden"], params["signs"], batch
    )
    np.testing.assert_allclose(start, 0, atol=1e-6)
    state, loss, _ = first_step(run)
    assert set(np.unique(state.params["signs"])) == {-1, 1}
    assert np.isfinite(loss)


def run_data(run):
    return interpreted(run.data)(jax.random.key(1))


def test_noise_keeps_the_variance_of_a_unit():
    batch = early_stopping.draw(jax.random.key(0), 1000, (0.1, 1.0))
    np.testing.assert_allclose(batch["alpha"] ** 2 + batch["h"], 1, rtol=1e-5)


def test_the_best_step_of_each_seed():
    rows = [
        {"seed": seed, "step": step, "excess": value}
        for seed, values in enumerate(((3, 1, 2), (3, 2, 1)))
        for step, value in zip((0, 10, 100), values, strict=True)
    ]
    arm = ArmResult("arm", (0, 1), rows)
    assert early_stopping.best_step(arm).tolist() == [10, 100]


def test_bad_configs_are_refused(refused):
    name = "denoising:early_stopping"
    refused(name, "rows", (400, 100), "expected at least two growing sizes")
    refused(name, "times", (0.0, 1.0), "without noise there is no score")
