"""One set of weights for all bit-widths, and how its grids should be chosen.

Every step trains the most bits, the fewest, and a number between them that is drawn
anew; the fewer bits learn from the more (GPG), or all from the labels. The steps of the
grids reach to the largest weight, or are learned. A network that is trained as usual is
rounded afterwards, with a grid for each matrix or for each of its columns, around 0 or
from the smallest weight to the largest.

Source: EQ-Net, Xu et al. 2023, arXiv:2308.07650.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from experiments.common.datasets import check_train, divide, images
from experiments.common.references import stated
from experiments.common.solvers import descended
from experiments.distillation._networks import start
from logitlab import losses, models, report
from logitlab.train import ArmResult, Compute, Study

PLAIN, GUIDED, UNGUIDED, LEARNED = "plain", "guided", "unguided", "learned"
LABELS = {
    PLAIN: "as usual",
    UNGUIDED: "random middle, labels alone",
    GUIDED: "random middle, guided (GPG)",
    LEARNED: "the same, learned steps",
}
GRIDS = {
    "matrix": dict(symmetric=True),
    "matrix_shifted": dict(symmetric=False),
    "column": dict(symmetric=True, channel_axis=1),
    "column_shifted": dict(symmetric=False, channel_axis=1),
}
GRID_LABELS = {
    "matrix": "per matrix, around 0",
    "matrix_shifted": "per matrix, shifted",
    "column": "per column, around 0",
    "column_shifted": "per column, shifted",
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    check_train(config.train)
    bits = tuple(config.bits)
    if len(bits) < 3 or list(bits) != sorted(set(bits)) or min(bits) < 2:
        raise ValueError(
            f"config.bits is {bits}, expected three growing numbers from 2 on, or more"
        )
    return Study(
        arms={
            name: Compute(functools.partial(_values, config, images(), name))
            for name in LABELS
        },
        figures={
            "bits": report.trends(
                {b: f"accuracy/{b}" for b in bits},
                label="test accuracy",
                across="bits of all weights",
            ),
            "grids": functools.partial(_grids, bits[:3]),
        },
        claims=_claims(config),
        labels=LABELS,
        title="All bit-widths in one set of weights",
        summary=(
            f"Digits: {config.train} to train, the others to test; hidden layers of "
            f"{tuple(config.widths)} units, {config.steps} steps. All matrices are "
            f"rounded to {bits[0]} to {bits[-1]} bits."
        ),
        captions={
            "bits": "Accuracy after rounding all matrices.",
            "grids": "A network that is trained as usual, rounded with other grids.",
        },
    )


def on_grid(w: jax.Array, step: jax.Array, bits: jax.Array) -> jax.Array:
    """Weights on a grid of ``2**bits`` places, both of which may be traced.

    The gradient in the weights is that of the identity within the ends of the grid, and
    that in the step the rounding error there and the last place beyond (LSQ).
    """
    half = 2.0 ** (bits - 1)
    z = w / step
    place = jax.lax.stop_gradient(jnp.clip(jnp.round(z), -half, half - 1))
    inside = (jnp.round(z) >= -half) & (jnp.round(z) <= half - 1)
    return step * jnp.where(inside, z + jax.lax.stop_gradient(place - z), place)


def quantized(params, logs, bits, at) -> dict:
    """Parameters whose kernels are on grids, with learned steps or with the largest.

    Args:
      params: of an MLP.
      logs: logarithms of the steps [bits], by layer; or None.
      bits: how many there are, may be traced.
      at: the place of the steps.
    """

    def layer(name, arrays):
        w = arrays["kernel"]
        if logs is None:
            step = 2 * jax.lax.stop_gradient(jnp.abs(w).max()) / (2.0**bits - 1)
        else:
            step = jnp.exp(logs[name][at])
        return {**arrays, "kernel": on_grid(w, step, bits)}

    return {name: layer(name, arrays) for name, arrays in params.items()}


def _values(config, data, name, key):
    return _trained(
        key,
        *data,
        name=name,
        train=config.train,
        widths=tuple(config.widths),
        bits=tuple(config.bits),
        steps=(config.steps, config.batch_size),
        rates=(config.learning_rate, config.weight_decay),
        guidance=(config.weight, config.clip),
    )


@functools.partial(
    jax.jit,
    static_argnames=("name", "train", "widths", "bits", "steps", "rates", "guidance"),
)
def _trained(key, x, y, *, name, train, widths, bits, steps, rates, guidance):
    """Accuracies in all bit-widths and grids, and what the fewest bits change."""
    (steps, batch_size), (weight, clip) = steps, guidance
    data_key, init_key, batch_key, bit_key = jax.random.split(key, 4)
    split, model = divide(data_key, x, y, train), models.MLP(widths, 10)
    levels = jnp.array(bits, "f4")

    def logits_of(params, x):
        return model.apply({"params": params}, x)

    def loss(state, batch):
        rows, middle = batch
        params, logs = state
        inputs, labels = split.x[rows], split.y[rows]
        if name == PLAIN:
            return losses.cross_entropy(logits_of(params, inputs), labels).mean()
        several = [
            logits_of(quantized(params, logs, levels[at], at), inputs)
            for at in (len(bits) - 1, middle, 0)
        ]
        share = 0.0 if name == UNGUIDED else weight
        found = losses.progressive_guidance_loss(several, labels, weight=share)
        return sum(found).mean()

    params = start(init_key, model, x[:1])
    logs = None
    if name == LEARNED:  # from the steps that reach to the largest weight
        logs = {
            layer: jnp.log(2 * jnp.abs(arrays["kernel"]).max() / (2.0**levels - 1))
            for layer, arrays in params.items()
        }
    rows = jax.vmap(lambda k: jax.random.permutation(k, train)[:batch_size])(
        jax.random.split(batch_key, steps)
    )
    middle = jax.random.randint(bit_key, (steps,), 1, len(bits) - 1)
    rate = optax.cosine_decay_schedule(rates[0], steps)
    decayed = optax.adamw(rate, weight_decay=rates[1], mask=lambda _: (True, False))
    optimizer = optax.chain(optax.clip(clip), decayed)  # steps of grids do not shrink
    (params, logs), _ = descended(
        jax.grad(loss), (params, logs), optimizer, batches=(rows, middle)
    )

    def accuracy(params):
        right = logits_of(params, split.test_x).argmax(-1) == split.test_y
        return right.mean()

    rounded = [quantized(params, logs, levels[at], at) for at in range(len(bits))]
    values = {"full": accuracy(params)}
    for b, found in zip(bits, rounded, strict=True):
        values[f"accuracy/{b}"] = accuracy(found)
    narrow, wide = (logits_of(rounded[at], split.test_x) for at in (0, -1))
    values["divergence"] = losses.kd_loss(narrow, wide, temperature=1.0).mean()
    for grid, options in GRIDS.items():
        for b in bits:
            found = {
                layer: {
                    **arrays,
                    "kernel": models.fake_quantize(arrays["kernel"], bits=b, **options),
                }
                for layer, arrays in params.items()
            }
            values[f"{grid}/{b}"] = accuracy(found)
    return values


def _grids(bits, results):
    """Accuracy of the network that is trained as usual, one line for each grid."""
    arm = results[PLAIN]
    grids = {}
    for grid, label in GRID_LABELS.items():
        finals = {b: arm.final(f"{grid}/{b}") for b in bits}
        rows = [
            {"arm": grid, "seed": str(seed), "step": "0"}
            | {f"{b}": str(values[place]) for b, values in finals.items()}
            for place, seed in enumerate(arm.seeds)
        ]
        grids[grid] = ArmResult(label, arm.seeds, rows)
    draw = report.trends(
        {b: f"{b}" for b in bits}, label="test accuracy", across="bits of all weights"
    )
    return draw(grids)


def _claims(config):
    bounds = config.tolerances
    few, more = config.bits[0], config.bits[1]
    middle = [f"accuracy/{b}" for b in config.bits[1:-1]]
    most = f"accuracy/{config.bits[-1]}"

    def grid(text, better, worse, bits):
        return report.Claim(
            text=text,
            reference=stated("granularity and symmetry matter for few bits"),
            ours=lambda r: (
                100
                * (
                    r[PLAIN].final(f"{better}/{bits}")
                    - r[PLAIN].final(f"{worse}/{bits}")
                )
            ),
            at_least=bounds.grids,
            over="mean",
            unit="points",
            needs=(PLAIN,),
        )

    return [
        report.Claim(
            text=f"guidance brings {few} bits nearer to {config.bits[-1]}, with a "
            "random middle",
            reference=stated("in-place guidance"),
            ours=report.ahead("divergence", GUIDED, UNGUIDED),
            at_most=0.0,
            over="mean",
            unit="nats",
            needs=(GUIDED, UNGUIDED),
        ),
        report.Claim(
            text="every bit-width between is as accurate as the most bits",
            reference=stated("one set of weights serves all bit-widths"),
            ours=lambda r: report.smallest_mean(
                [100 * (r[GUIDED].final(m) - r[GUIDED].final(most)) for m in middle]
            ),
            at_least=-bounds.lost,
            over="mean",
            unit="points",
            needs=(GUIDED,),
        ),
        report.Claim(
            text=f"training in all bit-widths makes {few} bits more accurate than "
            "rounding afterwards",
            reference=stated("about 10 points in 2 and 3 bits on ImageNet"),
            ours=report.ahead(f"accuracy/{few}", GUIDED, PLAIN, scale=100),
            at_least=bounds.trained,
            over="mean",
            unit="points",
            needs=(GUIDED, PLAIN),
        ),
        report.Claim(
            text=f"learned steps make {few} bits more accurate",
            reference=stated("steps are learned, as in LSQ"),
            ours=report.ahead(f"accuracy/{few}", LEARNED, GUIDED, scale=100),
            at_least=0.0,
            over="mean",
            unit="points",
            needs=(LEARNED, GUIDED),
        ),
        grid(
            f"grids per column are ahead of one per matrix in {more} bits",
            "column",
            "matrix",
            more,
        ),
        grid(
            f"grids from the smallest weight to the largest are ahead in {few} bits",
            "matrix_shifted",
            "matrix",
            few,
        ),
    ]
