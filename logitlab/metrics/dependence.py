"""How much two samples depend on each other, linearly or not: distance covariance.

All pairs of examples are compared: memory grows with the square of their number.
"""

from __future__ import annotations

from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count

__all__ = [
    "distance_correlation",
    "distance_covariance",
    "rff_cross_covariance",
    "u_center",
]


def u_center(x: ArrayLike, *, mask: ArrayLike | None = None) -> jax.Array:
    r"""Distances between examples, centered so that products of two are unbiased.

    What distance covariances are made of; rows, columns and the diagonal sum to 0.

    .. math:: \tilde U_{ij} = \frac{\sum_l a_{il} + \sum_k a_{kj}}{n - 2} - a_{ij} -
        \frac{\sum_{kl} a_{kl}}{(n - 1)(n - 2)}, \quad \tilde U_{ii} = 0

    with :math:`a_{ij} = \lVert x_i - x_j \rVert`. The usual U-centering has the other
    sign, which products of an even number do not see.

    Shapes: x [N, D], mask [N] -> [N, N]

    Args:
      x: the examples, in any unit; numbers [N], or vectors such as one-hot categories.
      mask: bool, the examples that count; the pairs of others are 0.

    Returns:
      In the unit of ``x``, float32 (float64 for float64); 0 below three examples. The
      slope of the distance between equal examples is 0.

    Raises:
      TypeError: ``x`` is not floating point or ``mask`` is not bool.
      ValueError: the shapes do not fit.

    Source: Szekely and Rizzo 2014, arXiv:1310.2926; the sign is that of Chakraborty and
      Zhang 2019, arXiv:1711.09179.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import u_center
    >>> print(u_center(jnp.float32([0, 0, 3, 6])))
    [[ 0.  2. -1. -1.]
     [ 2.  0. -1. -1.]
     [-1. -1.  0.  2.]
     [-1. -1.  2.  0.]]
    """
    (a,), keep = pair_distances({"x": x}, mask)
    return u_centered(a, keep)


