import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from logitlab import losses
from logitlab.data import Memory, memory_init, memory_push
from logitlab.targets import label_pairs, multi_similarity_pairs
from logitlab.transforms import cosine_similarities


def pushed(batches, size=5):
    """What should be in the memory: the last of all rows, at their places."""
    rows = [(e, y) for es, ys in batches for e, y in zip(es, ys, strict=True) if y >= 0]
    embeddings, labels = np.zeros((size, 2), "f4"), np.full(size, -1)
    for at, (e, y) in enumerate(rows):
        embeddings[at % size], labels[at % size] = e, y
    return embeddings, labels


def draw(seed, count):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, 2)).astype("f4"), rng.integers(0, 3, count)


def check(memory, batches):
    embeddings, labels = pushed(batches, len(memory.labels))
    np.testing.assert_array_equal(memory.embeddings, embeddings)
    np.testing.assert_array_equal(memory.labels, labels)


def test_the_oldest_make_room():
    memory, batches = memory_init(5, 2), []
    push = jax.jit(memory_push)
    for seed, count in enumerate((3, 4, 1, 5, 5, 2)):
        batches.append(draw(seed, count))
        memory = push(memory, *batches[-1])
        check(memory, batches)


def test_what_is_left_out_is_not_pushed():
    e, y = draw(0, 4)
    junk = np.where(np.arange(4)[:, None] == 1, np.nan, e)
    memory = memory_push(
        memory_init(3, 2), junk[:2], y[:2], mask=np.array([True, False])
    )
    check(memory, [(e[:1], y[:1])])
    memory = memory_push(memory, e[:3], np.array([-1, 2, -100]))
    check(memory, [(e[:1], y[:1]), (e[1:2], np.array([2]))])


def test_scan_is_a_loop():
    batches = [draw(seed, 2) for seed in range(7)]
    stacked = jax.tree.map(lambda *a: jnp.stack(a), *batches)
    memory, _ = jax.lax.scan(
        lambda memory, batch: (memory_push(memory, *batch), None),
        memory_init(5, 2),
        stacked,
    )
    check(memory, batches)


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
def test_batches_over_eight_devices(kind):
    """One memory, the same on each device, under jit."""
    mesh = jax.make_mesh((8,), ("data",), (kind,))
    everywhere = NamedSharding(mesh, P())
    batches = [draw(seed, 16) for seed in range(3)]
    memory = jax.device_put(memory_init(20, 2), everywhere)
    push = jax.jit(memory_push, out_shardings=everywhere)
    for e, y in batches:
        split = jax.device_put((e, y), NamedSharding(mesh, P("data")))
        memory = push(memory, *split)
    check(memory, batches)
    for array in memory:
        copies = [np.asarray(shard.data) for shard in array.addressable_shards]
        assert len(copies) == 8
        for copy in copies:
            np.testing.assert_array_equal(copy, array)


def test_shard_map_pushes_what_all_devices_have():
    mesh = jax.make_mesh((8,), ("data",), (AxisType.Auto,))
    batches = [draw(seed, 16) for seed in range(3)]
    batches[1][1][::5] = -1
    masks = np.arange(16) != 7

    @jax.jit
    @jax.shard_map(
        mesh=mesh, in_specs=(P(), P("data"), P("data"), P("data")), out_specs=P()
    )
    def push(memory, e, y, mask):
        return memory_push(memory, e, y, mask=mask, axis_name="data")

    memory = memory_init(20, 2)
    for e, y in batches:
        memory = push(memory, e, y, masks)
    check(memory, [(e[masks], y[masks]) for e, y in batches])


@pytest.mark.parametrize(
    "loss", [losses.multi_similarity_loss, losses.triplet_margin_loss]
)
def test_losses_and_miners_take_it_as_reference(loss):
    e, y = draw(0, 4)
    past_e, past_y = draw(1, 3)
    memory = memory_push(memory_init(8, 2), past_e, past_y)
    past = dict(reference=memory.embeddings, reference_labels=memory.labels)
    want = loss(e, y, reference=past_e, reference_labels=past_y)
    np.testing.assert_allclose(loss(e, y, **past), want, rtol=1e-5)
    s = cosine_similarities(e, memory.embeddings)
    pairs = multi_similarity_pairs(s, y, reference_labels=memory.labels)
    known = label_pairs(y, memory.labels)
    for a, b in zip(pairs, known, strict=True):
        assert not (a & ~b).any()
    assert np.isfinite(loss(e, y, pairs=pairs, **past)).all()
    empty = memory_init(8, 2)
    nothing = dict(reference=empty.embeddings, reference_labels=empty.labels)
    assert not loss(e, y, **nothing).any()
    grad = jax.grad(
        lambda e: loss(
            e,
            y,
            reference=memory_push(memory, e, y).embeddings,
            reference_labels=y[[0] * 8],
        ).sum()
    )(jnp.asarray(e))
    assert np.isfinite(grad).all()  # of the anchors alone


def test_errors():
    memory = memory_init(3, 2)
    assert isinstance(memory, Memory)
    for call, message in (
        (lambda: memory_init(0, 2), "size is 0"),
        (lambda: memory_push(memory, np.zeros((2, 3), "f4"), [0, 1]), r"\[K, 2\]"),
        (lambda: memory_push(memory, np.zeros((2, 2), "f4"), [0]), "labels has shape"),
        (
            lambda: memory_push(memory, np.zeros((4, 2), "f4"), [0] * 4),
            "embeddings has 4 rows, expected at most 3",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            call()
