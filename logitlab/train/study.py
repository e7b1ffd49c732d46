"""Study, Run and Compute: an experiment's arms, figures and claims.

A module of ``experiments`` has ``build(config) -> Study``; nothing in it trains, writes
or prints. Figures and claims are functions of the results of all arms and seeds.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import optax

Batch = Mapping[str, jax.Array]
"""Arrays with one row per example; a bool ``mask`` says which rows count."""


@dataclasses.dataclass(frozen=True)
class Stream:
    """Training batches that come from the host.

    Attributes:
      batches: takes a step and returns an iterator whose first batch is that step's,
        so that a resumed run sees what the interrupted one would have seen.
      ahead: batches that go to the device in one dispatch.
    """

    batches: Callable[[int], Iterator[Batch]]
    ahead: int = 32


@dataclasses.dataclass(frozen=True)
class Run:
    """A training run, for any number of seeds.

    Attributes:
      init: key -> parameters, a pytree.
      loss: (params, batch, key) -> losses [B], one for each row of the batch, of which
        a step descends the mean; with ``from_optimizer`` it takes the extracted value
        as a fourth argument. For a mean over tokens it returns a pair (sums [B], counts
        [B]): each row's sum over its tokens, and their number. Any other shape raises,
        see :func:`logitlab.train.make_step`.
      data: ``{"train": batch, ...}``, or a function from a key to it where each seed
        draws its own; runs in a row with the same function draw once. ``"train"`` may
        be a :class:`Stream`.
      optimizer: an optax transformation, or a function of a key that makes one, where
        its state starts at random: each seed's is then another.
      evaluate: (params, data) -> named :class:`~logitlab.metrics.Mean` or scalars,
        floats, integers or bools; a metric may not be called ``arm``, ``seed`` or
        ``step``, nor ``skipped`` where steps that are not finite are skipped.
      steps: updates of the parameters.
      batch_size: rows per update, drawn without replacement within an epoch; ``None``
        takes all of them. A stream brings its own.
      evaluate_at: the steps at which to evaluate, 0 and the last included or not.
      from_optimizer: extracts from the optimizer's state the value that ``loss`` takes
        as its fourth argument, such as the reference of :func:`logitlab.optim.xgd`. No
        gradient passes through it.
      extra_args: (params, batch, key) -> further arguments of the optimizer's
        ``update``, for what needs more than a gradient: the logits' derivative along a
        step, a surrogate's inner loop, see :func:`logitlab.train.make_step`.
      stop: takes the numbers of one evaluation of one seed; true ends that seed, and
        words say why, ``"95 % reached"``.
      show: the metrics that the progress bar shows, of which there is room for two.
      inputs: the entries of a batch that the model computes with, whose dtype a
        precision policy sets.
      untrained: entries of the parameters that the model computes itself, such as batch
        statistics. ``loss`` then returns a pair, what it returns without them and a
        mapping of their new values, see :func:`logitlab.train.make_step`.
      best: the metric by whose best value each seed's parameters are kept too, and come
        back in a result's ``best_arrays``.
      best_by: ``min`` or ``max``.
      patience: a seed ends after that many evaluations without a better ``best``.
      values: hyper-parameters that vary within a sweep, numbers.
      at: builds the run of such values. Runs of a study with the same ``at`` train in
        one compiled program, if it takes traced values; otherwise each in its own.

    Raises:
      ValueError: ``steps`` is negative, ``evaluate_at`` goes beyond them, ``best_by``
        is neither of the two, or ``patience`` is below 1 or without ``best``.
    """

    init: Callable[[jax.Array], Any]
    loss: Callable[[Any, Batch, jax.Array], jax.Array | tuple[jax.Array, jax.Array]]
    data: Mapping[str, Any] | Callable[[jax.Array], Mapping[str, Any]]
    optimizer: optax.GradientTransformation | Callable[[jax.Array], Any]
    evaluate: Callable[[Any, Mapping[str, Any]], Mapping[str, Any]]
    steps: int
    batch_size: int | None = None
    evaluate_at: Sequence[int] = ()
    from_optimizer: Callable[[Any], Any] | None = None
    extra_args: Callable[[Any, Batch, jax.Array], Mapping[str, Any]] | None = None
    stop: Callable[[Mapping[str, float]], bool | str] | None = None
    show: Sequence[str] = ()
    inputs: Sequence[str] = ("x",)
    untrained: Sequence[str] = ()
    best: str | None = None
    best_by: str = "min"
    patience: int | None = None
    values: Mapping[str, float] = dataclasses.field(default_factory=dict)
    at: Callable[[Mapping[str, Any]], "Run"] | None = None

    def __post_init__(self):
        if self.steps < 0:
            raise ValueError(f"steps is {self.steps}, expected 0 or more")
        if not all(0 <= step <= self.steps for step in self.evaluate_at):
            points = list(self.evaluate_at)
            raise ValueError(f"evaluate_at is {points}, expected 0 to {self.steps}")
        if self.best_by not in ("min", "max"):
            raise ValueError(f"best_by is {self.best_by!r}, expected 'min' or 'max'")
        if self.patience is not None and (self.patience < 1 or self.best is None):
            raise ValueError(
                f"patience is {self.patience} and best {self.best!r}, expected at "
                "least 1 and a metric"
            )


@dataclasses.dataclass(frozen=True)
class Compute:
    """An arm without training: a closed form, a population loss, another library.

    Attributes:
      values: key -> named numbers or arrays, called once for each seed.
    """

    values: Callable[[jax.Array], Mapping[str, Any]]


@dataclasses.dataclass(frozen=True)
class Study:
    """An experiment: its arms, figures and claims.

    Attributes:
      arms: name -> what to train or compute.
      figures: name -> function of the results that draws a figure.
      claims: what is to be judged by the results, see :class:`logitlab.report.Claim`.
      title: heading of the report.
      summary: what the study asks, in a paragraph.
      captions: figure name -> what to see in it.
      labels: arm name -> name in legends, where they differ.
      table: function of the results to rows, what is to be read at the end beside the
        verdicts; it is left in ``table.csv``.
    """

    arms: Mapping[str, Run | Compute]
    figures: Mapping[str, Callable[[Mapping], Any]] = dataclasses.field(
        default_factory=dict
    )
    claims: Sequence[Any] = ()
    title: str = ""
    summary: str = ""
    captions: Mapping[str, str] = dataclasses.field(default_factory=dict)
    labels: Mapping[str, str] = dataclasses.field(default_factory=dict)
    table: Callable[[Mapping], Sequence[Mapping[str, Any]]] | None = None
