import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.goldens import cases
from harness.heads import D, N, V, assert_close, draw
from harness.interpreter import functions, interpreted
from harness.quickly import quick_jit

from logitlab import heads, links, losses, numerics
from logitlab.losses.catalogue import CATALOGUE

calls = functions(heads)
OF_LABELS = (
    "cross_entropy",
    "comp_sum_loss",
    "focal_loss",
    "poly1_loss",
    "poly_n_loss",
    "symmetric_cross_entropy",
    "generalized_cross_entropy",
    "asymmetric_gce_loss",
    "asymmetric_unhinged_loss",
    "js_label_noise_loss",
)
OF_MORE = (
    "multiclass_hinge_loss",
    "label_smoothing_loss",
    "brier_loss",
    "spherical_z_loss",
)


def loss_of(name):
    row = CATALOGUE[name]
    return functools.partial(row.loss, **row.hyper)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", OF_LABELS)
def test_losses_of_the_labels_probability(x64, name):
    (h, kernel, bias, y), loss = draw(dtype="f8"), loss_of(name)
    slopes = np.random.default_rng(1).normal(size=N)

    @interpreted
    def both(h, kernel, bias):
        def ours(h, kernel, bias):
            return heads.linear_label_loss(
                loss, h, kernel, y, bias=bias, transform=links.stablemax, vocab_chunk=3
            )

        def theirs(h, kernel, bias):
            return loss(links.stablemax(h @ kernel + bias[None]), y)

        def with_gradient(f):
            grads = jax.grad(lambda *a: f(*a) @ slopes, (0, 1, 2))(h, kernel, bias)
            return f(h, kernel, bias), grads

        return [with_gradient(f) for f in (ours, theirs)]

    assert_close(*both(h, kernel, bias), 1e-11)


@pytest.mark.sampled
@pytest.mark.parametrize("name", OF_MORE)
def test_other_losses_are_refused(name):
    h, kernel, _, y = draw()
    with pytest.raises(ValueError, match="depends on more than the label's probabi"):
        heads.linear_label_loss(loss_of(name), h, kernel, y)


def test_refuses_a_loss_that_is_not_per_example():
    h, kernel, _, y = draw()
    with pytest.raises(ValueError, match="expected one number for each"):
        heads.linear_label_loss(lambda z, y: z.sum(), h, kernel, y)


@pytest.mark.parametrize("margin", [20.0, 80.0])
def test_confident_tokens_keep_their_focal_loss(margin):
    kernel = np.zeros((1, V), "f4")
    kernel[0, 2] = margin

    def focal(h):
        return heads.linear_label_loss(
            functools.partial(losses.focal_loss, gamma=1.0), h, kernel, np.array([2])
        )[0]

    value, slope = quick_jit(jax.value_and_grad(focal))(np.ones((1, 1), "f4"))
    rest = (V - 1) * np.exp(-np.float64(margin))
    if rest**2 > np.finfo("f4").tiny:  # (1 - p) times -log p
        np.testing.assert_allclose(value, rest**2, 1e-5)
        np.testing.assert_allclose(slope, -2 * margin * rest**2, 1e-5)
    else:
        assert abs(value) <= np.finfo("f4").tiny
        assert np.isfinite(slope).all()


def test_the_edges_of_two_classes():
    first, kernel = np.zeros(1, int), np.zeros((1, 1), "f4")  # one class: sure of it

    @interpreted
    @jax.value_and_grad
    def take(h):
        return heads.linear_label_loss(losses.focal_loss, h, kernel, first)[0]

    value, slope = take(np.ones((1, 1), "f4"))
    assert value == slope == 0
    where = np.array([True, False])
    got = calls.linear_label_loss(
        losses.cross_entropy,
        np.ones((1, 1), "f4"),
        np.zeros((1, 2), "f4"),
        np.array([1]),
        where=where,
    )
    assert got == np.inf


