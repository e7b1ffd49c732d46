import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.derivatives import check_derivatives
from harness.goldens import cases
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from logitlab.links import stablemax
from logitlab.losses import cross_entropy
from logitlab.numerics import masked_mean

VARIANTS = {"eager": lambda f: f, "jit": jax.jit, "vmap": jax.vmap, "pmap": jax.pmap}
BIG = 1e30


def others(x):
    """Sums over all the other classes, without a subtraction."""
    pad = np.zeros_like(x[..., :1])
    before = np.cumsum(np.concatenate([pad, x[..., :-1]], -1), -1)
    after = np.cumsum(np.concatenate([pad, x[..., :0:-1]], -1), -1)
    return before + after[..., ::-1]


def log_probabilities(z):
    """log p, and 1 - p without the subtraction that loses it, in float64."""
    z = np.asarray(z, np.float64)
    e = np.exp(z - z.max(-1, keepdims=True))
    total = e.sum(-1, keepdims=True)
    p, rest = e / total, others(e) / total
    with np.errstate(divide="ignore"):  # in the branch not taken
        return np.where(p > 0.5, np.log1p(-np.minimum(rest, 0.5)), np.log(p)), rest


def oracle(z, labels):
    log_p, _ = log_probabilities(z)
    if labels.shape == z.shape:
        return -(labels.astype("f8") * log_p).sum(-1)
    return -np.take_along_axis(log_p, labels[..., None], -1)[..., 0]


def slopes(z, q):
    """The gradient of -sum(q * log_p): p_c times the other mass, less q_c (1 - p_c)."""
    log_p, rest = log_probabilities(z)
    q = q.astype("f8")
    return np.exp(log_p) * others(q) - q * rest


def draw_labels(rng, z, kind):
    if kind == "integers":
        return rng.integers(0, z.shape[-1], z.shape[:-1])
    return rng.dirichlet(np.ones(z.shape[-1]), z.shape[:-1]).astype("f4")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("kind", ["integers", "distribution"])
@pytest.mark.parametrize("variant", VARIANTS)
@given(seed=st.integers(0, 999), log_scale=st.floats(-3, 1.5))
@settings(max_examples=5, deadline=None)
def test_matches_float64(variant, kind, seed, log_scale):
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(8, 2, 10)).astype("f4") * np.float32(10**log_scale)
    labels = draw_labels(rng, z, kind)
    got = VARIANTS[variant](cross_entropy)(z, labels)
    np.testing.assert_allclose(got, oracle(z, labels), rtol=1e-5)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("classes", [2, 5, 1000])
