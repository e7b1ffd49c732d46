import numpy as np
import pytest

from experiments.classification import gru_svm
from logitlab.train import ArmResult


def result(**columns):
    rows = [
        {"arm": "a", "seed": str(i), "step": "0"}
        | {name: str(values[i]) for name, values in columns.items()}
        for i in range(2)
    ]
    return ArmResult("a", (0, 1), rows)


def test_rates_times_steps_are_the_published_ones():
    rates = [gru_svm.scaled_rate(name, 730) for name in ("svm", "softmax")]
    np.testing.assert_allclose(rates, [1e-3, 1e-4])


def test_the_rate_is_chosen_on_held_out_images():
    arm = result(**{
        "held/0.1": (0.9, 0.5), "test/0.1": (0.1, 0.2),
        "held/0.2": (0.8, 0.8), "test/0.2": (0.3, 0.4),
    })  # fmt: skip
    got = gru_svm.tuned({"svm": arm}, "svm", (0.1, 0.2))
    np.testing.assert_array_equal(got, [0.3, 0.4])


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("train", 1600, "config.train is 1600, config.held 300"),
        ("learning_rates", (0.0,), "config.learning_rates is"),
        ("steps", 0, "config.steps is 0"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("classification:gru_svm", key, value, message)
