"""Where arrays live: one mesh for one device and for a thousand."""

import math
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding
from jax.sharding import PartitionSpec as P


def make_mesh(axes: Mapping[str, int], devices=None) -> Mesh:
    """A mesh with named axes; one size may be -1 and takes the devices left over.

    Sizes that multiply to fewer than the devices take the first of them.

    >>> dict(make_mesh({"data": -1, "model": 2}).shape)
    {'data': 4, 'model': 2}

    Raises:
      ValueError: the sizes ask for more devices than there are, or do not divide them.
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


def shard_rows(tree, mesh: Mesh, *, axis: int = 0):
    """Spreads ``axis`` over the mesh's ``data``; what does not divide is replicated."""
    ways = mesh.shape["data"]

    def place(leaf):
        leaf = jnp.asarray(leaf)
        rows = leaf.ndim > axis and leaf.shape[axis] % ways == 0
        spec = P(*[None] * axis, "data") if rows else P()
        return jax.device_put(leaf, NamedSharding(mesh, spec))

    return jax.tree.map(place, tree)


def replicate_rows(tree, mesh: Mesh, *, axis: int = 0):
    """Puts every leaf on every device, whatever its ``axis``."""
    del axis
    return jax.device_put(tree, NamedSharding(mesh, P()))


def pad_rows(batch: Mapping, multiple: int, *, axis: int = 0) -> dict:
    """Adds rows behind a False ``mask`` until ``multiple`` divides their number."""
    rows = {leaf.shape[axis] for leaf in jax.tree.leaves(batch)}
    if len(rows) != 1:
        raise ValueError(
            f"the arrays of a batch have {sorted(rows)} rows, not one size"
        )
    (rows,) = rows
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
