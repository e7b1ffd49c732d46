"""Linear smoothers and their effective number of parameters."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range

__all__ = ["effective_parameters", "leaf_smoother", "ridge_smoother"]


def effective_parameters(weights: ArrayLike) -> jax.Array:
    r"""Generalized effective number of parameters of a linear smoother.

    Use it to compare smoothers by complexity, on training or on other points.

    .. math:: p = \frac{n}{|I|} \sum_{j \in I} \|s(x_j)\|^2

    1 for the mean of all labels, n for an interpolation, n / k for k neighbours; on
    training points to be compared with the trace of S, on others it is defined too.

    Shapes: weights [..., M, N] -> [...]

    Args:
      weights: s of M points over N training labels. They need not be positive.

    Returns:
      p, float32 (float64 for float64).

    Raises:
      TypeError: ``weights`` is not floating point.
      ValueError: ``weights`` has not two axes, or no points.

    Source: Curth, Jeffares and van der Schaar 2024, arXiv:2402.01502.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import effective_parameters
    >>> effective_parameters(jnp.full((3, 4), 0.25))
    Array(1., dtype=float32)
    """
    s = numerics.promote_to_float32(weights, "weights")
    if s.ndim < 2 or not s.shape[-2]:
        raise ValueError(
            f"weights has shape {s.shape}, expected [..., M, N], M above 0"
        )
    return s.shape[-1] / s.shape[-2] * jnp.sum(s * s, (-2, -1))


def ridge_smoother(features: ArrayLike, query: ArrayLike, l2: ArrayLike) -> jax.Array:
    r"""Weights of ridge regression on features.

    .. math:: s(x) = \phi(x)^\top (\Phi^\top \Phi + \lambda I)^{-1} \Phi^\top

    Shapes: features [N, D], query [M, D], l2 [] -> [M, N]

    Args:
      features: of the training points; for a kernel head, those of the kernel.
      query: of the points to predict.
      l2: lambda, positive; with 0 the features need full column rank.

    Returns:
      A weight per training label.

    Raises:
      TypeError: an array is not floating point.
      ValueError: wrong shapes, or ``l2`` negative.

    Source: Curth, Jeffares and van der Schaar 2024, arXiv:2402.01502.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import ridge_smoother
    >>> ridge_smoother(jnp.ones((4, 1)), jnp.ones((1, 1)), 0.0)
    Array([[0.25, 0.25, 0.25, 0.25]], dtype=float32)
    """
    f, q = (
        numerics.promote_to_float32(features, "features"),
        numerics.promote_to_float32(query, "query"),
    )
    if f.ndim != 2:
        raise ValueError(f"features has shape {f.shape}, expected [N, D]")
    if q.ndim != 2 or q.shape[1] != f.shape[1]:
        raise ValueError(f"query has shape {q.shape}, expected [M, {f.shape[1]}]")
    check_range("l2", l2, lambda v: v >= 0, "a number from 0 on")
    gram = f.T @ f + jnp.asarray(l2, f.dtype) * jnp.eye(f.shape[1], dtype=f.dtype)
    return q @ jnp.linalg.solve(gram, f.T)


def leaf_smoother(leaf_train: ArrayLike, leaf_query: ArrayLike) -> jax.Array:
    r"""Smoother weights of a forest: uniform over each tree's leaf of the point.

    .. math:: s_i(x) = \frac{1}{T} \sum_t
        \frac{[\ell_t(x) = \ell_t(x_i)]}{|\{j : \ell_t(x_j) = \ell_t(x)\}|}

    Shapes: leaf_train [N, T], leaf_query [M, T] -> [M, N]

    Args:
      leaf_train: int ids of the training points' leaves in T trees, as
        scikit-learn's ``apply`` gives them. Trees grown on all of the points; with
        bootstrap samples these are the weights of the leaves, not of the samples.
      leaf_query: the same of the points to predict.

    Returns:
      A weight per training label, float32 (JAX's default float). A leaf without
      training points has none.

    Raises:
      TypeError: an array is not integer.
      ValueError: the shapes do not fit.

    Source: Curth, Jeffares and van der Schaar 2024, arXiv:2402.01502.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import leaf_smoother
    >>> leaf_smoother(jnp.array([[0], [0], [1]]), jnp.array([[0], [1]]))
    Array([[0.5, 0.5, 0. ],
           [0. , 0. , 1. ]], dtype=float32)
    """
    train, query = jnp.asarray(leaf_train), jnp.asarray(leaf_query)
    for name, leaves in (("leaf_train", train), ("leaf_query", query)):
        if not jnp.issubdtype(leaves.dtype, jnp.integer):
            raise TypeError(f"{name} has dtype {leaves.dtype}, expected integers")
        if leaves.ndim != 2 or leaves.shape[1] != train.shape[-1]:
            raise ValueError(
                f"{name} has shape {leaves.shape}, expected two axes, the trees last"
            )

    def tree(total, leaves):
        own, asked = leaves
        same = (asked[:, None] == own[None]).astype(float)
        size = jnp.maximum(same.sum(1, keepdims=True), 1)
        return total + same / size, None

    start = jnp.zeros((query.shape[0], train.shape[0]), float)
    total, _ = jax.lax.scan(tree, start, (train.T, query.T))
    return total / max(train.shape[1], 1)
