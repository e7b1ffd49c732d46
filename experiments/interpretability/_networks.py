"""Small classifiers that are trained again and again, on some of the rows."""

import functools
from typing import NamedTuple

import jax
import optax

from logitlab import losses, models, numerics


class Recipe(NamedTuple):
    """How a classifier is trained: full-batch Adam on cross-entropy.

    Attributes:
      widths: of the hidden layers; none make a linear model.
      classes: how many there are.
      steps: of Adam, by a rate that falls to 0 along a cosine.
      learning_rate: at the start.
      decay: weight of half the squared norm of the parameters in the loss.
    """

    widths: tuple[int, ...]
    classes: int
    steps: int
    learning_rate: float = 1e-2
    decay: float = 1e-3

    @property
    def model(self) -> models.MLP:
        """The network, smooth, so that gradients say what happens nearby."""
        return models.MLP(self.widths, self.classes, activation="gelu")


@functools.partial(jax.jit, static_argnames=("recipe", "penalty"))
def fit(key, x, y, keep, *, recipe: Recipe, penalty=None):
    """Parameters after training on the rows that ``keep`` names.

    ``penalty`` is a function of the parameters that is added to the loss.
    """
    model = recipe.model
    params = model.init(key, x[:1])
    schedule = optax.cosine_decay_schedule(recipe.learning_rate, recipe.steps)
    optimizer = optax.adam(schedule)

    def objective(params):
        each = losses.cross_entropy(model.apply(params, x), y)
        norm = optax.tree.norm(params, squared=True)
        total = numerics.masked_mean(each, keep) + recipe.decay / 2 * norm
        return total if penalty is None else total + penalty(params)

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(objective)(params), state, params)
        return (optax.apply_updates(params, updates), state), None

    start = params, optimizer.init(params)
    (params, _), _ = jax.lax.scan(step, start, None, recipe.steps)
    return params
