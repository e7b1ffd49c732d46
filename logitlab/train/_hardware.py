"""Peak floating-point throughput and peak memory of a device."""

import functools
import sys
import time

import jax
import jax.numpy as jnp

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


@functools.cache
def peak_flops(device: jax.Device) -> float | None:
    """Peak floating-point operations per second, for the utilization.

    Published for GPUs and TPUs, ``None`` for unknown ones; for a CPU that of the best
    of a few float32 products, measured on the spot.
    """
    if device.platform != "cpu":
        kind = device.device_kind.lower()
        return next(
            (peak for name, peak in PEAKS.items() if name.lower() in kind), None
        )
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
