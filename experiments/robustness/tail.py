"""Does it help the weakest classes to weigh examples by how well an attack does?

A network learns digits of which some are twelve times as common as others, attacked at
each step. The mean of the losses leaves rare classes defenseless; the worst mean within
a KL penalty, KL-DRO, does not.

Source: doubly robust instance-reweighted adversarial training, Sow et al. 2024,
arXiv:2308.00311.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common import datasets
from experiments.common.claims import ahead
from experiments.common.references import prototype, stated
from logitlab import attacks, losses, metrics, models, report, weights
from logitlab.train import Run, Study

MEAN, RUNNING = "mean", "running"
CLASSES = 10
PIXELS = datasets.digits(centered=False)


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    draw = _drawing(config)
    rows = {MEAN: None} | {arm_name(r): r for r in config.r} | {RUNNING: config.running}
    falling = [MEAN, *(arm_name(r) for r in config.r)]
    ticks = ["mean", *(f"{r:g}" for r in config.r)]
    return Study(
        arms={name: _run(config, draw, name, r) for name, r in rows.items()},
        figures={
            "tail": report.intervals(
                {"batch": falling},
                ticks,
                "robust/tail",
                label="robust accuracy of the worst classes",
                across="r of KL-DRO",
                joined=True,
            ),
            "price": report.frontier(
                {
                    "r, of batches": dict(zip(falling, ticks, strict=True)),
                    f"running mean, {config.running:g}": {RUNNING: ""},
                },
                across=("robust/accuracy", "robust accuracy"),
                up=("robust/tail", "robust accuracy of the worst classes"),
                marks="beside points: r",
            ),
        },
        claims=_claims(config, falling),
        labels={MEAN: "mean loss", RUNNING: f"r = {config.running:g}, running mean"}
        | {arm_name(r): f"r = {r:g}" for r in config.r},
        title="Adversarial training that weighs examples by the attack's success",
        summary=(
            f"Digits, {config.largest} images of 0 down to "
            f"{sizes(config.largest, config.imbalance)[-1]} of 9, an MLP, "
            f"{config.steps} steps of Adam on batches of {config.batch_size}, attacked "
            f"by {config.attack.steps} steps of PGD within {config.attack.eps:g} of "
            f"each pixel. {config.test} images of each digit are attacked by "
            f"{config.test_steps} steps of Auto-PGD within the same to test it. The "
            f"worst classes are the {config.worst} of the lowest robust accuracy."
        ),
        captions={
            "tail": "Smaller r weighs the examples where attacks do well more.",
            "price": "Both robust accuracies; up and to the right is better.",
        },
    )


def arm_name(r: float) -> str:
    """Name of the arm that weighs within batches."""
    return f"r_{r:g}"


def _check(config):
    if min(*config.r, config.running) <= 0 or list(config.r) != sorted(config.r)[::-1]:
        raise ValueError(
            f"config.r is {tuple(config.r)} and config.running {config.running:g}, "
            "expected falling positive numbers and a positive one"
        )
    if not 1 <= config.worst < CLASSES:
        raise ValueError(f"config.worst is {config.worst}, expected 1 to {CLASSES - 1}")
    least = np.bincount(PIXELS[1]).min()
    if config.imbalance < 1 or config.largest + config.test > least:
        raise ValueError(
            f"config.largest is {config.largest} and config.test {config.test} of "
            f"{least} images of a digit, config.imbalance {config.imbalance:g}; "
            "expected no more together, and at least 1"
        )


def sizes(largest: int, imbalance: float) -> list[int]:
    """Images of each digit, falling exponentially, at least one."""
    shares = imbalance ** (-np.arange(CLASSES) / (CLASSES - 1))
    return [max(1, int(n)) for n in np.floor(largest * shares + 1e-9)]


def _drawing(config):
    """key -> long-tailed images to learn from, and as many of each digit to test."""

    def draw(key):
        train, test = [], []
        for digit, size in enumerate(sizes(config.largest, config.imbalance)):
            mine = jnp.array(np.flatnonzero(PIXELS[1] == digit))
            order = jax.random.permutation(jax.random.fold_in(key, digit), mine)
            test.append(order[: config.test])
            train.append(order[config.test :][:size])
        x, y = jnp.float32(PIXELS[0]), jnp.int32(PIXELS[1])
        train, test = map(jnp.concatenate, (train, test))
        return {
            "train": {"x": x[train], "y": y[train]},
            "test": {"x": x[test], "y": y[test]},
        }

    return draw


def _run(config, draw, name, r) -> Run:
    model = models.MLP(widths=tuple(config.widths), classes=CLASSES)
    eps, attack = config.attack.eps, config.attack

    def init(key):
        model_params = model.init(key, jnp.zeros((1, PIXELS[0].shape[1])))["params"]
        state = weights.compositional_dro_state()
        return {"model": model_params} | ({"log_u": state.log_u} if kept else {})

    def logits_of(params):
        return lambda x: model.apply({"params": params["model"]}, x)

    def each(params, batch, key):
        """Losses of attacked examples; the attack is a constant."""
        x = attacks.pgd(
            logits_of(jax.lax.stop_gradient(params)),
            batch["x"],
            batch["y"],
            eps=eps,
            steps=attack.steps,
            step_size=attack.step_size,
            key=key,
        ).inputs
        attacked = logits_of(params)(jax.lax.stop_gradient(x))
        return losses.cross_entropy(attacked, batch["y"])

    def loss(params, batch, key):
        found, mask = each(params, batch, key), batch.get("mask")
        if name == MEAN:
            return found
        if name != RUNNING:
            return jnp.broadcast_to(
                losses.kl_dro_loss(found, r=r, mask=mask), found.shape
            )
        w, state = weights.compositional_dro_update(
            weights.CompositionalDRO(params["log_u"]),
            found,
            r=r,
            rate=config.rate,
            mask=mask,
        )
        return found.size * w * found, {"log_u": state.log_u}

    def evaluate(params, data):
        test, logits = data["test"], logits_of(params)
        broken = attacks.apgd(
            logits, test["x"], test["y"], eps=eps, steps=config.test_steps
        ).broken
        by_class = metrics.group_means(~broken, test["y"], num_groups=CLASSES)
        return {
            "accuracy": metrics.accuracy(logits(test["x"]), test["y"]),
            "robust/accuracy": metrics.mean_of(~broken),
            "robust/tail": jnp.sort(by_class.value)[: config.worst].mean(),
        }

    kept = ("log_u",) if name == RUNNING else ()
    return Run(
        init=init,
        loss=loss,
        data=draw,
        optimizer=optax.adam(config.learning_rate),
        evaluate=evaluate,
        steps=config.steps,
        batch_size=config.batch_size,
        evaluate_at=(config.steps,),
        untrained=kept,
        show=("robust/accuracy", "robust/tail"),
    )


def _claims(config, falling):
    bounds, last = config.tolerances, falling[-1]
    better = "better robust accuracy, on average and of the weakest"
    found = {4.0: 0.373, 1.0: 0.392, 0.5: 0.418}

    def gains(results):
        rows = [results[name].final("robust/tail") for name in falling]
        return 100 * report.smallest_mean(np.diff(rows, axis=0))

    tails = [
        ahead(
            f"r = {r:g} raises the robust accuracy of the worst classes",
            "robust/tail",
            arm_name(r),
            MEAN,
            scale=100,
            reference=stated(better, f"{found.get(r, 'none')} against 0.320"),
            at_least=100 * bounds.tail,
            over="mean",
            unit="points",
        )
        for r in config.r
        if r <= 1
    ]
    return [
        *tails,
        report.Claim(
            text="the smaller r, the higher is that accuracy",
            reference=prototype("0.320, 0.373, 0.392 and 0.418"),
            ours=gains,
            above=0.0,
            over="mean",
            unit="points, the smallest step",
            needs=tuple(falling),
        ),
        ahead(
            f"r = {config.r[-1]:g} does not cost robust accuracy",
            "robust/accuracy",
            last,
            MEAN,
            scale=100,
            reference=stated(better, "0.729 against 0.704"),
            at_least=-100 * bounds.drop,
            over="mean",
            unit="points",
        ),
        ahead(
            "weights by a running mean do as much for the worst classes as those of "
            "batches",
            "robust/tail",
            RUNNING,
            arm_name(config.running),
            scale=100,
            question=True,
            at_least=-100 * bounds.running,
            over="mean",
            unit="points",
        ),
    ]
