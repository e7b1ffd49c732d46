"""Policy-gradient losses against the numbers of the original code, and closed forms."""

import functools

import jax
import numpy as np
import pytest
from harness.goldens import cases
from harness.quickly import quick_jit

from logitlab import losses, rl


def close(got, want, rtol=1e-9):
    got, want = np.asarray(got, np.float64), np.asarray(want, np.float64)
    assert got.shape == want.shape
    assert np.abs(got - want).max() <= rtol * (np.abs(want).max() or 1)


@pytest.mark.parametrize("case", cases("group_advantages"))
def test_group_advantages_golden(case, x64):
    best = case["params"]["max_reward"]

    @quick_jit
    def run(r):
        group, rloo = rl.group_advantages, rl.rloo_advantages
        ngrpo = functools.partial(rl.ngrpo_advantages, max_reward=best)
        return {
            "grpo_scale_group_eps1e-4": group(r),
            "grpo_scale_batch_eps1e-4": group(r, scale="batch"),
            "grpo_scale_none_eps1e-4": group(r, scale="none"),
            "verl_grpo_eps1e-6": group(r, eps=1e-6),
            "rloo": rloo(r),
            "rloo_normalized": rloo(r, normalize=True),
            "ngrpo_virtual1_eps1e-6": ngrpo(r),
            "ngrpo_virtual2_eps1e-6": ngrpo(r, n_virtual=2),
        }

    got = run(np.array(case["inputs"]["rewards"]))
    assert got.keys() == case["outputs"].keys()
    for name, want in case["outputs"].items():
        close(got[name], want)


def surrogates(old, ref, a, mask, length):
    """Scalar losses by their names in the golden file."""

    def tokens(loss=losses.ppo_clip_loss, mode="token_mean", constant=None, **hyper):
        def scalar(lp):
            each = loss(lp, old, a, mask=mask, **hyper)
            return rl.aggregate_tokens(each, mask, mode=mode, constant=constant)

        return scalar

    def sequences(loss, **hyper):
        return lambda lp: loss(lp, old, a, mask=mask, **hyper).mean()

    def with_kl(lp):
        each = losses.ppo_clip_loss(lp, old, a) + 0.04 * losses.kl_k3(lp, ref)
        return rl.aggregate_tokens(each, mask, mode="sequence_mean")

    grpo = tokens(mode="sequence_mean")
    return {
        "grpo_eps0.2": grpo,
        "grpo_eps0.2_klbeta0.04": with_kl,
        f"dr_grpo_eps0.2_maxlen{length}": tokens(mode="constant", constant=length),
        "dapo_eps0.2_0.28": tokens(clip_high=0.28),
        "bnpo_eps0.2": tokens(),
        "verl_ppo_clip0.2_token_mean": tokens(),
        "ngrpo_clip0.16_0.24_token_mean": tokens(clip_low=0.16, clip_high=0.24),
        "two_sided_delta1.5": tokens(delta=1.5),
        "gspo_eps3e-4_4e-4": sequences(losses.gspo_loss),
        "gspo_eps0.2": sequences(losses.gspo_loss, clip_low=0.2, clip_high=0.2),
        "gspo_token_eps0.2": sequences(
            losses.gspo_token_loss, clip_low=0.2, clip_high=0.2
        ),
        "cispo_max2": tokens(losses.cispo_loss, clip_max=2.0),
        "sapo": tokens(losses.sapo_loss, mode="sequence_mean"),
        "gmpo_eps0.4": sequences(losses.gmpo_loss),
        "rloo_sequence_clip0.2": sequences(losses.rloo_loss),
    }


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("policy_gradient_losses"))
def test_surrogates_golden(case, x64):
    given = {k: np.array(v) for k, v in case["inputs"].items()}
    lp, old, ref = (given[f"{name}_logps"] for name in ("new", "old", "ref"))
    length, want = case["params"]["max_completion_length"], case["outputs"]
    named = surrogates(
        old, ref, given["advantages"], given["mask"].astype(bool), length
    )

    @quick_jit
    def run(lp):
        return {name: jax.value_and_grad(loss)(lp) for name, loss in named.items()}

    got = run(lp)
    penalties = {
        "kl_penalty_kl": losses.kl_k1(lp, ref),
        "kl_penalty_abs": np.abs(losses.kl_k1(lp, ref)),
        "kl_penalty_mse": losses.kl_k2(lp, ref),
        "kl_penalty_low_var_kl": losses.kl_k3(lp, ref, clip=10.0),
    }
    assert got.keys() | penalties.keys() == want.keys()
    for name, (value, grad) in got.items():
        close(value, want[name]["loss"])
        close(grad, want[name]["grad_new_logps"])
    for name, value in penalties.items():
        close(value, want[name])


