"""Policy-gradient losses at the edges: extremes, empty groups and masks, bad input."""

import functools

import jax
import numpy as np
import pytest
from harness.interpreter import functions
from harness.quickly import quick_jit

from logitlab import losses, rl

losses, rl = functions(losses), functions(rl)


def close(got, want):
    np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-15)


RATIOS = {
    "ppo": losses.ppo_clip_loss,
    "gspo": functools.partial(losses.gspo_loss, clip_low=0.2, clip_high=0.2),
    "gspo_token": functools.partial(
        losses.gspo_token_loss, clip_low=0.2, clip_high=0.2
    ),
    "gmpo": losses.gmpo_loss,
    "rloo": losses.rloo_loss,
    "sapo": losses.sapo_loss,
    "cispo": losses.cispo_loss,
}


def test_on_policy_they_are_reinforce(x64):
    rng = np.random.default_rng(0)
    lp, a = -rng.exponential(size=(4, 5)), np.array([1.5, -0.5, 0.0, 2.0])
    mask = np.arange(5) < np.array([[5], [3], [2], [0]])

    @quick_jit
    def run(lp):
        old = jax.lax.stop_gradient(lp)
        grads = {
            name: jax.grad(lambda lp, loss=loss: loss(lp, old, a, mask=mask).sum())(lp)
            for name, loss in RATIOS.items()
        }
        return grads | {
            "reinforce": jax.grad(
                lambda lp: losses.reinforce_loss(lp, a, mask=mask).sum()
            )(lp)
        }

    want = np.where(mask, -a[:, None], 0)
    for name, grad in run(lp).items():
        mean = name in ("gspo", "gspo_token", "gmpo")
        close(grad, want / np.maximum(mask.sum(-1, keepdims=True), 1) if mean else want)


def test_one_token_is_a_sequence(x64):
    rng = np.random.default_rng(1)
    old, a = -rng.exponential(size=(8, 1)), rng.normal(size=8)
    lp = old + rng.normal(size=(8, 1))
    got = quick_jit(lambda lp: {k: f(lp, old, a) for k, f in RATIOS.items()})(lp)
    for name in ("gspo", "gspo_token", "rloo"):
        np.testing.assert_allclose(got[name], got["ppo"][:, 0], rtol=1e-12)


def test_ratios_that_no_float_holds():
    log_ratio = np.float32([-1e4, -80, 80, 1e4])
    size = np.exp(np.minimum(log_ratio.astype("f8"), 700))
    inf = np.where(log_ratio < 88, size, np.inf)

    @quick_jit
    def run(lp, a):
        def total(loss, lp):
            each = loss(lp[:, None], np.zeros((4, 1), "f4"), a)
            return each.sum(), each.reshape(-1)

        graded = {
            name: jax.grad(functools.partial(total, loss), has_aux=True)(lp)
            for name, loss in RATIOS.items()
        }
        return {k: (value, grad) for k, (grad, value) in graded.items()}

    clipped = {
        1: (-np.clip(size, 0, 1.2), [0, -size[1], 0, 0]),
        0: (np.zeros(4), np.zeros(4)),
        -1: (np.maximum(inf, 0.8), [0, 0, *inf[2:]]),
    }
    geometric = {
        1: (-np.clip(size, 0, np.exp(0.4)), [0, -size[1], 0, 0]),
        0: clipped[0],
        -1: (np.maximum(inf, np.exp(-0.4)), [0, 0, *inf[2:]]),
    }
    weights = np.minimum(size, 2)
    for a in (1, 0, -1):
        tau = 1 if a > 0 else 1.05
        shut = 4 / tau / (1 + np.exp(tau))
        gate = np.where(size < 1, shut, 4 / tau)
        slope = [0, 4 * np.exp(tau) / (1 + np.exp(tau)) ** 2 * size[1], 0, 0]
        want = dict.fromkeys(("ppo", "gspo", "gspo_token", "rloo"), clipped[a])
        want["gmpo"] = geometric[a]
        want["sapo"] = -a * gate, -a * np.array(slope)
        want["cispo"] = -a * weights * log_ratio, -a * weights
        for name, got in run(log_ratio, np.full(4, a, "f4")).items():
            for x, y in zip(got, want[name], strict=True):
                np.testing.assert_allclose(x, y, 1e-5, 1e-37, err_msg=f"{name}, {a}")
    # A cap on the ratio keeps negative advantages finite too.
    capped = losses.ppo_clip_loss(log_ratio, 0 * log_ratio, -1.0, delta=3.0)
    np.testing.assert_allclose(capped, [0.8, 0.8, 3, 3], rtol=1e-6)


