import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.heads import assert_close, draw
from harness.interpreter import interpreted
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from logitlab import heads, losses

KINDS = [AxisType.Auto, AxisType.Explicit]
TOKENS, WIDTH, WORDS = 16, 6, 32
COLLECTIVES = "all-reduce|all-gather|all-to-all|collective-permute|reduce-scatter"
BYTES = {"f32": 4, "s32": 4, "pred": 1, "bf16": 2}


def mesh_of(kind):
    return jax.make_mesh((2, 4), ("data", "model"), (kind,) * 2)


def placed(kind, v=WORDS, seed=0):
    """A head on a mesh of 2 x 4, its vocabulary over four devices."""
    h, kernel, bias, y = draw(seed, n=TOKENS, d=WIDTH, v=v)
    mesh = mesh_of(kind)
    put = lambda a, *spec: jax.device_put(a, NamedSharding(mesh, P(*spec)))  # noqa: E731
    over = "model" if v % 4 == 0 else None
    return (
        put(h, "data"), put(kernel, None, over), put(bias, over), put(y, "data"),
    )  # fmt: skip


def traffic(compiled):
    """(operation, [shapes]) of all that goes between devices, from the HLO."""
    found = []
    for line in compiled.as_text().splitlines():
        match = re.search(rf"= (.*?) ({COLLECTIVES})(?:-start)?\(", line)
        if match:
            shapes = re.findall(r"(\w+)\[([\d,]*)\]", match[1])
            found.append(
                (
                    match[2],
                    [(d, [int(n) for n in s.split(",") if n]) for d, s in shapes],
                )
            )
    return found


def size_of(shape):
    dtype, dims = shape
    return BYTES[dtype] * int(np.prod(dims, dtype=int))


def stats_loss(h, kernel, bias, y, **options):
    stats = heads.linear_label_stats(h, kernel, y, bias=bias, vocab_chunk=3, **options)
    return -stats.log_prob + stats.entropy


def dense_stats_loss(h, kernel, bias, y):
    stats = heads.label_stats(h @ kernel + bias[None], y)
    return -stats.log_prob + stats.entropy


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("named", [True, False])
def test_statistics_and_what_they_move(kind, named):
    if kind == AxisType.Auto and not named:
        pytest.skip("under jit an automatic mesh does not say where arrays lie")
    arguments = placed(kind)
    options = dict(axis_name="model") if named else {}

    def mean(*a):
        return stats_loss(*a, **options).mean()

    take = jax.jit(jax.value_and_grad(mean, (0, 1, 2)))
    compiled = take.lower(*arguments).compile()
    plain = [np.asarray(a) for a in arguments]
    dense = lambda *a: dense_stats_loss(*a).mean()  # noqa: E731
    want = interpreted(jax.value_and_grad(dense, (0, 1, 2)))(*plain)
    got = compiled(*arguments)
    assert_close(got, want)
    assert got[1][1].sharding.spec[1] == "model"
    tokens, words = TOKENS // 2, WORDS // 4
    moved = traffic(compiled)
    assert {name for name, _ in moved} == {"all-reduce"}
    shapes = [shape for _, part in moved for _, shape in part]
    # one reduction of (local tokens x D), one of the kernel's shard
    assert shapes.count([tokens, WIDTH]) == 1
    assert shapes.count([WIDTH, words]) == 1
    small = [s for _, part in moved for s in part if len(s[1]) < 2]
    assert sum(map(size_of, small)) <= 64 * tokens + 4 * (words + 1)

    value = (
        jax.jit(functools.partial(stats_loss, **options)).lower(*arguments).compile()
    )
    moved = [shape for _, part in traffic(value) for shape in part]
    assert sum(map(size_of, moved)) <= 64 * tokens


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_vocabulary_that_the_mesh_does_not_divide(kind):
    h, kernel, bias, y = placed(kind, v=29)
    y = jax.device_put(np.where(y == 5, 6, y), y.sharding)
    for where in (None, np.arange(29) != 5):

        def ours(h, kernel, bias, where=where):
            return stats_loss(h, kernel, bias, y, where=where, axis_name="model").mean()

        def theirs(h, kernel, bias, where=where):
            z = h @ kernel + bias[None]
            stats = heads.label_stats(
                z, np.asarray(y), where=None if where is None else where[None]
            )
            return (-stats.log_prob + stats.entropy).mean()

        plain = [np.asarray(a) for a in (h, kernel, bias)]
        got = jax.jit(jax.value_and_grad(ours, (0, 1, 2)))(h, kernel, bias)
        assert_close(got, interpreted(jax.value_and_grad(theirs, (0, 1, 2)))(*plain))


