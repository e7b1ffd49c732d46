import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted
from harness.quickly import quick_jit
from jax.sharding import PartitionSpec as P

from logitlab import metrics
from logitlab.metrics import Mean, accuracy, mean_of, tree_norm


def test_mean_divides_once():
    total = Mean(3.0, 4) + Mean(1.0, 1)
    assert total == Mean(4.0, 5)
    assert float(total) == pytest.approx(0.8)
    np.testing.assert_allclose(np.asarray(total), 0.8, rtol=1e-6)
    np.testing.assert_allclose(total.value, 0.8, rtol=1e-6)
    assert np.isnan(float(Mean(0.0, 0)))
    several = Mean(np.float32([1, 2]), np.float32([2, 0]))  # of several quantities
    np.testing.assert_array_equal(several.value, [0.5, np.inf])
    with pytest.raises(TypeError):
        Mean(1.0, 1) + 1.0


def test_mean_merges_everywhere():
    values = np.random.default_rng(0).normal(size=(8, 5)).astype("f4")
    mask = np.random.default_rng(1).uniform(size=(8, 5)) < 0.4
    mask[0] = False  # a device, or a micro-batch, with nothing to say
    want = values[mask].astype("f8").mean()

    def count(carry, batch):
        return jax.tree.map(jnp.add, carry, mean_of(*batch)), None

    start = Mean(jnp.zeros(()), jnp.zeros(()))
    scanned, _ = jax.jit(functools.partial(jax.lax.scan, count))(start, (values, mask))

    @jax.jit
    @functools.partial(
        jax.shard_map,
        mesh=jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,)),
        in_specs=(P("data"), P("data")),
        out_specs=P(),
    )
    def sharded(values, mask):
        return jax.lax.psum(mean_of(values, mask), "data")

    added = sum(map(mean_of, values, mask), start=Mean(0.0, 0.0))
    for total in (scanned, sharded(values, mask), added, mean_of(values, mask)):
        assert isinstance(total, Mean)
        assert total.count == mask.sum()
        assert float(total) == pytest.approx(want, rel=1e-5)


def test_mean_of():
    wild = np.array([1, np.nan, np.inf, 3], "f4")
    assert mean_of(wild, np.array([True, False, False, True])) == Mean(4, 2)
    assert mean_of(np.array([True, False, True])) == Mean(2, 3)
    assert mean_of(np.array([3, 4])) == Mean(7, 2)
    assert mean_of(np.float32(2.5)) == Mean(2.5, 1)
    assert mean_of(np.zeros((0, 2), "f4")) == Mean(0, 0)
    got = mean_of(jnp.ones(3000, "bfloat16"))  # which cannot count to 3000
    assert got.sum.dtype == np.float32
    assert got.count.dtype == np.int32
    assert got == Mean(3000, 3000)
    with pytest.raises(TypeError, match="mask has dtype float32, expected bool"):
        mean_of(wild, np.ones(4, "f4"))
    with pytest.raises(ValueError, match=r"mask has shape \(1,\), expected \(4,\)"):
        mean_of(wild, np.ones(1, bool))


def test_accuracy():
    z = np.float32([[1, 2, 0], [3, 0, 0], [0, np.nan, 1], [1, 1, 0], [0, 1, 2]])
    y = np.array([1, 0, 1, 0, 1])
    assert accuracy(z, y) == Mean(3, 5)  # a NaN is wrong, the first of equals is right
    for label in range(3):
        assert accuracy(z[2:3], np.array([label])) == Mean(0, 1)
    mask = np.array([True, False, False, False, True])
    ignored = np.where(mask, y, -100)
    assert jax.jit(accuracy)(z, ignored, mask=mask) == Mean(1, 2)
    where = np.array([[True, True, False]])
    assert accuracy(z[[0, 1, 3, 4]], y[[0, 1, 3, 4]], where=where) == Mean(4, 4)
    assert accuracy(z.T, y, axis=0) == Mean(3, 5)
    assert accuracy(z.astype("bfloat16"), y) == Mean(3, 5)
    assert accuracy(np.zeros((0, 3), "f4"), np.zeros(0, int)) == Mean(0, 0)
    assert (
        accuracy(np.float32([[0, np.nan]]), np.array([0]), where=where[:, 1:]).sum == 1
    )
    with pytest.raises(TypeError, match="labels has dtype float.*, expected integers"):
        accuracy(z, y.astype("f4"))
    with pytest.raises(TypeError, match="logits has dtype int"):
        accuracy(np.zeros((5, 3), int), y)
    with pytest.raises(ValueError, match=r"labels has shape \(4,\), expected \(5,\)"):
        accuracy(z, y[:4])


def test_tree_norm():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(3, 4)), rng.normal(size=7)
    want = np.sqrt((a**2).sum() + (b**2).sum())
    norm = jax.jit(tree_norm)
    for scale in (1, 1e25, 1e-30, 1e37):
        tree = {"a": (a * scale).astype("f4"), "b": [(b * scale).astype("f4")]}
        np.testing.assert_allclose(norm(tree), want * scale, rtol=1e-6)
    mixed = {"big": np.float32([1e25]), "small": np.float32([1e-25])}
    np.testing.assert_allclose(norm(mixed), 1e25, rtol=1e-6)
    for nothing in ({}, {"a": np.zeros((2, 2), "f4")}, [np.zeros(0, "f4")]):
        assert norm(nothing) == 0
    assert tree_norm([3.0, np.zeros(0, "f4"), np.float32([4])]) == 5
    assert norm([jnp.ones(4, "bfloat16")]).dtype == np.float32
    assert np.isnan(norm([np.float32([np.nan, 1])]))
    assert norm([np.float32([np.inf, 1])]) == np.inf
    with jax.enable_x64(True):
        np.testing.assert_allclose(tree_norm({"a": a, "b": b}), want, rtol=1e-14)
        np.testing.assert_allclose(tree_norm([a * 1e200]), 1e200 * np.linalg.norm(a))


