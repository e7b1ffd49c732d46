import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import arrays, cases, close
from harness.interpreter import functions, interpreted

from logitlab import losses, numerics, weights
from logitlab.losses import adversarial

calls = functions(adversarial)
EXACT = dict(runner_up_eps=0.0, log_eps=0.0, weight_eps=0.0)


def slopes(loss, z, attacked, *rest, **options):
    """Value and gradient of the mean in both logits."""
    mean = lambda z, a: numerics.masked_mean(loss(z, a, *rest, **options))  # noqa: E731
    return interpreted(jax.value_and_grad(mean, (0, 1)))(z, attacked)


@pytest.mark.parametrize("case", cases("trades_mart"))
@pytest.mark.parametrize("name", ["trades", "mart"])
def test_golden(x64, case, name):
    z, attacked, y = arrays(case, "logits_natural", "logits_adversarial", "labels")
    loss, beta = getattr(adversarial, f"{name}_loss"), case["params"][f"beta_{name}"]
    value, (natural, adverse) = slopes(loss, z, attacked, y, beta=beta)
    close(value, case["outputs"][name])
    close(natural, case["outputs"][f"grad_nat_{name}"])
    close(adverse, case["outputs"][f"grad_adv_{name}"])


@pytest.mark.parametrize("case", cases("ramp_pairing"))
def test_golden_pairing(x64, case):
    source, target, y = arrays(case, "logits_source", "logits_target", "labels")
    right = source.argmax(-1) == y
    assert right.tolist() == case["outputs"]["selected"]

    def mean(s, t):
        return numerics.masked_mean(adversarial.ramp_pairing_loss(s, t, y), right)

    value, grads = interpreted(jax.value_and_grad(mean, (0, 1)))(source, target)
    close(value, case["outputs"]["pairing"])
    for got, side in zip(grads, ("source", "target"), strict=True):
        close(got, case["outputs"][f"grad_{side}"])


def drawn(seed=0, moved=1.0, dtype="f8"):
    rng = np.random.default_rng(seed)
    z = 3 * rng.normal(size=(6, 5))
    a = z + moved * rng.normal(size=z.shape)
    return z.astype(dtype), a.astype(dtype), rng.integers(0, 5, 6)


def test_definitions(x64):
    z, a, y = drawn()
    p, q = (np.exp(x - np.logaddexp.reduce(x, -1)[:, None]) for x in (z, a))
    own = lambda x: np.take_along_axis(x, y[:, None], -1)[:, 0]  # noqa: E731
    rival = np.where(np.arange(5) == y[:, None], 0, q).max(-1)
    kl = (p * np.log(p / q)).sum(-1)
    mart = -np.log(own(q)) - np.log(1 - rival) + 5 * (1 - own(p)) * kl
    got = {
        "trades": calls.trades_loss(z, a, y, beta=2.0),
        "mart": calls.mart_loss(z, a, y, beta=5.0, **EXACT),
        "pairing": calls.logit_pairing_loss(z, a),
        "alp": calls.adversarial_cross_entropy(z, a, y),
        "madry": calls.adversarial_cross_entropy(z, a, y, share=1.0),
    }
    want = {
        "trades": -np.log(own(p)) + 2 * kl,
        "mart": mart,
        "pairing": ((z - a) ** 2).mean(-1),
        "alp": -np.log(own(p) * own(q)) / 2,
        "madry": -np.log(own(q)),
    }
    for name in want:
        np.testing.assert_allclose(got[name], want[name], rtol=1e-9, err_msg=name)


@pytest.mark.parametrize("moved", [1e-4, 1.0])
def test_gradients_of_attacked_logits(moved):
    """The other half of what the shared checks hold: float32 against float64."""
    z, a, y = drawn(1, moved, "f4")
    calls_of = {
        "trades_loss": dict(beta=6.0),
        "mart_loss": dict(beta=6.0),
        "exact": dict(beta=6.0, **EXACT),
    }
    for name, options in calls_of.items():
        loss = getattr(losses, name, losses.mart_loss)
        value, grads = slopes(loss, z, a, y, **options)
        with jax.enable_x64(True):
            same = slopes(loss, z.astype("f8"), a.astype("f8"), y, **options)
        np.testing.assert_allclose(value, same[0], rtol=1e-5)
        for got, want in zip(grads, same[1], strict=True):
            np.testing.assert_allclose(got, want, atol=1e-6, err_msg=name)


def test_attack_that_is_sure():
    """Bounded by the epsilons where they are on, and exact where they are off."""
    z = np.float32([[0, 0, 0], [80, 0, 0], [1e30, 0, 0]])
    a = np.float32([[80, 0, -80], [-80, 0, 0], [-1e30, 0, 0]])
    y = np.zeros(3, int)
    pairs = zip(calls.mart_loss(z, a, y, beta=1.0), (-1, 160, 2e30), strict=True)
    for got, most in pairs:
        assert np.isfinite(got)
        assert got <= abs(most) + 40
    off = calls.mart_loss(z, a, y, beta=1.0, **EXACT)
    np.testing.assert_allclose(off[0], 2 / 3 * (80 - np.log(3)), rtol=1e-6)
    for options in (EXACT, {}):
        _, grads = slopes(losses.mart_loss, z, a, y, beta=1.0, **options)
        assert np.isfinite(grads).all()


def test_hidden_classes():
    z, a, y = drawn(2, dtype="f4")
    keep, y = [0, 2, 3], np.array([0, 1, 2, 0, 1, 2])
    where = np.isin(np.arange(5), keep)[None]
    labels = np.take(keep, y)
    holes = np.where(where, a, np.nan)
    for name in ("trades_loss", "mart_loss"):
        loss = getattr(calls, name)
        want = loss(z[:, keep], a[:, keep], y, beta=2.0)
        got = loss(z, holes, labels, beta=2.0, where=where)
        np.testing.assert_allclose(got, want, rtol=1e-5)
        turned = loss(z.T, holes.T, labels, beta=2.0, where=where.T, axis=0)
        np.testing.assert_allclose(turned, got, rtol=1e-6)


