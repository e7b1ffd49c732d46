import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions, interpreted
from harness.quickly import quick_jit

from logitlab import heads, numerics

# What is compared is arithmetic, not how fast it is: compile quickly.
calls = functions(heads)
K, V, D = 5, 13, 4
MAPPING = np.array([0, 2, 2, 4, 1, 1, 2, 2, 0, 4, 4, 4, 2])  # code 3 is empty


def log_softmax(z):
    return z - np.logaddexp.reduce(z, -1, keepdims=True)


def log_probs(z, y, mapping, bias=None):
    mass = heads.vq_cluster_log_mass(mapping, z.shape[-1], bias)
    return heads.vq_label_log_probs(
        z, y, mapping, log_cluster_mass=mass, token_bias=bias
    )


@pytest.mark.parametrize("biased", [False, True])
def test_equals_the_scattered_softmax(x64, biased):
    rng = np.random.default_rng(0)
    z, y, bias = rng.normal(size=(20, K)), rng.integers(0, V, 20), rng.normal(size=V)
    ct = rng.normal(size=20)
    bias = bias if biased else np.zeros(V)

    def ours(z, bias):
        out = log_probs(z, y, MAPPING, bias if biased else None)
        return out @ ct, out

    def theirs(z, bias):
        full = heads.vq_scatter_logits(z, MAPPING, token_bias=bias if biased else None)
        assert full.shape == (20, V)
        out = jax.nn.log_softmax(full)[np.arange(20), y]
        return out @ ct, out

    run = lambda f: interpreted(jax.grad(f, (0, 1), has_aux=True))(z, bias)  # noqa: E731
    (grads, out), (want_grads, want) = run(ours), run(theirs)
    np.testing.assert_allclose(out, want, rtol=1e-12)
    np.testing.assert_allclose(out, log_softmax(z[:, MAPPING] + bias)[np.arange(20), y])
    np.testing.assert_allclose(grads[0], want_grads[0], rtol=1e-11, atol=1e-14)
    if biased:
        np.testing.assert_allclose(grads[1], want_grads[1], rtol=1e-11, atol=1e-14)
    assert not grads[0][:, 3].any()  # nobody has code 3


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_probabilities_add_up(scale):
    z = scale * np.random.default_rng(0).normal(size=K).astype("f4")
    z = np.broadcast_to(z, (V, K))
    out = interpreted(log_probs)(z, np.arange(V), MAPPING)
    np.testing.assert_allclose(np.exp(out, dtype="f8").sum(), 1, rtol=1e-5)


def test_one_code_for_each_class_is_the_softmax_to_the_bit():
    rng = np.random.default_rng(0)
    h, codebook = rng.normal(size=(50, D)), 5 * rng.normal(size=(V, D))
    h, codebook = h.astype("f4"), codebook.astype("f4")
    y = rng.integers(0, V, 50)
    full = lambda h, c: numerics.label_nll(h @ c.T, y)  # noqa: E731
    ours = lambda h, c: heads.vq_loss(h, c, y, np.arange(V))  # noqa: E731
    z = h @ codebook.T
    np.testing.assert_array_equal(
        -interpreted(lambda z: log_probs(z, y, np.arange(V)))(z),
        interpreted(lambda z: numerics.label_nll(z, y))(z),
    )
    got, want = (
        jax.jit(lambda *a, f=f: (f(*a), jax.grad(lambda *a: f(*a).sum(), (0, 1))(*a)))(
            h, codebook
        )
        for f in (ours, full)
    )
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_array_equal(a, b)


def test_one_code_for_all():
    h, y = np.full((3, D), 1e4, "f4"), np.array([0, 5, 12])
    got = calls.vq_loss(h, np.ones((1, D), "f4"), y, np.zeros(V, int))
    np.testing.assert_allclose(got, np.log(V), rtol=1e-6)


