"""Are eight explanations of a logit the best linear functions of their neighborhoods?

A network classifies digits. Each method explains the logit of its answer: gradients,
their averages, and what removing pixels does. For each neighborhood the best linear
function is found by other means, from the second derivative of the loss that is to be
least there, and every explanation is judged in the neighborhood of every other.

Source: Which explanation should I choose?, Han, Srinivas and Lakkaraju 2022,
arXiv:2206.01254.
"""

import functools
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import datasets
from experiments.common.references import BOUND
from experiments.interpretability import _networks
from logitlab import metrics, report
from logitlab.metrics.explanations import METHODS
from logitlab.report import figures
from logitlab.train import Compute, Study

SLOPES = ("vanilla_gradient", "smoothgrad", "c_lime")  # logits per unit, not logits
EXACT = ("vanilla_gradient", "grad_times_input", "integrated_gradients", "occlusion")
WORDS = {
    "vanilla_gradient": "gradient",
    "smoothgrad": "SmoothGrad",
    "c_lime": "C-LIME",
    "grad_times_input": "gradient x input",
    "integrated_gradients": "integrated gradients",
    "occlusion": "occlusion",
    "lime": "LIME",
    "kernel_shap": "KernelSHAP",
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    return Study(
        arms={
            "network": Compute(functools.partial(_network, config)),
            "linear": Compute(functools.partial(_linear, config)),
        },
        figures={
            "neighborhoods": _matrix,
            "noise": report.trends(
                {n: f"apart/{n}" for n in config.growing},
                arms=["network"],
                label="C-LIME from SmoothGrad",
                across="points",
                log=True,
                log_across=True,
            ),
        },
        claims=_claims(config),
        labels={
            "network": f"one hidden layer of {config.widths[0]}",
            "linear": "a linear model",
        },
        title="Eight explanations of a logit, each the best in its neighborhood",
        summary=(
            f"The logit of the predicted digit, for {config.inputs} test images of "
            f"each seed; {config.samples} points of a neighborhood. Pixels are from 0 "
            f"to 1, and 0 stands for one that is removed; noise of {config.sigma:g}."
        ),
        captions={
            "neighborhoods": (
                "Loss of each explanation (column) in each neighborhood (row), on "
                "fresh points, over the least of the row; geometric mean over images."
            ),
            "noise": "Distance over the norm; 0 for infinitely many points.",
        },
    )


def _check(config):
    datasets.check_train(config.train)
    if not config.x64:
        raise ValueError("config.x64 is False, expected True: exact methods are told")
    if config.inputs < 1 or min(config.growing) <= 64:
        raise ValueError(
            f"config.inputs is {config.inputs} and config.growing "
            f"{tuple(config.growing)}, expected at least 1, and more points than pixels"
        )


def best_fit(f, x, **settings):
    """The minimum of ``metrics.lfa_error``, which is quadratic, by its derivatives."""

    def loss(w):
        return metrics.lfa_error(f, w, x, **settings)

    slope, curvature = jax.linearize(jax.grad(loss), jnp.zeros_like(x))
    return jnp.linalg.lstsq(jax.vmap(curvature)(jnp.eye(x.size)), -slope)[0]


def in_unit_of(method, weights, own, x):
    """An explanation by the method ``own``, as that of another would state it."""
    if (method in SLOPES) == (own in SLOPES):
        return weights
    if own in SLOPES:
        return weights * x
    return jnp.where(x == 0, 0, weights / jnp.where(x == 0, 1, x))


def _cosine(a, b):
    return jnp.vdot(a, b) / jnp.maximum(jnp.linalg.norm(a) * jnp.linalg.norm(b), 1e-30)


class Draws(NamedTuple):
    """How neighborhoods are drawn: entries of the config."""

    samples: int
    growing: tuple[int, ...]
    sigma: float
    width: float

    @property
    def settings(self):
        """Of ``metrics.explain``."""
        return dict(samples=self.samples, sigma=self.sigma, width=self.width)


@functools.partial(jax.jit, static_argnames=("model", "draws"))
def compared(model, params, x, key, draws):
    """Everything about one image: fits, losses in all neighborhoods, growing draws."""
    label = model.apply(params, x[None])[0].argmax()
    settings = draws.settings

    def f(z):
        return model.apply(params, z)[:, label]

    own_key, fresh_key, grow_key = jax.random.split(key, 3)
    found = {
        m: metrics.explain(f, x, method=m, key=own_key, **settings) for m in METHODS
    }
    fits = {m: best_fit(f, x, method=m, key=own_key, **settings) for m in METHODS}
    values = {f"cosine/{m}": _cosine(found[m], fits[m]) for m in METHODS}
    for m in EXACT:
        off = jnp.linalg.norm(found[m] - fits[m]) / jnp.linalg.norm(found[m])
        values[f"off/{m}"] = off
    losses = [
        [
            metrics.lfa_error(
                f,
                in_unit_of(row, found[column], column, x),
                x,
                method=row,
                key=fresh_key,
                **settings,
            )
            for column in METHODS
        ]
        for row in METHODS
    ]
    values["losses"] = jnp.array(losses)
    for n in draws.growing:
        run = settings | dict(samples=n)
        lime, smooth = (
            metrics.explain(f, x, method=m, key=k, **run)
            for m, k in zip(
                ("c_lime", "smoothgrad"), jax.random.split(grow_key), strict=True
            )
        )
        values[f"apart/{n}"] = jnp.linalg.norm(lime - smooth) / jnp.linalg.norm(smooth)
    return values


def _trained(config, key, widths):
    """A classifier, and test images with what it answers."""
    x, y = datasets.digits(centered=False)
    split_key, fit_key, own_key = jax.random.split(key, 3)
    rows = datasets.divide(split_key, jnp.asarray(x), jnp.asarray(y), config.train)
    recipe = _networks.Recipe(tuple(widths), 10, config.steps)
    keep = jnp.ones(config.train, bool)
    params = _networks.fit(fit_key, rows.x, rows.y, keep, recipe=recipe)
    model, some = recipe.model, rows.test_x[: config.inputs]
    right = (model.apply(params, rows.test_x).argmax(-1) == rows.test_y).mean()
    keys = jax.random.split(own_key, len(some))
    return model, params, some, keys, right


def _network(config, key):
    model, params, images, keys, right = _trained(config, key, config.widths)
    each = [
        compared(model, params, x, k, _draws(config))
        for x, k in zip(images, keys, strict=True)
    ]
    values = {
        name: np.stack([np.asarray(values[name]) for values in each])
        for name in each[0]
    }
    losses = values.pop("losses")  # images, neighborhoods, explanations
    floor = np.maximum(losses.min(-1, keepdims=True), 1e-12)
    ratio = np.exp(np.log(np.maximum(losses, 1e-12) / floor).mean(0))
    summary = {
        name: (a.min() if name.startswith("cosine") else a.max())
        for name, a in values.items()
        if name.startswith(("cosine", "off"))
    }
    apart = {name: a.mean() for name, a in values.items() if name.startswith("apart")}
    own = np.diag(ratio) / ratio.min(1)
    points = [apart[f"apart/{n}"] for n in config.growing]
    slope, _ = np.polyfit(np.log(config.growing), np.log(points), 1)
    return (
        summary
        | apart
        | {
            "accuracy": right,
            "ratio": ratio,
            "slope": slope,
            "on_diagonal": float((own <= config.tolerances.near).sum()),
            "strictly": float((own <= 1).sum()),
            **{f"own/{m}": value for m, value in zip(METHODS, own, strict=True)},
        }
    )


def _draws(config):
    return Draws(config.samples, tuple(config.growing), config.sigma, config.width)


@functools.partial(jax.jit, static_argnames=("model", "draws"))
def missed(model, params, x, key, draws):
    """Relative error of each method's explanation of a model that is linear."""
    label = model.apply(params, x[None])[0].argmax()
    w, found = params["params"]["head"]["kernel"][:, label], {}
    for m in METHODS:
        got = metrics.explain(
            lambda z: model.apply(params, z)[:, label],
            x,
            method=m,
            key=key,
            **draws.settings,
        )
        want = w if m in SLOPES else w * x
        found[f"off/{m}"] = jnp.linalg.norm(got - want) / jnp.linalg.norm(want)
    return found


def _linear(config, key):
    model, params, images, keys, right = _trained(config, key, ())
    each = [
        missed(model, params, x, k, _draws(config))
        for x, k in zip(images, keys, strict=True)
    ]
    return {name: max(float(e[name]) for e in each) for name in each[0]} | {
        "accuracy": right
    }


def _matrix(results):
    """Losses of the eight explanations in the eight neighborhoods, over the least."""
    import matplotlib

    ratio = np.exp(np.log(results["network"].arrays["ratio"]).mean(0))
    with matplotlib.rc_context(figures._LOOK):
        figure = figures._figure((6.4, 5.0), 1, 1, None)
        axes = figure.subplots()
        shown = np.log10(ratio / ratio.min(1, keepdims=True))
        image = axes.imshow(np.minimum(shown, 2), cmap="Blues", vmin=0, vmax=2.6)
        image.set_rasterized(True)
        for row in range(len(METHODS)):
            for column in range(len(METHODS)):
                value = 10 ** shown[row, column]
                text = f"{value:.2f}" if value < 9.95 else _short(value)
                dark = shown[row, column] > 1.5
                axes.text(
                    column,
                    row,
                    text,
                    ha="center",
                    va="center",
                    fontsize=7,
                    color="white" if dark else "black",
                    fontweight="bold" if row == column else "normal",
                )
        names = [WORDS[m] for m in METHODS]
        axes.set_xticks(range(len(names)), names, rotation=40, ha="right")
        axes.set_yticks(range(len(names)), names)
        axes.set_xlabel("explanation")
        axes.set_ylabel("neighborhood")
        axes.grid(False)
    return figure


def _short(value):
    """A zero is the least of some rows, so that factors have no end."""
    if value >= 1e6:
        return "> 1e6"
    return f"{value:.0f}" if value < 1000 else f"1e{np.log10(value):.0f}"


def _claims(config):
    bounds = config.tolerances

    def worst(arm, kind, methods, pick):
        return lambda r: pick([r[arm].final(f"{kind}/{m}") for m in methods], 0)

    return [
        report.Claim(
            text="each explanation is the best linear function of its neighborhood",
            reference="theorem: proposition 1 of the paper",
            ours=worst("network", "cosine", METHODS, np.min),
            at_least=bounds.cosine,
            unit="is the least cosine with it",
            needs=("network",),
        ),
        report.Claim(
            text="and exactly so where it is a closed form",
            reference="theorem: proposition 1 of the paper",
            ours=worst("network", "off", EXACT, np.max),
            at_most=bounds.exact,
            unit="of its norm away",
            needs=("network",),
        ),
        report.Claim(
            text="all eight recover a linear model",
            reference="theorem: the model is in the class of explanations",
            ours=worst("linear", "off", METHODS, np.max),
            at_most=bounds.recovered,
            unit="of the weights away",
            needs=("linear",),
        ),
        report.Claim(
            text="C-LIME approaches SmoothGrad with the root of the number of points",
            reference="theorem: Stein's identity",
            ours=lambda r: r["network"].final("slope"),
            equals=-0.5,
            within=bounds.slope,
            unit="is the slope of the logarithms",
            needs=("network",),
        ),
        report.Claim(
            text="on fresh points each is the best in its neighborhood, or nearly",
            reference=BOUND,
            ours=lambda r: r["network"].final("on_diagonal"),
            at_least=float(len(METHODS)),
            unit=f"of {len(METHODS)} within {bounds.near:g} times the least loss",
            needs=("network",),
        ),
        report.Claim(
            text="on fresh points each is strictly the best",
            ours=lambda r: r["network"].final("strictly"),
            at_least=float(len(METHODS)),
            unit=f"of {len(METHODS)}",
            needs=("network",),
            question=True,
        ),
    ]
