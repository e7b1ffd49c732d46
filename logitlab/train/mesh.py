"""Meshes and shardings, the same for one device and for many."""

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def make_mesh(axes: Mapping[str, int], devices=None) -> Mesh:
    """A mesh with named axes; one size may be -1 and takes the devices left over.

    Sizes that multiply to fewer than the devices take the first of them.

    Raises:
      ValueError: the sizes ask for more devices than there are, or do not divide them.

    >>> import jax
    >>> from logitlab.train.mesh import make_mesh
    >>> mesh = make_mesh({"data": -1, "model": 1})
    >>> mesh.axis_names, mesh.size == jax.device_count()
    (('data', 'model'), True)
    """
    devices = jax.devices() if devices is None else devices
    sizes = dict(axes)
    for name, size in axes.items():
        if size == -1:
            others = math.prod(size for other, size in axes.items() if other != name)
            sizes[name], rest = divmod(len(devices), max(others, 1))
            if rest:
                sizes[name] = 0
    used = math.prod(sizes.values())
    if min(sizes.values()) < 1 or used > len(devices):
        raise ValueError(
            f"mesh is {dict(axes)}, expected sizes, one of them may be -1, for the "
            f"{len(devices)} devices there are"
        )
    kinds = (AxisType.Auto,) * len(sizes)
    names, shape = tuple(sizes), tuple(sizes.values())
    return jax.make_mesh(shape, names, kinds, devices=devices[:used])


def place(tree, sharding):
    """Places arrays, of which every process has all, by ``sharding``.

    Args:
      tree: arrays; or their shapes, which say then where the arrays would lie.
      sharding: one for all, or a tree of them.
    """
    if any(isinstance(a, jax.ShapeDtypeStruct) for a in jax.tree.leaves(tree)):
        if isinstance(sharding, jax.sharding.Sharding):
            return jax.tree.map(lambda leaf: lying(leaf, sharding), tree)
        return jax.tree.map(lying, tree, sharding)
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)
    if not isinstance(sharding, jax.sharding.Sharding):
        return jax.tree.map(place, tree, sharding)

    def spread(leaf):
        if jnp.issubdtype(jnp.result_type(leaf), jax.dtypes.prng_key):
            data = spread(jax.random.key_data(leaf))
            return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
        host = np.asarray(leaf)
        return jax.make_array_from_callback(host.shape, sharding, host.__getitem__)

    return jax.tree.map(spread, tree)


def lying(shape, sharding) -> jax.ShapeDtypeStruct:
    """The shape of an array that lies where ``sharding`` says."""
    return jax.ShapeDtypeStruct(shape.shape, shape.dtype, sharding=sharding)


