import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.derivatives import check_derivatives
from harness.interpreter import functions, interpreted
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from logitlab import numerics
from logitlab.numerics import label_nll, log_softmax, logsumexp, masked_mean, softmax

VARIANTS = {"eager": lambda f: f, "jit": jax.jit, "vmap": jax.vmap, "pmap": jax.pmap}
DERIVATIVES = {
    "fwd": (jax.jacfwd,),
    "rev": (jax.jacrev,),
    "fwd-rev": (jax.jacfwd, jax.jacrev),
    "rev-rev": (jax.jacrev, jax.jacrev),
    "fwd-fwd": (jax.jacfwd, jax.jacfwd),
}
BIG = 1e30
TINY = 1e-37  # products of probabilities below it are not float32 numbers


def others(x):
    """Sums over all the other classes, without a subtraction."""
    pad = np.zeros_like(x[..., :1])
    before = np.cumsum(np.concatenate([pad, x[..., :-1]], -1), -1)
    after = np.cumsum(np.concatenate([pad, x[..., :0:-1]], -1), -1)
    return before + after[..., ::-1]


def probabilities(z):
    """p, and 1 - p without the subtraction that loses it, in float64."""
    z = np.asarray(z, np.float64)
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True), others(e) / e.sum(-1, keepdims=True)


def log_probabilities(z):
    p, rest = probabilities(z)
    with np.errstate(divide="ignore"):  # in the branch not taken
        return np.where(p > 0.5, np.log1p(-np.minimum(rest, 0.5)), np.log(p))


def pick(a, y):
    return np.take_along_axis(a, y[..., None], -1)[..., 0]


def slopes(z):
    """d log p_c / d z_j of one row, in float64."""
    p, rest = probabilities(z)
    return np.where(np.eye(len(z), dtype=bool), rest, -p)


def curvature(z):
    """d2 log p_c / d z_i d z_j of one row, the same for every c."""
    p, rest = probabilities(z)
    return np.where(np.eye(len(z), dtype=bool), -p * rest, np.outer(p, p))


