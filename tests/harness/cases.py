"""A catalogue row with its compiled programs, and how numbers are compared."""

import functools
import inspect
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from harness.interpreter import interpreted
from harness.quickly import quick_jit

FLOAT_MAX = float(np.finfo(np.float32).max)
BIG = 1e30  # the largest magnitude of logits for which losses promise anything
TINY = 1e-36  # nothing below it is told from 0 in float32
# One program of each row, that for float32, is compiled as a user's is; others that
# must be compiled are compiled quickly, and those that need not be are interpreted.


class Case:
    """A row, arguments for it, and its value and gradient, compiled once.

    The two scores of a pair stand for logits together, on an axis of two: what is said
    of logits is said of both.
    """

    def __init__(self, row):
        self.row, self.shape = row, tuple(row.shape)
        self.classes = self.shape[-1] if len(self.shape) > 1 else None
        self.two = row.kind == "pair" and self.classes is None
        if self.two:
            self.shape = (*self.shape, 2)
        self.examples = self.shape[0]
        self.traced = jax.jit(self.value_and_grad)  # one trace for many programs
        self.optimized = jax.jit(self.fused)
        self.quick = interpreted(self.traced)
        self.has_key = any(is_key(a) for a in self.args(0))
        self.takes_label = self.classes is not None and self.label_at() is not None

    def args(self, seed, dtype="float32", shape=None):
        """What the row's ``make`` draws."""
        shape, dtype = shape or self.shape, jnp.dtype(dtype)
        if not self.two:
            return _drawn(self.row.make, shape, dtype, seed)
        chosen, rejected, *rest = _drawn(self.row.make, shape[:-1], dtype, seed)
        return jnp.asarray(np.stack([chosen, rejected], -1)), *rest

    def loss(self, *args, **options):
        """The loss itself; a state comes after its numbers, parts are added up."""
        if self.two:
            args = (args[0][..., 0], args[0][..., 1], *args[1:])
        return numbers(self.row.loss(*args, **self.row.hyper, **options))

    def value_and_grad(self, args, options=None):
        """Unreduced values, and the gradient of their sum in the logits."""

        def total(z):
            values = self.loss(z, *args[1:], **(options or {}))
            return values.sum(), values

        (_, values), grad = jax.value_and_grad(total, has_aux=True)(args[0])
        return values, grad

    def fused(self, args, producer):
        """The same for logits that the program itself computes, as users' programs do.

        Compilers compute them more than once, in fusions that round differently.
        """

        def total(z):
            values = self.loss(z, *args[1:])
            return values.sum(), values

        z = produced(args[0], producer)
        (_, values), grad = jax.value_and_grad(total, has_aux=True)(z)
        return values, grad

    def run(self, args, **options):
        """Values and gradient as float64 arrays, computed in the arguments' dtype."""
        return wide(self.call(args, options))

    def call(self, args, options=None):
        """Values and gradient, by the program that is meant for such arguments."""
        plain = args[0].dtype == np.float32 and args[0].shape == self.shape
        if plain and not options:
            return self.optimized(tuple(args), AS_THEY_ARE)
        return self.quick(tuple(args), options or None)

    def run64(self, args, **options):
        """The same in float64 for the same arguments."""
        with jax.enable_x64(True):
            return wide(self.quick(to_float64(args), options or None))

    def label_at(self):
        """Position of ``labels``, where they are integers, one for each example."""
        names = inspect.signature(self.row.loss).parameters
        for i, (name, arg) in enumerate(zip(names, self.args(0), strict=False)):
            if name == "labels" and arg.shape == self.shape[:-1]:
                return i if jnp.issubdtype(arg.dtype, jnp.integer) else None
        return None

    def with_logits(self, args, logits):
        return (np.asarray(logits, args[0].dtype), *args[1:])

    def with_labels(self, args, labels):
        at = self.label_at()
        return (*args[:at], np.asarray(labels, np.int32), *args[at + 1 :])


def numbers(out):
    """What a loss says: the sum of its parts, or what stands before its new state."""
    out = sum(out.values()) if isinstance(out, dict) else out
    return out[0] if isinstance(out, tuple) else out


class Producer(NamedTuple):
    """How a program makes logits of its inputs: a layer norm with gain and bias."""

    center: bool = False
    normalize: bool = False
    gain: float = 1.0
    bias: float = 0.0


