import itertools
import math

import jax
import numpy as np
import pytest
from harness.goldens import cases

from logitlab import metrics

CASES = cases("trustjudge")
SIGNS = {">": 1, "<": -1, "=": 0, "larger": 1, "smaller": -1, "equal": 0}
P = np.float32([0.2, 0.5, 0.3])


@pytest.mark.parametrize("case", CASES)
def test_golden(case, x64):
    given = {k: np.array(v) for k, v in case["inputs"].items()}
    params, want = case["params"], case["outputs"]
    p12, p21 = (given[f"pair_probs_order{i}_ABC"] for i in (1, 2))
    logps = [
        given[f"cumulative_logprob_order{i}"] / given["token_count"] for i in (1, 2)
    ]

    @jax.jit
    def run(p):
        both = metrics.pairwise_from_bidirectional
        relations = {
            "baseline": both(p12, p21, method="agreement"),
            "likelihood": both(p12, p21),
            "likelihood_tol0.1": both(p12, p21, tolerance=0.1),
            "ppl": metrics.pairwise_from_perplexity(p12, p21, *logps),
        }
        scores = {
            "score_softmax_weighted": metrics.expected_score(
                p, method="log_odds", temperature=params["T"], eps=params["eps"]
            ),
            "score_geval": metrics.expected_score(p, method="g_eval"),
        }
        return scores, relations

    scores, relations = run(given["score_probs"])
    for name, got in scores.items():
        np.testing.assert_allclose(got, want[name], rtol=1e-9)
    assert relations.keys() == want["relation"].keys()
    for name, got in relations.items():
        np.testing.assert_array_equal(got, [SIGNS[r] for r in want["relation"][name]])


def test_triples_golden():
    table = CASES[0]["outputs"]["transitivity_table"]
    assert len(table) == 27
    triples = np.zeros((27, 3, 3), int)
    at = (np.array([0, 1, 0]), np.array([1, 2, 2]))
    triples[:, *at] = [[SIGNS[r] for r in name] for name in table]

    @jax.jit
    @jax.vmap
    def run(relations):
        ratio = metrics.non_transitivity_ratio
        return {
            fault: ratio(relations, fault=fault).sum
            for fault in ("any", "circle", "equal")
        }

    got = run(triples)
    verdicts = np.array(list(table.values()))
    np.testing.assert_array_equal(got["any"], verdicts != "ok")
    np.testing.assert_array_equal(got["circle"], verdicts == "circle")
    np.testing.assert_array_equal(got["equal"], verdicts == "equal")


def test_sets_of_any_size():
    rng = np.random.default_rng(0)
    n, questions = 6, 5
    r = rng.integers(-1, 2, (questions, n, n))
    scores = rng.integers(0, 4, (questions, n))
    r[0] = np.sign(scores[0][:, None] - scores[0])  # consistent

    def wrong(r, i, j, k):
        # A weak order makes no triple of scores impossible.
        return not any(
            np.sign(x - y) == r[i, j]
            and np.sign(y - z) == r[j, k]
            and np.sign(x - z) == r[i, k]
            for x, y, z in itertools.product(range(3), repeat=3)
        )

    sizes = (3, 4, 6)
    ratios = jax.jit(lambda r: [metrics.non_transitivity_ratio(r, k=k) for k in sizes])(
        r
    )
    for k, got in zip(sizes, ratios, strict=True):
        faults = [
            any(wrong(one, *triple) for triple in itertools.combinations(some, 3))
            for one in r
            for some in itertools.combinations(range(n), k)
        ]
        assert got.count == questions * math.comb(n, k)
        assert got.sum == sum(faults)
    pairs = list(itertools.combinations(range(n), 2))
    conflicts = jax.jit(metrics.conflict_ratio)
    got = conflicts(scores.astype("f4"), r)
    assert got.count == questions * len(pairs)
    assert got.sum == sum(
        np.sign(s[i] - s[j]) != one[i, j]
        for s, one in zip(scores, r, strict=True)
        for i, j in pairs
    )
    near, tie = np.float32([1, 1.4]), np.zeros((2, 2), int)
    for tolerance, want in ((0.3, 1), (0.5, 0)):
        assert float(conflicts(near, tie, tolerance=tolerance)) == want


def test_scores():
    p = np.float32([0.1, 0.2, 0.7])
    scores = np.log(np.stack([p, 1e3 * p, 0 * p + 1, p]))
    scores[-1] = -np.inf

    @jax.jit
    def run(z, p, temperature):
        score = metrics.expected_score
        odds = score(p, method="log_odds", temperature=temperature)
        return score(z), score(z, scale_to=6), odds

    sure = np.float32([[0, 1, 0], [0.2, 1, 0.2], [0.5, 0.5, 0.5], p])
    plain, scaled, odds = run(scores, sure, 0.2)
    np.testing.assert_allclose(plain, [2.6, 2.6, 2, np.nan], rtol=1e-6)
    np.testing.assert_allclose(scaled, [5.2, 5.2, 4, np.nan], rtol=1e-6)
    np.testing.assert_allclose(odds, [0, 2, 2, 2.999985], rtol=1e-6)


def test_verdicts():
    even = np.float32([0.4, 0.4, 0.2])
    both = jax.jit(metrics.pairwise_from_bidirectional)
    assert both(even, even, tolerance=0.0) == 1  # the first of equals
    assert both(even, even, tolerance=0.1) == 0
    same, far = np.float32(-1), np.float32(-1e4)
    perplexity = jax.jit(metrics.pairwise_from_perplexity)
    assert perplexity(P, P, same, same) == 0
    assert perplexity(P, P, far, far - 1) == 0  # both infinite
    assert perplexity(P, P, same, far) == -1
    assert perplexity(P, P, far, same) == 1
    assert perplexity(P, P, same, same - 1, tolerance=5.0) == 0
    assert perplexity(even, even, same, far) == 1  # A, whichever answer that is
    assert perplexity(even, even, far, same) == -1


SQUARE = np.zeros((4, 4), int)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: metrics.expected_score(P, method="mean"), "method is 'mean'"),
        (lambda: metrics.expected_score(P, temperature=0.0), "temperature is 0.0"),
        (lambda: metrics.expected_score(P, scale_to=0), "scale_to is 0"),
        (
            lambda: metrics.pairwise_from_bidirectional(P, P[:2]),
            r"p12 has shape \(3,\), p21 \(2,\)",
        ),
        (
            lambda: metrics.pairwise_from_bidirectional(P, P, method="both"),
            "method is 'both'",
        ),
        (
            lambda: metrics.pairwise_from_bidirectional(P, P, tolerance=-1.0),
            "tolerance is -1.0",
        ),
        (
            lambda: metrics.pairwise_from_perplexity(P, P, P[0], P),
            r"mean_logp21 has shape \(3,\), expected \(\)",
        ),
        (
            lambda: metrics.conflict_ratio(P, SQUARE),
            r"relations has shape \(4, 4\), expected \(3, 3\)",
        ),
        (
            lambda: metrics.non_transitivity_ratio(SQUARE[:3]),
            r"relation_matrix has shape \(3, 4\)",
        ),
        (
            lambda: metrics.non_transitivity_ratio(SQUARE, k=5),
            "k is 5, expected 3 to 4",
        ),
        (lambda: metrics.non_transitivity_ratio(SQUARE, fault="tie"), "fault is 'tie'"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_wrong_types():
    with pytest.raises(TypeError, match="relations has dtype float"):
        metrics.conflict_ratio(P, np.zeros((3, 3)))
