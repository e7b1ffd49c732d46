"""Links that make one distribution of several: the sum of one draw from each factor."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics


def checkered(
    factor_logits: ArrayLike,
    *,
    axis: int = -1,
    factor_axis: int = -2,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Checkered softmax: the circular convolution of the softmax of every factor.

    Use it for classes with XOR-like boundaries; train with ``optim.xgd``.

    .. math:: \Xi_y(Z) = \sum_{\upsilon_1 + \dots + \upsilon_m \equiv y \; (C)} \;
        \prod_k \mathrm{softmax}(Z_k)_{\upsilon_k}

    the probability that independent draws, one from each of the m factors, add up to y
    modulo C. Linear factors tile the input space like a checkerboard; one factor is
    the ordinary softmax. Shift-invariant in every factor, and blind to their order.
    With two factors or more the gradient at equal factor logits is exactly 0: do not
    start gradient descent there.

    Shapes: factor_logits [..., M, C], where [..., M, C] -> [..., C]

    Args:
      factor_logits: scores of the classes in each factor; ``-inf`` is the same as
        ``where=False``.
      axis: the class axis, which must not be spread over devices.
      factor_axis: the axis of the factors.
      where: bool, broadcastable to ``factor_logits``, the classes that a factor can
        draw. A sum may still be a class that no factor draws; to hide a class of the
        result, give ``where`` to the loss.

    Returns:
      Log-probabilities in nats, float32 (float64 for float64 input), without the factor
      axis; ``-inf`` at classes that are no sum.

    Raises:
      TypeError: ``factor_logits`` is not floating point or ``where`` is not bool.
      ValueError: no such axis, the two axes are the same, no factors, fewer than two
        classes (a binary factor has two, see :func:`checkoid` for the other form), or
        ``where`` does not broadcast.

    Numerics: relative error of the log-probabilities below 1e-5, and of the gradient of
      a loss for margins up to 80; near the saddle the gradient, a difference of nearly
      equal numbers, has an absolute error below 1e-6. Computed in the log domain, by
      m - 1 convolutions of C sums of C numbers, none of which is ever stored: with
      eight factors of 64 classes the temporaries are 2.3 times the input, 6.2 times
      with the gradient.

    Source: Achab 2023, arXiv:2309.15298.

    >>> import jax.numpy as jnp
    >>> from logitlab.links import checkered
    >>> z = jnp.float32([[1, 0, -1], [0, 0.5, 0]])
    >>> print(*(f"{p:.4f}" for p in jnp.exp(checkered(z))))
    0.2901 0.3923 0.3176
    """
    log_p, axis, factor_axis = _factors(factor_logits, axis, factor_axis, where)
    return jnp.moveaxis(_sum_log_probs(log_p), -1, axis - (factor_axis < axis))


