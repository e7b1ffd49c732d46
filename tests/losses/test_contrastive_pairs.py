import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import arrays, cases, close, draw
from harness.interpreter import functions, interpreted

from logitlab import losses, numerics, targets
from logitlab.losses.contrastive import pairs as module
from logitlab.numerics._triplets import triplet_sums
from logitlab.targets import Pairs, label_pairs, multi_similarity_pairs

calls = functions(module)
LABELS = np.array([0, 0, 1, 0, 1, 2, 1])
ALL = [getattr(losses, name) for name in module.__all__]


def compare(case, loss, key="embeddings"):
    e, labels = arrays(case, "embeddings", "labels")
    value, grad = interpreted(jax.value_and_grad(lambda e: loss(e, labels)))(e)
    close(value, case["outputs"]["loss"])
    close(grad, case["outputs"]["grad_embeddings"])


@pytest.mark.parametrize("case", cases("contrastive"))
def test_golden_contrastive(x64, case):
    params = case["params"]
    margins = dict(
        positive_margin=params["pos_margin"], negative_margin=params["neg_margin"]
    )
    compare(
        case,
        lambda e, y: losses.contrastive_pair_loss(
            e, y, **margins, average="batch"
        ).mean(),
    )


@pytest.mark.parametrize("case", cases("triplet_margin"))
def test_golden_triplets(x64, case):
    options = dict(case["params"])
    options["smooth"] = options.pop("smooth_loss", False)
    compare(
        case,
        lambda e, y: losses.triplet_margin_loss(
            e, y, **options, average="batch"
        ).mean(),
    )


@pytest.mark.parametrize("case", cases("circle"))
def test_golden_circle(x64, case):
    e, labels = arrays(case, "embeddings", "labels")
    loss = functools.partial(
        losses.circle_loss, margin=case["params"]["m"], gamma=case["params"]["gamma"]
    )
    pairs = label_pairs(labels)
    counts = pairs.positive.any(-1) & pairs.negative.any(-1)
    compare(case, lambda e, y: numerics.masked_mean(loss(e, y), counts))
    close(interpreted(loss)(e, labels), case["outputs"]["per_anchor"])


@pytest.mark.parametrize("case", cases("multi_similarity"))
def test_golden_multi_similarity(x64, case):
    e, labels = arrays(case, "embeddings", "labels")
    loss = functools.partial(losses.multi_similarity_loss, **case["params"])
    compare(case, lambda e, y: loss(e, y).mean())
    close(interpreted(loss)(e, labels), case["outputs"]["per_anchor"])


@pytest.mark.parametrize("case", cases("ms_loss_mined"))
def test_golden_mined(x64, case):
    """Of unit rows whose products are taken as they are, as is their gradient."""
    options = dict(case["params"])
    options.pop("same_eps")
    margin = options.pop("mining_margin")

    def loss(e, labels):
        pairs = multi_similarity_pairs(e @ e.T, labels, margin=margin)
        return losses.multi_similarity_loss(
            e, labels, pairs=pairs, similarity="dot", **options
        ).mean()

    compare(case, loss)


def triplets(d, positive, negative, margin, across=None):
    """All of them, one after the other."""
    d = d[:, :, None], d[:, None]
    far = d[1] if across is None else np.minimum(d[1], across[None])
    valid = positive[:, :, None] & negative[:, None]
    return np.where(valid, d[0] - far + margin, -np.inf)