def test_values_that_the_loss_closes_over(x64):
    h, kernel, _, y = draw(dtype="f8")

    def ours(tau):
        loss = functools.partial(losses.comp_sum_loss, tau=tau)
        return heads.linear_label_loss(loss, h, kernel, y, vocab_chunk=2).sum()

    def theirs(tau):
        return losses.comp_sum_loss(h @ kernel, y, tau=tau).sum()

    assert_close(
        *interpreted(lambda t: (jax.grad(ours)(t), jax.grad(theirs)(t)))(1.3), 1e-10
    )


@pytest.mark.parametrize("smoothing", ["all", "others"])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_by_its_formula(x64, smoothing, weighted):
    h, kernel, bias, y = draw(dtype="f8")
    c = np.linspace(0.5, 2, V) if weighted else np.ones(V)
    eps, lam, where = 0.3, 0.02, np.arange(V) != 3
    y = np.where(y == 3, 4, y)

    def ours(h, kernel, bias):
        return heads.fused_linear_cross_entropy(
            h, kernel, y, bias=bias, label_smoothing=eps, smoothing=smoothing,
            z_loss=lam, class_weight=c if weighted else None, where=where,
            vocab_chunk=3,
        )  # fmt: skip

    def theirs(h, kernel, bias):
        z = (h @ kernel + bias[None])[:, where]
        label, each = y - (y > 3), c[where]
        log_p, hot = jax.nn.log_softmax(z), jax.nn.one_hot(label, V - 1)
        share = (
            jnp.full((N, V - 1), eps / (V - 1))
            if smoothing == "all"
            else (1 - hot) * eps / (V - 2)
        )
        target = (1 - eps) * hot + share
        lse = jax.nn.logsumexp(z, -1)
        return -(target * each[None] * log_p).sum(-1) + lam * lse**2

    @interpreted
    def both(*arguments):
        def with_gradient(f):
            grads = jax.grad(lambda *a: f(*a).sum(), (0, 1, 2))(*arguments)
            return f(*arguments), grads

        return [with_gradient(f) for f in (ours, theirs)]

    assert_close(*both(h, kernel, bias), 1e-11)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", cases("fused_linear_ce"))
