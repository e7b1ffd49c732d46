"""Two-dimensional classification problems that are not linearly separable."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def xor_mixture(
    key: jax.Array, rows: int, *, variance: float = 0.2
) -> dict[str, jax.Array]:
    r"""Four Gaussian clouds at the corners of a square, opposite ones of one class.

    .. math:: x \mid y \sim \mathcal N((s, (-1)^y s), \sigma^2 I), \quad s = \pm 1

    Every line gets about half of the labels right.

    Shapes: n rows -> x float32 [n, 2], y int32 [n]

    Args:
      key: a ``jax.random.key``.
      rows: n, at least 1; classes and clouds are drawn with equal chances.
      variance: :math:`\sigma^2`, at least 0.

    Returns:
      ``dict(x=..., y=...)``.

    Raises:
      ValueError: an argument is out of its range.

    >>> import jax
    >>> from logitlab.data.checkerboards import xor_mixture
    >>> xor_mixture(jax.random.key(0), 5)["x"].shape
    (5, 2)
    """
    if rows < 1:
        raise ValueError(f"rows is {rows}, expected at least 1")
    if not variance >= 0:
        raise ValueError(f"variance is {variance}, expected 0 or more")
    class_key, side_key, noise_key = jax.random.split(key, 3)
    y = jax.random.randint(class_key, (rows,), 0, 2)
    side = jax.random.rademacher(side_key, (rows,), jnp.float32)
    corners = jnp.stack([side, jnp.where(y == 0, side, -side)], -1)
    noise = jax.random.normal(noise_key, (rows, 2))
    return {"x": corners + jnp.sqrt(variance) * noise, "y": y}


def checkerboard(
    key: jax.Array,
    rows: int,
    *,
    lines: int,
    classes: int = 2,
    span: float = 10.0,
) -> dict[str, jax.Array]:
    r"""Points of a square, labelled by the sides of random lines that they lie on.

    .. math:: y = \sum_k \arg\max_c \; w_{k,c} \cdot (x - p_k) \mod C

    with normal weights, and points :math:`p_k` uniform over the middle of the square:
    with two classes the parity of the number of lines that x lies beyond; with more,
    each fan of C rays adds its sector. A checkered regression with as many factors can
    tell all of it.

    Shapes: n rows -> x float32 [n, 2], y int32 [n]

    Args:
      key: a ``jax.random.key``, of the lines and of the points.
      rows: n, at least 1, uniform over the square.
      lines: how many, at least 1; fans, with more than two classes.
      classes: C, at least 2.
      span: the square is [-span, span] in both directions, its middle half of that.

    Returns:
      ``dict(x=..., y=...)``. Fewer or more rows by the same key have the same lines.

    Raises:
      ValueError: an argument is out of its range.

    Source: the lines, Achab 2022; more classes are ours.

    >>> import jax
    >>> from logitlab.data.checkerboards import checkerboard
    >>> board = checkerboard(jax.random.key(0), 100, lines=3)
    >>> board["x"].shape, sorted(set(board["y"].tolist()))
    ((100, 2), [0, 1])
    """
    checks = (("rows", rows, 1), ("lines", lines, 1), ("classes", classes, 2))
    for name, value, least in checks:
        if value < least:
            raise ValueError(f"{name} is {value}, expected at least {least}")
    if not span > 0:
        raise ValueError(f"span is {span}, expected a positive number")
    weight_key, place_key, key = jax.random.split(key, 3)
    weights = jax.random.normal(weight_key, (lines, classes, 2))
    places = jax.random.uniform(
        place_key, (lines, 2), minval=-span / 2, maxval=span / 2
    )
    x = jax.random.uniform(key, (rows, 2), minval=-span, maxval=span)
    from_places = x[:, None] - places[None]
    sides = jnp.einsum("nkd,kcd->nkc", from_places, weights).argmax(-1)
    return {"x": x, "y": sides.sum(-1, dtype=jnp.int32) % classes}
