import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import arrays, cases, draw, error, value_and_grad
from harness.interpreter import functions
from scipy.special import log_softmax, logsumexp, softmax

from logitlab import losses, numerics, targets, transforms

plain = losses  # in which concrete labels are checked
losses, targets = functions(losses), functions(targets)
standardize_logits = functions(transforms).standardize_logits

NAMES = ("student_logits", "teacher_logits", "labels")


def check(loss, case, names=NAMES, rtol=1e-8):
    s, *rest = arrays(case, *names)
    values, grad = value_and_grad(lambda s: loss(s, *rest, **case["params"]), s)
    outputs = case["outputs"]
    assert error(values, outputs["per_example"]) < rtol
    assert error(values.mean(), outputs["loss"]) < rtol
    assert error(grad, outputs["grad_logits"]) < rtol
    return s, *rest


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("dkd"))
def test_dkd_golden(case, x64):
    args = check(losses.dkd_loss, case)
    parts = losses.dkd_loss(*args, **case["params"], return_parts=True)
    for name, part in parts.items():
        assert error(part.mean(), case["outputs"][name]) < 1e-8


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("nkd"))
def test_nkd_golden(case, x64):
    s, t, y = check(losses.nkd_loss, case)
    parts = losses.nkd_loss(s, t, y, **case["params"], return_parts=True)
    for name, part in parts.items():
        assert error(part.mean(), case["outputs"][f"{name}_part"]) < 1e-8
    mixed = 0.3 / s.shape[-1] + 0.7 * np.eye(s.shape[-1])[y]
    whole = losses.nkd_loss(s, t, y, **case["params"])
    np.testing.assert_array_equal(losses.nkd_loss(s, t, mixed, **case["params"]), whole)


@pytest.mark.parametrize("case", cases("wsld"))
def test_wsld_golden(case, x64):
    check(losses.wsld_loss, case)


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("pld"))
def test_pld_golden(case, x64):
    s, t, y = check(losses.pld_loss, case)
    ranking = targets.teacher_optimal_ranking(t, y)
    np.testing.assert_array_equal(ranking, case["outputs"]["ranking"])
    weights = np.array(case["outputs"]["weights"])
    given = losses.pld_loss(s, t, y, weights=weights)
    assert error(given, case["outputs"]["per_example"]) < 1e-8
    listed = losses.list_mle_distillation_loss(s, ranking, weights)
    np.testing.assert_allclose(listed, given, rtol=1e-12)


@pytest.mark.sampled(3)
@pytest.mark.parametrize(
    ("name", "loss"),
    [
        ("binary_kl", losses.binary_kl),
        ("binary_kl_norm", losses.normalized_binary_kl),
    ],
)
@pytest.mark.parametrize("case", cases("dhkd"))
def test_dhkd_golden(case, name, loss, x64):
    s, t = arrays(case, *NAMES[:2])
    values, grad = value_and_grad(lambda s: loss(s, t, **case["params"]), s)
    assert error(values, case["outputs"][f"{name}_per_example"]) < 1e-8
    assert error(grad, case["outputs"][f"{name}_grad"]) < 1e-8
    if "note" in case:  # without the clamp there is a slope everywhere
        free = jax.grad(lambda s: loss(s, t).sum())(s)
        assert (np.abs(free) > 1e-9).all()


