import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import goldens
from harness.interpreter import interpreted

from logitlab import attacks, losses
from logitlab.attacks import _problem, auto_pgd

RNG = np.random.default_rng(0)


def network(w1, b1, w2, b2):
    return lambda x: jnp.tanh(x @ w1 + b1[None]) @ w2 + b2[None]


def theirs(points, x, eps, norm, box):
    """Their projection, which leaves 1e-12 to every wall."""
    d = points - x
    size = jnp.linalg.norm(d, axis=-1, keepdims=True)
    return jnp.clip(x + d / (size + 1e-12) * jnp.minimum(eps, size), *box)


def golden_run(case):
    inputs, params = goldens.arrays(case), case["params"]
    logits_fn = network(*(inputs[name] for name in ("w1", "b1", "w2", "b2")))
    loss = {"ce": losses.cross_entropy, "dlr": attacks.dlr_loss}[params["loss"]]
    # Their history of losses begins at 0, which no loss of theirs below 0 rises above.
    history = 0.0 if params["loss"] == "dlr" else -np.inf

    def run(x, start):
        problem, _ = _problem.check_problem(
            logits_fn,
            x,
            inputs["labels"],
            loss=loss,
            eps=params["eps"],
            norm=params["norm"][1:],
            bounds=(0.0, 1.0),
            steps=params["n_iter"],
        )
        start = problem.start(start, None)
        return auto_pgd._run(problem, start, params["n_iter"], params["rho"], history)

    found = interpreted(run)(inputs["x"], inputs["x_init"])
    point = np.where(found.caught[:, None], found.adversarial, inputs["x_init"])
    return found, point


@pytest.mark.parametrize("case", goldens.cases("apgd"))
def test_golden(x64, case, monkeypatch):
    outputs = {name: np.array(value) for name, value in case["outputs"].items()}
    if case["params"]["norm"] == "L2":
        found, _ = golden_run(case)
        goldens.close(found.losses, outputs["loss_best"], 1e-11)
        assert goldens.error(found.best, outputs["x_best_loss"]) < 3e-7
        monkeypatch.setattr(_problem, "project", theirs)
    found, point = golden_run(case)
    goldens.close(found.best, outputs["x_best_loss"], 1e-14)
    goldens.close(point, outputs["x_best_adv"], 1e-14)
    goldens.close(found.losses, outputs["loss_best"], 1e-14)
    np.testing.assert_array_equal(~found.broken, outputs["robust_correct"])


def test_checkpoints():
    """Those that the paper lists for 100 steps, and the three radii of the norm 1."""
    schedule = auto_pgd._schedule(100, sparse=False)
    want = [22, 41, 57, 70, 80, 87, 93, 99]
    np.testing.assert_array_equal(np.flatnonzero(schedule["check"]), want)
    np.testing.assert_array_equal(schedule["period"][want], np.diff([0, *want]))
    assert schedule["first"].sum() == schedule["first"][0] == 1
    assert not schedule["again"].any()
    schedule = auto_pgd._schedule(100, sparse=True)
    assert [(schedule["radius"] == r).sum() for r in (3, 2, 1)] == [31, 31, 41]
    np.testing.assert_array_equal(np.flatnonzero(schedule["first"]), [0, 31, 62])
    np.testing.assert_array_equal(np.flatnonzero(schedule["again"]), [31, 62])
    np.testing.assert_array_equal(np.flatnonzero(schedule["check"])[:2], [1, 2])
    for steps in range(1, 12):
        for sparse in (False, True):
            schedule = auto_pgd._schedule(steps, sparse)
            assert (~schedule["first"]).sum() == steps
            assert schedule["radius"][-1] == 1
            assert not schedule["again"][0]


# --- the norm 1, written out for one example after the other

W1, W2 = RNG.normal(size=(8, 10)), RNG.normal(size=(10, 3))
X, Y = RNG.uniform(size=(6, 8)), np.array([0, 1, 2, 0, 1, 2])


def value_and_slope(x, y):
    h = np.tanh(x @ W1)
    z = h @ W2
    others = np.where(np.arange(3) == y, -np.inf, z)
    e = np.exp(others - others.max())
    odds = np.log(e.sum()) + others.max() - z[y]
    steer = e / e.sum() - np.eye(3)[y]
    return odds, (steer @ W2.T * (1 - h**2)) @ W1.T, z.argmax() != y


def projected(x, point, eps):
    d = point - x
    room = np.where(d > 0, 1 - x, x)
    a, b = 0.0, np.abs(d).max()
    if np.minimum(np.abs(d), room).sum() <= eps:
        return np.clip(point, 0, 1)
    for _ in range(100):
        t = (a + b) / 2
        much = np.clip(np.abs(d) - t, 0, room).sum() > eps
        a, b = (t, b) if much else (a, t)
    return x + np.sign(d) * np.clip(np.abs(d) - b, 0, room)


