import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import cases
from harness.heads import D, N, V, assert_close, draw
from harness.interpreter import interpreted

from logitlab import heads, links, losses, numerics
from logitlab.losses.catalogue import CATALOGUE

CHUNKS = {
    "default": {},
    "even": dict(token_chunk=5, vocab_chunk=7),
    "ragged": dict(token_chunk=4, vocab_chunk=3),
    "single": dict(token_chunk=1, vocab_chunk=1),
}


@pytest.mark.parametrize("chunks", CHUNKS)
@pytest.mark.parametrize("transposed", [False, True])
def test_equals_the_dense_loss(x64, chunks, transposed):
    (h, kernel, bias, y), cut = draw(dtype="f8"), CHUNKS[chunks]
    ct, w = np.random.default_rng(1).uniform(0.5, 1, (2, N))
    turn = (lambda a: a.T) if transposed else (lambda a: a)
    fused = functools.partial(
        heads.linear_loss, losses.cross_entropy, transposed=transposed, **cut
    )

    def dense(h, kernel, bias):
        return losses.cross_entropy(h @ turn(kernel) + bias[None], y)

    @interpreted
    def each(h, kernel, bias):
        ours = lambda *a: (fused(*a[:2], y, bias=a[2]) * ct).sum()  # noqa: E731
        theirs = lambda *a: (dense(*a) * ct).sum()  # noqa: E731
        return [
            jax.value_and_grad(f, (0, 1, 2))(h, kernel, bias) for f in (ours, theirs)
        ]

    @interpreted
    def mean(h, kernel, bias, w):
        ours = lambda *a: 3 * fused(*a[:2], y, bias=a[2], weights=a[3])  # noqa: E731
        theirs = lambda *a: 3 * (dense(*a[:3]) * a[3]).sum() / a[3].sum()  # noqa: E731
        arguments = h, kernel, bias, w
        return [jax.value_and_grad(f, (0, 1, 2, 3))(*arguments) for f in (ours, theirs)]

    assert_close(*each(h, turn(kernel), bias), 1e-12)
    assert_close(*mean(h, turn(kernel), bias, w), 1e-12)


LOSSES = [
    name
    for name, row in CATALOGUE.items()
    if row.kind == "example" and len(row.shape) == 2 and not row.gathers
]


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_of_the_catalogue(x64, name):
    row = CATALOGUE[name]
    classes = row.shape[-1]
    args = row.make(jax.random.key(0), (11, classes), jnp.float64)
    h, kernel, bias, _ = draw(dtype="f8", n=11, v=classes)
    ahead = [np.shape(a)[:1] == (11,) for a in args[1:]]  # the others are of no token
    tokens = [a for a, mine in zip(args[1:], ahead, strict=True) if mine]

    def loss(logits, *some):
        some = iter(some)
        rest = [next(some) if m else a for a, m in zip(args[1:], ahead, strict=True)]
        out = row.loss(logits, *rest, **row.hyper)
        return out[0] if isinstance(out, tuple) else out

    @interpreted
    def both(h, kernel, bias):
        def ours(h, kernel, bias):
            return heads.linear_loss(
                loss, h, kernel, *tokens, bias=bias, token_chunk=4, vocab_chunk=2
            )

        def theirs(h, kernel, bias):
            return loss(h @ kernel + bias[None], *tokens)

        def with_gradient(f):
            grads = jax.grad(lambda *a: f(*a).sum(), (0, 1, 2))(h, kernel, bias)
            return f(h, kernel, bias), grads

        return [with_gradient(f) for f in (ours, theirs)]

    assert_close(*both(h, kernel, bias), 1e-11)


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("fused_linear_ce"))
def test_golden_cross_entropy(x64, case):
    given = {k: np.asarray(v) for k, v in case["inputs"].items()}
    p, want = case["params"], case["outputs"]
    y, kept = given["labels"], given["labels"] != p["ignore_index"]
    class_weight = given.get("class_weight")
    cap = p["softcap"]

    def loss(z, y):
        eps, log_p = p["label_smoothing"], numerics.log_softmax(z)
        per_class = 1.0 if class_weight is None else class_weight[None]
        own = 1.0 if class_weight is None else jnp.asarray(class_weight)[y]
        smooth = -(per_class * log_p).mean(-1)
        label = own * losses.cross_entropy(z, y)
        return (1 - eps) * label + eps * smooth

    def total(hidden, weight, bias):
        fused = functools.partial(
            heads.linear_loss,
            bias=bias,
            transposed=True,
            token_chunk=2,
            vocab_chunk=4,
            transform=None if cap is None else lambda z: cap * jnp.tanh(z / cap),
        )
        z_loss = lambda z: p["z_loss"] * numerics.logsumexp(z) ** 2  # noqa: E731
        if p["reduction"] == "none":
            both = fused(lambda z, y: loss(z, y) + z_loss(z), hidden, weight, y * kept)
            out = jnp.where(kept, both, 0)
            return (out * given["cotangent"]).sum(), out
        mean = fused(loss, hidden, weight, y, weights=kept.astype("f8"))
        if class_weight is not None:
            mean *= kept.sum() / class_weight[y[kept]].sum()
        penalty = fused(z_loss, hidden, weight, weights=kept.astype("f8"))
        return mean + penalty, mean + penalty

    bias = given.get("bias", np.zeros(len(given["weight"])))
    grads, out = interpreted(jax.grad(total, (0, 1, 2), has_aux=True))(
        given["hidden"], given["weight"], bias
    )
    assert_close(out, np.asarray(want["loss"]), 1e-9)
    names = ["hidden", "weight", "bias"][: 3 if "grad_bias" in want else 2]
    for grad, name in zip(grads, names, strict=False):
        assert_close(grad, np.asarray(want[f"grad_{name}"]), 1e-9)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", cases("linear_nll_entropy"))
