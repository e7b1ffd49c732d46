"""Splits of a data set among the clients of federated learning."""

from __future__ import annotations

import numbers
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab.numerics.arguments import check_count

TRIES = 1000


def dirichlet_clients(
    key: ArrayLike,
    labels: ArrayLike,
    *,
    num_clients: int,
    concentration: float,
    least: int = 1,
) -> jax.Array:
    r"""Assigns rows to clients so that classes are spread unevenly over them.

    Use it for label skew of any strength: the rows of each class are shared out in
    proportions of a Dirichlet distribution. At 0.1 a client sees few classes; from 100
    on clients are alike.

    Runs on the host, outside of ``jit``.

    Shapes: labels [n] -> int32 [n]

    Args:
      key: a ``jax.random.key``.
      labels: ints; a row with a negative one, no label, gets no client.
      num_clients: K, a Python number.
      concentration: of the Dirichlet distribution, above 0.
      least: rows that every client has. A draw that leaves one with fewer is drawn
        again.

    Returns:
      The client of each row, -1 for none.

    Raises:
      TypeError: ``labels`` is not integer.
      ValueError: an argument outside its range, or no draw in a thousand gives every
        client its rows.

    Source: Yurochkin et al. 2019, arXiv:1905.12022; Hsu et al. 2019, arXiv:1909.06335,
      draw for each client.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.data import dirichlet_clients
    >>> labels = jnp.arange(200) % 2
    >>> found = dirichlet_clients(
    ...     jax.random.key(0), labels, num_clients=3, concentration=1.0
    ... )
    >>> print(jnp.bincount(found).sum())
    200
    """
    y = _checked(labels, num_clients)
    check_count("least", least, 0)
    known = isinstance(concentration, numbers.Real)
    if not (known and 0 < concentration < np.inf):
        raise ValueError(
            f"concentration is {concentration!r}, expected a number above 0"
        )
    rng = _generator(key)
    for _ in range(TRIES):
        found = np.full(len(y), -1, np.int32)
        for c in np.unique(y[y >= 0]):
            rows = rng.permutation(np.flatnonzero(y == c))
            shares = rng.dirichlet(np.full(num_clients, float(concentration)))
            ends = np.round(np.cumsum(shares)[:-1] * len(rows)).astype(int)
            for client, part in enumerate(np.split(rows, ends)):
                found[part] = client
        if np.bincount(found[found >= 0], minlength=num_clients).min() >= least:
            return jnp.asarray(found)
    raise ValueError(
        f"concentration is {concentration}: in each of {TRIES} draws of "
        f"{(y >= 0).sum()} rows some of {num_clients} clients had fewer than {least}, "
        "expected fewer clients, more rows or a lower least"
    )


def pathological_clients(
    key: ArrayLike, labels: ArrayLike, *, num_clients: int, classes_per_client: int
) -> jax.Array:
    """Assigns rows to clients so that each of them sees a few classes only.

    Use it for the hardest label skew, such as two classes for each client. Classes are
    dealt out until every client has its number of different ones, and the rows of a
    class are shared evenly among its clients.

    Runs on the host, outside of ``jit``.

    Shapes: labels [n] -> int32 [n]

    Args:
      key: a ``jax.random.key``.
      labels: ints; a row with a negative one, no label, gets no client.
      num_clients: K, a Python number.
      classes_per_client: from 1 to the number of classes.

    Returns:
      The client of each row, -1 for none: a class has no client if there are fewer
      places for classes than classes.

    Raises:
      TypeError: ``labels`` is not integer.
      ValueError: an argument outside its range, or a client that would have no row.

    Source: the idea is that of McMahan et al. 2017, arXiv:1602.05629, who deal out
      shards of the sorted rows.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.data import pathological_clients
    >>> labels = jnp.arange(100) % 10
    >>> found = pathological_clients(
    ...     jax.random.key(0), labels, num_clients=5, classes_per_client=2
    ... )
    >>> [len(set(labels[found == k].tolist())) for k in range(5)]
    [2, 2, 2, 2, 2]
    """
    y = _checked(labels, num_clients)
    classes = np.unique(y[y >= 0])
    check_count("classes_per_client", classes_per_client)
    if classes_per_client > len(classes):
        raise ValueError(
            f"classes_per_client is {classes_per_client}, expected at most "
            f"{len(classes)}, the classes"
        )
    rng = _generator(key)
    found = np.full(len(y), -1, np.int32)
    for at, mine in enumerate(
        _dealt(rng, len(classes), num_clients, classes_per_client)
    ):
        rows = rng.permutation(np.flatnonzero(y == classes[at]))
        for client, part in zip(
            mine, np.array_split(rows, len(mine) or 1), strict=False
        ):
            found[part] = client
    _check_all(found, num_clients, "labels")
    return jnp.asarray(found)


