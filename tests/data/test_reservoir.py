import jax
import jax.numpy as jnp
import numpy as np
import pytest

from logitlab import data


@jax.jit
def streamed(keys, batches, masks):
    """Reservoirs of four after a stream, one for each key."""

    def of_key(key):
        def step(memory, given):
            rows, mask, key = given
            return data.reservoir_update(memory, rows, key, mask=mask), None

        start = data.reservoir_init(4, {"x": jnp.zeros(2), "y": jnp.array(0)})
        given = batches, masks, jax.random.split(key, len(masks))
        return jax.lax.scan(step, start, given)[0]

    return jax.vmap(of_key)(keys)


def test_every_example_is_as_likely():
    y = jnp.arange(24).reshape(8, 3)
    masks = (jnp.arange(24) % 3 != 1).reshape(8, 3).at[5].set(False)
    batches = {"x": jnp.stack([y, -y], -1).astype(float), "y": y}
    keys = jax.random.split(jax.random.key(0), 4000)
    memory = streamed(keys, batches, masks)
    known = np.asarray(y[masks])
    assert (memory.seen == len(known)).all()
    np.testing.assert_array_equal(memory.rows["x"][..., 0], memory.rows["y"])
    counts = np.bincount(np.ravel(memory.rows["y"]), minlength=24)
    assert counts[np.asarray(~masks).ravel()].sum() == 0
    expected = 4000 * 4 / len(known)
    chi2 = ((counts[known] - expected) ** 2 / expected).sum()
    assert chi2 < 30  # 13 degrees of freedom: 1 in 200 seeds
    distinct = [len(set(row)) for row in np.asarray(memory.rows["y"])]
    assert set(distinct) == {4}


def test_it_fills_in_order_first():
    memory = data.reservoir_init(5, jnp.zeros((), jnp.int32))
    memory = data.reservoir_update(memory, jnp.array([7, 8]), jax.random.key(0))
    mask = jnp.array([False, True])
    memory = data.reservoir_update(
        memory, jnp.array([1, 9]), jax.random.key(1), mask=mask
    )
    np.testing.assert_array_equal(memory.rows, [7, 8, 9, 0, 0])
    assert memory.seen == 3
    none = data.reservoir_update(
        memory, jnp.array([1, 2]), jax.random.key(2), mask=~(mask | True)
    )
    np.testing.assert_array_equal(none.rows, memory.rows)
    assert none.seen == 3


def test_a_batch_larger_than_the_room():
    memory = data.reservoir_init(2, jnp.zeros(()))
    got = data.reservoir_update(memory, jnp.arange(1.0, 10.0), jax.random.key(3))
    assert got.seen == 9
    assert len(set(np.asarray(got.rows))) == 2
    assert (got.rows >= 1).all()


def test_counting_does_not_wrap():
    memory = data.reservoir_init(2, jnp.zeros(()))
    memory = memory._replace(seen=jnp.int32(2**31 - 2))
    got = data.reservoir_update(memory, jnp.ones(4), jax.random.key(0))
    assert got.seen == 2**31 - 1


def test_errors():
    memory = data.reservoir_init(2, {"x": jnp.zeros(3)})
    key = jax.random.key(0)
    with pytest.raises(ValueError, match="size is 0, expected at least 1"):
        data.reservoir_init(0, jnp.zeros(3))
    for rows in ({"x": jnp.zeros((2, 4))}, {"y": jnp.zeros((2, 3))}, {"x": 1.0}):
        with pytest.raises(ValueError, match="expected \\[B, ...\\] as the reservoir"):
            data.reservoir_update(memory, rows, key)
    with pytest.raises(ValueError, match="mask has shape"):
        data.reservoir_update(
            memory, {"x": jnp.zeros((2, 3))}, key, mask=jnp.ones(3, bool)
        )
