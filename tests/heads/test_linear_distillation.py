import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import cases
from harness.heads import N, V, assert_close, draw
from harness.interpreter import functions, interpreted
from harness.quickly import quick_jit

from logitlab import heads, numerics

DIVERGENCES = (
    "forward_kl",
    "reverse_kl",
    "js_divergence",
    "total_variation_divergence",
)
BETA, T = 0.3, 1.7


def dense(kind, student, teacher, beta=BETA):
    a, b = numerics.log_softmax(student), numerics.log_softmax(teacher)
    kl = lambda one, other: (jnp.exp(one) * (one - other)).sum(-1)  # noqa: E731
    if kind == "js_divergence":
        m = jnp.logaddexp(a + np.log(1 - beta), b + np.log(beta))
        return beta * kl(b, m) + (1 - beta) * kl(a, m)
    if kind == "total_variation_divergence":
        return jnp.abs(jnp.exp(a) - jnp.exp(b)).sum(-1) / 2
    return kl(b, a) if kind == "forward_kl" else kl(a, b)


@pytest.mark.sampled
@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize("kind", DIVERGENCES)
def test_equals_the_dense_divergence(x64, kind, transposed):
    (h, kernel, bias, _), other = draw(dtype="f8"), draw(1, "f8", d=3)[:3]
    slopes = np.random.default_rng(2).normal(size=N)
    where = np.arange(V) != 3
    turn = (lambda a: a.T) if transposed else (lambda a: a)

    @interpreted
    def both(h, kernel, bias, h2, kernel2, bias2, t):
        def ours(h, kernel, bias, h2, kernel2, bias2, t, chunk):
            out = heads.fused_linear_distillation(
                h, turn(kernel), heads.Linear(h2, turn(kernel2), bias2), bias=bias,
                divergence=kind, skew=BETA, temperature=t, where=where,
                scale_by_temperature_squared=False,
                transform=jnp.tanh, transposed=transposed, vocab_chunk=chunk,
            )  # fmt: skip
            return out @ slopes, out

        def theirs(h, kernel, bias, h2, kernel2, bias2, t):
            student = jnp.tanh(h @ kernel + bias[None])[:, where] / t
            teacher = (h2 @ kernel2 + bias2[None])[:, where] / t
            out = dense(kind, student, teacher)
            return out @ slopes, out

        arguments = h, kernel, bias, h2, kernel2, bias2, t
        take = functools.partial(jax.grad, argnums=range(7), has_aux=True)
        got = [
            take(functools.partial(ours, chunk=chunk))(*arguments)
            for chunk in (None, 2, 5)
        ]
        return got, take(theirs)(*arguments)

    got, want = both(h, kernel, bias, *other, T)
    for result in got:
        assert_close(result, want, 1e-11)


@pytest.mark.sampled
@pytest.mark.parametrize("kind", DIVERGENCES)
def test_two_confident_models(kind):
    """Margins at which probabilities round to 1 in float32."""
    margins = np.float32([30, 60]), np.float32([31, 58])

    def of(scale, dtype):
        """Class 0 leads by one margin in the student, by the other in the teacher."""
        h = np.eye(2, dtype=dtype)
        k, k2 = (np.zeros((2, V), dtype) for _ in range(2))
        k[:, 0], k2[:, 0] = margins
        k[:, 1], k2[:, 1] = 0.3, 0.5
        return h * scale, k, k2

    def ours(h, k, k2):
        out = heads.fused_linear_distillation(
            h, k, heads.Linear(np.eye(2, dtype=k.dtype), k2), divergence=kind,
            skew=BETA, vocab_chunk=3,
        )  # fmt: skip
        return out.sum(), out

    slopes, values = quick_jit(jax.grad(ours, has_aux=True))(*of(1, "f4"))
    with jax.enable_x64(True):
        h, k, k2 = of(1, "f8")

        def exact(h):
            z, v = h @ k, np.eye(2) @ k2
            out = dense(kind, z, v)
            if (
                kind == "js_divergence"
            ):  # the mixture of two sure models is past float64 too
                a, b = numerics.log_softmax(z), numerics.log_softmax(v)
                r = b - a
                s = -jnp.log1p(BETA * jnp.expm1(r))
                t = -jnp.log1p((1 - BETA) * jnp.expm1(-r))
                p, q = jnp.exp(a), jnp.exp(b)
                out = ((1 - BETA) * p * s + BETA * q * t).sum(-1)
            return out.sum(), out

        want_slopes, want = interpreted(jax.grad(exact, has_aux=True))(h)
    assert (np.asarray(values) >= 0).all()
    if (
        kind != "total_variation_divergence"
    ):  # what is left of 1 - 1 in it is below float64
        np.testing.assert_allclose(values, want, 1e-4)
        for got, reference in zip(slopes, want_slopes, strict=True):
            assert_close(got, reference, 1e-4)


def test_unsure_models_are_exact_too():
    """Where no class has much, slopes are the differences of small probabilities."""
    h, kernel, *_ = draw(n=8, d=32, v=4000)
    other = draw(1, n=8, d=32)[0]
    kernel /= np.float32(np.sqrt(32))

    def fused(h, k, other):
        return heads.fused_linear_distillation(
            h, k, heads.Linear(other, jax.lax.stop_gradient(k)), vocab_chunk=512
        ).mean()

    def exact(h, k, other):
        return dense("forward_kl", h @ k, other @ jax.lax.stop_gradient(k)).mean()

    got = jax.jit(jax.value_and_grad(fused, (0, 1)))(h, kernel, other)
    with jax.enable_x64(True):
        wide = [a.astype("f8") for a in (h, kernel, other)]
        assert_close(got, jax.jit(jax.value_and_grad(exact, (0, 1)))(*wide))