def test_only_the_policy_gets_a_gradient(x64):
    rng = np.random.default_rng(2)
    lp, old = -rng.exponential(size=(2, 2, 3))
    a, groups = np.array([1.0, -1.0]), np.zeros(2, int)

    def total(old, a):
        each = [loss(lp, old, a) for loss in RATIOS.values()]
        each += [losses.kl_k1(lp, old), losses.kl_k2(lp, old), losses.kl_k3(lp, old)]
        each += [losses.clipped_value_loss(lp, old, old), rl.group_advantages(old)]
        each += [losses.disco_loss(lp, old, a, groups), *rl.gae(old, old)]
        each += [rl.rto_token_rewards(old, lp, lp, a), losses.reinforce_loss(lp, a)]
        return sum(e.sum() for e in each)

    for grad in quick_jit(jax.grad(total, argnums=(0, 1)))(old, a):
        np.testing.assert_array_equal(grad, 0)


def test_aggregation():
    x = np.float32([[1, 2, 9], [6, 9, 9], [9, 9, 9]])
    mask = np.array([[1, 1, 0], [1, 0, 0], [0, 0, 0]], bool)
    for mode, want in {"token_mean": 3, "sequence_mean": 2.5, "constant": 0.75}.items():
        constant = 4 if mode == "constant" else None
        got = rl.aggregate_tokens(x, mask, mode=mode, constant=constant)
        np.testing.assert_allclose(got, want, rtol=1e-6)
        got = rl.aggregate_tokens(x, mask & False, mode=mode, constant=constant)
        assert got == 0
    each = rl.aggregate_tokens(np.where(mask, x, np.nan), mask, mode="none")
    np.testing.assert_array_equal(each, np.where(mask, x, 0))


def test_divergences_are_exact():
    r = np.float32(
        [-80, -3, -0.11, -1e-3, -1e-7, 1e-12, 1e-5, 0.09, 0.11, 1, 49, 51, 80]
    )
    wide = r.astype(np.longdouble)
    terms = [wide**k / float(np.prod(np.arange(1.0, k + 1))) for k in range(2, 12)]
    want = np.where(np.abs(wide) < 0.2, sum(terms), np.exp(wide) - 1 - wide)

    @quick_jit
    @functools.partial(jax.value_and_grad, has_aux=True)
    def run(lp):
        each = losses.kl_k3(lp, np.zeros(lp.shape, lp.dtype))
        return each.sum(), each

    (_, values), grad = run(-r)
    np.testing.assert_allclose(values, want.astype("f8"), rtol=1e-5)
    np.testing.assert_allclose(grad, -np.expm1(r.astype("f8")), rtol=1e-5)
    clipped = jax.grad(lambda lp: losses.kl_k3(lp, np.float32(r), clip=10.0).sum())
    assert np.isfinite(clipped(np.full_like(r, -1e4))).all()
    assert losses.kl_k3(np.float32([-np.inf]), np.float32([0]), clip=10.0) == 10
    assert losses.kl_k3(np.float32([-np.inf]), np.float32([0])) == np.inf


ADVANTAGES = {
    "grpo": rl.group_advantages,
    "grpo, batch": functools.partial(rl.group_advantages, scale="batch", eps=0.0),
    "dr_grpo": functools.partial(rl.group_advantages, scale="none"),
    "rloo": rl.rloo_advantages,
    "rloo, normalised": functools.partial(rl.rloo_advantages, normalize=True),
    "ngrpo": rl.ngrpo_advantages,
}


@quick_jit
def all_advantages(r):
    return {name: advantages(r) for name, advantages in ADVANTAGES.items()}


def test_groups_that_say_nothing():
    for equal in (1, 0.1, 1000.1):
        for name, a in all_advantages(np.float32([[equal] * 3, [0, 1, 5]])).items():
            assert np.isfinite(a).all()
            assert (a[0] == 0).all() or name == "ngrpo" or "normalised" in name
    one = np.float32([[3], [0]])
    for name, a in all_advantages(one).items():
        np.testing.assert_allclose(a, one if name == "ngrpo" else 0 * one, rtol=2e-6)
    for a in all_advantages(np.zeros((2, 0), "f4")).values():
        assert a.shape == (2, 0)
    for name, a in all_advantages(np.full((2, 3), np.nan, "f4")).items():
        np.testing.assert_array_equal(a, 0, err_msg=name)


def test_a_rollout_without_a_reward_is_not_there():
    r = np.float32([1, np.nan, 0, 0, 5])
    some = ~np.isnan(r)
    want = all_advantages(r[some])
    for name, a in all_advantages(r).items():
        assert a[1] == 0
        np.testing.assert_allclose(np.asarray(a)[some], want[name], 1e-6)


