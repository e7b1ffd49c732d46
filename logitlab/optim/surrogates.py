"""Surrogates in the space of logits: many cheap steps for one expensive gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, check_range, check_same_shape

__all__ = [
    "SurrogateInfo",
    "SurrogateState",
    "sso_step",
    "surrogate_descent",
    "target_surrogate",
]

DIVERGENCES = ("euclidean", "kl")


def target_surrogate(
    logits: ArrayLike,
    reference_logits: ArrayLike,
    logit_grads: ArrayLike,
    *,
    eta: ArrayLike,
    divergence: str = "euclidean",
) -> jax.Array:
    r"""Upper bound of a loss from its gradient in the logits, one value per example.

    Use it where a gradient in the logits is expensive and the network is not: minimize
    it for many steps, then ask for the next gradient.

    .. math:: h = \langle g, z - z_t \rangle + \frac{1}{2\eta} \lVert z - z_t \rVert^2,
        \qquad g = \nabla_z \ell(z_t)

    If the loss is L-smooth in the logits and :math:`\eta \le 1/L`, then
    :math:`\ell(z) \le \ell(z_t) + h`, so that what lowers h below 0 lowers the loss.
    With ``"kl"`` the second term is :math:`KL(p_t \| p) / \eta` of the softmax
    distributions, the Bregman divergence of the log-sum-exp; at :math:`\eta = 1` the
    bound of cross-entropy is then exact.

    Shapes: logits [..., C], reference_logits [..., C], logit_grads [..., C] -> [...]

    Args:
      logits: z, which the gradient passes through.
      reference_logits: :math:`z_t`, constant.
      logit_grads: g, constant; zeros leave z where it was.
      eta: step size in the logits, positive; L is 1/2 for cross-entropy.
      divergence: ``"euclidean"`` or ``"kl"``.

    Returns:
      Float32 (float64 for float64 logits), 0 at the reference.

    Raises:
      ValueError: the shapes differ, ``eta`` is not positive, or there is no such
        divergence.

    Source: Target-based Surrogates for Stochastic Optimization, ICML 2023,
      arXiv:2302.02607; the form of the KL surrogate is inferred.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import target_surrogate
    >>> z, g = jnp.zeros(2), jnp.float32([-0.5, 0.5])
    >>> target_surrogate(jnp.float32([1, -1]), z, g, eta=2.0)  # where it is least
    Array(-0.5, dtype=float32)
    """
    if divergence not in DIVERGENCES:
        raise ValueError(
            f"divergence is {divergence!r}, expected {' or '.join(DIVERGENCES)}"
        )
    check_range("eta", eta, lambda e: e > 0, "positive")
    z = numerics.promote_to_float32(logits, "logits")
    check_same_shape("reference_logits", reference_logits, "logits", z.shape)
    check_same_shape("logit_grads", logit_grads, "logits", z.shape)
    start, g = (
        jax.lax.stop_gradient(jnp.asarray(a, z.dtype))
        for a in (reference_logits, logit_grads)
    )
    rate = jnp.asarray(eta, z.dtype)
    moved = z - start
    if divergence == "euclidean":
        return jnp.sum(g * moved + moved * moved / (2 * rate), -1)
    here, there = numerics.log_softmax(z), numerics.log_softmax(start)
    kl = jnp.sum(jnp.exp(there) * (there - here), -1)
    return jnp.sum(g * moved, -1) + kl / rate


class SurrogateInfo(NamedTuple):
    """What :func:`sso_step` did.

    Attributes:
      loss: mean loss before the step.
      surrogate: mean surrogate after it; negative, and a bound of what the mean loss
        changed by if ``eta`` is at most 1/L.
      steps: inner steps that were taken.
      step_size: of the last of them, of the line search.
    """

    loss: jax.Array
    surrogate: jax.Array
    steps: jax.Array
    step_size: jax.Array


def sso_step(
    params: Any,
    logits_fn: Callable[[Any], jax.Array],
    loss_fn: Callable[[jax.Array], jax.Array],
    *,
    eta: ArrayLike,
    inner_steps: int = 10,
    inner: str | optax.GradientTransformation = "armijo",
    divergence: str = "euclidean",
    init_step: ArrayLike = 10.0,
    armijo_c: ArrayLike = 0.1,
    backtrack: ArrayLike = 0.9,
    expand: ArrayLike = 2.0,
    max_trials: int = 100,
) -> tuple[Any, SurrogateInfo]:
    r"""One outer step of surrogate optimization (SSO): a gradient, then inner steps.

    Use it where the loss's gradient in the logits is what costs: an environment, a
    human, a simulator. Several calls in a row are a training; a minibatch is one whose
    rows ``logits_fn`` and ``loss_fn`` are of.

    .. math:: \theta_{t+1} \approx \arg\min_\theta \frac1n \sum_i
        \langle g_i, f_i(\theta) - f_i(\theta_t) \rangle
        + \frac{1}{2\eta} \lVert f_i(\theta) - f_i(\theta_t) \rVert^2

    The line search starts every outer step at ``init_step``, multiplies by ``expand``
    before each inner step, and by ``backtrack`` until the decrease is ``armijo_c``
    times the step size and the squared slope; it ends where slopes are below 1e-6. As
    in the released code its objective is the mean over examples and classes of
    :math:`2 \eta h`. With an optax transformation the objective is the mean over
    examples of h, so one inner step of SGD is one of plain gradient descent. All of it
    is one program: nothing returns to the host.

    Args:
      params: a pytree.
      logits_fn: params -> logits [..., C].
      loss_fn: logits -> losses [...], called and differentiated once.
      eta: step size in the logits; at most 1/L, that is 2 for cross-entropy, a full
        batch descends monotonically.
      inner_steps: the most inner steps there are.
      inner: ``"armijo"``, or an optax transformation.
      divergence: see :func:`target_surrogate`.
      init_step: of the line search, as the others below.
      armijo_c: share of the first-order decrease that is asked for, in (0, 1).
      backtrack: in (0, 1).
      expand: at least 1.
      max_trials: step sizes that are tried; if none does, no step is taken.

    Returns:
      New params, in their dtypes, and what was done.

    Raises:
      ValueError: a number is outside its range, ``inner`` is another word, or the
        losses have another shape than the logits without classes.

    Source: Target-based Surrogates for Stochastic Optimization, ICML 2023,
      arXiv:2302.02607.

    >>> import jax.numpy as jnp
    >>> from logitlab import losses, optim
    >>> w, y = jnp.zeros((1, 2)), jnp.array([0])
    >>> w, info = optim.sso_step(w, lambda w: w, lambda z: losses.cross_entropy(z, y),
    ...                          eta=2.0, inner_steps=100)
    >>> w.round(3)
    Array([[ 1., -1.]], dtype=float32)
    """
    for name, value in (("eta", eta), ("init_step", init_step)):
        check_range(name, value, lambda v: v > 0, "positive")
    for name, value in (("armijo_c", armijo_c), ("backtrack", backtrack)):
        check_range(name, value, lambda v: (v > 0) & (v < 1), "a number in (0, 1)")
    check_range("expand", expand, lambda v: v >= 1, "at least 1")
    check_count("inner_steps", inner_steps)
    check_count("max_trials", max_trials)
    if isinstance(inner, str) and inner != "armijo":
        raise ValueError(
            f"inner is {inner!r}, expected 'armijo' or an optax transformation"
        )
    start = jnp.asarray(logits_fn(params))
    values, slopes = _value_and_slopes(loss_fn, start)

    def surrogate(params):
        h = target_surrogate(
            logits_fn(params), start, slopes, eta=eta, divergence=divergence
        )
        return h.mean()

    if not isinstance(inner, str):
        new = _descended(surrogate, params, inner, inner_steps)
        steps, size = jnp.asarray(inner_steps, jnp.int32), jnp.full((), jnp.nan)
    else:
        search = dict(c=armijo_c, backtrack=backtrack, expand=expand)
        factor = 2 * jnp.asarray(eta, values.dtype) / start.shape[-1]
        new, steps, size = _searched(
            lambda params: factor * surrogate(params),
            params,
            inner_steps,
            jnp.asarray(init_step, values.dtype),
            max_trials=max_trials,
            **{name: jnp.asarray(v, values.dtype) for name, v in search.items()},
        )
    return new, SurrogateInfo(values.mean(), surrogate(new), steps, size)


def _value_and_slopes(loss_fn, logits):
    def total(z):
        losses = loss_fn(z)
        if jnp.shape(losses) != z.shape[:-1]:
            raise ValueError(
                f"loss_fn returned shape {jnp.shape(losses)} for logits {z.shape}, "
                f"expected {z.shape[:-1]}, a loss for each example"
            )
        losses = numerics.promote_to_float32(losses, "what loss_fn returned")
        return losses.sum(), losses

    (_, values), slopes = jax.value_and_grad(total, has_aux=True)(logits)
    return values, slopes


def _descended(objective, params, optimizer, steps):
    optimizer = optax.with_extra_args_support(optimizer)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(objective)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    start = params, optimizer.init(params)
    return jax.lax.scan(step, start, None, steps)[0][0]


def _moved(params, slopes, size):
    def move(p, g):
        wide = jnp.promote_types(p.dtype, jnp.float32)
        return (p.astype(wide) - size.astype(wide) * g.astype(wide)).astype(p.dtype)

    return jax.tree.map(move, params, slopes)


def _searched(objective, params, steps, size, *, c, backtrack, expand, max_trials):
    """Gradient descent by Armijo's rule: params, steps taken, and the last size."""
    graded = jax.value_and_grad(objective)

    def inner(carry):
        params, size, done, _ = carry
        value, slopes = graded(params)
        square = optax.tree.norm(slopes, squared=True).astype(value.dtype)
        small = square <= 1e-12

        def failing(trial):
            _, ok, tried = trial
            return ~ok & (tried < max_trials)

        def shrink(trial):
            size, _, tried = trial
            new = objective(_moved(params, slopes, size))
            ok = new <= value - c * size * square
            return jnp.where(ok, size, backtrack * size), ok, tried + 1

        begin = expand * size, small, jnp.zeros((), jnp.int32)
        found, ok, _ = jax.lax.while_loop(failing, shrink, begin)
        stuck = small | ~ok
        moved = _moved(params, slopes, found)
        params = jax.tree.map(lambda a, b: jnp.where(stuck, a, b), params, moved)
        return params, jnp.where(small, size, found), done + ~stuck, stuck

    def going(carry):
        return (carry[2] < steps) & ~carry[3]

    start = params, size, jnp.zeros((), jnp.int32), jnp.zeros((), bool)
    params, size, done, _ = jax.lax.while_loop(going, inner, start)
    return params, done, size


