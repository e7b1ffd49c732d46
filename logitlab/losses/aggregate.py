"""Learning from bags of examples that share the mean of their labels."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.comp_sums import cross_entropy
from logitlab.numerics._bags import bag_means, bag_sizes, check_bag_ids
from logitlab.numerics.arguments import check_range, hyper, weighted

__all__ = ["bag_loss", "instance_loss", "interpolated_aggregate_loss"]


_KINDS = ("softmax", "sigmoid", "identity")


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

    Use it when privacy or reporting leaves only averages over bags.

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

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import bag_loss
    >>> f, ids = jnp.float32([0, 1, 2, 3]), jnp.array([0, 0, 1, 1])
    >>> bag_loss(f, jnp.float32([1, 2]), ids, 2, kind="identity")
    Array([0.25, 0.25], dtype=float32)
    """
    bags = _bags(logits, bag_labels, segment_ids, num_bags, kind, where, mask)
    return _bag(kind, *bags)[: jnp.shape(bag_labels)[0]]


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

    Use it when bags are pure enough to lend each member the bag's label.

    .. math:: \ell_a = -\frac{1}{k} \sum_{i \in B_a} \sum_c \bar y_{ac} \log p_{ic}

    Never below ``bag_loss``; for ``identity`` above it by the variance of the bag.

    Shapes: logits [N, C], bag_labels [B, C], segment_ids [N], mask [N] -> [B]

    The arguments, returns and errors are those of ``bag_loss``.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Javanmard et al. 2024, arXiv:2401.11081.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import instance_loss
    >>> f, ids = jnp.float32([0, 1, 2, 3]), jnp.array([0, 0, 1, 1])
    >>> instance_loss(f, jnp.float32([1, 2]), ids, 2, kind="identity")
    Array([0.5, 0.5], dtype=float32)
    """
    bags = _bags(logits, bag_labels, segment_ids, num_bags, kind, where, mask)
    return _instance(kind, *bags)[: jnp.shape(bag_labels)[0]]


def interpolated_aggregate_loss(
    logits: ArrayLike,
    bag_labels: ArrayLike,
    segment_ids: ArrayLike,
    num_bags: int | None = None,
    *,
    rho: ArrayLike = 0.5,
    kind: str = "softmax",
    where: ArrayLike | None = None,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Between the loss of a bag and the losses of its instances: one value per bag.

    Use it when you want something between ``bag_loss`` and ``instance_loss``.

    .. math:: (1 - \rho)\,\ell^{bag}_a + \rho\,\ell^{instance}_a

    Shapes: logits [N, C], bag_labels [B, C], segment_ids [N], mask [N] -> [B]

    The arguments, returns and errors are those of ``bag_loss``, and ``rho``, in [0, 1]:
    0 is ``bag_loss``, 1 ``instance_loss``. It may be traced.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Javanmard et al. 2024, arXiv:2401.11081.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import interpolated_aggregate_loss
    >>> f, ids = jnp.float32([0, 1, 2, 3]), jnp.array([0, 0, 1, 1])
    >>> y = jnp.float32([1, 2])
    >>> interpolated_aggregate_loss(f, y, ids, 2, rho=0.5, kind="identity")
    Array([0.375, 0.375], dtype=float32)
    """
    _check_rho(rho)
    bags = _bags(logits, bag_labels, segment_ids, num_bags, kind, where, mask)
    bag, instance = _bag(kind, *bags), _instance(kind, *bags)
    part, rest = hyper("rho", rho, bag.dtype), hyper("rho", 1 - rho, bag.dtype)
    mixed = weighted(rest, bag) + weighted(part, instance)
    return mixed[: jnp.shape(bag_labels)[0]]


def _bag(kind, z, y, ids, keep):
    bags = y.shape[0]
    if kind == "identity":
        square = jnp.square(bag_means(z, ids, keep, bags) - y)
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
        yes, no = jax.nn.softplus(-z), jax.nn.softplus(z)
        cost = own * yes + (1 - own) * no
    else:
        cost = cross_entropy(z, own)
    return bag_means(cost, ids, keep, bags)


def _log_probs(kind, z, y):
    if kind == "softmax":
        return numerics.log_softmax(z), y
    log_p = jnp.stack([jax.nn.log_sigmoid(z), jax.nn.log_sigmoid(-z)], -1)
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
    less = -bag_means(-numerics.expm1(below), ids, keep, bags)
    near = less > -0.5
    total = jax.ops.segment_sum(jnp.exp(below), ids, bags)
    total = jnp.where(near | none, 1, total)
    count = bag_sizes(ids, keep.reshape(-1), bags, x.dtype)
    count = count.reshape(-1, *(1,) * (x.ndim - 1))
    log_mean = top + jnp.where(
        near, jnp.log1p(jnp.where(near, less, 0)), jnp.log(total) - jnp.log(count)
    )
    return jnp.where(none, bag_means(x, ids, keep, bags), log_mean)


def _any(ids, keep, bags):
    return jax.ops.segment_sum(keep.astype(jnp.int32), ids, bags) > 0


def _bags(logits, bag_labels, segment_ids, num_bags, kind, where, mask):
    if kind not in _KINDS:
        raise ValueError(f"kind is {kind!r}, expected one of {_KINDS}")
    y = numerics.promote_to_float32(bag_labels, "bag_labels")
    if kind == "softmax":
        z = numerics.prepare_logits(logits, where=where)
        expected = ("B", z.shape[-1])
        fits = y.ndim == 2 and y.shape[1] == z.shape[-1]
        examples = z.shape[:-1]
    elif where is not None:
        raise ValueError(f"where is for kind 'softmax', kind is {kind!r}")
    else:
        z = numerics.promote_to_float32(logits)
        expected, fits, examples = ("B",), y.ndim == 1, z.shape
    if not fits:
        raise ValueError(f"bag_labels has shape {y.shape}, expected {expected}")
    if num_bags not in (None, y.shape[0]):
        raise ValueError(
            f"num_bags is {num_bags}, expected the length of bag_labels, {y.shape[0]}"
        )
    ids, keep = check_bag_ids(segment_ids, examples, y.shape[0], mask)
    ids, keep = ids.reshape(-1), keep.reshape(-1)
    z = z.reshape(ids.size, *z.shape[len(examples) :])
    # An example without classes says nothing about its bag.
    keep &= (z > -jnp.inf).any(tuple(range(1, z.ndim)))
    z = jnp.where(keep.reshape(keep.shape + (1,) * (z.ndim - 1)), z, 0)
    return z, _at_least_one(y.astype(z.dtype)), ids, keep


def _at_least_one(y):
    """Labels of no bags at all are those of an empty one, which nothing belongs to."""
    return y if y.shape[0] else jnp.zeros((1, *y.shape[1:]), y.dtype)


def _check_rho(rho):
    check_range("rho", rho, lambda r: (r >= 0) & (r <= 1), "a number in [0, 1]")
