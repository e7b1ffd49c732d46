import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from logitlab import attacks

RNG = np.random.default_rng(0)
W1, W2 = (RNG.normal(size=s).astype("f4") for s in [(6, 12), (12, 3)])
X = RNG.uniform(size=(30, 6)).astype("f4")
OPTIONS = dict(steps=4, queries=40, key=jax.random.key(0))


def smooth(x):
    return jnp.tanh((x - 0.5) @ W1) @ W2


def rounded(x):
    return smooth(jnp.round(8 * x) / 8)


def saturated(x):
    """The same classes, of probabilities that float32 rounds to 1."""
    return 1000 * smooth(x)


LABELS = np.asarray(smooth(X)).argmax(-1)


def evaluate(logits_fn, labels=LABELS, eps=0.1, **options):
    attack = interpreted(
        lambda x: attacks.robust_accuracy(
            logits_fn, x, labels, eps=eps, **OPTIONS | options
        )
    )
    return attack(X)


def test_gradients_that_are_masked_are_found_out():
    plain, masked, large = map(evaluate, (smooth, rounded, saturated))
    assert not plain.masked
    assert masked.masked
    assert not large.masked
    assert float(masked.flat) == 1.0
    assert float(plain.flat) == float(large.flat) == 0.0
    assert float(masked.by_square) > float(masked.by_gradients) + 0.2
    # Rounding and scale defend against nothing: what was robust is not much more so.
    robust = [float(found.robust) for found in (plain, large)]
    assert robust[0] == robust[1]
    assert 0.1 < robust[0] < 0.9


def test_a_factor_of_the_logits_defends_against_nothing():
    one = evaluate(smooth)
    for scale in (1 / 64, 1024):  # powers of two: bit for bit the same attack
        found = evaluate(lambda x, scale=scale: scale * smooth(x))
        for name, broken in found.broken.items():
            np.testing.assert_array_equal(broken, one.broken[name], name)


@pytest.mark.parametrize("norm", [2, 1])
def test_worst_of_all(norm):
    eps = {2: 0.2, 1: 0.4}[norm]
    mask = np.arange(30) < 20
    labels = np.where(np.arange(30) % 5 == 0, -1, LABELS)
    labels[1] = (labels[1] + 1) % 3
    small = dict(steps=3, queries=10)
    found = evaluate(smooth, labels, eps, norm=norm, mask=mask, **small)
    known = mask & (labels >= 0)
    broken = np.stack(list(found.broken.values()))
    assert list(found.broken) == ["apgd", "apgd_targeted", "pma", "square"]
    assert broken[:, 1].all()
    assert not broken[:, ~known].any()
    np.testing.assert_array_equal(found.attack.broken, broken.any(0))
    assert (int(found.clean.sum), int(found.clean.count)) == (15, 16)
    robust = (known & ~broken.any(0)).sum()
    assert (int(found.robust.sum), int(found.robust.count)) == (robust, 16)
    wrong = np.asarray(smooth(found.attack.inputs)).argmax(-1) != labels
    np.testing.assert_array_equal(wrong[known], found.attack.broken[known])
    moved = np.linalg.norm(found.attack.inputs - X, norm, -1)
    assert (moved <= eps * (1 + 1e-5)).all()


def test_the_budget_is_what_was_spent():
    counts = dict(forward=0, backward=0)

    def count(name):
        counts[name] += 1

    @jax.custom_vjp
    def counted(x):
        return smooth(x)

    def forward(x):
        return smooth(x), x

    def backward(x, slope):
        jax.debug.callback(lambda _: count("backward"), x)
        return jax.vjp(smooth, x)[1](slope)

    def logits_fn(x):
        jax.debug.callback(lambda _: count("forward"), x)
        return counted(x)

    counted.defvjp(forward, backward)
    found = evaluate(logits_fn, steps=3, queries=4)
    assert counts["backward"] == found.gradients
    assert counts["forward"] - counts["backward"] == found.queries


def test_two_classes():
    def logits_fn(x):
        return smooth(x)[:, :2]

    labels = np.asarray(logits_fn(X)).argmax(-1)
    found = evaluate(logits_fn, labels)
    assert 0 < float(found.robust) < float(found.clean) == 1


def test_errors():
    with pytest.raises(ValueError, match="queries is 0, expected at least 1"):
        evaluate(smooth, queries=0)
    with pytest.raises(ValueError, match="num_targets is 0, expected at least 1"):
        evaluate(smooth, num_targets=0)
