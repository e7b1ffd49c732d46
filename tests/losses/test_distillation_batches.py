import jax
import numpy as np
import pytest
from harness.goldens import arrays, cases, draw, error, value_and_grad
from harness.interpreter import functions
from scipy.special import log_softmax, softmax

from logitlab import losses

losses = functions(losses)


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("dist"))
def test_dist_golden(case, x64):
    s, t = arrays(case, "student_logits", "teacher_logits")
    params, outputs = case["params"], case["outputs"]
    value, grad = value_and_grad(lambda s: losses.dist_loss(s, t, **params), s)
    assert error(value, outputs["loss"]) < 1e-8
    assert error(grad, outputs["grad_logits"]) < 1e-8
    heat = dict(temperature=params["temperature"])
    inter = losses.dist_inter_loss(s, t, **heat)
    assert error(inter, outputs["inter_per_example"]) < 1e-8
    intra = losses.dist_intra_loss(s, t, **heat)
    assert error(intra, outputs["intra_per_class"]) < 1e-8


def test_constant_rows_and_columns():
    one = np.float32([[1, 0, 3]])
    np.testing.assert_array_equal(losses.dist_intra_loss(one, one), 1)
    value, grad = value_and_grad(
        lambda s: losses.dist_loss(s, one), np.zeros((1, 3), "f4")
    )
    assert value == 2
    assert np.isfinite(grad).all()


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("mlkd"))
def test_mlkd_golden(case, x64):
    names = ("student_weak", "student_strong", "teacher_weak", "teacher_strong")
    weak, strong, t, u, y = arrays(case, *names, "labels")
    params, outputs = case["params"], case["outputs"]

    @jax.jit
    def run(weak, strong):
        def total(weak, strong):
            parts = losses.mlkd_loss(weak, strong, t, u, y, **params)
            return sum(parts.values()), parts

        return jax.grad(total, (0, 1), has_aux=True)(weak, strong)

    grads, parts = run(weak, strong)
    for name, value in parts.items():
        assert error(value, outputs[name]) < 1e-8, name
    assert error(grads[0], outputs["grad_student_weak"]) < 1e-8
    assert error(grads[1], outputs["grad_student_strong"]) < 1e-8
    heat = dict(temperature=4.0)
    cc = losses.class_correlation_loss(weak, t, **heat)
    assert error(cc, outputs["cc_at_T4"]) < 1e-8
    bc = losses.batch_correlation_loss(weak, t, **heat)
    assert error(bc, outputs["bc_at_T4"]) < 1e-8
    kd = losses.kd_loss(weak, t, standardize=params["standardize"], **heat)
    assert error(kd.mean(), outputs["kd_at_T4"]) < 1e-8


def test_mlkd_as_it_was_meant(x64):
    """Masks by hand, one temperature at a time."""
    weak, strong, t, u = (draw(i, 5, 4) for i in range(4))
    y, keep = np.arange(5) % 4, np.arange(5) < 4
    got = losses.mlkd_loss(weak, strong, t, u, y, mode="intended")
    p = softmax(t, -1)
    unsure = p.max(-1) <= np.median(p.max(-1))
    rare = p.sum(0) <= np.median(p.sum(0))
    heats = (4.0, 3.0, 5.0, 2.0, 6.0)
    kd = sum(
        (unsure * losses.kd_loss(weak, t, temperature=h)).mean()
        + losses.kd_loss(strong, u, temperature=h).mean()
        for h in heats
    )
    np.testing.assert_allclose(got["loss_kd"], 0.9 * kd, rtol=1e-12)
    cc = bc = 0
    for h in heats:
        for s, v, by_class, by_row in ((weak, t, rare, unsure), (strong, u, 1, 1)):
            q, p = softmax(s / h, -1), softmax(v / h, -1)
            cc += (by_class * ((p.T @ p - q.T @ q) ** 2).sum(-1)).sum() / 4
            bc += (by_row * ((p @ p.T - q @ q.T) ** 2).sum(-1)).sum() / 5
    np.testing.assert_allclose(got["loss_cc"], 0.9 * cc, rtol=1e-10)
    np.testing.assert_allclose(got["loss_bc"], 0.9 * bc, rtol=1e-10)
    for mode in ("official", "intended"):
        part = losses.mlkd_loss(weak, strong, t, u, y, mode=mode, mask=keep)
        want = losses.mlkd_loss(*(a[:4] for a in (weak, strong, t, u, y)), mode=mode)
        for name in want:
            np.testing.assert_allclose(part[name], want[name], rtol=1e-10)


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("rkd"))
def test_rkd_golden(case, x64):
    s, t = arrays(case, "student", "teacher")
    params, outputs = case["params"], case["outputs"]

    @jax.jit
    def run(s):
        def total(s):
            parts = (
                losses.rkd_distance_loss(s, t).mean(),
                losses.rkd_angle_loss(s, t).mean(),
            )
            total = params["distance_weight"] * parts[0]
            return total + params["angle_weight"] * parts[1], parts

        return jax.value_and_grad(total, has_aux=True)(s)

    (value, (distance, angle)), grad = run(s)
    assert error(distance, outputs["distance"]) < 1e-8
    assert error(angle, outputs["angle"]) < 1e-8
    assert error(value, outputs["loss"]) < 1e-8
    assert error(grad, outputs["grad_student"]) < 1e-8


