"""Replay of old examples beside a stream of new classes."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.comp_sums import cross_entropy
from logitlab.numerics.arguments import check_same_shape

__all__ = ["uer_loss"]


def uer_loss(
    cosine_logits: ArrayLike,
    linear_logits: ArrayLike,
    labels: ArrayLike,
    replay_mask: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Cross-entropy by angle for new examples, by angle and norm for replayed ones.

    Use it when a stream brings ever new classes and a small memory is replayed: the
    last classes are then predicted less often for examples of others (recency bias).

    .. math:: \ell = \log \sum_c e^{z_c - z_y}, \quad z = \begin{cases}
        h^T W & \text{replayed} \\ \gamma \cos\theta & \text{new} \end{cases}

    The objective is the mean over the new ones plus that over the replayed ones;
    ``transforms.angle_norm_logits`` makes both logits. Weights, scale and softmax over
    all classes are inferred: the paper was not readable in full.

    Shapes: cosine_logits [..., C], linear_logits [..., C], labels [...],
      replay_mask [...], where [..., C] -> [...]

    Args:
      cosine_logits: by angle; those of replayed examples do not count.
      linear_logits: by angle and norm; those of new examples do not count. ``-inf`` in
        either hides the class, as ``where=False`` does.
      labels: ints in ``[0, C)``, or distributions [..., C].
      replay_mask: bool, the examples that come from the memory.
      axis: the class axis of both logits and ``where``.
      where: bool, the classes that take part, such as those seen so far. Hiding the
        label costs ``inf``.

    Returns:
      The loss in nats, float32 (float64 for float64 logits); NaN without a label.

    Raises:
      TypeError: logits are not floating point, or ``replay_mask`` is not bool.
      ValueError: the shapes disagree, or a label of C or more (NaN under ``jit``).

    Numerics: relative error below 1e-5, value and gradient.

    Source: UER, Lin et al. 2023, arXiv:2309.04081.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import uer_loss
    >>> cosine, linear = jnp.zeros((2, 2)), jnp.float32([[0, 3], [0, 3]])
    >>> uer_loss(cosine, linear, jnp.array([0, 0]), jnp.array([False, True])).round(4)
    Array([0.6931, 3.0486], dtype=float32)
    """
    z = numerics.promote_to_float32(cosine_logits, "cosine_logits")
    check_same_shape("linear_logits", linear_logits, "cosine_logits", z.shape)
    linear = numerics.promote_to_float32(linear_logits, "linear_logits")
    per_example = z.shape[:axis] + z.shape[axis:][1:]
    replayed = numerics.check_mask(replay_mask, per_example, "replay_mask")
    hidden = (z == -jnp.inf) | (linear == -jnp.inf)
    z = jnp.where(jnp.expand_dims(replayed, axis), linear.astype(z.dtype), z)
    z = jnp.where(hidden, -jnp.inf, z)
    return cross_entropy(z, labels, axis=axis, where=where)
