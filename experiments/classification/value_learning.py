"""Should a value that is learned from its own predictions be classified too?

A process walks over the digits, stays or goes to a neighbor on a ring, and pays by the
half of the ring it is on. What is seen of a digit is an image of it. From transitions
collected once, with heavy-tailed errors in the rewards, networks learn the value of an
image by the reward and the discounted value that a slow copy gives the next image.
True values are known, for the walk has ten states.

Source: Stop Regressing, Farebrother et al. 2024, arXiv:2403.03950; C51, Bellemare et
al. 2017, arXiv:1707.06887.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.claims import ahead
from experiments.common.datasets import check_train, divide, images
from experiments.common.keys import all_seeds_at_once
from experiments.common.references import stated
from logitlab import losses, models, report, targets
from logitlab.train import Compute, Study

MSE, CLIPPED = "mse", "mse_clipped"
LABELS = {
    MSE: "squared error",
    CLIPPED: "squared error, clipped targets",
    "hl_gauss": "HL-Gauss",
    "two_hot": "two-hot",
    "c51": "C51",
}
ERROR = "squared_error"
STATES = 10


def arm_name(method: str, scale: float) -> str:
    """Name of the arm that trains a method on rewards with errors of a scale."""
    return f"{method}_{scale:g}"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    scales = config.noise.scales
    cells = [(method, scale) for scale in scales for method in LABELS]
    return Study(
        arms=_arms(config),
        figures={
            "error": report.intervals(
                {
                    label: [arm_name(method, scale) for scale in scales]
                    for method, label in LABELS.items()
                },
                [f"{scale:g}" for scale in scales],
                ERROR,
                label="squared error on true values",
                across="scale of the errors of rewards",
                log=True,
            )
        },
        claims=_claims(config),
        labels={
            arm_name(method, scale): f"{LABELS[method]}, scale {scale:g}"
            for method, scale in cells
        },
        title="Values from bootstrapped targets",
        summary=(
            f"One transition from each of {config.train} images of digits; rewards of "
            f"±1 plus Student-t errors with {config.noise.degrees:g} degrees of "
            f"freedom, discount {config.discount:g}. {config.bins.count} bins from "
            f"{config.bins.vmin:g} to {config.bins.vmax:g}; {config.steps} steps of "
            f"Adam, and a copy for the targets that moves by {config.copy_rate:g} of "
            "the way with each."
        ),
        captions={
            "error": (
                "Of test images, against the value of their digit, at the end; true "
                f"values have a variance of {true_values(config).var():.2f}."
            )
        },
    )


def _check(config):
    check_train(config.train)
    if not config.noise.scales or min(config.noise.scales) < 0:
        raise ValueError(
            f"config.noise.scales is {tuple(config.noise.scales)}, expected numbers "
            "from 0 on"
        )
    if not 0 <= config.discount < 1:
        raise ValueError(f"config.discount is {config.discount}, expected in [0, 1)")
    largest, ends = 1 / (1 - config.discount), (config.bins.vmin, config.bins.vmax)
    if not ends[0] <= -largest < largest <= ends[1]:
        raise ValueError(
            f"config.bins goes from {ends[0]} to {ends[1]}, expected all values, from "
            f"{-largest:g} to {largest:g}"
        )


def walk(stay: float) -> np.ndarray:
    """Chances of going from one digit to another, [10, 10]."""
    one = np.eye(STATES)
    return stay * one + (1 - stay) / 2 * (np.roll(one, 1, 1) + np.roll(one, -1, 1))


def rewards() -> np.ndarray:
    """What each digit pays, without errors."""
    return np.where(np.arange(STATES) < STATES // 2, -1.0, 1.0)


def true_values(config) -> np.ndarray:
    """The value of each digit: the solution of Bellman's equation."""
    system = np.eye(STATES) - config.discount * walk(config.stay)
    return np.linalg.solve(system, rewards())


class Rows(NamedTuple):
    """Transitions of the images to learn from, and images to test.

    Attributes:
      x: images [N, 64].
      next: an image of the digit that comes next.
      reward: without errors.
      error: of the reward, of scale 1.
      test_x: other images.
      test_value: true values of these.
    """

    x: jax.Array
    next: jax.Array
    reward: jax.Array
    error: jax.Array
    test_x: jax.Array
    test_value: jax.Array


