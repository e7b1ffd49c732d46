"""Fenchel-Young losses: the objectives that sparse links are trained with."""

from __future__ import annotations

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import links, numerics
from logitlab.numerics.arguments import check_number, one_hot_mask

__all__ = ["fenchel_young_loss", "fenchel_young_max_loss"]


def fenchel_young_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: float = 1.5,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Fenchel-Young loss of a Tsallis entropy: softmax, entmax or sparsemax loss.

    Use it when probabilities should be sparse: it trains sparsemax and entmax.

    .. math:: \ell = m \, \Omega^*(z) + \Omega(q) - z \cdot q, \quad
        \Omega(q) = \sum_c \frac{q_c^\alpha - q_c}{\alpha (\alpha - 1)}, \quad
        \nabla_z \ell = m p - q, \quad p = \mathrm{entmax}_\alpha(z)

    with the label's mass :math:`m = \sum_c q_c`, which is 1 for a distribution.
    ``alpha=1`` is the cross-entropy less the label's entropy, 1.5 the entmax loss, 2
    the sparsemax loss; ``alpha=inf``, where :math:`\Omega = 0`, the perceptron's. From
    ``alpha > 1`` on the loss *is* 0 beyond a margin of ``1 / (alpha - 1)``.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or floats of the logits' shape, distributions over the
        class axis, which get their own gradient; of another mass they count as a
        distribution of that weight, up to the entropy of the weight.
      alpha: a number of at least 1; may be ``inf``. Not traced, for it decides which
        program runs: the softmax, a closed form or a series.
      axis: the class axis of ``logits``, ``where`` and a distribution.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss, float32 (float64 for float64 logits); in nats for ``alpha=1``. 0 where
      every class is hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), or
        ``alpha`` below 1.

    Numerics: for integer labels relative error below 1e-5, value and gradient, up to a
      distance of 1e-2 from the margin where the loss ends (1e-4 for ``alpha=1.1``, with
      probabilities that fall like a tenth power). For distributions too with
      ``alpha=1``, and then for margins up to 80; with others the value's error is that
      of one float32 addition per class.

    Source: Blondel, Martins and Niculae 2020, arXiv:1901.02324; entmax: Peters, Niculae
      and Martins 2019, arXiv:1905.05702.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import fenchel_young_loss
    >>> fenchel_young_loss(jnp.float32([0.5, 0]), 0, alpha=2.0)
    Array(0.0625, dtype=float32)
    """
    check_number("alpha", alpha, "at least 1")
    if isinstance(alpha, jax.core.Tracer) or not alpha >= 1:
        raise ValueError(f"alpha is {alpha}, expected a number of at least 1")
    alpha = float(alpha)
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    if jnp.issubdtype(jnp.result_type(labels), jnp.floating):
        q = jnp.moveaxis(_of_shape(labels, jnp.shape(logits)), axis, -1).astype(z.dtype)
        loss = _perceptron(z, q) if alpha == math.inf else _against_mass(alpha, z, q)
        return jnp.where(jnp.max(z, -1) == -jnp.inf, 0, loss)
    if alpha == 1:
        return numerics.label_nll(z, labels)
    is_label, known = one_hot_mask(z, labels)
    if alpha == math.inf:
        loss = _perceptron(z, is_label.astype(z.dtype))
    else:
        loss = _against_label(alpha, z, is_label)
    loss = jnp.where(jnp.max(z, -1) == -jnp.inf, 0, loss)
    return jnp.where(known, loss, jnp.nan)


def fenchel_young_max_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    max_fun: Callable[[jax.Array], jax.Array],
    omega: Callable[[jax.Array], jax.Array] | None = None,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Fenchel-Young loss of any regularised maximum, given as a function.

    Use it when you have a regularized maximum function of your own.

    .. math:: \ell = \Omega^*(z) + \Omega(y) - z \cdot y, \quad
        \Omega^*(z) = \max_y z \cdot y - \Omega(y), \quad
        \nabla_z \ell = \nabla \Omega^*(z) - y

    For structured or perturbed predictions, whose maximum is all that one can compute.
    For softmax, entmax and sparsemax, :func:`fenchel_young_loss` knows more.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or floats of the logits' shape: any vectors of the set
        that the maximum is taken over, such as distributions.
      max_fun: :math:`\Omega^*`, from [C] to one number. Hidden classes come to it at
        ``-inf``. For integer labels it has to be a maximum over distributions, so that
        a number added to all scores is added to the result.
      omega: :math:`\Omega`, from [C] to one number. Without it the loss lacks a
        constant of the labels, which has no gradient in the logits.
      axis: the class axis of ``logits``, ``where`` and labels of that shape.
      where: bool, the classes that take part. Hiding an integer label costs ``inf``.

    Returns:
      The loss, float32 (float64 for float64 logits). 0 where every class is hidden.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: wrong label shape, or a label of C or more (NaN under ``jit``).

    Numerics: for integer labels scores are measured from the label's, so that a common
      offset costs nothing, and the slope of the label is minus the sum of the others;
      value and gradient are as exact as ``max_fun`` is.

    Source: Blondel, Martins and Niculae 2020, arXiv:1901.02324.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.losses import fenchel_young_max_loss
    >>> z = jnp.float32([2, 1, 0])
    >>> print(fenchel_young_max_loss(z, 0, max_fun=jax.nn.logsumexp).round(4))
    0.4076
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    top = jnp.vectorize(max_fun, signature="(n)->()")
    empty = jnp.max(z, -1) == -jnp.inf
    z = jnp.where(empty[..., None], 0, z)
    if jnp.issubdtype(jnp.result_type(labels), jnp.floating):
        y = jnp.moveaxis(_of_shape(labels, jnp.shape(logits)), axis, -1).astype(z.dtype)
        inner = jnp.where(y == 0, 0, y * jnp.where(y == 0, 0, z))
        loss, known = top(z) - jnp.sum(inner, -1), True
    else:
        label, known = one_hot_mask(z, labels)
        hidden = label & (z == -jnp.inf)
        score = jnp.sum(jnp.where(label & ~hidden, z, 0), -1, keepdims=True)
        d = z - score
        loss = top(jnp.where(label & ~hidden, 0, d))
        loss = loss + jnp.where(jnp.any(hidden, -1), jnp.inf, 0)
        y = label.astype(z.dtype)
    if omega is not None:
        loss = loss + jnp.vectorize(omega, signature="(n)->()")(y)
    return jnp.where(known, jnp.where(empty, 0, loss), jnp.nan)


def _of_shape(labels, shape):
    q = numerics.promote_to_float32(labels, "labels")
    if q.shape != shape:
        raise ValueError(
            f"labels has shape {q.shape}, expected {shape} for a distribution over "
            "classes"
        )
    return q


def _perceptron(z, q):
    z = jnp.where(z == -jnp.inf, -jnp.inf, z)  # no gradient for a hidden label
    fixed = jax.lax.stop_gradient(z)
    # `jnp.max` has no gradient where a program computes the scores twice and the top
    # one is not itself. Ties share it.
    best = jnp.max(fixed, -1, keepdims=True)
    lead = numerics.is_label(z, jnp.argmax(fixed, -1))
    ties = (lead | (fixed >= best)) & (fixed > -jnp.inf)
    count = jnp.sum(ties, -1, keepdims=True, dtype=z.dtype)
    moves = jnp.where(ties, z, 0) - jnp.where(ties, fixed, 0)
    top = best + jnp.sum(moves / jnp.maximum(count, 1), -1, keepdims=True)
    free = (q == 0) | (lead & (count == 1))
    behind = jnp.where(free, 0, jnp.where(free, 0, top) - jnp.where(free, 0, z))
    return jnp.sum(q * behind, -1)


def _against_label(alpha, z, is_label):
    log_p, u, _ = _score_above_threshold(alpha, z)
    others = jnp.sum(jnp.where(is_label, 0, jnp.exp(alpha * log_p)), -1)
    return others / alpha + _label_part(alpha, _at(is_label, u))


def _label_part(alpha, u):
    """``(p^alpha - 1) / alpha - u`` for ``p = exp_alpha(u)``, and ``u`` up to 0.

    It is the integral of ``p - 1`` from 0 on, a series that starts with ``u^2 / 2`` and
    ends there for ``alpha=2``, with the next term for 1.5.
    """
    series, term = jnp.zeros_like(u), jnp.ones_like(u)
    ends = alpha in (1.5, 2.0)
    near = u > (-1 / (alpha - 1) if ends else -0.1 / max(1, alpha - 1))
    inner = jnp.where(near, u, 0)
    term = inner * inner / 2
    for n in range(2, 4 if ends else 16):
        series = series + term
        term = term * inner * (1 - (alpha - 1) * (n - 1)) / (n + 1)
    outer = jnp.where(near, -1, u)
    t = jnp.maximum((alpha - 1) * outer, -1)
    log_p = jnp.where(t > -1, jnp.log1p(jnp.where(t > -1, t, 0)), -jnp.inf)
    far = jnp.expm1(log_p * (alpha / (alpha - 1))) / alpha - outer
    return jnp.where(near, series, far)


def _against_mass(alpha, z, q):
    log_p, u, low = _score_above_threshold(alpha, z)
    hidden = z == -jnp.inf
    gain = _tsallis_log(alpha, q) / alpha - jnp.where(hidden, low, u)
    cost = _excess(alpha * log_p, q) / alpha + q * gain
    lost = jnp.any(hidden & (q > 0), -1)
    return jnp.where(lost, jnp.inf, 0) + jnp.sum(cost, -1)


def _excess(log_p, q):
    """``m p - q`` for labels of mass ``m``; a lone label's is known exactly."""
    mass = jnp.sum(q, -1, keepdims=True)
    some = q > 0
    ratio = log_p + jnp.log(jnp.where(mass > 0, mass, 1))
    ratio -= jnp.log(jnp.where(some, q, 1))
    near = some & (ratio < 1)  # beyond, nothing cancels
    return jnp.where(
        near,
        q * jnp.expm1(jnp.where(near, ratio, 0)),
        mass * jnp.exp(log_p) - q,
    )


