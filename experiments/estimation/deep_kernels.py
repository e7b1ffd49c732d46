"""Are infinitely wide and deep networks optimal classifiers, and which of them?

With the depth the kernel of such a network turns into the vote of the nearest point, of
the majority, or of all points weighted by 1/distance^a, depending on its activation
alone. With the right exponent a the last one is as good as the best classifier there
is, given enough points. Data are Dirichlet's, so that this classifier is known.

Source: Radhakrishnan, Belkin and Uhler 2023, arXiv:2204.14126.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.references import prototype, stated
from logitlab import estimators, report
from logitlab.train import Compute, Study

BAYES, MAJORITY, NEAREST, HILBERT = "bayes", "majority", "nearest", "hilbert"
KERNELS = ("optimal", "sine", "erf")
POWER, RELU = "power", "relu"
LABELS = {
    BAYES: "best possible",
    HILBERT: "Hilbert estimate",
    "optimal": "kernel, optimal polynomial",
    "sine": "kernel, sine",
    "erf": "kernel, erf",
    NEAREST: "nearest neighbor",
    MAJORITY: "majority",
    POWER: "kernel, r²",
    RELU: "kernel, ReLU",
}
SINGULAR = {2: (HILBERT, *KERNELS), 3: (HILBERT, "optimal", "sine")}


def build(config) -> Study:
    """The study; nothing here draws, writes or prints."""
    _check(config)
    last = config.rows[-1]
    arms = {
        name: Compute(functools.partial(_accuracies, config, name))
        for name in (BAYES, *SINGULAR[2], NEAREST, MAJORITY)
    }
    arms[POWER] = Compute(functools.partial(_powers, config))
    arms[RELU] = Compute(functools.partial(_majorities, config))
    return Study(
        arms=arms,
        figures={
            f"rows_{d}": report.trends(
                {n: f"{d}d/{n}" for n in config.rows},
                arms=(BAYES, *SINGULAR[d], NEAREST),
                label=f"test accuracy, {d} dimensions",
                across="training points",
                log_across=True,
            )
            for d in SINGULAR
        }
        | {
            "power": report.trends(
                {depth: f"2d/{depth}" for depth in config.power.depths},
                arms=(POWER,),
                label="agreement with the nearest neighbor",
                across="depth",
                bound=(config.tolerances.agree, "the bound of the claim"),
            ),
        },
        claims=_claims(config, last),
        labels=LABELS,
        title="Networks of infinite width and depth, as classifiers",
        summary=(
            "Two classes of Dirichlet points in 2 and 3 dimensions, scaled to length "
            f"1; the first has {config.prior:.0%} of them. {config.rows[0]} to {last} "
            f"to learn from, {config.test} to test. Kernels are neural tangent "
            "kernels, those of r² that of the last layer."
        ),
        captions={
            "rows_2": "Test accuracy in two dimensions.",
            "rows_3": "Test accuracy in three dimensions.",
            "power": "How the kernel of r² becomes the nearest neighbor, 2 dimensions.",
        },
    )


def _check(config):
    if not config.x64:
        raise ValueError("config.x64 is False, expected True: deep kernels need it")
    rows = tuple(config.rows)
    if not rows or rows[0] < 2 or list(rows) != sorted(set(rows)):
        raise ValueError(f"config.rows is {rows}, expected growing numbers from 2 on")
    if not 0 < config.prior < 0.5:
        raise ValueError(f"config.prior is {config.prior}, expected between 0 and 0.5")


def draw(key: jax.Array, rows: int, alphas, prior: float):
    """Points [N, D] of length 1 and labels [N], 1 for the first class and -1."""
    label_key, *keys = jax.random.split(key, 3)
    first = jax.random.bernoulli(label_key, prior, (rows,))
    points = [
        jax.random.dirichlet(k, jnp.array(a), (rows,))
        for k, a in zip(keys, alphas, strict=True)
    ]
    x = jnp.where(first[:, None], *points)
    return x / jnp.linalg.norm(x, axis=1, keepdims=True), jnp.where(first, 1.0, -1.0)


def best_score(x: jax.Array, alphas, prior: float) -> jax.Array:
    """Log-odds [N] of the first class, whose sign is the best guess there is."""
    logs = jnp.log(jnp.maximum(x / x.sum(1, keepdims=True), 1e-300))
    odds = jnp.log(prior / (1 - prior))
    for sign, alpha in zip((1, -1), alphas, strict=True):
        a = jnp.array(alpha)
        norm = jax.scipy.special.gammaln(a.sum()) - jax.scipy.special.gammaln(a).sum()
        odds += sign * (norm + logs @ (a - 1))
    return odds


def _accuracies(config, name, key):
    values = {}
    for dimension, alphas in ((2, config.alphas_2), (3, config.alphas_3)):
        if name == "erf" and dimension == 3:
            continue  # its exponent is that of two dimensions
        kernel = dict(config.kernels.get(name, {}))
        accuracies = _accuracy(
            jax.random.fold_in(key, dimension),
            name,
            tuple(map(tuple, alphas)),
            prior=config.prior,
            rows=tuple(config.rows),
            test=config.test,
            activation=kernel.get(f"activation_{dimension}"),
            depth=kernel.get("depth"),
        )
        for n, accuracy in zip(config.rows, accuracies, strict=True):
            values[f"{dimension}d/{n}"] = accuracy
    return values


@functools.partial(
    jax.jit,
    static_argnames=("name", "alphas", "prior", "rows", "test", "activation", "depth"),
)
def _accuracy(key, name, alphas, *, prior, rows, test, activation, depth):
    """Test accuracies, with the first of the training points, a number for each."""
    (x, y), (asked, truth) = _drawn(key, alphas, prior, rows[-1], test)

    def score(x, y):
        if name == BAYES:
            return best_score(asked, alphas, prior)
        if name == MAJORITY:
            return jnp.full(test, y.sum())
        if name == NEAREST:
            return y[(asked @ x.T).argmax(1)]
        if name == HILBERT:
            power = len(alphas[0]) - 1.0
            return estimators.hilbert_estimate(x, y, asked, power=power)
        kernel = functools.partial(
            estimators.deep_ntk, activation=activation, depth=depth
        )
        return estimators.kernel_classify(kernel(x), y, kernel(asked, x))

    guesses = [score(x[:n], y[:n]) > 0 for n in rows]
    return [jnp.mean(guess == (truth > 0)) for guess in guesses]


def _drawn(key, alphas, prior, rows, test):
    return (
        draw(k, n, alphas, prior)
        for k, n in zip(jax.random.split(key), (rows, test), strict=True)
    )


def _powers(config, key):
    values = {}
    for dimension, alphas in ((2, config.alphas_2), (3, config.alphas_3)):
        agreements = _agreement(
            jax.random.fold_in(key, dimension),
            tuple(map(tuple, alphas)),
            prior=config.prior,
            rows=config.power.rows,
            test=config.test,
            depths=tuple(config.power.depths),
        )
        for depth, share in zip(config.power.depths, agreements, strict=True):
            values[f"{dimension}d/{depth}"] = share
    return values


@functools.partial(
    jax.jit, static_argnames=("alphas", "prior", "rows", "test", "depths")
)
def _agreement(key, alphas, *, prior, rows, test, depths):
    """Share of the test points that r² gives to the class of the nearest point."""
    (x, y), (asked, _) = _drawn(key, alphas, prior, rows, test)
    nearest = y[(asked @ x.T).argmax(1)]

    def share(depth):
        kernel = functools.partial(
            estimators.deep_nngp, activation="hermite_2", depth=depth
        )
        cross = kernel(asked, x, scale_rows=True)
        score = estimators.kernel_classify(kernel(x), y, cross)
        return jnp.mean((score > 0) == (nearest > 0))

    return [share(depth) for depth in depths]


def _majorities(config, key):
    shares = _majority_shares(
        key,
        tuple(map(tuple, config.alphas_2)),
        prior=config.prior,
        rows=config.relu.rows,
        test=config.relu.test,
        depths=tuple(config.relu.depths),
    )
    return {f"2d/{d}": s for d, s in zip(config.relu.depths, shares, strict=True)}


@functools.partial(
    jax.jit, static_argnames=("alphas", "prior", "rows", "test", "depths")
)
def _majority_shares(key, alphas, *, prior, rows, test, depths):
    """Share of the test points to which the ReLU kernel gives the common label."""
    (x, y), (asked, _) = _drawn(key, alphas, prior, rows, test)

    def share(depth):
        kernel = functools.partial(estimators.deep_ntk, activation="relu", depth=depth)
        score = estimators.kernel_classify(kernel(x), y, kernel(asked, x))
        return jnp.mean((score > 0) == (y.sum() > 0))

    return [share(depth) for depth in depths]


def _claims(config, last):
    bounds, power, relu = config.tolerances, config.power, config.relu

    def worst(dimension, other):
        def ours(results):
            base = results[other].final(f"{dimension}d/{last}")
            return report.smallest_mean(
                [
                    100 * (results[name].final(f"{dimension}d/{last}") - base)
                    for name in SINGULAR[dimension]
                ]
            )

        return ours

    def left(results):
        """How much of the gap to the best accuracy is left, of the worst kernel."""
        names = SINGULAR[2]
        first, then = (f"2d/{n}" for n in (config.rows[0], last))
        best = {n: results[BAYES].final(n) for n in (first, then)}
        return report.smallest_mean(
            [
                100 * (best[first] - results[a].final(first))
                - 100 * (best[then] - results[a].final(then))
                for a in names
            ]
        )

    def agreement(depth):
        return lambda r: np.min([r[POWER].final(f"{d}d/{depth}") for d in SINGULAR], 0)

    shallow, deep = power.depths[0], power.depths[-1]
    early, late = relu.depths[0], relu.depths[-1]
    return [
        report.Claim(
            text="in 3 dimensions the optimal kernel is as accurate as the Hilbert "
            "estimate",
            reference=prototype(".925 both"),
            ours=report.ahead(f"3d/{last}", "optimal", HILBERT, scale=100),
            equals=0.0,
            within=bounds.alike,
            over="mean",
            unit="points",
            needs=("optimal", HILBERT),
        ),
        report.Claim(
            text="in 2 dimensions every singular kernel beats the nearest neighbor",
            reference=prototype(".713 to .736, against .670"),
            ours=worst(2, NEAREST),
            at_least=bounds.over_nearest_2,
            over="mean",
            unit="points",
            needs=(*SINGULAR[2], NEAREST),
        ),
        report.Claim(
            text="and in 3 dimensions",
            reference=prototype(".925, against .914"),
            ours=worst(3, NEAREST),
            at_least=bounds.over_nearest_3,
            over="mean",
            unit="points",
            needs=(*SINGULAR[3], NEAREST),
        ),
        report.Claim(
            text="in 2 dimensions every one is ahead of the majority",
            reference=prototype(".713 to .736, against .604"),
            ours=worst(2, MAJORITY),
            at_least=bounds.over_majority,
            over="mean",
            unit="points",
            needs=(*SINGULAR[2], MAJORITY),
        ),
        report.Claim(
            text=f"{last} points leave each nearer to the best accuracy than "
            f"{config.rows[0]} do, in 2 dimensions",
            reference=stated("singular kernels of the right exponent are consistent"),
            ours=left,
            at_least=bounds.nearer,
            over="mean",
            unit="points nearer",
            needs=(BAYES, *SINGULAR[2]),
        ),
        report.Claim(
            text=f"the kernel of r² is the nearest neighbor at depth {deep}",
            reference=prototype("99.8 % in 2 dimensions, 100 % in 3"),
            ours=agreement(deep),
            at_least=bounds.agree,
            format=".1%",
            unit="of the points",
            needs=(POWER,),
        ),
        report.Claim(
            text=f"it is not yet at depth {shallow}, in 2 dimensions",
            reference=prototype("57 %"),
            ours=lambda r: r[POWER].final(f"2d/{shallow}"),
            at_most=bounds.not_yet,
            over="mean",
            format=".1%",
            unit="of the points",
            needs=(POWER,),
        ),
        report.Claim(
            text=f"that of ReLU gives all points to the majority at depth {late}",
            reference=prototype("everywhere"),
            ours=lambda r: r[RELU].final(f"2d/{late}"),
            at_least=1.0,
            format=".1%",
            unit="of the points",
            needs=(RELU,),
        ),
        report.Claim(
            text=f"not yet at depth {early}",
            reference=prototype("65 %"),
            ours=lambda r: r[RELU].final(f"2d/{early}"),
            at_most=bounds.not_yet,
            over="mean",
            format=".1%",
            unit="of the points",
            needs=(RELU,),
        ),
    ]
