"""Divergences between two linear heads without materializing their logits."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.heads import _sharding
from logitlab.heads._blocks import (
    Blocks,
    add_gradients,
    block_of,
    elementwise,
    finish_gradients,
    first_class,
    is_label,
    no_gradients,
    over_blocks,
)
from logitlab.heads._operands import (
    OF_TOKENS,
    Linear,
    check_head,
    chunk_size,
    class_count,
    leading_axes,
    takes_no_mask,
    values_and_wanted,
    wide,
)
from logitlab.heads._row_stats import measured_from
from logitlab.heads._sharding import Static
from logitlab.heads.statistics import check_where, see
from logitlab.numerics import rise, terms

__all__ = ["fused_linear_distillation"]


@takes_no_mask(OF_TOKENS)
def fused_linear_distillation(
    hidden: ArrayLike,
    kernel: ArrayLike,
    teacher: Linear,
    *,
    divergence: str = "forward_kl",
    skew: float = 0.5,
    temperature: ArrayLike = 1.0,
    scale_by_temperature_squared: bool = True,
    bias: ArrayLike | None = None,
    where: ArrayLike | None = None,
    transform: Callable[[jax.Array], jax.Array] | None = None,
    teacher_transform: Callable[[jax.Array], jax.Array] | None = None,
    transposed: bool = False,
    vocab_chunk: int | None = None,
    axis_name: str | tuple[str, ...] | None = None,
    batch_axes: str | tuple[str, ...] | None = None,
) -> jax.Array:
    r"""Divergence of a student's head from a teacher's, in blocks of the vocabulary.

    .. math:: p = \mathrm{softmax}(t(h W + b) / T), \quad
        q = \mathrm{softmax}(t'(h' W' + b') / T)

    * ``forward_kl``: :math:`\mathrm{KL}(q \| p)`
    * ``reverse_kl``: :math:`\mathrm{KL}(p \| q)`
    * ``js_divergence``: :math:`\kappa \mathrm{KL}(q \| m) + (1 - \kappa)
      \mathrm{KL}(p \| m)` with :math:`m = (1 - \kappa) p + \kappa q` and ``skew``
      :math:`\kappa`. It tends to 0 at both ends; there, 0 stands for ``forward_kl``
      and 1 for ``reverse_kl``.
    * ``total_variation_divergence``: :math:`\tfrac12 \sum_c |p_c - q_c|`

    No array of tokens times vocabulary exists, in neither direction. A first pass finds
    both softmaxes' normalisers, a second one adds the divergence up; the gradient makes
    each block once more. The divergence is multiplied by :math:`T^2`, as in
    ``losses.kd_loss``. A teacher gets its gradients, unless they are stopped, and
    costs none then.

    Shapes: hidden [..., D], kernel [D, V] -> [...]

    Args:
      hidden: the student's features.
      kernel: the student's weights.
      teacher: the other head, a :class:`Linear`; its width may differ.
      divergence: one of the four above.
      skew: the teacher's weight in the mixture of ``js_divergence``, in [0, 1]; not
        traced, for it chooses the rule by which blocks are added up.
      temperature: T, a number above 0 of both; it gets its gradient.
      scale_by_temperature_squared: whether the factor :math:`T^2` is applied.
      bias: [V], the student's, or none.
      where: bool, [V] or [..., V], the classes that take part, of both.
      transform: elementwise, of the student's logits, before the temperature.
      teacher_transform: the same of the teacher's.
      transposed: kernels are [V, D].
      vocab_chunk: columns at a time; by default as many as make logits of 16 MiB (128
        MiB on accelerators), 512 at least.
      axis_name: mesh axes of the vocabulary, as in :func:`linear_label_stats`.
      batch_axes: mesh axes of the first axis of ``hidden``, the same.

    Returns:
      One divergence for each token, in nats (total variation: in [0, 1] at temperature
      1), float32 (float64 for float64 input).

    Raises:
      TypeError: ``hidden`` or a kernel is not floating point.
      ValueError: shapes that do not fit together, vocabularies that differ, a
        divergence that is none of these, ``skew`` outside [0, 1], a temperature not
        above 0 (NaN under ``jit``), a chunk below 1 or an axis that is not in the mesh.

    Numerics: as with dense log-probabilities, of which a student near its teacher has
      differences as good as their logits'; divergences are never negative. Reverse
      mode only, of higher orders too.

    Source: Hinton et al. 2015, arXiv:1503.02531; generalised Jensen-Shannon, Agarwal et
      al. 2024, arXiv:2306.13649.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import Linear, fused_linear_distillation
    >>> hidden, kernel = jnp.ones((6, 4)), jnp.ones((4, 10))
    >>> fused_linear_distillation(hidden, kernel, Linear(hidden, 2 * kernel)).shape
    (6,)
    """
    rule = _rule(divergence, skew)
    batch = leading_axes(hidden)
    if not isinstance(teacher, tuple | list) or len(teacher) not in (2, 3):
        raise TypeError(
            f"teacher is of type {type(teacher).__name__}, expected "
            "heads.Linear(hidden, kernel, bias); for logits that exist, call "
            "heads.linear_loss(losses.kd_loss, hidden, kernel, teacher_logits)"
        )
    student, other = Linear(hidden, kernel, bias), Linear(*teacher)
    check_head(student, batch, transposed=transposed)
    check_head(other, batch, transposed=transposed, name="teacher.")
    student, other = (Linear(*map(_array, head)) for head in (student, other))
    numerics.check_devices(**{"hidden": student.hidden, "teacher.hidden": other.hidden})
    classes = class_count(student, transposed=transposed)
    theirs = class_count(other, transposed=transposed)
    if theirs != classes:
        raise ValueError(
            f"teacher.kernel has {theirs} classes, expected {classes}, as kernel has"
        )
    if vocab_chunk is not None:
        chunk_size("vocab_chunk", vocab_chunk, 1, 1)
    if where is not None:
        where = check_where(where, batch, classes)
    t = _check_temperature(temperature, wide(student.hidden, student.kernel))
    place = _sharding.class_mesh(
        hidden, kernel, axis_name, batch_axes, transposed=transposed
    )
    plans, closed = [], []
    for change, head in ((transform, student), (teacher_transform, other)):
        function, values = elementwise(change, wide(head.hidden, head.kernel))
        plan = Blocks(_tempered(function), transposed, vocab_chunk, place.classes)
        plans.append(plan)
        closed.append((t, *values))
    columns = _sharding.Columns(where, None)
    tokens = jnp.zeros(batch, bool)  # gives results their axes
    losses = _sharding.run(
        lambda *operands: _divergence(rule, plans, *operands),
        place,
        (student, other, columns, tokens, tuple(closed)),
        transposed=transposed,
    )
    return t**2 * losses if scale_by_temperature_squared else losses


def _divergence(rule, plans, student, teacher, columns, tokens, closed):
    """The divergences of this device's tokens, differentiable."""
    batch = tokens.shape
    heads = tuple(
        head._replace(hidden=head.hidden.reshape(-1, head.hidden.shape[-1]))
        for head in (student, teacher)
    )
    if columns.where is not None:
        where = columns.where.reshape(-1, columns.where.shape[-1])
        columns = columns._replace(where=where)
    operands = _sharding.vary_alike((heads, columns, closed))

    # Memory: 5 MB for 1,024 tokens of 16,384 classes, 443 MB without
    # (test_leading_axes_and_memory).
    @jax.custom_vjp
    def run(*operands):
        return _two_passes(rule, plans, *operands)[0]

    def forward(*primals):
        operands, wanted = values_and_wanted(primals)
        losses, rows = _two_passes(rule, plans, *operands)
        return losses, (operands, rows, Static(wanted))

    def backward(kept, slopes):
        if isinstance(slopes, SymbolicZero):
            slopes = jnp.zeros(slopes.shape, slopes.dtype)
        return _gradients(rule, plans, *kept, slopes)

    run.defvjp(forward, backward, symbolic_zeros=True)
    return _sharding.compiled_inside(run)(*operands).reshape(batch)


