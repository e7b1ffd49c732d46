"""Rows of the catalogue: what is true of each loss, and how to draw its arguments.

One module per family, of the same name, holds the family's rows in ``ROWS``.
"""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Literal

import jax
import jax.numpy as jnp

Kind = Literal["example", "elementwise", "batch", "pair", "sequence"]
Definition = Literal["code", "paper", "inferred"]


@dataclasses.dataclass(frozen=True)
class Row:
    """One public loss; the property tests, the benchmark and the tables read it.

    Attributes:
      loss: The public function.
      kind: What a call returns: ``example`` one value per example, for logits
        [..., C]; ``elementwise`` one per logit; ``batch`` one per set of examples;
        ``pair`` one per pair; ``sequence`` one per token sequence. If a pair consists
        of two scores rather than two classes (``shape`` then has one axis), the scores
        are the first two arguments, and properties of the logits hold for both.
      make: Draws the positional arguments, (key, shape, dtype) -> (logits, ...).
        ``shape`` is the shape of the logits, of any size: examples on the first axis,
        classes on the last. Every array with an entry per class or per example must be
        among the arguments.
      source: The paper, with its arXiv id if it has one.
      definition: Where the definition comes from. ``code``: it is held to numbers or
        to the source of the authors' implementation, or of the reference
        implementation that the loss names (trl, torch). ``paper``: the text of the
        paper gives the formula. ``inferred``: the paper was not readable in full or
        leaves a part of the definition open, which we completed; the docstring says
        which part. A default value that the paper does not give is no such part.
      hyper: Keyword arguments that have no default or that the tests should set.
      golden: Name of the file in ``tests/golden``, without ``.json``, whose numbers
        the tests compare, if there is one.
      shift_invariant: Adding a constant to all logits of an example does not change
        the loss.
      convex: The loss is convex in the logits.
      lower: A lower bound of the loss, None if it has none.
      upper: An upper bound of the loss, None if it has none.
      calibrated: Minimizing the loss recovers the most probable class.
      proper: Minimizing the loss recovers the class probabilities, as the softmax of
        the logits (for kind ``elementwise``, as their sigmoid).
      label_only: The loss is a function of the label's log-probability.
      inexact: For the few losses whose relative error in float32, in value or gradient,
        exceeds ``rtol`` at margins up to 80: why it does, and what error holds instead.
      where: The loss takes ``where``, and hiding a class equals deleting it.
      symmetric: Permuting the classes of logits and labels alike changes nothing.
      smooth: The loss is twice differentiable almost everywhere.
      rtol: The stated relative error in float32, ``max|a - b| / max|b|``.
      gathers: For the few losses whose compiled program moves an array of the logits'
        size between devices when the classes are sharded: why it must.
      cost: For losses whose value and gradient, at 4096 x 32000, hold more than one
        array of the logits' size or take more than 1.3 times as long as optax's
        cross-entropy with distributions: why they do.
      note: Full sentences that the reader of the table should know.
      shape: A small shape of logits that suits the loss. The number of examples
        differs from the size of every other axis.
      surrogate: For the few losses whose gradient is not the derivative of the value
        (a stopped gradient, a relaxation): why it is not.
      tokens: The last axis holds the tokens of a sequence rather than classes: the
        first argument has one number per token, and ``mask`` selects tokens.
    """

    loss: Callable
    kind: Kind
    make: Callable[[jax.Array, tuple[int, ...], Any], tuple]
    source: str
    definition: Definition
    hyper: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    golden: str | None = None
    shift_invariant: bool = True
    convex: bool = False
    lower: float | None = 0.0
    upper: float | None = None
    calibrated: bool = False
    proper: bool = False
    label_only: bool = False
    inexact: str = ""
    where: bool = True
    symmetric: bool = True
    smooth: bool = True
    rtol: float = 1e-5
    gathers: str = ""
    cost: str = ""
    note: str = ""
    shape: tuple[int, ...] = (4, 5)
    surrogate: str = ""
    tokens: bool = False

    if TYPE_CHECKING:
        # Rows share facts as dictionaries, whose entries have no types of their own.
        def __init__(self, loss: Callable, *more: Any, **facts: Any) -> None: ...

    @property
    def name(self) -> str:
        """The public name."""
        return self.loss.__name__


def class_labels(key, shape, dtype):
    """Logits and integer labels."""
    logits_key, labels_key = jax.random.split(key)
    logits = 3 * jax.random.normal(logits_key, shape, dtype)
    return logits, jax.random.randint(labels_key, shape[:-1], 0, shape[-1])


def binary_labels(key, shape, dtype):
    """Logits and labels 0 or 1 for each of them."""
    logits_key, labels_key = jax.random.split(key)
    logits = 3 * jax.random.normal(logits_key, shape, dtype)
    return logits, jax.random.bernoulli(labels_key, shape=shape).astype(jnp.int32)


def distributions(key, shape, dtype):
    """Logits and a distribution over classes for each example."""
    logits_key, labels_key = jax.random.split(key)
    logits = 3 * jax.random.normal(logits_key, shape, dtype)
    return logits, jax.nn.softmax(jax.random.normal(labels_key, shape, dtype))
