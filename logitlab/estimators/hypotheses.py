"""How surprising a model's error is among random hypotheses that fit the data."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy import linalg, special
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range, hyper

__all__ = [
    "ScaledNcx2",
    "fit_scaled_ncx2",
    "gp_posterior_errors",
    "neg_log_ncx2_cdf",
]

_TERMS = 1024  # of the Poisson mixture, around its largest
_STEPS = 200
_ENOUGH = 1e-10  # of the mean log-likelihood, which the last step gains
# In a fit, of twice the squared mean over the variance, above which the law is normal
# in all but name, and of nc / df.
_LOWEST, _HIGHEST = (1e-3, 1e-6), (1e3, 1e3)


class ScaledNcx2(NamedTuple):
    """A scaled non-central chi-squared law, fitted to errors.

    Attributes:
      df: degrees of freedom; ``inf`` for a point mass at ``scale``.
      nc: non-centrality.
      scale: what the variable is multiplied with.
      log_likelihood: mean over the errors, in nats; ``inf`` for a point mass.
      at_bound: whether the fit ends where its range does.
    """

    df: jax.Array
    nc: jax.Array
    scale: jax.Array
    log_likelihood: jax.Array
    at_bound: jax.Array


def fit_scaled_ncx2(errors: ArrayLike) -> ScaledNcx2:
    r"""Maximum likelihood of a scaled non-central chi-squared law, for squared errors.

    .. math:: e / s \sim \chi'^2_k(\lambda)

    One jitted program; ``vmap`` it over bootstrap samples of the errors for the
    uncertainty, which is large below some hundred of them.

    Shapes: errors [N] -> [], [], [], [], []

    Args:
      errors: mean squared errors of random hypotheses, above 0.

    Returns:
      A ``ScaledNcx2``. Degrees of freedom and non-centrality can stand in for each
      other: the law of the errors is well determined where they are not. They are found
      for ``nc / df`` between 1e-6 and 1e3, and for twice the squared mean over the
      variance of the errors between 1e-3 and 1e3. Errors that are all equal are a point
      mass.

    Raises:
      TypeError: ``errors`` is not floating point.
      ValueError: the shape is not [N], or an error is not above 0.

    Numerics: scoring, with the mean square of the slopes for the curvature, and the
      trust of Levenberg and Marquardt, on logarithms of the mean, the shape and
      ``nc / df``; in float64 the mean log-likelihood is within 1e-6 of SciPy's best.

    Source: Towards Exact Computation of Inductive Bias, Boopathy et al. 2024,
      arXiv:2406.15941.

    >>> import jax
    >>> from logitlab.estimators import fit_scaled_ncx2
    >>> errors = jax.random.chisquare(jax.random.key(0), 8, (500,)) / 4
    >>> fit = fit_scaled_ncx2(errors)
    >>> mean = fit.scale * (fit.df + fit.nc)
    >>> bool(abs(mean / errors.mean() - 1) < 0.01)
    True
    """
    e = numerics.promote_to_float32(errors, "errors")
    if e.ndim != 1 or not e.size:
        raise ValueError(f"errors has shape {e.shape}, expected at least one, [N]")
    check_range("errors", e, lambda v: v > 0, "above 0")
    return _fit(e)


def neg_log_ncx2_cdf(
    eps: ArrayLike,
    df: ArrayLike,
    nc: ArrayLike,
    scale: ArrayLike,
    *,
    approximate: bool = False,
) -> jax.Array:
    r"""Inductive bias that an error of at most eps needs: -log of its chance, in nats.

    .. math:: -\log P(s\,\chi'^2_k(\lambda) \le \epsilon)

    Divided by log 2 it is in bits. Of the law of errors of random hypotheses that fit
    the training data (``fit_scaled_ncx2``) it is the information that picking one of at
    most this test error takes.

    Shapes: eps [...], df [], nc [], scale [] -> [...]

    Args:
      eps: errors, in the unit of ``scale``.
      df: degrees of freedom, above 0; ``inf`` for a point mass at ``scale``.
      nc: non-centrality, at least 0.
      scale: above 0.
      approximate: Sankaran's normal approximation: cheaper, and also good where ``nc``
        is above some thousands.

    Returns:
      Nats, float32 (float64 for float64 ``eps``); ``inf`` for an error of 0 or less.

    Raises:
      TypeError: ``eps`` is not floating point.
      ValueError: a parameter is out of its range.

    Numerics: the mixture of central laws in logarithms, 1e-8 in float64 and 1e-4 in
      float32 of values from 1e-3 to some hundreds; approximate: 1 % of values near 1,
      20 % at a hundred.

    Source: Towards Exact Computation of Inductive Bias, Boopathy et al. 2024,
      arXiv:2406.15941. Their code falls back to half the square of Sankaran's normal
      score, which is no bound and jumps; here it is the normal law's own logarithm.

    >>> from logitlab.estimators import neg_log_ncx2_cdf
    >>> print(f"{neg_log_ncx2_cdf(0.5, 10.0, 5.0, 0.1):.3f}")
    3.804
    >>> print(f"{neg_log_ncx2_cdf(0.5, 10.0, 5.0, 0.1, approximate=True):.3f}")
    3.773
    """
    x = numerics.promote_to_float32(eps, "eps")
    df = hyper("df", df, x.dtype, lambda v: v > 0, "above 0")
    nc = hyper("nc", nc, x.dtype, lambda v: v >= 0, "at least 0")
    scale = hyper("scale", scale, x.dtype, lambda v: v > 0, "above 0")
    point = jnp.isinf(df)
    k = jnp.where(point, 1, df)
    some = x > 0
    at = jnp.where(some, x, scale) / scale
    if approximate:
        found = -special.log_ndtr(_sankaran(at, k, nc))
    else:
        j, log_weights = _poisson(at, k, nc)
        logs = log_weights + _log_gammainc(k / 2 + j, at[..., None] / 2)
        found = jnp.maximum(-numerics.logsumexp(logs), 0)
    found = jnp.where(some, found, jnp.inf)
    return jnp.where(point, jnp.where(x >= scale, 0, jnp.inf), found)


def gp_posterior_errors(
    key: jax.Array,
    train_x: ArrayLike,
    train_y: ArrayLike,
    test_x: ArrayLike,
    test_y: ArrayLike,
    *,
    samples: int = 100,
    lengthscale: ArrayLike = 1.0,
    jitter: ArrayLike = 1e-6,
) -> jax.Array:
    r"""Test errors of random functions that fit the training data: a GP's posterior.

    .. math:: f \sim \mathcal N(K_{tx} K_{xx}^{-1} y,\; K_{tt} - K_{tx} K_{xx}^{-1}
        K_{xt}), \quad K(x, x') = e^{-\lVert x - x' \rVert^2 / (2 \sigma^2)}

    and the error of each is the mean over test points and outputs of the squared
    difference from ``test_y``.

    Shapes: key [], train_x [N, D], train_y [N, K], test_x [T, D], test_y [T, K] ->
      [samples]

    Args:
      key: a ``jax.random.key``.
      train_x: inputs.
      train_y: outputs, such as one-hot classes; they are independent.
      test_x: other inputs.
      test_y: their outputs.
      samples: how many functions, a Python number.
      lengthscale: sigma, in the unit of the inputs, above 0.
      jitter: added to the diagonal of the kernel of the training inputs, above 0.

    Returns:
      One error for each function, for ``fit_scaled_ncx2``.

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes do not fit, or an option is out of its range.

    Source: Towards Exact Computation of Inductive Bias, Boopathy et al. 2024,
      arXiv:2406.15941.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import gp_posterior_errors
    >>> x = jnp.linspace(0, 1, 6)[:, None]
    >>> key, y = jax.random.key(0), jnp.sin(x)
    >>> errors = gp_posterior_errors(key, x[::2], y[::2], x[1::2], y[1::2], samples=50)
    >>> errors.shape, bool(errors.max() < 0.1)
    ((50,), True)
    """
    check_range("samples", samples, lambda v: v >= 1, "at least 1")
    x, y, t, target = _regression(train_x, train_y, test_x, test_y)
    width = hyper("lengthscale", lengthscale, x.dtype, lambda v: v > 0, "above 0")
    jitter = hyper("jitter", jitter, x.dtype, lambda v: v > 0, "above 0")
    fitted = _rbf(x, x, width) + jitter * jnp.eye(len(x), dtype=x.dtype)
    factor = linalg.cho_factor(fitted)
    across = _rbf(x, t, width)
    solved = linalg.cho_solve(factor, across)
    mean = solved.T @ y
    values, vectors = jnp.linalg.eigh(_rbf(t, t, width) - across.T @ solved)
    root = vectors * jnp.sqrt(jnp.maximum(values, 0))[None]
    draws = jax.random.normal(key, (samples, *target.shape), x.dtype)
    gaps = mean[None] + jnp.einsum("ij,sjk->sik", root, draws) - target[None]
    return jnp.mean(jnp.square(gaps), (1, 2))


def _rbf(a, b, width):
    gaps = (a[:, None] - b[None]) / width
    return jnp.exp(-jnp.sum(jnp.square(gaps), -1) / 2)


def _regression(train_x, train_y, test_x, test_y):
    named = dict(train_x=train_x, train_y=train_y, test_x=test_x, test_y=test_y)
    arrays = {n: numerics.promote_to_float32(a, n) for n, a in named.items()}
    x, y, t, target = arrays.values()
    expected = {
        "train_x": ("N", "D"),
        "train_y": (len(x), "K"),
        "test_x": ("T", *x.shape[1:]),
        "test_y": (len(t), *y.shape[1:]),
    }
    for name, a in arrays.items():
        sizes = zip(expected[name], a.shape, strict=False)
        fits = all(isinstance(n, str) or n == m for n, m in sizes)
        if a.ndim != 2 or not fits or not a.size:
            raise ValueError(f"{name} has shape {a.shape}, expected {expected[name]}")
    return x, y, t, target


@jax.jit
def _fit(e):
    equal = jnp.all(e == e[0])
    mean, spread = jnp.mean(e), jnp.var(e)
    spread = jnp.where(equal, 1, spread)
    # In these coordinates what the errors hardly tell, nc / df, lies on an axis of its
    # own, and moments start the other two where they end.
    shape = 2 * jnp.square(mean) / spread
    start = jnp.log(jnp.stack([mean, shape, jnp.ones_like(mean)]))
    limits = jnp.finfo(e.dtype)
    low = jnp.log(jnp.asarray([limits.tiny, *_LOWEST], e.dtype))
    high = jnp.log(jnp.asarray([limits.max, *_HIGHEST], e.dtype))
    x = jnp.where(equal, mean, e)

    def law(at):
        mean, shape, ratio = jnp.exp(at)
        total = shape * (1 + 2 * ratio) / (1 + ratio)  # df + nc
        return total / (1 + ratio), total * ratio / (1 + ratio), mean / total

    def look(at):
        """Loss, its slope, and the mean square of the slopes of single errors."""

        def logs(at):
            found = _log_density(x, *law(at))
            return found, found

        slopes, found = jax.jacfwd(logs, has_aux=True)(at)
        return -jnp.mean(found), -jnp.mean(slopes, 0), slopes.T @ slopes / len(x)

    def step(carry):
        at, (value, slope, square), trust, k, gain = carry
        held = ((at <= low) & (slope > 0)) | ((at >= high) & (slope < 0))
        sizes, axes = jnp.linalg.eigh(
            jnp.where(held[:, None] | held[None], jnp.eye(3, dtype=e.dtype), square)
        )
        move = -axes @ ((axes.T @ jnp.where(held, 0, slope)) / (jnp.abs(sizes) + trust))
        new = jnp.clip(at + jnp.clip(move, -1, 1), low, high)
        there = look(new)
        better = there[0] < value
        trust = jnp.where(better, trust / 4, trust * 4)
        at, here = jax.tree.map(
            lambda a, b: jnp.where(better, a, b), (new, there), (at, carry[1])
        )
        return at, here, trust, k + 1, jnp.where(better, value - there[0], gain)

    def unfinished(carry):
        _, _, trust, k, gain = carry
        return (k < _STEPS) & (trust < 1e6) & (gain > _ENOUGH)

    start = jnp.clip(start, low, high)
    trust, gain = jnp.asarray([1e-2, jnp.inf], e.dtype)
    first = start, look(start), trust, 0, gain
    at, (value, *_), *_ = jax.lax.while_loop(unfinished, step, first)
    df, nc, scale = law(at)
    bound = jnp.any((at <= low) | (at >= high))
    return ScaledNcx2(
        jnp.where(equal, jnp.inf, df),
        jnp.where(equal, 0, nc),
        jnp.where(equal, mean, scale),
        jnp.where(equal, jnp.inf, -value),
        bound & ~equal,
    )


def _log_density(x, k, nc, scale):
    x = x / scale
    j, log_weights = _poisson(x, k, nc)
    half, x = k / 2 + j, x[..., None]
    central = (half - 1) * jnp.log(x / 2) - x / 2 - special.gammaln(half) - jnp.log(2.0)
    return numerics.logsumexp(log_weights + central) - jnp.log(scale)


def _poisson(x, k, nc):
    """Places and log-weights of the mixture's terms, around the largest."""
    # Of the terms' ratio, nc x / 4 = j (j + k / 2); the weights alone peak at nc / 2.
    half = jax.lax.stop_gradient(k / 2)
    peak = (jnp.sqrt(jnp.square(half) + jax.lax.stop_gradient(nc * x)) - half) / 2
    peak = jnp.minimum(peak, jax.lax.stop_gradient(nc) / 2)
    first = jnp.maximum(jnp.floor(peak) - _TERMS // 2, 0)
    terms = jnp.arange(_TERMS, dtype=x.dtype)
    j = first[..., None] + terms.reshape((1,) * first.ndim + (-1,))
    none = nc == 0
    log_rate = jnp.log(jnp.where(none, 1, nc / 2))
    weights = j * log_rate - nc / 2 - special.gammaln(j + 1)
    return j, jnp.where(none, jnp.where(j == 0, 0, -jnp.inf), weights)


def _log_gammainc(a, x):
    """Log of the regularized lower incomplete gamma function, at any size."""
    plain = special.gammainc(a, x)
    tiny = plain < 1e3 * jnp.finfo(plain.dtype).tiny

    def add(n, carry):
        total, term = carry
        term = term * x / (a + n)
        return total + term, term

    one = jnp.ones_like(a)
    total, _ = jax.lax.fori_loop(1, 200, add, (one, one))
    far = a * jnp.log(x) - x - special.gammaln(a + 1) + jnp.log(total)
    return jnp.where(tiny, far, jnp.log(jnp.where(tiny, 1, plain)))


def _sankaran(x, k, nc):
    """Normal score of a non-central chi-squared number."""
    mean, spread = k + nc, k + 2 * nc
    h = 1 - 2 / 3 * mean * (k + 3 * nc) / jnp.square(spread)
    p = spread / jnp.square(mean)
    m = (h - 1) * (1 - 3 * h)
    center = 1 + h * p * (h - 1 - 0.5 * (2 - h) * m * p)
    return ((x / mean) ** h - center) / (h * jnp.sqrt(2 * p) * (1 + 0.5 * m * p))
