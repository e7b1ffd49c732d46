"""Losses of pairs of embeddings, without the matrix of all similarities."""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.heads import _sharding
from logitlab.heads._operands import BUDGET, Linear, check_float, chunk_size
from logitlab.heads._token_chunks import over_chunks
from logitlab.targets import label_pairs

__all__ = ["pair_loss"]


def pair_loss(
    loss: Callable,
    embeddings: ArrayLike,
    labels: ArrayLike,
    *,
    reference: ArrayLike | None = None,
    reference_labels: ArrayLike | None = None,
    positions: ArrayLike | None = None,
    mask: ArrayLike | None = None,
    reference_mask: ArrayLike | None = None,
    anchor_chunk: int | None = None,
    batch_axes: str | tuple[str, ...] | None = None,
) -> jax.Array:
    r"""A loss of pairs and its gradient, some anchors at a time.

    Use it for SupCon, NT-Xent or any other loss of pairs in a batch whose similarities
    do not fit into memory.

    The same numbers as ``loss(embeddings, labels, reference=reference, ...)``, in both
    directions, although no array of all pairs ever exists: a chunk's similarities are
    made again for the gradient. InfoNCE is SupCon whose labels are places::

        ids = jnp.arange(len(images))
        loss = functools.partial(losses.supcon_loss, temperature=0.07)
        heads.pair_loss(loss, images, ids, reference=captions, reference_labels=ids)

    and SimCLR is SupCon of both views, one after the other, with ``ids`` twice. Heads
    of classes (ArcFace, CosFace, proxies) need no pairs: their cosines are the logits
    of a linear head of unit vectors, for :func:`linear_loss`::

        def arcface(cosines, labels, sines):
            logits = transforms.arcface_logits(cosines, labels, sines=sines)
            return losses.cross_entropy(logits, labels)

        sines = transforms.label_sines(embeddings, labels, kernel)
        unit, columns = normalize(embeddings), normalize(kernel, axis=0)
        heads.linear_loss(arcface, unit, columns, labels, sines)

    Shapes: embeddings [B, D], labels [B], reference [M, D], reference_labels [M], mask
      [B], reference_mask [M] -> [B]

    Args:
      loss: ``(embeddings, labels, *, reference, reference_labels, pairs)`` -> one
        number for each anchor, such as ``functools.partial(losses.supcon_loss,
        temperature=0.1)`` or one of your own; it sees some anchors, all references and
        the ``targets.Pairs`` of both. Values that it closes over get their gradients
        too; on an explicit mesh, traced ones raise.
      embeddings: the anchors.
      labels: ints, a negative one for an example that is in no pair.
      reference: what the anchors are compared with; by default the other anchors.
      reference_labels: ints.
      positions: ints [B], where the anchors stand among the references, so that none is
        paired with itself; a negative one stands nowhere. Inside a ``shard_map`` whose
        references are gathered: ``axis_index * B + arange(B)``.
      mask: bool, the anchors that count, and without ``reference`` the references too.
      reference_mask: bool, the references that count.
      anchor_chunk: anchors at a time; by default as many as make similarities of 16
        MiB. The last chunk may be shorter, nothing is padded. Not traced, as it is a
        shape.
      batch_axes: under ``jit``, the mesh axes that the anchors are spread over, each
        device of which goes through its own; by default those of the array, where its
        sharding is known. References are gathered, similarities never.

    Returns:
      One loss for each anchor, in the dtype of the loss; what it gives an anchor
      without pairs where the mask leaves one out.

    Raises:
      TypeError: embeddings are not floating point, labels not integer, masks not bool.
      ValueError: shapes that do not fit together, a reference without labels, a chunk
        below 1, a loss that does not return one number for each anchor, or an axis not
        in the mesh.

    Numerics: equal to the loss of all anchors at once up to rounding, below 1e-5 in
      float32, value and all gradients.

    Source: chunks of a contrastive batch, as in GradCache, Gao et al. 2021,
      arXiv:2101.06983.

    >>> import functools
    >>> import jax.numpy as jnp
    >>> from logitlab import heads, losses
    >>> supcon = functools.partial(losses.supcon_loss, temperature=0.1)
    >>> embeddings, labels = jnp.eye(4), jnp.array([0, 0, 1, 1])
    >>> print(heads.pair_loss(supcon, embeddings, labels, anchor_chunk=3).round(4))
    [1.0986 1.0986 1.0986 1.0986]
    """
    e, y = _side(embeddings, labels, "")
    keep = numerics.check_mask(mask, y.shape)
    if reference is None:
        others = dict(
            reference_labels=reference_labels,
            positions=positions,
            reference_mask=reference_mask,
        )
        for name, array in others.items():
            if array is not None:
                raise ValueError(f"{name} needs reference, which is None")
        side, at = (e, y, keep), jnp.arange(len(e))
    else:
        r, ry = _side(reference, reference_labels, "reference_")
        if r.shape[1] != e.shape[1]:
            raise ValueError(
                f"reference has shape {r.shape}, expected rows of width {e.shape[1]}"
            )
        side = r, ry, numerics.check_mask(reference_mask, ry.shape, "reference_mask")
        at = jnp.full(len(e), -1)
        if positions is not None:
            at = numerics.wide_labels(positions, "positions")
            if at.shape != y.shape:
                raise ValueError(f"positions has shape {at.shape}, expected {y.shape}")
    numerics.check_devices(embeddings=embeddings, reference=reference)
    whole = jnp.zeros(())  # references have no axis that stays spread
    place = _sharding.class_mesh(e, whole, None, batch_axes, transposed=True)
    chunk = chunk_size(
        "anchor_chunk", anchor_chunk, BUDGET // (16 * max(len(side[0]), 1)), len(e)
    )
    head = Linear(e, side)  # which lays out the references as it does a kernel
    return _sharding.run_tokens(
        functools.partial(_of_anchors, loss, chunk),
        place,
        ((head,), (y, at, keep), None),
        mean=False,
    )[0]


