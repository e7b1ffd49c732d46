"""What the studies of distillation share: rows, networks, trainings, paired gains."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import linen as nn

from experiments.common import claims, datasets
from logitlab import metrics, models, optim, report
from logitlab.train import Run, advance, init_state, make_step
from logitlab.train.config import pick
from logitlab.train.feeds import sample_feed, whole_feed


class Network(nn.Module):
    """ReLU network of He's weights, with a second head on one of its layers.

    All students of a study have both heads, and so the same start, whichever they
    learn by.
    """

    widths: Sequence[int]
    outputs: int
    aux_layer: int = -1

    @nn.compact
    def __call__(self, x):
        """Logits of the main head, which predicts, and of the other."""
        layers = []
        for i, width in enumerate(self.widths):
            init = nn.initializers.he_normal()
            x = nn.relu(nn.Dense(width, kernel_init=init, name=f"hidden_{i}")(x))
            layers.append(x)
        return models.DualHead(self.outputs, name="heads")(x, layers[self.aux_layer])


class WithWeakHead(NamedTuple):
    """A network of images [H, W] given as rows, with a second head on a middle layer.

    Attributes:
      network: a model of ``logitlab.models`` that sows its features.
      image: H and W.
      features: the name under which it sows them.
      outputs: of either head.
    """

    network: nn.Module
    image: tuple[int, int]
    features: str
    outputs: int

    def init(self, key, x):
        """The parameters of the network, and of the weak head."""
        params = self.network.init(key, self._images(x))["params"]
        _, features = self._seen(params, x)
        shape = features.shape[-1], self.outputs
        kernel = nn.initializers.lecun_normal()(jax.random.fold_in(key, 1), shape)
        weak = {"kernel": kernel, "bias": jnp.zeros(self.outputs)}
        return {"params": {"network": params, "weak": weak}}

    def apply(self, variables, x):
        """Logits of the network, and of the weak head."""
        network, weak = (variables["params"][name] for name in ("network", "weak"))
        logits, features = self._seen(network, x)
        return logits, features @ weak["kernel"] + weak["bias"][None]

    def _images(self, x):
        return x.reshape(-1, *self.image)

    def _seen(self, params, x):
        """Logits, and the features of the last stage but one."""
        logits, kept = self.network.apply(
            {"params": params}, self._images(x), mutable="intermediates"
        )
        return logits, kept["intermediates"][self.features][-2]


def network(settings, outputs):
    """The student's network: a dense one, or what ``settings.network`` names."""
    if "network" not in settings:
        return Network(tuple(settings.widths), outputs, settings.aux_layer)
    model = pick(models, **settings.network)(classes=outputs)
    return WithWeakHead(model, tuple(settings.image), settings.features, outputs)


def load(config):
    """All rows of a data set, features scaled and centred, and their labels.

    Raises:
      ValueError: ``seen``, ``known`` and the number of rows are not in this order.
    """
    x, y = datasets.all_rows(config.name, config.data_dir, config.scale)
    if not 1 <= config.seen <= config.known < y.size:
        raise ValueError(
            f"config.data has seen={config.seen}, known={config.known}, expected 1 <= "
            f"seen <= known < {y.size} rows"
        )
    return x, y


def shuffled(rows, key):
    """The rows in another order: a seed's first ``known`` are for training."""
    order = jax.random.permutation(key, len(rows["y"]))
    return {name: a[order] for name, a in rows.items()}


def first(rows, count):
    """The first rows."""
    return {name: a[:count] for name, a in rows.items()}


def beyond(rows, count):
    """The others."""
    return {name: a[count:] for name, a in rows.items()}


def fit(config, model, loss, rows, key):
    """Parameters after a training inside of another program, for a teacher."""
    adam = optimizer(config)
    state = init_state(_init(model, rows["x"]), adam, key)
    feed = sample_feed(config.batch_size) if config.batch_size else whole_feed()
    go = advance(make_step(loss, adam), feed, stops=False)
    return go(state, rows, config.steps)[0].params


