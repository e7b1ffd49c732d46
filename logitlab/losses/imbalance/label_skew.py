"""Losses for clients or sites whose labels are distributed unlike each other's."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.comp_sums import cross_entropy
from logitlab.numerics.arguments import weighted

__all__ = ["margin_control_loss"]


def margin_control_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    penalty: ArrayLike = 0.1,
    per_example: bool = True,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""FedLD's cross-entropy with a penalty on confident predictions.

    Use it when clients of federated learning see few of the classes each: margins of
    local models then stay small enough to be averaged.

    .. math:: \ell = -\log p_y + \lambda \log(1 + \|p\|_2^2)

    Without ``per_example`` the norm is that of the whole batch of probabilities, as in
    the released code, and the penalty, which then depends on the batch's size, is the
    same for all examples.

    Shapes: logits [..., C], labels [...], where [..., C], mask [...] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or floats of the logits' shape, a distribution over
        the class axis.
      penalty: lambda; 0.1 in the released runs, 0.03 by default in the code.
      per_example: whether each example has a penalty of its own.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part. Hiding the label costs ``inf``.
      mask: bool, the examples whose probabilities count in the norm of the batch. The
        others' losses are for ``numerics.masked_mean`` to leave out.

    Returns:
      The loss in nats, float32 (float64 for float64 logits). 0 where every class is
      hidden, up to the batch's penalty.

    Raises:
      TypeError: ``mask`` is not bool.
      ValueError: wrong label shape, a label of C or more (NaN under ``jit``), or
        ``mask`` of another shape.

    Numerics: relative error below 1e-5, value and gradient.

    Source: FedLD, Zeng et al. 2024, arXiv:2408.12300; Zeng-Shuang/FedLD.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import margin_control_loss
    >>> margin_control_loss(jnp.float32([0, 0]), 0, penalty=1.0).round(4)
    Array(1.0986, dtype=float32)
    """
    losses = cross_entropy(logits, labels, axis=axis, where=where)
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    if mask is not None:
        keep = numerics.check_mask(mask, z.shape[:-1])
        z = jnp.where(keep[..., None], z, -jnp.inf)
    shown = z > -jnp.inf
    twice = 2 * jnp.where(shown, numerics.log_softmax(z), 0)
    square = jnp.sum(jnp.where(shown, jnp.exp(twice), 0), -1)
    if not per_example:
        square = jnp.broadcast_to(jnp.sum(square), square.shape)
    return losses + weighted(penalty, jnp.log1p(square), "penalty")
