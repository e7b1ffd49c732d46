import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted
from jax.sharding import PartitionSpec as P
from scipy.special import log_softmax

from logitlab.losses import confidence_penalized_cross_entropy, cross_entropy
from logitlab.metrics import RankStats, ce_decomposition, rank_error, rank_stats

Z = np.array([[2, 1, 0], [0, 3, 1], [1, 0, 2], [0, 1, 2]], np.float64)
Y = np.array([0, 1, 0, 0])
decompose, stats = interpreted(ce_decomposition), interpreted(rank_stats)


def draw(seed, shape=(200, 7), dtype="f8"):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=shape) * 2
    y = np.where(rng.uniform(size=shape[:-1]) < 0.6, z.argmax(-1),
                 rng.integers(0, shape[-1], shape[:-1]))  # fmt: skip
    return z.astype(dtype), y


def oracle(z, y):
    log_p = np.take_along_axis(log_softmax(z, -1), y[:, None], -1)[:, 0]
    rank = (z > np.take_along_axis(z, y[:, None], -1)).sum(-1)
    used = np.unique(rank)
    p = np.array([(rank == e).mean() for e in used])
    q = np.exp([log_p[rank == e].mean() for e in used])
    c = q.sum()
    return dict(
        ce=-log_p.mean(),
        error_entropy=-(p * np.log(p)).sum(),
        self_alignment=(p * np.log(p * c / q)).sum(),
        log_confidence=np.log(c),
        rank_hist=np.bincount(rank, minlength=z.shape[-1]),
    )


def test_worked_example(x64):
    np.testing.assert_array_equal(rank_error(Z, Y), [0, 0, 1, 2])
    got = decompose(Z, Y)
    want = dict(
        ce=1.0981659782,
        error_entropy=1.0397207708,
        # The other three fix it; the text that the example is from ends in 463.
        self_alignment=1.0981659782 - 1.0397207708 + 0.0806362359,
        log_confidence=0.0806362359,
        rank_hist=[2, 1, 1],
    )
    assert got.keys() == want.keys()
    for name in want:
        np.testing.assert_allclose(got[name], want[name], 0, 2e-10)
    q = np.exp(stats(Z, Y).sum_logp / np.array([2, 1, 1]))
    np.testing.assert_allclose(q, [0.74921747, 0.24472847, 0.09003057], 0, 6e-9)


@pytest.mark.parametrize("seed", range(3))
def test_matches_numpy_and_adds_up(x64, seed):
    z, y = draw(seed)
    got, want = decompose(z, y), oracle(z, y)
    for name in want:
        np.testing.assert_allclose(got[name], want[name], 1e-12, 1e-14)
    total = got["error_entropy"] + got["self_alignment"] - got["log_confidence"]
    assert abs(total - got["ce"]) < 1e-12
    np.testing.assert_allclose(got["ce"], cross_entropy(z, y).mean(), 1e-12)
    single = decompose(z.astype("f4"), y)
    for name in want:
        np.testing.assert_allclose(single[name], want[name], 1e-5)


def test_streaming(x64):
    z, y = draw(5, (192, 7))
    whole = stats(z, y)
    parts = [stats(*part) for part in ((z[:5], y[:5]), (z[5:], y[5:]))]
    added = jax.tree.map(jnp.add, *parts)
    assert isinstance(added, RankStats)
    mesh = jax.make_mesh((8,), ("data",), (jax.sharding.AxisType.Auto,))

    @jax.jit
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=P("data"), out_specs=P())
    def across(z, y):
        return jax.lax.psum(rank_stats(z, y), "data")

    keep = np.arange(len(y) + 3) < len(y)
    padded = np.pad(z, ((0, 3), (0, 0)), constant_values=np.nan)
    labels = np.pad(y, (0, 3), constant_values=-100)
    masked = stats(padded, labels, mask=keep)
    for got in (parts[0] + parts[1], added, across(z, y), masked):
        np.testing.assert_array_equal(got.counts, whole.counts)
        np.testing.assert_allclose(got.sum_logp, whole.sum_logp, 1e-12)
        for name, term in got.value.items():
            np.testing.assert_allclose(term, whole.value[name], 1e-12)


