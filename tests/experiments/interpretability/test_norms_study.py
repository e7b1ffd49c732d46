import jax
import jax.numpy as jnp
import numpy as np
from harness.interpreter import interpreted

from configs.interpretability import get_config
from experiments.interpretability import norms
from logitlab import models


def test_windows_are_of_the_text():
    text = jnp.arange(50, dtype=jnp.uint8)
    found = norms.windows(jax.random.key(0), text, 20, 6)
    assert found.shape == (20, 7)
    np.testing.assert_array_equal(np.diff(found), 1)


def test_what_is_taken_away_is_what_was_attributed():
    """The last norm is folded, so that the head reads the stream as it is."""
    model = models.CausalTransformer(
        11, 11, width=8, layers=1, heads=2, context=6, norms="none"
    )
    tokens = np.random.default_rng(0).integers(0, 11, (2, 6))
    params = interpreted(model.init)(jax.random.key(0), tokens)["params"]
    kernel = params["head"]["kernel"]
    params["head"]["kernel"] = 30 * (kernel - kernel.mean(0, keepdims=True))
    off = interpreted(lambda p: norms.taken_away(model, p, tokens, tokens))(params)
    assert off < 1e-5


def test_the_schedules():
    config = get_config("norms")
    gradual, at_once = (norms._schedule(config, n) for n in ("gradual", "at_once"))
    assert gradual.end < config.tuning
    assert at_once.end == config.removal.start
    assert norms._points(config)[-1] == config.tuning


def test_bad_configs_are_refused(refused):
    name = "interpretability:norms"
    refused(name, "tuning", 40, "expected more than")
    refused(name, "every", 70, "expected a multiple of config.every")
    refused(name, "batch_size", 0, "config.batch_size is 0")
