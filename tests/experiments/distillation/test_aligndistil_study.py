import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from configs.distillation import get_config
from experiments.distillation import aligndistil
from logitlab import report
from logitlab.train import ArmResult


def drawn(length=3, tokens=3):
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(length, tokens, tokens)).astype("f4")
    return logits, rng.normal(size=(tokens, tokens)).astype("f4")


def sequences(logits, costs):
    """Probability and summed cost of every sequence of a model, from token 0 on."""
    length, tokens = logits.shape[:2]
    p = np.exp(logits.astype("f8"))
    p /= p.sum(-1, keepdims=True)
    every = {}
    for path in itertools.product(range(tokens), repeat=length):
        steps = list(zip(range(length), (0, *path[:-1]), path, strict=True))
        every[path] = (
            np.prod([p[step] for step in steps]),
            sum(costs[step] for step in steps),
        )
    return every


def test_tilted_models_are_those_of_whole_sequences():
    logits, reward = drawn()
    costs = np.broadcast_to(reward, logits.shape)
    before = sequences(logits, costs)
    weights = {path: p * np.exp(r / 0.7) for path, (p, r) in before.items()}
    total = sum(weights.values())
    got = np.asarray(interpreted(aligndistil.tilted)(logits, reward, 0.7))
    for path, (p, _) in sequences(got, costs).items():
        assert p == pytest.approx(weights[path] / total, rel=1e-5)


def test_expected_costs():
    logits, _ = drawn()
    costs = np.random.default_rng(1).normal(size=logits.shape).astype("f4")
    want = sum(p * cost for p, cost in sequences(logits, costs).values())
    got = interpreted(aligndistil.expected)(logits, costs)
    assert float(got) == pytest.approx(want, rel=1e-5)


def test_both_ways_have_one_expected_gradient():
    logits, reward = drawn(length=1)
    world = aligndistil.World(
        jnp.asarray(logits), jnp.asarray(logits) + 0.3, jnp.asarray(logits[:, ::-1]),
        jnp.asarray(reward),
    )  # fmt: skip
    policy = jnp.asarray(0.5 * logits[:, :, ::-1])
    last, every = jnp.zeros((1, 1), jnp.int32), jnp.arange(3, dtype=jnp.int32)

    def grad(way):
        losses = functools.partial(aligndistil.token_losses, way, beta=0.1, scale=2.0)

        def rows(policy):
            new = every[:, None]
            return losses(policy, world, jnp.repeat(last, 3, 0), new)[:, 0]

        return interpreted(jax.jacobian(rows))(policy)

    p = np.exp(policy[0, 0]) / np.exp(policy[0, 0]).sum()
    sampled = np.einsum("n,n...->...", p, grad("reinforce"))
    np.testing.assert_allclose(sampled, grad("distill")[0], atol=1e-6)


def result(**columns):
    count = len(next(iter(columns.values())))
    rows = [
        {"arm": "a", "seed": str(seed), "step": "0"}
        | {name: str(values[seed]) for name, values in columns.items()}
        for seed in range(count)
    ]
    return ArmResult("a", range(count), rows)


@pytest.mark.parametrize("good", [True, False])
def test_claims_can_fail(good):
    config = get_config("aligndistil")
    noise = np.array([0.0, 0.1, 0.2])
    rises = {0: 1, 0.25: 2, 0.5: 3, 1: 4, 2: 5, 4: 4, 8: 3}
    spent = {0: 1, 0.25: 2, 0.5: 3, 1: 4, 2: 5, 4: 6, 8: 9 if good else 5.5}
    if not good:
        rises = {0: 5, 0.25: 1, 0.5: 2, 1: 3, 2: 4, 4: 5, 8: 6}
    swept = {f"weight_reward/{w:g}": r + noise for w, r in rises.items()}
    swept |= {f"weight_kl/{w:g}": k + noise for w, k in spent.items()}
    at_equal = 4.5 if good else 2.0
    swept |= dict(adaptive_kl=4 + noise, adaptive_reward=at_equal + noise)
    late, more = (50, 2) if good else (15, 0.5)
    results = {
        "theorem": result(off=[1e-6 if good else 1e-3] * 3),
        "weights": result(**swept),
        "reinforce": result(arrived=[late, np.inf, late], **{"reward/25": 1 + noise}),
        "distill": result(arrived=[10, 12, 11], **{"reward/25": more + noise}),
    }
    verdicts = report.judge(aligndistil._claims(config), results)
    assert len(verdicts) == 7
    wanted = {"reproduced"} if good else {"not reproduced"}
    assert {v.verdict for v in verdicts} == wanted, [v.verdict for v in verdicts]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("after", (2, 1), "config.after is"),
        ("weights", (1.0, 2.0, 3.0), "config.weights is"),
        ("tokens", 1, "config.tokens is 1"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("distillation:aligndistil", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("distillation:aligndistil")
    assert done.figures == ["divergence", "reward", "weights"]
