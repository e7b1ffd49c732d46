import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.derivatives import value_and_grad
from harness.goldens import cases, check
from harness.interpreter import interpreted

from logitlab import numerics
from logitlab.losses import comp_sums, regularized, smooth_adversarial
from logitlab.losses.robust import baselines
from logitlab.theory import consistency

Z = np.float32([2, 1, 0])
TAUS = (0.0, 0.3, 0.7, 1.0, 1.3, 1.7, 2.0, 2.5)


GOLDEN = {
    # Untruncated: the comp-sum loss with tau = 1 + q.
    "gce": lambda z, y, q: comp_sums.comp_sum_loss(z, y, tau=1 + q),
    "mse": regularized.brier_loss,
    "label_smoothing": regularized.label_smoothing_loss,
    "weighted_ce": lambda z, y, weight: comp_sums.weighted_cross_entropy(
        z, y, np.array(weight)
    ),
}


@pytest.mark.parametrize(
    "case",
    [c for c in cases("robust_baselines", "gce", "mse") if not c["params"].get("k")]
    + cases("standard_losses", "label_smoothing", "weighted_ce"),
    ids=lambda c: c["params"]["kind"],
)
def test_golden(case, x64):
    y, given = np.array(case["inputs"]["labels"]), case["params"]
    loss = GOLDEN[given["kind"]]
    params = {k: v for k, v in given.items() if k in ("q", "eps", "weight")}
    check(lambda z: loss(z, y, **params), case)


def soft_oracles(z, q, w):
    """Losses of distributions in float64, from log-probabilities that are exact."""
    z = z.astype(float)
    top = z.max(-1, keepdims=True)
    lead = z == top
    rest = np.where(lead, 0, np.exp(z - top)).sum(-1, keepdims=True)
    nll = top - z + np.log1p(rest)
    wrong, s = -np.expm1(-nll), 0.1
    mix = (1 - s) * q + s / z.shape[-1]
    return {
        "focal": (q * wrong**2 * nll).sum(-1),
        "weighted focal": (w * q * wrong**2 * nll).sum(-1),
        "gce": (q * -np.expm1(-0.7 * nll) / 0.7).sum(-1),
        "weighted ce": (w * q * nll).sum(-1),
        "smoothing": (mix * nll).sum(-1),
        "weighted smoothing": (w * mix * nll).sum(-1),
    }


def soft_losses(z, q, w):
    return {
        "focal": comp_sums.focal_loss(z, q),
        "weighted focal": comp_sums.focal_loss(z, q, w),
        "gce": baselines.generalized_cross_entropy(z, q),
        "weighted ce": comp_sums.weighted_cross_entropy(z, q, w),
        "smoothing": regularized.label_smoothing_loss(z, q),
        "weighted smoothing": regularized.label_smoothing_loss(z, q, w),
    }


def test_soft_labels():
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(size=(6, 5)) * 3, rng.uniform(-3, 0, (6, 5))])
    z = z.astype("f4")
    z[6:, 0] = [-40, -12, 5, 12, 17, 40]
    q = rng.dirichlet(np.ones(5), 12).astype("f4")
    q[6:] = np.eye(5)[0]
    q[8] = [0.5, 0.5, 0, 0, 0]
    w = np.float32([0.5, 2, 0, 1, 3])

    @interpreted
    def run(z, q, w):
        values, pull = jax.vjp(lambda z: soft_losses(z, q, w), z)
        one = jax.tree.map(jnp.ones_like, values)
        zero = jax.tree.map(jnp.zeros_like, values)
        return values, {k: pull(zero | {k: one[k]})[0] for k in values}

    values, grads = run(z, q, w)
    want = soft_oracles(z, q.astype(float), w.astype(float))
    with jax.enable_x64(True):
        exact, slopes = jax.tree.map(
            np.asarray, run(*(a.astype(float) for a in (z, q, w)))
        )
    for name in want:
        np.testing.assert_allclose(
            values[name], want[name], rtol=1e-5, atol=1e-37, err_msg=name
        )
        np.testing.assert_allclose(exact[name], want[name], rtol=1e-9, atol=1e-37)
        scale = np.abs(slopes[name]).max(-1, keepdims=True)
        off = np.abs(np.asarray(grads[name]) - slopes[name])
        assert (off <= 1e-5 * scale + 1e-37).all(), name
    for c, step in enumerate(1e-6 * np.eye(5)):
        up, down = (
            soft_oracles(z[:6] + side * step, q[:6].astype(float), w)
            for side in (1, -1)
        )
        for name in want:
            difference = (up[name] - down[name]) / 2e-6
            np.testing.assert_allclose(slopes[name][:6, c], difference, atol=1e-7)
    # An integer label is its own distribution.
    y, hot = np.arange(5), np.eye(5, dtype="f4")
    named = interpreted(lambda z: soft_losses(z, y, w))(z[:5])
    for name, values in run(z[:5], hot, w)[0].items():
        np.testing.assert_allclose(values, named[name], rtol=1e-5, err_msg=name)
    # NaN behind a mask of classes has no mass, a number does.
    where = np.array([[True, True, False, True, True]])
    spoilt = hot[:1] + np.where(where, 0, np.nan).astype("f4")
    hidden = np.where(where, z[:1], np.nan)
    seen = np.flatnonzero(where)
    for loss in (comp_sums.focal_loss, baselines.generalized_cross_entropy):
        loss = interpreted(loss)
        got = loss(hidden, spoilt, where=where)
        np.testing.assert_allclose(got, loss(z[:1, seen], hot[:1, seen]), rtol=1e-6)


