"""A student's logits and a teacher's: checked, tempered, as log-probabilities."""

from __future__ import annotations

from typing import Literal, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_same_shape, hyper
from logitlab.transforms import standardize_logits

__all__ = [
    "check_form",
    "check_temperature",
    "hidden",
    "move",
    "pair",
    "per_example",
    "probabilities",
    "scores",
    "shares",
    "is_symbolic_zero",
    "prepare_pair",
    "temperature_squared",
    "top_score",
]


Form = Literal["kl", "ce"]


def prepare_pair(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
    standardize: bool = False,
    names: tuple[str, str] = ("student_logits", "teacher_logits"),
    constant: bool = True,
) -> tuple[jax.Array, jax.Array]:
    """Both promoted to the student's dtype, classes last, the teacher a constant.

    Unless ``constant`` is false: then the second gets gradients too. A class that
    ``where`` or the student hides is hidden from the teacher too; one that only the
    teacher hides has probability 0 there. Where one of them has no class left, neither
    has.

    Shapes: student_logits [..., C], teacher_logits [..., C], where [..., C]
      -> [..., C], [..., C]

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: the shapes differ, or ``where`` does not broadcast.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._pairs import prepare_pair
    >>> prepare_pair(jnp.float32([-jnp.inf, 1]), jnp.float32([3, 2]))[1]
    Array([-inf,   2.], dtype=float32)
    """
    both = student_logits, teacher_logits
    both = [
        numerics.promote_to_float32(logits, name)
        for logits, name in zip(both, names, strict=True)
    ]
    check_same_shape(names[1], both[1], names[0], both[0].shape)
    s, t = (
        numerics.prepare_logits(logits, axis=axis, where=where, name=name)
        for logits, name in zip(both, names, strict=True)
    )
    t = (jax.lax.stop_gradient(t) if constant else t).astype(s.dtype)
    t += hidden(s)
    s += hidden(jnp.max(t, -1, keepdims=True))
    if standardize:
        s, t = standardize_logits(s), standardize_logits(t)
    return s, t


def hidden(z: jax.Array) -> jax.Array:
    """-inf where a class is hidden, else 0; without gradient.

    A select would be stored before each reduction.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._pairs import hidden
    >>> hidden(jnp.float32([1, -jnp.inf]))
    Array([  0., -inf], dtype=float32)
    """
    z = jax.lax.stop_gradient(z)
    return z - jnp.maximum(z, jnp.finfo(z.dtype).min)


def check_form(form: str) -> None:
    """Refuses what is not a form of a divergence.

    Raises:
      ValueError: ``form`` is neither ``"kl"`` nor ``"ce"``.

    >>> from logitlab.losses.distillation._pairs import check_form
    >>> check_form("kl")
    """
    if form not in get_args(Form):
        raise ValueError(f"form is {form!r}, expected 'kl' or 'ce'")


def shares(
    name: str, value: ArrayLike, dtype: jnp.dtype
) -> tuple[jax.Array, jax.Array]:
    """A number in [0, 1] and what 1 has more, in the dtype of the arrays.

    The second is taken before the first is rounded to that dtype.

    Raises:
      ValueError: it is outside; names it.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._pairs import shares
    >>> shares("lam", 1 - 1e-9, jnp.float32)[1]
    Array(1.e-09, dtype=float32)
    """
    valid = lambda v: (v >= 0) & (v <= 1)  # noqa: E731
    share = hyper(name, value, dtype, valid, "a number in [0, 1]")
    rest = 1 - (value if isinstance(value, jax.Array) else np.asarray(value))
    return share, jnp.asarray(rest, dtype)


def check_temperature(
    temperature: ArrayLike, z: jax.Array, name: str = "temperature"
) -> jax.Array:
    """A positive temperature, one for all or one per example, as [..., 1] or [].

    Raises:
      ValueError: it is not positive (NaN under ``jit``), or has another shape.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._pairs import check_temperature
    >>> check_temperature(4.0, jnp.ones((2, 3)))
    Array(4., dtype=float32)
    """
    t = hyper(name, temperature, z.dtype, lambda t: t > 0, "positive")
    if t.ndim and t.shape != z.shape[:-1]:
        raise ValueError(f"{name} has shape {t.shape}, expected () or {z.shape[:-1]}")
    t = jnp.where(t > 0, t, jnp.nan)
    return t[..., None] if t.ndim else t