def test_closed_forms_of_binary_kl(x64):
    s, t = draw(0, 5, 4), draw(1, 5, 4)
    norm = 9 * np.log(np.cosh((s - t) / 6)).sum(-1)
    got = losses.normalized_binary_kl(s, t, temperature=3.0)
    np.testing.assert_allclose(got, norm, rtol=1e-12)
    p, q = (1 / (1 + np.exp(-z / 3)) for z in (t, s))
    kl = p * np.log(p / q) + (1 - p) * np.log((1 - p) / (1 - q))
    got = losses.binary_kl(s, t, temperature=3.0)
    np.testing.assert_allclose(got, 9 * kl.sum(-1), rtol=1e-12)
    far = np.float32([[60, -60, 1]])  # where a clamp in float32 makes an inf
    clipped, grad = value_and_grad(
        lambda s: losses.binary_kl(s, -s, temperature=1.0, eps=1e-8), far
    )
    assert np.isfinite(clipped).all()
    np.testing.assert_array_equal(grad[0, :2], 0)


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("logit_standardization"))
def test_standardised_golden(case, x64):
    (s, t, y), params, outputs = arrays(case, *NAMES), case["params"], case["outputs"]
    for name, z in (("student", s), ("teacher", t)):
        got = standardize_logits(z)
        assert error(got, outputs[f"{name}_standardized"]) < 1e-8
    options = dict(temperature=params["temperature"], standardize=True)
    values, grad = value_and_grad(lambda s: losses.kd_loss(s, t, **options), s)
    assert error(values, outputs["kd_per_example"]) < 1e-8
    assert error(grad, outputs["kd_grad_logits"]) < 1e-8
    weights = dict(alpha=params["dkd_alpha"], beta=params["dkd_beta"])
    loss = lambda s: losses.dkd_loss(s, t, y, **weights, **options)  # noqa: E731
    values, grad = value_and_grad(loss, s)
    assert error(values.mean(), outputs["dkd_loss"]) < 1e-8
    assert error(grad, outputs["dkd_grad_logits"]) < 1e-8


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", cases("makd"))
def test_makd_golden(case, x64):
    z, y, r = arrays(case, "logits", "labels", "aspect_targets")
    values, grad = value_and_grad(
        lambda z: losses.makd_loss(z, y, r, **case["params"]), z
    )
    assert error(values.mean(), case["outputs"]["loss"]) < 1e-8
    assert error(grad, case["outputs"]["grad_logits"]) < 1e-8
    known = np.arange(r.shape[-1]) > 0
    part = losses.makd_loss(
        z, y, r, aspect_mask=np.broadcast_to(known, r.shape), **case["params"]
    )
    c = case["params"]["num_classes"]
    keep = np.r_[np.arange(c), np.arange(c + 1, z.shape[-1])]
    fewer = losses.makd_loss(z[:, keep], y, r[:, 1:], **case["params"])
    np.testing.assert_allclose(part, fewer, rtol=1e-12)


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("mpt_negative_flips"))
def test_mpt_golden(case, x64):
    z, old, new, y = arrays(case, "logits", "old_logits", "new_logits", "labels")
    params, outputs = case["params"], case["outputs"]
    options = dict(
        alpha=params["alpha"], beta=params["beta"], temperature=params["tau"]
    )
    is_new = np.arange(z.shape[-1]) >= params["num_old"]

    def focal(z, source, kind="kl"):
        return losses.focal_distillation_loss(z, source, y, kind=kind, **options)

    def mpt(z, kind):
        ce = losses.margin_calibrated_cross_entropy(z, y, is_new, bias=params["bias"])
        scale = params["lm_weight"] if kind == "lm" else 1
        return ce + scale * (focal(z, old, kind) + focal(z, new, kind))

    for name, values in {
        "focal_naive_old": focal(z, old, "naive"),
        "focal_kl_old": focal(z, old),
        "focal_lm_old": focal(z, old, "lm"),
        "focal_kl_new": focal(z, new),
    }.items():
        assert error(values.mean(), outputs[name]) < 1e-8, name
    for kind in ("kl", "lm"):
        values, grad = value_and_grad(lambda z, kind=kind: mpt(z, kind), z)
        assert error(values.mean(), outputs[f"mpt_{kind}_total"]) < 1e-8
        assert error(grad, outputs[f"mpt_{kind}_grad"]) < 1e-8


