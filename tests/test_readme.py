"""What the README says is true, and what it leads to runs as it stands."""

import importlib
import inspect
import json
import re
import sys

import pytest

from experiments.common import pages, papers, recipes, studies, verdicts
from logitlab import report, train
from logitlab.losses import catalogue

README = (pages.ROOT / "README.md").read_text("utf-8")
TEXTS = [path.read_text("utf-8") for path in pages.pages()]


def blocks(page):
    text = (pages.ROOT / page).read_text("utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


def test_size():
    assert len(README.encode()) <= 12_000


def test_how_many_losses_share_one_signature():
    rows = catalogue.CATALOGUE.values()

    def shared(row):
        parameters = inspect.signature(row.loss).parameters
        plain = [n for n, p in parameters.items() if p.kind is not p.KEYWORD_ONLY]
        return plain == ["logits", "labels"] and {"axis", "where"} <= {*parameters}

    said = f"{sum(map(shared, rows))} of the {len(rows)} losses take"
    assert said in README


def test_writing_an_experiment(tmp_path, monkeypatch):
    files = {}
    for block in blocks("experiments/README.md"):
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


def test_every_table_of_verdicts_is_made_of_kept_runs():
    words = "reproduced|confirmed|undecided|not tested|not met|met"
    for text in TEXTS:
        plain = re.sub(pages._MARKED, "", text, flags=re.S)
        assert not re.findall(rf"^\|.*\b(?:{words})\b.*$", plain, re.M)


def kept():
    """Kept runs of studies; a benchmark's are costs, which have no paper or table."""
    paths = studies.RESULTS.glob("*/*/claims.json")
    names = {":".join(path.parent.relative_to(studies.RESULTS).parts) for path in paths}
    return {name for name in names if not name.startswith("benchmarks:")}


def test_every_kept_run_is_in_a_table():
    counted = {name for rows in verdicts.COUNTED.values() for name in rows}
    assert counted | {*verdicts.LISTED.values()} == kept()


def test_each_kind_of_reference_is_counted_apart():
    table = verdicts.tables()["classification"]
    (row,) = (r for r in table.splitlines() if ":meco" in r)
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[2:] == ["", "1 of 1", "", "5 of 5", "1 of 1"]
    assert verdicts.summary("classification:meco") == (
        "theorems: 1 of 1; own expectations: 5 of 5; open questions: 1 of 1"
    )


def test_kept_verdicts_are_of_all_seeds():
    for path in studies.RESULTS.glob("*/*/claims.json"):
        seeds = json.loads((path.parent / "config.json").read_text())["seeds"]
        summary = (path.parent / "summary.json").read_text()
        assert json.loads(summary)["environment"]["jax"]
        assert "--workdir=/" not in summary  # a folder of one machine
        for verdict in report.read_claims(path):
            expected = 1 if verdict.over == "all" else seeds
            tested = verdict.verdict != "not tested"
            assert len(verdict.ours) == tested * expected, (path, verdict.text)
            assert verdict.paper or verdict.reference or verdict.question
            assert "pilot" not in f"{verdict.text} {verdict.cited}".lower()


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("Brier 1950", [("Brier 1950", "")]),
        ("torch.nn.CrossEntropyLoss(weight=...)", []),
        (
            "Dual-Head KD, Yang et al. 2024, arXiv:2411.08937",
            [("Dual-Head KD, Yang et al. 2024", "2411.08937")],
        ),
        (
            "truncated: Espeholt et al. 2018, arXiv:1802.01561, and Munos et al. 2016, "
            "arXiv:1606.02647; as in github.com/huggingface/trl.",
            [
                ("Espeholt et al. 2018", "1802.01561"),
                ("Munos et al. 2016", "1606.02647"),
            ],
        ),
    ],
)
def test_papers_are_read_from_sources(source, expected):
    assert papers.cited(source) == expected


def test_the_index_names_every_paper_once_and_fills_every_cell():
    found = papers.papers()
    keys = [(paper.title, paper.arxiv) for paper in found]
    assert len(set(keys)) == len(keys)
    assert all(paper.title for paper in found)
    for line in papers.table().splitlines():
        cells = re.split(r"(?<!\\)\|", line)[1:-1]
        assert len(cells) == 6
        assert all(cell.strip() for cell in cells), line


def test_the_index_names_functions_and_studies_that_exist():
    for paper in papers.papers():
        for name in paper.functions:
            room, _, function = name.partition(".")
            module = importlib.import_module(f"logitlab.{room}")
            assert callable(getattr(module, function)), name
    studied = {name for paper in papers.papers() for name in paper.variants}
    assert studied == kept()


def test_the_index_has_every_loss_with_a_paper():
    indexed = {name for paper in papers.papers() for name in paper.functions}
    for row in catalogue.CATALOGUE.values():
        room = row.loss.__module__.split(".")[1]
        assert not papers.cited(row.source) or f"{room}.{row.name}" in indexed


def test_studies_test_losses_that_their_configs_name():
    """Where variants share a module, the index follows what their configs hold."""
    chosen = {paper.arxiv: paper for paper in papers.papers()}
    for name, arxiv, function in [
        ("distillation:digits", "2203.08679", "dkd_loss"),
        ("distillation:digits", "2411.08937", "binary_kl"),
        ("distillation:vocabularies", "2402.12030", "uld_loss"),
        ("distillation:self_knowledge", "2303.13005", "uskd_loss"),
        ("classification:noise", "1805.07836", "generalized_cross_entropy"),
    ]:
        assert name in chosen[arxiv].variants
        assert function in str(recipes.read(config_path(name)))
    assert "distillation:mnist1d" not in chosen["2411.08937"].variants
    assert "binary_kl" not in str(recipes.read(config_path("distillation:mnist1d")))


def config_path(name):
    family, _, variant = name.partition(":")
    return str(pages.ROOT / f"configs/{family}.py:{variant}")
