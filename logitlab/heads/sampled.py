"""Sampled softmax with log-Q correction."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.heads import _gathered
from logitlab.heads._operands import product
from logitlab.heads.samplers import (
    log_uniform_log_q,
    log_uniform_sample,
    uniform_sample,
)

__all__ = [
    "accidental_hits",
    "in_batch_softmax_loss",
    "sampled_softmax",
    "sampled_softmax_loss",
]

LOG_FLOOR = math.log(1e-20)  # keeps a class that is never drawn from a logit of inf


def sampled_softmax_loss(
    true_logits: ArrayLike,
    sampled_logits: ArrayLike,
    *,
    true_log_q: ArrayLike,
    sampled_log_q: ArrayLike,
    hit_mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Sampled softmax loss of true and drawn classes, with log-Q correction.

    Use it when the logits of the label and of the sample exist already.

    .. math:: \ell = -\tfrac{1}{T} \sum_{t \le T} \log \mathrm{softmax}([z'_T, z'_S])_t,
        \quad z'_v = z_v - \log \max(Q_v, 10^{-20})

    with Q the expected count of a class in the sample. The correction *subtracts* log
    Q: a class that is drawn often stands for fewer. The expected gradient is still not
    that of the full softmax, unless the sample is all other classes with Q = 1; report
    the full one.

    Shapes: true_logits [..., T], sampled_logits [..., S], true_log_q [..., T],
      sampled_log_q [..., S] -> [...]

    Args:
      true_logits: of the row's own classes.
      sampled_logits: of the sample.
      true_log_q: :math:`\log Q` of the true classes, broadcastable.
      sampled_log_q: of the sample, broadcastable. Below -46 both are taken to be -46.
      hit_mask: bool, broadcastable to ``sampled_logits`` and with as many axes: True
        hides one, for being a true class of the row, see :func:`accidental_hits`.

    Returns:
      Nats, float32 (float64 for float64 logits). 0 where T is 1 and all of the sample
      is hidden.

    Raises:
      TypeError: an argument is not floating point, or ``hit_mask`` not bool.
      ValueError: shapes that do not fit together, or no true class.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Bengio and Senecal 2008; Jean et al. 2015, arXiv:1412.2007.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import sampled_softmax_loss
    >>> zero = jnp.zeros(1)
    >>> q = dict(true_log_q=zero, sampled_log_q=jnp.log(jnp.array([0.5, 0.5])))
    >>> print(jnp.exp(sampled_softmax_loss(zero, jnp.zeros(2), **q)))
    5.0
    """
    true = _corrected(true_logits, true_log_q, "true")
    some = _corrected(sampled_logits, sampled_log_q, "sampled")
    if true.ndim < 1 or true.shape[-1] < 1:
        raise ValueError(
            f"true_logits has shape {true.shape}, expected (..., T), T > 0"
        )
    if some.ndim < 1 or some.shape[:-1] != true.shape[:-1]:
        raise ValueError(
            f"sampled_logits has shape {some.shape}, expected {(*true.shape[:-1], 'S')}"
        )
    if hit_mask is not None:
        hit_mask = jnp.asarray(hit_mask)
        if hit_mask.dtype != bool:
            raise TypeError(f"hit_mask has dtype {hit_mask.dtype}, expected bool")
        if hit_mask.ndim != some.ndim:  # one entry per row would pass for one per class
            raise ValueError(
                f"hit_mask has shape {hit_mask.shape}, expected {some.ndim} axes as "
                f"sampled_logits has, {some.shape}"
            )
        hidden = _broadcast(hit_mask, some.shape, "hit_mask", "sampled_logits")
        some = jnp.where(hidden, -jnp.inf, some)
    z = jnp.concatenate([true, some], -1)
    count = true.shape[-1]
    if count == 1:
        return numerics.label_nll(z, jnp.zeros(z.shape[:-1], jnp.int32))
    nothing = jnp.max(z, -1) == -jnp.inf
    return jnp.where(nothing, 0, -numerics.log_softmax(z)[..., :count].mean(-1))


