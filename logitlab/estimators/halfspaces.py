"""Halfspaces learned from partly wrong labels, and tests of what that relies on."""

# ruff: noqa: PT028  (functions called test are none of pytest's)

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.scipy import special, stats
from jax.typing import ArrayLike

from logitlab import losses, numerics
from logitlab.estimators._examples import feature_rows
from logitlab.numerics.arguments import binary, check_count, hyper

__all__ = [
    "HalfspaceFit",
    "HalfspaceTest",
    "CheckedHalfspace",
    "learn_halfspace",
    "test_halfspace",
    "tester_learner",
]

_MOMENTS = (0.0, 1.0, 0.0, 3.0)  # of a standard normal number, from the first
_DEVIATIONS = (1.0, 2.0, 15.0, 96.0)  # squared, of its powers
_FEW = 50  # examples in the band


class HalfspaceFit(NamedTuple):
    """A learned halfspace.

    Attributes:
      direction: w, of length 1: class 1 is where w · x > 0, [D].
      error: share of the examples on the wrong side.
      candidates: the directions it is the best of, [M, D], those of one sigma together.
    """

    direction: jax.Array
    error: jax.Array
    candidates: jax.Array


class HalfspaceTest(NamedTuple):
    """Statistics of the data around a halfspace, and whether they pass.

    Attributes:
      moments: largest difference of the first four moments along a line from those of
        a normal law, in deviations of the power.
      band_mass: share of the examples near the boundary over what a normal law has.
      band_moments: spectral distance of the second moments there, orthogonal to w, from
        the identity.
      wrong_moments: largest second moment there of the wrongly classified, less the
        most that a choice of as many examples of a normal law has.
      in_band: examples near the boundary.
      passes: of the four tests, in this order, and of there being 50 in the band, [5].
      accepted: all of these.
    """

    moments: jax.Array
    band_mass: jax.Array
    band_moments: jax.Array
    wrong_moments: jax.Array
    in_band: jax.Array
    passes: jax.Array
    accepted: jax.Array


class CheckedHalfspace(NamedTuple):
    """A learned halfspace, and whether its data are what its guarantee asks for.

    Attributes:
      accepted: whether every candidate passed every test.
      direction: w, of the least error, of length 1, [D].
      error: share of the examples on the wrong side.
      tests: of all candidates, a ``HalfspaceTest`` of arrays [2 M].
    """

    accepted: jax.Array
    direction: jax.Array
    error: jax.Array
    tests: HalfspaceTest


