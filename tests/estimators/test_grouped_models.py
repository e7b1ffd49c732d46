import jax
import numpy as np
import pytest

from logitlab import estimators


def process(states=4, actions=6, seed=0):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.ones(states), (states, actions))
    return p, rng.normal(size=(states, actions))


GROUPING = np.array([0, 0, 1, 1, 1, 2])


def test_a_group_is_the_mean_of_its_actions(x64):
    p, r = process()
    got = estimators.group_mdp(p, r, GROUPING, num_groups=3)
    np.testing.assert_allclose(got.transitions[:, 1], p[:, 2:5].mean(1))
    np.testing.assert_allclose(got.rewards[:, 1], r[:, 2:5].mean(1))
    np.testing.assert_array_equal(got.counts[0], [2, 3, 1])
    same = estimators.group_mdp(p, r, np.arange(6), num_groups=6)
    np.testing.assert_allclose(same.transitions, p)


def test_estimates_are_means_of_samples(x64):
    rng = np.random.default_rng(1)
    s, t = rng.integers(0, 3, (2, 50))
    a, r = rng.integers(0, 6, 50), rng.normal(size=50)
    got = estimators.estimate_grouped_model(
        s, a, t, r, GROUPING, num_states=4, num_groups=3
    )
    for state in range(3):
        for group in range(3):
            rows = (s == state) & (GROUPING[a] == group)
            assert got.counts[state, group] == rows.sum()
            np.testing.assert_allclose(got.rewards[state, group], r[rows].mean())
            share = np.bincount(t[rows], minlength=4) / rows.sum()
            np.testing.assert_allclose(got.transitions[state, group], share)
    np.testing.assert_allclose(got.rewards[3], [r.mean()] * 3)  # never visited
    np.testing.assert_allclose(got.transitions[3], np.full((3, 4), 0.25))
    never = estimators.estimate_grouped_model(
        s, a, t, r, GROUPING, num_states=4, num_groups=3, prior_reward=-np.inf
    )
    assert (never.rewards[3] == -np.inf).all()


def test_value_iteration_solves_bellmans_equation(x64):
    p, r = process()
    got = estimators.value_iteration(p, r, gamma=0.9)
    q = r + 0.9 * p @ got.values
    np.testing.assert_allclose(got.values, q.max(1), atol=1e-8)
    np.testing.assert_allclose(got.action_values, q, atol=1e-8)
    best = q.argmax(1)
    rows = np.arange(4)
    policy = np.linalg.solve(np.eye(4) - 0.9 * p[rows, best], r[rows, best])
    np.testing.assert_allclose(got.values, policy, atol=1e-7)
    hidden = estimators.value_iteration(p, np.where(r < 0, r, -np.inf), gamma=0.9)
    assert np.isfinite(hidden.values).all() or (r >= 0).all(1).any()
    many = jax.jit(lambda g: estimators.value_iteration(p, r, gamma=g).values)
    np.testing.assert_allclose(many(0.9), got.values)


def test_groupings_are_nested():
    x = np.array([0.0, 10, 0.1, 10.2, 5, 0.3])
    distance = np.abs(x[:, None] - x[None])
    got = estimators.nested_groupings(distance, (6, 4, 3, 2, 1))
    assert [row.max() + 1 for row in got] == [6, 4, 3, 2, 1]
    np.testing.assert_array_equal(got[2], [0, 1, 0, 1, 2, 0])
    for fine, coarse in zip(got, got[1:], strict=False):
        assert len({*zip(fine, coarse, strict=True)}) == fine.max() + 1


def test_the_objective_falls_and_rises():
    p, r = process(2, 6)
    r = np.repeat(np.array([[0.0], [1.0]]), 6, 1) + GROUPING
    p = np.full_like(p, 0.5)

    def bound(n, grouping, h):
        return estimators.grouping_objective(
            p.astype("f4"), r.astype("f4"), grouping, n, num_groups=h, gamma=0.5
        )

    one, three, all_ = (
        (np.zeros(6, int), 1),
        (GROUPING, 3),
        (np.arange(6), 6),
    )
    assert bound(1e6, *three) < bound(1e6, *one)  # differences count
    assert bound(10.0, *three) < bound(10.0, *all_)  # and so does chance
    np.testing.assert_allclose(
        bound(100.0, *three), 4 * np.sqrt(12 * np.log(12) / 100), rtol=1e-5
    )


P, R = (a.astype("f4") for a in process())


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: estimators.value_iteration(P, R, gamma=1.0), "gamma is 1.0, expected"),
        (
            lambda: estimators.value_iteration(2 * P, R, gamma=0.5),
            "transitions are no distributions",
        ),
        (
            lambda: estimators.value_iteration(P[0], R, gamma=0.5),
            "transitions has shap",
        ),
        (lambda: estimators.value_iteration(P, R[:1], gamma=0.5), "rewards has shape"),
        (
            lambda: estimators.group_mdp(P, R, GROUPING + 1, num_groups=3),
            "grouping is from 1 to 3, expected ints from 0 to 2",
        ),
        (
            lambda: estimators.group_mdp(P, R, GROUPING, num_groups=4),
            "grouping has no action in group 3",
        ),
        (
            lambda: estimators.nested_groupings(np.zeros((3, 3)), (2, 3)),
            "expected falling numbers from 3 to 1",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