def test_exact_at_every_margin(classes):
    """Integers, their one-hots and smoothed labels, value, forward and reverse."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(33, classes)).astype("f4")
    z[:, 0] = z[:, 1:].max(-1) + np.linspace(-80, 80, 33, dtype="f4")
    y = np.arange(33) % 2
    hard = np.eye(classes, dtype="f4")[y]
    # Little mass elsewhere, so that the slopes of a confident row are small too.
    soft = np.where(hard == 1, 1, np.float32(1e-12) * rng.uniform(size=z.shape))
    dz = np.eye(classes, dtype="f4")[rng.integers(0, 2, 33)]

    @jax.jit
    def measure(z, labels):
        loss = lambda z: cross_entropy(z, labels)  # noqa: E731
        gradient = jax.grad(lambda z: loss(z).sum())(z)
        return loss(z), gradient, jax.jvp(loss, (z,), (dz,))[1]

    for labels, q in ((y, hard), (hard, hard), (soft.astype("f4"), soft.astype("f4"))):
        value, gradient, pushed = measure(z, labels)
        slope = slopes(z, q)
        np.testing.assert_allclose(value, oracle(z, labels), rtol=1e-5)
        if labels is not y and q is not hard:  # differences of like numbers
            bound = 1e-5 * (np.abs(q) + np.exp(log_probabilities(z)[0]))
            bound = np.where(q == 1, bound.sum(-1, keepdims=True) - bound, bound)
            assert (np.abs(gradient - slope) <= np.maximum(bound, 1e-37)).all()
        else:
            np.testing.assert_allclose(gradient, slope, rtol=1e-5)
            np.testing.assert_allclose(pushed, (slope * dz).sum(-1), rtol=1e-5)


def test_exact_curvature():
    z = np.float32([[40.3, 0, 1.7], [-70.1, 3.2, 0], [5, 5, 0.3], [0.1, 0.2, 0.3]])
    q = np.eye(3, dtype="f4")[[0, 0, 1, 2]]
    log_p, rest = log_probabilities(z)
    p = np.exp(log_p)
    want = np.where(np.eye(3), (p * rest)[..., None], -p[:, None] * p[..., None])
    for labels in (q.argmax(-1), q):
        for hessian in (jax.hessian, lambda f: jax.jacrev(jax.jacrev(f))):
            got = jax.jit(jax.vmap(hessian(cross_entropy)))(z, labels)
            np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-37)


def test_labels_get_gradients():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4, 5)).astype("f4") * 20
    q = np.eye(5, dtype="f4")[[0, 1, 2, 3]]
    pull = jax.jit(jax.grad(lambda q, z: cross_entropy(z, q).sum()))
    got = pull(q, z)
    np.testing.assert_allclose(got, -log_probabilities(z)[0], rtol=1e-5)
    z[:, 4] = -np.inf  # a hidden class has nothing to say about its label
    got = pull(q, z)
    np.testing.assert_allclose(got[:, :4], -log_probabilities(z[:, :4])[0], rtol=1e-5)
    assert (got[:, 4] == 0).all()


@pytest.mark.usefixtures("x64")
def test_derivatives():
    rng, y, where = np.random.default_rng(0), np.arange(4), np.arange(5)[None] != 4

    def both(arguments):
        z, q = arguments
        return (
            cross_entropy(z, y),
            cross_entropy(z, q),
            cross_entropy(z, jnp.where(where, 2 * q, 0), where=where),
        )

    z, q = rng.normal(size=(4, 5)), rng.dirichlet(np.ones(5), 4)
    check_derivatives(both, np.stack([z, q]))


@pytest.mark.sampled
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype):
    rng = np.random.default_rng(0)
    z = jnp.asarray(8 * rng.normal(size=(8, 1000)), dtype)
    wide = np.asarray(z, "f4")
    for kind in ("integers", "distribution"):
        labels = draw_labels(rng, z, kind)
        step = jax.jit(jax.value_and_grad(lambda z, y: cross_entropy(z, y).sum()))
        (value, grad), (wide_value, wide_grad) = step(z, labels), step(wide, labels)
        assert value.dtype == np.float32
        assert grad.dtype == dtype
        np.testing.assert_allclose(value, wide_value, rtol=1e-6)
        rounding = jnp.finfo(dtype)
        rtol, atol = float(rounding.eps), float(rounding.smallest_subnormal)
        grad = np.asarray(grad, "f4")
        np.testing.assert_allclose(grad, wide_grad, rtol=rtol, atol=atol)
    pull = jax.value_and_grad(lambda q: cross_entropy(z, q).sum())
    value, grad = jax.jit(pull)(jnp.asarray(labels, dtype))
    assert value.dtype == np.float32
    assert grad.dtype == dtype


@pytest.mark.sampled
@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("spec", [P("data"), P("data", "model")], ids=str)
def test_sharded(spec, kind):
    mesh = jax.make_mesh((4, 2), ("data", "model"), (kind, kind))
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(8, 10)).astype("f4"), np.arange(8)
    q = draw_labels(rng, z, "distribution")

    @jax.jit
    def step(z, y, q):
        def loss(z, q):
            both = cross_entropy(z, y), cross_entropy(z, q)
            return masked_mean(both[0]) + masked_mean(both[1], y > 2), both

        return jax.value_and_grad(loss, (0, 1), has_aux=True)(z, q)

    z_on, q_on = (jax.device_put(a, NamedSharding(mesh, spec)) for a in (z, q))
    y_on = jax.device_put(y, NamedSharding(mesh, P("data")))
    compiled = step.lower(z_on, y_on, q_on).compile()
    assert "all-gather" not in compiled.as_text()
    got, want = compiled(z_on, y_on, q_on), step(z, y, q)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(got[0][1][0], oracle(z, y), rtol=1e-5)
    np.testing.assert_allclose(got[0][1][1], oracle(z, q), rtol=1e-5)


def test_many_tangents():
    """A sum that XLA's CPU backend fuses wrongly for a batch of tangents."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(17, 1000)).astype("f4")
    q = draw_labels(rng, z, "distribution")
    tangents = rng.normal(size=(3, 17, 1000)).astype("f4")

    def push(z, q, tangents):
        def slopes(z):
            return jax.grad(lambda z: (cross_entropy(z, q) ** 2).sum())(z)

        return jax.vmap(lambda dz: jax.jvp(slopes, (z,), (dz,))[1])(tangents)

    with jax.enable_x64(True):
        want = jax.jit(push)(*(a.astype("f8") for a in (z, q, tangents)))
    for f in (push, lambda z_, q_, tangents: push(z, q, tangents)):
        got = jax.jit(f)(z, q, tangents)
        atol = 1e-5 * np.abs(want).max()
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=atol)


