import functools
import itertools
import json
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from cases import quick_jit

from logitlab import heads, losses

GOLDEN = pathlib.Path(__file__).parents[1] / "golden"


def cases(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())["cases"]


def numbers(values):
    """Arrays of a golden file, whose infinities are strings."""
    return np.array(values, np.float64)


def error(a, b):
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.abs(a - b).max() / (np.abs(b).max() or 1)


def dpo(**options):
    """A member of the family on a golden case: (pair, reference, lengths, params)."""

    def loss(pair, ref, lengths, params):
        both = dict(zip(("chosen_lengths", "rejected_lengths"), lengths, strict=True))
        return losses.dpo_loss(*pair, *ref, beta=params["beta"], **both, **options)

    return loss


def alone(function, lengths=False, **options):
    """The same of a function of its own."""

    def loss(pair, ref, n, params):
        arrays = (*pair, *ref, *(n if lengths else ()))
        return function(*arrays, beta=params["beta"], **options)

    return loss


FAMILY = {
    "dpo_sigmoid": [dpo()],
    "hinge": [dpo(loss_type="hinge"), alone(losses.dpo_hinge_loss)],
    "ipo": [dpo(loss_type="ipo")],
    "exo_pair": [dpo(loss_type="exo_pair", label_smoothing=1e-3)],
    "nca_pair": [dpo(loss_type="nca_pair")],
    "robust_dpo": [dpo(loss_type="robust", label_smoothing=0.1)],
    "robust_dpo_03": [alone(losses.robust_dpo_loss, flip_rate=0.3)],
    "bco_pair": [dpo(loss_type="bco_pair")],
    "bco_pair_delta0.3": [alone(losses.bco_pair_loss, shift=0.3)],
    "sppo_hard": [dpo(loss_type="sppo_hard")],
    "sppo_half_mean": [lambda *a: alone(losses.sppo_loss)(*a) / 2],
    "apo_zero": [dpo(loss_type="apo_zero")],
    "apo_down": [dpo(loss_type="apo_down")],
    "discopop": [dpo(loss_type="discopop")],
    "sigmoid_norm": [dpo(loss_type="sigmoid_norm")],
    "dpo_js": [dpo(f_divergence="js_divergence")],
    "dpo_forward_kl": [
        dpo(f_divergence="forward_kl"),
        alone(losses.f_dpo_loss, f_divergence="alpha_divergence", f_alpha=0.0),
    ],
    "dpo_alpha_divergence_f32": [dpo(f_divergence="alpha_divergence")],
    "aot": [dpo(loss_type="aot")],
    "aot_unpaired": [dpo(loss_type="aot_unpaired")],
    "cdpo_ls0.1": [dpo(loss_type="cdpo", label_smoothing=0.1)],
    "r_dpo_alpha0.2": [dpo(loss_type="r_dpo")],
    "dpop_lambda50": [dpo(loss_type="dpop")],
    "rpo_cumulative_eta0.005": [alone(losses.rpo_loss)],
}


@pytest.mark.parametrize("case", cases("dpo_family"))
def test_the_family_golden(case, x64):
    given = {name: np.array(array) for name, array in case["inputs"].items()}
    pair = [given[f"{k}_logps"] for k in ("chosen", "rejected")]
    ref = [given[f"ref_{k}_logps"] for k in ("chosen", "rejected")]
    lengths = [given[f"{k}_lengths"] for k in ("chosen", "rejected")]

    @quick_jit
    def run(pair):
        found = []
        for name in FAMILY:
            for loss in FAMILY[name]:
                values, pull = jax.vjp(
                    lambda p, loss=loss: loss(p, ref, lengths, case["params"]), pair
                )
                (grads,) = pull(jnp.full_like(values, 1 / len(values)))
                found.append((name, values, grads))
        return [item[1:] for item in found]

    names = [name for name in FAMILY for _ in FAMILY[name]]
    assert set(names) == set(case["outputs"])
    for name, (values, grads) in zip(names, run(pair), strict=True):
        want, rtol = case["outputs"][name], 5e-4 if name.endswith("f32") else 1e-8
        assert error(values.mean(), want["mean_loss"]) < rtol, name
        if "per_example_loss" in want:
            assert error(values, numbers(want["per_example_loss"])) < rtol, name
        for grad, which in zip(grads, ("chosen", "rejected"), strict=True):
            assert error(grad, numbers(want[f"grad_mean_{which}_logps"])) < rtol, name


