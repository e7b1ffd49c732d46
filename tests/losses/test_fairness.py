import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import arrays, cases, close
from harness.interpreter import functions, interpreted

from logitlab import losses
from logitlab.losses import fairness

calls = functions(fairness)
GROUPS = np.array([0, 0, 1, 3, 3, 3, 1, -1, 0])


@pytest.mark.parametrize("case", cases("dcov"))
def test_golden(x64, case):
    pred, *attributes = arrays(case, "pred", "a", "b", "c")
    outputs = case["outputs"]
    for penalty, name in (
        (fairness.joint_distance_covariance_penalty, "jdcov2"),
        (fairness.concatenated_distance_covariance_penalty, "ccdcov2"),
    ):
        value, grad = interpreted(jax.value_and_grad(penalty))(pred, *attributes)
        key = "jdcov2_pred_a_b_c" if name == "jdcov2" else name
        close(value, outputs[key])
        np.testing.assert_allclose(grad, outputs[f"grad_{name}"], atol=1e-14)


def test_joint_is_its_definition(x64):
    rng = np.random.default_rng(0)
    p, a, b = rng.normal(size=(3, 9))
    for c in (0.0, 0.5, 3.0):
        u = [np.asarray(calls_u(x)) + c for x in (p, a, b)]
        off = ~np.eye(9, dtype=bool)
        total = np.prod(u, 0)[off].sum() + 9 * c**3
        want = total / (9 * 6) - 9 / 6 * c**3
        got = calls.joint_distance_covariance_penalty(p, a, b, c=c)
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def calls_u(x):
    a = np.abs(x[:, None] - x[None])
    n = len(x)
    rows = a.sum(0) / (n - 2)
    u = rows[:, None] + rows[None] - a - a.sum() / ((n - 1) * (n - 2))
    return np.where(np.eye(n, dtype=bool), 0, u)


def test_equal_predictions_cost_nothing():
    rng = np.random.default_rng(1)
    a, b = rng.normal(size=(8, 2)).astype("f4"), rng.normal(size=8).astype("f4")
    for penalty in (
        fairness.joint_distance_covariance_penalty,
        fairness.concatenated_distance_covariance_penalty,
    ):
        for p in (np.full(8, 0.3, "f4"), np.full((8, 2), 0.3, "f4")):
            value, grad = interpreted(jax.value_and_grad(penalty))(p, b)
            assert value == 0
            assert np.isfinite(grad).all()
        assert interpreted(penalty)(p[:3], a[:3], b[:3]) == 0  # below four examples


def test_marginally_independent_predictions():
    """An intersection that pairs of columns do not show."""
    a, b = np.tile(np.float32([[0, 0, 1, 1], [0, 1, 0, 1]]), 16)
    same = (a == b).astype("f4")
    one = calls.concatenated_distance_covariance_penalty
    both = calls.joint_distance_covariance_penalty
    for attribute in (a, b):
        assert abs(one(same, attribute)) < 0.02
        np.testing.assert_allclose(both(same, attribute), one(same, attribute), 1e-4)
    assert one(same, a, b) > 0.05
    assert both(same, a, b) > 0.05


def test_hand_check():
    x, groups = np.float32([0.1, 0.3, 0.8]), np.array([0, 0, 1])
    two = dict(num_groups=2)
    np.testing.assert_allclose(calls.worst_group_loss(x, groups, **two), 0.8)
    mean, penalties = 0.4, dict(gap=0.6, variance=0.09, mean_abs=0.3, group_mean=0.5)
    for kind, penalty in penalties.items():
        got = calls.fairness_regularized_loss(x, groups, weight=2.0, kind=kind, **two)
        np.testing.assert_allclose(got, mean + 2 * penalty, rtol=1e-6)


def test_groups_that_are_not_there(x64):
    x = np.random.default_rng(2).normal(size=9) - 5
    means = np.array([x[g == GROUPS].mean() for g in (0, 1, 3)])
    options = dict(num_groups=5)  # two of them empty, an example in none
    np.testing.assert_allclose(
        calls.worst_group_loss(x, GROUPS, **options), means.max()
    )
    gaps = dict(
        gap=np.ptp(means),
        variance=means.var(),
        mean_abs=np.abs(means - means.mean()).mean(),
        group_mean=means.mean(),
    )
    for kind, gap in gaps.items():
        got = calls.fairness_regularized_loss(
            x, GROUPS, weight=0.7, kind=kind, **options
        )
        np.testing.assert_allclose(got, x.mean() + 0.7 * gap, rtol=1e-12)
    one = calls.fairness_regularized_loss(x, 0 * GROUPS, weight=0.7, **options)
    np.testing.assert_allclose(one, x.mean(), rtol=1e-12)


def test_the_first_of_ties_has_the_slope():
    x, groups = np.float32([2, 2, 1, 1]), np.array([1, 0, 2, 3])

    def both(x):
        worst = fairness.worst_group_loss(x, groups, num_groups=4)
        gap = fairness.fairness_regularized_loss(x, groups, num_groups=4, weight=1.0)
        return jnp.stack([worst, gap - x.mean()])

    slopes = interpreted(jax.jacobian(both))(x)
    np.testing.assert_allclose(slopes, [[0, 1, 0, 0], [0, 1, -1, 0]], atol=1e-7)


