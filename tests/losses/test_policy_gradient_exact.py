"""Policy-gradient losses where numbers overflow, are fused, or are of any type."""

import functools
import inspect

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import functions, interpreted
from harness.quickly import quick_jit

from logitlab import losses, rl
from logitlab.losses import policy_gradient, preference
from logitlab.losses.catalogue import CATALOGUE

plain = losses  # in which concrete actions are checked
losses, rl = functions(losses), functions(rl)


def test_weights_that_no_float_holds():
    """Exponential rewards: finite where the product is, inf and never NaN beyond."""
    z = np.float32([[80, 0, 0], [40, 0, -300], [1, 0, 2], [5, -1, 0]])
    actions = np.array([[0, 0], [0, 0], [1, 0], [0, 0]])
    rewards = np.float32([[100, 3], [200, 200], [200, -np.inf], [-300, -300]])

    def run(z, rewards):
        values, pull = jax.vjp(
            lambda z: losses.awr_loss(z, actions, rewards, temperature=1.0), z
        )
        return values, pull(jnp.ones(4, z.dtype))[0]

    values, grad = map(np.asarray, jax.jit(run)(z, rewards))
    with jax.enable_x64(True):
        want, slope = interpreted(run)(z.astype("f8"), rewards.astype("f8"))
    assert (values[:1] < np.inf).all()
    assert (values[1:3] == np.inf).all()
    np.testing.assert_allclose(values[[0, 3]], want[[0, 3]], rtol=2e-5, atol=1e-36)
    large = np.abs(slope) > np.finfo("f4").max
    np.testing.assert_array_equal(grad[large], np.sign(slope[large]) * INF)
    np.testing.assert_allclose(grad[~large], slope[~large], rtol=2e-5, atol=1e-36)
    assert grad[1, 2] == 0  # as though its weight were finite
    hidden = losses.awr_loss(
        np.float32([0, -np.inf]), np.array([0, 1]), np.float32([0, -200]),
        temperature=1.0,
    )  # fmt: skip
    assert hidden == 0  # an answer that cannot be, of a weight that underflows


INF = np.float32(np.inf)


def standardised(x):
    """Log-probabilities that are made by reductions, so computed more than once."""
    off = x - x.mean(-1, keepdims=True)
    unit = off * jax.lax.rsqrt((off**2).mean(-1, keepdims=True) + 1e-6)
    return 0.15 * unit - jax.nn.logsumexp(unit, -1, keepdims=True)


MILD = ("power_pos", "decay_pos", "power_neg", "decay_neg")
SURROGATES = {
    "ppo": losses.ppo_clip_loss,
    "ppo, capped": functools.partial(losses.ppo_clip_loss, delta=1.5),
    "gspo": functools.partial(losses.gspo_loss, clip_low=0.2, clip_high=0.2),
    "gspo_token": functools.partial(
        losses.gspo_token_loss, clip_low=0.2, clip_high=0.2
    ),
    "gmpo": losses.gmpo_loss,
    "rloo": functools.partial(losses.rloo_loss, clip_low=0.9, clip_high=9.0),
    "cispo": losses.cispo_loss,
    "vespo": functools.partial(losses.vespo_loss, **dict.fromkeys(MILD, 0.5)),
    "sapo": losses.sapo_loss,
}


@pytest.mark.sampled
@pytest.mark.optimized
@pytest.mark.parametrize("size", [3, 50, 700])
def test_policies_that_the_same_program_computes(size):
    rng = np.random.default_rng(size)
    x = rng.normal(size=(16, size)).astype("f4")
    a = rng.normal(size=16).astype("f4")
    noise = (0.1 * rng.normal(size=x.shape)).astype("f4")

    def run(x, a, noise):
        old = jax.lax.stop_gradient(standardised(x)) + noise
        found = {}
        for name, loss in SURROGATES.items():
            values, pull = jax.vjp(lambda x, f=loss: f(standardised(x), old, a), x)
            found[name] = values, *pull(jnp.ones_like(values))
        return found

    got = jax.jit(run)(x, a, noise)
    with jax.enable_x64(True):
        want = quick_jit(run)(*(b.astype("f8") for b in (x, a, noise)))
    for name, pair in want.items():
        for ours, theirs in zip(got[name], pair, strict=True):
            off = np.abs(ours - np.asarray(theirs)).max()
            assert off <= 2e-5 * np.abs(theirs).max(), name


