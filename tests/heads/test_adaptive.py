import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import cases
from harness.interpreter import interpreted
from harness.quickly import quick_jit

from logitlab import heads

CASES = cases("adaptive_softmax")
CUTOFFS, D, V = (3, 7), 8, 19


# What is compared is arithmetic, not how fast it is: compile quickly.


def close(got, want, rtol=1e-9):
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
        assert a.shape == b.shape
        assert np.abs(a - b).max() <= rtol * max(np.abs(b).max(), 1e-30), (a, b)


def draw(n=40, dtype="f8", seed=0):
    rng = np.random.default_rng(seed)
    init = lambda key: heads.adaptive_softmax_init(key, D, V, cutoffs=CUTOFFS)  # noqa: E731
    head, tails = interpreted(init)(jax.random.key(seed))
    turn = lambda a: np.asarray(3 * a, dtype)  # noqa: E731
    hidden = rng.normal(size=(n, D)).astype(dtype)
    bias = rng.normal(size=5).astype(dtype)
    return hidden, turn(head), jax.tree.map(turn, tails), bias, rng.integers(0, V, n)


def oracle(hidden, head, tails, bias):
    """All log-probabilities in float64."""
    log_softmax = lambda z: z - np.logaddexp.reduce(z, -1, keepdims=True)  # noqa: E731
    head = log_softmax(hidden @ head + bias)
    first = head.shape[-1] - len(tails)
    parts = [head[:, :first]]
    for i, (down, up) in enumerate(tails):
        parts.append(head[:, first + i, None] + log_softmax(hidden @ down @ up))
    return np.concatenate(parts, -1)


def logits(hidden, head, tails, bias):
    return hidden @ head + bias[None], [hidden @ down @ up for down, up in tails]


@pytest.mark.sampled
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("in_buffers", [False, True])
def test_golden(x64, case, in_buffers):
    given = {name: np.asarray(value) for name, value in case["inputs"].items()}
    p = case["params"]
    is_array = lambda x: isinstance(x, list)  # noqa: E731
    want = jax.tree.map(np.asarray, case["outputs"], is_leaf=is_array)
    clusters = len(p["cutoffs"])
    tails = [
        (given[f"tail_{i}_0_weight"].T, given[f"tail_{i}_1_weight"].T)
        for i in range(clusters)
    ]
    bias = given.get("head_bias", np.zeros(p["cutoffs"][0] + clusters))
    arguments = given["hidden"], given["head_weight"].T, tails, bias
    capacity = (1,) * clusters if in_buffers else None

    def total(hidden, head, tails, bias):
        losses = heads.adaptive_softmax(
            hidden,
            head,
            tails,
            given["labels"],
            cutoffs=p["cutoffs"],
            bias=bias,
            capacity=capacity,
        )
        return losses @ given["cotangent"], losses

    @interpreted
    def run(*arguments):
        z = logits(*arguments)
        return (
            jax.grad(total, (0, 1, 2, 3), has_aux=True)(*arguments),
            heads.adaptive_full_log_probs(*z, cutoffs=p["cutoffs"]),
            heads.adaptive_predict(*arguments[:3], cutoffs=p["cutoffs"], bias=bias),
        )

    (grads, losses), log_p, best = run(*arguments)
    close(losses, want["loss"])
    close(log_p, want["log_prob"])
    np.testing.assert_array_equal(best, want["predict"])
    theirs = want["grads"]
    close(grads[0], theirs["hidden"])
    close(grads[1].T, theirs["head_weight"])
    for i, (down, up) in enumerate(grads[2]):
        close(down.T, theirs[f"tail_{i}_0_weight"])
        close(up.T, theirs[f"tail_{i}_1_weight"])
    if "head_bias" in theirs:
        close(grads[3], theirs["head_bias"])


CAPACITIES = {"fits": (40, 40), "some": (8, 3), "ragged": (7, 9), "single": (1, 1)}


