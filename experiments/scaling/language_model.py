"""A decoder language model, trained through its head without an array of all logits.

The same command trains bytes on a laptop and a billion parameters on a pod: parameters
lie where the rules of ``config.sharding`` say, hidden states are spread by rows, and
the vocabulary over the mesh's axis ``model``, if it has one.

With ``config.divergence`` a teacher of its own size learns the text beside it, and the
decoder learns from the teacher alone, again without an array of logits.

Source: LLaMA, Touvron et al. 2023, arXiv:2302.13971.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from logitlab import data, heads, losses, metrics, models, report
from logitlab.train import Compute, Run, Stream, Study, arm_configs, log_points, pick
from logitlab.train.config import check_name

DTYPES = ("bfloat16", "float32")
PASSES = {"label": heads.linear_label_loss, "rows": heads.linear_loss}
BITS = "validation/bits_per_byte"


def build(config) -> Study:
    """The study of one variant; nothing here trains, writes or prints."""
    arms = arm_configs(config)
    runs = {name: _run(arm) for name, arm in arms.items()}
    text = _text(config.data.folder)
    claims = []
    if config.judged:
        claims = [
            report.Claim(
                text="a byte costs the decoder fewer bits than counts of pairs do",
                reference="it sees more than the one byte before",
                ours=lambda results: (
                    results[config.judged].final(BITS)
                    - results["bigram"]["bits_per_byte"][0]
                ),
                at_most=config.tolerances.below_bigram,
                unit="bits",
                needs=(config.judged, "bigram"),
            )
        ]
    bigram = Compute(lambda key: {"bits_per_byte": bigram_bits(text)})
    return Study(
        arms={**runs, "bigram": bigram},
        figures={"loss": report.curves("validation/nll", "validation/accuracy")},
        claims=claims,
        labels={name: arm.label or name for name, arm in arms.items()},
        title="A decoder language model",
        summary=(
            "A decoder-only transformer over the source of Python's standard library "
            f"(SHA-256 of the text {text.sha256}), {config.data.bytes_per_token} "
            "byte(s) a token. Loss and accuracy come from one pass of the head, which "
            "makes no array of all logits."
        ),
        captions={"loss": "Negative log-likelihood in nats a token, and accuracy."},
    )


def _run(config) -> Run:
    c = config.data
    for name, least in (("context", 1), ("windows", 1)):
        if c[name] < least:
            raise ValueError(
                f"config.data.{name} is {c[name]}, expected at least {least}"
            )
    if config.divergence and config.teacher.tied != config.model.tied:
        raise ValueError(
            f"config.teacher.tied is {config.teacher.tied}, expected that of the model"
        )
    model, loss_of = _model(config.model, c), _objective(config)
    teacher = _model(config.teacher, c) if config.divergence else None

    def init(key):
        def start(model, key):
            return model.init(key, jnp.zeros((1, c.context), jnp.int32))["params"]

        student = start(model, key)
        if teacher is None:
            return student
        return {
            "student": student,
            "teacher": start(teacher, jax.random.fold_in(key, 1)),
        }

    def student_of(params):
        return params if teacher is None else params["student"]

    def loss(params, batch, key):
        del key  # windows are drawn on the host
        operands, options = _head(model, student_of(params), batch["tokens"])
        if teacher is None:
            return loss_of(*operands, **options).mean(-1)
        hidden, kernel, labels = operands
        theirs, _ = _head(teacher, params["teacher"], batch["tokens"])
        learnt = heads.fused_linear_distillation(
            hidden,
            kernel,
            heads.Linear(*jax.lax.stop_gradient(theirs[:2])),
            divergence=config.divergence,
            **options,
        )
        return (learnt + loss_of(*theirs, **options)).mean(-1)

    def evaluate(params, parts):
        tokens = parts["validation"]["tokens"]
        operands, options = _head(model, student_of(params), tokens)
        stats = heads.linear_label_stats(*operands, **options)
        nll = metrics.mean_of(-stats.log_prob)
        return {
            "validation/nll": nll,
            "validation/accuracy": metrics.mean_of(stats.argmax == operands[-1]),
            BITS: nll.value / (np.log(2) * c.bytes_per_token),
        }

    return Run(
        init=init,
        loss=loss,
        data=_data(c, config.batch_size),
        optimizer=_optimizer(config.optim, config.steps),
        evaluate=evaluate,
        steps=config.steps,
        evaluate_at=log_points(config.steps, config.evaluate_per_decade),
        show=("validation/nll",),
    )


def _model(config, data):
    check_name(config.dtype, DTYPES, "config.model.dtype")
    settings = {**config, "dtype": jnp.dtype(config.dtype)}
    vocabulary = _vocabulary(data.bytes_per_token)
    return models.Decoder(vocabulary, **settings, layout=_rows_over_data)


def _head(model, params, tokens):
    """Features, kernel and labels of a decoder's head, and what else it has to know."""
    hidden = model.apply({"params": params}, tokens[:, :-1], features=True)
    kernel, transposed = model.head(params)
    options = dict(transposed=transposed, **_axes(hidden))
    return (hidden, kernel, tokens[:, 1:]), options