def test_golden_entropy(x64, case):
    given = {k: np.asarray(v) for k, v in case["inputs"].items()}
    y, t = given["labels"], case["params"]["temperature"]
    kept = y >= 0

    def total(hidden, weight):
        def fused(loss, *arrays):
            out = heads.linear_loss(
                loss,
                hidden,
                weight,
                *arrays,
                transform=lambda z: z / t,
                transposed=True,
                token_chunk=2,
            )
            return jnp.where(kept, out, 0)

        def entropy(z):
            log_p = numerics.log_softmax(z)
            return -(jnp.exp(log_p) * log_p).sum(-1)

        nll, h = fused(losses.cross_entropy, y * kept), fused(entropy)
        out = nll @ given["cotangent_nll"] + h @ given["cotangent_entropy"]
        return out, (nll, h)

    arguments = given["hidden"], given["weight"]
    take = interpreted(jax.grad(total, (0, 1), has_aux=True))
    grads, (nll, entropy) = take(*arguments)
    want = case["outputs"]
    assert_close(nll, np.asarray(want["nll"]), 1e-5)
    assert_close(entropy, np.asarray(want["entropy"]), 1e-5)
    assert_close(
        grads, [np.asarray(want["grad_hidden"]), np.asarray(want["grad_weight"])]
    )


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("fused_linear_kd"))
def test_golden_distillation(case):
    given = {k: np.asarray(v) for k, v in case["inputs"].items()}
    p, want = case["params"], case["outputs"]
    y = given["labels"]
    kept = (y >= 0).astype("f4")

    def soft(z, teacher):
        a, b = numerics.log_softmax(z / p["temperature"]), teacher / p["temperature"]
        b = numerics.log_softmax(b)
        if p["beta"] in (0, 1):
            one, other = (b, a) if p["beta"] == 0 else (a, b)
            return (jnp.exp(one) * (one - other)).sum(-1)
        beta = p["beta"]
        m = jnp.log((1 - beta) * jnp.exp(a) + beta * jnp.exp(b))
        kl = lambda q: (jnp.exp(q) * (q - m)).sum(-1)  # noqa: E731
        return beta * kl(b) + (1 - beta) * kl(a)

    def total(hidden, weight, bias):
        teacher = heads.Linear(
            *(given[f"teacher_{k}"].astype("f4") for k in ("hidden", "weight", "bias"))
        )
        soft_loss = heads.linear_loss(
            soft, hidden, weight, teacher, bias=bias, weights=kept, transposed=True,
            token_chunk=3,
        )  # fmt: skip
        hard_loss = heads.linear_loss(
            losses.cross_entropy, hidden, weight, y, bias=bias, weights=kept,
            transposed=True, token_chunk=3,
        )  # fmt: skip
        out = p["hard_weight"] * hard_loss + p["soft_weight"] * soft_loss
        return out, (out, soft_loss, hard_loss)

    arguments = [
        given[f"student_{k}"].astype("f4") for k in ("hidden", "weight", "bias")
    ]
    take = interpreted(jax.grad(total, (0, 1, 2), has_aux=True))
    grads, values = take(*arguments)
    for got, name in zip(values, ("loss", "soft_loss", "hard_loss"), strict=True):
        if name != "hard_loss" or p["hard_weight"]:
            assert_close(got, np.asarray(want[name]), 1e-5)
    names = ("hidden", "weight", "bias")
    assert_close(grads, [np.asarray(want[f"grad_student_{k}"]) for k in names])


