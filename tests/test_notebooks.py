"""Every notebook of colabs/ is committed clean, and runs from wherever it is opened."""

import os
import pathlib

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = pathlib.Path(__file__).parents[1]
COLABS = ROOT / "colabs"
NOTEBOOKS = sorted(path.name for path in COLABS.glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("name", NOTEBOOKS)


def read(name):
    return nbformat.read(COLABS / name, as_version=nbformat.NO_CONVERT)


def run(notebook, folder):
    """Runs every cell in a kernel of its own, which sees the tests' settings."""
    client = NotebookClient(
        notebook,
        timeout=300,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    client.execute(env=os.environ | {"JAX_PLATFORMS": "cpu", "LOGITLAB_SMOKE": "1"})


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_there_are_notebooks():
    assert "grokking.ipynb" in NOTEBOOKS


@each_notebook
def test_is_committed_clean(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert (notebook.nbformat, notebook.nbformat_minor) == (4, 5)
    assert notebook.metadata.kernelspec.name == "python3"
    ids = [cell.id for cell in notebook.cells]
    assert len(set(ids)) == len(ids)
    for cell in code_cells(notebook):
        assert cell.outputs == []
        assert cell.execution_count is None
    first, *_, last = code_cells(notebook)
    assert "# %pip install -q" in first.source
    assert "assert " in last.source  # every notebook ends in a checked claim


@each_notebook
def test_runs(name):
    notebook, before = read(name), set(COLABS.iterdir())
    run(notebook, COLABS)
    counts = [cell.execution_count for cell in code_cells(notebook)]
    assert counts == list(range(1, len(counts) + 1))
    for cell in code_cells(notebook):
        for output in cell.outputs:
            assert output.get("name") != "stderr", output.text
    assert any(
        "image/png" in o.get("data", {})
        for c in code_cells(notebook)
        for o in c.outputs
    )
    assert set(COLABS.iterdir()) == before


@each_notebook
def test_finds_the_repository_from_its_root(name):
    notebook = read(name)
    with_imports = [i for i, c in enumerate(notebook.cells) if "\nimport " in c.source]
    notebook.cells = notebook.cells[: with_imports[-1] + 1]  # they look at the folder
    run(notebook, ROOT)
    assert all(cell.execution_count for cell in code_cells(notebook))
