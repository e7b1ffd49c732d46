"""Losses of views, proxies and angular margins; those of pairs have their own file."""

import functools

import jax
import numpy as np
import pytest
from harness import goldens
from harness.interpreter import interpreted

from logitlab import losses, numerics, targets, transforms

close = functools.partial(goldens.close, rtol=1e-8)


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def golden(name, kernel=False):
    """Cases with their arrays: embeddings, labels, and the kernel [D, C]."""
    for case in goldens.cases(name):
        inputs = goldens.arrays(case)
        arrays = [inputs["embeddings"], inputs["labels"]]
        if "class_weights" in inputs:
            arrays.append(inputs["class_weights"].T)
        yield case, arrays


def compare(case, objective, arrays):
    """Mean and gradients against a case's."""
    floats = tuple(a for a in arrays if a.dtype == np.float64)

    @interpreted
    def run(*floats):
        return jax.value_and_grad(
            lambda *f: objective(f[0], arrays[1], *f[1:]), argnums=range(len(floats))
        )(*floats)

    value, grads = run(*floats)
    close(value, case["outputs"]["loss"])
    close(grads[0], case["outputs"]["grad_embeddings"])
    if len(grads) > 1:
        close(grads[1].T, case["outputs"]["grad_class_weights"])


@pytest.mark.parametrize("at", range(4))
def test_golden_supcon(at, x64):
    case, arrays = [*golden("supcon")][at]
    params = case["params"]
    close(losses.supcon_loss(*arrays, **params), case["outputs"]["per_anchor"])

    def objective(e, y):
        each = losses.supcon_loss(e, y, **params)
        return numerics.masked_mean(each, targets.label_pairs(y).positive.any(-1))

    compare(case, objective, arrays)


@pytest.mark.parametrize("at", range(4))
def test_golden_ntxent(at, x64):
    case, arrays = [*golden("ntxent")][at]
    count = targets.label_pairs(arrays[1]).positive.sum(-1)

    def objective(e, y):
        return (count * losses.ntxent_loss(e, y, **case["params"])).sum() / count.sum()

    compare(case, objective, arrays)


@pytest.mark.parametrize(
    ("name", "loss", "hyper"),
    [
        ("proxy_nca", "proxy_nca_loss", lambda p: dict(scale=p["softmax_scale"])),
        ("normalized_softmax", "normalized_softmax_loss", dict),
        ("cosface", "cosface_loss", dict),
        (
            "arcface",
            "arcface_loss",
            lambda p: dict(scale=p["scale"], margin=np.deg2rad(p["margin"])),
        ),
    ],
)
def test_golden_proxies(name, loss, hyper, x64):
    for case, arrays in golden(name):
        each = functools.partial(getattr(losses, loss), **hyper(case["params"]))
        close(each(*arrays), case["outputs"]["per_example"])
        compare(case, lambda *a, each=each: each(*a).mean(), arrays)


def test_golden_proxy_anchor(x64):
    for case, arrays in golden("proxy_anchor"):
        p = case["params"]
        each = functools.partial(
            losses.proxy_anchor_loss, margin=p["margin"], scale=p["alpha"]
        )
        present = len(set(arrays[1]))
        near, far = (case["outputs"][f"{s}_term_per_class"] for s in ("pos", "neg"))
        near, far = np.array(near), np.array(far)
        close(each(*arrays), near * len(near) / present + far)
        compare(case, lambda *a, each=each: each(*a).mean(), arrays)


def test_golden_magface(x64):
    for case, (e, y, kernel) in golden("magface"):
        p = case["params"]
        hyper = dict(
            scale=p["scale"],
            margin_low=p["l_margin"],
            margin_high=p["u_margin"],
            norm_low=p["l_a"],
            norm_high=p["u_a"],
            easy_margin=p["easy_margin"],
        )
        norms = np.linalg.norm(e, axis=-1)
        cosines = transforms.cosine_logits(e, kernel, scale=1.0)
        logits = transforms.magface_logits(cosines, y, norms, **hyper)
        close(logits / p["scale"], case["outputs"]["modified_cosine"])
        each = functools.partial(
            losses.magface_loss, penalty_weight=p["lambda_g"], **hyper
        )
        compare(case, lambda *a, each=each: each(*a).mean(), (e, y, kernel))


def test_golden_unpg(x64):
    for case, (e, y, kernel) in golden("unpg"):
        p, outputs = dict(case["params"]), case["outputs"]
        whisker = p["whisker"]
        kept = transforms.unpg_negatives(e, y, whisker=whisker)
        close(np.sort(kept[kept > -np.inf]), outputs["filtered_negative_sims_sorted"])
        each = functools.partial(losses.unpg_loss, monotone=False, **p)
        head = getattr(transforms, f"{p['head']}_logits")
        options = dict(monotone=False) if p["head"] == "arcface" else {}
        cosines = transforms.cosine_logits(e, kernel, scale=1.0)
        logits = head(cosines, y, margin=p["margin"], scale=p["scale"], **options)
        close(logits / p["scale"], outputs["modified_cosine"])
        plain = losses.cross_entropy(logits, y)
        close(plain.mean(), outputs["loss_without_unpg"])
        assert (each(e, y, kernel) >= plain).all()
        compare(case, lambda *a, each=each: each(*a).mean(), (e, y, kernel))
