import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import arrays, cases, close
from harness.interpreter import interpreted

from logitlab import losses, metrics, models


def tapped_loss(params, taps, batch, key=None):
    """Of logits = tanh(x W1 + b1) W2 + b2, without a module."""
    layers, h = {}, batch["x"]
    for at, name in ((1, "0"), (2, "2")):
        out = h @ params[f"W{at}"] + params[f"b{at}"][None]
        out = out if taps is None else out + taps[name]
        layers[name], h = (h, out), jnp.tanh(out)
    labels = batch["y"]
    if key is not None:
        labels = jax.random.categorical(key, jax.lax.stop_gradient(out))
    return losses.cross_entropy(out, labels), layers


def split(case):
    inputs = arrays(case)
    params = {name: inputs[name] for name in ("W1", "b1", "W2", "b2")}
    train = {"x": inputs["x"], "y": inputs["labels"]}
    return params, {"x": inputs["x_query"], "y": inputs["labels_query"]}, train


@pytest.mark.parametrize("case", cases("ekfac_influence"))
def test_golden(x64, case):
    params, queries, train = split(case)
    strategy, outputs = case["params"]["strategy"], case["outputs"]

    @interpreted
    def run(params):
        factors = metrics.ekfac_covariances(tapped_loss, params, train)
        state = metrics.kfac_state(factors)
        if strategy == "ekfac":
            state = metrics.ekfac_fit(tapped_loss, params, train, chunk=4)
        scores = metrics.influence_scores(
            tapped_loss,
            params,
            queries,
            train,
            state=None if strategy == "identity" else state,
            damping=case["params"]["damping"],
            chunk=3,
            query_chunk=1,
        )
        return factors, scores

    factors, scores = run(params)
    close(scores, outputs["pairwise_scores"], 1e-12)
    for name, want in outputs.get("num_examples", {}).items():
        factor = factors[name]
        close(factor.inputs.sum, outputs["activation_covariance_sum"][name], 1e-12)
        close(factor.outputs.sum, outputs["gradient_covariance_sum"][name], 1e-12)
        assert factor.outputs.count == want


def problem(seed=0, rows=12):
    rng = np.random.default_rng(seed)
    params = {
        name: rng.normal(size=shape)
        for name, shape in (("W1", (3, 4)), ("b1", 4), ("W2", (4, 3)), ("b2", 3))
    }
    return params, {"x": rng.normal(size=(rows, 3)), "y": rng.integers(0, 3, rows)}


def per_example_gradients(params, batch):
    """By autograd, [N, I + 1, O] of each layer."""

    def one(params, x, y):
        return tapped_loss(params, None, {"x": x[None], "y": y[None]})[0][0]

    grads = jax.vmap(jax.grad(one), (None, 0, 0))(params, batch["x"], batch["y"])
    return {
        name: np.concatenate([grads[f"W{at}"], grads[f"b{at}"][:, None]], 1)
        for at, name in ((1, "0"), (2, "2"))
    }


def test_gradients_are_those_of_autograd(x64):
    params, train = problem()
    grads = per_example_gradients(params, train)
    want = sum(np.einsum("qio,nio->qn", g, g) for g in grads.values())
    got = interpreted(
        functools.partial(metrics.influence_scores, tapped_loss, state=None)
    )(params, train, train)
    np.testing.assert_allclose(got, want, rtol=1e-10)


def test_the_inverse_is_exact_in_its_basis(x64):
    """Of one layer with independent inputs K-FAC is the Gauss-Newton matrix itself."""
    rng = np.random.default_rng(0)
    w, x = rng.normal(size=(3, 2)), rng.normal(size=(50, 3))

    def linear(w, taps, batch):
        out = batch["x"] @ w + (0 if taps is None else taps["w"])
        return (out * batch["r"]).sum(-1), {"w": (batch["x"], out)}

    signs = np.array([[1, 1], [1, -1], [-1, 1], [-1, -1]])
    data = {"x": np.repeat(x, 4, 0), "r": np.tile(signs * [1.0, 2.0], (50, 1))}
    state = metrics.kfac_state(metrics.ekfac_covariances(linear, w, data))
    bar = np.concatenate([data["x"], np.ones((200, 1))], 1)
    rows = np.einsum("ni,no->nio", bar, data["r"]).reshape(200, -1)
    gauss_newton = rows.T @ rows / 200
    v = rng.normal(size=(5, 4, 2))
    want = np.linalg.solve(gauss_newton + 0.3 * np.eye(8), v.reshape(5, 8).T).T
    got = metrics.ekfac_ihvp(state, {"w": v}, damping=0.3)["w"]
    np.testing.assert_allclose(got.reshape(5, 8), want, rtol=1e-9)
    named = metrics.ekfac_ihvp(state, {"w": v}, damping={"w": 0.3})["w"]
    np.testing.assert_array_equal(named, got)
    refined = metrics.ekfac_fit(linear, w, data)
    again = metrics.ekfac_ihvp(refined, {"w": v}, damping=0.3)["w"]
    np.testing.assert_allclose(again, got, rtol=1e-9)


