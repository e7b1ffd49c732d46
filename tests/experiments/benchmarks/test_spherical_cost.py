import jax
import numpy as np
import pytest

from configs.benchmarks import get_config
from experiments.benchmarks import spherical
from logitlab import report
from logitlab.train import ArmResult

SIZES = (50, 400)


@pytest.fixture(scope="module")
def study():
    config = get_config("spherical").unlock()
    config.classes, config.width, config.rows = SIZES, 4, 3
    config.steps, config.stabilize_every, config.repeats = 6, 3, 1
    with jax.enable_x64(True):
        yield spherical.build(config)


def result(name, **values):
    rows = [
        {"step": 0, "seed": 0} | {k.replace("__", "/"): v for k, v in values.items()}
    ]
    return ArmResult(name, (0,), rows)


def results(**times):
    given = dict(
        dense__50=1.0,
        dense__400=300.0,
        factored__50=0.5,
        factored__400=0.6,
        temporary_over_kernel=0.001,
    )
    return {
        "time": result("time", **given | times),
        "exact": result("exact", difference=1e-13),
    }


@pytest.mark.slow
def test_arms_measure_what_the_claims_read(study):
    numbers = {name: arm.values(jax.random.key(0)) for name, arm in study.arms.items()}
    for way in ("dense", "factored"):
        for size in SIZES:
            assert 0 < numbers["time"][f"{way}/{size}"] < 1e4
    assert numbers["exact"]["difference"] < 1e-12
    got = {name: result(name, **values) for name, values in numbers.items()}
    verdicts = report.judge(study.claims, got)
    assert all(np.isfinite(verdict.ours).all() for verdict in verdicts)


@pytest.mark.parametrize(
    ("times", "failing"),
    [
        ({}, []),
        (dict(factored__50=0.3), [0]),
        (dict(factored__400=0.3), [0]),
        (dict(dense__400=50.0), [1]),
        (dict(temporary_over_kernel=1.0), [2]),
    ],
)
def test_verdicts(study, times, failing):
    verdicts = report.judge(study.claims, results(**times))
    failed = [i for i, v in enumerate(verdicts) if v.verdict == "not reproduced"]
    assert failed == failing


def test_figure_is_of_times_against_classes(study):
    (axes,) = study.figures["time"](results()).axes
    assert (axes.get_xlabel(), axes.get_xscale(), axes.get_yscale()) == (
        "classes",
        "log",
        "log",
    )
    lines = [(line.get_xdata(), line.get_ydata()) for line in axes.lines]
    np.testing.assert_array_equal(lines[0], [SIZES, [1, 300]])
    np.testing.assert_array_equal(lines[1], [SIZES, [0.5, 0.6]])
    (axes,) = study.figures["time"]({}).axes
    assert [text.get_text() for text in axes.texts] == ["not logged"]
