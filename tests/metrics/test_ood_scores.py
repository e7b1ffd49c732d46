import functools

import jax
import numpy as np
import pytest
from harness import goldens
from harness.derivatives import check_derivatives, value_and_grad
from harness.interpreter import functions, interpreted
from scipy.special import log_softmax, logsumexp, softmax

from logitlab import metrics
from logitlab.metrics import activations, ood_scores

calls = functions(ood_scores, activations)


def draw(seed, *shape, scale=3.0):
    return np.random.default_rng(seed).normal(size=shape) * scale


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", goldens.cases("ood_scores"))
def test_golden(x64, case):
    (z,), params = goldens.arrays(case, "logits"), case["params"]
    gamma, top_m = params["gen_gamma"], params["gen_top_m"]
    hot = params["odin_T"]

    @interpreted
    def run(z):
        same = functools.partial(metrics.odin_score, lambda x: x, temperature=hot)
        return {
            "msp": jax.numpy.exp(metrics.msp_score(z)),
            "max_logit": metrics.max_logit_score(z),
            "energy": metrics.energy_score(z, temperature=params["energy_T"]),
            "gen": metrics.gen_score(z, gamma=gamma, top_m=top_m),
            "odin_no_perturbation": jax.numpy.exp(same(z, eps=0.0)),
            "neg_entropy": metrics.neg_entropy_score(z),
        }

    got = run(z)
    assert got.keys() == case["outputs"].keys()
    for name, value in got.items():
        np.testing.assert_allclose(value, case["outputs"][name], 1e-8, err_msg=name)


def oracles(z):
    """What float64 makes of moderate logits, written plainly."""
    p = softmax(z, -1)
    top, second = np.sort(p, -1)[:, ::-1][:, :2].T
    upper, lower = np.sort(z, -1)[:, ::-1][:, :2].T
    g = 1 - (p * p).sum(-1)
    return {
        "log_odds_score": np.log(top / (1 - top)),
        "msp_score": np.log(top),
        "max_logit_score": z.max(-1),
        "energy_score": logsumexp(z, -1),
        "neg_entropy_score": (p * np.log(p)).sum(-1),
        "logit_margin_score": upper - lower,
        "probability_margin_score": top - second,
        "gen_score": -(p**0.1 * (1 - p) ** 0.1).sum(-1),
        "doctor_alpha_score": -g / (1 - g),
    }


@pytest.mark.parametrize("name", oracles(np.zeros((1, 2))))
def test_scores(x64, name):
    z, score = draw(0, 20, 6), getattr(calls, name)
    want = oracles(z)[name]
    np.testing.assert_allclose(score(z), want, 1e-10)
    np.testing.assert_allclose(score(z.T, axis=0), want, 1e-10)
    where = np.array([[True, False, True, True, False, True]])
    shown = oracles(z[:, where[0]])[name]
    np.testing.assert_allclose(score(z, where=where), shown, 1e-10)
    np.testing.assert_allclose(score(z.astype("f4")), want, 2e-4)
    assert score(z.astype("f4")).dtype == np.float32


def slopes(z):
    """Gradients of the scores in the logits, written plainly."""
    p, classes = softmax(z, -1), np.eye(z.shape[-1])
    first, second = classes[np.argsort(-z, -1)[:, :2]].swapaxes(0, 1)

    def through(slope):  # in the probabilities
        return p * (slope - (p * slope).sum(-1, keepdims=True))

    square = (p * p).sum(-1, keepdims=True)
    return {
        "log_odds_score": first - softmax(np.where(first > 0, -np.inf, z), -1),
        "msp_score": first - p,
        "max_logit_score": first,
        "energy_score": p,
        "neg_entropy_score": through(np.log(p)),
        "logit_margin_score": first - second,
        "probability_margin_score": through(first - second),
        "gen_score": through(-0.1 * (p * (1 - p)) ** -0.9 * (1 - 2 * p)),
        "doctor_alpha_score": through(2 * p / square**2),
    }


@pytest.mark.parametrize("name", slopes(np.zeros((1, 2))))
def test_slopes(x64, name):
    z, score = draw(7, 20, 6), getattr(ood_scores, name)
    value, slope = value_and_grad(score, z)
    np.testing.assert_allclose(value, oracles(z)[name], 1e-10)
    np.testing.assert_allclose(slope, slopes(z)[name], 1e-9, 1e-13)
    # A hidden class has none, and rows may have no class at all.
    where = np.array([True, False, True, True, False, True])
    slope = value_and_grad(score, np.where(where, z, -np.inf))[1]
    np.testing.assert_allclose(slope[:, where], slopes(z[:, where])[name], 1e-9, 1e-13)
    assert (slope[:, ~where] == 0).all()
    value, slope = value_and_grad(score, np.full((2, 3), -np.inf))
    assert not np.isnan(value).any()
    assert np.isfinite(slope).all()


