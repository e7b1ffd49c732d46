"""What the README shows runs as it stands."""

import contextlib
import importlib
import io
import json
import pathlib
import re
import sys

import numpy as np

from logitlab import report, train
from logitlab.losses import catalogue

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
COMPOSE, HEADS, ALIGN, SADDLE, *MINE = BLOCKS


def test_the_table_of_losses_is_the_catalogue():
    table = README.split("<!-- catalogue -->\n")[1].split("\n<!-- /catalogue -->")[0]
    assert table == catalogue.table(), (
        "paste what this prints between the README's marks: "
        "python -c 'from logitlab.losses import catalogue; print(catalogue.table())'"
    )


def printed(block):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(block, {})
    return out.getvalue().splitlines()


def test_distilling_preferring_rewarding():
    numbers = [float(number) for number in printed(ALIGN)[0].split()]
    assert len(numbers) == 4
    assert np.isfinite(numbers).all()
    assert min(numbers[:3]) > 0  # divergences of strangers, and log 2 about


def test_composing_a_loss():
    losses, *_ = printed(COMPOSE)
    assert losses.startswith("[4.24")
    assert "e-18" in losses


def test_heads_without_logits():
    (shapes,) = printed(HEADS)
    assert shapes == "() (8, 64) (8, 64) (8,) (8, 64)"


def test_walking_past_a_saddle():
    (value,) = printed(SADDLE)
    assert float(value) < 0.3 < np.log(2)


def test_writing_an_experiment(tmp_path, monkeypatch):
    files = {}
    for block in MINE:
        path = tmp_path / block.splitlines()[0].removeprefix("# ")
        path.parent.mkdir()
        path.write_text(block)
        files[path.parent.name] = path
    monkeypatch.syspath_prepend(tmp_path / "experiments")
    spec = importlib.util.spec_from_file_location("mine_config", files["configs"])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    config = module.get_config()
    study = importlib.import_module("mine").build(config)
    del sys.modules["mine"]
    results = train.run_study(study, config, tmp_path / "run", quiet=True)
    (verdict,) = report.conclude(study, results, config, tmp_path / "run")
    assert verdict.verdict == "reproduced"
    assert (tmp_path / "run/report.html").exists()


def test_both_commands_are_marked_for_ci():
    for name in ("run", "test"):
        marked = re.search(rf"<!-- {name} -->\n```bash\n(.+)\n```\n", README)
        assert marked is not None
        assert marked.group(1).startswith("pip install -e '.[")


def test_the_numbers_are_those_of_the_committed_run():
    folder = ROOT / "experiments/results/grokking/study"
    verdicts = {v.text: v for v in report.read_claims(folder / "claims.json")}
    rows = dict(re.findall(r"^\| ([^|]+) \| (\d\.\d\d \[[^|]+\]) \|", README, re.M))
    for text, arm in {
        "StableMax generalises without regularisation": "StableMax",
        "softmax cross-entropy in float64 does not, all else equal": "softmax, float64",
        "softmax cross-entropy in float32 does not, all else equal": "softmax, float32",
        "softmax cross-entropy generalises once float32 computes it exactly": (
            "softmax, exact in float32"
        ),
    }.items():
        ours = verdicts[text].ours
        low, high = min(ours), max(ours)
        assert rows[arm] == f"{np.median(ours):.2f} [{low:.2f}, {high:.2f}]"
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["environment"]["jax"]
