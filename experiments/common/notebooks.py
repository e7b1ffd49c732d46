"""Executes notebooks and stores what a reader should see of their outputs.

``python -m experiments.common.notebooks colabs/losses.ipynb`` runs every cell in a
kernel of its own, beside the notebook, and writes its figures and printed numbers
back. Without names it does so for all of colabs/. Needs ``pip install -e '.[test]'``.
"""

import base64
import io
import os
import pathlib
import sys

import nbformat

COLABS = pathlib.Path(__file__).parents[2] / "colabs"
_WIDTH, _COLORS = 880, 256  # of a stored figure: pixels, and entries of its palette


def execute(notebook: nbformat.NotebookNode, folder: pathlib.Path, **env: str) -> None:
    """Runs every cell in ``folder``, on the CPU; the notebook gets the outputs."""
    from nbclient import NotebookClient

    client = NotebookClient(
        notebook,
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
    )
    client.execute(env=os.environ | {"JAX_PLATFORMS": "cpu"} | env)


def store(path: pathlib.Path) -> None:
    """Executes a notebook and writes it back, with small figures and printed text."""
    notebook = nbformat.read(path, nbformat.NO_CONVERT)
    done = nbformat.from_dict(notebook)
    execute(done, path.parent)
    for cell, ran in zip(notebook.cells, done.cells, strict=True):
        if cell.cell_type == "code":
            cell.outputs = [_small(o) for o in ran.outputs if o.get("name") != "stderr"]
            cell.execution_count = None
    path.write_text(nbformat.writes(notebook) + "\n", "utf-8")


def _small(output: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The output without its count, and a figure with few pixels and colors."""
    from PIL import Image

    if "execution_count" in output:
        output.execution_count = None
    if "image/png" in output.get("data", {}):
        data = base64.b64decode(output.data["image/png"])
        figure = Image.open(io.BytesIO(data)).convert("RGB")
        figure.thumbnail((_WIDTH, _WIDTH), Image.Resampling.LANCZOS)
        buffer = io.BytesIO()
        few = figure.quantize(_COLORS, Image.Quantize.MAXCOVERAGE)
        few.save(buffer, "PNG", optimize=True)
        output.data["image/png"] = base64.b64encode(buffer.getvalue()).decode()
        output.metadata = {}
    return output


if __name__ == "__main__":
    named = [pathlib.Path(name) for name in sys.argv[1:]]
    for path in named or sorted(COLABS.glob("*.ipynb")):
        store(path)
