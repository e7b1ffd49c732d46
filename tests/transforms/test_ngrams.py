import jax
import numpy as np
import pytest
from harness.interpreter import functions, interpreted

from logitlab import transforms

plain = transforms
transforms = functions(transforms)
TEXT = np.random.default_rng(0).integers(0, 5, 120)


def counted(text, context, n, vocab):
    """By reading the whole text."""
    context = tuple(context[len(context) - n + 1 :]) if n > 1 else ()
    want = np.zeros(vocab)
    for i in range(len(text) - n + 1):
        if tuple(text[i : i + n - 1]) == context:
            want[text[i + n - 1]] += 1
    return want


def test_counts_are_those_of_the_text():
    prior = plain.fit_ngram_prior(TEXT, 7, order=4, smoothing=0.5)
    contexts = np.random.default_rng(1).integers(-1, 6, (40, 4))
    counts, matched = transforms.ngram_counts(prior, contexts)
    log_probs, again = transforms.ngram_log_probs(prior, contexts)
    np.testing.assert_array_equal(matched, again)
    for i, context in enumerate(contexts):
        for n in range(1, 5):
            want = counted(TEXT, context, n, 7)
            np.testing.assert_array_equal(counts[i, n - 1], want)
            assert matched[i, n - 1] == (want.sum() > 0)
            p = (want + 0.5) / (want + 0.5).sum()
            np.testing.assert_allclose(np.exp(log_probs[i, n - 1]), p, rtol=1e-5)


def test_texts_of_a_list_do_not_touch():
    whole = plain.fit_ngram_prior(TEXT, 5, order=3)
    parts = plain.fit_ngram_prior([TEXT[:50], TEXT[50:51], TEXT[51:]], 5, order=3)
    np.testing.assert_array_equal(whole.counts[0], parts.counts[0])
    lost = [
        int(np.sum(a) - np.sum(b))
        for a, b in zip(whole.counts, parts.counts, strict=True)
    ]
    assert lost == [0, 2, 3]
    short = plain.fit_ngram_prior([1], 3, order=3)
    counts, matched = transforms.ngram_counts(short, np.array([0, 1]))
    assert counts[1:].sum() == 0
    assert matched.tolist() == [True, False, False]


@pytest.mark.parametrize("mode", ["sum", "mixture"])
def test_logits_by_hand(mode):
    rng = np.random.default_rng(0)
    z = rng.normal(size=(4, 5)).astype("f4")
    p = rng.dirichlet(np.ones(5), (4, 3))
    matched = np.array([[1, 1, 1], [1, 0, 1], [1, 0, 0], [0, 0, 0]], bool)
    log_p = np.where(matched[..., None], np.log(p), np.nan).astype("f4")
    strength = np.float32([0.5, 1, 2, 1])
    got = transforms.ngram_prior_logits(z, log_p, matched, strength=strength, mode=mode)
    for i in range(3):
        w = np.array([0.1, 0.3, 0.6]) * matched[i]
        w /= w.sum()
        prior = w @ np.log(p[i]) if mode == "sum" else np.log(w @ p[i])
        np.testing.assert_allclose(got[i], z[i] + strength[i] * prior, rtol=2e-5)
    np.testing.assert_array_equal(got[3], z[3])
    got = transforms.ngram_prior_logits(z, log_p, matched, strength=0.0, mode=mode)
    np.testing.assert_array_equal(got, z)
    where = np.arange(5)[None] < 3
    got = transforms.ngram_prior_logits(z, log_p, matched, strength=1.0, where=where)
    assert (got[:, 3:] == -np.inf).all()
    total = lambda z: plain.ngram_prior_logits(  # noqa: E731
        z, log_p, matched, strength=1.0
    ).sum()
    slope = interpreted(jax.grad(total))(z)
    np.testing.assert_array_equal(slope, np.ones_like(z))


def test_bad_arguments():
    prior = plain.fit_ngram_prior(TEXT, 5)
    z, log_p = np.zeros((2, 5), "f4"), np.zeros((2, 3, 5), "f4")
    seen = np.ones((2, 3), bool)
    for call, message in (
        (lambda: plain.fit_ngram_prior([], 5), "tokens is empty"),
        (lambda: plain.fit_ngram_prior([5], 5), "tokens reach from 5 to 5"),
        (lambda: plain.fit_ngram_prior(TEXT, 5, smoothing=0.0), "smoothing is 0.0"),
        (lambda: plain.fit_ngram_prior(TEXT, 5, order=0), "order is 0"),
        (lambda: plain.ngram_counts(prior, np.array([1])), "context has shape"),
        (lambda: plain.ngram_counts(prior, np.array([1, 5])), "context reaches 5"),
        (
            lambda: plain.ngram_prior_logits(z[:1], log_p, seen, strength=1.0),
            "ngram_log_probs has shape",
        ),
        (
            lambda: plain.ngram_prior_logits(z, log_p, seen, strength=-1.0),
            "strength is -1.0",
        ),
        (
            lambda: plain.ngram_prior_logits(z, log_p, seen, strength=1.0, mode="max"),
            "mode is 'max'",
        ),
        (
            lambda: plain.ngram_prior_logits(
                z, log_p, seen, strength=1.0, weights=(1, 1)
            ),
            "weights has shape",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="tokens has dtype float64"):
        plain.fit_ngram_prior([0.5], 5)
