import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from logitlab import heads, losses, models

X = np.random.default_rng(0).integers(0, 11, (3, 7))


def decoder(**changes):
    settings = dict(vocabulary=11, width=16, layers=2, heads=4, kv_heads=2, hidden=24)
    return models.Decoder(**settings | changes)


@functools.cache
def variables():
    """Of a scanned, untied decoder; larger than at the start, where little happens."""
    found = jax.jit(decoder(tied=False).init)(jax.random.key(0), X)
    return jax.tree.map(lambda a: 10 * a if a.ndim > 1 else a, found)


def norm(h, scale):
    return h / np.sqrt(np.square(h).mean(-1, keepdims=True) + 1e-5) * scale


def turned(x, base):
    """Pairs (i, i + size / 2) as complex numbers, times e^(i position rate)."""
    size = x.shape[-1]
    rates = base ** (-np.arange(0, size, 2) / size)
    turns = np.exp(1j * np.arange(x.shape[1])[:, None] * rates)[:, None]
    z = (x[..., : size // 2] + 1j * x[..., size // 2 :]) * turns
    return np.concatenate([z.real, z.imag], -1)


def layer(h, p, base=10_000.0, size=4):
    batch, length, width = h.shape
    seen = norm(h, p["attention_norm"]["scale"])
    q, k, v = (
        (seen @ p[name]["kernel"]).reshape(batch, length, -1, size)
        for name in ("query", "key", "value")
    )
    q, k = turned(q, base), turned(k, base)
    k, v = (np.repeat(a, q.shape[2] // k.shape[2], 2) for a in (k, v))
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(size)
    scores = np.where(np.tri(length, dtype=bool), scores, -np.inf)
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed = np.einsum("bhqk,bkhd->bqhd", weights, v).reshape(batch, length, width)
    h = h + mixed @ p["out"]["kernel"]
    seen = norm(h, p["mlp_norm"]["scale"])
    gate = seen @ p["gate"]["kernel"]
    units = gate / (1 + np.exp(-gate)) * (seen @ p["up"]["kernel"])
    return h + units @ p["down"]["kernel"]


def test_it_is_its_formula():
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), variables()["params"])
    h = p["embedding"][X]
    for i in range(2):
        h = layer(h, jax.tree.map(lambda a, i=i: a[i], p["layers"]))
    want = norm(h, p["norm"]["scale"]) @ p["head"]
    got = jax.jit(decoder(tied=False).apply)(variables(), X)
    assert got.dtype == jnp.float32
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_it_sees_no_future():
    apply = jax.jit(decoder(tied=False).apply)
    before = apply(variables(), X)
    after = apply(variables(), np.where(np.arange(7) == 4, (X + 1) % 11, X))
    np.testing.assert_allclose(after[:, :4], before[:, :4], rtol=1e-5, atol=1e-5)
    assert (np.abs(after - before)[:, 4:].max((0, 2)) > 1e-3).all()


def test_scan_and_remat_change_no_number():
    """Value and gradient; the parameters are the same, stacked."""
    scanned = variables()["params"]
    apart = {name: a for name, a in scanned.items() if name != "layers"}
    for i in range(2):
        apart[f"layer_{i}"] = jax.tree.map(lambda a, i=i: a[i], scanned["layers"])

    def both(params, form):
        model = decoder(tied=False, scan=form, remat=form)

        def loss(params):
            return losses.cross_entropy(model.apply({"params": params}, X), X).mean()

        return jax.value_and_grad(loss)(params)

    (value, grads), (other, other_grads) = jax.jit(
        lambda scanned, apart: (both(scanned, True), both(apart, False))
    )(scanned, apart)
    np.testing.assert_allclose(other, value, rtol=1e-6)
    each = [other_grads.pop(f"layer_{i}") for i in range(2)]
    other_grads["layers"] = jax.tree.map(lambda *a: jnp.stack(a), *each)
    for a, b in zip(jax.tree.leaves(other_grads), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_tied_is_untied_with_the_same_numbers():
    untied = dict(variables()["params"])
    untied["head"] = untied["embedding"].T
    tied = {name: a for name, a in untied.items() if name != "head"}
    want = jax.jit(decoder(tied=False).apply)({"params": untied}, X)
    got = jax.jit(decoder().apply)({"params": tied}, X)
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)
    shapes = jax.eval_shape(decoder().init, jax.random.key(0), X)["params"]
    assert jax.tree.structure(shapes) == jax.tree.structure(tied)


@pytest.mark.parametrize("tied", [True, False])
def test_a_head_takes_its_features_and_kernel(tied):
    model, params = decoder(tied=tied), variables()["params"]

    @jax.jit
    def both(params):
        logits = model.apply({"params": params}, X)
        hidden = model.apply({"params": params}, X, features=True)
        kernel, transposed = model.head(params)
        fused = heads.fused_linear_cross_entropy(
            hidden, kernel, X, transposed=transposed
        )
        return fused, losses.cross_entropy(logits, X)

    fused, whole = both(params)
    np.testing.assert_allclose(fused, whole, rtol=1e-4, atol=1e-5)


def test_the_program_does_not_grow_with_depth():
    def lines(layers):
        model = decoder(layers=layers)
        shapes = jax.eval_shape(model.init, jax.random.key(0), X)
        return len(jax.jit(model.apply).lower(shapes, X).as_text().splitlines())

    assert lines(12) == lines(2)


def test_dtypes():
    model = decoder(dtype=jnp.bfloat16)
    shapes = jax.eval_shape(model.init, jax.random.key(0), X)
    assert {a.dtype for a in jax.tree.leaves(shapes)} == {jnp.dtype("float32")}
    assert jax.eval_shape(model.apply, shapes, X).dtype == jnp.float32
    hidden = jax.eval_shape(lambda v: model.apply(v, X, features=True), shapes)
    assert (hidden.shape, hidden.dtype) == ((3, 7, 16), jnp.bfloat16)
    head = jax.eval_shape(lambda v: model.head(v["params"]).kernel, shapes)
    assert (head.shape, head.dtype) == ((11, 16), jnp.bfloat16)


def test_the_layout_is_that_of_all_hidden_states():
    seen = []

    def layout(h):
        seen.append(h.shape)
        return h

    jax.eval_shape(decoder(layout=layout, scan=False).init, jax.random.key(0), X)
    assert set(seen) == {(3, 7, 16)}
    assert len(seen) >= 1 + 2 * 2  # remat may trace a layer twice


def test_a_token_outside_makes_its_row_nan():
    apply = jax.jit(decoder(tied=False).apply)
    z = apply(variables(), np.where(np.arange(3)[:, None] == 1, 11, X))
    assert np.isnan(z[1]).all()
    assert np.isfinite(z[::2]).all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (dict(heads=3), "heads is 3, expected a divisor of width 16"),
        (dict(kv_heads=3), "kv_heads is 3, expected a divisor of heads 4"),
        (dict(kv_heads=0), "kv_heads is 0, expected"),
        (dict(width=12), "heads of width 3, expected an even one"),
        (dict(layers=0), "layers is 0, expected at least 1"),
    ],
    ids=str,
)
def test_errors(changes, message):
    with pytest.raises(ValueError, match=message):
        jax.eval_shape(decoder(**changes).init, jax.random.key(0), X)


def test_bad_tokens():
    with pytest.raises(ValueError, match=r"outside \[0, 11\)"):
        decoder().init(jax.random.key(0), X + 1)
    with pytest.raises(TypeError, match="integer"):
        decoder().init(jax.random.key(0), X / 2)