def test_distributions_as_labels():
    z, a, y = drawn(3, dtype="f4")
    soft = np.eye(5, dtype="f4")[y]
    for axis, move in ((-1, np.asarray), (0, np.transpose)):
        for name, options in (
            ("trades_loss", dict(beta=1.0)),
            ("adversarial_cross_entropy", {}),
        ):
            loss = getattr(calls, name)
            want = loss(z, a, y, **options)
            got = loss(move(z), move(a), move(soft), axis=axis, **options)
            np.testing.assert_allclose(got, want, rtol=1e-6)


def test_kl_dro_by_hand():
    x = np.float32([1, 2, 3])
    for r, want in ((1.0, 2.3089937), (0.5, 2.5221597), (1e8, 2.0)):
        np.testing.assert_allclose(calls.kl_dro_loss(x, r=r), want, rtol=2e-7)
    np.testing.assert_allclose(calls.kl_dro_loss(x, r=1e-6), 3, rtol=1e-5)
    w = weights.kl_dro_weights(x, r=1.0)
    np.testing.assert_allclose(w, [0.0900, 0.2447, 0.6652], atol=5e-5)
    grad = interpreted(jax.grad(lambda x: losses.kl_dro_loss(x, r=1.0)))(x)
    np.testing.assert_allclose(grad, w, rtol=1e-6)


def test_kl_dro_keeps_its_digits():
    x = np.random.default_rng(0).gamma(1, size=10_000).astype("f4")
    x[7] = 30
    wide = x.astype("f8")

    @interpreted
    @jax.value_and_grad
    def value(r, x):
        return losses.kl_dro_loss(x, r=r)

    for r in (0.01, 0.3, 3.0, 1e3, 1e7):
        got, slope = value(np.float32(r), x)
        with jax.enable_x64(True):
            _, far = value(r, wide)
        top = wide.max()
        want = top + r * np.log(np.exp((wide - top) / r).mean())
        np.testing.assert_allclose(got, want if r < 1e7 else x.mean(), rtol=1e-5)
        np.testing.assert_allclose(slope, far, rtol=1e-3, atol=1e-6)


def test_kl_dro_at_the_edges():
    x = np.float32([1, np.inf, np.nan, 2])
    mask = np.array([True, True, False, True])
    value, grad = interpreted(
        jax.value_and_grad(lambda x: losses.kl_dro_loss(x, r=1.0, mask=mask))
    )(x)
    assert value == np.inf
    np.testing.assert_array_equal(grad, [0, 1, 0, 0])
    none = np.zeros(4, bool)
    assert calls.kl_dro_loss(x, r=1.0, mask=none) == 0
    assert (weights.kl_dro_weights(x, r=1.0, mask=none) == 0).all()


def test_compositional_weights(x64):
    """With a rate of 1 those of the batch; else the gradient of the tracked mean."""
    x = np.random.default_rng(1).gamma(1, size=(4, 8))
    state = weights.compositional_dro_state()
    w, _ = weights.compositional_dro_update(state, x[0], r=0.5, rate=1.0)
    np.testing.assert_allclose(w, weights.kl_dro_weights(x[0], r=0.5), rtol=1e-12)
    u = None
    for row in x:
        e = np.exp(row / 0.5)
        u = e.mean() if u is None else 0.7 * u + 0.3 * e.mean()
        w, state = weights.compositional_dro_update(state, row, r=0.5, rate=0.3)
        np.testing.assert_allclose(w, e / (8 * u), rtol=1e-6)
        assert w.sum() <= 1 / 0.3
    mask = np.zeros(8, bool)
    w, same = weights.compositional_dro_update(state, row, r=0.5, rate=0.3, mask=mask)
    assert not w.any()
    assert same == state


def test_compositional_state_is_scanned():
    x = jnp.float32([[0, 0], [300, 100], [0, 1000]])

    def step(state, row):
        w, state = weights.compositional_dro_update(state, row, r=0.5, rate=0.1)
        return state, w

    _, w = jax.lax.scan(step, weights.compositional_dro_state(), x)
    assert np.isfinite(w).all()
    np.testing.assert_allclose(w, [[0.5, 0.5], [10, 0], [0, 10]], rtol=3e-4)


def test_errors():
    z, a, y = drawn(dtype="f4")
    with pytest.raises(ValueError, match=r"adversarial_logits has shape \(6, 4\)"):
        losses.trades_loss(z, a[:, :4], y, beta=1.0)
    with pytest.raises(ValueError, match="beta is -1, expected at least 0"):
        losses.trades_loss(z, a, y, beta=-1)
    with pytest.raises(ValueError, match="log_eps is -1"):
        losses.mart_loss(z, a, y, beta=1.0, log_eps=-1)
    with pytest.raises(ValueError, match="share is 2"):
        losses.adversarial_cross_entropy(z, a, y, share=2)
    with pytest.raises(ValueError, match=r"target_logits has shape"):
        losses.ramp_pairing_loss(z, a[0], y)
    with pytest.raises(ValueError, match="r is 0, expected positive"):
        losses.kl_dro_loss(z[0], r=0)
    with pytest.raises(ValueError, match="r is 0, expected positive"):
        weights.kl_dro_weights(z[0], r=0)
    state = weights.compositional_dro_state()
    with pytest.raises(ValueError, match="rate is 0|gamma is 0"):
        weights.compositional_dro_update(state, z[0], r=1.0, rate=0)
