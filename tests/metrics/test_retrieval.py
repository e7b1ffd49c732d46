import functools

import jax
import numpy as np
import pytest
from harness.goldens import draw

from logitlab.metrics import (
    map_at_r,
    normalized_mutual_information,
    r_precision,
    recall_at_k,
)

LABELS = np.array([0, 0, 1, 0, 1, 2, 1, 2, -1, 3])  # the last has no equal
METRICS = {
    "recall": functools.partial(recall_at_k, ks=(1, 2, 4)),
    "r_precision": r_precision,
    "map": map_at_r,
}


def by_hand(e, labels, r=None, r_labels=None):
    """One query after the other, by sorted lists."""
    unit = lambda x: x / np.linalg.norm(x, axis=-1, keepdims=True)  # noqa: E731
    alone = r is None
    r, r_labels = (e, labels) if alone else (r, r_labels)
    s, found = unit(e) @ unit(r).T, []
    for i, label in enumerate(labels):
        others = [
            j for j in range(len(r)) if r_labels[j] >= 0 and not (alone and i == j)
        ]
        order = sorted(others, key=lambda j: (-s[i, j], r_labels[j] == label))
        hits = np.array([r_labels[j] == label for j in order])
        total = hits.sum()
        if label < 0 or not total:
            continue
        precision = np.cumsum(hits) / np.arange(1, len(hits) + 1)
        first = hits[:total]
        found.append(
            {
                "recall": [hits[:k].any() for k in (1, 2, 4)],
                "r_precision": first.mean(),
                "map": (first * precision[:total]).mean(),
            }
        )
    return {name: np.mean([f[name] for f in found], 0) for name in METRICS}, len(found)


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("chunk", [None, 1, 4, 10, 99])
def test_is_its_definition(name, chunk):
    e = draw(0, 10, 4).astype("f4")
    want, count = by_hand(e, LABELS)
    got = jax.jit(functools.partial(METRICS[name], chunk=chunk))(e, LABELS)
    assert got.count == count
    np.testing.assert_allclose(got.value, want[name], rtol=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_references(name):
    e, r = draw(1, 10, 4).astype("f4"), draw(2, 7, 4).astype("f4")
    r_labels = np.array([0, 1, 2, 0, -1, 2, 1])
    want, count = by_hand(e, LABELS, r, r_labels)
    got = METRICS[name](e, LABELS, reference=r, reference_labels=r_labels, chunk=3)
    assert got.count == count
    np.testing.assert_allclose(got.value, want[name], rtol=1e-6)


@pytest.mark.parametrize("name", METRICS)
def test_masks_and_batches(name):
    """What is left out is not there, and batches of queries add up."""
    e = draw(3, 10, 4).astype("f4")
    keep = np.arange(10) != 3
    metric = METRICS[name]
    junk = np.where(keep[:, None], e, np.nan)
    got = metric(junk, np.where(keep, LABELS, 99), mask=keep)
    want = metric(e[keep], LABELS[keep])
    np.testing.assert_allclose(got.value, want.value, rtol=1e-6)
    r, r_labels = draw(4, 9, 4).astype("f4"), np.arange(9) % 3
    known = dict(reference=r, reference_labels=r_labels)
    whole = metric(e, LABELS, **known)
    parts = metric(e[:4], LABELS[:4], **known) + metric(e[4:], LABELS[4:], **known)
    assert whole.count == parts.count
    np.testing.assert_allclose(whole.value, parts.value, rtol=1e-6)


def test_collapsed_embeddings_are_no_good():
    e = np.ones((9, 3), "f4")
    for name, metric in METRICS.items():
        assert not np.asarray(metric(e, np.arange(9) % 3).value).any(), name


def test_chunks_need_the_memory_of_a_chunk():
    def memory(n):
        e = jax.ShapeDtypeStruct((n, 8), "float32")
        labels = jax.ShapeDtypeStruct((n,), "int32")
        run = jax.jit(functools.partial(recall_at_k, ks=(1,), chunk=64))
        compiled = run.lower(e, labels).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert memory(2048) < 2.5 * memory(1024)


def test_nmi():
    rng = np.random.default_rng(0)
    y, c = rng.integers(0, 3, 200), rng.integers(-2, 3, 200)
    table = np.array(
        [[((y == a) & (c == b)).mean() for b in range(-2, 3)] for a in range(3)]
    )
    outer = table.sum(1, keepdims=True) * table.sum(0, keepdims=True)
    information = (table * np.log(table / outer)).sum()
    entropy = [-(p * np.log(p)).sum() for p in (table.sum(0), table.sum(1))]
    got = jax.jit(normalized_mutual_information)(y, c)
    np.testing.assert_allclose(got, 2 * information / sum(entropy), rtol=1e-4)
    np.testing.assert_allclose(normalized_mutual_information(y, 7 - y), 1, rtol=1e-6)
    assert normalized_mutual_information(0 * y, c) == 0
    assert normalized_mutual_information(0 * y, 0 * y) == 1
    mask = rng.random(200) < 0.5
    np.testing.assert_allclose(
        normalized_mutual_information(y, c, mask=mask),
        normalized_mutual_information(y[mask], c[mask]),
        rtol=1e-5,
    )


def test_errors():
    e = np.zeros((4, 3), "f4")
    for call, message in (
        (
            lambda: recall_at_k(e, [0, 0, 1, 1], ks=(1, 4)),
            "ks has 4, expected at most 3, the number of references",
        ),
        (lambda: recall_at_k(e, [0, 0, 1, 1], ks=(0,)), "ks is 0, expected at least 1"),
        (lambda: recall_at_k(e, [0, 0, 1], ks=(1,)), r"shapes \(4, 3\), \(3,\)"),
        (lambda: map_at_r(e, [0] * 4, reference=e), "reference_labels is None"),
        (lambda: map_at_r(e, [0] * 4, reference_mask=[True]), "needs reference"),
        (lambda: r_precision(e, [0] * 4, chunk=0), "chunk is 0, expected at least 1"),
        (lambda: normalized_mutual_information([0], [0, 1]), r"shapes \(1,\), \(2,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
