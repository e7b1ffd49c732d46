import jax
import numpy as np
import pytest
from harness import goldens
from harness.interpreter import functions, interpreted

from logitlab import attacks
from logitlab.attacks import balls

calls = functions(balls)
NORMS = ["inf", 2, 1]


def length(d, norm):
    return np.linalg.norm(d.reshape(len(d), -1), float(norm), -1)


def nearest(x, d, eps, low, high):
    """By halving an interval: the amount that all coordinates are shrunk by."""
    room = np.where(d > 0, high - x, x - low)
    a, b = np.zeros((len(x), 1)), np.abs(d).max(-1, keepdims=True)
    for _ in range(200):
        t = (a + b) / 2
        much = np.clip(np.abs(d) - t, 0, room).sum(-1, keepdims=True) > eps
        a, b = np.where(much, t, a), np.where(much, b, t)
    t = np.where(np.minimum(np.abs(d), room).sum(-1, keepdims=True) > eps, b, 0)
    return np.sign(d) * np.clip(np.abs(d) - t, 0, room)


@pytest.mark.parametrize("case", goldens.cases("l1_box_projection"))
def test_l1_golden(x64, case):
    x, delta = goldens.arrays(case, "x", "delta")
    got = calls.project_l1_box(x, delta, **case["params"])
    goldens.close(got, case["outputs"]["projected_delta"], 1e-14)


def test_l1_is_the_nearest(x64):
    rng = np.random.default_rng(0)
    x, d = rng.uniform(size=(7, 9)), rng.normal(size=(7, 9))
    d[0, :5], d[1] = 0.3, 0  # ties, and nothing to do
    eps = np.geomspace(0.01, 5, 7)[:, None]
    for low, high in ((0.0, 1.0), (-np.inf, np.inf), (-0.5, np.full(9, 1.2))):
        bounds = None if low == -np.inf else (low, high)
        got = calls.project_l1_box(x, d, eps=eps[:, 0], bounds=bounds)
        np.testing.assert_allclose(got, nearest(x, d, eps, low, high), 1e-12, 1e-14)
    flat = calls.project_l1_box(x, d, eps=0.4)
    images = calls.project_l1_box(x.reshape(7, 3, 3), d.reshape(7, 3, 3), eps=0.4)
    np.testing.assert_array_equal(images.reshape(7, 9), flat)


def test_l1_extremes():
    rng = np.random.default_rng(1)
    x, d = rng.uniform(size=(2, 2, 50)).astype("f4")
    for scale in (1e30, 1e-30, 1.0):
        for bounds in ((0.0, 1.0), None):
            got = calls.project_l1_box(x, scale * (d - 0.5), eps=0.25, bounds=bounds)
            assert got.dtype == np.float32
            assert (length(got, 1) <= 0.25 * (1 + 1e-6)).all()
            if bounds:
                assert (x + got >= 0).all() & (x + got <= 1).all()
    none = calls.project_l1_box(x[:0], d[:0], eps=0.25)
    assert none.shape == (0, 50)


@pytest.mark.parametrize("norm", NORMS)
def test_into_the_ball(x64, norm):
    rng = np.random.default_rng(2)
    x, points = rng.uniform(size=(2, 6, 2, 4))
    eps = np.linspace(0.05, 2, 6)
    inside = length(points - x, norm) <= eps
    free = calls.project_to_ball(points, x, eps=eps, norm=norm, bounds=None)
    np.testing.assert_allclose(free[inside], points[inside], 1e-15)
    np.testing.assert_allclose(
        length(free - x, norm), np.minimum(length(points - x, norm), eps), 1e-12
    )
    cut = calls.project_to_ball(3 * points - 1, x, eps=eps, norm=norm)
    assert (length(cut - x, norm) <= eps * (1 + 1e-12)).all()
    assert ((cut >= 0) & (cut <= 1)).all()
    again = calls.project_to_ball(cut, x, eps=eps, norm=norm)
    np.testing.assert_allclose(again, cut, 1e-12)
    # Boxes of each feature's own.
    low, high = x - 0.1, x + np.linspace(0.01, 0.2, 4)
    cut = calls.project_to_ball(points, x, eps=eps, norm=norm, bounds=(low, high))
    assert ((cut >= low - 1e-15) & (cut <= high + 1e-15)).all()


def test_huge_and_tiny_distances():
    x = np.zeros((2, 3), "f4")
    for scale in (1e30, 1e-30):
        far = scale * np.float32([[3, 4, 0], [0, 0, 5]])
        got = calls.project_to_ball(
            far, x, eps=scale * np.float32(2.5), norm=2, bounds=None
        )
        np.testing.assert_allclose(got, far / 2, 1e-6)


@pytest.mark.parametrize("norm", [np.inf, 2.0, 1.0])
def test_the_steepest_direction(x64, norm):
    g = np.random.default_rng(3).normal(size=(4, 10))
    g[1] = 0
    share = np.array([0.3, 0.5, 1.0, 0.1])
    steepest = interpreted(lambda g: balls.steepest(g, norm, share))
    got = steepest(g)
    np.testing.assert_allclose(length(got, norm), [1, 0, 1, 1], 1e-12)
    if norm == np.inf:
        want = np.sign(g)
    elif norm == 2:
        want = g / np.maximum(np.linalg.norm(g, axis=1, keepdims=True), 1e-9)
    else:
        want = np.zeros_like(g)
        for i, count in enumerate([3, 0, 10, 1]):
            top = np.argsort(-np.abs(g[i]))[:count]
            want[i, top] = np.sign(g[i, top]) / max(count, 1)
    np.testing.assert_allclose(got, want, 1e-12)


@pytest.mark.parametrize("norm", [np.inf, 2.0, 1.0])
def test_random_points_fill_the_ball(norm):
    x = np.full((4000, 3), 0.5, "f4")
    eps, box = np.full((4000, 1), 0.2, "f4"), (np.zeros((), "f4"), np.ones((), "f4"))
    draw = interpreted(lambda key: balls.random_point(key, x, eps, norm, box))
    d = draw(jax.random.key(0)) - x
    near = length(d, norm) / 0.2
    assert near.max() <= 1 + 1e-5
    # Uniform: a ball of half the radius holds an eighth; 4 standard errors.
    assert abs((near < 0.5).mean() - 1 / 8) < 4 * np.sqrt(7 / 64 / 4000)
    assert np.abs(d.mean(0)).max() < 0.01


def test_errors():
    x = np.full((2, 3), 0.5, "f4")
    for more, message in [
        (dict(norm=3), "norm is 3, expected 'inf', 2 or 1"),
        (dict(norm="l2"), "norm is 'l2', expected"),
        (dict(eps=0), "eps is 0, expected above 0"),
        (dict(eps=np.ones(3)), r"eps has shape \(3,\), expected \(\) or \(2,\)"),
        (dict(bounds=(1, 0)), "expected low < high"),
        (dict(bounds=1), "bounds is 1, expected a pair"),
        (dict(bounds=(np.zeros(2), 1)), "expected numbers or arrays that broadcast"),
    ]:
        with pytest.raises(ValueError, match=message):
            attacks.project_to_ball(x, x, **dict(eps=0.1) | more)
    with pytest.raises(ValueError, match=r"delta has shape \(2, 2\)"):
        attacks.project_l1_box(x, x[:, :2], eps=1)
