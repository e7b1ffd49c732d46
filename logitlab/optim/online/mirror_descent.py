"""Optimistic mirror descent, which takes the last gradient for the next one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range

__all__ = ["OptimisticState", "optimistic_hedge", "optimistic_omd"]


class OptimisticState(NamedTuple):
    """State of optimistic mirror descent.

    Attributes:
      count: rounds so far.
      iterate: where gradients alone have led, without the guess: parameters, or logits.
      last: the last gradient, the guess of the next one.
      variation: sum of the squared distances of the gradients from their guesses.
    """

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count
    iterate: Any
    last: Any
    variation: jax.Array


def optimistic_omd(
    learning_rate: ArrayLike | optax.Schedule,
    *,
    mirror: str = "euclidean",
    projection: Callable[[Any], Any] | None = None,
    offset: ArrayLike | None = None,
) -> optax.GradientTransformation:
    r"""Online mirror descent that guesses the next gradient to be the last one.

    Use it for losses that change slowly: the regret then grows with their changes and
    their noise, not with the number of rounds.

    .. math:: \hat x_{t+1} = \arg\min_x \eta_t \langle g_t, x \rangle + D(x, \hat x_t),
        \quad x_{t+1} = \arg\min_x \eta_{t+1} \langle g_t, x \rangle
        + D(x, \hat x_{t+1})

    Takes the place of an optimizer: ``update(grads, state, params)`` returns what leads
    from ``params`` to the next :math:`x`. Needs ``params``; dtypes survive, and 16-bit
    leaves keep a float32 iterate. In ``optax.inject_hyperparams`` name ``projection``
    among the ``static_args``.

    Args:
      learning_rate: :math:`\eta`, a number, an array or a schedule of the rounds so
        far; :math:`2 / (\lambda (t + 1))` for strongly convex losses.
      mirror: "euclidean", D half the squared distance; or "entropy", D the divergence:
        leaves then hold distributions along their last axis, whose sums survive, and
        grow or shrink by exponentials.
      projection: for "euclidean", a function from a tree like the parameters to the
        nearest one in the domain, as ``optax.projections`` has them.
      offset: c, above 0, makes the step
        :math:`\eta / \sqrt{c + \sum_{s < t} \|g_s - g_{s-1}\|^2}`; with the diameter D
        of the domain for the learning rate and :math:`c = \delta + 4 G^2` it is that of
        the analysis for convex losses with gradients up to G [constants unsure].

    Returns:
      A transformation whose state is an ``OptimisticState``.

    Raises:
      ValueError: ``mirror`` is another word, a projection comes with "entropy",
        ``offset`` is not above 0, or ``update`` gets no params.

    Source: Chen et al. 2023, arXiv:2302.04552 (SEA model); Rakhlin and Sridharan 2013,
      arXiv:1208.3728. The form for exp-concave losses and the ensemble for dynamic
      regret are left out.

    >>> import jax.numpy as jnp
    >>> import optax
    >>> from logitlab.optim import optimistic_omd
    >>> transform, x = optimistic_omd(0.5), jnp.float32([0])
    >>> updates, state = transform.update(jnp.float32([-1]), transform.init(x), x)
    >>> print(optax.apply_updates(x, updates))  # half a step, and half a guess
    [1.]
    """
    if mirror not in ("euclidean", "entropy"):
        raise ValueError(f"mirror is {mirror!r}, expected 'euclidean' or 'entropy'")
    if mirror == "entropy":
        if projection is not None:
            raise ValueError(
                "projection is for mirror='euclidean': distributions stay ones"
            )
        return _optimistic(
            learning_rate,
            offset,
            start=lambda x: jax.tree.map(lambda leaf: _centered(jnp.log(leaf)), x),
            settle=lambda x: jax.tree.map(_centered, x),
            play=lambda x: jax.tree.map(numerics.softmax, x),
            name="optimistic_omd",
        )
    settle = projection or (lambda x: x)
    return _optimistic(
        learning_rate,
        offset,
        start=lambda x: x,
        settle=settle,
        play=settle,
        name="optimistic_omd",
    )


def optimistic_hedge(
    learning_rate: ArrayLike | optax.Schedule, *, offset: ArrayLike | None = None
) -> optax.GradientTransformation:
    r"""Exponential weights on logits, which count the last losses twice.

    Use it to weight experts whose losses change slowly. Parameters are logits along the
    last axis, ``jax.nn.softmax`` of which is played; gradients are the experts' losses.

    .. math:: z_{t+1} = \hat z_{t+1} - \eta \ell_t, \quad
        \hat z_{t+1} = \hat z_t - \eta \ell_t

    up to a constant: the largest iterate is 0, so that logits stay exact however many
    rounds there are. An expert at ``-inf`` is hidden and stays so.
    ``optimistic_omd(mirror="entropy")`` is the same on probabilities.

    Args:
      learning_rate: :math:`\eta`, a number, an array or a schedule of the rounds.
      offset: as in ``optimistic_omd``.

    Returns:
      A transformation that needs ``params``.

    Raises:
      ValueError: ``offset`` is not above 0, or ``update`` gets no params.

    Numerics: weights are finite after any number of rounds.

    Source: Rakhlin and Sridharan 2013, arXiv:1208.3728; Chen et al. 2023,
      arXiv:2302.04552.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.optim import optimistic_hedge
    >>> transform, logits = optimistic_hedge(0.5), jnp.zeros(2)
    >>> state = transform.init(logits)
    >>> updates, _ = transform.update(jnp.float32([0, 1]), state, logits)
    >>> print(f"{jax.nn.softmax(logits + updates)[0]:.3f}")
    0.731
    """
    return _optimistic(
        learning_rate,
        offset,
        start=lambda x: jax.tree.map(_centered, x),
        settle=lambda x: jax.tree.map(_centered, x),
        play=lambda x: x,
        name="optimistic_hedge",
    )


def _optimistic(learning_rate, offset, *, start, settle, play, name):
    """Two steps by the same gradient: one that stays, and one to play.

    ``start`` makes the iterate of parameters, ``settle`` brings it back to its domain
    after a step, and ``play`` makes parameters of it.
    """
    if not callable(learning_rate):
        check_range("learning_rate", learning_rate, lambda v: v >= 0, "at least 0")
    if offset is not None:
        check_range("offset", offset, lambda c: c > 0, "above 0")

    def rate(count, variation):
        eta = learning_rate(count) if callable(learning_rate) else learning_rate
        eta = jnp.asarray(eta, variation.dtype)
        return eta if offset is None else eta / jnp.sqrt(offset + variation)

    def init(params):
        iterate = start(jax.tree.map(_wide, params))
        leaves = jax.tree.leaves(iterate)
        return OptimisticState(
            jnp.zeros((), jnp.int32),
            iterate,
            jax.tree.map(jnp.zeros_like, iterate),
            jnp.zeros((), jnp.result_type(float, *leaves) if leaves else float),
        )

    def update(updates, state, params=None):
        if params is None:
            raise ValueError(f"{name} needs params: update(grads, state, params)")
        grads = jax.tree.map(_wide, updates)
        missed = jax.tree.map(
            lambda g, m: jnp.sum(jnp.square(g - m)), grads, state.last
        )
        variation = state.variation + sum(
            jax.tree.leaves(missed), start=jnp.zeros_like(state.variation)
        )
        count = optax.safe_increment(state.count)
        iterate = settle(
            _descend(state.iterate, grads, rate(state.count, state.variation))
        )
        ahead = play(_descend(iterate, grads, rate(count, variation)))

        def move(new, old, like):
            old = _wide(old)
            same = new == old  # also where both are -inf
            return jnp.where(same, 0, new - jnp.where(same, new, old)).astype(
                like.dtype
            )

        moves = jax.tree.map(move, ahead, params, updates)
        return moves, OptimisticState(count, iterate, grads, variation)

    return optax.GradientTransformation(init, update)


def _descend(iterate, grads, eta):
    def step(x, g):
        # What is hidden stays so, whatever its gradient.
        hidden = x == -jnp.inf
        return jnp.where(hidden, x, x - eta.astype(x.dtype) * jnp.where(hidden, 0, g))

    return jax.tree.map(step, iterate, grads)


def _centered(logits):
    """Logits the largest of which is 0; those at ``-inf`` stay."""
    top = logits.max(-1, keepdims=True)
    return logits - jnp.where(top > -jnp.inf, top, 0)


def _wide(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))
