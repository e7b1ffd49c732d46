import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness import goldens
from harness.goldens import cases
from harness.interpreter import interpreted

from logitlab import heads

CASES = cases("sampled_softmax")
# What is compared is arithmetic, not how fast it is: compile quickly.
loss = jax.jit(heads.sampled_softmax_loss)
close = functools.partial(goldens.close, rtol=1e-9)


def log_softmax(z):
    return z - np.logaddexp.reduce(z, -1, keepdims=True)


@pytest.mark.parametrize("case", CASES)
def test_golden(x64, case):
    given = {name: np.asarray(value) for name, value in case["inputs"].items()}
    y, ids = given["labels"], given["sampled"]
    remove = case["params"]["remove_accidental_hits"]

    def total(weights, biases, hidden):
        z = hidden @ weights.T + biases[None]
        losses = heads.sampled_softmax_loss(
            jnp.take_along_axis(z, y, -1),
            z[:, ids],
            true_log_q=np.log(given["true_expected_count"]),
            sampled_log_q=np.log(given["sampled_expected_count"]),
            hit_mask=heads.accidental_hits(y, ids) if remove else None,
        )
        return losses @ given["cotangent"], losses

    gradient = interpreted(jax.grad(total, (0, 1, 2), has_aux=True))
    grads, losses = gradient(given["weights"], given["biases"], given["hidden"])
    want = case["outputs"]
    close(losses, want["loss"])
    for grad, name in zip(grads, ("weights", "biases", "hidden"), strict=True):
        close(grad, want[f"grad_{name}"])


@pytest.mark.parametrize("num_true", [1, 3])
def test_against_float64(num_true):
    rng = np.random.default_rng(0)
    true, some = rng.normal(size=(2, 5, num_true)), rng.normal(size=(2, 5, 7))
    true_q, some_q = rng.uniform(0.1, 2, (2, 5, num_true)), rng.uniform(0.1, 2, 7)
    hits = rng.uniform(size=(2, 5, 7)) < 0.3
    z = np.concatenate(
        [true - np.log(true_q), np.where(hits, -np.inf, some - np.log(some_q))], -1
    )
    got = loss(
        *(a.astype("f4") for a in (true, some)),
        true_log_q=np.log(true_q).astype("f4"),
        sampled_log_q=np.log(some_q).astype("f4"),
        hit_mask=hits,
    )
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, -log_softmax(z)[..., :num_true].mean(-1), rtol=1e-5)


def test_all_other_classes_are_the_full_softmax(x64):
    z = np.random.default_rng(0).normal(size=(9, 9))

    def sampled(z):
        true = jnp.diagonal(z)[:, None]
        others = np.array([[c for c in range(9) if c != i] for i in range(9)])
        some = jnp.take_along_axis(z, others, -1)
        return heads.sampled_softmax_loss(
            true, some, true_log_q=jnp.zeros(1), sampled_log_q=jnp.zeros(8)
        )

    full = lambda z: -jnp.diagonal(jax.nn.log_softmax(z))  # noqa: E731
    np.testing.assert_allclose(interpreted(sampled)(z), full(z), rtol=1e-14)
    grads = (
        interpreted(jax.grad(lambda z, f=f: f(z).sum()))(z) for f in (sampled, full)
    )
    np.testing.assert_allclose(*grads, rtol=1e-12, atol=1e-15)


def test_a_sample_of_everything_is_the_full_softmax(x64):
    # Without replacement, uniform, S = V: Q = 1, and the own class is a hit.
    rng = np.random.default_rng(0)
    h, kernel, bias = rng.normal(size=(6, 4)), rng.normal(size=(4, 9)), np.arange(9.0)
    y = np.array([0, 3, 3, 8, 1, 5])

    def sampled(h, kernel, bias):
        return heads.sampled_softmax(
            jax.random.key(0),
            h,
            kernel,
            y,
            num_sampled=9,
            sampler="uniform",
            bias=bias,
        ).sum()

    def full(h, kernel, bias):
        z = jax.nn.log_softmax(h @ kernel + bias[None])
        return -jnp.take_along_axis(z, y[:, None], -1).sum()

    got, want = (
        interpreted(jax.value_and_grad(f, (0, 1, 2)))(h, kernel, bias)
        for f in (sampled, full)
    )
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        close(a, b, rtol=1e-12)


