import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.goldens import cases, close
from harness.interpreter import functions, interpreted

from logitlab import losses
from logitlab.losses import segmentation as seg

CASES = cases("dice_loss")


# One program each: called eagerly, every operation compiles on its own.
dice = interpreted(seg.dice_loss, static_argnames=("alpha", "smooth", "square"))
dsc = interpreted(
    seg.dsc_loss, static_argnames=("alpha", "smooth", "square", "denominator")
)
tversky = interpreted(seg.tversky_loss, static_argnames=("alpha", "beta", "smooth"))


@pytest.mark.sampled(3)
@pytest.mark.parametrize("case", CASES)
def test_golden(x64, case):
    z, y = np.asarray(case["inputs"]["logits"]), np.asarray(case["inputs"]["labels"])
    if z.shape[1] == 1:
        f = lambda z: dice(z[:, 0], y, **case["params"])  # noqa: E731
    else:
        # The quirk of the authors' code: without squares it divides by batch sums.
        quirk = {} if case["params"]["square"] else {"denominator": "batch"}
        f = lambda z: dsc(z, y, **case["params"], **quirk)  # noqa: E731
    value, pull = interpreted(lambda z: (f(z), jax.grad(lambda z: f(z).sum())(z)))(z)
    close(value, case["outputs"]["loss"], 1e-8)
    close(pull, case["outputs"]["grad_logits"], 1e-8)


def oracle(z, y, alpha=1.0, g=1.0, square=True):
    p = np.exp(z - np.logaddexp.reduce(z, -1, keepdims=True))
    w, t = (1 - p) ** alpha * p, np.eye(z.shape[-1])[y]
    size = w**2 + t**2 if square else w + t
    return (1 - (2 * w * t + g) / (size + g)).sum(-1)


def test_float64_oracle():
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(6, 4)) * 3, rng.integers(0, 4, 6)
    for hyper in ({}, {"alpha": 0.3, "square": False}, {"alpha": 0.0}):
        close(dsc(z.astype("f4"), y, **hyper), oracle(z, y, **hyper), 1e-5)
    p = 1 / (1 + np.exp(-z))
    t = (z > rng.normal(size=z.shape)).astype(int)
    want = 1 - (2 * (p * t).sum() + 1) / ((p * p).sum() + t.sum() + 1)
    close(dice(z.astype("f4"), t), want, 1e-5)
    hit, fp, fn = (p * t).sum(), (p * (1 - t)).sum(), ((1 - p) * t).sum()
    want = 1 - (hit + 1) / (hit + 0.3 * fp + 0.7 * fn + 1)
    close(tversky(z.astype("f4"), t, alpha=0.3, beta=0.7), want, 1e-5)
    half = tversky(z.astype("f4"), t, smooth=0.5)
    close(half, dice(z.astype("f4"), t, square=False), 1e-6)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("margin", [-80, -20, 20, 80])
def test_exact(x64, margin):
    """A confident answer, right or wrong, float32 against the derivative by hand."""
    sign = np.array([1, -1])
    f = lambda z: dsc(z, 0, alpha=0.0, square=False)  # noqa: E731
    value, grad = jax.jit(jax.value_and_grad(f))(np.float32([margin, 0]))
    miss, p = 1 / (1 + np.exp(float(margin))), 1 / (1 + np.exp(-float(margin)))
    close(value, miss / (p + 2) + miss / (miss + 1), 1e-5)
    slope = -(3 / (p + 2) ** 2 + 1 / (miss + 1) ** 2) * p * miss
    close(grad, slope * sign, 1e-5)
    f = lambda z: dice(z, jnp.array([1]))  # noqa: E731
    value, grad = jax.jit(jax.value_and_grad(f))(np.float32([margin]))
    close(value, miss**2 / (p * p + 2), 1e-5) if margin < 80 else None
    want = -2 * miss * p * miss / (p * p + 2) - 2 * p * p * miss**3 / (p * p + 2) ** 2
    close(grad, np.array([want]), 1e-5) if margin < 80 else None


