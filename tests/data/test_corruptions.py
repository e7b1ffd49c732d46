import jax
import jax.numpy as jnp
import numpy as np
import pytest

from logitlab.data import long_tail, pair_noise, symmetric_noise

NOISES = [symmetric_noise, pair_noise]
PER_CLASS = 20_000


def transitions(noise, num_classes, rate):
    clean = np.repeat(np.arange(num_classes), PER_CLASS)
    noisy = np.asarray(noise(jax.random.key(0), clean, num_classes, rate))
    counts = np.zeros((num_classes, num_classes), int)
    np.add.at(counts, (clean, noisy), 1)
    return counts


@pytest.mark.parametrize("num_classes", [2, 5])
@pytest.mark.parametrize("rate", [0.0, 0.2, 0.8, 1.0])
@pytest.mark.parametrize("noise", NOISES)
def test_transition_matrix(noise, num_classes, rate):
    eye = np.eye(num_classes)
    if noise is symmetric_noise:
        want = (1 - rate) * eye + rate * (1 - eye) / (num_classes - 1)
    else:
        want = (1 - rate) * eye + rate * np.roll(eye, 1, axis=1)
    # Five binomial deviations: none at probabilities of 0 and 1, where it is exact.
    bounds = 5 * np.sqrt(want * (1 - want) * PER_CLASS)
    off = np.abs(transitions(noise, num_classes, rate) - want * PER_CLASS)
    assert (off <= bounds + 1e-6).all()


