"""What do learned temperatures, assistants, generations and fellows add to KD?

A student that sees 150 digits learns from a teacher of 1000: at a fixed temperature or
at one that is learned against it (CTKD), through an assistant (TAKD, densely guided
KD), or by AlphaNet's divergence. Without a teacher it learns from a network like itself
that was trained before it (born-again networks) or beside it (mutual learning). The
arms share splits, starts and batches.

Sources: curriculum temperature, Li et al. 2022, arXiv:2211.16231; teacher assistants,
Mirzadeh et al. 2019, arXiv:1902.03393; densely guided KD, Son et al. 2020,
arXiv:2009.08825; born-again networks, Furlanello et al. 2018, arXiv:1805.04770; deep
mutual learning, Zhang et al. 2017, arXiv:1706.00384; AlphaNet, Wang et al. 2021,
arXiv:2102.07954; KD, Hinton et al. 2015, arXiv:1503.02531.
"""

import dataclasses
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax

from experiments.common.references import prototype, stated
from experiments.distillation import _students
from experiments.distillation._students import Network, ahead
from logitlab import losses, metrics, report
from logitlab.train import Study
from logitlab.train.config import check_name

BASE, LABELS, TEACHER = "ce", "labels", "teacher"
DIVERGENCES = ("kd", "adaptive")
WAYS = ("alone", "curriculum", "mutual")


class Curriculum(NamedTuple):
    """A network beside a temperature that is learned: a sigmoid of one parameter."""

    network: Network
    lowest: float
    width: float

    def init(self, key, x):
        """The network's parameters, and 1."""
        network = self.network.init(key, x)["params"]
        return {"params": {"network": network, "temperature": jnp.ones(())}}

    def apply(self, variables, x):
        """Logits, and the temperature."""
        params = variables["params"]
        logits = self.network.apply({"params": params["network"]}, x)[0]
        return logits, self.lowest + self.width * jax.nn.sigmoid(params["temperature"])


class Fellows(NamedTuple):
    """Two networks alike that start apart; the first one counts."""

    network: Network

    def init(self, key, x):
        """The parameters of both."""
        keys = {"first": key, "second": jax.random.fold_in(key, 1)}
        return {
            "params": {n: self.network.init(k, x)["params"] for n, k in keys.items()}
        }

    def apply(self, variables, x):
        """The logits of both."""
        return tuple(
            self.network.apply({"params": variables["params"][name]}, x)[0]
            for name in ("first", "second")
        )


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    x, y = _students.load(config.data)
    classes = int(y.max()) + 1
    draw = _draw(config, x, y, classes)
    return Study(
        arms={
            name: _arm(config, method, draw, x.shape[1], classes)
            for name, method in config.methods.items()
        },
        figures={
            "gains": report.differences(
                "test/accuracy",
                BASE,
                scale=100,
                label="points of test accuracy above the cross-entropy",
            )
        },
        claims=_claims(config),
        labels={name: method.label for name, method in config.methods.items()},
        title="Companions of distillation",
        summary=(
            f"{config.data.name}: a teacher of widths {tuple(config.teacher.widths)} "
            f"and its assistant see {config.data.known} rows, all other networks, of "
            f"widths {tuple(config.student.widths)}, {config.data.seen} of them; "
            f"{y.size - config.data.known} rows are for testing. {config.seeds} seeds."
        ),
        captions={
            "gains": "Gain over the cross-entropy, the same splits, starts and batches."
        },
        table=_students.table(BASE),
    )


def _check(config):
    check_name(BASE, config.methods, "config.methods")
    there = [TEACHER]
    for name, model in config.before.items():
        source = f"config.before.{name}.learns_from"
        check_name(model.learns_from, [LABELS, *there], source)
        there.append(name)
    for name, method in config.methods.items():
        where = f"config.methods.{name}"
        check_name(method.way, WAYS, f"{where}.way")
        check_name(method.divergence, DIVERGENCES, f"{where}.divergence")
        for other in (*method.learns_from, *method.beside):
            check_name(other, there, f"{where}.learns_from")
        if method.way == "curriculum" and not method.learns_from:
            raise ValueError(f"{where}.learns_from is empty, expected a model")


def _draw(config, x, y, classes):
    """key -> rows with the logits of all that were trained before the students."""

    def draw(key):
        order, key = jax.random.split(key)
        rows = _students.shuffled({"x": x, "y": y}, order)
        known, seen = config.data.known, config.data.seen
        models = {TEACHER: dict(config.teacher, learns_from=LABELS, sees=known)}
        models |= {
            name: dict(getattr(config, model.like), **model)
            | dict(sees=known if model.like == TEACHER else seen)
            for name, model in config.before.items()
        }
        for i, (name, model) in enumerate(models.items()):
            network = Network(tuple(model["widths"]), classes)
            loss = _fitted(network, model["learns_from"], config)
            settings = config.student if model["sees"] == seen else config.teacher
            learned = _students.first(rows, model["sees"])
            params = _students.fit(
                settings, network, loss, learned, jax.random.fold_in(key, i)
            )
            rows[name] = network.apply({"params": params}, rows["x"])[0]
        return {
            "train": _students.first(rows, seen),
            "test": _students.beyond(rows, known),
        }

    return draw


