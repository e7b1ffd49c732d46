"""What the catalogue knows of a loss: how to call it, and what is true of it."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any, Literal

import jax
import jax.numpy as jnp

Kind = Literal["example", "elementwise", "batch", "pair", "sequence"]


@dataclasses.dataclass(frozen=True)
class Row:
    """One public loss; the property tests, the benchmark and the README read it.

    Attributes:
      loss: the public function.
      kind: what a call returns: ``example`` one number for each row of logits
        [..., C], ``elementwise`` one for each logit, ``batch`` one for a set of
        examples, ``pair`` one for each pair, ``sequence`` one for each token sequence.
        Where a pair is two scores, not two of the classes (``shape`` has one axis),
        they are the first two arguments, and what is said of logits is said of both.
      make: (key, shape, dtype) -> positional arguments, the logits first. ``shape`` is
        that of the logits: examples on the first axis, classes on the last, any sizes.
        Whatever has one entry per class or per example is one of the arguments.
      source: paper and arXiv id.
      hyper: keyword arguments that have no default, or that the tests should use.
      golden: name of the file in ``tests/golden`` without ``.json``, if there is one.
      shift_invariant: adding a number to all logits of an example changes nothing.
      convex: in the logits.
      lower: a bound that no value goes below.
      upper: a bound that no value exceeds, if there is one.
      calibrated: minimising it recovers the class with the largest probability.
      proper: minimising it recovers the probabilities, as the softmax of the logits
        (the sigmoid, for kind ``elementwise``).
      label_only: a function of the label's log-probability, so exact at any margin.
      where: takes ``where``, and hiding a class equals deleting it.
      symmetric: permuting classes and labels together changes nothing.
      smooth: twice differentiable at almost all points.
      rtol: stated relative error in float32 (``max|a - b| / max|b|``).
      gathers: why the compiled program moves a logits-sized array when classes are
        sharded, for the few losses that must.
      cost: why value and gradient, at 4096 x 32000, hold more than one array of the
        logits' size or take more than 1.3 times optax's cross-entropy with
        distributions, for the losses that do.
      note: anything a reader of the table should know.
      shape: a small logits' shape that suits the loss, if not 4 examples of 5 classes.
        The number of examples is not that of classes, and no other axis has either.
      surrogate: why the gradient is not the derivative of the value (a stop-gradient,
        a relaxation), for the few losses where it is not.
      tokens: the last axis holds tokens of sequences, not classes: what stands for the
        logits is one number for each token, and ``mask`` is about tokens.
    """

    loss: Callable
    kind: Kind
    make: Callable[[jax.Array, tuple[int, ...], Any], tuple]
    source: str
    hyper: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    golden: str | None = None
    shift_invariant: bool = True
    convex: bool = False
    lower: float | None = 0.0
    upper: float | None = None
    calibrated: bool = False
    proper: bool = False
    label_only: bool = False
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
