"""A recurrent classifier."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike, DTypeLike

from logitlab import numerics


class GRUClassifier(nn.Module):
    """GRU over sequences [..., T, D], read out at the last step: logits [..., C].

    With ``losses.squared_hinge_loss`` on its logits, and ``losses.l2_svm_objective`` on
    its ``head`` kernel, this is the GRU-SVM.

    Fields:
      hidden: units of the state, which starts from zeros.
      num_classes: how many logits, C.
      dropout: rate, on the inputs; the paper's SVM has 0.15.
      param_dtype: of the parameters, also under x64.

    Source: Agarap 2018, arXiv:1709.03082: ``hidden=256`` over 21 steps of 10 features.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.models.recurrent import GRUClassifier
    >>> model = GRUClassifier(hidden=4, num_classes=2)
    >>> x = jnp.ones((3, 7, 5))
    >>> variables = jax.jit(model.init)(jax.random.key(0), x)
    >>> jax.jit(model.apply)(variables, x).shape
    (3, 2)
    """

    hidden: int
    num_classes: int
    dropout: float = 0.0
    param_dtype: DTypeLike = jnp.float32

    @nn.compact
    def __call__(
        self,
        x: ArrayLike,
        *,
        lengths: ArrayLike | None = None,
        deterministic: bool = True,
    ) -> Array:
        """Returns logits, float32 (float64 for float64 parameters).

        Args:
          x: features of every step.
          lengths: ints [...], how many steps of each sequence count, from 1 to T; what
            comes after is not looked at. All of them by default.
          deterministic: False drops features and needs ``rngs={"dropout": key}``.

        Raises:
          TypeError: ``x`` is not floating point, or ``lengths`` not integer.
          ValueError: a field or shape is wrong, or a length is outside of [1, T]; under
            ``jit``, where values are unknown, such a sequence has logits of NaN.
        """
        for name in ("hidden", "num_classes"):
            if getattr(self, name) < 1:
                raise ValueError(
                    f"{name} is {getattr(self, name)}, expected at least 1"
                )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected it in [0, 1)")
        x = numerics.promote_to_float32(x, "x")
        if x.ndim < 2 or not x.shape[-2]:
            raise ValueError(f"x has shape {x.shape}, expected [..., T, D], T above 0")
        dtype = jnp.promote_types(self.param_dtype, jnp.float32)
        known = None
        if lengths is not None:
            lengths, known = _known_lengths(lengths, x.shape)
            steps = jax.lax.broadcasted_iota(jnp.int32, x.shape[:-1], x.ndim - 2)
            x = jnp.where((steps < lengths[..., None])[..., None], x, 0)
        x = nn.Dropout(self.dropout, deterministic=deterministic)(x.astype(dtype))
        cell = nn.GRUCell(
            self.hidden, dtype=dtype, param_dtype=self.param_dtype, name="gru"
        )
        states = nn.RNN(cell)(x.reshape(-1, *x.shape[-2:]))
        states = states.reshape(*x.shape[:-1], self.hidden)
        last = states[..., -1, :]
        if known is not None:
            last = jnp.take_along_axis(states, lengths[..., None, None] - 1, -2)
            last = jnp.where(known[..., None], last[..., 0, :], jnp.nan)
        return nn.Dense(
            self.num_classes, dtype=dtype, param_dtype=self.param_dtype, name="head"
        )(last)


def _known_lengths(lengths, shape):
    """Lengths with 1 in place of those that are none, and which are one."""
    lengths, steps = numerics.wide_labels(lengths, "lengths"), shape[-2]
    if lengths.shape != shape[:-2]:
        raise ValueError(f"lengths has shape {lengths.shape}, expected {shape[:-2]}")
    known = (lengths >= 1) & (lengths <= steps)
    if numerics.is_concrete(known) and not known.all():
        raise ValueError(f"lengths outside [1, {steps}]: {lengths[~known][:5]}")
    return jnp.where(known, lengths, 1), known
