"""Regression by cross-entropy over the bins or atoms of an interval."""

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.comp_sums import cross_entropy
from logitlab.losses.rows import Row

__all__ = [
    "c51_loss",
    "categorical_projection",
    "categorical_value",
    "hl_gauss_loss",
    "hl_gauss_probs",
    "two_hot_loss",
    "two_hot_probs",
]

NOT_LOSSES = (
    "categorical_projection",
    "categorical_value",
    "hl_gauss_probs",
    "two_hot_probs",
)

_SOURCE = "Stop Regressing, Farebrother et al. 2024, arXiv:2403.03950"


def hl_gauss_probs(
    target: ArrayLike,
    *,
    vmin: float,
    vmax: float,
    num_bins: int,
    sigma_ratio: float = 0.75,
) -> jax.Array:
    r"""Histogram of a Gaussian around the target, cut off at the ends of the range.

    .. math:: q_i = \frac{\Phi((e_{i+1} - t)/\sigma) - \Phi((e_i - t)/\sigma)}
        {\Phi((e_m - t)/\sigma) - \Phi((e_0 - t)/\sigma)}, \quad
        \sigma = \text{ratio} \cdot (v_{max} - v_{min}) / m

    with m uniform bins between the edges :math:`e_0 = v_{min}, \dots, e_m = v_{max}`.

    Shapes: target [...] -> [..., num_bins]

    Args:
      target: scalars; clipped to the range first, or the normaliser could vanish (the
        published listing does not clip).
      vmin: lower end of the range.
      vmax: upper end of the range.
      num_bins: how many bins.
      sigma_ratio: standard deviation of the Gaussian, in bin widths.

    Returns:
      A distribution over the bins, float32 (float64 for float64 targets).
      ``categorical_value`` of the bins' centres reads it back, with a bias to the
      middle near the two ends.

    Raises:
      TypeError: ``target`` is not floating point.
      ValueError: an empty range, no bins, or ``sigma_ratio`` not positive.

    Numerics: absolute error below 1e-6 of the largest bin (the position of a target is
      known to a rounding error of the range); far tails underflow to 0.

    Source: Farebrother et al. 2024, arXiv:2403.03950, after Imani and White 2018.

    >>> q = hl_gauss_probs(0.0, vmin=-1.5, vmax=1.5, num_bins=3)
    >>> [f"{p:.4f}" for p in q]
    ['0.2407', '0.5186', '0.2407']
    """
    _check_range(vmin, vmax)
    _check_count("num_bins", num_bins, 1)
    _check("sigma_ratio", sigma_ratio, lambda v: v > 0, "a number above 0")
    t = numerics.promote(target, "target")[..., None]
    u = jnp.clip((t - vmin) / ((vmax - vmin) / num_bins), 0, num_bins)
    bins = jax.lax.broadcasted_iota(u.dtype, (*u.shape[:-1], num_bins), u.ndim - 1)
    scale = sigma_ratio * jnp.sqrt(2.0).astype(u.dtype)
    total = _erf_between(-u / scale, (num_bins - u) / scale)
    return _erf_between((bins - u) / scale, (bins + 1 - u) / scale) / total


def two_hot_probs(
    target: ArrayLike, *, vmin: float, vmax: float, num_atoms: int
) -> jax.Array:
    r"""The target shared linearly between its two neighbours among the atoms.

    .. math:: q_i = \max(0, 1 - |t - c_i| / \delta), \quad
        \delta = (v_{max} - v_{min}) / (m - 1)

    with m uniform atoms c from :math:`v_{min}` to :math:`v_{max}`, both included, and
    t clipped to them; :math:`\sum_i q_i c_i = t`.

    Shapes: target [...] -> [..., num_atoms]

    Returns:
      A distribution over the atoms, float32 (float64 for float64 targets).

    Raises:
      TypeError: ``target`` is not floating point.
      ValueError: an empty range or fewer than two atoms.

    Numerics: error of a rounding of the range, in units of an atom's distance.

    Source: Farebrother et al. 2024, arXiv:2403.03950.

    >>> two_hot_probs(0.25, vmin=-1.0, vmax=1.0, num_atoms=3)
    Array([0.  , 0.75, 0.25], dtype=float32)
    """
    _check_range(vmin, vmax)
    _check_count("num_atoms", num_atoms, 2)
    t = numerics.promote(target, "target")[..., None]
    u = jnp.clip((t - vmin) / ((vmax - vmin) / (num_atoms - 1)), 0, num_atoms - 1)
    atoms = jax.lax.broadcasted_iota(u.dtype, (*u.shape[:-1], num_atoms), u.ndim - 1)
    return jnp.maximum(1 - jnp.abs(u - atoms), 0)


