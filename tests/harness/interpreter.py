"""Traced programs run by NumPy, for those that are not worth compiling.

A loss of twenty numbers takes a few milliseconds here, and XLA a fifth of a second to
compile. What tracing decides (batching, derivatives, shapes, dtypes) is the same. Only
numbers below the normal range differ: NumPy keeps them, XLA takes them for 0.
"""

import contextlib
import functools
import inspect
import types

import jax
import jax.numpy as jnp
import numpy as np
import scipy.special
from jax import lax
from jax.extend.core import Literal

from harness.quickly import quick_jit

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
        flat = [_concrete(a) for a in jax.tree.leaves((args, kwargs))]
        with np.errstate(all="ignore"):
            results = _call(traced.jaxpr, flat)
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
    return isinstance(a, jax.Array) and jnp.issubdtype(a.dtype, jax.dtypes.prng_key)


def _is_traced(a):
    floats = hasattr(a, "dtype") and jnp.issubdtype(a.dtype, np.inexact)
    return _is_key(a) or (floats and isinstance(a, np.ndarray | jax.Array))


def _concrete(a):
    return a if _is_key(a) else np.asarray(a, jnp.result_type(a))


def _run(program, consts, args):
    values = dict(zip(program.constvars, map(_concrete, consts), strict=True))
    values.update(zip(program.invars, args, strict=True))

    def read(v):
        return np.asarray(v.val, v.aval.dtype) if isinstance(v, Literal) else values[v]

    for eqn in program.eqns:
        results = _apply(eqn, [read(v) for v in eqn.invars])
        for v, a in zip(eqn.outvars, results, strict=True):
            keeps = isinstance(a, jax.Array) or a.dtype == v.aval.dtype
            values[v] = a if keeps else a.astype(v.aval.dtype)
    return [read(v) for v in program.outvars]


def _apply(eqn, args):
    """Results of one step, as a list."""
    name, params = eqn.primitive.name, eqn.params
    if name in CONTROL:
        return CONTROL[name](eqn, args)
    for inner in ("jaxpr", "call_jaxpr"):  # of jit, checkpoint, custom derivatives
        if inner in params:
            return _call(params[inner], args)
    if not any(isinstance(a, jax.Array) for a in args):
        if name in PLAIN:
            return [np.asarray(PLAIN[name](*args))]
        if name in WITH_PARAMS:
            return [np.asarray(WITH_PARAMS[name](eqn, *args))]
    results = eqn.primitive.bind(*args, **params)  # compiled once for all losses
    results = results if eqn.primitive.multiple_results else [results]
    return [_concrete(a) for a in results]


def _call(program, args):
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
        out = _call(jaxpr, [*consts, *carry, *(a[i] for a in rows)])
        carry = out[:num_carry]
        for whole, a in zip(stacked, out[num_carry:], strict=True):
            whole[i] = a
    return [*carry, *stacked]


def _while(eqn, args):
    ours, theirs = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    ours, theirs, carry = args[:ours], args[ours:][:theirs], args[ours + theirs :]
    while (on := _call(eqn.params["cond_jaxpr"], [*ours, *carry])[0]).any():
        new = _call(eqn.params["body_jaxpr"], [*theirs, *carry])
        carry = _where(on, new, carry) if on.ndim else new
    return carry


def _where(on, new, old):
    """Under vmap each row has its own condition, and keeps what it had at its end."""
    rows = [on.reshape(on.shape + (1,) * (a.ndim - on.ndim)) for a in new]
    return [np.where(*row) for row in zip(rows, new, old, strict=True)]


def _cond(eqn, args):
    branches = eqn.params["branches"]
    return _call(branches[np.clip(args[0], 0, len(branches) - 1)], args[1:])


# --- arithmetic


def _same(a):
    return a


PLAIN = {
    "abs": np.abs,
    "add": np.add,
    "add_any": np.add,
    "and": np.bitwise_and,
    "ceil": np.ceil,
    "clamp": lambda low, a, high: np.minimum(np.maximum(a, low), high),
    "copy": _same,
    "cos": np.cos,
    "eq": np.equal,
    "erf": scipy.special.erf,
    "erfc": scipy.special.erfc,
    "exp": np.exp,
    "expm1": np.expm1,
    "floor": np.floor,
    "ge": np.greater_equal,
    "gt": np.greater,
    "is_finite": np.isfinite,
    "le": np.less_equal,
    "log": np.log,
    "log1p": np.log1p,
    "logistic": scipy.special.expit,
    "lt": np.less,
    "max": np.maximum,
    "min": np.minimum,
    "mul": np.multiply,
    "ne": np.not_equal,
    "neg": np.negative,
    "not": np.invert,
    "or": np.bitwise_or,
    "pow": np.power,
    "rsqrt": lambda a: 1 / np.sqrt(a),
    "select_n": lambda which, *cases: (
        np.where(which, *cases[::-1]) if len(cases) == 2 else np.choose(which, cases)
    ),
    "sharding_constraint": _same,
    "sign": np.sign,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "square": np.square,
    "stop_gradient": _same,
    "sub": np.subtract,
    "tanh": np.tanh,
}


