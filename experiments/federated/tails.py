"""Does a head that knows only frequencies learn to be fair by its lengths alone?

Clients share a long tail of digits unevenly. A backbone learns through a fixed head of
equiangular columns with many zeros; beside it a global head, averaged, and one for each
client, never averaged, learn from its features. Columns of the global head are then
brought to one length, and those of each client to the lengths of its own head.

Source: FedLoGe, Xiao et al. 2024, arXiv:2401.08977.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.datasets import check_train, divide, images
from experiments.common.ranks import rank_correlation
from experiments.common.references import BOUND, prototype, stated
from experiments.federated import _clients as clients
from logitlab import heads, losses, metrics, models, report
from logitlab.train import Compute, Study

TRAINED, FRAME = "fedloge", "frame"
HEADS = {
    "plain": "global head",
    "aligned": "realigned",
    "masked": "global head, own classes",
    "local": "local head, realigned",
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    clients.check_sizes(config)
    check_train(config.train)
    if not 1 <= config.few < clients.CLASSES:
        raise ValueError(f"config.few is {config.few}, expected 1 to 9 rare classes")
    return Study(
        arms={
            FRAME: Compute(lambda key: frame_values(key, config.frame)),
            TRAINED: _run(config),
        },
        figures={
            "classes": report.trends(
                {c + 1: f"plain/{c}" for c in range(clients.CLASSES)},
                arms=[TRAINED],
                label="accuracy of the global head",
                across="class, from the most frequent to the rarest",
            ),
            "realigned": report.trends(
                {c + 1: f"aligned/{c}" for c in range(clients.CLASSES)},
                arms=[TRAINED],
                label="accuracy of the realigned global head",
                across="class, from the most frequent to the rarest",
            ),
        },
        claims=_claims(config),
        labels={TRAINED: "FedLoGe", FRAME: "frame of 60 % zeros"},
        title="Federated learning of a long tail",
        summary=(
            f"{len(config.sizes)} clients with {min(config.sizes)} to "
            f"{max(config.sizes)} digits, the most frequent class {config.imbalance:g} "
            f"times as frequent as the rarest, Dirichlet({config.concentration:g}); "
            f"{config.rounds} rounds of {config.local_steps} steps of "
            f"{config.batch_size} examples."
        ),
        captions={
            "classes": "The rarer a class, the less often the head chooses it.",
            "realigned": "The same head, its columns brought to one length.",
        },
    )


def frame_values(key, config) -> dict:
    """Angles between columns of a sparse frame, in degrees, before and after."""
    values = {}
    for name, steps in (("start", 0), ("end", config.steps)):
        kernel = heads.sparse_etf(
            key, config.dim, clients.CLASSES, sparsity=config.sparsity, steps=steps
        )
        unit = np.asarray(kernel, np.float64)
        unit = unit / np.linalg.norm(unit, axis=0)
        apart = ~np.eye(clients.CLASSES, dtype=bool)
        angles = np.degrees(np.arccos((unit.T @ unit)[apart]))
        values |= {
            f"{name}/mean": angles.mean(),
            f"{name}/deviation": angles.std(),
            f"{name}/zeros": np.mean(np.asarray(kernel) == 0),
        }
    return values


def _run(config):
    model = models.MLP((config.width,), config.dim)
    x, y = images()
    prior = config.imbalance ** (-jnp.arange(10) / 9)
    prior = prior / prior.sum()
    frame = heads.sparse_etf(
        jax.random.key(config.seed),
        config.dim,
        clients.CLASSES,
        sparsity=config.frame.sparsity,
        steps=config.frame_steps,
        learning_rate=config.frame_rate,
    )

    def init(key):
        keys = jax.random.split(key, 3)
        shape = config.dim, clients.CLASSES
        draw = jax.nn.initializers.lecun_normal()
        head = {"kernel": draw(keys[1], shape), "bias": jnp.zeros(clients.CLASSES)}
        own = {"kernel": draw(keys[2], shape), "bias": jnp.zeros(clients.CLASSES)}
        net = model.init(keys[0], x[:1])["params"]
        return {"net": net, "head": head, "own": own}

    def features(net, x):
        return jax.nn.relu(model.apply({"params": net}, x))

    def client_loss(params, x, y):
        f = features(params["net"], x)
        fixed = losses.cross_entropy(config.scale * f @ frame, y)
        still = jax.lax.stop_gradient(f)
        return fixed + sum(
            losses.cross_entropy(_logits(params[name], still), y)
            for name in ("head", "own")
        )

    def data(key):
        keys = jax.random.split(key, 3)
        parts = divide(keys[0], x, y, config.train)
        mixtures = clients.dirichlet_mixtures(
            keys[1], len(config.sizes), prior, config.concentration
        )
        rows, kept = clients.deal(keys[2], parts.y, mixtures, tuple(config.sizes))
        train = {"x": parts.x[rows], "y": parts.y[rows], "kept": kept}
        return {"train": train, "test": {"x": parts.test_x, "y": parts.test_y}}

    def evaluate(params, held):
        counts = clients.counts_of(held["train"]["y"], held["train"]["kept"])
        test_x, test_y = held["test"]["x"], held["test"]["y"]
        net, head = (jax.tree.map(lambda a: a[0], params[n]) for n in ("net", "head"))
        f = features(net, test_x)
        even = head | {"kernel": heads.realign_global(head["kernel"])}
        lengths = jnp.linalg.norm(head["kernel"], axis=0)
        values = {"correlation": rank_correlation(lengths, counts.sum(0))}
        logits = {"plain": _logits(head, f), "aligned": _logits(even, f)}
        rare = test_y >= clients.CLASSES - config.few
        rare &= (counts.sum(0) > 0)[test_y]  # nobody can know a class that nobody has
        for name, z in logits.items():
            right = z.argmax(-1) == test_y
            values[f"{name}/all"] = metrics.mean_of(right)
            values[f"{name}/few"] = metrics.mean_of(right, rare)
            for c in range(clients.CLASSES):
                values[f"{name}/{c}"] = metrics.mean_of(right, test_y == c)

        def own(counts, local):
            """Accuracies where the client's classes are as frequent as in its rows."""
            there = counts > 0
            kernel = heads.realign_local(head["kernel"], local["kernel"])
            both = _logits(local | {"kernel": kernel}, f) + _logits(head, f)
            hidden = jnp.where(there[None], 0, -jnp.inf)
            found = {
                "plain": logits["plain"],
                "masked": logits["plain"] + hidden,
                "local": both + hidden,
            }
            frequent = jnp.bincount(test_y, length=clients.CLASSES)
            weights = (counts / counts.sum() / frequent)[test_y]
            return {
                name: jnp.sum(jnp.where(z.argmax(-1) == test_y, weights, 0))
                for name, z in found.items()
            }

        mine = jax.vmap(own)(counts, params["own"])
        return values | {f"own/{name}": a.mean() for name, a in mine.items()}

    return clients.federated_run(
        config,
        init=init,
        data=data,
        client_loss=client_loss,
        evaluate=evaluate,
        client=optax.sgd(config.learning_rate, momentum=config.momentum),
        personal=("own",),
        show=("plain/all", "own/local"),
    )


