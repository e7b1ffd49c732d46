import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions

from logitlab import losses, targets, theory
from logitlab.losses import preference

losses, targets, theory = functions(losses), functions(targets), functions(theory)

P, Q = np.log([0.3]), np.log([0.2])
HAND = {
    "CPO": 0.405465,
    "ORPO": 0.538997,
    "CEUnl": -1.152680,
    "unCPO": 1.815290,
    "cCPO": 0.762140,
    "CE": -0.847298,
}


def cycle(rng):
    """Five answers that beat each other in a circle."""
    odds = np.zeros((5, 5))
    for i in range(5):
        odds[i, (i + 1) % 5] = 2 + 0.3 * rng.normal()
    wins = 1 / (1 + np.exp(-(odds - odds.T)))
    return wins, np.full(5, np.log(0.2))


def test_inpo_minimiser(x64):
    rng = np.random.default_rng(0)
    wins, ref = cycle(rng)
    prev = np.asarray(jax.nn.log_softmax(rng.normal(size=5)))
    eta, tau, pi = 2.0, 0.2, np.exp(prev)
    target = targets.omd_target(wins, prev, ref, eta=eta, tau=tau)
    want = np.exp(wins @ pi / eta) * np.exp(ref) ** 0.1 * pi**0.9
    np.testing.assert_allclose(np.exp(target), want / want.sum(), rtol=1e-12)
    i, j = np.array(list(itertools.product(range(5), repeat=2))).T

    @jax.grad
    def slope(logits):
        logp = jax.nn.log_softmax(logits)
        each = losses.inpo_loss(
            logp[i], logp[j], ref[i], ref[j], prev[i], prev[j], eta=eta, tau=tau
        )
        return (pi[i] * pi[j] * wins[i, j] * each).sum()

    np.testing.assert_allclose(slope(target), np.zeros(5), atol=1e-12)
    at_reference = slope(jnp.asarray(ref))
    assert np.abs(at_reference).max() > 1e-3
    pair = rng.normal(size=(4, 7))
    same = losses.inpo_loss(*pair, *rng.normal(size=(2, 7)), eta=0.5, tau=0.5)
    ipo = losses.ipo_loss(*pair, beta=0.5, average_log_prob=False)
    np.testing.assert_allclose(same, ipo, rtol=1e-9)


def test_self_play_closes_the_gap(x64):
    wins, ref = cycle(np.random.default_rng(1))

    @jax.jit
    def play(logp):
        def step(logp, _):
            gap = theory.duality_gap(jnp.exp(logp), wins, jnp.exp(ref), 0.2)
            return targets.omd_target(wins, logp, ref, eta=2.0, tau=0.2), gap

        return jax.lax.scan(step, logp, length=401)[1]

    gaps = np.asarray(play(jax.nn.log_softmax(jnp.arange(5.0))))
    assert gaps[0] > 1e3 * gaps[50]
    assert abs(gaps[400]) < 1e-12
    # Against best responses found by hand, in two games of two answers.
    p, r, prefs = np.array([0.3, 0.7]), np.array([0.6, 0.4]), wins[:2, :2]
    grid = np.linspace(1e-6, 1 - 1e-6, 20001)
    policies = np.stack([grid, 1 - grid], 1)

    def kl(a):
        return (a * np.log(a / r)).sum(-1)

    best = (policies @ prefs @ p - 0.2 * kl(policies)).max() + 0.2 * kl(p)
    worst = (p @ prefs @ policies.T + 0.2 * kl(policies)).min() - 0.2 * kl(p)
    got = theory.duality_gap(p, prefs, r, 0.2)
    np.testing.assert_allclose(got, best - worst, rtol=1e-6)


def test_nash_md_and_xpo(x64):
    rng = np.random.default_rng(0)
    logps, ref = -rng.random((2, 3, 4))
    win, mask = np.array([0.1, 0.5, 0.9]), rng.random((3, 4)) < 0.7

    def loss(x):
        return losses.nash_md_pg_loss(x, ref, win, beta=0.3, mask=mask)

    spoilt = np.where(mask, logps, np.nan)
    values, pull = jax.vjp(jax.jit(loss), jnp.asarray(spoilt))
    weight = 0.3 * (logps - ref) - (win - 0.5)[:, None]
    np.testing.assert_allclose(values, (mask * weight * logps).sum(1), rtol=1e-9)
    (grad,) = pull(jnp.ones(3))
    np.testing.assert_allclose(grad, mask * weight, rtol=1e-9)
    four, sample = rng.normal(size=(4, 3)), rng.normal(size=3)
    xpo = losses.xpo_loss(*four, sample, alpha=0.2)
    np.testing.assert_allclose(xpo, losses.dpo_loss(*four) + 0.2 * sample, rtol=1e-9)


