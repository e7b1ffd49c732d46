"""Which pairs of a batch to learn from: mined multi-similarity against other losses.

A network embeds six digits and is asked to retrieve the four that it has never seen.
Mining leaves out the pairs that are far apart already; with wrong labels it might as
well pick these.

Source: multi-similarity, Wang et al. 2019, arXiv:1904.06627.
"""

import functools

import jax
import jax.numpy as jnp

from experiments.common.claims import ahead
from experiments.common.references import prototype
from experiments.metric_learning._embeddings import (
    classes_of_digits,
    embedding_run,
    first,
)
from logitlab import data, losses, metrics, report, targets, transforms, weights
from logitlab.train import Compute, Study
from logitlab.train.config import check_name

UNSEEN = "unseen/recall"


def _every(loss, **hyper):
    """The mean over all anchors."""
    return lambda e, y, kernel: (loss(e, y, **hyper), True)


def _with_positives(loss, **hyper):
    """The mean over the anchors that have a positive."""

    def objective(e, y, kernel):
        del kernel
        return loss(e, y, **hyper), targets.label_pairs(y).positive.any(-1)

    return objective


def _active(loss, **hyper):
    """The mean over the anchors whose hinge is active."""

    def objective(e, y, kernel):
        del kernel
        each = loss(e, y, **hyper)
        return each, each > 0

    return objective


def _proxies(loss, **hyper):
    return lambda e, y, kernel: (loss(e, y, kernel, **hyper), True)


def _anchors(e, y, kernel):
    """The mean over proxies, as every example's."""
    each = losses.proxy_anchor_loss(e, y, kernel)
    return jnp.full(len(y), each.mean()), True


def _mined(e, y, kernel):
    del kernel
    pairs = targets.multi_similarity_pairs(transforms.cosine_similarities(e), y)
    return losses.multi_similarity_loss(e, y, pairs=pairs), True


def _hardest(e, y, kernel):
    del kernel
    pairs = targets.batch_hard_pairs(transforms.cosine_similarities(e), y)
    each = losses.triplet_margin_loss(e, y, pairs=pairs, margin=0.2)
    return each, each > 0


