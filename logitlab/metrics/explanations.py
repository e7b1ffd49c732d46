"""Eight explanations of a logit, each the best linear function in a neighborhood.

What is explained is a logit, not a probability: that of a model which is sure changes
with nothing. All methods evaluate the model on ``chunk`` points at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, hyper

__all__ = [
    "exponential_kernel_weights",
    "explain",
    "lfa_error",
    "shapley_kernel_weights",
]

Method = Literal[
    "vanilla_gradient",
    "smoothgrad",
    "c_lime",
    "grad_times_input",
    "integrated_gradients",
    "occlusion",
    "lime",
    "kernel_shap",
]
METHODS = get_args(Method)
_DRAWS = ("smoothgrad", "c_lime", "lime", "kernel_shap")  # which need a key


def explain(
    f: Callable[[jax.Array], jax.Array],
    x: ArrayLike,
    *,
    method: Method,
    key: jax.Array | None = None,
    samples: int = 1000,
    chunk: int | None = None,
    baseline: ArrayLike | None = None,
    sigma: ArrayLike = 0.1,
    width: ArrayLike = 1.0,
) -> jax.Array:
    r"""How much each feature of an input counts for a logit, by one of eight methods.

    Each is the linear function g that is nearest to the model f in a neighborhood of
    the input; choose the method by the neighborhood and by what should be near there.

    .. math:: \arg\min_w \; E_\xi \, \ell(f, g_w, x, \xi)

    ======================  =============================  ====================
    method                  neighborhood                   what is near
    ======================  =============================  ====================
    "vanilla_gradient"      x                              gradients
    "smoothgrad"            x + sigma N(0, 1)              gradients
    "c_lime"                x + sigma N(0, 1)              values
    "grad_times_input"      x                              gradients in xi
    "integrated_gradients"  x' + xi (x - x'), xi ~ U(0,1)  gradients in xi
    "occlusion"             x without one feature          values
    "lime"                  x without random features      values near x
    "kernel_shap"           x without random features      values (Shapley's)
    ======================  =============================  ====================

    Where f is linear all of them return its weights: the first three as they are,
    in logits per unit of the feature, the others times (x - x'), in logits.

    Args:
      f: points [B, ...] -> logits [B], each of its own point: ``lambda x:
        model.apply(params, x)[:, label]``.
      x: one input, of any shape; ``jax.vmap`` takes several.
      method: see above.
      key: of ``jax.random``, for "smoothgrad", "c_lime", "lime" and "kernel_shap".
      samples: points of these four and of "integrated_gradients", whose midpoints need
        fewer. If they suffice for all sets of features, "lime" and "kernel_shap" take
        each once, and the latter is Shapley's value.
      chunk: how many points are evaluated at a time; by default all.
      baseline: x', the value of a feature that is taken away; by default 0.
      sigma: of the noise, in the unit of the features.
      width: nu of "lime", which weighs a point at distance d by exp(-(d / nu)^2).

    Returns:
      The attributions, in the shape of ``x``, float32 (float64 for float64).

    Raises:
      TypeError: ``x`` is not floating point, or a key is due.
      ValueError: an unknown method, ``f`` does not return one number for each point, or
        a number is out of range.

    Numerics: kernel_shap holds f(x) - f(x') exactly, by elimination and not by weights
      of 1e6, which in float32 cost half the attributions. Nothing vanishes if the model
      is sure.

    Source: Which explanation should I choose?, Han, Srinivas and Lakkaraju 2022,
      arXiv:2206.01254. KernelSHAP: Lundberg and Lee 2017, arXiv:1705.07874.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import explain
    >>> f = lambda z: z[:, 0] * z[:, 1] + 2 * z[:, 2]
    >>> print(explain(f, jnp.ones(3), method="occlusion"))
    [1. 1. 2.]
    >>> import jax
    >>> shap = explain(f, jnp.ones(3), method="kernel_shap", key=jax.random.key(0))
    >>> print(shap.round(4))
    [0.5 0.5 2. ]
    """
    space = _Space(f, x, baseline, chunk)
    _check(method, key, samples)
    sigma = hyper("sigma", sigma, space.x.dtype, lambda s: s >= 0, "at least 0")
    if method in ("vanilla_gradient", "smoothgrad", "c_lime"):
        if method == "vanilla_gradient":
            found = space.slopes(space.x[None])[0]
        elif method == "smoothgrad":
            found = space.mean_of_slopes(space.noise(key, sigma), samples)
        else:
            draws = space.noise(key, sigma)(jnp.arange(samples))
            values = space.values(lambda z: space.x[None] + z, draws)
            found = _fit(draws, values, jnp.ones_like(values))
    elif method == "grad_times_input":
        found = space.gap * space.slopes(space.x[None])[0]
    elif method == "integrated_gradients":
        found = space.gap * space.mean_of_slopes(space.path(samples), samples)
    elif method == "occlusion":
        found = space.falls()
    else:
        masks, weights = _coalitions(method, space, key, samples, width)
        values = space.values(space.kept, masks)
        if method == "lime":
            found = _fit(masks, values, weights)
        else:
            empty, whole = space.ends()
            found = _shapley_fit(masks, values - empty, weights, whole - empty)
    return found.reshape(jnp.shape(x))


def lfa_error(
    f: Callable[[jax.Array], jax.Array],
    attributions: ArrayLike,
    x: ArrayLike,
    *,
    method: Method,
    key: jax.Array | None = None,
    samples: int = 1000,
    chunk: int | None = None,
    baseline: ArrayLike | None = None,
    sigma: ArrayLike = 0.1,
    width: ArrayLike = 1.0,
) -> jax.Array:
    r"""How far a linear explanation is from the model in the neighborhood of a method.

    Use it to compare explanations: each method is the best in its own neighborhood, and
    none is in all of them.

    .. math:: E_\xi \, \ell(f, g_w, x, \xi)

    The squared difference of gradients or of values, as :func:`explain` has it. An
    intercept is the best there is; for "kernel_shap" it is f(x'), and the squared error
    of the sum, which its kernel weighs infinitely, counts 1e6 times. For "occlusion"
    there is none.

    Args are those of ``explain``, and:
      attributions: w, of the shape of ``x`` and in the unit of the method: logits per
        unit for "vanilla_gradient", "smoothgrad" and "c_lime", else logits.

    Returns:
      One number, in logits squared (per unit squared for "vanilla_gradient" and
      "smoothgrad"), of the same draws that ``explain`` makes of the key. It is
      differentiable in the attributions.

    Raises:
      ValueError: also if ``attributions`` has another shape than ``x``.

    Source: arXiv:2206.01254.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import lfa_error
    >>> f = lambda z: z[:, 0] * z[:, 1] + 2 * z[:, 2]
    >>> lfa_error(f, jnp.float32([1, 1, 2]), jnp.ones(3), method="occlusion")
    Array(0., dtype=float32)
    """
    space = _Space(f, x, baseline, chunk)
    _check(method, key, samples)
    w = numerics.promote_to_float32(attributions, "attributions")
    if w.shape != jnp.shape(x):
        raise ValueError(
            f"attributions has shape {w.shape}, expected that of x, {jnp.shape(x)}"
        )
    w = w.ravel().astype(space.x.dtype)
    sigma = hyper("sigma", sigma, w.dtype, lambda s: s >= 0, "at least 0")
    if method == "occlusion":
        return jnp.mean(jnp.square(space.falls() - w))
    if method in ("vanilla_gradient", "grad_times_input"):
        points, count = (lambda _: space.x[None]), 1
    elif method == "smoothgrad":
        draw = space.noise(key, sigma)
        points, count = space.points(draw), samples
    elif method == "integrated_gradients":
        points, count = space.points(space.path(samples)), samples
    else:
        return _value_loss(space, w, method, key, samples, sigma, width)

    in_xi = method in ("grad_times_input", "integrated_gradients")
    scale = space.gap if in_xi else jnp.ones_like(space.gap)

    def error(at):
        slopes = scale[None] * space.slopes(points(at))
        return jnp.sum(jnp.square(slopes - w[None]), -1)

    return space.mean(error, count)


def _value_loss(space, w, method, key, samples, sigma, width):
    if method == "c_lime":
        draws = space.noise(key, sigma)(jnp.arange(samples))
        values = space.values(lambda z: space.x[None] + z, draws)
        weights = jnp.ones_like(values)
    else:
        draws, weights = _coalitions(method, space, key, samples, width)
        values = space.values(space.kept, draws)
    rest = values - jnp.matmul(draws, w, precision="highest")
    shares = weights / jnp.sum(weights)
    if method == "kernel_shap":
        empty, whole = space.ends()
        missing = jnp.square(jnp.sum(w) - (whole - empty))
        return jnp.sum(shares * jnp.square(rest - empty)) + 1e6 * missing
    return jnp.sum(shares * jnp.square(rest - jnp.sum(shares * rest)))


def shapley_kernel_weights(masks: ArrayLike, *, ends: ArrayLike = 1e6) -> jax.Array:
    r"""Weights of KernelSHAP of sets of features.

    .. math:: \frac{m - 1}{\binom mk k (m - k)}

    for k of m features. Those of no and of all features are infinite: a fit should hold
    both exactly, as :func:`explain` does, and not by large numbers.

    Shapes: masks [..., D] -> [...]

    Args:
      masks: bool, or 0 and 1: which features are kept.
      ends: the weight of no and of all features; the released code has 1e6.

    Returns:
      float32, or float64 for float64 masks.

    Numerics: relative error below 1e-4 in float32, by logarithms of the gamma function;
      0 where that is below 1e-38.

    Source: Lundberg and Lee 2017, arXiv:1705.07874.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import shapley_kernel_weights
    >>> print(shapley_kernel_weights(jnp.float32([[1, 0, 0], [1, 1, 0]])).round(4))
    [0.3333 0.3333]
    """
    z = _masks(masks)
    m, k = z.shape[-1], jnp.sum(z, -1)
    log = _log_shapley(m, k)
    return jnp.where((k <= 0) | (k >= m), jnp.asarray(ends, z.dtype), jnp.exp(log))


def exponential_kernel_weights(
    masks: ArrayLike, x: ArrayLike, *, width: ArrayLike = 1.0
) -> jax.Array:
    r"""Weights of LIME of sets of features, by how far the input moves without others.

    .. math:: e^{-\|x - x \odot z\|^2 / \nu^2}

    Shapes: masks [..., D], x [D] -> [...]

    Args:
      masks: z, bool, or 0 and 1: which features are kept.
      x: the input less the baseline.
      width: nu.

    Returns:
      In the dtype of ``x``, at least float32.

    Source: Ribeiro et al. 2016, arXiv:1602.04938.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import exponential_kernel_weights
    >>> exponential_kernel_weights(jnp.float32([[1, 1], [1, 0]]), jnp.ones(2))
    Array([1.        , 0.36787945], dtype=float32)
    """
    return jnp.exp(_log_exponential(_masks(masks), x, width))


def _masks(masks):
    masks = jnp.asarray(masks)
    if not jnp.issubdtype(masks.dtype, jnp.floating):
        masks = masks.astype(jnp.float32)
    masks = numerics.promote_to_float32(masks, "masks")
    if not masks.ndim:
        raise ValueError("masks is a scalar, expected [..., D]")
    return masks


def _log_shapley(m, k):
    """Logarithm of the weight of sets of k of m features; binomials overflow."""
    k = jnp.clip(k, 1, max(m - 1, 1))
    gamma = jax.scipy.special.gammaln
    log_binomial = gamma(m + 1.0) - gamma(k + 1) - gamma(m - k + 1)
    return jnp.log(max(m - 1, 1) / (k * jnp.maximum(m - k, 1))) - log_binomial


def _log_exponential(masks, x, width):
    x = numerics.promote_to_float32(x, "x").astype(masks.dtype)
    if x.shape != masks.shape[-1:]:
        raise ValueError(f"x has shape {x.shape}, expected {masks.shape[-1:]}")
    nu = hyper("width", width, masks.dtype, lambda v: v > 0, "positive")
    gone = (1 - masks) * jnp.expand_dims(x / nu, range(masks.ndim - 1))
    return -jnp.sum(jnp.square(gone), -1)


def _check(method, key, samples):
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, expected one of {METHODS}")
    if method in _DRAWS and key is None:
        raise TypeError(f"key is None, expected a key of jax.random for {method!r}")
    check_count("samples", samples)


class _Space:
    """A function of flat points, an input, and what it evaluates at a time."""

    def __init__(self, f, x, baseline, chunk):
        wide = numerics.promote_to_float32(x, "x")
        self.shape, self.x = wide.shape, wide.ravel()
        base = jnp.zeros_like(wide) if baseline is None else jnp.asarray(baseline)
        if base.shape not in ((), wide.shape):
            raise ValueError(
                f"baseline has shape {base.shape}, expected () or {wide.shape}"
            )
        self.base = jnp.broadcast_to(base, wide.shape).ravel().astype(wide.dtype)
        self.gap = self.x - self.base
        if chunk is not None:
            check_count("chunk", chunk)
        self.chunk, self._f = chunk, f
        found = jax.eval_shape(self.f, jnp.stack([self.x, self.x]))
        if getattr(found, "shape", None) != (2,):
            raise ValueError(
                f"f returns shape {getattr(found, 'shape', found)} for 2 points, "
                "expected (2,): one logit for each point"
            )

    def f(self, points):
        values = self._f(points.reshape(-1, *self.shape))
        return values if not hasattr(values, "astype") else values.astype(self.x.dtype)

    def slopes(self, points):
        return jax.grad(lambda points: jnp.sum(self.f(points)))(points)

    def ends(self):
        return self.f(jnp.stack([self.base, self.x]))

    def kept(self, masks):
        """The input without the features that a mask leaves out."""
        return jnp.where(masks > 0, self.x[None], self.base[None])

    def falls(self):
        """What taking each feature away costs."""
        d = self.x.size
        at = jnp.arange(d)
        values = self.values(
            lambda i: jnp.where(at[None] == i[:, None], self.base[None], self.x[None]),
            at,
        )
        return self.f(self.x[None]) - values

    def noise(self, key, sigma):
        """Draws by their number, which do not depend on the chunks."""

        def draw(i):
            own = jax.random.fold_in(key, i)
            return sigma * jax.random.normal(own, self.x.shape, self.x.dtype)

        return jax.vmap(draw)

    def path(self, samples):
        """From the baseline to the input, the middle of each of ``samples`` parts."""
        return lambda at: (((at + 0.5) / samples - 1)[:, None] * self.gap[None]).astype(
            self.x.dtype
        )

    def points(self, moves):
        return lambda at: self.x[None] + moves(at)

    def mean_of_slopes(self, moves, count):
        return self.mean(lambda at: self.slopes(self.points(moves)(at)), count)

    def mean(self, rows, count):
        """Mean of ``rows(numbers)`` over the numbers below ``count``, by chunks."""
        chunk = min(self.chunk or count, count)

        def add(total, start):
            at = start + jnp.arange(chunk)
            got = rows(at)
            keep = (at < count).reshape(-1, *[1] * (got.ndim - 1))
            return total + jnp.sum(jnp.where(keep, got, 0), 0), None

        one = jax.eval_shape(rows, jnp.arange(chunk))
        total = jnp.zeros(one.shape[1:], one.dtype)
        total, _ = jax.lax.scan(add, total, jnp.arange(0, count, chunk))
        return total / count

    def values(self, points, rows):
        """Values at the points that are made of rows, by chunks."""
        if self.chunk is None or self.chunk >= len(rows):
            return self.f(points(rows))
        one = lambda row: self.f(points(row[None]))[0]  # noqa: E731
        return jax.lax.map(one, rows, batch_size=self.chunk)


def _coalitions(method, space, key, samples, width):
    """Sets of features [S, D] as 0 and 1, and their weights: all sets if they fit."""
    d, dtype = space.x.size, space.x.dtype
    whole = d < 31 and 2**d <= samples
    if whole:
        bits = np.arange(2**d)[:, None] >> np.arange(d)[None] & 1
        if method == "kernel_shap":
            bits = bits[1:-1]  # which no and all features are not among
        masks = jnp.asarray(bits, dtype)
    elif method == "lime":
        masks = jax.random.bernoulli(key, 0.5, (samples, d)).astype(dtype)
    else:
        masks = _shapley_draws(key, d, samples).astype(dtype)
    if method == "lime":
        log = _log_exponential(masks, space.gap, width)
        return masks, jnp.exp(log - jnp.max(log))
    if whole:
        return masks, jnp.exp(_log_shapley(d, jnp.sum(masks, -1)))
    return masks, jnp.ones(len(masks), dtype)


def _shapley_draws(key, d, samples):
    """Sets as often as KernelSHAP weighs them, each beside its complement."""
    size_key, order_key = jax.random.split(key)
    k = jnp.arange(1, d)
    half = (samples + 1) // 2
    sizes = jax.random.categorical(size_key, -jnp.log(k * (d - k)), shape=(half,)) + 1
    ranks = jnp.argsort(jax.random.uniform(order_key, (half, d)), -1)
    masks = ranks < sizes[:, None]
    return jnp.concatenate([masks, ~masks])[:samples]


def _fit(design, values, weights):
    """Weighted least squares with an intercept, without it."""
    ones = jnp.ones((len(design), 1), design.dtype)
    return _solve(jnp.concatenate([design, ones], -1), values, weights)[:-1]


def _shapley_fit(masks, values, weights, total):
    """The same without one, and with a given sum: the last weight is the rest."""
    last = masks[:, -1]
    design = masks[:, :-1] - last[:, None]
    w = _solve(design, values - last * total, weights) if masks.shape[1] > 1 else []
    w = jnp.asarray(w, masks.dtype)
    return jnp.concatenate([w, (total - jnp.sum(w))[None]])


@functools.partial(jax.jit, inline=True)
def _solve(design, values, weights):
    """The shortest solution, as features that never change have no say."""
    root = jnp.sqrt(weights)
    return jnp.linalg.lstsq(root[:, None] * design, root * values)[0]