def test_sums_add_over_batches(x64):
    params, train = problem()
    train["x"][8:] = np.where(np.arange(12)[8:, None] == 11, np.nan, train["x"][8:])
    mask = np.arange(12) < 11
    parts = [
        ({name: a[rows] for name, a in train.items()}, mask[rows])
        for rows in (slice(0, 7), slice(7, 12))
    ]
    kept = {name: a[:11] for name, a in train.items()}
    whole = interpreted(functools.partial(metrics.ekfac_fit, tapped_loss))(params, kept)
    unit = whole.unit

    @interpreted
    def added(params):
        pair = [
            metrics.ekfac_covariances(tapped_loss, params, rows, mask=keep, unit=unit)
            for rows, keep in parts
        ]
        state = metrics.kfac_state(jax.tree.map(jnp.add, *pair), unit=unit)
        pair = [
            metrics.ekfac_eigenvalues(tapped_loss, params, rows, state, mask=keep)
            for rows, keep in parts
        ]
        return state._replace(eigenvalues=jax.tree.map(jnp.add, *pair))

    masked = interpreted(
        lambda params: metrics.ekfac_fit(tapped_loss, params, train, mask=mask, chunk=5)
    )
    query = {name: a[:2] for name, a in kept.items()}
    score = interpreted(
        lambda state: metrics.influence_scores(
            tapped_loss, params, query, kept, state=state
        )
    )
    want = score(whole)
    for state in (added(params), masked(params)):
        np.testing.assert_allclose(score(state), want, rtol=1e-8)


def test_any_flax_model_and_tokens(x64):
    """Gradients are summed over tokens; padding is left out of the factors."""
    model = models.CausalTransformer(
        7, 7, width=8, layers=1, heads=2, context=6, param_dtype=jnp.float64
    )
    tokens = np.random.default_rng(0).integers(0, 7, (3, 5))
    mask = np.arange(5) < np.array([[5], [3], [4]])
    variables = interpreted(model.init)(jax.random.key(0), tokens)

    def language_loss(variables, taps, batch):
        logits, layers = models.apply_with_taps(model, variables, taps, batch["x"])
        each = losses.cross_entropy(logits, batch["x"])
        return jnp.where(batch["mask"], each, 0).sum(-1), layers

    batch = {"x": tokens, "mask": mask}
    scores = interpreted(
        functools.partial(metrics.influence_scores, language_loss, state=None)
    )(variables, batch, batch)

    def one(params, x, keep):
        row = {"x": x[None], "mask": keep[None]}
        return language_loss({"params": params}, None, row)[0][0]

    grads = interpreted(jax.vmap(jax.grad(one), (None, 0, 0)))(
        variables["params"], tokens, mask
    )
    linear = ("attention_in_0", "attention_out_0", "units_in_0", "units_out_0", "head")
    flat = np.concatenate(
        [np.reshape(a, (3, -1)) for name in linear for a in grads[name].values()], 1
    )
    np.testing.assert_allclose(scores, flat @ flat.T, rtol=1e-9)
    factors = interpreted(
        lambda v: metrics.ekfac_covariances(language_loss, v, batch, mask=mask)
    )(variables)
    assert set(factors) == set(linear)
    assert factors["head"].inputs.count == mask.sum()
    assert factors["head"].outputs.count == 3
    np.testing.assert_allclose(factors["head"].inputs.sum[-1, -1], mask.sum())


def test_labels_of_the_model(x64):
    """The mean over drawn labels is the Fisher matrix."""
    params, train = problem(rows=3)
    many = {name: np.repeat(a, 400, 0) for name, a in train.items()}
    factors = interpreted(functools.partial(metrics.ekfac_covariances, tapped_loss))(
        params, many, key=jax.random.key(0)
    )
    logits = tapped_loss(params, None, train)[1]["2"][1]
    p = np.asarray(jax.nn.softmax(logits))
    want = np.mean([np.diag(q) - np.outer(q, q) for q in p], 0)
    np.testing.assert_allclose(factors["2"].outputs.value, want, atol=0.04)
    fit = functools.partial(metrics.ekfac_fit, tapped_loss, chunk=2)
    state = interpreted(fit)(params, train, key=jax.random.key(0))
    assert all(np.isfinite(a).all() for a in jax.tree.leaves(state))


