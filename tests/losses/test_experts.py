import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import goldens
from harness.interpreter import functions, interpreted

from logitlab import losses, metrics, weights
from logitlab.losses import imbalance

calls = functions(imbalance)


@pytest.mark.parametrize("case", goldens.cases("sade_loss"))
def test_golden_sade(case, x64):
    z, y, counts = (
        np.array(case["inputs"][name])
        for name in ("expert_logits", "labels", "class_counts")
    )
    want, tau = case["outputs"], case["params"]["tau"]

    def loss(z):
        each = calls.sade_loss(z, y, counts, tau=tau)
        return each.mean(0).sum(), each

    (total, each), grad = interpreted(jax.value_and_grad(loss, has_aux=True))(z)
    goldens.close(total, want["loss"])
    goldens.close(each, want["per_example"])
    goldens.close(grad, want["grad_expert_logits"])
    prior = weights.inverse_prior(counts / counts.sum())
    goldens.close(prior, want["inverse_prior"])


@pytest.mark.parametrize("case", goldens.cases("amu_fusion"))
def test_golden_amu(case, x64):
    base, bias, y = (
        np.array(case["inputs"][name])
        for name in ("clip_logits", "aux_logits", "labels")
    )
    p, want = case["params"], case["outputs"]
    options = dict(
        uncertainty=p["uncertainty"].replace("-", "_"), power=p["power"], eps=0.0
    )

    def loss(bias):
        share, alpha = p["lambda_merge"], p["alpha"]
        return calls.multi_branch_loss(
            base, bias, y, merge_weight=share, alpha=alpha, **options
        ).mean()

    value, grad = interpreted(jax.value_and_grad(loss))(bias)
    goldens.close(value, want["loss"])
    goldens.close(grad, want["grad_aux_logits"])


def test_sade_of_equal_counts_and_of_missing_classes():
    z = np.random.default_rng(0).normal(size=(4, 3, 5)).astype("f4")
    y = np.array([0, 1, 2, 4])
    same = calls.sade_loss(z, y, np.full(5, 7))
    want = losses.cross_entropy(z, np.repeat(y[:, None], 3, 1))
    np.testing.assert_allclose(same, want, rtol=1e-5)
    none = calls.sade_loss(z, y, np.zeros(5, int))
    np.testing.assert_allclose(none, want, rtol=1e-5)
    assert np.isfinite(calls.sade_loss(z, y, [9, 3, 0, 0, 0])).all()
    with pytest.raises(ValueError, match=r"expected \[..., 3, C\]"):
        losses.sade_loss(z[:, :2], y, np.ones(5))
    with pytest.raises(ValueError, match=r"labels has shape \(2,\), expected \(4,\)"):
        losses.sade_loss(z, y[:2], np.ones(5))
    with pytest.raises(ValueError, match="an axis of heads"):
        losses.sade_loss(z[0, 0], 0, np.ones(5))


def test_drm_takes_its_domains_head_and_the_shared_one(x64):
    rng = np.random.default_rng(0)
    z, y, d = rng.normal(size=(6, 4, 5)), rng.integers(0, 5, 6), rng.integers(0, 3, 6)
    log_p = z - np.log(np.exp(z).sum(-1, keepdims=True))
    want = [-(log_p[i, d[i], y[i]] + log_p[i, 3, y[i]]) / 2 for i in range(6)]
    np.testing.assert_allclose(calls.drm_loss(z, y, d), want, rtol=1e-12)
    # Heads of other domains get nothing, not even from what is infinite there.
    other = np.where(np.arange(4)[:, None] == (d[:, None, None] + 1) % 3, np.inf, z)
    grad = interpreted(jax.grad(lambda z: losses.drm_loss(z, y, d).sum()))(other)
    used = np.isfinite(grad).all(-1)
    assert used[np.arange(6), d].all()
    assert used[:, 3].all()
    unknown = losses.drm_loss(z, y, np.where(d == 0, -1, d))
    np.testing.assert_array_equal(np.isnan(unknown), d == 0)
    with pytest.raises(ValueError, match="domains has 3, expected ids below 3"):
        losses.drm_loss(z, y, np.full(6, 3))
    with pytest.raises(ValueError, match=r"domains has shape \(5,\)"):
        losses.drm_loss(z, y, d[1:])
    with pytest.raises(ValueError, match="D > 0"):
        losses.drm_loss(z[:, :1], y, d)


def test_mixup_is_cross_entropy_of_mixed_targets(x64):
    rng = np.random.default_rng(0)
    z, share = rng.normal(size=(6, 4)), rng.uniform(size=6)
    one, other = rng.integers(0, 4, (2, 6))
    targets = share[:, None] * np.eye(4)[one] + (1 - share)[:, None] * np.eye(4)[other]
    want = losses.cross_entropy(z, 0.8 * targets + 0.2 / 4)
    got = calls.mixup_smoothing_loss(z, one, other, share, eps=0.2)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    alone = calls.mixup_smoothing_loss(z, one, np.full(6, -1), 1.0, eps=0.2)
    np.testing.assert_allclose(
        alone, losses.label_smoothing_loss(z, one, eps=0.2), rtol=1e-12
    )
    with pytest.raises(ValueError, match="share is 2"):
        losses.mixup_smoothing_loss(z, one, other, 2.0)


def test_gaussian_score_is_a_likelihood(x64):
    import scipy.stats

    rng = np.random.default_rng(0)
    mean, log_std, t = rng.normal(size=(3, 7))
    want = -scipy.stats.norm.logpdf(t, mean, np.exp(log_std)) - np.log(2 * np.pi) / 2
    np.testing.assert_allclose(
        calls.gaussian_score_loss(mean, log_std, t), want, rtol=1e-12
    )
    slope = jax.grad(
        lambda s: losses.gaussian_score_loss(jnp.zeros(2), s, jnp.zeros(2)).sum()
    )
    np.testing.assert_array_equal(slope(jnp.array([-9.0, 3.0])), 0)
    with pytest.raises(ValueError, match=r"target has shape \(2,\)"):
        losses.gaussian_score_loss(mean, log_std, t[:2])


def test_false_false_true_counts_by_hand():
    one = np.float32([[0, 2, 3], [0, 2, 3], [5, 0, 0], [0, 2, 3]])
    other = np.float32([[3, 2, 0], [3, 2, 0], [5, 0, 0], [0, 5, 0]])
    y = np.array([1, 0, 1, 1])
    rate = metrics.false_false_true(one, other, one + other, y)
    assert (rate.sum, rate.count) == (1, 4)
    mask = np.array([False, True, True, True])
    assert float(metrics.false_false_true(one, other, one + other, y, mask=mask)) == 0
    with pytest.raises(ValueError, match="labels has shape"):
        metrics.false_false_true(one, other, one, y[:2])
