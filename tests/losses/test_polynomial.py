import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.derivatives import value_and_grad
from harness.goldens import cases, check, error
from harness.interpreter import interpreted

from logitlab.losses import poly1_loss, poly_n_loss


@pytest.mark.parametrize("case", cases("standard_losses", "poly1"))
def test_golden(case, x64):
    y, eps = np.array(case["inputs"]["labels"]), case["params"]["eps"]
    check(lambda z: poly1_loss(z, y, eps=eps), case)


def test_poly_n(x64):
    z, y = 3 * np.random.default_rng(0).normal(size=(6, 4)), np.arange(6) % 4
    p = (np.exp(z) / np.exp(z).sum(-1, keepdims=True))[np.arange(6), y]
    got = poly_n_loss(z, y, eps=(1.0, -0.5, 0.25))
    q = 1 - p
    assert error(got, -np.log(p) + q - 0.5 * q**2 + 0.25 * q**3) < 1e-12
    one = poly_n_loss(z, y, eps=(2.0,))
    assert error(one, poly1_loss(z, y, eps=2.0)) < 1e-14
    # With -1/j the series loses its first terms.
    rest = poly_n_loss(z, y, eps=(-1.0, -1 / 2))
    assert error(rest, -np.log(p) - q - q**2 / 2) < 1e-12
    with pytest.raises(ValueError, match=r"eps has shape \(\), expected \[N\]"):
        poly_n_loss(z, y, eps=1.0)


def remainder(nll, terms):
    """What is left of ``nll`` without the first terms of its series in ``1 - p``."""
    wrong = -np.expm1(-nll)
    near = sum(wrong**j / j for j in range(terms + 1, terms + 60))
    far = nll - sum(wrong**j / j for j in range(1, terms + 1))
    return np.where(nll < 0.3, near, far)


@pytest.mark.parametrize("eps", [-1.0, -0.9999, -0.5, 0.0, 2.0])
def test_poly1_is_exact_down_to_minus_one(eps):
    margins = np.float32([-80, -30, -5, -1, 0, 1, 5, 12, 17, 30, 40, 80])
    z, y = np.stack([margins, 0 * margins], -1), np.zeros(12, int)
    nll = np.logaddexp(0, -margins.astype(float))
    wrong = -np.expm1(-nll)
    for traced in (False, True):
        given = np.float32(eps) if traced else eps
        want = (1 + np.float64(given)) * wrong + remainder(nll, 1)
        slope = ((1 + np.float64(given)) * np.exp(-nll) + wrong) * wrong
        if traced:
            values, grad = value_and_grad(poly1_loss, z, y, eps=given)
        else:
            fixed = functools.partial(poly1_loss, eps=eps)
            values, grad = value_and_grad(fixed, z, y)
        np.testing.assert_allclose(values, want, rtol=1e-5, atol=1e-37)
        np.testing.assert_allclose(grad[:, 1], slope, rtol=1e-5, atol=1e-37)


@pytest.mark.parametrize("terms", [2, 3, 10])
def test_poly_n_without_its_leading_terms(terms):
    margins = np.float32([-30, -3, -1, 0, 1, 3, 5, 8, 12])
    z, y = np.stack([margins, 0 * margins], -1), np.zeros(9, int)
    nll = np.logaddexp(0, -margins.astype(float))
    eps = -1 / np.arange(1, terms + 1)
    loss = functools.partial(poly_n_loss, eps=tuple(eps))
    values, grad = value_and_grad(loss, z, y)
    wrong = -np.expm1(-nll)
    np.testing.assert_allclose(values, remainder(nll, terms), rtol=1e-5, atol=1e-37)
    np.testing.assert_allclose(grad[:, 1], wrong ** (terms + 1), rtol=1e-5, atol=1e-37)


def test_soft_labels():
    """The mean over the classes, and each class's part of the gradient."""
    rng = np.random.default_rng(0)
    z = np.concatenate([rng.normal(size=(6, 5)) * 3, rng.uniform(-3, 0, (6, 5))])
    z = z.astype("f4")
    z[6:, 0] = [-40, -12, 5, 12, 17, 40]
    q = rng.dirichlet(np.ones(5), 12).astype("f4")
    q[6:] = np.eye(5)[0]
    q[8] = [0.5, 0.5, 0, 0, 0]

    @interpreted
    def run(z, q):
        def losses(z):
            return (
                poly1_loss(z, q, eps=-0.5),
                poly1_loss(z, q, eps=-1.0),
                poly_n_loss(z, q, eps=(1.0, -0.25)),
            )

        values, pull = jax.vjp(losses, z)
        one, zero = jnp.ones(12), jnp.zeros(12)
        return values, [
            pull(tuple(one if i == j else zero for j in range(3)))[0] for i in range(3)
        ]

    top = z.max(-1, keepdims=True).astype(float)
    rest = np.where(z == top, 0, np.exp(z - top)).sum(-1, keepdims=True)
    nll = top - z + np.log1p(rest)
    p, wrong = np.exp(-nll), -np.expm1(-nll)
    of_label = p[:, None] * np.ones((5, 1))  # [label, class]: the slopes of its nll
    of_label[:, range(5), range(5)] = -wrong
    parts = (nll - 0.5 * wrong, remainder(nll, 1), nll + wrong - 0.25 * wrong**2)
    slopes = (1 - 0.5 * p, wrong, 1 + (1 - 0.5 * wrong) * p)
    for got, grad, part, slope in zip(*run(z, q), parts, slopes, strict=True):
        np.testing.assert_allclose(got, (q * part).sum(-1), rtol=1e-5, atol=1e-37)
        want = np.einsum("nl,nlc->nc", q * slope, of_label)
        scale = np.abs(want).max(-1, keepdims=True)
        assert (np.abs(grad - want) <= 1e-5 * scale + 1e-37).all()


def test_edges():
    z, hot = np.float32([2, 1, 0]), np.float32([0, 1, 0])
    np.testing.assert_allclose(poly1_loss(z, 1), 2.162877, rtol=1e-6)
    loss = interpreted(poly1_loss)
    np.testing.assert_allclose(loss(z, hot), 2.162877, rtol=1e-6)
    assert loss(z, hot, where=np.array([True, False, True])) == np.inf
    with pytest.raises(ValueError, match="eps is -1.01, expected at least -1"):
        poly1_loss(z, 0, eps=-1.01)
