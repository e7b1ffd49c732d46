import inspect
import itertools

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

from logitlab import links, losses

links = functions(links)

VARIANTS = {
    "plain": lambda f: f,
    "jit": jax.jit,
    "vmap": lambda f: interpreted(jax.vmap(f)),
    "pmap": jax.pmap,
}
SIZES = [(1, 2), (1, 4), (2, 2), (2, 3), (3, 4), (3, 5)]
BIG = 1e30


def log_softmax(z):
    d = z - z.max(-1, keepdims=True)
    return d - np.log(np.exp(d).sum(-1, keepdims=True))


def enumerated(z):
    """All C^m draws, one by one, in float64."""
    log_p = log_softmax(np.asarray(z, np.float64))
    m, classes = z.shape[-2:]
    out = np.full((*z.shape[:-2], classes), -np.inf)
    for draw in itertools.product(range(classes), repeat=m):
        term = sum(log_p[..., k, c] for k, c in enumerate(draw))
        y = sum(draw) % classes
        out[..., y] = np.logaddexp(out[..., y], term)
    return out


def recursion(z):
    """The log-domain recursion in float64, for sizes beyond enumeration."""
    log_p = log_softmax(np.asarray(z, np.float64))
    out, classes = log_p[..., 0, :], z.shape[-1]
    for k in range(1, z.shape[-2]):
        terms = [np.roll(out, j, -1) + log_p[..., k, j, None] for j in range(classes)]
        out = np.logaddexp.reduce(terms)
    return out


def nll(log_p, y):
    """-log p_y in float64 from what the other classes have, exact near 0."""
    return np.log1p(np.exp(np.delete(log_p, y) - log_p[y]).sum())


def draw(seed, m, classes, scale=1.0, batch=(8, 2)):
    z = scale * np.random.default_rng(seed).normal(size=(*batch, m, classes))
    return z.astype("f4")


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(("m", "classes"), SIZES, ids=str)
@given(seed=st.integers(0, 999), log_scale=st.floats(-3, 2))
@settings(max_examples=5, deadline=None)
def test_matches_enumeration(variant, m, classes, seed, log_scale):
    z = draw(seed, m, classes, 10**log_scale)
    got = VARIANTS[variant](links.checkered)(z)
    # near 0 the reference is the one that rounds
    np.testing.assert_allclose(got, enumerated(z), rtol=1e-5, atol=1e-14)


@pytest.mark.parametrize(("m", "classes"), [(8, 64), (20, 2), (5, 10)], ids=str)
def test_matches_the_recursion(m, classes):
    for scale in (0.1, 1, 10, 1e4):
        z = draw(0, m, classes, scale, (4,))
        got = links.checkered(z)
        np.testing.assert_allclose(got, recursion(z), rtol=1e-5, atol=1e-14)


@pytest.mark.sampled
@pytest.mark.parametrize(("m", "classes"), [(2, 3), (8, 16)], ids=str)
def test_cross_entropy_is_exact(m, classes):
    @jax.jit
    @jax.value_and_grad
    def total(z, y):
        return losses.cross_entropy(links.checkered(z), y).sum()

    for margin in (0.0, 12.0, 17.0, 40.0, 80.0):
        z = draw(3, m, classes, 1.0, (1,))[0]
        picked = np.random.default_rng(4).integers(0, classes, m)
        z[np.arange(m), picked] = z.max(-1) + np.float32(margin)
        y = picked.sum() % classes
        value, grad = jax.device_get(total(z, y))
        with jax.enable_x64(True):
            _, exact = jax.device_get(total(z.astype("f8"), y))
        np.testing.assert_allclose(value, nll(recursion(z), y), rtol=1e-5)
        # Near the saddle, where all is uniform, the slope is a difference of numbers
        # near 1 / C, and only as good as these.
        size = np.abs(exact).max() if margin else 0.1
        assert np.abs(grad - exact).max() <= 1e-5 * size, margin


def test_float64_gradient_is_that_of_the_paper(x64):
    z = draw(0, 3, 4, 2.0, (6,)).astype("f8")
    y = np.arange(6) % 4
    nll = lambda z: -jnp.sum(links.checkered(z)[np.arange(6), y])  # noqa: E731
    got = interpreted(jax.grad(nll))(z)
    p = enumerated(z)
    for i, k, c in itertools.product(range(6), range(3), range(4)):
        without = enumerated(np.delete(z[i], k, 0))
        s = np.exp(log_softmax(z[i, k]))[c]
        want = s * (1 - np.exp(without[(y[i] - c) % 4] - p[i, y[i]]))
        np.testing.assert_allclose(got[i, k, c], want, rtol=1e-9, atol=1e-12)
    assert (np.abs(got) < 1).all()


