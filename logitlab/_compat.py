"""What newer versions of JAX name differently from the oldest supported one, 0.7."""

import importlib

import jax

__all__ = ["enable_x64", "to_varying", "use_abstract_mesh", "varying_axes"]


def enable_x64(on: bool = True):
    """A context with or without 64-bit numbers."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(on)
    return importlib.import_module("jax.experimental").enable_x64(on)


def varying_axes(array) -> frozenset[str]:
    """The manual axes of a mesh that an array varies over; none outside a shard_map."""
    kind = jax.typeof(array)
    manual = getattr(kind, "manual_axis_type", None)
    return kind.vma if manual is None else manual.varying


def to_varying(tree, axes):
    """Arrays that did not vary over manual axes, as ones that do."""
    if hasattr(jax.lax, "pcast"):
        return jax.lax.pcast(tree, axes, to="varying")
    return jax.lax.pvary(tree, axes)


def use_abstract_mesh(mesh):
    """A context in which the mesh is that of every computation."""
    if hasattr(jax.sharding, "use_abstract_mesh"):
        return jax.sharding.use_abstract_mesh(mesh)
    from jax._src.mesh import use_abstract_mesh

    return use_abstract_mesh(mesh)
