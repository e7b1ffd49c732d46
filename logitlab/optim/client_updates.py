"""What a server makes of its clients' updates, which are an axis of every array."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range, hyper

__all__ = [
    "PrincipalState",
    "average_clients",
    "client_average",
    "guidance_matrix",
    "principal_gradient_aggregate",
    "principal_gradients",
    "principal_updates",
    "scale_by_guidance",
]


def client_average(
    updates: Any, *, weights: ArrayLike | None = None, mask: ArrayLike | None = None
) -> Any:
    r"""Weighted mean of the clients' updates, or of their parameters (FedAvg).

    .. math:: \bar u = \sum_k n_k u_k \Big/ \sum_k n_k

    over the clients that take part.

    Args:
      updates: a pytree of floats with a first axis of clients.
      weights: numbers of examples [K], at least 0; None counts clients alike. A client
        without examples is left out, whatever its update holds.
      mask: bool [K], the clients that take part in this round.

    Returns:
      A pytree without that axis, in the dtypes of ``updates``; 0 under ``jit`` if
      nobody takes part: the server then stays where it is.

    Raises:
      TypeError: a leaf is not floating point, or ``mask`` is not bool.
      ValueError: leaves have different numbers of clients, ``weights`` or ``mask``
        another, a weight is negative, or no client with examples takes part.

    Source: McMahan et al. 2017, arXiv:1602.05629.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import client_average
    >>> client_average(jnp.float32([[0, 4], [4, 0]]), weights=jnp.array([3, 1]))
    Array([1., 3.], dtype=float32)
    """
    clients = _clients(updates)
    share, keep = client_shares(clients, weights, mask)
    return jax.tree.map(lambda leaf: _mean(leaf, share, keep), updates)


def principal_updates(
    updates: Any,
    *,
    share: float = 0.8,
    calibrated: bool = False,
    mask: ArrayLike | None = None,
) -> Any:
    r"""The clients' updates, each turned to the directions that all have in common.

    Use it to see what :func:`principal_gradient_aggregate` takes the mean of. For each
    array of the parameters by itself, with the K updates as rows of G,

    .. math:: \hat g_k = \sum_{j \le J} \frac{s_j}{\sum_l s_l} \, \|g_k\|
        \frac{w_j w_j^\top g_k}{\|w_j w_j^\top g_k\|}, \quad w_j = G^\top e_j, \quad
        J = \lfloor \text{share} \cdot K \rfloor

    with the eigenvalues :math:`s_j`, falling, and vectors :math:`e_j` of
    :math:`G G^\top / K`. Every update keeps the sign that it has along a direction.
    With ``calibrated`` it takes the one that most clients have, as the paper draws it;
    the released code computes those signs, and projects, which undoes them.

    Args:
      updates: a pytree of floats with a first axis of clients.
      share: of the directions that are kept, in [0, 1]; a Python number. Where J is 0
        updates stay as they are.
      calibrated: one sign along each direction for all clients.
      mask: bool [K], the clients that take part in this round; others get 0.

    Returns:
      A pytree like ``updates``, in its dtypes. An array of one element stays as it is.
      Where eigenvalues are equal their directions are arbitrary, and so is what depends
      on them.

    Raises:
      TypeError: a leaf is not floating point, or ``mask`` is not bool.
      ValueError: leaves have different numbers of clients, ``mask`` another, ``share``
        is outside [0, 1], or no client takes part.

    Numerics: for updates up to 1e30 in size, as each array is scaled first.

    Source: FedLD, Zeng et al. 2024, arXiv:2408.12300; Zeng-Shuang/FedLD.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import principal_updates
    >>> common = principal_updates(jnp.float32([[3, 4], [3, -4]]), share=0.5)
    >>> [f"{x:.1f}" for x in common.ravel()]
    ['0.0', '3.2', '0.0', '-3.2']
    """
    clients = _clients(updates)
    check_range("share", share, lambda s: (s >= 0) & (s <= 1), "a number in [0, 1]")
    _, keep = client_shares(clients, None, mask)

    def turn(leaf):
        kept = jnp.where(_rows(keep, leaf), leaf, 0)
        if int(share * clients + 1e-6) == 0 or kept[0].size < 2:
            return kept
        return _turned(kept, jnp.sum(keep), share, calibrated)

    return jax.tree.map(turn, updates)


def _turned(leaf, many, share, calibrated):
    dtype = jnp.promote_types(leaf.dtype, jnp.float32)
    g = leaf.astype(dtype).reshape(len(leaf), -1)
    size = jnp.max(jnp.abs(g))
    g = g / jnp.where(size > 0, size, 1)
    s, e = jnp.linalg.eigh(_times(g, g.T))  # of 0 for clients that are left out
    s, e = jnp.maximum(s[::-1], 0), e[:, ::-1]
    w = _times(e.T, g)
    length = jnp.linalg.norm(w, axis=1, keepdims=True)
    w = jnp.where(length > 0, w / jnp.where(length > 0, length, 1), 0)
    sign = jnp.sign(_times(g, w.T))  # [K, J]
    if calibrated:
        up = jnp.where(jnp.sum(sign, 0) >= 0, 1, -1).astype(dtype)
        sign = jnp.broadcast_to(up[None], sign.shape)
    most = jnp.floor(share * many + 1e-6)  # .29 of 100 are 29
    total = jnp.sum(s)
    part = jnp.where(jnp.arange(len(s)) < most, s, 0) / jnp.where(total > 0, total, 1)
    pull = size * jnp.linalg.norm(g, axis=1, keepdims=True) * sign * part[None]
    turned = _times(pull, w).reshape(leaf.shape).astype(leaf.dtype)
    return jnp.where(most > 0, turned, leaf)


def principal_gradient_aggregate(
    updates: Any,
    *,
    share: float = 0.8,
    calibrated: bool = False,
    weights: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> Any:
    r"""Mean of the clients' :func:`principal_updates` (FedLD).

    Use it in place of the plain mean when updates of clients with unlike data conflict.

    .. math:: \bar u = \frac1K \sum_k \hat g_k

    Args:
      updates: a pytree of floats with a first axis of clients.
      share: of the directions that are kept, in [0, 1]; a Python number. Where it keeps
        none the result is :func:`client_average`.
      calibrated: one sign along each direction for all clients.
      weights: of the clients in the mean [K]; None counts them alike, as the released
        code does. A client without examples is left out.
      mask: bool [K], the clients that take part in this round.

    Returns:
      A pytree without the axis of clients, in the dtypes of ``updates``.

    Raises:
      TypeError: a leaf is not floating point, or ``mask`` is not bool.
      ValueError: leaves have different numbers of clients, ``weights`` or ``mask``
        another, ``share`` is outside [0, 1], or no client takes part.

    Source: FedLD, Zeng et al. 2024, arXiv:2408.12300; Zeng-Shuang/FedLD.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import principal_gradient_aggregate
    >>> updates = jnp.float32([[2, 1], [2, -1]])
    >>> print(principal_gradient_aggregate(updates, share=0.5).round(3))
    [1.789 0.   ]
    """
    _, keep = client_shares(_clients(updates), weights, mask)
    turned = principal_updates(updates, share=share, calibrated=calibrated, mask=keep)
    return client_average(turned, weights=weights, mask=mask)


def _times(a, b):
    return jnp.matmul(a, b, precision="highest")


def average_clients() -> optax.GradientTransformationExtraArgs:
    """The clients' mean as a transformation: the first of a server's chain.

    :func:`fedavg` and :func:`fedadam` begin with it. ``update`` takes stacked updates,
    and ``weights`` and ``mask`` as :func:`client_average` does.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import average_clients
    >>> server = average_clients()
    >>> stacked = jnp.float32([[0, 4], [4, 0]])
    >>> server.update(stacked, server.init(stacked[0]), weights=jnp.array([3, 1]))[0]
    Array([1., 3.], dtype=float32)
    """

    def update(updates, state, params=None, *, weights=None, mask=None, **extra):
        del params, extra
        return client_average(updates, weights=weights, mask=mask), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


class PrincipalState(NamedTuple):
    """What :func:`principal_gradients` remembers.

    Attributes:
      started: for each array, whether there was an update other than 0.
    """

    started: Any


def principal_gradients(
    *, share: float = 0.8, calibrated: bool = False
) -> optax.GradientTransformationExtraArgs:
    """:func:`principal_gradient_aggregate` as a transformation, but for a first mean.

    Goes first in a server's chain, in the place of :func:`average_clients`. An array
    gets the plain mean until it has moved, so in the first round. (The released code
    asks a running sum whether it is 0, which says the same.)

    Args:
      share: of the directions that are kept, in [0, 1]; a Python number.
      calibrated: one sign along each direction for all clients.

    Raises:
      ValueError: ``share`` is outside [0, 1].

    Source: FedLD, Zeng et al. 2024, arXiv:2408.12300; Zeng-Shuang/FedLD.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import principal_gradients
    >>> server, updates = principal_gradients(share=0.5), jnp.float32([[2, 1], [2, -1]])
    >>> mean, state = server.update(updates, server.init(updates[0]))
    >>> print(mean, server.update(updates, state)[0].round(3))
    [2. 0.] [1.789 0.   ]
    """
    check_range("share", share, lambda s: (s >= 0) & (s <= 1), "a number in [0, 1]")

    def init(params):
        return PrincipalState(jax.tree.map(lambda _: jnp.zeros((), bool), params))

    def update(updates, state, params=None, *, weights=None, mask=None, **extra):
        del params, extra
        means = client_average(updates, weights=weights, mask=mask)
        revised = principal_gradient_aggregate(
            updates, share=share, calibrated=calibrated, weights=weights, mask=mask
        )
        found = jax.tree.map(jnp.where, state.started, revised, means)
        started = jax.tree.map(lambda s, u: s | jnp.any(u != 0), state.started, found)
        return found, PrincipalState(started)

    return optax.GradientTransformationExtraArgs(init, update)


def guidance_matrix(
    base_params: Any,
    explored_params: Any,
    *,
    scaling: Literal["min_max", "robust"] = "min_max",
    clip: bool = True,
    mask: ArrayLike | None = None,
) -> Any:
    r"""How much clients want to move each parameter, from a phase of exploration.

    Use it with :func:`scale_by_guidance`: some clients explore from the same start, far
    further than a round goes, and later steps go where they went.

    .. math:: L = \frac1K \sum_k (\theta_k - \theta_0)^2, \quad
        \Gamma = \frac{L - \min L}{\max L - \min L} \quad \text{or} \quad
        \frac{L - \mathrm{median}\, L}{Q_3 - Q_1}

    over each array by itself.

    Args:
      base_params: where exploration began, a pytree of floats.
      explored_params: where it ended, a pytree with a first axis of clients.
      scaling: by the range, in [0, 1], or by quartiles (``"robust"``), which outliers
        move less. The median of an even number is the lower one, as in PyTorch;
        quartiles are interpolated.
      clip: no negative entry, of which ``"robust"`` makes many: half of the parameters
        would ascend.
      mask: bool [K], the clients that explored.

    Returns:
      A pytree like ``base_params``, float32 (float64 for float64): ones for an array
      whose spread is the same everywhere (Q3 = Q1 with ``"robust"``), so for a scalar.
      The parameter of least spread gets 0 and is not trained any more.

    Raises:
      TypeError: a leaf is not floating point, or ``mask`` is not bool.
      ValueError: ``scaling`` is unknown, shapes or numbers of clients disagree, or
        nobody explored.

    Source: FedLEx, Internò et al. 2025, arXiv:2506.18640; ChristianInterno/FedLEx.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import guidance_matrix
    >>> base, explored = jnp.zeros(3), jnp.float32([[0, 1, 2], [0, 1, -2]])
    >>> print(guidance_matrix(base, explored))
    [0.   0.25 1.  ]
    """
    if scaling not in ("min_max", "robust"):
        raise ValueError(f"scaling is {scaling!r}, expected 'min_max' or 'robust'")
    clients = _clients(explored_params, "explored_params")
    share, keep = client_shares(clients, None, mask)

    def guide(path, base, explored):
        if jnp.shape(explored)[1:] != jnp.shape(base):
            raise ValueError(
                f"explored_params{jax.tree_util.keystr(path)} has shape "
                f"{jnp.shape(explored)}, expected {(clients, *jnp.shape(base))}"
            )
        start = numerics.promote_to_float32(base, "base_params")
        gaps = jnp.asarray(explored, start.dtype) - start[None]
        size = jnp.max(jnp.abs(jnp.where(_rows(keep, gaps), gaps, 0)), initial=0)
        gaps = gaps / jnp.where(size > 0, size, 1)  # Γ has no unit
        spread = _mean(jnp.square(gaps), share, keep)
        if not spread.size:
            return spread
        if scaling == "min_max":
            low, width = jnp.min(spread), jnp.ptp(spread)
        else:
            sorted_spread = jnp.sort(spread.ravel())
            low = sorted_spread[(spread.size - 1) // 2]
            first, third = jnp.quantile(sorted_spread, jnp.array([0.25, 0.75]))
            width = third - first
        guidance = (spread - low) / jnp.where(width > 0, width, 1)
        guidance = jnp.maximum(guidance, 0) if clip else guidance
        return jnp.where(width > 0, guidance, 1)

    return jax.tree_util.tree_map_with_path(guide, base_params, explored_params)


def scale_by_guidance(guidance: Any) -> optax.GradientTransformation:
    """Multiplies gradients by :func:`guidance_matrix`, entry by entry.

    Goes first in a client's chain, before clipping and the optimizer:
    ``optax.chain(scale_by_guidance(guidance), optax.sgd(0.1))``. An Adam after it
    divides most of it out again. Ones change no bit; leaf dtypes survive.

    Raises:
      ValueError: ``update`` gets gradients of other shapes.

    Source: FedLEx, Internò et al. 2025, arXiv:2506.18640.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import scale_by_guidance
    >>> transform, grads = scale_by_guidance(jnp.float32([0, 0.5])), jnp.ones(2)
    >>> transform.update(grads, transform.init(grads))[0]
    Array([0. , 0.5], dtype=float32)
    """

    def scale(update, factor):
        if jnp.shape(factor) != jnp.shape(update):
            raise ValueError(
                f"guidance has shape {jnp.shape(factor)}, expected that of the "
                f"gradients, {jnp.shape(update)}"
            )
        return (update * factor).astype(update.dtype)

    def update(updates, state, params=None):
        del params
        return jax.tree.map(scale, updates, guidance), state

    return optax.GradientTransformation(optax.init_empty_state, update)


def client_shares(clients, weights, mask):
    """Shares in a mean that add up to 1, and who has one; 0 each if nobody has."""
    dtype = jnp.result_type(float)
    if weights is None:
        counts = jnp.ones(clients, dtype)
    else:
        counts = hyper("weights", weights, dtype, lambda n: n >= 0, "at least 0")
    if counts.shape != (clients,):
        raise ValueError(
            f"weights has shape {counts.shape}, expected one for each client, "
            f"({clients},)"
        )
    keep = numerics.check_mask(mask, (clients,)) & (counts > 0)
    if numerics.is_concrete(keep) and not keep.any():
        name = "weights" if mask is None else "mask"
        raise ValueError(
            f"{name} leaves no client with examples, expected at least one of {clients}"
        )
    counts = jnp.where(keep, counts, 0)
    total = jnp.sum(counts)
    return counts / jnp.where(total > 0, total, 1), keep


def _clients(updates, name="updates"):
    """The length of the first axis of all leaves."""
    sizes = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(updates):
        where = f"{name}{jax.tree_util.keystr(path)}"
        numerics.promote_to_float32(leaf, where)
        if jnp.ndim(leaf) == 0:
            raise ValueError(f"{where} has shape (), expected an axis of clients first")
        sizes[where] = jnp.shape(leaf)[0]
    if len({*sizes.values()}) != 1:
        raise ValueError(f"numbers of clients are {sizes}, expected one number")
    return next(iter(sizes.values()))


def _rows(keep, leaf):
    return keep.reshape(-1, *[1] * (jnp.ndim(leaf) - 1))


def _mean(leaf, share, keep):
    leaf = jnp.asarray(leaf)
    dtype = jnp.promote_types(leaf.dtype, jnp.float32)
    kept = jnp.where(_rows(keep, leaf), leaf, 0).astype(dtype)
    mean = jnp.tensordot(share.astype(dtype), kept, 1, precision="highest")
    return mean.astype(leaf.dtype)
