"""What every loss is made of: exact log-probabilities and masked reductions.

``logsumexp(z) - z[y]`` rounds a confident example to zero: it is 0.2 % wrong at margin
12 in float32 and nothing but rounding error from 17 on, and its gradient dies with it.
The functions here measure every score from the top one and add up only what lies below
it, so that nothing small is ever added to something large.
"""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

__all__ = [
    "below",
    "class_axis_last",
    "is_known",
    "is_label",
    "kept",
    "known_labels",
    "label_nll",
    "label_score",
    "log_of_sum",
    "log_softmax",
    "logsumexp",
    "masked_mean",
    "promote",
    "softmax",
    "top_and_log_total",
]


def promote(array: ArrayLike, name: str = "logits") -> jax.Array:
    """Floating point ``array``, 16-bit types widened to float32.

    Raises:
      TypeError: ``array``, called ``name`` in the message, is not floating point.
    """
    array = jnp.asarray(array)
    if not jnp.issubdtype(array.dtype, jnp.floating):
        raise TypeError(f"{name} has dtype {array.dtype}, expected floating point")
    return array.astype(jnp.promote_types(array.dtype, jnp.float32))


def class_axis_last(
    logits: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    name: str = "logits",
) -> jax.Array:
    """Promoted logits with classes on the last axis and hidden ones at ``-inf``.

    Shapes: logits [..., C], where [..., C] -> [..., C]

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: no such axis, no classes, or ``where`` does not broadcast.
    """
    z = promote(logits, name)
    if not -z.ndim <= axis < z.ndim:
        raise ValueError(f"axis {axis} is not an axis of {name} with shape {z.shape}")
    if z.shape[axis] == 0:
        raise ValueError(f"{name} has shape {z.shape}, expected at least one class")
    if where is not None:
        where = jnp.asarray(where)
        if where.dtype != bool:
            raise TypeError(f"where has dtype {where.dtype}, expected bool")
        try:
            where = jnp.broadcast_to(where, z.shape)
        except ValueError:
            raise ValueError(
                f"where has shape {where.shape}, expected one that broadcasts to "
                f"{name}, {z.shape}"
            ) from None
        z = jnp.where(where, z, -jnp.inf)
    return jnp.moveaxis(z, axis, -1)


