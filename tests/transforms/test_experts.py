import jax
import numpy as np
import pytest
import scipy.special
from harness import goldens
from harness.interpreter import functions, interpreted

from logitlab import estimators, metrics, transforms

calls = functions(transforms)


@pytest.mark.parametrize("case", goldens.cases("amu_fusion"))
def test_golden_fusion(case, x64):
    base, bias = (np.array(case["inputs"][n]) for n in ("clip_logits", "aux_logits"))
    p, want = case["params"], case["outputs"]
    fused = calls.logit_bias_fusion(
        base,
        bias,
        alpha=p["alpha"],
        uncertainty=p["uncertainty"].replace("-", "_"),
        power=p["power"],
        eps=0.0,
    )
    goldens.close(fused, want["fused_logits"])


def test_uncertainties_by_hand(x64):
    sure = np.array([1000.0, 0, 0, 0])  # a kurtosis of 1.3125
    bias = np.array([1.0, 2, 3, 4])
    standard = (bias - 2.5) / bias.std(ddof=1)
    fuse = lambda z, **o: calls.logit_bias_fusion(z, bias, alpha=1.0, eps=0.0, **o)  # noqa: E731
    moment = fuse(sure) - sure
    np.testing.assert_allclose(moment, (1.3125 / 250) ** -0.4 * standard, rtol=1e-9)
    z = np.array([0.5, 1, 0, -1])
    q = scipy.special.softmax(z)
    factors = {
        "energy": (2 * np.log(np.exp(q / 2).sum()) + q.max()) ** -0.4,
        "deviation": q.std(ddof=1) ** -0.4,
        "top5": (q.max() - q.min()) ** -0.4,
        "entropy": np.exp(0.4 * scipy.stats.entropy(q) / np.log(4)),
    }
    for name, factor in factors.items():
        got = fuse(z, uncertainty=name) - z
        np.testing.assert_allclose(got, factor * standard, rtol=1e-9, err_msg=name)


def test_fusion_at_extremes():
    bias = np.float32([[3, 3, 3, 3], [1, 2, 3, -np.inf], [1e30, 0, 0, 0]])
    base = np.float32([[1, 2, 3, 4], [1, 2, 3, 4], [0, 0, 0, 0]])
    where = np.arange(4) < 3
    names = ("moment", "entropy", "energy", "max", "max_min", "top5", "deviation")
    for name in names:
        fused = calls.logit_bias_fusion(base, bias, uncertainty=name)
        np.testing.assert_array_equal(np.isinf(fused), np.isinf(bias), name)
        np.testing.assert_array_equal(fused[0], base[0])  # a bias that is constant
        few = calls.logit_bias_fusion(base[:, :3], bias[:, :3], uncertainty=name)
        cut = calls.logit_bias_fusion(base, bias, uncertainty=name, where=where[None])
        np.testing.assert_allclose(cut[:, :3], few, rtol=1e-5)
        assert (cut[:, 3] == -np.inf).all()
        slope = jax.grad(
            lambda z, name=name: calls.logit_bias_fusion(
                z, bias[2], uncertainty=name
            ).sum()
        )(base[2])
        assert np.isfinite(slope).all(), name
    np.testing.assert_array_equal(
        calls.logit_bias_fusion(base, bias[:1].repeat(3, 0), alpha=0.0), base
    )
    with pytest.raises(ValueError, match="uncertainty is 'mean'"):
        transforms.logit_bias_fusion(base, bias, uncertainty="mean")
    with pytest.raises(ValueError, match=r"bias_logits has shape \(4,\)"):
        transforms.logit_bias_fusion(base, bias[0])


@pytest.mark.parametrize("case", goldens.cases("drm_combine"))
def test_golden_drm(case, x64):
    z = np.moveaxis(np.array(case["inputs"]["head_logits"]), 0, -2)
    got = np.exp(calls.drm_predict(z, gamma=case["params"]["gamma"]))
    goldens.close(got, case["outputs"]["combined"])


def test_drm_of_heads_that_are_sure():
    z = np.float32([[80, 0, 0], [0, 80, 0], [0, 0, 0]])
    for gamma in (-1.0, 0.0, 1.0, 5.0):
        for shared in (False, True):
            got = calls.drm_predict(z, gamma=gamma, include_shared=shared)
            assert not np.isnan(got).any()
            assert np.exp(got).sum() <= 1 + 1e-6
    with_shared = calls.drm_predict(z, gamma=0.0, include_shared=True)
    mean = scipy.special.softmax(z, -1).mean(0)
    np.testing.assert_allclose(np.exp(with_shared), mean, rtol=1e-5)
    traced = jax.jit(transforms.drm_predict)
    np.testing.assert_allclose(traced(z, gamma=-1.0), calls.drm_predict(z), rtol=1e-6)
    with pytest.raises(ValueError, match="D > 0"):
        transforms.drm_predict(z[:1])


def test_scores_weigh_experts(x64):
    rng = np.random.default_rng(0)
    z, mean, log_std = rng.normal(size=(3, 6, 4)), *rng.normal(size=(2, 3, 6))
    p = scipy.special.softmax(z, -1)
    share = scipy.special.softmax(mean / 0.3, 0)[..., None]
    fuse = lambda **o: calls.gaussian_scoring_integration(  # noqa: E731
        z, mean, log_std, temperature=0.3, **o
    )
    np.testing.assert_allclose(np.exp(fuse()), (share * p).sum(0), rtol=1e-12)
    same = calls.gaussian_scoring_integration(z, np.zeros((3, 6)), log_std)
    np.testing.assert_allclose(np.exp(same), p.mean(0), rtol=1e-12)
    draws = [np.exp(fuse(key=jax.random.key(i))) for i in range(2)]
    assert np.abs(draws[0] - draws[1]).max() > 1e-2
    with pytest.raises(ValueError, match=r"log_std has shape \(6,\)"):
        transforms.gaussian_scoring_integration(z, mean, log_std[0])


