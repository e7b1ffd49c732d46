"""Do margin losses move chosen and rejected answers apart, or both the same way?"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics

__all__ = [
    "entanglement_diagnostics",
    "margin_coefficients",
    "pairwise_normalized_gradient",
]


def margin_coefficients(
    loss: Callable[..., jax.Array],
    chosen_logps: ArrayLike,
    rejected_logps: ArrayLike,
    *args: ArrayLike,
    **hyper: Any,
) -> tuple[jax.Array, jax.Array]:
    r"""Derivatives of a margin loss in the two answers' log-probabilities.

    .. math:: d_w = -\frac{\partial \ell}{\partial \log \pi(y_w)}, \quad
        d_l = \frac{\partial \ell}{\partial \log \pi(y_l)}

    so that the negative gradient is :math:`d_w g_w - d_l g_l` with g the gradients of
    the two log-probabilities.

    Args:
      loss: any loss of pairs, such as ``losses.dpo_loss``:
        ``(chosen, rejected, *args)`` -> one number per pair.
      chosen_logps: [...], log-probabilities of the chosen answers.
      rejected_logps: [...], the same of the rejected ones.
      *args: more arguments of the loss, the reference's log-probabilities.
      **hyper: its hyper-parameters.

    Returns:
      d_w and d_l, [...].

    Raises:
      ValueError: what the loss raises.

    Source: Yuan et al. 2024, arXiv:2410.13828.

    >>> import jax.numpy as jnp
    >>> from logitlab.theory import margin_coefficients
    >>> from logitlab import losses
    >>> zero = jnp.zeros(1)
    >>> margin_coefficients(losses.dpo_loss, zero, zero, zero, zero, beta=1.0)
    (Array([0.5], dtype=float32), Array([0.5], dtype=float32))
    """
    values, pull = jax.vjp(
        lambda chosen, rejected: loss(chosen, rejected, *args, **hyper),
        jnp.asarray(chosen_logps),
        jnp.asarray(rejected_logps),
    )
    by_chosen, by_rejected = pull(jnp.ones_like(values))
    return -by_chosen, by_rejected


def entanglement_diagnostics(
    grad_chosen: Any,
    grad_rejected: Any,
    d_w: ArrayLike = 1.0,
    d_l: ArrayLike = 1.0,
) -> dict[str, jax.Array]:
    r"""First-order change of both answers' log-probabilities after a step.

    .. math:: \Delta \log \pi(y_w) \approx \eta (d_w \|g_w\|^2
        - d_l \langle g_w, g_l \rangle), \quad
        \Delta \log \pi(y_l) \approx \eta (d_w \langle g_w, g_l \rangle
        - d_l \|g_l\|^2)

    Args:
      grad_chosen: g_w, gradients of the chosen answer's log-probability, a tree.
      grad_rejected: g_l, the same of the rejected answer's.
      d_w: of :func:`margin_coefficients`.
      d_l: the same.

    Returns:
      ``inner``, ``cosine``, ``norm_chosen``, ``norm_rejected``; ``ratio``, the inner
      product over the smaller squared norm, which means trouble above 1 (for
      ``d_w = d_l``), both 0 where a gradient is; ``chosen_change`` and
      ``rejected_change`` for a step of size 1, to first order; and whether
      ``chosen_rises`` and ``rejected_falls``.

    Raises:
      ValueError: the trees differ.

    Source: Yuan et al. 2024, arXiv:2410.13828. Its code takes the chosen norm twice for
      the ratio.

    >>> import jax.numpy as jnp
    >>> from logitlab.theory import entanglement_diagnostics
    >>> found = entanglement_diagnostics(jnp.array([1.0, 1]), jnp.array([2.0, 0]))
    >>> print(found["ratio"], found["chosen_rises"], found["rejected_falls"])
    1.0 False True
    """
    inner = _inner(grad_chosen, grad_rejected)
    chosen, rejected = (_inner(g, g) for g in (grad_chosen, grad_rejected))
    norms = jnp.sqrt(chosen), jnp.sqrt(rejected)
    d_w, d_l = (jnp.asarray(d).astype(inner.dtype) for d in (d_w, d_l))
    up = d_w * chosen - d_l * inner
    down = d_w * inner - d_l * rejected
    return {
        "inner": inner,
        "cosine": _over(_over(inner, norms[0]), norms[1]),
        "norm_chosen": norms[0],
        "norm_rejected": norms[1],
        "ratio": _over(inner, jnp.minimum(chosen, rejected)),
        "chosen_change": up,
        "rejected_change": down,
        "chosen_rises": up > 0,
        "rejected_falls": down < 0,
    }


def pairwise_normalized_gradient(
    grad_fn: Callable[[Any, Any], tuple[Any, Any]],
    params: Any,
    pairs: Any,
    coeff: tuple[ArrayLike, ArrayLike],
) -> Any:
    r"""Gradient in which both answers of a pair have unit-norm gradients.

    .. math:: -\frac{1}{B} \sum_i \Bigl(d_{w,i} \frac{g_{w,i}}{\|g_{w,i}\|}
        - d_{l,i} \frac{g_{l,i}}{\|g_{l,i}\|}\Bigr)

    For one pair with :math:`d_w = d_l` the chosen answer rises and the rejected one
    falls to first order, by Cauchy and Schwarz.

    Args:
      grad_fn: (params, pair) -> the gradients of both log-probabilities, that of the
        chosen answer first, trees like ``params``.
      params: where.
      pairs: a tree of arrays [B, ...].
      coeff: d_w and d_l, [B], of :func:`margin_coefficients`.

    Returns:
      A tree like ``params``. Pairs are taken one after the other: memory for one.

    Raises:
      ValueError: the coefficients are not one for each pair, or there are no pairs.

    Source: Yuan et al. 2024, arXiv:2410.13828.

    >>> import jax.numpy as jnp
    >>> from logitlab.theory import pairwise_normalized_gradient
    >>> grads = lambda params, pair: (pair["chosen"], pair["rejected"])
    >>> some = {"chosen": jnp.array([[3.0, 0]]), "rejected": jnp.array([[0, 5.0]])}
    >>> print(pairwise_normalized_gradient(grads, jnp.zeros(2), some, ([1.0], [1.0])))
    [-1.  1.]
    """
    sizes = {jnp.shape(leaf)[:1] for leaf in jax.tree.leaves(pairs)}
    d_w, d_l = map(jnp.asarray, coeff)
    if len(sizes) != 1 or () in sizes or (0,) in sizes:
        raise ValueError(f"pairs has leading axes {sorted(sizes)}, expected one (B,)")
    (size,) = sizes
    for name, d in (("d_w", d_w), ("d_l", d_l)):
        if d.shape != size:
            raise ValueError(f"coeff has {name} of shape {d.shape}, expected {size}")

    def add(total, one):
        pair, up, down = one
        chosen, rejected = grad_fn(params, pair)
        up = _over(up, jnp.sqrt(_inner(chosen, chosen)))
        down = _over(down, jnp.sqrt(_inner(rejected, rejected)))

        def move(before, good, bad):
            return before - ((up * good - down * bad) / size[0]).astype(before.dtype)

        return jax.tree.map(move, total, chosen, rejected), None

    start = jax.tree.map(jnp.zeros_like, params)
    return jax.lax.scan(add, start, (pairs, d_w, d_l))[0]


def _inner(a, b):
    """Inner product of two trees, of 16-bit leaves in float32."""

    def product(a, b):
        return jnp.vdot(
            numerics.promote_to_float32(a, "gradient"),
            numerics.promote_to_float32(b, "gradient"),
        )

    return sum(jax.tree.leaves(jax.tree.map(product, a, b)))


def _over(x, size):
    """A quotient that is 0 where there is nothing to divide by."""
    return jnp.where(size > 0, x / jnp.where(size > 0, size, 1), 0)
