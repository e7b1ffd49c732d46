import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from logitlab import losses, models, optim

CLIENTS, ROWS, STEPS = 4, 6, 3


def draw(dtype="f8", clients=CLIENTS):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(clients, ROWS, 5)).astype(dtype)
    y = rng.integers(0, 3, (clients, ROWS))
    counts = np.array([6, 1, 3, 4])
    params = dict(w=rng.normal(size=(5, 3)).astype(dtype), b=np.zeros(3, dtype))
    return params, x, y, counts


def loss(params, x, y, count):
    found = losses.cross_entropy(x @ params["w"] + params["b"][None], y)
    return jnp.where(jnp.arange(ROWS) < count, found, 0).sum() / count


def stack(params, clients=CLIENTS):
    return jax.tree.map(lambda a: jnp.stack([a] * clients), params)


def on_an_axis(transform, rounds, data, steps=STEPS):
    params, x, y, counts = data
    grads = jax.vmap(jax.grad(loss))
    params = stack(params)

    @jax.jit
    def run(params, state):
        def step(carry, _):
            params, state = carry
            g = grads(params, x, y, counts)
            updates, state = transform.update(g, state, params)
            return (optax.apply_updates(params, updates), state), state.mask

        return jax.lax.scan(step, (params, state), length=rounds * steps)

    (params, state), masks = run(params, transform.init(params))
    return params, state, np.asarray(masks)[::steps]


def in_a_loop(client, rounds, data, *, masks=None, mu=0.0, server=None, personal=()):
    start, x, y, counts = data
    mine = [{name: start[name] for name in personal} for _ in counts]
    server_state = server and server.init(start)
    grad = jax.jit(jax.grad(loss))
    for at in range(rounds):
        ends, there = (
            [],
            range(len(counts)) if masks is None else masks[at].nonzero()[0],
        )
        for k in there:
            params = start | mine[k]
            state, anchor = client.init(params), params
            for _ in range(STEPS):
                g = grad(params, x[k], y[k], counts[k])
                pull = jax.tree.map(lambda p, s: mu * (p - s), params, anchor)
                updates, state = client.update(jax.tree.map(np.add, g, pull), state)
                params = optax.apply_updates(params, updates)
            mine[k] = {name: params[name] for name in personal}
            ends.append(params)
        n = counts[there]
        mean = jax.tree.map(lambda *a, n=n: np.average(a, 0, n), *ends)
        if server is not None:
            gap = jax.tree.map(np.subtract, start, mean)
            change, server_state = server.update(gap, server_state)
            mean = optax.apply_updates(start, change)
        start = mean
    return start, mine


def check_same(got, want):
    jax.tree.map(functools.partial(np.testing.assert_allclose, rtol=1e-12), got, want)


CLIENT = optax.sgd(0.3, momentum=0.5)


@pytest.mark.parametrize("kind", ["fedavg", "fedprox", "fedadam", "participation"])
def test_an_axis_of_clients_is_a_loop_over_them(x64, kind):
    data, rounds = draw(), 3
    options = dict(local_steps=STEPS, weights=data[-1])
    server, loop, masks = None, {}, None
    if kind == "fedprox":
        options["proximal"] = loop["mu"] = 0.7
    elif kind == "fedadam":
        server = optim.fedadam(0.1)
        loop["server"] = optax.adam(0.1, b1=0.9, b2=0.99, eps=1e-3)
    elif kind == "participation":
        options |= dict(participation=0.5, key=jax.random.key(1))
    transform = optim.federated_rounds(CLIENT, server, **options)
    params, state, drawn = on_an_axis(transform, rounds, data)
    if kind == "participation":
        masks = drawn
        assert (masks.sum(1) == 2).all()
        assert len({tuple(mask) for mask in masks}) > 1
    want, _ = in_a_loop(CLIENT, rounds, data, masks=masks, **loop)
    check_same(state.server_params, want)
    check_same(params, stack(want))


def test_personal_parameters(x64):
    data = draw()
    options = dict(local_steps=STEPS, weights=data[-1], personal=("b",))
    params, state, _ = on_an_axis(optim.federated_rounds(CLIENT, **options), 2, data)
    want, mine = in_a_loop(CLIENT, 2, data, personal=("b",))
    assert [*state.server_params] == ["w"]
    check_same(params["w"], stack(want["w"]))
    check_same(params["b"], np.stack([own["b"] for own in mine]))


def test_state_may_be_kept():
    data = draw("f4")
    for keep in (False, True):
        options = dict(local_steps=STEPS, weights=data[-1], keep_state=keep)
        _, state, _ = on_an_axis(optim.federated_rounds(CLIENT, **options), 1, data)
        trace = optax.tree.get(state.client_state, "trace")
        assert bool((trace["w"] != 0).any()) == keep


