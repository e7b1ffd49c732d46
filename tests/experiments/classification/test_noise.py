import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted
from ml_collections import ConfigDict

from configs.classification import get_config
from experiments.classification import noise
from logitlab import losses
from logitlab.train import ArmResult


def config_of(variant, data_folder, **changes):
    config = get_config(variant)
    with config.unlocked():
        config.data.data_dir = data_folder
        for key, value in changes.items():
            config.update_from_flattened_dict({key.replace("__", "."): value})
    return config


@pytest.mark.sampled
@pytest.mark.parametrize("variant", ["noise"])
def test_every_arm_takes_a_step(variant, data_folder, first_step):
    config = config_of(variant, data_folder)
    study = noise.build(config)
    rates = len(config.noise.rates)
    assert len(study.arms) == len(config.pick) * rates == len(study.labels)
    assert {arm for claim in study.claims for arm in claim.needs} <= study.arms.keys()
    assert study.captions.keys() == study.figures.keys()
    for name in list(study.arms)[: len(config.pick)]:
        run = study.arms[name]
        assert run.steps == config.epochs * (
            run.data(jax.random.key(0))["train"]["y"].size // config.batch_size
        )
        _, loss, numbers = first_step(run)
        assert np.isfinite(loss)
        assert {"test/accuracy", "train/accuracy"} <= numbers.keys()


def test_every_loss_can_be_picked(data_folder):
    config = config_of("noise", data_folder, noise__rates=(0.4,))
    with config.unlocked():
        config.pick = tuple(config.losses)
    study = noise.build(config)
    assert len(study.arms) == len(config.losses)
    z, y = jax.random.normal(jax.random.key(0), (6, 4)), jnp.array([0, 1, 2, 3, 0, 1])
    for name in config.losses:
        loss = noise._loss(name, config.losses[name])
        assert jax.eval_shape(lambda z, f=loss: f(z, y, None), z).shape == (6,), name


def test_noise_is_in_training_labels_alone(data_folder):
    study = noise.build(config_of("noise", data_folder))
    key = jax.random.key(0)
    clean = study.arms["ce_0"].data(key)["train"]["y"]
    noisy = study.arms["ce_80"].data(key)["train"]["y"]
    wrong = float((clean != noisy).mean())
    assert wrong == pytest.approx(0.8 * 0.9, abs=4 * (0.2 / clean.size**0.5))
    assert set(study.arms["ce_80"].data(key)) == {"train"}
    other = study.arms["ce_80"].data(jax.random.key(1))["train"]["y"]
    assert (noisy != other).any()
    same = study.arms["gce_80"].data(key)["train"]["y"]
    np.testing.assert_array_equal(noisy, same)  # the losses see the same labels


def test_losses_are_those_of_the_library():
    entries = config_of("noise", "").losses
    z = np.random.default_rng(0).normal(size=(6, 4)).astype("f4")
    y = np.array([0, 1, 2, 3, 0, 1])
    got = interpreted(lambda z: noise._loss("gce", entries.gce)(z, y, None))(z)
    gce = functools.partial(losses.generalized_cross_entropy, labels=y, q=0.7)
    np.testing.assert_array_equal(got, interpreted(gce)(z))
    # A loss of binary scores is one number for the batch, on the difference of two.
    entry = ConfigDict(dict(label="", name="ensloss"))
    key = jax.random.key(3)
    loss = noise._loss("ensloss", entry)
    got = interpreted(lambda z, key: loss(z, y % 2, key))(z[:, :2], key)
    ensloss = lambda scores, key: losses.ensloss(scores, y % 2, key)  # noqa: E731
    want = interpreted(ensloss)(z[:, 1] - z[:, 0], key)
    np.testing.assert_array_equal(got, np.full(6, want))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"noise__kind": "asymmetric"}, "config.noise.kind has no 'asymmetric'"),
        ({"noise__rates": (0.0, 1.0)}, "config.noise.rates has 1.0"),
        ({"optim__name": "adamax"}, "config.optim.name has no 'adamax'"),
        ({"data__features": "raw"}, "config.data.features has no 'raw'"),
        ({"losses__gce__name": "gce_loss"}, "config.losses.gce.name has no 'gce_loss'"),
        ({"losses__gce__name": "focal_loss"}, "focal_loss has no 'q'"),
        ({"losses__ce__name": "pinball_loss"}, "expected a loss of logits, labels"),
        ({"losses__ce__name": "aldr_kl_loss"}, "which keeps a state for each example"),
        ({"pick": ("ce", "gec")}, "config.losses has no 'gec'; did you mean gce"),
        ({"data__name": "no_such_set"}, "no_such_set"),
    ],
)
def test_bad_config(data_folder, change, message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        noise.build(config_of("noise", data_folder, **change))


def results(**finals):
    """One evaluation of each arm: test accuracy by seed."""
    return {
        name: ArmResult(
            name,
            range(len(values)),
            [
                {"step": "0", "seed": str(seed), "test/accuracy": str(value)}
                for seed, value in enumerate(values)
            ],
        )
        for name, values in finals.items()
    }


def test_claims_are_differences_per_seed(data_folder):
    study = noise.build(config_of("noise", data_folder))
    claim = next(c for c in study.claims if c.needs == ("gce_80", "ce_80"))
    got = claim.ours(results(gce_80=[0.8, 0.7], ce_80=[0.6, 0.65]))
    np.testing.assert_allclose(got, [0.2, 0.05])
    assert claim.at_least == 0.10
