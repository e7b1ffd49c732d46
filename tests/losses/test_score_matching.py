"""Score matching and denoisers against each other, closed forms and Jacobians."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions, interpreted

from logitlab import losses

density = functions(losses.density)
WEIGHTS = np.random.default_rng(0).normal(size=(3, 3))


def model(x):
    """A map that mixes features and is no gradient."""
    return jnp.tanh(x @ WEIGHTS.astype(x.dtype)) - x


def rows(many=3, seed=0):
    return np.random.default_rng(seed).normal(size=(many, 5, 3))


def all_signs():
    signs = np.array(list(itertools.product((-1.0, 1.0), repeat=3)))
    return [np.broadcast_to(v, (5, 3)) for v in signs]


def test_denoising(x64):
    score, x, noise = rows()
    sigma = np.linspace(0.1, 2, 5)
    want = ((score + noise / sigma[:, None]) ** 2).sum(-1) / 2
    dsm = density.denoising_score_matching_loss
    got = dsm(score, x, noise, sigma=sigma, weighting="none")
    np.testing.assert_allclose(got, want, rtol=1e-12)
    got = dsm(score, x, noise, sigma=sigma)
    np.testing.assert_allclose(got, sigma**2 * want, rtol=1e-12)
    got = density.ardae_loss(score, x, noise, sigma=sigma)
    np.testing.assert_allclose(got, 2 * sigma**2 * want, rtol=1e-12)
    noisy = jnp.asarray(x + sigma[:, None] * noise)
    for loss in (
        losses.denoising_score_matching_loss,
        losses.ardae_loss,
        losses.denoising_reconstruction_loss,
    ):
        run = interpreted(lambda given, f=loss: f(given, x, noise, sigma=sigma))
        of_function = interpreted(lambda f=loss: f(model, x, noise, sigma=sigma))
        np.testing.assert_allclose(of_function(), run(model(noisy)), rtol=1e-12)


def test_siblings(x64):
    """One regression on clean data, seen as a score, as SiD's loss and as Noise2Score.

    The score of a denoiser f of x at noise h and signal alpha is (alpha f - x) / h.
    """
    f, x0, noise = rows()
    alpha, h = 0.8, 0.36
    score = (alpha * f - (alpha * x0 + h**0.5 * noise)) / h
    dsm = density.denoising_score_matching_loss
    want = 2 * dsm(score, x0, noise, sigma=h**0.5, weighting="none")
    got = density.x0_regression_loss(f, x0, weight=alpha**2 / h**2)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    sigma = np.linspace(0.1, 2, 5)
    score = (f - (x0 + sigma[:, None] * noise)) / sigma[:, None] ** 2
    weight = (sigma**2 + 0.25) / (0.25 * sigma**2)
    got = losses.denoising_score_loss(x0, f, sigma).sum(-1)
    want = 2 * weight * sigma**2 * dsm(score, x0, noise, sigma=sigma)
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_trace_and_slices(x64):
    x = rows()[0]
    s = np.asarray(model(jnp.asarray(x)))
    jacobians = np.asarray(jax.vmap(jax.jacrev(model))(jnp.asarray(x)))
    want = (s**2).sum(-1) / 2 + np.trace(jacobians, axis1=1, axis2=2)
    implicit = interpreted(lambda x: losses.implicit_score_matching_loss(model, x))
    np.testing.assert_allclose(implicit(x), want, rtol=1e-12)
    alone = interpreted(jax.vmap(jax.vmap(implicit)))
    np.testing.assert_allclose(alone(x[None])[0], want, rtol=1e-12)
    for reduced in (True, False):  # signs of three features, all there are
        sliced = interpreted(
            lambda v, r=reduced: losses.sliced_score_matching_loss(
                model, x, v, variance_reduced=r
            )
        )
        got = np.mean([sliced(v) for v in all_signs()], 0)
        np.testing.assert_allclose(got, want, rtol=1e-12)


def test_contraction(x64):
    x, sigma = rows()[0], np.linspace(0.1, 2, 5)
    r = np.asarray(model(jnp.asarray(x)))
    jacobians = np.asarray(jax.vmap(jax.jacrev(model))(jnp.asarray(x)))
    want = ((r - x) ** 2).sum(-1) + sigma**2 * (jacobians**2).sum((1, 2))
    loss = interpreted(
        lambda *v: losses.contractive_reconstruction_loss(model, x, *v, sigma=sigma)
    )
    np.testing.assert_allclose(loss(), want, rtol=1e-12)
    got = np.mean([loss(v) for v in all_signs()], 0)
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_what_is_least(x64):
    """Of scores -a x of normal data the true one, a = 1, and of what is noisy its own.

    Quadrature over a normal variable and normal noise is exact for squares.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(4)
    weights = weights / weights.sum()
    x, noise = (a.reshape(-1, 1) for a in np.meshgrid(nodes, nodes))
    weight, sigma = np.outer(weights, weights).ravel(), 0.5

    def slopes(a):
        def score(y):
            return -a * y

        def reconstruction(y):
            return y - sigma**2 * a * y

        return {
            "implicit": losses.implicit_score_matching_loss(score, x),
            "sliced": losses.sliced_score_matching_loss(score, x, jnp.ones_like(x)),
            "denoising": losses.denoising_score_matching_loss(
                score, x, noise, sigma=sigma
            ),
            "ardae": losses.ardae_loss(score, x, noise, sigma=sigma),
            "autoencoder": losses.denoising_reconstruction_loss(
                reconstruction, x, noise, sigma=sigma
            ),
            "contractive": losses.contractive_reconstruction_loss(
                reconstruction, x, sigma=sigma
            ),
        }

    at = dict.fromkeys(("implicit", "sliced"), 1.0)
    at["contractive"] = 1 / (1 + sigma**2)  # 1 to first order
    for name, best in (dict.fromkeys(slopes(1.0), 1 / (1 + sigma**2)) | at).items():
        slope = interpreted(
            jax.grad(lambda a, name=name: (slopes(a)[name] * weight).sum())
        )
        assert abs(slope(best)) < 1e-12, name
        assert slope(best + 0.1) > 1e-3, name


