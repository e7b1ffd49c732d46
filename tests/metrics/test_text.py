import math

import numpy as np
import pytest
from harness import goldens
from harness.interpreter import functions

from logitlab import metrics

plain = metrics
metrics = functions(metrics)


@pytest.mark.parametrize("case", goldens.cases("text_diversity"))
def test_golden(case, x64):
    """Made by NLTK and by vendi-score."""
    want, texts = case["outputs"], case["inputs"]["sequences"]
    for n in (2, 3, 4):
        np.testing.assert_allclose(
            plain.self_bleu(texts, n), want[f"self_bleu_{n}"], rtol=1e-8
        )
    for n in (1, 2, 3):
        assert plain.distinct_n(texts, n) == pytest.approx(want[f"distinct_{n}"], 1e-12)
    x = np.array(case["inputs"]["embeddings"])
    x /= np.linalg.norm(x, axis=-1, keepdims=True)
    for q, name, rtol in (
        (1.0, "vendi_cosine", 1e-8),
        (2.0, "vendi_cosine_q2", 1e-8),
        (0.5, "vendi_cosine_q0.5", 1e-7),  # small q magnifies eigenvalues of rounding
    ):
        np.testing.assert_allclose(
            metrics.vendi_score(x @ x.T, q), want[name], rtol=rtol
        )


def test_texts_that_are_alike_or_too_few():
    same = [[1, 2, 3, 4, 5]] * 3
    assert plain.self_bleu(same) == 1
    assert math.isnan(plain.self_bleu([[1, 2]]))
    assert plain.distinct_n(same, 6) == 0
    assert plain.distinct_n([], 1) == 0
    assert plain.unique_ratio(same) == pytest.approx(1 / 3)
    assert plain.unigram_entropy([[], []]) == 0
    assert plain.unigram_entropy(same) == pytest.approx(math.log(5))
    assert plain.compression_ratio(["abcde"] * 200) > 20
    assert plain.self_bleu([[1, 2], []]) < 0.2


def test_vendi_of_kernels():
    for kernel, want in ((np.eye(4), 4), (np.ones((4, 4)), 1)):
        for q in (0.0, 0.5, 1.0, 2.0, np.inf):
            got = metrics.vendi_score(kernel.astype("f4"), q)
            np.testing.assert_allclose(got, want, rtol=1e-4)
    kernel = np.full((4, 4), np.nan, "f4")
    kernel[:2, :2] = np.eye(2)
    mask = np.array([True, True, False, False])
    np.testing.assert_allclose(metrics.vendi_score(kernel, mask=mask), 2, rtol=1e-5)
    assert metrics.vendi_score(kernel, mask=mask & False) == 0


def test_clique_against_all_pairs(x64):
    x = np.random.default_rng(0).normal(size=(6, 3))
    x[4] = 0
    unit = x / np.maximum(np.linalg.norm(x, axis=-1, keepdims=True), 1e-300)
    distance = 1 - unit @ unit.T
    pairs = np.triu_indices(6, 1)
    np.testing.assert_allclose(
        metrics.remote_clique(x), distance[pairs].mean(), rtol=1e-12
    )
    mask = np.arange(6) < 3
    x[3:] = np.nan
    np.testing.assert_allclose(
        metrics.remote_clique(x, mask=mask),
        distance[:3, :3][np.triu_indices(3, 1)].mean(),
        rtol=1e-12,
    )
    assert metrics.remote_clique(np.ones((5, 3))) < 1e-15
    assert metrics.remote_clique(x[:1]) == 0


def test_coverage_of_embeddings():
    x = np.float32([[0, 0], [9, 9]])
    r = np.float32([[0, 1], [3, 0], [9, 9], [np.nan, 0]])
    mask = np.array([True, True, True, False])
    got = metrics.embedding_coverage(x, r, radius=1.0, reference_mask=mask)
    assert float(got.sum) == 2
    assert int(got.count) == 3
    none = metrics.embedding_coverage(
        x, r, radius=1.0, mask=np.zeros(2, bool), reference_mask=mask
    )
    assert float(none.sum) == 0


def test_bad_arguments():
    for call, message in (
        (lambda: plain.distinct_n([[1]], 0), "n is 0"),
        (lambda: plain.self_bleu([[1], [2]], eps=0.0), "eps is 0.0"),
        (lambda: plain.distinct_n([[[1]]], 1), r"a text of shape \(1, 1\)"),
        (lambda: plain.compression_ratio([]), "sequences is empty"),
        (lambda: plain.vendi_score(np.ones((2, 3))), "kernel has shape"),
        (lambda: plain.vendi_score(np.eye(2), -1.0), "q is -1.0"),
        (
            lambda: plain.embedding_coverage(
                np.ones((1, 2)), np.ones((1, 3)), radius=1.0
            ),
            "embeddings has shape",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
