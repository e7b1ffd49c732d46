"""Distillation between models whose vocabularies differ."""

from typing import Literal

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.distillation.pairs import check_temperature, half_log_probs
from logitlab.losses.distillation.relative_entropy import variation
from logitlab.losses.labels import checked
from logitlab.losses.rows import Row

__all__ = [
    "coactivation_degree",
    "gld",
    "sorted_gw_bounds",
    "top_k_logits",
    "uld",
]

NOT_LOSSES = ("coactivation_degree", "sorted_gw_bounds", "top_k_logits")


def uld(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    student_temperature: ArrayLike = 1.0,
    teacher_temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Distance of sorted probabilities, whatever the classes are called.

    .. math:: \ell = \sum_i |p_{(i)} - q_{(i)}|

    with the teacher p and the student q at their own temperatures, each sorted by
    decreasing size and the shorter one filled up with zeros. In [0, 2]; no factor
    :math:`T^2`. For sequences, take as many steps as the shorter answer has, from the
    position that predicts its first token.

    Shapes: student_logits [..., V], teacher_logits [..., W], where [..., V] -> [...]

    Args:
      student_logits: scores; ``-inf`` is the same as ``where=False``.
      teacher_logits: over another vocabulary; they get no gradient.
      student_temperature: positive, one for all or one per example.
      teacher_temperature: the same for the teacher.
      axis: the class axis.
      where: bool, the classes of the student that take part.

    Returns:
      float32 (float64 for float64 logits). 0 where either has every class hidden.

    Raises:
      TypeError: logits are not floating point or ``where`` is not bool.
      ValueError: shapes that differ in more than the number of classes, or a
        temperature that is not positive.

    Numerics: relative error below 1e-5, value and gradient, for margins up to 80.

    Source: Universal Logit Distillation, Boizard et al. 2024, arXiv:2402.12030.

    >>> uld(jnp.float32([0, 0]), jnp.float32([-99, 99, -99]))
    Array(1., dtype=float32)
    """
    s = numerics.class_axis_last(
        student_logits, axis=axis, where=where, name="student_logits"
    )
    t = numerics.class_axis_last(teacher_logits, axis=axis, name="teacher_logits")
    if t.shape[:-1] != s.shape[:-1]:
        raise ValueError(
            f"teacher_logits has shape {jnp.shape(teacher_logits)}, expected that of "
            f"student_logits, {jnp.shape(student_logits)}, but for the classes"
        )
    t = jax.lax.stop_gradient(t).astype(s.dtype)
    p = half_log_probs(
        t, check_temperature(teacher_temperature, t, "teacher_temperature")
    )
    q = half_log_probs(
        s, check_temperature(student_temperature, s, "student_temperature")
    )
    size = max(p.shape[-1], q.shape[-1])
    loss = 2 * variation(_sorted(p, size), _sorted(q, size))
    some = (jnp.max(s, -1) > -jnp.inf) & (jnp.max(t, -1) > -jnp.inf)
    return jnp.where(some, loss, 0)


def top_k_logits(logits: ArrayLike, k: int) -> jax.Array:
    """The k largest logits of each row where they are, and zeros elsewhere.

    All that equal the k-th are kept; hidden classes, at ``-inf``, become 0 too.

    Shapes: logits [..., C] -> [..., C]

    Raises:
      TypeError: ``logits`` is not floating point.
      ValueError: ``k`` is below 1.

    >>> print(top_k_logits(jnp.float32([3, -1, 2, -2]), 3))
    [ 3. -1.  2.  0.]
    """
    z = numerics.class_axis_last(logits)
    checked("k", k, lambda k: k >= 1, "at least 1")
    kth = jax.lax.top_k(jax.lax.stop_gradient(z), min(k, z.shape[-1]))[0][..., -1:]
    return jnp.where((z >= kth) & (z > -jnp.inf), z, 0)


def coactivation_degree(
    logits: ArrayLike, *, k: int = 10, mask: ArrayLike | None = None
) -> jax.Array:
    r"""How strongly each token of a vocabulary is active together with all others.

    .. math:: f_i = \frac1V \sum_j A_{ij}, \quad
        A = \frac{1}{|m|} \sum_t m_t \tilde z_t \tilde z_t^\top

    with :math:`\tilde z` of ``top_k_logits``; the graph A of V times V is never made.

    Shapes: logits [..., S, V], mask [..., S] -> [..., V]

    Args:
      logits: of the positions of a sequence. Beyond 2^30 they are clipped: fourth
        powers have to fit.
      k: how many logits of a position are kept; V or more keeps all.
      mask: bool, the positions that count; none at all gives 0.

    Raises:
      TypeError: ``logits`` is not floating point or ``mask`` is not bool.
      ValueError: ``mask`` has another shape, or ``k`` is below 1.

    Source: InfiGFusion, Wang et al. 2025, arXiv:2505.13893; the normalisation is
      inferred from its abstract.

    >>> coactivation_degree(jnp.float32([[1, 0], [0, 2]]), k=1)
    Array([0.25, 1.  ], dtype=float32)
    """
    z = numerics.promote(logits)
    if z.ndim < 2:
        raise ValueError(f"logits has shape {z.shape}, expected [..., S, V]")
    mask = numerics.kept(mask, z.shape[:-1])
    z = top_k_logits(jnp.where(mask[..., None], z, 0), k)
    z = jnp.clip(z, -(2.0**30), 2.0**30)
    count = jnp.maximum(jnp.sum(mask, -1), 1).astype(z.dtype)[..., None]
    share = jnp.mean(z, -1, keepdims=True)
    return jnp.sum(z * share, -2) / count


def gld(
    student_logits: ArrayLike,
    teacher_logits: ArrayLike,
    *,
    k: int = 10,
    power: Literal[1, 2] = 2,
    align: Literal["pad", "quantile"] = "pad",
    mask: ArrayLike | None = None,
) -> jax.Array:
    r"""Graph-on-logits distillation, one value for each sequence.

    .. math:: \ell = \frac1V \sum_i |f^s_{(i)} - f^t_{(i)}|^{\text{power}}

    with the sorted degrees of the two graphs of ``coactivation_degree``: the graphs'
    Gromov-Wasserstein distance, from below (``sorted_gw_bounds``). 0 between equal
    graphs, whatever their nodes are called, and between some that differ. Beyond the
    abstract's top-k, outer products, sorting and closed form this is inferred.

    Shapes: student_logits [..., S, V], teacher_logits [..., S, W], mask [..., S] -> [...]

    Args:
      student_logits: of the positions of a sequence.
      teacher_logits: of the same positions, over another vocabulary; they get no
        gradient.
      k: how many logits of a position are kept.
      power: 2, or 1 for absolute differences.
      align: what is done about vocabularies of different size: ``"pad"`` gives the
        smaller one nodes of degree 0, ``"quantile"`` interpolates its sorted degrees.
      mask: bool, the positions that count.

    Returns:
      In the fourth power of the logits' units (``power=1``: in the second), float32
      (float64 for float64). 0 without any position.

    Raises:
      TypeError: logits are not floating point or ``mask`` is not bool.
      ValueError: shapes that do not fit, ``k`` below 1, or an unknown ``power`` or
        ``align``.

    Numerics: relative error below 1e-5 of the largest degree's power.

    Source: InfiGFusion, Wang et al. 2025, arXiv:2505.13893; inferred from its abstract.

    >>> s, t = jnp.float32([[1, 0], [0, 2]]), jnp.float32([[1, 1], [1, 0]])
    >>> gld(s, t, k=2)
    Array(0.0625, dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    if power not in (1, 2):
        raise ValueError(f"power is {power}, expected 1 or 2")
    if align not in ("pad", "quantile"):
        raise ValueError(f"align is {align!r}, expected 'pad' or 'quantile'")
    if jnp.shape(teacher_logits)[:-1] != jnp.shape(student_logits)[:-1]:
        raise ValueError(
            f"teacher_logits has shape {jnp.shape(teacher_logits)}, expected that of "
            f"student_logits, {jnp.shape(student_logits)}, but for the classes"
        )
    f = coactivation_degree(student_logits, k=k, mask=mask)
    g = jax.lax.stop_gradient(coactivation_degree(teacher_logits, k=k, mask=mask))
    size = max(f.shape[-1], g.shape[-1])
    f, g = (_aligned(x, size, align) for x in (f, g.astype(f.dtype)))
    d = f - g
    return jnp.mean(jnp.abs(d) if power == 1 else d * d, -1)


def sorted_gw_bounds(a: ArrayLike, b: ArrayLike) -> tuple[jax.Array, jax.Array]:
    r"""Bounds of the Gromov-Wasserstein distance of two graphs, from sorted degrees.

    .. math:: \frac1n \sum_i (f^a_{(i)} - f^b_{(i)})^2 \le GW^2 \le
        \frac{1}{n^2} \sum_{ij} (A_{\pi_i \pi_j} - B_{\rho_i \rho_j})^2

    with uniform node weights, degrees :math:`f_i = \frac1n \sum_j A_{ij}` and the
    permutations that sort them.

    Shapes: a [N, N], b [N, N] -> [], []

    Raises:
      TypeError: a matrix is not floating point.
      ValueError: they are not square, or of different size.

    >>> sorted_gw_bounds(jnp.eye(2), jnp.zeros((2, 2)))
    (Array(0.25, dtype=float32), Array(0.5, dtype=float32))
    """
    a, b = numerics.promote(a, "a"), numerics.promote(b, "b")
    if a.ndim != 2 or a.shape[0] != a.shape[1] or b.shape != a.shape:
        raise ValueError(f"a has shape {a.shape}, b {b.shape}, expected [N, N] of both")
    ordered = []
    for m in (a, b):
        at = jnp.argsort(m.mean(-1))
        ordered.append(m[at][:, at])
    a, b = ordered
    return jnp.mean((a.mean(-1) - b.mean(-1)) ** 2), jnp.mean((a - b) ** 2)


def _sorted(half, size):
    """Sorted from the largest, filled up with classes that have no probability."""
    half = -jnp.sort(-half, -1)
    missing = size - half.shape[-1]
    pad = [(0, 0)] * (half.ndim - 1) + [(0, missing)]
    return jnp.pad(half, pad, constant_values=-jnp.inf)


def _aligned(f, size, align):
    missing = size - f.shape[-1]
    f = jnp.sort(f, -1)
    if not missing:
        return f
    if align == "pad":
        # Zeros between the signs, after sorting: XLA (jaxlib 0.10.2) aborts where a
        # padded array is sorted with its classes on a mesh.
        none, axes = [(0, 0)] * (f.ndim - 1), f.ndim - 1
        early, late = (jnp.pad(f, [*none, pad]) for pad in ((0, missing), (missing, 0)))
        place = jax.lax.broadcasted_iota(jnp.int32, early.shape, axes)
        negative = jnp.sum(f < 0, -1, keepdims=True)
        late = jnp.where(place < negative + missing, 0, late)
        return jnp.where(place < negative, early, late)
    at = jnp.linspace(0, f.shape[-1] - 1, size, dtype=f.dtype)
    below = jnp.clip(jnp.floor(at).astype(int), 0, max(f.shape[-1] - 2, 0))
    above = jnp.minimum(below + 1, f.shape[-1] - 1)
    share = (at - below).reshape((1,) * (f.ndim - 1) + (-1,))
    return (1 - share) * f[..., below] + share * f[..., above]


def _two_vocabularies(key, shape, dtype):
    s, t = jax.random.split(key)
    larger = (*shape[:-1], shape[-1] + 3)
    return 3 * jax.random.normal(s, shape, dtype), 3 * jax.random.normal(
        t, larger, dtype
    )


ROWS = (
    Row(
        uld,
        "example",
        _two_vocabularies,
        "Boizard et al. 2024, arXiv:2402.12030",
        golden="uld",
        upper=2.0,
        gathers="probabilities are sorted",
        cost="probabilities of both models are sorted",
    ),
    Row(
        gld,
        "sequence",
        _two_vocabularies,
        "InfiGFusion, Wang et al. 2025, arXiv:2505.13893",
        shift_invariant=False,
        where=False,
        gathers="degrees are sorted",
        cost="the largest logits of every position, and sorted degrees",
        shape=(3, 4, 5),
        note="Inferred from the abstract",
    ),
)
