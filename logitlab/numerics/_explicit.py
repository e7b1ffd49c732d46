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