def shard_rows(tree, mesh: Mesh, *, axis: int = 0):
    """Spreads ``axis`` over the mesh's ``data``; what does not divide is replicated."""
    ways = mesh.shape["data"]

    def put(leaf):
        if not isinstance(leaf, jax.Array | jax.ShapeDtypeStruct):
            leaf = np.asarray(leaf)
        rows = leaf.ndim > axis and leaf.shape[axis] % ways == 0
        spec = P(*[None] * axis, "data") if rows else P()
        return place(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(put, tree)


def replicate_rows(tree, mesh: Mesh, *, axis: int = 0):
    """Puts every leaf on every device, whatever its ``axis``."""
    del axis
    return place(tree, NamedSharding(mesh, P()))


def join_rows(tree, mesh: Mesh, *, axis: int = 0):
    """One global array of each process's own rows, spread over the mesh's ``data``.

    In one process this is :func:`shard_rows`.

    Raises:
      ValueError: processes would have to hold the same rows, or unequal numbers.
    """
    count = jax.process_count()
    if count == 1:
        return shard_rows(tree, mesh, axis=axis)
    ways = mesh.shape["data"]
    places: dict[int, set[int]] = {}
    for at in np.ndindex(mesh.devices.shape):
        where = at[mesh.axis_names.index("data")]
        places.setdefault(mesh.devices[at].process_index, set()).add(where)
    whole = len(places) == count and len(set.union(*places.values())) == ways
    if not whole or any(len(p) * count != ways for p in places.values()):
        raise ValueError(
            f"mesh is {dict(mesh.shape)} over {count} processes: for batches from the "
            "host, each process must have its own equal part of the axis data"
        )
    sharding = NamedSharding(mesh, P(*[None] * axis, "data"))

    def put(leaf):
        shape = list(np.shape(leaf))
        shape[axis] *= count
        if shape[axis] % ways:
            raise ValueError(
                f"a batch of {shape[axis]} rows does not divide over mesh "
                f"{dict(mesh.shape)}"
            )
        if isinstance(leaf, jax.ShapeDtypeStruct):
            return jax.ShapeDtypeStruct(tuple(shape), leaf.dtype, sharding=sharding)
        return jax.make_array_from_process_local_data(sharding, leaf, tuple(shape))

    return jax.tree.map(put, tree)


Rules = Sequence[tuple[str, Sequence[Any]]]
"""Pairs (pattern, axes): where a name matches, how its dimensions are spread."""


def rule_shardings(tree, mesh: Mesh, rules: Rules, *, lead: int = 0, strict=True):
    """A sharding for every leaf: that of the first rule whose pattern its name holds.

    A name is the path to a leaf, joined by slashes: ``Dense_0/kernel``. A pattern is a
    regular expression to be found in it. The axes are an entry for each dimension,
    ``None`` or a name of the mesh; leaves without a rule are replicated.

    Args:
      tree: arrays, or their shapes.
      mesh: where they go.
      rules: as in ``(("head/kernel", (None, "model")), ("Dense_0", ("data",)))``.
      lead: dimensions in front that the rules do not speak of, such as seeds.
      strict: a rule must fit where it matches. Otherwise leaves that it does not fit
        are replicated: an optimiser's state has the names of the parameters, but not
        always their shapes.

    Raises:
      ValueError: a rule does not fit: it names an axis that the mesh lacks, has too
        many entries, or does not divide a dimension.
    """
    rules = [(pattern, tuple(axes)) for pattern, axes in rules]
    for pattern, axes in rules:
        unknown = {a for a in axes if a is not None} - set(mesh.axis_names)
        if unknown:
            raise ValueError(
                f"sharding rule {pattern!r} names axes {sorted(unknown)}, the mesh has "
                f"{mesh.axis_names}"
            )

    def sharding(path, leaf):
        name = _name(path)
        for pattern, axes in rules:
            if re.search(pattern, name):
                shape = leaf.shape[lead:]
                fits = len(axes) <= len(shape) and all(
                    axis is None or size % mesh.shape[axis] == 0
                    for size, axis in zip(shape, axes, strict=False)
                )
                if fits:
                    return NamedSharding(mesh, P(*[None] * lead, *axes))
                if strict:
                    raise ValueError(
                        f"sharding rule {pattern!r} spreads {axes} over mesh "
                        f"{dict(mesh.shape)}, which does not fit {name} of shape "
                        f"{shape}"
                    )
                break
        return NamedSharding(mesh, P())

    return jax.tree_util.tree_map_with_path(sharding, tree)


def check_rules(trees: Sequence[Any], rules: Rules) -> None:
    """Raises ``ValueError`` for rules that a config should not have.

    They are one that matches no name of any tree, and two that match the same.
    """
    paths = [jax.tree_util.tree_flatten_with_path(tree)[0] for tree in trees]
    names = sorted({_name(path) for leaves in paths for path, _ in leaves})
    for pattern, _ in rules:
        if not any(re.search(pattern, name) for name in names):
            raise ValueError(
                f"sharding rule {pattern!r} matches no parameter; there are {names}"
            )
    for name in names:
        both = [pattern for pattern, _ in rules if re.search(pattern, name)]
        if len(both) > 1:
            raise ValueError(
                f"sharding rules {both[0]!r} and {both[1]!r} both match {name}; "
                "expected one rule for a parameter"
            )


def _name(path):
    return jax.tree_util.keystr(path, simple=True, separator="/")


def row_count(batch: Mapping, *, axis: int = 0) -> int:
    """How many rows the arrays of a batch have.

    Raises:
      ValueError: they disagree, or some have no such axis.
    """
    shapes = {np.shape(leaf) for leaf in jax.tree.leaves(batch)}
    rows = {shape[axis] for shape in shapes if len(shape) > axis}
    if len(rows) != 1 or any(len(shape) <= axis for shape in shapes):
        raise ValueError(
            f"the arrays of a batch have {sorted(rows)} rows, not one size; their "
            f"shapes are {sorted(shapes)}"
        )
    return rows.pop()


def pad_rows(batch: Mapping, multiple: int, *, axis: int = 0) -> dict:
    """Adds rows behind a False ``mask`` until ``multiple`` divides their number."""
    rows = row_count(batch, axis=axis)
    extra = -rows % multiple
    if not extra:
        return dict(batch)
    lead = jax.tree.leaves(batch)[0].shape[:axis]
    batch = {"mask": np.ones((*lead, rows), bool), **batch}

    def pad(leaf):
        widths = [(0, 0)] * leaf.ndim
        widths[axis] = (0, extra)
        return jnp.pad(leaf, widths)

    return jax.tree.map(pad, batch)
