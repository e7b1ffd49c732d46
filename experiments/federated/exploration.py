"""Do clients that first explore find out which parameters are worth moving?

Every client has two digits, and a fifth of the clients takes part in a round. Some
clients first train alone, far further than a round goes; how far they moved each
parameter then scales all gradients. Phases follow each other, so that an arm is
computed as a whole rather than trained by the loop.

Source: FedLEx, Internò et al. 2025, arXiv:2506.18640.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.datasets import check_train, divide, images
from experiments.common.keys import once_per_key
from experiments.common.references import stated
from logitlab import data, losses, models, optim, report
from logitlab.train import Compute, Study

ARMS = {
    "fedavg": "FedAvg",
    "ones": "guidance of ones",
    "min_max": "FedLEx",
    "robust": "FedLEx, robust scaling",
    "rescaled": "FedLEx, mean guidance 1",
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    model = models.MLP((config.width,), 10)
    explore, train = (  # each compiled once for all seeds
        jax.jit(functools.partial(phase, model, config)) for phase in (_explore, _train)
    )
    measured = once_per_key(lambda key: measure(key, config, explore, train))
    return Study(
        arms={
            name: Compute(lambda key, name=name: measured(key)[name]) for name in ARMS
        },
        figures={
            "rounds": report.trends(
                {at: f"accuracy/{at}" for at in _shown(config)},
                arms=[name for name in ARMS if name != "ones"],
                label="test accuracy",
                across="round",
            )
        },
        claims=_claims(config),
        labels=ARMS,
        title="Clients that explore",
        summary=(
            f"{config.clients} clients with {config.classes} digits each, "
            f"{config.participation:.0%} of them in a round of {config.local_steps} "
            f"steps. {config.explorers} clients explore for {config.explore_steps} "
            "steps, from parameters that one client trained for an epoch, from which "
            "all arms begin."
        ),
        captions={"rounds": "Test accuracy of the server."},
    )


def _check(config):
    check_train(config.train)
    if not 1 <= config.explorers <= config.clients:
        raise ValueError(
            f"config.explorers is {config.explorers}, expected 1 to config.clients, "
            f"{config.clients}"
        )
    if not config.last <= config.rounds:
        raise ValueError(
            f"config.last is {config.last}, expected at most config.rounds, "
            f"{config.rounds}"
        )


def _shown(config):
    points = np.linspace(1, config.rounds, min(10, config.rounds)).round()
    return sorted({int(point) for point in points})


def measure(key: jax.Array, config, explore: Callable, train: Callable) -> dict:
    """Numbers of all arms, which share clients, first parameters and exploration."""
    keys = jax.random.split(key, 6)
    parts = divide(keys[0], *images(), config.train)
    ids = data.pathological_clients(
        keys[1],
        parts.y,
        num_clients=config.clients,
        classes_per_client=config.classes,
    )
    stacked, mask = data.stack_clients(
        {"x": parts.x, "y": parts.y}, ids, config.clients
    )
    room = config.train - mask.shape[1]  # one shape for all seeds
    stacked = {
        name: jnp.pad(rows, [(0, 0), (0, room)] + [(0, 0)] * (rows.ndim - 2))
        for name, rows in stacked.items()
    }
    counts, test = mask.sum(1), {"x": parts.test_x, "y": parts.test_y}
    base, explored = explore(keys[2:5], stacked, counts)
    guidance = {
        name: optim.guidance_matrix(base, explored, scaling=name)
        for name in ("min_max", "robust")
    }
    guidance["ones"] = jax.tree.map(jnp.ones_like, base)
    mean = _mean(guidance["min_max"])
    guidance["rescaled"] = jax.tree.map(lambda g: g / mean, guidance["min_max"])
    found = {
        name: train(keys[5], base, guidance.get(name), stacked, counts, test)
        for name in ARMS
    }
    goal = config.share * found["fedavg"][0][-config.last :].mean()
    values = {}
    for name, (accuracies, params) in found.items():
        there = np.flatnonzero(np.asarray(accuracies) >= goal)
        gaps = jax.tree.map(
            lambda a, b: jnp.abs(a - b).max(), params, found["fedavg"][1]
        )
        values[name] = {
            "rounds": there[0] + 1.0 if there.size else config.rounds + 1.0,
            "final": accuracies[-config.last :].mean(),
            "gap": max(map(float, jax.tree.leaves(gaps))),
            "guidance": _mean(guidance.get(name, guidance["ones"])),
        } | {f"accuracy/{at}": accuracies[at - 1] for at in _shown(config)}
    return values


def _mean(tree):
    """Of all entries of all leaves."""
    leaves = jax.tree.leaves(tree)
    return sum(leaf.sum() for leaf in leaves) / sum(leaf.size for leaf in leaves)


def _slope(model, config):
    """(params, key, x [N, D], y [N], count) -> gradient on a batch of a client."""

    def loss(params, key, x, y, count):
        at = jax.random.randint(key, (config.batch_size,), 0, count)
        logits = model.apply({"params": params}, x[at])
        return losses.cross_entropy(logits, y[at]).mean()

    return jax.grad(loss)


def _explore(model, config, keys, rows, counts):
    sgd, slope = optax.sgd(config.learning_rate), _slope(model, config)

    def alone(params, key, x, y, count, steps):
        def step(params, key):
            updates, _ = sgd.update(slope(params, key, x, y, count), sgd.init(params))
            return optax.apply_updates(params, updates), None

        return jax.lax.scan(step, params, jax.random.split(key, steps))[0]

    x, y = rows["x"], rows["y"]
    params = model.init(keys[0], x[0, :1])["params"]
    epoch = max(1, config.train // config.clients // config.batch_size)
    base = alone(params, keys[1], x[0], y[0], counts[0], epoch)
    some = slice(0, config.explorers)
    explored = jax.vmap(
        lambda key, x, y, count: alone(base, key, x, y, count, config.explore_steps)
    )(jax.random.split(keys[2], config.explorers), x[some], y[some], counts[some])
    return base, explored


def _train(model, config, key, base, guidance, rows, counts, test):
    """Test accuracy after each round [rounds], and the server's last parameters."""
    client = optax.sgd(config.learning_rate)
    if guidance is not None:
        client = optax.chain(optim.scale_by_guidance(guidance), client)
    draw_key, key = jax.random.split(key)
    rounds = optim.federated_rounds(
        client,
        local_steps=config.local_steps,
        weights=counts,
        participation=config.participation,
        key=draw_key,
    )
    slopes = jax.vmap(_slope(model, config))
    params = jax.tree.map(lambda leaf: jnp.stack([leaf] * config.clients), base)

    def step(carry, key):
        params, state = carry
        keys = jax.random.split(key, config.clients)
        grads = slopes(params, keys, rows["x"], rows["y"], counts)
        updates, state = rounds.update(grads, state, params)
        return (optax.apply_updates(params, updates), state), None

    def one_round(carry, key):
        carry, _ = jax.lax.scan(step, carry, jax.random.split(key, config.local_steps))
        logits = model.apply({"params": carry[1].server_params}, test["x"])
        return carry, jnp.mean(logits.argmax(-1) == test["y"])

    keys = jax.random.split(key, config.rounds)
    (_, state), found = jax.lax.scan(one_round, (params, rounds.init(params)), keys)
    return found, state.server_params


def _claims(config):
    needs = ("fedavg", "min_max")
    fewer = stated("guidance makes training converge in fewer rounds")
    claims = [
        report.Claim(
            text="guidance of ones is FedAvg, bit for bit",
            reference="identity: gradients times 1",
            ours=lambda r: r["ones"].final("gap"),
            at_most=0.0,
            unit="is the largest difference of a parameter",
            needs=("ones",),
        ),
        report.Claim(
            text=f"guided clients reach {config.share:.0%} of FedAvg's accuracy sooner",
            reference=fewer,
            ours=lambda r: r["fedavg"].final("rounds") - r["min_max"].final("rounds"),
            above=0.0,
            over="mean",
            unit="rounds fewer",
            needs=needs,
        ),
    ]
    for name in ("robust", "rescaled"):
        claims.append(
            report.Claim(
                text=f"{ARMS[name]}: sooner than FedAvg",
                ours=lambda r, name=name: (
                    r["fedavg"].final("rounds") - r[name].final("rounds")
                ),
                above=0.0,
                over="mean",
                unit="rounds fewer",
                needs=("fedavg", name),
                question=True,
            )
        )
    return claims
