import pathlib
import subprocess
import sys

import pytest

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
