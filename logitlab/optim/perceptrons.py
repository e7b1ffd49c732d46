"""Gradient descent on separable data, and the perceptron that it becomes."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses import cross_entropy
from logitlab.numerics.arguments import check_count, check_range

__all__ = [
    "ErrorMassState",
    "Perceptron",
    "batch_perceptron",
    "error_mass",
    "scale_by_inverse_error_mass",
]


def error_mass(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Mean probability of the wrong classes, for ``scale_by_inverse_error_mass``.

    .. math:: \frac1n \sum_i (1 - p_{i, y_i})

    Args:
      logits: scores [..., C]; of a binary problem (z, 0).
      labels: ints in ``[0, C)`` or distributions, of which it is then the mean of
        ``1 - exp(-cross_entropy)``.
      axis: the class axis.
      where: bool, the classes that take part.
      mask: bool, the examples that take part.

    Returns:
      One number in [0, 1], float32 (float64 for float64 logits); 0 without an example.

    Raises:
      ValueError: see :func:`logitlab.losses.cross_entropy`.

    Numerics: relative error below 1e-5 up to margins of 80: it does not round to 0.

    Source: arXiv:2412.08424; for more than two classes it is ours.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import error_mass
    >>> error_mass(jnp.float32([[0, 0], [40, 0]]), jnp.array([0, 1]))
    Array(0.75, dtype=float32)
    """
    losses = cross_entropy(logits, labels, axis=axis, where=where)
    wrong = -jnp.expm1(-losses)
    keep = jnp.ones(wrong.shape, bool) if mask is None else jnp.asarray(mask)
    return numerics.masked_mean(wrong, keep)


class ErrorMassState(NamedTuple):
    """State of :func:`scale_by_inverse_error_mass`.

    Attributes:
      scale: what the last gradient was multiplied by.
    """

    scale: jax.Array


def scale_by_inverse_error_mass(
    max_scale: ArrayLike = 1e6,
) -> optax.GradientTransformationExtraArgs:
    r"""Divides gradients of a log-loss by the mean probability of error.

    Use it on separable data: descent then takes a number of steps that does not grow
    with the number of examples, and becomes the perceptron for large step sizes.

    .. math:: g \leftarrow \beta g, \qquad
        \beta = \min\Bigl(\frac{1}{\mathrm{mean}(1 - p_y)}, \beta_{max}\Bigr)

    Goes before the learning rate: ``optax.chain(scale_by_inverse_error_mass(),
    optax.sgd(10.0))``, with ``update(..., error_mass=)`` of :func:`error_mass`. Needs
    no ``params``; dtypes survive. Where the error mass is not finite, updates are 0. On
    data that are not separable it does not converge.

    Args:
      max_scale: the most that a gradient is multiplied by, once all is classified.

    Raises:
      ValueError: ``max_scale`` is not positive.
      TypeError: ``update`` gets no ``error_mass``.

    Source: From Logistic Regression to the Perceptron Algorithm, arXiv:2412.08424.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import scale_by_inverse_error_mass
    >>> transform, g = scale_by_inverse_error_mass(), jnp.float32([1, -2])
    >>> transform.update(g, transform.init(g), error_mass=0.25)[0]
    Array([ 4., -8.], dtype=float32)
    """
    check_range("max_scale", max_scale, lambda s: s > 0, "positive")

    def init(params):
        del params
        return ErrorMassState(jnp.ones((), jnp.float32))

    def update(updates, state, params=None, *, error_mass, **extra):
        del state, params, extra
        mass = jnp.asarray(error_mass)
        mass = mass.astype(jnp.promote_types(mass.dtype, jnp.float32))
        most = jnp.asarray(max_scale, mass.dtype)
        fine = jnp.isfinite(mass) & (mass >= 0)
        large = mass * most > 1
        scale = jnp.where(large, 1 / jnp.where(large, mass, 1), most)

        def scaled(g):
            wide = jnp.promote_types(g.dtype, jnp.float32)
            more = (scale.astype(wide) * g.astype(wide)).astype(g.dtype)
            return jnp.where(fine, more, jnp.zeros((), g.dtype))

        state = ErrorMassState(jnp.where(fine, scale, 0).astype(jnp.float32))
        return jax.tree.map(scaled, updates), state

    return optax.GradientTransformationExtraArgs(init, update)


class Perceptron(NamedTuple):
    """What :func:`batch_perceptron` found.

    Attributes:
      weights: [D].
      steps: how many it took.
      separated: whether all margins are positive.
    """

    weights: jax.Array
    steps: jax.Array
    separated: jax.Array


def batch_perceptron(
    x: ArrayLike, y: ArrayLike, *, normalized: bool = False, max_steps: int = 100_000
) -> Perceptron:
    r"""Perceptron that takes all misclassified examples at once.

    Use it as the limit of logistic regression at large step sizes, with or without
    :func:`scale_by_inverse_error_mass`.

    .. math:: \theta \leftarrow \theta + \frac{1}{Z} \sum_{i \in S} y_i x_i, \qquad
        S = \{i : y_i \, x_i^\top \theta \le 0\}

    with Z = n, or :math:`|S|` if ``normalized``. The first step, from 0, is half as
    long, as it is in the limit: every example has probability 1/2 there. (Normalized
    descent itself makes it whole; here both begin alike, by which the paper's numbers
    of steps come out.)

    Shapes: x [N, D], y [N] -> weights [D], steps [], separated []

    Args:
      x: features.
      y: -1 and 1.
      normalized: divide by the number of misclassified examples, not of all.
      max_steps: the most steps there are; data that are not separable take them all.

    Raises:
      ValueError: the shapes do not match, ``y`` has other numbers, or ``max_steps`` is
        below 1.

    Source: From Logistic Regression to the Perceptron Algorithm, arXiv:2412.08424.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import batch_perceptron
    >>> batch_perceptron(jnp.float32([[1, -1], [-1, -4]]), jnp.float32([1, -1])).steps
    Array(2, dtype=int32)
    """
    features = numerics.promote_to_float32(x, "x")
    if features.ndim != 2 or jnp.shape(y) != features.shape[:1]:
        raise ValueError(
            f"x has shape {features.shape} and y {jnp.shape(y)}, expected [N, D] and "
            "[N]"
        )
    check_range("y", y, lambda y: abs(y) == 1, "-1 and 1")
    check_count("max_steps", max_steps)
    signed = features * jnp.asarray(y, features.dtype)[:, None]

    def going(carry):
        _, margins, steps = carry
        return (steps < max_steps) & (margins <= 0).any()

    def step(carry):
        weights, margins, steps = carry
        wrong = margins <= 0
        total = jnp.where(wrong[:, None], signed, 0).sum(0)
        over = wrong.sum() if normalized else len(signed)
        half = jnp.where(steps == 0, 2, 1)
        weights = weights + total / (over * half).astype(total.dtype)
        return weights, signed @ weights, steps + 1

    start = jnp.zeros(features.shape[1], features.dtype)
    begin = start, signed @ start, jnp.zeros((), jnp.int32)
    weights, margins, steps = jax.lax.while_loop(going, step, begin)
    return Perceptron(weights, steps, (margins > 0).all())
