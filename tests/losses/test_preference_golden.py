import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import trl
from harness.goldens import cases, error
from harness.quickly import quick_jit

from logitlab import losses, rl, sequences, weights


def numbers(values):
    """Arrays of a golden file, whose infinities are strings."""
    return np.array(values, np.float64)


def by_name(name, **options):
    """A loss that TRL names on a golden case: (pair, reference, lengths, params)."""

    def loss(pair, ref, lengths, params):
        found = trl.of_pairs(name, lengths, beta=params["beta"], **options)
        return found(*pair, *ref)

    return loss


def alone(function, **options):
    """The same of a function of ours."""

    def loss(pair, ref, lengths, params):
        del lengths
        return function(*pair, *ref, beta=params["beta"], **options)

    return loss


FAMILY = {
    "dpo_sigmoid": [by_name("sigmoid")],
    "hinge": [by_name("hinge")],
    "ipo": [by_name("ipo")],
    "exo_pair": [by_name("exo_pair")],
    "nca_pair": [by_name("nca_pair")],
    "robust_dpo": [by_name("robust")],
    "robust_dpo_03": [alone(losses.robust_dpo_loss, label_smoothing=0.3)],
    "bco_pair": [by_name("bco_pair")],
    "bco_pair_delta0.3": [alone(losses.bco_pair_loss, shift=0.3)],
    "sppo_hard": [by_name("sppo_hard")],
    "sppo_half_mean": [lambda *a: alone(losses.sppo_loss)(*a) / 2],
    "apo_zero": [by_name("apo_zero")],
    "apo_down": [by_name("apo_down")],
    "discopop": [by_name("discopop")],
    "sigmoid_norm": [by_name("sigmoid_norm")],
    "dpo_js": [alone(losses.f_dpo_loss, f_divergence="js_divergence")],
    "dpo_forward_kl": [
        alone(losses.f_dpo_loss, f_divergence="forward_kl"),
        alone(losses.f_dpo_loss, f_divergence="alpha_divergence", f_alpha=0.0),
    ],
    "dpo_alpha_divergence_f32": [
        alone(losses.f_dpo_loss, f_divergence="alpha_divergence")
    ],
    "aot": [by_name("aot")],
    "aot_unpaired": [by_name("aot_unpaired")],
    "cdpo_ls0.1": [by_name("cdpo")],
    "r_dpo_alpha0.2": [by_name("r_dpo")],
    "dpop_lambda50": [by_name("dpop")],
    "rpo_cumulative_eta0.005": [alone(losses.rpo_loss)],
}


@pytest.mark.sampled
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


def cpo_hinge(chosen, rejected):
    return losses.slic_hf_loss(0.1 * chosen, 0.1 * rejected)


def cpo_ipo(chosen, rejected):
    zeros = np.zeros((2, len(chosen)))
    return losses.ipo_loss(chosen, rejected, *zeros, beta=0.1, average_log_prob=False)


FREE = {  # what they are given, and the loss
    "cpo_sum_beta0.1": ("sum", losses.cpo_loss, dict(beta=0.1)),
    "cpo_sum_beta2.0": ("sum", losses.cpo_loss, dict(beta=2.0)),
    "cpo_hinge_sum_beta0.1": ("sum", cpo_hinge, {}),
    "cpo_ipo_mean_beta0.1": ("mean", cpo_ipo, {}),
    "simpo_mean_beta0.1_gamma0.5": ("mean", losses.simpo_loss, dict(beta=0.1)),
    "simpo_mean_beta2.0_gamma0.5": ("mean", losses.simpo_loss, {}),
    "simpo_mean_beta2_gamma1_ls0.1": (
        "mean",
        losses.simpo_loss,
        dict(margin=1.0, label_smoothing=0.1),
    ),
    "alphapo_mean_beta2_gamma0.5_alpha0.25": ("mean", losses.alphapo_loss, {}),
    "orpo_term_mean_beta0.1_float32": ("mean", losses.orpo_odds_ratio_loss, {}),
    "rrhf_rank_term": ("sum", losses.rrhf_loss, {}),
}


@pytest.mark.sampled(2)
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


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("unpaired_binary"))
def test_unpaired_golden(case, x64):
    given = {name: np.array(array) for name, array in case["inputs"].items()}
    p, good, ref = case["params"], given["is_desirable"], given["ref_logps"]
    kl = rl.kto_kl_estimate(given["kl_policy_logps"], given["kl_ref_logps"])
    kto = functools.partial(
        losses.kto_loss,
        beta=p["beta"],
        desirable_weight=p["desirable_weight"],
        undesirable_weight=p["undesirable_weight"],
    )
    weight = np.full(len(good), np.nan)  # of desirable answers it is not asked
    weight[~good] = weights.density_ratio_weight(
        given["step2_prob_desirable_of_undesirable_prompts"]
    )
    steps, state = [], rl.RunningMean()
    for name in ("policy_logps", "step2_policy_logps"):
        rewards = sequences.implicit_reward(given[name], ref, beta=p["beta"])
        state = rl.running_mean_update(state, rewards)
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


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("sequence_logprob_dpo"))
def test_from_logits_golden(case, x64):
    given = {name: np.array(array) for name, array in case["inputs"].items()}
    beta, want = case["params"]["beta"], case["outputs"]
    mask = given["completion_mask"].astype(bool)

    def shifted(logits):
        return sequences.shift_for_next_token(logits, given["token_ids"], mask)

    def scores(function, logits, **options):
        z, y, m = shifted(logits)
        return jnp.split(function(z, y, mask=m, **options), 2)

    def both(function, logits, **options):
        ref = scores(function, given["ref_logits"], **options)
        return (*scores(function, logits, **options), *ref)

    lengths = jnp.split(mask.sum(-1), 2)
    shared = jnp.tile(jnp.minimum(*lengths), 2)

    def ld(z, y, **options):
        return sequences.ld_sequence_log_prob(z, y, shared, alpha=0.5, **options)

    def sft(logits):
        z, y, m = (a[: len(a) // 2] for a in shifted(logits))
        return losses.sft_loss(z, y, mask=m)

    def of(name, logits):
        if name == "sft":
            return sft(logits)
        if name == "ipo":
            arrays = both(sequences.sequence_log_prob, logits)
            return losses.ipo_loss(*arrays, *lengths, beta=beta).mean()
        function = ld if name == "dpo_ld_alpha0.5" else sequences.sequence_log_prob
        each = losses.dpo_loss(*both(function, logits), beta=beta)
        if name == "dpo_wpo":
            each *= jnp.prod(jnp.stack(scores(sequences.wpo_weights, logits)), 0)
        return each.mean()

    names = [name for name in want if isinstance(want[name], dict)]

    @quick_jit
    def run(logits):
        sums = scores(sequences.sequence_log_prob, logits)
        means = scores(sequences.sequence_log_prob, logits, average=True)
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
        sequences.implicit_reward(p, r, beta=beta)
        for p, r in zip(
            *(
                scores(sequences.sequence_log_prob, given[k])
                for k in ("policy_logits", "ref_logits")
            ),
            strict=True,
        )
    ]
    metrics = want["dpo"]["metrics"]
    assert (rewards[0] > rewards[1]).mean() == metrics["rewards/accuracies"]
    margin = (rewards[0] - rewards[1]).mean()
    np.testing.assert_allclose(margin, metrics["rewards/margins"], rtol=1e-8)
