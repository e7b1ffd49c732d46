"""Do EK-FAC scores say which training examples a prediction comes from?

A network classifies digits. How much each training image lowers the loss of a query is
scored by EK-FAC, by K-FAC, by products of gradients, and by the damped Gauss-Newton
matrix itself, which is small enough to be inverted. Then the images with the highest
scores are taken away, or as many others at random, and the network is trained again.

Source: Studying large language model generalization with influence functions, Grosse
et al. 2023, arXiv:2308.03296.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import datasets
from experiments.common.keys import once_per_key
from experiments.common.references import BOUND
from experiments.interpretability import _networks
from logitlab import losses, metrics, models, report
from logitlab.train import Compute, Study

METHODS = {
    "ekfac": "EK-FAC",
    "kfac": "K-FAC",
    "gradients": "products of gradients",
}
REMOVED = ("ekfac", "gradients", "random")


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    found = once_per_key(functools.partial(_found, config))
    return Study(
        arms={
            method: Compute(lambda key, method=method: found(key)[method])
            for method in (*METHODS, "random")
        },
        figures={
            "correlation": report.trends(
                {damping: metric(damping) for damping in config.dampings},
                label="correlation with Gauss-Newton",
                across="damping over the mean eigenvalue",
                log_across=True,
            ),
            "removal": report.intervals(
                {"removed": list(REMOVED)},
                ["EK-FAC", "products of\ngradients", "at random"],
                "rise",
                label="rise of the query's loss, nats",
            ),
        },
        claims=_claims(config),
        labels=METHODS | {"random": "at random"},
        title="Which training examples a prediction comes from",
        summary=(
            f"{config.train} digits, one hidden layer of {config.widths[0]}, "
            f"{config.queries} queries per seed; for {config.removed} of them the "
            f"{config.share:.0%} of the examples with the highest scores are removed, "
            "and the network is trained again from the same start."
        ),
        captions={
            "correlation": (
                "Pearson's, over the training examples, mean over the queries. The "
                "matrix is damped as EK-FAC is, by a multiple of each layer's mean "
                "eigenvalue."
            ),
            "removal": "Mean over the queries.",
        },
    )


def metric(damping: float, target: str = "whole") -> str:
    """What the correlation with the scores of a matrix is called."""
    return f"{target}/{damping:g}"


def _check(config):
    datasets.check_train(config.train)
    if not 1 <= config.removed <= config.queries:
        raise ValueError(
            f"config.removed is {config.removed}, expected 1 to config.queries "
            f"({config.queries})"
        )
    if not 0 < config.share < 1:
        raise ValueError(f"config.share is {config.share}, expected in (0, 1)")


def _recipe(config):
    return _networks.Recipe(tuple(config.widths), 10, config.steps, decay=config.decay)


def tapped_loss(model, params, taps, batch, key=None):
    """Cross-entropy of each row, of its own label or with a key of a drawn one."""
    logits, layers = models.apply_with_taps(model, params, taps, batch["x"])
    labels = batch["y"]
    if key is not None:
        labels = jax.random.categorical(key, jax.lax.stop_gradient(logits))
    return losses.cross_entropy(logits, labels), layers


def flat_gradients(model, params, batch):
    """Gradients of the losses of the rows, [N, P], layer by layer, kernel over bias."""

    def one(params, x, y):
        return losses.cross_entropy(model.apply(params, x[None])[0], y)

    grads = jax.vmap(jax.grad(one), (None, 0, 0))(params, batch["x"], batch["y"])
    return _flat(grads["params"])


def _flat(tree):
    """Of leaves [N, ...], each layer's kernel over its bias."""
    parts = []
    for name in sorted(tree):
        kernel, bias = tree[name]["kernel"], tree[name]["bias"]
        both = jnp.concatenate([kernel, bias[:, None]], 1)
        parts.append(both.reshape(len(both), -1))
    return jnp.concatenate(parts, 1)


def gauss_newton(model, params, x):
    """The mean of J^T (diag p - p p^T) J over the rows, [P, P]."""

    def rows(x):
        jacobian = jax.jacrev(lambda p: model.apply(p, x[None])[0])(params)
        jacobian = _flat(jacobian["params"])  # classes, parameters
        p = jax.nn.softmax(model.apply(params, x[None])[0])
        centered = jacobian - jnp.sum(p[:, None] * jacobian, 0, keepdims=True)
        return jnp.sqrt(p)[:, None] * centered

    def add(total, x):
        j = jax.vmap(rows)(x).reshape(-1, total.shape[0])
        return total + j.T @ j, None

    size = sum(leaf.size for leaf in jax.tree.leaves(params))
    parts = x.reshape(-1, min(50, len(x)), x.shape[-1]) if len(x) % 50 == 0 else x[None]
    total, _ = jax.lax.scan(add, jnp.zeros((size, size)), parts)
    return total / len(x)


