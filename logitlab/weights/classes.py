"""Class weights from class counts."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range, counts_per_class

__all__ = ["class_balanced_weights", "inverse_frequency_weights", "inverse_prior"]


def class_balanced_weights(counts: ArrayLike, *, beta: ArrayLike = 0.999) -> jax.Array:
    r"""Class weights by effective numbers of examples; they sum to C.

    Use it when inverse frequencies weigh rare classes too much.

    .. math:: w_c \propto \frac{1 - \beta}{1 - \beta^{n_c}}

    A class without examples gets the weight of one example.

    Shapes: counts [C] -> [C]

    Raises:
      ValueError: ``counts`` not one per class or negative, or ``beta`` outside [0, 1).

    Source: Cui et al. 2019, arXiv:1901.05555.

    >>> import jax.numpy as jnp
    >>> from logitlab.weights import class_balanced_weights
    >>> class_balanced_weights(jnp.array([90, 9, 1]))
    Array([0.03101863, 0.2979683 , 2.671013  ], dtype=float32)
    """
    check_range("beta", beta, lambda b: (b >= 0) & (b < 1), "in [0, 1)")
    n = jnp.maximum(counts_per_class(counts), 1)
    w = -1 / jnp.expm1(n * jnp.log1p(jnp.asarray(beta - 1, n.dtype)))
    return w * (w.size / jnp.sum(w))


def inverse_frequency_weights(counts: ArrayLike) -> jax.Array:
    r"""Class weights by inverse frequency: the mean weight of an example is 1.

    .. math:: w_c = \frac{N}{C\,n_c}, \quad N = \sum_c n_c

    A class without examples gets the weight of one example.

    Shapes: counts [C] -> [C]

    Raises:
      ValueError: ``counts`` not one per class or negative.

    >>> import jax.numpy as jnp
    >>> from logitlab.weights import inverse_frequency_weights
    >>> inverse_frequency_weights(jnp.array([3, 1]))
    Array([0.6666667, 2.       ], dtype=float32)
    """
    n = counts_per_class(counts)
    return jnp.sum(n) / (n.size * jnp.maximum(n, 1))


def inverse_prior(prior: ArrayLike) -> jax.Array:
    r"""Class frequencies in reversed order: the rarest class gets the largest one.

    Use it to train an expert for a test distribution whose tail is the head of the
    training data, as ``losses.sade_loss`` does.

    .. math:: \bar\pi_{(k)} = \pi_{(C + 1 - k)}

    Equal frequencies are ranked by class.

    Shapes: prior [C] -> [C]

    Raises:
      ValueError: ``prior`` not one per class or negative.

    Source: SADE, Zhang et al. 2022, arXiv:2107.09249.

    >>> import jax.numpy as jnp
    >>> from logitlab.weights import inverse_prior
    >>> inverse_prior(jnp.float32([0.5, 0.3, 0.2]))
    Array([0.2, 0.3, 0.5], dtype=float32)
    """
    p = counts_per_class(prior, name="prior")
    p = numerics.unsharded(p)
    order = jnp.argsort(p, stable=True)
    return jnp.zeros_like(p).at[order].set(p[order][::-1])
