"""Self-distillation of kernel ridge regression."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = [
    "krr_limit",
    "krr_predict",
    "krr_self_distill",
    "optimal_alpha",
    "shrinkage_factors",
]


def krr_self_distill(
    kernel: ArrayLike, y: ArrayLike, *, ridge: ArrayLike, alphas: ArrayLike
) -> jax.Array:
    r"""Fitted values at every step of self-distilled kernel ridge regression.

    .. math:: \hat y^\tau = K (K + \lambda I)^{-1}
        (\alpha_\tau y + (1 - \alpha_\tau) \hat y^{\tau - 1}), \quad \hat y^0 = y

    Each step minimises :math:`\frac\alpha2 \|f - y\|^2 + \frac{1 - \alpha}2
    \|f - \hat y^{\tau-1}\|^2 + \frac\lambda2 \|f\|_H^2`.

    Shapes: kernel [N, N], y [N], alphas [S] -> [S, N]

    Args:
      kernel: K, of the training points, positive semi-definite.
      y: targets.
      ridge: lambda, without a factor N; 0 only where K is not singular.
      alphas: the share of the true targets, step by step; that of the first step does
        not matter.

    Returns:
      float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point.
      ValueError: wrong shapes, ``ridge`` negative or ``alphas`` outside [0, 1].

    Source: Even your Teacher Needs Guidance, Borup and Andersen 2021, arXiv:2102.13088.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import krr_self_distill
    >>> steps = krr_self_distill(
    ...     jnp.eye(2), jnp.ones(2), ridge=1.0, alphas=jnp.zeros(2)
    ... )
    >>> print(steps.round(3))
    [[0.5  0.5 ]
     [0.25 0.25]]
    """
    return krr_predict(kernel, kernel, y, ridge=ridge, alphas=alphas)


def krr_predict(
    query: ArrayLike,
    kernel: ArrayLike,
    y: ArrayLike,
    *,
    ridge: ArrayLike,
    alphas: ArrayLike,
) -> jax.Array:
    r"""Predictions at new points for every step of self-distillation.

    .. math:: f_\tau(x) = k(x, X) (K + \lambda I)^{-1}
        (\alpha_\tau y + (1 - \alpha_\tau) \hat y^{\tau - 1})

    Shapes: query [M, N], kernel [N, N], y [N], alphas [S] -> [S, M]

    Args:
      query: kernel of the points to predict and the training points.
      kernel: as in ``krr_self_distill``, as the others.
      y: targets.
      ridge: lambda.
      alphas: the share of the true targets, step by step.

    Returns:
      float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point.
      ValueError: wrong shapes, ``ridge`` negative or ``alphas`` outside [0, 1].

    Source: Borup and Andersen 2021, arXiv:2102.13088.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import krr_predict
    >>> steps = krr_predict(
    ...     jnp.ones((1, 2)), jnp.eye(2), jnp.ones(2), ridge=1.0, alphas=jnp.ones(2)
    ... )
    >>> print(steps.round(3))
    [[1.]
     [1.]]
    """
    k, y = _problem(kernel, y)
    query = _query(query, k)
    alphas = numerics.promote_to_float32(alphas, "alphas").astype(k.dtype)
    if alphas.ndim != 1:
        raise ValueError(f"alphas has shape {alphas.shape}, expected one axis")
    _check("alphas", alphas, lambda a: (a >= 0) & (a <= 1), "numbers in [0, 1]")
    solve = _solver(k, ridge)

    def step(fitted, alpha):
        weights = solve(alpha * y + (1 - alpha) * fitted)
        return k @ weights, query @ weights

    return jax.lax.scan(step, y, alphas)[1]


def krr_limit(
    kernel: ArrayLike,
    y: ArrayLike,
    *,
    ridge: ArrayLike,
    alpha: ArrayLike,
    query: ArrayLike | None = None,
) -> jax.Array:
    r"""Limit of self-distillation with a constant ``alpha``.

    .. math:: f_\infty(x) = k(x, X) \Bigl(K + \frac\lambda\alpha I\Bigr)^{-1} y

    the same regression with a larger ridge; 0 for :math:`\alpha = 0`.

    Shapes: kernel [N, N], y [N] -> [N]

    Args:
      kernel: of the training points.
      y: targets.
      ridge: lambda.
      alpha: the share of the true targets, in [0, 1].
      query: [M, N], kernel of other points and the training points, to predict there.

    Returns:
      Fitted values, or predictions [M], float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point.
      ValueError: wrong shapes, ``ridge`` negative or ``alpha`` outside [0, 1].

    Source: Borup and Andersen 2021, arXiv:2102.13088.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import krr_limit
    >>> krr_limit(jnp.eye(2), jnp.ones(2), ridge=1.0, alpha=0.5).round(3)
    Array([0.333, 0.333], dtype=float32)
    """
    k, y = _problem(kernel, y)
    alpha = jnp.asarray(alpha, k.dtype)
    _check("alpha", alpha, lambda a: (a >= 0) & (a <= 1), "a number in [0, 1]")
    ridge, some = jnp.asarray(ridge, k.dtype), alpha > 0
    _check("ridge", ridge, lambda r: r >= 0, "a number from 0 on")
    solve = _solver(k, ridge / jnp.where(some, alpha, 1))
    query = k if query is None else _query(query, k)
    return jnp.where(some, query @ solve(y), 0)


def shrinkage_factors(
    eigvals: ArrayLike, *, ridge: ArrayLike, alpha: ArrayLike, steps: int
) -> jax.Array:
    r"""Shrinkage of each step along the kernel's eigenvectors.

    .. math:: b^\tau = c + (1 - c) ((1 - \alpha) a)^\tau, \quad
        a = \frac{d}{d + \lambda}, \quad c = \frac{\alpha d}{\alpha d + \lambda}

    Shapes: eigvals [N] -> [steps, N]

    Args:
      eigvals: d, at least 0.
      ridge: lambda, at least 0.
      alpha: the share of the true targets, in [0, 1].
      steps: how many; not traced, as it is a shape.

    Returns:
      In [0, 1], float32 (float64 for float64).

    Raises:
      TypeError: ``eigvals`` is not floating point.
      ValueError: ``ridge`` negative, ``alpha`` outside [0, 1] or ``steps`` below 1.

    Source: Borup and Andersen 2021, arXiv:2102.13088.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import shrinkage_factors
    >>> print(shrinkage_factors(jnp.ones(1), ridge=1.0, alpha=0.0, steps=2))
    [[0.5 ]
     [0.25]]
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected at least 1")
    d = numerics.promote_to_float32(eigvals, "eigvals")
    ridge, alpha = jnp.asarray(ridge, d.dtype), jnp.asarray(alpha, d.dtype)
    _check("ridge", ridge, lambda r: r >= 0, "a number from 0 on")
    _check("alpha", alpha, lambda a: (a >= 0) & (a <= 1), "a number in [0, 1]")

    def share(part):
        total = part + ridge
        return jnp.where(total > 0, part / jnp.where(total > 0, total, 1), 0)

    a, c = share(d)[None], share(alpha * d)[None]
    power = jnp.arange(1, steps + 1).reshape(-1, *(1,) * d.ndim)
    return c + (1 - c) * ((1 - alpha) * a) ** power