def test_inside_a_shard_map():
    """Loops that are written for one device: gradients outside and inside of it."""
    h, kernel, bias, y = draw(n=TOKENS, d=WIDTH, v=WORDS)
    mesh = mesh_of(AxisType.Auto)
    specs = P("data"), P(None, "model"), P("model"), P("data")

    def local(h, kernel, bias, y):
        out = stats_loss(h, kernel, bias, y, axis_name="model").mean()
        return jax.lax.pmean(out, "data")

    on_mesh = functools.partial(jax.shard_map, mesh=mesh, in_specs=specs)
    outside = jax.value_and_grad(on_mesh(local, out_specs=P()), (0, 1, 2))
    inside = on_mesh(jax.value_and_grad(local, (0, 1, 2)), out_specs=(P(), specs[:3]))
    dense = lambda *a: dense_stats_loss(*a).mean()  # noqa: E731
    want = interpreted(jax.value_and_grad(dense, (0, 1, 2)))(h, kernel, bias, y)
    for function in (outside, inside):
        assert_close(jax.jit(function)(h, kernel, bias, y), want)

    def whole(h, kernel, y):  # the tokens alone are spread
        loss = heads.linear_loss(
            losses.cross_entropy, h, kernel, y, token_chunk=3, vocab_chunk=5,
            weights=jnp.ones_like(y, "f4"),
        )  # fmt: skip
        return jax.lax.pmean(loss, "data")

    function = jax.shard_map(
        whole, mesh=mesh, in_specs=(P("data"), P(), P("data")), out_specs=P()
    )
    got = jax.jit(jax.value_and_grad(function, (0, 1)))(h, kernel, y)
    dense = lambda h, kernel: losses.cross_entropy(h @ kernel, y).mean()  # noqa: E731
    assert_close(got, interpreted(jax.value_and_grad(dense, (0, 1)))(h, kernel))


def test_logits_that_a_mesh_splits():
    h, kernel, bias, y = draw(n=TOKENS, d=WIDTH, v=WORDS)
    z = h @ kernel + bias
    where = np.arange(WORDS) != 5
    y = np.where(y == 5, 6, y)
    specs = P("data", "model"), P("data"), P("model")

    def local(z, y, where):
        stats = heads.vocab_parallel_label_stats(
            z, y, axis_name="model", where=where[None]
        )
        return -stats.log_prob + stats.entropy + 0.1 * stats.nll_sum

    run = functools.partial(jax.shard_map, mesh=mesh_of(AxisType.Auto), in_specs=specs)
    on_mesh = run(local, out_specs=P("data"))
    slopes = np.linspace(0.5, 1, TOKENS)

    def theirs(z):
        stats = heads.label_stats(z, y, where=where[None])
        return -stats.log_prob + stats.entropy + 0.1 * stats.nll_sum

    def with_gradient(function):
        return lambda z: (function(z), jax.grad(lambda z: function(z) @ slopes)(z))

    take = jax.jit(with_gradient(lambda z: on_mesh(z, y, where)))
    compiled = take.lower(z).compile()
    assert_close(compiled(z), interpreted(with_gradient(theirs))(z))
    moved = [shape for _, part in traffic(compiled) for shape in part]
    assert sum(map(size_of, moved)) <= 64 * TOKENS // 2
    other = np.where(y == y[0], 99, y)
    assert np.isnan(jax.jit(on_mesh)(z, other, where)[0])
    with pytest.raises(ValueError, match="outside of a shard_map; expected it inside"):
        jax.jit(local)(
            jax.device_put(z, NamedSharding(mesh_of(KINDS[0]), P())), y, where
        )
    with pytest.raises(ValueError, match=r"labels has shape \(16,\), expected \(8,\)"):
        run(local, in_specs=(*specs[:1], P(), specs[2]), out_specs=P("data"))(
            z, y, where
        )


