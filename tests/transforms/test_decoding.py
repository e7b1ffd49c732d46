"""Processors: alone, in chains, along drafts, and what they refuse."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.cases import quick_jit
from harness.interpreter import interpreted
from harness.meshes import COLLECTIVE
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from logitlab import transforms

V = 7
NONE = np.array([[-1], [-1]])


def draw(seed=0, *shape):
    return (np.random.default_rng(seed).normal(size=shape or (2, V)) * 2).astype("f4")


def apply(processor, z, tokens=NONE, state=None):
    state = processor.init(len(z)) if state is None else state
    return interpreted(processor.apply)(z, tokens, state)


def whole_chain(temperatures=(0.7, 1.3)):
    prior = transforms.fit_ngram_prior([0, 1, 2, 0, 1, 3], V)
    return transforms.chain(
        transforms.suppress(vocab_size=V, decay=0.5),
        transforms.repetition_penalty(1.3, vocab_size=V),
        transforms.presence_penalty(0.5, vocab_size=V),
        transforms.frequency_penalty(0.2, vocab_size=V),
        transforms.ngram_prior(prior, 0.3),
        transforms.no_repeat_ngrams(2, max_length=6),
        transforms.min_length(2, end=0),
        transforms.add_bias(np.arange(V) / 10),
        transforms.divide_by_temperature(np.float32(temperatures)),
        transforms.top_k(5),
        transforms.typical_p(0.99),
        transforms.top_p(0.95),
        transforms.min_p(0.01),
    )


@pytest.mark.optimized
def test_a_scan_is_a_loop_bit_for_bit():
    chain = whole_chain()
    logits, key = draw(0, 6, 2, V), jax.random.key(0)
    keys = jax.random.split(key, 6)

    def step(carry, one):
        tokens, state = carry
        z, key = one
        z, state = chain.apply(z, tokens, state, key=key)
        token = jax.random.categorical(key, z).astype(jnp.int32)
        return (token[:, None], state), z

    start = jnp.int32(NONE), chain.init(2)
    (_, state), scanned = jax.jit(lambda c, x: jax.lax.scan(step, c, x))(
        start, (logits, keys)
    )
    carry, looped, once = start, [], jax.jit(step)
    for z, own in zip(logits, keys, strict=True):
        carry, out = once(carry, (z, own))
        looped.append(out)
    np.testing.assert_array_equal(scanned, np.stack(looped))
    for a, b in zip(jax.tree.leaves(state), jax.tree.leaves(carry[1]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_an_empty_chain_and_neutral_arguments_return_the_bits():
    z = draw()
    z[0, 2], z[1, 3] = -np.inf, -0.0
    tokens = np.array([[1, 2], [3, -1]])
    neutral = (
        transforms.chain(),
        transforms.chain(
            transforms.divide_by_temperature(1.0),
            transforms.suppress(0.0, vocab_size=V),
            transforms.repetition_penalty(1.0, vocab_size=V),
            transforms.top_p(1.0),
            transforms.top_k(V),
            transforms.guide_classifier_free(transforms.chain(), scale=1.0),
        ),
    )
    for processor in neutral:
        for dtype in ("f4", "bfloat16"):
            got, _ = apply(processor, z.astype(dtype), tokens)
            assert got.dtype == np.float32
            want = z.astype(dtype).astype("f4")
            np.testing.assert_array_equal(got.view(np.int32), want.view(np.int32))


def test_sets_and_biases():
    z = draw()
    marks = np.isin(np.arange(V), [1, 4])
    for tokens in ([1, 4], marks, np.stack([marks] * 2)):
        got, _ = apply(transforms.ban_tokens(tokens), z)
        np.testing.assert_array_equal(got, np.where(marks, -np.inf, z))
        got, _ = apply(transforms.allow_tokens(tokens), z)
        np.testing.assert_array_equal(got, np.where(marks, z, -np.inf))
    for bias in (np.arange(V) / 4, np.arange(2 * V).reshape(2, V) / 4):
        got, _ = apply(transforms.add_bias(bias), z)
        np.testing.assert_array_equal(got, z + bias.astype("f4"))
    got, _ = apply(transforms.divide_by_temperature(np.float32([2, 0.5])), z)
    np.testing.assert_array_equal(got, z / np.float32([[2], [0.5]]))


def test_drafts_see_their_own_past():
    """A chain of drafts, and a tree, against one call after another."""
    processor = transforms.chain(
        transforms.frequency_penalty(1.0, vocab_size=V),
        transforms.no_repeat_ngrams(2, max_length=8),
    )
    prompt, drafts = np.array([[1, 2], [3, -1]]), np.array([[2, 1, 2], [3, 3, 3]])
    z = draw(0, 2, 4, V)
    for parents in (None, np.array([-1, 0, 0]), np.array([[-1, -1, 1], [-1, 0, 1]])):
        run = interpreted(
            lambda z, drafts, parents=parents: transforms.process_drafts(
                processor, z, prompt, drafts, processor.init(2), parents=parents
            )
        )
        got, states = run(z, drafts)
        call = interpreted(processor.apply)
        above = np.array([-1, 0, 1]) if parents is None else parents
        above = np.broadcast_to(above, (2, 3))
        for row in range(2):
            for node in range(4):
                path, at = [], node - 1
                while at >= 0:
                    path, at = [at, *path], above[row, at]
                one, state = call(z[:, 0], prompt, processor.init(2))
                for at in path:
                    token = np.full((2, 1), drafts[row, at])
                    one, state = call(z[:, at + 1], token, state)
                np.testing.assert_array_equal(got[row, node], one[row])
                rolled = transforms.take_state(states, np.array([node, node]))
                for a, b in zip(
                    jax.tree.leaves(rolled), jax.tree.leaves(state), strict=True
                ):
                    np.testing.assert_array_equal(a[row], b[row])


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit])
def test_a_batch_may_be_sharded(kind):
    chain = whole_chain(np.linspace(0.7, 1.3, 8))
    z, tokens = draw(0, 8, V), np.arange(8, dtype=np.int32)[:, None] % V - 1
    state = chain.init(8)
    want, after = interpreted(chain.apply)(z, tokens, state)
    mesh = jax.make_mesh((4,), ("data",), (kind,))
    rows = NamedSharding(mesh, P("data"))
    placed = jax.device_put((z, tokens, state), rows)
    program = quick_jit(chain.apply).lower(*placed).compile()
    assert not COLLECTIVE.findall(program.as_text())
    got, moved_on = program(*placed)
    np.testing.assert_allclose(got, want, rtol=1e-5)
    assert got.sharding.is_equivalent_to(rows, 2)
    for a, b in zip(jax.tree.leaves(moved_on), jax.tree.leaves(after), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-6)


def test_a_batch_may_be_mapped():
    chain = whole_chain()
    z = draw(0, 4, 2, V)
    states = jax.tree.map(lambda a: jnp.stack([a] * 4), chain.init(2))
    one = lambda z, state: chain.apply(z, NONE, state)[0]  # noqa: E731
    mapped = interpreted(jax.vmap(one))(z, states)
    for i in range(4):
        np.testing.assert_allclose(mapped[i], apply(chain, z[i])[0], rtol=1e-6)


def test_bad_arguments():
    z, chain = draw(), transforms.chain()
    counting = transforms.presence_penalty(1.0, vocab_size=V)
    for call, message in (
        (lambda: chain.apply(z, NONE, chain.init(3)), r"expected a state of init\(2\)"),
        (
            lambda: transforms.top_p(0.5).apply(z, NONE, jnp.zeros((3, 0))),
            r"expected a state of init\(2\)",
        ),
        (lambda: chain.apply(z, np.zeros((2, 0), int), chain.init(2)), "at least 1"),
        (lambda: chain.apply(z, np.zeros(2, int), chain.init(2)), "tokens has shape"),
        (lambda: chain.apply(z, NONE + V + 1, chain.init(2)), "tokens reach 7"),
        (lambda: chain.apply(z[0], NONE, chain.init(2)), "logits has shape"),
        (lambda: chain.init(0), "batch is 0"),
        (lambda: counting.apply(z[:, 1:], NONE, counting.init(2)), "for vocab_size 7"),
        (lambda: transforms.divide_by_temperature(0.0), "temperature is 0.0"),
        (lambda: apply(transforms.ban_tokens([V]), z), r"tokens outside \[0, 7\)"),
        (lambda: apply(transforms.allow_tokens([[1]]), z), "expected ids"),
        (lambda: apply(transforms.add_bias(np.zeros(3)), z), "bias has shape"),
        (
            lambda: transforms.process_drafts(chain, z, NONE, NONE, chain.init(2)),
            r"expected \[B, N \+ 1, V\]",
        ),
        (
            lambda: transforms.process_drafts(
                chain, draw(0, 2, 2, V), NONE, NONE, chain.init(2), parents=[0]
            ),
            "the place of an earlier draft",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
    with pytest.raises(TypeError, match="expected processors"):
        transforms.chain(1.0)
