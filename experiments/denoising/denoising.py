"""Can noisy data alone teach how to denoise them?

A network learns the score of noisy data, never having seen clean ones, by denoising a
little noise on top that goes to zero in training. Closed formulas then take the score
to an estimate of the clean data. Where the prior is known the best estimate of the same
kind is too: the posterior mean behind Gaussian noise, 1 / E[1 / x | y] behind gamma
noise, and about exp E[log x | y] behind Poisson noise. Errors are measured in the units
in which that one is least: in x, 1 / x and log x.

Source: Noise2Score, Kim and Ye 2021, arXiv:2106.07009.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import datasets
from experiments.common.references import BOUND, prototype
from experiments.denoising import _mixtures as mixtures
from logitlab import estimators, losses, models, report
from logitlab.train import Run, Study
from logitlab.train.config import check_name

PROTOTYPE = {0.3: "0.0326 and 0.0328 of 0.0296", 0.6: "0.202 and 0.203 of 0.194"}
RIGHT = {"gamma": "1 / E[1 / x | y]", "poisson": "exp E[log x | y]"}


class Problem(NamedTuple):
    """Noise, and what is known about it.

    Attributes:
      data: key -> ``{"train": {"x": noisy}, "test": {"x": clean, "y": noisy}}``, arrays
        [N, D] each, and the noisy ones of training in units of ``unit``.
      denoise: (noisy data, score in units) -> estimate.
      oracle: (noisy data, those of training) -> the best estimate of the formula's
        kind; for images, of which no prior is known, the best affine one.
      mean: noisy data -> the posterior mean, or None.
      scale: takes data to where the oracle has the least squared error.
      unit: of the noisy data, in which the network sees them.
      center: what is taken off them, in units, and what they are divided by.
    """

    data: Callable
    denoise: Callable
    oracle: Callable
    mean: Callable | None
    scale: Callable = lambda x: x
    unit: float = 1.0
    center: tuple[float, float] = (0.0, 1.0)


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    problems = {n: problem(config, entry) for n, entry in config.noises.items()}
    kinds = list(_KINDS)
    known = sorted(
        (name for name, p in problems.items() if p.mean is not None),
        key=lambda name: kinds.index(config.noises[name].kind),
    )
    most = max(entry.steps for entry in config.noises.values())
    ticks = [config.noises[name].label for name in known]
    return Study(
        arms={name: _run(config, name, problems[name]) for name in problems},
        figures={
            "excess": report.intervals(
                {"learned from noisy data": known},
                [t.replace(", ", ",\n") for t in ticks],
                "ratio/oracle",
                label="squared error over the oracle's",
            ),
            "training": report.curves(
                "ratio/oracle",
                arms=known,
                log_steps=False,
                log_values=True,
                labels={"ratio/oracle": "error over the oracle's"},
            ),
        },
        claims=_claims(config),
        labels={name: entry.label for name, entry in config.noises.items()},
        title="Denoisers learned from noisy data alone",
        summary=(
            f"{config.train} noisy data without clean ones, {most} steps of Adam "
            f"on batches of {config.batch_size}; {config.test} others test. "
            "Gaussian noise: eight modes on a circle; gamma and Poisson noise: a "
            "prior of two bumps on the line."
        ),
        captions={
            "excess": (
                "At 1 nothing is left to learn. Errors are of x behind Gaussian noise, "
                "of 1 / x behind gamma and of log x behind Poisson noise."
            ),
            "training": "The same in training, while the noise on top is annealed.",
        },
        table=_table(config),
    )


def _check(config):
    for entry in config.noises.values():
        check_name(entry.kind, tuple(_KINDS), "config.noises.*.kind")
    for name in ("train", "test", "batch_size"):
        if config[name] < 1:
            raise ValueError(f"config.{name} is {config[name]}, expected at least 1")


def problem(config, entry) -> Problem:
    """The problem of an entry of ``config.noises``."""
    return _KINDS[entry.kind](config, entry.level)


def _sampled(config, draw, unit=1.0):
    """Data of training and test by a function (key, how many) -> clean and noisy."""

    def data(key):
        train_key, test_key = jax.random.split(key)
        _, noisy = draw(train_key, config.train)
        x, y = draw(test_key, config.test)
        return {"train": {"x": noisy / unit}, "test": {"x": x, "y": y}}

    return data


def _gaussian(config, sigma):
    mixture = mixtures.circle(8, 2.0, 0.15)

    def draw(key, many):
        clean_key, noise_key = jax.random.split(key)
        x = mixtures.draw(clean_key, mixture, many)
        return x, x + sigma * jax.random.normal(noise_key, x.shape)

    def oracle(y):
        return mixtures.clean_mean(y, mixture, h=sigma**2)

    def denoise(y, score):
        return estimators.tweedie_gaussian(y, score, variance=sigma**2)

    return Problem(
        _sampled(config, draw),
        denoise,
        lambda y, _: oracle(y),
        oracle,
        center=(0.0, float(np.sqrt(2.0 + 0.15**2 + sigma**2))),
    )


def _gamma(config, shape):
    prior = mixtures.two_bumps(0.3, 1.0, 141)

    def draw(key, many):
        clean_key, noise_key = jax.random.split(key)
        x = mixtures.draw_points(clean_key, prior, many)
        return x, x * jax.random.gamma(noise_key, shape, x.shape) / shape

    def expected(y, f):
        return mixtures.posterior(
            y[:, 0], prior, lambda y, x: -shape * (jnp.log(x) + y / x)
        )(f)[:, None]

    def denoise(y, score):
        return estimators.tweedie_gamma(y, score, shape=shape)

    return Problem(
        _sampled(config, draw),
        denoise,
        lambda y, _: 1 / expected(y, lambda x: 1 / x),
        lambda y: expected(y, lambda x: x),
        scale=lambda x: 1 / x,
        center=(0.55, 0.3),
    )


def _poisson(config, zeta):
    prior = mixtures.two_bumps(0.1, 1.0, 181)

    def draw(key, many):
        clean_key, noise_key = jax.random.split(key)
        x = mixtures.draw_points(clean_key, prior, many)
        counts = jax.random.poisson(noise_key, x / zeta)
        return x, zeta * counts.astype(x.dtype)

    def expected(y, f):
        return mixtures.posterior(
            y[:, 0] / zeta, prior, lambda n, x: n * jnp.log(x) - x / zeta
        )(f)[:, None]

    def denoise(y, score):
        return estimators.tweedie_poisson(y, score, zeta=zeta)

    return Problem(
        _sampled(config, draw, zeta),
        denoise,
        lambda y, _: jnp.exp(expected(y, jnp.log)),
        lambda y: expected(y, lambda x: x),
        scale=jnp.log,
        unit=zeta,
        center=(0.5 / zeta, 0.3 / zeta),
    )


def _digits(config, sigma):
    images, labels = datasets.images()

    def data(key):
        split_key, train_key, test_key = jax.random.split(key, 3)
        rows = datasets.divide(split_key, images, labels, config.images)

        def noisy(key, x):
            return x + sigma * jax.random.normal(key, x.shape)

        train = {"x": noisy(train_key, rows.x)}
        return {
            "train": train,
            "test": {"x": rows.test_x, "y": noisy(test_key, rows.test_x)},
        }

    def affine(y, train):
        """Wiener's, of the noise's known covariance and the measured one of all."""
        mean = train.mean(0, keepdims=True)
        covariance = (train - mean).T @ (train - mean) / len(train)
        solved = jnp.linalg.solve(covariance, (y - mean).T).T
        return y - sigma**2 * solved

    def denoise(y, score):
        return estimators.tweedie_gaussian(y, score, variance=sigma**2)

    return Problem(data, denoise, affine, None, center=(0.0, 0.4))


_KINDS = {
    "gaussian": _gaussian,
    "gamma": _gamma,
    "poisson": _poisson,
    "digits": _digits,
}


def _run(config, name, problem) -> Run:
    entry, (shift, spread) = config.noises[name], problem.center
    features = jax.eval_shape(problem.data, jax.random.key(0))["train"]["x"].shape[-1]
    model = models.MLP(tuple(entry.widths), features, activation="silu")

    def score(params, z):
        return model.apply({"params": params}, (z - shift) / spread) / spread

    def loss(params, batch, key, step):
        sigma = estimators.anneal_sigma(
            step,
            sigma_max=entry.annealed[0],
            sigma_min=entry.annealed[1],
            steps=config.annealing * entry.steps,
        )
        noise = jax.random.normal(key, batch["x"].shape)
        return losses.ardae_loss(
            lambda z: score(params, z), batch["x"], noise, sigma=sigma
        )

    def evaluate(params, data):
        x, y = data["test"]["x"], data["test"]["y"]
        found = problem.denoise(y, score(params, y / problem.unit))
        oracle = problem.oracle(y, data["train"]["x"])
        errors = {"noisy": y, "learned": found, "oracle": oracle}
        apart = {"oracle": oracle}
        if problem.mean is not None:
            errors["mean"] = apart["mean"] = problem.mean(y)
        scaled = {
            of: jnp.square(problem.scale(a) - problem.scale(x)).mean()
            for of, a in (("learned", found), ("oracle", oracle))
        }
        return (
            {f"mse/{of}": jnp.square(a - x).mean() for of, a in errors.items()}
            | {f"apart/{of}": jnp.square(a - found).mean() for of, a in apart.items()}
            | {"ratio/oracle": scaled["learned"] / scaled["oracle"]}
        )

    rate = optax.cosine_decay_schedule(config.learning_rate, entry.steps)
    return Run(
        init=lambda key: model.init(key, jnp.zeros((1, features)))["params"],
        loss=loss,
        data=problem.data,
        optimizer=optax.adam(rate),
        evaluate=evaluate,
        steps=entry.steps,
        batch_size=config.batch_size,
        evaluate_at=sorted({round(entry.steps * i / 10) for i in range(11)}),
        from_optimizer=lambda state: state[0].count,
        show=("ratio/oracle",),
    )


def _table(config):
    words = {
        "noisy": "noisy",
        "learned": "learned",
        "oracle": "oracle",
        "mean": "posterior mean",
    }

    def rows(results):
        return [
            {"noise": config.noises[name].label}
            | {
                f"{text}, squared error": float(arm.final(f"mse/{of}").mean())
                if f"mse/{of}" in arm
                else float("nan")
                for of, text in words.items()
            }
            for name, arm in results.items()
        ]

    return rows


def _claims(config):
    bounds, claims = config.tolerances, []
    for name, entry in config.noises.items():
        needs, label = (name,), entry.label
        if entry.kind == "digits":
            claims.append(
                report.Claim(
                    text="on images of digits the network is ahead of any affine map",
                    ours=lambda r, name=name: r[name].final("ratio/oracle"),
                    at_most=1.0,
                    unit="of the error of the best affine denoiser",
                    needs=needs,
                    question=True,
                )
            )
            continue
        known = PROTOTYPE.get(entry.level) if entry.kind == "gaussian" else None
        claims += [
            report.Claim(
                text=f"it denoises nearly as well as the oracle, {label}",
                reference=prototype(known) if known else BOUND,
                ours=lambda r, name=name: r[name].final("ratio/oracle"),
                at_most=bounds.above,
                unit="of the oracle's squared error",
                needs=needs,
            ),
            report.Claim(
                text=f"it is never better than the oracle, {label}",
                reference="theorem: the oracle has the least error there is",
                ours=lambda r, name=name: r[name].final("ratio/oracle"),
                at_least=bounds.below,
                unit="of the oracle's squared error",
                needs=needs,
            ),
        ]
        if entry.kind in RIGHT:
            claims.append(
                report.Claim(
                    text=f"it estimates {RIGHT[entry.kind]}, not the mean, {label}",
                    reference=BOUND,
                    ours=lambda r, name=name: np.sqrt(
                        r[name].final("apart/oracle") / r[name].final("apart/mean")
                    ),
                    at_most=bounds.nearer,
                    unit="of its distance from the mean",
                    needs=needs,
                )
            )
    return claims