def test_hand_checks():
    z, y = np.tile(Z, (6, 1)), np.zeros(6, int)
    tau = np.float32([0, 0.5, 1, 1.5, 2, 3])
    got, grad = value_and_grad(comp_sums.comp_sum_loss, z, y, tau=tau)
    want = [0.5032147, 0.4521131, 0.4076060, 0.3687539, 0.3347590, 0.2787272]
    np.testing.assert_allclose(got, want, rtol=1e-6)
    np.testing.assert_allclose(grad[2], (-0.334759, 0.244728, 0.090031), atol=1e-6)
    np.testing.assert_allclose(grad[4], (-0.222695, 0.162803, 0.059892), atol=1e-6)
    np.testing.assert_allclose(comp_sums.focal_loss(Z, 1), 0.802948, rtol=1e-6)
    np.testing.assert_allclose(regularized.z_loss(Z), 5.7966e-4, rtol=1e-4)
    adversarial = np.float32([1, 1.5, 0])
    shift = smooth_adversarial.margin_shift_penalty(Z, adversarial, 0)
    loss = smooth_adversarial.smooth_adversarial_comp_sum_loss(Z, adversarial, 0)
    np.testing.assert_allclose([shift, loss], [1.8027756, 2.2103816], rtol=1e-6)


def test_closed_forms(x64):
    z, y = np.random.default_rng(0).normal(size=(4, 6)), np.arange(4)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    p_y, hot = p[y, y], np.eye(6)[y]
    norm = np.linalg.norm(z, axis=-1, keepdims=True)
    scaled = z / (0.04 * (norm + 1e-7))
    entropy = -(p * np.log(p)).sum(-1)

    @jax.jit
    def run(z):
        return (
            regularized.brier_loss(z, y),
            regularized.spherical_score_loss(z, y),
            regularized.confidence_penalty(z),
            regularized.logit_norm_loss(z, y),
            regularized.bootstrapping_loss(z, y),
            regularized.bootstrapping_loss(z, y, hard=True, beta=0.6),
            comp_sums.focal_loss(z, y, gamma=0.5),
            comp_sums.focal_loss(z, y, np.arange(6.0)),
            comp_sums.comp_rho_margin_loss(z, y, tau=0.0, rho=2.0),
            jax.grad(lambda z: regularized.bootstrapping_loss(z, y).sum())(z),
        )

    wants = (
        ((p - hot) ** 2).sum(-1),
        1 - p_y / np.sqrt((p**2).sum(-1)),
        -0.1 * entropy,
        np.log(np.exp(scaled).sum(-1)) - scaled[y, y],
        -0.95 * np.log(p_y) + 0.05 * entropy,
        -0.6 * np.log(p_y) - 0.4 * np.log(p.max(-1)),
        -np.sqrt(1 - p_y) * np.log(p_y),
        -y * (1 - p_y) ** 2 * np.log(p_y),
        np.clip(1 - (z[y, y][:, None] - z) / 2, 0, 1).sum(-1) - 1,
        0.95 * (p - hot),
    )
    for got, want in zip(run(z), wants, strict=True):
        np.testing.assert_allclose(got, want, rtol=1e-10)


