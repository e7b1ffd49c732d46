import itertools

import jax
import numpy as np
import optax
import pytest
from harness.interpreter import interpreted

from logitlab.losses import ctc_loss


@interpreted
def value_and_grad(z, labels, mask=None):
    def total(z):
        loss = ctc_loss(z, labels, mask=mask)
        return loss.sum(), loss

    (_, loss), grad = jax.value_and_grad(total, has_aux=True)(z)
    return loss, grad


def collapsed(path):
    merged = [c for c, _ in itertools.groupby(path)]
    return tuple(c for c in merged if c != 0)


def enumerated(z, labels):
    """Loss and gradient from all paths in float64, by the smaller of two sums."""
    z, labels = np.asarray(z, np.float64), tuple(c for c in labels if c >= 0)
    frames, classes = z.shape
    top = z.max(-1, keepdims=True)
    log_p = z - top - np.log(np.exp(z - top).sum(-1, keepdims=True))
    p, right, wrong = np.exp(log_p), 0.0, 0.0
    by_right, by_wrong = np.zeros_like(z), np.zeros_like(z)
    for path in itertools.product(range(classes), repeat=frames):
        mass = np.exp(sum(log_p[t, c] for t, c in enumerate(path)))
        taken = np.eye(classes)[list(path)]
        if collapsed(path) == labels:
            right, by_right = right + mass, by_right + mass * taken
        else:
            wrong, by_wrong = wrong + mass, by_wrong + mass * taken
    if right == 0:
        return np.inf, np.zeros_like(z)
    loss = -np.log1p(-wrong) if wrong < 0.5 else -np.log(right)
    # What each frame has for a class, given right labels, less what it has for it.
    if wrong < 0.5:
        return loss, (by_wrong - wrong * p) / (1 - wrong)
    return loss, p - by_right / right


LABELS = [(1, 2), (1, 1), (2,), (), (1, 2, 1), (2, 2, 2, 2)]


def padded(labels, size=4):
    return np.array([*labels, *[-1] * (size - len(labels))])


def test_all_alignments(x64):
    z = np.random.default_rng(0).normal(size=(6, 5, 3)) * 3
    loss, grad = value_and_grad(z, np.stack([padded(y) for y in LABELS]))
    for got, slope, row, y in zip(loss, grad, z, LABELS, strict=True):
        want, want_slope = enumerated(row, y)
        np.testing.assert_allclose(got, want, rtol=1e-12)
        np.testing.assert_allclose(slope, want_slope, rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("margin", [1, 12, 17, 20, 40, 80, -40, -80])
def test_exact_for_a_confident_alignment(margin):
    """Where a log of the labels' probability rounds to 0, and with it the gradient."""
    paths = [(0, 1, 2, 0, 0), (1, 0, 1, 1, 0), (0, 0, 2, 2, 2), (0,) * 5]
    labels = [collapsed(path) for path in paths]
    z = np.random.default_rng(1).uniform(-3, 0, size=(4, 5, 3)).astype("f4")
    for row, path in zip(z, paths, strict=True):
        row[np.arange(5), path] = margin
    loss, grad = value_and_grad(z, np.stack([padded(y) for y in labels]))
    assert (np.asarray(loss) > 0).all()
    for got, slope, row, y in zip(loss, grad, z, labels, strict=True):
        want, want_slope = enumerated(row, y)
        np.testing.assert_allclose(got, want, rtol=1e-5)
        scale = np.abs(want_slope).max()
        np.testing.assert_allclose(slope, want_slope, rtol=0, atol=1e-5 * scale)


@pytest.mark.sampled
@pytest.mark.optimized
@pytest.mark.parametrize("margin", [40, 5, 17, 70])  # and up to 10 more
def test_exact_for_logits_of_the_same_program(margin):
    path, y = np.array([0, 1, 1, 0, 2, 0]), np.array([1, 2, -1])
    x = np.random.default_rng(6).normal(size=(6, 4)).astype("f4")
    x[np.arange(6), path] += 3 + margin / 2.9

    def made(x):
        x = x - x.mean(-1, keepdims=True)
        return x * np.float32(2.9)

    def both(make):
        def total(x):
            return ctc_loss(make(x), y)

        return jax.jit(jax.value_and_grad(total))

    got = both(made)(x)
    z = np.asarray(jax.jit(made)(x))
    with jax.enable_x64(True):
        loss, slope = map(np.asarray, both(lambda z: z)(z.astype("f8")))
    slope = (slope - slope.mean(-1, keepdims=True)) * np.float32(2.9)
    for a, b in zip(got, (loss, slope), strict=True):
        a = np.asarray(a, np.float64)
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


def test_optax():
    rng = np.random.default_rng(2)
    z = rng.normal(size=(4, 20, 7)).astype("f4") * 2
    y = rng.integers(1, 7, (4, 6))
    y[1, 4:], y[2, 1:], y[3] = -1, -1, [3, 3, 3, 2, 2, -1]
    frames = np.arange(20) < np.array([20, 17, 9, 15])[:, None]

    @interpreted
    def theirs(z):
        def total(z):
            loss = optax.ctc_loss(
                z, 1.0 - frames, np.maximum(y, 0), (y < 0).astype("f4")
            )
            return loss.sum(), loss

        (_, loss), grad = jax.value_and_grad(total, has_aux=True)(z)
        return loss, grad

    for got, want in zip(value_and_grad(z, y, frames), theirs(z), strict=True):
        np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-5)


