"""Cross-entropy plus a polynomial of the probability of being wrong."""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics import _special
from logitlab.numerics.arguments import check_range, expected, hyper

__all__ = ["poly1_loss", "poly_n_loss"]


def poly1_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    eps: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Poly-1 loss: cross-entropy plus a multiple of :math:`1 - p_y`.

    Use it when you want to tune how much easy examples count.

    .. math:: \ell = -\log p_y + \epsilon (1 - p_y), \quad \text{or }
        \sum_c q_c \bigl(-\log p_c + \epsilon (1 - p_c)\bigr)
        \text{ for a distribution } q

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or floats of the logits' shape, a distribution over
        the class axis.
      eps: at least -1. The paper tunes 2 for ImageNet and -1, which takes the linear
        term away, for object detection.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), or
        ``eps`` below -1.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80 at
      which they are normal numbers: at ``eps=-1`` the value is half the square of
      :math:`1 - p_y`.

    Source: Leng et al. 2022, arXiv:2204.12511.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import poly1_loss
    >>> poly1_loss(jnp.float32([2, 1, 0]), 1)
    Array(2.1628773, dtype=float32)
    """
    check_range("eps", eps, lambda e: e >= -1, "at least -1")
    eps = jnp.asarray(eps)[None] if isinstance(eps, jax.Array) else (eps,)
    loss = functools.partial(_poly, eps=eps)
    return expected(loss, logits, labels, axis=axis, where=where)


def poly_n_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    eps: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Poly-N loss: cross-entropy plus a polynomial in :math:`1 - p_y`.

    Use it when you want to tune more than one coefficient of ``poly1_loss``.

    .. math:: \ell = -\log p_y + \sum_{j=1}^N \epsilon_j (1 - p_y)^j

    of which a distribution over classes takes the mean.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or floats of the logits' shape, a distribution over
        the class axis.
      eps: N numbers, added to the coefficients ``1 / j`` of cross-entropy's own series;
        from ``-1 / j`` on, or the loss may reward being wrong.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden.

    Raises:
      TypeError: ``eps`` is not floating point.
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), or
        ``eps`` has not one axis.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80 at
      which they are normal numbers, as long as no coefficient is below ``-1 / j``, and
      for N up to 10; otherwise of the largest term.

    Source: Leng et al. 2022, arXiv:2204.12511.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import poly_n_loss
    >>> poly_n_loss(jnp.float32([2, 1, 0]), 1, eps=(1.0,)).round(5)
    Array(2.16288, dtype=float32)
    """
    if numerics.promote_to_float32(eps, "eps").ndim != 1:
        raise ValueError(f"eps has shape {jnp.shape(eps)}, expected [N]")
    loss = functools.partial(_poly, eps=eps)
    return expected(loss, logits, labels, axis=axis, where=where)


def _poly(nll, eps):
    """``nll + sum(eps[j - 1] * wrong**j)``, from whose series no term is subtracted."""
    gains = [_gain(e, j, nll.dtype) for j, e in enumerate(eps, 1)]
    wrong = -numerics.expm1(-nll)
    return _rest(nll, len(gains)) + _special.polynomial(wrong, [0, *gains])


def _gain(eps, j, dtype):
    """``eps + 1 / j``; one near ``-1 / j`` loses nothing before it is rounded."""
    eps = eps.astype(dtype) if isinstance(eps, jax.Array) else np.asarray(eps, float)
    return hyper("eps", eps + 1 / j, dtype)


def _rest(nll, terms):
    """What is left of ``nll = sum(wrong**j / j)`` without its first terms."""
    # The series up to where what is taken off leaves five digits of a float32.
    end = 0.5 if terms <= 3 else 0.75
    digits = 17 if nll.dtype == jnp.float64 else 8
    count = math.ceil(-digits / math.log10(end))
    near = nll < -math.log1p(-end)
    wrong = jnp.where(near, -jnp.expm1(-nll), 0)
    series = _special.polynomial(wrong, [1 / (terms + n) for n in range(1, count + 1)])
    first = [0, *(1 / j for j in range(1, terms + 1))]
    far = nll - _special.polynomial(-jnp.expm1(-nll), first)
    return jnp.where(near, series * wrong ** (terms + 1), far)
