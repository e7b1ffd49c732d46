"""Embeddings against a learned vector for each class."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.comp_sums import cross_entropy
from logitlab.numerics.arguments import hyper, one_hot_mask
from logitlab.transforms import cosine_logits

__all__ = ["normalized_softmax_loss", "proxy_anchor_loss", "proxy_nca_loss"]


def normalized_softmax_loss(
    embeddings: ArrayLike,
    labels: ArrayLike,
    kernel: ArrayLike,
    *,
    temperature: ArrayLike,
) -> jax.Array:
    r"""Cross-entropy of the cosines to the classes' weights, one value per example.

    Use it when embeddings of a classifier will be compared by cosine; the first proxy
    loss to try.

    .. math:: \ell = \log \sum_c e^{(\cos\theta_c - \cos\theta_y) / \tau}

    It is ``cross_entropy(cosine_logits(embeddings, kernel, scale=1 / temperature),
    labels)``; any other loss may take the place of the cross-entropy.

    Shapes: embeddings [..., D], labels [...], kernel [D, C] -> [...]

    Args:
      embeddings: of any length; only directions count.
      labels: ints in ``[0, C)``, or negative for "no label".
      kernel: one column for each class, of any length.
      temperature: above 0, maybe learned; 0.05 in the paper.

    Returns:
      Nats, float32 (float64 for float64 embeddings); NaN without a label.

    Raises:
      TypeError: an array is not floating point, or labels not integer.
      ValueError: a kernel of another width, labels of another shape or of C or more
        (NaN under ``jit``), or ``temperature`` not above 0.

    Numerics: given the cosines, relative error below 1e-5 for temperatures down to
      0.01, value and gradient.

    Source: Zhai and Wu 2018, arXiv:1811.12649.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import normalized_softmax_loss
    >>> kernel, labels = jnp.eye(2), jnp.arange(2)
    >>> losses = normalized_softmax_loss(kernel.T, labels, kernel, temperature=0.5)
    >>> print(losses.round(4))
    [0.1269 0.1269]
    """
    dtype = numerics.promote_to_float32(embeddings, "embeddings").dtype
    t = hyper("temperature", temperature, dtype, lambda t: t > 0, "above 0")
    return cross_entropy(cosine_logits(embeddings, kernel, scale=1 / t), labels)


def proxy_nca_loss(
    embeddings: ArrayLike,
    labels: ArrayLike,
    proxies: ArrayLike,
    *,
    scale: ArrayLike = 1.0,
    exclude_positive: bool = False,
) -> jax.Array:
    r"""Proxy-NCA: distances to the proxies of all classes, one value per example.

    Use it when pairs of a small batch say too little about the classes.

    .. math:: \ell = -\log \frac{e^{-s \|\hat e - \hat q_y\|^2}}
        {\sum_c e^{-s \|\hat e - \hat q_c\|^2}}

    Of unit vectors the squared distance is 2 minus twice the cosine: it is the
    cross-entropy of ``cosine_logits(embeddings, proxies, scale=2 * scale)``, in whose
    place any other loss may stand.

    Shapes: embeddings [..., D], labels [...], proxies [D, C] -> [...]

    Args:
      embeddings: of any length; only directions count.
      labels: ints in ``[0, C)``, or negative for "no label".
      proxies: one column for each class, of any length. A vector of zeros has cosine 0.
      scale: above 0; 1 in the first paper, 3 in the second, 9 squared.
      exclude_positive: leaves the label's proxy out of the sum, as the first paper has
        it; the loss is then not bounded below, and 0 where there is no other proxy.

    Returns:
      Nats, float32 (float64 for float64 embeddings); NaN without a label.

    Raises:
      TypeError: an array is not floating point, or labels not integer.
      ValueError: proxies of another width or fewer than the labels say (NaN under
        ``jit``), labels of another shape, or ``scale`` not above 0.

    Numerics: given the cosines, relative error below 1e-5, value and gradient.

    Source: Movshovitz-Attias et al. 2017, arXiv:1703.07464 (``exclude_positive``);
      ProxyNCA++, Teh et al. 2020, arXiv:2004.01113.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import proxy_nca_loss
    >>> print(proxy_nca_loss(jnp.eye(2), jnp.arange(2), jnp.eye(2)).round(4))
    [0.1269 0.1269]
    """
    dtype = numerics.promote_to_float32(embeddings, "embeddings").dtype
    s = hyper("scale", scale, dtype, lambda s: s > 0, "above 0")
    z = cosine_logits(embeddings, proxies, scale=2 * s)
    if not exclude_positive:
        return cross_entropy(z, labels)
    is_label, known = one_hot_mask(z, labels)
    label = jnp.sum(jnp.where(is_label, z, 0), -1)
    others = numerics.logsumexp(z, where=~is_label)
    loss = jnp.where(others == -jnp.inf, 0, others - label)
    return jnp.where(known, loss, jnp.nan)


def proxy_anchor_loss(
    embeddings: ArrayLike,
    labels: ArrayLike,
    proxies: ArrayLike,
    *,
    margin: ArrayLike = 0.1,
    scale: ArrayLike = 32.0,
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Proxy-Anchor: each class's proxy against all examples, one value per proxy.

    Use it when hard examples of a batch should count most, without mining pairs.

    .. math:: \ell_c = \frac{C}{|Q^+|} \log\Bigl(1 +
        \sum_{i: y_i = c} e^{-s (\cos\theta_{ic} - m)}\Bigr)
        + \log\Bigl(1 + \sum_{i: y_i \ne c} e^{s (\cos\theta_{ic} + m)}\Bigr)

    with :math:`Q^+` the classes that occur in the batch. The anchors are the proxies;
    the mean of the result is the paper's loss.

    Shapes: embeddings [B, D], labels [B], proxies [D, C], mask [B] -> [C]

    Args:
      embeddings: of any length; only directions count.
      labels: ints in ``[0, C)``; an example with a negative one is left out.
      proxies: one column for each class, of any length.
      margin: at least 0.
      scale: above 0; the paper's alpha.
      mask: bool, the examples that count; none at all cost 0.

    Returns:
      Nats, float32 (float64 for float64 embeddings).

    Raises:
      TypeError: an array is not floating point, labels not integer, or ``mask`` not
        bool.
      ValueError: proxies of another width or fewer than the labels say (such an example
        is left out under ``jit``), labels of another length, or a hyper-parameter out
        of its range.

    Numerics: given the cosines, relative error below 1e-5, value and gradient.

    Source: Kim et al. 2020, arXiv:2003.13911.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import proxy_anchor_loss
    >>> print(proxy_anchor_loss(jnp.eye(2), jnp.arange(2), jnp.eye(2)).round(4))
    [3.24 3.24]
    """
    e = numerics.promote_to_float32(embeddings, "embeddings")
    if e.ndim != 2:
        raise ValueError(
            f"embeddings has shape {e.shape}, expected one row per example"
        )
    keep = numerics.check_mask(mask, e.shape[:1])
    m = hyper("margin", margin, e.dtype, lambda m: m >= 0, "at least 0")
    s = hyper("scale", scale, e.dtype, lambda s: s > 0, "above 0")
    cosine = cosine_logits(jnp.where(keep[:, None], e, 0), proxies, scale=1.0)
    y = numerics.wide_labels(labels)
    if y.shape == keep.shape:  # a label behind the mask may be any integer
        y = jnp.where(keep, y, -1)
    is_label, known = one_hot_mask(cosine, y)
    near = numerics.logsumexp(-s * (cosine - m), axis=0, where=is_label)
    others = ~is_label & known[:, None]
    far = numerics.logsumexp(s * (cosine + m), axis=0, where=others)
    present = jnp.sum(jnp.any(is_label, 0), dtype=jnp.int32)
    share = cosine.shape[1] / jnp.maximum(present, 1).astype(e.dtype)
    return share * jax.nn.softplus(near) + jax.nn.softplus(far)
