import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import arrays, cases, draw, error, value_and_grad
from harness.interpreter import functions
from scipy.special import log_softmax, softmax

from logitlab import (
    losses,
    metrics,
    models,
    numerics,
    optim,
    rl,
    sequences,
    targets,
    theory,
    transforms,
)
from logitlab.losses.distillation.divergences import reverse_kl

plain = losses  # in which concrete numbers are checked
losses = functions(losses)

NAMES = ("student_logits", "dpo_logits", "reference_logits")


@pytest.mark.parametrize(
    "case", cases("aligndistil"), ids=lambda c: c["params"]["variant"]
)
def test_aligndistil_golden(case, x64):
    z, d, r = arrays(case, *NAMES)
    mask = np.array(case["inputs"]["mask"]) > 0
    params, outputs = case["params"], case["outputs"]
    beta, beta2, eps = params["beta"], params["beta2"], params["eps"]
    variant = params["variant"]
    weight = beta / beta2
    if variant in ("theorem1_adaptive", "aligndistil"):
        weight = losses.adaptive_weight(d, r, scale=beta2, eps=eps, half=False)
    assert error(weight, outputs["weight"]) < 1e-8
    teacher = targets.compose_teacher_logits(
        d, r, weight=weight, contrastive=variant in ("theorem1_contrast", "aligndistil")
    )
    assert error(teacher, outputs["teacher_logits"]) < 1e-8

    def loss(z):
        if variant == "aligndistil":
            values = losses.aligndistil_loss(
                z, d, r, beta=beta, scale=2 * beta2, eps=eps
            )
        else:
            values = beta / weight * reverse_kl(z, teacher)
        rows = [numerics.masked_mean(v, m) for v, m in zip(values, mask, strict=True)]
        return jnp.stack(rows), values

    (rows, values), pull = jax.jit(lambda z: jax.vjp(loss, z))(z)
    (grad,) = pull((jnp.full_like(rows, 1 / len(rows)), jnp.zeros_like(values)))
    assert error(values, outputs["per_token"]) < 1e-8
    assert error(rows.mean(), outputs["loss"]) < 1e-8
    assert error(grad, outputs["grad_student_logits"]) < 1e-8
    reward = rl.contrastive_dpo_reward(d, r, beta=beta)
    expected = (softmax(z, -1) * reward).sum(-1)
    total = np.where(mask, expected, 0).sum(-1).mean()
    assert error(total, outputs["expected_reward"]) < 1e-8


def test_the_best_policy_of_a_dpo_reward(x64):
    """Theorem 1: the objective is a reverse divergence from the composed teacher."""
    d, r, beta = draw(0, 6), draw(1, 6), 0.04
    teacher = targets.compose_teacher_logits(d, r, weight=0.1 / beta, contrastive=False)
    reward = rl.contrastive_dpo_reward(d, r, beta=0.1)
    policies = draw(2, 5, 6)
    p, log_p = softmax(policies, -1), log_softmax(policies, -1)
    value = (p * (np.asarray(reward) - beta * (log_p - log_softmax(r)))).sum(-1)
    gap = value + beta * reverse_kl(policies, np.tile(teacher, (5, 1)))
    np.testing.assert_allclose(gap, gap[0], rtol=1e-12)


def test_online_distillation(x64):
    q, p, f, g = draw(0, 4, 5), draw(1, 4, 5), draw(2, 4, 3), draw(3, 4, 3)
    got = losses.online_distill_loss(q, p, f, g, logit_weight=0.3, feature_weight=2.0)
    d = np.abs(f - g)
    smooth = np.where(d < 1, d * d / 2, d - 0.5).mean(-1)
    want = -0.3 * (softmax(p, -1) * log_softmax(q, -1)).sum(-1) + 2 * smooth
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_qcrd():
    good, bad = np.float32([1.2, 0.7]), np.float32([2, 3.5])
    np.testing.assert_allclose(losses.qcrd_loss(good, bad), 0.7, rtol=1e-6)
    low = losses.qcrd_loss(good, bad, negative_select="min")
    np.testing.assert_allclose(low, 0.9, rtol=1e-6)
    mean = losses.qcrd_loss(good, bad, positive_select="mean", negative_select="mean")
    np.testing.assert_allclose(mean, 0.95 + 0.2 * 0.5, rtol=1e-6)
    weighed = losses.qcrd_loss(
        good,
        bad,
        positive_quality=np.float32([0.1, 0.5]),
        negative_quality=np.float32([0.25, 0]),
        negative_select="min",
    )
    np.testing.assert_allclose(weighed, 0.5 * 0.7 + 0.2 * 0.75, rtol=1e-6)
    none = losses.qcrd_loss(
        good,
        bad,
        positive_mask=np.zeros(2, bool),
        negative_mask=np.zeros(2, bool),
        negative_select="min",
    )
    assert none == 0
    slope = jax.grad(lambda b: losses.qcrd_loss(good, b, negative_select="min"))
    np.testing.assert_allclose(slope(bad), [-0.2, 0], rtol=1e-6)
    np.testing.assert_array_equal(slope(np.float32([3.1, 4])), 0)