def categorical_projection(
    shifted_atoms: ArrayLike, probs: ArrayLike, atoms: ArrayLike
) -> jax.Array:
    r"""A distribution over moved atoms, projected on fixed ones (C51).

    .. math:: \hat q_i = \sum_j p_j \max(0, 1 - |\mathrm{clip}(s_j) - c_i| / \delta)

    Mass outside the atoms goes to the ends; the mean is kept where nothing is clipped.
    Atoms need not be uniform: :math:`\delta` is the distance to the next atom on the
    side of :math:`s_j`.

    Shapes: shifted_atoms [..., M], probs [..., M], atoms [N] -> [..., N]

    Returns:
      A distribution over ``atoms``, float32 (float64 for float64 input).

    Raises:
      TypeError: an argument is not floating point.
      ValueError: the shapes do not fit, or ``atoms`` does not increase.

    Numerics: relative error below 1e-5 of the largest entry.

    Source: Bellemare et al. 2017, arXiv:1707.06887; rlax.

    >>> s, p = jnp.float32([0.5, 3]), jnp.float32([0.6, 0.4])
    >>> categorical_projection(s, p, jnp.float32([0, 1, 2]))
    Array([0.3, 0.3, 0.4], dtype=float32)
    """
    s = numerics.promote(shifted_atoms, "shifted_atoms")
    p = numerics.promote(probs, "probs")
    c = numerics.promote(atoms, "atoms")
    if s.ndim == 0 or s.shape != p.shape:
        raise ValueError(
            f"probs has shape {p.shape}, expected that of shifted_atoms, {s.shape}, "
            "with at least one axis"
        )
    _check_support("atoms", c)
    _check("atoms", c, lambda c: (jnp.diff(c) > 0).all(), "increasing numbers")
    one = jnp.ones((1,), c.dtype)
    after = jnp.concatenate([jnp.diff(c), one])
    before = jnp.concatenate([one, jnp.diff(c)])
    rank = (1,) * (s.ndim - 1)
    c, after, before = (a.reshape(*rank, -1, 1) for a in (c, after, before))
    gap = jnp.clip(s, c[..., :1, 0], c[..., -1:, 0])[..., None, :] - c
    hat = 1 - jnp.where(gap >= 0, gap / after, -gap / before)
    return jnp.sum(p[..., None, :] * jnp.maximum(hat, 0), -1)


