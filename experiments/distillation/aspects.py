"""Does it help a student to learn a large model's answers about what it sees?

A student has outputs for the classes and one for each question that a large model was
asked about the row, answered with a probability. Here the large model is a network that
saw 1000 digits and knows which of them have a closed loop, are prime and so on; the
student sees 150.

Source: Multi-Aspect Knowledge Distillation, Lee et al. 2025, arXiv:2501.13341.
"""

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common.references import prototype
from experiments.distillation import _students
from experiments.distillation._students import ahead
from logitlab import losses, report, targets
from logitlab.train import Study
from logitlab.train.config import check_name

ANSWERS = ("soft", "plain", "labels", "random")


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    for name, method in config.methods.items():
        check_name(method.answers, ANSWERS, f"config.methods.{name}.answers")
    x, y = _students.load(config.data)
    classes = int(y.max()) + 1
    truth = truths(config.questions.to_dict(), classes)
    draw = _draw(config, x, y, truth)
    labels = {name: method.label for name, method in config.methods.items()}
    return Study(
        arms={
            name: _arm(config, draw, method, x.shape[1], classes, truth.shape[1])
            for name, method in config.methods.items()
        },
        figures={
            "gains": report.differences(
                "test/accuracy",
                "ce",
                scale=100,
                label="points of test accuracy above the cross-entropy",
            )
        },
        claims=_claims(config.tolerances),
        labels=labels,
        title="Distillation from answers to questions",
        summary=(
            f"{truth.shape[1]} questions with a yes or no for each class; students of "
            f"widths {tuple(config.student.widths)} see {config.data.seen} of the "
            f"{config.data.known} rows of the model that answers. {config.seeds} seeds."
        ),
        captions={
            "gains": "Gain over the cross-entropy, the same network, seeds and batches."
        },
        table=_students.table("ce"),
    )


def truths(questions, classes):
    """The right answers, 0 or 1: [C, A], from the classes that each question lists.

    Raises:
      ValueError: a question is of no class, of all, or of one that there is not.
    """
    columns = []
    for name, members in questions.items():
        members = sorted(set(members))
        if not 0 < len(members) < classes or not set(members) <= set(range(classes)):
            raise ValueError(
                f"config.questions.{name} is {members}, expected some of the classes "
                f"below {classes}, not all"
            )
        columns.append(np.isin(np.arange(classes), members))
    return jnp.asarray(np.stack(columns, 1), jnp.float32)


def _draw(config, x, y, truth):
    """key -> rows to learn from, with answers of each kind, and rows to test on."""
    model = _students.Network(tuple(config.teacher.widths), truth.shape[1])

    def asked(params, x):
        return model.apply({"params": params}, x)[0]

    def loss(params, batch, key):
        del key
        answers = truth[batch["y"]]
        return losses.multilabel_soft_margin_loss(asked(params, batch["x"]), answers)

    def draw(key):
        order, fitted, drawn = jax.random.split(key, 3)
        rows = _students.shuffled({"x": x, "y": y}, order)
        learnt = _students.first(rows, config.data.known)
        params = _students.fit(config.teacher, model, loss, learnt, fitted)
        train = _students.first(rows, config.data.seen)
        yes = asked(params, train["x"])
        no = jnp.zeros(yes.shape)
        soft = targets.aspect_targets(yes, no, temperature=config.temperature)
        answers = dict(soft=soft, plain=targets.aspect_targets(yes, no))
        answers |= dict(labels=truth[train["y"]])
        answers |= dict(random=jax.random.uniform(drawn, yes.shape))
        test = _students.beyond(rows, config.data.known)
        return {"train": train | answers, "test": test}

    return draw


def _arm(config, draw, method, inputs, classes, questions):
    settings = config.student
    model = _students.Network(
        tuple(settings.widths), classes + questions, settings.aux_layer
    )

    def objective(outputs, batch):
        rows = losses.makd_loss(
            outputs[0],
            batch["y"],
            batch[method.answers],
            num_classes=classes,
            alpha=method.alpha,
        )
        return rows, jnp.zeros(())

    return _students.student(config, model, draw, inputs, objective, classes=classes)


def _claims(t):
    return [
        ahead("a large model's softened answers help the student", "soft", "ce",
              t.gains, reference=prototype("91.7 against 90.5 %")),
        ahead("random answers harm it", "ce", "random", t.harm,
              reference=prototype("87.2 against 90.5 %")),
    ]  # fmt: skip