def test_worked_examples(x64):
    z = jnp.array([[1, 0, -1], [0, 0.5, 0]])
    p = np.exp(links.checkered(z))
    np.testing.assert_allclose(p, [0.29007553, 0.39234456, 0.31757991], atol=5e-9)
    grad = interpreted(jax.grad(lambda z: -links.checkered(z)[1]))(z)
    want = [
        [-0.10091625, 0.07377569, 0.02714056],
        [0.10311584, -0.31429444, 0.21117861],
    ]
    np.testing.assert_allclose(grad, want, atol=5e-9)
    np.testing.assert_allclose(links.checkoid(jnp.array([1.0, -2.0])), 0.3240271368)
    far = jnp.array([[1e4, 0, -1e4], [-1e4, 1e4, 0]])
    got = links.checkered(far)
    np.testing.assert_allclose(got[::2], [-19998.9014, -9999.3069], atol=5e-5)
    assert got[1] == 0


@pytest.mark.sampled
@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("link", [links.checkered, links.checkoid, links.checkoid_log])
def test_derivatives(link):
    check_derivatives(link, draw(0, 3, 4, batch=()).astype("f8"))


def test_factors_have_no_order_and_no_offset():
    z = draw(0, 4, 5)
    want = links.checkered(z)
    np.testing.assert_allclose(links.checkered(z[..., ::-1, :]), want, rtol=1e-5)
    np.testing.assert_allclose(links.checkered(z + 3), want, rtol=1e-5)


def test_axes():
    z = draw(0, 3, 4, batch=(2, 5))
    want, y = links.checkered(z), np.random.default_rng(0).integers(0, 4, (2, 5))
    q = links.checkered_responsibilities(z, y)
    spread = jax.nn.one_hot(y, 4)
    for axis, factor_axis in itertools.permutations(range(4), 2):
        moved = np.moveaxis(z, (-1, -2), (axis, factor_axis))
        axes = dict(axis=axis, factor_axis=factor_axis - 4)
        got = links.checkered(moved, **axes)
        place = axis - (factor_axis < axis)
        np.testing.assert_allclose(np.moveaxis(got, place, -1), want, rtol=1e-6)
        for labels in (y, np.moveaxis(spread, -1, place)):
            got = links.checkered_responsibilities(moved, labels, **axes)
            got = np.moveaxis(got, (axis, factor_axis), (-1, -2))
            np.testing.assert_allclose(got, q, rtol=1e-5)


@pytest.mark.parametrize(("m", "classes"), [(1, 3), (2, 2), (3, 4)], ids=str)
def test_responsibilities_are_posterior_marginals(m, classes):
    z = draw(1, m, classes, 2.0, (7,))
    y = np.arange(7) % classes
    log_p = log_softmax(z.astype("f8"))
    want = np.zeros(z.shape)
    for i in range(7):
        for one in itertools.product(range(classes), repeat=m):
            if sum(one) % classes == y[i]:
                p = np.exp(sum(log_p[i, k, c] for k, c in enumerate(one)))
                for k, c in enumerate(one):
                    want[i, k, c] += p
    want /= want.sum(-1, keepdims=True)
    got = interpreted(links.checkered_responsibilities)(z, y)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    dist = np.random.default_rng(0).dirichlet(np.ones(classes), 7).astype("f4")
    each = [links.checkered_responsibilities(z, np.full(7, c)) for c in range(classes)]
    mixed = sum(dist[:, c, None, None] * each[c] for c in range(classes))
    got = links.checkered_responsibilities(z, dist)
    np.testing.assert_allclose(got, mixed, rtol=1e-5)
    assert not np.any(jax.grad(lambda z: got.sum() + z.sum() * 0)(z))


def test_an_impossible_label_has_no_responsibilities():
    z = np.float32([[0, -np.inf], [0, -np.inf]])
    np.testing.assert_array_equal(links.checkered(z), [0, -np.inf])
    np.testing.assert_array_equal(
        links.checkered_responsibilities(z, 1), np.zeros((2, 2))
    )
    np.testing.assert_array_equal(links.checkered_responsibilities(z, 0), [[1, 0]] * 2)


def parity(p):
    """Probability of an even number of failures, coin by coin in float64."""
    even = np.ones(p.shape[:-1])
    for k in range(p.shape[-1]):
        even = even * p[..., k] + (1 - even) * (1 - p[..., k])
    return even


