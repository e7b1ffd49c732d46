"""What holds of every variant of every config."""

import importlib
import pathlib
import re

import jax
import pytest

from experiments.common import recipes, studies

HERE = pathlib.Path(__file__).parent
CONFIGS = [importlib.import_module(f"configs.{path.stem}") for path in recipes.files()]


def names(entries):
    return [
        f"{module.__name__.rpartition('.')[2]}:{variant}"
        for module in CONFIGS
        for variant in getattr(module, entries)
    ]


def config_of(name, data_folder):
    family, variant = name.split(":")
    config = importlib.import_module(f"configs.{family}").get_config(variant)
    if "data_dir" in config.get("data", {}):
        config.update_from_flattened_dict({"data.data_dir": data_folder})
    return config


@pytest.mark.parametrize("name", names("VARIANTS"))
def test_builds(name, data_folder, monkeypatch):
    monkeypatch.chdir(HERE.parents[1])  # where a sweep finds its base
    config = config_of(name, data_folder)
    assert name.partition(":")[0] in config.experiment.split(".")
    assert config.experiment in studies.modules()
    with jax.enable_x64(config.x64):
        study = studies.build(config)
    assert study.arms
    assert study.title
    assert {arm for claim in study.claims for arm in claim.needs} <= study.arms.keys()


def test_every_study_has_a_smoke_form(data_folder):
    small = {config_of(f"{name}-smoke", data_folder).experiment
             for name in names("SMOKE")}  # fmt: skip
    assert small == set(studies.modules())


def test_a_smoke_run_judges_nothing(data_folder):
    for name in names("SMOKE"):
        config = config_of(f"{name}-smoke", data_folder)
        assert config.smoke
        assert config.preliminary
        assert config.seeds <= 2


def run_elsewhere():
    """The variants whose own tests run them end to end."""
    texts = [path.read_text("utf-8") for path in HERE.rglob("test_*.py")]
    return {name for text in texts for name in re.findall(r'run_study\("(.+?)"', text)}


# Those that take 15 seconds or more, nearly all of it in compiling.
LONG = {
    "benchmarks:loop",
    "benchmarks:spherical",
    "classification:hl_gauss",
    "classification:noise",
    "classification:presto",
    "distillation:aspects",
    "distillation:cnn",
    "distillation:vit",
    "federated:skew",
    "federated:skew_cancer",
    "grokking:quick",
    "interpretability:explanations",
    "interpretability:norms",
    "optimization:autolrs",
    "optimization:big_batch",
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name in LONG))
        for name in sorted({*names("SMOKE")} - run_elsewhere() - {"sweep:grid"})
    ],
)
def test_runs(name, run_study):
    run_study(name)


def test_no_study_is_left_out():
    assert run_elsewhere() <= {*names("SMOKE")}


def test_an_unknown_variant_lists_those_there_are():
    for module in CONFIGS:
        with pytest.raises(ValueError, match=", ".join([*module.VARIANTS, "smoke"])):
            module.get_config("smok")