def checkered_responsibilities(
    factor_logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    factor_axis: int = -2,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""What each factor drew, given the sum: the posterior marginals of a label.

    .. math:: q_{k,l} = P(\upsilon_k = l \mid \textstyle\sum_j \upsilon_j \equiv y)
        = \mathrm{softmax}(Z_k)_l \, \Xi_{y - l}(Z_{-k}) / \Xi_y(Z)

    The gradient of :math:`-\log \Xi_y` is softmax(Z) - q, so these are the soft targets
    that a step of expectation maximisation, or of the cross-gradient, fits every factor
    to. No gradient passes through them.

    Shapes: factor_logits [..., M, C], labels [...], where [..., M, C] -> [..., M, C]

    Args:
      factor_logits: as in :func:`checkered`.
      labels: ints in ``[0, C)``, or distributions [..., C], whose classes are weighed.
      axis: the class axis of ``factor_logits``, and of distributions as labels, which
        have no factor axis.
      factor_axis: the axis of the factors.
      where: as in :func:`checkered`.

    Returns:
      float32 (float64 for float64 input), laid out as ``factor_logits``; every factor's
      row adds up to 1. Rows of 0 where the label cannot be a sum.

    Raises:
      TypeError: ``factor_logits`` is not floating point or ``where`` is not bool.
      ValueError: as in :func:`checkered`; wrong label shape, or a label of C or more,
        which gives NaN under ``jit``.

    Numerics: relative error below 1e-5; no probability is subtracted from another.

    Source: Achab 2023, arXiv:2309.15298, section 5; as posterior marginals [derived].

    >>> import jax.numpy as jnp
    >>> from logitlab.links import checkered_responsibilities
    >>> z = jnp.float32([[2, 0], [2, 0]])  # the sum is odd: who drew the 1?
    >>> print(checkered_responsibilities(z, 1))
    [[0.5 0.5]
     [0.5 0.5]]
    """
    log_p, axis, factor_axis = _factors(factor_logits, axis, factor_axis, where)
    log_total, pull = jax.vjp(_sum_log_probs, jax.lax.stop_gradient(log_p))
    classes = log_p.shape[-1]
    if jnp.issubdtype(jnp.result_type(labels), jnp.integer):
        y, known = numerics.check_labels(labels, log_total.shape[:-1], classes)
        weights = jax.nn.one_hot(y, classes, dtype=log_p.dtype)
        weights = jnp.where(known[..., None], weights, jnp.nan)
    else:
        labels, place = jnp.asarray(labels), axis - (factor_axis < axis)
        expected = jnp.moveaxis(log_total, -1, place).shape
        if labels.shape != expected:
            raise ValueError(f"labels has shape {labels.shape}, expected {expected}")
        weights = jnp.moveaxis(numerics.promote_to_float32(labels, "labels"), place, -1)
        weights = jax.lax.stop_gradient(weights.astype(log_p.dtype))
    # The slope of log Xi in a factor's log-probability is that marginal.
    (q,) = pull(weights)
    return jnp.moveaxis(
        jnp.moveaxis(q, 0, factor_axis - (axis < factor_axis)), -1, axis
    )


def checkoid_log(z: ArrayLike, *, axis: int = -1) -> tuple[jax.Array, jax.Array]:
    r"""Log-probabilities of an even and of an odd number of failures of m coins.

    .. math:: \Xi(z) = \tfrac{1}{2} (1 + \prod_k \tanh(z_k / 2)), \quad
        (\log \Xi(z), \; \log (1 - \Xi(z)))

    for independent coins that succeed with probability :math:`\sigma(z_k)`. The binary
    :func:`checkered`, whose factor logits are (z_k, 0): class 0 is the even one.

    Shapes: z [..., M] -> [...], [...]

    Args:
      z: log-odds of success.
      axis: of the coins.

    Returns:
      Two arrays in nats, float32 (float64 for float64 ``z``). Stacked, they are logits
      of two classes; their difference is the logit of the even one.

    Raises:
      TypeError: ``z`` is not floating point.
      ValueError: no such axis, or no coins.

    Numerics: relative error below 1e-5, value and gradient, of both, for any ``z``.

    Source: Achab 2023, arXiv:2309.15298; the recursion [derived].

    >>> import jax.numpy as jnp
    >>> from logitlab.links import checkoid_log
    >>> even, odd = checkoid_log(jnp.float32([40, 40]))
    >>> print(even, odd)
    -8.496708e-18 -39.306854
    """
    return _parity_log_probs(jnp.moveaxis(_coins(z, axis), -1, 0))


@jax.jit
def _parity_log_probs(z):
    log_p, log_q = jax.nn.log_sigmoid(z), jax.nn.log_sigmoid(-z)

    def flip(parity, coin):
        (even, odd), (p, q) = parity, coin
        even, odd = jnp.logaddexp(even + p, odd + q), jnp.logaddexp(even + q, odd + p)
        return (even, odd), None

    first, rest = (log_p[0], log_q[0]), (log_p[1:], log_q[1:])
    return jax.lax.scan(flip, first, rest)[0]


def checkoid(z: ArrayLike, *, axis: int = -1) -> jax.Array:
    r"""Checkoid: the probability of an even number of failures of m coins.

    .. math:: \Xi(z) = \tfrac{1}{2} (1 + \prod_k \tanh(z_k / 2))

    The sigmoid for one coin, a smooth XNOR for two; exactly 1/2 if any ``z`` is 0.
    Train on :func:`checkoid_log`, which does not round to 0.

    Shapes: z [..., M] -> [...]

    Args:
      z: log-odds of success of independent coins.
      axis: of the coins.

    Returns:
      Probabilities, float32 (float64 for float64 ``z``).

    Raises:
      TypeError: ``z`` is not floating point.
      ValueError: no such axis, or no coins.

    Numerics: absolute error below 1e-6.

    Source: Achab 2023, arXiv:2309.15298.

    >>> import jax.numpy as jnp
    >>> from logitlab.links import checkoid
    >>> print(checkoid(jnp.float32([1, -2])).round(4))
    0.324
    """
    return 0.5 * (1 + jnp.prod(jnp.tanh(_coins(z, axis) / 2), -1))


def _coins(z, axis):
    z = numerics.promote_to_float32(z, "z")
    _check_axis("axis", axis)
    if not -z.ndim <= axis < z.ndim:
        raise ValueError(f"axis {axis} is not an axis of z with shape {z.shape}")
    if z.shape[axis] == 0:
        raise ValueError(f"z has shape {z.shape}, expected at least one coin")
    return jnp.moveaxis(z, axis, -1)


def _check_axis(name, axis):
    if not isinstance(axis, int | np.integer):
        raise TypeError(f"{name} is {axis!r}, expected one integer")


def _factors(factor_logits, axis, factor_axis, where):
    """Log-probabilities, factors first, classes last; axes counted from the front."""
    shape, name = jnp.shape(factor_logits), "factor_logits"
    for what, a in (("axis", axis), ("factor_axis", factor_axis)):
        _check_axis(what, a)
        if not -len(shape) <= a < len(shape):
            raise ValueError(f"{what} {a} is not an axis of {name} with shape {shape}")
    axis, factor_axis = axis % len(shape), factor_axis % len(shape)
    if axis == factor_axis:
        raise ValueError(f"axis and factor_axis are both {axis}, expected two axes")
    if shape[factor_axis] < 1:
        raise ValueError(f"{name} has shape {shape}, expected at least one factor")
    if shape[axis] < 2:
        raise ValueError(f"{name} has shape {shape}, expected at least two classes")
    z = numerics.prepare_logits(factor_logits, axis=axis, where=where, name=name)
    log_p = numerics.log_softmax(z)
    return jnp.moveaxis(log_p, factor_axis - (axis < factor_axis), 0), axis, factor_axis


@jax.jit  # or every call outside of jit would compile its loops anew
def _sum_log_probs(log_p):
    """Log-probabilities [M, ..., C] of the factors to those of their sum, [..., C]."""

    def add(total, factor):
        return _convolve(total, factor), None

    return jax.lax.scan(add, log_p[0], log_p[1:])[0]


@jax.custom_jvp  # memory: 9 arrays of the factors' size, not 4 for each class
def _convolve(a, b):
    """``log sum_j exp(a[(i - j) mod C] + b[j])``, exact near 0 as near ``-inf``."""

    def highest(top, j):
        return jnp.maximum(top, _shifted_sum(a, b, j))

    def add(sums, j):
        # As in numerics: what a lone top would round away is added up without it.
        e = _exp(_shifted_sum(a, b, j) - base)
        return sums[0] + e, sums[1] + numerics.rest_of(e)

    top = _over_shifts(highest, jnp.full_like(a, -jnp.inf))
    base = _finite(top)
    total, rest = _over_shifts(add, (jnp.zeros_like(a), jnp.zeros_like(a)))
    return top + numerics.exact_log_sum(jnp.maximum(total, 1), rest)


@_convolve.defjvp
def _convolve_jvp(primals, tangents):
    (a, b), (da, db) = primals, tangents
    out = _convolve(a, b)
    base = _finite(out)

    @jax.checkpoint  # C arrays of weights would be kept for the gradient
    def add(carry, j):
        total, da, db = carry  # carried, since JAX 0.7 transposes no loop around them
        weight = _exp(_shifted_sum(a, b, j) - base)
        return total + weight * _shifted_sum(da, db, j), da, db

    return out, _over_shifts(add, (jnp.zeros_like(out), da, db))[0]


def _over_shifts(function, start):
    size = jax.tree.leaves(start)[0].shape[-1]

    def step(carry, j):
        return function(carry, j), None

    # Four at once are faster on CPUs; more only take memory and time to compile.
    return jax.lax.scan(step, start, jnp.arange(size), unroll=min(size, 4))[0]


def _shifted_sum(a, b, j):
    """``a[(i - j) mod C] + b[j]`` over i."""
    twice = jnp.concatenate([a, a], -1)
    size, last = a.shape[-1], a.ndim - 1
    shifted = jax.lax.dynamic_slice_in_dim(twice, size - j, size, last)
    return shifted + jax.lax.dynamic_slice_in_dim(b, j, 1, last)


def _exp(below):
    """Exponentials of scores less their top, which may lie a rounding above itself."""
    # Of 1e30, too much for exp. As a constant, the rounding leaves the slope alone.
    return jnp.exp(below - jax.lax.stop_gradient(jnp.maximum(below, 0)))


def _finite(top):
    return jnp.where(top == -jnp.inf, 0, top)
