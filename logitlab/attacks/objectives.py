"""What an attack maximizes: one number for each example, larger where it is worse.

A difference of logits keeps its slope at any margin. A cross-entropy or a probability
in plain float32 rounds to a constant on a confident example, and the attack stands
still.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import hyper

__all__ = [
    "cw_margin",
    "dlr_loss",
    "dlr_targeted_loss",
    "label_odds",
    "log_probability_margin",
    "probability_margin",
]


def label_odds(
    logits: ArrayLike,
    labels: ArrayLike,
    targets: ArrayLike | None = None,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Log-odds against the label, or of one target against it.

    The objective to take first: it grows with cross-entropy, so that both have the same
    maximum and steps of the same sign, and its slope never rounds to zero.

    .. math:: \log \frac{1 - p_y}{p_y} = \log \sum_{c \ne y} e^{z_c} - z_y,
        \qquad \log \frac{p_t}{p_y} = z_t - z_y

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores of two classes or more; ``-inf`` is the same as ``where=False``.
      labels: ints in ``[0, C)``, or negative for an example without a label.
      targets: ints [...], other classes than the labels, for the second form.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part.

    Returns:
      Nats, float32 (float64 for float64 logits); above 0 the label has less than half
      of the mass. NaN without a label.

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` or ``targets`` not
        integer.
      ValueError: fewer than two classes, wrong shapes, a label or target of C or more,
        or a target that is the label; under ``jit`` these are NaN.

    Numerics: the gradient has a relative error below 1e-5 at any margin; that of a
      float32 cross-entropy is 0 from margin 104 on, and noise from 17 on if it is
      ``logsumexp(z) - z[y]``.

    Source: PGD, Madry et al. 2018, arXiv:1706.06083; its cross-entropy in log-odds.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.attacks import label_odds
    >>> jax.value_and_grad(label_odds)(jnp.float32([200, 0]), 0)
    (Array(-200., dtype=float32), Array([-1.,  1.], dtype=float32))
    """
    z, y, known = _operands("label_odds", logits, labels, axis, where)
    if targets is None:
        others = numerics.logsumexp(z, where=~numerics.is_label(z, y))
    else:
        t, known = check_targets(targets, y, known, z.shape[-1])
        others = numerics.take_label_logit(z, t)
    return _difference(others, numerics.take_label_logit(z, y), known)


