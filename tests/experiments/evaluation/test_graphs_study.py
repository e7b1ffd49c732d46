import jax
import numpy as np
import pytest

from experiments.evaluation import graphs
from logitlab import data


def test_rewiring_moves_edges_and_keeps_their_number():
    key = jax.random.key(0)
    graph = data.stochastic_block_model(key, 60, classes=3, p_in=0.3, p_out=0.05)
    before = np.asarray(graph["adjacency"])
    for share in (0.0, 0.3, 1.0):
        after = np.asarray(graphs.rewire(key, before, share))
        np.testing.assert_array_equal(after, after.T)
        assert not after.diagonal().any()
        assert after.sum() == before.sum()
        kept = (after & before).sum() / before.sum()
        assert abs(kept - (1 - share)) < 0.1 * (0 < share < 1) + 1e-9


def test_room_for_edges():
    sizes = dict(nodes=60, classes=3, p_in=0.3, p_out=0.05)
    graph = data.stochastic_block_model(jax.random.key(1), **sizes)
    edges = int(graph["adjacency"].sum()) // 2
    assert edges < graphs._room_for_edges(**sizes) < 2 * edges


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("noise", (), "expected at least two graphs"),
        ("noise", (0.0, -1.0), "config.noise is"),
        ("rewired", (0.5, 1.5), "config.rewired is"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("evaluation:graphs", key, value, message)


def test_end_to_end(run_study):
    done = run_study("evaluation:graphs", graph__nodes=48)
    assert done.figures == ["distance", "spearman"]
    arrays = {name: arm.arrays for name, arm in done.results.items()}
    for name, each in arrays.items():
        np.testing.assert_array_equal(each["error"], arrays["lebed"]["error"])
        assert each["score"].shape == (2, 2, 2), name
        assert np.isfinite(each["score"]).all(), name
    for name in ("lebed", "slow"):
        assert (done.results[name]["epochs"] >= 5).all()
        assert (done.results[name]["epochs"] <= 10).all()
