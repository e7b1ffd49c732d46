"""Kernels whose classes are equally far apart, and heads realigned to such ones."""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, check_same_shape, hyper
from logitlab.transforms import normalize

__all__ = ["realign_global", "realign_local", "simplex_etf", "sparse_etf"]


def simplex_etf(key: jax.Array, dim: int, num_classes: int) -> jax.Array:
    r"""Kernel of a simplex equiangular tight frame: classes as far apart as can be.

    Use it as a fixed head: classes that have few examples then get no less room than
    the others, and clients that never see each other's data share one geometry.

    .. math:: W = \sqrt{\tfrac{C}{C - 1}} \, U \bigl(I - \tfrac1C 1 1^\top\bigr)

    with random orthonormal columns U. Columns have length 1 and cosines -1 / (C - 1).

    Args:
      key: a ``jax.random.key``; it draws U.
      dim: D, at least C.
      num_classes: C, at least 2.

    Returns:
      The kernel [D, C], float32 (float64 where that is JAX's default).

    Raises:
      ValueError: fewer than two classes, or fewer dimensions than classes.

    Numerics: lengths and cosines to 1e-6.

    Source: neural collapse, Papyan et al. 2020, arXiv:2008.08186; as a fixed head of
      federated learning: FedLoGe, Xiao et al. 2024, arXiv:2401.08977.

    >>> import jax
    >>> from logitlab.heads import simplex_etf
    >>> kernel = simplex_etf(jax.random.key(0), 8, 3)
    >>> print(abs(kernel.T @ kernel).round(3))
    [[1.  0.5 0.5]
     [0.5 1.  0.5]
     [0.5 0.5 1. ]]
    """
    check_count("num_classes", num_classes, 2)
    check_count("dim", dim)
    if dim < num_classes:
        raise ValueError(f"dim is {dim}, expected at least num_classes, {num_classes}")
    u = jnp.linalg.qr(jax.random.normal(key, (dim, num_classes)))[0]
    return normalize(u - u.mean(1, keepdims=True), axis=0)


def sparse_etf(
    key: jax.Array,
    dim: int,
    num_classes: int,
    *,
    sparsity: float = 0.6,
    target_norm: ArrayLike = 0.1,
    steps: int = 10_000,
    learning_rate: ArrayLike = 1e-4,
) -> jax.Array:
    r"""Kernel with many zeros whose classes are still as far apart as can be (SSE-C).

    Use it as a fixed head where features that are noise to a client should not reach
    its logits: each class reads some of them only.

    A share of the entries of ``simplex_etf`` is set to 0 for good; Adam moves the
    others to lower

    .. math:: \sum_c (\|w_c\| - r)^2 - \frac1C \sum_c \arccos \max_{c' \ne c}
        \cos(w_c, w_{c'})

    Args:
      key: a ``jax.random.key``, for the frame and for where the zeros are.
      dim: D, at least C.
      num_classes: C, at least 2.
      sparsity: the share of entries that are 0, in [0, 1), rounded to whole entries; a
        Python number.
      target_norm: r, above 0.
      steps: of Adam; 0 only sets the zeros.
      learning_rate: of Adam. The product with ``steps`` has to cover the way from
        length 1 to r.

    Returns:
      The kernel [D, C], float32 (float64 where that is JAX's default).

    Raises:
      ValueError: an argument outside its range.

    Numerics: cosines are clipped to 1 - 1e-5 in size, as the authors do, so that
      parallel columns have a slope.

    Source: FedLoGe, Xiao et al. 2024, arXiv:2401.08977; ZackZikaiXiao/FedLoGe.

    >>> import jax
    >>> from logitlab.heads import sparse_etf
    >>> kernel = sparse_etf(jax.random.key(0), 8, 3, steps=10)
    >>> print(kernel.shape, (kernel == 0).sum())
    (8, 3) 14
    """
    if not 0 <= sparsity < 1:
        raise ValueError(f"sparsity is {sparsity}, expected a number in [0, 1)")
    check_count("steps", steps, 0)
    frame_key, zero_key = jax.random.split(key)
    frame = simplex_etf(frame_key, dim, num_classes)
    norm = hyper("target_norm", target_norm, frame.dtype, lambda n: n > 0, "positive")
    ranks = jax.random.permutation(zero_key, frame.size).reshape(frame.shape)
    kept = ranks >= round(sparsity * frame.size)
    return _spread(jnp.where(kept, frame, 0), kept, norm, learning_rate, steps)


