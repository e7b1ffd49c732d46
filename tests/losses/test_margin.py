import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import cases, check, error
from harness.interpreter import functions, interpreted

from logitlab import losses
from logitlab.losses import margin, topk

margin = functions(margin, topk)


def test_crammer_singer_golden(x64):
    for case in cases("robust_baselines", "cs"):
        y, m = np.array(case["inputs"]["labels"]), case["params"]["margin"]
        check(lambda z, y=y, m=m: margin.multiclass_hinge_loss(z, y, margin=m), case)
    for case in cases("standard_losses", "crammer_singer_mean"):
        z, y = (np.array(case["inputs"][k]) for k in ("logits", "labels"))
        mean = margin.multiclass_hinge_loss(z, y).mean()
        np.testing.assert_allclose(mean, case["outputs"]["mean_loss"], rtol=1e-8)


def test_weston_watkins_golden(x64):
    # The released code takes the mean over all C classes; the label's own term is 0.
    for case in cases("robust_baselines", "ww"):
        y, m = np.array(case["inputs"]["labels"]), case["params"]["margin"]
        c = len(case["inputs"]["logits"][0])
        check(
            lambda z, y=y, m=m, c=c: margin.weston_watkins_loss(z, y, margin=m) / c,
            case,
        )
    # torch divides by the number of classes.
    for case in cases("standard_losses", "multi_margin"):
        y, p = np.array(case["inputs"]["labels"]), case["params"]
        options = dict(margin=p["margin"], p=p["p"])
        c = len(case["inputs"]["logits"][0])
        check(
            lambda z, y=y, c=c, o=options: margin.weston_watkins_loss(z, y, **o) / c,
            case,
        )
        check(lambda z, y=y, o=options: margin.multi_margin_loss(z, y, **o), case)


def oracle(z, y, k):
    """All losses of a row in float64, by the book."""
    z = np.asarray(z, np.float64)
    others = np.delete(z, y)
    centred, c, sign = z - z.mean(), len(z), np.where(np.arange(len(z)) == y, 1, -1)
    ovr = np.maximum(0, 1 - sign * z)
    top = np.sort(others)[::-1][:k].mean() if len(others) else -np.inf
    return {
        "multiclass_hinge_loss": max(0, others.max(initial=-np.inf) + 1 - z[y]),
        "weston_watkins_loss": np.maximum(0, 1 + others - z[y]).sum(),
        "multi_margin_loss": np.maximum(0, 1 + others - z[y]).sum() / c,
        "lee_lin_wahba_loss": np.maximum(
            0, np.delete(centred, y) + 1 / max(c - 1, 1)
        ).sum(),
        "ovr_hinge_loss": ovr.sum(),
        "squared_hinge_loss": (ovr**2).sum(),
        "topk_hinge_loss": max(0, 1 + top - z[y]),
        "smooth_topk_loss": smooth(z, y, k),
    }


def smooth(z, y, k, tau=1.0, m=1.0):
    """Berrada's loss as a sum over all k-subsets."""
    import itertools

    def total(subsets):
        return sum(np.exp(z[list(s)].sum() / (k * tau)) for s in subsets)

    subsets = list(itertools.combinations(range(len(z)), k))
    right = total([s for s in subsets if y in s])
    wrong = total([s for s in subsets if y not in s])
    return tau * np.log1p(np.exp(m / tau) * wrong / right) if right else 0


OF_ONE_LABEL = [
    n for n in margin.__all__ if n not in ("l2_svm_objective", "multilabel_margin_loss")
]


@pytest.mark.parametrize("name", OF_ONE_LABEL)
def test_oracle(name):
    rng = np.random.default_rng(0)
    options = dict(k=2) if "topk" in name else {}
    loss = interpreted(
        functools.partial(getattr(margin, name), **options), static_argnames="axis"
    )
    z = (2 * rng.normal(size=(6, 4))).astype("f4")
    y = rng.integers(0, 4, 6)
    want = [oracle(row, label, 2)[name] for row, label in zip(z, y, strict=True)]
    np.testing.assert_allclose(loss(z, y), want, rtol=1e-5, atol=1e-6)
    where = np.array([True, True, False, True])
    y = np.where(y == 2, 0, y)
    moved = y - (y > 2)
    few = loss(z[:, where], moved)
    hid = np.where(where, z, np.nan)
    hidden = loss(hid, y, where=where[None])
    np.testing.assert_allclose(hidden, few, rtol=1e-5, atol=1e-6)
    two = loss(z.T, y, axis=0)
    np.testing.assert_allclose(two, loss(z, y), rtol=1e-6, atol=1e-7)


