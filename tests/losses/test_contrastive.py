"""Losses of views, proxies and angular margins; those of pairs have their own file."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import goldens
from harness.interpreter import functions, interpreted

from logitlab import losses, numerics, targets, transforms
from logitlab.losses.contrastive import views

close = functools.partial(goldens.close, rtol=1e-8)
eager = functions(losses, transforms)


def draw(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape)


def golden(name, kernel=False):
    """Cases with their arrays: embeddings, labels, and the kernel [D, C]."""
    for case in goldens.cases(name):
        inputs = goldens.arrays(case)
        arrays = [inputs["embeddings"], inputs["labels"]]
        if "class_weights" in inputs:
            arrays.append(inputs["class_weights"].T)
        yield case, arrays


def compare(case, loss, arrays, reduce=jnp.mean):
    """The objective and its gradients against a case's; returns the unreduced."""
    e, y, *kernel = arrays

    @interpreted
    def run(*floats):
        def objective(e, *kernel):
            each = loss(e, y, *kernel)
            return reduce(each), each

        return jax.value_and_grad(objective, tuple(range(len(floats))), has_aux=True)(
            *floats
        )

    (value, each), grads = run(e, *kernel)
    close(value, case["outputs"]["loss"])
    close(grads[0], case["outputs"]["grad_embeddings"])
    if kernel:
        close(grads[1].T, case["outputs"]["grad_class_weights"])
    return each


@pytest.mark.parametrize("at", range(4))
def test_golden_supcon(at, x64):
    case, arrays = [*golden("supcon")][at]
    some = targets.label_pairs(arrays[1]).positive.any(-1)
    supcon = functools.partial(losses.supcon_loss, **case["params"])
    each = compare(case, supcon, arrays, lambda each: numerics.masked_mean(each, some))
    close(each, case["outputs"]["per_anchor"])


@pytest.mark.parametrize("at", range(4))
def test_golden_ntxent(at, x64):
    case, arrays = [*golden("ntxent")][at]
    count = targets.label_pairs(arrays[1]).positive.sum(-1)
    ntxent = functools.partial(losses.ntxent_loss, **case["params"])
    compare(case, ntxent, arrays, lambda each: (count * each).sum() / count.sum())


@pytest.mark.parametrize(
    ("name", "loss", "hyper"),
    [
        ("proxy_nca", "proxy_nca_loss", lambda p: dict(scale=p["softmax_scale"])),
        ("normalized_softmax", "normalized_softmax_loss", dict),
        ("cosface", "cosface_loss", dict),
        (
            "arcface",
            "arcface_loss",
            lambda p: dict(scale=p["scale"], margin=np.deg2rad(p["margin"])),
        ),
    ],
)
def test_golden_proxies(name, loss, hyper, x64):
    for case, arrays in golden(name):
        loss_of = functools.partial(getattr(losses, loss), **hyper(case["params"]))
        close(compare(case, loss_of, arrays), case["outputs"]["per_example"])


def test_golden_proxy_anchor(x64):
    for case, arrays in golden("proxy_anchor"):
        p = case["params"]
        loss = functools.partial(
            losses.proxy_anchor_loss, margin=p["margin"], scale=p["alpha"]
        )
        near, far = (case["outputs"][f"{s}_term_per_class"] for s in ("pos", "neg"))
        near, present = np.array(near), len(set(arrays[1]))
        close(compare(case, loss, arrays), near * len(near) / present + far)


def test_golden_magface(x64):
    for case, (e, y, kernel) in golden("magface"):
        p = case["params"]
        hyper = dict(
            scale=p["scale"],
            margin_low=p["l_margin"],
            margin_high=p["u_margin"],
            norm_low=p["l_a"],
            norm_high=p["u_a"],
            easy_margin=p["easy_margin"],
        )
        norms = np.linalg.norm(e, axis=-1)
        cosines = eager.cosine_logits(e, kernel, scale=1.0)
        logits = eager.magface_logits(cosines, y, norms, **hyper)
        close(logits / p["scale"], case["outputs"]["modified_cosine"])
        loss = functools.partial(
            losses.magface_loss, penalty_weight=p["lambda_g"], **hyper
        )
        compare(case, loss, (e, y, kernel))


