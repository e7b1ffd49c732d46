"""A small policy that adds modulo a number, its answers token by token, and rewards."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from logitlab import data, losses, metrics, models, sequences


@dataclasses.dataclass(frozen=True)
class Addition:
    """Prompts (a, b), answered by the digits of a + b modulo base^digits.

    A window of tokens holds the prompt and the digits so far, blanks after them; all
    prompts and all positions share the parameters of one network.

    Attributes:
      base: tokens to answer with.
      digits: tokens of an answer, the highest first.
      width: of the network's two hidden layers.
      embedding: of a token.
    """

    base: int
    digits: int
    width: int
    embedding: int

    @property
    def modulus(self) -> int:
        """How many different answers there are."""
        return self.base**self.digits

    @functools.cached_property
    def _model(self):
        return models.WindowMLP(
            vocabulary=self.modulus + self.base + 1,
            classes=self.base,
            width=self.width,
            embedding=self.embedding,
            param_dtype=jnp.float32,
        )

    def prompts(self) -> dict[str, jax.Array]:
        """All of them: x int32 [N, 2], and y int32 [N, T], the tokens of the answer."""
        pairs = data.modular_pairs("add", self.modulus)
        powers = self.base ** jnp.arange(self.digits - 1, -1, -1)
        return {"x": pairs["x"], "y": pairs["y"][:, None] // powers[None] % self.base}

    def init(self, key: jax.Array):
        """Parameters of a policy that answers nearly at random."""
        window = jnp.zeros((1, self.digits + 1), jnp.int32)
        return self._model.init(key, window)["params"]

    def logits(self, params, x: jax.Array, answers: jax.Array) -> jax.Array:
        """At every place: x [..., 2], answers [..., T] -> [..., T, C]."""
        places = range(self.digits)
        windows = [self._window(x, answers, place) for place in places]
        return self._model.apply({"params": params}, jnp.stack(windows, -2))

    def sample(self, params, key: jax.Array, x: jax.Array, rollouts: int):
        """Answers to every prompt, int32 [N, G, T], and their log-probabilities."""
        x = jnp.broadcast_to(x[:, None], (len(x), rollouts, 2))

        def answer(answers, place):
            z = self._model.apply({"params": params}, self._window(x, answers, place))
            token = jax.random.categorical(jax.random.fold_in(key, place), z)
            answers = jnp.where(
                jnp.arange(self.digits) == place, token[..., None], answers
            )
            return answers, sequences.token_log_prob(z, token)

        none = jnp.zeros((*x.shape[:2], self.digits), jnp.int32)
        answers, logps = jax.lax.scan(answer, none, jnp.arange(self.digits))
        return answers, jnp.moveaxis(logps, 0, -1)

    def _window(self, x, answers, place):
        known = jnp.arange(self.digits - 1) < place
        blank = self.modulus + self.base
        tokens = jnp.where(known, self.modulus + answers[..., :-1], blank)
        return jnp.concatenate([x, tokens], -1)


def rewards(answers: jax.Array, right: jax.Array) -> jax.Array:
    """1 for an answer right in every token: [N, G, T], [N, T] -> float32 [N, G]."""
    return (answers == right[:, None]).all(-1).astype(jnp.float32)


def group_losses(
    task: Addition,
    advantages_of: Callable,
    params,
    batch,
    key: jax.Array,
    old,
    *,
    rollouts: int,
    clip_low: float,
    clip_high: float,
) -> tuple[jax.Array, jax.Array]:
    """The clipped surrogate of fresh groups, one number for each prompt.

    Args:
      task: which prompts these are.
      advantages_of: rewards [N, G] -> advantages.
      params: of the policy.
      batch: prompts, as ``task.prompts`` has them.
      key: to sample with.
      old: parameters of the policy that answers.
      rollouts: answers to each prompt, G.
      clip_low: of the clip range.
      clip_high: of it.

    Returns:
      Losses [N] and rewards [N, G].
    """
    x = batch["x"]
    answers, old_logps = task.sample(old, key, x, rollouts)
    r = rewards(answers, batch["y"])
    prompts = jnp.broadcast_to(x[:, None], (*r.shape, 2))
    logps = sequences.token_log_prob(task.logits(params, prompts, answers), answers)
    each = losses.ppo_clip_loss(
        logps,
        jax.lax.stop_gradient(old_logps),
        advantages_of(r),
        clip_low=clip_low,
        clip_high=clip_high,
    )
    return each.mean((-2, -1)), r


def success(task: Addition, params, prompts) -> metrics.Mean:
    """Probability of the right answer, exactly, over prompts."""
    z = task.logits(params, prompts["x"], prompts["y"])
    return metrics.mean_of(jnp.exp(sequences.sequence_log_prob(z, prompts["y"])))
