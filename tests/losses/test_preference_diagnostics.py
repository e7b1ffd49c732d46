import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions

from logitlab import data, losses, sequences, theory

losses, sequences, theory = functions(losses), functions(sequences), functions(theory)


def sigma(x):
    return 1 / (1 + np.exp(-x))


BETA, ALPHA, LAM = 0.3, 0.2, 50.0
RNG = np.random.default_rng(0)
C, R, RC, RR = -RNG.uniform(1, 9, (4, 7))
N, M = RNG.integers(1, 9, (2, 7))
A, B = C - RC, R - RR
DELTA = A - B
PUSH = BETA * sigma(-BETA * DELTA)
S = C / N  # mean log-probabilities
W = R / M
ODDS = S - W - np.log1p(-np.exp(S)) + np.log1p(-np.exp(W))
REWARD = BETA * (S - W) - 0.5
SIMPO = sigma(-REWARD)


def with_nll(loss, weight, mean=False):
    """A loss of sums of log-probabilities beside the likelihood of chosen answers."""
    return lambda c, r: loss(c, r) - weight * c / (N if mean else 1)


def of_means(loss):
    return lambda c, r: loss(c / N, r / M)


TABLE = {  # the loss, whether it has a reference, both coefficients in closed form
    "dpo": (losses.dpo_loss, True, PUSH, PUSH),
    "cdpo": (
        functools.partial(losses.dpo_loss, label_smoothing=0.1),
        True,
        BETA * (0.9 * sigma(-BETA * DELTA) - 0.1 * sigma(BETA * DELTA)),
        BETA * (0.9 * sigma(-BETA * DELTA) - 0.1 * sigma(BETA * DELTA)),
    ),
    "robust": (
        functools.partial(losses.robust_dpo_loss, label_smoothing=0.2),
        True,
        PUSH + BETA * 0.2 / 0.6,
        PUSH + BETA * 0.2 / 0.6,
    ),
    "r_dpo": (
        lambda *a, beta: losses.r_dpo_loss(*a, N, M, beta=beta),
        True,
        BETA * sigma(-(BETA * DELTA + ALPHA * (N - M))),
        BETA * sigma(-(BETA * DELTA + ALPHA * (N - M))),
    ),
    "ipo": (
        functools.partial(losses.ipo_loss, average_log_prob=False),
        True,
        2 * (1 / (2 * BETA) - DELTA),
        2 * (1 / (2 * BETA) - DELTA),
    ),
    "hinge": (
        losses.dpo_hinge_loss,
        True,
        BETA * (BETA * DELTA < 1),
        BETA * (BETA * DELTA < 1),
    ),
    "dpop": (
        losses.dpop_loss,
        True,
        BETA * (1 + LAM * (A < 0)) * sigma(-BETA * (DELTA - LAM * np.maximum(0, -A))),
        BETA * sigma(-BETA * (DELTA - LAM * np.maximum(0, -A))),
    ),
    "nca": (
        losses.nca_loss,
        True,
        BETA * (sigma(-BETA * A) - sigma(BETA * A) / 2),
        BETA * sigma(BETA * B) / 2,
    ),
    "sppo": (
        losses.sppo_loss,
        True,
        2 * (1 / (2 * BETA) - A),
        2 * (1 / (2 * BETA) + B),
    ),
    "bco": (
        functools.partial(losses.bco_pair_loss, shift=0.3),
        True,
        BETA * sigma(-(BETA * A - 0.3)),
        BETA * sigma(BETA * B - 0.3),
    ),
    "rpo": (
        functools.partial(losses.rpo_loss, eta=0.4),
        True,
        PUSH + 0.4 * BETA,
        PUSH,
    ),
    "kto": (
        lambda c, r, rc, rr, beta: (
            losses.kto_loss(c, rc, N > 0, kl=0.4, beta=beta, desirable_weight=1.3)
            + losses.kto_loss(r, rr, N < 0, kl=0.4, beta=beta)
        ),
        True,
        1.3 * BETA * sigma(BETA * (A - 0.4)) * sigma(-BETA * (A - 0.4)),
        BETA * sigma(BETA * (0.4 - B)) * sigma(-BETA * (0.4 - B)),
    ),
    "cpo": (
        with_nll(functools.partial(losses.cpo_loss, beta=BETA), 0.7),
        False,
        BETA * sigma(-BETA * (C - R)) + 0.7,
        BETA * sigma(-BETA * (C - R)),
    ),
    "simpo": (
        of_means(functools.partial(losses.simpo_loss, beta=BETA, margin=0.5)),
        False,
        BETA / N * SIMPO,
        BETA / M * SIMPO,
    ),
    "rrhf": (
        with_nll(of_means(losses.rrhf_loss), 0.7),
        False,
        (W > S) / N + 0.7,
        (W > S) / M,
    ),
    "orpo": (
        with_nll(
            of_means(functools.partial(losses.orpo_odds_ratio_loss, beta=BETA)),
            1,
            mean=True,
        ),
        False,
        BETA * sigma(-ODDS) / (N * (1 - np.exp(S))) + 1 / N,
        BETA * sigma(-ODDS) / (M * (1 - np.exp(W))),
    ),
}


