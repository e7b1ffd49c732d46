"""Networks of several bit-widths in one set of weights (EQ-Net)."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation.divergences import kd
from logitlab.losses.labels import checked

__all__ = [
    "fake_quantize",
    "progressive_guidance_loss",
    "weight_distribution_regularizer",
    "weight_kurtosis",
    "weight_skewness",
]

NOT_LOSSES = tuple(__all__)


def weight_skewness(w: ArrayLike) -> jax.Array:
    r"""Mean third power of standardised weights; 0 for a symmetric distribution.

    .. math:: \frac1n \sum_i \Bigl(\frac{w_i - \bar w}{\sigma}\Bigr)^3

    with the deviation of a sample (n - 1). 0 for weights that are all equal, and for
    fewer than two.

    Raises:
      TypeError: ``w`` is not floating point.

    Source: EQ-Net, Xu et al. 2023, arXiv:2308.07650.

    >>> weight_skewness(jnp.float32([-1, 0, 1]))
    Array(0., dtype=float32)
    """
    return jnp.mean(_standardised(w) ** 3)


def weight_kurtosis(w: ArrayLike) -> jax.Array:
    r"""Mean fourth power of standardised weights; 3 for a Gaussian, 1.8 for a uniform.

    .. math:: \frac1n \sum_i \Bigl(\frac{w_i - \bar w}{\sigma}\Bigr)^4

    with the deviation of a sample (n - 1). 0 for weights that are all equal, and for
    fewer than two.

    Raises:
      TypeError: ``w`` is not floating point.

    Source: EQ-Net, Xu et al. 2023, arXiv:2308.07650.

    >>> weight_kurtosis(jnp.float32([-1, 0, 1]))
    Array(0.6666667, dtype=float32)
    """
    return jnp.mean(_standardised(w) ** 4)


def weight_distribution_regularizer(
    params: Any,
    *,
    kurtosis_target: float = 1.8,
    kurt_rate: float = 0.015,
    skew_rate: float = 1.0,
    mask: Any = None,
) -> jax.Array:
    r"""Weight distribution regularisation (WDR): weights that are easy to quantise.

    .. math:: \frac1L \sum_l \bigl[ a (\mathrm{Kurt}_l - 1.8)^2
        + b \, \mathrm{Skew}_l^2 \bigr]

    over the L arrays of ``params``. Scale-free: its gradient is orthogonal to the
    weights and to constants.

    Args:
      params: a pytree of weights. Arrays of fewer than two elements are skipped; an
        array of equal weights counts, and costs nothing.
      kurtosis_target: 1.8, that of a uniform distribution.
      kurt_rate: a; 0.015 in the released code, 1 in the paper.
      skew_rate: b; 1 in both.
      mask: a pytree of bools like ``params``, the arrays that count; the released code
        leaves the first layer out. Biases and scales of norms are to be left out too.

    Returns:
      One number, 0 without any array.

    Raises:
      TypeError: an array that counts is not floating point.

    Source: EQ-Net, Xu et al. 2023, arXiv:2308.07650.

    >>> w = {"kernel": jnp.float32([[-1, 0, 1]]), "bias": jnp.zeros(1)}
    >>> weight_distribution_regularizer(w, kurt_rate=1.0).round(4)
    Array(1.2844, dtype=float32)
    """
    keep = jax.tree.map(lambda _: True, params) if mask is None else mask
    costs = []
    pairs = zip(jax.tree.leaves(params), jax.tree.leaves(keep), strict=True)
    for w, counts in pairs:
        if not counts or jnp.size(w) < 2:
            continue
        x = _standardised(w)
        constant = jnp.all(x == 0)
        off = jnp.where(constant, 0, jnp.mean(x**4) - kurtosis_target)
        costs.append(kurt_rate * off**2 + skew_rate * jnp.mean(x**3) ** 2)
    return sum(costs) / len(costs) if costs else jnp.zeros(())


def progressive_guidance_loss(
    logits_list: Sequence[ArrayLike],
    labels: ArrayLike,
    *,
    weight: float = 0.5,
    temperature: float = 1.0,
) -> list[jax.Array]:
    r"""Group progressive guidance (GPG): each sub-network learns from the one above.

    .. math:: \ell_0 = -\log p^0_y, \quad \ell_i = \lambda T^2
        \mathrm{KL}(p^{i-1} \| p^i) + (1 - \lambda)(-\log p^i_y)

    with the sub-network before, in the same step, as a constant teacher.

    Args:
      logits_list: [..., C] each, from the most bits to the fewest.
      labels: ints in ``[0, C)``, [...].
      weight: lambda, in [0, 1].
      temperature: T, positive, of the divergence.

    Returns:
      A list of [...], whose gradients are added up.

    Raises:
      ValueError: an empty list, shapes that differ, a label out of range (NaN under
        ``jit``), ``weight`` outside [0, 1] or a temperature that is not positive.

    Source: EQ-Net, Xu et al. 2023, arXiv:2308.07650.

    >>> high, low = jnp.float32([99, 0]), jnp.float32([0, 0])
    >>> progressive_guidance_loss([high, low], 0)[1]
    Array(0.6931472, dtype=float32)
    """
    checked("weight", weight, lambda w: (w >= 0) & (w <= 1), "a number in [0, 1]")
    if not logits_list:
        raise ValueError("logits_list is empty, expected logits")
    losses = [numerics.label_nll(logits_list[0], labels)]
    for teacher, student in zip(logits_list, logits_list[1:], strict=False):
        guidance = kd(student, teacher, temperature=temperature)
        own = numerics.label_nll(student, labels)
        losses.append(weight * guidance + (1 - weight) * own)
    return losses


def fake_quantize(
    x: ArrayLike,
    *,
    bits: int,
    symmetric: bool = True,
    channel_axis: int | None = None,
    step: ArrayLike | None = None,
) -> jax.Array:
    r"""Values on a uniform grid, with the gradient of the identity within its ends.

    .. math:: s (\mathrm{clip}(\mathrm{round}(x / s) + o, -2^{b-1}, 2^{b-1} - 1) - o)

    with the step s from the largest magnitude and o = 0, or, not symmetric, from the
    smallest and the largest value. The symmetric default never takes its lowest place,
    a loss where bits are few: :math:`s = 2 \max |x| / (2^b - 1)` takes them all.

    Args:
      x: weights or activations.
      bits: b, from 2 to 16.
      symmetric: whether 0 is the middle of the grid.
      channel_axis: an axis with a grid for each entry; by default one for all.
      step: s, positive, one or broadcastable to ``x``, instead.

    Returns:
      The dtype of ``x``, 16-bit types widened; the grid is a constant for the gradient.

    Raises:
      TypeError: ``x`` is not floating point.
      ValueError: ``bits`` is out of range, or ``step`` is not positive.

    Source: EQ-Net, Xu et al. 2023, arXiv:2308.07650.

    >>> print(fake_quantize(jnp.float32([-3, -1, 0.4, 3]), bits=2))
    [-3.  0.  0.  3.]
    """
    if not 2 <= bits <= 16:
        raise ValueError(f"bits is {bits}, expected 2 to 16")
    x = numerics.promote(x, "x")
    low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    axes = None
    if channel_axis is not None:
        axes = tuple(a for a in range(x.ndim) if a != channel_axis % x.ndim)
    fixed = jax.lax.stop_gradient(x)
    bottom = jnp.min(fixed, axes, keepdims=True)
    top = jnp.max(fixed, axes, keepdims=True)
    if step is not None:
        checked("step", step, lambda s: s > 0, "positive")
        step = jax.lax.stop_gradient(jnp.asarray(step, x.dtype))
    elif symmetric:
        step = jnp.maximum(top, -bottom) / high
    else:
        step = (jnp.maximum(top, 0) - jnp.minimum(bottom, 0)) / (high - low)
    step = jnp.where(step > 0, step, 1)
    offset = 0 if symmetric else low - jnp.round(jnp.minimum(bottom, 0) / step)
    place = jnp.round(fixed / step) + offset
    inside = (place >= low) & (place <= high)
    value = step * (jnp.clip(place, low, high) - offset)
    return value + jnp.where(inside, x - fixed, 0)  # 0, with the slope of x


def _standardised(w):
    """Weights without mean, over their deviation; zeros where they are all equal."""
    w = numerics.promote(w, "params").ravel()
    if w.size < 2:
        return jnp.zeros_like(w)
    d = w - jnp.mean(w)
    square = jnp.sum(d * d) / (w.size - 1)
    some = square > 0
    return jnp.where(some, d / jnp.sqrt(jnp.where(some, square, 1)), 0)
