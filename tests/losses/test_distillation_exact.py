"""Float32 against float64, near the teacher, far from it and made in the program."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from logitlab import losses, models, optim, rl, sequences, targets, transforms
from logitlab.transforms import ensemble_logits, standardize_logits

CLASSES = 6
MARGINS = (-80, -40, -12, -1, 0, 3, 12, 17, 30, 60, 80)
HEAT = np.float32([1, 0.01, 0.3, 4, 100])


def pairs():
    """Margins of both, students near their teachers, ties, and common offsets."""
    rng, found = np.random.default_rng(0), []
    for ours in MARGINS:
        for theirs in MARGINS:
            s, t = rng.uniform(-3, 0, (2, CLASSES))
            s[:2], t[0], t[2] = (ours, 0), theirs, 0
            found.append((s, t))
        t = np.float32(rng.uniform(-3, 3, CLASSES))
        t[0] = ours
        for far in (1e-1, 1e-3, 1e-4, 1e-6):
            found += [(t + far * rng.normal(size=CLASSES) + by, t) for by in (0, 5)]
        s, t = rng.uniform(-3, 0, (2, CLASSES))
        s[:2], t[1:3] = (ours, ours + 1e-7), (ours, ours - 1e-7)
        found.append((s, t))
    found += [(s + 1e4, t + by) for s, t in found[::7] for by in (1e4, 0)]
    s, t = np.float32(found).swapaxes(0, 1)
    return s, t


S, T = pairs()
LABELS = np.arange(len(S)) % CLASSES
LOSSES = {
    # First, and so by default, the one that no row of the catalogue stands for.
    "kd-ce": lambda s, t, **h: losses.kd_loss(s, t, form="ce", **h),
    "kd": losses.kd_loss,
    "reverse_kl": losses.reverse_kl,
    "symmetric_kl": losses.symmetric_kl,
    "total_variation_divergence": losses.total_variation_divergence,
    "uld": lambda s, t, temperature: losses.uld_loss(
        s, t, student_temperature=temperature, teacher_temperature=temperature
    ),
    "js_divergence": losses.js_divergence,
    "js_divergence-low": lambda s, t, **h: losses.js_divergence(
        s, t, skew=2.0**-20, **h
    ),
    "js_divergence-high": lambda s, t, **h: losses.js_divergence(
        s, t, skew=1 - 2.0**-20, **h
    ),
    "skew_kl": losses.skew_kl,
    "skew_kl-none": lambda s, t, **h: losses.skew_kl(s, t, skew=0.0, **h),
    "skew_kl-most": lambda s, t, **h: losses.skew_kl(s, t, skew=1 - 2.0**-10, **h),
    "skew_reverse_kl": losses.skew_reverse_kl,
    "skew_reverse_kl-most": lambda s, t, **h: losses.skew_reverse_kl(
        s, t, skew=2.0**-10, **h
    ),
    "dkd": lambda s, t, y=LABELS, **h: losses.dkd_loss(s, t, y, **h),
    "nkd": lambda s, t, y=LABELS, **h: losses.nkd_loss(s, t, y, **h),
    "focal": lambda s, t, y=LABELS, **h: losses.focal_distillation_loss(s, t, y, **h),
    "binary_kl": losses.binary_kl,
}


def value_and_grad(loss):
    @jax.jit
    def run(s, *rest):
        def total(s):
            values = loss(s, *rest)
            return values.sum(), values

        (_, values), grad = jax.value_and_grad(total, has_aux=True)(s)
        return values, grad

    return run


def check(got, want, counts, floor=1e-28):
    for name, a, b in zip(("value", "gradient"), got, want, strict=True):
        a, b = (np.asarray(x, np.float64).reshape(len(counts), -1) for x in (a, b))
        scale, off = np.abs(b).max(-1), np.abs(a - b).max(-1)
        wrong = counts & (scale > floor) & ~(off <= 1e-5 * scale)
        at = np.flatnonzero(wrong)
        assert not wrong.any(), f"{name} of {at}: {off[at] / scale[at]}"
        assert np.isfinite(a).all(), name


def tied(s, t):
    """Where the log-ratio is 0 but for what float32 rounds off its parts."""
    rows, k = np.arange(len(t)), t.argmax(-1)
    gap = (s - s[rows, k][:, None]) - (t - t[rows, k][:, None])
    ours, theirs = (
        z[rows, k][:, None] - np.logaddexp.reduce(z, -1, keepdims=True) for z in (s, t)
    )
    u = gap + ours - theirs
    return np.abs(u) < 1e-6 * (np.abs(gap) + np.abs(ours) + np.abs(theirs))


@pytest.mark.sampled
@pytest.mark.parametrize("name", LOSSES)
def test_float32_is_float64(name):
    args = [np.repeat(z, len(HEAT), 0) for z in (S, T)]
    args.append(np.tile(HEAT, len(S)))
    y = np.repeat(LABELS, len(HEAT))
    takes = {"y": y} if name in ("dkd", "nkd", "focal") else {}
    run = value_and_grad(lambda s, t, h: LOSSES[name](s, t, temperature=h, **takes))
    got = run(*args)
    with jax.enable_x64(True):
        want = run(*(a.astype(np.float64) for a in args))
    counts = np.ones(len(y), bool)
    if name in (
        "total_variation_divergence",
        "uld",
    ):  # a kink where probabilities are equal
        s, t = (z / args[2].astype("f8")[:, None] for z in args[:2])
        if name == "uld":
            s, t = np.sort(s, -1), np.sort(t, -1)
        counts = ~tied(s, t).any(-1)
        assert counts.mean() > 0.85
    check(got, want, counts)


@pytest.mark.parametrize(
    ("loss", "s", "t", "want"),
    [
        (
            lambda s, t: losses.skew_kl(s, t, skew=0.1),
            [30, 29, 0, 0],
            [0, 1, 30, 0],
            [6.70e-13, 2.66e-14, -6.16e-13, -8.12e-14],
        ),
        (losses.js_divergence, [1, 0, -35], [0, 0, 40], [2.25e-15, 8.3e-16, None]),
    ],
)
def test_slopes_of_mixtures(loss, s, t, want):
    got = jax.jit(jax.grad(loss))(np.float32(s), np.float32(t))
    for slope, exact in zip(got, want, strict=True):
        if exact is not None:
            np.testing.assert_allclose(slope, exact, rtol=5e-3)


def test_students_near_their_teacher():
    near = losses.kd_loss(np.float32([5, 0]), np.float32([5.0001, 0]), temperature=1.0)
    s, t = np.float64(np.float32([5, 5.0001]))
    with jax.enable_x64(True):
        want = losses.kd_loss(np.array([s, 0.0]), np.array([t, 0.0]), temperature=1.0)
    np.testing.assert_allclose(near, want, rtol=1e-6)
    np.testing.assert_allclose(near, 3.33284e-11, rtol=1e-2)  # 5.0001 is no float32
    many = np.float32(np.random.default_rng(0).normal(size=(2, 50_000)))
    close = many + np.float32(1e-4) * np.roll(many, 1, -1)
    run = value_and_grad(lambda s, t: losses.kd_loss(s, t, temperature=1.0))
    got = run(close, many)
    with jax.enable_x64(True):
        want = run(close.astype("f8"), many.astype("f8"))
    check(got, want, np.ones(2, bool))


def test_nothing_times_infinity_is_nothing():
    s, t = np.float32([0, 0]), np.float32([0, -np.inf])
    forward = losses.symmetric_kl(s, t, reverse_weight=0.0)
    np.testing.assert_allclose(forward, np.log(2), rtol=1e-6)
    grad = jax.grad(lambda s: losses.symmetric_kl(s, t, reverse_weight=0.0))(s)
    np.testing.assert_allclose(grad, [-0.5, 0.5])
    assert losses.symmetric_kl(s, t) == np.inf
    hidden = losses.nkd_loss(s, t, 0, gamma=0.0)
    np.testing.assert_allclose(hidden, np.log(2), rtol=1e-6)
    parts = losses.dkd_loss(s, np.float32([0, 0]), 0, alpha=0.0, beta=0.0)
    assert parts == 0


@pytest.mark.sampled
@pytest.mark.parametrize("end", [0.0, 0.3, 1.0])
def test_the_share_may_be_traced(end):
    s, t = S[:20], T[:20]
    run = jax.jit(lambda beta: losses.js_divergence(s, t, skew=beta))
    want = losses.js_divergence(s, t, skew=end)
    np.testing.assert_allclose(run(end), want, rtol=1e-5, atol=1e-30)
    slope = jax.jit(jax.grad(lambda beta: run(beta).sum()))(end)
    assert np.isfinite(slope)


def layer_norm(x, g, b):
    d = x - x.mean(-1, keepdims=True)
    return d * jax.lax.rsqrt((d * d).mean(-1, keepdims=True) + 1e-6) * g + b


MADE = {
    "layer norm": layer_norm,
    "centring": lambda x, g, b: (x - x.mean(-1, keepdims=True)) * 2.9,
    "softmax": lambda x, g, b: 25 * jax.nn.softmax(x * g) + b,
    "cap": lambda x, g, b: 30 * jnp.tanh((x * g + b) / 30),
    "mask": lambda x, g, b: jnp.where(g > 5.3, x * g + b, -jnp.inf),
}


@pytest.mark.sampled
@pytest.mark.optimized
@pytest.mark.parametrize(
    ("name", "made"),
    [("kd", made) for made in MADE]
    # By default the check "fused" of the catalogue stands for the other losses.
    + [pytest.param(name, "layer norm", marks=pytest.mark.slow) for name in LOSSES][1:],
)
def test_logits_made_in_the_program(name, made):
    """Which the compiler may compute twice, in fusions that round differently."""
    rng, rows = np.random.default_rng(0), np.arange(64)
    x, w = rng.normal(size=(2, 64, 100)).astype("f4")
    y = rng.integers(0, 100, 64)
    x[rows, y] += 8
    w[rows, np.where(rows % 2, y, (y + 1) % 100)] += 8
    g = np.float32(rng.uniform(5, 9, size=100))
    g[y] = 6
    g, b = g[None], np.float32(rng.normal(size=(1, 100)))
    takes = {"y": y} if name in ("dkd", "nkd", "focal") else {}

    def loss(s, t):
        return LOSSES[name](s, t, temperature=1.0, **takes)

    @jax.jit
    def run(move, x, w):
        def total(move):
            values = loss(MADE[made](x, g, b) + move, MADE[made](w, g, b))
            return values.sum(), values

        (_, values), grad = jax.value_and_grad(total, has_aux=True)(move)
        return values, grad, MADE[made](x, g, b), MADE[made](w, g, b)

    *got, s, t = run(np.zeros_like(x), x, w)
    with jax.enable_x64(True):
        want = value_and_grad(loss)(*(np.asarray(z, np.float64) for z in (s, t)))
    check(got, want, np.ones(64, bool), floor=1e-25)


Z, W = S[:4].clip(-5, 5), T[:4].clip(-5, 5)
Y = np.array([0, 1, 2, 3])
HYPER = [
    (losses.kd_loss, (W,), dict(temperature=2.0)),
    (losses.reverse_kl, (W,), dict(temperature=2.0)),
    (losses.symmetric_kl, (W,), dict(reverse_weight=0.3, temperature=2.0)),
    (losses.total_variation_divergence, (W,), dict(temperature=2.0)),
    (losses.js_divergence, (W,), dict(skew=0.3, temperature=2.0)),
    (losses.js_divergence, (W,), dict(skew=0.3, temperature=2.0)),
    (losses.skew_kl, (W,), dict(skew=0.3, temperature=2.0)),
    (losses.skew_reverse_kl, (W,), dict(skew=0.3, temperature=2.0)),
    (losses.dkd_loss, (W, Y), dict(alpha=0.3, beta=2.0, temperature=2.0)),
    (losses.nkd_loss, (W, Y), dict(gamma=0.3, temperature=2.0)),
    (losses.wsld_loss, (W, Y), dict(alpha=0.3, temperature=2.0)),
    (losses.logit_mse_loss, (W,), dict(scale=0.3)),
    (losses.self_distill_mse_loss, (Y, W), dict(alpha=0.3)),
    (losses.binary_kl, (W,), dict(temperature=2.0, eps=1e-4)),
    (losses.normalized_binary_kl, (W,), dict(temperature=2.0, eps=1e-4)),
    (losses.uld_loss, (W,), dict(student_temperature=2.0, teacher_temperature=3.0)),
    (losses.dist_loss, (W,), dict(beta=0.3, gamma=2.0, temperature=2.0)),
    (losses.dist_inter_loss, (W,), dict(temperature=2.0)),
    (losses.dist_intra_loss, (W,), dict(temperature=2.0)),
    (losses.class_correlation_loss, (W,), dict(temperature=2.0)),
    (losses.batch_correlation_loss, (W,), dict(temperature=2.0)),
    (
        losses.mlkd_loss,
        (W, Z, W, Y),
        dict(temperature=2.0, kd_weight=0.3, ce_weight=2.0),
    ),
    (losses.uskd_loss, (W, Y), dict(alpha=0.3, beta=2.0, mu=0.3)),
    (losses.pld_loss, (W, Y), dict(temperature=2.0)),
    (
        losses.focal_distillation_loss,
        (W, Y),
        dict(alpha=0.3, beta=2.0, temperature=2.0),
    ),
    (
        lambda z, **h: losses.margin_calibrated_cross_entropy(
            z, Y, np.arange(CLASSES) > 3, **h
        ),
        (),
        dict(bias=2.0),
    ),
    (
        lambda z, **h: losses.makd_loss(
            z, Y, np.full((4, 2), 0.3, "f4"), num_classes=4, **h
        ),
        (),
        dict(alpha=0.3),
    ),
    (losses.aligndistil_loss, (W, Z), dict(beta=0.3, scale=2.0, eps=1e-2)),
    (losses.adaptive_weight, (W,), dict(scale=2.0, eps=1e-2)),
    (targets.compose_teacher_logits, (W,), dict(weight=0.3)),
    (rl.contrastive_dpo_reward, (W,), dict(beta=0.3)),
    (losses.online_distill_loss, (W, Z, W), dict(logit_weight=0.3, feature_weight=2.0)),
    (losses.qcrd_loss, (W,), dict(beta=0.3, margin=2.0)),
    (
        lambda z, **h: losses.progressive_guidance_loss([z, W], Y, **h)[1],
        (),
        dict(weight=0.3, temperature=2.0),
    ),
    (
        optim.weight_distribution_penalty,
        (),
        dict(kurtosis_target=2.0, kurt_rate=0.3, skew_rate=2.0),
    ),
    (losses.sid_generator_loss, (W, Z / 2), dict(alpha=1.1, eps=1e-3)),
    (losses.denoising_score_loss, (W, np.float32([1, 2, 3, 4])), dict(sigma_data=0.3)),
    (losses.sid_adversarial_loss, (), dict(clip=4.0)),
    (
        losses.sid_discriminator_loss,
        (W, np.float32([1, 2, 3, 4])),
        dict(sigma_data=0.3),
    ),
    (
        lambda z, **h: models.edm_sigma(jnp.abs(z) / 9, **h),
        (),
        dict(sigma_min=0.1, sigma_max=9.0, rho=6.0),
    ),
    (transforms.classifier_free_guidance, (W,), dict(scale=2.0)),
    (standardize_logits, (), dict(eps=1e-3)),
    (lambda z, **h: ensemble_logits(jnp.stack([z, W]), **h), (), dict(temperature=2.0)),
]


@pytest.mark.parametrize(("loss", "rest", "hyper"), HYPER)
def test_hyper_parameters_are_traced_and_decide_no_dtype(loss, rest, hyper):
    def call(z, hyper):
        if loss is transforms.classifier_free_guidance:
            return loss(z, *rest, hyper["scale"])
        return loss(z, *rest, **hyper)

    plain = interpreted(lambda z: call(z, hyper))(Z)
    traced = interpreted(call)(Z, hyper)
    with jax.enable_x64(True):
        numbers = {k: np.float64(v) for k, v in hyper.items()}
        wide = interpreted(lambda z: call(z, numbers))(Z)
    for x, y, w in zip(*map(jax.tree.leaves, (plain, traced, wide)), strict=True):
        assert w.dtype == np.float32
        np.testing.assert_allclose(y, x, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(w, x, rtol=1e-5, atol=1e-6)


def test_labels_of_any_integer_type():
    z = np.random.default_rng(0).normal(size=(2, 3, 260)).astype("f4")
    s, t, y = z[0], z[1], np.array([0, 200, 255])
    aspects = np.zeros((3, 4), "f4")
    calls = {
        "dkd": lambda y: losses.dkd_loss(s, t, y),
        "nkd": lambda y: losses.nkd_loss(s, t, y),
        "wsld": lambda y: losses.wsld_loss(s, t, y),
        "self_distill_mse_loss": lambda y: losses.self_distill_mse_loss(
            s, y, t, alpha=0.5
        ),
        "pld": lambda y: losses.pld_loss(s, t, y),
        "focal": lambda y: losses.focal_distillation_loss(s, t, y),
        "naive": lambda y: losses.focal_distillation_loss(s, t, y, kind="naive"),
        "makd": lambda y: losses.makd_loss(s, y, aspects, num_classes=256),
        "uskd": lambda y: losses.uskd_parts(s, t, y)["weak"],
        "margin": lambda y: losses.margin_calibrated_cross_entropy(
            s, y, np.arange(260) > 200, bias=1.0
        ),
        "sequence": lambda y: sequences.mean_token_nll(s[:, None], y[:, None]),
        "guidance": lambda y: losses.progressive_guidance_loss([s, t], y)[1],
    }
    for name, eager in calls.items():
        call = interpreted(eager)
        want = call(y)
        np.testing.assert_array_equal(call(y.astype(np.uint8)), want, err_msg=name)
        gone = call(np.array([0, -100, 255], np.int16))
        assert np.isnan(gone[1]), name
        np.testing.assert_array_equal(gone[::2], want[::2], err_msg=name)
        if name not in ("focal", "naive"):  # whose source may have fewer classes
            with pytest.raises(ValueError, match="labels outside"):
                eager(np.array([0, 2**40, 1]))
    assert np.isnan(call(np.int8([0, -1, 3]))[1])
    total = losses.uskd_loss(s, t, np.array([0, -100, 1]), mask=np.arange(3) != 1)
    kept = losses.uskd_loss(s[::2], t[::2], np.array([0, 1]))
    np.testing.assert_allclose(total, kept, rtol=1e-6)


def test_second_derivatives_of_decoupled_distillation():
    """Near the teacher too, where the gap of both log-odds is known by itself."""
    s, t = np.random.default_rng(0).normal(size=(2, CLASSES))
    with jax.enable_x64(True):
        grad = interpreted(jax.grad(lambda z: losses.dkd_loss(z, t, 0)))
        curved = interpreted(jax.jacobian(jax.grad(lambda z: losses.dkd_loss(z, t, 0))))
        for z in (s, t + 0.1 * s):
            got, step = curved(z), 1e-5 * np.eye(CLASSES)
            want = np.stack([(grad(z + d) - grad(z - d)) / 2e-5 for d in step])
            np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)


def test_second_derivatives_in_a_scan(x64):
    """Where JAX takes the derivatives of rules' bodies, see ``_fixed_top``."""
    z, t = np.random.default_rng(0).normal(size=(2, 2, CLASSES))
    v, labels = np.broadcast_to(np.arange(CLASSES, dtype=float), z.shape), np.zeros(2)

    def scanned(z):
        step = lambda total, row: (total + losses.dkd_loss(*row, 0), None)  # noqa: E731
        return jax.lax.scan(step, 0.0, (z, t))[0]

    got = jax.jit(lambda z: jax.jvp(jax.grad(scanned), (z,), (v,))[1])(z)
    grad = jax.jit(jax.grad(lambda z: losses.dkd_loss(z, t, labels.astype(int)).sum()))
    want = (grad(z + 1e-5 * v) - grad(z - 1e-5 * v)) / 2e-5
    np.testing.assert_allclose(got, want, rtol=1e-6, atol=1e-8)
