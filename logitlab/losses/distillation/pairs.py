"""A student's logits and a teacher's: checked, tempered, as log-probabilities.

Log-probabilities are carried as halves. The difference of two of the largest numbers
does not fit into their type, but times a small mass it often does again.
"""

from collections.abc import Sequence
from typing import Literal, get_args

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.labels import checked
from logitlab.transforms import standardize_logits

__all__ = [
    "check_form",
    "check_share",
    "check_temperature",
    "half_log_pair",
    "half_log_probs",
    "half_log_softmax",
    "half_score_pair",
    "half_scores",
    "half_top",
    "labelled_pairs",
    "log_total",
    "mass",
    "mass_times",
    "per_example",
    "probabilities",
    "same_shape",
    "still",
    "student_and_teacher",
    "teacher_pairs",
]

NOT_LOSSES = tuple(__all__)

Form = Literal["kl", "ce"]


def same_shape(name: str, array: ArrayLike, other: str, shape: Sequence[int]) -> None:
    """Refuses an array that has not the shape of another one.

    Raises:
      ValueError: names both, with both shapes.

    >>> same_shape("teacher_logits", jnp.ones(2), "student_logits", (2,))
    """
    if jnp.shape(array) != tuple(shape):
        raise ValueError(
            f"{name} has shape {jnp.shape(array)}, expected that of {other}, "
            f"{tuple(shape)}"
        )


def student_and_teacher(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    standardize: bool = False,
    names: tuple[str, str] = ("student_logits", "teacher_logits"),
) -> tuple[jax.Array, jax.Array]:
    """Both promoted to the student's dtype, classes last, the teacher a constant.

    A class that ``where`` or the student hides is hidden from the teacher too; one that
    only the teacher hides has probability 0 there. Where one of them has no class left,
    neither has.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C]
      -> [..., C], [..., C]

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, or ``where`` does not broadcast.

    >>> student_and_teacher(jnp.float32([-jnp.inf, 1]), jnp.float32([3, 2]))[1]
    Array([-inf,   2.], dtype=float32)
    """
    same_shape(names[1], teacher_logits, names[0], jnp.shape(student_logits))
    s, t = (
        numerics.class_axis_last(logits, axis=axis, where=where, name=name)
        for logits, name in zip((student_logits, teacher_logits), names, strict=True)
    )
    t = jax.lax.stop_gradient(t).astype(s.dtype)
    t = jnp.where(s == -jnp.inf, -jnp.inf, t)
    s = jnp.where(jnp.max(t, -1, keepdims=True) == -jnp.inf, -jnp.inf, s)
    if standardize:
        s, t = standardize_logits(s), standardize_logits(t)
    return s, t


def check_form(form: str) -> None:
    """Refuses what is not a form of a divergence.

    Raises:
      ValueError: ``form`` is neither ``"kl"`` nor ``"ce"``.

    >>> check_form("kl")
    """
    if form not in get_args(Form):
        raise ValueError(f"form is {form!r}, expected 'kl' or 'ce'")


def check_share(name: str, value: ArrayLike) -> None:
    """Refuses a weight outside [0, 1].

    Raises:
      ValueError: names it.

    >>> check_share("lam", 0.5)
    """
    checked(name, value, lambda v: (v >= 0) & (v <= 1), "a number in [0, 1]")


def check_temperature(
    temperature: ArrayLike, z: jax.Array, name: str = "temperature"
) -> jax.Array:
    """A positive temperature, one for all or one per example, as [..., 1] or [].

    Raises:
      ValueError: it is not positive (NaN under ``jit``), or has another shape.

    >>> check_temperature(4.0, jnp.ones((2, 3)))
    Array(4., dtype=float32)
    """
    checked(name, temperature, lambda t: t > 0, "positive")
    t = jnp.asarray(temperature, z.dtype)
    if t.ndim and t.shape != z.shape[:-1]:
        raise ValueError(f"{name} has shape {t.shape}, expected () or {z.shape[:-1]}")
    t = jnp.where(t > 0, t, jnp.nan)
    return t[..., None] if t.ndim else t


def half_log_probs(z: jax.Array, temperature: ArrayLike = 1.0) -> jax.Array:
    r"""Half of the log-probabilities of a softmax with a temperature.

    .. math:: \tfrac12 \log \mathrm{softmax}(z / T)

    Shapes: z [..., C] -> [..., C]

    Args:
      z: promoted logits, ``-inf`` at hidden classes. Only a class that is hidden is
        ``-inf`` in the result, for temperatures from 1 on; its offset costs nothing.
      temperature: T, positive, [] or [..., 1]; it gets its gradient.

    >>> 2 * half_log_probs(jnp.float32([40, 0]))
    Array([-4.248354e-18, -4.000000e+01], dtype=float32)
    """
    return half_log_softmax(half_scores(z, temperature))


def half_scores(z: jax.Array, temperature: ArrayLike = 1.0) -> jax.Array:
    r"""Half of the tempered logits, measured from the largest.

    .. math:: \tfrac12 (z - z_k) / T

    Shapes: z [..., C] -> [..., C]

    >>> half_scores(jnp.float32([3, 1]))
    Array([ 0., -1.], dtype=float32)
    """
    shown = z > -jnp.inf
    half = numerics.below(jnp.where(shown, z, 0) / 2, half_top(z)) / temperature
    return jnp.where(shown, half, -jnp.inf)


def half_top(z: jax.Array) -> jax.Array:
    """Half of the largest logit, 0 where there is none; without gradient.

    Shapes: z [..., C] -> [..., 1]

    >>> half_top(jnp.float32([3, 1]))
    Array([1.5], dtype=float32)
    """
    top = jax.lax.stop_gradient(jnp.max(z, -1, keepdims=True))
    return jnp.where(top == -jnp.inf, 0, top) / 2


