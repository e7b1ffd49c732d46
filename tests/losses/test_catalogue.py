"""Every row of the catalogue, held to what it says."""

import dataclasses
import re
import types

import pytest
from harness import adapted_rows, properties

import logitlab
from logitlab import losses
from logitlab.losses import _rows as rows
from logitlab.losses import catalogue
from logitlab.losses.catalogue import CATALOGUE

ROW = rows.Row(
    losses.cross_entropy,
    kind="example",
    make=rows.class_labels,
    source="softmax collapse, Prieto et al. 2025, arXiv:2501.04697",
    definition="paper",
    convex=True,
    calibrated=True,
    proper=True,
    label_only=True,
)
# Half a minute each; tests of their own hold them to golden numbers by default.
LONG = {"ctc_loss", "mlkd_loss"}
# By row first, so that a worker that takes neighbours compiles a row's programs once.
CASES = [
    pytest.param(
        row,
        group,
        id=f"{row.name}-{group}",
        marks=[pytest.mark.slow]
        * (
            name in LONG
            or (group in properties.HEAVY and name not in properties.SAMPLES)
        ),
    )
    for name, row in CATALOGUE.items()
    for group in (*properties.GROUPS, *properties.HEAVY)
]


@pytest.mark.optimized
@pytest.mark.parametrize(("row", "group"), CASES)
def test_property(row, group):
    properties.assert_passes(row, group)


def test_every_kind_has_its_sample():
    kinds = [CATALOGUE[name].kind for name in properties.SAMPLES]
    assert sorted(kinds) == sorted({row.kind for row in CATALOGUE.values()})


def test_nothing_is_left_out_or_contradicts_itself():
    found = catalogue.problems(CATALOGUE.values(), losses)
    assert not found, "\n".join(found)


def test_every_public_loss_has_a_row():
    rowed = {*CATALOGUE, *(row.name for row in adapted_rows.ROWS)}
    # What attacks maximize has tests of its own.
    rooms = [getattr(logitlab, room) for room in logitlab.__all__ if room != "attacks"]
    public = {name for room in rooms for name in room.__all__}
    missing = {name for name in public if name.endswith("_loss")} - rowed
    assert not missing, f"{sorted(missing)} are public and have no row"


def test_every_loss_says_when_to_use_it():
    silent = [name for name, row in CATALOGUE.items() if not catalogue.use(row.loss)]
    assert not silent, f"no paragraph 'Use it when ...' in the docstrings of {silent}"


def test_table():
    rare = dataclasses.replace(ROW, lower=None, upper=2, convex=False, note="a|b")
    header, rule, first, second = catalogue.table([ROW, rare]).splitlines()
    count = header.count("|")
    assert rule.count("|") == first.count("|") == count
    assert second.replace("\\|", "").count("|") == count
    assert first.startswith(
        "| `cross_entropy` | an example has one class, or a distribution over classes; "
        "exact at any margin | example | "
        "shift-invariant, convex, calibrated, proper | [0, ∞) | paper | softmax"
    )
    assert "| shift-invariant, calibrated, proper | (-∞, 2] |" in second


def test_the_page_has_a_section_for_every_purpose():
    page = catalogue.page()
    titles = [purpose.title for purpose in catalogue.PURPOSES]
    assert re.findall(r"^### (.*)$", page, re.M) == titles
    assert "| code, golden |" in page
    assert len(re.findall(r"^\| `", page, re.M)) == len(CATALOGUE)


def _module(**names):
    module = types.ModuleType("family")
    vars(module).update(names)
    return module


def test_merge_takes_each_row_once():
    one = _module(ROWS=(ROW,))
    assert catalogue.merge([one, _module()]) == {"cross_entropy": ROW}
    with pytest.raises(ValueError, match="a second row for 'cross_entropy'"):
        catalogue.merge([one, one])
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
        (dict(definition="guess"), "definition 'guess'"),
        (dict(golden="stablemax"), "golden numbers, but"),
        (dict(definition="inferred"), "docstring says otherwise"),
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


def test_a_docstring_that_infers_needs_a_row_that_says_so():
    row = dataclasses.replace(CATALOGUE["gld_loss"], definition="paper")
    (found,) = catalogue.problems([row])
    assert "docstring says otherwise" in found


def test_omissions():
    def lonely(logits, labels):
        """No row."""

    lonely.__module__ = "family"
    module = _module(lonely=lonely, __all__=["lonely"])
    (found,) = catalogue.problems([ROW], module, {})
    assert found == "'lonely' is public; give it a row, or name it in PARTS"
    assert not catalogue.problems([ROW], module, {"lonely": "of a loss"})
    parts = dict.fromkeys(["lonely", "gone", "cross_entropy"], "of a loss")
    assert catalogue.problems([ROW], module, parts) == [
        "PARTS names 'gone', which __all__ lacks",
        "PARTS names 'cross_entropy', which __all__ lacks",
        "PARTS names 'cross_entropy', which has a row",
    ]
    private = dataclasses.replace(ROW, loss=lonely, where=False, label_only=False)
    (found,) = catalogue.problems([private], _module(__all__=[]), {})
    assert found == "'lonely' has a row but is not in __all__"
