"""What hyper-parameters and labels of the robust and imbalanced families may be."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions, interpreted

import logitlab
from logitlab import losses

eager = functions(losses)  # integers are known to them, as they are without jit
Z, Y = jnp.zeros((4, 3)), jnp.array([0, 1, 2, 0])
T = jnp.array([[0, 1, 0], [1, 1, 0], [0, 0, 1], [1, 0, 0]])
BINARY, ONES, ID = jnp.array([1, 0, 1, 0]), jnp.ones(4), jnp.arange(4)
LEVELS, DRAWS, N3 = jnp.float32([0.25, 0.5, 0.75]), jnp.zeros(4), jnp.ones(3)
P = jnp.full((4, 3), 1 / 3)
# The arrays, and every hyper-parameter that is a number.
CALLS = {
    "adversarial_comp_rho_margin_loss": ((Z, Y), dict(tau=0.5, rho=2.0)),
    "aggregate_ridge": ((Z, ID, ONES), dict(rho=0.5)),
    "aldr_kl_loss": ((Z, Y, ONES), dict(lam0=1.0, margin=0.1, alpha=2.0)),
    "amplify": ((ONES,), dict(scale=10.0)),
    "anyloss": ((Z[:, 0], BINARY), dict(beta=1.0, scale=10.0, eps=1e-5)),
    "anyloss_hybrid": ((Z[:, 0], BINARY), dict(ratio=0.5, beta=1.0, eps=1e-5)),
    "asymmetric_gce_loss": ((Z, Y), dict(a=1.0, q=2.0)),
    "asymmetric_loss": ((Z, T), dict(gamma_pos=1.0, gamma_neg=4.0, clip=0.05)),
    "asymmetric_unhinged_loss": ((Z, Y), dict(a=1.5, q=0.9)),
    "bi_tempered_logistic_loss": ((Z, Y), dict(t1=0.8, t2=1.2, label_smoothing=0.1)),
    "bootstrapping_loss": ((Z, Y), dict(beta=0.9)),
    "candidate_probs": ((Z,), dict(temperature=2.0)),
    "class_balanced_weights": ((N3,), dict(beta=0.9)),
    "cluster_targets": ((P,), dict(power=2.0, balance=1.0)),
    "comp_rho_margin_loss": ((Z, Y), dict(tau=0.5, rho=2.0)),
    "comp_sum_bayes_risk": ((P,), dict(tau=0.5)),
    "comp_sum_loss": ((Z, Y), dict(tau=0.5, max_log_loss=5.0)),
    "confidence_penalized_cross_entropy": ((Z, Y), dict(lam=0.5)),
    "confidence_penalty": ((Z,), dict(beta=0.1)),
    "crossing_penalty": ((Z,), dict(margin=0.1)),
    "dequity_weight": ((ONES,), dict(eta=1.0, gamma=5.0)),
    "ensloss": ((Z[:, 0], BINARY, None), dict(lam=0.5, normal_draws=DRAWS)),
    "ensloss_derivatives": (
        (Z[:, 0], None),
        dict(lam=0.5, floor=-1.0, eps=1e-6, normal_draws=DRAWS),
    ),
    "focal_loss": ((Z, Y), dict(gamma=2.0)),
    "generalized_cross_entropy": ((Z, Y), dict(q=0.7, k=0.5)),
    "likelihood_weighted_focal_loss": ((ONES, ONES), dict(eta=1.0, gamma=5.0)),
    "hconsistency_bound": (
        (ONES,),
        dict(
            tau=1.5,
            num_classes=3.0,
            minimizability_gap=0.1,
            minimizability_gap_01=0.1,
        ),
    ),
    "hconsistency_transform": ((ONES / 2,), dict(tau=1.5, num_classes=3.0)),
    "hl_gauss_loss": ((Z, ONES), dict(vmin=-1.0, vmax=2.0, sigma_ratio=0.5)),
    "huber_pinball_loss": ((Z, ONES, LEVELS), dict(width=0.1)),
    "interpolated_aggregate_loss": ((Z, P, ID), dict(rho=0.5)),
    "jaccard_contrastive_loss": ((Z, T), dict(margin=0.5)),
    "js_label_noise_loss": ((Z, Y), dict(weight=0.5)),
    "label_smoothing_loss": ((Z, Y), dict(eps=0.1)),
    "ldam_loss": ((Z, Y, N3), dict(scale=30.0, margin=0.5)),
    "ldr_kl_loss": ((Z, Y), dict(lam=1.0, margin=0.1)),
    "logit_adjusted_loss": ((Z, Y, N3), dict(tau=0.5)),
    "logit_norm_loss": ((Z, Y), dict(temperature=0.5)),
    "loss_scores": ((ONES,), dict(delta=1.0)),
    "loss_weights": ((ONES,), dict(r=0.4, delta=1.0)),
    "margin_shift_penalty": ((Z, Z, Y), dict(eps=1e-12)),
    "meco_loss": ((ONES, ONES, ONES, jnp.float32(0)), {}),
    "meco_update": ((jnp.float32(0), ONES, ONES), dict(gamma=0.5)),
    "minimizability_gap": ((jnp.float32(0.5), P), dict(tau=0.5)),
    "multiclass_ensloss": ((Z, Y, None), dict(lam=0.5, normal_draws=DRAWS)),
    "multilabel_hybrid_loss": (
        (Z, T, Z, N3, jnp.eye(3)),
        dict(coefficients=(1.0, 0.1, 0.1), margin=0.5),
    ),
    "nce_loss": ((ONES, ONES, ONES, ONES), dict(log_z=0.0, nu=1.0)),
    "optimal_temperature": ((Z,), dict(rho=0.1, tau_min=1e-2, tau_max=10.0)),
    "poly1_loss": ((Z, Y), dict(eps=1.0)),
    "poly_n_loss": ((Z, Y), dict(eps=(1.0, -0.5))),
    "reweighted_loss": ((ONES,), dict(r=0.4, delta=1.0)),
    "sigmoid_focal_loss": ((Z, T), dict(alpha=0.25, gamma=2.0)),
    "smooth_adversarial_comp_sum_loss": (
        (Z, Z, Y),
        dict(tau=1.0, rho=1.0, nu=1.0, eps=1e-12),
    ),
    "symmetric_cross_entropy": ((Z, Y), dict(alpha=0.1, beta=1.0, floor=1e-4)),
    "tempnet_robust_loss": ((Z, Y, ONES), dict(rho=1.0)),
    "two_hot_loss": ((Z, ONES), dict(vmin=-1.0, vmax=2.0)),
    "utility_update": ((Z, Y), dict(learning_rate=0.5)),
}


def dtypes(function):
    return {str(leaf.dtype) for leaf in jax.tree.leaves(jax.eval_shape(function))}


@pytest.mark.parametrize("name", CALLS)
def test_hyper_parameters(name):
    """Traced or a float64 scalar of NumPy, they leave the arrays' dtype alone."""
    loss, (arrays, hyper) = _public(name), CALLS[name]
    with jax.enable_x64(True):
        assert dtypes(lambda: loss(*arrays, **hyper)) == {"float32"}
        scalars = jax.tree.map(lambda a: np.float64(a) if np.ndim(a) == 0 else a, hyper)
        assert dtypes(lambda: loss(*arrays, **scalars)) == {"float32"}
        wide = jax.tree.map(lambda a: jnp.asarray(a, float), hyper)
        assert dtypes(jax.tree_util.Partial(_traced, loss, arrays, wide)) == {"float32"}


