import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import arrays, cases, close
from harness.interpreter import interpreted

from logitlab import models

TOKENS = np.random.default_rng(0).integers(0, 11, (3, 12))
SETTINGS = dict(vocabulary=11, classes=7, width=16, layers=2, heads=4, context=12)


def transformer(norms="layer"):
    return models.CausalTransformer(**SETTINGS, norms=norms)


def fine_tuned():
    """A model whose norms have other scales and biases than at the start."""
    variables = interpreted(transformer().init)(jax.random.key(0), TOKENS)
    rng = np.random.default_rng(1)

    def moved(a):
        return a + 0.3 * rng.normal(size=a.shape).astype(a.dtype)

    return jax.tree.map(moved, variables["params"])


@pytest.mark.parametrize("case", cases("fake_layer_norm"))
def test_golden(x64, case):
    x, gamma, beta = arrays(case, "x", "gamma", "beta")
    p, outputs = case["params"], case["outputs"]
    norm = models.FakeLayerNorm(
        momentum=p["momentum"],
        first_token_special=p["bos_special"],
        exclude_first=p["exclude_bos_from_average"],
        param_dtype=jnp.float64,
    )
    start = {"": p["init_avg_std"], "_first": p["init_bos_std"]}
    stats = {f"running{of}": np.array(value) for of, value in start.items()}
    stats |= {f"frozen{of}": np.array([value]) for of, value in start.items()}
    stats |= dict(fake=np.array([False]), first=np.array(p["bos_special"]))
    params = {"scale": gamma, "bias": beta}

    @interpreted
    def apply(stats, x):
        variables = {"params": params, "stats": stats}
        return norm.apply(variables, x, mutable="stats")

    real, changed = apply(stats, x)
    close(real, outputs["y_real"], 1e-12)
    after = dict(changed["stats"]) | {"fake": np.array([True])}
    if not p["sync_before_fake"]:  # the norm was fake from the start, but for its flag
        after |= {name: stats[name] for name in ("frozen", "frozen_first")}
    fake, last = apply(after, x)
    close(fake, outputs["y_fake"], 1e-12)
    last = last["stats"]
    close(last["running"], outputs["avg_std_after_two_passes"], 1e-12)
    close(last["running_first"], outputs["bos_std_after_two_passes"], 1e-12)
    used = np.full(x.shape[1], last["frozen"][0])
    used[0] = last["frozen_first"][0] if p["bos_special"] else used[0]
    close(used, outputs["std_vector_used"], 1e-12)
    plain = interpreted(models.fixed_std_norm)(
        x, np.broadcast_to(used, x.shape[:2]), scale=gamma, bias=beta
    )
    close(plain, outputs["y_fake"], 1e-12)


def test_a_real_norm_is_a_layer_norm_of_the_same_parameters():
    params = fine_tuned()
    want = interpreted(transformer().apply)({"params": params}, TOKENS)
    fake = transformer("fake")
    stats = jax.eval_shape(fake.init, jax.random.key(0), TOKENS)["stats"]
    stats = jax.tree.map(lambda a: np.ones(a.shape, a.dtype), stats)
    stats = models.LnRemovalSchedule(2)(stats, 0)
    got = interpreted(fake.apply)({"params": params, "stats": stats}, TOKENS)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    shapes = jax.eval_shape(fake.init, jax.random.key(0), TOKENS)["params"]
    assert jax.tree.map(np.shape, params) == jax.tree.map(np.shape, shapes)


def test_a_folded_network_has_no_norms():
    """To 1e-5 of the frozen one, with another constant for every reader."""
    params, fake = fine_tuned(), transformer("fake")
    schedule = models.LnRemovalSchedule(2, start=1, gaps=(1, 1, 2), last=(1, 1))
    variables = interpreted(fake.init)(jax.random.key(0), TOKENS)
    stats, seen = variables["stats"], set()
    apply = interpreted(lambda v, x: fake.apply(v, x, mutable="stats"))
    for step in range(schedule.end + 1):
        stats = schedule(stats, step)
        tokens = np.random.default_rng(step).integers(0, 11, (2, 12))
        _, changed = apply({"params": params, "stats": stats}, tokens)
        stats = changed["stats"]
        seen.add(sum(int(np.sum(own["fake"])) for own in stats.values()))
    assert {0, 1, 7} <= seen  # one after another
    constants = [float(s) for own in stats.values() for s in own["frozen"]]
    assert len(set(constants)) == 7
    want, _ = apply({"params": params, "stats": stats}, TOKENS)
    folded = models.fold_layer_norm(params, stats)
    got = interpreted(transformer("none").apply)({"params": folded}, TOKENS)
    np.testing.assert_allclose(got, want, atol=1e-5 * np.abs(want).max())
    shapes = jax.eval_shape(transformer("none").init, jax.random.key(0), TOKENS)
    assert jax.tree.map(np.shape, folded) == jax.tree.map(np.shape, shapes["params"])
    real = schedule(stats, schedule.end - 1)
    with pytest.raises(ValueError, match="has a special first position, expected all"):
        models.fold_layer_norm(params, real)
    with pytest.raises(ValueError, match="norm 'attention_norm_0' is real"):
        models.fold_layer_norm(params, schedule(stats, 2))
    with pytest.raises(ValueError, match="stats has norms"):
        models.fold_layer_norm(folded, stats)


