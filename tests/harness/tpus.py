"""Programs compiled for slices of TPUs, on machines without one."""

import functools
import math

import jax
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from logitlab.train._costs import collectives
from logitlab.train._hardware import has_tpu_compiler, topology_devices, uncached

# Compiled as users' programs are; the settings that hurry the compiler for CPUs are
# none of this one.
MARKS = [
    pytest.mark.tpu,
    pytest.mark.optimized,
    pytest.mark.skipif(
        not has_tpu_compiler(), reason="needs libtpu: pip install -e '.[tpu-aot]'"
    ),
]
SLICES = {4: "v5e:2x2", 16: "v5e:4x4", 256: "v5e:16x16"}


@functools.cache
def devices(chips):
    return topology_devices(SLICES[chips])


@functools.cache
def mesh_of(chips):
    """A square mesh of all the chips, with axes data and model."""
    side, kinds = math.isqrt(chips), (AxisType.Auto,) * 2
    axes = ("data", "model")
    return jax.make_mesh((side, side), axes, kinds, devices=devices(chips))


def one_chip():
    """A mesh of the first chip of four."""
    return jax.make_mesh((1,), ("data",), (AxisType.Auto,), devices=devices(4)[:1])


def spread(mesh, shape, dtype, *spec):
    """The shape of an array that lies on a mesh."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=NamedSharding(mesh, P(*spec)))


def compiled(function, *arguments):
    """The executable for arguments, given by their shapes and shardings."""
    with uncached():
        return jax.jit(function).lower(*arguments).compile()


def temporaries(program):
    """Bytes on each chip beyond arguments and results."""
    return program.memory_analysis().temp_size_in_bytes


def largest(program):
    """kind -> numbers in the largest array of such operations between chips."""
    found = {}
    for one in collectives(program.as_text()):
        found[one.kind] = max(found.get(one.kind, 0), *one.sizes)
    return found