def test_ngrpo_learns_from_failures(x64):
    """The closed form for rewards of 0 and 1 and one imagined rollout."""
    size = 8
    advantages = quick_jit(functools.partial(rl.ngrpo_advantages, eps=0.0))
    for right in range(size + 1):
        r = (np.arange(size) < right).astype(float)
        mean = (right + 1) / (size + 1)
        deviation = np.sqrt((size + 1) / size * mean * (1 - mean))
        a = advantages(r)
        if right == size:
            np.testing.assert_array_equal(a, 0)
        else:
            np.testing.assert_allclose(a, (r - mean) / deviation, rtol=1e-12)
            assert a.sum() < 0
    a = advantages(np.zeros(size))
    np.testing.assert_allclose(a, -1 / np.sqrt(size + 1), rtol=1e-12)


def test_returns(x64):
    rng = np.random.default_rng(3)
    r, v = rng.normal(size=(2, 2, 6))
    gamma, lam = 0.9, 0.7
    keep = np.array([[1, 0, 1, 1, 0, 1], [1, 1, 1, 0, 0, 0]], bool)
    spoilt = np.where(keep, r, np.nan), np.where(keep, v, np.inf)

    @quick_jit
    def run(r, v, keep):
        advantages, returns = rl.gae(r, v, gamma=gamma, lam=lam, mask=keep)
        return advantages, returns, rl.masked_whiten(advantages, keep)

    advantages, returns, white = map(np.asarray, run(*spoilt, keep))
    for row in range(2):
        x, y = r[row, keep[row]], np.append(v[row, keep[row]], 0)
        delta = x + gamma * y[1:] - y[:-1]
        powers = (gamma * lam) ** np.arange(len(x))
        want = [(delta[t:] * powers[: len(x) - t]).sum() for t in range(len(x))]
        np.testing.assert_allclose(advantages[row, keep[row]], want, rtol=1e-12)
    np.testing.assert_array_equal(advantages[~keep], 0)
    np.testing.assert_allclose(returns[keep], (advantages + v)[keep], rtol=1e-12)
    np.testing.assert_allclose(white[keep].mean(), 0, atol=1e-12)
    np.testing.assert_allclose(white[keep].std(ddof=1), 1, rtol=1e-6)
    for empty in run(*spoilt, keep & False):
        np.testing.assert_array_equal(empty, 0)


def test_whitening_at_the_ends():
    whiten = quick_jit(rl.masked_whiten)
    both = np.ones(2, bool)
    for same in (3, 2e-4, 1e30):
        np.testing.assert_array_equal(whiten(np.float32([same, same]), both), 0)
    large = whiten(np.float32([1e30, -1e30]), both)
    np.testing.assert_allclose(large, [0.5**0.5, -(0.5**0.5)], rtol=1e-6)
    x = np.float32([np.nan, 1])
    assert np.isfinite(whiten(x, ~both)).all()
    # Beside a single value, what is left out is what a 0 would be.
    np.testing.assert_allclose(whiten(x, ~np.isnan(x)), [-1e4, 0], rtol=1e-6)


def test_value_loss_beyond_squares():
    v, old, r = np.float32([1e30, 1, 0.1]), np.float32([0, 0, 0]), np.float32([0, 0, 1])

    def loss(v):
        return losses.clipped_value_loss(v, old, r).sum()

    np.testing.assert_allclose(quick_jit(jax.grad(loss))(v), [1e30, 1, -0.9], rtol=1e-6)


def test_rewards_of_tokens():
    logps, r = np.zeros((2, 3), "f4"), np.float32([50, 2])
    mask = np.array([[1, 1, 0], [0, 0, 0]], bool)
    got = rl.rto_token_rewards(logps, logps - 1, logps, r, kl_coef=-1, mask=mask)
    np.testing.assert_allclose(got, [[0.05, 10.05, 0], [0, 0, 0]], rtol=1e-6)
    length = np.array([0, 10, 12, 20, 21])
    got = rl.overlong_penalty(length, max_len=20, cache=10)
    np.testing.assert_allclose(got, [0, 0, -0.2, -1, -1], rtol=1e-6)


def test_length_weights():
    lengths, right = np.array([100, 400, 900, 1, 5]), np.array([1, 1, 1, 0, 0], bool)

    @quick_jit
    def weights(right, lam):
        return rl.length_weights(lengths, right, lam=lam, max_length=1000)

    for lam, want in {
        0.1: [0.952, 0.047, 0.0003],
        1: [0.457, 0.338, 0.205],
        np.inf: [1 / 3] * 3,
        1e-30: [1, 0, 0],
    }.items():
        w = weights(right, lam)
        np.testing.assert_allclose(w, [*want, 0, 0], atol=6e-4)
    np.testing.assert_array_equal(weights(right & False, 1.0), 0)


