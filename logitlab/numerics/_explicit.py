"""What an Explicit mesh has to be asked for."""

from __future__ import annotations

import jax


def unsharded(array: jax.Array, axis: int | None = None) -> jax.Array:
    """All of an array on each device of an Explicit mesh, along one axis or along all.

    For what sorts, or lets each entry meet every other. Where a compiler decides on the
    layout, and without a mesh, the array comes back as it is.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import unsharded
    >>> unsharded(jnp.float32([1, 2]))
    Array([1., 2.], dtype=float32)
    """
    sharding = jax.typeof(array).sharding
    spec = list(sharding.spec)
    for at in range(array.ndim) if axis is None else [axis] * (array.ndim > 0):
        spec[at] = None
    if spec == list(sharding.spec):
        return array
    spec = jax.sharding.PartitionSpec(*spec)
    return jax.sharding.reshard(array, jax.sharding.NamedSharding(sharding.mesh, spec))


def look_up(table: jax.Array, indices: jax.Array) -> jax.Array:
    """The entries of a table at indices, laid out over an Explicit mesh as these are.

    Indices outside are moved to the nearest end.

    >>> import jax.numpy as jnp
    >>> from logitlab.numerics import look_up
    >>> look_up(jnp.float32([3, 5]), jnp.array([1, 0, 9]))
    Array([5., 3., 5.], dtype=float32)
    """
    sharding = jax.typeof(indices).sharding
    if not any(sharding.spec):
        return table.at[indices].get(mode="clip")
    spec = jax.sharding.PartitionSpec(*sharding.spec, *[None] * (table.ndim - 1))
    spread = jax.sharding.NamedSharding(sharding.mesh, spec)
    return table.at[indices].get(mode="clip", out_sharding=spread)