@pytest.mark.parametrize("margin", [12.0, 40.0, 80.0])
def test_exact_at_large_margins(margin):
    # Class 0 is alone with its code, three share the other.
    f = lambda z: -log_probs(z, jnp.array(0), np.array([0, 1, 1, 1]))  # noqa: E731
    value, grad = quick_jit(jax.value_and_grad(f))(np.float32([margin, 0]))
    p = 3 * np.exp(-margin)
    np.testing.assert_allclose(value, np.log1p(p), rtol=1e-5)
    np.testing.assert_allclose(grad, [-p / (1 + p), p / (1 + p)], rtol=1e-5)


def test_extremes():
    f = quick_jit(jax.value_and_grad(lambda z: -log_probs(z, jnp.array(3), MAPPING)))
    for value in (1e4, 3e38):
        for sign in (-1, 1):
            z = value * sign * np.array([1, -1, 1, 1, -1])
            out, grad = f(z.astype("f4"))
            assert np.isfinite(grad).all()
            assert np.isfinite(out) or value == 3e38
            assert not np.isnan(out)


def test_cluster_mass():
    bias = np.random.default_rng(0).normal(size=V).astype("f4")
    got = heads.vq_cluster_log_mass(MAPPING, K)
    np.testing.assert_allclose(np.exp(got), [2, 2, 5, 0, 4], rtol=1e-6)
    got, pull = jax.vjp(lambda b: heads.vq_cluster_log_mass(MAPPING, K, b), bias + 1e4)
    for k in range(K):
        some = bias[k == MAPPING]
        want = np.logaddexp.reduce(some.astype("f8")) + 1e4 if some.size else -np.inf
        np.testing.assert_allclose(got[k], want, rtol=1e-6)
    (grad,) = pull(jnp.ones(K))
    total = np.bincount(MAPPING, np.exp(bias), minlength=K)
    np.testing.assert_allclose(grad, np.exp(bias) / total[MAPPING], rtol=2e-3)


def excess(q, mapping, k):
    """What the best unigram model of the codes loses, by the formula."""
    n, mass = np.bincount(mapping, minlength=k), np.bincount(mapping, q, minlength=k)
    return (q * np.log(q * n[mapping] / mass[mapping])).sum()


def test_the_bound_on_zipf(x64):
    vocab, k = 4096, 64
    q = 1 / np.arange(1, vocab + 1)
    q /= q.sum()
    entropy, got = -(q * np.log(q)).sum(), {}
    for method in ("random", "singletons", "frequency"):
        m = np.asarray(heads.vq_mapping(q, k, method=method, key=jax.random.key(0)))
        n, mass = np.bincount(m, minlength=k), np.bincount(m, q, minlength=k)
        cost = interpreted(lambda z, m: -q @ log_probs_of_all(z, m))
        best = np.log(mass / n)
        got[method] = float(cost(best, m)) - entropy
        np.testing.assert_allclose(got[method], excess(q, m, k), rtol=1e-9)
        # It is a minimum of a convex function.
        gradient = interpreted(jax.grad(lambda z, m: -q @ log_probs_of_all(z, m)))
        assert np.abs(gradient(best, m)).max() < 1e-12
        # A bias for each class takes it away.
        bias = np.log(q) - best[m]
        free = interpreted(lambda z, m, b: -q @ log_probs_of_all(z, m, b))(
            best, m, bias
        )
        np.testing.assert_allclose(free, entropy, rtol=1e-12)
    assert got["random"] > 1.5
    assert 0.1 < got["singletons"] < 1
    assert got["frequency"] < 0.003
    assert got["random"] > got["frequency"] + 0.3


def log_probs_of_all(z, mapping, bias=None):
    z = jnp.broadcast_to(z, (len(mapping), len(z)))
    return log_probs(z, jnp.arange(len(mapping)), mapping, bias)


@pytest.mark.parametrize("method", ["random", "singletons", "frequency"])
@pytest.mark.parametrize("k", [1, 2, 7, V])
def test_mappings(method, k):
    counts = np.array([9, 0, 100, 9, 9, 3, 3, 0, 50, 1, 2, 9, 4])
    m = np.asarray(heads.vq_mapping(counts, k, method=method, key=jax.random.key(0)))
    assert m.dtype == np.int32
    assert (np.bincount(m, minlength=k) > 0).all()
    if method == "random":
        sizes = np.bincount(m)
        assert sizes.max() - sizes.min() <= 1
    else:
        order = np.argsort(-counts, kind="stable")
        assert (np.diff(m[order]) >= 0).all()  # codes are runs of ranks
    if method == "singletons":
        assert (np.bincount(m)[:-1] == 1).all()