def sparse_run(x, y, eps, steps):
    n, best, share, changed, broken = len(x), x, 0.2, len(x), False
    early = 3 * steps // 10
    for radius, count in ((3, early), (2, early), (1, steps - 2 * early)):
        point = projected(x, best, radius * eps)
        if radius < 3:
            changed = (point != x).sum()
            share = changed / n / 1.5
        step, top = radius * eps, -np.inf
        for i in range(count + 1):
            loss, slope, wrong = value_and_slope(point, y)
            if loss > top:
                top, best, steepest = loss, point, slope
            broken |= wrong and radius == 1
            if i > 0 and i % max(4 * count // 100, 1) == 0:
                now = (best != x).sum()
                if now < 0.95 * changed:
                    step, point, slope = radius * eps, best, steepest
                else:
                    step = max(step / 1.5, radius * eps / 10)
                changed, share = now, now / n / 1.5
            least = np.sort(np.abs(slope))[min(int((1 - share) * n), n - 1)]
            signs = np.sign(slope) * (np.abs(slope) >= least)
            point = projected(
                x, point + step * signs / np.abs(signs).sum(), radius * eps
            )
    return top, broken or value_and_slope(x, y)[2]


def test_the_norm_1_is_as_written(x64):
    eps = np.linspace(0.05, 0.6, 6)
    run = interpreted(
        lambda x: attacks.apgd(logits_fn, x, Y, eps=eps, steps=20, norm=1)
    )

    def logits_fn(x):
        return jnp.tanh(x @ W1) @ W2

    found = run(X)
    want = [sparse_run(x, y, e, 20) for x, y, e in zip(X, Y, eps, strict=True)]
    top, broken = map(np.array, zip(*want, strict=True))
    np.testing.assert_array_equal(found.broken, broken)
    lower = found.losses - top  # the clean point may have been better still
    np.testing.assert_allclose(np.maximum(lower, 0) * ~found.broken, 0, 0, 1e-9)
    assert (lower > -1e-9).all()
    assert (np.abs(found.inputs - X).sum(-1) <= eps * (1 + 1e-9)).all()


def test_targets(x64):
    """The worst over wrong classes is no better than the best of single ones."""
    options = dict(eps=0.2, steps=6)

    def logits_fn(x):
        return jnp.tanh(x @ W1) @ W2

    found = interpreted(lambda x: attacks.apgd_targeted(logits_fn, x, Y, **options))(X)
    single = [
        interpreted(lambda x, t: attacks.apgd(logits_fn, x, Y, targets=t, **options))(
            X, (Y + k) % 3
        )
        for k in (1, 2)
    ]
    broken = single[0].broken | single[1].broken
    np.testing.assert_array_equal(found.broken, broken)
    odds = [
        np.array([value_and_slope(*row)[0] for row in zip(a.inputs, Y, strict=True)])
        for a in (*single, found)
    ]
    np.testing.assert_allclose(odds[2], np.maximum(*odds[:2]), 1e-9)
    one = interpreted(
        lambda x: attacks.apgd_targeted(logits_fn, x, Y, num_targets=1, **options)
    )(X)
    assert not (one.broken & ~broken).any()


# --- compiled, in float32

D, H, C, B = 12, 24, 4, 200
KERNELS = [RNG.normal(size=s).astype("f4") for s in [(D, H), (H, C)]]
POINTS = RNG.uniform(size=(B, D)).astype("f4")


def scaled(scale):
    return lambda x: scale * (jnp.tanh((x - 0.5) @ KERNELS[0]) @ KERNELS[1])


LABELS = np.asarray(scaled(1)(POINTS)).argmax(-1)


def test_logits_of_any_scale():
    """Rounding plays no part: what float64 finds, at each scale."""

    def attack(x, scale):
        found = {
            name: attacks.apgd(scaled(scale), x, LABELS, eps=0.08, steps=40, loss=loss)
            for name, loss in [
                ("odds", attacks.label_odds),
                ("margin", attacks.cw_margin),
                ("ce", losses.cross_entropy),
            ]
        }
        return {name: ~attack.broken for name, attack in found.items()}

    scales = (1.0, 20.0, 100.0, 1000.0)
    single = jax.jit(attack)
    got = [jax.tree.map(np.mean, single(POINTS, scale)) for scale in scales]
    with jax.enable_x64(True):
        double = jax.jit(attack)
        want = [jax.tree.map(np.mean, double(POINTS.astype("f8"), s)) for s in scales]
    for a, b in zip(got, want, strict=True):
        assert abs(a["odds"] - b["odds"]) <= 1.5 / B  # one example on the border
    odds = [share["odds"] for share in got]
    assert max(odds) - min(odds) <= 0.02
    assert len({float(share["margin"]) for share in got}) == 1
    assert got[3]["ce"] > 0.9 > 0.6 > max(odds)


def test_a_curve_is_one_program():
    traces = []

    def logits_fn(x):
        traces.append(1)
        return scaled(1)(x)

    @jax.jit
    def share(eps, key):
        found = attacks.apgd(logits_fn, POINTS, LABELS, eps=eps, steps=5, key=key)
        return found.broken.mean()

    keys = jax.random.split(jax.random.key(0), 3)
    curve = [[float(share(e, key)) for key in keys] for e in np.linspace(0.02, 0.2, 10)]
    assert share._cache_size() == 1
    once = len(traces)
    assert (np.diff(np.mean(curve, 1)) >= 0).all()
    assert curve[0] < curve[-1]
    assert len({tuple(row) for row in curve}) > 5
    eps = jnp.linspace(0.02, 0.2, 10)
    grid = jax.vmap(jax.vmap(share, (None, 0)), (0, None))
    np.testing.assert_allclose(grid(eps, keys), curve, atol=1.5 / B)
    assert len(traces) <= 2 * once  # one more trace, not one for each radius