def distance_covariance(
    x: ArrayLike,
    y: ArrayLike,
    *,
    unbiased: bool = True,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Squared distance covariance: 0 for independent samples, whatever their relation.

    Use it to see, or to penalize, a dependence that correlation misses: of predictions
    on a protected attribute, for instance.

    .. math:: \frac{1}{n (n - 3)} \sum_{ij} \tilde U^x_{ij} \tilde U^y_{ij}

    Without ``unbiased`` the mean over all pairs of the doubly centered distances, which
    is never negative, and not 0 on average for independent samples.

    Shapes: x [N, D], y [N, E], mask [N] -> []

    Args:
      x: the examples, in any unit; numbers [N] or vectors.
      y: the same examples, in any other unit; numbers [N] or vectors.
      unbiased: whether the mean over samples is the value of their source.
      mask: bool, the examples that count.

    Returns:
      In the product of the units, float32 (float64 for float64). The unbiased one may
      be negative and is 0 below four examples.

    Raises:
      TypeError: a sample is not floating point or ``mask`` is not bool.
      ValueError: the shapes do not fit.

    Numerics: relative error below 1e-5 of the product of the standard distance
      variances, value and gradient, as distances are centered before they are summed.

    Source: Szekely, Rizzo and Bakirov 2007, arXiv:0803.4101; unbiased: Szekely and
      Rizzo 2014, arXiv:1310.2926.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import distance_covariance
    >>> x = jnp.linspace(-1, 1, 20)  # and its square do not correlate
    >>> print(f"{distance_covariance(x, x**2):.4f}")
    0.0122
    """
    (a, b), keep = pair_distances({"x": x, "y": y}, mask)
    if unbiased:
        return pair_mean(u_centered(a, keep) * u_centered(b, keep), keep)
    n = jnp.sum(keep, dtype=a.dtype)
    pairs = keep[:, None] & keep[None]
    product = _doubly_centered(a, pairs, n) * _doubly_centered(b, pairs, n)
    return jnp.sum(product / jnp.maximum(n * n, 1))


def distance_correlation(
    x: ArrayLike, y: ArrayLike, *, mask: ArrayLike | None = None
) -> jax.Array:
    r"""Squared distance covariance of two samples, divided by their variances.

    It has no unit: a dependence to compare between attributes, or to test. For
    independent samples n times it, plus 1, is about chi-squared with one degree.

    .. math:: \frac{\mathrm{dCov}^2(x, y)}{\sqrt{\mathrm{dCov}^2(x, x)\,
        \mathrm{dCov}^2(y, y)}}

    Shapes: x [N, D], y [N, E], mask [N] -> []

    Args and errors are those of ``distance_covariance``.

    Returns:
      At most 1, float32 (float64 for float64); 0 where a variance is 0 up to rounding,
      as it is below four examples and for an attribute that a single example has.

    Source: Szekely and Rizzo 2014, arXiv:1310.2926; the test: Shen et al. 2022,
      arXiv:1912.12150.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import distance_correlation
    >>> x = jnp.float32([0, 1, 2, 3, 5])
    >>> distance_correlation(x, 1 - 2 * x).round(4)
    Array(1., dtype=float32)
    """
    distances, keep = pair_distances({"x": x, "y": y}, mask)
    (u, known), (v, other) = (_standardized(d, keep) for d in distances)
    return jnp.where(known & other, pair_mean(u * v, keep), 0)


def rff_cross_covariance(
    z: ArrayLike,
    weights: ArrayLike,
    key: jax.Array,
    *,
    num_features: int = 5,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Covariances of random features of each two variables, of weighted examples.

    Use it to see, or to penalize by ``losses.decorrelation_loss``, dependence of
    variables on each other that need not be linear, at a cost linear in the examples.

    .. math:: \Sigma_{ij} = \frac{1}{n - 1} \sum_s (w_s u_i(z_{si}) - m_i)
        (w_s u_j(z_{sj}) - m_j)^\top, \quad u_{iq}(z) = \sqrt 2 \cos(\omega_{iq} z +
        \phi_{iq})

    with the means m of the weighted features, normal :math:`\omega` and uniform
    :math:`\phi`, of variables that are standardized first (without weights). The form
    is inferred from the abstract and from StableNet's, which it builds on.

    Shapes: z [N, P], weights [N], mask [N] -> [P, P, Q, Q]

    Args:
      z: representations, a column for each variable, in any unit.
      weights: of the examples, at least 0 with mean 1.
      key: a ``jax.random.key``, which draws the features.
      num_features: Q, for each variable.
      mask: bool, the examples that count.

    Returns:
      float32 (float64 for float64), 0 below two examples.

    Raises:
      TypeError: ``z`` or ``weights`` is not floating point or ``mask`` is not bool.
      ValueError: the shapes do not fit, or there is no feature.

    Source: L2R-GNN, 2024, arXiv:2312.12475; StableNet, Zhang et al. 2021,
      arXiv:2104.07876.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import rff_cross_covariance
    >>> z = jax.random.normal(jax.random.key(0), (500, 2))
    >>> z = jnp.concatenate([z, z[:, :1] ** 2], 1)  # the third depends on the first
    >>> found = rff_cross_covariance(z, jnp.ones(500), jax.random.key(1))
    >>> _, second, third = jnp.square(found[0]).sum((1, 2))
    >>> print(third > 10 * second)
    True
    """
    check_count("num_features", num_features)
    x = numerics.promote_to_float32(z, "z")
    if x.ndim != 2:
        raise ValueError(f"z has shape {x.shape}, expected [N, P]")
    w = numerics.promote_to_float32(weights, "weights").astype(x.dtype)
    if w.shape != x.shape[:1]:
        raise ValueError(f"weights has shape {w.shape}, expected {x.shape[:1]}")
    keep = numerics.check_mask(mask, x.shape[:1])
    n = jnp.sum(keep, dtype=x.dtype)
    x, w = _standard_columns(x, keep, n), jnp.where(keep, w, 0)
    scale_key, phase_key = jax.random.split(key)
    shape = 1, x.shape[1], num_features
    omega = jax.random.normal(scale_key, shape, jnp.float32).astype(x.dtype)
    phase = jax.random.uniform(phase_key, shape, jnp.float32).astype(x.dtype)
    u = jnp.sqrt(2.0).astype(x.dtype) * jnp.cos(
        x[..., None] * omega + 2 * jnp.pi * phase
    )
    u = u.reshape(len(x), x.shape[1] * num_features) * w[:, None]
    u = u - jnp.sum(u, 0, keepdims=True) / jnp.maximum(n, 1)
    u = jnp.where(keep[:, None], u, 0)
    found = jnp.matmul(u.T, u, precision="highest") / jnp.maximum(n - 1, 1)
    found = found.reshape(*shape[1:], *shape[1:])
    return jnp.where(n > 1, jnp.swapaxes(found, 1, 2), 0)


def _standard_columns(x, keep, n):
    """Columns of mean 0 and deviation 1, of 0 where they are constant."""
    x = jnp.where(keep[:, None], x, 0)
    n = jnp.maximum(n, 1)

    def center(x):
        return jnp.where(keep[:, None], x - jnp.sum(x / n, 0, keepdims=True), 0)

    along, rows = dict(axis=0, keepdims=True), keep[:, None]
    high = jnp.max(x, initial=-jnp.inf, where=rows, **along)
    low = jnp.min(x, initial=jnp.inf, where=rows, **along)
    x = center(x)
    size = jnp.max(jnp.abs(x), 0, keepdims=True, initial=0)
    x = center(x / jax.lax.stop_gradient(jnp.where(size > 0, size, 1)))
    x = jnp.where(high > low, x, 0)  # what rounding leaves of a constant
    square = jnp.sum(jnp.square(x), 0, keepdims=True) / n
    return jnp.where(square > 0, x * jax.lax.rsqrt(jnp.where(square > 0, square, 1)), 0)


def pair_distances(
    columns: Mapping[str, ArrayLike], mask: ArrayLike | None
) -> tuple[list[jax.Array], jax.Array]:
    """Distances between examples in each of some columns, by name, and which count."""
    x, *others = check_columns(columns)
    keep = numerics.check_mask(mask, x.shape[:1])
    return [_distances(y.astype(x.dtype), keep) for y in (x, *others)], keep


def check_columns(columns: Mapping[str, ArrayLike]) -> list[jax.Array]:
    """Promoted samples of the same examples, each [N] or [N, D].

    Raises:
      TypeError: a sample is not floating point.
      ValueError: its shape does not fit; the message has its name.
    """
    arrays = {n: numerics.promote_to_float32(x, n) for n, x in columns.items()}
    (first, x), *_ = arrays.items()
    for name, y in arrays.items():
        if y.ndim not in (1, 2):
            raise ValueError(f"{name} has shape {y.shape}, expected [N] or [N, D]")
        if len(y) != len(x):
            raise ValueError(
                f"{name} has {len(y)} examples, expected those of {first}, {len(x)}"
            )
    return [*arrays.values()]


def pair_mean(products: jax.Array, keep: jax.Array) -> jax.Array:
    """Sum over pairs, divided by n (n - 3); 0 below four examples."""
    n = jnp.sum(keep, dtype=products.dtype)
    total = jnp.sum(products / jnp.maximum(n * (n - 3), 1))
    return jnp.where(n > 3, total, 0)


def _distances(x, keep):
    """Between all pairs of examples, 0 for those that are left out."""
    x = jnp.where(keep.reshape(-1, *(1,) * (x.ndim - 1)), x, 0)
    pairs = keep[:, None] & keep[None]
    if x.ndim == 1:
        gap = x[:, None] - x[None]
        return jnp.where(pairs & (gap != 0), jnp.abs(gap), 0)  # no slope at 0
    # In units of a power of two, in which squares neither overflow nor vanish.
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(x), initial=0))
    _, exponent = jnp.frexp(size)
    x = jnp.ldexp(x, -exponent)
    square = jnp.sum(jnp.square(x[:, None] - x[None]), -1)
    some = pairs & (square > 0)
    distance = jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0)
    return jnp.ldexp(distance, exponent)


