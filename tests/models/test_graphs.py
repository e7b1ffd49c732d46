import jax
import jax.numpy as jnp
import numpy as np
import pytest

from logitlab import models


def test_gcn_is_its_formula():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 3)).astype("f4")
    a = np.triu(rng.uniform(size=(6, 6)) < 0.4, 1)
    a = a | a.T
    a[5] = a[:, 5] = False  # without neighbors
    model = models.GCN(width=4, classes=2)
    variables = model.init(jax.random.key(0), x, a)
    params = jax.tree.map(np.asarray, variables["params"])
    loops = a + np.eye(6)
    root = np.diag(loops.sum(1) ** -0.5)
    across = root @ loops @ root
    np.testing.assert_allclose(
        models.normalized_adjacency(jnp.asarray(a)), across, 1e-6
    )
    assert across[5, 5] == 1

    def dense(name, x):
        return x @ params[name]["kernel"] + params[name]["bias"]

    embeddings = across @ dense("embedding", np.maximum(across @ dense("hidden", x), 0))
    got = model.apply(variables, x, a, method="embed")
    np.testing.assert_allclose(got, embeddings, rtol=1e-4, atol=1e-6)
    logits = model.apply(variables, x, a)
    np.testing.assert_allclose(logits, dense("head", embeddings), rtol=1e-4, atol=1e-6)
    assert logits.dtype == np.float32


def test_errors():
    with pytest.raises(ValueError, match=r"adjacency has shape \(2, 3\)"):
        models.normalized_adjacency(jnp.ones((2, 3)))
