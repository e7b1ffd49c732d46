"""Learning in context: what one layer of linear attention does with its examples."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, hyper

__all__ = ["linear_attention_predict", "one_step_risk", "optimal_one_step_eta"]


def linear_attention_predict(
    x: ArrayLike, y: ArrayLike, query: ArrayLike, gamma: ArrayLike
) -> jax.Array:
    r"""The answer of one layer of linear self-attention to a regression in its context.

    Use it for what such a layer can learn: with a multiple of the identity it is one
    step of gradient descent from 0 on the squared errors of the context.

    .. math:: \hat y = q^T \Gamma \sum_i y_i x_i

    Shapes: x [..., N, D], y [..., N], query [..., D], gamma [D, D] -> [...]

    Args:
      x: inputs of the examples in the context.
      y: their targets.
      query: q, the input that is asked for.
      gamma: the product of the layer's matrices that matters, see
        :func:`optimal_one_step_eta`.

    Returns:
      In the unit of the targets, float32 (float64 for float64).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes disagree.

    Source: Mahankali, Hashimoto and Ma 2023, arXiv:2307.03576.

    >>> import jax.numpy as jnp
    >>> from logitlab.theory import linear_attention_predict
    >>> x, y = jnp.float32([[1, 0], [0, 1]]), jnp.float32([2, 3])
    >>> print(linear_attention_predict(x, y, jnp.ones(2), 0.1 * jnp.eye(2)))
    0.5
    """
    x = numerics.promote_to_float32(x, "x")
    arrays = {"y": y, "query": query, "gamma": gamma}
    wide = {n: numerics.promote_to_float32(a, n) for n, a in arrays.items()}
    if x.ndim < 2:
        raise ValueError(f"x has shape {x.shape}, expected [..., N, D]")
    d = x.shape[-1]
    due = {"y": x.shape[:-1], "query": (*x.shape[:-2], d), "gamma": (d, d)}
    for name, shape in due.items():
        if wide[name].shape != shape:
            raise ValueError(f"{name} has shape {wide[name].shape}, expected {shape}")
    y, q, gamma = (wide[name].astype(x.dtype) for name in due)
    moment = jnp.einsum("...n,...nd->...d", y, x, precision="highest")
    left = jnp.matmul(q, gamma, precision="highest")
    return jnp.sum(left * moment, -1)


def optimal_one_step_eta(n: int, d: int, sigma2: ArrayLike) -> jax.Array:
    r"""The best step for n examples with d features: no linear attention does better.

    .. math:: \eta = \frac{1}{n + d + 1 + \sigma^2}

    For x and w of N(0, I), y = w . x + N(0, sigma^2), the least risk of
    :func:`linear_attention_predict` is at :math:`\Gamma = \eta I`; for x of N(0, S) and
    w of N(0, 1 / S) at :math:`\eta S^{-1}`.

    Args:
      n: examples in the context, at least 1.
      d: features.
      sigma2: variance of the noise, at least 0.

    Returns:
      A number, float32 (float64 for float64).

    Raises:
      TypeError: ``n`` or ``d`` is no Python integer.
      ValueError: a number is out of range.

    Source: Mahankali, Hashimoto and Ma 2023, arXiv:2307.03576.

    >>> from logitlab.theory import optimal_one_step_eta
    >>> print(f"{optimal_one_step_eta(20, 5, 0.5):.7f}")
    0.0377358
    """
    check_count("n", n)
    check_count("d", d)
    sigma2 = hyper("sigma2", sigma2, _dtype(sigma2), lambda s: s >= 0, "at least 0")
    return 1 / (n + d + 1 + sigma2)


def one_step_risk(
    n: int, d: int, sigma2: ArrayLike, *, eta: ArrayLike | None = None
) -> jax.Array:
    r"""The mean squared error of one step of gradient descent in context.

    .. math:: \sigma^2 + d \bigl(1 - 2 \eta n + \eta^2 n (n + d + 1 + \sigma^2)\bigr)

    Args are those of :func:`optimal_one_step_eta`, and:
      eta: the step; by default the best, with which the risk is
        :math:`\sigma^2 + d (d + 1 + \sigma^2) / (n + d + 1 + \sigma^2)`.

    Source: from the fourth moments of a Gaussian; the least is that of
      arXiv:2307.03576.

    >>> from logitlab.theory import one_step_risk
    >>> print(f"{one_step_risk(20, 5, 0.5):.4f}")
    1.7264
    """
    best = optimal_one_step_eta(n, d, sigma2)
    sigma2 = jnp.asarray(sigma2, best.dtype)
    step = best if eta is None else hyper("eta", eta, best.dtype)
    return sigma2 + d * (1 - 2 * step * n + jnp.square(step) * n / best)


def _dtype(number):
    """float64 for such arrays; a Python number does not decide."""
    if not hasattr(number, "dtype"):
        return jnp.result_type(float)
    return jnp.promote_types(jnp.result_type(number), jnp.float32)
