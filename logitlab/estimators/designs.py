"""Where to measure a function: points for weighted least squares, and the fit.

A space of functions is given by a basis at candidate points. Samplers return places
among these, so that whoever measures evaluates the function there alone.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range, hyper

__all__ = [
    "WeightedFit",
    "gram_deviation",
    "optimal_density",
    "sample_projection_dpp",
    "sample_volume",
    "weighted_least_squares",
]


class WeightedFit(NamedTuple):
    """Coefficients of a weighted least-squares fit.

    Attributes:
      coefficients: of the basis, [M] or [M, K].
      rank: of the weighted basis. Below M, as with repeated points, the coefficients
        are those of least length.
    """

    coefficients: jax.Array
    rank: jax.Array


def optimal_density(phi: ArrayLike) -> jax.Array:
    r"""Density to draw points from for a stable least-squares fit.

    Its inverse is the weight of a point in the fit, for each of the samplers here:
    ``weighted_least_squares(phi, 1 / optimal_density(phi), values)``.

    .. math:: \frac{1}{m} \sum_{j=1}^m \phi_j(x)^2

    Shapes: phi [..., M] -> [...]

    Args:
      phi: the basis at each point, orthonormal in the measure that the density is in.

    Returns:
      float32 (float64 for float64); its mean over that measure is 1.

    Raises:
      TypeError: ``phi`` is not floating point.

    Source: Cohen and Migliorati 2017, arXiv:1608.00512.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import optimal_density
    >>> x = jnp.float32([-1, 0, 1])
    >>> optimal_density(jnp.stack([jnp.ones(3), jnp.sqrt(3.0) * x], -1)).round(4)
    Array([2. , 0.5, 2. ], dtype=float32)
    """
    return jnp.mean(jnp.square(numerics.promote_to_float32(phi, "phi")), -1)


def sample_projection_dpp(
    key: jax.Array, phi: ArrayLike, mu: ArrayLike | None = None
) -> jax.Array:
    r"""As many points as functions, which repel each other: a projection DPP.

    Use it where each measurement is dear: the fit through the points is stable, and
    several independent draws together are more stable than independent points.

    .. math:: P(x_1, \dots, x_m) = \frac{1}{m!} \det(\phi_i(x_j))^2 \prod_j \mu(x_j)

    for an orthonormal basis. One point after the other is drawn, from what the
    functions that vanish at the earlier ones leave of the density.

    Shapes: key [], phi [N, M], mu [N] -> [M]

    Args:
      key: a ``jax.random.key``; ``vmap`` over keys draws several.
      phi: any basis of the space at the N candidate points, of full rank; it is made
        orthonormal here. A coarse grid so gives the DPP of its own points.
      mu: weights of the points, at least 0; all equal by default.

    Returns:
      Places of M different points, ints. A point is among them with a probability of
      its leverage score.

    Raises:
      TypeError: ``phi`` or ``mu`` is not floating point.
      ValueError: the shapes do not fit, there are fewer points than functions, or
        ``mu`` has a negative entry.

    Source: Nouy and Michel 2023, arXiv:2312.14057; the algorithm: Hough et al. 2006,
      "Determinantal processes and independence".

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import sample_projection_dpp
    >>> x = jnp.linspace(-1, 1, 50)
    >>> sample_projection_dpp(jax.random.key(0), jnp.stack([x**0, x, x**2], -1)).shape
    (3,)
    """
    return _dpp(key, _orthonormal(phi, mu))


def sample_volume(
    key: jax.Array, phi: ArrayLike, n: int, mu: ArrayLike | None = None
) -> jax.Array:
    r"""Points drawn by generalized volume sampling: a projection DPP, filled up.

    Use it for more points than functions, and a fit that is unbiased at any number.

    .. math:: P(x_1, \dots, x_n) \propto \det(G) \prod_i \nu(x_i), \quad
        G = \frac1n \sum_i w(x_i)\, \phi(x_i) \phi(x_i)^\top

    with the optimal density ν and its inverse w. It is a projection DPP and n - M
    independent points of density ν, in random order.

    Shapes: key [], phi [N, M], mu [N] -> [n]

    Args:
      key: a ``jax.random.key``.
      phi: any basis of the space at the N candidate points, of full rank.
      n: how many points, at least M, a Python number.
      mu: weights of the points, at least 0; all equal by default.

    Returns:
      Places of the points, ints; one may be drawn more than once.

    Raises:
      TypeError: ``phi`` or ``mu`` is not floating point.
      ValueError: ``n`` is below M, or as for ``sample_projection_dpp``.

    Source: Nouy and Michel 2023, arXiv:2312.14057; Derezinski, Warmuth and Hsu 2022,
      "Unbiased estimators for random design regression".

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import sample_volume
    >>> x = jnp.linspace(-1, 1, 50)
    >>> sample_volume(jax.random.key(0), jnp.stack([x**0, x, x**2], -1), 5).shape
    (5,)
    """
    q = _orthonormal(phi, mu)
    check_range("n", n, lambda v: v >= q.shape[1], f"at least {q.shape[1]} functions")
    first, others, order = jax.random.split(key, 3)
    scores = jnp.log(jnp.sum(jnp.square(q), -1))
    free = jax.random.categorical(others, scores, shape=(n - q.shape[1],))
    return jax.random.permutation(order, jnp.concatenate([_dpp(first, q), free]))


def weighted_least_squares(
    phi: ArrayLike, weights: ArrayLike, values: ArrayLike
) -> WeightedFit:
    r"""Best approximation of a function in a space, from weighted values at points.

    .. math:: \arg\min_c \sum_i w_i (f_i - \phi(x_i)^\top c)^2 =
        (\Phi^\top W \Phi)^+ \Phi^\top W f

    Shapes: phi [N, M], weights [N], values [N] -> [M], []

    Args:
      phi: the basis at each point.
      weights: at least 0, such as ``1 / optimal_density(phi)``. A point of weight 0 is
        left out, whatever its value.
      values: of the function at each point, [N] or [N, K] for several functions.

    Returns:
      A ``WeightedFit``, by the pseudo-inverse where the rank is below M.

    Raises:
      TypeError: an argument is not floating point.
      ValueError: the shapes do not fit, or a weight is negative.

    Source: Cohen and Migliorati 2017, arXiv:1608.00512.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import weighted_least_squares
    >>> x = jnp.float32([0, 1, 2])
    >>> phi = jnp.stack([jnp.ones(3), x], -1)
    >>> weighted_least_squares(phi, jnp.ones(3), 2 * x + 1).coefficients.round(3)
    Array([1., 2.], dtype=float32)
    """
    p, w = _weighted(phi, weights)
    f = numerics.promote_to_float32(values, "values").astype(p.dtype)
    if f.ndim not in (1, 2) or len(f) != len(p):
        raise ValueError(f"values has shape {f.shape}, expected ({len(p)},) or more")
    root = jnp.sqrt(w).reshape(-1, *(1,) * (f.ndim - 1))
    f = jnp.where(root > 0, root * f, 0)
    p = jnp.where(w[:, None] > 0, jnp.sqrt(w)[:, None] * p, 0)
    coefficients, _, rank, _ = jnp.linalg.lstsq(p, f)
    return WeightedFit(coefficients, rank)


def gram_deviation(phi: ArrayLike, weights: ArrayLike) -> jax.Array:
    r"""How far the weighted Gram matrix of points is from the identity.

    Below 1/2 the squared error of the fit is at most a constant times the best: draw
    again until it is.

    .. math:: \lVert G - I \rVert_2, \quad
        G = \frac1n \sum_i w_i\, \phi(x_i) \phi(x_i)^\top

    Shapes: phi [N, M], weights [N] -> []

    Args:
      phi: the basis at each drawn point, orthonormal in the measure.
      weights: of the points, at least 0.

    Returns:
      The largest magnitude of an eigenvalue, float32 (float64 for float64).

    Raises:
      TypeError: an argument is not floating point.
      ValueError: the shapes do not fit, or a weight is negative.

    Source: Cohen and Migliorati 2017, arXiv:1608.00512.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import gram_deviation
    >>> print(gram_deviation(jnp.float32([[1, 1], [1, -1]]), jnp.ones(2)))
    0.0
    """
    p, w = _weighted(phi, weights)
    gram = (p * w[:, None]).T @ p / max(len(p), 1)
    return jnp.max(jnp.abs(jnp.linalg.eigvalsh(gram - jnp.eye(p.shape[1]))))


def _weighted(phi, weights):
    p = _basis(phi)
    w = hyper("weights", weights, p.dtype, lambda v: v >= 0, "at least 0")
    if w.shape != p.shape[:1]:
        raise ValueError(f"weights has shape {w.shape}, expected {p.shape[:1]}")
    return p, w


def _basis(phi):
    p = numerics.promote_to_float32(phi, "phi")
    if p.ndim != 2 or 0 in p.shape:
        raise ValueError(f"phi has shape {p.shape}, expected points and functions")
    return p


def _orthonormal(phi, mu):
    """Orthonormal columns [N, M] that span the weighted basis."""
    p = _basis(phi)
    if p.shape[0] < p.shape[1]:
        raise ValueError(
            f"phi has shape {p.shape}, expected at least as many points as functions"
        )
    if mu is not None:
        p = (
            jnp.sqrt(_weighted(p, numerics.promote_to_float32(mu, "mu"))[1])[:, None]
            * p
        )
    return jnp.linalg.qr(p)[0]


def _dpp(key, q):
    """One point after the other, each from what the earlier ones leave."""

    def draw(carry, key):
        left, free = carry
        mass = jnp.sum(jnp.square(left), -1)
        # Rounding leaves no point that was drawn, nor a twin of it, with a chance.
        some = free & (mass > jnp.finfo(q.dtype).eps * q.shape[1] * jnp.max(mass))
        at = jax.random.categorical(key, jnp.where(some, jnp.log(mass), -jnp.inf))
        unit = left[at] / jnp.linalg.norm(left[at])
        left = left - (left @ unit)[:, None] * unit[None]
        return (left, free & (jnp.arange(len(q)) != at)), at

    keys = jax.random.split(key, q.shape[1])
    return jax.lax.scan(draw, (q, jnp.ones(len(q), bool)), keys)[1]