def _vocabulary(bytes_per_token):
    if bytes_per_token not in (1, 2):
        raise ValueError(
            f"config.data.bytes_per_token is {bytes_per_token}, expected 1 or 2"
        )
    return 256**bytes_per_token


def _objective(config):
    """(hidden, kernel, labels) -> losses, by the head's own pass.

    One that needs only the probability of the label takes the vocabulary in blocks, any
    other takes tokens in chunks, of whole rows.
    """
    check_name(config.head, PASSES, "config.head")
    return functools.partial(PASSES[config.head], pick(losses, **config.loss))


def _mesh(array):
    """The mesh that a program of several devices is compiled for, or None."""
    mesh = jax.typeof(array).sharding.mesh
    return None if mesh.empty or mesh.size == 1 else mesh


def _rows_over_data(hidden):
    """Hidden states with their rows spread, so that parameters move and not they."""
    mesh = _mesh(hidden)
    if mesh is None or hidden.shape[0] % mesh.shape["data"]:
        return hidden
    return jax.lax.with_sharding_constraint(hidden, NamedSharding(mesh, P("data")))


def _axes(hidden):
    """What a head has to know of the mesh."""
    mesh = _mesh(hidden)
    if mesh is None:
        return {}
    classes = "model" if "model" in mesh.axis_names else None
    return dict(axis_name=classes, batch_axes="data")


def _optimizer(config, steps):
    """AdamW with clipped gradients, a warm-up, and a cosine down to zero."""
    warm = max(1, round(config.warmup * steps))
    rate = optax.warmup_cosine_decay_schedule(
        0.0, config.learning_rate, warm, max(steps, warm + 1)
    )

    def decayed(params):
        is_kernel = lambda path, _: "scale" not in jax.tree_util.keystr(path)  # noqa: E731
        return jax.tree_util.tree_map_with_path(is_kernel, params)

    return optax.chain(
        optax.clip_by_global_norm(config.clip),
        optax.adamw(
            rate,
            b1=config.b1,
            b2=config.b2,
            weight_decay=config.weight_decay,
            mask=decayed,
        ),
    )


@functools.cache
def _text(folder):
    return data.standard_library_bytes(folder)


def tokens_of(text, bytes_per_token):
    """Each byte, or each two in a row, as one number: [n] -> [n // bytes_per_token]."""
    whole = text[: len(text) // bytes_per_token * bytes_per_token]
    return whole.view(f">u{bytes_per_token}")


def _data(config, batch_size):
    """Streamed windows of the training text, and held ones of the other."""
    text = _text(config.folder)
    train, held = (
        tokens_of(part, config.bytes_per_token)
        for part in (text.train, text.validation)
    )
    if min(len(train), len(held)) <= config.context + 1:
        raise ValueError(
            f"the text has {len(train)} and {len(held)} tokens, expected more than "
            f"config.data.context, {config.context}, and one"
        )
    if batch_size % jax.process_count():
        raise ValueError(
            f"config.batch_size is {batch_size}, expected a multiple of the "
            f"{jax.process_count()} processes"
        )

    def windows(tokens, count, *seed):
        starts = np.random.default_rng(seed).integers(
            0, len(tokens) - config.context - 1, count
        )
        return lambda rows: tokens[
            starts[rows, None] + np.arange(config.context + 1)
        ].astype(np.int32)

    share = batch_size // jax.process_count()
    mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)

    def batches(step):
        while True:
            yield {"tokens": windows(train, batch_size, config.seed, 1, step)(mine)}
            step += 1

    validation = windows(held, config.windows, config.seed, 0)(slice(None))
    return {
        "train": Stream(batches, ahead=config.ahead),
        "validation": {"tokens": validation},
    }


def bigram_bits(text):
    """Bits that a byte of the validation text costs, given the one before.

    By the counts of the training text, each plus one.
    """
    counts = np.ones((256, 256))
    np.add.at(counts, (text.train[:-1], text.train[1:]), 1)
    cost = -np.log2(counts / counts.sum(-1, keepdims=True))
    return cost[text.validation[:-1], text.validation[1:]].mean()
