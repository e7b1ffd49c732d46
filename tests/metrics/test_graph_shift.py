import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.derivatives import check_derivatives
from harness.goldens import arrays, cases, close
from harness.interpreter import functions

from logitlab import data, metrics, models
from logitlab.metrics import graph_shift

calls = functions(graph_shift)


@pytest.mark.parametrize("case", cases("lebed"))
def test_golden(x64, case):
    z, yes, no, a, b = arrays(
        case, "embedding", "pos_edges", "neg_edges", "theta_a", "theta_b"
    )
    loss = calls.structure_discrepancy(z, yes, no)
    close(loss, case["outputs"]["structure_loss"])
    logits = np.concatenate(
        [graph_shift._cosines(jnp.asarray(z), e, None)[0] for e in (yes, no)]
    )
    close(logits, np.ravel(case["outputs"]["edge_logits"]))
    network = lambda params, graph: (z, z)  # noqa: E731
    stay = metrics.lebed_score(network, a, b, None, yes, no, max_epochs=0)
    close(stay.score, case["outputs"]["lebed_distance"])


def test_gradient(x64):
    z = np.random.default_rng(0).normal(size=(5, 3))
    yes, no = np.array([[0, 1, 2], [1, 2, 3]]), np.array([[0, 4], [3, 1]])
    check_derivatives(lambda z: graph_shift.structure_discrepancy(z, yes, no), z)


def test_edges_of_the_discrepancy():
    z, pair = np.float32([[0, 0], [1, 2], [-2, -4]]), np.array([[1], [2]])
    none = np.zeros((2, 0), int)
    run = calls.structure_discrepancy
    np.testing.assert_allclose(run(z, pair, none), np.log1p(np.e), rtol=1e-6)
    np.testing.assert_allclose(run(z, none, pair), np.log1p(np.exp(-1)), rtol=1e-6)
    np.testing.assert_allclose(run(z, pair * 0, none), np.log(2), rtol=1e-6)
    assert run(z, none, none) == 0
    slope = jax.grad(graph_shift.structure_discrepancy)(z, pair * 0, pair)
    assert np.isfinite(slope).all()
    with pytest.raises(ValueError, match=r"pos_edges has nodes outside \[0, 3\)"):
        metrics.structure_discrepancy(z, pair + 1, none)
    beyond = jax.jit(metrics.structure_discrepancy)(z, pair + 1, pair)
    np.testing.assert_allclose(beyond, run(z, none, pair), rtol=1e-6)
    with pytest.raises(ValueError, match="neg_edges has shape"):
        metrics.structure_discrepancy(z, pair, pair.T)
    with pytest.raises(TypeError, match="pos_edges has dtype float"):
        metrics.structure_discrepancy(z, pair * 1.0, pair)


def test_retraining_against_a_loop(x64):
    """The authors' loop, step by step, stopped by the margin and by the epochs."""
    rng = np.random.default_rng(1)
    x, trained, init = rng.normal(size=(6, 3)), *rng.normal(size=(2, 3, 4))
    yes, no = np.array([[0, 1, 2], [1, 2, 3]]), np.array([[0, 4, 5], [3, 1, 0]])
    network = lambda w, x: (jnp.tanh(x @ w), jnp.tanh(x @ w))  # noqa: E731
    labels = np.tanh(x @ trained).argmax(-1)
    reference = float(calls.structure_discrepancy(np.tanh(x @ trained), yes, no))

    def loss(w):
        z = jnp.tanh(x @ w)
        nll = -jax.nn.log_softmax(z)[jnp.arange(6), labels].mean()
        return nll, graph_shift.structure_discrepancy(z, yes, no)

    slope = jax.jit(jax.grad(loss, has_aux=True))
    score = jax.jit(
        lambda margin, relative: graph_shift.lebed_score(
            network, trained, init, x, yes, no, learning_rate=0.05, max_epochs=12,
            min_epochs=3, margin=margin, relative=relative,
        ),
        static_argnums=1,
    )  # fmt: skip
    for margin, relative in ((0.05, False), (0.0, False), (0.2, True)):
        near = margin * reference if relative else margin
        w, m, v = init, 0.0, 0.0
        for epoch in range(1, 13):
            grad, found = slope(w)
            grad = np.asarray(grad) + 5e-4 * w
            m, v = 0.9 * m + 0.1 * grad, 0.999 * v + 0.001 * grad**2
            w = w - 0.05 * (m / (1 - 0.9**epoch)) / (
                np.sqrt(v / (1 - 0.999**epoch)) + 1e-8
            )
            if epoch >= 3 and abs(found - reference) < near:
                break
        got = score(margin, relative)
        np.testing.assert_allclose(got.score, np.linalg.norm(trained - w), rtol=1e-8)
        assert got.epochs == epoch
        assert got.stopped == (epoch >= 3 and abs(found - reference) < near)


@pytest.mark.slow
def test_a_shifted_graph_moves_further():
    keys = jax.random.split(jax.random.key(0), 4)
    draw = lambda key, noise: data.stochastic_block_model(  # noqa: E731
        key, 200, classes=4, p_in=0.08, p_out=0.01, noise=noise, means_key=keys[3]
    )
    model, train = models.GCN(16, 4), draw(keys[0], 0.5)
    init = model.init(keys[2], train["x"], train["adjacency"])

    def network(params, graph):
        z = model.apply(params, graph["x"], graph["adjacency"], method="embed")
        return z, model.apply(params, z, method="classify")

    def loss(params):
        logits = network(params, train)[1]
        nll = optax.softmax_cross_entropy_with_integer_labels(logits, train["y"])
        return nll.mean()

    optimizer = optax.adam(5e-3)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    start = (init, optimizer.init(init))
    (params, _), _ = jax.lax.scan(step, start, length=100)
    scores = []
    for noise in (0.5, 4.0):
        graph = draw(keys[1], noise)
        yes = jnp.stack(jnp.nonzero(jnp.triu(graph["adjacency"])))
        no = data.random_non_edges(keys[1], graph["adjacency"], yes.shape[1])
        score = metrics.lebed_score(
            network, params, init, graph, yes, no, learning_rate=5e-3
        )
        scores.append(float(score.score))
    assert scores[1] > scores[0]
