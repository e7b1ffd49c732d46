import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.goldens import cases
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from logitlab.optim import gradient_projection_merge, ortho_grad

CASES = cases("ortho_grad")


def reference(g, w, eps=1e-30, renormalize=True):
    t = g - (w * g).sum() / ((w * w).sum() + eps) * w
    if renormalize:
        t = t * np.linalg.norm(g.ravel()) / (np.linalg.norm(t.ravel()) + eps)
    return t


def project(grads, params, **options):
    transform = ortho_grad(**options)
    return jax.jit(transform.update)(grads, transform.init(params), params)[0]


def random_tree(seed, scale=1.0, dtype="f4"):
    rng = np.random.default_rng(seed)
    draw = lambda *shape: jnp.asarray(rng.normal(size=shape) * scale, dtype)  # noqa: E731
    return {"a": draw(3, 4), "b": [draw(5), draw(2, 2, 2)]}


@pytest.mark.parametrize("case", [c for c in CASES if "grads" in c["inputs"]])
@pytest.mark.usefixtures("x64")
def test_golden(case):
    params, grads = ([np.array(a) for a in v] for v in case["inputs"].values())
    got = project(grads, params, **case["params"])
    for a, b in zip(got, case["outputs"]["ortho_grads"], strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


@pytest.mark.parametrize("case", [c for c in CASES if "w0" in c["inputs"]])
@pytest.mark.usefixtures("x64")
def test_golden_trajectory(case):
    settings = case["params"]
    optimizer = optax.chain(
        ortho_grad(renormalize=settings["renormalize"]),
        optax.sgd(settings["lr"], settings["momentum"]),
    )
    w = jnp.asarray(case["inputs"]["w0"])
    state = optimizer.init(w)
    sequence = zip(
        case["inputs"]["grads_sequence"], case["outputs"]["trajectory"], strict=True
    )
    for g, want in sequence:
        updates, state = jax.jit(optimizer.update)(jnp.asarray(g), state, w)
        w = optax.apply_updates(w, updates)
        np.testing.assert_allclose(w, want, rtol=1e-9)


@pytest.mark.parametrize("renormalize", [True, False])
@pytest.mark.parametrize("per_leaf", [True, False])
@pytest.mark.usefixtures("x64")
def test_matches_numpy(renormalize, per_leaf):
    grads, params = random_tree(0, dtype="f8"), random_tree(1, dtype="f8")
    got = project(grads, params, renormalize=renormalize, per_leaf=per_leaf)
    leaves = [jax.tree.leaves(jax.tree.map(np.array, t)) for t in (grads, params, got)]
    if not per_leaf:
        leaves = [[np.concatenate([a.ravel() for a in tree])] for tree in leaves]
    for g, w, t in zip(*leaves, strict=True):
        want = reference(g, w, renormalize=renormalize)
        np.testing.assert_allclose(t, want, rtol=1e-9)
        assert abs((t * w).sum()) < 1e-12
        if renormalize:
            np.testing.assert_allclose(np.linalg.norm(t), np.linalg.norm(g), rtol=1e-9)


@pytest.mark.sampled(4)
@pytest.mark.parametrize("per_leaf", [True, False])
@pytest.mark.parametrize(("scale_g", "scale_w"), [(1e-25, 1e25), (1e25, 1), (1, 1e37)])
def test_extreme_scales(scale_g, scale_w, per_leaf):
    """Squares that float32 cannot hold change nothing."""
    grads, params = random_tree(0, scale_g), random_tree(1, scale_w)
    got = project(grads, params, per_leaf=per_leaf, eps=0.0)
    small = jax.tree.map(lambda a, s=scale_g: a / s, grads)
    want = project(small, random_tree(1), per_leaf=per_leaf, eps=0.0)
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a / np.float32(scale_g), b, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("renormalize", [True, False])
def test_eps(renormalize):
    """eps means what it does in the original: added to <w, w> and to the new norm."""
    g, w = np.random.default_rng(0).normal(size=(2, 5))
    for scale, eps in ((1e-15, 1e-30), (1e-3, 1e-7), (1.0, 0.5), (1e-20, 1e-30)):
        w_scaled = (w * scale).astype("f4")
        want = reference(g, w_scaled.astype("f8"), eps, renormalize)
        got = project(g.astype("f4"), w_scaled, eps=eps, renormalize=renormalize)
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)
    tiny = (g * 1e-25).astype("f4")
    got = project(tiny, w.astype("f4"), renormalize=renormalize)
    want = reference(tiny.astype("f8"), w, renormalize=renormalize)
    np.testing.assert_allclose(got / 1e-25, want / 1e-25, rtol=1e-4, atol=1e-6)


def test_zeros():
    g = np.float32([1, -2, 3])
    for eps in (1e-30, 0.0):
        np.testing.assert_allclose(project(g, 0 * g, eps=eps), g, rtol=1e-6)
        np.testing.assert_array_equal(project(0 * g, g, eps=eps), 0 * g)
        np.testing.assert_array_equal(project(0 * g, 0 * g, eps=eps), 0 * g)
    for big in (1.0, 1e20):  # a scalar is parallel to any other
        np.testing.assert_array_equal(project(np.float32([big]), np.float32([3])), [0])
        assert project(np.float32(big), np.float32(3)) == 0
    empty = np.zeros((0, 3), "f4")
    assert project([empty, g], [empty, g])[0].shape == (0, 3)


