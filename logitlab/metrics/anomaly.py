"""Anomalies among unlabeled images: what has no match in most of the others (MuSc)."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics._lengths import unit
from logitlab.numerics.arguments import check_count, check_range

__all__ = [
    "local_neighborhood_aggregate",
    "mutual_scores",
    "rescore_by_neighborhood",
]

_PAIRS = 2**22  # distances between patches that are held at once
_EPS = 1e-5  # of the layer normalization


def local_neighborhood_aggregate(features: ArrayLike, *, degree: int) -> jax.Array:
    r"""Unit patch features, each the mean of those around it (LNAMD).

    Use it before ``mutual_scores``, for several degrees, and average the scores: a
    larger degree finds larger anomalies.

    .. math:: \hat z_p = \frac{a_p}{\|a_p\|}, \quad
        a_p = \frac{1}{r^2} \sum_{q \in \mathcal{N}_r(p)} \mathrm{LN}(z)_q

    with a layer normalization over rows, columns and channels of an image, and zeros
    around the image. The released code averages neighbors by adaptive pooling, which is
    this mean as long as the width is kept.

    Shapes: features [..., H, W, C] -> [..., H * W, C]

    Args:
      features: of the patches of an image, in rows and columns, from any layer.
      degree: r, the side of the neighborhood, odd; a Python number. 1 only normalizes.

    Returns:
      Patches in the order of rows, float32 (float64 for float64 features); 0 for a
      patch without a direction.

    Raises:
      TypeError: ``features`` is not floating point, or ``degree`` no Python integer.
      ValueError: ``features`` has fewer than three axes, or ``degree`` is even or below
        1.

    Numerics: relative error below 1e-5.

    Source: MuSc, Li et al. 2024, arXiv:2401.16753.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import local_neighborhood_aggregate
    >>> images = jnp.zeros((2, 4, 4, 3)).at[:, 0, 0].set(1.0)
    >>> local_neighborhood_aggregate(images, degree=3).shape
    (2, 16, 3)
    """
    x = numerics.promote_to_float32(features, "features")
    check_count("degree", degree)
    if degree % 2 == 0:
        raise ValueError(f"degree is {degree}, expected an odd number")
    if x.ndim < 3:
        raise ValueError(f"features has shape {x.shape}, expected [..., H, W, C]")
    size = jnp.maximum(_largest(x, (-3, -2, -1)), 1)
    x = x / size
    x = x - jnp.mean(x, (-3, -2, -1), keepdims=True)
    variance = jnp.mean(jnp.square(x), (-3, -2, -1), keepdims=True)
    x = x / jnp.sqrt(variance + _EPS / size / size)
    for axis in (x.ndim - 3, x.ndim - 2):
        x = _moving_sum(x, degree, axis)
    return unit(x.reshape(*x.shape[:-3], -1, x.shape[-1]))


def mutual_scores(
    patch_features: ArrayLike,
    *,
    frac_min: float = 0.0,
    frac_max: float = 0.3,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""How far each patch is from its matches in the best other images (MSM).

    Use it where most of a set of unlabeled images are normal: their patches have close
    matches in many of the others, and those of an anomaly in few.

    .. math:: a_{ip} = \frac{1}{k_2 - k_1} \sum_{k_1 < r \le k_2} d_{ip(r)}, \quad
        d_{ipj} = \min_q \|z_{ip} - z_{jq}\|

    over the images :math:`j \ne i` in the order of their distances, :math:`k` a share
    of their number, rounded down. The score of an image is the largest of its patches.

    Args:
      patch_features: [N, P, C], best those of ``local_neighborhood_aggregate``.
      frac_min: share of the other images, the nearest, that is left out, a Python
        number in [0, 1].
      frac_max: share up to which distances are averaged, above ``frac_min``; of at
        least one image.
      mask: bool [N], the images that take part; the others score 0.

    Returns:
      [N, P], in the unit of the features, float32 (float64 for float64 features); 0 for
      an image that is the only one.

    Raises:
      TypeError: ``patch_features`` is not floating point or ``mask`` is not bool.
      ValueError: the shapes do not fit, or the shares are not in order in [0, 1].

    Numerics: the nearest patch is found by inner products, its distance is that of the
      difference: right to 1e-5 relative, but for distances below 1e-2 of the features'
      length, where a patch that is farther by up to 1e-3 of that length may be taken.
      Memory grows with N P, not with its square.

    Source: MuSc, Li et al. 2024, arXiv:2401.16753.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import mutual_scores
    >>> patches = jnp.float32([[[0]], [[0]], [[1]], [[9]]])  # one of each image
    >>> mutual_scores(patches).ravel()
    Array([0., 0., 1., 8.], dtype=float32)
    """
    z = numerics.promote_to_float32(patch_features, "patch_features")
    if z.ndim != 3 or 0 in z.shape:
        raise ValueError(f"patch_features has shape {z.shape}, expected [N, P, C]")
    check_range("frac_min", frac_min, lambda f: (f >= 0) & (f <= 1), "in [0, 1]")
    check_range(
        "frac_max",
        frac_max,
        lambda f: (f > frac_min) & (f <= 1),
        f"above frac_min, {frac_min}, and at most 1",
    )
    keep = numerics.check_mask(mask, z.shape[:1])
    # Rounded, as 0.29 times 100 is a little less than 29.
    others = np.maximum(np.arange(len(z) + 1) - 1, 0)
    first, last = (
        np.floor(np.round(share * others, 9)).astype(np.int32)
        for share in (frac_min, frac_max)
    )
    first = np.minimum(first, np.maximum(others - 1, 0)).astype(np.int32)
    return _mutual_scores(z, keep, first, np.maximum(last, first + 1))