@jax.custom_jvp
def half_log_softmax(half: jax.Array) -> jax.Array:
    """Half of the log-probabilities of half scores, of which the largest is 0.

    >>> 2 * half_log_softmax(jnp.float32([0, -20]))
    Array([-4.248354e-18, -4.000000e+01], dtype=float32)
    """
    return half - log_total(half) / 2


@half_log_softmax.defjvp
def _half_log_softmax_jvp(primals, tangents):
    (half,), (dhalf,) = primals, tangents
    # As in numerics.log_softmax: a lone top class moves exactly with itself.
    total = log_total(half)
    alone = jax.lax.stop_gradient(total) < 0.69
    top = half == 0
    dhalf = jnp.where(half == -jnp.inf, 0, dhalf)
    dtop = jnp.sum(jnp.where(top, dhalf, 0), -1, keepdims=True)
    r = jnp.where(top & alone, 0, dhalf - jnp.where(alone, dtop, 0))
    e, weight = _weights(half)
    return half - total / 2, r - jnp.sum(e * r, -1, keepdims=True) / weight


@jax.custom_jvp
def log_total(half: jax.Array) -> jax.Array:
    """Log of the sum of exponentials of half scores, of which the largest is 0.

    Shapes: half [..., C] -> [..., 1]

    >>> log_total(jnp.float32([0, -20]))
    Array([4.248354e-18], dtype=float32)
    """
    e, total = _weights(half)
    # As numerics.top_and_log_total does.
    return numerics.log_of_sum(total, jnp.sum(e - jnp.floor(e), -1, keepdims=True))


@log_total.defjvp
def _log_total_jvp(primals, tangents):
    (half,), (dhalf,) = primals, tangents
    e, total = _weights(half)
    return log_total(half), 2 * jnp.sum(e * dhalf, -1, keepdims=True) / total


def mass(half: jax.Array) -> jax.Array:
    """Probabilities of half scores, of which the largest is 0.

    Shapes: half [..., C] -> [..., C]

    >>> mass(jnp.float32([0, 0]))
    Array([0.5, 0.5], dtype=float32)
    """
    e, total = _weights(half)
    return e / total


@jax.custom_jvp
def _weights(half):
    e = jnp.exp(2 * half)
    return e, jnp.maximum(jnp.sum(e, -1, keepdims=True), 1)


@_weights.defjvp
def _weights_jvp(primals, tangents):
    # As in numerics: only the quotient is ever differentiated.
    e, total = _weights(*primals)
    _, dlog_p = jax.jvp(half_log_softmax, primals, tangents)
    return (e, total), (2 * e * dlog_p, jnp.zeros_like(total))


def half_score_pair(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    temperature: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Half scores of the teacher and of the student.

    >>> half_score_pair(jnp.zeros(2), jnp.ones(2), 1.0)[0]
    Array([0., 0.], dtype=float32)
    """
    s, t = student_and_teacher(student_logits, teacher_logits, axis=axis, where=where)
    temperature = check_temperature(temperature, s)
    return half_scores(t, temperature), half_scores(s, temperature)


def half_log_pair(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    temperature: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array]:
    """Halves of the teacher's and of the student's log-probabilities.

    >>> 2 * half_log_pair(jnp.zeros(2), jnp.zeros(2), 1.0)[0]
    Array([-0.6931472, -0.6931472], dtype=float32)
    """
    pair = half_score_pair(student_logits, teacher_logits, temperature, axis, where)
    p, q = (half_log_softmax(half) for half in pair)
    return p, q


def per_example(temperature: jax.Array) -> jax.Array:
    """A checked temperature without its class axis.

    >>> per_example(jnp.ones((3, 1))).shape
    (3,)
    """
    return temperature[..., 0] if temperature.ndim else temperature


def probabilities(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    temperature: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of the student and of the teacher, classes last, and which classes take part.

    >>> probabilities(jnp.zeros(2), jnp.zeros(2), 1.0)[0]
    Array([0.5, 0.5], dtype=float32)
    """
    s, t = student_and_teacher(student_logits, teacher_logits, axis=axis, where=where)
    temperature = check_temperature(temperature, s)
    q, p = (mass(half_scores(z, temperature)) for z in (s, t))
    return q, p, s > -jnp.inf


def mass_times(mass: jax.Array, half: jax.Array) -> jax.Array:
    """A mass times twice a number; nothing where there is no mass.

    Twice ``-inf`` is ``-inf``, with the slope of a very low number.

    >>> mass_times(jnp.float32([0, 0.5]), jnp.float32([-jnp.inf, 2]))
    Array([0., 2.], dtype=float32)
    """
    some = mass > 0
    half = jnp.where(some, half, 0)
    low = jnp.maximum(half, jnp.finfo(half.dtype).min / 4)
    missing = jax.lax.stop_gradient(jnp.where(half == -jnp.inf, half, 0))
    finite = half > -jnp.inf
    return 2 * (mass * jnp.where(finite, half, low)) + missing


def still(tangent: jax.Array) -> bool:
    """Whether a tangent is known to be zero before it is computed, as a teacher's is.

    >>> still(jnp.zeros(2))
    False
    """
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)


def teacher_pairs(key, shape, dtype):
    """Logits of a student and of a teacher."""
    s, t = jax.random.split(key)
    return 3 * jax.random.normal(s, shape, dtype), 3 * jax.random.normal(
        t, shape, dtype
    )


def labelled_pairs(key, shape, dtype):
    """Logits of a student and of a teacher, and integer labels."""
    logits, labels = jax.random.split(key)
    return (
        *teacher_pairs(logits, shape, dtype),
        jax.random.randint(labels, shape[:-1], 0, shape[-1]),
    )