def test_memory():
    z, y = jnp.zeros((2048, 3000)), jnp.zeros(2048, int)

    def temp(*args):
        step = jax.jit(jax.value_and_grad(lambda *a: cross_entropy(*a).mean()))
        analysis = step.lower(*args).compile().memory_analysis()
        return analysis.temp_size_in_bytes / z.nbytes

    assert temp(z, y) < 0.01
    assert temp(z, z) < 1.01


def test_axis_and_where():
    rng = np.random.default_rng(0)
    z, where = rng.normal(size=(3, 5, 2)).astype("f4"), np.arange(5)[:, None] % 4 < 2
    where, kept = where[None], where[:, 0]
    moved = np.moveaxis(z, 1, -1)
    y = np.array([[0, 1], [1, 4], [4, 0]])
    q = np.where(where, rng.uniform(size=z.shape), 0).astype("f4")
    inside = np.searchsorted(np.flatnonzero(kept), y)
    got = cross_entropy(z, y, axis=1, where=where)
    np.testing.assert_allclose(got, oracle(moved[..., kept], inside), rtol=1e-5)
    got = cross_entropy(z, q, axis=-2, where=where)
    want = oracle(moved[..., kept], np.moveaxis(q, 1, -1)[..., kept])
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_edges():
    grad = jax.jit(jax.grad(cross_entropy))
    assert cross_entropy([1.0, -np.inf], 0) == 0
    assert cross_entropy([-np.inf, -np.inf], 0) == 0  # nothing to choose from
    np.testing.assert_array_equal(grad(np.float32([-np.inf] * 2), 0), [0, 0])
    assert cross_entropy([-np.inf, 1.0], 0) == np.inf  # a hidden label, then its limit
    np.testing.assert_array_equal(grad(np.float32([-np.inf, 1]), 0), [0, 1])
    np.testing.assert_allclose(grad(np.float32([BIG, BIG]), 0), [-0.5, 0.5])
    np.testing.assert_array_equal(grad(np.float32([BIG, -BIG]), 1), [1, -1])
    for offset in (1e4, 1e5, 1e30):  # a common offset costs nothing
        z = np.float32([0, 1, 2]) + np.float32(offset)
        np.testing.assert_allclose(grad(z, 1), grad(z - z[0], 1), rtol=1e-6)
    where = np.array([True, True, False])
    hidden = jax.jit(jax.grad(lambda z: cross_entropy(z, 0, where=where)))
    assert np.isfinite(hidden(np.array([1, 2, np.nan], "f4"))).all()
    assert np.isnan(jax.jit(cross_entropy)(np.zeros(3, "f4"), 3))
    assert cross_entropy(np.zeros((0, 3), "f4"), np.zeros(0, int)).shape == (0,)
    assert cross_entropy([2.0], 0) == cross_entropy([2.0], [1.0]) == 0


def test_edges_of_distributions():
    inf = np.inf
    assert cross_entropy([1.0, -inf], [1.0, 0.0]) == 0
    assert cross_entropy([-inf, -inf], [0.5, 0.5]) == 0
    assert cross_entropy([1.0, -inf], [0.5, 0.5]) == inf
    assert cross_entropy([0.0, 0.0, 0.0], [0.0, 0.0, 0.0]) == 0
    step = jax.jit(jax.value_and_grad(cross_entropy, (0, 1)))
    q = np.float32([0.5, 0.3, 0.2])
    value, (dz, dq) = step(np.float32([-inf] * 3), q)
    assert value == 0
    assert (dz == 0).all()
    assert (dq == 0).all()
    # The limit as a class with mass is hidden: all of its pull goes to the others.
    _, (limit, _) = step(np.float32([-60, 1, 0]), q)
    value, (dz, _) = step(np.float32([-inf, 1, 0]), q)
    assert value == inf
    assert dz[0] == 0
    np.testing.assert_allclose(dz[1:], limit[1:], rtol=1e-6)
    forward = jax.jit(jax.jacfwd(cross_entropy, (0, 1)))
    for z in ([BIG, -BIG, 0], [BIG, BIG, 1], [-BIG, -BIG, -BIG], [0, -BIG, BIG / 3]):
        for derivatives in (step(np.float32(z), q)[1], forward(np.float32(z), q)):
            assert np.isfinite(derivatives).all()
    value, (dz, dq) = step(np.float32([BIG, 0, 1]), np.float32([0, 1, 0]))
    assert value == np.float32(BIG)
    where = np.array([True, True, False])
    hidden = jax.jit(jax.grad(lambda z, q: cross_entropy(z, q, where=where), (0, 1)))
    for wild in (np.nan, inf, BIG):
        dz, dq = hidden(np.array([1, 2, wild], "f4"), np.float32([0.5, 0.5, 0]))
        assert np.isfinite(dz).all()
        assert np.isfinite(dq).all()
        assert dz[2] == dq[2] == 0
    p = jax.nn.softmax(np.float32([0.3, 0.2, 0.1]))  # at its own target: no pull
    _, (dz, _) = step(np.float32([0.3, 0.2, 0.1]), p)
    np.testing.assert_allclose(dz, np.zeros(3), atol=1e-7)


