"""Processors that cut off the unlikely tokens: top-k, top-p, min-p, typical."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range, per_row
from logitlab.transforms.decoding import Processor, stateless

__all__ = ["min_p", "top_k", "top_p", "typical_p"]


def top_k(k: ArrayLike) -> Processor:
    """Hides all but the k likeliest tokens, and those that tie with the last of them.

    Args:
      k: whole number of at least 1, for all rows or for each; V or more hides nothing.

    Raises:
      ValueError: ``k`` is below 1, or of another batch.

    Numerics: no sort; the limit is found bit by bit, for whatever k, which may be
      traced.

    Source: Fan et al. 2018, arXiv:1805.04833.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> two = transforms.top_k(2)
    >>> two.apply(jnp.float32([[1, 3, 2]]), jnp.array([[-1]]), two.init(1))[0]
    Array([[-inf,   3.,   2.]], dtype=float32)
    """
    check_range("k", k, lambda k: k >= 1, "at least 1")

    def step(z):
        most = per_row("k", k, z)
        kept = _keep_best(z, jnp.ones_like(z), most)
        return jnp.where(kept | (most >= z.shape[1]), z, -jnp.inf)

    return stateless(step)


def top_p(p: ArrayLike) -> Processor:
    r"""Hides all but the likeliest tokens that have probability p together (nucleus).

    A token stays if those that are likelier have less than p; so do all that tie with
    the last one.

    Args:
      p: in (0, 1], a number or one for each row; 1 hides nothing.

    Raises:
      ValueError: ``p`` is outside (0, 1], or of another batch.

    Numerics: no sort; sums are rounded as float32 is, and a token whose predecessors
      have p up to rounding may fall on either side.

    Source: Holtzman et al. 2019, arXiv:1904.09751.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> nucleus = transforms.top_p(0.7)
    >>> z = jnp.log(jnp.float32([[0.5, 0.3, 0.2]]))
    >>> jnp.exp(nucleus.apply(z, jnp.array([[-1]]), nucleus.init(1))[0])
    Array([[0.5, 0.3, 0. ]], dtype=float32)
    """
    check_range("p", p, lambda p: (p > 0) & (p <= 1), "in (0, 1]")

    def step(z):
        mass = per_row("p", p, z)
        kept = _keep_best(z, numerics.softmax(z), mass)
        return jnp.where(kept | (mass >= 1), z, -jnp.inf)

    return stateless(step)


def min_p(p: ArrayLike) -> Processor:
    r"""Hides the tokens that have less than p times the probability of the likeliest.

    .. math:: z_v \ge \max_u z_u + \log p

    Args:
      p: in (0, 1], a number or one for each row.

    Raises:
      ValueError: ``p`` is outside (0, 1], or of another batch.

    Source: Nguyen et al. 2024, arXiv:2407.01082.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> likely = transforms.min_p(0.5)
    >>> likely.apply(jnp.float32([[1, 0.5, 0]]), jnp.array([[-1]]), likely.init(1))[0]
    Array([[ 1. ,  0.5, -inf]], dtype=float32)
    """
    check_range("p", p, lambda p: (p > 0) & (p <= 1), "in (0, 1]")

    def step(z):
        top = jnp.max(z, -1, keepdims=True)
        below = z - jnp.where(top == -jnp.inf, 0, top)
        return jnp.where(below >= jnp.log(per_row("p", p, z)), z, -jnp.inf)

    return stateless(step)


def typical_p(p: ArrayLike) -> Processor:
    r"""Hides all but the tokens that surprise about as much as the model expects.

    Tokens are taken in the order of :math:`|-\log p_v - H|`, H the entropy, until they
    have probability p together; those that tie with the last one stay.

    Args:
      p: in (0, 1], a number or one for each row; 1 hides nothing.

    Raises:
      ValueError: ``p`` is outside (0, 1], or of another batch.

    Source: Meister et al. 2022, arXiv:2202.00666.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> typical = transforms.typical_p(0.2)
    >>> z = jnp.log(jnp.float32([[0.5, 0.3, 0.2]]))
    >>> jnp.exp(typical.apply(z, jnp.array([[-1]]), typical.init(1))[0])
    Array([[0. , 0.3, 0. ]], dtype=float32)
    """
    check_range("p", p, lambda p: (p > 0) & (p <= 1), "in (0, 1]")

    def step(z):
        log_p, mass = numerics.log_softmax(z), per_row("p", p, z)
        shown = log_p > -jnp.inf
        surprise, probs = jnp.where(shown, -log_p, 0), jnp.exp(log_p)
        entropy = jnp.sum(jnp.where(shown, probs * surprise, 0), -1, keepdims=True)
        off = jnp.where(shown, jnp.abs(surprise - entropy), jnp.inf)
        kept = _keep_best(-off, probs, mass)
        return jnp.where(kept | (mass >= 1), z, -jnp.inf)

    return stateless(step)


def _keep_best(scores, weights, budget):
    """Marks the fewest entries, best scores first, whose weights reach the budget.

    The lowest score that stays is built from its highest bit on: each bit takes one
    pass, which is less than a sort, and less memory.
    """
    bits = jnp.finfo(scores.dtype).bits
    unsigned = jnp.dtype(f"uint{bits}")
    one = jnp.ones((), unsigned)
    sign = one << (bits - 1)
    raw = jax.lax.bitcast_convert_type(scores + 0.0, unsigned)  # -0 is 0
    order = jnp.where(raw >= sign, ~raw, raw | sign)  # as large as the score is

    def step(i, least):
        more = least | (one << (bits - 1 - i).astype(unsigned))
        reached = jnp.sum(jnp.where(order >= more, weights, 0), -1, keepdims=True)
        return jnp.where(reached >= budget, more, least)

    least = jnp.zeros_like(order[:, :1])
    return order >= jax.lax.fori_loop(0, bits, step, least)
