"""What the theory says of comp-sum losses: best risks and H-consistency bounds.

Nothing here is minimised; the functions turn the loss that a run reached into a bound
on its error.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_range, hyper

__all__ = [
    "comp_sum_bayes_risk",
    "hconsistency_bound",
    "hconsistency_transform",
    "logistic_excess_bound",
    "minimizability_gap",
]


def comp_sum_bayes_risk(
    probs: ArrayLike, *, tau: ArrayLike, axis: int = -1
) -> jax.Array:
    r"""Least expected comp-sum loss for given class probabilities.

    .. math:: \frac{(\sum_c q_c^{1/(2-\tau)})^{2-\tau} - 1}{1 - \tau}, \quad
        -\sum_c q_c \log q_c \ (\tau = 1), \quad
        \frac{1 - \max_c q_c}{\tau - 1} \ (\tau \ge 2)

    Shapes: probs [..., C] -> [...]

    Args:
      probs: class probabilities; they add up to 1.
      tau: at least 0; may be traced.
      axis: the class axis.

    Returns:
      The risk, float32 (float64 for float64 probabilities).

    Raises:
      ValueError: ``tau`` is negative.

    Numerics: relative error below 1e-5.

    Source: Mao, Mohri and Zhong 2023, arXiv:2304.07288.

    >>> import jax.numpy as jnp
    >>> from logitlab.theory import comp_sum_bayes_risk
    >>> comp_sum_bayes_risk(jnp.float32([0.7, 0.2, 0.1]), tau=2.0)
    Array(0.3, dtype=float32)
    """
    q = numerics.prepare_logits(probs, axis=axis, name="probs")
    tau = hyper("tau", tau, q.dtype, lambda t: t >= 0, "at least 0")
    some = q > 0
    log_q = jnp.where(some, jnp.log(jnp.where(some, q, 1)), 0)
    t = jnp.where(tau < 2, 1 - tau, 0)
    # From the entropy's side, log sum(q^a) / a is a small number over a small number.
    tilt = jnp.sum(q * jnp.expm1(-t / (1 + t) * log_q), -1)
    far = jnp.abs(t) > 0.5
    by_tilt = jnp.log1p(jnp.where(far, 0, tilt))
    by_power = numerics.logsumexp(jnp.where(some, log_q / (1 + t), -jnp.inf))
    log_sum = (1 + t) * jnp.where(far, by_power, by_tilt)
    risk = jnp.expm1(log_sum) / jnp.where(t == 0, 1, t)
    risk = jnp.where(t == 0, -jnp.sum(q * log_q, -1), risk)
    top = jnp.max(q, -1)
    return jnp.where(tau < 2, risk, (1 - top) / jnp.where(tau < 2, 1, tau - 1))


def minimizability_gap(
    best_risk: ArrayLike, probs: ArrayLike, *, tau: ArrayLike, axis: int = -1
) -> jax.Array:
    r"""Minimizability gap: best risk of a family above the pointwise best.

    .. math:: M = \inf_{h \in H} E[\ell_\tau] - E_x[\text{best conditional risk}(q(x))]

    0 if the family contains the optimum. For the zero-one loss the best conditional
    risk is :math:`1 - \max_c q_c`, which is ``comp_sum_bayes_risk`` at ``tau=2``.

    Shapes: best_risk [], probs [..., C] -> []

    Args:
      best_risk: the least mean loss that the family reaches, known or trained for. An
        estimate below the optimum gives a negative gap.
      probs: class probabilities of the examples.
      tau: at least 0; may be traced.
      axis: the class axis of ``probs``.

    Returns:
      One number, float32 (float64 for float64 probabilities).

    Raises:
      ValueError: ``tau`` is negative.

    Numerics: that of a float32 difference of the two risks.

    Source: Mao, Mohri and Zhong 2023, arXiv:2304.07288.

    >>> import jax.numpy as jnp
    >>> from logitlab.theory import minimizability_gap
    >>> minimizability_gap(0.5, jnp.float32([[0.7, 0.3], [0.9, 0.1]]), tau=2.0)
    Array(0.29999998, dtype=float32)
    """
    risk = numerics.masked_mean(comp_sum_bayes_risk(probs, tau=tau, axis=axis))
    return jnp.asarray(best_risk, risk.dtype) - risk


def hconsistency_transform(
    beta: ArrayLike, *, tau: ArrayLike, num_classes: ArrayLike
) -> jax.Array:
    r"""H-consistency transform: least excess loss for an excess zero-one risk.

    .. math:: T(b) = \frac{2^{1-\tau}}{1-\tau} (1 - m^{2-\tau}) \ (\tau < 1), \quad
        \frac{m^{2-\tau} - 1}{(\tau - 1) n^{\tau - 1}} \ (1 < \tau < 2), \quad
        \frac{b}{(\tau - 1) n^{\tau - 1}} \ (\tau \ge 2)

    with :math:`m = ((1+b)^a + (1-b)^a) / 2`, :math:`a = 1/(2-\tau)`, and
    :math:`\frac{1+b}{2} \log(1+b) + \frac{1-b}{2} \log(1-b)` at ``tau=1``. An excess
    loss of less than :math:`T(b)` means an excess error of less than :math:`b`.

    Shapes: beta [...] -> [...]

    Args:
      beta: excess zero-one risk, from 0 to 1.
      tau: at least 0; may be traced.
      num_classes: matters for ``tau > 1`` only.

    Returns:
      The excess loss, float32 (float64 for float64 input).

    Raises:
      ValueError: ``beta`` outside [0, 1], ``tau`` negative, or fewer than 2 classes.

    Numerics: relative error below 1e-5 for ``beta`` from 0.05 on, absolute below 1e-7.

    Source: Mao, Mohri and Zhong 2023, arXiv:2304.07288.

    >>> from logitlab.theory import hconsistency_transform
    >>> hconsistency_transform(0.5, tau=2.0, num_classes=4)
    Array(0.125, dtype=float32)
    """
    check_range("beta", beta, lambda b: (b >= 0) & (b <= 1), "a number from 0 to 1")
    check_range("tau", tau, lambda t: t >= 0, "at least 0")
    check_range("num_classes", num_classes, lambda n: n >= 2, "at least 2")
    return _transform(numerics.promote_to_float32(beta, "beta"), tau, num_classes)


def _transform(b, tau, n):
    tau, n = jnp.asarray(tau, b.dtype), jnp.asarray(n, b.dtype)
    t = jnp.where(tau < 2, 1 - tau, 0)
    up, down = jnp.log1p(b), jnp.log1p(jnp.where(b < 1, -b, 0))  # times 0 at b = 1
    entropy = ((1 + b) * up + (1 - b) * down) / 2
    power = -t / (1 + t)
    log_m = jnp.log1p(
        ((1 + b) * jnp.expm1(power * up) + (1 - b) * jnp.expm1(power * down)) / 2
    )
    scale = jnp.where(tau < 1, 2.0, n) ** t
    inside = -scale * jnp.expm1((1 + t) * log_m) / jnp.where(t == 0, 1, t)
    inside = jnp.where(t == 0, entropy, inside)
    above = jnp.where(tau < 2, 1, tau - 1)
    return jnp.where(tau < 2, inside, b / (above * n**above))


def hconsistency_bound(
    excess: ArrayLike,
    *,
    tau: ArrayLike,
    num_classes: ArrayLike,
    minimizability_gap: ArrayLike = 0.0,
    minimizability_gap_01: ArrayLike = 0.0,
    closed_form: bool = False,
) -> jax.Array:
    r"""Upper bound on the excess zero-one risk, from an excess comp-sum risk.

    .. math:: R_{01}(h) - R_{01}^* \le
        \Gamma_\tau(R_\tau(h) - R_\tau^* + M_\tau) - M_{01}, \quad \Gamma_\tau = T^{-1}

    for symmetric and complete families of models. :math:`\Gamma_\tau` is found by 60
    bisections and clipped to [0, 1] before :math:`M_{01}` is taken off. A number to
    report: it has no gradient, unless ``closed_form``.

    Shapes: excess [...] -> [...]

    Args:
      excess: comp-sum risk above the best of the family.
      tau: at least 0; may be traced.
      num_classes: matters for ``tau > 1`` only.
      minimizability_gap: that of the comp-sum loss.
      minimizability_gap_01: that of the zero-one loss.
      closed_form: the simpler, larger bound: :math:`\sqrt{2^\tau (2-\tau) t}` below 1,
        :math:`\sqrt{2 n^{\tau-1} t}` below 2, then :math:`(\tau-1) n^{\tau-1} t`.

    Returns:
      The bound, float32 (float64 for float64 input).

    Raises:
      ValueError: ``tau`` negative or fewer than 2 classes.

    Numerics: absolute error below 1e-3 near 0, where T is flat, 1e-5 from 0.05 on.

    Source: Mao, Mohri and Zhong 2023, arXiv:2304.07288.

    >>> from logitlab.theory import hconsistency_bound
    >>> hconsistency_bound(0.1, tau=1.0, num_classes=10, closed_form=True)
    Array(0.4472136, dtype=float32)
    """
    check_range("tau", tau, lambda t: t >= 0, "at least 0")
    check_range("num_classes", num_classes, lambda n: n >= 2, "at least 2")
    t = numerics.promote_to_float32(jnp.asarray(excess) + 0.0, "excess")
    t = t + jnp.asarray(minimizability_gap, t.dtype)
    bound = (
        _closed(t, tau, num_classes) if closed_form else _inverse(t, tau, num_classes)
    )
    return jnp.clip(bound, 0, 1) - jnp.asarray(minimizability_gap_01, t.dtype)


def _inverse(t, tau, n):
    def halve(_, bracket):
        low, high = bracket
        middle = (low + high) / 2
        over = _transform(middle, tau, n) > t
        return jnp.where(over, low, middle), jnp.where(over, middle, high)

    low, high = jnp.zeros_like(t), jnp.ones_like(t)
    beyond = t >= _transform(high, tau, n)
    low, high = jax.lax.fori_loop(0, 60, halve, (low, high))
    return jax.lax.stop_gradient(jnp.where(beyond, 1, (low + high) / 2))


def _closed(t, tau, n):
    tau = jnp.asarray(tau, t.dtype)
    t = jnp.maximum(t, 0)
    grown = jnp.asarray(n, t.dtype) ** jnp.maximum(tau - 1, 0)
    root = jnp.where(tau < 1, 2**tau * (2 - tau), 2 * grown)
    positive = (t > 0) & (root > 0)
    root = jnp.where(positive, jnp.sqrt(jnp.where(positive, root * t, 1)), 0)
    return jnp.where(tau < 2, root, (tau - 1) * grown * t)


def logistic_excess_bound(
    surrogate_excess: ArrayLike, *, minimizability_gap: ArrayLike = 0.0
) -> jax.Array:
    r"""Bound on the excess error of a classifier from its excess logistic loss.

    .. math:: R_{01}(h) - R_{01}^* \le \sqrt{2 (R_{\log}(h) - R_{\log}^* + M)}

    The same for any number of classes.

    Shapes: surrogate_excess [...] -> [...]

    Args:
      surrogate_excess: nats above the best of the hypothesis set, from 0 on.
      minimizability_gap: M, 0 for a set that holds the best classifier.

    Source: arXiv:2302.02334.

    >>> from logitlab.theory import logistic_excess_bound
    >>> logistic_excess_bound(0.02)
    Array(0.2, dtype=float32)
    """
    excess = numerics.promote_to_float32(surrogate_excess, "surrogate_excess")
    return jnp.sqrt(2 * (excess + jnp.asarray(minimizability_gap, excess.dtype)))
