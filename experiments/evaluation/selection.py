"""Which lines of a batch should a language model train on? UDS against others.

A small character model reads lines of Python, of which many are nearly the same and
some are random characters. At each step it sees a batch, and trains on a quarter of it:
what UDS selects, lines at random, or those of the largest loss.

Source: UDS, 2025, arXiv:2510.16882.
"""

import functools
import itertools
import platform
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from experiments.common.references import stated
from logitlab import data, losses, models, report
from logitlab.train import Compute, Study

UDS, UTILITY, RANDOM, LARGEST, ALL = "uds", "utility", "random", "largest", "all"
LABELS = {
    UDS: "UDS",
    UTILITY: "UDS without diversity",
    RANDOM: "at random",
    LARGEST: "largest losses",
    ALL: "the whole batch",
}
VOCABULARY = 96  # printable ASCII; whatever else is the last
PLAIN, DUPLICATE, NOISE = range(3)


class Lines(NamedTuple):
    """Lines of one length as ints in ``[0, VOCABULARY)``.

    Attributes:
      pool: to train on, [N, T].
      kinds: of the pool's lines, ``PLAIN``, ``DUPLICATE`` or ``NOISE``, [N].
      held_out: plain lines from further on in the text, [M, T].
    """

    pool: np.ndarray
    kinds: np.ndarray
    held_out: np.ndarray


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    _check(config)
    rows = functools.cache(lambda: text_lines(config.text.modules, config.text.length))
    pool, after = config.pool, tuple(config.after)
    return Study(
        arms={
            name: Compute(lambda key, name=name: _values(name, key, config, rows()))
            for name in LABELS
        },
        figures={
            "loss": report.trends(
                {step: f"loss/{step}" for step in after},
                label="validation loss, nats a character",
                across="steps",
            ),
            "shares": report.frontier(
                {label: {name: ""} for name, label in LABELS.items()},
                across=("duplicates", "share of near-duplicates in training"),
                up=("noise", "share of random lines in training"),
            ),
        },
        claims=_claims(config),
        labels=LABELS,
        title="Which lines of a batch to train on",
        summary=(
            f"Lines of {config.text.length} characters from {config.text.modules} "
            f"modules of the standard library of Python {platform.python_version()}. "
            f"Of {pool.size} lines to train on, {pool.duplicates:.0%} are one of "
            f"{pool.originals} lines but for one character, and {pool.noise:.0%} are "
            f"random. Each step trains on {config.keep} of {config.batch_size} lines, "
            "or on all of them, with the same number of steps. All arms of a seed see "
            "the same batches."
        ),
        captions={
            "loss": "Loss of lines that are neither noise nor in the training pool.",
            "shares": "What the lines are that each selection trains on.",
        },
        table=functools.partial(_table, f"loss/{after[-1]}"),
    )


def _check(config):
    after, pool = tuple(config.after), config.pool
    if not after or list(after) != sorted(set(after)) or after[0] < 1:
        raise ValueError(f"config.after is {after}, expected growing steps")
    if not 1 <= config.keep < config.batch_size:
        raise ValueError(
            f"config.keep is {config.keep}, expected 1 or more of config.batch_size, "
            f"{config.batch_size}, but not all"
        )
    if min(pool.duplicates, pool.noise) < 0 or pool.duplicates + pool.noise >= 1:
        raise ValueError(
            f"config.pool.duplicates is {pool.duplicates} and config.pool.noise "
            f"{pool.noise}, expected shares that leave some"
        )


def text_lines(modules: int, length: int) -> np.ndarray:
    """Different lines of the standard library, their beginnings, in its order.

    Shapes: -> int32 [N, length]; shorter lines are left out, and so is indentation.
    """
    stripped = (s.strip() for s in data.standard_library_text(modules).split("\n"))
    unique = dict.fromkeys(s[:length] for s in stripped if len(s) >= length)
    codes = np.array([[ord(c) - ord(" ") for c in line] for line in unique], np.int32)
    return np.where((codes >= 0) & (codes < VOCABULARY), codes, VOCABULARY - 1)


def draw(key: jax.Array, lines: np.ndarray, pool) -> Lines:
    """Lines to train on, a part of which are spoiled, and others.

    The last fifth of the text is held out. Near-duplicates are made of some lines of
    their own by another character at one place.

    Raises:
      ValueError: there are too few lines.
    """
    many = [round(share * pool.size) for share in (pool.duplicates, pool.noise)]
    plain = pool.size - sum(many)
    cut = len(lines) * 4 // 5
    if plain + pool.originals > cut or pool.held_out > len(lines) - cut:
        raise ValueError(
            f"the text has {len(lines)} lines, too few for {plain + pool.originals} in "
            f"its first four fifths and {pool.held_out} in the last"
        )
    rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
    known = rng.permutation(lines[:cut])
    alike = known[plain + rng.integers(pool.originals, size=many[0])]
    place = np.arange(many[0]), rng.integers(lines.shape[1], size=many[0])
    alike[place] = rng.integers(VOCABULARY, size=many[0])
    noise = rng.integers(VOCABULARY, size=(many[1], lines.shape[1]), dtype=np.int32)
    return Lines(
        np.concatenate([known[:plain], alike, noise]),
        np.repeat([PLAIN, DUPLICATE, NOISE], [plain, *many]),
        rng.permutation(lines[cut:])[: pool.held_out],
    )


