"""How far models that are equally good disagree about one example.

Of linear models, ``estimators.viable_prediction_range`` gives the ranges; of others,
``empirical_multiplicity`` compares those that were trained.
"""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.mean import Mean, mean_of
from logitlab.numerics.arguments import hyper

__all__ = [
    "DiscrepancyBounds",
    "Multiplicity",
    "discrepancy_bounds",
    "empirical_multiplicity",
    "predictive_ambiguity",
]


class DiscrepancyBounds(NamedTuple):
    """Between what the discrepancy lies.

    Attributes:
      lower: what one of the models that were looked at reaches, [].
      upper: the ambiguity, which no model exceeds, [].
    """

    lower: jax.Array
    upper: jax.Array


class Multiplicity(NamedTuple):
    """How far some models that are nearly as good as the best one differ from it.

    Attributes:
      ranges: lowest and highest probability of each example, [N, 2].
      ambiguity: share of examples about which some model differs, [].
      discrepancy: the largest share of examples about which one model differs, [].
    """

    ranges: jax.Array
    ambiguity: jax.Array
    discrepancy: jax.Array


def predictive_ambiguity(
    probs: ArrayLike,
    ranges: ArrayLike,
    *,
    delta: ArrayLike,
    mask: ArrayLike | None = None,
) -> Mean:
    r"""Share of examples about which some equally good model differs from the baseline.

    .. math:: \frac1N \#\{i : \max_{w \in W} |p_i(w) - p_i| \ge \delta\}

    Where it is high, predictions depend on choices that the data do not decide. Compare
    groups with ``mask``.

    Shapes: probs [N], ranges [N, 2], mask [N] -> ([], [])

    Args:
      probs: of the baseline.
      ranges: lowest and highest probability among the models.
      delta: what counts as a difference, above 0 and at most 1.
      mask: bool, the examples that count.

    Returns:
      A ``Mean``, which adds up over batches.

    Raises:
      TypeError: ``probs`` or ``ranges`` is not floating point, ``mask`` not bool.
      ValueError: the shapes disagree, or ``delta`` is outside (0, 1].

    Source: Watson-Daniels et al. 2023, arXiv:2206.01131.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import predictive_ambiguity
    >>> ranges = jnp.float32([[0.2, 0.6], [0.8, 0.9]])
    >>> float(predictive_ambiguity(jnp.float32([0.5, 0.9]), ranges, delta=0.2))
    0.5
    """
    p = numerics.promote_to_float32(probs, "probs")
    ends = numerics.promote_to_float32(ranges, "ranges")
    if ends.shape != (*p.shape, 2):
        raise ValueError(f"ranges has shape {ends.shape}, expected {(*p.shape, 2)}")
    return mean_of(_departs(ends, p[..., None], delta).any(-1), mask)


def discrepancy_bounds(
    probs: ArrayLike,
    ranges: ArrayLike,
    model_probs: ArrayLike,
    *,
    delta: ArrayLike,
    mask: ArrayLike | None = None,
) -> DiscrepancyBounds:
    r"""Bounds of the share of examples about which a single good model may differ.

    .. math:: \max_{w \in W} \frac1N \#\{i : |p_i(w) - p_i| \ge \delta\}

    The maximum itself is an integer programme. Any model that is good enough bounds it
    from below, and the ambiguity from above.

    Shapes: probs [N], ranges [N, 2], model_probs [M, N], mask [N] -> ([], [])

    Args:
      probs: of the baseline.
      ranges: lowest and highest probability among all models.
      model_probs: of some of the models, such as those at the ends of the ranges
        (``ViableRanges.models``).
      delta: what counts as a difference, above 0 and at most 1.
      mask: bool, the examples that count.

    Returns:
      ``DiscrepancyBounds``, of 0 without examples.

    Raises:
      TypeError: an array is not floating point, or ``mask`` not bool.
      ValueError: the shapes disagree, or ``delta`` is outside (0, 1].

    Source: Watson-Daniels et al. 2023, arXiv:2206.01131.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import discrepancy_bounds
    >>> p, ranges = jnp.float32([0.5, 0.5]), jnp.float32([[0.2, 0.6], [0.4, 0.8]])
    >>> bounds = discrepancy_bounds(p, ranges, jnp.float32([[0.2, 0.4]]), delta=0.3)
    >>> float(bounds.lower), float(bounds.upper)
    (0.5, 1.0)
    """
    p = numerics.promote_to_float32(probs, "probs")
    models = numerics.promote_to_float32(model_probs, "model_probs")
    if models.ndim != p.ndim + 1 or models.shape[1:] != p.shape:
        raise ValueError(
            f"model_probs has shape {models.shape}, expected {('M', *p.shape)}"
        )
    keep = numerics.check_mask(mask, p.shape)
    upper = predictive_ambiguity(p, ranges, delta=delta, mask=keep)
    differs = _departs(models, p[None], delta) & keep[None]
    most = jnp.max(jnp.sum(differs, -1, dtype=jnp.int32), initial=0)
    n = jnp.maximum(upper.count, 1).astype(p.dtype)
    return DiscrepancyBounds(most.astype(p.dtype) / n, upper.sum.astype(p.dtype) / n)


