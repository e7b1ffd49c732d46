import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.goldens import arrays, cases, close
from harness.interpreter import functions, interpreted

from logitlab import optim
from logitlab.optim import client_updates

calls = functions(client_updates)


def test_average(x64):
    rng = np.random.default_rng(0)
    u, n = rng.normal(size=(4, 2, 3)), np.array([5, 0, 2, 3])
    want = np.average(u, 0, n)
    np.testing.assert_allclose(calls.client_average(u, weights=n), want, rtol=1e-12)
    u[1] = np.nan  # a client without examples
    np.testing.assert_allclose(calls.client_average(u, weights=n), want, rtol=1e-12)
    u[2] = np.inf
    there = np.array([True, True, False, True])
    got = calls.client_average({"w": u}, weights=n, mask=there)
    np.testing.assert_allclose(got["w"], (5 * u[0] + 3 * u[3]) / 8, rtol=1e-12)
    nobody = jax.jit(lambda m: optim.client_average(u, mask=m))(np.zeros(4, bool))
    np.testing.assert_array_equal(nobody, 0)


def test_average_keeps_dtypes():
    u = {"a": jnp.ones((3, 2), jnp.bfloat16), "b": np.full((3, 2), 1e38, "f4")}
    got = interpreted(optim.client_average)(u, weights=np.uint8([200, 200, 200]))
    assert got["a"].dtype == jnp.bfloat16
    np.testing.assert_allclose(got["b"], 1e38, rtol=1e-6)


@pytest.mark.parametrize("case", cases("fedld_aggregate"))
def test_golden_principal_gradients(case, x64):
    rounds = np.array(case["inputs"]["client_updates_per_round"])
    params = case["params"]
    ends = np.cumsum(params["layer_sizes"])
    server = optim.principal_gradients(share=params["k_proportion"])
    state = server.init(tuple(np.split(rounds[0, 0], ends[:-1])))
    for updates, want in zip(rounds, case["outputs"]["aggregated_per_round"], strict=1):
        layers = tuple(np.split(updates, ends[:-1], axis=1))
        got, state = server.update(layers, state)
        close(np.concatenate(got), want)


def by_loops(g, share, calibrated=False):
    """The definition, one client and direction after the other."""
    s, e = np.linalg.eigh(g @ g.T / len(g))
    s, e = s[::-1], e[:, ::-1]
    rows = np.zeros_like(g)
    for k, row in enumerate(g):
        for j in range(int(share * len(g))):
            w = g.T @ e[:, j]
            if calibrated and (np.sign(g @ w)).sum() < 0:
                w = -w
            turned = w if calibrated else (w @ row) * w
            along = np.linalg.norm(row) * turned / np.linalg.norm(turned)
            rows[k] += s[j] / s.sum() * along
    return rows


@pytest.mark.parametrize("calibrated", [False, True])
def test_principal_directions(x64, calibrated):
    g = np.random.default_rng(1).normal(size=(5, 2, 4))
    options = dict(share=0.6, calibrated=calibrated)
    rows = by_loops(g.reshape(5, 8), 0.6, calibrated).reshape(5, 2, 4)
    got = optim.principal_updates(g, **options)
    np.testing.assert_allclose(got, rows, rtol=1e-9)
    n, want = np.arange(1, 6), rows.mean(0)
    got = optim.principal_gradient_aggregate(g, weights=n, **options)
    np.testing.assert_allclose(got, np.average(rows, 0, n), rtol=1e-9)
    # Absent clients are as though they were not there, whatever they hold.
    more = np.concatenate([g, np.full((2, 2, 4), np.nan)])
    got = jax.jit(
        lambda m: optim.principal_gradient_aggregate(more, mask=m, **options)
    )(np.arange(7) < 5)
    np.testing.assert_allclose(got, want, rtol=1e-9)


def test_principal_extremes():
    g = np.random.default_rng(2).normal(size=(4, 6)).astype("f4")
    want = optim.principal_gradient_aggregate(g)
    for size in (1e-30, 1e30):
        got = optim.principal_gradient_aggregate(np.float32(size) * g)
        np.testing.assert_allclose(got / np.float32(size), want, rtol=1e-4, atol=1e-5)
    none = optim.principal_gradient_aggregate(np.zeros((4, 6), "f4"))
    np.testing.assert_array_equal(none, 0)
    one = optim.principal_gradient_aggregate(jnp.ones((4, 2), jnp.bfloat16))
    assert one.dtype == jnp.bfloat16
    np.testing.assert_allclose(np.float32(one), 1, rtol=1e-2)


def test_without_directions_it_is_the_average_bit_for_bit():
    g, n = np.random.default_rng(3).normal(size=(4, 6)).astype("f4"), np.arange(1, 5)
    want = optim.client_average(g, weights=n)
    server = optim.principal_gradients(share=0.2)  # of four clients: none
    state = server.init(g[0])
    for _ in range(2):
        got, state = server.update(g, state, weights=n)
        np.testing.assert_array_equal(got, want)
    alone = optim.principal_gradient_aggregate(g[:1])  # .8 of one client: none
    np.testing.assert_array_equal(alone, g[0])


