"""Gradients of sums of log-concave terms, with the terms weighed from elsewhere.

Minus the log of a sum of log-concave terms is not convex, but its partial losses, minus
the log of each term, are. The gradient averages theirs by the share that every term has
of the sum at the point it is taken at, and vanishes at saddles. The cross-gradient
averages them by the shares of another point, or by any other weights, and is the
gradient of a convex function.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses.log_concave import cross_loss, sum_log_concave_loss
from logitlab.numerics.arguments import check_range


def value_and_cross_grad(
    partial_losses_fn: Callable,
    *,
    reference: Any = None,
    weights: ArrayLike | None = None,
    reduce: Callable[[jax.Array], jax.Array] = jnp.mean,
    has_aux: bool = False,
) -> Callable:
    r"""Loss and cross-gradient of a sum of log-concave terms.

    Use it in place of ``jax.value_and_grad`` where the loss has saddles.

    .. math:: F(\theta) = -\log \sum_s e^{-\ell_s(\theta)}, \qquad
        \nabla^{\mu} F(\theta) = \sum_s \mu_s \nabla \ell_s(\theta)

    with the weights :math:`\mu` given, or those of a reference point :math:`\eta`,
    :math:`\mu_s \propto e^{-\ell_s(\eta)}`. It is the gradient of a convex function, of
    which the reference is a good start: where that function is lower than at
    :math:`\eta`, so is F. Seen from :math:`\theta` itself it is the gradient of F.

    Args:
      partial_losses_fn: ``(params, *args, **kwargs)`` -> the partial losses
        :math:`\ell_s` [..., S], those of one example on the last axis.
      reference: :math:`\eta`, laid out as the params; it is given the same other
        arguments, so every example gets its own weights. By default the params.
      weights: :math:`\mu` itself, broadcastable to the partial losses, on the simplex.
      reduce: makes one number of the F of all examples, their mean by default.
      has_aux: ``partial_losses_fn`` returns a pair (partial losses, anything).

    Returns:
      A function ``(params, *args, **kwargs)`` -> (value, cross-gradient), or
      ((value, aux), cross-gradient).

    Raises:
      ValueError: both ``reference`` and ``weights`` are given; from the function, if
        the reference is not laid out as the params, or the weights do not broadcast or,
        where they are known, are not on the simplex.

    Source: Achab 2023, arXiv:2309.15298.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import value_and_cross_grad
    >>> def partial_losses(theta):  # two wells, at -1 and 1: a saddle between them
    ...     return (theta - jnp.float32([-1, 1])) ** 2
    >>> value_and_cross_grad(partial_losses)(0.0)[1]
    Array(0., dtype=float32, weak_type=True)
    >>> value_and_cross_grad(partial_losses, reference=5.0)(0.0)[1]
    Array(-2., dtype=float32, weak_type=True)
    """
    if reference is not None and weights is not None:
        raise ValueError("reference and weights are both given, expected one of them")

    def value_and_grad(params, *args, **kwargs):
        def partials(params):
            out = partial_losses_fn(params, *args, **kwargs)
            losses, aux = out if has_aux else (out, None)
            return numerics.prepare_logits(losses, name="the partial losses"), aux

        mu = weights
        if reference is not None:
            _check_like(reference, params)
            mu = numerics.softmax(-partials(reference)[0])

        def objective(params):
            losses, aux = partials(params)
            if mu is None:
                return reduce(sum_log_concave_loss(losses)), aux
            return reduce(cross_loss(losses, mu)), aux

        (value, aux), grads = jax.value_and_grad(objective, has_aux=True)(params)
        return ((value, aux) if has_aux else value), grads

    return value_and_grad


def cross_gradient(partial_losses_fn: Callable, params: Any, weights: ArrayLike) -> Any:
    r"""Average of the partial losses' gradients, with given weights.

    .. math:: \nabla^{\mu} F(\theta) = \sum_s \mu_s \nabla \ell_s(\theta)

    Args:
      partial_losses_fn: params -> the partial losses [..., S].
      params: where the gradients are taken.
      weights: :math:`\mu`, on the simplex, broadcastable to the partial losses.

    Returns:
      Laid out as ``params``; the mean over examples, if there are several. See
      :func:`value_and_cross_grad`.

    Raises:
      ValueError: the weights do not broadcast or, where they are known, are not on the
        simplex.

    Source: Achab 2023, arXiv:2309.15298.
    """
    return value_and_cross_grad(partial_losses_fn, weights=weights)(params)[1]


def cross_convex_lower_bound(
    partial_losses_fn: Callable,
    params: Any,
    point: Any,
    *,
    reference: Any = None,
    weights: ArrayLike | None = None,
    reduce: Callable[[jax.Array], jax.Array] = jnp.mean,
) -> jax.Array:
    r"""Lower bound on the loss at one point from the cross-gradient at another.

    .. math:: F(\eta) \ge F(\theta) + \nabla^{\mu} F(\theta)^\top (\eta - \theta)
        + KL(\mu \,\|\, p(\theta)) - KL(\mu \,\|\, p(\eta))

    with :math:`p_s \propto e^{-\ell_s}`. Seen from :math:`\theta`, the default, it is
    the tangent of F less :math:`KL(p(\theta) \,\|\, p(\eta))`, and touches F. Along an
    optimiser's path the difference tells how far from convex F is there.

    Args:
      partial_losses_fn: params -> the partial losses [..., S], each convex.
      params: :math:`\theta`.
      point: :math:`\eta`, laid out as the params.
      reference: a point whose weights are :math:`\mu`; by default the params.
      weights: :math:`\mu` itself, broadcastable to the partial losses.
      reduce: makes one number of those of all examples; linear.

    Returns:
      The right-hand side, a scalar; ``-inf`` where a term of positive weight is 0 at
      :math:`\eta`.

    Raises:
      ValueError: ``point`` or ``reference`` is not laid out as the params; both
        ``reference`` and ``weights`` are given; or the weights do not broadcast or,
        where they are known, are not on the simplex.

    Source: Achab 2023, arXiv:2309.15298, lemma 1.

    >>> import jax.numpy as jnp
    >>> from logitlab.losses import sum_log_concave_loss
    >>> from logitlab.optim import cross_convex_lower_bound
    >>> def partial_losses(theta):
    ...     return (theta - jnp.float32([-1, 1])) ** 2
    >>> bound = cross_convex_lower_bound(partial_losses, 0.5, 2.0)
    >>> bound < sum_log_concave_loss(partial_losses(2.0))
    Array(True, dtype=bool)
    """
    _check_like(point, params, "point")
    if reference is None and weights is None:
        reference = params
    value, grads = value_and_cross_grad(
        partial_losses_fn, reference=reference, weights=weights, reduce=reduce
    )(params)
    here, there = partial_losses_fn(params), partial_losses_fn(point)
    mu = weights
    if reference is not None:
        mu = numerics.softmax(
            -numerics.promote_to_float32(partial_losses_fn(reference))
        )
    along = sum(
        jax.tree.leaves(
            jax.tree.map(lambda g, b, a: jnp.sum(g * (b - a)), grads, point, params)
        )
    )
    return (
        value + along + reduce(_divergence(mu, here)) - reduce(_divergence(mu, there))
    )


class XGDState(NamedTuple):
    """State of :func:`xgd`.

    Attributes:
      count: updates so far.
      reference: the point that the next cross-gradient is to be seen from.
      inner: state of the optimiser inside.
    """

    count: jax.Array  # type: ignore[assignment]  # hides tuple.count
    reference: Any
    inner: optax.OptState


def xgd(
    optimizer: optax.GradientTransformation | float | optax.Schedule,
    *,
    reference: Any,
    refresh_every: int | None = 50,
) -> optax.GradientTransformationExtraArgs:
    r"""Cross-gradient descent (XGD): an optimizer that keeps a reference point.

    .. math:: \theta_{t+1} = \theta_t - \gamma_t \nabla^{\eta} F(\theta_t), \qquad
        \eta \leftarrow \theta_t \text{ every K updates}

    The state's ``reference`` is for :func:`value_and_cross_grad`::

        optimizer = optim.xgd(0.1, reference=optim.random_point(key))
        state = optimizer.init(params)
        step = optim.value_and_cross_grad(partial_losses, reference=state.reference)
        value, grads = step(params, x, y)
        updates, state = optimizer.update(grads, state, params)

    A fixed reference minimises one convex function, and ends no higher than the
    reference itself; refreshed, it is generalised expectation maximisation; refreshed
    at every update, gradient descent after the first. Put other transformations inside:
    ``xgd(optax.chain(...))``. Needs ``params``.

    Args:
      optimizer: what is done with the cross-gradient; a number or a schedule is the
        learning rate of plain descent, :func:`subgradient_schedule` the theorem's.
      reference: a point laid out as the params, or a function params -> point, which
        ``init`` calls, such as :func:`random_point`.
      refresh_every: K, at least 1; ``None`` keeps the first reference for good.

    Raises:
      ValueError: ``refresh_every`` is below 1; from ``init``, if the reference is not
        laid out as the params; from ``update``, without params.

    Source: Achab 2023, arXiv:2309.15298; the refreshed form is ours [derived].
    """
    if refresh_every is not None:
        check_range(
            "refresh_every", refresh_every, lambda n: n >= 1, "1 or more or None"
        )
    if not isinstance(optimizer, optax.GradientTransformation):
        optimizer = optax.sgd(optimizer)
    inner = optax.with_extra_args_support(optimizer)

    def init(params):
        point = reference(params) if callable(reference) else reference
        _check_like(point, params)
        # A copy: the params may be donated, and the reference may be the params.
        point = jax.tree.map(
            lambda r, p: jnp.array(r, jnp.result_type(p)), point, params
        )
        return XGDState(jnp.zeros((), jnp.int32), point, inner.init(params))

    def update(updates, state, params=None, **extra):
        if params is None:
            raise ValueError("xgd needs params: update(grads, state, params)")
        updates, inner_state = inner.update(updates, state.inner, params, **extra)
        count, point = optax.safe_increment(state.count), state.reference
        if refresh_every is not None:
            due = count % refresh_every == 0
            new = optax.apply_updates(params, updates)
            point = jax.tree.map(lambda a, b: jnp.where(due, a, b), new, point)
        return updates, XGDState(count, point, inner_state)

    return optax.GradientTransformationExtraArgs(init, update)


def random_point(key: jax.Array, *, scale: float = 1.0) -> Callable[[Any], Any]:
    """Reference point for :func:`xgd`: independent normal numbers.

    Args:
      key: a ``jax.random.key``.
      scale: their standard deviation.

    Returns:
      A function params -> point, laid out as the params.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.optim import random_point
    >>> random_point(jax.random.key(0))(jnp.zeros(3)).shape
    (3,)
    """

    def draw(params):
        leaves, layout = jax.tree.flatten(params)
        keys = jax.random.split(key, max(1, len(leaves)))
        drawn = [
            jnp.asarray(scale, jnp.result_type(leaf))
            * jax.random.normal(k, jnp.shape(leaf), jnp.result_type(leaf))
            for k, leaf in zip(keys, leaves, strict=False)
        ]
        return jax.tree.unflatten(layout, drawn)

    return draw


def subgradient_schedule(distance: float, lipschitz: float) -> optax.Schedule:
    r"""Step sizes of the convergence theorem of cross-gradient descent.

    .. math:: \gamma_t = \frac{D}{B \sqrt{t}}, \quad t = 1, 2, \dots

    Every partial loss being B-Lipschitz, the mean excess over any point within D of the
    start that shares the cross-gradient falls as :math:`\log T / \sqrt{T}`.

    Args:
      distance: D, positive.
      lipschitz: B, positive.

    Returns:
      count -> step size; the count of optax starts at 0.

    Raises:
      ValueError: one of them is not positive.

    Source: Achab 2023, arXiv:2309.15298, theorem 4.2.

    >>> from logitlab.optim import subgradient_schedule
    >>> subgradient_schedule(2.0, 1.0)(3)
    Array(1., dtype=float32, weak_type=True)
    """
    for name, value in (("distance", distance), ("lipschitz", lipschitz)):
        check_range(name, value, lambda v: v > 0, "a positive number")
    if not isinstance(distance / lipschitz, jax.Array):
        distance, lipschitz = float(distance), float(lipschitz)  # of no dtype
    return lambda count: distance / lipschitz / jnp.sqrt(count + 1.0)


def _divergence(mu, losses):
    """KL of the weights from those of the partial losses, of each example."""
    log_p = numerics.log_softmax(
        -numerics.promote_to_float32(losses, "the partial losses")
    )
    mu = numerics.promote_to_float32(mu, "weights")
    some = mu > 0
    log_mu = jnp.log(jnp.where(some, mu, 1))
    return jnp.sum(jnp.where(some, mu * (log_mu - log_p), 0), -1)


def _check_like(tree, params, name="reference"):
    """A point has to be laid out as the params are."""
    theirs, ours = jax.tree.structure(tree), jax.tree.structure(params)
    if theirs != ours:
        raise ValueError(f"{name} is laid out as {theirs}, expected {ours}")

    def check(path, leaf, param):
        if jnp.shape(leaf) != jnp.shape(param):
            where = f"{name}{jax.tree_util.keystr(path)}"
            raise ValueError(
                f"{where} has shape {jnp.shape(leaf)}, expected {jnp.shape(param)}"
            )

    jax.tree_util.tree_map_with_path(check, tree, params)
