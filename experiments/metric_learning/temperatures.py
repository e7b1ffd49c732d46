"""A temperature for every pair, learned: AMCL against one that is fixed.

The more kinds of augmentation there are, the more pairs of views differ in how alike
they are, and the less a single temperature should suit them all. Three heads and a
network of temperatures are compared with one head at one temperature.

Source: AMCL, 2023, arXiv:2310.05615.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.datasets import digits
from experiments.common.references import stated
from experiments.metric_learning._views import image_view, neighbor_accuracy
from logitlab import losses, metrics, models, report, transforms
from logitlab.train import Run, Study

KINDS = ("shift", "gaussian_noise", "rotation", "contrast", "occlusion")
FIXED, ADAPTIVE = "fixed", "adaptive"
LABELS = {FIXED: "one temperature", ADAPTIVE: "a temperature for each pair"}
VOTE = "neighbors/20"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    if not config.kinds or not {*config.kinds} <= {*range(1, len(KINDS) + 1)}:
        raise ValueError(
            f"config.kinds is {tuple(config.kinds)}, expected numbers from 1 to "
            f"{len(KINDS)}"
        )
    draw = functools.partial(_data, config, functools.cache(digits))
    arms = {
        arm_name(way, count): _run(config, way, KINDS[:count], draw)
        for count in config.kinds
        for way in LABELS
    }
    return Study(
        arms=arms,
        figures={
            "neighbors": report.intervals(
                {
                    label: [arm_name(way, count) for count in config.kinds]
                    for way, label in LABELS.items()
                },
                [str(count) for count in config.kinds],
                VOTE,
                label="accuracy of 20 neighbors",
                across="kinds of augmentation",
                joined=True,
            )
        },
        claims=_claims(config),
        labels={
            arm_name(way, count): f"{label}, {count} kind(s)"
            for way, label in LABELS.items()
            for count in config.kinds
        },
        title="Temperatures of pairs",
        summary=(
            f"Two views of each of {config.batch_size} digits, made by the first "
            f"{', '.join(map(str, config.kinds))} of {', '.join(KINDS)}. An encoder "
            f"with {' and '.join(map(str, config.widths))} units, {config.steps} steps "
            f"of Adam; {config.heads} heads of {config.dim} with adaptive temperatures "
            f"from {config.least:g} on, or one with {config.temperature:g}. "
            f"{config.train} images for training, as neighbors too."
        ),
        captions={"neighbors": "Test images classified by their nearest neighbors."},
    )


def arm_name(way: str, count: int) -> str:
    """Name of the arm of one or many temperatures and a number of augmentations."""
    return f"{way}_{count}"


def _data(config, load, key):
    x, y = load(centered=False)
    x, y = jnp.asarray(x, jnp.float32), jnp.asarray(y, jnp.int32)
    order = jax.random.permutation(key, len(y))
    return {
        name: {"x": x[rows], "y": y[rows]}
        for name, rows in (
            ("train", order[: config.train]),
            ("test", order[config.train :]),
        )
    }


def _run(config, way, kinds, draw) -> Run:
    heads = config.heads if way == ADAPTIVE else 1
    encoder = models.MLP(widths=tuple(config.widths[:-1]), classes=config.widths[-1])
    projector = models.MLP(widths=(config.widths[-1],), classes=heads * config.dim)
    scorer = models.MLP(widths=(config.dim,), classes=config.dim)

    def init(key):
        keys = jax.random.split(key, 3)
        features = jnp.zeros((1, config.widths[-1]))
        return {
            "encoder": encoder.init(keys[0], jnp.zeros((1, 64)))["params"],
            "projector": projector.init(keys[1], features)["params"],
            "scorer": scorer.init(keys[2], jnp.zeros((1, config.dim)))["params"],
        }

    def features(params, x):
        return encoder.apply({"params": params["encoder"]}, x - 0.5)

    def embed(params, x):
        """Of each head, [B, H, D], with what the temperatures are made of."""
        hidden = jax.nn.relu(features(params, x))
        e = projector.apply({"params": params["projector"]}, hidden)
        e = e.reshape(len(x), heads, config.dim)
        return e, scorer.apply({"params": params["scorer"]}, transforms.normalize(e))

    bounds = dict(min_temperature=config.least, max_temperature=config.most)

    def loss(params, batch, key):
        (e, k), (f, m) = (
            embed(params, image_view(view, batch["x"], kinds))
            for view in jax.random.split(key)
        )
        if way == FIXED:
            return losses.simclr_ntxent_loss(
                e[:, 0], f[:, 0], temperature=config.temperature
            )
        return losses.amcl_simclr_loss(e, f, k, m, beta=config.beta, **bounds)

    def evaluate(params, parts):
        test, train = parts["test"], parts["train"]
        found = neighbor_accuracy(
            features(params, test["x"]),
            test["y"],
            features(params, train["x"]),
            train["y"],
            ks=(20,),
            classes=10,
        )
        if way == ADAPTIVE:
            (e, k), (f, m) = (
                embed(params, image_view(jax.random.key(i), test["x"], kinds))
                for i in range(2)
            )
            tau = losses.adaptive_temperature(k, m, **bounds)
            unlike = 1 - jnp.sum(transforms.normalize(e) * transforms.normalize(f), -1)
            found["rank_correlation"] = rank_correlation(tau.ravel(), unlike.ravel())
            found["temperature"] = metrics.mean_of(tau)
        return found

    return Run(
        init=init,
        loss=loss,
        data=draw,
        optimizer=optax.adam(config.learning_rate),
        evaluate=evaluate,
        steps=config.steps,
        batch_size=config.batch_size,
        evaluate_at=(0, config.steps),
        show=(VOTE,),
    )


def rank_correlation(a, b):
    """Spearman's, of numbers without ties."""
    ranks = [jnp.argsort(jnp.argsort(x)).astype(jnp.float32) for x in (a, b)]
    return jnp.corrcoef(*ranks)[0, 1]


def _claims(config):
    def gap(results, count):
        ours, fixed = (
            results[arm_name(way, count)].final(VOTE) for way in (ADAPTIVE, FIXED)
        )
        return 100 * (ours - fixed)

    first, last = config.kinds[0], config.kinds[-1]
    ends = [arm_name(way, count) for way in LABELS for count in (first, last)]
    adaptive = [arm_name(ADAPTIVE, count) for count in config.kinds]
    return [
        report.Claim(
            text=f"{last} kinds of augmentation leave as much to gain as {first}",
            reference=stated("gains grow with the kinds of augmentation"),
            ours=lambda results: gap(results, last) - gap(results, first),
            at_least=0.0,
            over="mean",
            unit="points more",
            needs=tuple(ends),
        ),
        *(
            report.Claim(
                text=f"with {count} kind(s) adaptive temperatures are ahead",
                reference=stated("consistent gains"),
                ours=functools.partial(gap, count=count),
                above=0.0,
                over="mean",
                unit="points of accuracy",
                needs=(arm_name(ADAPTIVE, count), arm_name(FIXED, count)),
            )
            for count in config.kinds
        ),
        report.Claim(
            text="pairs that are less alike have higher temperatures",
            reference=stated("harder pairs have larger temperatures"),
            ours=lambda results: np.mean(
                [results[arm].final("rank_correlation") for arm in adaptive], 0
            ),
            above=0.0,
            over="mean",
            unit="rank correlation",
            needs=tuple(adaptive),
        ),
    ]
