"""Reduction of token losses to one number, and weights by length."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import hyper
from logitlab.rl import _operands as operands

__all__ = ["aggregate_tokens", "length_weights"]


def length_weights(
    lengths: ArrayLike, correct: ArrayLike, *, lam: ArrayLike, max_length: ArrayLike
) -> jax.Array:
    r"""DRPO's weights of right answers: shorter ones weigh more.

    .. math:: w_i = e^{(1 - l_i) / \lambda} \Big/ \sum_{j\ \text{right}}
        e^{(1 - l_j) / \lambda}, \quad l_i = |y_i| / L

    Shapes: lengths [..., G], correct [..., G] -> [..., G]

    Args:
      lengths: tokens of each answer, numbers of any type.
      correct: bool, or numbers above 0 for the right answers.
      lam: lambda, positive; infinity for equal weights.
      max_length: L, positive.

    Returns:
      Weights without gradient that add up to 1 over the right answers, if there are
      any; 0 for the others; float32 (float64 for float64 lengths).

    Raises:
      ValueError: the shapes differ, or ``lam`` or ``max_length`` is not positive.

    Numerics: relative error below 1e-5 for exponents up to 80 below the largest.

    Source: DRPO 2025, arXiv:2510.04474.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import length_weights
    >>> lengths, correct = jnp.array([100, 400, 900]), jnp.array([True, True, False])
    >>> length_weights(lengths, correct, lam=0.1, max_length=1000)
    Array([0.95257413, 0.04742587, 0.        ], dtype=float32)
    """
    lengths, right = jnp.asarray(lengths), jnp.asarray(correct) > 0
    if right.shape != lengths.shape or not lengths.ndim:
        raise ValueError(
            f"correct has shape {right.shape}, lengths {lengths.shape}, expected "
            "[..., G] of both"
        )
    lengths = operands.counted(lengths)
    lam = hyper("lam", lam, lengths.dtype, lambda v: v > 0, "positive")
    longest = hyper(
        "max_length", max_length, lengths.dtype, lambda n: n > 0, "positive"
    )
    if not lengths.shape[-1]:
        return lengths
    least = jnp.min(lengths, -1, keepdims=True, where=right, initial=jnp.inf)
    longer = jnp.where(right, lengths - least, 0)
    weights = numerics.softmax(-longer / longest / lam, where=right)
    return jax.lax.stop_gradient(weights)


_MODES = ("token_mean", "sequence_mean", "constant", "none")


def aggregate_tokens(
    loss_tokens: ArrayLike,
    mask: ArrayLike | None = None,
    *,
    mode: str = "token_mean",
    constant: ArrayLike | None = None,
) -> jax.Array:
    r"""Reduces token losses to one number, as PPO, GRPO or Dr. GRPO does.

    .. math:: \frac{\sum_{b,t} m_{bt} \ell_{bt}}{\sum_{b,t} m_{bt}}, \quad
        \frac1B \sum_b \frac{\sum_t m_{bt} \ell_{bt}}{\sum_t m_{bt}}, \quad
        \frac{\sum_{b,t} m_{bt} \ell_{bt}}{B L}

    ``"token_mean"`` is that of PPO, BNPO and DAPO, ``"sequence_mean"`` of GRPO and
    ``"constant"`` of Dr. GRPO.

    Shapes: loss_tokens [..., T], mask [..., T] -> []

    Args:
      loss_tokens: of any loss of this module that gives one for each token.
      mask: bool, the tokens that count. A sequence without any is 0, and counts as one
        of the B sequences.
      mode: as above, or ``"none"``: the token losses, 0 where masked, [..., T].
      constant: L, the longest length there can be, for ``"constant"``.

    Raises:
      TypeError: ``loss_tokens`` is not floating point or ``mask`` is not bool.
      ValueError: the shapes differ, an unknown mode, or a ``constant`` that is missing,
        superfluous or not positive.

    Source: GRPO, Shao et al. 2024, arXiv:2402.03300; DAPO, Yu et al. 2025,
      arXiv:2503.14476; Dr. GRPO, Liu et al. 2025, arXiv:2503.20783.

    >>> import jax.numpy as jnp
    >>> from logitlab.rl import aggregate_tokens
    >>> losses = jnp.float32([[1, 1, 1], [5, 0, 0]])
    >>> mask = jnp.array([[True, True, True], [True, False, False]])
    >>> for mode in ("token_mean", "sequence_mean"):
    ...     print(aggregate_tokens(losses, mask, mode=mode))
    2.0
    3.0
    """
    if mode not in _MODES:
        raise ValueError(f"mode is {mode!r}, expected one of {_MODES}")
    if (constant is not None) != (mode == "constant"):
        raise ValueError(
            f"constant is {constant} for mode {mode!r}, expected a number for mode "
            "'constant' alone"
        )
    x, keep = operands.tokens(loss_tokens, mask, "loss_tokens")
    if mode == "none":
        return x
    if mode == "token_mean":
        return numerics.masked_mean(x, keep)
    if mode == "sequence_mean":
        return numerics.masked_mean(operands.token_mean(x, keep))
    assert constant is not None
    constant = hyper("constant", constant, x.dtype, lambda c: c > 0, "positive")
    return numerics.masked_mean(x.sum(-1) / constant)
