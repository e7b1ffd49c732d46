import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import cases
from harness.heads import D, N, V, assert_close, draw
from harness.interpreter import interpreted
from harness.quickly import quick_jit

from logitlab import heads, links, losses

CHUNKS = (None, 1, 3, 5, 100)  # of 7 classes: 5 is more than a half of them
TRANSFORMS = {
    "none": None,
    "cap": lambda z: 2 * jnp.tanh(z / 2),
    "stablemax": links.stablemax,
}
CLASS_WEIGHT = np.linspace(0.5, 2, V)
SLOPES = np.random.default_rng(7).normal(size=(5, N))  # of the five statistics


def weighted(stats):
    """One number in which each row of each statistic has a slope of its own."""
    return sum((s * a).sum() for s, a in zip(SLOPES, stats[:5], strict=True)), stats


def where_of(kind):
    mask = np.ones((N, V), bool)
    mask[np.arange(N), (np.arange(N) + 3) % V] = False
    return {"all": None, "classes": mask[0], "rows": mask}[kind]


@pytest.mark.sampled
@pytest.mark.parametrize(
    ("transposed", "transform", "where"),
    [
        (False, "none", "all"),
        (True, "none", "rows"),
        (False, "cap", "classes"),
        (True, "cap", "all"),
        (False, "stablemax", "rows"),
        (True, "stablemax", "classes"),
    ],
)
def test_equal_those_of_dense_logits(x64, transposed, transform, where):
    (h, kernel, bias, y), change = draw(dtype="f8"), TRANSFORMS[transform]
    mask = where_of(where)
    if where != "all":
        y = np.where(np.broadcast_to(mask, (N, V))[np.arange(N), y], y, (y + 1) % V)
    turn = (lambda a: a.T) if transposed else (lambda a: a)

    def dense(h, kernel, bias):
        z = h @ turn(kernel) + bias[None]
        z = z if change is None else change(z)
        return weighted(
            heads.label_stats(
                z,
                y,
                class_weight=CLASS_WEIGHT,
                where=mask if mask is None else np.broadcast_to(mask, z.shape),
            )
        )

    @interpreted
    def each(h, kernel, bias):
        out = []
        for chunk in CHUNKS:

            def ours(h, kernel, bias, chunk=chunk):
                return weighted(
                    heads.linear_label_stats(
                        h, kernel, y, bias=bias, where=mask, class_weight=CLASS_WEIGHT,
                        transform=change, transposed=transposed, vocab_chunk=chunk,
                    )
                )  # fmt: skip

            out.append(jax.grad(ours, (0, 1, 2), has_aux=True)(h, kernel, bias))
        return out, jax.grad(dense, (0, 1, 2), has_aux=True)(h, kernel, bias)

    got, want = each(h, turn(kernel), bias)
    for result in got:
        assert_close(result, want, 1e-12)


def reference(z, y):
    """In float64, by the formulas as they are written."""
    z = np.asarray(z, np.float64)
    top = z.max(-1, keepdims=True)
    lse = np.log(np.exp(z - top).sum(-1)) + top[:, 0]
    log_p = z - lse[:, None]
    own = np.take_along_axis(log_p, y[:, None], -1)[:, 0]
    return own, lse, -(np.exp(log_p) * log_p).sum(-1), z.sum(-1), -log_p.sum(-1)


def test_equal_the_formulas():
    h, kernel, bias, y = draw()
    z = h.astype("f8") @ kernel + bias

    @interpreted
    def fused(h, kernel, bias):
        stats = heads.linear_label_stats(h, kernel, y, bias=bias, vocab_chunk=3)
        return stats, heads.label_stats(h @ kernel + bias[None], y)

    for stats in fused(h, kernel, bias):
        assert_close(stats[:5], reference(z, y), 2e-6)
        assert (stats.classes == V).all()
        assert (stats.label_weight == 1).all()
        np.testing.assert_array_equal(stats.argmax, z.argmax(-1))


