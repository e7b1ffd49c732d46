"""The studies end to end; compiling takes nearly all of the time."""

import pytest


@pytest.mark.slow
def test_experts_of_a_long_tail(run_study):
    done = run_study("shifts:long_tail", seeds=1)
    assert done.figures == ["accuracy", "weights"]
    sade = done.results["sade"]
    weights = [sade.final(f"uniform/weight_{k}") for k in (1, 2, 3)]
    assert sum(weights) == pytest.approx(1, abs=1e-5)


@pytest.mark.slow
def test_a_bias_of_few_shots(run_study):
    done = run_study("shifts:few_shot_bias", seeds=1)
    assert done.results["none"].final("1/base") == done.results["alone"].final("1/base")


@pytest.mark.slow
def test_experts_of_halves(run_study):
    done = run_study("shifts:halves", seeds=1)
    for arm in done.results.values():
        assert 0 <= arm.final("score/auroc") <= 1


@pytest.mark.slow
def test_foundations(run_study):
    done = run_study("shifts:foundations", seeds=1)
    for arm in done.results.values():
        assert -1 <= arm.final("pretraining/one") <= 1


def test_heads_of_domains(run_study):
    done = run_study("shifts:colours", seeds=1)
    assert "target/surest" in done.results["drm"]
    assert "target/surest" not in done.results["erm"]


@pytest.mark.slow
def test_averages(run_study):
    done = run_study("shifts:averaging", seeds=1)
    first = [done.results[arm].final("0.9/first") for arm in ("linear", "loud")]
    assert first[0] == first[1]  # the first model is the same