@pytest.mark.sampled
@pytest.mark.parametrize("name", CAPACITIES)
def test_buffers_change_nothing(x64, name):
    *arguments, y = draw()
    ct = np.random.default_rng(1).normal(size=len(y))

    @interpreted
    def run(arguments, y):
        def total(capacity, hidden, head, tails, bias):
            losses = heads.adaptive_softmax(
                hidden, head, tails, y, cutoffs=CUTOFFS, bias=bias, capacity=capacity
            )
            return losses @ ct, losses

        return [
            jax.grad(functools.partial(total, capacity), (0, 1, 2, 3), has_aux=True)(
                *arguments
            )
            for capacity in (CAPACITIES[name], None)
        ]

    for labels in (y, y % 4 + 3, y % 3):  # all, those of a cluster, those of none
        got, want = run(arguments, labels)
        close(got, want, 1e-12)
        rows = np.arange(len(y))
        close(got[1], -oracle(*arguments)[rows, labels], 1e-12)
    assert not any(np.any(g) for g in jax.tree.leaves(got[0][2]))


def test_buffers_are_all_that_exists():
    hidden, head, tails, bias, y = (jnp.zeros((1024, D)), *draw(1024, "f4")[1:])
    tails[1] = (tails[1][0], jnp.zeros((tails[1][0].shape[1], 4096)))

    def memory(capacity):
        def total(hidden, tails):
            return heads.adaptive_softmax(
                hidden, head, tails, y, cutoffs=CUTOFFS, bias=bias, capacity=capacity
            ).sum()

        step = jax.jit(jax.value_and_grad(total, (0, 1))).lower(hidden, tails).compile()
        return step.memory_analysis().temp_size_in_bytes

    everything = 4 * 1024 * 4096  # bytes of tokens x classes
    assert memory((64, 64)) < everything / 4
    assert memory(None) > everything


@pytest.mark.parametrize("capacity", [None, (2, 2)])
def test_batch_shapes_and_vmap(capacity):
    hidden, head, tails, bias, y = draw(24, "f4")
    loss = functools.partial(heads.adaptive_softmax, bias=bias, cutoffs=CUTOFFS)
    loss = interpreted(loss, static_argnames="capacity")
    flat = loss(hidden, head, tails, y)
    for shape in [(), (24,), (2, 12), (0,)]:
        h = hidden[: int(np.prod(shape))].reshape(*shape, D)
        some = y[: int(np.prod(shape))].reshape(shape)
        got = loss(h, head, tails, some, capacity=capacity)
        assert got.shape == shape
        np.testing.assert_allclose(got.ravel(), flat[: got.size], rtol=1e-5)
    over = interpreted(
        jax.vmap(
            lambda h, y: heads.adaptive_softmax(
                h, head, tails, y, cutoffs=CUTOFFS, bias=bias, capacity=capacity
            )
        )
    )
    got = over(hidden.reshape(2, 12, D), y.reshape(2, 12))
    np.testing.assert_allclose(got.ravel(), flat, rtol=1e-5)


@pytest.mark.parametrize("chunk", [None, 1, 5, 100])
def test_predict(x64, chunk):
    hidden, head, tails, bias, _ = draw()
    predict = functools.partial(heads.adaptive_predict, cutoffs=CUTOFFS)
    got = interpreted(functools.partial(predict, token_chunk=chunk))(
        hidden.reshape(5, 8, D), head, tails, bias=bias
    )
    want = oracle(hidden, head, tails, bias).argmax(-1)
    np.testing.assert_array_equal(got.ravel(), want)
    assert len(np.unique(want)) > 4


