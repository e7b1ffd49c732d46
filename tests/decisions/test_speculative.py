import jax
import numpy as np
import pytest
from harness.interpreter import functions
from scipy.special import softmax

from logitlab import decisions

plain = decisions  # in which concrete tokens and numbers are checked
decisions = functions(decisions)


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape) * 2


def test_one_token_is_the_targets_own(x64):
    """Accepted or replaced, every token comes with the target's probability."""
    q, p = draw(0, 5, 6), draw(1, 5, 6)
    probs, drafts = softmax(p, -1), softmax(q, -1)
    accept = drafts * np.minimum(1, probs / drafts)
    alpha = decisions.acceptance_rate(q, p)
    np.testing.assert_allclose(alpha, accept.sum(-1), rtol=1e-12)
    np.testing.assert_allclose(alpha, 1 - np.abs(probs - drafts).sum(-1) / 2)
    rest = decisions.residual_distribution(q, p)
    whole = accept + (1 - alpha)[:, None] * rest
    np.testing.assert_allclose(whole, probs, atol=1e-12)
    np.testing.assert_allclose(decisions.residual_distribution(p, p), probs)
    assert decisions.acceptance_rate(np.zeros(2), np.zeros(2)) == 1
    apart = np.array([[900.0, 0], [0, 900]])
    assert decisions.acceptance_rate(*apart) == 0


def test_sampling_follows_the_target():
    q, p = draw(0, 2, 4).astype("f4"), draw(1, 3, 4).astype("f4")
    keys = jax.random.split(jax.random.key(0), 20_000)

    @jax.jit
    @jax.vmap
    def rounds(key):
        first, second = jax.random.split(key)
        drafts = jax.random.categorical(first, q)
        return decisions.speculative_sample(second, q, p, drafts)

    tokens, accepted = map(np.asarray, rounds(keys))
    first = np.bincount(tokens[:, 0], minlength=4) / len(keys)
    np.testing.assert_allclose(first, softmax(p[0]), atol=0.015)
    second = tokens[accepted >= 1, 1]
    second = np.bincount(second, minlength=4) / len(second)
    np.testing.assert_allclose(second, softmax(p[1]), atol=0.02)
    bonus = tokens[accepted == 2, 2]
    bonus = np.bincount(bonus, minlength=4) / len(bonus)
    np.testing.assert_allclose(bonus, softmax(p[2]), atol=0.04)
    alpha = np.asarray(decisions.acceptance_rate(q, p[:2]))
    np.testing.assert_allclose((accepted >= 1).mean(), alpha[0], atol=0.015)
    ends = np.arange(3) > accepted[:, None]
    assert (tokens[ends] == -1).all()
    assert (tokens[~ends] >= 0).all()


def test_greedy():
    p = np.eye(4, dtype="f4")[[1, 2, 3]] * 5
    run = lambda drafts: decisions.speculative_sample(  # noqa: E731
        jax.random.key(0), np.zeros((2, 4), "f4"), p, np.array(drafts), greedy=True
    )
    for drafts, tokens, accepted in (
        ([1, 2], [1, 2, 3], 2),
        ([1, 0], [1, 2, -1], 1),
        ([0, 2], [1, -1, -1], 0),
    ):
        got = run(drafts)
        np.testing.assert_array_equal(got.tokens, tokens)
        assert got.accepted == accepted


def test_lengths():
    length = decisions.expected_accepted_length
    alpha = np.float32([0, 0.5, 1])
    np.testing.assert_allclose(length(alpha, 4), [0, 0.9375, 4])
    np.testing.assert_allclose(length(alpha, 4, bonus=True), [1, 1.9375, 5])
    fast = decisions.speculative_speedup(3.0, 5, draft_cost=0.08, verify_cost=1.1)
    np.testing.assert_allclose(fast, 2, rtol=1e-6)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda z: plain.acceptance_rate(z, z[:1]), "target_logits has shape"),
        (
            lambda z: plain.acceptance_rate(z, z, temperature=0.0),
            "temperature is 0.0",
        ),
        (
            lambda z: plain.speculative_sample(None, z, z, np.zeros(2, int)),
            r"target_logits has shape \(2, 3\), expected \(3, 3\)",
        ),
        (
            lambda z: plain.speculative_sample(None, z[:1], z, np.array([3])),
            "labels outside",
        ),
        (lambda z: plain.expected_accepted_length(0.5, -1), "gamma is -1"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(np.zeros((2, 3), np.float32))


def test_where_nothing_was_drafted_the_target_draws():
    p, q = np.log([0.7, 0.2, 0.1]), np.log([0.1, 0.2, 0.7])
    draft = np.broadcast_to(np.float32(q), (4000, 1, 3))
    target = np.broadcast_to(np.float32(p), (4000, 2, 3))
    key = jax.random.key(0)
    none = np.full((4000, 1), -1)
    for dtype in ("i8", "i1"):
        got = decisions.speculative_sample(key, draft, target, none.astype(dtype))
        assert (got.accepted == 0).all()
        share = np.bincount(np.asarray(got.tokens[:, 0]), minlength=3) / 4000
        np.testing.assert_allclose(share, np.exp(p), atol=0.03)
    greedy = decisions.speculative_sample(key, draft[:1], target[:1], none[:1] - 99,
                                          greedy=True)  # fmt: skip
    np.testing.assert_array_equal(greedy.tokens, [[0, -1]])
