"""Argument checks, chunk sizes and products that all linear heads share."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from jax.custom_derivatives import CustomVJPPrimal
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = [
    "BUDGET",
    "OF_TOKENS",
    "Linear",
    "check_float",
    "check_head",
    "chunk_size",
    "class_count",
    "features_gradient",
    "is_float",
    "leading_axes",
    "logits_of",
    "product",
    "takes_no_mask",
    "values_and_wanted",
    "wide",
]

P = ParamSpec("P")
R = TypeVar("R")
BUDGET = 2**26  # bytes of logits that exist at once, of each head


class Linear(NamedTuple):
    """Stands for the logits ``hidden @ kernel + bias`` among a loss's arguments.

    A teacher's or a reference model's, for instance. Its vocabulary need not be that of
    the first head; it gets its gradients, unless they are stopped.

    Attributes:
      hidden: [..., D], with the leading axes of the first head's.
      kernel: [D, V], or [V, D] if the function is told ``transposed``.
      bias: [V], or none.
    """

    hidden: Any  # an array; inside also a spec or a flag for each of them
    kernel: Any
    bias: Any = None


def takes_no_mask(instead: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Lets a head that is called with ``mask`` say what to do ``instead``."""

    def decorate(head):
        @functools.wraps(head)
        def run(*args, **kwargs):
            if "mask" in kwargs:
                raise TypeError(f"{head.__name__} takes no mask; {instead}")
            return head(*args, **kwargs)

        return run

    return decorate


OF_TOKENS = (
    "it returns one number for each token, of which "
    "logitlab.numerics.masked_mean(losses, mask) takes the mean, and where= hides "
    "classes"
)


def leading_axes(hidden: ArrayLike) -> tuple[int, ...]:
    """The axes of features that count tokens."""
    numerics.check_is_array(hidden, "hidden")
    return jnp.shape(hidden)[:-1]


def check_head(
    head: Linear, batch: tuple[int, ...], *, transposed: bool, name: str = ""
) -> Linear:
    """A head whose arrays fit together.

    Raises:
      TypeError: ``hidden`` or ``kernel``, called ``name`` + that in the message, is not
        floating point.
      ValueError: shapes that do not fit together, or no class.
    """
    numerics.check_is_array(head.hidden, f"{name}hidden")
    numerics.check_is_array(head.kernel, f"{name}kernel")
    hidden, kernel = jnp.asarray(head.hidden), jnp.asarray(head.kernel)
    check_float(hidden, f"{name}hidden")
    check_float(kernel, f"{name}kernel")
    if hidden.ndim < 1 or hidden.shape[:-1] != batch:
        raise ValueError(
            f"{name}hidden has shape {hidden.shape}, expected {(*batch, 'D')}"
        )
    width = hidden.shape[-1]
    expected = f"(V, {width})" if transposed else f"({width}, V)"
    if kernel.ndim != 2 or kernel.shape[1 if transposed else 0] != width:
        raise ValueError(f"{name}kernel has shape {kernel.shape}, expected {expected}")
    classes = kernel.shape[0 if transposed else 1]
    if not classes:
        raise ValueError(
            f"{name}kernel has shape {kernel.shape}, expected V at least 1"
        )
    bias = None if head.bias is None else jnp.asarray(head.bias)
    if bias is not None and bias.shape != (classes,):
        raise ValueError(f"{name}bias has shape {bias.shape}, expected ({classes},)")
    return Linear(hidden, kernel, bias)


def chunk_size(name: str, given: int | None, default: int, most: int) -> int:
    """Size of a chunk: the caller's or the ``default``, at most ``most``."""
    if given is not None and given < 1:
        raise ValueError(f"{name} is {given}, expected at least 1")
    return max(1, min(default if given is None else given, most))


def logits_of(head: Linear, *, transposed: bool) -> jax.Array:
    """Logits of a head, float32 at least."""
    kernel = head.kernel.T if transposed else head.kernel
    return product(head.hidden, kernel, head.bias)


def product(
    hidden: jax.Array, kernel: jax.Array, bias: jax.Array | None = None
) -> jax.Array:
    """``hidden @ kernel + bias``; 16-bit factors are accumulated in float32.

    Shapes: hidden [N, D], kernel [D, V], bias [V] -> [N, V]
    """
    z = jnp.matmul(hidden, kernel, preferred_element_type=wide(hidden, kernel))
    return z if bias is None else z + bias.astype(z.dtype)[None]


def features_gradient(g: jax.Array, head: Linear, *, transposed: bool) -> jax.Array:
    """Gradient of the features, given the gradient ``g`` of the logits."""
    kernel = head.kernel if transposed else head.kernel.T
    g = g.astype(jnp.result_type(head.hidden, head.kernel))
    return jnp.matmul(g, kernel, preferred_element_type=wide(g))


def class_count(head: Linear, *, transposed: bool) -> int:
    """Size of the vocabulary."""
    return head.kernel.shape[0 if transposed else 1]


def values_and_wanted(primals: tuple) -> tuple[tuple, tuple]:
    """The operands of a custom derivative with symbolic zeros, and which want one.

    Both have the structure of ``primals``: arrays, and bools.
    """
    is_primal = lambda p: isinstance(p, CustomVJPPrimal)  # noqa: E731

    def take(what):
        return jax.tree.map(what, primals, is_leaf=is_primal)

    wanted = take(lambda p: bool(p.perturbed and is_float(p.value)))
    return take(lambda p: p.value), wanted


def wide(*arrays: jax.Array) -> jnp.dtype:
    """The dtype of accumulators: float32 at least."""
    return jnp.promote_types(jnp.result_type(*arrays), jnp.float32)


def check_float(array: jax.Array, name: str) -> None:
    """Raises ``TypeError`` for an array that is not floating point."""
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} has dtype {array.dtype}, expected floating point")


def is_float(array: jax.Array) -> bool:
    """Whether an array can have a gradient."""
    return jnp.issubdtype(array.dtype, jnp.inexact)
