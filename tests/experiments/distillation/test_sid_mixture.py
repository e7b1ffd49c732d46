import jax
import numpy as np
import pytest
from harness.interpreter import interpreted

from configs.distillation import get_config
from experiments.denoising import _mixtures as mixtures
from experiments.distillation import sid_mixture
from logitlab import models, report
from logitlab.train import ArmResult

MIXTURE = mixtures.circle(3, 1.0, 0.1)


def test_a_network_of_zeros_is_the_denoiser_of_a_gaussian():
    model = models.MLP((2,), 2)
    params = jax.tree.map(np.zeros_like, model.init(jax.random.key(0), np.ones((1, 3))))
    noisy, sigma = np.float32([[1, 2], [3, 4]]), np.float32([0.5, 2.0])
    got = sid_mixture.denoised(model, params["params"], noisy, sigma, 0.7)
    want = 0.49 / (sigma**2 + 0.49)
    np.testing.assert_allclose(got, want[:, None] * noisy, rtol=1e-6)


def test_the_teacher_regresses():
    """By least squares: no constant moves the exact denoiser nearer to the data."""
    x = np.asarray(mixtures.draw(jax.random.key(0), MIXTURE, 20_000))
    noise = 0.4 * np.random.default_rng(0).normal(size=x.shape).astype("f4")
    sigma = np.full(len(x), 0.4, "f4")
    guess = np.asarray(sid_mixture.exact(MIXTURE, x + noise, sigma))
    np.testing.assert_allclose(((x - guess) * guess).mean(0), 0, atol=0.01)
    np.testing.assert_allclose((x - guess).mean(0), 0, atol=0.01)


def test_distance_of_a_shift():
    rng = np.random.default_rng(0)
    x, shift = rng.normal(size=(50, 2)).astype("f4"), np.float32([3, 4])
    distance = interpreted(sid_mixture.sliced_distance)
    key = jax.random.key(0)
    assert float(distance(key, x, x[::-1])) == 0
    # A random direction sees half of the squared length of a vector in the plane.
    got = float(distance(key, x, x + shift))
    assert got == pytest.approx(5 / np.sqrt(2), rel=0.15)


def test_modes_that_are_there():
    means = MIXTURE.means.astype("f4")
    rows = np.concatenate([np.repeat(means[:1], 80, 0), np.repeat(means[1:2], 12, 0)])
    far = np.full((8, 2), 9, "f4")
    there = interpreted(lambda x: sid_mixture.modes_there(x, MIXTURE))
    assert there(np.concatenate([rows, far])) == 2
    assert there(np.concatenate([rows, 0.5 * means[1:2].repeat(40, 0)])) == 1


def result(**columns):
    count = len(next(iter(columns.values())))
    rows = [
        {"arm": "a", "seed": str(seed), "step": "0"}
        | {name: str(values[seed]) for name, values in columns.items()}
        for seed in range(count)
    ]
    return ArmResult("a", range(count), rows)


@pytest.mark.parametrize("good", [True, False])
def test_claims_can_fail(good):
    modes, distance = ([6, 6, 2], 0.1) if good else ([5, 5, 6], 0.3)
    noise = np.array([0.0, 0.01, 0.02])
    results = {
        name: result(**{"modes/6000": modes, "distance/6000": d + noise})
        for name, d in (("steps_1", 0.2), ("steps_4", distance))
    }
    verdicts = report.judge(sid_mixture._claims(get_config("sid_mixture")), results)
    assert len(verdicts) == 3
    assert {v.verdict for v in verdicts} == {"reproduced" if good else "not reproduced"}


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("after", (2, 1), "config.after is"),
        ("generator_steps", (0, 1), "config.generator_steps is"),
        ("data.modes", 1, "config.data has modes=1"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("distillation:sid_mixture", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("distillation:sid_mixture")
    assert done.figures == ["distance", "modes"]
