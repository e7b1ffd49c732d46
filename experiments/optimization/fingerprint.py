"""How far may one step go? At every temperature the ghost radius should tell.

A trained network makes one step along the gradient of its loss at a temperature. The
length at which the loss doubles depends on the temperature; in units of the ghost
radius it should do so less, and the loss should never double within the radius.

Source: Ghosts of Softmax, 2026, arXiv:2603.13552.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.datasets import check_train, divide, images
from experiments.common.references import stated
from experiments.common.solvers import descended
from logitlab import losses, models, optim, report
from logitlab.metrics import tree_norm
from logitlab.train import Compute, Study

ARM = "network"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    check_train(config.train)
    temperatures = tuple(config.temperatures)
    if len(temperatures) < 2 or min(temperatures) <= 0:
        raise ValueError(
            f"config.temperatures is {temperatures}, expected two or more, positive"
        )
    return Study(
        arms={ARM: Compute(jax.jit(functools.partial(_values, config)))},
        figures={
            "lengths": report.trends(
                {t: f"onset/{t:g}" for t in temperatures},
                label="length at which the loss doubles",
                across="temperature",
                log=True,
                log_across=True,
            ),
            "radii": report.trends(
                {t: f"r/{t:g}" for t in temperatures},
                label="the same length, in ghost radii",
                across="temperature",
                log=True,
                log_across=True,
                bound=(1.0, "the radius"),
            ),
        },
        claims=_claims(config),
        labels={ARM: "a network for each seed"},
        title="A step's length, and temperature",
        summary=(
            f"Digits, {config.steps} steps of Adam on {config.train} of them, "
            f"{' and '.join(map(str, config.widths))} GELU units. Then one step down "
            f"the gradient of the loss of {config.probe} images at each temperature, "
            f"of {config.lengths} lengths."
        ),
        captions={
            "lengths": "Where the loss is twice as large as before the step.",
            "radii": "Above 1 everywhere: the radius is safe.",
        },
    )


def _values(config, key):
    split_key, init_key, batch_key = jax.random.split(key, 3)
    rows = divide(split_key, *images(), config.train)
    widths = tuple(config.widths)
    model = models.MLP(widths=widths, classes=10, activation="gelu")
    many = min(config.batch_size, config.train)
    batches = jax.random.randint(batch_key, (config.steps, many), 0, config.train)

    def logits(params, x):
        return model.apply({"params": params}, x)

    def loss(params, x, y, temperature=1.0):
        return losses.cross_entropy(logits(params, x) / temperature, y).mean()

    params, _ = descended(
        lambda params, at: jax.grad(loss)(params, rows.x[at], rows.y[at]),
        model.init(init_key, rows.x[:1])["params"],
        optax.adam(config.learning_rate),
        batches=batches,
    )
    x, y = rows.x[: config.probe], rows.y[: config.probe]
    numbers, onsets, radii = {}, [], []
    for t in config.temperatures:
        value, slope = jax.value_and_grad(loss)(params, x, y, t)
        down = jax.tree.map(lambda g: -g, slope)
        radius = optim.ghost_radius(
            lambda params: logits(params, x), params, down, temperature=t
        )
        size = tree_norm(down)
        lengths = radius * jnp.geomspace(0.1, 1e3, config.lengths)

        def after(length, t=t, down=down, size=size):
            move = lambda p, d: p + length / size * d  # noqa: E731
            return loss(jax.tree.map(move, params, down), x, y, t)

        doubled = jax.lax.map(after, lengths) >= config.inflation * value
        onset = jnp.where(doubled.any(), lengths[jnp.argmax(doubled)], jnp.nan)
        numbers |= {f"onset/{t:g}": onset, f"r/{t:g}": onset / radius}
        onsets.append(onset)
        radii.append(radius)
    onsets, radii = jnp.log10(jnp.stack(onsets)), jnp.log10(jnp.stack(radii))
    return numbers | {
        "spread": jnp.std(onsets),
        "spread_in_radii": jnp.std(onsets - radii),
        "least_r": 10 ** jnp.min(onsets - radii),
    }


def _claims(config):
    bounds = config.tolerances
    return [
        report.Claim(
            text="in units of the radius lengths depend less on the temperature",
            paper="spread 0.992, and 0.164 after dividing (statistic not stated)",
            ours=lambda r: r[ARM].final("spread_in_radii") / r[ARM].final("spread"),
            at_most=bounds.spread,
            unit="of the spread of log10 lengths",
            needs=(ARM,),
        ),
        report.Claim(
            text="no loss doubles within the radius",
            reference=stated("no loss doubled at r below 1", "doubled at 1.9 to 4.9"),
            ours=lambda r: np.asarray(r[ARM].final("least_r")),
            above=bounds.safe,
            unit="radii, the shortest length at which a loss doubles",
            needs=(ARM,),
        ),
    ]
