"""Do calibrators mend an overconfident network, and do conformal sets hold?

A network that has learned a few hundred digits by heart is surer of the others than it
should be. Held-out images are split in three at random, many times: to fit a
calibrator, to set the threshold of the sets, and to test both.

Source: Guo et al. 2017, arXiv:1706.04599; the coverage of sets: Vovk et al. 2005,
"Algorithmic learning in a random world".
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import datasets
from logitlab import decisions, losses, metrics, models, report, transforms
from logitlab.train import Compute, Study
from logitlab.train.config import check_name

PLAIN, TEMPERATURE = "none", "temperature"
LABELS = {
    PLAIN: "none",
    TEMPERATURE: "temperature",
    "platt": "Platt, one against the rest",
    "isotonic": "isotonic, one against the rest",
}
KINDS = ("lac", "aps", "raps")
SCORES = {
    "log-odds": metrics.log_odds_score,
    "entropy": metrics.neg_entropy_score,
    "energy": metrics.energy_score,
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    promised = f"{1 - config.alpha:.0%}"
    return Study(
        arms={
            name: Compute(lambda key, name=name: _values(name, key, config))
            for name in config.calibrators
        },
        figures={
            "reliability": _reliability,
            "risk": _risk,
            "scores": _scores,
            "coverage": report.intervals(
                {"sets": list(config.calibrators)},
                [LABELS[name].partition(",")[0] for name in config.calibrators],
                "coverage/lac",
                label="images whose set holds the label",
            ),
        },
        claims=_claims(config, promised),
        labels={name: LABELS[name] for name in config.calibrators},
        title="Calibrators and conformal sets of an overconfident network",
        summary=(
            f"An MLP that learned {config.train} digits for {config.steps} steps of "
            f"Adam. Numbers are means over {config.splits} random splits of the other "
            "images into three: for the calibrator, the threshold, and the test. "
            f"Sets promise {promised}."
        ),
        captions={
            "reliability": "Accuracy against confidence, over all seeds and splits.",
            "risk": "Errors of the surest images, by three scores; first seed.",
            "scores": "Log-odds of right and wrong predictions; first seed.",
            "coverage": f"Coverage of the smallest sets; promised are {promised}.",
        },
    )


def _check(config):
    datasets.check_train(config.train)
    for name in config.calibrators:
        check_name(name, tuple(LABELS), "config.calibrators")
    if PLAIN not in config.calibrators:
        raise ValueError(
            f"config.calibrators is {tuple(config.calibrators)}, expected {PLAIN!r} "
            "among them"
        )
    if config.splits < 1:
        raise ValueError(f"config.splits is {config.splits}, expected at least 1")
    if not 0 < config.alpha < 1:
        raise ValueError(f"config.alpha is {config.alpha}, expected between 0 and 1")


def _values(name, key, config):
    fresh, split_key = jax.random.split(key)  # one network for all arms of a seed
    rows = datasets.divide(fresh, *datasets.images(), config.train)
    z = held_out_logits(
        fresh,
        *rows,
        widths=tuple(config.widths),
        learning_rate=config.learning_rate,
        steps=config.steps,
    )
    keys = jax.random.split(split_key, config.splits)
    numbers, bins = _all_splits(
        name, keys, z, rows.test_y, alpha=config.alpha, bins=config.bins
    )
    values = numbers | {f"bins/{k}": v for k, v in bins._asdict().items()}
    values["bins/invalid"] = bins.invalid[None]
    if name == PLAIN:
        values["wrong"] = z.argmax(-1) != rows.test_y
        values |= {f"score/{k}": score(z) for k, score in SCORES.items()}
    return values


@functools.partial(jax.jit, static_argnames=("widths", "steps"))
def held_out_logits(
    key, x, y, test_x, test_y, *, widths, learning_rate, steps
) -> jax.Array:
    """Logits of the test images, by a network that learned the others by heart."""
    del test_y
    model = models.MLP(widths=widths, classes=10)
    optimizer = optax.adam(learning_rate)

    def loss(params):
        return losses.cross_entropy(model.apply(params, x), y).mean()

    def step(carry, _):
        params, state = carry
        updates, state = optimizer.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    params = model.init(key, x[:1])
    start = (params, optimizer.init(params))
    (params, _), _ = jax.lax.scan(step, start, length=steps)
    return model.apply(params, test_x)


@functools.partial(jax.jit, static_argnames=("name", "alpha", "bins"))
def _all_splits(name, keys, z, y, *, alpha, bins):
    """Means of all numbers, and the bins of all splits together."""

    def one(key):
        return split_numbers(name, key, z, y, alpha=alpha, bins=bins)

    numbers, found = jax.lax.map(one, keys)
    return jax.tree.map(jnp.mean, numbers), jax.tree.map(lambda a: a.sum(0), found)


def split_numbers(name, key, z, y, *, alpha, bins):
    """Numbers of one random split, and the bins of its test part."""
    order_key, *draws = jax.random.split(key, 3)
    part = len(y) // 3
    order = jax.random.permutation(order_key, len(y))
    fit, hold, test = order[:part], order[part : 2 * part], order[2 * part :]
    calibrated = calibrator(name, z[fit], y[fit])(z)
    numbers = {}
    for kind in KINDS:
        scores = [
            decisions.conformal_scores(calibrated[rows], kind=kind, key=draw)
            for rows, draw in zip((hold, test), draws, strict=True)
        ]
        threshold = decisions.conformal_threshold(scores[0], y[hold], alpha=alpha)
        sets = decisions.conformal_set(scores[1], threshold)
        held = jnp.take_along_axis(sets, y[test][:, None], -1)
        numbers[f"coverage/{kind}"] = held.mean()
        numbers[f"size/{kind}"] = sets.sum(-1).mean()
    mine = calibrated[test], y[test]
    found = metrics.calibration_bins(*mine, bins=bins)
    numbers["accuracy"] = metrics.accuracy(*mine).value
    numbers["nll"] = metrics.nll(*mine).value
    numbers["ece"] = metrics.calibration_error(found)
    return numbers, found


def calibrator(name, z, y):
    """Fits one to held-out logits; a function from logits to calibrated ones.

    The binary ones are fitted to the log-odds of each class against the rest, and their
    probabilities are made to sum to 1. A probability of 0 or 1 that n examples suggest
    is taken for 1 / (n + 2) away from it.
    """
    if name == PLAIN:
        return lambda z: z
    if name == TEMPERATURE:
        fitted = transforms.fit_temperature(z, y)
        return lambda z: transforms.calibrate(z, fitted)
    fit = transforms.fit_platt if name == "platt" else transforms.fit_isotonic
    one_hot = jax.nn.one_hot(y, z.shape[-1], dtype=jnp.int32)
    fitted = jax.vmap(fit, in_axes=-1)(_log_odds(z), one_hot)
    most = np.log(len(y) + 1)

    def apply(z):
        odds = jax.vmap(transforms.calibrate, (-1, 0), -1)(_log_odds(z), fitted)
        return jax.nn.log_sigmoid(jnp.clip(odds, -most, most))

    return apply


def _log_odds(z):
    return -decisions.conformal_scores(z, kind="log_odds")


def _reliability(results):
    bins = {
        arm.label: metrics.CalibrationBins(
            *(arm.arrays[f"bins/{name}"] for name in metrics.CalibrationBins._fields)
        )
        for arm in results.values()
    }
    return report.reliability_diagram(bins)


def _risk(results):
    arrays = results[PLAIN].arrays
    wrong = jnp.asarray(arrays["wrong"][0])
    curves = {
        name: metrics.risk_coverage(jnp.asarray(arrays[f"score/{name}"][0]), wrong)
        for name in SCORES
    }
    return report.risk_coverage_curves(curves)


def _scores(results):
    arrays = results[PLAIN].arrays
    scores, wrong = (arrays[name][0] for name in ("score/log-odds", "wrong"))
    groups = {"right": scores[~wrong], "wrong": scores[wrong]}
    return report.score_histograms(groups, label="log-odds of the top class")


def _claims(config, promised):
    bounds = config.tolerances
    claims = [
        report.Claim(
            text="the network is overconfident",
            reference="a network that fits its training images without error",
            ours=lambda r: r[PLAIN].final("ece"),
            at_least=bounds.overconfident,
            unit="calibration error",
            needs=(PLAIN,),
        )
    ]
    if TEMPERATURE in config.calibrators:
        claims.append(
            report.Claim(
                text="one temperature takes half of the calibration error away",
                reference="temperature scaling is enough, as Guo et al. found",
                ours=lambda r: r[TEMPERATURE].final("ece") / r[PLAIN].final("ece"),
                at_most=bounds.halved,
                unit="of it is left",
                needs=(PLAIN, TEMPERATURE),
            )
        )
    claims += [
        report.Claim(
            text=f"sets hold {promised} of the labels, calibrator: {LABELS[name]}",
            reference="theorem: between 1 - alpha and 1 - alpha + 1 / (n + 1)",
            ours=functools.partial(_off, name, 1 - config.alpha),
            at_most=bounds.coverage,
            unit="away at most, of three kinds of scores",
            needs=(name,),
        )
        for name in config.calibrators
    ]
    return claims


def _off(name, promised, results):
    gaps = [results[name].final(f"coverage/{kind}") - promised for kind in KINDS]
    return np.abs(gaps).max(0)