@pytest.mark.parametrize("name", TABLE)
def test_coefficients(name, x64):
    loss, referenced, *want = TABLE[name]
    more, options = ((RC, RR), dict(beta=BETA)) if referenced else ((), {})
    got = theory.margin_coefficients(loss, C, R, *more, **options)
    for a, b in zip(got, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9)


def model(params, answers):
    """Log-probabilities of one token for each answer of a pair, from shared weights."""
    logits = jnp.tanh(params["w"]) @ answers["x"] + params["b"]
    return jax.nn.log_softmax(logits)[answers["tokens"]]


def draw(pairs):
    rng = np.random.default_rng(1)
    params = {"w": rng.normal(size=(5, 3)), "b": rng.normal(size=5)}
    tokens = np.stack([rng.permutation(5)[:2] for _ in range(pairs)])
    answers = {"x": rng.normal(size=(pairs, 3)), "tokens": tokens}
    return jax.tree.map(jnp.asarray, (params, answers))


def gradients(params, answers):
    both = jax.jacrev(model)(params, answers)
    return tuple(jax.tree.map(lambda g, i=i: g[i], both) for i in (0, 1))


def test_first_order_changes(x64):
    params, answers = draw(1)
    pair = jax.tree.map(lambda a: a[0], answers)
    g_w, g_l = gradients(params, pair)
    found = theory.entanglement_diagnostics(g_w, g_l, 0.7, 0.2)
    moved = jax.tree.map(
        lambda p, w, l: p + 1e-5 * (0.7 * w - 0.2 * l),  # noqa: E741
        params, g_w, g_l,
    )  # fmt: skip
    change = (model(moved, pair) - model(params, pair)) / 1e-5
    np.testing.assert_allclose(found["chosen_change"], change[0], rtol=1e-3)
    np.testing.assert_allclose(found["rejected_change"], change[1], rtol=1e-3)
    assert found["chosen_rises"] == (change[0] > 0)
    assert found["rejected_falls"] == (change[1] < 0)
    w, l = (np.concatenate([g["b"], g["w"].ravel()]) for g in (g_w, g_l))  # noqa: E741
    cosine = w @ l / np.linalg.norm(w) / np.linalg.norm(l)
    np.testing.assert_allclose(found["cosine"], cosine, rtol=1e-12)
    np.testing.assert_allclose(found["ratio"], w @ l / min(w @ w, l @ l), rtol=1e-12)
    # Two tokens of one softmax, as functions of its logits.
    p = np.asarray(jax.nn.softmax(params["b"]))
    e = np.eye(5) - p
    inner = theory.entanglement_diagnostics(e[1], e[3])["inner"]
    np.testing.assert_allclose(inner, -p[1] - p[3] + p @ p, rtol=1e-12)
    same = theory.entanglement_diagnostics(g_w, g_w)
    np.testing.assert_allclose([same["cosine"], same["ratio"]], 1, rtol=1e-12)
    assert not same["chosen_rises"]
    zero = theory.entanglement_diagnostics(np.zeros(3), np.zeros(3))
    assert np.isfinite([float(v) for v in zero.values()]).all()


def test_normalised_gradients_part_every_pair(x64):
    params, answers = draw(6)
    one = jax.jit(theory.pairwise_normalized_gradient, static_argnums=0)
    alone = []
    for i in range(6):
        pair = jax.tree.map(lambda a, i=i: a[i : i + 1], answers)
        grad = one(gradients, params, pair, (jnp.ones(1), jnp.ones(1)))
        alone.append(grad)
        g_w, g_l = gradients(params, jax.tree.map(lambda a, i=i: a[i], answers))
        along = functools.partial(sum_of_products, grad)
        assert along(g_w) < 0 < along(g_l)  # descending: up for one, down for the other
    d_w, d_l = np.random.default_rng(2).random((2, 6))
    every = one(gradients, params, answers, (jnp.asarray(d_w), jnp.asarray(d_w)))
    want = jax.tree.map(
        lambda *g: sum(d * a for d, a in zip(d_w, g, strict=True)) / 6, *alone
    )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-9), every, want)
    with pytest.raises(ValueError, match=r"coeff has d_l of shape \(2,\), expected"):
        one(gradients, params, answers, (jnp.asarray(d_w), jnp.ones(2)))
    with pytest.raises(ValueError, match="pairs has leading axes"):
        one(gradients, params, {}, (jnp.asarray(d_w), jnp.asarray(d_l)))