def test_a_batch_without_answers():
    none, ids = np.zeros((0, 5), "f4"), np.zeros(0, int)
    drpo = functools.partial(losses.drpo_loss, max_length=5)
    for loss in (drpo, losses.disco_loss):
        for kl in ("k1", "k3"):
            assert loss(none, none, none[:, 0], ids, kl=kl) == 0
        hidden = np.full((3, 5), np.nan, "f4")
        call = functools.partial(loss, mask=np.zeros((3, 5), bool))
        value, grad = interpreted(
            jax.value_and_grad(lambda z, call=call: call(z, z, z[:, 0], np.arange(3)))
        )(hidden)
        assert value == 0
        np.testing.assert_array_equal(grad, 0)
        for tokens in (np.zeros((3, 0), "f4"), np.zeros((1, 0), "f4")):
            rows = np.zeros(len(tokens), "f4")
            assert loss(tokens, tokens, rows, rows.astype(int)) == 0
    weights = rl.length_weights(np.zeros((2, 0)), np.zeros((2, 0)), lam=1.0,
                                    max_length=3)  # fmt: skip
    assert weights.shape == (2, 0)
    for loss in SURROGATES.values():
        assert loss(none, none, none[:, 0]).size == 0
        empty = loss(none.T, none.T, np.zeros(5, "f4"))
        np.testing.assert_array_equal(empty, np.zeros(empty.shape))
    for mode in ("token_mean", "sequence_mean"):
        assert rl.aggregate_tokens(none, mode=mode) == 0
        assert rl.aggregate_tokens(none.T, mode=mode) == 0
    assert rl.masked_whiten(none).shape == (0, 5)
    assert rl.gae(none.T, none.T)[0].shape == (5, 0)


def test_prompts_of_64_bits():
    """Hashes that differ only in bits that JAX would cut are of two prompts."""
    rng = np.random.default_rng(0)
    lp = -rng.exponential(size=(4, 3)).astype("f4")
    right = np.float32([1, 0, 1, 0])
    want = losses.disco_loss(lp, lp, right, np.array([0, 0, 1, 1]))
    got = losses.disco_loss(lp, lp, right, np.array([5, 5, 5 + 2**32, 5 + 2**32]))
    assert got == want
    narrow = losses.disco_loss(lp, lp, right, np.array([0, 0, 255, 255], "uint8"))
    assert narrow == want


def test_a_weight_of_0_leaves_out_even_what_is_infinite():
    far = np.float32([[-1e4], [0]])
    r, ids = np.float32([1, 0]), np.zeros(2, int)
    for kl in ("k1", "k3"):
        off = functools.partial(losses.disco_loss, beta=0.0, kl=kl)
        on = functools.partial(losses.disco_loss, far, far, r, ids)
        value, grad = interpreted(
            jax.value_and_grad(lambda z, off=off: off(z, far[::-1] - 1e4, r, ids))
        )(far)
        np.testing.assert_allclose(value, on())
        assert np.isfinite(grad).all()
    z, y = np.float32([[0, 90]]), np.array([1])
    old, ref, a = np.float32([[-1e4], [-1], [-1]])
    rlvr = functools.partial(losses.rlvr_loss, kl_coef=0.0, entropy_coef=0.0)
    value, grad = interpreted(
        jax.value_and_grad(lambda z, w: rlvr(z, y, old, ref, a, pg_coef=w).sum())
    )(z, 0.0)
    assert value == 0
    np.testing.assert_array_equal(grad, 0)
    inf = np.float32([[np.inf, 1]])
    ones = np.ones((1, 2), "f4")
    adv, _ = rl.gae(ones, np.float32([[0, np.inf]]), gamma=0.0)
    assert adv[0, 0] == 1
    rewards = rl.dpo_token_rewards(inf, 0 * ones, scale=0.0)
    np.testing.assert_array_equal(rewards, 0)
    zero = np.zeros((1, 2), "f4")
    dense = rl.rto_token_rewards(inf, zero, zero, zero[:, 0], kl_coef=0.0)
    assert np.isfinite(dense).all()
    best = losses.best_of_n_loss(
        np.float32([0, -np.inf]), np.array([0, 1]), np.float32([1, 0])
    )
    assert best == 0