def test_min_ratio():
    w = np.float32([1, 2, 3])
    noisy = project(w * np.float32(0.7), w)  # parallel: rounding noise, blown up
    quiet = project(w * np.float32(0.7), w, min_ratio=1e-3)
    assert np.abs(quiet).max() < 1e-6
    assert np.isfinite(noisy).all()
    g = np.float32([1, 0, 0])  # far from parallel: renormalised as ever
    np.testing.assert_array_equal(project(g, w, min_ratio=1e-3), project(g, w))


def test_mask():
    grads, params = random_tree(0), random_tree(1)
    by_rank = lambda tree: jax.tree.map(lambda a: a.ndim > 1, tree)  # noqa: E731
    for mask in (by_rank, by_rank(params)):
        got = project(grads, params, mask=mask)
        np.testing.assert_array_equal(got["b"][0], grads["b"][0])
        want = project(grads["a"], params["a"])
        np.testing.assert_allclose(got["a"], want, rtol=1e-6)
    kept = project(grads, params, mask=by_rank, per_leaf=False)
    np.testing.assert_array_equal(kept["b"][0], grads["b"][0])
    some = [grads["a"], grads["b"][1]], [params["a"], params["b"][1]]
    np.testing.assert_allclose(
        kept["a"], project(*some, per_leaf=False)[0], rtol=1e-5, atol=1e-7
    )


def test_half_precision():
    grads, params = random_tree(0, dtype="bfloat16"), random_tree(1)
    for p in (params, jax.tree.map(lambda a: a.astype("bfloat16"), params)):
        got = project(grads, p)
        wide = jax.tree.map(lambda a: a.astype("f4"), (grads, p))
        for a, b in zip(
            jax.tree.leaves(got), jax.tree.leaves(project(*wide)), strict=True
        ):
            assert a.dtype == "bfloat16"
            np.testing.assert_array_equal(a, b.astype("bfloat16"))


def test_chains_with_adam():
    target = random_tree(2)

    def loss(params):
        gaps = jax.tree.map(lambda p, t: ((p - t) ** 2).sum(), params, target)
        return sum(jax.tree.leaves(gaps))

    optimizer = optax.chain(ortho_grad(), optax.adam(1e-2))
    params = random_tree(1)

    @jax.jit
    def run(params):
        def step(carry, _):
            params, state = carry
            value, grads = jax.value_and_grad(loss)(params)
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), value

        return jax.lax.scan(step, (params, optimizer.init(params)), None, 100)

    (params, _), values = run(params)
    assert np.isfinite(values).all()
    assert values[-1] < values[0]
    assert jax.tree.leaves(ortho_grad().init(params)) == []


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_sharded(kind):
    mesh = jax.make_mesh((4, 2), ("data", "model"), (kind, kind))
    rng = np.random.default_rng(0)
    g, w = rng.normal(size=(2, 8, 6)).astype("f4")
    on = [jax.device_put(a, NamedSharding(mesh, P("data", "model"))) for a in (g, w)]
    transform = ortho_grad()
    step = jax.jit(lambda g, w: transform.update(g, transform.init(w), w)[0])
    compiled = step.lower(*on).compile()
    assert "all-gather" not in compiled.as_text()
    np.testing.assert_allclose(compiled(*on), reference(g, w), rtol=1e-4, atol=1e-6)


def test_errors():
    transform = ortho_grad()
    with pytest.raises(ValueError, match="ortho_grad needs params"):
        transform.update(np.ones(3), transform.init(np.ones(3)))
    for name in ("eps", "min_ratio"):
        with pytest.raises(ValueError, match=f"{name} is -1, expected a number from 0"):
            ortho_grad(**{name: -1})


@pytest.mark.parametrize("case", cases("ramp_gp"))
@pytest.mark.usefixtures("x64")
def test_golden_merge(case):
    trees = [case["inputs"][name] for name in ("old", "natural", "adversarial")]
    trees = [{k: np.array(a) for k, a in tree.items()} for tree in trees]
    got = gradient_projection_merge(*trees, **case["params"])
    for name, want in case["outputs"]["fused"].items():
        np.testing.assert_allclose(got[name], want, rtol=1e-8)


def test_merge_of_extreme_updates():
    """Cosines do not depend on scale; no update has none; dtypes survive."""
    old = jnp.zeros(2)
    for scale in (1e-30, 1.0, 1e30):
        natural, adversarial = scale * jnp.float32([[3, 4], [3, -4]])
        got = jax.jit(gradient_projection_merge)(old, natural, adversarial)
        np.testing.assert_allclose(got, adversarial / 2, rtol=1e-6)  # cosine below 0
        got = gradient_projection_merge(old, natural, natural)
        np.testing.assert_allclose(got, natural, rtol=1e-6)
    still = gradient_projection_merge(old, old, jnp.ones(2))
    np.testing.assert_array_equal(still, [0.5, 0.5])
    small = jnp.zeros(2, jnp.bfloat16)
    assert gradient_projection_merge(small, small, small).dtype == jnp.bfloat16


def test_merge_refuses():
    w = {"a": np.zeros(3, "f4")}
    with pytest.raises(ValueError, match=r"natural\['a'\] has shape \(2,\)"):
        gradient_projection_merge(w, {"a": np.zeros(2, "f4")}, w)
    with pytest.raises(ValueError, match="beta is 2, expected a number in"):
        gradient_projection_merge(w, w, w, beta=2)
