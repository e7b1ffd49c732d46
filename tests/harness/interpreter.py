"""Traced programs run by NumPy, for those that are not worth compiling.

A loss of twenty numbers takes a few milliseconds here, and XLA a fifth of a second to
compile. What tracing decides (batching, derivatives, shapes, dtypes) is the same. Only
numbers below the normal range differ: NumPy keeps them, XLA takes them for 0.
"""

import contextlib
import functools
import inspect
import types
import weakref

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Literal

from harness.primitives import PLAIN, SEVERAL, WITH_PARAMS
from harness.quickly import quick_jit

KEYS = jax.dtypes.prng_key
_compiles = False


@contextlib.contextmanager
def compiled():
    """Inside, XLA compiles and runs what :func:`interpreted` is called with."""
    global _compiles
    _compiles = True
    try:
        yield
    finally:
        _compiles = False


def interpreted(function, *, static_argnames=()):
    """``jax.jit`` without a compiler: results are NumPy arrays, keys stay keys.

    Inside another transformation it is ``jax.jit``.
    """
    names = {static_argnames} if isinstance(static_argnames, str) else static_argnames
    jitted = jax.jit(function, static_argnames=names or None)
    compiled = quick_jit(function, static_argnames=names or None)
    at = [i for i, n in enumerate(inspect.signature(function).parameters) if n in names]

    @functools.wraps(function)
    def run(*args, **kwargs):
        if _inside(args, kwargs):
            return jitted(*args, **kwargs)
        if _compiles:
            return compiled(*args, **kwargs)
        traced = jitted.trace(*args, **kwargs)
        args = [a for i, a in enumerate(args) if i not in at]
        kwargs = {name: a for name, a in kwargs.items() if name not in names}
        flat = [concrete(a) for a in jax.tree.leaves((args, kwargs))]
        with np.errstate(all="ignore"):
            results = call(traced.jaxpr, flat)
        return jax.tree.unflatten(jax.tree.structure(traced.out_info), results)

    return run


def functions(*modules):
    """The functions of modules, interpreted where they are called with numbers.

    Arrays of floats are traced, all else (labels, masks, options) is known to them, as
    it is when they are called plainly. Inside another transformation they are plain.
    """
    names = {"__all__": [name for module in modules for name in module.__all__]}
    for module in modules:
        names = vars(module) | names
        names |= {name: _function(getattr(module, name)) for name in module.__all__}
    return types.SimpleNamespace(**names)


def _function(function):
    if not inspect.isfunction(function):
        return function

    @functools.wraps(function)
    def run(*args, **kwargs):
        if _inside(args, kwargs):
            return function(*args, **kwargs)
        leaves, tree = jax.tree.flatten((args, kwargs))
        at = [i for i, a in enumerate(leaves) if _is_traced(a)]

        def traced(floats):
            known = list(leaves)
            for i, a in zip(at, floats, strict=True):
                known[i] = a
            args, kwargs = jax.tree.unflatten(tree, known)
            return function(*args, **kwargs)

        return interpreted(traced)([leaves[i] for i in at])

    return run


def _inside(*arguments):
    """Whether another transformation is at work."""
    return any(isinstance(a, jax.core.Tracer) for a in jax.tree.leaves(arguments))


def _is_key(a):
    return isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, KEYS)


def _is_traced(a):
    floats = hasattr(a, "dtype") and jnp.issubdtype(a.dtype, np.inexact)
    return _is_key(a) or (floats and isinstance(a, np.ndarray | jax.Array))


def concrete(a):
    return a if _is_key(a) else np.asarray(a, jnp.result_type(a))


# What each program does, found once.
_plans = weakref.WeakKeyDictionary()


def _plan(program):
    """Arrays at their places; places of inputs; steps; outputs.

    A step is what to do with a list of arrays, the places of its arguments, and the
    places and dtypes of its results.
    """
    known, places = [], {}

    def place(v):
        if isinstance(v, Literal):
            known.append(np.asarray(v.val, v.aval.dtype))
            return len(known) - 1
        if v not in places:
            places[v] = len(known)
            known.append(None)
        return places[v]

    inputs = [place(v) for v in (*program.constvars, *program.invars)]
    steps = []
    for eqn in program.eqns:
        args = [place(v) for v in eqn.invars]
        results = [(place(v), v.aval.dtype) for v in eqn.outvars]
        steps.append((_step(eqn), args, results))
    return known, inputs, steps, [place(v) for v in program.outvars]


def _run(program, consts, args):
    if program not in _plans:
        _plans[program] = _plan(program)
    known, inputs, steps, outputs = _plans[program]
    values = known.copy()
    for at, a in zip(inputs, [*map(concrete, consts), *args], strict=True):
        values[at] = a
    for step, places, outs in steps:
        results = step([values[at] for at in places])
        for (at, dtype), a in zip(outs, results, strict=True):
            values[at] = a if a.dtype == dtype else a.astype(dtype)
    return [values[at] for at in outputs]


def _step(eqn):
    """What makes a list of results of a list of arrays."""
    name, params = eqn.primitive.name, eqn.params
    plain = not any(jnp.issubdtype(v.aval.dtype, KEYS) for v in eqn.invars)
    if name in CONTROL:
        return functools.partial(CONTROL[name], eqn)
    for inner in ("jaxpr", "call_jaxpr"):  # of jit, checkpoint, custom derivatives
        if inner in params:
            return functools.partial(call, params[inner])
    if plain and name in PLAIN:
        return lambda args: [np.asarray(PLAIN[name](*args))]
    if plain and name in WITH_PARAMS:
        return lambda args: [np.asarray(WITH_PARAMS[name](eqn, *args))]

    def bind(args):  # compiled once for all losses
        results = eqn.primitive.bind(*args, **params)
        results = results if eqn.primitive.multiple_results else [results]
        return [concrete(a) for a in results]

    return bind


def call(program, args):
    return _run(
        getattr(program, "jaxpr", program), getattr(program, "consts", ()), args
    )


# --- control flow


def _scan(eqn, args):
    jaxpr, length, reverse, num_consts, num_carry = (
        eqn.params[name]
        for name in ("jaxpr", "length", "reverse", "num_consts", "num_carry")
    )
    consts, args = args[:num_consts], args[num_consts:]
    carry, rows = args[:num_carry], args[num_carry:]
    stacked = [np.zeros(v.aval.shape, v.aval.dtype) for v in eqn.outvars[num_carry:]]
    for i in reversed(range(length)) if reverse else range(length):
        out = call(jaxpr, [*consts, *carry, *(a[i] for a in rows)])
        carry = out[:num_carry]
        for whole, a in zip(stacked, out[num_carry:], strict=True):
            whole[i] = a
    return [*carry, *stacked]


def _while(eqn, args):
    ours, theirs = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    ours, theirs, carry = args[:ours], args[ours:][:theirs], args[ours + theirs :]
    while (on := call(eqn.params["cond_jaxpr"], [*ours, *carry])[0]).any():
        new = call(eqn.params["body_jaxpr"], [*theirs, *carry])
        carry = _where(on, new, carry) if on.ndim else new
    return carry


def _where(on, new, old):
    """Under vmap each row has its own condition, and keeps what it had at its end."""
    rows = [on.reshape(on.shape + (1,) * (a.ndim - on.ndim)) for a in new]
    return [np.where(*row) for row in zip(rows, new, old, strict=True)]


def _cond(eqn, args):
    branches = eqn.params["branches"]
    return call(branches[np.clip(args[0], 0, len(branches) - 1)], args[1:])


CONTROL = SEVERAL | {"scan": _scan, "while": _while, "cond": _cond}