@pytest.mark.parametrize("dtype", ["int8", "uint8", "uint16", "int64", "uint64"])
def test_actions_of_any_integer_type(dtype):
    z = np.random.default_rng(0).normal(size=(2, 300)).astype("f4")
    actions, rewards = np.array([[3, 120], [7, 100]]), np.float32([[1, 0], [0, 1]])
    given = actions.astype(dtype)
    calls = (
        losses.best_of_n_loss,
        functools.partial(losses.awr_loss, temperature=1.0),
    )
    for loss in calls:
        want = loss(z, actions, rewards)
        np.testing.assert_array_equal(loss(z, given, rewards), want)
    lp, a = np.zeros(2, "f4"), np.ones(2, "f4")
    want = losses.rlvr_loss(z, actions[:, 0], lp, lp, a)
    got = losses.rlvr_loss(z, given[:, 0], lp, lp, a)
    np.testing.assert_array_equal(got, want)
    if given.dtype.itemsize == 8:
        gone = given + given.dtype.type(2**32)
        with pytest.raises(ValueError, match="outside"):
            plain.best_of_n_loss(z, gone, rewards)
        with pytest.raises(ValueError, match="outside"):
            plain.awr_loss(z, gone, rewards, temperature=1.0)


def test_vespo(x64):
    rng = np.random.default_rng(0)
    lp = -rng.exponential(size=(4, 5))
    old = lp + 0.4 * rng.normal(size=lp.shape)
    a = np.array([1.5, -0.5, 0.0, -2.0])
    mask = np.arange(5) < np.array([[5], [3], [2], [0]])
    spoilt = np.where(mask, lp, np.nan)
    options = dict(power_pos=1.5, decay_pos=0.7, power_neg=2.5, decay_neg=1.2)
    w = np.exp(np.where(mask, lp - old, 0).sum(-1))
    k, decay = np.where(a >= 0, 1.5, 2.5), np.where(a >= 0, 0.7, 1.2)
    weight = w**k * np.exp(decay * (1 - w)) * a
    values, pull = jax.vjp(
        lambda x: losses.vespo_loss(x, old, a, mask=mask, **options), spoilt
    )
    want = np.where(mask, -weight[:, None] * lp, 0)
    np.testing.assert_allclose(values, want, rtol=1e-12)
    (grad,) = pull(np.ones((4, 5)))
    np.testing.assert_allclose(grad, np.where(mask, -weight[:, None], 0), rtol=1e-12)
    # No policy is too far, and powers and decays may be 0.
    far = np.array([[-np.inf], [-1e4], [0], [1e4], [np.inf]])
    here = np.zeros((5, 1))
    each = losses.vespo_loss(far, here, np.ones(5))
    np.testing.assert_array_equal(each, 0)
    for name in ("power_pos", "decay_pos"):
        each = losses.vespo_loss(far[1:4], here[1:4], np.ones(3), **{name: 0.0})
        assert not np.isnan(each).any(), name
    with pytest.raises(ValueError, match="decay_neg is -1.0, expected at least 0"):
        losses.vespo_loss(lp, old, a, decay_neg=-1.0)