def test_a_token_without_weight_is_not_there(x64):
    h, kernel, bias, y = draw(dtype="f8")
    w = np.where(np.arange(N) % 3, 1.5, 0.0)
    kept = w > 0

    @interpreted
    def ours(h, kernel, y):
        return jax.value_and_grad(
            lambda h, k: heads.linear_loss(
                losses.cross_entropy, h, k, y, weights=w, token_chunk=4
            ),
            (0, 1),
        )(h, kernel)

    def theirs(h, kernel):
        return losses.cross_entropy(h @ kernel, y[kept]).mean()

    value, (dh, dk) = ours(
        np.where(kept[:, None], h, np.nan), kernel, np.where(kept, y, -100)
    )
    take = interpreted(jax.value_and_grad(theirs, (0, 1)))
    want, (want_h, want_k) = take(h[kept], kernel)
    assert_close((value, dh[kept], dk), (want, want_h, want_k), 1e-12)
    assert (dh[~kept] == 0).all()
    none = heads.linear_loss(losses.cross_entropy, h, kernel, y, weights=0 * w)
    assert none == 0


def test_what_the_loss_closes_over_gets_its_gradient(x64):
    h, kernel, _, y = draw(dtype="f8")
    target = np.random.default_rng(2).dirichlet(np.ones(V), N)

    def loss_of(scale, prior):
        def loss(z, target, y):
            soft = losses.cross_entropy(scale * z + prior[None], target)
            return soft + losses.cross_entropy(z, y)

        return loss

    def ours(scale, prior, target):
        fused = functools.partial(
            heads.linear_loss, loss_of(scale, prior), h, kernel, target, y
        )
        return fused(token_chunk=4).sum() + fused(token_chunk=3, weights=np.ones(N))

    def theirs(scale, prior, target):
        return loss_of(scale, prior)(h @ kernel, target, y).sum() * (1 + 1 / N)

    arguments = 1.3, np.linspace(-1, 1, V), target
    got, want = (
        interpreted(jax.grad(f, (0, 1, 2)))(*arguments) for f in (ours, theirs)
    )
    assert_close(got, want, 1e-12)


