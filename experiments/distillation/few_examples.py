"""What does a small student, which sees few examples, get out of a teacher's logits?

A teacher learns from 1000 rows, a small network from 150 of them and the teacher's
logits there: by the cross-entropy alone or by one of the losses of the config, from the
same start on the same batches. An arm is a loss, at a scale of the teacher's logits;
its gain is its test accuracy above the cross-entropy's, seed by seed.

Sources: knowledge distillation, Hinton et al. 2015, arXiv:1503.02531; DKD, Zhao et al.
2022, arXiv:2203.08679; DIST, Huang et al. 2022, arXiv:2205.10536; NKD and USKD, Yang et
al. 2023, arXiv:2303.13005; logit standardisation, Sun et al. 2024, arXiv:2403.01427;
two heads, Yang et al. 2024, arXiv:2411.08937; PLD, arXiv:2506.12542; ULD, Boizard et
al. 2024, arXiv:2402.12030; GLD, Wang et al. 2025, arXiv:2505.13893.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.distillation import _students
from experiments.distillation._claims import claims
from logitlab import losses, metrics, report, transforms
from logitlab.losses.catalogue import CATALOGUE
from logitlab.train import Compute, Study
from logitlab.train.config import check_name

BASE = "ce"  # what gains are measured from
# The paper's example: the teacher, a student with two classes swapped, and one that is
# right at twice the scale.
TOY = dict(teacher=(3.0, 2.5, 0.0), wrong=(2.5, 3.0, 0.0), right=(6.0, 5.0, 0.0))
TOY_TEMPERATURE = 2.0


class Term(NamedTuple):
    """One loss of an objective: ``rows(main, aux, batch)`` gives it for each row."""

    weight: float
    rows: Callable
    asks_teacher: bool


def build(config) -> Study:
    """The study of one variant; nothing here trains, writes or prints."""
    check_name(BASE, config.methods, "config.methods")
    if not all(scale > 0 for scale in config.scales):
        raise ValueError(f"config.scales is {config.scales}, expected positive numbers")
    x, y = _students.load(config.data)
    terms = {name: _terms(name, method) for name, method in config.methods.items()}
    draw = _draw(config, x, y, any(t.asks_teacher for ts in terms.values() for t in ts))
    arms, labels, series, figures, captions = {}, {}, {}, {}, {}
    if "conflict" in config:
        for rate in config.conflict.learning_rates:  # first, for the plainest lines
            arm = f"conflict_{rate:g}"
            arms[arm] = _conflict(config, draw, rate, x, y)
            labels[arm] = f"CE, wider student, rate {rate:g}"
        figures["conflict"] = report.panels(
            [[report.Panel("cosine/head", "cosine of gradients", also="cosine/trunk")]],
            arms=tuple(arms),
            log_steps=False,
        )
        captions["conflict"] = (
            "Cosine of the gradients of cross-entropy and BinaryKL in the last layer "
            "and in the layers before it, while the cross-entropy alone trains."
        )
    for name, method in config.methods.items():
        of_method = _arms(config, draw, name, method, terms[name], x, y)
        arms |= of_method
        names = list(of_method) * (len(config.scales) // len(of_method))
        series[method.label] = names
        for arm, scale in zip(names, config.scales, strict=True):
            alone = len(of_method) == 1
            labels[arm] = method.label + ("" if alone else f", logits × {scale:g}")
    if len(config.scales) > 1:
        arms["toy"], labels["toy"] = Compute(_toy), "the paper's example"
        figures["scales"] = report.intervals(
            series,
            [f"{scale:g}" for scale in config.scales],
            "test/accuracy",
            label="test accuracy",
            across="factor on the teacher's logits",
            joined=True,
        )
        captions["scales"] = "Test accuracy against the scale of the teacher's logits."
    else:
        figures["gains"] = report.differences(
            "test/accuracy",
            BASE,
            arms=[arm for arm in config.methods if arm not in config.beside],
            scale=100,
            label="points of test accuracy above the cross-entropy",
        )
        captions["gains"] = "Gain over the cross-entropy, the same seeds and batches."
    return Study(
        arms=arms,
        figures=figures,
        claims=claims(config, arms),
        labels=labels,
        title="Distillation from few examples",
        summary=(
            f"{config.data.name}: a teacher of widths {tuple(config.teacher.widths)} "
            f"sees {config.data.known} rows, {_network(config.student)} see "
            f"{config.data.seen} of them; {y.size - config.data.known} rows are for "
            f"testing. {config.seeds} seeds, each its own split, teacher, start and "
            "batches. No loss has a learning rate of its own."
        ),
        captions=captions,
        table=_students.table(BASE),
    )


def _network(settings):
    if "network" in settings:
        return f"students that are a {settings.network.name}"
    return f"students of widths {tuple(settings.widths)}"


def _terms(name, method):
    if method.heads not in (1, 2):
        raise ValueError(f"config.methods.{name}.heads is {method.heads}, not 1 or 2")
    if method.aligned and method.heads == 1:
        raise ValueError(f"config.methods.{name}.aligned asks for two heads")
    where = f"config.methods.{name}.terms"
    return [_term(where, *entry, method.heads) for entry in method.terms.items()]


def _term(where, name, entry, heads):
    row = CATALOGUE[check_name(name, CATALOGUE, where)]
    parameters = inspect.signature(row.loss).parameters
    hyper = {key: entry[key] for key in entry if key not in ("weight", "standardized")}
    shape = transforms.standardize_logits if entry.get("standardized") else jnp.asarray
    for key in hyper:
        check_name(key, parameters, f"{where}.{name}")
    arrays = [
        p.name
        for p in parameters.values()
        if p.kind is not p.KEYWORD_ONLY and p.default is p.empty
    ]
    known = ("logits", "student_logits", "teacher_logits", "labels", "weak_logits")
    for array in arrays:
        if array not in known:
            raise ValueError(f"{where} has {name!r}, which takes {array}")

    def rows(main, aux, batch):
        logits = aux if heads == 2 and "teacher_logits" in arrays else main
        given = dict(logits=logits, student_logits=logits, weak_logits=aux)
        if "teacher" in batch:
            given["teacher_logits"] = batch["teacher"]
        given = {name: shape(logits) for name, logits in given.items()}
        given["labels"] = batch["y"]
        values = row.loss(*(given[array] for array in arrays), **hyper)
        return jnp.broadcast_to(values, batch["y"].shape)

    return Term(entry.weight, rows, "teacher_logits" in arrays)


def _draw(config, x, y, teaches):
    """key -> rows to learn from, with the teacher's logits, and rows to test on."""
    classes, known = int(y.max()) + 1, config.data.known
    teacher = _students.Network(tuple(config.teacher.widths), classes)

    def loss(params, batch, key):
        del key
        return losses.cross_entropy(_main(teacher, params, batch["x"]), batch["y"])

    def draw(key):
        order, fitted, renamed = jax.random.split(key, 3)
        rows = _students.shuffled({"x": x, "y": y}, order)
        if teaches:
            learnt = _students.first(rows, known)
            params = _students.fit(config.teacher, teacher, loss, learnt, fitted)
            rows["teacher"] = _main(teacher, params, rows["x"])
        train, test = (
            _students.first(rows, config.data.seen),
            _students.beyond(rows, known),
        )
        if config.foreign:
            train["teacher"] = train["teacher"][:, foreign_names(renamed, classes)]
        return {"train": train, "test": test}

    return draw