def u_centered(a: jax.Array, keep: jax.Array) -> jax.Array:
    """What ``u_center`` makes of distances between the examples that count."""
    n = jnp.sum(keep, dtype=a.dtype)
    pairs = keep[:, None] & keep[None] & ~jnp.eye(len(a), dtype=bool)
    # A constant has no part in the result; without the mean less is left to cancel.
    count = jnp.maximum(n * (n - 1), 1)
    a = jnp.where(pairs, a - jax.lax.stop_gradient(jnp.sum(a / count)), 0)
    rows = jnp.sum(a, 1) / jnp.maximum(n - 2, 1)
    total = jnp.sum(rows) / jnp.maximum(n - 1, 1)
    return jnp.where(pairs & (n > 2), rows[:, None] + rows[None] - a - total, 0)


def _doubly_centered(a, pairs, n):
    rows = jnp.sum(a, 1) / jnp.maximum(n, 1)
    total = jnp.sum(rows) / jnp.maximum(n, 1)
    return jnp.where(pairs, a - rows[:, None] - rows[None] + total, 0)


def _standardized(a, keep):
    """U-centered distances of variance 1, and whether it was above rounding."""
    top = jax.lax.stop_gradient(jnp.max(a, initial=0))
    a = a / jnp.where(top > 0, top, 1)
    u = u_centered(a, keep)
    variance, spread = pair_mean(u * u, keep), pair_mean(a * a, keep)
    some = variance > (100 * jnp.finfo(a.dtype).eps) ** 2 * spread
    return u / jnp.sqrt(jnp.where(some, variance, 1)), some
