import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted
from harness.quickly import quick_jit

from logitlab import losses, optim


def tree(value, count=3):
    return {"w": jnp.full((2, 2), value), "n": jnp.array(count)}


def test_means_keep_integers_and_dtypes():
    trees = [tree(1.0), tree(2.0, 4), tree(6.0, 5)]
    soup = optim.uniform_soup(trees)
    np.testing.assert_allclose(soup["w"], 3)
    assert soup["n"] == 3
    assert soup["n"].dtype == trees[0]["n"].dtype
    half = optim.uniform_soup([jnp.full(2, v, "bfloat16") for v in (1, 1, 2)])
    np.testing.assert_array_equal(half, jnp.full(2, 4 / 3, "bfloat16"))
    path = jax.vmap(lambda a: optim.interpolate(trees[0], trees[2], a))(
        jnp.float32([0, 0.5, 1, 2])
    )
    np.testing.assert_allclose(path["w"][:, 0, 0], [1, 3.5, 6, 11])


def test_greedy_soups():
    """Held-out accuracy as a table of what is in the soup, by its mean."""
    table = {1.0: 0.8, 2.0: 0.7, 4.0: 0.6, 1.5: 0.8, 2.5: 0.9, 7 / 3: 0.85}

    def evaluate(w):
        return {round(k, 3): v for k, v in table.items()}[round(float(w), 3)]

    trees = [jnp.float32(v) for v in (4, 1, 2)]
    strict = optim.greedy_soup(trees, evaluate)  # (1 + 2) / 2 is as good as 1
    assert strict[1] == (1, 0)
    np.testing.assert_allclose(strict[0], 2.5)
    both = optim.greedy_soup(trees, evaluate, strict=False)
    assert both[1] == (1, 2, 0)
    np.testing.assert_allclose(both[0], 7 / 3)
    assert optim.greedy_soup(trees[:1], evaluate) == (trees[0], (0,))


@pytest.mark.sampled(1)
@pytest.mark.parametrize("per_leaf", [False, True])
def test_learned_soups_leave_bad_models_out(per_leaf):
    rng = np.random.default_rng(0)
    x, w = rng.normal(size=(60, 3)).astype("f4"), rng.normal(size=(3, 3)).astype("f4")
    labels = (x @ w).argmax(1)
    trees = [{"w": 3 * w, "b": 0 * w[0]}, {"w": -w, "b": 5 * w[0]}]
    soup = quick_jit(
        lambda trees: optim.learned_soup(
            *(trees, lambda p: x @ p["w"] + p["b"][None], labels), per_leaf=per_leaf
        )
    )(trees)
    weights = soup.weights["w"] if per_leaf else soup.weights
    assert weights[0] > 0.8
    np.testing.assert_allclose(weights.sum(), 1, rtol=1e-5)
    assert soup.temperature > 0


@pytest.mark.usefixtures("x64")
def test_the_gap_to_second_order():
    """Of two nearby networks, against the difference itself."""
    rng = np.random.default_rng(0)
    x, labels = rng.normal(size=(20, 4)), rng.integers(0, 3, 20)
    center = [rng.normal(size=(4, 6)), rng.normal(size=(6, 3))]
    step = [rng.normal(size=a.shape) for a in center]

    def logits(params):
        return jnp.tanh(x @ params[0]) @ params[1]

    @interpreted
    def both(scale, alpha, beta):
        start, end = (
            [c + s * scale * d for c, d in zip(center, step, strict=True)]
            for s in (-1, 1)
        )

        def loss(z):
            return losses.cross_entropy(beta * z, labels).mean()

        soup = loss(logits(optim.interpolate(start, end, alpha)))
        mean = (1 - alpha) * logits(start) + alpha * logits(end)
        guess = optim.soup_vs_ensemble_gap(
            logits, start, end, labels, alpha=alpha, beta=beta
        )
        return soup - loss(mean), guess

    for alpha, beta in ((0.5, 1.0), (0.25, 2.0)):
        (a, b), (c, d) = both(0.02, alpha, beta), both(0.01, alpha, beta)
        assert abs(d - c) < 0.05 * abs(c)
        assert abs(d - c) < abs(b - a) / 5  # of higher order


def test_trees_that_differ_are_refused():
    good = {"a": np.zeros((2, 2)), "b": np.zeros(3)}
    shape = r"trees\[1\]\['b'\] has shape \(4,\), expected that of trees\[0\], \(3,\)"
    for soup in (
        optim.uniform_soup,
        functools.partial(optim.greedy_soup, evaluate=lambda t: 0),
        functools.partial(optim.learned_soup, logits_fn=lambda t: 0, labels=0),
        lambda trees: optim.interpolate(*trees, 0.5),
    ):
        with pytest.raises(ValueError, match=shape):
            soup([good, good | {"b": np.zeros(4)}])
        with pytest.raises(ValueError, match=r"trees\[1\] is laid out as"):
            soup([good, {"a": good["a"]}])
    with pytest.raises(ValueError, match="trees is empty"):
        optim.uniform_soup([])
    with pytest.raises(ValueError, match="expected accuracies"):
        optim.greedy_soup([good], lambda t: np.nan)
    with pytest.raises(ValueError, match="alpha is 2, expected a number in"):
        optim.soup_vs_ensemble_gap(lambda t: t, good, good, 0, alpha=2)
