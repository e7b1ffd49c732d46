"""Times that are measured side by side, and the memory that programs need."""

import statistics
import time

import jax


def take_turns(calls, repeats: int) -> list[float]:
    """Median seconds of each call; they alternate, so that drift hits all alike."""
    times = [[] for _ in calls]
    for call in calls:
        jax.block_until_ready(call())
    for _ in range(repeats):
        for call, kept in zip(calls, times, strict=True):
            start = time.perf_counter()
            jax.block_until_ready(call())
            kept.append(time.perf_counter() - start)
    return [statistics.median(kept) for kept in times]


def compiled(loss, args):
    """A call of value and gradient, and the bytes of its temporaries."""

    def mean(z, *rest):
        return loss(z, *rest).mean()

    program = jax.jit(jax.value_and_grad(mean)).lower(*args).compile()
    return lambda: program(*args), program.memory_analysis().temp_size_in_bytes
