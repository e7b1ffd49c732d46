"""The catalogue: every public loss once, with what is true of it.

The rows are the ``ROWS`` of the modules of ``logitlab.losses._rows``, one module per
family. Here they are merged, checked and printed; the property tests, the benchmark and
the tables of ``losses/README.md`` read them. ``import logitlab`` imports neither.
"""

from __future__ import annotations

import importlib
import inspect
import math
import pkgutil
import re
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping

from logitlab.losses import _rows
from logitlab.losses._purposes import PURPOSES
from logitlab.losses._rows import Definition, Kind, Row

__all__ = ["CATALOGUE", "PARTS", "merge", "modules", "page", "problems", "table", "use"]

PARTS = {
    "adaptive_temperature": "the temperatures of amcl_simclr_loss",
    "adaptive_weight": "the token weights of aligndistil_loss, without a gradient",
    "magface_penalty": "the term of norms in magface_loss",
    "presto_penalty": "a penalty of parameters, added to cumulative_logit_loss",
    "progressive_guidance_loss": "kd_loss and cross_entropy of a list of logits",
    "uskd_parts": "the terms of uskd_loss, as a dict",
    "value_gradient": "the weights of vagram_loss and taylor_vaml_loss",
}
"""Public functions without a row, and what they are a part of or made of."""

_KINDS = typing.get_args(Kind)
_DEFINITIONS = typing.get_args(Definition)
_PROPERTIES = {
    "shift-invariant": "shift_invariant",
    "convex": "convex",
    "calibrated": "calibrated",
    "proper": "proper",
}


def modules() -> Iterator[types.ModuleType]:
    """Every module of ``logitlab.losses._rows``, those of its sub-packages included."""
    for found in pkgutil.walk_packages(_rows.__path__, f"{_rows.__name__}."):
        yield importlib.import_module(found.name)


def merge(sources: Iterable[types.ModuleType]) -> dict[str, Row]:
    """Rows of the modules by name, in order of the modules.

    Raises:
      TypeError: an entry of ``ROWS`` is not a ``Row``.
      ValueError: two rows have one name.
    """
    rows: dict[str, Row] = {}
    for module in sources:
        for row in getattr(module, "ROWS", ()):
            if not isinstance(row, Row):
                raise TypeError(f"{module.__name__}.ROWS holds {row!r}, expected a Row")
            if row.name in rows:
                raise ValueError(f"{module.__name__}: a second row for {row.name!r}")
            rows[row.name] = row
    return rows


def problems(
    rows: Iterable[Row],
    public: types.ModuleType | None = None,
    parts: Mapping[str, str] = PARTS,
) -> list[str]:
    """What is wrong with the rows, in words; empty if nothing is.

    Args:
      rows: none may contradict itself, or the signature or docstring of its loss.
      public: a module such as ``logitlab.losses``. Every callable in its ``__all__``
        needs either a row or an entry in ``parts``.
      parts: name of a function without a row -> what it is a part of.
    """
    rows = list(rows)
    found = [f"{row.name}: {text}" for row in rows for text in _contradictions(row)]
    if public is not None:
        found += _omissions(public, rows, parts)
    return found


def page() -> str:
    """Every loss by its purpose, as markdown: headings, advice and tables."""
    sections = []
    for purpose in PURPOSES:
        rows = [CATALOGUE[name] for name in purpose.losses]
        sections.append(f"### {purpose.title}\n\n{purpose.advice}\n\n{table(rows)}")
    return "\n\n".join(sections)


def use(loss: Callable) -> str:
    """When to use a loss, as markdown: what follows "Use it when" in its docstring.

    >>> from logitlab import losses
    >>> from logitlab.losses import catalogue
    >>> catalogue.use(losses.focal_loss)
    'easy examples drown the hard ones'
    """
    found = re.search(
        r"^Use it when (.+?)\.$\n\n", inspect.getdoc(loss) or "", re.S | re.M
    )
    return " ".join(found[1].split()).replace("``", "`") if found else ""


