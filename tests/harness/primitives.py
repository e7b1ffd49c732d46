"""What NumPy does for each primitive of JAX.

Nothing is compiled for these. The interpreter gives the others to JAX, which compiles
one program for each and for each shape.
"""

import math

import jax
import numpy as np
import scipy.special
from jax import lax

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
    "digamma": scipy.special.digamma,
    "eq": np.equal,
    "erf": scipy.special.erf,
    "erf_inv": scipy.special.erfinv,
    "erfc": scipy.special.erfc,
    "exp": np.exp,
    "expm1": np.expm1,
    "floor": np.floor,
    "ge": np.greater_equal,
    "gt": np.greater,
    "is_finite": np.isfinite,
    "le": np.less_equal,
    "lgamma": scipy.special.gammaln,
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
    "rem": np.fmod,
    "rsqrt": lambda a: 1 / np.sqrt(a),
    "select_n": lambda which, *cases: (
        np.where(which, *cases[::-1]) if len(cases) == 2 else np.choose(which, cases)
    ),
    "sharding_constraint": _same,
    "shift_left": np.left_shift,
    "sign": np.sign,
    "sin": np.sin,
    "sqrt": np.sqrt,
    "square": np.square,
    "stop_gradient": _same,
    "sub": np.subtract,
    "tanh": np.tanh,
    "xor": np.bitwise_xor,
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


def _pad(eqn, a, value):
    for d, (low, high, inside) in enumerate(eqn.params["padding_config"]):
        spread = max(a.shape[d] * (inside + 1) - inside, 0)
        shape = [spread if i == d else size for i, size in enumerate(a.shape)]
        wide = np.full(shape, value, a.dtype)
        lines = np.moveaxis(wide, d, 0)
        lines[:: inside + 1] = np.moveaxis(a, d, 0)
        rows = [(max(low, 0), max(high, 0))] + [(0, 0)] * (a.ndim - 1)
        lines = np.pad(lines, rows, constant_values=value)
        lines = lines[max(-low, 0) : len(lines) - max(-high, 0)]
        a = np.moveaxis(lines, 0, d)
    return a


def _round(eqn, a):
    if eqn.params["rounding_method"] == lax.RoundingMethod.TO_NEAREST_EVEN:
        return np.round(a)
    return np.copysign(np.floor(np.abs(a) + 0.5), a)


def _shift_right_logical(eqn, a, by):
    return (a.view(f"u{a.itemsize}") >> by.view(f"u{a.itemsize}")).view(a.dtype)


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
    "bitcast_convert_type": lambda eqn, a: a.view(eqn.params["new_dtype"]),
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
    "pad": _pad,
    "reduce_and": lambda eqn, a: np.bitwise_and.reduce(a, eqn.params["axes"]),
    "reduce_max": _reduction(np.maximum.reduce, _limit(-1)),
    "reduce_min": _reduction(np.minimum.reduce, _limit(1)),
    "reduce_or": lambda eqn, a: np.bitwise_or.reduce(a, eqn.params["axes"]),
    "reduce_sum": lambda eqn, a: np.add.reduce(a, eqn.params["axes"]),
    "reshape": _reshape,
    "rev": lambda eqn, a: np.flip(a, eqn.params["dimensions"]),
    "round": _round,
    "scatter": _scatter(lambda out, at, new: out.__setitem__(at, new)),
    "scatter-add": _scatter(np.add.at),
    "scatter-max": _scatter(np.maximum.at),
    "scatter-min": _scatter(np.minimum.at),
    "scatter-mul": _scatter(np.multiply.at),
    "shift_right_logical": _shift_right_logical,
    "slice": _slice,
    "squeeze": _squeeze,
    "transpose": lambda eqn, a: np.transpose(a, eqn.params["permutation"]),
}

# --- randomness

ROTATIONS = (13, 15, 26, 6), (17, 29, 16, 24)


def _threefry(keys, high, low):
    """Threefry 2x32 in 20 rounds (Salmon et al. 2011)."""
    keys = [*keys, keys[0] ^ keys[1] ^ np.uint32(0x1BD11BDA)]
    x, y = high + keys[0], low + keys[1]
    for i in range(5):
        for r in ROTATIONS[i % 2]:
            x = x + y
            y = x ^ (y << np.uint32(r) | y >> np.uint32(32 - r))
        x = x + keys[(i + 1) % 3]
        y = y + keys[(i + 2) % 3] + np.uint32(i + 1)
    return x, y


def _random_bits(eqn, args):
    """What JAX draws with keys of its default kind: hashes of the positions."""
    (keys,), shape, width = args, eqn.params["shape"], eqn.params["bit_width"]
    if str(keys.dtype) != "key<fry>":
        return [np.asarray(eqn.primitive.bind(keys, **eqn.params))]
    data = np.asarray(jax.random.key_data(keys))
    data = np.moveaxis(data.reshape(*keys.shape, *(1,) * len(shape), 2), -1, 0)
    at = np.arange(math.prod(shape), dtype="u8").reshape(shape)
    x, y = _threefry(data, (at >> 32).astype("u4"), at.astype("u4"))
    if width == 64:
        return [x.astype("u8") << np.uint64(32) | y]
    return [(x ^ y).astype(f"u{width // 8}")]


def _platform_index(eqn, args):
    """The place of the branch for this machine's processor."""
    here = [names is None or "cpu" in names for names in eqn.params["platforms"]]
    return [np.int32(here.index(True))]


SEVERAL = {
    "optimization_barrier": lambda eqn, args: args,
    "platform_index": _platform_index,
    "random_bits": _random_bits,
    "sort": _sort,
    "split": lambda eqn, args: np.split(
        args[0], np.cumsum(eqn.params["sizes"])[:-1], eqn.params["axis"]
    ),
}