def empirical_multiplicity(
    probs: ArrayLike,
    losses: ArrayLike,
    *,
    epsilon: ArrayLike,
    delta: ArrayLike,
    mask: ArrayLike | None = None,
) -> Multiplicity:
    r"""Ranges, ambiguity and discrepancy of some models that were trained.

    For models of any kind: seeds, folds, architectures. The baseline is the best of
    them, and those whose loss is within ``epsilon`` of its take part.

    .. math:: W = \{m : L_m \le \min_k L_k + \epsilon\}

    Shapes: probs [M, N], losses [M], mask [N] -> ([N, 2], [], [])

    Args:
      probs: of each model for each example.
      losses: of each model, such as the mean ``nll`` of held-out examples; NaN for one
        that is to take no part.
      epsilon: in the unit of the losses, at least 0.
      delta: what counts as a difference of probabilities, above 0 and at most 1.
      mask: bool, the examples that count; the ranges are of all.

    Raises:
      TypeError: ``probs`` or ``losses`` is not floating point, ``mask`` not bool.
      ValueError: the shapes disagree, there are no models, or ``epsilon`` or ``delta``
        is outside its range.

    Source: Watson-Daniels et al. 2023, arXiv:2206.01131.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import empirical_multiplicity
    >>> p = jnp.float32([[0.5, 0.5], [0.9, 0.6], [0, 1]])
    >>> losses = jnp.float32([0.3, 0.31, 0.9])
    >>> found = empirical_multiplicity(p, losses, epsilon=0.05, delta=0.2)
    >>> float(found.ambiguity), float(found.discrepancy)
    (0.5, 0.5)
    """
    p = numerics.promote_to_float32(probs, "probs")
    loss = numerics.promote_to_float32(losses, "losses")
    if p.ndim != 2 or loss.shape != p.shape[:1] or not len(p):
        raise ValueError(
            f"probs, losses have shapes {p.shape}, {loss.shape}, expected [M, N], [M]"
        )
    epsilon = hyper("epsilon", epsilon, loss.dtype, lambda e: e >= 0, "at least 0")
    best = jnp.argmin(jnp.where(jnp.isnan(loss), jnp.inf, loss))
    good = (loss <= loss[best] + epsilon)[:, None]
    ends = [jnp.min(jnp.where(good, p, 1), 0), jnp.max(jnp.where(good, p, 0), 0)]
    ranges = jnp.stack(ends, -1)
    models = jnp.where(good, p, p[best][None])  # the others differ in nothing
    found = discrepancy_bounds(p[best], ranges, models, delta=delta, mask=mask)
    return Multiplicity(ranges, found.upper, found.lower)


def _departs(probs, baseline, delta):
    in_range = lambda d: (d > 0) & (d <= 1)  # noqa: E731
    delta = hyper("delta", delta, probs.dtype, in_range, "in (0, 1]")
    return jnp.abs(probs - baseline) >= delta
