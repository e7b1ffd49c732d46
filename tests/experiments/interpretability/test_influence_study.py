import functools

import jax
import numpy as np
from harness.interpreter import interpreted

from experiments.interpretability import _networks, influence
from logitlab import metrics

RECIPE = _networks.Recipe((3,), 4, 5)


def problem():
    rng = np.random.default_rng(0)
    batch = {"x": rng.normal(size=(6, 2)), "y": rng.integers(0, 4, 6)}
    shapes = jax.eval_shape(RECIPE.model.init, jax.random.key(0), batch["x"])
    return jax.tree.map(lambda a: rng.normal(size=a.shape), shapes), batch


def test_gauss_newton_is_its_formula(x64):
    params, batch = problem()
    model = RECIPE.model
    got = interpreted(functools.partial(influence.gauss_newton, model))(
        params, batch["x"]
    )
    leaves, tree = jax.tree.flatten(params)
    logits = np.asarray(model.apply(params, batch["x"]))
    p = np.exp(logits - logits.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    total = 0
    for row, q in zip(batch["x"], p, strict=True):
        jac = jax.jacrev(lambda w, row=row: model.apply(w, row[None])[0])(params)
        jac = np.asarray(influence._flat(jac["params"]))
        total = total + jac.T @ (np.diag(q) - np.outer(q, q)) @ jac
    np.testing.assert_allclose(got, total / 6, atol=1e-12)
    assert got.shape == (sum(a.size for a in leaves),) * 2


def test_gradients_are_laid_out_as_the_matrix(x64):
    """Without a matrix the exact scores are the products of gradients."""
    params, batch = problem()
    flat = influence.flat_gradients(RECIPE.model, params, batch)
    loss = functools.partial(influence.tapped_loss, RECIPE.model)
    want = metrics.influence_scores(loss, params, batch, batch, state=None)
    np.testing.assert_allclose(flat @ flat.T, want, rtol=1e-9)


def test_bad_configs_are_refused(refused):
    name = "interpretability:influence"
    refused(name, "removed", 30, "expected 1 to config.queries")
    refused(name, "share", 1.0, r"expected in \(0, 1\)")
