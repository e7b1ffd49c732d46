import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from logitlab import attacks
from logitlab.attacks import Attack

RNG = np.random.default_rng(0)
W1, B1, W2 = (RNG.normal(size=shape) for shape in [(6, 8), (1, 8), (8, 3)])
X, Y = RNG.uniform(0.2, 0.8, size=(5, 6)), np.array([0, 1, 2, 0, 1])


def net(x):
    return jnp.tanh(x @ W1 + B1) @ W2


def slope_at(x, steer):
    """Slope in the inputs, from that in the logits."""
    h = np.tanh(x @ W1 + B1)
    return (steer(h @ W2) @ W2.T * (1 - h**2)) @ W1.T


def softmax(z):
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def linear(kernel):
    """Two classes, whose odds rise along one vector."""
    return lambda x: x @ np.stack([-kernel, kernel], -1) / 2


def run(attack, logits_fn, x, y, **options):
    """By NumPy, so that a few steps cost no compilation."""
    return interpreted(lambda x: attack(logits_fn, x, y, **options))(x)


@pytest.mark.parametrize("norm", ["inf", 2, 1])
def test_the_corner_of_a_linear_function(x64, norm):
    kernel = np.array([3.0, -1, 0.5, 2, -1, 0.2])
    best = {
        "inf": 0.1 * np.sign(kernel),
        2: 0.1 * kernel / np.linalg.norm(kernel),
        1: 0.05 * (np.eye(6)[0] + np.eye(6)[3]),  # a fifth of six, rounded up
    }[norm]
    found = run(attacks.pgd, linear(kernel), X, 0 * Y, eps=0.1, steps=3, norm=norm)
    np.testing.assert_allclose(found.losses, (X + best) @ kernel, 1e-12)
    np.testing.assert_array_equal(found.broken, (X + best) @ kernel > 0)
    still = ~found.broken
    np.testing.assert_allclose(found.inputs[still], (X + best)[still], 1e-12)
    assert found.finite.all()


def test_steps_are_those_written(x64):
    x = X
    for _ in range(4):
        z = np.tanh(x @ W1 + B1) @ W2
        others = np.where(np.eye(3, dtype=bool)[Y], -np.inf, z)
        steer = softmax(others) - np.eye(3)[Y]
        grad = slope_at(x, lambda z, steer=steer: steer)
        x = np.clip(np.clip(x + 0.05 * np.sign(grad), X - 0.12, X + 0.12), 0.1, 0.9)
    options = dict(eps=0.12, step_size=0.05, steps=4, bounds=(0.1, 0.9))
    found = run(attacks.pgd, net, X, Y, **options)
    z = np.tanh(found.inputs @ W1 + B1) @ W2
    np.testing.assert_array_equal(found.broken, z.argmax(-1) != Y)
    last = np.tanh(x @ W1 + B1) @ W2
    others = np.where(np.eye(3, dtype=bool)[Y], -np.inf, last)
    losses = np.log(np.exp(others).sum(-1)) - last[np.arange(5), Y]
    assert (found.losses >= losses - 1e-12).all()
    rising = np.isclose(found.losses, losses, 1e-9)  # where the last point is the best
    assert rising.sum() >= 3
    np.testing.assert_allclose(found.inputs[rising], x[rising], 1e-12)


def by_hand(eps, steps):
    """Both passes of PMA, with probabilities as the paper writes them."""
    half, points = steps // 2, []
    for second in (False, True):
        x = X
        for i in range(steps):
            points.append(x)

            def steer(z, i=i, second=second):
                p, label = softmax(z), np.eye(3)[Y]
                best = np.eye(3)[np.where(label == 1, -np.inf, z).argmax(-1)]
                if i == 0:
                    weights = label
                elif i < steps / 2:
                    weights = best if second else -label
                else:
                    weights = best - label
                return p * (weights - (p * weights).sum(-1, keepdims=True))

            turn = (i - 1 if i <= half else i - half - 1) / (steps - half)
            size = eps * (1 + np.cos(np.pi * turn))
            x = x + size * np.sign(slope_at(x, steer))
            x = np.clip(np.clip(x, X - eps, X + eps), 0, 1)
        points.append(x)
    z = np.tanh(np.stack(points) @ W1 + B1) @ W2
    p = softmax(z)
    label = np.eye(3, dtype=bool)[Y]
    margin = np.where(label, 0, p).max(-1) - np.where(label, p, 0).max(-1)
    return margin.max(0), (margin > 0).any(0)


