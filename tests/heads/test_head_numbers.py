"""Numbers that a head is told: traced, of any dtype, and 0 beside an infinity."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions, interpreted
from jax.sharding import PartitionSpec as P

from logitlab import decisions, estimators, heads, links, losses, metrics
from logitlab.rl import prompts as prompt_sampling

calls = functions(heads)
H = np.random.default_rng(0).normal(size=(4, 3)).astype("f4")
KERNEL = np.random.default_rng(1).normal(size=(3, 5)).astype("f4")
Y = np.array([0, 1, 2, 4])
Z, PROBS = H @ KERNEL, np.float32([[[0.9, 0.4, 0.1]]])
STATE = heads.spherical_output_init(KERNEL.T)
ROWS = np.float32([1, 2, 3])
TEACHER = heads.Linear(H, 2 * KERNEL)
CALLS = {
    "label_smoothing": lambda v: heads.fused_linear_cross_entropy(
        H, KERNEL, Y, label_smoothing=v
    ),
    "z_loss": lambda v: heads.fused_linear_cross_entropy(H, KERNEL, Y, z_loss=v),
    "temperature": lambda v: heads.fused_linear_distillation(
        H, KERNEL, TEACHER, temperature=v
    ),
    "commitment": lambda v: heads.vq_codebook_loss(H, H[:2], Y % 2, commitment=v),
    "learning_rate": lambda v: heads.spherical_output_update(
        STATE, H, Y, (ROWS[:1].repeat(4),) * 3, learning_rate=v, weight_decay=v
    )[0].v,
    "low": lambda v: heads.stabilize(STATE, low=v, high=1 / v).v,
    "a": lambda v: heads.spherical_stats_loss(
        ROWS, ROWS**2, ROWS, num_classes=3, a=v, b=v
    ),
    "eps of a head": lambda v: heads.spherical_stats_loss(
        ROWS, ROWS**2, ROWS, num_classes=3, loss="spherical_softmax_loss", eps=v
    ),
    "rate": lambda v: heads.streaming_frequency_update(
        heads.streaming_frequency_init(3, gap=2.0), np.array([1]), 2, rate=v
    )[0].gap,
    "eps of a link": lambda v: links.spherical_softmax(Z, eps=v),
    "outside": lambda v: losses.mnl_loss(Z, Y, outside=v),
    "smooth": lambda v: decisions.dice_score(PROBS, PROBS, smooth=v),
    "smooth of IoU": lambda v: decisions.iou_score(PROBS, PROBS, smooth=v),
    "smooth of volumes": lambda v: decisions.rank_volume(PROBS, smooth=v, tail=v,
                                                         solver="ba"),
    "pruning_prob": lambda v: decisions.rankseg_rma(PROBS, smooth=v, pruning_prob=v),
    "temperature of drafts": lambda v: decisions.acceptance_rate(Z, -Z, temperature=v),
    "temperature of samples": lambda v: decisions.speculative_sample(
        jax.random.key(0), Z[:3], Z, Y[:3], temperature=v
    ).tokens,
    "draft_cost": lambda v: decisions.speculative_speedup(
        ROWS, 5, draft_cost=v, verify_cost=v
    ),
    "var_eps": lambda v: estimators.gaussian_nb_linear(
        estimators.gaussian_nb_update(
            estimators.gaussian_nb_init(5, 3, dtype="f4"), H, Y
        ),
        var_eps=v,
    ),
    "power": lambda v: estimators.hilbert_estimate(H, ROWS.repeat(2)[:4], H, power=v),
    "ridge": lambda v: estimators.krr_limit(
        np.eye(3, dtype="f4"), ROWS, ridge=v, alpha=v
    ),
    "lam": lambda v: estimators.fit_presto(
        H, Y % 3, 3, v, l1=v, l2=v, p_min=v * 1e-6, tol=v, max_steps=3
    ).psi,
    "scale_to": lambda v: metrics.expected_score(
        jax.nn.softmax(Z), method="log_odds", temperature=v, eps=v, scale_to=v
    ),
    "tolerance": lambda v: metrics.conflict_ratio(
        ROWS, np.ones((3, 3), int), tolerance=v
    ),
    "decays": lambda v: prompt_sampling.beta_sampler_update(
        prompt_sampling.beta_sampler_init(3), np.array([1], "u1"), np.array([2]), 3,
        decay_sample=v, decay_global=v,
    ).alpha,
}  # fmt: skip


@pytest.mark.parametrize("name", CALLS)
def test_traced_and_of_no_consequence_for_dtypes(name):
    call = CALLS[name]
    want = interpreted(lambda: call(0.5))()
    for a, b in zip(
        jax.tree.leaves(jax.jit(call)(0.5)), jax.tree.leaves(want), strict=True
    ):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
    with jax.enable_x64(True):
        for leaf in jax.tree.leaves(jax.eval_shape(lambda: call(np.float64(0.5)))):
            assert leaf.dtype != np.float64


def test_weights_of_0_beside_infinity():
    hidden = np.zeros((2, 1), "f4")  # a label whose logit is so low costs infinity
    bias = np.float32([0, -np.inf, 1])
    y, none = np.array([1, 0]), np.zeros(3, "f4")

    def loss(hidden, weight, eps=0.0, lam=0.0):
        return heads.fused_linear_cross_entropy(
            hidden, np.ones((1, 3), "f4"), y, bias=bias, class_weight=weight,
            label_smoothing=eps, z_loss=lam,
        )  # fmt: skip

    value, slope = interpreted(jax.value_and_grad(lambda h: loss(h, none).sum()))(
        hidden
    )
    assert value == 0
    np.testing.assert_array_equal(slope, np.zeros((2, 1)))
    # All mass on the visible classes, none on the label.
    got = interpreted(lambda h: loss(h, None, 1.0))(hidden)
    np.testing.assert_allclose(got[0], got[1], rtol=1e-6)
    huge = np.full((2, 1), 1e30, "f4")  # the square is beyond float32
    traced = jax.jit(loss)(huge, None, 0.0, 0.0)
    np.testing.assert_allclose(traced, [np.inf, 0], atol=2)
    unlabelled = calls.fused_linear_cross_entropy(
        hidden, np.ones((1, 3), "f4"), np.array([-100, 0]), class_weight=none
    )
    np.testing.assert_array_equal(unlabelled, [np.nan, 0])  # no label is not no loss
    far = np.full((1, 2), 1e30, "f4")
    got = calls.vq_codebook_loss(far, far, np.array([0]), commitment=0.0)
    np.testing.assert_array_equal(got, [0])


def test_a_row_without_classes_costs_0():
    where = np.array([[False] * 5, [True] * 5, [True] * 5, [True] * 5])
    for smoothing in ("all", "others"):

        def loss(h, smoothing=smoothing):
            return heads.fused_linear_cross_entropy(
                h, KERNEL, Y, where=where, z_loss=0.1, label_smoothing=0.1,
                smoothing=smoothing,
            )  # fmt: skip

        @interpreted
        def run(h, loss=loss):
            return loss(h), jax.grad(lambda h: loss(h).sum())(h)

        values, slope = run(H)
        assert values[0] == 0
        assert (slope[0] == 0).all()
        assert np.isfinite(values).all()
        assert np.isfinite(slope).all()


def test_masks_of_another_rank_are_refused():
    z = np.zeros((3, 3), "f4")
    with pytest.raises(ValueError, match=r"hit_mask has shape \(3,\), expected 2 axes"):
        heads.sampled_softmax_loss(
            z, z, true_log_q=z, sampled_log_q=z, hit_mask=np.ones(3, bool)
        )
    for call in (links.checkered, links.checkoid):
        with pytest.raises(TypeError, match=r"axis is \(0, 1\), expected one integer"):
            call(z, axis=(0, 1))


EAGER = {
    "stats": lambda h, k, y: heads.linear_label_stats(
        h, k, y, axis_name="model", transform=lambda z: 3 * jnp.tanh(z / 3)
    )[:3],
    "label loss": lambda h, k, y: heads.linear_label_loss(
        losses.focal_loss, h, k, y, axis_name="model"
    ),
    "sequences": lambda h, k, y: heads.sequence_log_prob(
        h[:, None], k, y[:, None], axis_name="model"
    ),
    "vocab parallel": lambda h, k, y: heads.vocab_parallel_label_stats(
        h @ k, y, axis_name="model"
    )[:3],
    "distillation": lambda h, k, y: heads.fused_linear_distillation(
        h, k, heads.Linear(h, 2 * k), axis_name="model", temperature=2.0,
        transform=lambda z: 3 * jnp.tanh(z / 3),
    ),
}  # fmt: skip
WHOLE = {
    "linear_loss": lambda h, k, y: heads.linear_loss(losses.cross_entropy, h, k, y),
    "gradient": lambda h, k, y: jax.grad(
        lambda h: heads.linear_loss(losses.cross_entropy, h, k, y).sum()
    )(h),
    "fused": lambda h, k, y: heads.fused_linear_cross_entropy(h, k, y, z_loss=0.1),
}


@pytest.mark.sampled
@pytest.mark.parametrize("name", [*EAGER, *WHOLE])
def test_an_eager_shard_map(name):
    kinds = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.make_mesh((2, 2), ("data", "model"), kinds)
    columns = P(None, "model") if name in EAGER else P()
    mapped = jax.shard_map(
        {**EAGER, **WHOLE}[name],
        mesh=mesh,
        in_specs=(P("data"), columns, P("data")),
        out_specs=P("data"),
    )
    kernel = np.concatenate([KERNEL, KERNEL[:, :1]], 1)
    for a, b in zip(
        jax.tree.leaves(mapped(H, kernel, Y)),
        jax.tree.leaves(jax.jit(mapped)(H, kernel, Y)),
        strict=True,
    ):
        np.testing.assert_allclose(a, b, rtol=1e-5)


def test_a_transform_on_a_mesh():
    kinds = (jax.sharding.AxisType.Auto,) * 2
    mesh = jax.make_mesh((2, 2), ("data", "model"), kinds)
    kernel = np.concatenate([KERNEL, KERNEL[:, :1]], 1)
    cap = lambda z: 3 * jnp.tanh(z / 3)  # noqa: E731
    loss = lambda h, **where: heads.fused_linear_cross_entropy(  # noqa: E731
        h, kernel, Y, transform=cap, **where
    )
    with jax.set_mesh(mesh):
        got = jax.jit(lambda h: loss(h, axis_name="model"))(H)
    np.testing.assert_allclose(got, interpreted(loss)(H), rtol=1e-5)