def student(
    config,
    model: Network | WithWeakHead,
    draw: Callable,
    inputs: int,
    objective: Callable,
    *,
    classes: int,
    aligned: bool = False,
    more: Callable[..., Mapping] | None = None,
) -> Run:
    """A student's training.

    Args:
      config: of the study; ``student`` and ``evaluate_at`` count.
      model: the network.
      draw: key -> data with ``train`` and ``test``; the same function for all arms,
        which then draw once.
      inputs: features of a row.
      objective: (logits of both heads, batch) -> two losses for each row, what the
        labels ask for and what the teacher does; their sum is minimised.
      classes: outputs that predict, the first ones.
      aligned: the second gradient goes without its part against the first.
      more: (logits of both heads over the training rows, params, data) -> numbers to
        report besides the test accuracy.
    """

    def both(params, batch):
        return objective(model.apply({"params": params}, batch["x"]), batch)

    def loss(params, batch, key):
        del key
        labels, teacher = both(params, batch)
        if not aligned:
            return labels + teacher
        grads = [
            jax.grad(lambda p, i=i: both(p, batch)[i].mean())(params) for i in (0, 1)
        ]
        return _with_gradient(labels + teacher, params, optim.align_gradients(*grads))

    def evaluate(params, held):
        main, _ = model.apply({"params": params}, held["test"]["x"])
        numbers = {
            "test/accuracy": metrics.accuracy(main[:, :classes], held["test"]["y"])
        }
        if more is not None:
            outputs = model.apply({"params": params}, held["train"]["x"])
            numbers |= more(outputs, params, held)
        return numbers

    settings = config.student
    return Run(
        init=_init(model, jnp.zeros((1, inputs))),
        loss=loss,
        data=draw,
        optimizer=optimizer(settings),
        evaluate=evaluate,
        steps=settings.steps,
        batch_size=settings.batch_size or None,
        evaluate_at=config.evaluate_at,
        show=("test/accuracy",),
    )


def _init(model, x):
    return lambda key: model.init(key, x[:1])["params"]


def optimizer(config, learning_rate=None):
    """AdamW, whose rate goes to 0 along a cosine; the config's unless one is given."""
    rate = config.learning_rate if learning_rate is None else learning_rate
    rate = optax.cosine_decay_schedule(rate, max(1, config.steps))
    return optax.adamw(rate, weight_decay=config.weight_decay)


def _with_gradient(losses, params, grads):
    """The same losses; their mean has these gradients."""
    still = jax.lax.stop_gradient
    moved = jax.tree.map(lambda g, p: (still(g) * (p - still(p))).sum(), grads, params)
    return still(losses) + sum(jax.tree.leaves(moved))


def ahead(text, arm, other, by, **source) -> report.Claim:
    """An arm is ahead of another on average; ``source`` says who says so."""
    return _points(text, arm, other, at_least=by, over="mean", **source)


def wins(text, arm, other, share, **source) -> report.Claim:
    """It is ahead in most seeds."""
    return _points(text, arm, other, above=0.0, over="share", share=share, **source)


def _points(text, arm, other, **claim):
    return claims.ahead(
        text, "test/accuracy", arm, other, scale=100, unit="points", **claim
    )


def table(base):
    """Rows of accuracies and gains over an arm, for :class:`logitlab.train.Study`."""

    def rows(results):
        trained = [name for name, arm in results.items() if "test/accuracy" in arm]
        accuracy = {name: results[name].final("test/accuracy") for name in trained}
        out = []
        for name in sorted(trained, key=lambda name: -accuracy[name].mean()):
            points = report.ahead("test/accuracy", name, base, scale=100)(results)
            error = points.std(ddof=1) / points.size**0.5 if points.size > 1 else np.nan
            out.append(
                {
                    "method": results[name].label,
                    "accuracy": f"{100 * accuracy[name].mean():.2f}",
                    "gain": f"{points.mean():+.2f}",
                    "standard error": f"{error:.2f}",
                    "seeds won": f"{(points > 0).sum()}/{points.size}",
                }
            )
        return out

    return rows