def test_drpo_never_pushes_a_right_answer_down(x64):
    rng = np.random.default_rng(4)
    lp = -rng.exponential(size=(8, 6))
    mask = np.arange(6) < np.array([[1], [2], [3], [6], [4], [5], [6], [0]])
    groups, right = (
        np.array([7, 7, 3, 7, 3, 3, 9, 7]),
        np.array([1, 1, 0, 0, 0, 1, 1, 1.0]),
    )

    @quick_jit
    @jax.grad
    def slope(lp):
        return losses.drpo_loss(lp, lp, right, groups, max_length=6, mask=mask)

    s = np.asarray(slope(lp)).sum(-1)
    assert (s[[0, 1, 5]] < 0).all()
    assert (s[[2, 3, 4]] > 0).all()
    np.testing.assert_array_equal(s[6:], 0)  # nobody to compare with, and empty
    # All of a prompt's weight on either side; three prompts.
    np.testing.assert_allclose([s[[0, 1]].sum(), s[[2, 4]].sum()], [-1 / 3, 1 / 3])
    alone = quick_jit(functools.partial(losses.drpo_loss, max_length=6, tau=1e-3))
    far = np.float64([[-1], [-1e4], [-2e4]])
    value = alone(far, far, np.array([1.0, 0, 0]), np.zeros(3, int))
    np.testing.assert_allclose(value, 1 - 1e4 - 1e-3 * np.log(2), rtol=1e-12)


def test_one_example(x64):
    rng = np.random.default_rng(5)
    z, y = 3 * rng.normal(size=(2, 3, 4)), rng.integers(0, 4, (2, 3))
    old, ref = -rng.exponential(size=(2, 2, 3))
    a, mask = np.array([1.0, -1.0]), np.array([[1, 1, 0], [1, 1, 1]], bool)
    p = np.exp(z) / np.exp(z).sum(-1, keepdims=True)
    lp = np.log(np.take_along_axis(p, y[..., None], -1)[..., 0])
    ratio, r = np.exp(lp - old), ref - lp
    surrogate = -np.minimum(ratio * a[:, None], np.clip(ratio, 0.8, 1.2) * a[:, None])
    k3, entropy = np.minimum(np.exp(r) - r - 1, 10), -(p * np.log(p)).sum(-1)
    spoilt = np.where(mask, y, -100), np.where(mask, old, np.nan)

    @quick_jit
    def run(z, pg):
        def total(z):
            each = losses.rlvr_loss(
                z, *spoilt, ref, a, kl_coef=0.3, entropy_coef=0.2, pg_coef=pg, mask=mask
            )
            return each.sum(), each

        return jax.grad(total, has_aux=True)(z)

    for pg in (0.0, 2.0):
        grad, each = run(np.where(mask[..., None], z, np.nan), pg)
        want = np.where(mask, pg * surrogate + 0.3 * k3 - 0.2 * entropy, 0)
        np.testing.assert_allclose(each, want, rtol=1e-12)
        assert np.isfinite(grad).all()
        np.testing.assert_array_equal(np.asarray(grad)[~mask], 0)
    history = np.array([[0.5, 0.5], [0, 1], [0.2, 0.6], [1, 0]])
    np.testing.assert_array_equal(rl.historical_variance_rank(history), [1, 3, 2, 0])


