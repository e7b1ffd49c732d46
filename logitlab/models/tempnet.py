"""A network that predicts a temperature for each input."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike

from logitlab import numerics


class TempNet(nn.Module):
    r"""Temperatures [...] for logits [..., C], to go with ``tempnet_robust_loss``.

    .. math:: h = W_2 \, \sigma(W_1 z / \|z\| + b_1) + b_2, \quad
        a = \mathrm{softmax}(h / e^s), \quad u = w_3 \cdot (a - 1/M) h + b_3, \quad
        \tau = \tau_{min} + (\tau_{max} - \tau_{min}) \sigma(u)

    It learns from the loss and gives none of it to whatever made the logits: they come
    in without their gradient.

    Fields:
      tau_min: the lowest temperature, positive. The released code has [0.5, 5] for
        GPT-2 and [0.01, 2] for LLaMA-2.
      tau_max: the highest.
      hidden: units M.
      dropout: rate, after the first layer.
      param_dtype: of the parameters, also under x64.

    Source: Qiu et al. 2024, arXiv:2404.04575; initial weights as flax has them, but for
    ``w3`` of ones and ``log_scale`` s of 0.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.models.tempnet import TempNet
    >>> model = TempNet(tau_min=0.5, tau_max=5.0, hidden=8)
    >>> logits = jnp.float32([[2, 1, 0], [0, 0, 0]])
    >>> tau = model.apply(model.init(jax.random.key(0), logits), logits)
    >>> tau.shape, bool(((tau > 0.5) & (tau < 5)).all())
    ((2,), True)
    """

    tau_min: float
    tau_max: float
    hidden: int = 256
    dropout: float = 0.5
    param_dtype: jnp.dtype = jnp.float32

    @nn.compact
    def __call__(self, logits: ArrayLike, *, deterministic: bool = True) -> Array:
        """Returns temperatures, float32 (float64 for float64 parameters).

        Args:
          logits: scores; ``-inf`` counts as 0. Their length does not matter.
          deterministic: False drops units and needs ``rngs={"dropout": key}``.

        Raises:
          TypeError: ``logits`` is not floating point.
          ValueError: ``logits`` has no axis, ``tau_min`` is not in (0, tau_max),
            ``hidden`` is below 1, or ``dropout`` is outside of [0, 1).
        """
        if not 0 < self.tau_min < self.tau_max < math.inf:
            raise ValueError(
                f"tau_min is {self.tau_min}, expected it in (0, tau_max {self.tau_max})"
            )
        if self.hidden < 1:
            raise ValueError(f"hidden is {self.hidden}, expected at least 1")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected it in [0, 1)")
        z = jax.lax.stop_gradient(numerics.promote_to_float32(logits))
        if not z.ndim or not z.shape[-1]:
            raise ValueError(
                f"logits has shape {z.shape}, expected [..., C], C above 0"
            )
        dtype = jnp.promote_types(self.param_dtype, jnp.float32)
        dense = lambda units, name, **init: nn.Dense(  # noqa: E731
            units, dtype=dtype, param_dtype=self.param_dtype, name=name, **init
        )
        x = nn.sigmoid(dense(self.hidden, "hidden")(_unit(z).astype(dtype)))
        x = nn.Dropout(self.dropout, deterministic=deterministic)(x)
        h = dense(self.hidden, "mix")(x)
        scale = self.param("log_scale", nn.initializers.zeros, (), self.param_dtype)
        pooled = numerics.softmax(h * jnp.exp(-scale.astype(dtype))) - 1 / self.hidden
        u = dense(1, "head", kernel_init=nn.initializers.ones)(pooled * h)[..., 0]
        low, high = (jnp.asarray(t, u.dtype) for t in (self.tau_min, self.tau_max))
        return low + (high - low) * nn.sigmoid(u)


def _unit(z):
    """Rows of length 1, or of zeros; as large as they come, nothing overflows."""
    z = jnp.where(z > -jnp.inf, z, 0)
    size = jnp.max(jnp.abs(z), -1, keepdims=True)
    # By a power of two, so that no digit changes.
    _, exponent = jnp.frexp(jnp.where(size > 0, size, 1))
    z = jnp.ldexp(z, -exponent)
    norm = jnp.sqrt(jnp.sum(z * z, -1, keepdims=True))
    return z / jnp.where(size > 0, norm, 1)
