"""Characters of Python's standard library by what they are, and counts as models."""

import collections
import functools
import io
import pathlib
import sysconfig
import tokenize
from collections.abc import Mapping
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from logitlab import transforms

KINDS = ("docstring", "code", "comment")
_BEFORE = (tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT, tokenize.NL)


class Corpora(NamedTuple):
    """Texts as ids, and which characters these are.

    Attributes:
      train: kind -> ids, int64 [N].
      held_out: the same of other modules.
      alphabet: the characters; the last one stands for all others.
    """

    train: Mapping[str, np.ndarray]
    held_out: Mapping[str, np.ndarray]
    alphabet: str


@functools.cache
def load(modules: int, held_out: int, vocabulary: int) -> Corpora:
    """The first modules of the standard library, and as held-out text the next ones."""
    folder = pathlib.Path(sysconfig.get_path("stdlib"))
    files = sorted(folder.glob("*.py"))[: modules + held_out]
    if len(files) < modules + held_out:
        raise ValueError(
            f"{folder} has {len(files)} modules, expected {modules + held_out}"
        )
    texts = [divide(file.read_text("utf-8", "replace")) for file in files]
    parts = [
        {kind: "".join(text[kind] for text in some) for kind in KINDS}
        for some in (texts[:modules], texts[modules:])
    ]
    common = collections.Counter("".join(parts[0].values())).most_common(vocabulary - 1)
    alphabet = "".join(character for character, _ in common)
    place = {character: i for i, character in enumerate(alphabet)}
    train, rest = (
        {
            kind: np.array([place.get(c, len(alphabet)) for c in text])
            for kind, text in part.items()
        }
        for part in parts
    )
    return Corpora(train, rest, alphabet + "\N{REPLACEMENT CHARACTER}")


def divide(source: str) -> dict[str, str]:
    """Docstrings, comments and the rest of a module, without empty lines."""
    lines = source.splitlines(keepends=True)
    found: dict[str, list[str]] = {"docstring": [], "comment": []}
    keep = [np.ones(len(line), bool) for line in lines]
    before = tokenize.NEWLINE
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = None
        if token.type == tokenize.COMMENT:
            kind, text = "comment", token.string.lstrip("#: ")
        elif token.type == tokenize.STRING and before in _BEFORE:
            kind, text = "docstring", token.string.strip("rRbBuU").strip("\"'")
        if token.type not in (tokenize.COMMENT, tokenize.NL):
            before = token.type
        if kind is not None:
            found[kind].append(text)
            (first, start), (last, end) = token.start, token.end
            for row in range(first, last + 1):
                low = start if row == first else 0
                high = end if row == last else len(keep[row - 1])
                keep[row - 1][low:high] = False
    rest = (
        "".join(c for c, k in zip(line, kept, strict=True) if k)
        for line, kept in zip(lines, keep, strict=True)
    )
    texts = {"code": [line.rstrip() for line in rest]} | found
    return {
        kind: "".join(
            line.strip() + "\n" if kind != "code" else line + "\n"
            for text in texts[kind]
            for line in text.splitlines()
            if line.strip()
        )
        for kind in KINDS
    }


def windows(text: np.ndarray, many: int) -> tuple[np.ndarray, np.ndarray]:
    """Each character of a text but the first ones, and the ``many`` before it."""
    rows = np.lib.stride_tricks.sliding_window_view(text, many + 1)
    return rows[:, :-1], rows[:, -1]


def witten_bell(prior: transforms.NgramPrior, context: jax.Array) -> jax.Array:
    """Log-probabilities of the next character by all orders (Witten and Bell 1991).

    Each order leaves as much to the next lower one as it has seen different characters,
    down to the uniform distribution.

    Shapes: context [B, N] -> [B, V]
    """
    counts, _ = transforms.ngram_counts(prior, context)
    p = jnp.full((len(context), counts.shape[-1]), 1 / counts.shape[-1])
    for n in range(counts.shape[1]):
        kinds = jnp.sum(counts[:, n] > 0, -1, keepdims=True)
        total = jnp.sum(counts[:, n], -1, keepdims=True) + kinds
        mixed = (counts[:, n] + kinds * p) / jnp.where(total > 0, total, 1)
        p = jnp.where(total > 0, mixed, p)
    return jnp.log(p)


def language_model(prior: transforms.NgramPrior) -> transforms.Processor:
    """Counts as a model: a processor of its own logits, with the last characters."""
    many = len(prior.tokens) - 1

    def apply(logits, tokens, context, *, key=None):
        longer = jnp.concatenate([context, tokens], 1)[:, -many:]
        context = jnp.where(tokens[:, -1:] >= 0, longer, context)
        return witten_bell(prior, context), context

    return transforms.Processor(
        lambda batch: jnp.full((batch, many), -1, jnp.int32), apply
    )


def sample(key, model, processor, prompt, steps, *, state=None, watch=None):
    """Texts [B, steps] drawn from a model behind a processor.

    ``watch`` is a function of the logits before and after the processor, whose results
    come back as well, one for each step.
    """
    batch = len(prompt)
    blank = jnp.zeros((batch, model.init(1).shape[0]))
    state = processor.init(batch) if state is None else state

    def step(carry, key):
        tokens, own, state = carry
        before, own = model.apply(blank, tokens, own)
        after, state = processor.apply(before, tokens, state)
        token = jax.random.categorical(key, after).astype(jnp.int32)
        seen = () if watch is None else watch(before, after)
        return (token[:, None], own, state), (token, seen)

    keys = jax.random.split(key, steps)
    start = jnp.asarray(prompt, jnp.int32), model.init(batch), state
    start, one = step(start, keys[0])  # reads the whole prompt
    _, others = jax.lax.scan(step, start, keys[1:])
    texts, seen = jax.tree.map(lambda a, b: jnp.concatenate([a[None], b]), one, others)
    return texts.T, seen
