"""What a typed caller writes; a type checker reads this file, and nothing runs it."""

from typing import Any, assert_type

import jax
import jax.numpy as jnp
import numpy as np

from logitlab import heads, links, losses, numerics

LOGITS = jnp.zeros((4, 5))
LABELS = jnp.zeros(4, jnp.int32)


def composed(logits: jax.Array, labels: jax.Array, mask: jax.Array) -> jax.Array:
    per_example = losses.cross_entropy(links.stablemax(logits), labels, where=None)
    return numerics.masked_mean(per_example, mask)


def of_numpy(logits: np.ndarray, labels: np.ndarray) -> jax.Array:
    return losses.cross_entropy(logits, labels, axis=0)


def traced_hyper_parameters(temperature: jax.Array) -> jax.Array:
    return losses.kd_loss(LOGITS, LOGITS, temperature=temperature)


def parts(wanted: bool) -> None:
    assert_type(losses.dkd_loss(LOGITS, LOGITS, LABELS), jax.Array)
    assert_type(losses.dkd_loss(LOGITS, LOGITS, LABELS, return_parts=False), jax.Array)
    of_all = losses.dkd_loss(LOGITS, LOGITS, LABELS, alpha=2.0, return_parts=True)
    assert_type(of_all, dict[str, jax.Array])
    either = losses.dkd_loss(LOGITS, LOGITS, LABELS, return_parts=wanted)
    assert_type(either, jax.Array | dict[str, jax.Array])
    assert_type(losses.nkd_loss(LOGITS, LOGITS, LABELS), jax.Array)
    of_all = losses.nkd_loss(LOGITS, LOGITS, LABELS, return_parts=True)
    assert_type(of_all, dict[str, jax.Array])


def fused(hidden: jax.Array, kernel: jax.Array) -> jax.Array:
    plain = heads.linear_loss(losses.cross_entropy, hidden, kernel, LABELS)
    assert_type(plain, jax.Array)
    loss, hits = heads.linear_loss(
        losses.cross_entropy, hidden, kernel, LABELS, aux=lambda z, y: z.argmax(-1) == y
    )
    assert_type(loss, jax.Array)
    assert_type(hits, Any)
    teacher = heads.Linear(hidden, kernel)
    assert_type(heads.linear_loss(losses.kd_loss, hidden, kernel, teacher), jax.Array)
    return heads.fused_linear_cross_entropy(hidden, kernel, LABELS)


def wrong() -> None:
    losses.cross_entropy("logits", LABELS)  # type: ignore[arg-type]
    losses.cross_entropy(LOGITS, LABELS, 0)  # type: ignore[call-arg]
    losses.dkd_loss(LOGITS, LOGITS)  # type: ignore[call-overload]
