import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted
from scipy import stats
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from logitlab import estimators


def factors(rows=80, dim=6):
    rng = np.random.default_rng(0)
    z, a = rng.normal(size=(rows, 2)), rng.normal(size=(2, dim))
    return z @ a + 0.5 * rng.normal(size=(rows, dim)) + 3


def clouds(rows=120):
    rng = np.random.default_rng(1)
    means = np.array([[3, 0, 0], [0, 3, 0], [-3, -3, 0]])
    k = rng.integers(0, 3, rows)
    return means[k] + rng.normal(size=(rows, 3)) @ np.diag([1, 0.5, 2]), k


def test_ppca_agrees_with_scikit_learn(x64):
    x = factors()
    ppca = interpreted(estimators.ppca_fit, static_argnames="rank")(x, rank=2)
    theirs = PCA(2).fit(x)
    share = (len(x) - 1) / len(x)  # theirs is unbiased, not the likeliest
    np.testing.assert_allclose(ppca.variance, theirs.noise_variance_ * share, 1e-9)
    a, s2 = np.asarray(ppca.loadings), float(ppca.variance)
    covariance = a @ a.T + s2 * np.eye(6)
    law = stats.multivariate_normal(np.asarray(ppca.mean), covariance)
    log_density = estimators.ppca_log_likelihood(ppca, x)
    np.testing.assert_allclose(log_density, law.logpdf(x), atol=1e-9)
    m = a.T @ a + s2 * np.eye(2)
    codes = np.linalg.solve(m, a.T @ (x - x.mean(0)).T).T
    np.testing.assert_allclose(estimators.ppca_encode(ppca, x), codes, atol=1e-9)
    assert codes.std(0)[0] > codes.std(0)[1] > 0.8  # the largest first


def test_ppca_is_the_likeliest(x64):
    x = factors()
    ppca = estimators.ppca_fit(x, rank=2)

    def mean(ppca):
        return estimators.ppca_log_likelihood(ppca, x).mean()

    slope = jax.grad(lambda s2: mean(ppca._replace(variance=s2)))(ppca.variance)
    np.testing.assert_allclose(slope, 0, atol=1e-9)
    for scale in (0.99, 1.01):
        assert mean(ppca._replace(loadings=ppca.loadings * scale)) < mean(ppca)


def test_ppca_at_the_edges():
    x = factors().astype("f4")
    keep = np.arange(80) < 60
    spoilt = np.where(keep[:, None], x, np.nan)
    got = estimators.ppca_fit(spoilt, rank=1, mask=keep)
    want = estimators.ppca_fit(x[:60], rank=1)
    np.testing.assert_allclose(got.variance, want.variance, rtol=1e-4)
    still = estimators.ppca_fit(np.ones((5, 3), "f4"), rank=1)
    assert np.isfinite(estimators.ppca_encode(still, np.ones((5, 3), "f4"))).all()
    assert estimators.ppca_fit(jnp.asarray(x, jnp.bfloat16), rank=1).mean.dtype == "f4"


@pytest.mark.parametrize("covariance", ["shared", "spherical", "identity"])
def test_em_ends_where_nothing_is_to_be_gained(x64, covariance):
    x, k = clouds()
    options = dict(components=3, covariance=covariance, tol=1e-12, ridge=0.0)
    gmm = estimators.gmm_fit(x, key=jax.random.key(0), **options)
    laws = [stats.multivariate_normal(m, np.asarray(gmm.covariance)) for m in gmm.means]
    density = np.stack([law.pdf(x) for law in laws], -1) * np.exp(gmm.log_weights)
    log_density = estimators.gmm_log_likelihood(gmm, x)
    np.testing.assert_allclose(log_density, np.log(density.sum(-1)), atol=1e-9)
    np.testing.assert_allclose(gmm.log_likelihood, log_density.mean())
    shares = jax.nn.softmax(estimators.gmm_logits(gmm, x), -1)
    np.testing.assert_allclose(
        shares, density / density.sum(-1, keepdims=True), atol=1e-9
    )
    if covariance != "identity":
        assert np.mean(_matched(np.asarray(shares).argmax(-1), k)) > 0.95
    if covariance == "shared":
        theirs = GaussianMixture(
            3,
            covariance_type="tied",
            reg_covar=0,
            tol=1e-13,
            max_iter=1000,
            weights_init=np.exp(gmm.log_weights),
            means_init=np.asarray(gmm.means),
            precisions_init=np.linalg.inv(gmm.covariance),
        ).fit(x)
        np.testing.assert_allclose(theirs.score(x), gmm.log_likelihood, rtol=1e-9)
        np.testing.assert_allclose(theirs.means_, gmm.means, atol=1e-4)
        others = GaussianMixture(3, covariance_type="tied", n_init=5, random_state=0)
        assert others.fit(x).score(x) < gmm.log_likelihood + 1e-4


def _matched(found, k):
    names = [np.bincount(k[found == c], minlength=3).argmax() for c in range(3)]
    return np.array(names)[found] == k


def test_masked_examples_change_nothing():
    x, _ = clouds(40)
    keep = np.arange(40) < 30
    spoilt = np.where(keep[:, None], x, np.nan).astype("f4")
    gmm = estimators.gmm_fit(
        spoilt, components=1, key=jax.random.key(0), mask=keep, restarts=1
    )
    np.testing.assert_allclose(gmm.means[0], x[:30].mean(0), rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(gmm.covariance, np.cov(x[:30].T, ddof=0), rtol=1e-3)


def test_mixtures_at_the_edges():
    still = np.ones((4, 2), "f4")
    gmm = estimators.gmm_fit(still, components=3, key=jax.random.key(0), restarts=2)
    assert np.isfinite(gmm.means).all()
    assert np.isfinite(estimators.gmm_logits(gmm, still)).all()
    two = np.float32([[0, 0], [0, 0], [0, 0], [5, 5]])  # fewer places than components
    gmm = estimators.gmm_fit(
        two, components=3, key=jax.random.key(0), covariance="spherical"
    )
    assert np.isfinite(estimators.gmm_log_likelihood(gmm, two)).all()


X = np.zeros((3, 2))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: estimators.ppca_fit(X, rank=2),
            "rank is 2, expected below the 2 feat",
        ),
        (
            lambda: estimators.ppca_fit(np.zeros((1, 5)), rank=3),
            "at most the 1 examples",
        ),
        (lambda: estimators.ppca_fit(X, rank=0), "rank is 0"),
        (lambda: estimators.ppca_fit(X[0], rank=1), r"x has shape \(2,\)"),
        (
            lambda: estimators.gmm_fit(X, components=4, key=jax.random.key(0)),
            "components is 4, expected at most the 3 examples",
        ),
        (
            lambda: estimators.gmm_fit(
                X, components=2, key=jax.random.key(0), covariance="full"
            ),
            "covariance is 'full', expected one of",
        ),
        (
            lambda: estimators.gmm_fit(
                X, components=2, key=jax.random.key(0), ridge=-1.0
            ),
            "ridge is -1.0, expected at least 0",
        ),
        (
            lambda: estimators.ppca_encode(
                estimators.PPCA(jnp.zeros(3), jnp.zeros((3, 1)), 1.0), X
            ),
            r"x has shape \(3, 2\), expected \[..., 3\]",
        ),
        (
            lambda: estimators.gmm_logits(
                estimators.GMM(jnp.zeros(1), jnp.zeros((1, 3)), jnp.eye(3), 0.0, 0), X
            ),
            r"x has shape \(3, 2\), expected \[..., 3\]",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises(ValueError, match=message):
        call()
