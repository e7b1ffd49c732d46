import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from logitlab import attacks
from logitlab.attacks import random_search

RNG = np.random.default_rng(0)
KEY = jax.random.key(0)


def run(logits_fn, x, y, key=KEY, **options):
    attack = interpreted(
        lambda x, key: attacks.square_attack(logits_fn, x, y, key=key, **options)
    )
    return attack(x, key)


def test_a_function_without_slopes_is_broken():
    kernel = np.float32([[1, -1], [-1, 1], [0.25, -0.25]])

    def logits_fn(x):
        return jnp.round(8 * x) @ kernel

    x, y = np.full((6, 3), 0.5, "f4"), np.arange(6) % 2
    x[:, 0] += np.where(y == 0, 0.2, -0.2).astype("f4")
    square = run(logits_fn, x, y, eps=0.2, steps=30)
    slopes = interpreted(lambda x: attacks.apgd(logits_fn, x, y, eps=0.2, steps=5))(x)
    assert square.broken.all()
    assert not slopes.broken.any()


@pytest.mark.parametrize("norm", ["inf", 2, 1])
def test_it_climbs_within_the_ball(norm):
    kernel = np.random.default_rng(1).normal(size=12).astype("f4")
    x, y = RNG.normal(size=(8, 12)).astype("f4"), np.zeros(8, int)
    dual = {"inf": 1, 2: 2, 1: np.inf}[norm]
    best = 0.5 * np.linalg.norm(kernel, dual)  # rise of the odds, which are linear

    def logits_fn(x):
        return x @ np.stack([-kernel, kernel], -1) / 2

    options = dict(eps=0.5, norm=norm, bounds=None)
    found = run(logits_fn, x, y, steps=60, **options)
    size = np.linalg.norm(found.inputs - x, float(norm), -1)
    assert (size <= 0.5 * (1 + 1e-5)).all()
    rise = found.losses - x @ kernel
    assert (rise <= best * (1 + 1e-4)).all()
    assert np.median(rise) > best / 2


def test_windows_of_images_are_squares():
    x = np.zeros((50, 6, 9, 2), "f4")
    window = interpreted(lambda share: random_search._window(KEY, x, share))
    for share, side in [(1e-6, 1), (0.17, 3), (1.0, 6)]:
        found = window(np.float32(share))
        assert found.shape == (50, 6, 9, 1)
        np.testing.assert_array_equal(found.sum((1, 2, 3)), side**2)
        rows, columns = found.any((2, 3)), found.any((1, 3))
        assert (rows.sum(-1) == side).all()
        assert (columns.sum(-1) == side).all()
        assert found.any(0).all() or side == 1  # anywhere
    start = run(lambda x: x.mean((1, 2)), x + 0.5, np.zeros(50, int), eps=0.1, steps=2)
    assert start.inputs.shape == x.shape


def test_windows_of_other_shapes_are_random_sets():
    x = np.zeros((400, 10), "f4")
    window = interpreted(lambda share: random_search._window(KEY, x, share))
    found = window(np.float32(0.3))
    assert abs(found.mean() - 0.3) < 4 * np.sqrt(0.21 / 4000) + 0.003
    assert (window(np.float32(1e-9)).sum(-1) == 1).all()


def test_errors():
    x, y = np.full((2, 3), 0.5, "f4"), np.array([0, 1])
    for share in (0, 1.5):
        with pytest.raises(ValueError, match=rf"share is {share}, expected in \(0, 1"):
            attacks.square_attack(lambda x: x, x, y, key=KEY, eps=0.1, share=share)
