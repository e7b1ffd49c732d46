"""Every notebook of colabs/ shows what it gave, and runs from wherever it is opened."""

import ast
import base64
import importlib
import pathlib
import re
import types

import nbformat
import pytest
from harness.quickly import FLAGS

from experiments.common.notebooks import execute

ROOT = pathlib.Path(__file__).parents[1]
COLABS = ROOT / "colabs"
NOTEBOOKS = sorted(path.name for path in COLABS.glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("name", NOTEBOOKS)
# A kernel for each takes half a minute; the default run has one, and reads the others.
each_kernel = pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=[pytest.mark.slow] * (name != "losses.ipynb"))
        for name in NOTEBOOKS
    ],
)


def read(name):
    return nbformat.read(COLABS / name, as_version=nbformat.NO_CONVERT)


def run(notebook, folder):
    execute(notebook, folder, LOGITLAB_SMOKE="1", XLA_FLAGS=FLAGS)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert "grokking.ipynb" in NOTEBOOKS


def figures(notebook):
    """The figures among the outputs, as PNG files."""
    outputs = [output for cell in code_cells(notebook) for output in cell.outputs]
    images = [output.get("data", {}).get("image/png") for output in outputs]
    return [base64.b64decode(image) for image in images if image]


@each_notebook
def test_is_committed_in_order(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    first, *_, last = code_cells(notebook)
    assert "# %pip install -q" in first.source
    assert "assert " in last.source  # every notebook ends in a checked claim


@each_notebook
def test_stored_outputs_are_small_figures_and_numbers(name):
    """No counts, no times, no warnings, and nothing of the machine that ran it."""
    notebook = read(name)
    stored = figures(notebook)
    assert stored, f"python -m experiments.common.notebooks colabs/{name} stores them"
    for figure in stored:
        assert figure.startswith(b"\x89PNG")
        assert len(figure) < 60_000
    for cell in code_cells(notebook):
        assert cell.execution_count is None
        assert "execution" not in cell.metadata
        for output in cell.outputs:
            assert output.output_type != "error"
            assert output.get("name") != "stderr"
            assert output.get("execution_count") is None
            text = output.get("text", "") + str(
                output.get("data", {}).get("text/plain")
            )
            assert not re.search(r"(?<![\w.])/(home|root|tmp|usr|work|content)/", text)
            assert "Warning" not in text


@each_notebook
def test_names_resolve(name):
    """What cells take from the repository is there, and by its newest name."""
    trees = [ast.parse(cell.source) for cell in code_cells(read(name))]
    nodes = [node for tree in trees for node in ast.walk(tree)]
    rooms = {}
    for node in nodes:
        room = getattr(node, "module", None) or ""
        if room.partition(".")[0] in ("logitlab", "configs", "experiments"):
            for alias in node.names:
                found = importlib.import_module(room)
                if hasattr(found, alias.name):
                    found = getattr(found, alias.name)
                else:  # a module that its package does not import
                    found = importlib.import_module(f"{room}.{alias.name}")
                rooms[alias.asname or alias.name] = found
    assert rooms
    for node in nodes:
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            room = rooms.get(node.value.id)
            if isinstance(room, types.ModuleType):
                assert hasattr(room, node.attr), ast.unparse(node)


@each_kernel
def test_runs(name):
    notebook, before = read(name), set(COLABS.iterdir())
    run(notebook, COLABS)
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.get("name") != "stderr", output.text
    assert figures(notebook)
    assert set(COLABS.iterdir()) == before


@each_kernel
def test_finds_the_repository_from_its_root(name):
    notebook = read(name)
    with_imports = [i for i, c in enumerate(notebook.cells) if "\nimport " in c.source]
    notebook.cells = notebook.cells[: with_imports[-1] + 1]  # they look at the folder
    run(notebook, ROOT)
    assert all(cell.execution_count for cell in code_cells(notebook))
