import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted

from experiments.metric_learning import two_towers
from logitlab import losses
from logitlab.train import ArmResult


def test_captions_are_blocks_of_the_image():
    x = np.random.default_rng(0).uniform(size=(3, 64)).astype("f4")
    got = interpreted(lambda k, x: two_towers.captioned(k, x, 0.0))(
        jax.random.key(0), x
    )
    image = x[1].reshape(8, 8)
    want = [
        image[i : i + 2, j : j + 2].mean() for i in (0, 2, 4, 6) for j in (0, 2, 4, 6)
    ]
    np.testing.assert_allclose(got[1], want, rtol=1e-5)


def test_labels_are_of_the_images():
    images = jnp.arange(10.0)[:, None, None] * jnp.ones((1, 3, 64))
    data = interpreted(lambda k, x: two_towers.pairs(k, x, 0.0))(
        jax.random.key(0), images
    )
    np.testing.assert_allclose(data.prompts[data.y], data.captions, rtol=1e-6)
    assert sorted(map(float, data.prompts[:, 0])) == list(range(10))


def test_the_attack_climbs_what_tuning_descends():
    rng = np.random.default_rng(0)
    e, t = (
        a / np.linalg.norm(a, axis=-1, keepdims=True)
        for a in rng.normal(size=(2, 4, 3))
    )
    want = interpreted(
        lambda e, t: losses.advflyp_loss(
            e, e, e, t, temperature=0.5, feature_weight=0.0, logit_weight=0.0
        )
    )(e, t)
    got = interpreted(two_towers.both_ways)(e @ t.T / 0.5, np.arange(4))
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_the_effect_of_a_penalty():
    values = {"contrastive": 0.1, "features": 0.2, "logits": 0.4, "both": 0.7}
    rows = {
        name: ArmResult(name, (0,), [{"seed": 0, "step": 0, "m": value}])
        for name, value in values.items()
    }
    np.testing.assert_allclose(two_towers._effect(0, "m", rows), [20])
    np.testing.assert_allclose(two_towers._effect(1, "m", rows), [40])


def test_what_cannot_be_run_is_not_built(refused):
    refused("metric_learning:two_towers", "eps", 0.0, "config.eps is 0")


@pytest.mark.slow  # two ways to tune and two sets to attack take long to compile
def test_end_to_end(run_study):
    done = run_study("metric_learning:two_towers", seeds=1)
    assert done.figures == ["unseen"]
    for arm in done.results.values():
        assert arm.final("robust/unseen") <= arm.final("accuracy/unseen")
