"""Can one trust a halfspace that was learned from partly wrong labels?

Normal data, of which the most confident labels are wrong. The smoothed zero-one loss is
held against logistic regression, which follows them; and the tester that goes with it
has to accept normal data and to refuse such with a cluster on the boundary, or with one
feature of heavy tails.

Source: An Efficient Tester-Learner for Halfspaces, Gollakota et al. 2023,
arXiv:2302.14853.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.keys import once_per_key
from experiments.common.references import BOUND, prototype, stated
from logitlab import estimators, report
from logitlab.train import Compute, Study

SMOOTH, LOGISTIC = "smoothed", "logistic"
NORMAL, CLUSTER, TAILS = "normal", "cluster", "tails"
LEARNERS = {SMOOTH: "smoothed zero-one loss", LOGISTIC: "logistic regression"}
KINDS = {
    NORMAL: "normal data",
    CLUSTER: "a cluster on the boundary",
    TAILS: "a feature of heavy tails",
}


def build(config) -> Study:
    """The study; nothing here fits, writes or prints."""
    _check(config)
    learned = once_per_key(functools.partial(learn, config=config))
    arms = {
        name: Compute(lambda key, name=name: learned(key)[name]) for name in LEARNERS
    }
    arms |= {kind: Compute(functools.partial(tested, kind, config)) for kind in KINDS}
    return Study(
        arms=arms,
        figures={
            "error": report.intervals(
                {"error": tuple(LEARNERS)},
                tuple(LEARNERS.values()),
                "error",
                label="error on new examples",
            ),
            "accepted": report.intervals(
                {"accepted": tuple(KINDS)},
                ("normal data", "cluster on\nthe boundary", "heavy\ntails"),
                "accepted",
                label="share accepted",
            ),
        },
        claims=_claims(config),
        labels=LEARNERS | KINDS,
        title="Halfspaces from partly wrong labels, learned and tested",
        summary=(
            f"{config.rows} standard normal examples of {config.dimension} features, "
            f"{config.flipped:.0%} of the labels wrong, those farthest from the "
            "boundary. Logistic regression has a small penalty. The cluster holds "
            f"{config.cluster:.0%} of the examples; the heavy tails are those of "
            f"Student's t with {config.freedom:g} degrees of freedom, scaled to "
            "variance 1."
        ),
        captions={
            "error": "New examples have wrong labels too: none can do better than "
            f"{config.flipped:.0%}.",
            "accepted": "Share of the data sets that pass all tests.",
        },
    )


def _check(config):
    if not 0 < config.flipped < 0.5 or not 0 < config.cluster < 1:
        raise ValueError(
            f"config.flipped is {config.flipped}, config.cluster {config.cluster}; "
            "expected in (0, 0.5) and (0, 1)"
        )
    if config.freedom <= 2:
        raise ValueError(f"config.freedom is {config.freedom}, expected above 2")


def draw(
    key: jax.Array, w: jax.Array, config, kind: str = NORMAL
) -> tuple[jax.Array, jax.Array]:
    """Examples [N, D] and labels [N] of a kind, for the halfspace of w."""
    rows, dim = config.rows, config.dimension
    keys = jax.random.split(key, 3)
    x = jax.random.normal(keys[0], (rows, dim))
    if kind == TAILS:
        wide = jax.random.t(keys[1], config.freedom, (rows,))
        x = x.at[:, 0].set(wide * np.sqrt(1 - 2 / config.freedom))
    if kind == CLUSTER:
        place = jax.random.normal(keys[1], (dim,))
        place = place - (place @ w) * w
        place = 2 * place / jnp.linalg.norm(place)
        many = round(config.cluster * rows)
        x = x.at[:many].set(place[None] + 0.1 * x[:many])
    score = x @ w
    size = jnp.abs(score)
    wrong = size >= jnp.quantile(size, 1 - config.flipped)
    return x, ((score > 0) ^ wrong).astype(jnp.int32)


def direction(key: jax.Array, dim: int) -> jax.Array:
    """A random halfspace."""
    w = jax.random.normal(key, (dim,))
    return w / jnp.linalg.norm(w)


def learn(key: jax.Array, config) -> dict[str, dict]:
    """Errors on new examples, and angles from the true halfspace in degrees."""
    keys = jax.random.split(key, 4)
    w = direction(keys[0], config.dimension)
    x, y = draw(keys[1], w, config)
    new, truth = draw(keys[2], w, config)
    fit = estimators.fit_logistic(x, y, num_classes=2, l2=config.l2)
    found = {
        SMOOTH: estimators.learn_halfspace(
            x, y, keys[3], steps=config.steps, starts=config.starts
        ).direction,
        LOGISTIC: fit.kernel[:, 1] / jnp.linalg.norm(fit.kernel[:, 1]),
    }
    offset = {SMOOTH: 0.0, LOGISTIC: fit.bias[1] / jnp.linalg.norm(fit.kernel[:, 1])}
    return {
        name: {
            "error": jnp.mean((new @ v + offset[name] > 0) != truth),
            "angle": jnp.rad2deg(jnp.arccos(jnp.clip(v @ w, -1, 1))),
        }
        for name, v in found.items()
    }


def tested(kind: str, config, key: jax.Array) -> dict:
    """Whether the tester accepts data of a kind, and its statistics at the worst."""
    keys = jax.random.split(key, 3)
    w = direction(keys[0], config.dimension)
    x, y = draw(keys[1], w, config, kind)
    found = estimators.tester_learner(
        x, y, keys[2], steps=config.steps, starts=config.starts
    )
    return {
        "accepted": found.accepted.astype(float),
        "error": found.error,
        **{
            f"passes/{name}": found.tests.passes[:, i].all().astype(float)
            for i, name in enumerate(("moments", "mass", "band", "wrong", "enough"))
        },
    }


def _claims(config):
    bounds = config.tolerances
    refused = [
        report.Claim(
            text=f"the tester refuses {KINDS[kind]}",
            reference=stated("data that are not normal are refused"),
            ours=lambda r, kind=kind: np.mean(1 - r[kind].final("accepted")),
            at_least=bounds.decides,
            over="all",
            unit="of the data sets",
            needs=(kind,),
        )
        for kind in (CLUSTER, TAILS)
    ]
    return [
        report.Claim(
            text="the smoothed loss errs less than logistic regression",
            reference=prototype(".1035 against .1129"),
            ours=report.ahead("error", LOGISTIC, SMOOTH),
            above=0.0,
            unit="less error",
            needs=tuple(LEARNERS),
        ),
        report.Claim(
            text="its error is near that of the true halfspace",
            reference=BOUND,
            ours=lambda r: r[SMOOTH].final("error"),
            at_most=config.flipped + bounds.near,
            over="mean",
            unit="is the error",
            needs=(SMOOTH,),
        ),
        report.Claim(
            text="its angle is smaller than that of logistic regression",
            reference=prototype(".7 degrees against 2.3"),
            ours=report.ahead("angle", LOGISTIC, SMOOTH),
            above=0.0,
            over="mean",
            unit="degrees less",
            needs=tuple(LEARNERS),
        ),
        report.Claim(
            text="the tester accepts normal data with wrong labels",
            reference="theorem: with high probability",
            ours=lambda r: np.mean(r[NORMAL].final("accepted")),
            at_least=bounds.decides,
            over="all",
            unit="of the data sets",
            needs=(NORMAL,),
        ),
        *refused,
    ]
