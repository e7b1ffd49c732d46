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
from experiments.common.datasets import check_train, digits
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
    """Transitions of the images to learn from, images to test, and batches.

    Attributes:
      x: images [N, 64].
      next: an image of the digit that comes next.
      reward: without errors.
      error: of the reward, of scale 1.
      test_x: other images.
      test_value: true values of these.
      batches: rows of each step.
    """

    x: np.ndarray
    next: np.ndarray
    reward: np.ndarray
    error: np.ndarray
    test_x: np.ndarray
    test_value: np.ndarray
    batches: np.ndarray


def transitions(key: jax.Array, x: np.ndarray, y: np.ndarray, config) -> Rows:
    """One transition from each image of a random part, drawn on the host."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    mine, others = np.split(rng.permutation(len(y)), [config.train])
    chances, state = walk(config.stay), y[mine]
    following = np.array([rng.choice(STATES, p=chances[s]) for s in state])
    picked = [rng.choice(mine[state == s]) for s in following]
    return Rows(
        x[mine],
        x[picked],
        rewards()[state],
        rng.standard_t(config.noise.degrees, len(mine)),
        x[others],
        true_values(config)[y[others]],
        rng.integers(config.train, size=(config.steps, config.batch_size)),
    )


def _arms(config) -> dict:
    """An arm for each cell; all of them are learned in one program."""
    cells = [(m, scale) for scale in config.noise.scales for m in range(len(LABELS))]

    def draw(key):
        x, y = digits()
        return jax.tree.map(_narrow, transitions(key, x, y, config))

    errors = all_seeds_at_once(
        config, lambda key, rows: learned(key, rows, config, cells), draw
    )
    return {
        arm_name(list(LABELS)[m], scale): Compute(
            lambda key, place=place: {ERROR: errors(key)[place]}
        )
        for place, (m, scale) in enumerate(cells)
    }


def _narrow(a):
    return a.astype(np.float32 if a.dtype.kind == "f" else np.int32)


def values_of(outputs: jax.Array, method: jax.Array, bins) -> jax.Array:
    """Values that the outputs of a network stand for, by the place of its method."""
    atoms = jnp.linspace(bins.vmin, bins.vmax, bins.count)
    centers = (atoms * (bins.count - 1) / bins.count) + (bins.vmin + bins.vmax) / (
        2 * bins.count
    )
    number = list(LABELS).index
    support = jnp.where(method == number("hl_gauss"), centers, atoms)
    regressed = (method == number(MSE)) | (method == number(CLIPPED))
    return jnp.where(
        regressed, outputs[:, 0], targets.categorical_value(outputs, support)
    )


def costs(outputs, later, reward, method, config) -> jax.Array:
    """Losses [B] of a method, by its place, on outputs here and at the next image."""
    bins, g = config.bins, jnp.float32(config.discount)
    ends = dict(vmin=bins.vmin, vmax=bins.vmax)
    target = reward + g * values_of(later, method, bins)
    clipped = jnp.clip(target, bins.vmin, bins.vmax)

    def c51(z):
        atoms, probs = (
            jnp.linspace(bins.vmin, bins.vmax, bins.count),
            jax.nn.softmax(later),
        )
        return losses.c51_loss(z, probs, reward, g, atoms)

    ways = {
        MSE: lambda z: jnp.square(z[:, 0] - target),
        CLIPPED: lambda z: jnp.square(z[:, 0] - clipped),
        "hl_gauss": lambda z: losses.hl_gauss_loss(
            z, target, **ends, sigma_ratio=bins.sigma_ratio
        ),
        "two_hot": lambda z: losses.two_hot_loss(z, target, **ends),
        "c51": c51,
    }
    return jax.lax.switch(method, [ways[name] for name in LABELS], outputs)


def learned(key: jax.Array, rows: Rows, config, cells) -> jax.Array:
    """Final squared errors, for each cell, on images that were not learned from.

    Every network has an output for each bin; a regression learns the first alone.
    """
    model = models.MLP(tuple(config.widths), config.bins.count)
    optimizer = optax.adam(config.learning_rate)
    start = model.init(key, rows.x[:1])["params"]

    def train(cell):
        method, scale = cell
        reward = rows.reward + scale * rows.error

        def loss(params, copy, chosen):
            out, later = (
                model.apply({"params": tree}, x[chosen])
                for tree, x in ((params, rows.x), (copy, rows.next))
            )
            return costs(out, later, reward[chosen], method, config).mean()

        def step(state, chosen):
            params, copy, inner = state
            grads = jax.grad(loss)(params, copy, chosen)
            change, inner = optimizer.update(grads, inner)
            params = optax.apply_updates(params, change)
            copy = optax.incremental_update(params, copy, config.copy_rate)
            return (params, copy, inner), None

        state = start, start, optimizer.init(start)
        (params, *_), _ = jax.lax.scan(step, state, rows.batches)
        value = values_of(
            model.apply({"params": params}, rows.test_x), method, config.bins
        )
        return jnp.square(value - rows.test_value).mean()

    return jax.lax.map(train, tuple(map(jnp.array, zip(*cells, strict=True))))


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
