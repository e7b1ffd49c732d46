import jax
import numpy as np
import pytest
from harness.goldens import cases, check, error
from harness.interpreter import functions, interpreted

from logitlab import losses, targets, weights
from logitlab.losses import imbalance

imbalance = functions(imbalance)


@pytest.mark.parametrize("case", cases("asymmetric_loss"))
def test_asymmetric_golden(case, x64):
    # Transcribed; its eps only clamps probabilities below 1e-8.
    t, params = np.array(case["inputs"]["labels"]), dict(case["params"])
    params.pop("eps")
    check(lambda z: imbalance.asymmetric_loss(z, t, **params), case)


def test_sigmoid_focal_golden(x64):
    (case,) = cases("standard_losses", "sigmoid_focal")
    t, p = np.array(case["inputs"]["labels"]), case["params"]
    options = dict(alpha=p["alpha"], gamma=p["gamma"])
    check(lambda z: imbalance.sigmoid_focal_loss(z, t, **options), case)


def test_dequity_golden(x64):
    for case in cases("dequity_weight"):
        p = np.array(case["inputs"]["likelihood"])
        got = weights.dequity_weight(p, **case["params"])
        assert error(got, case["outputs"]["weight"]) < 1e-8
        losses = imbalance.likelihood_weighted_focal_loss(2 * p, p, **case["params"])
        np.testing.assert_allclose(losses, 2 * p * got)


def test_dynamic_reweighting_golden(x64):
    for case in cases("dynamic_reweighting"):
        losses, p = np.array(case["inputs"]["losses"]), dict(case["params"])
        w = weights.loss_weights(losses, **p)
        assert error(w, case["outputs"]["weights"]) < 1e-8
        r = p.pop("r")
        score = weights.loss_scores(losses, **p)
        assert error(score, case["outputs"]["score"]) < 1e-8
        total, grad = interpreted(
            jax.value_and_grad(
                lambda x, p=p, r=r: imbalance.reweighted_loss(x, r=r, **p)
            )
        )(losses)
        np.testing.assert_allclose(total, (w * losses).sum(), rtol=1e-12)
        np.testing.assert_allclose(grad, w, rtol=1e-12)


def test_dynamic_reweighting_edges():
    same = np.full(4, 1e30, np.float32)
    np.testing.assert_allclose(weights.loss_weights(same), 0.25)
    np.testing.assert_allclose(weights.loss_weights(np.float32([7])), 1)
    wide = weights.loss_weights(np.float32([1e30, -1e30]))
    np.testing.assert_allclose(wide, jax.nn.softmax(np.float32([2.5, 0])), rtol=1e-6)
    x, keep = np.float32([1, np.nan, 2, 5]), np.array([True, False, True, True])
    w = weights.loss_weights(x, mask=keep)
    np.testing.assert_allclose(w[keep], weights.loss_weights(x[keep]), rtol=1e-6)
    assert w[1] == 0
    nothing = imbalance.reweighted_loss(x, mask=keep & False)
    assert nothing == 0
    shares = imbalance.reweighted_loss(x[keep], token_share=np.full(3, 1 / 3))
    np.testing.assert_allclose(shares, imbalance.reweighted_loss(x[keep]), rtol=1e-6)
    with pytest.raises(ValueError, match="strategy is 'lower'"):
        weights.loss_scores(x, strategy="lower")


def test_dynamic_reweighting_across_devices():
    x = np.random.default_rng(0).exponential(size=(4, 3)).astype("f4")
    w = interpreted(
        jax.vmap(lambda x: weights.loss_weights(x, axis_name="d"), axis_name="d")
    )(x)
    np.testing.assert_allclose(w, weights.loss_weights(x), rtol=1e-6)
    part = interpreted(
        jax.vmap(lambda x: imbalance.reweighted_loss(x, axis_name="d"), axis_name="d")
    )(x)
    np.testing.assert_allclose(part.mean(), imbalance.reweighted_loss(x), rtol=1e-6)


