"""Clients of digits with unlike labels, and the run that trains all of them."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from logitlab import optim
from logitlab.train import Run

CLASSES = 10


def dirichlet_mixtures(
    key: jax.Array, clients: int, prior: jax.Array, concentration: float
) -> jax.Array:
    """Shares of the classes in each client [K, C], on average those of ``prior``.

    For shares of clients that are alike in size, ``concentration`` is that of
    ``data.dirichlet_clients`` for each class.
    """
    return jax.random.dirichlet(key, concentration * len(prior) * prior, (clients,))


def deal(
    key: jax.Array, labels: jax.Array, mixtures: jax.Array, sizes: tuple[int, ...]
) -> tuple[jax.Array, jax.Array]:
    """Rows [K, longest] of each client by its shares of the classes, and a mask.

    Traced, unlike the splits of ``data``, so that each seed has clients of its own in
    one program. A client draws without replacement; two clients may hold the same row.
    Sizes are kept as far as the client's classes have rows.
    """
    longest = max(sizes)
    chances = jnp.log(mixtures / jnp.bincount(labels, length=mixtures.shape[1])[None])
    draws = jax.random.gumbel(key, (len(sizes), len(labels)))
    scores, rows = jax.lax.top_k(chances[:, labels] + draws, longest)
    places = jnp.arange(longest)[None] < jnp.array(sizes)[:, None]
    return rows, places & (scores > -jnp.inf)


def counts_of(labels: jax.Array, kept: jax.Array) -> jax.Array:
    """Rows of each class in each client, [K, C]."""
    hot = jax.nn.one_hot(labels, CLASSES)
    return jnp.where(kept[..., None], hot, 0).sum(1)


def federated_run(
    config,
    *,
    init: Callable,
    data: Callable,
    client_loss: Callable,
    evaluate: Callable,
    client: optax.GradientTransformation,
    server: optax.GradientTransformation | None = None,
    proximal: float = 0.0,
    personal: tuple[str, ...] = (),
    show: tuple[str, ...] = (),
) -> Run:
    """A run whose rows are the clients, each with parameters of its own.

    Args:
      config: has ``sizes``, ``rounds``, ``local_steps``, ``batch_size`` and ``points``.
      init: key -> parameters of one client, the same for all.
      data: key -> parts; "train" has ``x`` [K, N, D], ``y`` and ``kept`` [K, N].
      client_loss: (params, x [B, D], y [B]) -> losses [B] of one client's batch.
      evaluate: (params [K, ...], parts) -> metrics, after a round.
      client: the clients' optimizer.
      server: the server's, FedAvg's by default.
      proximal: see :func:`logitlab.optim.federated_rounds`.
      personal: see there.
      show: the metrics that the progress shows.
    """
    clients, steps = len(config.sizes), config.rounds * config.local_steps

    def init_all(key):
        params = init(key)
        return jax.tree.map(lambda leaf: jnp.stack([leaf] * clients), params)

    def loss(params, batch, key):
        def one(params, x, y, kept, key):
            at = jax.random.randint(key, (config.batch_size,), 0, kept.sum())
            return client_loss(params, x[at], y[at]).mean()

        keys = jax.random.split(key, clients)
        means = jax.vmap(one)(params, batch["x"], batch["y"], batch["kept"], keys)
        return clients * means  # a step descends the mean over clients

    rounds = jnp.linspace(0, config.rounds, config.points + 1).round().astype(int)
    return Run(
        init=init_all,
        loss=loss,
        data=data,
        optimizer=optim.federated_rounds(
            client,
            server,
            local_steps=config.local_steps,
            weights=jnp.array(config.sizes),
            proximal=proximal,
            personal=personal,
        ),
        evaluate=evaluate,
        steps=steps,
        evaluate_at=sorted({config.local_steps * int(r) for r in rounds}),
        show=show,
    )


def check_sizes(config):
    """Refuses clients without rows, and batches of none."""
    if len(config.sizes) < 2 or min(config.sizes) < 1:
        raise ValueError(
            f"config.sizes is {tuple(config.sizes)}, expected rows of two clients or "
            "more, at least one each"
        )
    for name in ("rounds", "local_steps", "batch_size"):
        if config[name] < 1:
            raise ValueError(f"config.{name} is {config[name]}, expected at least 1")
