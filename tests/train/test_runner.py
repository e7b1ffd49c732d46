import pathlib
import re
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness import toy

from logitlab import train
from logitlab.train import Study, WorkdirError, _buckets

ALWAYS = range(0, 21)


def numbers(workdir):
    return (workdir / "metrics.csv").read_bytes()


def test_runs_every_arm_and_reads_its_results(config, tmp_path):
    study = Study({"a": toy.run(), "b": toy.run(optimizer=optax.sgd(0.01))})
    results = train.run_study(study, config, tmp_path, quiet=True)
    assert list(results) == ["a", "b"]
    for result in results.values():
        np.testing.assert_array_equal(result.steps, [0, 1, 5, 20])
        assert result.seeds == (3, 4)
        assert result["loss"].shape == (4, 2)
        assert (result.final("loss") < result["loss"][0]).all()
        assert result.arrays["w"].shape == (2, 3)
    header, first, *_ = numbers(tmp_path).decode().splitlines()
    assert header == "arm,seed,step,loss,norm"
    assert first.startswith("a,3,0,")
    timing = (tmp_path / "timing.csv").read_text()
    assert timing.startswith(
        "arm,step,time,steps_per_second,flops_per_second,utilisation,peak_bytes\n"
    )


def test_a_second_call_trains_nothing(config, tmp_path):
    train.run_study(Study({"a": toy.run()}), config, tmp_path, quiet=True)
    before = numbers(tmp_path)

    def never(params, batch, key):
        raise AssertionError("trained again")

    again = Study({"a": toy.run(loss=never)})
    results = train.run_study(again, config, tmp_path, quiet=True)
    assert numbers(tmp_path) == before
    assert results["a"]["loss"].shape == (4, 2)


def test_computed_arms(config, tmp_path):
    calls = []

    def values(key):
        calls.append(key)
        return {"risk": jax.random.uniform(key), "curve": jnp.arange(3.0)}

    study = Study({"closed form": train.Compute(values)})
    for _ in range(2):
        result = train.run_study(study, config, tmp_path, quiet=True)["closed form"]
        expected = [[jax.random.uniform(jax.random.key(seed)) for seed in (3, 4)]]
        np.testing.assert_allclose(result["risk"], expected)
        np.testing.assert_array_equal(result.arrays["curve"], [[0, 1, 2]] * 2)
    assert len(calls) == 2


def test_what_bars_say_of_each_arm(config, tmp_path, capsys):
    arms = {
        "early": toy.run(evaluate_at=ALWAYS, stop=lambda n: "95 % reached"),
        "waits": toy.run(evaluate_at=ALWAYS, best="norm", best_by="min", patience=1),
        "computed": train.Compute(lambda key: {"risk": 0.5}),
    }
    train.run_study(Study(arms), config, tmp_path)
    shown = capsys.readouterr().err
    assert re.search(r"\[1/3\] early .*stopped: 95 % reached", shown)
    assert re.search(r"\[2/3\] waits .*stopped: norm no better 1 times", shown)
    assert re.search(r"\[3/3\] computed +0% .*computing", shown)
    assert re.search(r"\[3/3\] computed +100% ", shown)
    train.run_study(Study(arms), config, tmp_path)
    said = capsys.readouterr().err
    assert said == f"{tmp_path} is finished: all 3 arms are done\n"
    train.run_study(Study(arms), config, tmp_path, quiet=True)
    assert capsys.readouterr().err == ""


def test_a_workdir_of_another_config(config, tmp_path):
    study = Study({"a": toy.run()})
    train.run_study(study, config, tmp_path, quiet=True)
    before = {p: p.read_bytes() for p in tmp_path.glob("*.*")}
    with config.unlocked():
        config.checkpoint.keep = 5
    with pytest.raises(WorkdirError, match=r"checkpoint.keep: 2 there, 5 here"):
        train.run_study(study, config, tmp_path, quiet=True)
    assert {p: p.read_bytes() for p in tmp_path.glob("*.*")} == before


