"""Arguments of the catalogue's losses of a student and a teacher."""

import jax

__all__ = ["labelled_pairs", "teacher_pairs"]


def teacher_pairs(key, shape, dtype):
    """Logits of a student and of a teacher."""
    s, t = (3 * jax.random.normal(k, shape, dtype) for k in jax.random.split(key))
    return s, t


def labelled_pairs(key, shape, dtype):
    """Logits of a student and of a teacher, and integer labels."""
    logits, labels = jax.random.split(key)
    drawn = jax.random.randint(labels, shape[:-1], 0, shape[-1])
    return *teacher_pairs(logits, shape, dtype), drawn
