"""What a head costs that never holds its logits, beside the same on dense logits.

Value and gradients (features and kernel) of the mean loss. The two sides take turns in
one process, compiled first; memory is what the compiled programs say they need beyond
arguments and results. Every side of a pair must come to the same numbers.
"""

import functools
import importlib.util

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.references import BOUND
from experiments.common.timing import take_turns
from logitlab import heads, links, losses, numerics, report
from logitlab.train import Compute, Study
from logitlab.train.config import check_name

DTYPES = ("bfloat16", "float32")
BLOCKS, CHUNKS = "vocabulary blocks", "token chunks"
EPS, Z_WEIGHT = 0.1, 1e-4


def build(config) -> Study:
    """The benchmark of the heads that the config names, or of all."""
    check_name(config.dtype, DTYPES, "config.dtype")
    names = config.heads or tuple(n for n in HEADS if n != "tokamax" or _has_tokamax())
    for name in names:
        check_name(name, HEADS, "config.heads")
    bounds = config.tolerances
    claims = []
    for kind, time, memory in (
        (BLOCKS, bounds.blocks_time, bounds.blocks_memory),
        (CHUNKS, bounds.chunks_time, bounds.chunks_memory),
    ):
        mine = tuple(name for name in names if HEADS[name][1] == kind)
        claims += [
            _worst(f"time of {kind}, over dense logits", "time_over_dense", mine, time),
            _worst(
                f"memory of {kind}, over logits", "memory_over_logits", mine, memory
            ),
        ]
    ours = tuple(name for name in names if HEADS[name][1])
    claims.append(
        _worst("error of a value or gradient", "error", ours, bounds[config.dtype])
    )
    n, d, v = config.shape
    return Study(
        arms={
            name: Compute(lambda key, name=name: _cost(name, config)) for name in names
        },
        figures={
            "cost": report.ranking(
                {
                    "time_over_dense": "time, over dense logits",
                    "memory_over_logits": "temporaries, over the logits in float32",
                },
                bounds={
                    "time_over_dense": bounds.blocks_time,
                    "memory_over_logits": bounds.blocks_memory,
                },
            )
        },
        claims=[claim for claim in claims if claim.needs],
        labels={name: HEADS[name][0] for name in names},
        title="What heads cost",
        summary=(
            f"Value and gradients at {n} tokens, width {d}, {v} classes, "
            f"{config.dtype}, side by side in one process on {_device()}; median over "
            f"{config.repeats} turns. Dense logits would be {4 * n * v / 1e9:.1f} GB."
        ),
    )


def _worst(text, metric, names, bound):
    return report.Claim(
        text=f"{text}, at worst",
        reference=BOUND,
        ours=lambda r: np.max([r[name].final(metric) for name in names], 0),
        at_most=bound,
        needs=names,
    )


def _cost(name, config):
    _, kind, ours, theirs = HEADS[name]
    n, d, v = config.shape
    keys = jax.random.split(jax.random.key(0), 4)
    dtype = jnp.dtype(config.dtype)
    hidden = jax.random.normal(keys[0], (n, d), dtype)
    kernel = jax.random.normal(keys[1], (d, v), dtype) / np.sqrt(d).astype(dtype)
    labels = jax.random.randint(keys[2], (n,), 0, v)
    other = jax.random.normal(keys[3], (n, d), dtype)
    args = hidden, kernel, labels, other
    programs = [
        jax.jit(jax.value_and_grad(loss, (0, 1))).lower(*args).compile()
        for loss in (ours, theirs)
    ]
    memory = [p.memory_analysis().temp_size_in_bytes for p in programs]
    values = [jax.tree.map(np.asarray, p(*args)) for p in programs]
    error = max(jax.tree.leaves(jax.tree.map(_error, *values)))
    del values
    calls = [functools.partial(p, *args) for p in programs]
    times = take_turns(calls, config.repeats)
    product = jax.jit(lambda h, k: _chunked_product(h, k)).lower(hidden, kernel)
    product = product.compile()
    seconds = take_turns([lambda: product(hidden, kernel)], config.repeats)[0]
    flop = 2.0 * n * d * v
    made = (8 if kind == BLOCKS else 6) * n * d * v  # logits are made again in blocks
    return dict(
        seconds=times[0],
        dense_seconds=times[1],
        time_over_dense=times[0] / times[1],
        megabytes=memory[0] / 1e6,
        dense_megabytes=memory[1] / 1e6,
        memory_over_logits=memory[0] / (4 * n * v),
        error=error,
        tflop_per_second=made / times[0] / 1e12,
        product_tflop_per_second=flop / seconds / 1e12,
    )