def test_hand_checks():
    np.testing.assert_allclose(
        margin.squared_hinge_loss(np.float32([0.5, -0.2]), 0), 0.89, rtol=1e-6
    )
    multi_hot = margin.ovr_hinge_loss(np.float32([0.5, -0.5, 2]), np.array([1, 1, 0]))
    np.testing.assert_allclose(multi_hot, 0.5 + 1.5 + 3)
    objective = margin.l2_svm_objective(
        np.float32([1, 2]), np.full((2, 2), 2.0), c=0.25
    )
    np.testing.assert_allclose(objective, 8 + 0.75)
    z = np.float32([1, 2.5, 0, 2])
    np.testing.assert_allclose(
        losses.topk_hinge_loss(z, 0, k=1), margin.multiclass_hinge_loss(z, 0)
    )
    cold = losses.smooth_topk_loss(z, 0, k=2, tau=1e-3)
    np.testing.assert_allclose(cold, 1 + (2 - 1) / 2, rtol=1e-4)
    by_hand = smooth(np.float64(z), 0, 3)  # all rivals together can push the label out
    np.testing.assert_allclose(losses.smooth_topk_loss(z, 0, k=3), by_hand, rtol=1e-5)
    assert losses.smooth_topk_loss(z, 0, k=4) == 0  # the label cannot be pushed out
    assert losses.topk_hinge_loss(z, 0, k=9) == losses.topk_hinge_loss(z, 0, k=3)


def test_edges():
    big = np.float32([-np.inf, 1e30, -1e30])
    for name in OF_ONE_LABEL:
        loss = getattr(margin, name)
        options = dict(k=1) if "topk" in name else {}
        shifty = name in ("ovr_hinge_loss", "squared_hinge_loss")

        @jax.jit
        def value_and_grad(z, loss=loss, options=options):
            return jax.value_and_grad(lambda z: loss(z, 0, **options))(z)

        def run(z, f=value_and_grad):
            return f(np.float32(z))

        value, grad = run(big)
        assert value == np.inf, name
        assert not np.isnan(grad).any(), name
        value, grad = run([-np.inf] * 3)
        assert value == 0, name
        assert (grad == 0).all(), name
        if not shifty:
            assert run([5])[0] == 0, name
            assert run([1e30, 1e30])[0] < 2, name
        assert np.isnan(jax.jit(loss)(np.zeros(3), 3)), name
        with pytest.raises(ValueError, match="outside"):
            getattr(losses, name)(np.zeros(3), 3)
        assert loss(np.zeros(3, "bfloat16"), 0, **options).dtype == np.float32


def pairs(z, t, m=1.0, p=1):
    """Of each label and each class that is none, by the book."""
    return sum(
        max(0, m + z[i] - z[j]) ** p
        for j in range(len(z))
        for i in range(len(z))
        if t[j] and not t[i]
    )


def slopes(f, z, h=1e-6):
    """Central differences of a function of float64 arrays."""
    units = np.eye(z.size).reshape(-1, *z.shape) * h
    return np.reshape([(f(z + u) - f(z - u)) / (2 * h) for u in units], z.shape)


@pytest.mark.parametrize("m", [1.0, 0.0, 3.3])
def test_multilabel_margin(m, x64):
    rng = np.random.default_rng(0)
    z, t = rng.normal(size=(6, 7)) * 2, rng.integers(0, 2, (6, 7))
    t[0], t[1] = 0, 1

    def want(z):
        return sum(pairs(*row, m) for row in zip(z, t, strict=True)) / 7

    f = lambda z: losses.multilabel_margin_loss(z, t, margin=m).sum()  # noqa: E731
    value, grad = interpreted(jax.value_and_grad(f))(z)
    np.testing.assert_allclose(value, want(z), rtol=1e-12)
    np.testing.assert_allclose(grad, slopes(want, z), atol=1e-8)
    where = np.arange(7) != 3
    hidden = margin.multilabel_margin_loss(
        np.where(where, z, np.nan),
        np.where(where, t, -100),
        where=where[None],
        margin=m,
    )
    fewer = margin.multilabel_margin_loss(z[:, where], t[:, where], margin=m)
    np.testing.assert_allclose(hidden, fewer, rtol=1e-12)


