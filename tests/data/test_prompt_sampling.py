import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from logitlab import rl

select = jax.jit(
    rl.beta_sampler_select,
    static_argnums=2,
    static_argnames="gain",
    compiler_options={"xla_backend_optimization_level": 0},
)


def test_update():
    state = rl.BetaSampler(np.float32([3, 5, 1]), np.float32([1, 2, 4]))
    got = jax.jit(rl.beta_sampler_update)(
        state,
        np.array([1, 2]),
        np.array([8, 2]),
        8,
    )
    g, s = 0.999, 0.95
    alpha = [1 + g * 2, 1 + s * g * 4 + 8, 1 + 2]
    beta = [1, 1 + s * g * 1, 1 + s * g * 3 + 6]
    np.testing.assert_allclose(got.alpha, alpha, rtol=1e-6)
    np.testing.assert_allclose(got.beta, beta, rtol=1e-6)


def test_counting_without_forgetting():
    count = functools.partial(
        rl.beta_sampler_update, decay_sample=1.0, decay_global=1.0
    )
    state = rl.beta_sampler_init(4)
    # Twice in a batch, with rollouts of each, is twice.
    state = count(state, np.array([3, 0, 3]), np.array([1, 0, 2]), np.array([4, 2, 3]))
    np.testing.assert_array_equal(state.alpha, [1, 1, 1, 4])
    np.testing.assert_array_equal(state.beta, [3, 1, 1, 5])
    # Under jit what is no prompt is nobody.
    same = jax.jit(count)(state, np.array([4, -1]), np.array([1, 1]), 1)
    for new, old in zip(same, state, strict=True):
        np.testing.assert_array_equal(new, old)


def test_selection():
    n = 50
    sure = rl.BetaSampler(jnp.full(n, 1e4), jnp.linspace(1e4, 1e6, n))
    got = np.asarray(select(sure, jax.random.key(0), n))
    assert set(got[:5]) == set(range(5))  # the nearest to a half
    assert set(got) == set(range(n))
    hard = np.asarray(select(sure, jax.random.key(0), 5, gain=lambda p: -p))
    assert set(hard) == set(range(n - 5, n))
    # Those of whom nothing is known take turns.
    fresh = rl.beta_sampler_init(n)
    drawn = [np.asarray(select(fresh, jax.random.key(i), n))[:5] for i in range(20)]
    assert len(np.unique(drawn)) > n / 2


@pytest.mark.slow
def test_it_finds_groups_that_say_something():
    """Success with the odds of a skill, which grows where a group has both outcomes."""
    prompts, batch, steps, rollouts = 2000, 64, 150, 8

    @jax.jit
    def informative(key, adaptive):
        skill_key, key = jax.random.split(key)
        skill = 3 * jax.random.normal(skill_key, (prompts,)) - 1

        def step(carry, key):
            state, skill = carry
            choose, roll = jax.random.split(key)
            by_chance = jax.random.permutation(choose, prompts)[:batch]
            idx = rl.beta_sampler_select(state, choose, batch)
            idx = jnp.where(adaptive, idx, by_chance)
            rate = jax.nn.sigmoid(skill[idx])[:, None]
            right = jax.random.bernoulli(roll, rate, (batch, rollouts)).sum(-1)
            says = (right > 0) & (right < rollouts)
            state = rl.beta_sampler_update(state, idx, right, rollouts)
            return (state, skill.at[idx].add(0.6 * says) + 0.003), says.mean()

        start = rl.beta_sampler_init(prompts), skill
        share = jax.lax.scan(step, start, jax.random.split(key, steps))[1]
        return jnp.stack([share[:50].mean(), share[50:].mean()])

    early, later = informative(jax.random.key(0), True)
    early_by_chance, later_by_chance = informative(jax.random.key(0), False)
    assert early > early_by_chance + 0.07
    assert later > later_by_chance + 0.02


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda s: rl.beta_sampler_init(0), "n is 0, expected at least 1"),
        (
            lambda s: rl.beta_sampler_select(s, jax.random.key(0), 4),
            "batch is 4, expected 1 to 3",
        ),
        (
            lambda s: rl.beta_sampler_update(s, np.arange(2), np.ones(3), 8),
            r"correct has shape \(3,\), idx \(2,\)",
        ),
        (
            lambda s: rl.beta_sampler_update(s, np.arange(2), np.ones(2), np.ones(3)),
            r"total has shape \(3,\), expected \(\) or \(2,\)",
        ),
        (
            lambda s: rl.beta_sampler_update(s, np.array([1, 3]), np.ones(2), 8),
            r"idx holds \[3\], expected numbers of prompts, 0 to 2",
        ),
        (
            lambda s: rl.beta_sampler_update(s, np.arange(2), np.array([9, 1]), 8),
            r"correct holds \[9\]",
        ),
        (
            lambda s: rl.beta_sampler_update(
                s, np.arange(1), np.ones(1), 8, decay_sample=1.5
            ),
            "decay_sample is 1.5",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(rl.beta_sampler_init(3))


def test_wrong_types():
    with pytest.raises(TypeError, match="idx has dtype float"):
        rl.beta_sampler_update(rl.beta_sampler_init(3), np.float32([1]), np.ones(1), 8)