def accidental_hits(labels: ArrayLike, sampled: ArrayLike) -> jax.Array:
    """Accidental hits: where a sampled class is one of the row's labels.

    Shapes: labels [..., T], sampled [S] -> [..., S]

    Args:
      labels: ints, the true classes of each row.
      sampled: ints, shared by all rows; one may be there twice.

    Raises:
      TypeError: ``labels`` or ``sampled`` is not integer.
      ValueError: ``labels`` has no axis, or ``sampled`` not one.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import accidental_hits
    >>> accidental_hits(jnp.array([[3]]), jnp.array([3, 1, 3]))
    Array([[ True, False,  True]], dtype=bool)
    """
    y = numerics.wide_labels(labels, "labels")
    ids = numerics.wide_labels(sampled, "sampled")
    if y.ndim < 1:
        raise ValueError(f"labels has shape {y.shape}, expected (..., T)")
    if ids.ndim != 1:
        raise ValueError(f"sampled has shape {ids.shape}, expected (S,)")
    ids = jnp.expand_dims(ids, range(y.ndim))
    return jnp.any(y[..., None] == ids, -2)


def sampled_softmax(
    key: jax.Array,
    hidden: ArrayLike,
    kernel: ArrayLike,
    labels: ArrayLike,
    *,
    num_sampled: int,
    sampler: str = "log_uniform",
    unique: bool = True,
    bias: ArrayLike | None = None,
    remove_accidental_hits: bool = True,
    transposed: bool = False,
) -> jax.Array:
    r"""Sampled softmax of a linear head: the label among a sample of classes.

    Use it when even one pass over the vocabulary per step is too much.

    .. math:: \ell = \text{sampled\_softmax\_loss of } z = h W + b, \;
        \text{at the labels and at } S \text{ drawn classes}

    Only those columns of the kernel are gathered. For training: see
    :func:`sampled_softmax_loss` for its bias.

    Shapes: hidden [..., D], kernel [D, V], labels [...] or [..., T] -> [...]

    Args:
      key: a ``jax.random.key``; the sample is shared by all tokens.
      hidden: features h. 16-bit ones are multiplied as they are, with float32 sums.
      kernel: [D, V].
      labels: ints in ``[0, V)``, one or T for each token; sorted by falling frequency
        for ``log_uniform``.
      num_sampled: S; not traced, as it is a shape.
      sampler: ``log_uniform`` or ``uniform``.
      unique: draws without replacement.
      bias: [V], or none.
      remove_accidental_hits: hides drawn classes that are true ones of the token.
      transposed: the kernel is [V, D], whose rows are faster to gather.

    Returns:
      Nats, one number for each token, float32 (float64 for float64 features).

    Raises:
      TypeError: floating point arguments that are not, ``labels`` that are not integer.
      ValueError: shapes that do not fit together, an unknown sampler, more unique
        samples than classes, or a label of C or more; under ``jit``, where values are
        unknown, such a label gives NaN.

    Numerics: relative error below 1e-5 of what the logits give, for margins up to 80.

    Source: Jean et al. 2015, arXiv:1412.2007.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.heads import sampled_softmax
    >>> h, kernel, y = jnp.ones((3, 4)), jnp.zeros((4, 50)), jnp.arange(3)
    >>> loss = jax.jit(sampled_softmax, static_argnames="num_sampled")
    >>> loss(jax.random.key(0), h, kernel, y, num_sampled=9).shape
    (3,)
    """
    h, batch = _gathered.tokens(hidden)
    shape = ("V", h.shape[1]) if transposed else (h.shape[1], "V")
    kernel = _gathered.matrix(kernel, "kernel", *shape)
    vocab = kernel.shape[0 if transposed else 1]
    if bias is not None:
        bias = _gathered.matrix(bias, "bias", vocab)
    y = numerics.wide_labels(labels)
    many = y.ndim == len(batch) + 1 and y.shape[-1] > 0
    wanted = (*batch, y.shape[-1]) if many else batch
    y, known = numerics.check_labels(y, wanted, vocab)
    flat = len(h), y.shape[-1] if many else 1
    y, known = y.reshape(flat), known.reshape(flat).all(-1)

    if sampler == "log_uniform":
        sample = log_uniform_sample(key, num_sampled, vocab, unique=unique)
        true_log_q = log_uniform_log_q(y, vocab, sample.num_tries, unique=unique)
    elif sampler == "uniform":
        sample = uniform_sample(key, num_sampled, vocab, unique=unique)
        true_log_q = jnp.full(y.shape, sample.log_q[0])
    else:
        raise ValueError(f"sampler is {sampler!r}, expected 'log_uniform' or 'uniform'")
    some = jnp.take(kernel, sample.ids, axis=0 if transposed else 1, mode="clip")
    losses = sampled_softmax_loss(
        _gathered.product_of_columns(h, kernel, y, bias, transposed),
        product(
            h,
            some.T if transposed else some,
            None if bias is None else bias[sample.ids],
        ),
        true_log_q=true_log_q,
        sampled_log_q=sample.log_q,
        hit_mask=accidental_hits(y, sample.ids) if remove_accidental_hits else None,
    )
    return jnp.where(known, losses, jnp.nan).reshape(batch)