def test_ranks():
    tie = np.float32([[1, 1, 0], [1, 2, 2]])
    np.testing.assert_array_equal(rank_error(tie, np.array([1, 0])), [0, 2])
    close = np.float32([[1e4, np.nextafter(np.float32(1e4), np.float32(2e4))]])
    np.testing.assert_array_equal(rank_error(close, np.array([0])), [1])
    where = np.array([[True, False, True]])
    hidden = rank_error(tie[1:], np.array([0]), where=where)
    np.testing.assert_array_equal(hidden, [1])
    np.testing.assert_array_equal(rank_error(tie, np.array([-100, 3])), -1)
    z, y = draw(1, (4, 6, 5))
    moved = rank_error(np.moveaxis(z, -1, 1), y, axis=1)
    np.testing.assert_array_equal(moved, rank_error(z, y))


def test_edges():
    nothing = decompose(np.zeros((0, 3), "f4"), np.zeros(0, int))
    assert all(np.isnan(v) for k, v in nothing.items() if k != "rank_hist")
    perfect = decompose(np.float32([[200, 0], [0, 300]]), np.array([0, 1]))
    for name in ("ce", "error_entropy", "self_alignment", "log_confidence"):
        assert perfect[name] == 0
    where = np.array([[True, True], [False, True]])
    hidden = decompose(np.zeros((2, 2), "f4"), np.zeros(2, int), where=where)
    assert hidden["ce"] == hidden["self_alignment"] == np.inf
    np.testing.assert_allclose(hidden["error_entropy"], np.log(2), 1e-6)
    np.testing.assert_allclose(hidden["log_confidence"], -np.log(2), 1e-6)
    assert np.isnan(decompose(np.zeros((1, 2), "f4"), np.array([2]))["ce"])


@pytest.mark.sampled(2)
@pytest.mark.parametrize("lam", [0.0, 0.3, 1.0])
def test_penalty(x64, lam):
    """Cross-entropy plus lambda log C, and the slope in each log-probability."""
    z, y = draw(2, (50, 6))
    loss = interpreted(functools.partial(confidence_penalized_cross_entropy, lam=lam))
    parts = oracle(z, y)
    want = parts["ce"] + lam * parts["log_confidence"]
    np.testing.assert_allclose(loss(z, y), want, 1e-12)
    assert loss(z, y) >= 0
    rank = np.asarray(rank_error(z, y))
    p = parts["rank_hist"] / len(y)
    sums = np.asarray(stats(z, y).sum_logp)
    some = p > 0
    q = np.where(some, np.exp(sums / np.where(some, p * len(y), 1)), 0)
    weight = (1 - lam * (q / q.sum() / np.where(some, p, 1))[rank]) / len(y)
    slopes = np.exp(log_softmax(z, -1)) - np.eye(6)[y]
    grad = jax.grad(loss)(z, y)
    np.testing.assert_allclose(grad, weight[:, None] * slopes, 1e-9, 1e-12)


def test_bad_arguments():
    z, y = Z.astype("f4"), Y
    with pytest.raises(TypeError, match="labels has dtype float.*, expected integers"):
        rank_error(z, y.astype("f4"))
    with pytest.raises(ValueError, match=r"labels has shape \(3,\), expected \(4,\)"):
        rank_stats(z, y[:3])
    with pytest.raises(ValueError, match="labels outside"):
        ce_decomposition(z, y + 3)
    with pytest.raises(TypeError, match="mask has dtype int"):
        ce_decomposition(z, y, mask=y)
    with pytest.raises(ValueError, match=r"lam is 2.0, expected a number from 0 to 1"):
        confidence_penalized_cross_entropy(z, y, lam=2.0)
    with pytest.raises(ValueError, match=r"mask has shape \(3,\), expected \(4,\)"):
        confidence_penalized_cross_entropy(z, y, lam=0.5, mask=np.ones(3, bool))


def test_labels_of_every_integer_dtype():
    z = np.zeros((3, 256), "f4")
    z[:, :5] = 1
    y = np.array([0, 65, 255])
    for dtype in ("i8", "u1", "i2", "u4", "u8"):
        np.testing.assert_array_equal(rank_error(z, y.astype(dtype)), [0, 5, 5])
    narrow = np.array([127, -100], "i1")
    np.testing.assert_array_equal(rank_error(z[:2, :128], narrow), [5, -1])
    np.testing.assert_array_equal(rank_error(z[:1], np.array([2**32])), [-1])
    assert rank_stats(z, y.astype("u1")).counts.sum() == 3
