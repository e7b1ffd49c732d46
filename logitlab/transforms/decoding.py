"""Processors: logits of the next token changed step by step, with explicit state."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, check_range, hyper, per_row

__all__ = [
    "Processor",
    "add_bias",
    "allow_tokens",
    "ban_tokens",
    "chain",
    "divide_by_temperature",
    "process_drafts",
    "take_state",
]


class Processor(NamedTuple):
    """What changes the logits of the next token, as optax changes gradients.

    Attributes:
      init: how many rows -> state, a pytree of arrays with the rows in front, so that
        it scans, shards, branches and rolls back.
      apply: ``(logits [B, V], tokens int [B, T], state, *, key=None) -> (logits,
        state)``.
        ``tokens`` are those added since the last call, the prompt at first; a negative
        one stands for none. Hidden tokens are ``-inf``.

    A language model is a processor too: one that overlooks the logits that it gets and
    keeps its cache as state.
    """

    init: Callable[[int], Any]
    apply: Callable[..., tuple[jax.Array, Any]]


def processor(
    init: Callable[[int], Any], step: Callable[..., tuple[jax.Array, Any]]
) -> Processor:
    """A processor of a function that may rely on its arguments.

    ``step`` takes promoted logits, tokens as int32, the state and the key.
    """

    def begin(batch):
        check_count("batch", batch)
        return init(batch)

    def apply(logits, tokens, state, *, key=None):
        z, tokens = check_step(logits, tokens)
        for leaf in jax.tree.leaves(state):
            if np.ndim(leaf) == 0 or leaf.shape[0] != len(z):
                raise ValueError(
                    f"logits has shape {z.shape} and the state an array of shape "
                    f"{np.shape(leaf)}: expected a state of init({len(z)})"
                )
        return step(z, tokens, state, key)

    return Processor(begin, apply)


def check_step(logits: ArrayLike, tokens: ArrayLike) -> tuple[jax.Array, jax.Array]:
    """Promoted logits [B, V] and new tokens int32 [B, T], negative where there is none.

    Raises:
      TypeError: logits are not floating point or tokens not integers.
      ValueError: shapes that do not fit, no column of tokens, or a token of V or more
        (under ``jit``, where values are unknown, it counts as none).
    """
    z = numerics.prepare_logits(logits)
    if z.ndim != 2:
        raise ValueError(f"logits has shape {z.shape}, expected [B, V]")
    tokens = numerics.wide_labels(tokens, "tokens")
    if tokens.ndim != 2 or len(tokens) != len(z) or tokens.shape[1] == 0:
        raise ValueError(
            f"tokens has shape {tokens.shape}, expected ({len(z)}, T) with T of at "
            "least 1; rows without new tokens have -1"
        )
    if numerics.is_concrete(tokens) and (np.asarray(tokens) >= z.shape[1]).any():
        raise ValueError(f"tokens reach {np.max(tokens)}, expected below {z.shape[1]}")
    return z, jnp.where(tokens < z.shape[1], tokens, -1)


def stateless(step: Callable[[jax.Array], jax.Array]) -> Processor:
    """A processor of a function of the promoted logits alone."""
    return processor(
        lambda batch: jnp.zeros((batch, 0)),  # nothing, of so many rows
        lambda z, tokens, state, key: (step(z), state),
    )


def chain(*processors: Processor) -> Processor:
    """One processor after another; without any, logits stay as they are.

    Use it to put them in order: what is added comes before the temperature, what cuts
    off a tail after it.

    Args:
      *processors: each gets a key of its own where ``apply`` gets one.

    Raises:
      TypeError: one of them is none.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> both = transforms.chain(
    ...     transforms.divide_by_temperature(0.5), transforms.top_k(2)
    ... )
    >>> z, none = jnp.float32([[3, 1, 2]]), jnp.array([[-1]])
    >>> both.apply(z, none, both.init(1))[0]
    Array([[  6., -inf,   4.]], dtype=float32)
    """
    for one in processors:
        if not isinstance(one, Processor):
            raise TypeError(f"expected processors, got {one!r}")

    def step(z, tokens, state, key):
        _, states = state
        keys = [None] * len(processors)
        if key is not None and processors:
            keys = list(jax.random.split(key, len(processors)))
        after = []
        for one, own, part in zip(processors, keys, states, strict=True):
            z, part = one.apply(z, tokens, part, key=own)
            after.append(part)
        return z, (state[0], tuple(after))

    return processor(
        lambda batch: (
            jnp.zeros((batch, 0)),  # says how many rows, for an empty chain too
            tuple(one.init(batch) for one in processors),
        ),
        step,
    )


def divide_by_temperature(temperature: ArrayLike) -> Processor:
    r"""Logits divided by a temperature: above 1 more even, below 1 more certain.

    .. math:: z_v / \tau

    Args:
      temperature: tau, positive, a number or one for each row.

    Raises:
      ValueError: it is not positive, or of another batch.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> hot = transforms.divide_by_temperature(2.0)
    >>> hot.apply(jnp.float32([[4, 0]]), jnp.array([[-1]]), hot.init(1))[0]
    Array([[2., 0.]], dtype=float32)
    """
    check_range("temperature", temperature, lambda t: t > 0, "positive")
    return stateless(lambda z: z / per_row("temperature", temperature, z))


def add_bias(bias: ArrayLike) -> Processor:
    """A bias added to the logits of each token; ``-inf`` hides one.

    Args:
      bias: [V], or [B, V] for each row its own.

    Raises:
      ValueError: another shape.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> biased = transforms.add_bias(jnp.float32([0, 5]))
    >>> biased.apply(jnp.float32([[1, 1]]), jnp.array([[-1]]), biased.init(1))[0]
    Array([[1., 6.]], dtype=float32)
    """
    return stateless(lambda z: z + _per_token("bias", hyper("bias", bias, z.dtype), z))


def _per_token(name, array, z):
    if array.shape not in (z.shape, z.shape[1:]):
        raise ValueError(
            f"{name} has shape {array.shape}, expected {z.shape[1:]} or {z.shape}"
        )
    return jnp.broadcast_to(array.reshape((-1, z.shape[1])), z.shape)


def ban_tokens(tokens: ArrayLike) -> Processor:
    """Hides a set of tokens.

    Args:
      tokens: ids, ints [N], or bool [V] or [B, V], True at those to hide.

    Raises:
      TypeError: they are neither.
      ValueError: an id out of range, or marks of another shape.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> without = transforms.ban_tokens([1])
    >>> without.apply(jnp.float32([[1, 2]]), jnp.array([[-1]]), without.init(1))[0]
    Array([[  1., -inf]], dtype=float32)
    """
    return stateless(lambda z: jnp.where(_marks("tokens", tokens, z), -jnp.inf, z))


def allow_tokens(tokens: ArrayLike) -> Processor:
    """Hides all tokens but a set.

    Args:
      tokens: ids, ints [N], or bool [V] or [B, V], True at those that stay.

    Raises:
      TypeError: they are neither.
      ValueError: an id out of range, or marks of another shape.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> only = transforms.allow_tokens([1])
    >>> only.apply(jnp.float32([[1, 2]]), jnp.array([[-1]]), only.init(1))[0]
    Array([[-inf,   2.]], dtype=float32)
    """
    return stateless(lambda z: jnp.where(_marks("tokens", tokens, z), z, -jnp.inf))


def _marks(name, tokens, z):
    """bool [B, V] of ids or of marks."""
    marks, classes = jnp.asarray(tokens), z.shape[1]
    if marks.dtype != bool:
        ids = numerics.wide_labels(tokens, name)
        if ids.ndim != 1:
            raise ValueError(f"{name} has shape {ids.shape}, expected ids [N]")
        check_ids(name, tokens, classes)
        ids = jnp.where((ids < 0) | (ids >= classes), classes, ids)
        marks = jnp.zeros(classes, bool).at[ids].set(True, mode="drop")
    return _per_token(name, marks, z)


def check_ids(name: str, ids: ArrayLike, classes: int) -> None:
    """Refuses ids outside ``[0, classes)``, unless they are traced."""
    if isinstance(ids, jax.core.Tracer):
        return
    known = np.asarray(ids)
    if (bad := (known < 0) | (known >= classes)).any():
        raise ValueError(f"{name} outside [0, {classes}): {known[bad][:5]}")


def process_drafts(
    processor: Processor,
    logits: ArrayLike,
    tokens: ArrayLike,
    drafts: ArrayLike,
    state: Any,
    *,
    parents: ArrayLike | None = None,
    key: jax.Array | None = None,
) -> tuple[jax.Array, Any]:
    """A processor along drafted tokens, each position with the state of its own past.

    Use it in speculative decoding, on the target's logits and in the draft model alike;
    then ``take_state`` rolls back to what was accepted. The state branches where drafts
    are a tree.

    Shapes of arrays: logits [B, N + 1, V], tokens [B, T], drafts [B, N], parents [N] or
    [B, N] -> [B, N + 1, V]

    Args:
      processor: which.
      logits: of the root, the position after ``tokens``, and after each draft.
      tokens: those added since the last call, see ``Processor``.
      drafts: ints; a negative one was not drafted.
      state: before ``tokens``.
      parents: after which draft each one stands, -1 for the root, always an earlier
        one; without them each follows the last.
      key: of ``jax.random``, one for all positions.

    Returns:
      The logits, and states with one more axis after the rows: entry 0 after
      ``tokens``, entry i + 1 after draft i.

    Raises:
      ValueError: shapes that do not fit, or a draft that stands before its parent.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> no = transforms.no_repeat_ngrams(1, max_length=4)
    >>> z, drafts = jnp.zeros((1, 2, 3)), jnp.array([[2]])
    >>> transforms.process_drafts(no, z, jnp.array([[0]]), drafts, no.init(1))[0]
    Array([[[-inf,   0.,   0.],
            [-inf,   0., -inf]]], dtype=float32)
    """
    z = numerics.prepare_logits(logits)
    drafts = numerics.wide_labels(drafts, "drafts")
    if drafts.ndim != 2 or z.shape[:-1] != (len(drafts), drafts.shape[1] + 1):
        raise ValueError(
            f"logits has shape {z.shape} and drafts {drafts.shape}, expected "
            "[B, N + 1, V] and [B, N]"
        )
    count = drafts.shape[1]
    places = jnp.arange(count, dtype=jnp.int32)
    after = places if parents is None else _parents(parents, drafts.shape) + 1
    after = jnp.broadcast_to(after, drafts.shape)
    first_key = rest = None
    if key is not None:
        first_key, rest_key = jax.random.split(key)
        rest = jax.random.split(rest_key, count)
    first, state = processor.apply(z[:, 0], tokens, state, key=first_key)
    states = jax.tree.map(lambda a: jnp.repeat(a[:, None], count + 1, 1), state)

    def step(states, one):
        z, draft, place, parent, own = one
        before = take_state(states, parent)
        z, state = processor.apply(z, draft[:, None], before, key=own)
        states = jax.tree.map(lambda all, a: all.at[:, place + 1].set(a), states, state)
        return states, z

    columns = jnp.moveaxis(z[:, 1:], 1, 0), drafts.T, places, after.T, rest
    states, others = jax.lax.scan(step, states, columns)
    return jnp.concatenate([first[:, None], jnp.moveaxis(others, 0, 1)], 1), states


def _parents(parents, shape):
    parents = numerics.wide_labels(parents, "parents")
    if parents.shape not in (shape, shape[1:]):
        raise ValueError(
            f"parents has shape {parents.shape}, expected {shape[1:]} or {shape}"
        )
    if numerics.is_concrete(parents):
        known = np.asarray(parents)
        if (known < -1).any() or (known >= np.arange(shape[1])).any():
            raise ValueError(
                f"parents is {known}, expected -1 or the place of an earlier draft"
            )
    return jnp.broadcast_to(parents.reshape(-1, shape[1]), shape)


def take_state(states: Any, index: ArrayLike) -> Any:
    """For each row the state at one of the positions of ``process_drafts``.

    Args:
      states: a pytree of arrays [B, N + 1, ...].
      index: int [B], 0 for the root, or how many drafts were accepted of a chain.

    Returns:
      A state, arrays [B, ...].

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import take_state
    >>> take_state(jnp.array([[1, 2], [3, 4]]), jnp.array([1, 0]))
    Array([2, 3], dtype=int32)
    """
    index = jnp.asarray(index)
    rows = jnp.arange(len(index))
    return jax.tree.map(lambda a: a[rows, index], states)
