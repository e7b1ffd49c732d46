"""Every head, compiled for TPUs: as little memory as on CPU, and no logits sent."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import tpus
from jax.sharding import PartitionSpec as P

from logitlab import heads, losses

pytestmark = tpus.MARKS
TOKENS, WIDTH, WORDS = 4096, 64, 32768  # on each chip
DENSE = 4 * TOKENS * WORDS  # bytes of its float32 logits
BF16, I32 = jnp.bfloat16, jnp.int32
BLOCKS = dict(vocab_chunk=WORDS // 64)


def _linear(name, h, kernel, y, **mesh):
    """The mean loss of a linear head; those of a mesh have ``axis_name`` in it."""
    if name == "linear_loss":
        more = dict(batch_axes="data") if mesh else {}
        chunks = dict(token_chunk=TOKENS // 32, vocab_chunk=WORDS // 8)
        one = jnp.ones_like(y, jnp.float32)
        return heads.linear_loss(
            losses.label_smoothing_loss, h, kernel, y, weights=one, **chunks, **mesh,
            **more,
        )  # fmt: skip
    if name == "linear_label_loss":
        out = heads.linear_label_loss(losses.focal_loss, h, kernel, y, **BLOCKS, **mesh)
    elif name == "fused_linear_distillation":
        teacher = heads.Linear(h, jax.lax.stop_gradient(kernel))
        out = heads.fused_linear_distillation(h, kernel, teacher, **BLOCKS, **mesh)
    elif name == "linear_label_stats":
        stats = heads.linear_label_stats(h, kernel, y, **BLOCKS, **mesh)
        out = stats.entropy - stats.log_prob
    elif name == "sequence_log_prob":
        rows = h.reshape(-1, 8, WIDTH)
        out = -heads.sequence_log_prob(rows, kernel, y.reshape(-1, 8), **BLOCKS, **mesh)
    else:
        out = heads.fused_linear_cross_entropy(h, kernel, y, **BLOCKS, **mesh)
    return out.mean()


# The share of dense logits that each may hold on CPU, see their own tests.
LINEAR = {
    "fused_linear_cross_entropy": 24,
    "linear_loss": 16,
    "fused_linear_distillation": 24,
    "linear_label_loss": 24,
    "linear_label_stats": 24,
    "sequence_log_prob": 24,
}


def _cases():
    for name in LINEAR:
        for chips in (1, 16, 256):
            quick = name == "fused_linear_cross_entropy" and chips != 16
            marks = [pytest.mark.slow] * (not quick)
            yield pytest.param(name, chips, id=f"{name}-{chips}", marks=marks)


@pytest.mark.parametrize(("name", "chips"), [*_cases()])
def test_linear_heads(name, chips):
    if chips == 1:
        mesh, options = tpus.one_chip(), {}
        h, kernel, y = [P()] * 3
        side = 1
    else:
        mesh, options = tpus.mesh_of(chips), dict(axis_name="model")
        h, kernel, y = P("data"), P(None, "model"), P("data")
        side = mesh.shape["data"]
    program = tpus.compiled(
        jax.value_and_grad(functools.partial(_linear, name, **options), (0, 1)),
        tpus.spread(mesh, (side * TOKENS, WIDTH), BF16, *h),
        tpus.spread(mesh, (WIDTH, side * WORDS), BF16, *kernel),
        tpus.spread(mesh, (side * TOKENS,), I32, *y),
    )
    assert tpus.temporaries(program) <= DENSE / LINEAR[name]
    moved = tpus.largest(program)
    assert set(moved) <= {"all-reduce"}, moved
    # One reduction of the features' gradient, one of the kernel's shard.
    assert max(moved.values(), default=0) <= WIDTH * max(TOKENS, WORDS)


def _parallel_stats(mesh):
    def local(z, y):
        stats = heads.vocab_parallel_label_stats(z, y, axis_name="model")
        return stats.entropy - stats.log_prob

    specs = P("data", "model"), P("data")
    run = jax.shard_map(local, mesh=mesh, in_specs=specs, out_specs=P("data"))
    return lambda z, y: run(z, y).sum()


@pytest.mark.slow
@pytest.mark.parametrize("chips", [16, 256])
def test_logits_that_a_mesh_splits(chips):
    mesh = tpus.mesh_of(chips)
    side = mesh.shape["data"]
    program = tpus.compiled(
        jax.value_and_grad(_parallel_stats(mesh)),
        tpus.spread(mesh, (side * TOKENS, side * 2048), BF16, "data", "model"),
        tpus.spread(mesh, (side * TOKENS,), I32, "data"),
    )
    assert max(tpus.largest(program).values()) <= 16 * TOKENS


def _adaptive(n, classes):
    cutoffs = (classes // 64, classes // 8)
    head, tails = jax.eval_shape(
        lambda key: heads.adaptive_softmax_init(key, WIDTH, classes, cutoffs=cutoffs),
        jax.random.key(0),
    )
    loss = functools.partial(
        heads.adaptive_softmax, cutoffs=cutoffs, capacity=(n // 16, n // 64)
    )
    hidden, y = jax.ShapeDtypeStruct((n, WIDTH), BF16), _ids(n)
    return (lambda h, k, t, y: loss(h, k, t, y).sum()), (hidden, head, tails, y), 4


def _hierarchical(n, classes):
    tree = heads.build_huffman(np.ones(classes))
    kernel = jax.ShapeDtypeStruct((WIDTH, classes - 1), BF16)
    arguments = jax.ShapeDtypeStruct((n, WIDTH), BF16), kernel, _ids(n)
    return (lambda *a: heads.hierarchical_softmax(*a, tree).sum()), arguments, 1


def _two_level(n, classes):
    layout = heads.two_level_layout(np.arange(classes) // 64)
    kernels = (
        jax.ShapeDtypeStruct((16, classes // 64), BF16),
        jax.ShapeDtypeStruct((classes // 64, 16, 64), BF16),
    )
    arguments = jax.ShapeDtypeStruct((n, 16), BF16), *kernels, _ids(n)
    loss = functools.partial(heads.two_level_softmax, layout=layout)
    return (lambda *a: loss(*a).sum()), arguments, 5


def _sampled(n, classes):
    kernel = jax.ShapeDtypeStruct((16, classes), BF16)
    arguments = jax.ShapeDtypeStruct((n, 16), BF16), kernel, _ids(n)

    def loss(h, kernel, y):
        key = jax.random.key(0)
        sample = dict(num_sampled=32, unique=False)
        return heads.sampled_softmax(key, h, kernel, y, **sample).sum()

    return loss, arguments, 50


def _in_batch(n, classes):
    del classes
    arguments = jax.ShapeDtypeStruct((n, n), BF16), jax.ShapeDtypeStruct((n,), BF16)
    return (lambda *a: heads.in_batch_softmax_loss(*a).sum()), arguments, 1


def _vq(n, classes):
    arguments = (
        jax.ShapeDtypeStruct((n, 16), BF16),
        jax.ShapeDtypeStruct((64, 16), BF16),
        _ids(n),
        _ids(classes),
    )
    return (lambda *a: heads.vq_loss(*a).sum()), arguments, 20


def _ids(n):
    return jax.ShapeDtypeStruct((n,), I32)


@pytest.mark.slow
@pytest.mark.parametrize(
    "head", [_adaptive, _hierarchical, _two_level, _sampled, _in_batch, _vq]
)
def test_other_heads(head):
    n, classes = 2048, 65536
    function, arguments, share = head(n, classes)
    mesh = tpus.one_chip()
    wanted = [
        i
        for i, a in enumerate(arguments)
        if all(jnp.issubdtype(b.dtype, jnp.floating) for b in jax.tree.leaves(a))
    ]
    placed = jax.tree.map(lambda a: tpus.spread(mesh, a.shape, a.dtype), arguments)
    program = tpus.compiled(jax.value_and_grad(function, wanted), *placed)
    assert tpus.temporaries(program) < 4 * n * classes / share


@pytest.mark.slow
def test_spherical_output():
    """A step changes the kernel in place: no temporary has a row per class."""
    classes, width, rows = 1_000_003, 16, 64
    mesh = tpus.one_chip()
    of_stats = functools.partial(heads.spherical_stats_loss, num_classes=classes)

    def step(state, *batch):
        numbers = heads.spherical_output_stats(state, *batch)
        loss, grads = jax.value_and_grad(lambda n: of_stats(*n).sum())(numbers)
        state, _ = heads.spherical_output_update(
            state, *batch, grads, learning_rate=0.1
        )
        return state, loss

    kernel = jax.ShapeDtypeStruct((classes, width), jnp.float32)
    arguments = (
        jax.eval_shape(heads.spherical_output_init, kernel),
        jax.ShapeDtypeStruct((rows, width), jnp.float32),
        _ids(rows),
    )
    placed = jax.tree.map(lambda a: tpus.spread(mesh, a.shape, a.dtype), arguments)
    program = jax.jit(step, donate_argnums=0).lower(*placed).compile()
    memory = program.memory_analysis()
    assert memory.temp_size_in_bytes < 4 * classes
    assert memory.alias_size_in_bytes >= 4 * classes * width