def learn_halfspace(
    x: ArrayLike,
    labels: ArrayLike,
    key: jax.Array,
    *,
    sigmas: Sequence[float] = (0.2, 0.1, 0.05),
    starts: int = 4,
    steps: int = 200,
    learning_rate: ArrayLike = 0.5,
    batch_size: int = 1000,
) -> HalfspaceFit:
    r"""A halfspace with few errors, where some labels are wrong and confidently so.

    Use it in the place of logistic regression, which follows wrong labels far from the
    boundary, on features with mean 0 and the identity for their covariance.

    .. math:: \min_{\|w\| = 1} E\,\sigma(-y\,(w \cdot x) / s), \quad y = \pm 1

    by projected stochastic gradients on the sphere (``losses.smoothed_zero_one_loss``),
    from the direction of :math:`E[y x]` and random ones, with a width s that shrinks
    from one stage to the next, and of w and -w what errs less.

    Shapes: x [N, D], labels [N] -> ([D], [], [M, D])

    Args:
      x: features; a constant one may stand for a threshold, though the guarantee is for
        halfspaces through the origin.
      labels: 0 or 1.
      key: of ``jax.random.key``.
      sigmas: the widths, from wide to narrow. Each starts where the last one ended.
      starts: how many, the direction of :math:`E[y x]` among them; not traced.
      steps: for each width; not traced.
      learning_rate: of the first step of a width; it falls to 0 in proportion.
      batch_size: examples of a step, drawn with replacement; not traced.

    Returns:
      ``HalfspaceFit``, float32 (float64 for float64 features).

    Raises:
      TypeError: ``x`` is not floating point, or a count no integer.
      ValueError: wrong shapes, no examples, a label that is neither 0 nor 1 (NaN under
        ``jit``), or no sigmas, or one that is not above 0.

    Source: An Efficient Tester-Learner for Halfspaces, Gollakota et al. 2023,
      arXiv:2302.14853; Diakonikolas et al. 2020, arXiv:2002.05632. The loss and its
      schedule are inferred from the abstracts.

    >>> import jax
    >>> from logitlab.estimators import learn_halfspace
    >>> x = jax.random.normal(jax.random.key(0), (500, 2))
    >>> labels = (x[:, 0] > 0).astype(int)
    >>> fit = learn_halfspace(x, labels, jax.random.key(1), steps=50)
    >>> bool(fit.direction[0] > 0.99)
    True
    """
    x, y = _examples(x, labels)
    for name, count in (
        ("starts", starts),
        ("steps", steps),
        ("batch_size", batch_size),
    ):
        check_count(name, count)
    if not len(sigmas):
        raise ValueError("sigmas is empty, expected at least one")
    sigmas = hyper("sigmas", jnp.asarray(sigmas), x.dtype, lambda s: s > 0, "above 0")
    rate = hyper("learning_rate", learning_rate, x.dtype)
    return _learn(x, y, key, sigmas, rate, starts, steps, batch_size)


def test_halfspace(
    x: ArrayLike,
    labels: ArrayLike,
    w: ArrayLike,
    *,
    sigma: ArrayLike,
    key: jax.Array | None = None,
    lines: int = 32,
    tol: ArrayLike = 0.05,
    slack: ArrayLike = 4.0,
) -> HalfspaceTest:
    r"""Whether data look normal enough, around a halfspace, to believe its error.

    Four tests: moments up to the fourth along the axes, w and random lines; the share
    of examples with :math:`|w \cdot x| \le \sigma`, within a factor of 2; among these
    the second moments orthogonal to w; and the same of the wrongly classified alone,
    which labels chosen by an adversary may not raise above

    .. math:: \tau(q) = q + 2 t \varphi(t), \quad 2 (1 - \Phi(t)) = q

    where q is their share: the most that a choice of normal examples has.

    Shapes: x [N, D], labels [N], w [D] -> ([], [], [], [], [], [5], [])

    Args:
      x: features, with mean 0 and the identity for their covariance if all is well.
      labels: 0 or 1.
      w: the direction, of any length.
      sigma: half the width of the band, above 0.
      key: for random lines; without it there are none.
      lines: how many of them; not traced.
      tol: what differences may be in the limit of many examples.
      slack: what is added for chance, in standard errors: of a moment
        :math:`1 / \sqrt N`, of second moments in the band :math:`\sqrt{D / N_b}`.

    Returns:
      ``HalfspaceTest``. Fewer than 50 examples in the band do not pass.

    Raises:
      TypeError: ``x`` or ``w`` is not floating point.
      ValueError: wrong shapes, a label that is neither 0 nor 1, or ``sigma`` not above
        0.

    Source: An Efficient Tester-Learner for Halfspaces, Gollakota et al. 2023,
      arXiv:2302.14853; degrees, statistics and constants of the tests are inferred.

    >>> import jax
    >>> from logitlab import estimators
    >>> x = jax.random.normal(jax.random.key(0), (2000, 2))
    >>> labels = (x[:, 0] > 0).astype(int)
    >>> w = jax.numpy.float32([1, 0])
    >>> bool(estimators.test_halfspace(x, labels, w, sigma=0.1).accepted)
    True
    >>> bool(estimators.test_halfspace(x**3, labels, w, sigma=0.1).accepted)
    False
    """
    x, y = _examples(x, labels)
    w = numerics.promote_to_float32(w, "w").astype(x.dtype)
    if w.shape != x.shape[1:]:
        raise ValueError(f"w has shape {w.shape}, expected {x.shape[1:]}")
    sigma = hyper("sigma", sigma, x.dtype, lambda s: s > 0, "above 0")
    random = _random_lines(key, lines, x)
    return _test(x, y, _unit(w), sigma, random, *_bounds(tol, slack, x.dtype))


