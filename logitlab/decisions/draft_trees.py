"""Speculative decoding with several candidates at a position, and trees of them."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, positive

__all__ = [
    "CandidateChoice",
    "DraftTree",
    "TreeSpeculation",
    "draft_tree_mask",
    "grow_draft_tree",
    "speculative_candidates",
    "speculative_tree",
]


class CandidateChoice(NamedTuple):
    """Which of several candidates became the token.

    Attributes:
      token: int [...].
      accepted: int [...], the place of the candidate, or -1 if the target drew a token
        of its own.
    """

    token: jax.Array
    accepted: jax.Array


class DraftTree(NamedTuple):
    """Drafted tokens that branch; each stands after its parent.

    Attributes:
      tokens: int [..., N].
      parents: int [..., N], -1 for the root, the position before all drafts.
      log_probs: [..., N], of the path from the root to each token under the draft
        model; ``-inf`` where there were not enough tokens.
    """

    tokens: jax.Array
    parents: jax.Array
    log_probs: jax.Array


class TreeSpeculation(NamedTuple):
    """Outcome of one round of speculative decoding with a tree.

    Attributes:
      tokens: int [..., N + 1]; the accepted draft tokens, then one token of the
        target's own, then -1.
      accepted: int [...], how many draft tokens were accepted.
      node: int [...], the place of the last of them in the tree, -1 for the root.
    """

    tokens: jax.Array
    accepted: jax.Array
    node: jax.Array


def speculative_candidates(
    key: jax.Array,
    draft_logits: ArrayLike | None,
    target_logits: ArrayLike,
    candidates: ArrayLike,
    *,
    replacement: bool = True,
    temperature: ArrayLike = 1.0,
    greedy: bool = False,
) -> CandidateChoice:
    r"""Accepts one of several candidates, or none; the token follows the target exactly.

    Use it where a draft model proposes more than one token at a position. One after
    another, candidate x is accepted with probability

    .. math:: \min(1, p'_x / q'_x), \qquad
        p' \leftarrow \frac{\max(p' - q', 0)}{\sum_v \max(p'_v - q'_v, 0)}

    where p' takes the second form after each rejection, and q' loses what was drawn
    without replacement. If none is accepted, the token is drawn from p'.

    Shapes: draft_logits [..., C], target_logits [..., C], candidates [..., K] -> [...], [...]

    Args:
      key: of ``jax.random``.
      draft_logits: that the candidates were drawn from; None if they were not drawn but
        chosen, as the likeliest ones of a draft model: each then is a proposal that was
        certain.
      target_logits: of p.
      candidates: ints in ``[0, C)``; a negative one is none.
      replacement: whether one may have been drawn twice.
      temperature: of both, positive.
      greedy: accept the target's top class, and replace all others by it.

    Returns:
      A ``CandidateChoice``.

    Raises:
      TypeError: logits are not floating point or candidates not integers.
      ValueError: shapes that do not fit, a candidate of C or more (under ``jit``, where
        values are unknown, it counts as none), or a temperature that is not positive.

    Source: Miao et al. 2023, arXiv:2305.09781 (SpecInfer).

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import speculative_candidates
    >>> p = jnp.float32([-99, 0, -99])
    >>> speculative_candidates(jax.random.key(0), None, p, jnp.array([2, 1]))
    CandidateChoice(token=Array(1, dtype=int32), accepted=Array(1, dtype=int32))
    """  # noqa: E501 - a test parses the line of shapes
    positive(temperature=temperature)
    p = numerics.prepare_logits(target_logits, name="target_logits")
    shape = np.shape(candidates)
    if shape[:-1] != p.shape[:-1] or len(shape) != p.ndim:
        raise ValueError(
            f"candidates has shape {shape}, expected {p.shape[:-1]} and one axis of "
            "candidates"
        )
    x, drafted = numerics.check_labels(candidates, shape, p.shape[-1])
    q = None
    if draft_logits is not None:
        q = numerics.prepare_logits(draft_logits, name="draft_logits").astype(p.dtype)
        if q.shape != p.shape:
            raise ValueError(
                f"draft_logits has shape {q.shape}, expected that of target_logits, "
                f"{p.shape}"
            )
    if greedy:
        top = jnp.argmax(p, -1).astype(jnp.int32)
        if shape[-1] == 0:
            return CandidateChoice(top, jnp.full_like(top, -1))
        hits = (x == top[..., None]) & drafted
        first = jnp.argmax(hits, -1).astype(jnp.int32)
        return CandidateChoice(top, jnp.where(hits.any(-1), first, -1))
    p, q = (
        None if z is None else numerics.softmax(z / jnp.asarray(temperature, z.dtype))
        for z in (p, q)
    )
    return _choose(key, p, q, x, drafted, replacement)


def _choose(key, p, q, x, drafted, replacement):
    """A ``CandidateChoice`` from probabilities; q None for chosen candidates."""
    accept_key, draw_key = jax.random.split(key)
    u = 1 - jax.random.uniform(accept_key, x.shape, p.dtype)  # above 0
    accepted = jnp.full(x.shape[:-1], -1, jnp.int32)
    for i in range(x.shape[-1]):
        one = _is_token(x[..., i], p)
        here = drafted[..., i] & (accepted < 0)
        mine = jnp.where(one, 1, 0).astype(p.dtype) if q is None else q
        p_x, q_x = (jnp.sum(jnp.where(one, a, 0), -1) for a in (p, mine))
        fine = here & (u[..., i] * q_x <= p_x) & (p_x > 0)
        accepted = jnp.where(fine, i, accepted)
        refused = (here & ~fine)[..., None]
        p = jnp.where(refused, _normalized(jnp.maximum(p - mine, 0), p), p)
        if q is not None and not replacement:
            q = jnp.where(refused, _normalized(jnp.where(one, 0, q), q), q)
    log_p = jnp.where(p > 0, jnp.log(jnp.where(p > 0, p, 1)), -jnp.inf)
    own = jax.random.categorical(draw_key, log_p).astype(jnp.int32)
    if x.shape[-1] == 0:
        return CandidateChoice(own, accepted)
    taken = jnp.take_along_axis(x, jnp.maximum(accepted, 0)[..., None], -1)[..., 0]
    return CandidateChoice(jnp.where(accepted >= 0, taken, own), accepted)


def _is_token(x, p):
    places = jax.lax.broadcasted_iota(jnp.int32, p.shape, p.ndim - 1)
    return places == x[..., None]


def _normalized(rest, otherwise):
    total = jnp.sum(rest, -1, keepdims=True)
    return jnp.where(total > 0, rest / jnp.where(total > 0, total, 1), otherwise)


def grow_draft_tree(
    draft_fn: Callable[[jax.Array, Any], tuple[jax.Array, Any]],
    logits: ArrayLike,
    state: Any,
    *,
    width: int = 10,
    depth: int = 6,
    nodes: int = 60,
) -> DraftTree:
    r"""The tree of the likeliest continuations under a draft model.

    Use it before ``speculative_tree``: a token is worth the probability of its path,
    the product of the draft's. Level by level, the ``width`` best tokens grow ``width``
    children each; at the end the ``nodes`` best tokens of all are kept, with each its
    parent.

    Args:
      draft_fn: (tokens int [B, W], state) -> (logits [B, W, V], state), with arrays
        [B, W, ...] in the state: the draft model after one token more on each branch.
      logits: of the draft model at the root, [B, V].
      state: of the draft model at the root, a pytree of arrays [B, ...].
      width: W, tokens that grow, and children of each; at most V.
      depth: levels.
      nodes: N, tokens of the tree.

    Returns:
      A ``DraftTree`` [B, N], in which parents come before their children.

    Raises:
      ValueError: a number below 1, ``width`` above V, or more nodes than grow.

    Source: EAGLE-2, Li et al. 2024, arXiv:2406.16858.

    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import grow_draft_tree
    >>> z = jnp.log(jnp.float32([[0.6, 0.3, 0.1]]))
    >>> def model(tokens, state):
    ...     return jnp.tile(z[:, None], (1, tokens.shape[1], 1)), state
    >>> grow_draft_tree(model, z, (), width=2, depth=2, nodes=3)[:2]
    (Array([[0, 1, 0]], dtype=int32), Array([[-1, -1,  0]], dtype=int32))
    """
    z = numerics.prepare_logits(logits)
    if z.ndim != 2:
        raise ValueError(f"logits has shape {z.shape}, expected [B, V]")
    for name, value in (("width", width), ("depth", depth), ("nodes", nodes)):
        check_count(name, value)
    if width > z.shape[1]:
        raise ValueError(f"width is {width}, expected at most {z.shape[1]}, the tokens")
    grown = width + (depth - 1) * width**2
    if nodes > grown:
        raise ValueError(
            f"nodes is {nodes}, expected at most {grown} for width {width} and depth "
            f"{depth}"
        )
    rows = jnp.arange(len(z))[:, None]
    values, tokens = jax.lax.top_k(numerics.log_softmax(z), width)
    every = [(tokens, jnp.full_like(tokens, -1), values)]
    places = jnp.broadcast_to(jnp.arange(width, dtype=jnp.int32), tokens.shape)
    states = jax.tree.map(lambda a: jnp.repeat(a[:, None], width, 1), state)
    for level in range(1, depth):
        z, states = draft_fn(tokens, states)
        log_p, children = jax.lax.top_k(
            numerics.log_softmax(numerics.promote_to_float32(z)), width
        )
        shape = (len(rows), width * width)
        paths = (values[..., None] + log_p).reshape(shape)
        children = children.astype(jnp.int32).reshape(shape)
        every.append((children, jnp.repeat(places, width, 1), paths))
        values, best = jax.lax.top_k(paths, width)
        tokens = children[rows, best]
        places = best.astype(jnp.int32) + (width + (level - 1) * width**2)
        states = jax.tree.map(lambda a, b=best: a[rows, b // width], states)
    tokens, parents, values = (jnp.concatenate(a, 1) for a in zip(*every, strict=True))
    # A path is worth no more than its beginning, which of equal ones comes first here:
    # the best tokens are a tree, and in the order of their places a sorted one.
    _, best = jax.lax.top_k(values, nodes)
    best = jnp.sort(best, -1)
    new = jnp.full((len(rows), grown), -1, jnp.int32)
    new = new.at[rows, best].set(jnp.arange(nodes, dtype=jnp.int32)[None])
    old = parents[rows, best]
    renamed = jnp.where(old < 0, -1, new[rows, jnp.maximum(old, 0)])
    return DraftTree(tokens[rows, best].astype(jnp.int32), renamed, values[rows, best])


def draft_tree_mask(parents: ArrayLike) -> jax.Array:
    """Which drafts each draft may attend to: its ancestors and itself.

    Use it for the target's one pass over a whole tree.

    Shapes: parents [..., N] -> [..., N, N]

    Args:
      parents: ints, -1 for the root, each the place of an earlier draft.

    Returns:
      bool, rows attend to columns.

    Raises:
      TypeError: ``parents`` are not integers.
      ValueError: a parent does not come before its child.

    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import draft_tree_mask
    >>> draft_tree_mask(jnp.array([-1, -1, 0])).astype(int)
    Array([[1, 0, 0],
           [0, 1, 0],
           [1, 0, 1]], dtype=int32)
    """
    parents = _checked_parents(parents)
    count = parents.shape[-1]
    own = jnp.broadcast_to(jnp.eye(count, dtype=bool), (*parents.shape, count))

    def step(i, seen):
        parent = parents[..., i]
        above = jnp.take_along_axis(seen, jnp.maximum(parent, 0)[..., None, None], -2)[
            ..., 0, :
        ]
        row = seen[..., i, :] | (above & (parent >= 0)[..., None])
        return seen.at[..., i, :].set(row)

    return jax.lax.fori_loop(0, count, step, own)


def _checked_parents(parents):
    parents = numerics.wide_labels(parents, "parents")
    if parents.ndim == 0:
        raise ValueError(f"parents has shape {parents.shape}, expected [..., N]")
    if numerics.is_concrete(parents):
        known = np.asarray(parents)
        if (known < -1).any() or (known >= np.arange(known.shape[-1])).any():
            raise ValueError(
                f"parents is {known}, expected -1 or the place of an earlier draft"
            )
    return parents


def speculative_tree(
    key: jax.Array,
    draft_logits: ArrayLike | None,
    target_logits: ArrayLike,
    draft_tokens: ArrayLike,
    parents: ArrayLike,
    *,
    max_children: int | None = None,
    replacement: bool = True,
    temperature: ArrayLike = 1.0,
    greedy: bool = False,
) -> TreeSpeculation:
    r"""Walks down a tree of drafts as long as the target agrees; the output follows it.

    Use it in the place of ``speculative_sample`` where drafts branch: from the root on,
    the children of a node are the candidates of ``speculative_candidates``; where none
    is accepted, the target draws a token of its own, and so it does after a leaf.

    Shapes: draft_logits [..., N + 1, C], target_logits [..., N + 1, C], draft_tokens [..., N], parents [..., N] -> [..., N + 1], [...], [...]

    Args:
      key: of ``jax.random``.
      draft_logits: at the root and at each node, that its children were drawn from, in
        their order; None if they were not drawn but chosen, as ``grow_draft_tree`` does.
      target_logits: at the root and at each node.
      draft_tokens: ints in ``[0, C)``; a negative one is none, nor are those below it.
      parents: ints, -1 for the root, each the place of an earlier draft.
      max_children: of a node, at most; all N without it. Less is faster.
      replacement: whether children of one node may have been drawn twice.
      temperature: of both, positive.
      greedy: follow the target's top class.

    Returns:
      A ``TreeSpeculation``.

    Raises:
      TypeError: logits are not floating point, or tokens or parents not integers.
      ValueError: shapes that do not fit, a token of C or more, a parent that does not
        come before its child, more children than ``max_children``, or a temperature
        that is not positive.

    Source: SpecInfer, Miao et al. 2023, arXiv:2305.09781; EAGLE-2, Li et al. 2024,
      arXiv:2406.16858.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import speculative_tree
    >>> p = 99 * jnp.eye(3)[jnp.array([1, 0, 2])]  # at the root and after each draft
    >>> drafts, parents = jnp.array([0, 1]), jnp.array([-1, -1])
    >>> print(*speculative_tree(jax.random.key(0), None, p, drafts, parents))
    [ 1  2 -1] 1 1
    """  # noqa: E501 - a test parses the line of shapes
    positive(temperature=temperature)
    p = numerics.prepare_logits(target_logits, name="target_logits")
    parents = _checked_parents(parents)
    count = parents.shape[-1]
    if p.ndim < 2 or p.shape[:-1] != (*parents.shape[:-1], count + 1):
        raise ValueError(
            f"target_logits has shape {p.shape}, expected "
            f"{(*parents.shape[:-1], count + 1, 'C')} for parents of {parents.shape}"
        )
    x, drafted = numerics.check_labels(draft_tokens, parents.shape, p.shape[-1])
    q = p
    if draft_logits is not None:
        q = numerics.prepare_logits(draft_logits, name="draft_logits").astype(p.dtype)
        if q.shape != p.shape:
            raise ValueError(
                f"draft_logits has shape {q.shape}, expected that of target_logits, "
                f"{p.shape}"
            )
    most = count if max_children is None else min(max_children, count)
    check_count("max_children", most, 0)
    _check_children(parents, most)
    options = (draft_logits is not None, most, replacement, greedy)
    rows = [
        a.reshape(-1, *a.shape[parents.ndim - 1 :]) for a in (q, p, x, drafted, parents)
    ]
    keys = jax.random.split(key, len(rows[0]))
    temperature = jnp.asarray(temperature, p.dtype)
    walk = functools.partial(_walk, temperature=temperature, options=options)
    found = jax.vmap(walk)(keys, *rows)
    shape = parents.shape[:-1]
    return TreeSpeculation(*(a.reshape(*shape, *a.shape[1:]) for a in found))


def _check_children(parents, most):
    if numerics.is_concrete(parents) and parents.size:
        known = np.asarray(parents).reshape(-1, parents.shape[-1])
        found = max(np.bincount(row + 1).max() for row in known)
        if found > most:
            raise ValueError(
                f"max_children is {most}, expected at least {found}, which a node has"
            )


def _walk(key, q, p, x, drafted, parents, *, temperature, options):
    """One row of ``speculative_tree``."""
    drawn, most, replacement, greedy = options
    count = len(parents)
    places = jnp.arange(count, dtype=jnp.int32)

    def step(carry):
        key, node, accepted, tokens, _ = carry
        key, own_key = jax.random.split(key)
        children = jnp.where((parents == node) & drafted, places, count)
        children = jnp.sort(children)[:most]
        there = children < count
        candidates = jnp.where(there, x[jnp.minimum(children, count - 1)], -1)
        choice = speculative_candidates(
            own_key,
            q[node + 1] if drawn else None,
            p[node + 1],
            candidates,
            replacement=replacement,
            temperature=temperature,
            greedy=greedy,
        )
        tokens = tokens.at[accepted].set(choice.token)
        went = choice.accepted >= 0
        if most:
            down = children[jnp.maximum(choice.accepted, 0)]
            node = jnp.where(went, down, node)
        return key, node, accepted + went.astype(jnp.int32), tokens, went

    start = (
        key,
        jnp.int32(-1),
        jnp.int32(0),
        jnp.full(count + 1, -1, jnp.int32),
        jnp.bool_(True),
    )
    _, node, accepted, tokens, _ = jax.lax.while_loop(lambda c: c[-1], step, start)
    return tokens, accepted, node
