import jax
import jax.numpy as jnp
import numpy as np
from harness.interpreter import interpreted

from configs.classification import get_config
from experiments.classification import ensloss
from logitlab import losses


def test_losses_are_those_of_the_text():
    s, y, key = jnp.float32([2, -1, 0.5]), jnp.array([1, 0, 0]), jax.random.key(0)

    def values(name):
        return interpreted(lambda s: ensloss.loss_values(name, s, y, key))(s)

    np.testing.assert_allclose(values("hinge"), [0, 0, 1.5])
    np.testing.assert_allclose(
        values("bce"), np.log1p(np.exp([-2, -1, 0.5])), rtol=1e-6
    )
    np.testing.assert_allclose(
        values("ensloss"), np.full(3, losses.ensloss(s, y, key)), rtol=1e-6
    )


def test_flips_are_in_training_alone():
    config = get_config("ensloss")
    x, y = jax.random.normal(jax.random.key(1), (569, 3)), jnp.arange(569) % 2
    clean, flipped = (
        ensloss._draw(config, (x, y), rate, jax.random.key(0)) for rate in (0.0, 0.2)
    )
    np.testing.assert_allclose(clean["train"]["x"].std(0), 1, rtol=1e-5)
    np.testing.assert_array_equal(clean["test"]["y"], flipped["test"]["y"])
    wrong = (clean["train"]["y"] != flipped["train"]["y"]).mean()
    assert 0.13 < float(wrong) < 0.27


def test_bad_configs_are_refused(refused, data_folder):
    refused("classification:ensloss", "rates", (0.5,), "expected rates in")


def test_end_to_end(run_study):
    done = run_study("classification:ensloss")
    assert done.figures == ["accuracy", "curves"]
