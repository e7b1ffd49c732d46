"""Do weights of graphs hold where the size of a graph misleads?

A graph is a house or a cycle of five nodes, the label, that hangs on a random tree. In
training larger trees go with houses, in some environments more than in others; at the
test they go with cycles. A graph network adds its nodes' embeddings up, so that it sees
both. Weights of the graphs make the variables of that sum independent: all pairs of
them, or those from different clusters.

Source: L2R-GNN, 2024, arXiv:2312.12475.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from experiments.common.keys import once_per_key
from experiments.shifts import stable
from logitlab import estimators, losses, metrics, models
from logitlab.train import Compute, Study

ARMS = {name: label for name, label in stable.ARMS.items() if name != "known"}
MOTIF, DEGREES = 5, 6  # nodes of a motif, and degrees that a node's features tell apart


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    stable.check_rates(config)
    small, large = config.small, config.large
    if not 1 <= small[0] <= small[1] < large[0] <= large[1]:
        raise ValueError(
            f"config.small is {tuple(small)} and config.large {tuple(large)}, expected "
            "growing numbers of nodes"
        )
    programs = _programs(config)  # each compiled once for all arms and seeds
    measured = once_per_key(lambda key: measure(key, config, programs))
    return Study(
        arms={
            name: Compute(lambda key, name=name: measured(key)[name]) for name in ARMS
        },
        figures=stable.figures(ARMS),
        claims=stable.claims(),
        labels=ARMS,
        title="Weights of graphs against sizes that mislead",
        summary=(
            f"Houses and cycles on random trees of {small[0]} to {small[1]} or "
            f"{large[0]} to {large[1]} nodes, {len(config.rates)} environments of "
            f"{config.rows} graphs in which the larger ones are houses in "
            f"{', '.join(f'{rate:.0%}' for rate in config.rates)} of the cases, and in "
            f"{config.test_rate:.0%} at the test. A graph network of width "
            f"{config.width}; weights are learned anew {config.rounds} times."
        ),
        captions=stable.CAPTIONS
        | {"turned": "Where large graphs mostly are the other motif."},
    )


def draw(key: jax.Array, config, rate: float, rows: int) -> dict:
    """Graphs: ``adjacency`` [rows, N, N], ``nodes`` [rows, N], bool, and labels ``y``.

    The first five nodes are the motif, 1 a house and 0 a cycle.
    """
    return jax.vmap(lambda key: _graph(key, config, rate))(jax.random.split(key, rows))


def _graph(key, config, rate):
    keys = jax.random.split(key, 5)
    most = config.large[1]
    y = jax.random.bernoulli(keys[0]).astype(jnp.int32)
    agrees = jax.random.bernoulli(keys[1], rate)
    is_large = agrees == (y == 1)
    small, large = (
        jax.random.randint(keys[2], (), low, high + 1)
        for low, high in (config.small, config.large)
    )
    count = jnp.where(is_large, large, small)
    at = jnp.arange(most)  # of the tree; the first node hangs on the motif
    earlier = jnp.floor(jax.random.uniform(keys[3], (most,)) * at).astype(jnp.int32)
    parents = MOTIF + earlier
    parents = parents.at[0].set(jax.random.randint(keys[4], (), 0, MOTIF))
    ends = jax.nn.one_hot(parents, MOTIF + most) * (at < count)[:, None]
    edges = jnp.concatenate([jnp.zeros((MOTIF, MOTIF + most)), ends])
    corners = jnp.arange(MOTIF)
    edges = edges.at[corners, (corners + 1) % MOTIF].set(1)
    edges = edges.at[1, 4].set(y)  # a cycle with a chord is a house
    nodes = jnp.arange(MOTIF + most) < MOTIF + count
    return {"adjacency": edges + edges.T, "nodes": nodes, "y": y}


def embed(model, params, graphs: dict) -> jax.Array:
    """Sums of the nodes' embeddings, [rows, width], over twenty."""

    def one(adjacency, nodes):
        z = model.apply(
            {"params": params}, features(adjacency), adjacency, method="embed"
        )
        return jnp.where(nodes[:, None], z, 0).sum(0) / 20

    return jax.vmap(one)(graphs["adjacency"], graphs["nodes"])


def features(adjacency: jax.Array) -> jax.Array:
    """Degrees of the nodes, one-hot, the largest ones alike."""
    degrees = jnp.minimum(adjacency.sum(-1).astype(jnp.int32), DEGREES - 1)
    return jax.nn.one_hot(degrees, DEGREES)


def measure(key: jax.Array, config, programs: dict) -> dict:
    """Numbers of all arms, on the same graphs and from the same parameters."""
    keys = jax.random.split(key, 3)
    train, test = programs["draw"](keys[:2])
    return {name: _arm(config, name, keys[2], train, test, **programs) for name in ARMS}


def _programs(config):
    model = models.GCN(width=config.width, classes=2)
    adam = optax.adam(config.learning_rate)

    def both(keys):
        parts = [
            draw(jax.random.fold_in(keys[0], at), config, rate, config.rows)
            for at, rate in enumerate(config.rates)
        ]
        train = jax.tree.map(lambda *leaves: jnp.concatenate(leaves), *parts)
        return train, draw(keys[1], config, config.test_rate, config.test)

    def init(key, train):
        first = train["adjacency"][0]
        params = model.init(key, features(first), first)["params"]
        return params, adam.init(params)

    def logits(params, graphs):
        z = embed(model, params, graphs)
        return model.apply({"params": params}, z, method="classify")

    def fit(carry, weights, train, key):
        def step(carry, key):
            params, state = carry
            at = jax.random.randint(key, (config.batch_size,), 0, len(weights))
            batch = jax.tree.map(lambda leaf: leaf[at], train)

            def loss(params):
                each = losses.cross_entropy(logits(params, batch), batch["y"])
                return jnp.mean(weights[at] * each)

            updates, state = adam.update(jax.grad(loss)(params), state)
            return (optax.apply_updates(params, updates), state), None

        return jax.lax.scan(step, carry, jax.random.split(key, config.fit_steps))[0]

    def evaluate(params, train, test):
        return {
            name: metrics.accuracy(logits(params, graphs), graphs["y"])
            for name, graphs in ((stable.TEST, test), (stable.SEEN, train))
        }

    look = functools.partial(embed, model)
    found = dict(draw=both, init=init, look=look, fit=fit, evaluate=evaluate)
    return {name: jax.jit(program) for name, program in found.items()}


def _arm(config, name, key, train, test, *, init, look, fit, evaluate, **_):
    init_key, *keys = jax.random.split(key, config.rounds + 1)
    carry = init(init_key, train)
    weights, size = jnp.ones(len(train["y"])), 1.0
    for key in keys:
        if name != "unweighted":
            z = look(carry[0], train)
            clusters = jnp.arange(config.width)
            if name == "clustered":
                clusters = estimators.cluster_by_correlation_stability(
                    z.reshape(len(config.rates), config.rows, config.width), 2, key
                )
            found = estimators.learn_sample_weights(
                z,
                clusters,
                key,
                steps=config.steps,
                learning_rate=config.weight_rate,
                l2=config.l2,
            )
            weights, size = found.weights, found.effective_size / len(z)
        carry = fit(carry, weights, train, key)
    return evaluate(carry[0], train, test) | {stable.SIZE: size}