@pytest.mark.sampled
@pytest.mark.parametrize("margin", [20.0, 80.0])
@pytest.mark.parametrize("chunk", [1, 3, 100])
def test_confident_tokens_are_exact(margin, chunk):
    """Value and slope of a label that leads by a margin, wherever it stands."""
    for label in (0, 3, V - 1):
        kernel = np.zeros((1, V), "f4")
        kernel[0, label] = margin
        y = np.full(1, label)

        def nll(h, kernel=kernel, y=y):
            stats = heads.linear_label_stats(h, kernel, y, vocab_chunk=chunk)
            return -stats.log_prob[0], stats

        take = quick_jit(jax.value_and_grad(nll, has_aux=True))
        (value, stats), slope = take(np.ones((1, 1), "f4"))
        rest = (V - 1) * np.exp(-np.float64(margin))
        np.testing.assert_allclose(value, np.log1p(rest), 1e-5)
        np.testing.assert_allclose(slope, -margin * rest / (1 + rest), 1e-5)
        entropy = np.log1p(rest) + rest * margin / (1 + rest)
        np.testing.assert_allclose(stats.entropy[0], entropy, 1e-5)


@pytest.mark.optimized
def test_a_product_in_the_same_program_is_exact_too():
    # Compilers fuse a product with the difference to its own maximum.
    h, kernel, _, y = draw(n=64, d=8, v=50)
    z = np.float64(h) @ kernel / np.float32(0.7)

    @jax.jit
    def confident(h):
        stats = heads.linear_label_stats(
            h, kernel, z.argmax(-1), transform=lambda z: z * 30 / 0.7, vocab_chunk=16
        )
        return stats.log_prob

    want = reference(30 * z, z.argmax(-1))[0]
    assert np.abs(confident(h) - want).max() < 2e-4  # of logits near 400
    assert not np.isnan(want).any()


def test_extremes():
    kernel = np.float32([[1e4, -1e4, 1e4, 0]])
    y = np.array([0])
    take = functools.partial(heads.linear_label_stats, labels=y, vocab_chunk=2)
    stats = interpreted(take)(np.ones((1, 1), "f4"), kernel)
    np.testing.assert_allclose(stats.log_prob, -np.log(2), 1e-6)
    np.testing.assert_allclose(stats.entropy, np.log(2), 1e-6)
    np.testing.assert_allclose(stats.nll_sum, 4 * np.log(2) + 3e4, 1e-6)
    big = np.finfo("f4").max
    bias = np.float32([big, -big, -np.inf, 0])

    def of(bias, y, **more):
        hidden, kernel = jnp.zeros((1, 1)), jnp.zeros((1, len(bias)))

        def log_prob(bias):
            stats = heads.linear_label_stats(
                hidden, kernel, np.array([y]), bias=bias, vocab_chunk=2, **more
            )
            return stats.log_prob[0], stats

        slope, stats = jax.grad(log_prob, has_aux=True)(bias)
        return stats, slope

    @quick_jit
    def run(bias, nothing, zeros):
        alone = np.array([False, True, False])
        return (
            of(bias, 0), of(bias, 2), of(nothing, 1),
            of(zeros, 1, where=alone), of(zeros[:1], 0),
        )  # fmt: skip

    nothing = np.full(3, -np.inf, "f4")
    leads, hidden, of_nothing, alone, single = run(bias, nothing, np.zeros(3, "f4"))
    stats, slope = leads
    assert stats.log_prob == 0
    assert stats.classes == 3
    assert stats.entropy == 0
    np.testing.assert_array_equal(slope, 0)
    # A hidden label costs infinity, with the limit over the classes left as gradient.
    stats, slope = hidden
    assert stats.log_prob == -np.inf
    np.testing.assert_array_equal(slope, [-1, 0, 0, 0])
    stats, slope = of_nothing
    assert stats.log_prob == stats.entropy == stats.nll_sum == 0
    np.testing.assert_array_equal(slope, 0)
    stats, slope = alone
    assert stats.log_prob == stats.entropy == 0
    np.testing.assert_array_equal(slope, 0)
    stats, slope = single
    assert stats.log_prob == stats.entropy == slope == 0


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", cases("linear_nll_entropy"))
def test_golden(case):
    given = {k: np.asarray(v) for k, v in case["inputs"].items()}
    y, t = given["labels"], case["params"]["temperature"]
    kept = y >= 0

    def total(hidden, weight):
        stats = heads.linear_label_stats(
            hidden, weight, y * kept, transform=lambda z: z / t, transposed=True,
            vocab_chunk=2,
        )  # fmt: skip
        nll, entropy = (jnp.where(kept, a, 0) for a in (-stats.log_prob, stats.entropy))
        out = nll @ given["cotangent_nll"] + entropy @ given["cotangent_entropy"]
        return out, (nll, entropy)

    arguments = given["hidden"].astype("f4"), given["weight"].astype("f4")
    grads, values = interpreted(jax.grad(total, (0, 1), has_aux=True))(*arguments)
    want = case["outputs"]
    assert_close(values, [np.asarray(want["nll"]), np.asarray(want["entropy"])])
    assert_close(grads, [np.asarray(want[f"grad_{k}"]) for k in ("hidden", "weight")])


