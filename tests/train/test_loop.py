import csv
import dataclasses
import json
import os
import signal
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness import tensorboard, toy

from logitlab import metrics, train
from logitlab.train import Interrupted, NonFiniteLoss, Stream, Study
from logitlab.train.checkpoints import Checkpoints
from logitlab.train.loop import Logs

ALWAYS = range(0, 21)


def numbers(workdir):
    return (workdir / "metrics.csv").read_bytes()


def before_rows_of(step, patch, action):
    """Has ``action`` happen when a run is about to write the rows of a step."""
    append = Logs.append

    def after_action(self, rows, timing=None):
        if rows[0]["step"] == step:
            action()
        append(self, rows, timing)

    patch.setattr(Logs, "append", after_action)


@pytest.mark.sampled
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_goes_on_bit_for_bit(config, tmp_path, kind, monkeypatch):
    study = Study({"a": toy.run(evaluate_at=ALWAYS), "b": toy.run(batch_size=3)})
    whole = train.run_study(study, config, tmp_path / "whole", quiet=True)

    with monkeypatch.context() as patch:
        before_rows_of(7, patch, lambda: os.kill(os.getpid(), kind))
        with pytest.raises(Interrupted) as stopped:
            train.run_study(study, config, tmp_path / "parts", quiet=True)
    assert stopped.value.exit_code == 128 + kind
    assert signal.getsignal(kind) is not None
    cut = numbers(tmp_path / "parts").decode().splitlines()
    assert cut[-1].startswith("a,4,7,")
    parts = train.run_study(study, config, tmp_path / "parts", quiet=True)
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    for name in study.arms:
        np.testing.assert_array_equal(parts[name].arrays["w"], whole[name].arrays["w"])


def test_rows_after_the_checkpoint_are_forgotten(config, tmp_path, monkeypatch):
    """A run that was killed had logged beyond its last checkpoint."""
    study = Study({"a": toy.run(evaluate_at=range(0, 21, 3))})
    train.run_study(study, config, tmp_path / "whole", quiet=True)

    def fails():
        raise OSError("no space left on device")

    with config.unlocked():
        config.checkpoint.every_seconds = 0.0
    with monkeypatch.context() as patch:
        before_rows_of(9, patch, fails)
        with pytest.raises(OSError, match="no space"):
            train.run_study(study, config, tmp_path / "parts", quiet=True)
    with open(tmp_path / "parts/metrics.csv", "a") as file:
        file.write("a,3,9,1.0,1.0\na,4,9,1.")  # logged, not saved; and half a row
    train.run_study(study, config, tmp_path / "parts", quiet=True)
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")


def exploding(key=None):
    """The weight doubles at each step; at the 31st its square passes 3.4e38."""
    return toy.run(
        init=lambda key: {"w": jnp.float32(1e10)},
        loss=lambda params, batch, key: batch["x"][:, 0] * 0 + params["w"] ** 2 / 2,
        evaluate=lambda params, parts: {"w": params["w"]},
        optimizer=optax.sgd(3.0),
        steps=200,
        evaluate_at=(0, 10, 20, 50, 200),
    )


def test_a_loss_that_is_not_finite_stops_the_run(config, tmp_path):
    with config.unlocked():
        config.checkpoint.every_seconds = 0.0
    study = Study({"boom": exploding()})
    message = r"loss of arm 'boom' is inf at step 31 with seed 3, .*; the checkpoint of"
    with pytest.raises(NonFiniteLoss, match=message):
        train.run_study(study, config, tmp_path, quiet=True)
    rows = numbers(tmp_path).decode().splitlines()
    assert rows[-1].startswith("boom,4,20,")
    assert list((tmp_path / "checkpoints/boom").iterdir())


def test_a_loss_that_is_not_finite_may_end_a_seed(config, tmp_path):
    with config.unlocked():
        config.nonfinite = "end"
    with pytest.warns(UserWarning, match="inf at step 31 with seed 3"):
        results = train.run_study(
            Study({"boom": exploding()}), config, tmp_path, quiet=True
        )
    np.testing.assert_array_equal(results["boom"].steps, [0, 10, 20])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        train.run_study(Study({"boom": exploding()}), config, tmp_path, quiet=True)