def top_score(z: jax.Array) -> jax.Array:
    """The largest logit, 0 where there is none.

    Its gradient is not stopped, for bodies of custom derivatives call it: see
    ``numerics.max_and_log_sum``.

    Shapes: z [..., C] -> [..., 1]

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._pairs import top_score
    >>> top_score(jnp.float32([3, 1]))
    Array([3.], dtype=float32)
    """
    top = jnp.max(z, -1, keepdims=True)
    return jnp.where(top == -jnp.inf, 0, top)


@jax.custom_jvp
def _scores(z, temperature):
    # The top may lie a rounding above itself, see `numerics.is_lead`.
    return jnp.minimum(z - top_score(z), 0) / temperature


@_scores.defjvp  # exact: no infinite score is multiplied by 0
def _scores_jvp(primals, tangents):
    x = _scores(*primals)
    return x, move(x, primals[1], *tangents)


def scores(z: jax.Array, temperature: ArrayLike = 1.0) -> jax.Array:
    r"""Tempered logits, measured from the largest: an offset costs no digits.

    .. math:: (z - z_k) / T

    Shapes: z [..., C] -> [..., C]

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._pairs import scores
    >>> scores(jnp.float32([3, 1]))
    Array([ 0., -2.], dtype=float32)
    """
    return _scores(z, jnp.asarray(temperature, z.dtype))


def move(x, temperature, dz, dtemperature):
    """Tangents of ``scores``; None where nothing moves."""
    if dz is None and dtemperature is None:
        return None
    dx = 0 if dz is None else dz
    shown = x > -jnp.inf
    if dtemperature is not None:
        dx = dx - jnp.where(shown, x, 0) * dtemperature
    return jnp.where(shown, dx, 0) / temperature


def pair(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    temperature: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The student's and the teacher's logits, classes last, and the temperature.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._pairs import pair
    >>> pair(jnp.zeros(2), jnp.ones(2), 1.0)[2]
    Array(1., dtype=float32)
    """
    s, t = prepare_pair(student_logits, teacher_logits, axis=axis, where=where)
    return s, t, check_temperature(temperature, s)


def per_example(temperature: jax.Array) -> jax.Array:
    """A checked temperature without its class axis.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._pairs import per_example
    >>> per_example(jnp.ones((3, 1))).shape
    (3,)
    """
    return temperature[..., 0] if temperature.ndim else temperature


def temperature_squared(temperature: jax.Array, applied: bool) -> jax.Array | int:
    """The factor that keeps a divergence's gradient at the size of the logits, or 1.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._pairs import temperature_squared
    >>> temperature_squared(jnp.float32([[2], [3]]), True)
    Array([4., 9.], dtype=float32)
    """
    return per_example(temperature) ** 2 if applied else 1


def probabilities(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    temperature: ArrayLike,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Of the student and of the teacher, classes last, and which classes take part.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._pairs import probabilities
    >>> probabilities(jnp.zeros(2), jnp.zeros(2), 1.0)[0]
    Array([0.5, 0.5], dtype=float32)
    """
    s, t = prepare_pair(student_logits, teacher_logits, axis=axis, where=where)
    temperature = check_temperature(temperature, s)
    (e, total), (f, other) = (
        numerics.exponentials(scores(z, temperature)) for z in (s, t)
    )
    return e / total, f / other, s > -jnp.inf


def is_symbolic_zero(tangent: jax.Array) -> bool:
    """Whether a tangent is known to be zero before it is computed, as a teacher's is.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses.distillation._pairs import is_symbolic_zero
    >>> is_symbolic_zero(jnp.zeros(2))
    False
    """
    return isinstance(tangent, jax.custom_derivatives.SymbolicZero)
