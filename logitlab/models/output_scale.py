"""Networks whose outputs are scaled: from lazy training to rich."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.typing import ArrayLike

from logitlab.numerics.arguments import check_range

__all__ = ["output_scaled"]


def output_scaled(
    apply_fn: Callable[..., jax.Array], alpha: ArrayLike, *, start: Any = None
) -> Callable[..., jax.Array]:
    r"""A model whose output is scaled, and may be 0 before training.

    Use it to choose between lazy and rich training: the larger :math:`\alpha`, the less
    the parameters have to move, and the closer training is to that of the linearized
    model. A loss that grows with the square of the output, divided by
    :math:`\alpha^2`, keeps learning rates comparable.

    .. math:: \alpha \, (f_\theta(x) - f_{\theta_0}(x))

    Args:
      apply_fn: (parameters, ...) -> outputs.
      alpha: positive; may be traced.
      start: the parameters :math:`\theta_0` whose outputs are subtracted, which carry
        no gradient; by default nothing is.

    Returns:
      A function of the arguments of ``apply_fn``.

    Raises:
      TypeError: ``alpha`` is no number.
      ValueError: ``alpha`` is not positive.

    Source: Chizat et al. 2019, arXiv:1812.07956; Kumar et al. 2024, arXiv:2310.06110.

    >>> import jax.numpy as jnp
    >>> from logitlab.models import output_scaled
    >>> lazy = output_scaled(lambda w, x: x @ w, 10.0, start=jnp.float32([1, 1]))
    >>> lazy(jnp.float32([1, 1.5]), jnp.float32([[1, 2]]))
    Array([10.], dtype=float32)
    """
    check_range("alpha", alpha, lambda a: a > 0, "positive")

    def scaled(params, *args, **kwargs):
        outputs = apply_fn(params, *args, **kwargs)
        if start is not None:
            at_start = jax.lax.stop_gradient(apply_fn(start, *args, **kwargs))
            outputs = outputs - at_start
        return outputs * jax.numpy.asarray(alpha, outputs.dtype)

    return scaled
