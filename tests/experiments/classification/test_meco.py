import jax
import numpy as np
import pytest

from configs.classification import get_config
from experiments.classification import meco
from logitlab import report
from logitlab.train import ArmResult

SETTINGS = dict(step=0.1, within=0.1, cap=20_000, points=801, beyond=10.0)
COUNTS = {2.0: 29, 4.0: 36, 6.0: 39, 8.0: 42}


@pytest.mark.sampled(3)
@pytest.mark.parametrize(("distance", "count"), COUNTS.items())
@pytest.mark.usefixtures("x64")
def test_likelihood_takes_as_long_as_its_closed_form(distance, count):
    assert meco.closed_form(distance, step=0.1, within=0.1) == count
    assert meco.iterations("likelihood", distance, **SETTINGS) == count


def nce_iterations(distance):
    """The same in NumPy, with the slopes written out."""
    x = np.linspace(-10, distance + 10, 4001)
    h = x[1] - x[0]
    q = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    p = np.exp(-((x - distance) ** 2) / 2) / np.sqrt(2 * np.pi)
    mean = log_z = 0.0
    for count in range(20_000):
        if abs(mean - distance) < 0.1:
            return count
        g = -((x - mean) ** 2) / 2 - log_z - np.log(q)
        slope = h * (q / (1 + np.exp(-g)) - p / (1 + np.exp(g)))
        mean, log_z = mean - 0.1 * slope @ (x - mean), log_z + 0.1 * slope.sum()
    return None


@pytest.mark.parametrize("distance", [1.0, 2.0])
@pytest.mark.usefixtures("x64")
def test_nce_takes_as_long_as_in_numpy(distance):
    count = meco.iterations("nce", distance, **SETTINGS)
    assert count == nce_iterations(distance)


@pytest.mark.usefixtures("x64")
def test_counting_ends_at_the_cap():
    assert meco.iterations("nce", 4.0, **SETTINGS | {"cap": 50}) == 50


@pytest.mark.slow
@pytest.mark.usefixtures("x64")
def test_sampled_meco_is_unbiased_where_nothing_is_left_to_learn():
    """At the mean, with the noise of the model's own scale, errors stay small."""
    config = get_config("meco").sampled
    with config.unlocked():
        config.update(dict(distance=1.0, after=(1, 100), chains=32, batch=256))
    for method in ("likelihood", "nce"):
        error = meco._sampled_error(method, jax.random.key(0), config)
        assert error[0] > 0.8
        assert error[-1] < 0.2


def result(**columns):
    rows = [
        {"arm": "a", "seed": "0", "step": "0"}
        | {k.replace("__", "/"): str(v) for k, v in columns.items()}
    ]
    return ArmResult("a", (0,), rows)


def test_claims_can_fail():
    claims = meco.build(get_config("meco")).claims
    ours = {f"iterations/{R:g}": n for R, n in COUNTS.items()}
    early, late = {"error/50": 0.06, "error/2000": 0.08}, {"error/50": 0.73}
    slow = {f"iterations/{R:g}": n for R, n in zip(COUNTS, (226, 7351, 2e4, 2e4))}  # noqa: B905
    fast = slow | {"iterations/6": 19_999}
    for nce, verdict in ((slow, "reproduced"), (fast, "not reproduced")):
        results = {
            "likelihood": result(**ours, **early),
            "nce": result(**nce, **late, **{"error/2000": 0.03}),
        }
        verdicts = report.judge(claims, results)
        (capped,) = [v for v in verdicts if "does not arrive" in v.text]
        assert capped.verdict == verdict
        assert {v.verdict for v in verdicts if v is not capped} == {"reproduced"}
    off = {
        "likelihood": result(**ours | {"iterations/8": 43}, **early),
        "nce": result(**slow, **late, **{"error/2000": 0.03}),
    }
    assert report.judge(claims[:1], off)[0].verdict == "not reproduced"


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x64", False, "config.x64 is False, expected True"),
        ("distances", (2.0, 0.0), "config.distances is"),
        ("population.step", 1.5, "config.population.step is 1.5, expected"),
        ("population.cap", 0, "config.population.cap is 0"),
        ("sampled.gamma", 0.0, "config.sampled.gamma is 0"),
        ("sampled.after", (), "config.sampled.after is"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("classification:meco", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("classification:meco")
    first, *_ = done.verdicts.values()
    assert first.verdict == "reproduced"
    assert done.figures == ["error", "iterations"]
