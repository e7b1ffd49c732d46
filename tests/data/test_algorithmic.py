import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions
from hypothesis import given, settings
from hypothesis import strategies as st

from logitlab import data

quick = functions(data)
modular_pairs, sparse_parity, split = (
    quick.modular_pairs,
    quick.sparse_parity,
    quick.split,
)

PYTHON = {
    "add": lambda a, b, p: (a + b) % p,
    "subtract": lambda a, b, p: (a - b) % p,
    "multiply": lambda a, b, p: a * b % p,
    "divide": lambda a, b, p: a * pow(b, -1, p) % p,
}
PRIMES = [p for p in range(2, 62) if all(p % d for d in range(2, p))]
PARITY = {"samples": 64, "parity_bits": 3, "noise_bits": 4}


def rows_of(dataset):
    return sorted(map(tuple, np.column_stack(list(dataset.values())).tolist()))


def split_sizes(fraction, length):
    dataset = {"x": jax.ShapeDtypeStruct((length,), jnp.float32)}
    halves = jax.eval_shape(
        lambda key, dataset: split(key, dataset, fraction), jax.random.key(0), dataset
    )
    return tuple(len(half["x"]) for half in halves)


@pytest.mark.parametrize("operation", PYTHON)
def test_pairs_match_python_integers(operation):
    for p, start in itertools.product((2, 3, 4, 7, 12), (0, 1)):
        if operation == "divide" and p not in PRIMES:
            continue
        divisors = range(1 if operation == "divide" else start, p)
        pairs = [(a, b) for a in range(start, p) for b in divisors]
        got = modular_pairs(operation, p, start=start)
        np.testing.assert_array_equal(got["x"], pairs)
        want = [PYTHON[operation](*pair, p) for pair in pairs]
        np.testing.assert_array_equal(got["y"], want)
        assert got["x"].dtype == got["y"].dtype == jnp.int32


@given(p=st.sampled_from(PRIMES))
@settings(max_examples=6, deadline=None)  # each size compiles
def test_quotient_times_divisor_is_dividend(p):
    got = modular_pairs("divide", p)
    a, b = np.asarray(got["x"]).T
    np.testing.assert_array_equal(np.asarray(got["y"]) * b % p, a)
    assert len(a) == p * (p - 1)


def test_largest_residues_do_not_overflow():
    p = 46340  # the last modulus whose products fit in int32
    got = modular_pairs("multiply", p, start=p - 3)
    np.testing.assert_array_equal(got["y"], [9, 6, 3, 6, 4, 2, 3, 2, 1])


@pytest.mark.parametrize("start", [0, 1])
def test_dtypes_survive_x64_and_numpy_arguments(x64, start):
    got = modular_pairs("divide", np.int64(5), start=np.int64(start))
    assert got["x"].dtype == got["y"].dtype == jnp.int32
    bits = sparse_parity(jax.random.key(0), **PARITY)
    assert (bits["x"].dtype, bits["y"].dtype) == (jnp.float32, jnp.int32)


def test_sets_can_be_made_inside_jit():
    got = jax.jit(lambda: data.modular_pairs("divide", 7))()
    np.testing.assert_array_equal(got["y"], modular_pairs("divide", 7)["y"])
    make = jax.vmap(lambda key: sparse_parity(key, **PARITY))
    assert make(jax.random.split(jax.random.key(0), 3))["x"].shape == (3, 64, 7)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("power", 5), r"operation is 'power', expected one of \('add', 'subtract'"),
        (("add", 1), "p is 1, expected an int from 2 to 46340"),
        (("add", 5.0), "p is 5.0, expected an int"),
        (("add", True), "p is True, expected an int"),
        (("multiply", 46341), "p is 46341, expected an int from 2 to 46340"),
        (("divide", 9), "p is 9, expected a prime"),
    ],
)
def test_pairs_errors(arguments, message):
    with pytest.raises(ValueError, match=message):
        modular_pairs(*arguments)


@pytest.mark.parametrize("start", [-1, 5, 0.5, True])
def test_start_errors(start):
    with pytest.raises(ValueError, match=f"start is {start}, expected an int from 0"):
        modular_pairs("add", 5, start=start)


@pytest.mark.parametrize(("parity_bits", "noise_bits"), [(1, 0), (3, 40), (5, 2)])
def test_parity_matches_numpy(parity_bits, noise_bits):
    got = sparse_parity(
        jax.random.key(1), samples=500, parity_bits=parity_bits, noise_bits=noise_bits
    )
    x = np.asarray(got["x"])
    assert x.shape == (500, parity_bits + noise_bits)
    assert set(np.unique(x)) == {0, 1}
    parity = np.logical_xor.reduce(x[:, :parity_bits].astype(bool), axis=1)
    np.testing.assert_array_equal(got["y"], parity)
    assert abs(x.mean() - 0.5) < 4 * 0.5 / np.sqrt(x.size)  # fair: four deviations