def categorical_value(
    logits: ArrayLike,
    support: ArrayLike,
    *,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Mean of the distribution that logits put on a support.

    .. math:: \sum_i \mathrm{softmax}(z)_i \, c_i

    Shapes: logits [..., C], support [C], where [..., C] -> [...]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      support: atoms, or the centres of the bins.
      axis: the class axis of ``logits`` and ``where``.
      where: bool, the atoms that take part.

    Returns:
      Numbers in units of ``support``, float32 (float64 for float64 logits); 0 where
      every atom is hidden.

    Raises:
      TypeError: an argument is not floating point or ``where`` is not bool.
      ValueError: ``support`` does not have one entry per class.

    Numerics: relative error below 1e-5 of the mean absolute value, for margins up to
      80, its gradient too.

    Source: Farebrother et al. 2024, arXiv:2403.03950.

    >>> categorical_value(jnp.float32([0, 0]), jnp.float32([-1, 3]))
    Array(1., dtype=float32)
    """
    log_p = numerics.log_softmax(
        numerics.class_axis_last(logits, axis=axis, where=where)
    )
    c = numerics.promote(support, "support")
    _check_support("support", c, log_p.shape[-1])
    return jnp.sum(jnp.exp(log_p) * c.reshape((1,) * (log_p.ndim - 1) + (-1,)), -1)


def hl_gauss_loss(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    vmin: float,
    vmax: float,
    num_bins: int | None = None,
    sigma_ratio: float = 0.75,
    axis: int = -1,
) -> jax.Array:
    r"""Cross-entropy against a Gaussian histogram, one value per example.

    .. math:: \ell = -\sum_i q_i \log p_i, \quad q = \text{hl\_gauss\_probs}(t)

    Shapes: logits [..., C], target [...] -> [...]

    Args:
      logits: a score for each bin; there is no ``where``, since a range without one of
        its bins is another range. A bin at ``-inf`` costs ``inf`` if the target needs
        it.
      target: scalars, clipped to the range; they get no gradient.
      vmin: lower end of the range.
      vmax: upper end of the range.
      num_bins: the number of bins, if it should be checked: it is C.
      sigma_ratio: standard deviation of the Gaussian, in bin widths.
      axis: the class axis of ``logits``.

    Returns:
      Nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` or ``target`` is not floating point.
      ValueError: wrong shapes, an empty range, or ``sigma_ratio`` not positive.

    Numerics: relative error below 1e-5, value and gradient, given the histogram.

    Source: Farebrother et al. 2024, arXiv:2403.03950.

    >>> hl_gauss_loss(jnp.zeros(4), 0.3, vmin=0.0, vmax=1.0)
    Array(1.3862944, dtype=float32)
    """
    z, t = _logits_and_target(logits, target, axis)
    bins = _class_count("num_bins", num_bins, z)
    q = hl_gauss_probs(t, vmin=vmin, vmax=vmax, num_bins=bins, sigma_ratio=sigma_ratio)
    return cross_entropy(z, jax.lax.stop_gradient(q))


def two_hot_loss(
    logits: ArrayLike,
    target: ArrayLike,
    *,
    vmin: float,
    vmax: float,
    num_atoms: int | None = None,
    axis: int = -1,
) -> jax.Array:
    r"""Cross-entropy against the two atoms around the target, one value per example.

    .. math:: \ell = -\sum_i q_i \log p_i, \quad q = \text{two\_hot\_probs}(t)

    Shapes: logits [..., C], target [...] -> [...]

    Args:
      logits: a score for each atom; there is no ``where``, since a grid without one of
        its atoms is another grid. An atom at ``-inf`` costs ``inf`` if the target needs
        it.
      target: scalars, clipped to the range; they get no gradient.
      vmin: the first atom.
      vmax: the last atom.
      num_atoms: the number of atoms, if it should be checked: it is C.
      axis: the class axis of ``logits``.

    Returns:
      Nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: ``logits`` or ``target`` is not floating point.
      ValueError: wrong shapes, an empty range, or fewer than two atoms.

    Numerics: relative error below 1e-5, value and gradient, given the two weights.

    Source: Farebrother et al. 2024, arXiv:2403.03950.

    >>> two_hot_loss(jnp.float32([40, 0]), 0.0, vmin=0.0, vmax=1.0)
    Array(4.248354e-18, dtype=float32)
    """
    z, t = _logits_and_target(logits, target, axis)
    atoms = _class_count("num_atoms", num_atoms, z)
    q = two_hot_probs(t, vmin=vmin, vmax=vmax, num_atoms=atoms)
    return cross_entropy(z, jax.lax.stop_gradient(q))


def c51_loss(
    logits: ArrayLike,
    target_probs: ArrayLike,
    reward: ArrayLike,
    discount: ArrayLike,
    atoms: ArrayLike,
    *,
    axis: int = -1,
) -> jax.Array:
    r"""Cross-entropy against the projected Bellman target, one value per example.

    .. math:: \ell = -\sum_i \hat q_i \log p_i, \quad
        \hat q = \text{projection of } (r + \gamma c_j, p'_j) \text{ on } c

    Shapes: logits [..., C], target_probs [..., C], reward [...], discount [...], atoms [C] -> [...]

    Args:
      logits: a score for each atom; an atom at ``-inf`` costs ``inf`` if the target
        needs it.
      target_probs: the distribution over the atoms at the next state; no gradient.
      reward: added to the atoms; no gradient.
      discount: multiplies the atoms, 0 at the end of an episode; may be a scalar.
      atoms: increasing.
      axis: the class axis of ``logits`` and ``target_probs``.

    Returns:
      Nats, float32 (float64 for float64 logits).

    Raises:
      TypeError: an argument is not floating point.
      ValueError: the shapes do not fit, or ``atoms`` does not increase.

    Numerics: relative error below 1e-5, value and gradient, given the projection.

    Source: Bellemare et al. 2017, arXiv:1707.06887.

    >>> z, p, atoms = jnp.zeros(2), jnp.float32([0.5, 0.5]), jnp.float32([0, 1])
    >>> c51_loss(z, p, 0.1, 0.9, atoms)
    Array(0.6931472, dtype=float32)
    """  # noqa: E501 - a test parses the line of shapes
    z, r = _logits_and_target(logits, reward, axis, "reward")
    p = numerics.promote(target_probs, "target_probs")
    if p.shape != jnp.shape(logits):
        raise ValueError(
            f"target_probs has shape {p.shape}, expected {jnp.shape(logits)}"
        )
    g = numerics.promote(discount, "discount").astype(z.dtype)
    if g.shape not in ((), r.shape):
        raise ValueError(f"discount has shape {g.shape}, expected {r.shape} or ()")
    c = numerics.promote(atoms, "atoms").astype(z.dtype)
    _check_support("atoms", c, z.shape[-1])
    g = jnp.broadcast_to(g, r.shape)[..., None]
    shifted = r[..., None] + g * c.reshape((1,) * r.ndim + (-1,))
    p = jnp.moveaxis(p, axis, -1).astype(z.dtype)
    q = categorical_projection(shifted, p, c)
    return cross_entropy(z, jax.lax.stop_gradient(q))


def _erf_between(a, b):
    """``erf(b) - erf(a)`` for a <= b, without cancellation in the tails."""
    right = a + b > 0
    near, far = jnp.where(right, a, -b), jnp.where(right, b, -a)
    return jax.lax.erfc(near) - jax.lax.erfc(far)


def _logits_and_target(logits, target, axis, name="target"):
    z = numerics.class_axis_last(logits, axis=axis)
    t = numerics.promote(target, name).astype(z.dtype)
    if t.shape != z.shape[:-1]:
        raise ValueError(f"{name} has shape {t.shape}, expected {z.shape[:-1]}")
    return z, t


def _class_count(name, count, z):
    if count not in (None, z.shape[-1]):
        raise ValueError(
            f"{name} is {count}, expected the number of classes, {z.shape[-1]}"
        )
    return z.shape[-1]


def _check(name, value, ok, expected):
    fine = ok(value)  # traced if the value is, or if this is under jit
    if not isinstance(fine, jax.core.Tracer) and not fine:
        raise ValueError(f"{name} is {value}, expected {expected}")


def _check_count(name, value, least):
    if not isinstance(value, int) or value < least:
        raise ValueError(f"{name} is {value!r}, expected an integer from {least} on")


def _check_range(vmin, vmax):
    _check("vmax", vmax, lambda v: v > vmin, f"a number above vmin, {vmin}")


def _check_support(name, c, classes=None):
    if c.ndim != 1 or c.size == 0 or (classes is not None and c.size != classes):
        expected = "one axis" if classes is None else f"({classes},)"
        raise ValueError(f"{name} has shape {c.shape}, expected {expected}")


def _scalar_targets(key, shape, dtype):
    z, t = jax.random.split(key)
    logits = 3 * jax.random.normal(z, shape, dtype)
    return logits, jax.random.uniform(t, shape[:-1], dtype, -1, 1)


def _bellman_targets(key, shape, dtype):
    z, p, r, d = jax.random.split(key, 4)
    probs = jax.nn.softmax(jax.random.normal(p, shape, dtype))
    reward = jax.random.uniform(r, shape[:-1], dtype)
    discount = jax.random.uniform(d, shape[:-1], dtype)
    atoms = jnp.linspace(-1, 1, shape[-1], dtype=dtype)
    return 3 * jax.random.normal(z, shape, dtype), probs, reward, discount, atoms


ROWS = (
    Row(
        hl_gauss_loss,
        "example",
        _scalar_targets,
        _SOURCE,
        hyper={"vmin": -1.0, "vmax": 1.0},
        golden="hl_gauss",
        convex=True,
        where=False,
        symmetric=False,
        cost="the target's histogram, of error functions, is as large as the logits",
    ),
    Row(
        two_hot_loss,
        "example",
        _scalar_targets,
        _SOURCE,
        hyper={"vmin": -1.0, "vmax": 1.0},
        golden="categorical_projection",
        convex=True,
        where=False,
        symmetric=False,
    ),
    Row(
        c51_loss,
        "example",
        _bellman_targets,
        "C51, Bellemare et al. 2017, arXiv:1707.06887",
        golden="categorical_projection",
        convex=True,
        where=False,
        symmetric=False,
        gathers="mass moves between any two atoms",
    ),
)
