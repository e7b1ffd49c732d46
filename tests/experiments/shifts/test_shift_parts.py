"""Digits by class, long tails, what is drawn, and what is predicted of it."""

import jax
import jax.numpy as jnp
import numpy as np
from harness.interpreter import interpreted

from configs.shifts import get_config
from experiments.common import datasets
from experiments.shifts import _parts as parts
from experiments.shifts import averaging, colours, foundations, halves, long_tail
from logitlab.train import ArmResult


def test_images_by_class():
    got = np.asarray(parts.by_class(jax.random.key(0)))
    assert got.shape == (10, 174, 64)
    x, y = datasets.digits()
    of = {np.float32(image).tobytes(): label for image, label in zip(x, y, strict=True)}
    for digit in range(10):
        assert {of[image.tobytes()] for image in got[digit]} == {digit}
        assert len({image.tobytes() for image in got[digit]}) >= 173


def test_a_long_tail_follows_the_order():
    images = jnp.arange(3 * 4 * 2.0).reshape(3, 4, 2)
    x, y = parts.long_tail(images, jnp.array([2, 0, 1]), (4, 2, 1))
    assert y.tolist() == [2, 2, 2, 2, 0, 0, 1]
    np.testing.assert_array_equal(x[4:], [[0, 1], [2, 3], [8, 9]])
    assert parts.sizes(100, 50)[::9] == [100, 2]
    assert len(parts.sizes(100, 50)) == 10


def test_parts_of_an_arm_are_drawn_as_arms():
    row = {"seed": 3, "step": 7, "1/a": 0.5, "2/a": 0.25, "1/b": 0.0}
    results = {"arm": ArmResult("arm", (3,), [row])}
    shown = {"first": ("arm", "a"), "absent": ("other", "a")}
    (got,) = parts.parted(lambda found: found.values(), shown)(results)
    assert {name: got.final(name).tolist() for name in got} == {"1": [0.5], "2": [0.25]}
    assert got.label == "first"
    assert parts.lead("arm", "1/a", "2/a")(results) == [25]


def test_test_sets_have_their_ratios():
    forward, backward, even = (
        np.asarray(long_tail.members(r, 50)).sum(1) for r in (50, 1 / 50, 1)
    )
    assert forward[[0, 9]].tolist() == [50, 1]
    np.testing.assert_array_equal(backward, forward[::-1])
    np.testing.assert_array_equal(even, [50] * 10)
    config = get_config("long_tail")
    assert long_tail.ratios(config) == [1 / 50, 1 / 10, 1, 10, 50]


def test_four_neighboring_columns_are_hidden():
    x = np.ones((200, 64), np.float32)
    images = np.asarray(halves.occluded(jax.random.key(0), x)).reshape(-1, 8, 8)
    hidden = images[:, 0] == 0
    assert (hidden.sum(1) == 4).all()
    assert (images == images[:, :1]).all()
    edges = np.sum(hidden != np.roll(hidden, 1, 1), 1)
    assert (edges == 2).all()
    assert len(np.unique(hidden, axis=0)) == 8


def test_halves_are_left_and_right():
    columns = np.tile(np.arange(8.0), 8)[None]
    left, right = np.asarray(halves.halves(columns))
    assert set(left[0]) == {0, 1, 2, 3}
    assert set(right[0]) == {4, 5, 6, 7}


def test_the_share_of_pairs_in_order():
    mean = jnp.array([[0.9, 0.1], [0.5, 0.5]])
    right = jnp.array([[True, False], [True, False]])
    np.testing.assert_allclose(halves._auroc(mean, right), (1 + 1 + 1 + 0.5) / 4)


def test_colors_agree_with_the_label():
    y = np.repeat([0, 1], 10_000)
    x = np.zeros((y.size, 64), np.float32)
    look = dict(strength=2.0, noise=0.0)
    got = colours.colored(jax.random.key(0), x, y, 0.8, 90.0, **look)[:, 64:]
    np.testing.assert_allclose(np.abs(got), np.tile([0, 2], (y.size, 1)), atol=1e-6)
    agrees = np.mean((got[:, 1] > 0) == (y == 1))
    np.testing.assert_allclose(agrees, 0.8, atol=0.012)  # three standard errors


def test_codes_lie_as_often_as_they_shall():
    prototypes = jnp.arange(2 * 10 * 1.0).reshape(2, 10, 1)
    y = np.full(20_000, 3)
    flip = jnp.array([0.5, 1.0])
    got = averaging.codes(jax.random.key(0), y, prototypes, flip)[..., 0]
    assert got[:, 0].max() < 10 <= got[:, 1].min()
    true = np.mean(np.asarray(got) == [3, 13], 0)
    # A random class is the right one in a tenth of the cases; three standard errors.
    np.testing.assert_allclose(true, [0.55, 0.1], atol=0.011)


def test_frequencies_and_correlations():
    log = foundations.log_frequencies(jnp.array([2, 0, 1]), (6, 3, 1))
    np.testing.assert_allclose(np.exp(log), [0.3, 0.1, 0.6], rtol=1e-6)
    a = np.random.default_rng(0).normal(size=(2, 8))
    got = interpreted(foundations.correlation)(*map(jnp.asarray, a))
    np.testing.assert_allclose(got, np.corrcoef(a)[0, 1], rtol=1e-5)
    assert foundations.correlation(jnp.ones(3), jnp.arange(3.0)) == 0


def test_what_cannot_be_run_is_not_built(refused):
    for name, key, value, message in (
        ("long_tail", "largest", 150, "config.largest is 150"),
        ("long_tail", "ratios", (1.0,), "expected numbers above 1"),
        ("few_shot_bias", "shots", (2, 1), "expected growing"),
        ("halves", "scored", 1300, "expected some left to test"),
        ("foundations", "largest", 150, "expected no more together"),
        ("colours", "angles", (0.0, 1.0), "has 3 domains"),
        ("colours", "gammas", (1.0,), "expected 0 and positive"),
        ("averaging", "flip", 1.5, "expected probabilities"),
    ):
        refused(f"shifts:{name}", key, value, message)