def test_sequence_nll(x64):
    z, y = draw(0, 2, 3, 4), np.array([[0, 1, -100], [2, 3, 1]])
    mask = np.array([[True, True, False], [False, False, False]])
    got = sequences.mean_token_nll(z, y, mask=mask)
    log_p = log_softmax(z, -1)
    want = [-(log_p[0, 0, 0] + log_p[0, 1, 1]) / 2, 0]
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_gld(x64):
    s, t = np.array([[1.0, 0], [0, 2]]), np.array([[1.0, 1], [1, 0]])
    # Without the mean over two positions: degrees [.5, 2] and [1, 1.5].
    assert 4 * losses.gld_loss(s, t, k=2) == 0.25
    assert 2 * losses.gld_loss(s, t, k=2, power=1) == 0.5
    z, order = draw(0, 3, 4, 6), np.random.default_rng(0).permutation(6)
    np.testing.assert_allclose(losses.gld_loss(z, z[..., order], k=3), 0, atol=1e-20)
    a = np.einsum("bsi,bsj->bij", *(targets.top_k_logits(z, 3),) * 2) / 4
    degree = jax.jit(metrics.coactivation_degree, static_argnames="k")(z, k=3)
    np.testing.assert_allclose(degree, a.mean(-1), rtol=1e-12)
    mask = np.arange(4) < np.array([[4], [2], [0]])
    part = metrics.coactivation_degree(z, k=3, mask=mask)
    np.testing.assert_allclose(part[1], metrics.coactivation_degree(z[1, :2], k=3))
    np.testing.assert_array_equal(part[2], 0)
    # Vocabularies of two sizes.
    f = np.sort(metrics.coactivation_degree(z, k=3), -1)
    more = draw(1, 3, 4, 9)
    g = np.sort(metrics.coactivation_degree(more, k=3), -1)
    padded = np.sort(np.pad(f, [(0, 0), (0, 3)]), -1)
    want = ((padded - g) ** 2).mean(-1)
    np.testing.assert_allclose(losses.gld_loss(z, more, k=3), want, rtol=1e-12)
    at = np.linspace(0, 5, 9)
    spread = np.stack([np.interp(at, np.arange(6), row) for row in f])
    got = losses.gld_loss(z, more, k=3, align="quantile")
    np.testing.assert_allclose(got, ((spread - g) ** 2).mean(-1), rtol=1e-10)


def test_gld_is_below_gromov_wasserstein(x64):
    orders = [list(p) for p in itertools.permutations(range(4))]
    for seed in range(5):
        z, u = draw(2 * seed, 3, 4), draw(2 * seed + 1, 3, 4)
        a, b = z.T @ z / 3, u.T @ u / 3
        best = min(((a - b[p][:, p]) ** 2).mean() for p in orders)
        low, high = theory.sorted_gw_bounds(a, b)
        np.testing.assert_allclose(losses.gld_loss(z, u, k=4), low, rtol=1e-10)
        assert low <= best + 1e-12
        assert best <= high + 1e-12


