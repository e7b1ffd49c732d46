"""What do weights, correlations and a contrastive term add for labels that co-occur?

Eleven labels, from common to rare, are thresholds of correlated Gaussians, of which a
network sees a noisy linear image. The hybrid loss has three terms beyond plain binary
cross-entropy: weights of positives, a penalty by the labels' correlations and a
contrastive term of the embeddings. It is compared with the cross-entropy, and with
itself without each.

Source: inferred from the abstract of Arabic Multi-Label Emotion Classification,
arXiv:2410.03979.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.claims import ahead
from experiments.common.keys import all_seeds_at_once
from experiments.common.references import stated
from logitlab import losses, models, report, targets
from logitlab.train import Compute, Study

BCE, HYBRID = "bce", "hybrid"
PARTS = ("weights", "correlations", "contrast")
ARMS = {  # which of the three parts an arm has
    BCE: ("binary cross-entropy", ()),
    HYBRID: ("hybrid", PARTS),
} | {
    f"no_{part}": (f"hybrid without {part}", tuple({*PARTS} - {part})) for part in PARTS
}
METRICS = {
    "macro_f1": "macro F1",
    "micro_f1": "micro F1",
    "jaccard": "Jaccard accuracy",
    "hamming": "Hamming loss",
}
LABELS = 11


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    scores = all_seeds_at_once(config, lambda key: learned(key, config))
    return Study(
        arms={
            name: Compute(
                lambda key, i=i: {metric: s[i] for metric, s in scores(key).items()}
            )
            for i, name in enumerate(ARMS)
        },
        figures={
            "f1": report.intervals(
                {words: [name] for name, (words, _) in ARMS.items()},
                [""],
                "macro_f1",
                label="macro F1 of test examples",
            ),
            "gains": report.differences("macro_f1", BCE, scale=100, label="points"),
        },
        claims=_claims(config.tolerances),
        labels={name: words for name, (words, _) in ARMS.items()},
        title="A hybrid loss for labels that co-occur",
        summary=(
            f"{LABELS} labels in {len(config.blocks)} blocks of correlation "
            f"{config.correlation:g}, present in {config.most:.0%} of the examples and "
            f"down to {config.most / LABELS:.1%}; {config.train} examples of "
            f"{config.features} features to learn from and {config.test} to test, "
            f"{config.steps} steps of Adam. A label is given from a probability of 0.5 "
            "on. The weights of the terms are ours: the abstract has none."
        ),
        captions={
            "f1": "Mean F1 over the labels, each counted alike.",
            "gains": "Points of macro F1 ahead of the cross-entropy, seed by seed.",
        },
    )


def _check(config):
    if sum(config.blocks) != LABELS:
        raise ValueError(
            f"config.blocks is {tuple(config.blocks)}, expected {LABELS} labels"
        )
    if not 0 < config.most < 1 or not 0 <= config.correlation < 1:
        raise ValueError(
            f"config.most is {config.most}, config.correlation {config.correlation}; "
            "expected within (0, 1) and [0, 1)"
        )


def draw(key: jax.Array, config, count: int, mixing: jax.Array) -> tuple:
    """Features [N, D] and labels [N, 11] of examples."""
    keys = jax.random.split(key, 3)
    block = np.repeat(np.arange(len(config.blocks)), config.blocks)
    rank = np.arange(LABELS) * 7 % LABELS  # rare ones in every block
    r = config.correlation
    shared = jax.random.normal(keys[0], (count, len(config.blocks)))[:, block]
    own = jax.random.normal(keys[1], (count, LABELS))
    latent = r**0.5 * shared + (1 - r) ** 0.5 * own
    cut = jax.scipy.stats.norm.ppf(1 - config.most / (1.0 + rank))
    noise = config.noise * jax.random.normal(keys[2], (count, config.features))
    return latent @ mixing + noise, (latent > cut[None]).astype(jnp.int32)


def learned(key: jax.Array, config) -> dict:
    """Scores of all arms [arms], learned from the same examples and start."""
    keys = jax.random.split(key, 5)
    mixing = jax.random.normal(keys[0], (LABELS, config.features)) / LABELS**0.5
    x, t = draw(keys[1], config, config.train, mixing)
    test_x, test_t = draw(keys[2], config, config.test, mixing)
    encoder = models.MLP((config.width,), config.embedding)
    head = models.MLP((), LABELS)
    corr, optimizer = targets.label_correlation(t), optax.adam(config.learning_rate)
    counts = jnp.maximum(t.sum(0), 1)
    weights = jnp.clip(config.train / (2 * counts), 1, 20)
    init_keys = jax.random.split(keys[3])
    start = {
        "encoder": encoder.init(init_keys[0], x[:1])["params"],
        "head": head.init(init_keys[1], jnp.zeros((1, config.embedding)))["params"],
    }
    shape = (config.steps, config.batch_size)
    batches = jax.random.randint(keys[4], shape, 0, config.train)

    def outputs(params, x):
        e = encoder.apply({"params": params["encoder"]}, x)
        return head.apply({"params": params["head"]}, jax.nn.relu(e)), e

    def train(has):
        weight = jnp.where(has[0] > 0, weights, 1.0)

        def loss(params, rows):
            z, e = outputs(params, x[rows])
            return losses.multilabel_hybrid_loss(
                z,
                t[rows],
                e,
                weight,
                corr,
                coefficients=(
                    1.0,
                    config.coefficients.correlations * has[1],
                    config.coefficients.contrast * has[2],
                ),
                margin=config.margin,
            )

        def step(state, rows):
            params, inner = state
            change, inner = optimizer.update(jax.grad(loss)(params, rows), inner)
            return (optax.apply_updates(params, change), inner), None

        state = start, optimizer.init(start)
        (params, _), _ = jax.lax.scan(step, state, batches)
        return scores(outputs(params, test_x)[0] > 0, test_t)

    has = [[float(part in parts) for part in PARTS] for _, parts in ARMS.values()]
    return jax.vmap(train)(jnp.array(has))


def scores(given: jax.Array, labels: jax.Array) -> dict:
    """Macro and micro F1, Jaccard accuracy and Hamming loss of given labels.

    Shapes: given bool [N, C], labels [N, C]
    """
    true = labels > 0
    both, total = (given & true).sum(0), given.sum(0) + true.sum(0)
    inside, either = (given & true).sum(1), (given | true).sum(1)
    return {
        "macro_f1": jnp.mean(2 * both / jnp.maximum(total, 1)),
        "micro_f1": 2 * both.sum() / jnp.maximum(total.sum(), 1),
        "jaccard": jnp.mean(jnp.where(either > 0, inside / jnp.maximum(either, 1), 1)),
        "hamming": jnp.mean(given != true),
    }


def _claims(bounds):
    def gain(text, metric, arm, other, **claim):
        return ahead(
            text, metric, arm, other, scale=100, over="mean", unit="points", **claim
        )

    source = stated("the hybrid loss is ahead of its parts")
    return [
        gain(
            "the hybrid loss is ahead of binary cross-entropy in macro F1",
            "macro_f1",
            HYBRID,
            BCE,
            reference=source,
            at_least=bounds.macro,
        ),
        gain(
            "it loses little in micro F1",
            "micro_f1",
            HYBRID,
            BCE,
            reference=source,
            at_least=-bounds.micro,
        ),
        *(
            gain(
                f"without {part} it has less macro F1",
                "macro_f1",
                HYBRID,
                f"no_{part}",
                reference=stated("each part contributes"),
                above=0.0,
            )
            for part in PARTS
        ),
        gain(
            "it is ahead of binary cross-entropy in Jaccard accuracy",
            "jaccard",
            HYBRID,
            BCE,
            above=0.0,
            question=True,
        ),
    ]
