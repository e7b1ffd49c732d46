"""Soft targets for the factors of a checkered model, and the loss that fits them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range

MOST_DRAWS = 1_000_000  # of a Dirichlet distribution, for each example


def dirichlet_responsibilities(
    key: jax.Array,
    labels: ArrayLike,
    *,
    factors: int,
    classes: int,
    concentration: float = 1.0,
) -> jax.Array:
    r"""Random Dirichlet soft targets for the factors of a checkered model.

    .. math:: \mu \sim \mathrm{Dirichlet}(\alpha), \quad
        q_{k,l} = \sum_{\upsilon \,:\, \sum_j \upsilon_j \equiv y, \; \upsilon_k = l}
        \mu_\upsilon

    over the :math:`C^{m-1}` ways to draw a label, whose marginals they are.

    Shapes: labels [...] -> [..., M, C]

    Args:
      key: a ``jax.random.key``.
      labels: ints in ``[0, classes)``.
      factors: m, at least 1; not traced, as it is a shape.
      classes: C, at least 2; the same.
      concentration: :math:`\alpha`, positive; small puts most weight on one way.

    Returns:
      float32 responsibilities, each factor's row on the simplex.

    Raises:
      ValueError: an argument is out of its range, a label is, or there are more than a
        million ways.

    Source: Achab 2023, arXiv:2309.15298, names the choice; the marginals [derived].

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.targets import dirichlet_responsibilities
    >>> labels = jnp.array([0, 1, 1])
    >>> key = jax.random.key(0)
    >>> dirichlet_responsibilities(key, labels, factors=2, classes=3).shape
    (3, 2, 3)
    """
    for name, value, least in (("factors", factors, 1), ("classes", classes, 2)):
        if value < least:
            raise ValueError(f"{name} is {value}, expected at least {least}")
    check_range("concentration", concentration, lambda a: a > 0, "a positive number")
    ways = classes ** (factors - 1)
    if ways > MOST_DRAWS:
        raise ValueError(
            f"factors is {factors} and classes {classes}: {ways} ways to draw a label, "
            f"expected at most {MOST_DRAWS}"
        )
    shape = jnp.shape(labels)
    y, known = numerics.check_labels(labels, shape, classes)
    mu = jax.random.dirichlet(key, jnp.full(ways, concentration, jnp.float32), shape)
    # The first m - 1 draws are free, and the last one makes up the label.
    free = np.indices((classes,) * (factors - 1)).reshape(factors - 1, ways).T
    last = (y[..., None] - jnp.expand_dims(free.sum(-1), range(y.ndim))) % classes
    free = jnp.broadcast_to(free, (*shape, *free.shape))
    drawn = jnp.concatenate([free, last[..., None]], -1)
    q = jnp.einsum(
        "...w,...wkl->...kl", mu, jax.nn.one_hot(drawn, classes, dtype=mu.dtype)
    )
    return jnp.where(known[..., None, None], q, jnp.nan)