def table(rows: Iterable[Row]) -> str:
    """The rows as a markdown table, in their order."""
    header = ["loss", "use it when", "one value per", "properties"]
    header += ["bounds", "definition", "source"]
    lines = [header, ["---"] * len(header)]
    for row in rows:
        true = [text for text, field in _PROPERTIES.items() if getattr(row, field)]
        origin = f"{row.definition}, golden" if row.golden else row.definition
        source = f"{row.source}. {row.note}" if row.note else row.source
        lines.append(
            [f"`{row.name}`", use(row.loss), row.kind, ", ".join(true) or "none"]
            + [_bounds(row), origin, source]
        )
    cells = ([_escaped(cell) for cell in line] for line in lines)
    return "\n".join(f"| {' | '.join(line)} |" for line in cells)


def _escaped(cell: str) -> str:
    return cell.replace("|", "\\|").replace("\n", " ")


def _bounds(row: Row) -> str:
    lower = "(-∞" if row.lower is None else f"[{row.lower:.4g}"
    upper = "∞)" if row.upper is None else f"{row.upper:.4g}]"
    return f"{lower}, {upper}"


def _contradictions(row: Row) -> Iterator[str]:
    parameters = inspect.signature(row.loss).parameters
    if row.kind not in _KINDS:
        yield f"kind {row.kind!r}, expected one of {', '.join(_KINDS)}"
    if not row.source:
        yield "no source"
    doc = row.loss.__doc__
    if not doc:
        yield "the loss has no docstring"
    if row.definition not in _DEFINITIONS:
        yield f"definition {row.definition!r}, expected one of {_DEFINITIONS}"
    if row.golden and row.definition != "code":
        yield f"golden numbers, but definition {row.definition!r}"
    if doc and (row.definition == "inferred") != ("inferred" in doc):
        yield f"definition {row.definition!r}, but its docstring says otherwise"
    if row.where != ("where" in parameters):
        yield f"where={row.where}, but its parameters are {', '.join(parameters)}"
    if row.kind == "batch" and "mask" not in parameters:
        yield "kind 'batch', but it takes no mask"
    if row.tokens and "mask" not in parameters:
        yield "its mask is about tokens, but it takes none"
    for name in row.hyper:
        kind = getattr(parameters.get(name), "kind", None)
        if kind is not inspect.Parameter.KEYWORD_ONLY or name in ("axis", "where"):
            yield f"hyper {name!r} is not one of its keyword-only hyper-parameters"
    for name, parameter in parameters.items():
        keyword = parameter.kind is inspect.Parameter.KEYWORD_ONLY
        if keyword and parameter.default is parameter.empty and name not in row.hyper:
            yield f"hyper lacks {name!r}, which has no default"
    finite = [b for b in (row.lower, row.upper) if b is not None]
    if not all(map(math.isfinite, finite)):
        yield f"bounds {row.lower} and {row.upper}, expected finite numbers or None"
    elif len(finite) == 2 and finite[0] >= finite[1]:
        yield f"lower {row.lower} is not below upper {row.upper}"
    if row.convex and row.upper is not None:
        yield "convex and bounded above, which only a constant is"
    if row.convex and row.surrogate:
        yield "convex with a surrogate gradient: nothing could check that"
    if row.proper and not row.calibrated:
        yield "proper but not calibrated"
    if row.label_only and (row.kind != "example" or not row.shift_invariant):
        yield "label_only, which only a shift-invariant loss per example is"
    if not 0 < row.rtol <= 1e-3:
        yield f"rtol {row.rtol}, expected a stated error in (0, 1e-3]"
    if len(row.shape) == 0 or min(row.shape) < 1:
        yield f"shape {row.shape}, expected a shape of logits with examples"


def _omissions(
    public: types.ModuleType, rows: list[Row], parts: Mapping[str, str]
) -> Iterator[str]:
    named = {row.name for row in rows}
    for name in public.__all__:
        if callable(getattr(public, name)) and name not in {*named, *parts}:
            yield f"{name!r} is public; give it a row, or name it in PARTS"
    for name in parts:
        if name not in public.__all__:
            yield f"PARTS names {name!r}, which __all__ lacks"
        if name in named:
            yield f"PARTS names {name!r}, which has a row"
    for row in rows:
        home = row.loss.__module__
        module = public if home.startswith(public.__name__) else sys.modules[home]
        if row.name not in module.__all__:
            yield f"{row.name!r} has a row but is not in __all__"


CATALOGUE = merge(modules())
