"""Do small margins and common directions help clients whose labels are unlike?

Clients hold digits, or tumors that are malignant or not, and their labels are more and
more unlike each other's. FedLD trains them with a penalty on margins, and its server
turns updates to their principal directions; either alone and both stand beside FedAvg,
FedProx and FedAdam.

Source: FedLD, Zeng et al. 2024, arXiv:2408.12300.
"""

import jax
import jax.numpy as jnp
import optax

from experiments.common.claims import ahead
from experiments.common.datasets import check_train, divide, images, standard_rows
from experiments.common.references import stated
from experiments.federated import _clients as clients
from logitlab import losses, metrics, models, optim, report
from logitlab.train import Study
from logitlab.train.config import check_name

ACCURACY = "test/accuracy"
BEFORE, AFTER = "conflicts/before", "conflicts/after"
METHODS = {
    "fedavg": "FedAvg",
    "both": "FedLD",
    "margin": "margins alone",
    "directions": "directions alone",
    "fedprox": "FedProx",
    "fedadam": "FedAdam",
}
ROWS = {"digits": "digits", "breast_cancer": "rows of breast cancer"}
EVERYWHERE = ("fedavg", "both")  # the others run at the strongest skew only


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    clients.check_sizes(config)
    check_name(config.rows, tuple(ROWS), "config.rows")
    if config.rows == "digits":
        x, y = images()
    else:
        x, y = standard_rows(config.rows, config.data.data_dir)
    check_train(config.train, len(y), ROWS[config.rows])
    strengths = tuple(config.strengths)
    if not strengths or sorted(strengths, reverse=True) != [*strengths]:
        raise ValueError(
            f"config.strengths is {strengths}, expected falling concentrations"
        )
    last = len(strengths) - 1
    names = {
        arm_name(method, at): (method, at)
        for at in range(len(strengths))
        for method in METHODS
        if at == last or method in EVERYWHERE
    }
    labels = {
        name: METHODS[method] + ("" if at == last else f", {strengths[at]:g}")
        for name, (method, at) in names.items()
    }
    strongest = [name for name, (_, at) in names.items() if at == last]
    data = [_data(config, strength, x, y) for strength in strengths]
    return Study(
        arms={
            name: _run(config, method, data[at], x.shape[1], int(y.max()) + 1)
            for name, (method, at) in names.items()
        },
        figures={
            "strengths": report.intervals(
                {
                    METHODS[method]: [arm_name(method, at) for at in range(last + 1)]
                    for method in EVERYWHERE
                },
                [f"{strength:g}" for strength in strengths],
                ACCURACY,
                label="test accuracy",
                across="concentration of the Dirichlet distribution",
                joined=True,
            ),
            "methods": report.intervals(
                {"all": strongest},
                [METHODS[names[name][0]].replace(" ", "\n") for name in strongest],
                ACCURACY,
                label=f"test accuracy, Dirichlet({strengths[-1]:g})",
            ),
            "training": report.curves(
                ACCURACY,
                arms=strongest,
                log_steps=False,
                labels={ACCURACY: "test accuracy"},
            ),
        },
        claims=_claims(config, last),
        labels=labels,
        title="Clients with unlike labels",
        summary=(
            f"{len(config.sizes)} clients with {min(config.sizes)} to "
            f"{max(config.sizes)} {ROWS[config.rows]}, {config.rounds} rounds of "
            f"{config.local_steps} steps of {config.batch_size} examples, every client "
            "in every round."
        ),
        captions={
            "strengths": "The smaller the concentration, the more unlike the labels.",
            "methods": "After the last round, at the strongest skew.",
            "training": "Steps of clients, at the strongest skew.",
        },
    )


def arm_name(method: str, strength: int) -> str:
    """The arm of a method, and of the place of a strength in the config."""
    return f"{method}_{strength}"


def conflicting(updates: object) -> jax.Array:
    """The share of pairs of clients whose updates [K, ...] have a negative product."""
    rows = [leaf.reshape(len(leaf), -1) for leaf in jax.tree.leaves(updates)]
    g = jnp.concatenate(rows, 1)
    pairs = jnp.triu(jnp.ones((len(g), len(g)), bool), 1)
    return metrics.mean_of(jnp.matmul(g, g.T, precision="highest") < 0, pairs)


def _data(config, strength, x, y):
    classes = int(y.max()) + 1

    def data(key):
        keys = jax.random.split(key, 3)
        parts = divide(keys[0], x, y, config.train)
        even = jnp.full(classes, 1 / classes)
        mixtures = clients.dirichlet_mixtures(
            keys[1], len(config.sizes), even, strength
        )
        rows, kept = clients.deal(keys[2], parts.y, mixtures, tuple(config.sizes))
        train = {"x": parts.x[rows], "y": parts.y[rows], "kept": kept}
        return {"train": train, "test": {"x": parts.test_x, "y": parts.test_y}}

    return data


def _run(config, method, data, features, classes):
    model = models.MLP((config.width,), classes)
    penalty = config.penalty if method in ("margin", "both") else 0.0
    server = None
    if method in ("directions", "both"):
        turned = optim.principal_gradients(share=config.share)
        server = optax.chain(turned, optax.sgd(1.0))
    elif method == "fedadam":
        server = optim.fedadam(config.server_rate)

    def init(key):
        return model.init(key, jnp.zeros((1, features)))["params"]

    def client_loss(params, x, y):
        logits = model.apply({"params": params}, x)
        return losses.margin_control_loss(logits, y, penalty=penalty)

    def evaluate(params, held):
        server = jax.tree.map(lambda leaf: leaf[0], params)
        logits = model.apply({"params": server}, held["test"]["x"])

        def slope(x, y, kept):
            def mean(params):
                return client_loss(params, x, y).mean(where=kept)

            return jax.grad(mean)(server)

        train = held["train"]
        slopes = jax.vmap(slope)(train["x"], train["y"], train["kept"])
        turned = optim.principal_updates(slopes, share=config.share)
        return {
            ACCURACY: metrics.accuracy(logits, held["test"]["y"]),
            BEFORE: conflicting(slopes),
            AFTER: conflicting(turned),
        }

    return clients.federated_run(
        config,
        init=init,
        data=data,
        client_loss=client_loss,
        evaluate=evaluate,
        client=optax.sgd(config.learning_rate, momentum=config.momentum),
        server=server,
        proximal=config.proximal if method == "fedprox" else 0.0,
        show=(ACCURACY,),
    )


def _claims(config, last):
    base, bounds = arm_name("fedavg", last), config.tolerances
    strongest = f"Dirichlet({config.strengths[-1]:g})"
    claims = [
        ahead(
            f"FedLD is no worse than FedAvg at {strongest}",
            ACCURACY,
            arm_name("both", last),
            base,
            scale=100,
            reference=stated("FedLD is ahead of FedAvg, the more unlike clients are"),
            at_least=bounds.ahead,
            over="mean",
            unit="points ahead",
        ),
        report.Claim(
            text="principal directions leave fewer pairs of clients in conflict",
            reference=stated("directions are calibrated to reduce conflicts"),
            ours=lambda r: (r[base][BEFORE] - r[base][AFTER]).mean(0),
            above=0.0,
            over="mean",
            unit="fewer of all pairs",
            needs=(base,),
        ),
    ]
    for method in ("margin", "directions", "fedprox", "fedadam"):
        claims.append(
            ahead(
                f"{METHODS[method]} against FedAvg at {strongest}",
                ACCURACY,
                arm_name(method, last),
                base,
                scale=100,
                above=bounds.ahead,
                over="mean",
                unit="points ahead",
                question=True,
            )
        )
    return claims