def _dealt(rng, classes, clients, each):
    """The clients of each class: the classes least dealt so far come first."""
    owners = [[] for _ in range(classes)]
    for client in rng.permutation(clients):
        dealt = [len(mine) for mine in owners]
        order = np.lexsort((rng.random(classes), dealt))
        for at in order[:each]:
            owners[at].append(int(client))
    return owners


def stack_clients(
    arrays: Mapping[str, ArrayLike], clients: ArrayLike, num_clients: int
) -> tuple[dict[str, jax.Array], jax.Array]:
    """The rows of all clients beside each other, as many places for each.

    Use it to train clients on an axis, by ``vmap`` or over a mesh. A client's rows come
    first, and what follows them is zeros.

    Args:
      arrays: name -> array [n, ...].
      clients: ints [n], the client of each row; a negative one is in none.
      num_clients: K, a Python number.

    Returns:
      Name -> array [K, longest, ...], and a mask [K, longest], bool; its sums along
      rows are the weights of the clients.

    Raises:
      TypeError: ``clients`` is not integer.
      ValueError: the lengths disagree, or a client has no row.

    >>> import jax.numpy as jnp
    >>> from logitlab.data import stack_clients
    >>> stacked, mask = stack_clients({"x": jnp.arange(3)}, jnp.array([1, 0, 1]), 2)
    >>> print(stacked["x"].tolist(), mask.sum(1))
    [[1, 0], [0, 2]] [1 2]
    """
    ids = _checked(clients, num_clients, "clients")
    if (ids >= num_clients).any():
        raise ValueError(f"clients reach {ids.max()}, expected below {num_clients}")
    _check_all(ids, num_clients, "clients")
    rows = [np.flatnonzero(ids == k) for k in range(num_clients)]
    longest = max(map(len, rows))
    places = np.zeros((num_clients, longest), np.int32)
    for k, mine in enumerate(rows):
        places[k, : len(mine)] = mine
    counts = np.array([*map(len, rows)])
    mask = np.arange(longest)[None] < counts[:, None]
    stacked = {}
    for name, array in arrays.items():
        if np.shape(array)[:1] != ids.shape:
            raise ValueError(
                f"arrays[{name!r}] has shape {np.shape(array)}, expected {len(ids)} "
                "rows, one for each of clients"
            )
        taken = jnp.asarray(array)[places]
        kept = mask.reshape(*mask.shape, *[1] * (taken.ndim - 2))
        stacked[name] = jnp.where(kept, taken, jnp.zeros((), taken.dtype))
    return stacked, jnp.asarray(mask)


def _checked(labels, num_clients, name="labels"):
    check_count("num_clients", num_clients)
    y = np.asarray(labels)
    if not np.issubdtype(y.dtype, np.integer):
        raise TypeError(f"{name} has dtype {y.dtype}, expected integers")
    if y.ndim != 1:
        raise ValueError(f"{name} has shape {y.shape}, expected [n]")
    return y


def _check_all(found, clients, name):
    sizes = np.bincount(found[found >= 0], minlength=clients)
    if (sizes == 0).any():
        bare = np.flatnonzero(sizes == 0).tolist()
        raise ValueError(
            f"{name} leaves clients {bare} without a row, expected at least one each"
        )


def _generator(key):
    """NumPy's generator, seeded by a key."""
    return np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
