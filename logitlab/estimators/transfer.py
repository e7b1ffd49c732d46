"""Which tasks to train on, so that what is learned serves all tasks of a line."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from logitlab import numerics
from logitlab.numerics.arguments import check_count, hyper

__all__ = ["TaskSelection", "mbtl_acquisition", "mbtl_select"]


class TaskSelection(NamedTuple):
    """Tasks that were trained on, and what that was worth.

    Attributes:
      tasks: in the order of their training, [K].
      performance: mean over all tasks of the best so far, after each, [K].
    """

    tasks: np.ndarray
    performance: np.ndarray


def mbtl_acquisition(
    mean: ArrayLike,
    std: ArrayLike,
    best: ArrayLike,
    tasks: ArrayLike,
    *,
    slope: ArrayLike,
    kappa: ArrayLike,
) -> jax.Array:
    r"""What training on each task is expected to add to the mean over all tasks.

    Use it to choose the next of ``mbtl_select``'s tasks, or with a model of your own of
    the performance on a task that one has trained on.

    .. math:: a_i = \frac{1}{N} \sum_j \max(0, \mu_i + \kappa \sigma_i
        - c\, |\delta_i - \delta_j| - b_j)

    Shapes: mean [N], std [N], best [N], tasks [N] -> [N]

    Args:
      mean: mu, predicted performance of a policy on the task it was trained on.
      std: sigma, the deviation of that prediction.
      best: b, performance on each task of the best policy so far.
      tasks: delta, where tasks lie on the line.
      slope: c, performance lost per unit of distance, at least 0.
      kappa: weight of the deviation; the paper has the root of log(k + 1) after k
        tasks.

    Returns:
      float32 (float64 for float64 means).

    Raises:
      TypeError: an array is not floating point.
      ValueError: the shapes differ, or ``slope`` is negative.

    Source: Model-Based Transfer Learning, Cho et al. 2024, arXiv:2408.04498.

    >>> import jax.numpy as jnp
    >>> from logitlab.estimators import mbtl_acquisition
    >>> two = jnp.float32([1, 1])
    >>> at = jnp.float32([0, 1])
    >>> mbtl_acquisition(two, 0 * two, at, at, slope=0.5, kappa=0.0)
    Array([0.5 , 0.25], dtype=float32)
    """
    mu = numerics.promote_to_float32(mean, "mean")
    if mu.ndim != 1:
        raise ValueError(f"mean has shape {mu.shape}, expected [N]")

    def like(name, array):
        x = numerics.promote_to_float32(array, name).astype(mu.dtype)
        if x.shape != mu.shape:
            raise ValueError(f"{name} has shape {x.shape}, expected {mu.shape}")
        return x

    spread, known, at = like("std", std), like("best", best), like("tasks", tasks)
    c = hyper("slope", slope, mu.dtype, lambda v: v >= 0, "at least 0")
    high = mu + hyper("kappa", kappa, mu.dtype) * spread
    reach = high[:, None] - c * jnp.abs(at[:, None] - at[None])
    return jnp.maximum(reach - known[None], 0).mean(1)


def mbtl_select(
    transfer_fn: Callable[[int], ArrayLike],
    tasks: ArrayLike,
    steps: int,
    *,
    slope: float,
    gp: Callable[[np.ndarray, np.ndarray, np.ndarray], tuple] | None = None,
    kappa: Callable[[int], float] = lambda k: float(np.sqrt(np.log(k + 1))),
) -> TaskSelection:
    """Trains on one task after another, each the most promising one for all tasks.

    Use it where training is dear, tasks lie on a line, and a policy loses performance
    in proportion to the distance from the task that it was trained on. The first is the
    middle one; a Gaussian process of the performance so far predicts that of the
    others. Runs on the host, as training does.

    Shapes: tasks [N] -> [K], [K]

    Args:
      transfer_fn: index of a task -> performance in [0, 1] on all tasks of a policy
        trained on it, [N].
      tasks: where tasks lie on the line, [N].
      steps: how many to train on, at most N.
      slope: performance lost per unit of distance.
      gp: (trained, performance on them so far, tasks) -> mean and deviation at all
        tasks, [N] each; the process with a constant times a Gaussian kernel that is
        likeliest on a grid if None.
      kappa: weight of the deviation after k tasks.

    Returns:
      ``TaskSelection``. Of equally promising tasks the first is taken.

    Raises:
      ValueError: wrong shapes, or ``steps`` out of range.

    Source: Model-Based Transfer Learning, Cho et al. 2024, arXiv:2408.04498;
      github.com/jhoon-cho/MBTL. The grid takes the place of its restarted optimizer.

    >>> import numpy as np
    >>> from logitlab.estimators import mbtl_select
    >>> at = np.arange(5.0)
    >>> found = mbtl_select(lambda i: 1 - abs(at - i) / 5, at, 2, slope=0.2)
    >>> print(found.tasks, found.performance.round(2))
    [2 0] [0.76 0.84]
    """
    at = np.asarray(tasks, float)
    if at.ndim != 1 or not len(at):
        raise ValueError(f"tasks has shape {at.shape}, expected [N]")
    check_count("steps", steps)
    if steps > len(at):
        raise ValueError(f"steps is {steps}, expected at most the {len(at)} tasks")
    chosen: list[int] = []
    own: list[float] = []
    rows: list[float] = []
    best = np.full(len(at), -np.inf)
    pick = (len(at) - 1) // 2
    while True:
        found = np.asarray(transfer_fn(pick), float)
        if found.shape != at.shape:
            raise ValueError(
                f"transfer_fn gave shape {found.shape}, expected {at.shape}"
            )
        chosen.append(pick)
        best = np.maximum(best, found)
        own.append(best[pick])  # as the released code records it: by any policy so far
        rows.append(float(best.mean()))
        k = len(chosen)
        if k == steps:
            return TaskSelection(np.array(chosen), np.array(rows))
        mean, std = (gp or likeliest_process)(at[chosen], np.array(own), at)
        gain = _acquisition(
            np.asarray(mean), np.asarray(std), best, at, slope, kappa(k)
        )
        gain[chosen] = -np.inf
        pick = int(gain.argmax())


def _acquisition(mean, std, best, at, slope, kappa):
    """``mbtl_acquisition`` in NumPy, in float64 with or without x64."""
    reach = (mean + kappa * std)[:, None] - slope * np.abs(at[:, None] - at[None])
    return np.maximum(reach - best[None], 0).mean(1)


def likeliest_process(trained, performance, at):
    """Mean and deviation of the Gaussian process that is likeliest on a grid."""
    apart = (trained[:, None] - trained[None]) ** 2
    best, found = -np.inf, (1.0, 1.0)
    for constant in np.logspace(-3, 3, 49):
        for length in np.logspace(-2, 2, 33):
            gram = constant * np.exp(-apart / (2 * length**2))
            factor = np.linalg.cholesky(gram + 0.01 * np.eye(len(trained)))
            white = np.linalg.solve(factor, performance)
            likely = -white @ white / 2 - np.log(np.diagonal(factor)).sum()
            if likely > best + 1e-12:
                best, found = likely, (constant, length)
    constant, length = found
    gram = constant * np.exp(-apart / (2 * length**2)) + 0.01 * np.eye(len(trained))
    across = constant * np.exp(-((at[:, None] - trained[None]) ** 2) / (2 * length**2))
    mean = across @ np.linalg.solve(gram, performance)
    spread = constant - np.einsum("ij,ji->i", across, np.linalg.solve(gram, across.T))
    return mean, np.sqrt(np.maximum(spread, 0))
