"""Federated training as an optimizer: clients are an axis of the parameters.

The parameters of all clients are stacked along the first axis of every leaf, the
server's along none. Hundreds of clients are then one program, mapped or sharded, and
what a client keeps for itself stays where it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from logitlab.numerics.arguments import check_count, check_range, hyper
from logitlab.optim.client_updates import average_clients, client_shares

__all__ = ["FederatedState", "fedadam", "fedavg", "federated_rounds"]


def fedavg(learning_rate: ArrayLike = 1.0) -> optax.GradientTransformation:
    """FedAvg's server: goes to the mean of the clients, or a part of the way.

    Source: McMahan et al. 2017, arXiv:1602.05629.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import fedavg
    >>> server, stacked = fedavg(), jnp.float32([[0, 4], [4, 0]])
    >>> server.update(stacked, server.init(stacked[0]))[0]
    Array([-2., -2.], dtype=float32)
    """
    return optax.chain(average_clients(), optax.sgd(learning_rate))


def fedadam(
    learning_rate: ArrayLike,
    *,
    b1: ArrayLike = 0.9,
    b2: ArrayLike = 0.99,
    eps: ArrayLike = 1e-3,
) -> optax.GradientTransformation:
    """FedAdam's server: Adam, for which the mean way of the clients is a gradient.

    Use it where parameters need steps of different sizes. ``eps`` is the degree of
    adaptivity, large beside that of Adam. The mean's bias is corrected, which the
    paper's algorithm leaves out.

    Source: Reddi et al. 2021, arXiv:2003.00295.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import fedadam
    >>> server, stacked = fedadam(0.1), jnp.float32([[1, 3], [1, 5]])
    >>> print(server.update(stacked, server.init(stacked[0]))[0].round(3))
    [-0.1 -0.1]
    """
    adam = optax.adam(learning_rate, b1=b1, b2=b2, eps=eps)
    return optax.chain(average_clients(), adam)


class FederatedState(NamedTuple):
    """What :func:`federated_rounds` remembers.

    Attributes:
      step: local steps done.
      server_params: the server's after the last round, without the axis of clients
        and without personal entries.
      client_state: of the clients' optimizer, stacked.
      server_state: of the server's.
      mask: bool [K], who takes part in this round.
    """

    step: jax.Array
    server_params: Any
    client_state: Any
    server_state: Any
    mask: jax.Array


def federated_rounds(
    client: optax.GradientTransformation,
    server: optax.GradientTransformation | None = None,
    *,
    local_steps: int,
    weights: ArrayLike,
    participation: float = 1.0,
    proximal: ArrayLike = 0.0,
    personal: Sequence[str] = (),
    keep_state: bool = False,
    key: jax.Array | None = None,
) -> optax.GradientTransformation:
    r"""Federated training: an optimizer of the clients' stacked parameters.

    Use it with any loop: each update is a step of every client on its own parameters
    and data, and after ``local_steps`` of them the server makes of the clients'
    parameters :math:`\theta_k`

    .. math:: \theta \leftarrow \theta + \mathrm{server}\bigl(
        (\theta - \theta_k)_k\bigr)

    from which all go on. Differences stand in the place of gradients, so that any
    optimizer can be the server's. FedProx is ``proximal``.

    Args:
      client: the clients' optimizer. It sees the leaves of one client, and gradients of
        that client's own loss: scale those of a mean over clients by their number.
      server: :func:`fedavg` by default, or :func:`fedadam`, or a chain that begins with
        :func:`average_clients` or :func:`principal_gradients`.
      local_steps: steps of a round, a Python number.
      weights: numbers of examples [K], at least 0.
      participation: the share of clients in a round, in (0, 1], a Python number, at
        least one client. The others wait, and their gradients may be anything.
      proximal: FedProx's mu, at least 0: adds mu times the way from the round's start
        to the gradients.
      personal: entries of the parameters, a mapping, that clients keep for themselves.
      keep_state: clients keep their optimizer's state between rounds, which otherwise
        begins anew.
      key: a ``jax.random.key``, which draws who takes part.

    Returns:
      A transformation that needs ``params``. Its state holds ``server_params``, which
      ``optax.tree.get(state, "server_params")`` finds inside of chains.

    Raises:
      ValueError: an argument outside its range, a missing key, no client with examples,
        parameters of another number of clients than ``weights``, or without an entry in
        ``personal``; ``update`` gets no params.

    Numerics: clients on an axis equal a loop over clients to 1e-12 in float64.

    Source: FedAvg, McMahan et al. 2017, arXiv:1602.05629; FedProx, Li et al. 2020,
      arXiv:1812.06127; servers: Reddi et al. 2021, arXiv:2003.00295.

    >>> import jax.numpy as jnp
    >>> import optax
    >>> from logitlab.optim import federated_rounds
    >>> rounds = federated_rounds(
    ...     optax.sgd(0.5), local_steps=1, weights=jnp.array([3, 1])
    ... )
    >>> params, goals = jnp.zeros(2), jnp.float32([4, 8])
    >>> updates, state = rounds.update(params - goals, rounds.init(params), params)
    >>> print(params + updates, state.server_params)
    [2.5 2.5] 2.5
    """
    check_count("local_steps", local_steps)
    check_range(
        "participation", participation, lambda p: (p > 0) & (p <= 1), "in (0, 1]"
    )
    check_range("proximal", proximal, lambda mu: mu >= 0, "at least 0")
    if np.ndim(weights) != 1:
        raise ValueError(f"weights has shape {np.shape(weights)}, expected [K]")
    clients = np.shape(weights)[0]
    client_shares(clients, weights, None)
    some = max(1, round(participation * clients))
    if some < clients and key is None:
        raise ValueError(
            f"key is None, expected a jax.random.key for participation {participation}"
        )
    server_update = optax.with_extra_args_support(
        fedavg() if server is None else server
    )

    def draw(number):
        """Who takes part in a round."""
        if some == clients:
            return jnp.ones(clients, bool)
        return jax.random.permutation(jax.random.fold_in(key, number), clients) < some

    def init(params):
        _check_clients(params, clients)
        start = jax.tree.map(lambda leaf: leaf[0], _parted(params, personal)[0])
        zero = jnp.zeros((), jnp.int32)
        state = jax.vmap(client.init)(params)
        return FederatedState(zero, start, state, server_update.init(start), draw(zero))

    def update(updates, state, params=None):
        if params is None:
            raise ValueError(
                "federated_rounds needs params: update(grads, state, params)"
            )
        _check_clients(params, clients)
        shared, own = _parted(params, personal)
        if isinstance(proximal, jax.Array) or proximal != 0:
            updates = _pulled(updates, shared, state.server_params, proximal, personal)
        moves, client_state = jax.vmap(client.update)(
            updates, state.client_state, params
        )
        moves = _selected(state.mask, moves, jax.tree.map(jnp.zeros_like, moves))
        step = state.step + 1
        now = state._replace(
            step=step,
            client_state=_selected(state.mask, client_state, state.client_state),
        )

        def go_on():
            return moves, now

        def end_round():
            steps, own_steps = _parted(moves, personal)
            start = state.server_params
            gaps = jax.tree.map(lambda s, p, u: s[None] - (p + u), start, shared, steps)
            change, server_state = server_update.update(
                gaps, state.server_state, start, weights=weights, mask=state.mask
            )
            new = optax.apply_updates(start, change)
            jumps = jax.tree.map(lambda n, p: n[None] - p, new, shared)
            after = now._replace(
                server_params=new,
                server_state=server_state,
                mask=draw(step // local_steps),
            )
            if not keep_state:
                after = after._replace(client_state=jax.vmap(client.init)(params))
            return _joined(jumps, own_steps), after

        return jax.lax.cond(step % local_steps == 0, end_round, go_on)

    return optax.GradientTransformation(init, update)


def _check_clients(params, clients):
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if jnp.shape(leaf)[:1] != (clients,):
            raise ValueError(
                f"params{jax.tree_util.keystr(path)} has shape {jnp.shape(leaf)}, "
                f"expected one row for each of the {clients} clients in weights"
            )


def _parted(tree, personal):
    """What the server sees of a tree, and the personal entries, None without any."""
    if not personal:
        return tree, None
    missing = [name for name in personal if name not in tree]
    if missing:
        raise ValueError(f"personal names {missing}, expected some of {[*tree]}")
    return (
        {name: leaf for name, leaf in tree.items() if name not in personal},
        {name: tree[name] for name in personal},
    )


def _joined(shared, own):
    return shared if own is None else {**shared, **own}


def _pulled(updates, shared, start, proximal, personal):
    """Gradients of the loss plus mu / 2 times the squared way from the start."""
    grads, own = _parted(updates, personal)
    mu = hyper("proximal", proximal, jnp.result_type(float))
    near = jax.tree.map(
        lambda g, p, s: g + (mu * (p - s[None])).astype(g.dtype), grads, shared, start
    )
    return _joined(near, own)


def _selected(mask, new, old):
    def select(a, b):
        return jnp.where(mask.reshape(-1, *[1] * (a.ndim - 1)), a, b)

    return jax.tree.map(select, new, old)