def test_golden_cross_entropy(x64, case):
    given = {k: np.asarray(v) for k, v in case["inputs"].items()}
    p, want = case["params"], case["outputs"]
    y, kept = given["labels"], given["labels"] != p["ignore_index"]
    c, cap = given.get("class_weight"), p["softcap"]

    def total(hidden, weight, bias):
        fused = functools.partial(
            heads.fused_linear_cross_entropy, hidden, weight, y * kept, bias=bias,
            transposed=True, vocab_chunk=4,
            transform=None if cap is None else lambda z: cap * jnp.tanh(z / cap),
        )  # fmt: skip
        smooth = dict(label_smoothing=p["label_smoothing"], class_weight=c)
        if p["reduction"] == "none":
            out = jnp.where(kept, fused(**smooth, z_loss=p["z_loss"]), 0)
            return (out * given["cotangent"]).sum(), out
        # The weights of the classes divide the cross-entropy, not the z-loss.
        count = kept.sum() if c is None else c[y[kept]].sum()
        mean = jnp.where(kept, fused(**smooth), 0).sum() / count
        penalty = fused(z_loss=p["z_loss"]) - fused()
        mean += jnp.where(kept, penalty, 0).sum() / kept.sum()
        return mean, mean

    bias = given.get("bias", np.zeros(len(given["weight"])))
    take = interpreted(jax.grad(total, (0, 1, 2), has_aux=True))
    grads, out = take(given["hidden"], given["weight"], bias)
    assert_close(out, np.asarray(want["loss"]), 1e-9)
    names = ["hidden", "weight", "bias"][: 3 if "grad_bias" in want else 2]
    for grad, name in zip(grads, names, strict=False):
        assert_close(grad, np.asarray(want[f"grad_{name}"]), 1e-9)


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", cases("fused_linear_preference"))
def test_golden_preference(case):
    given = {k: np.asarray(v) for k, v in case["inputs"].items()}
    p, want = case["params"], case["outputs"]
    y, kept = given["labels"], given["labels"] >= 0
    average = p["kind"] != "dpo"

    def of(prefix, hidden, weight, bias):
        del prefix
        return heads.sequence_log_prob(
            hidden, weight, y, bias=bias, mask=kept, average=average, transposed=True,
            vocab_chunk=3,
        )  # fmt: skip

    def total(hidden, weight, bias):
        log_p = of("", hidden, weight, bias)
        good, bad = jnp.split(log_p, 2)
        beta = p["beta"]
        if p["kind"] == "dpo":
            names = ("ref_hidden", "ref_weight", "ref_bias")
            ref = of("ref_", *(given[k].astype("f4") for k in names))
            loss = {"sigmoid": losses.dpo_loss, "robust": losses.robust_dpo_loss}
            each = loss[p["loss_type"]](
                good, bad, *jnp.split(ref, 2), beta=beta,
                label_smoothing=p["label_smoothing"],
            )  # fmt: skip
        elif p["kind"] == "orpo":
            each = losses.orpo_odds_ratio_loss(good, bad, beta=beta)
        else:
            each = losses.simpo_loss(good, bad, beta=beta, margin=p["gamma"])
        loss = each.mean()
        if p["compute_nll"]:
            length = kept[: len(kept) // 2].sum(-1)
            loss += p["alpha"] * -(good * length).sum() / length.sum()
        return loss, log_p

    arguments = [given[k].astype("f4") for k in ("hidden", "weight", "bias")]
    take = interpreted(jax.value_and_grad(total, (0, 1, 2), has_aux=True))
    (loss, log_p), grads = take(*arguments)
    assert_close(log_p, np.concatenate([want["chosen_logps"], want["rejected_logps"]]))
    assert_close(loss, np.asarray(want["loss"]))
    names = ("hidden", "weight", "bias")
    assert_close(grads, [np.asarray(want[f"grad_{k}"]) for k in names])


def test_sequences():
    h, kernel, _, y = draw(n=12)
    h, y = h.reshape(3, 4, D), y.reshape(3, 4)
    log_p = -interpreted(losses.cross_entropy)(h @ kernel, y)
    mask = np.array([[1, 1, 1, 1], [1, 0, 0, 0], [0, 0, 0, 0]], bool)
    bad = np.where(mask, y, -100)
    take = functools.partial(calls.sequence_log_prob, h, kernel, bad, mask=mask)
    total = (log_p * mask).sum(-1)
    assert_close(take(), total)
    assert_close(take(average=True), total / [4, 1, 1])
    slope = interpreted(
        jax.grad(lambda h: heads.sequence_log_prob(h, kernel, bad, mask=mask).sum())
    )(h)
    assert (slope[~mask] == 0).all()
    with pytest.raises(TypeError, match="mask has dtype int"):
        heads.sequence_log_prob(h, kernel, y, mask=mask.astype(int))
    with pytest.raises(ValueError, match=r"mask has shape \(4,\), expected \(3, 4\)"):
        heads.sequence_log_prob(h, kernel, y, mask=mask[0])
    with pytest.raises(ValueError, match=r"labels has shape \(\), expected"):
        heads.sequence_log_prob(h[0, 0], kernel, y[0, 0])


def test_errors():
    h, kernel, _, y = draw()
    fused = functools.partial(heads.fused_linear_cross_entropy, h, kernel, y)
    with pytest.raises(ValueError, match="smoothing is 'some', expected 'all' or"):
        fused(smoothing="some")
    with pytest.raises(ValueError, match=r"label_smoothing is 2.0, expected a number"):
        fused(label_smoothing=2.0)
    got, want = interpreted(lambda: (fused(), numerics.label_nll(h @ kernel, y)))()
    assert_close(got, want)