def test_multilabel_margin_edges():
    loss = margin.multilabel_margin_loss
    t = np.array([1, 0, 0, 1])
    # torch's example, with its classes [3, 0, -1, 1] as marks.
    np.testing.assert_allclose(loss(np.float32([0.1, 0.2, 0.4, 0.8]), t), 0.85)
    run = interpreted(
        jax.value_and_grad(lambda z: losses.multilabel_margin_loss(z, t, margin=0.0))
    )
    value, grad = run(np.float32([5, 5, 5, 5]))  # at the kink
    assert value == 0
    assert (grad == 0).all()
    for offset in (1e4, 1e6):  # a common offset costs nothing
        z = np.float32([0, 0.25, -1, 2]) + np.float32(offset)
        for m in (1.0, 0.3):
            want = pairs(z.astype(np.float64), t, m) / 4
            np.testing.assert_allclose(loss(z, t, margin=m), want, rtol=1e-6)
    far = np.float32([-1e30, 1e30, 0, 1e30])
    np.testing.assert_allclose(loss(far, t), 0.75e30, rtol=1e-6)
    np.testing.assert_array_equal(
        np.isnan(loss(np.zeros((2, 4), "f4"), np.array([t, [1, 0, -100, 0]]))), [0, 1]
    )
    assert loss(np.float32([-np.inf] * 4), t) == 0


def test_multi_margin_weights(x64):
    rng = np.random.default_rng(0)
    z, y, w = (
        rng.normal(size=(6, 4)) * 2,
        rng.integers(0, 4, 6),
        np.array([0, 1.0, 2, 5]),
    )
    y[0] = 0
    for m, p in ((1.0, 1), (0.5, 2), (1.0, 1.5)):
        options = dict(margin=m, p=p)

        def want(z, m=m, p=p):
            rows = zip(z, np.eye(4)[y], w[y], strict=True)
            return sum(c * pairs(row, t, m, p) for row, t, c in rows) / 4

        f = lambda z, o=options: losses.multi_margin_loss(z, y, w, **o).sum()  # noqa: E731
        value, grad = interpreted(jax.value_and_grad(f))(z)
        np.testing.assert_allclose(value, want(z), rtol=1e-12)
        np.testing.assert_allclose(grad, slopes(want, z), atol=1e-6)
        moving = jax.tree.map(jnp.asarray, options)  # traced
        traced = jax.jit(lambda z, o: losses.multi_margin_loss(z, y, w, **o).sum())
        np.testing.assert_allclose(traced(z, moving), want(z), rtol=1e-12)
    hidden = np.array([[-np.inf, 1, 2, 3]])
    run = interpreted(
        jax.value_and_grad(lambda z, w: losses.multi_margin_loss(z, [0], w).sum())
    )
    value, grad = run(hidden, w)  # a weight of 0 beside an infinite loss
    assert value == 0
    assert (grad == 0).all()
    assert run(hidden, w + 1)[0] == np.inf
    with pytest.raises(ValueError, match=r"class_weights has shape \(3,\)"):
        losses.multi_margin_loss(z, y, w[:3])
    with pytest.raises(ValueError, match="class_weights is .*, expected at least 0"):
        losses.multi_margin_loss(z, y, -w)


def test_objective_selects():
    losses_, kernel = np.float32([1, np.inf, 2]), np.ones((2, 2), np.float32)
    objective = margin.l2_svm_objective
    assert objective(losses_, kernel, c=0.0) == 2
    keep = np.array([True, False, True])
    np.testing.assert_allclose(objective(losses_, kernel, mask=keep), 2 + 0.5 * 3)
    assert objective(losses_, kernel) == np.inf