@pytest.mark.sampled
@pytest.mark.parametrize("alpha", [0.0, 0.01, 1.0])
def test_extremes(alpha):
    f = lambda z, y: dsc(z, y, alpha=alpha).sum()  # noqa: E731
    big = 1e30
    step = jax.jit(jax.value_and_grad(f))
    z = np.float32([[big, -big, 0], [big, big, 0], [-big, 0, 1], [200, 0, 0], [0] * 3])
    for y in (0, 2):
        value, grad = step(z, np.full(5, y))
        assert np.isfinite(value)
        assert np.isfinite(grad).all()
    assert dsc(np.float32([5]), 0, alpha=0.0) == 0  # one class
    hidden = np.float32([[0, -np.inf, 1], [-np.inf] * 3])
    got = dsc(hidden, np.array([0, 1]), alpha=alpha)
    np.testing.assert_allclose(
        got, [float(dsc(np.float32([0, 1]), 0, alpha=alpha)), 0], rtol=1e-6
    )
    assert np.isfinite(jax.grad(f)(hidden, np.array([0, 1]))).all()


def test_small_alpha_far_out(x64):
    # (1 - p) ** alpha does not vanish where 1 - p has underflowed.
    got = dsc(np.float32([200, 0]), 0, alpha=0.01)
    w = np.exp(-0.01 * 200.0)
    np.testing.assert_allclose(got, (1 - w) ** 2 / (w * w + 2), rtol=1e-5)


def test_masks():
    rng = np.random.default_rng(1)
    z, y = rng.normal(size=(5, 4)).astype("f4"), rng.integers(0, 4, 5)
    keep = np.array([1, 1, 0, 1, 0], bool)
    bad = np.where(keep, y, -100)
    for loss in (dice, tversky):
        got = loss(np.where(keep[:, None], z, np.nan), bad, mask=keep)
        np.testing.assert_allclose(got, loss(z[keep], y[keep]), rtol=1e-6)
        assert loss(z, bad * 0 - 100, mask=keep & False) == 0
    where = np.array([[1, 0, 1, 1]], bool)
    y = y * 0
    got = dsc(z, y, where=where)
    np.testing.assert_allclose(got, dsc(z[:, where[0]], y), rtol=1e-6)
    got = dice(z[0], np.array([1, 0, 1, 1]), where=where[0])
    want = dice(z[0, where[0]], np.array([1, 1, 1]))
    np.testing.assert_allclose(got, want, rtol=1e-6)


NO_SMOOTHING = {
    "dice": lambda z, y: seg.dice_loss(z, y, smooth=0.0),
    "dice, first powers": lambda z, y: seg.dice_loss(z, y, smooth=0.0, square=False),
    "dice, focused": lambda z, y: seg.dice_loss(z, y, smooth=0.0, alpha=1.0),
    "classes": lambda z, y: seg.class_dice_loss(z, y, smooth=0.0).sum(),
    "tversky": lambda z, y: seg.tversky_loss(z, y, smooth=0.0),
    "focal tversky": lambda z, y: seg.focal_tversky_loss(z, y, smooth=0.0),
    "dsc": lambda z, y: seg.dsc_loss(z, y, smooth=0.0).mean(),
    "dsc, first powers": lambda z, y: seg.dsc_loss(
        z, y, smooth=0.0, square=False, denominator="batch"
    ).mean(),
}