LP, ONE = np.zeros((4, 5), "f4"), np.ones(4, "f4")
IDS, MASK = np.zeros(4, int), np.ones((4, 5), bool)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: losses.ppo_clip_loss(LP, LP[:3], ONE),
            r"old_logps has shape \(3, 5\)",
        ),
        (
            lambda: losses.ppo_clip_loss(LP, LP, ONE[:3]),
            r"advantages has shape \(3,\), expected \(4,\) or \(4, 5\)",
        ),
        (
            lambda: losses.gspo_loss(LP, LP, LP),
            r"advantages .* \(4, 5\), expected \(4,\)",
        ),
        (
            lambda: losses.cispo_loss(LP, LP, ONE, mask=MASK[:, :3]),
            r"mask has shape \(4, 3\), expected \(4, 5\)",
        ),
        (lambda: losses.ppo_clip_loss(LP, LP, ONE, clip_low=0.0), "clip_low is 0.0"),
        (lambda: losses.rloo_loss(LP, LP, ONE, clip_high=-0.2), "clip_high is -0.2"),
        (lambda: losses.ppo_clip_loss(LP, LP, ONE, delta=0.0), "delta is 0.0"),
        (lambda: losses.gmpo_loss(LP, LP, ONE, clip_low=0.0), "clip_low is 0.0"),
        (lambda: losses.cispo_loss(LP, LP, ONE, clip_max=0.0), "clip_max is 0.0"),
        (lambda: losses.sapo_loss(LP, LP, ONE, tau_pos=0.0), "tau_pos is 0.0"),
        (lambda: losses.sapo_loss(LP, LP, ONE, tau_neg=0.0), "tau_neg is 0.0"),
        (lambda: losses.reinforce_loss(ONE[0], ONE[0]), r"logps has shape \(\)"),
        (lambda: rl.aggregate_tokens(LP, mode="mean"), "mode is 'mean'"),
        (lambda: rl.aggregate_tokens(LP, mode="constant"), "constant is None"),
        (
            lambda: rl.aggregate_tokens(LP, constant=3),
            "constant is 3 for mode 'tok",
        ),
        (
            lambda: rl.aggregate_tokens(LP, mode="constant", constant=0),
            "constant is 0, expected positive",
        ),
        (lambda: losses.kl_k1(LP, LP[0]), r"ref_logps has shape \(5,\)"),
        (lambda: losses.kl_k3(LP, LP, clip=0.0), "clip is 0.0"),
        (lambda: rl.group_advantages(LP, scale="all"), "scale is 'all'"),
        (lambda: rl.group_advantages(LP, eps=-1.0), "eps is -1.0"),
        (lambda: rl.group_advantages(np.float32(1)), r"rewards has shape \(\)"),
        (lambda: rl.ngrpo_advantages(LP, n_virtual=-1), "n_virtual is -1"),
        (lambda: rl.overlong_penalty(3, max_len=4, cache=5), "cache is 5"),
        (
            lambda: rl.gae(LP, LP[:, :4]),
            r"values has shape \(4, 4\), expected \(4, 5",
        ),
        (lambda: rl.gae(LP, LP, gamma=1.1), "gamma is 1.1"),
        (lambda: rl.gae(LP, LP, lam=-0.1), "lam is -0.1"),
        (lambda: rl.masked_whiten(LP, eps=0.0), "eps is 0.0"),
        (lambda: rl.remax_advantages(LP, LP), r"baseline has shape \(4, 5\)"),
        (lambda: rl.psr_nsr_advantages(LP, kind="both"), "kind is 'both'"),
        (lambda: losses.clipped_value_loss(LP, LP, LP, clip=0.0), "clip is 0.0"),
        (lambda: rl.dpo_token_rewards(LP, LP, clip=-1.0), "clip is -1.0"),
        (
            lambda: rl.rto_token_rewards(LP, LP, LP, LP),
            r"sequence_reward has shape \(4, 5\), expected \(4,\)",
        ),
        (
            lambda: losses.disco_loss(LP, LP, ONE, IDS[:3]),
            r"group_ids has shape \(3,\)",
        ),
        (lambda: losses.disco_loss(LP, LP, ONE, IDS, kl="k2"), "kl is 'k2'"),
        (lambda: losses.disco_loss(LP, LP, ONE, IDS, tau=0.0), "tau is 0.0"),
        (lambda: losses.disco_loss(ONE, ONE, ONE, IDS), r"logps has shape \(4,\)"),
        (
            lambda: losses.drpo_loss(LP, LP, ONE, IDS, max_length=0),
            "max_length is 0",
        ),
        (
            lambda: rl.length_weights(IDS, ONE[:3], lam=1.0, max_length=3),
            r"correct has shape \(3,\), lengths \(4,\)",
        ),
        (
            lambda: losses.rlvr_loss(LP, IDS[:3], ONE, ONE, ONE),
            r"labels has shape \(3,\), expected \(4,\)",
        ),
        (lambda: losses.rlvr_loss(LP, IDS, ONE, ONE, ONE, eps=0.0), "eps is 0.0"),
        (lambda: rl.historical_variance_rank(ONE), r"history has shape \(4,\)"),
    ],
)
def test_errors(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_wrong_types():
    with pytest.raises(TypeError, match="mask has dtype int"):
        losses.ppo_clip_loss(LP, LP, ONE, mask=np.ones((4, 5), int))
    with pytest.raises(TypeError, match="group_ids has dtype float32"):
        losses.disco_loss(LP, LP, ONE, ONE)
    with pytest.raises(TypeError, match="rewards has dtype int"):
        rl.group_advantages(np.ones((2, 3), int))
