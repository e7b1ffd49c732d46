"""Logits of several language models in one: by differences, and by matched KL."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, check_range, hyper, per_row

__all__ = [
    "LogitFusion",
    "argmax_override",
    "dynamic_logit_fusion",
    "kl_matched_alpha",
    "proxy_logits",
]


class LogitFusion(NamedTuple):
    """Fused logits and the weights of the experts in them.

    Attributes:
      logits: [..., C].
      alphas: [T, ...], one weight for each expert.
    """

    logits: jax.Array
    alphas: jax.Array


def proxy_logits(
    logits: ArrayLike,
    guider_logits: ArrayLike,
    base_logits: ArrayLike,
    *,
    alpha: ArrayLike = 1.0,
    token_map: ArrayLike | None = None,
    max_delta: ArrayLike | None = None,
    raw: bool = False,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Logits of a large model moved by what tuning did to a small one.

    Use it at decoding time to steer a model that is too large to be tuned, by a small
    one before and after its tuning (proxy tuning). It is a product of distributions:

    .. math:: p \propto p_T \, (p_G / p_B)^\alpha

    Where only the guider hides a token, it is hidden; where only its base hides it, or
    both do, the base cannot judge, and the target's logit stays.

    Shapes: logits [..., C], guider_logits [..., C], base_logits [..., C], where [..., C] -> [..., C]

    Args:
      logits: of the target, z_T; ``-inf`` is the same as ``where=False``.
      guider_logits: of the small tuned model, z_G, in the same context.
      base_logits: of the small model before tuning, z_B.
      alpha: strength, a number or one for each row; at 0 the target's logits come
        back bit by bit, whatever the others hold.
      token_map: the guider's id of each class of the target, negative for none. It is
        needed where vocabularies differ: tokens without a counterpart keep their
        logits and, together, their probability. For one tokenizer and padded heads it
        is ``arange`` followed by -1.
      max_delta: bound of the magnitude of z_G - z_B; with it a token that only the
        base hides gains that much.
      raw: add differences of raw logits, as the released code does. It matters only
        where some tokens have no counterpart: then offsets of whole rows count.
      axis: the class axis.
      where: bool, the target's classes that take part.

    Returns:
      float32 (float64 for float64 logits), ``-inf`` at hidden classes.

    Raises:
      TypeError: an array is not floating point, or ``token_map`` not of integers.
      ValueError: vocabularies differ and there is no ``token_map``, it reaches beyond
        the guider's or has another length, leading axes or ``alpha`` are of another
        batch, or ``max_delta`` is not positive.

    Numerics: relative error below 1e-5 of the largest entry.

    Source: proxy tuning as Think Logit has it, Zhang et al. 2025, arXiv:2510.09354;
      DExperts, Liu et al. 2021, arXiv:2105.03023. That tokens without a counterpart
      keep their probability is ours: the released code lets offsets decide it.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import proxy_logits
    >>> z = proxy_logits(jnp.zeros(2), jnp.log(jnp.float32([3, 1])), jnp.zeros(2))
    >>> jax.nn.softmax(z).round(4)
    Array([0.75, 0.25], dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    alpha = per_row("alpha", alpha, z)
    off = alpha == 0
    g, b = (
        numerics.prepare_logits(a, axis=axis, name=name).astype(z.dtype)
        for a, name in ((guider_logits, "guider_logits"), (base_logits, "base_logits"))
    )
    for a, name in ((g, "guider_logits"), (b, "base_logits")):
        if a.shape[:-1] != z.shape[:-1]:
            raise ValueError(
                f"{name} has shape {a.shape}, expected the leading axes of logits, "
                f"{z.shape[:-1]}"
            )
    if token_map is None:
        _check_vocabularies(z, g, b)
        shared = None
        g, b = (jnp.where(off, 0, a) for a in (g, b))  # NaN at alpha 0 has no gradient
        if not raw:
            g, b = _from_top(g), _from_top(b)
    else:
        size = min(g.shape[-1], b.shape[-1])
        ids, shared = _token_map(token_map, z.shape[-1], size)
        g, b = (jnp.where(off, 0, a[..., :size]) for a in (g, b))
        g, b = (_take(a, ids, shared) for a in (g, b))
    delta = _delta(g, b, max_delta)
    shift = _scaled(alpha, delta)
    fused = jnp.where(z == -jnp.inf, -jnp.inf, z + jnp.where(off, 0, shift))
    if shared is not None and not raw:
        fused = _keep_mass(z, fused, shared)
    return jnp.moveaxis(jnp.where(off, z, fused), -1, axis)


def _check_vocabularies(z, g, b):
    for a, name in ((g, "guider_logits"), (b, "base_logits")):
        if a.shape[-1] != z.shape[-1]:
            raise ValueError(
                f"{name} has {a.shape[-1]} classes and logits {z.shape[-1]}: expected "
                "a token_map, the guider's id of each class of logits, negative for "
                "none"
            )


def _token_map(token_map, classes, size):
    ids = numerics.wide_labels(token_map, "token_map")
    if ids.shape != (classes,):
        raise ValueError(f"token_map has shape {ids.shape}, expected ({classes},)")
    if not isinstance(token_map, jax.core.Tracer):
        known = np.asarray(token_map)
        if (known >= size).any():
            raise ValueError(
                f"token_map reaches {known.max()}, expected ids below {size}, the "
                "guider's classes"
            )
    shared = (ids >= 0) & (ids < size)
    return jnp.where(shared, ids, 0), shared


def _take(a, ids, shared):
    return jnp.where(_row(shared, a), jnp.take(a, ids, axis=-1), -jnp.inf)


def _row(a, like):
    """A row with the leading axes of ``like``, of size 1."""
    return a.reshape((1,) * (like.ndim - 1) + a.shape)


def _from_top(a):
    """Logits from their largest on, in which small differences keep their digits."""
    top = jnp.max(a, -1, keepdims=True)
    return a - jnp.where(top == -jnp.inf, 0, top)


def _delta(g, b, max_delta):
    """``g - b`` where both are there, ``-inf`` where only g hides, 0 where b does."""
    base_hides = b == -jnp.inf
    guider_hides = g == -jnp.inf
    both = jnp.where(guider_hides | base_hides, 0, g) - jnp.where(
        guider_hides | base_hides, 0, b
    )
    only_base = 0.0
    if max_delta is not None:
        bound = hyper("max_delta", max_delta, g.dtype, lambda d: d > 0, "positive")
        both, only_base = jnp.clip(both, -bound, bound), bound
    delta = jnp.where(base_hides & ~guider_hides, only_base, both)
    return jnp.where(guider_hides & ~base_hides, -jnp.inf, delta)


def _scaled(alpha, delta):
    """``alpha * delta``; hidden for a positive alpha, as it was for a negative one."""
    hidden = delta == -jnp.inf
    away = jnp.where(alpha > 0, -jnp.inf, 0)
    return jnp.where(hidden, away, alpha * jnp.where(hidden, 0, delta))


def _keep_mass(z, fused, shared):
    """Shifts the shared tokens of ``fused`` so that they have the mass that z gave."""
    shared = _row(shared, z)
    before, after = (
        numerics.logsumexp(jnp.where(shared, a, -jnp.inf))[..., None]
        for a in (z, fused)
    )
    known = (before > -jnp.inf) & (after > -jnp.inf)
    shift = jnp.where(known, before, 0) - jnp.where(known, after, 0)
    return jnp.where(shared, fused + shift, fused)


def argmax_override(
    logits: ArrayLike,
    fused_logits: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Whether fusion changes the most likely token.

    Use it to see where a guider matters; the schedule ``"override_annealing"`` of
    ``alpha_schedule`` steps back there. Ties go to the lowest id.

    Shapes: logits [..., C], fused_logits [..., C], where [..., C] -> [...]

    Returns:
      bool.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ.

    Source: Think Logit, Zhang et al. 2025, arXiv:2510.09354.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import argmax_override
    >>> argmax_override(jnp.float32([1, 0]), jnp.float32([1, 2]))
    Array(True, dtype=bool)
    """
    z, fused = (
        numerics.prepare_logits(a, axis=axis, where=where, name=name)
        for a, name in ((logits, "logits"), (fused_logits, "fused_logits"))
    )
    if z.shape != fused.shape:
        raise ValueError(
            f"fused_logits has shape {jnp.shape(fused_logits)}, expected that of "
            f"logits, {jnp.shape(logits)}"
        )
    return jnp.argmax(z, -1) != jnp.argmax(fused, -1)


