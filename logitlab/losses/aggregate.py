"""Learning from bags of examples that share the mean of their labels."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.comp_sums import cross_entropy
from logitlab.losses.rows import Row

__all__ = [
    "aggregate_labels",
    "aggregate_ridge",
    "bag_loss",
    "instance_loss",
    "interpolated_aggregate_loss",
]

NOT_LOSSES = ("aggregate_labels", "aggregate_ridge")

_KINDS = ("softmax", "sigmoid", "identity")
_SOURCE = "Learning from Aggregate responses, Javanmard et al. 2024, arXiv:2401.11081"


def bag_loss(
    logits: ArrayLike,
    bag_labels: ArrayLike,
    segment_ids: ArrayLike,
    num_bags: int | None = None,
    *,
    kind: str = "softmax",
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Loss of each bag's mean prediction: one value per bag.

    .. math:: \ell_a = -\sum_c \bar y_{ac} \log \frac{1}{k} \sum_{i \in B_a} p_{ic}

    For ``sigmoid`` the two classes of one score, for ``identity`` the squared error
    :math:`(\bar y_a - \frac{1}{k} \sum_i f_i)^2`.

    Shapes: logits [N, C], bag_labels [B, C], segment_ids [N], mask [N] -> [B]

    Args:
      logits: scores of the examples, classes last; without class axis for ``sigmoid``
        and ``identity``. ``-inf`` is the same as ``where=False``.
      bag_labels: mean of the labels of each bag; without class axis for ``sigmoid`` and
        ``identity``.
      segment_ids: the bag of each example; outside ``[0, num_bags)`` it is in none.
      num_bags: the number of bags, if it should be checked: the length of
        ``bag_labels``.
      kind: ``softmax``, ``sigmoid`` or ``identity``.
      where: bool, the classes that take part (``softmax`` only).
      mask: bool, the examples that take part.

    Returns:
      Nats (``identity``: squared units), float32 (float64 for float64 logits). A bag
      without examples costs 0. Mass on a class hidden for all of the bag costs
      ``inf``.

    Raises:
      TypeError: ``logits`` or ``bag_labels`` is not floating point, ``segment_ids`` not
        integer, ``where`` or ``mask`` not bool.
      ValueError: an unknown ``kind`` or wrong shapes.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Javanmard et al. 2024, arXiv:2401.11081.

    >>> f, ids = jnp.float32([0, 1, 2, 3]), jnp.array([0, 0, 1, 1])
    >>> bag_loss(f, jnp.float32([1, 2]), ids, 2, kind="identity")
    Array([0.25, 0.25], dtype=float32)
    """
    bags = _bags(logits, bag_labels, segment_ids, num_bags, kind, where, mask)
    return _bag(kind, *bags)