def test_guidance_and_shares_without_effect_are_fedavg_bit_for_bit():
    data = draw("f4")
    options = dict(local_steps=STEPS, weights=data[-1])
    plain = on_an_axis(optim.federated_rounds(CLIENT, **options), 2, data)[0]
    ones = jax.tree.map(np.ones_like, data[0])
    client = optax.chain(optim.scale_by_guidance(ones), CLIENT)
    server = optax.chain(optim.principal_gradients(share=0.2), optax.sgd(1.0))
    for other in (
        optim.federated_rounds(client, **options),
        optim.federated_rounds(CLIENT, server, **options),
        optim.federated_rounds(CLIENT, proximal=0.0, **options),
    ):
        found = on_an_axis(other, 2, data)[0]
        jax.tree.map(np.testing.assert_array_equal, found, plain)


def test_a_client_without_examples_is_left_out(x64):
    params, x, y, counts = draw()
    counts[1], x[1] = 0, np.nan
    transform = optim.federated_rounds(CLIENT, local_steps=STEPS, weights=counts)
    found = on_an_axis(transform, 2, (params, x, y, counts))[1].server_params
    kept = [0, 2, 3]
    data = params, x[kept], y[kept], counts[kept]
    check_same(found, in_a_loop(CLIENT, 2, data)[0])


def test_a_hundred_clients_cost_what_they_cost_one_by_one():
    """One program, and at most 1.3 times the arithmetic of the clients' own steps.

    Counted in the compiled programs, of which that of all clients runs for ten rounds.
    """
    clients, rows, local = 100, 16, 5
    model = models.MLP((32,), 10)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(clients, rows, 64)).astype("f4")
    y = rng.integers(0, 10, (clients, rows))
    params = model.init(jax.random.key(0), x[0, :1])["params"]
    sgd = optax.sgd(0.1)

    def client_loss(params, x, y):
        return losses.cross_entropy(model.apply({"params": params}, x), y).mean()

    def alone(params, state, x, y):
        updates, state = sgd.update(jax.grad(client_loss)(params, x, y), state)
        return optax.apply_updates(params, updates), state

    transform = optim.federated_rounds(sgd, local_steps=local, weights=np.ones(clients))

    def all_at_once(params, state):
        grads = jax.vmap(jax.grad(client_loss))(params, x, y)
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates), state

    def compiled(function, *args):
        return jax.jit(function).lower(*args).compile()

    stacked = stack(params, clients)
    state = transform.init(stacked)
    one = compiled(alone, params, sgd.init(params), x[0], y[0])
    step = compiled(all_at_once, stacked, state)
    own, ours = (program.cost_analysis()["flops"] for program in (one, step))
    assert 0.5 * clients * own <= ours <= 1.3 * clients * own
    before = np.mean([client_loss(params, *d) for d in zip(x[:5], y[:5], strict=True)])
    for _ in range(10 * local):
        stacked, state = step(stacked, state)
    after = jax.vmap(client_loss, (None, 0, 0))(state.server_params, x, y).mean()
    assert after < before


def test_clients_over_a_mesh(x64):
    params, x, y, counts = draw(clients=CLIENTS)
    mesh = jax.make_mesh((4,), ("clients",), (jax.sharding.AxisType.Auto,))
    spread = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec("clients"))
    transform = optim.federated_rounds(CLIENT, local_steps=1, weights=counts)
    want = on_an_axis(transform, 1, (params, x, y, counts), steps=1)[0]
    stacked, x, y = jax.device_put((stack(params), x, y), spread)
    state = transform.init(stacked)

    @jax.jit
    def step(params, state):
        grads = jax.vmap(jax.grad(loss))(params, x, y, counts)
        updates, state = transform.update(grads, state, params)
        return optax.apply_updates(params, updates)

    check_same(step(stacked, state), want)


def test_errors():
    sgd, n = optax.sgd(0.1), np.ones(3)
    params = {"w": jnp.ones((3, 2))}
    for match, options in (
        ("local_steps is 0, expected at least 1", dict(local_steps=0)),
        (r"weights has shape \(\), expected \[K\]", dict(weights=1.0)),
        ("weights leaves no client with examples", dict(weights=0 * n)),
        (r"participation is 0.0, expected in \(0, 1\]", dict(participation=0.0)),
        ("key is None, expected a jax.random.key", dict(participation=0.5)),
        ("proximal is -1, expected at least 0", dict(proximal=-1)),
    ):
        with pytest.raises(ValueError, match=match):
            optim.federated_rounds(sgd, **(dict(local_steps=1, weights=n) | options))
    transform = optim.federated_rounds(sgd, local_steps=1, weights=n)
    with pytest.raises(
        ValueError, match=r"\['w'\] has shape \(2, 2\), expected one row"
    ):
        transform.init({"w": jnp.ones((2, 2))})
    with pytest.raises(ValueError, match="needs params"):
        transform.update(params, transform.init(params))
    mine = optim.federated_rounds(sgd, local_steps=1, weights=n, personal=("b",))
    with pytest.raises(ValueError, match=r"personal names \['b'\], expected some of"):
        mine.init(params)
