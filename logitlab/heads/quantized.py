"""Vector-quantized heads: classes share K code vectors."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.heads import _gathered
from logitlab.heads._operands import product
from logitlab.heads.codes import check_mapping

__all__ = [
    "vq_cluster_log_mass",
    "vq_label_log_probs",
    "vq_loss",
    "vq_scatter_logits",
]


def vq_label_log_probs(
    code_logits: ArrayLike,
    labels: ArrayLike,
    mapping: ArrayLike,
    *,
    log_cluster_mass: ArrayLike,
    token_bias: ArrayLike | None = None,
) -> jax.Array:
    r"""Log-probability of the label under a vector-quantized head, in O(K).

    .. math:: \log p_y = L_{M(y)} + b_y - \log \sum_k e^{L_k + \log n_k}, \quad
        n_k = \sum_{v : M(v) = k} e^{b_v}

    with b = 0 the size of the cluster. Exactly the softmax of
    :func:`vq_scatter_logits`, in O(K). Classes of one code differ in their bias alone:
    for frequencies q the loss is at least :math:`\sum_v q_v \log(q_v n_{M(v)} /
    q_{M(v)})` above their entropy, without biases and context.

    Shapes: code_logits [..., K], labels [...], mapping [V], log_cluster_mass [K]
      -> [...]

    Args:
      code_logits: L.
      labels: ints in ``[0, V)``.
      mapping: M, ints in ``[0, K)``.
      log_cluster_mass: log n, of :func:`vq_cluster_log_mass`; ``-inf`` for a code that
        no class has.
      token_bias: b, [V], that the mass was made of, or none.

    Returns:
      Nats, float32 (float64 for float64 logits). One class for each code: the same bits
      as ``-numerics.label_nll``.

    Raises:
      TypeError: floating point arguments that are not, or integer ones.
      ValueError: shapes that do not fit together, or a label of C or more; under
        ``jit``, where values are unknown, such a label gives NaN.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Shao and Wang 2025, arXiv:2505.10202.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import vq_cluster_log_mass, vq_label_log_probs
    >>> mapping = jnp.array([0, 1, 1, 1])
    >>> mass = vq_cluster_log_mass(mapping, 2)
    >>> log_p = vq_label_log_probs(jnp.zeros(2), 3, mapping, log_cluster_mass=mass)
    >>> print(jnp.exp(log_p))
    0.25
    """
    z = numerics.prepare_logits(code_logits, name="code_logits")
    m = check_mapping(mapping, z.shape[-1])
    mass = _gathered.matrix(log_cluster_mass, "log_cluster_mass", z.shape[-1])
    mass = jnp.expand_dims(mass.astype(z.dtype), range(z.ndim - 1))
    y, known = numerics.check_labels(labels, z.shape[:-1], len(m))
    code = m[y]
    share = -mass.reshape(-1)[code]
    if token_bias is not None:
        share += _gathered.matrix(token_bias, "token_bias", len(m)).astype(z.dtype)[y]
    return jnp.where(known, share - numerics.label_nll(z + mass, code), jnp.nan)


def vq_scatter_logits(
    code_logits: ArrayLike, mapping: ArrayLike, *, token_bias: ArrayLike | None = None
) -> jax.Array:
    r"""Logits of all classes from the logits of their codes.

    Use it to sample from a vector-quantized head or to look at it.

    .. math:: z_v = L_{M(v)} + b_v

    Args:
      code_logits: L, [..., K].
      mapping: M, ints in ``[0, K)``, [V].
      token_bias: b, [V], or none.

    Returns:
      Logits [..., V], float32 (float64 for float64 logits).

    Raises:
      TypeError: floating point arguments that are not, or integer ones.
      ValueError: shapes that do not fit together.

    Source: Shao and Wang 2025, arXiv:2505.10202.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import vq_scatter_logits
    >>> vq_scatter_logits(jnp.float32([1, 2]), jnp.array([0, 1, 1]))
    Array([1., 2., 2.], dtype=float32)
    """
    z = numerics.prepare_logits(code_logits, name="code_logits")
    m = check_mapping(mapping, z.shape[-1])
    z = z.at[..., m].get(mode="fill", fill_value=jnp.nan, wrap_negative_indices=False)
    if token_bias is None:
        return z
    bias = _gathered.matrix(token_bias, "token_bias", len(m)).astype(z.dtype)
    return z + jnp.expand_dims(bias, range(z.ndim - 1))


def vq_cluster_log_mass(
    mapping: ArrayLike, k: int, token_bias: ArrayLike | None = None
) -> jax.Array:
    r"""Log-sum-exp of the biases of each code's classes.

    .. math:: \log n_k = \log \sum_{v : M(v) = k} e^{b_v}

    Args:
      mapping: M, ints in ``[0, k)``, [V].
      k: how many codes there are; not traced, as it is a shape.
      token_bias: b, [V]; 0 by default, which makes n the number of classes.

    Returns:
      [k], float32 (float64 for a float64 bias); ``-inf`` for a code of no class.

    Raises:
      TypeError: ``mapping`` is not integer, ``token_bias`` not floating point.
      ValueError: shapes that do not fit together, or a code out of range.

    >>> import jax.numpy as jnp
    >>> from logitlab.heads import vq_cluster_log_mass
    >>> print(vq_cluster_log_mass(jnp.array([0, 1, 1]), 3).round(4))
    [0.     0.6931   -inf]
    """
    m = check_mapping(mapping, k)
    b = jnp.zeros(len(m)) if token_bias is None else token_bias
    b = numerics.promote_to_float32(
        _gathered.matrix(b, "token_bias", len(m)), "token_bias"
    )
    top = jax.ops.segment_max(jax.lax.stop_gradient(b), m, k)
    top = jnp.where(top == -jnp.inf, 0, top)
    total = jax.ops.segment_sum(jnp.exp(b - top[m]), m, k)
    some = total > 0
    return jnp.where(some, jnp.log(jnp.where(some, total, 1)) + top, -jnp.inf)


def vq_loss(
    hidden: ArrayLike,
    codebook: ArrayLike,
    labels: ArrayLike,
    mapping: ArrayLike,
    *,
    token_bias: ArrayLike | None = None,
) -> jax.Array:
    r"""Negative log-likelihood of a head with K vectors for V classes, in O(N K).

    .. math:: \ell = -\log p_y \text{ of } L = h C^\top

    in :func:`vq_label_log_probs`. A bias for each class takes away what sharing a code
    costs in plain frequencies.

    Shapes: hidden [..., D], codebook [K, D], labels [...], mapping [V] -> [...]

    Args:
      hidden: features h. 16-bit ones are multiplied as they are, with float32 sums.
      codebook: C, one row for each code.
      labels: ints in ``[0, V)``.
      mapping: M, ints in ``[0, K)``.
      token_bias: b, [V], or none.

    Returns:
      Nats, one number for each token, float32 (float64 for float64 features).

    Raises:
      TypeError: floating point arguments that are not, or integer ones.
      ValueError: shapes that do not fit together, or a label of C or more; under
        ``jit``, where values are unknown, such a label gives NaN.

    Numerics: relative error below 1e-5 of what the logits give, for margins up to 80.

    Source: Shao and Wang 2025, arXiv:2505.10202.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.heads import vq_loss
    >>> mapping = jnp.arange(100) // 10
    >>> h, codebook = jnp.ones((3, 4)), jnp.zeros((10, 4))
    >>> losses = jax.jit(vq_loss)(h, codebook, jnp.arange(3), mapping)
    >>> print(jnp.exp(losses).round())
    [100. 100. 100.]
    """
    h, batch = _gathered.tokens(hidden)
    codebook = _gathered.matrix(codebook, "codebook", "K", h.shape[1])
    logits = product(h, codebook.T).reshape(*batch, len(codebook))
    mass = vq_cluster_log_mass(mapping, len(codebook), token_bias)
    return -vq_label_log_probs(
        logits, labels, mapping, log_cluster_mass=mass, token_bias=token_bias
    )