class _Row(NamedTuple):
    """Statistics of one head's rows, for its log-probabilities and their gradients.

    With ``f_a`` the derivative of a class's term by its log-probability, the slope of a
    score is ``f_a - p * total``; of a top score with more than half of the mass, minus
    the sum of all the others.
    """

    top: jax.Array
    rest: jax.Array
    argmax: jax.Array
    total: jax.Array
    others: jax.Array


def _two_passes(rule, plans, heads, columns, closed):
    """Divergences [N], and a row of each head."""
    nowhere = jnp.full(len(heads[0].hidden), -1)
    rows = []
    for plan, head, values in zip(plans, heads, closed, strict=True):
        labels, _ = _sharding.vary_alike((nowhere, head))
        seen = see(plan, head, columns, labels, values)
        zero = jnp.zeros_like(seen.top)
        rows.append(_Row(seen.top, seen.rest, seen.argmax, zero, zero))

    def add(carry, start, size):
        losses, sums = carry
        pairs = _pair_of_blocks(plans, heads, columns, closed, rows, start, size)
        logs, tops = [p.log_p for p in pairs], [p.is_top for p in pairs]
        value, *slopes = rule(*logs)
        sums = tuple(
            (total + slope.sum(-1), others + jnp.where(top, 0, slope).sum(-1))
            for (total, others), slope, top in zip(sums, slopes, tops, strict=True)
        )
        return losses + value.sum(-1), sums

    zero = jnp.zeros_like(rows[0].top)
    start = zero, ((zero, zero), (zero, zero))
    start, *_ = _sharding.vary_alike((start, heads))
    losses, sums = over_blocks(plans[0], heads[0], start, add)
    if axes := plans[0].axis_name:
        losses, sums = jax.lax.psum((losses, sums), axes)
    rows = tuple(
        row._replace(total=total, others=others)
        for row, (total, others) in zip(rows, sums, strict=True)
    )
    return losses, rows