def test_marks_of_several_labels():
    """Marks are 0 and 1; a negative integer says that nothing is known."""
    z = np.zeros((3, 4), np.float32)
    for name in ("ovr_hinge_loss", "squared_hinge_loss"):
        marks = np.array([[1, 0, 0, 0], [0, 0, -100, 1], [1, 1, 1, 1]])
        for run in (lambda f: f, jax.jit):
            got = run(getattr(losses, name))(z, marks)
            np.testing.assert_array_equal(np.isnan(got), [False, True, False])
        with pytest.raises(ValueError, match=r"labels outside \[0, 1\]"):
            getattr(losses, name)(z, marks * 0 + 2)


def test_labels_of_any_integer_dtype():
    z = np.zeros((3, 256), np.float32)
    z[np.arange(3), [0, 65, 255]] = 0.5
    y = np.array([0, 65, 255])
    for name in OF_ONE_LABEL:
        options = dict(k=2) if "topk" in name else {}
        loss = functools.partial(getattr(margin, name), **options)
        want = loss(z, y)
        np.testing.assert_array_equal(loss(z, y.astype(np.uint8)), want, err_msg=name)
        missing = loss(z, np.array([0, -100, 255]))
        np.testing.assert_array_equal(np.isnan(missing), [False, True, False])


HYPER = [
    *((name, "margin") for name in margin.__all__ if name not in (
        "lee_lin_wahba_loss", "l2_svm_objective"
    )),
    ("weston_watkins_loss", "p"),
    ("multi_margin_loss", "p"),
    ("smooth_topk_loss", "tau"),
    ("l2_svm_objective", "c"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "argument"), HYPER)
def test_hyper_parameters(name, argument, x64):
    """They may be traced, and do not decide the dtype."""
    loss, second = getattr(losses, name), np.zeros(3, int)
    z = np.zeros((3, 4), np.float32)
    if name == "multilabel_margin_loss":
        second = np.zeros((3, 4), int)
    if name == "l2_svm_objective":
        z, second = z[:, 0], z
    plain = jax.eval_shape(lambda z: loss(z, second, **{argument: np.float64(1)}), z)
    assert plain.dtype == np.float32
    traced = jax.eval_shape(lambda v: loss(z, second, **{argument: v}), 1.0)
    assert traced.dtype == np.float32
    with pytest.raises(ValueError, match=f"{argument} is -1.0"):
        loss(z, second, **{argument: -1.0})


@pytest.mark.optimized
def test_logits_made_in_the_same_program():
    """The compiler may hold the logits twice, rounded differently."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(64, 100)).astype("f4"), rng.integers(0, 100, 64)
    g, b = (rng.uniform(low, 9, (1, 100)).astype("f4") for low in (5, -9))
    t = (rng.uniform(size=x.shape) < 0.1).astype(int)

    def layer_norm(x):
        centred = x - x.mean(-1, keepdims=True)
        return centred * jax.lax.rsqrt((centred**2).mean(-1, keepdims=True) + 1e-6)

    fs = {
        "multiclass_hinge_loss": lambda z: losses.multiclass_hinge_loss(z, y),
        "topk_hinge_loss": lambda z: losses.topk_hinge_loss(z, y, k=3),
        "smooth_topk_loss": lambda z: losses.smooth_topk_loss(z, y, k=2),
        "lee_lin_wahba_loss": lambda z: losses.lee_lin_wahba_loss(z, y),
        "multilabel_margin_loss": lambda z: losses.multilabel_margin_loss(z, t),
    }

    def run(x):
        return {
            name: jax.value_and_grad(lambda x, f=f: f(layer_norm(x) * g + b).sum())(x)
            for name, f in fs.items()
        }

    with jax.enable_x64(True):
        want = interpreted(run)(x.astype(np.float64))
    for name, got in jax.jit(run)(x).items():
        for a, b in zip(got, want[name], strict=True):
            assert error(a, b) < 2e-5, name


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("multiclass_hinge_loss", dict(margin=-1.0)),
        ("weston_watkins_loss", dict(p=0.5)),
        ("topk_hinge_loss", dict(k=0)),
        ("smooth_topk_loss", dict(tau=0.0)),
    ],
)
def test_errors(name, options):
    (key, value), *_ = options.items()
    with pytest.raises(ValueError, match=f"{key} is {value}"):
        getattr(margin, name)(np.zeros(3), 0, **options)