def test_no_labels_and_no_smoothing():
    """Without labels every prediction is wrong: 1, whatever the logits are."""
    z = np.float32(
        [[-1e30], [-90], [-60], [-45], [-30], [-25], [-5], [0], [40], [1e30]]
    )
    z = np.concatenate([z, z, z - 1], 1)

    @jax.jit
    @jax.vmap
    def run(z):
        y = jnp.zeros(3, int)
        return {k: jax.value_and_grad(f)(z, y) for k, f in NO_SMOOTHING.items()}

    for name, (values, grads) in run(z).items():
        n = 3 if name == "classes" else 1  # each logit is a class of its own
        np.testing.assert_array_equal(values, n, err_msg=name)
        np.testing.assert_array_equal(grads, 0, err_msg=name)
    for loss in (dice, tversky):  # a little smoothing, and probabilities below it
        got = loss(np.float32([-40, -40]), np.zeros(2, int), smooth=1e-30)
        p = 2 * np.exp(-40.0) if loss is tversky else 2 * np.exp(-80.0)
        wrong = p / 2 if loss is tversky else p
        np.testing.assert_allclose(got, wrong / (wrong + 1e-30), rtol=1e-5)
    nothing = np.zeros(3, bool)
    assert dice(z[0], np.zeros(3, int), smooth=0.0, mask=nothing) == 0
    assert dice(z[0], np.zeros(3, int), smooth=0.0, where=nothing) == 0
    assert dice(np.float32([-40] * 3), np.zeros(3, int)) < 1e-30


fast = functions(seg, losses.lovasz)


def slopes(f, z, h=1e-6):
    """Central differences of a function of float64 arrays."""
    units = np.eye(z.size).reshape(-1, *z.shape) * h
    return np.reshape([(f(z + u) - f(z - u)) / (2 * h) for u in units], z.shape)


def sums(z, y):
    """By class: overlap, probabilities and labels, and their squares."""
    p = np.exp(z - np.logaddexp.reduce(z, -1, keepdims=True))
    t = np.eye(z.shape[-1])[y]
    return (p * t).sum(0), p.sum(0), t.sum(0), (p * p).sum(0)


def class_dice(z, y, g=1.0, square=True):
    hit, p, t, squares = sums(z, y)
    size = squares + t if square else p + t
    return 1 - (2 * hit + g) / (size + g)


def generalized_dice(z, y, power=2.0):
    hit, p, t, _ = sums(z, y)
    w = np.where(t > 0, t, t[t > 0].min()) ** -power
    return 1 - 2 * (w * hit).sum() / (w * (p + t)).sum()


def focal_tversky(z, y, gamma=4 / 3, alpha=0.3, beta=0.7, g=1.0):
    hit, p, t, _ = sums(z, y)
    index = (hit + g) / (hit + alpha * (p - hit) + beta * (t - hit) + g)
    return ((1 - index) ** (1 / gamma)).sum()


def lovasz(errors, t):
    """By definition: the Jaccard losses of the worst 1, 2, ... errors."""
    order, total, last = np.argsort(-errors), 0, 0
    for i in range(len(errors)):
        wrong = np.isin(np.arange(len(errors)), order[: i + 1])
        said = np.where(wrong, 1 - t, t)
        union = ((said + t) > 0).sum()
        jaccard = 1 - (said * t).sum() / union if union else 0
        total += errors[order[i]] * (jaccard - last)
        last = jaccard
    return total


def lovasz_softmax(z, y, absent=False):
    p = np.exp(z - np.logaddexp.reduce(z, -1, keepdims=True))
    t = np.eye(z.shape[-1])[y]
    kept = [c for c in range(z.shape[-1]) if absent or t[:, c].any()]
    return np.mean([lovasz(np.abs(t - p)[:, c], t[:, c]) for c in kept])


def lovasz_hinge(z, t):
    return lovasz(np.maximum(0, 1 - (2 * t - 1) * z), t)


SETS = {
    "class_dice_loss": (class_dice, [{}, dict(smooth=0.0, square=False)]),
    "generalized_dice_loss": (generalized_dice, [{}, dict(power=1.0), dict(power=0)]),
    "focal_tversky_loss": (focal_tversky, [{}, dict(gamma=2.0, alpha=1.0, beta=0.1)]),
    "lovasz_softmax_loss": (lovasz_softmax, [{}, dict(absent=True)]),
}


