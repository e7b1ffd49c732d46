"""Checkered regression as a Flax layer."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from logitlab import links


class CheckeredDense(nn.Module):
    r"""Checkered regression, from features [..., D] to log-probabilities [..., C].

    .. math:: p(y \mid x) = \Xi_y(Z), \quad Z_k = x \cdot W_k + b_k

    with the checkered softmax of ``links.checkered`` over the m factors; one factor is
    softmax regression. What it returns are logits like any others. Two factors or more
    at zero are a saddle of the loss, which gradient descent does not leave: ``scale=0``
    is for cross-gradients.

    Fields:
      classes: C, at least 2.
      factors: m, at least 1.
      scale: standard deviation of the normal numbers that kernel and bias start at. The
        paper's is 1, for a few features; by many, divide it by the square root of D.
      pinned: the last class has the score 0 in every factor, which loses nothing. With
        two classes it is the paper's binary form, in which class 0 has the probability
        ``links.checkoid(z)``.
      use_bias: whether factors have one.
      dtype: what the scores are computed in; by default the parameters' dtype, but at
        least float32.
      param_dtype: of the parameters, also under x64.

    Source: Achab 2023, arXiv:2309.15298.

    >>> import jax.numpy as jnp
    >>> from logitlab.models.checkered import CheckeredDense
    >>> import jax
    >>> model = CheckeredDense(classes=3, factors=2)
    >>> variables = model.init(jax.random.key(0), jnp.zeros(4))
    >>> variables["params"]["kernel"].shape
    (4, 2, 3)
    >>> model.apply(variables, jnp.zeros((5, 4)), method="factor_logits").shape
    (5, 2, 3)
    """

    classes: int
    factors: int
    scale: float = 1.0
    pinned: bool = False
    use_bias: bool = True
    dtype: DTypeLike | None = None
    param_dtype: DTypeLike = jnp.float32

    def __call__(self, x: ArrayLike) -> Array:
        """Returns log-probabilities, float32 (float64 if the parameters are).

        Raises:
          ValueError: ``classes`` or ``factors`` is out of its range, or ``x`` a scalar.
        """
        return links.checkered(self.factor_logits(x))

    @nn.compact
    def factor_logits(self, x: ArrayLike) -> Array:
        """Returns the scores Z of every factor, [..., D] -> [..., M, C].

        Raises:
          ValueError: as ``__call__``.
        """
        for name, value, least in (
            ("classes", self.classes, 2),
            ("factors", self.factors, 1),
        ):
            if value < least:
                raise ValueError(f"{name} is {value}, expected at least {least}")
        x = jnp.asarray(x)
        if not x.ndim:
            raise ValueError("x is a scalar, expected [..., D] features")
        shape = self.factors, self.classes - self.pinned
        start = nn.initializers.normal(self.scale)
        kernel = self.param("kernel", start, (x.shape[-1], *shape), self.param_dtype)
        dtype = self.dtype or jnp.promote_types(kernel.dtype, jnp.float32)
        z = jnp.tensordot(x.astype(dtype), kernel.astype(dtype), 1)
        if self.use_bias:
            bias = self.param("bias", start, shape, self.param_dtype).astype(dtype)
            z += jnp.expand_dims(bias, range(x.ndim - 1))
        z = z.astype(jnp.promote_types(self.param_dtype, jnp.float32))
        if self.pinned:
            z = jnp.pad(z, [(0, 0)] * (z.ndim - 1) + [(0, 1)])
        return z