def test_closed_over_values_get_gradients(x64):
    h, kernel, _, y = draw(dtype="f8")

    def ours(t):
        stats = heads.linear_label_stats(
            h, kernel, y, transform=lambda z: z / t, vocab_chunk=2
        )
        return weighted(stats)[0]

    def theirs(t):
        return weighted(heads.label_stats(h @ kernel / t, y))[0]

    assert_close(*interpreted(lambda t: (jax.grad(ours)(t), jax.grad(theirs)(t)))(1.7))


def test_second_derivatives(x64):
    h, kernel, _, y = draw(dtype="f8", n=3)

    def ours(h):
        stats = heads.linear_label_stats(h, kernel, y, vocab_chunk=2)
        return weighted_squares(stats)

    def theirs(h):
        return weighted_squares(heads.label_stats(h @ kernel, y))

    def weighted_squares(stats):
        return sum((s[:3] * a**2).sum() for s, a in zip(SLOPES, stats[:5], strict=True))

    @interpreted
    def both(h):
        return [jax.jacrev(jax.grad(f))(h) for f in (ours, theirs)]

    assert_close(*both(h), 1e-11)


def test_frozen_parts_cost_nothing():
    h, kernel, _, y = draw(n=64, d=32, v=256)

    def flops(of):
        def loss(h, kernel):
            return heads.linear_label_stats(h, kernel, y, vocab_chunk=64).log_prob.sum()

        compiled = jax.jit(jax.grad(loss, of)).lower(h, kernel).compile()
        return compiled.cost_analysis()["flops"]

    product = 2 * 64 * 32 * 256
    assert flops((0, 1)) - flops(0) > 0.9 * product / 4  # counted once per loop
    assert flops((0, 1)) - flops(1) > 0.9 * product / 4


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits(dtype):
    h, kernel, bias, y = draw(n=64, d=32, v=50)
    h, kernel, bias = (jnp.asarray(a, dtype) for a in (h, kernel, bias))

    def ours(h, kernel, bias):
        stats = heads.linear_label_stats(h, kernel, y, bias=bias, vocab_chunk=16)
        return -stats.log_prob.mean()

    def dense(h, kernel, bias):
        return losses.cross_entropy(h @ kernel + bias[None], y).mean()

    value, grads = jax.jit(jax.value_and_grad(ours, (0, 1, 2)))(h, kernel, bias)
    wide = [a.astype("f4") for a in (h, kernel, bias)]
    wide = jax.tree.map(np.asarray, wide)
    want, exact = interpreted(jax.value_and_grad(dense, (0, 1, 2)))(*wide)
    assert value.dtype == np.float32
    assert_close(value, want, 1e-5)
    assert [g.dtype for g in grads] == [dtype] * 3
    assert_close(grads, exact, 2e-2 if dtype == "bfloat16" else 2e-3)


