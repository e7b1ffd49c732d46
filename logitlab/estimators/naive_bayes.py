"""Gaussian naive Bayes with a shared variance: a linear probe without training."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike, DTypeLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range

__all__ = [
    "GaussianNBState",
    "gaussian_nb_init",
    "gaussian_nb_linear",
    "gaussian_nb_logits",
    "gaussian_nb_update",
]


class GaussianNBState(NamedTuple):
    """Running moments of each class.

    Attributes:
      count: examples of each class, integers, [K].
      mean: of each class and feature, [K, D].
      deviation: sum of squared deviations from that mean, [K, D].
    """

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count
    mean: jax.Array
    deviation: jax.Array


def gaussian_nb_init(
    num_classes: int, dim: int, *, dtype: DTypeLike | None = None
) -> GaussianNBState:
    """State without examples; ``dtype`` is JAX's default float unless given.

    The two sizes are shapes, so not traced.
    """
    for name, value in (("num_classes", num_classes), ("dim", dim)):
        if not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}, expected an integer from 1 on")
    table = jnp.zeros((num_classes, dim), float if dtype is None else dtype)
    return GaussianNBState(jnp.zeros(num_classes, int), table, table)


def gaussian_nb_update(
    state: GaussianNBState,
    x: ArrayLike,
    labels: ArrayLike,
    *,
    mask: ArrayLike | None = None,
) -> GaussianNBState:
    r"""Moments after another batch, the same as if all had come at once.

    .. math:: S = S_a + S_b + \frac{n_a n_b}{n_a + n_b} (\mu_a - \mu_b)^2

    Shapes: x [N, D], labels [N], mask [N] -> state

    Args:
      state: of ``gaussian_nb_init`` or the last update.
      x: features.
      labels: ints in ``[0, K)``. A class that is not in the batch keeps its moments.
      mask: bool, the examples that count; the label of another may be any integer.

    Raises:
      TypeError: ``x`` is not floating point, ``labels`` not integer, ``mask`` not bool.
      ValueError: wrong shapes, or a label of C or more; under ``jit``, where values are
        unknown, such a label turns the moments into NaN, as a negative one does.

    Numerics: relative error below 1e-5 of the largest feature; two passes per batch.

    Source: arXiv:2302.02334; Chan, Golub and LeVeque 1979.
    """
    count, mean, deviation = state
    x, y = (
        numerics.promote_to_float32(x, "x").astype(mean.dtype),
        numerics.wide_labels(labels),
    )
    if x.ndim != 2 or x.shape[1] != mean.shape[1]:
        raise ValueError(f"x has shape {x.shape}, expected [N, {mean.shape[1]}]")
    classes = mean.shape[0]
    keep = numerics.check_mask(mask, x.shape[:1])
    if mask is not None:
        y = jnp.where(keep, y, 0) if y.shape == keep.shape else y
    y, known = numerics.check_labels(y, x.shape[:1], classes)
    bad = jnp.where(known.all(), 0, jnp.nan).astype(x.dtype)
    x = jnp.where(keep[:, None], x, 0)

    def per_class(values):
        return jax.ops.segment_sum(values, y, classes)

    new = per_class(keep.astype(count.dtype))
    new_mean = per_class(x) / jnp.maximum(new, 1)[:, None].astype(x.dtype) + bad
    gap = jnp.where(keep[:, None], x - new_mean[y], 0)
    total = count + new
    share = new.astype(x.dtype) / jnp.maximum(total, 1).astype(x.dtype)
    share, shift = share[:, None], new_mean - mean
    merged = deviation + per_class(gap * gap)
    merged = merged + jnp.square(shift) * share * count.astype(x.dtype)[:, None]
    return GaussianNBState(total, mean + share * shift, merged)


def gaussian_nb_logits(
    state: GaussianNBState, x: ArrayLike, *, var_eps: float = 1e-9
) -> jax.Array:
    r"""Class logits of Gaussian naive Bayes with a shared variance.

    Use it as a linear probe of features, where a fit must take no iterations.

    .. math:: \log \pi_k - \frac{1}{2} \sum_f (x_f - \mu_{kf})^2 / v_f, \quad
        v = \sum_k \pi_k \mathrm{var}_k + \epsilon

    Shapes: x [..., D] -> [..., K]

    Args:
      state: of ``gaussian_nb_update``.
      x: features.
      var_eps: added to the variance; take 1e-6 in float32.

    Returns:
      The log of the joint density less what the classes share, in nats, in the state's
      dtype; ``-inf`` for a class without examples.

    Raises:
      TypeError: ``x`` is not floating point.
      ValueError: wrong shape, or ``var_eps`` below 0.

    Numerics: relative error below 1e-5 of the largest logit.

    Source: Revisiting Discriminative vs. Generative Classifiers, arXiv:2302.02334.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import gaussian_nb_init
    >>> from logitlab.estimators import gaussian_nb_logits, gaussian_nb_update
    >>> state = gaussian_nb_init(2, 1)
    >>> x = jnp.float32([[0], [2], [4], [6]])
    >>> state = gaussian_nb_update(state, x, jnp.array([0, 0, 1, 1]))
    >>> logits = gaussian_nb_logits(state, jnp.float32([1]))
    >>> print((logits[0] - logits[1]).round(4))
    8.0
    """
    log_prior, v = _prior_and_variance(state, var_eps)
    x = numerics.promote_to_float32(x, "x").astype(v.dtype)
    if x.ndim == 0 or x.shape[-1] != v.shape[0]:
        raise ValueError(f"x has shape {x.shape}, expected [..., {v.shape[0]}]")
    rank = (1,) * (x.ndim - 1)
    gap = x[..., None, :] - state.mean.reshape(*rank, *state.mean.shape)
    distance = jnp.sum(gap * gap / v.reshape(*rank, 1, -1), -1)
    return log_prior.reshape(*rank, -1) - distance / 2


def gaussian_nb_linear(
    state: GaussianNBState, *, var_eps: float = 1e-9
) -> tuple[jax.Array, jax.Array]:
    r"""Gaussian naive Bayes as a linear head: ``x @ w.T + b``.

    .. math:: w_k = \mu_k / v, \quad
        b_k = \log \pi_k - \frac{1}{2} \sum_f \frac{\mu_{kf}^2}{v_f}

    Shapes: state -> w [K, D], b [K]

    Returns:
      ``(w, b)``, whose logits differ from ``gaussian_nb_logits`` by a number that all
      classes share; b is ``-inf`` for a class without examples.

    Source: arXiv:2302.02334.
    """
    log_prior, v = _prior_and_variance(state, var_eps)
    w = state.mean / v[None]
    return w, log_prior - jnp.sum(w * state.mean, -1) / 2


def _prior_and_variance(state, var_eps):
    check_range("var_eps", var_eps, lambda v: v >= 0, "a number from 0 on")
    count, _, deviation = state
    dtype = deviation.dtype
    total = jnp.maximum(count.sum(), 1).astype(dtype)
    log_prior = jnp.log(jnp.maximum(count, 1).astype(dtype) / total)
    log_prior = jnp.where(count == 0, -jnp.inf, log_prior)
    return log_prior, deviation.sum(0) / total + jnp.asarray(var_eps, dtype)
