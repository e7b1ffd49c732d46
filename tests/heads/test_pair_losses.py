import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.heads import assert_close
from harness.interpreter import interpreted
from harness.meshes import logits_traffic
from jax.sharding import AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from logitlab import heads, losses, targets, transforms

B, M, D = 10, 7, 4
SUPCON = functools.partial(losses.supcon_loss, temperature=0.1)
NTXENT = functools.partial(losses.ntxent_loss, temperature=0.2)


def focal(embeddings, labels, *, reference, reference_labels, pairs):
    """A loss that no paper has a name for."""
    z = transforms.cosine_similarities(embeddings, reference) / 0.3
    where = pairs.positive | pairs.negative
    return losses.focal_loss(z, targets.pair_probs(pairs), where=where)


def dense_focal(embeddings, labels):
    pairs = targets.label_pairs(labels)
    return focal(embeddings, labels, reference=None, reference_labels=None, pairs=pairs)


def draw(seed=0, b=B, m=M, d=D, dtype="f8"):
    rng = np.random.default_rng(seed)
    e, r = (rng.normal(size=(n, d)).astype(dtype) for n in (b, m))
    return e, np.arange(b) % 4, r, np.arange(m) % 5 - 1


@pytest.mark.parametrize("chunk", [None, 5, 4, 1])
def test_equals_all_anchors_at_once(x64, chunk):
    e, y, *_ = draw()
    weights = np.random.default_rng(1).uniform(size=B)
    pairs = [(SUPCON, SUPCON), (NTXENT, NTXENT), (focal, dense_focal)]

    @interpreted
    def run(e):
        def total(loss, e):
            return (weights * loss(e, y)).sum()

        fused = functools.partial(heads.pair_loss, anchor_chunk=chunk)
        return [
            [
                jax.value_and_grad(functools.partial(total, loss))(e)
                for loss in (functools.partial(fused, ours), theirs)
            ]
            for ours, theirs in pairs
        ]

    for ours, theirs in run(e):
        assert_close(ours, theirs, 1e-12)


def test_equals_it_in_float32():
    e, y, *_ = draw(dtype="f4", b=64, d=16)

    @interpreted
    def run(e):
        ours = lambda e: heads.pair_loss(SUPCON, e, y, anchor_chunk=24).sum()  # noqa: E731
        theirs = lambda e: SUPCON(e, y).sum()  # noqa: E731
        return [jax.value_and_grad(f)(e) for f in (ours, theirs)]

    assert_close(*run(e), 1e-5)


def test_references_masks_and_a_learned_temperature(x64):
    e, y, r, ry = draw()
    keep, keep_r = np.arange(B) != 3, np.arange(M) != 2
    e[3], r[2] = np.nan, np.nan
    options = dict(reference=r, reference_labels=ry, mask=keep, reference_mask=keep_r)

    @interpreted
    def run(e, r, t):
        def ours(e, r, t):
            supcon = functools.partial(losses.supcon_loss, temperature=t)
            out = heads.pair_loss(
                supcon, e, y, **options | dict(reference=r), anchor_chunk=4
            )
            return out.sum(), out

        def theirs(e, r, t):
            out = losses.supcon_loss(e, y, temperature=t, **options | dict(reference=r))
            return out.sum(), out

        return [
            jax.value_and_grad(f, (0, 1, 2), has_aux=True)(e, r, t)
            for f in (ours, theirs)
        ]

    got, want = run(e, r, 0.1)
    assert np.isfinite(want[1][2])
    assert_close(got, want, 1e-12)
    assert got[0][1][3] == 0


def test_infonce_and_simclr_are_supcon(x64):
    e, _, r, _ = draw(m=B)
    ids = np.arange(B)
    both = np.concatenate([e, r])

    @interpreted
    def run(e, r, both):
        return (
            heads.pair_loss(
                SUPCON, e, ids, reference=r, reference_labels=ids, anchor_chunk=3
            ),
            losses.infonce_loss(e, r, temperature=0.1),
            heads.pair_loss(SUPCON, both, np.tile(ids, 2), anchor_chunk=3)
            .reshape(2, -1)
            .mean(0),
            losses.simclr_ntxent_loss(e, r, temperature=0.1),
        )

    infonce, want_infonce, simclr, want_simclr = run(e, r, both)
    assert_close(infonce, want_infonce, 1e-12)
    assert_close(simclr, want_simclr, 1e-12)


