"""Classifiers that tile the plane, and gradients that are not stopped by their saddles.

A checkered regression multiplies m linear softmax regressions by circular convolution.
Its loss has saddles; the cross-gradient, which weighs the ways to draw a label as
another point would, is the gradient of a convex function and walks past them.

Source: Achab 2023, arXiv:2309.15298; the checkerboards, Achab 2022.
"""

import functools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.checkered import _computed as special
from experiments.checkered._claims import CLAIMS
from experiments.common import datasets
from logitlab import data, links, losses, metrics, models, optim, report, targets
from logitlab.train import Compute, Run, Study, init_state
from logitlab.train.config import arm_configs, check_name, log_points, pick

DATA = ("xor", "checkerboard", "duels", "modular", "breast_cancer", "digits")
PLANE = ("xor", "checkerboard")  # of these there is a picture
METHODS = ("gd", "xgd")
REFERENCES = ("random_point", "dirichlet")


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    configs = arm_configs(config)
    arms = {name: _run(name, arm) for name, arm in configs.items()}
    figures = {}
    if arms:
        panel = report.Panel
        rows = [[panel("train/loss", "train loss (nats)"), *_accuracies(config)]]
        figures["trajectories"] = report.panels(rows)
    plane = [name for name, arm in configs.items() if arm.data.name in PLANE]
    if plane:
        figures["regions"] = report.probability_maps(
            functools.partial(_maps, {name: configs[name] for name in plane})
        )
    if config.variant in ("default", "convergence"):
        figures["tangent"] = special.draw_tangents
    if "xgd_fixed" in arms:
        arms["reference"] = Compute(_at_reference(arms["xgd_fixed"]))
    if config.variant == "checkerboard":
        fits = special.fit_arms(config)
        arms |= fits
        figures["fit_time"] = report.ranking(
            {"fit/seconds": "time of a fit (s)", "fit/error": "test error"}
        )
    if config.variant == "convergence":
        arms |= special.gap_arms(config)
        figures["gap"] = report.trends(
            {step: f"excess/{step}" for step in special.gap_steps(config)},
            label="mean excess of the loss (nats)",
            across="step",
            log_across=True,
        )
    return Study(
        arms=arms,
        figures=figures,
        claims=CLAIMS[config.variant](config),
        labels={name: arm.label or name for name, arm in configs.items()}
        | special.LABELS,
        title="Checkered regression by gradients and cross-gradients",
        summary=(
            "Classifiers of linear factors, whose softmax vectors are convolved: the "
            "class is the sum, modulo the number of classes, of one draw from each "
            "factor. Losses are means in nats over all rows."
        ),
        captions={
            "trajectories": "Every seed has its own start, and its own data if drawn.",
            "regions": (
                "Probability of each class for the first seed, with the training data. "
                "Dashed: where a factor is undecided."
            ),
            "tangent": (
                "F(x, y) = -log(p(x) + p(y)) is not convex, so that its tangent cuts "
                "it; less a divergence, the tangent stays below (lemma 1)."
            ),
            "fit_time": (
                "Twenty restarts of the checkered model in one program, the best on "
                "the training rows taken, against one MLP trained by scikit-learn "
                "until it gets as many test rows right."
            ),
            "gap": (
                "Mean excess of the loss over that of the reference, weighed by step "
                "sizes, and the theorem's bound on it."
            ),
        },
    )


def _accuracies(config):
    if config.data.name == "duels":  # three rows, all of them trained on
        return [report.Panel("train/accuracy", "accuracy")]
    return [report.Panel("test/accuracy", "accuracy", also="train/accuracy")]