def _fitted(network, source, config):
    def loss(params, batch, key):
        del key
        logits = network.apply({"params": params}, batch["x"])[0]
        if source == LABELS:
            return losses.cross_entropy(logits, batch["y"])
        return losses.kd_loss(logits, batch[source], temperature=config.temperature)

    return loss


def _arm(config, method, draw, inputs, classes):
    network = Network(tuple(config.student.widths), classes)
    curriculum = config.curriculum
    model = {
        "alone": network,
        "curriculum": Curriculum(network, curriculum.lowest, curriculum.width),
        "mutual": Fellows(network),
    }[method.way]

    def more(outputs, params, held):
        numbers, test = {}, held["test"]
        if method.way == "curriculum":
            numbers["temperature"] = outputs[1]
        if method.beside:
            own = model.apply({"params": params}, test["x"])[0]
            every = jnp.stack([own, *(test[name] for name in method.beside)])
            mean = jax.nn.softmax(every).mean(0)
            numbers["test/ensemble"] = metrics.accuracy(mean, test["y"])
        return numbers | {
            f"{name}/accuracy": metrics.accuracy(test[name], test["y"])
            for name in method.learns_from
        }

    run = _students.student(
        config,
        model,
        draw,
        inputs,
        lambda outputs, batch: objective(method, outputs, batch),
        classes=classes,
        more=more,
    )
    if method.way == "curriculum":
        run = dataclasses.replace(run, optimizer=_against_the_student(config))
    return run


def objective(method, outputs, batch):
    """What the labels ask for, and what the models before or beside do, by row."""
    logits, other = outputs
    labels = losses.cross_entropy(logits, batch["y"])
    if method.way == "mutual":
        labels += losses.cross_entropy(other, batch["y"])
        return labels, losses.kd_loss(logits, other) + losses.kd_loss(other, logits)
    if not method.learns_from:
        return labels, jnp.zeros(labels.shape)
    temperature = other if method.way == "curriculum" else method.temperature
    told = [
        losses.adaptive_alpha_divergence(logits, batch[name])
        if method.divergence == "adaptive"
        else losses.kd_loss(logits, batch[name], temperature=temperature)
        for name in method.learns_from
    ]
    return (1 - method.share) * labels, method.share * sum(told) / len(told)


def _against_the_student(config):
    """The network descends and the temperature ascends, more and more so."""
    curriculum = config.curriculum

    def up(step):
        done = jnp.minimum(step / curriculum.ramp, 1)
        return (jnp.cos(jnp.pi * done) - 1) / 2

    ascent = optax.chain(
        optax.scale_by_schedule(up),
        optax.sgd(curriculum.learning_rate, momentum=curriculum.momentum),
    )
    return optax.partition(
        {"network": _students.optimizer(config.student), "temperature": ascent},
        {"network": "network", "temperature": "temperature"},
    )


def _claims(config):
    t = config.tolerances
    table = "(CIFAR-100, the authors' table)"
    paired = [
        ahead("KD at T = 4 is ahead of the cross-entropy", "kd", BASE, t.kd,
              reference=prototype("+4.1 points")),
        ahead("a temperature learned against the student is ahead of a fixed one",
              "ctkd", "kd", t.points, paper=f"71.19 against 70.66 % {table}"),
        ahead("an assistant's student is ahead of the teacher's", "takd", "kd",
              t.points, reference=stated("where the teacher is much larger")),
        ahead("a student of both is ahead of the assistant's", "dgkd", "takd",
              t.points, reference=stated("dense guidance is ahead of a chain")),
        ahead("a network that learns from one like it is ahead of it", "born_1", BASE,
              t.points, reference=stated("students outperform their teachers")),
        ahead("the third such generation is ahead of the first", "born_3", "born_1",
              t.points, question=True),
        ahead("a network that learns beside another is ahead of one alone", "mutual",
              BASE, t.points, reference=stated("ahead of independent training")),
        ahead("AlphaNet's divergence is ahead of the KL, at T = 1", "adaptive",
              "kd_1", t.points, reference=stated("ahead of the KL for supernets")),
    ]  # fmt: skip
    ensemble = report.Claim(
        text="the ensemble of all generations is ahead of the last one",
        reference=stated("ensembles of generations gain more"),
        ours=lambda r: (
            100
            * (r["born_3"].final("test/ensemble") - r["born_3"].final("test/accuracy"))
        ),
        at_least=t.points,
        over="mean",
        unit="points",
        needs=("born_3",),
    )
    return [c for c in [*paired, ensemble] if {*c.needs} <= {*config.methods}]
