import jax
import jax.numpy as jnp
import numpy as np
import pytest
from harness.interpreter import interpreted
from ml_collections import ConfigDict

from configs.classification import get_config
from experiments.classification import ldr
from experiments.classification._comparison import named_loss


def entry(**values):
    return ConfigDict(dict(label="", **values))


def test_losses_that_remember_draw_or_do_neither():
    z, y, key = jnp.float32([[2, 0], [0, 1]]), jnp.array([0, 0]), jax.random.key(0)
    plain = named_loss("a", entry(name="cross_entropy"))
    losses, state = interpreted(plain.values)(z, y, jnp.zeros(2), key)
    assert plain.start == 0
    np.testing.assert_array_equal(state, [0, 0])
    np.testing.assert_allclose(losses, np.log1p(np.exp([-2, 1])), rtol=1e-6)
    keeps = named_loss("a", entry(name="aldr_kl_loss", lam0=3.0))
    _, state = interpreted(keeps.values)(z, y, jnp.full(2, 3.0), key)
    assert keeps.start == 3
    assert np.all(state < 3)
    drawn = named_loss("a", entry(name="ensloss"))
    losses, _ = interpreted(drawn.values)(z, y, jnp.zeros(2), key)
    assert losses.shape == (2,)
    for name in ("kd_loss", "cross_entropi"):
        with pytest.raises(ValueError, match=r"config\.losses\.a\.name"):
            named_loss("a", entry(name=name))
    with pytest.raises(ValueError, match="gama"):
        named_loss("a", entry(name="focal_loss", gama=2.0))


def test_wrong_labels_are_known_to_the_study():
    config = get_config("ldr")
    drawn = ldr._draw(config, "cyclic_40", jax.random.key(0))
    clean = ldr._draw(config, "clean", jax.random.key(0))
    y, true = drawn["train"]["y"], clean["train"]["y"]
    assert clean["right"].all()
    np.testing.assert_array_equal(y == true, drawn["right"])
    np.testing.assert_array_equal(y[~drawn["right"]], (true[~drawn["right"]] + 1) % 10)
    assert 0.25 < float((~drawn["right"]).mean()) < 0.55


def test_bad_configs_are_refused(refused):
    refused("classification:ldr", "noises.clean.rate", 1.0, "expected it in")
    refused("classification:ldr", "noises.clean.kind", "pear", "config.noises.clean")


def test_end_to_end(run_study):
    done = run_study("classification:ldr")
    assert done.figures == ["accuracy", "lambda"]
    kept = done.results["aldr_uniform_80"]
    assert (kept.final("lambda/wrong") < 1).all()