def test_top_k_keeps_ties():
    z = np.float32([[3, 1, 2, 2], [-5, -1, -2, -np.inf]])
    want = [[3, 0, 2, 2], [0, -1, -2, 0]]
    np.testing.assert_array_equal(targets.top_k_logits(z, 2), want)
    np.testing.assert_array_equal(targets.top_k_logits(z, 9)[1], [-5, -1, -2, 0])


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("eqnet"))
def test_eqnet_golden(case, x64):
    inputs, params, outputs = arrays(case), case["params"], case["outputs"]
    weights = [v for k, v in inputs.items() if k.startswith("weight_")]
    rates = dict(kurt_rate=params["kurt_rate"], skew_rate=params["skew_rate"])
    wdr = lambda w: optim.weight_distribution_penalty(w, **rates)  # noqa: E731
    value, grads = jax.jit(jax.value_and_grad(wdr))(weights)
    assert error(value, outputs["wdr_weighted"]) < 1e-8
    for i, (w, grad) in enumerate(zip(weights, grads, strict=True)):
        assert error(metrics.weight_kurtosis(w), outputs["kurtosis"][i]) < 1e-8
        assert error(metrics.weight_skewness(w), outputs["skewness"][i]) < 1e-8
        assert error(grad, outputs[f"wdr_grad_{i}"]) < 1e-8
        size = np.abs(grad).max()
        assert abs((grad * w).sum()) < 1e-12 * size  # free of scale and offset
        assert abs(grad.sum()) < 1e-12 * size
    s, t, y = (inputs[k] for k in ("student_logits", "teacher_logits", "labels"))

    def guided(s):
        return losses.progressive_guidance_loss([t, s], y, weight=params["alpha"])[1]

    values, grad = value_and_grad(guided, s)
    assert error(values.mean(), outputs["kl_soft"]) < 1e-8
    assert error(grad, outputs["kl_soft_grad"]) < 1e-8


def test_weights_without_spread():
    same = {"a": np.full((2, 3), 4, "f4"), "b": np.ones(1, "f4")}
    value, grad = jax.value_and_grad(optim.weight_distribution_penalty)(same)
    assert value == 0
    assert all((g == 0).all() for g in jax.tree.leaves(grad))
    w = {"first": draw(0, 9).astype("f4"), "then": draw(1, 9).astype("f4")}
    part = optim.weight_distribution_penalty(w, mask={"first": False, "then": True})
    alone = optim.weight_distribution_penalty(w["then"])
    assert part == alone
    assert optim.weight_distribution_penalty({}) == 0


def test_fake_quantize():
    x = np.float32([[-1, -0.2, 0.55, 1], [0, 10, 20, 31]])
    got = models.fake_quantize(x, bits=3, channel_axis=0)
    np.testing.assert_allclose(got[0] * 3, [-3, -1, 2, 3], rtol=1e-6)
    up = models.fake_quantize(x[1], bits=5, symmetric=False)
    np.testing.assert_allclose(up, x[1], rtol=1e-6)
    grad = jax.grad(lambda x: models.fake_quantize(x, bits=2).sum())(x[0])
    np.testing.assert_array_equal(grad, 1)
    np.testing.assert_array_equal(models.fake_quantize(np.zeros(2, "f4"), bits=2), 0)


def test_fake_quantize_with_a_step():
    x = np.float32([-3, -1.1, -0.9, 0.9, 1.1, 3])
    for step in (2.0, np.full(6, 2, "f4")):
        got = models.fake_quantize(x, bits=2, step=step)
        np.testing.assert_array_equal(got, [-4, -2, 0, 0, 2, 2])  # all four places
    grad = jax.grad(lambda x: models.fake_quantize(x, bits=2, step=2.0).sum())(x)
    np.testing.assert_array_equal(grad, [1, 1, 1, 1, 1, 0])  # the last is cut off
    slope = jax.grad(lambda s: models.fake_quantize(x, bits=2, step=s).sum())(2.0)
    assert slope == 0
    up = models.fake_quantize(x, bits=4, symmetric=False, step=0.5)
    np.testing.assert_array_equal(up, [-3, -1, -1, 1, 1, 3])


