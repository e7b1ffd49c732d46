import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from logitlab import optim
from logitlab.optim import AdaNormalHedgeState

probs_of = interpreted(optim.ada_normal_hedge_probs)
update = interpreted(optim.ada_normal_hedge_update)
predict = interpreted(optim.groupwise_predictor)


def weight(r, c):
    def potential(r):
        return np.exp(np.maximum(r, 0) ** 2 / (3 * (c + 1)))

    return (potential(r + 1) - potential(r - 1)) / 2


def test_weights_of_the_definition(x64):
    pairs = [(0, 0), (1, 2), (-1, 2), (3, 4), (0.5, 1), (-0.5, 3), (1e-9, 1)]
    r, c = np.array(pairs, float).T
    want = weight(r, c)
    np.testing.assert_allclose(want[:4], [0.19781, 0.27981, 0, 0.80004], atol=5e-6)
    got = probs_of(AdaNormalHedgeState(r, c))
    np.testing.assert_allclose(got, want / want.sum(), rtol=1e-9)


def test_sleepers_change_nothing(x64):
    rng = np.random.default_rng(0)
    state = optim.ada_normal_hedge_init(4)
    r, c = np.zeros((2, 4))
    for _ in range(30):
        awake = rng.uniform(size=4) < 0.6
        awake[0] = True
        losses = rng.uniform(size=4)
        w = np.where(awake, weight(r, c), 0)
        w = w / w.sum() if w.sum() else awake / awake.sum()
        np.testing.assert_allclose(probs_of(state, where=awake), w, atol=1e-12)
        state = update(state, np.where(awake, losses, np.nan), where=awake)
        ahead = np.where(awake, w @ losses - losses, 0)
        r, c = r + ahead, c + np.abs(ahead)
    np.testing.assert_allclose(state.regrets, r, atol=1e-12)
    np.testing.assert_allclose(state.magnitudes, c, atol=1e-12)


def test_weights_at_the_edges():
    worse = AdaNormalHedgeState(jnp.float32([-3, -2]), jnp.float32([3, 2]))
    np.testing.assert_array_equal(probs_of(worse), [0.5, 0.5])
    where = np.array([True, False])
    np.testing.assert_array_equal(probs_of(worse, where=where), [1, 0])
    np.testing.assert_array_equal(probs_of(worse, where=~where & where), [0, 0])
    long = AdaNormalHedgeState(jnp.float32([1e6, 1e6, -1e6]), jnp.full(3, 1e6))
    np.testing.assert_array_equal(probs_of(long), [0.5, 0.5, 0])
    slope = jax.grad(
        lambda r: optim.ada_normal_hedge_probs(long._replace(regrets=r))[0]
    )
    assert np.isfinite(interpreted(slope)(long.regrets)).all()
    state = update(
        optim.ada_normal_hedge_init(2), np.float32([0, 1]), learner_loss=0.25
    )
    np.testing.assert_array_equal(state.regrets, [0.25, -0.75])


def drawn(rounds=25, dim=2):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(rounds, dim)), rng.normal(size=rounds)
    groups = rng.uniform(size=(rounds, 3)) < 0.5
    groups[:, 0] = True
    return x, y, groups


def test_groups_have_their_own_ridge_regressions(x64):
    x, y, groups = drawn()
    got = predict(x, y, groups, ridge=0.7, loss_scale=4.0)
    r, c = np.zeros((2, 3))
    for t, (row, label, awake) in enumerate(zip(x, y, groups, strict=True)):
        experts = np.zeros(3)
        for g in np.flatnonzero(awake):
            past = groups[:t, g]
            gram = x[:t][past].T @ x[:t][past] + 0.7 * np.eye(2)
            experts[g] = row @ np.linalg.solve(gram, x[:t][past].T @ y[:t][past])
        w = np.where(awake, weight(r, c), 0)
        w = w / w.sum() if w.sum() else awake / awake.sum()
        np.testing.assert_allclose(got.expert_predictions[t], experts, atol=1e-9)
        np.testing.assert_allclose(got.probs[t], w, atol=1e-9)
        np.testing.assert_allclose(got.predictions[t], w @ experts, atol=1e-9)
        costs = np.minimum((experts - label) ** 2 / 4, 1)
        mine = min((w @ experts - label) ** 2 / 4, 1)
        ahead = np.where(awake, mine - costs, 0)
        r, c = r + ahead, c + np.abs(ahead)
    gram = x.T @ x + 0.7 * np.eye(2)
    np.testing.assert_allclose(
        got.coefficients[0], np.linalg.solve(gram, x.T @ y), atol=1e-9
    )
    np.testing.assert_allclose(got.state.regrets, r, atol=1e-9)


def _bad_groups(row, column):
    groups = np.ones((4, 2), bool)
    groups[row, column] = False
    return groups


X, Y = np.ones((4, 1)), np.ones(4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: optim.groupwise_predictor(X, Y, _bad_groups(slice(None), 1)),
            "groups has no round in column 1, expected groups that are not empty",
        ),
        (
            lambda: optim.groupwise_predictor(X, Y, _bad_groups(2, slice(None))),
            "groups has no group for round 2, expected at least one",
        ),
        (lambda: optim.groupwise_predictor(Y, Y, _bad_groups(0, 0)), "x has shape"),
        (lambda: optim.groupwise_predictor(X, X, _bad_groups(0, 0)), "labels has shap"),
        (
            lambda: optim.groupwise_predictor(X, Y, _bad_groups(0, 0)[:2]),
            r"groups has shape \(2, 2\), expected \[4, G\]",
        ),
        (
            lambda: optim.groupwise_predictor(X, Y, _bad_groups(0, 0), ridge=0.0),
            "ridge is 0.0, expected above 0",
        ),
        (lambda: optim.ada_normal_hedge_init(0), "num_experts is 0"),
        (
            lambda: optim.ada_normal_hedge_update(
                optim.ada_normal_hedge_init(2), np.float32([0, 2])
            ),
            "losses is .*, expected numbers from 0 to 1",
        ),
        (
            lambda: optim.ada_normal_hedge_update(
                optim.ada_normal_hedge_init(2), np.zeros(3)
            ),
            r"losses has shape \(3,\), expected \(2,\)",
        ),
        (
            lambda: optim.ada_normal_hedge_update(
                optim.ada_normal_hedge_init(2), np.zeros(2), learner_loss=np.zeros(2)
            ),
            r"learner_loss has shape \(2,\), expected \(\)",
        ),
        (
            lambda: optim.ada_normal_hedge_probs(
                optim.ada_normal_hedge_init(2), where=np.ones(3, bool)
            ),
            r"where has shape \(3,\), expected \(2,\)",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
