"""The text of the language models: the standard library, or a text data set of TFDS."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from logitlab import data
from logitlab.train import Stream

COUNTED = 1000  # training documents whose pairs of bytes are counted


class Corpus(NamedTuple):
    """Documents to train on and others to validate on.

    Attributes:
      train: bytes each.
      validation: likewise.
      name: what the text is, for the report.
    """

    train: Sequence[bytes]
    validation: Sequence[bytes]
    name: str


def corpus(config) -> Corpus:
    """The text that ``config.data`` names."""
    return _corpus(config.dataset, config.data_dir, config.folder)


@functools.cache
def _corpus(dataset, data_dir, folder):
    if dataset:
        parts = (
            data.text_documents(dataset, split, data_dir)
            for split in ("train", "validation")
        )
        return Corpus(*parts, f"the data set {dataset}")
    text = data.standard_library_bytes(folder)
    name = f"the source of Python's standard library (SHA-256 {text.sha256})"
    return Corpus([text.train.tobytes()], [text.validation.tobytes()], name)


def vocabulary(bytes_per_token):
    """How many tokens there are."""
    if bytes_per_token not in (1, 2):
        raise ValueError(
            f"config.data.bytes_per_token is {bytes_per_token}, expected 1 or 2"
        )
    return 256**bytes_per_token


def tokens_of(text, bytes_per_token):
    """Each byte, or each two in a row, as one number: [..., n] -> [..., n / two]."""
    return text.view(f">u{bytes_per_token}").astype(np.int32)


def batches(config, batch_size, *, pairs=False):
    """Streamed windows of the training text, and held ones of the other.

    With ``pairs`` each comes with one that is ``rejected``: from its middle on it is
    that of another place.
    """
    text = corpus(config)
    if batch_size % jax.process_count():
        raise ValueError(
            f"config.batch_size is {batch_size}, expected a multiple of the "
            f"{jax.process_count()} processes"
        )

    def windows(documents, count, seed, rows=slice(None)):
        def drawn(kind):
            length = (config.context + 1) * config.bytes_per_token
            text = data.text_windows(
                documents, count, length, seed=(*seed, kind), rows=rows
            )
            return tokens_of(text, config.bytes_per_token)

        batch = {"tokens": drawn(0)}
        if pairs:
            late = np.arange(config.context + 1) > config.context // 2
            batch["rejected"] = np.where(late, drawn(1), batch["tokens"])
        return batch

    share = batch_size // jax.process_count()
    mine = slice(jax.process_index() * share, (jax.process_index() + 1) * share)

    def stream(step):
        while True:
            yield windows(text.train, batch_size, (config.seed, 1, step), mine)
            step += 1

    return {
        "train": Stream(stream, ahead=config.ahead),
        "validation": windows(text.validation, config.windows, (config.seed, 0)),
    }


def bigram_bits(text):
    """Bits that a byte of the validation text costs, given the one before.

    By the counts of the training text, each plus one; of a large data set by those of
    its first documents.
    """
    train, held = _first(text.train, COUNTED), _first(text.validation, COUNTED // 5)
    counts = np.ones((256, 256))
    np.add.at(counts, (train[:-1], train[1:]), 1)
    cost = -np.log2(counts / counts.sum(-1, keepdims=True))
    return cost[held[:-1], held[1:]].mean()


def _first(documents, most):
    first = (documents[i] for i in range(min(most, len(documents))))
    return np.frombuffer(b"".join(first), np.uint8)
