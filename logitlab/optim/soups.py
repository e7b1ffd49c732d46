"""Averages of trained parameters: one model for the price of one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.losses import cross_entropy
from logitlab.numerics.arguments import check_count, check_range

__all__ = [
    "LearnedSoup",
    "greedy_soup",
    "interpolate",
    "learned_soup",
    "soup_vs_ensemble_gap",
    "uniform_soup",
]


def _check_alike(trees):
    """At least one tree, all of them of the structure and the shapes of the first."""
    if not len(trees):
        raise ValueError("trees is empty, expected at least one model")
    first = jax.tree.structure(trees[0])
    for place, tree in enumerate(trees):
        if jax.tree.structure(tree) != first:
            raise ValueError(
                f"trees[{place}] is laid out as {jax.tree.structure(tree)}, expected "
                f"as trees[0], {first}"
            )

    def check(path, leaf, *others):
        for place, other in enumerate(others, 1):
            if jnp.shape(other) != jnp.shape(leaf):
                raise ValueError(
                    f"trees[{place}]{jax.tree_util.keystr(path)} has shape "
                    f"{jnp.shape(other)}, expected that of trees[0], {jnp.shape(leaf)}"
                )

    jax.tree_util.tree_map_with_path(check, *trees)


def _weighted(trees, weights):
    """Sum of leaves, those that are no floats from the first tree."""

    def mix(first, *others):
        first = jnp.asarray(first)
        if not jnp.issubdtype(first.dtype, jnp.floating):
            return first
        wide = jnp.promote_types(first.dtype, jnp.float32)
        leaves = jnp.stack([jnp.asarray(a, wide) for a in (first, *others)])
        w = jnp.asarray(weights, wide)
        return jnp.tensordot(w, leaves, 1).astype(first.dtype)

    return jax.tree.map(mix, *trees)


def uniform_soup(trees: Sequence[Any]) -> Any:
    """Mean of the parameters of several models.

    Use it for models that were fine-tuned from one checkpoint. Those of different
    initializations have nothing to average. Statistics of batch norm have to be
    computed anew.

    Args:
      trees: parameters, laid out alike.

    Returns:
      A tree like the first, in its dtypes; 16-bit leaves are averaged in float32, and
      integers and bools are those of the first tree.

    Raises:
      ValueError: there is no tree, or they differ in structure or shapes.

    Source: Model soups, Wortsman et al. 2022, arXiv:2203.05482.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import uniform_soup
    >>> uniform_soup([{"w": jnp.float32([1, 2])}, {"w": jnp.float32([3, 6])}])
    {'w': Array([2., 4.], dtype=float32)}
    """
    _check_alike(trees)
    return _weighted(trees, np.full(len(trees), 1 / len(trees)))


def greedy_soup(
    trees: Sequence[Any], evaluate: Callable[[Any], Any], *, strict: bool = True
) -> tuple[Any, tuple[int, ...]]:
    """Mean of those models that do not lower its accuracy on held-out data.

    Use it when some of the fine-tuned models may be bad. They are tried from the best
    to the worst; each stays if the mean with it is better.

    Args:
      trees: parameters, laid out alike.
      evaluate: parameters -> held-out accuracy, larger being better.
      strict: a model stays only if accuracy rises, as in the released code; the paper's
        text lets it stay where accuracy does not fall.

    Returns:
      The soup, and the places of its models in ``trees``, in the order of their taking.

    Raises:
      ValueError: there is no tree, they differ in structure or shapes, or an accuracy
        is NaN.

    Source: Model soups, Wortsman et al. 2022, arXiv:2203.05482.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import greedy_soup
    >>> greedy_soup([jnp.float32(0), jnp.float32(3)], lambda w: -(w - 1.4) ** 2)
    (Array(1.5, dtype=float32), (0, 1))
    """
    _check_alike(trees)
    scores = [float(evaluate(tree)) for tree in trees]
    if any(np.isnan(scores)):
        raise ValueError(f"evaluate returned {scores}, expected accuracies")
    order = sorted(range(len(trees)), key=lambda place: -scores[place])
    kept = [order[0]]
    soup, best = trees[order[0]], scores[order[0]]
    for place in order[1:]:
        trial = uniform_soup([trees[i] for i in (*kept, place)])
        score = float(evaluate(trial))
        if score > best or (not strict and score == best):
            soup, best = trial, score
            kept.append(place)
    return soup, tuple(kept)


class LearnedSoup(NamedTuple):
    """What :func:`learned_soup` found.

    Attributes:
      params: the mixed tree.
      weights: [K] on the simplex, or a tree with such a vector for every leaf.
      temperature: by which logits are to be divided.
    """

    params: Any
    weights: Any
    temperature: jax.Array


def learned_soup(
    trees: Sequence[Any],
    logits_fn: Callable[[Any], jax.Array],
    labels: ArrayLike,
    *,
    per_leaf: bool = False,
    steps: int = 200,
    learning_rate: ArrayLike = 0.05,
) -> LearnedSoup:
    r"""Mean of models whose weights, and a temperature, are fitted on held-out data.

    Use it where held-out data are many and evaluations cheap.

    .. math:: \min_{w, \beta} \mathrm{mean}\, CE\Bigl(\beta f\bigl(\sum_k
        \mathrm{softmax}(w)_k \theta_k\bigr), y\Bigr)

    by Adam, from the uniform soup at temperature 1.

    Args:
      trees: parameters, laid out alike.
      logits_fn: params -> logits [N, C] of the held-out data.
      labels: theirs, see :func:`logitlab.losses.cross_entropy`.
      per_leaf: weights for every leaf by itself.
      steps: of Adam.
      learning_rate: of Adam.

    Raises:
      ValueError: there is no tree, they differ, or a number is outside its range.

    Source: Model soups, Wortsman et al. 2022, arXiv:2203.05482.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import learned_soup
    >>> good, bad = jnp.float32([[2, 0]]), jnp.float32([[0, 2]])
    >>> learned_soup([good, bad], lambda w: w, jnp.array([0])).weights[0] > 0.9
    Array(True, dtype=bool)
    """
    _check_alike(trees)
    check_count("steps", steps)
    check_range("learning_rate", learning_rate, lambda r: r > 0, "positive")
    leaves = jax.tree.leaves(trees[0])
    floats = [a for a in leaves if jnp.issubdtype(jnp.result_type(a), jnp.floating)]
    dtype = jnp.promote_types(jnp.result_type(*floats), jnp.float32)
    zeros = jnp.zeros(len(trees), dtype)
    scores = jax.tree.map(lambda _: zeros, trees[0]) if per_leaf else zeros

    def mixed(scores):
        if not per_leaf:
            return _weighted(trees, jax.nn.softmax(scores))
        columns = jax.tree.map(lambda *leaves: leaves, *trees)
        return jax.tree.map(
            lambda s, leaves: _weighted(list(leaves), jax.nn.softmax(s)),
            *(scores, columns),
        )

    def objective(state):
        scores, log_beta = state
        logits = logits_fn(mixed(scores))
        return cross_entropy(logits * jnp.exp(log_beta), labels).mean()

    adam = optax.adam(learning_rate)

    def step(carry, _):
        state, inner = carry
        updates, inner = adam.update(jax.grad(objective)(state), inner, state)
        return (optax.apply_updates(state, updates), inner), None

    start = scores, jnp.zeros((), dtype)
    ((scores, log_beta), _), _ = jax.lax.scan(
        step, (start, adam.init(start)), None, steps
    )
    weights = jax.tree.map(jax.nn.softmax, scores)
    return LearnedSoup(mixed(scores), weights, jnp.exp(-log_beta))


def interpolate(start: Any, end: Any, alpha: ArrayLike) -> Any:
    r"""Parameters on the line between two models, :math:`(1-\alpha) a + \alpha b`.

    Use it for paths between models, and for a fine-tuned model that keeps what the
    first one knew. Beyond [0, 1] it extrapolates; ``alpha`` may be traced, so a path is
    one ``vmap``.

    Raises:
      ValueError: the trees differ in structure or shapes.

    Source: Model soups, Wortsman et al. 2022, arXiv:2203.05482.

    >>> import jax.numpy as jnp
    >>> from logitlab.optim import interpolate
    >>> interpolate(jnp.float32([0, 1]), jnp.float32([4, 1]), 0.25)
    Array([1., 1.], dtype=float32)
    """
    _check_alike([start, end])
    share = jnp.asarray(alpha)
    return _weighted([start, end], jnp.stack([1 - share, share]))


def soup_vs_ensemble_gap(
    logits_fn: Callable[[Any], jax.Array],
    start: Any,
    end: Any,
    labels: ArrayLike,
    *,
    alpha: ArrayLike = 0.5,
    beta: ArrayLike = 1.0,
) -> jax.Array:
    r"""Estimate of how much worse two averaged models are than their averaged logits.

    Use it to tell, without an ensemble's cost, when a soup will do.

    .. math:: L_{soup} - L_{ens} \approx \frac{\alpha (1 - \alpha)}{2} \Bigl(
        -\frac{d^2 L_{soup}}{d \alpha^2} + \beta^2 \, \mathrm{mean}_x
        \mathrm{Var}_{Y \sim p} [\Delta f_Y(x)] \Bigr)

    with p the soup's probabilities, :math:`\mathrm{softmax}(\beta f_\alpha)`, and
    :math:`\Delta f = f_1 - f_0`. Both losses are cross-entropies of logits times
    :math:`\beta`.

    Args:
      logits_fn: params -> logits [N, C].
      start: the model at ``alpha`` 0.
      end: the model at 1.
      labels: see :func:`logitlab.losses.cross_entropy`.
      alpha: where on the line, in [0, 1].
      beta: inverse temperature, positive.

    Returns:
      One number in nats; negative where the soup is the better one.

    Raises:
      ValueError: the trees differ, or a number is outside its range.

    Numerics: of second order in the distance of the two models.

    Source: Model soups, Wortsman et al. 2022, arXiv:2203.05482.
    """
    check_range("alpha", alpha, lambda a: (a >= 0) & (a <= 1), "a number in [0, 1]")
    check_range("beta", beta, lambda b: b > 0, "positive")
    _check_alike([start, end])
    first, last = (
        numerics.promote_to_float32(logits_fn(p), "the logits") for p in (start, end)
    )
    a, b = (jnp.asarray(v, first.dtype) for v in (alpha, beta))

    def soup(a):
        return numerics.promote_to_float32(logits_fn(interpolate(start, end, a)))

    def loss(a):
        return cross_entropy(b * soup(a), labels).mean()

    bend = jax.grad(jax.grad(loss))(a)
    p = numerics.softmax(b * soup(a))
    gap = last - first
    center = jnp.sum(p * gap, -1, keepdims=True)
    variance = jnp.sum(p * (gap - center) ** 2, -1)
    return a * (1 - a) / 2 * (b**2 * variance.mean() - bend)
