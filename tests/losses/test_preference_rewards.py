import itertools

import jax
import numpy as np
import pytest
from harness.interpreter import functions

from logitlab import estimators, losses, rl, weights

losses, rl = functions(losses), functions(rl)
weights = functions(weights)


def test_unpaired_state(x64):
    rng = np.random.default_rng(0)
    rewards, keep = rng.normal(size=10), np.arange(10) % 3 != 0
    state = rl.RunningMean()
    for part in (slice(0, 4), slice(4, 5), slice(5, 10)):
        spoilt = np.where(keep, rewards, np.nan)[part]
        state = jax.jit(rl.running_mean_update)(state, spoilt, mask=keep[part])
    np.testing.assert_allclose(state.mean, rewards[keep].mean(), rtol=1e-12)
    assert state.count == keep.sum()
    nothing = rl.running_mean_update(rl.RunningMean(), rewards, mask=keep & 0 > 0)
    assert nothing == (0, 0)
    np.testing.assert_allclose(
        rl.kto_kl_estimate(spoilt := np.where(keep, rewards, np.nan), 0 * spoilt),
        np.nan,
    )
    want = max(0, rewards[keep].mean())
    got = rl.kto_kl_estimate(spoilt, 0 * rewards, mask=keep)
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_the_density_classifier_is_at_its_minimum(x64):
    rng = np.random.default_rng(0)
    x, good = rng.normal(size=(40, 3)) + 1, np.arange(40) % 4 == 0
    x[good] += [1, -0.5, 0]
    kernel, bias = estimators.fit_density_classifier(x, good, l2=0.7)
    p = 1 / (1 + np.exp(-(x @ kernel + bias)))
    pull = np.where(good, 40 / 2 / good.sum(), 40 / 2 / (~good).sum()) * (p - good)
    np.testing.assert_allclose(x.T @ pull + 0.7 * kernel, np.zeros(3), atol=1e-9)
    np.testing.assert_allclose(pull.sum(), 0, atol=1e-9)
    # One kind of answer only: certain, and finite.
    for one in (good | True, good & False):
        assert np.isfinite(np.append(*estimators.fit_density_classifier(x, one))).all()


def test_utilities(x64):
    rng = np.random.default_rng(0)
    rewards, ref, base = rng.normal(size=(2, 9)), rng.normal(size=(2, 1)), rng.random(9)
    tilted = base * np.exp(rl.combine_rewards_and(rewards, ref) / 0.5)
    product = base * np.prod((1 / (1 + np.exp(ref - rewards))) ** 2, 0)
    np.testing.assert_allclose(tilted, product, rtol=1e-12)
    hand = rl.lsc_transform(np.array([-3.0, 1, 5, 1e4, -1e4]), np.ones(()))
    want = [-4.01815, -0.693147, -0.0181499, 0, -1e4 - 1]
    np.testing.assert_allclose(hand, want, rtol=2e-6)
    answers = rng.normal(size=(4, 50))
    got = rl.reference_quantile(answers, axis=1)
    np.testing.assert_allclose(got, np.quantile(answers, 0.85, axis=1), rtol=1e-12)
    got = rl.reference_quantile(answers.T, axis=0, gaussian=True)
    want = answers.mean(1) + 1.0364334 * answers.std(1)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    with pytest.warns(UserWarning, match="no reference rewards"):
        assert rl.reference_quantile(np.zeros((0,))) == 0


def test_plackett_luce(x64):
    r = np.random.default_rng(0).normal(size=4) * 3
    order = [2, 0, 3, 1]
    want = sum(np.log(np.exp(r[order[k:]] - r[order[k]]).sum()) for k in range(4))
    ranks = np.argsort(order)
    got = losses.plackett_luce_loss(r, ranks)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    # The probabilities of all rankings add up to 1.
    every = np.array(list(itertools.permutations(range(4))))
    likelihoods = np.exp(-losses.plackett_luce_loss(np.tile(r, (24, 1)), every))
    np.testing.assert_allclose(likelihoods.sum(), 1, rtol=1e-12)
    pair = losses.plackett_luce_loss(r.reshape(2, 2), np.array([[0, 1], [1, 0]]))
    want = losses.bradley_terry_loss(r[[0, 3]], r[[1, 2]])
    np.testing.assert_allclose(pair, want, rtol=1e-12)
    assert losses.plackett_luce_loss(r, np.zeros(4)) == 0


ONE, TWO = np.zeros(1, "f4"), np.zeros(2, "f4")
YES = np.ones(1, bool)
ERRORS = [
    (
        lambda: losses.kto_loss(ONE, TWO, YES, kl=0.0),
        r"ref_logps has shape \(2,\), exp",
    ),
    (
        lambda: losses.kto_loss(TWO, TWO, YES, kl=0.0),
        r"is_desirable has shape \(1,\), ",
    ),
    (
        lambda: rl.kto_kl_estimate(ONE, ONE),
        r"has shape \(1,\), expected \(B,\) with",
    ),
    (
        lambda: losses.bco_loss(ONE, ONE, YES, TWO, shift=0.0),
        r"density_weight has shape \(2,\), expected \(1,\)",
    ),
    (
        lambda: weights.density_ratio_weight(ONE, min_ratio=20.0),
        "min_ratio is 20.0, exp",
    ),
    (
        lambda: estimators.fit_density_classifier(ONE, YES),
        r"features has shape \(1,\), exp",
    ),
    (
        lambda: losses.bradley_terry_loss(ONE, TWO),
        r"rejected_rewards has shape \(2,\), ",
    ),
    (
        lambda: losses.bradley_terry_loss(ONE, ONE, center_coef=-1),
        "center_coef is -1, ",
    ),
    (lambda: losses.plackett_luce_loss(ONE, TWO), r"ranks has shape \(2,\), expected "),
    (
        lambda: rl.lsc_transform(ONE, np.zeros(3, "f4")),
        r"ref_reward has shape \(3,",
    ),
    (lambda: rl.reference_quantile(ONE, q=1.0), r"q is 1.0, expected a number in "),
    (
        lambda: rl.reference_quantile(ONE, axis=1),
        "axis 1 is not an axis of ref_rew",
    ),
    (
        lambda: rl.combine_rewards_and(ONE, ONE, axis=2),
        "axis 2 is not an axis of r",
    ),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[m for _, m in ERRORS])
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_types():
    with pytest.raises(TypeError, match="is_desirable has dtype float"):
        losses.bco_loss(ONE, ONE, ONE, shift=0.0)
