"""Hierarchical softmax: two levels (cluster, member) or a binary tree."""

from __future__ import annotations

import heapq
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.heads import _gathered
from logitlab.heads._operands import product, wide

__all__ = [
    "HuffmanTree",
    "TwoLevelLayout",
    "build_huffman",
    "hierarchical_log_prob",
    "hierarchical_softmax",
    "two_level_layout",
    "two_level_softmax",
]


class TwoLevelLayout(NamedTuple):
    """Layout of a two-level softmax: the cluster and the place of each class.

    Attributes:
      cluster: c(v), [V].
      member: m(v), the place in the cluster, [V].
      sizes: how many classes each cluster has, [K].
    """

    cluster: jax.Array
    member: jax.Array
    sizes: jax.Array


class HuffmanTree(NamedTuple):
    """Huffman tree over V classes: the path to each leaf, at most L decisions.

    Attributes:
      nodes: inner nodes from the root, 0, on; ints in ``[0, V - 1)``, [V, L].
      signs: 1 or -1, the way that is taken there, [V, L].
      where: bool, the decisions that there are, [V, L].
    """

    nodes: jax.Array
    signs: jax.Array
    where: jax.Array


def two_level_layout(
    clusters: ArrayLike, *, num_clusters: int | None = None
) -> TwoLevelLayout:
    """The layout of classes that are members of given clusters; runs on the host.

    About as many clusters as members each, the square root of V, cost least.

    Args:
      clusters: c(v), ints, [V].
      num_clusters: K, by default as many as there are; not traced, as it is a shape. A
        cluster may be empty.

    Returns:
      The layout, int32; members of a cluster are in the order of their classes.

    Raises:
      TypeError: ``clusters`` is not integer.
      ValueError: it has not one axis, or a cluster outside of ``[0, K)``.

    >>> import numpy as np
    >>> from logitlab.heads import two_level_layout
    >>> two_level_layout(np.array([0, 1, 0, 1, 1])).member
    Array([0, 0, 1, 1, 2], dtype=int32)
    """
    clusters = np.asarray(numerics.wide_labels(clusters, "clusters"))
    if clusters.ndim != 1 or not clusters.size:
        raise ValueError(f"clusters has shape {clusters.shape}, expected (V,)")
    count = clusters.max() + 1 if num_clusters is None else num_clusters
    if clusters.min() < 0 or clusters.max() >= count:
        raise ValueError(f"clusters outside [0, {count}): {clusters}")
    sizes = np.bincount(clusters, minlength=count)
    order = np.argsort(clusters, kind="stable")
    member = np.empty_like(clusters)
    member[order] = (
        np.arange(len(clusters)) - (np.cumsum(sizes) - sizes)[clusters[order]]
    )
    return TwoLevelLayout(
        *(jnp.asarray(a, jnp.int32) for a in (clusters, member, sizes))
    )


def two_level_softmax(
    hidden: ArrayLike,
    class_kernel: ArrayLike,
    member_kernel: ArrayLike,
    labels: ArrayLike,
    *,
    layout: TwoLevelLayout,
    class_bias: ArrayLike | None = None,
    member_bias: ArrayLike | None = None,
) -> jax.Array:
    r"""Negative log-likelihood of a cluster, and of the class within it.

    Use it when the cost of a step must grow with the root of the vocabulary.

    .. math:: \ell = -\log \mathrm{softmax}(h U)_{c(y)}
        - \log \mathrm{softmax}(h W_{c(y)})_{m(y)}

    A token costs K + M scores instead of V. Tokens are sorted by cluster and taken in
    blocks that share one, so that at most twice the member kernels are gathered. The
    probabilities of all classes add up to 1: padding and empty clusters are hidden.

    Shapes: hidden [..., D], class_kernel [D, K], member_kernel [K, D, M], labels [...]
      -> [...]

    Args:
      hidden: features h. 16-bit ones are multiplied as they are, with float32 sums.
      class_kernel: U, of the clusters.
      member_kernel: W, of the members of each cluster, padded to the largest.
      labels: ints in ``[0, V)``.
      layout: of :func:`two_level_layout`.
      class_bias: [K], or none.
      member_bias: [K, M], or none.

    Returns:
      Nats, one number for each token, float32 (float64 for float64 features).

    Raises:
      TypeError: floating point arguments that are not, ``labels`` that are not integer.
      ValueError: shapes that do not fit together, or a label of C or more; under
        ``jit``, where values are unknown, such a label gives NaN.

    Numerics: relative error below 1e-5 of what the logits give, for margins up to 80.

    Source: Goodman 2001, arXiv:cs/0108006.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from logitlab.heads import two_level_layout, two_level_softmax
    >>> layout = two_level_layout(np.arange(6) // 3)
    >>> loss = jax.jit(lambda *given: two_level_softmax(*given, layout=layout))
    >>> h, u, w = jnp.ones((4, 5)), jnp.zeros((5, 2)), jnp.zeros((2, 5, 3))
    >>> print(jnp.exp(loss(h, u, w, jnp.arange(4))))
    [6. 6. 6. 6.]
    """
    h, batch = _gathered.tokens(hidden)
    clusters, width = layout.sizes.shape[0], h.shape[1]
    u = _gathered.matrix(class_kernel, "class_kernel", width, clusters)
    w = _gathered.matrix(member_kernel, "member_kernel", clusters, width, "M")
    if class_bias is not None:
        class_bias = _gathered.matrix(class_bias, "class_bias", clusters)
    if member_bias is not None:
        member_bias = _gathered.matrix(member_bias, "member_bias", clusters, w.shape[2])
    if (
        numerics.is_concrete(layout.sizes)
        and np.asarray(layout.sizes).max() > w.shape[2]
    ):
        raise ValueError(
            f"member_kernel has shape {w.shape}, expected M at least "
            f"{np.asarray(layout.sizes).max()}, the largest size in layout"
        )
    y, known = numerics.check_labels(labels, batch, layout.cluster.shape[0])
    cluster, member = layout.cluster[y.reshape(-1)], layout.member[y.reshape(-1)]
    logits = product(h, u, class_bias)
    there = jnp.broadcast_to(layout.sizes > 0, logits.shape)
    nll = numerics.label_nll(logits, cluster, where=there)
    if len(h):
        nll += _member_nll(h, w, member_bias, cluster, member, layout.sizes)
    return jnp.where(known, nll.reshape(batch), jnp.nan)


