"""Do blocks that never hear of each other make a classifier together?

Each block of NoProp learns to denoise the label from the input and a noisier label;
all are trained at once, and no gradient passes between them. To classify, noise goes
through them one after another. Beside it stands one hidden layer of the same width,
trained by backpropagation.

Source: NoProp, Li, Teh and Pascanu 2025, arXiv:2503.24322.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from experiments.common import datasets
from experiments.common.references import prototype
from logitlab import data, losses, metrics, models, report
from logitlab.train import Run, Study
from logitlab.train.config import check_name

SETS = {"digits": "digits", "mnist1d": "MNIST-1D"}
METHODS = {"noprop": "NoProp", "backprop": "backpropagation"}


def arm_name(method: str, name: str) -> str:
    """Name of the arm of a method on a data set."""
    return f"{name}_{method}"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    blocks = [arm_name("noprop", name) for name in config.sets]
    return Study(
        arms={
            arm_name(method, name): _run(config, method, _splits(config, name))
            for name in config.sets
            for method in METHODS
        },
        figures={
            "depth": report.trends(
                {t + 1: f"block/{t + 1}" for t in range(config.blocks)},
                arms=blocks,
                label="test accuracy of the block's own answer",
                across="block",
            ),
            "accuracy": report.intervals(
                {
                    words: [arm_name(method, name) for name in config.sets]
                    for method, words in METHODS.items()
                },
                [SETS[name] for name in config.sets],
                "test/accuracy",
                label="test accuracy",
            ),
        },
        claims=_claims(config),
        labels={
            arm_name(method, name): f"{SETS[name]}, {words}"
            for name in config.sets
            for method, words in METHODS.items()
        },
        title="Blocks that denoise the label, each trained alone",
        summary=(
            f"{config.blocks} blocks of one hidden layer of {config.width} over the "
            "input and a noisy one-hot label; and one such layer over the input alone. "
            f"{config.steps} steps of AdamW on batches of {config.batch_size}."
        ),
        captions={
            "depth": "How often the label is right that a block predicts.",
            "accuracy": "At the end: NoProp's read-out, and the layer's.",
        },
    )


def _check(config):
    for name in config.sets:
        check_name(name, tuple(SETS), "config.sets")
    for name in ("blocks", "width", "steps"):
        if config[name] < 1:
            raise ValueError(f"config.{name} is {config[name]}, expected at least 1")


def _splits(config, name):
    """A function of a key that gives rows to learn from and to test."""
    if name == "digits":
        images, labels = datasets.images()

        def divided(key):
            rows = datasets.divide(key, images, labels, config.train)
            return {
                "train": {"x": rows.x, "y": rows.y},
                "test": {"x": rows.test_x, "y": rows.test_y},
            }

        return divided
    parts = data.load(name, config.data.data_dir or None, standardize=True)

    def flat(part):
        return {"x": part["x"].reshape(len(part["x"]), -1), "y": part["y"]}

    return lambda key: {name: flat(part) for name, part in parts.items()}


def latents(key: jax.Array, u: jax.Array, schedule: models.NoPropSchedule) -> jax.Array:
    """Embeddings [B, C] behind the noise of every level, [T + 1, B, C]."""
    bar = schedule.alpha_bar[:, None, None]
    noise = jax.random.normal(key, (len(schedule.alpha_bar), *u.shape))
    return jnp.sqrt(bar) * u[None] + jnp.sqrt(1 - bar) * noise


def block_losses(apply, blocks, z, x, u, schedule, eta) -> jax.Array:
    """The loss of every block on every row, [T, B], each of its own latents."""

    def of_block(params, z, snr_diff):
        u_hat = apply(params, z, x)
        steps = len(schedule.snr_diff)
        return losses.noprop_block_loss(
            u_hat, u, snr_diff=snr_diff, steps=steps, eta=eta
        )

    return jax.vmap(of_block)(blocks, z, schedule.snr_diff)


def gradients_across(apply, blocks, *args) -> tuple[jax.Array, jax.Array]:
    """Largest slope of a block's loss in another block's parameters, and in its own."""
    slopes = jax.jacrev(lambda blocks: block_losses(apply, blocks, *args).mean(1))(
        blocks
    )
    leaves = [
        jnp.abs(leaf).reshape(*leaf.shape[:2], -1).max(-1)
        for leaf in jax.tree.leaves(slopes)
    ]
    largest = functools.reduce(jnp.maximum, leaves)  # [of the loss, of the block]
    own = jnp.eye(len(largest), dtype=bool)
    return jnp.where(own, 0, largest).max(), jnp.diag(largest).min()


def _run(config, method, splits) -> Run:
    shapes = jax.eval_shape(splits, jax.random.key(0))["train"]["x"].shape
    model = models.MLP((config.width,), 10)
    optimizer = optax.adamw(config.learning_rate, weight_decay=config.weight_decay)
    if method == "backprop":

        def loss(params, batch, key):
            del key
            return losses.cross_entropy(
                model.apply({"params": params}, batch["x"]), batch["y"]
            )

        def init(key):
            return model.init(key, jnp.zeros((1, shapes[1])))["params"]

        def evaluate(params, held):
            x, y = held["test"]["x"], held["test"]["y"]
            z = model.apply({"params": params}, x)
            return {"test/accuracy": metrics.accuracy(z, y)}

    else:
        init, loss, evaluate = _noprop(config, model, shapes[1])
    return Run(
        init=init,
        loss=loss,
        data=splits,
        optimizer=optimizer,
        evaluate=evaluate,
        steps=config.steps,
        batch_size=config.batch_size,
        evaluate_at=sorted({round(config.steps * i / 5) for i in range(6)}),
        show=("test/accuracy",),
    )


def _noprop(config, model, features):
    schedule = models.noprop_schedule(config.blocks)

    def apply(params, z, x):
        """A block: embeddings are one-hot, so that its probabilities are one."""
        both = jnp.concatenate([x, z], -1)
        return jax.nn.softmax(model.apply({"params": params}, both))

    def read(params, z):
        return z @ params["kernel"] + params["bias"][None]

    def init(key):
        keys = jax.random.split(key, config.blocks)
        both = jnp.zeros((1, features + 10))
        blocks = jax.vmap(lambda key: model.init(key, both)["params"])(keys)
        out = {"kernel": jnp.zeros((10, 10)), "bias": jnp.zeros(10)}
        return {"blocks": blocks, "out": out}

    def loss(params, batch, key):
        u = jax.nn.one_hot(batch["y"], 10)
        z = latents(key, u, schedule)
        args = z[:-1], batch["x"], u, schedule, config.eta
        blocks = block_losses(apply, params["blocks"], *args)
        return losses.cross_entropy(read(params["out"], z[-1]), batch["y"]) + (
            blocks.mean(0)
        )

    def evaluate(params, held):
        x, y = held["test"]["x"], held["test"]["y"]
        z, u_hat = models.noprop_forward(
            lambda block, z: apply(block, z, x),
            params["blocks"],
            jax.random.key(0),
            schedule=schedule,
            shape=(len(x), 10),
        )
        some = {name: rows[:128] for name, rows in held["train"].items()}
        u = jax.nn.one_hot(some["y"], 10)
        noisy = latents(jax.random.key(1), u, schedule)[:-1]
        across, own = gradients_across(
            apply, params["blocks"], noisy, some["x"], u, schedule, config.eta
        )
        return {
            "test/accuracy": metrics.accuracy(read(params["out"], z), y),
            "gradient/across": across,
            "gradient/own": own,
        } | {f"block/{t + 1}": metrics.accuracy(p, y) for t, p in enumerate(u_hat)}

    return init, loss, evaluate


def gain(arm, blocks: int):
    """Accuracy that the blocks after the first add, in points."""
    return 100 * (arm.final(f"block/{blocks}") - arm.final("block/1"))


def _claims(config):
    bounds, claims = config.tolerances, []
    for name in config.sets:
        arm = arm_name("noprop", name)
        claims += [
            report.Claim(
                text=f"no block's loss slopes in another's parameters, {SETS[name]}",
                reference="definition: blocks share nothing",
                ours=lambda r, arm=arm: r[arm]["gradient/across"].max(0),
                at_most=0.0,
                unit="is the largest slope",
                needs=(arm,),
            ),
            report.Claim(
                text=f"while each slopes in its own, {SETS[name]}",
                reference="definition: each block learns",
                ours=lambda r, arm=arm: r[arm]["gradient/own"].min(0),
                above=0.0,
                unit="is the smallest of the largest slopes",
                needs=(arm,),
            ),
        ]
    if "digits" in config.sets:
        arm = arm_name("noprop", "digits")
        claims += [
            report.Claim(
                text="blocks trained alone classify digits",
                reference=prototype("0.952 and 0.970"),
                ours=lambda r: r[arm].final("test/accuracy"),
                at_least=bounds.accuracy,
                over="mean",
                unit="test accuracy",
                needs=(arm,),
            ),
            report.Claim(
                text="on digits the later blocks add nothing to the first",
                reference=prototype("0.977 to 0.982 at block 1, 0.952 to 0.970 at 10"),
                ours=lambda r: gain(r[arm], config.blocks),
                at_most=bounds.gain,
                over="mean",
                unit="points",
                needs=(arm,),
            ),
        ]
    if "mnist1d" in config.sets:
        other = arm_name("noprop", "mnist1d")
        claims.append(
            report.Claim(
                text="on MNIST-1D the later blocks add to the first",
                ours=lambda r: gain(r[other], config.blocks),
                above=bounds.gain,
                over="mean",
                unit="points",
                needs=(other,),
                question=True,
            )
        )
    return claims
