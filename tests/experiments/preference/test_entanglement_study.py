import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from experiments.preference import entanglement


@pytest.mark.usefixtures("x64")
def test_log_probabilities_of_answers():
    init = interpreted(lambda key: entanglement.init(key, 5, 3, 4))
    params = init(jax.random.key(0))
    tokens = np.array([1, 4, 2, 0, 3])
    w = {name: np.asarray(array) for name, array in params.items()}
    want = 0
    for t in (2, 3):
        seen = w["embedding"][tokens[t - 2 : t]].reshape(-1)
        z = np.tanh(seen @ w["hidden"]) @ w["out"]
        want += z[tokens[t]] - np.log(np.exp(z).sum())
    answer = {"tokens": tokens, "mask": np.array([True, True, False])}
    got = interpreted(entanglement.log_prob)(params, answer)
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.usefixtures("x64")
def test_products_of_tokens_add_up_to_those_of_answers():
    params = entanglement.init(jax.random.key(0), 5, 3, 4)
    pairs = entanglement.draw_pairs(jax.random.key(1), 1, 2, 2, 5)
    pair = tuple({k: v[0] for k, v in answer.items()} for answer in pairs)
    inner, cosines = entanglement.token_products(params, pair)
    assert inner.shape == cosines.shape == (3, 3)
    grads = [jax.grad(entanglement.log_prob)(params, answer) for answer in pair]
    whole = sum(
        jnp.vdot(a, b) for a, b in zip(*map(jax.tree.leaves, grads), strict=True)
    )
    np.testing.assert_allclose(inner.sum(), whole, rtol=1e-10)
    alike = entanglement.token_products(params, (pair[0], pair[0]))[1]
    np.testing.assert_allclose(jnp.diagonal(alike), 1, rtol=1e-10)


def test_pairs_differ_in_one_token():
    chosen, rejected = entanglement.draw_pairs(jax.random.key(0), 50, 2, 3, 4)
    assert chosen["tokens"].shape == rejected["tokens"].shape == (50, 6)
    differ = np.asarray(chosen["tokens"] != rejected["tokens"])
    assert differ[:, 2].all()
    assert differ.sum() == 50
    assert chosen["mask"].tolist() == 50 * [[True, True, True, False]]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("suffixes", (2, 1), r"config.suffixes is \(2, 1\), expected"),
        ("train.suffixes", (-1, 0), r"config.train.suffixes is \(-1, 0\), expected"),
        ("model.tokens", 1, "config.model.tokens is 1, expected at least 2"),
        ("pairs", 0, "config.pairs is 0, expected at least 1"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("preference:entanglement", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("preference:entanglement")
    assert done.figures == ["cosine", "ratio", "tokens", "training"]
    first, alike, *_ = done.verdicts.values()
    assert first.verdict == alike.verdict == "reproduced"
    curve = done.results["normalised_6"].arrays["chosen_curve"]
    assert curve.shape == (2, 6)
    np.testing.assert_array_equal(curve[:, 0], 0)
    assert (np.diff(curve) > 0).all()
