import numpy as np
import pytest

from configs.distillation import get_config
from experiments.distillation import kernel_ridge
from logitlab import report
from logitlab.train import ArmResult

CONFIG = get_config("kernel_ridge")
X, Y = np.array(CONFIG.x), np.array(CONFIG.y)


def kernel(a):
    return np.exp(-80 * (a[:, None] - X) ** 2)


def recursion(points, alphas):
    """Every step's predictions, with the fit written out."""
    fitted, steps = Y, []
    for alpha in alphas:
        targets = alpha * Y + (1 - alpha) * fitted
        weights = np.linalg.solve(kernel(X) + 0.2 * np.eye(11), targets)
        fitted = kernel(X) @ weights
        steps.append(kernel(points) @ weights)
    return np.stack(steps)


@pytest.mark.sampled
@pytest.mark.parametrize("alpha", CONFIG.alphas)
@pytest.mark.usefixtures("x64")
def test_values_are_those_of_the_recursion_and_published(alpha):
    values = kernel_ridge._values(CONFIG, alpha)
    grid = np.linspace(0, 1, 101)
    steps = recursion(grid, [alpha] * 6)
    np.testing.assert_allclose(values["fits"], steps, rtol=1e-9, atol=1e-12)
    errors = np.mean((steps - np.sin(2 * np.pi * grid)) ** 2, 1)
    got = [values[f"error/{n}"] for n in range(1, 7)]
    np.testing.assert_allclose(got, errors, rtol=1e-9)
    published = kernel_ridge.PUBLISHED[alpha]
    np.testing.assert_allclose([*got, values["error/limit"]], published, atol=5e-6)
    last = recursion(grid, [alpha] * 200)[-1]
    if alpha:
        np.testing.assert_allclose(values["limit"], last, atol=1e-10)
    gap = np.abs(last - values["limit"]).max()  # of rounding alone where it is 0
    np.testing.assert_allclose(values["to_limit"], gap, atol=1e-14)


@pytest.mark.usefixtures("x64")
def test_chosen_alphas_are_the_best():
    rng = np.random.default_rng(0)
    points = rng.uniform(size=30)
    targets = np.sin(2 * np.pi * points) + 0.5 * rng.normal(size=30)
    grid = np.linspace(0, 1, 101)
    alphas, excess, missed = kernel_ridge.chosen_alphas(
        kernel(X), kernel(points), Y, targets, grid, ridge=0.2, steps=4
    )

    def error(*alphas):
        return np.mean((recursion(points, alphas)[-1] - targets) ** 2)

    for step in (1, 2, 3):
        before = alphas[:step]
        errors = [error(*before, alpha) for alpha in grid]
        mine = error(*before, alphas[step])
        np.testing.assert_allclose(excess[step - 1], mine - min(errors), atol=1e-12)
        near = grid[np.argmin(errors)]
        np.testing.assert_allclose(missed[step - 1], abs(alphas[step] - near))
    assert (excess < 1e-12).all()
    assert (missed < 0.005 + 1e-9).all()


def result(arm, **values):
    row = {"arm": arm, "seed": "0", "step": "0"}
    return ArmResult(arm, (0,), [row | {k: str(v) for k, v in values.items()}])


@pytest.mark.parametrize(("shift", "wrong"), [(0.0, 0), (2e-5, 12)])
def test_claims_can_fail(shift, wrong):
    results = {
        kernel_ridge.arm_name(alpha): result(
            "a",
            **{f"error/{n}": v + shift for n, v in enumerate(numbers[:6], 1)},
            **{"error/limit": numbers[6], "to_limit": shift},
            **{"sparser/before": -shift, "sparser/first": -shift},
        )
        for alpha, numbers in kernel_ridge.PUBLISHED.items()
    }
    results["chosen"] = result("chosen", excess=shift, missed=0.005)
    verdicts = report.judge(kernel_ridge.build(CONFIG).claims, results)
    assert len(verdicts) == 13
    assert sum(v.verdict == "not reproduced" for v in verdicts) == wrong


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("x64", False, "config.x64 is False, expected True"),
        ("x", (0.0, 1.0), "config.y has 11 numbers for 2"),
        ("alphas", (0.5, 2.0), "config.alphas is"),
        ("many", 3, "config.many 3"),
        ("ridge", 0.0, "config.ridge is 0"),
        ("validation.grid", 1, "config.validation.grid is 1"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("distillation:kernel_ridge", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("distillation:kernel_ridge")
    # With true targets the ratios overshoot before they settle.
    failed = {v.text for v in done.verdicts.values() if v.verdict != "reproduced"}
    texts = [
        f"every step is sparser than the one before, α = {a}" for a in (0.25, 0.35)
    ]
    assert failed == set(texts)
    assert done.figures == ["error", "fits"]
