"""Published peaks of a device, its peak memory, and devices that are not there."""

import contextlib
import functools
import importlib.util
import math
import os
import sys
import time
from collections.abc import Iterator, Mapping

import jax
import jax.numpy as jnp
from jax.experimental import topologies

# Dense products of 16-bit floats, operations per second of one JAX device, as makers
# publish them; the first name that a device's kind contains.
PEAKS = {
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "H200": 989e12,
    "B200": 2250e12,
    "A100": 312e12,
    "L40S": 362e12,
    "L4": 121e12,
    "V100": 125e12,
    "T4": 65e12,
    "TPU v6": 918e12,
    "TPU v5p": 459e12,
    "TPU v5 lite": 197e12,
    "TPU v5e": 197e12,
    "TPU v5": 459e12,
    "TPU v4": 275e12,
    "TPU v3": 61.5e12,  # a device is a core, half a chip
    "TPU v2": 22.5e12,
}
# Bytes that a device reads and writes per second: cloud.google.com/tpu/docs/v4, /v5e,
# /v5p and /v6e ("HBM bandwidth per chip"); NVIDIA's data sheets of the H100 and H200.
BANDWIDTHS = {
    "H100 PCIe": 2.0e12,
    "H100": 3.35e12,
    "H200": 4.8e12,
    "TPU v6": 1640e9,
    "TPU v5p": 2765e9,
    "TPU v5 lite": 819e9,
    "TPU v5e": 819e9,
    "TPU v5": 2765e9,
    "TPU v4": 1200e9,
}


def published(table: Mapping[str, float], device: jax.Device) -> float | None:
    """The entry of the first name that the device's kind contains, if there is one."""
    kind = device.device_kind.lower()
    return next((peak for name, peak in table.items() if name.lower() in kind), None)


_COMPILE_ONLY = {
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",  # else a warning says that it is unknown
    "TPU_WORKER_HOSTNAMES": "localhost",
}


def topology_devices(name: str) -> list[jax.Device]:
    """The chips of a slice such as ``v5e:16x16``, to compile for and not to run on.

    Raises:
      ValueError: there is no such slice, or no compiler for TPUs.
    """
    if not has_tpu_compiler():
        raise ValueError(
            f"topology is {name!r}, which needs the compiler for TPUs: "
            "pip install -e '.[tpu-aot]'"
        )
    # Nothing runs: it does not matter who else has loaded the compiler, and there is
    # no metadata server to ask what the machine is.
    for variable, value in _COMPILE_ONLY.items():
        os.environ.setdefault(variable, value)
    try:
        return topologies.get_topology_desc(name, "tpu").devices
    except jax.errors.JaxRuntimeError as error:
        raise ValueError(
            f"topology is {name!r}, expected one such as 'v5e:2x2' or 'v4:2x2x2': "
            f"{str(error).splitlines()[0]}"
        ) from error


@contextlib.contextmanager
def uncached() -> Iterator[None]:
    """Keeps what is compiled out of JAX's persistent cache.

    For programs of devices that are not there, which cannot be read back.
    """
    name = "jax_persistent_cache_min_compile_time_secs"
    before = getattr(jax.config, name)
    jax.config.update(name, math.inf)
    try:
        yield
    finally:
        jax.config.update(name, before)


def has_tpu_compiler() -> bool:
    """Whether the extra ``tpu-aot`` is installed."""
    return importlib.util.find_spec("libtpu") is not None


@functools.cache
def peak_flops(device: jax.Device) -> float | None:
    """Peak floating-point operations per second, for the utilization.

    Published for GPUs and TPUs, ``None`` for unknown ones; for a CPU that of the best
    of a few float32 products, measured on the spot.
    """
    if device.platform != "cpu":
        return published(PEAKS, device)
    size = 1024
    x = jax.device_put(jnp.ones((size, size), jnp.float32), device)
    product = jax.jit(jnp.dot).lower(x, x).compile()
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        product(x, x).block_until_ready()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / min(seconds)


def peak_bytes(device: jax.Device) -> int | str:
    """Peak memory so far of the device, on CPU of the process; empty if unknown."""
    if device.platform != "cpu":
        return (device.memory_stats() or {}).get("peak_bytes_in_use", "")
    try:
        import resource
    except ImportError:  # Windows
        return ""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