MODELS = {
    "implicit": lambda f, x, noise, **more: losses.implicit_score_matching_loss(
        f, x, **more
    ),
    "sliced": losses.sliced_score_matching_loss,
    "contractive": lambda f, x, noise, **more: losses.contractive_reconstruction_loss(
        f, x, sigma=0.5, **more
    ),
    "denoising": lambda f, x, noise, **more: losses.denoising_score_matching_loss(
        f, x, noise, sigma=0.5, **more
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_masked_rows_never_reach_the_model(name):
    """NaN behind the mask costs 0, and parameters get no slope of it."""
    x, noise, keep = *rows(2).astype("f4"), np.arange(5) != 1
    spoilt = np.where(keep[:, None], x, np.nan)

    @interpreted
    def run(x, mask):
        def total(w):
            values = MODELS[name](lambda x: jnp.tanh(x @ w), x, noise, mask=mask)
            return values.sum(), values

        grad, values = jax.grad(total, has_aux=True)(jnp.float32(WEIGHTS))
        return values, grad

    values, grad = run(spoilt, keep)
    assert values[1] == 0
    want, _ = run(x, np.ones(5, bool))
    np.testing.assert_allclose(values[keep], want[keep], rtol=1e-6)
    assert np.isfinite(grad).all()


def test_noprop_block(x64):
    u_hat, u = rows(2)
    got = density.noprop_block_loss(u_hat, u, snr_diff=0.3, steps=10, eta=0.2)
    want = 10 * 0.2 / 2 * 0.3 * ((u_hat - u) ** 2).sum(-1)
    np.testing.assert_allclose(got, want, rtol=1e-12)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda x: losses.denoising_score_matching_loss(x, x, x, sigma=0.0),
            ValueError,
            "sigma is 0.0, expected positive",
        ),
        (
            lambda x: losses.ardae_loss(x, x, x, sigma=0),
            ValueError,
            "sigma is 0, expected positive",
        ),
        (
            lambda x: losses.denoising_reconstruction_loss(x, x, x[:1], sigma=1.0),
            ValueError,
            r"noise has shape \(1, 3\), expected that of x, \(5, 3\)",
        ),
        (
            lambda x: losses.denoising_score_matching_loss(x, x, x, sigma=np.ones(3)),
            ValueError,
            r"sigma has shape \(3,\), expected \(\) or \(5,\)",
        ),
        (
            lambda x: losses.denoising_score_matching_loss(
                x, x, x, sigma=1.0, weighting="sigma"
            ),
            ValueError,
            "weighting is 'sigma', expected 'sigma2' or 'none'",
        ),
        (
            lambda x: losses.implicit_score_matching_loss(x, x),
            TypeError,
            "score_fn is ArrayImpl, expected a function",
        ),
        (
            lambda x: losses.implicit_score_matching_loss(lambda x: x[:, :1], x),
            ValueError,
            r"the result of score_fn has shape \(5, 1\), expected that of x",
        ),
        (
            lambda x: losses.contractive_reconstruction_loss(model, x[0, 0], sigma=1.0),
            ValueError,
            r"x has shape \(\), expected \(..., D\)",
        ),
        (
            lambda x: losses.x0_regression_loss(x, x, weight=-1.0),
            ValueError,
            "weight is -1.0, expected at least 0",
        ),
    ],
)
def test_mistakes(call, error, message):
    with pytest.raises(error, match=message):
        call(jnp.ones((5, 3)))
