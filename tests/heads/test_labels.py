"""Labels of every integer dtype, and labels that say that there is none."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions, interpreted

from logitlab import heads, losses, numerics

D, V = 3, 256
RNG = np.random.default_rng(0)
calls = functions(heads)
H = RNG.normal(size=(4, D)).astype("f4")
KERNEL = RNG.normal(size=(D, V)).astype("f4")
Y = np.array([0, 65, 255, 128])
MAPPING = np.arange(V) % 7
LAYOUT = heads.two_level_layout(np.arange(V) // 16)
TREE = heads.build_huffman(np.ones(V))
HEAD, TAILS = heads.adaptive_softmax_init(jax.random.key(0), D, V, cutoffs=(200,))
STATE = heads.spherical_output_init(KERNEL.T)
HEADS = {
    "fused_linear_cross_entropy": lambda y: heads.fused_linear_cross_entropy(
        H, KERNEL, y, label_smoothing=0.1, z_loss=1e-4
    ),
    "linear_label_loss": lambda y: heads.linear_label_loss(
        losses.focal_loss, H, KERNEL, y
    ),
    "linear_label_stats": lambda y: heads.linear_label_stats(H, KERNEL, y).log_prob,
    "label_stats": lambda y: heads.label_stats(H @ KERNEL, y).log_prob,
    "linear_loss": lambda y: heads.linear_loss(
        losses.cross_entropy, H, KERNEL, y, token_chunk=3
    ),
    "adaptive_softmax": lambda y: heads.adaptive_softmax(
        H, HEAD, TAILS, y, cutoffs=(200,)
    ),
    "two_level_softmax": lambda y: heads.two_level_softmax(
        H, KERNEL[:, :16], jnp.ones((16, D, 16)) * KERNEL[None, :, 16:32], y,
        layout=LAYOUT,
    ),
    "hierarchical_softmax": lambda y: heads.hierarchical_softmax(
        H, KERNEL[:, 1:], y, TREE
    ),
    "sampled_softmax": lambda y: heads.sampled_softmax(
        jax.random.key(0), H, KERNEL, y, num_sampled=9
    ),
    "vq_loss": lambda y: heads.vq_loss(H, KERNEL[:, :7].T, y, MAPPING),
    "spherical_output_stats": lambda y: heads.spherical_output_stats(STATE, H, y)[0],
}  # fmt: skip


@pytest.mark.sampled
@pytest.mark.parametrize("name", HEADS)
def test_narrow_integers_and_no_label(name):
    head = HEADS[name]

    def known(y):
        return interpreted(lambda: head(y))()

    want = known(Y)
    assert np.isfinite(want).all()
    for dtype in ("u1", "i2", "u4", "i8", "u8"):
        np.testing.assert_array_equal(known(Y.astype(dtype)), want)
    none = np.where(np.arange(4) == 2, -100, Y)
    for step in (known, jax.jit(head)):
        got = step(none)
        assert np.isnan(got[2])
        np.testing.assert_allclose(np.delete(got, 2), np.delete(want, 2), rtol=1e-5)
    for beyond in (256, 2**16 + 1, 2**32 + 1):  # no other class, wrapped or not
        with pytest.raises(ValueError, match=r"outside \[0, 256\)"):
            head(np.where(np.arange(4) == 2, beyond, Y))
    assert np.isnan(jax.jit(head)(np.where(np.arange(4) == 2, 256, Y))[2])


def test_a_mask_or_a_weight_of_0_selects_it_out():
    y, keep = np.array([3, -100, 5, -1]), np.array([True, False, True, False])
    want = calls.fused_linear_cross_entropy(H[keep], KERNEL, y[keep]).mean()

    def masked(h, y):
        return numerics.masked_mean(
            heads.fused_linear_cross_entropy(h, KERNEL, y), y >= 0
        )

    def weighted(h, y):
        return heads.linear_loss(
            losses.cross_entropy, h, KERNEL, y, weights=(y >= 0).astype("f4")
        )

    def per_sequence(h, y):
        total = heads.sequence_log_prob(h[None], KERNEL, y[None], mask=y[None] >= 0)
        return -total[0] / 2

    ways = masked, weighted, per_sequence
    known = interpreted(lambda h: [loss(h, y) for loss in ways])(H)
    np.testing.assert_allclose(known, [want] * 3, rtol=1e-6)
    late = jax.jit(lambda h, y: [jax.value_and_grad(loss)(h, y) for loss in ways])
    for value, slope in late(H, y):
        np.testing.assert_allclose(value, want, rtol=1e-6)
        assert np.isfinite(slope).all()
        assert (slope[~keep] == 0).all()


def test_a_step_of_the_spherical_head_without_a_target():
    y, keep = np.array([3, -100, 5, -1]), np.array([True, False, True, False])
    grads = tuple(np.float32(keep) * scale for scale in (1.5, 1, 1))
    late = functools.partial(heads.spherical_output_update, learning_rate=0.01)
    step = functools.partial(calls.spherical_output_update, learning_rate=0.01)
    fewer = step(STATE, H[keep], y[keep], tuple(g[keep] for g in grads))
    for update in (step, jax.jit(late)):
        state, slope = update(STATE, H, y, grads)
        for a, b in zip(state, fewer[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)
        assert (slope[~keep] == 0).all()
    bad = (np.ones(4, "f4"), *grads[1:])
    assert np.isnan(step(STATE, H, y, bad)[0].omega).all()


def test_codes_of_narrow_integers():
    codes = np.arange(V, dtype="u1")
    book = KERNEL.T
    want = calls.vq_loss(H, book, Y, np.arange(V))
    np.testing.assert_array_equal(calls.vq_loss(H, book, Y, codes), want)
    np.testing.assert_array_equal(
        calls.vq_centroids(book, codes, V), calls.vq_centroids(book, np.arange(V), V)
    )

    @jax.jit
    def late(m):
        codebook = jnp.ones((7, 2))
        return (
            heads.vq_scatter_logits(codebook[:, 0], m),
            heads.vq_codebook_loss(jnp.ones((3, 2)), codebook, m),
        )

    for got in late(np.array([0, -1, 7])):  # under jit no code's number either
        np.testing.assert_array_equal(np.isnan(got), [False, True, True])


def test_items_and_hits_of_narrow_integers():
    state = heads.streaming_frequency_init(300, gap=4.0)
    for dtype in ("i1", "u1", "i8"):
        ids = np.array([3, 100], dtype)
        got, log_p = heads.streaming_frequency_update(state, ids, 2, rate=0.5)
        np.testing.assert_array_equal(got.gap[np.array([3, 100, 4])], [3, 3, 4])
        assert np.isfinite(log_p).all()
    hits = heads.accidental_hits(np.array([[200]], "u1"), np.array([-56, 200], "i8"))
    np.testing.assert_array_equal(hits, [[False, True]])