def _chunked_product(hidden, kernel):
    """All logits once, a few tokens at a time, each chunk reduced to its sum."""
    size = max(1, 2**24 // kernel.shape[1])
    rows = hidden[: len(hidden) // size * size].reshape(-1, size, hidden.shape[1])

    def one(h):
        return jnp.matmul(h, kernel, preferred_element_type=jnp.float32).max(-1)

    return jax.lax.map(one, rows)


def _error(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return float(np.abs(a - b).max() / np.abs(b).max())


def _logits(h, k):
    return jnp.matmul(h, k, preferred_element_type=jnp.float32)


def _on_logits(loss):
    return lambda h, k, y, other: loss(_logits(h, k), y).mean()


def _smooth(z, y):
    smooth = losses.label_smoothing_loss(z, y, eps=EPS)
    return smooth + Z_WEIGHT * numerics.logsumexp(z) ** 2


def _entropic(stats):
    return (-stats.log_prob - Z_WEIGHT * stats.entropy).mean()


def _dense_kl(h, k, y, other):
    log_p = numerics.log_softmax(_logits(h, k))
    log_q = numerics.log_softmax(_logits(other, jax.lax.stop_gradient(k)))
    return (jnp.exp(log_q) * (log_q - log_p)).sum(-1).mean()


def _fused_kl(h, k, y, other):
    teacher = heads.Linear(other, jax.lax.stop_gradient(k))
    return heads.fused_linear_distillation(h, k, teacher).mean()


def _dpo(scores_of, h, k, y, other):
    """The first half of the sequences, of 32 tokens, is preferred to the second."""
    length = min(32, len(y) // 2)
    h, other, y = (a.reshape(-1, length, *a.shape[1:]) for a in (h, other, y))
    ours = jnp.split(scores_of(h, k, y), 2)
    theirs = jnp.split(scores_of(other, jax.lax.stop_gradient(k), y), 2)
    return losses.dpo_loss(*ours, *theirs).mean()


def _dense_scores(h, k, y):
    return -numerics.label_nll(_logits(h, k), y).sum(-1)


def _has_tokamax():
    return importlib.util.find_spec("tokamax") is not None


def _tokamax(h, k, y, other):
    import tokamax

    return tokamax.linear_softmax_cross_entropy_loss(
        h, y, k, reduction="mean", implementation="xla"
    )


def _optax(z, y):
    return optax.softmax_cross_entropy_with_integer_labels(z, y)


_dense = _on_logits(losses.cross_entropy)

# name -> label, how it goes through the logits, the head, the same on dense logits
HEADS = {
    "cross_entropy": (
        "cross-entropy",
        BLOCKS,
        lambda h, k, y, other: heads.fused_linear_cross_entropy(h, k, y).mean(),
        _dense,
    ),
    "smoothed": (
        "cross-entropy, smoothed, z-loss",
        BLOCKS,
        lambda h, k, y, other: heads.fused_linear_cross_entropy(
            h, k, y, label_smoothing=EPS, z_loss=Z_WEIGHT
        ).mean(),
        _on_logits(_smooth),
    ),
    "focal": (
        "focal loss",
        BLOCKS,
        lambda h, k, y, other: heads.linear_label_loss(
            losses.focal_loss, h, k, y
        ).mean(),
        _on_logits(losses.focal_loss),
    ),
    "stablemax": (
        "cross-entropy of StableMax",
        BLOCKS,
        lambda h, k, y, other: heads.fused_linear_cross_entropy(
            h, k, y, transform=links.stablemax
        ).mean(),
        _on_logits(lambda z, y: losses.cross_entropy(links.stablemax(z), y)),
    ),
    "entropy": (
        "cross-entropy with an entropy bonus",
        BLOCKS,
        lambda h, k, y, other: _entropic(heads.linear_label_stats(h, k, y)),
        lambda h, k, y, other: _entropic(heads.label_stats(_logits(h, k), y)),
    ),
    "distillation": ("distillation, forward KL", BLOCKS, _fused_kl, _dense_kl),
    "dpo": (
        "DPO, from sequence log-probabilities",
        BLOCKS,
        lambda h, k, y, other: _dpo(heads.sequence_log_prob, h, k, y, other),
        lambda h, k, y, other: _dpo(_dense_scores, h, k, y, other),
    ),
    "any_mean": (
        "any loss, its weighted mean",
        CHUNKS,
        lambda h, k, y, other: heads.linear_loss(
            losses.cross_entropy, h, k, y, weights=jnp.ones(len(y))
        ),
        _dense,
    ),
    "any_each": (
        "any loss, one for each token",
        CHUNKS,
        lambda h, k, y, other: heads.linear_loss(losses.cross_entropy, h, k, y).mean(),
        _dense,
    ),
    "optax": ("optax on dense logits", "", _on_logits(_optax), _dense),
    "tokamax": ("tokamax, XLA", "", _tokamax, _dense),
}


def _device():
    return jax.devices()[0].device_kind