def test_hits_are_hidden_everywhere():
    y, ids = np.array([[3, 5], [0, 9]]), np.array([5, 3, 3, 7, 9])
    hits = heads.accidental_hits(y, ids)
    assert hits.tolist() == [[1, 1, 1, 0, 0], [0, 0, 0, 0, 1]]
    assert heads.accidental_hits(y[0], ids).tolist() == hits[0].tolist()
    assert heads.accidental_hits(y[None], ids).shape == (1, 2, 5)
    q = dict(true_log_q=np.zeros(1, "f4"), sampled_log_q=np.zeros(3, "f4"))
    hits = heads.accidental_hits(np.array([[4]]), np.array([4, 1, 4]))
    got = loss(np.zeros((1, 1), "f4"), np.zeros((1, 3), "f4"), **q, hit_mask=hits)
    np.testing.assert_allclose(got, [np.log(2)], rtol=1e-6)  # 1 class left, not 2


def test_everything_hidden():
    q = dict(true_log_q=np.zeros(1, "f4"), sampled_log_q=np.zeros(3, "f4"))
    hits = np.ones(3, bool)
    for some in (np.zeros(3, "f4"), np.full(3, np.nan, "f4"), np.full(3, 3e38, "f4")):
        for true in (0.0, 1e4, -3e38):
            f = lambda t, s: loss(t, s, **q, hit_mask=hits)  # noqa: E731
            value, grads = jax.value_and_grad(f, (0, 1))(np.float32([true]), some)
            assert value == 0
            assert not np.any(np.concatenate(grads))
    two = loss(np.float32([3, 1]), np.zeros(3, "f4"), **q, hit_mask=hits)
    np.testing.assert_allclose(two, -log_softmax(np.array([3.0, 1])).mean(), rtol=1e-6)


@pytest.mark.parametrize("margin", [12.0, 40.0, 80.0])
def test_exact_at_large_margins(margin):
    q = dict(true_log_q=np.float32([-1]), sampled_log_q=np.float32([-1, -1]))
    f = lambda t, s: loss(t, s, **q)  # noqa: E731
    value, grads = jax.value_and_grad(f, (0, 1))(
        np.float32([margin]), np.zeros(2, "f4")
    )
    p = 2 * np.exp(-margin)
    np.testing.assert_allclose(value, np.log1p(p), rtol=1e-5)
    np.testing.assert_allclose(grads[0], [-p / (1 + p)], rtol=1e-5)
    np.testing.assert_allclose(grads[1], [p / 2 / (1 + p)] * 2, rtol=1e-5)


def test_never_drawn():
    # log Q = -inf counts as log(1e-20), for both kinds of column.
    q = dict(true_log_q=np.float32([-np.inf]), sampled_log_q=np.float32([-np.inf] * 2))
    value = loss(np.zeros(1, "f4"), np.zeros(2, "f4"), **q)
    np.testing.assert_allclose(value, np.log(3), rtol=1e-6)
    q["sampled_log_q"] = np.zeros(2, "f4")
    value = loss(np.zeros(1, "f4"), np.zeros(2, "f4"), **q)
    np.testing.assert_allclose(value, 2e-20, rtol=1e-5)


def test_extremes():
    q = dict(true_log_q=np.zeros(1, "f4"), sampled_log_q=np.zeros(2, "f4"))
    f = lambda t, s: loss(t, s, **q)  # noqa: E731
    for value in (1e4, 3e38):
        for sign in (-1, 1):
            z = np.float32([value * sign]), np.float32([value, -value])
            out, grads = jax.value_and_grad(f, (0, 1))(*z)
            assert not np.isnan(out)
            assert np.isfinite(out) or value == 3e38
            assert np.isfinite(np.concatenate(grads)).all()