def _source(config):
    """Rows of both splits, or a function of a key to them; features; classes."""
    c = config.data
    check_name(c.name, DATA, "config.data.name")
    for name in ("rows", "test_rows"):
        if c[name] < 1:
            raise ValueError(f"config.data.{name} is {c[name]}, expected at least 1")
    if c.name in ("breast_cancer", "digits"):
        parts = datasets.splits(c.name, c.data_dir, "standard")
        train = parts["train"]
        return parts, train["x"].shape[-1], int(train["y"].max()) + 1
    if c.name == "duels":  # rock, paper and scissors: y says who wins
        rock, paper, scissors = jnp.eye(3)
        x = jnp.stack([rock - paper, rock - scissors, paper - scissors])
        rows = {"x": x, "y": jnp.array([0, 1, 0])}
        return {"train": rows, "test": rows}, 3, 2
    if c.name == "modular":
        pairs = data.modular_pairs("add", c.p)
        x = jax.nn.one_hot(pairs["x"], c.p).reshape(-1, 2 * c.p)

        def shuffled(key):
            order = jax.random.permutation(key, len(x))
            return {"x": x[order], "y": pairs["y"][order]}

        return _cut(shuffled, round(c.train_fraction * len(x))), 2 * c.p, c.p
    if c.name == "xor":
        draw = functools.partial(data.xor_mixture, variance=c.variance)
    else:
        draw = functools.partial(
            data.checkerboard, lines=c.lines, classes=c.classes, span=c.span
        )
    total = c.rows + c.test_rows
    return (
        _cut(lambda key: draw(key, total), c.rows),
        2,
        (2 if c.name == "xor" else c.classes),
    )


def _cut(draw, train):
    def parts(key):
        rows = draw(key)
        return {
            "train": {k: a[:train] for k, a in rows.items()},
            "test": {k: a[train:] for k, a in rows.items()},
        }

    return parts


def _model(config, features, classes):
    """logits of (params, x), factor logits of (params, x), init of a key."""
    c = config.model
    check_name(c.name, ("checkered", "mlp"), "config.model.name")
    x = jnp.zeros((1, features))
    if c.name == "mlp":
        size = c.factors * (classes - c.pinned) * (features + 1)
        width = c.width or max(1, round((size - classes) / (features + 1 + classes)))
        model = models.MLP(widths=(width,), classes=classes)
        factor_logits = None
    else:
        model = models.CheckeredDense(
            classes, c.factors, scale=c.scale, pinned=c.pinned, use_bias=c.use_bias
        )

        def factor_logits(params, x):
            return model.apply({"params": params}, x, method="factor_logits")

    def logits(params, x):
        return model.apply({"params": params}, x)

    return logits, factor_logits, lambda key: model.init(key, x)["params"]


def _run(name, config) -> Run:
    check_name(config.method, METHODS, "config.method")
    check_name(config.xgd.reference, REFERENCES, "config.xgd.reference")
    source, features, classes = _source(config)
    logits, factor_logits, init = _model(config, features, classes)
    crossed, dirichlet = config.method == "xgd", config.xgd.reference == "dirichlet"
    if crossed and factor_logits is None:
        raise ValueError(
            "config.method is 'xgd', expected config.model.name 'checkered'"
        )
    _warn_of_saddle(name, config)

    if crossed and dirichlet:
        source = _with_weights(source, config.model.factors, classes)

    def loss(params, batch, key, reference=None):
        del key
        if not crossed:
            return losses.cross_entropy(logits(params, batch["x"]), batch["y"])
        if dirichlet:
            q = batch["q"]
        else:
            seen = factor_logits(reference, batch["x"])
            q = links.checkered_responsibilities(seen, batch["y"])
        return losses.checkered_cross_loss(factor_logits(params, batch["x"]), q)

    def evaluate(params, parts):
        train, test = parts["train"], parts["test"]
        z = logits(params, jnp.concatenate([train["x"], test["x"]]))
        cut, numbers = len(train["x"]), {}
        for part, z_part, y in (
            ("train", z[:cut], train["y"]),
            ("test", z[cut:], test["y"]),
        ):
            numbers[f"{part}/loss"] = losses.cross_entropy(z_part, y).mean()
            numbers[f"{part}/accuracy"] = metrics.accuracy(z_part, y)
        return numbers

    make = pick(optax, config.optim.name)(config.optim.learning_rate)
    optimizer, from_optimizer = make, None
    if crossed and not dirichlet:
        every = config.xgd.refresh_every or None
        from_optimizer = lambda state: state.reference  # noqa: E731

        def optimizer(key):
            point = optim.random_point(key, scale=config.xgd.scale)
            return optim.xgd(make, reference=point, refresh_every=every)

    points = log_points(config.steps, config.evaluate_per_decade)
    exact = [int(s) for s in config.tolerances.get("means", ())]
    epoch = 10 * config.data.rows if config.batch_size == 1 else 0
    return Run(
        init=init,
        loss=loss,
        data=source,
        optimizer=optimizer,
        evaluate=evaluate,
        steps=config.steps,
        batch_size=config.batch_size or None,
        evaluate_at=sorted(
            {*points, *(s for s in (*exact, epoch) if s <= config.steps)}
        ),
        from_optimizer=from_optimizer,
        show=("train/loss", "test/accuracy"),
    )