FREE = {  # what they are given, and the loss
    "cpo_sum_beta0.1": ("sum", losses.cpo_loss, dict(beta=0.1)),
    "cpo_sum_beta2.0": ("sum", losses.cpo_loss, dict(beta=2.0)),
    "cpo_hinge_sum_beta0.1": ("sum", losses.cpo_loss, dict(loss_type="hinge")),
    "cpo_ipo_mean_beta0.1": ("mean", losses.cpo_loss, dict(loss_type="ipo")),
    "simpo_mean_beta0.1_gamma0.5": ("mean", losses.simpo_loss, dict(beta=0.1)),
    "simpo_mean_beta2.0_gamma0.5": ("mean", losses.simpo_loss, {}),
    "simpo_mean_beta2_gamma1_ls0.1": (
        "mean",
        losses.simpo_loss,
        dict(gamma=1.0, label_smoothing=0.1),
    ),
    "alphapo_mean_beta2_gamma0.5_alpha0.25": ("mean", losses.alphapo_loss, {}),
    "orpo_term_mean_beta0.1_float32": ("mean", losses.orpo_odds_ratio_loss, {}),
    "rrhf_rank_term": ("sum", losses.rrhf_loss, {}),
}


@pytest.mark.parametrize("case", cases("reference_free_pairwise"))
def test_reference_free_golden(case, x64):
    given = {name: np.array(array) for name, array in case["inputs"].items()}
    sums = [given[f"{k}_logps_sum"] for k in ("chosen", "rejected")]
    lengths = [given[f"{k}_lengths"] for k in ("chosen", "rejected")]

    def of(name):
        fed, loss, options = FREE[name]
        pair = sums if fed == "sum" else [s / n for s, n in zip(sums, lengths)]  # noqa: B905
        if name == "rrhf_rank_term":  # gradients of sums, of a loss of means
            return pair, lambda c, r: loss(c / lengths[0], r / lengths[1])
        return pair, functools.partial(loss, **options)

    @quick_jit
    def run():
        found = []
        for pair, loss in map(of, FREE):
            values, pull = jax.vjp(loss, *pair)
            found.append((values, pull(jnp.full_like(values, 1 / len(values)))))
        return found

    assert set(FREE) == set(case["outputs"])
    for name, (values, grads) in zip(FREE, run(), strict=True):
        want, rtol = case["outputs"][name], 5e-4 if "float32" in name else 1e-8
        assert error(values, numbers(want["per_example_loss"])) < rtol, name
        for grad, which in zip(grads, ("first", "second"), strict=True):
            wanted = numbers(want[f"grad_mean_wrt_{which}_logp"])
            assert error(grad, wanted) < rtol, name