@functools.partial(jax.jit, static_argnames="steps")
def _spread(frame, kept, norm, learning_rate, steps):
    others = ~jnp.eye(frame.shape[1], dtype=bool)

    def loss(kernel):
        kernel = jnp.where(kept, kernel, 0)
        lengths = jnp.linalg.norm(kernel, axis=0)
        unit = normalize(kernel, axis=0)
        cosines = jnp.where(others, unit.T @ unit, -1).max(1)
        angles = jnp.arccos(jnp.clip(cosines, -1 + 1e-5, 1 - 1e-5))
        return jnp.sum((lengths - norm) ** 2) - angles.mean()

    adam = optax.adam(learning_rate)

    def step(carry, _):
        kernel, state = carry
        updates, state = adam.update(jax.grad(loss)(kernel), state, kernel)
        return (optax.apply_updates(kernel, updates), state), None

    (kernel, _), _ = jax.lax.scan(step, (frame, adam.init(frame)), length=steps)
    return jnp.where(kept, kernel, 0)


def realign_global(
    kernel: ArrayLike, *, gain: ArrayLike = 1.7, power: ArrayLike = 1.0
) -> jax.Array:
    r"""A head whose classes have equal weight: columns of one length (GLA-FR).

    Use it after training on a long tail, where lengths of columns follow the classes'
    frequencies. Biases stay as they are.

    .. math:: w_c \leftarrow g \, w_c / \|w_c\|^p

    ``power`` is named and not defined by our source; the exponent of the length is
    inferred (1 is the method, 0 only scales).

    Shapes: kernel [D, C] -> [D, C]

    Args:
      kernel: of the head, a column for each class.
      gain: g, the length of all columns for ``power=1``.
      power: p.

    Returns:
      float32 (float64 for float64); a column of zeros stays one.

    Raises:
      TypeError: ``kernel`` is not floating point.
      ValueError: ``kernel`` is not a matrix.

    Source: FedLoGe, Xiao et al. 2024, arXiv:2401.08977.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import realign_global
    >>> print(realign_global(jnp.float32([[0, 2], [4, 0]])))
    [[0.  1.7]
     [1.7 0. ]]
    """
    w = _matrix("kernel", kernel)
    unit = normalize(w, axis=0)
    length = _lengths(w, unit)
    gain, power = hyper("gain", gain, w.dtype), hyper("power", power, w.dtype)
    return gain * unit * jnp.where(length > 0, length, 1) ** (1 - power)


def realign_local(global_kernel: ArrayLike, local_kernel: ArrayLike) -> jax.Array:
    r"""A client's head: what classes look like from all, how frequent they are from it.

    Use it for personal predictions: add its logits to those of the client's own head.
    Classes that the client has not are for ``where=False`` at the loss or the softmax.

    .. math:: w_c \leftarrow w^{\text{global}}_c \, \|w^{\text{local}}_c\|

    Shapes: global_kernel [D, C], local_kernel [D, C] -> [D, C]

    Args:
      global_kernel: a column for each class; realigned by ``realign_global`` or not.
      local_kernel: of the client.

    Returns:
      float32 (float64 for float64), of the dtype of ``global_kernel``.

    Raises:
      TypeError: a kernel is not floating point.
      ValueError: the kernels are no matrices of one shape.

    Source: FedLoGe, Xiao et al. 2024, arXiv:2401.08977.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import realign_local
    >>> print(realign_local(jnp.eye(2), jnp.float32([[3, 0], [4, 2]])))
    [[5. 0.]
     [0. 2.]]
    """
    w, local = (
        _matrix("global_kernel", global_kernel),
        _matrix("local_kernel", local_kernel),
    )
    check_same_shape("local_kernel", local, "global_kernel", w.shape)
    return w * _lengths(local, normalize(local, axis=0)).astype(w.dtype)


def _matrix(name, kernel):
    w = numerics.promote_to_float32(kernel, name)
    if w.ndim != 2:
        raise ValueError(f"{name} has shape {w.shape}, expected [D, C]")
    return w


def _lengths(w, unit):
    """Of the columns, [1, C], without the squares of large entries."""
    return jnp.sum(w * unit, 0, keepdims=True)