def test_errors():
    z = np.zeros((2, 3), "f4")
    for labels, message in [
        (np.array([0, 3]), "outside"),
        (np.zeros((2, 1), int), "expected"),
        (np.zeros((2, 2), "f4"), r"labels has shape \(2, 2\), expected \(2, 3\)"),
        (np.zeros(2, "f4"), "distribution"),
    ]:
        with pytest.raises(ValueError, match=message):
            cross_entropy(z, labels)
    for labels in (np.zeros(2, int), z):
        with pytest.raises(TypeError, match="logits has dtype int"):
            cross_entropy(np.zeros((2, 3), int), labels)
        with pytest.raises(TypeError, match="where has dtype int"):
            cross_entropy(z, labels, where=np.ones((2, 3), int))
        with pytest.raises(ValueError, match="where has shape"):
            cross_entropy(z, labels, where=np.ones((3, 3), bool))
        with pytest.raises(ValueError, match="not an axis"):
            cross_entropy(z, labels, axis=2)
    with pytest.raises(ValueError, match="at least one class"):
        cross_entropy(np.zeros((2, 0), "f4"), np.zeros(2, int))
    with pytest.raises(TypeError, match="labels has dtype bool"):
        cross_entropy(z, np.zeros(2, bool))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", cases("stablemax"))
@pytest.mark.usefixtures("x64")
def test_golden_stablemax(case):
    z, y = (np.array(case["inputs"][name]) for name in ("logits", "labels"))
    want = {name: np.array(a, "f8") for name, a in case["outputs"].items()}

    @jax.jit
    def step(z, labels):
        def loss(z):
            losses = cross_entropy(stablemax(z), labels)
            return losses.mean(), losses

        return jax.value_and_grad(loss, has_aux=True)(z)

    for labels in (y, np.eye(z.shape[-1])[y]):
        (mean, losses), grad = step(z, labels)
        np.testing.assert_allclose(losses, want["loss"], rtol=1e-9)
        np.testing.assert_allclose(mean, want["mean_loss"], rtol=1e-9)
        np.testing.assert_allclose(grad, want["grad_logits_of_mean"], rtol=1e-9)


def test_stablemax_is_exact_for_huge_logits():
    rng = np.random.default_rng(0)
    x = (10 ** rng.uniform(-2, 6, (64, 10)) * rng.choice([-1, 1], (64, 10))).astype(
        "f4"
    )
    y = np.where(np.arange(64) % 2, x.argmax(-1), rng.integers(0, 10, 64))
    q = np.eye(10, dtype="f4")[y]
    wide = x.astype("f8")
    g, slope = np.sign(wide) * np.log1p(np.abs(wide)), 1 / (1 + np.abs(wide))
    for labels in (y, q):
        step = jax.vmap(jax.value_and_grad(lambda z, y: cross_entropy(stablemax(z), y)))
        value, grad = jax.jit(step)(x, labels)
        np.testing.assert_allclose(value, oracle(g, y), rtol=1e-5)
        np.testing.assert_allclose(grad, slopes(g, q) * slope, rtol=1e-5)
    wild = [[BIG, -BIG, 0], [BIG, BIG, 1], [-BIG, -BIG, -BIG], [1e30, 0, 1]]
    value, grad = jax.jit(step)(np.float32(wild), np.eye(3, dtype="f4")[[1] * 4])
    assert np.isfinite(value).all()
    assert np.isfinite(grad).all()