def _public(name):
    """A loss, or what was one before it moved to the room of its kind."""
    rooms = [getattr(logitlab, room) for room in logitlab.__all__]
    return next(getattr(room, name) for room in rooms if name in room.__all__)


def _traced(loss, arrays, hyper):
    return jax.jit(lambda hyper: loss(*arrays, **hyper))(hyper)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("normalized_cross_entropy", ()),
        ("weighted_cross_entropy", (jnp.linspace(0.1, 2, 256),)),
        ("focal_loss", (jnp.linspace(0.1, 2, 256),)),
        ("label_smoothing_loss", (jnp.linspace(0.1, 2, 256),)),
        ("bi_tempered_logistic_loss", ()),
        ("ldr_kl_loss", ()),
        ("ldam_loss", (jnp.arange(1, 257),)),
        ("anyloss", ()),
        ("confidence_penalized_cross_entropy", ()),
        ("multiclass_ensloss", (None,)),
    ],
)
def test_labels_of_any_integer_dtype(name, more):
    loss = getattr(losses, name)
    hyper = dict(confidence_penalized_cross_entropy=dict(lam=0.5))
    hyper["multiclass_ensloss"] = dict(normal_draws=np.zeros(3, "f4"))
    hyper = hyper.get(name, {})
    z = np.random.default_rng(0).normal(size=(3, 256)).astype("f4")
    y = np.array([0, 65, 255])
    loss = interpreted(lambda z, y, f=loss: f(z, y, *more, **hyper))
    want = loss(z, y)
    assert np.isfinite(want).all()
    for dtype in (np.uint8, np.int16, np.uint64):
        np.testing.assert_array_equal(loss(z, y.astype(dtype)), want)


