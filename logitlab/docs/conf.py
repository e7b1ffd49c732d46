"""Settings of Sphinx, and the pages of the API reference, made of public names.

``python -m sphinx -W -b html logitlab/docs build/docs`` writes the pages to ``api/``
beside this file, which git ignores, and builds the site.
"""

import importlib
import pathlib
import re

import logitlab
from logitlab.losses._purposes import PURPOSES
from logitlab.losses.catalogue import CATALOGUE, PARTS, use

project = "logitlab"
author = "the logitlab authors"
project_copyright = author
version = release = logitlab.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
]
html_theme = "furo"
html_title = f"logitlab {version}"
html_show_copyright = False
html_copy_source = False
add_module_names = False
autodoc_preserve_defaults = True
autodoc_typehints = "none"  # docstrings say more: shapes and dtypes
napoleon_google_docstring, napoleon_numpy_docstring = True, False
napoleon_use_ivar, napoleon_use_rtype = True, False
napoleon_custom_sections = [("Fields", "Attributes")]  # of Flax modules

ROOMS = sorted([*logitlab.__all__, "data", "models", "report", "train"])


def pages() -> dict[str, str]:
    """Name of each page in ``api/`` -> its text, as reStructuredText."""
    found = {room: _room(room) for room in ROOMS if room != "losses"}
    for number, purpose in enumerate(PURPOSES, 1):
        losses = (CATALOGUE[name].loss for name in purpose.losses)
        uses = {loss.__name__: f"Use it when {use(loss)}." for loss in losses}
        title, advice = purpose.title, purpose.advice
        found[f"losses_{number:02}"] = _losses(title, advice, uses)
    parts = {name: f"See {text}." for name, text in PARTS.items()}
    found["losses_parts"] = _losses("Parts of losses", "", parts)
    names = [name for name in found if name.startswith("losses_")]
    doc = importlib.import_module("logitlab.losses").__doc__ or ""
    found["losses"] = _page("logitlab.losses", f"{doc}\n", _contents(names))
    return found


def _room(room):
    directive = f".. automodule:: logitlab.{room}\n   :members:\n"
    if hasattr(importlib.import_module(f"logitlab.{room}"), "__path__"):
        directive += "   :imported-members:\n"
    return _page(f"logitlab.{room}", directive)


def _losses(title, advice, uses):
    public = importlib.import_module("logitlab.losses").__all__
    uses = {name: text for name, text in uses.items() if name in public}
    lines = [f"- :func:`~logitlab.losses.{n}`: {_code(t)}\n" for n, t in uses.items()]
    functions = [f".. autofunction:: logitlab.losses.{name}\n" for name in uses]
    return _page(title, _code(advice), "".join(lines), *functions)


def _page(title, *paragraphs):
    return "\n".join([title, "=" * len(title), "", *paragraphs])


def _contents(names):
    return "\n   ".join([".. toctree::\n   :maxdepth: 1\n", *names]) + "\n"


def _code(text):
    return text.replace("`", "``") + "\n"


def write(app):
    """Writes the pages that have changed, and removes those that are no more."""
    folder = pathlib.Path(app.srcdir, "api")
    folder.mkdir(exist_ok=True)
    made = {folder / f"{name}.rst": text for name, text in pages().items()}
    for path in {*folder.glob("*.rst")} - {*made}:
        path.unlink()
    for path, text in made.items():
        if not path.exists() or path.read_text("utf-8") != text:
            path.write_text(text, "utf-8")


def mark_fields(app, what, name, obj, options, lines):
    """Shows the one-paragraph sections of a docstring as the others are shown."""
    inside = False
    for i, line in enumerate(lines):
        begins = re.match(r"(Shapes|Numerics|Sources?): ", line)
        inside = bool(begins) or (inside and bool(line.strip()))
        if begins:
            lines[i] = f":{line}"
        elif inside:  # the rest of the paragraph, whose indentation may differ
            lines[i] = f"  {line.strip()}"


def setup(app):
    """Called by Sphinx."""
    app.connect("builder-inited", write)
    app.connect("autodoc-process-docstring", mark_fields)