def test_frequency_bands_are_as_narrow_as_can_be():
    counts = 2.0 ** np.array([9, 9, 8.5, 5, 4.5, 4.4, 1, 0])
    m = heads.vq_mapping(counts, 3, method="frequency")
    assert m.tolist() == [0, 0, 0, 1, 1, 1, 2, 2]
    m = heads.vq_mapping(np.array([4, 4, 0, 0, 0]), 2, method="frequency")
    assert m.tolist() == [0, 0, 1, 1, 1]


def test_kmeans():
    rng = np.random.default_rng(0)
    centres, own = 10 * rng.normal(size=(6, 3)), rng.integers(0, 6, 200)
    rows = (centres[own] + 0.1 * rng.normal(size=(200, 3))).astype("f4")
    m = calls.vq_mapping(rows, 6, method="kmeans", key=jax.random.key(1))
    pairs = set(zip(own.tolist(), m.tolist(), strict=True))
    assert len(pairs) == 6  # the clusters, by other names
    codebook = calls.vq_centroids(rows, m, 6)
    for k in range(6):
        np.testing.assert_allclose(codebook[k], rows[m == k].mean(0), rtol=1e-5)
    np.testing.assert_array_equal(calls.vq_assign(rows, codebook)[0], m)
    same = calls.vq_mapping(
        np.ones((5, 2), "f4"), 3, method="kmeans", key=jax.random.key(0)
    )
    assert (same == same[0]).all()


def test_learned_map():
    rng = np.random.default_rng(0)
    e, c = rng.normal(size=(V, D)).astype("f4"), rng.normal(size=(K, D)).astype("f4")
    m, quantized = calls.vq_assign(e, c)
    distance = np.square(e[:, None] - c[None]).sum(-1)
    np.testing.assert_array_equal(m, distance.argmin(-1))
    np.testing.assert_array_equal(quantized, c[m])
    ct = rng.normal(size=(V, D)).astype("f4")
    taken = lambda e, c: (heads.vq_assign(e, c)[1] * ct).sum()  # noqa: E731
    grads = interpreted(jax.grad(taken, (0, 1)))(e, c)
    np.testing.assert_array_equal(grads[0], ct)
    assert not grads[1].any()

    losses = calls.vq_codebook_loss(e, c, m)
    np.testing.assert_allclose(losses, 1.25 * distance.min(-1), rtol=1e-5)
    total = lambda e, c: heads.vq_codebook_loss(e, c, m, commitment=0.5).sum()  # noqa: E731
    d_e, d_c = interpreted(jax.grad(total, (0, 1)))(e, c)
    np.testing.assert_allclose(d_e, e - c[m], rtol=1e-5)
    want = np.zeros((K, D))
    np.add.at(want, np.asarray(m), 2 * (c[m] - e))
    np.testing.assert_allclose(d_c, want, rtol=1e-4, atol=1e-5)


def test_loss_costs_no_vocabulary():
    n, vocab, k = 256, 20_000, 64
    mapping = jnp.zeros(vocab, int)
    step = jax.jit(jax.grad(lambda *a: heads.vq_loss(*a).sum(), (0, 1)))
    arguments = jnp.zeros((n, D)), jnp.zeros((k, D)), jnp.zeros(n, int), mapping
    program = step.lower(*arguments).compile()
    assert program.memory_analysis().temp_size_in_bytes < 4 * n * vocab / 20


