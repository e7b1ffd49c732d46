"""When should a denoiser that sees few clean data stop learning?

A wide network with two layers regresses clean data on noisy ones, by full-batch
gradient descent. Its targets are the clean data themselves, of which the posterior mean
is what it should learn: labels with noise. The error on the training rows goes on
falling, while the distance from the posterior mean, known in closed form, falls and
rises again, the later the more data there are.

Source: Han et al. 2024, arXiv:2401.15604.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.references import stated
from experiments.denoising import _mixtures as mixtures
from logitlab import losses, metrics, report
from logitlab.train import Run, Study

EXCESS, FIT = "excess", "train/error"


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    names = {rows: f"rows_{rows}" for rows in config.rows}
    return Study(
        arms={name: _run(config, rows) for rows, name in names.items()},
        figures={
            "risk": report.curves(
                EXCESS,
                FIT,
                log_values=True,
                labels={
                    EXCESS: "squared distance from the posterior mean",
                    FIT: "squared error on the training rows",
                },
            )
        },
        claims=_claims(config, names),
        labels={name: f"{rows} rows" for rows, name in names.items()},
        title="A denoiser with few clean data, and when it should stop",
        summary=(
            f"Four modes in the unit disc, noise of random times in {config.times[0]} "
            f"to {config.times[1]}, a two-layer ReLU network of width {config.width} "
            f"whose second layer is fixed, {config.steps} steps of gradient descent."
        ),
        captions={
            "risk": (
                "What was to be learned (left) has a best moment to stop; the error "
                "that training sees (right) does not tell it."
            )
        },
    )


def _check(config):
    rows = tuple(config.rows)
    if sorted(set(rows)) != list(rows) or len(rows) < 2 or rows[0] < 1:
        raise ValueError(f"config.rows is {rows}, expected at least two growing sizes")
    low, high = config.times
    if not 0 < low < high:
        raise ValueError(
            f"config.times is {tuple(config.times)}, expected two growing numbers "
            "above 0: without noise there is no score"
        )


MIXTURE = mixtures.circle(4, 0.7, 0.1)


def draw(key: jax.Array, many: int, times: tuple[float, float]) -> dict:
    """Clean data, their noisy versions at random times, alpha and h of these."""
    keys = jax.random.split(key, 3)
    x0 = mixtures.draw(keys[0], MIXTURE, many)
    t = jax.random.uniform(keys[1], (many, 1), minval=times[0], maxval=times[1])
    alpha, h = jnp.exp(-t), -jnp.expm1(-2 * t)
    x = alpha * x0 + jnp.sqrt(h) * jax.random.normal(keys[2], x0.shape)
    return {"x": x, "t": t, "x0": x0, "alpha": alpha[:, 0], "h": h[:, 0]}


def predict(hidden: dict, signs: jax.Array, batch: dict) -> jax.Array:
    """Two layers, of which the second is signs over the root of the width, [N, 2]."""
    x = jnp.concatenate([batch["x"], batch["t"]], -1)
    active = jax.nn.relu(x @ hidden["kernel"] + hidden["bias"][None])
    return active @ signs / np.sqrt(signs.shape[0])


def _run(config, rows) -> Run:
    times = tuple(config.times)

    def init(key):
        """Two halves that cancel each other, so that the network starts at 0."""
        keys = jax.random.split(key, 3)
        half = config.width // 2
        signs = jax.random.rademacher(keys[0], (half, 2), jnp.float32)
        kernel = jax.random.normal(keys[1], (3, half))
        bias = jax.random.normal(keys[2], (half,))
        return {
            "hidden": {
                "kernel": jnp.concatenate([kernel, kernel], 1),
                "bias": jnp.concatenate([bias, bias]),
            },
            "signs": jnp.concatenate([signs, -signs]),
        }

    def loss(params, batch, key):
        del key
        signs = jax.lax.stop_gradient(params["signs"])
        return losses.x0_regression_loss(
            predict(params["hidden"], signs, batch), batch["x0"]
        )

    def data(key):
        train_key, test_key = jax.random.split(key)
        test = draw(test_key, config.test, times)
        best = mixtures.clean_mean(test["x"], MIXTURE, test["alpha"], test["h"])
        return {
            "train": draw(train_key, rows, times),
            "test": {"x": test["x"], "t": test["t"], "best": best},
        }

    def evaluate(params, held):
        found = functools.partial(predict, params["hidden"], params["signs"])
        gaps = {
            EXCESS: found(held["test"]) - held["test"]["best"],
            FIT: found(held["train"]) - held["train"]["x0"],
        }
        return {
            name: metrics.mean_of(jnp.square(gap).sum(-1)) for name, gap in gaps.items()
        }

    points = np.geomspace(1, config.steps, config.points).round().astype(int)
    return Run(
        init=init,
        loss=loss,
        data=data,
        optimizer=optax.sgd(config.learning_rate),
        evaluate=evaluate,
        steps=config.steps,
        evaluate_at=sorted({0, *points.tolist()}),
        show=(EXCESS,),
    )


def best_step(arm) -> np.ndarray:
    """The evaluated step of each seed at which the excess risk is least."""
    return arm.steps[np.argmin(arm[EXCESS], 0)]


def _claims(config, names):
    bounds, sizes = config.tolerances, list(config.rows)
    few = names[sizes[0]]
    claims = [
        report.Claim(
            text=f"with {sizes[0]} rows it is best to stop before the end",
            reference=stated("early stopping balances bias and noise"),
            ours=lambda r: r[few].final(EXCESS) / r[few][EXCESS].min(0),
            at_least=bounds.rises,
            unit="times the least excess risk, at the end",
            needs=(few,),
        ),
        report.Claim(
            text=f"and not at the start, {sizes[0]} rows",
            reference=stated("early stopping balances bias and noise"),
            ours=lambda r: r[few][EXCESS][0] / r[few][EXCESS].min(0),
            at_least=bounds.rises,
            unit="times the least excess risk, at the start",
            needs=(few,),
        ),
        report.Claim(
            text="the error on the training rows never rises",
            reference="theorem: small steps of gradient descent",
            ours=lambda r: np.max(
                [np.diff(r[name][FIT], axis=0).max(0) for name in names.values()], 0
            ),
            at_most=bounds.monotone,
            unit="is the largest rise",
            needs=tuple(names.values()),
        ),
    ]
    for less, more in zip(sizes, sizes[1:], strict=False):
        one, other = names[less], names[more]
        claims += [
            report.Claim(
                text=f"the best moment is later with {more} rows than with {less}",
                reference=stated("more data carry longer training"),
                ours=lambda r, a=one, b=other: best_step(r[b]) / best_step(r[a]),
                at_least=1.0,
                over="median",
                unit="times as late",
                needs=(one, other),
            ),
            report.Claim(
                text=f"the least excess risk is lower with {more} rows than {less}",
                reference=stated("more data have less excess risk"),
                ours=lambda r, a=one, b=other: (
                    r[b][EXCESS].min(0) / r[a][EXCESS].min(0)
                ),
                at_most=1.0,
                unit="of it",
                needs=(one, other),
            ),
        ]
    return claims
