"""Do weights that make variables independent hold where correlations turn around?

Labels are a function of stable variables; others go with the label in training, in some
environments more than in others, and against it at the test. A linear classifier cannot
represent the function and leans on both, unless weights of the examples make the two
kinds independent of each other. Weights for all pairs of variables are compared with
weights for pairs from different clusters, of correlations that are the same everywhere.

Source: L2R-GNN, 2024, arXiv:2312.12475.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from experiments.common.keys import once_per_key
from experiments.common.references import stated
from logitlab import estimators, losses, report
from logitlab.train import Compute, Study

ARMS = {
    "unweighted": "unweighted",
    "all_pairs": "all pairs",
    "clustered": "clusters",
    "known": "the two kinds, known",
}
TEST, SEEN, SIZE = "accuracy/turned", "accuracy/training", "effective size"
CAPTIONS = {
    "turned": "Where spurious variables mostly point the other way.",
    "size": "How many examples of equal weight would tell as much.",
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    check_rates(config)
    measured = once_per_key(lambda key: measure(key, config))
    return Study(
        arms={
            name: Compute(lambda key, name=name: measured(key)[name]) for name in ARMS
        },
        figures=figures(ARMS),
        claims=claims(),
        labels=ARMS,
        title="Weights against correlations that do not last",
        summary=(
            f"{config.stable} stable and {config.spurious} spurious variables, "
            f"{len(config.rates)} environments of {config.rows} examples in which the "
            "spurious ones agree with the label in "
            f"{', '.join(f'{rate:.0%}' for rate in config.rates)} of the cases, and in "
            f"{config.test_rate:.0%} at the test."
        ),
        captions=CAPTIONS,
    )


def check_rates(config):
    """Refuses environments whose rates are no shares."""
    if not config.rates or not all(0 <= rate <= 1 for rate in config.rates):
        raise ValueError(
            f"config.rates is {tuple(config.rates)}, expected a share in [0, 1] for "
            "each environment"
        )


def figures(arms: dict) -> dict:
    """Accuracy at the test, and the effective sample size, of arms with labels."""
    ticks = [
        label.replace(", ", ",\n").replace("two kinds", "two\nkinds")
        for label in arms.values()
    ]
    shown = {"all": list(arms)}
    return {
        "turned": report.intervals(shown, ticks, TEST, label="accuracy at the test"),
        "size": report.intervals(
            shown, ticks, SIZE, label="effective sample size, of all examples"
        ),
    }


def draw(key: jax.Array, config, rate: float, rows: int) -> tuple:
    """Variables [rows, P], the stable ones first, and labels 0 or 1."""
    keys = jax.random.split(key, 4)
    common = jax.random.normal(keys[0], (rows, 1))
    stable = jax.random.normal(keys[1], (rows, config.stable)) + config.shared * common
    bent = stable[:, 0] * stable[:, 1] + jnp.abs(stable[:, 2]) - 0.8
    score = stable.mean(1) + config.bend * bent
    y = (score > 0).astype(jnp.int32)
    agrees = jax.random.bernoulli(keys[2], rate, (rows, 1))
    side = jnp.where(agrees, 1, -1) * (2 * y[:, None] - 1)
    noise = jax.random.normal(keys[3], (rows, config.spurious))
    return jnp.concatenate([stable, side + config.noise * noise], 1), y


def measure(key: jax.Array, config) -> dict:
    """Numbers of all arms, on the same data."""
    keys = jax.random.split(key, 4)
    parts = [
        draw(jax.random.fold_in(keys[0], at), config, rate, config.rows)
        for at, rate in enumerate(config.rates)
    ]
    z = jnp.stack([part[0] for part in parts])
    x, y = z.reshape(-1, z.shape[-1]), jnp.concatenate([part[1] for part in parts])
    kinds = (jnp.arange(x.shape[1]) >= config.stable).astype(jnp.int32)
    clusters = {
        "all_pairs": jnp.arange(x.shape[1]),
        "clustered": estimators.cluster_by_correlation_stability(z, 2, keys[1]),
        "known": kinds,
    }
    test = draw(keys[2], config, config.test_rate, config.test)
    values = {}
    for name in ARMS:
        weights, size = jnp.ones(len(x)), 1.0
        if name in clusters:
            found = estimators.learn_sample_weights(
                x,
                clusters[name],
                keys[3],
                steps=config.steps,
                learning_rate=config.learning_rate,
                l2=config.l2,
            )
            weights, size = found.weights, found.effective_size / len(x)
        params = fit(x, y, weights, config.fit_steps)
        values[name] = {
            TEST: _accuracy(params, *test),
            SEEN: _accuracy(params, x, y),
            SIZE: size,
            "spurious": jnp.abs(params[0][config.stable :]).mean()
            / jnp.abs(params[0][: config.stable]).mean(),
        }
    same = clusters["clustered"] == clusters["clustered"][0]
    right = jnp.maximum(jnp.mean(same == (kinds == 0)), jnp.mean(same != (kinds == 0)))
    values["clustered"]["kinds found"] = right
    return values


def _accuracy(params, x, y):
    return jnp.mean((x @ params[0] + params[1] > 0) == (y == 1))


@functools.partial(jax.jit, static_argnames="steps")
def fit(x: jax.Array, y: jax.Array, weights: jax.Array, steps: int) -> tuple:
    """Logistic regression of weighted examples: coefficients [P] and a bias."""

    def loss(params):
        logits = x @ params[0] + params[1]
        each = losses.sigmoid_cross_entropy(logits[:, None], y[:, None])[:, 0]
        return jnp.mean(weights * each) + 1e-4 * jnp.sum(params[0] ** 2)

    adam = optax.adam(0.05)

    def step(carry, _):
        params, state = carry
        updates, state = adam.update(jax.grad(loss)(params), state)
        return (optax.apply_updates(params, updates), state), None

    start = jnp.zeros(x.shape[1]), jnp.zeros(())
    (params, _), _ = jax.lax.scan(step, (start, adam.init(start)), length=steps)
    return params


def claims() -> list[report.Claim]:
    """What weights do at the test, and what they cost."""

    def ahead(text, arm, other, metric, **more):
        return report.Claim(
            text=text,
            ours=lambda r: 100 * (r[arm].final(metric) - r[other].final(metric)),
            above=0.0,
            over="mean",
            needs=(arm, other),
            **more,
        )

    better = stated("weighted models generalize out of distribution")
    larger = stated("clusters keep the effective sample size from shrinking")
    return [
        ahead(
            "weights for clusters are better than none at the test",
            "clustered",
            "unweighted",
            TEST,
            reference=better,
            unit="points ahead",
        ),
        ahead(
            "and so are weights for all pairs",
            "all_pairs",
            "unweighted",
            TEST,
            reference=better,
            unit="points ahead",
        ),
        ahead(
            "weights for clusters keep more examples than those for all pairs",
            "clustered",
            "all_pairs",
            SIZE,
            reference=larger,
            unit="% of the examples more",
        ),
        ahead(
            "weights for clusters are better than for all pairs at the test",
            "clustered",
            "all_pairs",
            TEST,
            unit="points ahead",
            question=True,
        ),
    ]