def test_batch_shapes_vmap_and_16_bit():
    rng = np.random.default_rng(0)
    h, c = rng.normal(size=(12, D)).astype("f4"), rng.normal(size=(K, D)).astype("f4")
    y, run = rng.integers(0, V, 12), interpreted(heads.vq_loss)
    flat = run(h, c, y, MAPPING)
    for shape in [(), (3, 4), (0,)]:
        size = int(np.prod(shape))
        got = run(h[:size].reshape(*shape, D), c, y[:size].reshape(shape), MAPPING)
        assert got.shape == shape
        np.testing.assert_allclose(got.ravel(), flat[:size], rtol=1e-5)
    over = interpreted(jax.vmap(lambda h, y: heads.vq_loss(h, c, y, MAPPING)))
    got = over(h.reshape(3, 4, D), y.reshape(3, 4))
    np.testing.assert_allclose(got.ravel(), flat, rtol=1e-5)
    cut = jnp.asarray(h, jnp.bfloat16), jnp.asarray(c, jnp.bfloat16)
    bias = jnp.zeros(V, jnp.bfloat16)
    total = lambda h, c, b: heads.vq_loss(h, c, y, MAPPING, token_bias=b).sum()  # noqa: E731
    grads = interpreted(jax.grad(total, (0, 1, 2)))(*cut, bias)
    assert {g.dtype for g in grads} == {jnp.dtype("bfloat16")}
    assert run(*cut, y, MAPPING).dtype == np.float32


def test_bad_labels():
    h, c = jnp.ones((3, D)), jnp.ones((K, D))
    for bad in (-1, V):
        y = np.array([0, bad, 9])
        if bad > 0:
            with pytest.raises(ValueError, match=rf"outside \[0, {V}\): \[{bad}\]"):
                heads.vq_loss(h, c, y, MAPPING)
        got = interpreted(heads.vq_loss)(h, c, y, MAPPING)
        assert np.isnan(got).tolist() == [False, True, False]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            dict(codebook=np.ones((K, 3), "f4")),
            ValueError,
            r"codebook has shape \(5, 3",
        ),
        (dict(codebook=np.ones((K, D), int)), TypeError, "codebook has dtype int"),
        (dict(hidden=np.ones((3, D), int)), TypeError, "hidden has dtype int"),
        (
            dict(labels=np.ones(2, int)),
            ValueError,
            r"labels has shape \(2,\), expected",
        ),
        (dict(mapping=np.ones((2, 2), int)), ValueError, r"mapping has shape \(2, 2\)"),
        (dict(mapping=np.ones(V, "f4")), TypeError, "mapping has dtype float32"),
        (dict(mapping=np.full(V, K)), ValueError, r"mapping outside \[0, 5\): \[5 5"),
        (dict(token_bias=np.ones(3, "f4")), ValueError, r"token_bias has shape \(3,\)"),
    ],
)
def test_errors(change, error, message):
    given = dict(
        hidden=np.ones((3, D), "f4"),
        codebook=np.ones((K, D), "f4"),
        labels=np.zeros(3, int),
        mapping=MAPPING,
    )
    with pytest.raises(error, match=message):
        heads.vq_loss(**{**given, **change})


def test_errors_of_the_others():
    counts, rows = np.arange(4), np.ones((4, 2), "f4")
    for args, how, message in [
        ((counts, 2), dict(method="best"), "method is 'best', expected one of"),
        (
            (counts, 5),
            dict(method="frequency"),
            "k is 5, expected a number from 1 to 4",
        ),
        ((counts, 0), dict(method="frequency"), "k is 0"),
        ((counts, 2), dict(method="random"), "key is None, expected a jax.random.key"),
        (
            (counts, 2),
            dict(method="kmeans"),
            r"array has shape \(4,\), expected \(V, D",
        ),
        ((rows, 2), dict(method="frequency"), r"array has shape \(4, 2\), expected"),
        ((-counts, 2), dict(method="frequency"), "array has negative numbers"),
    ]:
        with pytest.raises(ValueError, match=message):
            heads.vq_mapping(*args, **how)
    with pytest.raises(ValueError, match=r"log_cluster_mass has shape \(2,\), expecte"):
        heads.vq_label_log_probs(
            jnp.zeros(K), jnp.array(0), MAPPING, log_cluster_mass=jnp.zeros(2)
        )
    with pytest.raises(ValueError, match=r"mapping has shape \(13,\), expected \(4,\)"):
        heads.vq_codebook_loss(rows, rows, MAPPING)