def test_weights_of_another_sampler(x64):
    rng = np.random.default_rng(0)
    old = -rng.exponential(size=(4, 5))
    sampler = old + 0.2 * rng.normal(size=old.shape)
    mask = np.arange(5) < np.array([[5], [3], [2], [0]])
    spoilt = np.where(mask, sampler, np.nan)
    log_ratio = np.where(mask, old - sampler, 0)
    ratios = {
        "token": np.exp(log_ratio),
        "sequence": np.exp(log_ratio.sum(-1, keepdims=True)) + 0 * old,
    }
    for level, ratio in ratios.items():
        call = functools.partial(
            rl.importance_weights, old, spoilt, level=level, mask=mask,
            clip_low=0.8, clip_high=1.3,
        )  # fmt: skip
        want = np.where(mask, np.clip(ratio, 0.8, 1.3), 0)
        np.testing.assert_allclose(call(mode="truncate"), want, rtol=1e-12)
        inside = mask & (ratio >= 0.8) & (ratio <= 1.3)
        want = np.where(inside, ratio, 0)
        np.testing.assert_allclose(call(mode="mask"), want, rtol=1e-12)
        assert 0 < inside.sum() < mask.sum()
    weights, a = rl.importance_weights(old, sampler), np.array([1, -1, 2, -3.0])
    for name in ("ppo", "cispo", "sapo", "vespo"):  # linear in the advantages
        each = SURROGATES[name](old + 0.3, old, weights * a[:, None])
        want = weights * SURROGATES[name](old + 0.3, old, a)
        np.testing.assert_allclose(each, want, rtol=1e-12)
    far = rl.importance_weights(np.zeros(2), np.array([-1e4, 1e4]), mode="mask")
    np.testing.assert_array_equal(far, [0, 0])
    grad = jax.grad(lambda x: rl.importance_weights(x, sampler).sum())(old)
    np.testing.assert_array_equal(grad, 0)


def test_sequences_that_have_drifted(x64):
    old = np.full((5, 3), -1.0)
    drift = np.array([0.4, 0.6, 0.6, -3.0, np.nan])
    a = np.array([-1.0, -1.0, 0.0, -1.0, -1.0])
    mask = np.ones((5, 3), bool) & ~np.isnan(drift)[:, None]
    mask[0, 0] = False
    lp = np.where(mask, old - drift[:, None], np.nan)
    keep = rl.off_policy_mask(lp, old, a, threshold=0.5, mask=mask)
    np.testing.assert_array_equal(keep, [True, False, True, True, True])
    gone = rl.off_policy_mask(
        np.array([[-np.inf]]), np.array([[-1.0]]), np.array([-1.0]), threshold=0.5
    )
    assert not gone[0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(level="batch"), "level is 'batch'"),
        (dict(mode="clip"), "mode is 'clip'"),
        (dict(clip_low=-1.0), "clip_low is -1.0"),
        (dict(clip_low=2.0, clip_high=1.0), "clip_high is 1.0, expected at least clip"),
        (dict(sampler_logps=np.zeros(2)), r"old_logps has shape \(2,\)"),
    ],
)
def test_samplers_refuse(change, message):
    given = dict(logps=np.zeros(3), sampler_logps=np.zeros(3)) | change
    with pytest.raises(ValueError, match=message):
        rl.importance_weights(**given)
    with pytest.raises(ValueError, match="threshold is -1, expected at least 0"):
        rl.off_policy_mask(np.zeros(3), np.zeros(3), np.zeros(()), threshold=-1)


