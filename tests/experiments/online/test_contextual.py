import numpy as np
import pytest
from harness.interpreter import interpreted

from configs.online import get_config
from experiments.online import contextual


@pytest.mark.parametrize("name", list(contextual.LABELS))
def test_chances(name):
    predicted = np.linspace(0.1, 0.9, 10).astype("f4")[::-1]
    got = interpreted(lambda p: contextual.chances(name, p, np.float32(0.2)))(predicted)
    np.testing.assert_allclose(got.sum(), 1, rtol=1e-5)
    if name == contextual.UNIFORM:
        np.testing.assert_allclose(got, 0.1)
    else:
        assert got.argmax() == 9
    if name == contextual.GREEDY:
        np.testing.assert_allclose(got[-1], 0.82)


def test_settings():
    config = get_config("contextual")
    assert len(contextual.grid("fast", config)) == 15
    assert contextual.grid("greedy", config)[0] == (0.0, 0.1)
    assert contextual.grid("uniform", config) == [(0.0, 0.1)]
    assert contextual.metric((30.0, 0.1)) == "regret/30/0.1"


def test_bad_configs_are_refused(refused):
    refused("online:contextual", "gammas", (), "config.gammas is empty")
    refused("online:contextual", "rounds", 2, "config.rounds is 2")


def test_end_to_end(run_study):
    done = run_study("online:contextual")
    assert done.figures == ["regret"]
    for name in contextual.LABELS:
        wrong = done.results[name].final("best/10")
        assert ((wrong >= 0) & (wrong <= 10)).all()