@pytest.mark.parametrize("steps", [1, 4, 7])
def test_pma_is_as_written(x64, steps):
    for eps in (0.05, 0.2):
        margin, broken = by_hand(eps, steps)
        found = run(attacks.pma_attack, net, X, Y, eps=eps, steps=steps)
        np.testing.assert_allclose(np.expm1(found.losses), margin, 1e-9)
        np.testing.assert_array_equal(found.broken, broken)
        hot = run(
            attacks.pma_attack,
            lambda x: 16 * net(x),
            X,
            Y,
            eps=eps,
            steps=steps,
            temperature=np.full(len(X), 16.0),
        )
        np.testing.assert_array_equal(hot.losses, found.losses)


def test_pma_does_not_round_to_zero():
    y, options = (np.tanh(X @ W1 + B1) @ W2).argmax(-1), dict(eps=0.3, steps=6)

    def logits_fn(x):
        return 1000 * net(x)

    found = run(attacks.pma_attack, logits_fn, X.astype("f4"), y, **options)
    with jax.enable_x64(True):
        want = run(attacks.pma_attack, logits_fn, X, y, **options)
    np.testing.assert_array_equal(found.broken, want.broken)
    np.testing.assert_allclose(found.losses, want.losses, 1e-4)
    options["loss"] = attacks.probability_margin  # which is -1, without a slope
    blind = run(attacks.pgd, logits_fn, X.astype("f4"), y, **options)
    assert found.broken.sum() == 4
    assert blind.broken.sum() == 0


ALL = {
    "pgd": (attacks.pgd, dict(steps=3)),
    "pma": (attacks.pma_attack, dict(steps=3)),
    "apgd": (attacks.apgd, dict(steps=5)),
    "apgd_l1": (attacks.apgd, dict(steps=5, norm=1)),
    "targeted": (attacks.apgd_targeted, dict(steps=3, num_targets=2)),
    "square": (attacks.square_attack, dict(steps=3, key=jax.random.key(0))),
}


@pytest.mark.parametrize("name", ALL)
def test_what_every_attack_keeps(name):
    """The clean point counts, the mask and labels select, and results stay inside."""
    attack, options = ALL[name]
    x = X.astype("f4")
    x[3] = np.nan  # behind the mask
    mask, y = np.array([True, True, True, False, True]), np.array([0, 1, 2, 99, -1])
    clean = (np.tanh(X @ W1 + B1) @ W2).argmax(-1)
    y[:3] = clean[:3]
    y[0] = (y[0] + 1) % 3  # wrong from the start
    norm = options.get("norm", "inf")
    found = run(attack, net, x, y, eps=1e-4, mask=mask, **options)
    assert isinstance(found, Attack)
    np.testing.assert_array_equal(found.broken, [True, False, False, False, False])
    np.testing.assert_array_equal(found.inputs[3:], x[3:])
    np.testing.assert_array_equal(np.isnan(found.losses), [0, 0, 0, 0, 1])
    assert found.losses[3] == 0
    assert found.finite.all()
    d = found.inputs[:3] - x[:3]
    reach = 1e-4 * (1 + 1e-3) + 1e-7
    assert (np.linalg.norm(d, 1 if norm == 1 else np.inf, -1) <= reach).all()
    assert found.inputs.dtype == found.losses.dtype == np.float32


