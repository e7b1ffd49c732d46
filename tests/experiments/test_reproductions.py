"""Full runs, minutes each: ``python -m pytest -m slow``."""

import pathlib
import subprocess
import sys

import pytest

from logitlab import report

ROOT = pathlib.Path(__file__).parents[2]


@pytest.mark.slow
def test_grokking_quick(tmp_path):
    command = ["--config=configs/grokking.py", f"--workdir={tmp_path}"]
    subprocess.run(
        [sys.executable, "-m", "experiments.main", *command], cwd=ROOT, check=True
    )
    verdicts = {v.text: v.verdict for v in report.read_claims(tmp_path / "claims.json")}
    for text in (
        "StableMax generalises without regularisation",
        "softmax cross-entropy in float32 does not, all else equal",
        "softmax cross-entropy in float64 does not, all else equal",
        "in float16 every row of the training set collapses",
        "and the gradient is then exactly zero",
        "perpGrad has generalised by the time that it memorises (perp)",
    ):
        assert verdicts[text] == "reproduced"