def test_counts_do_not_stand_still():
    hits = mean_of(np.array([True]))
    many = Mean(jnp.int32(2**24), jnp.int32(2**24))
    for _ in range(2):  # 2^24 + 1 is no float32
        many = many + hits
    assert many.count == 2**24 + 2
    assert many.sum == 2**24 + 2
    with jax.enable_x64(True):
        got = mean_of(np.array([True, False]))
        assert got.sum.dtype == got.count.dtype == np.int64
        assert got.value.dtype == np.float64
        got = mean_of(np.array([2**40, 1]))
        assert float(got) == (2**40 + 1) / 2
    np.testing.assert_allclose(mean_of(np.array([2**40, 1])), 2**39, rtol=1e-6)


def test_labels_of_every_integer_dtype():
    z = np.zeros((3, 256), "f4")
    z[np.arange(3), [0, 65, 255]] = 1
    for dtype in ("u1", "u4", "i8", "u8"):
        assert accuracy(z, np.array([0, 65, 255], dtype)) == Mean(3, 3)
    assert accuracy(z, np.array([2**32, 65, 2**32 + 255])) == Mean(1, 3)
    assert accuracy(z, np.array([0, -100, 255])) == Mean(2, 3)


def sums(rows):
    """All that adds up in the evaluation of a model.

    In "exact" every number is an integer, or a multiple of 1/64 far below 2^18, so that
    no order of additions rounds.
    """
    z, other, y, groups = (rows[name] for name in ("z", "other", "y", "groups"))
    scores, wrong = metrics.log_odds_score(z), z.argmax(-1) != y
    values, ranges = rows["values"], jnp.stack([rows["values"] - 1, scores], -1)
    grid = jnp.float32([-1, 0, 1, 9])
    of_groups = functools.partial(metrics.group_means, groups=groups, num_groups=3)
    criterion = metrics.mano_criterion(z)
    exact = {
        "bins": metrics.calibration_bins(z, y),
        "classwise": metrics.calibration_bins(z, y, classwise=True),
        "right": accuracy(z, y),
        "agreed": metrics.agreement_score(z, other),
        "atc": metrics.atc_accuracy(scores, 0.5),
        "ambiguity": metrics.predictive_ambiguity(scores, ranges, delta=0.2),
        "errors": metrics.risk_at_thresholds(scores, wrong, grid),
        "risk": metrics.risk_at_thresholds(scores, values, grid),
        "hits of groups": of_groups(~wrong),
        "means of groups": of_groups(values),
        # Of -1 and 0, of which 1, 2 or 4 are 0: the polynomial is 0, 1/4, 1/2 or 1.
        "powers": metrics.mano_powers(rows["few"], criterion=0.0, p=2.0),
        "features": metrics.class_means(values[:, None], z),
    }
    rounded = {
        "brier": metrics.brier_score(z, y),
        "nll": metrics.nll(z, y),
        "confidence": metrics.average_confidence(z),
        "gap": metrics.fit_confidence_gap(z, y),
        "entropy": metrics.entropy_score(z),
        "criterion": criterion,
        "powers": metrics.mano_powers(z, criterion=9.0),
        "templates": metrics.kl_matching_templates(z),
    }
    return {"exact": exact, "rounded": rounded}


def draw_rows(n):
    rng = np.random.default_rng(2)
    places = rng.permuted(np.tile(np.arange(5), (n, 1)), axis=1)
    few = np.where(places < rng.choice([1, 2, 4], (n, 1)), 0, -1)
    return {
        "z": 3 * rng.normal(size=(n, 5)).astype("f4"),
        "other": rng.normal(size=(n, 5)).astype("f4"),
        "y": rng.integers(0, 5, n),
        "groups": rng.integers(-1, 3, n),
        "values": rng.integers(-640, 640, n).astype("f4") / 64,
        "few": few.astype("f4"),
    }


def check_sums(got, want):
    assert jax.tree.structure(got) == jax.tree.structure(want)
    jax.tree.map(np.testing.assert_array_equal, got["exact"], want["exact"])
    for name, total in want["rounded"].items():
        np.testing.assert_array_equal(got["rounded"][name].count, total.count)
        np.testing.assert_allclose(got["rounded"][name].sum, total.sum, 2e-6)


def test_sums_of_batches_are_those_of_one():
    rows = draw_rows(192)
    count = interpreted(sums)
    cuts = (0, 50, 51, 120, 192)
    parts = [
        count({name: a[low:high] for name, a in rows.items()})
        for low, high in zip(cuts, cuts[1:], strict=False)
    ]
    total = jax.tree.map(lambda *a: sum(a), *reversed(parts))
    check_sums(total, count(rows))
    ints = [a.dtype for a in jax.tree.leaves(total["exact"])]
    assert ints.count(np.int32) == len(ints) - 4


def test_sums_of_devices_are_those_of_one():
    rows = draw_rows(192)
    mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))

    @quick_jit
    def both(rows):
        across = jax.shard_map(
            lambda rows: jax.lax.psum(sums(rows), "data"),
            mesh=mesh,
            in_specs=P("data"),
            out_specs=P(),
        )
        return across(rows), sums(rows)

    check_sums(*both(rows))
