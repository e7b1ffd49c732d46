"""What is left of a function that is fitted to its own fit, again and again?

Kernel ridge regression on eleven noisy points of a sine. Every step fits a share alpha
of the true targets and 1 - alpha of the step before it. Without true targets the fit
shrinks to zero; with some it tends to the same regression with a larger ridge. All of
it is in closed form, and so is the best share.

Source: Even your Teacher Needs Guidance, Borup and Andersen 2021, arXiv:2102.13088.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from logitlab import estimators, report
from logitlab.report import figures
from logitlab.report.legends import add_legends
from logitlab.train import Compute, Study

CHOSEN = "chosen"
# Squared error of the first six steps and of the limit, by the share of true targets.
PUBLISHED = {
    0.0: (0.16477, 0.15076, 0.14915, 0.15561, 0.16735, 0.18251, 0.49505),
    0.25: (0.16477, 0.15309, 0.14958, 0.14903, 0.14946, 0.15011, 0.15250),
    0.35: (0.16477, 0.15424, 0.15089, 0.14983, 0.14954, 0.14948, 0.14959),
}


def arm_name(alpha: float) -> str:
    """Name of the arm of a share of true targets."""
    return f"alpha_{alpha:g}"


def build(config) -> Study:
    """The study; nothing here fits, writes or prints."""
    _check(config)
    alphas, steps = tuple(config.alphas), config.steps
    arms = {
        arm_name(alpha): Compute(lambda key, alpha=alpha: _values(config, alpha))
        for alpha in alphas
    }
    arms[CHOSEN] = Compute(lambda key: _choose(key, config))
    return Study(
        arms=arms,
        figures={
            "fits": functools.partial(_fits, config),
            "error": report.trends(
                {n: f"error/{n}" for n in range(1, steps + 1)},
                label="squared error of the sine",
                across="step",
            ),
        },
        claims=_claims(config),
        labels={
            **{arm_name(alpha): f"α = {alpha:g}" for alpha in alphas},
            CHOSEN: "α in closed form",
        },
        title="Kernel ridge regression on its own predictions",
        summary=(
            f"{len(config.x)} noisy points of sin(2πx), kernel "
            f"exp(-{config.kernel_rate:g} d²), ridge {config.ridge:g}. Nothing is "
            "random but the validation sets on which α is chosen, one for each seed: "
            f"{config.validation.points} points with errors of deviation "
            f"{config.validation.noise:g}."
        ),
        captions={
            "fits": (
                "Fits of all steps, the earlier the darker, and the limit. The smaller "
                "α, the more of the function is lost."
            ),
            "error": "Mean squared error on a grid of [0, 1], without noise.",
        },
    )


def _check(config):
    if not config.x64:
        raise ValueError("config.x64 is False, expected True: digits are compared")
    if len(config.x) != len(config.y):
        raise ValueError(
            f"config.y has {len(config.y)} numbers for {len(config.x)} of config.x"
        )
    if not config.alphas or any(not 0 <= alpha <= 1 for alpha in config.alphas):
        raise ValueError(
            f"config.alphas is {tuple(config.alphas)}, expected numbers in [0, 1]"
        )
    if config.steps < 2 or config.many < config.steps:
        raise ValueError(
            f"config.steps is {config.steps}, config.many {config.many}; expected at "
            "least 2, and no fewer"
        )
    if config.ridge <= 0:
        raise ValueError(f"config.ridge is {config.ridge}, expected above 0")
    if config.validation.grid < 2:
        raise ValueError(
            f"config.validation.grid is {config.validation.grid}, expected at least 2"
        )


def sine(x: jax.Array) -> jax.Array:
    """The function that is to be found."""
    return jnp.sin(2 * jnp.pi * x)


def _problem(config):
    """Training points and targets, grid, and the kernels of both with the points."""
    x, y = jnp.array(config.x), jnp.array(config.y)
    grid = jnp.linspace(0, 1, config.points)
    return x, y, grid, *(_kernel(a, x, config.kernel_rate) for a in (x, grid))


def _kernel(a, b, rate):
    return jnp.exp(-rate * (a[:, None] - b[None]) ** 2)


def _values(config, alpha):
    _, y, grid, kernel, query = _problem(config)
    ridge = config.ridge

    def predict(query, steps):
        alphas = jnp.full(steps, alpha)
        return estimators.krr_predict(query, kernel, y, ridge=ridge, alphas=alphas)

    def limit(query):
        return estimators.krr_limit(kernel, y, ridge=ridge, alpha=alpha, query=query)

    fits, last = predict(query, config.steps), limit(query)
    errors = jnp.mean((jnp.concatenate([fits, last[None]]) - sine(grid)[None]) ** 2, 1)
    factors = estimators.shrinkage_factors(
        jnp.linalg.eigvalsh(kernel)[::-1], ridge=ridge, alpha=alpha, steps=config.steps
    )
    ratios = jnp.log(factors[:, :-1]) - jnp.log(factors[:, 1:])
    return {
        **{f"error/{n}": errors[n - 1] for n in range(1, config.steps + 1)},
        "error/limit": errors[-1],
        "to_limit": jnp.abs(predict(query, config.many)[-1] - last).max(),
        "sparser/before": jnp.diff(ratios, axis=0).min(),
        "sparser/first": (ratios[1:] - ratios[:1]).min(),
        "fits": fits,
        "limit": last,
    }


def _choose(key, config):
    """Each step's share in closed form, for the validation set of a seed."""
    x, y, grid, kernel, query = _problem(config)
    x_key, noise_key = jax.random.split(key)
    points = jax.random.uniform(x_key, (config.validation.points,))
    noise = config.validation.noise * jax.random.normal(noise_key, points.shape)
    alphas, excess, missed = chosen_alphas(
        kernel,
        _kernel(points, x, config.kernel_rate),
        y,
        sine(points) + noise,
        jnp.linspace(0, 1, config.validation.grid),
        ridge=config.ridge,
        steps=config.steps,
    )
    fits = estimators.krr_predict(query, kernel, y, ridge=config.ridge, alphas=alphas)
    errors = jnp.mean((fits - sine(grid)[None]) ** 2, 1)
    steps = range(1, config.steps + 1)
    return {
        **{f"error/{n}": errors[n - 1] for n in steps},
        **{f"alpha/{n}": alphas[n - 1] for n in steps[1:]},
        "excess": excess.max(),
        "missed": missed.max(),
    }


