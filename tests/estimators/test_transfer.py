import numpy as np
import pytest
from harness import goldens

from logitlab import estimators
from logitlab.estimators import transfer

KAPPA = {
    "new_ucb_beta_log": lambda k: float(np.sqrt(np.log(k + 1))),
    "new": lambda k: 0.0,
}
CASES = goldens.cases("mbtl")


@pytest.mark.parametrize("case", CASES)
def test_chooses_as_the_golden_does(x64, case):
    (matrix,) = goldens.arrays(case, "transfer_matrix")
    params, want = case["params"], case["outputs"]
    at = np.arange(float(len(matrix)))
    kappa = KAPPA[params["acquisition"]]
    steps = want["steps"]
    for step in steps:
        got = estimators.mbtl_acquisition(
            np.array(step["gp_mean"]),
            np.array(step["gp_std"]),
            np.array(step["best_observed"]),
            at,
            slope=params["slope"],
            kappa=kappa(step["k"]),
        )
        goldens.close(got, step["acquisition"])

    def recorded(trained, performance, tasks):
        step = steps[len(trained) - 1]
        np.testing.assert_allclose(trained, step["train_x"])
        np.testing.assert_allclose(performance, step["train_y"])
        return np.array(step["gp_mean"]), np.array(step["gp_std"])

    found = estimators.mbtl_select(
        lambda i: matrix[i],
        at,
        len(want["source_tasks"]),
        slope=params["slope"],
        gp=recorded,
        kappa=kappa,
    )
    assert found.tasks.tolist() == want["source_tasks"]
    goldens.close(found.performance, want["mean_performance_after_step"])


def test_the_process_on_a_grid_is_near_the_golden_one():
    step = CASES[0]["outputs"]["steps"][2]
    at = np.arange(float(len(step["gp_mean"])))
    mean, std = transfer.likeliest_process(
        np.array(step["train_x"]), np.array(step["train_y"]), at
    )
    np.testing.assert_allclose(mean, step["gp_mean"], atol=0.01)
    np.testing.assert_allclose(std, step["gp_std"], atol=0.01)


def test_tasks_near_each_other_are_not_chosen_twice():
    at = np.arange(9.0)
    found = estimators.mbtl_select(
        lambda i: np.maximum(0, 1 - 0.2 * np.abs(at - i)), at, 9, slope=0.2
    )
    assert sorted(found.tasks) == list(range(9))
    assert found.tasks[0] == 4
    assert (np.diff(found.performance) >= 0).all()
    assert found.performance[-1] == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: estimators.mbtl_select(
                lambda i: np.ones(2), np.zeros(2), 3, slope=1
            ),
            "steps is 3, expected at most the 2 tasks",
        ),
        (
            lambda: estimators.mbtl_select(
                lambda i: np.ones(3), np.zeros(2), 1, slope=1
            ),
            r"transfer_fn gave shape \(3,\), expected \(2,\)",
        ),
        (
            lambda: estimators.mbtl_acquisition(
                np.ones(2, "f4"),
                np.ones(3, "f4"),
                np.ones(2, "f4"),
                np.ones(2, "f4"),
                slope=1.0,
                kappa=0.0,
            ),
            r"std has shape \(3,\), expected \(2,\)",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