def margins(classes, seed=0):
    """Class 0 leads the best of the others by -80 to 80."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(33, classes)).astype("f4")
    z[:, 0] = z[:, 1:].max(-1) + np.linspace(-80, 80, 33, dtype="f4")
    return z


def on_mesh(kind, spec, *arrays):
    mesh = jax.make_mesh((4, 2), ("data", "model"), (kind, kind))
    return [jax.device_put(a, NamedSharding(mesh, P(*spec[: a.ndim]))) for a in arrays]


def assert_no_gather(compiled):
    text = compiled.as_text()
    assert "all-gather" not in text
    assert "all-to-all" not in text


@pytest.mark.sampled(2)
@pytest.mark.parametrize("variant", VARIANTS)
@given(seed=st.integers(0, 999), log_scale=st.floats(-3, 1.5))
@settings(max_examples=5, deadline=None)
def test_matches_float64(variant, seed, log_scale):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(8, 2, 10)).astype("f4") * np.float32(10**log_scale)
    y = rng.integers(0, 10, (8, 2))
    want = log_probabilities(z)
    transform = VARIANTS[variant]
    np.testing.assert_allclose(transform(log_softmax)(z), want, rtol=1e-5)
    got = transform(softmax)(z)
    np.testing.assert_allclose(got, np.exp(want), rtol=1e-5, atol=TINY)
    np.testing.assert_allclose(transform(label_nll)(z, y), -pick(want, y), rtol=1e-5)
    top = z.max(-1).astype("f8")
    total = np.log(np.exp(z.astype("f8") - top[..., None]).sum(-1)) + top
    np.testing.assert_allclose(transform(logsumexp)(z), total, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("classes", [2, 5, 1000])
def test_exact_at_every_margin(classes):
    z, y = margins(classes), np.zeros(33, int)
    want = log_probabilities(z)
    p, rest = probabilities(z)
    slope = np.where(np.arange(classes) == 0, -rest, p)
    tangents = np.eye(classes, dtype="f4")[[0, 1, -1]]

    @jax.jit
    def measure(z):
        def losses(z):
            return label_nll(z, y), -log_softmax(z)[:, 0]

        def push(dz):
            return jax.jvp(losses, (z,), (jnp.broadcast_to(dz, z.shape),))[1]

        values, pull = jax.vjp(losses, z)
        ones, none = jnp.ones(33), jnp.zeros(33)
        gradients = pull((ones, none))[0], pull((none, ones))[0]
        return values, gradients, jax.vmap(push)(tangents), log_softmax(z), softmax(z)

    values, gradients, pushed, log_p, got_p = measure(z)
    np.testing.assert_allclose(log_p, want, rtol=1e-5)
    np.testing.assert_allclose(got_p, p, rtol=1e-5)
    for i in range(2):
        np.testing.assert_allclose(values[i], -want[:, 0], rtol=1e-5)
        np.testing.assert_allclose(gradients[i], slope, rtol=1e-5)
        np.testing.assert_allclose(pushed[i], tangents @ slope.T, rtol=1e-5)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("derivative", DERIVATIVES)
def test_exact_derivatives(derivative):
    lone = margins(5, seed=1)
    second, tied, flat = lone.copy(), lone.copy(), lone.copy()
    second[:, 1] = second[:, 0] + 30  # a confident class that is not the label
    tied[:, 1] = tied[:, 0]
    flat[:, 1:3] = flat[:, :1]
    z = np.concatenate([lone, second, tied, flat])
    chain = DERIVATIVES[derivative]

    def everything(z):
        return label_nll(z, 0), log_softmax(z), softmax(z)

    chained = functools.reduce(lambda f, d: d(f), chain, everything)
    nll, log_p, p = jax.jit(jax.vmap(chained))(z)
    if len(chain) == 1:
        want = np.stack([slopes(row) for row in z])
        want_p = want * probabilities(z)[0][..., None]
        np.testing.assert_allclose(nll, -want[:, 0], rtol=1e-5, atol=TINY)
        np.testing.assert_allclose(log_p, want, rtol=1e-5, atol=TINY)
        np.testing.assert_allclose(p, want_p, rtol=1e-5, atol=TINY)
    else:
        want = np.stack([curvature(row) for row in z])
        np.testing.assert_allclose(nll, -want, rtol=1e-5, atol=TINY)
        want = np.broadcast_to(want[:, None], log_p.shape)
        np.testing.assert_allclose(log_p, want, rtol=1e-5, atol=TINY)


@pytest.mark.sampled
@pytest.mark.parametrize("order", [1, 2])
def test_many_tangents(order):
    """A sum that XLA's CPU backend fuses wrongly for a batch of tangents."""
    z, y = margins(1000)[8:25], np.arange(17, dtype="i4") % 2
    tangents = np.random.default_rng(0).normal(size=(3, *z.shape)).astype("f4")

    def push(z, tangents):
        def losses(z):
            return label_nll(z, y), log_softmax(z), softmax(z), logsumexp(z)

        def slopes(z):
            return jax.grad(lambda z: sum((a**2).sum() for a in losses(z)))(z)

        f = losses if order == 1 else slopes
        return jax.vmap(lambda dz: jax.jvp(f, (z,), (dz,))[1])(tangents)

    with jax.enable_x64(True):
        want = interpreted(push)(z.astype("f8"), tangents.astype("f8"))
    for f in (push, lambda z_, tangents: push(z, tangents)):  # traced and constant
        for a, b in zip(
            jax.tree.leaves(jax.jit(f)(z, tangents)), jax.tree.leaves(want), strict=True
        ):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5 * np.abs(b).max())


@pytest.mark.parametrize("f", [log_softmax, softmax, logsumexp, label_nll])
def test_a_hidden_logit_may_move_by_nan(f):
    """As that of a probability of 0 does: its log has the slope 0 / 0."""
    z, y = np.float32([[1, -np.inf, 3], [0, 1, -np.inf]]), np.int32([0, 1])
    dz = np.where(np.isinf(z), np.nan, np.float32([[1, 2, 3], [4, 5, 6]]))
    further = (y,) if f is label_nll else ()

    def push(z, dz):
        return jax.jvp(lambda z: f(z, *further), (z,), (dz,))[1]

    still, moved = push(z, np.where(np.isinf(z), 0, dz)), push(z, dz)
    assert np.isfinite(still).any()
    np.testing.assert_array_equal(moved, still)


