"""The checks that run a loss on a mesh and read its compiled program."""

import re

import jax
import numpy as np
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from harness.cases import applies_to, assert_same, is_key, quick_jit, wide

COLLECTIVE = re.compile(
    r"= (.*?) (all-gather|all-to-all|collective-permute|all-reduce|reduce-scatter)"
    r"(?:-start)?\("
)


def check_sharded(case, kind):
    """Same numbers with examples and classes on a mesh, and no logits-sized traffic.

    Three layouts are traced on Explicit meshes, which refuse a loss while they trace
    it, and the last is compiled. Others compile those that split the classes: what
    moves between examples does so in the last of them too.
    """
    shape = (3072, *case.shape[1:])
    if case.classes is not None:
        shape = (16, *case.shape[1:-1], 192)
    args = case.args(0, shape=shape)
    if case.classes is None:
        specs = [P(("data", "model"))]
    else:
        middle = (None,) * (len(shape) - 2)
        specs = [
            P(("data", "model"), *middle, None),
            P(None, *middle, ("data", "model")),
            P("data", *middle, "model"),
        ]
    if case.row.gathers and kind == AxisType.Explicit:
        specs = specs[:1]
    mesh = jax.make_mesh((4, 2), ("data", "model"), (kind, kind))

    def place(spec):
        return tuple(
            jax.device_put(a, NamedSharding(mesh, spec_like(a, shape, spec)))
            for a in args
        )

    placed = [place(spec) for spec in specs]
    if kind == AxisType.Explicit:
        for arrays in placed[:-1]:
            case.traced.trace(arrays)
        specs, placed = specs[-1:], placed[-1:]
    else:
        specs, placed = specs[-2:], placed[-2:]
    run = quick_jit(lambda many: [case.traced(a) for a in many])
    compiled = run.lower(placed).compile()
    want = wide(case.quick(args))
    for spec, got in zip(specs, compiled(placed), strict=True):
        assert_same(wide(got), want, case.row.rtol, f"sharded as {spec}")
    moved = logits_traffic(compiled.as_text(), args[0].size // mesh.size)
    if not case.row.gathers:
        assert not moved, f"moves logits-sized arrays: {moved}"


def check_auto(case):
    """On a mesh where the compiler chooses shardings."""
    check_sharded(case, AxisType.Auto)


def _is_sharded_by_types(case):
    """Not where jax refuses to gather unless the user asks for it."""
    whole_set = case.row.kind == "batch" or case.classes is None
    return not (case.row.gathers and whole_set)


@applies_to(_is_sharded_by_types)
def check_explicit(case):
    """On a mesh where shardings are parts of types."""
    check_sharded(case, AxisType.Explicit)


def spec_like(array, shape, spec):
    """The part of the logits' sharding that the axes of ``array`` share with them."""
    if is_key(array) or array.ndim == 0:
        return P()
    if array.shape == shape:
        return spec
    if array.shape == shape[: array.ndim]:
        return P(*spec[: array.ndim])
    if array.shape == shape[-array.ndim :]:
        return P(*spec[-array.ndim :])
    return P(*(None,) * array.ndim)


def logits_traffic(hlo, least):
    """Collectives of the compiled program that return at least so many numbers."""
    found = []
    for shapes, op in COLLECTIVE.findall(hlo):
        for dims in re.findall(r"\w+\[([\d,]*)\]", shapes):
            size = int(np.prod([int(d) for d in dims.split(",") if d]))
            if size >= least:
                found.append(f"{op} of [{dims}]")
    return found