def test_averages_go_on_and_constants_stay():
    norm = models.FakeLayerNorm(momentum=0.5)
    x = np.float32(np.random.default_rng(0).normal(size=(2, 3, 4)))
    variables = interpreted(norm.init)(jax.random.key(0), x)
    apply = interpreted(lambda v, x, mask: norm.apply(v, x, mask=mask, mutable="stats"))
    mask = np.array([[True, True, False]] * 2)
    x[:, 2] = np.nan  # behind the mask
    _, changed = apply(variables, x, mask)
    running = changed["stats"]["running"]
    want = 0.5 + 0.5 * np.sqrt(x[:, :2].var(-1) + 1e-5).mean()
    np.testing.assert_allclose(running, want, rtol=1e-6)
    np.testing.assert_array_equal(changed["stats"]["frozen"], [running])
    stats = changed["stats"] | {"fake": np.array([True])}
    _, later = apply({**variables, "stats": stats}, 10 * x, mask)
    assert later["stats"]["running"] > 2 * running
    np.testing.assert_array_equal(later["stats"]["frozen"], [running])
    # without a token that counts nothing moves, and without leave neither
    _, still = apply(variables, x, np.zeros((2, 3), bool))
    assert still["stats"]["running"] == 1
    assert norm.apply(variables, x[:, :2]).shape == (2, 2, 4)


def test_constants_have_no_slope():
    """The gradient of a fake norm is that of an affine map."""
    norm = models.FakeLayerNorm()
    x = np.float32(np.random.default_rng(0).normal(size=(1, 3, 4)))
    variables = interpreted(norm.init)(jax.random.key(0), x)
    stats = variables["stats"] | {"fake": np.array([True])}

    def total(x):
        y, _ = norm.apply({**variables, "stats": stats}, x, mutable="stats")
        return (y * jnp.arange(4.0)[None, None]).sum()

    slope = interpreted(jax.grad(total))(x)
    want = np.broadcast_to(np.arange(4) - 1.5, x.shape)
    np.testing.assert_allclose(slope, want, rtol=1e-6)
    zero = interpreted(jax.grad(total))(np.zeros_like(x))
    np.testing.assert_allclose(zero, want, rtol=1e-6)


def test_16_bits():
    norm = models.FakeLayerNorm(param_dtype=jnp.bfloat16)
    x = jnp.ones((1, 2, 4), jnp.bfloat16) * 300
    variables = norm.init(jax.random.key(0), x)
    y, changed = norm.apply(variables, x, mutable="stats")
    assert y.dtype == jnp.bfloat16
    assert changed["stats"]["running"].dtype == jnp.float32
    assert models.fixed_std_norm(x, 2.0).dtype == jnp.float32


def test_the_order_of_the_schedule():
    schedule = models.LnRemovalSchedule(3, start=20, gaps=(2, 2, 3), last=(2, 10))
    assert [schedule.steps[f"units_norm_{i}"] for i in range(3)] == [
        (20,),
        (22,),
        (24,),
    ]
    steps = [schedule.steps[f"attention_norm_{i}"] for i in range(3)]
    assert steps == [(26, 33), (28, 36), (30, 39)]
    assert schedule.steps["head_norm"] == (41,)
    assert schedule.end == 51
    at_once = models.LnRemovalSchedule(2, start=7, gaps=(0, 0, 0), last=(0, 0))
    assert {s for steps in at_once.steps.values() for s in steps} == {7}


def test_bad_input():
    with pytest.raises(ValueError, match=r"gaps is \(1, 2\), expected 3 numbers"):
        models.LnRemovalSchedule(2, gaps=(1, 2))
    with pytest.raises(ValueError, match="layers is 0, expected at least 1"):
        models.LnRemovalSchedule(0)
    with pytest.raises(ValueError, match=r"stats has norms \['x'\], expected"):
        models.LnRemovalSchedule(1)({"x": {}}, 0)
    with pytest.raises(ValueError, match=r"x has shape \(4,\), expected"):
        models.FakeLayerNorm().init(jax.random.key(0), jnp.ones(4))
    with pytest.raises(ValueError, match="std is 0.0, expected positive"):
        models.fixed_std_norm(jnp.ones(4), 0.0)
    with pytest.raises(
        ValueError, match=r"std has shape \(3,\), expected \(\) or \(2,"
    ):
        models.fixed_std_norm(jnp.ones((2, 4)), jnp.ones(3))
    with pytest.raises(ValueError, match=r"scale has shape \(3,\), expected \(4,\)"):
        models.fixed_std_norm(jnp.ones(4), 1.0, scale=jnp.ones(3))
    with pytest.raises(ValueError, match="norms is 'no', expected 'layer'"):
        transformer("no").init(jax.random.key(0), TOKENS)