def sum_of_products(a, b):
    return sum(jax.tree.leaves(jax.tree.map(jnp.vdot, a, b)))


TEXT = (
    "Compatibility of systems of linear constraints over the set of natural numbers. "
    "Criteria of compatibility of a system of linear Diophantine equations."
)


def test_key_phrases():
    found = dict(data.rake_phrases(TEXT, {"of", "over", "the", "a"}))
    # Degrees over frequencies: linear (2 + 3) / 2, compatibility (1 + 1) / 2.
    assert found["linear diophantine equations"] == 2.5 + 3 + 3
    assert found["linear constraints"] == 2.5 + 2
    assert found["natural numbers"] == 4
    assert found["compatibility"] == 1
    assert list(found)[0] == "linear diophantine equations"
    assert data.rake_phrases("the of", {"the", "of"}) == []


def test_degrading():
    tokens = [3, 1, 2, 4, 1, 2, 5]
    phrases = [[1, 2], [5], [9]]
    assert data.degrade(tokens, phrases, 0, 3) == tokens
    assert data.degrade(tokens, phrases, 1, 3) == [3, 4, 5]
    assert data.degrade(tokens, phrases, 3, 3) == [3, 4]
    assert data.degrade(tokens, [], 0, 0) == tokens
    with pytest.raises(ValueError, match="level is 4, expected one of 0 to 3"):
        data.degrade(tokens, phrases, 4, 3)


def test_degree_loss():
    z = np.random.default_rng(0).normal(size=(3, 4)).astype("f4")
    z[1] = np.nan
    level, mask = np.array([0, -100, 3]), np.array([True, False, True])
    loss = functools.partial(losses.preference_degree_loss, labels=level, mask=mask)
    values, pull = jax.vjp(jax.jit(loss), jnp.asarray(z))
    (grad,) = pull(jnp.ones(3))
    want = losses.cross_entropy(z[mask], level[mask])
    np.testing.assert_allclose(values, [want[0], 0, want[1]], rtol=1e-6)
    assert (grad[1] == 0).all()
    assert np.isfinite(grad).all()
    total = losses.spo_loss(values, 2 * values, gamma=0.5)
    np.testing.assert_allclose(total, 2 * values, rtol=1e-6)
    with pytest.raises(ValueError, match="gamma is -1, expected at least 0"):
        losses.spo_loss(values, values, gamma=-1)
    with pytest.raises(ValueError, match=r"degree_loss has shape \(2,\), expected"):
        losses.spo_loss(values, want)


def test_linear_margin_slope_is_the_expectation():
    rng = np.random.default_rng(2)
    teachers = rng.normal(size=(2, 3))
    x = rng.normal(size=(200_000, 3))
    labels = np.sign(x @ teachers.T)
    want = (0.5 * (labels[:, :1] - labels[:, 1:]) * x).mean(0)
    found = theory.linear_margin_preference_grad(*teachers)
    np.testing.assert_allclose(found, want, atol=0.006)
    big = np.float32([[1e30, 0], [0, 0]])  # no square fits, and no labels at all
    both = theory.linear_margin_preference_grad(big, np.float32([[0, 1e-30]] * 2))
    half = 1 / np.sqrt(2 * np.pi)
    np.testing.assert_allclose(both, [[half, -half], [0, -half]], rtol=1e-6)
    with pytest.raises(ValueError, match=r"shape \(2,\), teacher_rejected \(3,\)"):
        theory.linear_margin_preference_grad(np.ones(2), np.ones(3))
    with pytest.raises(ValueError, match=r"expected \[..., D\]"):
        theory.linear_margin_preference_grad(1.0, 1.0)


def test_a_sparse_score_is_of_the_tokens_that_its_gate_lets_through():
    log_p = np.float32([[-1, -2, np.nan], [-3, -np.inf, -4]])
    gates = np.float32([[90, -90, 0], [0, np.nan, 90]])
    mask = np.array([[True, True, False], [True, False, True]])

    def loss(log_p, gates):
        score, penalty = sequences.sparse_sequence_log_prob(log_p, gates, mask=mask)
        return (score + 2 * penalty).sum(), (score, penalty)

    moved = jax.value_and_grad(loss, (0, 1), has_aux=True)
    (_, (score, penalty)), (by_token, by_gate) = moved(log_p, gates)
    np.testing.assert_allclose(score, [-1, -5.5], rtol=1e-6)
    np.testing.assert_allclose(penalty, [1, 1.5], rtol=1e-6)
    np.testing.assert_allclose(by_token, [[1, 0, 0], [0.5, 0, 1]], atol=1e-6)
    np.testing.assert_allclose(by_gate, [[0, 0, 0], [(-3 + 2) / 4, 0, 0]], atol=1e-6)
    with pytest.raises(ValueError, match="gate_logits has shape"):
        sequences.sparse_sequence_log_prob(log_p, gates[0])
