"""Fenchel-Young losses: the objectives that sparse links are trained with."""

import functools
import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import links, numerics
from logitlab.losses import rows
from logitlab.losses.labels import label_mask

__all__ = ["fenchel_young_loss"]


def fenchel_young_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    alpha: float = 1.5,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Fenchel-Young loss of a Tsallis entropy: softmax, entmax or sparsemax loss.

    .. math:: \ell = \Omega^*(z) + \Omega(q) - z \cdot q, \quad \Omega = -H_\alpha,
        \quad \nabla_z \ell = p - q, \quad p = \mathrm{entmax}_\alpha(z)

    ``alpha=1`` is the cross-entropy less the label's entropy, 1.5 the entmax loss, 2
    the sparsemax loss; ``alpha=inf``, where :math:`\Omega = 0`, the perceptron's. From
    ``alpha > 1`` on the loss *is* 0 beyond a margin of ``1 / (alpha - 1)``.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or floats of the logits' shape, distributions over the
        class axis, which get their own gradient.
      alpha: a number of at least 1, not traced; may be ``inf``.
      axis: the class axis of ``logits``, ``where`` and a distribution.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss, float32 (float64 for float64 logits); in nats for ``alpha=1``. 0 where
      every class is hidden.

    Raises:
      ValueError: wrong label shape, a label out of range (NaN under ``jit``), or
        ``alpha`` below 1.

    Numerics: for integer labels relative error below 1e-5, value and gradient, up to a
      distance of 1e-2 from the margin where the loss ends (1e-4 for ``alpha=1.1``, with
      probabilities that fall like a tenth power). For distributions the error is that
      of one float32 addition per class.

    Source: Blondel, Martins and Niculae 2020, arXiv:1901.02324; entmax: Peters, Niculae
      and Martins 2019, arXiv:1905.05702.

    >>> fenchel_young_loss(jnp.float32([0.5, 0]), 0, alpha=2.0)
    Array(0.0625, dtype=float32)
    """
    if isinstance(alpha, jax.core.Tracer) or not alpha >= 1:
        raise ValueError(f"alpha is {alpha}, expected a number of at least 1")
    alpha = float(alpha)
    z = numerics.class_axis_last(logits, axis=axis, where=where)
    if jnp.issubdtype(jnp.result_type(labels), jnp.floating):
        q = numerics.promote(labels, "labels")
        if q.shape != jnp.shape(logits):
            raise ValueError(
                f"labels has shape {q.shape}, expected {jnp.shape(logits)} for a "
                "distribution over classes"
            )
        q = jnp.moveaxis(q, axis, -1).astype(z.dtype)
        loss = _perceptron(z, q) if alpha == math.inf else _against_mass(alpha, z, q)
        return jnp.where(jnp.max(z, -1) == -jnp.inf, 0, loss)
    if alpha == 1:
        return numerics.label_nll(z, labels)
    is_label, known = label_mask(z, labels)
    if alpha == math.inf:
        loss = _perceptron(z, is_label.astype(z.dtype))
    else:
        loss = _against_label(alpha, z, is_label)
    loss = jnp.where(jnp.max(z, -1) == -jnp.inf, 0, loss)
    return jnp.where(known, loss, jnp.nan)


def _perceptron(z, q):
    z = jnp.where(z == -jnp.inf, -jnp.inf, z)  # no gradient for a hidden label
    top = jnp.max(z, -1, keepdims=True)
    behind = jnp.where(q == 0, 0, jnp.where(q == 0, 0, top) - jnp.where(q == 0, 0, z))
    return jnp.sum(q * behind, -1)


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _against_label(alpha, z, is_label):
    log_p, u = _score_above_threshold(alpha, z)
    others = jnp.sum(jnp.where(is_label, 0, jnp.exp(alpha * log_p)), -1)
    return others / alpha + _label_part(alpha, _at(is_label, u))


@_against_label.defjvp
def _against_label_jvp(alpha, primals, tangents):
    (z, is_label), (dz, _) = primals, tangents
    log_p = links.entmax(z, alpha=alpha)
    # p_y - 1 is the small number that matters; it is known without a subtraction.
    slope = jnp.where(is_label, jnp.expm1(log_p), jnp.exp(log_p))
    dz = jnp.where(z == -jnp.inf, 0, dz)
    return _against_label(alpha, z, is_label), jnp.sum(slope * dz, -1)


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


@functools.partial(jax.custom_jvp, nondiff_argnums=(0,))
def _against_mass(alpha, z, q):
    log_p, u = _score_above_threshold(alpha, z)
    gain = jnp.where(
        q == 0, 0, _tsallis_log(alpha, q) / alpha - jnp.where(q == 0, 0, u)
    )
    return jnp.sum((jnp.exp(alpha * log_p) - q) / alpha + q * gain, -1)


@_against_mass.defjvp
def _against_mass_jvp(alpha, primals, tangents):
    (z, q), (dz, dq) = primals, tangents
    log_p, u = _score_above_threshold(alpha, z)
    hidden = z == -jnp.inf
    p = jnp.exp(log_p)
    # Labels may have been rounded: without a mass of 1 the threshold matters too.
    share = jnp.where(p > 0, jnp.exp((2 - alpha) * jnp.where(p > 0, log_p, 0)), 0)
    share /= jnp.maximum(jnp.sum(share, -1, keepdims=True), jnp.finfo(z).tiny)
    slope = p - q + (jnp.sum(q, -1, keepdims=True) - 1) * share
    by_q = _tsallis_log(alpha, q) - jnp.where(hidden, 0, u)
    tangent = slope * jnp.where(hidden, 0, dz) + jnp.where(hidden, 0, by_q) * dq
    return _against_mass(alpha, z, q), jnp.sum(tangent, -1)


def _score_above_threshold(alpha, z):
    """Log-probabilities, and ``z - lambda``, of which they are ``log(exp_alpha)``."""
    log_p = links.entmax(z, alpha=alpha)
    if alpha == 1:
        return log_p, log_p
    top = jnp.max(z, -1, keepdims=True)
    lead = jnp.expm1((alpha - 1) * jnp.max(log_p, -1, keepdims=True)) / (alpha - 1)
    return log_p, z - jnp.where(top == -jnp.inf, 0, top) + lead


def _tsallis_log(alpha, q):
    """``(q^(alpha - 1) - 1) / (alpha - 1)``; 0 for a class without mass at alpha 1."""
    log_q = jnp.where(q > 0, jnp.log(jnp.where(q > 0, q, 1)), 0)
    if alpha == 1:
        return log_q
    inside = jnp.expm1((alpha - 1) * log_q)
    return jnp.where(q > 0, inside, -1) / (alpha - 1)


def _at(is_label, values):
    return jnp.sum(jnp.where(is_label, values, 0), -1)


ROWS = (
    rows.Row(
        fenchel_young_loss,
        "example",
        rows.class_labels,
        "Blondel, Martins and Niculae 2020, arXiv:1901.02324",
        golden="entmax",
        convex=True,
        calibrated=True,
        smooth=False,
        note="proper for its own link, links.entmax(alpha=...)",
        cost="each row is sorted to find the threshold of its entmax",
    ),
)