class SurrogateState(NamedTuple):
    """State of :func:`surrogate_descent`.

    Attributes:
      calls: gradients in the logits so far.
      info: of the last step.
    """

    calls: jax.Array
    info: SurrogateInfo


def surrogate_descent(
    eta: ArrayLike | optax.Schedule,
    *,
    inner_steps: int = 10,
    inner: str | optax.GradientTransformation = "armijo",
    divergence: str = "euclidean",
    init_step: ArrayLike = 10.0,
    armijo_c: ArrayLike = 0.1,
    backtrack: ArrayLike = 0.9,
    expand: ArrayLike = 2.0,
    max_trials: int = 100,
) -> optax.GradientTransformationExtraArgs:
    """An optimizer whose updates are the steps of :func:`sso_step`.

    Use it to train by surrogates in a loop made for gradients, such as a ``Run`` with
    ``extra_args``. The gradient that ``update`` is given is not used, and XLA leaves
    out what it is not used for. Needs ``params``, and ``update(..., logits_fn=,
    logit_loss_fn=)``: params -> logits [..., C], and logits -> losses [...].

    Args:
      eta: step size in the logits, or a schedule of it, see :func:`sso_step`.
      inner_steps: the most inner steps there are.
      inner: see :func:`sso_step`, also for the others.
      divergence: see :func:`target_surrogate`.
      init_step: of the line search, as those that follow.
      armijo_c: share of the first-order decrease that is asked for.
      backtrack: factor of a step size that does not do.
      expand: factor of the step size before each inner step.
      max_trials: step sizes that are tried.

    Raises:
      ValueError: ``update`` gets no params; see :func:`sso_step`.
      TypeError: ``update`` gets not both functions.

    Source: Target-based Surrogates for Stochastic Optimization, ICML 2023,
      arXiv:2302.02607.
    """
    if not callable(eta):
        check_range("eta", eta, lambda e: e > 0, "positive")
    options: dict[str, Any] = dict(
        inner_steps=inner_steps, inner=inner, divergence=divergence
    )
    options |= dict(init_step=init_step, armijo_c=armijo_c, backtrack=backtrack)
    options |= dict(expand=expand, max_trials=max_trials)

    def init(params):
        del params
        zero = jnp.zeros((), jnp.int32)
        nothing = jnp.zeros((), jnp.float32)
        return SurrogateState(zero, SurrogateInfo(nothing, nothing, zero, nothing))

    def update(grads, state, params=None, *, logits_fn, logit_loss_fn, **extra):
        del extra
        if params is None:
            raise ValueError(
                "surrogate_descent needs params: update(grads, state, params, ...)"
            )
        rate = eta(state.calls) if callable(eta) else eta
        new, info = sso_step(params, logits_fn, logit_loss_fn, eta=rate, **options)
        updates = jax.tree.map(
            lambda n, p, g: (n - p).astype(g.dtype), new, params, grads
        )
        info = jax.tree.map(lambda a, old: a.astype(old.dtype), info, state.info)
        return updates, SurrogateState(state.calls + 1, info)

    return optax.GradientTransformationExtraArgs(init, update)