def test_class_weights():
    n = np.array([90, 9, 1])
    want = [0.031019, 0.297968, 2.671013]
    np.testing.assert_allclose(
        weights.class_balanced_weights(n), want, rtol=0, atol=1e-6
    )
    uniform = weights.class_balanced_weights(n, beta=0.0)
    np.testing.assert_allclose(uniform, 1, rtol=1e-6)
    empty = weights.class_balanced_weights(np.array([5, 0]))
    assert np.isfinite(empty).all()
    inverse = weights.inverse_frequency_weights(n)
    np.testing.assert_allclose(inverse, 100 / (3 * n), rtol=1e-6)
    with pytest.raises(ValueError, match="beta is 1.0"):
        weights.class_balanced_weights(n, beta=1.0)


def test_priors(x64):
    z, n = np.array([2.0, 1.0, 0.0]), np.array([90, 9, 1])
    want = [0.037577, 3.340162, 6.537386]
    for y in range(3):
        one = imbalance.logit_adjusted_loss(z, y, n / 100)
        two = imbalance.balanced_softmax_loss(z, y, n)
        np.testing.assert_allclose(one, want[y], atol=1e-6)
        np.testing.assert_allclose(one, two, rtol=1e-12)
        plain = imbalance.logit_adjusted_loss(z, y, n, tau=0.0)
        np.testing.assert_allclose(plain, -jax.nn.log_softmax(z)[y], rtol=1e-12)
        delta = 0.5 * (1 / n) ** 0.25 * (np.arange(3) == y)
        ldam = -jax.nn.log_softmax(2 * (z - delta))[y]
        np.testing.assert_allclose(imbalance.ldam_loss(z, y, n, scale=2.0), ldam)
    # An empty class is a hidden one.
    none = imbalance.balanced_softmax_loss(z, 0, np.array([1, 1, 0]))
    np.testing.assert_allclose(none, np.log1p(np.exp(-1)), rtol=1e-12)
    with pytest.raises(ValueError, match="counts has shape"):
        imbalance.balanced_softmax_loss(z, 0, n[:2])


@pytest.mark.parametrize("name", ["balanced_softmax_loss", "logit_adjusted_loss"])
def test_priors_are_exact(name):
    loss, n = getattr(imbalance, name), np.int32([8, 1, 3])
    y = np.zeros(9, np.int32)
    z = np.zeros((9, 3))
    z[:, 0] = np.linspace(-80, 80, 9)

    def run(z):
        return jax.grad(lambda z: loss(z, y, n).sum())(z), loss(z, y, n)

    with jax.enable_x64(True):
        want = jax.jit(run)(z)
    for a, b in zip(jax.jit(run)(z.astype("f4")), want, strict=True):
        b = np.asarray(b)
        scale = np.abs(b).max(-1, keepdims=True) if b.ndim == 2 else np.abs(b)
        assert (np.abs(np.asarray(a, "f8") - b) <= 1e-5 * scale).all()


def test_multilabel_closed_forms(x64):
    rng = np.random.default_rng(0)
    z, t = rng.normal(size=(6, 4)) * 3, rng.integers(0, 2, (6, 4))
    t[0], t[1] = 0, 1
    p = 1 / (1 + np.exp(-z))
    bce = -(t * np.log(p) + (1 - t) * np.log1p(-p))
    np.testing.assert_allclose(
        imbalance.multilabel_soft_margin_loss(z, t), bce.mean(-1), rtol=1e-12
    )
    np.testing.assert_allclose(
        imbalance.sigmoid_focal_loss(z, t, alpha=None, gamma=0.0), bce, rtol=1e-12
    )
    np.testing.assert_allclose(
        imbalance.asymmetric_loss(z, t, gamma_pos=0, gamma_neg=0, clip=0.0),
        bce,
        rtol=1e-12,
    )
    w = np.array([1.0, 2, 3, 4])
    weighted = -(w * t * np.log(p) + (1 - t) * np.log1p(-p)).mean(-1)
    np.testing.assert_allclose(
        imbalance.weighted_binary_cross_entropy(z, t, w), weighted, rtol=1e-12
    )
    zlpr = np.log1p((t * np.exp(-z)).sum(-1)) + np.log1p(((1 - t) * np.exp(z)).sum(-1))
    np.testing.assert_allclose(imbalance.zlpr_loss(z, t), zlpr, rtol=1e-12)
    lca = [
        np.mean([np.exp(b - a) for a in q[s == 1] for b in q[s == 0]])
        if 0 < s.sum() < 4
        else 0
        for q, s in zip(p, t, strict=True)
    ]
    np.testing.assert_allclose(imbalance.lca_loss(z, t), lca, rtol=1e-12)
    r = targets.label_correlation(t)
    want = np.corrcoef(t.T) - np.eye(4)
    np.testing.assert_allclose(r, want, atol=1e-12)
    total = np.zeros(6)
    for i in range(4):
        for j in range(4):
            g = p[:, j] if r[i, j] > 0 else 1 - p[:, j]
            total += abs(r[i, j]) * (p[:, i] - g) ** 2 / 12
    np.testing.assert_allclose(
        imbalance.label_correlation_loss(z, t, r), total, rtol=1e-10
    )
    e = rng.normal(size=(6, 3))
    u = e / np.linalg.norm(e, axis=1, keepdims=True)
    contrast = 0
    for i in range(6):
        for j in range(6):
            union = (t[i] | t[j]).sum()
            s = (t[i] & t[j]).sum() / union if union else 1
            c = u[i] @ u[j]
            if i != j:
                contrast += (s * (1 - c) + (1 - s) * max(0, c - 0.5)) / 30
    got = imbalance.jaccard_contrastive_loss(e, t)
    np.testing.assert_allclose(got, contrast, rtol=1e-12)
    hybrid = imbalance.multilabel_hybrid_loss(z, t, e, w, r)
    want = (weighted + 0.1 * total).mean() + 0.1 * contrast
    np.testing.assert_allclose(hybrid, want, rtol=1e-12)


