"""Latent-variable models of unlabeled data: factors and mixtures of Gaussians."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy.linalg import solve_triangular
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.estimators._examples import feature_rows
from logitlab.numerics.arguments import check_count, hyper

__all__ = [
    "GMM",
    "PPCA",
    "gmm_fit",
    "gmm_log_likelihood",
    "gmm_logits",
    "ppca_encode",
    "ppca_fit",
    "ppca_log_likelihood",
]

_COVARIANCES = ("shared", "spherical", "identity")


class PPCA(NamedTuple):
    """A factor model whose noise is alike in all features.

    Attributes:
      mean: [D].
      loadings: A, whose columns are orthogonal, [D, R].
      variance: of the noise.
    """

    mean: jax.Array
    loadings: jax.Array
    variance: jax.Array


class GMM(NamedTuple):
    """A mixture of Gaussians that share a covariance.

    Attributes:
      log_weights: of the components, [K].
      means: [K, D].
      covariance: of every component, [D, D].
      log_likelihood: mean of the examples, in nats.
      steps: of EM, in the restart that was best.
    """

    log_weights: jax.Array
    means: jax.Array
    covariance: jax.Array
    log_likelihood: jax.Array
    steps: jax.Array


def ppca_fit(x: ArrayLike, *, rank: int, mask: ArrayLike | None = None) -> PPCA:
    r"""Maximum likelihood of a factor model, in closed form: probabilistic PCA.

    Use it on many examples without labels, and ``ppca_encode`` on the few that have
    some: a classifier of R features needs fewer labels than one of D.

    .. math:: x = \mu + A z + s \varepsilon, \quad
        A = V_R (\Lambda_R - s^2 I)^{1/2}, \quad
        s^2 = \frac{1}{D - R} \sum_{i > R} \lambda_i

    with the eigenvalues :math:`\lambda` and vectors V of the covariance, the largest
    first.

    Shapes: x [N, D], mask [N] -> ([D], [D, R], [])

    Args:
      x: examples.
      rank: R, from 1 to D - 1; not traced, as it is a shape.
      mask: bool, the examples that take part.

    Returns:
      ``PPCA``, float32 (float64 for float64 examples). A is one of many: any rotation
      of z is as good.

    Raises:
      TypeError: ``x`` is not floating point, ``mask`` not bool, or ``rank`` no integer.
      ValueError: wrong shapes, no examples, or ``rank`` below 1, not below D, or above
        the number of examples.

    Source: Tipping and Bishop 1999; On the Provable Advantage of Unsupervised
      Pretraining, Ge et al. 2023, arXiv:2303.01566.

    >>> import jax
    >>> from logitlab.estimators import ppca_encode, ppca_fit
    >>> x = jax.random.normal(jax.random.key(0), (100, 5))
    >>> ppca_encode(ppca_fit(x, rank=2), x).shape
    (100, 2)
    """
    x, keep = _examples(x, mask)
    check_count("rank", rank)
    if rank >= x.shape[1] or rank > x.shape[0]:
        raise ValueError(
            f"rank is {rank}, expected below the {x.shape[1]} features and at most the "
            f"{x.shape[0]} examples"
        )
    many = jnp.maximum(keep.sum(), 1).astype(x.dtype)
    mean = x.sum(0) / many
    gaps = jnp.where(keep[:, None], x - mean[None], 0)
    values, vectors = jnp.linalg.eigh(gaps.T @ gaps / many)
    values = jnp.maximum(values, 0)
    least = jnp.finfo(x.dtype).eps * values[-1] + jnp.finfo(x.dtype).tiny
    noise = jnp.maximum(values[:-rank].mean(), least)
    top = jnp.sqrt(jnp.maximum(values[-rank:] - noise, 0))
    return PPCA(mean, (vectors[:, -rank:] * top[None])[:, ::-1], noise)


def ppca_encode(ppca: PPCA, x: ArrayLike) -> jax.Array:
    r"""Posterior mean of the factors, the features for what comes after.

    .. math:: E[z | x] = (A^T A + s^2 I)^{-1} A^T (x - \mu)

    Shapes: x [..., D] -> [..., R]

    Args:
      ppca: of ``ppca_fit``.
      x: examples.

    Raises:
      TypeError: ``x`` is not floating point.
      ValueError: ``x`` has another number of features.

    Source: Tipping and Bishop 1999.
    """
    gaps = _features(x, ppca.mean)
    spread = _spread(ppca)
    return gaps @ ppca.loadings / spread.reshape((1,) * (gaps.ndim - 1) + (-1,))


def ppca_log_likelihood(ppca: PPCA, x: ArrayLike) -> jax.Array:
    r"""Log-density of examples under a factor model.

    .. math:: \log N(x; \mu, A A^T + s^2 I)

    Use it on held-out examples to choose the rank.

    Shapes: x [..., D] -> [...]

    Args:
      ppca: of ``ppca_fit``.
      x: examples.

    Returns:
      Nats, one for each example.

    Raises:
      TypeError: ``x`` is not floating point.
      ValueError: ``x`` has another number of features.

    Source: Tipping and Bishop 1999.
    """
    dim, rank = ppca.loadings.shape
    gaps, z = _features(x, ppca.mean), ppca_encode(ppca, x)
    missed = jnp.square(gaps - z @ ppca.loadings.T).sum(-1) / ppca.variance
    log_det = jnp.log(_spread(ppca)).sum() + (dim - rank) * jnp.log(ppca.variance)
    return -(missed + jnp.square(z).sum(-1) + log_det + dim * math.log(2 * math.pi)) / 2


def gmm_fit(
    x: ArrayLike,
    *,
    components: int,
    key: jax.Array,
    covariance: str = "shared",
    restarts: int = 5,
    ridge: ArrayLike = 1e-6,
    max_steps: int = 500,
    tol: ArrayLike = 1e-6,
    mask: ArrayLike | None = None,
) -> GMM:
    r"""Maximum likelihood of a mixture of Gaussians, by EM from several starts.

    Use it on many examples without labels; the logits of its components
    (``gmm_logits``) go into any loss, or a table of labels for each component.

    .. math:: p(x) = \sum_k \pi_k N(x; \mu_k, \Sigma)

    Starts are those of k-means++, and the best of the ends is returned. A component
    that loses its examples starts again at the one that is explained worst.

    Shapes: x [N, D], mask [N] -> ([K], [K, D], [D, D], [], [])

    Args:
      x: examples.
      components: K, not traced, as it is a shape.
      key: of ``jax.random.key``.
      covariance: of every component: "shared" is any, "spherical" a multiple of the
        identity, "identity" the identity itself.
      restarts: how many starts, in one program; not traced.
      ridge: added to the diagonal of the covariance, as a share of the features' mean
        variance; at least 0. Not for "identity".
      max_steps: of EM, the most there are.
      tol: stop when the mean log-likelihood gains no more.
      mask: bool, the examples that take part.

    Returns:
      ``GMM``, float32 (float64 for float64 examples).

    Raises:
      TypeError: ``x`` is not floating point, ``mask`` not bool, or a count no integer.
      ValueError: wrong shapes, fewer examples than components, ``covariance`` another
        word, or ``ridge`` negative.

    Source: Dempster, Laird and Rubin 1977; On the Provable Advantage of Unsupervised
      Pretraining, Ge et al. 2023, arXiv:2303.01566.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import gmm_fit, gmm_logits
    >>> x = jnp.float32([[0, 0], [0, 1], [8, 8], [8, 9]])
    >>> gmm = gmm_fit(x, components=2, key=jax.random.key(0), covariance="spherical")
    >>> k = gmm_logits(gmm, x).argmax(-1)
    >>> bool((k[0] == k[1]) & (k[2] == k[3]) & (k[0] != k[2]))
    True
    """
    if covariance not in _COVARIANCES:
        raise ValueError(
            f"covariance is {covariance!r}, expected one of {_COVARIANCES}"
        )
    x, keep = _examples(x, mask)
    check_count("components", components)
    check_count("restarts", restarts)
    if components > x.shape[0]:
        raise ValueError(
            f"components is {components}, expected at most the {x.shape[0]} examples"
        )
    ridge = hyper("ridge", ridge, x.dtype, lambda v: v >= 0, "at least 0")
    tol = hyper("tol", tol, x.dtype)
    return _fit(x, keep, key, ridge, tol, max_steps, components, covariance, restarts)


def gmm_logits(gmm: GMM, x: ArrayLike) -> jax.Array:
    r"""Logits of the components: their softmax says where an example comes from.

    .. math:: \log \pi_k - \frac{1}{2} (x - \mu_k)^T \Sigma^{-1} (x - \mu_k)

    Shapes: x [..., D] -> [..., K]

    Args:
      gmm: of ``gmm_fit``.
      x: examples.

    Returns:
      Log of the joint density less what all components share, in nats.

    Raises:
      TypeError: ``x`` is not floating point.
      ValueError: ``x`` has another number of features.

    Source: Ge et al. 2023, arXiv:2303.01566.
    """
    _features(x, gmm.means[0])
    return _joint(gmm, numerics.promote_to_float32(x, "x").astype(gmm.means.dtype))


def gmm_log_likelihood(gmm: GMM, x: ArrayLike) -> jax.Array:
    r"""Log-density of examples under a mixture of Gaussians.

    .. math:: \log \sum_k \pi_k N(x; \mu_k, \Sigma)

    Use it on held-out examples to choose the number of components.

    Shapes: x [..., D] -> [...]

    Args:
      gmm: of ``gmm_fit``.
      x: examples.

    Returns:
      Nats, one for each example.

    Raises:
      TypeError: ``x`` is not floating point.
      ValueError: ``x`` has another number of features.

    Source: Dempster, Laird and Rubin 1977.
    """
    return numerics.logsumexp(gmm_logits(gmm, x)) + _log_normalizer(gmm.covariance)


@functools.partial(jax.jit, static_argnums=(6, 7, 8))
def _fit(x, keep, key, ridge, tol, max_steps, components, covariance, restarts):
    shift = x.sum(0, keepdims=True) / jnp.maximum(keep.sum(), 1).astype(x.dtype)
    x = jnp.where(keep[:, None], x - shift, 0)
    model = _Model(x, keep, ridge, covariance)

    def unfinished(carry):
        gmm, gain = carry
        return (gain > tol) & (gmm.steps < max_steps)

    def step(carry):
        gmm, _ = carry
        joint = _joint(gmm, x)
        new = model.maximize(jax.nn.softmax(joint), numerics.logsumexp(joint))
        new = new._replace(log_likelihood=model.mean(new), steps=gmm.steps + 1)
        return new, jnp.abs(new.log_likelihood - gmm.log_likelihood)

    def one(key):
        centers = model.seeds(key, components)
        nearest = -_distances(x, centers)
        start = model.maximize(
            jax.nn.one_hot(nearest.argmax(-1), components, dtype=x.dtype),
            nearest.max(-1),
        )
        start = start._replace(log_likelihood=model.mean(start))
        return jax.lax.while_loop(
            unfinished, step, (start, jnp.asarray(jnp.inf, x.dtype))
        )[0]

    ends = jax.vmap(one)(jax.random.split(key, restarts))
    best = jax.tree.map(lambda a: a[jnp.argmax(ends.log_likelihood)], ends)
    return best._replace(means=best.means + shift)


class _Model(NamedTuple):
    """What a step of EM needs to know of the data."""

    x: jax.Array
    keep: jax.Array
    ridge: jax.Array
    covariance: str

    def mean(self, gmm):
        values = gmm_log_likelihood(gmm, self.x)
        return numerics.masked_mean(values, self.keep)

    def seeds(self, key, components):
        """Examples far from each other, as k-means++ draws them."""
        first, rest = jax.random.split(key)
        shown = jnp.where(self.keep, 0, -jnp.inf).astype(self.x.dtype)
        centers = jnp.zeros((components, self.x.shape[1]), self.x.dtype)
        centers = centers.at[0].set(self.x[jax.random.categorical(first, shown)])
        near = _distances(self.x, centers[:1])[:, 0]

        def draw(k, carry):
            centers, near = carry
            log_chance = jnp.log(jnp.where(self.keep, near, 0))
            log_chance = jnp.where(near.sum() > 0, log_chance, shown)
            row = jax.random.categorical(jax.random.fold_in(rest, k), log_chance)
            new = self.x[row]
            distance = jnp.square(self.x - new[None]).sum(-1)
            return centers.at[k].set(new), jnp.minimum(near, distance)

        return jax.lax.fori_loop(1, components, draw, (centers, near))[0]

    def maximize(self, shares, explained):
        """The mixture that is likeliest for the shares of components in examples."""
        x, dim = self.x, self.x.shape[1]
        shares = jnp.where(self.keep[:, None], shares, 0)
        total = self.keep.sum().astype(x.dtype)
        size = shares.sum(0)
        empty = size < 1e-3
        worst = jnp.where(self.keep, explained, jnp.inf)
        _, rows = jax.lax.top_k(-worst, len(size))  # one for each component
        divisor = jnp.where(empty, 1, size)[:, None]
        means = jnp.where(empty[:, None], x[rows], shares.T @ x / divisor)
        scatter = x.T @ x / total  # the examples have mean 0
        if self.covariance == "identity":
            spread = jnp.eye(dim, dtype=x.dtype)
        else:
            between = jnp.where(empty, 0, size)[:, None] * means
            spread = scatter - means.T @ between / total
            variance = jnp.trace(scatter) / dim
            floor = self.ridge * jnp.where(variance > 0, variance, 1)
            if self.covariance == "spherical":
                spread = jnp.trace(spread) / dim * jnp.eye(dim, dtype=x.dtype)
            spread = spread + floor * jnp.eye(dim, dtype=x.dtype)
        size = jnp.where(empty, 1, size)
        zero = jnp.zeros((), x.dtype)
        log_weights = jnp.log(size / size.sum())
        return GMM(log_weights, means, spread, zero, jnp.zeros((), jnp.int32))


def _joint(gmm, x):
    factor = jnp.linalg.cholesky(gmm.covariance)

    def whiten(a):
        flat = solve_triangular(factor, a.reshape(-1, a.shape[-1]).T, lower=True)
        return flat.T.reshape(a.shape)

    weights = gmm.log_weights.reshape((1,) * (x.ndim - 1) + (-1,))
    return weights - _distances(whiten(x), whiten(gmm.means)) / 2


def _distances(x, centers):
    """Squared distances, by differences, [..., K]."""

    def one(center):
        return jnp.square(x - center.reshape((1,) * (x.ndim - 1) + (-1,))).sum(-1)

    return jax.vmap(one, out_axes=-1)(centers)


def _log_normalizer(covariance):
    factor = jnp.linalg.cholesky(covariance)
    dim = covariance.shape[0]
    return -jnp.log(jnp.diagonal(factor)).sum() - dim * math.log(2 * math.pi) / 2


def _spread(ppca):
    """Variances along the loadings, at least that of the noise, [R]."""
    return jnp.square(ppca.loadings).sum(0) + ppca.variance


def _examples(x, mask):
    x = feature_rows(x)
    keep = numerics.check_mask(mask, x.shape[:1])
    return jnp.where(keep[:, None], x, 0), keep


def _features(x, mean):
    """Examples less a mean, in its dtype."""
    x = numerics.promote_to_float32(x, "x").astype(mean.dtype)
    if x.shape[-1:] != mean.shape:
        raise ValueError(f"x has shape {x.shape}, expected [..., {mean.shape[0]}]")
    return x - mean.reshape((1,) * (x.ndim - 1) + (-1,))
