"""Can a network be trained so that its weights survive in two bits?

One that is trained as usual, and one whose weights are pulled towards a uniform
distribution (WDR), are quantised after training. Two more train in eight, four and two
bits at once, in one set of weights: in one of them the fewer bits learn from the more
(GPG), in the other all learn from the labels alone.

Source: EQ-Net, Xu et al. 2023, arXiv:2308.07650. Its middle bit-width is drawn at every
step and its steps are learned; here both are fixed, in ``bit_widths`` they are not.
"""

import functools

import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.datasets import check_train, divide, images
from experiments.common.references import prototype, stated
from experiments.distillation._networks import start
from logitlab import losses, metrics, models, optim, report
from logitlab.report import figures
from logitlab.report.legends import add_legends
from logitlab.train import Run, Study
from logitlab.train.config import check_name

PLAIN, EVEN, GUIDED, UNGUIDED = "plain", "even", "guided", "unguided"
ARMS = (PLAIN, EVEN, GUIDED, UNGUIDED)
CLASSES = 10
PARTS = {"last": "all weights but the first layer's", "all": "all weights"}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    x, y = images()
    widest, narrowest = config.guidance.bits[0], config.guidance.bits[-1]
    return Study(
        arms={name: _run(config, x, y, name) for name in config.pick},
        figures={
            part: report.trends(
                {bits: f"{part}/{bits}" for bits in config.bits},
                arms=(PLAIN, EVEN),
                label="test accuracy",
                across=f"bits of {words}",
                log_across=True,
            )
            for part, words in PARTS.items()
        }
        | {
            "weights": functools.partial(_weights, _later_layers(config)),
            "guidance": report.curves(
                "divergence",
                arms=(GUIDED, UNGUIDED),
                log_steps=False,
                labels={"divergence": f"KL of {narrowest} bits from {widest} (nats)"},
            ),
        },
        claims=_claims(config),
        labels={
            PLAIN: "as usual",
            EVEN: "with WDR",
            GUIDED: _widths(config, "guided (GPG)"),
            UNGUIDED: _widths(config, "labels alone"),
        },
        title="Weights for few bits",
        summary=(
            f"Digits: {config.train} to train, the others to test; hidden layers of "
            f"{tuple(config.widths)} units, {config.steps} steps. Each matrix is "
            "rounded to equal steps between its largest weights; biases are not."
        ),
        captions={
            "last": "Accuracy after rounding all matrices but the first.",
            "all": "Accuracy after rounding all matrices.",
            "weights": (
                "Weights over the largest of their matrix, all seeds. Dotted: the "
                "places of two bits."
            ),
            "guidance": (
                "One set of weights in three bit-widths: how far the narrowest is from "
                "the widest, on test images."
            ),
        },
    )


def _widths(config, words):
    *first, last = (str(bits) for bits in config.guidance.bits)
    return f"{', '.join(first)} and {last} bits, {words}"


def _check(config):
    check_train(config.train)
    for name in config.pick:
        check_name(name, ARMS, "config.pick")
    for key, bits in (("bits", config.bits), ("guidance.bits", config.guidance.bits)):
        if not bits or min(bits) < 2 or max(bits) > 16:
            raise ValueError(f"config.{key} is {tuple(bits)}, expected 2 to 16 bits")
    chosen = tuple(config.guidance.bits)
    if len(chosen) < 2 or list(chosen) != sorted(set(chosen), reverse=True):
        raise ValueError(
            f"config.guidance.bits is {chosen}, expected two and more, falling"
        )
    for key, bits in (
        ("tolerances.gain_at", config.tolerances.gain_at),
        ("guidance.bits[-1]", chosen[-1]),
    ):
        if bits not in config.bits:
            raise ValueError(
                f"config.{key} is {bits}, expected one of config.bits, "
                f"{tuple(config.bits)}"
            )


def quantize(params: dict, bits: int, part: str = "all") -> dict:
    """Parameters whose kernels are on grids of ``2**bits`` places.

    The steps reach from the largest weight to its negative. The part ``"last"`` leaves
    the first layer as it is; biases always are.
    """

    def layer(name, arrays):
        if part == "last" and name == "hidden_0":
            return arrays
        w = arrays["kernel"]
        step = 2 * jnp.abs(w).max() / (2**bits - 1)
        return {**arrays, "kernel": models.fake_quantize(w, bits=bits, step=step)}

    return {name: layer(name, arrays) for name, arrays in params.items()}


def _later_layers(config):
    """All but the first, which the regulariser leaves alone."""
    return [*(f"hidden_{i}" for i in range(1, len(config.widths))), "head"]


