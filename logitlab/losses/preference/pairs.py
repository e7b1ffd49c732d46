"""What preference losses share: checked log-probabilities, margins, exact pieces."""

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.labels import checked

__all__ = [
    "exponential_gap",
    "finite",
    "hinge",
    "log1mexp",
    "logistic",
    "lengths_like",
    "logps_like",
    "log_ratio",
    "margin",
    "positive",
    "referenced",
    "sigmoid",
    "smoothing",
    "squared",
]

NOT_LOSSES = tuple(__all__)


def logps_like(**arrays: ArrayLike) -> list[jax.Array]:
    """Promoted arrays of one shape and dtype, those of the first.

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ.
    """
    first, *_ = arrays
    arrays = {name: numerics.promote(array, name) for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.shape != arrays[first].shape:
            raise ValueError(
                f"{name} has shape {array.shape}, expected {arrays[first].shape}, that "
                f"of {first}"
            )
    return [array.astype(arrays[first].dtype) for array in arrays.values()]


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
    return chosen, rejected, *map(jax.lax.stop_gradient, ref)


def lengths_like(
    logps: jax.Array, *, least: int = 1, **lengths: ArrayLike | None
) -> tuple[jax.Array, ...]:
    """Numbers of tokens as floats, at least 1 to divide by: no tokens have a sum of 0.

    Raises:
      ValueError: there are none, or they have another shape than ``logps``.
    """
    found = []
    for name, array in lengths.items():
        if array is None:
            raise ValueError(f"{name} is None, expected the number of tokens of each")
        array = jnp.asarray(array)
        if array.shape != logps.shape:
            raise ValueError(
                f"{name} has shape {array.shape}, expected {logps.shape}, that of the "
                "log-probabilities"
            )
        found.append(jnp.maximum(array.astype(logps.dtype), least))
    return tuple(found)


def positive(**numbers: ArrayLike) -> None:
    """Refuses known hyper-parameters that are not positive."""
    for name, value in numbers.items():
        checked(name, value, lambda v: v > 0, "positive")


def smoothing(label_smoothing: ArrayLike) -> None:
    """Refuses a known share of flipped labels that is no share."""
    inside = lambda e: (e >= 0) & (e <= 1)  # noqa: E731
    checked("label_smoothing", label_smoothing, inside, "a number in [0, 1]")


def log_ratio(logps: jax.Array, ref_logps: jax.Array, beta: ArrayLike) -> jax.Array:
    """``beta * (logps - ref_logps)``, finite where only the difference is not."""
    return 2 * jnp.asarray(beta, logps.dtype) * (logps / 2 - ref_logps / 2)


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
    """``beta`` times the difference of two log-ratios, each over its length.

    Quarters are exact and their differences fit whatever the log-probabilities are.
    """
    good = (chosen / 4 - ref_chosen / 4) / chosen_lengths
    bad = (rejected / 4 - ref_rejected / 4) / rejected_lengths
    return 4 * jnp.asarray(beta, chosen.dtype) * (good - bad)


def finite(x: jax.Array) -> jax.Array:
    """The nearest finite number, for what multiplies it by a probability of 0."""
    largest = jnp.finfo(x.dtype).max
    return jnp.clip(x, -largest, largest)


def sigmoid(x: jax.Array) -> jax.Array:
    """A sigmoid whose slope does not round to 0."""
    return jnp.exp(-jax.nn.softplus(-x))


def logistic(x: jax.Array, label_smoothing: ArrayLike = 0.0) -> jax.Array:
    """Log-loss of a margin whose sign is wrong with the given probability."""
    eps = jnp.asarray(label_smoothing, x.dtype)
    flipped = jnp.where(eps == 0, 0, eps * jax.nn.softplus(x))
    return jnp.where(eps == 1, 0, (1 - eps) * jax.nn.softplus(-x)) + flipped


def hinge(x: jax.Array) -> jax.Array:
    """``max(0, 1 - x)``, flat at its kink."""
    return jax.nn.relu(1 - x)


def squared(quarter: jax.Array, beta: ArrayLike) -> jax.Array:
    """Squared distance of a margin, given a quarter of it, from ``1 / (2 beta)``.

    Where the square overflows its slope is that of the largest square.
    """
    x = quarter - 1 / (8 * jnp.asarray(beta, quarter.dtype))
    limit = jnp.finfo(x.dtype).max / 128
    x -= jax.lax.stop_gradient(x - jnp.clip(x, -limit, limit))
    return 16 * jnp.square(x)


def log1mexp(x: jax.Array) -> jax.Array:
    """``log(1 - exp(x))`` of a log-probability, which counts as at most -1e-7."""
    x = jnp.minimum(x, -1e-7)
    near = x > -math.log(2)
    close = jnp.log(-jnp.expm1(jnp.where(near, x, -1)))
    return jnp.where(near, close, jnp.log1p(-jnp.exp(jnp.where(near, -1, x))))


def exponential_gap(
    a: jax.Array, b: jax.Array, rate: ArrayLike, clip: float | None = None
) -> jax.Array:
    """``(exp(-rate * b) - exp(-rate * a)) / rate``, which is ``a - b`` at rate 0.

    Exponents above ``clip`` are taken for it and have no slope. Where an exponential
    overflows it goes on as a very steep line: two of them still have a difference with
    the right sign.
    """
    k = jnp.asarray(rate, a.dtype)
    info = jnp.finfo(a.dtype)
    largest = math.log(info.max) * (1 - 4 * float(info.eps))
    u, v = -k * a, -k * b
    if clip is not None:
        u, v = _clipped(u, clip), _clipped(v, clip)
    beyond = jax.nn.relu(v - largest) - jax.nn.relu(u - largest)
    steep = float(info.max) / 1024  # room for the constants that multiply it
    u, v = _clipped(u, largest), _clipped(v, largest)
    gap = _expm1(v) - _expm1(u) + beyond * steep
    return jnp.where(k == 0, a - b, gap / jnp.where(k == 0, 1, k))


def _clipped(x, largest):
    """At most ``largest``; its slope is selected, not multiplied, for it may be inf."""
    return jnp.where(x > largest, largest, x)


def _expm1(x):
    """``exp(x) - 1``; the slope of ``expm1`` itself rounds to 0 far down."""
    near = x > -0.69
    far = jnp.exp(jnp.where(near, -1, x)) - 1
    return jnp.where(near, jnp.expm1(jnp.where(near, x, 0)), far)
