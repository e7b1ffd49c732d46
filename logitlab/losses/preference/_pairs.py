"""What preference losses share: checked log-probabilities, margins, exact pieces."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range, hyper, logps_like

__all__ = [
    "coded",
    "exponential_gap",
    "finite",
    "hinge",
    "logistic",
    "margin",
    "referenced",
    "smoothing",
    "squared",
]


def referenced(
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    ref_chosen_logps: ArrayLike,
    ref_rejected_logps: ArrayLike,
) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array]:
    """The four log-probabilities of a pair, those of the reference constant."""
    chosen, rejected, *ref = logps_like(
        chosen_logps=chosen_logps,
        rejected_logps=rejected_logps,
        ref_chosen_logps=ref_chosen_logps,
        ref_rejected_logps=ref_rejected_logps,
    )
    return chosen, rejected, *map(jax.lax.stop_gradient, ref)  # type: ignore[return-value]


def smoothing(label_smoothing: ArrayLike) -> None:
    """Refuses a known share of flipped labels that is no share."""
    inside = lambda e: (e >= 0) & (e <= 1)  # noqa: E731
    check_range("label_smoothing", label_smoothing, inside, "a number in [0, 1]")


def coded(numbers: ArrayLike) -> jax.Array:
    """Integers of which only order and equality matter, in no more than 32 bits.

    Where JAX would cut NumPy's 64 bits, each stands for its place among them.

    >>> import numpy as np
    >>> from logitlab.losses.preference._pairs import coded
    >>> coded(np.array([2**40, 7, 2**41]))
    Array([1, 0, 2], dtype=int32)
    """
    if not isinstance(numbers, jax.Array):
        numbers = np.asarray(numbers)
        if numbers.dtype in (np.int64, np.uint64):
            _, places = np.unique(numbers, return_inverse=True)
            numbers = places.reshape(numbers.shape).astype(np.int32)
    return jnp.asarray(numbers)


def margin(
    chosen: jax.Array,
    rejected: jax.Array,
    ref_chosen: jax.Array | float = 0.0,
    ref_rejected: jax.Array | float = 0.0,
    chosen_lengths: jax.Array | float = 1.0,
    rejected_lengths: jax.Array | float = 1.0,
    *,
    beta: ArrayLike,
) -> jax.Array:
    """``beta`` times the difference of two log-ratios, each over its length."""
    good = (chosen - ref_chosen) / chosen_lengths
    bad = (rejected - ref_rejected) / rejected_lengths
    return jnp.asarray(beta, chosen.dtype) * (good - bad)


def finite(x: jax.Array) -> jax.Array:
    """The nearest finite number, for what multiplies it by a probability of 0."""
    largest = jnp.finfo(x.dtype).max
    return jnp.clip(x, -largest, largest)


def logistic(x: jax.Array, label_smoothing: ArrayLike = 0.0) -> jax.Array:
    """Log-loss of a margin whose sign is wrong with the given probability."""
    eps = jnp.asarray(label_smoothing, x.dtype)
    flipped = jnp.where(eps == 0, 0, eps * jax.nn.softplus(x))
    return jnp.where(eps == 1, 0, (1 - eps) * jax.nn.softplus(-x)) + flipped


def hinge(x: jax.Array) -> jax.Array:
    """``max(0, 1 - x)``, flat at its kink."""
    return jax.nn.relu(1 - x)


def squared(x: jax.Array, beta: ArrayLike) -> jax.Array:
    """Squared distance of a margin from ``1 / (2 beta)``."""
    return jnp.square(x - 1 / (2 * jnp.asarray(beta, x.dtype)))


def exponential_gap(
    a: jax.Array,
    b: jax.Array,
    rate: ArrayLike,
    clip: ArrayLike | None = None,
    lengths: tuple[jax.Array, ...] = (),
) -> jax.Array:
    """``(exp(-rate * b) - exp(-rate * a)) / rate``, which is ``a - b`` at rate 0.

    With the lengths of the two answers each term is divided by its own.

    Exponents above ``clip`` are taken for it and have no slope. Where an exponential
    overflows it goes on as a very steep line: two of them still have a difference with
    the right sign.
    """
    k = hyper("alpha", rate, a.dtype)
    info = jnp.finfo(a.dtype)
    largest = math.log(info.max) * (1 - 4 * float(info.eps))
    u, v = -k * a, -k * b
    if clip is not None:
        u, v = _clipped(u, clip), _clipped(v, clip)
    steep = float(info.max) / 1024  # room for the constants that multiply it
    grow = (
        jnp.exp if lengths else numerics.expm1
    )  # the ones cancel, divided by one number
    n_a, n_b = lengths or (1, 1)
    beyond = jax.nn.relu(v - largest) / n_b - jax.nn.relu(u - largest) / n_a
    u, v = _clipped(u, largest), _clipped(v, largest)
    gap = grow(v) / n_b - grow(u) / n_a + beyond * steep
    return jnp.where(k == 0, a / n_a - b / n_b, gap / jnp.where(k == 0, 1, k))


def _clipped(x, largest):
    """At most ``largest``; its slope is selected, not multiplied, for it may be inf."""
    largest = jnp.asarray(largest, x.dtype)
    return jnp.where(x > largest, largest, x)
