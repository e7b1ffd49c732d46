"""Multinomial choice with an outside option, and auctions of positions on top of it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = [
    "cascade_click_probs",
    "mnl_log_probs",
    "mnl_optimal_allocation",
    "mnl_welfare",
    "vcg_payments",
]


def mnl_log_probs(
    utilities: ArrayLike,
    *,
    outside: ArrayLike = 0.0,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Log-probabilities of a multinomial logit choice with an outside option.

    Use it when a person takes one of several offers or none of them.

    .. math:: \log \frac{e^{\rho_j}}{e^{\rho_0} + \sum_i e^{\rho_i}}

    Shapes: utilities [..., J], where [..., J] -> [..., J + 1]

    Args:
      utilities: of the alternatives; ``-inf`` is the same as ``where=False``.
      outside: utility of choosing none, a scalar or [...].
      where: bool, the alternatives on offer.

    Returns:
      Nats, the outside option last, float32 (float64 for float64 utilities).

    Raises:
      TypeError: ``utilities`` is not floating point or ``where`` is not bool.
      ValueError: the shapes do not fit.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Position Auctions in AI-Generated Content, arXiv:2506.03309.

    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import mnl_log_probs
    >>> print(jnp.exp(mnl_log_probs(jnp.float32([0, 0]))).round(4))
    [0.3333 0.3333 0.3333]
    """
    return numerics.log_softmax(_with_outside(utilities, outside, where))


def mnl_welfare(alloc: ArrayLike, utilities: ArrayLike, values: ArrayLike) -> jax.Array:
    r"""Expected welfare of an ad allocation: values times click probabilities.

    .. math:: \sum_{ij} x_{ij} v_i \pi_{ij}, \quad \pi_{ij} = \frac{e^{\rho_{ij}}}
        {1 + \sum_{i'j'} x_{i'j'} e^{\rho_{i'j'}}}

    Shapes: alloc [..., I, J], utilities [..., I, J], values [..., I] -> [...]

    Args:
      alloc: bool, who stands where.
      utilities: of an advertiser i at a position j.
      values: of a click to each advertiser.

    Returns:
      In units of ``values``, float32 (float64 for float64 utilities).

    Raises:
      TypeError: ``alloc`` is not bool, or another argument not floating point.
      ValueError: the shapes do not fit.

    Source: arXiv:2506.03309.

    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import mnl_welfare
    >>> rho, v = jnp.float32([[0, 1], [0.5, -0.5]]), jnp.float32([1, 2])
    >>> print(mnl_welfare(jnp.array([[False] * 2, [True, False]]), rho, v).round(4))
    1.2449
    """
    u, v = (
        numerics.promote_to_float32(utilities, "utilities"),
        numerics.promote_to_float32(values, "values"),
    )
    if u.ndim < 2 or v.shape != u.shape[:-1]:
        raise ValueError(
            f"values has shape {v.shape}, expected that of utilities, {u.shape}, "
            "without its last axis"
        )
    flat = (*u.shape[:-2], -1)
    alloc = jnp.asarray(alloc)
    if alloc.shape != u.shape:
        raise ValueError(f"alloc has shape {alloc.shape}, expected {u.shape}")
    log_p = mnl_log_probs(u.reshape(flat), where=alloc.reshape(flat))
    clicks = jnp.exp(log_p[..., :-1]).reshape(u.shape)
    return jnp.sum(clicks.sum(-1) * v.astype(u.dtype), -1)


def mnl_optimal_allocation(
    utilities: ArrayLike, values: ArrayLike, *, k: int
) -> np.ndarray:
    r"""Allocation of at most k ads with the largest expected welfare.

    .. math:: \max_x \sum_{ij} x_{ij} v_i \pi_{ij}, \quad \sum_j x_{ij} \le 1, \quad
        \sum_i x_{ij} \le 1, \quad \sum_{ij} x_{ij} \le k

    Dinkelbach's iteration: the welfare w so far, then a matching with the weights
    :math:`(v_i - w)_+ e^{\rho_{ij}}`. Runs on the host, in float64.

    Shapes: utilities [I, J], values [I] -> [I, J]

    Returns:
      A bool NumPy array; empty if no value is positive.

    Raises:
      ValueError: wrong shapes, or ``k`` below 0.

    Source: arXiv:2506.03309; Dinkelbach 1967.

    >>> from logitlab.decisions import mnl_optimal_allocation
    >>> mnl_optimal_allocation([[0, 1], [0.5, -0.5]], [1, 2], k=2)
    array([[False, False],
           [ True, False]])
    """
    u, v = np.asarray(utilities, np.float64), np.asarray(values, np.float64)
    if u.ndim != 2 or v.shape != u.shape[:1]:
        raise ValueError(f"utilities, values have shapes {u.shape}, {v.shape}, "
                         "expected [I, J], [I]")  # fmt: skip
    if k < 0:
        raise ValueError(f"k is {k}, expected an integer from 0 on")
    top = max(u.max(initial=0), 0)
    weights, outside = np.exp(u - top), np.exp(-top)
    welfare, alloc = 0.0, np.zeros(u.shape, bool)
    while True:
        gains = np.maximum(v - welfare, 0)[:, None] * weights
        found = _matching(gains, min(k, *u.shape))
        clicks = np.where(found, weights, 0)
        total = clicks.sum() + outside
        better = (clicks * v[:, None]).sum() / total if total > 0 else 0.0
        if not better > welfare * (1 + 1e-13):
            return alloc
        welfare, alloc = better, found