def test_exact_at_any_margin():
    margins = np.float32([-80, -30, -5, 0, 5, 17, 40, 80])
    tau = np.repeat(np.float32([0, 0.999, 1, 1.7, 3]), 8)
    m = np.tile(margins, 5)
    z, y = np.stack([m, 0 * m], -1), np.zeros(40, int)
    got = value_and_grad(comp_sums.comp_sum_loss, z, y, tau=tau)
    nll, t = np.logaddexp(0, -m.astype(float)), 1 - tau.astype(float)
    want = np.where(t == 0, nll, np.expm1(t * nll) / np.where(t == 0, 1, t))
    slope = np.exp(t * nll) * -np.expm1(-nll)
    np.testing.assert_allclose(got[0], want, rtol=1e-5)
    slopes = np.stack([-slope, slope], -1)
    # Below the normal numbers of float32 there is nothing to compare.
    np.testing.assert_allclose(got[1], slopes, rtol=1e-5, atol=1e-37)


def test_penalties_are_exact_when_confident():
    z = np.float32([[40, 0, 0], [80, 0, 1], [5, 0, 2]])
    for loss, args in [
        (regularized.confidence_penalty, ()),
        (regularized.bootstrapping_loss, (np.zeros(3, int),)),
    ]:
        got = value_and_grad(loss, z, *args)
        with jax.enable_x64(True):
            want = value_and_grad(loss, z.astype(float), *args)
        for a, b in zip(got, want, strict=True):
            a, b = np.asarray(a).reshape(3, -1), np.asarray(b).reshape(3, -1)
            assert (np.abs(a - b).max(-1) <= 1e-5 * np.abs(b).max(-1)).all()


def test_tau_is_traced_and_has_a_gradient(x64):
    taus, y = np.array([0.0, 0.5, 1.0, 1.000001, 1.5, 2.0]), np.zeros(6, int)
    z = np.tile(Z.astype(float), (6, 1))
    run = jax.jit(lambda tau: comp_sums.comp_sum_loss(z, y, tau=tau))
    _, slope = jax.jit(lambda t: jax.jvp(run, (t,), (jnp.ones(6),)))(taus)
    h = 1e-6
    np.testing.assert_allclose(slope, (run(taus + h) - run(taus - h)) / (2 * h), 1e-6)
    with pytest.raises(ValueError, match="tau has shape"):
        comp_sums.comp_sum_loss(z, y, tau=np.ones(2))


def test_extremes_and_hidden_labels():
    big, inf = np.float32(1e30), np.inf
    ends = [[big, -big], [-big, big], [big, big], [0, 200], [-inf, 1], [-inf, -inf]]
    z, tau = np.tile(np.float32(ends), (4, 1)), np.repeat(np.float32([0, 1, 1.5, 2]), 6)
    y = np.zeros(24, int)
    values, grad = value_and_grad(comp_sums.comp_sum_loss, z, y, tau=tau)
    assert not np.isnan(values).any()
    assert np.isfinite(grad).all()
    np.testing.assert_array_equal(values[4::6], [inf, inf, 2, 1])
    np.testing.assert_array_equal(values[5::6], 0)
    capped = value_and_grad(
        comp_sums.comp_sum_loss, z[3], 0, tau=0.0, max_log_loss=10.0
    )
    np.testing.assert_allclose(capped[0], np.expm1(10), rtol=1e-6)
    np.testing.assert_array_equal(capped[1], 0)


def test_edges():
    big = np.float32(1e30)
    assert comp_sums.comp_sum_loss(np.float32([3]), 0, tau=0.5) == 0
    weights = np.float32([0, 1])
    assert comp_sums.weighted_cross_entropy(np.float32([-np.inf, 1]), 0, weights) == 0
    far = regularized.label_smoothing_loss(np.float32([big, -big]), 0, eps=0.1)
    np.testing.assert_allclose(far, 0.05 * 2e30, rtol=1e-5)
    equal = regularized.logit_norm_loss(np.zeros(3, "f4"), 0)
    np.testing.assert_allclose(equal, np.log(3), rtol=1e-6)
    where = np.array([True, False, True])
    for loss in (comp_sums.focal_loss, regularized.label_smoothing_loss):
        same = loss(Z.astype("bfloat16"), 0, where=where)
        np.testing.assert_allclose(same, loss(Z[[0, 2]], 0), rtol=1e-6)
        assert same.dtype == np.float32