def test_probabilities_add_up():
    rng = np.random.default_rng(0)

    @interpreted
    def run(head, *tails):
        one = lambda v: heads.adaptive_log_prob(  # noqa: E731
            head, tails, jnp.full(6, v), cutoffs=CUTOFFS
        )
        full = heads.adaptive_full_log_probs(head, tails, cutoffs=CUTOFFS)
        return full, jax.vmap(one)(jnp.arange(V)).T

    for scale in (1, 30, 1e4):
        log_p, each = run(
            *(scale * rng.normal(size=(6, n)).astype("f4") for n in (5, 4, 12))
        )
        np.testing.assert_allclose(np.exp(log_p, dtype="f8").sum(-1), 1, rtol=1e-5)
        np.testing.assert_allclose(each, log_p, rtol=1e-5)


@pytest.mark.parametrize("margin", [12.0, 40.0, 80.0])
def test_exact_at_large_margins(margin):
    def nll(head, tail):
        return -heads.adaptive_log_prob(head, [tail], 4, cutoffs=(2,))

    head, tail = np.float32([0, -3, margin]), np.float32([0, 1, margin])
    value, grads = quick_jit(jax.value_and_grad(nll, (0, 1)))(head, tail)
    p = [np.exp(z[:2].astype("f8") - margin) for z in (head, tail)]
    np.testing.assert_allclose(value, sum(np.log1p(a.sum()) for a in p), rtol=1e-5)
    for grad, a in zip(grads, p, strict=True):
        want = np.append(a, -a.sum()) / (1 + a.sum())
        np.testing.assert_allclose(grad, want, rtol=1e-5)


def test_extremes():
    @quick_jit
    def extreme(head, tail):
        nll = lambda *z: -heads.adaptive_log_prob(z[0], z[1:], 3, cutoffs=(2,))  # noqa: E731
        return jax.value_and_grad(nll, (0, 1))(head, tail)

    for value in (1e4, 3e38):
        for sign in ([1, -1, 1], [-1, 1, -1], [1, 1, 1]):
            z = np.float32(sign) * np.float32(value)
            out, grads = extreme(z, z)
            assert not np.isnan(out)
            assert np.isfinite(np.concatenate(grads)).all()
            assert np.isfinite(out) or value == 3e38


def test_what_a_row_does_not_use_is_not_looked_at():
    def nll(head, *tails):
        return -heads.adaptive_log_prob(head, tails, 4, cutoffs=CUTOFFS)

    arguments = jnp.zeros(5), jnp.zeros(4), jnp.full(12, jnp.nan)
    value, grads = interpreted(jax.value_and_grad(nll, (0, 1, 2)))(*arguments)
    np.testing.assert_allclose(value, np.log(20), rtol=1e-6)
    assert np.isfinite(np.concatenate(grads)).all()
    assert not grads[2].any()


def test_16_bit():
    hidden, head, tails, bias, y = draw(dtype="f4")
    cut = lambda a: jnp.asarray(a, jnp.bfloat16)  # noqa: E731
    hidden, head, tails = jax.tree.map(cut, (hidden, head, tails))

    def total(*arguments, capacity=None):
        losses = heads.adaptive_softmax(
            *arguments, y, cutoffs=CUTOFFS, bias=bias, capacity=capacity
        )
        return losses.sum(), losses

    @interpreted
    def run(*arguments):
        buffers = total(*arguments, capacity=(9, 9))[1]
        return *jax.grad(total, (0, 1, 2), has_aux=True)(*arguments), buffers

    grads, losses, buffers = run(hidden, head, tails)
    assert losses.dtype == np.float32
    assert {g.dtype for g in jax.tree.leaves(grads)} == {jnp.dtype("bfloat16")}
    np.testing.assert_allclose(buffers, losses, rtol=1e-5)


@pytest.mark.parametrize("capacity", [None, (2, 2)])
def test_bad_labels(capacity):
    hidden, head, tails, _, _ = draw(3, "f4")
    loss = functools.partial(heads.adaptive_softmax, cutoffs=CUTOFFS, capacity=capacity)
    for bad in (-1, V):
        y = np.array([0, bad, 9])
        if bad > 0:
            with pytest.raises(ValueError, match=rf"outside \[0, {V}\): \[{bad}\]"):
                loss(hidden, head, tails, y)
        got = jax.jit(loss)(hidden, head, tails, y)
        assert np.isnan(got).tolist() == [False, True, False]