def _gradients(rule, plans, operands, rows, wanted, slopes):
    wants, _, want_closed = wanted.value
    operands, rows, slopes = _sharding.vary_alike((operands, rows, slopes))
    heads, columns, closed = operands
    wanted_heads = [
        any(jax.tree.leaves((want, more)))
        for want, more in zip(wants, want_closed, strict=True)
    ]

    def add(sums, start, size):
        pairs = _pair_of_blocks(plans, heads, columns, closed, rows, start, size)
        _, *parts = rule(*(p.log_p for p in pairs))
        new = []
        for i, (pair, part, row) in enumerate(zip(pairs, parts, rows, strict=True)):
            if not wanted_heads[i]:
                new.append(sums[i])
                continue
            g = part - jnp.exp(pair.log_p) * row.total[:, None]
            left = row.rest / (1 + row.rest)  # what the top has not
            lead = left * row.total - row.others
            sure = pair.is_top & (row.rest < 1)[:, None]  # else it is no small number
            g = jnp.where(sure, lead[:, None], g) * slopes[:, None]
            g = jnp.where(pair.log_p > -jnp.inf, g, 0)
            new.append(
                add_gradients(plans[i], sums[i], heads[i], pair.pull(g), start, size)
            )
        return tuple(new)

    start = tuple(
        no_gradients(head, want, values)
        for head, want, values in zip(heads, wants, closed, strict=True)
    )
    start, _ = _sharding.vary_alike((start, operands))
    sums = over_blocks(plans[0], heads[0], start, add)
    done = [
        finish_gradients(total, head, want)
        for total, head, want in zip(sums, heads, want_closed, strict=True)
    ]
    heads, closed = zip(*done, strict=True)
    return heads, None, closed


