"""Processors that hold other models: guiders, experts, styles, and when they speak."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, check_range
from logitlab.transforms.decoding import Processor, chain, processor
from logitlab.transforms.fusion import (
    argmax_override,
    dynamic_logit_fusion,
    proxy_logits,
)
from logitlab.transforms.ngrams import (
    NgramPrior,
    ngram_log_probs,
    ngram_prior_logits,
)
from logitlab.transforms.penalties import (
    Progress,
    advance,
    begin_progress,
    fold_tokens,
)

__all__ = [
    "AlphaSchedule",
    "alpha_schedule",
    "fuse_experts",
    "guide",
    "guide_classifier_free",
    "ngram_prior",
]

_KINDS = (
    "constant",
    "warmup",
    "cycle",
    "two_cycles",
    "random",
    "override_annealing",
    "ppt",
)


class AlphaSchedule(NamedTuple):
    """When a guider speaks, step by step.

    Attributes:
      init: how many rows -> state, arrays [B].
      alpha: ``(state, tokens [B, T], *, key=None) -> (alpha [B], state)``, with the
        tokens added since the last call.
      note: (state, bool [B]) -> state, after it is known whether the guider changed the
        likeliest token.
    """

    init: Callable[[int], Any]
    alpha: Callable[..., tuple[jax.Array, Any]]
    note: Callable[[Any, jax.Array], Any]


class _Phase(NamedTuple):
    progress: Progress  # since the beginning, or since the guider was last turned off
    thoughts: jax.Array  # int32 [B], thinking tokens so far
    on: jax.Array  # bool [B]


def alpha_schedule(
    kind: str = "warmup",
    *,
    alpha: ArrayLike = 1.0,
    warmup: int = 100,
    period: int = 100,
    off: int = 400,
    on: int = 100,
    probability: ArrayLike = 0.5,
    thinking_tokens: ArrayLike | None = None,
    most_thoughts: int = 3,
) -> AlphaSchedule:
    """Strength of a guider over the steps of a text, 0 or ``alpha``.

    Use it for ``guide``. Steps count the tokens that were generated; those of the
    first call are the prompt.

    Args:
      kind: ``"constant"``; ``"warmup"``, off for the first steps, after which the
        released results are named; ``"cycle"``, off and on in turns of ``period``;
        ``"two_cycles"``, ``off`` steps off and ``on`` steps on; ``"random"``, on with
        a probability; ``"override_annealing"``, as a warm-up that begins anew once the
        guider has changed the likeliest token; ``"ppt"``, on until more than
        ``most_thoughts`` thinking tokens were generated.
      alpha: strength when on.
      warmup: steps.
      period: steps.
      off: steps.
      on: steps.
      probability: in [0, 1].
      thinking_tokens: ids of "Wait", "Hmm" and the like, for ``"ppt"``.
      most_thoughts: of them, after which the guider falls silent.

    Returns:
      An ``AlphaSchedule``.

    Raises:
      ValueError: an unknown kind, a number of steps below 1 (of ``warmup`` and
        ``most_thoughts`` below 0), a probability outside [0, 1], or no thinking tokens.

    Source: Think Logit, Zhang et al. 2025, arXiv:2510.09354. That the token at which
      annealing steps back is still the guider's is inferred.

    >>> import jax.numpy as jnp
    >>> from logitlab.transforms import alpha_schedule
    >>> late = alpha_schedule("warmup", warmup=1)
    >>> alpha, state = late.alpha(late.init(1), jnp.array([[3, 5]]))  # the prompt
    >>> alpha, late.alpha(state, jnp.array([[4]]))[0]
    (Array([0.], dtype=float32), Array([1.], dtype=float32))
    """
    if kind not in _KINDS:
        raise ValueError(f"kind is {kind!r}, expected one of {_KINDS}")
    for name, value, least in (
        ("warmup", warmup, 0),
        ("period", period, 1),
        ("off", off, 1),
        ("on", on, 1),
        ("most_thoughts", most_thoughts, 0),
    ):
        check_count(name, value, least)
    check_range("probability", probability, lambda p: (p >= 0) & (p <= 1), "in [0, 1]")
    if kind == "ppt" and (thinking_tokens is None or np.size(thinking_tokens) == 0):
        raise ValueError("thinking_tokens is empty, expected ids for the kind 'ppt'")

    def init(batch):
        check_count("batch", batch)
        return _Phase(
            begin_progress(batch), jnp.zeros(batch, jnp.int32), jnp.zeros(batch, bool)
        )

    def at(state, tokens, *, key=None):
        progress = advance(state.progress, tokens)
        thoughts, step = state.thoughts, progress.step
        if kind == "ppt":
            ids = numerics.wide_labels(thinking_tokens, "thinking_tokens").reshape(-1)
            hits = jnp.any(tokens[..., None] == ids[None, None], -1)
            new = jnp.sum(hits & (tokens >= 0), -1, dtype=jnp.int32)
            thoughts += jnp.where(state.progress.begun, new, 0)
            now = thoughts <= most_thoughts
        elif kind == "random":
            if key is None:
                raise ValueError("key is None, expected one for the kind 'random'")
            now = jax.random.bernoulli(key, probability, step.shape)
        else:
            now = {
                "constant": step >= 0,
                "warmup": step >= warmup,
                "override_annealing": step >= warmup,
                "cycle": step // period % 2 == 1,
                "two_cycles": step % (off + on) >= off,
            }[kind]
        strength = jnp.asarray(alpha, jnp.float32)
        return jnp.where(now, strength, 0.0), _Phase(progress, thoughts, now)

    def note(state, overridden):
        if kind != "override_annealing":
            return state
        step = jnp.where(state.on & overridden, -1, state.progress.step)
        return state._replace(progress=state.progress._replace(step=step))

    return AlphaSchedule(init, at, note)


def guide(
    guider: Processor,
    base: Processor,
    *,
    alpha: ArrayLike | AlphaSchedule = 1.0,
    token_map: ArrayLike | None = None,
    unknown: int = -1,
    max_delta: ArrayLike | None = None,
    raw: bool = False,
) -> Processor:
    """Logits moved by what distinguishes two other models, which it runs along.

    Use it for proxy tuning: see ``proxy_logits`` for the formula.

    Args:
      guider: a model, as a ``Processor`` that returns its own logits.
      base: the same before its tuning.
      alpha: strength, a number, one for each row, or an ``alpha_schedule``.
      token_map: the guider's id of each token, negative for none, if vocabularies
        differ; both models then read the tokens by it.
      unknown: what they read for a token without a counterpart; -1 for nothing.
      max_delta: see ``proxy_logits``.
      raw: see ``proxy_logits``.

    Raises:
      ValueError: vocabularies or batches that do not fit.

    Source: Think Logit, Zhang et al. 2025, arXiv:2510.09354.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> def model(*z):
    ...     rows = lambda batch: jnp.zeros((batch, 0))
    ...     own = lambda logits, tokens, state, *, key=None: (jnp.float32([z]), state)
    ...     return transforms.Processor(rows, own)
    >>> guided = transforms.guide(model(2, 0), model(1, 0))
    >>> guided.apply(jnp.zeros((1, 2)), jnp.array([[0]]), guided.init(1))[0]
    Array([[ 0., -1.]], dtype=float32)
    """
    schedule = alpha if isinstance(alpha, AlphaSchedule) else None

    def init(batch):
        own = () if schedule is None else schedule.init(batch)
        return jnp.zeros((batch, 0)), guider.init(batch), base.init(batch), own

    def step(z, tokens, state, key):
        rows, guider_state, base_state, own = state
        keys = [None] * 3 if key is None else jax.random.split(key, 3)
        read = tokens
        if token_map is not None:
            ids = numerics.wide_labels(token_map, "token_map")
            if ids.shape != z.shape[1:]:
                raise ValueError(
                    f"token_map has shape {ids.shape}, expected {z.shape[1:]}"
                )
            ids = jnp.where(ids >= 0, ids, unknown)
            read = jnp.where(tokens >= 0, ids[jnp.maximum(tokens, 0)], -1)
        g, guider_state = guider.apply(z, read, guider_state, key=keys[0])
        b, base_state = base.apply(z, read, base_state, key=keys[1])
        strength = alpha
        if schedule is not None:
            strength, own = schedule.alpha(own, tokens, key=keys[2])
        fused = proxy_logits(
            z,
            g,
            b,
            alpha=strength,
            token_map=token_map,
            max_delta=max_delta,
            raw=raw,
        )
        if schedule is not None:
            own = schedule.note(own, argmax_override(z, fused))
        return fused, (rows, guider_state, base_state, own)

    return processor(init, step)


def guide_classifier_free(unconditional: Processor, *, scale: ArrayLike) -> Processor:
    r"""Classifier-free guidance: logits that follow their prompt more closely.

    .. math:: u_v + \kappa (z_v - u_v)

    on log-probabilities, with u of the same model without the prompt. A scale of 1
    returns the logits bit by bit; where only u hides a token, its logit stays.

    Args:
      unconditional: the model without the prompt, as a ``Processor`` that returns its
        own logits; the first call brings the prompt, which it should overlook.
      scale: kappa, a number or one for each row.

    Source: Sanchez et al. 2023, arXiv:2306.17806.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> even = transforms.Processor(
    ...     lambda batch: jnp.zeros((batch, 0)), lambda z, t, s, *, key=None: (0 * z, s)
    ... )
    >>> guided = transforms.guide_classifier_free(even, scale=2.0)
    >>> z, none = jnp.float32([[0, -1]]), jnp.array([[-1]])
    >>> guided.apply(z, none, guided.init(1))[0]
    Array([[ 0., -2.]], dtype=float32)
    """
    return guide(chain(), unconditional, alpha=jnp.asarray(scale) - 1.0)


def fuse_experts(
    base: Processor, experts: Sequence[Processor], *, alpha_max: ArrayLike = 2.0
) -> Processor:
    """Logits moved as far as tuning moved small models, which it runs along.

    Use it in the place of ``guide`` where the strength should follow the context: see
    ``dynamic_logit_fusion``.

    Args:
      base: the small model before tuning, as a ``Processor`` of its own logits.
      experts: the tuned ones.
      alpha_max: largest weight of each.

    Raises:
      ValueError: there is no expert, or vocabularies or batches do not fit.

    Source: Dynamic Logits Fusion, Fan et al. 2024, arXiv:2406.15480.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> def model(*z):
    ...     rows = lambda batch: jnp.zeros((batch, 0))
    ...     own = lambda logits, tokens, state, *, key=None: (jnp.float32([z]), state)
    ...     return transforms.Processor(rows, own)
    >>> fused = transforms.fuse_experts(model(0, 1), [model(2, 0)])
    >>> fused.apply(jnp.float32([[0, 1]]), jnp.array([[0]]), fused.init(1))[0]
    Array([[ 1., -1.]], dtype=float32)
    """
    models = (base, *experts)
    if len(models) == 1:
        raise ValueError("experts is empty, expected at least one")

    def step(z, tokens, state, key):
        keys = (
            [None] * len(models) if key is None else jax.random.split(key, len(models))
        )
        rows, states = state
        found = [
            one.apply(z, tokens, own, key=part)
            for one, own, part in zip(models, states, keys, strict=True)
        ]
        base_logits, *others = (logits for logits, _ in found)
        fused = dynamic_logit_fusion(
            z, base_logits, jnp.stack(others), alpha_max=alpha_max
        )
        return fused.logits, (rows, tuple(own for _, own in found))

    return processor(
        lambda batch: (
            jnp.zeros((batch, 0)),
            tuple(one.init(batch) for one in models),
        ),
        step,
    )


def ngram_prior(
    prior: NgramPrior,
    strength: ArrayLike,
    *,
    weights: ArrayLike | Sequence[float] = (0.1, 0.3, 0.6),
    mode: str = "sum",
) -> Processor:
    """Logits that lean towards the n-grams of a style, for what was said last.

    Use it as ``ngram_prior_logits``, which has the formula.

    Args:
      prior: of ``fit_ngram_prior``.
      strength: at least 0, a number or one for each row.
      weights: one number for each order of the prior.
      mode: ``"sum"`` or ``"mixture"``.

    Raises:
      ValueError: an argument out of range, or logits of other tokens.

    Source: Limits of n-gram Style Control, 2026, arXiv:2601.16224.

    >>> import jax.numpy as jnp
    >>> from logitlab import transforms
    >>> prior = transforms.fit_ngram_prior([0, 1, 0, 1], 2, order=2)
    >>> style = transforms.ngram_prior(prior, 1.0, weights=(0, 1))
    >>> z, _ = style.apply(jnp.zeros((1, 2)), jnp.array([[0]]), style.init(1))
    >>> print(f"{z[0, 0]:.4f} {z[0, 1]:.4f}")
    -3.0910 -0.0465
    """
    order = len(prior.tokens)

    def push(context, token):
        longer = jnp.concatenate([context, token[:, None]], 1)[:, 1:]
        return jnp.where(token[:, None] >= 0, longer, context)

    def step(z, tokens, context, key):
        context = fold_tokens(push, context, tokens)
        log_p, matched = ngram_log_probs(prior, context)
        z = ngram_prior_logits(
            z, log_p, matched, strength=strength, weights=weights, mode=mode
        )
        return z, context

    return processor(lambda batch: jnp.full((batch, order - 1), -1, jnp.int32), step)
