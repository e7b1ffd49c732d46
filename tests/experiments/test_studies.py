"""Names of configs, modules and kept results; old ones say where they moved."""

import pathlib

import pytest

from configs import base
from experiments.common import moved, recipes, studies

ROOT = pathlib.Path(__file__).parents[2]


def test_what_moved_is_where_the_table_says():
    for old, new in moved.CONFIGS.items():
        stem, _, variant = new.partition(":")
        assert not (ROOT / f"configs/{old.partition(':')[0]}.py").exists()
        path = f"{ROOT}/configs/{stem}.py"
        assert recipes.read(f"{path}:{variant}" if variant else path)
    for old, new in moved.MODULES.items():
        assert old not in studies.modules()
        assert new in studies.modules()
    for old, new in moved.RESULTS.items():
        assert not (studies.RESULTS / old).exists()
        assert (studies.RESULTS / new).is_dir()


@pytest.mark.parametrize(
    ("name", "line"),
    [
        (
            "configs/loss_comparison.py:noise",
            "configs/loss_comparison.py is now configs/classification.py",
        ),
        (
            "./configs/speculative_draft.py",
            "configs/speculative_draft.py is now "
            "configs/distillation.py:speculative_draft",
        ),
        (
            "configs/speculative_draft.py:smoke",
            "configs/speculative_draft.py:smoke is now "
            "configs/distillation.py:speculative_draft-smoke",
        ),
        ("configs/groking.py", "there is no config file 'configs/groking.py'"),
        ("mine/benchmark.py", "there is no config file 'mine/benchmark.py'"),
    ],
)
def test_old_configs(name, line):
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        recipes.read(name)
    assert str(refused.value) == line


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("few_bits/bits", "few_bits/bits is now {}/distillation/bits"),
        (
            "cross_entropy_scaling/default",
            "cross_entropy_scaling/default is now {}/scaling/default",
        ),
        (
            "speculative_draft/characters",
            "speculative_draft/characters is now {}/distillation/speculative_draft",
        ),
    ],
)
def test_old_results(name, line):
    folder = "experiments/results"
    line = f"{folder}/{line.format(folder)}"
    assert moved.result(f"{folder}/{name}") == line
    assert moved.result(pathlib.Path(f"/x/{folder}/{name}/figures/a.png")) == line
    with pytest.raises(ValueError) as refused:  # noqa: PT011
        studies.kept(name.replace("/", ":"))
    assert str(refused.value) == line


def test_results_that_never_were():
    for path in (
        "runs/grokking",
        "experiments/results",
        "x/experiments/results/few_bits",
    ):
        assert moved.result(path) is None
    assert moved.result("experiments/results/distillation/digits") is None
    assert studies.kept("grokking:study").is_dir()
    with pytest.raises(ValueError, match="no results are kept of 'grokking:stdy'"):
        studies.kept("grokking:stdy")


def test_a_config_of_ones_own():
    config = base.config("mine", steps=3, mesh=dict(data=-1), optim=dict(rate=0.1))
    assert config.is_locked
    assert (config.experiment, config.steps, config.optim.rate) == ("mine", 3, 0.1)
    assert (config.seeds, config.mesh.data, config.smoke) == (5, -1, False)
    with pytest.raises(ValueError, match="has no 'swep'; did you mean sweep"):
        studies.build(base.config("swep"))


def test_an_old_experiment_says_where_it_moved():
    with pytest.raises(ValueError, match="'grokking' is now 'grokking.study'"):
        studies.build(base.config("grokking"))
