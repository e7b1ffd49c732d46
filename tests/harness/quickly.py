"""XLA in a hurry, for programs that run once.

Nearly all of the time of a test goes into compiling. It takes half as long if machine
code need not be fast; operations are fused all the same.
"""

import functools
import os

import jax


def _is_known(option, value):
    """Whether this XLA takes an option: what they are changes with versions."""
    try:
        jax.jit(lambda: 0.0, compiler_options={option: value}).lower().compile()
    except jax.errors.JaxRuntimeError:
        return False
    return True


_WANTED = {
    "xla_backend_optimization_level": 0,
    "xla_cpu_use_fusion_emitters": False,
    "xla_cpu_parallel_codegen_split_count": 1,
}
OPTIONS = {name: value for name, value in _WANTED.items() if _is_known(name, value)}
# The same for other processes, as their XLA_FLAGS.
_flags = [f"--{name}={value}".lower() for name, value in OPTIONS.items()]
FLAGS = " ".join([os.environ.get("XLA_FLAGS", ""), *_flags])
quick_jit = functools.partial(jax.jit, compiler_options=OPTIONS)
