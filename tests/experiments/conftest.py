"""One runner for the end-to-end tests of all studies."""

import functools
import importlib
import pathlib
from collections.abc import Mapping
from typing import Any, NamedTuple

import jax
import pytest
from harness.interpreter import interpreted

from experiments.common import studies
from logitlab import report, train


class Done(NamedTuple):
    """What a run left.

    Attributes:
      study: what was run.
      results: by arm.
      verdicts: by the text of the claim.
      figures: names, sorted.
      workdir: the folder.
    """

    study: train.Study
    results: Mapping[str, Any]
    verdicts: Mapping[str, report.Verdict]
    figures: list[str]
    workdir: pathlib.Path


@pytest.fixture(scope="session")
def data_folder(tmp_path_factory):
    """Where data sets are built, once for all tests of a process."""
    return str(tmp_path_factory.mktemp("tfds"))


@pytest.fixture
def run_study(tmp_path, data_folder):
    """Runs the smoke form of a variant in this process, and judges its claims.

    ``run_study("preference:delta", steps=3)``; two underscores stand for a dot. Every
    run is held to what any study leaves.
    """

    def run(name, **overrides):
        family, variant = name.split(":")
        module = importlib.import_module(f"configs.{family}")
        config = module.get_config(f"{variant}-smoke")
        changes = {"smoke": False, "mesh.data": 1}
        if "data_dir" in config.get("data", {}):
            changes["data.data_dir"] = data_folder
        changes |= {key.replace("__", "."): value for key, value in overrides.items()}
        config.update_from_flattened_dict(changes)
        workdir = tmp_path / "run"
        with jax.enable_x64(config.x64):
            study = studies.build(config)
            results = train.run_study(study, config, workdir, quiet=True)
            verdicts = report.conclude(study, results, config, workdir)
        figures = sorted(path.stem for path in (workdir / "figures").glob("*.png"))
        assert results.keys() == study.arms.keys()
        assert figures == sorted(study.figures)
        assert len(verdicts) == len(study.claims)
        assert (workdir / "report.html").stat().st_size > 1000
        assert (workdir / "table.csv").exists() == (study.table is not None)
        for verdict in verdicts:
            seeds = 1 if verdict.over == "all" else config.seeds
            if verdict.verdict != "not tested":
                assert len(verdict.ours) == seeds, verdict.text
        return Done(study, results, {v.text: v for v in verdicts}, figures, workdir)

    return run


@pytest.fixture
def refused():
    """Asserts that a variant with another value of one entry is not built."""

    def check(name, key, value, message):
        family, variant = name.split(":")
        config = importlib.import_module(f"configs.{family}").get_config(variant)
        config.update_from_flattened_dict({key: value})
        with pytest.raises(ValueError, match=message):
            studies.build(config)

    return check


@pytest.fixture
def first_step():
    """State of a run after one step on the first rows, its loss, and its numbers."""

    def take(run, seed=0):
        key = jax.random.key(seed)
        start = functools.partial(train.init_state, run.init, run.optimizer)
        state = interpreted(start)(key)
        data = run.data(key)
        batch = jax.tree.map(lambda a: a[: run.batch_size], data["train"])
        step = interpreted(train.make_step(run.loss, run.optimizer))
        state, loss = step(state, batch)
        return state, loss, interpreted(run.evaluate)(state.params, data)

    return take