def in_batch_softmax_loss(
    scores: ArrayLike, log_freq: ArrayLike, *, where: ArrayLike | None = None
) -> jax.Array:
    r"""In-batch softmax: each query's item among the items of all queries.

    Use it for two-tower retrieval, with log-Q correction for frequent items.

    .. math:: \ell_i = -\log \mathrm{softmax}(s_{i \cdot} - \log p_\cdot)_i

    with :math:`p_j` how often item j comes by: a frequent one is a negative more often
    than it should be.

    Shapes: scores [B, B], log_freq [B] -> [B]

    Args:
      scores: queries by items; those that belong together are on the diagonal.
      log_freq: :math:`\log p` of the items, see ``streaming_frequency_update``.
        Below -46 it is taken to be -46.
      where: bool [B, B], the items that a query is compared with. To hide the copies of
        a query's own item, ``(ids[:, None] != ids[None]) | jnp.eye(B, dtype=bool)``.

    Returns:
      Nats, float32 (float64 for float64 scores).

    Raises:
      TypeError: an argument is not floating point, or ``where`` not bool.
      ValueError: ``scores`` is not square, or the shapes do not fit together.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Yi et al. 2019, Sampling-bias-corrected neural modeling for large corpus
      item recommendations, RecSys, equations 4 to 6.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import in_batch_softmax_loss
    >>> log_p = jnp.log(jnp.array([1, 0.5]))
    >>> print(jnp.exp(in_batch_softmax_loss(jnp.zeros((2, 2)), log_p)))
    [3.  1.5]
    """
    z = _corrected(scores, log_freq, "scores")
    if z.ndim != 2 or z.shape[0] != z.shape[1]:
        raise ValueError(f"scores has shape {z.shape}, expected (B, B)")
    return numerics.label_nll(z, jnp.arange(len(z)), where=where)


def _corrected(logits, log_q, name):
    logits_name = name if name == "scores" else f"{name}_logits"
    log_q_name = "log_freq" if name == "scores" else f"{name}_log_q"
    z, log_q = (
        numerics.promote_to_float32(logits, logits_name),
        numerics.promote_to_float32(log_q, log_q_name),
    )
    log_q = jnp.maximum(log_q, LOG_FLOOR).astype(z.dtype)
    return z - _broadcast(log_q, z.shape, log_q_name, logits_name)


def _broadcast(array, shape, name, of):
    try:
        return jnp.broadcast_to(array, shape)
    except ValueError:
        raise ValueError(
            f"{name} has shape {array.shape}, expected one that broadcasts to {of}, "
            f"{shape}"
        ) from None
