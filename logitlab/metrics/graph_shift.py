"""How wrong a graph network is on an unlabeled graph, from what retraining changes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.mean import tree_norm
from logitlab.numerics.arguments import check_range, hyper

__all__ = ["LebedScore", "lebed_score", "structure_discrepancy"]


class LebedScore(NamedTuple):
    """What ``lebed_score`` found.

    Attributes:
      score: distance between the parameters; higher for a higher test error.
      epochs: updates that retraining took.
      stopped: whether it met the margin; otherwise it ran out of epochs.
    """

    score: jax.Array
    epochs: jax.Array
    stopped: jax.Array


def structure_discrepancy(
    embeddings: ArrayLike, pos_edges: ArrayLike, neg_edges: ArrayLike
) -> jax.Array:
    r"""How badly embeddings tell the edges of a graph from pairs that are none.

    .. math:: \frac{1}{|E| + |E^-|} \Bigl( \sum_{(u, v) \in E} \log(1 + e^{-s_{uv}}) +
        \sum_{(u, v) \in E^-} \log(1 + e^{s_{uv}}) \Bigr), \quad s_{uv} = \cos(z_u, z_v)

    Shapes: embeddings [N, D], pos_edges [2, E], neg_edges [2, F] -> []

    Args:
      embeddings: of the nodes. One of length 0 has a cosine of 0 with all.
      pos_edges: pairs of nodes that are joined, ints in ``[0, N)``.
      neg_edges: pairs that are not, usually as many.

    Returns:
      Nats, from 0.313 to 1.313, and about 0.69 for embeddings that are orthogonal;
      float32 (float64 for float64 embeddings); 0 without any pairs.

    Raises:
      TypeError: ``embeddings`` is not floating point, or edges are not integers.
      ValueError: the shapes do not fit, or a node is out of range (under ``jit`` its
        pair is left out).

    Source: LeBeD, Zheng et al. 2024, arXiv:2403.09953.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import structure_discrepancy
    >>> z = jnp.float32([[1, 0], [2, 0], [0, 1]])
    >>> edges, others = jnp.array([[0], [1]]), jnp.array([[0], [2]])
    >>> print(f"{structure_discrepancy(z, edges, others):.4f}")
    0.5032
    """
    z = numerics.promote_to_float32(embeddings, "embeddings")
    if z.ndim != 2:
        raise ValueError(f"embeddings has shape {z.shape}, expected [N, D]")
    (yes, is_yes), (no, is_no) = (
        _cosines(z, *_edges(name, edges, len(z)))
        for name, edges in (("pos_edges", pos_edges), ("neg_edges", neg_edges))
    )
    costs = jnp.concatenate([jax.nn.softplus(-yes), jax.nn.softplus(no)])
    return numerics.masked_mean(costs, jnp.concatenate([is_yes, is_no]))


def lebed_score(
    network: Callable[[Any, Any], tuple[jax.Array, jax.Array]],
    trained_params: Any,
    init_params: Any,
    graph: Any,
    pos_edges: ArrayLike,
    neg_edges: ArrayLike,
    *,
    learning_rate: ArrayLike = 1e-3,
    weight_decay: ArrayLike = 5e-4,
    max_epochs: int = 200,
    min_epochs: int = 5,
    margin: ArrayLike = 0.01,
    relative: bool = False,
) -> LebedScore:
    r"""How far a graph network moves when it is trained again, on its own predictions.

    Use it to rank unlabeled test graphs by the error that a trained network makes on
    them, without its training graph.

    .. math:: \lVert \theta^* - \theta_{stop} \rVert_2

    Training starts from the initial parameters, with Adam and the cross-entropy to the
    trained network's own classes, and ends where ``structure_discrepancy`` is that of
    the trained network again. It has to move about as fast as the original training
    did, or it never gets there: take that learning rate.

    Args:
      network: (params, graph) -> (embeddings [N, D], logits [N, C]) of the nodes.
      trained_params: of the network to be judged, a pytree.
      init_params: those that its training started from.
      graph: the test graph, whatever ``network`` takes.
      pos_edges: its edges, [2, E].
      neg_edges: pairs of nodes without an edge, usually as many, drawn once:
        ``data.random_non_edges``.
      learning_rate: of Adam.
      weight_decay: added to the gradient, as torch's Adam does.
      max_epochs: full-batch updates at most, a Python number.
      min_epochs: updates before it may stop.
      margin: how near the discrepancy has to come, in nats.
      relative: whether ``margin`` is a part of the trained network's discrepancy; the
        authors take 0.05 then.

    Returns:
      A ``LebedScore``.

    Raises:
      TypeError: as for ``structure_discrepancy``.
      ValueError: as for ``structure_discrepancy``, or an option is out of its range.

    Source: LeBeD, Zheng et al. 2024, arXiv:2403.09953.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import lebed_score
    >>> network = lambda params, x: (x @ params, x @ params)
    >>> edges = jnp.array([[0], [1]]), jnp.array([[0], [2]])
    >>> x, zero = jnp.eye(3), jnp.zeros((3, 2))
    >>> moved = lebed_score(network, zero + 1, zero, x, *edges, max_epochs=0)
    >>> print(f"{moved.score:.4f}")
    2.4495
    """
    import optax  # half a second to import, for this alone

    check_range("max_epochs", max_epochs, lambda v: v >= 0, "at least 0")
    embeddings, logits = network(trained_params, graph)
    labels = jnp.argmax(logits, -1)
    reference = structure_discrepancy(embeddings, pos_edges, neg_edges)
    margin = hyper("margin", margin, reference.dtype, lambda v: v >= 0, "at least 0")
    margin = margin * reference if relative else margin
    optimizer = optax.chain(
        optax.add_decayed_weights(weight_decay), optax.adam(learning_rate)
    )

    def loss(params):
        embeddings, logits = network(params, graph)
        found = structure_discrepancy(embeddings, pos_edges, neg_edges)
        return numerics.masked_mean(numerics.label_nll(logits, labels)), found

    def step(carry):
        params, state, epoch, _ = carry
        grad, found = jax.grad(loss, has_aux=True)(params)
        updates, state = optimizer.update(grad, state, params)
        near = (jnp.abs(found - reference) < margin) & (epoch + 1 >= min_epochs)
        return optax.apply_updates(params, updates), state, epoch + 1, near

    def unfinished(carry):
        _, _, epoch, near = carry
        return (epoch < max_epochs) & ~near

    start = (init_params, optimizer.init(init_params), 0, jnp.asarray(False))
    params, _, epochs, stopped = jax.lax.while_loop(unfinished, step, start)
    gap = jax.tree.map(jnp.subtract, trained_params, params)
    return LebedScore(tree_norm(gap), jnp.asarray(epochs), stopped)


def _edges(name, edges, nodes):
    at = numerics.wide_labels(edges, name)
    if at.ndim != 2 or len(at) != 2:
        raise ValueError(f"{name} has shape {at.shape}, expected two rows of nodes")
    inside = (at >= 0) & (at < nodes)
    if numerics.is_concrete(inside) and not inside.all():
        raise ValueError(f"{name} has nodes outside [0, {nodes}): {at[~inside][:5]}")
    keep = inside.all(0)
    return jnp.where(keep[None], at, 0), keep


def _cosines(z, edges, keep):
    """Of the pairs' embeddings, divided by their lengths but not by less than 1e-8."""
    square = jnp.sum(jnp.square(z), -1, keepdims=True)
    some = square > 0
    length = jnp.where(some, jnp.sqrt(jnp.where(some, square, 1)), 0)
    unit = z / jnp.maximum(length, 1e-8)
    u, v = edges
    return jnp.sum(unit[u] * unit[v], -1), keep
