import types

import jax
import numpy as np
import pytest
from harness.interpreter import interpreted

from configs.distillation import get_config
from experiments.common.datasets import divide, images
from experiments.common.keys import all_seeds_at_once, once_per_key
from experiments.distillation import flips as flips_study
from experiments.distillation._networks import start
from logitlab import models, report
from logitlab.train import ArmResult

SETTINGS = dict(
    widths=(4,), batch_size=64, learning_rate=0.01, weight_decay=0.0, old_classes=5
)


split = interpreted(divide, static_argnames="train")


def test_every_image_is_on_one_side():
    x, y = images()
    assert x.shape == (1797, 64)
    np.testing.assert_allclose(x.mean(0), 0, atol=1e-6)
    digits, other = (split(jax.random.key(seed), x, y, 600) for seed in (0, 1))
    assert (len(digits.y), len(digits.test_y)) == (600, 1197)
    both = np.concatenate([digits.x, digits.test_x])
    np.testing.assert_array_equal(*(np.sort(a, 0) for a in (both, np.asarray(x))))
    assert (digits.y != other.y).any()


def test_once_per_key():
    calls = []
    get = once_per_key(lambda key: calls.append(key) or len(calls))
    keys = [jax.random.key(seed) for seed in (0, 1, 0)]
    assert [get(key) for key in keys] == [1, 2, 1]


@pytest.mark.parametrize("by", ["vmap", "map"])
def test_all_seeds_at_once(by):
    calls = []

    def values(key, scale):
        calls.append(key)
        return {"draw": scale * jax.random.normal(key)}

    config = types.SimpleNamespace(seed=3, seeds=2)
    get = all_seeds_at_once(config, values, lambda key: 2.0, by=by)
    assert not calls
    drawn = [get(jax.random.key(seed))["draw"] for seed in (4, 3, 4)]
    want = [2 * jax.random.normal(jax.random.key(seed)) for seed in (4, 3, 4)]
    np.testing.assert_allclose(drawn, want, rtol=1e-6)
    assert len(calls) == 1
    other = get(jax.random.key(7))["draw"]  # a key of no seed is computed by itself
    np.testing.assert_allclose(other, 2 * jax.random.normal(jax.random.key(7)), 1e-6)


NAMES = ("steps", "batch_size", "learning_rate", "weight_decay")
prepare, update = (
    interpreted(
        function.__wrapped__,
        static_argnames=("old_classes", "widths", *NAMES, *more),
    )
    for function, more in (
        (flips_study.prepare, ("train",)),
        (flips_study.update, ("kind", "focal")),
    )
)


def test_numbers_are_those_of_the_logits():
    """Without steps, against NumPy on the logits of the start."""
    x, y = images()
    x, y = x[:200], y[:200]
    digits, seen, unseen, new = prepare(
        jax.random.key(0), x, y, train=100, steps=0, **SETTINGS
    )
    assert (seen.shape, unseen.shape, new.shape) == ((100, 5), (100, 5), (100, 10))
    key = jax.random.key(7)
    got = update(
        key, digits, seen, unseen, new, np.float32([1, 1, 1]),
        kind="kl", focal=(("alpha", 1.0),), steps=0, **SETTINGS,
    )  # fmt: skip
    model = models.MLP((4,), 10)

    @interpreted
    def logits_of(key, x):
        params = start(jax.random.split(key)[0], model, x)
        return model.apply({"params": params}, x)

    logits = logits_of(key, digits.test_x)
    labels = np.asarray(digits.test_y)
    is_old, right = labels < 5, np.argmax(logits, -1) == labels
    before = np.argmax(unseen, -1) == labels
    want = {
        "flips": (before & ~right)[is_old].mean(),
        "accuracy": right.mean(),
        "old_classes": right[is_old].mean(),
        "new_classes": right[~is_old].mean(),
        "old_model": before[is_old].mean(),
    }
    for name, value in want.items():
        np.testing.assert_allclose(got[name], value, rtol=1e-6, err_msg=name)


def test_sources_learn_their_own_classes():
    x, y = images()
    digits, seen, _, new = prepare(
        jax.random.key(0), x, y, train=200, steps=60, **SETTINGS | {"widths": (16,)}
    )
    is_old = np.asarray(digits.y) < 5
    assert (np.argmax(seen, -1) == digits.y)[is_old].mean() > 0.9
    assert (np.argmax(new, -1) == digits.y).mean() > 0.8


def results(flips, accuracy):
    def arm(name):
        row = {"arm": name, "seed": "0", "step": "0", "flips": str(flips[name])}
        return ArmResult(name, (0,), [row | {"accuracy": str(accuracy[name])}])

    return {name: arm(name) for name in flips}


@pytest.mark.parametrize(("at_one", "failed"), [(2.0, {8}), (6.0, {0, 1, 2, 8})])
def test_claims_can_fail(at_one, failed):
    flips = dict(bias_0=5, bias_1=3, bias_2=2.5, bias_4=2, pct_0=4.8)
    flips |= dict(mpt_0=4.8, mpt_1=at_one, mpt_2=1.9, mpt_4=1)
    accuracy = dict.fromkeys(flips, 0.9) | dict(bias_0=0.95, pct_0=0.95)
    claims = flips_study.build(get_config("flips")).claims
    verdicts = report.judge(claims, results(flips, accuracy))
    assert len(verdicts) == 10
    places = {i for i, v in enumerate(verdicts) if v.verdict == "not reproduced"}
    assert places == failed


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train", 1797, "config.train is 1797"),
        ("old_classes", 10, "config.old_classes is 10"),
        ("methods.mpt.kind", "kll", "config.methods.mpt.kind has no 'kll'"),
        ("biases.mpt", (1.0, 0.0), "config.biases.mpt is"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("distillation:flips", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("distillation:flips")
    assert len(done.verdicts) == 10
    assert done.figures == ["frontier"]
