"""Is a temperature for each context better than the best one for all of them?

A language model of characters, counted and frozen, gives logits; a small network reads
them and sets a temperature. It learns from the robust loss, at several radii of its
ball, or from the likelihood. The best single temperature is chosen on the same text.

Source: TempNet, Qiu et al. 2024, arXiv:2404.04575.
"""

import collections
import functools
import math
import platform
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.claims import ahead
from experiments.common.keys import all_seeds_at_once
from experiments.common.references import stated
from logitlab import data, losses, models, numerics, report, transforms
from logitlab.train import Compute, Study

GLOBAL, LIKELIHOOD, DUALITY = "global", "likelihood", "duality"
NATS = "nats"


class Rows(NamedTuple):
    """Logits of contexts and what came next: to learn from, and to test.

    Attributes:
      z: logits [N, V].
      y: characters [N].
      test_z: of other positions.
      test_y: their characters.
      batches: rows of each step.
    """

    z: np.ndarray
    y: np.ndarray
    test_z: np.ndarray
    test_y: np.ndarray
    batches: np.ndarray


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    shares = tuple(config.shares)
    rhos = [share * math.log(config.vocabulary) for share in shares]
    text = functools.cache(lambda: counted(config.modules, config.vocabulary))
    cells = [(rho, False) for rho in rhos] + [(0.0, True)]
    names = [robust_arm(share) for share in shares] + [LIKELIHOOD]

    def draw(key):
        return rows_of(key, *text(), config)

    found = all_seeds_at_once(
        config, lambda key, rows: learned(key, rows, config, cells), draw
    )
    one = all_seeds_at_once(config, lambda key, rows: best_single(rows, config), draw)
    arms = {
        name: Compute(
            lambda key, i=i: {metric: v[i] for metric, v in found(key).items()}
        )
        for i, name in enumerate(names)
    }
    arms[GLOBAL] = Compute(one)
    arms[DUALITY] = Compute(lambda key: {"gap": duality_gap(draw(key).z[:50], rhos[0])})
    return Study(
        arms=arms,
        figures={
            "nats": report.intervals(
                {"": [GLOBAL, LIKELIHOOD, *map(robust_arm, shares)]},
                ["single", "likelihood", *(f"robust,\n{share:g}" for share in shares)],
                NATS,
                label="nats of a character",
                across="how the temperature is set; share of log V as ρ",
            )
        },
        claims=_claims(config),
        labels={
            robust_arm(share): f"robust loss, ρ = {share:g} log V" for share in shares
        }
        | {
            LIKELIHOOD: "likelihood",
            GLOBAL: "one temperature",
            DUALITY: "duality",
        },
        title="A temperature for each context",
        summary=(
            f"{config.vocabulary} characters of {config.modules} modules of the "
            f"standard library of Python {platform.python_version()}; logits are "
            "logarithms of interpolated counts of three characters. TempNet: "
            f"{config.hidden} units, temperatures from {config.tau_min:g} to "
            f"{config.tau_max:g}, {config.steps} steps on {config.train} positions "
            f"that were not counted; {config.test} others test."
        ),
        captions={NATS: "On held-out text, at the temperatures that were learned."},
    )


def robust_arm(share: float) -> str:
    """Name of the arm of a radius, as a share of the logarithm of the vocabulary."""
    return f"robust_{share:g}"


def _check(config):
    if not config.shares or not all(0 < share < 1 for share in config.shares):
        raise ValueError(
            f"config.shares is {tuple(config.shares)}, expected numbers in (0, 1)"
        )
    if not 0 < config.tau_min < 1 < config.tau_max:
        raise ValueError(
            f"config.tau_min is {config.tau_min}, config.tau_max {config.tau_max}; "
            "expected positive ones around 1"
        )
    if min(config.train, config.test, config.steps) < 1:
        raise ValueError(
            f"config.train is {config.train}, config.test {config.test}, config.steps "
            f"{config.steps}; expected at least 1"
        )


