"""Every row of the catalogue, held to what it says."""

import dataclasses
import pathlib
import types

import cases
import properties
import pytest

from logitlab import losses
from logitlab.losses import catalogue, rows
from logitlab.losses.catalogue import CATALOGUE

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"
ROW = rows.Row(
    losses.cross_entropy,
    kind="example",
    make=rows.class_labels,
    source="softmax collapse, Prieto et al. 2025, arXiv:2501.04697",
    convex=True,
    calibrated=True,
    proper=True,
    label_only=True,
)
# By row first, so that a worker that takes neighbours compiles a row's programs once.
CASES = [
    pytest.param(row, check, id=f"{row.name}-{name}")
    for row in CATALOGUE.values()
    for checks in properties.GROUPS.values()
    for name, check in checks.items()
]


@pytest.mark.parametrize(("row", "check"), CASES)
def test_property(row, check):
    check(cases.case_of(row))


def test_nothing_is_left_out_or_contradicts_itself():
    found = catalogue.problems(CATALOGUE.values(), [*catalogue.modules(), losses])
    assert not found, "\n".join(found)


@pytest.mark.parametrize("name", [n for n, row in CATALOGUE.items() if row.golden])
def test_golden_files_are_here(name):
    assert (GOLDEN / f"{CATALOGUE[name].golden}.json").exists()


def test_every_row_is_public():
    missing = [name for name in CATALOGUE if name not in losses.__all__]
    assert not missing, f"losses.__all__ lacks {missing}"


def test_table():
    rare = dataclasses.replace(ROW, lower=None, upper=2, convex=False, note="a|b")
    header, rule, first, second = catalogue.table([ROW, rare]).splitlines()
    count = header.count("|")
    assert rule.count("|") == first.count("|") == count
    assert second.replace("\\|", "").count("|") == count
    assert first.startswith(
        "| `cross_entropy` | example | yes | yes | yes | yes | [0, ∞)"
    )
    assert "(-∞, 2]" in second
    assert len(catalogue.table().splitlines()) == 2 + len(CATALOGUE)


def _module(**names):
    module = types.ModuleType("family")
    vars(module).update(names)
    return module


def test_merge_takes_each_row_once():
    one = _module(ROWS=(ROW,))
    assert catalogue.merge([one, _module(), one]) == {"cross_entropy": ROW}
    twin = dataclasses.replace(ROW, note="another")
    with pytest.raises(ValueError, match="a second row for 'cross_entropy'"):
        catalogue.merge([one, _module(ROWS=(twin,))])
    with pytest.raises(TypeError, match="expected a Row"):
        catalogue.merge([_module(ROWS=("cross_entropy",))])


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (dict(kind="batches"), "kind 'batches'"),
        (dict(kind="batch"), "no mask"),
        (dict(where=False), "where=False"),
        (dict(tokens=True), "about tokens"),
        (dict(source=""), "no source"),
        (dict(hyper=dict(tau=1.0)), "'tau'"),
        (dict(hyper=dict(axis=0)), "'axis'"),
        (dict(lower=2.0, upper=1.0, convex=False), "not below upper"),
        (dict(lower=float("-inf")), "finite numbers or None"),
        (dict(upper=1.0), "only a constant"),
        (dict(calibrated=False), "not calibrated"),
        (dict(kind="elementwise"), "label_only"),
        (dict(shift_invariant=False), "label_only"),
        (dict(surrogate="stops"), "surrogate"),
        (dict(rtol=0.1), "rtol"),
        (dict(shape=()), "shape"),
    ],
    ids=str,
)
def test_contradictions(change, text):
    found = catalogue.problems([dataclasses.replace(ROW, **change)])
    assert any(text in problem for problem in found), found
    assert not catalogue.problems([ROW])


def test_omissions():
    def lonely(logits, labels):
        """No row."""

    lonely.__module__ = "family"
    module = _module(lonely=lonely, __all__=["lonely"])
    assert "give it a row" in catalogue.problems([ROW], [module])[0]
    module.NOT_LOSSES = ("lonely",)
    assert not catalogue.problems([ROW], [module])
    module.NOT_LOSSES = ("lonely", "gone", "cross_entropy")
    found = catalogue.problems([ROW], [module])
    assert [text.split(": ")[1].split(",")[0] for text in found] == [
        "NOT_LOSSES names 'gone'",
        "NOT_LOSSES names 'cross_entropy'",
        "NOT_LOSSES names 'cross_entropy'",
    ]
    private = dataclasses.replace(ROW, loss=lonely, where=False, label_only=False)
    module = _module(ROWS=(private,))
    assert "not in __all__" in catalogue.problems([private], [module])[0]