def test_inside_a_shard_map_that_does_not_check():
    h, kernel, bias, y = draw(n=TOKENS, d=WIDTH, v=WORDS)
    specs = P("data"), P(None, "model"), P("model"), P("data")
    run = functools.partial(jax.shard_map, mesh=mesh_of(AxisType.Auto), in_specs=specs)
    stats = functools.partial(stats_loss, axis_name="model")
    with pytest.raises(ValueError, match="expected the device's own columns"):
        run(stats, out_specs=P("data"), check_vma=False)(h, kernel, bias, y)

    def rows(h, kernel, bias, y):
        return heads.linear_loss(losses.cross_entropy, h, kernel, y, axis_name="model")

    with pytest.raises(ValueError, match="expected linear_label_loss"):
        run(rows, out_specs=P("data"))(h, kernel, bias, y)


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS, ids=str)
@pytest.mark.parametrize("weighted", [False, True])
def test_any_loss(kind, weighted):
    h, kernel, bias, y = placed(kind)
    weights = np.linspace(0.5, 1, TOKENS).astype("f4") if weighted else None

    def ours(h, kernel, bias):
        out, stats = heads.linear_loss(
            losses.label_smoothing_loss, h, kernel, y, bias=bias, weights=weights,
            token_chunk=3, vocab_chunk=5, axis_name="model", batch_axes="data",
            aux=heads.label_stats,
        )  # fmt: skip
        return out.mean(), stats.log_prob

    def theirs(h, kernel, bias):
        z = h @ kernel + bias[None]
        out = losses.label_smoothing_loss(z, np.asarray(y))
        w = np.ones(TOKENS) if weights is None else weights
        return (out * w).sum() / w.sum(), heads.label_stats(z, np.asarray(y)).log_prob

    take = jax.jit(jax.value_and_grad(ours, (0, 1, 2), has_aux=True))
    compiled = take.lower(h, kernel, bias).compile()
    plain = [np.asarray(a) for a in (h, kernel, bias)]
    want = interpreted(jax.value_and_grad(theirs, (0, 1, 2), has_aux=True))(*plain)
    assert_close(compiled(h, kernel, bias), want)
    for name, shapes in traffic(compiled):
        assert name == "all-reduce", name
        for _, shape in shapes:  # no axis of the vocabulary beyond the kernel's shard
            assert WORDS not in shape
            assert shape[-1:] != [WORDS // 4] or shape in (
                [WIDTH, WORDS // 4],
                [WORDS // 4],
                [3, WIDTH],
                [2, WIDTH],
            )


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_tokens_over_all_devices(kind):
    h, kernel, _, y = draw(n=TOKENS, d=WIDTH, v=9)
    mesh, everywhere = mesh_of(kind), P(("data", "model"))
    put = lambda a, spec: jax.device_put(a, NamedSharding(mesh, spec))  # noqa: E731
    options = dict(batch_axes=("data", "model")) if kind == AxisType.Auto else {}

    def stats(h, kernel, y):
        return -heads.linear_label_stats(h, kernel, y, vocab_chunk=4, **options)[0]

    def chunks(h, kernel, y):
        return heads.linear_loss(
            losses.cross_entropy, h, kernel, y, token_chunk=2, **options
        )

    @jax.jit
    def both(h, kernel, y):
        return [
            jax.value_and_grad(lambda k, f=f: f(h, k, y).mean())(kernel)
            for f in (stats, chunks)
        ]

    mean = lambda k: losses.cross_entropy(h @ k, y).mean()  # noqa: E731
    dense = interpreted(jax.value_and_grad(mean))(kernel)
    arrays = put(h, everywhere), put(kernel, P()), put(y, everywhere)
    compiled = both.lower(*arrays).compile()
    assert_close(compiled(*arrays), [dense, dense])
    assert {name for name, _ in traffic(compiled)} == {"all-reduce"}


def test_arrays_that_an_explicit_mesh_does_not_split():
    """The gradient of the kernel is added up in blocks on that mesh."""
    mesh = jax.make_mesh((1,), ("data",), (AxisType.Explicit,))
    h, kernel, _, y = draw(n=TOKENS, d=WIDTH, v=WORDS)

    def loss(h, kernel):
        chunks = dict(token_chunk=4, vocab_chunk=8)
        one = jnp.ones(TOKENS)
        return heads.linear_loss(
            losses.cross_entropy, h, kernel, y, weights=one, **chunks
        )

    place = NamedSharding(mesh, P())
    shapes = [
        jax.ShapeDtypeStruct(a.shape, a.dtype, sharding=place) for a in (h, kernel)
    ]
    traced = jax.jit(jax.value_and_grad(loss, (0, 1))).trace(*shapes)
    assert [a.shape for a in traced.out_info[1]] == [h.shape, kernel.shape]


@pytest.mark.sampled
@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_distillation(kind):
    h, kernel, bias, _ = placed(kind)
    h2, kernel2, _, _ = placed(kind, seed=1)

    def ours(h, kernel, bias, h2, kernel2):
        return heads.fused_linear_distillation(
            h, kernel, heads.Linear(h2, kernel2), bias=bias, divergence="js_divergence",
            vocab_chunk=3, axis_name="model",
        ).mean()  # fmt: skip

    def theirs(h, kernel, bias, h2, kernel2):
        p = jax.nn.softmax(h @ kernel + bias[None])
        q = jax.nn.softmax(h2 @ kernel2)
        m = jnp.log((p + q) / 2)
        terms = p * (jnp.log(p) - m) + q * (jnp.log(q) - m)
        return terms.sum(-1).mean() / 2

    arguments = h, kernel, bias, h2, kernel2
    take = jax.jit(jax.value_and_grad(ours, range(5)))
    compiled = take.lower(*arguments).compile()
    plain = [np.asarray(a) for a in arguments]
    want = interpreted(jax.value_and_grad(theirs, range(5)))(*plain)
    assert_close(compiled(*arguments), want)
    assert {name for name, _ in traffic(compiled)} == {"all-reduce"}


def test_wrong_axes():
    h, kernel, bias, y = placed(AxisType.Auto)
    take = jax.jit(
        heads.linear_label_stats, static_argnames=["axis_name", "batch_axes"]
    )
    with pytest.raises(ValueError, match=r"axis_name 'modle' is not .* \('data', 'mo"):
        take(h, kernel, y, axis_name="modle")
    with pytest.raises(ValueError, match="batch_axes 'dta' is not an axis of the mesh"):
        take(h, kernel, y, axis_name="model", batch_axes="dta")