def _reduction(reduce, start):
    """``start`` is the result for no numbers at all, by dtype."""

    def run(eqn, a):
        return reduce(a, eqn.params["axes"], initial=start(a.dtype))

    return run


def _limit(sign):
    def limit(dtype):
        if dtype.kind in "iu":
            return np.iinfo(dtype).max if sign > 0 else np.iinfo(dtype).min
        return sign > 0 if dtype.kind == "b" else sign * np.inf

    return limit


def _divide(eqn, a, b):
    if a.dtype.kind in "iu":  # rounds to 0, as C does
        return np.trunc(a / b)
    return a / b


def _along(accumulate):
    def run(eqn, a):
        axis = eqn.params["axis"]
        if eqn.params["reverse"]:
            return np.flip(accumulate(np.flip(a, axis), axis=axis), axis)
        return accumulate(a, axis=axis)

    return run


def _broadcast(eqn, a, *_):
    shape, at = eqn.params["shape"], eqn.params["broadcast_dimensions"]
    kept = [1] * len(shape)
    for d, size in zip(at, a.shape, strict=True):
        kept[d] = size
    out = np.empty(shape, a.dtype)
    out[...] = a.reshape(kept)
    return out


def _reshape(eqn, a, *_):
    order = eqn.params["dimensions"]
    a = a if order is None else a.transpose(order)
    return a.reshape(eqn.outvars[0].aval.shape)


def _squeeze(eqn, a):
    return a.reshape(eqn.outvars[0].aval.shape)


def _dot(eqn, a, b):
    (contract_a, contract_b), (batch_a, batch_b) = eqn.params["dimension_numbers"]
    names_a, names_b = list(range(a.ndim)), list(range(a.ndim, a.ndim + b.ndim))
    for i, j in [*zip(contract_a, contract_b), *zip(batch_a, batch_b)]:  # noqa: B905
        names_b[j] = names_a[i]
    shared = [names_a[i] for i in batch_a]
    free_a = [n for i, n in enumerate(names_a) if i not in {*batch_a, *contract_a}]
    free_b = [n for i, n in enumerate(names_b) if i not in {*batch_b, *contract_b}]
    dtype = np.promote_types(eqn.outvars[0].aval.dtype, np.float32)
    a, b = a.astype(dtype), b.astype(dtype)
    return np.einsum(a, names_a, b, names_b, shared + free_a + free_b, optimize=True)


def _windows(operand, indices, sizes, mapped, batching):
    """Where each window lies, [windows..., sizes...], and which lie inside."""
    starts = np.zeros((*indices.shape[:-1], operand.ndim), np.int64)
    starts[..., list(mapped)] = indices
    for d, at in batching:
        line = [-1 if i == at else 1 for i in range(starts.ndim - 1)]
        starts[..., d] = np.arange(operand.shape[d]).reshape(line)
    last = np.array(operand.shape) - sizes
    inside = ((starts >= 0) & (starts <= last)).all(-1)
    starts = np.moveaxis(np.clip(starts, 0, np.maximum(last, 0)), -1, 0)
    grid = np.indices(sizes).reshape(len(sizes), *(1,) * inside.ndim, *sizes)
    return tuple(starts.reshape(*starts.shape, *(1,) * len(sizes)) + grid), inside


def _gather(eqn, operand, indices):
    numbers, sizes = eqn.params["dimension_numbers"], eqn.params["slice_sizes"]
    fill = eqn.params["fill_value"]
    if fill is None:
        fill = np.nan if operand.dtype.kind not in "biu" else _limit(-1)(operand.dtype)
    if not operand.size:
        return np.full(eqn.outvars[0].aval.shape, fill, operand.dtype)
    mapped, gone = numbers.start_index_map, numbers.operand_batching_dims
    batching = zip(gone, numbers.start_indices_batching_dims, strict=True)
    at, inside = _windows(operand, indices, sizes, mapped, batching)
    if eqn.params["mode"] != lax.GatherScatterMode.FILL_OR_DROP:
        inside |= True  # the nearest windows, whatever was promised
    ones = (1,) * len(sizes)
    found = np.where(inside.reshape(*inside.shape, *ones), operand[at], fill)
    gone = (*numbers.collapsed_slice_dims, *gone)
    found = found.squeeze(tuple(inside.ndim + d for d in gone))
    return np.moveaxis(found, range(inside.ndim, found.ndim), numbers.offset_dims)