AS_THEY_ARE = Producer()
SCALED = Producer(gain=0.43)
PRODUCERS = {
    "scaled": SCALED,
    "centered": Producer(center=True, gain=0.43),
    "layer norm": Producer(center=True, normalize=True, gain=5.3, bias=0.31),
}


def produced(z, producer):
    """Logits of a producer, bit for bit the inputs where it does nothing.

    Nothing in it is so expensive that a compiler would rather store the logits than
    compute them again, in another fusion and rounded differently.
    """
    center, normalize, gain, bias = producer
    mean = jnp.where(center, jnp.mean(z, -1, keepdims=True), 0)
    variance = jnp.mean((z - mean) ** 2, -1, keepdims=True)
    scale = jnp.where(normalize, jax.lax.rsqrt(variance + 1e-6), 1)
    classes = jnp.cos(jnp.arange(z.shape[-1], dtype=z.dtype))
    shape = (1,) * (z.ndim - 1) + classes.shape
    return (z - mean) * scale * gain + bias * classes.reshape(shape)


made = quick_jit(produced)


@functools.cache
def _drawn(make, shape, dtype, seed):
    draw = _drawing(make, shape, dtype)
    return map_arrays(jnp.asarray, draw(jax.random.key(seed)))


@functools.cache
def _drawing(make, shape, dtype):
    return interpreted(lambda key: tuple(make(key, shape, dtype)))


def applies_to(about):
    """Declares of which cases a check says something."""

    def declare(check):
        check.applies_to = about
        return check

    return declare


def applies(check, case):
    """Whether the check says something of the case."""
    return getattr(check, "applies_to", lambda case: True)(case)


_CASES = {}


def case_of(row) -> Case:
    """The row's case; asking twice compiles once."""
    if id(row) not in _CASES:
        _CASES[id(row)] = Case(row)  # which keeps the row, and so its id, alive
    return _CASES[id(row)]


def is_key(array):
    return jnp.issubdtype(array.dtype, jax.dtypes.prng_key)


def is_float(array):
    return jnp.issubdtype(array.dtype, jnp.floating)


def map_arrays(f, args):
    return tuple(a if is_key(a) else f(np.asarray(a)) for a in args)


def to_float64(args):
    return map_arrays(lambda a: a.astype(np.float64) if is_float(a) else a, args)


def wide(pair):
    return tuple(np.asarray(a).astype(np.float64) for a in pair)


def error(a, b):
    """``max|a - b| / max|b|``; infinite entries must agree, NaN is an error of inf."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    if a.shape != b.shape or np.isnan(a).any() or np.isnan(b).any():
        return np.inf
    inf = np.isinf(a) | np.isinf(b)
    if (a[inf] != b[inf]).any():
        return np.inf
    a, b = a[~inf], b[~inf]
    scale = np.abs(b).max(initial=0)
    return np.abs(a - b).max(initial=0) / (scale if scale > TINY else 1)


def assert_exact(got, want, rtol, what, examples):
    """Each example's value and slopes agree, however small they are."""
    for name, a, b in zip(("value", "gradient"), got, want, strict=True):
        rows = examples if b.ndim and b.shape[0] == examples else 1
        if a.shape != b.shape or np.isnan(a).any() or np.isnan(b).any():
            raise AssertionError(f"{what}: {name}\n{a}\n{b}")
        a, b = a.reshape(rows, -1), b.reshape(rows, -1)
        same = a == b  # infinities too
        scale = np.abs(np.where(np.isinf(b), 0, b)).max(-1)
        off = np.abs(np.where(same, 0, a) - np.where(same, 0, b)).max(-1)
        wrong = ~((off <= rtol * scale) | ((scale < TINY) & (off < TINY)))
        assert not wrong.any(), (
            f"{what}: {name} of examples {np.flatnonzero(wrong)} is off by "
            f"{(off / np.maximum(scale, TINY))[wrong]} (allowed {rtol:.3g})\n"
            f"{a[wrong]}\n{b[wrong]}"
        )


def assert_same(got, want, rtol, what):
    """Values and gradients agree."""
    for name, a, b in zip(("value", "gradient"), got, want, strict=True):
        assert error(a, b) <= rtol, (
            f"{what}: {name} is off by {error(a, b):.3g} (allowed {rtol:.3g})\n{a}\n{b}"
        )


def take_classes(array, kept, classes):
    for axis, size in enumerate(array.shape):
        if size == classes:
            array = np.take(array, kept, axis)
    return array