@pytest.mark.parametrize("smooth", [False, True])
@pytest.mark.parametrize("swap", [False, True])
def test_sums_over_triplets_are_those_of_all(x64, smooth, swap):
    rng = np.random.default_rng(0)
    d, across = rng.uniform(size=(5, 9)), rng.uniform(size=(9, 9)) if swap else None
    positive = rng.random((5, 9)) < 0.4
    negative = ~positive & (rng.random((5, 9)) < 0.7)
    positive[3] = False
    weights = rng.normal(size=5)

    def total(d, across, m, sums):
        return (weights * sums(d, across, m)).sum()

    def ours(d, across, m):
        return triplet_sums(d, positive, negative, m, smooth=smooth, across=across)[0]

    def theirs(d, across, m):
        far = d[:, None] if across is None else jnp.minimum(d[:, None], across[None])
        x = jnp.broadcast_to(d[:, :, None] - far + m, (5, 9, 9))
        valid = positive[:, :, None] & negative[:, None]
        costs = jax.nn.softplus(x) if smooth else jax.nn.relu(x)
        return jnp.where(valid, costs, 0).sum((1, 2))

    argnums = (0, 1, 2) if swap else (0, 2)
    got, want = (
        jax.value_and_grad(functools.partial(total, sums=sums), argnums)(d, across, 0.3)
        for sums in (ours, theirs)
    )
    for a, b in zip(jax.tree.leaves(got), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12)
    counts = triplet_sums(d, positive, negative, 0.3, smooth=smooth, across=across)[1]
    x = triplets(d, positive, negative, 0.3, across)
    np.testing.assert_array_equal(
        counts, ((x > -np.inf) if smooth else (x > 0)).sum((1, 2))
    )
    if smooth and not swap:
        got, want = (
            jax.hessian(lambda d, sums=sums: total(d, None, 0.3, sums))(d)
            for sums in (ours, theirs)
        )
        np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-12)


def test_triplets_need_the_memory_of_pairs():
    """Twice the examples, four times the memory, and not eight."""

    def value_and_grad(e, labels):
        return jax.value_and_grad(
            lambda e: losses.triplet_margin_loss(e, labels).mean()
        )(e)

    def memory(n):
        e = jax.ShapeDtypeStruct((n, 8), "float32")
        labels = jax.ShapeDtypeStruct((n,), "int32")
        compiled = jax.jit(value_and_grad).lower(e, labels).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    assert memory(512) < 4.5 * memory(256)


@pytest.mark.parametrize("loss", ALL)
@pytest.mark.parametrize("where", ["batch", "anchor"])
def test_averages(x64, loss, where):
    """By anchor and by batch are the same sums, divided by other numbers."""
    if "average" not in loss.__kwdefaults__:
        return
    e = draw(1, 7, 3)
    by_anchor, by_batch = (
        interpreted(functools.partial(loss, average=average))(e, LABELS)
        for average in ("anchor", "batch")
    )
    assert (by_anchor > 0).sum() == (by_batch > 0).sum()
    if loss is losses.triplet_margin_loss:
        d = np.linalg.norm(unit(e)[:, None] - unit(e)[None], axis=-1)
        x = np.maximum(triplets(d, *map(np.asarray, label_pairs(LABELS)), 0.05), 0)
        some = (x > 0).sum((1, 2))
        np.testing.assert_allclose(by_anchor, x.sum((1, 2)) / np.maximum(some, 1))
        np.testing.assert_allclose(by_batch, x.sum((1, 2)) * 7 / some.sum())


def unit(e):
    return e / np.linalg.norm(e, axis=-1, keepdims=True)


@pytest.mark.parametrize("loss", ALL)
def test_given_the_similarities(loss):
    """References that are axes: each anchor is its similarities."""
    rng = np.random.default_rng(0)
    e = unit(rng.normal(size=(6, 8)) * 10.0 ** rng.uniform(-2, 2, (6, 1)))
    pairs = Pairs(rng.random((6, 8)) < 0.3, rng.random((6, 8)) < 0.3)
    pairs = Pairs(pairs.positive, pairs.negative & ~pairs.positive)
    known = dict(pairs=pairs, reference=np.eye(8, dtype="f4"))

    def total(e):
        return loss(e, None, **known).sum()

    got = interpreted(jax.value_and_grad(total))(e.astype("f4"))
    with jax.enable_x64(True):
        want = interpreted(jax.value_and_grad(total))(e.astype("f4").astype("f8"))
    for a, b in zip(got, want, strict=True):
        assert np.abs(a - b).max() < 1e-5 * np.abs(b).max()