OBJECTIVES = {
    "mined": ("multi-similarity, mined", _mined),
    "unmined": ("multi-similarity", _every(losses.multi_similarity_loss)),
    "triplet": ("triplets", _active(losses.triplet_margin_loss, margin=0.2)),
    "hardest": ("hardest triplets", _hardest),
    "contrastive": ("contrastive", _active(losses.contrastive_pair_loss)),
    "circle": ("circle", _with_positives(losses.circle_loss)),
    "supcon": ("SupCon", _with_positives(losses.supcon_loss, temperature=0.1)),
    "ntxent": ("NT-Xent", _with_positives(losses.ntxent_loss, temperature=0.07)),
    "proxy_nca": ("proxy-NCA", _proxies(losses.proxy_nca_loss, scale=8.0)),
    "proxy_anchor": ("proxy-anchor", _anchors),
    "softmax": (
        "normalized softmax",
        _proxies(losses.normalized_softmax_loss, temperature=0.05),
    ),
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    draws = {rate: functools.partial(_data, config, rate) for rate in config.noise}
    arms = {
        arm_name(name, rate): embedding_run(
            config,
            OBJECTIVES[name][1],
            data=draws[rate],
            classes=len(config.seen),
            evaluate=_evaluate,
            show=(UNSEEN,),
        )
        for rate in config.noise
        for name in config.objectives
    }
    return Study(
        arms={**arms, "weights": Compute(functools.partial(_weights, config))},
        figures={
            "recall": report.intervals(
                {
                    _percent(rate): [arm_name(n, rate) for n in config.objectives]
                    for rate in config.noise
                },
                [_narrow(OBJECTIVES[name][0]) for name in config.objectives],
                UNSEEN,
                label="recall at 1, digits never seen",
                across="objective",
            )
        },
        claims=_claims(config),
        labels={
            arm_name(name, rate): f"{OBJECTIVES[name][0]}, {_percent(rate)}"
            for rate in config.noise
            for name in config.objectives
        },
        title="Mining pairs",
        summary=(
            f"A network with {' and '.join(map(str, config.widths))} hidden units "
            f"embeds the digits {', '.join(map(str, config.seen))} in {config.dim} "
            f"dimensions: {config.steps} steps of Adam, {config.batch_size} images "
            "each. Recall at 1 is that of the nearest neighbor among all images of "
            f"the digits {', '.join(map(str, config.unseen))}."
        ),
        captions={
            "recall": (
                "Share of images whose nearest neighbor is of the same digit, by the "
                "share of training labels that are wrong."
            )
        },
    )


def arm_name(name: str, rate: float) -> str:
    """Name of the arm of an objective and a share of wrong labels."""
    return f"{name}_{rate:g}"


def _narrow(label):
    """A label in several lines."""
    return label.replace(" ", "\n").replace("multi-", "multi-\n")


def _percent(rate):
    return f"{100 * rate:g} % wrong labels"


def _check(config):
    for name in config.objectives:
        check_name(name, OBJECTIVES, "config.objectives")
    both = sorted((*config.seen, *config.unseen))
    if len(set(both)) < len(both) or not {*both} <= {*range(10)}:
        raise ValueError(
            f"config.seen is {tuple(config.seen)} and config.unseen "
            f"{tuple(config.unseen)}, expected different digits"
        )


def _data(config, rate, key):
    x, y = classes_of_digits(config.seen)
    test_x, test_y = classes_of_digits(config.unseen)
    noisy = data.symmetric_noise(key, jnp.asarray(y), len(config.seen), rate)
    return {
        "train": {"x": jnp.asarray(x), "y": noisy.astype(jnp.int32)},
        "unseen": {"x": jnp.asarray(test_x), "y": jnp.asarray(test_y)},
    }


def _evaluate(embed, params, parts):
    unseen = parts["unseen"]
    recall = metrics.recall_at_k(embed(params, unseen["x"]), unseen["y"], ks=(1,))
    return {UNSEEN: first(recall)}


def _weights(config, key):
    """How far the closed-form weights of pairs are from the gradient."""
    y = jnp.arange(config.batch_size) % len(config.seen)
    e = jax.random.normal(key, (config.batch_size, config.dim))
    s = transforms.cosine_similarities(e)
    pairs = targets.multi_similarity_pairs(s, y)

    def total(s):
        return losses.multi_similarity_loss(
            s, y, reference=jnp.eye(len(y)), pairs=pairs, similarity="dot"
        ).sum()

    by_gradient = jnp.abs(jax.grad(total)(s))
    closed = weights.gpw_weights(s, pairs, kind="multi_similarity")
    return {"apart": jnp.abs(closed - by_gradient).max() / by_gradient.max()}


def _claims(config):
    numbers = {
        0.0: prototype("0.913 mined, 0.897 triplets, 0.827 unmined"),
        0.1: prototype("0.943 mined, 0.924 unmined, 0.895 triplets"),
    }
    claims = [
        ahead(
            f"mining is ahead of {what}, {_percent(rate)}",
            UNSEEN,
            arm_name("mined", rate),
            arm_name(other, rate),
            scale=100,
            reference=numbers[rate],
            above=0.0,
            over="mean",
            unit="points of recall",
        )
        for rate in config.noise
        for other, what in (("unmined", "all pairs"), ("triplet", "triplets"))
        if {"mined", other} <= {*config.objectives}
    ]
    mined = arm_name("mined", config.noise[0])
    return [
        *claims,
        report.Claim(
            text="learning from some digits helps to retrieve others",
            question=True,
            ours=lambda results: (
                100 * (results[mined].final(UNSEEN) - results[mined][UNSEEN][0])
            ),
            above=0.0,
            over="mean",
            unit="points over the untrained network",
            needs=(mined,),
        ),
        report.Claim(
            text="weights of pairs are the gradient of the loss",
            paper="identity (section 3)",
            ours=lambda results: results["weights"].final("apart"),
            at_most=config.tolerances.weights,
            unit="of the largest",
            needs=("weights",),
        ),
    ]