@pytest.mark.sampled
@pytest.mark.parametrize("parallel", ["jit", "pmap"])
def test_steps_that_are_not_finite_may_be_skipped(config, tmp_path, parallel):
    with config.unlocked():
        config.nonfinite, config.parallel = "skip", parallel

    def spoilt(key):
        parts = toy.data(key)
        x = parts["train"]["x"].at[3].set(jnp.nan)  # in one of five batches
        return parts | {"train": parts["train"] | {"x": x}}

    def evaluate(params, parts):
        error = params["w"] - jnp.float32([1, -2, 3])
        return {"error": jnp.abs(error).max()}

    settings = dict(data=spoilt, batch_size=2, evaluate=evaluate, steps=200)
    run = toy.run(**settings, evaluate_at=(0, 10, 100, 200), optimizer=optax.adam(0.1))
    with pytest.warns(UserWarning, match="arm 'a' skipped steps before"):
        results = train.run_study(Study({"a": run}), config, tmp_path, quiet=True)
    np.testing.assert_array_equal(results["a"]["skipped"][:, 0], [0, 2, 20, 40])
    assert (results["a"].final("error") < 0.05).all()
    with config.unlocked():
        config.nonfinite = "stop"
    with pytest.raises(NonFiniteLoss, match="is nan at step"):
        train.run_study(Study({"a": run}), config, tmp_path / "stop", quiet=True)


def test_skipping_every_step_is_no_training(config, tmp_path):
    with config.unlocked():
        config.nonfinite = "skip"
    run = toy.run(loss=lambda params, batch, key: batch["y"] / 0 + params["w"][0])
    with (
        pytest.warns(UserWarning, match="skipped steps before"),
        pytest.raises(NonFiniteLoss, match="15 with seed 3.*; there were 15 since 5"),
    ):
        train.run_study(Study({"a": run}), config, tmp_path, quiet=True)


def unlucky(chance):
    def loss(params, batch, key):
        bad = jax.random.uniform(key) < chance
        return toy.loss(params, batch, key) + jnp.where(bad, jnp.inf, 0)

    return toy.run(loss=loss, evaluate_at=ALWAYS)


def test_bad_luck_is_rolled_back(config, tmp_path):
    with config.unlocked():
        config.nonfinite, config.checkpoint.every_seconds = "rollback", 0.0
        config.seeds = 1
    with pytest.warns(UserWarning, match=r"inf at step \d+ with seed 3; back to step"):
        results = train.run_study(
            Study({"a": unlucky(0.1)}), config, tmp_path, quiet=True
        )
    np.testing.assert_array_equal(results["a"].steps, range(21))  # no row twice
    with (
        pytest.warns(UserWarning, match="back to step 0"),
        pytest.raises(NonFiniteLoss, match="is inf at step 0 with seed 3"),
    ):
        train.run_study(
            Study({"a": unlucky(1.0)}), config, tmp_path / "never", quiet=True
        )


def test_a_seed_stops_alone(config, tmp_path):
    whole = Study({"a": toy.run(evaluate_at=ALWAYS)})
    losses = train.run_study(whole, config, tmp_path / "whole", quiet=True)["a"]["loss"]
    bound = losses[10].mean()
    assert (
        len(set((losses < bound).argmax(0))) == 2
    )  # one seed is there before the other
    early = Study({"a": toy.run(evaluate_at=ALWAYS, stop=lambda n: n["loss"] < bound)})
    result = train.run_study(early, config, tmp_path / "early", quiet=True)["a"]
    for i, first in enumerate((losses < bound).argmax(0)):
        np.testing.assert_array_equal(
            result["loss"][: first + 1, i], losses[: first + 1, i]
        )
        assert np.isnan(result["loss"][first + 1 :, i]).all()
        assert result.final("loss")[i] == losses[first, i]


