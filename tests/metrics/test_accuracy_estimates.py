import jax
import numpy as np
import pytest
from harness import goldens
from harness.derivatives import check_derivatives
from harness.interpreter import functions, interpreted
from scipy.optimize import linear_sum_assignment
from scipy.special import softmax

from logitlab import metrics
from logitlab.metrics import accuracy_estimates, confidence_bins, retraining

calls = functions(accuracy_estimates, retraining, confidence_bins)


def draw(seed, *shape, scale=2.0):
    return np.random.default_rng(seed).normal(size=shape) * scale


def transported(p, labels):
    """Error rate by linear assignment of one label to each row."""
    cost = 1 - p[:, labels]
    return cost[linear_sum_assignment(cost)].mean()


@pytest.mark.parametrize("case", goldens.cases("accuracy_estimation"))
def test_golden(x64, case):
    names = "source_logits", "source_labels", "target_logits", "cot_labels"
    source, y, z, drawn = goldens.arrays(case, *names)
    want, bins = case["outputs"], case["params"]["num_bins_im"]
    wrong = source.argmax(-1) != y
    for kind, score, probability in (
        ("mc", metrics.log_odds_score, lambda s: 1 / (1 + np.exp(-s))),
        ("ne", metrics.neg_entropy_score, lambda s: s),
    ):
        known, unknown = (interpreted(score)(a) for a in (source, z))
        threshold = calls.fit_atc(known, wrong)
        got = calls.atc_accuracy(unknown, threshold).value
        if wrong.any():
            goldens.close(probability(threshold), want[f"atc_{kind}_threshold"])
            goldens.close(got, want[f"atc_{kind}_accuracy"])
        else:  # there 0 stays the threshold, whatever the score
            assert threshold == -np.inf
            assert got == 1
    goldens.close(calls.average_confidence(z).value, want["average_confidence"])
    gap = calls.fit_confidence_gap(source, y)
    got = calls.difference_of_confidences(z, gap).value
    goldens.close(got, want["doc_accuracy"])
    counts = calls.calibration_bins(source, y, bins=bins)
    got = calls.importance_reweighting(z, counts).value
    goldens.close(got, want["im_accuracy"])
    due = np.bincount(drawn, minlength=z.shape[-1])
    goldens.close(calls.cot_error(z, due), want["cot_error"])


def test_estimates_add_up_over_batches(x64):
    z, y, unknown = draw(0, 20, 4), np.arange(20) % 4, draw(1, 15, 4)
    whole = calls.fit_confidence_gap(z, y)
    parts = calls.fit_confidence_gap(z[:7], y[:7])
    parts += calls.fit_confidence_gap(z[7:], y[7:])
    np.testing.assert_allclose(parts, whole, 1e-12)
    p = softmax(z, -1)
    want = (p.argmax(-1) == y).mean() - p.max(-1).mean()
    np.testing.assert_allclose(whole.value, want, 1e-12)
    source = calls.calibration_bins(z, y, bins=5)
    scores = unknown.max(-1)
    for estimate in (
        calls.average_confidence,
        lambda z: calls.difference_of_confidences(z, whole),
        lambda z: calls.importance_reweighting(z, source),
        lambda z: calls.atc_accuracy(z.max(-1), 1.0),
        lambda z: calls.agreement_score(z, z[:, ::-1] + z),
    ):
        total = estimate(unknown[:6]) + estimate(unknown[6:])
        np.testing.assert_allclose(total, estimate(unknown), 1e-12)
    assert calls.atc_accuracy(scores, 1.0).sum == (scores >= 1).sum()


