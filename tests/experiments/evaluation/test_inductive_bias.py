import jax
import numpy as np
import pytest
from scipy import stats

from experiments.common import datasets
from experiments.evaluation import bits
from logitlab.estimators import ScaledNcx2


def test_networks_fit(x64):
    x, y = datasets.images()
    parts = datasets.divide(jax.random.key(0), x, jax.nn.one_hot(y, 10), 20)
    parts = parts._replace(test_x=parts.x, test_y=parts.y)
    keys = jax.random.split(jax.random.key(1), 2)
    fitted, errors = bits.network_errors(parts, keys, 1e-2, 16, 200)
    np.testing.assert_allclose(fitted, errors, rtol=1e-6)  # the same rows
    assert fitted.max() < 0.01
    assert fitted[0] != fitted[1]


def test_nats_are_of_the_law(x64):
    law = ScaledNcx2(*map(np.float64, (10, 5, 0.1, 0)), at_bound=np.bool_(False))
    want = -stats.ncx2(10, 5, scale=0.1).logcdf(0.5)
    np.testing.assert_allclose(bits.nats(law, 0.5), want, rtol=1e-8)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("dimensions", (2,), "config.dimensions is"),
        ("dimensions", (5, 2), "config.dimensions is"),
        ("multiples", (0.5, 2.0), "config.multiples is"),
        ("digits.train", 1700, "config.train is 1800"),
        ("samples", 1, "config.samples is 1"),
        ("digits.networks", 1, "config.digits.networks is 1"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("evaluation:bits", key, value, message)


def test_end_to_end(run_study):
    done = run_study("evaluation:bits", seeds=1)
    assert done.figures == ["digits", "dimension"]
    ahead = "a Gaussian process needs more bias for that error than networks"
    assert done.verdicts[ahead].verdict == "reproduced"
    network = done.results["network"]
    np.testing.assert_allclose(network.final("times/1"), np.log(2), atol=0.5)