def test_decoupled_identities(x64):
    s, t, y = draw(0, 6, 5), draw(1, 6, 5), np.arange(6) % 5
    parts = losses.dkd_loss(s, t, y, temperature=1.0, return_parts=True)
    p_y = softmax(t, -1)[np.arange(6), y]
    whole = parts["tckd"] + (1 - p_y) * parts["nckd"]
    np.testing.assert_allclose(whole, losses.kd_loss(s, t, temperature=1.0), rtol=1e-12)
    # Only the label's logit moves: the normalised part does not see it.
    moved = s + 3.0 * np.eye(5)[y]
    one, two = (losses.nkd_loss(z, t, y, return_parts=True) for z in (s, moved))
    np.testing.assert_allclose(one["non_target"], two["non_target"], rtol=1e-12)
    rest = lambda z: -np.where(np.eye(5)[y] > 0, 0, softmax(t, -1) * log_softmax(z, -1))  # noqa: E731, E501
    assert np.abs(rest(s).sum(-1) - rest(moved).sum(-1)).min() > 1e-3
    slope = jax.grad(
        lambda s: losses.nkd_loss(s, t, y, temperature=2.0, return_parts=True)[
            "non_target"
        ].sum()
    )(s)
    hide = np.where(np.eye(5)[y] > 0, -np.inf, 0)
    want = 1.5 * 2 * (softmax((s + hide) / 2, -1) - softmax((t + hide) / 2, -1))
    np.testing.assert_allclose(slope, want, atol=1e-12)


def test_two_classes_have_no_others():
    s, t, y = np.float32([[1, 4]]), np.float32([[3, 0]]), np.array([0])
    assert losses.dkd_loss(s, t, y, return_parts=True)["nckd"] == 0
    assert losses.nkd_loss(s, t, y, return_parts=True)["non_target"] == 0
    np.testing.assert_allclose(
        losses.pld_loss(s, t, y), softmax(t)[0, 0] * np.logaddexp(0, 3.0), rtol=1e-6
    )


def test_a_gap_that_sums_of_probabilities_do_not_survive():
    """Where the released DKD takes the log of 0."""
    s = np.float32([[500, 0, 1], [0, 2000, 3]])
    t = np.float32([[0, 3, 600], [1500, 0, -4]])
    y = np.array([0, 0])
    loss = lambda s: losses.dkd_loss(s, t, y, temperature=4.0)  # noqa: E731
    got = value_and_grad(loss, s)
    with jax.enable_x64(True):
        want = value_and_grad(loss, s.astype("f8"))
        log = lambda z: log_softmax(z.astype("f8") / 4, -1)  # noqa: E731
        two = lambda z: np.stack([log(z)[:, 0], logsumexp(log(z)[:, 1:], -1)], -1)  # noqa: E731
        target = (np.exp(two(t)) * (two(t) - two(s))).sum(-1)
        rest = [log_softmax(log(z)[:, 1:], -1) for z in (t, s)]
        others = (np.exp(rest[0]) * (rest[0] - rest[1])).sum(-1)
        np.testing.assert_allclose(want[0], 16 * (target + 8 * others), rtol=1e-10)
    for a, b in zip(got, want, strict=True):
        assert np.isfinite(a).all()
        assert error(a, b) < 1e-5


def test_special_cases_of_lists(x64):
    s, t, y = draw(0, 6, 5), draw(1, 6, 5), np.arange(6) % 5
    first = losses.pld_loss(s, t, y, weights="first")
    np.testing.assert_allclose(first, losses.cross_entropy(s, y), rtol=1e-12)
    ranking = targets.teacher_optimal_ranking(t, y)
    listed = losses.list_mle_distillation_loss(s, ranking)
    np.testing.assert_allclose(losses.pld_loss(s, t, y, weights="uniform"), listed / 5)
    decay = 2.0 ** (5 - np.arange(1, 6)) - 1
    decay = np.broadcast_to(decay / decay.sum(), s.shape)
    position = losses.pld_loss(s, t, y, weights="position")
    np.testing.assert_allclose(
        position, losses.list_mle_distillation_loss(s, ranking, decay), rtol=1e-12
    )
    rows = np.take_along_axis(s, np.asarray(ranking), -1)
    want = [sum(logsumexp(r[k:]) - r[k] for k in range(5)) for r in rows]
    np.testing.assert_allclose(listed, want, rtol=1e-12)
    ties = targets.teacher_optimal_ranking(np.float32([1, 2, 2, 1]), 3)
    np.testing.assert_array_equal(ties, [3, 1, 2, 0])