def test_leading_axes_and_vmap():
    h, kernel, _, y = draw(n=12)
    want = interpreted(heads.label_stats)(h @ kernel, y)
    plain = functools.partial(heads.linear_label_stats, vocab_chunk=3)
    take = interpreted(plain)
    shaped = lambda tree: jax.tree.map(lambda a: a.reshape(3, 4), tree)  # noqa: E731
    assert_close(take(h.reshape(3, 4, D), kernel, y.reshape(3, 4)), shaped(want))
    one = jax.tree.map(lambda a: a[0], want)
    assert_close(take(h[0], kernel, y[0]), one)
    assert take(h[:0], kernel, y[:0]).log_prob.shape == (0,)
    many = interpreted(jax.vmap(plain, (0, None, 0)))
    assert_close(many(h.reshape(3, 4, D), kernel, y.reshape(3, 4)), shaped(want))
    kernels = np.stack([kernel, 2 * kernel])
    ours = jax.vmap(jax.grad(lambda k: plain(h, k, y).entropy.sum()))
    dense = interpreted(jax.grad(lambda k: heads.label_stats(h @ k, y).entropy.sum()))
    assert_close(interpreted(ours)(kernels), np.stack([dense(k) for k in kernels]))


def test_memory():
    n, d, v = 1024, 64, 16384
    h, kernel, y = jnp.zeros((n, d)), jnp.zeros((d, v)), jnp.zeros(n, jnp.int32)

    def temporaries(function):
        lowered = jax.jit(jax.value_and_grad(function, (0, 1))).lower(h, kernel)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    take = lambda h, k: heads.linear_label_stats(h, k, y, vocab_chunk=256)  # noqa: E731
    nll = temporaries(lambda h, k: -take(h, k).log_prob.mean())

    def with_entropy(h, k):
        stats = take(h, k)
        return (stats.entropy - stats.log_prob).mean()

    both = temporaries(with_entropy)
    assert max(nll, both) <= 4 * n * v / 12, (nll, both)  # of the logits


MASK = np.ones(V, bool)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(kernel=np.zeros((5, V))), r"kernel has shape \(5, 7\), expected \(4, V"),
        (dict(bias=np.zeros(3)), r"bias has shape \(3,\), expected \(7,\)"),
        (dict(vocab_chunk=0), "vocab_chunk is 0, expected at least 1"),
        (dict(labels=np.full(N, V)), r"labels outside \[0, 7\)"),
        (dict(labels=np.zeros(3, int)), r"labels has shape \(3,\), expected \(10,\)"),
        (dict(where=MASK[:3]), r"where has shape \(3,\), expected \(7,\) or \(10, 7\)"),
        (dict(class_weight=np.ones(3)), r"class_weight has shape \(3,\), expected"),
        (dict(axis_name="modle"), r"axis_name 'modle' is not an axis of the mesh"),
        (dict(transform=links.sparsemax), "transform is not elementwise"),
        (dict(transform=lambda z: z.sum()), "expected one logit for each"),
    ],
)
def test_errors(change, message):
    h, kernel, _, y = draw()
    given = dict(hidden=h, kernel=kernel, labels=y) | change
    with pytest.raises(ValueError, match=message):
        heads.linear_label_stats(**given)


def test_more_errors():
    h, kernel, _, y = draw()
    with pytest.raises(TypeError, match="hidden has dtype int"):
        heads.linear_label_stats(h.astype(int), kernel, y)
    with pytest.raises(TypeError, match="where has dtype float"):
        heads.linear_label_stats(h, kernel, y, where=np.ones(V))
    with pytest.raises(TypeError, match="labels has dtype float"):
        heads.linear_label_stats(h, kernel, y * 1.0)
    late = jax.jit(lambda y: heads.linear_label_stats(h, kernel, y).log_prob)
    assert np.isnan(late(np.full(N, V))).all()
    with pytest.raises(ValueError, match="class_weight gets no gradient"):
        jax.grad(
            lambda c: heads.linear_label_stats(
                h, kernel, y, class_weight=c
            ).logit_sum.sum()
        )(np.ones(V, "f4"))
    with pytest.raises(TypeError, match="forward-mode"):
        jax.jvp(lambda h: heads.linear_label_stats(h, kernel, y).log_prob, (h,), (h,))
