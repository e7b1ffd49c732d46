import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from logitlab import estimators

select = interpreted(estimators.gfucb_select, static_argnames="shared")
update = interpreted(estimators.gfucb_update)


@pytest.mark.parametrize("shared", [True, False])
def test_choices_are_those_of_the_definition(x64, shared):
    rng = np.random.default_rng(0)
    many, tasks, arms, dim, sigma, c = 5, 3, 4, 2, 0.3, 0.5
    state = estimators.gfucb_init(tasks, many, dim)
    past = [[] for _ in range(tasks)]
    for _ in range(6):
        x = rng.normal(size=(many, tasks, arms, dim))
        got = select(state, x, noise=sigma, scale=c, shared=shared)
        w = np.zeros((many, tasks, dim))
        residual = np.zeros((many, tasks))
        inverse = np.zeros((many, tasks, dim, dim))
        for i in range(many):
            for m in range(tasks):
                f = np.array([row[i] for row, _ in past[m]]).reshape(-1, dim)
                y = np.array([y for _, y in past[m]])
                inverse[i, m] = np.linalg.inv(np.eye(dim) + f.T @ f)
                w[i, m] = inverse[i, m] @ f.T @ y
                residual[i, m] = y @ y - (f.T @ y) @ w[i, m]
        if shared:
            residual = residual.sum(1, keepdims=True) + np.zeros((1, tasks))
        size = dim * (tasks if shared else 1)
        room = c * sigma**2 * (2 * np.log(many) + size)
        kept = residual <= residual.min(0) + room
        spread = np.einsum("lmak,lmkj,lmaj->lma", x, inverse, x)
        index = np.einsum("lmak,lmk->lma", x, w) + np.sqrt(c * spread) * sigma
        want = np.where(kept[..., None], index, -np.inf).max(0).argmax(-1)
        np.testing.assert_array_equal(got, want)
        rewards = rng.normal(size=tasks)
        state = update(state, x, got, rewards)
        for m in range(tasks):
            past[m].append((x[:, m, got[m]], rewards[m]))


def test_one_task_and_one_candidate_is_a_linear_bandit():
    state = estimators.gfucb_init(1, 1, 1)
    x = jnp.float32([1.0, 2.0]).reshape(1, 1, 2, 1)
    assert select(state, x, noise=1.0) == 1
    state = update(state, x, np.array([1]), jnp.float32([-9]))
    assert select(state, x, noise=0.1) == 0


STATE = estimators.gfucb_init(2, 3, 4)
X = jnp.zeros((3, 2, 5, 4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: estimators.gfucb_init(0, 1, 1), "num_tasks is 0"),
        (
            lambda: estimators.gfucb_select(STATE, X[:2], noise=1.0),
            r"contexts has shape \(2, 2, 5, 4\), expected \[3, 2, A, 4\]",
        ),
        (lambda: estimators.gfucb_select(STATE, X, noise=-1.0), "noise is -1.0"),
        (
            lambda: estimators.gfucb_update(STATE, X, np.array([0, 5]), jnp.ones(2)),
            r"labels outside \[0, 5\)",
        ),
        (
            lambda: estimators.gfucb_update(STATE, X, np.array([0, 1]), jnp.ones(3)),
            r"rewards has shape \(3,\), expected \(2,\)",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
