"""How does cross-entropy fall with size, data and compute, and which part of it does?

Byte language models of many sizes are trained on many amounts of text, each run with a
learning rate that ends at zero, and a law is fitted to where they end. It is judged by
larger runs that it has not seen. Cross-entropy is also split into error-entropy,
self-alignment and confidence, of which the first is said to be what follows the law.

Source: Kaplan et al. 2020, arXiv:2001.08361; Hoffmann et al. 2022, arXiv:2203.15556;
What Scales in Cross-Entropy Scaling Law?, Yan et al. 2025, arXiv:2510.04067.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.scaling import _figures as drawn
from experiments.scaling._claims import claims_of
from experiments.scaling._points import Point
from logitlab import data, links, losses, metrics, models, numerics, transforms
from logitlab.train import Compute, Run, Study, arm_configs, log_points, pick
from logitlab.train.config import check_name

MODELS = ("CausalTransformer", "WindowMLP")
DTYPES = ("bfloat16", "float32")


def build(config) -> Study:
    """The study of one variant; nothing here trains, writes or prints."""
    arms = arm_configs(config)
    runs = {name: _run(arm) for name, arm in arms.items()}
    points = [_point(name, arm, runs[name]) for name, arm in arms.items()]
    for series in {point.series for point in points}:
        check_name(series, config.order, "config.order")
    points.sort(key=lambda p: (config.order.index(p.series), p.tokens, p.width))
    text = _text(config.data.folder)
    figures, captions = drawn.figures_of(config, points)
    sizes = {
        "text/train_bytes": float(len(text.train)),
        "text/validation_bytes": float(len(text.validation)),
    }
    return Study(
        arms={**runs, "text": Compute(lambda key: sizes)},
        figures=figures,
        claims=claims_of(config, points),
        labels={name: arm.label or name for name, arm in arms.items()}
        | {"text": f"the text, SHA-256 {text.sha256[:16]}"},
        title="What scales in cross-entropy",
        summary=(
            "Language models over bytes, on the source of Python's standard library "
            f"(SHA-256 of the text {text.sha256}). D counts the bytes predicted in "
            "training, N all parameters; cross-entropy is the mean in nats over the "
            f"same {config.data.positions:,} positions of files not trained on."
        ),
        captions=captions,
    )


def _run(config) -> Run:
    c = config.data
    for name, least in (("context", 1), ("positions", 1), ("classes", 2)):
        if c[name] < least:
            raise ValueError(
                f"config.data.{name} is {c[name]}, expected at least {least}"
            )
    model = _model(config)
    everywhere = config.model.name == "CausalTransformer"  # predicts at each position
    per_step = config.batch_size * (c.context if everywhere else 1)
    steps = config.tokens // per_step
    if steps < 1:
        raise ValueError(
            f"config.tokens is {config.tokens}, expected at least {per_step}, which "
            "one step takes"
        )
    scores, loss_of = _objective(config.loss)

    def init(key):
        return model.init(key, jnp.zeros((1, c.context), jnp.int32))["params"]

    def loss(params, batch, key):
        x, y = draw_windows(batch, key, c.context, everywhere)
        values = loss_of(model.apply({"params": params}, x), y)
        return values.reshape(len(x), -1).mean(-1)

    def evaluate(params, parts):
        chunks = jax.tree.map(
            lambda a: a.reshape(-1, c.chunk, *a.shape[1:]), parts["validation"]
        )

        def logits(x):
            return model.apply({"params": params}, x)

        def temperature():
            z = jax.lax.map(logits, chunks["x"])
            y = chunks["y"].astype(jnp.int32)
            return transforms.fit_temperature(z, y).temperature

        t = temperature() if config.loss.squared else 1.0

        def judge(chunk):
            z = scores(logits(chunk["x"])) / t
            z, y = z.astype(_widest()), chunk["y"].astype(jnp.int32)
            nll = numerics.label_nll(z, y)
            return metrics.mean_of(nll), metrics.rank_stats(z, y)

        sums = jax.tree.map(lambda a: a.sum(0), jax.lax.map(judge, chunks))
        ce, terms = sums[0].value, sums[1].value
        ee, sa = terms["error_entropy"], terms["self_alignment"]
        log_c = terms["log_confidence"]
        return {
            "validation/ce": ce,
            "validation/bits": ce / np.log(2),
            "validation/error_entropy": ee,
            "validation/self_alignment": sa,
            "validation/log_confidence": log_c,
            "validation/identity_error": jnp.abs(ee + sa - log_c - ce),
        }

    return Run(
        init=init,
        loss=loss,
        data=_source(
            c.folder,
            c.context,
            c.classes,
            c.positions,
            c.chunk,
            c.seed,
            everywhere,
            config.batch_size,
        ),
        optimizer=_optimizer(config.optim, steps),
        evaluate=evaluate,
        steps=steps,
        evaluate_at=log_points(steps, config.evaluate_per_decade),
        show=("validation/ce",),
    )


def _model(config):
    c = config.model
    check_name(c.name, MODELS, "config.model.name")
    check_name(c.dtype, DTYPES, "config.model.dtype")
    common = dict(vocabulary=256, classes=config.data.classes, width=c.width)
    if c.name == "WindowMLP":
        return models.WindowMLP(**common, embedding=c.embedding)
    return models.CausalTransformer(
        **common,
        layers=c.layers,
        heads=c.heads,
        context=config.data.context,
        dtype=jnp.dtype(c.dtype),
    )


def _point(name, config, run):
    """What the law has to know of a run; N is counted, not computed."""
    params = jax.eval_shape(run.init, jax.random.key(0))
    sizes = {k: sum(a.size for a in jax.tree.leaves(v)) for k, v in params.items()}
    return Point(
        arm=name,
        series=config.series,
        width=config.model.width,
        parameters=sum(sizes.values()),
        without_embedding=sum(sizes.values()) - sizes["embedding"],
        tokens=config.tokens,
        held_out=config.held_out,
    )


def _objective(config):
    """logits -> scores whose softmax the objective means; (logits, labels) -> losses.

    The comp-sum loss of tau is least in expectation where the softmax is proportional
    to the probabilities to the power 1 / (2 - tau): (2 - tau) times the logits are the
    log-probabilities that it has learned. For the cross-entropy, tau is 1. Outputs that
    the squared error brings close to one-hot labels are scores up to a temperature.
    """
    if config.squared:
        return lambda z: z, _squared_error
    if not 0 <= config.tau < 2:
        raise ValueError(f"config.loss.tau is {config.tau}, expected it in [0, 2)")
    if not config.temperature > 0:
        raise ValueError(
            f"config.loss.temperature is {config.temperature}, expected above 0"
        )
    pure = pick(links, config.link) if config.link else lambda logits: logits

    def link(logits):
        return pure(logits / config.temperature)

    def scores(logits):
        return (2 - config.tau) * link(logits)

    def loss_of(logits, labels):
        if config.tau == 1:
            return losses.cross_entropy(link(logits), labels)
        return losses.comp_sum_loss(link(logits), labels, tau=config.tau)

    return scores, loss_of


def _squared_error(logits, labels):
    targets = jax.nn.one_hot(labels, logits.shape[-1], dtype=logits.dtype)
    return losses.logit_mse_loss(logits, targets)


def _optimizer(config, steps):
    """Adam; rate and length are part of its state, so all lengths share a program."""

    def make(learning_rate, steps):
        warm = jnp.maximum(1.0, config.warmup * steps)

        def rate(count):
            left = (steps - count) / jnp.maximum(1.0, steps - warm)
            return learning_rate * jnp.clip(jnp.minimum((count + 1) / warm, left), 0, 1)

        return optax.adam(rate, b1=config.b1, b2=config.b2)

    settings = dict(learning_rate=config.learning_rate, steps=float(steps))
    return optax.inject_hyperparams(make, hyperparam_dtype=jnp.float32)(**settings)


def draw_windows(batch, key, context, everywhere):
    """A window from a random place of each row, and what follows it: x, y.

    Every row of a batch is a share of the text, so that a mesh which splits the rows
    splits the text, and no device needs another's.
    """
    rows, length = batch["text"].shape
    start = jax.random.randint(key, (rows,), 0, length - context, jnp.int32)

    @functools.partial(jax.vmap, in_axes=(0, 0, None))
    def cut(row, start, width):
        return jax.lax.dynamic_slice_in_dim(row, start, width)

    x = cut(batch["text"], start, context)
    if everywhere:  # what follows every byte of the window
        return x, cut(batch["classes"], start + 1, context).astype(jnp.int32)
    return x, cut(batch["classes"], start + context, 1)[:, 0].astype(jnp.int32)


def _widest():
    return jnp.result_type(float)  # float64 under x64


@functools.cache
def _text(folder):
    return data.standard_library_bytes(folder)


@functools.cache
def _source(folder, context, classes, positions, chunk, seed, everywhere, rows):
    """Text in as many rows as a batch has, so that a mesh splits both alike."""
    text = _text(folder)
    table = class_table(text.train, classes)
    parts = {name: getattr(text, name) for name in ("train", "validation")}
    labels = {name: _classes(part, table) for name, part in parts.items()}
    length = (len(parts["train"]) - 1) // rows
    if length <= context:
        raise ValueError(
            f"the text has {len(parts['train'])} bytes, expected {rows} rows of more "
            f"than config.data.context, {context}"
        )
    windows, odd = divmod(positions, context if everywhere else 1)
    if odd or windows % chunk:
        raise ValueError(
            f"config.data.positions is {positions}, expected whole chunks of "
            f"{chunk} windows"
        )
    train = {
        "text": parts["train"][: rows * length].reshape(rows, length),
        "classes": labels["train"][: rows * length].reshape(rows, length),
    }
    places = np.random.default_rng(seed).integers(
        0, len(parts["validation"]) - context - 1, windows
    )
    window = places[:, None] + np.arange(context)
    validation = {
        "x": parts["validation"][window],
        "y": labels["validation"][window + 1 if everywhere else places + context],
    }
    return {
        "train": jax.tree.map(jnp.asarray, train),
        "validation": jax.tree.map(jnp.asarray, validation),
    }


def class_table(text, classes):
    """The class of a byte that another follows, int [256, 256]: nested, by frequency.

    For 256 classes it is the byte itself. Fewer are the most frequent bytes, and one
    class for all others; with more, each of the most frequent pairs is a class of its
    own, apart from that of its first byte.
    """
    first = np.broadcast_to(np.arange(256, dtype=np.uint16)[:, None], (256, 256))
    if classes <= 256:
        order = np.argsort(-np.bincount(text, minlength=256), kind="stable")
        table = np.full(256, classes - 1, np.uint16)
        table[order[: classes - 1]] = np.arange(classes - 1)
        return first if classes == 256 else table[first]
    pairs = np.bincount(256 * text[:-1].astype(int) + text[1:], minlength=256**2)
    table = first.flatten()
    often = np.argsort(-pairs, kind="stable")[: classes - 256]
    table[often] = np.arange(256, classes)
    return table.reshape(256, 256)


def _classes(text, table):
    return table[text, np.append(text[1:], 0)]