def test_golden_unpg(x64):
    for case, (e, y, kernel) in golden("unpg"):
        p, outputs = case["params"], case["outputs"]
        options = dict(margin=p["margin"], scale=p["scale"])
        if p["head"] == "arcface":
            options["monotone"] = False

        @interpreted
        def parts(e, kernel, y=y, p=p, options=options):
            cosines = transforms.cosine_logits(e, kernel, scale=1.0)
            logits = getattr(transforms, f"{p['head']}_logits")(cosines, y, **options)
            negatives = transforms.unpg_negatives(e, y, whisker=p["whisker"])
            return negatives, logits, losses.cross_entropy(logits, y)

        kept, logits, plain = parts(e, kernel)
        close(np.sort(kept[kept > -np.inf]), outputs["filtered_negative_sims_sorted"])
        close(logits / p["scale"], outputs["modified_cosine"])
        close(plain.mean(), outputs["loss_without_unpg"])
        loss = functools.partial(losses.unpg_loss, monotone=False, **p)
        each = compare(case, loss, (e, y, kernel))
        assert (each > plain).all(), "something is appended in all cases"


def test_other_losses_take_the_place_of_cross_entropy(x64):
    """The recipes of the docstrings, and cross-entropy as one of them."""
    e, y = draw(0, 8, 4), np.arange(8) % 3
    r, kernel = draw(1, 8, 4), draw(2, 4, 3)
    pairs = targets.label_pairs(y)
    z = eager.cosine_similarities(e) / 0.1
    where = np.asarray(pairs.positive | pairs.negative)
    q = np.asarray(targets.pair_probs(pairs))
    supcon = eager.supcon_loss(e, y, temperature=0.1)
    close(eager.cross_entropy(z, q, where=where), supcon)
    close(eager.focal_loss(z, q, where=where, gamma=0.0), supcon)
    assert (eager.focal_loss(z, q, where=where) < supcon).all()
    z = eager.cosine_similarities(e, r) / 0.1
    close(
        eager.label_smoothing_loss(z, np.arange(8), eps=0.0),
        eager.infonce_loss(e, r, temperature=0.1),
    )
    cosines = eager.cosine_logits(e, kernel, scale=1.0)
    z = eager.cosface_logits(cosines, y)
    close(eager.focal_loss(z, y, gamma=0.0), eager.cosface_loss(e, y, kernel))
    negatives = eager.unpg_negatives(e, y)
    rest = np.full((8, 1), np.logaddexp.reduce(64 * negatives.ravel()))
    z = eager.cosface_logits(cosines, y, margin=0.5)
    want = eager.unpg_loss(e, y, kernel)
    close(eager.focal_loss(np.concatenate([z, rest], -1), y, gamma=0.0), want)


def test_simclr_is_ntxent_where_classes_have_two_members(x64):
    a, b = draw(0, 6, 4), draw(1, 6, 4)
    both, ids = np.concatenate([a, b]), np.tile(np.arange(6), 2)
    got = eager.simclr_ntxent_loss(a, b, temperature=0.3)
    want = eager.ntxent_loss(both, ids, temperature=0.3).reshape(2, -1).mean(0)
    close(got, want)


def test_infonce_by_hand(x64):
    a, b, queue = draw(0, 5, 4), draw(1, 5, 4), draw(2, 3, 4)
    rows = [x / np.linalg.norm(x, axis=-1, keepdims=True) for x in (a, b, queue)]
    s = rows[0] @ rows[1].T / 0.2
    each = np.logaddexp.reduce(s, -1) - np.diag(s)
    close(eager.infonce_loss(a, b, temperature=0.2), each)
    turned = np.logaddexp.reduce(s, 0) - np.diag(s)
    both = eager.infonce_loss(a, b, temperature=0.2, symmetric=True)
    close(both, (each + turned) / 2)
    s = np.concatenate([s, rows[0] @ rows[2].T / 0.2], -1)
    each = np.logaddexp.reduce(s, -1) - np.diag(s)
    more = np.concatenate([b, queue])
    close(eager.infonce_loss(a, more, temperature=0.2), each)
    known = np.arange(8) != 7
    s = s[:, known]
    each = np.logaddexp.reduce(s, -1) - np.diag(s)
    got = eager.infonce_loss(a, more, temperature=0.2, reference_mask=known)
    close(got, each)


def test_pairs_of_a_miner_take_the_place_of_labels(x64):
    e, y = draw(0, 6, 4), np.arange(6) % 2
    mined = targets.label_pairs(y)
    mined = mined._replace(negative=mined.negative & (np.arange(6) > 1)[None])
    for loss in (eager.supcon_loss, eager.ntxent_loss):
        plain = loss(e, y, temperature=0.5)
        got = loss(e, None, temperature=0.5, pairs=mined)
        assert (got < plain).all()
        close(loss(e, None, temperature=0.5, pairs=targets.label_pairs(y)), plain)


