import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions, interpreted
from scipy.special import log_softmax, softmax

from logitlab import transforms

plain = transforms  # in which concrete maps and numbers are checked
transforms = functions(transforms)


def draw(seed, *shape, scale=2.0):
    return (np.random.default_rng(seed).normal(size=shape) * scale).astype("f4")


def kl(p, q):
    return np.sum(p * (np.log(p) - np.log(q)), -1)


def test_a_product_of_distributions():
    z, g, b = draw(0, 5, 7), draw(1, 5, 7), draw(2, 5, 7)
    alpha = np.float32([0, 0.5, 1, -1, 2])
    got = softmax(np.float64(transforms.proxy_logits(z, g, b, alpha=alpha)), -1)
    want = log_softmax(np.float64(z), -1) + alpha[:, None] * (
        log_softmax(np.float64(g), -1) - log_softmax(np.float64(b), -1)
    )
    np.testing.assert_allclose(got, softmax(want, -1), rtol=2e-6)
    by_raw = transforms.proxy_logits(z, g + 1e3, b, alpha=alpha, raw=True)
    np.testing.assert_allclose(softmax(np.float64(by_raw), -1), got, rtol=1e-3)
    for alpha, want in ((1.0, [0.75, 0.25]), (2.0, [0.9, 0.1])):
        got = transforms.proxy_logits(
            np.zeros(2), np.log(np.float64([3, 1])), np.zeros(2), alpha=alpha
        )
        np.testing.assert_allclose(softmax(got), want, rtol=1e-6)


def test_without_strength_nothing_changes():
    z = draw(0, 3, 4)
    z[0, 1] = -np.inf
    bad = np.full((3, 4), np.nan, "f4")
    total = lambda g: jnp.sum(  # noqa: E731
        jnp.where(z > -np.inf, plain.proxy_logits(z, g, bad, alpha=jnp.zeros(3)), 0.0)
    )
    got, slope = interpreted(jax.value_and_grad(total))(bad)
    assert np.isfinite(got)
    assert (slope == 0).all()
    for alpha in (0.0, np.zeros(3, "f4")):
        got = transforms.proxy_logits(z, bad, bad, alpha=alpha)
        np.testing.assert_array_equal(got, z)
    half = transforms.proxy_logits(z.astype("bfloat16"), bad, bad, alpha=0.0)
    np.testing.assert_array_equal(half, z.astype("bfloat16").astype("f4"))


def test_hidden_tokens():
    inf = np.inf
    z = np.float32([0, 0, 0, -inf, 0])
    g = np.float32([-inf, 1, -inf, 1, 2])
    b = np.float32([0, -inf, -inf, 0, 1])
    got = transforms.proxy_logits(z, g, b, raw=True)
    np.testing.assert_array_equal(got, [-inf, 0, 0, -inf, 1])
    got = transforms.proxy_logits(z, g, b, raw=True, max_delta=0.5)
    np.testing.assert_array_equal(got, [-inf, 0.5, 0, -inf, 0.5])
    away = transforms.proxy_logits(z, g, b, raw=True, alpha=-1.0)
    np.testing.assert_array_equal(away, [0, 0, 0, -inf, -1])
    huge = transforms.proxy_logits(*np.float32([[1e30, 0], [1e30, 0], [0, 1e30]]))
    assert np.isfinite(huge).all()


def test_vocabularies_by_a_map():
    """Tokens without a counterpart keep their probability, whatever the offsets."""
    g, b = draw(1, 2, 5), draw(2, 2, 4)
    token_map = np.array([3, -1, 0, 2, -1, 1])
    z = draw(0, 2, 6)
    shared = token_map >= 0
    before = softmax(np.float64(z), -1)
    got = transforms.proxy_logits(z, g + 50, b, token_map=token_map)
    p = softmax(np.float64(got), -1)
    np.testing.assert_allclose(p[:, ~shared], before[:, ~shared], rtol=1e-5)
    ratio = (
        np.log(p / before)[:, shared]
        - (g - np.pad(b, ((0, 0), (0, 1))))[:, token_map[shared]]
    )
    np.testing.assert_allclose(ratio, np.tile(ratio[:, :1], 4), atol=1e-4)
    # the example of the correction: .25 for the last token, where raw sums give 3e-6
    z, g, b = np.zeros(4, "f4"), np.float32([13, 11, 10]), np.zeros(3, "f4")
    token_map = np.array([0, 1, 2, -1])
    own = softmax(transforms.proxy_logits(z, g, b, token_map=token_map))
    raw = softmax(transforms.proxy_logits(z, g, b, token_map=token_map, raw=True))
    np.testing.assert_allclose(own[3], 0.25, rtol=1e-6)
    np.testing.assert_allclose(raw[3], 1.9e-6, rtol=0.02)