def _logits(head, features):
    return features @ head["kernel"] + head["bias"][None]


def _claims(config):
    bounds = config.tolerances
    angle = np.degrees(np.arccos(-1 / 9))

    def gap(metric, other):
        return lambda r: 100 * (r[TRAINED].final(metric) - r[TRAINED].final(other))

    return [
        report.Claim(
            text="a frame of 60 % zeros reaches the angle of the full one",
            reference=f"closed form: arccos(-1/9) is {angle:.3f} degrees",
            ours=lambda r: r[FRAME].final("end/mean"),
            equals=float(angle),
            within=bounds.angle,
            unit="degrees on average",
            format=".6g",
            needs=(FRAME,),
        ),
        report.Claim(
            text="and all of its angles are alike",
            reference=prototype("0.04 degrees, 5.9 before"),
            ours=lambda r: r[FRAME].final("end/deviation"),
            at_most=bounds.angle,
            unit="degrees of deviation",
            needs=(FRAME,),
        ),
        report.Claim(
            text="lengths of the global head's columns follow the classes' sizes",
            reference=stated("norms are biased towards frequent classes"),
            ours=lambda r: r[TRAINED].final("correlation"),
            at_least=bounds.correlation,
            over="mean",
            unit="rank correlation",
            needs=(TRAINED,),
        ),
        report.Claim(
            text="columns of one length are better on rare classes",
            reference=stated("realignment lifts few-shot accuracy"),
            ours=gap("aligned/few", "plain/few"),
            above=0.0,
            over="mean",
            unit="points",
            needs=(TRAINED,),
        ),
        report.Claim(
            text="and cost little on all of them",
            reference=BOUND,
            ours=gap("aligned/all", "plain/all"),
            at_least=-bounds.cost,
            over="mean",
            unit="points",
            needs=(TRAINED,),
        ),
        report.Claim(
            text="on its own distribution a client's head beats the global one",
            reference=stated("personalized heads are the best on local data"),
            ours=gap("own/local", "own/plain"),
            above=0.0,
            over="mean",
            unit="points",
            needs=(TRAINED,),
        ),
        report.Claim(
            text="also where the global head knows which classes the client has",
            ours=gap("own/local", "own/masked"),
            above=0.0,
            over="mean",
            unit="points",
            needs=(TRAINED,),
            question=True,
        ),
    ]
