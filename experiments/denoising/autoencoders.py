"""Does an autoencoder that removes noise know the score of its data?

The best denoising autoencoder is known for a mixture, and the best contractive one is
the solution of a linear differential equation. Both are compared with the score of the
data as the noise shrinks, and networks with both. A network's score then drives
Metropolis steps, which should find the modes and moments of the data it saw.

Source: Alain and Bengio 2014, arXiv:1211.4246.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.references import BOUND, stated
from experiments.denoising import _mixtures as mixtures
from logitlab import estimators, losses, models, report
from logitlab.train import Compute, Run, Study

BEST = {"denoising_best": "denoising, best", "contractive_best": "contractive, best"}
LEARNED = {"denoising": "denoising, learned", "contractive": "contractive, learned"}
LABELS = BEST | LEARNED
MIXTURE = mixtures.Mixture(
    np.array([0.4, 0.6]), np.array([[-1.5], [1.5]]), deviation=0.5
)
SHOWN = 3.0  # where scores are compared, from minus that on


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    best = {
        name: {sigma: score(sigma) for sigma in config.sigmas}
        for name, score in _best_scores(config).items()
    }
    against = dict(across="σ of the noise", log=True, log_across=True)
    return Study(
        arms={
            name: Compute(functools.partial(_distances, config, best[name]))
            for name in BEST
        }
        | {name: _run(config, name, best[f"{name}_best"]) for name in LEARNED},
        figures={
            "data": report.trends(
                {sigma: f"data/{sigma:g}" for sigma in config.sigmas},
                label="distance from the score of the data",
                **against,
            ),
            "own": report.trends(
                {sigma: f"own/{sigma:g}" for sigma in config.sigmas},
                label="distance from the best of its kind",
                arms=list(LEARNED),
                bound=(config.tolerances.fitted, "bound"),
                **against,
            ),
        },
        claims=_claims(config),
        labels=LABELS,
        title="The score that an autoencoder knows",
        summary=(
            "Two modes at -1.5 and 1.5 with weights 0.4 and 0.6. Networks see "
            f"{config.train} data for {config.steps} steps of Adam. Distances are "
            f"over the score's size, both root mean squares on [-{SHOWN:g}, "
            f"{SHOWN:g}]. {config.walk.chains} Metropolis chains of "
            f"{config.walk.steps} steps start in the smaller mode."
        ),
        captions={
            "data": (
                "That of the best autoencoders falls as σ²; networks add what a "
                "division by σ² makes of their error."
            ),
            "own": "What training leaves.",
        },
    )


def _check(config):
    sigmas = tuple(config.sigmas)
    if not sigmas or min(sigmas) <= 0 or len(set(sigmas)) < len(sigmas):
        raise ValueError(
            f"config.sigmas is {sigmas}, expected different numbers above 0"
        )
    if not {config.fitted, *config.slope} <= {*sigmas}:
        raise ValueError(
            f"config.fitted is {config.fitted} and config.slope {tuple(config.slope)}, "
            f"expected numbers of config.sigmas, {sigmas}"
        )


def _best_scores(config):
    """Name -> function of sigma that gives the scores on the grid."""
    x = grid(config.grid)

    def denoising(sigma):
        return np.asarray(mixtures.score(x[:, None], MIXTURE, h=sigma**2))[:, 0]

    return {
        "denoising_best": denoising,
        "contractive_best": lambda sigma: contractive_score(x, sigma),
    }


def grid(points: int) -> np.ndarray:
    """Where scores are compared."""
    return np.linspace(-SHOWN, SHOWN, points)


def contractive_score(
    x: np.ndarray,
    sigma: float,
    mixture: mixtures.Mixture = MIXTURE,
    cells: int = 1500,
) -> np.ndarray:
    """(r - x) / sigma^2 at x, of the r that the contractive loss is least for.

    It solves p (r - x) = sigma^2 (p r')', without a flux at the ends, far out.
    """
    edge = 5.0
    nodes = np.linspace(-edge, edge, cells)
    step = nodes[1] - nodes[0]
    middles = (nodes[1:] + nodes[:-1]) / 2

    def density(x):
        gaps = (x[:, None] - mixture.means[:, 0]) / mixture.deviation
        return np.exp(-(gaps**2) / 2) @ mixture.weights

    mass, flux = density(nodes), sigma**2 * density(middles) / step**2
    system = np.diag(mass)
    for shift in (0, 1):
        at = np.arange(cells - 1) + shift
        system[at, at] += flux
        system[at, at + (-1 if shift else 1)] -= flux
    r = np.linalg.solve(system, mass * nodes)
    return np.interp(x, nodes, r - nodes) / sigma**2


def distance(score: jax.Array, other: jax.Array) -> jax.Array:
    """Root mean square of the difference, over that of the second."""
    return jnp.sqrt(jnp.square(score - other).mean() / jnp.square(other).mean())


def _true(config):
    x = grid(config.grid)
    return np.asarray(mixtures.score(x[:, None], MIXTURE))[:, 0]


def _distances(config, scores, key):
    del key
    true = _true(config)
    return {f"data/{sigma:g}": distance(score, true) for sigma, score in scores.items()}


def _run(config, name, best) -> Run:
    """Networks of all noise levels side by side, each with parameters of its own."""
    sigmas = jnp.asarray(config.sigmas)
    model = models.MLP(tuple(config.widths), 1, activation="silu")
    x, true = jnp.asarray(grid(config.grid))[:, None], _true(config)

    def reconstruct(params, sigma, x):
        return x + sigma * model.apply({"params": params}, x)

    def loss(params, batch, key):
        noise = jax.random.normal(key, batch["x"].shape)

        def of_level(params, sigma):
            r = functools.partial(reconstruct, params, sigma)
            if name == "denoising":
                found = losses.denoising_reconstruction_loss(
                    r, batch["x"], noise, sigma=sigma
                )
            else:
                found = losses.contractive_reconstruction_loss(
                    r, batch["x"], sigma=sigma
                )
            return found / sigma**2

        return jax.vmap(of_level)(params, sigmas).sum(0)

    def score(params, sigma, x):
        return estimators.dae_score(reconstruct(params, sigma, x), x, sigma=sigma)

    def evaluate(params, data):
        found = jax.vmap(score, (0, 0, None))(params, sigmas, x)[..., 0]
        values = {}
        for sigma, mine in zip(config.sigmas, found, strict=True):
            values[f"data/{sigma:g}"] = distance(mine, true)
            values[f"own/{sigma:g}"] = distance(mine, best[sigma])
        if name == "denoising":
            at = list(config.sigmas).index(config.fitted)
            mine = jax.tree.map(lambda leaf: leaf[at], params)
            values |= _walked(
                config, functools.partial(score, mine, config.fitted), data["walk"]
            )
        return values

    def data(key):
        rows_key, walk_key = jax.random.split(key)
        rows = mixtures.draw(rows_key, MIXTURE, config.train)
        keys = jax.random.split(walk_key, config.walk.chains)
        start = jnp.full((config.walk.chains, 1), MIXTURE.means[0, 0])
        walk = {"key": jax.random.key_data(keys), "x": start}
        return {"train": {"x": rows}, "walk": walk}

    def init(key):
        keys = jax.random.split(key, len(config.sigmas))
        return jax.vmap(lambda key: model.init(key, x[:1])["params"])(keys)

    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    return Run(
        init=init,
        loss=loss,
        data=data,
        optimizer=optax.adam(rate),
        evaluate=evaluate,
        steps=config.steps,
        batch_size=config.batch_size,
        evaluate_at=(config.steps,),
        show=(f"own/{config.fitted:g}",),
    )


def _walked(config, score, walk):
    """Moments of the chains, beside those of the data behind the noise.

    Every chain has a key of its own, so that chains may lie on several devices.
    """
    walk_config = config.walk

    def chain(key, x):
        def step(x, key):
            found = estimators.score_mh_step(key, x, score, step=walk_config.step)
            return found.x, found.accepted

        keys = jax.random.split(jax.random.wrap_key_data(key), walk_config.steps)
        x, accepted = jax.lax.scan(step, x[None], keys)
        return x[0, 0], accepted.mean()

    x, accepted = jax.vmap(chain)(walk["key"], walk["x"])
    weights, means = MIXTURE.weights, MIXTURE.means[:, 0]
    mean = weights @ means
    second = weights @ means**2 + MIXTURE.deviation**2 + config.fitted**2
    deviation = np.sqrt(second - mean**2)
    return {
        "walk/mean": jnp.abs(x.mean() - mean) / deviation,
        "walk/second": jnp.abs(jnp.square(x).mean() / second - 1),
        "walk/right": (x > 0).mean(),
        "walk/accepted": accepted.mean(),
    }


def _slope(config, results, name):
    """Of the distance from the score of the data against sigma, in logarithms."""
    found = [results[name].final(f"data/{sigma:g}") for sigma in config.slope]
    return np.polyfit(np.log(config.slope), np.log(found), 1)[0]


def _claims(config):
    bounds, fitted = config.tolerances, f"{config.fitted:g}"
    claims = [
        report.Claim(
            text=f"the best {kind} autoencoder's error falls as σ²",
            reference=reference,
            ours=functools.partial(_slope, config, name=f"{kind}_best"),
            equals=2.0,
            within=bounds.slope,
            unit="is the exponent",
            needs=(f"{kind}_best",),
        )
        for kind, reference in (
            ("denoising", "theorem: the score of p * N(0, σ²) is O(σ²) from p's"),
            ("contractive", "theorem: r(x) = x + σ² ∇ log p(x) + o(σ²)"),
        )
    ]
    claims += [
        report.Claim(
            text=f"a {kind} network learns the score of the best, σ = {fitted}",
            reference=BOUND,
            ours=lambda r, kind=kind: r[kind].final(f"own/{fitted}"),
            at_most=bounds.fitted,
            unit="of its size",
            format=".1%",
            needs=(kind,),
        )
        for kind in LEARNED
    ]
    moments = {
        "mean": ("the mean", "of the deviation"),
        "second": ("the second moment", "of it"),
    }
    claims += [
        report.Claim(
            text=f"Metropolis chains of that score have {words} of what it learned",
            reference=stated("the score is enough to sample"),
            ours=lambda r, of=of: r["denoising"].final(f"walk/{of}"),
            at_most=bounds.moments,
            unit=f"off, {unit}",
            format=".1%",
            needs=("denoising",),
        )
        for of, (words, unit) in moments.items()
    ]
    return claims