def _main(model, params, x):
    return model.apply({"params": params}, x)[0]


def foreign_names(key, classes):
    """A random order of the classes in which none has its own place."""
    order = jax.random.permutation(key, classes)
    return jnp.zeros(classes, jnp.int32).at[order].set(jnp.roll(order, 1))


def _arms(config, draw, name, method, terms, x, y):
    """The arms of a method, which share a program: one for each scale it can see."""
    classes, asks = int(y.max()) + 1, any(term.asks_teacher for term in terms)
    settings = config.student
    model = _students.network(settings, classes)

    def more(outputs, params, held):
        del params
        if "teacher" not in held["test"]:
            return {}
        test, train = held["test"], held["train"]
        sure = jax.nn.softmax(train["teacher"], -1).max(-1)
        numbers = {
            "teacher/accuracy": metrics.accuracy(test["teacher"], test["y"]),
            "teacher/confidence": metrics.mean_of(sure),
        }
        if len(config.scales) > 1 and asks:
            numbers["train/scale_dependence"] = _dependence(
                terms, config.scales, outputs, train
            )
        return numbers

    def at(values):
        def objective(outputs, batch):
            return _objective(terms, outputs, _scaled(batch, values["scale"]))

        return _students.student(
            config,
            model,
            draw,
            x.shape[1],
            objective,
            classes=classes,
            aligned=method.aligned,
            more=more,
        )

    scales = config.scales if asks else config.scales[:1]
    return {
        name if len(scales) == 1 else f"{name}_{scale:g}": dataclasses.replace(
            at({"scale": scale}), values={"scale": scale}, at=at
        )
        for scale in scales
    }


