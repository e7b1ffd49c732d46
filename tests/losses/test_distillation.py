import jax
import numpy as np
import pytest
from harness.goldens import arrays, cases, draw, error, value_and_grad
from harness.interpreter import functions
from scipy.special import log_softmax

from logitlab import heads, losses, numerics

losses = functions(losses)


def pair(case):
    return arrays(case, "student_logits", "teacher_logits")


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", cases("kd"))
def test_kd_golden(case, x64):
    (s, t), params = pair(case), case["params"]
    values, grad = value_and_grad(lambda s: losses.kd_loss(s, t, **params), s)
    assert error(values, case["outputs"]["per_example"]) < 1e-8
    assert error(grad, case["outputs"]["grad_logits"]) < 1e-8
    by_ce, same = value_and_grad(lambda s: losses.kd_loss(s, t, form="ce", **params), s)
    log_p, log_q = (log_softmax(z / params["temperature"], -1) for z in (t, s))
    want = -(params["temperature"] ** 2) * (np.exp(log_p) * log_q).sum(-1)
    np.testing.assert_allclose(by_ce, want, rtol=1e-12)
    np.testing.assert_allclose(same, grad, rtol=1e-9, atol=1e-12)


DISTILLM = {
    "forward_kl": lambda s, t, p: losses.kd_loss(s, t, temperature=1.0, form="ce"),
    "reverse_kl": lambda s, t, p: losses.reverse_kl(s, t),
    "symmetric_kl": lambda s, t, p: losses.symmetric_kl(
        s, t, reverse_weight=p["symmetric_lam"], form="ce"
    ),
    "js_distance": lambda s, t, p: losses.js_divergence(s, t, skew=1 - p["js_lam"]),
    "tv_distance": lambda s, t, p: losses.total_variation_divergence(s, t),
    "skewed_forward_kl": lambda s, t, p: losses.skew_kl(
        s, t, skew=p["skew_lam"], form="ce"
    ),
    "skewed_reverse_kl": lambda s, t, p: losses.skew_reverse_kl(
        s, t, skew=1 - p["skew_lam"]
    ),
}


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("distillm_divergences"))
def test_distillm_golden(case, x64):
    (s, t), outputs = pair(case), case["outputs"]
    mask = np.array(case["inputs"]["mask"]) > 0

    @jax.jit
    def run(s):
        return {
            name: jax.value_and_grad(
                lambda s, f=f: numerics.masked_mean(f(s, t, case["params"]), mask)
            )(s)
            for name, f in DISTILLM.items()
        }

    for name, (value, grad) in run(s).items():
        assert error(value, outputs[name]) < 1e-8, name
        assert error(grad, outputs[f"{name}_grad"]) < 1e-8, name


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("generalized_jsd"))
def test_generalized_jsd_golden(case, x64):
    (s, t), outputs = pair(case), case["outputs"]
    mask = np.array(case["inputs"]["mask"]) > 0

    def loss(s):
        options = dict(case["params"], scale_by_temperature_squared=False)
        values = losses.js_divergence(s, t, skew=options.pop("beta"), **options)
        return numerics.masked_mean(values, mask), values

    (mean, values), grad = jax.jit(jax.value_and_grad(loss, has_aux=True))(s)
    assert error(values, outputs["per_token"]) < 1e-8
    assert error(mean, outputs["loss"]) < 1e-8
    assert error(grad, outputs["grad_logits"]) < 1e-8


def test_divergences_are_those_of_the_heads(x64):
    h, w, v = draw(0, 6, 4), draw(1, 4, 9), draw(2, 4, 9)
    s, t, options = h @ w, h @ v, dict(temperature=1.7)
    mine = {
        ("forward_kl", 0.5): losses.kd_loss(s, t, **options),
        ("reverse_kl", 0.5): losses.reverse_kl(s, t, **options),
        ("js_divergence", 0.3): losses.js_divergence(s, t, skew=0.3, **options),
        ("js_divergence", 1): losses.js_divergence(s, t, skew=1, **options),
        ("total_variation_divergence", 0.5): losses.total_variation_divergence(
            s, t, **options
        ),
    }
    for (name, beta), values in mine.items():
        head = heads.fused_linear_distillation(
            h, w, heads.Linear(h, v), divergence=name, skew=beta, **options
        )
        np.testing.assert_allclose(values, head, rtol=1e-10, err_msg=name)