def test_left_out_frames_and_labels(x64):
    z = np.random.default_rng(3).normal(size=(7, 4))
    loss, grad = value_and_grad(z[[0, 2, 3, 5, 6]], np.array([3, 1]))
    seen = np.array([True, False, True, True, False, True, True])
    for junk in (np.nan, 0, 1e30, -np.inf):
        spoilt = np.where(seen[:, None], z, junk)
        got, slope = value_and_grad(spoilt, np.array([-100, 3, -1, 1]), seen)
        np.testing.assert_allclose(got, loss, rtol=1e-12)
        np.testing.assert_allclose(slope[seen], grad, rtol=1e-10, atol=1e-14)
        np.testing.assert_array_equal(slope[~seen], 0)
    hidden = np.where(seen[:, None], z, -np.inf)  # no class, no frame
    np.testing.assert_allclose(value_and_grad(hidden, np.array([3, 1]))[0], loss)
    moved = ctc_loss(z[seen].T, np.array([3, 1]), axis=0)
    np.testing.assert_allclose(moved, loss, rtol=1e-12)
    order = np.array([1, 2, 3, 0])  # the blank last
    last = lambda blank: ctc_loss(  # noqa: E731
        z[seen][:, order], np.array([2, 0]), blank=blank
    )
    np.testing.assert_allclose(last(3), loss, rtol=1e-12)
    np.testing.assert_allclose(jax.jit(last)(3), loss, rtol=1e-12)


def test_edges():
    rng = np.random.default_rng(4)
    z = rng.normal(size=(6, 3, 4)).astype("f4")
    z[2, :, 2] = -np.inf  # a label without probability
    z[3] *= 1e30
    z[4, 1] = [-np.inf, 0, 0, -np.inf]
    y = np.array([[1, 2, 3, 1], [1, 1, -1, -1], [2, -1, -1, -1], [1, 2, -1, -1]])
    y = np.concatenate([y, [[1, 2, -1, -1], [-1] * 4]])
    loss, grad = map(np.asarray, value_and_grad(z, y))
    assert (loss[[0, 2]] == np.inf).all()
    assert np.isfinite(loss[[1, 3, 4, 5]]).all()
    assert np.isfinite(grad).all()
    np.testing.assert_array_equal(grad[[0, 2]], 0)
    np.testing.assert_array_equal(grad[4, 1, [0, 3]], 0)
    loss, grad = value_and_grad(z, y, np.zeros((6, 3), bool))
    np.testing.assert_array_equal(loss, [*[np.inf] * 5, 0])
    np.testing.assert_array_equal(grad, 0)
    assert value_and_grad(np.zeros((0, 4), "f4"), np.zeros(0, int))[0] == 0
    assert value_and_grad(z[:1], np.zeros((1, 0), int))[0].shape == (1,)
    assert value_and_grad(np.zeros((2, 4), "bfloat16"), y[1])[0].dtype == np.float32
    np.testing.assert_array_equal(
        value_and_grad(z, y.astype(np.int8))[0], value_and_grad(z, y)[0]
    )


def test_long_sequences_keep_their_digits():
    rng = np.random.default_rng(5)
    z, y = rng.normal(size=(300, 6)).astype("f4") * 4, rng.integers(1, 6, 60)
    got = value_and_grad(z, y)
    with jax.enable_x64(True):
        want = value_and_grad(z.astype("f8"), y)
    for a, b in zip(got, want, strict=True):
        assert np.abs(a - b).max() <= 1e-5 * np.abs(b).max()


def test_bad_arguments():
    z, y = np.zeros((2, 5, 4), "f4"), np.array([[1, 2], [3, -1]])
    for labels, message in [
        (y + 2, r"labels outside \[0, 4\) or the blank, 0: \[4 5\]"),
        (y - 1, r"the blank, 0: \[0\]"),
        (y[0], r"labels has shape \(2,\), expected \(2,\) and an axis of labels"),
    ]:
        with pytest.raises(ValueError, match=message):
            ctc_loss(z, labels)
    bad = jax.jit(ctc_loss)(z, np.array([[1, 2], [0, 4]]))
    np.testing.assert_array_equal(np.isnan(bad), [False, True])
    with pytest.raises(TypeError, match="labels has dtype float32, expected integers"):
        ctc_loss(z, y.astype("f4"))
    with pytest.raises(ValueError, match=r"blank is 4, expected in \[0, 4\)"):
        ctc_loss(z, y, blank=4)
    with pytest.raises(ValueError, match=r"mask has shape \(2, 4\), expected \(2, 5\)"):
        ctc_loss(z, y, mask=np.ones((2, 4), bool))
    with pytest.raises(ValueError, match=r"expected frames and classes"):
        ctc_loss(z[0, 0], y[0])
