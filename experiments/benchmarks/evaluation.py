"""What metrics and calibrators cost, beside NumPy as calibration libraries write it.

From logits of a model that is too sure: the calibration error of bins of equal width,
the AUROC of right against wrong predictions, and the fit of a temperature. Both ways
take turns in one process, ours compiled first, and must come to the same number.
"""

import functools

import jax
import numpy as np
from scipy import optimize

from experiments.common.references import BOUND
from experiments.common.timing import take_turns
from logitlab import metrics, report, transforms
from logitlab.train import Compute, Study
from logitlab.train.config import check_name


def build(config) -> Study:
    """The benchmark of the numbers that the config names."""
    for name in config.numbers:
        check_name(name, tuple(NUMBERS), "config.numbers")
    rows, classes = config.shape
    bounds = config.tolerances
    claims = [
        report.Claim(
            text=f"{what} of {LABELS[name]}{beside}",
            reference=BOUND,
            ours=lambda r, name=name, metric=metric: r[name].final(metric),
            at_most=bound,
            needs=(name,),
        )
        for name in config.numbers
        for what, beside, metric, bound in (
            ("time", ", over NumPy", "time_over_numpy", bounds.time),
            ("relative difference", " to NumPy", "difference", bounds.difference),
        )
    ]
    return Study(
        arms={
            name: Compute(lambda key, name=name: _cost(name, key, config))
            for name in config.numbers
        },
        figures={
            "cost": report.ranking(
                {"time_over_numpy": "time, over NumPy"},
                bounds={"time_over_numpy": bounds.time},
            )
        },
        claims=claims,
        labels={name: LABELS[name] for name in config.numbers},
        title="What metrics and calibrators cost",
        summary=(
            f"From {rows} x {classes} logits in float32, side by side in one process; "
            f"median over {config.repeats} turns. NumPy: a softmax, then histograms or "
            "a sort; L-BFGS of SciPy on the likelihood."
        ),
    )


def _cost(name, key, config):
    ours, theirs = NUMBERS[name]
    z, y = _overconfident(key, *config.shape)
    program = jax.jit(ours).lower(z, y).compile()
    plain = np.asarray(z), np.asarray(y)
    both = functools.partial(program, z, y), functools.partial(theirs, *plain)
    found, want = (float(call()) for call in both)
    times = take_turns(both, config.repeats)
    return {
        "seconds": times[0],
        "numpy_seconds": times[1],
        "time_over_numpy": times[0] / times[1],
        "memory_over_logits": program.memory_analysis().temp_size_in_bytes / z.nbytes,
        "difference": abs(found / want - 1),
    }


@functools.partial(jax.jit, static_argnums=(1, 2))
def _overconfident(key, rows, classes):
    """Logits, and labels that are drawn from them at a temperature of 2."""
    logits_key, label_key = jax.random.split(key)
    z = 4 * jax.random.normal(logits_key, (rows, classes))
    return z, jax.random.categorical(label_key, z / 2)


def _calibration_error(z, y):
    return metrics.expected_calibration_error(z, y)


def _auroc(z, y):
    scores, right = metrics.log_odds_score(z), z.argmax(-1) == y
    return metrics.auroc(scores, scores, inside_mask=right, outside_mask=~right)


def _temperature(z, y):
    return transforms.fit_temperature(z, y).temperature


def _surest(z, y):
    """Probability of the top class, and whether it is right."""
    p = np.exp(z - z.max(-1, keepdims=True))
    p /= p.sum(-1, keepdims=True)
    return p.max(-1), p.argmax(-1) == y


def _numpy_calibration_error(z, y):
    confidence, right = _surest(z, y)
    edges = np.linspace(0, 1, 16)
    count, sure, hits = (
        np.histogram(confidence, edges, weights=weights)[0]
        for weights in (None, confidence.astype(np.float64), right.astype(np.float64))
    )
    return np.abs(hits - sure).sum() / count.sum()


def _numpy_auroc(z, y):
    scores, right = _surest(z, y)
    order = np.argsort(-scores, kind="stable")
    scores, right = scores[order], right[order]
    last = np.append(np.flatnonzero(np.diff(scores)), len(scores) - 1)  # of ties
    hits = np.cumsum(right)[last]
    misses = 1 + last - hits
    true_rate, false_rate = (np.append(0, a) / a[-1] for a in (hits, misses))
    heights = (true_rate[1:] + true_rate[:-1]) / 2
    return (np.diff(false_rate) * heights).sum()


def _numpy_temperature(z, y):
    below = z - z.max(-1, keepdims=True)
    label = np.take_along_axis(below, y[:, None], -1)[:, 0]

    def loss(beta):
        scaled = beta.astype(z.dtype) * below
        e = np.exp(scaled)
        total = e.sum(-1)
        mean = (e * below).sum(-1) / total
        value = np.log(total) - beta * label
        return value.mean(dtype=np.float64), (mean - label).mean(dtype=np.float64)

    found = optimize.minimize(
        loss, np.ones(1), jac=True, method="L-BFGS-B", bounds=[(1e-4, 1e4)]
    )
    return 1 / found.x[0]


NUMBERS = {
    "calibration_error": (_calibration_error, _numpy_calibration_error),
    "auroc": (_auroc, _numpy_auroc),
    "temperature": (_temperature, _numpy_temperature),
}
LABELS = {
    "calibration_error": "the calibration error of 15 bins",
    "auroc": "the AUROC of right against wrong",
    "temperature": "the fit of a temperature",
}
