import jax
import numpy as np
import pytest

from experiments.preference import delta


def test_accuracy_is_a_share_of_the_circle():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40_000, 2))
    cosine = 0.6
    agree = (x[:, 0] > 0) == (x @ [cosine, np.sqrt(1 - cosine**2)] > 0)
    found = delta.accuracy_of(cosine)
    np.testing.assert_allclose(found, agree.mean(), atol=0.01)


@pytest.mark.usefixtures("x64")
def test_errors_are_orthogonal():
    cosines = np.array([0.6, 0.2, 0.7])
    truth, vectors = delta.draw(jax.random.key(0), 10, cosines)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-12)
    np.testing.assert_allclose(vectors @ truth, cosines, rtol=1e-12)
    beside = vectors - np.outer(cosines, truth)
    np.testing.assert_allclose(beside @ beside.T, np.diag(1 - cosines**2), atol=1e-12)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("features", 3, "config.features is 3, expected at least 4"),
        ("cases.wide", (0.6, 0.2, 1.0), "config.cases.wide is .* three cosines"),
        ("cases.wide", (0.6, 0.6, 0.7), "config.cases.wide is .* one is better"),
        ("samples", 0, "config.samples is 0, expected at least 1"),
    ],
)
def test_what_cannot_be_run_is_not_built(refused, key, value, message):
    refused("preference:delta", key, value, message)


@pytest.mark.slow
def test_end_to_end(run_study):
    done = run_study("preference:delta")
    assert done.figures == ["accuracy"]
    assert {v.verdict for v in done.verdicts.values()} == {"reproduced"}
    curve = done.results["preference"].arrays["wide_curve"]
    np.testing.assert_allclose(curve[:, 0], 1 - np.arccos(0.7) / np.pi)
