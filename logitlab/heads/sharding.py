"""Heads whose vocabulary is spread over the devices of a mesh."""

import dataclasses
import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AbstractMesh, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P

__all__ = ["HeadMesh", "Static", "class_mesh", "run", "vary_alike"]


@jax.tree_util.register_static
@dataclasses.dataclass(frozen=True)
class Static:
    """Something hashable among arrays."""

    value: Any


class HeadMesh(NamedTuple):
    """How a head lies on a mesh.

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
    hidden: jax.Array,
    kernel: jax.Array,
    axis_name: str | tuple[str, ...] | None,
    batch_axes: str | tuple[str, ...] | None,
    *,
    transposed: bool,
) -> HeadMesh:
    """The mesh of a head: named, or else known from how its arrays are placed.

    Raises:
      ValueError: an axis is not in the mesh, or a kernel inside a shard_map is not a
        shard over it.
    """
    context = jax.sharding.get_abstract_mesh()
    placed = _spec(kernel, 0 if transposed else 1)
    classes = _names(axis_name) or placed
    if not classes:
        return HeadMesh()
    if set(classes) & set(context.manual_axes):
        varies = jax.typeof(kernel).manual_axis_type.varying
        if not set(classes) <= varies:
            raise ValueError(
                f"axis_name is {axis_name!r}, but kernel is the same along it; "
                "expected the device's own columns, in a shard_map that checks what "
                "varies (check_vma=True)"
            )
        return HeadMesh(None, classes, (), jax.lax.axis_size(classes))
    mesh = _mesh_of(context, kernel, hidden)
    for what, names in (("axis_name", classes), ("batch_axes", _names(batch_axes))):
        if missing := [name for name in names if name not in mesh.axis_names]:
            raise ValueError(
                f"{what} {missing[0]!r} is not an axis of the mesh, which has "
                f"{mesh.axis_names}"
            )
    batch = _names(batch_axes)
    if batch_axes is None and jnp.ndim(hidden) > 1:
        batch, ways = [], 1
        for name in mesh.axis_names:
            if name in classes or name in context.manual_axes:
                continue
            if jnp.shape(hidden)[0] % (ways * mesh.shape[name]) == 0:
                batch.append(name)
                ways *= mesh.shape[name]
    return HeadMesh(mesh, classes, tuple(batch))


def run(
    function: Callable,
    place: HeadMesh,
    hidden: jax.Array,
    kernel: jax.Array,
    bias: jax.Array | None,
    where: jax.Array | None,
    labels: jax.Array,
    closed: tuple,
    *,
    transposed: bool,
):
    """``function`` of a head's arrays, on every device's share of tokens and columns.

    A vocabulary that the mesh does not divide is padded with columns that are hidden.
    Results have the leading axes of ``labels``.
    """
    if place.mesh is None:
        return function(hidden, kernel, bias, where, labels, closed)
    axis = 0 if transposed else 1
    ways = math.prod(place.mesh.shape[name] for name in place.classes)
    extra = -kernel.shape[axis] % ways
    if extra:
        if where is None:
            where = jnp.ones(kernel.shape[axis], bool)
        kernel = _pad(kernel, axis, extra)
        bias = None if bias is None else _pad(bias, 0, extra)
        where = _pad(where, where.ndim - 1, extra)
    over, batch = place.classes, place.batch or None
    columns = P(over) if transposed else P(None, over)
    seen = None if where is None else P(over)
    if where is not None and where.ndim > 1:
        seen = P(batch, *[None] * (where.ndim - 2), over)
    specs = (
        P(batch),
        columns,
        None if bias is None else P(over),
        seen,
        P(batch) if labels.ndim else P(),
        P(),
    )
    everywhere = jax.shard_map(
        function, mesh=place.mesh, in_specs=specs, out_specs=specs[4]
    )
    # Compiled also where the caller is not: a custom derivative asks for it.
    return jax.jit(everywhere)(hidden, kernel, bias, where, labels, closed)


def vary_alike(tree):
    """Every array, inside a shard_map, as one that varies over all axes that any does.

    The transpose adds gradients up over the axes that an array did not vary over.
    """
    leaves = jax.tree.leaves(tree)
    axes = [jax.typeof(leaf).manual_axis_type.varying for leaf in leaves]
    union = frozenset().union(*axes)

    def cast(leaf):
        new = union - jax.typeof(leaf).manual_axis_type.varying
        return jax.lax.pcast(leaf, tuple(sorted(new)), to="varying") if new else leaf

    return jax.tree.map(cast, tree)


def _names(axes):
    return () if axes is None else (axes,) if isinstance(axes, str) else tuple(axes)


def _spec(array, axis):
    """Mesh axes that an axis of an array is known to be spread over."""
    sharding = _sharding(array)
    if not isinstance(sharding, NamedSharding):
        return ()
    return _names((*sharding.spec, None, None)[axis])


def _sharding(array):
    """Where an array lies; of a traced one, as far as its type says."""
    traced = not isinstance(array, jax.Array) or isinstance(array, jax.core.Tracer)
    return jax.typeof(array).sharding if traced else array.sharding


def _mesh_of(context, *arrays):
    """The mesh in use: that of the context, or else of an array."""
    for mesh in (context, *(getattr(_sharding(a), "mesh", None) for a in arrays)):
        if mesh is not None and not mesh.empty:
            return mesh
    return context


def _pad(array, axis, extra):
    widths = [(0, 0)] * array.ndim
    widths[axis] = (0, extra)
    return jnp.pad(array, widths)