def test_errors():
    x = np.zeros(9, "f4")
    with pytest.raises(
        ValueError, match="groups reach 3, expected below num_groups, 2"
    ):
        losses.worst_group_loss(x, GROUPS, num_groups=2)
    with pytest.raises(ValueError, match="kind is 'max', expected 'gap'"):
        losses.fairness_regularized_loss(x, GROUPS, num_groups=4, weight=1, kind="max")
    with pytest.raises(ValueError, match="attributes is empty"):
        losses.joint_distance_covariance_penalty(x)
    with pytest.raises(ValueError, match="attributes is empty"):
        losses.concatenated_distance_covariance_penalty(x)
    with pytest.raises(ValueError, match=r"attributes\[1\] has 4 examples"):
        losses.joint_distance_covariance_penalty(x, x, x[:4])
    with pytest.raises(TypeError, match=r"attributes\[0\] has dtype int"):
        losses.joint_distance_covariance_penalty(x, GROUPS)
    with pytest.raises(ValueError, match="c is -1, expected at least 0"):
        losses.joint_distance_covariance_penalty(x, x, c=-1)


def test_factors_by_hand():
    """Importances of 3 and 1 against 1 and 1: shares of 3/4, 1/4, 1/2 and 1/2."""
    phi, equal = np.float32([[3, 1], [-3, -1]]), np.float32([2, 2])
    loss = calls.factor_consistency_loss
    np.testing.assert_allclose(loss(phi, equal), np.log(4 / 3) / 2, rtol=1e-5)
    reverse = 0.75 * np.log(1.5) + 0.25 * np.log(0.5)
    np.testing.assert_allclose(loss(phi, equal, direction="reverse"), reverse, 1e-5)
    assert loss(phi, np.float32([0.3, 0.1])) < 1e-12
    # a feature that nobody else uses, and one that the model does not
    for reference in ([1, 0], [0, 1]):
        for direction in ("forward", "reverse"):
            some = loss(phi, np.float32(reference), direction=direction)
            assert 0 < some < 30


def test_factors_move_towards_the_reference():
    phi, reference = np.float32([[3, 1], [-3, -1]]), np.float32([0.5, 0.5])
    slope = interpreted(jax.grad(losses.factor_consistency_loss))(phi, reference)
    assert (np.sign(slope) == np.sign(phi) * [1, -1]).all()
    near = np.float32([[1, 1.0001]])
    value = calls.factor_consistency_loss(near, reference)
    np.testing.assert_allclose(value, (1e-4 / 2) ** 2 / 2, rtol=1e-2)


def test_factors_refuse():
    phi = np.ones((2, 3), "f4")
    loss = losses.factor_consistency_loss
    with pytest.raises(ValueError, match="direction is 'both', expected 'forward' or"):
        loss(phi, phi[0], direction="both")
    with pytest.raises(ValueError, match=r"reference has shape \(2,\), expected that"):
        loss(phi, phi[0, :2])
    with pytest.raises(ValueError, match=r"reference is .*, expected at least 0"):
        loss(phi, -phi[0])


def test_decorrelation_is_its_definition(x64):
    """Of pairs from two clusters, by the covariances that NumPy makes of features."""
    rng, key = np.random.default_rng(3), jax.random.key(2)
    z, w = 5 * rng.normal(size=(8, 4)) + 100, rng.uniform(0.5, 1.5, 8)
    x = (z - z.mean(0)) / z.std(0)
    scale_key, phase_key = jax.random.split(key)
    omega = np.float64(jax.random.normal(scale_key, (1, 4, 3), "f4"))
    phase = np.float64(jax.random.uniform(phase_key, (1, 4, 3), "f4"))
    u = np.sqrt(2) * np.cos(omega * x[..., None] + 2 * np.pi * phase) * w[:, None, None]
    clusters, want = np.array([5, 0, 5, 1]), 0.7 * (w**2).mean()
    for i in range(4):
        for j in range(i):
            if clusters[i] != clusters[j]:
                both = np.cov(np.concatenate([u[:, i], u[:, j]], 1).T)
                want += (both[:3, 3:] ** 2).sum()
    options = dict(num_features=3, l2=0.7)
    got = losses.decorrelation_loss(z, w, clusters, key, **options)
    np.testing.assert_allclose(got, want, rtol=1e-9)
    more, extra = np.concatenate([z, z * np.nan]), np.concatenate([w, w])
    mask = np.arange(16) < 8
    got = losses.decorrelation_loss(more, extra, clusters, key, mask=mask, **options)
    np.testing.assert_allclose(got, want, rtol=1e-9)


def test_decorrelation_edges():
    key, w = jax.random.key(0), np.ones(6, "f4")
    z = np.random.default_rng(4).normal(size=(6, 3)).astype("f4")
    z[:, 1] = 3  # constant
    cost = interpreted(jax.value_and_grad(losses.decorrelation_loss, (0, 1)))
    for scale in (1.0, 1e30):
        value, grads = cost(np.float32(scale) * z, w, np.arange(3), key)
        np.testing.assert_allclose(value, cost(z, w, np.arange(3), key)[0], rtol=1e-4)
        assert all(np.isfinite(g).all() for g in grads)
    assert losses.decorrelation_loss(z, w, np.zeros(3, int), key) == 0
    assert losses.decorrelation_loss(z[:1], w[:1], np.arange(3), key, l2=2.0) == 2
    with pytest.raises(ValueError, match=r"clusters has shape \(2,\), expected \(3,\)"):
        losses.decorrelation_loss(z, w, np.arange(2), key)
    with pytest.raises(ValueError, match=r"weights has shape \(5,\), expected \(6,\)"):
        losses.decorrelation_loss(z, w[:5], np.arange(3), key)
    with pytest.raises(ValueError, match=r"z has shape \(6,\), expected \[N, P\]"):
        losses.decorrelation_loss(z[:, 0], w, np.zeros((), int), key)
