"""Every row of the page that ports: their number is ours.

Rows of optax are run as they stand. Of libraries that need PyTorch the formula is
written out in NumPy, in float64.
"""

import pathlib
import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from harness.interpreter import interpreted

from logitlab import losses, numerics, targets

PAGE = pathlib.Path(losses.__file__).parents[1] / "docs" / "porting.md"
ROW = re.compile(r"^\| `([^|]+)` \| `([^|]+)` \| ([^|]*)\|$", re.MULTILINE)
ROWS = [match.groups() for match in ROW.finditer(PAGE.read_text("utf-8"))]


def draw():
    """Arrays by the names that the page uses."""
    rng = np.random.default_rng(0)
    logits, teacher = 3 * rng.normal(size=(2, 6, 5))
    labels = rng.integers(0, 5, 6)
    embeddings, columns = rng.normal(size=(6, 4)), rng.normal(size=(4, 5))
    padding = np.arange(7) >= np.array([[7], [6], [5]])
    lengths = rng.integers(3, 9, 6).astype(float)
    arrays = dict(
        logits=logits,
        teacher=teacher,
        soft=rng.dirichlet(np.ones(5), 6),
        shares=rng.uniform(size=(6, 5)),
        weights=rng.uniform(0.5, 2, 5),
        scores=3 * rng.normal(size=6),
        signs=rng.choice([-1.0, 1.0], 6),
        frames=rng.normal(size=(3, 7, 4)),
        frame_paddings=padding.astype(float),
        token_paddings=(np.arange(3) >= np.array([[3], [2], [1]])).astype(float),
        embeddings=embeddings,
        kernel=columns,
        unit=embeddings / np.linalg.norm(embeddings, axis=-1, keepdims=True),
        unit_weights=columns / np.linalg.norm(columns, axis=0),
        lengths=lengths,
        chosen=-rng.uniform(1, 9, 6),
        rejected=-rng.uniform(1, 9, 6),
        ref_chosen=-rng.uniform(1, 9, 6),
        ref_rejected=-rng.uniform(1, 9, 6),
    )
    whole = dict(
        labels=labels,
        hits=rng.integers(0, 2, (6, 5)),
        padded=np.where(np.arange(6) == 2, -100, labels),
        tokens=rng.integers(1, 4, (3, 3)),
        partner=np.array([3, 4, 5, 0, 1, 2]),
        partners=np.arange(6) % 3,
    )
    return arrays, whole


def open_mean(hinges):
    return hinges[hinges > 0].mean()


def contrastive(unit, labels):
    d = np.linalg.norm(unit[:, None] - unit[None], axis=-1)
    same = labels[:, None] == labels
    return open_mean(d[same]) + open_mean(1 - d[~same])


def triplet(unit, labels, margin):
    d = np.linalg.norm(unit[:, None] - unit[None], axis=-1)
    same = labels[:, None] == labels
    positive = same & ~np.eye(len(labels), dtype=bool)
    hinges = d[:, :, None] - d[:, None] + margin
    return open_mean(hinges[positive[:, :, None] & ~same[:, None]])


def multi_similarity(s, labels):
    same = labels[:, None] == labels
    positive = same & ~np.eye(len(labels), dtype=bool)
    pull = np.log1p((np.exp(-2 * s) * positive).sum(-1)) / 2
    return (pull + np.log1p((np.exp(50 * s) * ~same).sum(-1)) / 50).mean()


def softplus(x):
    return np.logaddexp(0, x)


def log_softmax(z):
    return z - np.logaddexp.reduce(z, -1, keepdims=True)


def pick(rows, labels):
    return np.take_along_axis(rows, labels[:, None], -1)[:, 0]


def binary(z, t, positive=1.0):
    return positive * t * softplus(-z) + (1 - t) * softplus(z)


def kl(a, b):
    """Of softmax(a) from softmax(b), by example."""
    return (np.exp(log_softmax(a)) * (log_softmax(a) - log_softmax(b))).sum(-1)


def odds(mean_logps):
    return mean_logps - np.log1p(-np.exp(mean_logps))


def dkd_loss(z, t, labels, alpha, beta, temperature):
    hot = np.eye(z.shape[-1], dtype=bool)[labels]

    def parts(z):
        log_p = log_softmax(z / temperature)
        own = log_p[hot]
        rest = log_softmax(np.where(hot, -1e9, z / temperature))
        return np.stack([own, np.log1p(-np.exp(own))], -1), rest

    (two_s, rest_s), (two_t, rest_t) = parts(z), parts(t)
    target = (np.exp(two_t) * (two_t - two_s)).sum(-1)
    others = np.where(hot, 0, np.exp(rest_t) * (rest_t - rest_s)).sum(-1)
    return temperature**2 * (alpha * target + beta * others)


def standardized(z):
    z = z - z.mean(-1, keepdims=True)
    return z / (z.std(-1, keepdims=True, ddof=1) + 1e-7)


def margin(a):
    return (a.chosen - a.rejected) - (a.ref_chosen - a.ref_rejected)


