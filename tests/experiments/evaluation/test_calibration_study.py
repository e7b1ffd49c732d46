import jax
import jax.numpy as jnp
import numpy as np
import pytest

from experiments.evaluation import calibration


def draw(seed, n=200, scale=6.0):
    """Logits of which a third of that size would be calibrated."""
    rng = np.random.default_rng(seed)
    z = rng.normal(size=(n, 4))
    y = (z + rng.gumbel(size=z.shape) / 2).argmax(-1)
    return jnp.float32(scale * z), jnp.asarray(y)


def test_calibrators_keep_classes_and_mend_confidence():
    z, y = draw(0)
    plain = calibration.calibrator("none", z, y)(z)
    np.testing.assert_array_equal(plain, z)
    for name in ("temperature", "platt", "isotonic"):
        got = calibration.calibrator(name, z, y)(z)
        assert got.shape == z.shape
        assert np.isfinite(got).all()
        confidence = jax.nn.softmax(got).max(-1).mean()
        accuracy = (got.argmax(-1) == y).mean()
        assert abs(confidence - accuracy) < 0.05
        assert jax.nn.softmax(z).max(-1).mean() - accuracy > 0.05


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train", 1797, "config.train is 1797"),
        ("calibrators", ("temperature",), "expected 'none' among them"),
        ("calibrators", ("none", "beta"), "config.calibrators"),
        ("splits", 0, "config.splits is 0"),
        ("alpha", 1.0, "config.alpha is 1.0"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("evaluation:calibration", key, value, message)


def test_end_to_end(run_study):
    done = run_study("evaluation:calibration")
    assert done.figures == ["coverage", "reliability", "risk", "scores"]
    verdicts = list(done.verdicts.values())
    assert [len(v.ours) for v in verdicts] == [2] * 4
    assert all(v.ours[0] < 0.1 for v in verdicts[2:])  # coverage of two splits
