import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from logitlab import estimators


@functools.partial(jax.jit, static_argnums=0)
def chain(score_fn, x, keys, step):
    def body(x, key):
        found = estimators.score_mh_step(key, x, score_fn, step=step)
        return found.x, found.accepted.mean()

    return jax.lax.scan(body, x, keys)


def test_moments_of_a_mixture():
    """Two modes of unequal weight, which the score alone tells apart by its integral.

    4000 chains: a mean is known to 0.02 and a share to 0.007, three errors each.
    """

    def log_density(x):
        parts = jnp.stack([-((x + 1) ** 2), -((x - 1) ** 2)]) / (2 * 0.25)
        return jax.nn.logsumexp(parts + jnp.log(jnp.array([[0.3], [0.7]])), 0)

    def score(x):
        return jax.grad(lambda x: log_density(x[:, 0]).sum())(x)

    keys = jax.random.split(jax.random.key(0), 100)
    x, accepted = chain(score, jnp.zeros((4000, 1)), keys, 1.0)
    np.testing.assert_allclose(x.mean(), 0.4, atol=0.05)
    np.testing.assert_allclose(jnp.square(x).mean(), 1.25, atol=0.06)
    np.testing.assert_allclose((x > 0).mean(), 0.7 * 0.9772 + 0.3 * 0.0228, atol=0.022)
    assert 0.3 < accepted.mean() < 0.9


def test_where_there_is_no_score_it_stays():
    x = jnp.ones((3, 2))
    found = estimators.score_mh_step(
        jax.random.key(0), x, lambda x: jnp.full_like(x, jnp.nan), step=0.5
    )
    assert not found.accepted.any()
    np.testing.assert_array_equal(found.x, x)
    found = estimators.score_mh_step(
        jax.random.key(0), x, jnp.zeros_like, step=jnp.float32([1e-3, 1, 1000])
    )
    assert found.accepted.all()  # on even ground
    assert (jnp.diff(jnp.abs(found.x - x).max(-1)) > 0).all()


def test_mistakes():
    key, x = jax.random.key(0), jnp.ones((2, 3))
    for options, message in (
        (dict(step=0.0), "step is 0.0, expected positive"),
        (dict(step=1.0, n_points=0), "n_points is 0, expected at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            estimators.score_mh_step(key, x, lambda x: -x, **options)
    with pytest.raises(ValueError, match="the result of score_fn has shape"):
        estimators.score_mh_step(key, x, lambda x: x[:, :1], step=1.0)
