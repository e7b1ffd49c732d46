"""Whether an input was attacked: scores by a model of the density of clean ones."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, hyper

__all__ = ["expected_perturbation_score", "kernel_mmd_score"]

ScoreFn = Callable[[jax.Array, jax.Array], jax.Array]


def expected_perturbation_score(
    score_fn: ScoreFn,
    inputs: ArrayLike,
    key: jax.Array,
    *,
    num_steps: int = 20,
    t_max: ArrayLike = 0.02,
    beta_min: ArrayLike = 0.1,
    beta_max: ArrayLike = 20.0,
) -> jax.Array:
    r"""Mean score of an input under growing noise (EPS), an array like the input.

    Use it to tell attacked inputs from clean ones: of an attacked one it points
    elsewhere. ``kernel_mmd_score`` makes a number of it.

    .. math:: \frac1T \sum_{k=1}^{T} s(m_k x + \sigma_k \epsilon_k, t_k), \quad
        t_k = \frac{k}{T} t_{\max}, \quad \sigma_k^2 = 1 - m_k^2, \quad
        m_k = e^{-\frac14 t_k^2 (\beta_1 - \beta_0) - \frac12 t_k \beta_0}

    with fresh noise for each k: the variance-preserving diffusion.

    Args:
      score_fn: (inputs, t) -> gradient of the log-density of noisy inputs at time t,
        of their shape; t is one number for all of them.
      inputs: [...], scaled to [-1, 1] as the score model's were.
      key: a ``jax.random.key``.
      num_steps: T, a Python number. 20 in the paper for small images, and 50 with a
        ``t_max`` of 0.05 for large ones.
      t_max: the last time, in (0, 1].
      beta_min: rate of the noise at the start, at least 0.
      beta_max: rate of the noise at time 1.

    Returns:
      Of the inputs' shape, float32 (float64 for float64 inputs).

    Raises:
      TypeError: ``inputs`` is not floating point.
      ValueError: ``num_steps`` is below 1, a hyper-parameter is outside its range, or
        ``score_fn`` returns another shape.

    Source: EPS-AD, Zhang et al. 2023, arXiv:2305.16035.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import expected_perturbation_score
    >>> standard_normal = lambda x, t: -x
    >>> key = jax.random.key(0)
    >>> expected_perturbation_score(standard_normal, jnp.full(3, 5.0), key).round(1)
    Array([-5., -5., -5.], dtype=float32)
    """
    x = numerics.promote_to_float32(inputs, "inputs")
    check_count("num_steps", num_steps)
    last = hyper("t_max", t_max, x.dtype, lambda t: (t > 0) & (t <= 1), "in (0, 1]")
    low = hyper("beta_min", beta_min, x.dtype, lambda b: b >= 0, "at least 0")
    high = hyper("beta_max", beta_max, x.dtype, lambda b: b >= 0, "at least 0")

    def step(total, k):
        t = last * (k + 1) / num_steps
        log_mean = -(t * t * (high - low) / 4 + t * low / 2)
        noise = jax.random.normal(jax.random.fold_in(key, k), x.shape, x.dtype)
        noisy = jnp.exp(log_mean) * x + jnp.sqrt(-jnp.expm1(2 * log_mean)) * noise
        score = score_fn(noisy, t)
        if jnp.shape(score) != x.shape:
            raise ValueError(
                f"score_fn returns shape {jnp.shape(score)}, expected that of inputs, "
                f"{x.shape}"
            )
        return total + score.astype(x.dtype), None

    total, _ = jax.lax.scan(step, jnp.zeros_like(x), jnp.arange(num_steps))
    return total / num_steps


def kernel_mmd_score(
    reference: ArrayLike,
    test: ArrayLike,
    *,
    sigma: ArrayLike | None = None,
    sigma0: ArrayLike | None = None,
    floor: ArrayLike = 0.0,
    features: Callable[[jax.Array], jax.Array] | None = None,
) -> jax.Array:
    r"""Squared kernel distance (MMD) of each test point from a set of clean ones.

    Use it on vectors such as ``expected_perturbation_score``: higher is stranger, so
    negate it for ``auroc(inside, outside)``.

    .. math:: \frac1{n^2} \sum_{ij} k(r_i, r_j) - \frac2n \sum_i k(r_i, v) + 1, \quad
        k(v, v') = [(1 - \epsilon_0) e^{-\|\phi(v) - \phi(v')\|^2 / \sigma_0} +
        \epsilon_0] \, e^{-\|v - v'\|^2 / \sigma}

    with the ``features`` :math:`\phi` of a deep kernel, and without them the last
    factor alone. The biased estimate: the first and last terms are the same for all
    test points.

    Shapes: reference [N, D], test [M, D] -> [M]

    Args:
      reference: vectors of clean inputs; they should not have trained the score model.
      test: vectors to be judged.
      sigma: bandwidth, in squared units, positive; without one the median of the
        squared distances between different reference points.
      sigma0: that of the features, positive; needed with them.
      floor: epsilon_0, in [0, 1], the similarity that different features leave.
      features: vectors [N, D] -> [N, F], as trained for the kernel.

    Returns:
      Between 0 and 2, in no unit, float32 (float64 for float64 vectors).

    Raises:
      TypeError: the vectors are not floating point.
      ValueError: the shapes do not fit, there are no reference points, a
        hyper-parameter is outside its range, or ``sigma0`` and ``features`` do not come
        together.

    Numerics: distances are of differences, not of inner products; memory grows with
      the number of reference points, not with that of pairs times D.

    Source: EPS-AD, Zhang et al. 2023, arXiv:2305.16035.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import kernel_mmd_score
    >>> clean = jnp.float32([[0, 0], [1, 0], [0, 1]])
    >>> kernel_mmd_score(clean, jnp.float32([[0, 0], [5, 5]])).round(2)
    Array([0.37, 1.53], dtype=float32)
    """
    a = numerics.promote_to_float32(reference, "reference")
    b = numerics.promote_to_float32(test, "test").astype(a.dtype)
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or not a.shape[0]:
        raise ValueError(
            f"reference has shape {a.shape} and test {b.shape}, expected [N, D] and "
            "[M, D], with reference points"
        )
    if (features is None) != (sigma0 is None):
        raise ValueError("features and sigma0 come together, and one is missing")
    floor = hyper("floor", floor, a.dtype, lambda e: (e >= 0) & (e <= 1), "in [0, 1]")
    own = _squared_distances(a, a)
    if sigma is None:
        apart = jnp.where(jnp.eye(len(a), dtype=bool), jnp.nan, own)
        sigma = jnp.nanmedian(apart) if len(a) > 1 else jnp.ones((), a.dtype)
        sigma = jnp.maximum(sigma, jnp.finfo(a.dtype).tiny)
    sigma = hyper("sigma", sigma, a.dtype, lambda s: s > 0, "positive")
    near = jnp.exp(-own / sigma), jnp.exp(-_squared_distances(b, a) / sigma)
    if features is not None and sigma0 is not None:
        width = hyper("sigma0", sigma0, a.dtype, lambda s: s > 0, "positive")
        f, g = features(a), features(b)
        alike = (jnp.exp(-_squared_distances(v, f) / width) for v in (f, g))
        near = [((1 - floor) * u + floor) * k for u, k in zip(alike, near, strict=True)]
    return jnp.mean(near[0]) - 2 * jnp.mean(near[1], -1) + 1


def _squared_distances(a, b):
    """Shapes: a [M, D], b [N, D] -> [M, N]."""
    row = lambda v: jnp.sum(jnp.square(b - v[None]), -1)  # noqa: E731
    return jax.lax.map(row, a, batch_size=64)
