import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import cases, check, error
from harness.interpreter import functions, interpreted

from logitlab import losses, theory, transforms
from logitlab.losses import robust

robust = functions(robust)


BASELINES = {
    "gce": robust.generalized_cross_entropy,
    "aul": robust.asymmetric_unhinged_loss,
    "agce": robust.asymmetric_gce_loss,
    "nce": robust.normalized_cross_entropy,
    # Quirk of the released code: it rounds log(1e-4) to float32.
    "rce": lambda z, y: robust.symmetric_cross_entropy(
        z, y, alpha=0.0, floor=np.exp(np.float64(np.float32(np.log(1e-4))))
    ),
    # Two weights in one string; the first is the label's.
    "jsc": lambda z, y, weights: robust.js_label_noise_loss(
        z, y, weight=float(weights.split()[0])
    ),
}


@pytest.mark.parametrize(
    "case",
    cases("robust_baselines", *BASELINES),
    ids=lambda c: c["params"]["kind"],
)
def test_baselines_golden(case, x64):
    params = dict(case["params"])
    loss, y = BASELINES[params.pop("kind")], np.array(case["inputs"]["labels"])
    check(lambda z: loss(z, y, **params), case)


@pytest.mark.sampled(3)
@pytest.mark.parametrize("released", [False, True])
@pytest.mark.parametrize("case", cases("bi_tempered"))
def test_bi_tempered_golden(case, released, x64):
    # Transcribed from the released code, whose gradient assumes an exact normaliser.
    params, y = dict(case["params"]), np.array(case["inputs"]["labels"])
    few = params["num_iters"] == 5  # the released default has not converged
    if not released:
        params.pop("num_iters")
    rtol = 1e-6 if few and not released else 1e-8

    def loss(z):
        return robust.bi_tempered_logistic_loss(z, y, **params)

    check(loss, case, rtol)


def test_bi_tempered_limits(x64):
    z, y = 3 * np.random.default_rng(0).normal(size=(6, 5)), np.arange(6) % 5
    soft = np.full((6, 5), 0.05) + 0.75 * np.eye(5)[y]

    @interpreted
    def run(z):
        loss = robust.bi_tempered_logistic_loss
        return [
            (loss(z, y, t1=1.0, t2=1.0), -jax.nn.log_softmax(z)[np.arange(6), y]),
            (loss(z, y, label_smoothing=0.2), loss(z, soft)),
            (loss(z, np.eye(5)[y]), loss(z, y)),
        ]

    for got, want in run(z):
        np.testing.assert_allclose(got, want, rtol=1e-11)


def test_bi_tempered_derivatives(x64):
    z, h = np.random.default_rng(0).normal(size=4), 1e-5

    @interpreted
    def slopes(z, t1, t2):
        def loss(z, t1, t2):
            return robust.bi_tempered_logistic_loss(z, 1, t1=t1, t2=t2)

        first = jax.grad(loss, argnums=(0, 1, 2))
        second = jax.jvp(lambda z: first(z, t1, t2)[0], (z,), (z,))[1]
        return loss(z, t1, t2), *first(z, t1, t2), second

    for t1, t2 in [(0.3, 0.5), (0.8, 1.2), (0.4, 5.0)]:
        value, by_z, by_t1, by_t2, second = slopes(z, t1, t2)
        up, down = slopes(z * (1 + h), t1, t2), slopes(z * (1 - h), t1, t2)
        np.testing.assert_allclose((up[0] - down[0]) / (2 * h), by_z @ z, rtol=1e-6)
        np.testing.assert_allclose((up[1] - down[1]) / (2 * h), second, rtol=1e-5)
        for i, want in ((1, by_t1), (2, by_t2)):
            d = np.array([i == 1, i == 2]) * h
            high = slopes(z, t1 + d[0], t2 + d[1])[0]
            low = slopes(z, t1 - d[0], t2 - d[1])[0]
            np.testing.assert_allclose((high - low) / (2 * h), want, rtol=1e-6)