@pytest.mark.usefixtures("x64")
def test_derivatives():
    z, y = np.random.default_rng(0).normal(size=(4, 5)), np.arange(4)
    where = np.arange(20).reshape(4, 5) % 7 != 1
    where[:, :4] |= np.eye(4, dtype=bool)  # a hidden label costs inf

    def everything(z):
        return (
            softmax(z),
            label_nll(z, y),
            logsumexp(z, where=where),
            jnp.where(where, log_softmax(z, where=where), 0),
        )

    check_derivatives(everything, z)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype):
    z = jnp.asarray(margins(1000)[8:25] / 3, dtype)
    y = np.arange(len(z)) % 3
    wide = np.asarray(z, "f4")

    @jax.jit
    def step(z):
        losses, pull = jax.vjp(lambda z: (label_nll(z, y), log_softmax(z)), z)
        one, none = jax.tree.map(jnp.ones_like, losses), jnp.zeros_like(losses[1])
        return losses, [pull((one[0], none))[0], pull((0 * one[0], one[1]))[0]]

    (losses, grads), (wide_losses, wide_grads) = step(z), step(wide)
    for a, b in zip(losses, wide_losses, strict=True):
        assert a.dtype == np.float32
        np.testing.assert_allclose(a, b, rtol=1e-6)
    for a, b in zip(grads, wide_grads, strict=True):
        assert a.dtype == dtype
        rounding = jnp.finfo(dtype)
        rtol, atol = float(rounding.eps), float(rounding.smallest_subnormal)
        np.testing.assert_allclose(np.asarray(a, "f4"), b, rtol=rtol, atol=atol)
    np.testing.assert_allclose(losses[0], -pick(log_probabilities(wide), y), rtol=1e-5)


@pytest.mark.usefixtures("x64")
def test_float64_stays():
    z = margins(5).astype("f8")
    want = log_probabilities(z)
    assert log_softmax(z).dtype == label_nll(z, np.zeros(33, int)).dtype == "f8"
    np.testing.assert_allclose(log_softmax(z), want, rtol=1e-13)
    np.testing.assert_allclose(label_nll(z, np.zeros(33, int)), -want[:, 0], rtol=1e-13)


@pytest.mark.sampled
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("spec", [("data",), ("data", "model"), (None, "model")])
def test_sharded(spec, kind):
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(8, 10)).astype("f4"), rng.integers(0, 10, 8)
    q, where = rng.uniform(size=(8, 10)).astype("f4"), rng.uniform(size=(8, 10)) < 0.7
    where[np.arange(8), y] = True

    @jax.jit
    def step(z, y, q, where):
        def total(z):
            losses = (
                label_nll(z, y),
                label_nll(z, y, where=where),
                (q * log_softmax(z)).sum(-1),
                (q * softmax(z, where=where)).sum(-1),
                logsumexp(z, where=where),
            )
            return sum(masked_mean(part, y % 2 == 0) for part in losses), losses

        return jax.value_and_grad(total, has_aux=True)(z)

    arrays = on_mesh(kind, spec, z, y, q, where)
    compiled = step.lower(*arrays).compile()
    assert_no_gather(compiled)
    got, want = compiled(*arrays), step(z, y, q, where)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_memory():
    """Value and gradient hold at most one logits array besides their result."""
    z, y = jnp.zeros((2048, 3000)), jnp.zeros(2048, int)

    def temp(f):
        compiled = jax.jit(jax.value_and_grad(f)).lower(z).compile()
        return compiled.memory_analysis().temp_size_in_bytes / z.nbytes

    assert temp(lambda z: label_nll(z, y).mean()) < 0.01
    assert temp(lambda z: (z * log_softmax(z)).sum(-1).mean()) < 1.01


