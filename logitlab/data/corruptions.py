"""Label noise and class imbalance for clean, balanced labels, from a seed."""

from __future__ import annotations

import math
import numbers

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range


def symmetric_noise(
    key: ArrayLike, labels: ArrayLike, num_classes: int, rate: ArrayLike
) -> jax.Array:
    r"""Labels of which a share is redrawn uniformly from the *other* classes.

    Use it to test losses for noisy labels; ``pair_noise`` is harder.

    .. math:: P(\tilde y = j \mid y) = 1 - \eta \text{ if } j = y, \text{ else }
        \eta / (C - 1)

    Each label flips independently with probability ``rate``, and a flip never keeps
    the label: ``rate`` is the expected share of wrong labels. Papers that redraw among
    all C classes at rate r mean ``rate = r * (C - 1) / C`` here.

    Shapes: labels [...] -> [...]

    Args:
      key: a ``jax.random.key``.
      labels: ints in ``[0, C)``; a negative one, no label, stays as it is.
      num_classes: C, at least 2; not traced, as it is checked.
      rate: probability of a flip in [0, 1]; it may be traced.

    Returns:
      New labels of the dtype of ``labels``.

    Raises:
      TypeError: ``labels`` is not integer.
      ValueError: ``num_classes`` or ``rate`` outside its range, or a label of C or
        more; under ``jit``, where values are unknown, such a label stays as it is.

    Source: Ghosh, Kumar and Sastry 2017, arXiv:1712.09482; Patrini et al. 2017,
    arXiv:1609.03683.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.data.corruptions import symmetric_noise
    >>> symmetric_noise(jax.random.key(0), jnp.array([0, 1, 1]), 2, 1.0).tolist()
    [1, 0, 0]
    """
    labels, num_classes = _checked(labels, num_classes, rate)
    flip, draw = jax.random.split(key)
    offset = jax.random.randint(draw, labels.shape, 1, num_classes)
    return _flipped(flip, labels, offset, num_classes, rate)


def pair_noise(
    key: ArrayLike, labels: ArrayLike, num_classes: int, rate: ArrayLike
) -> jax.Array:
    r"""Labels of which a share is moved to the next class, cyclically.

    Use it for label noise that confuses each class with one other.

    .. math:: P(\tilde y = y + 1 \bmod C \mid y) = \eta, \quad
        P(\tilde y = y \mid y) = 1 - \eta

    Each label flips independently with probability ``rate``; above one half the next
    class outnumbers the true one.

    Shapes: labels [...] -> [...]

    Args:
      key: a ``jax.random.key``.
      labels: ints in ``[0, C)``; a negative one, no label, stays as it is.
      num_classes: C, at least 2; not traced, as it is checked.
      rate: probability of a flip in [0, 1]; it may be traced.

    Returns:
      New labels of the dtype of ``labels``.

    Raises:
      TypeError: ``labels`` is not integer.
      ValueError: ``num_classes`` or ``rate`` outside its range, or a label of C or
        more; under ``jit``, where values are unknown, such a label stays as it is.

    Source: Han et al. 2018, Co-teaching, arXiv:1804.06872.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.data.corruptions import pair_noise
    >>> pair_noise(jax.random.key(0), jnp.array([0, 1, 2]), 3, 1.0).tolist()
    [1, 2, 0]
    """
    labels, num_classes = _checked(labels, num_classes, rate)
    return _flipped(key, labels, 1, num_classes, rate)


def long_tail(
    key: ArrayLike, labels: ArrayLike, num_classes: int, imbalance: float
) -> jax.Array:
    r"""Indices of the rows to keep so that class sizes fall exponentially.

    Use it to make a long-tailed training set of a balanced one.

    .. math:: n_c = \lfloor n_0 \, \rho^{-c / (C - 1)} \rfloor

    :math:`n_0` is the largest size of class 0 at which every class has rows enough; in
    a balanced set it is the common size. Runs on the host, outside of ``jit``.

    Shapes: labels [n] -> int32 [m], increasing

    Args:
      key: a ``jax.random.key``; it chooses the rows of each class.
      labels: ints in ``[0, C)``, every class among them; no row with a negative one,
        no label, is kept.
      num_classes: C, at least 2; not traced, as it is checked.
      imbalance: rho, the size of the first class over that of the last, at least 1.

    Returns:
      Row numbers, to index every array of the data set with.

    Raises:
      TypeError: ``labels`` is not integer.
      ValueError: an argument outside its range, or a class that would have no row.

    Source: Cui et al. 2019, class-balanced loss, arXiv:1901.05555; Cao et al. 2019,
    LDAM, arXiv:1906.07413.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.data.corruptions import long_tail
    >>> labels = jnp.repeat(jnp.arange(3), 100)
    >>> jnp.bincount(labels[long_tail(jax.random.key(0), labels, 3, 100)]).tolist()
    [100, 10, 1]
    """
    labels, num_classes = _checked(labels, num_classes, 0.0)
    labels = np.asarray(labels)
    if labels.ndim != 1:
        raise ValueError(f"labels has shape {labels.shape}, expected [n]")
    if not (isinstance(imbalance, numbers.Real) and 1 <= imbalance < math.inf):
        raise ValueError(f"imbalance is {imbalance!r}, expected a number from 1 on")
    there = np.bincount(labels[labels >= 0], minlength=num_classes)
    shares = float(imbalance) ** (-np.arange(num_classes) / (num_classes - 1))
    sizes = _floor(_floor(there / shares).min() * shares)
    if (sizes < 1).any():
        bare = np.flatnonzero(sizes < 1).tolist()
        raise ValueError(
            f"imbalance is {imbalance}, which leaves classes {bare} without a row of "
            f"the {there.tolist()} there are; expected at least one each"
        )
    order = np.asarray(jax.random.permutation(key, len(labels)))
    by_class = [order[labels[order] == c][:n] for c, n in enumerate(sizes)]
    return jnp.asarray(np.sort(np.concatenate(by_class)), jnp.int32)


def _flipped(key, labels, offset, num_classes, rate):
    """``labels + offset`` modulo C at the rows that flip."""
    chance = jax.random.uniform(key, labels.shape)  # in [0, 1): a rate of 1 flips all
    y = numerics.wide_labels(labels)
    flips = (chance < rate) & (y >= 0) & (y < num_classes)
    moved = (y + offset) % num_classes
    return jnp.where(flips, moved.astype(labels.dtype), labels)


def _checked(labels, num_classes, rate):
    is_int = isinstance(num_classes, numbers.Integral)
    if not is_int or isinstance(num_classes, bool) or num_classes < 2:
        raise ValueError(f"num_classes is {num_classes!r}, expected an int from 2 on")
    check_range("rate", rate, lambda r: (r >= 0) & (r <= 1), "it in [0, 1]")
    if np.ndim(rate):
        raise ValueError(f"rate has shape {np.shape(rate)}, expected a number")
    numerics.check_labels(labels, np.shape(labels), num_classes)
    return jnp.asarray(labels), int(num_classes)


def _floor(x):
    """Rounded down, but for a product that only rounding keeps from an integer."""
    near = np.rint(x)
    return np.where(np.isclose(x, near, rtol=1e-12, atol=0), near, x // 1).astype(int)