def test_matched_divergence(x64):
    z, d = draw(0, 6, 9).astype(float), draw(1, 6, 9).astype(float)
    alpha = np.array([0.1, 0.5, 1, 1.5, 0, 1.9])
    target = kl(softmax(z + alpha[:, None] * d, -1), softmax(z, -1))
    got = transforms.kl_matched_alpha(z, d, target)
    np.testing.assert_allclose(got, alpha, atol=1e-8)
    assert (transforms.kl_matched_alpha(z, d, target + 99, alpha_max=1.5) == 1.5).all()
    assert (transforms.kl_matched_alpha(z, np.ones_like(z), target) == 0).all()
    root = lambda z: plain.kl_matched_alpha(z, d[0], 0.3)  # noqa: E731
    slope = interpreted(jax.grad(root))(z[0])
    assert (slope == 0).all()


@pytest.mark.parametrize("scale", [1e-3, 1.0, 30.0])
def test_equal_models_have_weight_one(scale):
    z, expert = draw(0, 20, 30, scale=scale), draw(1, 20, 30, scale=scale)
    fused, alphas = transforms.dynamic_logit_fusion(z, z, expert[None])
    np.testing.assert_allclose(alphas, np.ones((1, 20)), atol=1e-6)
    np.testing.assert_allclose(
        softmax(fused, -1), softmax(expert, -1), rtol=2e-4, atol=1e-7
    )


def test_several_experts_move_it_as_far(x64):
    z, base, experts = draw(0, 4, 8), draw(1, 4, 8), draw(2, 3, 4, 8, scale=1.0)
    experts[1] = base  # has learned nothing
    z, base, experts = (a.astype(float) for a in (z, base, experts))
    fused, alphas = transforms.dynamic_logit_fusion(z, base, experts)
    assert (alphas[1] == 0).all()
    assert (alphas <= 2).all()
    assert (alphas[[0, 2]] > 0).all()
    kappas = np.stack([kl(softmax(e, -1), softmax(base, -1)) for e in experts])
    moved = kl(softmax(fused, -1), softmax(z, -1))
    free = alphas.max(0) < 2 - 1e-6
    want = (kappas**2).sum(0) / kappas.sum(0)
    np.testing.assert_allclose(moved[free], want[free], rtol=1e-6)
    assert (moved[~free] <= want[~free]).all()
    same, alphas = transforms.dynamic_logit_fusion(z, base, np.stack([base] * 2))
    np.testing.assert_array_equal(same, z)
    assert (alphas == 0).all()


def test_override():
    z, fused = (
        np.float32([[1, 0], [1, 0], [1, 1]]),
        np.float32([[0, 1], [2, 0], [1, 1]]),
    )
    got = transforms.argmax_override(z, fused)
    np.testing.assert_array_equal(got, [True, False, False])


def test_bad_arguments():
    z = np.zeros((2, 4), "f4")
    small = np.zeros((2, 3), "f4")
    for call, message in (
        (lambda: plain.proxy_logits(z, small, small), "guider_logits has 3 classes"),
        (
            lambda: plain.proxy_logits(
                z, small, small, token_map=np.array([0, 1, 2, 3])
            ),
            "token_map reaches 3, expected ids below 3",
        ),
        (
            lambda: plain.proxy_logits(z, small, small, token_map=np.array([0])),
            r"token_map has shape \(1,\), expected \(4,\)",
        ),
        (
            lambda: plain.proxy_logits(z, z, z, alpha=np.zeros(3)),
            r"alpha has shape \(3,\), expected \(\) or \(2,\)",
        ),
        (lambda: plain.proxy_logits(z, z[:1], z), "guider_logits has shape"),
        (lambda: plain.proxy_logits(z, z, z, max_delta=0.0), "max_delta is 0.0"),
        (lambda: plain.kl_matched_alpha(z, small, 1.0), "delta has shape"),
        (lambda: plain.kl_matched_alpha(z, z, 1.0, alpha_max=0.0), "alpha_max is 0"),
        (lambda: plain.kl_matched_alpha(z, z, 1.0, num_steps=0), "num_steps is 0"),
        (lambda: plain.dynamic_logit_fusion(z, z, z), "expert_logits has shape"),
        (lambda: plain.dynamic_logit_fusion(z, small, z[None]), "base_logits has"),
        (lambda: plain.argmax_override(z, small), "fused_logits has shape"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
