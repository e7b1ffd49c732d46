import numpy as np
import pytest

from configs.robustness import get_config
from experiments.robustness import attacks
from logitlab.train import ArmResult


def arm(name, **shares):
    row = {attacks.metric(float(k[1:])): v for k, v in shares.items()}
    return ArmResult(name, (0,), [{"seed": 0, "step": 0} | row])


def test_how_claims_are_judged():
    config = get_config("attacks")
    rows = {
        name: arm(name, s1=0.6, s20=0.7, s100=0.7, s1000=0.65)
        for name in attacks.LABELS
    }
    rows["odds"] = arm("odds", s1=0.55, s20=0.55, s100=0.56, s1000=0.55)
    np.testing.assert_allclose(attacks._moved(config, "cw", rows), [10], rtol=1e-9)
    np.testing.assert_allclose(attacks._moved(config, "odds", rows), [1], rtol=1e-9)
    np.testing.assert_allclose(attacks._lead(rows), [5], rtol=1e-9)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [("scales", (1.0,), "config.scales is"), ("train", 1797, "config.train is 1797")],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("robustness:attacks", key, value, message)


def test_end_to_end(run_study):
    done = run_study("robustness:attacks", seeds=1)
    assert done.figures == ["scales"]
    for name, found in done.results.items():
        assert done.results["all"].final("robust/1") <= found.final("robust/1"), name