def test_errors():
    for call, message in [
        (lambda: comp_sums.comp_sum_loss(Z, 0, tau=-1.0), "tau is -1.0"),
        (lambda: comp_sums.comp_sum_loss(Z, 0, max_log_loss=0.0), "max_log_loss"),
        (lambda: comp_sums.comp_rho_margin_loss(Z, 0, rho=0.0), "rho"),
        (lambda: comp_sums.focal_loss(Z, 0, gamma=-1.0), "gamma"),
        (
            lambda: comp_sums.weighted_cross_entropy(Z, 0, np.ones(2)),
            "weights has shape",
        ),
        (lambda: regularized.label_smoothing_loss(Z, 0, eps=2.0), "eps"),
        (lambda: regularized.logit_norm_loss(Z, 0, temperature=0.0), "temperature"),
        (lambda: regularized.bootstrapping_loss(Z, 0, beta=2.0), "beta"),
        (lambda: regularized.brier_loss(Z, 3), "outside"),
        (lambda: smooth_adversarial.margin_shift_penalty(Z, Z[:2], 0), "adv_logits"),
        (lambda: consistency.hconsistency_bound(0.1, tau=1.0, num_classes=1), "num"),
    ]:
        with pytest.raises(ValueError, match=message):
            call()


# --- theory


TRANSFORMS = {  # at 0.1, 0.5 and 0.9, for four classes
    0.0: (0.005013, 0.133975, 0.564110),
    0.5: (0.004725, 0.125628, 0.514426),
    1.0: (0.005008, 0.130812, 0.494632),
    1.5: (0.004988, 0.118034, 0.345362),
    2.0: (0.025, 0.125, 0.225),
}
transform = jax.jit(consistency.hconsistency_transform, static_argnames="num_classes")
bayes_risk = jax.jit(consistency.comp_sum_bayes_risk)


def test_bayes_risk_and_transform_by_hand():
    q = np.float32([0.7, 0.2, 0.1])
    got = [bayes_risk(q, tau=float(t)) for t in (0, 0.5, 1, 1.5, 2, 3)]
    want = [1.560324, 1.122530, 0.801819, 0.530306, 0.3, 0.15]
    np.testing.assert_allclose(got, want, rtol=2e-6)
    beta = np.float32([0.1, 0.5, 0.9])
    for tau, want in TRANSFORMS.items():
        got = transform(beta, tau=tau, num_classes=4)
        np.testing.assert_allclose(got, want, atol=1e-6)
    gap = consistency.minimizability_gap(1.0, np.stack([q, q]), tau=2.0)
    np.testing.assert_allclose(gap, 0.7, rtol=1e-6)


def test_regret_is_bounded(x64):
    rng = np.random.default_rng(1)
    loss = jax.jit(comp_sums.comp_sum_loss)
    for n in (2, 5):
        q, z = rng.dirichlet(np.ones(n), 50), rng.normal(size=(50, n))
        worst = q.max(-1) - q[np.arange(50), z.argmax(-1)]
        for tau in TAUS:
            each = [loss(z, np.full(50, c), tau=tau) for c in range(n)]
            regret = (q.T * np.stack(each)).sum(0) - bayes_risk(q, tau=tau)
            assert (regret >= transform(worst, tau=tau, num_classes=n) - 1e-12).all()
    b = np.array([0.0, 0.2, 0.9, 1.0])  # two classes, equal scores: equality
    q, even = np.stack([(1 + b) / 2, (1 - b) / 2], -1), np.zeros((4, 2))
    for tau in (0.0, 0.7, 1.0, 1.3):
        regret = loss(even, np.zeros(4, int), tau=tau) - bayes_risk(q, tau=tau)
        least = transform(b, tau=tau, num_classes=2)
        np.testing.assert_allclose(regret, least, atol=1e-12)


def test_bound_inverts_the_transform(x64):
    @jax.jit
    def run(b, tau):
        kwargs = dict(tau=tau, num_classes=4)
        excess = consistency.hconsistency_transform(b, **kwargs)
        bound = consistency.hconsistency_bound
        return (
            bound(excess, **kwargs),
            bound(excess, closed_form=True, **kwargs),
            bound(excess, minimizability_gap_01=0.1, **kwargs),
            bound(excess + 100, **kwargs),
        )

    b = np.linspace(0.05, 1, 6)
    for tau in TAUS:
        exact, closed, less, worst = map(np.asarray, run(b, tau))
        np.testing.assert_allclose(exact, b, atol=1e-7)
        assert (closed >= exact - 1e-7).all()
        np.testing.assert_allclose(less, exact - 0.1)
        np.testing.assert_array_equal(worst, 1)


