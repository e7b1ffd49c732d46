"""How far a model moves when it is trained again on its own predictions."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.metrics.mean import tree_norm

__all__ = ["fit_pseudo_labels", "projection_norm"]


def fit_pseudo_labels(
    logits_fn: Callable[[Any, jax.Array], jax.Array],
    params: Any,
    inputs: ArrayLike,
    labels: ArrayLike,
    *,
    key: ArrayLike,
    learning_rate: ArrayLike = 1e-3,
    momentum: float = 0.9,
    steps: int = 50,
    batch_size: int = 128,
    mask: ArrayLike | None = None,
) -> Any:
    r"""Parameters after a short training on predicted labels, for ``projection_norm``.

    Stochastic gradient descent on the cross-entropy, with momentum and a learning rate
    that falls to 0 along a cosine. Examples come in the order of the key, each once
    before any comes again. One program, mapped over sets of inputs by ``vmap``.

    Args:
      logits_fn: parameters and inputs [B, ...] to logits [B, C].
      params: where the training begins: those of the model *before* it was trained on
        the source.
      inputs: unlabeled, [N, ...].
      labels: ints in ``[0, C)``, what the trained model predicts for them, [N].
      key: a ``jax.random.key``.
      learning_rate: at the first step.
      momentum: of the descent.
      steps: how many.
      batch_size: examples in each.
      mask: bool [N], the examples that count.

    Returns:
      A pytree as ``params``.

    Raises:
      TypeError: ``labels`` is not integer or ``mask`` is not bool.
      ValueError: the shapes disagree, there are no examples, or ``steps`` or
        ``batch_size`` is below 1.

    Source: ProjNorm, Yu et al. 2022, arXiv:2202.05834.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import fit_pseudo_labels
    >>> x, y = jnp.float32([[1], [-1]]), jnp.array([0, 1])
    >>> new = fit_pseudo_labels(
    ...     lambda w, x: x @ w, jnp.zeros((1, 2)), x, y, key=jax.random.key(0),
    ...     learning_rate=1.0, steps=1, batch_size=2)
    >>> new
    Array([[ 0.5, -0.5]], dtype=float32)
    """
    x, y = jnp.asarray(inputs), numerics.wide_labels(labels)
    if not x.ndim or y.shape != x.shape[:1] or not len(x):
        raise ValueError(
            f"inputs, labels have shapes {x.shape}, {y.shape}, expected [N, ...], [N]"
        )
    for name, value in (("steps", steps), ("batch_size", batch_size)):
        if value < 1:
            raise ValueError(f"{name} is {value}, expected at least 1")
    keep = numerics.check_mask(mask, y.shape)
    return _fit(
        logits_fn, params, x, y, keep, key, learning_rate, momentum, steps, batch_size
    )


def projection_norm(params: Any, reference_params: Any) -> jax.Array:
    r"""Distance between two trainings on predicted labels: the larger, the more errors.

    .. math:: \|\theta_t - \theta_s\|_2

    Both begin at one point and are trained alike with ``fit_pseudo_labels``, one on
    unlabeled examples and the other on those of the source. A model that is often wrong
    on the former teaches itself something else.

    Args:
      params: after training on the unlabeled examples.
      reference_params: after training on as many of the source, a pytree of the same
        structure.

    Returns:
      [], in the unit of the parameters.

    Raises:
      TypeError: a parameter is not floating point.
      ValueError: the structures or shapes differ.

    Source: ProjNorm, Yu et al. 2022, arXiv:2202.05834.

    >>> import jax.numpy as jnp
    >>> from logitlab.metrics import projection_norm
    >>> print(projection_norm({"w": jnp.ones(4)}, {"w": jnp.zeros(4)}))
    2.0
    """

    def difference(a, b):
        a, b = jnp.asarray(a), jnp.asarray(b)
        if a.shape != b.shape:
            raise ValueError(
                f"reference_params holds an array of shape {b.shape}, expected "
                f"{a.shape} as in params"
            )
        return a - b

    return tree_norm(jax.tree.map(difference, params, reference_params))


@functools.partial(jax.jit, static_argnames=("logits_fn", "steps", "batch_size"))
def _fit(logits_fn, params, x, y, keep, key, rate, momentum, steps, batch_size):
    import optax  # half a second to import, for fits alone

    n, total = len(x), steps * batch_size
    keys = jax.random.split(key, -(-total // n))
    order = jax.vmap(lambda key: jax.random.permutation(key, n))(keys)
    batches = order.ravel()[:total].reshape(steps, batch_size)
    solver = optax.sgd(optax.cosine_decay_schedule(rate, steps), momentum)

    def loss(params, at):
        losses = numerics.label_nll(logits_fn(params, x[at]), y[at])
        return numerics.masked_mean(losses, keep[at])

    def step(carry, at):
        params, state = carry
        updates, state = solver.update(jax.grad(loss)(params, at), state, params)
        return (optax.apply_updates(params, updates), state), None

    return jax.lax.scan(step, (params, solver.init(params)), batches)[0][0]