def optimal_alpha(
    pred_gt: ArrayLike,
    pred_distill: ArrayLike,
    targets: ArrayLike,
    *,
    clip: bool = True,
) -> jax.Array:
    r"""Weight of the true targets with the least squared held-out error.

    Use it in place of a grid over ``alpha`` of self-distillation.

    .. math:: \alpha^* = \frac{\langle y - g, f - g \rangle}{\|f - g\|^2}

    Predictions are affine in the share, so two fits are enough: no grid.

    Shapes: pred_gt [N], pred_distill [N], targets [N] -> []

    Args:
      pred_gt: f, predictions of the fit to the true targets, on validation points.
      pred_distill: g, those of the fit to the step before alone.
      targets: of the validation points.
      clip: to [0, 1].

    Returns:
      One number, 1 where the two fits agree.

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ.

    Source: Borup and Andersen 2021, arXiv:2102.13088.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import optimal_alpha
    >>> optimal_alpha(jnp.float32([1]), jnp.float32([0]), jnp.float32([0.25]))
    Array(0.25, dtype=float32)
    """
    f, g = (
        numerics.promote_to_float32(pred_gt, "pred_gt"),
        numerics.promote_to_float32(pred_distill, "pred_distill"),
    )
    y = numerics.promote_to_float32(targets, "targets")
    for name, other in (("pred_distill", g), ("targets", y)):
        if other.shape != f.shape:
            raise ValueError(f"{name} has shape {other.shape}, expected {f.shape}")
    gap = f - g
    square = jnp.sum(gap * gap)
    alpha = jnp.sum((y - g) * gap) / jnp.where(square > 0, square, 1)
    alpha = jnp.where(square > 0, alpha, 1)
    return jnp.clip(alpha, 0, 1) if clip else alpha


def _problem(kernel, y):
    k, y = (
        numerics.promote_to_float32(kernel, "kernel"),
        numerics.promote_to_float32(y, "y"),
    )
    if k.ndim != 2 or k.shape[0] != k.shape[1]:
        raise ValueError(f"kernel has shape {k.shape}, expected [N, N]")
    if y.shape != k.shape[:1]:
        raise ValueError(f"y has shape {y.shape}, expected {k.shape[:1]}")
    return k, y.astype(k.dtype)


def _query(query, k):
    query = numerics.promote_to_float32(query, "query")
    if query.ndim != 2 or query.shape[1] != len(k):
        raise ValueError(f"query has shape {query.shape}, expected [M, {len(k)}]")
    return query.astype(k.dtype)


def _solver(k, ridge):
    ridge = jnp.asarray(ridge, k.dtype)
    _check("ridge", ridge, lambda r: r >= 0, "a number from 0 on")
    factor = jax.scipy.linalg.cho_factor(k + ridge * jnp.eye(len(k), dtype=k.dtype))
    return lambda targets: jax.scipy.linalg.cho_solve(factor, targets)


def _check(name, value, valid, expected):
    if numerics.is_concrete(value) and not valid(value).all():
        raise ValueError(f"{name} is {value}, expected {expected}")
