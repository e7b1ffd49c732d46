"""Weights of examples under which variables do not depend on each other."""

from __future__ import annotations

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.heads import vq_mapping
from logitlab.losses import decorrelation_loss
from logitlab.numerics.arguments import check_count, check_range

__all__ = ["SampleWeights", "cluster_by_correlation_stability", "learn_sample_weights"]


class SampleWeights(NamedTuple):
    """What :func:`learn_sample_weights` found.

    Attributes:
      weights: of the examples, with mean 1 over those that count, [N].
      losses: the decorrelation loss before each step, [steps].
      effective_size: ``sum(w)**2 / sum(w**2)``, how many examples of equal weight
        would tell as much.
    """

    weights: jax.Array
    losses: jax.Array
    effective_size: jax.Array


def cluster_by_correlation_stability(
    z: ArrayLike, num_clusters: int, key: jax.Array
) -> jax.Array:
    r"""Clusters of variables whose correlations are the same in all environments.

    Use it before :func:`learn_sample_weights`: what belongs together everywhere may
    stay correlated, and weights then waste fewer examples on it.

    .. math:: d_{ij} = \sqrt{\frac1L \sum_l (r^{(l)}_{ij} - \bar r_{ij})^2}

    with the correlations r of each environment; k-means of the rows of d. The statistic
    is inferred from the abstract.

    Shapes: z [L, N, P] -> [P]

    Args:
      z: representations in L environments, or in L batches of one.
      num_clusters: at most P.
      key: a ``jax.random.key``, for the start of k-means.

    Returns:
      int32 in ``[0, num_clusters)``; a variable that is constant in an environment
      correlates with nothing there.

    Raises:
      TypeError: ``z`` is not floating point.
      ValueError: ``z`` has another number of axes, or ``num_clusters`` is out of range.

    Source: L2R-GNN, 2024, arXiv:2312.12475.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import cluster_by_correlation_stability
    >>> a, b = jax.random.normal(jax.random.key(0), (2, 2, 300, 1))
    >>> turned = b * jnp.float32([1, -1])[:, None, None]  # with a: now so, now so
    >>> z = jnp.concatenate([a, a, a + turned, a + turned], -1)
    >>> found = cluster_by_correlation_stability(z, 2, jax.random.key(0))
    >>> print(found.shape)
    (4,)
    """
    x = numerics.promote_to_float32(z, "z")
    if x.ndim != 3:
        raise ValueError(f"z has shape {x.shape}, expected [L, N, P]")
    if not 1 <= num_clusters <= x.shape[2]:
        raise ValueError(
            f"num_clusters is {num_clusters}, expected 1 to {x.shape[2]}, the variables"
        )
    x = x - x.mean(1, keepdims=True)
    size = jnp.max(jnp.abs(x), 1, keepdims=True)
    x = x / jnp.where(size > 0, size, 1)
    norm = jnp.linalg.norm(x, axis=1, keepdims=True)
    x = x / jnp.where(norm > 0, norm, 1)
    r = jnp.einsum("lni,lnj->lij", x, x, precision="highest")
    return vq_mapping(jnp.std(r, 0), num_clusters, method="kmeans", key=key)


def learn_sample_weights(
    z: ArrayLike,
    clusters: ArrayLike,
    key: jax.Array,
    *,
    steps: int = 300,
    learning_rate: ArrayLike = 0.05,
    l2: ArrayLike = 0.0,
    num_features: int = 5,
    mask: ArrayLike | None = None,
) -> SampleWeights:
    r"""Weights that make variables of different clusters as independent as they can.

    Use it where a spurious variable goes with the ones that matter in training only:
    train on the weighted losses.

    Adam lowers ``losses.decorrelation_loss`` in v, with weights
    :math:`w = n \, \mathrm{softmax}(v)`, and draws new random features at every step.
    The paper alternates such steps with those of the model, on batches and a memory;
    here representations are fixed and all examples count at once, which is inferred to
    be the same where they fit.

    Shapes: z [N, P], clusters [P], mask [N] -> SampleWeights

    Args:
      z: representations, a column for each variable.
      clusters: ints, of :func:`cluster_by_correlation_stability`; ``arange(P)``
        decorrelates all pairs.
      key: a ``jax.random.key``.
      steps: of Adam, a Python number.
      learning_rate: of Adam.
      l2: keeps weights even, at least 0.
      num_features: random features of each variable.
      mask: bool, the examples that count; the others get weight 0.

    Returns:
      Weights, losses and the effective sample size.

    Raises:
      TypeError: ``z`` is not floating point, ``clusters`` not integer, or ``mask`` not
        bool.
      ValueError: the shapes do not fit, or an argument is outside its range.

    Source: L2R-GNN, 2024, arXiv:2312.12475.

    >>> import jax
    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import learn_sample_weights
    >>> x, noise = jax.random.normal(jax.random.key(0), (2, 100, 1))
    >>> z = jnp.concatenate([x, x + noise], 1)
    >>> found = learn_sample_weights(z, jnp.arange(2), jax.random.key(1), steps=100)
    >>> print(found.losses[-20:].mean() < found.losses[:20].mean())
    True
    """
    check_count("steps", steps)
    check_range("l2", l2, lambda v: v >= 0, "at least 0")
    x = numerics.promote_to_float32(z, "z")
    keep = numerics.check_mask(mask, x.shape[:1])
    return _learn(x, clusters, key, steps, learning_rate, l2, num_features, keep)


@functools.partial(jax.jit, static_argnames=("steps", "num_features"))
def _learn(x, clusters, key, steps, learning_rate, l2, num_features, keep):
    adam = optax.adam(learning_rate)

    def weigh(v):
        shares = numerics.softmax(jnp.where(keep, v, -jnp.inf))
        return jnp.sum(keep, dtype=x.dtype) * shares

    def step(carry, key):
        v, state = carry
        loss, slope = jax.value_and_grad(
            lambda v: decorrelation_loss(
                x, weigh(v), clusters, key, num_features=num_features, l2=l2, mask=keep
            )
        )(v)
        change, state = adam.update(slope, state)
        return (optax.apply_updates(v, change), state), loss

    v = jnp.zeros(len(x), x.dtype)
    (v, _), losses = jax.lax.scan(step, (v, adam.init(v)), jax.random.split(key, steps))
    w = weigh(v)
    square = jnp.sum(w**2)
    size = jnp.sum(w) ** 2 / jnp.where(square > 0, square, 1)
    return SampleWeights(w, losses, size)