def test_bi_tempered_is_exact():
    # With t2 near 1 a confident label leaves exp(-margin), and a loss of its square.
    rng = np.random.default_rng(0)
    z = rng.uniform(-1, 0, (8, 4)).astype("f4")
    y, margins = np.arange(8) % 4, [-80, -20, -3, 0, 3, 12, 20, 35]
    np.put_along_axis(z, y[:, None], np.float32(margins)[:, None], -1)

    @jax.jit
    def compiled(z, t2):
        def loss(z):
            losses = robust.bi_tempered_logistic_loss(z, y, t1=0.5, t2=t2)
            return losses.sum(), losses

        return jax.grad(loss, has_aux=True)(z)

    def run(z, t2):
        grad, losses = compiled(z, t2)
        return np.asarray(losses, "f8"), np.asarray(grad, "f8")

    for t2 in (1 + 2.0**-13, 1.25, 0.875):
        got = run(z, t2)
        with jax.enable_x64(True):
            want = run(z.astype("f8"), t2)
        np.testing.assert_allclose(got[0], want[0], rtol=2e-5, atol=1e-37)
        scale = np.abs(want[1]).max(-1, keepdims=True)
        assert (np.abs(got[1] - want[1]) <= 2e-5 * scale + 1e-37).all()


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", cases("ldr_kl"))
def test_ldr_golden(case, x64):
    y = np.array(case["inputs"]["labels"])
    check(lambda z: robust.ldr_kl_loss(z, y, **case["params"]), case)


def test_ldr_limits(x64):
    z, y = np.array([2.0, 1.0, 0.0]), 1
    ce = -jax.nn.log_softmax(z)[1]
    np.testing.assert_allclose(robust.ldr_kl_loss(z, y), ce - np.log(3), rtol=1e-12)
    hinge = robust.ldr_kl_loss(z, y, lam=1e-6, margin=1.0)
    np.testing.assert_allclose(hinge, 2.0, rtol=1e-5)
    mean = robust.ldr_kl_loss(z, y, lam=1e8, margin=1.0)
    np.testing.assert_allclose(mean, 2 / 3, rtol=1e-6)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", cases("aldr_kl"))
def test_aldr_golden(case, x64):
    params, y = dict(case["params"]), np.array(case["inputs"]["labels"])
    if params.pop("softplus"):
        params["normalize"] = "softplus_l1_mean"
    for step in case["outputs"]["steps"]:
        lam = np.array(step["lam_in"])

        def loss(z, lam=lam):
            return robust.aldr_kl_loss(z, y, lam, **params)[0]

        check(loss, case | {"outputs": step})
        _, new = robust.aldr_kl_loss(
            np.array(case["inputs"]["logits"]), y, lam, **params
        )
        assert error(new, step["lam_out"]) < 1e-8


@pytest.mark.parametrize("case", cases("tempnet_robust_loss"))
def test_tempnet_golden(case, x64):
    z, y, tau = (np.array(case["inputs"][k]) for k in ("logits", "labels", "tau"))
    rho, outputs = case["params"]["rho"], case["outputs"]

    @interpreted
    def run(z, tau):
        def loss(z, tau):
            losses = robust.tempnet_robust_loss(z, y, tau, rho=rho)
            return losses.sum(), losses

        return jax.value_and_grad(loss, argnums=(0, 1), has_aux=True)(z, tau)

    (total, losses), (by_z, by_tau) = run(z, tau)
    assert error(losses, outputs["loss"]) < 1e-8
    assert error(by_z, outputs["grad_logits"]) < 1e-8
    assert error(by_tau, outputs["grad_tau"]) < 1e-8
    assert error(total / losses.size, outputs["mean_loss"]) < 1e-8