@pytest.mark.parametrize("name", SETS)
def test_sets_against_numpy(name, x64):
    reference, options = SETS[name]
    loss = getattr(losses, name)
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(9, 4)) * 2, rng.integers(0, 3, 9)  # class 3 never occurs
    w = rng.uniform(size=4)
    for hyper in options:
        given = {"g" if k == "smooth" else k: v for k, v in hyper.items()}

        def total(z, hyper=hyper):
            values = loss(z, y, **hyper)
            return (values * w).sum() if values.ndim else values, values

        def want(z, given=given):
            values = reference(z, y, **given)
            return (values * w).sum() if np.ndim(values) else values

        (_, values), grad = interpreted(jax.value_and_grad(total, has_aux=True))(z)
        np.testing.assert_allclose(values, reference(z, y, **given), rtol=1e-12)
        np.testing.assert_allclose(grad, slopes(want, z), rtol=1e-6, atol=1e-8)


def test_lovasz_hinge_against_numpy(x64):
    rng = np.random.default_rng(0)
    for labels in (rng.integers(0, 2, 9), np.zeros(9, int), np.ones(9, int)):
        z = rng.normal(size=9) * 2
        f = lambda z, t=labels: losses.lovasz_hinge_loss(z, t)  # noqa: E731
        value, grad = interpreted(jax.value_and_grad(f))(z)
        want = lambda z, t=labels: lovasz_hinge(z, t)  # noqa: E731
        np.testing.assert_allclose(value, want(z), rtol=1e-12)
        np.testing.assert_allclose(grad, slopes(want, z), atol=1e-8)


def test_closed_forms():
    """Sets of one or two examples, worked out by hand."""
    z, y = np.float32([[np.log(3), 0], [0, 0]]), np.array([0, 1])
    p = np.array([0.75, 0.25])  # of the classes of the first; the second is undecided
    got = fast.class_dice_loss(z, y, smooth=0.0, square=False)
    hit, size = np.array([0.75, 0.5]), np.array([1.25, 0.75]) + 1
    np.testing.assert_allclose(got, 1 - 2 * hit / size, rtol=1e-6)
    one = fast.focal_tversky_loss(z, y, gamma=1.0)
    same = fast.tversky_loss(z, y, alpha=0.3, beta=0.7)
    np.testing.assert_allclose(one, same, rtol=1e-6)
    # Class 0 errs by 1/4 where it is and 1/2 where it is not, class 1 the other way.
    want = [0.5 * 0.5 + 0.25 * 0.5, 0.5 * 1 + 0.25 * 0]
    np.testing.assert_allclose(fast.lovasz_softmax_loss(z, y), np.mean(want), rtol=1e-6)
    np.testing.assert_allclose(
        fast.generalized_dice_loss(z[:1], y[:1]), 1 - 2 * p[0] / 2, rtol=1e-6
    )
    # With one positive and nothing else the hinge is the plain one.
    hinge = fast.lovasz_hinge_loss(np.float32([0.25]), np.array([1]))
    np.testing.assert_allclose(hinge, 0.75, rtol=1e-6)


def test_optax_has_the_same(x64):
    """Its axis of one image is the set, its smoothing half of ours."""
    rng = np.random.default_rng(0)
    z, y = rng.normal(size=(9, 4)) * 2, rng.integers(0, 4, 9)
    theirs = functools.partial(optax.losses.dice_loss, z[None], np.eye(4)[y][None])
    ours = fast.class_dice_loss(z, y, square=False, smooth=2.0)
    np.testing.assert_allclose(ours, theirs(reduction="none")[0], rtol=1e-12)
    ours = fast.tversky_loss(z, y, alpha=0.2, beta=0.9, smooth=0.5)
    sums = theirs(reduction="sum", alpha=0.2, beta=0.9, smooth=0.5)
    np.testing.assert_allclose(ours, sums[0], rtol=1e-12)


