"""What a compiled program moves between devices, and the products that it computes.

Compilers count the body of a loop once. Here a loop of known length counts as often as
it runs; one whose length only the run knows, such as that over steps, counts once.
"""

import math
import re
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

COLLECTIVES = (
    "all-gather",
    "all-reduce",
    "all-to-all",
    "collective-broadcast",
    "collective-permute",
    "ragged-all-to-all",
    "reduce-scatter",
)
_COMPUTATION = re.compile(r"(ENTRY )?%?([\w.-]+) \(.*\) -> .* {$")
_INSTRUCTION = re.compile(r" *(?:ROOT )?%?([\w.-]+) = (.*?) ([a-z][a-z0-9-]*)\(([^)]*)")
_SHAPE = re.compile(r"([a-z]+\d*)\w*\[([\d,]*)\]")
_CALLED = re.compile(
    r"(?:calls|to_apply|body|condition|true_computation|false_computation)=%?([\w.-]+)"
    r"|(?:branch_computations|called_computations)={([^}]*)}"
)
_TRIPS = re.compile(r'"known_trip_count":{"n":"(\d+)"')
_CONDITION = re.compile(r" while\(.* condition=%?([\w.-]+)")
_BOUND = re.compile(r" s32\[\]\S* constant\((\d+)\)")


class Collective(NamedTuple):
    """One operation between devices.

    Attributes:
      kind: one of ``COLLECTIVES``.
      bytes: of what goes in on one device, or comes out, whichever is more.
      times: how often it runs.
      sizes: numbers in each of its arrays.
    """

    kind: str
    bytes: int
    times: int
    sizes: tuple[int, ...]


def collectives(hlo: str) -> list[Collective]:
    """The operations between devices of a compiled program, from its text."""
    computations, entry = _computations(hlo)
    found: list[Collective] = []

    def walk(name, times):
        shapes: dict[str, str] = {}
        for line in computations.get(name, ()):
            if not (match := _INSTRUCTION.match(line)):
                continue
            result, shape, operation, operands = match.groups()
            shapes[result] = shape
            kind = operation.removesuffix("-start")
            if kind in COLLECTIVES:
                names = re.findall(r"%([\w.-]+)", operands)
                given = [a for n in names for a in _arrays(shapes.get(n, ""))]
                made = list(_arrays(shape))
                inside = sum(size * width for size, width in given)
                outside = sum(size * width for size, width in made)
                if kind != operation and kind != "all-reduce":
                    outside -= inside  # it returns its operands beside the result
                sizes = tuple(size for size, _ in [*given, *made])
                found.append(Collective(kind, max(inside, outside), times, sizes))
            elif not operation.endswith(("-done", "-update")):
                again = times * (_trips(line, computations) if "while" in line else 1)
                for one, many in _CALLED.findall(line):
                    for called in re.findall(r"[\w.-]+", one or many):
                        walk(called, again)

    walk(entry, 1)
    return found


def _trips(line, computations):
    """How often a loop runs: as it says, or by the one bound of its condition."""
    if known := _TRIPS.search(line):
        return int(known[1])
    if not (condition := _CONDITION.search(line)):
        return 1
    lines = computations.get(condition[1], ())
    bounds = _BOUND.findall("\n".join(lines))
    counts = lines and "direction=LT" in "".join(lines) and len(bounds) == 1
    return int(bounds[0]) if counts else 1


def _computations(hlo: str) -> tuple[dict[str, list[str]], str]:
    """The lines of each computation, by name; and which of them is run."""
    found: dict[str, list[str]] = {}
    entry = current = ""
    for line in hlo.splitlines():
        if match := _COMPUTATION.match(line):
            current = match[2]
            found[current] = []
            entry = current if match[1] else entry
        elif current:
            found[current].append(line)
    return found, entry


def _arrays(shape: str) -> Iterator[tuple[int, int]]:
    """Numbers and bytes of each of the arrays of a shape's text."""
    for dtype, dims in _SHAPE.findall(shape):
        bits = re.search(r"\d+", dtype)
        width = int(bits[0]) // 8 if bits else 1  # a pred has none
        yield math.prod(int(d) for d in dims.split(",") if d), max(width, 1)


def products(jaxpr) -> float:
    """Floating-point operations of the matrix products of a jaxpr, on all devices.

    Convolutions are left out, for compilers skip what is padding in them.
    """
    total = 0.0
    for eqn in jaxpr.eqns:
        name, params = eqn.primitive.name, eqn.params
        if name == "dot_general":
            (contracting, _), _ = params["dimension_numbers"]
            lhs, out = eqn.invars[0].aval.shape, eqn.outvars[0].aval.shape
            total += 2 * math.prod(out) * math.prod(lhs[i] for i in contracting)
            continue
        inner = [products(sub) for sub in _jaxprs(params)]
        if name == "cond":
            total += max(inner)
        elif name == "scan":
            total += params["length"] * sum(inner)
        elif name == "shard_map":  # its shapes are those of one device
            manual = params.get("manual_axes", params["mesh"].axis_names)
            total += math.prod(params["mesh"].shape[a] for a in manual) * sum(inner)
        elif name == "xla_pmap":
            total += params["global_axis_size"] * sum(inner)
        else:
            total += sum(inner)
    return total


def _jaxprs(params):
    """Those among the parameters of an equation."""
    for value in params.values():
        for one in value if isinstance(value, (list, tuple)) else (value,):
            one = getattr(one, "jaxpr", one)  # of a closed one
            if hasattr(one, "eqns"):
                yield one


def local_bytes(tree) -> int:
    """Bytes of arrays, or of shapes with shardings, on one device."""
    import jax

    return sum(
        int(np.prod(leaf.sharding.shard_shape(leaf.shape), dtype=int))
        * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )
