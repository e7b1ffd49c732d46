"""Does a squared hinge at the end of a GRU classify better than a softmax?

Digits are sequences of eight rows. Both objectives have the same network, batches and
learning rates; the rate of each is the one with the best accuracy on images held out
for that. The paper's two models had rates that differ by ten: the pair with this ratio,
scaled so that rate times steps is the paper's, is shown as well.

Source: GRU-SVM, Agarap 2018, arXiv:1709.03082.
"""

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.datasets import DIGITS, divide, images
from experiments.common.keys import all_seeds_at_once
from logitlab import losses, models, report
from logitlab.train import Compute, Study

SVM, SOFTMAX = "svm", "softmax"
NAMES = {SVM: "squared hinge (SVM)", SOFTMAX: "cross-entropy (softmax)"}
PUBLISHED = {SVM: 1e-5, SOFTMAX: 1e-6}  # learning rates
PUBLISHED_STEPS = 73_000  # ten epochs of 1.9 million rows in batches of 256


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    x, y = images()
    arms = {}
    for name in NAMES:
        rates = (*config.learning_rates, scaled_rate(name, config.steps))
        arms[name] = Compute(
            all_seeds_at_once(
                config,
                lambda key, name=name, rates=rates: learned(
                    key, x, y, config, name, rates
                ),
            )
        )
    return Study(
        arms=arms,
        figures={
            "rates": report.trends(
                {rate: f"test/{rate:g}" for rate in config.learning_rates},
                label="test accuracy",
                across="learning rate",
                log_across=True,
            ),
            "published": report.intervals(
                {words: [name] for name, words in NAMES.items()},
                [
                    " and ".join(
                        f"{scaled_rate(name, config.steps):.2g} ({name})"
                        for name in NAMES
                    )
                ],
                "test/published",
                label="test accuracy",
                across="learning rates in the paper's ratio",
            ),
        },
        claims=_claims(config),
        labels=NAMES,
        title="GRU and support vector machine",
        summary=(
            f"GRU of {config.hidden} units over the 8 rows of digits, {config.train} "
            f"images to learn from, {config.held} to choose the learning rate, the "
            f"others to test. {config.steps} steps of Adam, batches of "
            f"{config.batch_size}; the SVM's objective adds half the squared norm of "
            f"its weights, C = {config.c:g}. No dropout."
        ),
        captions={
            "rates": "The same learning rates for both objectives.",
            "published": (
                "Rates in the paper's ratio of ten, scaled to as much training: the "
                "cross-entropy has learned less because its rate is lower."
            ),
        },
    )


def scaled_rate(name: str, steps: int) -> float:
    """The published learning rate of an objective, for fewer steps."""
    return PUBLISHED[name] * PUBLISHED_STEPS / steps


def _check(config):
    if config.train + config.held >= DIGITS:
        raise ValueError(
            f"config.train is {config.train}, config.held {config.held}; expected less "
            f"than {DIGITS} digits together"
        )
    if len(config.learning_rates) < 1 or min(config.learning_rates) <= 0:
        raise ValueError(
            f"config.learning_rates is {tuple(config.learning_rates)}, expected "
            "positive numbers"
        )
    if config.steps < 1:
        raise ValueError(f"config.steps is {config.steps}, expected at least 1")


def learned(key, x, y, config, name, rates) -> dict:
    """Accuracies for each learning rate, of which the last is the published one."""
    keys = jax.random.split(key, 3)
    parts = divide(keys[0], x.reshape(-1, 8, 8), y, config.train)
    model = models.GRUClassifier(config.hidden, num_classes=10)
    start = model.init(keys[1], parts.x[:1])["params"]
    shape = (config.steps, config.batch_size)
    batches = jax.random.randint(keys[2], shape, 0, config.train)

    def loss(params, rows):
        z, labels = model.apply({"params": params}, parts.x[rows]), parts.y[rows]
        if name == SOFTMAX:
            return losses.cross_entropy(z, labels).mean()
        each = losses.squared_hinge_loss(z, labels)
        return losses.l2_svm_objective(each, params["head"]["kernel"], c=config.c)

    def train(rate):
        optimizer = optax.adam(rate)

        def step(state, rows):
            params, inner = state
            change, inner = optimizer.update(jax.grad(loss)(params, rows), inner)
            return (optax.apply_updates(params, change), inner), None

        (params, _), _ = jax.lax.scan(step, (start, optimizer.init(start)), batches)
        right = model.apply({"params": params}, parts.test_x).argmax(-1) == parts.test_y
        return right[: config.held].mean(), right[config.held :].mean()

    held, test = jax.vmap(train)(jnp.array(rates))
    found = {"held/published": held[-1], "test/published": test[-1]}
    for i, rate in enumerate(config.learning_rates):
        found |= {f"held/{rate:g}": held[i], f"test/{rate:g}": test[i]}
    return found


def tuned(results, name, rates) -> np.ndarray:
    """Test accuracies at the rate with the best mean accuracy on held-out images."""
    held = [results[name].final(f"held/{rate:g}").mean() for rate in rates]
    return results[name].final(f"test/{rates[int(np.argmax(held))]:g}")


def _claims(config):
    bounds, both = config.tolerances, tuple(NAMES)
    rates = config.learning_rates
    return [
        report.Claim(
            text="at their best learning rates the two objectives are alike",
            reference="an expectation of ours: the paper's gap is that of its rates",
            ours=lambda r: 100 * (tuned(r, SVM, rates) - tuned(r, SOFTMAX, rates)),
            equals=0.0,
            within=bounds.alike,
            over="mean",
            unit="points",
            needs=both,
        ),
        report.Claim(
            text="with learning rates in the paper's ratio the SVM is far ahead",
            paper="84.15 % against 70.75 % (abstract)",
            ours=report.ahead("test/published", SVM, SOFTMAX, scale=100),
            at_least=bounds.ahead,
            over="mean",
            unit="points",
            needs=both,
        ),
    ]