@pytest.mark.parametrize("case", cases("sid"))
def test_sid_golden(case, x64):
    i, params, outputs = arrays(case), case["params"], case["outputs"]
    for name in ("true_shift", "fake_shift"):
        i[name] = i[name][None]

    def generator(x):
        noisy = x + i["noise"]
        true = i["true_scale"] * noisy + i["true_shift"]
        fake = i["fake_scale"] * noisy + i["fake_shift"]
        return losses.sid_generator_loss(x, true, fake, **params)

    x = i["x_g"]
    values, grad = value_and_grad(generator, x)
    assert error(values, outputs["generator_loss"]) < 1e-8
    assert error(grad * x.size, outputs["generator_grad_x_g"]) < 1e-8
    fake = i["fake_scale"] * (x + i["fake_noise"]) + i["fake_shift"]
    score = losses.denoising_score_loss(x, fake, i["fake_sigma"])
    assert error(score, outputs["fake_score_loss"]) < 1e-8


def test_sid_drops_samples_and_ends(x64):
    x = np.array([[1.0, 2], [np.nan, 0]])
    value, grad = value_and_grad(
        lambda x: losses.sid_generator_loss(x, x + 1, 2 * x), x
    )
    assert np.isfinite(value).all()
    np.testing.assert_array_equal(value[1], 0)
    np.testing.assert_array_equal(grad[1], 0)
    np.testing.assert_allclose(models.edm_sigma(np.array([0.0, 1])), [0.002, 80])
    guided = transforms.classifier_free_guidance(np.ones(2), np.full(2, 3.0), 2.0)
    np.testing.assert_array_equal(guided, -1)


def test_score_identity(x64):
    """With a Gaussian's best fake denoiser the cross term vanishes in the mean."""
    rng = np.random.default_rng(0)
    mean, scale, sigma = 0.7, 0.9, 0.8
    x = mean + scale * rng.normal(size=400_000)
    noisy = x + sigma * rng.normal(size=x.size)
    psi = (scale**2 * noisy + sigma**2 * mean) / (scale**2 + sigma**2)
    phi = 0.3 * noisy + 1
    gap = phi - psi
    np.testing.assert_allclose((gap * (psi - x)).mean(), 0, atol=3e-3)
    one = losses.sid_generator_loss(x[None], phi[None], psi[None], alpha=1.0)
    weight = np.abs(x - phi).mean()
    np.testing.assert_allclose(one * weight, (gap * (psi - x))[None], atol=1e-12)


def test_a_discriminator_beside_score_identity(x64):
    logits = np.array([[-80.0, -3], [3, 80]])
    values, grad = value_and_grad(losses.sid_adversarial_loss, logits)
    inside = np.abs(logits) < 10
    clipped = np.clip(logits, -10, 10)
    np.testing.assert_allclose(values, np.log1p(np.exp(-clipped)), rtol=1e-12)
    np.testing.assert_allclose(
        grad * grad.size, np.where(inside, -1 / (1 + np.exp(logits)), 0), atol=1e-12
    )
    sigma = np.array([0.5, 2.0])
    value = losses.sid_discriminator_loss(logits, -logits, sigma, sigma_data=1.0)
    weight = (sigma**2 + 1) / sigma**2
    want = weight[:, None] * np.logaddexp(0, -logits)
    np.testing.assert_allclose(value, want, rtol=1e-12)


def test_few_steps():
    def run(match, steps=1):
        def total(a):
            x = models.few_step_sampler(
                lambda x, t: a * x + t,
                jax.random.key(3),
                3,
                shape=(2,),
                add_noise=lambda x, noise, t: x + noise,
                t_init=3.0,
                match=match,
                backprop_steps=steps,
            )
            return x.sum(), x

        return jax.value_and_grad(total, has_aux=True)(2.0)

    keys = jax.random.split(jax.random.key(3), 4)
    noise = [jax.random.normal(k, (2,)) for k in keys[1:]]
    outputs, x = [], jnp.zeros(2)
    for i in range(3):
        outputs.append(2 * (x + noise[i]) + 3 - i)
        x = outputs[-1]
    (_, got), grad = run("final")
    np.testing.assert_allclose(got, outputs[-1], rtol=1e-6)
    np.testing.assert_allclose(grad, (outputs[1] + noise[2]).sum(), rtol=1e-6)
    _, whole = run("final", steps=3)
    h = [(noise[0]).sum()]
    h.append(2 * h[0] + (outputs[0] + noise[1]).sum())
    h.append(2 * h[1] + (outputs[1] + noise[2]).sum())
    np.testing.assert_allclose(whole, h[2], rtol=1e-5)
    at = int(jax.random.randint(keys[0], (), 0, 3))
    (_, got), grad = run("uniform")
    np.testing.assert_allclose(got, outputs[at], rtol=1e-6)
    before = jnp.zeros(2) if at == 0 else outputs[at - 1]
    np.testing.assert_allclose(grad, (before + noise[at]).sum(), rtol=1e-6)


