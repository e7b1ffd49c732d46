"""Kernels of networks: what a gradient step couples, and how that suits targets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = ["empirical_ntk", "kernel_alignment"]


def empirical_ntk(
    apply_fn: Callable[[Any, Any], jax.Array],
    params: Any,
    x: Any,
    other: Any = None,
) -> jax.Array:
    r"""Tangent kernel of a network: inner products of its gradients at two inputs.

    Use it before and after training: features were learned as far as it has changed.

    .. math:: K_{ij} = \sum_c \langle \nabla_\theta f_c(x_i),
        \nabla_\theta f_c(x'_j) \rangle

    Args:
      apply_fn: (parameters, inputs) -> outputs [N] or [N, ...], over whose other axes,
        such as classes, it sums. Each row has to depend on its own input alone.
      params: a tree of floats.
      x: inputs, an array or a tree of them with rows [N, ...].
      other: rows [M, ...]; by default ``x``.

    Returns:
      [N, M], in the dtype of the gradients, at least float32. It holds the gradients of
      one output at N + M inputs at a time.

    Raises:
      ValueError: inputs have no rows, or not one number of them.

    Source: Jacot et al. 2018, arXiv:1806.07572.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import empirical_ntk
    >>> x = jnp.float32([[1, 2], [3, 0]])
    >>> empirical_ntk(lambda w, x: x @ w, jnp.zeros(2), x)  # X X^T for a linear model
    Array([[5., 3.],
           [3., 9.]], dtype=float32)
    """
    inputs = [("x", x)] if other is None else [("x", x), ("other", other)]
    for name, rows in inputs:
        counts = {jnp.shape(a)[:1] for a in jax.tree.leaves(rows)}
        if len(counts) != 1 or () in counts:
            shapes = [jnp.shape(a) for a in jax.tree.leaves(rows)]
            raise ValueError(f"{name} has shapes {shapes}, expected one number of rows")

    def output(params, row):
        one = jax.tree.map(lambda a: jnp.asarray(a)[None], row)
        return numerics.promote_to_float32(apply_fn(params, one), "outputs").ravel()

    def slopes(c, rows):
        """Flat gradients of output c at each row, [N, parameters]."""
        grads = jax.vmap(jax.grad(lambda p, row: output(p, row)[c]), (None, 0))
        flat = [a.reshape(a.shape[0], -1) for a in jax.tree.leaves(grads(params, rows))]
        return jnp.concatenate([numerics.promote_to_float32(a) for a in flat], -1)

    def of_output(c):
        left = slopes(c, x)
        right = left if other is None else slopes(c, other)
        return jnp.matmul(left, right.T, precision="highest")

    first = jax.tree.map(lambda a: jnp.asarray(a)[0], x)
    outputs = jax.eval_shape(output, params, first).size
    return jnp.sum(jax.lax.map(of_output, jnp.arange(outputs)), 0)


def kernel_alignment(
    kernel: ArrayLike,
    targets: ArrayLike,
    *,
    center: bool = False,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Cosine between a kernel and that of the targets: how well it suits the task.

    Use it with ``empirical_ntk``: it rises as a network learns features, and stays as
    it was in lazy training.

    .. math:: \frac{\langle K, Y Y^T \rangle}{\|K\|_F \, \|Y Y^T\|_F}, \quad
        \text{for numbers } \frac{y^T K y}{\|K\|_F \, \|y\|^2}

    Args:
      kernel: symmetric, [N, N].
      targets: numbers [N], or vectors [N, C] such as one-hot labels.
      center: whether kernel and targets are centered first, which leaves out what a
        constant explains.
      mask: bool [N], the examples that take part.

    Returns:
      Between -1 and 1, and at least 0 for a kernel without negative eigenvalues;
      float32 (float64 for a float64 kernel). 0 where kernel or targets are 0.

    Raises:
      TypeError: an array is not floating point or ``mask`` is not bool.
      ValueError: the shapes disagree.

    Numerics: relative error below 1e-5 of 1.

    Source: Cristianini et al. 2001, "On kernel-target alignment"; centered: Cortes et
      al. 2012, arXiv:1203.0550.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import kernel_alignment
    >>> y = jnp.float32([1, -1, 1])
    >>> kernels = jnp.outer(y, y), jnp.eye(3)
    >>> print(*(f"{kernel_alignment(kernel, y):.4f}" for kernel in kernels))
    1.0000 0.5774
    """
    k = numerics.promote_to_float32(kernel, "kernel")
    y = numerics.promote_to_float32(targets, "targets").astype(k.dtype)
    if k.ndim != 2 or k.shape[0] != k.shape[1] or y.shape[:1] != k.shape[:1]:
        raise ValueError(
            f"kernel has shape {k.shape} and targets {y.shape}, expected [N, N] and "
            "[N] or [N, C]"
        )
    if y.ndim > 2:
        raise ValueError(f"targets has shape {y.shape}, expected [N] or [N, C]")
    keep = numerics.check_mask(mask, k.shape[:1])
    pairs = keep[:, None] & keep[None]
    k = _scaled(jnp.where(pairs, k, 0))
    y = _scaled(jnp.where(keep[:, None], y.reshape(len(y), -1), 0))
    if center:
        n = jnp.maximum(jnp.sum(keep), 1).astype(k.dtype)
        k = k - jnp.sum(k, 0, keepdims=True) / n
        k = jnp.where(pairs, k - jnp.sum(k, 1, keepdims=True) / n, 0)
        y = jnp.where(keep[:, None], y - jnp.sum(y, 0, keepdims=True) / n, 0)
    inner = jnp.sum(y * jnp.matmul(k, y, precision="highest"))
    gram = jnp.matmul(y.T, y, precision="highest")  # whose norm is that of Y Y^T
    square = jnp.sum(jnp.square(k)) * jnp.sum(jnp.square(gram))
    some = square > 0
    return jnp.where(some, inner, 0) / jnp.sqrt(jnp.where(some, square, 1))


def _scaled(x):
    """Over its largest magnitude, so that no square overflows."""
    largest = jax.lax.stop_gradient(jnp.max(jnp.abs(x), initial=0))
    return x / jnp.where(largest > 0, largest, 1)