def spread(kind, *arrays):
    mesh = jax.make_mesh((8,), ("data",), (kind,))
    place = NamedSharding(mesh, P("data"))
    return mesh, [jax.device_put(a, place) for a in arrays]


@pytest.mark.parametrize("kind", [AxisType.Auto, AxisType.Explicit], ids=str)
@pytest.mark.parametrize("other", [False, True], ids=["itself", "reference"])
def test_on_eight_devices(kind, other):
    """Right labels and self-masks on every shard, and no similarity travels."""
    size, width = 64, 2  # a chunk of similarities is larger than all embeddings
    e, y, r, ry = draw(b=size, m=size, d=width, dtype="f4")
    mesh, (e_on, y_on, r_on, ry_on) = spread(kind, e, y, r, ry)

    def total(e, r, y, ry):
        options = dict(reference=r, reference_labels=ry) if other else {}
        fused = heads.pair_loss(
            SUPCON, e, y, anchor_chunk=3, batch_axes="data", **options
        )
        return fused.sum(), fused

    def dense(e, r):
        options = dict(reference=r, reference_labels=ry) if other else {}
        out = SUPCON(e, y, **options)
        return out.sum(), out

    take = jax.jit(jax.value_and_grad(total, (0, 1), has_aux=True))
    with jax.set_mesh(mesh):
        compiled = take.lower(e_on, r_on, y_on, ry_on).compile()
        got = compiled(e_on, r_on, y_on, ry_on)
    want = interpreted(jax.value_and_grad(dense, (0, 1), has_aux=True))(e, r)
    assert_close(got, want, 1e-5)
    hlo = compiled.as_text()
    # Embeddings are gathered, and their gradient summed: B D numbers, never B B / 8.
    assert not logits_traffic(hlo, size * width + 1)
    assert len(re.findall(r" all-gather(?:-start)?\(", hlo)) <= 3, "in each chunk?"


def test_a_learned_temperature_on_eight_devices():
    e, y, *_ = draw(b=64, dtype="f4")
    _, (e_on, y_on) = spread(AxisType.Auto, e, y)

    def total(e, t, y, fused):
        supcon = functools.partial(losses.supcon_loss, temperature=t)
        if fused:
            return heads.pair_loss(supcon, e, y, batch_axes="data").sum()
        return supcon(e, y).sum()

    take = jax.value_and_grad(total, (0, 1))
    got = jax.jit(functools.partial(take, fused=True))(e_on, 0.2, y_on)
    want = interpreted(functools.partial(take, fused=False))(e, np.float32(0.2), y)
    assert_close(got, want, 1e-5)


def test_inside_a_shard_map():
    """Gathered references, with the places of the device's own anchors among them."""
    e, y, *_ = draw(b=64, dtype="f4")
    mesh, (e_on, y_on) = spread(AxisType.Auto, e, y)

    @jax.jit
    @functools.partial(jax.shard_map, mesh=mesh, in_specs=P("data"), out_specs=P())
    def step(e, y):
        def total(e):
            everyone, labels = (
                jax.lax.all_gather(a, "data", tiled=True) for a in (e, y)
            )
            out = heads.pair_loss(
                SUPCON,
                e,
                y,
                reference=everyone,
                reference_labels=labels,
                positions=jax.lax.axis_index("data") * 8 + jnp.arange(8),
                anchor_chunk=3,
            )
            return jax.lax.psum(out.sum(), "data")

        value, grad = jax.value_and_grad(total)(e)
        return value, jax.lax.psum((grad**2).sum(), "data")

    value, square = step(e_on, y_on)
    want, grad = interpreted(jax.value_and_grad(lambda e: SUPCON(e, y).sum()))(e)
    assert_close([value, square], [want, (grad**2).sum()], 1e-5)


def arcface(cosines, labels, sines):
    logits = transforms.arcface_logits(cosines, labels, sines=sines)
    return losses.cross_entropy(logits, labels)


def cosface(cosines, labels):
    return losses.cross_entropy(transforms.cosface_logits(cosines, labels), labels)