def _member_nll(h, w, bias, cluster, member, sizes):
    """Negative log-likelihood of each member in its cluster, in blocks by cluster."""
    count, clusters = len(h), w.shape[0]
    size = -(-count // clusters)
    # Each cluster that occurs leaves at most `size - 1` rows of its last block empty.
    blocks = (count + (size - 1) * min(count, clusters)) // size
    places = jnp.arange(count, dtype=jnp.int32)
    occurs = jnp.bincount(cluster, length=clusters).astype(jnp.int32)
    blocks_of = -(-occurs // size)
    end = jnp.cumsum(blocks_of)
    order = jnp.argsort(cluster)
    rank = places - (jnp.cumsum(occurs) - occurs)[cluster[order]]
    rank = jnp.zeros_like(places).at[order].set(rank)
    slot = (end - blocks_of)[cluster] * size + rank
    token = jnp.full(blocks * size, count, jnp.int32).at[slot].set(places)
    token = token.reshape(blocks, size)
    of_block = jnp.searchsorted(end, jnp.arange(blocks), side="right")
    of_block = jnp.minimum(of_block, clusters - 1)  # the blocks that stay empty

    rows = h.at[token].get(mode="fill", fill_value=0)
    z = product(rows, w[of_block])
    if bias is not None:
        z = z + bias[of_block][:, None].astype(z.dtype)
    there = jnp.arange(w.shape[2])[None] < jnp.maximum(sizes[of_block], 1)[:, None]
    label = member.at[token].get(mode="fill", fill_value=0)
    there = jnp.broadcast_to(there[:, None], z.shape)
    return numerics.label_nll(z, label, where=there).reshape(-1)[slot]


def build_huffman(counts: ArrayLike) -> HuffmanTree:
    r"""The binary tree in which frequent classes have short paths; runs on the host.

    .. math:: H_2 \le \sum_v q_v |\mathrm{path}(v)| < H_2 + 1

    with frequencies q and their entropy :math:`H_2` in bits.

    Args:
      counts: of each class, at least 0; [V].

    Returns:
      Paths padded to the longest of them, L, as int32, int8 and bool.

    Raises:
      ValueError: ``counts`` has not one axis, no class, or a number that is negative
        or not finite.

    Source: Huffman codes, as in Mikolov et al. 2013, arXiv:1301.3781.

    >>> import numpy as np
    >>> from logitlab.heads import build_huffman
    >>> build_huffman(np.array([5, 1, 1])).where.sum(1)
    Array([1, 2, 2], dtype=int32)
    """
    counts = np.asarray(counts, np.float64)
    if counts.ndim != 1 or not counts.size:
        raise ValueError(f"counts has shape {counts.shape}, expected (V,)")
    if not (np.isfinite(counts) & (counts >= 0)).all():
        raise ValueError("counts has negative numbers, inf or NaN, expected counts")
    classes = len(counts)
    # Equal counts: the shallower tree first, which keeps the longest path short.
    heap = [(count, 0, v) for v, count in enumerate(counts.tolist())]
    heapq.heapify(heap)
    parent, sign = np.zeros(2 * classes - 1, int), np.zeros(2 * classes - 1, np.int8)
    for new in range(classes, 2 * classes - 1):
        (a, deep_a, left), (b, deep_b, right) = heapq.heappop(heap), heapq.heappop(heap)
        parent[[left, right]], sign[[left, right]] = new, (1, -1)
        heapq.heappush(heap, (a + b, 1 + max(deep_a, deep_b), new))
    root = 2 * classes - 2
    steps, at = [], np.arange(classes)
    while (at != root).any():  # all leaves at once, a level up at a time
        # Inner nodes are numbered from the root, the last one made.
        steps.append((root - parent[at], sign[at], at != root))
        at = np.where(at == root, root, parent[at])
    depth = len(steps)
    nodes, signs, there = (
        np.array([step[i] for step in steps]).reshape(depth, classes).T
        for i in range(3)
    )
    # From the root on, with the padding behind.
    length = there.sum(1).astype(int)
    back = length[:, None] - 1 - np.arange(depth)[None]
    where = back >= 0
    turn = lambda a: np.take_along_axis(a, np.maximum(back, 0), 1) * where  # noqa: E731
    return HuffmanTree(
        jnp.asarray(turn(nodes), jnp.int32),
        jnp.asarray(turn(signs), jnp.int8),
        jnp.asarray(where, bool),
    )


def hierarchical_log_prob(
    node_logits: ArrayLike, signs: ArrayLike, where: ArrayLike | None = None
) -> jax.Array:
    r"""Log-probability of a tree path: the sum of its logistic decisions.

    .. math:: \log p = \sum_j \log \sigma(s_j a_j)

    Shapes: node_logits [..., L], signs [..., L], where [..., L] -> [...]

    Args:
      node_logits: a, scores at the nodes of the path.
      signs: s, 1 or -1: the way taken.
      where: bool, the decisions that there are. No decision has probability 1.

    Returns:
      Nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``node_logits`` is not floating point or ``where`` is not bool.
      ValueError: ``signs`` or ``where`` has another shape than ``node_logits``.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Morin and Bengio 2005; Mikolov et al. 2013, arXiv:1301.3781.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import hierarchical_log_prob
    >>> print(hierarchical_log_prob(jnp.float32([40, 0]), jnp.array([1, -1])))
    -0.6931472
    """
    a, s = numerics.promote_to_float32(node_logits, "node_logits"), jnp.asarray(signs)
    if s.shape != a.shape:
        raise ValueError(f"signs has shape {s.shape}, expected {a.shape}")
    there = jnp.ones(a.shape, bool) if where is None else jnp.asarray(where)
    if there.dtype != bool:
        raise TypeError(f"where has dtype {there.dtype}, expected bool")
    if there.shape != a.shape:
        raise ValueError(f"where has shape {there.shape}, expected {a.shape}")
    margin = jnp.where(there, s.astype(a.dtype) * a, 0)
    return -jnp.where(there, jax.nn.softplus(-margin), 0).sum(-1)


def hierarchical_softmax(
    hidden: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    tree: HuffmanTree,
    *,
    bias: ArrayLike | None = None,
    transposed: bool = False,
) -> jax.Array:
    r"""Hierarchical softmax: negative log-likelihood of the path to the label.

    Use it when the cost of a step must grow with the log of the vocabulary.

    .. math:: \ell = -\sum_j \log \sigma(s_j h \cdot \theta_j)

    Only the nodes of the label's path are gathered: L of them, the longest path's
    length, where a Huffman tree needs between :math:`H_2` and :math:`H_2 + 1` on
    average. The probabilities of all classes add up to 1.

    Shapes: hidden [..., D], kernel [D, J], labels [...] -> [...]

    Args:
      hidden: features h. 16-bit ones are multiplied as they are, with float32 sums.
      kernel: [D, V - 1], of the inner nodes.
      labels: ints in ``[0, V)``.
      tree: of :func:`build_huffman`, or any other of that form.
      bias: [V - 1], or none.
      transposed: the kernel is [V - 1, D], whose rows are faster to gather.

    Returns:
      Nats, one number for each token, float32 (float64 for float64 features); 0 for
      the only class.

    Raises:
      TypeError: floating point arguments that are not, ``labels`` that are not integer.
      ValueError: shapes that do not fit together, or a label of C or more; under
        ``jit``, where values are unknown, such a label gives NaN.

    Numerics: relative error below 1e-5 of what the logits give, for margins up to 80.

    Source: Morin and Bengio 2005; Mikolov et al. 2013, arXiv:1301.3781.

    >>> import jax.numpy as jnp
    >>> import numpy as np
    >>> from logitlab.heads import build_huffman, hierarchical_softmax
    >>> tree = build_huffman(np.array([2, 1, 1]))
    >>> h, kernel = jnp.ones((3, 4)), jnp.zeros((4, 2))
    >>> print(jnp.exp(hierarchical_softmax(h, kernel, jnp.arange(3), tree)).round(4))
    [2. 4. 4.]
    """
    h, batch = _gathered.tokens(hidden)
    classes, width = len(tree.nodes), h.shape[1]
    shape = (classes - 1, width) if transposed else (width, classes - 1)
    kernel = _gathered.matrix(kernel, "kernel", *shape)
    if bias is not None:
        bias = _gathered.matrix(bias, "bias", classes - 1)
    y, known = numerics.check_labels(labels, batch, classes)
    y = y.reshape(-1)
    if classes == 1:  # no decision, no node to gather
        return jnp.where(known, 0, jnp.nan).astype(wide(h, kernel))
    z = _gathered.product_of_columns(h, kernel, tree.nodes[y], bias, transposed)
    nll = -hierarchical_log_prob(z, tree.signs[y], tree.where[y])
    return jnp.where(known, nll.reshape(batch), jnp.nan)
