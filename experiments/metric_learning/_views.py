"""Augmented views of images and signals, and how encoders that learned from them do."""

import jax
import jax.numpy as jnp

from logitlab import data, metrics, transforms

TEMPERATURE = 0.07  # of the neighbors' votes


def signal_view(key, x):
    """Signals [B, L] moved around their ring, scaled, and with noise."""
    shift_key, scale_key, noise_key = jax.random.split(key, 3)
    by = jax.random.randint(shift_key, (len(x),), -5, 6)
    moved = jax.vmap(jnp.roll)(x, by)
    scale = jax.random.uniform(scale_key, (len(x), 1), minval=0.7, maxval=1.3)
    return scale * moved + 0.2 * jax.random.normal(noise_key, x.shape)


def image_view(key, x, kinds):
    """Images [B, 64] of 8 x 8 pixels from 0 to 1 that went through some corruptions.

    Each at its own severity, from 1 to 5.
    """
    images = x.reshape(len(x), 8, 8, 1)
    for i, kind in enumerate(kinds):
        corrupt_key, severity_key = jax.random.split(jax.random.fold_in(key, i))
        severities = jax.random.randint(severity_key, (len(x),), 1, 6)

        def one(key, image, severity, kind=kind):
            return data.corrupt_images(key, image, kind=kind, severity=severity)

        keys = jax.random.split(corrupt_key, len(x))
        images = jax.vmap(one)(keys, images, severities)
    return images.reshape(x.shape)


def neighbor_votes(features, reference, reference_labels, *, k, classes):
    """Votes of the k nearest references, weighted by similarity: [N, C]."""
    s, at = jax.lax.top_k(transforms.cosine_similarities(features, reference), k)
    weights = jnp.exp((s - 1) / TEMPERATURE)
    return jnp.einsum(
        "nk,nkc->nc", weights, jax.nn.one_hot(reference_labels[at], classes)
    )


def neighbor_accuracy(features, labels, reference, reference_labels, *, ks, classes):
    """Accuracy of the weighted vote for each k: ``{"neighbors/1": ...}``."""
    return {
        f"neighbors/{k}": metrics.accuracy(
            neighbor_votes(features, reference, reference_labels, k=k, classes=classes),
            labels,
        )
        for k in ks
    }
