import functools

import jax
import numpy as np
import pytest
from harness import goldens
from harness.interpreter import functions, interpreted
from scipy.special import log_softmax, softmax

from logitlab import metrics
from logitlab.metrics import calibration, calibration_bins, confidence_bins

calls = functions(calibration, confidence_bins)
CASES = goldens.cases("calibration_metrics")
SETTINGS = dict(bins=10, closed="right")


def draw(seed, shape=(300, 5), scale=3.0, dtype="f8"):
    """Logits and labels that are wrong as often as a model that is too sure."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=shape) * scale
    y = (z / scale + rng.gumbel(size=shape)).argmax(-1)
    return z.astype(dtype), y


def rates(p, hit, bins, closed="right"):
    """Counts, hits and summed probabilities of bins of equal width."""
    edges = np.arange(1, bins) / bins
    b = np.digitize(p, edges, right=closed == "right")
    each = lambda w: np.bincount(b, w, bins)  # noqa: E731
    return each(np.ones(len(p))), each(hit), each(p)


def oracle(p, hit, norm="l1", debiased=False, **binning):
    n, hits, sure = rates(p, hit, **binning)
    n, hits, sure = (a[n > 0] for a in (n, hits, sure))
    gap, a = (hits - sure) / n, hits / n
    if norm == "max":
        return np.abs(gap).max()
    if norm == "l1":
        return (n / n.sum() * np.abs(gap)).sum()
    noise = a * (1 - a) / np.maximum(n - 1, 1) * (n > 1) if debiased else 0
    return np.sqrt(max((n / n.sum() * (gap**2 - noise)).sum(), 0))


def top(z, y):
    p = softmax(z, -1)
    return p.max(-1), (p.argmax(-1) == y).astype(float)


@pytest.mark.sampled
@pytest.mark.parametrize("case", CASES)
def test_golden(x64, case):
    z, y = goldens.arrays(case, "logits", "labels")
    bins, want = case["params"]["n_bins"], case["outputs"]
    ece = functools.partial(metrics.expected_calibration_error, bins=bins)

    @interpreted
    def run(z):
        of_classes = calibration_bins(z, y, bins=bins, closed="left", classwise=True)
        return {
            "ece_right_closed": ece(z, y),
            "ece_left_closed": ece(z, y, closed="left"),
            "rmsce_left_closed": ece(z, y, closed="left", norm="l2"),
            "mce_left_closed": ece(z, y, closed="left", norm="max"),
            "adaptive_ece_equal_mass_netcal": ece(z, y, binning="mass"),
            "classwise_ece_left_closed": metrics.classwise_ece(
                z, y, bins=bins, closed="left"
            ),
            "per_class_ece": metrics.calibration_error(of_classes),
            "brier_sum": metrics.brier_score(z, y).value,
            "brier_sklearn_scaled": metrics.brier_score(z, y, scale_by_half=True).value,
            "nll_exact": metrics.nll(z, y).value,
            "nll_sklearn": metrics.nll(z, y).value,
        }

    got = run(z)
    assert got.keys() == want.keys()
    for name, value in got.items():
        # Made in float32 by torchmetrics, where left-closed bins are its own.
        rtol = 2e-7 if "left" in name or name == "per_class_ece" else 1e-8
        np.testing.assert_allclose(value, want[name], rtol, err_msg=name)


@pytest.mark.parametrize("closed", ["left", "right"])
def test_matches_numpy(x64, closed):
    z, y = draw(0)
    p, hit = top(z, y)
    counts = calls.calibration_bins(z, y, bins=10, closed=closed)
    n, hits, sure = rates(p, hit, 10, closed)
    np.testing.assert_array_equal(counts.counts, n)
    np.testing.assert_array_equal(counts.hits, hits)
    for norm in ("l1", "l2", "max"):
        want = oracle(p, hit, norm, bins=10, closed=closed)
        got = calls.calibration_error(counts, norm=norm)
        np.testing.assert_allclose(got, want, 1e-9)
    want = oracle(p, hit, "l2", True, bins=10, closed=closed)
    debiased = calls.debiased_ece(z, y, bins=10, closed=closed)
    np.testing.assert_allclose(debiased, want, 1e-8)
    shown = calls.reliability_bins(counts)
    some = n > 0
    np.testing.assert_array_equal(shown["count"], n)
    accuracy, confidence = (a[some] / n[some] for a in (hits, sure))
    np.testing.assert_allclose(shown["accuracy"][some], accuracy, 1e-12)
    np.testing.assert_allclose(shown["confidence"][some], confidence, 1e-9)
    assert np.isnan(shown["confidence"][~some]).all()


def test_classes_one_by_one(x64):
    z, y = draw(1)
    q = softmax(z, -1)
    each = [oracle(q[:, k], y == k, **SETTINGS) for k in range(5)]
    np.testing.assert_allclose(calls.classwise_ece(z, y, **SETTINGS), np.mean(each))
    moved = metrics.classwise_ece(z.T, y, axis=0, **SETTINGS)
    np.testing.assert_allclose(moved, np.mean(each))
    # One that is hidden everywhere is not there.
    where = np.array([[True, True, False, True, True]])
    short = calls.classwise_ece(z[:, where[0]], np.searchsorted([0, 1, 3, 4], y % 2))
    hidden = calls.classwise_ece(z, y % 2, where=where)
    np.testing.assert_allclose(hidden, short, 1e-12)


def test_bins_of_equal_mass_are_quantiles(x64):
    z, y = draw(2, (97, 4))
    p, hit = top(z, y)
    edges = np.quantile(p, np.arange(1, 7) / 7)
    b = np.digitize(p, edges)
    want = sum(abs((hit - p)[b == i].sum()) for i in range(7)) / len(p)
    ece = functools.partial(calls.expected_calibration_error, bins=7, binning="mass")
    np.testing.assert_allclose(ece(z, y), want, 1e-9)
    padded = np.pad(z, ((0, 9), (0, 0)), constant_values=np.nan)
    keep = np.arange(len(padded)) < len(z)
    np.testing.assert_allclose(ece(padded, np.pad(y, (0, 9)), mask=keep), want, 1e-9)


def check_same(got, want):
    assert isinstance(got, metrics.CalibrationBins)
    for a, b in zip(got, want, strict=True):
        assert a.dtype == b.dtype == np.int32
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("classwise", [False, True])
def test_batches_add_up_bit_for_bit(classwise):
    z, y = draw(3, (192, 5), dtype="f4")
    count = interpreted(functools.partial(calibration_bins, classwise=classwise))
    whole = count(z, y)
    parts = [count(z[a], y[a]) for a in np.split(np.arange(192), 4)]
    check_same(parts[3] + parts[0] + parts[2] + parts[1], whole)
    check_same(jax.tree.map(lambda *a: sum(a), *parts), whole)
    padded = np.pad(z, ((0, 3), (0, 0)), constant_values=np.nan)
    labels = np.pad(y, (0, 3), constant_values=-100)
    check_same(count(padded, labels, mask=np.arange(195) < 192), whole)


def test_scores_of_batches_add_up(x64):
    z, y = draw(4)
    for score in (calls.brier_score, calls.nll):
        whole, parts = score(z, y), score(z[:100], y[:100]) + score(z[100:], y[100:])
        assert whole.count == parts.count == 300
        np.testing.assert_allclose(float(parts), float(whole), 1e-14)
        assert np.isnan(float(score(z[:0], y[:0])))


def test_proper_scores_and_their_slopes(x64):
    z, y = draw(5, (40, 4))
    p, hot = softmax(z, -1), np.eye(4)[y]
    score = interpreted(jax.value_and_grad(lambda z: metrics.brier_score(z, y).value))
    value, grad = score(z)
    d = p - hot
    np.testing.assert_allclose(value, (d**2).sum(-1).mean(), 1e-12)
    want = 2 * p * (d - (p * d).sum(-1, keepdims=True)) / 40
    np.testing.assert_allclose(grad, want, 1e-9, 1e-14)
    value, grad = interpreted(jax.value_and_grad(lambda z: metrics.nll(z, y).value))(z)
    np.testing.assert_allclose(value, -(hot * log_softmax(z, -1)).sum(-1).mean(), 1e-12)
    np.testing.assert_allclose(grad, d / 40, 1e-9, 1e-14)


def test_decomposition_is_the_score_of_the_means(x64):
    z, y = draw(6)
    p, hit = top(z, y)
    terms = calls.brier_decomposition(calls.calibration_bins(z, y, **SETTINGS))
    n, hits, sure = rates(p, hit, 10)
    b = np.digitize(p, np.arange(1, 10) / 10, right=True)
    mean = (sure / np.maximum(n, 1))[b]
    total = terms["reliability"] - terms["resolution"] + terms["uncertainty"]
    np.testing.assert_allclose(total, ((mean - hit) ** 2).mean(), 1e-9)
    a = hit.mean()
    np.testing.assert_allclose(terms["uncertainty"], a * (1 - a), 1e-12)
    want = (n / n.sum() * (hits / np.maximum(n, 1) - a) ** 2).sum()
    np.testing.assert_allclose(terms["resolution"], want, 1e-9)


@pytest.mark.parametrize("margin", [12.0, 20.0, 45.0])
def test_confident_models_in_float32(margin):
    rng = np.random.default_rng(7)
    z = np.zeros((500, 3), "f4")
    z[:, 0] = margin + rng.normal(size=500)
    y = np.zeros(500, int)
    other = np.exp(log_softmax(z.astype("f8"), -1)[:, 1])
    doubt = 2 * other
    ece = calls.expected_calibration_error
    # One 64^-6 is 1.5e-11, and that is all that is lost.
    np.testing.assert_allclose(ece(z, y), doubt.mean(), 1e-6, 1.5e-11)
    np.testing.assert_allclose(ece(z, y + 1), 1 - doubt.mean(), 1e-7)
    mixed = y + (np.arange(500) < 100)
    np.testing.assert_allclose(ece(z, mixed), 0.2 - doubt.mean(), 0, 1e-7)
    brier = np.mean(doubt**2 + 2 * other**2)
    np.testing.assert_allclose(float(calls.brier_score(z, y)), brier, 1e-5, 1e-38)
    np.testing.assert_allclose(float(calls.nll(z, y)), -np.log1p(-doubt).mean(), 1e-5)
    # Sure, and not alone in the last bin: float32 rounds these confidences to 1.
    assert calls.calibration_bins(z, y, closed="left").counts[-1] == 500


def test_confident_models_that_err():
    """Mean margins of 45, one example in ten wrong, against float64."""
    rng = np.random.default_rng(10)
    z = rng.normal(size=(2000, 10))
    z[:, 0] += 45 + 8 * rng.normal(size=2000)
    z = z.astype("f4")
    y = rng.integers(1, 10, 2000) * (rng.uniform(size=2000) < 0.1)
    p = softmax(z.astype("f8"), -1)
    sure, hit = p.max(-1), (p.argmax(-1) == y).astype(float)
    for bins in (15, 100):
        ece = calls.expected_calibration_error(z, y, bins=bins)
        np.testing.assert_allclose(ece, oracle(sure, hit, bins=bins), 0, 1e-6)
    brier = ((p - np.eye(10)[y]) ** 2).sum(-1).mean()
    np.testing.assert_allclose(float(calls.brier_score(z, y)), brier, 1e-6)


def test_a_million_examples_in_float32():
    p = np.float32(0.7)
    z = np.zeros((10**6, 2), "f4")
    z[:, 0] = np.log(p / (1 - p))
    y = (np.arange(10**6) % 10 < 6).astype(int) ^ 1
    got = jax.jit(metrics.expected_calibration_error)(z, y)
    exact = 1 / (1 + np.exp(-z[0, 0].astype("f8")))
    np.testing.assert_allclose(got, exact - 0.6, rtol=1e-6)


def test_edges():
    z, y = draw(8, (6, 3), dtype="f4")
    ece, bins = calls.expected_calibration_error, calls.calibration_bins
    nothing = np.zeros(6, bool)
    for binning in ("width", "mass"):
        assert ece(z, y, mask=nothing, binning=binning) == 0
        assert ece(z[:0], y[:0]) == 0
    assert calls.classwise_ece(z, y, mask=nothing) == 0
    assert calls.debiased_ece(z[:1], y[:1]) == ece(z[:1], y[:1])
    terms = calls.brier_decomposition(bins(z, y, mask=nothing))
    assert all(term == 0 for term in terms.values())
    assert np.isnan(calls.reliability_bins(bins(z[:0], y[:0]))["accuracy"]).all()
    # One class is always right and sure of it.
    assert ece(z[:, :1], y * 0) == 0
    assert float(calls.brier_score(z[:, :1], y * 0)) == 0
    assert ece(z, y, bins=1) == pytest.approx(abs(np.subtract(*top(z, y)).mean()), 1e-5)
    # A row without classes is left out; a hidden label was wrong.
    empty = np.vstack([z, np.full((1, 3), -np.inf, "f4")])
    assert ece(empty, np.append(y, 0)) == ece(z, y)
    hidden = np.float32([[0, -np.inf]])
    assert ece(hidden, np.array([1])) == 1
    assert float(calls.brier_score(hidden, np.array([1]))) == 2
    assert float(calls.nll(hidden, np.array([1]))) == np.inf
    # No label, a label under jit that is none, and a NaN make a NaN.
    broken = np.vstack([z, np.full((1, 3), np.nan, "f4")])
    for score in (ece, calls.classwise_ece, calls.debiased_ece, calls.brier_score):
        assert np.isnan(float(score(z, np.where(y == 0, -1, y))))
        assert np.isnan(float(score(broken, np.append(y, 0))))
    traced = interpreted(metrics.expected_calibration_error)
    assert np.isnan(traced(z, np.full(6, 3)))
    full = bins(z, y)._replace(counts=np.full(15, 2**25, "i4"))
    assert np.isnan(calls.calibration_error(full))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda z, y: calibration_bins(z, y, bins=0), ValueError, "bins is 0, expect"),
        (
            lambda z, y: metrics.classwise_ece(z, y, bins=2.5),
            TypeError,
            "bins is 2.5, expected a Python integer of at least 1",
        ),
        (
            lambda z, y: calibration_bins(z, y, closed="both"),
            ValueError,
            "closed is 'both', expected 'left' or 'right'",
        ),
        (
            lambda z, y: metrics.expected_calibration_error(z, y, norm="l3"),
            ValueError,
            "norm is 'l3', expected 'l1', 'l2' or 'max'",
        ),
        (
            lambda z, y: metrics.expected_calibration_error(z, y, binning="size"),
            ValueError,
            "binning is 'size', expected 'width' or 'mass'",
        ),
        (
            lambda z, y: metrics.calibration_error(
                calibration_bins(z, y), debiased=True
            ),
            ValueError,
            "norm is 'l1', expected 'l2' for a debiased error",
        ),
        (lambda z, y: metrics.nll(z, y + 3), ValueError, "labels outside"),
        (lambda z, y: metrics.brier_score(z, y[:1]), ValueError, r"shape \(1,\), exp"),
        (lambda z, y: calibration_bins(z, z), TypeError, "labels has dtype float"),
        (
            lambda z, y: metrics.classwise_ece(z, y, mask=y),
            TypeError,
            "mask has dtype int",
        ),
        (lambda z, y: calibration_bins(y, y), TypeError, "logits has dtype int"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros((2, 3), "f4"), np.array([0, 2]))
