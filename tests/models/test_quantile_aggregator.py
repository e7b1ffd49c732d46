import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import cases
from harness.interpreter import interpreted

from logitlab import losses
from logitlab.models import QuantileAggregator

CASES = cases("quantile_aggregation")
KEY = jax.random.key(0)
RNG = np.random.default_rng(0)
TAILS = {"coarse": (3,), "medium": (3, 4), "fine": (3, 4, 4)}


def draw(model, *given):
    rng = np.random.default_rng(2)
    shapes = jax.eval_shape(model.init, KEY, *given)
    return jax.tree.map(
        lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes
    )


def combined(kind, w, base):
    """Of one example, in float64 NumPy."""
    w, base = np.asarray(w, np.float64), np.asarray(base, np.float64)
    p = np.exp(w)
    if kind == "fine":
        return np.einsum("kij,ki->j", p / p.sum((0, 1)), base)
    p = p / p.sum(0)
    return np.einsum("k,kq->q" if kind == "coarse" else "kq,kq->q", p, base)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("order", "name"),
    [
        ("sweep", "min_max_sweep"),
        ("cummax", "cummax"),
        ("average", "average_cummin_cummax"),
        ("isotonic", "isotonic"),
        ("isotonic", "pava_mask_output"),
    ],
)
def test_golden(x64, case, order, name):
    """A single model has nothing to be mixed with: its quantiles are put in order."""
    pred = np.asarray(case["inputs"]["pred"])
    model = QuantileAggregator("medium", order=order)
    got = model.apply(model.init(KEY, pred[:, None]), pred[:, None])
    np.testing.assert_allclose(got, case["outputs"][name], rtol=1e-8, atol=1e-12)


@pytest.mark.sampled
@pytest.mark.parametrize("kind", TAILS)
def test_global_weights(kind):
    base = RNG.normal(size=(2, 5, 3, 4)).astype("f4")
    model = QuantileAggregator(kind)
    variables = draw(model, base)
    assert variables["params"]["weights"].shape == TAILS[kind]
    got = jax.jit(model.apply)(variables, base)
    want = [
        combined(kind, variables["params"]["weights"], b)
        for b in base.reshape(-1, 3, 4)
    ]
    np.testing.assert_allclose(got, np.reshape(want, (2, 5, 4)), rtol=1e-5, atol=1e-6)


@pytest.mark.sampled
@pytest.mark.parametrize("kind", TAILS)
def test_local_weights(x64, kind):
    base, x = RNG.normal(size=(5, 3, 4)), RNG.normal(size=(5, 2))
    model = QuantileAggregator(kind, widths=(6, 7), param_dtype=jnp.float64)
    variables = draw(model, base, x)
    params = variables["params"]
    h = x
    for name in ("hidden_0", "hidden_1"):
        h = h @ params[name]["kernel"] + params[name]["bias"][None]
        h = np.where(h > 0, h, np.expm1(np.minimum(h, 0)))
    w = h @ params["head"]["kernel"] + params["head"]["bias"][None]
    want = [combined(kind, w[i].reshape(TAILS[kind]), base[i]) for i in range(5)]
    got = jax.jit(model.apply)(variables, base, x)
    np.testing.assert_allclose(got, want, rtol=1e-10)
    one = model.apply(variables, base[0], x[0])
    np.testing.assert_allclose(one, want[0], rtol=1e-10)


@pytest.mark.sampled
@pytest.mark.parametrize("widths", [(), (5,)])
def test_starts_as_the_average(widths):
    base = RNG.normal(size=(5, 3, 4)).astype("f4")
    given = (base, RNG.normal(size=(5, 2)).astype("f4"))[: 1 + bool(widths)]
    for kind in TAILS:
        model = QuantileAggregator(kind, widths)
        variables = interpreted(model.init)(KEY, *given)
        got = interpreted(model.apply)(variables, *given)
        want = base.mean((1, 2))[:, None] if kind == "fine" else base.mean(1)
        np.testing.assert_allclose(got, np.broadcast_to(want, got.shape), atol=1e-6)


@pytest.mark.sampled
@pytest.mark.parametrize("widths", [(), (16,)])
def test_learns_whom_to_trust(widths):
    """Three models, of which one is right for negative x and another for the rest."""
    levels = jnp.float32([0.1, 0.5, 0.9])
    rng = np.random.default_rng(1)
    x = rng.normal(size=(400, 1)).astype("f4")
    y = rng.normal(size=400).astype("f4")
    right = np.float32([-1.28, 0, 1.28])
    base = np.stack([right + 3 * (x > 0), right + 3 * (x <= 0), right + 2 + 0 * x], 1)
    model = QuantileAggregator("coarse", widths, order="sort")
    given = (base, x)[: 1 + bool(widths)]

    def loss(variables):
        return losses.pinball_loss(model.apply(variables, *given), y, levels).mean()

    @jax.jit
    def step(variables):
        value, grads = jax.value_and_grad(loss)(variables)
        return value, jax.tree.map(lambda p, g: p - g, variables, grads)

    variables = interpreted(model.init)(KEY, *given)
    before, _ = step(variables)
    for _ in range(150):
        after, variables = step(variables)
    best = interpreted(losses.pinball_loss)(np.tile(right, (400, 1)), y, levels).mean()
    assert after < before
    assert (after < best + 0.1 * (before - best)) == bool(widths)


@pytest.mark.sampled
@pytest.mark.parametrize("order", ["sort", "isotonic", "sweep", "cummax", "average"])
def test_order(order):
    base = RNG.normal(size=(50, 3, 4)).astype("f4")
    model = QuantileAggregator("medium", order=order)
    variables = draw(model, base)

    @interpreted
    def run(variables, base):
        slopes = jax.grad(lambda v: model.apply(v, base).sum())(variables)
        plain = QuantileAggregator("medium").apply(variables, base)
        return model.apply(variables, base), plain, slopes

    got, plain, slopes = run(variables, base)
    assert (np.diff(got) >= 0).all()
    assert (np.diff(plain) < 0).any()
    assert np.isfinite(slopes["params"]["weights"]).all()


@pytest.mark.parametrize(
    ("fields", "shapes", "message"),
    [
        (dict(kind="finest"), [(3, 4)], "kind is 'finest', expected one of"),
        (dict(order="up"), [(3, 4)], "order is 'up', expected None or one of"),
        (dict(widths=(3,)), [(3, 4)], r"x is missing and widths is \(3,\)"),
        ({}, [(3, 4), (2,)], r"x is given and widths is \(\)"),
        ({}, [(4,)], r"base has shape \(4,\), expected \[..., K, Q\]"),
        (dict(widths=(3,)), [(5, 3, 4), (4, 2)], r"x has shape \(4, 2\), expected"),
    ],
)  # fmt: skip
def test_errors(fields, shapes, message):
    with pytest.raises(ValueError, match=message):
        QuantileAggregator(**fields).init(KEY, *(jnp.ones(shape) for shape in shapes))
