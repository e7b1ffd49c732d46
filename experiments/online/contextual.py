"""How should a network explore that learns from what it pulled alone?

Digits as a bandit: an image is shown, one of ten digits is answered, and the loss is 1
for a wrong answer. A network predicts the losses of all answers and learns, by online
gradient descent, of the one it gave. Inverse gap weighting, with predictions by the
squared error (SquareCB) or by the divergence (FastCB), is held against the best answer
but for a share of random ones, and random ones. The projection and the random
perturbation of the predictions, which the analysis has, are left out.

Source: Contextual Bandits with Online Neural Regression, Deb et al. 2023,
arXiv:2312.07145.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np

from experiments.common import datasets
from experiments.common.references import stated
from logitlab import losses, models, optim, report
from logitlab.train import Compute, Study

FAST, SQUARE, GREEDY, UNIFORM = "fast", "square", "greedy", "uniform"
LABELS = {
    FAST: "FastCB",
    SQUARE: "SquareCB",
    GREEDY: "greedy but for a share",
    UNIFORM: "even chances",
}
ARMS, LOWEST = 10, 1e-4


def build(config) -> Study:
    """The study; nothing here plays, writes or prints."""
    _check(config)
    marks = [config.rounds * i // config.marks for i in range(1, config.marks + 1)]
    return Study(
        arms={
            name: Compute(functools.partial(regrets, name, config, marks))
            for name in LABELS
        },
        figures={
            "regret": report.trends(
                {t: f"best/{t}" for t in marks},
                label="regret with the best setting",
                across="rounds",
                log=True,
            )
        },
        claims=_claims(config),
        labels=LABELS,
        title="Exploring with a network's predictions",
        summary=(
            f"{config.rounds} digits, shown in a random order, ten answers; a network "
            f"with a hidden layer of {config.width} units and a gradient step on each "
            "round. Of every method the setting with the least mean regret over the "
            "seeds counts: the learning rate, gamma for inverse gaps, and the share of "
            "random answers for the greedy method."
        ),
        captions={"regret": "Wrong answers so far, each seed with its best setting."},
    )


def _check(config):
    if config.rounds < config.marks or config.marks < 1:
        raise ValueError(
            f"config.rounds is {config.rounds}, expected at least config.marks, "
            f"{config.marks}, at least 1"
        )
    for name in ("gammas", "shares", "rates"):
        if not len(config[name]):
            raise ValueError(f"config.{name} is empty, expected at least one")


def grid(name: str, config) -> list[tuple[float, float]]:
    """The settings of a method that are tried, each with every learning rate."""
    shares = config.shares if name == GREEDY else (0.0,)
    settings = config.gammas if name in (FAST, SQUARE) else shares
    rates = config.rates if name != UNIFORM else config.rates[:1]
    return [*itertools.product(settings, rates)]


def metric(setting: tuple[float, float]) -> str:
    """Where the regret of a setting stands."""
    return f"regret/{setting[0]:g}/{setting[1]:g}"


def chances(name: str, predicted: jax.Array, setting: jax.Array) -> jax.Array:
    """Chances of the answers, of their predicted losses [K]."""
    if name in (FAST, SQUARE):
        return optim.inverse_gap_weighting(predicted, gamma=setting, kind=name)
    share = setting if name == GREEDY else 1.0
    best = jax.nn.one_hot(predicted.argmin(), ARMS)
    return (1 - share) * best + share / ARMS


def regrets(name: str, config, marks, key: jax.Array) -> dict:
    """Regret of every setting at every mark; ``best`` is chosen by the claims' rule."""
    x, y = datasets.images()
    order_key, init_key, play_key = jax.random.split(key, 3)
    rows = jax.random.randint(order_key, (config.rounds,), 0, len(y))
    settings = jnp.asarray(grid(name, config), jnp.float32)
    keys = jax.random.split(play_key, config.rounds)
    wrong = _played(name, config.width, init_key, x[rows], y[rows], keys, settings)
    total = np.cumsum(np.asarray(wrong), -1)
    found = {
        metric(setting): total[i, -1] for i, setting in enumerate(grid(name, config))
    }
    # In a figure: the setting that is best for this seed.
    best = total[total[:, -1].argmin()]
    return found | {f"best/{t}": best[t - 1] for t in marks}


@functools.partial(jax.jit, static_argnums=(0, 1))
def _played(name, width, init_key, x, y, keys, settings):
    model = models.MLP(widths=(width,), classes=ARMS)
    start = model.init(init_key, x[:1])["params"]

    def logits_of(params, image):
        return model.apply({"params": params}, image)

    def objective(params, image, arm, loss):
        z = logits_of(params, image)[arm]
        if name == FAST:
            return losses.bandit_kl_loss(z, loss)
        return jnp.square(jax.nn.sigmoid(z) - loss)

    def play(pair):
        setting, rate = pair

        def round_(params, now):
            image, digit, key = now
            predicted = jax.nn.sigmoid(logits_of(params, image))
            predicted = jnp.clip(predicted, LOWEST, 1 - LOWEST)
            arm = jax.random.categorical(
                key, jnp.log(chances(name, predicted, setting))
            )
            loss = (arm != digit).astype(jnp.float32)
            slope = jax.grad(objective)(params, image, arm, loss)
            return jax.tree.map(lambda w, g: w - rate * g, params, slope), loss

        return jax.lax.scan(round_, start, (x, y, keys))[1]

    return jax.vmap(play)(settings)


def _claims(config):
    def least(results, name):
        """Regrets of the seeds with the setting whose mean is the least."""
        rows = [results[name].final(metric(s)) for s in grid(name, config)]
        return report.smallest_mean(rows)

    pairs = (
        (FAST, SQUARE, "FastCB has at most the regret of SquareCB", 0.0),
        (SQUARE, GREEDY, "SquareCB has less than the tuned greedy method", 0.0),
        (FAST, GREEDY, "FastCB has less than the tuned greedy method", 0.0),
        (GREEDY, UNIFORM, "the greedy method has less than even chances", 0.0),
    )
    return [
        report.Claim(
            text=text,
            reference=stated("inverse gaps explore where it pays"),
            ours=lambda r, ahead=ahead, behind=behind: (
                least(r, behind) - least(r, ahead)
            ),
            at_least=bound,
            over="mean",
            unit="fewer wrong answers",
            needs=(ahead, behind),
        )
        for ahead, behind, text, bound in pairs
    ]