def test_the_correction_subtracts(x64):
    """With replacement, many draws: exp-sums of the sample are those of all classes."""
    vocab, num, rng = 20, 200_000, np.random.default_rng(0)
    z = rng.normal(size=vocab)
    sample = heads.log_uniform_sample(jax.random.key(0), num, vocab, unique=False)
    tries = sample.num_tries
    for y in (0, 7, 19):
        log_q = heads.log_uniform_log_q(np.array([y]), vocab, tries, unique=False)
        true = z[y] + np.asarray(log_q)  # undoes the label's: only the sample is left
        got = loss(true, z[sample.ids], true_log_q=log_q, sampled_log_q=sample.log_q)
        want = np.log(1 + np.exp(z - z[y]).sum())
        np.testing.assert_allclose(got, want, rtol=1e-2)
    # At equal scores the logit of what is drawn often is lowered.
    ends = [
        loss(
            np.zeros(1),
            np.zeros(num),
            true_log_q=heads.log_uniform_log_q(np.array([y]), vocab, 50, unique=False),
            sampled_log_q=sample.log_q,
        )
        for y in (0, 19)
    ]
    assert ends[0] > ends[1]


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("sampler", "unique", "num_true"),
    [
        ("log_uniform", True, None),
        ("log_uniform", False, 2),
        ("uniform", True, 2),
        ("uniform", False, None),
    ],
)
def test_sampled_softmax(x64, sampler, unique, num_true):
    """Against the loss on columns of all logits, for the same sample."""
    rng, key = np.random.default_rng(0), jax.random.key(3)
    h, kernel, bias = rng.normal(size=(5, 4)), rng.normal(size=(4, 9)), np.arange(9.0)
    y = rng.integers(0, 9, 5 if num_true is None else (5, num_true))
    how = dict(num_sampled=6, sampler=sampler, unique=unique)
    sample = getattr(heads, f"{sampler}_sample")(key, 6, 9, unique=unique)

    def theirs(h, kernel, bias):
        z = h @ kernel + bias[None]
        label = y.reshape(5, -1)
        true_log_q = np.full(label.shape, np.log(6 / 9))
        if sampler == "log_uniform":
            true_log_q = heads.log_uniform_log_q(
                label, 9, sample.num_tries, unique=unique
            )
        return heads.sampled_softmax_loss(
            jnp.take_along_axis(z, label, -1),
            z[:, sample.ids],
            true_log_q=true_log_q,
            sampled_log_q=sample.log_q,
            hit_mask=heads.accidental_hits(label, sample.ids),
        ).sum()

    def ours(h, kernel, bias, transposed=False):
        kernel = kernel.T if transposed else kernel
        return heads.sampled_softmax(
            key, h, kernel, y, bias=bias, transposed=transposed, **how
        ).sum()

    turned = functools.partial(ours, transposed=True)
    fs = theirs, ours, turned
    run = interpreted(lambda *a: [jax.value_and_grad(f, (0, 1, 2))(*a) for f in fs])
    want, *got = run(h, kernel, bias)
    for some in got:
        for a, b in zip(jax.tree.leaves(some), jax.tree.leaves(want), strict=True):
            close(a, b, rtol=1e-6)


def test_only_some_columns_are_gathered():
    vocab, n = 100_000, 64
    f = lambda h, kernel, y: heads.sampled_softmax(  # noqa: E731
        jax.random.key(0), h, kernel, y, num_sampled=32, unique=False
    )
    arguments = jnp.zeros((n, 16)), jnp.zeros((16, vocab)), jnp.zeros(n, int)
    program = jax.jit(f).lower(*arguments).compile()
    assert program.memory_analysis().temp_size_in_bytes < 4 * n * vocab / 50


