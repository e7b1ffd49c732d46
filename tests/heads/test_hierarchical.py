import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted
from harness.quickly import quick_jit

from logitlab import heads

# What is compared is arithmetic, not how fast it is: compile quickly.
CLUSTERS = np.array([2, 0, 2, 2, 3, 0, 3, 2, 2, 3, 0])  # 1 is empty, 2 has most
D, K, M, V = 4, 4, 5, 11
LAYOUT = heads.two_level_layout(CLUSTERS)


def draw(n=40, dtype="f8", seed=0):
    rng = np.random.default_rng(seed)
    make = lambda *shape: rng.normal(size=shape).astype(dtype)  # noqa: E731
    kernels = make(D, K), make(K, D, M), make(K), make(K, M)
    return make(n, D), *kernels, rng.integers(0, V, n)


def two_level(hidden, u, w, b, c, y, layout=LAYOUT):
    return heads.two_level_softmax(
        hidden, u, w, y, layout=layout, class_bias=b, member_bias=c
    )


def log_softmax(z):
    return z - np.logaddexp.reduce(z, -1, keepdims=True)


def dense(hidden, u, w, b, c):
    """All log-probabilities, class by class, in float64."""
    out = np.empty((len(hidden), V))
    some = np.unique(CLUSTERS)
    of_cluster = np.full((len(hidden), K), -np.inf)
    of_cluster[:, some] = log_softmax((hidden @ u + b)[:, some])
    for k in some:
        members = np.flatnonzero(k == CLUSTERS)
        z = (hidden @ w[k] + c[k])[:, : len(members)]
        out[:, members] = of_cluster[:, k, None] + log_softmax(z)
    return out


@pytest.mark.parametrize("labels", ["all", "one", "one cluster"])
def test_two_level(x64, labels):
    *kernels, y = draw()
    y = {"all": y, "one": 0 * y, "one cluster": np.where(y % 2, 4, 6)}[labels]
    want = -dense(*kernels)[np.arange(len(y)), y]
    np.testing.assert_allclose(interpreted(two_level)(*kernels, y), want, rtol=1e-12)


def test_two_level_gradient(x64):
    *kernels, y = draw()
    ct = np.random.default_rng(1).normal(size=len(y))

    def dense_loss(hidden, u, w, b, c):
        own = jax.nn.one_hot(LAYOUT.cluster[y], K)
        there = (LAYOUT.sizes > 0)[None]
        classes = jax.nn.log_softmax(jnp.where(there, hidden @ u + b[None], -jnp.inf))
        z = jnp.einsum("nd,kdm->nkm", hidden, w) + c[None]
        inside = jnp.arange(M)[None] < jnp.maximum(LAYOUT.sizes, 1)[:, None]
        members = jax.nn.log_softmax(jnp.where(inside[None], z, -jnp.inf))
        label = jax.nn.one_hot(LAYOUT.member[y], M)[:, None]
        both = jnp.where(label > 0, members, 0).sum(-1) + classes
        return -jnp.where(own > 0, both, 0).sum(-1) @ ct

    got = interpreted(jax.grad(lambda *a: two_level(*a, y) @ ct, range(5)))(*kernels)
    want = interpreted(jax.grad(dense_loss, range(5)))(*kernels)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-10, atol=1e-12)
    assert not np.any(got[2][1])  # nobody is in the empty cluster


def test_two_level_layout():
    rng = np.random.default_rng(0)
    clusters = rng.integers(0, 7, 50)
    layout = heads.two_level_layout(clusters, num_clusters=9)
    np.testing.assert_array_equal(layout.sizes, np.bincount(clusters, minlength=9))
    for k in range(9):
        members = np.asarray(layout.member)[clusters == k]
        np.testing.assert_array_equal(members, np.arange(len(members)))


@pytest.mark.parametrize("scale", [1.0, 30.0, 1e4])
def test_two_level_probabilities_add_up(scale):
    *kernels, _ = draw(3, "f4")
    kernels = [scale * a for a in kernels]
    hidden = np.repeat(kernels[0], V, 0) / scale
    losses = interpreted(two_level)(hidden, *kernels[1:], np.tile(np.arange(V), 3))
    assert np.isfinite(losses).all()
    total = np.exp(-losses, dtype="f8").reshape(3, V).sum(-1)
    np.testing.assert_allclose(total, 1, rtol=1e-5)


