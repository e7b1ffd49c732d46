import jax
import jax.numpy as jnp
import numpy as np
import pytest

from logitlab import data

draw = jax.jit(
    data.stochastic_block_model,
    static_argnums=1,
    static_argnames=("classes", "p_in", "p_out", "features", "noise"),
)


def test_edges_and_features():
    key, means = jax.random.split(jax.random.key(0))
    options = dict(classes=4, p_in=0.3, p_out=0.05, features=3, means_key=means)
    graph = draw(key, 200, noise=0.0, **options)
    a, y = np.asarray(graph["adjacency"]), np.asarray(graph["y"])
    assert (a == a.T).all()
    assert not a.diagonal().any()
    np.testing.assert_array_equal(np.bincount(y), [50] * 4)
    same, above = y[:, None] == y[None], np.triu(np.ones_like(a), 1)
    for kind, p in ((same, 0.3), (~same, 0.05)):
        pairs = kind & above
        error = np.sqrt(p * (1 - p) / pairs.sum())
        assert abs(a[pairs].mean() - p) < 4 * error
    # Without noise the features are the means, which another key of the graph keeps.
    other = draw(means, 200, noise=2.0, **options)
    gaps = np.asarray(other["x"] - graph["x"])
    assert abs(gaps.mean()) < 0.3
    assert 1.8 < gaps.std() < 2.2
    assert len(np.unique(np.asarray(graph["x"]), axis=0)) == 4


def test_pairs_without_an_edge():
    graph = draw(jax.random.key(1), 12, classes=2, p_in=0.8, p_out=0.5)
    a = np.asarray(graph["adjacency"])
    u, v = np.asarray(data.random_non_edges(jax.random.key(2), a, 500))
    assert not a[u, v].any()
    assert (u < v).all()
    free = np.triu(~a, 1).sum()
    assert len({*zip(u.tolist(), v.tolist(), strict=True)}) == free  # each of them
    joined = np.asarray(
        data.random_non_edges(jax.random.key(2), ~np.eye(3, dtype=bool), 4)
    )
    assert joined.shape == (2, 4)  # of no use, but nodes
    assert ((joined >= 0) & (joined < 3)).all()


def test_drawing_pairs_takes_no_memory_for_all_pairs():
    shape = jax.ShapeDtypeStruct((400, 400), bool)
    draw = jax.jit(data.random_non_edges, static_argnums=2)
    cost = draw.lower(jax.random.key(0), shape, 1000).compile().memory_analysis()
    assert cost.temp_size_in_bytes < 4e6  # 1000 pairs of 160 000 would be 640 MB


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(p_in=1.5), "p_in is 1.5"),
        (dict(p_out=-1), "p_out is -1"),
        (dict(noise=-1), "noise is -1"),
        (dict(classes=0), "classes 0"),
    ],
)
def test_errors(change, message):
    options = dict(classes=2, p_in=0.5, p_out=0.1) | change
    with pytest.raises(ValueError, match=message):
        data.stochastic_block_model(jax.random.key(0), 4, **options)
    with pytest.raises(ValueError, match="adjacency has shape"):
        data.random_non_edges(jax.random.key(0), jnp.ones((2, 3), bool), 1)