VIEWS = {
    "supcon_loss": lambda e, y, **k: losses.supcon_loss(e, y, **k),
    "ntxent_loss": lambda e, y, **k: losses.ntxent_loss(e, y, **k),
    "infonce_loss": lambda e, y, **k: losses.infonce_loss(e, e[::-1], **k),
    "simclr_ntxent_loss": lambda e, y, **k: losses.simclr_ntxent_loss(e, e + 1, **k),
}


def both(loss, e, **options):
    run = interpreted(
        jax.value_and_grad(
            lambda e: (lambda v: (v.sum(), v))(loss(e, **options)), has_aux=True
        )
    )
    (_, values), grad = run(e)
    return values, grad


@pytest.mark.parametrize("name", VIEWS)
def test_edges_of_views(name):
    loss = functools.partial(VIEWS[name], temperature=0.01)
    e = np.float32(draw(0, 8, 4))
    e[0], e[1], e[2] = 0, e[3], 1e19 * e[2]
    for y in (np.arange(8) % 2, np.arange(8), np.zeros(8, int)):
        values, grad = both(loss, e, y=y)
        assert np.isfinite(values).all()
        assert np.isfinite(grad).all()
        assert name == "simclr_ntxent_loss" or (grad[0] == 0).all()
        if name in ("supcon_loss", "ntxent_loss") and y.max() == 7:
            assert (values == 0).all(), "no anchor has a positive"
            assert (grad == 0).all()
    values, grad = both(loss, e, y=np.arange(8) % 2, mask=np.zeros(8, bool))
    assert (values == 0).all()
    assert (grad == 0).all()
    values, grad = both(loss, e[:1], y=np.zeros(1, int))  # alone
    assert np.isfinite(values).all()
    assert (grad[0] == 0).all()


def test_one_class(x64):
    e, y = draw(0, 5, 4), np.zeros(5, int)
    assert (eager.ntxent_loss(e, y, temperature=0.1) == 0).all()
    s = np.asarray(eager.cosine_similarities(e)) / 0.1
    np.fill_diagonal(s, -np.inf)
    total = np.logaddexp.reduce(s, -1)
    np.fill_diagonal(s, 0)
    close(eager.supcon_loss(e, y, temperature=0.1), total - s.sum(-1) / 4)


@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_exact_given_the_similarities(temperature):
    """SupCon and NT-Xent of float32 similarities against float64 of the same."""
    e, y = np.float32(draw(0, 12, 3)), np.arange(12) % 4
    e[4] = e[0]  # a duplicate, and a positive of it
    e[5] = -e[1]
    pairs = targets.label_pairs(y)
    s = np.asarray(eager.cosine_similarities(e))
    for loss in (views._among_all, views._each_alone):

        def of_similarities(s, loss=loss):
            each = loss(s / jnp.asarray(temperature, s.dtype), pairs)
            return each.sum(), each

        run = interpreted(jax.value_and_grad(of_similarities, has_aux=True))
        (_, got), slope = run(s)
        with jax.enable_x64(True):
            (_, want), right = run(s.astype(np.float64))
        assert goldens.error(got, want) < 1e-5
        assert goldens.error(slope, right) < 1e-5
        small = np.abs(want) > 1e-30  # each anchor, not only the worst
        np.testing.assert_allclose(got[small], want[small], rtol=2e-5)


def test_float32_of_embeddings():
    """Cosines of 1e-7 are all that a temperature makes larger."""
    e, y = np.float32(draw(0, 16, 8)), np.arange(16) % 4
    kernel = np.float32(draw(1, 8, 4))
    calls = {
        "supcon_loss": ((), dict(temperature=0.1)),
        "ntxent_loss": ((), dict(temperature=0.1)),
        "normalized_softmax_loss": ((kernel,), dict(temperature=0.1)),
        "proxy_nca_loss": ((kernel,), {}),
        "proxy_anchor_loss": ((kernel,), {}),
        "cosface_loss": ((kernel,), {}),
        "arcface_loss": ((kernel,), {}),
        "magface_loss": ((kernel,), {}),
        "unpg_loss": ((kernel,), {}),
    }
    for name, (more, options) in calls.items():

        def loss(e, y, *more, name=name, options=options):
            return getattr(losses, name)(e, y, *more, **options)

        got = goldens.value_and_grad(loss, e, y, *more)
        for scale in (1, 1e19):
            if scale > 1 and name == "magface_loss":
                continue
            big = goldens.value_and_grad(loss, e * np.float32(scale), y, *more)
            assert goldens.error(big[0], got[0]) < 1e-5
            assert goldens.error(big[1] * scale, got[1]) < 1e-5
        with jax.enable_x64(True):
            wide = [a.astype(np.float64) for a in (e, *more)]
            want = goldens.value_and_grad(loss, wide[0], y, *wide[1:])
        assert goldens.error(got[0], want[0]) < 1e-5, name
        assert goldens.error(got[1], want[1]) < 1e-5, name