def test_batch_shapes_vmap_and_16_bit():
    rng = np.random.default_rng(0)
    h, kernel = rng.normal(size=(12, 4)).astype("f4"), rng.normal(size=(4, 9))
    kernel, y = kernel.astype("f4"), rng.integers(0, 9, 12)
    plain = functools.partial(heads.sampled_softmax, num_sampled=5, unique=False)
    run = interpreted(plain)
    key = jax.random.key(0)
    flat = run(key, h, kernel, y)
    for shape in [(), (3, 4), (0,)]:
        size = int(np.prod(shape))
        got = run(key, h[:size].reshape(*shape, 4), kernel, y[:size].reshape(shape))
        assert got.shape == shape
        np.testing.assert_allclose(got.ravel(), flat[:size], rtol=1e-5)
    over = interpreted(jax.vmap(lambda h, y: plain(key, h, kernel, y)))
    got = over(h.reshape(3, 4, 4), y.reshape(3, 4))
    np.testing.assert_allclose(got.ravel(), flat, rtol=1e-5)
    cut = jnp.asarray(h, jnp.bfloat16), jnp.asarray(kernel, jnp.bfloat16)
    grads = interpreted(jax.grad(lambda *a: plain(key, *a, y).sum(), (0, 1)))(*cut)
    assert {g.dtype for g in grads} == {jnp.dtype("bfloat16")}
    assert run(key, *cut, y).dtype == np.float32
    for bad in (-1, 9):
        labels = np.array([[0, 1], [bad, 1]])
        if bad > 0:
            with pytest.raises(ValueError, match=r"labels outside \[0, 9\): \[9\]"):
                heads.sampled_softmax(key, h[:2], kernel, labels, num_sampled=5)
        assert np.isnan(run(key, h[:2], kernel, labels)).tolist() == [False, True]


def test_in_batch_softmax(x64):
    rng = np.random.default_rng(0)
    scores, p = rng.normal(size=(6, 6)), rng.uniform(0.01, 1, 6)
    want = -np.diag(log_softmax(scores - np.log(p)))
    np.testing.assert_allclose(
        heads.in_batch_softmax_loss(scores, np.log(p)), want, rtol=1e-12
    )
    ids = np.array([0, 1, 0, 3, 4, 5])
    where = (ids[:, None] != ids[None]) | np.eye(6, dtype=bool)
    got = heads.in_batch_softmax_loss(scores, np.log(p), where=where)
    hidden = np.where(where, scores - np.log(p), -np.inf)
    np.testing.assert_allclose(got, -np.diag(log_softmax(hidden)), rtol=1e-12)
    assert got[0] < want[0]


@pytest.mark.slow
def test_zipf_is_learned_with_the_correction_only():
    """One logit vector, labels of Zipf's law: KL(truth || model), top probability."""
    vocab, num, batch, steps = 2000, 64, 256, 6000
    truth = 1 / np.arange(1, vocab + 1)
    truth = jnp.asarray(truth / truth.sum(), jnp.float32)
    edges = jnp.cumsum(truth)
    optimizer = optax.adam(optax.cosine_decay_schedule(0.05, steps))

    def objective(z, labels, key, correct):
        sample = heads.log_uniform_sample(key, num, vocab, unique=False)
        log_q = heads.log_uniform_log_q(labels, vocab, num, unique=False)
        return heads.sampled_softmax_loss(
            z[labels][:, None],
            jnp.broadcast_to(z[sample.ids], (batch, num)),
            true_log_q=correct * log_q[:, None],
            sampled_log_q=correct * sample.log_q,
            hit_mask=heads.accidental_hits(labels[:, None], sample.ids),
        ).mean()

    @jax.jit
    def run(key, correct):
        def step(carry, key):
            z, state = carry
            one, two = jax.random.split(key)
            labels = jnp.searchsorted(edges, jax.random.uniform(one, (batch,)))
            labels = jnp.minimum(labels, vocab - 1)
            grads = jax.grad(objective)(z, labels, two, correct)
            updates, state = optimizer.update(grads, state, z)
            return (optax.apply_updates(z, updates), state), None

        start = jnp.zeros(vocab), optimizer.init(jnp.zeros(vocab))
        (z, _), _ = jax.lax.scan(step, start, jax.random.split(key, steps))
        log_p = jax.nn.log_softmax(z)
        return (truth * (jnp.log(truth) - log_p)).sum(), jnp.exp(log_p[0])

    kl, top = run(jax.random.key(0), 1.0)
    assert kl < 0.012  # .009 in an earlier prototype of ours
    np.testing.assert_allclose(top, truth[0], rtol=0.2)  # .139, there .134
    kl, top = run(jax.random.key(0), 0.0)
    np.testing.assert_allclose(kl, 1.91, rtol=0.05)
    assert top < 0.0012  # .0008