Z = np.zeros((2, 3), np.float32)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.aligndistil_loss(Z, Z[:1], Z), "dpo_logits has shape"),
        (lambda: losses.aligndistil_loss(Z, Z, Z, eps=0.0), "eps is 0.0"),
        (lambda: targets.compose_teacher_logits(Z, Z, weight=Z), "weight has shape"),
        (lambda: losses.online_distill_loss(Z, Z, Z, Z[:1]), "target_features has"),
        (lambda: losses.online_distill_loss(Z, Z, Z[:1], Z[:1]), "draft_features has"),
        (lambda: losses.qcrd_loss(Z, Z[:1]), "negative_nll has shape"),
        (lambda: losses.qcrd_loss(Z, Z, positive_select="x"), "positive_select is 'x'"),
        (
            lambda: losses.qcrd_loss(Z, Z, positive_quality=Z[:1]),
            "positive_quality has",
        ),
        (
            lambda: sequences.mean_token_nll(Z, np.zeros(3, int)),
            r"tokens has shape \(3,\)",
        ),
        (lambda: losses.gld_loss(Z, Z, power=3), "power is 3"),
        (lambda: losses.gld_loss(Z, Z[:1]), "teacher_logits has shape"),
        (lambda: targets.top_k_logits(Z, 0), "k is 0"),
        (lambda: theory.sorted_gw_bounds(Z, Z), "a has shape"),
        (lambda: models.fake_quantize(Z, bits=1), "bits is 1"),
        (lambda: models.fake_quantize(Z, bits=2, step=0.0), "step is 0.0"),
        (lambda: losses.progressive_guidance_loss([], Z), "logits_list is empty"),
        (lambda: losses.sid_generator_loss(Z, Z[:1], Z), "teacher_denoised has"),
        (lambda: losses.denoising_score_loss(Z, Z, np.ones(3)), "sigma has shape"),
        (lambda: losses.sid_adversarial_loss(Z, clip=0.0), "clip is 0.0"),
        (lambda: losses.sid_discriminator_loss(Z, Z[:1], Z[:, 0]), "fake_logits has"),
        (lambda: plain.sid_discriminator_loss(Z, Z, Z[:, 0]), "sigma is"),
        (
            lambda: transforms.classifier_free_guidance(Z, Z[:1], 1.0),
            "uncond has shape",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_adaptive_alpha_divergence_in_numpy(x64):
    """Its value is the integral of the weights that the gradient has."""
    s, t = draw(0, 40, 6), draw(1, 40, 6)
    values, grad = value_and_grad(lambda s: losses.adaptive_alpha_divergence(s, t), s)
    q, p = softmax(s, -1), softmax(t, -1)
    weight = np.minimum(q / p, 5)
    left, right = (q * (weight - 1)).sum(-1) / 2, (p * np.log(p / q)).sum(-1)
    chosen = left > right
    assert 0 < chosen.sum() < 40
    assert (weight == 5).any()
    up = q * (weight - (q * weight).sum(-1, keepdims=True))
    want = np.where(chosen[:, None], up, q - p)
    assert error(40 * grad, want) < 1e-10
    f = np.where(weight < 5, (q / p - 1) ** 2 / 2, 8 + 4 * (q / p - 5))
    assert error(values, np.where(chosen, (p * f).sum(-1), right)) < 1e-10


def test_adaptive_alpha_divergence_near_the_teacher(x64):
    s, d = draw(0, 5), draw(1, 5)
    value, grad = value_and_grad(
        lambda s: losses.adaptive_alpha_divergence(s, draw(0, 5)), s + 1e-7 * d
    )
    p = softmax(s, -1)
    variance = (p * (d - (p * d).sum()) ** 2).sum()
    assert abs(value / (variance * 1e-14 / 2) - 1) < 1e-6
    assert error(grad, 1e-7 * p * (d - (p * d).sum())) < 1e-6