def test_axis_and_where():
    rng = np.random.default_rng(0)
    z, where = (
        rng.normal(size=(3, 5, 2)).astype("f4"),
        rng.uniform(size=(1, 5, 1)) < 0.7,
    )
    where[:, 0] = True
    y = np.zeros((3, 2), int)
    moved = np.moveaxis(z, 1, -1)
    kept = where[0, :, 0]

    @functools.partial(jax.jit, static_argnums=1)
    def everything(z, axis):
        options = dict(axis=axis, where=where)
        slope = jax.grad(lambda z: label_nll(z, y, **options).sum())(z)
        functions = label_nll(z, y, **options), logsumexp(z, **options), slope
        return log_softmax(z, **options), softmax(z, **options), *functions

    want = np.moveaxis(log_probabilities(moved[..., kept]), -1, 1)
    for axis in (1, -2):
        log_p, p, nll, total, slope = everything(z, axis)
        np.testing.assert_allclose(log_p[:, kept], want, rtol=1e-5)
        np.testing.assert_allclose(p[:, kept], np.exp(want), rtol=1e-5)
        np.testing.assert_allclose(nll, -want[:, 0], rtol=1e-5)
        sums = np.exp(moved[..., kept]).sum(-1)
        np.testing.assert_allclose(np.exp(total), sums, rtol=1e-5)
        assert (log_p[:, ~kept] == -np.inf).all()
        assert (p[:, ~kept] == 0).all()
        assert (slope[:, ~kept] == 0).all()
        assert (slope[:, kept] != 0).all()


def test_hidden_classes():
    inf, calls = np.inf, functions(numerics)
    np.testing.assert_array_equal(calls.log_softmax([1.0, -inf]), [0, -inf])
    np.testing.assert_array_equal(calls.log_softmax([-inf, -inf]), [-inf, -inf])
    np.testing.assert_array_equal(calls.softmax([-inf, -inf]), [0, 0])
    assert calls.logsumexp([-inf, -inf]) == -inf
    assert calls.label_nll([1.0, -inf], 0) == 0
    assert calls.label_nll([-inf, -inf], 0) == 0
    assert calls.label_nll([-inf, 1.0], 0) == inf
    nll = jax.jit(jax.grad(label_nll))
    np.testing.assert_array_equal(nll(np.float32([-inf] * 2), 0), [0, 0])
    np.testing.assert_array_equal(nll(np.float32([-inf, 1]), 0), [0, 1])
    rows = np.float32([[-inf] * 3, [1, -inf, 2], [-inf, 1, 2]])

    def total(z, where=None):
        log_p, p = log_softmax(z, where=where), softmax(z, where=where)
        nll = label_nll(z, 0, where=where)
        return logsumexp(z, where=where) + 2 * log_p[0] + p[1] + nll

    for derivative in (jax.grad, jax.hessian):
        got = jax.jit(jax.vmap(derivative(total)))(rows)
        assert np.isfinite(got).all()
        assert (got[0] == 0).all()
    where = np.array([True, True, False])

    shown = jax.jit(jax.value_and_grad(lambda z: total(z, where)))
    want, _ = shown(np.array([1, 2, 0], "f4"))
    for wild in (np.nan, inf, -inf, BIG):
        value, grad = shown(np.array([1, 2, wild], "f4"))
        assert value == want
        assert np.isfinite(grad).all()
        assert grad[2] == 0