def test_extremes():
    wants = dict(
        forward_kl=1e4,
        reverse_kl=1e4,
        js_divergence=np.log(2),
        total_variation_divergence=1,
    )
    h = np.ones((1, 1), "f4")

    @jax.jit
    def run(kernel, teacher):
        same = heads.Linear(h, kernel)

        def loss(kernel, teacher, kind, **options):
            return heads.fused_linear_distillation(
                h, kernel, teacher, divergence=kind, **options
            )[0]

        return {
            kind: (
                loss(kernel, heads.Linear(h, teacher), kind, vocab_chunk=2),
                loss(kernel, same, kind),
                loss(0 * kernel, same, kind, where=np.zeros(3, bool)),
            )
            for kind in DIVERGENCES
        }

    got = run(np.float32([[1e4, 0, -1e4]]), np.float32([[0, 1e4, 0]]))
    for kind, (far, same, none) in got.items():
        np.testing.assert_allclose(far, wants[kind], 1e-6)
        assert same == 0
        assert none == 0


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("fused_linear_kd"))
def test_golden(case):
    given = {k: np.asarray(v) for k, v in case["inputs"].items()}
    p, want = case["params"], case["outputs"]
    y, kept = given["labels"], given["labels"] >= 0
    names = ("hidden", "weight", "bias")

    def total(hidden, weight, bias):
        teacher = heads.Linear(*(given[f"teacher_{k}"].astype("f4") for k in names))
        soft = heads.fused_linear_distillation(
            hidden, weight, teacher, bias=bias,
            divergence="js_divergence", skew=p["beta"],
            temperature=p["temperature"], transposed=True, vocab_chunk=3,
            scale_by_temperature_squared=False,
        )  # fmt: skip
        hard = heads.fused_linear_cross_entropy(
            hidden, weight, y * kept, bias=bias, transposed=True, vocab_chunk=3
        )
        soft, hard = (numerics.masked_mean(a, kept) for a in (soft, hard))
        out = p["hard_weight"] * hard + p["soft_weight"] * soft
        return out, dict(loss=out, soft_loss=soft, hard_loss=hard)

    arguments = [given[f"student_{k}"].astype("f4") for k in names]
    take = interpreted(jax.grad(total, (0, 1, 2), has_aux=True))
    grads, values = take(*arguments)
    for name, got in values.items():
        if name != "hard_loss" or p["hard_weight"]:
            assert_close(got, np.asarray(want[name]))
    assert_close(grads, [np.asarray(want[f"grad_student_{k}"]) for k in names])


def test_a_stopped_teacher_costs_no_gradient():
    (h, kernel, *_), (h2, kernel2, *_) = (
        draw(n=64, d=32, v=256),
        draw(1, "f4", 64, 32, 256),
    )

    def flops(change):
        def loss(kernel, kernel2):
            teacher = heads.Linear(h2, change(kernel2))
            return heads.fused_linear_distillation(
                h, kernel, teacher, vocab_chunk=64
            ).sum()

        compiled = jax.jit(jax.grad(loss, (0, 1))).lower(kernel, kernel2).compile()
        return compiled.cost_analysis()["flops"]

    saved = flops(lambda k: k) - flops(jax.lax.stop_gradient)
    assert saved > 0.9 * 2 * 64 * 32 * 64  # a loop's body is counted once


def test_leading_axes_and_memory():
    h, kernel, _, _ = draw(n=12)
    h2, kernel2, _, _ = draw(1, n=12)
    shaped = functions(heads).fused_linear_distillation(
        h.reshape(3, 4, -1), kernel, heads.Linear(h2.reshape(3, 4, -1), kernel2)
    )
    want = interpreted(functools.partial(dense, "forward_kl"))(h @ kernel, h2 @ kernel2)
    assert_close(shaped, want.reshape(3, 4))
    n, d, v = 1024, 64, 16384
    h, kernel = jnp.zeros((n, d)), jnp.zeros((d, v))

    def temporaries(function):
        lowered = jax.jit(jax.value_and_grad(function)).lower(kernel)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    def fused(k):
        teacher = heads.Linear(h, kernel)
        return heads.fused_linear_distillation(h, k, teacher, vocab_chunk=256).mean()

    whole = temporaries(lambda k: dense("forward_kl", h @ k, h @ kernel).mean())
    assert temporaries(fused) <= whole / 24


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(divergence="kl"), "divergence is 'kl', expected one of forward_kl, "),
        (dict(skew=1.5), r"skew is 1.5, expected a number in \[0, 1\]"),
        (dict(temperature=0.0), "temperature is 0.0, expected a number above 0"),
        (dict(temperature=np.ones(2)), r"temperature has shape \(2,\), expected one"),
        (dict(vocab_chunk=0), "vocab_chunk is 0, expected at least 1"),
        (dict(axis_name="modle"), "axis_name 'modle' is not an axis of the mesh"),
        (
            dict(teacher=heads.Linear(np.zeros((N, 2)), np.zeros((2, V + 1)))),
            "teacher.kernel has 8 classes, expected 7",
        ),
        (
            dict(teacher=heads.Linear(np.zeros((3, 2)), np.zeros((2, V)))),
            r"teacher.hidden has shape \(3, 2\), expected \(10, 'D'\)",
        ),
    ],
)
def test_errors(change, message):
    h, kernel, _, _ = draw()
    given = dict(hidden=h, kernel=kernel, teacher=heads.Linear(h, kernel)) | change
    with pytest.raises(ValueError, match=message):
        heads.fused_linear_distillation(**given)
