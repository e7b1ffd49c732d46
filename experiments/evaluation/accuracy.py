"""How accurate is a model on images that nobody has labeled? Fourteen estimates.

A small network is trained on clean digits; its accuracy on corrupted ones is estimated
without their labels, and the estimates are compared with the truth.

Source: MaNo, Xie et al. 2024, arXiv:2405.18979.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import scipy.stats
from flax import linen as nn

from experiments.common import datasets
from experiments.common.keys import once_per_key
from experiments.common.references import prototype
from logitlab import metrics, report, transforms
from logitlab.data.image_corruptions import IMAGE_CORRUPTIONS, corrupt_images
from logitlab.train import Compute, Study

MANO, TAYLOR, SOFTMAX = "mano", "taylor", "softmax"
LABELS = {
    MANO: "MaNo",
    TAYLOR: "MaNo, Taylor always",
    SOFTMAX: "MaNo, softmax always",
    "nuclear_norm": "nuclear norm",
    "cot": "COT",
    "confidence": "average confidence",
    "gap": "difference of confidences",
    "atc": "ATC",
    "reweighting": "importance reweighting",
    "entropy": "negative entropy",
    "dispersion": "dispersion",
    "agreement": "agreement",
    "energy": "MDE",
    "projection": "projection norm",
}
DIRECT = ("cot", "confidence", "gap", "atc", "reweighting", "agreement")


class Sets(NamedTuple):
    """What one seed measured on each of its sets, [kinds, severities].

    Attributes:
      accuracy: of the model, by the labels.
      criterion: by which MaNo chooses.
      scores: estimates by name.
    """

    accuracy: np.ndarray
    criterion: np.ndarray
    scores: dict[str, np.ndarray]


class _Network(nn.Module):
    width: int

    @nn.compact
    def __call__(self, x):
        """Logits and the hidden layer that they are made of."""
        hidden = nn.relu(nn.Dense(self.width)(x))
        return nn.Dense(10)(hidden), hidden


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    measured = once_per_key(lambda key: measure(key, config))
    return Study(
        arms={
            name: Compute(lambda key, name=name: _values(name, measured(key), config))
            for name in LABELS
        },
        figures={
            "league": report.differences(
                "spearman", MANO, label="rank correlation with the accuracy - MaNo's"
            ),
            "errors": report.intervals(
                {"all sets": DIRECT},
                [LABELS[name].replace(" ", "\n") for name in DIRECT],
                "error",
                label="mean absolute error of the estimate",
            ),
        },
        claims=_claims(config),
        labels=LABELS,
        title="Accuracy without labels on corrupted digits",
        summary=(
            f"A network with one hidden layer of {config.width}, trained on "
            f"{config.train} clean digits until it is overconfident. Test digits are "
            f"corrupted in {len(config.kinds)} ways, {len(config.severities)} "
            "severities each; correlations are over all of these sets of a seed "
            f"(pooled), or over the severities of one kind. {config.labeled} clean "
            "digits are labeled, for estimates that need some, which are calibrated "
            "by a temperature."
        ),
        captions={
            "league": "How far each estimate's rank correlation is above MaNo's.",
            "errors": "How far estimates in units of accuracy are from the truth.",
        },
        table=_table,
    )


def _check(config):
    unknown = set(config.kinds) - set(IMAGE_CORRUPTIONS)
    if unknown or not config.kinds:
        raise ValueError(
            f"config.kinds is {tuple(config.kinds)}, expected some of "
            f"{IMAGE_CORRUPTIONS}"
        )
    if len(config.severities) < 2 or not {*config.severities} <= {1, 2, 3, 4, 5}:
        raise ValueError(
            f"config.severities is {tuple(config.severities)}, expected at least two "
            "of 1 to 5"
        )
    datasets.check_train(config.train + config.labeled)


def measure(key: jax.Array, config) -> Sets:
    """Trains on clean digits, and estimates the accuracy on corrupted ones."""
    x, y = datasets.digits(centered=False)
    rows, *keys = jax.random.split(key, 5)
    parts = datasets.divide(
        rows, jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32), config.train
    )
    found = _measured(
        parts,
        keys,
        jnp.array(config.severities),
        kinds=tuple(config.kinds),
        labeled=config.labeled,
        width=config.width,
        training=tuple(config.training.items()),
        projection=tuple(config.projection.items()),
    )
    shape = len(config.kinds), len(config.severities)
    return jax.tree.map(lambda a: np.asarray(a).reshape(shape), found)


@functools.partial(
    jax.jit, static_argnames=("kinds", "labeled", "width", "training", "projection")
)
def _measured(parts, keys, severities, *, kinds, labeled, width, training, projection):
    """``Sets`` of the kinds times the severities, in one row."""
    network, mean = _Network(width), parts.x.mean(0, keepdims=True)
    start_key, fit_key, other_key, noise_key = keys

    def logits_fn(params, x):
        return network.apply(params, x - mean)[0]

    def trained(key):
        init_key, key = jax.random.split(key)
        start = network.init(init_key, parts.x[:1])
        fit = metrics.fit_pseudo_labels
        return start, fit(logits_fn, start, *parts[:2], key=key, **dict(training))

    def projected(x):
        labels = logits_fn(params, x).argmax(-1)
        fit = functools.partial(metrics.fit_pseudo_labels, key=fit_key)
        return fit(logits_fn, start, x, labels, **dict(projection))

    starts, fits = jax.lax.map(trained, jnp.stack([start_key, other_key]))
    start, params = (jax.tree.map(lambda a: a[0], tree) for tree in (starts, fits))
    other = jax.tree.map(lambda a: a[1], fits)
    source, source_y = parts.test_x[:labeled], parts.test_y[:labeled]
    images, labels = parts.test_x[labeled:], parts.test_y[labeled:]
    known = logits_fn(params, source)
    temperature = transforms.fit_temperature(known, source_y)
    known = transforms.calibrate(known, temperature)
    sureness = metrics.log_odds_score
    threshold = metrics.fit_atc(sureness(known), known.argmax(-1) != source_y)
    gap = metrics.fit_confidence_gap(known, source_y)
    bins = metrics.calibration_bins(known, source_y, bins=10)
    counts = jnp.zeros(10).at[source_y].add(1)

    def of_set(x):
        z, hidden = network.apply(params, x - mean)
        calm = transforms.calibrate(z, temperature)
        criterion = metrics.mano_criterion(z)
        means = metrics.class_means(hidden, z)
        scores = {
            MANO: metrics.mano_score(z, criterion=criterion),
            TAYLOR: metrics.mano_score(z, eta=jnp.inf),
            SOFTMAX: metrics.mano_score(z, eta=0.0),
            "nuclear_norm": metrics.nuclear_norm_score(z),
            "cot": 1 - metrics.cot_error(calm, counts),
            "confidence": metrics.average_confidence(calm).value,
            "gap": metrics.difference_of_confidences(calm, gap).value,
            "atc": metrics.atc_accuracy(sureness(calm), threshold).value,
            "reweighting": metrics.importance_reweighting(calm, bins).value,
            "entropy": metrics.entropy_score(z).value,
            "dispersion": metrics.dispersion_score(means),
            "agreement": metrics.agreement_score(z, logits_fn(other, x)).value,
            "energy": metrics.mde_score(z),
        }
        return Sets(metrics.accuracy(z, labels).value, criterion.value, scores)

    def corrupted(kind):
        square = images.reshape(-1, 8, 8, 1)
        corrupt = functools.partial(corrupt_images, noise_key, square, kind=kind)
        worse = jax.lax.map(lambda severity: corrupt(severity=severity), severities)
        return worse.reshape(len(severities), *images.shape)

    sets = jnp.concatenate([corrupted(kind) for kind in kinds])
    found = jax.lax.map(of_set, sets)
    few = min(len(source), len(images))  # as many of the source as of each set
    again = jnp.concatenate([source[None, :few], sets[:, :few]])
    moved = jax.lax.map(projected, again)
    reference = jax.tree.map(lambda a: a[0], moved)
    norms = jax.vmap(metrics.projection_norm, (0, None))(moved, reference)[1:]
    return found._replace(scores=found.scores | {"projection": -norms})


def _values(name, sets, config):
    score, truth = sets.scores[name], sets.accuracy
    within = [correlation(*rows) for rows in zip(score, truth, strict=True)]
    confident = sets.criterion > config.confident
    values = {
        "spearman": correlation(score.ravel(), truth.ravel()),
        "r2": np.corrcoef(score.ravel(), truth.ravel())[0, 1] ** 2,
        "monotone": np.mean(np.array(within) > 1 - 1e-9),
        "confident/spearman": correlation(score[confident], truth[confident]),
        "score": score,
        "truth": truth,
    }
    if name in DIRECT:
        values["error"] = np.abs(score - truth).mean()
    return values


def correlation(score: np.ndarray, truth: np.ndarray) -> float:
    """Spearman's; NaN for fewer than two numbers, and where all of a row are equal."""
    if len(score) < 2:
        return np.nan
    ranks = [scipy.stats.rankdata(a) for a in (score, truth)]
    spread = [rank.std() for rank in ranks]
    return np.corrcoef(ranks)[0, 1] if min(spread) > 0 else np.nan


