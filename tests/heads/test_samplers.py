import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from logitlab import heads

log_uniform = jax.jit(
    heads.log_uniform_sample, static_argnums=(1, 2), static_argnames="unique"
)
uniform = jax.jit(heads.uniform_sample, static_argnums=(1, 2), static_argnames="unique")


@pytest.mark.parametrize("vocab", [7, 1000, 50_000])
def test_log_uniform_frequencies(vocab):
    num = 400_000
    ids, log_q, tries = log_uniform(jax.random.key(1), num, vocab, unique=False)
    assert tries == num
    assert ids.min() >= 0
    assert ids.max() < vocab
    k = np.arange(vocab)
    expected = num * np.log1p(1 / (k + 1)) / np.log(vocab + 1)
    np.testing.assert_allclose(expected.sum(), num)
    np.testing.assert_allclose(np.exp(log_q), expected[ids], rtol=1e-4)
    # Classes in groups of 500 or more.
    group = (np.cumsum(expected) // 500).astype(int)
    want = np.bincount(group, expected)
    got = np.bincount(group, np.bincount(ids, minlength=vocab))
    some = want > 0
    chi2, dof = ((got - want)[some] ** 2 / want[some]).sum(), some.sum()
    assert chi2 < dof + 4 * np.sqrt(2 * dof)


def test_log_uniform_without_replacement():
    vocab, num, runs = 50, 16, 20_000
    draw = jax.jit(
        jax.vmap(lambda key: heads.log_uniform_sample(key, num, vocab, unique=True))
    )
    ids, log_q, tries = draw(jax.random.split(jax.random.key(0), runs))
    ids = np.asarray(ids)
    assert (np.sort(ids, 1)[:, 1:] > np.sort(ids, 1)[:, :-1]).all()
    assert tries.min() >= num
    # The first of a sample is a plain draw: a class is in the place it came in.
    p = np.log1p(1 / np.arange(1, vocab + 1)) / np.log(vocab + 1)
    first = np.bincount(ids[:, 0], minlength=vocab) / runs
    np.testing.assert_allclose(first[:5], p[:5], rtol=0.05)
    # Inclusion, against the mean of the claims, and against another sampler: NumPy's
    # choice without replacement draws in turn as well.
    seen = np.bincount(ids.ravel(), minlength=vocab) / runs
    q = -np.expm1(np.asarray(tries, "f8")[:, None] * np.log1p(-p[None])).astype("f8")
    np.testing.assert_allclose(q.mean(0), seen, rtol=0.06)
    np.testing.assert_allclose(np.exp(log_q[0]), q[0][ids[0]], rtol=1e-4)
    rng = np.random.default_rng(0)
    theirs = [rng.choice(vocab, num, replace=False, p=p) for _ in range(4000)]
    theirs = np.bincount(np.concatenate(theirs), minlength=vocab) / 4000
    np.testing.assert_allclose(seen, theirs, atol=4 * np.sqrt(0.25 / 4000 * 1.2))
    label = heads.log_uniform_log_q(np.arange(vocab), vocab, tries[0], unique=True)
    np.testing.assert_allclose(label, np.log(q[0]), rtol=1e-3)


def test_num_tries_is_counted_draw_by_draw():
    """The block form against a draw at a time on the same stream."""
    from logitlab.heads import samplers

    vocab, num = 30, 12
    for seed in range(5):
        key = jax.random.key(seed)
        got = log_uniform(key, num, vocab, unique=True)
        seen, tries, block = [], 0, 0
        while len(seen) < num:
            stream = samplers._log_uniform(jax.random.fold_in(key, block), num, vocab)
            for k in stream.tolist():
                if len(seen) < num:
                    tries += 1
                    seen += [k] if k not in seen else []
            block += 1
        assert got.ids.tolist() == seen
        assert got.num_tries == tries


def test_uniform_sampler():
    keys = jax.random.split(jax.random.key(0), 5000)
    for unique in (False, True):
        draw = jax.vmap(functools.partial(uniform, unique=unique), (0, None, None))
        ids, log_q, tries = draw(keys, 4, 10)
        np.testing.assert_allclose(np.exp(log_q), 0.4, rtol=1e-6)
        assert (tries == 4).all()
        counts = np.bincount(np.ravel(ids), minlength=10) / len(keys)
        np.testing.assert_allclose(counts, 0.4, rtol=0.08)
        distinct = np.array([len(set(row)) for row in np.asarray(ids)[:100].tolist()])
        assert (distinct == 4).all() == unique


def test_all_of_the_vocabulary():
    for vocab in (1, 2, 9):
        for sample in (log_uniform, uniform):
            got = sample(jax.random.key(0), vocab, vocab, unique=True)
            assert sorted(got.ids.tolist()) == list(range(vocab))
            assert np.isfinite(got.log_q).all()


def test_streaming_frequency():
    """Items that come by at random: 1 / gap goes to how often."""
    p = np.array([0.5, 0.2, 0.05])
    steps = 8000
    shown = np.random.default_rng(0).uniform(size=(steps, 3)) < p

    def step(state, some):
        t, shown = some
        ids = jnp.where(shown, jnp.arange(3), -1)
        state, log_p = heads.streaming_frequency_update(state, ids, t, rate=0.01)
        return state, log_p

    state = heads.streaming_frequency_init(3, gap=10.0)
    steps = np.arange(1, steps + 1)
    state, log_p = jax.jit(lambda s: jax.lax.scan(step, s, (steps, shown)))(state)
    np.testing.assert_allclose(1 / state.gap, p, rtol=0.35)
    assert (np.isnan(log_p) == ~shown).all()
    np.testing.assert_allclose(
        np.exp(log_p[-200:][shown[-200:, 0], 0].mean()), 0.5, rtol=0.2
    )
    # A deterministic item is exact, and twice in a batch is once.
    state = heads.streaming_frequency_init(2, gap=3.0)
    for t in (3, 6, 9):
        state, log_p = heads.streaming_frequency_update(
            state, np.array([1, 1]), t, rate=0.5
        )
    assert state.gap.tolist() == [3, 3]
    assert state.last.tolist() == [0, 9]
    np.testing.assert_allclose(np.exp(log_p), 1 / 3, rtol=1e-6)
