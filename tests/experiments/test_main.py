"""``python -m experiments.main`` as a user meets it, in processes of its own."""

import hashlib
import html
import importlib
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time

import jax
import matplotlib.image
import pytest
from absl.testing import flagsaver
from harness import toy
from harness.quickly import FLAGS

import experiments
from configs.grokking import get_config
from experiments import main
from experiments.common import recipes, studies
from logitlab import report, train

ROOT = pathlib.Path(__file__).parents[2]
SMOKE = "--config=configs/grokking.py:smoke"
ARMS = ("ce16", "perp", "stablemax")
STEPS = dict.fromkeys(ARMS, 20)
COMMAND = [SMOKE, *(f"--config.arms.{arm}.steps={n}" for arm, n in STEPS.items())]
LONG = 200_000  # of the first arm, enough to be interrupted


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "experiments.main", *arguments],
        cwd=ROOT,
        env={**os.environ, "XLA_FLAGS": FLAGS},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process):
    """(exit code, stdout, stderr); a user is never shown a traceback or a warning."""
    try:
        out, err = process.communicate(timeout=600)
    finally:
        process.kill()
    assert "Traceback" not in err, err
    assert "Warning" not in err, err
    return process.returncode, out, err


def call(*arguments):
    return finish(start(*arguments))


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A workdir after one whole run, and what the run printed."""
    workdir = tmp_path_factory.mktemp("runs") / "smoke"  # main makes it
    code, out, err = call(*COMMAND, f"--workdir={workdir}")
    assert code == 0, err
    return workdir, out


def test_leaves_what_the_design_promises(trained):
    workdir, out = trained
    config = json.loads((workdir / "config.json").read_text())
    assert {arm: config["arms"][arm]["steps"] for arm in ARMS} == STEPS
    header, *rows = (workdir / "metrics.csv").read_text().splitlines()
    assert header.startswith("arm,seed,step,")
    assert {"test/accuracy", "train/loss"} <= set(header.split(","))
    last = {row.split(",")[0]: int(row.split(",")[2]) for row in rows}
    assert last == STEPS
    assert (workdir / "timing.csv").read_text().startswith("arm,step,time,")
    for arm, steps in STEPS.items():
        assert (workdir / "checkpoints" / arm / str(steps)).is_dir()
    summary = json.loads((workdir / "summary.json").read_text())
    digest = hashlib.sha256((workdir / "config.json").read_bytes()).hexdigest()
    assert summary["config_sha256"] == digest
    assert summary["environment"].keys() >= {"jax", "device", "processor", "commit"}
    command = summary["environment"]["command"]
    assert command.startswith(f"python -m experiments.main {SMOKE} --config.arms.ce16")
    assert html.escape(command) in (workdir / "report.html").read_text()
    assert str(workdir / "report.html") in out


def test_leaves_figures(trained):
    figures = sorted((trained[0] / "figures").iterdir())
    assert [path.name for path in figures] == ["accuracy.png", "mechanism.png"]
    for path in figures:
        pixels = matplotlib.image.imread(path)  # decodes every one
        assert min(pixels.shape[:2]) > 200
        assert pixels.std() > 0.01


def test_leaves_verdicts(trained):
    workdir, out = trained
    verdicts = report.read_claims(workdir / "claims.json")
    assert len(verdicts) == 7
    for verdict in verdicts:
        assert (verdict.label, len(verdict.ours)) == ("not judged: smoke", 1)
    assert report.outcome(verdicts) == "7 claims not judged: smoke"
    assert report.outcome(verdicts) in " ".join(out.split())


def test_leaves_one_page_that_needs_nothing_else(trained):
    page = (trained[0] / "report.html").read_text()
    sources = re.findall(r'src\s*=\s*"([^"]{,30})', page)
    assert len(sources) == 2
    assert all(source.startswith("data:image/png;base64,") for source in sources)
    assert not re.search(r"<(script|link|iframe)|url\(|@import", page)
    for verdict in report.read_claims(trained[0] / "claims.json"):
        assert verdict.label in page


def test_a_second_call_trains_nothing(trained):
    workdir, out = trained
    before = contents(workdir)
    assert call(*COMMAND, f"--workdir={workdir}")[:2] == (0, out)
    after = contents(workdir)
    assert after.keys() == before.keys()
    for path in (workdir / "metrics.csv", workdir / "timing.csv"):
        assert after[path] == before[path]


def test_another_config_is_refused(trained):
    workdir, _ = trained
    before = contents(workdir)
    override = "--config.optim.adamw.b2=0.9", "--config.arms.perp.steps=21"
    code, out, err = call(*COMMAND, f"--workdir={workdir}", *override)
    assert (code, out) == (1, "")
    held = "holds a run of grokking.study, variant 'quick', with another config; "
    assert held + "choose another --workdir" in err
    assert err.splitlines()[1:] == [
        "  arms.perp.steps: 20 there, 21 here",
        "  optim.adamw.b2: 0.999 there, 0.9 here",
    ]
    assert contents(workdir) == before


def step_of(workdir):
    """The last step that the table has of the long arm, -1 before there is one."""
    table = workdir / "metrics.csv"
    text = table.read_text() if table.exists() else ""
    rows = [line.split(",") for line in text[: text.rfind("\n") + 1].splitlines()]
    return max([int(row[2]) for row in rows if row[0] == "ce16"], default=-1)


def interrupt(kind, command, step):
    """Starts, sends a signal once the long arm has gone beyond ``step``."""
    process, workdir = start(*command), command[-1].removeprefix("--workdir=")
    deadline = time.monotonic() + 600
    while step_of(pathlib.Path(workdir)) <= step and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(kind)
    return finish(process)


@pytest.mark.slow
def test_interrupted_runs_go_on_byte_for_byte(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    command = [*COMMAND, f"--config.arms.ce16.steps={LONG}"]
    code, printed, err = call(*command, f"--workdir={whole}")
    assert code == 0, err
    command.append(f"--workdir={parts}")
    step = 30
    for kind in (signal.SIGINT, signal.SIGTERM):
        code, _, err = interrupt(kind, command, step)
        assert code == 128 + kind
        assert f"stopped by {kind.name}; the same command goes on from here" in err
        saved = [int(path.name) for path in (parts / "checkpoints/ce16").iterdir()]
        assert step < step_of(parts) <= max(saved) < LONG
        assert not (parts / "claims.json").exists()
        step = step_of(parts)
    code, out, err = call(*command)
    assert code == 0, err
    assert out.replace(str(parts), str(whole)) == printed
    for name in ("metrics.csv", "claims.json", "config.json"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([SMOKE, "--config.lrr=1"], "'lrr'; did you mean 'optim.learning_rate'?"),
        (
            [SMOKE, "--config.optim.learning_rat=1"],
            "'optim.learning_rat'; did you mean 'optim.learning_rate'?",
        ),
        ([SMOKE, "--config.arms.ce16.step=1"], "did you mean 'arms.ce16.steps'?"),
        (
            [SMOKE, "--config.steps=abc"],
            "--config.steps=abc: invalid literal for int()",
        ),
        (
            [SMOKE, "--config.steps=1.5"],
            "--config.steps=1.5: invalid literal for int()",
        ),
        ([SMOKE, "--wrkdir=x"], "'wrkdir'. Did you mean: workdir ?"),
        ([SMOKE, "extra"], "unexpected arguments: extra"),
        (
            ["--config=configs/grokking.py:smok"],
            "'smok', expected one of quick, study, figure1, figure2, figure4, ",
        ),
        (["--config=configs/groking.py"], "no config file 'configs/groking.py'"),
        (
            ["--config=configs/loss_comparison.py:noise"],
            "error: configs/loss_comparison.py is now configs/classification.py",
        ),
        ([], "--config"),
        # Here jax is imported, and the study built, but nothing written.
        ([SMOKE, "--config.task.p=1"], "p is 1, expected an int from 2 to 46340"),
    ],
    ids=lambda value: value[-1] if isinstance(value, list) and value else "",
)
def test_bad_input_is_one_line(arguments, message, tmp_path):
    workdir = tmp_path / "run"
    code, out, err = call(f"--workdir={workdir}", *arguments)
    assert (code, out) == (1, "")
    assert err.startswith("error: ")
    assert err.count("\n") == 1, err
    assert message in err
    assert not workdir.exists()


@pytest.mark.parametrize("path", recipes.files(), ids=lambda path: path.stem)
def test_the_listing_has_every_variant(path):
    text = recipes.docstring(path)
    listed = dict(recipes.variants(text))
    lines = recipes.listing(width=80).splitlines()
    assert max(map(len, lines)) <= 80
    (head,) = (line for line in lines if line.startswith(f"configs/{path.name}: "))
    section = lines[lines.index(head) + 1 :][: len(listed)]
    assert [line.split()[0] for line in section] == [*listed]
    config = recipes.read(str(path))
    assert config.is_locked
    family = importlib.import_module(f"configs.{path.stem}")
    assert {*family.VARIANTS} <= {*listed}
    assert all(listed.values())


def test_without_arguments_it_lists_and_imports_no_jax():
    code = "import sys; from experiments import main; "
    code += "assert 'jax' not in sys.modules; main.parse(['main'])"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(recipes.listing(width=80).splitlines()[0])
    assert main.USAGE in done.stdout


def test_help_shows_the_config(capsys):
    with pytest.raises(SystemExit) as left:
        main.parse(["main", SMOKE, "--help"])
    assert left.value.code is None
    shown = capsys.readouterr().out
    assert recipes.docstring(ROOT / "configs/grokking.py") in shown
    assert "--config.arms.ce16.steps=200" in shown
    assert "--workdir" in shown


def parse(*arguments):
    with flagsaver.flagsaver():
        return main.parse(["main", *arguments, "--workdir=unused"])


def test_mesh_and_sharding_can_be_typed():
    config = parse(
        SMOKE,
        "--config.mesh.data=2",
        "--config.mesh.model=4",
        "--config.sharding=(('head/kernel', (None, 'model')),)",
    )
    assert config.mesh.to_dict() == {"data": 2, "model": 4}
    assert config.sharding == (("head/kernel", (None, "model")),)
    assert config.is_locked


def test_a_config_of_ones_own_needs_an_experiment_alone(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n"
        "    return ConfigDict(dict(experiment='mine', mesh=dict(model=2)))\n"
    )
    config = parse(f"--config={path}", "--config.seeds=3")
    assert config.is_locked
    assert (config.experiment, config.seeds) == ("mine", 3)
    assert config.mesh.to_dict() == {"data": 1, "model": 2}
    assert config.checkpoint.keep == 1
    path.write_text("def get_config():\n    return unknown\n")
    with pytest.raises(ValueError, match=r"mine.py' fails: NameError: name 'unknown'"):
        recipes.read(str(path))
    path.write_text("from ml_collections import ConfigDict\nget_config = ConfigDict\n")
    with pytest.raises(ValueError, match="has no entry 'experiment'"):
        recipes.read(str(path))


@pytest.mark.parametrize(
    ("module", "command"),
    [
        ("experiments", "python -m experiments.main"),
        ("experiments.sweep", "--config=configs/sweep.py --workdir=runs/sweep"),
        ("experiments.grokking.study", "--config=configs/grokking.py"),
        ("experiments.main", None),
        ("experiments.common.verdicts", None),
        ("pytest", None),
    ],
)
def test_studies_are_not_programs(module, command, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["-m", "--flag"])
    monkeypatch.setattr(sys, "orig_argv", ["python", "-m", module, "--flag"])
    if command is None:
        experiments._check_start()
        return
    with pytest.raises(SystemExit, match=f"{module} is not a program.*{command}"):
        experiments._check_start()


def test_started_by_its_path_it_says_what_to_type():
    code = compile((ROOT / "experiments/main.py").read_text("utf-8"), "main.py", "exec")
    with pytest.raises(SystemExit, match="python -m experiments.main"):
        exec(code, {"__name__": "__main__", "__package__": None})


def test_an_unknown_data_set_is_one_line(tmp_path):
    command = [
        "--config=configs/classification.py:noise-smoke",
        "--config.data.name=digts",
        f"--workdir={tmp_path / 'run'}",
    ]
    with flagsaver.flagsaver():
        config = main.parse(["main", *command])
        with pytest.raises(SystemExit) as left:
            main._run_study(config)
    assert re.match("error: .*'digts'.* did you mean .*'digits'", left.value.code)
    assert "\n" not in left.value.code
    assert not (tmp_path / "run").exists()


def test_dry_run(tmp_path, monkeypatch, capsys):
    """Prints what a step of each arm needs, and leaves nothing."""
    study = train.Study({"fit": toy.run(), "limit": train.Compute(lambda key: {})})
    monkeypatch.setattr(studies, "build", lambda config: study)
    with flagsaver.flagsaver():
        config = main.parse(["main", SMOKE, "--dry_run", "--config.mesh.data=2"])
        monkeypatch.chdir(tmp_path)
        main._dry_run(config)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "fit: a step, on each of 2 x cpu, mesh data=2"
    said = dict(re.split("  +", line.strip(), maxsplit=1) for line in lines[1:-1])
    seeds = config.seeds
    assert said["parameters"] == f"{4 * 3 * seeds} B"
    assert said["optimizer state"] == f"{(8 * 3 + 4) * seeds} B"
    assert said["time"] == "no peak of cpu is published"
    assert {"temporaries", "peak", "all-reduce", "operations"} <= said.keys()
    assert lines[-1] == "limit: computed, without training"
    assert not [*tmp_path.iterdir()]


def test_a_topology_is_for_dry_runs():
    with flagsaver.flagsaver(), pytest.raises(SystemExit) as left:
        main.parse(["main", SMOKE, "--workdir=unused", "--topology=v5e:2x2"])
    assert left.value.code.startswith("error: --topology is for --dry_run")


def test_a_workdir_is_required():
    code, out, err = call(SMOKE)
    assert (code, out) == (1, "")
    assert "--workdir is missing" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"train_fraction": 1.5}, "is 1.5, expected it in (0, 1)"),
        (
            {"task.operation": "ad"},
            "'ad', expected one of ('add', 'subtract', 'multiply', 'divide')",
        ),
        ({"loss.name": "cross_entrop"}, "softmax_cross_entropy"),
        ({"loss.link": "stablemx"}, "did you mean stablemax?"),
        ({"optim.name": "adam"}, "did you mean adamw?"),
        ({"seeds": 0}, "seeds is 0, expected at least 1"),
        ({"experiment": "grokking.stdy"}, "did you mean grokking.study"),
        (
            {"experiment": "grokking"},
            "config.experiment 'grokking' is now 'grokking.study'",
        ),
    ],
    ids=str,
)
def test_what_the_command_line_shows_of_a_bad_value(entries, message, tmp_path):
    config = get_config("smoke")
    config.update_from_flattened_dict(entries)
    with jax.enable_x64(True), pytest.raises(ValueError, match=re.escape(message)):
        train.run_study(studies.build(config), config, tmp_path / "run", quiet=True)
    assert not (tmp_path / "run").exists()