def test_masks_select_and_axes_move(x64):
    z, y = draw(2, 12, 4), np.arange(12) % 4
    mask, where = np.arange(12) % 5 > 0, np.array([[True, True, False, True]])
    few = np.where(mask[:, None], z, np.nan)
    few_y = np.where(mask, y, 99)
    source = calls.calibration_bins(z, y, bins=4)
    gap, options = calls.fit_confidence_gap(z, y), dict(mask=mask, where=where)
    shown = np.where(where, z, -np.inf)[mask]
    due = np.array([4, 3, 0, 2])
    for estimate in (
        calls.average_confidence,
        lambda z, **o: calls.difference_of_confidences(z, gap, **o),
        lambda z, **o: calls.importance_reweighting(z, source, **o),
        lambda z, **o: calls.agreement_score(z, -z, **o),
        lambda z, **o: calls.cot_error(z, due, **o),
    ):
        want = estimate(shown)
        np.testing.assert_allclose(estimate(few, **options), want, 1e-12)
        got = estimate(few.T, axis=0, mask=mask, where=where.T)
        np.testing.assert_allclose(got, want, 1e-12)
    got = calls.fit_confidence_gap(few, few_y, **options)
    np.testing.assert_allclose(got, calls.fit_confidence_gap(shown, y[mask]), 1e-12)
    scores = np.where(mask, z[:, 0], np.nan)
    got = calls.fit_atc(scores, z[:, 1] > 0, mask=mask)
    assert got == calls.fit_atc(z[mask, 0], z[mask, 1] > 0)


@pytest.mark.parametrize("scale", [0.0, 1.0, 4.0])
@pytest.mark.parametrize("classes", [1, 2, 5])
def test_cot_is_an_assignment(x64, scale, classes):
    rng = np.random.default_rng(classes)
    z = draw(classes, 24, classes, scale=scale) + 2 * np.arange(classes)
    labels = rng.integers(0, classes, 24)
    due = np.bincount(labels, minlength=classes)
    want = transported(softmax(z, -1), labels)
    np.testing.assert_allclose(calls.cot_error(z, due), want, 0, 1e-10)
    # Shares count; what does not go up is rounded by largest remainders.
    np.testing.assert_allclose(calls.cot_error(z, due * 3), want, 0, 1e-10)
    single = calls.cot_error(z.astype("f4"), due)
    np.testing.assert_allclose(single, want, 0, 1e-6)


def test_cot_rounds_shares():
    p = np.float32([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4]])
    for due, want in (
        ([1, 1], 1 - 2.1 / 3),  # 1.5 and 1.5: the first gets the odd one
        ([1, 5], 1 - 1.2 / 3 - 0.1),  # 0.5 and 2.5
        ([0, 1], 1 - 0.7 / 3),
    ):
        got = calls.cot_error(np.log(p), np.array(due))
        if due == [1, 5]:
            want = min(1 - (0.9 + 0.2 + 0.4) / 3, 1 - 0.7 / 3)
        np.testing.assert_allclose(got, want, 1e-5)
    assert np.isnan(calls.cot_error(p, np.zeros(2)))
    assert np.isnan(calls.cot_error(np.float32([[np.nan, 1], [0, 1]]), np.ones(2)))
    assert calls.cot_error(p[:0], np.ones(2)) == 0


def test_derivatives(x64):
    z = draw(3, 8, 3)
    check_derivatives(lambda z: metrics.average_confidence(z).value, z, order=1)
    gap = metrics.Mean(0.3, 2)
    check_derivatives(
        lambda z: metrics.difference_of_confidences(z, gap).value, z, order=1
    )
    due = np.array([1, 3, 4])
    check_derivatives(lambda z: metrics.cot_error(z, due), z, order=1)


def test_confident_models_in_float32():
    """A gap of 1e-18 is not lost beside a confidence that is 1."""
    z = np.zeros((6, 3), "f4")
    z[:, 0] = 40
    y = np.zeros(6, int)
    gap = calls.fit_confidence_gap(z, y)
    np.testing.assert_allclose(gap.value, 2 * np.exp(-40.0), 1e-5)
    # Margins of 30 to 60: a softmax would tie, and half of the errors be missed.
    margins = np.linspace(30, 60, 50, dtype="f4")
    z = np.stack([margins, 0 * margins], -1)
    scores = interpreted(metrics.log_odds_score)(z)
    threshold = calls.fit_atc(scores, margins < 40)
    wrong = (margins < 40).sum()
    assert calls.atc_accuracy(scores, threshold).sum == 50 - wrong + 1
    assert calls.average_confidence(z).value == 1
    p = softmax(z.astype("f8"), -1)
    labels = np.repeat([0, 1], 25)
    np.testing.assert_allclose(
        calls.cot_error(z, np.array([25, 25])), transported(p, labels), 1e-6
    )


