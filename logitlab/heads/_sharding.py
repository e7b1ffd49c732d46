"""Heads whose vocabulary is spread over the devices of a mesh."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab._compat import to_varying, use_abstract_mesh, varying_axes
from logitlab.heads._operands import Linear

__all__ = [
    "Columns",
    "HeadMesh",
    "Static",
    "class_mesh",
    "compiled_inside",
    "run",
    "run_tokens",
    "run_trial",
    "vary_alike",
]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Static:
    """A hashable static value inside a pytree of arrays."""

    value: Any


class Columns(NamedTuple):
    """Per-class arguments: visibility and weight."""

    where: jax.Array | None = None
    class_weight: jax.Array | None = None


class HeadMesh(NamedTuple):
    """How a head is sharded over a mesh.

    Attributes:
      mesh: what work is to be spread over; none on one device, or inside a shard_map.
      classes: axes that the vocabulary is spread over.
      batch: axes that the first axis of the features is spread over.
      shards_inside: shards that the vocabulary is in already, inside a shard_map.
    """

    mesh: Mesh | AbstractMesh | None = None
    classes: tuple[str, ...] = ()
    batch: tuple[str, ...] = ()
    shards_inside: int = 1


def class_mesh(
    hidden: ArrayLike,
    kernel: ArrayLike,
    axis_name: str | tuple[str, ...] | None,
    batch_axes: str | tuple[str, ...] | None,
    *,
    transposed: bool,
) -> HeadMesh:
    """The mesh and axes of a head: as named, or else from its arrays' shardings.

    Raises:
      ValueError: an axis is not in the mesh, the arrays lie on different devices or
        meshes, or a kernel inside a shard_map is not a shard over it.
    """
    numerics.check_devices(kernel=kernel, hidden=hidden)
    context = jax.sharding.get_abstract_mesh()
    classes = _names(axis_name) or _spec(kernel, 0 if transposed else 1)
    rows = jnp.shape(hidden)[0] if jnp.ndim(hidden) > 1 else 0
    placed = _spec(hidden, 0) if rows and not context.manual_axes else ()
    if not (classes or placed or batch_axes):
        return HeadMesh()
    if set(classes) & set(context.manual_axes):
        varies = varying_axes(kernel)
        if not set(classes) <= varies:
            raise ValueError(
                f"axis_name is {axis_name!r}, but kernel is the same along it; "
                "expected the device's own columns, in a shard_map that checks what "
                "varies (check_vma=True)"
            )
        return HeadMesh(None, classes, (), jax.lax.axis_size(classes))
    mesh = _mesh_of(context, kernel, hidden)
    foreign = [name for name in placed if name not in mesh.axis_names]
    if foreign and not batch_axes:
        raise ValueError(
            f"hidden is spread over the mesh axis {foreign[0]!r}, expected axes of the "
            f"mesh of kernel, {mesh.axis_names}; jax.device_put moves it there"
        )
    for what, names in (("axis_name", classes), ("batch_axes", _names(batch_axes))):
        if missing := [name for name in names if name not in mesh.axis_names]:
            raise ValueError(
                f"{what} {missing[0]!r} is not an axis of the mesh, which has "
                f"{mesh.axis_names}"
            )
    batch = _names(batch_axes) or placed
    if not batch:
        batch = [name for name in mesh.axis_names if name not in classes]
    batch = [name for name in batch if name not in context.manual_axes]
    fits, ways = [], 1
    for name in batch:
        if rows and rows % (ways * mesh.shape[name]) == 0:
            fits.append(name)
            ways *= mesh.shape[name]
    return HeadMesh(mesh, classes, tuple(fits))


def run(function: Callable, place: HeadMesh, operands: tuple, *, transposed: bool):
    """``shard_map`` of ``function`` over tokens and vocabulary.

    A vocabulary that the mesh does not divide is padded with columns that are hidden.

    Args:
      function: of the operands' local parts; its results have the labels' axes.
      place: the mesh.
      operands: (head, ..., columns, labels, closed): any number of heads of one
        vocabulary, :class:`Columns`, labels or what else there is for each token, and
        what every device needs whole.
      transposed: as in the heads.
    """
    if place.mesh is None:
        return function(*operands)
    *heads, columns, labels, closed = operands
    over, batch = place.classes, P(place.batch or None)
    axis = 0 if transposed else 1
    ways = math.prod(place.mesh.shape[name] for name in over)
    classes = heads[0].kernel.shape[axis]
    if extra := -classes % ways:
        pad = lambda a, axis: None if a is None else _pad(a, axis, extra)  # noqa: E731
        where = jnp.ones(classes, bool) if columns.where is None else columns.where
        columns = Columns(pad(where, -1), pad(columns.class_weight, 0))
        heads = [
            head._replace(kernel=pad(head.kernel, axis), bias=pad(head.bias, 0))
            for head in heads
        ]

    def of_head(head):
        kernel = P(over) if transposed else P(None, over)
        return head._replace(hidden=batch, kernel=kernel, bias=_if(head.bias, P(over)))

    seen = P(over)
    if columns.where is not None and columns.where.ndim > 1:
        seen = P(place.batch or None, *[None] * (columns.where.ndim - 2), over)
    columns_spec = Columns(_if(columns.where, seen), _if(columns.class_weight, P(over)))
    specs = (*map(of_head, heads), columns_spec, batch, P())
    everywhere = jax.shard_map(
        function, mesh=place.mesh, in_specs=specs, out_specs=batch
    )
    operands = (*heads, columns, labels, closed)
    if AxisType.Explicit in place.mesh.axis_types:
        operands = _reshard(operands, specs, place.mesh)
    # Compiled also where the caller is not: a custom derivative asks for it.
    return jax.jit(everywhere)(*operands)


def run_tokens(function: Callable, place: HeadMesh, operands: tuple, *, mean: bool):
    """``shard_map`` of ``function(heads, rows, weights)`` over tokens.

    Classes that are spread over the mesh stay the compiler's to split. Results have the
    leading axis of the rows, but for the first of a ``mean``.
    """
    if place.mesh is None or not place.batch:
        return function(*operands)
    heads, rows, weights = operands
    batch = P(place.batch)
    out = P() if mean else batch, batch
    if AxisType.Explicit in place.mesh.axis_types:

        def with_auto_axes(*operands):
            mesh = jax.sharding.get_abstract_mesh()
            return run_tokens(function, place._replace(mesh=mesh), operands, mean=mean)

        # The loss is written for whole rows, without a word on where its parts lie.
        with use_abstract_mesh(place.mesh.abstract_mesh):
            return jax.sharding.auto_axes(
                with_auto_axes, axes=place.mesh.axis_names, out_sharding=out
            )(*operands)
    of_head = lambda head: Linear(batch, P(), _if(head.bias, P()))  # noqa: E731
    everywhere = jax.shard_map(
        function,
        mesh=place.mesh,
        in_specs=(tuple(map(of_head, heads)), batch, batch),
        out_specs=out,
        axis_names=set(place.batch),
    )
    return jax.jit(everywhere)(heads, rows, weights)


def compiled_inside(function: Callable) -> Callable:
    """``function``, compiled inside a shard_map.

    One that is not under ``jit`` runs op by op, and has no rule for custom derivatives
    that ask which of their operands want one.
    """
    inside = jax.sharding.get_abstract_mesh().manual_axes
    return jax.jit(function) if inside else function


def run_trial(trial: Callable) -> None:
    """Runs a trial of a user's function; inside a shard_map as if that were compiled.

    One that is not under ``jit`` cannot compute what is known on the spot.
    """
    inside = jax.sharding.get_abstract_mesh().manual_axes
    if inside:
        jax.eval_shape(trial)
    else:
        trial()


def vary_alike(tree):
    """Casts all arrays, inside a shard_map, to vary over the union of their axes.

    The transpose of ``pcast`` sums an array's gradient over the axes that were added.
    """
    leaves = jax.tree.leaves(tree)
    axes = [varying_axes(leaf) for leaf in leaves]
    union = frozenset().union(*axes)

    def cast(leaf):
        new = union - varying_axes(leaf)
        return to_varying(leaf, tuple(sorted(new))) if new else leaf

    return jax.tree.map(cast, tree)


def examples(shapes, *, like):
    """Example arguments of these shapes that vary over the same axes as ``like``."""
    leaf = jax.tree.leaves(like)[0]
    if not varying_axes(leaf):
        return shapes
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    return vary_alike((zeros, leaf))[0]


def _names(axes):
    return () if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)


def _spec(array, axis):
    """Mesh axes that an axis of an array is known to be sharded over."""
    sharding = _sharding(array)
    if not isinstance(sharding, NamedSharding):
        return ()
    return _names((*sharding.spec, None, None)[axis])


def _sharding(array):
    """An array's sharding; of a traced one, as far as its type tells."""
    traced = not isinstance(array, jax.Array) or isinstance(array, jax.core.Tracer)
    return jax.typeof(array).sharding if traced else array.sharding


def _mesh_of(context, *arrays):
    """The mesh of the context, or else of an array."""
    for mesh in (context, *(getattr(_sharding(a), "mesh", None) for a in arrays)):
        if mesh is not None and not mesh.empty:
            return mesh
    return context


def _reshard(operands, specs, mesh):
    """Arrays on an explicit mesh, laid out as ``specs`` say."""

    def place(spec, arrays):
        where = NamedSharding(mesh.abstract_mesh, spec)
        return jax.tree.map(lambda a: jax.sharding.reshard(a, where), arrays)

    is_spec = lambda leaf: isinstance(leaf, P)  # noqa: E731
    return jax.tree.map(place, specs, operands, is_leaf=is_spec)


def _if(array, spec):
    return None if array is None else spec


def _pad(array, axis, extra):
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, extra)
    return jnp.pad(array, widths)
