"""Losses that take no plain logits, held to what a row of the catalogue says.

A head is made of the logits: its kernel is the identity, its vocabulary the classes.
"""

import functools

import jax
import jax.numpy as jnp

from logitlab import heads, losses, numerics
from logitlab.losses import _rows as rows
from logitlab.losses._rows.contrastive import BATCH, labelled
from logitlab.losses._rows.distillation.draws import labelled_pairs


def row_of(head, **options):
    """A row whose loss is an adapter that bears the head's name and docstring."""

    def with_adapter(adapter):
        adapter.__name__, adapter.__doc__ = head.__name__, head.__doc__
        facts = dict(kind="example", where=False, definition="paper")
        return rows.Row(adapter, **facts | options)

    return with_adapter


def log_frequencies(key, shape, dtype):
    logits, _ = rows.class_labels(key, shape, dtype)
    return logits, jnp.linspace(-3, 0, shape[-1] + 1, dtype=dtype)


def two_sets(key, shape, dtype):
    one, other = jax.random.split(key)
    z, _ = rows.class_labels(one, shape, dtype)
    return z, rows.class_labels(other, shape, dtype)[0]


def embeddings(key, shape, dtype):
    keys = jax.random.split(key)
    codes = jax.random.normal(keys[0], (3, shape[-1]), dtype)
    return jax.random.normal(keys[1], shape, dtype), codes


LABELS = dict(make=rows.class_labels, label_only=True, convex=True)


@row_of(heads.linear_loss, source="arXiv:2410.10989", **LABELS)
def linear(logits, labels):
    eye = jnp.eye(logits.shape[-1], dtype=logits.dtype)
    return heads.linear_loss(losses.cross_entropy, logits, eye, labels)


@row_of(heads.linear_label_loss, source="arXiv:2411.09009", **LABELS)
def linear_label(logits, labels):
    eye = jnp.eye(logits.shape[-1], dtype=logits.dtype)
    return heads.linear_label_loss(losses.cross_entropy, logits, eye, labels)


@row_of(heads.fused_linear_cross_entropy, source="arXiv:2411.09009", **LABELS)
def fused(logits, labels):
    eye = jnp.eye(logits.shape[-1], dtype=logits.dtype)
    return heads.fused_linear_cross_entropy(logits, eye, labels, vocab_chunk=2)


@row_of(
    heads.vq_loss,
    make=rows.class_labels,
    source="arXiv:2505.10202",
    convex=True,
    label_only=True,
)
def vq(logits, labels):
    classes = logits.shape[-1]
    eye = jnp.eye(classes, dtype=logits.dtype)
    return heads.vq_loss(logits, eye, labels, jnp.arange(classes))


@row_of(
    heads.vq_codebook_loss,
    make=embeddings,
    source="arXiv:1711.00937",
    shift_invariant=False,
    note="of embeddings",
    surrogate="the two terms stop each other's gradients",
)
def codebook(embedding, codes):
    mapping = jnp.arange(embedding.shape[0]) % 3
    return heads.vq_codebook_loss(embedding, codes, mapping)


@row_of(
    heads.sampled_softmax_loss,
    make=two_sets,
    source="arXiv:1412.2007",
    shift_invariant=False,
    convex=True,
)
def sampled(logits, others):
    q = jnp.zeros(1, logits.dtype)
    return heads.sampled_softmax_loss(logits, others, true_log_q=q, sampled_log_q=q)


@row_of(
    heads.in_batch_softmax_loss,
    make=log_frequencies,
    source="Yi et al. 2019, RecSys",
    shift_invariant=False,
    symmetric=False,
    convex=True,
    note="the square of scores is filled up with zeros",
)
def in_batch(logits, log_freq):
    batch, items = logits.shape
    size = max(batch, items) + 1
    scores = jnp.zeros((size, size), logits.dtype).at[:batch, :items].set(logits)
    freq = jnp.zeros(size, logits.dtype).at[: len(log_freq)].set(log_freq[:size])
    return heads.in_batch_softmax_loss(scores, freq)[:batch]


@row_of(
    heads.spherical_stats_loss,
    make=rows.class_labels,
    source="arXiv:1604.08859",
    rtol=1e-4,
    note="of the Z-loss, whose variance is a difference here",
)
def spherical_stats(logits, labels):
    z = numerics.promote_to_float32(logits)
    y, known = numerics.check_labels(labels, z.shape[:-1], z.shape[-1])
    stats = numerics.take_label_logit(z, y), jnp.square(z).sum(-1), z.sum(-1)
    losses = heads.spherical_stats_loss(*stats, num_classes=z.shape[-1])
    return jnp.where(known, losses, jnp.nan)


@row_of(heads.pair_loss, make=labelled, source="arXiv:2101.06983", **BATCH)
def pairs(embeddings, labels, *, mask=None):
    supcon = functools.partial(losses.supcon_loss, temperature=0.1)
    return heads.pair_loss(supcon, embeddings, labels, mask=mask, anchor_chunk=3)


@row_of(
    losses.progressive_guidance_loss,
    make=labelled_pairs,
    source="EQ-Net, Xu et al. 2023, arXiv:2308.07650",
    convex=True,
    note="of a sub-network and the one above",
)
def guided(logits, teacher_logits, labels):
    return losses.progressive_guidance_loss([teacher_logits, logits], labels)[1]


ROWS = (
    guided,
    linear,
    linear_label,
    fused,
    vq,
    codebook,
    sampled,
    in_batch,
    pairs,
    spherical_stats,
)
# What takes squares of scores has none of 1e30, and no embedding is no vocabulary.
SKIPPED = {
    "vq_codebook_loss": {"torture", "sizes"},
    "spherical_stats_loss": {"torture"},
}
# Forward mode these do not have.
REVERSE_ONLY = {"linear_loss", "linear_label_loss", "fused_linear_cross_entropy"}
