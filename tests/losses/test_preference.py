import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import trl
from harness.interpreter import functions

from logitlab import heads, losses, sequences

losses, sequences = functions(losses), functions(sequences)


def test_sequences_agree_with_heads():
    rng = np.random.default_rng(0)
    hidden, kernel = rng.normal(size=(3, 4, 5)), rng.normal(size=(5, 7))
    hidden, kernel = hidden.astype("f4"), kernel.astype("f4")
    mask = np.array([[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    ids = np.where(mask, rng.integers(0, 7, (3, 4)), -100)
    where = rng.uniform(size=7) < 0.6
    where[ids[mask]] = True

    @jax.jit
    def run(hidden):
        found = []
        for average in (False, True):
            options = dict(mask=mask, average=average)

            def fused(h, options=options):
                return heads.sequence_log_prob(
                    h, kernel, ids, where=where, vocab_chunk=4, **options
                )

            def dense(h, options=options):
                return sequences.sequence_log_prob(
                    h @ kernel, ids, where=where[None, None], **options
                )

            for f in (fused, dense):
                values, pull = jax.vjp(f, h := hidden)
                found.append((values, *pull(jnp.ones_like(values))))
        return found

    spoilt = np.where(mask[..., None], hidden, 0)
    found = run(spoilt)
    for fused, dense in (found[:2], found[2:]):
        for a, b in zip(fused, dense, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert (dense[0][2], abs(dense[1][2]).max()) == (0, 0)  # no token at all


def test_tokens_left_out_may_be_anything():
    z = np.float32([[[1, 2, -np.inf], [np.nan, 0, 1], [-np.inf, -np.inf, -np.inf]]])
    ids, mask = np.array([[1, -100, 5]]), np.array([[True, False, False]])
    for function in (
        sequences.sequence_log_prob,
        sequences.wpo_weights,
        functools.partial(
            sequences.ld_sequence_log_prob, shared_lengths=np.array([0]), alpha=0.5
        ),
    ):
        values, pull = jax.vjp(
            lambda z, f=function: f(z, token_ids=ids, mask=mask), jnp.asarray(z)
        )
        (grad,) = pull(jnp.ones_like(values))
        assert np.isfinite(values).all()
        assert np.isfinite(grad).all()
        assert (grad[0, 1:] == 0).all()
    one = sequences.sequence_log_prob(z, ids, mask=mask)
    np.testing.assert_allclose(one, [-np.log1p(np.exp(-1))], rtol=1e-6)
    half = sequences.ld_sequence_log_prob(z, ids, np.array([0]), alpha=0.5, mask=mask)
    np.testing.assert_allclose(half, one / 2, rtol=1e-6)


MARGINS = np.float32([-80, -60, -30, -17, -5, -1, 0, 1, 5, 12, 17, 20, 30, 50, 70, 80])


def exact_losses():
    """Losses of one score with the other at 0, none of which cancels by definition."""
    pair = {
        name: functools.partial(trl.LOSSES[name], beta=1.0)
        for name in ("sigmoid", "cdpo", "bco_pair", "apo_zero", "discopop")
    }
    pair["nca"] = functools.partial(losses.nca_loss, beta=1.0)
    pair["exo"] = functools.partial(losses.exo_loss, beta=1.0)
    for name in ("js_divergence", "alpha_divergence"):
        pair[name] = functools.partial(losses.f_dpo_loss, beta=1.0, f_divergence=name)
    free = {
        "cpo": functools.partial(losses.cpo_loss, beta=1.0),
        "simpo": functools.partial(losses.simpo_loss, margin=0.0, beta=1.0),
        "orpo": losses.orpo_odds_ratio_loss,
        "bradley_terry": losses.bradley_terry_loss,
    }
    for name, loss in pair.items():
        yield f"{name} chosen", lambda m, f=loss: f(m, 0 * m, 0 * m, 0 * m)
        yield f"{name} rejected", lambda m, f=loss: f(0 * m, -m, 0 * m, 0 * m)
    for name, loss in free.items():
        yield name, lambda m, f=loss: f(-1 + 0 * m, -1 - abs(m))
        yield f"{name} reversed", lambda m, f=loss: f(-1 - abs(m), -1 + 0 * m)
    for good in (True, False):
        yield (
            f"kto {good}",
            lambda m, g=good: losses.kto_loss(
                m, 0 * m, m == m if g else m != m, kl=0.0
            ),
        )
        yield (
            f"bco {good}",
            lambda m, g=good: losses.bco_loss(
                m, 0 * m, m == m if g else m != m, shift=0.0, beta=1.0
            ),
        )


def test_exact_at_large_margins():
    def run(margins):
        found = {}
        for name, loss in exact_losses():
            values, pull = jax.vjp(loss, margins)
            found[name] = values, *pull(jnp.ones_like(values))
        return found

    got = jax.jit(run)(MARGINS)
    with jax.enable_x64(True):
        want = jax.jit(run)(MARGINS.astype("f8"))
    for name in want:
        for a, b, what in zip(got[name], want[name], ("value", "slope"), strict=True):
            a, b = np.asarray(a, "f8"), np.asarray(b)
            off = np.abs(a - b) > 1e-5 * np.abs(b) + 1e-36
            assert not off.any(), f"{name}: {what} {a[off]} instead of {b[off]}"


def test_a_log_probability_of_minus_1e4_is_a_number():
    far = np.float32([-1e4, -1e4, -1e4, -1, 0])
    near = np.float32([-1, -1e4, -1e4 - 1, -1e4, -1e4])
    zero, n = np.zeros(5, "f4"), np.full(5, 7)
    names = [
        "sigmoid",
        "cdpo",
        "robust",
        "hinge",
        "ipo",
        "exo_pair",
        "nca_pair",
        "bco_pair",
    ]
    names += ["sppo_hard", "aot", "aot_unpaired", "apo_zero", "apo_down", "discopop"]
    names += ["sigmoid_norm", "r_dpo", "dpop"]
    assert set(names) == set(trl.LOSSES)
    calls = [trl.of_pairs(name, (n, n)) for name in names]
    overflow = []
    for divergence in ("forward_kl", "js_divergence", "alpha_divergence"):
        calls.append(functools.partial(losses.f_dpo_loss, f_divergence=divergence))
    overflow += [calls[-3], losses.alphapo_loss]

    @jax.jit
    def run(c, r):
        found = []
        for loss in calls:
            found.append(jax.vjp(lambda c, r, f=loss: f(c, r, zero, zero), c, r))
        for loss in (losses.simpo_loss, losses.cpo_loss, losses.orpo_odds_ratio_loss):
            found.append(jax.vjp(loss, c, r))
        for loss in (losses.rrhf_loss, losses.slic_hf_loss, losses.alphapo_loss):
            found.append(jax.vjp(loss, c, r))
        return [(values, pull(jnp.ones_like(values))) for values, pull in found]

    found = run(far, near)
    by_definition = [len(names), len(found) - 1]  # forward_kl, alphapo
    for i, (values, grads) in enumerate(found):
        assert not np.isnan([values, *grads]).any(), i
        if i not in by_definition:
            assert np.isfinite([values, *grads]).all(), i
    for i in by_definition:  # the likelier answer costs nothing, the other without end
        assert found[i][0][0] == np.inf
        assert found[i][0][3] == 0
        assert found[i][0][2] < 1 < found[i][0][1] + 0.5  # a tie, then a win


def test_identities(x64):
    rng = np.random.default_rng(0)
    c, r, rc, rr = rng.normal(size=(4, 6)) * 5
    logps, swapped = (c, r, rc, rr), (r, c, rr, rc)
    delta = 0.1 * (c - rc - r + rr)
    same, n = (c, r, c, r), rng.integers(1, 9, (2, 6))
    dpo = losses.dpo_loss(*logps)
    equal = functools.partial(np.testing.assert_allclose, rtol=1e-9)
    equal(dpo, np.log1p(np.exp(-delta)))
    equal(dpo - losses.dpo_loss(*swapped), -delta)
    smooth = losses.dpo_loss(*logps, label_smoothing=0.3)
    equal(smooth, 0.7 * dpo + 0.3 * losses.dpo_loss(*swapped))
    equal(smooth, losses.dpo_loss(*swapped, label_smoothing=0.7))
    equal(losses.robust_dpo_loss(*logps, label_smoothing=0.0), dpo)
    robust, flipped = (
        losses.robust_dpo_loss(*a, label_smoothing=0.3) for a in (logps, swapped)
    )
    equal(0.7 * robust + 0.3 * flipped, dpo)
    # The hand values of the two papers.
    zero = np.zeros(1)
    hand = losses.robust_dpo_loss(zero + 7, zero, zero, zero, label_smoothing=0.2)
    equal(hand, 0.1698527, rtol=1e-6)
    shifted = losses.bco_pair_loss(*logps, shift=0.7)
    assert (shifted > dpo).all()
    equal(losses.f_dpo_loss(*logps, f_divergence="reverse_kl"), dpo)
    near = losses.f_dpo_loss(*logps, f_divergence="alpha_divergence", f_alpha=1 - 1e-9)
    equal(near, dpo, rtol=1e-7)
    at_one = losses.f_dpo_loss(*logps, f_divergence="alpha_divergence", f_alpha=1.0)
    equal(at_one, dpo)
    equal(losses.aot_loss(*(a[:1] for a in logps)), dpo[:1])
    equal(losses.sigmoid_norm_loss(*logps, 0 * n[0], 0 * n[1], beta=0.1), dpo)
    equal(losses.r_dpo_loss(*logps, *n, alpha=0.0), dpo)
    equal(losses.rpo_loss(*logps, eta=0.0), dpo)
    mean = losses.rpo_loss(*logps, n[0], eta=0.2, sft="mean")
    equal(mean, dpo - 0.2 * c / n[0])
    equal(losses.ipo_loss(*logps, average_log_prob=False), (10 * delta - 5) ** 2)
    half = losses.sppo_loss(*logps, chosen_win_prob=0.5, rejected_win_prob=0.5)
    equal(half, (c - rc) ** 2 + (r - rr) ** 2)
    # Policy and reference agree.
    for name, want in [
        ("sigmoid", np.log(2)),
        ("nca_pair", 2 * np.log(2)),
        ("bco_pair", 2 * np.log(2)),
        ("hinge", 1),
        ("apo_zero", 1),
        ("apo_down", 1),
    ]:
        equal(trl.LOSSES[name](*same), np.full(6, want))
    # Without a reference.
    equal(losses.cpo_loss(c, r), losses.dpo_loss(c, r, 0 * c, 0 * c))
    equal(losses.alphapo_loss(c, r, alpha=0.0), losses.simpo_loss(c, r))
    equal(losses.rrhf_loss(c, r), losses.slic_hf_loss(c, r, margin=0.0))
    equal(losses.bradley_terry_loss(c, r), losses.cpo_loss(c, r, beta=1.0))
    three = losses.bradley_terry_loss(c, r, margin=0.5, center_coef=0.1)
    equal(three, np.log1p(np.exp(r - c + 0.5)) + 0.1 * (c + r) ** 2)


def test_repeated_answers():
    """SimPO sees no difference; CPO does."""
    z = np.random.default_rng(0).normal(size=(2, 4, 7)).astype("f4")
    ids = np.array([[1, 2, 3, 4], [0, 6, 5, 2]])

    def scores(times, **options):
        z_, y = np.tile(z, (1, times, 1)), np.tile(ids, times)
        return sequences.sequence_log_prob(z_, y, **options)[:, None]

    means = [scores(times, average=True) for times in (1, 4)]
    sums = [scores(times) for times in (1, 4)]
    once, often = (losses.simpo_loss(*pair, margin=0.0) for pair in means)
    np.testing.assert_allclose(once, often, rtol=1e-6)
    assert abs(losses.cpo_loss(*sums[0]) - losses.cpo_loss(*sums[1])) > 1e-3


def test_kinks():
    """Training starts where policy and reference agree: DPOP at its kink."""
    zero = jnp.zeros(1)

    def slope(loss, *at, **options):
        return jax.grad(lambda c: loss(c, *at, **options).sum())(zero)

    np.testing.assert_allclose(slope(losses.dpop_loss, zero, zero, zero), -0.05)
    ten = jnp.full(1, 10.0)
    assert slope(losses.dpo_hinge_loss, -ten, zero, zero) == 0
    assert slope(losses.rrhf_loss, zero) == 0
    assert slope(losses.slic_hf_loss, zero - 1) == 0
    certain = slope(losses.orpo_odds_ratio_loss, zero - 1)
    np.testing.assert_allclose(certain, -0.1 / np.expm1(1), rtol=1e-6)


def test_optimal_transport(x64):
    rng = np.random.default_rng(0)
    logps = rng.normal(size=(4, 3, 6)) * 5
    keep = np.array([True, False, True, True, False, True])
    for paired in (True, False):
        aot = functools.partial(losses.aot_loss, paired=paired, label_smoothing=0.1)
        spoilt = np.where(keep, logps, np.nan)
        values, pull = jax.vjp(
            lambda c, r, f=aot, ref=spoilt[2:]: f(
                c, r, *ref, mask=np.broadcast_to(keep, c.shape)
            ),
            *spoilt[:2],
        )
        fewer = aot(*logps[..., keep])
        np.testing.assert_allclose(values[..., :4], fewer, rtol=1e-12)
        assert (values[..., 4:] == 0).all()
        for grad in pull(jnp.ones_like(values)):
            assert (grad[..., ~keep] == 0).all()
            assert (grad[..., keep] != 0).all()
        order = rng.permutation(6)
        np.testing.assert_allclose(aot(*logps[..., order]), aot(*logps), rtol=1e-12)


def test_an_answer_that_cannot_be():
    """A token that is hidden makes a log-probability of -inf, on one side only."""
    zero = jnp.zeros(2)

    def run(name):
        loss = trl.of_pairs(name, np.ones((2, 2)))
        at = jnp.array([-jnp.inf, -1]), jnp.array([-1, -jnp.inf])
        values, pull = jax.vjp(lambda c, r: loss(c, r, zero, zero), *at)
        return values, *pull(jnp.ones(2))

    names = ["sigmoid", "robust", "hinge", "exo_pair", "nca_pair", "bco_pair"]
    names += ["apo_zero", "apo_down", "discopop", "dpop", "sppo_hard", "ipo"]
    found = jax.jit(lambda: {name: run(name) for name in names})()
    for name, arrays in found.items():
        assert not np.isnan(arrays).any(), name
    values, by_chosen, by_rejected = found["sigmoid"]
    np.testing.assert_array_equal(values, [np.inf, 0])
    np.testing.assert_allclose(by_chosen, [-0.1, 0])
    np.testing.assert_allclose(by_rejected, [0.1, 0])


ONE, TWO = np.zeros(1, "f4"), np.zeros(2, "f4")
YES = np.ones(1, bool)
ERRORS = [
    (lambda: losses.dpo_loss(ONE, TWO, ONE, ONE), r"rejected_logps has shape \(2,\), "),
    (lambda: losses.dpo_loss(ONE, ONE, TWO, ONE), r"expected \(1,\), that of chosen"),
    (lambda: losses.dpo_loss(*(ONE,) * 4, beta=0.0), "beta is 0.0, expected positive"),
    (
        lambda: losses.exo_loss(*(ONE,) * 4, label_smoothing=0.0),
        r"label_smoothing is 0.0, expected a number in \(0, 1\)",
    ),
    (
        lambda: losses.dpo_loss(*(ONE,) * 4, label_smoothing=1.5),
        r"label_smoothing is 1.5, expected a number in \[0, 1\]",
    ),
    (
        lambda: losses.f_dpo_loss(*(ONE,) * 4, f_divergence="kl"),
        "f_divergence is 'kl', expected 'reverse_kl', ",
    ),
    (
        lambda: losses.robust_dpo_loss(*(ONE,) * 4, label_smoothing=0.5),
        r"label_smoothing is 0.5, expected a number in \[0, 0.5\)",
    ),
    (lambda: losses.ipo_loss(*(ONE,) * 4), "chosen_lengths is None, expected the numb"),
    (
        lambda: losses.ipo_loss(*(ONE,) * 4, ONE, TWO),
        r"rejected_lengths has shape \(2,\), expected \(1,\)",
    ),
    (
        lambda: losses.discopop_loss(*(ONE,) * 4, blend_temperature=0),
        "blend_temperature is 0, ex",
    ),
    (lambda: losses.rpo_loss(*(ONE,) * 4, sft="none"), "sft is 'none', expected 'sum'"),
    (lambda: losses.rpo_loss(*(ONE,) * 4, sft="mean"), "chosen_lengths is None"),
    (
        lambda: losses.aot_loss(*(ONE[0],) * 4),
        r"chosen_logps has shape \(\), expected ",
    ),
    (
        lambda: losses.aot_loss(*(ONE,) * 4, mask=np.ones(2, bool)),
        r"mask has shape \(2",
    ),
    (
        lambda: losses.cpo_loss(ONE, ONE, label_smoothing=2),
        r"label_smoothing is 2, expected a number in \[0, 1\]",
    ),
    (lambda: losses.simpo_loss(ONE, TWO), r"rejected_mean_logps has shape \(2,\), exp"),
    (
        lambda: losses.orpo_odds_ratio_loss(ONE, ONE, beta=-1),
        "beta is -1, expected posi",
    ),
    (
        lambda: sequences.sequence_log_prob(np.zeros((2, 3, 4)), np.zeros((2, 2), int)),
        r"token_ids has shape \(2, 2\), expected \(2, 3\)",
    ),
    (
        lambda: sequences.sequence_log_prob(ONE, 0),
        r"logits has shape \(1,\), expected \(",
    ),
    (
        lambda: sequences.shift_for_next_token(np.zeros((3, 4)), np.zeros(2, int), YES),
        r"token_ids has shape \(2,\), expected \(3,\)",
    ),
    (
        lambda: sequences.ld_sequence_log_prob(
            np.zeros((3, 4)), np.zeros(3, int), np.zeros(1), alpha=0.5
        ),
        r"shared_lengths has shape \(1,\), expected \(\)",
    ),
    (
        lambda: sequences.ld_sequence_log_prob(
            np.zeros((3, 4)), np.zeros(3, int), np.zeros(()), alpha=2.0
        ),
        r"alpha is 2.0, expected a number in \[0, 1\]",
    ),
]


@pytest.mark.parametrize(("call", "message"), ERRORS, ids=[m for _, m in ERRORS])
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_types():
    with pytest.raises(TypeError, match="chosen_logps has dtype int"):
        losses.dpo_loss(*(np.zeros(1, int),) * 4)