def log_softmax(
    logits: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""Log-probabilities of a softmax, exact for the confident class too.

    .. math:: \log p_c = -(z_k - z_c) - \log(1 + \sum_{j \ne k} e^{z_j - z_k})

    with :math:`k` the top class. Derivatives of every order are as exact as the value,
    in forward and in reverse mode.

    Shapes: logits [..., C], where [..., C] -> [..., C]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      axis: the class axis.
      where: bool, the classes that take part, broadcastable to ``logits``.

    Returns:
      Log-probabilities in nats, float32 (float64 for float64 logits), ``-inf`` at
      hidden classes. Hidden classes get no gradient.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: no such axis, no classes, or ``where`` does not broadcast.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80;
      ``jax.nn.log_softmax`` returns 0 for the top class from margin 17 on.

    Source: softmax collapse, Prieto et al. 2025, arXiv:2501.04697.

    >>> log_softmax(jnp.float32([40, 0]))
    Array([-4.248354e-18, -4.000000e+01], dtype=float32)
    """
    z = class_axis_last(logits, axis=axis, where=where)
    return jnp.moveaxis(_log_softmax(z), -1, axis)


@jax.custom_jvp
def _log_softmax(z):
    top, log_total = top_and_log_total(z)
    return below(z, top) - log_total


@_log_softmax.defjvp
def _log_softmax_jvp(primals, tangents):
    (z,), (dz,) = primals, tangents
    log_p = _log_softmax(z)
    top, log_total = top_and_log_total(z)
    # A top class with more than half of the mass has no equal. It moves exactly with
    # itself; spelling that zero out makes its gradient a sum over the other classes.
    alone = log_total < 0.69
    lead = (z == top) & alone
    dz = jnp.where(z == -jnp.inf, 0, dz)
    dtop = jnp.sum(jnp.where(z == top, dz, 0), -1, keepdims=True)
    r = jnp.where(lead, 0, dz - jnp.where(alone, dtop, 0))
    # Divided after the sum: under vmap, XLA's CPU backend (jaxlib 0.10.2) gets
    # `r - sum(p * r)` wrong.
    e, total = _weights(z)
    return log_p, r - jnp.sum(e * r, -1, keepdims=True) / total


@jax.custom_jvp
def _weights(z):
    """Exponentials measured from the top score and their sum; 1 for an empty one."""
    e = jnp.exp(below(z, _finite_top(z)))
    return e, jnp.maximum(jnp.sum(e, -1, keepdims=True), 1)


@_weights.defjvp
def _weights_jvp(primals, tangents):
    # Only the quotient, the probability, is ever differentiated: its derivative is put
    # on the exponentials, exact for the top one too.
    e, total = _weights(*primals)
    _, dlog_p = jax.jvp(_log_softmax, primals, tangents)
    return (e, total), (e * dlog_p, jnp.zeros_like(total))


def top_and_log_total(z: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Largest logit, and the exact log of the sum of exponentials measured from it.

    Shapes: z [..., C] -> [..., 1], [..., 1]

    Without gradient; the top of a row without classes is 0.

    >>> top_and_log_total(jnp.float32([40, 0]))[1]
    Array([4.248354e-18], dtype=float32)
    """
    z = jax.lax.stop_gradient(z)
    e, total = _weights(z)
    # What a lone top would round away is added up without it. The arithmetic spells
    # `where(e < 1, e, 0)`, which XLA's CPU backend would store before it sums.
    rest = jnp.sum(e - jnp.floor(e), -1, keepdims=True)
    return _finite_top(z), log_of_sum(total, rest)


def log_of_sum(total: jax.Array, rest: jax.Array) -> jax.Array:
    """Log of a sum of numbers up to 1, exact where a lone 1 would round the rest away.

    Shapes: total [...], rest [...] -> [...]

    Args:
      total: the sum.
      rest: the sum of ``e - floor(e)``, which leaves every 1 out.
    """
    alone = (total < 2) & (total - rest > 0.5)  # or no number was 1, by rounding
    return jnp.where(alone, jnp.log1p(rest), jnp.log(total))


def below(z: jax.Array, top: jax.Array) -> jax.Array:
    """``z - top`` for scores and their largest one, which comes out as exactly 0.

    Shapes: z [..., C], top [..., 1] -> [..., C]

    Where logits are a product that the same program computes, compilers fuse it with a
    difference and round once: the top score would lie beside itself. A minimum between
    the two, which changes no finite number, keeps them apart. (A select does as well,
    but XLA's CPU backend would store its result.)

    >>> below(jnp.float32([3, 1]), jnp.float32([3]))
    Array([ 0., -2.], dtype=float32)
    """
    return jnp.minimum(z, jnp.finfo(z.dtype).max) - top


def softmax(
    logits: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""Probabilities whose derivatives keep what the confident class has left.

    .. math:: p_c = e^{z_c - z_k} / \sum_j e^{z_j - z_k}, \quad dp = p \, d\log p

    with :math:`k` the top class. ``p`` itself rounds to 1, so take what is far from 1
    from :func:`log_softmax`.

    Shapes: logits [..., C], where [..., C] -> [..., C]

    Returns:
      float32 (float64 for float64 logits), 0 at hidden classes, which get no gradient.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: no such axis, no classes, or ``where`` does not broadcast.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80; the
      slope :math:`p_k (1 - p_k)` is 0 in ``jax.nn.softmax`` from margin 17 on.

    >>> jax.grad(lambda z: softmax(z)[0])(jnp.float32([40, 0]))
    Array([ 4.248354e-18, -4.248354e-18], dtype=float32)
    """
    z = class_axis_last(logits, axis=axis, where=where)
    return jnp.moveaxis(_softmax(z), -1, axis)


def _softmax(z):
    e, total = _weights(z)
    return e / total


def logsumexp(
    logits: ArrayLike, *, axis: int = -1, where: ArrayLike | None = None
) -> jax.Array:
    r"""Log of the sum of exponentials over the classes that take part.

    .. math:: z_k + \log \sum_c e^{z_c - z_k}

    Shapes: logits [..., C], where [..., C] -> [...]

    Returns:
      float32 (float64 for float64 logits); ``-inf`` with zero gradient where every
      class is hidden.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: no such axis, no classes, or ``where`` does not broadcast.

    >>> logsumexp(jnp.float32([1e4, 1e4]))
    Array(10000.693, dtype=float32)
    """
    z = class_axis_last(logits, axis=axis, where=where)
    top = jax.lax.stop_gradient(_finite_top(z))
    total = jnp.sum(jnp.exp(z - top), -1)
    some = total > 0
    return jnp.where(some, jnp.log(jnp.where(some, total, 1)) + top[..., 0], -jnp.inf)


def label_nll(
    logits: ArrayLike,
    labels: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Minus the log-probability of an integer label, at the cost of a reduction.

    .. math:: \ell = -\log p_y = \log(1 + \sum_{c \ne y} e^{z_c - z_y})

    The same number as ``-log_softmax(logits)[labels]``, without an array of the logits'
    size. ``exp(-label_nll)`` and ``-expm1(-label_nll)`` are the label's probability and
    its complement, both exact.

    Shapes: logits [..., C], labels [...], where [..., C] -> [...]

    Returns:
      Nats, float32 (float64 for float64 logits). A hidden label costs ``inf``, a row
      without classes 0.

    Raises:
      TypeError: ``logits`` is not floating point, ``labels`` not integer, ``where`` not
        bool.
      ValueError: wrong label shape, or a label out of range; under ``jit``, where
        values are unknown, such a label gives NaN, never another class's number.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: softmax collapse, Prieto et al. 2025, arXiv:2501.04697.

    >>> label_nll(jnp.float32([40, 0]), 0)
    Array(4.248354e-18, dtype=float32)
    """
    z = class_axis_last(logits, axis=axis, where=where)
    y, known = known_labels(labels, z.shape[:-1], z.shape[-1])
    return jnp.where(known, _label_nll(z, y), jnp.nan)


def known_labels(
    labels: ArrayLike, shape: tuple[int, ...], classes: int
) -> tuple[jax.Array, jax.Array]:
    """Integer labels of a shape, 0 where they are no class, and which of them are one.

    Returns:
      The labels as int32, and a bool array.

    Raises:
      TypeError: ``labels`` is not integer.
      ValueError: wrong shape, or a label outside ``[0, classes)``; under ``jit``,
        where values are unknown, it is only not known.

    >>> known_labels(jnp.array([2, 0]), (2,), 3)[1]
    Array([ True,  True], dtype=bool)
    """
    y = jnp.asarray(labels)
    if not jnp.issubdtype(y.dtype, jnp.integer):
        raise TypeError(f"labels has dtype {y.dtype}, expected integers")
    if y.shape != tuple(shape):
        raise ValueError(f"labels has shape {y.shape}, expected {tuple(shape)}")
    known = (y >= 0) & (y < classes)
    if is_known(known) and not known.all():
        raise ValueError(f"labels outside [0, {classes}): {y[~known][:5]}")
    return jnp.where(known, y, 0).astype(jnp.int32), known


@jax.custom_jvp
def _label_nll(z, y):
    top, log_total = top_and_log_total(z)
    nll = log_total - below(label_score(z, y)[..., None], top)
    return jnp.where(_is_empty(z), 0, nll)[..., 0]


@_label_nll.defjvp
def _label_nll_jvp(primals, tangents):
    (z, y), (dz, _) = primals, tangents
    nll = _label_nll(z, y)
    p, label = _softmax(z), is_label(z, y)
    # p_y - 1 is the small number that matters; it is known without a subtraction.
    sure = label & (nll[..., None] < 0.69)
    slope = jnp.where(sure, jnp.expm1(-nll)[..., None], p - label)
    return nll, jnp.sum(slope * jnp.where(z == -jnp.inf, 0, dz), -1)


def _finite_top(z):
    """Row maximum, 0 where every class is hidden."""
    return jnp.where(_is_empty(z), 0, jnp.max(z, -1, keepdims=True))


def _is_empty(z):
    """Rows in which every class is hidden."""
    return jnp.max(z, -1, keepdims=True) == -jnp.inf


def is_label(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """Bool, where the class on the last axis is the label, laid out as the logits are.

    Shapes: logits [..., C], labels [...] -> [..., C]

    A label that is no class is nowhere.

    >>> is_label(jnp.zeros((2, 3)), jnp.array([2, -1]))
    Array([[False, False,  True],
           [False, False, False]], dtype=bool)
    """
    classes = jax.lax.broadcasted_iota(
        jnp.int32,
        logits.shape,
        logits.ndim - 1,
        out_sharding=jax.typeof(logits).sharding,
    )
    return classes == labels[..., None]


def label_score(logits: jax.Array, labels: jax.Array) -> jax.Array:
    """The logit of the label, also where classes are spread over devices.

    Shapes: logits [..., C], labels [...] -> [...]

    >>> label_score(jnp.float32([3, 1]), jnp.array(1))
    Array(1., dtype=float32)
    """
    if jax.typeof(logits).sharding.spec[-1] is None:
        return jnp.take_along_axis(logits, labels[..., None], -1)[..., 0]
    # Explicit class axis: no gather
    return jnp.where(is_label(logits, labels), logits, 0).sum(-1)


def is_known(array: jax.Array) -> bool:
    """Whether this process can look at every value: not under ``jit``, for instance.

    >>> is_known(jnp.ones(2)), jax.jit(lambda x: x * is_known(x))(1.0)
    (True, Array(0., dtype=float32, weak_type=True))
    """
    return not isinstance(array, jax.core.Tracer) and array.is_fully_addressable


def kept(
    mask: ArrayLike | None, shape: tuple[int, ...], name: str = "mask"
) -> jax.Array:
    """The bool array of a shape that says which examples count; all without a mask.

    Raises:
      TypeError: ``mask``, called ``name`` in the message, is not bool.
      ValueError: it has another shape.

    >>> kept(None, (2,))
    Array([ True,  True], dtype=bool)
    """
    if mask is None:
        return jnp.ones(shape, bool)
    mask = jnp.asarray(mask)
    if mask.dtype != bool:
        raise TypeError(f"{name} has dtype {mask.dtype}, expected bool")
    if mask.shape != tuple(shape):
        raise ValueError(f"{name} has shape {mask.shape}, expected {tuple(shape)}")
    return mask


def masked_mean(losses: ArrayLike, mask: ArrayLike | None = None) -> jax.Array:
    """Mean of the losses that ``mask`` keeps; the others are selected out.

    A loss that is left out may be NaN or infinite: it touches neither the mean nor its
    gradient. No example kept gives 0 with zero gradient.

    Shapes: losses [...], mask [...] -> []

    Raises:
      TypeError: ``losses`` is not floating point or ``mask`` is not bool.
      ValueError: the shapes differ.

    >>> masked_mean(jnp.float32([1, 3, jnp.nan]), jnp.array([True, True, False]))
    Array(2., dtype=float32)
    """
    losses = promote(losses, "losses")
    if mask is None:
        return losses.sum() / max(losses.size, 1)
    mask = kept(mask, losses.shape)
    count = mask.sum(dtype=losses.dtype)
    return jnp.where(mask, losses, 0).sum() / jnp.maximum(count, 1)