def transitions(key: jax.Array, x: jax.Array, y: jax.Array, config) -> Rows:
    """One transition from each image of a random part."""
    keys = jax.random.split(key, 4)
    parts = divide(keys[0], x, y, config.train)
    chances = jnp.asarray(walk(config.stay), jnp.float32)
    following = jax.random.categorical(keys[1], jnp.log(chances)[parts.y])
    same = following[:, None] == parts.y[None]
    picked = jax.random.categorical(keys[2], jnp.where(same, 0.0, -jnp.inf))
    return Rows(
        parts.x,
        parts.x[picked],
        jnp.asarray(rewards(), jnp.float32)[parts.y],
        jax.random.t(keys[3], config.noise.degrees, parts.y.shape),
        parts.test_x,
        jnp.asarray(true_values(config), jnp.float32)[parts.test_y],
    )


def _arms(config) -> dict:
    """An arm for each cell; the scales of a method are learned in one program."""
    draw = all_seeds_at_once(config, lambda key: transitions(key, *images(), config))
    scales, arms = config.noise.scales, {}
    for method in LABELS:

        def make(key, rows, method=method):
            return jax.vmap(lambda size: learned(key, rows, config, method, size))(
                jnp.array(scales)
            )

        errors = all_seeds_at_once(config, make, draw)
        for place, scale in enumerate(scales):
            arms[arm_name(method, scale)] = Compute(
                lambda key, errors=errors, place=place: {ERROR: errors(key)[place]}
            )
    return arms


def _support(method, bins):
    """What the outputs of a network stand for."""
    half = (bins.vmax - bins.vmin) / bins.count / 2 * (method == "hl_gauss")
    return jnp.linspace(bins.vmin + half, bins.vmax - half, bins.count)


def learned(key: jax.Array, rows: Rows, config, method: str, scale: jax.Array):
    """The final squared error of a network on images that it has not seen."""
    keys = jax.random.split(key)
    data = {"x": rows.x, "next": rows.next}
    data["reward"] = rows.reward + scale * rows.error
    bins, regressed = config.bins, method in (MSE, CLIPPED)
    ends, support = dict(vmin=bins.vmin, vmax=bins.vmax), _support(method, bins)
    model = models.MLP(tuple(config.widths), 1 if regressed else bins.count)
    optimizer = optax.adam(config.learning_rate)

    def value(out):
        return out[:, 0] if regressed else targets.categorical_value(out, support)

    def loss(params, copy, batch):
        out = model.apply({"params": params}, batch["x"])
        later = model.apply({"params": copy}, batch["next"])
        if method == "c51":
            probs, g = jax.nn.softmax(later), jnp.float32(config.discount)
            return losses.c51_loss(out, probs, batch["reward"], g, support).mean()
        target = batch["reward"] + config.discount * value(later)
        if method == "two_hot":
            return losses.two_hot_loss(out, target, **ends).mean()
        if method == "hl_gauss":
            return losses.hl_gauss_loss(
                out, target, **ends, sigma_ratio=bins.sigma_ratio
            ).mean()
        if method == CLIPPED:
            target = jnp.clip(target, bins.vmin, bins.vmax)
        return jnp.square(out[:, 0] - target).mean()

    def step(state, chosen):
        params, copy, inner = state
        batch = jax.tree.map(lambda a: a[chosen], data)
        change, inner = optimizer.update(jax.grad(loss)(params, copy, batch), inner)
        params = optax.apply_updates(params, change)
        copy = optax.incremental_update(params, copy, config.copy_rate)
        return (params, copy, inner), None

    params = model.init(keys[0], rows.x[:1])["params"]
    state = params, params, optimizer.init(params)
    batches = (config.steps, config.batch_size)
    chosen = jax.random.randint(keys[1], batches, 0, config.train)
    (params, *_), _ = jax.lax.scan(step, state, chosen)
    error = value(model.apply({"params": params}, rows.test_x)) - rows.test_value
    return jnp.square(error).mean()


def _claims(config):
    claims, bound = [], config.tolerances.error_over_mse
    for scale in config.noise.scales:
        words = f"rewards with errors of scale {scale:g}"
        claims += [
            ahead(
                f"{LABELS[method]} has at most {bound:g} of the error of regression, "
                f"{words}",
                ERROR,
                arm_name(method, scale),
                arm_name(MSE, scale),
                times=bound,
                reference=stated("classification outperforms regression"),
                at_most=0.0,
                over="mean",
                unit=f"above {bound:g} of its error",
            )
            for method in ("hl_gauss", "two_hot", "c51")
        ]
        claims += [
            ahead(
                f"HL-Gauss has less error than {LABELS[other]}, {words}",
                ERROR,
                arm_name(other, scale),
                arm_name("hl_gauss", scale),
                above=0.0,
                over="mean",
                unit="more",
                **source,
            )
            for other, source in (
                ("two_hot", dict(reference=stated("HL-Gauss is ahead of two-hot"))),
                ("c51", dict(reference=stated("HL-Gauss is ahead of C51"))),
                (CLIPPED, dict(question=True)),
            )
        ]
    return claims