def test_strong_duality(x64):
    z = np.array([1.0, 0.0, -1.0, 0.5])
    tau = transforms.optimal_temperature(z, rho=0.3)
    np.testing.assert_allclose(tau, 0.744573, atol=1e-6)
    value = robust.tempnet_robust_loss(z, 1, tau, rho=0.3)
    np.testing.assert_allclose(value, 0.645239, atol=1e-6)
    q = jax.nn.softmax(z / tau)
    np.testing.assert_allclose((q * np.log(4 * q)).sum(), 0.3, atol=1e-7)
    np.testing.assert_allclose((q * (z - z[1])).sum(), value, atol=1e-7)
    ends = transforms.optimal_temperature(np.stack([z, z]), rho=np.log(4.0))
    np.testing.assert_allclose(ends, 0.01, rtol=1e-6)  # the ball holds every q
    np.testing.assert_allclose(
        transforms.optimal_temperature(z, rho=0.0), 10, rtol=1e-6
    )


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", cases("ensloss"))
def test_ensloss_golden(case, x64):
    s, t, draws = (np.array(v) for v in case["inputs"].values())
    lam, outputs = case["params"]["lam"], case["outputs"]

    def loss(s):
        return robust.ensloss(s, t, None, lam=lam, normal_draws=draws)

    np.testing.assert_allclose(loss(s), outputs["mean_loss"], rtol=1e-8)
    assert error(interpreted(jax.grad(loss))(s), outputs["grad_logits_of_mean"]) < 1e-8
    g = theory.ensloss_derivatives((2 * t - 1) * s, None, lam=lam, normal_draws=draws)
    assert error(g, outputs["loss_derivative"]) < 1e-8


def test_ensloss_is_convex_and_calibrated():
    m = np.linspace(-3, 1, 9, dtype=np.float32)
    derivatives = interpreted(theory.ensloss_derivatives)
    for lam in (-0.9, 0.0, 0.9):
        g = derivatives(m, jax.random.key(1), lam=lam)
        assert (np.diff(g) >= 0).all()
        assert (g < 0).all()
    draws = np.float32([0.3, -1, 0.1])
    keep, t = np.array([True, False, True]), np.array([1, -100, 0])
    s = np.float32([0.5, np.nan, 2])
    got = robust.ensloss(s, t, None, normal_draws=draws, mask=keep)
    want = robust.ensloss(s[keep], t[keep], None, normal_draws=draws[keep])
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_multiclass_ensloss(x64):
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(9, 4)) * 2, rng.integers(0, 4, 9)
    draws = rng.normal(size=9)
    others = np.where(np.eye(4, dtype=bool)[y], -np.inf, z)
    margins = z[np.arange(9), y] - others.max(-1)
    g = theory.ensloss_derivatives(margins, None, normal_draws=draws)
    loss = lambda z, **kw: robust.multiclass_ensloss(z, y, None, **kw)  # noqa: E731
    value, grad = interpreted(jax.value_and_grad(loss))(z, normal_draws=draws)
    np.testing.assert_allclose(value, (g * margins).mean(), rtol=1e-12)
    slopes = np.eye(4)[y] - np.eye(4)[others.argmax(-1)]
    np.testing.assert_allclose(grad, g[:, None] * slopes / 9, rtol=1e-12)
    # Two classes are the paper's loss of the difference of the scores.
    t = (y > 1) * 1
    for lam in (-0.5, 0.0, 0.5):
        two = robust.multiclass_ensloss(z[:, :2], t, None, lam=lam, normal_draws=draws)
        one = robust.ensloss(z[:, 1] - z[:, 0], t, None, lam=lam, normal_draws=draws)
        np.testing.assert_allclose(two, one, rtol=1e-12)
    # One against the rest: each class by itself.
    draws = rng.normal(size=(4, 9))
    hard = np.arange(4) != 2
    for where in (np.ones(4, bool), hard):
        got = loss(z, kind="ovr", normal_draws=draws, where=where[None])
        want = sum(
            robust.ensloss(z[:, c], (y == c) * 1, None, normal_draws=draws[c])
            for c in np.flatnonzero(where)
        )
        lost = not where[y].all()  # a hidden label
        np.testing.assert_allclose(got, np.inf if lost else want, rtol=1e-12)


