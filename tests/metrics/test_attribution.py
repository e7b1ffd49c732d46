import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions, interpreted

from logitlab import metrics, models
from logitlab.metrics import attribution

calls = functions(attribution)


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


PARTS, KERNEL, SCALE = draw(0, 4, 2, 3, 6), draw(1, 6, 5), draw(2, 6)


def logits(stream, std=None, epsilon=1e-5):
    centered = stream - stream.mean(-1, keepdims=True)
    s = np.sqrt(centered.var(-1) + epsilon) if std is None else std
    return centered / np.asarray(s)[..., None] * SCALE @ KERNEL


def test_attributions_add_up_to_the_logits(x64):
    want = logits(PARTS.sum(0))
    got = calls.direct_logit_attribution(
        PARTS, KERNEL, scale=SCALE, residual=PARTS.sum(0)
    )
    np.testing.assert_allclose(got.sum(0), want, rtol=1e-12)
    tokens = np.array([[0, 4, 2], [1, 1, -1]])
    some = calls.direct_logit_attribution(PARTS, KERNEL, scale=SCALE, tokens=tokens)
    picked = np.take_along_axis(got, np.maximum(tokens, 0)[None, ..., None], -1)[..., 0]
    np.testing.assert_allclose(some[:, tokens >= 0], picked[:, tokens >= 0], 1e-12)
    assert np.isnan(some[:, 1, 2]).all()
    centered = calls.direct_logit_attribution(PARTS, KERNEL, scale=SCALE, center=True)
    np.testing.assert_allclose(
        centered, got - got.mean(-1, keepdims=True), atol=1e-12 * np.abs(got).max()
    )


def test_effects_are_differences_of_logits(x64):
    whole = PARTS.sum(0)
    want = [logits(whole) - logits(whole - part) for part in PARTS]
    got = calls.direct_effect(PARTS, KERNEL, scale=SCALE)
    np.testing.assert_allclose(got, want, atol=1e-11)
    # one part is all there is: without it nothing is left
    alone = calls.direct_effect(PARTS[:1], KERNEL, scale=SCALE)
    np.testing.assert_allclose(alone[0], logits(PARTS[0]), rtol=1e-9)
    std = np.abs(draw(3, 2, 3)) + 1
    fixed = dict(scale=SCALE, std=std)
    effect = calls.direct_effect(PARTS, KERNEL, **fixed)
    want = [logits(whole, std) - logits(whole - part, std) for part in PARTS]
    np.testing.assert_allclose(effect, want, atol=1e-11)
    given = calls.direct_logit_attribution(PARTS, KERNEL, **fixed)
    np.testing.assert_array_equal(effect, given)


def test_small_parts_keep_their_digits():
    """As a difference of two logits in float32 the effect would be all rounding."""
    parts = np.float32(PARTS)
    parts[1] *= 1e-6
    exact = calls_x64(parts)
    got = calls.direct_effect(parts, np.float32(KERNEL), scale=np.float32(SCALE))
    error = np.abs(got[1] - exact[1]).max() / np.abs(exact[1]).max()
    assert error < 1e-5
    whole = parts.sum(0)
    plain = logits(whole) - logits(whole - parts[1])
    assert np.abs(plain - exact[1]).max() > 1e-2 * np.abs(exact[1]).max()


def calls_x64(parts):
    with jax.enable_x64(True):
        return calls.direct_effect(parts.astype(float), KERNEL, scale=SCALE)


def test_the_shares_of_error():
    a, e = np.float32([[1, 2], [3, 3]]), np.float32([[1, 4], [2, np.nan]])
    mask = np.array([True, False])
    found = calls.attribution_nmae(a[:1], e[:1])
    np.testing.assert_allclose(found.value, [0.4])
    found = calls.attribution_nmae(a, e, mask=mask)
    np.testing.assert_allclose(found.value, [0, 0.5])
    whole = jax.tree.map(jnp.sum, found)
    np.testing.assert_allclose(whole.value, 1 / 3, rtol=1e-6)
    wide = calls.attribution_nmae(a[..., None], e[..., None], mask=mask)
    np.testing.assert_allclose(wide.value, [0, 0.5])


def test_a_transformer_is_the_sum_of_its_parts():
    model = models.CausalTransformer(11, 7, width=8, layers=2, heads=2, context=12)
    tokens = np.random.default_rng(0).integers(0, 11, (2, 5))
    variables = interpreted(model.init)(jax.random.key(0), tokens)
    variables = jax.tree.map(lambda a: 10 * a if a.ndim > 1 else a + 0.1, variables)
    parts = interpreted(lambda v: models.residual_parts(model, v, tokens))(variables)
    assert len(parts) == 2 + 2 * (2 + 1 + 1)
    want = interpreted(model.apply)(variables, tokens)
    params = variables["params"]
    kernel, norm = params["head"]["kernel"], params["head_norm"]
    stacked = np.stack(list(parts.values()))
    got = calls.direct_logit_attribution(
        stacked, kernel, scale=norm["scale"], epsilon=1e-6
    )
    constant = norm["bias"] @ kernel + params["head"]["bias"]
    np.testing.assert_allclose(got.sum(0) + constant, want, rtol=1e-4, atol=1e-4)


