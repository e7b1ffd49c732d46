"""Oracles: scores and posteriors of mixtures, in closed form."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike


class Mixture(NamedTuple):
    """A mixture of isotropic Gaussians.

    Attributes:
      weights: of the components, which add up to 1, [K].
      means: [K, D].
      deviation: of every component and feature.
    """

    weights: ArrayLike
    means: ArrayLike
    deviation: float


def circle(modes: int, radius: float, deviation: float) -> Mixture:
    """Even modes on a circle in two dimensions."""
    angles = 2 * np.pi * np.arange(modes) / modes
    means = radius * np.stack([np.cos(angles), np.sin(angles)], -1)
    return Mixture(np.full(modes, 1 / modes), means, deviation)


def draw(key: jax.Array, mixture: Mixture, many: int) -> jax.Array:
    """Samples [N, D]."""
    which_key, noise_key = jax.random.split(key)
    which = jax.random.categorical(which_key, jnp.log(mixture.weights), shape=(many,))
    means = jnp.asarray(mixture.means)[which]
    return means + mixture.deviation * jax.random.normal(noise_key, means.shape)


def log_density(
    x: jax.Array, mixture: Mixture, alpha: float = 1.0, h: float = 0.0
) -> jax.Array:
    """Of ``alpha * x0 + sqrt(h) * noise`` at x [..., D], x0 of the mixture."""
    return jax.nn.logsumexp(_logs(x, mixture, alpha, h), -1)


def score(
    x: jax.Array, mixture: Mixture, alpha: float = 1.0, h: float = 0.0
) -> jax.Array:
    """Gradient [..., D] of :func:`log_density`; ``alpha`` and ``h`` may be [...]."""
    shares = jax.nn.softmax(_logs(x, mixture, alpha, h), -1)
    alpha, h = _beside(alpha), _beside(h)
    center = alpha * (shares @ jnp.asarray(mixture.means))
    return (center - x) / (alpha**2 * mixture.deviation**2 + h)


def clean_mean(
    x: jax.Array, mixture: Mixture, alpha: float = 1.0, h: float = 0.0
) -> jax.Array:
    """The best guess of x0 at x, ``E[x0 | x]`` [..., D]."""
    found = score(x, mixture, alpha, h)
    return (x + _beside(h) * found) / _beside(alpha)


def _beside(value):
    """A number, or one for each row, with an axis for features."""
    value = jnp.asarray(value)
    return value[..., None] if value.ndim else value


def _logs(x, mixture, alpha, h):
    """Log-densities [..., K] of the components at x, times their weights."""
    alpha, h = _beside(alpha), _beside(h)
    variance = alpha**2 * mixture.deviation**2 + h
    lead = (1,) * (x.ndim - 1)
    means = jnp.asarray(mixture.means)
    means = means.reshape(*lead, *means.shape)
    gaps = jnp.square(x[..., None, :] - _beside(alpha) * means).sum(-1)
    logs = jnp.log(mixture.weights).reshape(*lead, -1) - gaps / (2 * variance)
    return logs - x.shape[-1] / 2 * jnp.log(2 * jnp.pi * variance)


class Discrete(NamedTuple):
    """A prior of points, such as a grid, in one dimension.

    Attributes:
      points: [K].
      weights: which add up to 1, [K].
    """

    points: ArrayLike
    weights: ArrayLike


def two_bumps(low: float, high: float, many: int) -> Discrete:
    """A grid under two bumps, of which the one at small values is larger."""
    points = np.linspace(low, high, many)
    place = (points - low) / (high - low)
    weights = 0.6 * np.exp(-(((place - 0.25) / 0.1) ** 2)) + 0.4 * np.exp(
        -(((place - 0.75) / 0.1) ** 2)
    )
    return Discrete(points, weights / weights.sum())


def draw_points(key: jax.Array, prior: Discrete, many: int) -> jax.Array:
    """Points of a prior, [N, 1]."""
    points, weights = map(jnp.asarray, prior)
    return jax.random.choice(key, points, (many, 1), p=weights)


def posterior(
    y: jax.Array,
    prior: Discrete,
    log_likelihood: Callable[[jax.Array, jax.Array], jax.Array],
) -> Callable[[Callable[[jax.Array], jax.Array]], jax.Array]:
    """The mean of any function of the prior's points given y [N], as a function of it.

    Args:
      y: noisy data.
      prior: of the clean ones.
      log_likelihood: (y [N, 1], points [1, K]) -> [N, K], up to a function of y.
    """
    logs = log_likelihood(y[:, None], jnp.asarray(prior.points)[None])
    shares = jax.nn.softmax(logs + jnp.log(prior.weights)[None], -1)
    return lambda f: shares @ f(jnp.asarray(prior.points))