def test_the_best_is_kept_and_waited_for(config, tmp_path, monkeypatch):
    """The loss falls, then rises: weights go past the best point, and back no more."""
    target = 0.5

    def run(**changes):
        return toy.run(
            init=lambda key: {"w": jax.random.uniform(key, maxval=0.1)},
            loss=lambda params, batch, key: batch["x"][:, 0] * 0 - params["w"],
            optimizer=optax.sgd(0.1),
            evaluate=lambda params, data: {"miss": jnp.abs(params["w"] - target)},
            evaluate_at=ALWAYS,
            best="miss",
            **changes,
        )

    study = Study({"a": run(patience=4), "b": run()})
    results = train.run_study(study, config, tmp_path / "whole", quiet=True)
    miss = results["b"]["miss"]
    best = miss.argmin(0)
    assert ((best > 2) & (best < 8)).all()
    for i, at in enumerate(best):
        assert np.isfinite(results["a"]["miss"][: at + 5, i]).all()
        assert np.isnan(results["a"]["miss"][at + 5 :, i]).all()
        for name in "ab":
            kept = results[name].best_arrays["w"][i]
            np.testing.assert_allclose(abs(kept - target), miss[at, i], rtol=1e-6)
    assert (results["b"].arrays["w"] > 1).all()

    with monkeypatch.context() as patch:
        at = best.max() + 2  # waiting already
        before_rows_of(at, patch, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            train.run_study(study, config, tmp_path / "parts", quiet=True)
    parts = train.run_study(study, config, tmp_path / "parts", quiet=True)
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    kept = [r["a"].best_arrays["w"] for r in (results, parts)]
    np.testing.assert_array_equal(*kept)
    wrong = Study({"a": dataclasses.replace(run(), best="mis")})
    with pytest.raises(ValueError, match=r"best is 'mis', expected .*\['miss'\]"):
        train.run_study(wrong, config, tmp_path / "wrong", quiet=True)


def test_what_happened_is_logged_and_a_window_traced(config, tmp_path):
    study = Study({"a": toy.run()})
    train.run_study(study, config, tmp_path, profile=(3, 7), quiet=True)
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    events = [json.loads(line) for line in lines]
    named = [event["event"] for event in events]
    assert named == ["run", "started", "saved", "done", "end"]
    assert events[0]["processes"] == 1
    assert events[2]["step"] == 20
    assert list(tmp_path.glob("profile/a/**/*.xplane.pb"))
    with pytest.raises(ValueError, match="profile is 7:7, expected steps START:STOP"):
        train.run_study(study, config, tmp_path, profile=(7, 7), quiet=True)


def test_utilisation_is_against_the_counted_operations(config, tmp_path):
    n = 64
    run = toy.run(
        init=lambda key: {"w": jax.random.normal(key, (n, n))},
        loss=lambda params, batch, key: ((batch["x"] @ params["w"]) ** 2).sum(-1),
        data={"train": {"x": jnp.ones((n, n))}},
        evaluate=lambda params, data: {"norm": params["w"].sum()},
        evaluate_at=(10, 20),
    )
    train.run_study(Study({"a": run}), config, tmp_path, quiet=True)
    with open(tmp_path / "timing.csv", newline="") as file:
        *_, row = csv.DictReader(file)
    counted = float(row["flops_per_second"]) / float(row["steps_per_second"])
    products = 2 * 2 * 2 * n**3  # two products of two seeds
    np.testing.assert_allclose(counted, products, rtol=0.1)
    assert 0 < float(row["utilisation"]) < 1
    assert float(row["peak_bytes"]) > 1e7


def test_streams_resume_where_they_were(config, tmp_path, monkeypatch):
    asked = []

    def batches(step):
        asked.append(step)
        rng = np.random.default_rng(0)
        rows = rng.normal(size=(20, 4, 3)).astype(np.float32)
        for x in rows[step:]:
            yield {"x": x, "y": x.sum(-1)}

    run = toy.run(
        data={"train": Stream(batches, ahead=3)},
        evaluate=lambda params, parts: {"norm": jnp.abs(params["w"]).sum()},
        evaluate_at=(6, 13, 20),
    )
    study = Study({"a": run})
    train.run_study(study, config, tmp_path / "whole", quiet=True)

    with monkeypatch.context() as patch:
        before_rows_of(13, patch, lambda: os.kill(os.getpid(), signal.SIGTERM))
        with pytest.raises(Interrupted):
            train.run_study(study, config, tmp_path / "parts", quiet=True)
    train.run_study(study, config, tmp_path / "parts", quiet=True)
    assert asked == [0, 0, 13]
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")


def test_a_stream_that_ends_too_early(config, tmp_path):
    x = np.ones((4, 3), np.float32)
    short = Stream(lambda step: iter([{"x": x, "y": x[:, 0]}] * 5))
    run = toy.run(data={"train": short}, evaluate=lambda p, d: {"w": p["w"].sum()})
    with pytest.raises(ValueError, match="ended before the last step"):
        train.run_study(Study({"a": run}), config, tmp_path, quiet=True)


def test_bools_and_integers_are_metrics(config, tmp_path):
    def evaluate(params, parts):
        near = jnp.abs(params["w"]) < 1
        return {
            "all": near.all(),
            "some": near.sum().astype(jnp.uint8),
            "share": metrics.mean_of(near),
        }

    run = toy.run(evaluate=evaluate, best="some", best_by="max", show=("all", "some"))
    study = Study({"a": run, "b": train.Compute(lambda key: {"right": True, "n": 3})})
    for _ in range(2):  # trained, and read
        results = train.run_study(study, config, tmp_path, quiet=True)
        a = results["a"]
        np.testing.assert_array_equal(a["all"], a["some"] == 3)
        np.testing.assert_allclose(a["share"], a["some"] / 3, rtol=1e-6)
        np.testing.assert_array_equal(results["b"]["right"], [[1, 1]])
        np.testing.assert_array_equal(results["b"]["n"], [[3, 3]])


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("step", 1.0, "arm 'a' has a metric 'step', which is the name of a column"),
        ("seed", 1.0, "arm 'a' has a metric 'seed', which is"),
        ("arm", 1.0, "arm 'a' has a metric 'arm', which is"),
        (
            "skipped",
            1.0,
            "arm 'a' has a metric 'skipped', .* where nonfinite is 'skip'",
        ),
        ("phase", 1j, "metric 'phase' of arm 'a' has dtype complex64, expected real"),
        ("w", [1.0, 2.0], r"evaluate returned 'w' with shape \(2,\)"),
    ],
)
def test_metrics_that_do_not_fit_are_named_before_training(
    config, tmp_path, name, value, message
):
    def never(params, batch, key):
        raise AssertionError("trained")

    with config.unlocked():
        config.nonfinite = "skip"
    run = toy.run(
        loss=never, evaluate=lambda p, d: {name: jnp.array(value)}, evaluate_at=(20,)
    )
    with pytest.raises(ValueError, match=message):
        train.run_study(Study({"a": run}), config, tmp_path, quiet=True)


