"""Can two teachers, both weaker than the student, still teach it something?

The student is a logistic regression, and so are the teachers, who label the same
inputs. Fine-tuning on the better teacher's labels makes the student as weak as that
teacher. Preferring its labels to those of the worse one moves the student along the
difference of the two, in which their common faults cancel: it improves as long as the
chosen teacher is the better one, until that direction has taken over.

Source: The Delta Learning Hypothesis, Geng et al. 2025, arXiv:2507.06187.
"""

import functools

import jax
import jax.numpy as jnp
import optax

from experiments.common.curves import drawn, with_finals
from experiments.common.references import prototype
from experiments.common.solvers import descended
from logitlab import losses, report, theory
from logitlab.train import Compute, Study

TUNING = {"preference": "preference", "likelihood": "likelihood of the chosen labels"}
PROTOTYPE = {
    (0.6, 0.2, 0.7): "0.747 to 0.758",
    (0.5, 0.3, 0.8): "0.795 to 0.797",
    (0.3, 0.5, 0.8): "falls from the first step",
}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    cases = {name: tuple(cosines) for name, cosines in config.cases.items()}
    rows = [
        [
            report.Panel(name, "accuracy, {:.2f} over {:.2f}".format(*_both(cosines)))
            for name, cosines in cases.items()
        ]
    ]
    return Study(
        arms={
            name: Compute(functools.partial(_values, name, config)) for name in TUNING
        },
        figures={
            "accuracy": drawn(
                report.panels(rows, log_steps=False), range(config.steps + 1)
            )
        },
        claims=_claims(config, cases),
        labels=TUNING,
        title="Preferences between two weak teachers",
        summary=(
            f"{config.features} Gaussian features, {config.samples} inputs. Teachers "
            "and student are linear, each with its own error beside the truth; "
            "cosines to the truth are those of the chosen and of the rejected "
            "teacher and of the student. Accuracies are exact, from the cosine."
        ),
        captions={
            "accuracy": (
                "Each panel starts at the student; its label has the accuracies of "
                "the chosen teacher and of the rejected one."
            )
        },
    )


def _both(cosines):
    """Accuracies of the chosen teacher and the rejected one."""
    return tuple(float(accuracy_of(cosine)) for cosine in cosines[:2])


def _words(cosines):
    return "teachers {:.3f} and {:.3f}".format(*_both(cosines))


def _check(config):
    if config.features < 4:
        raise ValueError(
            f"config.features is {config.features}, expected at least 4: the truth "
            "and three errors"
        )
    for name, cosines in config.cases.items():
        if len(cosines) != 3 or not all(0 < cosine < 1 for cosine in cosines):
            raise ValueError(
                f"config.cases.{name} is {tuple(cosines)}, expected three cosines in "
                "(0, 1): chosen teacher, rejected teacher, student"
            )
        if cosines[0] == cosines[1]:
            raise ValueError(
                f"config.cases.{name} is {tuple(cosines)}, expected teachers of which "
                "one is better"
            )
    for name in ("samples", "steps"):
        if config[name] < 1:
            raise ValueError(f"config.{name} is {config[name]}, expected at least 1")


def accuracy_of(cosine: jax.Array) -> jax.Array:
    """Share of inputs on which a linear classifier agrees with the truth."""
    return 1 - jnp.arccos(cosine) / jnp.pi


def draw(key: jax.Array, features: int, cosines: jax.Array) -> tuple:
    """The truth [D], and unit vectors [K, D] at these cosines to it.

    What they have beside the truth is orthogonal from one to the other.
    """
    count = cosines.shape[0]
    frame, _ = jnp.linalg.qr(jax.random.normal(key, (features, 1 + count)))
    truth, errors = frame[:, 0], frame[:, 1:].T
    beside = jnp.sqrt(1 - cosines**2)
    return truth, cosines[:, None] * truth[None] + beside[:, None] * errors


def _values(tuning, config, key):
    values = {}
    rate = config.learning_rates[tuning]
    for name, cosines in config.cases.items():
        found = _tune(
            tuning,
            (config.features, config.samples, config.steps),
            key,
            jnp.asarray(cosines, float),
            rate,
        )
        curve = found["accuracy"]
        values |= with_finals({name: curve})
        values |= {
            f"{name}/first": curve[1] - curve[0],
            f"{name}/best": curve.max() - curve[0],
        }
        if tuning == "preference":
            values[f"{name}/off"] = found["off"]
    return values


@functools.partial(jax.jit, static_argnums=(0, 1))
def _tune(tuning, sizes, key, cosines, rate):
    """The student's accuracy after each step, and how far slopes are from theirs."""
    features, samples, steps = sizes
    keys = jax.random.split(key)
    truth, (chosen, rejected, student) = draw(keys[0], features, cosines)
    x = jax.random.normal(keys[1], (samples, features))
    labels = [(x @ teacher > 0).astype(int) for teacher in (chosen, rejected)]

    def nll(theta, labels):
        z = x @ theta
        return losses.cross_entropy(jnp.stack([jnp.zeros_like(z), z], -1), labels)

    def loss(theta):
        value = nll(theta, labels[0])
        if tuning == "preference":  # the margin between both labels, no more
            value -= nll(theta, labels[1])
        return value.mean()

    def accuracy(theta):
        return accuracy_of(theta @ truth / jnp.linalg.norm(theta))

    slope = jax.grad(loss)
    _, curve = descended(slope, student, optax.sgd(rate), steps=steps, measure=accuracy)
    want = theory.linear_margin_preference_grad(chosen, rejected)
    off = jnp.linalg.norm(-slope(student) - want) / jnp.linalg.norm(want)
    return {"accuracy": curve, "off": off}


def _claims(config, cases):
    bounds, claims = config.tolerances, []
    for name, cosines in cases.items():
        chosen, rejected, student = (float(accuracy_of(cosine)) for cosine in cosines)
        words = f"{_words(cosines)}, student {student:.3f}"
        proved = "theorem: it does"
        if cosines in PROTOTYPE:
            proved += f"; {prototype(PROTOTYPE[cosines])}"
        shared = dict(needs=("preference",), format=".2%", unit="of accuracy")

        def change(results, name=name, metric="first"):
            return results["preference"].final(f"{name}/{metric}")

        if chosen > rejected:
            claims += [
                report.Claim(
                    text=f"preferring the better teacher helps at once: {words}",
                    reference=proved,
                    ours=change,
                    at_least=bounds.first,
                    **shared,
                ),
                report.Claim(
                    text=f"the best student on the way: {words}",
                    reference=proved,
                    ours=functools.partial(change, metric="best"),
                    at_least=bounds.first,
                    **shared,
                ),
            ]
        else:
            claims.append(
                report.Claim(
                    text=f"preferring the worse teacher does harm at once: {words}",
                    reference=proved,
                    ours=change,
                    at_most=-bounds.first,
                    **shared,
                )
            )
        claims += [
            report.Claim(
                text=f"likelihood makes the student as weak as its teacher: {words}",
                reference=f"theorem: {chosen:.3f}, the teacher's accuracy",
                ours=lambda r, name=name: r["likelihood"].final(name),
                equals=chosen,
                within=bounds.teacher,
                format=".3f",
                needs=("likelihood",),
            ),
            report.Claim(
                text=f"the slope is that of the closed form: {words}",
                reference=f"closed form, up to sampling; {prototype('within 10 %')}",
                ours=lambda r, name=name: r["preference"].final(f"{name}/off"),
                at_most=bounds.slope,
                unit="relative error",
                over="median",
                needs=("preference",),
            ),
        ]
    return claims