@pytest.mark.parametrize("name", HAND)
def test_symbolic_hand_values(name, x64):
    numerator, denominator = preference.CATALOGUE[name].worlds
    got = theory.semantic_preference_ratio(
        P, Q, numerator=numerator, denominator=denominator
    )
    np.testing.assert_allclose(got, HAND[name], rtol=2e-6)


DERIVED = [
    pytest.param(name, derived, id=f"{name}-{i}")
    for name, structure in preference.CATALOGUE.items()
    for i, derived in enumerate(structure.derived)
]


@pytest.mark.parametrize(("name", "derived"), DERIVED)
def test_symbolic_form_is_its_function(name, derived, x64):
    chosen, rejected, *ref = -np.random.default_rng(0).uniform(0.1, 3, (4, 9))
    options = {"beta": 0.4} | dict(derived.options)
    beta = options["beta"]

    def symbolic(c, r):
        return losses.dpa_loss(
            c, r, name=name, link=derived.link,
            ref=ref if derived.reference else None, **options,
        )  # fmt: skip

    def function(c, r):
        return derived.loss(c, r, *(ref if derived.reference else ()), beta=beta)

    for f in (symbolic, function):
        values, pull = jax.vjp(f, chosen, rejected)
        found = (values, *pull(jnp.ones_like(values)))
        if f is symbolic:
            want = found
    for a, b in zip(found, want, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)


def test_worlds_and_entailment(x64):
    """Every set of worlds against plain probabilities; more worlds, larger ratios."""
    rng = np.random.default_rng(0)
    p, q = rng.uniform(0.05, 0.95, (2, 4))
    weights = dict(
        zip(
            ("TT", "TF", "FT", "FF"),
            (p * q, p * (1 - q), (1 - p) * q, (1 - p) * (1 - q)),
            strict=True,
        )
    )
    sets = [s for n in range(1, 5) for s in itertools.combinations(weights, n)]
    both = list(itertools.product(sets, repeat=2))
    assert len(both) == 225

    @jax.jit
    def run(log_p, log_q):
        return [
            theory.semantic_preference_ratio(log_p, log_q, numerator=a, denominator=b)
            for a, b in both
        ]

    rho = dict(zip(both, np.asarray(run(np.log(p), np.log(q))), strict=True))
    total = {s: sum(weights[w] for w in s) for s in sets}
    for a, b in both:
        want = np.log(total[a] / total[b])
        np.testing.assert_allclose(rho[a, b], want, rtol=1e-9, atol=1e-9)
    for (a, b), (c, d) in itertools.product(both[::7], both):
        if set(a) <= set(c) and set(b) >= set(d):
            assert (rho[a, b] <= rho[c, d] + 1e-12).all()


ERRORS = [
    (
        lambda: losses.inpo_loss(*(np.zeros(1),) * 6, eta=0.1, tau=0.2),
        "eta is 0.1, expected at least tau, 0.2",
    ),
    (
        lambda: targets.omd_target(
            np.eye(3), np.zeros(2), np.zeros(2), eta=1.0, tau=1.0
        ),
        r"pref_matrix has shape \(3, 3\), expected \(K, K\) .* \(2,\)",
    ),
    (
        lambda: theory.duality_gap(np.ones(2), np.eye(2), np.ones(2), 0.0),
        "tau is 0.0, expected positive",
    ),
    (
        lambda: losses.nash_md_pg_loss(P[None], P[None], np.zeros(2), beta=0.1),
        r"win_prob has shape \(2,\), expected \(1,\)",
    ),
    (
        lambda: losses.nash_md_pg_loss(P[0], P[0], np.zeros(()), beta=0.1),
        r"logps has shape \(\), expected",
    ),
    (lambda: losses.dpa_loss(P, Q, name="dpo"), "name is 'dpo', expected one of"),
    (lambda: losses.dpa_loss(P, Q, name="DPO"), "ref is None, but DPO needs a ref"),
    (
        lambda: losses.dpa_loss(P, Q, name="CPO", link="log"),
        "link is 'log', expected one of",
    ),
    (
        lambda: theory.semantic_preference_ratio(P, Q, numerator=()),
        r"numerator is \(\), expected some of TT, TF, FT, FF",
    ),
    (
        lambda: theory.semantic_preference_ratio(P, Q, denominator=("WL",)),
        r"denominator is \('WL',\), expected some of",
    ),
    (
        lambda: theory.preference_structure_worlds((True,), (True,) * 4, (True,) * 4),
        r"preference is \(True,\), expected four truth values",
    ),
    (
        lambda: theory.preference_structure_worlds(
            (True,) * 4, (True,) * 4, (False,) * 4
        ),
        r"denominator is \(\), expected",
    ),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[m for _, m in ERRORS])
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()