def test_extremes():
    grad = jax.grad(label_nll)
    np.testing.assert_array_equal(grad(np.float32([BIG, BIG]), 0), [-0.5, 0.5])
    np.testing.assert_array_equal(grad(np.float32([BIG, -BIG]), 1), [1, -1])
    np.testing.assert_array_equal(grad(np.float32([BIG, -BIG]), 0), [0, 0])
    assert label_nll([BIG, 0.0], 1) == np.float32(BIG)
    assert label_nll([BIG, -BIG], 1) == np.float32(2 * BIG)
    assert label_nll([-BIG], 0) == 0
    rows = np.float32([[BIG, -BIG, 0], [-BIG, BIG, BIG], [BIG, BIG, 1], [0, -BIG, 1]])
    for derivative in (jax.grad, jax.hessian):
        f = jax.jit(jax.vmap(derivative(label_nll)))
        for label in (0, 1):
            assert np.isfinite(f(rows, np.full(4, label))).all()
    rows = np.float32([[BIG, 1], [-BIG, -BIG], [BIG / 2, -BIG / 3]])
    for f in (log_softmax, softmax):
        assert np.isfinite(jax.jit(f)(rows)).all()
        assert np.isfinite(jax.jit(jax.vmap(jax.jacrev(f)))(rows)).all()
    assert np.isnan(log_softmax([1.0, np.nan])).all()
    assert np.isnan(label_nll([1.0, np.nan], 0))
    np.testing.assert_allclose(logsumexp([BIG, 0.0]), BIG)


def test_offsets_cost_nothing():
    both = lambda z: (label_nll(z, 1), log_softmax(z))  # noqa: E731
    step = jax.jit(lambda z: (both(z), jax.jacrev(both)(z)))
    for offset in (1e4, 1e5, 1e30):
        z = np.float32([0, 1, 2]) + np.float32(offset)
        for a, b in zip(*map(jax.tree.leaves, (step(z), step(z - z[0]))), strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-6)


def test_ties_and_single_class():
    for n in (2, 3, 1000):
        z = np.zeros(n, "f4") + np.float32(3.7)
        np.testing.assert_allclose(label_nll(z, 1), np.log(n), rtol=1e-6)
        np.testing.assert_allclose(log_softmax(z), np.full(n, -np.log(n)), rtol=1e-6)
    tied = np.float32([5, 5, -40])
    p, rest = probabilities(tied)
    grad = jax.grad(label_nll)(tied, 0)
    np.testing.assert_allclose(grad, [-rest[0], p[1], p[2]], rtol=1e-5)
    near = np.float32([1, np.nextafter(np.float32(1), np.float32(2))])
    np.testing.assert_allclose(label_nll(near, 0), np.log(2), rtol=1e-6)
    assert label_nll([7.0], 0) == 0
    np.testing.assert_array_equal(log_softmax([7.0]), [0])
    np.testing.assert_array_equal(jax.grad(label_nll)(np.float32([7]), 0), [0])


def test_empty_batch():
    z = np.zeros((0, 5), "f4")
    assert label_nll(z, np.zeros(0, int)).shape == (0,)
    assert log_softmax(z).shape == (0, 5)
    assert logsumexp(z).shape == (0,)
    assert masked_mean(np.zeros(0, "f4")) == 0
    assert masked_mean(np.zeros(0, "f4"), np.zeros(0, bool)) == 0


def _layer_norm(x, gain, bias):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-6) * gain + bias