@pytest.mark.parametrize("noise", NOISES)
def test_noise_is_seeded_and_compiles(noise):
    labels = jnp.arange(100).reshape(20, 5) % 7
    one, same, other = (
        noise(jax.random.key(seed), labels, 7, 0.5) for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert (one != other).any()
    compiled = jax.jit(noise, static_argnums=2)  # the rate is traced, too
    np.testing.assert_array_equal(compiled(jax.random.key(0), labels, 7, 0.5), one)
    keys = jax.random.split(jax.random.key(0), 3)
    rates = jnp.array([0.0, 0.5, 1.0])
    over = jax.jit(jax.vmap(lambda k, rate: noise(k, labels, 7, rate)))(keys, rates)
    np.testing.assert_array_equal(over[0], labels)
    assert (over[2] != labels).all()


@pytest.mark.parametrize("noise", NOISES)
def test_narrow_labels_keep_their_dtype(noise):
    labels = jnp.arange(128, dtype=jnp.int8)
    noisy = noise(jax.random.key(0), labels, 128, 1.0)
    assert noisy.dtype == jnp.int8
    assert (noisy >= 0).all()
    assert (noisy != labels).all()


@pytest.mark.parametrize("noise", NOISES)
def test_labels_of_every_integer_dtype(noise):
    labels = np.array([-100, 1, 127])
    want = noise(jax.random.key(0), labels, 128, 1.0)
    assert want[0] == -100  # no label, and none afterwards
    for dtype in ("i1", "i8"):
        got = noise(jax.random.key(0), labels.astype(dtype), 128, 1.0)
        np.testing.assert_array_equal(got, want)
        assert got.dtype == ("i1" if dtype == "i1" else "i4")
    with pytest.raises(ValueError, match="labels outside"):
        noise(jax.random.key(0), np.array([2**32 + 1]), 2, 1.0)
    with pytest.raises(TypeError, match="labels has dtype float32, expected integers"):
        noise(jax.random.key(0), np.zeros(2, "f4"), 2, 0.5)


@pytest.mark.parametrize("noise", NOISES)
def test_labels_of_nothing_stay_under_jit(noise):
    labels = jnp.array([-100, 1, 3])
    noisy = jax.jit(noise, static_argnums=2)(jax.random.key(0), labels, 3, 1.0)
    assert noisy[0] == -100
    assert noisy[1] != 1
    assert noisy[2] == 3


@pytest.mark.parametrize("noise", NOISES)
@pytest.mark.parametrize(
    ("labels", "num_classes", "rate", "message"),
    [
        ([0, 1], 2, 1.5, r"rate is 1.5, expected it in \[0, 1\]"),
        ([0, 1], 2, -0.1, "rate is -0.1, expected it in"),
        ([0, 1], 2, float("nan"), "rate is nan, expected it in"),
        ([0, 1], 2, [0.1, 0.2], r"rate has shape \(2,\), expected a number"),
        ([0, 0], 1, 0.5, "num_classes is 1, expected an int from 2 on"),
        ([0, 0], 2.0, 0.5, "num_classes is 2.0, expected an int from 2 on"),
        ([0, 2], 2, 0.5, r"labels outside \[0, 2\): \[2\]"),
    ],
)
def test_noise_errors(noise, labels, num_classes, rate, message):
    with pytest.raises(ValueError, match=message):
        noise(jax.random.key(0), np.array(labels), num_classes, rate)


@pytest.mark.parametrize(
    ("num_classes", "per_class", "imbalance", "sizes"),
    [
        (10, 5000, 100, [5000, 2997, 1796, 1077, 645, 387, 232, 139, 83, 50]),  # CIFAR
        (3, 100, 100, [100, 10, 1]),
        (4, 1000, 1000, [1000, 100, 10, 1]),
        (2, 7, 1, [7, 7]),
    ],
)
def test_long_tail_sizes(num_classes, per_class, imbalance, sizes):
    labels = np.random.default_rng(0).permutation(
        np.repeat(np.arange(num_classes), per_class)
    )
    rows = np.asarray(long_tail(jax.random.key(0), labels, num_classes, imbalance))
    assert (np.diff(rows) > 0).all()  # increasing, so none comes twice
    np.testing.assert_array_equal(np.bincount(labels[rows]), sizes)


def test_long_tail_of_unbalanced_classes_keeps_the_profile():
    labels = np.repeat([0, 1, 2], [100, 30, 50])
    rows = long_tail(jax.random.key(0), labels, 3, 4)
    # Class 1 has 30 rows for its half: class 0 keeps 60 of its 100.
    np.testing.assert_array_equal(np.bincount(labels[np.asarray(rows)]), [60, 30, 15])


def test_long_tail_leaves_out_what_has_no_label():
    labels = np.repeat(np.array([0, -100, 1], "i1"), [8, 9, 8])
    rows = np.asarray(long_tail(jax.random.key(0), labels, 2, 4))
    np.testing.assert_array_equal(np.bincount(labels[rows]), [8, 2])


def test_long_tail_is_seeded_and_uniform():
    labels = np.repeat([0, 1], 20)
    one, same, other = (
        np.asarray(long_tail(jax.random.key(s), labels, 2, 4)) for s in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert set(one) != set(other)
    keeps = np.zeros(40)
    for seed in range(400):
        keeps[np.asarray(long_tail(jax.random.key(seed), labels, 2, 4))] += 1
    assert (keeps[:20] == 400).all()
    deviation = np.sqrt(400 * 0.25 * 0.75)  # five of twenty rows
    np.testing.assert_allclose(keeps[20:], 100, atol=4.5 * deviation)


@pytest.mark.parametrize(
    ("labels", "imbalance", "message"),
    [
        ([0, 1], 0.5, "imbalance is 0.5, expected a number from 1 on"),
        ([0, 1], float("inf"), "imbalance is inf, expected"),
        ([0, 1], "10", "imbalance is '10', expected"),
        ([0, 1], 10, r"leaves classes \[1\] without a row of the \[1, 1\] there are"),
        ([0, 0], 1, r"leaves classes \[0, 1\] without a row of the \[2, 0\]"),
        ([[0, 1]], 1, r"labels has shape \(1, 2\), expected \[n\]"),
        ([0, 2], 1, r"labels outside \[0, 2\): \[2\]"),
    ],
)
def test_long_tail_errors(labels, imbalance, message):
    with pytest.raises(ValueError, match=message):
        long_tail(jax.random.key(0), np.array(labels), 2, imbalance)