@pytest.mark.parametrize("case", cases("unpaired_binary"))
def test_unpaired_golden(case, x64):
    given = {name: np.array(array) for name, array in case["inputs"].items()}
    p, good, ref = case["params"], given["is_desirable"], given["ref_logps"]
    kl = losses.kto_kl_estimate(given["kl_policy_logps"], given["kl_ref_logps"])
    kto = functools.partial(
        losses.kto_loss,
        beta=p["beta"],
        desirable_weight=p["desirable_weight"],
        undesirable_weight=p["undesirable_weight"],
    )
    weight = np.full(len(good), np.nan)  # of desirable answers it is not asked
    weight[~good] = losses.density_ratio_weight(
        given["step2_prob_desirable_of_undesirable_prompts"]
    )
    steps, state = [], losses.RunningMean()
    for name in ("policy_logps", "step2_policy_logps"):
        rewards = losses.implicit_reward(given[name], ref, beta=p["beta"])
        state = losses.running_mean_update(state, rewards)
        steps.append(state)
    bco = functools.partial(losses.bco_loss, beta=p["beta"])
    first, second = (state.mean for state in steps)
    found = {
        "kto": ("policy_logps", lambda x: kto(x, ref, good, kl=kl)),
        "apo_zero_unpaired": ("policy_logps", lambda x: kto(x, ref, good, kl=0.0)),
        "bco_step1": ("policy_logps", lambda x: bco(x, ref, good, shift=first)),
        "bco_step2_udm": (
            "step2_policy_logps",
            lambda x: bco(x, ref, good, weight, shift=second),
        ),
    }
    assert set(found) == set(case["outputs"])
    for name, (logps, loss) in found.items():
        want = case["outputs"][name]
        values, pull = jax.vjp(loss, given[logps])
        (grad,) = pull(jnp.full_like(values, 1 / len(values)))
        rtol = 1e-6 if "bco" in name else 1e-8  # their shift is held in float32
        assert error(values, want["per_example_loss"]) < rtol, name
        assert error(grad, want["grad_mean_policy_logps"]) < rtol, name
    assert error(kl, case["outputs"]["kto"]["kl"]) < 1e-12
    for state, step in zip(steps, ("bco_step1", "bco_step2_udm"), strict=True):
        assert error(state.mean, case["outputs"][step]["delta_used"]) < 1e-6
        assert state.count == case["outputs"][step]["running_count_after"]


