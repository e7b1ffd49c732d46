import jax
import numpy as np
import pytest
from harness.interpreter import interpreted

from configs.distillation import get_config
from experiments.distillation import sid
from logitlab import report
from logitlab.train import ArmResult

DATA = {"mean": 1.5, "deviation": 0.6}
NOISE = {"largest": 0.8, "sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0}
draw = interpreted(sid._draw, static_argnames="shape")


def test_denoising_is_regression():
    """The slope and the value of the mean, by the least squares of many samples."""
    rng = np.random.default_rng(0)
    x = 1.5 + 0.6 * rng.normal(size=200_000)
    noisy = x + 0.8 * rng.normal(size=x.size)
    slope, at_zero = np.polyfit(noisy, x, 1)
    got = sid.denoise(np.array([0.0, 1.0]), 0.8, 0.6, 1.5)
    np.testing.assert_allclose(got, [at_zero, at_zero + slope], atol=0.01)


def test_denoisers_agree_when_the_generator_is_right():
    key = jax.random.key(0)
    params = np.float32(0.6), np.float32(1.5)
    x, teacher, fake = draw(key, params, DATA, NOISE, (500, 4))
    np.testing.assert_array_equal(teacher, fake)
    np.testing.assert_allclose([x.mean(), x.std()], [1.5, 0.6], atol=0.05)
    _, teacher, fake = draw(
        key, (np.float32(0.2), np.float32(-1)), DATA, NOISE, (500, 4)
    )
    assert np.abs(teacher - fake).mean() > 0.3


def test_a_step_against_numpy():
    """Adam's first step is the rate, against the slope's sign, for both numbers."""
    start = np.float32(0.2), np.float32(-1.0)
    settings = dict(steps=1, shape=(8, 3), learning_rate=0.25)
    train = interpreted(sid.train.__wrapped__, static_argnames=tuple(settings))
    key = jax.random.key(3)
    (path,) = train(key, np.float32(0.5), DATA, NOISE, start, **settings)
    keys = jax.random.split(jax.random.split(key, 1)[0], 3)
    z, e = (np.asarray(jax.random.normal(keys[i], (8, 3)), "f8") for i in (0, 2))
    u = np.asarray(jax.random.uniform(keys[1], (8, 1), maxval=0.8), "f8")
    top, low = 80 ** (1 / 7), 0.002 ** (1 / 7)
    sigma = (top + (1 - u) * (low - top)) ** 7

    def loss(a, b, weight=None):
        x = a * z + b
        noisy = x + sigma * e
        teacher, fake = (
            (s**2 * noisy + sigma**2 * m) / (s**2 + sigma**2)
            for s, m in ((0.6, 1.5), (0.2, -1.0))
        )
        if weight is None:
            return np.abs(x - teacher).mean(1, keepdims=True)
        gap = teacher - fake
        return np.mean(gap * (teacher - x - 0.5 * gap) / weight)

    fixed = loss(0.2, -1.0)
    slopes = [
        loss(0.2 + h, -1.0 + g, fixed) - loss(0.2 - h, -1.0 - g, fixed)
        for h, g in ((1e-6, 0), (0, 1e-6))
    ]
    want = np.array([0.2, -1]) - 0.25 * np.sign(slopes)
    np.testing.assert_allclose(path, [abs(want[0]), want[1]], rtol=1e-4)


def result(**values):
    row = {"arm": "a", "seed": "0", "step": "0"}
    return ArmResult("a", (0,), [row | {k: str(v) for k, v in values.items()}])


@pytest.mark.parametrize(("off", "scale", "wrong"), [(0.005, 12, 0), (0.02, 0.6, 10)])
def test_claims_can_fail(off, scale, wrong):
    results = {"identity": result(identity=0.001)} | {
        sid.arm_name(alpha, pixels): result(
            off=off, arrived=1000 * (1 + alpha), **{"scale/6000": scale}
        )
        for alpha in (0.0, 0.5, 1.0, 1.2, 2.0)
        for pixels in (1, 16)
    }
    verdicts = report.judge(sid.build(get_config("sid")).claims, results)
    assert len(verdicts) == 13
    assert sum(v.verdict == "not reproduced" for v in verdicts) == wrong


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("after", (2, 1), "config.after is"),
        ("pixels", (0, 1), "config.pixels is"),
        ("data.deviation", 0.0, "config.data.deviation is 0"),
        ("noise.largest", 1.5, "config.noise.largest is 1.5"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("distillation:sid", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("distillation:sid")
    assert len(done.verdicts) == 13
    assert done.figures == ["scale_1", "scale_16"]
