import functools
import json
import pathlib

import jax
import numpy as np
import pytest
from interpreter import interpreted

from logitlab import links
from logitlab.losses import cross_entropy
from logitlab.losses.fenchel import fenchel_young_loss

GOLDEN = pathlib.Path(__file__).parents[1] / "golden/entmax.json"
CASES = json.loads(GOLDEN.read_text())["cases"]


def error(a, b):
    a, b = np.asarray(a, float), np.asarray(b, float)
    return np.abs(a - b).max() / np.abs(b).max()


@functools.partial(interpreted, static_argnames="alpha")
def value_and_grad(z, labels, where=None, *, alpha):
    def total(z):
        loss = fenchel_young_loss(z, labels, alpha=alpha, where=where)
        return loss.sum(), loss

    (_, loss), grad = jax.value_and_grad(total, has_aux=True)(z)
    return loss, grad


# As users' programs are, for what rounding decides.
compiled = jax.jit(value_and_grad.__wrapped__, static_argnames="alpha")


@pytest.mark.parametrize("case", CASES, ids=lambda c: str(c["params"]["alpha"]))
def test_golden(case, x64):
    z, y = (np.array(a) for a in case["inputs"].values())
    for labels in (y, np.eye(z.shape[-1])[y]):
        loss, grad = value_and_grad(z, labels, alpha=case["params"]["alpha"])
        assert error(loss, case["outputs"]["loss"]) < 1e-8
        assert error(grad, case["outputs"]["grad_logits"]) < 1e-8


@pytest.mark.parametrize("alpha", [1.0, 1.25, 3.0])
def test_definition(alpha, x64):
    rng = np.random.default_rng(0)
    z, q = rng.normal(size=(5, 6)), rng.dirichlet(np.ones(6), 5)
    q[0] = np.eye(6)[2]
    p = np.exp(interpreted(lambda z: links.entmax(z, alpha=alpha))(z))

    def entropy(p):
        if alpha == 1:
            return -(p * np.log(np.where(p > 0, p, 1))).sum(-1)
        return (1 - (p**alpha).sum(-1)) / (alpha * (alpha - 1))

    want = (p * z).sum(-1) + entropy(p) - entropy(q) - (z * q).sum(-1)
    loss, grad = value_and_grad(z, q, alpha=alpha)
    np.testing.assert_allclose(loss, want, atol=1e-12)
    np.testing.assert_allclose(grad, p - q, atol=1e-12)
    run = interpreted(lambda q: fenchel_young_loss(z, q, alpha=alpha))
    push = interpreted(lambda q, v: jax.jvp(run, (q,), (v,))[1])
    slope = push(q, np.tile(np.eye(6)[1], (5, 1)))
    h, unit = 1e-6, np.eye(6)[1]
    up, down = (np.asarray(run(q + step * unit))[1:] for step in (h, -h))
    np.testing.assert_allclose(slope[1:], (up - down) / (2 * h), rtol=1e-5, atol=1e-8)


def test_special_cases(x64):
    z, y = np.random.default_rng(1).normal(size=(4, 5)) * 2, np.arange(4)
    ce = cross_entropy(z, y)
    np.testing.assert_allclose(value_and_grad(z, y, alpha=1.0)[0], ce)
    near, _ = value_and_grad(z, y, alpha=1 + 1e-9)
    np.testing.assert_allclose(near, ce, rtol=1e-7)
    perceptron = z.max(-1) - z[y, y]
    loss, _ = value_and_grad(z, np.eye(5)[y], alpha=np.inf)
    np.testing.assert_allclose(loss, perceptron)


@pytest.mark.parametrize("alpha", [1.1, 1.5, 2.0])
def test_exact_near_the_margin(alpha):
    end = 1 / (alpha - 1)
    margins = np.float32([-80, -5, 0, 0.5 * end, 0.9 * end, 0.99 * end, end, 80])
    z, y = np.stack([margins, 0 * margins], -1), np.zeros(8, int)
    got = compiled(z, y, alpha=alpha)
    with jax.enable_x64(True):
        want = compiled(z.astype(float), y, alpha=alpha)
    for a, b in zip(got, want, strict=True):
        a, b = np.asarray(a)[:-2], np.asarray(b)[:-2]
        np.testing.assert_allclose(a, b, rtol=1e-4 if alpha == 1.1 else 1e-5)
    np.testing.assert_allclose(got[0][-2:], 0, atol=1e-12)


@pytest.mark.parametrize("alpha", [1.0, 1.5, np.inf])
def test_edges(alpha):
    big, inf = np.float32(3e38), np.inf
    ends = [[big, -big], [-big, big], [big, big], [1e4, 0], [0, 0]]
    z = np.float32([*ends, [-inf, 1], [-inf, -inf], [3, -inf]])
    loss, grad = map(np.asarray, compiled(z, np.zeros(8, int), alpha=alpha))
    assert not np.isnan(loss).any()
    assert np.isfinite(grad).all()
    np.testing.assert_array_equal(loss[5:], [inf, 0, 0])  # hidden label, none, alone
    np.testing.assert_array_equal(grad[5:], [[0, 1], [0, 0], [0, 0]])


def test_where_and_errors():
    where, z = np.array([True, False, True]), np.float32([0.5, np.nan, 0])
    fewer, _ = value_and_grad(z[[0, 2]], 0, alpha=1.5)
    same, _ = value_and_grad(z, 0, where, alpha=1.5)
    np.testing.assert_allclose(same, fewer, rtol=1e-6)
    assert np.isnan(value_and_grad(np.zeros(3), 3, alpha=1.5)[0])
    for labels, alpha, message in [
        (3, 1.5, "outside"),
        (0, 0.5, "alpha is 0.5"),
        (np.ones(2), 1.5, "labels has shape"),
    ]:
        with pytest.raises(ValueError, match=message):
            fenchel_young_loss(np.zeros(3), labels, alpha=alpha)