def _claims(config):
    bounds = config.tolerances
    others = [name for name in LABELS if name not in (MANO, TAYLOR, SOFTMAX)]
    best = functools.partial(_lead, others=others)
    return [
        report.Claim(
            text="MaNo follows the accuracy over all sets",
            reference=prototype("a rank correlation of 0.72"),
            ours=lambda r: r[MANO].final("spearman"),
            at_least=bounds.pooled,
            over="mean",
            needs=(MANO,),
        ),
        report.Claim(
            text="MaNo orders the severities of most corruptions without an error",
            reference=prototype("most corruptions, without a number"),
            ours=lambda r: r[MANO].final("monotone"),
            above=bounds.monotone,
            over="mean",
            format=".0%",
            needs=(MANO,),
        ),
        report.Claim(
            text=(
                "without the switch to the softmax, MaNo says nothing where its "
                f"criterion is above {config.confident:g}"
            ),
            reference=prototype("a rank correlation of -0.15"),
            ours=lambda r: r[TAYLOR].final("confident/spearman"),
            at_most=bounds.taylor,
            over="mean",
            needs=(TAYLOR,),
        ),
        report.Claim(
            text="MaNo ranks the sets better than any other estimate",
            paper="the best average over 12 benchmarks",
            ours=best,
            at_least=bounds.lead,
            over="mean",
            needs=(MANO, *others),
        ),
    ]


def _lead(results, others):
    theirs = np.max([results[name].final("spearman") for name in others], 0)
    return results[MANO].final("spearman") - theirs


def _table(results):
    """One row for each estimate, the best first."""
    rows = [
        {
            "estimate": LABELS[name],
            "Spearman": f"{np.mean(arm.final('spearman')):.2f}",
            "R2": f"{np.mean(arm.final('r2')):.2f}",
            "ordered corruptions": f"{np.mean(arm.final('monotone')):.0%}",
            "mean absolute error": (
                f"{np.mean(arm.final('error')):.3f}" if name in DIRECT else ""
            ),
        }
        for name, arm in results.items()
    ]
    return sorted(rows, key=lambda row: -float(row["Spearman"]))
