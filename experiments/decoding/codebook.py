"""Which words may share an output vector?

A small language model of words has a head of K vectors for V words. Words are mapped to
vectors at random, by their frequency, or by k-means of the rows of a full head that was
trained before. Two words of one vector are always equally likely, so that a map which
mixes frequent and rare words costs more than all that context gives.

Source: VQ-Logits, Shao and Wang 2025, arXiv:2505.10202.
"""

import collections
import functools
import platform
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.nn import initializers

from experiments.common.keys import once_per_key
from experiments.common.references import BOUND
from logitlab import data, heads, losses, report
from logitlab.train import Compute, Study
from logitlab.train.config import check_name

FULL = "full"
METHODS = {"random": "at random", "frequency": "by frequency", "kmeans": "by k-means"}


def build(config) -> Study:
    """The study; nothing here trains, writes or prints."""
    for name in config.methods:
        check_name(name, tuple(METHODS), "config.methods")
    shares = tuple(config.shares)
    if (
        not shares
        or list(shares) != sorted(set(shares), reverse=True)
        or shares[-1] < 2
    ):
        raise ValueError(
            f"config.shares is {shares}, expected falling ones of at least 2"
        )
    if config.words % shares[0]:
        raise ValueError(
            f"config.words is {config.words}, expected a multiple of {shares[0]}"
        )
    text = functools.cache(lambda: load(config.modules, config.words))
    full = once_per_key(lambda key: _trained(config, key, text(), None))
    arms = {
        name: Compute(lambda key, n=name: _measure(config, n, key, text(), full(key)))
        for name in config.methods
    }
    arms[FULL] = Compute(
        lambda key: (
            {_name(s): _nats(full(key), text(), None) for s in shares}
            | {"identity": _identity(full(key), text())}
        )
    )
    return Study(
        arms=arms,
        figures={
            "loss": report.trends(
                {config.words // s: _name(s) for s in shares},
                label="nats for each held-out word",
                across="output vectors",
                log_across=True,
            )
        },
        claims=_claims(config),
        labels=METHODS | {FULL: "a vector for each word"},
        title=f"{config.words} words that share output vectors",
        summary=(
            f"Words of {config.modules} modules of the standard library of Python "
            f"{platform.python_version()}; a tenth is held out. The model sees "
            f"{config.context} words through {config.width} hidden units and "
            f"{config.features} features; {config.steps} steps of Adam on batches of "
            f"{config.batch_size}."
        ),
        captions={"loss": "Held-out loss against the number of output vectors."},
    )


def _name(share):
    return f"nats/{share}"


def load(modules: int, words: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Ids of training and held-out words, the most frequent first, and their counts.

    What is not among them is the last word.
    """
    found = re.findall(r"\w+|[^\w\s]", data.standard_library_text(modules))
    common = collections.Counter(found).most_common(words - 1)
    if len(common) < words - 1:
        raise ValueError(
            f"config.words is {words}, expected at most {len(common) + 1} of "
            f"{modules} modules"
        )
    place = {word: i for i, (word, _) in enumerate(common)}
    ids = np.array([place.get(word, words - 1) for word in found], np.int32)
    train, rest = np.split(ids, [9 * len(ids) // 10])
    return train, rest, np.bincount(train, minlength=words)


def _init(key, config):
    keys = jax.random.split(key, 4)
    lecun, normal = initializers.lecun_normal(), jax.random.normal
    return {
        "embedding": normal(keys[0], (config.words, config.features)),
        "hidden": lecun(keys[1], (config.context * config.features, config.width)),
        "feature": lecun(keys[2], (config.width, config.features)),
        "codes": 0.1 * normal(keys[3], (config.words, config.features)),
    }


def _features(params, context):
    x = params["embedding"][context].reshape(len(context), -1)
    return jnp.tanh(jax.nn.relu(x @ params["hidden"]) @ params["feature"])


def _loss(params, context, labels, mapping):
    """Of each word, with a vector for each of them if there is no mapping."""
    h = _features(params, context)
    if mapping is None:
        return losses.cross_entropy(h @ params["codes"].T, labels)
    return heads.vq_loss(h, params["codes"], labels, mapping)


def _trained(config, key, text, mapping, codes=None):
    """Parameters after all steps; ``codes`` are the first output vectors."""
    init_key, batch_key = jax.random.split(key)
    params = _init(init_key, config)
    if codes is not None:
        params["codes"] = codes
    train = jnp.asarray(text[0])
    many = config.context
    options = (many, config.batch_size, config.steps, config.learning_rate)
    return _fit(params, batch_key, train, mapping, options)


@functools.partial(jax.jit, static_argnums=4)
def _fit(params, key, train, mapping, options):
    many, batch, steps, rate = options
    optimizer = optax.adam(optax.cosine_decay_schedule(rate, steps))

    def step(carry, key):
        params, state = carry
        starts = jax.random.randint(key, (batch,), 0, len(train) - many)
        rows = train[starts[:, None] + jnp.arange(many + 1)[None]]
        slopes = jax.grad(
            lambda p: _loss(p, rows[:, :-1], rows[:, -1], mapping).mean()
        )(params)
        updates, state = optimizer.update(slopes, state, params)
        return (optax.apply_updates(params, updates), state), None

    start = params, optimizer.init(params)
    return jax.lax.scan(step, start, jax.random.split(key, steps))[0][0]


def _held_out(params, text):
    many = params["hidden"].shape[0] // params["embedding"].shape[1]
    rows = np.lib.stride_tricks.sliding_window_view(text[1], many + 1)
    return jnp.asarray(rows[:, :-1]), jnp.asarray(rows[:, -1])


@jax.jit
def _mean_loss(params, context, labels, mapping):
    one = lambda row: _loss(params, row[0][None], row[1][None], mapping)[0]  # noqa: E731
    return jax.lax.map(one, (context, labels), batch_size=500).mean()


def _nats(params, text, mapping):
    return float(_mean_loss(params, *_held_out(params, text), mapping))


def _identity(params, text):
    """Largest difference of a full head and of a codebook with a code for each word."""
    context, labels = (a[:500] for a in _held_out(params, text))
    own = jnp.arange(len(params["codes"]), dtype=jnp.int32)
    found = [_loss(params, context, labels, m) for m in (None, own)]
    return float(jnp.max(jnp.abs(found[0] - found[1])))


def _measure(config, method, key, text, full):
    found = {}
    for share in config.shares:
        k = config.words // share
        own = jax.random.fold_in(key, share)
        array = full["codes"] if method == "kmeans" else text[2]
        mapping = heads.vq_mapping(array, k, method=method, key=own)
        codes = heads.vq_centroids(full["codes"], mapping, k)
        params = _trained(config, key, text, jnp.asarray(mapping), codes)
        found[_name(share)] = _nats(params, text, jnp.asarray(mapping))
    return found


def _claims(config):
    bounds = config.tolerances
    few = config.shares[0]
    claims = [
        report.Claim(
            text=(
                f"a map {METHODS[name]} is better than a random one at "
                f"{config.words // few} vectors"
            ),
            reference=BOUND,
            ours=lambda r, n=name: (
                r["random"].final(_name(few)) - r[n].final(_name(few))
            ),
            at_least=bounds.ahead,
            unit="nats",
            needs=("random", name),
        )
        for name in config.methods
        if name != "random"
    ]
    claims += [
        report.Claim(
            text=f"more vectors are better, {METHODS[name]}",
            reference=BOUND,
            ours=lambda r, n=name: np.min(
                -np.diff(
                    [
                        *(r[n].final(_name(s)) for s in config.shares),
                        r[FULL].final(_name(few)),
                    ],
                    axis=0,
                ),
                0,
            ),
            above=0.0,
            unit="nats, the smallest gain",
            needs=(name, FULL),
        )
        for name in config.methods
    ]
    return [
        *claims,
        report.Claim(
            text="a vector for each word is the full head",
            reference="identity: of the definition",
            ours=lambda r: r[FULL].final("identity"),
            at_most=bounds.identity,
            unit="nats, the largest difference",
            needs=(FULL,),
        ),
    ]
