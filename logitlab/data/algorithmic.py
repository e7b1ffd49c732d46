"""Small data sets given by a formula, whole on the device, and their random split."""

from __future__ import annotations

import math
import numbers
from collections.abc import Mapping

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

_OPERATIONS = ("add", "subtract", "multiply", "divide")
_LARGEST = math.isqrt(2**31 - 1)  # products of two residues stay within int32


def modular_pairs(operation: str, p: int, *, start: int = 0) -> dict[str, jax.Array]:
    r"""All ordered pairs of residues mod p, labeled with an operation on the pair.

    Use it for grokking: small tables of which a network sees a part.

    .. math:: y = a + b, \; a - b, \; a b \; \text{ or } \; a b^{-1} \pmod p

    Shapes: n pairs -> x int32 [n, 2], y int32 [n]

    Args:
      operation: "add", "subtract", "multiply" or "divide". Division is the exact one of
        the field: it needs a prime ``p`` and leaves b = 0 out.
      p: the modulus, an int from 2 to 46340, so that products fit in int32.
      start: the smallest residue taken, for a and b. The grokking paper's MLP sees all
        of them, its transformer those from 1 on.

    Returns:
      ``dict(x=..., y=...)`` with the pairs (a, b) in ``x``, b running fastest, and the
      result, in ``[0, p)``, in ``y``.

    Raises:
      ValueError: an unknown operation, ``p`` or ``start`` not an int in its range, or a
        division whose ``p`` is not prime.

    Source: the tasks of Prieto et al. 2025, arXiv:2501.04697.

    >>> from logitlab.data.algorithmic import modular_pairs
    >>> modular_pairs("divide", 3)["x"].tolist()
    [[0, 1], [0, 2], [1, 1], [1, 2], [2, 1], [2, 2]]
    >>> modular_pairs("divide", 3)["y"].tolist()
    [0, 0, 1, 2, 2, 1]
    """
    if operation not in _OPERATIONS:
        raise ValueError(f"operation is {operation!r}, expected one of {_OPERATIONS}")
    p = _checked_int("p", p, 2, _LARGEST)
    start = _checked_int("start", start, 0, p - 1)
    division = operation == "divide"
    if division and any(p % d == 0 for d in range(2, math.isqrt(p) + 1)):
        raise ValueError(f"p is {p}, expected a prime: division needs inverses mod p")
    a, b = jnp.meshgrid(
        jnp.arange(start, p, dtype=jnp.int32),
        jnp.arange(max(start, int(division)), p, dtype=jnp.int32),
        indexing="ij",
    )
    a, b = a.ravel(), b.ravel()
    if operation == "add":
        y = a + b
    elif operation == "subtract":
        y = a - b
    elif operation == "multiply":
        y = a * b
    else:
        inverses = [0] + [pow(d, -1, p) for d in range(1, p)]
        y = a * jnp.array(inverses, jnp.int32)[b]
    return {"x": jnp.stack([a, b], -1), "y": y % p}


def sparse_parity(
    key: ArrayLike, *, samples: int, parity_bits: int, noise_bits: int
) -> dict[str, jax.Array]:
    r"""Random bits, labelled by the parity of the first few of them.

    .. math:: y = \sum_{i < k} x_i \bmod 2, \qquad k = \text{parity\_bits}

    Shapes: n samples of D = parity_bits + noise_bits -> x float32 [n, D], y int32 [n]

    Args:
      key: a ``jax.random.key``.
      samples: how many rows; they are independent, so a row may come twice.
      parity_bits: how many leading bits the label depends on.
      noise_bits: how many bits after them mean nothing.

    Returns:
      ``dict(x=..., y=...)``, bits and labels 0 or 1.

    Raises:
      ValueError: a count is not an int, ``samples`` or ``parity_bits`` is below 1, or
        ``noise_bits`` below 0.

    Source: the tasks of Prieto et al. 2025, arXiv:2501.04697: 2000 samples, 3 parity
    bits, 40 noise bits.

    >>> import jax
    >>> from logitlab.data.algorithmic import sparse_parity
    >>> bits = sparse_parity(
    ...     jax.random.key(0), samples=5, parity_bits=2, noise_bits=1
    ... )
    >>> bits["x"].shape, bits["y"].shape
    ((5, 3), (5,))
    """
    samples = _checked_int("samples", samples, 1)
    parity_bits = _checked_int("parity_bits", parity_bits, 1)
    noise_bits = _checked_int("noise_bits", noise_bits, 0)
    bits = jax.random.bernoulli(key, shape=(samples, parity_bits + noise_bits))
    parity = bits[:, :parity_bits].sum(-1, dtype=jnp.int32) % 2
    return {"x": bits.astype(jnp.float32), "y": parity}


def split(
    key: ArrayLike, dataset: Mapping[str, ArrayLike], train_fraction: float
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
    """Random train/test split of the rows, the same one for every array.

    Works inside ``jit`` and under ``vmap`` and ``lax.map`` over keys: the number of
    rows on each side depends on shapes alone.

    Shapes: arrays [n, ...] -> train [m, ...], test [n - m, ...]

    Args:
      key: a ``jax.random.key``; the same key makes the same split.
      dataset: arrays of one length n.
      train_fraction: a number in (0, 1). m is ``floor(train_fraction * n)`` of the
        number as it is written: 0.29 of 100 rows are 29, though the product of floats
        falls just short of it.

    Returns:
      ``(train, test)``, dicts with the keys of ``dataset``, rows in random order.

    Raises:
      TypeError: ``train_fraction`` is not a concrete number.
      ValueError: no arrays, a scalar, arrays of different lengths, ``train_fraction``
        outside of (0, 1), or a side without a row.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.data.algorithmic import split
    >>> train, test = split(jax.random.key(0), {"x": jnp.arange(10)}, 0.7)
    >>> train["x"].size, test["x"].size
    (7, 3)
    """
    arrays = {name: jnp.asarray(array) for name, array in dataset.items()}
    lengths = {array.shape[:1] for array in arrays.values()}  # () for a scalar
    if len(lengths) != 1 or () in lengths:
        shapes = {name: array.shape for name, array in arrays.items()}
        raise ValueError(f"dataset has shapes {shapes}, expected one common length")
    if not isinstance(train_fraction, numbers.Real):
        raise TypeError(f"train_fraction is {train_fraction!r}, expected a number")
    if not 0 < train_fraction < 1:
        raise ValueError(f"train_fraction is {train_fraction}, expected it in (0, 1)")
    ((length,),) = lengths
    share = float(train_fraction) * length
    # A product that rounding alone keeps from being an integer is that integer.
    whole = math.isclose(share, round(share), rel_tol=1e-12)
    rows = round(share) if whole else math.floor(share)
    if not 0 < rows < length:
        raise ValueError(
            f"train_fraction is {train_fraction}, which of {length} rows leaves {rows} "
            f"for training and {length - rows} for testing; expected at least one each"
        )
    order = jax.random.permutation(key, length)
    train = {name: array[order[:rows]] for name, array in arrays.items()}
    test = {name: array[order[rows:]] for name, array in arrays.items()}
    return train, test


def _checked_int(name, value, least, most=None):
    """``value`` as Python's own int, so that it never decides an array's dtype."""
    bounds = f"from {least} on" if most is None else f"from {least} to {most}"
    is_int = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    if not is_int or value < least or (most is not None and value > most):
        raise ValueError(f"{name} is {value!r}, expected an int {bounds}")
    return int(value)