def _scaled(batch, scale):
    if "teacher" not in batch:
        return batch
    return {**batch, "teacher": scale * batch["teacher"]}


def _objective(terms, outputs, batch):
    """What the labels ask for and what the teacher does, for each row."""
    labels = teacher = jnp.zeros(batch["y"].shape)
    for term in terms:
        rows = term.weight * term.rows(*outputs, batch)
        if term.asks_teacher:
            teacher += rows
        else:
            labels += rows
    return labels, teacher


def _dependence(terms, scales, outputs, batch):
    """How far a row's loss at one scale of the teacher is from that at another."""
    apart = [
        jnp.stack([term.rows(*outputs, _scaled(batch, scale)) for scale in scales])
        for term in terms
        if term.asks_teacher
    ]
    return jnp.stack([(a.max(0) - a.min(0)).max() for a in apart]).max()


def _conflict(config, draw, rate, x, y):
    """A student of the cross-entropy, and where BinaryKL would pull elsewhere."""
    classes, settings = int(y.max()) + 1, config.conflict
    model = _students.Network(tuple(settings.widths), classes)

    def label_loss(params, batch):
        return losses.cross_entropy(_main(model, params, batch["x"]), batch["y"])

    def teacher_loss(params, batch):
        return losses.binary_kl(
            _main(model, params, batch["x"]),
            batch["teacher"],
            temperature=settings.temperature,
        )

    def more(outputs, params, held):
        del outputs
        grads = [
            jax.grad(lambda p, f=f: f(p, held["train"]).mean())(params)
            for f in (label_loss, teacher_loss)
        ]
        heads = [g["heads"]["main"] for g in grads]
        trunks = [{k: v for k, v in g.items() if k != "heads"} for g in grads]
        return {"cosine/head": cosine(*heads), "cosine/trunk": cosine(*trunks)}

    def objective(outputs, batch):
        return losses.cross_entropy(outputs[0], batch["y"]), jnp.zeros(())

    run = _students.student(
        config, model, draw, x.shape[1], objective, classes=classes, more=more
    )
    return dataclasses.replace(
        run,
        optimizer=_students.optimizer(config.student, rate),
        evaluate_at=settings.at,
    )


def cosine(a, b):
    """Cosine of the angle between two pytrees, each one vector."""
    return optax.tree.vdot(a, b) / (metrics.tree_norm(a) * metrics.tree_norm(b))


def _toy(key):
    """What plain and standardised KD say of two students; nothing is drawn."""
    del key
    z = {name: jnp.array(logits) for name, logits in TOY.items()}
    return {
        f"{'standardized' if standardize else 'plain'}/{name}": losses.kd_loss(
            z[name], z["teacher"], temperature=TOY_TEMPERATURE, standardize=standardize
        )
        for standardize in (False, True)
        for name in ("wrong", "right")
    }