def test_margins_at_their_edges():
    """Angles of 0 and pi, one class, no label, and an angle that a cosine loses."""
    e = np.float32([[1, 0], [-1, 0], [0, 0], [1, 1e-4]])
    kernel, y = np.float32([[1.0], [0.0]]), np.zeros(4, int)
    for name in ("cosface_loss", "arcface_loss", "magface_loss", "unpg_loss"):
        values, grad = both(getattr(losses, name), e, labels=y, kernel=kernel)
        assert np.isfinite(values).all(), name
        assert np.isfinite(grad).all(), name
    kernel = np.float32([[1, 0], [0, 1]])
    for name in ("cosface_loss", "arcface_loss", "magface_loss"):
        values, grad = both(getattr(losses, name), e, labels=y - 1, kernel=kernel)
        assert np.isnan(values).all()
    cosines = eager.cosine_logits(e, kernel, scale=1.0)
    sines = eager.label_sines(e, y, kernel)
    np.testing.assert_allclose(sines, [0, 0, 0.5, 1e-4], rtol=1e-6, atol=1e-7)
    logits = eager.arcface_logits(cosines, y, sines=sines, scale=1.0)
    want = np.cos(1e-4 + 0.5)
    np.testing.assert_allclose(logits[3, 0], want, rtol=1e-6)
    # By the cosine alone, 1 in float32, the angle would be 0.
    assert abs(eager.arcface_logits(cosines, y, scale=1.0)[3, 0] - want) > 3e-5
    assert (eager.arcface_logits(cosines, y - 1, scale=1.0) == cosines).all()


def test_arcface_falls_with_the_angle(x64):
    angles = np.linspace(0, np.pi, 201)
    cosines = np.stack([np.cos(angles), np.zeros(201)], -1)
    y = np.zeros(201, int)
    z = eager.arcface_logits(cosines, y, scale=1.0)[:, 0]
    assert (np.diff(z) < 0).all()
    z = eager.arcface_logits(cosines, y, scale=1.0, monotone=False)[:, 0]
    np.testing.assert_allclose(z, np.cos(angles + 0.5), atol=1e-12)
    assert (np.diff(z) > 0).any()
    margins = np.linspace(0, 1, 201)
    z = eager.arcface_logits(cosines, y, scale=1.0, monotone=False, margin=margins)
    np.testing.assert_allclose(z[:, 0], np.cos(angles + margins), atol=1e-12)


def test_proxy_nca_without_the_positive(x64):
    e, y, q = draw(0, 5, 4), np.arange(5) % 3, draw(1, 4, 3)
    unit = e / np.linalg.norm(e, axis=-1, keepdims=True)
    d = ((unit[:, :, None] - q / np.linalg.norm(q, axis=0)) ** 2).sum(1) * 2.0
    own = d[np.arange(5), y]
    d[np.arange(5), y] = np.inf
    got = eager.proxy_nca_loss(e, y, q, scale=2.0, exclude_positive=True)
    close(got, own + np.logaddexp.reduce(-d, -1))
    values, grad = both(
        losses.proxy_nca_loss,
        e,
        labels=y * 0,
        proxies=q[:, :1],
        exclude_positive=True,
    )
    assert (values == 0).all()
    assert (grad == 0).all()


