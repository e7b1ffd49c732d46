"""What unlabeled or labeled examples say of experts, and of a model's label prior."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.comp_sums import cross_entropy
from logitlab.metrics.flips import prediction_stability
from logitlab.numerics.arguments import check_count, hyper, kept_examples
from logitlab.transforms import ensemble_logits
from logitlab.transforms._likelihood import minimize


def sade_weights(
    logits: ArrayLike,
    other_logits: ArrayLike,
    *,
    steps: int = 30,
    learning_rate: ArrayLike = 0.1,
    momentum: ArrayLike = 0.9,
    weight_decay: ArrayLike = 5e-4,
    floor: ArrayLike = 0.05,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Weights of experts whose mixture predicts alike for two views of an input.

    Use it at test time, without labels, to find out which experts suit the test data;
    predict with ``ensemble_logits(logits, mode="logit", weights=...)``.

    .. math:: \max_w \frac1N \sum_n \cos\bigl(\mathrm{softmax}(\hat v(x_n)),
        \mathrm{softmax}(\hat v(x'_n))\bigr), \quad
        \hat v = \sum_m \mathrm{softmax}(w)_m v_m

    by ``steps`` of gradient ascent over all examples, with Nesterov momentum, from
    equal weights, until one falls below ``floor``.

    Shapes: logits [M, ..., C], other_logits [M, ..., C], mask [...] -> [M]

    Args:
      logits: of M experts, along the first axis, for one view of the examples.
      other_logits: for another view, say another augmentation.
      steps: how many at most, a Python integer.
      learning_rate, momentum, weight_decay: of the ascent; may be traced.
      floor: the weight below which no step is taken any more.
      axis: the class axis.
      where: bool, the classes that take part.
      mask: bool, the examples that count.

    Returns:
      Weights that add up to 1, float32 (float64 for float64 logits).

    Raises:
      TypeError: logits are not floating point, ``where`` or ``mask`` not bool.
      ValueError: shapes that differ, no experts, or ``steps`` below 1.

    Source: SADE, Zhang et al. 2022, arXiv:2107.09249, whose steps take batches of 128.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import sade_weights
    >>> steady = jnp.float32([[2, 0], [0, 2]])
    >>> views = jnp.stack([steady, steady]), jnp.stack([steady, -steady])
    >>> [f"{w:.2f}" for w in sade_weights(*views)]
    ['0.94', '0.06']
    """
    import optax  # half a second to import, for fits alone

    z, other = (
        numerics.prepare_logits(a, axis=axis, where=where, name=name)
        for a, name in ((logits, "logits"), (other_logits, "other_logits"))
    )
    if z.ndim < 2 or not z.shape[0]:
        raise ValueError(f"logits has shape {z.shape}, expected [M, ..., C], M above 0")
    if other.shape != z.shape:
        raise ValueError(f"other_logits has shape {other.shape}, expected {z.shape}")
    check_count("steps", steps)
    keep = numerics.check_mask(mask, z.shape[1:-1])
    rate, momentum, decay, floor = (
        hyper(name, value, z.dtype)
        for name, value in (
            ("learning_rate", learning_rate),
            ("momentum", momentum),
            ("weight_decay", weight_decay),
            ("floor", floor),
        )
    )
    optimizer = optax.chain(
        optax.add_decayed_weights(decay), optax.sgd(rate, momentum, nesterov=True)
    )

    def loss(scores):
        weights = numerics.softmax(scores)
        both = (ensemble_logits(v, mode="logit", weights=weights) for v in (z, other))
        return -numerics.masked_mean(prediction_stability(*both), keep)

    def step(carry, _):
        scores, state = carry
        updates, new = optimizer.update(jax.grad(loss)(scores), state, scores)
        goes_on = (numerics.softmax(scores) >= floor).all()
        moved = optax.apply_updates(scores, updates)
        return jax.tree.map(
            lambda a, b: jnp.where(goes_on, a, b), (moved, new), carry
        ), None

    scores = jnp.full(z.shape[:1], 1 / z.shape[0], z.dtype)
    (scores, _), _ = jax.lax.scan(step, (scores, optimizer.init(scores)), None, steps)
    return numerics.softmax(scores)


def estimate_label_prior(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""The label distribution that a zero-shot model seems to have been trained on.

    Use it to see, and by ``logits - log(prior)`` to remove, what a foundation model
    expects of the classes, from labeled examples of your task.

    .. math:: \arg\min_{q \in \Delta} -\frac1N \sum_n
        \log \mathrm{softmax}(z_n - \log q)_{y_n}

    Convex in log q, and solved by L-BFGS from the uniform distribution.

    Shapes: logits [..., C], labels [...], mask [...] -> [C]

    Args:
      logits: of the zero-shot model.
      labels: ints in ``[0, C)``, whose classes should be about balanced: the estimate
        is relative to their distribution.
      axis: the class axis.
      where: bool, the classes that take part.
      mask: bool, the examples that count; labels of the others may be any ints.

    Returns:
      A distribution, float32 (float64 for float64 logits); uniform without examples. A
      class that no example has would get all of the mass: its share is bounded by e^100
      times that of others.

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` not integer.
      ValueError: shapes that differ, or a label of C or more (NaN under ``jit``).

    Source: the diagnostic of Rethinking the Bias of Foundation Model under Long-tailed
      Distribution, 2025, arXiv:2501.15955, after generalized logit adjustment, Zhu et
      al. 2023, arXiv:2310.08106.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import estimate_label_prior
    >>> biased = jnp.log(jnp.float32([[0.8, 0.2], [0.8, 0.2]]))
    >>> [f"{q:.4f}" for q in estimate_label_prior(biased, jnp.array([0, 1]))]
    ['0.8000', '0.2000']
    """
    z, y, keep = kept_examples(logits, labels, axis=axis, where=where, mask=mask)
    count = jnp.sum(keep)

    def loss(parameters):
        (log_q,) = parameters
        shifted = z - jnp.clip(log_q, -50, 50).reshape((1,) * (z.ndim - 1) + (-1,))
        return numerics.masked_mean(cross_entropy(shifted, y), keep)

    log_q, *_ = minimize(loss, (jnp.zeros(z.shape[-1], z.dtype),), count)
    return numerics.softmax(jnp.where(count > 0, jnp.clip(log_q, -50, 50), 0))