@given(seed=st.integers(0, 999), m=st.integers(1, 6), log_scale=st.floats(-3, 0.7))
@settings(max_examples=20, deadline=None)
def test_checkoid(seed, m, log_scale):
    z = draw(seed, m, 1, 10**log_scale)[..., 0]
    want = parity(1 / (1 + np.exp(-z.astype("f8"))))
    np.testing.assert_allclose(links.checkoid(z), want, atol=1e-6)
    even, odd = links.checkoid_log(z)
    np.testing.assert_allclose(even, np.log(want), rtol=1e-4)
    np.testing.assert_allclose(odd, np.log1p(-want), rtol=1e-4)
    both = links.checkered(np.stack([z, 0 * z], -1))
    np.testing.assert_allclose(both, np.stack([even, odd], -1), rtol=1e-5)
    np.testing.assert_allclose(
        links.checkoid(-z) if m % 2 else links.checkoid(z),
        (1 - want if m % 2 else want),
        atol=1e-6,
    )
    z[..., 0] = 0
    np.testing.assert_array_equal(links.checkoid(z), 0.5)
    np.testing.assert_allclose(links.checkoid_log(z), np.log(0.5), rtol=1e-6)


def test_checkoid_flips_with_a_coin():
    z = draw(0, 4, 1)[..., 0]
    flipped = z * np.float32([1, -1, 1, 1])
    np.testing.assert_allclose(
        links.checkoid(flipped), 1 - links.checkoid(z), rtol=1e-5
    )
    labels = (z < 0).sum(-1) % 2
    np.testing.assert_array_equal(links.checkoid(z) < 0.5, labels)


@pytest.mark.parametrize("margin", [12, 17, 40, 80])
def test_checkoid_log_is_exact(margin):
    for signs in itertools.product((1.0, -1.0), repeat=3):
        z = np.float32(signs) * np.float32([margin, margin + 1, margin + 2])
        parts = jax.jit(links.checkoid_log)(z)
        q = np.exp(-np.abs(z.astype("f8")))
        fail = q / (1 + q)  # each coin against its lean; three at once are too few
        odd = fail.sum() - 2 * (fail[0] * fail[1:].sum() + fail[1] * fail[2])
        near, far = np.log1p(-odd), np.log(odd)
        want = (near, far) if np.prod(signs) > 0 else (far, near)
        np.testing.assert_allclose(parts, want, rtol=1e-5)


def test_edges():
    f, coins = jax.jit(links.checkered), jax.jit(jax.vmap(links.checkoid_log))
    slope = jax.jit(jax.grad(lambda z: losses.cross_entropy(links.checkered(z), 1)))
    torture = {
        "zeros": np.zeros((2, 3)),
        "1e4": 1e4 * np.float32([[1, 0, -1], [-1, 1, 0]]),
        "1e30": BIG * np.float32([[1, 0, -1], [-1, 1, 0]]),
        "1e30 everywhere": np.full((2, 3), BIG),
        "-inf in a factor": np.where([[True, False, False], [False] * 3], -np.inf, 1.0),
        "-inf everywhere": np.full((2, 3), -np.inf),
        "one -inf each": np.float32([[-np.inf, 0, 1], [2, -np.inf, 0]]),
    }
    for name, z in torture.items():
        z = z.astype("f4")
        assert not np.isnan(f(z)).any(), name
        assert np.isfinite(slope(z)).all(), name
        assert not np.isnan(coins(z)).any(), name
    assert (slope(np.zeros((2, 3), "f4")) == 0).all()  # the saddle
    assert (np.abs(slope(np.zeros((1, 3), "f4"))) > 0).all()  # none with one factor
    assert f(np.zeros((0, 2, 3), "f4")).shape == (0, 3)
    assert f(jnp.zeros((2, 3), "bfloat16")).dtype == np.float32
    grad = interpreted(jax.grad(lambda z: links.checkered(z)[0]))
    grad = grad(jnp.zeros((2, 3), "bfloat16"))
    assert grad.dtype == jnp.bfloat16


def test_where_is_about_a_factor():
    z = draw(0, 2, 4, batch=(3,))
    where = np.array([[[True, True, False, True], [True, False, True, True]]])
    want = enumerated(np.where(where, z, -np.inf))
    got = links.checkered(z, where=where)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    wild = np.where(where, z, np.nan)
    np.testing.assert_array_equal(links.checkered(wild, where=where), got)
    grad = interpreted(jax.grad(lambda z: links.checkered(z, where=where).sum()))(wild)
    assert np.isfinite(grad).all()
    assert (grad[:, ~where[0]] == 0).all()
    alone = links.checkered(
        z[:, :1], where=where[:, :1]
    )  # one factor: a masked softmax
    np.testing.assert_allclose(
        alone[:, [0, 1, 3]], log_softmax(z[:, 0, [0, 1, 3]]), 1e-5
    )
    assert (alone[:, 2] == -np.inf).all()


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_sharded_batch(kind):
    mesh = jax.make_mesh((8,), ("data",), (kind,))
    z = draw(0, 3, 5, batch=(8,))
    z_on = jax.device_put(z, NamedSharding(mesh, P("data")))
    compiled = jax.jit(links.checkered).lower(z_on).compile()
    assert "all-gather" not in compiled.as_text()
    np.testing.assert_allclose(compiled(z_on), enumerated(z), rtol=1e-5)