# --- adversarial


def test_smooth_loss_bounds_the_adversarial_one(x64):
    rng = np.random.default_rng(2)
    clean, adversarial = rng.normal(size=(2, 100, 5)) * 2
    y = rng.integers(0, 5, 100)
    smooth = jax.jit(smooth_adversarial.smooth_adversarial_comp_sum_loss)
    hard = jax.jit(smooth_adversarial.adversarial_comp_rho_margin_loss)
    for tau in (0.0, 1.0, 1.5, 3.0):
        for rho in (0.5, 2.0):
            upper = smooth(clean, adversarial, y, tau=tau, rho=rho, nu=2 / rho)
            lower = hard(adversarial, y, tau=tau, rho=rho)
            assert (upper >= lower - 1e-9).all()


def test_margin_shift_norm_edges():
    big = np.float32([1e30, 0, -1e30])
    clean, attacked = np.stack([Z, big]), np.stack([Z, -big / 2])
    norm = smooth_adversarial.margin_shift_penalty
    values, grad = value_and_grad(norm, clean, attacked, np.zeros(2, int))
    np.testing.assert_allclose(values, [1e-6, 1e30 * np.hypot(1.5, 3)], rtol=1e-6)
    np.testing.assert_array_equal(grad[0], 0)
    np.testing.assert_allclose(grad[1].sum(), 0, atol=1e-6)
    assert norm(np.float32([1]), np.float32([2]), 0) == 0
    jitted = jax.jit(smooth_adversarial.smooth_adversarial_comp_sum_loss)
    assert np.isnan(jitted(Z, Z, 3))


def test_spherical_score_slopes_of_a_wrong_label():
    """The slope of an expm1, itself and 1, rounds to 0 from 17 on."""
    margins = np.float32([-80, -60, -30, -17, -12, -5, 0, 5, 17, 30, 42])
    z, y = np.float32([[m, 0, -1.3] for m in margins]), np.zeros(11, int)
    got = value_and_grad(regularized.spherical_score_loss, z, y)
    q = 2 * z.astype(float) - 2 * z.max(-1, keepdims=True)
    q = np.exp(q) / np.exp(q).sum(-1, keepdims=True)
    root, rest = np.sqrt(q[:, 0]), q[:, 1:].sum(-1)
    slopes = np.concatenate([-(root * rest)[:, None], root[:, None] * q[:, 1:]], -1)
    np.testing.assert_allclose(got[0], rest / (1 + root), rtol=1e-5)
    np.testing.assert_allclose(got[1], slopes, rtol=1e-5, atol=1e-37)


def test_label_smoothing_keeps_no_array():
    z, y = np.zeros((256, 1000), "f4"), np.zeros(256, int)
    loss = regularized.label_smoothing_loss
    slope = jax.jit(jax.grad(lambda z: loss(z, y).sum()))
    memory = slope.lower(z).compile().memory_analysis()
    assert memory.temp_size_in_bytes < z.nbytes / 2


def test_bootstrapping_learns_nothing_from_itself():
    z = np.float32([0.3, 1, -2, 0.7, 0.1])
    slope = jax.grad(lambda z: regularized.bootstrapping_loss(z, 0, beta=0.0))(z)
    np.testing.assert_array_equal(slope, 0)


def test_a_hidden_class_has_no_share_of_the_slopes():
    slope = jax.grad(comp_sums.cross_entropy)
    got = slope(np.float32([1, -np.inf, -1]), np.float32([1, 0, 0]))
    np.testing.assert_allclose(got, np.array([-1, 0, 1]) / (1 + np.exp(2)), rtol=1e-6)


def test_slopes_of_confident_labels():
    q = np.exp(-40.0)
    slope = jax.grad(lambda z: comp_sums.comp_sum_loss(z, 0, tau=2.0))(
        np.float32([40, 0])
    )
    np.testing.assert_allclose(slope, [-q, q], rtol=1e-5)
    np.testing.assert_allclose(
        jax.grad(lambda x: -numerics.expm1(-x))(40.0), q, rtol=1e-5
    )