def tester_learner(
    x: ArrayLike,
    labels: ArrayLike,
    key: jax.Array,
    *,
    sigmas: Sequence[float] = (0.2, 0.1, 0.05),
    starts: int = 4,
    steps: int = 200,
    learning_rate: ArrayLike = 0.5,
    batch_size: int = 1000,
    lines: int = 32,
    tol: ArrayLike = 0.05,
    slack: ArrayLike = 4.0,
) -> CheckedHalfspace:
    """Learns a halfspace, or says that the data do not look as the guarantee asks.

    Use it where a wrong halfspace is worse than none: what it accepts has an error near
    the least one, whatever the labels. ``learn_halfspace``, and ``test_halfspace`` of
    every candidate and its opposite, each with the width it was learned with.

    Shapes: x [N, D], labels [N] -> ([], [D], [], tests)

    Args:
      x: features, see ``test_halfspace``.
      labels: 0 or 1.
      key: of ``jax.random.key``.
      sigmas: see ``learn_halfspace``.
      starts: see ``learn_halfspace``.
      steps: see ``learn_halfspace``.
      learning_rate: see ``learn_halfspace``.
      batch_size: see ``learn_halfspace``.
      lines: see ``test_halfspace``.
      tol: see ``test_halfspace``.
      slack: see ``test_halfspace``.

    Returns:
      ``CheckedHalfspace``.

    Raises:
      TypeError: see ``learn_halfspace``.
      ValueError: see ``learn_halfspace``.

    Source: An Efficient Tester-Learner for Halfspaces, Gollakota et al. 2023,
      arXiv:2302.14853.
    """
    learn_key, line_key = jax.random.split(key)
    fit = learn_halfspace(
        x,
        labels,
        learn_key,
        sigmas=sigmas,
        starts=starts,
        steps=steps,
        learning_rate=learning_rate,
        batch_size=batch_size,
    )
    x, y = _examples(x, labels)
    random, bounds = _random_lines(line_key, lines, x), _bounds(tol, slack, x.dtype)
    widths = jnp.repeat(jnp.asarray(sigmas, x.dtype), starts)

    def one(case):
        w, sigma = case
        return _test(x, y, w, sigma, random, *bounds)

    cases = (
        jnp.concatenate([fit.candidates, -fit.candidates]),
        jnp.concatenate([widths, widths]),
    )
    tests = jax.lax.map(one, cases)
    return CheckedHalfspace(tests.accepted.all(), fit.direction, fit.error, tests)


for _function in (test_halfspace, tester_learner):
    vars(_function)["__test__"] = False  # they are no tests of pytest's


@functools.partial(jax.jit, static_argnums=(5, 6, 7))
def _learn(x, y, key, sigmas, rate, starts, steps, batch_size):
    mean = jnp.mean(y[:, None] * x, 0, keepdims=True)
    start_key, step_key = jax.random.split(key)
    others = jax.random.normal(start_key, (starts - 1, x.shape[1]), x.dtype)
    w = _unit(jnp.concatenate([mean, others]))

    def stage(w, now):
        sigma, key = now

        def step(w, now):
            left, key = now
            rows = jax.random.randint(key, (batch_size,), 0, len(y))
            few, signs = x[rows], y[rows]

            def value(w):
                margins = signs[None] * (w @ few.T)
                each = losses.smoothed_zero_one_loss(margins, sigma=sigma)
                return each.mean(-1).sum()

            slope = jax.grad(value)(w)
            slope = slope - jnp.sum(slope * w, -1, keepdims=True) * w
            return _unit(w - rate * left * slope), None

        left = 1 - jnp.arange(steps) / steps
        w, _ = jax.lax.scan(
            step, w, (left.astype(x.dtype), jax.random.split(key, steps))
        )
        return w, w

    keys = jax.random.split(step_key, len(sigmas))
    _, found = jax.lax.scan(stage, w, (sigmas, keys))
    candidates = found.reshape(-1, x.shape[1])
    errors = jax.lax.map(lambda w: _error(x, y, w), candidates)
    lost = jnp.minimum(errors, 1 - errors)
    best = jnp.argmin(lost)
    sign = jnp.where(errors[best] > 0.5, -1, 1).astype(x.dtype)
    return HalfspaceFit(sign * candidates[best], lost[best], candidates)