def test_two_level_does_less():
    n, classes, width = 512, 4096, 16
    layout = heads.two_level_layout(np.arange(classes) // 64)
    arguments = (
        jnp.zeros((n, width)),
        jnp.zeros((width, 64)),
        jnp.zeros((64, width, 64)),
    )
    loss = jax.jit(lambda *a: heads.two_level_softmax(*a, layout=layout))
    program = loss.lower(*arguments, jnp.zeros(n, int)).compile()
    assert program.memory_analysis().temp_size_in_bytes < 4 * n * classes / 5
    assert program.cost_analysis()["flops"] < 2 * n * width * classes / 5


def entropy_and_length(counts, tree):
    q = np.asarray(counts, np.float64) / np.sum(counts)
    h2 = -(q[q > 0] * np.log2(q[q > 0])).sum()
    return h2, q @ np.asarray(tree.where).sum(1)


@pytest.mark.parametrize("law", ["zipf", "uniform", "geometric", "random", "zeros"])
@pytest.mark.parametrize("classes", [2, 3, 17, 200])
def test_huffman(law, classes):
    rank = np.arange(1, classes + 1)
    counts = {
        "zipf": 1 / rank,
        "uniform": np.ones(classes),
        "geometric": 0.5 ** np.minimum(rank, 60),
        "random": np.random.default_rng(0).integers(1, 99, classes),
        "zeros": (rank == 1) * 1.0,
    }[law]
    tree = heads.build_huffman(counts)
    h2, length = entropy_and_length(counts, tree)
    assert h2 - 1e-9 <= length <= h2 + 1
    nodes, signs, where = map(np.asarray, tree)
    lengths = where.sum(1)
    assert nodes.shape[1] == lengths.max()
    assert (0.5**lengths).sum() == 1  # Kraft
    assert (nodes[:, 0] == 0).all()  # the root
    assert (where == (np.arange(nodes.shape[1]) < lengths[:, None])).all()
    assert (np.abs(signs) == where).all()
    # Every inner node is there, and is always met after the same decisions.
    before = {}
    for v in range(classes):
        for j in range(lengths[v]):
            way = tuple(nodes[v, :j]), tuple(signs[v, :j])
            assert before.setdefault(nodes[v, j], way) == way
    assert sorted(before) == list(range(classes - 1))


def test_huffman_is_optimal():
    # From Huffman's own rule on 5 counts: lengths 1, 3, 3, 3, 3.
    tree = heads.build_huffman([15, 7, 6, 6, 5])
    assert np.asarray(tree.where).sum(1).tolist() == [1, 3, 3, 3, 3]


@pytest.mark.parametrize("transposed", [False, True])
def test_hierarchical_softmax(x64, transposed):
    rng = np.random.default_rng(0)
    tree = heads.build_huffman(1 / np.arange(1, V + 1))
    hidden, kernel, bias = (
        rng.normal(size=(3, D)),
        rng.normal(size=(D, V - 1)),
        rng.normal(size=V - 1),
    )
    ct = rng.normal(size=(3, V))
    labels = np.tile(np.arange(V), (3, 1))
    turn = (lambda a: a.T) if transposed else (lambda a: a)

    def ours(hidden, kernel, bias):
        h = jnp.broadcast_to(hidden[:, None], (3, V, D))
        losses = heads.hierarchical_softmax(
            h, turn(kernel), labels, tree, bias=bias, transposed=transposed
        )
        return (losses * ct).sum(), losses

    def theirs(hidden, kernel, bias):
        p = jax.nn.sigmoid(hidden @ kernel + bias[None])
        rows = []
        for v in range(V):
            way = [
                p[:, j] if s > 0 else 1 - p[:, j]
                for j, s, there in zip(*(np.asarray(a)[v] for a in tree), strict=True)
                if there
            ]
            rows.append(-sum(jnp.log(a) for a in way))
        losses = jnp.stack(rows, 1)
        return (losses * ct).sum(), losses

    run = lambda f: interpreted(jax.grad(f, (0, 1, 2), has_aux=True))  # noqa: E731
    (grads, losses), (want_grads, want) = (
        run(f)(hidden, kernel, bias) for f in (ours, theirs)
    )
    np.testing.assert_allclose(losses, want, rtol=1e-11)
    np.testing.assert_allclose(np.exp(-losses).sum(-1), 1, rtol=1e-12)
    for a, b in zip(grads, want_grads, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_one_class():
    tree, layout = heads.build_huffman([7]), heads.two_level_layout([0])
    hidden, y = jnp.full((2, D), 1e38), jnp.zeros(2, int)

    @interpreted
    def walk(h):
        loss = lambda h: heads.hierarchical_softmax(h, jnp.zeros((D, 0)), y, tree)  # noqa: E731
        return loss(h), jax.grad(lambda h: loss(h).sum())(h)

    losses, grad = walk(hidden)
    assert losses.tolist() == [0, 0]
    assert not grad.any()
    kernels = jnp.ones((D, 1)), jnp.ones((1, D, 1))
    loss = interpreted(functools.partial(heads.two_level_softmax, layout=layout))
    assert loss(hidden / 1e38, *kernels, y).tolist() == [0, 0]


@pytest.mark.sampled(2)
@pytest.mark.parametrize("margin", [12.0, 40.0, 80.0])
def test_exact_at_large_margins(margin):
    f = quick_jit(jax.value_and_grad(heads.hierarchical_log_prob))
    value, grad = f(np.float32([margin, -margin]), np.array([1, -1], "i1"))
    p = np.exp(-margin)
    np.testing.assert_allclose(value, -2 * np.log1p(p), rtol=1e-5)
    np.testing.assert_allclose(grad, [p / (1 + p), -p / (1 + p)], rtol=1e-5)
    # Two levels: the hidden unit is the margin.
    layout = heads.two_level_layout([0, 0, 1])
    arguments = np.ones((1, 1), "f4"), np.float32([[margin, 0]])
    w = np.float32([[[margin, 0]], [[0, 0]]])

    def nll(h, u, w):
        return heads.two_level_softmax(h, u, w, jnp.array([0]), layout=layout)[0]

    value, grads = quick_jit(jax.value_and_grad(nll, (1, 2)))(*arguments, w)
    np.testing.assert_allclose(value, 2 * np.log1p(p), rtol=1e-5)
    np.testing.assert_allclose(grads[0][0], [-p / (1 + p), p / (1 + p)], rtol=1e-5)
    np.testing.assert_allclose(grads[1][0, 0], [-p / (1 + p), p / (1 + p)], rtol=1e-5)


def test_extremes_and_masks():
    f = quick_jit(jax.value_and_grad(heads.hierarchical_log_prob))
    for value in (1e4, 3e38):
        out, grad = f(np.float32([value, -value]), np.array([1, 1]))
        np.testing.assert_allclose(out, -value, rtol=1e-6)
        np.testing.assert_array_equal(grad, [0, 1])
    where = np.array([True, False])
    out, grad = f(np.float32([0, np.nan]), np.array([1, 1]), where)
    np.testing.assert_allclose(out, -np.log(2), rtol=1e-6)
    np.testing.assert_array_equal(grad, [0.5, 0])


def test_batch_shapes_vmap_and_16_bit():
    *kernels, y = draw(12, "f4")
    run = interpreted(two_level)
    flat = run(*kernels, y)
    tree = heads.build_huffman(np.ones(V))
    nodes = np.random.default_rng(0).normal(size=(D, V - 1)).astype("f4")
    walk = interpreted(lambda h, y: heads.hierarchical_softmax(h, nodes, y, tree))
    flat_walk = walk(kernels[0], y)
    for shape in [(), (3, 4), (0,)]:
        size = int(np.prod(shape))
        h, some = kernels[0][:size].reshape(*shape, D), y[:size].reshape(shape)
        for got, want in [
            (run(h, *kernels[1:], some), flat),
            (walk(h, some), flat_walk),
        ]:
            assert got.shape == shape
            np.testing.assert_allclose(got.ravel(), want[:size], rtol=1e-5)
    h, some = kernels[0].reshape(3, 4, D), y.reshape(3, 4)
    over = interpreted(jax.vmap(lambda h, y: two_level(h, *kernels[1:], y)))
    np.testing.assert_allclose(over(h, some).ravel(), flat, rtol=1e-5)
    cut = [jnp.asarray(a, jnp.bfloat16) for a in kernels]
    gradient = interpreted(jax.grad(lambda *a: two_level(*a, y).sum(), range(5)))
    assert {g.dtype for g in gradient(*cut)} == {jnp.dtype("bfloat16")}
    assert run(*cut, y).dtype == walk(cut[0], y).dtype == np.float32


def test_bad_labels():
    *kernels, _ = draw(3, "f4")
    tree = heads.build_huffman(np.ones(V))
    walk = lambda h, y: heads.hierarchical_softmax(h, jnp.zeros((D, V - 1)), y, tree)  # noqa: E731
    for bad in (-1, V):
        y = np.array([0, bad, 9])
        for loss, args in ((two_level, kernels), (walk, kernels[:1])):
            if bad > 0:
                message = rf"outside \[0, {V}\): \[{bad}\]"
                with pytest.raises(ValueError, match=message):
                    loss(*args, y)
            got = interpreted(loss)(*args, y)
            assert np.isnan(got).tolist() == [False, True, False]


def test_errors():
    h, u, w, b, c, y = draw(3, "f4")
    for change, message in [
        (dict(class_kernel=u.T[:2]), r"class_kernel has shape \(2, 4\), expected"),
        (dict(member_kernel=w[0]), r"member_kernel has shape \(4, 5\), expected"),
        (dict(member_kernel=w[..., :4]), r"expected M at least 5, the largest size"),
        (dict(class_bias=b[:2]), r"class_bias has shape \(2,\), expected \(4,\)"),
        (dict(member_bias=c[0]), r"member_bias has shape \(5,\), expected \(4, 5\)"),
        (dict(labels=y[:2]), r"labels has shape \(2,\), expected \(3,\)"),
    ]:
        given = dict(hidden=h, class_kernel=u, member_kernel=w, labels=y)
        with pytest.raises(ValueError, match=message):
            heads.two_level_softmax(**{**given, **change}, layout=LAYOUT)
    with pytest.raises(TypeError, match="hidden has dtype int32"):
        heads.two_level_softmax(h.astype("i4"), u, w, y, layout=LAYOUT)
    for clusters, message in [
        (np.zeros((2, 2), int), r"clusters has shape \(2, 2\), expected \(V,\)"),
        (np.array([0, -1]), r"clusters outside \[0, 1\)"),
    ]:
        with pytest.raises(ValueError, match=message):
            heads.two_level_layout(clusters)
    with pytest.raises(TypeError, match="clusters has dtype float"):
        heads.two_level_layout(np.zeros(3, "f4"))
    for counts, message in [
        (np.zeros((2, 2)), r"counts has shape \(2, 2\), expected \(V,\)"),
        ([1, -1], "counts has negative"),
        ([1, np.nan], "counts has negative numbers, inf or NaN"),
    ]:
        with pytest.raises(ValueError, match=message):
            heads.build_huffman(counts)
    z = jnp.zeros(3)
    with pytest.raises(ValueError, match=r"signs has shape \(2,\), expected \(3,\)"):
        heads.hierarchical_log_prob(z, jnp.ones(2))
    with pytest.raises(TypeError, match="where has dtype float32, expected bool"):
        heads.hierarchical_log_prob(z, z, z)
    with pytest.raises(ValueError, match=r"where has shape \(2,\), expected \(3,\)"):
        heads.hierarchical_log_prob(z, z, jnp.ones(2, bool))
    tree = heads.build_huffman(np.ones(V))
    with pytest.raises(ValueError, match=r"kernel has shape \(4, 11\), expected \(4, "):
        heads.hierarchical_softmax(h, jnp.ones((D, V)), y, tree)
    with pytest.raises(ValueError, match=r"bias has shape \(11,\), expected \(10,\)"):
        heads.hierarchical_softmax(h, jnp.ones((D, V - 1)), y, tree, bias=jnp.ones(V))