@pytest.mark.parametrize("name", ["pld_loss", "list_mle_distillation_loss"])
def test_lists_are_exact_at_large_margins(name):
    s = np.float32([[80, 40, 0, -40], [1e4 + 30, 1e4 + 12, 1e4, 1e4 - 25]])
    y, order = np.array([0, 0]), np.tile(np.arange(4), (2, 1))
    rest = (s, y) if name == "pld_loss" else (order,)

    def loss(s):
        if name == "pld_loss":
            return losses.pld_loss(s, rest[0] * 0, y)
        return losses.list_mle_distillation_loss(s, order)

    got = value_and_grad(loss, s)
    with jax.enable_x64(True):
        want = value_and_grad(loss, s.astype("f8"))
    for a, b in zip(got, want, strict=True):
        for row, exact in zip(np.asarray(a), np.asarray(b), strict=True):
            assert error(row, exact) < 1e-5
    assert 0 < got[0][0] < 1e-15


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("uld"))
def test_uld_golden(case, x64):
    inputs = arrays(case)
    s, t = inputs["student_logits"], inputs["teacher_logits"]

    def loss(s):
        rows = []
        for n in range(len(s)):
            a, b = (inputs[f"{m}_prompt_len"][n] - 1 for m in ("student", "teacher"))
            size = min(s.shape[1] - 1 - a, t.shape[1] - 1 - b)
            steps = losses.uld_loss(
                s[n, a : a + size], t[n, b : b + size], **case["params"]
            )
            rows.append(steps.mean())
        return jnp.stack(rows)

    values, grad = value_and_grad(loss, s)
    assert error(values.mean(), case["outputs"]["loss"]) < 1e-8
    assert error(grad, case["outputs"]["grad_student_logits"]) < 1e-8


def test_uld_does_not_see_names():
    s, t = draw(0, 3, 4).astype("f4"), draw(1, 3, 6).astype("f4")
    order = np.random.default_rng(2).permutation(6)
    np.testing.assert_allclose(
        losses.uld_loss(s, t), losses.uld_loss(s, t[:, order]), rtol=1e-5
    )
    p, q = (-np.sort(-softmax(z.astype("f8"), -1)) for z in (t, s))
    want = np.abs(p - np.pad(q, [(0, 0), (0, 2)])).sum(-1)
    np.testing.assert_allclose(losses.uld_loss(s, t), want, rtol=1e-5)


def test_self_distill_mse(x64):
    s, t, y = draw(0, 4, 3), draw(1, 4, 3), np.array([0, 1, 2, 0])
    q, p, one = softmax(s, -1), softmax(t, -1), np.eye(3)[y]
    want = 0.3 * ((q - one) ** 2).mean(-1) + 0.7 * ((q - p) ** 2).mean(-1)
    got = losses.self_distill_mse_loss(s, y, t, alpha=0.3)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    sums = losses.logit_mse_loss(s, t, scale=1.0, reduction_axis="sum")
    np.testing.assert_allclose(sums, ((s - t) ** 2).sum(-1), rtol=1e-12)


def test_labels_that_the_source_has_not():
    z, v = np.zeros((2, 3), "f4"), np.float32([[0, 9], [9, 0]])
    y = np.array([2, 0])
    one, two = losses.focal_distillation_loss(z, v, y, temperature=1.0)
    np.testing.assert_allclose(two, 6 * one, rtol=1e-5)
    naive = losses.focal_distillation_loss(z, v, y, kind="naive")
    np.testing.assert_allclose(naive, [0, np.log(3)], rtol=1e-6)