def test_parity_is_seeded():
    one, same, other = (sparse_parity(jax.random.key(s), **PARITY) for s in (0, 0, 1))
    np.testing.assert_array_equal(one["x"], same["x"])
    assert (one["x"] != other["x"]).any()


@pytest.mark.parametrize("name", PARITY)
@pytest.mark.parametrize("value", [-1, 1.0])
def test_parity_errors(name, value):
    with pytest.raises(ValueError, match=f"{name} is {value}, expected an int from"):
        sparse_parity(jax.random.key(0), **PARITY | {name: value})


@pytest.mark.parametrize("p", [5, 31])
def test_split_is_a_partition(p):
    dataset = modular_pairs("add", p)
    halves = split(jax.random.key(0), dataset, 0.4)
    together = {k: np.concatenate([h[k] for h in halves]) for k in dataset}
    assert rows_of(together) == rows_of(dataset)
    for half in halves:
        np.testing.assert_array_equal(half["y"], half["x"].sum(-1) % p)
        assert {k: v.dtype for k, v in half.items()} == dict(x=jnp.int32, y=jnp.int32)


def test_split_takes_numpy_arrays_to_the_device():
    for half in data.split(jax.random.key(0), {"x": np.zeros((4, 2, 3), "f4")}, 0.5):
        assert isinstance(half["x"], jax.Array)
        assert half["x"].shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("fraction", "length", "rows"),
    [
        (0.4, 113**2, 5107),  # the paper's
        (0.4, 112**2, 5017),
        (0.7, 31**2, 672),
        (0.29, 100, 29),  # 28.999999999999996 in floats
        (0.57, 100, 57),  # 56.99999999999999
        (0.7, 10, 7),
        (1 / 3, 3, 1),
        (np.float64(0.5), 7, 3),
        (0.999, 2, 1),
    ],
)
def test_split_counts(fraction, length, rows):
    assert split_sizes(fraction, length) == (rows, length - rows)


@given(percent=st.integers(1, 99), length=st.integers(100, 10**6))
@settings(max_examples=50, deadline=None)
def test_split_counts_are_exact_in_decimals(percent, length):
    rows = percent * length // 100
    assert split_sizes(percent / 100, length) == (rows, length - rows)


def test_split_is_seeded():
    dataset = {"x": jnp.arange(100)}
    one, same, other = (
        split(jax.random.key(seed), dataset, 0.5)[0]["x"] for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(one, same)
    assert set(one.tolist()) != set(other.tolist())


def test_split_is_uniform():
    # Each row trains with probability 0.3: four standard deviations over 2000 keys.
    keys = jax.random.split(jax.random.key(0), 2000)
    train = jax.vmap(lambda key: split(key, {"x": jnp.arange(10)}, 0.3)[0]["x"])(keys)
    share = np.bincount(np.asarray(train).ravel(), minlength=10) / 2000
    np.testing.assert_allclose(share, 0.3, atol=4 * np.sqrt(0.3 * 0.7 / 2000))


@pytest.mark.parametrize("over_keys", [jax.vmap, lambda f: lambda k: jax.lax.map(f, k)])
def test_split_over_keys(over_keys):
    dataset = modular_pairs("multiply", 7)
    keys = jax.random.split(jax.random.key(3), 4)
    got = jax.jit(over_keys(lambda key: split(key, dataset, 0.6)))(keys)
    for i, key in enumerate(keys):
        alone = split(key, dataset, 0.6)
        same = jax.tree.map(lambda a, b, i=i: (a[i] == b).all(), got, alone)
        assert jax.tree.all(same)


def test_split_of_traced_arrays():
    x = jnp.arange(10)
    got = jax.jit(lambda x: split(jax.random.key(0), {"x": x}, 0.5))(x)
    want = split(jax.random.key(0), {"x": x}, 0.5)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), got, want))


@pytest.mark.parametrize("fraction", [0, 1, -0.5, 1.5, float("nan"), True])
def test_split_fraction_outside(fraction):
    with pytest.raises(ValueError, match=rf"train_fraction is {fraction}, expected it"):
        split(jax.random.key(0), {"x": jnp.arange(10)}, fraction)


@pytest.mark.parametrize("length", [0, 1, 9])
def test_split_without_a_training_row(length):
    with pytest.raises(ValueError, match=f"of {length} rows leaves 0 for training"):
        split(jax.random.key(0), {"x": jnp.arange(length)}, 0.1)


@pytest.mark.parametrize(
    "dataset",
    [{}, {"x": jnp.zeros(())}, {"x": jnp.zeros(3), "y": jnp.zeros(4)}],
)
def test_split_shape_errors(dataset):
    with pytest.raises(ValueError, match="dataset has shapes .* one common length"):
        split(jax.random.key(0), dataset, 0.5)


def test_split_needs_a_concrete_fraction():
    with pytest.raises(TypeError, match="train_fraction is .*, expected a number"):
        jax.jit(lambda f: split(jax.random.key(0), {"x": jnp.arange(4)}, f))(0.5)