def _run(config, x, y, name) -> Run:
    model = models.MLP(config.widths, CLASSES)
    guidance, regularizer = config.guidance, dict(config.regularizer)
    layers = _later_layers(config)

    def logits_of(params, x):
        return model.apply({"params": params}, x)

    def regularization(params):
        kernels = [params[layer]["kernel"] for layer in layers]
        return optim.weight_distribution_penalty(kernels, **regularizer)

    def loss(params, batch, key):
        del key
        if name in (GUIDED, UNGUIDED):
            several = [
                logits_of(quantize(params, bits), batch["x"]) for bits in guidance.bits
            ]
            weight = guidance.weight if name == GUIDED else 0.0
            return sum(
                losses.progressive_guidance_loss(
                    several,
                    batch["y"],
                    weight=weight,
                    temperature=guidance.temperature,
                )
            )
        values = losses.cross_entropy(logits_of(params, batch["x"]), batch["y"])
        return values + regularization(params) if name == EVEN else values

    def make_data(key):
        digits = divide(key, x, y, config.train)
        train = {"x": digits.x, "y": digits.y}
        return {"train": train, "test": {"x": digits.test_x, "y": digits.test_y}}

    def evaluate(params, parts):
        test = parts["test"]

        def accuracy(params):
            return metrics.accuracy(logits_of(params, test["x"]), test["y"])

        values = {"full": accuracy(params)}
        for part in PARTS:
            for bits in config.bits:
                values[f"{part}/{bits}"] = accuracy(quantize(params, bits, part))
        widest, narrowest = (
            logits_of(quantize(params, bits), test["x"])
            for bits in (guidance.bits[0], guidance.bits[-1])
        )
        values["divergence"] = metrics.mean_of(
            losses.kd_loss(narrowest, widest, temperature=1.0)
        )
        for layer in layers:
            kernel = params[layer]["kernel"]
            values[f"kurtosis/{layer}"] = metrics.weight_kurtosis(kernel)
            values[f"skewness/{layer}"] = metrics.weight_skewness(kernel)
        return values

    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.adamw(rate, weight_decay=config.weight_decay)
    if name in (GUIDED, UNGUIDED):
        optimizer = optax.chain(optax.clip(guidance.clip), optimizer)
    return Run(
        init=lambda key: start(key, model, x),
        loss=loss,
        data=make_data,
        optimizer=optimizer,
        evaluate=evaluate,
        steps=config.steps,
        batch_size=config.batch_size,
        evaluate_at=sorted({round(config.steps * i / 6) for i in range(7)}),
        show=("full", f"all/{min(config.bits)}"),
    )


def _weights(layers, results):
    """Histograms of the later matrices, with and without the regulariser."""
    import matplotlib

    arms = [arm for arm in (PLAIN, EVEN) if arm in results]
    edges = np.linspace(-1, 1, 41)
    with matplotlib.rc_context(figures._LOOK):
        figure = figures._figure(figures._PANEL_SIZE, len(layers), 1, None)
        panels = figure.subplots(1, len(layers), squeeze=False)[0]
        for axes, layer in zip(panels, layers, strict=True):
            for place in np.array([-2, 0, 2]) / 3:
                axes.axvline(place, color=figures._GRAY, linestyle=":", linewidth=1)
            for arm, colour in zip(arms, figures.PALETTE, strict=False):
                w = results[arm].arrays[layer]["kernel"]
                share = w / np.abs(w).max((1, 2), keepdims=True)
                density, _ = np.histogram(share, edges, density=True)
                axes.stairs(density, edges, color=colour, linewidth=1.6)
            axes.set_title(layer.replace("_", " "))
            axes.set_xlabel("weight over the largest")
        panels[0].set_ylabel("density")
        entries = [
            (axes.plot([], [], color=colour)[0], results[arm].label)
            for arm, colour in zip(arms, figures.PALETTE, strict=False)
        ]
        add_legends(figure, [(panels[-1], entries)], "dotted: places of two bits")
    return figure


def _claims(config):
    bounds, layers = config.tolerances, _later_layers(config)
    bits, target = bounds.gain_at, config.regularizer.kurtosis_target

    def farthest(results):
        values = [results[EVEN].final(f"kurtosis/{layer}") for layer in layers]
        return values[np.abs(np.mean(values, 1) - target).argmax()]

    return [
        report.Claim(
            text="WDR makes the weights uniform: kurtosis of the farthest layer",
            reference=prototype(
                "2.96 to 1.95 and 2.66 to 1.84, where a uniform has 1.8"
            ),
            ours=farthest,
            equals=target,
            within=bounds.kurtosis_within,
            over="mean",
            needs=(EVEN,),
        ),
        report.Claim(
            text="it leaves the accuracy in full precision as it was",
            reference=prototype("97.6 % both"),
            ours=report.ahead("full", EVEN, PLAIN),
            equals=0.0,
            within=bounds.accuracy_within,
            over="mean",
            format=".2%",
            needs=(EVEN, PLAIN),
        ),
        *(
            report.Claim(
                text=f"it makes {words} more accurate in {bits} bits",
                paper="about 10 points (ImageNet)",
                reference=prototype(numbers),
                ours=report.ahead(f"{part}/{bits}", EVEN, PLAIN),
                at_least=bounds.gain,
                over="mean",
                unit="more",
                format=".2%",
                needs=(EVEN, PLAIN),
            )
            for part, words, numbers in (
                ("last", "a network with all but its first matrix", "94.3 to 97.0 %"),
                ("all", "a network with all matrices", "89.6 to 94.4 %"),
            )
        ),
        report.Claim(
            text="guidance brings the fewest bits nearer to the most",
            reference=stated("in-place guidance"),
            ours=report.ahead("divergence", GUIDED, UNGUIDED, times=bounds.kl_ratio),
            at_most=0.0,
            over="mean",
            unit=f"nats above {bounds.kl_ratio:g} times the KL without",
            needs=(GUIDED, UNGUIDED),
        ),
    ]
