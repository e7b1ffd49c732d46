import numpy as np
import pytest

from configs import features
from experiments.common import studies
from experiments.features import lazy_rich
from logitlab.train.results import ArmResult


def test_a_delay_is_counted_between_first_fits():
    rows = [
        {"arm": "a", "seed": seed, "step": step, "train/error": a, "test/error": b}
        for seed, curve in enumerate(
            [[(1, 1), (0.04, 1), (0.01, 0.01)], [(1, 1), (1, 1), (0.01, 1)]]
        )
        for step, (a, b) in zip((0, 10, 100), curve, strict=True)
    ]
    got = lazy_rich.delays(ArmResult("a", (0, 1), rows), 1000)
    np.testing.assert_array_equal(got, [90, 900])  # the second never generalizes


def test_the_network_is_the_papers():
    """The mean of h + h² / 8, times the scale; its loss is over the scale squared."""
    config = features.get_config("lazy_rich-smoke")
    run = studies.build(config).arms["alpha_16"]
    rng = np.random.default_rng(0)
    w, x, y = rng.normal(size=(8, 4)), rng.normal(size=(5, 4)), rng.normal(size=5)
    h = x @ w.T / 2
    want = (16 * (h + 0.25 / 2 * h**2).mean(1) - y) ** 2 / 256
    batch = {"x": x.astype("f4"), "y": y.astype("f4")}
    got = run.loss(w.astype("f4"), batch, None)
    np.testing.assert_allclose(got, want, rtol=1e-4)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("alphas", (1.0,), "config.alphas is"),
        ("alphas", (2.0, 1.0), "config.alphas is"),
        ("alphas", (0.0, 1.0), "config.alphas is"),
        ("task", "text", "config.task is 'text'"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("features:lazy_rich", key, value, message)


def test_end_to_end(run_study):
    done = run_study("features:lazy_rich")
    assert done.figures == ["alignment", "curves"]
    for arm in done.results.values():
        assert (arm.final("train/error") < arm["train/error"][0]).all()
        assert ((arm["features"] > 0) & (arm["features"] < 1)).all()


def test_images_end_to_end(run_study):
    done = run_study("features:lazy_rich_mnist1d")
    for arm in done.results.values():
        np.testing.assert_allclose(arm["test/accuracy"][0], 0.1, atol=0.05)  # all 0
        assert arm.steps.tolist()[-1] == 4