def linear_arcface(e, y, kernel, **options):
    sines = transforms.label_sines(e, y, kernel)
    unit, columns = transforms.normalize(e), transforms.normalize(kernel, axis=0)
    return heads.linear_loss(arcface, unit, columns, y, sines, **options)


def linear_cosface(e, y, kernel, **options):
    unit, columns = transforms.normalize(e), transforms.normalize(kernel, axis=0)
    return heads.linear_loss(cosface, unit, columns, y, **options)


@pytest.mark.parametrize(
    ("fused", "dense"),
    [(linear_arcface, losses.arcface_loss), (linear_cosface, losses.cosface_loss)],
)
def test_margin_heads(x64, fused, dense):
    e, y, r, _ = draw()

    @interpreted
    def run(e, kernel):
        ours = lambda e, k: fused(e, y, k, token_chunk=3, vocab_chunk=2).sum()  # noqa: E731
        theirs = lambda e, k: dense(e, y, k).sum()  # noqa: E731
        return [jax.value_and_grad(f, (0, 1))(e, kernel) for f in (ours, theirs)]

    assert_close(*run(e, r.T), 1e-12)


SIZE, WIDTH = 8192, 128
IDS = np.arange(SIZE)
MEMORY = {
    "supcon": (
        lambda e, r: heads.pair_loss(SUPCON, e, IDS // 4),
        lambda e, r: SUPCON(e, IDS // 4),
    ),
    "ntxent": (
        lambda e, r: heads.pair_loss(NTXENT, e, IDS // 4),
        lambda e, r: NTXENT(e, IDS // 4),
    ),
    "infonce": (
        lambda e, r: heads.pair_loss(SUPCON, e, IDS, reference=r, reference_labels=IDS),
        lambda e, r: losses.infonce_loss(e, r, temperature=0.1),
    ),
    "arcface": (
        lambda e, r: linear_arcface(e, IDS, r.T, token_chunk=512),
        lambda e, r: losses.arcface_loss(e, IDS, r.T),
    ),
    "cosface": (
        lambda e, r: linear_cosface(e, IDS, r.T, token_chunk=512),
        lambda e, r: losses.cosface_loss(e, IDS, r.T),
    ),
}


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", MEMORY)
def test_memory(name):
    like = jax.ShapeDtypeStruct((SIZE, WIDTH), np.float32)

    def temporaries(function):
        def mean(e, r):
            return function(e, r).mean()

        lowered = jax.jit(jax.value_and_grad(mean, (0, 1))).lower(like, like)
        return lowered.compile().memory_analysis().temp_size_in_bytes

    fused, dense = map(temporaries, MEMORY[name])
    assert dense >= 2 * 4 * SIZE**2
    assert fused < 4 * SIZE**2 / 2, (fused, dense)  # half of one matrix
    assert fused < dense / 3


E, Y = np.ones((4, 3), "f4"), np.arange(4)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: heads.pair_loss(SUPCON, E, Y[:3]), r"labels has shape \(3,\), exp"),
        (lambda: heads.pair_loss(SUPCON, E[0], Y), "expected one row per example"),
        (lambda: heads.pair_loss(SUPCON, E.astype(int), Y), "embeddings has dtype int"),
        (lambda: heads.pair_loss(SUPCON, E, Y, anchor_chunk=0), "anchor_chunk is 0"),
        (lambda: heads.pair_loss(SUPCON, E, Y, positions=Y), "needs reference"),
        (
            lambda: heads.pair_loss(SUPCON, E, Y, reference=E),
            "reference_labels is None",
        ),
        (
            lambda: heads.pair_loss(SUPCON, E, Y, reference=E.T, reference_labels=Y),
            "reference_labels has shape",
        ),
        (
            lambda: heads.pair_loss(
                SUPCON, E, Y, reference=E[:, :2], reference_labels=Y
            ),
            "expected rows of width 3",
        ),
        (
            lambda: heads.pair_loss(
                SUPCON, E, Y, reference=E, reference_labels=Y, positions=Y[:2]
            ),
            r"positions has shape \(2,\)",
        ),
        (
            lambda: heads.pair_loss(lambda *a, **k: jnp.float32(1), E, Y),
            r"loss returned shape \(\) for 4 anchors",
        ),
    ],
)
def test_errors(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