@pytest.mark.parametrize("loss", ALL)
def test_edges(loss):
    run = interpreted(
        jax.value_and_grad(lambda e, y, **k: loss(e, y, **k).sum(), argnums=0)
    )
    e = draw(0, 7, 3).astype("f4")
    for name, x in {
        "zeros": 0 * e,
        "one vector of zeros": np.where(np.arange(7)[:, None] == 0, 0, e),
        "duplicates": np.repeat(e[:1], 7, 0),
        "1e19": 1e19 * e,
        "1e30": np.sign(e) * np.float32(1e30),
        "1e-30": 1e-30 * e,
    }.items():
        value, grad = run(x, LABELS)
        assert np.isfinite(value), name
        assert np.isfinite(grad).all(), name
    few = {"one": [0], "strangers": [0, 1, 2], "no labels": [-1, -100, -1]}
    one_class = interpreted(loss)(e, 0 * LABELS)
    assert np.isfinite(one_class).all()
    for name, labels in few.items():
        labels = np.array(labels)
        value, grad = run(e[: len(labels)], labels)
        if name != "strangers" or loss in (
            losses.circle_loss,
            losses.triplet_margin_loss,
        ):
            assert value == 0, name
            assert not grad.any(), name
    value, grad = run(1e3 * e, LABELS)  # only directions count
    close(value, run(e, LABELS)[0], 1e-5)
    close(1e3 * grad, run(e, LABELS)[1], 1e-5)


@pytest.mark.parametrize("loss", ALL)
def test_references_are_what_is_compared_with(x64, loss):
    e, r = draw(0, 7, 3), draw(1, 5, 3)
    r_labels, r_mask = np.array([0, 1, -1, 2, 1]), np.arange(5) != 1
    got = interpreted(loss)(
        e, LABELS, reference=r, reference_labels=r_labels, reference_mask=r_mask
    )
    keep = np.array([0, 3, 4])  # neither unknown nor masked
    want = interpreted(loss)(
        e, LABELS, reference=r[keep], reference_labels=r_labels[keep]
    )
    np.testing.assert_allclose(got, want, rtol=1e-12)
    pairs = label_pairs(LABELS, r_labels, reference_mask=r_mask)
    mined = interpreted(loss)(e, None, reference=r, pairs=pairs)
    np.testing.assert_allclose(mined, want, rtol=1e-12)


def test_miners_and_masks_compose():
    e = draw(0, 7, 3).astype("f4")
    keep = np.arange(7) != 2
    s = np.asarray(unit(e) @ unit(e).T)
    hard = targets.batch_hard_pairs(s, LABELS)
    got = calls.triplet_margin_loss(e, LABELS, pairs=hard, mask=keep)
    pairs = Pairs(
        *(np.asarray(a) & keep & keep[:, None] for a in hard)
    )  # a pair with what is left out is left out
    want = calls.triplet_margin_loss(e, LABELS, pairs=pairs)
    np.testing.assert_allclose(got, want, rtol=1e-6)


def test_squares_are_those_of_the_paper(x64):
    e = np.array([[1.0, 0], [0, 1]])
    pull = calls.contrastive_pair_loss(e, np.array([0, 0]), squared=True)
    np.testing.assert_allclose(pull, 1)  # half the square of the root of 2
    push = calls.contrastive_pair_loss(
        e, np.array([0, 1]), squared=True, negative_margin=1.5
    )
    np.testing.assert_allclose(push, (1.5 - 2**0.5) ** 2 / 2)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda e: losses.circle_loss(e, [0, 1]), r"labels has shape \(2,\)"),
        (lambda e: losses.circle_loss(e, [0, 1, 2], gamma=0), "gamma is 0, expected"),
        (lambda e: losses.circle_loss(e, [0, 1, 2], similarity="l2"), "is 'l2'"),
        (
            lambda e: losses.multi_similarity_loss(e, [0, 1, 2], alpha=-1.0),
            "alpha is -1.0, expected above 0",
        ),
        (
            lambda e: losses.contrastive_pair_loss(e, [0, 1, 2], negative_margin=-1.0),
            "negative_margin is -1.0",
        ),
        (
            lambda e: losses.triplet_margin_loss(e, [0, 1, 2], average="sum"),
            "average is 'sum', expected 'anchor' or 'batch'",
        ),
        (lambda e: losses.triplet_margin_loss(e, None), "labels is None"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call(jnp.ones((3, 2)))
