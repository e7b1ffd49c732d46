"""Arms of the study that its training loop does not train, and a picture."""

import functools
import math
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.threads import one_blas_thread
from logitlab import data, losses, models, optim, report
from logitlab.train import Compute, log_points

LABELS = {
    "reference": "at the reference",
    "fit_checkered": "checkered, 20 restarts",
    "fit_mlp": "scikit-learn's MLP, 1 restart",
    "gap": "measured",
    "bound": "bound of the theorem",
}

# --- the lower bound, drawn

DENSITIES = {
    "gaussian": lambda z: z**2 / 2 + math.log(2 * math.pi) / 2,
    "logistic": lambda z: z + 2 * jax.nn.softplus(-z),
}


@functools.partial(jax.jit, static_argnums=0)
def _tangent(name, at, points):
    partial_losses = DENSITIES[name]

    def bound(point):
        return optim.cross_convex_lower_bound(partial_losses, at, point)

    def loss(point):
        return losses.sum_log_concave_loss(partial_losses(point))

    return loss(points), jax.vmap(jax.vmap(bound))(points), loss(at)


def draw_tangents(results):
    """F(x, y) = -log(p(x) + p(y)), and what lemma 1 says of it from one point."""
    at = jnp.array([1.0, -0.6])
    grid = jnp.linspace(-3, 3, 31)
    points = jnp.stack(jnp.meshgrid(grid, grid), -1)
    sheets = {}
    for name in DENSITIES:
        above, below, height = map(np.asarray, _tangent(name, at, points))
        sheets[f"p {name}"] = report.Sheet(
            across=np.asarray(grid),
            up=np.asarray(grid),
            above=above,
            below=below,
            touches=(*map(float, at), float(height)),
            names=("F", "lower bound"),
        )
    return report.surfaces(sheets)(results)


# --- the theorem


def gap_steps(config) -> list[int]:
    """The steps at which the gap is reported."""
    return [step for step in log_points(config.steps, 2) if step]


def gap_arms(config) -> dict:
    """Mean excess over the reference along cross-gradient descent, and its bound."""

    def arm(which):
        def values(key):
            excess = _gap(key, config.data.rows, config.data.variance, config.steps)
            return {f"excess/{t}": excess[which][t - 1] for t in gap_steps(config)} | {
                "worst": jnp.max(excess[0] / excess[1])
            }

        return Compute(values)

    return {"gap": arm(0), "bound": arm(1)}


@functools.partial(jax.jit, static_argnums=(1, 2, 3))
def _gap(key, rows, variance, steps):
    """Both sides of theorem 4.2 after every step: two factors on a mixture of XOR.

    The step sizes are the theorem's: D is the distance between start and reference, and
    B bounds the slope of every partial loss, whose mean over the rows is taken.
    """
    data_key, reference_key, start_key = jax.random.split(key, 3)
    rows = data.xor_mixture(data_key, rows, variance=variance)
    x, y = rows["x"], rows["y"]
    # A start far off, where there is an excess to lose.
    model = models.CheckeredDense(classes=2, factors=2, scale=3.0, pinned=True)
    theta = model.init(start_key, x)["params"]
    eta = optim.random_point(reference_key)(theta)

    def partial_losses(theta):
        z = model.apply({"params": theta}, x, method="factor_logits")
        log_p = jax.nn.log_softmax(z)
        first = jnp.arange(2)[None]  # draw of the first factor; the second makes up y
        second = (y[:, None] - first) % 2
        return -(log_p[:, 0] + jnp.take_along_axis(log_p[:, 1], second, -1))

    distance = optax.tree.norm(jax.tree.map(jnp.subtract, theta, eta))
    lipschitz = jnp.mean(jnp.sqrt(2 * (1 + (x**2).sum(-1))))
    sizes = optim.subgradient_schedule(distance, lipschitz)
    optimizer = optim.xgd(sizes, reference=eta, refresh_every=None)
    seen = optim.value_and_cross_grad(partial_losses, reference=eta)
    floor = optim.value_and_cross_grad(partial_losses)(eta)[0]

    def step(carry, t):
        theta, state = carry
        value, grads = seen(theta)
        updates, state = optimizer.update(grads, state, theta)
        return (optax.apply_updates(theta, updates), state), (value, sizes(t))

    start = theta, optimizer.init(theta)
    _, (values, gamma) = jax.lax.scan(step, start, jnp.arange(steps))
    total = jnp.cumsum(gamma)
    gap = jnp.cumsum(gamma * (values - floor)) / total
    squares = distance**2 + lipschitz**2 * jnp.cumsum(gamma**2)
    return gap, squares / (2 * total)


