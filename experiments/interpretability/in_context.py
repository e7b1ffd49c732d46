"""Does one layer of linear attention learn one step of gradient descent?

Tasks are linear regressions, examples and a question in one context. What a layer of
linear self-attention does with them depends on one matrix alone, and the best such
matrix is known: a step of gradient descent, preconditioned where the inputs are not
isotropic. Here its factors, keys, queries and a value, are trained by Adam on fresh
tasks.

Source: One step of gradient descent is provably the optimal in-context learner,
Mahankali, Hashimoto and Ma 2023, arXiv:2307.03576.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from logitlab import report, theory
from logitlab.train import Compute, Study

ISOTROPIC = "isotropic"
ARMS = {
    ISOTROPIC: "inputs of N(0, I)",
    "covariance": "inputs of N(0, S)",
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    return Study(
        arms={name: Compute(functools.partial(_values, config, name)) for name in ARMS},
        figures={
            "risk": report.trends(
                {step: f"risk/{step}" for step in _points(config)},
                label="risk over the least there is",
                across="step",
            )
        },
        claims=_claims(config),
        labels=ARMS,
        title="One layer of linear attention learns a step of gradient descent",
        summary=(
            f"{config.examples} examples of {config.features} features and a question, "
            f"noise of variance {config.noise:g}; {config.steps} steps of Adam on "
            f"{config.batch_size} fresh tasks each. Inputs have the covariance I, or "
            "one with eigenvalues from 0.5 to 2 in a random basis."
        ),
        captions={
            "risk": "In closed form, of what is learned; 1 is the least risk there is."
        },
    )


def _check(config):
    for name in ("examples", "features", "steps", "batch_size"):
        if config[name] < 1:
            raise ValueError(f"config.{name} is {config[name]}, expected at least 1")
    if config.noise < 0:
        raise ValueError(f"config.noise is {config.noise}, expected at least 0")


def _points(config):
    return sorted(
        {max(1, round(config.steps * share)) for share in np.arange(1, 6) / 5}
    )


def root_of_covariance(key: jax.Array, features: int) -> jax.Array:
    """A symmetric root of a covariance with eigenvalues from 0.5 to 2."""
    basis, _ = jnp.linalg.qr(jax.random.normal(key, (features, features)))
    sizes = jnp.geomspace(0.5, 2, features)
    return (basis * jnp.sqrt(sizes)[None]) @ basis.T


def draw(key, config, root, batch):
    """Tasks: inputs, targets, questions and their answers."""
    w_key, x_key, noise_key = jax.random.split(key, 3)
    shape = batch, config.examples + 1
    white = jax.random.normal(x_key, (*shape, config.features))
    w = jax.random.normal(w_key, (batch, config.features))
    x = white @ root  # and w has the inverse covariance, so that w . x is white . w
    clean = jnp.einsum("bnd,bd->bn", white, w)
    y = clean + config.noise**0.5 * jax.random.normal(noise_key, shape)
    return x[:, :-1], y[:, :-1], x[:, -1], y[:, -1]


def risk_of(gamma, root, config):
    """Risk of any matrix, by the fourth moments of a Gaussian."""
    n, d, sigma2 = config.examples, config.features, config.noise
    white = root @ gamma @ root
    square = jnp.sum(jnp.square(white))
    return sigma2 + d - 2 * n * jnp.trace(white) + n * (n + d + 1 + sigma2) * square


def matrix(params: dict) -> jax.Array:
    """What the layer's keys, queries and value amount to."""
    return params["value"] * params["query"].T @ params["key"]


def _trained(key, config, isotropic):
    d = config.features
    start_key, root_key, task_key, test_key = jax.random.split(key, 4)
    root = jnp.eye(d) if isotropic else root_of_covariance(root_key, d)
    key_key, query_key = jax.random.split(start_key)
    params = {
        "key": jax.random.normal(key_key, (d, d)) / d,
        "query": jax.random.normal(query_key, (d, d)) / d,
        "value": jnp.asarray(0.1),
    }
    rate = optax.cosine_decay_schedule(config.learning_rate, config.steps)
    optimizer = optax.adam(rate)

    def error(gamma, tasks):
        x, y, query, answer = tasks
        found = theory.linear_attention_predict(x, y, query, gamma)
        return jnp.square(found - answer)

    def step(carry, at):
        params, state = carry
        tasks = draw(jax.random.fold_in(task_key, at), config, root, config.batch_size)
        grads = jax.grad(lambda p: error(matrix(p), tasks).mean())(params)
        updates, state = optimizer.update(grads, state)
        params = optax.apply_updates(params, updates)
        return (params, state), risk_of(matrix(params), root, config)

    start = params, optimizer.init(params)
    (params, _), risks = jax.lax.scan(step, start, jnp.arange(config.steps))
    gamma = matrix(params)

    def tested(at):
        tasks = draw(jax.random.fold_in(test_key, at), config, root, config.test)
        return error(gamma, tasks).mean()

    measured = jax.lax.map(tested, jnp.arange(config.test_batches)).mean()
    return gamma, jnp.linalg.inv(root @ root), risks, measured


def _values(config, name, key):
    run = jax.jit(
        functools.partial(_trained, config=config, isotropic=name == ISOTROPIC)
    )
    gamma, inverse, risks, measured = run(key)
    n, d, sigma2 = config.examples, config.features, config.noise
    eta, least = (
        float(f(n, d, sigma2))
        for f in (theory.optimal_one_step_eta, theory.one_step_risk)
    )
    best = eta * inverse
    off = gamma * (1 - jnp.eye(d)) - best * (1 - jnp.eye(d))
    return {
        "distance": jnp.linalg.norm(gamma - best) / jnp.linalg.norm(best),
        "off_diagonal": jnp.abs(off).max() / eta,
        "measured": jnp.abs(measured / least - 1),
        "gamma": gamma,
    } | {f"risk/{step}": risks[step - 1] / least for step in _points(config)}


def _claims(config):
    bounds, claims = config.tolerances, []
    for name, words in ARMS.items():
        what = "the step times I" if name == ISOTROPIC else "the step times 1 / S"
        claims += [
            report.Claim(
                text=f"the learned map is {what}, {words}",
                reference="theorem: it has the least risk",
                ours=lambda r, name=name: r[name].final("distance"),
                at_most=bounds[name],
                unit="of its norm away",
                needs=(name,),
            ),
            report.Claim(
                text=f"its risk on fresh tasks is that of the formula, {words}",
                reference="theorem: the least risk",
                ours=lambda r, name=name: r[name].final("measured"),
                at_most=bounds.risk,
                unit="of it away",
                needs=(name,),
            ),
        ]
    return claims + [
        report.Claim(
            text="off the diagonal nothing is left, inputs of N(0, I)",
            reference="theorem: a multiple of I",
            ours=lambda r: r[ISOTROPIC].final("off_diagonal"),
            at_most=bounds.off_diagonal,
            unit="of the step",
            needs=(ISOTROPIC,),
        )
    ]