def test_a_refusal_is_short_and_says_what_is_there(config, tmp_path):
    study, many = Study({"a": toy.run()}), {f"key{i:02}": 0 for i in range(14)}
    with config.unlocked():
        config.update(dict(experiment="mine", variant="small", **many))
    train.run_study(study, config, tmp_path, quiet=True)
    with config.unlocked():
        config.update(dict.fromkeys(many, 1))
    with pytest.raises(WorkdirError, match="of mine, variant 'small', with another"):
        train.run_study(study, config, tmp_path, quiet=True)
    config.variant = "large"
    held = "of mine, variant 'small', not of mine, variant 'large'; choose"
    with pytest.raises(WorkdirError, match=held) as refused:
        train.run_study(study, config, tmp_path, quiet=True)
    first, *lines = str(refused.value).splitlines()[1:]
    assert first == "  variant: 'small' there, 'large' here"
    assert lines[0] == "  key00: 0 there, 1 here"
    assert lines[9:] == ["  and 5 more"]


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        (dict(precision="bf16"), "precision is 'bf16', expected a float dtype"),
        (dict(precision="int8"), "precision is 'int8', expected a float dtype"),
        (dict(parallel="xmap"), "parallel is 'xmap', expected one of"),
        (dict(seeds_by="scan"), "seeds_by is 'scan', expected one of"),
        (dict(nonfinite="go"), "nonfinite is 'go', expected one of"),
        (dict(mesh=dict(data=2, model=2), parallel="pmap"), "pmap knows the axis data"),
        (dict(mesh=dict(data=99)), "expected sizes"),
        (dict(sharding=(("v", ()),)), "matches no parameter"),
        (dict(sharding=(("w", (None, "data")),)), "does not fit w of shape"),
        (dict(sharding=(("w", ("model",)),)), "names axes"),
    ],
    ids=str,
)
def test_values_are_checked_before_anything_is_written(
    config, tmp_path, entries, message
):
    with config.unlocked():
        config.update(entries)
    with pytest.raises(ValueError, match=message):
        train.run_study(Study({"a": toy.run()}), config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()


def test_a_workdir_that_cannot_be_made(config, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(WorkdirError, match="cannot use workdir"):
        train.run_study(Study({}), config, tmp_path / "file/deeper", quiet=True)
    with pytest.raises(WorkdirError, match="cannot use workdir /proc/run"):
        train.run_study(Study({}), config, pathlib.Path("/proc/run"), quiet=True)
    # A path of pathlib has lost one of two slashes.
    for workdir in (pathlib.Path("gs://bucket/a"), "gs://", "s3://bucket/a"):
        with pytest.raises(ValueError, match="expected a folder or gs://BUCKET/PATH"):
            train.run_study(Study({}), config, workdir, quiet=True)


def test_a_bucket_without_gcsfs_names_the_extra(config, monkeypatch):
    monkeypatch.setitem(sys.modules, "gcsfs", None)  # as though not installed
    monkeypatch.setattr(_buckets, "_storage", _buckets._storage.__wrapped__)
    with pytest.raises(
        ValueError, match=r"^workdirs .* need gcsfs; .*logitlab\[gcs\]'$"
    ):
        train.run_study(Study({}), config, "gs://bucket/a", quiet=True)


def test_other_seeds_are_another_run(config, tmp_path):
    study = Study({"a": toy.run(), "b": train.Compute(lambda key: {"half": 0.5})})
    train.run_study(study, config, tmp_path, quiet=True)
    for change in (dict(seeds=3), dict(seeds=1), dict(seed=4)):
        with config.unlocked():
            config.update(dict(seed=3, seeds=2) | change)
        seeds = list(range(config.seed, config.seed + config.seeds))
        message = rf"arm 'a' in .* was run with seeds \[3, 4\], not \{seeds}"
        with pytest.raises(WorkdirError, match=message):
            train.run_study(study, config, tmp_path, allow_changes=True, quiet=True)


def test_another_model_does_not_go_on(config, tmp_path):
    train.run_study(Study({"a": toy.run()}), config, tmp_path, quiet=True)
    longer = toy.run(steps=40, optimizer=optax.sgd(0.1))
    message = (
        r"checkpoints/a/20 holds other [\s\S]*\n  opt_state/0/mu/w: float32\[2,3\]"
    )
    with pytest.raises(WorkdirError, match=message):
        train.run_study(Study({"a": longer}), config, tmp_path, quiet=True)