def test_multilabel_is_exact():
    z = np.array([-80, -30, -5, 0, 5, 30, 80.0])
    for t in (np.zeros(7, np.int32), np.ones(7, np.int32)):
        for name in ("sigmoid_focal_loss", "asymmetric_loss"):
            loss = getattr(imbalance, name)
            options = dict(gamma=1.0) if "focal" in name else {}
            options |= {} if "focal" in name else dict(gamma_neg=0, clip=0.0)

            run = jax.jit(
                jax.grad(lambda z, f=loss, t=t, o=options: f(z, t, **o).sum())
            )

            with jax.enable_x64(True):
                want = run(z)
            np.testing.assert_allclose(run(z.astype("f4")), want, rtol=1e-5, atol=1e-37)


def test_soft_margin_class_weights(x64):
    rng = np.random.default_rng(0)
    z, t, w = rng.normal(size=(6, 4)) * 3, rng.uniform(size=(6, 4)), np.arange(4.0)
    p = 1 / (1 + np.exp(-z))
    bce = -(t * np.log(p) + (1 - t) * np.log1p(-p))
    loss = imbalance.multilabel_soft_margin_loss
    np.testing.assert_allclose(loss(z, t, w), (w * bce).mean(-1), rtol=1e-12)
    turned = loss(z.T, t.T, w, axis=0)
    np.testing.assert_allclose(turned, (w * bce).mean(-1), rtol=1e-12)
    grad = interpreted(
        jax.grad(lambda z: losses.multilabel_soft_margin_loss(z, t, w).sum())
    )(z)
    np.testing.assert_allclose(grad, w * (p - t) / 4, rtol=1e-12)
    mean = losses.sigmoid_cross_entropy(z, t).mean(-1)
    np.testing.assert_allclose(loss(z, t), mean, rtol=1e-12)
    with pytest.raises(ValueError, match=r"class_weights has shape \(3,\)"):
        losses.multilabel_soft_margin_loss(z, t, w[:3])
    with pytest.raises(ValueError, match="class_weights is .*, expected at least 0"):
        losses.multilabel_soft_margin_loss(z, t, -w)


def test_asymmetric_keeps_its_slope():
    """Both terms at the default powers, where the sigmoid itself rounds to 1."""
    z = np.array([-80, -40, -17, -5, -1, 0, 1, 5, 12, 17, 20, 30, 46, 80.0])
    for t in (np.zeros(len(z), int), np.ones(len(z), int)):

        def run(z, t=t):
            f = lambda z: losses.asymmetric_loss(z, t).sum()  # noqa: E731
            return losses.asymmetric_loss(z, t), jax.grad(f)(z)

        with jax.enable_x64(True):
            want = interpreted(run)(z)
        for a, b in zip(jax.jit(run)(z.astype("f4")), want, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-37)
    # By hand at z = 20, a negative: p = 1 - e^-20 and what is left is nearly the clip.
    rest = np.exp(-20) / (1 + np.exp(-20))
    shifted = 1 - rest - 0.05
    slope = 4 * shifted**3 * -np.log(1 - shifted) + shifted**4 / (1 - shifted)
    got = jax.grad(lambda z: losses.asymmetric_loss(z, np.array(0)))(np.float32(20))
    np.testing.assert_allclose(got, slope * rest * (1 - rest), rtol=1e-5)


