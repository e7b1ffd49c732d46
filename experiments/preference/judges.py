"""Does a judge contradict itself less if its probabilities are read, not its words?

A synthetic judge sees the quality of answers with noise. It scores them on a scale and
compares them in pairs, in both orders, with a liking for the answer that comes first.
The usual way takes its likeliest score, and a verdict only if both orders agree on it;
TrustJudge takes the expected score, and the likeliest verdict of both orders together.

Source: TrustJudge, 2025, arXiv:2509.21117, github.com/TrustJudge/TrustJudge.
"""

import jax
import jax.numpy as jnp

from experiments.common.keys import once_per_key
from experiments.common.references import prototype
from logitlab import metrics, report
from logitlab.train import Compute, Study

VERDICTS = {"agreement": "verdict of both orders", "likelihood": "likelihoods"}
SCORES = {
    "likeliest_coarse": "likeliest,\ncoarse",
    "likeliest_fine": "likeliest,\nfine",
    "expected_coarse": "expected,\ncoarse",
    "expected_fine": "expected,\nfine",
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    measured = once_per_key(lambda key: measure(key, config))
    arms = VERDICTS | {name: words.replace("\n", " ") for name, words in SCORES.items()}
    return Study(
        arms={
            name: Compute(lambda key, name=name: measured(key)[name]) for name in arms
        },
        figures={
            "sets": report.trends(
                {size: f"contradicted/{size}" for size in config.sets},
                arms=list(VERDICTS),
                label="sets that contradict themselves",
                across="answers in a set",
            ),
            **{
                f"conflicts_{verdict}": report.intervals(
                    {"all": list(SCORES)},
                    list(SCORES.values()),
                    f"conflict/{verdict}",
                    label="pairs whose scores and verdict disagree",
                )
                for verdict in VERDICTS
            },
        },
        claims=_claims(config),
        labels=arms,
        title="Reading a judge's probabilities",
        summary=(
            f"{config.questions} questions with {config.answers} answers of quality "
            f"N(0, {config.spread:g}^2), seen with noise of {config.noise:g}. Scores "
            f"have {config.coarse} levels or {config.fine}; a verdict has logits x and "
            f"-x for the first and the second answer, with x {config.slope:g} times "
            f"the difference seen plus {config.bias:g}, and {config.tie:g} for a tie."
        ),
        captions={
            "sets": "Three answers of a set whose verdicts are no order.",
            "conflicts_likelihood": "Against verdicts by likelihoods of both orders.",
            "conflicts_agreement": "Against verdicts on which both orders agree, which "
            "have many ties.",
        },
    )


def _check(config):
    if not all(3 <= size <= config.answers for size in config.sets):
        raise ValueError(
            f"config.sets is {tuple(config.sets)}, expected sizes from 3 to "
            f"config.answers, {config.answers}"
        )
    if not 2 <= config.coarse < config.fine:
        raise ValueError(
            f"config.coarse is {config.coarse} and config.fine {config.fine}, expected "
            "growing numbers of levels, at least 2"
        )


def score_logits(seen: jax.Array, levels: int, spread: float) -> jax.Array:
    """Logits of the scores 1 to ``levels``, [..., levels], of a quality that is seen.

    Scores stand for qualities from -3 to 3 deviations, evenly spaced; their likelihood
    is Gaussian around what is seen, with a deviation of a half of the spread.
    """
    grid = jnp.linspace(-3 * spread, 3 * spread, levels)
    gaps = seen[..., None] - grid.reshape((1,) * seen.ndim + (levels,))
    return -2 * (gaps / spread) ** 2


def verdicts(key: jax.Array, quality: jax.Array, config) -> jax.Array:
    """Probabilities of "A", "B" and a tie, [..., N, N, 3], the first answer as A."""
    gaps = quality[..., :, None] - quality[..., None, :]
    gaps += config.noise * jax.random.normal(key, gaps.shape)
    x = config.slope * gaps + config.bias
    return jax.nn.softmax(jnp.stack([x, -x, jnp.full_like(x, config.tie)], -1))


def measure(key: jax.Array, config) -> dict:
    """Rates of contradictions and conflicts, by the way that the judge is read."""
    keys = jax.random.split(key, 4)
    shape = (config.questions, config.answers)
    quality = config.spread * jax.random.normal(keys[0], shape)
    both = verdicts(keys[1], quality, config)
    relations = {
        method: metrics.pairwise_from_bidirectional(
            both, jnp.swapaxes(both, 1, 2), method=method
        )
        for method in VERDICTS
    }
    values = {
        method: {
            f"contradicted/{size}": metrics.non_transitivity_ratio(relation, k=size)
            for size in config.sets
        }
        | {"ties": metrics.mean_of(_pairs(relation) == 0)}
        for method, relation in relations.items()
    }
    for name, levels, key in zip(
        ("coarse", "fine"), (config.coarse, config.fine), keys[2:], strict=True
    ):
        seen = quality + config.noise * jax.random.normal(key, shape)
        logits = score_logits(seen, levels, config.spread)
        found = {
            f"likeliest_{name}": 1.0 + logits.argmax(-1),
            f"expected_{name}": metrics.expected_score(logits),
        }
        for way, scores in found.items():
            values[way] = {
                f"conflict/{method}": metrics.conflict_ratio(scores, relation)
                for method, relation in relations.items()
            }
    return values


def _pairs(relation):
    at = jnp.triu_indices(relation.shape[-1], 1)
    return relation[:, *at]


def _claims(config):
    bounds = config.tolerances

    def drop(metric, other_metric, arm, other):
        """The share of one rate that is gone in the other."""
        return lambda r: 1 - r[arm].final(metric) / r[other].final(other_metric)

    claims = []
    for size in config.sets:
        name = f"contradicted/{size}"
        reference = "the paper has 4.4 % for 15.2 % of sets of five, of a 70B model"
        if size == 3:
            reference = prototype("0.039 for 0.135")
        claims.append(
            report.Claim(
                text=f"likelihoods make fewer sets of {size} contradict themselves",
                reference=reference,
                ours=drop(name, name, "likelihood", "agreement"),
                at_least=bounds.contradicted,
                over="mean",
                unit="of them gone",
                needs=tuple(VERDICTS),
            )
        )
    needs = ("expected_fine", "likeliest_coarse")
    agreed, likely = (f"conflict/{method}" for method in VERDICTS)
    return [
        *claims,
        report.Claim(
            text="expected scores on the fine scale disagree less with likelihoods "
            "than the likeliest ones on the coarse scale",
            reference="the paper has 14.9 % for 23.3 % of a 70B model, "
            + prototype("0.199 for 0.294"),
            ours=drop(likely, likely, *needs),
            at_least=bounds.conflict,
            over="mean",
            unit="of the conflicts gone",
            needs=needs,
        ),
        report.Claim(
            text="and more with the verdicts on which both orders agree, whose ties no "
            "expected score has",
            reference=prototype("0.334 for 0.289"),
            ours=lambda r: r[needs[0]].final(agreed) - r[needs[1]].final(agreed),
            at_least=0.0,
            over="mean",
            unit="of the pairs more",
            needs=needs,
        ),
        report.Claim(
            text="the fine scale alone is enough: likeliest scores on it do as well",
            ours=drop(likely, likely, "likeliest_fine", "likeliest_coarse"),
            at_least=bounds.conflict,
            over="mean",
            unit="of the conflicts gone",
            needs=("likeliest_fine", "likeliest_coarse"),
            question=True,
        ),
    ]
