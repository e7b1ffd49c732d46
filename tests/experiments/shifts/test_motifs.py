import jax
import jax.numpy as jnp
import numpy as np
import pytest

from configs.shifts import get_config
from experiments.shifts import motifs


def test_houses_and_cycles_hang_on_trees():
    config, rows = get_config("motifs"), 300
    graphs = jax.tree.map(np.asarray, motifs.draw(jax.random.key(0), config, 0.9, rows))
    a, nodes, y = graphs["adjacency"], graphs["nodes"], graphs["y"]
    np.testing.assert_array_equal(a, np.swapaxes(a, 1, 2))
    assert set(np.unique(a)) == {0, 1}
    assert not a[~nodes].any()
    # A tree has an edge less than nodes, and a house two more than a tree.
    np.testing.assert_array_equal(a.sum((1, 2)) / 2 - nodes.sum(1), y)
    triangles = np.trace(np.linalg.matrix_power(a, 3), axis1=1, axis2=2) / 6
    np.testing.assert_array_equal(triangles, y)
    steps = np.linalg.matrix_power(a + np.eye(a.shape[1]), a.shape[1]) > 0
    assert (steps[:, 0] == nodes).all()  # one piece
    large = nodes.sum(1) - 5 >= config.large[0]
    np.testing.assert_allclose(np.mean(large == (y == 1)), 0.9, atol=0.06)


def test_nodes_that_are_not_there_do_not_count():
    config = get_config("motifs-smoke")
    graphs = motifs.draw(jax.random.key(0), config, 0.5, 3)
    model = motifs.models.GCN(width=2, classes=2)
    first = graphs["adjacency"][0]
    params = model.init(jax.random.key(1), motifs.features(first), first)["params"]
    wide = {
        "adjacency": jnp.pad(graphs["adjacency"], [(0, 0), (0, 2), (0, 2)]),
        "nodes": jnp.pad(graphs["nodes"], [(0, 0), (0, 2)]),
    }
    want = motifs.embed(model, params, graphs)
    np.testing.assert_allclose(motifs.embed(model, params, wide), want, rtol=1e-5)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("shifts:motifs", seeds=1)
    assert all(np.isfinite(v.ours).all() for v in done.verdicts.values())


def test_bad_configs_are_refused(refused):
    refused("shifts:motifs", "rates", (0.5, 1.5), "expected a share in")
    refused("shifts:motifs", "large", (10, 20), "expected growing numbers of nodes")