def test_extremes():
    for function in (calls.direct_logit_attribution, calls.direct_effect):
        big = function(np.float32(1e28 * PARTS), np.float32(KERNEL))
        small = function(np.float32(PARTS), np.float32(KERNEL), epsilon=0.0)
        np.testing.assert_allclose(big, small, rtol=2e-4, atol=1e-5)
        zero = function(np.zeros((2, 3, 6), "f4"), np.float32(KERNEL))
        np.testing.assert_array_equal(zero, 0)
        half = function(jnp.bfloat16(PARTS), jnp.bfloat16(KERNEL))
        assert half.dtype == jnp.float32
        cancel = np.float32(np.stack([PARTS[0], -PARTS[0]]))
        assert np.isfinite(function(cancel, np.float32(KERNEL))).all()


def test_a_sure_model_has_attributions():
    """A margin of 80 has parts, where a probability of 1 would have none."""
    parts = np.float32([[[40, -40]], [[0, 0]]])
    got = calls.direct_logit_attribution(parts, np.eye(2, dtype="f4"), std=1.0)
    np.testing.assert_array_equal(got, parts)


def test_importances():
    phi = np.float32([[3, 0], [-3, 2], [np.nan, np.inf]])
    mask = np.array([True, True, False])
    shares = calls.importance_distribution(phi, mask=mask)
    np.testing.assert_allclose(shares, [0.75, 0.25], rtol=1e-6)
    for unit in (1e-30, 1e29):
        scaled = calls.importance_distribution(np.float32(unit) * phi, mask=mask)
        np.testing.assert_allclose(scaled, [0.75, 0.25], rtol=1e-5)
    np.testing.assert_array_equal(calls.importance_distribution(0 * phi[:2]), [0.5] * 2)
    assert calls.importance_distribution(phi[:2] * [[0, 1]])[0] > 0
    phi[0, 1] = 1  # importances 3 and 1.5
    slope = interpreted(
        jax.grad(lambda phi: metrics.importance_distribution(phi, mask=mask)[0])
    )(phi)
    first, second = 1.5 / 4.5**2 / 2, -3 / 4.5**2 / 2
    np.testing.assert_allclose(slope[:2], [[first, second], [-first, second]], 1e-5)
    np.testing.assert_array_equal(slope[2], 0)


def test_orders():
    agree = calls.pairwise_order_agreement
    one, other = np.float32([0.5, 0.3, 0.2]), np.float32([0.5, 0.1, 0.4])
    assert float(agree(one, one)) == 1
    assert float(agree(one, -one)) == 0
    both = agree(one, other) + agree(one, one)
    np.testing.assert_allclose(float(both), 5 / 6)
    assert float(agree(one, 0 * one)) == 0.5
    assert np.isnan(float(agree(one, one * [1, 1, np.nan])))


def test_bad_input():
    parts, kernel = np.float32(PARTS), np.float32(KERNEL)
    dla = metrics.direct_logit_attribution
    with pytest.raises(ValueError, match="parts do not add up to residual: they"):
        dla(parts, kernel, residual=parts[0])
    for bad, message in (
        (dict(residual=parts), "residual has shape"),
        (dict(std=np.ones(2)), r"std has shape \(2,\), expected \(\) or \(2, 3\)"),
        (dict(std=0.0), "std is 0.0, expected positive"),
        (dict(scale=np.ones(5)), r"scale has shape \(5,\), expected \(6,\)"),
        (dict(tokens=np.full((2, 3), 5)), r"outside \[0, 5\)"),
        (dict(tokens=np.zeros(3, int)), r"expected \(2, 3\)"),
    ):
        with pytest.raises(ValueError, match=message):
            dla(parts, kernel, **bad)
    with pytest.raises(ValueError, match=r"kernel has shape \(5, 5\), expected \[6, C"):
        dla(parts, kernel[1:])
    with pytest.raises(ValueError, match=r"parts has shape \(6,\)"):
        dla(parts[0, 0, 0], kernel)
    with pytest.raises(ValueError, match="expected one shape"):
        metrics.attribution_nmae(parts, parts[:2])
    with pytest.raises(ValueError, match=r"expected \[N, F\]"):
        metrics.importance_distribution(parts)
    with pytest.raises(ValueError, match="eps is -1, expected at least 0"):
        metrics.importance_distribution(parts[0, 0], eps=-1)
    with pytest.raises(ValueError, match=r"second \(3,\), expected one shape \[F\]"):
        metrics.pairwise_order_agreement(np.ones(2), np.ones(3))
