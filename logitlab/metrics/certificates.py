"""Certified radii of smoothed classifiers, and the bounds they are made of."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.scipy.special import betainc, erf, ndtri
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range, check_same_shape, hyper, positive

__all__ = [
    "Certificate",
    "certify_lvm",
    "clopper_pearson",
    "empirical_bernstein",
    "simplex_map",
    "smoothed_lipschitz",
]

Link = Callable[[jax.Array], jax.Array]
Maps = Sequence[tuple[Link | None, ArrayLike]]
Selection = Literal["holdout", "bonferroni", "official"]
Side = Literal["lower", "upper"]


class Certificate(NamedTuple):
    """What ``certify_lvm`` knows of each input, arrays of its batch shape.

    Attributes:
      classes: the class that the smoothed classifier has within the radius, int32; -1
        where it abstains.
      radius: of the ball in the l2 norm, in the unit of ``sigma``; 0 where it abstains.
      lower: bound of the mean probability of the class from below.
      upper: that of any other class from above; a class is certain while the first is
        larger, and their difference over ``smoothed_lipschitz`` is another radius.
      maps: which map they are of: 0 counts top classes, the others follow in the order
        of ``maps``, int32.
    """

    classes: jax.Array
    radius: jax.Array
    lower: jax.Array
    upper: jax.Array
    maps: jax.Array


def simplex_map(
    logits: ArrayLike,
    *,
    link: Link | None = None,
    temperature: ArrayLike = 1.0,
    axis: int = -1,
    where: ArrayLike | None = None,
) -> jax.Array:
    r"""Probabilities of logits by any link, at a temperature.

    Use it to see what ``certify_lvm`` takes the means of.

    .. math:: p = \mathrm{softmax}(\mathrm{link}(z / T))

    Shapes: logits [..., C], where [..., C] -> [..., C]

    Args:
      logits: scores; ``-inf`` is the same as ``where=False``.
      link: a function of ``links`` such as ``links.sparsemax``, or any other from
        logits to logits with classes last; softmax without one.
      temperature: T, positive; the top class alone towards 0. May be traced.
      axis: the class axis.
      where: bool, the classes that take part.

    Returns:
      Probabilities, float32 (float64 for float64 logits), 0 at hidden classes.

    Raises:
      TypeError: ``logits`` is not floating point or ``where`` is not bool.
      ValueError: ``temperature`` is not positive.

    Source: the lvm_rs maps, Delattre et al. 2024, arXiv:2309.16883.

    >>> import jax.numpy as jnp
    >>> from logitlab import links, metrics
    >>> z = jnp.float32([1, 0.5, -1])
    >>> metrics.simplex_map(z, link=links.sparsemax, temperature=2.0).round(4)
    Array([0.625, 0.375, 0.   ], dtype=float32)
    """
    z = numerics.prepare_logits(logits, axis=axis, where=where)
    t = hyper("temperature", temperature, z.dtype, lambda t: t > 0, "positive")
    top = jnp.max(z, -1, keepdims=True)
    z = z - jnp.where(top == -jnp.inf, 0, top)
    z = jnp.where(z < 0, z / t, z)  # a tie stays one, and hidden classes hidden
    p = numerics.softmax(z if link is None else link(z))
    return jnp.moveaxis(p, -1, axis)


def empirical_bernstein(
    std: ArrayLike, draws: ArrayLike, *, alpha: ArrayLike
) -> jax.Array:
    r"""How far the mean of draws from [0, 1] may be off, by their deviation.

    Use it for a one-sided confidence bound, the sample mean plus or minus this, that
    profits from a small variance.

    .. math:: s \sqrt{\frac{2 \ln(2 / \alpha)}{n}} + \frac{7 \ln(2 / \alpha)}{3 (n - 1)}

    Shapes: std [...] -> [...]

    Args:
      std: s, the sample's standard deviation, with n - 1 in its denominator.
      draws: n, at least 2.
      alpha: the chance that one side fails, in (0, 1).

    Returns:
      In the unit of the draws, float32 (float64 for float64).

    Raises:
      TypeError: ``std`` is not floating point.
      ValueError: there are fewer than two draws, or ``alpha`` is outside (0, 1).

    Source: Maurer and Pontil 2009, arXiv:0907.3740.

    >>> from logitlab.metrics import empirical_bernstein
    >>> print(f"{empirical_bernstein(0.1, 1000, alpha=0.001):.6f}")
    0.030083
    """
    s = numerics.promote_to_float32(std, "std")
    check_range("draws", draws, lambda n: n >= 2, "at least 2")
    n, alpha = jnp.asarray(draws, s.dtype), _level(alpha, s.dtype)
    log = jnp.log(2 / alpha)
    return s * jnp.sqrt(2 * log / n) + 7 * log / (3 * (n - 1))


def smoothed_lipschitz(
    lipschitz: ArrayLike, r: ArrayLike, *, sigma: ArrayLike
) -> jax.Array:
    r"""Lipschitz constant of a bounded function after smoothing with normal noise.

    Use it for a radius by hand, where the constant of a network is known: the margin of
    two means over the constant of their *difference*.

    .. math:: L \, \mathrm{erf}\Bigl(\frac{r}{2 \sqrt2 L \sigma}\Bigr) \le
        \min\Bigl(L, \frac{r}{\sqrt{2 \pi} \sigma}\Bigr)

    of any L-Lipschitz function whose values fill an interval of length r, and exact for
    a clipped linear one. Of the difference of two classes' probabilities r is 2 and L
    its own constant: 2 L if that of each class is L, and :math:`\sqrt2 L` for maps into
    the simplex that are L-Lipschitz as vectors. (The radius of the difference's margin
    over the constant of one of the two is too large.)

    Shapes: lipschitz [...], r [...] -> [...]

    Args:
      lipschitz: L in the l2 norm, positive; ``inf`` for any function.
      r: length of the interval, positive.
      sigma: standard deviation of the noise, positive.

    Returns:
      Per unit of the input, float32 (float64 for float64 ``lipschitz``).

    Raises:
      ValueError: an argument is not positive.

    Numerics: relative error below 1e-6.

    Source: Delattre et al. 2024, arXiv:2309.16883, with the factor corrected; the
      released code has twice r, which is valid and larger.

    >>> from logitlab.metrics import smoothed_lipschitz
    >>> print(f"{smoothed_lipschitz(1.0, 1.0, sigma=0.5):.6f}")
    0.682689
    """
    positive(lipschitz=lipschitz, r=r, sigma=sigma)
    slope = jnp.asarray(lipschitz, jnp.result_type(float, lipschitz))
    r, sigma = jnp.asarray(r, slope.dtype), jnp.asarray(sigma, slope.dtype)
    hard = r / (math.sqrt(2 * math.pi) * sigma)
    x = r / (2 * math.sqrt(2) * sigma * slope)
    soft = jnp.where(jnp.isinf(slope), 0, slope) * erf(x)
    # L erf(x) is 0 * inf in the limit, and hard * (1 - x^2 / 3) before it.
    return jnp.where(x < 1e-3, hard * (1 - x * x / 3), soft)


def clopper_pearson(
    successes: ArrayLike, trials: ArrayLike, *, alpha: ArrayLike, side: Side
) -> jax.Array:
    r"""Exact one-sided confidence bound of a probability, from counts.

    Use it to bound an error or a vote share; for an interval, which fails on both
    sides, take half of ``alpha`` for each.

    .. math:: P(X \le k \mid p) = \alpha \quad \text{for the upper one}

    and :math:`P(X \ge k \mid p) = \alpha` for the lower one, solved by bisection.

    Shapes: successes [...] -> [...]

    Args:
      successes: k, in [0, n].
      trials: n, at least 1.
      alpha: the chance that the bound fails, in (0, 1).
      side: "lower" or "upper".

    Returns:
      In [0, 1], float32 (float64 under x64).

    Raises:
      ValueError: counts are not in their range, ``alpha`` is outside (0, 1), or
        ``side`` is neither of the two.

    Numerics: relative error below 1e-12 in float64. In float32 the chance of failure
      never exceeds ``alpha`` and may be lower by 2 % of it for 10,000 trials, and by a
      quarter for 100,000.

    Source: Clopper and Pearson 1934, "The use of confidence or fiducial limits
      illustrated in the case of the binomial".

    >>> from logitlab.metrics import clopper_pearson
    >>> print(f"{clopper_pearson(0, 100, alpha=0.05, side='upper'):.4f}")
    0.0295
    """
    if side not in get_args(Side):
        raise ValueError(f"side is {side!r}, expected 'lower' or 'upper'")
    check_range("trials", trials, lambda n: n >= 1, "at least 1")
    dtype = jnp.result_type(float)
    k, n = jnp.asarray(successes, dtype), jnp.asarray(trials, dtype)
    alpha = _level(alpha, dtype)
    if numerics.is_concrete(n):
        valid = lambda k: (k >= 0) & (k <= np.asarray(n))  # noqa: E731
        check_range("successes", successes, valid, f"from 0 to trials, {trials}")
    return _binomial_bound(k, n, alpha, side)


def certify_lvm(
    noisy_logits: ArrayLike,
    *,
    sigma: ArrayLike,
    alpha: ArrayLike,
    maps: Maps,
    selection: Selection = "holdout",
    selection_logits: ArrayLike | None = None,
) -> Certificate:
    r"""Certified class and radius of a smoothed classifier (LVM-RS).

    Use it on the logits of noisy copies of an input: what the class is on average, and
    how far the input may move before that changes.

    .. math:: R = \frac{\sigma}{2} \left(\Phi^{-1}(\underline p_A) -
        \Phi^{-1}(\overline p_B)\right)

    with bounds of the mean probability of class A from below and of every other class
    from above: of the share of draws that it is the top of (Clopper-Pearson, map 0),
    or of a soft map (``empirical_bernstein``), which has a smaller margin but may have
    a much smaller variance. It abstains where the bounds do not separate the classes.

    With probability ``1 - alpha`` over the noise the certificate of an input is true:
    the class is the smoothed one's, of the map it is for, anywhere within the radius.
    What a certificate must not do is to choose class and map by the draws that it then
    bounds: the maximum over hundreds of bounds, each of level alpha, is none of that
    level.

    - ``"holdout"`` chooses both on other draws, ``selection_logits`` (100 are enough),
      and bounds one class from below and C - 1 from above, each at ``alpha / C``.
    - ``"bonferroni"`` spends the draws on both: ``alpha / (2 C (1 + M))`` for M maps.
    - ``"official"`` is the released code: the largest radius of all maps, each at
      ``alpha / C``. To compare with the paper; it certifies less than it says.

    The paper's second radius, the margin over :math:`\sqrt{2 / \pi} / \sigma`, is never
    larger than R. A known Lipschitz constant can give more: see ``smoothed_lipschitz``.

    Shapes: noisy_logits [N, ..., C], selection_logits [K, ..., C]
      -> [...], [...], [...], [...], [...]

    Args:
      noisy_logits: of N draws of the noise, at least 2, for each input of a batch.
      sigma: standard deviation of the noise, positive.
      alpha: chance that the certificate of an input is wrong, in (0, 1).
      maps: pairs (link, temperatures), as in ``simplex_map``: each temperature is a
        map, and those of a link are one loop. May be empty.
      selection: as above.
      selection_logits: for "holdout", of at least 2 other draws, and of no others.

    Returns:
      A ``Certificate``.

    Raises:
      TypeError: logits are not floating point.
      ValueError: the shapes do not fit, there are too few draws or classes, ``sigma``
        is not positive, ``alpha`` outside (0, 1), ``selection`` is unknown, or
        ``selection_logits`` are missing or not asked for.

    Numerics: a probability near 1 is bounded by what it lacks, so that float32 has its
      digits; for the level see ``clopper_pearson``.

    Source: Delattre et al. 2024, arXiv:2309.16883; the smoothed classifier: Cohen et
      al. 2019, arXiv:1902.02918.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab import links, metrics
    >>> draws = jax.random.normal(jax.random.key(0), (2, 500, 1)) + 1
    >>> logits = jnp.concatenate([draws, -draws], -1)  # the truth: class 0, radius 1
    >>> found = metrics.certify_lvm(
    ...     logits[0],
    ...     sigma=1.0,
    ...     alpha=0.001,
    ...     maps=[(links.sparsemax, jnp.float32([0.5, 1, 2])), (None, 1.0)],
    ...     selection_logits=logits[1],
    ... )
    >>> print(f"class {found.classes}, radius {found.radius:.2f}")
    class 0, radius 0.83
    """
    z = _draws("noisy_logits", noisy_logits)
    sigma = hyper("sigma", sigma, z.dtype, lambda s: s > 0, "positive")
    alpha = _level(alpha, z.dtype)
    if selection not in get_args(Selection):
        raise ValueError(
            f"selection is {selection!r}, expected 'holdout', 'bonferroni' or "
            "'official'"
        )
    if (selection == "holdout") != (selection_logits is not None):
        raise ValueError(
            f"selection is {selection!r} and selection_logits are "
            f"{'missing' if selection_logits is None else 'given'}; they are the draws "
            "of 'holdout', and of no other"
        )
    other = None
    if selection_logits is not None:
        other = _draws("selection_logits", selection_logits).astype(z.dtype)
        check_same_shape("selection_logits", other[0], "noisy_logits", z.shape[1:])
    grids = []
    for _, temperatures in maps:
        positive(temperatures=temperatures)
        grids.append(jnp.atleast_1d(jnp.asarray(temperatures, z.dtype)))
    links = tuple(link for link, _ in maps)
    level = alpha / z.shape[-1]
    if selection == "bonferroni":
        level /= 2 * (1 + sum(map(jnp.size, grids)))
    return _certified(z, other, sigma, level, grids, links)


@functools.partial(jax.jit, static_argnums=5)
def _certified(z, other, sigma, level, grids, links):
    draws = z.shape[0]
    bounds = chosen_by = _bounds(*_moments(z, grids, links), draws, level)
    if other is not None:  # what the bounds would be, had all draws been like these
        chosen_by = _bounds(*_moments(other, grids, links), draws, level)
    which, top = _best(*chosen_by, sigma)
    missed, upper = _of_class(*(_of_map(a, which) for a in bounds), top)
    radius = _radius(missed, upper, sigma)
    sure = radius > 0
    return Certificate(
        jnp.where(sure, top, -1), jnp.where(sure, radius, 0), 1 - missed, upper, which
    )


def _draws(name, logits):
    z = numerics.promote_to_float32(logits, name)
    if z.ndim < 2 or z.shape[0] < 2 or z.shape[-1] < 2:
        raise ValueError(
            f"{name} has shape {z.shape}, expected [N, ..., C] of at least two draws "
            "and two classes"
        )
    return z


def _level(alpha, dtype):
    return hyper("alpha", alpha, dtype, lambda a: (a > 0) & (a < 1), "in (0, 1)")


def _moments(z, grids, links):
    """Means and deviations of the probabilities of each map; first, shares of votes.

    Shapes: z [N, ..., C] -> [1 + M, ..., C], [1 + M, ..., C]
    """

    def of_map(link, temperature):
        p = simplex_map(z, link=link, temperature=temperature)
        return jnp.mean(p, 0), jnp.std(p, 0, ddof=1)

    votes = numerics.is_label(z, jnp.argmax(z, -1).astype(jnp.int32)).astype(z.dtype)
    found = [(jnp.mean(votes, 0)[None], jnp.std(votes, 0, ddof=1)[None])]
    for link, grid in zip(links, grids, strict=True):
        found.append(jax.lax.map(functools.partial(of_map, link), grid))
    return [jnp.concatenate(parts) for parts in zip(*found, strict=True)]


def _bounds(mean, std, draws, level):
    """Upper bounds of what the means lack to 1, and of the means.

    Shapes: mean [1 + M, ..., C], std [1 + M, ..., C] -> the same twice
    """
    width = empirical_bernstein(std[1:], draws, alpha=level)

    def upper(share):
        counts = jnp.round(share[:1] * draws)
        few = draws < counts.size  # numbers of votes, of which each is bounded once
        known = jnp.arange(draws + 1, dtype=share.dtype) if few else counts
        exact = _binomial_bound(known, jnp.asarray(draws, share.dtype), level, "upper")
        exact = exact[counts.astype(jnp.int32)] if few else exact
        return jnp.concatenate([exact, jnp.minimum(share[1:] + width, 1)])

    return upper(1 - mean), upper(mean)


def _best(missed, upper, sigma):
    """Map and class of the largest radius, [...] each."""
    top = jnp.argmin(missed, -1).astype(jnp.int32)
    which = jnp.argmax(_radius(*_of_class(missed, upper, top), sigma), 0)
    return which.astype(jnp.int32), _of_map(top[..., None], which)[..., 0]


def _of_map(a, which):
    """Of [1 + M, ..., C] and [...] the entries [..., C]."""
    return jnp.take_along_axis(a, which[None, ..., None], 0)[0]


def _of_class(missed, upper, top):
    """What a class lacks, and the largest of the others, [...] each."""
    own = numerics.is_label(missed, top)
    lacks = jnp.sum(jnp.where(own, missed, 0), -1)
    return lacks, jnp.max(jnp.where(own, 0, upper), -1)


def _radius(missed, upper, sigma):
    """From the bounds of what a class lacks and of the others; negative: abstain.

    ``-ndtri(missed)`` is ``ndtri(1 - missed)`` without the subtraction, and a bound of
    1 makes it ``-inf``.
    """
    missed, upper = (jnp.clip(p, 1e-12, 1) for p in (missed, upper))
    return sigma / 2 * (-ndtri(missed) - ndtri(upper))


@functools.partial(jax.jit, static_argnums=3)
def _binomial_bound(k, n, alpha, side):
    """Where the chance of at least k (below) or of at most k (above) is alpha.

    In the probability itself, of which float32 has more digits near 0 than near 1.
    """
    # The log-gamma functions in `betainc` are off by so much, as part of themselves.
    alpha = alpha / (1 + jnp.finfo(n.dtype).eps * n * jnp.log(n + 1))
    k, n, alpha = jnp.broadcast_arrays(k, n, alpha)
    above = side == "upper"
    known = k >= n if above else k <= 0  # that the bound is 1, or 0
    k = jnp.where(known, 1, k)
    n = jnp.where(known, 2, n)

    def halve(_, bracket):
        low, high = bracket
        middle = low + (high - low) / 2
        if above:
            below_root = betainc(n - k, k + 1, 1 - middle) > alpha
        else:
            below_root = betainc(k, n - k + 1, middle) < alpha
        return jnp.where(below_root, middle, low), jnp.where(below_root, high, middle)

    bracket = jnp.zeros_like(alpha), jnp.ones_like(alpha)
    steps = 2 * jnp.finfo(alpha.dtype).nmant
    low, high = jax.lax.fori_loop(0, steps, halve, bracket)
    return jnp.where(known, 1, high) if above else jnp.where(known, 0, low)