MULTILABEL = {
    "asymmetric_loss": ("gamma_pos", "gamma_neg", "clip"),
    "sigmoid_focal_loss": ("alpha", "gamma"),
    "multilabel_soft_margin_loss": (),
    "zlpr_loss": (),
}


@pytest.mark.parametrize(
    ("name", "argument"), [(n, a) for n, names in MULTILABEL.items() for a in names]
)
def test_multilabel_hyper_parameters(name, argument, x64):
    """They may be traced, and do not decide the dtype."""
    z, t, loss = (
        np.zeros((3, 4), np.float32),
        np.zeros((3, 4), int),
        getattr(losses, name),
    )
    plain = jax.eval_shape(lambda z: loss(z, t, **{argument: np.float64(0.5)}), z)
    assert plain.dtype == np.float32
    traced = jax.eval_shape(lambda v: loss(z, t, **{argument: v}), 0.5)
    assert traced.dtype == np.float32
    with pytest.raises(ValueError, match=f"{argument} is -1.0"):
        loss(z, t, **{argument: -1.0})


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", MULTILABEL)
def test_multilabel_no_label(name):
    """A negative number is no label: NaN, eagerly and compiled, for a mask to drop."""
    z, t = np.zeros((2, 3), np.float32), np.array([[1, -100, 0], [0, 0, 1]])
    loss = getattr(losses, name)
    eager, jitted = loss(z, t), jax.jit(loss)(z, t)
    np.testing.assert_allclose(eager, jitted, rtol=1e-6)
    rows = np.isnan(eager).any(-1) if eager.ndim == 2 else np.isnan(eager)
    np.testing.assert_array_equal(rows, [True, False])
    known = loss(z, t, where=t >= 0)
    assert np.isfinite(known).all()
    np.testing.assert_array_equal(loss(z, t.astype(np.int8)), eager)
    for wrong in (t * 0 + 2, t * 0 + 2**32 + 1, t * 0 + 1.5):
        with pytest.raises(ValueError, match=r"labels outside \[0, 1\]"):
            loss(z, wrong)


def test_multilabel_edges():
    z, t = np.float32([1e30, -1e30, -np.inf]), np.array([1, 0, 1])
    for name in (
        "asymmetric_loss",
        "sigmoid_focal_loss",
        "multilabel_soft_margin_loss",
        "zlpr_loss",
        "lca_loss",
    ):
        loss = getattr(imbalance, name)
        value, grad = jax.jit(jax.value_and_grad(lambda z, f=loss: f(z, t).sum()))(z)
        assert np.isfinite(value), name
        assert np.isfinite(grad).all(), name
        assert grad[2] == 0, name
        where = np.array([True, True, False])
        unknown = loss(np.float32([1, -1, np.nan]), np.array([1, 0, -1]), where=where)
        known = loss(np.float32([1, -1]), np.array([1, 0]))
        np.testing.assert_allclose(unknown.sum(), known.sum(), rtol=1e-6)
        assert np.isnan(jax.jit(loss)(z, np.array([2, 0, 0]))).any(), name
        with pytest.raises(ValueError, match="outside"):
            getattr(losses, name)(z, np.array([2, 0, 0]))
        with pytest.raises(ValueError, match="labels has shape"):
            loss(z, np.array(1))


def test_cluster_likelihood():
    got = weights.cluster_likelihood(np.array([0, 2, 0, -1, -1]), 3)
    np.testing.assert_allclose(got, [0.4, 0.2, 0.4, 0.2, 0.2], rtol=1e-6)
    with pytest.raises(ValueError, match="outside"):
        weights.cluster_likelihood(np.array([3]), 3)
    with pytest.raises(ValueError, match="likelihood is"):
        weights.dequity_weight(np.float32([1.5]))


