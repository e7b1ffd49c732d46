r"""Laws of a loss in parameters N and data D: fitted, resampled, solved for compute.

.. math:: \hat L(N, D) = E + A N^{-\alpha} + B D^{-\beta}

Source: Kaplan et al. 2020, arXiv:2001.08361, and the third approach of Hoffmann et al.
2022, arXiv:2203.15556. In float64, by SciPy; nothing here needs an accelerator.
"""

import itertools
import math
from typing import NamedTuple

import numpy as np
import scipy.optimize

from experiments.common.threads import one_blas_thread

GRID = tuple(
    itertools.product(
        (0.0, 5.0, 10.0),
        (0.0, 5.0, 10.0),
        (-1.0, 0.0, 0.5),
        (0.2, 0.5, 1.0),
        (0.2, 0.5, 1.0),
    )
)


class Law(NamedTuple):
    """The logarithms of A, B and E, and the exponents."""

    a: float
    b: float
    e: float
    alpha: float
    beta: float

    def loss(self, parameters, tokens):
        """The loss that the law gives, of arrays that broadcast."""
        of_size = np.exp(self.a - self.alpha * np.log(parameters))
        return math.exp(self.e) + of_size + np.exp(self.b - self.beta * np.log(tokens))

    @property
    def coefficients(self) -> dict[str, float]:
        """A, B and E."""
        return {k: math.exp(getattr(self, k.lower())) for k in "ABE"}


@one_blas_thread()
def fit_law(parameters, tokens, loss, *, delta: float = 1e-3, starts=GRID) -> Law:
    r"""The law that is closest to runs, in the logarithm of the loss.

    .. math:: \min \sum_i \mathrm{Huber}_\delta(\log \hat L(N_i, D_i) - \log L_i)

    by L-BFGS from every start; the best end is kept.

    Shapes: parameters [n], tokens [n], loss [n]

    Args:
      parameters: N of each run.
      tokens: D of each run.
      loss: where each run ended, above 0.
      delta: residuals beyond it count linearly.
      starts: values of a, b, e, alpha and beta to start from.

    Raises:
      ValueError: there are fewer runs than the law's five numbers, or a number is not
        positive and finite.
    """
    runs = _logs(parameters, tokens, loss)
    return _minimised(runs, np.ones(len(runs[0])), delta, starts)


@one_blas_thread()
def bootstrap_laws(
    parameters, tokens, loss, law: Law, *, resamples: int, delta: float = 1e-3, seed=0
) -> list[Law]:
    """The law fitted again to runs drawn with replacement.

    Each resample starts from ``law`` and from that with its exponents moved to both
    sides; the whole grid would take 80 times as long. Resamples of fewer than five
    different runs are drawn again.
    """
    runs = _logs(parameters, tokens, loss)
    rng, found = np.random.default_rng(seed), []
    starts = np.array(law) * [(f, f, 1, f, f) for f in (1.0, 0.7, 1.4)]
    while len(found) < resamples:
        drawn = np.bincount(rng.integers(0, len(runs[0]), len(runs[0])))
        if (drawn > 0).sum() >= 5:
            weights = np.pad(drawn, (0, len(runs[0]) - len(drawn)))
            found.append(_minimised(runs, weights, delta, starts))
    return found


def fit_power_law(parameters, loss) -> tuple[float, float]:
    """c and alpha of log L = c - alpha log N, by least squares: Kaplan's form."""
    slope, c = np.polyfit(np.log(parameters), np.log(loss), 1)
    return float(c), float(-slope)


def slope_and_r2(parameters, values) -> tuple[float, float]:
    """Of log |value| on log N: the slope, and the share of variance it explains."""
    x, y = np.log(parameters), np.log(np.abs(values))
    slope, offset = np.polyfit(x, y, 1)
    residual = ((y - offset - slope * x) ** 2).sum()
    return float(slope), float(1 - residual / ((y - y.mean()) ** 2).sum())


def optimal_sizes(law: Law, flops):
    r"""The N and D that the law says are best for a compute of 6 N D.

    .. math:: N = G (C/6)^{\beta / (\alpha + \beta)}, \quad D = C / (6 N), \quad
        G = (\alpha A / \beta B)^{1 / (\alpha + \beta)}
    """
    total = law.alpha + law.beta
    log_g = (math.log(law.alpha / law.beta) + law.a - law.b) / total
    budget = np.asarray(flops) / 6
    parameters = np.exp(log_g + law.beta / total * np.log(budget))
    return parameters, budget / parameters


def _logs(parameters, tokens, loss):
    """Rows log N, log D, log L, checked."""
    runs = np.stack([np.asarray(a, float) for a in (parameters, tokens, loss)])
    if runs.shape[1] < 5:
        raise ValueError(f"a law of five numbers needs 5 runs, got {runs.shape[1]}")
    if not (np.isfinite(runs).all() and (runs > 0).all()):
        raise ValueError("N, D and losses must be positive and finite")
    return np.log(runs)


def _objective(theta, runs, weights, delta):
    """The weighted sum of Huber losses in units of delta^2, and its gradient."""
    (log_n, log_d, log_loss), (a, b, e, alpha, beta) = runs, theta
    terms = np.stack([a - alpha * log_n, b - beta * log_d, e + 0 * log_n])
    top = terms.max(0)
    parts = np.exp(terms - top)
    total = parts.sum(0)
    residual = (top + np.log(total) - log_loss) / delta
    size = np.abs(residual)
    huber = np.where(size < 1, residual**2 / 2, size - 1 / 2)
    pull = weights * np.clip(residual, -1, 1) / delta * parts / total
    slopes = -(pull[0] @ log_n), -(pull[1] @ log_d)
    return weights @ huber, np.array([*pull.sum(1), *slopes])


def _minimised(runs, weights, delta, starts):
    """The best end of L-BFGS: a few steps from all starts, all from the best ones."""

    def ends(starts, steps):
        found = [
            scipy.optimize.minimize(
                _objective,
                start,
                (runs, weights, delta),
                jac=True,
                method="L-BFGS-B",
                options=dict(maxiter=steps, maxcor=20, ftol=1e-12, gtol=1e-8),
            )
            for start in starts
        ]
        found.sort(key=lambda end: end.fun)
        return [end.x for end in found]

    best = ends(starts, 25)[: 1 + len(starts) // 20]
    return Law(*ends(best, 1000)[0].tolist())
