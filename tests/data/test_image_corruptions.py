import jax
import numpy as np
import pytest
from harness.quickly import quick_jit

from logitlab.data import corrupt_images, image_corruptions
from logitlab.data.image_corruptions import IMAGE_CORRUPTIONS


def images(n=6, height=8, width=9, channels=2):
    """Bright spots near the middle, but not in it, whose turns all differ."""
    rows = np.exp(-((np.arange(height) - 3.0) ** 2) / 3)[:, None, None]
    columns = np.exp(-((np.arange(width) - 3.2) ** 2) / 3)[:, None]
    shades = np.random.default_rng(0).uniform(0.5, 0.9, (n, 1, 1, channels))
    return (rows * columns * shades).astype("f4")


def middle_of(x):
    """Row and column of the center of mass, [2, N]."""
    places = np.indices(x.shape[1:3])[:, None, ..., None]
    return (places * x).sum((2, 3, 4)) / x.sum((1, 2, 3))


def corrupted(kind):
    """All severities in one program, [5, ...]."""

    def at(severity):
        return corrupt_images(jax.random.key(1), x, kind=kind, severity=severity)

    x = images()
    return x, np.asarray(quick_jit(jax.vmap(at))(np.arange(1, 6)))


def distances(x, worse):
    return np.sqrt(((worse - x) ** 2).mean((1, 2, 3, 4)))


@pytest.mark.parametrize("kind", IMAGE_CORRUPTIONS)
def test_severities(kind):
    x, worse = corrupted(kind)
    assert worse.shape == (5, *x.shape)
    assert worse.dtype == np.float32
    assert worse.min() >= 0
    assert worse.max() <= 1
    away = distances(x, worse)
    assert away[0] > 0.001
    assert (np.diff(away) > 0).all()
    middle = worse[2]  # of which each is checked by what it is to keep
    if kind == "contrast":
        mean = x.mean((1, 2, 3), keepdims=True)
        np.testing.assert_allclose(middle, mean + 0.35 * (x - mean), 1e-5)
    elif kind == "brightness":
        np.testing.assert_allclose(middle, np.minimum(x + 0.3, 1), 1e-6)
    elif kind == "gaussian_noise":
        inside = (middle > 0) & (x < 0.05)  # what noise has not made black
        # Half of a normal distribution, that of a deviation of 0.3.
        np.testing.assert_allclose((middle - x)[inside].mean(), 0.24, rtol=0.15)
    elif kind == "impulse_noise":
        changed = middle != x
        assert set(np.unique(middle[changed])) == {0, 1}
        share = 0.2
        deviation = np.sqrt(share * (1 - share) / x.size)
        assert abs(changed.mean() - share) < 5 * deviation
    elif kind == "occlusion":
        assert ((middle == x) | (middle == 0.5)).all()
        gray = (middle == 0.5).all(-1)
        assert (gray.any(1).sum(-1) == 4).all()  # half of 8 pixels, in either direction
        assert (gray.any(2).sum(-1) == 4).all()
    elif kind == "blur":
        flat = np.full((1, 5, 5, 1), 0.25, "f4")
        still = corrupt_images(jax.random.key(0), flat, kind=kind, severity=5)
        np.testing.assert_allclose(still, flat, 1e-5)
        assert np.abs(np.diff(middle, axis=1)).max() < np.abs(np.diff(x, axis=1)).max()
    elif kind == "shift":
        moved = np.linalg.norm(middle_of(middle) - middle_of(x), axis=0)
        assert (moved > 1).all()
        assert (moved < 0.18 * 8 + 0.01).all()  # a little less where some falls out


def test_rotation_by_a_right_angle_is_exact():
    x = np.random.default_rng(1).uniform(size=(5, 5, 1)).astype("f4")
    got = quick_jit(image_corruptions._rotation)(jax.random.key(0), x, 90.0)
    turns = [np.rot90(x, k) for k in (1, 3)]
    assert min(np.abs(got - turn).max() for turn in turns) < 1e-5


def test_each_image_is_drawn_for_by_itself():
    x = np.repeat(images(1), 3, 0)
    run = quick_jit(corrupt_images, static_argnames="kind")
    one, same, other = (
        np.asarray(run(jax.random.key(s), x, kind="shift", severity=3))
        for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    assert (one[0] != one[1]).any()
    single = run(jax.random.key(0), x[0].astype("f2"), kind="shift", severity=3)
    assert single.shape == x[0].shape
    assert single.dtype == np.float32


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (dict(kind="fog"), ValueError, "kind is 'fog', expected one of"),
        (dict(severity=0), ValueError, "severity is 0, expected an int from 1 to 5"),
        (dict(severity=2.5), ValueError, "severity is 2.5, expected an int"),
        (dict(images=np.zeros((4, 4), "f4")), ValueError, "images has shape"),
        (dict(images=np.zeros((4, 4, 1), int)), TypeError, "images has dtype"),
    ],
)
def test_bad_arguments(changes, error, message):
    options = dict(images=images(), kind="blur", severity=1) | changes
    with pytest.raises(error, match=message):
        corrupt_images(jax.random.key(0), **options)