def test_temporaries():
    z = jnp.zeros((4096, 8, 64))
    y = jnp.zeros(4096, jnp.int32)

    def value(z):
        return losses.cross_entropy(links.checkered(z), y).mean()

    for function, most in ((value, 4), (jax.value_and_grad(value), 10)):
        analysis = jax.jit(function).lower(z).compile().memory_analysis()
        assert analysis.temp_size_in_bytes <= most * z.nbytes


@pytest.mark.parametrize(
    ("shape", "axes", "message"),
    [
        ((0, 3), {}, r"factor_logits has shape \(0, 3\), expected at least one factor"),
        (
            (2, 1),
            {},
            r"factor_logits has shape \(2, 1\), expected at least two classes",
        ),
        ((3,), {}, r"factor_axis -2 is not an axis of factor_logits with shape \(3,\)"),
        ((2, 3), {"axis": 2}, "axis 2 is not an axis of factor_logits"),
        ((2, 3), {"factor_axis": 1}, "axis and factor_axis are both 1"),
        ((2, 3), {"where": np.ones((4, 3), bool)}, r"where has shape \(4, 3\)"),
    ],
)
def test_errors(shape, axes, message):
    with pytest.raises(ValueError, match=message):
        links.checkered(np.zeros(shape, "f4"), **axes)
    with pytest.raises(ValueError, match=message):
        links.checkered_responsibilities(np.zeros(shape, "f4"), 0, **axes)


def test_more_errors():
    with pytest.raises(TypeError, match="factor_logits has dtype int"):
        links.checkered(np.zeros((2, 3), int))
    with pytest.raises(ValueError, match=r"labels outside \[0, 3\)"):
        inspect.unwrap(links.checkered_responsibilities)(np.zeros((2, 3), "f4"), 3)
    with pytest.raises(ValueError, match=r"labels has shape \(2,\), expected \(3,\)"):
        links.checkered_responsibilities(np.zeros((2, 3), "f4"), np.zeros(2, "f4"))
    late = jax.jit(links.checkered_responsibilities)(np.zeros((2, 3), "f4"), 3)
    assert np.isnan(late).all()
    for function in (links.checkoid, links.checkoid_log):
        with pytest.raises(ValueError, match="expected at least one coin"):
            function(np.zeros((3, 0), "f4"))
        with pytest.raises(ValueError, match="axis 2 is not an axis of z"):
            function(np.zeros(3, "f4"), axis=2)


@pytest.mark.optimized
def test_factor_logits_that_the_same_program_scales():
    z, y = draw(0, 3, 4, batch=(50,)), np.arange(50) % 4

    @jax.jit
    def value(z, factor):
        return losses.cross_entropy(links.checkered(z * factor), y)

    for factor in np.float32([1.43, 0.31, 7.7]):
        want = value(z * factor, np.float32(1))
        np.testing.assert_allclose(value(z, factor), want, rtol=1e-4)


@pytest.mark.sampled
@pytest.mark.optimized
@pytest.mark.parametrize("classes", [3, 10, 100])
def test_factor_logits_that_the_same_program_normalizes(classes):
    rng, rows = np.random.default_rng(0), np.arange(16)
    x = rng.normal(size=(16, 2, classes)).astype("f4")
    picked = rng.integers(0, classes, (16, 2))
    x[rows[:, None], [0, 1], picked] += np.linspace(2, 9.5, 16)[:, None]
    g = rng.uniform(5, 7, (1, 1, classes)).astype("f4")
    b, y = rng.normal(size=g.shape).astype("f4"), picked.sum(-1) % classes

    def both(x, g, b):
        def loss(x):
            d = x - x.mean(-1, keepdims=True)
            z = d * jax.lax.rsqrt((d**2).mean(-1, keepdims=True) + 1e-6) * g + b
            return losses.cross_entropy(links.checkered(z), y)

        value, pull = jax.vjp(loss, x)
        return value, *pull(jnp.ones_like(value))

    with jax.enable_x64(True):
        want = interpreted(both)(x.astype("f8"), g.astype("f8"), b.astype("f8"))
    for got, exact in zip(jax.jit(both)(x, g, b), want, strict=True):
        size = np.abs(exact).reshape(16, -1).max(-1)
        error = np.abs(got - exact).reshape(16, -1).max(-1)
        # The logits' own rounding is an error in the exponent.
        assert (error <= 5e-5 * size).all(), error / size
