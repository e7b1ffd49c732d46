"""float32 beside float64 over margins, near ties and the ends of hyper-parameters."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness import trl
from harness.quickly import quick_jit

from logitlab import losses, sequences

SIDE = [-80, -60, -30, -17, -12, -5, -1, -1e-3, -1e-7, 0, 1e-7, 1e-3, 0.1, 1, 5, 12]
X, Y = (
    a.ravel().astype("f4")
    for a in np.meshgrid(
        [*SIDE, 17, 30, 60, 80], [-80, -17, -1, -1e-7, 0, 0.3, 5, 30, 80]
    )
)
TINY = 1e-36  # of what is below it float32 has no digits, or none at all


def of_margin(loss, beta=1.0, **options):
    """A loss of log-ratios whose rewards are x and y."""

    def run(x, y):
        return loss(x / beta, y / beta, 0 * x, 0 * x, beta=beta, **options)

    return run


def below_zero(loss, divisor=1.0, **options):
    """A loss of mean log-probabilities -|x| and -|y|, both less than 0."""
    return lambda x, y: loss(
        -abs(x) / divisor - 1e-33, -abs(y) / divisor - 1e-33, **options
    )


def of_log_ratio(loss, divisor):
    return lambda x, y: loss(x / divisor, y / divisor, 0 * x, 0 * x, beta=1.0)


def over_lengths(loss, divisor, **options):
    def run(x, y):
        n = jnp.full(x.shape, 3), jnp.full(x.shape, 5)
        return loss(x / divisor, y / divisor, 0 * x, 0 * x, *n, **options)

    return run


def of_ratio(loss, **options):
    """A surrogate of one token of log-ratio x, with advantages of both signs."""

    def run(x, y):
        a = jnp.where(y >= 0, 1, -1) * (1 + abs(y) / 80)
        values = loss(x[:, None], 0 * x[:, None], a.astype(x.dtype), **options)
        return values.reshape(x.shape)

    return run


def pair_families():
    """Losses and their bounds; below a floor, if there is one, terms cancel."""
    for beta in (0.01, 0.1, 1.0, 100.0):
        for name in ("sigmoid", "nca_pair", "bco_pair", "apo_zero", "discopop", "dpop"):
            yield f"{name} {beta}", of_margin(trl.LOSSES[name], beta), 1e-5, 0
        yield f"apo_down {beta}", of_margin(losses.apo_down_loss, beta), 1e-5, beta
        yield f"exo {beta}", of_margin(losses.exo_loss, beta), 1e-5, max(beta, 1)
        yield f"hinge {beta}", of_margin(losses.dpo_hinge_loss, beta), 1e-5, 1
        inside = 1 / (2 * beta)
        ipo = functools.partial(losses.ipo_loss, beta=beta, average_log_prob=False)
        floor = max(inside**2, inside, 1e-3)
        yield f"ipo {beta}", lambda x, y, f=ipo: f(x, y, 0 * x, 0 * x), 1e-5, floor
        orpo = functools.partial(losses.orpo_odds_ratio_loss, beta=beta)
        yield f"orpo {beta}", below_zero(orpo), 1e-5, 0
        tpo = functools.partial(losses.tpo_loss, beta=beta, alpha=0.0)
        yield (
            f"tpo {beta}",
            lambda x, y, b=beta, f=tpo: f(x / b, y / b, 0 * x - jnp.inf),
            1e-5,
            0,
        )
    for eps in (0.0, 1e-3, 0.1, 1.0):
        loss = functools.partial(losses.dpo_loss, label_smoothing=eps)
        yield f"cdpo {eps}", of_margin(loss), 1e-5, 1e-3 * (0 < eps < 1)
    for rate in (0.0, 0.1, 0.4999):
        loss = functools.partial(losses.robust_dpo_loss, label_smoothing=rate)
        yield f"robust {rate}", of_margin(loss), 1e-5, rate / (1 - 2 * rate)
    for alpha in (-1.0, 0.0, 1e-3, 0.5, 0.999, 1.0, 2.0):
        divisor = max(16 * abs(1 - alpha), 1)
        alpha_po = functools.partial(losses.alphapo_loss, alpha=1 - alpha, margin=0.0)
        yield f"alphapo {1 - alpha}", below_zero(alpha_po, divisor), 5e-5, 0
        options = dict(f_divergence="alpha_divergence", f_alpha=alpha)
        f_dpo = functools.partial(losses.f_dpo_loss, **options)
        yield f"f_dpo {alpha}", of_log_ratio(f_dpo, divisor), 5e-5, 0
        for loss, floor in ((losses.ipo_loss, 25), (losses.sigmoid_norm_loss, 0)):
            found = over_lengths(loss, divisor, **options)
            yield f"{loss.__name__} {alpha}", found, 5e-5, floor


def surrogate_families():
    clips = dict(clip_low=0.2, clip_high=0.2)
    for name, loss, options in [
        ("ppo", losses.ppo_clip_loss, {}),
        ("ppo without clips", losses.ppo_clip_loss, dict(clip_low=1.0, clip_high=1e30)),
        ("gspo", losses.gspo_loss, clips),
        ("gspo_token", losses.gspo_token_loss, clips),
        ("gmpo", losses.gmpo_loss, {}),
        ("rloo", losses.rloo_loss, {}),
        ("cispo", losses.cispo_loss, {}),
        ("vespo", losses.vespo_loss, {}),
        ("sapo", losses.sapo_loss, {}),
        ("sapo, hot", losses.sapo_loss, dict(tau_pos=0.01, tau_neg=0.01)),
        ("sapo, cold", losses.sapo_loss, dict(tau_pos=100.0, tau_neg=100.0)),
    ]:
        yield name, of_ratio(loss, **options), 1e-5, 0
    for name, loss in (("k2", losses.kl_k2), ("k3", losses.kl_k3)):
        yield (
            name,
            lambda x, y, f=loss: f(x[:, None], y[:, None])[:, 0],
            1e-5,
            0,
        )


FAMILIES = {"pairs": pair_families, "surrogates": surrogate_families}


@pytest.mark.slow
@pytest.mark.parametrize("family", FAMILIES)
def test_float32_is_float64(family):
    families = list(FAMILIES[family]())

    def run(x, y):
        found = []
        for _, loss, *_ in families:
            values, pull = jax.vjp(loss, x, y)
            found.append((values, *pull(jnp.ones_like(values))))
        return found

    got = jax.jit(run)(X, Y)
    with jax.enable_x64(True):
        want = quick_jit(run)(X.astype("f8"), Y.astype("f8"))
    wrong = []
    for (name, _, rtol, floor), ours, theirs in zip(families, got, want, strict=True):
        for what, a, b in zip(("value", "d/dx", "d/dy"), ours, theirs, strict=True):
            a, b = np.asarray(a, "f8"), np.asarray(b)
            large = np.abs(b) > np.finfo("f4").max
            size = np.maximum(np.abs(b), floor)
            off = np.where(large, 0, np.abs(a - b)) > rtol * size + TINY
            off |= large & ~((np.sign(a) == np.sign(b)) & (np.abs(a) > 1e38))
            off |= np.isnan(a)
            for i in np.flatnonzero(off)[:3]:
                wrong.append(f"{name}: {what} at {X[i]}, {Y[i]}: {a[i]}, not {b[i]}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.optimized
def test_policies_that_the_same_program_computes():
    """Scores of tokens whose logits are made by reductions, so computed twice."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 4, 5, 60)).astype("f4")  # policy and reference, answers
    gain, bias = rng.uniform(1, 3, 60).astype("f4"), rng.normal(size=60).astype("f4")
    ids = rng.integers(0, 60, (4, 5))
    mask = np.arange(5) < np.array([[5], [3], [4], [1]])
    n = mask.sum(-1).reshape(2, 2)
    calls = {
        name: trl.of_pairs(name, n, beta=0.1)
        for name in ("sigmoid", "robust", "ipo", "exo_pair", "nca_pair", "sppo_hard",
                     "aot", "apo_down", "discopop", "sigmoid_norm", "dpop")
    }  # fmt: skip
    calls["exo_pair"] = functools.partial(
        losses.exo_loss, beta=0.1, label_smoothing=0.1
    )
    free = (losses.simpo_loss, losses.orpo_odds_ratio_loss, losses.alphapo_loss)

    def run(x, gain, bias):
        def scores(x, average):
            off = x - x.mean(-1, keepdims=True)
            z = off * jax.lax.rsqrt((off**2).mean(-1, keepdims=True) + 1e-6)
            logits = z * gain[None, None, None] + bias[None, None, None]
            both = sequences.sequence_log_prob(
                logits,
                np.stack([ids] * 2),
                mask=np.stack([mask] * 2),
                average=average,
            )
            return both.reshape(2, 2, 2)

        found = {}
        for name, loss in calls.items():
            found[name] = jax.vjp(
                lambda x, f=loss: f(*scores(x, False).reshape(4, 2)), x
            )
        for loss in free:
            found[loss.__name__] = jax.vjp(lambda x, f=loss: f(*scores(x, True)[0]), x)
        return {
            k: (values, *pull(jnp.ones_like(values)))
            for k, (values, pull) in found.items()
        }

    got = jax.jit(run)(x, gain, bias)
    with jax.enable_x64(True):
        want = quick_jit(run)(*(a.astype("f8") for a in (x, gain, bias)))
    for name, pair in want.items():
        for ours, theirs in zip(got[name], map(np.asarray, pair), strict=True):
            off = np.abs(ours - theirs).max()
            assert off <= 2e-5 * np.abs(theirs).max(), name