def _scatter(update):
    """``update(operand, at, numbers)`` changes the operand's entries at ``at``."""

    def run(eqn, operand, indices, numbers):
        dims, out = eqn.params["dimension_numbers"], operand.copy()
        if not numbers.size:
            return out
        window = dims.update_window_dims
        first = numbers.ndim - len(window)
        numbers = np.moveaxis(numbers, window, tuple(range(first, numbers.ndim)))
        gone = (*dims.inserted_window_dims, *dims.operand_batching_dims)
        for d in sorted(gone):
            numbers = np.expand_dims(numbers, first + d)
        batching = zip(
            dims.operand_batching_dims, dims.scatter_indices_batching_dims, strict=True
        )
        mapped, sizes = dims.scatter_dims_to_operand_dims, numbers.shape[first:]
        at, inside = _windows(operand, indices, sizes, mapped, batching)
        if eqn.params["mode"] == lax.GatherScatterMode.CLIP:
            inside |= True
        update(out, tuple(a[inside] for a in at), numbers[inside])
        return out

    return run


def _starts(operand, sizes, starts):
    return tuple(
        slice(at := int(np.clip(start, 0, whole - size)), at + size)
        for whole, size, start in zip(operand.shape, sizes, starts, strict=True)
    )


def _dynamic_slice(eqn, a, *starts):
    return a[_starts(a, eqn.params["slice_sizes"], starts)]


def _dynamic_update_slice(eqn, a, new, *starts):
    out = a.copy()
    out[_starts(a, new.shape, starts)] = new
    return out


def _sort(eqn, args):
    axis, keys = eqn.params["dimension"], args[: eqn.params["num_keys"]]
    if len(args) == 1:
        return [np.sort(args[0], axis, kind="stable")]
    order = np.lexsort(keys[::-1], axis)
    return [np.take_along_axis(a, order, axis) for a in args]


def _iota(eqn, *_):
    shape, axis = eqn.params["shape"], eqn.params["dimension"]
    line = np.arange(shape[axis]).reshape(
        [-1 if d == axis else 1 for d in range(len(shape))]
    )
    return np.broadcast_to(line, shape)


def _slice(eqn, a):
    params = eqn.params
    strides = params["strides"] or (1,) * a.ndim
    return a[
        tuple(map(slice, params["start_indices"], params["limit_indices"], strides))
    ]


WITH_PARAMS = {
    "argmax": lambda eqn, a: np.argmax(a, *eqn.params["axes"]),
    "argmin": lambda eqn, a: np.argmin(a, *eqn.params["axes"]),
    "broadcast_in_dim": _broadcast,
    "concatenate": lambda eqn, *a: np.concatenate(a, eqn.params["dimension"]),
    "convert_element_type": lambda eqn, a: a.astype(eqn.params["new_dtype"]),
    "cumlogsumexp": _along(np.logaddexp.accumulate),
    "cummax": _along(np.maximum.accumulate),
    "cummin": _along(np.minimum.accumulate),
    "cumprod": _along(np.cumprod),
    "cumsum": _along(np.cumsum),
    "div": _divide,
    "dot_general": _dot,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    "expand_dims": _squeeze,
    "gather": _gather,
    "integer_pow": lambda eqn, a: a ** a.dtype.type(eqn.params["y"]),
    "iota": _iota,
    "reduce_and": lambda eqn, a: np.bitwise_and.reduce(a, eqn.params["axes"]),
    "reduce_max": _reduction(np.maximum.reduce, _limit(-1)),
    "reduce_min": _reduction(np.minimum.reduce, _limit(1)),
    "reduce_or": lambda eqn, a: np.bitwise_or.reduce(a, eqn.params["axes"]),
    "reduce_sum": lambda eqn, a: np.add.reduce(a, eqn.params["axes"]),
    "reshape": _reshape,
    "rev": lambda eqn, a: np.flip(a, eqn.params["dimensions"]),
    "scatter": _scatter(lambda out, at, new: out.__setitem__(at, new)),
    "scatter-add": _scatter(np.add.at),
    "scatter-max": _scatter(np.maximum.at),
    "scatter-min": _scatter(np.minimum.at),
    "scatter-mul": _scatter(np.multiply.at),
    "slice": _slice,
    "squeeze": _squeeze,
    "transpose": lambda eqn, a: np.transpose(a, eqn.params["permutation"]),
}

# Those of several results.
CONTROL = {
    "scan": _scan,
    "while": _while,
    "cond": _cond,
    "sort": _sort,
    "optimization_barrier": lambda eqn, args: args,
    "split": lambda eqn, args: np.split(
        args[0], np.cumsum(eqn.params["sizes"])[:-1], eqn.params["axis"]
    ),
}
