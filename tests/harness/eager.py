"""Operations of JAX that are called one by one, run by NumPy instead of compiled.

To compile one takes some 15 milliseconds, for each shape and dtype, and a test or an
example calls a dozen; what a program of ours or of a user is, XLA compiles.
"""

import contextlib
import pathlib
import weakref

import jax
import jax.numpy as jnp
import numpy as np
from jax._src import pjit
from jax._src.array import ArrayImpl

from harness import interpreter
from harness.primitives import PLAIN, SEVERAL, WITH_PARAMS

TIMES = 30  # what is called more often is compiled
LARGE = 100_000  # numbers, from which on XLA is faster
JAX = str(pathlib.Path(jax.__file__).parent)
CALLS = {"jit", "pjit", "closed_call", "custom_jvp_call", "custom_vjp_call"}
_left = weakref.WeakKeyDictionary()  # how often a program may still be interpreted
_interprets = False
_jax_run = getattr(pjit, "_pjit_call_impl_python", None)


@contextlib.contextmanager
def _set(interprets):
    global _interprets
    before, _interprets = _interprets, interprets
    try:
        yield
    finally:
        _interprets = before


def interpreted():
    """Inside, NumPy runs what it can of JAX's own operations on a few numbers."""
    return _set(True)


def compiled():
    """Inside, XLA runs all of them."""
    return _set(False)


def _run(*args, jaxpr, **params):
    """In place of JAX's function that compiles and runs a program."""
    if not (_interprets and _takes(args, params) and _is_left(jaxpr)):
        return _jax_run(*args, jaxpr=jaxpr, **params)
    with np.errstate(all="ignore"):
        results = interpreter.call(jaxpr, [interpreter.concrete(a) for a in args])
    results = [*map(_array, results, jaxpr.out_avals)]
    return results, None, None, []


def _takes(args, params):
    """Whether nothing says on which device, and no number is to be looked at."""
    return not (
        any(getattr(a, "_committed", False) for a in args)
        or any(params["donated_invars"])
        or not all(
            isinstance(s, pjit.UnspecifiedValue)
            for s in (*params["in_shardings"], *params["out_shardings"])
        )
        or params["compiler_options_kvs"]
        or not params["ctx_mesh"].empty
        or jax.config.jax_debug_nans
    )


def _is_left(program):
    if program not in _left:
        path = program.jaxpr.debug_info.func_filename or ""
        ours = not path.startswith(JAX) or program.effects
        _left[program] = 0 if ours or not _is_known(program.jaxpr) else TIMES
    _left[program] -= 1
    return _left[program] >= 0


def _is_known(program):
    """Whether NumPy has every step, and none that it does otherwise than XLA."""
    return all(map(_is_known_step, program.eqns))


def _is_known_step(eqn):
    name, ins, outs = (
        eqn.primitive.name,
        *([v.aval for v in vs] for vs in (eqn.invars, eqn.outvars)),
    )
    if any(a.size > LARGE for a in outs):
        return False
    if name in CALLS:
        inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
        return inner is not None and _is_known(getattr(inner, "jaxpr", inner))
    if any(jnp.issubdtype(a.dtype, interpreter.KEYS) for a in (*ins, *outs)):
        return name == "random_bits" and str(ins[0].dtype) == "key<fry>"
    integers = jnp.issubdtype(outs[0].dtype, jnp.integer)
    if name == "convert_element_type":  # XLA has an integer for NaN and inf
        return not (integers and jnp.issubdtype(ins[0].dtype, jnp.inexact))
    if integers and name in ("div", "rem", "integer_pow"):  # and for x / 0
        return False
    return name in PLAIN or name in WITH_PARAMS or name in SEVERAL


def _array(a, aval):
    """What XLA would give: on the default device, committed to none."""
    if isinstance(a, jax.Array):
        return a
    placed = jax.device_put(np.array(a, aval.dtype))  # arguments may be seen through it
    if not aval.weak_type:
        return placed
    return ArrayImpl(aval, placed.sharding, [placed], committed=False)


def install():
    """Changes JAX, if it is as this file knows it: 0.10.2 is, 0.7.0 is not."""
    pjit._pjit_call_impl_python = _run
    try:
        with interpreted():
            same = float(jnp.sin(np.float32(1.5))) == np.sin(np.float32(1.5))
    except Exception:  # of whatever kind, in a version that is built otherwise
        same = False
    if not same:
        pjit._pjit_call_impl_python = _jax_run


def is_installed():
    return pjit._pjit_call_impl_python is _run