@pytest.mark.sampled(2)
@pytest.mark.parametrize("case", cases("gae_value"))
def test_gae_and_values_golden(case, x64):
    given = {k: np.array(v) for k, v in case["inputs"].items()}
    params, want = case["params"], case["outputs"]
    mask, rewards = given["mask"].astype(bool), given["token_rewards"]
    gamma, baseline = params["gamma"], np.full(len(mask), params["remax_baseline"])

    @quick_jit
    def run(values):
        advantages, returns = rl.gae(
            rewards, given["values_old"], gamma=gamma, lam=params["lam"], mask=mask
        )

        def loss(values):
            old = given["values_old"]
            each = losses.clipped_value_loss(values, old, returns, mask=mask)
            return rl.aggregate_tokens(each, mask)

        psr_nsr = functools.partial(
            rl.psr_nsr_advantages,
            given["outcome_scores"],
            positive_weight=params["psr_nsr_positive_weight"],
            mask=mask,
        )
        value, grad = jax.value_and_grad(loss)(values)
        return {
            "gae_raw_advantages": advantages,
            "returns": returns,
            "whitened_advantages": rl.masked_whiten(advantages, mask),
            "value_loss_clip0.2": value,
            "grad_vpred": grad,
            "reinforce_pp_advantages": rl.reinforce_pp_advantages(
                rewards, gamma=gamma, mask=mask
            ),
            "remax_advantages": rl.remax_advantages(rewards, baseline, mask=mask),
            "psr_nsr_positive": psr_nsr(kind="positive"),
            "psr_nsr_negative": psr_nsr(kind="negative"),
            "psr_nsr_weighted": psr_nsr(kind="weighted"),
        }

    got = run(given["values_new"])
    assert got.keys() == want.keys() - {"value_clipfrac"}
    for name in got:
        close(got[name], want[name])


@pytest.mark.parametrize("case", cases("rto"))
def test_rto_golden(case, x64):
    given = {k: np.array(v) for k, v in case["inputs"].items()}
    params, want = case["params"], case["outputs"]
    mask = given["mask"].astype(bool)
    hyper = dict(
        scale=params["dpo_reward_scale"], clip=params["dpo_reward_clip"], mask=mask
    )

    @quick_jit
    def run(policy, ref, dpo, r):
        rewards = rl.rto_token_rewards(
            policy,
            ref,
            dpo,
            r,
            kl_coef=params["kl_coef"],
            reward_clip=params["sequence_reward_clip"],
            **hyper,
        )
        advantages, returns = rl.gae(
            rewards,
            given["values"],
            gamma=params["gamma"],
            lam=params["lam"],
            mask=mask,
        )
        return {
            "dpo_token_rewards": rl.dpo_token_rewards(dpo, ref, **hyper),
            "token_rewards": rewards,
            "advantages": advantages,
            "returns": returns,
        }

    logps = (given[f"{name}_logps"] for name in ("policy", "ref", "dpo"))
    got = run(*logps, given["sequence_reward"])
    assert got.keys() == want.keys()
    for name in got:
        close(got[name], want[name])


def drpo_oracle(lp, old, mask, right, uid, *, lam, tau, delta, beta, kl):
    """The objective as the paper has it, with loops."""
    length = mask.sum(-1)
    s = (lp * mask).sum(-1) / length
    objective = 0.0
    for q in np.unique(uid):
        p, n = (uid == q) & right, (uid == q) & ~right
        if p.any() and n.any():
            w = np.exp((1 - length[p] / lp.shape[1]) / lam)
            objective += (w / w.sum() * s[p]).sum()
            objective -= tau * np.log(np.exp(s[n] / tau).mean())
    l = lp - old  # noqa: E741
    off = {"k1": -l, "k3": np.exp(l) - l - 1}[kl]
    k = (off * mask).sum() / mask.sum()
    return max(beta * (k - delta), 0) * k - objective / len(np.unique(uid)), k