def test_a_negative_label_is_none():
    """NaN, eagerly too; behind a mask it may be anything."""
    z, y = np.float32([[2, 1, 0]] * 2), np.array([1, -100])
    for name in (
        "poly1_loss",
        "normalized_cross_entropy",
        "ldr_kl_loss",
        "js_label_noise_loss",
    ):
        got = getattr(eager, name)(z, y)
        assert np.isnan(got).tolist() == [False, True], name
    smooth = eager.label_smoothing_loss(z, y, np.ones(3, "f4"))
    assert np.isnan(smooth).tolist() == [False, True]
    t = np.array([[1, 0, 1], [1, -100, 0]])
    for name in ("multilabel_soft_margin_loss", "zlpr_loss", "lca_loss"):
        got = getattr(eager, name)(z, t)
        assert np.isnan(got).tolist() == [False, True], name
    assert np.isnan(eager.asymmetric_loss(z, t)).sum() == 1
    assert np.isnan(eager.sigmoid_focal_loss(z, t)).sum() == 1
    keep = np.array([True, False])
    sets = {
        "anyloss": (z[:, 0], y),
        "anyloss_hybrid": (z[:, 0], y),
        "ensloss": (z[:, 0], y, jax.random.key(0)),
        "jaccard_contrastive_loss": (z, t),
    }
    for name, args in sets.items():
        loss = getattr(eager, name)
        assert np.isnan(loss(*args)), name
        assert np.isfinite(loss(*args, mask=keep)), name
    with pytest.raises(ValueError, match="outside"):
        jax.grad(lambda z: losses.zlpr_loss(z, t + 3).sum())(z)
    with pytest.raises(ValueError, match="other than 0 and 1"):
        losses.ensloss(z[:, 0], y + 200, jax.random.key(0))


def test_a_weight_of_zero_silences_infinity():
    z, q = np.float32([0, -np.inf]), np.float32([0.5, 0.5])
    none = np.float32([1, 0])
    np.testing.assert_allclose(eager.weighted_cross_entropy(z, q, none), 0, atol=1e-7)
    assert eager.focal_loss(z, 1, none) == 0
    assert eager.focal_loss(z, q, none) == 0
    assert eager.label_smoothing_loss(z, 1, none, eps=0.1) == 0
    assert eager.label_smoothing_loss(z, 1, eps=1.0) == 0
    assert eager.symmetric_cross_entropy(z, 1, alpha=0.0) == -np.log(np.float32(1e-4))
    assert eager.bootstrapping_loss(z, 1, beta=0.0) == 0
    for share in (np.float32([0, 1]), np.float32([0, 0])):
        got = eager.reweighted_loss(np.float32([np.inf, 1]), token_share=share)
        assert np.isfinite(got)
    assert eager.reweighted_loss(np.float32([np.inf, 1])) == np.inf
    far = np.float32([1e30, -1e30, 0])
    got = eager.smooth_adversarial_comp_sum_loss(far, -3 * far, 0, nu=0.0)
    assert got == 0
    slope = jax.grad(lambda eps: eager.label_smoothing_loss(q, 0, eps=eps))(0.0)
    assert slope == 0  # two equal costs: nothing to gain
    slope = jax.grad(lambda eps: eager.label_smoothing_loss(q * none, 0, eps=eps))(0.0)
    np.testing.assert_allclose(slope, 0.25, rtol=1e-5)


def layer_norm(x, gain, bias):
    mean = x.mean(-1, keepdims=True)
    variance = ((x - mean) ** 2).mean(-1, keepdims=True)
    return (x - mean) * jax.lax.rsqrt(variance + 1e-6) * gain[None] + bias[None]


@pytest.mark.sampled
@pytest.mark.optimized
@pytest.mark.parametrize("classes", [10, 1000])
def test_temperatures_of_fused_logits(classes):
    """Exact, too, where the same program makes the logits and rounds them twice."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(64, classes)).astype("f4")
    y = rng.integers(0, classes, 64)
    x[np.arange(64), y] += 8
    gain = np.float32(rng.uniform(5, 9, size=classes))
    bias = np.float32(rng.normal(size=classes))
    rest = np.log(classes)

    @jax.jit
    def run(x):
        z = layer_norm(x, gain, bias)
        return {
            "tempnet": losses.tempnet_robust_loss(z, y, 1.0, rho=rest),
            "bi_tempered": losses.bi_tempered_logistic_loss(z, y, t1=0.5, t2=1.01),
        }

    got = run(x)
    with jax.enable_x64(True):
        want = run(x.astype(float))
    for name, values in got.items():
        # The logits themselves are known to a few roundings of their size, about 100.
        np.testing.assert_allclose(
            values, np.asarray(want[name]), rtol=2e-4, atol=1e-37, err_msg=name
        )
