"""Normalization by parts of a batch."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn

from logitlab.numerics.arguments import check_range

__all__ = ["GhostBatchNorm"]


class GhostBatchNorm(nn.Module):
    r"""Batch normalization by parts of a batch, as though it were many small batches.

    Use it when large batches generalize worse than small ones.

    .. math:: y = \gamma \frac{x - \mu_k}{\sqrt{\sigma_k^2 + \epsilon}} + \beta

    with mean and (biased) variance of the k-th ghost batch, that is of ``ghost_size``
    consecutive rows. Running statistics, of which the variance is unbiased, take up the
    ghost batches one after another: :math:`r \leftarrow m r + (1 - m) s_k`. They stand
    in the collection ``batch_stats``, as those of ``nn.BatchNorm``.

    Under a mesh whose devices hold whole ghost batches, normalization needs no
    communication.

    Fields:
      ghost_size: rows of a ghost batch, at least 2: the variance of one is 0 / 0.
      momentum: m, the share of the running statistics that one ghost batch leaves; 0.9
        is 0.1 in the convention of PyTorch.
      epsilon: added to the variance.
      use_scale: learn :math:`\gamma`.
      use_bias: learn :math:`\beta`.

    Raises:
      ValueError: when called, if the rows do not divide into ghost batches, or a field
        is outside its range.

    Source: Train longer, generalize better, Hoffer et al. 2017, arXiv:1705.08741.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.models import GhostBatchNorm
    >>> norm, x = GhostBatchNorm(2), jnp.float32([[0], [2], [10], [14]])
    >>> variables = norm.init(jax.random.key(0), x)
    >>> y, _ = norm.apply(variables, x, train=True, mutable=["batch_stats"])
    >>> y[:, 0].round(3)
    Array([-1.,  1., -1.,  1.], dtype=float32)
    """

    ghost_size: int
    momentum: float = 0.9
    epsilon: float = 1e-5
    use_scale: bool = True
    use_bias: bool = True

    @nn.compact
    def __call__(self, x: jax.Array, *, train: bool = False) -> jax.Array:
        """Normalizes over all axes but the last.

        Args:
          x: [B, ..., D]; ghost batches divide the first axis.
          train: by statistics of ghost batches, which running ones then take up;
            otherwise by the running ones.

        Returns:
          An array like ``x``, in its dtype; statistics are float32.
        """
        if self.ghost_size < 2:
            raise ValueError(f"ghost_size is {self.ghost_size}, expected at least 2")
        check_range("momentum", self.momentum, lambda m: 0 <= m < 1, "in [0, 1)")
        features = x.shape[-1]
        wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
        stats = [
            self.variable("batch_stats", name, fill, (features,), jnp.float32)
            for name, fill in (("mean", jnp.zeros), ("var", jnp.ones))
        ]
        if train:
            y = self._by_parts(wide, stats)
        else:
            mean, var = (s.value.astype(wide.dtype) for s in stats)
            shape = (1,) * (wide.ndim - 1) + (features,)
            y = wide - mean.reshape(shape)
            y = y * jax.lax.rsqrt(var + self.epsilon).reshape(shape)
        shape = (1,) * (wide.ndim - 1) + (features,)
        if self.use_scale:
            scale = self.param("scale", nn.initializers.ones, (features,))
            y = y * scale.reshape(shape).astype(y.dtype)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros, (features,))
            y = y + bias.reshape(shape).astype(y.dtype)
        return y.astype(x.dtype)

    def _by_parts(self, x, stats):
        rows, size = x.shape[0], self.ghost_size
        if rows % size:
            raise ValueError(
                f"{rows} rows do not divide into ghost batches of {size}, expected a "
                "multiple"
            )
        parts = x.reshape(rows // size, -1, x.shape[-1])
        mean = parts.mean(1, keepdims=True)
        gap = parts - mean
        var = jnp.mean(gap * gap, 1, keepdims=True)
        if not self.is_initializing():
            many = parts.shape[1]
            found = mean[:, 0], var[:, 0] * (many / (many - 1))
            for stat, values in zip(stats, found, strict=True):
                stat.value = self._taken_up(stat.value, values)
        return (gap * jax.lax.rsqrt(var + self.epsilon)).reshape(x.shape)

    def _taken_up(self, running, values):
        """Running statistics after all parts, in closed form."""
        many = len(values)
        ages = jnp.arange(many - 1, -1, -1)
        shares = (1 - self.momentum) * self.momentum ** ages.astype(values.dtype)
        new = self.momentum**many * running + jnp.tensordot(shares, values, 1)
        return new.astype(running.dtype)