@pytest.mark.parametrize("case", cases("sequence_logprob_dpo"))
def test_from_logits_golden(case, x64):
    given = {name: np.array(array) for name, array in case["inputs"].items()}
    beta, want = case["params"]["beta"], case["outputs"]
    mask = given["completion_mask"].astype(bool)

    def shifted(logits):
        return losses.shift_for_next_token(logits, given["token_ids"], mask)

    def scores(function, logits, **options):
        z, y, m = shifted(logits)
        return jnp.split(function(z, y, mask=m, **options), 2)

    def both(function, logits, **options):
        ref = scores(function, given["ref_logits"], **options)
        return (*scores(function, logits, **options), *ref)

    lengths = jnp.split(mask.sum(-1), 2)
    shared = jnp.tile(jnp.minimum(*lengths), 2)

    def ld(z, y, **options):
        return losses.ld_sequence_log_prob(z, y, shared, alpha=0.5, **options)

    def sft(logits):
        z, y, m = (a[: len(a) // 2] for a in shifted(logits))
        y = jnp.where(m, y, 0)
        return losses.cross_entropy(z, y).sum(where=m) / m.sum()

    def of(name, logits):
        if name == "sft":
            return sft(logits)
        if name == "ipo":
            arrays = both(losses.sequence_log_prob, logits)
            return losses.ipo_loss(*arrays, *lengths, beta=beta).mean()
        function = ld if name == "dpo_ld_alpha0.5" else losses.sequence_log_prob
        each = losses.dpo_loss(*both(function, logits), beta=beta)
        if name == "dpo_wpo":
            each *= jnp.prod(jnp.stack(scores(losses.wpo_weights, logits)), 0)
        return each.mean()

    names = [name for name in want if isinstance(want[name], dict)]

    @quick_jit
    def run(logits):
        sums = scores(losses.sequence_log_prob, logits)
        means = scores(losses.sequence_log_prob, logits, average=True)
        each = [
            jax.value_and_grad(functools.partial(of, name))(logits) for name in names
        ]
        return jnp.concatenate(sums), jnp.concatenate(means), each

    sums, means, each = run(given["policy_logits"])
    assert error(sums, want["summed_logps"]) < 1e-8
    assert error(means, want["mean_logps"]) < 1e-8
    for name, (value, grad) in zip(names, each, strict=True):
        assert error(value, want[name]["mean_loss"]) < 1e-8, name
        np.testing.assert_allclose(
            grad, want[name]["grad_logits"], rtol=1e-8, atol=1e-12
        )  # the file has twelve decimals
    rewards = [
        losses.implicit_reward(p, r, beta=beta)
        for p, r in zip(
            *(
                scores(losses.sequence_log_prob, given[k])
                for k in ("policy_logits", "ref_logits")
            ),
            strict=True,
        )
    ]
    metrics = want["dpo"]["metrics"]
    assert (rewards[0] > rewards[1]).mean() == metrics["rewards/accuracies"]
    margin = (rewards[0] - rewards[1]).mean()
    np.testing.assert_allclose(margin, metrics["rewards/margins"], rtol=1e-8)


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
                return heads.sequence_log_probs(
                    h, kernel, ids, where=where, vocab_chunk=4, **options
                )

            def dense(h, options=options):
                return losses.sequence_log_prob(
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
        losses.sequence_log_prob,
        losses.wpo_weights,
        functools.partial(
            losses.ld_sequence_log_prob, shared_lengths=np.array([0]), alpha=0.5
        ),
    ):
        values, pull = jax.vjp(
            lambda z, f=function: f(z, token_ids=ids, mask=mask), jnp.asarray(z)
        )
        (grad,) = pull(jnp.ones_like(values))
        assert np.isfinite(values).all()
        assert np.isfinite(grad).all()
        assert (grad[0, 1:] == 0).all()
    one = losses.sequence_log_prob(z, ids, mask=mask)
    np.testing.assert_allclose(one, [-np.log1p(np.exp(-1))], rtol=1e-6)
    half = losses.ld_sequence_log_prob(z, ids, np.array([0]), alpha=0.5, mask=mask)
    np.testing.assert_allclose(half, one / 2, rtol=1e-6)


MARGINS = np.float32([-80, -60, -30, -17, -5, -1, 0, 1, 5, 12, 17, 20, 30, 50, 70, 80])


def exact_losses():
    """Losses of one score with the other at 0, none of which cancels by definition."""
    pair = {
        name: functools.partial(losses.dpo_loss, loss_type=name, beta=1.0)
        for name in ("sigmoid", "bco_pair", "apo_zero", "discopop")
    }
    pair["cdpo"] = functools.partial(losses.cdpo_loss, beta=1.0, label_smoothing=0.1)
    pair["nca"] = functools.partial(losses.nca_loss, beta=1.0)
    pair["exo"] = functools.partial(losses.exo_loss, beta=1.0)
    for name in ("js_divergence", "alpha_divergence"):
        pair[name] = functools.partial(losses.f_dpo_loss, beta=1.0, f_divergence=name)
    free = {
        "cpo": functools.partial(losses.cpo_loss, beta=1.0),
        "simpo": functools.partial(losses.simpo_loss, gamma=0.0, beta=1.0),
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
    options = {"exo_pair": dict(label_smoothing=1e-3)}
    names = ["sigmoid", "robust", "hinge", "ipo", "exo_pair", "nca_pair", "bco_pair"]
    names += ["sppo_hard", "aot", "aot_unpaired", "apo_zero", "apo_down", "discopop"]
    names += ["sigmoid_norm", "r_dpo", "dpop"]
    calls = [
        functools.partial(
            losses.dpo_loss,
            loss_type=name,
            chosen_lengths=n,
            rejected_lengths=n,
            **options.get(name, {}),
        )
        for name in names
    ]
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
    equal(losses.cdpo_loss(*logps), dpo)
    smooth = functools.partial(losses.cdpo_loss, *logps)
    equal(smooth(label_smoothing=0.3), losses.cdpo_loss(*swapped, label_smoothing=0.7))
    equal(losses.robust_dpo_loss(*logps, flip_rate=0.0), dpo)
    robust, flipped = (
        losses.robust_dpo_loss(*a, flip_rate=0.3) for a in (logps, swapped)
    )
    equal(0.7 * robust + 0.3 * flipped, dpo)
    # The hand values of the two papers.
    zero = np.zeros(1)
    hand = losses.robust_dpo_loss(zero + 7, zero, zero, zero, flip_rate=0.2)
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
    for loss_type, want in [
        ("sigmoid", np.log(2)),
        ("nca_pair", 2 * np.log(2)),
        ("bco_pair", 2 * np.log(2)),
        ("hinge", 1),
        ("apo_zero", 1),
        ("apo_down", 1),
    ]:
        equal(losses.dpo_loss(*same, loss_type=loss_type), np.full(6, want))
    # Without a reference.
    equal(losses.cpo_loss(c, r), losses.dpo_loss(c, r, 0 * c, 0 * c))
    equal(losses.alphapo_loss(c, r, alpha=0.0), losses.simpo_loss(c, r))
    equal(losses.rrhf_loss(c, r), losses.slic_hf_loss(c, r, delta=0.0))
    equal(losses.bradley_terry_loss(c, r), losses.cpo_loss(c, r, beta=1.0))
    three = losses.bradley_terry_loss(c, r, margin=0.5, center_coef=0.1)
    equal(three, np.log1p(np.exp(r - c + 0.5)) + 0.1 * (c + r) ** 2)


def test_repeated_answers():
    """SimPO sees no difference; CPO does."""
    z = np.random.default_rng(0).normal(size=(2, 4, 7)).astype("f4")
    ids = np.array([[1, 2, 3, 4], [0, 6, 5, 2]])

    def scores(times, **options):
        z_, y = np.tile(z, (1, times, 1)), np.tile(ids, times)
        return losses.sequence_log_prob(z_, y, **options)[:, None]

    means = [scores(times, average=True) for times in (1, 4)]
    sums = [scores(times) for times in (1, 4)]
    once, often = (losses.simpo_loss(*pair, gamma=0.0) for pair in means)
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
    odds = 1 - np.log(1e-7) + np.log1p(-np.exp(-1))  # of a certain answer, as clamped
    certain = slope(losses.orpo_odds_ratio_loss, zero - 1)
    np.testing.assert_allclose(certain, -0.1 / (1 + np.exp(odds)), rtol=1e-4)


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


def test_unpaired_state(x64):
    rng = np.random.default_rng(0)
    rewards, keep = rng.normal(size=10), np.arange(10) % 3 != 0
    state = losses.RunningMean()
    for part in (slice(0, 4), slice(4, 5), slice(5, 10)):
        spoilt = np.where(keep, rewards, np.nan)[part]
        state = jax.jit(losses.running_mean_update)(state, spoilt, mask=keep[part])
    np.testing.assert_allclose(state.mean, rewards[keep].mean(), rtol=1e-12)
    assert state.count == keep.sum()
    nothing = losses.running_mean_update(
        losses.RunningMean(), rewards, mask=keep & 0 > 0
    )
    assert nothing == (0, 0)
    np.testing.assert_allclose(
        losses.kto_kl_estimate(spoilt := np.where(keep, rewards, np.nan), 0 * spoilt),
        np.nan,
    )
    want = max(0, rewards[keep].mean())
    got = losses.kto_kl_estimate(spoilt, 0 * rewards, mask=keep)
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_the_density_classifier_is_at_its_minimum(x64):
    rng = np.random.default_rng(0)
    x, good = rng.normal(size=(40, 3)) + 1, np.arange(40) % 4 == 0
    x[good] += [1, -0.5, 0]
    kernel, bias = losses.fit_density_classifier(x, good, l2=0.7)
    p = 1 / (1 + np.exp(-(x @ kernel + bias)))
    pull = np.where(good, 40 / 2 / good.sum(), 40 / 2 / (~good).sum()) * (p - good)
    np.testing.assert_allclose(x.T @ pull + 0.7 * kernel, np.zeros(3), atol=1e-9)
    np.testing.assert_allclose(pull.sum(), 0, atol=1e-9)
    # One kind of answer only: certain, and finite.
    for one in (good | True, good & False):
        assert np.isfinite(np.append(*losses.fit_density_classifier(x, one))).all()


def test_utilities(x64):
    rng = np.random.default_rng(0)
    rewards, ref, base = rng.normal(size=(2, 9)), rng.normal(size=(2, 1)), rng.random(9)
    tilted = base * np.exp(losses.combine_rewards_and(rewards, ref) / 0.5)
    product = base * np.prod((1 / (1 + np.exp(ref - rewards))) ** 2, 0)
    np.testing.assert_allclose(tilted, product, rtol=1e-12)
    hand = losses.lsc_transform(np.array([-3.0, 1, 5, 1e4, -1e4]), np.ones(()))
    want = [-4.01815, -0.693147, -0.0181499, 0, -1e4 - 1]
    np.testing.assert_allclose(hand, want, rtol=2e-6)
    answers = rng.normal(size=(4, 50))
    got = losses.reference_quantile(answers, axis=1)
    np.testing.assert_allclose(got, np.quantile(answers, 0.85, axis=1), rtol=1e-12)
    got = losses.reference_quantile(answers.T, axis=0, gaussian=True)
    want = answers.mean(1) + 1.0364334 * answers.std(1)
    np.testing.assert_allclose(got, want, rtol=1e-6)
    with pytest.warns(UserWarning, match="no reference rewards"):
        assert losses.reference_quantile(np.zeros((0,))) == 0


def test_plackett_luce(x64):
    r = np.random.default_rng(0).normal(size=4) * 3
    order = [2, 0, 3, 1]
    want = sum(np.log(np.exp(r[order[k:]] - r[order[k]]).sum()) for k in range(4))
    ranks = np.argsort(order)
    got = losses.plackett_luce_loss(r, ranks)
    np.testing.assert_allclose(got, want, rtol=1e-12)
    # The probabilities of all rankings add up to 1.
    every = np.array(list(itertools.permutations(range(4))))
    likelihoods = np.exp(-losses.plackett_luce_loss(np.tile(r, (24, 1)), every))
    np.testing.assert_allclose(likelihoods.sum(), 1, rtol=1e-12)
    pair = losses.plackett_luce_loss(r.reshape(2, 2), np.array([[0, 1], [1, 0]]))
    want = losses.bradley_terry_loss(r[[0, 3]], r[[1, 2]])
    np.testing.assert_allclose(pair, want, rtol=1e-12)
    assert losses.plackett_luce_loss(r, np.zeros(4)) == 0


ONE, TWO = np.zeros(1, "f4"), np.zeros(2, "f4")
YES = np.ones(1, bool)
ERRORS = [
    (lambda: losses.dpo_loss(ONE, TWO, ONE, ONE), r"rejected_logps has shape \(2,\), "),
    (lambda: losses.dpo_loss(ONE, ONE, TWO, ONE), r"expected \(1,\), that of chosen"),
    (lambda: losses.dpo_loss(*(ONE,) * 4, beta=0.0), "beta is 0.0, expected positive"),
    (lambda: losses.dpo_loss(*(ONE,) * 4, loss_type="dpo"), "loss_type is 'dpo', expe"),
    (
        lambda: losses.dpo_loss(*(ONE,) * 4, loss_type="exo_pair"),
        r"label_smoothing is 0.0, expected a number in \(0, 1\)",
    ),
    (
        lambda: losses.dpo_loss(*(ONE,) * 4, loss_type="hinge", label_smoothing=0.1),
        "label_smoothing is 0.1, but 'hinge' has none",
    ),
    (
        lambda: losses.dpo_loss(*(ONE,) * 4, label_smoothing=1.5),
        r"label_smoothing is 1.5, expected a number in \[0, 1\]",
    ),
    (
        lambda: losses.dpo_loss(*(ONE,) * 4, f_divergence="kl"),
        "f_divergence is 'kl', expected 'reverse_kl', ",
    ),
    (
        lambda: losses.dpo_loss(
            *(ONE,) * 4, loss_type="nca_pair", f_divergence="js_divergence"
        ),
        "f_divergence is 'js_divergence', but 'nca_pair' has only",
    ),
    (lambda: losses.robust_dpo_loss(*(ONE,) * 4, flip_rate=0.5), "flip_rate is 0.5, e"),
    (lambda: losses.ipo_loss(*(ONE,) * 4), "chosen_lengths is None, expected the numb"),
    (
        lambda: losses.ipo_loss(*(ONE,) * 4, ONE, TWO),
        r"rejected_lengths has shape \(2,\), expected \(1,\)",
    ),
    (
        lambda: losses.discopop_loss(*(ONE,) * 4, discopop_tau=0),
        "discopop_tau is 0, ex",
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
    (lambda: losses.cpo_loss(ONE, ONE, loss_type="no"), "loss_type is 'no', expected "),
    (lambda: losses.simpo_loss(ONE, TWO), r"rejected_mean_logps has shape \(2,\), exp"),
    (
        lambda: losses.orpo_odds_ratio_loss(ONE, ONE, beta=-1),
        "beta is -1, expected posi",
    ),
    (
        lambda: losses.kto_loss(ONE, TWO, YES, kl=0.0),
        r"ref_logps has shape \(2,\), exp",
    ),
    (
        lambda: losses.kto_loss(TWO, TWO, YES, kl=0.0),
        r"is_desirable has shape \(1,\), ",
    ),
    (
        lambda: losses.kto_kl_estimate(ONE, ONE),
        r"has shape \(1,\), expected \(B,\) with",
    ),
    (
        lambda: losses.bco_loss(ONE, ONE, YES, TWO, shift=0.0),
        r"density_weight has shape \(2,\), expected \(1,\)",
    ),
    (
        lambda: losses.density_ratio_weight(ONE, min_ratio=20.0),
        "min_ratio is 20.0, exp",
    ),
    (
        lambda: losses.fit_density_classifier(ONE, YES),
        r"features has shape \(1,\), exp",
    ),
    (
        lambda: losses.bradley_terry_loss(ONE, TWO),
        r"rejected_reward has shape \(2,\), ",
    ),
    (
        lambda: losses.bradley_terry_loss(ONE, ONE, center_coef=-1),
        "center_coef is -1, ",
    ),
    (lambda: losses.plackett_luce_loss(ONE, TWO), r"ranks has shape \(2,\), expected "),
    (
        lambda: losses.lsc_transform(ONE, np.zeros(3, "f4")),
        r"ref_reward has shape \(3,",
    ),
    (lambda: losses.reference_quantile(ONE, q=1.0), r"q is 1.0, expected a number in "),
    (
        lambda: losses.reference_quantile(ONE, axis=1),
        "axis 1 is not an axis of ref_rew",
    ),
    (
        lambda: losses.combine_rewards_and(ONE, ONE, axis=2),
        "axis 2 is not an axis of r",
    ),
    (
        lambda: losses.sequence_log_prob(np.zeros((2, 3, 4)), np.zeros((2, 2), int)),
        r"token_ids has shape \(2, 2\), expected \(2, 3\)",
    ),
    (lambda: losses.sequence_log_prob(ONE, 0), r"logits has shape \(1,\), expected \("),
    (
        lambda: losses.shift_for_next_token(np.zeros((3, 4)), np.zeros(2, int), YES),
        r"token_ids has shape \(2,\), expected \(3,\)",
    ),
    (
        lambda: losses.ld_sequence_log_prob(
            np.zeros((3, 4)), np.zeros(3, int), np.zeros(1), alpha=0.5
        ),
        r"shared_lengths has shape \(1,\), expected \(\)",
    ),
    (
        lambda: losses.ld_sequence_log_prob(
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
    with pytest.raises(TypeError, match="is_desirable has dtype float"):
        losses.bco_loss(ONE, ONE, ONE, shift=0.0)