# --- the time of a fit


def fit_arms(config) -> dict:
    """How long twenty restarts take, and one of an MLP that gets as far."""
    return {
        "fit_checkered": Compute(lambda key: fit_checkered(config, key)),
        "fit_mlp": Compute(lambda key: fit_mlp(config, key)),
    }


def _board(config, key):
    c = config.data
    total = c.rows + c.test_rows
    board = data.checkerboard(key, total, lines=c.lines, span=c.span)
    return {
        "train": (board["x"][: c.rows], board["y"][: c.rows]),
        "test": (board["x"][c.rows :], board["y"][c.rows :]),
    }


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _fit(factors, restarts, epochs, key, x, y, rate):
    """Stochastic gradient descent, a row at a time, all restarts side by side."""
    model = models.CheckeredDense(classes=2, factors=factors, pinned=True)

    def loss(params, x, y):
        return losses.cross_entropy(model.apply({"params": params}, x), y)

    def step(params, row):
        grads = jax.grad(loss)(params, x[row], y[row])
        return jax.tree.map(lambda p, g: p - rate * g, params, grads), None

    def one(key):
        start, key = jax.random.split(key)
        params = model.init(start, x[0])["params"]

        def epoch(params, key):
            order = jax.random.permutation(key, len(x))
            return jax.lax.scan(step, params, order)[0], None

        params = jax.lax.scan(epoch, params, jax.random.split(key, epochs))[0]
        return params, jax.vmap(loss, (None, 0, 0))(params, x, y).mean()

    params, final = jax.vmap(one)(jax.random.split(key, restarts))
    best = jnp.nanargmin(final)
    return jax.tree.map(lambda a: a[best], params)


def fit_checkered(config, key):
    """Seconds to fit, once compiled, seconds to compile, test error of the best."""
    fit, times = _fit_of(config, key), []
    compiling = _seconds_to_compile(*fit.args[:3], config.data.rows)
    for _ in range(1 + config.fit.repeats):
        start = time.perf_counter()
        params = jax.block_until_ready(fit())
        times.append(time.perf_counter() - start)
    return {
        "fit/seconds": float(np.median(times[1:])),
        "fit/seconds_to_compile": compiling,
        "fit/error": _error(config, key, params),
    }


def _fit_of(config, key):
    c, (x, y) = config.fit, _board(config, key)["train"]
    rate = config.optim.learning_rate
    return functools.partial(_fit, c.factors, c.restarts, c.epochs, key, x, y, rate)


@functools.cache
def _seconds_to_compile(factors, restarts, epochs, rows):
    shapes = jax.eval_shape(
        lambda: (jax.random.key(0), jnp.zeros((rows, 2)), jnp.zeros(rows, jnp.int32))
    )
    start = time.perf_counter()
    _fit.lower(factors, restarts, epochs, *shapes, 0.1).compile()
    return time.perf_counter() - start


def _error(config, key, params):
    x, y = _board(config, key)["test"]
    model = models.CheckeredDense(classes=2, factors=config.fit.factors, pinned=True)
    wrong = model.apply({"params": params}, x).argmax(-1) != y
    return max(float(wrong.mean()), 1 / len(y))


def fit_mlp(config, key):
    """Seconds until an MLP gets as many test rows right, by its best learning rate."""
    from sklearn.neural_network import MLPClassifier

    goal = _error(config, key, _fit_of(config, key)())
    c, parts = config.fit, _board(config, key)
    (x, y), (test_x, test_y) = (map(np.asarray, parts[name]) for name in parts)
    runs = []
    for rate in c.rates:
        model = MLPClassifier(learning_rate_init=rate, random_state=0)
        seconds, error, epochs = 0.0, 1.0, 0
        while error > goal and epochs < c.most_epochs:
            start = time.perf_counter()
            with one_blas_thread():  # its products are small
                for _ in range(25):
                    model.partial_fit(x / config.data.span, y, classes=(0, 1))
            seconds += time.perf_counter() - start
            epochs += 25
            error = float((model.predict(test_x / config.data.span) != test_y).mean())
        runs.append((error > goal, seconds, max(error, 1 / len(test_y))))
    _, seconds, error = min(runs)
    return {"fit/seconds": seconds, "fit/error": error}