def test_edges():
    none = np.zeros((0, 3), "f4")
    assert np.isnan(calls.average_confidence(none).value)
    assert calls.fit_atc(none[:, 0], np.zeros(0, bool)) == -np.inf
    source = calls.calibration_bins(none, np.zeros(0, int), bins=3)
    assert calls.importance_reweighting(np.ones((2, 3), "f4"), source).count == 0
    broken = np.float32([[np.nan, 0, 1], [0, 1, 2]])
    assert calls.agreement_score(broken, broken).value == 0.5
    full = calls.calibration_bins(np.eye(3, dtype="f4"), np.arange(3), bins=3)
    assert np.isnan(calls.importance_reweighting(broken, full).value)
    y = np.array([-100, 2])  # one without a label is never right
    gap = calls.fit_confidence_gap(np.float32([[9, 0, 0], [0, 0, 90]]), y)
    np.testing.assert_allclose(gap.value, -softmax([9, 0, 0])[0] / 2, 1e-5)


def logits_fn(params, x):
    return x @ params["w"]


def test_projection_norm(x64):
    """Against the loop written out; the gradient of a linear softmax is known."""
    x, y = draw(4, 10, 3), np.arange(10) % 2
    start = {"w": draw(5, 3, 2)}
    steps, rate, key = 6, 0.1, jax.random.key(0)
    options = dict(key=key, learning_rate=rate, steps=steps, batch_size=5)
    got = metrics.fit_pseudo_labels(logits_fn, start, x, y, **options)
    orders = [np.array(jax.random.permutation(k, 10)) for k in jax.random.split(key, 3)]
    w, velocity = start["w"], 0
    for k, at in enumerate(np.concatenate(orders).reshape(steps, 5)):
        slope = x[at].T @ (softmax(x[at] @ w, -1) - np.eye(2)[y[at]]) / 5
        velocity = 0.9 * velocity + slope
        w = w - rate * (1 + np.cos(np.pi * k / steps)) / 2 * velocity
    np.testing.assert_allclose(got["w"], w, 1e-10)
    norm = metrics.projection_norm(got, start)
    np.testing.assert_allclose(norm, np.linalg.norm(w - start["w"]), 1e-10)
    assert metrics.projection_norm(got, got) == 0


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda z: metrics.fit_atc(z, z), TypeError, "errors has dtype float32"),
        (
            lambda z: metrics.importance_reweighting(
                z, metrics.calibration_bins(z, np.zeros(2, int), classwise=True)
            ),
            ValueError,
            r"source has bins of shape \(3, 15\), expected one row",
        ),
        (lambda z: metrics.agreement_score(z, z[:1]), ValueError, "other_logits has"),
        (lambda z: metrics.cot_error(z, np.ones(2)), ValueError, "label_counts has"),
        (lambda z: metrics.cot_error(z, -np.ones(3)), ValueError, "label_counts is"),
        (
            lambda z: metrics.fit_confidence_gap(z, np.array([0, 3])),
            ValueError,
            r"labels outside \[0, 3\)",
        ),
        (
            lambda z: metrics.fit_pseudo_labels(
                logits_fn, {}, z, np.zeros(3, int), key=None
            ),
            ValueError,
            r"inputs, labels have shapes \(2, 3\), \(3,\)",
        ),
        (
            lambda z: metrics.fit_pseudo_labels(
                logits_fn, {}, z, np.zeros(2, int), key=None, steps=0
            ),
            ValueError,
            "steps is 0, expected at least 1",
        ),
        (lambda z: metrics.projection_norm(z, z[0]), ValueError, "array of shape"),
    ],
)
def test_bad_arguments(call, error, message):
    with pytest.raises(error, match=message):
        call(np.zeros((2, 3), "f4"))