def _values(name, key, config, lines):
    draw_key, key = jax.random.split(key)
    after = tuple(config.after)
    curve, shares = _trained(
        key,
        draw(draw_key, lines, config.pool),
        config.learning_rate,
        0.0 if name == UTILITY else config.alpha,
        name=UDS if name == UTILITY else name,
        after=after,
        batch_size=config.batch_size,
        keep=config.keep,
        model=tuple(config.model.items()),
        uds=tuple(config.uds.items()),
    )
    values = {f"loss/{step}": loss for step, loss in zip(after, curve, strict=True)}
    return values | {"duplicates": shares[DUPLICATE], "noise": shares[NOISE]}


@functools.partial(
    jax.jit,
    static_argnames=("name", "after", "batch_size", "keep", "model", "uds"),
)
def _trained(
    key, lines, learning_rate, alpha, *, name, after, batch_size, keep, model, uds
):
    """Validation losses after some steps each, and shares of the kinds trained on."""
    uds, model, length = dict(uds), dict(model), lines.pool.shape[1] - 1
    window = model.pop("window")
    network = models.WindowMLP(vocabulary=VOCABULARY + 1, classes=VOCABULARY, **model)
    places = jnp.arange(length)[:, None] + jnp.arange(window)[None]
    optimizer = optax.adam(learning_rate)
    init_key, projection_key, key = jax.random.split(key, 3)
    params = network.init(init_key, places[:1])
    samples = uds["time_samples"], uds["vocab_samples"]
    memory = data.UdsState(
        data.init_projection(
            projection_key,
            length,
            VOCABULARY,
            time_samples=samples[0],
            vocab_samples=samples[1],
        ),
        data.buffer_init(uds["buffer"], samples[0] * samples[1]),
    )

    def costs(params, rows):
        """Nats of each line, and logits [B, T, C]; one more code is before a line."""
        known = jnp.pad(rows, ((0, 0), (window, 0)), constant_values=VOCABULARY)
        logits = network.apply(params, known[:, 1:][:, places])
        return losses.cross_entropy(logits, rows[:, 1:]).mean(-1), logits

    def select(key, params, rows, memory):
        if name == ALL:
            return jnp.arange(batch_size), memory
        if name == RANDOM:
            return jax.random.permutation(key, batch_size)[:keep], memory
        nats, logits = costs(params, rows)
        if name == LARGEST:
            return jax.lax.top_k(nats, keep)[1], memory
        found = data.uds_select(logits, memory, k=keep, alpha=alpha)
        return found.indices, found.state

    def step(i, carry):
        params, state, memory, counts = carry
        row_key, key_of_step = jax.random.split(jax.random.fold_in(key, i))
        at = jax.random.randint(row_key, (batch_size,), 0, len(lines.pool))
        chosen, memory = select(key_of_step, params, lines.pool[at], memory)
        at = at[chosen]
        grads = jax.grad(lambda p: costs(p, lines.pool[at])[0].mean())(params)
        updates, state = optimizer.update(grads, state)
        counts = counts.at[lines.kinds[at]].add(1)
        return optax.apply_updates(params, updates), state, memory, counts

    def segment(carry, ends):
        carry = jax.lax.fori_loop(ends[0], ends[1], step, carry)
        return carry, costs(carry[0], lines.held_out)[0].mean()

    spans = jnp.array(list(itertools.pairwise((0, *after))))
    start = params, optimizer.init(params), memory, jnp.zeros(3, jnp.int32)
    (*_, counts), curve = jax.lax.scan(segment, start, spans)
    return curve, counts / counts.sum()


def _claims(config):
    bounds, last = config.tolerances, f"loss/{config.after[-1]}"
    ahead = [
        report.Claim(
            text=f"UDS reaches a loss at most that of lines {words}",
            reference=stated("ahead of other selections at equal budgets"),
            ours=report.ahead(last, other, UDS),
            at_least=bounds.ahead,
            over="share",
            share=bounds.seeds,
            unit="nats lower",
            needs=(UDS, other),
        )
        for other, words in ((RANDOM, "at random"), (LARGEST, "of the largest losses"))
    ]
    return [
        report.Claim(
            text="UDS selects fewer near-duplicates than the pool has",
            reference=stated("diverse examples are preferred"),
            ours=lambda r: config.pool.duplicates - r[UDS].final("duplicates"),
            above=bounds.duplicates,
            format=".1%",
            unit="fewer",
            needs=(UDS,),
        ),
        *ahead,
        report.Claim(
            text="UDS selects no more random lines than the pool has",
            question=True,
            ours=lambda r: r[UDS].final("noise"),
            at_most=config.pool.noise,
            over="mean",
            format=".1%",
            needs=(UDS,),
        ),
    ]


def _table(loss, results):
    """One row for each selection."""
    return [
        {
            "selection": arm.label,
            "near-duplicates": f"{np.mean(arm.final('duplicates')):.1%}",
            "random lines": f"{np.mean(arm.final('noise')):.1%}",
            "validation loss": f"{np.mean(arm.final(loss)):.3f}",
        }
        for arm in results.values()
    ]