@pytest.mark.parametrize("case", cases("fedlex_guidance"))
def test_golden_guidance(case, x64):
    base, explored = arrays(case, "base_params", "explored_params")
    robust = case["params"]["normalisation"] == "RobustScaler"
    scaling = "robust" if robust else "min_max"
    got = calls.guidance_matrix(base, explored, scaling=scaling, clip=False)
    close(got, case["outputs"]["guidance"])
    clipped = calls.guidance_matrix(base, explored, scaling=scaling)
    np.testing.assert_allclose(clipped, np.maximum(got, 0), rtol=1e-12)
    assert (np.asarray(got) < 0).sum() == (5 if robust else 0)


def test_guidance_edges(x64):
    base = {"w": np.zeros(4), "b": np.zeros(()), "none": np.zeros((0,))}
    explored = {
        "w": np.array([[1.0, 1, 1, 1], [2, 0, 2, 4], [np.nan] * 4]),
        "b": np.array([1.0, 2, 3]),
        "none": np.zeros((3, 0)),
    }
    there = np.array([True, True, False])
    got = optim.guidance_matrix(base, explored, mask=there)
    spread = np.array([2.5, 0.5, 2.5, 8.5])
    np.testing.assert_allclose(got["w"], (spread - 0.5) / 8, rtol=1e-12)
    assert got["b"] == 1
    # Two quartiles that are equal
    flat = np.array([[0.0, 1, 1, 1, 1, 9]])
    got = optim.guidance_matrix(np.zeros(6), flat, scaling="robust")
    np.testing.assert_array_equal(got, 1)


def test_guidance_of_large_parameters():
    explored = np.float32([[0, 1e30, -2e30]])
    got = calls.guidance_matrix(np.zeros(3, "f4"), explored)
    np.testing.assert_allclose(got, [0, 0.25, 1], rtol=1e-6)


def test_guidance_of_ones_changes_no_bit():
    g = np.random.default_rng(4).normal(size=(6,)).astype("f4")
    plain = optax.sgd(0.1, momentum=0.9)
    guided = optax.chain(optim.scale_by_guidance(np.ones(6, "f4")), plain)

    def run(optimizer):
        def step(carry, scale):
            p, state = carry
            updates, state = optimizer.update(scale * g, state, p)
            return (optax.apply_updates(p, updates), state), None

        start = jnp.float32(g), optimizer.init(g)
        return jax.lax.scan(step, start, jnp.linspace(-1, 2, 7))[0][0]

    np.testing.assert_array_equal(run(guided), run(plain))
    half = optim.scale_by_guidance({"w": np.float32([0, 0.5])})
    grads = {"w": jnp.ones(2, jnp.bfloat16)}
    got = half.update(grads, half.init(grads))[0]["w"]
    assert got.dtype == jnp.bfloat16
    np.testing.assert_array_equal(np.float32(got), [0, 0.5])


def test_errors():
    u = np.ones((3, 2), "f4")
    for match, weights, mask in (
        (
            r"weights has shape \(2,\), expected one for each client, \(3,\)",
            [1, 2],
            None,
        ),
        ("weights is .*expected at least 0", [1, -1, 1], None),
        ("weights leaves no client with examples", [0, 0, 0], None),
        ("mask leaves no client with examples", None, np.zeros(3, bool)),
        ("mask leaves no client with examples", [1, 0, 0], np.arange(3) > 0),
        (r"mask has shape \(2,\)", None, np.ones(2, bool)),
    ):
        weights = None if weights is None else np.array(weights)
        with pytest.raises(ValueError, match=match):
            optim.client_average(u, weights=weights, mask=mask)
    with pytest.raises(TypeError, match="mask has dtype"):
        optim.client_average(u, mask=np.ones(3))
    with pytest.raises(ValueError, match=r"updates\['b'\] has shape \(\), expected an"):
        optim.client_average({"a": u, "b": np.float32(1)})
    with pytest.raises(ValueError, match="numbers of clients are .* expected one"):
        optim.client_average({"a": u, "b": u[:2]})
    with pytest.raises(TypeError, match=r"updates\['a'\] has dtype int"):
        optim.client_average({"a": np.ones((3, 2), int)})
    with pytest.raises(ValueError, match="share is 2.0, expected a number in"):
        optim.principal_gradient_aggregate(u, share=2.0)
    with pytest.raises(ValueError, match="scaling is 'max', expected 'min_max'"):
        optim.guidance_matrix(u[0], u, scaling="max")
    with pytest.raises(
        ValueError, match=r"\['w'\] has shape \(3, 2\), expected \(3, 4"
    ):
        optim.guidance_matrix({"w": np.ones(4, "f4")}, {"w": u})
    guide = optim.scale_by_guidance(np.ones(3, "f4"))
    with pytest.raises(ValueError, match=r"guidance has shape \(3,\), expected that"):
        guide.update(u[0], optax.EmptyState())