def test_identities_of_divergences(x64):
    s, t = draw(0, 7, 5), draw(1, 7, 5)
    for beta in (0.1, 0.5):
        gkd = losses.js_divergence(s, t, skew=beta)
        np.testing.assert_allclose(gkd, losses.js_divergence(t, s, skew=1 - beta))
        assert (gkd < -beta * np.log(beta) - (1 - beta) * np.log(1 - beta)).all()
        near_end = losses.js_divergence(s, t, skew=1e-8) / 1e-8
        np.testing.assert_allclose(
            near_end, losses.kd_loss(s, t, temperature=1.0), 1e-5
        )
    np.testing.assert_allclose(losses.skew_kl(s, t, skew=1.0), 0, atol=1e-15)
    forward, backward = losses.kd_loss(s, t, temperature=1.0), losses.reverse_kl(s, t)
    np.testing.assert_allclose(losses.skew_kl(s, t, skew=0.0), forward)
    np.testing.assert_allclose(losses.skew_reverse_kl(s, t, skew=1.0), backward)
    np.testing.assert_allclose(backward, losses.kd_loss(t, s, temperature=1.0))
    both = losses.symmetric_kl(s, t, reverse_weight=0.25)
    np.testing.assert_allclose(both, 0.75 * forward + 0.25 * backward)


def test_hot_kd_is_a_squared_difference(x64):
    s, t = draw(0, 4, 6), draw(1, 4, 6)
    d = s - t
    want = ((d - d.mean(-1, keepdims=True)) ** 2).mean(-1) / 2
    np.testing.assert_allclose(losses.kd_loss(s, t, temperature=1e4), want, rtol=1e-4)
    hot = losses.kd_loss(s.astype("f4"), t.astype("f4"), temperature=1e4)
    np.testing.assert_allclose(hot, want, rtol=2e-3)  # z / T is a float32
    centred = losses.logit_mse_loss(s, t, center=True)
    np.testing.assert_allclose(centred, want, rtol=1e-12)


@pytest.mark.parametrize(
    "name",
    ["kd_loss", "reverse_kl", "symmetric_kl", "js_divergence", "skew_kl", "nkd_loss"],
)
def test_exact_for_two_confident_models(name):
    """Float32 against float64, at margins where probabilities round to 0 and 1."""
    margins = np.array([5, 12, 17, 25, 40, 60, 80.0])
    rng = np.random.default_rng(0)
    s = np.concatenate([margins[:, None], rng.uniform(-2, 0, (7, 4))], -1)
    t = np.concatenate([margins[::-1, None], rng.uniform(-2, 0, (7, 4))], -1)
    t[:2, 1] = 90  # and models that disagree
    s, t = s.astype("f4"), t.astype("f4")
    labels = (np.zeros(7, int),) if name == "nkd_loss" else ()

    def loss(s, t):
        return getattr(losses, name)(s, t, *labels, temperature=1.0)

    got = value_and_grad(loss, s, t)
    with jax.enable_x64(True):
        want = value_and_grad(loss, s.astype("f8"), t.astype("f8"))
    for a, b in zip(got, want, strict=True):
        a, b = np.asarray(a).reshape(7, -1), np.asarray(b).reshape(7, -1)
        for row, exact in zip(a, b, strict=True):
            if np.abs(exact).max() > 1e-36:
                assert error(row, exact) < 2e-5


def test_hidden_classes_of_either_model():
    s, t = np.float32([2, 0, -np.inf]), np.float32([1, -np.inf, 5])
    want = -np.float64(log_softmax([2.0, 0.0])[0])  # p is one-hot: the third is hidden
    values, grad = value_and_grad(lambda s: losses.kd_loss(s, t, temperature=1.0), s)
    np.testing.assert_allclose(values, want, rtol=1e-6)
    np.testing.assert_allclose(grad, [np.exp(-want) - 1, 1 - np.exp(-want), 0], 1e-5)
    values, grad = value_and_grad(lambda s: losses.reverse_kl(s, t), s)
    assert values == np.inf
    assert np.isfinite(grad).all()
    assert grad[1] > 1e30
    values, grad = value_and_grad(
        lambda s: losses.kd_loss(s, np.full_like(t, -np.inf)), s
    )
    assert values == 0
    assert (grad == 0).all()


def test_a_learned_temperature(x64):
    s, t = draw(0, 5, 4), draw(1, 5, 4)
    at = np.linspace(0.5, 3, 5)
    loss = lambda T: losses.kd_loss(s, t, temperature=T)  # noqa: E731
    slope = jax.grad(lambda T: loss(T).sum())(at)
    numeric = (loss(at + 1e-6) - loss(at - 1e-6)) / 2e-6
    np.testing.assert_allclose(slope, numeric, rtol=1e-6)
    one = [losses.kd_loss(s[i], t[i], temperature=at[i]) for i in range(5)]
    np.testing.assert_allclose(loss(at), one)