def counted(modules: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities [V, V, V] after two characters, and text that was not counted.

    A third of the text is kept back. Each order leaves as much to the next lower one as
    it has seen different characters (Witten and Bell 1991).
    """
    text = data.standard_library_text(modules)
    common = collections.Counter(text).most_common(vocabulary - 1)
    place = {character: i for i, (character, _) in enumerate(common)}
    codes = np.array([place.get(c, vocabulary - 1) for c in text])
    mine, others = np.split(codes, [2 * len(codes) // 3])
    p = np.full(vocabulary, 1 / vocabulary)
    for order in range(3):
        index = np.zeros(len(mine) - order, int)
        for back in range(order + 1):
            index = index * vocabulary + mine[back : len(mine) - order + back]
        counts = np.bincount(index, minlength=vocabulary ** (order + 1))
        counts = counts.reshape((vocabulary,) * (order + 1))
        kinds = np.sum(counts > 0, -1, keepdims=True)
        total = counts.sum(-1, keepdims=True) + kinds
        p = np.where(total > 0, (counts + kinds * p) / np.maximum(total, 1), p)
    return np.log(p), others


def rows_of(key: jax.Array, table: np.ndarray, text: np.ndarray, config) -> Rows:
    """Positions of the text drawn at random, those of the test from its second half."""
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    half = len(text) // 2
    parts = []
    for low, high, count in ((2, half, config.train), (half, len(text), config.test)):
        at = rng.integers(low, high, count)
        z = table[text[at - 2], text[at - 1]].astype(np.float32)
        parts += [z, text[at].astype(np.int32)]
    batches = rng.integers(config.train, size=(config.steps, config.batch_size))
    return Rows(*parts, batches.astype(np.int32))


def nats(z: jax.Array, y: jax.Array, tau: jax.Array) -> jax.Array:
    """Mean cost of the characters at the temperatures [N] of their contexts."""
    return losses.cross_entropy(z / tau[:, None], y).mean()


def learned(key: jax.Array, rows: Rows, config, cells) -> dict:
    """For each cell (rho, likelihood), the nats of test and what temperatures do."""
    model = models.TempNet(
        config.tau_min, config.tau_max, hidden=config.hidden, dropout=0.0
    )
    optimizer = optax.adam(config.learning_rate)
    start = model.init(key, rows.z[:1])
    p = numerics.softmax(rows.test_z)
    entropy = -jnp.sum(p * jnp.log(p), -1)
    high = entropy > jnp.median(entropy)

    def train(rho, likelihood):
        def loss(params, chosen):
            z, y = rows.z[chosen], rows.y[chosen]
            tau = model.apply(params, z)
            robust = losses.tempnet_robust_loss(z, y, tau, rho=rho).mean()
            return jnp.where(likelihood, nats(z, y, tau), robust)

        def step(state, chosen):
            params, inner = state
            change, inner = optimizer.update(jax.grad(loss)(params, chosen), inner)
            return (optax.apply_updates(params, change), inner), None

        (params, _), _ = jax.lax.scan(
            step, (start, optimizer.init(start)), rows.batches
        )
        tau = model.apply(params, rows.test_z)
        mean_high, mean_low = tau.mean(where=high), tau.mean(where=~high)
        return {
            NATS: nats(rows.test_z, rows.test_y, tau),
            "temperature": tau.mean(),
            "hotter": mean_high - mean_low,
        }

    rho, likelihood = map(jnp.array, zip(*cells, strict=True))
    return jax.vmap(train)(rho, likelihood)


def best_single(rows: Rows, config) -> dict:
    """Nats of test at the temperature of a grid that is best for all learned from."""
    grid = jnp.geomspace(config.tau_min, config.tau_max, config.grid)

    def cost(tau):
        return nats(rows.z, rows.y, jnp.full(rows.y.shape, tau))

    tau = grid[jnp.argmin(jax.lax.map(cost, grid))]
    return {
        NATS: nats(rows.test_z, rows.test_y, jnp.full(rows.test_y.shape, tau)),
        "temperature": tau,
    }


def duality_gap(z: np.ndarray, rho: float) -> np.ndarray:
    """Largest difference of the robust loss at its best temperature and the worst case.

    In float64. The worst case is the mean of the logits under the distribution that is
    ``rho`` away from the uniform one; the label's logit is the first.
    """
    with jax.enable_x64(True):

        @jax.jit
        def gaps(z):
            tau = transforms.optimal_temperature(
                z, rho=rho, tau_min=1e-3, tau_max=1e3, num_steps=60
            )
            label = jnp.zeros(z.shape[:1], int)
            loss = losses.tempnet_robust_loss(z, label, tau, rho=rho)
            q = numerics.softmax(z / tau[:, None])
            return jnp.abs(loss - jnp.sum(q * (z - z[:, :1]), -1)).max()

        return np.asarray(gaps(jnp.asarray(z, jnp.float64)), np.float64)


def _claims(config):
    main = robust_arm(config.shares[0])
    gpt2 = f"ρ = {config.shares[0]:g} log V, as for GPT-2"

    def less(arm, words, **claim):
        return ahead(
            f"{words} costs no more nats than the best single one",
            NATS,
            GLOBAL,
            arm,
            at_least=0.0,
            over="mean",
            unit="nats fewer",
            **claim,
        )

    def hotter(arm, words, **claim):
        return report.Claim(
            text=f"{words} is higher in contexts of high entropy",
            ours=lambda r: r[arm].final("hotter"),
            above=0.0,
            over="mean",
            needs=(arm,),
            **claim,
        )

    robust, likely = "TempNet's temperature", "the temperature learned by likelihood"
    return [
        report.Claim(
            text="the robust loss at its best temperature is the worst of the ball",
            reference="theorem: strong duality",
            ours=lambda r: r[DUALITY].final("gap"),
            at_most=config.tolerances.gap,
            unit="largest difference",
            needs=(DUALITY,),
        ),
        less(
            main, f"{robust} ({gpt2})", reference=stated("perplexity of GPT-2 improves")
        ),
        hotter(
            main,
            f"{robust} ({gpt2})",
            reference="an expectation of ours: uncertain contexts are to be hotter",
        ),
        *(
            less(robust_arm(share), f"{robust} (ρ = {share:g} log V)", question=True)
            for share in config.shares[1:]
        ),
        less(LIKELIHOOD, likely, question=True),
        hotter(LIKELIHOOD, likely, question=True),
    ]