@pytest.mark.parametrize("name", ALL)
def test_numbers_that_are_none(name):
    """A function that is NaN on one side, with infinite slopes at its border."""
    attack, options = ALL[name]

    def logits_fn(x):
        z = jnp.sqrt(x[:, :1] - 0.5)
        return jnp.concatenate([z, z - 1 + 0 * x[:, 1:3]], -1)

    x = np.full((2, 3), 0.5, "f4")
    x[1] = 0.9
    found = run(attack, logits_fn, x, np.array([0, 0]), eps=0.1, **options)
    assert np.isfinite(found.inputs).all()
    assert np.isfinite(found.losses).all()
    assert np.isfinite(logits_fn(found.inputs)).all()
    np.testing.assert_array_equal(found.finite, [False, True])
    np.testing.assert_array_equal(found.broken[1], False)


def test_targets_are_reached(x64):
    x, y = X[:1].repeat(2, 0), (np.tanh(X[:1] @ W1 + B1) @ W2).argmax(-1).repeat(2)
    targets = np.array([c for c in range(3) if c != y[0]])
    for attack in (attacks.pgd, attacks.apgd):
        found = run(attack, net, x, y, eps=0.3, steps=6, targets=targets)
        z = np.tanh(X[:1] @ W1 + B1) @ W2
        assert (found.losses > z[0, targets] - z[0, y] + 0.1).all()
        assert found.losses[0] != found.losses[1]


def test_bad_input():
    x = X.astype("f4")

    def attack(logits_fn=net, x=x, y=Y, attack=attacks.pgd, **options):
        return attack(logits_fn, x, y, **dict(eps=0.1, steps=2) | options)

    broken = np.where(np.arange(6) == 0, np.nan, x)
    for call, message in [
        (lambda: attack(eps=0.0), "eps is 0.0, expected above 0"),
        (lambda: attack(eps=np.ones(2)), r"eps has shape \(2,\), expected"),
        (lambda: attack(steps=0), "steps is 0, expected at least 1"),
        (lambda: attack(step_size=-1), "step_size is -1, expected above 0"),
        (lambda: attack(x=x + 1), "inputs reach from 1.2.* to 1.*, outside of bounds"),
        (lambda: attack(x=broken), "inputs has 5 numbers that are not finite"),
        (lambda: attack(x=broken, bounds=None), "inputs has 5 numbers that are not"),
        (lambda: attack(lambda x: net(x)[:2]), r"logits_fn returned \(2, 3\), expec"),
        (lambda: attack(lambda x: net(x)[:, 0]), r"logits_fn returned \(5,\), expec"),
        (lambda: attack(loss=lambda z, y: z.mean()), r"loss returned shape \(\)"),
        (lambda: attack(targets=Y), r"targets equal to the labels: \[0 1 2 0 1\]"),
        (lambda: attack(targets=Y + 1), r"targets outside \[0, 3\): \[3\]"),
        (lambda: attack(targets=Y[:2]), r"targets has shape \(2,\), expected \(5,\)"),
        (lambda: attack(y=Y + 1), r"labels outside \[0, 3\)"),
        (lambda: attack(norm=0), "norm is 0, expected"),
        (
            lambda: attack(attack=attacks.pma_attack, temperature=0.0),
            "temperature is 0.0, expected above 0",
        ),
        (
            lambda: attack(attack=attacks.pma_attack, temperature=np.ones(2)),
            r"temperature has shape \(2,\), expected",
        ),
        (
            lambda: attack(attack=attacks.apgd, start=x, key=jax.random.key(0)),
            "start and key are both given",
        ),
        (lambda: attack(attack=attacks.apgd, rho=2), r"rho is 2, expected in \[0, 1\]"),
        (lambda: attack(attack=attacks.apgd, start=x[:2]), r"start has shape \(2, 6\)"),
        (
            lambda: attack(lambda x: net(x)[:, :2], y=0 * Y, loss=attacks.dlr_loss),
            "logits has 2 classes, dlr_loss needs at least 3",
        ),
    ]:
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="inputs has dtype uint8"):
        attack(x=(255 * x).astype("u1"))
    with pytest.raises(TypeError, match="steps is 2.5, expected a Python integer"):
        attack(steps=2.5)
