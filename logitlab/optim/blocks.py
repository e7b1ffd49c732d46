"""Block coordinate descent: which block next, and how far."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count

__all__ = ["BlockDescent", "bcd_minimize", "tree_solve"]

RULES = ("random", "cyclic", "gs", "gsl", "gsd", "gsq")
UPDATES = ("gradient", "matrix")


class BlockDescent(NamedTuple):
    """What :func:`bcd_minimize` did.

    Attributes:
      x: [D] where it ended.
      blocks: [iters] which were updated.
      progress: [iters] what each update lowers the function by, at the least.
      values: [iters + 1] of the function on the way, or [0] without it.
    """

    x: jax.Array
    blocks: jax.Array
    progress: jax.Array
    values: jax.Array


def bcd_minimize(
    grad_fn: Callable[[jax.Array], jax.Array],
    hess_bound: ArrayLike,
    x0: ArrayLike,
    *,
    rule: str = "gsq",
    update: str = "matrix",
    blocks: ArrayLike,
    iters: int,
    key: jax.Array | None = None,
    value_fn: Callable[[jax.Array], jax.Array] | None = None,
) -> BlockDescent:
    r"""Minimizes a smooth function a block of coordinates at a time.

    Use it where one block is cheap to update and the whole is not: logistic regression
    of many features, fields on graphs.

    .. math:: x_b \leftarrow x_b - \frac{g_b}{L_b} \quad\text{or}\quad
        x_b - H_{bb}^{-1} g_b

    with H a bound of the Hessian and :math:`L_b` the largest eigenvalue of its block.
    The next block is the one with the largest

    ======== =====================================
    gs       :math:`\|g_b\|`
    gsl      :math:`\|g_b\| / \sqrt{L_b}`
    gsd      :math:`\sum_{i \in b} g_i^2 / D_i`
    gsq      :math:`g_b^\top H_{bb}^{-1} g_b`, twice the guaranteed progress
    ======== =====================================

    the first of those that tie; D is the diagonal :math:`|b| H_{ii}`, which bounds any
    positive semi-definite block of size :math:`|b|`. Each update lowers the function by
    at least half of the squared norm of :math:`g_b` that belongs to it. A block whose
    bound is 0 is never moved.

    Args:
      grad_fn: x [D] -> gradient [D].
      hess_bound: H [D, D], positive semi-definite, at least the Hessian on the path.
      x0: [D].
      rule: one of the four, ``"random"`` or ``"cyclic"``.
      update: ``"gradient"`` or ``"matrix"``.
      blocks: ints [K, S], the coordinates of K blocks of one size.
      iters: number of updates.
      key: for the random rule.
      value_fn: x -> the function, to be recorded.

    Returns:
      The end, and what was done on the way; one compiled scan.

    Raises:
      ValueError: shapes do not match, a coordinate is outside [0, D), ``rule`` or
        ``update`` is not one of these, or a random rule has no key.

    Source: Nutini et al. 2022 (JMLR), arXiv:1712.08859; the diagonal of GSD is
      inferred.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import bcd_minimize
    >>> h, b = jnp.diag(jnp.float32([1, 4])), jnp.float32([1, 4])
    >>> found = bcd_minimize(lambda x: h @ x - b, h, jnp.zeros(2),
    ...                      blocks=jnp.array([[0], [1]]), iters=2)
    >>> found.x, found.blocks
    (Array([1., 1.], dtype=float32), Array([1, 0], dtype=int32))
    """
    x = numerics.promote_to_float32(x0, "x0")
    h = numerics.promote_to_float32(hess_bound, "hess_bound")
    at = jnp.asarray(blocks)
    if x.ndim != 1 or h.shape != (x.size, x.size):
        raise ValueError(
            f"x0 has shape {x.shape} and hess_bound {h.shape}, expected [D] and [D, D]"
        )
    if at.ndim != 2 or not jnp.issubdtype(at.dtype, jnp.integer):
        raise ValueError(f"blocks is {at.dtype} {at.shape}, expected ints [K, S]")
    if not isinstance(blocks, jax.core.Tracer):
        known = np.asarray(blocks)
        if ((known < 0) | (known >= x.size)).any():
            raise ValueError(f"blocks reach {known.max()}, expected [0, {x.size})")
    for name, value, known in (("rule", rule, RULES), ("update", update, UPDATES)):
        if value not in known:
            raise ValueError(f"{name} is {value!r}, expected one of {', '.join(known)}")
    if rule == "random" and key is None:
        raise ValueError("rule is 'random' and key is None, expected a key")
    check_count("iters", iters, 0)

    h_blocks = h[at[:, :, None], at[:, None, :]]  # [K, S, S]
    tops, inverses = _constants(h_blocks)
    diagonal = at.shape[1] * jnp.diagonal(h_blocks, axis1=1, axis2=2)
    value = value_fn or (lambda x: jnp.zeros((0,), x.dtype))

    def divided(a, b):
        return jnp.where(b > 0, a / jnp.where(b > 0, b, 1), 0)

    def step(x, inputs):
        number, step_key = inputs
        g = grad_fn(x)[at]  # [K, S]
        squares = jnp.sum(g * g, -1)
        moves = jnp.einsum("kst,kt->ks", inverses, g)
        scores = {
            "gs": lambda: jnp.where(tops > 0, squares, 0),
            "gsl": lambda: divided(squares, tops),
            "gsd": lambda: divided(g * g, diagonal).sum(-1),
            "gsq": lambda: jnp.sum(g * moves, -1),
        }
        if rule == "random":
            b = jax.random.randint(step_key, (), 0, len(at))
        elif rule == "cyclic":
            b = number % len(at)
        else:
            b = jnp.argmax(scores[rule]()).astype(jnp.int32)
        move = moves[b] if update == "matrix" else divided(g[b], tops[b])
        x = x.at[at[b]].add(-move)
        return x, (b.astype(jnp.int32), jnp.sum(g[b] * move) / 2, value(x))

    keys = jax.random.split(jax.random.key(0) if key is None else key, iters)
    end, (chosen, progress, values) = jax.lax.scan(step, x, (jnp.arange(iters), keys))
    first = value(x)[None] if value_fn else jnp.zeros((0,), x.dtype)
    values = jnp.concatenate([first, values]) if value_fn else first
    return BlockDescent(end, chosen, progress, values)


def _constants(h_blocks):
    """Largest eigenvalue and pseudo-inverse of each block."""
    eigenvalues, vectors = jnp.linalg.eigh(h_blocks)
    tops = jnp.maximum(eigenvalues[:, -1], 0)
    size = h_blocks.shape[-1]
    least = size * jnp.finfo(h_blocks.dtype).eps * tops[:, None]
    kept = eigenvalues > least
    inverse = jnp.where(kept, 1 / jnp.where(kept, eigenvalues, 1), 0)
    return tops, jnp.einsum("ksr,kr,ktr->kst", vectors, inverse, vectors)


def tree_solve(
    edges: ArrayLike, diag: ArrayLike, off: ArrayLike, rhs: ArrayLike
) -> jax.Array:
    r"""Solves a symmetric system whose graph is a forest, in linear time.

    Use it for Newton steps on blocks that are trees, such as half of a lattice.

    .. math:: A x = b, \qquad A_{vv} = d_v, \quad A_{uv} = A_{vu} = o_e
        \text{ for edges } e = (u, v)

    Leaves are eliminated before their parents, and found again after them: Gaussian
    belief propagation in two passes.

    Args:
      edges: ints [E, 2], known when the function is traced.
      diag: the diagonal [N].
      off: entries beside the diagonal [E], one for each edge.
      rhs: right-hand side [N].

    Returns:
      x [N]; NaN or ``inf`` where a pivot is 0.

    Raises:
      ValueError: shapes do not match, an edge leaves [0, N), or edges close a cycle.

    Numerics: elimination without pivoting, as good as Cholesky's for a positive
      definite matrix.

    Source: Nutini et al. 2022 (JMLR), arXiv:1712.08859.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import tree_solve
    >>> tree_solve([[0, 1]], jnp.float32([2, 2]), jnp.float32([1]), jnp.float32([3, 3]))
    Array([1., 1.], dtype=float32)
    """
    d, b = (
        numerics.promote_to_float32(a, n) for a, n in ((diag, "diag"), (rhs, "rhs"))
    )
    pairs = np.asarray(edges, int).reshape(-1, 2)
    weights = jnp.asarray(off, d.dtype)
    if d.ndim != 1 or b.shape != d.shape or weights.shape != pairs.shape[:1]:
        raise ValueError(
            f"diag, off and rhs have shapes {d.shape}, {weights.shape} and {b.shape} "
            f"for {len(pairs)} edges, expected [N], [{len(pairs)}] and [N]"
        )
    if len(pairs) and not (pairs.min() >= 0 and pairs.max() < d.size):
        raise ValueError(f"edges reach {pairs.max()}, expected [0, {d.size})")
    nodes, parents, at = _leaves_first(pairs, d.size)
    if not len(nodes):
        return b / d

    def up(carry, link):
        d, b = carry
        v, p, e = link
        share = weights[e] / d[v]
        d = d.at[p].add(-share * weights[e])
        return (d, b.at[p].add(-share * b[v])), None

    def down(x, link):
        v, p, e = link
        return x.at[v].set((b[v] - weights[e] * x[p]) / d[v]), None

    links = tuple(jnp.asarray(a) for a in (nodes, parents, at))
    (d, b), _ = jax.lax.scan(up, (d, b), links)
    return jax.lax.scan(down, b / d, links, reverse=True)[0]


def _leaves_first(pairs, many):
    """Nodes that have a parent, children before them; their parents, and the edges."""
    around: list[list[tuple[int, int]]] = [[] for _ in range(many)]
    for e, (u, v) in enumerate(pairs.tolist()):
        around[u].append((v, e))
        around[v].append((u, e))
    links, seen = [], [False] * many
    for root in range(many):
        if seen[root]:
            continue
        seen[root], stack = True, [(root, -1)]
        while stack:
            node, above = stack.pop()
            for child, e in around[node]:
                if e == above:
                    continue
                if seen[child]:
                    raise ValueError(
                        f"edges close a cycle at {pairs[e].tolist()}, expected a forest"
                    )
                seen[child] = True
                links.append((child, node, e))
                stack.append((child, e))
    order = np.asarray(links[::-1], int).reshape(-1, 3)
    return order[:, 0], order[:, 1], order[:, 2]
