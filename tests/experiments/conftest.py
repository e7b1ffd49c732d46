import pathlib
import subprocess
import sys

import pytest

from logitlab import report, train

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture(scope="session")
def door():
    """``python -m experiments.main`` with a variant: (exit code, what it printed)."""

    def call(variant, workdir, config="loss_comparison", **overrides):
        command = [
            sys.executable,
            "-m",
            "experiments.main",
            f"--config=configs/{config}.py:{variant}",
            f"--workdir={workdir}",
            *(f"--config.{k.replace('__', '.')}={v}" for k, v in overrides.items()),
        ]
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=300
        )
        assert "Traceback" not in done.stderr, done.stderr
        assert "Warning" not in done.stderr, done.stderr
        return done.returncode, done.stdout + done.stderr

    return call


@pytest.fixture
def inside(tmp_path, x64):
    """A variant in this process, in float64: (results, verdicts, figures' names)."""

    def call(module, config, **overrides):
        plain = {k.replace("__", "."): v for k, v in overrides.items()}
        config.update_from_flattened_dict(plain)
        study = module.build(config)
        results = train.run_study(study, config, tmp_path, quiet=True)
        verdicts = report.conclude(study, results, config, tmp_path)
        names = sorted(path.stem for path in (tmp_path / "figures").iterdir())
        return results, {v.text: v for v in verdicts}, names

    return call