def test_multiclass_ensloss_mask_and_errors():
    z, y = np.float32([[1, 2, 0], [np.nan] * 3, [3, 0, 0]]), np.array([0, -100, 1])
    keep, draws = np.array([True, False, True]), np.float32([0.3, 9, -1])
    for kind, noise in (("margin", draws), ("ovr", np.tile(draws, (3, 1)))):
        f = lambda *a, kind=kind, **kw: robust.multiclass_ensloss(  # noqa: E731
            *a, None, kind=kind, **kw
        )
        got = f(z, y, normal_draws=noise, mask=keep)
        want = f(z[keep], y[keep], normal_draws=noise[..., keep])
        np.testing.assert_allclose(got, want, rtol=1e-6)
        assert f(z[:, :1], np.zeros(3, int), normal_draws=noise[..., :3][:1]
                 if kind == "ovr" else noise, mask=keep & False) == 0  # fmt: skip
    with pytest.raises(ValueError, match="kind is 'ova', expected 'margin' or 'ovr'"):
        robust.multiclass_ensloss(z, y, None, kind="ova")
    with pytest.raises(ValueError, match=r"logits has shape \(3,\), expected \[..., N"):
        robust.multiclass_ensloss(z[0], 0, None)
    with pytest.raises(ValueError, match=r"mask has shape \(2,\), expected \(3,\)"):
        robust.multiclass_ensloss(z, y, None, mask=keep[:2])
    with pytest.raises(ValueError, match="labels outside"):
        losses.multiclass_ensloss(z, y % 3 + 2, jax.random.key(0))
    assert np.isnan(losses.multiclass_ensloss(z, y, jax.random.key(0)))
    with pytest.raises(ValueError, match=r"normal_draws has shape \(2,\)"):
        robust.multiclass_ensloss(z, y, None, normal_draws=draws[:2], mask=keep)


def test_closed_forms(x64):
    z, y = 3 * jax.random.normal(jax.random.key(1), (5, 4)), np.arange(5) % 4
    p = jax.nn.softmax(z)
    py = p[np.arange(5), y]
    sce = robust.symmetric_cross_entropy(z, y, alpha=6.0, beta=0.1)
    want = -6 * np.log(py) - 0.1 * np.log(1e-4) * (1 - py)
    np.testing.assert_allclose(sce, want, rtol=1e-12)
    truncated = robust.generalized_cross_entropy(z, y, q=0.7, k=0.5)
    want = (1 - np.maximum(py, 0.5) ** 0.7) / 0.7
    np.testing.assert_allclose(truncated, want, rtol=1e-12)
    nce = [robust.normalized_cross_entropy(z, np.full(5, c)) for c in range(4)]
    np.testing.assert_allclose(sum(nce), 1, rtol=1e-12)
    one = robust.asymmetric_gce_loss(z, y, a=0.0, q=0.7)
    two = robust.generalized_cross_entropy(z, y, q=0.7)
    np.testing.assert_allclose(one, two, rtol=1e-12)
    unhinged = robust.asymmetric_unhinged_loss(z, y, a=1.0, q=0.5)
    np.testing.assert_allclose(unhinged, 2 * np.sqrt(1 - py), rtol=1e-12)
    near_ce = robust.js_label_noise_loss(z, y, weight=1e-6)
    np.testing.assert_allclose(near_ce, -np.log(py), rtol=1e-4)
    near_mae = robust.js_label_noise_loss(z, y, weight=1 - 1e-9)
    np.testing.assert_allclose(near_mae, 1 - py, rtol=0.1)