def test_absent_classes(x64):
    z, y = np.array([[2.0, 1, 0], [0, 1, -1]]), np.array([0, 1])
    p = np.exp(z - np.logaddexp.reduce(z, -1, keepdims=True))
    got = fast.class_dice_loss(z, y)[2]
    squares = (p[:, 2] ** 2).sum()
    np.testing.assert_allclose(got, squares / (squares + 1), rtol=1e-12)
    assert fast.class_dice_loss(z, y, smooth=0.0)[2] == 1
    present = fast.lovasz_softmax_loss(z, y)
    everything = fast.lovasz_softmax_loss(z, y, absent=True)
    np.testing.assert_allclose(3 * everything - 2 * present, p[:, 2].max(), rtol=1e-12)


def test_overlapping_classes(x64):
    """Labels of the logits' shape: a sigmoid for each class, and each its own set."""
    rng = np.random.default_rng(0)
    z, t = rng.normal(size=(5, 3)), rng.integers(0, 2, (5, 3))
    t[0] = 1
    p = 1 / (1 + np.exp(-z))
    hit, size = (p * t).sum(0), (p + t).sum(0)
    got = fast.class_dice_loss(z, t, smooth=0.0, square=False)
    np.testing.assert_allclose(got, 1 - 2 * hit / size, rtol=1e-12)
    w = t.sum(0) ** -2.0
    want = 1 - 2 * (w * hit).sum() / (w * size).sum()
    np.testing.assert_allclose(fast.generalized_dice_loss(z, t), want, rtol=1e-12)
    turned = fast.generalized_dice_loss(z.T, t.T, axis=0)
    np.testing.assert_allclose(turned, want, rtol=1e-12)
    want = np.mean([lovasz(np.abs(t - p)[:, c], t[:, c]) for c in range(3)])
    np.testing.assert_allclose(fast.lovasz_softmax_loss(z, t), want, rtol=1e-12)


EVERY = {
    name: getattr(losses, name)
    for name in fast.__all__
    if name not in ("lovasz_hinge_loss",)
}


def test_confident_sets(x64):
    """Every loss at margins from -80 to 80, float32 against float64."""
    margins = np.float32([-80, -46, -30, -17, -5, -1, 0.3, 5, 12, 17, 30, 46, 80])
    rng = np.random.default_rng(0)
    y = np.arange(5) % 4
    z = rng.uniform(-2, 0, (len(margins), 5, 6)).astype("f4")
    z[:, np.arange(5), (y + 1) % 6] = 0
    z[:, np.arange(5), y] = margins[:, None]

    @jax.vmap
    def run(z):
        losses = EVERY | NO_SMOOTHING
        return {
            name: (f(z, y), jax.grad(lambda z, f=f: f(z, y).sum())(z))
            for name, f in losses.items()
        }

    want = interpreted(run)(z.astype(np.float64))
    for name, pair in jax.jit(run)(z).items():
        for what, a, b in zip(("value", "slope"), pair, want[name], strict=True):
            size = np.abs(b).max(-1, keepdims=True) if what == "slope" else np.abs(b)
            off = np.abs(np.asarray(a, np.float64) - b)
            fine = (off <= 1e-5 * size) | (off < 1e-38)  # the smallest float32
            assert fine.all(), (name, what, margins[~fine.reshape(13, -1).all(-1)])


def test_labels_of_any_integer_dtype():
    z = np.zeros((3, 256), np.float32)
    z[np.arange(3), [0, 65, 255]] = 3
    y = np.array([0, 65, 255])
    for name in EVERY:
        loss = getattr(fast, name)
        want = loss(z, y)
        np.testing.assert_array_equal(loss(z, y.astype(np.uint8)), want, err_msg=name)
        with pytest.raises(ValueError, match="labels outside"):
            EVERY[name](z, y + 2**32)
        ignored = np.array([0, -100, 255])
        missing = loss(z, ignored)
        if name == "dsc_loss":
            np.testing.assert_array_equal(np.isnan(missing), [False, True, False])
            continue
        assert np.isnan(missing).all(), name
        keep = ignored >= 0
        for masked in (
            loss(z, ignored, mask=keep),
            loss(z, y + 2**32 * ~keep, mask=keep),
        ):
            np.testing.assert_allclose(masked, loss(z[keep], y[keep]), rtol=1e-6)