Z1, Z2 = np.zeros((4, 1), "f4"), np.zeros((4, 2), "f4")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            dict(true_logits=np.zeros((4, 0))),
            ValueError,
            r"true_logits has shape \(4, ",
        ),
        (dict(sampled_logits=np.zeros((3, 2))), ValueError, r"expected \(4, 'S'\)"),
        (
            dict(true_logits=np.zeros((4, 1), int)),
            TypeError,
            "true_logits has dtype int",
        ),
        (
            dict(true_log_q=np.zeros(3)),
            ValueError,
            r"true_log_q has shape \(3,\), expe",
        ),
        (dict(sampled_log_q=np.zeros(3)), ValueError, "sampled_log_q has shape"),
        (dict(hit_mask=np.zeros(2)), TypeError, "hit_mask has dtype float32, expected"),
        (dict(hit_mask=np.zeros(3, bool)), ValueError, r"hit_mask has shape \(3,\)"),
    ],
)
def test_errors(change, error, message):
    given = dict(true_logits=Z1, sampled_logits=Z2, true_log_q=Z1, sampled_log_q=Z2[0])
    change = {k: v if v.dtype == int else jnp.asarray(v) for k, v in change.items()}
    with pytest.raises(error, match=message):
        heads.sampled_softmax_loss(**{**given, **change})


def test_errors_of_the_others():
    key, h, kernel = jax.random.key(0), jnp.zeros((3, 4)), jnp.zeros((4, 9))
    y = np.arange(3)
    run = functools.partial(heads.sampled_softmax, key)
    for args, how, message in [
        ((h, kernel, y), dict(num_sampled=10), r"num is 10, expected .* 9, the vocab"),
        ((h, kernel, y), dict(num_sampled=0, unique=False), "num is 0, expected"),
        ((h, kernel, y), dict(num_sampled=2, sampler="zipf"), "sampler is 'zipf', exp"),
        ((h, kernel.T, y), dict(num_sampled=2), r"kernel has shape \(9, 4\), expected"),
        ((h, kernel, y[:2]), dict(num_sampled=2), r"labels has shape \(2,\), expected"),
        ((h, kernel, y), dict(num_sampled=2, bias=jnp.zeros(4)), "bias has shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            run(*args, **how)
    with pytest.raises(TypeError, match="labels has dtype float"):
        run(h, kernel, jnp.zeros(3), num_sampled=2)
    with pytest.raises(ValueError, match=r"scores has shape \(2, 3\), expected \(B, B"):
        heads.in_batch_softmax_loss(jnp.zeros((2, 3)), jnp.zeros(3))
    with pytest.raises(ValueError, match=r"sampled has shape \(1, 1\), expected"):
        heads.accidental_hits(y[:, None], np.zeros((1, 1), int))
    with pytest.raises(TypeError, match="ids has dtype float"):
        heads.log_uniform_log_q(jnp.zeros(2), 9, 2, unique=False)