def test_means_over_seeds_that_fit_are_shown(config, tmp_path, capsys):
    def evaluate(params, parts):
        return {"huge": params["w"][0] * 0 + jnp.float32(3e38)}

    run = toy.run(evaluate=evaluate, show=("huge",))
    train.run_study(Study({"a": run}), config, tmp_path)
    assert "huge=3e+38" in capsys.readouterr().err


def test_a_finished_run_goes_on_when_asked_for_more(config, tmp_path, capsys):
    def arms(steps, **changes):
        points = (0, 5, *range(10, steps + 1, 10))
        settings = dict(evaluate_at=points, batch_size=3, **changes)
        return Study({"a": toy.run(steps=steps, **settings)})

    whole = train.run_study(arms(40), config, tmp_path / "whole", quiet=True)["a"]
    train.run_study(arms(20), config, tmp_path / "parts", quiet=True)
    parts = train.run_study(arms(40), config, tmp_path / "parts", quiet=True)["a"]
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    np.testing.assert_array_equal(parts.arrays["w"], whole.arrays["w"])
    assert capsys.readouterr().out == ""

    train.run_study(arms(30), config, tmp_path / "parts", quiet=True)
    said = "arm 'a' is at step 40, beyond the 30 steps asked for\n"
    assert capsys.readouterr().out == said
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")

    stopped = dict(stop=lambda numbers: True)  # each seed at its first evaluation
    for steps in (20, 20):
        train.run_study(arms(steps, **stopped), config, tmp_path / "none", quiet=True)
    assert capsys.readouterr().out == ""  # nothing more was asked for
    train.run_study(arms(40, **stopped), config, tmp_path / "none", quiet=True)
    said = "arm 'a' does not go on to step 40: all its seeds ended by 0\n"
    assert capsys.readouterr().out == said


def test_tensorboard_says_what_the_table_says(config, tmp_path, monkeypatch):
    """After a crash, and after a rollback too, no step comes twice."""
    with config.unlocked():
        config.tensorboard, config.checkpoint.every_seconds = True, 0.0
        config.nonfinite, config.seeds = "rollback", 1
    study = Study({"a": unlucky(0.1)})

    def crash(*_):
        raise OSError("the machine is gone")

    def run_to_its_end():
        with monkeypatch.context() as patch:
            before_rows_of(9, patch, crash)
            with pytest.raises(OSError, match="is gone"):
                train.run_study(study, config, tmp_path, quiet=True)
        with monkeypatch.context() as patch:
            patch.setattr(Checkpoints, "save", crash)  # of what was logged by then
            with pytest.raises(OSError, match="is gone"):
                train.run_study(study, config, tmp_path, quiet=True)
        train.run_study(study, config, tmp_path, quiet=True)

    with pytest.warns(UserWarning, match=r"inf at step \d+ with seed 3; back to step"):
        run_to_its_end()
    with open(tmp_path / "metrics.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == [str(step) for step in ALWAYS]
    got = tensorboard.events(tmp_path / "tensorboard")
    want = [(int(row["step"]), name) for row in rows for name in ("loss", "norm")]
    assert [event[:2] for event in got] == want
    values = [float(row[name]) for row in rows for name in ("loss", "norm")]
    np.testing.assert_allclose([value for *_, value in got], values, rtol=1e-6)


def test_tensorboard_on_request(config, tmp_path):
    with config.unlocked():
        config.tensorboard = True
    train.run_study(Study({"a": toy.run()}), config, tmp_path, quiet=True)
    events = list(tmp_path.glob("tensorboard/a/seed_*/events*"))
    assert len(events) == 2
    assert all(event.stat().st_size > 200 for event in events)