def test_unpg_by_hand(x64):
    e, kernel = draw(0, 9, 4), draw(1, 4, 3)
    y = np.array([0, 1, 2, 0, 1, 2, -1, 0, 1])
    keep = np.arange(9) != 8
    s = np.asarray(eager.cosine_similarities(e))
    pairs = [
        (i, j)
        for i in range(8)
        for j in range(i + 1, 8)
        if y[i] != y[j] and min(y[i], y[j]) >= 0
    ]
    found = np.sort([s[i, j] for i, j in pairs])
    first, third = found[len(found) // 4], found[len(found) * 3 // 4]
    for whisker in (0.0, 0.3, 1.5):
        reach = whisker * (third - first)
        want = found[(found >= first - reach) & (found <= third + reach)]
        got = eager.unpg_negatives(e, y, whisker=whisker, mask=keep)
        np.testing.assert_array_equal(np.sort(got[got > -np.inf]), want)
    one_class = np.zeros(9, int)
    assert (eager.unpg_negatives(e, one_class) == -np.inf).all()
    got = eager.unpg_loss(e, one_class, kernel, margin=0.35)
    close(got, eager.cosface_loss(e, one_class, kernel))


E, Y, K = np.ones((4, 3), "f4"), np.array([0, 1, 2, 0]), np.ones((3, 3), "f4")
T = dict(temperature=0.1)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: losses.supcon_loss(E, Y[:3], **T), r"labels has shape \(3,\), expect"),
        (lambda: losses.supcon_loss(E[0], Y, **T), "expected one row per example"),
        (lambda: losses.supcon_loss(E, None, **T), "labels is None"),
        (lambda: losses.supcon_loss(E, Y, temperature=0.0), "temperature is 0.0"),
        (lambda: losses.supcon_loss(E, Y, reference=E, **T), "reference_labels is Non"),
        (lambda: losses.supcon_loss(E, Y, reference_labels=Y, **T), "needs reference"),
        (
            lambda: losses.supcon_loss(E, Y, reference=E.T, reference_labels=Y, **T),
            r"reference_labels has shape \(4,\), expected \(3,\)",
        ),
        (
            lambda: losses.ntxent_loss(
                E, Y, reference=E[:, :2], reference_labels=Y, **T
            ),
            "expected rows of width 3",
        ),
        (lambda: losses.ntxent_loss(E, Y, mask=np.ones(3, bool), **T), "mask has sh"),
        (
            lambda: losses.ntxent_loss(E, Y, pairs=targets.label_pairs(Y[:3]), **T),
            r"pairs.positive has shape \(3, 3\), expected \(4, 4\)",
        ),
        (lambda: losses.infonce_loss(E, E[:3], **T), "expected at least 4 rows of wid"),
        (
            lambda: losses.infonce_loss(E[:3], E, symmetric=True, **T),
            "expected 3 rows of width 3",
        ),
        (lambda: losses.simclr_ntxent_loss(E, E[:, :2], **T), "expected 4 rows"),
        (
            lambda: losses.normalized_softmax_loss(E, Y, K[:2], **T),
            r"kernel has shape \(2, 3\)",
        ),
        (lambda: losses.proxy_nca_loss(E, Y, K[:, :2]), "labels"),
        (lambda: losses.proxy_nca_loss(E, Y, K, scale=-1.0), "scale is -1.0"),
        (lambda: losses.proxy_anchor_loss(E, Y, K[:, :2]), "labels"),
        (lambda: losses.proxy_anchor_loss(E, Y[:2], K), "labels has shape"),
        (lambda: losses.proxy_anchor_loss(E, Y, K, margin=-0.1), "margin is -0.1"),
        (lambda: losses.cosface_loss(E, Y, K, margin=-1.0), "margin is -1.0"),
        (lambda: losses.cosface_loss(E, Y, K[:, :2]), "labels"),
        (lambda: losses.arcface_loss(E, Y, K, margin=4.0), r"an angle in \[0.0, pi\]"),
        (lambda: losses.arcface_loss(E, Y, K, scale=0.0), "scale is 0.0"),
        (lambda: losses.arcface_loss(E, Y[:2], K), "labels has shape"),
        (lambda: losses.magface_loss(E, Y, K, norm_low=0.0), "norm_low is 0.0"),
        (lambda: losses.magface_loss(E, Y, K, norm_high=5.0), "above norm_low, 10.0"),
        (lambda: losses.magface_loss(E, Y, K, margin_high=0.1), "margin_high is 0.1"),
        (lambda: losses.magface_loss(E, Y, K, penalty_weight=-1.0), "penalty_weight"),
        (lambda: losses.unpg_loss(E, Y, K, head="sphereface"), "head is 'sphereface'"),
        (lambda: losses.unpg_loss(E, Y, K, whisker=-1.0), "whisker is -1.0"),
        (
            lambda: transforms.arcface_logits(E, Y, sines=Y[:2] * 0.5),
            r"sines has shape \(2,\), expected \(4,\)",
        ),
        (
            lambda: transforms.arcface_logits(E, Y, margin=np.ones(3)),
            r"margin has shape \(3,\)",
        ),
        (lambda: transforms.label_sines(E, Y, K[:2]), "kernel has shape"),
    ],
)
def test_errors(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
