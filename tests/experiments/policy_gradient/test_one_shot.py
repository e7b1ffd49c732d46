import jax
import numpy as np
import pytest

from experiments.policy_gradient import one_shot


def test_features_have_about_unit_length():
    keys = jax.random.split(jax.random.key(0))
    weights = jax.random.normal(keys[0], (64, 4096))
    x = jax.random.uniform(keys[1], (3, 64))
    seen = one_shot.features(weights, x)
    lengths = np.linalg.norm(seen, axis=-1)
    np.testing.assert_allclose(lengths, 1, atol=0.05)
    np.testing.assert_allclose(one_shot.features(weights, 7 * x), seen, atol=1e-6)
    assert (np.asarray(one_shot.features(weights, 0 * x)) == 0).all()


def test_policy_hides_formats_that_there_are_not():
    rng = np.random.default_rng(0)
    heads = {
        name: {"kernel": rng.normal(size=(4, n)), "bias": rng.normal(size=n)}
        for name, n in (("format", 6), ("class", 10))
    }
    heads = jax.tree.map(np.float32, heads)
    seen = np.float32(rng.normal(size=(3, 4)))
    z = np.asarray(one_shot.policy_logits(heads, seen))
    for place, (name, n) in enumerate((("format", 6), ("class", 10))):
        want = seen @ heads[name]["kernel"] + heads[name]["bias"]
        np.testing.assert_allclose(z[:, place, :n], want, rtol=1e-5)
    assert (z[:, 0, 6:] == -np.inf).all()


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("formats", 11, "config.formats is 11, expected 2 to 10"),
        ("groups", 0, "config.rollouts is 8, config.groups 0"),
        ("base.features", 0, "config.base has 0 features"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("policy_gradient:one_shot", key, value, message)


def test_end_to_end(run_study):
    done = run_study("policy_gradient:one_shot")
    first, *_ = done.verdicts.values()
    assert first.verdict == "reproduced"
    assert done.figures == ["success"]