def test_sequences_are_batches():
    s, t = draw(0, 2, 3, 4).astype("f4"), draw(1, 2, 3, 4).astype("f4")
    y = np.arange(6).reshape(2, 3) % 4
    for loss, rest in {
        losses.kd_loss: (t,),
        losses.dkd_loss: (t, y),
        losses.pld_loss: (t, y),
        losses.normalized_binary_kl: (t,),
    }.items():
        tokens, flat = jax.jit(
            lambda s, *rest, loss=loss: (
                loss(s, *rest),
                loss(s.reshape(6, 4), *(a.reshape(6, *a.shape[2:]) for a in rest)),
            )
        )(s, *rest)
        np.testing.assert_allclose(tokens, flat.reshape(2, 3), rtol=1e-6)
    nothing = numerics.masked_mean(losses.kd_loss(s, t), np.zeros((2, 3), bool))
    assert nothing == 0


Z = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: losses.kd_loss(Z, Z[:, :2]),
            r"teacher_logits has shape \(2, 2\), expected that of student_logits, "
            r"\(2, 3\)",
        ),
        (lambda: losses.kd_loss(Z, Z, temperature=0.0), "temperature is 0.0"),
        (
            lambda: losses.kd_loss(Z, Z, temperature=np.ones(3)),
            r"temperature has shape",
        ),
        (lambda: losses.kd_loss(Z, Z, form="mse"), "form is 'mse'"),
        (lambda: losses.reverse_kl(Z, Z, temperature=-1.0), "temperature is -1.0"),
        (
            lambda: losses.symmetric_kl(Z, Z, reverse_weight=2.0),
            "reverse_weight is 2.0",
        ),
        (lambda: losses.js_divergence(Z, Z, skew=-0.1), "skew is -0.1"),
        (lambda: losses.skew_kl(Z, Z, skew=1.1), "skew is 1.1"),
        (lambda: plain.dkd_loss(Z, Z, np.array([0, 3])), "labels outside"),
        (lambda: losses.nkd_loss(Z, Z, Z[:, :2]), r"labels has shape \(2, 2\)"),
        (lambda: losses.wsld_loss(Z, Z, np.array([0])), r"labels has shape \(1,\)"),
        (
            lambda: losses.logit_mse_loss(Z, Z, reduction_axis="max"),
            "reduction_axis is",
        ),
        (lambda: losses.binary_kl(Z, Z, eps=0.7), "eps is 0.7"),
        (
            lambda: losses.pld_loss(Z, Z, np.array([0, 1]), weights="x"),
            "weights is 'x'",
        ),
        (
            lambda: losses.pld_loss(Z, Z, np.array([0, 1]), weights=Z[0]),
            "weights has shape",
        ),
        (
            lambda: plain.list_mle_distillation_loss(Z, np.full((2, 3), 3)),
            "ranking outside",
        ),
        (
            lambda: losses.list_mle_distillation_loss(Z, np.zeros(3, int)),
            "ranking has shape",
        ),
        (lambda: losses.uld_loss(Z, Z[:1]), r"teacher_logits has shape \(1, 3\)"),
        (
            lambda: losses.focal_distillation_loss(Z[:, :2], Z, np.zeros(2, int)),
            "source_",
        ),
        (
            lambda: losses.focal_distillation_loss(Z, Z, np.zeros(2, int), kind="x"),
            "kind is 'x'",
        ),
        (
            lambda: losses.margin_calibrated_cross_entropy(
                Z, np.zeros(2, int), np.ones(2, bool), bias=1.0
            ),
            r"new_class_mask has shape \(2,\), expected \(3,\)",
        ),
        (
            lambda: losses.makd_loss(Z, np.zeros(2, int), Z, num_classes=2),
            r"aspects has shape \(2, 3\), expected \(2, 1\)",
        ),
        (lambda: targets.aspect_targets(Z, Z[0]), "no_logits has shape"),
        (lambda: losses.self_distill_mse_loss(Z, [0, 0], Z, alpha=2.0), "alpha is 2.0"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
