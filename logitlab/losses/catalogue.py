"""The catalogue: every public loss once, with what is true of it.

Each module of this package ends with its rows, ``ROWS``. Here they are merged, checked
and printed; the property tests, the benchmark and the README's table read them.
"""

import importlib
import inspect
import math
import pkgutil
import types
import typing
from collections.abc import Iterable, Iterator

from logitlab import losses
from logitlab.losses.rows import Kind, Row

__all__ = ["CATALOGUE", "merge", "modules", "problems", "table"]

_KINDS = typing.get_args(Kind)
_PROPERTIES = {
    "shift-invariant": "shift_invariant",
    "convex": "convex",
    "calibrated": "calibrated",
    "proper": "proper",
}


def modules() -> Iterator[types.ModuleType]:
    """Every module of ``logitlab.losses``, sub-packages and their modules included."""
    for found in pkgutil.walk_packages(losses.__path__, f"{losses.__name__}."):
        if found.name != __name__:
            yield importlib.import_module(found.name)


def merge(sources: Iterable[types.ModuleType]) -> dict[str, Row]:
    """Rows of the modules by name, in order of the modules.

    A package may repeat the rows of its modules.

    Raises:
      TypeError: an entry of ``ROWS`` is not a ``Row``.
      ValueError: two rows have one name.
    """
    rows = {}
    for module in sources:
        for row in getattr(module, "ROWS", ()):
            if not isinstance(row, Row):
                raise TypeError(f"{module.__name__}.ROWS holds {row!r}, expected a Row")
            if rows.setdefault(row.name, row) is not row:
                raise ValueError(f"{module.__name__}: a second row for {row.name!r}")
    return rows


def problems(
    rows: Iterable[Row], sources: Iterable[types.ModuleType] = ()
) -> list[str]:
    """What is wrong with the rows and with the modules they come from, in words.

    A row must not contradict itself or the signature of its loss; a public function of
    a module needs a row or a place in the module's ``NOT_LOSSES``. Empty is good.
    """
    rows = list(rows)
    found = [f"{row.name}: {text}" for row in rows for text in _contradictions(row)]
    named = {row.name for row in rows}
    for module in sources:
        found += [f"{module.__name__}: {text}" for text in _omissions(module, named)]
    return found


def table(rows: Iterable[Row] | None = None) -> str:
    """The rows as a markdown table, by kind and name."""
    rows = CATALOGUE.values() if rows is None else rows
    header = ["loss", "kind", *_PROPERTIES, "bounds", "golden", "source"]
    lines = [header, ["---"] * len(header)]
    for row in sorted(rows, key=lambda row: (_KINDS.index(row.kind), row.name)):
        properties = [_tick(getattr(row, field)) for field in _PROPERTIES.values()]
        source = f"{row.source}. {row.note}" if row.note else row.source
        lines.append(
            [f"`{row.name}`", row.kind, *properties, _bounds(row), _tick(row.golden)]
            + [source.replace("|", "\\|").replace("\n", " ")]
        )
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _tick(value) -> str:
    return "yes" if value else ""


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
    if not row.loss.__doc__:
        yield "the loss has no docstring"
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
    elif len(finite) == 2 and row.lower >= row.upper:
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


def _omissions(module: types.ModuleType, named: set[str]) -> Iterator[str]:
    public = getattr(module, "__all__", ())
    helpers = getattr(module, "NOT_LOSSES", ())
    for name in helpers:
        if name not in public:
            yield f"NOT_LOSSES names {name!r}, which __all__ lacks"
        if name in named:
            yield f"NOT_LOSSES names {name!r}, which has a row"
    for name in public:
        value = getattr(module, name)
        is_function = callable(value) and not inspect.isclass(value)
        ours = getattr(value, "__module__", None) == module.__name__
        if is_function and ours and name not in named and name not in helpers:
            yield f"{name!r} is public; give it a row, or name it in NOT_LOSSES"
    for row in getattr(module, "ROWS", ()):
        ours = getattr(row.loss, "__module__", None) == module.__name__
        if ours and row.name not in public:
            yield f"{row.name!r} has a row but is not in __all__"


CATALOGUE = merge(modules())