def gains(a):
    """Log-ratios of the chosen and the rejected answers to the reference."""
    return a.chosen - a.ref_chosen, a.rejected - a.ref_rejected


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def discopop(m):
    modulation = sigmoid(m / 0.05)
    return softplus(-m) * (1 - modulation) + np.exp(-m) * modulation


def exo(m, share):
    q = sigmoid(m)
    return q * np.log(q / (1 - share)) + (1 - q) * np.log((1 - q) / share)


def jensen(a):
    """The difference of f' of both answers' ratios, up to a constant of both."""
    return np.subtract(*(np.log(sigmoid(g)) for g in gains(a)))


def smooth(labels, classes, share):
    return (1 - share) * np.eye(classes)[labels] + share / classes


def proxy_anchor(cosine, own):
    near = np.log1p(np.where(own, np.exp(-32 * (cosine - 0.1)), 0).sum(0))
    far = np.log1p(np.where(own, 0, np.exp(32 * (cosine + 0.1))).sum(0))
    return near.sum() / own.any(0).sum() + far.mean()


def focal(z, t, alpha, gamma):
    p = sigmoid(z)
    wrong = np.where(t == 1, 1 - p, p)
    return np.where(t == 1, alpha, 1 - alpha) * wrong**gamma * binary(z, t)