def test_slopes_of_the_others(x64):
    z, h = draw(8, 7, 4), np.abs(draw(9, 6, 10))
    templates = metrics.kl_matching_templates(draw(3, 60, 4))
    check_derivatives(lambda z: metrics.kl_matching_score(z, templates), z, order=1)
    check_derivatives(
        lambda z: metrics.energy_score(z, temperature=0.7), z, order=1, rtol=1e-6
    )
    for kind in ("p", "b", "s"):
        check_derivatives(lambda h: metrics.ash_features(h, kind=kind), h, order=1)  # noqa: B023
    check_derivatives(lambda h: metrics.react_features(h, 2.0), h, order=1)


def test_closed_forms_at_the_edges():
    flat = np.zeros(4, "f4")
    np.testing.assert_allclose(np.exp(calls.msp_score(flat)), 1 / 4)
    np.testing.assert_allclose(calls.energy_score(flat), np.log(4), 1e-6)
    gen = calls.gen_score(flat, gamma=0.3)
    np.testing.assert_allclose(gen, -(4**0.7) * 0.75**0.3, 1e-6)
    assert calls.logit_margin_score(flat) == calls.probability_margin_score(flat) == 0
    big = np.float32([1e30, -1e30, 0])
    assert calls.energy_score(np.float32([1e4, 0])) == 1e4
    for name in oracles(np.zeros((1, 2))):
        for z in (flat, big, np.float32([-np.inf, 3, 1]), np.full(2, 1e30, "f4")):
            assert np.isfinite(getattr(calls, name)(z)), name
    one = np.float32([3.0])  # nothing else to take it for
    assert calls.log_odds_score(one) == calls.logit_margin_score(one) == np.inf
    assert calls.msp_score(one) == calls.gen_score(one) == 0
    assert calls.doctor_alpha_score(one) == calls.neg_entropy_score(one) == 0


@pytest.mark.parametrize("margin", [17.0, 45.0, 75.0])
def test_confident_examples_keep_their_digits(margin):
    z = np.float32([margin, 0, -1])
    rest = np.exp(-margin) * (1 + np.exp(-1))
    entropy = rest + np.exp(-margin) * (margin + (margin + 1) * np.exp(-1))
    np.testing.assert_allclose(calls.msp_score(z), -rest, 1e-5)
    np.testing.assert_allclose(calls.neg_entropy_score(z), -entropy, 1e-5)
    np.testing.assert_allclose(calls.doctor_alpha_score(z), -2 * rest, 1e-5)
    np.testing.assert_allclose(calls.log_odds_score(z), -np.log(rest), 1e-6)
    gen = -(rest**0.1) - np.exp(-0.1 * margin) * (1 + np.exp(-0.1))
    np.testing.assert_allclose(calls.gen_score(z), gen, 1e-5)


def test_ranks_survive_float32():
    """AUROC at mean margins of 45, where a plain softmax says .50."""
    rng = np.random.default_rng(0)
    z = np.zeros((2, 20_000, 10), "f4")
    z[..., 1:] = rng.normal(size=(2, 20_000, 9))
    z[..., 0] = rng.normal(size=(2, 20_000)) * 8 + np.float32([[51], [45]])
    z64 = z.astype("f8")
    others = logsumexp(z64[..., 1:], -1)
    p = np.exp(z64[..., 1:] - z64[..., :1])  # over the top class, which is sure
    exact = {
        "log_odds_score": z64[..., 0] - others,
        "msp_score": z64[..., 0] - others,  # of which it is a rising function
        "energy_score": logsumexp(z64, -1),
        "gen_score": -(p.sum(-1) ** 0.1) - (p**0.1).sum(-1),
    }
    plain = np.exp(z[..., 0] - logsumexp(z, -1))
    area = interpreted(metrics.auroc)
    assert abs(area(*plain) - 0.5) < 0.02
    for name, scores in exact.items():
        got = area(*interpreted(getattr(metrics, name))(z))
        with jax.enable_x64(True):
            want = area(*scores)
        assert want > 0.65
        np.testing.assert_allclose(got, want, rtol=0, atol=1e-4, err_msg=name)