def test_weights_for_each_example_and_scales(x64):
    rng = np.random.default_rng(0)
    z, w, s = (
        rng.normal(size=(3, 6, 4)),
        rng.uniform(size=(3, 6)),
        np.array([1, 2, 0.5]),
    )
    for mode in ("probability", "logit"):
        each = calls.ensemble_logits(z, mode=mode, weights=w, scales=s)
        alone = [
            calls.ensemble_logits(z[:, i] * s[:, None], mode=mode, weights=w[:, i])
            for i in range(6)
        ]
        np.testing.assert_allclose(each, alone, rtol=1e-12)
    with pytest.raises(ValueError, match=r"scales has shape \(2,\), expected \(3,\)"):
        transforms.ensemble_logits(z, scales=s[:2])
    with pytest.raises(ValueError, match=r"weights has shape \(6,\)"):
        transforms.ensemble_logits(z, weights=w[0])


def test_match_scale_makes_members_alike(x64):
    z = np.random.default_rng(0).normal(size=(3, 50, 4)) * [[[1]], [[8]], [[0.3]]]
    spread = lambda z: np.sqrt(((z - z.mean(-1, keepdims=True)) ** 2).mean((1, 2)))  # noqa: E731
    factors = calls.match_scale(z)
    matched = spread(z * factors[:, None, None])
    np.testing.assert_allclose(matched, np.exp(np.log(spread(z)).mean()), rtol=1e-12)
    sure = lambda z: scipy.special.softmax(z, -1).max(-1).mean(-1)  # noqa: E731
    factors = calls.match_scale(z, how="confidence")
    np.testing.assert_allclose(
        sure(z * factors[:, None, None]), sure(z).mean(), rtol=1e-9
    )
    kept = np.arange(50) < 30
    junk = np.where(kept[:, None], z, np.nan)
    for how in ("std", "confidence"):
        np.testing.assert_allclose(
            calls.match_scale(junk, how=how, mask=kept),
            calls.match_scale(z[:, :30], how=how),
            rtol=1e-9,
        )
    flat = calls.match_scale(np.stack([z[0], np.ones((50, 4))]).astype("f4"))
    assert flat[1] == 1
    large = calls.match_scale(np.float32([z[0], 1e30 * z[0]]))
    np.testing.assert_allclose(large[0] / large[1], 1e30, rtol=1e-5)
    with pytest.raises(ValueError, match="how is 'max'"):
        transforms.match_scale(z, how="max")


def test_sade_finds_the_expert_that_is_steady():
    rng = np.random.default_rng(0)
    steady = 3 * np.eye(5, dtype="f4")[rng.integers(0, 5, 40)]
    noise = 3 * rng.normal(size=(2, 2, 40, 5)).astype("f4")
    views = [np.stack([steady, *noise[i]]) for i in range(2)]
    w = estimators.sade_weights(*views, steps=200)
    np.testing.assert_allclose(w.sum(), 1, rtol=1e-6)
    assert w[0] > 0.5
    # It stops as soon as one weight falls below the floor.
    assert 0.02 < w.min() < 0.05
    np.testing.assert_allclose(
        estimators.sade_weights(*views, floor=0.4), 1 / 3, rtol=1e-6
    )
    keep = np.arange(40) < 20
    junk = [np.where(keep[:, None], v, np.nan) for v in views]
    np.testing.assert_allclose(
        estimators.sade_weights(*junk, mask=keep, steps=5),
        estimators.sade_weights(*(v[:, keep] for v in views), steps=5),
        rtol=1e-4,
    )
    with pytest.raises(ValueError, match="other_logits has shape"):
        estimators.sade_weights(views[0], views[1][:1])


def test_stability_is_a_cosine(x64):
    a, b = np.random.default_rng(0).normal(size=(2, 6, 4))
    p, q = scipy.special.softmax(a, -1), scipy.special.softmax(b, -1)
    want = (p * q).sum(-1) / np.linalg.norm(p, axis=-1) / np.linalg.norm(q, axis=-1)
    got = interpreted(metrics.prediction_stability)(a, b)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    np.testing.assert_allclose(metrics.prediction_stability(a, a), 1, rtol=1e-12)


def test_prior_of_a_model_of_known_bias():
    rng = np.random.default_rng(0)
    prior = np.array([0.5, 0.3, 0.15, 0.05])
    y = rng.integers(0, 4, 4000)
    # Bayes' rule under the wrong prior, from features of known likelihood.
    x = 1.5 * np.eye(4)[y] + rng.normal(size=(4000, 4))
    z = (1.5 * x + np.log(prior)).astype("f4")
    found = estimators.estimate_label_prior(z, y)
    np.testing.assert_allclose(found, prior, rtol=0.15)
    np.testing.assert_allclose(found.sum(), 1, rtol=1e-6)
    keep = np.arange(4000) < 1000
    part = estimators.estimate_label_prior(
        np.where(keep[:, None], z, np.nan), y, mask=keep
    )
    np.testing.assert_allclose(
        part, estimators.estimate_label_prior(z[:1000], y[:1000]), rtol=1e-3
    )
    none = estimators.estimate_label_prior(z[:0], y[:0])
    np.testing.assert_allclose(none, 0.25)
