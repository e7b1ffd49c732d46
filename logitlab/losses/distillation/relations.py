"""Losses of how the examples of a batch lie to each other, in logits or features."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = [
    "pkt_loss",
    "rkd_angle_loss",
    "rkd_distance_loss",
    "similarity_preserving_loss",
]


def rkd_distance_loss(
    student: ArrayLike, teacher: ArrayLike, *, mask: ArrayLike | None = None
) -> jax.Array:
    r"""Relational distillation of distances, one value per pair of examples.

    Use it when distances between embeddings should be kept.

    .. math:: \ell_{ij} = h\Bigl(\frac{d^s_{ij}}{\mu^s} - \frac{d^t_{ij}}{\mu^t}\Bigr),
        \quad d_{ij} = \sqrt{\max(\|e_i - e_j\|^2, 10^{-12})}, \quad d_{ii} = 0

    with h the smooth absolute value (a square over 2 below 1) and :math:`\mu` the mean
    of the positive distances, 1 if there are none. The objective is the mean over all
    pairs, the diagonal included, times 25.

    Shapes: student [N, D], teacher [N, E], mask [N] -> [N, N]

    Args:
      student: embeddings or logits. Needs an array of N times N times D.
      teacher: of the same examples, of any width; no gradient.
      mask: bool, the examples that take part; the pairs of others cost 0.

    Returns:
      float32 (float64 for float64).

    Raises:
      TypeError: an argument is not floating point or ``mask`` is not bool.
      ValueError: the shapes do not fit.

    Numerics: relative error below 1e-4 of the largest, value and gradient.

    Source: Relational Knowledge Distillation, Park et al. 2019, arXiv:1904.05068.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import rkd_distance_loss
    >>> e = jnp.float32([[0, 0], [3, 4]])
    >>> print(rkd_distance_loss(e, 2 * e))
    [[0. 0.]
     [0. 0.]]
    """
    s, t, keep = _embeddings(student, teacher, mask)
    pairs = keep[:, None] & keep[None, :]
    d = _relative_distances(s, pairs) - _relative_distances(t, pairs)
    return jnp.where(pairs, _smooth_abs(d), 0)


def rkd_angle_loss(
    student: ArrayLike, teacher: ArrayLike, *, mask: ArrayLike | None = None
) -> jax.Array:
    r"""Relational distillation of angles, one value per triple of examples.

    Use it when angles between embeddings should be kept.

    .. math:: \ell_{ijk} = h(\cos^s_{ijk} - \cos^t_{ijk}), \quad
        \cos_{ijk} = \langle u_{ij}, u_{ik} \rangle, \quad
        u_{ij} = \frac{e_j - e_i}{\|e_j - e_i\|}

    with h the smooth absolute value; u is 0 between equal embeddings. The objective is
    the mean over all triples, times 50.

    Shapes: student [N, D], teacher [N, E], mask [N] -> [N, N, N]

    Args:
      student: embeddings or logits. N of a few hundred: the result is N cubed.
      teacher: of the same examples, of any width; no gradient.
      mask: bool, the examples that take part; the triples of others cost 0.

    Returns:
      In [0, 1.5], float32 (float64 for float64).

    Raises:
      TypeError: an argument is not floating point or ``mask`` is not bool.
      ValueError: the shapes do not fit.

    Numerics: relative error below 1e-4 of the largest, value and gradient.

    Source: Relational Knowledge Distillation, Park et al. 2019, arXiv:1904.05068.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import rkd_angle_loss
    >>> e = jnp.float32([[0, 0], [3, 4], [1, 0]])
    >>> print(rkd_angle_loss(e, 2 * e + 1).max())
    0.0
    """
    s, t, keep = _embeddings(student, teacher, mask)
    triples = keep[:, None, None] & keep[None, :, None] & keep[None, None, :]
    return jnp.where(triples, _smooth_abs(_cosines(s) - _cosines(t)), 0)


def similarity_preserving_loss(
    student: ArrayLike, teacher: ArrayLike, *, mask: ArrayLike | None = None
) -> jax.Array:
    r"""Similarity-preserving distillation (SP), one number for a batch.

    Use it when similarities within a batch should be kept.

    .. math:: \ell = \frac{1}{N^2} \| \tilde G_s - \tilde G_t \|_F^2, \quad
        G = Z Z^\top

    with the rows of G divided by their length. Used with a weight of 3000 on features.

    Shapes: student [N, D], teacher [N, E], mask [N] -> []

    Args:
      student: embeddings or logits.
      teacher: of the same examples, of any width; no gradient.
      mask: bool, the examples that take part; N counts them.

    Returns:
      float32 (float64 for float64).

    Raises:
      TypeError: an argument is not floating point or ``mask`` is not bool.
      ValueError: the shapes do not fit.

    Numerics: relative error below 1e-4 of the squared lengths, value and gradient.

    Source: Tung and Mori 2019, arXiv:1907.09682.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import similarity_preserving_loss
    >>> print(similarity_preserving_loss(jnp.eye(2), jnp.ones((2, 1))).round(4))
    0.2929
    """
    s, t, keep = _embeddings(student, teacher, mask)
    gap = _unit_rows(_gram(s, keep)) - _unit_rows(_gram(t, keep))
    return jnp.sum(gap * gap) / jnp.maximum(jnp.sum(keep), 1) ** 2


def pkt_loss(
    student: ArrayLike, teacher: ArrayLike, *, mask: ArrayLike | None = None
) -> jax.Array:
    r"""Probabilistic knowledge transfer, one number for a batch.

    Use it when similarities should be kept as probabilities of being neighbors.

    .. math:: \ell = \frac{1}{N^2} \sum_{ij} P^t_{ij}
        \log \frac{P^t_{ij} + 10^{-7}}{P^s_{ij} + 10^{-7}}, \quad
        P_{ij} \propto \frac{1 + \cos(z_i, z_j)}{2}

    with rows of P that add up to 1, the diagonal included. Used with a weight of 30000.

    Shapes: student [N, D], teacher [N, E], mask [N] -> []

    Args:
      student: embeddings or logits. A row of zeros is at right angles to all.
      teacher: of the same examples, of any width; no gradient.
      mask: bool, the examples that take part; N counts them.

    Returns:
      float32 (float64 for float64).

    Raises:
      TypeError: an argument is not floating point or ``mask`` is not bool.
      ValueError: the shapes do not fit.

    Numerics: absolute error below 1e-6, value and gradient.

    Source: Passalis and Tefas 2018, arXiv:1803.10837.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import pkt_loss
    >>> print(pkt_loss(jnp.eye(2), jnp.eye(2)))
    0.0
    """
    s, t, keep = _embeddings(student, teacher, mask)
    pairs = keep[:, None] & keep[None, :]

    def shares(e):
        e = _unit_rows(e)
        p = jnp.where(pairs, (e @ e.T + 1) / 2, 0)
        total = jnp.sum(p, -1, keepdims=True)
        return p / jnp.where(total > 0, total, 1)

    p, q = shares(t), shares(s)
    cost = p * (jnp.log(p + 1e-7) - jnp.log(q + 1e-7))
    return jnp.sum(cost) / jnp.maximum(jnp.sum(keep), 1) ** 2


def _embeddings(student, teacher, mask):
    """Both, zeros where left out, in units in which their squares fit."""
    s, t = (
        numerics.promote_to_float32(student, "student"),
        numerics.promote_to_float32(teacher, "teacher"),
    )
    if s.ndim != 2 or t.ndim != 2 or len(s) != len(t):
        raise ValueError(
            f"student has shape {s.shape}, teacher {t.shape}, expected [N, D] and "
            "[N, E] with the same N"
        )
    keep = numerics.check_mask(mask, s.shape[:1])
    t = jax.lax.stop_gradient(t).astype(s.dtype)
    s, t = (jnp.where(keep[:, None], numerics.unsharded(e), 0) for e in (s, t))
    return _scaled(s), _scaled(t), keep


def _scaled(e):
    """Divided by a power of two if squares would not fit; no loss here sees it."""
    size = jax.lax.stop_gradient(jnp.max(jnp.abs(e), initial=0))
    _, exponent = jnp.frexp(size)
    return jnp.ldexp(e, jnp.where(exponent > 40, -exponent, 0))


def _relative_distances(e, pairs):
    gap = e[:, None, :] - e[None, :, :]
    d = jnp.sqrt(jnp.maximum(jnp.sum(gap * gap, -1), 1e-12))
    d = jnp.where(pairs & ~jnp.eye(len(e), dtype=bool), d, 0)
    count = jnp.sum(d > 0)
    return d / jnp.where(count > 0, jnp.sum(d) / jnp.maximum(count, 1), 1)


def _cosines(e):
    u = _unit_rows(e[None, :, :] - e[:, None, :])
    return u @ jnp.swapaxes(u, -1, -2)


def _gram(e, keep):
    e = jnp.where(keep[:, None], e, 0)
    return e @ e.T


def _unit_rows(e):
    """Rows of length 1; torch's rule for those shorter than 1e-12."""
    square = jnp.sum(e * e, -1, keepdims=True)
    some = square > 0
    length = jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0)
    return e / jnp.maximum(length, 1e-12)


def _smooth_abs(d):
    size = jnp.abs(d)
    return jnp.where(size < 1, d * d / 2, size - 0.5)