def _of_anchors(loss, chunk, heads, rows, _):
    """Losses of this device's anchors."""
    # Over one set of axes from here on: the gradient of the references, which all
    # devices share, is then added up once, at the end.
    (head,), rows = _sharding.vary_alike((heads, rows))
    r, ry, keep_r = head.kernel
    r = jnp.where(keep_r[:, None], r, 0)

    @jax.checkpoint
    def some(e, y, at, keep):
        pairs = label_pairs(y, ry, positions=at, mask=keep, reference_mask=keep_r)
        e = jnp.where(keep[:, None], e, 0)
        out = loss(e, y, reference=r, reference_labels=ry, pairs=pairs)
        if jnp.shape(out) != y.shape:
            raise ValueError(
                f"loss returned shape {jnp.shape(out)} for {len(y)} anchors, expected "
                "one number for each"
            )
        return out

    def step(carry, arrays):
        return carry, some(*arrays)

    return over_chunks(step, (), (head.hidden, *rows), chunk)[1], ()


def _side(embeddings, labels, prefix):
    """Embeddings of one side, one row each, and their labels."""
    name = prefix.rstrip("_") or "embeddings"
    numerics.check_is_array(embeddings, name)
    e = jnp.asarray(embeddings)
    check_float(e, name)
    if e.ndim != 2:
        raise ValueError(f"{name} has shape {e.shape}, expected one row per example")
    if labels is None:
        raise ValueError(f"{prefix}labels is None, expected ints")
    y = numerics.wide_labels(labels, f"{prefix}labels")
    if y.shape != e.shape[:1]:
        raise ValueError(
            f"{prefix}labels has shape {y.shape}, expected {e.shape[:1]}, one for each "
            f"row of {name}, {e.shape}"
        )
    return e, y
