import functools

import jax
import numpy as np
from harness.interpreter import interpreted

from experiments.interpretability import explanations
from logitlab import metrics
from logitlab.metrics.explanations import METHODS


def test_fits_by_derivatives_are_those_of_each_method(x64):
    def f(z):
        return z[:, 0] * z[:, 1] + z[:, 2] ** 2

    x = np.array([1.0, 2.0, -1.0])
    for method in METHODS:
        settings = dict(method=method, key=jax.random.key(0), samples=30)
        fit = interpreted(functools.partial(explanations.best_fit, f, **settings))(x)
        found = interpreted(functools.partial(metrics.explain, f, **settings))(x)
        np.testing.assert_allclose(fit, found, rtol=1e-4, err_msg=method)


def test_units():
    x, slopes = np.array([2.0, 0.0]), np.array([3.0, 4.0])
    to = functools.partial(explanations.in_unit_of, x=x)
    np.testing.assert_array_equal(to("lime", slopes, "smoothgrad"), [6, 0])
    np.testing.assert_array_equal(to("smoothgrad", [6.0, 5.0] * x, "lime"), [6, 0])
    np.testing.assert_array_equal(to("c_lime", slopes, "smoothgrad"), slopes)
    assert set(explanations.WORDS) == set(METHODS)


def test_bad_configs_are_refused(refused):
    name = "interpretability:explanations"
    refused(name, "x64", False, "expected True: exact methods")
    refused(name, "growing", (60, 90, 100, 200), "more points than pixels")
    refused(name, "train", 0, "config.train is 0")