THEIRS = {
    "F.cross_entropy(logits, labels)": lambda a: (
        -pick(log_softmax(a.logits), a.labels).mean()
    ),
    "F.cross_entropy(logits, padded, ignore_index=-100)": lambda a: (
        -pick(log_softmax(a.logits), a.labels)[a.padded >= 0].mean()
    ),
    "F.cross_entropy(logits, soft)": lambda a: (
        -(a.soft * log_softmax(a.logits)).sum(-1).mean()
    ),
    'F.cross_entropy(logits, labels, weight=weights, reduction="sum")': lambda a: (
        -(a.weights[a.labels] * pick(log_softmax(a.logits), a.labels)).sum()
    ),
    "F.cross_entropy(logits, labels, label_smoothing=0.1)": lambda a: (
        -(smooth(a.labels, 5, 0.1) * log_softmax(a.logits)).sum(-1).mean()
    ),
    "F.nll_loss(F.log_softmax(logits, -1), labels)": lambda a: (
        -pick(log_softmax(a.logits), a.labels).mean()
    ),
    "F.binary_cross_entropy_with_logits(logits, shares)": lambda a: binary(
        a.logits, a.shares
    ).mean(),
    "F.binary_cross_entropy_with_logits(logits, hits, pos_weight=weights)": (
        lambda a: binary(a.logits, a.hits, a.weights[None]).mean()
    ),
    'F.kl_div(F.log_softmax(logits, -1), F.softmax(teacher, -1), reduction="batchmean")': (  # noqa: E501
        lambda a: kl(a.teacher, a.logits).mean()
    ),
    "F.multi_margin_loss(logits, labels)": lambda a: (
        (np.maximum(0, 1 - pick(a.logits, a.labels)[:, None] + a.logits).sum(-1) - 1)
        / 5
    ).mean(),
    "F.multilabel_soft_margin_loss(logits, hits)": lambda a: binary(
        a.logits, a.hits
    ).mean(),
    "F.multilabel_margin_loss(logits, indices)": lambda a: np.mean(
        [
            np.maximum(0, 1 - z[t == 1][:, None] + z[t == 0]).sum() / 5
            for z, t in zip(a.logits, a.hits, strict=True)
        ]
    ),
    "F.soft_margin_loss(scores, signs)": lambda a: softplus(-a.signs * a.scores).mean(),
    "torchvision.ops.sigmoid_focal_loss(logits, hits)": lambda a: focal(
        a.logits, a.hits, 0.25, 2
    ),
    'loss_type="sigmoid"': lambda a: softplus(-0.1 * margin(a)),
    'loss_type="sigmoid", label_smoothing=0.1': lambda a: (
        0.9 * softplus(-0.1 * margin(a)) + 0.1 * softplus(0.1 * margin(a))
    ),
    'loss_type="robust", label_smoothing=0.1': lambda a: (
        (0.9 * softplus(-0.1 * margin(a)) - 0.1 * softplus(0.1 * margin(a))) / 0.8
    ),
    'loss_type="hinge"': lambda a: np.maximum(0, 1 - 0.1 * margin(a)),
    'loss_type="ipo"': lambda a: (margin(a) / a.lengths - 5) ** 2,
    'loss_type="exo_pair", label_smoothing=1e-3': lambda a: exo(0.1 * margin(a), 1e-3),
    'loss_type="nca_pair"': lambda a: (
        softplus(-0.1 * gains(a)[0]) + sum(0.5 * softplus(0.1 * g) for g in gains(a))
    ),
    'loss_type="bco_pair"': lambda a: (
        softplus(-0.1 * gains(a)[0]) + softplus(0.1 * gains(a)[1])
    ),
    'loss_type="sppo_hard"': lambda a: (gains(a)[0] - 5) ** 2 + (gains(a)[1] + 5) ** 2,
    'loss_type="aot"': lambda a: softplus(
        0.1 * np.sort(a.ref_chosen - a.ref_rejected)
        - 0.1 * np.sort(a.chosen - a.rejected)
    ),
    'loss_type="aot_unpaired"': lambda a: softplus(
        0.1 * np.sort(gains(a)[1]) - 0.1 * np.sort(gains(a)[0])
    ),
    'loss_type="apo_zero"': lambda a: (
        1 - sigmoid(0.1 * gains(a)[0]) + sigmoid(0.1 * gains(a)[1])
    ),
    'loss_type="apo_down"': lambda a: (
        sigmoid(0.1 * gains(a)[0]) + 1 - sigmoid(0.1 * margin(a))
    ),
    'loss_type="discopop"': lambda a: discopop(0.1 * margin(a)),
    'loss_type="sigmoid_norm"': lambda a: softplus(-0.1 * margin(a) / a.lengths),
    'loss_type="sigmoid", f_divergence_type="js_divergence"': lambda a: softplus(
        -0.1 * jensen(a)
    ),
    'loss_type="hinge", f_divergence_type="js_divergence"': lambda a: np.maximum(
        0, 1 - 0.1 * jensen(a)
    ),
    'CPOConfig(loss_type="sigmoid")': lambda a: softplus(
        -0.1 * (a.chosen - a.rejected)
    ),
    'CPOConfig(loss_type="hinge")': lambda a: np.maximum(
        0, 1 - 0.1 * (a.chosen - a.rejected)
    ),
    'CPOConfig(loss_type="ipo")': lambda a: (
        ((a.chosen - a.rejected) / a.lengths - 5) ** 2
    ),
    'CPOConfig(loss_type="simpo", beta=2.0, simpo_gamma=0.5)': lambda a: softplus(
        -2 * ((a.chosen - a.rejected) / a.lengths - 0.5 / 2)
    ),
    "ORPO's odds ratio": lambda a: (
        0.1 * softplus(odds(a.rejected / a.lengths) - odds(a.chosen / a.lengths))
    ),
    "KD.kd_loss(logits, teacher, 4)": lambda a: (
        16 * kl(a.teacher / 4, a.logits / 4).mean()
    ),
    "KD.kd_loss(logits, teacher, 4, logit_stand=True)": lambda a: (
        16 * kl(standardized(a.teacher) / 4, standardized(a.logits) / 4).mean()
    ),
    "DKD.dkd_loss(logits, teacher, labels, 1.0, 8.0, 4)": lambda a: dkd_loss(
        a.logits, a.teacher, a.labels, 1, 8, 4
    ).mean(),
    "NormalizedSoftmaxLoss(temperature=0.05)": lambda a: (
        -pick(log_softmax(a.unit @ a.unit_weights / 0.05), a.labels).mean()
    ),
    "NTXentLoss(temperature=0.07), one positive each": lambda a: (
        -pick(
            log_softmax(np.where(np.eye(6), -np.inf, a.unit @ a.unit.T / 0.07)),
            a.partner,
        ).mean()
    ),
    "CosFaceLoss(margin=0.35, scale=64)": lambda a: (
        -pick(
            log_softmax(64 * (a.unit @ a.unit_weights - 0.35 * np.eye(5)[a.labels])),
            a.labels,
        ).mean()
    ),
    "SupConLoss(temperature=0.1)": lambda a: (
        -pick(
            log_softmax(np.where(np.eye(6), -np.inf, a.unit @ a.unit.T / 0.1)),
            a.partner,
        ).mean()
    ),
    "ContrastiveLoss()": lambda a: contrastive(a.unit, a.partners),
    "TripletMarginLoss(margin=0.05)": lambda a: triplet(a.unit, a.partners, 0.05),
    "MultiSimilarityLoss(alpha=2, beta=50, base=0.5)": lambda a: multi_similarity(
        a.unit @ a.unit.T - 0.5, a.partners
    ),
    "ProxyNCALoss(softmax_scale=1)": lambda a: (
        -pick(log_softmax(2 * a.unit @ a.unit_weights), a.labels).mean()
    ),
    "ProxyAnchorLoss(margin=0.1, alpha=32)": lambda a: proxy_anchor(
        a.unit @ a.unit_weights, np.eye(5, dtype=bool)[a.labels]
    ),
}


class Arrays(dict):
    """Arrays as attributes."""

    __getattr__ = dict.__getitem__


@pytest.mark.parametrize(("theirs", "ours"), [row[:2] for row in ROWS])
def test_their_number_is_ours(theirs, ours):
    floats, whole = draw()
    names = dict(jax=jax, jnp=jnp, losses=losses, numerics=numerics, optax=optax)
    names["targets"] = targets
    single = {name: jnp.float32(a) for name, a in floats.items()}

    def number(code):
        return interpreted(lambda: eval(code, names | single | whole))()

    got = number(ours)
    if theirs.startswith("optax."):
        want = number(theirs)
    else:
        want = THEIRS[theirs](Arrays(floats | whole))
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=1e-6)


def test_every_formula_is_on_the_page():
    assert len(ROWS) == PAGE.read_text("utf-8").count("\n| `")
    assert set(THEIRS) == {row[0] for row in ROWS if not row[0].startswith("optax.")}