class _Block(NamedTuple):
    log_p: jax.Array
    is_top: jax.Array
    pull: Callable


def _pair_of_blocks(plans, heads, columns, closed, rows, start, size):
    """Log-probabilities of a block, of student and teacher."""
    blocks = []
    for plan, head, values, row in zip(plans, heads, closed, rows, strict=True):
        u, _, pull = block_of(plan, head, columns, values, start, size)
        top = is_label(row.argmax, first_class(plan, head) + start, size)
        # Of a row without classes, the one at the top is as little there as the others.
        log_p = measured_from(row.top, u, top & (row.top > -jnp.inf)[:, None])
        log_p = log_p - jnp.where(row.top > -jnp.inf, jnp.log1p(row.rest), 0)[:, None]
        blocks.append(_Block(log_p, top, pull))
    return blocks


def _rule(divergence, skew):
    """(log p, log q) -> a class's term and its derivatives with respect to both."""
    rules = {
        "forward_kl": _forward_kl,
        "reverse_kl": _reverse_kl,
        "js_divergence": lambda a, b: _jsd(a, b, skew),
        "total_variation_divergence": _total_variation,
    }
    if divergence not in rules:
        raise ValueError(
            f"divergence is {divergence!r}, expected one of {', '.join(rules)}"
        )
    skew = float(skew)  # which decides no dtype
    if not 0 <= skew <= 1:
        raise ValueError(f"skew is {skew}, expected a number in [0, 1]")
    if divergence == "js_divergence" and skew in (0, 1):
        return _forward_kl if skew == 0 else _reverse_kl
    return rules[divergence]


def _forward_kl(a, b):
    """No term is negative; slopes without what a softmax takes away: a part of p."""
    p, q, r = _both(a, b)
    return terms(q, p, -r), rise(q, p, -r), _times(q, r)


def _reverse_kl(a, b):
    value, by_b, by_a = _forward_kl(b, a)
    return value, by_a, by_b


def _jsd(a, b, skew):
    p, q, r = _both(a, b)
    m, up, down = (1 - skew) * p + skew * q, _log_mix(r, skew), _log_mix(-r, 1 - skew)
    value = (1 - skew) * terms(p, m, up) + skew * terms(q, m, down)
    return value, -(1 - skew) * _times(p, up), -skew * _times(q, down)


def _log_mix(r, skew):
    """``log(1 - skew + skew exp(r))``, exact for small and for large r."""
    weight = jnp.where(r > 0, 1 - skew, skew)
    return jnp.maximum(r, 0) + jnp.log1p(weight * jnp.expm1(-jnp.abs(r)))


def _times(p, log_ratio):
    return p * jnp.where(p > 0, log_ratio, 0)


def _total_variation(a, b):
    p, q, r = _both(a, b)
    sign = -jnp.sign(r)
    return jnp.abs(rise(p, q, r)) / 2, p * sign / 2, -q * sign / 2


def _both(a, b):
    """Probabilities, and their log-ratio, 0 where both are 0."""
    p, q = jnp.exp(a), jnp.exp(b)
    some = jnp.maximum(p, q) > 0
    return p, q, jnp.where(some, b, 0) - jnp.where(some, a, 0)


def _tempered(transform):
    """The transform of :func:`elementwise`, and a temperature that it is told first."""
    if transform is None:
        return lambda z, closed: z / closed[0].astype(z.dtype)
    return lambda z, closed: transform(z, closed[1:]) / closed[0].astype(z.dtype)


def _check_temperature(temperature, dtype):
    t = jnp.asarray(temperature)
    if t.ndim:
        raise ValueError(f"temperature has shape {t.shape}, expected one number")
    if numerics.is_concrete(t) and not t > 0:
        raise ValueError(f"temperature is {t}, expected a number above 0")
    return jnp.where(t > 0, t, jnp.nan).astype(dtype)


def _array(a):
    return None if a is None else jnp.asarray(a)
