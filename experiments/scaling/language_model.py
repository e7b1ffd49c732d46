"""A decoder language model, trained through its head without an array of all logits.

The same command trains bytes on a laptop and a billion parameters on a pod: parameters
lie where the rules of ``config.sharding`` say, hidden states are spread by rows, and
the vocabulary over the mesh's axis ``model``, if it has one.

With ``config.divergence`` a teacher of its own size learns the text beside it, and the
decoder learns from the teacher alone, again without an array of logits. With
``config.preference`` it learns from pairs alone: how the text goes on, and what stands
elsewhere, against a reference that learns the text beside it.

Source: LLaMA, Touvron et al. 2023, arXiv:2302.13971.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import NamedSharding
from jax.sharding import PartitionSpec as P

from experiments.scaling import _text
from logitlab import heads, losses, metrics, models, report
from logitlab.train import Compute, Run, Study, arm_configs, log_points, pick
from logitlab.train.config import check_name

DTYPES = ("bfloat16", "float32")
PASSES = {"label": heads.linear_label_loss, "rows": heads.linear_loss}
BITS, PREFERRED = "validation/bits_per_byte", "validation/preferred"


def build(config) -> Study:
    """The study of one variant; nothing here trains, writes or prints."""
    arms = arm_configs(config)
    runs = {name: _run(arm) for name, arm in arms.items()}
    text = _text.corpus(config.data)
    bigram = Compute(lambda key: {"bits_per_byte": _text.bigram_bits(text)})
    return Study(
        arms={**runs, "bigram": bigram},
        figures={"loss": report.curves("validation/nll", "validation/accuracy")},
        claims=_claims(config),
        labels={name: arm.label or name for name, arm in arms.items()},
        title="A decoder language model",
        summary=(
            f"A decoder-only transformer over {text.name}, "
            f"{config.data.bytes_per_token} byte(s) a token. Loss and accuracy come "
            "from one pass of the head, which makes no array of all logits."
        ),
        captions={"loss": "Negative log-likelihood in nats a token, and accuracy."},
    )


def _claims(config):
    """Those that the config has tolerances for."""
    judged = config.judged

    def below_bigram(bound):
        return report.Claim(
            text="a byte costs the decoder fewer bits than counts of pairs do",
            reference="it sees more than the one byte before",
            ours=lambda results: (
                results[judged].final(BITS) - results["bigram"]["bits_per_byte"][0]
            ),
            at_most=bound,
            unit="bits",
            needs=(judged, "bigram"),
        )

    def preferred(bound):
        return report.Claim(
            text="the reward tells how held-out text goes on from what is elsewhere",
            reference="half of the pairs by chance",
            ours=lambda results: results[judged].final(PREFERRED),
            at_least=bound,
            unit="of the pairs",
            needs=(judged,),
        )

    claims = dict(below_bigram=below_bigram, preferred=preferred)
    return [claims[name](bound) for name, bound in config.tolerances.items() if judged]


def _run(config) -> Run:
    c = config.data
    pairs = bool(config.preference)
    for name, least in (("context", 2 if pairs else 1), ("windows", 1)):
        if c[name] < least:
            raise ValueError(
                f"config.data.{name} is {c[name]}, expected at least {least}"
            )
    if pairs and config.divergence:
        raise ValueError(
            f"config.preference is {config.preference!r} and config.divergence "
            f"{config.divergence!r}, expected at most one of them"
        )
    with_teacher = pairs or bool(config.divergence)
    if with_teacher and config.teacher.tied != config.model.tied:
        raise ValueError(
            f"config.teacher.tied is {config.teacher.tied}, expected that of the model"
        )
    model, loss_of = _model(config.model, c), _objective(config)
    teacher = _model(config.teacher, c) if with_teacher else None
    loss_of_pairs = pick(losses, config.preference) if pairs else None

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
        tokens = batch["tokens"]
        if teacher is None:
            operands, options = _head(model, params, tokens)
            return loss_of(*operands, **options).mean(-1)
        theirs, options = _head(teacher, params["teacher"], tokens)
        its_own = loss_of(*theirs, **options).mean(-1)
        if pairs:
            return preferred(params, batch)[0] + its_own
        (hidden, kernel, _), _ = _head(model, params["student"], tokens)
        learnt = heads.fused_linear_distillation(
            hidden,
            kernel,
            heads.Linear(*jax.lax.stop_gradient(theirs[:2])),
            divergence=config.divergence,
            **options,
        )
        return learnt.mean(-1) + its_own

    def preferred(params, batch):
        """Losses of pairs, and whether the model's reward ranks them."""
        logps = []
        for network, own in ((model, "student"), (teacher, "teacher")):
            for tokens in (batch["tokens"], batch["rejected"]):
                operands, options = _head(network, params[own], tokens)
                mask = jnp.broadcast_to(
                    jnp.arange(c.context) >= c.context // 2, operands[-1].shape
                )
                logps.append(heads.sequence_log_prob(*operands, mask=mask, **options))
        mine, references = logps[:2], jax.lax.stop_gradient(logps[2:])
        margin = (mine[0] - references[0]) - (mine[1] - references[1])
        return loss_of_pairs(*mine, *references), margin > 0

    def evaluate(params, parts):
        held = parts["validation"]
        operands, options = _head(model, student_of(params), held["tokens"])
        stats = heads.linear_label_stats(*operands, **options)
        nll = metrics.mean_of(-stats.log_prob)
        found = {
            "validation/nll": nll,
            "validation/accuracy": metrics.mean_of(stats.argmax == operands[-1]),
            BITS: nll.value / (np.log(2) * c.bytes_per_token),
        }
        if pairs:
            found[PREFERRED] = metrics.mean_of(preferred(params, held)[1])
        return found

    return Run(
        init=init,
        loss=loss,
        data=_text.batches(c, config.batch_size, pairs=pairs),
        optimizer=_optimizer(config.optim, config.steps),
        evaluate=evaluate,
        steps=config.steps,
        evaluate_at=log_points(config.steps, config.evaluate_per_decade),
        show=("validation/nll",),
    )


def _model(config, data):
    check_name(config.dtype, DTYPES, "config.model.dtype")
    settings = {**config, "dtype": jnp.dtype(config.dtype)}
    vocabulary = _text.vocabulary(data.bytes_per_token)
    return models.Decoder(vocabulary, **settings, layout=_rows_over_data)


def _head(model, params, tokens):
    """Features, kernel and labels of a decoder's head, and what else it has to know."""
    hidden = model.apply({"params": params}, tokens[:, :-1], features=True)
    kernel, transposed = model.head(params)
    options = dict(transposed=transposed, **_axes(hidden))
    return (hidden, kernel, tokens[:, 1:]), options


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