def _found(config, key):
    """For every method what its arm leaves."""
    x, y = datasets.images()
    split_key, fit_key, label_key, order_key = jax.random.split(key, 4)
    rows = datasets.divide(split_key, x, y, config.train)
    train = {"x": rows.x, "y": rows.y}
    queries = {
        "x": rows.test_x[: config.queries],
        "y": rows.test_y[: config.queries],
    }
    recipe = _recipe(config)
    everything = jnp.ones(config.train, bool)
    params = _networks.fit(fit_key, rows.x, rows.y, everything, recipe=recipe)
    model = recipe.model
    state, factored = fitted(
        model, params, train, label_key, draws=config.draws, chunk=config.chunk
    )
    matrix = gauss_newton(model, params, train["x"])
    products = scored(model, params, queries, train, None, None, chunk=config.chunk)
    found: dict = {name: {} for name in METHODS}
    for share in reversed(config.dampings):  # the first is that of the removals
        damping = {
            name: share * mean.value.mean() * jnp.square(state.unit)
            for name, mean in state.eigenvalues.items()
        }
        scores = {
            name: scored(
                model, params, queries, train, own, damping, chunk=config.chunk
            )
            for name, own in (("ekfac", state), ("kfac", factored))
        } | {"gradients": products}
        whole, layers = exact_scores(model, params, queries, train, matrix, damping)
        for name, own in scores.items():
            found[name][metric(share)] = _correlation(own, whole)
            found[name][metric(share, "layers")] = _correlation(own, layers)
    keys = jax.random.split(order_key, config.queries)
    scores["random"] = jnp.stack([jax.random.uniform(k, (config.train,)) for k in keys])
    many = round(config.share * config.train)
    for name in REMOVED:
        rises = [
            without(
                params,
                fit_key,
                rows,
                own,
                {n: a[i] for n, a in queries.items()},
                recipe,
                many,
            )
            for i, own in enumerate(scores[name][: config.removed])
        ]
        found.setdefault(name, {})["rise"] = np.mean(rises)
    return found


def _correlation(scores, others):
    """Pearson's over the training examples, mean over the queries."""
    pairs = zip(scores, others, strict=True)
    return np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs])


@functools.partial(jax.jit, static_argnames=("recipe", "many"))
def without(params, key, rows, scores, query, recipe, many):
    """How far a query's loss rises if the examples with the highest scores are gone."""
    top = jnp.argsort(-scores)[:many]
    keep = jnp.ones(len(rows.y), bool).at[top].set(False)
    again = _networks.fit(key, rows.x, rows.y, keep, recipe=recipe)
    before, after = (
        losses.cross_entropy(recipe.model.apply(p, query["x"][None])[0], query["y"])
        for p in (params, again)
    )
    return after - before


@functools.partial(jax.jit, static_argnames=("model", "draws", "chunk"))
def fitted(model, params, train, key, *, draws, chunk):
    """States of EK-FAC and of K-FAC, of labels that the model draws."""
    loss = functools.partial(tapped_loss, model)
    drawn = jax.tree.map(lambda a: jnp.repeat(a, draws, 0), train)
    state = metrics.ekfac_fit(loss, params, drawn, chunk=chunk, key=key)
    return state, metrics.kfac_state(
        metrics.ekfac_covariances(loss, params, drawn, key=key)
    )


@functools.partial(jax.jit, static_argnames=("model", "chunk"))
def scored(model, params, queries, train, state, damping, *, chunk):
    """Scores [Q, N] by a state, or without one by products of gradients."""
    loss = functools.partial(tapped_loss, model)
    return metrics.influence_scores(
        loss, params, queries, train, state=state, damping=damping, chunk=chunk
    )


@functools.partial(jax.jit, static_argnames="model")
def exact_scores(model, params, queries, train, matrix, damping):
    """Those of the damped Gauss-Newton matrix, and of its blocks of single layers."""
    sizes = [
        sum(leaf.size for leaf in jax.tree.leaves(params["params"][name]))
        for name in sorted(damping)
    ]
    layer = np.repeat(np.arange(len(sizes)), sizes)
    added = jnp.diag(jnp.stack([damping[name] for name in sorted(damping)])[layer])
    blocks = jnp.where(layer[:, None] == layer, matrix, 0)
    left, right = (flat_gradients(model, params, batch) for batch in (queries, train))
    return [
        jax.scipy.linalg.solve(g + added, left.T, assume_a="pos").T @ right.T
        for g in (matrix, blocks)
    ]


def _claims(config):
    first, last = metric(config.dampings[0]), metric(config.dampings[-1])

    def more(name, method, other):
        return lambda r: r[method].final(name) - r[other].final(name)

    return [
        report.Claim(
            text="EK-FAC scores correlate with those of the Gauss-Newton matrix",
            reference=BOUND,
            ours=lambda r: r["ekfac"].final(first),
            at_least=config.tolerances.correlation,
            unit="is the correlation",
            needs=("ekfac",),
        ),
        report.Claim(
            text=f"they do with {config.dampings[-1]:g} times the mean as damping",
            ours=lambda r: r["ekfac"].final(last),
            at_least=config.tolerances.correlation,
            over="mean",
            unit="is the correlation",
            needs=("ekfac",),
            question=True,
        ),
        report.Claim(
            text="products of gradients are further from them",
            reference=BOUND,
            ours=more(first, "ekfac", "gradients"),
            above=0.0,
            unit="more correlation of EK-FAC",
            needs=("ekfac", "gradients"),
        ),
        report.Claim(
            text="and so is K-FAC",
            ours=more(first, "ekfac", "kfac"),
            above=0.0,
            over="mean",
            unit="more correlation of EK-FAC",
            needs=("ekfac", "kfac"),
            question=True,
        ),
        report.Claim(
            text="without its proponents a prediction loses more than without others",
            reference=BOUND,
            ours=more("rise", "ekfac", "random"),
            above=0.0,
            over="mean",
            unit="nats more than at random",
            needs=("ekfac", "random"),
        ),
        report.Claim(
            text="and more than without the proponents of products of gradients",
            ours=more("rise", "ekfac", "gradients"),
            above=0.0,
            over="mean",
            unit="nats more",
            needs=("ekfac", "gradients"),
            question=True,
        ),
    ]