def rescore_by_neighborhood(
    scores: ArrayLike,
    tokens: ArrayLike,
    *,
    ks: Sequence[int] = (1, 2, 3),
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Scores of images, averaged with those of images that look alike (RsCIN).

    Use it after ``mutual_scores``, where a class token of each image is at hand: an
    image that scores high by chance is among normal ones.

    .. math:: s'_i = \frac1{|K|} \sum_{k \in K}
        \frac{\sum_{j \in N_k(i)} w_{ij} \bar s_j}{\sum_{j \in N_k(i)} w_{ij}}, \quad
        w_{ij} = \max(\langle \hat t_i, \hat t_j \rangle, 0), \quad
        \bar s = \frac{s - \min s}{\max s - \min s}

    with the k most similar images :math:`N_k(i)`, of which the image itself is one. The
    released code keeps negative similarities, with which a sum may be 0.

    Shapes: scores [N], tokens [N, C], mask [N] -> [N]

    Args:
      scores: one for each image, higher for an anomaly.
      tokens: one vector for each image, of any length.
      ks: sizes of the neighborhood, Python numbers; 1 leaves the scores as they are.
      mask: bool, the images that take part; the others score 0.

    Returns:
      Between 0 and 1, float32 (float64 for float64 scores); 0 where all scores are
      equal. Fewer images than k are all taken.

    Raises:
      TypeError: an array is not floating point, ``mask`` is not bool, or a k is no
        Python integer.
      ValueError: the shapes disagree, ``ks`` is empty, or a k is below 1 or above N.

    Numerics: relative error below 1e-5. Of images that are equally similar the first
      are taken.

    Source: MuSc, Li et al. 2024, arXiv:2401.16753.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import rescore_by_neighborhood
    >>> scores, tokens = jnp.float32([0, 1, 4]), jnp.float32([[1, 0], [1, 0], [0, 1]])
    >>> rescore_by_neighborhood(scores, tokens, ks=(1, 2))
    Array([0.0625, 0.1875, 1.    ], dtype=float32)
    """
    s = numerics.promote_to_float32(scores, "scores")
    t = numerics.promote_to_float32(tokens, "tokens").astype(s.dtype)
    if s.ndim != 1 or t.ndim != 2 or len(t) != len(s):
        raise ValueError(
            f"scores has shape {s.shape} and tokens {t.shape}, expected [N] and [N, C]"
        )
    if not ks:
        raise ValueError("ks is empty, expected at least one number of images")
    for k in ks:
        check_count("ks", k)
    if max(ks) > len(s):
        raise ValueError(f"ks is {tuple(ks)}, expected at most {len(s)}, all images")
    keep = numerics.check_mask(mask, s.shape)
    s = jnp.where(keep, s, 0)
    s = s / jnp.maximum(_largest(s, (0,)), 1)  # the difference of two fits
    s = jnp.where(keep, s - jnp.min(s, where=keep, initial=jnp.inf), 0)
    span = jnp.max(s)
    scaled = jnp.where(span > 0, s / jnp.where(span > 0, span, 1), 0)
    t = unit(jnp.where(keep[:, None], t, 0))
    similar = jnp.matmul(t, t.T, precision="highest")
    self = jnp.eye(len(s), dtype=bool)
    rank = jnp.where(self, jnp.inf, jnp.where(keep[None], similar, -jnp.inf))
    at = jax.lax.top_k(rank, max(ks))[1]
    w = jnp.where(self, 1, jnp.where(keep[None], jnp.maximum(similar, 0), 0))
    w = jnp.take_along_axis(w, at, -1)
    sums = jnp.cumsum(w * scaled[at], -1) / jnp.cumsum(w, -1)
    return jnp.where(keep, jnp.mean(sums[:, np.array(ks) - 1], -1), 0)


@jax.jit
def _mutual_scores(z, keep, first, last):
    z = jnp.where(keep[:, None, None], z, 0)
    size = _largest(z, (0, 1, 2))
    z = z / jnp.where(size > 0, size, 1)
    squares = jnp.sum(jnp.square(z), -1)
    images = jnp.arange(len(z))
    at_once = max(_PAIRS // z.shape[1] ** 2, 1)
    n = jnp.sum(keep, dtype=jnp.int32)
    rank = images[:, None]
    averaged = (rank >= first[n]) & (rank < jnp.minimum(last[n], n - 1))

    def of_image(i):
        def to(j):
            inner = jnp.matmul(z[i], z[j].T, precision="highest")
            near = jnp.argmin(squares[j][None] - 2 * inner, -1)
            return _norm(z[i] - z[j][near])

        distances = jax.lax.map(to, images, batch_size=at_once)
        others = (keep & (images != i))[:, None]
        ordered = jnp.sort(jnp.where(others, distances, jnp.inf), 0)
        total = jnp.sum(jnp.where(averaged, ordered, 0), 0)
        return jnp.where(keep[i], total / jnp.maximum(jnp.sum(averaged), 1), 0)

    return jax.lax.map(of_image, images) * size[0]


def _moving_sum(x, width, axis):
    """Sums of ``width`` neighbors along an axis, with zeros at both ends."""
    ends = [(0, 0)] * x.ndim
    ends[axis] = (width // 2, width // 2)
    padded = jnp.pad(x, ends)
    shifted = (
        jax.lax.slice_in_dim(padded, k, k + x.shape[axis], axis=axis)
        for k in range(width)
    )
    return sum(shifted, jnp.zeros_like(x))


def _largest(x, axes):
    """Largest magnitude along axes, which are kept; a constant to gradients."""
    size = jnp.max(jnp.abs(x), axes, keepdims=True, initial=0)
    return jax.lax.stop_gradient(size)


def _norm(x):
    """Length along the last axis, whose slope is 0 at 0."""
    square = jnp.sum(jnp.square(x), -1)
    return jnp.where(square > 0, jnp.sqrt(jnp.where(square > 0, square, 1)), 0)