@functools.partial(jax.jit, static_argnames="steps")
def chosen_alphas(kernel, query, y, targets, grid, *, ridge, steps):
    """The best share of every step after the first, given those before it.

    Returns the shares [steps], and for each of them but the first the error above the
    best of the grid, and the distance from it.
    """
    alphas, excess, missed = jnp.ones(1), [], []
    for _ in range(steps - 1):

        def fit(alpha, alphas=alphas):
            so_far = jnp.append(alphas, alpha)
            return estimators.krr_predict(query, kernel, y, ridge=ridge, alphas=so_far)

        def error(alpha, fit=fit):
            return jnp.mean((fit(alpha)[-1] - targets) ** 2)

        alpha = estimators.optimal_alpha(fit(1.0)[-1], fit(0.0)[-1], targets)
        errors = jax.vmap(error)(grid)
        excess.append(error(alpha) - errors.min())
        missed.append(jnp.abs(alpha - grid[errors.argmin()]))
        alphas = jnp.append(alphas, alpha)
    return alphas, jnp.stack(excess), jnp.stack(missed)


def _fits(config, results):
    """One panel for each share: the data, the sine, all steps and the limit."""
    import matplotlib
    from matplotlib.lines import Line2D

    arms = [arm_name(alpha) for alpha in config.alphas]
    arms = [arm for arm in arms if arm in results]
    grid = np.linspace(0, 1, config.points)
    colours = matplotlib.colormaps["viridis"](np.linspace(0, 0.9, config.steps))
    sine_look = dict(color="#888888", linestyle=":", linewidth=1.6)
    limit_look = dict(color="#D55E00", linestyle="--", linewidth=1.6)
    dots = dict(color="black", linestyle="", marker="o", markersize=3.5)
    with matplotlib.rc_context(figures._LOOK):
        figure = figures._figure((2.7, 2.4), max(1, len(arms)), 1, None)
        panels = figure.subplots(1, max(1, len(arms)), sharey=True, squeeze=False)[0]
        for axes, arm in zip(panels, arms, strict=False):
            arrays = results[arm].arrays  # the same for all seeds
            axes.plot(grid, np.sin(2 * np.pi * grid), **sine_look)
            for fit, colour in zip(arrays["fits"][0], colours, strict=True):
                axes.plot(grid, fit, color=colour, linewidth=1.2)
            axes.plot(grid, arrays["limit"][0], **limit_look)
            axes.plot(config.x, config.y, **dots)
            axes.set_title(results[arm].label)
            axes.set_xlabel("x")
        panels[0].set_ylabel("prediction")
        first, last = (Line2D([], [], color=colours[i]) for i in (0, -1))
        entries = [
            (first, "step 1"),
            (last, f"step {config.steps}"),
            (Line2D([], [], **limit_look), "limit"),
            (Line2D([], [], **sine_look), "sin(2πx)"),
            (Line2D([], [], **dots), "data"),
        ]
        add_legends(figure, [(panels[-1], entries)])
    return figure