def test_a_teacher_gets_gradients_unless_they_are_stopped(x64):
    (h, kernel, *_), (h2, kernel2, bias2, _) = draw(dtype="f8"), draw(1, "f8", d=3)

    def kl(z, teacher):
        p, q = numerics.log_softmax(teacher), numerics.log_softmax(z)
        return (jnp.exp(p) * (p - q)).sum(-1)

    def ours(h, kernel, *teacher):
        t = heads.Linear(*teacher)
        return heads.linear_loss(kl, h, kernel, t, weights=np.ones(N), token_chunk=4)

    def theirs(h, kernel, h2, kernel2, bias2):
        return kl(h @ kernel, h2 @ kernel2 + bias2[None]).mean()

    arguments = h, kernel, h2, kernel2, bias2
    got, want = (
        interpreted(jax.value_and_grad(f, range(5)))(*arguments) for f in (ours, theirs)
    )
    assert_close(got, want, 1e-11)

    def flops(function):
        compiled = jax.jit(jax.grad(function)).lower(kernel).compile()
        return compiled.cost_analysis()["flops"]

    stopped = jax.lax.stop_gradient
    frozen = flops(lambda k: ours(h, k, h2, kernel2, bias2))
    held = flops(lambda k: ours(h, k, h2, stopped(kernel2 * k[0, 0]), bias2))
    moved = flops(lambda k: ours(h, k, h2, kernel2 * k[0, 0], bias2))
    assert frozen <= held + 2 * kernel2.size < moved


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_sixteen_bits(dtype):
    h, kernel, bias, y = draw(n=64, d=32, v=50)
    h, kernel, bias = (jnp.asarray(a, dtype) for a in (h, kernel, bias))

    @jax.jit
    def fused(h, kernel, bias):
        return heads.linear_loss(
            losses.cross_entropy, h, kernel, y, bias=bias, weights=np.ones(64, "f4"),
            token_chunk=8,
        )  # fmt: skip

    def dense(h, kernel, bias):
        return losses.cross_entropy(h @ kernel + bias[None], y).mean()

    value, grads = jax.value_and_grad(fused, (0, 1, 2))(h, kernel, bias)
    wide = [a.astype("f4") for a in (h, kernel, bias)]
    want, exact = interpreted(jax.value_and_grad(dense, (0, 1, 2)))(*wide)
    assert value.dtype == np.float32
    assert_close(value, want, 1e-5)  # products are exact, sums are wide
    assert [g.dtype for g in grads] == [dtype] * 3
    assert_close(grads, exact, 2e-2 if dtype == "bfloat16" else 2e-3)


def test_leading_axes_vmap_and_scan():
    h, kernel, bias, y = draw(n=12)

    @interpreted
    def run(h, kernel, y):
        dense, three = losses.cross_entropy, (h.reshape(3, 4, D), y.reshape(3, 4))
        fused = functools.partial(heads.linear_loss, dense, token_chunk=5)
        nothing, weights = (h[:0], kernel, y[:0]), np.zeros(0, "f4")
        want, kernels = dense(h @ kernel, y), jnp.stack([kernel, 2 * kernel])
        slopes = jax.vmap(jax.grad(lambda k: fused(h, k, y).sum()))(kernels)
        each = [jax.grad(lambda k: dense(h @ k, y).sum())(k) for k in kernels]
        return [
            (fused(three[0], kernel, three[1]), want.reshape(3, 4)),
            (fused(h[0], kernel, y[0]), want[0]),
            (heads.linear_loss(dense, *nothing, weights=weights), jnp.zeros(())),
            (jax.vmap(fused, (0, None, 0))(three[0], kernel, three[1]),
             want.reshape(3, 4)),
            (slopes, jnp.stack(each)),
        ], fused(*nothing)  # fmt: skip

    pairs, nothing = run(h, kernel, y)
    assert nothing.shape == (0,)
    for got, want in pairs:
        assert_close(got, want)


@pytest.mark.sampled
@pytest.mark.parametrize("weighted", [False, True])
def test_what_else_comes_of_the_same_pass(weighted):
    h, kernel, bias, y = draw()
    fused = functools.partial(
        heads.linear_loss, losses.cross_entropy, bias=bias, token_chunk=4,
        weights=np.ones(N, "f4") if weighted else None,
    )  # fmt: skip

    @interpreted
    def both(h, kernel):
        def with_stats(h):
            out, stats = fused(h, kernel, y, aux=heads.label_stats)
            return out.mean() + 0 * stats.entropy.sum(), stats

        (value, stats), slope = jax.value_and_grad(with_stats, has_aux=True)(h)
        plain = jax.value_and_grad(lambda h: fused(h, kernel, y).mean())(h)
        return (value, slope), plain, stats

    got, want, stats = both(h, kernel)
    assert_close(got, want)
    z = h @ kernel + bias
    assert_close(stats, heads.label_stats(z, y))
    right = fused(h, kernel, y, aux=lambda z, y: z.argmax(-1) == y)[1]
    np.testing.assert_array_equal(right, z.argmax(-1) == y)