def test_edges():
    inf, z = np.inf, np.float32([-np.inf, 1, 0])
    hidden = {
        robust.symmetric_cross_entropy: inf,
        robust.generalized_cross_entropy: 1 / 0.7,
        robust.normalized_cross_entropy: 1,
        robust.asymmetric_gce_loss: 1.5,
        robust.js_label_noise_loss: 2,
        robust.ldr_kl_loss: inf,
    }
    for loss, want in hidden.items():
        run = jax.jit(jax.value_and_grad(loss))
        value, grad = run(z, 0)
        np.testing.assert_allclose(value, want, rtol=1e-6, err_msg=loss.__name__)
        assert np.isfinite(grad).all()
        assert run(np.float32([3, -inf, -inf]), 0)[0] == 0  # one class
        value, grad = run(np.float32([-inf] * 3), 0)
        assert value == 0
        assert (grad == 0).all()
        assert np.isnan(run(z, 3)[0])
        with pytest.raises(ValueError, match="outside"):
            getattr(losses, loss.__name__)(z, 3)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: robust.generalized_cross_entropy(z, 0, q=0.0), "q is 0.0"),
        (lambda z: robust.generalized_cross_entropy(z, 0, k=1.0), "k is 1.0"),
        (lambda z: robust.js_label_noise_loss(z, 0, weight=1.0), "weight is 1.0"),
        (lambda z: robust.symmetric_cross_entropy(z, 0, alpha=-1.0), "alpha is -1.0"),
        (lambda z: robust.asymmetric_unhinged_loss(z, 0, a=0.5), "a is 0.5"),
        (lambda z: robust.bi_tempered_logistic_loss(z, 0, t2=0.0), "t2 is 0.0"),
        (lambda z: robust.ldr_kl_loss(z, 0, lam=0.0), "lam is 0.0"),
        (lambda z: robust.ldr_kl_loss(z, 0, normalize="l2"), "normalize is 'l2'"),
        (lambda z: robust.aldr_kl_loss(z, 0, jnp.ones(2)), "lam_state has shape"),
        (lambda z: robust.tempnet_robust_loss(z, 0, 0.0, rho=1.0), "tau is 0.0"),
        (lambda z: transforms.optimal_temperature(z, rho=-1.0), "rho is -1.0"),
        (lambda z: losses.ensloss(z, np.full(3, 2), None), "other than 0 and 1"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros(3, np.float32))


def test_the_normalizer_leaves_nothing_for_the_gradient():
    z, y = np.zeros((64, 200), "f4"), np.zeros(64, int)
    loss = losses.bi_tempered_logistic_loss
    slope = jax.jit(jax.grad(lambda z: loss(z, y, t1=0.8, t2=1.3).sum()))
    memory = slope.lower(z).compile().memory_analysis()
    assert memory.temp_size_in_bytes < 20 * z.nbytes


def test_the_share_of_a_label_far_behind():
    """Both costs of two classes, 40 and 4e-18, and their slopes by the book."""
    slope = jax.grad(losses.normalized_cross_entropy)(np.float32([-40, 0]), 0)
    p = np.exp(-40.0)
    want = -(p + 40 * p) / (40 + p) ** 2
    np.testing.assert_allclose(slope, [want, -want], rtol=1e-5)


def test_generalized_cross_entropy_trains_a_network_from_its_start():
    """Truncated at one half it would not: every label has the probability 1/4."""
    z, y = jnp.zeros((3, 4)), np.arange(3)
    for k, slope in ((0.0, 0.25**0.7 * 0.75), (0.5, 0.0)):
        total = functools.partial(robust.generalized_cross_entropy, labels=y, k=k)
        grad = jax.grad(lambda z, total=total: total(z).sum())(z)
        np.testing.assert_allclose(grad[np.arange(3), y], -slope, rtol=1e-6)
    default = robust.generalized_cross_entropy(z, y)
    np.testing.assert_array_equal(default, robust.generalized_cross_entropy(z, y, k=0))
