"""NNGP and NTK kernels of infinitely wide networks, and their infinite-depth limits.

With the depth they turn into one of three: the nearest neighbour, the majority, or the
vote of all points by a singular kernel, which is the optimal one.
"""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range

__all__ = [
    "deep_nngp",
    "deep_ntk",
    "dual_activation",
    "hilbert_estimate",
    "kernel_classify",
    "singularity_exponent",
]

# phi(r) = r * g(r): the coefficients of g, the highest power first.
_POLYNOMIALS = {
    "2d_opt": (0.5, 0, 0, 0, 0, 0, 0.5),
    "3d_opt": (0.5, 0, 0.5),
    "5d_opt": (1 / 4, 1 / 2, 1 / 4),
    "9d_opt": (1 / 16, 7 / 8, 1 / 16),
}


def dual_activation(name: str, r: ArrayLike) -> tuple[jax.Array, jax.Array]:
    r"""Correlation of two inputs after one wide layer, and its derivative.

    .. math:: \frac{\arcsin(2r/3)}{\arcsin(2/3)}, \quad \frac{\sinh(ar)}{\sinh(a)},
        \quad \frac{r (\pi - \arccos r) + \sqrt{1 - r^2}}{\pi}, \quad r^k

    are ``erf``, ``sine_a`` (``sine_2.676``), ``relu`` and ``hermite_k``; the optimal
    ones for inputs of 2, 3, 5 and 9 dimensions are the polynomials ``2d_opt``:
    :math:`(r^7 + r)/2`, ``3d_opt``: :math:`(r^3 + r)/2`, ``5d_opt``:
    :math:`r^3/4 + r^2/2 + r/4` and ``9d_opt``: :math:`r^3/16 + 7r^2/8 + r/16`.

    Args:
      name: one of those.
      r: correlations, clipped to [-1, 1].

    Returns:
      :math:`\phi(r)`, 1 at 1, and :math:`\phi'(r)`.

    Raises:
      TypeError: ``r`` is not floating point.
      ValueError: an unknown name.

    Source: Radhakrishnan, Belkin and Uhler 2023, arXiv:2204.14126.

    >>> from logitlab.estimators import dual_activation
    >>> dual_activation("3d_opt", 1.0)
    (Array(1., dtype=float32), Array(2., dtype=float32))
    """
    r = jnp.clip(numerics.promote_to_float32(r, "r"), -1, 1)
    kind, number = _parsed(name)
    if kind == "relu":
        turn = math.pi - jnp.arccos(r)
        return (r * turn + jnp.sqrt((1 - r) * (1 + r))) / math.pi, turn / math.pi
    if kind == "erf":
        slope = 1 / jnp.sqrt(9 / 4 - r * r)
        return jnp.arcsin(2 * r / 3) / math.asin(2 / 3), slope / math.asin(2 / 3)
    if kind == "sine":
        top = math.sinh(number)
        return jnp.sinh(number * r) / top, number * jnp.cosh(number * r) / top
    if kind == "hermite":
        return r**number, number * r ** (number - 1)
    phi = (*_POLYNOMIALS[name], 0)
    slope = np.polyder(phi)
    return jnp.polyval(np.array(phi, r.dtype), r), jnp.polyval(
        np.array(slope, r.dtype), r
    )


def deep_nngp(
    x1: ArrayLike,
    x2: ArrayLike | None = None,
    *,
    activation: str,
    depth: int,
    scale_rows: bool = False,
) -> jax.Array:
    r"""Kernel of an infinitely wide network of which only the last layer is trained.

    .. math:: K = \phi(\phi(\dots \phi(x_1 \cdot x_2)))

    Shapes: x1 [N, D], x2 [M, D] -> [N, M]

    Args:
      x1: points of length 1.
      x2: others; without it, those of ``x1``, and the diagonal is exactly 1.
      activation: a name of ``dual_activation``.
      depth: how often it is applied, at least 0; may be thousands. Not traced, as it
        is checked.
      scale_rows: divides each row by its largest magnitude, before it can underflow:
        powers have no entry left above 1e-308 at depth 24. A row of ``k_cross`` so
        scaled keeps the sign of its score.

    Returns:
      The kernel, float32 (float64 for float64 ``x1``); deep kernels need float64.

    Raises:
      TypeError: an array is not floating point.
      ValueError: wrong shapes, an unknown activation, or a negative depth.

    Numerics: logarithms are carried along, so that no entry underflows on the way.

    Source: Radhakrishnan, Belkin and Uhler 2023, arXiv:2204.14126.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import deep_nngp
    >>> x = jnp.float32([[1, 0], [0.6, 0.8]])
    >>> (100 * deep_nngp(x, activation="hermite_2", depth=1)).round()
    Array([[100.,  36.],
           [ 36., 100.]], dtype=float32)
    """
    r = _correlations(x1, x2, depth)
    kind, number = _parsed(activation)
    sign, log = jnp.sign(r), jnp.log(jnp.abs(r))

    def layer(_, carry):
        sign, log = carry
        r = sign * jnp.exp(log)
        if kind == "hermite":
            return sign if number % 2 else jnp.abs(sign), number * log
        factor = _ratio(activation, kind, number, r)
        if kind == "relu":  # not through 0: the value itself
            return jnp.sign(factor), jnp.log(jnp.abs(factor))
        return sign * jnp.sign(factor), log + jnp.log(jnp.abs(factor))

    sign, log = jax.lax.fori_loop(0, depth, layer, (sign, log))
    if scale_rows:
        top = jnp.max(log, 1, keepdims=True)
        log = log - jnp.where(top > -jnp.inf, top, 0)
    return sign * jnp.exp(log)