@jax.jit
def _test(x, y, w, sigma, random, tol, slack):
    many, dim = x.shape
    lines = jnp.concatenate([jnp.eye(dim, dtype=x.dtype), w[None], random])
    along, off = x @ lines.T, jnp.zeros((), x.dtype)
    power = along
    for moment, variance in zip(_MOMENTS, _DEVIATIONS, strict=True):
        gap = jnp.abs(power.mean(0) - moment).max() / math.sqrt(variance)
        off, power = jnp.maximum(off, gap), power * along
    score = x @ w
    band = jnp.abs(score) <= sigma
    count = band.sum()
    mass = count / many / special.erf(sigma / math.sqrt(2))
    rest = jnp.where(band[:, None], x - score[:, None] * w[None], 0)
    share = 1 / jnp.maximum(count, 1).astype(x.dtype)
    plane = jnp.eye(dim, dtype=x.dtype) - jnp.outer(w, w)
    spread = jnp.abs(jnp.linalg.eigvalsh(share * rest.T @ rest - plane)).max()
    wrong = band & (score * y <= 0)
    part = jnp.where(wrong[:, None], rest, 0)
    largest = jnp.linalg.eigvalsh(share * part.T @ part)[-1]
    excess = largest - _most_moment(wrong.sum() * share)
    chance = slack * jnp.sqrt(dim * share)
    passes = jnp.stack(
        [
            off <= tol + slack / math.sqrt(many),
            (mass >= 0.5) & (mass <= 2),
            spread <= tol + chance,
            excess <= tol + chance,
            count >= _FEW,
        ]
    )
    return HalfspaceTest(off, mass, spread, excess, count, passes, passes.all())


def _most_moment(q):
    """Largest second moment of a share q of a normal number's draws."""
    inside = (q > 0) & (q < 1)
    t = -special.ndtri(jnp.where(inside, q, 0.5) / 2)
    return jnp.where(inside, q + 2 * t * stats.norm.pdf(t), q)


def _error(x, y, w):
    return jnp.mean((x @ w) * y <= 0, dtype=x.dtype)


def _unit(w):
    """Rows of length 1; those of zeros become the first axis."""
    largest = jnp.abs(w).max(-1, keepdims=True)
    w = w / jnp.where(largest > 0, largest, 1)
    first = jax.lax.broadcasted_iota(jnp.int32, w.shape, w.ndim - 1) == 0
    w = jnp.where(largest > 0, w, first.astype(w.dtype))
    return w / jnp.linalg.norm(w, axis=-1, keepdims=True)


def _random_lines(key, lines, x):
    if key is None:
        return jnp.zeros((0, x.shape[1]), x.dtype)
    check_count("lines", lines, 0)
    return _unit(jax.random.normal(key, (lines, x.shape[1]), x.dtype))


def _bounds(tol, slack, dtype):
    return (
        hyper("tol", tol, dtype, lambda v: v >= 0, "at least 0"),
        hyper("slack", slack, dtype, lambda v: v >= 0, "at least 0"),
    )


def _examples(x, labels):
    x = feature_rows(x)
    y, bad = binary(labels, x.shape[:1], x.dtype, soft=False)
    return x, jnp.where(bad, jnp.nan, 2 * y - 1)
