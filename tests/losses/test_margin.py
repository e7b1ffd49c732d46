import functools
import json
import pathlib

import jax
import numpy as np
import pytest
from interpreter import functions, interpreted

from logitlab import losses
from logitlab.losses import margin

margin = functions(margin)

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def cases(name, *kinds):
    found = json.loads((GOLDEN / f"{name}.json").read_text())["cases"]
    return [c for c in found if c["params"]["kind"] in kinds]


def error(a, b):
    return np.abs(np.asarray(a) - np.array(b)).max() / np.abs(b).max()


def check(loss, case):
    z = np.array(case["inputs"]["logits"])
    value, pull = interpreted(lambda z: jax.vjp(loss, z))(z)
    assert error(value, case["outputs"]["loss"]) < 1e-8
    (grad,) = pull(np.ones_like(value))
    assert error(grad, case["outputs"]["grad_logits"]) < 1e-8


def test_crammer_singer_golden(x64):
    for case in cases("robust_baselines", "cs"):
        y, m = np.array(case["inputs"]["labels"]), case["params"]["margin"]
        check(lambda z, y=y, m=m: margin.multiclass_hinge(z, y, margin=m), case)
    for case in cases("standard_losses", "crammer_singer_mean"):
        z, y = (np.array(case["inputs"][k]) for k in ("logits", "labels"))
        mean = margin.multiclass_hinge(z, y).mean()
        np.testing.assert_allclose(mean, case["outputs"]["mean_loss"], rtol=1e-8)


def test_weston_watkins_golden(x64):
    # The released code takes the mean over all C classes; the label's own term is 0.
    for case in cases("robust_baselines", "ww"):
        y, m = np.array(case["inputs"]["labels"]), case["params"]["margin"]
        c = len(case["inputs"]["logits"][0])
        check(lambda z, y=y, m=m, c=c: margin.weston_watkins(z, y, margin=m) / c, case)
    # torch divides by the number of classes.
    for case in cases("standard_losses", "multi_margin"):
        y, p = np.array(case["inputs"]["labels"]), case["params"]
        options = dict(margin=p["margin"], p=p["p"])
        c = len(case["inputs"]["logits"][0])
        check(lambda z, y=y, c=c, o=options: margin.weston_watkins(z, y, **o) / c, case)


def oracle(z, y, k):
    """All losses of a row in float64, by the book."""
    z = np.asarray(z, np.float64)
    others = np.delete(z, y)
    centred, c, sign = z - z.mean(), len(z), np.where(np.arange(len(z)) == y, 1, -1)
    ovr = np.maximum(0, 1 - sign * z)
    top = np.sort(others)[::-1][:k].mean() if len(others) else -np.inf
    return {
        "multiclass_hinge": max(0, others.max(initial=-np.inf) + 1 - z[y]),
        "weston_watkins": np.maximum(0, 1 + others - z[y]).sum(),
        "lee_lin_wahba": np.maximum(0, np.delete(centred, y) + 1 / max(c - 1, 1)).sum(),
        "ovr_hinge": ovr.sum(),
        "squared_hinge": (ovr**2).sum(),
        "l2_svm_loss": (ovr**2).sum(),
        "topk_hinge": max(0, 1 + top - z[y]),
        "smooth_topk": smooth(z, y, k),
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


@pytest.mark.parametrize("name", [n for n in margin.__all__ if "objective" not in n])
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
    hidden = loss(hid, y, where=where)
    np.testing.assert_allclose(hidden, few, rtol=1e-5, atol=1e-6)
    two = loss(z.T, y, axis=0)
    np.testing.assert_allclose(two, loss(z, y), rtol=1e-6, atol=1e-7)


def test_hand_checks():
    np.testing.assert_allclose(
        margin.l2_svm_loss(np.float32([0.5, -0.2]), 0), 0.89, rtol=1e-6
    )
    multi_hot = margin.ovr_hinge(np.float32([0.5, -0.5, 2]), np.array([1, 1, 0]))
    np.testing.assert_allclose(multi_hot, 0.5 + 1.5 + 3)
    objective = margin.l2_svm_objective(
        np.float32([1, 2]), np.full((2, 2), 2.0), c=0.25
    )
    np.testing.assert_allclose(objective, 8 + 0.75)
    z = np.float32([1, 2.5, 0, 2])
    np.testing.assert_allclose(
        margin.topk_hinge(z, 0, k=1), margin.multiclass_hinge(z, 0)
    )
    cold = margin.smooth_topk(z, 0, k=2, tau=1e-3)
    np.testing.assert_allclose(cold, 1 + (2 - 1) / 2, rtol=1e-4)
    assert margin.smooth_topk(z, 0, k=4) == 0  # the label cannot be pushed out
    assert margin.topk_hinge(z, 0, k=9) == margin.topk_hinge(z, 0, k=3)


def test_edges():
    big = np.float32([-np.inf, 3e38, -3e38])
    for name in margin.__all__:
        loss = getattr(margin, name)
        if name == "l2_svm_objective":
            continue
        options = dict(k=1) if "topk" in name else {}
        shifty = name in ("ovr_hinge", "squared_hinge", "l2_svm_loss")

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
            assert run([3e38, 3e38])[0] < 2, name
        assert np.isnan(jax.jit(loss)(np.zeros(3), 3)), name
        with pytest.raises(ValueError, match="outside"):
            getattr(losses, name)(np.zeros(3), 3)
        assert loss(np.zeros(3, "bfloat16"), 0, **options).dtype == np.float32


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("multiclass_hinge", dict(margin=-1.0)),
        ("weston_watkins", dict(p=0.5)),
        ("topk_hinge", dict(k=0)),
        ("smooth_topk", dict(tau=0.0)),
    ],
)
def test_errors(name, options):
    (key, value), *_ = options.items()
    with pytest.raises(ValueError, match=f"{key} is {value}"):
        getattr(margin, name)(np.zeros(3), 0, **options)
