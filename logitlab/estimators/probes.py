"""Linear classifiers of features that stay as they are."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from logitlab import losses, numerics
from logitlab.estimators._examples import feature_rows
from logitlab.numerics.arguments import check_count, hyper

__all__ = [
    "LinearClassifier",
    "fit_logistic",
    "linear_logits",
    "linear_probe",
    "mean_pool",
]


class LinearClassifier(NamedTuple):
    """A fitted logistic regression.

    Attributes:
      kernel: [D, C], of features as they came.
      bias: [C].
      slope: largest derivative of the objective where the fit ended, in the features
        that it saw.
      steps: of L-BFGS.
    """

    kernel: jax.Array
    bias: jax.Array
    slope: jax.Array
    steps: jax.Array


def fit_logistic(
    x: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    l2: ArrayLike,
    mask: ArrayLike | None = None,
    max_steps: int = 200,
    tol: ArrayLike | None = None,
) -> LinearClassifier:
    r"""Logistic regression with a penalty, by L-BFGS.

    Use it as a baseline, on standardized features, or as a head on features of a
    network; ``linear_probe`` standardizes them.

    .. math:: \frac{1}{n} \sum_i \ell(x_i W + b, y_i) + \frac{l_2}{2} \|W\|^2

    with the cross-entropy of a softmax. Two classes share one column of W, that of
    class 1, and class 0 has the logit 0, as in scikit-learn; more have one each.

    Shapes: x [N, D], labels [N], mask [N] -> ([D, C], [C], [], [])

    Args:
      x: features.
      labels: ints in ``[0, num_classes)``. A class may lack examples: its bias then
        falls until the fit stops.
      num_classes: C, 2 or more; not traced, as it is a shape.
      l2: at least 0; ``1 / (C n)`` for scikit-learn's C. Without it, labels that can be
        separated have no best fit. May be traced, so that a grid is one program.
      mask: bool, the examples that take part.
      max_steps: the most there are.
      tol: largest slope at which to stop; 1e-5, for float64 1e-9, if None.

    Returns:
      ``LinearClassifier``, float32 (float64 for float64 features).

    Raises:
      TypeError: ``x`` is not floating point, ``labels`` not integer, or ``mask`` not
        bool.
      ValueError: wrong shapes, no examples, fewer than 2 classes, a negative ``l2``, or
        a label of C or more (then the fit is NaN under ``jit``).

    Source: Cox 1958; L-BFGS, Liu and Nocedal 1989.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import fit_logistic, linear_logits
    >>> x, labels = jnp.float32([[-1], [-2], [1], [2]]), jnp.array([0, 0, 1, 1])
    >>> fit = fit_logistic(x, labels, num_classes=2, l2=0.1)
    >>> linear_logits(fit, jnp.float32([[-3], [3]])).argmax(-1)
    Array([0, 1], dtype=int32)
    """
    x, y, keep = _examples(x, labels, num_classes, mask, "x")
    penalty = hyper("l2", l2, x.dtype, lambda v: v >= 0, "at least 0")
    return _fit(x, y, keep, num_classes, penalty, max_steps, tol)


def linear_logits(fit: LinearClassifier, x: ArrayLike) -> jax.Array:
    r"""Logits of a fitted linear classifier.

    .. math:: z = x W + b

    Shapes: x [..., D] -> [..., C]

    Raises:
      TypeError: ``x`` is not floating point.
      ValueError: ``x`` has another number of features.
    """
    x = numerics.promote_to_float32(x, "x").astype(fit.kernel.dtype)
    dim = fit.kernel.shape[0]
    if x.shape[-1:] != (dim,):
        raise ValueError(f"x has shape {x.shape}, expected [..., {dim}]")
    z = x @ fit.kernel
    return z + fit.bias.reshape((1,) * (z.ndim - 1) + (-1,))


def linear_probe(
    features: ArrayLike,
    labels: ArrayLike,
    *,
    num_classes: int,
    l2: ArrayLike = 1e-3,
    standardize: bool = True,
    mask: ArrayLike | None = None,
    max_steps: int = 200,
    tol: ArrayLike | None = None,
) -> LinearClassifier:
    """Logistic regression on frozen features, to say how much they know of the labels.

    Use it to compare layers, networks or embeddings with each other, on held-out
    examples. ``fit_logistic`` on features with mean 0 and deviation 1, the result in
    units of the features as they came.

    Shapes: features [N, D], labels [N], mask [N] -> ([D, C], [C], [], [])

    Args:
      features: of a network, such as ``mean_pool`` of its states.
      labels: ints in ``[0, num_classes)``.
      num_classes: C, 2 or more; not traced.
      l2: penalty of the weights of the standardized features, at least 0.
      standardize: whether to do so; a feature that is constant gets no weight.
      mask: bool, the examples that take part, also in mean and deviation.
      max_steps: see ``fit_logistic``.
      tol: see ``fit_logistic``.

    Returns:
      ``LinearClassifier``, for ``linear_logits`` of features as they come.

    Raises:
      TypeError: see ``fit_logistic``.
      ValueError: see ``fit_logistic``.

    Source: Alain and Bengio 2016, arXiv:1610.01644; BERT or FastText? 2024,
      arXiv:2411.17661.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import linear_logits, linear_probe
    >>> x, labels = jnp.float32([[11], [12], [14], [15]]), jnp.array([0, 0, 1, 1])
    >>> fit = linear_probe(x, labels, num_classes=2)
    >>> linear_logits(fit, x).argmax(-1)
    Array([0, 0, 1, 1], dtype=int32)
    """
    x, y, keep = _examples(features, labels, num_classes, mask, "features")
    penalty = hyper("l2", l2, x.dtype, lambda v: v >= 0, "at least 0")
    if not standardize:
        return _fit(x, y, keep, num_classes, penalty, max_steps, tol)
    shift, scale, varies = _scales(x, keep)
    z = jnp.where(keep[:, None] & varies, (x - shift) / scale, 0)
    fit = _fit(z, y, keep, num_classes, penalty, max_steps, tol)
    kernel = jnp.where(varies, 1 / scale, 0).T * fit.kernel
    return fit._replace(kernel=kernel, bias=fit.bias - (shift @ kernel)[0])


def mean_pool(states: ArrayLike, mask: ArrayLike | None = None) -> jax.Array:
    r"""Mean of a sequence's states, as one vector of features for it.

    Use it before ``linear_probe``.

    .. math:: \frac{\sum_t m_t h_t}{\sum_t m_t}

    Shapes: states [..., T, D], mask [..., T] -> [..., D]

    Args:
      states: of the tokens, of any layer.
      mask: bool, the tokens that count; the states of others may be NaN.

    Returns:
      float32 (float64 for float64 states); 0 where no token counts.

    Raises:
      TypeError: ``states`` is not floating point, or ``mask`` not bool.
      ValueError: ``states`` has fewer than two axes, or ``mask`` another shape.

    Source: BERT or FastText? 2024, arXiv:2411.17661.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import mean_pool
    >>> states = jnp.float32([[1, 2], [3, 4], [9, 9]])
    >>> mean_pool(states, jnp.array([True, True, False]))
    Array([2., 3.], dtype=float32)
    """
    h = numerics.promote_to_float32(states, "states")
    if h.ndim < 2:
        raise ValueError(f"states has shape {h.shape}, expected [..., T, D]")
    keep = numerics.check_mask(mask, h.shape[:-1])[..., None]
    total = jnp.sum(jnp.where(keep, h, 0), -2)
    return total / jnp.maximum(keep.sum(-2), 1).astype(h.dtype)


def _examples(x, labels, num_classes, mask, name):
    check_count("num_classes", num_classes, 2)
    x = feature_rows(x, name)
    keep = numerics.check_mask(mask, x.shape[:1])
    y = numerics.wide_labels(labels)
    if mask is not None and y.shape == keep.shape:
        y = jnp.where(keep, y, 0)
    y, known = numerics.check_labels(y, x.shape[:1], num_classes)
    x = jnp.where(keep[:, None], x, 0)
    return jnp.where(known.all(), x, jnp.nan), y, keep


def _scales(x, keep):
    """Means, deviations, and the features that are more than rounding noise, [1, D]."""
    many = jnp.maximum(keep.sum(), 1).astype(x.dtype)
    shift = x.sum(0, keepdims=True) / many  # rows that are left out are 0
    gaps = jnp.where(keep[:, None], x - shift, 0)
    scale = jnp.sqrt(jnp.square(gaps).sum(0, keepdims=True) / many)
    varies = ~(scale <= 8 * jnp.finfo(x.dtype).eps * jnp.abs(shift))
    return shift, jnp.where(varies, scale, 1), varies


@functools.partial(jax.jit, static_argnums=(3, 5))
def _fit(x, y, keep, num_classes, l2, max_steps, tol):
    if tol is None:
        tol = 1e-9 if x.dtype == jnp.float64 else 1e-5
    columns = 1 if num_classes == 2 else num_classes
    start = jnp.zeros((x.shape[1], columns), x.dtype), jnp.zeros(columns, x.dtype)

    def full(params):
        if columns > 1:
            return params
        return tuple(jnp.concatenate([jnp.zeros_like(a), a], -1) for a in params)

    def objective(params):
        kernel, bias = full(params)
        values = losses.cross_entropy(x @ kernel + bias[None], y)
        penalty = jnp.square(params[0]).sum() * l2 / 2
        return numerics.masked_mean(values, keep) + penalty

    solver = optax.lbfgs()
    value_and_grad = optax.value_and_grad_from_state(objective)

    def update(carry):
        params, state, _, count = carry
        value, grad = value_and_grad(params, state=state)
        updates, state = solver.update(
            grad, state, params, value=value, grad=grad, value_fn=objective
        )
        params = optax.apply_updates(params, updates)
        return params, state, optax.tree.norm(grad, ord=jnp.inf), count + 1

    def unfinished(carry):
        return (carry[2] > tol) & (carry[3] < max_steps)

    carry = start, solver.init(start), jnp.asarray(jnp.inf, x.dtype), 0
    params, _, slope, steps = jax.lax.while_loop(unfinished, update, carry)
    return LinearClassifier(*full(params), slope, steps)