@pytest.mark.parametrize("weighted", [False, True])
def test_second_derivatives(x64, weighted):
    h, kernel, _, y = draw(dtype="f8", n=3)
    w = np.ones(3) if weighted else None

    def ours(h):
        return jnp.square(
            heads.linear_loss(
                losses.cross_entropy, h, kernel, y, weights=w, token_chunk=2
            )
        ).sum()

    def theirs(h):
        out = losses.cross_entropy(h @ kernel, y)
        return jnp.square(out.mean() if weighted else out).sum()

    @interpreted
    def both(h):
        return [jax.jacrev(jax.grad(f))(h) for f in (ours, theirs)]

    assert_close(*both(h), 1e-11)


def test_links_are_transforms():
    h, kernel, _, y = draw()
    got = heads.linear_loss(
        losses.cross_entropy, h, kernel, y, transform=links.stablemax, token_chunk=3
    )
    assert_close(got, losses.cross_entropy(links.stablemax(h @ kernel), y))


def test_memory():
    n, d, v = 2048, 64, 16384
    h, kernel = jnp.zeros((n, d)), jnp.zeros((d, v))
    y, w = jnp.zeros(n, jnp.int32), jnp.ones(n)

    def temporaries(function):
        lowered = jax.jit(jax.value_and_grad(function, (0, 1))).lower(h, kernel)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    cut = dict(token_chunk=64, vocab_chunk=2048)
    fused = functools.partial(heads.linear_loss, losses.cross_entropy, **cut)
    mean = temporaries(lambda h, k: fused(h, k, y, weights=w))
    each = temporaries(lambda h, k: fused(h, k, y).mean())
    # a twelfth of the logits, and no second array of the kernel's size
    assert max(mean, each) <= 4 * n * v / 12, (mean, each)


SHORT = heads.Linear(np.zeros((3, 2)), np.zeros((2, V)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(kernel=np.zeros((5, V))), r"kernel has shape \(5, 7\), expected \(4, V"),
        (dict(transposed=True), r"kernel has shape \(4, 7\), expected \(V, 4\)"),
        (dict(bias=np.zeros(3)), r"bias has shape \(3,\), expected \(7,\)"),
        (dict(weights=np.ones(3, "f4")), r"weights has shape \(3,\), expected \(10,\)"),
        (dict(token_chunk=0), "token_chunk is 0, expected at least 1"),
        (dict(vocab_chunk=0), "vocab_chunk is 0, expected at least 1"),
        (dict(labels=np.full(N, V)), r"labels outside \[0, 7\)"),
        (dict(labels=np.zeros(3, int)), r"arrays\[0\] has shape \(3,\), expec"),
        (dict(loss=lambda z, y: z.sum()), "expected one number for each"),
        (dict(loss=lambda z, y: z), "expected one number for each"),
        (dict(axis_name="modle"), r"axis_name 'modle' is not an axis of the mesh"),
        (dict(aux=lambda z, y: z.sum()), "aux returned .* expected a row for each"),
        (dict(labels=SHORT), r"arrays\[0\].hidden has shape \(3, 2\)"),
    ],
)
def test_errors(change, message):
    h, kernel, _, y = draw()
    given = dict(loss=losses.cross_entropy, hidden=h, kernel=kernel) | change
    y = given.pop("labels", y)
    arguments = [given.pop(k) for k in ("loss", "hidden", "kernel")]
    with pytest.raises(ValueError, match=message):
        heads.linear_loss(*arguments, y, **given)


def test_more_errors():
    h, kernel, _, y = draw()
    with pytest.raises(TypeError, match="hidden has dtype int"):
        heads.linear_loss(losses.cross_entropy, h.astype(int), kernel, y)
    late = jax.jit(lambda y: heads.linear_loss(losses.cross_entropy, h, kernel, y))
    assert np.isnan(late(np.full(N, V))).all()
