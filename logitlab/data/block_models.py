"""Random graphs with communities."""

from __future__ import annotations

import jax
import jax.numpy as jnp


def stochastic_block_model(
    key: jax.Array,
    nodes: int,
    *,
    classes: int,
    p_in: float,
    p_out: float,
    features: int = 32,
    noise: float = 1.0,
    means_key: jax.Array | None = None,
) -> dict[str, jax.Array]:
    r"""A graph whose nodes of one class are joined more often, with Gaussian features.

    .. math:: P(A_{uv} = 1) = p_{in} [y_u = y_v] + p_{out} [y_u \ne y_v], \quad
        x_u \sim \mathcal N(m_{y_u}, \sigma^2 I), \quad m_c \sim \mathcal N(0, I)

    Shapes: n nodes -> x float32 [n, features], y int32 [n], adjacency bool [n, n]

    Args:
      key: a ``jax.random.key``.
      nodes: n; classes are of sizes that differ by at most 1.
      classes: how many.
      p_in: chance of an edge within a class.
      p_out: chance of an edge between classes.
      features: of a node.
      noise: sigma.
      means_key: draws the means, so that graphs of other keys share them; by default
        it comes from ``key``.

    Returns:
      ``dict(x=..., y=..., adjacency=...)``; the adjacency is symmetric, without loops.

    Raises:
      ValueError: an argument is out of its range.

    Source: Holland, Laskey and Leinhardt 1983, "Stochastic blockmodels: First steps".

    >>> import jax
    >>> from logitlab.data import stochastic_block_model
    >>> graph = stochastic_block_model(
    ...     jax.random.key(0), 8, classes=2, p_in=1.0, p_out=0.0)
    >>> int(graph["adjacency"].sum())  # two cliques of 4
    24
    """
    if nodes < 1 or classes < 1 or features < 1:
        raise ValueError(
            f"nodes is {nodes}, classes {classes} and features {features}, expected at "
            "least 1"
        )
    for name, p in (("p_in", p_in), ("p_out", p_out)):
        if not 0 <= p <= 1:
            raise ValueError(f"{name} is {p}, expected it in [0, 1]")
    if not noise >= 0:
        raise ValueError(f"noise is {noise}, expected 0 or more")
    edge_key, noise_key, own_key = jax.random.split(key, 3)
    means_key = own_key if means_key is None else means_key
    y = jnp.arange(nodes, dtype=jnp.int32) % classes
    same = y[:, None] == y[None]
    chance = jax.random.uniform(edge_key, same.shape)
    above = jnp.triu(chance < jnp.where(same, p_in, p_out), 1)
    means = jax.random.normal(means_key, (classes, features))
    x = means[y] + noise * jax.random.normal(noise_key, (nodes, features))
    return {"x": x, "y": y, "adjacency": above | above.T}


def random_non_edges(key: jax.Array, adjacency: jax.Array, count: int) -> jax.Array:
    """Pairs of different nodes that are not joined, drawn with equal chances.

    Shapes: adjacency [N, N] -> [2, count]

    Args:
      key: a ``jax.random.key``.
      adjacency: bool, symmetric.
      count: how many pairs, of which some may be equal; usually the number of edges.

    Returns:
      Ints, for ``metrics.structure_discrepancy``. A graph without such pairs has none
      to draw, and any come back.

    Raises:
      ValueError: ``adjacency`` is not square.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.data import random_non_edges
    >>> ring = jnp.array([[0, 1, 0, 1], [1, 0, 1, 0], [0, 1, 0, 1], [1, 0, 1, 0]], bool)
    >>> random_non_edges(jax.random.key(0), ring, 3).shape
    (2, 3)
    """
    if adjacency.ndim != 2 or adjacency.shape[0] != adjacency.shape[1]:
        raise ValueError(f"adjacency has shape {adjacency.shape}, expected [N, N]")
    free = jnp.triu(~adjacency.astype(bool), 1)
    upto = jnp.cumsum(free.ravel())
    drawn = jax.random.randint(key, (count,), 0, upto[-1])
    flat = jnp.searchsorted(upto, drawn, side="right")
    return jnp.stack(jnp.divmod(flat % free.size, len(adjacency)))