def _claims(config):
    bounds, alphas = config.tolerances, tuple(config.alphas)

    def off(alpha):
        def ours(results):
            arm = results[arm_name(alpha)]
            names = [*(f"error/{n}" for n in range(1, 7)), "error/limit"]
            pairs = zip(names, PUBLISHED[alpha], strict=True)
            return np.max([np.abs(arm.final(n) - value) for n, value in pairs], 0)

        return ours

    claims = [
        report.Claim(
            text=f"the errors of six steps and the limit, α = {alpha:g}",
            paper=", ".join(f"{value:.5f}" for value in PUBLISHED[alpha])
            + " (the authors' toy_example.ipynb)",
            ours=off(alpha),
            at_most=bounds.published,
            unit="off at most",
            needs=(arm_name(alpha),),
        )
        for alpha in alphas
        if alpha in PUBLISHED and config.steps >= 6
    ]
    claims += [
        report.Claim(
            text=f"step {config.many} is the fit with the ridge λ / α, α = {alpha:g}",
            reference="theorem: the limit",
            ours=lambda r, alpha=alpha: r[arm_name(alpha)].final("to_limit"),
            at_most=bounds.limit,
            unit="off at most",
            needs=(arm_name(alpha),),
        )
        for alpha in alphas
        if alpha > 0
    ]
    claims += [
        report.Claim(
            text=f"every step is sparser than {than}, α = {alpha:g}",
            reference=reference,
            ours=lambda r, alpha=alpha, step=step: r[arm_name(alpha)].final(
                f"sparser/{step}"
            ),
            at_least=bounds.sparser,
            unit="least growth of a log ratio",
            needs=(arm_name(alpha),),
            question=alpha > 0 and step == "before",
        )
        for alpha in alphas
        if alpha < 1
        for step, than, reference in (
            ("first", "the first", "theorem: ratios of successive factors grow"),
            ("before", "the one before", "theorem: without true targets, α = 0"),
        )
    ]
    return claims + [
        report.Claim(
            text="α in closed form is no worse than the best of a grid, at any step",
            reference="theorem: optimal",
            ours=lambda r: r[CHOSEN].final("excess"),
            at_most=bounds.search,
            unit="more squared error",
            needs=(CHOSEN,),
        ),
        report.Claim(
            text="and the best of the grid is next to it",
            reference="theorem: optimal",
            ours=lambda r: r[CHOSEN].final("missed"),
            at_most=0.5 / (config.validation.grid - 1) + 1e-9,
            unit="away",
            needs=(CHOSEN,),
        ),
    ]