def instance_loss(
    logits: ArrayLike,
    bag_labels: ArrayLike,
    segment_ids: ArrayLike,
    num_bags: int | None = None,
    *,
    kind: str = "softmax",
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Mean over each bag of the loss against the bag's label: one value per bag.

    .. math:: \ell_a = -\frac{1}{k} \sum_{i \in B_a} \sum_c \bar y_{ac} \log p_{ic}

    Never below ``bag_loss``; for ``identity`` above it by the variance of the bag.

    Shapes: logits [N, C], bag_labels [B, C], segment_ids [N], mask [N] -> [B]

    The arguments, returns and errors are those of ``bag_loss``.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Javanmard et al. 2024, arXiv:2401.11081.

    >>> f, ids = jnp.float32([0, 1, 2, 3]), jnp.array([0, 0, 1, 1])
    >>> instance_loss(f, jnp.float32([1, 2]), ids, 2, kind="identity")
    Array([0.5, 0.5], dtype=float32)
    """
    bags = _bags(logits, bag_labels, segment_ids, num_bags, kind, where, mask)
    return _instance(kind, *bags)


def interpolated_aggregate_loss(
    logits: ArrayLike,
    bag_labels: ArrayLike,
    segment_ids: ArrayLike,
    num_bags: int | None = None,
    *,
    rho: float = 0.5,
    kind: str = "softmax",
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Between the loss of a bag and the losses of its instances: one value per bag.

    .. math:: (1 - \rho)\,\ell^{bag}_a + \rho\,\ell^{instance}_a

    Shapes: logits [N, C], bag_labels [B, C], segment_ids [N], mask [N] -> [B]

    The arguments, returns and errors are those of ``bag_loss``, and ``rho``, in [0, 1]:
    0 is ``bag_loss``, 1 ``instance_loss``. It may be traced.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Javanmard et al. 2024, arXiv:2401.11081.

    >>> f, ids = jnp.float32([0, 1, 2, 3]), jnp.array([0, 0, 1, 1])
    >>> y = jnp.float32([1, 2])
    >>> interpolated_aggregate_loss(f, y, ids, 2, rho=0.5, kind="identity")
    Array([0.375, 0.375], dtype=float32)
    """
    _check_rho(rho)
    bags = _bags(logits, bag_labels, segment_ids, num_bags, kind, where, mask)
    bag, instance = _bag(kind, *bags), _instance(kind, *bags)
    rho = jnp.asarray(rho, bag.dtype)
    # A part without weight may be infinite.
    return jnp.where(rho < 1, (1 - rho) * jnp.where(rho < 1, bag, 0), 0) + jnp.where(
        rho > 0, rho * jnp.where(rho > 0, instance, 0), 0
    )


def aggregate_labels(
    labels: ArrayLike, segment_ids: ArrayLike, num_bags: int
) -> jax.Array:
    r"""Mean of the labels of each bag.

    .. math:: \bar y_a = \frac{1}{k} \sum_{i \in B_a} y_i

    Shapes: labels [N, ...], segment_ids [N] -> [num_bags, ...]

    Args:
      labels: numbers; for classes one-hot or distributions.
      segment_ids: the bag of each example; outside ``[0, num_bags)`` it is in none.
      num_bags: how many bags.

    Returns:
      Float32 (float64 for float64 labels), 0 for a bag without examples.

    Raises:
      TypeError: ``segment_ids`` is not integer.
      ValueError: wrong shapes.

    Source: Javanmard et al. 2024, arXiv:2401.11081.

    >>> aggregate_labels(jnp.array([0, 1, 1]), jnp.array([0, 0, 1]), 2)
    Array([0.5, 1. ], dtype=float32)
    """
    y = jnp.asarray(labels)
    y = y.astype(jnp.promote_types(y.dtype, jnp.float32))
    ids, keep = _ids(segment_ids, y.shape[:1], num_bags, None)
    return _segment_mean(y, ids, keep, num_bags)


def aggregate_ridge(
    x: ArrayLike, bag_ids: ArrayLike, bag_y: ArrayLike, rho: float
) -> jax.Array:
    r"""Least-squares weights of the interpolated loss, in closed form.

    .. math:: \theta = \Big[(1 - \rho) \bar X^T \bar X +
        \rho \sum_a \frac{1}{k_a} \sum_{i \in B_a} x_i x_i^T\Big]^+ \bar X^T \bar y

    Shapes: x [N, D], bag_ids [N], bag_y [B] -> [D]

    Returns:
      The minimiser of the squared ``interpolated_aggregate_loss``, the shortest one if
      there are several; float32 (float64 for float64 features).

    Raises:
      TypeError: ``x`` or ``bag_y`` is not floating point, ``bag_ids`` not integer.
      ValueError: wrong shapes, or ``rho`` outside [0, 1].

    Source: Javanmard et al. 2024, arXiv:2401.11081.

    >>> x = jnp.float32([[1], [3]])
    >>> aggregate_ridge(x, jnp.array([0, 0]), jnp.float32([4]), 0.0).round(4)
    Array([2.], dtype=float32)
    """
    _check_rho(rho)
    x, y = numerics.promote(x, "x"), numerics.promote(bag_y, "bag_y")
    if x.ndim != 2:
        raise ValueError(f"x has shape {x.shape}, expected two axes")
    if y.ndim != 1:
        raise ValueError(f"bag_y has shape {y.shape}, expected one axis")
    bags = y.shape[0]
    ids, keep = _ids(bag_ids, x.shape[:1], bags, None)
    mean = _segment_mean(x, ids, keep, bags)
    full = jnp.any(_segment_mean(jnp.ones_like(x[:, :1]), ids, keep, bags) > 0, -1)
    share = keep / _counts(ids, keep, bags, x.dtype)[ids]
    y = jnp.where(full, y, 0).astype(x.dtype)
    within = jnp.einsum("n,nd,ne->de", share.astype(x.dtype), x, x)
    system = (1 - rho) * mean.T @ mean + rho * within
    return jnp.linalg.pinv(system, hermitian=True) @ (mean.T @ y)


def _bag(kind, z, y, ids, keep):
    bags = y.shape[0]
    if kind == "identity":
        square = jnp.square(_segment_mean(z, ids, keep, bags) - y)
        return jnp.where(_any(ids, keep, bags), square, 0)
    log_p, y = _log_probs(kind, z, y)
    log_mean = _segment_log_mean(log_p, ids, keep, bags)
    some = y != 0
    cost = jnp.where(some, -y * jnp.where(some, log_mean, 0), 0).sum(-1)
    return jnp.where(_any(ids, keep, bags), cost, 0)


def _instance(kind, z, y, ids, keep):
    bags = y.shape[0]
    own = y[jnp.where(keep, ids, 0)]
    if kind == "identity":
        cost = jnp.square(own - z)
    elif kind == "sigmoid":
        yes, no = jnp.logaddexp(0, -z), jnp.logaddexp(0, z)
        cost = own * yes + (1 - own) * no
    else:
        cost = cross_entropy(z, own)
    return _segment_mean(cost, ids, keep, bags)


def _log_probs(kind, z, y):
    if kind == "softmax":
        return numerics.log_softmax(z), y
    log_p = jnp.stack([-jnp.logaddexp(0, -z), -jnp.logaddexp(0, z)], -1)
    return log_p, jnp.stack([y, 1 - y], -1)


def _segment_log_mean(x, ids, keep, bags):
    """Log of the mean of the exponentials, exact for probabilities near 1 too."""
    keep = keep.reshape(keep.shape + (1,) * (x.ndim - 1))
    x = jnp.where(keep, x, -jnp.inf)
    held = jax.lax.stop_gradient(x)
    top = jax.ops.segment_max(held, ids, bags)
    none = top == -jnp.inf
    top = jnp.where(none, 0, top)
    # Where no example has mass the value is -inf, its slope the mean of the slopes.
    lost = none[ids]
    below = jnp.where(lost | ~keep | (x == -jnp.inf), -jnp.inf, x - top[ids])
    less = -_segment_mean(_one_minus_exp(below), ids, keep, bags)
    near = less > -0.5
    total = jax.ops.segment_sum(jnp.exp(below), ids, bags)
    total = jnp.where(near | none, 1, total)
    count = _counts(ids, keep.reshape(-1), bags, x.dtype)
    count = count.reshape(-1, *(1,) * (x.ndim - 1))
    log_mean = top + jnp.where(
        near, jnp.log1p(jnp.where(near, less, 0)), jnp.log(total) - jnp.log(count)
    )
    return jnp.where(none, _segment_mean(x, ids, keep, bags), log_mean)


def _one_minus_exp(x):
    """``1 - exp(x)`` for x <= 0; the slope of ``expm1`` itself rounds to 0 far down."""
    near = x > -0.69
    return jnp.where(near, -jnp.expm1(jnp.where(near, x, 0)), 1 - jnp.exp(x))


def _segment_mean(x, ids, keep, bags):
    keep = keep.reshape(keep.shape[:1] + (1,) * (x.ndim - 1))
    share = _counts(ids, keep.reshape(-1), bags, x.dtype)[ids]
    share = share.reshape(keep.shape)
    return jax.ops.segment_sum(jnp.where(keep, x / share, 0), ids, bags)


def _counts(ids, keep, bags, dtype):
    return jnp.maximum(jax.ops.segment_sum(keep.astype(dtype), ids, bags), 1)


def _any(ids, keep, bags):
    return jax.ops.segment_sum(keep.astype(jnp.int32), ids, bags) > 0


def _bags(logits, bag_labels, segment_ids, num_bags, kind, where, mask):
    if kind not in _KINDS:
        raise ValueError(f"kind is {kind!r}, expected one of {_KINDS}")
    y = numerics.promote(bag_labels, "bag_labels")
    if kind == "softmax":
        z = numerics.class_axis_last(logits, where=where)
        expected = ("B", z.shape[-1])
        fits = y.ndim == 2 and y.shape[1] == z.shape[-1]
        examples = z.shape[:-1]
    elif where is not None:
        raise ValueError(f"where is for kind 'softmax', kind is {kind!r}")
    else:
        z = numerics.promote(logits)
        expected, fits, examples = ("B",), y.ndim == 1, z.shape
    if not fits or y.shape[0] == 0:
        raise ValueError(f"bag_labels has shape {y.shape}, expected {expected}")
    if num_bags not in (None, y.shape[0]):
        raise ValueError(
            f"num_bags is {num_bags}, expected the length of bag_labels, {y.shape[0]}"
        )
    ids, keep = _ids(segment_ids, examples, y.shape[0], mask)
    ids, keep = ids.reshape(-1), keep.reshape(-1)
    z = z.reshape(-1, *z.shape[len(examples) :])
    # An example without classes says nothing about its bag.
    keep &= (z > -jnp.inf).reshape(keep.size, -1).any(-1)
    z = jnp.where(keep.reshape(keep.shape + (1,) * (z.ndim - 1)), z, 0)
    return z, y.astype(z.dtype), ids, keep


def _ids(segment_ids, shape, bags, mask):
    ids = jnp.asarray(segment_ids)
    if not jnp.issubdtype(ids.dtype, jnp.integer):
        raise TypeError(f"segment_ids has dtype {ids.dtype}, expected integers")
    if ids.shape != shape:
        raise ValueError(f"segment_ids has shape {ids.shape}, expected {shape}")
    keep = (ids >= 0) & (ids < bags) & numerics.kept(mask, shape)
    # What is in no bag adds nothing to the first.
    return jnp.where(keep, ids, 0).astype(jnp.int32), keep


def _check_rho(rho):
    fine = (rho >= 0) & (rho <= 1)  # traced if rho is, or if this is under jit
    if not isinstance(fine, jax.core.Tracer) and not fine:
        raise ValueError(f"rho is {rho}, expected a number in [0, 1]")


def _bag_labels(key, shape, dtype):
    z, y = jax.random.split(key)
    bags = (shape[0] + 1) // 2
    probs = jax.nn.softmax(jax.random.normal(y, (bags, shape[-1]), dtype))
    ids = jnp.arange(shape[0]) // 2
    ids = jnp.broadcast_to(ids.reshape(-1, *(1,) * (len(shape) - 2)), shape[:-1])
    return 3 * jax.random.normal(z, shape, dtype), probs, ids


ROWS = (
    Row(
        bag_loss,
        "batch",
        _bag_labels,
        _SOURCE,
        gathers="a bag is summed over the devices that hold its examples",
        note="one value per bag",
    ),
    Row(
        instance_loss,
        "batch",
        _bag_labels,
        _SOURCE,
        convex=True,
        gathers="a bag is summed over the devices that hold its examples",
        note="one value per bag",
    ),
    Row(
        interpolated_aggregate_loss,
        "batch",
        _bag_labels,
        _SOURCE,
        gathers="a bag is summed over the devices that hold its examples",
        note="one value per bag",
    ),
)