PRODUCERS = {
    "layer norm": lambda x, gain, bias: _layer_norm(x, gain, bias),
    "layer norm with an offset": lambda x, gain, bias: _layer_norm(x, gain, bias + 1e4),
    "centered": lambda x, gain, bias: 5 * (x - x.mean(-1, keepdims=True)),
    "from the top": lambda x, gain, bias: 6.3 * (x - x.max(-1, keepdims=True)),
    "capped": lambda x, gain, bias: 30 * jnp.tanh(x * 0.2),
    "class prior": lambda x, gain, bias: 6 * x + jax.nn.log_softmax(bias),
    "softmax": lambda x, gain, bias: 60 * jax.nn.softmax(x),
    "masked": lambda x, gain, bias: jnp.where(bias > -1, 6.1 * x, -1e9) + bias,
    "linear": lambda x, gain, bias: (x[:, :9] * 5) @ jnp.cos(bias * gain[:, :9].T),
}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("classes", [10, 100, 50_000])
@pytest.mark.parametrize("producer", PRODUCERS)
def test_exact_where_the_program_makes_the_logits(producer, classes):
    """XLA computes such logits twice, in fusions that round differently."""
    rows = 64 if classes < 1000 else 8
    rng = np.random.default_rng(0)
    x = rng.normal(size=(rows, classes)).astype("f4")
    y = rng.integers(0, classes, rows)
    x[np.arange(rows), y] += 8
    gain = rng.uniform(5, 9, (1, classes)).astype("f4")
    bias = rng.normal(size=(1, classes)).astype("f4")
    label = jax.nn.one_hot(y, classes, dtype=bool)

    def of(z):
        value, pull = jax.vjp(lambda z: label_nll(z, y), z)
        log_p, pull_p = jax.vjp(log_softmax, z)
        total, pull_total = jax.vjp(logsumexp, z)
        from_label, ones = jnp.where(label, -log_p, 0).sum(-1), jnp.ones(rows, z.dtype)
        slopes = pull(ones), pull_p(jnp.where(label, -1, 0).astype(z.dtype))
        return value, from_label, total, *slopes[0], *slopes[1], *pull_total(ones)

    make = PRODUCERS[producer]
    got = jax.jit(lambda x: of(make(x, gain, bias)))(x)
    with jax.enable_x64(True):
        logits = np.asarray(jax.jit(make)(x, gain, bias)).astype("f8")
        want = jax.jit(of)(logits)
    for a, b in zip(got, want, strict=True):
        a, b = (np.asarray(v, "f8").reshape(rows, -1) for v in (a, b))
        off, scale = np.abs(a - b).max(-1), np.abs(b).max(-1)
        assert (off <= 1e-5 * scale + 1e-36).all(), off / scale


@pytest.mark.sampled
@pytest.mark.parametrize(
    "step",
    [
        log_softmax,
        softmax,
        lambda z: label_nll(z, 1) * z,
        lambda z: logsumexp(jnp.stack([z, z[::-1]], -1)),
    ],
    ids=["log_softmax", "softmax", "label_nll", "logsumexp"],
)
@pytest.mark.usefixtures("x64")
def test_second_derivatives_in_a_scan(step):
    """Of a body with a stopped gradient JAX would take the wrong one there."""
    rng = np.random.default_rng(0)
    x, v = rng.normal(size=(2, 4, 3))
    start, weights = np.arange(3.0), np.array([1.0, 2, 3])

    def scanned(x):
        carry, _ = jax.lax.scan(lambda c, e: (step(jnp.sin(c)) + e, None), start, x)
        return (carry * weights).sum()

    def looped(x):
        carry = start
        for e in x:
            carry = step(jnp.sin(carry)) + e
        return (carry * weights).sum()

    @interpreted
    def second(x, v):
        return [jax.jvp(jax.grad(f), (x,), (v,))[1] for f in (scanned, looped)]

    got, want = second(x, v)
    np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("factor", [0.1, 1.3, 1 / 0.7, 3.1])
def test_exact_for_logits_that_the_same_program_scales(factor):
    """Fused with a difference, a product is rounded once, and no score is the top."""
    rng, factor = np.random.default_rng(0), np.float32(factor)

    @jax.jit
    def both(x, y, factor):
        log_p = log_softmax(x * factor)
        at = jnp.take_along_axis(log_p, y[:, None], -1)[:, 0]
        return label_nll(x * factor, y), -at, logsumexp(x * factor)

    for margin in (0, 5, 12, 17, 40, 75):
        x = (0.5 / factor * rng.normal(size=(300, 9))).astype("f4")
        y = rng.integers(0, 9, 300)
        x[np.arange(300), y] = x.max(-1) + np.float32(margin) / factor
        z = (x * factor).astype("f8")  # as float32 rounds it
        rest = np.where(np.arange(9) == y[:, None], -np.inf, z - z.max(-1)[:, None])
        want = np.log1p(np.exp(rest).sum(-1))
        nll, other, total = both(x, y, factor)
        np.testing.assert_allclose(nll, want, rtol=1e-5)
        np.testing.assert_allclose(other, want, rtol=1e-5)
        np.testing.assert_allclose(total, want + z.max(-1), rtol=1e-5, atol=1e-6)
