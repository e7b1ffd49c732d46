"""PRESTO: ordinal regression whose thresholds share most of their weights."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import losses, numerics, optim
from logitlab.estimators._examples import feature_rows
from logitlab.numerics.arguments import check_range

__all__ = ["PrestoFit", "fit_presto", "presto_lambda_max", "presto_logits"]


class PrestoFit(NamedTuple):
    """A fitted ordinal model.

    Attributes:
      intercepts: alpha, one for each threshold, [K - 1].
      coefficients: beta, in units of the features as they came, [K - 1, D].
      psi: first block and differences of the weights of the standardised features, the
        numbers that are penalised and may be exactly 0, [K - 1, D].
      objective: mean negative log-likelihood plus the penalty.
      steps: proximal gradient steps taken.
      change: what the last step moved the largest number by.
    """

    intercepts: jax.Array
    coefficients: jax.Array
    psi: jax.Array
    objective: jax.Array
    steps: jax.Array
    change: jax.Array


def presto_logits(fit: PrestoFit, x: ArrayLike) -> jax.Array:
    r"""Cumulative logits of a fitted model, for ``transforms.cumulative_probs``.

    .. math:: \eta_k = \alpha_k + x^T \beta_k

    Shapes: x [..., D] -> [..., K - 1]

    Raises:
      TypeError: ``x`` is not floating point.
      ValueError: ``x`` has another number of features.
    """
    x = numerics.promote_to_float32(x, "x")
    dim = fit.coefficients.shape[-1]
    if x.shape[-1:] != (dim,):
        raise ValueError(f"x has shape {x.shape}, expected [..., {dim}]")
    scores = x @ fit.coefficients.T
    return scores + fit.intercepts.reshape((1,) * (x.ndim - 1) + (-1,))


def fit_presto(
    x: ArrayLike,
    labels: ArrayLike,
    num_classes: int,
    lam: ArrayLike,
    *,
    l1: ArrayLike = 1.0,
    l2: ArrayLike = 0.0,
    penalize_first: bool = True,
    p_min: ArrayLike = 1e-8,
    max_steps: int = 5000,
    tol: ArrayLike | None = None,
) -> PrestoFit:
    r"""Fits PRESTO: penalised maximum likelihood of an ordinal model.

    .. math:: -\frac{1}{n} \sum_i \log(\sigma(\eta_{i, y_i + 1})
        - \sigma(\eta_{i, y_i})) + \lambda \Bigl(l_1 \sum_k \|\psi_k\|_1
        + \frac{l_2}{2} \sum_k \|\psi_k\|_2^2 \Bigr)

    by accelerated proximal gradient with backtracking and restarts, from the empirical
    cumulative logits. Features are standardised first. A large ``lam`` leaves the class
    shares, with ``penalize_first=False`` proportional odds; 0 is a model for each
    threshold. Choose ``lam`` on a grid of 20 from ``presto_lambda_max`` down to its
    hundredth, by the Brier score on held-out examples, as the paper does.

    Jit with ``num_classes`` and ``penalize_first`` static; ``lam`` may be traced, so a
    grid is one program (``jax.lax.map``).

    Shapes: x [N, D], labels [N] -> fit

    Args:
      x: features; a constant one gets no weight.
      labels: ints in ``[0, num_classes)``. A class without examples is fine.
      num_classes: K, 2 or more; not traced, as it is a shape.
      lam: lambda, at least 0.
      l1: weight of the absolute values; 0 with ``l2=1`` is the ridge form.
      l2: weight of half the squares.
      penalize_first: shrink the weights of the first threshold too, as the released
        code does.
      p_min: the floor of probabilities, see ``losses.cumulative_logit_loss``.
      max_steps: at most so many steps.
      tol: stop when no number moves by more; 1e-6, for float64 1e-10, if None.

    Returns:
      A ``PrestoFit`` of float32 arrays (float64 for float64 features).

    Raises:
      TypeError: ``x`` is not floating point or ``labels`` not integer.
      ValueError: wrong shapes, fewer than 2 classes, no examples, a label of C or more
        (then the fit is NaN under ``jit``), or a negative ``lam``, ``l1`` or ``l2``.

    Source: Faletto and Bien, ICML 2023, github.com/gregfaletto/presto. The restarts and
      the stopping rule are ours.
    """
    check_range("lam", lam, lambda v: v >= 0, "at least 0")
    check_range("l1", l1, lambda v: v >= 0, "at least 0")
    check_range("l2", l2, lambda v: v >= 0, "at least 0")
    data = _prepare(x, labels, num_classes)
    dtype = data.x.dtype
    if tol is None:
        tol = 1e-10 if dtype == jnp.float64 else 1e-6
    lam, l1, l2 = (jnp.asarray(a, dtype) for a in (lam, l1, l2))
    smooth = functools.partial(_mean_loss, data=data, p_min=p_min)

    def proximal(w, t):
        step = optim.fused_soft_threshold(
            t, l1=lam * l1, l2=lam * l2, penalize_first=penalize_first
        )
        psi = w[1]
        still = jnp.zeros_like(psi)
        return w[0], psi + step.update(still, step.init(psi), psi)[0]

    start = (data.alpha, jnp.zeros((num_classes - 1, data.x.shape[1]), dtype))
    (alpha, psi), steps, change = _minimize(smooth, proximal, start, max_steps, tol)
    penalty = losses.presto_penalty(psi, l1=l1, l2=l2, penalize_first=penalize_first)
    objective = smooth((alpha, psi)) + lam * penalty
    beta = jnp.cumsum(psi, 0) / data.scale
    return PrestoFit(
        alpha - jnp.sum(beta * data.shift, -1), beta, psi, objective, steps, change
    )


def _minimize(smooth, proximal, start, max_steps, tol):
    """Minimizer by accelerated proximal gradient, its steps and its last change."""

    def unfinished(carry):
        _, _, _, _, k, change = carry
        return (k < max_steps) & (change > tol)

    def step(carry):
        w, ahead, inertia, t, k, _ = carry
        t, new = _descend(smooth, proximal, ahead, t)
        moved = jax.tree.map(jnp.subtract, new, w)
        back = jax.tree.map(jnp.subtract, ahead, new)
        inertia = jnp.where(_dot(back, moved) > 0, 1, inertia)  # uphill: start over
        faster = (1 + jnp.sqrt(1 + 4 * inertia**2)) / 2
        push = (inertia - 1) / faster
        ahead = jax.tree.map(lambda a, d: a + push * d, new, moved)
        change = functools.reduce(
            jnp.maximum, [jnp.abs(a).max(initial=0) for a in (*moved, *back)]
        )
        return new, ahead, faster, t, k + 1, change

    one = jnp.ones((), start[0].dtype)
    carry: tuple = (start, start, one, 4 * one, 0, jnp.inf * one)
    new, _, _, _, steps, change = jax.lax.while_loop(unfinished, step, carry)
    return new, steps, change


def _descend(smooth, proximal, w, t):
    """A step from w with the largest t, halved, that the quadratic bound allows."""
    value, slope = jax.value_and_grad(smooth)(w)
    slack = 4 * jnp.finfo(value.dtype).eps * (1 + jnp.abs(value))

    def trial(t):
        new = proximal(jax.tree.map(lambda a, g: a - t * g, w, slope), t)
        gap = jax.tree.map(jnp.subtract, new, w)
        bound = value + _dot(slope, gap) + _dot(gap, gap) / (2 * t)
        return new, smooth(new) <= bound + slack

    def again(carry):
        t, _, fine = carry
        return ~fine & (t > 1e-12)

    def halve(carry):
        t = carry[0] / 2
        return t, *trial(t)

    t, new, _ = jax.lax.while_loop(again, halve, (t, *trial(t)))
    return t, new


def presto_lambda_max(x: ArrayLike, labels: ArrayLike, num_classes: int) -> jax.Array:
    r"""Smallest ``lam`` of ``fit_presto`` with all weights 0, for ``l1=1``.

    Use it as the upper end of a grid for ``lam``.

    .. math:: \max_{k, d} \Bigl| \frac{\partial}{\partial \psi_{kd}} \frac{1}{n}
        \sum_i \ell_i \Bigr|

    at the class shares. A class without examples makes it approximate.

    Shapes: x [N, D], labels [N] -> []

    Raises:
      TypeError: ``x`` is not floating point or ``labels`` not integer.
      ValueError: wrong shapes, fewer than 2 classes, no examples or a label out of
        range.
    """
    data = _prepare(x, labels, num_classes)
    psi = jnp.zeros((num_classes - 1, data.x.shape[1]), data.x.dtype)
    slope = jax.grad(lambda psi: _mean_loss((data.alpha, psi), data=data, p_min=0.0))
    return jnp.abs(slope(psi)).max(initial=0)


class _Data(NamedTuple):
    x: jax.Array  # standardised
    labels: jax.Array
    known: jax.Array
    shift: jax.Array
    scale: jax.Array
    alpha: jax.Array  # empirical cumulative logits


def _prepare(x, labels, num_classes):
    if not isinstance(num_classes, int) or num_classes < 2:
        raise ValueError(f"num_classes is {num_classes!r}, expected an integer from 2")
    x = feature_rows(x)
    y, known = numerics.check_labels(labels, x.shape[:1], num_classes)
    shift = x.mean(0, keepdims=True)
    spread = jnp.sqrt(jnp.square(x - shift).mean(0, keepdims=True))
    # A constant feature is rounding noise around its mean.
    noise = 8 * jnp.finfo(x.dtype).eps * jnp.abs(shift)
    scale = jnp.where(spread > noise, spread, 1)
    z = jnp.where(spread > noise, (x - shift) / scale, 0)
    share = jnp.cumsum(jnp.bincount(y, length=num_classes))[:-1] / x.shape[0]
    share = jnp.clip(share.astype(x.dtype), 1e-4, 1 - 1e-4)
    alpha = jnp.log(share) - jnp.log1p(-share)
    return _Data(z, y, known.all(), shift, scale, alpha)


def _mean_loss(w, *, data, p_min):
    alpha, psi = w
    eta = data.x @ jnp.cumsum(psi, 0).T + alpha[None]
    value = losses.cumulative_logit_loss(eta, data.labels, p_min=p_min).mean()
    return jnp.where(data.known, value, jnp.nan)


def _dot(a, b):
    return sum(jnp.vdot(x, y) for x, y in zip(a, b, strict=True))