def deep_ntk(
    x1: ArrayLike, x2: ArrayLike | None = None, *, activation: str, depth: int
) -> jax.Array:
    r"""Neural tangent kernel of an infinitely wide network.

    .. math:: K \leftarrow \phi(r) + K \phi'(r), \quad r \leftarrow \phi(r), \quad
        K = r = x_1 \cdot x_2 \text{ to begin with}

    Shapes: x1 [N, D], x2 [M, D] -> [N, M]

    Args:
      x1: points of length 1.
      x2: others; without it, those of ``x1``, whose correlations with themselves are
        exactly 1.
      activation: a name of ``dual_activation``.
      depth: how often it is applied, at least 0; not traced. The kernel grows like
        :math:`\phi'(1)` to that power.

    Returns:
      The kernel, float32 (float64 for float64 ``x1``); deep kernels need float64.

    Raises:
      TypeError: an array is not floating point.
      ValueError: wrong shapes, an unknown activation, or a negative depth.

    Source: Radhakrishnan, Belkin and Uhler 2023, arXiv:2204.14126.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import deep_ntk
    >>> x = jnp.float32([[1, 0], [0.6, 0.8]])
    >>> (100 * deep_ntk(x, activation="hermite_2", depth=1)).round()
    Array([[300., 108.],
           [108., 300.]], dtype=float32)
    """
    r = _correlations(x1, x2, depth)
    _parsed(activation)

    def layer(_, carry):
        r, k = carry
        phi, slope = dual_activation(activation, r)
        return phi, phi + k * slope

    return jax.lax.fori_loop(0, depth, layer, (r, r))[1]


def kernel_classify(k_train: ArrayLike, y: ArrayLike, k_cross: ArrayLike) -> jax.Array:
    r"""Scores of kernel regression on labels of plus and minus 1; their sign decides.

    .. math:: s(x) = y^\top K^{-1} k(x)

    Shapes: k_train [N, N], y [N], k_cross [M, N] -> [M]

    Args:
      k_train: the kernel of the training points; singular if two are the same.
      y: 1 or -1 for each of them.
      k_cross: the kernel of M points with the training points.

    Returns:
      Scores, float32 (float64 for float64 ``k_train``).

    Raises:
      TypeError: an array is not floating point.
      ValueError: wrong shapes.

    Source: Radhakrishnan, Belkin and Uhler 2023, arXiv:2204.14126.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import kernel_classify
    >>> kernel_classify(jnp.eye(2), jnp.float32([1, -1]), jnp.float32([[0.1, 0.4]]))
    Array([-0.3], dtype=float32)
    """
    k, y = (
        numerics.promote_to_float32(k_train, "k_train"),
        numerics.promote_to_float32(y, "y"),
    )
    cross = numerics.promote_to_float32(k_cross, "k_cross")
    if k.ndim != 2 or k.shape[0] != k.shape[1]:
        raise ValueError(f"k_train has shape {k.shape}, expected [N, N]")
    if y.shape != k.shape[:1]:
        raise ValueError(f"y has shape {y.shape}, expected {k.shape[:1]}")
    if cross.ndim != 2 or cross.shape[1] != k.shape[0]:
        raise ValueError(f"k_cross has shape {cross.shape}, expected [M, {k.shape[0]}]")
    return cross @ jnp.linalg.solve(k, y.astype(k.dtype))