def test_relations_of_kept_examples():
    s, t = draw(0, 5, 3).astype("f4"), draw(1, 5, 4).astype("f4")
    keep = np.array([True, False, True, True, False])
    spoilt = np.where(keep[:, None], s, np.nan)
    for loss in (losses.rkd_distance_loss, losses.rkd_angle_loss):
        got = np.asarray(loss(spoilt, t, mask=keep))
        want = loss(s[keep], t[keep])
        index = np.ix_(*(np.flatnonzero(keep),) * got.ndim)
        np.testing.assert_allclose(got[index], want, rtol=1e-5, atol=1e-7)
        assert (np.delete(got, np.flatnonzero(keep), 0) == 0).all()
    alone = losses.rkd_distance_loss(s[:1], t[:1])
    assert alone == 0
    twins = np.ones((3, 2), "f4")
    value, grad = value_and_grad(lambda s: losses.rkd_angle_loss(s, t[:3]), twins)
    assert np.isfinite(value).all()
    assert np.isfinite(grad).all()


def test_sp_and_pkt(x64):
    s, t = draw(0, 4, 3), draw(1, 4, 5)

    def rows(g):
        return g / np.linalg.norm(g, axis=-1, keepdims=True)

    gap = rows(s @ s.T) - rows(t @ t.T)
    want = (gap**2).sum() / 16
    np.testing.assert_allclose(
        losses.similarity_preserving_loss(s, t), want, rtol=1e-12
    )

    def shares(e):
        p = (rows(e) @ rows(e).T + 1) / 2
        return p / p.sum(-1, keepdims=True)

    p, q = shares(t), shares(s)
    want = (p * np.log((p + 1e-7) / (q + 1e-7))).mean()
    np.testing.assert_allclose(losses.pkt_loss(s, t), want, rtol=1e-10)


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("uskd"))
def test_uskd_golden(case, x64):
    f, w, b, s, y = arrays(
        case, "features", "weak_weight", "weak_bias", "student_logits", "labels"
    )
    params, outputs = case["params"], case["outputs"]
    y, b = y if y.ndim == 1 else y.astype(float), b[None]

    @jax.jit
    def run(s, f, w):
        def total(s, f, w):
            return losses.uskd_loss(s, f @ w.T + b, y, **params)

        ones = dict(alpha=1.0, beta=1.0, mu=1.0)
        parts = losses.uskd_parts(s, f @ w.T + b, y, **ones)
        return parts, *jax.value_and_grad(total, (0, 1, 2))(s, f, w)

    parts, value, grads = run(s, f, w)
    for name, part in parts.items():
        assert error(part.mean(), outputs[f"{name}_part"]) < 1e-8, name
    assert error(value, outputs["loss"]) < 1e-8
    names = ("grad_logits", "grad_features", "grad_weak_weight")
    for grad, name in zip(grads, names, strict=True):
        assert error(grad, outputs[name]) < 1e-8, name


def test_uskd_by_hand(x64):
    s, w, y = np.array([[1.0, 2, 0, -1]]), np.array([[0.0, 3, 1, 2]]), np.array([0])
    options = dict(alpha=1.0, beta=1.0, mu=1.0, rank_student="prob")
    parts = losses.uskd_parts(s, w, y, **options)
    q, v = softmax(s[0]), softmax(w[0])
    score = v / (1 - v[0] + 1e-6) + q / (1 - q[0] + 1e-6)
    place = np.argsort(np.argsort(-score)) + 1
    weight = np.where(np.arange(4) > 0, 1 / place, 0)
    weight /= weight.sum()
    log_others = log_softmax(np.r_[-np.inf, s[0, 1:]])
    want = -(weight[1:] * log_others[1:]).sum()
    np.testing.assert_allclose(parts["non_target"], [want], rtol=1e-12)
    np.testing.assert_allclose(parts["target"], -log_softmax(s, -1)[:, 0], rtol=1e-12)
    smooth = np.full(4, 0.025) + np.array([0.9, 0, 0, 0])
    want = -(smooth * log_softmax(w[0])).sum()
    np.testing.assert_allclose(parts["weak"], [want], rtol=1e-12)
    two = losses.uskd_parts(s[:, :2], w[:, :2], y)
    assert two["non_target"] == 0


Z = np.zeros((2, 3), np.float32)
Y = np.zeros(2, int)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.dist_loss(Z, Z[:1]), "teacher_logits has shape"),
        (lambda: losses.dist_loss(Z, Z, mask=np.ones(3, bool)), "mask has shape"),
        (lambda: losses.mlkd_loss(Z, Z, Z, Z, Y, mode="x"), "mode is 'x'"),
        (lambda: losses.mlkd_loss(Z[0], Z, Z, Z, Y), r"student_weak has shape \(3,\)"),
        (
            lambda: losses.rkd_distance_loss(Z, Z[:1]),
            r"student has shape \(2, 3\), teacher",
        ),
        (lambda: losses.pkt_loss(Z, Z, mask=np.ones(3, bool)), "mask has shape"),
        (lambda: losses.uskd_parts(Z, Z[:, :2], Y), "weak_logits has shape"),
        (lambda: losses.uskd_parts(Z, Z, Z[0]), "labels has shape"),
        (lambda: losses.uskd_parts(Z, Z, Y, rank_student="x"), "rank_student is 'x'"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