def _score_above_threshold(alpha, z):
    """Log-probabilities, ``z - lambda``, of which they are ``log(exp_alpha)``, and
    ``-lambda``."""
    z = jnp.where(z == -jnp.inf, -jnp.inf, z)  # no gradient for a hidden label
    log_p = links.entmax(z, alpha=alpha)
    some = log_p > -jnp.inf
    inside = jnp.where(some, log_p, 0)
    if alpha > 1:
        inside = jnp.expm1((alpha - 1) * inside) / (alpha - 1)
    # The top score, chosen by its index: where a program computes the scores twice, it
    # need not equal itself.
    lead = numerics.is_label(z, jnp.argmax(z, -1)) & some
    low = jnp.sum(jnp.where(lead, inside, 0) - jnp.where(lead, z, 0), -1, keepdims=True)
    return log_p, jnp.where(some, inside, z + low), low


def _tsallis_log(alpha, q):
    """``(q^(alpha - 1) - 1) / (alpha - 1)``; 0 for a class without mass at alpha 1."""
    log_q = jnp.where(q > 0, jnp.log(jnp.where(q > 0, q, 1)), 0)
    if alpha == 1:
        return log_q
    inside = jnp.expm1((alpha - 1) * log_q)
    return jnp.where(q > 0, inside, -1) / (alpha - 1)


def _at(is_label, values):
    return jnp.sum(jnp.where(is_label, values, 0), -1)