@pytest.mark.sampled
@pytest.mark.parametrize("case", cases("drpo"))
def test_drpo_golden(case, x64):
    given = {k: np.array(v) for k, v in case["inputs"].items()}
    lp, old, uid = given["new_logps"], given["old_logps"], given["uid"]
    mask, right = given["mask"].astype(bool), given["rewards"].ravel()
    hyper = {k: case["params"][k] for k in ("tau", "delta", "beta")}
    lam = case["params"]["Lambda"]

    @functools.partial(quick_jit, static_argnames="kl")
    def run(lp, kl):
        drpo = functools.partial(losses.drpo_loss, lam=lam, max_length=lp.shape[1])
        return {
            name: jax.value_and_grad(loss)(
                lp, old, right, uid, kl=kl, mask=mask, **hyper
            )
            for name, loss in (("drpo", drpo), ("disco_logL", losses.disco_loss))
        }

    for kl, suffix in (("k1", "kl"), ("k3", "low_var_kl")):
        for name, (value, grad) in run(lp, kl).items():
            golden = case["outputs"][f"{name}_{suffix}"]
            close(grad, golden["grad_new_logps"])
            at = lam if name == "drpo" else np.inf
            want, k = drpo_oracle(lp, old, mask, right > 0, uid, lam=at, kl=kl, **hyper)
            close(value, want)
            close(k, golden["approx_kl"])


def test_losses_of_sampled_answers(x64):
    rng = np.random.default_rng(3)
    logits = 4 * rng.normal(size=(3, 6))
    actions = rng.integers(0, 6, (3, 4))
    rewards = rng.normal(size=(3, 4))
    rewards[0] = 1.0  # of equal ones the first counts
    logps = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    of = np.take_along_axis(logps, actions, -1)
    rows = np.arange(3)
    best, worst = of[rows, rewards.argmax(-1)], of[rows, rewards.argmin(-1)]
    for weight in (0.0, 0.3):
        found = losses.best_of_n_loss(logits, actions, rewards, negative_weight=weight)
        np.testing.assert_allclose(found, weight * worst - best, rtol=1e-12)
    found = losses.awr_loss(logits, actions, rewards, temperature=0.5)
    np.testing.assert_allclose(found, -(np.exp(2 * rewards) * of).mean(-1), rtol=1e-12)
    across = losses.awr_loss(logits.T, actions.T, rewards.T, temperature=0.5, axis=0)
    np.testing.assert_allclose(across, found, rtol=1e-12)

    def total(rewards):
        awr = losses.awr_loss(logits, actions, rewards, temperature=0.5)
        return (awr + losses.best_of_n_loss(logits, actions, rewards)).sum()

    np.testing.assert_array_equal(jax.grad(total)(rewards), 0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(rewards=np.zeros((2, 4))), r"rewards has shape \(2, 4\), expected"),
        (dict(logits=np.zeros((3, 5))), r"actions has shape \(2, 3\), expected \(3,\)"),
        (dict(actions=np.full((2, 3), 5)), "labels outside"),
        (dict(actions=np.zeros((2, 0), int), rewards=np.zeros((2, 0))), "one answer"),
        (dict(temperature=0.0), "temperature is 0.0, expected positive"),
        (dict(negative_weight=-1.0), "negative_weight is -1.0, expected at least 0"),
    ],
)
def test_sampled_answers_refuse(change, message):
    given = dict(logits=np.zeros((2, 5)), actions=np.zeros((2, 3), int))
    given |= dict(rewards=np.zeros((2, 3))) | change
    loss, options = losses.best_of_n_loss, {}
    if "temperature" in given:
        loss, options = losses.awr_loss, {"temperature": given.pop("temperature")}
    with pytest.raises(ValueError, match=message):
        loss(**given, **options)