def hilbert_estimate(
    x_train: ArrayLike, y: ArrayLike, x_test: ArrayLike, *, power: ArrayLike
) -> jax.Array:
    r"""Vote of all training labels, weighted by a singular (Hilbert) kernel.

    .. math:: \sum_i \frac{y_i}{\|x - x_i\|^a} \Big/ \sum_i \frac{1}{\|x - x_i\|^a}

    Consistent where the power is the dimension that the data have: d - 1 on the sphere.

    Shapes: x_train [N, D], y [N], x_test [M, D] -> [M]

    Args:
      x_train: training points.
      y: labels of plus and minus 1, or any numbers.
      x_test: the points to predict.
      power: a, positive.

    Returns:
      The weighted mean of the labels, whose sign decides; at a training point its
      label, or the mean of the labels of all points that are there.

    Raises:
      TypeError: an array is not floating point.
      ValueError: wrong shapes, or ``power`` not positive.

    Source: Devroye, Györfi and Krzyżak 1998; arXiv:2204.14126.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import hilbert_estimate
    >>> x = jnp.float32([[0], [1]])
    >>> hilbert_estimate(x, jnp.float32([1, -1]), jnp.float32([[0], [0.5]]), power=1)
    Array([1., 0.], dtype=float32)
    """
    x, y = (
        numerics.promote_to_float32(x_train, "x_train"),
        numerics.promote_to_float32(y, "y"),
    )
    test = numerics.promote_to_float32(x_test, "x_test").astype(x.dtype)
    if x.ndim != 2 or not x.shape[0]:
        raise ValueError(f"x_train has shape {x.shape}, expected [N, D], N above 0")
    if y.shape != x.shape[:1]:
        raise ValueError(f"y has shape {y.shape}, expected {x.shape[:1]}")
    if test.ndim != 2 or test.shape[1] != x.shape[1]:
        raise ValueError(f"x_test has shape {test.shape}, expected [M, {x.shape[1]}]")
    check_range("power", power, lambda p: p > 0, "a positive number")

    def vote(point):
        distance = jnp.linalg.norm(x - point[None], axis=1)
        least = jnp.min(distance)
        # In units of the nearest, whose weight is 1: nothing overflows.
        ratio = least / jnp.where(distance > 0, distance, 1)
        power_ = jnp.asarray(power, x.dtype)
        weights = jnp.where(least > 0, ratio**power_, (distance == 0).astype(x.dtype))
        return jnp.sum(weights * y.astype(x.dtype)) / jnp.sum(weights)

    return jax.lax.map(vote, test)


def singularity_exponent(phi0p: ArrayLike, phi1p: ArrayLike) -> jax.Array:
    r"""Exponent a of the kernel :math:`1/\|x - x'\|^a` that a deep network tends to.

    .. math:: a = -2 \frac{\log \phi'(0)}{\log \phi'(1)}

    for :math:`\phi(0) = 0`, :math:`0 < \phi'(0) < 1 < \phi'(1)`; optimal where it is
    the dimension of the data.

    Shapes: phi0p [], phi1p [] -> []

    Source: Radhakrishnan, Belkin and Uhler 2023, arXiv:2204.14126.

    >>> from logitlab.estimators import singularity_exponent
    >>> singularity_exponent(0.5, 2.0)
    Array(2., dtype=float32)
    """
    low, high = (
        numerics.promote_to_float32(phi0p, "phi0p"),
        numerics.promote_to_float32(phi1p, "phi1p"),
    )
    return -2 * jnp.log(low) / jnp.log(high)


def _parsed(name):
    """Kind and number of an activation."""
    if name in ("erf", "relu"):
        return name, None
    if name in _POLYNOMIALS:
        return "polynomial", None
    kind, _, number = str(name).partition("_")
    try:
        if kind == "sine" and 0 < float(number) < math.inf:
            return kind, float(number)
        if kind == "hermite" and int(number) >= 1:
            return kind, int(number)
    except ValueError:
        pass
    raise ValueError(
        f"activation is {name!r}, expected 'erf', 'relu', 'sine_a' with a number a, "
        f"'hermite_k' with an integer k, or one of {tuple(_POLYNOMIALS)}"
    )


def _ratio(name, kind, number, r):
    """phi(r) / r, or phi(r) itself for ReLU."""
    r = jnp.clip(r, -1, 1)
    if kind == "polynomial":
        return jnp.polyval(np.array(_POLYNOMIALS[name], r.dtype), r)
    phi, slope = dual_activation(name, r)
    if kind == "relu":
        return phi
    small = jnp.abs(r) < 1e-5  # from there on the slope at 0 is exact
    return jnp.where(small, slope, phi / jnp.where(small, 1, r))


def _correlations(x1, x2, depth):
    if not isinstance(depth, int) or depth < 0:
        raise ValueError(f"depth is {depth!r}, expected an integer from 0 on")
    a = numerics.promote_to_float32(x1, "x1")
    b = a if x2 is None else numerics.promote_to_float32(x2, "x2").astype(a.dtype)
    if a.ndim != 2:
        raise ValueError(f"x1 has shape {a.shape}, expected [N, D]")
    if b.ndim != 2 or b.shape[1] != a.shape[1]:
        raise ValueError(f"x2 has shape {b.shape}, expected [M, {a.shape[1]}]")
    r = jnp.clip(jnp.matmul(a, b.T, precision="highest"), -1, 1)
    if x2 is not None:
        return r
    return jnp.where(jnp.eye(a.shape[0], dtype=bool), 1, r)
