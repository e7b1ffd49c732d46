"""Candidates and trees: every token comes with the target's probability."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted
from scipy.special import softmax
from scipy.stats import chisquare

from logitlab import decisions, transforms

DRAWS = 20_000


def draw(seed, *shape):
    return (np.random.default_rng(seed).normal(size=shape) * 1.5).astype("f4")


def outcome(p, q, candidates, replacement):
    """Distribution of the token by the rule itself, in float64."""
    p, q, left = p.copy(), q.copy(), 1.0
    found = np.zeros_like(p)
    for x in candidates:
        accept = min(1, p[x] / q[x]) if q[x] > 0 else 0
        found[x] += left * accept
        left *= 1 - accept
        rest = np.maximum(p - q, 0)
        p = rest / rest.sum() if rest.sum() > 0 else p
        if not replacement:
            q[x] = 0
            q = q / q.sum() if q.sum() > 0 else q
    return found + left * p


@pytest.mark.parametrize("replacement", [True, False])
def test_the_rule_is_exact(replacement):
    """By enumeration of all that may be drawn, and the function against the rule."""
    z_p, z_q = draw(0, 4), draw(1, 4)
    p, q = softmax(z_p.astype(float)), softmax(z_q.astype(float))
    total, every = np.zeros(4), []
    for candidates in itertools.product(range(4), repeat=3):
        chance, left = 1.0, q.copy()
        for x in candidates:
            chance *= left[x]
            if not replacement:
                left[x] = 0
                left /= max(left.sum(), 1e-300)
        if chance > 0:
            total += chance * outcome(p, q, candidates, replacement)
            every.append(candidates)
    np.testing.assert_allclose(total, p, atol=1e-12)
    candidates = np.array(every[5])
    run = jax.vmap(
        lambda key: decisions.speculative_candidates(
            key, z_q, z_p, candidates, replacement=replacement
        )
    )
    tokens, accepted = jax.jit(run)(jax.random.split(jax.random.key(0), DRAWS))
    want = outcome(p, q, candidates, replacement) * DRAWS
    counts = np.bincount(tokens, minlength=4)
    some = want > 0
    assert (counts[~some] == 0).all()
    assert chisquare(counts[some], want[some]).pvalue > 0.01
    ours = accepted >= 0
    np.testing.assert_array_equal(tokens[ours], candidates[accepted[ours]])


def test_chosen_candidates_and_greedy():
    z = draw(0, 4)
    p = softmax(z.astype(float))
    run = jax.vmap(
        lambda key: decisions.speculative_candidates(
            key, None, z, np.array([2, 2, -1, 1])
        )
    )
    tokens, accepted = jax.jit(run)(jax.random.split(jax.random.key(1), DRAWS))
    assert chisquare(np.bincount(tokens, minlength=4), p * DRAWS).pvalue > 0.01
    assert set(np.unique(accepted)) <= {-1, 0, 3}
    top = int(np.argmax(z))
    for candidates, place in (
        ([top], 0),
        ([-1, top], 1),
        ([(top + 1) % 4], -1),
        ([], -1),
    ):
        token, accepted = decisions.speculative_candidates(
            jax.random.key(0), None, z, np.array(candidates, int), greedy=True
        )
        assert (int(token), int(accepted)) == (top, place)


def best_tree(model, root, width, depth, nodes):
    """By lists: every level grows the best of the last one."""
    level = sorted(((root[v], (v,)) for v in range(len(root))), reverse=True)[:width]
    found = list(level)
    for _ in range(1, depth):
        grown = []
        for value, path in level:
            z = model[path[-1]]
            best = sorted(((z[v], v) for v in range(len(z))), reverse=True)[:width]
            grown += [(value + more, (*path, v)) for more, v in best]
        found += grown
        level = sorted(grown, reverse=True)[:width]
    return sorted(found, reverse=True)[:nodes]


def test_the_best_tree_grows():
    log_p = np.log(softmax(draw(0, 6, 6).astype(float), -1))
    roots = np.array([0, 3])

    def model(tokens, state):
        return jnp.asarray(log_p, jnp.float32)[tokens], state + 1

    tree = interpreted(
        lambda z: decisions.grow_draft_tree(
            model, z, jnp.zeros(2), width=3, depth=3, nodes=10
        )
    )(log_p[roots].astype("f4"))
    masks = interpreted(decisions.draft_tree_mask)(tree.parents)
    for row, root in enumerate(roots):
        want = best_tree(log_p, log_p[root], 3, 3, 10)
        tokens, parents, values = (np.asarray(a[row]) for a in tree)
        assert (parents < np.arange(10)).all()
        paths = []
        for i in range(10):
            above = paths[parents[i]] if parents[i] >= 0 else ()
            paths.append((*above, int(tokens[i])))
        assert set(paths) == {path for _, path in want}
        found = dict(zip(paths, values, strict=True))
        for value, path in want:
            np.testing.assert_allclose(found[path], value, rtol=1e-5)
        mask = masks[row]
        for i, j in itertools.product(range(10), repeat=2):
            assert mask[i, j] == (paths[i][: len(paths[j])] == paths[j])


def test_trees_follow_the_target_with_processors_on():
    """Two tokens of a target that is cut off and penalized, against their product."""
    vocab = 5
    target, draft = draw(2, vocab, vocab) / 2, draw(3, vocab, vocab)
    processor = transforms.chain(
        transforms.frequency_penalty(1.0, vocab_size=vocab),
        transforms.divide_by_temperature(0.8),
        transforms.top_p(0.9),
    )
    prompt = np.array([[1]])
    state = processor.init(1)
    first, _ = interpreted(processor.apply)(draft[[1]], prompt, state)

    def model(tokens, state):
        return jnp.asarray(draft)[tokens], state

    tree = interpreted(
        lambda z: decisions.grow_draft_tree(model, z, (), width=2, depth=2, nodes=5)
    )(first)
    seen = np.concatenate([prompt, np.asarray(tree.tokens)], 1)
    p, _ = interpreted(
        lambda z: transforms.process_drafts(
            processor, z, prompt, tree.tokens, state, parents=tree.parents
        )
    )(target[seen])
    run = jax.jit(
        jax.vmap(
            lambda key: decisions.speculative_tree(
                key, None, p, tree.tokens, tree.parents, max_children=2
            )
        )
    )
    out = jax.tree.map(
        lambda a: np.asarray(a)[:, 0], run(jax.random.split(jax.random.key(0), DRAWS))
    )
    want = softmax(np.asarray(p[0], float), -1)
    counts = np.bincount(out.tokens[:, 0], minlength=vocab)
    some = want[0] > 0
    assert (counts[~some] == 0).all()
    assert chisquare(counts[some], want[0, some] * DRAWS).pvalue > 0.01
    # After an accepted child the second token is the target's in that child's past.
    for node in np.flatnonzero(np.asarray(tree.parents[0]) < 0):
        if want[0, int(tree.tokens[0, node])] == 0:
            continue  # never accepted
        went = (out.accepted >= 1) & (out.tokens[:, 0] == int(tree.tokens[0, node]))
        second = np.bincount(out.tokens[went, 1], minlength=vocab)
        some = want[node + 1] > 0
        assert (second[~some] == 0).all()
        assert chisquare(second[some], want[node + 1, some] * went.sum()).pvalue > 0.01
    ends = np.arange(6) > out.accepted[:, None]
    assert (out.tokens[ends] == -1).all()
    assert (out.tokens[~ends] >= 0).all()
    assert ((out.node == -1) == (out.accepted == 0)).all()


def test_a_tree_without_branches_is_a_sequence():
    z = 9 * np.eye(4, dtype="f4")[[1, 2, 3]]
    for drafts, tokens, accepted, node in (
        ([1, 2], [1, 2, 3], 2, 1),
        ([1, 0], [1, 2, -1], 1, 0),
        ([0, 2], [1, -1, -1], 0, -1),
        ([-1, 2], [1, -1, -1], 0, -1),
    ):
        got = decisions.speculative_tree(
            jax.random.key(0),
            z[:3],
            z,
            np.array(drafts),
            np.array([-1, 0]),
            greedy=True,
        )
        np.testing.assert_array_equal(got.tokens, tokens)
        assert (got.accepted, got.node) == (accepted, node)


def test_bad_arguments():
    z, key = np.zeros((3, 4), "f4"), jax.random.key(0)
    model = lambda tokens, state: (jnp.zeros((*tokens.shape, 4)), state)  # noqa: E731
    for call, message in (
        (
            lambda: decisions.speculative_candidates(key, None, z, np.zeros(3, int)),
            "candidates has shape",
        ),
        (
            lambda: decisions.speculative_candidates(
                key, z[0, :3], z[0], np.array([1])
            ),
            "draft_logits has shape",
        ),
        (
            lambda: decisions.speculative_candidates(key, None, z[0], np.array([4])),
            r"outside \[0, 4\)",
        ),
        (
            lambda: decisions.speculative_tree(
                key, None, z, np.array([0, 1]), np.array([-1, 1])
            ),
            "the place of an earlier draft",
        ),
        (
            lambda: decisions.speculative_tree(
                key, None, z[:2], np.array([0, 1]), np.array([-1, 0])
            ),
            "target_logits has shape",
        ),
        (
            lambda: decisions.speculative_tree(
                key, None, z, np.array([0, 1]), np.array([-1, -1]), max_children=1
            ),
            "expected at least 2",
        ),
        (
            lambda: decisions.grow_draft_tree(model, z, (), width=5),
            "width is 5, expected at most 4",
        ),
        (
            lambda: decisions.grow_draft_tree(model, z, (), width=1, depth=2, nodes=3),
            "nodes is 3, expected at most 2",
        ),
        (lambda: decisions.draft_tree_mask(np.array([1, -1])), "earlier draft"),
    ):
        with pytest.raises(ValueError, match=message):
            call()