def test_odin_steps_towards_the_prediction(x64):
    x, kernel = draw(1, 5, 3), draw(2, 3, 4)
    got = interpreted(
        lambda x: metrics.odin_score(
            lambda x: x @ kernel, x, temperature=10.0, eps=0.01, scale=np.full(3, 2.0)
        )
    )(x)
    p = softmax(x @ kernel / 10, -1)
    slope = (p - np.eye(4)[p.argmax(-1)]) @ kernel.T
    moved = x - 0.005 * np.sign(slope)
    want = log_softmax(moved @ kernel / 10, -1).max(-1)
    np.testing.assert_allclose(got, want, 1e-10)
    assert (got > log_softmax(x @ kernel / 10, -1).max(-1)).all()


def test_kl_matching(x64):
    known, z = draw(3, 60, 4), draw(4, 7, 4)
    whole = calls.kl_matching_templates(known)
    parts = calls.kl_matching_templates(known[:20])
    total = parts + calls.kl_matching_templates(known[20:])
    np.testing.assert_allclose(total.sum, whole.sum, 1e-12)
    p, q, top = softmax(known, -1), softmax(z, -1), known.argmax(-1)
    d = np.array([p[top == k].mean(0) for k in range(4)])
    np.testing.assert_allclose(whole.value, d, 1e-12)
    kl = (q[:, None] * np.log(q[:, None] / d)).sum(-1)
    np.testing.assert_allclose(calls.kl_matching_score(z, whole), -kl.min(-1), 1e-9)
    for row in (z[0], z[:1, None]):
        got = calls.kl_matching_score(row, whole)
        assert got.shape == row.shape[:-1]
        np.testing.assert_allclose(got, -kl[0].min(), 1e-9)
    # A class that was never predicted is not matched.
    mask = top != 0
    some = calls.kl_matching_templates(
        np.where(mask[:, None], known, np.nan), mask=mask
    )
    got = calls.kl_matching_score(z, some)
    np.testing.assert_allclose(got, -kl[:, 1:].min(-1), 1e-9)
    none = calls.kl_matching_templates(known[:0])
    assert (calls.kl_matching_score(z, none) == -np.inf).all()
    sure = np.float32([[45, 0], [44, 0], [0, 45]])
    template = calls.kl_matching_templates(sure)
    assert (calls.kl_matching_score(sure, template) < 1e-7).all()
    with pytest.raises(ValueError, match=r"sums of shape \(4, 4\), expected \(2, 2\)"):
        metrics.kl_matching_score(sure, whole)


def test_activations(x64):
    h = np.maximum(draw(5, 6, 10), 0)
    c = calls.react_threshold(h, quantile=0.85)
    np.testing.assert_allclose(c, np.quantile(h, 0.85), 1e-12)
    np.testing.assert_array_equal(calls.react_features(h, c), np.minimum(h, c))
    mask = np.arange(6) < 4
    kept = calls.react_threshold(np.where(mask[:, None], h, np.nan), mask=mask)
    np.testing.assert_allclose(kept, np.quantile(h[:4], 0.9), 1e-12)
    assert calls.react_threshold(h, mask=np.zeros(6, bool)) == np.inf
    h = np.abs(draw(6, 6, 10))
    keep = h >= np.sort(h, -1)[:, 7:8]  # three of ten
    total, rest = h.sum(-1, keepdims=True), (h * keep).sum(-1, keepdims=True)
    wants = {"p": h * keep, "b": keep * total / 3, "s": h * keep * np.exp(total / rest)}
    for kind, want in wants.items():
        got = calls.ash_features(h, prune=0.7, kind=kind)
        np.testing.assert_allclose(got, want, 1e-12)
    assert (calls.ash_features(np.zeros((2, 3))) == 0).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda z: metrics.gen_score(z, gamma=1.0),
            r"gamma is 1.0, expected in \(0, 1",
        ),
        (lambda z: metrics.gen_score(z, top_m=0), "top_m is 0, expected at least 1"),
        (lambda z: metrics.energy_score(z, temperature=0.0), "temperature is 0.0"),
        (lambda z: metrics.odin_score(lambda x: x, z, temperature=-1.0), "is -1.0"),
        (lambda z: metrics.ash_features(z, prune=1.0), "prune is 1.0"),
        (lambda z: metrics.ash_features(z, kind="x"), "kind is 'x'"),
        (lambda z: metrics.react_threshold(z, quantile=2.0), "quantile is 2.0"),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((2, 3), "f4"))