def vcg_payments(utilities: ArrayLike, values: ArrayLike, *, k: int) -> np.ndarray:
    r"""Expected Vickrey-Clarke-Groves payments under the optimal allocation.

    Use it to price the positions of an auction so that bidders tell the truth.

    .. math:: W^*(\text{without } i) - (W^* - v_i \pi_i)

    Truthful: no advertiser gains by naming another value. Runs on the host, in float64.

    Shapes: utilities [I, J], values [I] -> [I]

    Source: arXiv:2506.03309; Vickrey, Clarke, Groves.

    >>> from logitlab.decisions import vcg_payments
    >>> vcg_payments([[0, 1], [0.5, -0.5]], [1, 2], k=2).round(4)
    array([0.    , 0.7311])
    """
    u, v = np.asarray(utilities, np.float64), np.asarray(values, np.float64)
    alloc = mnl_optimal_allocation(u, v, k=k)
    own = _values_of_clicks(alloc, u, v)
    payments = np.zeros(v.shape)
    for i in np.flatnonzero(alloc.any(1)):
        others = np.arange(v.size) != i
        without = mnl_optimal_allocation(u[others], v[others], k=k)
        best = _values_of_clicks(without, u[others], v[others]).sum()
        payments[i] = best - (own.sum() - own[i])
    return payments


def cascade_click_probs(probs: ArrayLike) -> jax.Array:
    r"""Click probabilities of a list under the cascade model.

    Use it for a reader who goes down the list and stops at the first click.

    .. math:: \pi_j = p_j \prod_{i < j} (1 - p_i)

    Shapes: probs [..., J] -> [..., J]

    Args:
      probs: of a click on an item that is reached, in the order of the list.

    Returns:
      Probabilities, float32 (float64 for float64); what is missing to 1 is no click.

    Raises:
      TypeError: ``probs`` is not floating point.
      ValueError: ``probs`` has no axis.

    Source: cascade model, Craswell et al. 2008; details of arXiv:2506.03309 inferred
      from its abstract.

    >>> import jax.numpy as jnp
    >>> from logitlab.decisions import cascade_click_probs
    >>> cascade_click_probs(jnp.float32([0.5, 0.5]))
    Array([0.5 , 0.25], dtype=float32)
    """
    p = numerics.promote_to_float32(probs, "probs")
    if p.ndim == 0:
        raise ValueError(f"probs has shape {p.shape}, expected an axis of items")
    reach = jnp.cumprod(1 - p[..., :-1], -1)
    return p * jnp.concatenate([jnp.ones_like(p[..., :1]), reach], -1)


def _with_outside(
    utilities: ArrayLike, outside: ArrayLike, where: ArrayLike | None
) -> jax.Array:
    """Utilities of the alternatives on offer, then that of none of them."""
    u = numerics.prepare_logits(utilities, where=where, name="utilities")
    none = jnp.asarray(outside, u.dtype)
    if none.shape not in ((), u.shape[:-1]):
        raise ValueError(f"outside has shape {none.shape}, expected {u.shape[:-1]}")
    none = jnp.broadcast_to(none, u.shape[:-1])[..., None]
    return jnp.concatenate([u, none], -1)


def _matching(gains, k):
    """At most k cells, one per row and column, of the largest total gain."""
    from scipy.optimize import linear_sum_assignment  # half a second to import

    rows, columns = gains.shape
    if k == 0:
        return np.zeros(gains.shape, bool)
    # Exactly k real pairs: the other columns and rows are taken by dummies, which may
    # not meet each other. A pair without gain is dropped.
    table = np.zeros((rows + columns - k,) * 2)
    table[:rows, :columns] = gains
    table[rows:, columns:] = -1 - 2 * gains.sum()
    chosen = np.zeros(table.shape, bool)
    chosen[linear_sum_assignment(table, maximize=True)] = True
    return chosen[:rows, :columns] & (gains > 0)


def _values_of_clicks(alloc, u, v):
    top = max(u.max(initial=0), 0)
    clicks = np.where(alloc, np.exp(u - top), 0).sum(1)
    return v * clicks / (clicks.sum() + np.exp(-top))