TOKENS = -np.random.default_rng(0).exponential(size=(4, 5)).astype("f4")
GROUPS = np.ones((4, 5), bool)
Z = np.zeros((4, 5, 7), "f4")
IDS = np.zeros((4, 5), int)
GAME = np.full((3, 3), 0.5, "f4")
HELPERS = {  # arguments of what has numbers to choose but no row
    "density_ratio_weight": (abs(TOKENS) / 9,),
    "dpo_token_rewards": (TOKENS, TOKENS),
    "fit_density_classifier": (TOKENS, IDS[:, 0] > 0),
    "gae": (TOKENS, TOKENS),
    "group_advantages": (TOKENS,),
    "implicit_reward": (TOKENS, TOKENS),
    "importance_weights": (TOKENS, TOKENS),
    "ld_sequence_log_prob": (Z, IDS, IDS[:, 0]),
    "length_weights": (IDS, GROUPS),
    "masked_whiten": (TOKENS,),
    "ngrpo_advantages": (TOKENS,),
    "off_policy_mask": (TOKENS, TOKENS, TOKENS[:, 0]),
    "omd_target": (GAME, TOKENS[0, :3], TOKENS[0, :3]),
    "overlong_penalty": (IDS[0],),
    "psr_nsr_advantages": (TOKENS,),
    "reference_quantile": (TOKENS,),
    "reinforce_pp_advantages": (TOKENS,),
    "rloo_advantages": (TOKENS,),
    "rto_token_rewards": (TOKENS, TOKENS, TOKENS, TOKENS[:, 0]),
}
CHOSEN = dict(  # what has no default number
    clip=0.3, delta=1.5, eta=0.5, kl=0.3, lam=0.1, max_len=9, cache=2, max_length=9.0,
    shift=0.2, tau=0.2, temperature=0.7, threshold=0.5, alpha=0.4, beta=0.3, steps=3,
    clip_exponent=50.0, gamma=0.5, l2=1.0,
)  # fmt: skip
NAMED = dict(kind="weighted", f_divergence="alpha_divergence", name="unCPO")
VARIANTS = {
    "aggregate_tokens": [dict(mode="constant", constant=3.0)],
    "dpo_loss": [dict(label_smoothing=0.1)],
    "cpo_loss": [dict(label_smoothing=0.1)],
    "aot_loss": [dict(paired=False, label_smoothing=0.1)],
    "dpa_loss": [dict(name="ORPO", link=k) for k in ("ipo", "slic", "rrhf")],
    "drpo_loss": [dict(kl="k3")],
    "importance_weights": [dict(mode="mask", level="sequence")],
    "group_advantages": [dict(scale="batch"), dict(scale="none")],
    "reference_quantile": [dict(gaussian=True)],
    "rloo_advantages": [dict(normalize=True)],
}
STATIC = ("n_virtual",)  # said so in the docstring: the size of an array


def numbers_of(name, fixed):
    """The numeric hyper-parameters of a public function, and a value for each."""
    found = {}
    for p in inspect.signature(getattr(losses, name)).parameters.values():
        value = fixed.get(p.name, p.default)
        if value is None or value is p.empty:
            value = CHOSEN.get(p.name)
        if isinstance(value, int | float) and type(value) is not bool:
            found[p.name] = value
    found.pop("axis", None)
    return found


@pytest.mark.parametrize(
    "name",
    [
        n
        for n in (*preference.__all__, *policy_gradient.__all__)
        if n in CATALOGUE or n in HELPERS
    ],
)
def test_every_number_may_be_traced_and_decides_no_dtype(name):
    function = getattr(plain, name)
    names = inspect.signature(function).parameters
    fixed = {k: v for k, v in NAMED.items() if k in names and k != "name"}
    if name in CATALOGUE:
        row = CATALOGUE[name]
        args = row.make(jax.random.key(0), row.shape, "float32")
        fixed |= row.hyper
    else:
        args = HELPERS[name]
    for variant in [{}, *VARIANTS.get(name, [])]:
        options = fixed | variant
        if name == "drpo_loss" or name == "disco_loss":
            options.setdefault("kl", "k1")
        chosen = numbers_of(name, options)
        rest = {k: v for k, v in options.items() if k not in chosen}
        traced = {k: v for k, v in chosen.items() if k not in STATIC}

        def with_numbers(numbers, rest=rest, chosen=chosen):
            return function(*args, **rest, **(chosen | numbers))

        jax.eval_shape(with_numbers, jax.tree.map(jnp.asarray, traced))
        for one in traced:  # among numbers that are known
            jax.eval_shape(with_numbers, {one: jnp.asarray(traced[one])})
        with jax.enable_x64(True):
            wide = {
                k: np.float64(v) if isinstance(v, float) else v
                for k, v in traced.items()
            }
            for numbers in (wide, jax.tree.map(jnp.asarray, traced)):
                out = jax.eval_shape(
                    lambda n=numbers, f=with_numbers: f(n)  # noqa: B023
                )
                dtypes = {str(leaf.dtype) for leaf in jax.tree.leaves(out)}
                assert "float64" not in dtypes, f"{variant}: {dtypes}"