@pytest.mark.parametrize(
    "name", ["lovasz_hinge_loss", "generalized_dice_loss", "class_dice_loss"]
)
def test_masked_sets(name):
    rng, loss = np.random.default_rng(1), getattr(losses, name)
    shape = (6,) if name == "lovasz_hinge_loss" else (6, 1)  # one class of examples
    z, t = rng.normal(size=6).astype("f4"), np.array([1, 0, -100, 1, 0, 1])
    keep = t >= 0

    def run(z, t, **options):
        f = lambda z: loss(z, t, **options).sum()  # noqa: E731
        return interpreted(jax.value_and_grad(f))(z)

    kept = (keep.sum(), *shape[1:])
    want, slope = run(z[keep].reshape(kept), t[keep].reshape(kept))
    junk = np.where(keep, z, np.float32(np.nan)).reshape(shape)
    for options in (dict(mask=keep.reshape(shape)), dict(where=keep.reshape(shape))):
        got, grad = run(junk, t.reshape(shape), **options)
        np.testing.assert_allclose(got, want, rtol=1e-6)
        np.testing.assert_allclose(
            grad.ravel()[keep], slope.ravel(), rtol=1e-5, atol=1e-8
        )
        assert (grad.ravel()[~keep] == 0).all()


def test_wrong_shapes():
    with pytest.raises(ValueError, match="mask has shape"):
        seg.dice_loss(np.zeros((3, 3)), np.zeros(3, int), mask=np.ones((3, 1), bool))
    with pytest.raises(ValueError, match="where has shape"):
        seg.dice_loss(np.zeros((3, 3)), np.zeros(3, int), where=np.ones(3, bool))
    with pytest.raises(ValueError, match="labels has shape"):
        losses.lovasz_hinge_loss(np.zeros((3, 3)), np.zeros(3, int))


HYPER = [
    (name, argument)
    for name, arguments in {
        "dice_loss": ("smooth", "alpha"),
        "class_dice_loss": ("smooth", "alpha"),
        "dsc_loss": ("smooth", "alpha"),
        "tversky_loss": ("smooth", "alpha", "beta"),
        "focal_tversky_loss": ("smooth", "alpha", "beta", "gamma"),
        "generalized_dice_loss": ("power",),
    }.items()
    for argument in arguments
]


@pytest.mark.parametrize(("name", "argument"), HYPER)
def test_hyper_parameters(name, argument, x64):
    """They may be traced, and do not decide the dtype."""
    z, y, loss = np.zeros((3, 4), np.float32), np.zeros(3, int), getattr(losses, name)
    for labels in (y, y[:, None] * np.ones(4, int)):
        plain = jax.eval_shape(
            lambda z, y=labels: loss(z, y, **{argument: np.float64(1)}), z
        )
        assert plain.dtype == np.float32
        traced = jax.eval_shape(lambda v, y=labels: loss(z, y, **{argument: v}), 0.5)
        assert traced.dtype == np.float32
    with pytest.raises(ValueError, match=f"{argument} is -1"):
        loss(z, y, **{argument: -1.0})


def test_errors():
    z = np.zeros((2, 3), "f4")
    with pytest.raises(ValueError, match="labels outside"):
        seg.dice_loss(z, np.array([0, 3]))
    for wrong in ([0, 2, 1], [0.0, 1.5, 1]):
        with pytest.raises(ValueError, match="labels outside"):
            seg.dsc_loss(z[0], np.array(wrong))
    assert np.isnan(jax.jit(seg.dice_loss)(z, np.array([0, 3])))
    with pytest.raises(ValueError, match="smooth is -1"):
        seg.tversky_loss(z, np.array([0, 1]), smooth=-1)
    with pytest.raises(ValueError, match="denominator is 'all'"):
        seg.dsc_loss(z, np.array([0, 1]), denominator="all")
    with pytest.raises(ValueError, match="labels has shape"):
        seg.dsc_loss(z, np.array([0, 1, 2]))