def test_a_model_that_is_sure():
    """Margins of 80: squares of gradients are below what float32 holds."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(6, 3)).astype("f4")

    def sure(w, taps, batch):
        out = batch["x"] @ w + (0 if taps is None else taps["w"])
        shift = jnp.where(jnp.arange(3) == 0, batch["margin"][:, None], 0)
        labels = jnp.zeros(len(batch["x"]), int)
        return losses.cross_entropy(out + shift, labels), {"w": (batch["x"], out)}

    w = 0.1 * rng.normal(size=(3, 3)).astype("f4")

    def scores(margin, queries=6):
        data = {"x": x, "margin": np.full(6, margin, "f4")}
        state = interpreted(functools.partial(metrics.ekfac_fit, sure))(w, data)
        run = functools.partial(metrics.influence_scores, sure, state=state)
        return interpreted(run)(w, {n: a[:queries] for n, a in data.items()}, data)

    unit = scores(10.0)  # where all gradients are of one size, and so is their square
    got = scores(80.0)
    np.testing.assert_allclose(got, unit, rtol=1e-3, atol=1e-3 * np.abs(unit).max())
    assert (got != 0).all()
    # sure queries of a model that is not sure of its training data
    data = {"x": x, "margin": np.zeros(6, "f4")}
    state = interpreted(functools.partial(metrics.ekfac_fit, sure))(w, data)
    run = interpreted(functools.partial(metrics.influence_scores, sure, state=state))
    few = run(w, {**data, "margin": np.full(6, 80, "f4")}, data)
    assert np.isfinite(few).all()
    assert (few != 0).all()
    nothing = metrics.ekfac_ihvp(state, {"w": np.zeros((2, 4, 3), "f4")})["w"]
    np.testing.assert_array_equal(nothing, 0)


def test_taps_of_modules():
    x = np.ones((2, 5), "f4")
    model = models.MLP(widths=(4, 4), classes=3)
    variables = interpreted(model.init)(jax.random.key(0), x)
    taps = {"hidden_1": np.full((2, 4), 0.5, "f4")}
    plain, layers = models.apply_with_taps(model, variables, None, x)
    np.testing.assert_allclose(plain, model.apply(variables, x), rtol=1e-6)
    assert list(layers) == ["hidden_0", "hidden_1", "head"]
    moved, tapped = models.apply_with_taps(model, variables, taps, x)
    np.testing.assert_allclose(tapped["hidden_1"][1] - layers["hidden_1"][1], 0.5)
    assert np.abs(moved - plain).max() > 1e-3
    with pytest.raises(ValueError, match=r"taps has \['other'\], expected some of"):
        models.apply_with_taps(model, variables, {"other": x}, x)


def test_bad_input():
    params, train = problem()
    fit = functools.partial(metrics.ekfac_fit, tapped_loss, params)
    with pytest.raises(ValueError, match="data have shapes"):
        fit({**train, "y": train["y"][:3]})
    with pytest.raises(ValueError, match="chunk is 0, expected at least 1"):
        fit(train, chunk=0)
    with pytest.raises(ValueError, match=r"mask has shape \(3,\), expected"):
        fit(train, mask=np.ones(3, bool))
    with pytest.raises(ValueError, match=r"losses of shape \(\), expected \(12,\)"):
        metrics.ekfac_covariances(
            lambda *args: (jnp.zeros(()), tapped_loss(*args)[1]), params, train
        )
    with pytest.raises(ValueError, match="returns no layers, expected at least one"):
        metrics.ekfac_covariances(lambda *args: (jnp.zeros(12), {}), params, train)
    state = fit(train)
    ihvp = functools.partial(metrics.ekfac_ihvp, state)
    with pytest.raises(ValueError, match="gradients has a layer 'x', expected some of"):
        ihvp({"x": np.ones((4, 4))})
    with pytest.raises(ValueError, match=r"gradients\['0'\] has shape \(4, 3\)"):
        ihvp({"0": np.ones((4, 3))})
    with pytest.raises(ValueError, match="damping is 0.0, expected positive"):
        ihvp({"0": np.ones((4, 4))}, damping=0.0)
    with pytest.raises(ValueError, match=r"damping names \['1'\], expected '0' too"):
        ihvp({"0": np.ones((4, 4))}, damping={"1": 1.0})