def cw_margin(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""How far the best wrong class is above the label, in logits.

    Blind to the scale of the logits, as an attack with normalized steps sees it. Above
    0 exactly where the example is misclassified.

    .. math:: \max_{c \ne y} z_c - z_y

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args, returns and errors are those of ``label_odds``. Of equal wrong classes the
    first has the slope.

    Source: Carlini and Wagner 2017, arXiv:1608.04644.

    >>> import jax.numpy as jnp
    >>> from logitlab.attacks import cw_margin
    >>> cw_margin(jnp.float32([3, 1, 2]), 0)
    Array(-1., dtype=float32)
    """
    z, y, known = _operands("cw_margin", logits, labels, axis, where)
    others = jnp.where(numerics.is_label(z, y), -jnp.inf, z)
    best = numerics.take_label_logit(others, _runner_up(z, y))
    return _difference(best, numerics.take_label_logit(z, y), known)


def dlr_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    eps: ArrayLike = 1e-12,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Difference of logits ratio: the margin, over the spread of the top three.

    Take it to compare with papers that report AutoAttack. It does not change when the
    logits are scaled or shifted.

    .. math:: -\frac{z_y - \max_{c \ne y} z_c}{z_{(1)} - z_{(3)} + \epsilon}

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores of three classes or more.
      labels: ints in ``[0, C)``, or negative for an example without a label.
      eps: at least 0, added to the denominator. Where the top three are equal the value
        is of its inverse's size.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part.

    Returns:
      No unit; NaN without a label. Among equal logits, ranks and slopes are those of a
      stable ascending sort: the last of them is the first in rank.

    Raises:
      TypeError: ``logits`` is not floating point or ``labels`` not integer.
      ValueError: fewer than three classes, wrong shapes, or a label of C or more.

    Source: AutoAttack, Croce and Hein 2020, arXiv:2003.01690.

    >>> import jax.numpy as jnp
    >>> from logitlab.attacks import dlr_loss
    >>> dlr_loss(jnp.float32([3, 1, 2]), 0)
    Array(-0.5, dtype=float32)
    """
    z, y, known = _operands("dlr_loss", logits, labels, axis, where, 3)
    eps = hyper("eps", eps, z.dtype, lambda e: e >= 0, "at least 0")
    (first, second, third), order = _top(z, 3)
    best = jnp.where(order[..., -1] == y, second, first)
    margin = best - numerics.take_label_logit(z, y)
    return jnp.where(known, margin / (first - third + eps), jnp.nan)


def dlr_targeted_loss(
    logits: ArrayLike,
    labels: ArrayLike,
    targets: ArrayLike,
    *,
    eps: ArrayLike = 1e-12,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Difference of logits ratio between a target and the label.

    AutoAttack maximizes it for each of the likeliest wrong classes. From two classes on
    ``label_odds`` with targets does the same without the denominator.

    .. math:: -\frac{z_y - z_t}{z_{(1)} - (z_{(3)} + z_{(4)}) / 2 + \epsilon}

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args:
      logits: scores of four classes or more.
      labels: ints in ``[0, C)``, or negative for an example without a label.
      targets: ints [...], other classes than the labels.
      eps: at least 0, added to the denominator.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the classes that take part.

    Returns:
      No unit; NaN without a label. Ties are ranked as in ``dlr_loss``.

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` or ``targets`` not
        integer.
      ValueError: fewer than four classes, wrong shapes, a label or target of C or more,
        or a target that is the label; under ``jit`` these are NaN.

    Source: AutoAttack, Croce and Hein 2020, arXiv:2003.01690.

    >>> import jax.numpy as jnp
    >>> from logitlab.attacks import dlr_targeted_loss
    >>> dlr_targeted_loss(jnp.float32([4, 3, 1, 1]), 0, 1).round(4)
    Array(-0.3333, dtype=float32)
    """
    z, y, known = _operands("dlr_targeted_loss", logits, labels, axis, where, 4)
    t, known = check_targets(targets, y, known, z.shape[-1])
    eps = hyper("eps", eps, z.dtype, lambda e: e >= 0, "at least 0")
    (first, _, third, fourth), _ = _top(z, 4)
    margin = numerics.take_label_logit(z, t) - numerics.take_label_logit(z, y)
    spread = first - (third / 2 + fourth / 2) + eps
    return jnp.where(known, margin / spread, jnp.nan)


def probability_margin(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""How far the best wrong class is above the label, in probability.

    To report. To attack take ``log_probability_margin``, whose steps have the same sign
    and do not vanish.

    .. math:: \mathrm{PM} = \max_{c \ne y} p_c - p_y

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args and errors are those of ``label_odds``.

    Returns:
      Between -1 and 1, above 0 where the example is misclassified; NaN without a label.

    Source: PMA, arXiv:2411.15210.

    >>> import jax.numpy as jnp
    >>> from logitlab.attacks import probability_margin
    >>> probability_margin(jnp.log(jnp.float32([0.5, 0.25, 0.25])), 0).round(4)
    Array(-0.25, dtype=float32)
    """
    z, y, known = _operands("probability_margin", logits, labels, axis, where)
    p = numerics.softmax(z)
    others = jnp.where(numerics.is_label(z, y), 0, p)
    best = numerics.take_label_logit(others, _runner_up(z, y))
    margin = best - numerics.take_label_logit(p, y)
    return jnp.where(known, margin, jnp.nan)


def log_probability_margin(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Logarithm of one plus the probability margin, with slopes that do not vanish.

    Take it to attack the probability margin: it is an increasing function of that.

    .. math:: \log(1 + \mathrm{PM}) = \log \Bigl( \sum_{c \ne y} p_c + p_k \Bigr), \quad
        k = \arg\max_{c \ne y} z_c

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Args and errors are those of ``label_odds``.

    Returns:
      Nats, at most log 2, above 0 where the example is misclassified; NaN without a
      label.

    Numerics: relative error below 1e-5, value and gradient, for margins of the label up
      to 80; one plus ``probability_margin`` is 0 from 17 on.

    Source: PMA, arXiv:2411.15210, in logarithms.

    >>> import jax.numpy as jnp
    >>> from logitlab.attacks import log_probability_margin
    >>> log_probability_margin(jnp.float32([80, 0, 0]), 0).round(4)
    Array(-78.9014, dtype=float32)
    """
    z, y, known = _operands("log_probability_margin", logits, labels, axis, where)
    runner_up = numerics.is_label(z, _runner_up(z, y))
    twice = numerics.log_softmax(z) + jnp.where(runner_up, jnp.log(2.0), 0)
    value = numerics.logsumexp(twice, where=~numerics.is_label(z, y))
    return jnp.where(known, value, jnp.nan)


def check_targets(
    targets: ArrayLike, y: jax.Array, known: jax.Array, classes: int
) -> tuple[jax.Array, jax.Array]:
    """Targets beside known labels, 0 where they are no class, and what is usable.

    Raises:
      TypeError: ``targets`` is not integer.
      ValueError: another shape than the labels', a target that is no class, or one that
        is the label; under ``jit`` such a one is only not usable.
    """
    t = numerics.wide_labels(targets, "targets")
    if t.shape != y.shape:
        raise ValueError(f"targets has shape {t.shape}, expected {y.shape}")
    outside, same = known & ((t < 0) | (t >= classes)), known & (t == y)
    if numerics.is_concrete(outside) and outside.any():
        raise ValueError(f"targets outside [0, {classes}): {t[outside][:5]}")
    if numerics.is_concrete(same) and same.any():
        raise ValueError(f"targets equal to the labels: {t[same][:5]}")
    return jnp.where(outside | ~known, 0, t), known & ~outside & ~same


def _operands(name, logits, labels, axis, where, least=2):
    """Logits with classes last and no slope at hidden ones, labels, and known ones."""
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    if z.shape[-1] < least:
        hint = "; label_odds takes two classes" if least > 2 else ""
        raise ValueError(
            f"logits has {z.shape[-1]} classes, {name} needs at least {least}{hint}"
        )
    y, known = numerics.check_labels(labels, z.shape[:-1], z.shape[-1])
    return jnp.where(z == -jnp.inf, -jnp.inf, z), y, known


def _runner_up(z, y):
    """The best class that is not the label, the first of equals."""
    return jnp.argmax(jnp.where(numerics.is_label(z, y), -jnp.inf, z), -1)


def _difference(others, label, known):
    """0 where the row has no classes, for which it would be a difference of inf."""
    empty = (others == -jnp.inf) & (label == -jnp.inf)
    value = jnp.where(empty, 0, others - jnp.where(empty, 0, label))
    return jnp.where(known, value, jnp.nan)


def _top(z, count):
    """The largest logits, in falling order, and the classes in rising order."""
    order = jnp.argsort(z, -1, stable=True)
    best = jnp.take_along_axis(z, order[..., -count:], -1)
    return [best[..., -rank] for rank in range(1, count + 1)], order
