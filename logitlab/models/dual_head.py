"""Two classifier heads on one trunk."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jax import Array
from jax.typing import ArrayLike


class DualHead(nn.Module):
    r"""Two linear heads on one trunk: main and auxiliary logits.

    The main head learns from the labels and predicts; the auxiliary one learns from the
    teacher's logits (``normalized_binary_kl``) and is dropped afterwards. With features
    of an earlier layer for the auxiliary head it is the weak head of ``uskd_loss``.

    Fields:
      classes: how many.
      hidden: units of a hidden layer of the auxiliary head, with batch norm and ReLU;
        none makes it linear. The paper has 200 on CIFAR-100.
      dropout: rate on the auxiliary head's hidden layer, 0.1 in the paper.
      dtype: of the hidden layer; logits and parameters are float32.

    Source: Dual-Head Knowledge Distillation, Yang et al. 2024, arXiv:2411.08937.

    >>> import jax.numpy as jnp
    >>> from logitlab.models.dual_head import DualHead
    >>> import jax
    >>> model, x = DualHead(classes=3), jnp.ones((2, 4))
    >>> main, aux = model.apply(model.init(jax.random.key(0), x), x)
    >>> main.shape, aux.shape
    ((2, 3), (2, 3))
    """

    classes: int
    hidden: int | None = None
    dropout: float = 0.1
    dtype: jnp.dtype | None = None

    @nn.compact
    def __call__(
        self,
        features: ArrayLike,
        aux_features: ArrayLike | None = None,
        *,
        deterministic: bool = True,
    ) -> tuple[Array, Array]:
        """Returns the logits of the main and of the auxiliary head.

        Args:
          features: [..., D], the main head's, and the other's too by default.
          aux_features: [..., E], of another layer.
          deterministic: False drops units, needs ``rngs={"dropout": key}``, and updates
            ``batch_stats`` where there is a hidden layer.

        Raises:
          ValueError: ``classes`` or ``hidden`` is below 1, or ``dropout`` is outside of
            [0, 1).
        """
        if self.classes < 1 or (self.hidden is not None and self.hidden < 1):
            raise ValueError(
                f"classes is {self.classes}, hidden {self.hidden}, expected at least 1"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}, expected it in [0, 1)")
        main = nn.Dense(self.classes, dtype=jnp.float32, name="main")(features)
        x = features if aux_features is None else aux_features
        if self.hidden is not None:
            x = nn.Dense(self.hidden, dtype=self.dtype, name="aux_hidden")(x)
            x = nn.Dropout(self.dropout, deterministic=deterministic)(x)
            x = nn.BatchNorm(
                use_running_average=deterministic, dtype=self.dtype, name="aux_norm"
            )(x)
            x = nn.relu(x)
        return main, nn.Dense(self.classes, dtype=jnp.float32, name="aux")(x)
