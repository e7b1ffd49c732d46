import jax
import jax.numpy as jnp
import numpy as np
import pytest

from logitlab import data


def test_xor_mixture_is_what_it_says():
    rows = jax.jit(lambda key: data.xor_mixture(key, 40_000))(jax.random.key(0))
    x, y = np.asarray(rows["x"]), np.asarray(rows["y"])
    assert abs(y.mean() - 0.5) < 0.01
    for label, corners in ((0, [(1, 1), (-1, -1)]), (1, [(1, -1), (-1, 1)])):
        mine = x[y == label]
        for corner in corners:
            cloud = mine[(mine * corner).sum(-1) > 0]  # on its side of the diagonal
            np.testing.assert_allclose(np.median(cloud, 0), corner, atol=0.03)
    clean = data.xor_mixture(jax.random.key(0), 100, variance=0.0)
    np.testing.assert_array_equal(jnp.abs(clean["x"]), 1)
    np.testing.assert_array_equal((clean["x"].prod(-1) < 0).astype(int), clean["y"])
    along = x[y == 0].sum(-1) / np.sqrt(2)  # two clouds, sqrt 2 off the middle
    across = (x[y == 0] @ [1, -1]) / np.sqrt(2)  # all of it noise
    np.testing.assert_allclose(across.var(), 0.2, rtol=0.05)
    np.testing.assert_allclose((along**2).mean(), 2 + 0.2, rtol=0.05)


def side(x, y):
    """Whether one line tells two classes apart: the perceptron converges."""
    w, rows = np.zeros(3), np.column_stack([x, np.ones(len(x))])
    sign = np.where(y == 1, 1, -1)
    for _ in range(2000):
        wrong = np.flatnonzero(sign * (rows @ w) <= 0)
        if not wrong.size:
            return True
        w += sign[wrong[0]] * rows[wrong[0]]
    return False


def test_checkerboard_of_one_line_is_two_half_planes():
    board = data.checkerboard(jax.random.key(1), 200, lines=1)
    x, y = np.asarray(board["x"]), np.asarray(board["y"])
    assert np.abs(x).max() <= 10
    assert 0 < y.mean() < 1
    assert side(x / 10, y)
    more = data.checkerboard(jax.random.key(1), 200, lines=3)
    assert not side(np.asarray(more["x"]) / 10, np.asarray(more["y"]))


def test_rows_do_not_move_the_lines():
    key = jax.random.key(5)
    few, many = (data.checkerboard(key, n, lines=2, span=1.0) for n in (50, 5000))
    # the nearest of many points nearly always has the label of each of the few
    distance = ((few["x"][:, None] - many["x"][None]) ** 2).sum(-1)
    agree = many["y"][distance.argmin(1)] == few["y"]
    assert agree.mean() > 0.9


def test_fans_have_as_many_classes():
    board = jax.jit(lambda k: data.checkerboard(k, 2000, lines=2, classes=3))(
        jax.random.key(0)
    )
    assert set(np.asarray(board["y"]).tolist()) == {0, 1, 2}
    assert board["y"].dtype == jnp.int32


@pytest.mark.parametrize(
    ("function", "bad", "message"),
    [
        ("xor_mixture", dict(rows=0), "rows is 0"),
        ("xor_mixture", dict(rows=3, variance=-1.0), "variance is -1.0"),
        ("checkerboard", dict(rows=0, lines=1), "rows is 0"),
        ("checkerboard", dict(rows=5, lines=0), "lines is 0"),
        ("checkerboard", dict(rows=5, lines=1, classes=1), "classes is 1"),
        ("checkerboard", dict(rows=5, lines=1, span=0.0), "span is 0.0"),
    ],
)
def test_errors(function, bad, message):
    with pytest.raises(ValueError, match=message):
        getattr(data, function)(jax.random.key(0), **bad)
