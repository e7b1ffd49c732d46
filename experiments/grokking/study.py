"""Does rounding keep a network from grokking, and does removing it let it grok?

Train on some of all pairs (a, b) of an operation mod p, test on the others. The usual
cross-entropy memorises, then its gradient rounds to zero (softmax collapse) or follows
naive loss minimisation; StableMax, perpGrad and weight decay go on to generalise.

Source: Grokking at the Edge of Numerical Stability, Prieto et al. 2025,
arXiv:2501.04697.
"""

import jax
import jax.numpy as jnp
import optax

from experiments.grokking._claims import claims
from logitlab import data, links, losses, metrics, models, numerics, optim, report
from logitlab.train import Run, Study, arm_configs, log_points, pick
from logitlab.train.config import check_name

TASKS = ("modular", "parity")
MODELS = ("MLP", "OneLayerTransformer")
DTYPES = ("float16", "bfloat16", "float32", "float64")
LIBRARIES = {"logitlab": losses, "optax": optax.losses}


def build(config) -> Study:
    """The study of one variant; nothing here trains, writes or prints."""
    arms = arm_configs(config)
    return Study(
        arms={name: _run(arm) for name, arm in arms.items()},
        figures={"accuracy": _accuracy, "mechanism": _mechanism},
        claims=[c for c in claims(config.tolerances) if set(c.needs) <= arms.keys()],
        labels={name: arm.label or name for name, arm in arms.items()},
        title="Grokking at the edge of numerical stability",
        summary=(
            f"Full-batch training on {config.train_fraction:.0%} of all pairs modulo "
            f"{config.task.p} (arms may differ, see the configuration), testing on the "
            "rest. Seeds stop at their first success. 'exact' is our question: the "
            "usual softmax cross-entropy in float32, computed without rounding to zero."
        ),
        captions={
            "accuracy": "Accuracy against steps: test solid, train dashed.",
            "mechanism": (
                "What becomes of the loss and its gradient. Collapse is measured in "
                "the arm's own precision, on the scores that its softmax sees."
            ),
        },
    )


def _run(config) -> Run:
    check_name(config.task.name, TASKS, "config.task.name")
    check_name(config.model.name, MODELS, "config.model.name")
    make_data, classes, vocabulary = _task(config)
    model = pick(models, config.model.name, **config.model[config.model.name])(
        classes=classes,
        vocabulary=vocabulary,
        param_dtype=_dtype(config, "model.param_dtype"),
    )
    training = {"deterministic": False} if hasattr(model, "dropout") else {}
    scores, loss_of = _loss(config)
    example = jax.eval_shape(make_data, jax.random.key(0))["train"]["x"]

    def init(key):
        return model.init(key, jnp.zeros(example.shape, example.dtype)[:1])["params"]

    def loss(params, batch, key):
        logits = model.apply(
            {"params": params}, batch["x"], rngs={"dropout": key}, **training
        )
        return loss_of(logits, batch["y"])

    def evaluate(params, parts):
        def mean_loss(params):
            logits = model.apply({"params": params}, parts["train"]["x"])
            values = loss_of(logits, parts["train"]["y"])
            return numerics.masked_mean(values), (logits, values)

        take = jax.value_and_grad(mean_loss, has_aux=True)
        (_, (logits, values)), grads = take(params)
        test_logits = model.apply({"params": params}, parts["test"]["x"])
        return {
            "train/loss": metrics.mean_of(values),
            "train/accuracy": metrics.accuracy(logits, parts["train"]["y"]),
            "test/loss": metrics.mean_of(loss_of(test_logits, parts["test"]["y"])),
            "test/accuracy": metrics.accuracy(test_logits, parts["test"]["y"]),
            "train/collapse": metrics.softmax_collapse_fraction(scores(logits)),
            "train/zero_loss": metrics.mean_of(values == 0),
            "train/top_logit": jnp.abs(logits).max(),
            "grad_norm": metrics.tree_norm(grads),
            "weight_norm": metrics.tree_norm(params),
            "alignment": metrics.nlm_alignment(grads, params),
        }

    return Run(
        init=init,
        loss=loss,
        data=make_data,
        optimizer=_optimizer(config.optim),
        evaluate=evaluate,
        steps=config.steps,
        evaluate_at=log_points(config.steps, config.evaluate_per_decade),
        stop=lambda numbers: (
            f"{config.stop_at:.0%} reached"
            if numbers["test/accuracy"] >= config.stop_at
            else ""
        ),
        show=("train/accuracy", "test/accuracy"),
    )


def _task(config):
    """A function key -> train and test parts, the classes, the vocabulary if any."""
    task = config.task
    if task.name == "modular":
        pairs = data.modular_pairs(task.operation, task.p, start=task.start)
        classes, vocabulary = task.p, task.p

    def make_data(key):
        draw_key, split_key = jax.random.split(key)
        rows = (
            pairs
            if task.name == "modular"
            else data.sparse_parity(
                draw_key,
                samples=task.samples,
                parity_bits=task.parity_bits,
                noise_bits=task.noise_bits,
            )
        )
        train, test = data.split(split_key, rows, config.train_fraction)
        return {"train": train, "test": test}

    if task.name == "parity":
        classes, vocabulary = 2, None
    return make_data, classes, vocabulary


def _loss(config):
    """logits -> the scores that the softmax sees, and (logits, labels) -> losses."""
    library, name, link = config.loss.library, config.loss.name, config.loss.link
    check_name(library, LIBRARIES, "config.loss.library")
    loss_fn = pick(LIBRARIES[library], name)
    link_fn = pick(links, link) if link else lambda scores: scores
    dtype = _dtype(config, "loss.dtype")

    def scores(logits):
        return link_fn(logits.astype(dtype))

    def loss_of(logits, labels):
        return loss_fn(scores(logits), labels)

    try:
        shape = jax.eval_shape(loss_of, jnp.zeros((2, 3)), jnp.zeros(2, int)).shape
    except (AssertionError, TypeError, ValueError):
        shape = None
    if shape != (2,):
        raise ValueError(
            f"config.loss.name is {name!r}, expected a loss that takes logits and "
            "integer labels, and gives one number per row"
        )
    return scores, loss_of


def _dtype(config, key):
    name = check_name(config[key], DTYPES, f"config.{key}")
    if name == "float64" and not config.x64:
        raise ValueError(f"config.{key} is float64, expected config.x64 to be True")
    return jnp.dtype(name)


def _optimizer(config):
    check_name(config.name, ("adamw", "sgd"), "config.optim.name")
    make = pick(optax, config.name, **config[config.name])
    optimizer = make(config.learning_rate)
    if config.ortho_grad:
        optimizer = optax.chain(optim.ortho_grad(), optimizer)
    return optimizer


def _accuracy(results):
    panel = report.Panel("test/accuracy", "accuracy", also="train/accuracy")
    return report.panels([[panel]])(results)


def _mechanism(results):
    panel = report.Panel
    return report.panels(
        [
            [
                panel("train/accuracy", "train accuracy"),
                panel("test/accuracy", "test accuracy"),
                panel("train/collapse", "collapsed rows (share)"),
            ],
            [
                panel("train/loss", "train loss (nats)", log=True),
                panel("grad_norm", "gradient norm", log=True),
                panel("weight_norm", "weight norm", log=True),
            ],
        ]
    )(results)
