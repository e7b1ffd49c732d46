"""Does a sampled softmax learn the frequencies of its classes?

One vector of logits is fitted to labels that follow Zipf's law, from 64 classes that
are drawn for each batch. With the correction by the log of their expected counts it
comes to the frequencies; without it, to these over how often a class is drawn, which is
nearly even.

Sources: Bengio and Senecal 2008; Jean et al. 2015, arXiv:1412.2007.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.references import prototype
from logitlab import heads, losses, report
from logitlab.train import Run, Study

CORRECTED, PLAIN = "corrected", "plain"
LABELS = {CORRECTED: "minus log Q", PLAIN: "as they are"}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    if not 1 <= config.sampled < config.classes:
        raise ValueError(
            f"config.sampled is {config.sampled}, expected 1 to below config.classes, "
            f"{config.classes}"
        )
    return Study(
        arms={name: _run(config, name == CORRECTED) for name in LABELS},
        figures={
            "divergence": report.curves(
                "divergence",
                log_values=True,
                log_steps=False,
                labels={"divergence": "divergence from the truth, nats"},
            )
        },
        claims=_claims(config),
        labels=LABELS,
        title="Sampled softmax with and without its correction",
        summary=(
            f"{config.classes} classes by Zipf's law, {config.sampled} of them drawn "
            f"log-uniformly for each batch of {config.batch_size} labels; "
            f"{config.steps} steps of Adam, cosine decay from "
            f"{config.learning_rate:g}."
        ),
        captions={
            "divergence": "KL divergence of the softmax of all classes, in training."
        },
    )


def _run(config, corrected) -> Run:
    shares = 1 / np.arange(1, config.classes + 1)
    truth = jnp.asarray(shares / shares.sum(), jnp.float32)
    below = jnp.cumsum(truth)

    def data(key):
        del key  # labels are new in every step: a row says only that there is one
        return {"train": {"row": jnp.zeros(config.batch_size)}}

    def loss(params, batch, key):
        z, (key, label_key) = params["logits"], jax.random.split(key)
        u = jax.random.uniform(label_key, batch["row"].shape)
        y = jnp.minimum(jnp.searchsorted(below, u), config.classes - 1)
        drawn = heads.log_uniform_sample(
            key, config.sampled, config.classes, unique=False
        )
        log_q = heads.log_uniform_log_q(
            y[:, None], config.classes, config.sampled, unique=False
        )
        sampled = jnp.broadcast_to(z[drawn.ids][None], (len(y), config.sampled))
        scale = 1.0 if corrected else 0.0
        return heads.sampled_softmax_loss(
            z[y][:, None],
            sampled,
            true_log_q=scale * log_q,
            sampled_log_q=scale * drawn.log_q[None],
            hit_mask=heads.accidental_hits(y[:, None], drawn.ids),
        )

    def evaluate(params, data):
        del data
        return {
            "divergence": losses.kd_loss(params["logits"], jnp.log(truth)),
            "top": jax.nn.softmax(params["logits"])[0],
        }

    return Run(
        init=lambda key: {"logits": jnp.zeros(config.classes)},
        loss=loss,
        data=data,
        optimizer=optax.adam(
            optax.cosine_decay_schedule(config.learning_rate, config.steps)
        ),
        evaluate=evaluate,
        steps=config.steps,
        batch_size=config.batch_size,
        evaluate_at=sorted({round(config.steps * i / 20) for i in range(21)}),
        show=("divergence",),
    )


def _claims(config):
    bounds = config.tolerances
    final = functools.partial(lambda name, metric, r: r[name].final(metric))
    return [
        report.Claim(
            text="corrected, the frequencies of all classes are learned",
            reference=prototype("0.009 nats"),
            ours=functools.partial(final, CORRECTED, "divergence"),
            at_most=bounds.corrected,
            unit="nats",
            needs=(CORRECTED,),
        ),
        report.Claim(
            text="without the correction they are not",
            reference=prototype("1.91 nats"),
            ours=functools.partial(final, PLAIN, "divergence"),
            at_least=bounds.plain,
            unit="nats",
            needs=(PLAIN,),
        ),
        report.Claim(
            text="without the correction the most frequent class is nearly lost",
            reference=prototype("0.0008 of 0.122; corrected 0.134"),
            ours=lambda r: r[PLAIN].final("top") / r[CORRECTED].final("top"),
            at_most=bounds.top,
            unit="of its share with the correction",
            needs=(PLAIN, CORRECTED),
        ),
    ]