def test_saturated_slopes():
    """Slopes of sigmoids near 1, which ``p * (1 - p)`` rounds to 0."""
    margins = np.float32([-80, -40, -17, -9.5, -1, 0, 2, 9.5, 12, 17, 40, 80])
    z = np.stack([margins, -margins / 2 + 1, 0 * margins + 0.5], -1)
    t = np.tile([1, 0, 1], (12, 1))
    corr = np.float32([[0, 0.5, -1], [0.5, 0, 0.2], [-1, 0.2, 0]])
    for loss, args in (
        (losses.asymmetric_loss, (t,)),
        (losses.asymmetric_loss, (1 - t,)),
        (losses.label_correlation_loss, (t, corr)),
        (losses.lca_loss, (t,)),
    ):
        run = jax.jit(jax.grad(lambda z, f=loss, a=args: f(z, *a).sum()))
        with jax.enable_x64(True):
            want = np.asarray(run(z.astype(float)))
        off = np.abs(np.asarray(run(z)) - want)
        if loss is losses.asymmetric_loss:
            assert (off <= 1e-5 * np.abs(want) + 1e-37).all()
        scale = np.abs(want).max(-1, keepdims=True)
        assert (off <= 1e-5 * scale + 1e-37).all(), loss.__name__


def test_embeddings_without_a_direction():
    e, t = np.zeros((3, 2), "f4"), np.eye(3, dtype=int)
    e[0] = [1, 2]

    def loss(e):
        return losses.jaccard_contrastive_loss(e, t, margin=-1.0)

    grad, curve = jax.jit(lambda e: (jax.grad(loss)(e), jax.hessian(loss)(e)))(e)
    assert (grad[1:] == 0).all()
    assert np.isfinite(curve).all()


def test_more_examples_than_int32_counts():
    counts = np.array([3 * 10**9, 1])
    w = weights.inverse_frequency_weights(counts)
    np.testing.assert_allclose(w, counts.sum() / (2 * counts), rtol=1e-6)


def test_slopes_of_a_saturated_pair():
    slope = jax.grad(imbalance.label_correlation_loss)(
        np.float32([40, 0]), np.array([0, 1]), np.float32([[0, 1], [1, 0]])
    )  # of (sigmoid(40) - sigmoid(0))^2
    np.testing.assert_allclose(slope, [np.exp(-40.0), -0.25], rtol=1e-5)


def test_uer_is_cross_entropy_of_its_logits(x64):
    rng = np.random.default_rng(0)
    cosine, linear = rng.normal(size=(2, 6, 4))
    y, replayed = rng.integers(0, 4, 6), np.arange(6) % 2 == 0
    z = np.where(replayed[:, None], linear, cosine)
    got = imbalance.uer_loss(cosine, linear, y, replayed)
    np.testing.assert_allclose(got, losses.cross_entropy(z, y), 1e-12)
    turned = imbalance.uer_loss(cosine.T, linear.T, y, replayed, axis=0)
    np.testing.assert_allclose(turned, got, 1e-12)
    soft = imbalance.uer_loss(cosine, linear, np.eye(4)[y], replayed)
    np.testing.assert_allclose(soft, got, 1e-12)
    grads = jax.grad(lambda c, n: losses.uer_loss(c, n, y, replayed).sum(), (0, 1))(
        cosine, linear
    )
    assert (grads[0][replayed] == 0).all()
    assert (grads[1][~replayed] == 0).all()


def test_uer_selects_what_it_leaves_out():
    cosine, linear = np.zeros((2, 3), "f4"), np.zeros((2, 3), "f4")
    cosine[1], linear[0] = np.nan, np.nan
    y, replayed = np.array([0, 1]), np.array([False, True])
    value, grads = interpreted(
        jax.value_and_grad(
            lambda c, n: losses.uer_loss(c, n, y, replayed).sum(), (0, 1)
        )
    )(cosine, linear)
    np.testing.assert_allclose(value, 2 * np.log(3), 1e-6)
    assert all(np.isfinite(g).all() for g in grads)
    with pytest.raises(TypeError, match="replay_mask has dtype"):
        losses.uer_loss(cosine, linear, y, y)
    with pytest.raises(ValueError, match="replay_mask has shape"):
        losses.uer_loss(cosine, linear, y, replayed[:1])
    with pytest.raises(ValueError, match="linear_logits has shape"):
        losses.uer_loss(cosine, linear[:1], y, replayed)