def test_capacity_and_init():
    assert heads.adaptive_capacity((0.5, 0.1, 0.0), 100) == (60, 12, 1)
    assert heads.adaptive_capacity((1.0,), 100) == (100,)
    assert heads.adaptive_capacity((0.5,), 100, slack=1) == (50,)
    head, tails = heads.adaptive_softmax_init(
        jax.random.key(0), 64, 1000, cutoffs=(100, 400), div=2.0
    )
    assert head.shape == (64, 102)
    shapes = [(a.shape, b.shape) for a, b in tails]
    assert shapes == [((64, 32), (32, 300)), ((64, 16), (16, 600))]
    for kernel in (head, *tails[0], *tails[1]):
        np.testing.assert_allclose(kernel.std() * kernel.shape[0] ** 0.5, 1, rtol=0.1)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (dict(cutoffs=()), ValueError, "cutoffs is"),
        (dict(cutoffs=(7, 3)), ValueError, r"cutoffs is \(7, 3\), expected numbers"),
        (dict(cutoffs=(0, 4)), ValueError, r"rise from 1 on"),
        (dict(cutoffs=(3,)), ValueError, "tails has 2 clusters, expected 1"),
        (dict(cutoffs=(3, 8)), ValueError, r"tails has \[4, 12\] classes, expected"),
        (dict(head=np.ones((8, 4))), ValueError, r"head has shape \(8, 4\), expected"),
        (dict(head=np.ones((8, 5), int)), TypeError, "head has dtype int32, expected"),
        (dict(hidden=np.ones((4, 7))), ValueError, r"tails\[0\]\[0\] has shape \(8, "),
        (dict(bias=np.ones(4)), ValueError, r"bias has shape \(4,\), expected \(5,\)"),
        (dict(labels=np.ones(3, int)), ValueError, r"labels has shape \(3,\), expec"),
        (dict(labels=np.ones(4)), TypeError, "labels has dtype float"),
        (dict(capacity=(1,)), ValueError, r"capacity is \(1,\), expected 2 numbers"),
        (dict(capacity=(0, 1)), ValueError, r"capacity is \(0, 1\)"),
    ],
)
def test_errors(change, error, message):
    hidden, head, tails, bias, y = draw(4, "f4")
    given = dict(hidden=hidden, head=head, tails=tails, labels=y, cutoffs=CUTOFFS)
    with pytest.raises(error, match=message):
        heads.adaptive_softmax(**{**given, "bias": bias, **change})


def test_errors_of_the_others():
    z = jnp.zeros((2, 5)), [jnp.zeros((2, 4)), jnp.zeros((2, 12))]
    full = functools.partial(heads.adaptive_full_log_probs, cutoffs=CUTOFFS)
    with pytest.raises(ValueError, match=r"head_logits has shape \(2, 4\), expected"):
        full(z[0][:, :4], z[1])
    with pytest.raises(ValueError, match=r"tail_logits\[0\] has shape \(4,\), expec"):
        full(z[0], [jnp.zeros(4), z[1][1]])
    with pytest.raises(TypeError, match=r"tail_logits\[1\] has dtype int32"):
        full(z[0], [z[1][0], z[1][1].astype(int)])
    hidden, head, tails, _, _ = draw(4, "f4")
    with pytest.raises(ValueError, match="token_chunk is 0"):
        heads.adaptive_predict(hidden, head, tails, cutoffs=CUTOFFS, token_chunk=0)
    with pytest.raises(ValueError, match=r"masses is \(2,\), expected shares"):
        heads.adaptive_capacity((2,), 10)
    with pytest.raises(ValueError, match="tails has"):
        heads.adaptive_softmax_init(jax.random.key(0), 8, 7, cutoffs=(3, 7))
