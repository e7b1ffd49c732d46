"""Soft targets for the factors of a checkered model, and the loss that fits them."""

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.optim.cross_gradients import on_simplex

MOST_DRAWS = 1_000_000  # of a Dirichlet distribution, for each example


def checkered_cross_loss(
    factor_logits: ArrayLike,
    responsibilities: ArrayLike,
    *,
    axis: int = -1,
    factor_axis: int = -2,
) -> jax.Array:
    r"""Cross-entropies of all factors of a checkered model, with their soft targets.

    .. math:: \sum_k \Big( -\sum_l q_{k,l} \log \mathrm{softmax}(Z_k)_l \Big)

    Its gradient in the factor logits, softmax(Z) - q, is the cross-gradient of the
    checkered cross-entropy, without the :math:`C^{m-1}` partial losses of each example:
    of their weights it only takes what each factor drew. It is one softmax regression
    for each factor, and convex.

    Shapes: factor_logits [..., M, C], responsibilities [..., M, C] -> [...]

    Args:
      factor_logits: as in ``links.checkered``.
      responsibilities: q, from ``links.checkered_responsibilities`` at a reference, or
        from :func:`dirichlet_responsibilities`. No gradient passes.
      axis: the class axis.
      factor_axis: the axis of the factors.

    Returns:
      Nats, float32 (float64 for float64 input): the convex function, not the loss.

    Raises:
      TypeError: an argument is not floating point.
      ValueError: no such axis, the shapes differ, or, where the values are known, a
        row of ``responsibilities`` is not on the simplex.

    Source: Achab 2023, arXiv:2309.15298, proposition 5.7.

    >>> z, q = jnp.zeros((2, 2)), jnp.float32([[1, 0], [0.5, 0.5]])
    >>> checkered_cross_loss(z, q)
    Array(1.3862944, dtype=float32)
    """
    z, q = (
        jnp.asarray(factor_logits),
        numerics.promote(responsibilities, "responsibilities"),
    )
    if q.shape != z.shape:
        raise ValueError(f"responsibilities has shape {q.shape}, expected {z.shape}")
    if not -z.ndim <= factor_axis < z.ndim or factor_axis % z.ndim == axis % z.ndim:
        raise ValueError(
            f"factor_axis {factor_axis} is not another axis of factor_logits with "
            f"shape {z.shape}"
        )
    log_p = numerics.log_softmax(z, axis=axis)
    q = on_simplex(jnp.moveaxis(q, axis, -1), None, "responsibilities")
    q = jnp.moveaxis(q, -1, axis).astype(log_p.dtype)
    return -jnp.sum(jnp.where(q > 0, q * log_p, 0), (axis, factor_axis))


def dirichlet_responsibilities(
    key: jax.Array,
    labels: ArrayLike,
    *,
    factors: int,
    classes: int,
    concentration: float = 1.0,
) -> jax.Array:
    r"""Soft targets for the factors of a checkered model, at random for each example.

    .. math:: \mu \sim \mathrm{Dirichlet}(\alpha), \quad
        q_{k,l} = \sum_{\upsilon \,:\, \sum_j \upsilon_j \equiv y, \; \upsilon_k = l}
        \mu_\upsilon

    over the :math:`C^{m-1}` ways to draw a label, whose marginals they are.

    Shapes: labels [...] -> [..., M, C]

    Args:
      key: a ``jax.random.key``.
      labels: ints in ``[0, classes)``.
      factors: m, at least 1.
      classes: C, at least 2.
      concentration: :math:`\alpha`, positive; small puts most weight on one way.

    Returns:
      float32 responsibilities, each factor's row on the simplex.

    Raises:
      ValueError: an argument is out of its range, a label is, or there are more than a
        million ways.

    Source: Achab 2023, arXiv:2309.15298, names the choice; the marginals [derived].

    >>> labels = jnp.array([0, 1, 1])
    >>> key = jax.random.key(0)
    >>> dirichlet_responsibilities(key, labels, factors=2, classes=3).shape
    (3, 2, 3)
    """
    for name, value, least in (("factors", factors, 1), ("classes", classes, 2)):
        if value < least:
            raise ValueError(f"{name} is {value}, expected at least {least}")
    if not concentration > 0:
        raise ValueError(
            f"concentration is {concentration}, expected a positive number"
        )
    ways = classes ** (factors - 1)
    if ways > MOST_DRAWS:
        raise ValueError(
            f"factors is {factors} and classes {classes}: {ways} ways to draw a label, "
            f"expected at most {MOST_DRAWS}"
        )
    shape = jnp.shape(labels)
    y, known = numerics.known_labels(labels, shape, classes)
    mu = jax.random.dirichlet(key, jnp.full(ways, concentration), shape)
    # The first m - 1 draws are free, and the last one makes up the label.
    free = np.indices((classes,) * (factors - 1)).reshape(factors - 1, ways).T
    last = (y[..., None] - jnp.expand_dims(free.sum(-1), range(y.ndim))) % classes
    free = jnp.broadcast_to(free, (*shape, *free.shape))
    drawn = jnp.concatenate([free, last[..., None]], -1)
    q = jnp.einsum("...w,...wkl->...kl", mu, jax.nn.one_hot(drawn, classes))
    return jnp.where(known[..., None, None], q, jnp.nan)