def kl_matched_alpha(
    logits: ArrayLike,
    delta: ArrayLike,
    target_kl: ArrayLike,
    *,
    alpha_max: ArrayLike = 2.0,
    num_steps: int = 30,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""How far to go in a direction of logits, for a given divergence.

    Use it to move a large model exactly as far as tuning moved a small one.

    .. math:: \mathrm{KL}(\mathrm{softmax}(z + \alpha d) \,\|\, \mathrm{softmax}(z))
        = \kappa

    The left side is 0 at 0 and rises, with slope :math:`\alpha` times the variance of
    d; bisection solves the equation in [0, alpha_max] and returns the upper end where
    even that falls short. It is 0 where d is constant. Without a gradient.

    Shapes: logits [..., C], delta [..., C], target_kl [...], where [..., C] -> [...]

    Args:
      logits: z; ``-inf`` is the same as ``where=False``.
      delta: d, finite or ``-inf``, which hides a token for any positive weight.
      target_kl: kappa in nats, a number or one for each row; not above 0 means 0.
      alpha_max: upper end.
      num_steps: halvings of the interval.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      float32 (float64 for float64 logits); 1 wherever that solves it to the last bit.

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, ``alpha_max`` is not positive, or ``num_steps``
        below 1.

    Numerics: 30 steps leave 2e-9 of ``alpha_max``; in float32 rounding of the
      divergence adds about 1e-7.

    Source: Dynamic Logits Fusion, Fan et al. 2024, arXiv:2406.15480; its code is not
      public, and the rule for one expert follows the abstract.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import kl_matched_alpha
    >>> z, d = jnp.float32([0, 0]), jnp.float32([1, 0])
    >>> print(f"{kl_matched_alpha(z, d, 0.1):.4f}")
    0.9434
    """
    check_count("num_steps", num_steps)
    z, d = _pair(logits, delta, axis, where)
    high = hyper("alpha_max", alpha_max, z.dtype, lambda a: a > 0, "positive")
    target = per_row("target_kl", target_kl, z)[..., 0]
    return _matched(
        jax.lax.stop_gradient(z),
        jax.lax.stop_gradient(d),
        jax.lax.stop_gradient(target),
        jnp.broadcast_to(jax.lax.stop_gradient(high), z.shape[:-1]),
        num_steps,
    )


def _pair(logits, delta, axis, where):
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    d = numerics.prepare_logits(delta, axis=axis, name="delta").astype(z.dtype)
    if d.shape != z.shape:
        raise ValueError(
            f"delta has shape {jnp.shape(delta)}, expected that of logits, "
            f"{jnp.shape(logits)}"
        )
    return z, jnp.where(z == -jnp.inf, 0, d)


def _matched(z, d, target, high, num_steps):
    def step(_, ends):
        low, high = ends
        middle = (low + high) / 2
        short = _moved_kl(z, d, middle) < target
        return jnp.where(short, middle, low), jnp.where(short, high, middle)

    # A direction of one value goes nowhere, but for rounding.
    shown = (z > -jnp.inf) & (d > -jnp.inf)
    most = jnp.max(jnp.where(shown, d, -jnp.inf), -1)
    least = jnp.min(jnp.where(shown, d, jnp.inf), -1)
    moves = (most > least) | jnp.any((z > -jnp.inf) & ~shown, -1)
    low, top = jax.lax.fori_loop(0, num_steps, step, (high * 0, high))
    root, one = (low + top) / 2, jnp.minimum(high, 1)
    # Of confident rows the divergence does not rise any more: all weights that solve
    # it are as good, and 1 is one of them if both models are equal.
    root = jnp.where(_moved_kl(z, d, one) == target, one, root)
    root = jnp.where(_moved_kl(z, d, high) < target, high, root)
    return jnp.where(moves & (target > 0), root, 0)


def _moved_kl(z, d, alpha):
    """Divergence of ``z + alpha d`` from z."""
    log_p = numerics.log_softmax(z)
    log_moved = numerics.log_softmax(z + _scaled(alpha[..., None], d))
    u = jnp.where(log_p > -jnp.inf, log_p, 0) - jnp.where(
        log_moved > -jnp.inf, log_moved, 0
    )
    u = jnp.where((log_p > -jnp.inf) & (log_moved > -jnp.inf), u, jnp.inf)
    p, moved = jnp.exp(log_p), jnp.exp(log_moved)
    return jnp.sum(jnp.where(log_p > -jnp.inf, numerics.terms(moved, p, u), 0), -1)


def dynamic_logit_fusion(
    logits: ArrayLike,
    base_logits: ArrayLike,
    expert_logits: ArrayLike,
    *,
    alpha_max: ArrayLike = 2.0,
    num_steps: int = 30,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> LogitFusion:
    r"""Logits of a large model moved as far as tuning moved several small ones.

    Use it in the place of ``proxy_logits`` where the strength should follow the context
    and where experts should share it. At each row

    .. math:: z_L + \sum_t a_t (z_t - z_S), \quad a_t = c \, w_t r_t, \quad
        w_t = \kappa_t / \sum_s \kappa_s, \quad
        \kappa_t = \mathrm{KL}(\mathrm{softmax}\, z_t \,\|\, \mathrm{softmax}\, z_S)

    with r_t of ``kl_matched_alpha`` for :math:`\kappa_t` alone, and c such that the
    whole moves the large model by :math:`\sum_t w_t \kappa_t`, at most twice the
    mixture and no weight above ``alpha_max``. If the large model is the small one, a
    single expert has weight 1. An expert that is the small model has weight 0, and if
    all are, the large model's logits come back bit by bit. Weights have no gradient;
    ``-inf`` counts as in ``proxy_logits``.

    Shapes: logits [..., C], base_logits [..., C], expert_logits [T, ..., C], where [..., C] -> [..., C], [T, ...]

    Args:
      logits: of the large model, z_L.
      base_logits: of the small model before tuning, z_S.
      expert_logits: of the tuned small models, z_t, stacked in front.
      alpha_max: largest weight.
      num_steps: halvings of each bisection.
      axis: the class axis of ``logits``, and of each expert's.
      where: bool, the classes that take part.

    Returns:
      A ``LogitFusion``.

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes disagree, there is no expert, ``alpha_max`` is not
        positive, or ``num_steps`` below 1.

    Numerics: the weight of the expert of an equal model is 1 to 1e-6.

    Source: Dynamic Logits Fusion, Fan et al. 2024, arXiv:2406.15480. How several
      experts share is inferred: the paper optimizes all weights jointly, and its code
      is not public.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import dynamic_logit_fusion
    >>> z, expert = jnp.float32([0, 1]), jnp.float32([2, 0])
    >>> dynamic_logit_fusion(z, z, expert[None]).alphas.round(4)
    Array([1.], dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    check_count("num_steps", num_steps)
    check_range("alpha_max", alpha_max, lambda a: a > 0, "positive")
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    shape, stacked = np.shape(logits), np.shape(expert_logits)
    if np.shape(base_logits) != shape:
        raise ValueError(
            f"base_logits has shape {np.shape(base_logits)}, expected that of logits, "
            f"{shape}"
        )
    if stacked[1:] != shape or not stacked or stacked[0] == 0:
        raise ValueError(
            f"expert_logits has shape {stacked}, expected (experts, *{shape})"
        )
    last = axis if axis < 0 else axis + 1
    base = numerics.prepare_logits(
        base_logits, axis=axis, where=where, name="base_logits"
    )
    experts = numerics.prepare_logits(
        expert_logits,
        axis=last,
        where=None if where is None else jnp.asarray(where)[None],
        name="expert_logits",
    )
    base, experts = (_from_top(a.astype(z.dtype)) for a in (base, experts))
    deltas = jnp.where(
        (z == -jnp.inf)[None],
        0,
        _delta(experts, jnp.broadcast_to(base[None], experts.shape), None),
    )
    alphas = _shared_weights(
        *(jax.lax.stop_gradient(a) for a in (_from_top(z), base, deltas)),
        alpha_max=jnp.asarray(alpha_max, z.dtype),
        num_steps=num_steps,
    )
    moved = z + _mixture(alphas, deltas)
    still = jnp.all(alphas == 0, 0)[..., None] | (z == -jnp.inf)
    fused = jnp.where(still, z, moved)
    return LogitFusion(jnp.moveaxis(fused, -1, axis), alphas)


def _shared_weights(z, base, deltas, *, alpha_max, num_steps):
    """Weights [T, ...] that move z by the mean divergence of the experts."""
    high = jnp.broadcast_to(alpha_max, z.shape[:-1])
    one = jnp.ones_like(high)
    kappas = jax.lax.map(lambda d: _moved_kl(base, d, one), deltas)
    roots = jax.lax.map(
        lambda pair: _matched(z, *pair, high, num_steps), (deltas, kappas)
    )
    total = jnp.sum(kappas, 0)
    some = total > 0
    weights = jnp.where(some[None], kappas, 0) / jnp.where(some, total, 1)[None]
    alphas = weights * roots
    if len(deltas) == 1:  # no factor to find
        return jnp.where(some[None], alphas, 0)
    largest = jnp.max(alphas, 0)
    moves = some & (largest > 0)
    factor_max = jnp.minimum(2, high / jnp.where(moves, largest, 1))
    target = jnp.sum(weights * kappas, 0)

    def step(_, ends):
        low, high = ends
        middle = (low + high) / 2
        moved = _moved_kl(z, _mixture(middle[None] * alphas, deltas), one)
        short = moved < target
        return jnp.where(short, middle, low), jnp.where(short, high, middle)

    low, high = jax.lax.fori_loop(0, num_steps, step, (factor_max * 0, factor_max))
    return jnp.where(moves[None], ((low + high) / 2)[None] * alphas, 0)


def _mixture(alphas, deltas):
    return jnp.sum(_scaled(alphas[..., None], deltas), 0)
