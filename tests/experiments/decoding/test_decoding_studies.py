"""What the studies of decoding refuse, and that each runs to its end."""

import numpy as np
import pytest

from experiments.decoding import codebook, diversity


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["guidance", "style", "diversity", "codebook", "correction"]
)
def test_a_study_runs(run_study, name):
    done = run_study(f"decoding:{name}")
    for arm in done.results.values():
        assert all(np.isfinite(arm.final(metric)).all() for metric in arm)


def test_pairs_of_characters():
    found = np.expm1(diversity.pairs(np.array([[0, 1, 0, 1]]), 2))
    np.testing.assert_allclose(found, [[0, 2, 1, 0]])


def test_words_come_by_frequency():
    train, rest, counts = codebook.load(1, 30)
    assert max(train.max(), rest.max()) == 29
    whole = np.bincount(np.concatenate([train, rest]), minlength=30)[:-1]
    assert (np.diff(whole) <= 0).all()
    assert counts.sum() == len(train)


@pytest.mark.parametrize(
    ("name", "key", "value", "message"),
    [
        ("guidance", "alphas", (0.25, 0.5, 1.0), "config.alphas is"),
        ("guidance", "orders", (3, 3), "config.orders is"),
        ("guidance", "characters", 0, "config.characters is 0"),
        ("style", "strengths", (0.0, 0.5), "config.strengths is"),
        ("style", "texts", 0, "config.texts is 0"),
        ("diversity", "rounds", 7, "config.rounds is 7"),
        ("diversity", "temperature", 0.5, "config.temperature is 0.5"),
        ("codebook", "methods", ("best",), "config.methods"),
        ("codebook", "shares", (4, 16), "config.shares is"),
        ("codebook", "words", 1000, "config.words is 1000"),
        ("correction", "sampled", 2000, "config.sampled is 2000"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, name, key, value, message):
    refused(f"decoding:{name}", key, value, message)