def _with_weights(source, factors, classes):
    """Rows whose ways to draw the label have weights at random."""

    def parts(key):
        parts = dict(source(key) if callable(source) else source)
        q = targets.dirichlet_responsibilities(
            jax.random.fold_in(key, 1),
            parts["train"]["y"],
            factors=factors,
            classes=classes,
        )
        parts["train"] = {**parts["train"], "q": q}
        return parts

    return parts


def _warn_of_saddle(name, config):
    m = config.model
    stuck = m.name == "checkered" and m.factors > 1 and m.scale == 0
    if stuck and config.method == "gd" and config.on_saddle != "stay":
        warnings.warn(
            f"arm {name!r} starts its {m.factors} factors at zero, a saddle where the "
            "gradient is zero: it will stay there. Set model.scale above 0, or method "
            "to 'xgd'",
            stacklevel=2,
        )


def _at_reference(run):
    """The loss at the point that a cross-gradient is seen from, for each seed."""

    @jax.jit
    def values(key):
        state = init_state(run.init, run.optimizer, key)
        parts = run.data(jax.random.fold_in(key, 1))
        numbers = run.evaluate(run.from_optimizer(state.opt_state), parts)
        return {"train/loss": numbers["train/loss"]}

    return values


def _maps(configs, results):
    """What the first seed of each arm thinks of the plane."""
    maps, drawn, scorers = {}, {}, {}  # arms share data and models
    for name, config in configs.items():
        if name not in results:
            continue
        source, *sizes = _source(config)
        which = config.data.to_json()
        if which not in drawn:
            key = jax.random.fold_in(jax.random.key(results[name].seeds[0]), 1)
            drawn[which] = jax.device_get(jax.jit(source)(key)["train"])
        x, y = drawn[which]["x"], drawn[which]["y"]
        across, up = _sides(np.asarray(x))
        plane = np.stack(np.meshgrid(across, up), -1)
        params = jax.tree.map(lambda a: np.asarray(a[0]), results[name].arrays)
        shapes = which + str(jax.tree.map(np.shape, params))
        if shapes not in scorers:
            scorers[shapes] = jax.jit(_model(config, *sizes)[0])
        probs = np.exp(scorers[shapes](params, plane))
        lines = np.zeros((0, 3))
        if config.model.name == "checkered" and config.model.pinned:
            kernel = params["kernel"][..., 0]
            bias = params["bias"][:, 0] if "bias" in params else 0 * kernel[0]
            lines = np.concatenate([kernel.T, bias[:, None]], -1)
        accuracy = results[name].final("test/accuracy")[0]
        maps[results[name].label] = report.Map(
            across=across,
            up=up,
            probs=probs,
            points=x,
            classes=y,
            lines=lines,
            note=f"test accuracy {accuracy:.2f}",
        )
    return maps


def _sides(points):
    """Coordinates along both axes of a map that the points fill."""
    low, high = points.min(0), points.max(0)
    margin = 0.02 * (high - low).max()
    return np.linspace(low - margin, high + margin, 121, dtype=np.float32).T
