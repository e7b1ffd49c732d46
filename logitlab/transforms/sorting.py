"""Sorting with a slope: networks of comparators that only half decide."""

from __future__ import annotations

import functools
from typing import Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import hyper

__all__ = ["SoftSort", "diff_sort"]

Network = Literal["odd_even", "bitonic"]
Distribution = Literal[
    "cauchy", "logistic", "logistic_phi", "reciprocal", "optimal", "gaussian"
]


class SoftSort(NamedTuple):
    """What ``diff_sort`` returns.

    Attributes:
      values: sorted, ascending, [..., N].
      permutation: how much of each value, a row, is in each place, a column,
        [..., N, N]; rows and columns add up to 1.
    """

    values: jax.Array
    permutation: jax.Array


def diff_sort(
    values: ArrayLike,
    *,
    network: Network = "odd_even",
    steepness: ArrayLike = 1.0,
    distribution: Distribution = "cauchy",
    art_lambda: ArrayLike = 0.25,
) -> SoftSort:
    r"""Differentiable sorting network: sorted values, and a soft permutation.

    Use it when a loss should depend on the order of values.

    .. math:: u' = h(s \delta) u + h(-s \delta) v, \quad
        v' = h(-s \delta) u + h(s \delta) v, \quad \delta = v - u

    is what each comparator of the network makes of two values u and v, the smaller of
    which goes first. h rises from 0 to 1: ``cauchy`` is :math:`\frac12 + \arctan(x) /
    \pi`, ``logistic`` the sigmoid, ``gaussian`` the normal distribution function,
    ``reciprocal`` :math:`\frac12 + x / (4 + 2 |x|)`, ``optimal`` linear up to 1/4 with
    tails of :math:`1 / (16 |x|)`, and ``logistic_phi`` the sigmoid of :math:`s \delta /
    |\delta|^\lambda`. Far apart, ``logistic`` has no slope left; ``cauchy`` has.

    Shapes: values [..., N] -> ([..., N], [..., N, N])

    Args:
      values: along the last axis.
      network: ``odd_even``, N layers of neighbors, or ``bitonic``, about
        :math:`\log_2^2(N) / 2` layers, where N is large.
      steepness: s, above 0; with large ones it sorts.
      distribution: which h.
      art_lambda: lambda of ``logistic_phi``, in [0, 1).

    Returns:
      A ``SoftSort``, float32 (float64 for float64). Equal values are averaged.

    Raises:
      TypeError: ``values`` is not floating point.
      ValueError: no axis or no values, a choice is unknown, or a number is outside its
        range.

    Numerics: every share of a value is a sum of products of numbers of one sign, exact
      where it is small, so that the complement of a probability is the sum of the other
      columns.

    Source: Petersen et al. 2021, arXiv:2105.04019; monotone relaxations, Petersen et
      al. 2022, arXiv:2203.09630.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import diff_sort
    >>> print(diff_sort(jnp.float32([1, 0])).values)
    [0.25 0.75]
    """
    x = numerics.promote_to_float32(values, "values")
    if x.ndim == 0 or x.shape[-1] == 0:
        raise ValueError(f"values has shape {x.shape}, expected [..., N] with values")
    if distribution not in _DISTRIBUTIONS:
        raise ValueError(
            f"distribution is {distribution!r}, expected one of {(*_DISTRIBUTIONS,)}"
        )
    steepness = hyper("steepness", steepness, x.dtype, lambda s: s > 0, "above 0")
    art_lambda = hyper(
        "art_lambda", art_lambda, x.dtype, lambda a: (a >= 0) & (a < 1), "in [0, 1)"
    )
    size = x.shape[-1]
    shares = jnp.broadcast_to(jnp.eye(size, dtype=x.dtype), (*x.shape, size))
    for other, rises in _layers(network, size):
        take = functools.partial(jnp.take, indices=other, axis=-1, mode="clip")
        partner = take(x)
        gap = partner - x
        toward = jnp.where(rises, gap, -gap)  # of each pair the same, v - u
        if distribution == "logistic_phi":
            size_of = jnp.power(jnp.abs(toward) + 1e-10, art_lambda)
            toward = toward / size_of
        h = _DISTRIBUTIONS[distribution]
        moves = other != np.arange(size)
        keep = jnp.where(moves, h(steepness * toward), 1)
        swap = jnp.where(moves, h(-steepness * toward), 0)
        x = keep * x + swap * partner
        keep, swap = keep[..., None, :], swap[..., None, :]
        shares = keep * shares + swap * take(shares)
    return SoftSort(x, shares)


def _cauchy(x):
    """``1/2 + atan(x) / pi``, whose lower tail is no difference."""
    return jnp.arctan2(jnp.ones_like(x), -x) / np.pi


def _reciprocal(x):
    size = jnp.abs(x)
    return jnp.where(x < 0, 1, 1 + size) / (2 + size)


def _optimal(x):
    far = jnp.abs(x) > 0.25
    tail = 1 / (16 * jnp.where(far, jnp.abs(x), 1))
    return jnp.where(far, jnp.where(x < 0, tail, 1 - tail), 0.5 + jnp.where(far, 0, x))


_DISTRIBUTIONS = {
    "cauchy": _cauchy,
    "logistic": numerics.sigmoid,
    "logistic_phi": numerics.sigmoid,
    "reciprocal": _reciprocal,
    "optimal": _optimal,
    "gaussian": jax.scipy.special.ndtr,
}


@functools.cache
def _layers(network: str, size: int) -> tuple[tuple[np.ndarray, np.ndarray], ...]:
    """Of each layer, which place each is compared with, and whether it gets the less.

    A place that is compared with none is its own partner.
    """
    if network == "odd_even":
        layers = [
            [(a, a + 1) for a in range(layer % 2, size - 1, 2)] for layer in range(size)
        ]
    elif network == "bitonic":
        layers = _bitonic(size)
    else:
        raise ValueError(f"network is {network!r}, expected 'odd_even' or 'bitonic'")
    found = []
    for pairs in layers:
        other, rises = np.arange(size, dtype=np.int32), np.zeros(size, bool)
        for less, more in pairs:
            other[less], other[more], rises[less] = more, less, True
        found.append((other, rises))
    return tuple(found)


def _bitonic(size):
    """Comparators (place of the less, place of the more) of each layer.

    That of the next power of two without the first places, of which none is needed.
    """
    blocks = max(size - 1, 0).bit_length()
    skipped = 2**blocks - size
    for block in range(blocks):
        for distance in (2**i for i in range(block, -1, -1)):
            pairs = []
            for low in range(skipped, 2**blocks):
                if low & distance:
                    continue
                pair = (low - skipped, low + distance - skipped)
                pairs.append(pair[::-1] if low >> (block + 1) & 1 else pair)
            yield pairs
